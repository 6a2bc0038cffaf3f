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
 * A FastCGI responder that does as it is told: well by default, badly on
 * request.  The options say how this worker lives and dies, the query string
 * of a request says what happens to that request.
 *
 * It speaks both protocols.  If FCGI_LISTENSOCK_DESCRIPTORS is a natural
 * number, connections come over that socket, each with a cookie that we write
 * back when done; otherwise descriptor 0 is a listening socket.
 *
 * With -3 it is three processes, as kcgi(3) programs are: the leader, which was
 * exec'd and is the only one to heed SIGTERM; the delegator, which holds the
 * control or the listening socket; and the application, which answers.  The
 * code is the same: what the delegator must know of a request travels to it in
 * a struct verdict, and a worker of one process uses that struct, too.
 *
 * It is linked statically and runs in an empty jail: no files are needed.
 */

#ifdef __linux__
#define _GNU_SOURCE
#endif

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/sysmacros.h>
#endif

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef NSIG
#define NSIG		 32
#endif
#ifndef nitems
#define nitems(a)	 (sizeof(a) / sizeof((a)[0]))
#endif
#define UNUSED		 __attribute__((__unused__))
#define PRINTF(f, a)	 __attribute__((__format__(__printf__, f, a)))

#define LIFETIME	 120		/* -A: seconds until SIGALRM */
#define TICK		 20000		/* microseconds, see accept_shared() */
#define RECYCLED	 77		/* -3: delegator's status for -x and -y */
#define MAXPARAMS	 (1024 * 1024)
#define CHUNK		 32768		/* content of our largest record */

/* FastCGI record types, and the protocol status of FCGI_END_REQUEST. */
enum {
	FCGI_BEGIN_REQUEST = 1,
	FCGI_ABORT_REQUEST,
	FCGI_END_REQUEST,
	FCGI_PARAMS,
	FCGI_STDIN,
	FCGI_STDOUT,
	FCGI_STDERR,
	FCGI_DATA,
	FCGI_GET_VALUES,
	FCGI_GET_VALUES_RESULT,
	FCGI_UNKNOWN_TYPE
};
#define FCGI_COMPLETE	 0
#define FCGI_CANT_MPX	 1
#define FCGI_BAD_ROLE	 3

/* What is to be done with the cookie, the directive cookie=. */
enum cookie {
	COOKIE_PLAIN,
	COOKIE_LATE,
	COOKIE_SPLIT,
	COOKIE_WRONG,
	COOKIE_TWICE,
	COOKIE_NONE,
	COOKIE_EARLY,
	COOKIE_SHORT
};

/* Are we to exit after this connection: -x, -y. */
enum last {
	LAST_NOT,
	LAST_AFTER,		/* after the cookie */
	LAST_BEFORE		/* before it */
};

/* What he who serves a connection has to tell him who holds the cookie. */
struct verdict {
	int		 early;		/* not done yet: cookie now, please */
	int		 failed;	/* client went away or sent rubbish */
	int		 unasked;	/* directive unasked */
	int		 closectl;	/* directive closectl */
	enum last	 last;
	enum cookie	 how;
	long		 ms;		/* for COOKIE_LATE and COOKIE_SPLIT */
};

struct buf {
	char		*p;
	size_t		 len;
	size_t		 cap;
};

struct conn {
	int		 fd;
	size_t		 inpos;
	size_t		 inlen;
	size_t		 outlen;
	uint64_t	 left;		/* directive half: bytes to live */
	uint8_t		 in[16384];
	uint8_t		 out[65536];
};

struct rec {
	int		 type;
	int		 id;
	size_t		 len;
	size_t		 pad;
};

struct req {
	int		 id;		/* 0: not begun */
	int		 keep;
	int		 aborted;
	int		 echo;
	int		 report;
	int		 half;
	long long	 body;		/* directive body, or -1 */
	uint64_t	 inbytes;	/* of FCGI_STDIN */
	uint32_t	 insum;
	char		 method[32];
	char		 uri[4096];
	char		 query[16384];
	struct verdict	*v;
};

/* A directive of the query string and what does it. */
struct directive {
	const char	*name;
	void		(*run)(struct req *, const char *);
};

/* The options and the state of this process. */
static struct {
	int		 ext;		/* extension protocol? */
	int		 ctl;		/* its control socket, or -1 */
	int		 listener;	/* else the listening socket, or -1 */
	int		 stop;		/* readable: end when idle; or -1 */
	int		 link;		/* application's way to the delegator */
	int		 grace;		/* -g */
	int		 deaf;		/* -t */
	int		 three;		/* -3 */
	int		 argc;
	char		**argv;
	long		 maxreq;	/* -x, -y */
	enum last	 lasthow;
	int		 status;	/* -X */
	int		 laststatus;	/* what to exit with on -x, -y */
	long		 served;
	int64_t		 deadline;	/* -A, monotonic microseconds */
	pid_t		 leader;
	pid_t		 parent;	/* of the leader */
	pid_t		 delegator;
	uint8_t		 cookie[8];
} w;

static struct buf	 facts;		/* what we found at start */
static struct buf	 params;	/* stream of the present request */
static struct conn	 conn;
static int		 sigpipe[2] = { -1, -1 };
static volatile sig_atomic_t got_term;

extern char		**environ;

static void	 usage(void) __attribute__((__noreturn__));
static long	 number(const char *, const char *, long, long);
static int	 signame(const char *);
static int64_t	 now(void);
static void	 msleep(long);
static void	 catch(int, void (*)(int));
static void	 on_alarm(int);
static void	 on_term(int);
static void	 on_child(int);
static void	 tick(int);
static void	 life_start(long);

static void	 buf_add(struct buf *, const void *, size_t);
static void	 buf_printf(struct buf *, const char *, ...) PRINTF(2, 3);
static void	 buf_word(struct buf *, const char *);
static void	 buf_none(struct buf *, size_t);

static void	 facts_record(void);
static void	 facts_fd(int);
static const char *fd_type(int, const struct stat *);
static int	 fd_null(int, const struct stat *);

static void	 write_all(int, const void *, size_t);
static void	 say(int, const char *);
static void	 flood(long);
static int	 fd_wait(int, short);
static int	 fd_idle(int);
static int	 fd_recv(int, void *, size_t, int *);
static int	 fd_take(struct msghdr *);
static void	 fd_send(int, int);
static void	 fd_nonblock(int);

static void	 worker_start(void);
static void	 worker_ext(void);
static void	 worker_v1(void);
static void	 worker_live_on(void);
static int	 accept_shared(void);
static int	 ctl_env(void);
static void	 ctl_write(const void *, size_t);
static void	 ctl_ack(const struct verdict *);
static void	 ctl_early(struct verdict *);
static void	 finish(int, const struct verdict *);

static void	 three_start(void);
static int	 three_lead(int);
static void	 three_delegate(int);
static void	 three_wait(int, struct verdict *);
static void	 three_application(void);

static void	 conn_serve(int, struct verdict *);
static int	 conn_fill(struct conn *);
static int	 conn_read(struct conn *, void *, size_t);
static int	 conn_flush(struct conn *);
static int	 conn_write(struct conn *, const void *, size_t);

static int	 rec_read(struct conn *, struct rec *);
static int	 rec_take(struct conn *, struct rec *, struct req *);
static int	 rec_begin(struct conn *, struct rec *, struct req *);
static int	 rec_params(struct conn *, struct rec *, struct req *);
static int	 rec_stdin(struct conn *, struct rec *, struct req *);
static int	 rec_manage(struct conn *, struct rec *);
static int	 rec_write(struct conn *, int, int, const void *, size_t);
static int	 rec_end(struct conn *, int, int);

static int	 req_read(struct conn *, struct req *);
static int	 req_params(struct req *);
static void	 req_param(struct req *, const char *, size_t, const char *,
		    size_t);
static int	 req_serve(struct conn *, struct req *);
static void	 req_direct(struct req *);
static void	 req_text(struct req *, struct buf *);
static int	 req_answer(struct conn *, struct req *, const struct buf *);
static int	 req_body(struct conn *, struct req *);
static void	 req_report(struct buf *);
static void	 report_ids(struct buf *);
static void	 report_root(struct buf *);
static int	 name_cmp(const void *, const void *);
static void	 decode(char *);

static void	 d_slow(struct req *, const char *);
static void	 d_hang(struct req *, const char *);
static void	 d_crash(struct req *, const char *);
static void	 d_kill(struct req *, const char *);
static void	 d_exit(struct req *, const char *);
static void	 d_stop(struct req *, const char *);
static void	 d_body(struct req *, const char *);
static void	 d_echo(struct req *, const char *);
static void	 d_report(struct req *, const char *);
static void	 d_half(struct req *, const char *);
static void	 d_cookie(struct req *, const char *);
static void	 d_unasked(struct req *, const char *);
static void	 d_closectl(struct req *, const char *);
static void	 d_err(struct req *, const char *);
static void	 d_errlong(struct req *, const char *);
static void	 d_flood(struct req *, const char *);
static void	 d_out(struct req *, const char *);

/*
 * The directives.  They are done in the order of the query string before the
 * answer, once the request has been read to its end; those that concern the
 * answer or what comes after it only leave a note.
 */
static const struct directive directives[] = {
	{ "slow",	d_slow },	/* slow=MS: sleep */
	{ "hang",	d_hang },	/* pause for ever */
	{ "crash",	d_crash },	/* die of SIGSEGV */
	{ "kill",	d_kill },	/* kill=SIG: send it to ourselves */
	{ "exit",	d_exit },	/* exit=STATUS: without an answer */
	{ "stop",	d_stop },	/* SIGSTOP */
	{ "body",	d_body },	/* body=BYTES: this long a body */
	{ "echo",	d_echo },	/* tell size and checksum of input */
	{ "report",	d_report },	/* tell what we inherited */
	{ "half",	d_half },	/* SIGKILL after half the answer */
	{ "cookie",	d_cookie },	/* cookie=HOW[:MS] */
	{ "unasked",	d_unasked },	/* 8 bytes of junk when idle */
	{ "closectl",	d_closectl },	/* close control socket, live on */
	{ "err",	d_err },	/* err=N: lines on standard error */
	{ "errlong",	d_errlong },	/* errlong=N: one long line */
	{ "flood",	d_flood },	/* flood=N: as -F */
	{ "out",	d_out },	/* out=TEXT: a line on std output */
};

int
main(int argc, char *argv[])
{
	const char	*errtext = NULL, *outtext = NULL;
	long		 lifetime = LIFETIME, floodlines = 0, sleepms = 0;
	long		 brokenms = -1, uid = -1, xreq = 0, yreq = 0;
	int		 ch, atonce = -1, sig = 0;

	/* First of all: everything below changes what is to be reported. */
	facts_record();
	w.argc = argc;
	w.argv = argv;

	/* glibc's getopt(3) would look for options behind the operands. */
	while (optind < argc && argv[optind][0] == '-') {
		ch = getopt(argc, argv, "3A:E:F:LS:X:b:e:go:s:tu:x:y:");
		if (ch == -1)
			break;
		switch (ch) {
		case '3':
			w.three = 1;
			break;
		case 'A':
			lifetime = number("-A", optarg, 0, 1000000);
			break;
		case 'E':
			atonce = number("-E", optarg, 0, 255);
			break;
		case 'F':
			floodlines = number("-F", optarg, 0, LONG_MAX);
			break;
		case 'L':	/* reserved */
			break;
		case 'S':
			if ((sig = signame(optarg)) == -1)
				errx(1, "-S %s: no such signal", optarg);
			break;
		case 'X':
			w.status = number("-X", optarg, 0, 255);
			break;
		case 'b':
			brokenms = number("-b", optarg, 0, 1000000);
			break;
		case 'e':
			errtext = optarg;
			break;
		case 'g':
			w.grace = 1;
			break;
		case 'o':
			outtext = optarg;
			break;
		case 's':
			sleepms = number("-s", optarg, 0, 1000000);
			break;
		case 't':
			w.deaf = 1;
			break;
		case 'u':
			uid = number("-u", optarg, 0, INT_MAX);
			break;
		case 'x':
			xreq = number("-x", optarg, 1, LONG_MAX);
			break;
		case 'y':
			yreq = number("-y", optarg, 1, LONG_MAX);
			break;
		default:
			usage();
		}
	}
	if ((w.grace && w.deaf) || (xreq > 0 && yreq > 0))
		usage();
	w.maxreq = xreq > 0 ? xreq : yreq;
	w.lasthow = xreq > 0 ? LAST_AFTER : yreq > 0 ? LAST_BEFORE : LAST_NOT;
	w.laststatus = w.status;

	life_start(lifetime);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		err(1, "signal");
	if (w.deaf && signal(SIGTERM, SIG_IGN) == SIG_ERR)
		err(1, "signal");
	if (errtext != NULL)
		say(STDERR_FILENO, errtext);
	if (outtext != NULL)
		say(STDOUT_FILENO, outtext);
	if (atonce != -1)
		exit(atonce);
	/* A program that does not work as long as that file is there. */
	if (brokenms != -1 && access("/broken", F_OK) == 0) {
		msleep(brokenms);
		exit(3);
	}
	if (uid != -1 && (setgroups(0, NULL) == -1 || setgid(uid) == -1 ||
	    setuid(uid) == -1))
		err(1, "-u %ld", uid);
	msleep(sleepms);
	if (sig != 0)
		raise(sig);
	flood(floodlines);
	worker_start();
	return 0;
}

static void
usage(void)
{
	fprintf(stderr, "usage: worker [-3gLt] [-A secs] [-E status] [-F lines]"
	    " [-S signal]\n\t[-X status] [-b ms] [-e text] [-o text] [-s ms] [-u uid]"
	    " [-x n | -y n]\n\t[arg ...]\n");
	exit(1);
}

/* There is no strtonum(3) everywhere, and no compat here. */
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

/* A signal by number or by name. */
static int
signame(const char *text)
{
	static const struct {
		const char	*name;
		int		 sig;
	} names[] = {
		{ "HUP", SIGHUP }, { "INT", SIGINT }, { "QUIT", SIGQUIT },
		{ "ILL", SIGILL }, { "TRAP", SIGTRAP }, { "ABRT", SIGABRT },
		{ "FPE", SIGFPE }, { "KILL", SIGKILL }, { "BUS", SIGBUS },
		{ "SEGV", SIGSEGV }, { "SYS", SIGSYS }, { "PIPE", SIGPIPE },
		{ "ALRM", SIGALRM }, { "TERM", SIGTERM }, { "STOP", SIGSTOP },
		{ "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },
	};
	size_t	 i;
	int	 sig;

	if (strncmp(text, "SIG", 3) == 0)
		text += 3;
	for (i = 0; i < nitems(names); i++)
		if (strcmp(text, names[i].name) == 0)
			return names[i].sig;
	sig = atoi(text);
	return sig > 0 && sig < NSIG ? sig : -1;
}

static int64_t
now(void)
{
	struct timespec	 ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Sleeps to the end, whatever signal we catch meanwhile. */
static void
msleep(long ms)
{
	struct timespec	 ts;

	if (ms <= 0)
		return;
	ts.tv_sec = ms / 1000;
	ts.tv_nsec = ms % 1000 * 1000000;
	while (nanosleep(&ts, &ts) == -1 && errno == EINTR)
		continue;
}

/* Without SA_RESTART: a blocked accept(2) must come back. */
static void
catch(int sig, void (*handler)(int))
{
	struct sigaction	 sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = handler;
	sigemptyset(&sa.sa_mask);
	if (sigaction(sig, &sa, NULL) == -1)
		err(1, "sigaction");
}

/* The timer serves two purposes: the end of our life, and tick(). */
static void
on_alarm(int sig)
{
	int	 saved = errno;

	if (w.deadline != 0 && now() >= w.deadline) {
		signal(sig, SIG_DFL);
		raise(sig);	/* blocked now, deadly when we return */
	}
	errno = saved;
}

static void
on_term(UNUSED int sig)
{
	int	 saved = errno;

	got_term = 1;
	if (sigpipe[1] != -1 && write(sigpipe[1], "", 1) == -1)
		got_term = 1;	/* pipe is full: then it is readable, too */
	errno = saved;
}

/* Only there to wake sigsuspend(2). */
static void
on_child(UNUSED int sig)
{
}

/* Starts a steady tick of SIGALRM, or goes back to the one at the end. */
static void
tick(int on)
{
	struct itimerval	 it;
	int64_t			 left;
	int			 saved = errno;

	memset(&it, 0, sizeof(it));
	if (on) {
		it.it_value.tv_usec = TICK;
		it.it_interval.tv_usec = TICK;
	} else if (w.deadline != 0) {
		if ((left = w.deadline - now()) < 1000)
			left = 1000;
		it.it_value.tv_sec = left / 1000000;
		it.it_value.tv_usec = left % 1000000;
	}
	if (setitimer(ITIMER_REAL, &it, NULL) == -1)
		err(1, "setitimer");
	errno = saved;
}

/* Nothing that a test starts may live for ever, whatever mask it inherits. */
static void
life_start(long secs)
{
	sigset_t	 set;

	if (secs > 0)
		w.deadline = now() + (int64_t)secs * 1000000;
	catch(SIGALRM, on_alarm);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	tick(0);
}

/*
 * Text that grows.
 */
static void
buf_add(struct buf *b, const void *data, size_t len)
{
	char	*p;

	if (b->p == NULL || len >= b->cap - b->len) {
		if (len > SIZE_MAX / 4 - b->len)
			errx(1, "too long");
		if ((p = realloc(b->p, (b->len + len + 1) * 2)) == NULL)
			err(1, NULL);
		b->p = p;
		b->cap = (b->len + len + 1) * 2;
	}
	if (len > 0)
		memcpy(b->p + b->len, data, len);
	b->len += len;
	b->p[b->len] = '\0';
}

static void
buf_printf(struct buf *b, const char *fmt, ...)
{
	char	 line[1024];
	va_list	 ap;
	int	 n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0)
		err(1, "vsnprintf");
	buf_add(b, line, (size_t)n < sizeof(line) ? (size_t)n :
	    sizeof(line) - 1);
}

/* A string from outside, in one line whatever is in it. */
static void
buf_word(struct buf *b, const char *s)
{
	size_t	 n;

	while (*s != '\0') {
		n = strcspn(s, "\n\r");
		buf_add(b, s, n);
		s += n;
		if (*s != '\0')
			buf_add(b, *s++ == '\n' ? "\\n" : "\\r", 2);
	}
}

/* Ends a list that began at start: an empty one says so. */
static void
buf_none(struct buf *b, size_t start)
{
	if (b->len == start)
		buf_printf(b, " none");
	buf_printf(b, "\n");
}

/*
 * What the directive report tells of our start: signals and descriptors.
 */
static void
facts_record(void)
{
	struct sigaction	 sa;
	sigset_t		 mask;
	size_t			 start;
	int			 i, nfds = 0, fds[1024];

	w.leader = getpid();
	w.parent = getppid();
	w.link = w.ctl = w.listener = w.stop = -1;

	sigemptyset(&mask);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	buf_printf(&facts, "mask");
	start = facts.len;
	for (i = 1; i < NSIG; i++)
		if (sigismember(&mask, i) == 1)
			buf_printf(&facts, " %d", i);
	buf_none(&facts, start);

	buf_printf(&facts, "ignored");
	start = facts.len;
	for (i = 1; i < NSIG; i++)
		if (sigaction(i, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			buf_printf(&facts, " %d", i);
	buf_none(&facts, start);

	buf_printf(&facts, "fds");
	start = facts.len;
	for (i = 0; i < 1024; i++)
		if (fcntl(i, F_GETFD) != -1) {
			buf_printf(&facts, " %d", i);
			fds[nfds++] = i;
		}
	buf_none(&facts, start);
	for (i = 0; i < nfds; i++)
		facts_fd(fds[i]);
}

static void
facts_fd(int fd)
{
	struct stat	 st;
	const char	*type = "unknown";
	int		 flags;

	flags = fcntl(fd, F_GETFL);
	if (fstat(fd, &st) == 0)
		type = fd_type(fd, &st);
	buf_printf(&facts, "fd %d %s %s\n", fd, type,
	    flags != -1 && (flags & O_NONBLOCK) ? "nonblocking" : "blocking");
}

static const char *
fd_type(int fd, const struct stat *st)
{
	socklen_t	 len;
	int		 listens = 0;

	if (S_ISSOCK(st->st_mode)) {
		len = sizeof(listens);
		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens,
		    &len) == 0 && listens)
			return "sock-listen";
		return "sock";
	}
	if (S_ISCHR(st->st_mode))
		return isatty(fd) ? "tty" : fd_null(fd, st) ? "null" : "char";
	if (S_ISFIFO(st->st_mode))
		return "pipe";
	if (S_ISREG(st->st_mode))
		return "file";
	if (S_ISDIR(st->st_mode))
		return "dir";
	return "unknown";
}

/* Is it /dev/null?  There is none in the jail to compare with. */
static int
fd_null(UNUSED int fd, UNUSED const struct stat *st)
{
#ifdef __linux__
	return st->st_rdev == makedev(1, 3);
#else
	struct pollfd	 pfd;
	char		 ch;

	pfd.fd = fd;
	pfd.events = POLLIN;
	return poll(&pfd, 1, 0) == 1 && read(fd, &ch, 1) == 0;
#endif
}

/*
 * Descriptors.
 */

/* For standard output and error: if these are gone, so be it. */
static void
write_all(int fd, const void *data, size_t len)
{
	const char	*p = data;
	ssize_t		 n;

	while (len > 0) {
		n = write(fd, p, len);
		if (n == -1) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN && fd_wait(fd, POLLOUT))
				continue;
			return;
		}
		p += n;
		len -= n;
	}
}

/* One line in one write(2), so that lines of two workers do not mix. */
static void
say(int fd, const char *text)
{
	struct buf	 b = { NULL, 0, 0 };

	buf_add(&b, text, strlen(text));
	buf_add(&b, "\n", 1);
	write_all(fd, b.p, b.len);
	free(b.p);
}

static void
flood(long lines)
{
	char	 line[64];
	long	 i;

	for (i = 0; i < lines; i++) {
		snprintf(line, sizeof(line), "flood %ld", i);
		say(STDERR_FILENO, line);
	}
}

/* Some descriptors are non-blocking, by our own doing or another's. */
static int
fd_wait(int fd, short events)
{
	struct pollfd	 pfd;

	pfd.fd = fd;
	pfd.events = events;
	while (poll(&pfd, 1, -1) == -1)
		if (errno != EINTR)
			return 0;
	return 1;
}

/*
 * Waits with nothing in hand: 1 when fd has something for us, 0 when we are
 * to end.  That one comes first, as what we have not read can be given to
 * another worker.  SIGTERM is a byte in a pipe here, so poll(2) cannot miss it.
 */
static int
fd_idle(int fd)
{
	struct pollfd	 pfd[2];

	pfd[0].fd = fd;
	pfd[1].fd = w.stop;	/* poll(2) passes over a -1 */
	pfd[0].events = pfd[1].events = POLLIN;
	while (poll(pfd, 2, -1) == -1)
		if (errno != EINTR)
			err(1, "poll");
	return w.stop == -1 || pfd[1].revents == 0;
}

/*
 * Reads len bytes and the descriptor that comes with the first of them.
 * Returns 0 on end-of-file, or if the other side is dead.
 */
static int
fd_recv(int sock, void *data, size_t len, int *fd)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(4 * sizeof(int))];
	} cmsg;
	struct msghdr	 msg;
	struct iovec	 iov;
	size_t		 got = 0;
	ssize_t		 n;

	for (*fd = -1; got < len; got += n) {
		memset(&msg, 0, sizeof(msg));
		iov.iov_base = (char *)data + got;
		iov.iov_len = len - got;
		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = cmsg.buf;
		msg.msg_controllen = sizeof(cmsg.buf);
		n = recvmsg(sock, &msg, 0);
		if (n == -1 && errno == ECONNRESET)
			n = 0;
		if (n == -1) {
			if (errno != EINTR && errno != EAGAIN)
				err(1, "recvmsg");
			if (errno == EAGAIN)
				fd_wait(sock, POLLIN);
			continue;
		}
		if (n == 0 && got == 0)
			return 0;
		if (n == 0)
			errx(1, "control message cut off");
		if (got == 0 && (*fd = fd_take(&msg)) == -1)
			errx(1, "control message without one descriptor");
	}
	return 1;
}

/* The one descriptor of a message. */
static int
fd_take(struct msghdr *msg)
{
	struct cmsghdr	*cmsg;
	int		 fd;

	if (msg->msg_flags & MSG_CTRUNC)
		return -1;
	if ((cmsg = CMSG_FIRSTHDR(msg)) == NULL ||
	    cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS ||
	    cmsg->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

static void
fd_send(int sock, int fd)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr	 msg;
	struct cmsghdr	*cmsg;
	struct iovec	 iov;
	char		 byte = 0;

	memset(&msg, 0, sizeof(msg));
	memset(&u, 0, sizeof(u));
	iov.iov_base = &byte;
	iov.iov_len = 1;
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = u.buf;
	msg.msg_controllen = sizeof(u.buf);
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	while (sendmsg(sock, &msg, 0) == -1)
		if (errno != EINTR)
			err(1, "application");
}

static void
fd_nonblock(int fd)
{
	int	 flags;

	if ((flags = fcntl(fd, F_GETFL)) == -1 ||
	    fcntl(fd, F_SETFL, flags | O_NONBLOCK) == -1)
		err(1, "descriptor %d", fd);
}

/*
 * The worker: how it gets its connections, and what comes after each.
 */
static void
worker_start(void)
{
	w.ctl = ctl_env();
	w.ext = w.ctl != -1;
	if (w.ext)
		fd_nonblock(w.ctl);
	else
		w.listener = STDIN_FILENO;

	if (w.three) {
		three_start();
		return;
	}
	if (w.grace) {
		if (pipe(sigpipe) == -1)
			err(1, "pipe");
		fd_nonblock(sigpipe[1]);
		w.stop = sigpipe[0];
		catch(SIGTERM, on_term);
	}
	if (w.ext)
		worker_ext();
	else
		worker_v1();
}

static void
worker_ext(void)
{
	struct verdict	 v;
	int		 fd;

	while (fd_idle(w.ctl) &&
	    fd_recv(w.ctl, w.cookie, sizeof(w.cookie), &fd)) {
		conn_serve(fd, &v);
		finish(fd, &v);
	}
}

static void
worker_v1(void)
{
	struct verdict	 v;
	int		 fd;

	while ((fd = accept_shared()) != -1) {
		conn_serve(fd, &v);
		finish(fd, &v);
	}
}

/* Directive closectl: there is nothing more to do, but we do not exit. */
static void
worker_live_on(void)
{
	for (;;) {
		if (w.stop == -1)
			pause();
		else if (!fd_idle(-1))
			exit(0);
	}
}

/*
 * Takes the next connection from the listening socket, -1 when we are to end.
 *
 * Without -g and -3 this is just accept(2): SIGTERM kills us there, or is
 * ignored.  Otherwise we must wait for a connection and for the end at once,
 * with poll(2).  But the socket is blocking and shared: when all the workers
 * wake up for one connection, all but one would sit in accept(2) until the
 * next one comes.  O_NONBLOCK would change it for the others, too, as they
 * share the file description.  SIGTERM does interrupt accept(2), but not if it
 * comes just before the call, and the delegator of -3 is told to end by an
 * end-of-file.  So during the call a timer ticks: sooner or later a tick falls
 * into it and sends us back to poll(2).  If accept(2) has a connection it
 * returns it, signal or not, and it will be served.
 */
static int
accept_shared(void)
{
	int	 fd;

	for (;;) {
		if (w.stop != -1) {
			if (!fd_idle(w.listener))
				return -1;
			tick(1);
		}
		fd = accept(w.listener, NULL, NULL);
		if (w.stop != -1)
			tick(0);
		if (fd != -1)
			return fd;
		switch (errno) {
		case EINTR:
		case ECONNABORTED:
			break;
		case EAGAIN:
			/* Somebody made it non-blocking after all. */
			if (w.stop == -1)
				fd_wait(w.listener, POLLIN);
			break;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			msleep(10);
			break;
		default:
			err(1, "accept");
		}
	}
}

/* The control socket, -1 if there is none and the protocol is FastCGI 1.0. */
static int
ctl_env(void)
{
	const char	*value;
	char		*end;
	long		 n;

	if ((value = getenv("FCGI_LISTENSOCK_DESCRIPTORS")) == NULL ||
	    value[0] < '0' || value[0] > '9')
		return -1;
	errno = 0;
	n = strtol(value, &end, 10);
	if (errno != 0 || *end != '\0' || n > INT_MAX)
		return -1;
	return n;
}

static void
ctl_write(const void *data, size_t len)
{
	const char	*p = data;
	ssize_t		 n;

	while (len > 0) {
		n = write(w.ctl, p, len);
		if (n == -1) {
			if (errno == EAGAIN)
				fd_wait(w.ctl, POLLOUT);
			else if (errno == EPIPE || errno == ECONNRESET)
				exit(0);	/* as on end-of-file */
			else if (errno != EINTR)
				err(1, "control socket");
			continue;
		}
		p += n;
		len -= n;
	}
}

/* Writes the cookie, in the way that was asked for. */
static void
ctl_ack(const struct verdict *v)
{
	uint8_t	 wrong[sizeof(w.cookie)];
	size_t	 i;

	switch (v->how) {
	case COOKIE_NONE:
		return;
	case COOKIE_WRONG:
		for (i = 0; i < sizeof(wrong); i++)
			wrong[i] = ~w.cookie[i];
		ctl_write(wrong, sizeof(wrong));
		return;
	case COOKIE_SHORT:
		ctl_write(w.cookie, 4);
		return;
	case COOKIE_SPLIT:
		ctl_write(w.cookie, 4);
		msleep(v->ms);
		ctl_write(w.cookie + 4, 4);
		return;
	case COOKIE_LATE:
		msleep(v->ms);
		break;
	case COOKIE_TWICE:
		ctl_write(w.cookie, sizeof(w.cookie));
		break;
	case COOKIE_EARLY:
	case COOKIE_PLAIN:
		break;
	}
	ctl_write(w.cookie, sizeof(w.cookie));
}

/* cookie=early: now, not in finish().  With -3 the delegator must do it. */
static void
ctl_early(struct verdict *v)
{
	char	 byte;

	if (!w.ext)
		return;
	if (w.link == -1)
		ctl_ack(v);
	else {
		v->early = 1;
		write_all(w.link, v, sizeof(*v));
		v->early = 0;
		while (read(w.link, &byte, 1) == -1 && errno == EINTR)
			continue;
	}
	v->how = COOKIE_NONE;
}

/*
 * Ends a connection.  The cookie is written before the descriptor is closed,
 * as kcgi does it.
 */
static void
finish(int fd, const struct verdict *v)
{
	if (v->last == LAST_BEFORE)
		exit(w.laststatus);
	if (w.ext)
		ctl_ack(v);
	close(fd);
	if (v->last == LAST_AFTER)
		exit(w.laststatus);
	if (!w.ext)
		return;
	if (v->unasked) {
		msleep(50);
		ctl_write("UNASKED!", 8);
	}
	if (v->closectl) {
		close(w.ctl);
		worker_live_on();
	}
}

/*
 * Three processes.  The leader holds one end of a socket pair, whose other end
 * tells the delegator by end-of-file that the leader is no more; another pair
 * links delegator and application.
 */
static void
three_start(void)
{
	sigset_t	 set, old;
	int		 life[2], link[2];
	pid_t		 pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, life) == -1 ||
	    socketpair(AF_UNIX, SOCK_STREAM, 0, link) == -1)
		err(1, "socketpair");

	/* Block them: no SIGTERM may hit a sibling before it ignores it. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	if (!w.deaf)
		catch(SIGTERM, on_term);
	catch(SIGCHLD, on_child);

	if ((w.delegator = fork()) == -1)
		err(1, "fork");
	pid = 0;
	if (w.delegator != 0 && (pid = fork()) == -1)
		err(1, "fork");
	if (w.delegator != 0 && pid != 0) {
		close(life[1]);
		close(link[0]);
		close(link[1]);
		close(w.ext ? w.ctl : w.listener);
		sigdelset(&old, SIGTERM);
		sigdelset(&old, SIGCHLD);
		sigprocmask(SIG_SETMASK, &old, NULL);
		sigprocmask(SIG_BLOCK, &set, NULL);
		exit(three_lead(life[0]));
	}

	signal(SIGTERM, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
	tick(0);		/* timers are not inherited */
	close(life[0]);
	if (w.delegator == 0) {
		close(link[1]);
		w.stop = life[1];
		w.laststatus = RECYCLED;
		three_delegate(link[0]);
	} else {
		close(life[1]);
		close(link[0]);
		close(w.ext ? w.ctl : w.listener);
		w.link = w.stop = link[1];
		three_application();
	}
	exit(0);
}

/*
 * Waits for SIGTERM or a sibling's failure.  Siblings that end well are no
 * reason to go.  On SIGTERM we leave at once and the siblings follow by
 * themselves; with -g we wait for them.
 */
static int
three_lead(int life)
{
	sigset_t	 none;
	int		 status;

	for (;;) {
		while (waitpid(-1, &status, WNOHANG) > 0) {
			if (!WIFEXITED(status))
				return 1;
			if (WEXITSTATUS(status) == RECYCLED)
				return w.status;
			if (WEXITSTATUS(status) != 0)
				return 1;
		}
		if (got_term)
			break;
		sigemptyset(&none);
		sigsuspend(&none);
	}
	if (w.grace) {
		close(life);
		while (waitpid(-1, &status, 0) > 0 || errno == EINTR)
			continue;
	}
	return 0;
}

/* The delegator: hands connections on, and the cookies back. */
static void
three_delegate(int app)
{
	struct verdict	 v;
	int		 fd;

	for (;;) {
		if (w.ext) {
			if (!fd_idle(w.ctl) || !fd_recv(w.ctl, w.cookie,
			    sizeof(w.cookie), &fd))
				return;
		} else if ((fd = accept_shared()) == -1)
			return;
		fd_send(app, fd);
		three_wait(app, &v);
		if (v.failed)
			errx(1, "client hung up");
		finish(fd, &v);
	}
}

/* Until the application is done.  It does not end before, nor do we. */
static void
three_wait(int app, struct verdict *v)
{
	struct pollfd	 pfd[2];
	size_t		 got = 0;
	ssize_t		 n;

	pfd[0].fd = app;
	pfd[1].fd = w.stop;
	pfd[0].events = pfd[1].events = POLLIN;
	while (got < sizeof(*v)) {
		if (poll(pfd, 2, -1) == -1) {
			if (errno == EINTR)
				continue;
			err(1, "poll");
		}
		if (pfd[1].revents != 0) {
			/* Let it not wait for more on this connection. */
			shutdown(app, SHUT_WR);
			pfd[1].fd = -1;
		}
		if (pfd[0].revents == 0)
			continue;
		n = read(app, (char *)v + got, sizeof(*v) - got);
		if (n == 0 || (n == -1 && errno != EINTR))
			errx(1, "application died");
		if (n > 0)
			got += n;
		if (got == sizeof(*v) && v->early) {
			ctl_ack(v);
			write_all(app, "", 1);
			got = 0;
		}
	}
}

static void
three_application(void)
{
	struct verdict	 v;
	char		 byte;
	int		 fd;

	while (fd_recv(w.link, &byte, 1, &fd)) {
		conn_serve(fd, &v);
		write_all(w.link, &v, sizeof(v));
		close(fd);
	}
}

/*
 * A connection: one request, or many if the client wants to keep it.
 */
static void
conn_serve(int fd, struct verdict *v)
{
	static struct req	 r;
	int			 n, rc;

	memset(v, 0, sizeof(*v));
	conn.fd = fd;
	conn.inpos = conn.inlen = conn.outlen = 0;
	conn.left = UINT64_MAX;
	for (n = 0;; n++) {
		if (n > 0 && conn.inpos == conn.inlen && !fd_idle(fd))
			return;
		rc = req_read(&conn, &r);
		if (rc == 0 && n > 0)
			return;
		if (rc == 1) {
			w.served++;
			r.v = v;
			if (r.aborted)
				rc = rec_end(&conn, r.id, FCGI_COMPLETE);
			else
				rc = req_serve(&conn, &r);
			if (rc == 0)
				rc = conn_flush(&conn);
		} else
			rc = -1;
		if (rc == -1)
			v->failed = 1;
		if (w.lasthow != LAST_NOT && w.served >= w.maxreq)
			v->last = w.lasthow;
		if (rc == -1 || v->last != LAST_NOT || !r.keep)
			return;
	}
}

/* Returns 1, 0 on end-of-file, -1 on an error. */
static int
conn_fill(struct conn *c)
{
	ssize_t	 n;

	for (;;) {
		n = read(c->fd, c->in, sizeof(c->in));
		if (n >= 0)
			break;
		if (errno == EAGAIN)
			fd_wait(c->fd, POLLIN);
		else if (errno != EINTR)
			return -1;
	}
	c->inpos = 0;
	c->inlen = n;
	return n > 0;
}

/* Reads all of len.  Returns 1, 0 on end-of-file before the first byte, -1. */
static int
conn_read(struct conn *c, void *data, size_t len)
{
	size_t	 got, n;
	int	 rc;

	for (got = 0; got < len; got += n) {
		if (c->inpos == c->inlen) {
			if ((rc = conn_fill(c)) != 1)
				return rc == 0 && got == 0 ? 0 : -1;
		}
		n = c->inlen - c->inpos;
		if (n > len - got)
			n = len - got;
		memcpy((char *)data + got, c->in + c->inpos, n);
		c->inpos += n;
	}
	return 1;
}

/* Sends what has been gathered; 0 or -1. */
static int
conn_flush(struct conn *c)
{
	size_t	 pos = 0, len = c->outlen;
	ssize_t	 n;

	if (len > c->left)
		len = c->left;
	while (pos < len) {
		n = write(c->fd, c->out + pos, len - pos);
		if (n == -1) {
			if (errno == EAGAIN)
				fd_wait(c->fd, POLLOUT);
			else if (errno != EINTR)
				return -1;
			continue;
		}
		pos += n;
	}
	if (len < c->outlen)
		kill(getpid(), SIGKILL);
	if (c->left != UINT64_MAX)
		c->left -= len;
	c->outlen = 0;
	return 0;
}

static int
conn_write(struct conn *c, const void *data, size_t len)
{
	const uint8_t	*p = data;
	size_t		 n;

	while (len > 0) {
		if (c->outlen == sizeof(c->out) && conn_flush(c) == -1)
			return -1;
		n = sizeof(c->out) - c->outlen;
		if (n > len)
			n = len;
		memcpy(c->out + c->outlen, p, n);
		c->outlen += n;
		p += n;
		len -= n;
	}
	return 0;
}

/*
 * Records.  The functions that read one return 1 when the request is complete,
 * 0 to go on, -1 if client or connection are no good.
 */

/* The header: 1, 0 on end-of-file, -1. */
static int
rec_read(struct conn *c, struct rec *h)
{
	uint8_t	 p[8];
	int	 rc;

	if ((rc = conn_read(c, p, sizeof(p))) != 1)
		return rc;
	if (p[0] != 1)
		return -1;
	h->type = p[1];
	h->id = p[2] << 8 | p[3];
	h->len = p[4] << 8 | p[5];
	h->pad = p[6];
	return 1;
}

static int
rec_take(struct conn *c, struct rec *h, struct req *r)
{
	uint8_t	 skip[65535 + 255];
	int	 rc = 0;

	if (h->id == 0)
		rc = rec_manage(c, h);
	else if (h->type == FCGI_BEGIN_REQUEST)
		rc = rec_begin(c, h, r);
	else if (r->id == 0)
		return -1;
	else if (h->id == r->id) {
		switch (h->type) {
		case FCGI_ABORT_REQUEST:
			r->aborted = rc = 1;
			break;
		case FCGI_PARAMS:
			rc = rec_params(c, h, r);
			break;
		case FCGI_STDIN:
			rc = rec_stdin(c, h, r);
			break;
		default:
			break;
		}
	}
	if (rc == -1)
		return -1;
	/* What was not consumed, and the padding. */
	if (conn_read(c, skip, h->len + h->pad) != 1)
		return -1;
	return rc;
}

static int
rec_begin(struct conn *c, struct rec *h, struct req *r)
{
	uint8_t	 p[8];

	if (h->len < sizeof(p) || conn_read(c, p, sizeof(p)) != 1)
		return -1;
	h->len -= sizeof(p);
	if (r->id != 0)
		return rec_end(c, h->id, FCGI_CANT_MPX) == -1 ||
		    conn_flush(c) == -1 ? -1 : 0;
	r->id = h->id;
	r->keep = p[2] & 1;
	if ((p[0] << 8 | p[1]) != 1) {
		rec_end(c, h->id, FCGI_BAD_ROLE);
		conn_flush(c);
		return -1;
	}
	return 0;
}

/* The stream of parameters is put together first, then taken apart. */
static int
rec_params(struct conn *c, struct rec *h, struct req *r)
{
	uint8_t	 data[65535];

	if (h->len == 0)
		return req_params(r);
	if (params.len + h->len > MAXPARAMS ||
	    conn_read(c, data, h->len) != 1)
		return -1;
	buf_add(&params, data, h->len);
	h->len = 0;
	return 0;
}

/* The input is counted and summed up (32-bit FNV-1a), not stored. */
static int
rec_stdin(struct conn *c, struct rec *h, struct req *r)
{
	uint8_t	 data[65535];
	size_t	 i;

	if (h->len == 0)
		return 1;
	if (conn_read(c, data, h->len) != 1)
		return -1;
	for (i = 0; i < h->len; i++)
		r->insum = (r->insum ^ data[i]) * 16777619U;
	r->inbytes += h->len;
	h->len = 0;
	return 0;
}

/* Management records: we know no variables, and no other types. */
static int
rec_manage(struct conn *c, struct rec *h)
{
	uint8_t	 p[8];
	int	 rc;

	memset(p, 0, sizeof(p));
	p[0] = h->type;
	if (h->type == FCGI_GET_VALUES)
		rc = rec_write(c, FCGI_GET_VALUES_RESULT, 0, p, 0);
	else
		rc = rec_write(c, FCGI_UNKNOWN_TYPE, 0, p, sizeof(p));
	return rc == -1 || conn_flush(c) == -1 ? -1 : 0;
}

/* Padded to 8 bytes: not needed, but clients must be able to take it. */
static int
rec_write(struct conn *c, int type, int id, const void *data, size_t len)
{
	static const uint8_t	 zero[8];
	uint8_t			 p[8];
	size_t			 pad = (8 - len % 8) % 8;

	p[0] = 1;
	p[1] = type;
	p[2] = id >> 8;
	p[3] = id & 0xff;
	p[4] = len >> 8;
	p[5] = len & 0xff;
	p[6] = pad;
	p[7] = 0;
	if (conn_write(c, p, sizeof(p)) == -1 ||
	    conn_write(c, data, len) == -1 || conn_write(c, zero, pad) == -1)
		return -1;
	return 0;
}

static int
rec_end(struct conn *c, int id, int status)
{
	uint8_t	 p[8];

	memset(p, 0, sizeof(p));
	p[4] = status;
	return rec_write(c, FCGI_END_REQUEST, id, p, sizeof(p));
}

/*
 * A request.
 */

/* Returns 1, 0 on end-of-file before the first byte, -1. */
static int
req_read(struct conn *c, struct req *r)
{
	struct rec	 h;
	int		 rc;

	memset(r, 0, sizeof(*r));
	r->body = -1;
	r->insum = 2166136261U;
	params.len = 0;
	do {
		rc = rec_read(c, &h);
		if (rc == 0 && r->id == 0)
			return 0;
		if (rc != 1)
			return -1;
		rc = rec_take(c, &h, r);
	} while (rc == 0);
	return rc;
}

static int
req_params(struct req *r)
{
	const uint8_t	*p = (const uint8_t *)params.p;
	size_t		 left = params.len, len[2];
	int		 i;

	while (left > 0) {
		for (i = 0; i < 2; i++) {
			if (left < 1 || ((*p & 0x80) && left < 4))
				return -1;
			if (*p & 0x80) {
				len[i] = (size_t)(p[0] & 0x7f) << 24 |
				    p[1] << 16 | p[2] << 8 | p[3];
				p += 4;
				left -= 4;
			} else {
				len[i] = *p++;
				left--;
			}
		}
		if (len[0] > left || len[1] > left - len[0])
			return -1;
		req_param(r, (const char *)p, len[0],
		    (const char *)p + len[0], len[1]);
		p += len[0] + len[1];
		left -= len[0] + len[1];
	}
	return 0;
}

static void
req_param(struct req *r, const char *name, size_t namelen, const char *value,
    size_t len)
{
	const struct {
		const char	*name;
		char		*field;
		size_t		 size;
	} wanted[] = {
		{ "REQUEST_METHOD", r->method, sizeof(r->method) },
		{ "REQUEST_URI", r->uri, sizeof(r->uri) },
		{ "QUERY_STRING", r->query, sizeof(r->query) },
	};
	size_t	 i;

	for (i = 0; i < nitems(wanted); i++) {
		if (strlen(wanted[i].name) != namelen ||
		    memcmp(wanted[i].name, name, namelen) != 0)
			continue;
		if (len >= wanted[i].size)
			len = wanted[i].size - 1;
		memcpy(wanted[i].field, value, len);
		wanted[i].field[len] = '\0';
	}
}

static int
req_serve(struct conn *c, struct req *r)
{
	struct buf	 text = { NULL, 0, 0 };
	int		 rc;

	req_direct(r);
	if (r->v->how == COOKIE_EARLY)
		ctl_early(r->v);
	req_text(r, &text);
	rc = req_answer(c, r, &text);
	free(text.p);
	return rc;
}

/* Does the directives.  Others' query strings are none of our business. */
static void
req_direct(struct req *r)
{
	char	*arg, *next, *p;
	size_t	 i;

	for (p = r->query; p != NULL; p = next) {
		if ((next = strchr(p, '&')) != NULL)
			*next++ = '\0';
		if ((arg = strchr(p, '=')) != NULL) {
			*arg++ = '\0';
			decode(arg);
		}
		for (i = 0; i < nitems(directives); i++)
			if (strcmp(p, directives[i].name) == 0)
				directives[i].run(r, arg != NULL ? arg : "");
	}
}

/* All of the answer, but for the bytes of the directive body. */
static void
req_text(struct req *r, struct buf *b)
{
	buf_printf(b, "Status: 200 OK\r\nContent-Type: text/plain\r\n");
	if (r->body != -1) {
		buf_printf(b, "X-Pid: %d\r\n\r\n", (int)w.leader);
		return;
	}
	buf_printf(b, "\r\n");
	if (r->report)
		req_report(b);
	else {
		buf_printf(b, "pid %d uid %d served %ld", (int)w.leader,
		    (int)getuid(), w.served);
		if (w.three)
			buf_printf(b, " delegator %d application %d",
			    (int)w.delegator, (int)getpid());
		buf_printf(b, "\n%s ", r->method);
		buf_word(b, r->uri);
		buf_printf(b, "\n");
	}
	if (r->echo)
		buf_printf(b, "stdin %llu %08x\n",
		    (unsigned long long)r->inbytes, (unsigned int)r->insum);
}

static int
req_answer(struct conn *c, struct req *r, const struct buf *text)
{
	size_t	 n, pos;

	/* The first record's header, and half of what there is to say. */
	if (r->half)
		c->left = 8 + (text->len +
		    (r->body == -1 ? 0 : (uint64_t)r->body)) / 2;
	for (pos = 0; pos < text->len; pos += n) {
		n = text->len - pos < CHUNK ? text->len - pos : CHUNK;
		if (rec_write(c, FCGI_STDOUT, r->id, text->p + pos, n) == -1)
			return -1;
	}
	if (r->body != -1 && req_body(c, r) == -1)
		return -1;
	if (rec_write(c, FCGI_STDOUT, r->id, "", 0) == -1)
		return -1;
	return rec_end(c, r->id, FCGI_COMPLETE);
}

/* The alphabet over and over, in lines of 64. */
static int
req_body(struct conn *c, struct req *r)
{
	uint8_t		 data[CHUNK];
	long long	 pos = 0;
	size_t		 i, n;

	while (pos < r->body) {
		n = r->body - pos < CHUNK ? r->body - pos : CHUNK;
		for (i = 0; i < n; i++, pos++)
			data[i] = pos % 64 == 63 ? '\n' : 'a' + pos % 26;
		if (rec_write(c, FCGI_STDOUT, r->id, data, n) == -1)
			return -1;
	}
	return 0;
}

static void
req_report(struct buf *b)
{
	struct rlimit	 rl;
	char		 path[PATH_MAX];
	int		 i;

	report_ids(b);
	buf_printf(b, "proto %s\n", w.ext ? "ext" : "1.0");
	buf_add(b, facts.p, facts.len);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		buf_printf(b, "nofile %lld %lld\n",
		    rl.rlim_cur == RLIM_INFINITY ? -1LL :
		    (long long)rl.rlim_cur, rl.rlim_max == RLIM_INFINITY ?
		    -1LL : (long long)rl.rlim_max);
	buf_printf(b, "cwd ");
	buf_word(b, getcwd(path, sizeof(path)) == NULL ? strerror(errno) :
	    path);
	buf_printf(b, "\n");
	report_root(b);
	for (i = 0; environ[i] != NULL; i++) {
		buf_printf(b, "env ");
		buf_word(b, environ[i]);
		buf_printf(b, "\n");
	}
	for (i = 0; i < w.argc; i++) {
		buf_printf(b, "arg %d ", i);
		buf_word(b, w.argv[i]);
		buf_printf(b, "\n");
	}
}

static void
report_ids(struct buf *b)
{
	uid_t	 ru, eu, su;
	gid_t	 rg, eg, sg, *groups;
	size_t	 start;
	int	 i, n;

	/* With -3 the worker is the leader; the siblings are a detail. */
	buf_printf(b, "pid %d\n", (int)w.leader);
	if (w.three)
		buf_printf(b, "delegator %d\napplication %d\n",
		    (int)w.delegator, (int)getpid());
	buf_printf(b, "ppid %d\npgid %d\nsid %d\n",
	    w.three ? (int)w.parent : (int)getppid(), (int)getpgrp(),
	    (int)getsid(0));
#if defined(__linux__) || defined(__OpenBSD__) || defined(__FreeBSD__)
	if (getresuid(&ru, &eu, &su) == -1 || getresgid(&rg, &eg, &sg) == -1)
		err(1, "getresuid");
#else
	/* No way to ask for the saved one. */
	ru = getuid();
	su = eu = geteuid();
	rg = getgid();
	sg = eg = getegid();
#endif
	buf_printf(b, "uid %lu %lu %lu\ngid %lu %lu %lu\ngroups",
	    (unsigned long)ru, (unsigned long)eu, (unsigned long)su,
	    (unsigned long)rg, (unsigned long)eg, (unsigned long)sg);
	start = b->len;
	/* Not NGROUPS_MAX: musl's is not the kernel's. */
	if ((n = getgroups(0, NULL)) == -1 ||
	    (groups = calloc(n + 1, sizeof(*groups))) == NULL ||
	    (n = getgroups(n, groups)) == -1)
		err(1, "getgroups");
	for (i = 0; i < n; i++)
		buf_printf(b, " %lu", (unsigned long)groups[i]);
	free(groups);
	buf_none(b, start);
}

static void
report_root(struct buf *b)
{
	char		*names[256];
	struct dirent	*de;
	size_t		 i, n = 0, start;
	DIR		*dir;

	if ((dir = opendir("/")) == NULL) {
		buf_printf(b, "root-entries ?: %s\n", strerror(errno));
		return;
	}
	while (n < nitems(names) && (de = readdir(dir)) != NULL)
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0 &&
		    (names[n++] = strdup(de->d_name)) == NULL)
			err(1, NULL);
	closedir(dir);
	qsort(names, n, sizeof(names[0]), name_cmp);
	buf_printf(b, "root-entries");
	start = b->len;
	for (i = 0; i < n; i++) {
		buf_printf(b, " ");
		buf_word(b, names[i]);
		free(names[i]);
	}
	buf_none(b, start);
}

static int
name_cmp(const void *a, const void *b)
{
	return strcmp(*(char * const *)a, *(char * const *)b);
}

/* %20 and +, in place. */
static void
decode(char *s)
{
	char	 hex[3] = "", *end, *to;
	int	 ch;

	for (to = s; *s != '\0'; s++) {
		ch = (unsigned char)*s == '+' ? ' ' : *s;
		if (ch == '%' && s[1] != '\0' && s[2] != '\0') {
			hex[0] = s[1];
			hex[1] = s[2];
			ch = strtol(hex, &end, 16);
			if (*end == '\0')
				s += 2;
			else
				ch = '%';
		}
		*to++ = ch;
	}
	*to = '\0';
}

/*
 * The directives.
 */
static void
d_slow(UNUSED struct req *r, const char *arg)
{
	msleep(atol(arg));
}

static void
d_hang(UNUSED struct req *r, UNUSED const char *arg)
{
	for (;;)
		pause();
}

static void
d_crash(UNUSED struct req *r, UNUSED const char *arg)
{
	struct rlimit	 rl;

	/* It is the signal that we want, not the core. */
	rl.rlim_cur = rl.rlim_max = 0;
	setrlimit(RLIMIT_CORE, &rl);
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void
d_kill(UNUSED struct req *r, const char *arg)
{
	int	 sig;

	if ((sig = signame(arg)) != -1)
		raise(sig);
}

static void
d_exit(UNUSED struct req *r, const char *arg)
{
	exit(atoi(arg));
}

static void
d_stop(UNUSED struct req *r, UNUSED const char *arg)
{
	raise(SIGSTOP);
}

static void
d_body(struct req *r, const char *arg)
{
	r->body = atoll(arg);
}

static void
d_echo(struct req *r, UNUSED const char *arg)
{
	r->echo = 1;
}

static void
d_report(struct req *r, UNUSED const char *arg)
{
	r->report = 1;
}

static void
d_half(struct req *r, UNUSED const char *arg)
{
	r->half = 1;
}

static void
d_cookie(struct req *r, const char *arg)
{
	static const struct {
		const char	*name;
		enum cookie	 how;
	} names[] = {
		{ "late",	COOKIE_LATE },
		{ "split",	COOKIE_SPLIT },
		{ "wrong",	COOKIE_WRONG },
		{ "twice",	COOKIE_TWICE },
		{ "none",	COOKIE_NONE },
		{ "early",	COOKIE_EARLY },
		{ "short",	COOKIE_SHORT },
	};
	size_t	 i, len = strcspn(arg, ":");

	for (i = 0; i < nitems(names); i++) {
		if (strlen(names[i].name) != len ||
		    strncmp(names[i].name, arg, len) != 0)
			continue;
		r->v->how = names[i].how;
		r->v->ms = arg[len] == ':' ? atol(arg + len + 1) : 0;
	}
}

static void
d_unasked(struct req *r, UNUSED const char *arg)
{
	r->v->unasked = 1;
}

static void
d_closectl(struct req *r, UNUSED const char *arg)
{
	r->v->closectl = 1;
}

static void
d_err(UNUSED struct req *r, const char *arg)
{
	char	 line[64];
	long	 i, n = atol(arg);

	for (i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "err %d %ld", (int)w.leader, i);
		say(STDERR_FILENO, line);
	}
}

static void
d_errlong(UNUSED struct req *r, const char *arg)
{
	struct buf	 b = { NULL, 0, 0 };
	long		 i, n = atol(arg);
	char		 ch;

	for (i = 0; i < n; i++) {
		ch = 'a' + i % 26;
		buf_add(&b, &ch, 1);
	}
	buf_add(&b, "\n", 1);
	write_all(STDERR_FILENO, b.p, b.len);
	free(b.p);
}

static void
d_flood(UNUSED struct req *r, const char *arg)
{
	flood(atol(arg));
}

static void
d_out(UNUSED struct req *r, const char *arg)
{
	say(STDOUT_FILENO, arg);
}
