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
 * What client.c, floor.c and worker.c share, headers too.  Included before any
 * system header, as compat.h is.  All of it is inline: none of them uses all.
 */

#include "../compat/compat.h"

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIFETIME	 120		/* -A: seconds until SIGALRM */
#define HEADER		 8		/* bytes in front of every record */

#define CHUNK		 32768		/* content of our largest record */

/* FastCGI's types of records, as far as they are sent here. */
enum {
	FCGI_BEGIN_REQUEST = 1,
	FCGI_ABORT_REQUEST,
	FCGI_END_REQUEST,
	FCGI_PARAMS,
	FCGI_STDIN,
	FCGI_STDOUT,
	FCGI_STDERR
};

/* Returns the monotonic time in microseconds. */
static inline int64_t
now(void)
{
	struct timespec	 ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Returns the argument of an option; the program ends if it will not do. */
static inline long
number(int option, long long min, long long max)
{
	const char	*errstr;
	long long	 n;

	n = strtonum(optarg, min, max, &errstr);
	if (errstr != NULL)
		errx(1, "-%c %s: %s", option, optarg, errstr);
	return n;
}

/* Fills in the address of a UNIX socket; the program ends if it is too long. */
static inline void
address(struct sockaddr_un *sun, const char *path)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (strlcpy(sun->sun_path, path, sizeof(sun->sun_path)) >=
	    sizeof(sun->sun_path))
		errx(1, "%s: too long", path);
}

/* Sees to it that so many descriptors may be open; the program ends if not. */
static inline void
descriptors(rlim_t need)
{
	struct rlimit	 rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "getrlimit");
	if (rl.rlim_cur >= need)
		return;
	rl.rlim_cur = need;
	if (rl.rlim_max < need)
		rl.rlim_max = need;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "setrlimit");
}

/* Writes the header of a record of len bytes, without padding. */
static inline void
header(uint8_t h[HEADER], int type, int id, size_t len)
{
	h[0] = 1;
	h[1] = type;
	h[2] = id >> 8;
	h[3] = id & 0xff;
	h[4] = len >> 8;
	h[5] = len & 0xff;
	h[6] = h[7] = 0;
}

#define FNV1A_START	 2166136261U

/* Goes on with a checksum, 32-bit FNV-1a, that began with FNV1A_START. */
static inline uint32_t
fnv1a(uint32_t sum, const uint8_t *p, size_t len)
{
	while (len-- > 0)
		sum = (sum ^ *p++) * 16777619U;
	return sum;
}
