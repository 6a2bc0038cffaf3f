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

#include "compat.h"

#ifdef __OpenBSD__

extern int	 compat_nothing;	/* C wants a file to declare something */

#else

#include <sys/resource.h>
#include <sys/time.h>
#include <sys/un.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* Where the open descriptors of a process are listed, and only they. */
#if defined(__linux__)
#define FD_DIR		"/proc/self/fd"
#elif defined(__APPLE__)
#define FD_DIR		"/dev/fd"
#else
#define FD_DIR		NULL
#endif

/* Bounds of what we try to close when there is no such list. */
#define FD_TRY_MIN	65536
#define FD_TRY_MAX	1048576

/*
 * How the C library would put a line, looked up in its source: glibc's
 * misc/syslog.c, musl's src/misc/syslog.c (in UTC), FreeBSD's
 * lib/libc/gen/syslog.c, NetBSD's lib/libc/gen/syslog.c and xsyslog.c (both
 * RFC 5424).  That of macOS goes elsewhere by now, but its syslogd reads the
 * traditional form from _PATH_LOG of its <sys/syslog.h>.
 */
enum log_style { LOG_LOCAL, LOG_UTC, LOG_RFC5424 };
#if defined(__FreeBSD__) || defined(__NetBSD__)
#define LOG_STYLE	LOG_RFC5424
#elif defined(__linux__) && !defined(__GLIBC__)
#define LOG_STYLE	LOG_UTC
#else
#define LOG_STYLE	LOG_LOCAL
#endif

/* Where syslogd listens: the first that can be had.  Only root has logpriv. */
#if defined(__APPLE__)
#define LOG_PATHS	"/var/run/syslog"
#elif defined(__NetBSD__)
#define LOG_PATHS	"/var/run/log"
#elif defined(__DragonFly__) || defined(__FreeBSD__)
#define LOG_PATHS	"/var/run/logpriv", "/var/run/log"
#else
#define LOG_PATHS	"/dev/log"
#endif

#define LOG_RETRY	1000	/* ms until we look again for a syslogd */
#define LOG_TURNS	5	/* that a line waits for room, */
#define LOG_TURN	20	/* of so many ms */
#define LOG_SHORTEST	256	/* bytes that every system's datagrams hold */

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL	0
#endif

static void	 close_counted(int);
static int	 close_listed(int, const char *);
static int	 log_connect(void);
static int	 log_connect_to(const char *, int);
static size_t	 log_header(char *, size_t, int);
static long long log_ms(void);
static int	 log_send(const char *, size_t);
static int	 log_write(int, const char *, va_list);
static int	 log_writef(int, const char *, ...)
		    __attribute__((__format__(__printf__, 2, 3)));

/* The log.  Times are those of log_ms(). */
static struct {
	const char	*ident;
	int		 facility;
	enum log_style	 style;
	int		 fd;		/* connected to syslogd, or -1 */
	int		 stream;	/* and of that kind */
	int		 torn;		/* which has the half of a line */
	int		 deaf;		/* a line waited for it in vain */
	long long	 retry;		/* not to look for a syslogd before */
	unsigned long	 lost;		/* lines not sent and not yet told */
} slog = { "", LOG_USER, LOG_STYLE, -1, 0, 0, 0, 0, 0 };
static const char *log_paths[] = { LOG_PATHS, NULL };

int
compat_pledge(const char *promises, const char *execpromises)
{
	(void)promises;
	(void)execpromises;
	return 0;
}

size_t
compat_strlcpy(char *dst, const char *src, size_t size)
{
	size_t	 len, n;

	len = strlen(src);
	if (size > 0) {
		n = len < size ? len : size - 1;
		memcpy(dst, src, n);
		dst[n] = '\0';
	}
	return len;
}

long long
compat_strtonum(const char *s, long long min, long long max,
    const char **errstrp)
{
	const char	*why = NULL;
	char		*end;
	long long	 n = 0;
	int		 error = 0, saved_errno = errno;

	if (min <= max) {
		errno = 0;
		n = strtoll(s, &end, 10);
		if (end != s && *end == '\0')
			error = errno;		/* ERANGE, n is saturated */
		else
			error = EINVAL;
	} else
		error = EINVAL;

	if (error == EINVAL)
		why = "invalid";
	else if (n < min || (error == ERANGE && n < 0))
		why = "too small";
	else if (n > max || error == ERANGE)
		why = "too large";

	if (errstrp != NULL)
		*errstrp = why;
	if (why == NULL) {
		errno = saved_errno;
		return n;
	}
	errno = error == EINVAL ? EINVAL : ERANGE;
	return 0;
}

void
compat_closefrom(int low)
{
	compat_closefrom_dir(low, FD_DIR);
}

/*
 * The same with another list of descriptors or none, so that the tests reach
 * both ways.
 */
void
compat_closefrom_dir(int low, const char *path)
{
	int	 saved_errno = errno;

	if (!close_listed(low, path))
		close_counted(low);
	errno = saved_errno;
}

/*
 * Close what the directory names.  What readdir(3) returns after one of the
 * entries is gone is not specified, hence again from the start until there is
 * nothing left.  Return 0 if the directory cannot be trusted: a real list has
 * the descriptor by which it is read.
 */
static int
close_listed(int low, const char *path)
{
	struct dirent	*de;
	DIR		*dir;
	const char	*errstr;
	int		 closed, fd, self;

	if (path == NULL || (dir = opendir(path)) == NULL)
		return 0;
	do {
		closed = self = 0;
		rewinddir(dir);
		while ((de = readdir(dir)) != NULL) {
			fd = (int)compat_strtonum(de->d_name, 0, INT_MAX,
			    &errstr);
			if (errstr != NULL)
				continue;
			if (fd == dirfd(dir))
				self = 1;
			else if (fd >= low &&
			    (close(fd) == 0 || errno != EBADF))
				closed = 1;
		}
	} while (closed);
	closedir(dir);
	return self;
}

/*
 * Close by number.  The hard limit is where to stop, but not by itself: it
 * too may have been lowered below a descriptor that is open, and where it is
 * in the thousand millions nobody would wait for the end.
 */
static void
close_counted(int low)
{
	struct rlimit	 rl;
	int		 fd, end = FD_TRY_MIN;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		if (rl.rlim_max > FD_TRY_MAX)
			end = FD_TRY_MAX;
		else if (rl.rlim_max > FD_TRY_MIN)
			end = (int)rl.rlim_max;
	}
	for (fd = low; fd < end; fd++)
		close(fd);
}

/*
 * openlog(3).  Remembers the identification, which stays the caller's, and the
 * facility; the process number is part of each line, whatever the options.
 * With LOG_NDELAY, connects to syslogd at once, which a later chroot(2) may
 * forbid.  The descriptor is the lowest that is free, close-on-exec, and ours.
 */
void
compat_openlog(const char *ident, int options, int facility)
{
	int	 saved_errno = errno;

	slog.ident = ident;
	slog.facility = facility;
	if ((options & LOG_NDELAY) && slog.fd == -1)
		(void)log_connect();
	errno = saved_errno;
}

/*
 * syslog(3) without %m.  Waits for a syslogd that reads, but no longer than
 * 100 ms for one that does not, see log_send().  A line that cannot be sent
 * is lost, and their number is told by a line of its own before the next that
 * can be sent.  Keeps errno.
 */
void
compat_syslog(int prio, const char *fmt, ...)
{
	va_list	 ap;
	int	 saved_errno = errno;

	if (slog.lost > 0 && log_writef(LOG_WARNING,
	    "%lu lines lost: syslogd did not read them", slog.lost) == 0)
		slog.lost = 0;
	va_start(ap, fmt);
	if (slog.lost > 0 || log_write(prio, fmt, ap) == -1)
		slog.lost++;
	va_end(ap);
	errno = saved_errno;
}

/* Whether there is a syslogd that has been connected to. */
int
compat_log_heard(void)
{
	return slog.fd != -1;
}

/* Milliseconds of a clock that nobody sets. */
static long long
log_ms(void)
{
	struct timespec	 ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts) == -1)
		return 0;
	return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * Connects to the first syslogd there is; by a stream if it wants no datagrams.
 * After a failure nothing is tried for a second.  Returns 0 or -1.
 */
static int
log_connect(void)
{
	size_t	 i;
	int	 error;

	if (log_ms() < slog.retry)
		return -1;
	for (i = 0; log_paths[i] != NULL; i++) {
		error = log_connect_to(log_paths[i], SOCK_DGRAM);
		if (error == EPROTOTYPE)
			error = log_connect_to(log_paths[i], SOCK_STREAM);
		if (error == 0)
			return 0;
	}
	slog.retry = log_ms() + LOG_RETRY;
	return -1;
}

/*
 * Connects a socket of ours, of this type, on which nothing waits for longer
 * than LOG_TURN.  Returns 0, errno, or -1 if it did not come to connect(2).
 */
static int
log_connect_to(const char *path, int type)
{
	static const struct timeval	 wait = { 0, LOG_TURN * 1000 };
	struct sockaddr_un		 sun;
	int				 error, fd;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	if (compat_strlcpy(sun.sun_path, path, sizeof(sun.sun_path)) >=
	    sizeof(sun.sun_path) || (fd = socket(AF_UNIX, type, 0)) == -1)
		return -1;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) ==
	    -1 ||
	    connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1) {
		error = errno;
		close(fd);
		return error;
	}
	slog.fd = fd;
	slog.stream = type == SOCK_STREAM;
	slog.torn = 0;
	return 0;
}

/* Writes a line, see log_write(). */
static int
log_writef(int prio, const char *fmt, ...)
{
	va_list	 ap;
	int	 rv;

	va_start(ap, fmt);
	rv = log_write(prio, fmt, ap);
	va_end(ap);
	return rv;
}

/* Formats a line, cut where our buffer ends, and sends it: 0, or -1 if lost. */
static int
log_write(int prio, const char *fmt, va_list ap)
{
	char	 buf[8193];
	size_t	 len;
	int	 n;

	buf[0] = '\0';
	len = 1 + log_header(buf + 1, sizeof(buf) - 1, prio);
	n = vsnprintf(buf + len, sizeof(buf) - len, fmt, ap);
	if (n < 0)
		return -1;
	if ((size_t)n >= sizeof(buf) - len)
		len = sizeof(buf) - 1;
	else
		len += n;
	return log_send(buf, len);
}

/* Puts in what precedes the text, and returns its length. */
static size_t
log_header(char *buf, size_t size, int prio)
{
	static const char *const	 months[] = { "Jan", "Feb", "Mar",
	    "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	struct timeval			 tv;
	struct tm			 tm;
	time_t				 t;
	char				 host[256], when[64];
	long				 off;
	int				 n;

	memset(&tv, 0, sizeof(tv));
	memset(&tm, 0, sizeof(tm));
	(void)gettimeofday(&tv, NULL);
	t = tv.tv_sec;
	if (slog.style == LOG_UTC)
		(void)gmtime_r(&t, &tm);
	else
		(void)localtime_r(&t, &tm);
	if ((prio & LOG_FACMASK) == 0)
		prio |= slog.facility;
	if (slog.style == LOG_RFC5424) {
		if (gethostname(host, sizeof(host)) == -1 || host[0] == '\0')
			(void)compat_strlcpy(host, "-", sizeof(host));
		host[sizeof(host) - 1] = '\0';
		off = tm.tm_gmtoff < 0 ? -tm.tm_gmtoff : tm.tm_gmtoff;
		(void)snprintf(when, sizeof(when),
		    "%04d-%02d-%02dT%02d:%02d:%02d.%06ld%c%02ld:%02ld",
		    tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		    tm.tm_min, tm.tm_sec, (long)tv.tv_usec,
		    tm.tm_gmtoff < 0 ? '-' : '+', off / 3600, off % 3600 / 60);
		n = snprintf(buf, size, "<%d>1 %s %s %s %ld - - ", prio, when,
		    host, slog.ident, (long)getpid());
	} else
		n = snprintf(buf, size, "<%d>%s %2d %02d:%02d:%02d %s[%ld]: ",
		    prio, months[tm.tm_mon], tm.tm_mday, tm.tm_hour,
		    tm.tm_min, tm.tm_sec, slog.ident, (long)getpid());
	if (n < 0)
		return 0;
	return (size_t)n < size ? (size_t)n : size - 1;
}

/*
 * Sends a line, of which buf has a NUL on each side: buf[0] and buf[len].  In a
 * stream the second is the end of a line, as in that of glibc, and the first
 * goes before a line if the one before it is torn.  A datagram that is too long
 * is sent as less and less of it.
 *
 * If there is no room, waits, unless the line before has waited in vain: then
 * there has to be room first.  Where send(2) waits by itself it says EAGAIN in
 * the end; the BSDs say ENOBUFS at once, and poll(2) there that one may write.
 * It does so in turns, since nobody reads while the whole system stands still.
 * If its syslogd is gone, looks for another and sends the line there.  Returns
 * 0, or -1 if the line is lost.
 */
static int
log_send(const char *buf, size_t len)
{
	size_t	 done;
	ssize_t	 n;
	int	 again = 1, turns = LOG_TURNS;

	if (slog.fd == -1 && log_connect() == -1)
		return -1;
	done = !slog.torn;
	for (;;) {
		n = send(slog.fd, buf + done, len + slog.stream - done,
		    MSG_NOSIGNAL | (slog.deaf ? MSG_DONTWAIT : 0));
		switch (n == -1 ? errno : 0) {
		case 0:
			slog.deaf = 0;
			done += n;
			slog.torn = slog.stream && done != len + 1;
			if (!slog.torn)
				return 0;
			break;
		case EMSGSIZE:
			if (len > LOG_SHORTEST) {
				len -= len / 4;
				break;
			}
			/* FALLTHROUGH */
		case EINTR:
		case ENOBUFS:
		case ENOMEM:
			if (!slog.deaf)
				(void)poll(NULL, 0, LOG_TURN);
			/* FALLTHROUGH */
		case EAGAIN:
			if (slog.deaf)
				return -1;
			slog.deaf = --turns == 0;
			break;
		default:
			close(slog.fd);
			slog.fd = -1;
			if (!again || log_connect() == -1)
				return -1;
			again = 0;
			done = 1;
		}
	}
}

/*
 * accept4(2) for a single thread: nothing can fork in between.  The BSDs hand
 * O_NONBLOCK from the listener down to what it accepts, Linux does not.
 */
int
compat_accept4(int s, struct sockaddr *sa, socklen_t *salen, int flags)
{
	int	 fd, fl, saved_errno;

	if ((flags & ~SOCK_CLOEXEC) != 0) {
		errno = EINVAL;
		return -1;
	}
	if ((fd = accept(s, sa, salen)) == -1)
		return -1;
	if ((flags & SOCK_CLOEXEC) && fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		goto fail;
	if ((fl = fcntl(fd, F_GETFL)) == -1)
		goto fail;
	if ((fl & O_NONBLOCK) && fcntl(fd, F_SETFL, fl & ~O_NONBLOCK) == -1)
		goto fail;
	return fd;

fail:
	saved_errno = errno;
	close(fd);
	errno = saved_errno;
	return -1;
}

/*
 * setresgid(2) and setresuid(2) for who is root and wants all three alike,
 * which is what setgid(2) and setuid(2) do for root and for nobody else.
 */
int
compat_setresgid(gid_t rgid, gid_t egid, gid_t sgid)
{
	if (rgid != egid || egid != sgid) {
		errno = EINVAL;
		return -1;
	}
	if (geteuid() != 0) {
		errno = EPERM;
		return -1;
	}
	return setgid(rgid);
}

int
compat_setresuid(uid_t ruid, uid_t euid, uid_t suid)
{
	if (ruid != euid || euid != suid) {
		errno = EINVAL;
		return -1;
	}
	if (geteuid() != 0) {
		errno = EPERM;
		return -1;
	}
	return setuid(ruid);
}

#endif /* __OpenBSD__ */
