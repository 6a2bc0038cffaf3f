#!/bin/sh
# What a request costs the manager: nothing is timed here, see bench for
# that; system calls are counted, and pages.
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

# All system calls of the manager go to $T/trace until strace_off.
trace_on() {
	strace_on -ttt -o "$T/trace"
}

# only_sleeps pattern: asleep, in the call in which it was when we looked
only_sleeps() {
	[ "$(grep -c '(' "$T/trace")" -eq 1 ] &&
	    grep -Eq " ppoll\\(.*$1" "$T/trace"
}
FOREVER='NULL, ~\['

# idle pattern
idle() {
	trace_on
	sleep 2		# in which it does nothing
	strace_off
	only_sleeps "$1"
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
answers 30000 -c 256
# Has the warning, which then does not come again for 20 seconds: half of these
# wait for much longer than it takes.
answers 8 -c 8 -q slow=500
heap=$(status RssAnon)
# five_calls: and no others were made, unless the client had no time
five_calls() {
	trace_on
	answers $N -c 256
	strace_off
	awk -v first=100 -v last=$((N - 300)) '
	    / sendmsg\(/ { n++; if (n == last) exit }
	    n >= first' "$T/trace" >"$T/window"
	[ "$(sed -n 's/^[^ ]* \([a-z0-9_]*\)(.*/\1/p' "$T/window" | sort -u |
	    tr '\n' ' ')" = "accept4 close ppoll read sendmsg " ]
}
ok "five system calls" tries 3 five_calls
requests=$(grep -c ' sendmsg(' "$T/window")
calls=$(grep -c '(' "$T/window")
signal=$(grep -c ' ppoll(NULL, 0, ' "$T/window")
span=$(awk 'NR == 1 { t = $1 } END { printf "%d", ($1 - t) * 1000 }' \
    "$T/window")
is "$requests" $((N - 400)) "the window is as long as it should be"
ok "five or less per request, in the mean" \
    test $((calls - signal)) -le $((5 * requests + 8))
ok "one more per 10 ms, for signals" test "$signal" -le $((span / 9 + 1))
is "$(grep -Ec '(accept4|read|sendmsg)\(.* = -1' "$T/window")" 0 \
    "none of them in vain"
is "$(grep -Ec ' (brk|mmap|munmap|mremap|madvise)\(' "$T/trace")" 0 \
    "no memory is asked for"
answers 20000 -c 16
ok "and no more is used" test "$(status RssAnon)" -le "$heap"
ok "idle: no system call, and no timeout (-r)" tries 5 idle "$FOREVER"
quit

# Surplus workers, until they are released in five minutes.
start_daemon -r -n 2 -N 8 /bin/worker
answers 8 -c 8 -q slow=300
is "$(nworkers)" 8 "has left six surplus workers"
ok "idle: no system call (-r, with surplus workers)" \
    tries 5 idle 'tv_sec=2[0-9][0-9]'
quit

# --- The fixed pool: none at all, busy or idle.
start_daemon -n 4 -l 512 /bin/worker
answers 100 -c 16
ok "idle: no system call, and no timeout (fixed)" tries 5 idle "$FOREVER"
trace_on
answers $N -c 64
strace_off
ok "no system call" only_sleeps "$FOREVER"
quit

# --- The clock, which some systems are asked for by a system call: once in a
# turn of the loop, after ppoll(2), and not for each request or each worker.
cat >"$T/clock.c" <<'END'
#define _GNU_SOURCE
#include <sys/mman.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

static unsigned int *counts;	/* of the clock, of ppoll: in a file */

__attribute__((constructor)) static void
init(void)
{
	counts = mmap(NULL, 2 * sizeof(*counts), PROT_READ | PROT_WRITE,
	    MAP_SHARED, open(getenv("COUNTS"), O_RDWR), 0);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t,
	    struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");

	counts[0]++;
	return real(id, ts);
}

int
ppoll(struct pollfd *fds, nfds_t n, const struct timespec *ts,
    const sigset_t *mask)
{
	int (*real)(struct pollfd *, nfds_t, const struct timespec *,
	    const sigset_t *) = (int (*)(struct pollfd *, nfds_t,
	    const struct timespec *, const sigset_t *))dlsym(RTLD_NEXT, "ppoll");

	counts[1]++;
	return real(fds, n, ts, mask);
}
END
printf '\0\0\0\0\0\0\0\0' >"$T/counts"
ok "a library that counts" $CC -shared -fPIC -o "$T/clock.so" "$T/clock.c"
COUNTS=$T/counts LD_PRELOAD=$T/clock.so start_daemon -r -n 4 -N 4 /bin/worker
answers 2000 -c 16
counted=$(perl -e 'local $/; print join " ", unpack "L2", <>' "$T/counts")
diag "clock and ppoll: $counted"
ok "the clock is read" test "${counted% *}" -gt 10
# 2 for the start: a name for the socket's directory, and before the loop.
ok "and no more than once a turn" \
    test "${counted% *}" -le $((${counted#* } + 2))
quit

# --- Memory, at 100 workers.  Nearly all of it is the C library's text, which
# is shared with everybody else on the machine; what is ours alone is RssAnon,
# of that the heap is some 50 kB.
grep -aq __asan_init "$KFCGI" && done_testing
for r in "" -r; do
	start_daemon $r -n 100 /bin/worker
	answers 2000 -c 150 -t 60000
	diag "RssFile $(status RssFile) kB, RssAnon $(status RssAnon) kB"
	ok "100 workers, ${r:-fixed}: 2 MB or less are resident" \
	    test "$(status VmRSS)" -le 2048
	quit
done

done_testing
