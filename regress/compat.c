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
 * own name, so that Linux runs what only macOS uses.  compat.c is part of this
 * file, so that the calls it makes can be made to fail, and to do what they do
 * on other systems.  TAP on standard output.  What never ends, alarm(2) ends.
 */

#include "../compat/compat.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#ifdef __OpenBSD__

int
main(void)
{
	printf("1..0 # SKIP OpenBSD needs nothing of compat\n");
	return 0;
}

#else

#define TIMEOUT		120
#define DESCRIPTORS	4096		/* so many must be had */
#define NOBODY		65534
#define ALWAYS		INT_MAX		/* is how often a call fails */
#define NOW		1699999999	/* 14 November 2023, 22:13:19 UTC */
#define nitems(a)	(sizeof(a) / sizeof((a)[0]))

/* What compat.c calls does what it is told here. */
static struct {
	int		 nonblock;	/* accept: what it returns is that, */
	struct sockaddr	*sa;		/* was called with these, */
	socklen_t	*salen;
	int		 accepted;	/* and returned that */
	int		 closes;	/* how often it was called */
	int		 close_fails;	/* so often it does */
	int		 counts;	/* or each time, and always in order, */
	int		 next;		/* then; -1 if another was closed */
	int		 fcntl_fails;	/* which call from now on does */
	rlim_t		 limit;		/* getrlimit: the hard one; 0: fails */
	int		 list;		/* readdir: how many to list, */
	int		 listed;	/* of which so many were */
	size_t		 longest;	/* send: more bytes are too many; */
	int		 send_error;	/* errno of so many calls, */
	int		 send_fails;
	int		 waits;		/* calls that were to wait */
	size_t		 part;		/* after one that takes so many */
	int		 reads;		/* poll: syslogd does, every 99 ms, */
	int		 came;		/* so many lines until now */
	long		 ms;		/* the clock, which poll moves on */
	time_t		 time;
	const char	*host;
} fake = { .longest = 10000, .ms = 1000, .time = NOW, .host = "host" };
static size_t	 log_read(void);

static int
fake_accept(int s, struct sockaddr *sa, socklen_t *salen)
{
	if (s == -1) {
		errno = ECONNABORTED;
		return -1;
	}
	fake.sa = sa;
	fake.salen = salen;
	fake.accepted = socket(AF_UNIX, SOCK_STREAM, 0);
	fcntl(fake.accepted, F_SETFL, fake.nonblock ? O_NONBLOCK : 0);
	return fake.accepted;
}

/* One that succeeds may well change errno. */
static int
fake_close(int fd)
{
	fake.closes++;
	if (fake.counts)
		fake.next = fd == fake.next ? fd + 1 : -1;
	else if (fake.close_fails == 0) {
		if (close(fd) == -1)
			return -1;
		errno = ENOTTY;
		return 0;
	} else
		fake.close_fails--;
	errno = EINTR;
	return -1;
}

static struct dirent *
fake_readdir(DIR *dir)
{
	static struct dirent	 de;

	if (fake.list == 0)
		return readdir(dir);
	if (fake.listed == fake.list)
		return NULL;
	snprintf(de.d_name, sizeof(de.d_name), "%d", fake.listed++);
	return &de;
}

/* Says that a queue is full as the BSDs do; and none is there for long. */
static ssize_t
fake_send(int s, const void *buf, size_t len, int flags)
{
	ssize_t	 n;

	fake.waits += !(flags & MSG_DONTWAIT);
	if (len > fake.longest) {
		errno = EMSGSIZE;
		return -1;
	}
	if (fake.part > 0) {
		len = fake.part;
		fake.part = 0;
	} else if (fake.send_fails > 0) {
		fake.send_fails--;
		errno = fake.send_error;
		return -1;
	}
	n = send(s, buf, len, flags | MSG_DONTWAIT);
	if (n == -1 && errno == EAGAIN)
		errno = ENOBUFS;
	return n;
}

/* In no time passes what poll(2) waits, and nothing but that takes time. */
static int
fake_poll(struct pollfd *pfd, nfds_t n, int ms)
{
	if (pfd != NULL || n != 0 || ms <= 0)
		errx(1, "poll(2) for %d ms of %d descriptors", ms, (int)n);
	for (; ms > 0; ms--)
		if (++fake.ms % 99 == 0 && fake.reads && log_read() > 0)
			fake.came++;
	return 0;
}

#define accept		fake_accept
#define clock_gettime(clock, ts) ((ts)->tv_sec = fake.ms / 1000, \
			    (ts)->tv_nsec = fake.ms % 1000 * 1000000, 0)
#define close		fake_close
#define fcntl(...)	(fake.fcntl_fails > 0 && --fake.fcntl_fails == 0 ? \
			    (errno = ENOLCK, -1) : fcntl(__VA_ARGS__))
#define gethostname(buf, size) (fake.host == NULL ? -1 : \
			    (int)compat_strlcpy(buf, fake.host, size) * 0)
#define getpid()	42
#define getrlimit(what, rl) ((rl)->rlim_max = fake.limit, \
			    fake.limit == 0 ? -1 : 0)
#define gettimeofday(tv, tz) ((tv)->tv_sec = fake.time, (tv)->tv_usec = 42, 0)
#define poll		fake_poll
#define readdir		fake_readdir
#define rewinddir(dir)	(rewinddir(dir), (void)(fake.listed = 0))
#define send		fake_send
#include "../compat/compat.c"
#undef accept
#undef close
#undef fcntl
#undef getpid
#undef getrlimit

static int	 failed, status, tests;
static pid_t	 child;
static struct rlimit limit;	/* of descriptors */

/* A line of TAP. */
#define ok(good, ...)	do {						\
	int	 is_good = (good);					\
	printf("%sok %d - ", is_good ? "" : "not ", ++tests);		\
	printf(__VA_ARGS__);						\
	printf("\n");							\
	failed |= !is_good;						\
} while (0)

/* Whether a call returns true in a child. */
#define child_ok(call)	((child = fork()) == 0 ? \
	(alarm(TIMEOUT), _exit(!(call)), 0) : \
	waitpid(child, &status, 0) == child && status == 0)

/* Whether a call fails for this reason. */
#define fails(call, error) (errno = 0, (call) == -1 && errno == (error))

#define LMIN	LLONG_MIN
#define LMAX	LLONG_MAX

static void
test_strtonum(void)
{
	static const struct {
		const char	*s;
		long long	 min, max, want;
		const char	*err;
	} t[] = {
		{ "1",		1,	10,	1,	NULL },
		{ "0",		1,	10,	0,	"too small" },
		{ "11",		1,	10,	0,	"too large" },
		{ "0",		-3,	-1,	0,	"too large" },
		{ " \t+010",	1,	10,	10,	NULL },
		{ "",		0,	10,	0,	"invalid" },
		{ "99x",	1,	10,	0,	"invalid" },
		{ "5",		10,	1,	0,	"invalid" },
		{ "99999999999999999999x", 1, 10, 0,	"invalid" },
		{ "9223372036854775808", LMIN, LMAX, 0, "too large" },
		{ "-9223372036854775809", LMIN, LMAX, 0, "too small" },
		{ "-9223372036854775809", LMIN, LMIN, 0, "too small" },
	};
	const char	*errstr, *want;
	long long	 n;
	size_t		 i;
	int		 error;

	for (i = 0; i < nitems(t); i++) {
		errno = E2BIG;		/* success leaves errno alone */
		errstr = "untouched";
		n = compat_strtonum(t[i].s, t[i].min, t[i].max, &errstr);
		error = t[i].err == NULL ? E2BIG :
		    t[i].err[0] == 'i' ? EINVAL : ERANGE;
		want = t[i].err == NULL ? "good" : t[i].err;
		ok(n == t[i].want && errno == error &&
		    strcmp(errstr == NULL ? "good" : errstr, want) == 0,
		    "strtonum(\"%s\"): %s", t[i].s, want);
	}
	ok(compat_strtonum("1x", 0, 9, NULL) == 0 &&
	    compat_strtonum("8", 0, 9, NULL) == 8,
	    "strtonum does without errstr");
}

static void
test_strlcpy(void)
{
	static const struct {
		const char	*src;
		size_t		 size;
		const char	*want;	/* of eight bytes */
	} t[] = {
		{ "abc",	8,	"abc\0xxxx" },
		{ "abc",	4,	"abc\0xxxx" },
		{ "abcd",	4,	"abc\0xxxx" },
		{ "abc",	0,	"xxxxxxxx" },
	};
	char	 buf[8];
	size_t	 i;

	for (i = 0; i < nitems(t); i++) {
		memset(buf, 'x', sizeof(buf));
		ok(compat_strlcpy(buf, t[i].src, t[i].size) ==
		    strlen(t[i].src) && memcmp(buf, t[i].want, 8) == 0,
		    "strlcpy(\"%s\", %zu)", t[i].src, t[i].size);
	}
}

/* What to open, then to close. */
struct closing {
	const char	*name;
	int		 last;		/* 4 to this are opened, */
	int		 high;		/* and this, if not 0 */
	int		 low;		/* from here on they are closed */
	rlim_t		 limit;		/* of descriptors, by then */
	int		 list;		/* of fake, as the next */
	int		 fails;
};

static int
is_open(int fd)
{
	return fcntl(fd, F_GETFD) != -1;
}

/* The system's list, none, one that is absent, one of something else. */
static const char *const dirs[] = { FD_DIR, NULL, "/absent", "/" };

/* Whether those from low on are closed, if listed, and no others. */
static int
closes(const struct closing *c, size_t dir)
{
	int	 fd;

	for (fd = 3; fd < 100; fd++)
		close(fd);
	for (fd = 4; fd <= c->last; fd++)
		dup2(0, fd);
	limit.rlim_cur = c->limit;
	if ((c->high != 0 && dup2(0, c->high) == -1) ||
	    setrlimit(RLIMIT_NOFILE, &limit) == -1)
		return 0;
	fake.list = c->list;
	fake.close_fails = c->fails;
	errno = E2BIG;
	if (dir == 0)
		compat_closefrom(c->low);
	else
		compat_closefrom_dir(c->low, dirs[dir]);
	if (errno != E2BIG || fake.close_fails != 0)
		return 0;
	for (fd = 4; fd <= c->last; fd++)
		if (is_open(fd) != (fd < c->low ||
		    (c->list != 0 && fd >= c->list)))
			return 0;
	/* Nor is the list left, and where there is one nobody counts. */
	return is_open(2) && !is_open(3) && !is_open(c->last + 1) &&
	    (c->high == 0 || !is_open(c->high)) && (dir != 0 ||
	    dirs[0] == NULL || c->limit == 3 || fake.closes < 20000);
}

static void
test_closefrom(void)
{
	static const struct closing	 t[] = {
		{ "some", 20, 200, 10, 64, 0, 0 },
		{ "thousands", 3999, 0, 3, 64, 0, 0 },
		{ "no descriptor left", 4, 250, 3, 3, 0, 0 },
		/* The other directory, if it claims to be a list. */
		{ "a list is believed", 20, 0, 19, 64, 20, 0 },
		{ "until no close fails", 18, 0, 18, 64, 20, 1 },
	};
	size_t	 i, k;

	for (i = 0; i < nitems(dirs); i++)
		for (k = 0; k < nitems(t); k++) {
			if (t[k].list != 0 && i != 3)
				continue;
			ok(child_ok(closes(&t[k], i)), "closefrom %zu: %s", i,
			    t[k].name);
		}
}

/* Without a list: a multiple of what is usual, and what does not take long. */
static void
test_closefrom_count(void)
{
	static const rlim_t	 t[][2] = {
		{ 0, 65536 }, { 64, 65536 }, { 65536, 65536 },
		{ 65537, 65537 }, { 1048576, 1048576 }, { 1048577, 1048576 },
		{ RLIM_INFINITY, 1048576 },
	};
	size_t			 i;

	fake.counts = 1;
	for (i = 0; i < nitems(t); i++) {
		fake.limit = t[i][0];
		fake.next = 10;
		compat_closefrom_dir(10, NULL);
		ok(fake.next == (int)t[i][1], "closefrom: limit %lld, to %d",
		    (long long)t[i][0], (int)t[i][1]);
	}
	fake.counts = 0;
}

static void
test_accept4(void)
{
	struct sockaddr	 sa;
	socklen_t	 len;
	int		 fd, i;

	for (i = 0; i < 4; i++) {
		fake.nonblock = i % 2;
		fd = compat_accept4(0, &sa, &len, i < 2 ? 0 : SOCK_CLOEXEC);
		ok(fd != -1 && fd == fake.accepted && fake.sa == &sa &&
		    fake.salen == &len &&
		    fcntl(fd, F_GETFD) == (i < 2 ? 0 : FD_CLOEXEC) &&
		    (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0,
		    "accept4: close-on-exec %d, made not to block %d", i / 2,
		    i % 2);
		close(fd);
	}
	/* To set FD_CLOEXEC takes one call, to clear O_NONBLOCK two. */
	for (i = 1; i <= 3; i++) {
		fake.fcntl_fails = i;
		ok(fails(compat_accept4(0, NULL, NULL, SOCK_CLOEXEC), ENOLCK) &&
		    !is_open(fake.accepted),
		    "accept4: fcntl fails, call %d: nothing is left", i);
	}
	ok(fails(compat_accept4(-1, NULL, NULL, SOCK_CLOEXEC), ECONNABORTED),
	    "accept4: accept fails");
	fake.accepted = -1;
	ok(fails(compat_accept4(0, NULL, NULL, ~SOCK_CLOEXEC), EINVAL) &&
	    fake.accepted == -1, "accept4: unknown flags");
}

/* There is no way back, nor does it pretend to work for others than root. */
static int
drops_root(void)
{
	return compat_setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
	    compat_setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
	    getuid() == NOBODY && getgid() == NOBODY && getegid() == NOBODY &&
	    fails(setuid(0), EPERM) && fails(setgid(0), EPERM) &&
	    fails(compat_setresuid(NOBODY, NOBODY, NOBODY), EPERM) &&
	    fails(compat_setresgid(NOBODY, NOBODY, NOBODY), EPERM);
}

static int	 logd = -1;		/* our syslogd's socket */
static int	 logconn = -1;		/* and a stream from there */
static char	 logpath[64], line[10000];

/* A syslogd for the tests, instead of the one before; then the only one. */
static void
log_listen(int type)
{
	struct sockaddr_un	 sun;

	close(logconn);
	close(logd);
	logconn = -1;
	unlink(logpath);
	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	compat_strlcpy(sun.sun_path, logpath, sizeof(sun.sun_path));
	if ((logd = socket(AF_UNIX, type, 0)) == -1 ||
	    fcntl(logd, F_SETFL, O_NONBLOCK) == -1 ||
	    bind(logd, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    (type == SOCK_STREAM && listen(logd, 1) == -1))
		err(1, "%s", logpath);
}

/*
 * Reads the next line of the log, returns its length; 0 if there is none.  In a
 * stream there is one if it has its end.
 */
static size_t
log_read(void)
{
	ssize_t	 n;

	if ((n = recv(logd, line, sizeof(line) - 1, 0)) == -1 &&
	    errno != EAGAIN) {
		if (logconn == -1 &&
		    (logconn = accept(logd, NULL, NULL)) == -1)
			return 0;
		n = recv(logconn, line, sizeof(line), MSG_PEEK | MSG_DONTWAIT);
		if (n > 0 && memchr(line, '\0', n) != NULL)
			n = recv(logconn, line, strlen(line) + 1, 0) - 1;
		else
			n = 0;
	} else if (n == -1)
		n = 0;
	line[n] = '\0';
	return (size_t)n;
}

static int
log_is(int prio, const char *text)
{
	char	 want[200];

	snprintf(want, sizeof(want), "<%d>Nov 14 22:13:19 test[42]: %s", prio,
	    text);
	return log_read() != 0 && strcmp(line, want) == 0;
}

/* Whether a line comes, after word of the lost, by a socket as it should be. */
static int
comes(int lost, const char *text)
{
	struct timeval	 tv = { 0, 0 };
	socklen_t	 len = sizeof(tv);
	char		 buf[80];

	snprintf(buf, sizeof(buf), "%d lines lost: syslogd did not read them",
	    lost);
	syslog(LOG_INFO, "%s", text);
	getsockopt(slog.fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len);
	return slog.lost == 0 && (lost == 0 || log_is(28, buf)) &&
	    log_is(30, text) && log_read() == 0 &&
	    fcntl(slog.fd, F_GETFD) == FD_CLOEXEC &&
	    tv.tv_sec == 0 && tv.tv_usec / 10000 == 2;	/* rounded */
}

static char	 text[12000];		/* too long for a path, and a line */

static void
test_log(void)
{
	size_t	 n;
	int	 fd;

	memset(text, 'x', sizeof(text) - 1);
	log_paths[nitems(log_paths) - 2] = text;
	log_paths[0] = text;
	errno = E2BIG;
	openlog("test", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	ok(!log_heard(), "syslog: not connected");
	syslog(LOG_INFO, "%s", "unheard");
	ok(!log_heard() && slog.lost == 1 && errno == E2BIG,
	    "syslog: nobody there");
	log_paths[nitems(log_paths) - 2] = logpath;
	log_listen(SOCK_DGRAM);
	slog.retry = 0;
	openlog("test", LOG_PID, LOG_DAEMON);
	ok(!log_heard(), "syslog: no connection before it is needed");
	openlog("test", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	fd = slog.fd;
	ok(log_heard() && comes(1, "a line"), "syslog: or told to");
	openlog("test", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	ok(comes(0, "") && slog.fd == fd, "syslog: opened twice, one socket");

	syslog(LOG_INFO, "%s", text);
	ok(log_read() == 8191 && line[8190] == 'x',
	    "syslog: longer than a line may be");
	fake.longest = 300;
	syslog(LOG_INFO, "%s", text);
	n = log_read();
	ok(n > 225 && n <= 300 && line[n - 1] == 'x',
	    "syslog: shortened as far as it takes");
	fake.longest = 1;
	syslog(LOG_INFO, "%s", text);
	fake.longest = sizeof(text);
	ok(comes(1, "short") && slog.fd == fd, "syslog: or lost");
}

/* How many ms a line takes. */
static long
takes(const char *s)
{
	long	 since = fake.ms;

	syslog(LOG_INFO, "%s", s);
	return fake.ms - since;
}

static void
test_log_fails(void)
{
	static const struct {
		int	 error;
		int	 fails;		/* so many calls */
		int	 waits;		/* so many send(2) for, */
		int	 takes;		/* and we, in ms */
		int	 lost;
		int	 same;		/* the connection holds */
	} t[] = {
		{ EAGAIN, 5, 5, 0, 0, 1 }, { EAGAIN, ALWAYS, 5, 0, 1, 1 },
		{ ENOBUFS, 5, 5, 100, 0, 1 }, { ENOBUFS, ALWAYS, 5, 100, 1, 1 },
		{ ENOMEM, 5, 5, 100, 0, 1 }, { EINTR, 3, 4, 60, 0, 1 },
		{ ECONNRESET, 1, 2, 0, 0, 0 }, { ECONNRESET, 2, 2, 0, 1, 0 },
	};
	size_t		 i;
	long		 ms;
	int		 same, waits;

	for (i = 0; i < nitems(t); i++) {
		fcntl(slog.fd, F_SETFD, 0);	/* to know it again */
		fake.send_error = t[i].error;
		fake.send_fails = t[i].fails;
		fake.waits = 0;
		ms = takes("one");
		waits = fake.waits;
		fake.send_fails = 0;
		same = fcntl(slog.fd, F_GETFD) == 0;
		fcntl(slog.fd, F_SETFD, FD_CLOEXEC);
		ok(ms == t[i].takes && waits == t[i].waits &&
		    (t[i].lost > 0 || log_is(30, "one")) &&
		    comes(t[i].lost, "two") && same == t[i].same,
		    "syslog: %s, %d times", strerror(t[i].error), t[i].fails);
	}
}

/* Sends so many lines, and reads what is left of them: whether they came. */
static int
all_come(int n)
{
	int	 i;

	fake.came = 0;
	for (i = 0; i < n; i++)
		syslog(LOG_INFO, "%d", i);
	while (log_read() > 0)
		fake.came++;
	return fake.came == n;
}

/* A queue that is full, of either kind. */
static void
test_log_full(void)
{
	static const int	 types[] = { SOCK_DGRAM, SOCK_STREAM };
	size_t			 i;
	long			 ms;
	int			 before;

	for (i = 0; i < nitems(types); i++) {
		close(slog.fd);
		slog.fd = -1;
		log_listen(types[i]);
		ok(comes(0, "first"), "syslog %zu: heard", i);
		fake.reads = 1;
		ok(all_come(5000), "syslog %zu: a slow one gets all", i);
		fake.reads = 0;
		for (before = 0; takes("hung") == 0 && before < 9999; before++)
			continue;
		ms = fake.ms;
		ok(slog.lost == 1, "syslog %zu: one that hangs does not", i);
		fake.waits = 0;
		syslog(LOG_INFO, "in vain");
		syslog(LOG_INFO, "in vain");
		ok(fake.ms == ms && fake.waits == 0 && slog.lost == 3,
		    "syslog %zu: and is not waited for again", i);
		while (log_read() > 0)
			before--;
		ok(before == 0 && comes(3, "room"),
		    "syslog %zu: until it reads", i);
		fake.send_error = ENOBUFS;
		fake.send_fails = 4;
		ok(takes("late") == 80 && log_is(30, "late"),
		    "syslog %zu: then it is", i);
	}
}

/* A stream, which may take a part of a line. */
static void
test_log_stream(void)
{
	int	 fd = slog.fd;

	syslog(LOG_INFO, "%s", text);
	ok(log_read() == 8191 && line[8190] == 'x' && comes(0, ""),
	    "stream: longer than a line may be");
	fake.part = 10;
	fake.send_fails = 5;
	ok(takes("in two") == 100 && log_is(30, "in two") && comes(0, "next"),
	    "stream: a line in two parts");
	fake.part = 10;
	fake.send_fails = ALWAYS;
	ok(takes("torn") == 100 && slog.lost == 1 && log_read() == 0,
	    "stream: a part and no more");
	ok(takes("torn") == 0 && slog.lost == 2, "stream: no other line");
	fake.send_fails = 0;
	syslog(LOG_INFO, "next");
	ok(log_read() == 10 && strcmp(line, "<30>Nov 14") == 0 &&
	    log_is(28, "2 lines lost: syslogd did not read them") &&
	    log_is(30, "next") && log_read() == 0 && slog.fd == fd,
	    "stream: the next line is one of its own");
	fake.part = 10;
	fake.send_error = ECONNRESET;
	fake.send_fails = 1;
	syslog(LOG_INFO, "anew");
	close(logconn);
	logconn = -1;
	ok(log_is(30, "anew") && comes(0, ""), "stream: gone amid a line");
	fake.part = 10;
	fake.send_error = EAGAIN;
	fake.send_fails = ALWAYS;
	syslog(LOG_INFO, "torn");
	fake.send_fails = 0;
	close(logconn);
	unlink(logpath);
	syslog(LOG_INFO, "to nobody");
	log_listen(SOCK_STREAM);
	slog.retry = 0;
	ok(comes(2, "whole"), "stream: the next does not go on with that");
	log_listen(SOCK_DGRAM);
	ok(comes(0, "datagrams"), "stream: then a socket for datagrams");
}

/* One that goes away and comes back. */
static void
test_log_gone(void)
{
	int	 after, before;

	close(before = dup(0));
	close(logd);
	unlink(logpath);
	syslog(LOG_INFO, "to nobody");
	ok(!log_heard() && slog.lost == 1, "syslog: gone");
	log_listen(SOCK_DGRAM);
	fake.ms += 999;
	syslog(LOG_INFO, "too early");
	ok(!log_heard(), "syslog: not looked for in a second");
	fake.ms++;
	ok(comes(2, "there"), "syslog: then it has the count and the line");
	log_listen(SOCK_DGRAM);
	fake.fcntl_fails = 1;
	syslog(LOG_INFO, "lost");
	slog.retry = 0;
	ok(!log_heard() && comes(1, "again"), "syslog: not without the flag");
	close(after = dup(0));
	ok(after == before, "syslog: no descriptor is left behind");
}

/* As each system's own library puts it. */
static void
test_log_style(void)
{
	static const struct {
		enum log_style	 style;
		int		 days;		/* later */
		const char	*tz;
		const char	*host;
		const char	*want;
	} t[] = {
		{ LOG_LOCAL, 17, "XYZ-5:30", "host",
		    "<11>Dec  2 03:43:19 test[42]: text" },
		{ LOG_UTC, 48, "XYZ-5:30", "host",
		    "<11>Jan  1 22:13:19 test[42]: text" },
		{ LOG_RFC5424, 0, "XYZ-5:30", "host",
		    "<11>1 2023-11-15T03:43:19.000042+05:30 host test 42 - - "
		    "text" },
		{ LOG_RFC5424, 48, "XYZ3:30", NULL,
		    "<11>1 2024-01-01T18:43:19.000042-03:30 - test 42 - - "
		    "text" },
		{ LOG_RFC5424, 0, "XYZ0", "",
		    "<11>1 2023-11-14T22:13:19.000042+00:00 - test 42 - - "
		    "text" },
	};
	size_t	 i;

	for (i = 0; i < nitems(t); i++) {
		setenv("TZ", t[i].tz, 1);
		tzset();
		slog.style = t[i].style;
		fake.time = NOW + t[i].days * 86400;
		fake.host = t[i].host;
		syslog(LOG_USER | LOG_ERR, "text");
		ok(log_read() != 0 && strcmp(line, t[i].want) == 0,
		    "syslog: %s", t[i].want);
	}
}

int
main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(TIMEOUT);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = DESCRIPTORS;
	if (setrlimit(RLIMIT_NOFILE, &limit) == -1)
		err(1, "setrlimit");
	setenv("TZ", "UTC0", 1);
	tzset();
	slog.style = LOG_LOCAL;
	snprintf(logpath, sizeof(logpath), "/tmp/compat-log.%ld",
	    (long)getpid());
	ok(compat_pledge("stdio", NULL) == 0, "pledge does nothing");
	test_strtonum();
	test_strlcpy();
	test_closefrom();
	test_closefrom_count();
	test_accept4();
	ok(fails(compat_setresgid(1, 1, 2), EINVAL) &&
	    fails(compat_setresgid(1, 2, 2), EINVAL) &&
	    fails(compat_setresuid(1, 1, 2), EINVAL) &&
	    fails(compat_setresuid(1, 2, 2), EINVAL),
	    "setresgid, setresuid: all three or none");
	test_log();
	test_log_fails();
	test_log_full();
	test_log_stream();
	test_log_gone();
	test_log_style();
	unlink(logpath);
	ok(drops_root(), "setresgid, setresuid: no way back");
	printf("1..%d\n", tests);
	return failed;
}

#endif /* __OpenBSD__ */
