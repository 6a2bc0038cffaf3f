#!/bin/sh
# The socket: its mode and owner at every moment, what may be replaced.
. ./lib.sh

mode() {
	ls -ln "$SOCK" | awk '{ print substr($1, 1, 10), $3, $4 }'
}

u=$(id -u "$WHO") g=$(id -g "$WHO")
for mask in 000 022 077 777; do
	(umask $mask; exec "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" \
	    -U "$WHO" -n 1 /bin/worker)
	PID=$(manager_pid "$SOCK")
	is "$(mode)" "srw-rw---- $u $g" "mode and owner with umask $mask"
	end_manager
done
start_daemon -n 1 /bin/worker
is "$(mode)" "srw-rw---- 0 0" "without -u it is the caller's"
if has_proc; then
	is "$(awk '/^Umask/ { print $2 }' "/proc/$(workers)/status")" 0022 \
	    "the workers have the caller's umask"
else
	skip "no /proc" "the workers have the caller's umask"
fi
end_manager
rm -f "$SOCK"

# Never wider, even for an instant: in which order things are done.  The first
# socket is the trial's: it has no name any more when it listens, so that nobody
# can connect to it.
if have strace; then
	strace -f -o "$T/trace" -e trace=umask,bind,chmod,fchmodat,lchown,chown,fchownat,listen,unlink,unlinkat,rename,renameat,renameat2 \
	    "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" -U "$WHO" -n 1 /bin/worker &
	also_kill $!
	waitfor 10 grep -qs 'rename' "$T/trace"
	waitfor 10 some_strays
	PID=$(manager_pid "$SOCK")
	is "$(sed -n -e '/rename/q' -e 's/^[0-9]* *umask(0117).*/narrow/p' \
	    -e 's/^[0-9]* *\(bind\|[lf]*chown\|chmod\|listen\|unlink\).*/\1/p' \
	    "$T/trace" | tr '\n' ' ')" \
	    "narrow bind unlink listen narrow bind fchown listen " \
	    "narrow mode, then owner, then clients, and its place at last"
	end_manager
else
	skip "no strace(1)" \
	    "narrow mode, then owner, then clients, and its place at last"
fi

# What lies at the path.
perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Type => SOCK_STREAM,
    Local => shift) or die' "$T/stale"
SOCK=$T/stale
start_daemon -n 1 /bin/worker
is "$?" 0 "a socket without an owner is replaced"
end_manager
for type in SOCK_STREAM SOCK_DGRAM; do
	rm -f "$T/foreign"
	: >"$T/out"
	perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(
	    Type => '$type', Local => shift,
	    Listen => '$type' == SOCK_STREAM ? 1 : undef) or die;
	    $| = 1; print "ready\n"; alarm 60; if ('$type' == SOCK_STREAM) {
	    $s->accept; print "client\n" } sleep 60' "$T/foreign" >"$T/out" &
	foreign=$!
	also_kill $foreign
	waitfor 10 grep -q ready "$T/out"
	SOCK=$T/foreign
	before=$(ls -li "$SOCK")
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err"
	is "$?" 1 "another server's socket ($type) is refused"
	is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" \
	    "and named"
	is "$(ls -li "$SOCK")" "$before" "and untouched"
	is "$(cat "$T/out")" ready "that server has noticed nothing"
	kill $foreign
	wait $foreign 2>/dev/null
done

# A full backlog is a live server, too.
SOCK=$T/full
start -l 1 -n 1 /bin/worker
perl -MIO::Socket::UNIX -MSocket -e 'for (1 .. 50) {
    socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; $s->blocking(0);
    connect($s, pack_sockaddr_un($ARGV[0])) or last; push @s, $s }
    $| = 1; print "ready\n"; alarm 60; sleep 60' "$SOCK" >"$T/out" &
also_kill $!
waitfor 10 grep -q ready "$T/out"
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err"
is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" \
    "a server whose backlog is full is respected"
quit

# Symbolic links are not followed to be removed.
echo precious >"$T/file"
ln -s "$T/file" "$T/link"
"$KFCGI" -p "$JAIL" -s "$T/link" -U "$WHO" /bin/worker 2>"$T/err"
is "$?" 1 "a symbolic link is refused"
ok "and stays" test -L "$T/link"


# --- The path and the working directory.
rm -rf "$T/d" && mkdir "$T/d"
# left directory...: what a start has left in there, but for sock
left() {
	find "$@" -mindepth 1 ! -name sock | wc -l | tr -d ' '
}
cd "$T/d" || exit 1
for s in x ./x ../d/x "$T/d/./x" "$T/d//x"; do
	SOCK=$s
	start_daemon -n 1 /bin/worker
	is "$?" 0 "-s $s: starts"
	ok "-s $s: the socket is there" test -S "$T/d/x"
	is "$(ls -A "$T/d")" x "-s $s: and nothing else"
	like "$(cd "$T/d" && client -q '')" "^pid" "-s $s: and serves"
	end_manager
	rm -f "$T/d/x"
done
cd "$JAIL" || exit 1
SOCK=../d/x
"$KFCGI" -p . -s "$SOCK" -U "$WHO" -n 1 bin/worker
is "$?" 0 "-p . with a relative socket path"
PID=$(manager_pid "$SOCK")
ok "its root is the working directory" is_open "$PID" root "$JAIL"
end_manager
cd / || exit 1
SOCK=$T/link.d/x
ln -s d "$T/link.d"
start_daemon -n 1 /bin/worker
is "$?" 0 "a directory by a symbolic link"
ok "is where the socket is" test -S "$T/d/x"
end_manager
rm -f "$T/d/x"
mkdir "$T/d/gone"
(
	cd "$T/d/gone" && rmdir "$T/d/gone" &&
	    exec "$KFCGI" -p "$JAIL" -s "$T/d/x" -U "$WHO" -n 1 /bin/worker
)
is "$?" 0 "a working directory that is gone, where none is needed"
PID=$(manager_pid "$T/d/x")
end_manager
rm -f "$T/d/x"

# As long as the system allows: 107 bytes on Linux.
max=$("$KFCGI" -p "$JAIL" -s "$(printf '%0300d' 0)" -U "$WHO" /bin/worker 2>&1 |
    sed -n 's/.*at most \([0-9]*\) bytes$/\1/p')
SOCK=$T/d/$(printf "%0$((max - ${#T} - 3))d" 0)
is "${#SOCK}" "$max" "a path of $max bytes"
start_daemon -n 1 /bin/worker
is "$?" 0 "starts"
like "$(fetch '')" "^pid" "and serves"
end_manager
rm -f "$SOCK"
"$KFCGI" -p "$JAIL" -s "${SOCK}0" -U "$WHO" /bin/worker 2>"$T/err"
is "$?" 1 "one byte more is refused"
is "$(left "$T/d")" 0 "and nothing left"

# refused path message: and nothing is made
refused() {
	"$KFCGI" -p "$JAIL" -s "$1" -U "$WHO" /bin/worker 2>"$T/err"
	is "$? $(cat "$T/err")" "1 kfcgi: $2" "-s $1: refused"
	is "$(left "$T/d")" 0 "-s $1: nothing made"
}
cd "$T/d" || exit 1
refused . ".: exists and is not a socket"
refused .. "..: exists and is not a socket"
refused / "-s /: ends in a slash, so it is no socket's path"
refused "$T/d/" "-s $T/d/: ends in a slash, so it is no socket's path"
refused x/ "-s x/: ends in a slash, so it is no socket's path"
refused x/y "cannot open the directory of socket x/y: No such file or directory"
refused "$T/file/y" \
    "cannot open the directory of socket $T/file/y: Not a directory"
cd / || exit 1

# Every call on the way fails once: the reason is said, with what was to be
# done, and nothing is left.  strace(1) knows the calls by more than one name.
SOCK=$T/d/x
# spoilt call what message: with a prog that cannot be started, lest it go on
spoilt() {
	if ! have strace; then
		skip "no strace(1)" "$1 fails: said" "$1 fails: nothing left"
		return
	fi
	strace -f -qq -o /dev/null -e "trace=$1" -e "inject=$1:$2" -- \
	    "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" -U "$WHO" -n 1 /bin/none \
	    2>"$T/err"
	is "$? $(cat "$T/err")" "1 kfcgi: $3" "$1 fails: said"
	is "$(left "$T/d")" 0 "$1 fails: nothing left"
}
spoilt '/^mkdir' error=EROFS \
    "cannot make a directory for socket $SOCK: Read-only file system"
spoilt bind error=ENOSPC "cannot make socket $SOCK: No space left on device"
spoilt bind error=ENOSPC:when=2 \
    "cannot make socket $SOCK: No space left on device"
spoilt '/chown' error=EPERM \
    "cannot give socket $SOCK to user $u: Operation not permitted"
spoilt listen error=EIO "cannot listen on socket $SOCK: Input/output error"
spoilt listen error=EIO:when=2 \
    "cannot listen on socket $SOCK: Input/output error"
spoilt '/^rename' error=EPERM \
    "cannot move the socket to $SOCK: Operation not permitted"
spoilt fchdir error=EIO \
    "cannot enter the directory made for socket $SOCK: Input/output error"
spoilt fchdir error=EIO:when=2 \
    "cannot return to the working directory: Input/output error"
# AddressSanitizer, which regress/sanitize brings, cannot do without that.
[ -n "${SANITIZED:-}" ] ||
	spoilt '/^(prlimit64|getrlimit|ugetrlimit)$' error=EINVAL \
	    "getrlimit: Invalid argument"
spoilt '/^pipe' error=EMFILE "cannot start: pipe: Too many open files"
spoilt '/^(clone3?|fork)$' error=EAGAIN \
    "cannot start: fork: Resource temporarily unavailable"
spoilt chroot error=EPERM "-p $JAIL: Operation not permitted"

# Without the right to give files away, for real.
if command -v setpriv >/dev/null; then
	setpriv --bounding-set=-chown --inh-caps=-chown "$KFCGI" -p "$JAIL" \
	    -s "$SOCK" -u "$WHO" -U "$WHO" -n 1 /bin/worker 2>"$T/err"
	is "$? $(cat "$T/err")" "1 kfcgi: cannot give socket $SOCK to user $u:\
 Operation not permitted" "no CAP_CHOWN: said"
	is "$(left "$T/d")" 0 "no CAP_CHOWN: nothing left"
fi

# A directory at the path, put there behind our back, is not replaced; nor is a
# leftover, unless the new socket is there.
perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Type => SOCK_STREAM,
    Local => shift) or die' "$T/d/sock"
SOCK=$T/d/sock
before=$(ls -li "$SOCK")
spoilt listen error=EIO:when=2 \
    "cannot listen on socket $SOCK: Input/output error"
is "$(ls -li "$SOCK")" "$before" "the leftover is as before"
rm -f "$SOCK"

# --- A dead listener: shut down, and still held by a process that a worker has
# left behind.
# holder how: has $SOCK, a listener that is "dead", "live" (says "client" when it
# has one), "full", or "busy": full, and taking a client three times a second
holder() {
	rm -f "$SOCK"
	: >"$T/held"
	perl -MIO::Socket::UNIX -MSocket -e '$| = 1; alarm 60;
	    $s = IO::Socket::UNIX->new(Type => SOCK_STREAM,
	    Local => $ARGV[0], Listen => 1) or die;
	    if ($ARGV[1] eq "dead") { shutdown $s, 2; print "ready\n"; sleep 60 }
	    for (1 .. ($ARGV[1] =~ /full|busy/ ? 20 : 0)) {
		socket(my $c, AF_UNIX, SOCK_STREAM, 0) or die; $c->blocking(0);
		connect($c, pack_sockaddr_un($ARGV[0])) or last; push @c, $c }
	    if ($ARGV[1] eq "full") { print "ready\n"; sleep 60 }
	    print "ready\n"; if ($ARGV[1] eq "busy") { for (;;) {
	    select(undef, undef, undef, 0.3); $s->accept } }
	    while ($s->accept) { print "client\n" }' \
	    "$SOCK" "$1" >"$T/held" &
	HOLDER=$!
	also_kill $HOLDER
	waitfor 10 grep -q ready "$T/held"
}
release() {
	kill -KILL $HOLDER
	wait $HOLDER 2>/dev/null
}
# A system that looks at the asking socket first and has one error for a full
# backlog and a dead listener, as the BSDs: EISCONN and ECONNREFUSED.
cat >"$T/bsd.c" <<'END'
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <errno.h>
#include <unistd.h>
int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage ss;
	socklen_t sslen = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &sslen) == 0) {
		errno = EISCONN;
		return -1;
	}
	if (syscall(SYS_connect, fd, sa, len) == 0)
		return 0;
	if (errno == EAGAIN)
		errno = ECONNREFUSED;
	return -1;
}
END
$CC -shared -fPIC -D_GNU_SOURCE -o "$T/bsd.so" "$T/bsd.c"
for like in linux bsd; do
	bsd=
	[ $like = linux ] || bsd=LD_PRELOAD=$T/bsd.so
	holder dead
	env $bsd "$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker \
	    2>"$T/err"
	is "$? $(errors)" "0 " "as on $like: a dead listener is replaced"
	PID=$(manager_pid "$SOCK")
	like "$(fetch '')" "^pid" "as on $like: and the new one serves"
	[ -z "$PID" ] || end_manager
	release
	holder live
	before=$(ls -li "$SOCK")
	env $bsd "$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker \
	    2>"$T/err"
	is "$? $(cat "$T/err")" \
	    "1 kfcgi: $SOCK: is in use by a running server" \
	    "as on $like: a live one is not"
	is "$(ls -li "$SOCK")" "$before" "as on $like: and untouched"
	[ $like = bsd ] || is "$(cat "$T/held")" ready "it has noticed nothing"
	release
done
# Full as on Linux, and full for a while as on the BSDs.
holder full
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker 2>"$T/err"
is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" \
    "a full backlog is a live server's"
release
holder busy
LD_PRELOAD=$T/bsd.so "$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker \
    2>"$T/err"
is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" \
    "as on bsd: one with a full backlog that takes clients lives"
release
rm -f "$SOCK"

# A worker's job that has the listener, for real: the first is stopped, and the
# second starts.
cat >"$T/job.c" <<'END'
#include <sys/types.h>
#include <signal.h>
#include <unistd.h>
int
main(void)
{
	/* The job keeps descriptor 0, in a session of its own. */
	alarm(60);
	if (fork() == 0) {
		setsid();
		alarm(60);
		for (;;)
			pause();
	}
	for (;;)
		pause();
}
END
$CC -static -o "$JAIL/bin/job" "$T/job.c"
start_daemon -n 1 /bin/job
is "$?" 0 "a worker that leaves a job behind: starts"
also_kill $(strays)
quit
ok "the job is there when the pool has gone" some_strays
jobs=$(strays)
start_daemon -n 1 /bin/worker
is "$? $(errors)" "0 " "the next start does not mind"
like "$(fetch '')" "^pid" "and serves"
end_manager
kill -KILL $jobs
rm -f "$SOCK" "$JAIL/bin/job"
waitfor 10 no_strays

# --- A directory that belongs to somebody else, who does all that can be done
# there while we start.  $A/d is the socket's directory; $A is that user's, too.
A=$T/a
V=$T/victim
mkdir -p "$A/d" "$A/links" "$V/dir"
echo precious >"$V/file"
chmod 600 "$V/file"
chmod 700 "$V/dir"
echo precious >"$V/dir/sock"
i=0
while [ $i -lt 400 ]; do
	ln "$V/file" "$A/links/$i"
	i=$((i + 1))
done
chown -R "$WHO" "$A/d"
chown "$WHO" "$A" "$A/links"
chown root "$A/links"/*
cat >"$T/attack.c" <<'END'
/*
 * attack what victim-file victim-directory: until killed, in the working
 * directory, see above.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t ended;
static unsigned int met;		/* things of root's that were met */

static void
on_term(int sig)
{
	ended = sig;
}

static int
own_socket(const char *path)
{
	struct sockaddr_un sun;
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	unlink(path);
	(void)bind(s, (struct sockaddr *)&sun, sizeof(sun));
	return s;
}

/* The socket's name: has root made one?  Puts something else there. */
static void
name(const char *victim)
{
	static unsigned int n, nlinks;
	struct stat st;
	char buf[64];
	int s = -1;

	if (lstat("d/sock", &st) == -1)
		return;
	if (!S_ISSOCK(st.st_mode) || st.st_uid == getuid()) {
		unlink("d/sock");
		return;
	}
	met++;
	switch (n++ % 4) {
	case 0:
		(void)symlink(victim, "l");
		(void)rename("l", "d/sock");
		break;
	case 1:
	case 2:
		snprintf(buf, sizeof(buf), "links/%u", nlinks++);
		(void)rename(buf, "d/sock");
		break;
	case 3:
		s = own_socket("s");
		(void)rename("s", "d/sock");
		break;
	}
	usleep(300);
	if (s != -1)
		close(s);
	(void)unlink("d/sock");
}

/* The private directory: renames it away, puts another there. */
static void
private(const char *victimdir)
{
	static unsigned int n;
	struct dirent *de;
	char path[300], away[64];
	DIR *d;

	if ((d = opendir("d")) == NULL)
		return;
	while ((de = readdir(d)) != NULL) {
		if (strncmp(de->d_name, ".kfcgi.", 7) != 0)
			continue;
		snprintf(path, sizeof(path), "d/%s", de->d_name);
		snprintf(away, sizeof(away), "d/away.%u", n);
		if (rename(path, away) == -1)
			continue;
		met++;
		switch (n++ % 4) {
		case 0:
			(void)symlink(victimdir, path);
			break;
		case 1:
			(void)mkdir(path, 0700);
			break;
		case 2:
			(void)mkdir(path, 0777);
			snprintf(path, sizeof(path), "d/%s/sock", de->d_name);
			(void)symlink("/none", path);
			break;
		}
		usleep(300);
		snprintf(path, sizeof(path), "d/%s", de->d_name);
		(void)unlink(path);
	}
	closedir(d);
}

/* The directory itself: another is there for a while. */
static void
directory(void)
{
	if (rename("d", "e") == -1)
		return;
	met++;
	if (mkdir("d", 0755) == 0)
		usleep(300);
	(void)rename("d", "f");
	(void)rename("e", "d");
	(void)unlink("f/sock");
	(void)rmdir("f");
	usleep(1000);
}

int
main(int argc, char *argv[])
{
	unsigned int n;

	alarm(100);
	signal(SIGTERM, on_term);
	if (argc != 4)
		return 1;
	puts("ready");
	fflush(stdout);
	for (n = 0; !ended; n++) {
		if (strchr(argv[1], 'n') != NULL)
			name(argv[2]);
		if (strchr(argv[1], 'p') != NULL)
			private(argv[3]);
		if (strchr(argv[1], 'd') != NULL && n % 50 == 0)
			directory();
	}
	printf("met %u\n", met);
	return 0;
}
END
$CC -D_GNU_SOURCE -o "$T/attack" "$T/attack.c"
chmod 755 "$T/attack"
victims() {
	cat "$V/file" "$V/dir/sock"
	# The links' number falls, as he removes those he was given.
	perl -e 'for (@ARGV) { my @s = lstat; print "$_ @s[2, 4, 5, 7, 9]\n" }' \
	    "$V" "$V/file" "$V/dir" "$V/dir/sock"
	find "$V" | sort
	ls -ld "$T/file" "$JAIL" "$JAIL/bin" "$JAIL/bin/worker"
	ls -A "$T"
}
: >"$T/attacked"
SOCK=$A/d/sock
for what in n p d npd; do
	: >"$T/ready"
	# Not as_user, as $! is to be that process.
	perl -e '($u, $g) = (getpwnam(shift))[2, 3]; chdir shift or die;
	    $( = $) = "$g $g"; $< = $> = $u; exec @ARGV or die' "$WHO" "$A" \
	    "$T/attack" $what "$V/file" "$V/dir" \
	    >"$T/ready" 2>&1 &
	attacker=$!
	also_kill $attacker
	waitfor 10 grep -q ready "$T/ready"
	: >"$T/said"
	before=$(victims)
	i=0
	while [ $i -lt 50 ]; do
		"$KFCGI" -p "$JAIL" -s "$SOCK" -u daemon -U "$WHO" -n 1 \
		    /bin/none 2>>"$T/said" && echo started >>"$T/said"
		i=$((i + 1))
	done
	is "$(victims)" "$before" "attack $what: nothing outside is touched"
	ok "attack $what: the attacker is still at it" alive $attacker
	kill -TERM $attacker
	wait $attacker 2>/dev/null
	met=$(sed -n 's/^met //p' "$T/ready")
	ok "attack $what: and has met something" test "${met:-0}" -ge 1
	diag "attack $what: met ${met:-nothing}"
	is "$(grep -c '^kfcgi: ' "$T/said") $(grep -vc '^kfcgi: ' "$T/said")" \
	    "50 0" "attack $what: each start says one line"
	diag "$(sed -e "s/\.kfcgi\.[0-9a-f]*/.../" "$T/said" | sort | uniq -c)"
	find "$A" -mindepth 1 -maxdepth 1 -name '[ef]' -exec rm -rf {} +
	[ -d "$A/d" ] || mkdir "$A/d"
	rm -rf "$A/d"/* "$A/d"/.kfcgi.*
	chown "$WHO" "$A/d"
done
is "$(ls -ln "$V/file" | awk '{ print $1, $3, $4 }')" "-rw------- 0 0" \
    "nor at last"
start_daemon -u "$WHO" -n 1 /bin/worker
is "$? $(mode)" "0 srw-rw---- $u $g" "and when they have gone, it starts"
is "$(ls -A "$A/d")" sock "with nothing but the socket there"
end_manager

# Symbolic links on the way to the socket: root's are followed, others' are not.
mkdir "$T/root" "$T/theirs"
chown "$WHO" "$T/theirs"
ln -s root "$T/rootway"
ln -s "$T/root" "$T/theirs/way"
is "$("$KFCGI" -p "$JAIL" -s "$T/theirs/way/sock" -U "$WHO" /bin/worker 2>&1)" \
    "kfcgi: -s $T/theirs/way/sock: way is a symbolic link where others than root may make one" \
    "a link that somebody else made is refused"
is "$(ls -A "$T/root")" "" "and nothing is made where it points"
SOCK=$T/rootway/sock
start_daemon -n 1 /bin/worker
is "$?" 0 "a link that root made is followed"
like "$(fetch '')" '^pid' "and the pool serves"
end_manager

done_testing
