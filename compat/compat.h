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
 * What OpenBSD has and another system may lack.  Included before any system
 * header, because it sets the feature macros; brings the TAILQ lists.
 *
 * Our versions are compiled everywhere but on OpenBSD, under names of their
 * own, so that there is nothing to configure and a test run on Linux covers
 * what macOS gets.  The plain names are mapped to them where needed.
 */

#ifndef COMPAT_H
#define COMPAT_H

#ifdef __OpenBSD__
#include <sys/queue.h>

/* Its sendsyslog(2) never waits, and keeps what comes before syslogd does. */
#define log_heard()	1
#else

#if defined(__APPLE__)
#ifndef _DARWIN_C_SOURCE
#define _DARWIN_C_SOURCE
#endif
#elif defined(__NetBSD__)
#ifndef _NETBSD_SOURCE
#define _NETBSD_SOURCE
#endif
#elif !defined(__FreeBSD__) && !defined(__DragonFly__)
#ifndef _GNU_SOURCE		/* glibc, musl */
#define _GNU_SOURCE
#endif
/* For glibc with 32 bits; musl has no others. */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif
#ifndef _TIME_BITS
#define _TIME_BITS	64
#endif
#endif

/* All that declare one of the names below, lest the macros change them. */
#include <sys/types.h>
#include <sys/socket.h>

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* musl has no <sys/queue.h>, that of glibc is of 1994: no _SAFE loops. */
#if defined(__APPLE__) || defined(__DragonFly__) || defined(__FreeBSD__) || \
    defined(__NetBSD__)
#include <sys/queue.h>
#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, tmp)			\
	for ((var) = TAILQ_FIRST(head);					\
	    (var) != NULL && ((tmp) = TAILQ_NEXT(var, field), 1);	\
	    (var) = (tmp))
#endif
#else
#include "queue.h"
#endif

#ifndef __dead
#define __dead	__attribute__((__noreturn__))
#endif

/*
 * Only for accept4() below; socket(2) and socketpair(2) of a system that
 * lacks the flag do not know it.
 */
#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC	0x10000000
#endif

int		 compat_accept4(int, struct sockaddr *, socklen_t *, int);
void		 compat_closefrom(int);
void		 compat_closefrom_dir(int, const char *);
int		 compat_log_heard(void);
void		 compat_openlog(const char *, int, int);
int		 compat_pledge(const char *, const char *);
int		 compat_setresgid(gid_t, gid_t, gid_t);
int		 compat_setresuid(uid_t, uid_t, uid_t);
size_t		 compat_strlcpy(char *, const char *, size_t);
long long	 compat_strtonum(const char *, long long, long long,
		    const char **);
void		 compat_syslog(int, const char *, ...)
		    __attribute__((__format__(__printf__, 2, 3)));

#undef pledge
#define pledge		compat_pledge
#undef strlcpy
#define strlcpy		compat_strlcpy
#undef strtonum
#define strtonum	compat_strtonum

/* Every C library's own waits for a syslogd that does not read. */
#undef openlog
#define openlog		compat_openlog
#undef syslog
#define syslog		compat_syslog
#define log_heard	compat_log_heard

/*
 * The kernels of FreeBSD, DragonFly and NetBSD do this best, and their
 * /dev/fd does not name what is open.  musl has none, glibc but lately.
 */
#if !defined(__DragonFly__) && !defined(__FreeBSD__) && !defined(__NetBSD__)
#undef closefrom
#define closefrom	compat_closefrom
#endif

#if defined(__APPLE__)
#undef accept4
#define accept4		compat_accept4
#endif

#if defined(__APPLE__) || defined(__NetBSD__)
#undef setresgid
#define setresgid	compat_setresgid
#undef setresuid
#define setresuid	compat_setresuid
#endif

#endif /* __OpenBSD__ */

#endif /* COMPAT_H */
