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
 * A FastCGI client: one request, or many at once, or none at all and only bad
 * manners.  Every request ends in exactly one fate, and the fates are counted.
 *
 * A slot is one place for a request under way; there are as many as -c says.  A
 * slot is free, or waits for a place in the server's backlog, or is connected.
 * Those that wait stand in one queue and only the first of them tries, so that
 * nobody is overtaken when the backlog is full.
 */

#ifdef __linux__
#define _GNU_SOURCE
#endif

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

#ifndef nitems
#define nitems(a)	 (sizeof(a) / sizeof((a)[0]))
#endif

#define LIFETIME	 120		/* -A: seconds until SIGALRM */
#define TIMEOUT		 10000		/* -t: milliseconds */
#define RETRY		 1		/* milliseconds, on a full backlog */
#define CHUNK		 16384		/* content of a record of input */
#define OUTSIZE		 65536		/* all else of a request fits in here */

enum {
	FCGI_BEGIN_REQUEST = 1,
	FCGI_ABORT_REQUEST,
	FCGI_END_REQUEST,
	FCGI_PARAMS,
	FCGI_STDIN,
	FCGI_STDOUT,
	FCGI_STDERR
};

enum fate {
	ANSWERED,
	REFUSED,
	RESET,
	CUT,
	TIMEDOUT,
	BAD,
	LEFT,			/* -O: we went away */
	CLOSED			/* -O: the server did */
};

enum state {
	FREE,
	QUEUED,
	OPEN
};

/* The stages of sending. */
enum stage {
	S_INPUT,		/* there may be more FCGI_STDIN */
	S_END,			/* the empty one is in the buffer */
	S_SENT
};

struct slot {
	enum state	 state;
	struct slot	*next;		/* in the queue */
	int		 fd;
	int		 refused;	/* last connect(2) was refused */
	long		 todo;		/* -k: requests left */
	long		 index;		/* of the request */
	int64_t		 start;
	int64_t		 deadline;

	enum stage	 stage;
	int		 epipe;		/* server does not read any more */
	long long	 posted;	/* bytes of input sent */
	uint8_t		*out;
	size_t		 outpos;
	size_t		 outlen;

	uint8_t		 hdr[8];	/* of the record that comes in */
	size_t		 hdrlen;
	size_t		 left;		/* of its content */
	size_t		 pad;
	uint8_t		 end[8];	/* content of FCGI_END_REQUEST */
	size_t		 endlen;
	int		 eos;		/* empty FCGI_STDOUT seen */

	char		 head[2048];	/* CGI header */
	size_t		 headlen;
	int		 headdone;
	long long	 bodylen;
	char		 line[256];	/* of the body, that comes in */
	size_t		 linelen;
	long		 nline;
	char		 first[256];	/* the first one */
	char		 bad[128];	/* what is wrong with the answer */
};

/* Odd clients: what they send, and if they go away or stay. */
static const struct odd {
	const char	*name;
	enum { NOTHING, HALF, GARBAGE, ALL } sends;
	int		 stays;
} odds[] = {
	{ "leave",	NOTHING,	0 },
	{ "early",	ALL,		0 },
	{ "half",	HALF,		1 },
	{ "garbage",	GARBAGE,	1 },
	{ "hold",	NOTHING,	1 },
};

/* As they are counted, as they are listed, and as a single one is told. */
static const struct {
	const char	*count;
	const char	*name;
	const char	*reason;
} fates[] = {
	{ "answered",	"answered",	"answered" },
	{ "refused",	"refused",	"refused" },
	{ "reset",	"reset",	"reset" },
	{ "cut",	"cut",		"cut off" },
	{ "timeout",	"timeout",	"timed out" },
	{ "bad",	"bad",		"bad answer" },
	{ "left",	"left",		"left" },
	{ "closed",	"closed",	"closed" },
};

/* The options. */
static struct {
	struct sockaddr_un sun;
	const char	*method;
	const char	*uri;
	const char	*query;
	char		**queries;	/* -Q */
	long		 nqueries;
	uint64_t	 random;	/* -R */
	long		 count;
	long		 conc;
	long long	 post;
	long		 timeout;	/* -t in milliseconds */
	int64_t		 duration;	/* -d in microseconds */
	long long	 bodylen;	/* -L */
	int		 header;
	int		 keep;
	int		 retry;
	int		 oneline;
	int		 verbose;
	int		 pids;
	int		 single;	/* print the answer, not numbers */
	const struct odd *odd;
} o;

/* The run. */
static struct slot	*slots;
static struct slot	*qhead;
static struct slot	*qtail;
static long		 started;
static long		 retries;
static long		 fate_count[nitems(fates)];
static int64_t		 epoch;
static uint32_t		 postsum;
static int64_t		*lat;		/* of those answered */
static size_t		 nlat;
static long		*pids;
static size_t		 npids;
static char		*store;		/* single: the body */
static size_t		 storelen;
static size_t		 storecap;

static void	 usage(void) __attribute__((__noreturn__));
static long	 number(const char *, const char *, long, long);
static void	 queries_read(const char *);
static void	 limits(void);
static void	 slots_init(void);
static int64_t	 now(void);
static void	*grow(void *, size_t);
static uint8_t	 post_byte(long long);
static void	 post_sum(void);

static void	 run(void);
static int	 run_launch(void);
static int	 run_more(const struct slot *);
static int	 run_poll(struct pollfd *, struct slot **);
static void	 run_expire(void);
static void	 queue_add(struct slot *);
static void	 queue_drop(struct slot *);
static void	 queue_connect(void);
static int	 queue_try(struct slot *);

static void	 slot_start(struct slot *);
static void	 slot_end(struct slot *, enum fate);
static void	 slot_io(struct slot *, short);
static void	 slot_send(struct slot *);
static int	 slot_more(struct slot *);
static void	 slot_recv(struct slot *);
static void	 slot_pid(const struct slot *);
static void	 slot_bad(struct slot *, const char *);

static void	 build(struct slot *);
static void	 build_garbage(struct slot *);
static const char *build_query(void);
static void	 put(struct slot *, const void *, size_t);
static void	 put_rec(struct slot *, int, size_t);
static void	 put_params(struct slot *, const char *);
static void	 put_len(uint8_t *, size_t *, size_t);
static void	 put_param(uint8_t *, size_t *, const char *, const char *);

static int	 parse(struct slot *, const uint8_t *, size_t);
static int	 parse_header(struct slot *);
static void	 parse_content(struct slot *, const uint8_t *, size_t);
static size_t	 parse_head(struct slot *, const char *, size_t);
static void	 parse_body(struct slot *, const char *, size_t);
static int	 parse_line(struct slot *);
static int	 judge(struct slot *);

static int	 report_single(void);
static int	 report_odd(void);
static int	 report_load(int64_t);
static int	 cmp64(const void *, const void *);
static int64_t	 percentile(int);

int
main(int argc, char *argv[])
{
	const char	*path = NULL;
	int64_t		 end;
	size_t		 i;
	int		 ch;

	o.uri = "/";
	o.query = "";
	o.count = o.conc = 1;
	o.timeout = TIMEOUT;
	o.bodylen = -1;
	alarm(LIFETIME);
	while ((ch = getopt(argc, argv,
	    "A:b:c:d:ikL:m:n:O:oPQ:q:R:rs:t:u:v")) != -1)
		switch (ch) {
		case 'A':
			alarm(number("-A", optarg, 0, 1000000));
			break;
		case 'b':
			o.post = number("-b", optarg, 0, LONG_MAX);
			break;
		case 'c':
			o.conc = number("-c", optarg, 1, 100000);
			break;
		case 'd':
			o.duration = (int64_t)1000000 *
			    number("-d", optarg, 1, 1000000);
			break;
		case 'i':
			o.header = 1;
			break;
		case 'k':
			o.keep = 1;
			break;
		case 'L':
			o.bodylen = number("-L", optarg, 0, LONG_MAX);
			break;
		case 'm':
			o.method = optarg;
			break;
		case 'n':
			o.count = number("-n", optarg, 1, LONG_MAX);
			break;
		case 'O':
			for (i = 0; i < nitems(odds); i++)
				if (strcmp(odds[i].name, optarg) == 0)
					o.odd = &odds[i];
			if (o.odd == NULL)
				usage();
			break;
		case 'o':
			o.oneline = 1;
			break;
		case 'P':
			o.pids = 1;
			break;
		case 'Q':
			queries_read(optarg);
			break;
		case 'q':
			o.query = optarg;
			break;
		case 'R':
			/* An LCG must not start at the same place twice. */
			o.random = 2 * number("-R", optarg, 0, INT_MAX) + 1;
			break;
		case 'r':
			o.retry = 1;
			break;
		case 's':
			path = optarg;
			break;
		case 't':
			o.timeout = number("-t", optarg, 1, INT_MAX);
			break;
		case 'u':
			o.uri = optarg;
			break;
		case 'v':
			o.verbose = 1;
			break;
		default:
			usage();
		}
	if (path == NULL || optind != argc)
		usage();
	if (o.method == NULL)
		o.method = o.post > 0 ? "POST" : "GET";
	o.sun.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(o.sun.sun_path))
		errx(1, "%s: too long", path);
	memcpy(o.sun.sun_path, path, strlen(path));
	o.single = o.count == 1 && o.conc == 1 && o.duration == 0 &&
	    !o.verbose && !o.pids;
	signal(SIGPIPE, SIG_IGN);

	limits();
	post_sum();
	slots_init();
	epoch = now();
	run();
	end = now();

	if (o.odd != NULL)
		return report_odd();
	if (o.single)
		return report_single();
	return report_load(end - epoch);
}

static void
usage(void)
{
	fprintf(stderr, "usage: client -s sockpath [-ikoPrv] [-A secs]"
	    " [-b postbytes] [-c concurrency]\n\t[-d secs | -n count]"
	    " [-L bodybytes] [-m method] [-O oddity]\n\t[-q query | -Q file]"
	    " [-R seed] [-t timeout] [-u uri]\n");
	exit(1);
}

static long
number(const char *what, const char *text, long min, long max)
{
	char	*end;
	long	 n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n < min || n > max)
		errx(1, "%s %s: not a number that will do", what, text);
	return n;
}

/* One query in a line; an empty one is a query, too. */
static void
queries_read(const char *path)
{
	char	 line[16384];
	FILE	*f;

	if ((f = fopen(path, "r")) == NULL)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		o.queries = realloc(o.queries,
		    (o.nqueries + 1) * sizeof(*o.queries));
		if (o.queries == NULL ||
		    (o.queries[o.nqueries++] = strdup(line)) == NULL)
			err(1, NULL);
	}
	fclose(f);
	if (o.nqueries == 0)
		errx(1, "%s: no queries", path);
}

/* A descriptor for each slot. */
static void
limits(void)
{
	struct rlimit	 rl;
	rlim_t		 need = o.conc + 16;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "getrlimit");
	if (rl.rlim_cur != RLIM_INFINITY && rl.rlim_cur < need) {
		rl.rlim_cur = need;
		if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < need)
			rl.rlim_max = need;
		if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
			err(1, "-c %ld: descriptors", o.conc);
	}
}

static void
slots_init(void)
{
	long	 i;

	if ((slots = calloc(o.conc, sizeof(*slots))) == NULL)
		err(1, NULL);
	for (i = 0; i < o.conc; i++) {
		slots[i].fd = -1;
		slots[i].todo = o.count;
		if ((slots[i].out = malloc(OUTSIZE)) == NULL)
			err(1, NULL);
	}
}

static int64_t
now(void)
{
	struct timespec	 ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* realloc(3) that does not fail. */
static void *
grow(void *p, size_t size)
{
	void	*q;

	if ((q = realloc(p, size)) == NULL)
		err(1, NULL);
	return q;
}

/* The input: such that a byte lost, doubled or misplaced is found out. */
static uint8_t
post_byte(long long pos)
{
	return (pos * 31 + (pos >> 8)) & 0xff;
}

/* 32-bit FNV-1a, as the worker computes it. */
static void
post_sum(void)
{
	long long	 i;

	postsum = 2166136261U;
	for (i = 0; i < o.post; i++)
		postsum = (postsum ^ post_byte(i)) * 16777619U;
}

/*
 * The run.
 */
static void
run(void)
{
	struct pollfd	*pfd;
	struct slot	**who;
	int		 i, n;

	if ((pfd = calloc(o.conc, sizeof(*pfd))) == NULL ||
	    (who = calloc(o.conc, sizeof(*who))) == NULL)
		err(1, NULL);
	while (run_launch()) {
		n = run_poll(pfd, who);
		for (i = 0; i < n; i++)
			if (pfd[i].revents != 0)
				slot_io(who[i], pfd[i].revents);
		run_expire();
	}
	free(pfd);
	free(who);
}

/* Fills the free slots; 0 when there is nothing left to do. */
static int
run_launch(void)
{
	struct slot	*s;
	long		 refused;
	int		 busy, more;

	/* A slot may be free again at once, so until one is not. */
	do {
		busy = more = 0;
		refused = fate_count[REFUSED];
		for (s = slots; s < slots + o.conc; s++)
			if (s->state == FREE && run_more(s))
				slot_start(s);
		queue_connect();
		for (s = slots; s < slots + o.conc; s++)
			if (s->state != FREE)
				busy = 1;
			else if (run_more(s))
				more = 1;
		/* Nobody there: it makes no sense to ask a million times. */
		if (refused != fate_count[REFUSED] && more)
			poll(NULL, 0, RETRY);
	} while (!busy && more);
	return busy;
}

/* With -k every slot has its own count, as each is one connection. */
static int
run_more(const struct slot *s)
{
	if (o.duration != 0)
		return now() - epoch < o.duration;
	if (o.keep)
		return s->todo > 0;
	return started < o.count;
}

/* Waits for the connections, and no longer than to the next deadline. */
static int
run_poll(struct pollfd *pfd, struct slot **who)
{
	struct slot	*s;
	int64_t		 next = INT64_MAX, wait;
	int		 n = 0;

	for (s = slots; s < slots + o.conc; s++) {
		if (s->state == FREE)
			continue;
		if (s->deadline < next)
			next = s->deadline;
		if (s->state != OPEN)
			continue;
		pfd[n].fd = s->fd;
		pfd[n].events = POLLIN;
		if (s->stage != S_SENT)
			pfd[n].events |= POLLOUT;
		pfd[n].revents = 0;
		who[n++] = s;
	}
	wait = (next - now() + 999) / 1000;
	if (wait < 0)
		wait = 0;
	if (qhead != NULL && wait > RETRY)
		wait = RETRY;
	if (poll(pfd, n, wait) == -1) {
		if (errno != EINTR)
			err(1, "poll");
		return 0;
	}
	return n;
}

static void
run_expire(void)
{
	struct slot	*s;
	int64_t		 t = now();

	for (s = slots; s < slots + o.conc; s++)
		if (s->state != FREE && s->deadline <= t) {
			if (s->state == QUEUED)
				queue_drop(s);
			slot_end(s, s->refused ? REFUSED : TIMEDOUT);
		}
}

/*
 * The queue of those who wait for a place in the backlog.
 */
static void
queue_add(struct slot *s)
{
	s->state = QUEUED;
	s->next = NULL;
	if (qhead == NULL)
		qhead = s;
	else
		qtail->next = s;
	qtail = s;
}

static void
queue_drop(struct slot *s)
{
	struct slot	**p, *prev = NULL;

	for (p = &qhead; *p != NULL && *p != s; p = &(*p)->next)
		prev = *p;
	if (*p == NULL)
		errx(1, "not in the queue");
	*p = s->next;
	if (qtail == s)
		qtail = prev;
}

/* In order, until the backlog is full: then it is full for all. */
static void
queue_connect(void)
{
	struct slot	*s;
	int		 rc;

	while ((s = qhead) != NULL) {
		if ((rc = queue_try(s)) == EAGAIN) {
			retries++;
			break;
		}
		queue_drop(s);
		s->state = OPEN;
		if (rc == 0)
			slot_send(s);
		else
			slot_end(s, rc == ECONNRESET ? RESET : REFUSED);
	}
}

/*
 * Connects: 0 or an errno, EAGAIN if it is worth another try.  On a full
 * backlog Linux says EAGAIN, the BSDs say ECONNREFUSED as if nobody were there:
 * under load we take that for a full backlog, until the timeout.
 */
static int
queue_try(struct slot *s)
{
	int	 again = o.retry;

#ifndef __linux__
	if (!o.single)
		again = 1;
#endif
	if ((s->fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1)
		err(1, "socket");
	if (fcntl(s->fd, F_SETFL, O_NONBLOCK) == -1)
		err(1, "fcntl");
	s->refused = 0;
	if (connect(s->fd, (struct sockaddr *)&o.sun, sizeof(o.sun)) == 0 ||
	    errno == EINPROGRESS)
		return 0;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		again = 1;
		break;
	case ENOENT:
		again = o.retry;
		s->refused = 1;
		break;
	case ECONNREFUSED:
		s->refused = 1;
		break;
	case ECONNRESET:
	case ECONNABORTED:
		return ECONNRESET;
	default:
		err(1, "%s", o.sun.sun_path);
	}
	close(s->fd);
	s->fd = -1;
	return again ? EAGAIN : ECONNREFUSED;
}

/*
 * A slot, from the start of a request to its end.
 */
static void
slot_start(struct slot *s)
{
	s->index = started++;
	s->todo--;
	s->start = now();
	s->deadline = s->start + (int64_t)o.timeout * 1000;
	s->stage = S_INPUT;
	s->epipe = s->refused = 0;
	s->posted = 0;
	s->outpos = s->outlen = 0;
	s->hdrlen = s->left = s->pad = s->endlen = 0;
	s->headlen = s->linelen = 0;
	s->eos = s->headdone = 0;
	s->bodylen = 0;
	s->nline = 0;
	s->first[0] = s->bad[0] = s->head[0] = '\0';
	build(s);
	if (s->fd == -1)
		queue_add(s);
	else {
		s->state = OPEN;
		slot_send(s);
	}
}

static void
slot_end(struct slot *s, enum fate fate)
{
	int64_t	 t = now();

	if (s->linelen > 0 && fate == ANSWERED && parse_line(s) == -1)
		fate = BAD;
	fate_count[fate]++;
	if (fate == ANSWERED) {
		if (nlat % 4096 == 0)
			lat = grow(lat, (nlat + 4096) * sizeof(*lat));
		lat[nlat++] = t - s->start;
		slot_pid(s);
	}
	if (o.verbose)
		printf("%ld %lld %lld %s %s\n", s->index,
		    (long long)(s->start - epoch), (long long)(t - epoch),
		    fates[fate].name, fate == BAD ? s->bad : s->first);
	/* A connection kept for nothing would keep a worker from the next. */
	if (fate != ANSWERED || !o.keep || s->stage != S_SENT ||
	    !run_more(s)) {
		if (s->fd != -1)
			close(s->fd);
		s->fd = -1;
	}
	s->state = FREE;
}

static void
slot_io(struct slot *s, short revents)
{
	if (s->stage != S_SENT && (revents & (POLLOUT | POLLERR | POLLHUP)))
		slot_send(s);
	if (s->state == OPEN && (revents & (POLLIN | POLLERR | POLLHUP)))
		slot_recv(s);
}

static void
slot_send(struct slot *s)
{
	ssize_t	 n;

	while (s->outpos < s->outlen || slot_more(s)) {
		n = write(s->fd, s->out + s->outpos, s->outlen - s->outpos);
		if (n == -1) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == ENOTCONN)
				return;
			if (errno != EPIPE && errno != ECONNRESET)
				err(1, "write");
			/* There may be an answer, or a part of one. */
			s->epipe = 1;
			break;
		}
		s->outpos += n;
	}
	s->stage = S_SENT;
	if (o.odd != NULL && !o.odd->stays)
		slot_end(s, LEFT);
}

/* The next record of input; 0 if there is none. */
static int
slot_more(struct slot *s)
{
	size_t	 i, n;

	if (s->stage != S_INPUT || (o.odd != NULL && o.odd->sends != ALL))
		return 0;
	s->outpos = s->outlen = 0;
	n = o.post - s->posted < CHUNK ? o.post - s->posted : CHUNK;
	put_rec(s, FCGI_STDIN, n);
	for (i = 0; i < n; i++)
		s->out[s->outlen++] = post_byte(s->posted++);
	if (n == 0)
		s->stage = S_END;
	return 1;
}

static void
slot_recv(struct slot *s)
{
	static uint8_t	 data[65536];
	ssize_t		 n;
	int		 stays = o.odd != NULL && o.odd->stays;

	n = read(s->fd, data, sizeof(data));
	if (n == -1) {
		if (errno == EAGAIN || errno == EINTR)
			return;
		if (errno != ECONNRESET && errno != EPIPE)
			err(1, "read");
		slot_end(s, stays ? CLOSED : RESET);
	} else if (n == 0)
		slot_end(s, stays ? CLOSED : s->epipe ? RESET : CUT);
	else if (!stays)
		switch (parse(s, data, n)) {
		case -1:
			slot_end(s, BAD);
			break;
		case 1:
			slot_end(s, judge(s) == -1 ? BAD : ANSWERED);
			break;
		}
}

/* Who answered?  The first line tells, or the header if the body may not. */
static void
slot_pid(const struct slot *s)
{
	const char	*p;
	size_t		 i;
	long		 pid;

	if (strncmp(s->first, "pid ", 4) == 0)
		pid = atol(s->first + 4);
	else if ((p = strstr(s->head, "\nX-Pid: ")) != NULL)
		pid = atol(p + 8);
	else
		return;
	for (i = 0; i < npids; i++)
		if (pids[i] == pid)
			return;
	pids = grow(pids, (npids + 1) * sizeof(*pids));
	pids[npids++] = pid;
}

static void
slot_bad(struct slot *s, const char *why)
{
	if (s->bad[0] == '\0')
		snprintf(s->bad, sizeof(s->bad), "%s", why);
}

/*
 * The request: all but the input is built at once.
 */
static void
build(struct slot *s)
{
	uint8_t	 begin[8];

	if (o.odd != NULL && o.odd->sends == NOTHING)
		return;
	if (o.odd != NULL && o.odd->sends == GARBAGE) {
		build_garbage(s);
		return;
	}
	memset(begin, 0, sizeof(begin));
	begin[1] = 1;		/* responder */
	begin[2] = o.keep;
	put_rec(s, FCGI_BEGIN_REQUEST, sizeof(begin));
	put(s, begin, sizeof(begin));
	if (o.odd != NULL && o.odd->sends == HALF)
		s->outlen = 4;
	else
		put_params(s, build_query());
}

/* Not quite random: it must not be a valid header by accident. */
static void
build_garbage(struct slot *s)
{
	uint32_t	 x = 1;
	size_t		 i;

	for (i = 0; i < 1024; i++) {
		x = x * 1103515245U + 12345U;
		s->out[i] = i % 8 == 0 ? 0xff : (x >> 16) & 0xff;
	}
	s->outlen = i;
}

static const char *
build_query(void)
{
	if (o.nqueries == 0)
		return o.query;
	if (o.random == 0)
		return o.queries[(started - 1) % o.nqueries];
	o.random = o.random * 6364136223846793005ULL + 1442695040888963407ULL;
	return o.queries[(o.random >> 33) % o.nqueries];
}

static void
put(struct slot *s, const void *data, size_t len)
{
	if (len > OUTSIZE - s->outlen)
		errx(1, "request too long");
	memcpy(s->out + s->outlen, data, len);
	s->outlen += len;
}

static void
put_rec(struct slot *s, int type, size_t len)
{
	uint8_t	 hdr[8];

	hdr[0] = 1;
	hdr[1] = type;
	hdr[2] = 0;
	hdr[3] = 1;		/* the request's id */
	hdr[4] = len >> 8;
	hdr[5] = len & 0xff;
	hdr[6] = hdr[7] = 0;
	put(s, hdr, sizeof(hdr));
}

static void
put_params(struct slot *s, const char *query)
{
	static uint8_t	 data[OUTSIZE];
	char		 uri[OUTSIZE / 2 + 8], num[32], big[301];
	size_t		 len = 0;

	/* Each of them is in there twice, and OUTSIZE is for all of it. */
	if (strlen(o.uri) + strlen(query) > OUTSIZE / 4 ||
	    strlen(o.method) > 1024)
		errx(1, "request too long");
	snprintf(uri, sizeof(uri), "%s%s%s", o.uri, query[0] ? "?" : "",
	    query);
	snprintf(num, sizeof(num), "%lld", o.post);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';

	put_param(data, &len, "GATEWAY_INTERFACE", "CGI/1.1");
	put_param(data, &len, "SERVER_PROTOCOL", "HTTP/1.1");
	put_param(data, &len, "REQUEST_METHOD", o.method);
	put_param(data, &len, "REQUEST_URI", uri);
	put_param(data, &len, "SCRIPT_NAME", o.uri);
	put_param(data, &len, "QUERY_STRING", query);
	put_param(data, &len, "CONTENT_LENGTH", num);
	/* So that a length of four bytes is in every request. */
	put_param(data, &len, "HTTP_X_LONG", big);
	put_rec(s, FCGI_PARAMS, len);
	put(s, data, len);
	put_rec(s, FCGI_PARAMS, 0);
}

static void
put_len(uint8_t *data, size_t *pos, size_t len)
{
	if (len < 128) {
		data[(*pos)++] = len;
		return;
	}
	data[(*pos)++] = 0x80 | len >> 24;
	data[(*pos)++] = len >> 16 & 0xff;
	data[(*pos)++] = len >> 8 & 0xff;
	data[(*pos)++] = len & 0xff;
}

static void
put_param(uint8_t *data, size_t *pos, const char *name, const char *value)
{
	put_len(data, pos, strlen(name));
	put_len(data, pos, strlen(value));
	memcpy(data + *pos, name, strlen(name));
	*pos += strlen(name);
	memcpy(data + *pos, value, strlen(value));
	*pos += strlen(value);
}

/*
 * The answer.
 */

/* Returns 1 at the end of the answer, 0 to go on, -1 if it is bad. */
static int
parse(struct slot *s, const uint8_t *p, size_t len)
{
	size_t	 n;

	while (len > 0 || (s->hdrlen == 8 && s->left == 0 && s->pad == 0)) {
		if (s->hdrlen < 8) {
			s->hdr[s->hdrlen++] = *p++;
			len--;
			if (s->hdrlen == 8 && parse_header(s) == -1)
				return -1;
		} else if (s->left > 0) {
			n = s->left < len ? s->left : len;
			parse_content(s, p, n);
			s->left -= n;
			p += n;
			len -= n;
		} else if (s->pad > 0) {
			n = s->pad < len ? s->pad : len;
			s->pad -= n;
			p += n;
			len -= n;
		} else {
			s->hdrlen = 0;
			if (s->hdr[1] != FCGI_END_REQUEST)
				continue;
			if (len == 0)
				return 1;
			slot_bad(s, "bytes after END_REQUEST");
			return -1;
		}
		if (s->bad[0] != '\0')
			return -1;
	}
	return 0;
}

static int
parse_header(struct slot *s)
{
	int	 type = s->hdr[1];

	s->left = s->hdr[4] << 8 | s->hdr[5];
	s->pad = s->hdr[6];
	if (s->hdr[0] != 1)
		slot_bad(s, "record of another version");
	else if (s->hdr[2] != 0 || s->hdr[3] != 1)
		slot_bad(s, "record of another request");
	else if (type != FCGI_STDOUT && type != FCGI_STDERR &&
	    type != FCGI_END_REQUEST)
		slot_bad(s, "record of a strange type");
	else if (type == FCGI_END_REQUEST && s->left != sizeof(s->end))
		slot_bad(s, "END_REQUEST of a strange length");
	else if (type == FCGI_STDOUT && s->eos)
		slot_bad(s, "STDOUT after its end");
	else {
		if (type == FCGI_STDOUT && s->left == 0)
			s->eos = 1;
		return 0;
	}
	return -1;
}

static void
parse_content(struct slot *s, const uint8_t *p, size_t len)
{
	const char	*text = (const char *)p;
	size_t		 n;

	switch (s->hdr[1]) {
	case FCGI_END_REQUEST:
		memcpy(s->end + s->endlen, p, len);
		s->endlen += len;
		break;
	case FCGI_STDOUT:
		n = s->headdone ? 0 : parse_head(s, text, len);
		if (n < len)
			parse_body(s, text + n, len - n);
		break;
	}
}

/* The CGI header up to the empty line; returns how much of it this was. */
static size_t
parse_head(struct slot *s, const char *p, size_t len)
{
	size_t	 i;

	for (i = 0; i < len && !s->headdone; i++) {
		if (s->headlen + 1 >= sizeof(s->head)) {
			slot_bad(s, "header too long");
			return len;
		}
		s->head[s->headlen++] = p[i];
		s->head[s->headlen] = '\0';
		if (p[i] == '\n' && s->headlen >= 4 && (strcmp(s->head +
		    s->headlen - 4, "\r\n\r\n") == 0 || strcmp(s->head +
		    s->headlen - 2, "\n\n") == 0))
			s->headdone = 1;
	}
	return i;
}

/* Counts the body, and looks at its lines as far as they fit. */
static void
parse_body(struct slot *s, const char *p, size_t len)
{
	size_t	 i;

	s->bodylen += len;
	if (o.single) {
		if (storelen + len > storecap) {
			storecap = (storelen + len) * 2;
			store = grow(store, storecap);
		}
		memcpy(store + storelen, p, len);
		storelen += len;
	}
	for (i = 0; i < len; i++) {
		if (p[i] == '\n')
			parse_line(s);
		else if (s->linelen + 1 < sizeof(s->line))
			s->line[s->linelen++] = p[i];
	}
}

/* The first line tells who we are talking to, `stdin' what has arrived. */
static int
parse_line(struct slot *s)
{
	char	 want[64];

	s->line[s->linelen] = '\0';
	s->linelen = 0;
	if (s->nline++ == 0)
		memcpy(s->first, s->line, sizeof(s->first));
	if (strncmp(s->line, "stdin ", 6) == 0) {
		snprintf(want, sizeof(want), "stdin %lld %08x", o.post,
		    (unsigned int)postsum);
		if (strcmp(s->line, want) != 0) {
			slot_bad(s, "not the input that was sent");
			return -1;
		}
	}
	return 0;
}

/* It has come to its end.  Is it what it should be? */
static int
judge(struct slot *s)
{
	if (s->end[4] != 0)
		slot_bad(s, "protocol status is not REQUEST_COMPLETE");
	else if (!s->eos)
		slot_bad(s, "STDOUT without an end");
	else if (!s->headdone)
		slot_bad(s, "no CGI header");
	else if (o.bodylen != -1 && o.bodylen != s->bodylen)
		snprintf(s->bad, sizeof(s->bad), "body of %lld bytes, not %lld",
		    s->bodylen, o.bodylen);
	return s->bad[0] != '\0' ? -1 : 0;
}

/*
 * What has happened.
 */
static int
report_single(void)
{
	size_t	 i;

	for (i = 1; i < nitems(fates); i++)
		if (fate_count[i] != 0) {
			fprintf(stderr, "%s%s%s\n", fates[i].reason,
			    i == BAD ? ": " : "", slots[0].bad);
			return 1;
		}
	if (o.header)
		fwrite(slots[0].head, 1, slots[0].headlen, stdout);
	if (storelen > 0)
		fwrite(store, 1, storelen, stdout);
	return 0;
}

static int
report_odd(void)
{
	static const enum fate	 some[] = { LEFT, CLOSED, TIMEDOUT, REFUSED };
	size_t			 i;

	for (i = 0; i < nitems(some); i++)
		if (!o.single)
			printf("%s %ld%c", fates[some[i]].count,
			    fate_count[some[i]],
			    i + 1 < nitems(some) ? ' ' : '\n');
		else if (fate_count[some[i]] != 0)
			printf("%s\n", fates[some[i]].reason);
	return fate_count[REFUSED] + fate_count[RESET] != 0;
}

static int
report_load(int64_t time)
{
	size_t	 i;

	printf("answered %ld refused %ld reset %ld cut %ld timeout %ld"
	    " bad %ld\n", fate_count[ANSWERED], fate_count[REFUSED],
	    fate_count[RESET], fate_count[CUT], fate_count[TIMEDOUT],
	    fate_count[BAD]);
	if (!o.oneline) {
		qsort(lat, nlat, sizeof(*lat), cmp64);
		printf("time %lld rps %lld p50 %lld p99 %lld max %lld"
		    " retries %ld\n", (long long)(time / 1000),
		    (long long)nlat * 1000000 / (time > 0 ? time : 1),
		    (long long)percentile(50), (long long)percentile(99),
		    (long long)percentile(100), retries);
	}
	if (o.pids) {
		printf("pids %zu", npids);
		for (i = 0; i < npids; i++)
			printf(" %ld", pids[i]);
		printf("\n");
	}
	return fate_count[ANSWERED] != started;
}

static int
cmp64(const void *a, const void *b)
{
	int64_t	 x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static int64_t
percentile(int percent)
{
	return nlat == 0 ? 0 : lat[(nlat - 1) * percent / 100];
}
