#!/bin/sh
# System calls after the privilege drop: whether the promises given to
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
# One exception: syslog(3).  On OpenBSD it is sendsyslog(2), which is always
# allowed.  On Linux it is compat's, with a socket that should be connected since
# before the jail; when that fails it tries again, in vain.  A socket(2) that,
# but for its flags, a connect(2) to /dev/log follows, and what connect(2) to
# /dev/log and sendto(2) of a syslog message it sees until it is closed, are
# taken for sendsyslog(2); in the manager, not in the children.
#
# Traces are of other tests of the suite, then of an exercise of our own, which
# goes where those cannot or do not.  judge.pl judges them by the table.

TEST_ALARM=${TEST_ALARM:-1200}
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
listen		listen		unix
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
setrlimit	setrlimit	proc	or id
setpgid		setpgid		proc
setsid		setsid		proc	instead, with -d at a terminal
setsockopt	setsockopt	unix	pledge_sockopt
shutdown	shutdown	stdio
sigreturn	sigreturn	stdio
socketpair	socketpair	stdio
wait4		wait4		stdio	waitpid(2)
write		write		stdio
writev		writev		stdio
END

# --- Other tests of the suite, under strace
#
# The script that they take for kfcgi becomes kfcgi, with its process number,
# while strace goes elsewhere.  strace takes no argv[0], so args.t does not
# find the command line that it looks for; all else of it passes.
#
# Left out, since they attach strace to the manager or start it with that
# themselves, which cannot be done twice: fixed.t, variable.t, socket.t, cost.t
# and shortage.t.  Growth, release and shortage are in our own exercise below.
# So is what log.t and messages.t ask of syslogd.  The others differ from
# these in what the workers, the clients or the compilers are.
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
exec strace -D -f -b execve -s 80 \
    -o "\$(mktemp "\$TRACES/\$pool.XXXXXXXX")" -- "$T/real/kfcgi" "\$@"
END
chmod 755 "$T/kfcgi"

# suite test...: one after another, each with its own traces
suite() {
	for t in "$@"; do
		mkdir -m 1777 "$T/traces/$t"	# args.t: for another user, too
		KFCGI=$T/kfcgi KFCGI_REAL=$T/real/kfcgi TEST_ALARM=600 \
		    DEATH_REQUESTS=50 TRACES=$T/traces/$t TMPDIR=$T \
		    sh "$REGRESS/$t" >"$T/$t.tap" 2>&1 </dev/null &
		_t=$!
		trap 'kill -TERM $_t; wait $_t; exit 1' TERM
		wait $_t
	done
}

SUITE=
end_suite() {
	[ -n "$SUITE" ] || return 0
	kill -TERM $SUITE 2>/dev/null
	wait $SUITE 2>/dev/null
	SUITE=
}

no_tracer() {
	! processes args | grep -q "^strace .*$T/traces/"
}

# judge_all promises trace...: "judged n refused n", or what is bad
judge_all() {
	_promises=$1 _judged=0 _refused=0
	shift
	for f in "$@"; do
		[ -e "$f" ] || continue
		perl "$REGRESS/judge.pl" "$T/table" "$_promises" "$f" \
		    >"$T/verdict" || echo "bad: no verdict" >>"$T/verdict"
		cat "$T/verdict" >>"$T/verdicts"
		case $(cat "$T/verdict") in
		refused) _refused=$((_refused + 1));;
		*) _judged=$((_judged + 1));;
		esac
		grep '^bad' "$T/verdict" | sed "s|\$| (${f##*/})|"
	done >"$T/bad"
	echo "judged $_judged refused $_refused"
	sort -u "$T/bad" | head -n 5
}

# judged_test test: it was traced to its end, and nothing was beyond promises
judged_test() {
	n=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$T/$1.tap")
	bad=$(grep -c '^not ok' "$T/$1.tap")
	# strace makes all slower, so that one or the other may be late.
	ok "$1 comes to its end under strace, most of it well" \
	    test "${n:-0}" -gt 0 -a $((bad * 20)) -le "${n:-0}" ||
	    diag "$(tail -n 20 "$T/$1.tap")"
	diag "$1: ${n:-no plan}, failed: $bad"
	[ "$bad" -eq 0 ] || diag "$(grep -A 2 '^not ok' "$T/$1.tap")"
	judged=0
	for p in fixed variable; do
		promises="stdio proc exec unix"
		[ $p = fixed ] || promises="$promises sendfd"
		v=$(judge_all "$promises" "$T/traces/$1/$p".*)
		like "$(echo "$v" | tr '\n' ' ')" '^judged [0-9]+ refused [0-9]+ $' \
		    "$1, $p: all calls are within \"$promises\""
		diag "$1, $p: $(echo "$v" | head -n 1)"
		judged=$((judged + $(echo "$v" | awk '{ print $2; exit }')))
	done
	ok "$1: there was something to be judged" test $judged -gt 0
}

: >"$T/verdicts"
# A manager whose strace is killed goes on; it is in the jail, if it got there.
end_strays() {
	for p in $(strays); do
		kill -KILL "$p" 2>/dev/null
	done
}

end_all() {
	trap '' EXIT INT TERM HUP
	end_suite
	syslogd_stop
	end_strays
	cleanup
}
trap end_all EXIT
trap 'end_all; exit 1' INT TERM HUP

# Side by side, since all wait more than they work.
suite reload.t & SUITE=$!
suite death.t & SUITE="$SUITE $!"
suite stop.t inherit.t odd.t & SUITE="$SUITE $!"
suite start.t args.t & SUITE="$SUITE $!"
also_kill $SUITE
wait $SUITE
SUITE=
ok "no trace is still being written" waitfor 30 no_tracer
for t in reload.t death.t inherit.t odd.t stop.t start.t args.t; do
	judged_test $t
done

# --- The exercise

# traced options...: as start or start_daemon, under strace, which is told
# $INJECT, too; its pid in $TRACER
INJECT=
traced() {
	rm -f "$T/trace"
	: >"$LOG"
	strace -f -b execve -s 80 $INJECT -o "$T/trace" -- \
	    "$KFCGI" -v -p "$JAIL" -s "$SOCK" ${WHO:+-U "$WHO"} "$@" \
	    </dev/null >>"$DLOG" 2>&1 &
	TRACER=$!
	also_kill "$TRACER"
}

started() {
	logged 'kfcgi(\[[0-9]+\])?: started:' || dead "$TRACER"
}

# judged description promises: nothing in the trace is beyond them
judged() {
	perl "$REGRESS/judge.pl" "$T/table" "$2" "$T/trace" >"$T/verdict" ||
	    echo "bad: no verdict" >>"$T/verdict"
	is "$(grep -Ec '^(bad|refused)' "$T/verdict"
	    grep -E '^(bad|refused)' "$T/verdict" | sort -u | head -n 5)" 0 \
	    "$1: all calls are within \"$2\""
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
		ok "$name: after -w $w" logged "released after $w s"
		fetch cookie=wrong >/dev/null
		ok "$name: a wrong cookie" \
		    waitfor 10 logged 'wrote a wrong cookie'
		waitfor 10 has_workers 2
		fetch closectl >/dev/null
		ok "$name: a closed control socket" \
		    waitfor 10 logged 'closed its control socket but lives'
		waitfor 10 has_workers 2
		# A connection that its worker never read goes to another.
		for p in $(workers); do
			freeze "$p"
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
	ok "$name: a program that breaks" \
	    waitfor 30 logged 'no new workers for now: .* next trial in 400 ms'
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
	old=$(workers) busy=
	if [ -n "$r" ]; then
		_n=$(grep -c "has connection" "$LOG")
		client -q slow=2000 >"$T/busy" 2>&1 &
		busy=$!
		waitfor 10 logged 'has connection' $((_n + 1))
	fi
	kill -HUP "$PID"
	ok "$name: a reload" waitfor 10 logged \
	    "reloaded: 2 new workers, $([ -z "$r" ]; echo $?) of the old"
	ok "$name: that is complete" waitfor 30 new_pool 2 $old
	if [ -n "$busy" ]; then
		wait $busy
		like "$(cat "$T/busy")" '^pid' "$name: the busy one finished"
	fi
	like "$(fetch '')" '^pid' "$name: it serves on"
}

# met call: its injected error has been
met() {
	grep -Eq "^[0-9]+ +(<\.\.\. )?$1[( ].*INJECTED" "$T/trace"
}

# ended description: the trace is complete, as it should be
ended() {
	ok "$name: $1" waitfor 60 dead "$TRACER" || end_strays
	wait "$TRACER" 2>/dev/null
	PID=
	judged "$name, $1" "$promises"
}

# The starting process, which in the foreground is the manager.
starting() {
	children "$TRACER" | head -n 1
}

# slow_start options...: traced, until workers are there
slow_start() {
	rm -f "$SOCK"
	INJECT="-e inject=/^pipe2?\$:delay_exit=100000"
	traced "$@" -n 25 /bin/worker
	INJECT=
	ok "$name: a start under way" waitfor 30 some_strays
}

# What may become of a start.
starts() {
	LOG=$DLOG
	rm -f "$SOCK"
	traced $mode $r -n 2 /bin/worker -e 'no database' -E 3
	ended "a start that fails"
	traced $mode $r -n 2 /bin/none
	waitfor 30 dead "$TRACER"	# else ended says so
	ok "$name: said so" logged '^kfcgi: cannot execute /bin/none'
	ended "a prog that is not there"
	slow_start $mode $r
	kill -TERM "$(starting)"
	waitfor 30 dead "$TRACER"
	ok "$name: said so" logged '^kfcgi: was told to stop while starting'
	ended "told to stop while starting"
	if [ -z "$mode" ]; then
		syslogd_begin
		slow_start $r
		kill -KILL "$(starting)"
		ok "$name: said so" \
		    waitfor 30 logged 'the starting process is gone'
		ended "the starting process killed"
		syslogd_stop
	fi
}

# Workers that have to be killed; daemonised, when syslogd first hung, then
# went away.
deaf() {
	[ -n "$mode" ] || syslogd_begin 16
	traced $mode $r -n 2 /bin/worker -t
	waitfor 30 started
	PID=$(manager_pid "$SOCK")
	ok "$name: deaf workers" test -n "$PID" || return
	if [ -z "$mode" ]; then
		freeze "$SYSLOGD"
		fetch flood=300 >/dev/null
		ok "$name: a syslogd that hangs" waitfor 20 log_blocked
		kill -CONT "$SYSLOGD"
		ok "$name: and goes on" waitfor 20 eval 'kill -USR1 "$PID"
		    logged "lines lost: syslogd did not read them"'
		syslogd_stop
	fi
	old=$(workers | head -n 1)
	kill -KILL "$old"	# so there is more to be logged
	waitfor 10 new_pool 2 "$old"
	kill -TERM "$PID"
	kill -INT "$PID"
	ended "deaf workers"
}

# It has found that syslogd does not read.
log_blocked() {
	grep -q 'sendto([0-9]*, "<.* = -1 EAGAIN' "$T/trace"
}

# A hundred workers, for which its tables grow; then two that are root, as it
# is itself.
others() {
	traced $mode $r -n 100 /bin/worker
	waitfor 60 started
	PID=$(manager_pid "$SOCK")
	is "$(nworkers)" 100 "$name: a hundred workers"
	kill -TERM "$PID"
	ended "a hundred workers"

	WHO=
	traced $mode $r -n 2 -N 4 -w 0 /bin/worker
	WHO=nobody
	waitfor 30 started
	PID=$(manager_pid "$SOCK")
	ok "$name: no -U" logged 'workers run as root'
	like "$(fetch report)" '^uid 0 0 0$' "$name: workers are root"
	client -n 20 -c 4 >/dev/null
	fetch crash >/dev/null
	waitfor 10 logged 'killed by signal 11'
	waitfor 10 has_workers 2
	kill -HUP "$PID"
	waitfor 10 logged 'reloaded: '
	kill -TERM "$PID"
	ended "no -U"
}

# What the kernel may be short of [J], injected by strace.
shortage() {
	calls='ppoll pipe2? (clone3?|fork)'
	INJECT="-e inject=ppoll:error=ENOMEM:when=8..10
	    -e inject=/^pipe2?\$:error=ENFILE:when=5+7
	    -e inject=/^(clone3?|fork)\$:error=EAGAIN:when=6+7"
	if [ -n "$r" ]; then
		calls="$calls socketpair accept4 sendmsg"
		INJECT="$INJECT -e inject=socketpair:error=EMFILE:when=4+7
		    -e inject=accept4:error=EMFILE:when=5..6
		    -e inject=sendmsg:error=ENOBUFS:when=9..10"
	fi
	set -f
	traced $mode $r -n 2 -N 4 -w 0 /bin/worker
	set +f
	INJECT=
	waitfor 30 started
	PID=$(manager_pid "$SOCK")
	client -n 40 -c 4 -t 60000 -A 60 >/dev/null
	set -f
	i=0
	while [ $i -lt 20 ]; do
		i=$((i + 1))
		kill -HUP "$PID"
		waitfor 10 logged 'reload(ed| failed)' $i
		waitfor 30 has_workers 2
		fetch '' >/dev/null	# it is healthy, so delays are short
		kill -KILL $(workers)
		waitfor 30 has_workers 2
		fetch '' >/dev/null
		logged 'cannot start a worker: .* serving with' &&
		    logged 'reload failed.* cannot start a worker' || continue
		for c in $calls; do
			met "$c" || continue 2
		done
		break
	done
	for c in $calls; do
		ok "$name: $c failed" met "$c"
	done
	set +f
	ok "$name: a reload failed of that" \
	    logged 'reload failed.* cannot start a worker'
	ok "$name: and a replacement" \
	    logged 'cannot start a worker: .* serving with'
	if [ -n "$r" ]; then
		ok "$name: so did accept(2), or sendmsg(2)" \
		    logged 'cannot (accept|hand out) connections for now'
	fi
	kill -TERM "$PID"
	ended "shortage"
}

syslogd_begin() {
	: >"$SYSLOG"
	syslogd_start "$@"
	LOG=$SYSLOG
}

for r in "" -r; do
	promises="stdio proc exec unix${r:+ sendfd}"
	ok "kfcgi.c promises \"$promises\"" \
	    grep -q "\"$promises\"" "$REGRESS/../kfcgi.c"
	for mode in -d ""; do
		name="${r:-fixed}${mode:+, $mode}"
		if [ -n "$mode" ]; then
			LOG=$DLOG		# and there is no syslogd
			w=0
		else
			syslogd_begin
			w=1
		fi
		traced $mode $r -n 2 -N 6 -w $w /bin/flaky
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
		waitfor 30 dead "$TRACER"
		wait $last
		ok "$name: it stopped" logged 'kfcgi(\[[0-9]+\])?: stopped'
		ended "exercise"
		syslogd_stop

		starts
		deaf
		[ -z "$mode" ] || others
		[ -z "$mode" ] || shortage
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
    sort -u | tr '\n' ' ')" "accept4 listen sendmsg setsockopt " \
    "what takes unix and sendfd is handing out, and the shared listener"
diag "$(awk '$1 !~ /^(bad:?|refused)$/ { n[$1 " " $2] += $NF }
    END { for (c in n) print c, n[c] }' "$T/verdicts" | sort)"

done_testing
