#!/bin/sh
# What traffic does to the pool: requests that kill, workers that recycle
# themselves, more clients than workers, and programs that stop working after a
# good start.  Independent pools run side by side.
. ./lib.sh

[ -d /proc/self/fd ] || skip_all "needs /proc"

# crowd name options...: clients of that pool, in the background; what
# became of them is in $T/name.c, their pid in $CROWD
crowd() {
	_name=$1
	shift
	"$REGRESS/client" -s "$T/$_name.s" -t 30000 -A 100 "$@" \
	    >"$T/$_name.c" 2>&1 &
	CROWD=$!
	also_kill $CROWD
}

# at_rate pause count options...: so many single clients, one every pause
at_rate() {
	_pause=$1
	_i=$2
	shift 2
	while [ $_i -gt 0 ]; do
		"$REGRESS/client" "$@" >/dev/null 2>&1 &
		_i=$((_i - 1))
		sleep "$_pause"
	done
}

# The manager's and its children's CPU time, in milliseconds.
cpu() {
	sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" \
	    '{ print int(($12 + $13 + $14 + $15) * 1000 / hz) }'
}

# --- However many requests kill, at most a hundred workers are started in a
# second to replace those that died young.
for r in '' '-r -N 99'; do
	start -n 4 $r /bin/worker
	client -d 4 -c 8 -q crash >/dev/null
	n=$(grep -c '^kfcgi: worker [0-9]* started$' "$LOG")
	ok "a storm${r:+, $r}: $n workers were started in four seconds" \
	    test "$n" -gt 40 -a "$n" -le 600
	quit
done

# --- To go on beside the rest: requests that kill for more than ten seconds,
# in small numbers, and as many that end their worker with status 0.
run dying -n 2 /bin/worker
run ending -n 2 /bin/worker
up dying
at_rate 0.25 56 -s "$SOCK" -q crash &
DYING=$!
up ending
at_rate 0.25 56 -s "$SOCK" -q exit=0 &
ENDING=$!
also_kill $DYING $ENDING

# --- Starts and reloads that meet traffic, of workers that do not live long.
{
	for i in $(seq 99); do
		echo slow=10
	done
	echo crash
} >"$T/queries"
KINDS="x1 x1-r x10 x10-r crash crash-r"
for kind in $KINDS; do
	case $kind in
	x*)	q="-q slow=10" w=${kind%-r} w="-x ${w#x}" ;;
	*)	q="-Q $T/queries -R 7" w= ;;
	esac
	case $kind in
	*-r)	r=-r ;;
	*)	r= ;;
	esac
	crowd $kind -d 9 -c 3 -r $q
	echo $CROWD >"$T/$kind.crowd"
	run $kind $r -n 4 -l 512 /bin/worker -g $w
done
for kind in $KINDS; do
	up $kind
done
for i in 1 2 3; do
	for kind in $KINDS; do
		use $kind
		kill -HUP "$PID"
	done
	for kind in $KINDS; do
		use $kind
		ok "$kind: reloads under traffic, $i" \
		    waitfor 20 logged '^kfcgi: reloaded: 4 new' $i
	done
done
for kind in $KINDS; do
	use $kind
	wait "$(cat "$T/$kind.crowd")"
	unlike "$(cat "$LOG")" 'reload failed|no new workers' \
	    "$kind: nothing else was said of the program"
	diag "$kind: $(head -n 1 "$T/$kind.c")"
	ok "$kind: requests were answered" test "$(answers "$T/$kind.c")" -gt 100
	ends $kind
	# Also of workers that were told to leave, so no deaths by SIGUSR1.
	is "$(losses "$T/$kind.c")" "$(awk '/ w[a-z]* killed by signal 11 / {
	    n += / more / ? $2 : 1 } END { print n + 0 }' "$LOG")" \
	    "$kind: none failed but those that killed"
done

# --- A request that kills its worker costs the others the time of restarts,
# whether that is by a signal or by an end with another status than 0.
run kills -n 4 -l 128 /bin/worker
run kills-r -r -n 4 -N 4 -l 128 /bin/worker
up kills
up kills-r
# phase name [query...]: for four seconds, with 12 of each a second; answers go
# to $T/name.pool
phase() {
	_phase=$1
	shift
	crowds=
	for pool in kills kills-r; do
		crowd $pool -d 4 -c 4 -q slow=5
		crowds="$crowds $CROWD"
		for q in "$@"; do
			at_rate 0.08 50 -s "$T/$pool.s" -q "$q" -t 20000 &
			crowds="$crowds $!"
		done
	done
	wait $crowds
	for pool in kills kills-r; do
		answers "$T/$pool.c" >"$T/$_phase.$pool"
		is "$(losses "$T/$pool.c")" 0 "$pool: $_phase: none failed"
	done
}
phase before
phase during crash exit=77
waitfor 10 eval '! processes args | grep -q "^$REGRESS/client -s $T/kills"'
sleep 1		# "a second after"
phase after
for pool in kills kills-r; do
	read -r before <"$T/before.$pool"
	read -r during <"$T/during.$pool"
	read -r after <"$T/after.$pool"
	diag "$pool: $before before, $during during, $after after"
	ok "$pool: 25 deaths a second: a quarter of the answers and more" \
	    test $((during * 4)) -ge "$before"
	# All of them, but others use the machine as well.
	ok "$pool: a second after: half and more" \
	    test $((after * 2)) -ge "$before"
	use $pool
	unlike "$(cat "$LOG")" 'no new workers' "$pool: nobody had to wait"
	ends $pool
done

# --- A pool follows its load: c clients at a time are no reason for many more
# workers than c, nor for much fewer if each request takes its time.
for load in 2:1 8:2 60:2; do
	c=${load%:*}
	for q in '' slow=100; do
		name=c$c$q requests=1000
		[ -z "$q" ] || requests=$((c * 10))
		run $name -r -n "${load#*:}" -N 100 -l 128 /bin/worker
		up $name
		served $requests "$name: all answered" -c $c -q "$q"
		n=$(nworkers)
		# One more may be met on a loaded machine.
		ok "$name: $n workers, not many more" \
		    test $n -le $((c + 1 + c / 4))
		[ -z "$q" ] || ok "$name: nor much fewer" test $((n * 2)) -ge $c
		ends $name
	done
done

# Also if at any moment some worker is about to be idle, because it takes its
# time after the answer.
run after -r -n 8 -N 100 -l 128 /bin/worker
up after
crowd after -d 9 -c 8 -q 'slow=5&cookie=late:5'
counts ' [0-9]{3,} handed out' "after: eight clients, out of step"
crowd after -d 9 -c 40 -q 'slow=5&cookie=late:5'
ok "after: forty more: it grows" waitfor 5 eval '[ "$(nworkers)" -ge 40 ]'
ends after

# --- Programs that stop working after a good start: no storm, and whole again
# when they are mended.
NAMES=
for kind in E0.50 E3.50 S11.50-r gone.2 gone.50-r; do
	bad=${kind%%.*}
	n=${kind#*.}
	case $n in
	*-r)	r=-r n=${n%-r} ;;
	*)	r= ;;
	esac
	printf '#!/bin/worker -%s\n' $bad >"$T/bad.$kind"
	chmod 755 "$T/bad.$kind"
	mkdir -p "$T/j.$kind/bin"
	ln "$T/jail/bin/worker" "$T/j.$kind/bin/worker"
	ln "$T/jail/bin/worker" "$T/j.$kind/bin/prog"
	JAIL=$T/j.$kind
	run $kind $r -n $n -N $n /bin/prog
	NAMES="$NAMES $kind"
done
JAIL=$T/jail
for name in $NAMES; do
	up $name
done
for name in $NAMES; do
	use $name
	rm "$T/j.$name/bin/prog"
	[ ${name%%.*} = gone ] || mv "$T/bad.$name" "$T/j.$name/bin/prog"
	cpu "$PID" >"$T/$name.cpu"
	wc -l <"$LOG" >"$T/$name.lines"
	kill -KILL $(workers)
done
sleep 6		# the time that is measured
for name in $NAMES; do
	use $name
	used=$(($(cpu "$PID") - $(cat "$T/$name.cpu")))
	ok "$name: breaks: at most a sixth of a processor: $used ms of 6 s" \
	    test $used -le 1000
	lines=$(($(wc -l <"$LOG") - $(cat "$T/$name.lines")))
	ok "$name: breaks: at most ten lines a second: $lines in 6 s" \
	    test $lines -le 60
	ok "$name: breaks: it is known to be broken" \
	    waitfor 20 logged '^kfcgi: no new workers for now: '
	ok "$name: breaks: no more than one try at a time" \
	    test "$(nworkers)" -le 1
	rm -f "$T/j.$name/bin/prog"
	ln "$T/jail/bin/worker" "$T/j.$name/bin/prog"
done
for name in $NAMES; do
	use $name
	n=${name#*.}
	ok "$name: mended: it is tried" \
	    waitfor 30 logged '^kfcgi: workers are started again: '
	ok "$name: mended: and the pool is whole" \
	    waitfor 5 has_workers "${n%-r}"
	like "$(fetch '')" '^pid' "$name: mended: and serves"
	ends $name
done

# --- Many deaths of a kind are one line.
run joined -n 20 /bin/worker
up joined
freeze "$PID"
w=$(workers)
kill -SEGV $(echo "$w" | head -n 18)
kill -ABRT $(echo "$w" | tail -n 2)
kill -CONT "$PID"
ok "20 deaths: replaced" waitfor 15 new_pool 20 $w
ok "20 deaths: those of a kind are joined" waitfor 5 logged \
    '^kfcgi: 17 more workers were killed by signal 11 \(.+\)$'
ok "20 deaths: also a single one" waitfor 5 logged \
    '^kfcgi: 1 more worker was killed by signal 6 \(.+\)$'
is "$(grep -Ec 'worker [0-9]+ was killed by signal (6|11) \(.+\) after ' \
    "$LOG")" 2 "20 deaths: the first of each is told whole"
is "$(status | sed 's/.*; //')" "0 handed out, 20 deaths, 20 restarts" \
    "20 deaths: all are counted, in a fixed pool, too"
ends joined

# --- A crash ends the connection, though a child of the worker still has it.
cat >"$T/holds.c" <<'END'
/* It has take() of hello.c. */
#define main hello
#include "hello.c"
#undef main
int
main(void)
{
	char	 cookie[8];

	alarm(60);
	if (take(3, cookie) == -1)
		return 0;
	if (fork() == 0) {
		setsid();
		sleep(30);
		_exit(0);
	}
	abort();
}
END
ok "a worker whose child keeps the connection" \
    $CC -static -I "$REGRESS" -o "$JAIL/bin/holds" "$T/holds.c"
run holds -r -n 1 -N 1 /bin/holds
up holds
crowd holds -n 1 -c 1 -t 25000 -v
wait $CROWD
like "$(cat "$T/holds.c")" ' (cut|reset)' "crashes: its client is cut off"
time=$(sed -n 's/^time \([0-9]*\) .*/\1/p' "$T/holds.c")
ok "crashes: at once: after $time ms" test "${time:-99999}" -lt 5000
ends holds
for w in $(strays); do
	case $(ps_of "$w" args) in
	/bin/holds*)	kill -KILL "$w" ;;
	esac
done

# --- Those that went on beside the rest.
wait $DYING $ENDING
use dying
is "$(grep -c '^kfcgi: workers have been dying within a second of their start for 10 s, though trials pass: a request may be what kills them$' "$LOG")" 1 \
    "requests that kill for more than ten seconds: told, once"
unlike "$(cat "$LOG")" 'no new workers' "and nobody waits"
use ending
unlike "$(cat "$LOG")" 'have been dying|no new workers' \
    "to end with status 0 is nothing to tell"
ends dying
ends ending

done_testing
