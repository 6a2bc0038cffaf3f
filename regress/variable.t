#!/bin/sh
# The variable pool: connections handed out, growth and release.
. ./lib.sh

ok "start" start -r -n 2 -N 8 -w 1 /bin/worker
is "$(nworkers)" 2 "two workers at start"
served 500 "500 requests, one after another"

# Hand-out is last-idle-first: light load keeps to one worker.
: >"$LOG"
for i in 1 2 3 4 5; do
	fetch '' >>"$T/light"
	waitfor 10 logged 'is done with connection' $i
done
is "$(sed -n 's/^pid \([0-9]*\).*/\1/p' "$T/light" | sort -u | wc -l |
    tr -d ' ')" 1 "light load is served by one worker"
served 500 "500 requests at concurrency 16" -c 16
is "$(client -q echo -b 5000000 -A 60 | grep -c '^stdin 5000000 ')" 1 \
    "a request of 5 MB"
is "$(fetch body=5000000 | wc -c | tr -d ' ')" 5000000 "an answer of 5 MB"
ok "the pool shrinks to n" waitfor 10 has_workers 2
quit

# N clients for N workers: nobody waits.
start -r -n 1 -N 2 /bin/worker
served 2 "as many clients as workers" -c 2 -q slow=500
fails "and no saturation" logged 'are busy and'
quit

# Growth under a burst, to N and not beyond; the rest waits.
start -r -n 2 -N 8 -w 1 /bin/worker
client -o -n 20 -c 20 -q slow=1500 >"$T/burst" &
burst=$!
ok "grows to N" waitfor 10 has_workers 8
ok "says that it is saturated" waitfor 10 logged 'all 8 workers are busy'
is "$(grep -c 'worker .* has connection' "$LOG")" 8 \
    "a connection each, the others wait in the backlog"
wait $burst
is "$(cat "$T/burst")" "$(all 20)" "all are answered"
is "$(grep -c 'all 8 workers are busy' "$LOG")" 1 "one warning per episode"
ok "the pool shrinks to n" waitfor 10 has_workers 2
is "$(grep -c 'released after 1 s' "$LOG")" 6 "the surplus was released"
quit

# Not for a moment: two clients at a time, each back before the cookie is.  A
# machine that is loaded may take more than that moment.
start -r -n 4 -N 4 /bin/worker
two_at_a_time() {
	: >"$LOG"
	_answers=$(client -o -n 1000 -c 2)
	! logged 'are busy and'
}
ok "two at a time, four workers: no saturation" tries 3 two_at_a_time
is "$_answers" "$(all 1000)" "all are answered"
quit

# -w 0 releases at once; a busy worker is never released.
start -r -n 1 -N 4 -w 0 /bin/worker
client -o -n 3 -c 3 -q slow=3000 >"$T/burst" &
burst=$!
waitfor 10 has_workers 3
is "$(client -q '' | grep -c '^pid')" 1 "a fourth is started and answers"
wait $burst
is "$(cat "$T/burst")" "$(all 3)" "while the others are busy"
ok "n are left" waitfor 10 has_workers 1
fourth=$(sed -n 's/.*worker \([0-9]*\) has connection 4$/\1/p' "$LOG")
is "$(sed -n 's/.*worker \([0-9]*\) released.*/\1/p' "$LOG" | head -n 1)" \
    "$fourth" "the fourth was released first"
is "$(awk '/ released / { exit } / is done with / { n++ } END { print n }' \
    "$LOG")" 1 "at once: no other was done"
quit

# -r with N == n is still the extension protocol.
start -r -n 1 -N 1 /bin/worker
like "$(fetch report)" "^proto ext" "-r with N == n"

# The connection stays open in the manager until the answer: so nobody
# sees end-of-file before the cookie.
waitfor 10 logged 'is done with connection 1$'
n=$(nsockets "$PID")
client -q cookie=late:60000 >"$T/late" &
late=$!
ok "answered" waitfor 10 grep -q '^pid' "$T/late"
wait $late
is "$(nsockets "$PID")" $((n + 1)) "and the manager has the connection"
quit_now
ok "the worker was done with one" logged 's, served 1$'

done_testing
