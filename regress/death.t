#!/bin/sh
# Workers die: that costs the request in hand and nothing more.  Also run by
# noreset.  In which order they may die, and how many at once, is sim.t's.
. ./lib.sh

# Only Linux tells the manager that a message was never read.
[ "$(uname -s)" = Linux ] || NORESET=1

for r in "" -r; do
	name=${r:-fixed}
	start $r -n 3 /bin/worker
	w=$(workers)
	kill -SEGV $w
	ok "$name: all killed: replaced" waitfor 20 new_pool 3 $w
	ok "$name: all killed: logged" waitfor 20 logged \
	    'worker [0-9]+ was killed by signal 11 \(' 3
	like "$(fetch '')" '^pid' "$name: all killed: the service goes on"
	for status in 0 3; do
		is "$(fetch exit=$status)" "cut off" \
		    "$name: exit $status in mid-request ends that"
		ok "$name: exit $status: the status is logged" waitfor 20 \
		    logged "worker [0-9]+ exited with status $status "
	done

	# The request in hand is cut off at once, the others are untouched.
	client -o -n 2 -c 2 -q slow=2000 >"$T/others" &
	others=$!
	is "$(fetch crash)" "cut off" \
	    "$name: a crash in mid-request is an end-of-file for its client"
	is "$(fetch half)" "cut off" "$name: also within the answer"
	wait $others
	is "$(cat "$T/others")" "$(all 2)" "$name: the others are answered"
	ok "$name: three workers again" waitfor 20 has_workers 3
	ok "$name: all were reaped" waitfor 20 no_zombies
	quit
	is "$? $(strays)" "0 " "$name: status 0, nobody left"

	# Workers that recycle themselves.
	start $r -n 4 -N 8 /bin/worker -x 1
	client -n 500 -c 8 -t 30000 -A 200 >"$T/load"
	if [ -n "$r" ] && [ -n "${NORESET:-}" ]; then
		# Who exits may have been handed a connection, which nobody
		# knows that it was not read: no more than that.
		like "$(head -n 1 "$T/load")" \
		    "^answered [0-9]+ refused 0 .* timeout 0 bad 0" \
		    "$name: exit 0 after each request: none has to wait"
		ok "$name: exit 0 after each request: one lost at each" \
		    test $(($(answers "$T/load") * 2 + 2)) -ge 500
	else
		is "$(head -n 1 "$T/load")" "$(all 500)" \
		    "$name: exit 0 after each request: all are answered"
	fi
	unlike "$(cat "$LOG")" "no new workers for now" \
	    "$name: exit 0 after each request: no reason to wait"
	quit
done

# Before its cookie; the answer was given, so nothing is lost.
start -r -n 2 -N 4 /bin/worker -y 3
served 100 "exit 0 after the answer and before the cookie" -c 4 -t 30000
quit

# A connection whose worker died before reading it goes to another.
start -r -n 1 -N 1 /bin/worker
w=$(workers)
freeze "$w"
client -q '' -t 30000 >"$T/moved" 2>&1 &
moved=$!
ok "handed to a stopped worker" waitfor 20 logged "worker $w has connection 1"
kill -KILL "$w"
wait $moved
if [ -n "${NORESET:-}" ]; then
	like "$(cat "$T/moved")" '^(cut off|reset)$' \
	    "which is killed, and may have read it: it is closed"
	like "$(fetch '')" '^pid' "and the pool goes on"
else
	like "$(cat "$T/moved")" '^pid' "which is killed: another answers"
	unlike "$(cat "$T/moved")" "^pid $w " "indeed another"
	ok "it was handed out twice" waitfor 20 logged 'has connection' 2
fi

# One that may have been read is not replayed.
n=$(grep -c 'has connection' "$LOG")
client -q hang >"$T/hang" 2>&1 &
hang=$!
ok "a worker has read a request" waitfor 20 in_hand
kill -KILL "$busy"
wait $hang
is "$(cat "$T/hang")" "cut off" "a request in a dead worker's hands is cut"
like "$(fetch '')" '^pid' "and the pool goes on"
waitfor 20 logged 'has connection' $((n + 2))
is "$(grep -c 'has connection' "$LOG")" $((n + 2)) "it was handed out once"
quit

# It is cut off at once even if a process that is no longer of the worker's
# group has a copy of the connection.
cat >"$T/copy.c" <<'END'
#define main hello	/* it has take() */
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
		kill(getppid(), SIGABRT);
	}
	return pause();
}
END
$CC -static -I "$REGRESS" -o "$JAIL/bin/copy" "$T/copy.c" || exit 1
start -r -n 1 -N 1 /bin/copy
like "$(client -q '' -t 50000 2>&1)" '^(cut off|reset)$' \
    "a crash, while another process has the connection: its client is cut off"
ok "that process lives, beside manager and worker" waitfor 20 eval '
    [ "$(strays | grep -c .)" -eq 3 ]'
quit
kill -KILL $(strays) 2>/dev/null

# Three processes, as kcgi(3) programs are: whoever of them dies, the worker is
# replaced.
for r in "" -r; do
	name="three processes${r:+ -r}"
	start $r -n 2 /bin/worker -3
	for nth in 1 2; do
		leader=$(workers | head -n 1)
		kill -KILL "$(children "$leader" | sed -n ${nth}p)"
		ok "$name: child $nth killed: replaced" \
		    waitfor 20 new_pool 2 "$leader"
		like "$(fetch '')" '^pid' "$name: child $nth killed: serve on"
	done
	quit
	is "$?" 0 "$name: status"
	ok "$name: none of the processes is left" waitfor 20 no_strays
done

# A worker that recycles itself may leave a process to end a job; one that was
# let go, as the one on trial is, may not.
start -n 1 -p / "$(command -v perl)" -e 'alarm 100; $| = 1;
    if (fork) { sleep 2 } else { print "job $$\n"; sleep 90 }'
waitfor 20 logged 'worker [0-9]+ exited with status 0 after'
set -- $(sed -n 's/^job //p' "$LOG")
also_kill "$@"
ok "what a worker on trial leaves is ended" waitfor 20 dead "$1"
ok "what one that recycles itself leaves is not" alive "$2"
quit

done_testing
