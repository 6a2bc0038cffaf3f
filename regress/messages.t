#!/bin/sh
# Every message that the program can print is printed by some test, so whoever
# changes one reads what it looks like.  What the other tests made kfcgi say is
# in $KFCGI_LEFT, see lib.sh; those that have not left anything, because this
# file is run alone, are run first.  Provoked here is only what no other test
# provokes, mostly by calls that fail.
: "${TEST_ALARM:=1200}"
. ./devlog.sh

[ "$(uname -s)" = Linux ] || skip_all "calls are made to fail as Linux has them"
SRC=$REGRESS/../kfcgi.c
: "${KFCGI_LEFT:=$T/others}"
export KFCGI_LEFT
mkdir -p "$KFCGI_LEFT"

# Side by side, since all wait more than they work.
for t in args start stop socket trial odd reload security shortage traffic \
    log; do
	[ ! -e "$KFCGI_LEFT/$t.t" ] || continue
	DEVLOG_ALONE= TEST_ALARM= sh "$REGRESS/$t.t" >"$T/$t.tap" 2>&1 </dev/null &
	BESIDE="$BESIDE $!"
done
[ -z "$BESIDE" ] || wait $BESIDE
BESIDE=
for t in "$T"/*.tap; do
	[ ! -e "$t" ] || diag "${t##*/}: $(grep -A 2 '^not ok' "$t")"
done

# With BROKEN=" call:n ..." in the environment, kfcgi's calls of those functions
# fail from the nth on; with call:n=0 they return 0 instead, and do nothing; with
# call:n=-1/e they have errno e.  With late:n=s the nth fork(2) takes s seconds; 21 have
# passed when there is a file $LATER.
cat >"$T/broken.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <time.h>
static long	 late;
int	 snprintf(char *, size_t, const char *, ...);
int	 access(const char *, int);
int	 sscanf(const char *, const char *, ...);
char	*getenv(const char *);
static int
is_broken(const char *name, int n, long *rv)
{
	const char	*list = getenv("BROKEN");
	char		 key[40];
	int		 from, error = EAGAIN;

	(void)snprintf(key, sizeof(key), " %s:", name);
	if (list == NULL || (list = strstr(list, key)) == NULL)
		return 0;
	*rv = -1;
	(void)sscanf(list + strlen(key), "%d=%ld/%d", &from, rv,
	    &error);
	if (n < from)
		return 0;
	errno = error;
	return 1;
}
#define CALL(name)	CALLS(name, name)
#define CALLS(name, function)						\
long									\
function(long a, long b, long c, long d, long e)				\
{									\
	static long	(*next)(long, long, long, long, long);		\
	static int	 n;						\
	long		 rv;						\
									\
	if (is_broken(#name, ++n, &rv))					\
		return rv;						\
	if (next == NULL)						\
		next = dlsym(RTLD_NEXT, #function);			\
	return next(a, b, c, d, e);					\
}
long
fork(void)
{
	static long	(*next)(void);
	static int	 n;
	long		 before = late, rv;

	if (is_broken("fork", ++n, &rv))
		return rv;
	if (is_broken("late", n, &rv))
		late = rv;
	if (next == NULL)
		next = dlsym(RTLD_NEXT, "fork");
	/* In that child, all takes its time. */
	if ((rv = next()) == 0 && late != before)
		(void)usleep(300000);
	return rv;
}
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	static int	(*next)(clockid_t, struct timespec *);
	const char	*file = getenv("LATER");
	int		 rv;

	if (next == NULL)
		next = dlsym(RTLD_NEXT, "clock_gettime");
	rv = next(clock, ts);
	ts->tv_sec += late;
	if (file != NULL && access(file, 0) == 0)
		ts->tv_sec += 21;
	return rv;
}
END
for call in bind calloc chdir chmod chroot fcntl getcwd getegid geteuid getgid \
    getpwnam getrlimit getuid initgroups lchown listen lstat open pipe poll \
    prctl sendmsg setenv seteuid setgroups setpgid setresgid setresuid setsid setuid \
    sigaction sigprocmask socket socketpair umask unlink unsetenv; do
	echo "CALL($call)"
	case $call in
	fcntl|getrlimit|lstat|open)	echo "CALLS($call, ${call}64)" ;;
	esac
done >>"$T/broken.c"
$CC -w -fno-builtin -shared -fPIC -o "$T/broken.so" "$T/broken.c" -ldl || exit 1

# spoilt calls message options...: a start in which those calls fail says that,
# and what lies in the socket's directory is as before
mkdir "$T/d"
SOCK=$T/d/sock
spoilt() {
	_calls=$1 _message=$2
	_left=$(ls -liA "$T/d")
	shift 2
	timeout 60 env LD_PRELOAD="$T/broken.so" BROKEN=" $_calls" "$KFCGI" \
	    -p "$JAIL" -s "$SOCK" -U "$WHO" "$@" </dev/null 2>"$T/err"
	is "$? $(sed 's/: Resource temporarily unavailable$/: EAGAIN/' \
	    "$T/err")" "1 kfcgi: $_message" "without $_calls${1:+, $*}" || {
		PID=$(manager_pid "$SOCK")
		[ -z "$PID" ] || end_manager
	}
	is "$(ls -liA "$T/d")" "$_left" "without $_calls: nothing left"
}

# Of lstat there is one for each directory on the way to the socket, the next is
# for the socket.
n=$(echo "$SOCK" | tr -cd / | wc -c)
while IFS='|' read -r calls message; do
	spoilt "$calls" "$message" -n 1 /bin/worker
done <<END
open:1|/dev/null: EAGAIN
fcntl:1|/dev/null: EAGAIN
getpwnam:1=0|-U $WHO: cannot look the user up: EAGAIN
poll:4=-1/1|cannot wait for events: Operation not permitted
sigprocmask:1|cannot set up a worker: sigprocmask: EAGAIN
sigaction:1|cannot catch signals: EAGAIN
sigaction:66|cannot catch signals: EAGAIN
getrlimit:1|getrlimit: EAGAIN
lstat:1|cannot reach the directory of socket $SOCK: /: EAGAIN
lstat:$((n + 1))|cannot look at socket $SOCK: EAGAIN
socket:1|cannot make socket $SOCK: EAGAIN
fcntl:2|cannot make socket $SOCK: EAGAIN
bind:1|cannot make socket $SOCK: EAGAIN
listen:1|cannot listen on socket $SOCK: EAGAIN
bind:2|cannot make socket $SOCK: EAGAIN
umask:1 chmod:1|cannot set owner and mode of socket $SOCK: EAGAIN
listen:2|cannot listen on socket $SOCK: EAGAIN
pipe:1|cannot start: EAGAIN
fcntl:4|cannot start: EAGAIN
fork:1|cannot start: EAGAIN
setsid:1|cannot leave the session: EAGAIN
pipe:2|cannot make a pipe for signals: EAGAIN
pipe:3|cannot make a pipe for the workers' output: EAGAIN
chroot:1|cannot enter jail $JAIL: EAGAIN
chdir:1|cannot enter jail $JAIL: EAGAIN
setgroups:1|cannot become user $WHO: EAGAIN
setresgid:1|cannot become user $WHO: EAGAIN
setresuid:1|cannot become user $WHO: EAGAIN
setuid:1=0|cannot drop privileges for good as user $WHO: EAGAIN
seteuid:1=0|cannot drop privileges for good as user $WHO: EAGAIN
getuid:2|cannot drop privileges for good as user $WHO: EAGAIN
geteuid:5|cannot drop privileges for good as user $WHO: EAGAIN
getgid:4|cannot drop privileges for good as user $WHO: EAGAIN
getegid:1|cannot drop privileges for good as user $WHO: EAGAIN
unsetenv:1|cannot set the environment: EAGAIN
calloc:1=0|cannot start: EAGAIN
setpgid:1|cannot set up a worker: process group: EAGAIN
prctl:1|cannot set up a worker: prctl: EAGAIN
END
spoilt lchown:1 "cannot set owner and mode of socket $SOCK: EAGAIN" \
    -u "$WHO" /bin/worker
spoilt getcwd:1=0 "cannot find the directory of -s x: EAGAIN" -s x /bin/worker
mkdir -m 777 "$T/w"
spoilt initgroups:1 "cannot change to the rights of user $(id -u "$WHO"):\
 EAGAIN" -u "$WHO" -s "$T/w/sock" /bin/worker
spoilt setenv:1 "cannot set the environment: EAGAIN" -r /bin/worker
spoilt socketpair:1 "cannot start a worker: EAGAIN" -r /bin/worker

# Killed while starting.
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err" &
shell=$!
waitfor 10 eval '! no_strays'
kill -KILL "$(children $shell)"
wait $shell
is "$? $(cat "$T/err")" \
    "1 kfcgi: the manager was killed by signal 9 while starting" \
    "the manager killed while starting"
fails "no socket is left" test -e "$SOCK"

# Left alone while starting.
syslogd_start
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err" &
shell=$!
waitfor 10 eval '! no_strays'
kill -KILL $shell
wait $shell
ok "the starting process killed" \
    waitfor 10 grep -q 'the starting process is gone: stopping$' "$SYSLOG"
ok "no pool that nobody knows of" waitfor 10 no_strays

# Lines that are longer than one of the log are split between characters.
cat >"$T/long.pl" <<'END'
my $text = join '', map { "x" . $_ x 500 . "\n" }
    "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80";
if (@ARGV) {
	while (<>) {
		/ worker: (.*)/ or next;
		$got .= $1;
		utf8::decode($t = $1) or die "split: $1";
	}
	$text =~ tr/\n//d;
	exit $got ne $text x 2;		# that of the trial, too
}
alarm 60;
print STDERR $text;
sleep;
END
>"$SYSLOG"
start_daemon -n 1 -p / "$(command -v perl)" "$T/long.pl"
ok "long lines in UTF-8" waitfor 5 perl "$T/long.pl" "$SYSLOG"
end_manager
syslogd_stop

# refused message prog...: a start with -r of a program that takes that for
# something else
refused() {
	_message=$1
	shift
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -r "$@" </dev/null 2>"$T/err"
	is "$? $(sed 's/[0-9][0-9.]*/N/g' "$T/err")" \
	    "1 kfcgi: worker N of $1 $_message" "-r $*: refused"
}
refused "exited with status N after N s: does it speak what -r asks\
 for?" /bin/worker -E 0
refused "was killed by signal N (Aborted) after N s: OpenBSD ends a\
 program so if its dynamic loader is missing in the jail" /bin/worker -S 6
JAIL=/
odd='alarm 60; open F, "+<&=3"; $_ = 1 x 8;'
perl=$(command -v perl)
refused "closed its control socket" "$perl" -e "$odd close F; sleep"
refused "wrote to its control socket unasked" "$perl" -e "$odd syswrite F, \$_;
    sleep"
start -r -n 1 "$perl" -e "$odd sysread F, \$_, 8; syswrite F, \$_ x 2; sleep"
client -q '' >/dev/null
ok "a cookie and more" waitfor 10 logged \
    '^kfcgi: worker [0-9]+ wrote more than its cookie: stopped$'
quit_now
JAIL=$T/jail

# Calls that fail in a start that meets another's socket, alive or left behind.
start -n 1 /bin/worker
spoilt socket:1 "cannot connect to socket $SOCK: EAGAIN" /bin/worker
quit
spoilt fcntl:2 "cannot connect to socket $SOCK: EAGAIN" /bin/worker
spoilt unlink:1 "cannot remove socket $SOCK: EAGAIN" /bin/worker
LD_PRELOAD=$T/broken.so BROKEN=' sendmsg:1' start -r -n 1 /bin/worker
client -q '' >/dev/null 2>&1 &
also_kill $!
ok "a worker that does not read" waitfor 10 logged \
    '^kfcgi: worker [0-9]+ does not read its control socket: stopped$'
quit_now

# The manager is stopped for 21 seconds in fork(2): the worker has its own 20.
LD_PRELOAD=$T/broken.so BROKEN=' late:2=21' start -n 2 /bin/worker
is "$(grep -c 'does not answer' "$LOG") $(nworkers)" "0 2" \
    "stopped in fork(2): no worker is killed for it"
quit

# A program with four places, and four workers.  21 seconds after the start one
# dies young: the program is in doubt, and one on trial finds no place.
cat >"$T/places.pl" <<'END'
$^F = 100;
for (@ARGV) {
	open my $f, '<', $_ or die;
	exec $^X, '-e', 'alarm 60; sleep' if flock $f, 6;
}
die "no place\n";
END
touch "$T/1" "$T/2" "$T/3" "$T/4"
for r in "" -r; do
	rm -f "$T/later"
	LD_PRELOAD=$T/broken.so LATER=$T/later start $r -n 4 -N 4 -p / \
	    "$perl" "$T/places.pl" "$T/1" "$T/2" "$T/3" "$T/4"
	touch "$T/later"
	status >/dev/null	# it has seen that
	for i in 1 2; do
		kill -KILL "$(workers | sort -n | tail -n 1)"
		waitfor 10 logged 'worker .* was killed by signal 9' $i
		waitfor 10 has_workers 4
	done
	ok "places, ${r:-fixed}: one on trial finds none" \
	    waitfor 10 logged '^no place'
	sleep 2.5
	ok "places, ${r:-fixed}: the pool is whole" waitfor 10 has_workers 4
	fails "places, ${r:-fixed}: and not called broken" \
	    logged 'no new workers for now'
	quit
done

# An old worker that is deaf has 20 seconds.
LD_PRELOAD=$T/broken.so LATER=/later start -n 1 /bin/worker -t
kill -HUP "$PID"
waitfor 10 logged '^kfcgi: reloaded:'
touch "$JAIL/later"
status >/dev/null
ok "a deaf worker is killed" \
    waitfor 10 logged 'did not leave within 20 s of SIGTERM: killed$'
quit_now

# All formats of the source, and all hints, that are in no line that was left.
cat "$KFCGI_LEFT"/* | sed 's/^<[0-9]*>.* kfcgi\[[0-9]*\]: /kfcgi: /' >"$T/seen"
cat >"$T/compare.pl" <<'END'
use strict;
use warnings;
my ($src, $seen) = map {
	open(my $fh, '<', $_) or die "$_: $!\n";
	local $/;
	scalar <$fh>;
} @ARGV;
$src =~ s/\\"/'/g;
my $string = qr/(?:"[^"]*"\s*)+/;
my (%pattern, @hints);
while ($src =~ /\b(logit|trial_fail|fatal|errx?|warnx?|
    worker_fault)\([^"();]*(?:\?\s*)?($string)(?::\s*($string))?/gx) {
	my $call = $1;
	for my $f (map { join '', /"([^"]*)"/g } grep { defined } $2, $3) {
		next if $f eq '%s' && $call !~ /^(err|warn)$/;
		$f = "worker %ld $f: stopped" if $call eq 'worker_fault';
		$f .= ': %s' if $call =~ /^(err|warn)$/;
		next if $call eq 'fatal' && $f eq '';
		$f = "cannot $f%s: %s" if $call eq 'fatal';
		my $re = join '', map { /^%.*s$/ ? '.*' : /^%c$/ ? '.' :
		    /^%/ ? '\d+' : quotemeta }
		    split /(%[-+.*0-9]*(?:ll|l|z)?[a-z])/, $f;
		$re = "^kfcgi: $re" if $call ne 'trial_fail';
		$pattern{$f} = qr/$re$/m;
	}
}
push @hints, map { join '', /"([^"]*)"/g } $1 =~ /($string)/g
    while $src =~ /\bhint = ([^;]*);/g;
print scalar keys %pattern, ' ', scalar @hints, "\n";
# Only OpenBSD can print that.
delete $pattern{'cannot pledge%s: %s'};
print "$_\n" for sort((grep { $seen !~ $pattern{$_} } keys %pattern),
    grep { index($seen, $_) < 0 } @hints);
END
perl "$T/compare.pl" "$SRC" "$T/seen" >"$T/result"
read -r messages hints <"$T/result"
ok "messages and hints are found in the source: $messages $hints" \
    test "${messages:-0}" -gt 50 -a "${hints:-0}" -gt 4
is "$(sed 1d "$T/result")" "" "and each has been seen"

done_testing
