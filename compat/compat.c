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
#include <sys/select.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

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

static void	 close_counted(int);
static int	 close_listed(int, const char *);
static int	 poll_badfd(struct pollfd *, nfds_t);
static int	 poll_isset(int, int);
static int	 poll_revents(struct pollfd *, nfds_t);
static void	 poll_set(int, int);
static int	 poll_sets(const struct pollfd *, nfds_t);

/*
 * What pselect(2) looks for and what it found, as large as the descriptors
 * are high: three arrays of fd_set, one behind the other, of nsets each.
 */
enum { READABLE, WRITABLE, URGENT, NARRAYS };
static fd_set	*sets;
static size_t	 nsets;

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
 * ppoll(2) for macOS, whose only call that waits and changes the signal mask
 * in one step is pselect(2).  There is no limit to the descriptors, but a
 * hangup wakes only who asks for POLLIN, POLLOUT or POLLPRI, and one that is
 * not open, and higher than any that was, may be reported as ready.  Fails as
 * ppoll(2), and with ENOMEM.  For a single thread.
 */
int
compat_ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *timeout,
    const sigset_t *sigmask)
{
	static const struct timespec	 zero;
	nfds_t				 i;
	int				 maxfd;

	for (i = 0; i < nfds; i++)
		fds[i].revents = 0;
	for (;;) {
		if ((maxfd = poll_sets(fds, nfds)) == -2)
			return -1;
		if (pselect(maxfd + 1, sets + READABLE * nsets,
		    sets + WRITABLE * nsets, sets + URGENT * nsets, timeout,
		    sigmask) != -1)
			break;
		/* A bad descriptor is a result: look for others, don't wait. */
		if (errno != EBADF || !poll_badfd(fds, nfds))
			return -1;
		timeout = &zero;
	}
	return poll_revents(fds, nfds);
}

/*
 * Fill the sets from the descriptors not yet found bad.  Return the highest,
 * -1 for none, -2 with errno if there is no memory.
 */
static int
poll_sets(const struct pollfd *fds, nfds_t nfds)
{
	fd_set	*p;
	nfds_t	 i;
	size_t	 need;
	int	 maxfd = -1;

	for (i = 0; i < nfds; i++)
		if (fds[i].fd > maxfd && !(fds[i].revents & POLLNVAL))
			maxfd = fds[i].fd;
	need = maxfd < 0 ? 1 : (size_t)maxfd / FD_SETSIZE + 1;
	if (need > nsets) {
		if ((p = realloc(sets, NARRAYS * need * sizeof(*p))) == NULL)
			return -2;
		sets = p;
		nsets = need;
	}
	memset(sets, 0, NARRAYS * nsets * sizeof(*sets));
	for (i = 0; i < nfds; i++) {
		if (fds[i].fd < 0 || fds[i].revents & POLLNVAL)
			continue;
		if (fds[i].events & POLLIN)
			poll_set(READABLE, fds[i].fd);
		if (fds[i].events & POLLOUT)
			poll_set(WRITABLE, fds[i].fd);
		if (fds[i].events & POLLPRI)
			poll_set(URGENT, fds[i].fd);
	}
	return maxfd;
}

/*
 * FD_SET(3) and FD_ISSET(3) on an array of them.  Both may check that the
 * number is below FD_SETSIZE, and of each fd_set it is.
 */
static void
poll_set(int array, int fd)
{
	FD_SET(fd % (int)FD_SETSIZE,
	    &sets[array * nsets + (size_t)fd / FD_SETSIZE]);
}

static int
poll_isset(int array, int fd)
{
	return FD_ISSET(fd % (int)FD_SETSIZE,
	    &sets[array * nsets + (size_t)fd / FD_SETSIZE]) != 0;
}

/* Mark the descriptors that are not open; return if there was a new one. */
static int
poll_badfd(struct pollfd *fds, nfds_t nfds)
{
	nfds_t	 i;
	int	 found = 0;

	for (i = 0; i < nfds; i++) {
		if (fds[i].fd < 0 || fds[i].revents & POLLNVAL)
			continue;
		if (fcntl(fds[i].fd, F_GETFD) == -1 && errno == EBADF) {
			fds[i].revents = POLLNVAL;
			found = 1;
		}
	}
	return found;
}

/*
 * Translate the sets and return how many descriptors have something to tell.
 * Readable may mean a hangup and writable an error, which poll(2) knows; its
 * POLLNVAL is not asked for, as it stands for any device on macOS.
 */
static int
poll_revents(struct pollfd *fds, nfds_t nfds)
{
	struct pollfd	 pfd;
	nfds_t		 i;
	int		 n = 0;

	for (i = 0; i < nfds; i++) {
		if (fds[i].fd < 0)
			continue;
		if (!(fds[i].revents & POLLNVAL)) {
			if (poll_isset(READABLE, fds[i].fd))
				fds[i].revents |= fds[i].events & POLLIN;
			if (poll_isset(WRITABLE, fds[i].fd))
				fds[i].revents |= fds[i].events & POLLOUT;
			if (poll_isset(URGENT, fds[i].fd))
				fds[i].revents |= fds[i].events & POLLPRI;
			pfd.fd = fds[i].fd;
			pfd.events = fds[i].events;
			if (fds[i].revents != 0 && poll(&pfd, 1, 0) == 1)
				fds[i].revents |=
				    pfd.revents & (POLLERR | POLLHUP);
		}
		if (fds[i].revents != 0)
			n++;
	}
	return n;
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
