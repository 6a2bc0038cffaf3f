#!/bin/sh
# What a request costs the manager: nothing is timed here, see bench for that;
# system calls are counted, and pages.
. ./lib.sh

have strace || skip_all "strace(1) is missing"
[ -r /proc/self/smaps ] || skip_all "no /proc/PID/smaps"

# answers n options...: to as many requests
answers() {
	_n=$1
	shift
	is "$(client -n "$_n" "$@" | head -n 1)" "$(all "$_n")" \
	    "$_n requests, client $*"
}

# memory name: in kB
memory() {
	awk -v n="$1:" '$1 == n { print $2 }' "/proc/$PID/status"
}

# How often the manager has slept.
sleeps() {
	awk '/^voluntary_ctxt/ { print $2 }' "/proc/$PID/status"
}

# forever: it is in a call that waits without a timeout: the third argument of
# poll(2) is -1, or that of ppoll(2), by which some C libraries make it, is NULL
forever() {
	rests && awk '{ exit $4 !~ /^0x(0|ffffffff|ffffffffffffffff)$/ }' \
	    "/proc/$PID/syscall"
}

# undisturbed description command...: during which it goes on sleeping
undisturbed() {
	_what=$1
	shift
	_before=$(sleeps)
	"$@"
	is "$(sleeps)" "$_before" "$_what"
}

# --- The variable pool, saturated from the first request to the last but 256:
# that many wait in the backlog, so somebody always does.
#
# The window that is looked at begins and ends with a hand-out and leaves out
# how saturation begins (found out, and logged) and how it ends.  A request
# takes accept4, sendmsg, read and close, and a poll that it may share with
# others.  8 for the ends of the window: those that were answered inside and
# handed out outside, or the other way round.
N=3000
start_daemon -r -n 4 -N 4 -l 512 /bin/worker
answers 5000 -c 256 -t 60000
# Has the warning, which then does not come again for 20 seconds: half of these
# wait for much longer than it takes.
answers 8 -c 8 -q slow=500
heap=$(memory RssAnon)
# five_calls: and no others were made, unless the client had no time
five_calls() {
	strace_on -o "$T/trace"
	answers $N -c 256 -t 60000
	strace_off
	awk -v first=100 -v last=$((N - 300)) '
	    /^sendmsg\(/ { n++; if (n == last) exit }
	    n >= first' "$T/trace" >"$T/window"
	[ "$(sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$T/window" |
	    sed 's/^ppoll$/poll/' | sort -u | tr '\n' ' ')" = \
	    "accept4 close poll read sendmsg " ]
}
ok "five system calls" tries 3 five_calls
requests=$(grep -c '^sendmsg(' "$T/window")
calls=$(grep -c '(' "$T/window")
is "$requests" $((N - 400)) "the window is as long as it should be"
ok "five or less per request, in the mean: $calls" \
    test "$calls" -le $((5 * requests + 8))
is "$(grep -Ec '^(accept4|read|sendmsg)\(.* = -1' "$T/window")" 0 \
    "none of them in vain"
is "$(grep -Ec '^(brk|mmap|munmap|mremap|madvise)\(' "$T/trace")" 0 \
    "no memory is asked for"
answers 5000 -c 16
ok "and no more is used" test "$(memory RssAnon)" -le "$heap"
ok "idle: no timeout (-r)" waitfor 20 forever
undisturbed "idle: no system call (-r)" sleep 1
quit

# Surplus workers, until they are released in five minutes.
start_daemon -r -n 2 -N 8 /bin/worker
answers 8 -c 8 -q slow=300
is "$(nworkers)" 8 "has left six surplus workers"
ok "idle: no system call (-r, with surplus workers)" tries 5 eval '
    n=$(sleeps); sleep 1; [ "$(sleeps)" -eq "$n" ]'
quit

# --- The fixed pool: none at all, busy or idle.
start_daemon -n 4 -l 512 /bin/worker
ok "idle: no timeout (fixed)" waitfor 20 forever
undisturbed "no system call (fixed)" answers $N -c 64
quit

# --- Memory, at 100 workers.  Nearly all of it is the C library's text, which
# is shared with everybody else on the machine; what is ours alone is RssAnon,
# of that the heap is some 50 kB.
grep -aq __asan_init "$KFCGI" && done_testing
for r in "" -r; do
	start_daemon $r -n 100 /bin/worker
	answers 1000 -c 150 -t 60000
	diag "RssFile $(memory RssFile) kB, RssAnon $(memory RssAnon) kB"
	ok "100 workers, ${r:-fixed}: 2 MB or less are resident" \
	    test "$(memory VmRSS)" -le 2048
	quit
done

done_testing
