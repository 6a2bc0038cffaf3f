#!/bin/sh
# What a request costs the manager: nothing is timed here, see bench for
# that; system calls are counted, and pages.
. ./lib.sh

command -v strace >/dev/null || skip_all "strace(1) is missing"
[ -r /proc/self/smaps ] || skip_all "no /proc/PID/smaps"

answered() {
	echo "answered $1 refused 0 reset 0 cut 0 timeout 0 bad 0"
}

# trace_on, trace_off: all system calls of the manager go to $T/trace
trace_on() {
	strace -ttt -o "$T/trace" -p "$PID" 2>"$T/strace" &
	TRACER=$!
	also_kill $TRACER
	waitfor 20 grep -q attached "$T/strace"
}

trace_off() {
	kill -INT $TRACER
	wait $TRACER 2>/dev/null
}

# Asleep, and nothing but the call that it was in when we looked.
only_sleeps() {
	[ "$(grep -c '(' "$T/trace")" -eq 1 ] &&
	    grep -q ' ppoll(.* NULL, ~\[' "$T/trace"
}

idle() {
	trace_on
	sleep 2		# in which it does nothing
	trace_off
	only_sleeps
}

# status name: in kB
status() {
	awk -v n="$1:" '$1 == n { print $2 }' "/proc/$PID/status"
}

# --- The variable pool, saturated from the first request to the last but 256:
# that many wait in the backlog, so somebody always does.
#
# The window that is looked at begins and ends with a hand-out and leaves out
# how saturation begins (found out, and logged) and how it ends.  A request
# takes accept4, sendmsg, read and close, and a ppoll that it may share with
# others.  8 for the ends of the window: those that were answered inside and
# handed out outside, or the other way round.
#
# Not in it is ppoll(NULL, 0, 0): while descriptors are ready Linux delivers no
# signal, so there is one more call every 10 ms (strace makes 10 ms short).
N=3000
start_daemon -r -n 4 -N 4 -l 512 /bin/worker
is "$(client -n 30000 -c 256 | head -n 1)" "$(answered 30000)" "warmed up"
# Has the warning, which then does not come again for 20 seconds: half of these
# wait for much longer than it takes.
is "$(client -n 8 -c 8 -q slow=500 | head -n 1)" "$(answered 8)" "saturated"
heap=$(status RssAnon)
trace_on
is "$(client -n $N -c 256 | head -n 1)" "$(answered $N)" \
    "$N requests, 4 workers, 256 at once"
trace_off
awk -v first=100 -v last=$((N - 300)) '
    / sendmsg\(/ { n++; if (n == last) exit }
    n >= first' "$T/trace" >"$T/window"
requests=$(grep -c ' sendmsg(' "$T/window")
calls=$(grep -c '(' "$T/window")
signal=$(grep -c ' ppoll(NULL, 0, ' "$T/window")
kinds=$(sed -n 's/^[^ ]* \([a-z0-9_]*\)(.*/\1/p' "$T/window" | sort -u)
span=$(awk 'NR == 1 { t = $1 } END { printf "%d", ($1 - t) * 1000 }' "$T/window")
diag "$requests requests in $span ms: $calls calls," \
    "of these $signal to let signals in"
is "$requests" $((N - 400)) "the window is as long as it should be"
is "$(echo $kinds)" "accept4 close ppoll read sendmsg" "five system calls"
ok "five or less per request, in the mean" \
    test $((calls - signal)) -le $((5 * requests + 8))
ok "one more per 10 ms, for signals" test "$signal" -le $((span / 9 + 1))
is "$(grep -Ec '(accept4|read|sendmsg)\(.* = -1' "$T/window")" 0 \
    "none of them in vain"
is "$(grep -Ec ' (brk|mmap|munmap|mremap|madvise)\(' "$T/trace")" 0 \
    "no memory is asked for"
is "$(client -n 20000 -c 16 | head -n 1)" "$(answered 20000)" \
    "20000 more requests"
ok "and no more is used" test "$(status RssAnon)" -le "$heap"
ok "idle: no system call, and no timeout (-r)" waitfor 20 idle
quit

# Surplus workers that will be released in five minutes.
start_daemon -r -n 2 -N 8 /bin/worker
is "$(client -n 8 -c 8 -q slow=300 | head -n 1)" "$(answered 8)" "a burst"
is "$(nworkers)" 8 "has left six surplus workers"
idle_now() {
	idle || {
		# Until they are released there is a timeout, nothing else.
		[ "$(grep -c '(' "$T/trace")" -eq 1 ] &&
		    grep -Eq ' ppoll\(.*tv_sec=2[0-9][0-9]' "$T/trace"
	}
}
ok "idle: no system call (-r, with surplus workers)" waitfor 20 idle_now
quit

# --- The fixed pool: none at all, busy or idle.
start_daemon -n 4 -l 512 /bin/worker
client -n 100 -c 16 >"$T/out"
ok "idle: no system call, and no timeout (fixed)" waitfor 20 idle
trace_on
is "$(client -n $N -c 64 | head -n 1)" "$(answered $N)" \
    "$N requests in a fixed pool"
trace_off
ok "no system call" only_sleeps
quit

# --- Memory, at 100 workers.  Nearly all of it is the C library's text, which
# is shared with everybody else on the machine; what is ours alone is RssAnon,
# of that the heap is some 50 kB.
limit=2048
grep -aq __asan_init "$KFCGI" && limit=
for r in "" -r; do
	start_daemon $r -n 100 /bin/worker
	is "$(client -n 2000 -c 150 -t 60000 | head -n 1)" "$(answered 2000)" \
	    "100 workers ${r:-(fixed)}"
	diag "VmRSS $(status VmRSS) kB: RssFile $(status RssFile)," \
	    "RssAnon $(status RssAnon); most of it in"
	diag "$(awk '/^[0-9a-f]+-/ { n = $6 } /^Rss:/ { r[n] += $2 }
	    END { for (n in r) print r[n], "kB", n }' "/proc/$PID/smaps" |
	    sort -rn | head -n 3)"
	if [ -n "$limit" ]; then
		ok "2 MB or less are resident ${r:-(fixed)}" \
		    test "$(status VmRSS)" -le $limit
	fi
	quit
done

done_testing
