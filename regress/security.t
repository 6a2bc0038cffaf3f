#!/bin/sh
# What a worker can do to others.  The worker here is an enemy: it has been
# taken over, runs as procuser in the jail, and tries what may be tried.  What
# it can do is recorded with the reason, and is what the manual says.
. ./lib.sh

[ "$(uname -s)" = Linux ] || skip_all "the attempts are for Linux"

# No FastCGI: a connection brings one line, "verb [pid]", and is answered with
# lines "what: result".  Of hello.c it has take().
cat >"$T/enemy.c" <<'END'
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define main hello
#include "hello.c"
#undef main

/* In a child, as what succeeds may change who we are. */
#define ATTEMPT(what, call) do {					\
	pid_t pid_ = fork();						\
	if (pid_ == 0) {						\
		alarm(20);						\
		dprintf(fd, "%s: %s\n", what,				\
		    (long)(call) == -1 ? strerror(errno) : "done");	\
		_exit(0);						\
	}								\
	waitpid(pid_, NULL, 0);						\
} while (0)

static void
jail(int fd)
{
	struct sockaddr_un sun = { AF_UNIX, "/run/sock" };
	int	 s;

	ATTEMPT("chroot", chroot("/bin"));
	ATTEMPT("setuid", setuid(0));
	ATTEMPT("setgroups", setgroups(0, NULL));
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	ATTEMPT("connect", connect(s, (struct sockaddr *)&sun, sizeof(sun)));
	close(s);
	ATTEMPT("chmod socket", chmod("/run/sock", 0666));
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

static void
other(int fd, pid_t pid)
{
	ATTEMPT("ptrace", attach(pid));
	ATTEMPT("signal", kill(pid, 0));
}

static long
read_tty(void)
{
	char	 buf[64];

	return read(STDOUT_FILENO, buf, sizeof(buf)) == -1 ?
	    read(STDERR_FILENO, buf, sizeof(buf)) : 0;
}

static void
tty(int fd)
{
	struct termios	 t;

	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	ATTEMPT("foreground", tcsetpgrp(2, getpgrp()));
	ATTEMPT("read", read_tty());
	ATTEMPT("type", ioctl(2, TIOCSTI, "\n"));
	ATTEMPT("own", ioctl(2, TIOCSCTTY, 0));
	ATTEMPT("settings", tcgetattr(2, &t) == -1 ? -1 :
	    tcsetattr(2, TCSANOW, &t));
	ATTEMPT("non-blocking", fcntl(2, F_SETFL,
	    fcntl(2, F_GETFL) | O_NONBLOCK));
}

static void
serve(int fd)
{
	char	 line[64], verb[64] = "";
	int	 pid = 0;
	size_t	 n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 &&
	    line[n] != '\n')
		n++;
	line[n] = '\0';
	sscanf(line, "%60s %d", verb, &pid);
	if (pid == getpid())
		dprintf(fd, "self: done\n");
	else if (strcmp(verb, "jail") == 0)
		jail(fd);
	else if (strcmp(verb, "other") == 0)
		other(fd, pid);
	else if (strcmp(verb, "stderr") == 0) {
		ATTEMPT("write", open("/dev/stderr", O_WRONLY | O_NONBLOCK));
		ATTEMPT("read", open("/dev/stderr", O_RDONLY | O_NONBLOCK));
	} else if (strcmp(verb, "tty") == 0)
		tty(fd);
	shutdown(fd, SHUT_RDWR);
	close(fd);
}

int
main(void)
{
	char	 cookie[8];
	int	 fd, ctl = -1;		/* control socket, with -r */

	alarm(120);
	if (getenv("FCGI_LISTENSOCK_DESCRIPTORS") != NULL)
		ctl = 3;
	for (;;) {
		fd = ctl == -1 ? accept(0, NULL, NULL) : take(ctl, cookie);
		if (fd == -1 && ctl == -1)
			pause();
		if (fd == -1)
			return 0;
		serve(fd);
		if (ctl != -1 && write(ctl, cookie, sizeof(cookie)) == -1)
			return 1;
	}
}
END
$CC -static -I "$REGRESS" -o "$JAIL/bin/enemy" "$T/enemy.c" || exit 1
chmod 755 "$JAIL/bin/enemy"

# pty command...: at a terminal of its own, where "secret" has been typed
cat >"$T/pty.c" <<'END'
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int
main(int argc, char *argv[])
{
	char	 buf[1024];
	ssize_t	 n;
	int	 i, m, s;

	alarm(120);
	if (argc < 2 || (m = posix_openpt(O_RDWR | O_NOCTTY)) == -1 ||
	    grantpt(m) == -1 || unlockpt(m) == -1 ||
	    (s = open(ptsname(m), O_RDWR | O_NOCTTY)) == -1 ||
	    write(m, "secret\n", 7) != 7)
		return 1;
	if (fork() == 0) {
		setsid();
		ioctl(s, TIOCSCTTY, 0);
		for (i = 0; i < 3; i++)
			dup2(s, i);
		for (i = 3; i < 10; i++)
			close(i);
		execv(argv[1], argv + 1);
		_exit(127);
	}
	close(s);
	while ((n = read(m, buf, sizeof(buf))) > 0)
		(void)!write(1, buf, n);
	return 0;
}
END
$CC -o "$T/pty" "$T/pty.c" || exit 1

# Runs a command as a shell would, then says what has become of the terminal,
# and reads from it what was typed.
cat >"$T/caller.pl" <<'END'
use Fcntl;
use POSIX;
$| = 1;
system @ARGV;
my $status = $? >> 8;
$SIG{TTOU} = 'IGNORE';
my $ours = tcgetpgrp(0) == getpgrp;
my $flags = fcntl(STDIN, F_GETFL, 0);
tcsetpgrp(0, getpgrp);
fcntl(STDIN, F_SETFL, $flags | O_NONBLOCK);
my $typed = <STDIN> // "nothing\n";
print "end: status $status, ", $ours ? 'ours' : 'taken', ', ',
    $flags & O_NONBLOCK ? 'non-blocking' : 'blocking', ", $typed";
END

# ask verb [pid]: one of the workers, as whoever may; the answer in $ANSWER
ask() {
	ANSWER=$(perl -MIO::Socket::UNIX -e 'alarm 30;
	    my $s = IO::Socket::UNIX->new(shift) or die "$!\n";
	    syswrite $s, "@ARGV\n"; print while <$s>' "$SOCK" "$@" 2>&1)
}

# answers result what...: the result of these attempts
answers() {
	_result=$1
	shift
	for _what in "$@"; do
		is "$(printf '%s\n' "$ANSWER" | sed -n "s/^$_what: //p")" \
		    "$_result" "$name: $_what"
	done
}

# ask_other: one worker about another, whoever happens to answer
ask_other() {
	while :; do
		for w in $(workers); do
			# Once more, for they may take turns.
			for again in 1 2; do
				ask other "$w"
				[ "$ANSWER" = 'self: done' ] || return 0
			done
		done
	done
}

mkdir "$JAIL/run"
SOCK=$JAIL/run/sock
denied='Operation not permitted'
access='Permission denied'
notty='Inappropriate ioctl for device'
# Where Yama is in force, only a parent may trace: then this is closed, too.
traced=done
case $(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null) in
[123])	traced=$denied ;;
esac

for r in "" -r; do
	# What there is to get hold of is in inherit.t; root is gone; the socket,
	# though in the jail, is another user's.
	name=${r:-fixed}
	start $r -u root -n 2 /bin/enemy || exit 1
	is "$(for fd in $(fds "$PID"); do
		[ ! -d "/proc/$PID/fd/$fd" ] || echo "$fd"
	done)" "" "$name: the manager has no directory open, a way out"
	ask jail
	answers "$denied" chroot setuid setgroups 'chmod socket'
	answers "$access" connect
	# The manager has changed its user since it was executed: not even a
	# process of that user may look into it, but it may signal.
	name="${r:-fixed}, at the manager"
	ask other "$PID"
	answers "$denied" ptrace
	answers done signal
	# Another worker has been executed as that user.
	name="${r:-fixed}, at a worker"
	ask_other
	answers "$traced" ptrace
	answers done signal
	quit

	# The manual's advice against that: prog has mode 0711.  And what
	# becomes possible where the socket is the worker's own.
	name="${r:-fixed}, 0711"
	chmod 711 "$JAIL/bin/enemy"
	start $r -u "$WHO" -n 2 /bin/enemy
	ask_other
	answers "$denied" ptrace
	name="${r:-fixed}, -u as -U"
	ask jail
	answers done connect 'chmod socket'
	quit
	chmod 755 "$JAIL/bin/enemy"
done

# Programs want /dev/stderr, but nobody is to take lines from the log.
name=/dev/stderr
start_daemon -p / -n 1 "$JAIL/bin/enemy"
ask stderr
answers done write
answers "$access" read
end_manager

# With -d on a terminal, it is not theirs: to be written to, no more.
name=terminal
: >"$LOG"
"$T/pty" "$(command -v perl)" "$T/caller.pl" "$KFCGI" -d -p "$JAIL" \
    -s "$SOCK" -U "$WHO" -n 1 /bin/enemy </dev/null >"$LOG" &
pty=$!
also_kill $pty
ok "$name: started" waitfor 20 logged '^kfcgi: started:'
PID=$(manager_pid "$SOCK")
freeze $pty	# nobody reads it for a while
perl -e 'for (1 .. 1000) {
	kill "USR1", $ARGV[0];
	select undef, undef, undef, 0.001
}' "$PID"
w=$(workers)
kill -KILL "$w"
ok "$name: a full one holds nothing up" waitfor 20 new_pool 1 "$w"
kill -CONT $pty
ask tty
answers "$notty" foreground
answers "Bad file descriptor" read
answers "$denied" type own
answers done settings non-blocking
quit
wait $pty
is "$(tr -d '\r' <"$LOG" | sed -n 's/.*end: //p')" \
    "status 0, ours, blocking, secret" \
    "$name: the shell has all that it had"

done_testing
