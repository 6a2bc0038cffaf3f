#!/bin/sh
# System calls after the privilege drop: whether the promises given to
# OpenBSD's pledge(2) cover what the manager does, seen by strace(1) on Linux.
#
# The table below says what each call of Linux is on OpenBSD, and which promise
# that takes.  It was looked up in OpenBSD's sys/kern/kern_pledge.c, revision
# 1.206 (2017) and one after 7.4 (it has pinsyscalls); they agree on all of
# this.  What a call may do beyond that depends on its arguments, see there:
# pledge_kill, pledge_fcntl, pledge_sendit, pledge_sendfd, pledge_protexec.
# Those that matter are checked by the script below.  A call
# that is not in the table is a failure, hence any that takes a path or makes
# a socket.
#
# One exception: syslog(3).  On OpenBSD it is sendsyslog(2), which is always
# allowed.  On Linux it is compat's, with a socket that should be connected
# since before the jail; when that fails it tries again, in vain.  A socket(2)
# that, but for its flags, a connect(2) to /dev/log follows, and what connect(2)
# to /dev/log and sendto(2) of a syslog message it sees until it is closed, are
# taken for sendsyslog(2); in the manager, not in the children.
#
# The traces are of other tests of the suite; judge.pl judges them by the table.
# Those that would follow the manager with strace themselves are told that there
# is none, see have in lib.sh.

TEST_ALARM=${TEST_ALARM:-1200}
. ./lib.sh

[ "$(uname -s)" = Linux ] || skip_all "strace(1) is for Linux"
have strace || skip_all "needs strace"
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
listen		listen		unix
mremap		mmap		stdio	realloc(3)
munmap		munmap		stdio
pipe		pipe		stdio
pipe2		pipe2		stdio
poll		poll		stdio
ppoll		ppoll		stdio
prctl		none		-	of Linux, see judge.pl
prlimit64	setrlimit	proc	or id; pid 0 is oneself; also getrlimit
read		read		stdio
restart_syscall	none		-	Linux's way to go on after a SIGCONT
recvfrom	recvfrom	stdio
rseq		none		-	of glibc's fork(2)
rt_sigaction	sigaction	stdio
rt_sigprocmask	sigprocmask	stdio
rt_sigreturn	sigreturn	stdio
sendmsg		sendmsg		stdio	but SCM_RIGHTS, which takes sendfd
sendsyslog	sendsyslog	-	always; see above
sendfd		sendmsg		sendfd	pledge_sendfd: not a directory
set_robust_list	none		-	of glibc's fork(2)
set_tid_address	none		-	of musl's fork(2)
setrlimit	setrlimit	proc	or id
setpgid		setpgid		proc
setsid		setsid		proc	instead, with -d at a terminal
shutdown	shutdown	stdio
sigreturn	sigreturn	stdio
socketpair	socketpair	stdio
wait4		wait4		stdio	waitpid(2)
write		write		stdio
writev		writev		stdio
END

# The script that the tests take for kfcgi becomes kfcgi, with its process
# number, while strace goes elsewhere.  strace takes no argv[0], so args.t does
# not find the command line that it looks for; all else of it passes.
mkdir "$T/real" "$T/traces"
cp "$KFCGI" "$T/real/kfcgi"	# in args.t another user must find it
cat >"$T/kfcgi" <<END
#!/bin/sh
# What is preloaded makes system calls of its own.
[ -z "\${LD_PRELOAD:-}" ] || exec "$T/real/kfcgi" "\$@"
pool=fixed
OPTIND=1
while getopts :dl:n:N:p:rs:u:U:vw: o; do
	[ "\$o" = r ] && pool=variable
done
exec $(command -v strace) -D -f -b execve -s 80 \
    -o "\$(mktemp "\$TRACES/\$pool.XXXXXXXX")" -- "$T/real/kfcgi" "\$@"
END
chmod 755 "$T/kfcgi"

# suite test...: one after another, each with its own traces
suite() {
	for t in "$@"; do
		mkdir -m 1777 "$T/traces/$t"	# args.t: for another user, too
		CI= KFCGI=$T/kfcgi KFCGI_LEFT= KFCGI_REAL=$T/real/kfcgi \
		    NOSTRACE=1 TEST_ALARM=600 \
		    TRACES=$T/traces/$t TMPDIR=$T \
		    sh "$REGRESS/$t" >"$T/$t.tap" 2>&1 </dev/null &
		_t=$!
		trap 'kill -TERM $_t; wait $_t; exit 1' TERM
		wait $_t
	done
}

# Side by side, since all wait more than they work.
suite reload.t args.t & BESIDE=$!
suite death.t start.t & BESIDE="$BESIDE $!"
suite stop.t inherit.t odd.t & BESIDE="$BESIDE $!"
suite log.t shortage.t & BESIDE="$BESIDE $!"
wait $BESIDE
BESIDE=
ok "no trace is still being written" waitfor 30 eval '
    ! processes args | grep -q "^[^ ]*strace .*$T/traces/"'

: >"$T/verdicts"
for t in reload.t args.t death.t start.t stop.t inherit.t odd.t log.t \
    shortage.t; do
	n=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$T/$t.tap")
	bad=$(grep -c '^not ok' "$T/$t.tap")
	# strace makes all slower, so that one or the other may be late.
	ok "$t comes to its end under strace, most of it well" \
	    test "${n:-0}" -gt 0 -a $((bad * 20)) -le "${n:-0}" ||
	    diag "$(tail -n 20 "$T/$t.tap")"
	diag "$t: ${n:-no plan}, failed: $bad"
	[ "$bad" -eq 0 ] || diag "$(grep -A 2 '^not ok' "$T/$t.tap")"
	for p in fixed variable; do
		promises="stdio proc exec unix"
		[ $p = fixed ] || promises="$promises sendfd"
		for f in "$T/traces/$t/$p".*; do
			[ ! -e "$f" ] ||
			    perl judge.pl "$T/table" "$promises" "$f" ||
			    echo "bad: no verdict on $f"
		done >"$T/verdict"
		is "$(grep '^bad' "$T/verdict" | sort -u | head -n 5)" "" \
		    "$t, $p: all calls are within \"$promises\""
		cat "$T/verdict" >>"$T/traces/$t/verdicts"
	done
	ok "$t: there was something to be judged" \
	    grep -Eq ' p?poll ' "$T/traces/$t/verdicts"
	cat "$T/traces/$t/verdicts" >>"$T/verdicts"
done

# These are the promises that are made, no wider than needed; and this saw what
# it should.
for promises in "stdio proc exec unix" "stdio proc exec unix sendfd"; do
	ok "kfcgi.c promises \"$promises\"" \
	    grep -q "\"$promises\"" "$REGRESS/../kfcgi.c"
done
for p in stdio proc exec unix sendfd; do
	like "$(grep "^$p " "$T/verdicts" | head -n 1)" "^$p " \
	    "$p was needed, too"
done
for c in sendsyslog fork execve kill setrlimit wait4 shutdown socketpair; do
	like "$(grep " $c " "$T/verdicts" | head -n 1)" " $c " "$c was seen"
done
is "$(awk '$1 == "unix" || $1 == "sendfd" { print $2 }' "$T/verdicts" |
    sort -u | tr '\n' ' ')" "accept4 listen sendmsg " \
    "what takes unix and sendfd is handing out, and the shared listener"
diag "$(awk '$1 !~ /^bad/ { n[$1 " " $2] += $NF }
    END { for (c in n) print c, n[c] }' "$T/verdicts" | sort)"

done_testing
