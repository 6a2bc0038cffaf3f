#!/bin/sh
# Workers die, or cannot all live: that costs the request in hand and nothing
# more.  Also run by noreset.
. ./lib.sh

# How many requests to workers that recycle themselves; pledge.t has less time.
REQUESTS=${DEATH_REQUESTS:-5000}

for r in "" -r; do
	name=${r:-fixed}

	# An idle one, and all of them.
	start $r -n 3 /bin/worker
	for n in 1 3; do
		w=$(workers | head -n $n)
		: >"$LOG"
		kill -SEGV $w
		ok "$name: $n killed: replaced" waitfor 15 new_pool 3 $w
		ok "$name: $n killed: logged" waitfor 10 logged \
		    'worker [0-9]+ was killed by signal 11 \(' $n
		like "$(fetch '')" '^pid' "$name: $n killed: the service goes on"
	done
	for status in 0 3; do
		: >"$LOG"
		w=$(fetch "exit=$status&exit=$status" >/dev/null 2>&1
		    waitfor 10 logged 'worker [0-9]+ exited' &&
		    sed -n 's/.*worker \([0-9]*\) exited.*/\1/p' "$LOG")
		ok "$name: exit $status in mid-request: replaced" \
		    waitfor 15 new_pool 3 "$w"
		ok "$name: exit $status: the status is logged" waitfor 10 \
		    logged "worker $w exited with status $status "
	done

	# The request in hand is cut off at once, the others are untouched.
	client -o -n 2 -c 2 -q slow=2000 >"$T/others" &
	others=$!
	is "$(fetch crash)" "cut off" \
	    "$name: a crash in mid-request is an end-of-file for its client"
	is "$(fetch half)" "cut off" "$name: also within the answer"
	wait $others
	is "$(cat "$T/others")" "$(all 2)" "$name: the others are answered"
	ok "$name: all were reaped" waitfor 10 no_zombies
	quit
	is "$?" 0 "$name: status"
	is "$(strays)" "" "$name: nobody left"

	# One every 100 ms under load for ten seconds.  Requests of one
	# killed worker each may fail, and no other.
	start $r -n 4 -N 4 /bin/worker
	client -d 10 -c 8 -q slow=5 -t 30000 -A 100 >"$T/load" &
	load=$!
	kills=0
	while alive $load; do
		w=$(workers | head -n 1)
		if [ -n "$w" ] && kill -KILL "$w" 2>/dev/null; then
			kills=$((kills + 1))
		fi
		sleep 0.1
	done
	wait $load
	diag "$name: $kills killed under load: $(head -n 1 "$T/load")"
	like "$(head -n 1 "$T/load")" ' refused 0 .* timeout 0 bad 0$' \
	    "$name: none refused, none timed out, none bad"
	ok "$name: no more lost than workers were killed" \
	    test "$(losses "$T/load")" -le "$kills"
	ok "$name: n again" waitfor 20 has_workers 4
	quit

	# Workers that recycle themselves.
	for k in 1 20; do
		what="$name: exit 0 after every $k"
		start $r -n 4 -N 8 /bin/worker -x $k
		client -n "$REQUESTS" -c 8 -t 30000 -A 400 >"$T/load"
		if [ -n "$r" ] && [ -n "${NORESET:-}" ]; then
			# Who exits may have been handed a connection, which
			# nobody knows that it was not read: no more than that.
			diag "$(cat "$T/load")"
			like "$(head -n 1 "$T/load")" \
			    "^answered [0-9]+ refused 0 .* timeout 0 bad 0" \
			    "$what: none has to wait"
			ok "$what: one lost at each end" \
			    test $((($(answers "$T/load") + k) * (k + 1))) -ge \
			    $((REQUESTS * k))
		else
			is "$(head -n 1 "$T/load")" "$(all "$REQUESTS")" \
			    "$what: all answered"
		fi
		unlike "$(cat "$LOG")" "no new workers for now" \
		    "$what: that is no reason to wait"
		quit
	done
done

# Before its cookie; the answer was given, so nothing is lost.
start -r -n 2 -N 4 /bin/worker -y 3
served 300 "exit 0 after the answer and before the cookie" -c 4 -t 30000
quit

# A connection whose worker died before reading it goes to another.
start -r -n 1 -N 1 /bin/worker
w=$(workers)
freeze "$w"
client -q '' >"$T/moved" 2>&1 &
moved=$!
ok "handed to a stopped worker" waitfor 10 logged "worker $w has connection 1"
kill -KILL "$w"
wait $moved
if [ -n "${NORESET:-}" ]; then
	like "$(cat "$T/moved")" '^(cut off|reset)$' \
	    "which is killed, and may have read it: it is closed"
	like "$(fetch '')" '^pid' "and the pool goes on"
else
	like "$(cat "$T/moved")" '^pid' "which is killed: another answers"
	unlike "$(cat "$T/moved")" "^pid $w " "indeed another"
	is "$(grep -c 'has connection' "$LOG")" 2 "it was handed out twice"
fi

# One that may have been read is not replayed.
n=$(grep -c 'has connection' "$LOG")
client -q hang >"$T/hang" 2>&1 &
hang=$!
waitfor 10 logged 'has connection' $((n + 1))
w=$(workers)
# It has been read when the worker has the connection: a fifth descriptor.
ok "the worker has it" waitfor 10 eval '[ "$(nfds '"$w"')" -ge 5 ]'
kill -KILL "$w"
wait $hang
is "$(cat "$T/hang")" "cut off" "a request in a dead worker's hands is cut"
like "$(fetch '')" '^pid' "and the pool goes on"
is "$(grep -c 'has connection' "$LOG")" $((n + 2)) "it was handed out once"
quit

# Workers that cannot all live, as where the database allows four connections:
# the requests wait for those four.  This goes on beside the next.
mkdir "$JAIL/slots"
chmod 777 "$JAIL/slots"
cat >"$T/few.c" <<'END'
#include <sys/file.h>
#include <fcntl.h>
#include <unistd.h>
int
main(void)
{
	static char	*argv[] = { "/bin/worker", "-A", "200", NULL };
	char		 path[] = "/slots/0";
	int		 fd;

	for (; path[7] < '4'; path[7]++) {
		fd = open(path, O_RDWR | O_CREAT, 0666);
		if (fd == -1)
			return 2;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			execv(argv[0], argv);
			return 2;
		}
		close(fd);
	}
	return 1;
}
END
$CC -w -static -o "$JAIL/bin/few" "$T/few.c" || exit 1
run few -r -n 2 -N 10 -l 64 /bin/few
up few
client -d 14 -c 10 -q slow=20 -t 30000 >"$T/few" 2>&1 &
few=$!
SOCK=$T/sock LOG=$T/log

# A program that cannot start any more: after a good start there are traffic and
# deaths as ever, but then it fails a trial.  The marker is in the jail.
for r in "" -r; do
	name=${r:-fixed}
	start $r -n 2 /bin/worker -g -b 0
	: >"$JAIL/broken"
	kill -KILL $(workers)
	# For ten seconds the trial of the start is proof enough, but for a storm.
	ok "$name: a program that is broken is known for it" waitfor 30 logged \
	    'no new workers for now: worker [0-9]+ of /bin/worker exited with status 3, [0-9.]+ s after its start; next trial in 1600 ms$'
	ok "$name: after a storm of deaths, not before" test "$(sed \
	    '/no new workers/q' "$LOG" | grep -Ec 'worker [0-9]+ started$')" \
	    -ge 90
	is "$(sed -n 's/.*; next trial in \([0-9]*\) ms$/\1/p' "$LOG" |
	    head -n 5 | tr '\n' ' ')" "100 200 400 800 1600 " \
	    "$name: each time for twice as long"
	is "$(sed -n '/no new workers for now/,$p' "$LOG" |
	    grep -Ec 'worker [0-9]+ started$')" 0 \
	    "$name: only one process a time is tried"
	is "$(nworkers)" 0 "$name: and nobody in between"
	rm "$JAIL/broken"
	ok "$name: mended, the pool is whole" waitfor 20 has_workers 2
	ok "$name: which is told" logged \
	    'workers are started again: a trial passed$'
	like "$(fetch '')" '^pid' "$name: and serves"
	end_manager
done

wait $few
use few
diag "$(cat "$T/few")"
ok "four may live: they answer twice as many requests as one could" \
    test "$(answers "$T/few")" -gt 1400
if [ -n "${NORESET:-}" ]; then
	# Who dies may have read its connection.
	ok "four may live: few requests are lost" \
	    test "$(losses "$T/few")" -le $(($(answers "$T/few") / 20))
else
	is "$(losses "$T/few")" 0 "four may live: no request is lost"
fi
ok "four may live: it is known that no more can be started" \
    logged 'no new workers for now: .* exited with status 1'
served 200 "four may live: then all requests wait for them" \
    -c 10 -q slow=20 -t 30000
ok "four may live: four live" has_workers 4
ends few
SOCK=$T/sock LOG=$T/log

# Three processes, as kcgi(3) programs are: whoever of them dies, the worker is
# replaced.
for r in "" -r; do
	name="three processes${r:+ -r}"
	start $r -n 2 /bin/worker -3
	like "$(fetch '')" '^pid' "$name: serve"
	for nth in 1 2; do
		leader=$(workers | head -n 1)
		who=$(children "$leader" | sed -n ${nth}p)
		kill -KILL "$who"
		ok "$name: child $nth killed: replaced" \
		    waitfor 15 new_pool 2 "$leader"
		like "$(fetch '')" '^pid' "$name: child $nth killed: serve on"
	done
	client -O early -n 5 -q body=3000000 >/dev/null 2>&1
	like "$(fetch '')" '^pid' "$name: clients that hang up early"
	ok "$name: two workers" waitfor 15 has_workers 2
	quit
	is "$?" 0 "$name: status"
	ok "$name: none of the processes is left" waitfor 10 no_strays
	end_manager
done

# A worker that recycles itself may leave a process to end a job; one that was
# let go, as the one on trial is, may not.
start -n 1 -p / "$(command -v perl)" -e 'alarm 100; $| = 1;
    if (fork) { sleep 2 } else { print "job $$\n"; sleep 90 }'
waitfor 20 logged 'worker [0-9]+ exited with status 0 after'
set -- $(sed -n 's/^job //p' "$LOG")
also_kill "$@"
ok "what a worker on trial leaves is ended" waitfor 10 dead "$1"
ok "what one that recycles itself leaves is not" alive "$2"
quit

done_testing
