#!/bin/sh
# Workers die: that costs the request in hand and nothing more.
. ./lib.sh

# How many requests to workers that recycle themselves; pledge.t has less time.
REQUESTS=${DEATH_REQUESTS:-5000}

summary() {
	sed -n 's/^answered \([0-9]*\) .*/\1/p' "$1"
}

for r in "" -r; do
	name=${r:-fixed}

	# An idle one, in each way.
	start $r -n 3 /bin/worker
	for sig in KILL SEGV; do
		w=$(workers | head -n 1)
		: >"$LOG"
		kill -$sig "$w"
		ok "$name: idle worker, SIG$sig: replaced" \
		    waitfor 15 new_pool 3 "$w"
		ok "$name: and the signal is logged" waitfor 10 logged \
		    "worker $w was killed by signal [0-9]+ \\("
		like "$(fetch '')" '^pid' "$name: the service goes on"
	done
	for status in 0 3; do
		: >"$LOG"
		w=$(fetch "exit=$status&exit=$status" >/dev/null 2>&1
		    waitfor 10 logged 'worker [0-9]+ exited' &&
		    sed -n 's/.*worker \([0-9]*\) exited.*/\1/p' "$LOG")
		ok "$name: exit $status in mid-request: replaced" \
		    waitfor 15 new_pool 3 "$w"
		ok "$name: and the status is logged" waitfor 10 logged \
		    "worker $w exited with status $status "
	done

	# The request in hand is cut off at once, the others are untouched.
	client -n 2 -c 2 -q slow=2000 >"$T/others" &
	others=$!
	is "$(fetch crash)" "cut off" \
	    "$name: a crash in mid-request is an end-of-file for its client"
	is "$(fetch half)" "cut off" "$name: also within the answer"
	wait $others
	is "$(summary "$T/others")" 2 "$name: the others are answered"

	# All at once.
	ok "$name: the pool is whole" waitfor 15 has_workers 3
	w=$(workers)
	kill -KILL $w
	ok "$name: all killed: replaced" waitfor 15 new_pool 3 $w
	like "$(fetch '')" '^pid' "$name: the service goes on"
	is "$(zombies "$PID")" "" "$name: all were reaped"
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
	lost=$(sed -n 's/.*refused \([0-9]*\) reset \([0-9]*\) cut \([0-9]*\) timeout \([0-9]*\) bad \([0-9]*\)/\1 \2 \3 \4 \5/p' "$T/load")
	diag "$name: $kills killed under load: $(head -n 1 "$T/load")"
	is "$(echo "$lost" | awk '{ print $1 + $4 + $5 }')" 0 \
	    "$name: none refused, none timed out, none bad"
	ok "$name: no more lost than workers were killed" \
	    test "$(echo "$lost" | awk '{ print $2 + $3 }')" -le "$kills"
	ok "$name: n again" waitfor 20 has_workers 4
	quit

	# Workers that recycle themselves.
	for k in 1 20; do
		start $r -n 4 -N 8 /bin/worker -x $k
		client -n "$REQUESTS" -c 8 -t 30000 -A 400 >"$T/load"
		if [ -n "$r" ] && [ -n "${NORESET:-}" ]; then
			# Who exits may have been handed a connection, which
			# nobody knows that it was not read: no more than that.
			diag "$(cat "$T/load")"
			like "$(head -n 1 "$T/load")" \
			    "^answered [0-9]+ refused 0 .* timeout 0 bad 0" \
			    "$name: exit 0 after every $k: none has to wait"
			ok "$name: exit 0 after every $k: one lost at each end" \
			    test $((($(summary "$T/load") + k) * (k + 1))) -ge \
			    $((REQUESTS * k))
		else
			is "$(head -n 1 "$T/load")" \
			    "answered $REQUESTS refused 0 reset 0 cut 0 timeout 0 bad 0" \
			    "$name: $REQUESTS requests, exit 0 after every $k: all answered"
		fi
		unlike "$(cat "$LOG")" "no new workers for now" \
		    "$name: that is no reason to wait"
		quit
	done
done

# Before its cookie; the answer was given, so nothing is lost.
start -r -n 2 -N 4 /bin/worker -y 3
is "$(client -n 300 -c 4 -t 30000 | head -n 1)" \
    "answered 300 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "exit 0 after the answer and before the cookie: all answered"
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
quit

# One that may have been read is not replayed.
start -r -n 1 -N 1 /bin/worker
client -q hang >"$T/hang" 2>&1 &
hang=$!
waitfor 10 logged 'has connection 1'
w=$(workers)
# It has been read when the worker has the connection: a fifth descriptor.
ok "the worker has it" waitfor 10 eval '[ "$(nfds '"$w"')" -ge 5 ]'
kill -KILL "$w"
wait $hang
is "$(cat "$T/hang")" "cut off" "a request in a dead worker's hands is cut"
like "$(fetch '')" '^pid' "and the pool goes on"
is "$(grep -c 'has connection' "$LOG")" 2 "the first was handed out once"
quit

# A program that cannot start any more: after a good start there are traffic and
# deaths as ever, but then it fails a trial.  The marker is in the jail.
cat >"$T/flaky.c" <<'END'
#include <unistd.h>
int
main(int argc, char *argv[])
{
	if (argc > 1 && access("/flag", F_OK) == 0)
		return 3;
	execv("/bin/worker", argv);
	return 4;
}
END
$CC -static -o "$JAIL/bin/flaky" "$T/flaky.c"
for r in "" -r; do
	name=${r:-fixed}
	start $r -n 2 /bin/flaky -g
	: >"$JAIL/flag"
	kill -KILL $(workers)
	# For ten seconds the trial of the start is proof enough, but for a storm.
	ok "$name: a program that is broken is known for it" waitfor 30 logged \
	    'no new workers for now: worker [0-9]+ of /bin/flaky exited with status 3, [0-9.]+ s after its start; next trial in 1600 ms$'
	is "$(sed -n 's/.*; next trial in \([0-9]*\) ms$/\1/p' "$LOG" |
	    head -n 5 | tr '\n' ' ')" "100 200 400 800 1600 " \
	    "$name: each time for twice as long"
	is "$(sed -n '/no new workers for now/,$p' "$LOG" |
	    grep -Ec 'worker [0-9]+ started$')" 0 \
	    "$name: only one process a time is tried"
	is "$(nworkers)" 0 "$name: and nobody in between"
	rm "$JAIL/flag"
	ok "$name: mended, the pool is whole" waitfor 20 has_workers 2
	ok "$name: which is told" logged \
	    'workers are started again: a trial passed$'
	like "$(fetch '')" '^pid' "$name: and serves"
	end_manager
done

# Three processes [protocol]: whoever of them dies, the worker is replaced.
for r in "" -r; do
	name="three processes${r:+ -r}"
	start $r -n 2 /bin/worker -3
	like "$(fetch '')" '^pid' "$name: serve"
	leader=$(workers | head -n 1)
	for who in "$leader" "$(children "$leader" | head -n 1)" ; do
		alive "$who" || continue
		kill -KILL "$who"
		ok "$name: one killed: replaced" waitfor 15 new_pool 2 "$leader"
		like "$(fetch '')" '^pid' "$name: serve on"
		leader=$(workers | head -n 1)
	done
	who=$(children "$(workers | head -n 1)" | tail -n 1)
	leader=$(workers | head -n 1)
	kill -KILL "$who"
	ok "$name: a sibling killed: replaced" waitfor 15 new_pool 2 "$leader"
	client -O early -n 5 -q body=3000000 >/dev/null 2>&1
	like "$(fetch '')" '^pid' "$name: clients that hang up early"
	ok "$name: two workers" waitfor 15 has_workers 2
	quit
	is "$?" 0 "$name: status"
	ok "$name: none of the processes is left" waitfor 10 no_strays
	end_manager
done

done_testing
