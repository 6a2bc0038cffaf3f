#!/bin/sh
# What a worker can do to others [D].  The worker here is an enemy: it has been
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
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open	434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd	438
#endif

static int	 ctl = -1;		/* control socket, with -r */

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

/* What of it is in /proc, when that is in the jail. */
static void
proc(int fd, const char *pid)
{
	static const char *const names[] = { "mem", "maps", "environ", "fd",
	    "root/", "cwd/", "syscall", "auxv", "cmdline" };
	char		 path[64];
	size_t		 i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, names[i]);
		ATTEMPT(names[i], open(path, O_RDONLY));
	}
	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	ATTEMPT("write mem", open(path, O_RDWR));
}

static void
other(int fd, pid_t pid)
{
	struct rlimit	 rl;

	if (pid == getpid()) {
		dprintf(fd, "self: done\n");
		return;
	}
	ATTEMPT("ptrace", attach(pid));
	ATTEMPT("read memory", readv_of(pid));
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

static void
tty(int fd)
{
	ATTEMPT("type", ioctl(1, TIOCSTI, "x"));
	signal(SIGTTOU, SIG_IGN);
	ATTEMPT("foreground", tcsetpgrp(1, getpgrp()));
	ATTEMPT("become its owner", ioctl(1, TIOCSCTTY, 0));
	ATTEMPT("read", fcntl(1, F_GETFL) & O_ACCMODE & O_RDWR ||
	    fcntl(2, F_GETFL) & O_ACCMODE & O_RDWR ? 0 : (errno = EBADF, -1));
	ATTEMPT("non-blocking", fcntl(1, F_SETFL, O_WRONLY | O_NONBLOCK));
}

static void
serve(int fd)
{
	char	 line[256], arg[64] = "", verb[64] = "";
	size_t	 n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 &&
	    line[n] != '\n')
		n++;
	line[n] = '\0';
	sscanf(line, "%60s %60s", verb, arg);
	if (strcmp(verb, "pid") == 0)
		dprintf(fd, "%d\n", (int)getpid());
	else if (strcmp(verb, "jail") == 0)
		jail(fd);
	else if (strcmp(verb, "other") == 0)
		other(fd, atoi(arg));
	else if (strcmp(verb, "proc") == 0)
		proc(fd, arg);
	else if (strcmp(verb, "kill") == 0)
		tell(fd, "kill", kill(atoi(arg), SIGKILL));
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
main(int argc, char *argv[])
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(sizeof(int))];
	} c;
	struct iovec	 iov;
	struct msghdr	 msg;
	char		 cookie[8];
	int		 fd;

	(void)argv;
	alarm(120);
	if (argc > 1)
		tty(2);
	if (getenv("FCGI_LISTENSOCK_DESCRIPTORS") != NULL)
		ctl = atoi(getenv("FCGI_LISTENSOCK_DESCRIPTORS"));
	for (;;) {
		if (ctl == -1) {
			if ((fd = accept(0, NULL, NULL)) == -1)
				pause();
			serve(fd);
			continue;
		}
		memset(&msg, 0, sizeof(msg));
		iov.iov_base = cookie;
		iov.iov_len = sizeof(cookie);
		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = c.buf;
		msg.msg_controllen = sizeof(c.buf);
		if (recvmsg(ctl, &msg, 0) <= 0)
			return 0;
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
		serve(fd);
		if (write(ctl, cookie, sizeof(cookie)) == -1)
			return 1;
	}
}
END
$CC -static -o "$JAIL/bin/enemy" "$T/enemy.c" || exit 1
chmod 755 "$JAIL/bin/enemy"

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

# answer what: the result of that attempt
answer() {
	printf '%s\n' "$ANSWER" | sed -n "s,^$1: ,,p"
}

# ask_other: one worker about another, whoever happens to answer
ask_other() {
	for i in 1 2 3 4 5 6 7 8 9 10; do
		for w in $(workers); do
			# Once more, for they may take turns.
			for again in 1 2; do
				ask other "$w"
				[ -n "$(answer self)" ] || return 0
			done
		done
	done
}

mkdir "$JAIL/run"
SOCK=$JAIL/run/sock
denied='Operation not permitted'
access='Permission denied'

# Where Yama is in force, only a parent may trace: then this is closed, too.
traced=done
case $(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null) in
[123])	traced=$denied;;
esac

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
	stop

	# Possible: it serves a pool whose socket is its own user's or group's.
	start $r -u "$WHO" -n 1 /bin/enemy
	ask jail
	is "$(answer connect)" done \
	    "$name: with -u as -U, a worker can connect: it owns the socket"
	is "$(answer 'chmod socket')" done "$name: and open it to others"
	stop

	# Possible: the socket is in a directory that the worker may write.
	chown "$WHO" "$JAIL/run"
	start $r -u root -n 1 /bin/enemy
	ask replace
	is "$(answer 'unlink socket') $(answer 'bind socket')" "done done" \
	    "$name: in a directory of its own it can take the socket's place"
	stop
	chown root "$JAIL/run"
	rm -f "$SOCK"

	# The manager has changed its user since it was executed: not even a
	# process of that user may look into it.
	start $r -u root -n 2 /bin/enemy
	ask other "$PID"
	is "$(answer ptrace)" "$denied" "$name: ptrace(2) at the manager"
	is "$(answer 'read memory')" "$denied" "$name: its memory"
	is "$(answer 'take descriptor')" "$denied" "$name: its descriptors"
	# Possible, since it is the same user.
	is "$(answer signal)" done "$name: signals at the manager: same user"
	is "$(answer 'set limits')" done "$name: its limits: same user"
	is "$(answer priority)" done "$name: its priority: same user"

	# Another worker has been executed as that user.
	ask_other
	is "$(answer ptrace)" "$traced" "$name: ptrace(2) at a worker: same user"
	is "$(answer 'read memory')" "$traced" "$name: its memory: same user"
	is "$(answer 'take descriptor')" "$traced" \
	    "$name: its descriptors, so its connections: same user"
	is "$(answer signal)" done "$name: signals at a worker: same user"
	ask other 1
	is "$(answer signal)" "$denied" "$name: not at other users' processes"
	is "$(answer ptrace)" "$denied" "$name: which it cannot trace"
	stop

	# Nobody can look into a program that it may execute, but not read.
	chmod 711 "$JAIL/bin/enemy"
	start $r -u root -n 2 /bin/enemy
	ask_other
	is "$(answer signal)" done "$name: a worker that nobody may read"
	is "$(answer ptrace)" "$denied" "$name: cannot be traced"
	is "$(answer 'read memory')" "$denied" "$name: its memory"
	is "$(answer 'take descriptor')" "$denied" \
	    "$name: its descriptors"
	stop
	chmod 755 "$JAIL/bin/enemy"

	# With /proc in the jail: all of the file system is.
	start $r -u root -n 2 -p / "$JAIL/bin/enemy"
	ask proc "$PID"
	for f in mem maps environ fd root/ cwd/ syscall auxv 'write mem'; do
		is "$(answer "$f")" "$access" "$name: /proc/<manager>/$f"
	done
	is "$(answer cmdline)" done "$name: anybody can see its command line"
	ask other "$PID"
	is "$(answer ptrace)" "$denied" "$name: ptrace(2), jail /"
	stop

	# Possible: to end the service.
	start $r -u root -n 2 /bin/enemy
	ask kill "$PID"
	wait "$PID" 2>/dev/null
	is "$?" 137 "$name: it can kill the manager: same user"
	PID=
	ok "$name: but takes the pool with it" waitfor 10 no_strays
	rm -f "$SOCK"
done

# A worker of the fixed pool shares the listener, and can shut it.
start -u root -n 2 /bin/enemy
ask shutdown
is "$(answer shutdown)" done "fixed: the listener can be shut: it is shared"
ask pid
is "$ANSWER" "connect: Connection refused" "fixed: for all"
is "$(nworkers)" 2 "fixed: though the pool lives"
stop
rm -f "$SOCK"

# What a worker sends to the manager besides a cookie is not kept.
start -r -u root -n 1 -N 1 /bin/enemy
fds=$(nfds "$PID")
w=$(workers)
ask rights
ok "-r: descriptors for the manager" \
    waitfor 10 logged "worker $w wrote a wrong cookie"
ok "-r: cost the worker its place" waitfor 10 new_pool 1 "$w"
ok "-r: and are not taken" waitfor 10 eval '[ "$(nfds '"$PID"')" -le '"$fds"' ]'
stop

done_testing
