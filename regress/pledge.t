#!/bin/sh
# pledge(2), as far as strace(1) tells: what the manager calls after it is within
# "stdio proc exec unix", and "sendfd" with -r.  OpenBSD's kernel looks itself.
. ./lib.sh

have strace || skip_all "no strace(1)"

# In Linux's names: memory, time, descriptors that are open, processes and
# signals, sockets; and those of compat/'s syslog(3).
allowed='brk|mmap|munmap|mprotect|madvise|clock_gettime|gettimeofday|getpid'
allowed="$allowed|poll|ppoll|read|write|close|fcntl|pipe|pipe2|restart_syscall"
allowed="$allowed|clone|clone3|fork|vfork|wait4|kill|rt_sigprocmask"
allowed="$allowed|rt_sigreturn|exit_group|socketpair|accept|accept4|listen"
allowed="$allowed|shutdown|socket|connect|sendto|setsockopt|lseek|fstat"
allowed="$allowed|newfstatat"

for r in '' -r; do
	name=${r:-fixed}
	start $r -n 2 -N 4 -w 1 /bin/worker
	strace_on -qq -o "$T/trace"
	# All that it does: requests, growth and release, deaths, signals, a
	# reload that succeeds and one that fails, a stop.
	client -n 50 -c 4 -q slow=20 >/dev/null
	for q in crash exit=0 exit=3; do
		fetch $q >/dev/null
	done
	kill -HUP "$PID"
	ok "$name: reloads" waitfor 20 logged 'reloaded:'
	status >/dev/null
	mv "$JAIL/bin/worker" "$JAIL/bin/away"
	kill -HUP "$PID"
	ok "$name: a reload fails" waitfor 20 logged 'reload failed'
	mv "$JAIL/bin/away" "$JAIL/bin/worker"
	kill -TERM "$PID"
	waitfor 30 dead "$PID"
	wait "$PID"
	PID=
	wait $TRACER
	ok "$name: it was watched" grep -q '^clone\|^fork\|^vfork' "$T/trace"
	is "$(sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$T/trace" | sort -u |
	    grep -Evx "$allowed${r:+|sendmsg}")" "" \
	    "$name: calls nothing that its promises do not hold"
	is "$(grep '^socket(' "$T/trace" | grep -vc '^socket(AF_UNIX')" 0 \
	    "$name: no socket but UNIX's"
	is "$(grep AT_FDCWD "$T/trace")" "" "$name: nothing by its path"
done
done_testing
