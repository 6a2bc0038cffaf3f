#!/bin/sh
# What traffic does to the pool: requests that kill, workers that recycle
# themselves or hang together with their clients, and programs that stop working
# after a good start.  Independent pools run side by side.
. ./lib.sh

[ -d /proc/self/fd ] || skip_all "needs /proc"

# run name options... prog...: in the background; socket, log, pid and status
# are $T/name.s, .l, .p and .r.  $JAIL is its jail.
run() {
	_name=$1
	shift
	(
		"$KFCGI" -d -p "$JAIL" -s "$T/$_name.s" -U "$WHO" "$@" \
		    </dev/null >"$T/$_name.l" 2>&1 &
		echo $! >"$T/$_name.p"
		wait $!
		echo $? >"$T/$_name.r"
	) &
}

# use name: the functions of lib.sh are about that one
use() {
	SOCK=$T/$1.s
	LOG=$T/$1.l
	waitfor 10 test -s "$T/$1.p"
	PID=$(cat "$T/$1.p")
	case " $KILL " in
	*" $PID "*)	;;
	*)		also_kill "$PID" ;;
	esac
}

up() {
	use "$1"
	waitfor 30 logged '^kfcgi: started:' || diag "$1: $(cat "$LOG")"
}

# ends name: with status 0
ends() {
	use "$1"
	kill -TERM "$PID" 2>/dev/null
	kill -INT "$PID" 2>/dev/null
	waitfor 20 test -s "$T/$1.r" || return 1
	PID=
	return "$(cat "$T/$1.r")"
}

# crowd name options...: clients of that pool, in the background; what
# became of them is in $T/name.c, their pid in $CROWD
crowd() {
	_name=$1
	shift
	"$REGRESS/client" -s "$T/$_name.s" -t 30000 -A 100 "$@" \
	    >"$T/$_name.c" 2>&1 &
	CROWD=$!
}

answers() {
	sed -n 's/^answered \([0-9]*\) .*/\1/p' "$T/$1.c"
}

failures() {
	sed -n 's/^answered [0-9]* refused \([0-9]*\) reset \([0-9]*\) cut \([0-9]*\) timeout \([0-9]*\) bad \([0-9]*\)/\1 \2 \3 \4 \5/p' \
	    "$T/$1.c" | awk '{ print $1 + $2 + $3 + $4 + $5 }'
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

# status: the line, asked for anew
status() {
	_n=$(grep -c '^kfcgi: status:' "$LOG")
	kill -USR1 "$PID"
	waitfor 5 logged '^kfcgi: status:' $((_n + 1))
	grep '^kfcgi: status:' "$LOG" | tail -n 1
}

# The manager's and its children's CPU time, in milliseconds.
cpu() {
	sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" \
	    '{ print int(($12 + $13 + $14 + $15) * 1000 / hz) }'
}

# --- To go on beside the rest: requests that kill for more than ten seconds,
# in small numbers, and as many that end their worker with status 0.
run dying -n 2 /bin/worker
run ending -n 2 /bin/worker
up dying
at_rate 0.25 56 -s "$SOCK" -q crash &
DYING=$!
also_kill $DYING
up ending
at_rate 0.25 56 -s "$SOCK" -q exit=0 &
ENDING=$!
also_kill $ENDING

# --- Starts and reloads that meet traffic, of workers that do not live long.
KINDS="x1 x10 x50 crash"
for i in $(seq 99); do
	echo slow=10
done >"$T/queries"
echo crash >>"$T/queries"
for r in '' -r; do
	for kind in $KINDS; do
		case $kind in
		x*)	q="-q slow=10" w="-x ${kind#x}" ;;
		*)	q="-Q $T/queries -R 7" w= ;;
		esac
		crowd "$kind$r" -d 9 -c 3 -r $q
		also_kill $CROWD
		eval "crowd_$kind${r#-}=\$CROWD"
		run "$kind$r" $r -n 4 -l 512 /bin/worker -g $w
	done
done
for r in '' -r; do
	for kind in $KINDS; do
		ok "${r:-fixed}, $kind: starts under traffic" up "$kind$r"
	done
done
for i in 1 2 3; do
	for r in '' -r; do
		for kind in $KINDS; do
			use "$kind$r"
			kill -HUP "$PID"
		done
	done
	for r in '' -r; do
		for kind in $KINDS; do
			use "$kind$r"
			ok "${r:-fixed}, $kind: reloads under traffic, $i" \
			    waitfor 20 logged '^kfcgi: reloaded: 4 new' $i
		done
	done
done
for r in '' -r; do
	for kind in $KINDS; do
		use "$kind$r"
		eval "wait \$crowd_$kind${r#-}"
		unlike "$(cat "$LOG")" 'reload failed|no new workers' \
		    "${r:-fixed}, $kind: nothing else was said of the program"
		diag "$kind$r: $(head -n 1 "$T/$kind$r.c")"
		ok "${r:-fixed}, $kind: requests were answered" \
		    test "$(answers "$kind$r")" -gt 100
		lost=0
		[ $kind = crash ] && lost=$(status |
		    sed -n 's/.* \([0-9]*\) deaths*, .*/\1/p')
		is "$(failures "$kind$r")" "$lost" \
		    "${r:-fixed}, $kind: none failed but those that killed"
	done
done
for r in '' -r; do
	for kind in $KINDS; do
		ok "${r:-fixed}, $kind: status" ends "$kind$r"
	done
done

# --- A request that kills its worker costs the others the time of restarts.
run kills -n 4 -l 128 /bin/worker
run kills-r -r -n 4 -N 4 -l 128 /bin/worker
up kills
up kills-r
# phase name pause count: for four seconds; answers go to $T/name.pool.n
phase() {
	crowds=
	for r in '' -r; do
		crowd kills$r -d 4 -c 4 -q slow=5
		crowds="$crowds $CROWD"
		[ -z "$2" ] || {
			at_rate "$2" "$3" -s "$T/kills$r.s" -q crash -t 20000 &
			crowds="$crowds $!"
		}
	done
	wait $crowds
	for r in '' -r; do
		answers kills$r >"$T/$1$r.n"
		is "$(failures kills$r)" 0 "${r:-fixed}: $1: none failed"
	done
}
phase before ''
phase four 0.25 16
phase twentyfive 0.04 100
waitfor 10 eval '! processes args | grep -q "^$REGRESS/client -s $T/kills.* -q crash"'
sleep 1		# "a second after"
phase after ''
for r in '' -r; do
	pool=${r:-fixed}
	for p in before four twentyfive after; do
		read -r n <"$T/$p$r.n"
		eval "$p=\${n:-0}"
	done
	diag "$pool: $before before, $four, $twentyfive during, $after after"
	ok "$pool: crashes at 4/s: half of the answers and more" \
	    test $((four * 2)) -ge "$before"
	ok "$pool: crashes at 25/s: a quarter and more" \
	    test $((twentyfive * 4)) -ge "$before"
	# All, but for the machine, which others use as well.
	ok "$pool: a second after: all" test $((after * 4)) -ge $((before * 3))
	use kills$r
	unlike "$(cat "$LOG")" 'no new workers' "$pool: nobody had to wait"
	ok "$pool: crashes: status" ends kills$r
done

# --- Clients that hang up on workers of three processes, which end of that:
# both pools serve the others alike.
run hangs -n 3 -l 64 /bin/worker -3
run hangs-r -r -n 3 -N 3 -l 64 /bin/worker -3
up hangs
up hangs-r
crowds=
for r in '' -r; do
	crowd hangs$r -d 4 -c 6 -q slow=10
	crowds="$crowds $CROWD"
	at_rate 0.07 50 -s "$T/hangs$r.s" -O early -q body=2000000 &
	crowds="$crowds $!"
done
wait $crowds
diag "fixed: $(head -n 1 "$T/hangs.c")"
diag "-r: $(head -n 1 "$T/hangs-r.c")"
is "$(failures hangs) $(failures hangs-r)" "0 0" \
    "clients that hang up cost no other its answer"
# Nine tenths are asked of "make bench"; here others use the machine, too.
ok "nor a fixed pool its speed" \
    test $(($(answers hangs) * 2)) -ge "$(answers hangs-r)"
ok "status" ends hangs
ok "status" ends hangs-r

# --- A pool follows its load: c clients at a time are no reason for many more
# workers than c.
LOADS="2:1 2:2 8:2 16:2 60:2"
for load in $LOADS; do
	run "c${load%:*}n${load#*:}" -r -n "${load#*:}" -N 100 -l 128 /bin/worker
	run "l${load%:*}n${load#*:}" -r -n "${load#*:}" -N 100 -l 128 /bin/worker
done
for load in $LOADS; do
	c=${load%:*}
	name=c${c}n${load#*:}
	up "$name"
	crowd "$name" -n 1000 -c "$c"
	wait $CROWD
	n=$(nworkers)
	most=$((c + c / 4))
	ok "$c clients, short requests, -n ${load#*:}: $n workers, at most $most" \
	    test "$n" -le $most
	is "$(failures "$name")" 0 "$c clients, short requests: none failed"
	ok "status" ends "$name"
done
crowds=
for load in $LOADS; do
	c=${load%:*}
	name=l${c}n${load#*:}
	up "$name"
	crowd "$name" -n $((c * 10)) -c "$c" -q slow=100
	crowds="$crowds $CROWD"
done
wait $crowds
for load in $LOADS; do
	c=${load%:*}
	name=l${c}n${load#*:}
	use "$name"
	n=$(nworkers)
	most=$((c + c / 4))
	ok "$c clients, long requests, -n ${load#*:}: $n workers, at most $most" \
	    test "$n" -le $most
	ok "$c clients, long requests: nor much fewer" \
	    test $((n * 2)) -ge "$c"
	is "$(failures "$name")" 0 "$c clients, long requests: none failed"
	ok "status" ends "$name"
done

# --- Programs that stop working after a good start: no storm, and whole again
# when they are mended.
for bad in E0 SSEGV E3; do
	printf '#!/bin/worker -%s\n' $bad >"$T/bad.$bad"
	chmod 755 "$T/bad.$bad"
done
for r in '' -r; do
	names=
	for n in 2 50; do
		for bad in E0 SSEGV E3 gone; do
			name=$bad.$n$r
			names="$names $name"
			mkdir -p "$T/j.$name/bin"
			ln "$T/jail/bin/worker" "$T/j.$name/bin/worker"
			ln "$T/jail/bin/worker" "$T/j.$name/bin/prog"
			JAIL=$T/j.$name run "$name" $r -n $n -N $n /bin/prog
			JAIL=$T/jail
		done
	done
	for name in $names; do
		up "$name"
	done
	for name in $names; do
		use "$name"
		bad=${name%%.*}
		if [ $bad = gone ]; then
			rm "$T/j.$name/bin/prog"
		else
			cp "$T/bad.$bad" "$T/j.$name/bin/new"
			mv "$T/j.$name/bin/new" "$T/j.$name/bin/prog"
		fi
		cpu "$PID" >"$T/$name.cpu"
		wc -l <"$LOG" >"$T/$name.lines"
		kill -KILL $(workers)
	done
	sleep 6		# the time that is measured
	for name in $names; do
		use "$name"
		read -r before <"$T/$name.cpu"
		used=$(($(cpu "$PID") - before))
		ok "$name: breaks: at most a sixth of a processor: $used ms of 6 s" \
		    test $used -le 1000
		read -r before <"$T/$name.lines"
		lines=$(($(wc -l <"$LOG") - before))
		ok "$name: breaks: at most ten lines a second: $lines in 6 s" \
		    test $lines -le 60
		ok "$name: breaks: it is known to be broken" \
		    waitfor 20 logged '^kfcgi: no new workers for now: '
		ok "$name: breaks: no more than one try at a time" \
		    test "$(nworkers)" -le 1
	done
	for name in $names; do
		rm -f "$T/j.$name/bin/prog"
		ln "$T/jail/bin/worker" "$T/j.$name/bin/prog"
	done
	for name in $names; do
		use "$name"
		n=${name#*.}
		n=${n%-r}
		ok "$name: mended: it is tried" \
		    waitfor 30 logged '^kfcgi: workers are started again: '
		ok "$name: mended: and the pool is whole" \
		    waitfor 5 has_workers "$n"
		like "$(fetch '')" '^pid' "$name: mended: and serves"
		ok "$name: status" ends "$name"
	done
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
ok "status" ends joined

# --- A crash ends the connection, though a child of the worker still has it.
cat >"$T/holds.c" <<'END'
#include <sys/socket.h>
#include <sys/uio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int
main(int argc, char *argv[])
{
	char		 buf[8], control[256];
	struct iovec	 iov = { buf, sizeof(buf) };
	struct msghdr	 msg;

	(void)argc;
	(void)argv;
	alarm(60);
	memset(&msg, 0, sizeof(msg));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control;
	msg.msg_controllen = sizeof(control);
	if (recvmsg(3, &msg, 0) <= 0)
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
    $CC -static -o "$JAIL/bin/holds" "$T/holds.c"
run holds -r -n 1 -N 1 /bin/holds
up holds
crowd holds -n 1 -c 1 -t 25000 -v
wait $CROWD
like "$(cat "$T/holds.c")" ' (cut|reset)' "crashes: its client is cut off"
time=$(sed -n 's/^time \([0-9]*\) .*/\1/p' "$T/holds.c")
ok "crashes: at once: after $time ms" test "${time:-99999}" -lt 5000
ok "status" ends holds
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
logged '^kfcgi: no new workers' && result 1 "and nobody waits" ||
    result 0 "and nobody waits"
use ending
unlike "$(cat "$LOG")" 'have been dying|no new workers' \
    "to end with status 0 is nothing to tell"
ok "status" ends dying
ok "status" ends ending

done_testing
