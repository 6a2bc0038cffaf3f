#!/bin/sh
# System calls after the privilege drop [D7]: whether the promises given to
# OpenBSD's pledge(2) cover what the manager does, seen by strace(1) on Linux.
#
# The table below says what each call of Linux is on OpenBSD, and which promise
# that takes.  It was looked up in OpenBSD's sys/kern/kern_pledge.c, revision
# 1.206 (2017) and one after 7.4 (it has pinsyscalls); they agree on all of
# this.  What a call may do beyond that depends on its arguments, see there:
# pledge_kill, pledge_fcntl, pledge_sendit, pledge_sendfd, pledge_protexec,
# pledge_sockopt.  Those that matter are checked by the script below.  A call
# that is not in the table is a failure, hence any that takes a path or makes
# a socket.
#
# One exception: the C library's syslog(3).  On OpenBSD it is sendsyslog(2),
# which is always allowed.  On Linux it is a socket, which should be connected
# since before the jail; when that fails it tries again, in vain.  A socket(2)
# that a connect(2) to /dev/log follows, and what connect(2) to /dev/log and
# sendto(2) of a syslog message it sees until it is closed, are taken for
# sendsyslog(2); in the manager, not in the children.

. ./devlog.sh

[ "$(uname -s)" = Linux ] || skip_all "strace(1) is for Linux"
command -v strace >/dev/null || skip_all "needs strace"
DLOG=$LOG

cat >"$T/table" <<'END'
# Linux		OpenBSD		promise	note
_llseek		lseek		stdio
accept4		accept4		unix	or inet; pledge_socket allows any domain
brk		break		stdio	malloc(3)
clock_gettime	clock_gettime	stdio	usually no system call on Linux
close		close		stdio
dup2		dup2		stdio
dup3		dup3		stdio	dup2(3) where the kernel has no dup2
execve		execve		exec	pledge_namei lets it find any path
exit_group	exit		-	always
fcntl		fcntl		stdio	but F_SETOWN, which takes proc
fcntl64		fcntl		stdio
fork		fork		proc
fstat		fstat		stdio	the log's socket, which OpenBSD has not
getegid		getegid		stdio
geteuid		geteuid		stdio
getgid		getgid		stdio
getpid		getpid		stdio	LOG_PID
getppid		getppid		stdio
getrandom	getentropy	stdio	malloc(3)
gettid		getthrid	stdio	abort(3), musl's fork(2)
getuid		getuid		stdio
kill		kill		proc	another's, or a group's; stdio for oneself
lseek		lseek		stdio	of glibc's dprintf(3), to a file
madvise		madvise		stdio	malloc(3)
mmap		mmap		stdio	not with PROT_EXEC
mmap2		mmap		stdio
mprotect	mprotect	stdio	not with PROT_EXEC
mremap		mmap		stdio	realloc(3)
munmap		munmap		stdio
pipe		pipe		stdio
pipe2		pipe2		stdio
poll		poll		stdio
ppoll		ppoll		stdio
prctl		none		-	PR_SET_PDEATHSIG, Linux only
prlimit64	setrlimit	proc	or id; pid 0 is oneself; also getrlimit
read		read		stdio
restart_syscall	none		-	Linux's way to go on after a SIGCONT
rseq		none		-	of glibc's fork(2)
rt_sigaction	sigaction	stdio
rt_sigprocmask	sigprocmask	stdio
rt_sigreturn	sigreturn	stdio
sendmsg		sendmsg		stdio	but SCM_RIGHTS, which takes sendfd
sendsyslog	sendsyslog	-	always; see above
sendfd		sendmsg		sendfd	pledge_sendfd: not a directory
set_robust_list	none		-	of glibc's fork(2)
set_tid_address	none		-	of musl's fork(2)
setpgid		setpgid		proc
setrlimit	setrlimit	proc	or id
setsid		setsid		proc
shutdown	shutdown	stdio
sigreturn	sigreturn	stdio
socketpair	socketpair	stdio
wait4		wait4		stdio	waitpid(2)
write		write		stdio
writev		writev		stdio
END

# Reads a trace; prints each call of the manager after the drop, and of its
# children until they execute prog, as "promise OpenBSD-call Linux-call", or
# as "bad" with the whole of it.
cat >"$T/judge.pl" <<'END'
use strict;
use warnings;

my ($table, @promises) = (shift, split ' ', shift);
my (%promised, %of, %call);
$promised{$_} = 1 for @promises, '-';
open(my $fh, '<', $table) or die;
while (<$fh>) {
	next if /^#/;
	my ($linux, $openbsd, $promise) = split;
	$of{$linux} = $promise;
	$call{$linux} = $openbsd;
}

my (%half, %mine, %log, %try, $manager, $dropped, $pledged, %seen);
my $devlog = qr|^\d+, \{sa_family=AF_UNIX, sun_path="/dev/log"\}, \d+\)|;

# Who is it that drops: children are known from its fork(2).
sub judge {
	my ($pid, $line) = @_;

	my ($name, $args) = $line =~ /^(\w+)\((.*)$/ or return;
	my ($rv) = $args =~ /\) += (-?\d+|\?)[^=]*$/;
	$rv = '?' unless defined $rv;
	my ($fd) = $args =~ /^(\d+)[,)]/;

	# Log sockets from before; then where our part begins: kfcgi looks at
	# prog just before it pledges, which "stdio proc exec" would forbid.
	if (!$pledged) {
		$log{$fd} = 1 if $name eq 'connect' && $args =~ $devlog;
		delete $log{$fd} if $name eq 'close';
		$manager = $pid if $name =~ /^setresuid(32)?$/ && $rv eq '0';
		return if !defined $manager || $pid != $manager;
		$dropped = 1 if $name =~ /^(setuid|setresuid)(32)?$/ &&
		    $rv eq '-1' && $args =~ /EPERM/;
		$mine{$pid} = $pledged = 1 if $dropped &&
		    $name =~ /^(newfstatat|stat|stat64|fstatat64|statx)$/;
		return;
	}
	return unless $mine{$pid};

	if ($name =~ /^(clone|clone3|fork|vfork)$/) {
		$mine{$rv} = 1 if $rv =~ /^\d+$/ && $rv > 0;
		# A fork(2) and no thread: that is all that proc allows.
		$name = 'fork' if $name eq 'fork' ||
		    $args =~ /flags=(CLONE_CHILD_\w+\||)*SIGCHLD|exit_signal=SIGCHLD/ &&
		    $args !~ /CLONE_(VM|THREAD|FILES|FS)\b/;
	}
	$name = 'fstat' if $name =~ /^(newfstatat|statx)$/ &&
	    $args =~ /^\d+, "", .*AT_EMPTY_PATH/ ||
	    $name eq 'fstat64';

	# The C library's syslog(3); never in a child.
	if ($pid == $manager) {
		if ($name eq 'socket' && $rv =~ /^\d+$/ && $args =~
		    /^AF_UNIX, SOCK_DGRAM(\|SOCK_CLOEXEC)?, 0\)/) {
			$try{$pid} = [ $rv, $line ];
			return;
		}
		if (my $try = delete $try{$pid}) {
			if ($name eq 'connect' && $fd == $try->[0] &&
			    $args =~ $devlog) {
				$log{$fd} = 1;
				$name = 'sendsyslog';
			} else {
				print "bad $try->[1]\n";
			}
		}
		$name = 'sendsyslog' if $name eq 'connect' && $log{$fd} &&
		    $args =~ $devlog;
		$name = 'sendsyslog' if $name =~ /^send(to)?$/ && $log{$fd} &&
		    $args =~ /^\d+, "<\d+>.*, (MSG_NOSIGNAL|0)(, NULL, 0)?\)/;
		delete $log{$fd} if $name eq 'close';
	}
	my $bad = !exists $of{$name} || !$promised{$of{$name}};
	$bad = 1 if $name eq 'fcntl' &&
	    $args !~ /^\d+, F_(GETFD|SETFD|GETFL|SETFL)\b/;
	$bad = 1 if $name =~ /^(mmap2?|mprotect)$/ && $args =~ /PROT_EXEC/;
	$bad = 1 if $name eq 'prctl' && $args !~ /^PR_SET_PDEATHSIG, /;
	$bad = 1 if $name eq 'prlimit64' && $args !~ /^0, /;
	if ($name eq 'sendmsg' && $args =~ /SCM_RIGHTS/) {
		$name = 'sendfd';
		$bad = 1 if !$promised{$of{$name}};
	}
	$bad = 1 if $name eq 'sendmsg' && $args !~ /msg_name=NULL/;
	if ($bad) {
		print "bad ", $pid == $manager ? "manager" : "child", ": $line\n";
	} else {
		$seen{"$of{$name} $call{$name} $name"}++;
	}
	# What it does from here on is prog's.
	delete $mine{$pid} if $name eq 'execve' && $rv eq '0';
}

# An execve(2) that succeeds is where strace lets go of a child; lines of the
# same child that come later are those of one that failed.
my @lines;
while (<>) {
	chomp;
	my ($pid, $rest) = /^(\d+) +(.*)$/ or next;
	next if $rest =~ /^(---|\+\+\+)/;
	if ($rest =~ s/ <unfinished \.\.\.>$//) {
		$half{$pid} = $rest;
		# A child may be traced before its fork(2) has returned.
		push @lines, [ $pid, undef ];
		$half{"$pid at"} = $#lines;
		next;
	}
	if ($rest =~ s/^<\.\.\. \w+ resumed>//) {
		my $at = delete $half{"$pid at"};
		$rest = (delete $half{$pid} || '') . $rest;
		$lines[$at] = [ $pid, $rest ] if defined $at;
		next;
	}
	push @lines, [ $pid, $rest ];
}
# One that never returned: an execve(2), an exit, or the end of the trace.
for my $pid (grep { /^\d+$/ } keys %half) {
	$lines[$half{"$pid at"}] = [ $pid, $half{$pid} ];
}
judge(@$_) for grep { defined $_->[1] } @lines;

print "bad no privilege drop in the trace\n" unless $pledged;
print "$_ $seen{$_}\n" for sort keys %seen;
END

# traced options...: as start or start_daemon, under strace; its pid in $TRACER
traced() {
	rm -f "$T/trace"
	: >"$LOG"
	strace -f -b execve -s 80 -o "$T/trace" -- \
	    "$KFCGI" -v -p "$JAIL" -s "$SOCK" -U "$WHO" "$@" \
	    </dev/null >>"$DLOG" 2>&1 &
	TRACER=$!
	also_kill "$TRACER"
}

started() {
	logged 'kfcgi(\[[0-9]+\])?: started:' || dead "$TRACER"
}

# judged description promises: nothing in the trace is beyond them
judged() {
	perl "$T/judge.pl" "$T/table" "$2" "$T/trace" >"$T/verdict"
	is "$(grep -c '^bad' "$T/verdict"; grep '^bad' "$T/verdict" |
	    sort -u | head -n 5)" 0 "$1: all calls are within \"$2\""
	cat "$T/verdict" >>"$T/verdicts"
}

# A worker that leaves at once as long as there is a file, hence a crash loop.
cat >"$T/flaky.c" <<'END'
#include <unistd.h>
int
main(int argc, char *argv[])
{
	if (argc > 0 && access("/flag", F_OK) == 0)
		return 3;
	execv("/bin/worker", argv);
	return 4;
}
END
$CC -static -o "$JAIL/bin/flaky" "$T/flaky.c" || exit 1

# What the manager is put through; $r is -r or nothing.
exercise() {
	is "$(client -n 50 -c 2 -A 60 | head -n 1)" \
	    "answered 50 refused 0 reset 0 cut 0 timeout 0 bad 0" \
	    "$name: requests"
	kill -USR1 "$PID"
	ok "$name: SIGUSR1" waitfor 10 logged 'status: '
	fetch 'err=3&out=hello&errlong=3000' >/dev/null
	fetch 'flood=300' >/dev/null

	fetch crash >/dev/null
	ok "$name: a worker dies" waitfor 10 logged 'killed by signal 11'
	ok "$name: and is replaced" waitfor 10 has_workers 2
	if [ -n "$r" ]; then
		client -n 12 -c 12 -q slow=300 -A 60 >/dev/null
		ok "$name: growth" logged 'all 6 workers are busy'
		ok "$name: and release" waitfor 15 has_workers 2
		fetch cookie=wrong >/dev/null
		ok "$name: a wrong cookie" \
		    waitfor 10 logged 'wrote a wrong cookie'
		waitfor 10 has_workers 2
		fetch closectl >/dev/null
		ok "$name: a closed control socket" \
		    waitfor 10 logged 'closed its control socket but lives'
		waitfor 10 has_workers 2
		# A connection that its worker never read goes to another.
		for w in $(workers); do
			kill -STOP "$w"
		done
		_n=$(grep -c "has connection" "$LOG")
		client -q "" >"$T/moved" 2>&1 &
		moved=$!
		waitfor 10 logged 'has connection' $((_n + 1))
		kill -KILL $(workers)
		wait $moved
		like "$(cat "$T/moved")" '^pid' "$name: an orphan"
	fi
	waitfor 10 has_workers 2

	: >"$JAIL/flag"
	kill -KILL $(workers)
	ok "$name: a crash loop" waitfor 20 logged 'next worker in 400 ms'
	rm -f "$JAIL/flag"
	ok "$name: and its end" waitfor 20 has_workers 2

	mv "$JAIL/bin/flaky" "$JAIL/bin/away"
	kill -HUP "$PID"
	ok "$name: a failed reload" \
	    waitfor 10 logged 'reload failed.*cannot execute'
	waitfor 10 has_workers 2
	kill -KILL "$(workers | head -n 1)"
	ok "$name: a replacement that cannot be executed" \
	    waitfor 10 logged 'kfcgi(\[[0-9]+\])?: cannot execute'
	mv "$JAIL/bin/away" "$JAIL/bin/flaky"
	waitfor 10 has_workers 2
	w=$(workers)
	kill -HUP "$PID"
	ok "$name: a reload" waitfor 10 logged 'reloaded: '
	ok "$name: that is complete" waitfor 30 new_pool 2 $w
	like "$(fetch '')" '^pid' "$name: it serves on"
}

: >"$T/verdicts"
for r in "" -r; do
	promises="stdio proc exec${r:+ unix sendfd}"
	ok "kfcgi.c promises \"$promises\"" \
	    grep -q "\"$promises\"" "$REGRESS/../kfcgi.c"
	for mode in -d ""; do
		name="${r:-fixed}${mode:+, $mode}"
		if [ -n "$mode" ]; then
			LOG=$DLOG		# and there is no syslogd
		else
			: >"$SYSLOG"
			syslogd_start
			LOG=$SYSLOG
		fi
		traced $mode $r -n 2 -N 6 -w 0 /bin/flaky
		waitfor 30 started
		PID=$(manager_pid "$SOCK")
		if ! ok "$name: started" test -n "$PID"; then
			diag "$(cat "$DLOG")"
			continue
		fi
		exercise
		# With one that is busy, as far as we can know.
		_n=$(grep -c "has connection" "$LOG")
		client -q slow=500 >/dev/null 2>&1 &
		last=$!
		[ -z "$r" ] ||
		    waitfor 10 logged "has connection" $((_n + 1))
		kill -TERM "$PID"
		ok "$name: SIGTERM" waitfor 30 dead "$TRACER"
		wait $last $TRACER
		PID=
		ok "$name: it stopped" logged 'kfcgi(\[[0-9]+\])?: stopped'
		judged "$name" "$promises"
		syslogd_stop

		# A start that fails, one that is told to stop, and workers
		# that have to be killed, after syslogd has gone away.
		LOG=$DLOG
		rm -f "$SOCK"
		traced $mode $r -n 2 /bin/worker -e 'no database' -E 3
		ok "$name: a start that fails" waitfor 30 dead "$TRACER"
		judged "$name, failed start" "$promises"
		if [ -z "$mode" ]; then
			: >"$SYSLOG"
			syslogd_start
			LOG=$SYSLOG
		fi
		traced $mode $r -n 2 /bin/worker -t
		waitfor 30 started
		PID=$(manager_pid "$SOCK")
		syslogd_stop
		if ok "$name: deaf workers" test -n "$PID"; then
			w=$(workers | head -n 1)
			kill -KILL "$w"		# so there is more to be logged
			waitfor 10 new_pool 2 "$w"
			kill -TERM "$PID"
			kill -INT "$PID"
		fi
		ok "$name: killed" waitfor 30 dead "$TRACER"
		PID=
		judged "$name, deaf workers" "$promises"
	done
done

# The promises are no wider than needed, and this saw what it should.
for p in stdio proc exec unix sendfd; do
	like "$(grep "^$p " "$T/verdicts" | head -n 1)" "^$p " \
	    "$p was needed, too"
done
for c in sendsyslog fork execve kill setrlimit wait4 shutdown socketpair; do
	like "$(grep " $c " "$T/verdicts" | head -n 1)" " $c " "$c was seen"
done
is "$(awk '$1 == "unix" || $1 == "sendfd" { print $2 }' "$T/verdicts" |
    sort -u | tr '\n' ' ')" "accept4 sendmsg " \
    "what takes unix and sendfd is handing out connections"
diag "$(awk '$1 != "bad" { n[$1 " " $2] += $NF }
    END { for (c in n) print c, n[c] }' "$T/verdicts" | sort)"

done_testing
