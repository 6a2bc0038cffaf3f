#!/bin/sh
# The variable pool: connections handed out, growth and release.
. ./lib.sh

all_answered="answered 500 refused 0 reset 0 cut 0 timeout 0 bad 0"

ok "start" start -r -n 2 -N 8 -w 1 /bin/worker
is "$(nworkers)" 2 "two workers at start"
is "$(client -n 500 -c 1 | head -n 1)" "$all_answered" \
    "500 requests, one after another"
is "$(client -n 500 -c 16 | head -n 1)" "$all_answered" \
    "500 requests at concurrency 16"
is "$(client -q echo -b 5000000 -A 60 | grep -c '^stdin 5000000 ')" 1 \
    "a request of 5 MB"
is "$(client -q body=5000000 -L 5000000 -n 2 | head -n 1)" \
    "answered 2 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "an answer of 5 MB"
ok "the pool shrinks to n" waitfor 10 has_workers 2

# Growth under a burst, to N and not beyond; the rest waits.
quit
start -r -n 2 -N 8 -w 1 /bin/worker
client -n 20 -c 20 -q slow=1500 >"$T/burst" &
burst=$!
ok "grows to N" waitfor 10 has_workers 8
ok "says that it is saturated" waitfor 10 logged 'all 8 workers are busy'
is "$(grep -c 'worker .* has connection' "$LOG")" 8 \
    "a connection each, the others wait in the backlog"
wait $burst
is "$(head -n 1 "$T/burst")" \
    "answered 20 refused 0 reset 0 cut 0 timeout 0 bad 0" "all are answered"
is "$(grep -c 'all 8 workers are busy' "$LOG")" 1 "one warning per episode"
ok "the pool shrinks to n" waitfor 10 has_workers 2
is "$(grep -c 'released after 1 s' "$LOG")" 6 "the surplus was released"

# Not for a moment: two clients at a time, each back before the cookie is.  A
# machine that is loaded may take more than that moment.
quit
start -r -n 4 -N 4 /bin/worker
two_at_a_time() {
	: >"$LOG"
	_answers=$(client -n 1000 -c 2 | head -n 1)
	! logged 'are busy and'
}
ok "two at a time, four workers: no saturation" tries 3 two_at_a_time
is "$_answers" "answered 1000 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "all are answered"
quit
start -r -n 2 -N 8 -w 1 /bin/worker

# Hand-out is last-idle-first: light load keeps to one worker.
: >"$LOG"
for i in 1 2 3 4 5; do
	fetch '' >>"$T/light"
	waitfor 10 logged 'is done with connection' $i
done
is "$(sed -n 's/^pid \([0-9]*\).*/\1/p' "$T/light" | sort -u | wc -l | tr -d ' ')" \
    1 "light load is served by one worker"
quit

# -w 0 releases at once; a busy worker is never released.
start -r -n 1 -N 4 -w 0 /bin/worker
client -n 3 -c 3 -q slow=3000 >"$T/burst" &
burst=$!
waitfor 10 has_workers 3
is "$(client -q '' | grep -c '^pid')" 1 "a fourth is started and answers"
wait $burst
is "$(head -n 1 "$T/burst")" \
    "answered 3 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "while the others are busy"
ok "n are left" waitfor 10 has_workers 1
fourth=$(sed -n 's/.*worker \([0-9]*\) has connection 4$/\1/p' "$LOG")
is "$(sed -n 's/.*worker \([0-9]*\) released.*/\1/p' "$LOG" | head -n 1)" \
    "$fourth" "the fourth was released first"
is "$(awk '/ released / { exit } / is done with / { n++ } END { print n }' \
    "$LOG")" 1 "at once: no other was done"
quit

# -r with N == n is still the extension protocol.
start -r -n 2 -N 2 /bin/worker
like "$(fetch report)" "^proto ext" "-r with N == n"
quit

# The connection stays open in the manager until the answer: so nobody
# sees end-of-file before the cookie.
start -r -n 1 -N 1 /bin/worker
n=$(nsockets "$PID")	# listener, control socket, perhaps the C library's of the log
client -q cookie=late:60000 >"$T/late" &
late=$!
ok "answered" waitfor 10 grep -q '^pid' "$T/late"
wait $late
is "$(nsockets "$PID")" $((n + 1)) "and the manager has the connection"
quit_now

# No idle wake-up, in either pool [K].
for r in "" "-r -w 0"; do
	start $r -n 2 /bin/worker
	client -n 20 -c 2 >/dev/null
	waitfor 10 has_workers 2
	# Asleep for good: ppoll(2) without a timeout.
	sleeping() {
		strace -o "$T/sleep" -p "$PID" -e trace=ppoll,pselect6 \
		    2>"$T/strace" &
		_s=$!
		also_kill $_s
		waitfor 10 grep -q attached "$T/strace"
		sleep 0.1	# in which it does nothing
		kill -INT $_s
		wait $_s 2>/dev/null
		[ "$(grep -Ec 'ppoll|pselect6' "$T/sleep")" -eq 1 ] &&
		    grep -Eq 'NULL, (\{sigmask=)?~?\[' "$T/sleep"
	}
	if have strace; then
		ok "sleeps without a timeout ${r:-(fixed)}" waitfor 10 sleeping
	else
		skip "no strace(1)" "sleeps without a timeout ${r:-(fixed)}"
	fi
	quit
done

done_testing
