#!/bin/sh
# What a worker can do to others.  The worker here is an enemy: it has been
# taken over, runs as procuser in the jail, and tries what may be tried.  What
# it can do is recorded with the reason, and is what the manual says.
. ./lib.sh

[ "$(uname -s)" = Linux ] || skip_all "the attempts are for Linux"

# No FastCGI: a connection brings one line, "verb argument...", and is answered
# with lines "what: result".
cat >"$T/enemy.c" <<'END'
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open	434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd	438
#endif

static int	 ctl = -1;		/* control socket, with -r */
static int	 conn;			/* what is asked, and answered, on */

/* The result of what is expected to be -1 with an errno. */
static void
tell(int fd, const char *what, long rv)
{
	dprintf(fd, "%s: %s\n", what, rv == -1 ? strerror(errno) : "done");
}

/* In a child, as what succeeds may change who we are. */
#define ATTEMPT(what, call) do {					\
	pid_t pid_ = fork();						\
	if (pid_ == 0) {						\
		alarm(20);						\
		tell(fd, what, (long)(call));				\
		_exit(0);						\
	}								\
	waitpid(pid_, NULL, 0);						\
} while (0)

static long
fds_fchdir(void)
{
	int	 i, n = 0;

	for (i = 0; i < 1024; i++) {
		if (fcntl(i, F_GETFD) == -1)
			continue;
		if (fchdir(i) == 0 || openat(i, "..", O_RDONLY) != -1)
			n++;
	}
	errno = ENOTDIR;
	return n > 0 ? 0 : -1;
}

static long
up(void)
{
	struct stat	 before, after;
	int		 i;

	stat("/", &before);
	for (i = 0; i < 50; i++)
		(void)chdir("..");
	stat(".", &after);
	errno = EXDEV;
	return before.st_ino != after.st_ino || before.st_dev != after.st_dev ?
	    0 : -1;
}

static void
jail(int fd)
{
	struct sockaddr_un sun;
	int	 i, s;

	dprintf(fd, "descriptors:");
	for (i = 0; i < 4096; i++)
		if (i != fd && fcntl(i, F_GETFD) != -1)
			dprintf(fd, " %d", i);
	dprintf(fd, "\n");
	ATTEMPT("fchdir", fds_fchdir());
	ATTEMPT("up", up());
	ATTEMPT("proc", open("/proc/self/fd", O_RDONLY));
	ATTEMPT("dev", open("/dev/null", O_RDWR));
	ATTEMPT("chroot", chroot("/bin"));
	ATTEMPT("mknod", mknod("/disk", S_IFBLK | 0600, makedev(8, 0)));
	ATTEMPT("mount", mount("none", "/bin", "proc", 0, NULL));
	ATTEMPT("userns", unshare(CLONE_NEWUSER));
	ATTEMPT("setuid", setuid(0));
	ATTEMPT("seteuid", seteuid(0));
	ATTEMPT("setresuid", setresuid(-1, -1, 0));
	ATTEMPT("setgid", setgid(0));
	ATTEMPT("setgroups", setgroups(0, NULL));
	ATTEMPT("write prog", open("/bin/enemy", O_WRONLY));
	ATTEMPT("unlink prog", unlink("/bin/enemy"));
	ATTEMPT("rename prog", rename("/bin/enemy", "/bin/friend"));
	ATTEMPT("create", open("/bin/new", O_CREAT | O_RDWR, 0755));

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	strcpy(sun.sun_path, "/run/sock");
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	ATTEMPT("connect", connect(s, (struct sockaddr *)&sun, sizeof(sun)));
	ATTEMPT("chmod socket", chmod("/run/sock", 0666));
	ATTEMPT("rename socket", rename("/run/sock", "/run/away"));
	ATTEMPT("unlink socket", unlink("/run/sock"));
	ATTEMPT("bind socket", bind(s, (struct sockaddr *)&sun, sizeof(sun)));
}

/* A descriptor of another process, by pidfd_getfd(2). */
static long
steal(pid_t pid, int fd)
{
	int	 p = (int)syscall(SYS_pidfd_open, pid, 0);

	return p == -1 ? -1 : syscall(SYS_pidfd_getfd, p, fd, 0);
}

static long
attach(pid_t pid)
{
	int	 ws;

	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) == -1)
		return -1;
	waitpid(pid, &ws, 0);
	return ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

/* Its memory, at an address that is good in us and so perhaps in it. */
static long
readv_of(pid_t pid)
{
	static char	 here[8];
	struct iovec	 l = { here, 8 }, r = { here, 8 };

	return process_vm_readv(pid, &l, 1, &r, 1, 0) == -1 && errno != EFAULT ?
	    -1 : 0;
}

static long
writev_of(pid_t pid)
{
	static char	 here[8];
	struct iovec	 l = { here, 8 }, r = { here, 8 };

	return process_vm_writev(pid, &l, 1, &r, 1, 0) == -1 &&
	    errno != EFAULT ? -1 : 0;
}

/* What of it is in /proc, when that is in the jail. */
static void
proc(int fd, const char *pid)
{
	static const char *const names[] = { "mem", "maps", "environ", "fd",
	    "fd/1", "root/", "cwd/", "syscall", "auxv", "cmdline" };
	char		 path[64];
	size_t		 i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, names[i]);
		ATTEMPT(names[i], open(path, O_RDONLY));
	}
	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	ATTEMPT("write mem", open(path, O_RDWR));
}

/* Our own descriptors, and the same files opened once more. */
static void
self(int fd)
{
	struct stat	 root, up;
	char		 path[64], to[256], what[32];
	ssize_t		 n;
	int		 i;

	for (i = 0; i < 4096; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		if (i == fd || (n = readlink(path, to, sizeof(to) - 1)) == -1)
			continue;
		to[n] = '\0';
		dprintf(fd, "fd %d: %s\n", i, to);
		snprintf(what, sizeof(what), "read %d", i);
		ATTEMPT(what, open(path, O_RDONLY | O_NONBLOCK));
		snprintf(what, sizeof(what), "write %d", i);
		ATTEMPT(what, open(path, O_WRONLY | O_NONBLOCK));
	}
	ATTEMPT("write exe", open("/proc/self/exe", O_WRONLY));
	if (stat("/", &root) == -1 || stat("/proc/self/cwd/..", &up) == -1)
		tell(fd, "cwd/..", -1);
	else
		dprintf(fd, "cwd/..: %s\n", root.st_dev == up.st_dev &&
		    root.st_ino == up.st_ino ? "the same" : "another");
	ATTEMPT("terminal", open("/dev/tty", O_RDWR));
	ATTEMPT("userns", unshare(CLONE_NEWUSER));
}

static void
other(int fd, pid_t pid)
{
	struct rlimit	 rl;

	ATTEMPT("ptrace", attach(pid));
	ATTEMPT("read memory", readv_of(pid));
	ATTEMPT("write memory", writev_of(pid));
	ATTEMPT("take descriptor", steal(pid, 0));
	ATTEMPT("signal", kill(pid, 0));
	ATTEMPT("limits", prlimit(pid, RLIMIT_CORE, NULL, &rl));
	ATTEMPT("set limits", prlimit(pid, RLIMIT_CORE, &rl, NULL));
	ATTEMPT("priority", setpriority(PRIO_PROCESS, pid, 1));
}

/* Descriptors and too many bytes for the manager, to keep. */
static long
rights(void)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(3 * sizeof(int))];
	} c;
	struct iovec	 iov = { "12345678", 8 };
	struct msghdr	 msg;
	int		 fds[3] = { 0, 1, 2 };

	memset(&msg, 0, sizeof(msg));
	memset(&c, 0, sizeof(c));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = c.buf;
	msg.msg_controllen = sizeof(c.buf);
	c.hdr.cmsg_len = CMSG_LEN(sizeof(fds));
	c.hdr.cmsg_level = SOL_SOCKET;
	c.hdr.cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(&c.hdr), fds, sizeof(fds));
	return sendmsg(ctl, &msg, 0);
}

/* A connection and its cookie from a control socket, or -1. */
static int
take(int from, char *cookie)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec	 iov = { cookie, 8 };
	struct msghdr	 msg;
	int		 fd;

	memset(&msg, 0, sizeof(msg));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = c.buf;
	msg.msg_controllen = sizeof(c.buf);
	if (recvmsg(from, &msg, 0) <= 0 || CMSG_FIRSTHDR(&msg) == NULL)
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* Another worker's control socket: the next request, and an answer to it. */
static void
hijack(int fd, pid_t pid)
{
	char	 cookie[8], c;
	int	 it, s;

	if (kill(pid, SIGSTOP) == -1 || (s = (int)steal(pid, 3)) == -1)
		tell(fd, "hijack", -1);
	else if ((it = take(s, cookie)) == -1)
		tell(fd, "hijack", -1);
	else {
		while (read(it, &c, 1) == 1 && c != '\n')
			continue;
		dprintf(it, "served by %d\n", (int)getpid());
		shutdown(it, SHUT_RDWR);
		close(it);
		tell(fd, "hijack", write(s, cookie, sizeof(cookie)));
		close(s);
	}
	kill(pid, SIGCONT);
}

/* Or a cookie that it never had. */
static long
forge(pid_t pid)
{
	int	 s = (int)steal(pid, 3);

	return s == -1 ? -1 : write(s, "12345678", 8);
}

/* By another process's descriptor of a directory, out of the jail. */
static long
leave(pid_t pid, int dir)
{
	int	 d = (int)steal(pid, dir);

	return d == -1 ? -1 : fchdir(d) == -1 ? -1 : open("passwd", O_RDONLY);
}

/* Out of the process group and the session. */
static void
daemonize(int fd)
{
	pid_t	 pid;

	if ((pid = fork()) != 0) {
		dprintf(fd, "%d\n", (int)pid);
		return;
	}
	setsid();
	alarm(120);
	close(fd);
	for (;;)
		pause();
}

/* Network and abstract sockets, which are not of the file system. */
static void
reach(int fd, int port, const char *name)
{
	struct sockaddr_in	 sin;
	struct sockaddr_un	 sun;
	int			 s;

	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_port = htons(port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s = socket(AF_INET, SOCK_STREAM, 0);
	ATTEMPT("loopback", connect(s, (struct sockaddr *)&sin, sizeof(sin)));
	close(s);
	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	snprintf(sun.sun_path + 1, sizeof(sun.sun_path) - 1, "%s", name);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	ATTEMPT("abstract", connect(s, (struct sockaddr *)&sun,
	    offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
	close(s);
}

static long
read_tty(void)
{
	char	 buf[64];
	ssize_t	 n = read(2, buf, sizeof(buf) - 1);

	if (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n <= 0)
		return -1;
	dprintf(conn, "has read: %.*s\n", (int)n, buf);
	return 0;
}

static void
tty(int fd)
{
	struct termios	 t;

	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	ATTEMPT("open", open("/dev/tty", O_RDWR));
	ATTEMPT("read in the background", read_tty());
	ATTEMPT("foreground", tcsetpgrp(2, getpgrp()));
	ATTEMPT("read", read_tty());
	ATTEMPT("type", ioctl(2, TIOCSTI, "i") == -1 ? -1 :
	    ioctl(2, TIOCSTI, "d") == -1 ? -1 : ioctl(2, TIOCSTI, "\n"));
	ATTEMPT("become its owner", ioctl(2, TIOCSCTTY, 0));
	ATTEMPT("settings", tcgetattr(2, &t) == -1 ? -1 :
	    tcsetattr(2, TCSANOW, &t));
	ATTEMPT("non-blocking", fcntl(2, F_SETFL,
	    fcntl(2, F_GETFL) | O_NONBLOCK));
}

static int
signal_of(const char *name)
{
	return strcmp(name, "STOP") == 0 ? SIGSTOP :
	    strcmp(name, "HUP") == 0 ? SIGHUP :
	    strcmp(name, "TERM") == 0 ? SIGTERM :
	    strcmp(name, "KILL") == 0 ? SIGKILL : 0;
}

static void
serve(int fd)
{
	char	 line[256], arg[64] = "", verb[64] = "", more[64] = "";
	size_t	 n = 0;

	conn = fd;
	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 &&
	    line[n] != '\n')
		n++;
	line[n] = '\0';
	sscanf(line, "%60s %60s %60s", verb, arg, more);
	if (atoi(arg) == getpid())
		dprintf(fd, "self: done\n");
	else if (strcmp(verb, "pid") == 0)
		dprintf(fd, "%d\n", (int)getpid());
	else if (strcmp(verb, "jail") == 0)
		jail(fd);
	else if (strcmp(verb, "other") == 0)
		other(fd, atoi(arg));
	else if (strcmp(verb, "proc") == 0)
		proc(fd, arg);
	else if (strcmp(verb, "self") == 0)
		self(fd);
	else if (strcmp(verb, "tty") == 0)
		tty(fd);
	else if (strcmp(verb, "kill") == 0)
		tell(fd, "kill", kill(atoi(arg), signal_of(more)));
	else if (strcmp(verb, "hijack") == 0)
		hijack(fd, atoi(arg));
	else if (strcmp(verb, "forge") == 0)
		ATTEMPT("forge", forge(atoi(arg)));
	else if (strcmp(verb, "leave") == 0)
		ATTEMPT("leave", leave(atoi(arg), atoi(more)));
	else if (strcmp(verb, "daemon") == 0)
		daemonize(fd);
	else if (strcmp(verb, "reach") == 0)
		reach(fd, atoi(arg), more);
	else if (strcmp(verb, "truncate") == 0)
		tell(fd, "truncate", ftruncate(2, 0));
	else if (strcmp(verb, "rights") == 0)
		tell(fd, "rights", rights());
	else if (strcmp(verb, "shutdown") == 0)
		tell(fd, "shutdown", shutdown(0, SHUT_RDWR));
	else if (strcmp(verb, "replace") == 0) {
		struct sockaddr_un sun = { AF_UNIX, "/run/sock" };
		int s = socket(AF_UNIX, SOCK_STREAM, 0);

		tell(fd, "unlink socket", unlink("/run/sock"));
		tell(fd, "bind socket", bind(s, (struct sockaddr *)&sun,
		    sizeof(sun)));
		close(s);
	} else
		dprintf(fd, "%s?\n", verb);
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

int
main(void)
{
	char	 cookie[8];
	int	 fd;

	alarm(120);
	if (getenv("FCGI_LISTENSOCK_DESCRIPTORS") != NULL)
		ctl = atoi(getenv("FCGI_LISTENSOCK_DESCRIPTORS"));
	for (;;) {
		if (ctl == -1) {
			if ((fd = accept(0, NULL, NULL)) == -1)
				pause();
			serve(fd);
			continue;
		}
		if ((fd = take(ctl, cookie)) == -1)
			return 0;
		serve(fd);
		if (write(ctl, cookie, sizeof(cookie)) == -1)
			return 1;
	}
}
END
$CC -static -o "$JAIL/bin/enemy" "$T/enemy.c" || exit 1
chmod 755 "$JAIL/bin/enemy"

# A caller at a terminal: pty command...  Runs it as a shell would, then says
# what has become of the terminal, and reads from it what was typed.
cat >"$T/pty.c" <<'END'
#define _GNU_SOURCE
#include <sys/wait.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int
caller(char *argv[])
{
	struct pollfd	 pfd = { 0, POLLIN, 0 };
	char		 buf[64];
	ssize_t		 n;
	pid_t		 pid;
	int		 ws;

	if ((pid = fork()) == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, &ws, 0);
	signal(SIGTTOU, SIG_IGN);
	printf("status: %d\n", WIFEXITED(ws) ? WEXITSTATUS(ws) : -1);
	printf("foreground: %s\n", tcgetpgrp(0) == getpgrp() ? "ours" :
	    "taken");
	printf("input: %sblocking\n", fcntl(0, F_GETFL) & O_NONBLOCK ? "non-" :
	    "");
	fcntl(0, F_SETFL, fcntl(0, F_GETFL) & ~O_NONBLOCK);
	tcsetpgrp(0, getpgrp());
	printf("typed:");
	while (poll(&pfd, 1, 0) == 1 && (n = read(0, buf, sizeof(buf))) > 0) {
		if (buf[n - 1] == '\n')
			n--;
		printf(" %.*s", (int)n, buf);
	}
	printf("\n");
	return 0;
}

int
main(int argc, char *argv[])
{
	char	 buf[1024];
	ssize_t	 n;
	int	 m, s;

	alarm(120);
	if (argc < 2 || (m = posix_openpt(O_RDWR | O_NOCTTY)) == -1 ||
	    grantpt(m) == -1 || unlockpt(m) == -1)
		return 1;
	/* In the line discipline's buffer before anybody can read it. */
	if ((s = open(ptsname(m), O_RDWR | O_NOCTTY)) == -1 ||
	    write(m, "secret\n", 7) != 7)
		return 1;
	if (fork() == 0) {
		setsid();
		/* Never without a slave, or the master would be at its end. */
		if (open(ptsname(m), O_RDWR) == -1)
			return 1;
		dup2(s, 0);
		dup2(s, 1);
		dup2(s, 2);
		for (s = 3; s < 10; s++)
			close(s);
		return caller(argv + 1);
	}
	close(s);
	while ((n = read(m, buf, sizeof(buf))) > 0)
		if (write(1, buf, n) != n)
			return 1;
	wait(NULL);
	return 0;
}
END
$CC -o "$T/pty" "$T/pty.c" || exit 1

cat >"$T/ask.pl" <<'END'
use Socket;
my $path = shift;
alarm 30;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
connect($s, pack_sockaddr_un($path)) or die "connect: $!\n";
$s->autoflush(1) if $s->can('autoflush');
syswrite($s, "@ARGV\n");
print while <$s>;
END

# ask verb argument...: one of the workers, as whoever may; answer in $ANSWER
ask() {
	ANSWER=$(perl "$T/ask.pl" "$SOCK" "$@" 2>&1)
}

# answer what: the result of that attempt; for use in $()
answer() {
	IFS='
'
	for a in $ANSWER; do
		case $a in
		"$1: "*)	printf '%s\n' "${a#"$1: "}";;
		esac
	done
}

# ask_other [verb]: one worker about another, $w, whoever happens to answer
ask_other() {
	for i in 1 2 3 4 5 6 7 8 9 10; do
		for w in $(workers); do
			# Once more, for they may take turns.
			for again in 1 2; do
				ask "${1:-other}" "$w"
				[ -n "$(answer self)" ] || return 0
			done
		done
	done
}

# start_at_terminal script option...: the script has a terminal, $pty, and runs
# the command that is its arguments
start_at_terminal() {
	s=$1
	shift
	: >"$LOG"
	"$T/pty" /bin/sh -c "$s" - "$KFCGI" -d -p "$JAIL" -s "$SOCK" \
	    -U "$WHO" -u root -n 1 "$@" /bin/enemy \
	    </dev/null >"$LOG" 2>&1 & pty=$!
	also_kill $pty
	ok "$name: started at a terminal" waitfor 20 logged '^kfcgi: started:'
	PID=$(manager_pid "$SOCK")
}

# at_end what: has the caller said of its terminal
at_end() {
	sed -n "s/^$1: *//p" "$T/caller"
}

# outsider: a process of procuser that is not in the jail, with a directory
# as descriptor 5; its pid in $OUT
outsider() {
	: >"$T/outsider"
	as_user "$WHO" sh -c 'echo $$ >&6; exec sleep 60 6>&-' \
	    5</etc 6>"$T/outsider" </dev/null >/dev/null &
	waitfor 10 test -s "$T/outsider"
	OUT=$(cat "$T/outsider")
	also_kill "$OUT"
}

mkdir "$JAIL/run"
SOCK=$JAIL/run/sock
denied='Operation not permitted'
access='Permission denied'

# Where Yama is in force, only a parent may trace: then this is closed, too.
traced=done opened=done
case $(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null) in
[123])	traced=$denied opened=$access;;
esac

# What the system lets that user do outside.
typed=done
[ "$(cat /proc/sys/dev/tty/legacy_tiocsti 2>/dev/null)" != 0 ] ||
	typed='Input/output error'
userns=done
as_user "$WHO" unshare -U true 2>/dev/null || userns="$denied|$access|No space"
none='No such device or address'
notty='Inappropriate ioctl for device'

# Namespaces of the test's own, which a container may refuse; CI must have them.
spaces=1
unshare -m -p --fork true 2>/dev/null || [ -n "${CI:-}" ] || spaces=

# kfcgi with /proc in the jail.
mkdir "$JAIL/proc"
cat >"$T/with-proc" <<END
#!/bin/sh
exec unshare -m sh -c 'mount -t proc proc "$JAIL/proc" && exec "\$@"' - \
    "$KFCGI" "\$@"
END
chmod 755 "$T/with-proc"
with_proc() {
	_k=$KFCGI
	KFCGI=$T/with-proc
	start "$@"
	KFCGI=$_k
}

# started_all log...: by now
started_all() {
	for _l in "$@"; do
		grep -qs '^kfcgi: started:' "$_l" || return 1
	done
}

# Services outside the jail.
ABSTRACT=kfcgi-test-$$
cat >"$T/listen.pl" <<'END'
use Socket;
alarm 300;
socket(my $t, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
bind($t, pack_sockaddr_in(0, INADDR_LOOPBACK)) or die "bind: $!\n";
listen($t, 9) or die "listen: $!\n";
socket(my $u, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
bind($u, pack_sockaddr_un("\0$ARGV[0]")) or die "bind: $!\n";
listen($u, 9) or die "listen: $!\n";
$| = 1;
print +(sockaddr_in(getsockname($t)))[0], "\n";
sleep 300;
END
perl "$T/listen.pl" "$ABSTRACT" </dev/null >"$T/port" &
listener=$!
also_kill $listener
waitfor 10 test -s "$T/port"
PORT=$(cat "$T/port")

for r in "" -r; do
	name=${r:-fixed}
	start $r -u root -n 1 /bin/enemy || exit 1
	ask jail

	# Nothing to get hold of but what the protocol needs.
	is "$(answer descriptors)" "0 1 2${r:+ 3}" "$name: open descriptors"
	is "$(answer fchdir)" "Not a directory" "$name: none is a directory"
	is "$(answer up)" "Invalid cross-device link" \
	    "$name: .. of the jail is the jail"
	is "$(answer proc)" "No such file or directory" "$name: no /proc there"
	is "$(answer dev)" "No such file or directory" "$name: no /dev there"
	is "$(answer chroot)" "$denied" "$name: chroot(2)"
	like "$(answer mknod)" "$denied|$access" "$name: mknod(2) of a disk"
	is "$(answer mount)" "$denied" "$name: mount(2)"
	is "$(answer userns)" "$denied" "$name: a user namespace of its own"

	# Root is gone.
	for call in setuid seteuid setresuid setgid setgroups; do
		is "$(answer $call)" "$denied" "$name: $call(2) to root"
	done
	for set in Inh Prm Eff Amb; do
		is "$(sed -n "s/^Cap$set:[^0-9a-f]*//p" \
		    "/proc/$(workers)/status")" 0000000000000000 \
		    "$name: no capabilities, Cap$set"
	done

	# prog is root's, and so is its directory.
	is "$(answer 'write prog')" "$access" "$name: prog cannot be written"
	is "$(answer 'unlink prog')" "$access" "$name: nor removed"
	is "$(answer 'rename prog')" "$access" "$name: nor renamed"
	is "$(answer create)" "$access" "$name: nothing put beside it"

	# The socket is in the jail, in a directory that is not the worker's.
	is "$(answer connect)" "$access" \
	    "$name: a worker cannot connect to the socket"
	is "$(answer 'chmod socket')" "$denied" "$name: nor open it to others"
	is "$(answer 'unlink socket')" "$access" "$name: nor remove it"
	is "$(answer 'rename socket')" "$access" "$name: nor rename it"
	is "$(answer 'bind socket')" "Address already in use" \
	    "$name: nor take its place"
	quit

	# Possible: it serves a pool whose socket is its own user's or group's.
	start $r -u "$WHO" -n 1 /bin/enemy
	ask jail
	is "$(answer connect)" done \
	    "$name: with -u as -U, a worker can connect: it owns the socket"
	is "$(answer 'chmod socket')" done "$name: and open it to others"
	quit

	# Possible: the socket is in a directory that the worker may write.
	chown "$WHO" "$JAIL/run"
	start $r -u root -n 1 /bin/enemy
	ask replace
	is "$(answer 'unlink socket') $(answer 'bind socket')" "done done" \
	    "$name: in a directory of its own it can take the socket's place"
	quit
	chown root "$JAIL/run"
	rm -f "$SOCK"

	# The manager has changed its user since it was executed: not even a
	# process of that user may look into it.
	start $r -u root -n 2 /bin/enemy
	ask other "$PID"
	is "$(answer ptrace)" "$denied" "$name: ptrace(2) at the manager"
	is "$(answer 'read memory')" "$denied" "$name: its memory"
	is "$(answer 'write memory')" "$denied" "$name: neither is written"
	is "$(answer 'take descriptor')" "$denied" "$name: its descriptors"
	# Possible, since it is the same user.
	is "$(answer signal)" done "$name: signals at the manager: same user"
	is "$(answer 'set limits')" done "$name: its limits: same user"
	is "$(answer priority)" done "$name: its priority: same user"
	ask kill "$PID" STOP
	ok "$name: so it can be stopped" waitfor 10 has_state "$PID" T
	kill -CONT "$PID"
	old=$(workers)
	ask kill "$PID" HUP
	ok "$name: told to reload" waitfor 10 logged '^kfcgi: reloaded: '
	# shellcheck disable=SC2086
	waitfor 10 new_pool 2 $old

	# Another worker has been executed as that user.
	ask_other
	is "$(answer ptrace)" "$traced" "$name: ptrace(2) at a worker: same user"
	is "$(answer 'read memory')" "$traced" "$name: its memory: same user"
	is "$(answer 'write memory')" "$traced" "$name: to write, too"
	is "$(answer 'take descriptor')" "$traced" \
	    "$name: its descriptors, so its connections: same user"
	is "$(answer signal)" done "$name: signals at a worker: same user"
	ask other 1
	is "$(answer signal)" "$denied" "$name: not at other users' processes"
	is "$(answer ptrace)" "$denied" "$name: which it cannot trace"

	# Possible: out of the jail, by a process of the same user outside.
	outsider
	ask leave "$OUT" 5
	is "$(answer leave)" "$traced" \
	    "$name: a process of that user outside is a way out of the jail"
	kill "$OUT"
	ask kill "$PID" TERM
	wait "$PID" 2>/dev/null
	is "$?" 0 "$name: it can stop the service: same user"
	PID=

	# Nobody can look into a program that it may execute, but not read.
	chmod 711 "$JAIL/bin/enemy"
	start $r -u root -n 2 -p / "$JAIL/bin/enemy"
	ask_other
	is "$(answer signal)" done "$name: a worker whose prog has mode 0711"
	is "$(answer ptrace)" "$denied" "$name: cannot be traced"
	is "$(answer 'read memory')" "$denied" "$name: its memory"
	is "$(answer 'write memory')" "$denied" "$name: neither is written"
	is "$(answer 'take descriptor')" "$denied" \
	    "$name: its descriptors"
	ask_other proc
	for f in mem maps environ fd fd/1 root/ cwd/ syscall auxv 'write mem'
	do
		is "$(answer "$f")" "$access" "$name: its /proc/<pid>/$f"
	done
	quit
	chmod 755 "$JAIL/bin/enemy"

	# With /proc in the jail: all of the file system is.  And in the
	# background, so without a terminal.
	start_daemon $r -u root -n 2 -p / "$JAIL/bin/enemy"
	ask proc "$PID"
	for f in mem maps environ fd fd/1 root/ cwd/ syscall auxv 'write mem'
	do
		is "$(answer "$f")" "$access" "$name: /proc/<manager>/$f"
	done
	is "$(answer cmdline)" done "$name: anybody can see its command line"
	ask other "$PID"
	is "$(answer ptrace)" "$denied" "$name: ptrace(2), jail /"
	ask self
	like "$(answer 'fd 0')" "^(socket:.*|/dev/null)\$" "$name: /proc: fd 0"
	like "$(answer 'fd 1')" '^pipe:' "$name: fd 1"
	is "$(answer 'fd 2')" "$(answer 'fd 1')" "$name: fd 2"
	is "$(printf '%s\n' "$ANSWER" | grep -c '^fd ')" \
	    "$([ -n "$r" ] && echo 4 || echo 3)" \
	    "$name: and no other${r:+ but fd 3}"
	if [ -n "$r" ]; then
		like "$(answer 'fd 3')" '^socket:' "$name: which is a socket"
		is "$(answer 'read 3')" "$none" "$name: never opened again"
	else
		is "$(answer 'read 0')" "$none" \
		    "$name: the listener cannot be opened again"
	fi
	# Programs want /dev/stderr.  The other half needs /proc.
	is "$(answer 'write 2')" done "$name: standard error can be opened"
	is "$(answer 'read 2')" "$access" \
	    "$name: but not read: nobody takes lines from the log"
	like "$(answer 'write exe')" "$access|Text file busy" \
	    "$name: /proc/self/exe cannot be written"
	is "$(answer 'cwd/..')" "the same" "$name: /proc/self/cwd/.."
	is "$(answer terminal)" "$none" "$name: no terminal to open"
	like "$(answer userns)" "^($userns)" \
	    "$name: user namespaces, jail /: as the system has it"
	ask tty
	for what in foreground read type 'become its owner' settings; do
		is "$(answer "$what")" "$([ "$what" = read ] &&
		    echo 'Bad file descriptor' || echo "$notty")" \
		    "$name: terminal: $what"
	done
	is "$(answer non-blocking)" done "$name: the log's pipe: non-blocking"
	is "$(for w in $(workers); do
		sed -n 's/^flags:.*4...$/shared/p' "/proc/$w/fdinfo/1"
	    done | grep -c shared)" 2 \
	    "$name: which the workers share"
	ask_other proc
	for f in mem syscall 'write mem'; do
		is "$(answer "$f")" "$opened" \
		    "$name: /proc/<worker>/$f: same user"
	done
	for f in maps environ fd root/ cwd/ auxv; do
		is "$(answer "$f")" done "$name: /proc/<worker>/$f: same user"
	done
	is "$(answer fd/1)" "$access" \
	    "$name: /proc/<worker>/fd/1: the log's pipe is not read"
	quit

	# With /proc in a jail.
	if [ -n "$spaces" ]; then
		outsider
		with_proc $r -u root -n 1 /bin/enemy
		ask self
		is "$(answer 'cwd/..')" "the same" \
		    "$name: no way out by /proc/self"
		is "$(answer terminal)" "No such file or directory" \
		    "$name: nor by /dev"
		is "$(answer userns)" "$denied" "$name: nor by a user namespace"
		ask proc "$PID"
		is "$(answer root/)" "$access" "$name: nor by the manager"
		ask proc 1
		is "$(answer root/)" "$access" \
		    "$name: nor by another user's process"
		ask proc "$OUT"
		is "$(answer root/)" done \
		    "$name: but by a process of the same user that is outside"
		quit
		kill "$OUT"
	fi

	# Possible: to end the service.
	start $r -u root -n 2 /bin/enemy
	ask kill "$PID" KILL
	wait "$PID" 2>/dev/null
	is "$?" 137 "$name: it can kill the manager: same user"
	PID=
	ok "$name: but takes the pool with it" waitfor 10 no_strays
	rm -f "$SOCK"

	# With -d on a terminal, it is not theirs: to be written to, no more.
	start_at_terminal 'exec "$@"' $r
	ask tty
	is "$(answer open)" "No such file or directory" \
	    "$name: a jail without /dev has no /dev/tty"
	is "$(answer foreground)" "$notty" \
	    "$name: a worker cannot take the foreground"
	for what in 'read in the background' read; do
		is "$(answer "$what")" "Bad file descriptor" \
		    "$name: nor $what what is typed"
	done
	is "$(answer type)" "$denied" "$name: nor type"
	is "$(answer 'become its owner')" "$denied" "$name: nor become its owner"
	# Possible.
	is "$(answer settings)" done "$name: it can change its settings"
	is "$(answer non-blocking)" done \
	    "$name: and make its own way to it non-blocking"
	quit
	wait $pty
	tr -d '\r' <"$LOG" >"$T/caller"
	is "$(at_end status)" 0 "$name: when kfcgi has ended"
	is "$(at_end foreground) $(at_end input) $(at_end typed)" \
	    "ours blocking secret" "$name: the shell has all that it had"

	# The manual's advice for the rest.
	start_at_terminal '"$@" 2>&1 | cat' $r
	ask tty
	for what in foreground type 'become its owner' settings; do
		is "$(answer "$what")" "$notty" "$name: 2>&1 | cat: $what"
	done
	is "$(answer read)" "Bad file descriptor" "$name: 2>&1 | cat: read"
	quit
	wait $pty
	tr -d '\r' <"$LOG" >"$T/caller"
	is "$(at_end foreground) $(at_end input) $(at_end typed)" \
	    "ours blocking secret" "$name: 2>&1 | cat: nothing has happened"

	# Possible: to outlive the pool.
	start $r -u root -n 1 /bin/enemy
	ask daemon
	away=$ANSWER	# has an alarm
	ok "$name: a process that has left the process group" alive "$away"
	quit
	is "$?" 0 "$name: the pool stops"
	ok "$name: that process does not" alive "$away"
	ask pid
	is "$ANSWER" "connect: Connection refused" "$name: nobody is served"
	ok "$name: the next start does not mind" \
	    start $r -u root -n 1 /bin/enemy
	kill -KILL "$away"

	# Possible: a chroot(2) confines only what is in the file system.
	ask reach "$PORT" "$ABSTRACT"
	is "$(answer loopback)" done "$name: the network is not the jail's"
	is "$(answer abstract)" done "$name: nor are abstract sockets"

	# Possible: with -d, standard error is the caller's file.
	ask truncate
	is "$(answer truncate)" done "$name: with -d, it can empty the log file"
	fails "$name: of which nothing is left" logged '^kfcgi: started:'
	quit
	rm -f "$SOCK"
	KILL=$listener	# the others are gone, and their numbers may be reused
done

# A worker of the fixed pool shares the listener, and can shut it.
start -u root -n 2 /bin/enemy
ask shutdown
is "$(answer shutdown)" done "fixed: the listener can be shut: it is shared"
ask pid
is "$ANSWER" "connect: Connection refused" "fixed: for all"
is "$(nworkers)" 2 "fixed: though the pool lives"
quit
rm -f "$SOCK"

# next_thief: $thief will be asked next, as it was the last; $victim will not
next_thief() {
	: >"$LOG"
	ask pid
	thief=$ANSWER
	victim=$(workers | grep -vx "$thief")
	waitfor 10 logged "worker $thief is done"
}

# With another worker's control socket.
start -r -u root -n 2 -N 2 /bin/enemy
next_thief
perl "$T/ask.pl" "$SOCK" hijack "$victim" >"$T/hijack" 2>&1 & hijack=$!
also_kill $hijack
if [ "$traced" = done ]; then
	ok "-r: another worker can be stopped" waitfor 10 has_state "$victim" T
	ask pid
	is "$ANSWER" "served by $thief" "-r: its requests taken: same user"
	ok "-r: and given back in its name" \
	    waitfor 10 logged "worker $victim is done"
fi
wait $hijack
is "$(cat "$T/hijack")" "hijack: $traced" "-r: by its control socket"
is "$(nworkers)" 2 "-r: the pool does not notice"
waitfor 10 logged "worker $thief is done" 2
next_thief
ask forge "$victim"
is "$(answer forge)" "$traced" "-r: a wrong cookie in another's name"
if [ "$traced" = done ]; then
	ok "-r: is blamed on that one" waitfor 10 logged \
	    "worker $victim wrote to its control socket unasked: stopped"
	ok "-r: which is replaced" waitfor 10 new_pool 2 "$victim"
fi
ok "-r: the culprit is not" alive "$thief"
quit

# A signal to all that it may signal, in a PID namespace lest it reaches others.
cat >"$T/namespace" <<'END'
run() {
	"$KFCGI" -d -p "$1" -s "$2" -U "$3" -u root -n 2 /bin/enemy 2>"$4" &
}
run "$1" "$2/sock1" "$3" "$2/log1"; one=$!
run "$1" "$2/sock2" "$3" "$2/log2"; two=$!
run "$1" "$2/sock3" "$4" "$2/log3"; three=$!
wait $one; echo $?
kill $two; wait $two; echo $?
kill $three; wait $three; echo $?
END
if [ -n "$spaces" ]; then
	unshare -p --fork --kill-child=KILL sh "$T/namespace" "$JAIL" "$T" \
	    "$WHO" daemon </dev/null >"$T/ends" 2>/dev/null & ns=$!
	also_kill $ns
	if ok "three pools, two of them of one user" \
	    waitfor 20 started_all "$T/log1" "$T/log2" "$T/log3"; then
		perl "$T/ask.pl" "$T/sock1" kill -1 KILL >/dev/null 2>&1
		wait $ns
		is "$(echo $(cat "$T/ends"))" "137 137 0" \
		    "a worker can kill all pools of its user, but no others"
	fi
fi

# What a worker sends to the manager besides a cookie is not kept.
start -r -u root -n 1 -N 1 /bin/enemy
fds=$(nfds "$PID")
w=$(workers)
ask rights
ok "-r: descriptors for the manager" \
    waitfor 10 logged "worker $w wrote a wrong cookie"
ok "-r: cost the worker its place" waitfor 10 new_pool 1 "$w"
ok "-r: and are not taken" waitfor 10 eval '[ "$(nfds '"$PID"')" -le '"$fds"' ]'
quit

done_testing
