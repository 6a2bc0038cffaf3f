#!/bin/sh
# Every message that the program can print is printed here, one way or another,
# and held against the manual: each line that is explained under DIAGNOSTICS was
# seen.  So neither can drift, and whoever changes a message reads what it looks
# like.
: "${TEST_ALARM:=400}"
. ./devlog.sh

[ "$(uname -s)" = Linux ] || skip_all "errors are injected by strace(1)"
command -v strace >/dev/null || skip_all "needs strace"
MAN=$REGRESS/../kfcgi.8
SRC=$REGRESS/../kfcgi.c
SEEN=$T/seen		# all that was said
: >"$SEEN"
P="-p $JAIL -s $SOCK -U $WHO"

# see command...: what it says is noted; its status
see() {
	"$@" </dev/null >"$T/out" 2>"$T/err"
	_rv=$?
	cat "$T/err" >>"$SEEN"
	return $_rv
}

# refused options...: a start that fails
refused() {
	fails "refused: $*" see "$KFCGI" "$@" || end_start
}

# A start that should have failed.
end_start() {
	PID=$(manager_pid "$SOCK")
	[ -z "$PID" ] || end_manager
}

# broken call what options...: a start in which that system call fails, as
# strace(1) has it; of the manager only, which with -d is the first process
broken() {
	_call=$1
	_what=$2
	shift 2
	fails "broken: $_call $_what" see strace -qq -o /dev/null \
	    -e "trace=$_call" -e "inject=$_call:$_what" -- "$KFCGI" -d $P "$@"
}

# inject call what: the same for one that runs, until strace_off
inject() {
	strace_on -qq -o "$T/injected" -e "trace=$1" -e "inject=$1:$2"
}

# said pattern [count]: it was; for kfcgi -d
said() {
	ok "said: $1" waitfor 30 logged "^kfcgi: $1" ${2:-}
}

ended() {
	quit_now
	cat "$LOG" >>"$SEEN"
}

# --- What takes its time goes on beside the rest: an old worker that is deaf,
# for 20 seconds, and requests that kill for more than ten.
mkdir -p "$T/jail2/bin" && cp "$JAIL/bin/worker" "$T/jail2/bin"
"$KFCGI" -d -p "$T/jail2" -s "$T/deaf" -U "$WHO" -n 1 /bin/worker -t \
    </dev/null >"$T/deaf.log" 2>&1 &
DEAF=$!
also_kill $DEAF
"$KFCGI" -d -p "$T/jail2" -s "$T/young" -U "$WHO" -n 1 /bin/worker -A 200 \
    </dev/null >"$T/young.log" 2>&1 &
YOUNG=$!
also_kill $YOUNG
waitfor 20 grep -q started: "$T/young.log"
(
	i=0
	while [ $i -lt 60 ]; do
		"$REGRESS/client" -s "$T/young" -q crash >/dev/null 2>&1 &
		i=$((i + 1))
		sleep 0.25
	done
) &
also_kill $!
waitfor 20 grep -q started: "$T/deaf.log"
kill -HUP $DEAF

# --- The command line.
refused
refused -q
refused -n
refused -n 0 /bin/worker
refused -w soon /bin/worker
refused -l 99999999999 /bin/worker
refused -r -n 3 -N 2 /bin/worker
refused -u nosuchuser /bin/worker
mkdir "$T/copy" && cp "$KFCGI" "$T/copy/kfcgi" && chmod 755 "$T/copy/kfcgi"
fails "refused: not root" see as_user "$WHO" "$T/copy/kfcgi" $P /bin/worker

# --- Jail and socket.
: >"$T/file"
refused -p "$T/none" -s "$SOCK" /bin/worker
refused -p "$T/file" -s "$SOCK" /bin/worker
refused -p "$JAIL" -s '' /bin/worker
refused -p "$JAIL" -s "$(printf '%0200d' 0)" /bin/worker
refused -p "$JAIL" -s "$T/deaf" /bin/worker
refused -p "$JAIL" -s "$T/file" /bin/worker
refused -p "$JAIL" -s "$T/none/sock" /bin/worker
refused -p "$JAIL" -s "$T/" /bin/worker
broken bind error=EROFS /bin/worker
broken '/^mkdir' error=EROFS /bin/worker
broken '/^unlink' error=EROFS:when=1 /bin/worker
broken '/^rename' error=EROFS /bin/worker
broken '/chown' error=EPERM /bin/worker
broken listen error=EIO /bin/worker
broken fchdir error=EACCES:when=1 /bin/worker
broken fchdir error=EACCES:when=2 /bin/worker
broken '/^(lstat|newfstatat)' error=EACCES /bin/worker
perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Type => SOCK_STREAM,
    Local => shift) or die' "$SOCK"
broken fchdir error=EACCES:when=1 /bin/worker
rm "$SOCK"
broken socket error=EMFILE /bin/worker

# --- A system that is not as it should be.
fails "broken: /dev/null" see strace -qq -o /dev/null -P /dev/null \
    -e 'trace=/^open' -e 'inject=/^open:error=ENOENT' -- "$KFCGI" $P /bin/worker
broken '/^(prlimit64|u?getrlimit)$' error=EINVAL /bin/worker
broken rt_sigprocmask error=EINVAL /bin/worker
broken rt_sigaction error=EINVAL /bin/worker
broken fcntl error=EBADF:when=2 /bin/worker
broken '/^pipe' error=EMFILE /bin/worker
broken chroot error=EPERM /bin/worker
broken chdir error=EIO /bin/worker
broken setgroups error=EPERM /bin/worker
broken '/^setresgid' error=EPERM /bin/worker
broken '/^setresuid' error=EPERM /bin/worker
ln -s "$T" "$T/way"
chmod 777 "$T"
fails "a link that others may have made" see "$KFCGI" -p "$JAIL" \
    -s "$T/way/x" -U "$WHO" /bin/worker
chmod 755 "$T"
broken '/^setuid' retval=0 /bin/worker
broken '/^getgid' retval=0 /bin/worker
fails "broken: setsid" see strace -f -qq -o /dev/null -e trace=setsid \
    -e inject=setsid:error=EPERM -- "$KFCGI" $P /bin/worker
# What no system call does can be made to fail from within; or what is not
# met by counting calls.
cat >"$T/call.c" <<'END'
#include <sys/types.h>
#include <sys/stat.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
/* The directory opened last is the one made for the socket. */
static int	 private;
/* Whether the call of that name, and what it is about, is to fail. */
static int
broken(const char *name)
{
	const char *call = getenv("BROKEN");

	errno = EIO;
	return call != NULL && strcmp(call, name) == 0;
}
int
open(const char *path, int flags, ...)
{
	va_list	 ap;
	int	 mode;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, int) : 0;
	va_end(ap);
	static int n;

	/* The first is on the way to the socket, then comes where we are. */
	if (strcmp(path, "/") == 0 &&
	    (++n == 1 ? broken("open") : broken("open cwd")))
		return -1;
	return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int
openat(int fd, const char *path, int flags, ...)
{
	private = strncmp(path, ".kfcgi.", 7) == 0;
	if (private ? broken("openat private") : broken("openat"))
		return -1;
	return syscall(SYS_openat, fd, path, flags, 0);
}
int
mkdirat(int fd, const char *path, mode_t mode)
{
	if (broken("mkdirat"))
		mode |= 0050;
	return syscall(SYS_mkdirat, fd, path, mode);
}
mode_t
umask(mode_t mask)
{
	return broken("fchmodat") || broken("mkdirat") ? 0 :
	    syscall(SYS_umask, mask);
}
int
fchmodat(int fd, const char *path, mode_t mode, int flags)
{
	(void)fd; (void)path; (void)mode; (void)flags;
	(void)broken("");
	return -1;
}
int
fstat(int fd, struct stat *st)
{
	if (private ? broken("fstat private") : broken("fstat"))
		return -1;
	return fstatat(fd, "", st, AT_EMPTY_PATH);
}
int
pipe(int p[2])
{
	static int n;

	/* The first tells of the start, the second is for the output. */
	if (++n == 2 && broken("pipe"))
		return -1;
	return syscall(SYS_pipe2, p, 0);
}
int
fcntl(int fd, int cmd, ...)
{
	static int n;
	va_list	 ap;
	long	 arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	/* The first is for /dev/null, then there is one for each socket. */
	if (++n == 2 && broken("fcntl socket"))
		return -1;
	if (n == 4 && broken("fcntl pipe"))
		return -1;
	/* After those of the log. */
	if (n >= 9 && broken("fcntl output"))
		return -1;
	return syscall(SYS_fcntl, fd, cmd, arg);
}
END
$CC -shared -fPIC -D_GNU_SOURCE -o "$T/call.so" "$T/call.c"
for call in open 'open cwd' openat 'openat private' mkdirat fchmodat fstat \
    'fstat private' 'fcntl socket' 'fcntl pipe'; do
	fails "broken: $call" see env LD_PRELOAD="$T/call.so" BROKEN="$call" \
	    "$KFCGI" -d $P /bin/worker
done
for call in pipe 'fcntl output'; do
	fails "broken: $call of the output" see env LD_PRELOAD="$T/call.so" \
	    BROKEN="$call" "$KFCGI" $P /bin/worker
done
broken '/^(clone3?|fork)$' error=EAGAIN /bin/worker
# What no system call does can be made to fail from within.
cat >"$T/fail.c" <<'END'
#include <errno.h>
#include <unistd.h>
int
unsetenv(const char *name)
{
	(void)name;
	if (access("/noenv", F_OK) != 0)
		return 0;
	errno = ENOMEM;
	return -1;
}
END
$CC -shared -fPIC -o "$T/fail.so" "$T/fail.c"
: >"$JAIL/noenv"
fails "broken: environment" see env LD_PRELOAD="$T/fail.so" \
    "$KFCGI" -d $P /bin/worker

# --- Starts that fail for their workers.
broken socketpair error=ENFILE -r /bin/worker
fails "broken: setpgid" see strace -f -qq -o /dev/null -e trace=setpgid \
    -e inject=setpgid:error=EPERM -- "$KFCGI" $P -n 1 /bin/worker
cp "$JAIL/bin/worker" "$JAIL/bin/plain" && chmod 644 "$JAIL/bin/plain"
printf '#!/bin/nosh\n' >"$JAIL/bin/script" && chmod 755 "$JAIL/bin/script"
echo text >"$JAIL/bin/text" && chmod 755 "$JAIL/bin/text"
for prog in /bin/none /bin/plain /bin /bin/script /bin/text; do
	refused $P $prog
done
refused $P -n 1 /bin/worker -E 3
refused $P -n 1 /bin/worker -S 11
refused $P -n 1 /bin/worker -S ABRT
# One that takes -r for something else.
cat >"$T/odd.c" <<'END'
#include <unistd.h>
int
main(int argc, char *argv[])
{
	char	 cookie[16];

	alarm(60);
	if (argc == 1)
		close(3);
	else {
		/* With "more", not before it has a connection. */
		if (argv[1][0] == 'm')
			(void)read(3, cookie, 8);
		(void)write(3, cookie, sizeof(cookie));
	}
	for (;;)
		pause();
}
END
$CC -static -o "$JAIL/bin/odd" "$T/odd.c"
refused $P -r -n 1 /bin/worker -E 0
refused $P -r -n 1 /bin/odd
refused $P -r -n 1 /bin/odd write

# Told to stop, killed, and left alone while starting.  The last is for the log.
syslogd_start
for what in TERM KILL alone; do
	"$KFCGI" $P -n 300 /bin/worker 2>"$T/err" &
	shell=$!
	waitfor 10 some_strays
	pid=$(children $shell)
	case $what in
	TERM)	kill -TERM $shell;;
	KILL)	kill -KILL $pid;;
	alone)	freeze $pid
		kill -KILL $shell
		kill -CONT $pid;;
	esac
	wait $shell 2>/dev/null
	ok "while starting: $what" waitfor 20 no_strays
	cat "$T/err" >>"$SEEN"
	rm -f "$SOCK"
done

# --- A pool.
cp "$JAIL/bin/worker" "$JAIL/bin/prog"
WHO=root
start -n 2 /bin/prog
said 'started: 2 workers'
said 'workers run as root'
kill -USR1 "$PID"
said 'status: 2 serving'
kill -HUP "$PID"
said 'reloaded: 2 new'
kill -SEGV "$(workers | head -n 1)"
said 'worker [0-9]* was killed by signal 11 .* s$'
w=$(workers)
freeze "$PID"
kill -SEGV $w
kill -CONT "$PID"
said '[23] more workers were killed by signal 11'
waitfor 10 new_pool 2 $w
waitfor 10 has_workers 2
rm "$JAIL/bin/prog"
kill -HUP "$PID"
said 'reload failed.*cannot execute .*, or its interpreter'
waitfor 10 has_workers 2
kill -KILL "$(workers | head -n 1)"
said 'cannot execute .*, or its interpreter'
said 'no new workers for now: .*; next trial in 100 ms'
inject listen error=EINVAL:when=1
said 'cannot put the listening socket right: '
strace_off
cp "$JAIL/bin/worker" "$JAIL/bin/prog"
said 'workers are started again'
ended
said 'stopped'
WHO=nobody

rm "$JAIL/noenv"
start -r -n 1 -N 3 -w 0 /bin/worker
client -n 5 -c 5 -q slow=300 >/dev/null
said 'all 3 workers are busy'
said 'worker [0-9]* has connection'
said 'worker [0-9]* is done with'
said 'worker [0-9]* released'
waitfor 10 has_workers 1
kill -USR1 "$PID"
said 'status: 1 idle'
i=0
for query in cookie=wrong unasked closectl; do
	i=$((i + 1))
	fetch $query >/dev/null
	said 'worker [0-9]* .*: stopped$' $i
	waitfor 10 has_workers 1
done
fetch exit=3 >/dev/null
said 'worker [0-9]* exited with status 3 .* served 0$'
waitfor 10 has_workers 1
inject sendmsg error=EAGAIN:when=1
client -q '' >/dev/null
said 'worker [0-9]* does not read'
strace_off
waitfor 10 has_workers 1
inject sendmsg error=ENOBUFS:when=1
client -q '' -t 20000 >/dev/null
said 'cannot hand out'
strace_off
inject socketpair error=ENFILE:when=1
kill -SEGV "$(workers | head -n 1)"
said 'cannot start a worker: .* serving with 0'
strace_off
waitfor 20 has_workers 1
n=$(grep -c 'has connection' "$LOG")
client -q hang >/dev/null 2>&1 &
waitfor 10 logged 'has connection' $((n + 1))
ended
said '1 worker had to be killed'

start -r -n 1 /bin/odd more
client -q '' >/dev/null
said 'worker [0-9]* wrote more'
ended

# The same episode as the other shortage above, had it been the same pool.
start -r -n 1 /bin/worker
inject accept4 error=EMFILE:when=1
client -q '' -t 20000 >/dev/null
said 'cannot accept'
strace_off
ended

# --- What only the log is told.
start_daemon -n 1 /bin/worker
fetch 'out=hello' >/dev/null
fetch 'flood=300' >/dev/null
waitfor 20 grep -q 'kfcgi.*dropped: ' "$SYSLOG"
ended
syslogd_stop
syslogd_start 5
start_daemon -n 1 /bin/worker
freeze "$SYSLOGD"
fetch 'flood=99' >/dev/null
kill -CONT "$SYSLOGD"
ok "lines that syslogd did not read" waitfor 20 eval '
    kill -USR1 "$PID"; grep -q "kfcgi.*lines lost" "$SYSLOG"'
ended

# --- And those that took their time.
ok "requests that kill" waitfor 60 grep -q 'have been dying' "$T/young.log"
kill -TERM $YOUNG
kill -INT $YOUNG
waitfor 20 dead $YOUNG
ok "a deaf one" waitfor 60 grep -q 'did not leave' "$T/deaf.log"
kill -TERM $DEAF
kill -INT $DEAF
waitfor 20 dead $DEAF
cat "$T/young.log" "$T/deaf.log" >>"$SEEN"
syslogd_stop
sed -n 's/^<[0-9]*>.\{15\} kfcgi\[[0-9]*\]: /kfcgi: /p' "$SYSLOG" >>"$SEEN"

# --- The three of them: source, manual and what was seen.
cat >"$T/compare.pl" <<'END'
use strict;
use warnings;
my ($src, $man, $seen) = map {
	open(my $fh, '<', $_) or die "$_: $!\n";
	local $/;
	scalar <$fh>;
} @ARGV;

# What only OpenBSD can print.
my %elsewhere = map { $_ => 1 } 'pledge: %s', 'pledge: <reason>';

my %lines = map { $_ => 1 } $seen =~ /^kfcgi: (.*)$/mg;

# A line in the manual as a pattern.
my %words = (
	'n' => '\d+', 'pid' => '\d+', 'time' => '\d+\.\d{3}', 'uid' => '\d+',
	'exited with status ...' => 'exited with status \d+',
	'was killed by signal ...' => 'was killed by signal \d+ \(.+\)',
	'was killed by a signal' => 'was killed by signal \d+ \(.+\)',
	'option' => '[A-Za-z]',
);
my ($diag) = $man =~ /^\.Sh DIAGNOSTICS\n(.*?)^\.Sh/ms or die;
my %item;
while ($diag =~ /^\.It Sy "(.*)"$/mg) {
	my $text = $1;
	$text =~ s/\\&//g;
	my $re = '';
	for (split /(<[^>]*>|\.\.\.$)/, $text) {
		if (/^<(.*)>$/) {
			$re .= exists $words{$1} ? $words{$1} : '.+';
		} else {
			$re .= $_ eq '...' ? '.+' : quotemeta;
		}
	}
	# "Where <n> is 1, what it counts is in the singular."
	$re =~ s/(\\d\+(?:\\ new)?\\ (?:worker|line))s/$1s?/g;
	$item{$text} = qr/^$re$/;
}

# What prints, with its format, as a pattern.
my %format;
$src =~ s/\\"/'/g;
while ($src =~ /\b(logit|trial_fail|fatal|errx?|warnx?|usage|worker_fault)\(
    ([^"();]*(?:\?\s*)?)((?:"[^"]*"\s*)+)(?::\s*((?:"[^"]*"\s*)+))?/gx) {
	my ($call, $level, @f) = ($1, $2, grep { defined } $3, $4);
	for my $f (map { join '', /"([^"]*)"/g } @f) {
		next if $f eq '%s' && $call !~ /^(err|warn)$/;
		$f = "worker %ld $f: stopped" if $call eq 'worker_fault';
		$f .= ': %s' if $call =~ /^(err|warn)$/;
		$f .= '; usage: kfcgi %s' if $call eq 'usage';
		my $re = join '', map { /^%.*s$/ ? '.*' : /^%c$/ ? '.' :
		    /^%/ ? '\d+' : quotemeta }
		    split /(%[-+.*0-9]*(?:ll|l|z)?[a-z])/, $f;
		$format{$f} = qr/^$re$/;
	}
}
my %hint = map { (join '', /"([^"]*)"/g) => 1 }
    $src =~ /\bhint = ((?:"[^"]*"\s*)+);/g;

sub report {
	my ($what, @bad) = @_;
	print "$what\t", scalar @bad, "\n";
	print "# $what: $_\n" for @bad;
}
print "messages\t", scalar keys %format, "\n";
print "explanations\t", scalar keys %item, "\n";
report('in the program, not seen', grep {
	my $re = $format{$_};
	!$elsewhere{$_} && !grep { /$re/ } keys %lines } sort keys %format);
report('hints, not seen', grep { my $h = $_; !grep { index($_, $h) >= 0 }
	keys %lines } sort keys %hint);
report('in the manual, not seen', grep { my $re = $item{$_};
	!$elsewhere{$_} && !grep { /$re/ } keys %lines } sort keys %item);
# One of each, for a person.
for my $f (sort keys %format) {
	my ($l) = grep { /$format{$f}/ } sort keys %lines;
	print ". $l\n" if defined $l;
}
END
perl "$T/compare.pl" "$SRC" "$MAN" "$SEEN" >"$T/result"
result_of() {
	sed -n "s/^$1	//p" "$T/result"
}
ok "messages are found in the source" test "$(result_of messages)" -gt 60
ok "and in the manual" test "$(result_of explanations)" -gt 20
for what in 'in the program, not seen' 'hints, not seen' \
    'in the manual, not seen'; do
	is "$(result_of "$what")" 0 "$what: none"
done
diag "$(sed -n -e 's/^# /BAD: /p' -e 's/^\. //p' "$T/result")"

done_testing
