/*
 * Copyright (c) 2026 The kfcgi authors
 *
 * Permission to use, copy, modify, and distribute this software for any
 * purpose with or without fee is hereby granted, provided that the above
 * copyright notice and this permission notice appear in all copies.
 *
 * THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
 * WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
 * MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
 * ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
 * WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
 * ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
 * OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
 */


/*
 * Tests what compat/ has in place of OpenBSD's, each on its own and under its
 * own name, so that Linux runs what only macOS uses.  TAP on standard output.
 *
 * Whatever closes descriptors, lowers limits or gives up root does so in a
 * child.  Waits have no timeout of their own: if one is never woken, alarm(2)
 * ends the program.
 *
 * compat.c is part of this file, not linked with it, so that the calls it makes
 * can be made to fail, and to do what they do on other systems.
 */

#include "../compat/compat.h"

#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#ifdef __OpenBSD__

int
main(void)
{
	printf("1..0 # SKIP OpenBSD needs nothing of compat\n");
	return 0;
}

#else

/*
 * What compat.c calls does what it is told here.  Told nothing, it is the real
 * thing.
 */
static struct {
	/* accept: whether what it returns shall be O_NONBLOCK; the last. */
	int		 nonblock;
	int		 accepted;

	/* fcntl: which call from now on shall fail. */
	int		 fcntl_fails;

	/*
	 * close: how many calls shall fail; or to close nothing, and that it
	 * is called for one after the other, the first of which is next.
	 */
	int		 close_fails;
	int		 close_counts;
	int		 next;		/* then; -1 if another was */

	/* readdir: how many to list; to skip one after each that was closed. */
	int		 list;
	int		 listed;
	int		 skip;
	int		 closed;

	/* getrlimit: to fail; to return limit. */
	int		 limit_fails;
	int		 limits;
	struct rlimit	 limit;

	/* realloc: to fail. */
	int		 no_memory;

	/* send: of more bytes than this, if not 0, is too long; the error. */
	size_t		 longest;
	int		 send_error;

	/* pselect: how many calls shall fail; how many were; of the last. */
	int		 wait_fails;
	int		 waits;
	int		 woken;
	const sigset_t	*mask;
} fake;

static int	 fake_accept(int, struct sockaddr *, socklen_t *);
static int	 fake_close(int);
static int	 fake_fcntl(int, int, ...);
static int	 fake_getrlimit(int, struct rlimit *);
static int	 fake_pselect(int, fd_set *, fd_set *, fd_set *,
		    const struct timespec *, const sigset_t *);
static void	*fake_realloc(void *, size_t);
static struct dirent *fake_readdir(DIR *);
static void	 fake_rewinddir(DIR *);
static ssize_t	 fake_send(int, const void *, size_t, int);

static ssize_t
fake_send(int s, const void *buf, size_t len, int flags)
{
	if (fake.longest > 0 && len > fake.longest) {
		errno = EMSGSIZE;
		return -1;
	}
	if (fake.send_error != 0) {
		errno = fake.send_error;
		return -1;
	}
	return send(s, buf, len, flags);
}

static int
fake_accept(int s, struct sockaddr *sa, socklen_t *salen)
{
	fake.accepted = accept(s, sa, salen);
	if (fake.accepted != -1 && fake.nonblock)
		fcntl(fake.accepted, F_SETFL, O_NONBLOCK);
	return fake.accepted;
}

/* One that succeeds may well change errno. */
static int
fake_close(int fd)
{
	if (fake.close_counts) {
		fake.next = fd == fake.next ? fd + 1 : -1;
		errno = EBADF;
		return -1;
	}
	if (fake.close_fails > 0) {
		fake.close_fails--;
		errno = EINTR;
		return -1;
	}
	if (close(fd) == -1)
		return -1;
	fake.closed = 1;
	errno = ENOTTY;
	return 0;
}

static int
fake_fcntl(int fd, int cmd, ...)
{
	va_list	 ap;
	int	 arg;

	if (fake.fcntl_fails > 0 && --fake.fcntl_fails == 0) {
		errno = ENOLCK;
		return -1;
	}
	if (cmd != F_SETFD && cmd != F_SETFL)
		return fcntl(fd, cmd);
	va_start(ap, cmd);
	arg = va_arg(ap, int);
	va_end(ap);
	return fcntl(fd, cmd, arg);
}

static int
fake_getrlimit(int resource, struct rlimit *rl)
{
	if (resource != RLIMIT_NOFILE || fake.limit_fails) {
		errno = EINVAL;
		return -1;
	}
	if (!fake.limits)
		return getrlimit(RLIMIT_NOFILE, rl);
	*rl = fake.limit;
	return 0;
}

static int
fake_pselect(int n, fd_set *rset, fd_set *wset, fd_set *eset,
    const struct timespec *timeout, const sigset_t *mask)
{
	fake.waits++;
	fake.mask = mask;
	if (fake.wait_fails > 0) {
		fake.wait_fails--;
		errno = EBADF;
		return -1;
	}
	return fake.woken = pselect(n, rset, wset, eset, timeout, mask);
}

static void *
fake_realloc(void *p, size_t size)
{
	if (fake.no_memory) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, size);
}

static struct dirent *
fake_readdir(DIR *dir)
{
	static struct dirent	 de;

	if (fake.list == 0)
		return readdir(dir);
	if (fake.skip && fake.closed)
		fake.listed++;
	fake.closed = 0;
	if (fake.listed >= fake.list)
		return NULL;
	snprintf(de.d_name, sizeof(de.d_name), "%d", fake.listed++);
	return &de;
}

static void
fake_rewinddir(DIR *dir)
{
	rewinddir(dir);
	fake.listed = 0;
}

/* Some are macros already, which was good for the above. */
#undef accept
#define accept		fake_accept
#undef close
#define close		fake_close
#undef fcntl
#define fcntl		fake_fcntl
#undef getrlimit
#define getrlimit	fake_getrlimit
#undef pselect
#define pselect		fake_pselect
#undef readdir
#define readdir		fake_readdir
#undef realloc
#define realloc		fake_realloc
#undef rewinddir
#define rewinddir	fake_rewinddir
#undef send
#define send		fake_send
#include "../compat/compat.c"
#undef accept
#undef close
#undef fcntl
#undef getrlimit
#undef pselect
#undef readdir
#undef realloc
#undef rewinddir
#undef send

#define PLAN		204
#define TIMEOUT		120
#define NOBODY		65534
#define ROUNDS		10	/* of a signal at any time */
#define FAR		70000	/* not tried without a list */
#define nitems(a)	(sizeof(a) / sizeof((a)[0]))

struct item {
	TAILQ_ENTRY(item)	 entry;
	int			 id;
};
TAILQ_HEAD(list, item);

static int	 child_ok(int (*)(void));
static void	 close_from(int);
static int	 closefrom_again(void);
static int	 closefrom_beyond(void);
static int	 closefrom_emfile(void);
static int	 closefrom_far(void);
static int	 closefrom_hard(void);
static int	 closefrom_limit(void);
static int	 closefrom_list(void);
static int	 closefrom_many(void);
static int	 closefrom_none(void);
static int	 closefrom_skip(void);
static int	 closefrom_some(void);
static int	 comes_once(void);
static int	 connects(const struct sockaddr_un *);
static int	 counts_to(rlim_t, int);
static __dead void die(const char *);
static int	 drop_root(void);
static int	 gaps(int, const int *, size_t);
static int	 is_open(int);
static int	 listener(struct sockaddr_un *);
static int	 list_is(struct list *, const char *);
static void	 list_up_to(int);
static int	 log_is(const char *);
static int	 log_last(char *, size_t);
static void	 log_listen(void);
static void	 log_unlisten(void);
static int	 may_drop(void);
static int	 may_go_far(void);
static void	 ok(int, const char *, ...)
		    __attribute__((__format__(printf, 2, 3)));
static void	 on_signal(int);
static int	 open_at(int);
static int	 poll1(int, int, const struct timespec *);
static int	 poll_higher(void);
static int	 poll_highest(void);
static int	 poll_no_memory(void);
static void	 skip(int, const char *);
static int	 set_limit(rlim_t, int);
static int	 sweep(int, int);
static int	 sweep_bad(void);
static int	 sweep_none(void);
static int	 sweep_quiet(void);
static int	 sweep_ready(void);
static int	 tcp_pair(int *);
static void	 test_accept4(void);
static void	 test_accept4_odd(void);
static void	 test_closefrom(void);
static void	 test_closefrom_count(void);
static void	 test_log(void);
static void	 test_log_gone(void);
static void	 test_log_hangs(void);
static void	 test_log_long(void);
static void	 test_log_style(void);
static void	 test_names(void);
static void	 test_ppoll(void);
static void	 test_ppoll_bad(void);
static void	 test_ppoll_hup(void);
static void	 test_ppoll_pending(void);
static void	 test_ppoll_signal(void);
static void	 test_ppoll_sweep(void);
static void	 test_ppoll_urgent(void);
static void	 test_setres(void);
static void	 test_strlcpy(void);
static void	 test_strtonum(void);
static void	 test_tailq(void);
static void	 test_tailq_safe(void);
static void	 unlisten(int, struct sockaddr_un *);

static const struct timespec	 patience = { 10, 0 };
static const struct timespec	 zero = { 0, 0 };
static const char		*fd_dir;	/* NULL: compat's own choice */
static int			 failed, tests;
static int			 logd = -1;	/* our syslogd's socket */
static char			 logpath[64];
static sigset_t			 none;	/* what ppoll unblocks: all */
static volatile sig_atomic_t	 got_alrm, got_usr1, got_usr2;

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(TIMEOUT);
	printf("1..%d\n", PLAN);
	sigemptyset(&none);

	test_names();
	test_strtonum();
	test_strlcpy();
	test_closefrom();
	test_closefrom_count();
	test_ppoll();
	test_ppoll_bad();
	test_ppoll_hup();
	test_ppoll_urgent();
	test_ppoll_signal();
	test_ppoll_pending();
	test_ppoll_sweep();
	test_accept4();
	test_accept4_odd();
	test_setres();
	test_log();
	test_log_long();
	test_log_hangs();
	test_log_gone();
	test_log_style();
	test_tailq();
	test_tailq_safe();

	if (tests != PLAN) {
		printf("# planned %d tests, made %d\n", PLAN, tests);
		failed++;
	}
	return failed != 0;
}

static void
ok(int good, const char *fmt, ...)
{
	va_list	 ap;

	printf("%sok %d - ", good ? "" : "not ", ++tests);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (!good)
		failed++;
}

static void
skip(int n, const char *why)
{
	while (n-- > 0)
		printf("ok %d # SKIP %s\n", ++tests, why);
}

/* What the tests stand on gave way. */
static __dead void
die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static int
child_ok(int (*func)(void))
{
	pid_t	 pid;
	int	 status;

	if ((pid = fork()) == -1)
		die("fork");
	if (pid == 0) {
		alarm(TIMEOUT);
		_exit(!func());
	}
	if (waitpid(pid, &status, 0) == -1)
		die("waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A syslogd for the tests, at its path; then the only one there is. */
static void
log_listen(void)
{
	struct sockaddr_un	 sun;

	if (logpath[0] == '\0')
		snprintf(logpath, sizeof(logpath), "/tmp/compat-log.%ld",
		    (long)getpid());
	unlink(logpath);
	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	compat_strlcpy(sun.sun_path, logpath, sizeof(sun.sun_path));
	if ((logd = socket(AF_UNIX, SOCK_DGRAM, 0)) == -1 ||
	    fcntl(logd, F_SETFL, O_NONBLOCK) == -1 ||
	    bind(logd, (struct sockaddr *)&sun, sizeof(sun)) == -1)
		die("bind");
	log_paths[0] = logpath;
}

static void
log_unlisten(void)
{
	unlink(logpath);
	close(logd);
	logd = -1;
}

/* Reads the next line of the log: 0 if there is none. */
static int
log_last(char *buf, size_t size)
{
	ssize_t	 n;

	if ((n = recv(logd, buf, size - 1, 0)) == -1)
		return 0;
	buf[n] = '\0';
	return 1;
}

/* Whether the next line of the log ends with that; NULL: there is none. */
static int
log_is(const char *text)
{
	char	 buf[10000];

	if (!log_last(buf, sizeof(buf)))
		return text == NULL;
	return text != NULL && strlen(buf) >= strlen(text) &&
	    strcmp(buf + strlen(buf) - strlen(text), text) == 0;
}

static void
test_log(void)
{
	int	 fd;

	log_paths[0] = "/tmp/none/compat-log";
	openlog("test", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	ok(!log_heard(), "syslog: nobody there");
	errno = ENOTTY;
	syslog(LOG_INFO, "%s", "unheard");
	ok(errno == ENOTTY, "syslog: keeps errno");

	log_listen();
	slog.retry = 0;
	openlog("test", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	fd = slog.fd;
	ok(log_heard(), "syslog: there is one now");
	ok(fcntl(fd, F_GETFD) == FD_CLOEXEC &&
	    (fcntl(fd, F_GETFL) & O_NONBLOCK), "syslog: its descriptor");
	syslog(LOG_ERR, "%s %d", "number", 7);
	ok(log_is("1 lines lost: syslogd did not read them"),
	    "syslog: what was lost before is told");
	ok(log_is(" number 7"), "syslog: then the line");
	openlog("test", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	ok(slog.fd == fd, "syslog: opened twice, one descriptor");
	syslog(LOG_ERR, "%s", "");
	ok(log_is(": ") || log_is(" - - "), "syslog: an empty line");
	ok(log_is(NULL), "syslog: and no more");
}

/* Datagrams that the system finds too long. */
static void
test_log_long(void)
{
	static char	 text[12000];
	char		 buf[10000];
	int		 small = 1;

	memset(text, 'x', sizeof(text) - 1);
	syslog(LOG_INFO, "%s", text);
	ok(log_last(buf, sizeof(buf)) && strlen(buf) == 8191 &&
	    strstr(buf, " xxx") != NULL, "syslog: longer than our buffer");
	/* Half of it is what the kernel has to find room for, on Linux. */
	if (setsockopt(slog.fd, SOL_SOCKET, SO_SNDBUF, &small,
	    sizeof(small)) == -1)
		die("SO_SNDBUF");
	syslog(LOG_INFO, "%s", text);
	ok(log_last(buf, sizeof(buf)) && strlen(buf) > 1000 &&
	    strlen(buf) <= 8191 && strstr(buf, " xxx") != NULL,
	    "syslog: too long for the socket: shortened");
	fake.longest = 300;
	syslog(LOG_INFO, "%s", text);
	ok(log_last(buf, sizeof(buf)) && strlen(buf) > 200 &&
	    strlen(buf) <= 300, "syslog: shortened as far as it takes");
	fake.longest = 1;
	syslog(LOG_INFO, "%s", text);
	fake.longest = 0;
	ok(slog.lost == 1 && log_is(NULL), "syslog: or lost and counted");
	syslog(LOG_INFO, "short");
	ok(log_is("1 lines lost: syslogd did not read them") &&
	    log_is(" short"), "syslog: which is told");
}

/* One that does not read: if anything waits, alarm(2) ends all of this. */
static void
test_log_hangs(void)
{
	static const int full[] = { EAGAIN, ENOBUFS };
	char		 buf[10000];
	size_t		 i;
	long long	 since;
	int		 fd = slog.fd, n = 0, m;

	for (i = 0; i < 5000; i++)
		syslog(LOG_INFO, "line %d", (int)i);
	ok(slog.lost > 0, "syslog: 5000 lines for one that does not read");
	while (log_last(buf, sizeof(buf)))
		n++;
	ok(n + slog.lost == 5000, "syslog: are sent or counted");
	m = snprintf(buf, sizeof(buf),
	    "%lu lines lost: syslogd did not read them", slog.lost);
	syslog(LOG_INFO, "after");
	ok(m > 0 && log_is(buf) && log_is(" after") && log_is(NULL),
	    "syslog: and the count arrives");
	ok(slog.fd == fd, "syslog: by the same descriptor");

	for (i = 0; i < nitems(full); i++) {
		fake.send_error = full[i];
		syslog(LOG_INFO, "no room");
		syslog(LOG_INFO, "no room");
		fake.send_error = 0;
		ok(slog.fd == fd && slog.lost == 2,
		    "syslog: %s: the connection holds", strerror(full[i]));
		syslog(LOG_INFO, "room");
		ok(log_is("2 lines lost: syslogd did not read them") &&
		    log_is(" room"), "syslog: and is used again");
	}

	/* Patience ends, once for all. */
	fake.send_error = EAGAIN;
	since = log_ms();
	log_patience(300);
	for (i = 0; i < 100; i++)
		syslog(LOG_INFO, "in vain");
	fake.send_error = 0;
	ok(log_ms() - since >= 300 && log_ms() - since < 10000,
	    "syslog: patience has an end");
	ok(slog.lost == 100, "syslog: then the lines are lost, too");
	syslog(LOG_INFO, "room");
	ok(log_is("100 lines lost: syslogd did not read them") &&
	    log_is(" room"), "syslog: and counted");
	slog.patience = 0;
}

/* One that goes away and comes back. */
static void
test_log_gone(void)
{
	long long	 since;
	int		 before, i, now;

	before = dup(0);
	close(before);
	log_unlisten();
	log_listen();
	syslog(LOG_INFO, "to the next");
	ok(log_is(" to the next"), "syslog: a new socket at the same path");
	ok(fcntl(slog.fd, F_GETFD) == FD_CLOEXEC &&
	    (fcntl(slog.fd, F_GETFL) & O_NONBLOCK),
	    "syslog: its descriptor is as the one before");
	log_unlisten();
	since = log_ms();
	for (i = 0; i < 100; i++)
		syslog(LOG_INFO, "to nobody");
	ok(!log_heard() && slog.lost == 100, "syslog: gone");
	ok(slog.retry >= since + 1000, "syslog: not looked for in a second");
	slog.retry += 100000;
	log_listen();
	syslog(LOG_INFO, "too early");
	ok(!log_heard() && log_is(NULL), "syslog: whether it is there or not");
	slog.retry = log_ms();
	syslog(LOG_INFO, "there");
	ok(log_is("101 lines lost: syslogd did not read them") &&
	    log_is(" there"), "syslog: a late one has the count and the line");
	log_unlisten();
	log_listen();
	fake.fcntl_fails = 1;
	syslog(LOG_INFO, "lost");
	ok(!log_heard() && slog.lost == 1,
	    "syslog: not without its descriptor's flags");
	slog.retry = 0;
	syslog(LOG_INFO, "again");
	ok(log_is("1 lines lost: syslogd did not read them") &&
	    log_is(" again"), "syslog: but with them");
	now = dup(0);
	close(now);
	ok(now == before, "syslog: no descriptor is left behind");
}

/* As each system's own library puts it. */
static void
test_log_style(void)
{
	char	 buf[1000], pid[32], *p;
	int	 y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0, n = 0;

	snprintf(pid, sizeof(pid), "test[%ld]: text", (long)getpid());
	setenv("TZ", "XYZ-5:30", 1);
	tzset();
	slog.style = LOG_LOCAL;
	syslog(LOG_INFO, "text");
	p = log_last(buf, sizeof(buf)) ? buf : NULL;
	ok(p != NULL && strncmp(p, "<30>", 4) == 0 && strlen(p) >= 20 &&
	    strchr("JFMASOND", p[4]) != NULL && p[7] == ' ' && p[10] == ' ' &&
	    sscanf(p + 8, "%d %2d:%2d:%2d%n", &d, &h, &mi, &s, &n) == 4 &&
	    n == 11 && strcmp(p + 20, pid) == 0, "syslog: as glibc has it");
	slog.style = LOG_UTC;
	syslog(LOG_USER | LOG_ERR, "text");
	p = log_last(buf, sizeof(buf)) ? buf : NULL;
	ok(p != NULL && strncmp(p, "<11>", 4) == 0 && strlen(p) >= 20 &&
	    sscanf(p + 8, "%d %2d:%2d:%2d", &d, &y, &mo, &s) == 4 &&
	    (y * 60 + mo + 330 + 1440 - (h * 60 + mi)) % 1440 <= 1 &&
	    strcmp(p + 20, pid) == 0, "syslog: as musl does, in UTC");
	slog.style = LOG_RFC5424;
	syslog(LOG_INFO, "text");
	p = log_last(buf, sizeof(buf)) ? buf : NULL;
	snprintf(pid, sizeof(pid), " test %ld - - text", (long)getpid());
	n = 0;
	ok(p != NULL && sscanf(p, "<30>1 %4d-%2d-%2dT%2d:%2d:%2d.%*6d+05:30 %n",
	    &y, &mo, &d, &h, &mi, &s, &n) == 6 && n == 39 &&
	    y >= 2024 && (p = strchr(p + n, ' ')) != NULL &&
	    strcmp(p, pid) == 0, "syslog: as FreeBSD and NetBSD do");
	unsetenv("TZ");
	tzset();
	slog.style = LOG_STYLE;
	log_unlisten();
}

/* The plain names are there, whoever provides them, and do the same. */
static void
test_names(void)
{
	const char	*errstr;
	struct pollfd	 pfd = { -1, POLLIN, 0 };
	char		 buf[4];

	ok(strtonum("7", 1, 9, &errstr) == 7 && errstr == NULL,
	    "strtonum by its plain name");
	ok(strlcpy(buf, "four", sizeof(buf)) == 4 && strcmp(buf, "fou") == 0,
	    "strlcpy by its plain name");
	ok(ppoll(&pfd, 1, &zero, NULL) == 0, "ppoll by its plain name");
	ok(accept4(-1, NULL, NULL, SOCK_CLOEXEC) == -1 && errno == EBADF,
	    "accept4 by its plain name");
	ok(setresgid((gid_t)-1, (gid_t)-1, (gid_t)-1) == 0 ||
	    errno == EINVAL || errno == EPERM,
	    "setresgid by its plain name");
	ok(setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1) == 0 ||
	    errno == EINVAL || errno == EPERM,
	    "setresuid by its plain name");
	ok(pledge("stdio", NULL) == 0, "pledge promises and does nothing");
}

static void
test_strtonum(void)
{
	static const struct {
		const char	*s;
		long long	 min, max, want;
		const char	*err;
	} t[] = {
		{ "0",		0,	0,	0,	NULL },
		{ "-0",		0,	0,	0,	NULL },
		{ "1",		1,	10,	1,	NULL },
		{ "10",		1,	10,	10,	NULL },
		{ "0",		1,	10,	0,	"too small" },
		{ "11",		1,	10,	0,	"too large" },
		{ "-3",		-3,	-1,	-3,	NULL },
		{ "-4",		-3,	-1,	0,	"too small" },
		{ "0",		-3,	-1,	0,	"too large" },
		{ "+5",		1,	10,	5,	NULL },
		{ "+-5",	-10,	10,	0,	"invalid" },
		{ "007",	1,	10,	7,	NULL },
		{ " \t\n 5",	1,	10,	5,	NULL },
		{ " \v\f\r5",	1,	10,	5,	NULL },
		{ "5 ",		1,	10,	0,	"invalid" },
		{ "",		0,	10,	0,	"invalid" },
		{ " ",		0,	10,	0,	"invalid" },
		{ "-",		-10,	10,	0,	"invalid" },
		{ "5x",		1,	10,	0,	"invalid" },
		{ "x5",		1,	10,	0,	"invalid" },
		{ "0x5",	0,	10,	0,	"invalid" },
		{ "5.0",	0,	10,	0,	"invalid" },
		{ "5",		10,	1,	0,	"invalid" },
		{ "99x",	1,	10,	0,	"invalid" },
		{ "99999999999999999999x", 1, 10, 0,	"invalid" },
		{ "9223372036854775807", LLONG_MIN, LLONG_MAX, LLONG_MAX,
		    NULL },
		{ "-9223372036854775808", LLONG_MIN, LLONG_MAX, LLONG_MIN,
		    NULL },
		{ "9223372036854775808", LLONG_MIN, LLONG_MAX, 0,
		    "too large" },
		{ "-9223372036854775809", LLONG_MIN, LLONG_MAX, 0,
		    "too small" },
		{ "-9223372036854775808", LLONG_MIN, LLONG_MIN, LLONG_MIN,
		    NULL },
		{ "-9223372036854775807", LLONG_MIN, LLONG_MIN, 0,
		    "too large" },
		{ "-9223372036854775809", LLONG_MIN, LLONG_MIN, 0,
		    "too small" },
		{ "9223372036854775807", LLONG_MAX, LLONG_MAX, LLONG_MAX,
		    NULL },
		{ "9223372036854775806", LLONG_MAX, LLONG_MAX, 0,
		    "too small" },
		{ "9223372036854775808", LLONG_MAX, LLONG_MAX, 0,
		    "too large" },
		{ "99999999999999999999", 1,	10,	0,	"too large" },
		{ "-99999999999999999999", 1,	10,	0,	"too small" },
	};
	const char	*errstr;
	long long	 n;
	size_t		 i;
	int		 error, good, want;

	for (i = 0; i < nitems(t); i++) {
		errstr = "untouched";
		errno = E2BIG;
		n = compat_strtonum(t[i].s, t[i].min, t[i].max, &errstr);
		error = errno;
		if (t[i].err == NULL) {
			want = E2BIG;	/* success leaves errno alone */
			good = errstr == NULL;
		} else {
			want = strcmp(t[i].err, "invalid") == 0 ? EINVAL :
			    ERANGE;
			good = errstr != NULL && strcmp(errstr, t[i].err) == 0;
		}
		ok(good && n == t[i].want && error == want,
		    "strtonum(\"%s\", %lld, %lld): %s",
		    t[i].s[0] == ' ' && t[i].s[1] != '\0' ? "blanks 5" :
		    t[i].s, t[i].min, t[i].max,
		    t[i].err == NULL ? "good" : t[i].err);
	}
	errno = 0;
	ok(compat_strtonum("1x", 0, 9, NULL) == 0 && errno == EINVAL &&
	    compat_strtonum("8", 0, 9, NULL) == 8,
	    "strtonum does without errstr");
}

static void
test_strlcpy(void)
{
	char	 buf[8];

	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "abc", sizeof(buf)) == 3 &&
	    memcmp(buf, "abc\0xxxx", 8) == 0, "strlcpy of what fits");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "abc", 4) == 3 &&
	    memcmp(buf, "abc\0xxxx", 8) == 0, "strlcpy of what just fits");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "abcd", 4) == 4 &&
	    memcmp(buf, "abc\0xxxx", 8) == 0, "strlcpy of one too many");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "a longer string", 1) == 15 &&
	    memcmp(buf, "\0xxxxxxx", 8) == 0, "strlcpy into one byte");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "abc", 0) == 3 && buf[0] == 'x',
	    "strlcpy into none");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "", sizeof(buf)) == 0 &&
	    memcmp(buf, "\0xxxxxxx", 8) == 0, "strlcpy of nothing");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "", 1) == 0 &&
	    memcmp(buf, "\0xxxxxxx", 8) == 0,
	    "strlcpy of nothing into one byte");
	memset(buf, 'x', sizeof(buf));
	ok(compat_strlcpy(buf, "", 0) == 0 &&
	    memcmp(buf, "xxxxxxxx", 8) == 0, "strlcpy of nothing into none");
}

static int
is_open(int fd)
{
	return fcntl(fd, F_GETFD) != -1;
}

/* Make fd a descriptor; false if the limit does not allow it. */
static int
open_at(int fd)
{
	return is_open(fd) || dup2(0, fd) == fd;
}

/* Set the soft limit of descriptors, and the hard one if told to. */
static int
set_limit(rlim_t n, int hard)
{
	struct rlimit	 rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		return 0;
	if (!hard && rl.rlim_max != RLIM_INFINITY && n > rl.rlim_max)
		n = rl.rlim_max;
	rl.rlim_cur = n;
	if (hard)
		rl.rlim_max = n;
	return setrlimit(RLIMIT_NOFILE, &rl) == 0;
}

static void
close_from(int low)
{
	if (fd_dir == NULL)
		compat_closefrom(low);
	else
		compat_closefrom_dir(low, fd_dir);
}

/* Open these, close from low: those below stay, the others are gone. */
static int
gaps(int low, const int *fds, size_t nfds)
{
	size_t	 i;

	for (i = 0; i < nfds; i++)
		if (!open_at(fds[i]))
			return 0;
	errno = E2BIG;
	close_from(low);
	if (errno != E2BIG)
		return 0;
	for (i = 0; i < nfds; i++)
		if (is_open(fds[i]) != (fds[i] < low))
			return 0;
	return 1;
}

static int
closefrom_some(void)
{
	static const int	 fds[] = { 0, 1, 2, 3, 4, 9, 10, 11, 63, 64, 200 };

	return gaps(10, fds, nitems(fds)) && gaps(3, fds, nitems(fds));
}

static int
closefrom_none(void)
{
	static const int	 fds[] = { 0, 1, 2, 3, 10, 60 };

	return gaps(61, fds, nitems(fds));
}

/* More entries than readdir(3) has from the kernel at once. */
static int
closefrom_many(void)
{
	int	 fd, top;

	if (!set_limit(6000, 0))
		return 0;
	for (top = 3; top < 5000 && open_at(top); top++)
		continue;
	close_from(3);
	for (fd = 0; fd < top + 10; fd++)	/* nor is the list left */
		if (is_open(fd) != (fd < 3))
			return 0;
	return top > 100;
}

/* Open descriptors above the present soft limit. */
static int
closefrom_limit(void)
{
	if (!open_at(250) || !set_limit(64, 0) || !is_open(250))
		return 0;
	close_from(3);
	return !is_open(250) && is_open(2);
}

/* The same above the hard limit: ulimit -n of the shell lowers both. */
static int
closefrom_hard(void)
{
	if (!open_at(250) || !set_limit(64, 1) || !is_open(250))
		return 0;
	close_from(3);
	return !is_open(250) && is_open(2);
}

/* So far above the limit that only a list of descriptors tells. */
static int
may_go_far(void)
{
#if defined(__APPLE__) || defined(__linux__)
	return set_limit(FAR + 1, 1) && open_at(FAR);
#else
	return 0;
#endif
}

static int
closefrom_far(void)
{
	if (!may_go_far() || !set_limit(64, 1) || !is_open(FAR))
		return 0;
	close_from(3);
	return !is_open(FAR) && is_open(2);
}

/* Too far for the least that is tried without a list, below the hard limit. */
static int
closefrom_beyond(void)
{
	if (!may_go_far() || !set_limit(64, 0) || !is_open(FAR))
		return 0;
	close_from(3);
	return !is_open(FAR) && is_open(2);
}

/*
 * A list of our own, of n descriptors, to read which takes one of them.  Those
 * from 3 on are closed.
 */
static void
list_up_to(int n)
{
	fd_dir = "/";
	fake.list = n;
	while (n-- > 3)
		close(n);
}

/*
 * A list that looks true is believed: what it does not name stays open.  Nor
 * does it matter that this one goes on naming what was closed.
 */
static int
closefrom_list(void)
{
	list_up_to(20);
	if (!open_at(18) || !open_at(19) || !open_at(20))
		return 0;
	close_from(19);
	return is_open(18) && !is_open(19) && is_open(20);
}

/* A close that failed may not have closed it; another never was open. */
static int
closefrom_again(void)
{
	list_up_to(20);
	if (!open_at(17) || !open_at(18))
		return 0;
	fake.close_fails = 1;
	close_from(18);
	return is_open(17) && !is_open(18) && fake.close_fails == 0;
}

/* A list that moves up when something is closed, and so is read with gaps. */
static int
closefrom_skip(void)
{
	int	 fd;

	list_up_to(40);
	for (fd = 4; fd <= 40; fd++)
		if (!open_at(fd))
			return 0;
	fake.skip = 1;
	close_from(4);
	for (fd = 3; fd <= 40; fd++)
		if (is_open(fd) != (fd == 40))
			return 0;
	return 1;
}

/* Not one descriptor left to read a directory with. */
static int
closefrom_emfile(void)
{
	if (!open_at(250) || !open_at(3) || !set_limit(3, 0) || dup(0) != -1)
		return 0;
	close_from(3);
	return !is_open(250) && !is_open(3) && is_open(2);
}

static void
test_closefrom(void)
{
	/* None, one that is not there, one that is something else. */
	static const char *const	 dirs[] = { NULL, "/nonexistent", "/" };
	static const char *const	 how[] = { "closefrom",
	    "closefrom without a list", "closefrom with a false list" };
	size_t				 i;

	for (i = 0; i < nitems(dirs); i++) {
		fd_dir = dirs[i];
		ok(child_ok(closefrom_some), "%s", how[i]);
		ok(child_ok(closefrom_none), "%s: nothing to close", how[i]);
		ok(child_ok(closefrom_many), "%s: thousands", how[i]);
		ok(child_ok(closefrom_limit), "%s: above the soft limit",
		    how[i]);
		ok(child_ok(closefrom_hard), "%s: above the hard limit",
		    how[i]);
		ok(child_ok(closefrom_emfile), "%s: no descriptor left",
		    how[i]);
	}
	fd_dir = NULL;
	ok(child_ok(closefrom_list), "closefrom with a list of our own");
	ok(child_ok(closefrom_again),
	    "closefrom with a list: what could not be closed is tried again");
	ok(child_ok(closefrom_skip),
	    "closefrom with a list: gaps when it is read");
	if (!child_ok(may_go_far)) {
		skip(2, "no descriptors as high as that");
		return;
	}
	ok(child_ok(closefrom_far), "closefrom: far above the limit");
	fd_dir = "/nonexistent";
	ok(child_ok(closefrom_beyond),
	    "closefrom without a list: far above the soft limit");
	fd_dir = NULL;
}

/* With this hard limit all from 10 to end are tried, one after the other. */
static int
counts_to(rlim_t hard, int end)
{
	fake.close_counts = fake.limits = 1;
	fake.limit.rlim_cur = 64;
	fake.limit.rlim_max = hard;
	fake.next = 10;
	compat_closefrom_dir(10, NULL);
	fake.close_counts = fake.limits = 0;
	return fake.next == end;
}

/* What is tried: a multiple of what is usual, and what does not take long. */
static void
test_closefrom_count(void)
{
	ok(counts_to(64, 65536) && counts_to(65535, 65536) &&
	    counts_to(65536, 65536), "closefrom without a list: a low limit");
	ok(counts_to(65537, 65537) && counts_to(100000, 100000) &&
	    counts_to(1048575, 1048575) && counts_to(1048576, 1048576),
	    "closefrom without a list: the hard limit");
	ok(counts_to(1048577, 1048576) && counts_to(1073741816, 1048576) &&
	    counts_to(RLIM_INFINITY, 1048576),
	    "closefrom without a list: bounded");
	fake.limit_fails = 1;
	ok(counts_to(0, 65536), "closefrom without a list or a limit");
	fake.limit_fails = 0;
}

/* Poll one descriptor: what is reported, -1 on error, -2 if that is odd. */
static int
poll1(int fd, int events, const struct timespec *timeout)
{
	struct pollfd	 pfd;
	int		 n;

	pfd.fd = fd;
	pfd.events = (short)events;
	pfd.revents = POLLERR;		/* stale, must go */
	if ((n = compat_ppoll(&pfd, 1, timeout, NULL)) == -1)
		return -1;
	if (pfd.fd != fd || pfd.events != events || n != (pfd.revents != 0))
		return -2;
	return pfd.revents;
}

static void
test_ppoll(void)
{
	struct timespec	 ts = { 0, 20000000 };
	struct pollfd	 pfd[4];
	char		 c;
	int		 n, sv[2], sw[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sw) == -1)
		die("socketpair");

	ok(poll1(sv[0], POLLIN, &zero) == 0, "ppoll: nothing to read");
	ok(poll1(sv[0], POLLIN, &ts) == 0, "ppoll: nothing to read in time");
	ok(ts.tv_sec == 0 && ts.tv_nsec == 20000000,
	    "ppoll leaves the timeout alone");
	ok(compat_ppoll(NULL, 0, &ts, NULL) == 0,
	    "ppoll of nothing just waits");
	ok(poll1(sv[0], POLLOUT, NULL) == POLLOUT, "ppoll: writable");
	ok(poll1(sv[0], POLLIN | POLLOUT, NULL) == POLLOUT,
	    "ppoll: writable, not readable");
	ok(poll1(sv[0], 0, &zero) == 0, "ppoll: not asked, not told");
	if (write(sv[1], "x", 1) != 1)
		die("write");
	ok(poll1(sv[0], POLLIN, NULL) == POLLIN, "ppoll: readable");
	ok(poll1(sv[0], POLLIN | POLLOUT, NULL) == (POLLIN | POLLOUT),
	    "ppoll: both");
	ok(poll1(sv[0], POLLPRI, &zero) == 0, "ppoll: nothing urgent");
	ok(poll1(-1, POLLIN, &zero) == 0, "ppoll: no descriptor");
	ts.tv_nsec = -1;
	ok(poll1(sv[0], POLLIN, &ts) == -1 && errno == EINVAL,
	    "ppoll: invalid timeout");

	pfd[0].fd = sw[0];
	pfd[1].fd = -1;
	pfd[2].fd = sv[0];
	pfd[3].fd = sv[0];
	for (n = 0; n < 4; n++) {
		pfd[n].events = POLLIN;
		pfd[n].revents = POLLNVAL;
	}
	pfd[3].events = POLLOUT;
	n = compat_ppoll(pfd, 4, NULL, NULL);
	ok(n == 2 && pfd[0].revents == 0 && pfd[1].revents == 0 &&
	    pfd[2].revents == POLLIN && pfd[3].revents == POLLOUT,
	    "ppoll: some of several, one of them twice");

	/* Whichever comes first, it is the highest that counts. */
	if ((n = fcntl(sv[0], F_DUPFD, 100)) == -1)
		die("F_DUPFD");
	close(sv[0]);
	sv[0] = n;
	pfd[0].fd = pfd[2].fd = sw[0];
	pfd[1].fd = sv[0];
	pfd[1].events = POLLIN;
	n = compat_ppoll(pfd, 2, &patience, NULL);
	ok(n == 1 && pfd[0].revents == 0 && pfd[1].revents == POLLIN,
	    "ppoll: low, then high and readable");
	n = compat_ppoll(pfd + 1, 2, &patience, NULL);
	ok(n == 1 && pfd[1].revents == POLLIN && pfd[2].revents == 0,
	    "ppoll: high and readable, then low");
	if (read(sv[0], &c, 1) != 1)
		die("read");
	ok(compat_ppoll(pfd, 2, &zero, NULL) == 0 &&
	    compat_ppoll(pfd + 1, 2, &zero, NULL) == 0,
	    "ppoll: low and high, neither readable");
	ok(child_ok(poll_highest), "ppoll: as high as an fd_set goes");
	ok(child_ok(poll_higher), "ppoll: higher than an fd_set goes");
	ok(child_ok(poll_no_memory), "ppoll: no memory for so high a one");

	close(sv[0]);
	close(sv[1]);
	close(sw[0]);
	close(sw[1]);
}

static int
poll_highest(void)
{
	int	 sv[2];

	return set_limit(FD_SETSIZE, 0) &&
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0 &&
	    dup2(sv[0], FD_SETSIZE - 1) != -1 && write(sv[1], "x", 1) == 1 &&
	    poll1(FD_SETSIZE - 1, POLLIN | POLLOUT, &zero) ==
	    (POLLIN | POLLOUT);
}

/*
 * Each array is reached across its fd_sets, and no descriptor is taken for
 * one that is as high in another fd_set.
 */
static int
poll_higher(void)
{
	struct pollfd	 pfd[4];
	int		 i, n, sv[2];
	char		 c;

	if (!set_limit(3 * FD_SETSIZE, 0) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		return 0;
	for (i = 0; i < 4; i++) {
		pfd[i].events = POLLIN;
		if ((pfd[i].fd = dup2(sv[i % 2],
		    i * (int)FD_SETSIZE - (i == 3 ? 1 : -50))) == -1)
			return 0;
	}
	/* The odd ones become readable. */
	if (write(sv[0], "x", 1) != 1)
		return 0;
	n = compat_ppoll(pfd, 4, NULL, NULL);
	if (n != 2 || pfd[0].revents != 0 || pfd[1].revents != POLLIN ||
	    pfd[2].revents != 0 || pfd[3].revents != POLLIN)
		return 0;
	/* The other way round, with the highest first and not asked. */
	if (read(sv[1], &c, 1) != 1 || write(sv[1], "x", 1) != 1)
		return 0;
	pfd[1].events = POLLOUT;
	n = pfd[0].fd;
	pfd[0].fd = pfd[3].fd;
	pfd[3].fd = n;
	pfd[0].events = 0;
	n = compat_ppoll(pfd, 4, NULL, NULL);
	return n == 3 && pfd[0].revents == 0 && pfd[1].revents == POLLOUT &&
	    pfd[2].revents == POLLIN && pfd[3].revents == POLLIN;
}

static int
poll_no_memory(void)
{
	int	 sv[2];

	if (!set_limit(2 * FD_SETSIZE, 0) ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1 ||
	    dup2(sv[0], FD_SETSIZE) == -1 || write(sv[1], "x", 1) != 1)
		return 0;
	fake.no_memory = 1;
	if (poll1(FD_SETSIZE, POLLIN, NULL) != -1 || errno != ENOMEM)
		return 0;
	fake.no_memory = 0;
	/* Nothing is the worse for it. */
	return poll1(sv[0], POLLIN, NULL) == POLLIN &&
	    poll1(FD_SETSIZE, POLLIN, NULL) == POLLIN;
}

static void
test_ppoll_bad(void)
{
	struct pollfd	 pfd[4];
	int		 fd, fd2, n, sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1 ||
	    (fd = dup(0)) == -1 || (fd2 = dup(0)) == -1)
		die("descriptors");
	close(fd);
	close(fd2);

	ok(poll1(fd, POLLIN, NULL) == POLLNVAL, "ppoll: bad descriptor");
	pfd[0].fd = fd;
	pfd[0].events = POLLIN;
	pfd[1].fd = sv[0];
	pfd[1].events = POLLIN;
	pfd[2].fd = sv[0];
	pfd[2].events = POLLOUT;
	n = compat_ppoll(pfd, 3, NULL, NULL);
	ok(n == 2 && pfd[0].revents == POLLNVAL && pfd[1].revents == 0 &&
	    pfd[2].revents == POLLOUT, "ppoll: a bad one hides no good one");
	n = compat_ppoll(pfd, 2, NULL, NULL);
	ok(n == 1 && pfd[0].revents == POLLNVAL && pfd[1].revents == 0,
	    "ppoll: a bad one does not wait for the others");
	pfd[2].fd = fd2;
	pfd[3].fd = sv[0];
	pfd[3].events = POLLOUT;
	fake.waits = 0;
	n = compat_ppoll(pfd, 4, NULL, NULL);
	ok(n == 3 && pfd[0].revents == POLLNVAL && pfd[1].revents == 0 &&
	    pfd[2].revents == POLLNVAL && pfd[3].revents == POLLOUT,
	    "ppoll: two bad ones");
	ok(fake.waits == 2, "ppoll: both found at once");
	fake.wait_fails = 1;
	ok(poll1(sv[0], POLLIN, &zero) == -1 && errno == EBADF,
	    "ppoll: bad, but none is to blame");

	close(sv[0]);
	close(sv[1]);
}

static void
test_ppoll_hup(void)
{
	int	 pip[2], sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		die("socketpair");
	if (write(sv[1], "x", 1) != 1)
		die("write");
	close(sv[1]);
	ok(poll1(sv[0], POLLIN, NULL) == (POLLIN | POLLHUP),
	    "ppoll: peer gone, data left");
	ok(read(sv[0], pip, 1) == 1 &&
	    poll1(sv[0], POLLIN, NULL) == (POLLIN | POLLHUP),
	    "ppoll: peer gone");
	close(sv[0]);

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		die("socketpair");
	shutdown(sv[1], SHUT_WR);
	ok(poll1(sv[0], POLLIN, NULL) == POLLIN,
	    "ppoll: half closed is end of file, no hangup");
	close(sv[0]);
	close(sv[1]);

	if (pipe(pip) == -1)
		die("pipe");
	close(pip[1]);
	ok(poll1(pip[0], POLLIN, NULL) & POLLHUP, "ppoll: writer gone");
	close(pip[0]);

	if (pipe(pip) == -1)
		die("pipe");
	close(pip[0]);
	ok(poll1(pip[1], POLLOUT, NULL) & (POLLERR | POLLHUP),
	    "ppoll: reader gone");
	close(pip[1]);
}

/* Connected on the loopback; UNIX sockets know nothing urgent. */
static int
tcp_pair(int *sv)
{
	struct sockaddr_in	 sin;
	socklen_t		 len = sizeof(sin);
	int			 s;

	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if ((s = socket(AF_INET, SOCK_STREAM, 0)) == -1)
		return 0;
	if (bind(s, (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    getsockname(s, (struct sockaddr *)&sin, &len) == -1) {
		close(s);
		return 0;
	}
	if (listen(s, 1) == -1 ||
	    (sv[1] = socket(AF_INET, SOCK_STREAM, 0)) == -1 ||
	    connect(sv[1], (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    (sv[0] = accept(s, NULL, NULL)) == -1)
		die("loopback");
	close(s);
	return 1;
}

static void
test_ppoll_urgent(void)
{
	struct pollfd	 pfd[2];
	char		 c;
	int		 n, sv[2];

	if (!tcp_pair(sv)) {
		skip(5, "no 127.0.0.1");
		return;
	}
	pfd[0].fd = pfd[1].fd = sv[0];
	pfd[0].events = POLLIN;
	pfd[1].events = POLLPRI;
	if (send(sv[1], "x", 1, 0) != 1 || poll(pfd, 1, -1) != 1)
		die("send");
	ok(poll1(sv[0], POLLIN | POLLPRI, &zero) == POLLIN,
	    "ppoll: readable, nothing urgent");
	if (send(sv[1], "!", 1, MSG_OOB) != 1 || poll(pfd + 1, 1, -1) != 1)
		die("send");
	ok(poll1(sv[0], POLLPRI, &zero) == POLLPRI, "ppoll: urgent");
	ok(poll1(sv[0], POLLIN | POLLPRI, &zero) == (POLLIN | POLLPRI),
	    "ppoll: readable and urgent");
	n = compat_ppoll(pfd, 2, &zero, NULL);
	ok(n == 2 && pfd[0].revents == POLLIN && pfd[1].revents == POLLPRI,
	    "ppoll: each is told what it asked");
	if (read(sv[0], &c, 1) != 1)
		die("read");
	ok(poll1(sv[0], POLLIN, &zero) == 0 && fake.woken == 0,
	    "ppoll: what is urgent wakes only who asks");
	close(sv[0]);
	close(sv[1]);
}

static void
on_signal(int sig)
{
	if (sig == SIGUSR1)
		got_usr1++;
	else if (sig == SIGUSR2)
		got_usr2++;
	else
		got_alrm++;
}

static void
test_ppoll_signal(void)
{
	struct timespec		 nap = { 0, 100000000 };
	struct sigaction	 sa;
	sigset_t		 block, now, old;
	pid_t			 pid;
	int			 n, status;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_RESTART;	/* which must not matter */
	sigemptyset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, &old);

	raise(SIGUSR1);
	ok(got_usr1 == 0, "ppoll: a blocked signal waits");
	n = compat_ppoll(NULL, 0, NULL, &none);
	ok(n == -1 && errno == EINTR, "ppoll: a pending signal ends it");
	ok(got_usr1 == 1, "ppoll: a pending signal is delivered once");

	/* The nap is for it to arrive while we wait; if late, no less right. */
	if ((pid = fork()) == -1)
		die("fork");
	if (pid == 0) {
		nanosleep(&nap, NULL);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	n = compat_ppoll(NULL, 0, NULL, &none);
	ok(n == -1 && errno == EINTR, "ppoll: a signal on the way ends it");
	ok(got_usr1 == 2, "ppoll: a signal on the way is delivered once");
	waitpid(pid, &status, 0);

	sigprocmask(SIG_SETMASK, NULL, &now);
	ok(sigismember(&now, SIGUSR1) == 1, "ppoll: the mask is back");
	raise(SIGUSR1);
	n = compat_ppoll(NULL, 0, &zero, NULL);
	ok(n == 0 && got_usr1 == 2, "ppoll: no mask, no signal");
	n = compat_ppoll(NULL, 0, &zero, &block);
	ok(n == 0 && got_usr1 == 2, "ppoll: a mask that blocks it, no signal");
	n = compat_ppoll(NULL, 0, NULL, &none);
	ok(n == -1 && errno == EINTR && got_usr1 == 3,
	    "ppoll: it was not lost");

	sigprocmask(SIG_SETMASK, &old, NULL);
	ok(got_usr1 == 3, "ppoll: nothing comes afterwards");
}

/*
 * Where there is a result too, some systems deliver the signal with it, others
 * leave it pending, and who asks again gets it.
 */
static int
comes_once(void)
{
	if (got_usr1 == 0 &&
	    (compat_ppoll(NULL, 0, &patience, &none) != -1 || errno != EINTR))
		return 0;
	return compat_ppoll(NULL, 0, &zero, &none) == 0 && got_usr1 == 1;
}

/* A pending signal, and descriptors. */
static void
test_ppoll_pending(void)
{
	struct sigaction	 sa;
	struct pollfd		 pfd[2];
	sigset_t		 block, old;
	int			 i, n, sv[2];

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_RESTART;
	sigemptyset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigaddset(&block, SIGUSR2);
	sigprocmask(SIG_BLOCK, &block, &old);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == -1)
		die("socketpair");

	pfd[0].fd = sv[0];
	pfd[0].events = POLLIN;
	got_usr1 = 0;
	raise(SIGUSR1);
	n = compat_ppoll(pfd, 1, &patience, &none);
	ok(n == -1 && errno == EINTR && got_usr1 == 1,
	    "ppoll: a pending signal, nothing to read");

	got_usr1 = 0;
	raise(SIGUSR1);
	if (write(sv[1], "x", 1) != 1)
		die("write");
	n = compat_ppoll(pfd, 1, &patience, &none);
	ok((n == -1 && errno == EINTR && got_usr1 == 1) ||
	    (n == 1 && pfd[0].revents == POLLIN),
	    "ppoll: a pending signal, something to read");
	ok(comes_once(), "ppoll: it is delivered once");

	close(sv[0]);
	got_usr1 = 0;
	raise(SIGUSR1);
	n = compat_ppoll(pfd, 1, &patience, &none);
	ok((n == -1 && errno == EINTR && got_usr1 == 1) ||
	    (n == 1 && pfd[0].revents == POLLNVAL),
	    "ppoll: a pending signal and a bad descriptor");
	ok(comes_once(), "ppoll: it too is delivered once");
	fake.waits = 0;
	fake.mask = NULL;
	n = compat_ppoll(pfd, 1, &patience, &none);
	ok(n == 1 && fake.waits == 2 && fake.mask == &none,
	    "ppoll: the mask holds after a bad descriptor");

	/* One call may deliver both, but need not. */
	got_usr1 = got_usr2 = 0;
	raise(SIGUSR1);
	raise(SIGUSR2);
	for (i = 0; i < 2 && (got_usr1 == 0 || got_usr2 == 0); i++)
		if (compat_ppoll(NULL, 0, &patience, &none) != -1 ||
		    errno != EINTR)
			break;
	ok(i > 0 && got_usr1 == 1 && got_usr2 == 1,
	    "ppoll: two signals, each delivered once");
	ok(compat_ppoll(NULL, 0, &zero, &none) == 0 && got_usr1 == 1 &&
	    got_usr2 == 1, "ppoll: and not again");

	close(sv[1]);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/*
 * A signal that arrives before, in and after all that ppoll does: it ends the
 * wait, always and once, unless there is a result (see comes_once).  In a child,
 * whose alarm(2) this takes; one that spins is ended by its use of the
 * processor.
 */
static int
sweep(int fd, int result)
{
	struct sigaction	 sa;
	struct itimerval	 it;
	struct pollfd		 pfd;
	sigset_t		 block;
	int			 i, n;

	memset(&it, 0, sizeof(it));
	it.it_value.tv_sec = TIMEOUT / 2;
	if (setitimer(ITIMER_PROF, &it, NULL) == -1)
		return 0;
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_signal;
	sa.sa_flags = SA_RESTART;
	sigemptyset(&sa.sa_mask);
	sigaction(SIGALRM, &sa, NULL);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	sigprocmask(SIG_BLOCK, &block, NULL);

	it.it_value.tv_sec = 0;
	pfd.fd = fd;
	pfd.events = POLLIN;
	for (i = 0; i < ROUNDS * 300; i++) {
		got_alrm = 0;
		it.it_value.tv_usec = i % 300 + 1;
		if (setitimer(ITIMER_REAL, &it, NULL) == -1)
			return 0;
		n = compat_ppoll(&pfd, 1, &patience, &none);
		if (n == 1 && result && got_alrm == 0)
			n = compat_ppoll(NULL, 0, &patience, &none);
		if ((n != -1 || errno != EINTR) && !(n == 1 && result))
			return 0;
		if (got_alrm != 1)
			return 0;
	}
	return compat_ppoll(NULL, 0, &zero, &none) == 0 && got_alrm == 1;
}

static int
sweep_none(void)
{
	return sweep(-1, 0);
}

static int
sweep_quiet(void)
{
	int	 sv[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0 && sweep(sv[0], 0);
}

static int
sweep_ready(void)
{
	int	 sv[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0 &&
	    write(sv[1], "x", 1) == 1 && sweep(sv[0], 1);
}

static int
sweep_bad(void)
{
	int	 fd;

	return (fd = dup(0)) != -1 && close(fd) == 0 && sweep(fd, 1);
}

static void
test_ppoll_sweep(void)
{
	ok(child_ok(sweep_none), "ppoll: a signal at any time");
	ok(child_ok(sweep_quiet),
	    "ppoll: a signal at any time, nothing to read");
	ok(child_ok(sweep_ready),
	    "ppoll: a signal at any time, something to read");
	ok(child_ok(sweep_bad),
	    "ppoll: a signal at any time, a bad descriptor");
}

/* A listener that does not block, and its address. */
static int
listener(struct sockaddr_un *sun)
{
	char	 dir[] = "/tmp/compat.XXXXXXXXXX";
	int	 s;

	if (mkdtemp(dir) == NULL)
		die(dir);
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/sock", dir);
	if ((s = socket(AF_UNIX, SOCK_STREAM, 0)) == -1 ||
	    bind(s, (struct sockaddr *)sun, sizeof(*sun)) == -1 ||
	    listen(s, 5) == -1 || fcntl(s, F_SETFL, O_NONBLOCK) == -1)
		die(sun->sun_path);
	return s;
}

static void
unlisten(int s, struct sockaddr_un *sun)
{
	char	*slash;

	close(s);
	unlink(sun->sun_path);
	if ((slash = strrchr(sun->sun_path, '/')) != NULL)
		*slash = '\0';
	rmdir(sun->sun_path);
}

static int
connects(const struct sockaddr_un *sun)
{
	int	 c;

	if ((c = socket(AF_UNIX, SOCK_STREAM, 0)) == -1 ||
	    connect(c, (const struct sockaddr *)sun, sizeof(*sun)) == -1)
		die("connect");
	return c;
}

static void
test_accept4(void)
{
	struct sockaddr_storage	 peer;
	struct sockaddr_un	 sun;
	socklen_t		 len = sizeof(peer);
	int			 c[3], fd, i, s;

	s = listener(&sun);
	ok(compat_accept4(s, NULL, NULL, SOCK_CLOEXEC) == -1 &&
	    (errno == EAGAIN || errno == EWOULDBLOCK),
	    "accept4: nobody there");
	ok(compat_accept4(-1, NULL, NULL, SOCK_CLOEXEC) == -1 &&
	    errno == EBADF, "accept4: bad descriptor");
	for (i = 0; i < 3; i++)
		c[i] = connects(&sun);
	ok(compat_accept4(s, NULL, NULL, ~SOCK_CLOEXEC) == -1 &&
	    errno == EINVAL, "accept4: unknown flags");

	fd = compat_accept4(s, NULL, NULL, SOCK_CLOEXEC);
	ok(fd != -1, "accept4");
	ok(fcntl(fd, F_GETFD) == FD_CLOEXEC, "accept4: close-on-exec");
	ok((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0,
	    "accept4: blocking, the listener is not");
	close(fd);
	fd = compat_accept4(s, NULL, NULL, 0);
	ok(fd != -1 && fcntl(fd, F_GETFD) == 0 &&
	    (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0, "accept4: no flags");
	close(fd);
	memset(&peer, 0, sizeof(peer));
	fd = compat_accept4(s, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
	ok(fd != -1 && peer.ss_family == AF_UNIX && len < sizeof(peer),
	    "accept4: the address of the peer");
	close(fd);

	for (i = 0; i < 3; i++)
		close(c[i]);
	unlisten(s, &sun);
}

/* What comes out of a listener that does not block does not block either. */
static void
test_accept4_odd(void)
{
	struct sockaddr_un	 sun;
	int			 c, fd, i, s;

	s = listener(&sun);
	fake.nonblock = 1;
	c = connects(&sun);
	fd = compat_accept4(s, NULL, NULL, SOCK_CLOEXEC);
	ok(fd != -1 && fcntl(fd, F_GETFD) == FD_CLOEXEC &&
	    (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0,
	    "accept4: blocking, though it was not");
	close(fd);
	close(c);

	/* To set FD_CLOEXEC takes one call, to clear O_NONBLOCK two. */
	for (i = 1; i <= 3; i++) {
		c = connects(&sun);
		fake.fcntl_fails = i;
		fd = compat_accept4(s, NULL, NULL, SOCK_CLOEXEC);
		ok(fd == -1 && errno == ENOLCK && fake.fcntl_fails == 0 &&
		    fake.accepted != -1 && !is_open(fake.accepted),
		    "accept4: fcntl fails, call %d: nothing is left", i);
		close(c);
	}
	fake.fcntl_fails = fake.nonblock = 0;
	unlisten(s, &sun);
}

/* Not in a name space that knows only root. */
static int
may_drop(void)
{
	return setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
}

/* There is no way back from compat_setresuid(). */
static int
drop_root(void)
{
	if (compat_setresgid(NOBODY, NOBODY, NOBODY) == -1 ||
	    compat_setresuid(NOBODY, NOBODY, NOBODY) == -1)
		return 0;
	if (getuid() != NOBODY || geteuid() != NOBODY ||
	    getgid() != NOBODY || getegid() != NOBODY)
		return 0;
	if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 ||
	    setegid(0) == 0 || setreuid((uid_t)-1, 0) == 0)
		return 0;
	/* Nor does it pretend to work for others than root. */
	return compat_setresuid(NOBODY, NOBODY, NOBODY) == -1 &&
	    errno == EPERM &&
	    compat_setresgid(NOBODY, NOBODY, NOBODY) == -1 && errno == EPERM;
}

static void
test_setres(void)
{
	ok(compat_setresgid(1, 1, 2) == -1 && errno == EINVAL &&
	    compat_setresgid(1, 2, 2) == -1 && errno == EINVAL,
	    "setresgid: all three or none");
	ok(compat_setresuid(1, 1, 2) == -1 && errno == EINVAL &&
	    compat_setresuid(1, 2, 2) == -1 && errno == EINVAL,
	    "setresuid: all three or none");
	if (getuid() != 0)
		skip(1, "not root");
	else if (!child_ok(may_drop))
		skip(1, "root may not become another user here");
	else
		ok(child_ok(drop_root), "setresgid, setresuid: no way back");
}

/* The ids, one digit each, forth and back. */
static int
list_is(struct list *list, const char *want)
{
	struct item	*it;
	char		 buf[16];
	size_t		 len = 0;

	TAILQ_FOREACH(it, list, entry)
		if (len < sizeof(buf) - 1)
			buf[len++] = (char)('0' + it->id);
	buf[len] = '\0';
	if (it != NULL || strcmp(buf, want) != 0)
		return 0;
	for (it = TAILQ_LAST(list, list); it != NULL;
	    it = TAILQ_PREV(it, list, entry))
		if (len == 0 || want[--len] != '0' + it->id)
			return 0;
	return len == 0 && TAILQ_EMPTY(list) == (*want == '\0');
}

static void
test_tailq(void)
{
	struct list	 list = TAILQ_HEAD_INITIALIZER(list), other;
	struct item	 it[5];
	int		 i;

	memset(it, 0xff, sizeof(it));
	for (i = 0; i < 5; i++)
		it[i].id = i;
	ok(list_is(&list, "") && TAILQ_FIRST(&list) == NULL &&
	    TAILQ_LAST(&list, list) == NULL, "TAILQ: initializer");
	memset(&other, 0xff, sizeof(other));
	TAILQ_INIT(&other);
	ok(list_is(&other, ""), "TAILQ_INIT");
	TAILQ_INSERT_HEAD(&list, &it[1], entry);
	ok(list_is(&list, "1"), "TAILQ_INSERT_HEAD into the empty");
	TAILQ_REMOVE(&list, &it[1], entry);
	ok(list_is(&list, ""), "TAILQ_REMOVE of the only one");
	TAILQ_INSERT_TAIL(&list, &it[1], entry);
	ok(list_is(&list, "1"), "TAILQ_INSERT_TAIL into the empty");
	TAILQ_INSERT_TAIL(&list, &it[2], entry);
	TAILQ_INSERT_HEAD(&list, &it[0], entry);
	TAILQ_INSERT_TAIL(&list, &it[3], entry);
	ok(list_is(&list, "0123"), "TAILQ: order");
	ok(TAILQ_FIRST(&list) == &it[0] && TAILQ_LAST(&list, list) == &it[3] &&
	    TAILQ_NEXT(&it[1], entry) == &it[2] &&
	    TAILQ_PREV(&it[1], list, entry) == &it[0] &&
	    TAILQ_NEXT(&it[3], entry) == NULL &&
	    TAILQ_PREV(&it[0], list, entry) == NULL, "TAILQ: neighbours");
	TAILQ_REMOVE(&list, &it[1], entry);
	ok(list_is(&list, "023"), "TAILQ_REMOVE in the middle");
	TAILQ_REMOVE(&list, &it[0], entry);
	ok(list_is(&list, "23"), "TAILQ_REMOVE of the first");
	TAILQ_REMOVE(&list, &it[3], entry);
	ok(list_is(&list, "2"), "TAILQ_REMOVE of the last");
	TAILQ_INSERT_TAIL(&list, &it[4], entry);
	TAILQ_INSERT_HEAD(&list, &it[1], entry);
	ok(list_is(&list, "124"), "TAILQ: as good as new");
}

static void
test_tailq_safe(void)
{
	struct list	 list = TAILQ_HEAD_INITIALIZER(list);
	struct list	 odd = TAILQ_HEAD_INITIALIZER(odd);
	struct item	*it, *tmp;
	int		 i;

	for (i = 0; i < 7; i++) {
		if ((it = malloc(sizeof(*it))) == NULL)
			die("malloc");
		memset(it, 0xff, sizeof(*it));
		it->id = i;
		TAILQ_INSERT_TAIL(&list, it, entry);
	}
	TAILQ_FOREACH_SAFE(it, &list, entry, tmp) {
		if (it->id % 2 == 0)
			continue;
		TAILQ_REMOVE(&list, it, entry);
		TAILQ_INSERT_HEAD(&odd, it, entry);
	}
	ok(list_is(&list, "0246") && list_is(&odd, "531"),
	    "TAILQ_FOREACH_SAFE: to another list");
	TAILQ_FOREACH_SAFE(it, &list, entry, tmp) {
		TAILQ_REMOVE(&list, it, entry);
		memset(it, 0xff, sizeof(*it));
		free(it);
	}
	ok(it == NULL && list_is(&list, ""), "TAILQ_FOREACH_SAFE: to free");
	TAILQ_FOREACH_SAFE(it, &list, entry, tmp)
		break;
	ok(it == NULL, "TAILQ_FOREACH_SAFE: of none");
	while ((it = TAILQ_FIRST(&odd)) != NULL) {
		TAILQ_REMOVE(&odd, it, entry);
		free(it);
	}
	ok(list_is(&odd, ""), "TAILQ: emptied from its head");
}

#endif /* __OpenBSD__ */
