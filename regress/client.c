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
 * SIGUSR1 ends the run before -d or -n do, when those under way have ended.
 *
 * A slot is one place for a request under way; there are as many as -c says.  A
 * slot is free, or waits for a place in the server's backlog, or is connected.
 * Of those that wait only the one that came first tries to connect, so that
 * nobody is overtaken when the backlog is full.
 */

#include "fcgi.h"

#include <sys/uio.h>

#define TIMEOUT		 10000		/* -t: milliseconds */
#define RETRY		 1		/* milliseconds, on a full backlog */
#define HEADSIZE	 65536		/* all of a request but its input */
#define ID		 1		/* of every request */
#define MAXQUERIES	 1000
#define MAXQUERY	 256

enum fate {
	ANSWERED,
	REFUSED,
	RESET,
	CUT,
	TIMEDOUT,
	BAD,
	LEFT,			/* -O: we went away, or the server did */
	NFATES
};

/* As they are listed, and as a single one is told. */
static const struct {
	const char	*name;
	const char	*reason;
} fates[NFATES] = {
	{ "answered",	"answered" },
	{ "refused",	"refused" },
	{ "reset",	"reset" },
	{ "cut",	"cut off" },
	{ "timeout",	"timed out" },
	{ "bad",	"bad answer" },
	{ "left",	"left" },
};

/* Odd clients: what they send, and if they stay or go away. */
static const struct odd {
	const char	*name;
	enum { NOTHING, HALF, GARBAGE, ALL } sends;
	int		 stays;
} odds[] = {
	{ "none",	ALL,		1 },	/* not odd at all */
	{ "leave",	NOTHING,	0 },
	{ "early",	ALL,		0 },
	{ "half",	HALF,		1 },
	{ "garbage",	GARBAGE,	1 },
};
#define NODDS	 (sizeof(odds) / sizeof(odds[0]))

struct slot {
	enum { FREE, QUEUED, OPEN } state;
	int		 fd;
	int		 refused;	/* last connect(2) was refused */
	int		 epipe;		/* server does not read any more */
	long		 index;		/* of the request */
	int64_t		 start;
	int64_t		 deadline;

	uint8_t		 head[HEADSIZE]; /* the request up to its input */
	size_t		 headlen;
	size_t		 sent;		/* of head and input */

	uint8_t		 in[2 * 65536];	/* records, the last not whole yet */
	size_t		 inlen;
	int		 eos;		/* empty FCGI_STDOUT seen */
	char		*text;		/* all of FCGI_STDOUT, a string */
	size_t		 len, cap;
	const char	*body;		/* in there, behind the CGI header */
	const char	*bad;		/* what is wrong with the answer */
};

/* The options. */
static struct {
	struct sockaddr_un sun;
	const char	*query;
	char		 queries[MAXQUERIES][MAXQUERY];	/* -Q */
	long		 nqueries;
	uint64_t	 random;	/* -R */
	long		 count;
	long		 conc;
	long		 post;		/* bytes of input */
	long		 timeout;	/* -t in milliseconds */
	int64_t		 duration;	/* -d in microseconds */
	int		 retry;
	int		 oneline;
	int		 verbose;
	int		 single;	/* print the answer, not numbers */
	const struct odd *odd;
} o = {
	.query = "",
	.count = 1,
	.conc = 1,
	.timeout = TIMEOUT,
	.odd = odds,
};

/* The run. */
static struct slot	*slots;
static uint8_t		*input;		/* of every request, as records */
static size_t		 inputlen;
static char		 inputline[64];	/* what the worker says of it */
static long		 started;
static long		 fate_count[NFATES];
static int64_t		 epoch;
static int64_t		*lat;		/* of those answered */
static size_t		 nlat;
static volatile sig_atomic_t enough;

/* realloc(3) that does not fail; gcc(1)'s analyzer wants malloc(3), too. */
static void *
grow(void *p, size_t size)
{
	void	*q;

	q = p == NULL ? malloc(size) : realloc(p, size);
	if (q == NULL)
		err(1, NULL);
	return q;
}

/* Reads one query in a line; an empty one is a query, too. */
static void
queries_read(const char *path)
{
	char	*line;
	FILE	*f;

	if ((f = fopen(path, "r")) == NULL)
		err(1, "%s", path);
	while (o.nqueries < MAXQUERIES &&
	    (line = fgets(o.queries[o.nqueries], MAXQUERY, f)) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		o.nqueries++;
	}
	if (o.nqueries == 0 || fgetc(f) != EOF)
		errx(1, "%s: no queries, or too many", path);
	fclose(f);
}

/*
 * Builds the input: such that a byte that is lost, doubled or misplaced is
 * found out by the sum that the worker tells.
 */
static void
input_build(void)
{
	uint32_t	 sum = FNV1A_START;
	long		 i, n, pos = 0;

	input = grow(NULL, o.post + (o.post / CHUNK + 2) * HEADER);
	do {
		n = o.post - pos < CHUNK ? o.post - pos : CHUNK;
		header(input + inputlen, FCGI_STDIN, ID, n);
		inputlen += HEADER;
		for (i = 0; i < n; i++, pos++)
			input[inputlen + i] = pos * 31 + (pos >> 8);
		sum = fnv1a(sum, input + inputlen, n);
		inputlen += n;
	} while (n > 0);
	snprintf(inputline, sizeof(inputline), "\nstdin %ld %08x\n", o.post,
	    (unsigned)sum);
	if (o.odd->sends != ALL)
		inputlen = 0;
}

/*
 * ---------- The request: all but the input
 */

static void
put(struct slot *s, const void *data, size_t len)
{
	if (len > HEADSIZE - s->headlen)
		errx(1, "request too long");
	memcpy(s->head + s->headlen, data, len);
	s->headlen += len;
}

static void
put_record(struct slot *s, int type, const void *data, size_t len)
{
	uint8_t	 h[HEADER];

	header(h, type, ID, len);
	put(s, h, sizeof(h));
	put(s, data, len);
}

/* A parameter in a record of its own: a short name, perhaps a long value. */
static void
put_param(struct slot *s, const char *name, const char *value)
{
	uint8_t	 data[HEADSIZE / 2 + 64];
	size_t	 namelen = strlen(name), len = strlen(value);

	if (len > HEADSIZE / 2)
		errx(1, "request too long");
	/* The lengths: of one byte, and of four with the highest bit set. */
	data[0] = namelen;
	data[1] = 0x80;
	data[2] = 0;
	data[3] = len >> 8;
	data[4] = len & 0xff;
	memcpy(data + 5, name, namelen);
	memcpy(data + 5 + namelen, value, len);
	put_record(s, FCGI_PARAMS, data, 5 + namelen + len);
}

/* Returns the next query: in order, or by a generator with -R. */
static const char *
next_query(void)
{
	if (o.nqueries == 0)
		return o.query;
	if (o.random == 0)
		return o.queries[(started - 1) % o.nqueries];
	o.random = o.random * 6364136223846793005ULL + 1442695040888963407ULL;
	return o.queries[(o.random >> 33) % o.nqueries];
}

/* Builds a request, or what an odd client sends of it. */
static void
build(struct slot *s)
{
	uint8_t		 begin[8] = { 0, 1 };	/* a responder */
	const char	*query;
	char		 uri[HEADSIZE / 2];

	s->headlen = 0;
	if (o.odd->sends == NOTHING)
		return;
	put_record(s, FCGI_BEGIN_REQUEST, begin, sizeof(begin));
	if (o.odd->sends == GARBAGE)
		memset(s->head, 0xff, s->headlen);
	if (o.odd->sends == HALF)
		s->headlen = HEADER / 2;
	if (o.odd->sends != ALL)
		return;
	query = next_query();
	snprintf(uri, sizeof(uri), "/%s%s", query[0] ? "?" : "", query);
	put_param(s, "REQUEST_METHOD", o.post > 0 ? "POST" : "GET");
	put_param(s, "REQUEST_URI", uri);
	put_param(s, "QUERY_STRING", query);
	put_record(s, FCGI_PARAMS, "", 0);
}

/*
 * ---------- The answer
 */

/* Adds to the text; there is always room for a NUL behind it. */
static void
text_add(struct slot *s, const void *data, size_t len)
{
	if (s->len + len >= s->cap) {
		s->cap = (s->len + len) * 2 + 4096;
		s->text = grow(s->text, s->cap);
	}
	memcpy(s->text + s->len, data, len);
	s->len += len;
	s->text[s->len] = '\0';
}

/* Returns whether an answer that came to its end is what it should be. */
static int
judge(struct slot *s, int status)
{
	const char	*p;

	text_add(s, "", 0);
	if ((p = strstr(s->text, "\r\n\r\n")) != NULL)
		s->body = p + 4;
	if (status != 0)
		s->bad = "protocol status is not REQUEST_COMPLETE";
	else if (!s->eos)
		s->bad = "STDOUT without an end";
	else if (s->body == NULL)
		s->bad = "no CGI header";
	else if ((p = strstr(s->body, "\nstdin ")) != NULL &&
	    strncmp(p, inputline, strlen(inputline)) != 0)
		s->bad = "not the input that was sent";
	return s->bad == NULL;
}

/*
 * Takes the records that are whole.  Returns 1 at the end of a good answer, 0
 * to go on, -1 if it is bad.
 */
static int
parse(struct slot *s)
{
	const uint8_t	*p;
	size_t		 len, pos = 0;

	while (s->inlen - pos >= HEADER) {
		p = s->in + pos;
		len = p[4] << 8 | p[5];
		if (s->inlen - pos < HEADER + len + p[6])
			break;
		pos += HEADER + len + p[6];
		if (p[0] != 1 || p[2] != 0 || p[3] != ID)
			s->bad = "record of another version or request";
		else if (p[1] == FCGI_END_REQUEST && len == 8 &&
		    pos == s->inlen)
			return judge(s, p[HEADER + 4]) ? 1 : -1;
		else if (p[1] == FCGI_STDOUT && !s->eos) {
			s->eos = len == 0;
			text_add(s, p + HEADER, len);
		} else if (p[1] != FCGI_STDERR)
			s->bad = "record of a strange type or length";
		if (s->bad != NULL)
			return -1;
	}
	s->inlen -= pos;
	memmove(s->in, s->in + pos, s->inlen);
	return 0;
}

/*
 * ---------- A slot, from the start of a request to its end
 */

/* SIGUSR1: no more requests are begun. */
static void
on_usr1(int sig)
{
	(void)sig;
	enough = 1;
}

/* Returns whether a free slot has something to do. */
static int
slot_more(void)
{
	if (enough)
		return 0;
	return o.duration != 0 ? now() - epoch < o.duration :
	    started < o.count;
}

/* Counts the fate of a request, and frees the slot. */
static void
slot_end(struct slot *s, enum fate fate)
{
	const char	*line = "";
	int64_t		 t = now();

	fate_count[fate]++;
	if (fate == ANSWERED) {
		if (nlat % 4096 == 0)
			lat = grow(lat, (nlat + 4096) * sizeof(*lat));
		lat[nlat++] = t - s->start;
		line = s->body;
	} else if (fate == BAD)
		line = s->bad;
	if (o.verbose)
		printf("%ld %lld %lld %s %.*s\n", s->index,
		    (long long)(s->start - epoch), (long long)(t - epoch),
		    fates[fate].name, (int)strcspn(line, "\n"), line);
	s->state = FREE;
	if (s->fd != -1)
		close(s->fd);
	s->fd = -1;
}

/* Sends as much as goes; who only wants to be odd leaves when all is sent. */
static void
slot_send(struct slot *s)
{
	struct iovec	 iov[2];
	size_t		 head;
	ssize_t		 n;

	while (s->sent < s->headlen + inputlen) {
		head = s->sent < s->headlen ? s->headlen - s->sent : 0;
		iov[0].iov_base = s->head + s->headlen - head;
		iov[0].iov_len = head;
		iov[1].iov_base = input + s->sent + head - s->headlen;
		iov[1].iov_len = s->headlen + inputlen - s->sent - head;
		n = writev(s->fd, iov, 2);
		if (n == -1) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == ENOTCONN)
				return;
			if (errno != EPIPE && errno != ECONNRESET)
				err(1, "write");
			/* There may be an answer, or a part of one. */
			s->epipe = 1;
			s->sent = s->headlen + inputlen;
			break;
		}
		s->sent += n;
	}
	if (!o.odd->stays)
		slot_end(s, LEFT);
}

/* Takes what has come, or that nothing more will. */
static void
slot_recv(struct slot *s)
{
	ssize_t	 n;

	/* There is room: in holds two records. */
	n = read(s->fd, s->in + s->inlen, sizeof(s->in) - s->inlen);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == -1 && errno != ECONNRESET && errno != EPIPE)
		err(1, "read");
	if (o.odd->sends != ALL) {
		if (n <= 0)
			slot_end(s, LEFT);
	} else if (n == -1) {
		slot_end(s, RESET);
	} else if (n == 0) {
		slot_end(s, s->epipe ? RESET : CUT);
	} else {
		s->inlen += n;
		if ((n = parse(s)) != 0)
			slot_end(s, n == 1 ? ANSWERED : BAD);
	}
}

/* Begins the next request, which waits for its connection. */
static void
slot_start(struct slot *s)
{
	s->index = started++;
	s->start = now();
	s->deadline = s->start + (int64_t)o.timeout * 1000;
	s->epipe = s->refused = s->eos = 0;
	s->sent = s->inlen = s->len = 0;
	s->body = s->bad = NULL;
	build(s);
	s->state = QUEUED;
}

/*
 * Connects: 0 or an errno, EAGAIN if it is worth another try.  On a full
 * backlog Linux says EAGAIN, the BSDs say ECONNREFUSED as if nobody were there:
 * under load we take that for a full backlog, until the timeout.
 */
static int
slot_connect(struct slot *s)
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

/* Connects in order, until the backlog is full: then it is full for all. */
static void
connect_queued(void)
{
	struct slot	*first, *s;
	int		 rc;

	for (;;) {
		first = NULL;
		for (s = slots; s < slots + o.conc; s++)
			if (s->state == QUEUED &&
			    (first == NULL || s->index < first->index))
				first = s;
		if (first == NULL || (rc = slot_connect(first)) == EAGAIN)
			return;
		first->state = OPEN;
		if (rc == 0)
			slot_send(first);
		else
			slot_end(first, rc == ECONNRESET ? RESET : REFUSED);
	}
}

/* One turn: fills the free slots and waits.  Returns 0 when all is done. */
static int
turn(struct pollfd *pfd)
{
	struct slot	*s;
	int64_t		 next = INT64_MAX, t, wait;
	long		 i;
	int		 busy = 0, soon = 0;

	for (s = slots; s < slots + o.conc; s++)
		if (s->state == FREE && slot_more())
			slot_start(s);
	connect_queued();
	for (i = 0; i < o.conc; i++) {
		s = &slots[i];
		pfd[i].fd = s->state == OPEN ? s->fd : -1;
		pfd[i].events = POLLIN;
		if (s->sent < s->headlen + inputlen)
			pfd[i].events |= POLLOUT;
		/* Refused at once: no sense in asking a million times. */
		if (s->state == QUEUED || (s->state == FREE && slot_more()))
			soon = 1;
		busy |= s->state != FREE;
		if (s->state != FREE && s->deadline < next)
			next = s->deadline;
	}
	if (!busy && !soon)
		return 0;
	wait = soon ? RETRY : (next - now() + 999) / 1000;
	if (poll(pfd, o.conc, wait < 0 ? 0 : wait) == -1) {
		if (errno != EINTR)
			err(1, "poll");
		return 1;
	}
	t = now();
	for (i = 0; i < o.conc; i++) {
		s = &slots[i];
		if ((pfd[i].events & POLLOUT) && (pfd[i].revents & ~POLLIN))
			slot_send(s);
		if (s->state == OPEN && (pfd[i].revents & ~POLLOUT))
			slot_recv(s);
		if (s->state != FREE && s->deadline <= t)
			slot_end(s, s->refused ? REFUSED : TIMEDOUT);
	}
	return 1;
}

/*
 * ---------- What has happened
 */

/* Tells what became of a single request: its answer, or why there is none. */
static int
report_single(void)
{
	size_t	 i;

	for (i = 1; i < NFATES; i++)
		if (fate_count[i] != 0) {
			fprintf(stderr, "%s%s%s\n", fates[i].reason,
			    i == BAD ? ": " : "", i == BAD ? slots[0].bad : "");
			return 1;
		}
	fwrite(slots[0].body, 1, slots[0].text + slots[0].len - slots[0].body,
	    stdout);
	return 0;
}

static int
compare(const void *a, const void *b)
{
	int64_t	 x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* Returns a latency in microseconds, of those sorted. */
static long long
percentile(int percent)
{
	return nlat == 0 ? 0 : lat[(nlat - 1) * percent / 100];
}

/* Tells what became of many, and how long they took.  Returns our status. */
static int
report_load(int64_t time)
{
	size_t	 i;

	for (i = 0; i < LEFT; i++)
		printf("%s%s %ld", i > 0 ? " " : "", fates[i].name,
		    fate_count[i]);
	printf("\n");
	if (!o.oneline) {
		if (nlat > 0)
			qsort(lat, nlat, sizeof(*lat), compare);
		printf("time %lld rps %lld p50 %lld p99 %lld max %lld\n",
		    (long long)(time / 1000),
		    (long long)nlat * 1000000 / (time > 0 ? time : 1),
		    percentile(50), percentile(99), percentile(100));
	}
	return fate_count[ANSWERED] != started;
}

static void __dead
usage(void)
{
	fprintf(stderr, "usage: client -s sockpath [-orv] [-A secs]"
	    " [-b postbytes] [-c concurrency]\n\t[-d secs | -n count]"
	    " [-O oddity] [-q query | -Q file] [-R seed]\n\t[-t timeout]\n");
	exit(1);
}

int
main(int argc, char *argv[])
{
	const char	*path = NULL;
	struct pollfd	*pfd;
	size_t		 i;
	int		 ch;

	alarm(LIFETIME);
	while ((ch = getopt(argc, argv, "A:b:c:d:n:O:oQ:q:R:rs:t:v")) != -1)
		switch (ch) {
		case 'A':
			alarm(number(ch, 1, 1000000));
			break;
		case 'b':
			o.post = number(ch, 0, INT_MAX);
			break;
		case 'c':
			o.conc = number(ch, 1, 100000);
			break;
		case 'd':
			o.duration = (int64_t)1000000 * number(ch, 1, 1000000);
			break;
		case 'n':
			o.count = number(ch, 1, LONG_MAX);
			break;
		case 'O':
			for (i = 0; i < NODDS; i++)
				if (strcmp(odds[i].name, optarg) == 0)
					o.odd = &odds[i];
			if (o.odd == odds)
				usage();
			break;
		case 'o':
			o.oneline = 1;
			break;
		case 'Q':
			queries_read(optarg);
			break;
		case 'q':
			o.query = optarg;
			break;
		case 'R':
			/* An LCG must not start at the same place twice. */
			o.random = 2 * number(ch, 0, INT_MAX) + 1;
			break;
		case 'r':
			o.retry = 1;
			break;
		case 's':
			path = optarg;
			break;
		case 't':
			o.timeout = number(ch, 1, INT_MAX);
			break;
		case 'v':
			o.verbose = 1;
			break;
		default:
			usage();
		}
	if (path == NULL || optind != argc)
		usage();
	address(&o.sun, path);
	o.single = o.count == 1 && o.conc == 1 && o.duration == 0 &&
	    !o.verbose;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, on_usr1);

	descriptors(o.conc + 16);
	input_build();
	if ((slots = calloc(o.conc, sizeof(*slots))) == NULL ||
	    (pfd = calloc(o.conc, sizeof(*pfd))) == NULL)
		err(1, NULL);
	for (i = 0; i < (size_t)o.conc; i++)
		slots[i].fd = -1;
	epoch = now();
	while (turn(pfd))
		continue;
	free(pfd);
	return o.single ? report_single() : report_load(now() - epoch);
}
