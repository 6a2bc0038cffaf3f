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
 * kfcgi opens a UNIX socket, jails itself, drops its privileges and keeps a
 * pool of FastCGI workers behind that socket.
 *
 * There are two pools and one engine.  In the fixed pool the workers share
 * the listening socket as their descriptor 0 and accept by themselves; the
 * manager (this process) only keeps n of them alive.  In the variable pool
 * (-r) the manager accepts, hands each connection to an idle worker over
 * that worker's control socket, together with a cookie, and has the worker
 * back when the cookie is; it keeps between n and N workers.  The fixed pool
 * is the variable one with n == N and nobody ever busy.
 *
 * The program is judged away from traffic: a worker on trial is started like
 * any other, but no client can reach it.  See the comment over "trial" below.
 *
 * A worker is in exactly one state, and on that state's queue:
 *
 *	TRIAL	 is on trial: gets nothing to do, belongs to no generation
 *	STARTING was forked for the pool, but has not yet executed prog
 *	IDLE	 may be handed a connection; fixed: serves
 *	BUSY	 has a connection, its cookie is outstanding
 *	DRAIN	 as BUSY, but leaves when the cookie is back
 *	LOST	 closed its control socket: it is dying, or just broken
 *	LEAVING	 was told to go (SIGTERM)
 *	KILLED	 was made to go (SIGKILL)
 *
 * The pool is what is STARTING, IDLE, BUSY or LOST of the present generation.
 * A worker is forgotten when it has been reaped, never before.
 *
 * All signals are blocked but inside ppoll(2), where the manager spends its
 * idle time and the only place where it may wait.
 */

#include "compat/compat.h"

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* What the manual promises. */
#define SOCKPATH	"/var/www/run/httpd.sock"
#define JAIL		"/var/www"
#define WORKERS		3
#define WAITTIME	300		/* seconds */

#define WORKERS_MAX	32767		/* keeps 2n far from INT_MAX */
#define CONTROL_FD	3		/* a worker's control socket, with -r */

/* Times, in milliseconds. */
#define SECOND		1000
#define TRIAL_TIME	1000		/* who dies sooner dies young */
#define TRIAL_GRACE	500		/* for one that passed to go */
#define TRIAL_VALID	10000		/* no doubt for so long after one */
#define RETRY_MIN	100		/* from a failed trial to the next, */
#define RETRY_MAX	10000		/* doubling */
#define LOST_GRACE	1000		/* from end-of-file to SIGTERM */
#define LEAVE_GRACE	20000		/* from SIGTERM to SIGKILL */
#define FAIL_GRACE	2000		/* the same after a failed start */
#define SHORT_RETRY	1000		/* without descriptors or memory */
#define GROW_WAIT	10		/* for somebody to come back, */
#define LEFT_TIME	100		/* whose client has left so lately */
#define FULL_TIME	100		/* of saturation before a warning */
#define EPISODE		20000		/* of calm, then warn again */
#define SETTLE		100		/* of calm, then watch the idle */
#define SIGNAL_CHECK	10		/* longest deafness when always busy */
#define PROBE_TIME	1000		/* a server may be too busy to see */
#define PROBE_PAUSE	20		/* from one look to the next */

#define SLICE		8		/* workers started in a turn */
#define STORM		100		/* young deaths in a second */
#define KINDS		8		/* of death, joined in the log */

#define LINE_SIZE	1000		/* bytes of output in a syslog line */
#define LINES_MAX	100		/* lines of output in a second */
#define OUTPUT_CHUNK	16384		/* read from the workers at a time, */
#define OUTPUT_TURNS	8		/* so often before a death is told */
#define OUTPUT_LAST	64		/* and so often at the end */
#define WORDS_SIZE	8192		/* of output, shown if a start fails */

enum state {
	TRIAL,
	STARTING,
	IDLE,
	BUSY,
	DRAIN,
	LOST,
	LEAVING,
	KILLED,
	NSTATES
};

/* What a poll slot stands for; those from SLOT_WORKER on are workers'. */
enum { SLOT_LISTENER, SLOT_OUTPUT, SLOT_WORKER };

struct worker {
	TAILQ_ENTRY(worker) entry;	/* of its state's queue */
	enum state	 state;
	int		 gen;		/* generation, NO_GEN on trial */
	pid_t		 pid;		/* soon also its process group */
	size_t		 slot;		/* in polled, 0 if in none */
	int		 exec;		/* end-of-file: it was executed */
	int		 ctl;		/* control socket, -1 if fixed */
	int		 conn;		/* connection it has, or -1, */
	int64_t		 left;		/* its client was gone then, or 0 */
	uint64_t	 cookie;	/* that goes with it */
	unsigned char	 said[2 * sizeof(uint64_t)]; /* of its cookie, */
	size_t		 saidlen;	/* so many bytes */
	uint64_t	 served;	/* cookies that came back */
	int64_t		 started;
	int64_t		 since;		/* when this state was entered */
	int64_t		 due;		/* LOST, LEAVING: when patience ends */
	int		 failed;	/* was not executed, as is logged */
	int		 cut;		/* its connection was closed on it */
	int		 reaped;	/* its pid is no longer ours */
};

/* How a worker came to its end. */
enum end {
	ASKED,			/* it was told to go, or killed by us */
	RECYCLED,		/* by itself, with status 0 */
	CRASHED
};

/* What a child reports when it cannot execute prog. */
struct report {
	int		 error;		/* errno */
	char		 call[28];
};

TAILQ_HEAD(workers, worker);

#define NO_GEN		-1

/* The command line. */
static struct {
	int		 debug;		/* -d */
	int		 variable;	/* -r */
	int		 verbose;	/* -v */
	int		 backlog;	/* -l */
	size_t		 min;		/* -n */
	size_t		 max;		/* -N; fixed: n */
	int64_t		 waittime;	/* -w */
	const char	*jail;		/* -p */
	const char	*sockpath;	/* -s */
	uid_t		 sockuid;	/* -u */
	gid_t		 sockgid;
	const char	*procuser;	/* -U */
	uid_t		 procuid;
	gid_t		 procgid;
	char		**prog;
} opt = {
	.min = WORKERS,
	.waittime = WAITTIME * SECOND,
	.jail = JAIL,
	.sockpath = SOCKPATH,
	.procuser = "root",
};

/*
 * The start.  The manager cannot undo it, being jailed and no longer root, so
 * another process waits in start_wait() for its outcome: the one that the shell
 * waits for, or with -d a child.
 */
static struct {
	int		 done;		/* it succeeded */
	int		 fd;		/* to the process that waits */
	pid_t		 waiter;	/* that process if it is our child */
	int		 progerr;	/* errno of stat(prog), or 0 */
	int		 progdir;	/* prog is a directory */
	char		 words[WORDS_SIZE]; /* the latest that workers wrote */
	size_t		 nwords;
} start = { .fd = -1, .waiter = -1, .progerr = -1 };

/* The socket's place, for who has to remove it again. */
static struct {
	int		 dir;		/* opened once, the path is not used */
	const char	*name;		/* in there */
	struct stat	 st;		/* the socket that we made */
} sock = { .dir = -1, .name = "" };

/* The end of the manager: set once by stop(). */
static struct {
	int		 begun;
	int64_t		 due;		/* then who is left is killed */
	int		 status;	/* of exit(3) */
} ending;

/*
 * The trial: whether the program works is asked of a worker that no client can
 * reach, never of those that serve.
 *
 * 1. A worker that dies young either cannot start, or died of a request.  Only
 *    the first is a reason to refuse a start, to keep the old workers at a
 *    reload, or to wait before the next is started.  Taken for the first, the
 *    second would let one bad request, or workers that recycle themselves as
 *    they should, take the service down.
 * 2. Nobody can tell the two apart by looking at the death: in a fixed pool
 *    we do not even see the connections.
 *
 * So there is at most one worker on trial.  It is started for a new generation
 * (a start, a SIGHUP) or in doubt (a worker died young), and passes when it
 * has lived for TRIAL_TIME.  While the program is known to be broken nobody
 * but the next one on trial is started.  In the fixed pool a worker on trial
 * has a listener of the same kind that lost its name before it listened, and
 * goes when it has passed, before others need what it has.
 */
static struct {
	struct worker	*w;		/* who is on trial, or NULL */
	int		 passed;	/* w has, and only has to go (fixed) */
	int64_t		 due;		/* end of its time, or of its grace */
	int		 renews;	/* a new generation depends on it */
	int		 hup;		/* SIGHUP: another such is asked for */
	int		 doubt;		/* a worker died young */
	int		 broken;	/* one in doubt has failed */
	int64_t		 delay;		/* broken: from a trial to the next, */
	int64_t		 next;		/* broken or in doubt: not before */
	int64_t		 valid;		/* one passed: no doubt until then */
	int64_t		 stormed;	/* one was begun for a storm then */
	int		 fd;		/* fixed: its listener */
} trial = { .fd = -1 };

/*
 * The pool.  The lengths count the present generation only: those whom a
 * reload lets go take nobody's place, however slow they leave.
 */
static struct {
	struct workers	 q[NSTATES];	/* IDLE: last idle first */
	size_t		 n[NSTATES];	/* length, present generation */
	size_t		 total;		/* of any generation and state */
	int		 gen;		/* 0: before the first */
	int		 renewing;	/* the old serve until the new can, */
	size_t		 awaited;	/* of whom so many are to be executed */
	int64_t		 start_due;	/* fork(2) failed: not before that */
	size_t		 vacant;	/* places of the dead, to be filled */
} pool;

/*
 * No storm: of the replacements of workers that died young with another status
 * than 0, at most STORM are started in a second.
 */
static struct {
	size_t		 owed;		/* such replacements to be made, */
	unsigned	 made;		/* and made in the second */
	int64_t		 due;		/* that ends then */
	unsigned	 died;		/* young, of any status, in that */
	int64_t		 died_due;	/* which ends then */
	int64_t		 first, last;	/* of a row of such deaths */
	int		 warned;	/* that the row goes on and on */
} storm;

/*
 * The listening socket.  What we know of its backlog is used with -r only; each
 * state is worse than the one before.  Connections are accepted when a worker
 * is idle, or when one is started for them: then they wait in conns.
 */
static struct {
	int		 fd;
	enum {
		CALM,			/* nobody waits: it is polled */
		BACKED_UP,		/* connections may be waiting */
		SATURATED,		/* they do, and nobody is idle */
		WARNED			/* so for long, with all N: told */
	}		 state;
	int64_t		 since;		/* SATURATED since then */
	int64_t		 due;		/* short of something: not before */
	int64_t		 grow_due;	/* somebody is to come back first */
	int		*conns;		/* accepted: they wait for a worker */
	size_t		 nconns;	/* never more than workers were */
} listener = { .fd = -1 };

/*
 * What is polled: the listener and the workers' output, then up to nhot the
 * workers that must be heard at once, then the idle ones.  A worker has one
 * slot: at first for the pipe that tells that it was executed, then for its
 * control socket.
 *
 * The idle are left out while others are busy, because ppoll(2) asks each of
 * what it is given: with 500 idle workers a request cost 55 us with them and
 * 25 without.  All is calm when SETTLE has passed without an event; an idle
 * worker has nothing to tell but its end, which SIGCHLD tells as well.
 */
static struct {
	struct pollfd	*fds;
	struct worker	**owner;	/* of each slot */
	struct worker	**ready;	/* with something to tell, in a turn */
	struct pollfd	*conns;		/* of the busy, see pool_returning() */
	size_t		 n, nhot, cap;
	int		 calm;		/* the idle are watched, too */
	int64_t		 calm_due;
} polled = { .calm = 1 };

/*
 * What the workers print, unless -d.  They share one pipe, because one each
 * would double what is polled.
 */
static struct {
	int		 pipe[2];
	char		 line[LINE_SIZE]; /* not yet complete, */
	size_t		 len;		/* so long */
	unsigned long	 lines;		/* logged in a second, */
	unsigned long	 dropped;	/* and not logged */
	int64_t		 due;		/* the end of that second */
} out = { .pipe = { -1, -1 } };

/*
 * Deaths of one kind within a second are a line in the log and a number.  The
 * key of a kind is the wait status, or -errno of what could not be executed.
 */
static struct {
	struct kind {
		int		 key;
		int		 prio;
		unsigned	 more;	/* than the first, in a second */
		int64_t		 due;	/* the end of that second */
	}		 kinds[KINDS];
	int		 more;		/* of any kind */
} joint;

/* For the status line. */
static struct {
	uint64_t	 handed;	/* connections; the last cookie */
	uint64_t	 deaths;
	uint64_t	 restarts;
} count;

/* When each of these was last seen, to log an episode of it once. */
static struct {
	int64_t		 saturation;
	int64_t		 shortage;
	int64_t		 nofork;
} seen;

/*
 * The present; milliseconds of the monotonic clock.  It is read once a turn of
 * the loop, after ppoll(2), where alone time passes.
 */
static int64_t	 now;

static pid_t	 manager;
static int	 nullfd = -1;		/* /dev/null, always CONTROL_FD */
static int	 terminal;		/* -d, and the caller has one */
static struct rlimit caller_nofile;	/* as workers shall have it */

static const int caught[] = {
	SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1,
#ifdef SIGINFO
	SIGINFO,
#endif
};
static volatile sig_atomic_t got[NSIG];	/* who came, until it is acted on */
static sigset_t	 nomask;		/* for workers */
static sigset_t	 waitmask;		/* in ppoll(2): what is caught comes */

static void	 logit(int, const char *, ...)
		    __attribute__((__format__(printf, 2, 3)));
static void	 output_dropped(void);
static void	 death_log(int, int, const char *, ...)
		    __attribute__((__format__(printf, 3, 4)));
static void	 fatal(const char *, ...) __dead
		    __attribute__((__format__(printf, 1, 2)));
static void	 trial_fail(const char *, ...)
		    __attribute__((__format__(printf, 1, 2)));
static void	 usage(const char *, ...) __dead
		    __attribute__((__format__(printf, 1, 2)));
static void	 start_wait(int, int) __dead;
static void	 loop(void) __dead;
static void	 finish(void) __dead;
static void	 worker_child(int, int, int) __dead;

/*
 * ---------- Small things: descriptors, the clock, words for a status
 */

/* Makes a descriptor close-on-exec and adds a status flag.  -1 with errno. */
static int
fd_flags(int fd, int flag)
{
	int	 flags;

	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		return -1;
	if (flag == 0)
		return 0;
	if ((flags = fcntl(fd, F_GETFL)) == -1)
		return -1;
	return fcntl(fd, F_SETFL, flags | flag);
}

/*
 * Closes a descriptor, if open, and forgets it.  An error of close(2) would
 * be news of data that we never wrote.
 */
static void
fd_close(int *fd)
{
	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
}

/* Whether reading or writing would not block, as far as poll(2) can tell. */
static int
fd_ready(int fd, short events)
{
	struct pollfd	 pfd;

	pfd.fd = fd;
	pfd.events = events;
	pfd.revents = 0;
	return poll(&pfd, 1, 0) != 0;
}

/* Milliseconds of a clock that nobody sets. */
static int64_t
clock_ms(void)
{
	struct timespec	 ts;

	/* Cannot fail: the clock exists everywhere, ts is ours. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec / 1000000;
}

/* Brings a time forward to when, if that is sooner. */
static void
sooner(int64_t *due, int64_t when)
{
	if (when < *due)
		*due = when;
}

/* Whether what happens now is news, or goes on since last seen. */
static int
episode(int64_t *last)
{
	int	 news = now - *last >= EPISODE;

	*last = now;
	return news;
}

/* A wait status in words, of n workers. */
static const char *
cause(int ws, unsigned n)
{
	static char	 buf[80];

	if (WIFSIGNALED(ws))
		(void)snprintf(buf, sizeof(buf), "%s killed by signal %d (%s)",
		    n == 1 ? "was" : "were", WTERMSIG(ws),
		    strsignal(WTERMSIG(ws)));
	else
		(void)snprintf(buf, sizeof(buf), "exited with status %d",
		    WEXITSTATUS(ws));
	return buf;
}

/* How long a worker has lived. */
static const char *
lifetime(const struct worker *w)
{
	static char	 buf[32];
	int64_t		 age = now - w->started;

	(void)snprintf(buf, sizeof(buf), "%lld.%03d s",
	    (long long)(age / SECOND), (int)(age % SECOND));
	return buf;
}

/*
 * ---------- The log
 */

/* To syslog; also to standard error with -d, or if it is why we fail. */
static void
vlogit(int prio, const char *fmt, va_list ap)
{
	char	 buf[2048];

	if (prio == LOG_DEBUG && !opt.verbose)
		return;
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	if ((opt.debug && fd_ready(STDERR_FILENO, POLLOUT)) ||
	    (!start.done && ending.status != 0 && prio <= LOG_ERR))
		(void)dprintf(STDERR_FILENO, "kfcgi: %s\n", buf);
	syslog(prio, "%s", buf);
}

/* The same with its arguments as they are. */
static void
logit(int prio, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vlogit(prio, fmt, ap);
	va_end(ap);
}

/* Opens the log and all that it needs while that is still in sight. */
static void
log_open(void)
{
	tzset();
	openlog("kfcgi", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

/*
 * ---------- What workers print
 */

/*
 * Opens the pipe for the workers' output, while we are root: on Linux a worker
 * may open the pipe again as /dev/stderr, but must not be able to read from it
 * what is meant for the log.
 */
static void
output_open(void)
{
	if (opt.debug)
		return;
	if (pipe(out.pipe) == -1)
		fatal("cannot make a pipe for the workers' output: %s",
		    strerror(errno));
	if (fd_flags(out.pipe[0], O_NONBLOCK) == -1 ||
	    fd_flags(out.pipe[1], 0) == -1) {
		/* finish() reads from it, and must not block. */
		fd_close(&out.pipe[0]);
		fatal("cannot set flags of the workers' output: %s",
		    strerror(errno));
	}
	/* The others have no modes for pipes, and no need for them. */
	(void)fchmod(out.pipe[1], 0222);
}

/* Notes the latest of what workers write while they start. */
static void
output_note(const char *buf, size_t len)
{
	size_t	 excess;

	if (len > sizeof(start.words)) {
		buf += len - sizeof(start.words);
		len = sizeof(start.words);
	}
	if (start.nwords + len > sizeof(start.words)) {
		excess = start.nwords + len - sizeof(start.words);
		start.nwords -= excess;
		memmove(start.words, start.words + excess, start.nwords);
	}
	memcpy(start.words + start.nwords, buf, len);
	start.nwords += len;
}

/* Logs a line of output, or counts it if there were too many. */
static void
output_line(void)
{
	char	 text[LINE_SIZE + sizeof("worker: ")], *p;

	if (out.len == 0)
		return;
	while ((p = memchr(out.line, '\0', out.len)) != NULL)
		*p = '?';
	if (now >= out.due) {
		output_dropped();
		out.lines = 0;
		out.due = now + SECOND;
	}
	if (out.lines++ < LINES_MAX) {
		(void)snprintf(text, sizeof(text), "worker: %.*s",
		    (int)out.len, out.line);
		syslog(LOG_NOTICE, "%s", text);
	} else
		out.dropped++;
	out.len = 0;
}

/* Logs how many lines of output were not logged. */
static void
output_dropped(void)
{
	if (out.dropped > 0)
		logit(LOG_WARNING, "%lu lines of the workers' output dropped: "
		    "more than %d in a second", out.dropped, LINES_MAX);
	out.dropped = 0;
}

/*
 * Logs the workers' output by lines; a longer line in pieces.  Returns whether
 * there may be more.
 */
static int
output_read(void)
{
	static char	 buf[OUTPUT_CHUNK];
	char		*p, *nl;
	size_t		 len;
	ssize_t		 n;

	if (out.pipe[0] == -1 || (n = read(out.pipe[0], buf, sizeof(buf))) <= 0)
		return 0;
	if (!start.done)
		output_note(buf, n);
	for (p = buf; n > 0; p += len, n -= len) {
		nl = memchr(p, '\n', n);
		len = nl == NULL ? (size_t)n : (size_t)(nl - p);
		if (len > LINE_SIZE - out.len) {
			len = LINE_SIZE - out.len;
			nl = NULL;
		}
		memcpy(out.line + out.len, p, len);
		out.len += len;
		if (nl != NULL || out.len == LINE_SIZE)
			output_line();
		if (nl != NULL)
			len++;
	}
	return 1;
}

/* Reads what is in the pipe, bounded, since somebody may still be writing. */
static void
output_drain(int turns)
{
	while (turns-- > 0 && output_read())
		continue;
}

/* Shows the shell what the workers of a failed start have written. */
static void
output_show(void)
{
	output_drain(OUTPUT_TURNS);
	output_line();
	if (start.nwords > 0 &&
	    write(STDERR_FILENO, start.words, start.nwords) ==
	    (ssize_t)start.nwords &&
	    start.words[start.nwords - 1] != '\n')
		(void)dprintf(STDERR_FILENO, "\n");
}

/*
 * ---------- What is polled
 */

/* Makes room for one worker more and for its connection.  -1 with errno. */
static int
poll_reserve(void)
{
	size_t	 cap = polled.cap == 0 ? 16 : polled.cap * 2;
	void	*p;

	if (polled.n + 1 < polled.cap)
		return 0;
	if ((p = realloc(polled.fds, cap * sizeof(*polled.fds))) == NULL)
		return -1;
	polled.fds = p;
	if ((p = realloc(polled.owner, cap * sizeof(*polled.owner))) == NULL)
		return -1;
	polled.owner = p;
	if ((p = realloc(polled.ready, cap * sizeof(*polled.ready))) == NULL)
		return -1;
	polled.ready = p;
	if ((p = realloc(polled.conns, cap * sizeof(*polled.conns))) == NULL)
		return -1;
	polled.conns = p;
	if ((p = realloc(listener.conns,
	    cap * sizeof(*listener.conns))) == NULL)
		return -1;
	listener.conns = p;
	if (polled.cap == 0) {
		memset(polled.fds, 0, SLOT_WORKER * sizeof(*polled.fds));
		polled.fds[SLOT_LISTENER].fd = -1;
		polled.fds[SLOT_LISTENER].events = POLLIN;
		polled.fds[SLOT_OUTPUT].fd = out.pipe[0];
		polled.fds[SLOT_OUTPUT].events = POLLIN;
		polled.n = polled.nhot = SLOT_WORKER;
	}
	polled.cap = cap;
	return 0;
}

/* Exchanges two workers' slots. */
static void
poll_swap(size_t a, size_t b)
{
	struct pollfd	 pfd = polled.fds[a];
	struct worker	*w = polled.owner[a];

	polled.fds[a] = polled.fds[b];
	polled.owner[a] = polled.owner[b];
	polled.owner[a]->slot = a;
	polled.fds[b] = pfd;
	polled.owner[b] = w;
	w->slot = b;
}

/* Has a worker watched always, or only when all is calm. */
static void
poll_hot(struct worker *w)
{
	if (w->slot >= polled.nhot)
		poll_swap(w->slot, polled.nhot++);
}

static void
poll_cold(struct worker *w)
{
	if (w->slot < polled.nhot)
		poll_swap(w->slot, --polled.nhot);
}

/* Polls a worker's descriptor, as one that must be heard at once. */
static void
poll_add(struct worker *w, int fd)
{
	w->slot = polled.n++;
	polled.owner[w->slot] = w;
	polled.fds[w->slot].fd = fd;
	polled.fds[w->slot].events = POLLIN;
	polled.fds[w->slot].revents = 0;
	poll_hot(w);
}

/* Polls a worker no more. */
static void
poll_remove(struct worker *w)
{
	if (w->slot == 0)
		return;
	poll_cold(w);
	poll_swap(w->slot, --polled.n);
	w->slot = 0;
}

/*
 * ---------- The backlog and the connections that wait
 */

/*
 * Gives a listener of the fixed pool back what a worker may have changed on it
 * for all that share it: status flags, timeouts, the length of the backlog.
 * What shutdown(2) did to it cannot be mended.
 */
static void
listener_restore(int fd)
{
	struct timeval	 never = { 0, 0 };

	if (fcntl(fd, F_SETFL, 0) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &never,
	    sizeof(never)) == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never,
	    sizeof(never)) == -1 ||
	    listen(fd, opt.backlog) == -1)
		logit(LOG_ERR, "cannot put the listening socket right: %s",
		    strerror(errno));
}

/* Nobody waits any more, which ends an episode of saturation. */
static void
backlog_calm(void)
{
	if (listener.state == WARNED)
		seen.saturation = now;
	listener.state = CALM;
}

/*
 * Accepts a connection.  Returns -1 if there is none, and all is calm, or if
 * none can be accepted: then not again until a worker has been released, or
 * for SHORT_RETRY.
 */
static int
conn_accept(void)
{
	int	 conn;

	do {
		conn = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
	} while (conn == -1 && (errno == EINTR || errno == ECONNABORTED));
	if (conn != -1)
		return conn;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		backlog_calm();
	else {
		listener.due = now + SHORT_RETRY;
		if (episode(&seen.shortage))
			logit(LOG_ERR, "cannot accept connections for now: %s",
			    strerror(errno));
	}
	return -1;
}

/* Accepts a connection that shall wait here.  Returns 0 if there is none. */
static int
conn_wait(void)
{
	int	 conn;

	if ((conn = conn_accept()) == -1)
		return 0;
	listener.conns[listener.nconns++] = conn;
	return 1;
}

/* Takes the connection that has waited here for longest. */
static int
conn_next(void)
{
	int	 conn = listener.conns[0];

	listener.nconns--;
	memmove(listener.conns, listener.conns + 1,
	    listener.nconns * sizeof(*listener.conns));
	return conn;
}

/*
 * Keeps a connection for the next worker, before all that wait.  There is
 * always room: each was accepted for a worker that there was, and there is room
 * for as many as workers ever were at a time.
 */
static void
conn_keep(int conn)
{
	memmove(listener.conns + 1, listener.conns,
	    listener.nconns * sizeof(*listener.conns));
	listener.conns[0] = conn;
	listener.nconns++;
}

/*
 * ---------- A worker: its state, its start, its end
 */

/* Puts a worker on a state's queue; only the present generation is counted. */
static void
queue_insert(struct worker *w, enum state st)
{
	w->state = st;
	w->since = now;
	if (w->gen == pool.gen)
		pool.n[st]++;
	if (st == IDLE)
		TAILQ_INSERT_HEAD(&pool.q[st], w, entry);
	else
		TAILQ_INSERT_TAIL(&pool.q[st], w, entry);
}

/* Takes a worker from its state's queue. */
static void
queue_remove(struct worker *w)
{
	TAILQ_REMOVE(&pool.q[w->state], w, entry);
	if (w->gen == pool.gen)
		pool.n[w->state]--;
}

/* Moves a worker to another state. */
static void
worker_state(struct worker *w, enum state st)
{
	queue_remove(w);
	queue_insert(w, st);
	if (w->ctl == -1)
		return;
	if (st == BUSY || st == DRAIN)
		poll_hot(w);
	else
		poll_cold(w);
}

/* The worker with that process number, or NULL: some other child. */
static struct worker *
worker_find(pid_t pid)
{
	struct worker	*w;
	int		 i;

	for (i = 0; i < NSTATES; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			if (w->pid == pid && !w->reaped)
				return w;
	return NULL;
}

/*
 * In the child: arranges what a worker inherits and executes prog, or reports
 * on ex why not.  in is to be its descriptor 0, ctl its end of the control
 * socket.
 */
static void
worker_child(int in, int ctl, int ex)
{
	struct report	 rep;
	struct sigaction sa;
	const char	*call;
	size_t		 i;

#define TRY(name, failed)						\
	do {								\
		call = (name);						\
		if (failed)						\
			goto fail;					\
	} while (0)
	/*
	 * A group of its own, and if there is a terminal, nothing to do
	 * with that.  Not always a session: Linux would schedule each worker
	 * as if it were a user, which made the manager 15 % more expensive.
	 */
	TRY("process group", (terminal ? setsid() : setpgid(0, 0)) == -1);
#ifdef __linux__
	TRY("prctl", prctl(PR_SET_PDEATHSIG, SIGKILL) == -1);
	if (getppid() != manager)
		_exit(1);
#endif
	TRY("dup2", dup2(in, STDIN_FILENO) == -1);
	if (!opt.debug)
		TRY("dup2", dup2(out.pipe[1], STDOUT_FILENO) == -1 ||
		    dup2(out.pipe[1], STDERR_FILENO) == -1);
	if (opt.variable)
		TRY("dup2", dup2(ctl, CONTROL_FD) == -1);
	TRY("setrlimit", setrlimit(RLIMIT_NOFILE, &caller_nofile) == -1);
	/* Before unblocking, lest a SIGTERM meant for us is swallowed. */
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_DFL;
	TRY("sigaction", sigaction(SIGPIPE, &sa, NULL) == -1);
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		/*
		 * rc.d signals by command line, and ours is the manager's
		 * still: what was meant for that is dropped, but SIGTERM.
		 */
		sa.sa_handler = caught[i] == SIGTERM ? SIG_DFL : SIG_IGN;
		TRY("sigaction", sigaction(caught[i], &sa, NULL) == -1);
		sa.sa_handler = SIG_DFL;
		TRY("sigaction", sigaction(caught[i], &sa, NULL) == -1);
	}
	TRY("sigprocmask", sigprocmask(SIG_SETMASK, &nomask, NULL) == -1);
	TRY("", execv(opt.prog[0], opt.prog) == -1);
#undef TRY
fail:
	memset(&rep, 0, sizeof(rep));
	rep.error = errno;
	(void)strlcpy(rep.call, call, sizeof(rep.call));
	if (write(ex, &rep, sizeof(rep)) == -1)
		_exit(126);		/* the manager is gone */
	_exit(127);
}

/*
 * Starts a worker in that state, TRIAL or STARTING.  Returns NULL with errno
 * if descriptors, memory or processes are short.
 */
static struct worker *
worker_start(enum state st)
{
	struct worker	*w;
	int		 ctl[2] = { -1, -1 }, ex[2] = { -1, -1 }, saved;

	if (poll_reserve() == -1 || (w = calloc(1, sizeof(*w))) == NULL)
		return NULL;
	if ((opt.variable &&
	    (socketpair(AF_UNIX, SOCK_STREAM, 0, ctl) == -1 ||
	    fd_flags(ctl[0], O_NONBLOCK) == -1 ||
	    fd_flags(ctl[1], 0) == -1)) || pipe(ex) == -1 ||
	    fd_flags(ex[0], O_NONBLOCK) == -1 ||
	    fd_flags(ex[1], 0) == -1 || (w->pid = fork()) == -1) {
		saved = errno;
		fd_close(&ctl[0]);
		fd_close(&ctl[1]);
		fd_close(&ex[0]);
		fd_close(&ex[1]);
		free(w);
		errno = saved;
		return NULL;
	}
	if (w->pid == 0)
		worker_child(opt.variable ? nullfd : st == TRIAL ? trial.fd :
		    listener.fd, ctl[1], ex[1]);
	fd_close(&ctl[1]);
	fd_close(&ex[1]);
	w->started = now;
	w->gen = st == TRIAL ? NO_GEN : pool.gen;
	w->conn = -1;
	w->exec = ex[0];
	w->ctl = ctl[0];
	poll_add(w, w->exec);
	queue_insert(w, st);
	pool.total++;
	logit(LOG_DEBUG, "worker %ld started%s", (long)w->pid,
	    st == TRIAL ? " on trial" : "");
	return w;
}

/*
 * Closes what we hold of a worker.  The client of its connection, if it has one
 * still, learns it at once, also if some other process has a copy of that.
 */
static void
worker_cut(struct worker *w)
{
	if (w->conn != -1) {
		w->cut = 1;
		(void)shutdown(w->conn, SHUT_RDWR);
		fd_close(&w->conn);
	}
	poll_remove(w);
	fd_close(&w->exec);
	fd_close(&w->ctl);
}

/* SIGTERM is for the worker to handle; SIGKILL is for all its processes. */
static void
worker_kill(struct worker *w, int sig)
{
	if (sig == SIGKILL) {
		worker_cut(w);
		worker_state(w, KILLED);
	}
	if (!w->reaped)
		(void)kill(w->pid, sig);
	/* Fails as long as the child has not made its group: it is alone. */
	if (sig == SIGKILL)
		(void)kill(-w->pid, sig);
}

/* Tells a worker to go; its connection, if it still has one, is closed. */
static void
worker_stop(struct worker *w)
{
	worker_cut(w);
	w->due = now + LEAVE_GRACE;
	worker_state(w, LEAVING);
	worker_kill(w, SIGTERM);
}

/*
 * ---------- Deaths: their count, their log, the doubt
 */

/*
 * A worker died young.  That puts the program in doubt, unless a trial has
 * passed lately; even then if it is a storm, though for a storm alone not
 * again so soon.  If it goes on for long and trials pass, the administrator is
 * told once; but to end with status 0 is recycling, which is nothing to tell.
 */
static void
death_young(enum end end)
{
	if (now >= storm.died_due) {
		storm.died_due = now + SECOND;
		storm.died = 0;
	}
	storm.died++;
	if (trial.w != NULL || now >= trial.valid)
		trial.doubt = 1;
	else if (storm.died >= STORM && now - trial.stormed >= TRIAL_VALID) {
		trial.stormed = now;
		trial.doubt = 1;
	}
	if (end == RECYCLED)
		return;
	if (now - storm.last >= TRIAL_VALID) {
		storm.first = now;
		storm.warned = 0;
	}
	storm.last = now;
	if (!storm.warned && !trial.broken && !trial.doubt &&
	    now - storm.first >= TRIAL_VALID) {
		storm.warned = 1;
		logit(LOG_WARNING, "workers have been dying within a second of "
		    "their start for %d s, though trials pass: a request may "
		    "be what kills them", TRIAL_VALID / SECOND);
	}
}

/* Counts how a worker of the pool came to its end: the only place for that. */
static void
death_count(const struct worker *w, enum end end)
{
	if (end == ASKED)
		return;
	count.deaths++;
	if (w->gen == pool.gen)
		pool.vacant++;
	if (now - w->started >= TRIAL_TIME || ending.begun)
		return;
	if (end == CRASHED && w->gen == pool.gen)
		storm.owed++;
	death_young(end);
}

/* Logs how many deaths of a kind have not been logged. */
static void
death_more(struct kind *k)
{
	size_t	 i;

	if (k->more > 0)
		logit(k->prio, "%u more worker%s %s", k->more,
		    k->more == 1 ? "" : "s", k->key < 0 ?
		    "could not be executed" : cause(k->key, k->more));
	k->more = 0;
	k->due = 0;
	joint.more = 0;
	for (i = 0; i < KINDS; i++)
		joint.more |= joint.kinds[i].more > 0;
}

/*
 * Logs a death of the kind that key stands for: the first in a second whole,
 * the others as a number at its end, but with -v.
 */
static void
death_log(int key, int prio, const char *fmt, ...)
{
	struct kind	*k = NULL;
	va_list		 ap;
	size_t		 i;

	for (i = 0; i < KINDS && prio != LOG_DEBUG; i++) {
		if (now < joint.kinds[i].due && joint.kinds[i].key == key &&
		    joint.kinds[i].prio == prio) {
			joint.kinds[i].more++;
			joint.more = 1;
			prio = LOG_DEBUG;
		} else if (k == NULL || joint.kinds[i].due < k->due)
			k = &joint.kinds[i];
	}
	if (prio != LOG_DEBUG) {
		death_more(k);
		k->key = key;
		k->prio = prio;
		k->due = now + SECOND;
	}
	va_start(ap, fmt);
	vlogit(prio, fmt, ap);
	va_end(ap);
}

/* How grave it is that a worker ended like that. */
static int
death_level(const struct worker *w, enum end end, int ws)
{
	if (w->failed)
		return LOG_DEBUG;	/* that was logged */
	switch (end) {
	case ASKED:
		return WIFEXITED(ws) || WTERMSIG(ws) == SIGTERM ||
		    WTERMSIG(ws) == SIGKILL ? LOG_DEBUG : LOG_ERR;
	case RECYCLED:
		return LOG_INFO;
	case CRASHED:
		break;
	}
	return LOG_ERR;
}

/*
 * Ends what a dead worker has left in its process group: it may have the
 * client's connection, or the listener.  But who recycles itself may leave
 * somebody to finish a job.
 */
static void
worker_leftovers(const struct worker *w, enum end end)
{
	if (w->gen == NO_GEN || w->cut || ending.begun || end == CRASHED)
		(void)kill(-w->pid, SIGKILL);
	else if (end == ASKED)
		(void)kill(-w->pid, SIGTERM);
}

/*
 * ---------- The pool: its size
 */

/* How many workers the present generation has that serve or soon will. */
static size_t
pool_count(void)
{
	return pool.n[STARTING] + pool.n[IDLE] + pool.n[BUSY] + pool.n[LOST];
}

/*
 * How many there may be, -r only: N, but for those that were released and are
 * slow to go, lest they pile up.
 */
static size_t
pool_places(void)
{
	size_t	 leaving = pool.n[LEAVING] + pool.n[KILLED];

	return opt.max > leaving ? opt.max - leaving : 0;
}

/* How many workers serve, or soon will, whatever their generation. */
static size_t
pool_serving(void)
{
	struct worker	*w;
	size_t		 n = 0;
	int		 i;

	for (i = STARTING; i <= BUSY; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			n++;
	return n;
}

/* A worker has joined the pool, in the place of a dead one if there is any. */
static void
pool_restarted(void)
{
	if (pool.vacant > 0) {
		pool.vacant--;
		count.restarts++;
	}
}

/*
 * When the next worker may be started in a pool of so many places: a time that
 * may have passed, or INT64_MAX if there is no place, or no use.  Places that
 * the storm keeps vacant for now count as taken.
 */
static int64_t
pool_when(size_t places)
{
	if (ending.begun || pool.gen == 0 || trial.broken ||
	    pool_count() >= places)
		return INT64_MAX;
	if (storm.made >= STORM && now < storm.due &&
	    pool_count() + storm.owed >= places)
		return storm.due > pool.start_due ? storm.due : pool.start_due;
	return pool.start_due;
}

/*
 * Lets old workers go until so many are left who serve: at once who has yet to
 * be executed or is idle, after the request who is busy.  The lost are on their
 * way out, which pool_reap() shall explain.  Returns how many are busy still.
 */
static size_t
pool_release(size_t keep)
{
	struct worker	*w, *next;
	size_t		 busy = 0, old;
	int		 i;

	old = pool_serving() - pool.n[STARTING] - pool.n[IDLE] - pool.n[BUSY];
	for (i = STARTING; i <= BUSY; i++)
		TAILQ_FOREACH_SAFE(w, &pool.q[i], entry, next) {
			if (w->gen == pool.gen || old <= keep)
				continue;
			old--;
			if (w->state == BUSY) {
				worker_state(w, DRAIN);
				busy++;
			} else
				worker_stop(w);
		}
	return busy;
}

/*
 * ---------- The end
 */

/* Ends the patience with whoever is still there. */
static void
kill_all(void)
{
	struct worker	*w;
	size_t		 n = 0;

	ending.due = INT64_MAX;
	while ((w = TAILQ_FIRST(&pool.q[DRAIN])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[LOST])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL) {
		worker_kill(w, SIGKILL);
		n++;
	}
	if (n > 0)
		logit(LOG_WARNING, "%zu worker%s had to be killed", n,
		    n == 1 ? "" : "s");
}

/*
 * Begins to stop, with that exit status: at once who is idle, with -r who is
 * busy after that, and who is still there after grace milliseconds is killed.
 * Asked again, kills at once.
 */
static void
stop(int st, int64_t grace)
{
	struct worker	*w;
	size_t		 i;

	if (ending.begun) {
		kill_all();
		return;
	}
	ending.begun = 1;
	ending.status = st;
	ending.due = now + grace;
	trial.w = NULL;
	while ((w = TAILQ_FIRST(&pool.q[IDLE])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[LOST])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[STARTING])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[TRIAL])) != NULL)
		worker_stop(w);
	while ((w = TAILQ_FIRST(&pool.q[BUSY])) != NULL)
		worker_state(w, DRAIN);
	for (i = 0; i < listener.nconns; i++)
		close(listener.conns[i]);
	listener.nconns = 0;
	/* The workers of a fixed pool have the listener, too. */
	if (!opt.variable)
		(void)shutdown(listener.fd, SHUT_RDWR);
	fd_close(&listener.fd);
	fd_close(&trial.fd);
}

/* The end: no worker is left.  After a failed start no socket is, either. */
static void
finish(void)
{
	int	 i;

	output_drain(OUTPUT_LAST);
	/* Nobody is held up any more, and it should be known how it ended. */
	log_patience(SECOND);
	output_line();
	output_dropped();
	for (i = 0; i < KINDS; i++)
		death_more(&joint.kinds[i]);
	if (start.done)
		logit(LOG_INFO, "stopped");
	fd_close(&start.fd);
	if (start.waiter != -1)
		while (waitpid(start.waiter, NULL, 0) == -1 && errno == EINTR)
			continue;
	exit(ending.status);
}

/* For the set-up, before there is any worker. */
static void
fatal(const char *fmt, ...)
{
	va_list	 ap;

	ending.status = 1;
	va_start(ap, fmt);
	vlogit(LOG_ERR, fmt, ap);
	va_end(ap);
	finish();
}

/*
 * The start has failed, and why: the shell is told, after what the workers
 * have printed.  The listener is closed at once for those who wait.
 */
static void
start_fail(const char *why)
{
	output_show();
	ending.status = 1;
	logit(LOG_ERR, "%s", why);
	stop(1, FAIL_GRACE);
}

/* A worker cannot be started, with that errno: the pool serves all the same. */
static void
start_short(int error)
{
	char	 why[128];

	(void)snprintf(why, sizeof(why), "cannot start a worker: %s",
	    strerror(error));
	if (!start.done)
		start_fail(why);
	else if (episode(&seen.nofork))
		logit(LOG_ERR, "%s, serving with %zu", why, pool_serving());
}

/*
 * ---------- The trial
 */

/*
 * Begins a new generation of workers, of whom there is none yet.  Those of the
 * one before serve until all the new have been executed.  Workers of a fixed
 * pool that are still there from the reload before that are killed now.
 */
static void
pool_renew(void)
{
	struct worker	*w;

	while (!opt.variable && (w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL)
		worker_kill(w, SIGKILL);
	if (!opt.variable)
		listener_restore(listener.fd);
	pool.gen++;
	memset(pool.n, 0, sizeof(pool.n));
	pool.vacant = storm.owed = 0;
	pool.renewing = 1;
	pool.awaited = opt.min;
}

/* When the next trial is to begin: a time, or INT64_MAX if none is wanted. */
static int64_t
trial_when(void)
{
	if (trial.w != NULL || !start.done || ending.begun)
		return INT64_MAX;
	if (trial.hup)
		return now;
	if (trial.broken)
		return trial.next;
	return trial.doubt ? trial.next : INT64_MAX;
}

/*
 * The program works.  With -r the worker that has shown it becomes part of the
 * pool, unless nobody needs it; in the fixed pool it has gone.
 */
static void
trial_pass(void)
{
	struct worker	*w = trial.w;

	logit(LOG_DEBUG, "worker %ld passed its trial", (long)w->pid);
	trial.w = NULL;
	trial.valid = now + TRIAL_VALID;
	if (trial.broken) {
		trial.broken = 0;
		storm.owed = storm.made = 0;
		logit(LOG_INFO, "workers are started again: a trial passed");
	}
	trial.doubt = 0;
	if (trial.renews)
		pool_renew();
	if (!opt.variable)
		return;
	if (pool_count() >= opt.min && (listener.state < SATURATED ||
	    pool_count() >= pool_places())) {
		worker_stop(w);
		return;
	}
	queue_remove(w);
	w->gen = pool.gen;
	queue_insert(w, IDLE);
	poll_cold(w);
	if (pool.awaited > 0)
		pool.awaited--;
	pool_restarted();
}

/*
 * The trial failed, and why.  A start ends; on SIGHUP the old workers stay; if
 * the program was in doubt, no worker is started until a trial passes.
 */
static void
trial_fail(const char *fmt, ...)
{
	struct worker	*w = trial.w;
	va_list		 ap;
	char		 why[1024], next[64] = "";

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	trial.w = NULL;
	if (w != NULL)
		worker_kill(w, SIGKILL);
	if (!start.done) {
		start_fail(why);
		return;
	}
	if (trial.broken || (trial.doubt && w != NULL)) {
		if (!trial.broken)
			trial.delay = RETRY_MIN;
		else if ((trial.delay *= 2) > RETRY_MAX)
			trial.delay = RETRY_MAX;
		trial.broken = 1;
		trial.doubt = 0;
		trial.next = now + trial.delay;
		(void)snprintf(next, sizeof(next), "; next trial in %lld ms",
		    (long long)trial.delay);
	}
	if (trial.renews || trial.broken)
		logit(LOG_ERR, "%s: %s%s", trial.renews ?
		    "reload failed, the old workers stay" :
		    "no new workers for now", why, next);
}

/*
 * Puts a worker on trial: for a new generation if a SIGHUP (or the start)
 * asks for one, else because the program is in doubt or known to be broken.
 * In the fixed pool its descriptor 0 is trial.fd, which no client can reach.
 */
static void
trial_begin(void)
{
	trial.renews = trial.hup;
	trial.hup = trial.passed = 0;
	trial.due = INT64_MAX;
	if (!opt.variable)
		listener_restore(trial.fd);
	if ((trial.w = worker_start(TRIAL)) != NULL)
		return;
	if (trial.renews || trial.broken)
		trial_fail("cannot start a worker: %s", strerror(errno));
	else {
		/* That says nothing of the program: the doubt stays. */
		trial.next = now + SHORT_RETRY;
		start_short(errno);
	}
}

/* The worker on trial was reaped with status ws: it had passed, or it fails. */
static void
trial_dead(const struct worker *w, int ws)
{
	const char	*hint = "";

	if (trial.passed) {
		trial_pass();
		return;
	}
	if (WIFEXITED(ws) && WEXITSTATUS(ws) == 0)
		hint = opt.variable ? ": does it speak what -r asks for?" :
		    ": does it put itself into the background?";
	else if (WIFSIGNALED(ws) && WTERMSIG(ws) == SIGABRT)
		hint = ": OpenBSD ends a program so whose dynamic loader is "
		    "missing in the jail";
	trial_fail("worker %ld of %s %s, %s after its start%s", (long)w->pid,
	    opt.prog[0], cause(ws, 1), lifetime(w), hint);
}

/*
 * ---------- What a worker says
 */

/* Says what could not be executed, where and why. */
static const char *
worker_excuse(const struct report *rep)
{
	static char	 buf[1024];
	const char	*hint = "", *who = "";

	if (rep->call[0] != '\0') {
		(void)snprintf(buf, sizeof(buf), "cannot set up a worker: "
		    "%s: %s", rep->call, strerror(rep->error));
		return buf;
	}
	/* prog_look() was at start; a reload's prog may be another. */
	if (rep->error == ENOENT && start.done)
		hint = ", or its interpreter or dynamic loader is missing "
		    "in the jail";
	else if (rep->error == ENOENT && start.progerr == 0)
		hint = ": the file is there, but its interpreter or dynamic "
		    "loader is missing in the jail";
	else if (rep->error == ENOENT)
		hint = ": the path is looked for inside the jail";
	else if (rep->error == EACCES && start.progdir && !start.done)
		hint = ": it is a directory";
	else if (rep->error == EACCES) {
		hint = " for user ";
		who = opt.procuser;
	} else if (rep->error == ENOEXEC)
		hint = ": neither a program for this system nor a script "
		    "with #! and an interpreter";
	(void)snprintf(buf, sizeof(buf), "cannot execute %s in %s: %s%s%s",
	    opt.prog[0], opt.jail, strerror(rep->error), hint, who);
	return buf;
}

/* Stops a worker that broke the protocol. */
static void
worker_fault(struct worker *w, const char *what)
{
	if (w == trial.w) {
		trial_fail("worker %ld of %s %s", (long)w->pid, opt.prog[0],
		    what);
		return;
	}
	logit(LOG_ERR, "worker %ld %s: stopped", (long)w->pid, what);
	death_count(w, CRASHED);
	worker_stop(w);
}

/*
 * The child executed prog, or reports why it could not; known once only.  From
 * here on it is the control socket that is polled.
 */
static void
worker_executed(struct worker *w)
{
	struct report	 rep;
	ssize_t		 n;

	if (w->exec == -1)
		return;
	n = read(w->exec, &rep, sizeof(rep));
	fd_close(&w->exec);
	if (w->ctl == -1 || n == sizeof(rep))
		poll_remove(w);
	else
		polled.fds[w->slot].fd = w->ctl;
	if (n != sizeof(rep)) {
		if (w == trial.w)
			trial.due = now + TRIAL_TIME;
		if (w->state != STARTING)
			return;
		worker_state(w, IDLE);
		if (w->gen == pool.gen && pool.awaited > 0)
			pool.awaited--;
		return;
	}
	w->failed = 1;
	if (w == trial.w)
		trial_fail("%s", worker_excuse(&rep));
	else if (!start.done && !ending.begun)
		start_fail(worker_excuse(&rep));
	else if (w->state == STARTING) {
		death_log(-rep.error, LOG_ERR, "%s", worker_excuse(&rep));
		/* No request can be the cause of that. */
		trial.doubt = 1;
	}
}

/* The cookie is back: so is the worker, and the connection is done with. */
static void
worker_ack(struct worker *w)
{
	fd_close(&w->conn);
	w->saidlen = 0;
	w->served++;
	listener.due = 0;
	if (opt.verbose)
		logit(LOG_DEBUG, "worker %ld is done with connection %llu",
		    (long)w->pid, (unsigned long long)w->cookie);
	if (w->state == DRAIN)
		worker_stop(w);
	else
		worker_state(w, IDLE);
}

/*
 * The control socket is at its end.  A connection that the worker has not read
 * goes to another; one that it may have read is closed, never replayed: a
 * replay could run a request twice.  Most likely the worker is dying, so
 * SIGCHLD may explain it.
 */
static void
worker_lost(struct worker *w, int unread)
{
	if (w->conn != -1 && unread && !ending.begun) {
		conn_keep(w->conn);
		w->conn = -1;
	}
	worker_cut(w);
	if (w->state == IDLE || w->state == BUSY || w->state == DRAIN) {
		w->due = now + LOST_GRACE;
		worker_state(w, LOST);
	}
}

/*
 * Reads what a worker has to say: the cookie of its connection, whole or in
 * pieces, and nothing else.  Returns whether there may be more.
 */
static int
worker_read(struct worker *w)
{
	ssize_t	 n;

	n = read(w->ctl, w->said + w->saidlen, sizeof(w->said) - w->saidlen);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		/*
		 * On Linux ECONNRESET says that our message was never read.
		 * The BSDs do not tell, hence there it may have been.
		 */
		worker_lost(w, n == -1 && errno == ECONNRESET &&
		    w->saidlen == 0);
		return 0;
	}
	w->saidlen += n;
	if (w->state != BUSY && w->state != DRAIN)
		worker_fault(w, "wrote to its control socket unasked");
	else if (w->saidlen > sizeof(w->cookie))
		worker_fault(w, "wrote more than its cookie");
	else if (w->saidlen == sizeof(w->cookie)) {
		if (memcmp(w->said, &w->cookie, sizeof(w->cookie)) == 0)
			worker_ack(w);
		else
			worker_fault(w, "wrote a wrong cookie");
	}
	return 1;
}

/*
 * Hands a connection to an idle worker.  1 if it has it; 0 if this worker
 * is no good any more, -1 if the kernel is short of something: then the
 * connection is still the caller's.
 */
static int
worker_assign(struct worker *w, int conn)
{
	struct msghdr	 msg;
	struct cmsghdr	*cmsg;
	struct iovec	 iov;
	union {
		struct cmsghdr	 hdr;
		unsigned char	 buf[64];	/* NetBSD: no constant size */
	} control;
	uint64_t	 cookie = count.handed + 1;
	ssize_t		 n;

	memset(&msg, 0, sizeof(msg));
	memset(&control, 0, sizeof(control));
	iov.iov_base = &cookie;
	iov.iov_len = sizeof(cookie);
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control.buf;
	msg.msg_controllen = CMSG_SPACE(sizeof(int));
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(cmsg), &conn, sizeof(conn));

	n = sendmsg(w->ctl, &msg, 0);
	if (n == sizeof(cookie)) {
		count.handed++;
		w->cookie = cookie;
		w->saidlen = 0;
		w->conn = conn;
		w->left = 0;
		worker_state(w, BUSY);
		if (opt.verbose)
			logit(LOG_DEBUG, "worker %ld has connection %llu",
			    (long)w->pid, (unsigned long long)cookie);
		return 1;
	}
	if (n == -1 && (errno == EPIPE || errno == ECONNRESET ||
	    errno == ENOTCONN)) {
		worker_lost(w, 0);
		return 0;
	}
	if (n != -1 || errno == EAGAIN || errno == EWOULDBLOCK) {
		worker_fault(w, "does not read its control socket");
		return 0;
	}
	listener.due = now + SHORT_RETRY;
	if (episode(&seen.shortage))
		logit(LOG_ERR, "cannot hand out connections for now: %s",
		    strerror(errno));
	return -1;
}

/*
 * A worker was reaped with status ws.  What it said last is heard first, since
 * that decides whether its connection may go to another; then its end is judged
 * once.
 */
static void
worker_dead(struct worker *w, int ws)
{
	enum end	 end;

	w->reaped = 1;
	worker_executed(w);
	while (w->ctl != -1 && worker_read(w) > 0)
		continue;
	worker_cut(w);		/* another of its processes may have them */
	output_drain(OUTPUT_TURNS);
	output_line();

	if (w->state == LEAVING || w->state == KILLED)
		end = ASKED;
	else if (WIFEXITED(ws) && WEXITSTATUS(ws) == 0)
		end = RECYCLED;
	else
		end = CRASHED;
	worker_leftovers(w, end);
	if (w == trial.w)
		trial_dead(w, ws);
	else {
		death_count(w, end);
		death_log(ws, death_level(w, end, ws), opt.variable ?
		    "worker %ld %s after %s, served %llu" :
		    "worker %ld %s after %s", (long)w->pid, cause(ws, 1),
		    lifetime(w), (unsigned long long)w->served);
	}
	/* A process has gone, and descriptors with it. */
	listener.due = pool.start_due = 0;
	queue_remove(w);
	pool.total--;
	free(w);
}

/* Hears of all children that have ended. */
static void
pool_reap(void)
{
	struct worker	*w;
	pid_t		 pid;
	int		 ws;

	while ((pid = waitpid(-1, &ws, WNOHANG)) > 0) {
		if (pid == start.waiter)
			start.waiter = -1;
		else if ((w = worker_find(pid)) != NULL)
			worker_dead(w, ws);
	}
}

/*
 * What trial.due was set for has come: the worker on trial has lived for its
 * time, or it had passed and has not gone when told to.
 */
static void
trial_time(void)
{
	struct worker	*w;

	/* News of its death may be as old as SIGNAL_CHECK. */
	pool_reap();
	if ((w = trial.w) == NULL || now < trial.due)
		return;
	if (trial.passed) {
		worker_kill(w, SIGKILL);
		trial_pass();
	} else if (opt.variable && w->ctl == -1)
		trial_fail("worker %ld of %s closed its control socket",
		    (long)w->pid, opt.prog[0]);
	else if (opt.variable)
		trial_pass();
	else {
		/* A pool may have no place for one more: it goes first. */
		trial.passed = 1;
		trial.due = now + TRIAL_GRACE;
		worker_kill(w, SIGTERM);
	}
}

/*
 * ---------- The pool: who is started, handed a connection, released
 */

/*
 * Starts a worker for the pool.  Returns 0 if it could not: the pool serves
 * with what it has, and it is tried again in a while or when a worker has gone;
 * a start is over.  There may be no room for an old and a new generation: then
 * an old worker goes for each that is new.
 */
static int
pool_start(void)
{
	int	 error;

	if (worker_start(STARTING) == NULL) {
		error = errno;
		pool.start_due = now + SHORT_RETRY;
		if (start.done && pool.renewing && pool_count() > 0)
			(void)pool_release(opt.min > pool_count() ?
			    opt.min - pool_count() : 0);
		start_short(error);
		return 0;
	}
	pool_restarted();
	if (storm.owed > 0) {
		if (now >= storm.due) {
			storm.due = now + SECOND;
			storm.made = 0;
		}
		storm.owed--;
		storm.made++;
	}
	return 1;
}

/*
 * Starts what is missing to n workers, a slice in a turn, so that meanwhile
 * connections are handed out.
 */
static void
pool_fill(void)
{
	int	 i;

	for (i = 0; i < SLICE && now >= pool_when(opt.min); i++)
		if (!pool_start())
			return;
}

/* Tells that the start has succeeded, and leaves the caller's terminal. */
static void
start_report(void)
{
	int	 fd;

	start.done = 1;
	/* Who starts us should not have to find out that nothing is logged. */
	if (!log_heard() && fd_ready(STDERR_FILENO, POLLOUT))
		warnx("no syslogd: messages are lost unless -d shows them");
	/* Cannot fail: all these are open. */
	for (fd = 0; fd < CONTROL_FD && !opt.debug; fd++)
		(void)dup2(nullfd, fd);
	if (write(start.fd, "", 1) == 1)
		logit(LOG_INFO, "started: %zu worker%s of %s in %s for %s",
		    opt.min, opt.min == 1 ? "" : "s", opt.prog[0], opt.jail,
		    opt.sockpath);
	else {
		/* Nobody was told that we are here: then we must not be. */
		logit(LOG_ERR, "the starting process is gone: stopping");
		stop(1, LEAVE_GRACE);
	}
	fd_close(&start.fd);
}

/* Lets the old generation go when the new one has been executed. */
static void
pool_renewed(void)
{
	size_t	 busy;

	if (!pool.renewing || pool.awaited > 0 || ending.begun)
		return;
	pool.renewing = 0;
	busy = pool_release(0);
	if (!start.done)
		start_report();
	else
		logit(LOG_INFO, "reloaded: %zu new worker%s, %zu of the old "
		    "still busy", opt.min, opt.min == 1 ? "" : "s", busy);
}

/*
 * How many busy workers are about to come back: their client has its answer and
 * has closed the connection, but we have not heard of that yet.  Those whose
 * client left longer ago are busy with something.
 */
static size_t
pool_returning(void)
{
	struct worker	*w;
	size_t		 i, n = 0, returning = 0;

	TAILQ_FOREACH(w, &pool.q[BUSY], entry) {
		polled.conns[n].fd = w->conn;
		polled.conns[n].events = polled.conns[n].revents = 0;
		n++;
	}
	if (poll(polled.conns, n, 0) <= 0)
		return 0;
	i = 0;
	TAILQ_FOREACH(w, &pool.q[BUSY], entry)
		if (polled.conns[i++].revents & POLLHUP) {
			if (w->left == 0)
				w->left = now;
			returning += now - w->left < LEFT_TIME;
		}
	return returning;
}

/*
 * Nobody is idle and connections wait.  There are as many accepted ones here
 * as workers have been started for them, and whoever comes first has the next,
 * so that a connection does not depend on a worker that has yet to initialise
 * itself.  Another worker is started, one in a turn, unless those who are about
 * to come back suffice: a client may return with its next request before its
 * worker does, and two clients are no reason for a third worker.  If there is
 * no place for one, that is saturation, told once if it lasts.
 */
static void
pool_grow(void)
{
	int64_t	 when;

	if (listener.state == BACKED_UP) {
		listener.state = SATURATED;
		listener.since = now;
	}
	when = pool_when(pool_places());
	while (listener.nconns < pool.n[STARTING])
		if (listener.state == CALM || !conn_wait())
			return;
	if (listener.nconns == pool.n[STARTING] &&
	    listener.state != CALM && now >= when &&
	    now >= listener.grow_due) {
		if (pool_returning() > 0)
			listener.grow_due = now + GROW_WAIT;
		else if (!conn_wait())
			return;
	}
	if (listener.nconns > pool.n[STARTING]) {
		if (now >= when)
			(void)pool_start();
	} else if (listener.state == SATURATED && pool_count() >= opt.max &&
	    now >= listener.since + FULL_TIME) {
		listener.state = WARNED;
		if (now - seen.saturation >= EPISODE)
			logit(LOG_WARNING, "all %zu workers are busy and "
			    "connections wait: -N may be too low", opt.max);
	}
}

/*
 * Hands out connections while there are any, and idle workers to have them:
 * first those that wait here, then those of the backlog.  Whether there is
 * another is asked of poll(2): an accept4(2) in vain costs 3 us on Linux, not
 * 0.2, which was 6 % of the time per request with 4 workers.  Not when all N
 * are busy: then there nearly always is.
 */
static void
pool_accept(void)
{
	struct worker	*w;
	int		 accepted = 0, conn, rv;

	while (!ending.begun && now >= listener.due &&
	    (listener.state != CALM || listener.nconns > 0)) {
		if (accepted && listener.nconns == 0 &&
		    (listener.state < SATURATED || pool_count() < opt.max) &&
		    !fd_ready(listener.fd, POLLIN)) {
			backlog_calm();
			return;
		}
		if ((w = TAILQ_FIRST(&pool.q[IDLE])) == NULL) {
			pool_grow();
			return;
		}
		if (listener.nconns > 0)
			conn = conn_next();
		else if ((conn = conn_accept()) == -1)
			return;
		accepted = 1;
		if ((rv = worker_assign(w, conn)) != 1)
			conn_keep(conn);
		if (rv == -1)
			return;
	}
}

/*
 * Releases workers above n that were idle for too long, oldest first, all that
 * are due.  The lost do not count: they are not about to serve.
 */
static void
pool_shrink(void)
{
	struct worker	*w;

	while (!ending.begun && !pool.renewing &&
	    pool.n[IDLE] + pool.n[BUSY] > opt.min &&
	    (w = TAILQ_LAST(&pool.q[IDLE], workers)) != NULL &&
	    now - w->since >= opt.waittime) {
		logit(LOG_DEBUG, "worker %ld released after %lld s of "
		    "idleness", (long)w->pid,
		    (long long)(now - w->since) / SECOND);
		worker_stop(w);
		/* There are too many: nobody has to be replaced any more. */
		pool.vacant = storm.owed = 0;
	}
}

/*
 * One line for SIGUSR1 and SIGINFO, at the end of a turn of the loop, when the
 * dead have been replaced.
 */
static void
status(void)
{
	size_t	 starting = pool.n[STARTING] + (trial.w != NULL);

	got[SIGUSR1] = 0;
	logit(LOG_INFO, "status: %zu %s, %zu busy, %zu leaving, %zu starting; "
	    "min %zu, max %zu; %llu handed out, %llu death%s, %llu restart%s",
	    pool.n[IDLE], opt.variable ? "idle" : "serving", pool.n[BUSY],
	    pool.total - pool.n[IDLE] - pool.n[BUSY] - starting, starting,
	    opt.min, opt.max, (unsigned long long)count.handed,
	    (unsigned long long)count.deaths, count.deaths == 1 ? "" : "s",
	    (unsigned long long)count.restarts,
	    count.restarts == 1 ? "" : "s");
}

/*
 * ---------- The loop
 */

/* When something is to be done though nothing happens; INT64_MAX: never. */
static int64_t
deadline(void)
{
	struct worker	*w;
	int64_t		 due = INT64_MAX, wait, when;
	size_t		 i;

	if (trial.w != NULL)
		sooner(&due, trial.due);
	sooner(&due, trial_when());
	if (ending.begun)
		sooner(&due, ending.due);
	sooner(&due, pool_when(opt.min));
	if (!ending.begun && (listener.state != CALM || listener.nconns > 0)) {
		when = pool_when(pool_places());
		wait = listener.grow_due;
		if (now < listener.due)
			sooner(&due, listener.due);
		else if (listener.nconns > pool.n[STARTING])
			sooner(&due, when);
		else if (listener.state >= SATURATED)
			sooner(&due, when > wait ? when : wait);
		wait = listener.since + FULL_TIME;
		if (listener.state == SATURATED && now < wait)
			sooner(&due, wait);
	}
	if (!ending.begun && !pool.renewing &&
	    pool.n[IDLE] + pool.n[BUSY] > opt.min &&
	    (w = TAILQ_LAST(&pool.q[IDLE], workers)) != NULL)
		sooner(&due, w->since + opt.waittime);
	if ((w = TAILQ_FIRST(&pool.q[LOST])) != NULL)
		sooner(&due, w->due);
	if ((w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL)
		sooner(&due, w->due);
	if (out.dropped)
		sooner(&due, out.due);
	for (i = 0; joint.more && i < KINDS; i++)
		if (joint.kinds[i].more > 0)
			sooner(&due, joint.kinds[i].due);
	if (!polled.calm && polled.nhot < polled.n)
		sooner(&due, polled.calm_due);
	return due;
}

/*
 * Handles what n descriptors of the last ppoll(2) reported.  They are noted
 * first, since to handle one may move or close others.  Who has just been
 * executed is heard before who came back, so that the latter is the first to
 * be handed a connection.
 */
static void
events(int n)
{
	struct worker	*w;
	size_t		 i, nready = 0, hotready = 0;

	if (n > 0 && polled.fds[SLOT_LISTENER].revents) {
		listener.state = BACKED_UP;
		n--;
		hotready++;
	}
	if (n > 0 && polled.fds[SLOT_OUTPUT].revents) {
		(void)output_read();
		n--;
		hotready++;
	}
	for (i = SLOT_WORKER; n > 0 && i < polled.n; i++)
		if (polled.fds[i].revents) {
			polled.fds[i].revents = 0;
			polled.ready[nready++] = polled.owner[i];
			hotready += i < polled.nhot;
			n--;
		}
	for (i = 0; i < nready; i++)
		if ((w = polled.ready[i])->exec != -1) {
			worker_executed(w);
			polled.ready[i] = NULL;
		}
	for (i = 0; i < nready; i++)
		if ((w = polled.ready[i]) != NULL && w->ctl != -1)
			(void)worker_read(w);
	if (hotready) {
		polled.calm = 0;
		polled.calm_due = now + SETTLE;
	} else if (now >= polled.calm_due)
		polled.calm = 1;
}

/* Acts on the signals that the last ppoll(2) let in; to stop beats SIGHUP. */
static void
signals(void)
{
	int	 n;

	if (got[SIGCHLD]) {
		got[SIGCHLD] = 0;
		pool_reap();
	}
	if ((n = got[SIGTERM] + got[SIGINT] + got[SIGQUIT]) > 0) {
		got[SIGTERM] = got[SIGINT] = got[SIGQUIT] = 0;
		if (!start.done && !ending.begun)
			start_fail("was told to stop while starting");
		else
			stop(0, LEAVE_GRACE);
		if (n > 1)
			kill_all();
	}
	if (got[SIGHUP]) {
		got[SIGHUP] = 0;
		trial.hup = 1;
	}
}

/* Does what is due. */
static void
timers(void)
{
	struct worker	*w;
	size_t		 i;

	if (trial.w != NULL && now >= trial.due)
		trial_time();
	if (ending.begun && now >= ending.due)
		kill_all();
	while ((w = TAILQ_FIRST(&pool.q[LOST])) != NULL && now >= w->due)
		worker_fault(w, "closed its control socket but lives");
	while ((w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL && now >= w->due) {
		logit(LOG_WARNING, "worker %ld did not leave within %d s of "
		    "SIGTERM: killed", (long)w->pid, LEAVE_GRACE / SECOND);
		worker_kill(w, SIGKILL);
	}
	if (now >= trial_when())
		trial_begin();
	for (i = 0; joint.more && i < KINDS; i++)
		if (joint.kinds[i].more > 0 && now >= joint.kinds[i].due)
			death_more(&joint.kinds[i]);
	if (out.dropped && now >= out.due)
		output_dropped();
}

/*
 * The loop.  Its order matters: what workers said is heard before they are
 * reaped and before others are started; waiting connections are handed out
 * before a worker is thought to be superfluous.
 */
static void
loop(void)
{
	struct timespec	 ts, zero = { 0, 0 };
	int64_t		 due, heard;
	int		 i, n;

	for (i = 0; i < NSTATES; i++)
		TAILQ_INIT(&pool.q[i]);
	if (poll_reserve() == -1)
		fatal("cannot start: %s", strerror(errno));
	heard = now = clock_ms();
	seen.saturation = seen.shortage = seen.nofork = now - EPISODE;
	trial.stormed = storm.last = now - TRIAL_VALID;
	trial.hup = 1;
	trial_begin();
	while (!ending.begun || pool.total > 0) {
		polled.fds[SLOT_LISTENER].fd = opt.variable && start.done &&
		    listener.state == CALM ? listener.fd : -1;
		due = deadline();
		if (due != INT64_MAX) {
			due = due > now ? due - now : 0;
			ts.tv_sec = due / SECOND;
			ts.tv_nsec = due % SECOND * 1000000;
		}
		n = ppoll(polled.fds, polled.calm ? polled.n : polled.nhot,
		    due == INT64_MAX ? NULL : &ts, &waitmask);
		now = clock_ms();
		if (n == -1 && errno != EINTR) {
			/* Out of kernel memory: the signals will do for now. */
			ts.tv_sec = 0;
			ts.tv_nsec = RETRY_MIN * 1000000;
			(void)ppoll(NULL, 0, &ts, &waitmask);
		}
		/* Linux delivers no signal while descriptors are ready. */
		if (n <= 0)
			heard = now;
		else if (now - heard >= SIGNAL_CHECK) {
			(void)ppoll(NULL, 0, &zero, &waitmask);
			heard = now;
		}
		events(n);
		signals();
		timers();
		pool_fill();
		pool_renewed();
		pool_accept();
		pool_shrink();
		if (got[SIGUSR1])
			status();
	}
	finish();
}

/*
 * ---------- Set-up
 */

/*
 * Ends with status 1, saying what is wrong with the command line and, on
 * the same line, what it may be.
 */
static void
usage(const char *fmt, ...)
{
	va_list	 ap;

	fprintf(stderr, "kfcgi: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "; usage: kfcgi [-drv] [-l backlog] [-n workers] "
	    "[-N maxworkers] [-p chroot] [-s sockpath] [-u sockuser] "
	    "[-U procuser] [-w waittime] prog [arg0...]\n");
	exit(1);
}

/* The value of a numeric option, or exit. */
static int
number(int flag, const char *arg, int low, int high)
{
	const char	*errstr;
	int		 n;

	n = (int)strtonum(arg, low, high, &errstr);
	if (errstr != NULL)
		errx(1, "-%c %s: number is %s, must be from %d to %d",
		    flag, arg, errstr, low, high);
	return n;
}

/* Finds a user by name or by a number that has a passwd entry. */
static void
user(int flag, const char *arg, uid_t *uid, gid_t *gid)
{
	const char	*errstr;
	struct passwd	*pw;
	uid_t		 id;

	if ((pw = getpwnam(arg)) == NULL) {
		id = (uid_t)strtonum(arg, 0, UINT_MAX, &errstr);
		if (errstr != NULL || (pw = getpwuid(id)) == NULL)
			errx(1, "-%c %s: no such user", flag, arg);
	}
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
}

/*
 * Makes sure of descriptors 0 to 2, keeps /dev/null at CONTROL_FD, where it
 * holds the place of the workers' control socket, and closes all others:
 * what the caller left open is nobody's here.
 */
static void
descriptors_open(void)
{
	int	 fd;

	closefrom(CONTROL_FD);
	do {
		if ((fd = open("/dev/null", O_RDWR)) == -1)
			err(1, "/dev/null");
	} while (fd < CONTROL_FD);
	nullfd = fd;
	if (fd_flags(nullfd, 0) == -1)
		err(1, "/dev/null");
}

/*
 * Raises the manager's own limit of descriptors, if it may be short, as far
 * as the caller's hard limit goes.  A worker with a connection takes two, and
 * so does one that has yet to be executed; while a pool is replaced there are
 * those on trial, and perhaps the busy ones of two pools before.
 */
static void
descriptors_limit(void)
{
	struct rlimit	 rl;
	rlim_t		 need = 6 * (rlim_t)opt.max + 32;

	if (getrlimit(RLIMIT_NOFILE, &caller_nofile) == -1)
		err(1, "getrlimit");
	rl = caller_nofile;
	if (rl.rlim_cur == RLIM_INFINITY || rl.rlim_cur >= need)
		return;
	rl.rlim_cur = need;
	if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < need)
		rl.rlim_cur = rl.rlim_max;
	/* If that fails, the shortage is met when it comes. */
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

/*
 * With -d the workers have the caller's terminal, if there is one.  They shall
 * not take it over, see worker_child(), and what they write goes to it by
 * descriptors that are opened anew, for writing only, since else they could
 * read what is typed there.
 */
static void
terminal_narrow(void)
{
	const char	*name;
	int		 fd, to;

	if (!opt.debug)
		return;
	if ((fd = open("/dev/tty", O_RDONLY | O_NOCTTY)) != -1) {
		terminal = 1;
		close(fd);
	}
	for (to = STDOUT_FILENO; to <= STDERR_FILENO; to++) {
		if ((name = ttyname(to)) == NULL ||
		    (fd = open(name, O_WRONLY | O_NOCTTY)) == -1)
			continue;
		(void)dup2(fd, to);
		close(fd);
	}
}

/* Notes a signal; SIGINFO asks for what SIGUSR1 does. */
static void
on_signal(int sig)
{
#ifdef SIGINFO
	if (sig == SIGINFO)
		sig = SIGUSR1;
#endif
	got[sig] = 1;
}

/*
 * Gives each signal its default back, whatever the caller ignored, since
 * workers will inherit it, and blocks them all.  ppoll(2) lets in what is
 * caught and what stops or continues a process.  All others stay blocked: they
 * mean nothing to the manager.
 */
static void
signals_init(void)
{
	static const int stops[] = { SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT };
	struct sigaction sa;
	sigset_t	 all;
	size_t		 i;
	int		 sig;

	sigfillset(&all);
	sigfillset(&waitmask);
	sigemptyset(&nomask);
	if (sigprocmask(SIG_SETMASK, &all, NULL) == -1)
		err(1, "sigprocmask");
	memset(&sa, 0, sizeof(sa));
	/* Blocks nothing, so that all that is pending comes at once. */
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_DFL;
	for (sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &sa, NULL); /* not all may be set */
	sa.sa_handler = SIG_IGN;
	if (sigaction(SIGPIPE, &sa, NULL) == -1)
		err(1, "sigaction");
	sa.sa_handler = on_signal;
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		if (sigaction(caught[i], &sa, NULL) == -1)
			err(1, "sigaction");
		sigdelset(&waitmask, caught[i]);
	}
	for (i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		sigdelset(&waitmask, stops[i]);
}

/* The address of a name in the working directory, short enough. */
static void
sock_address(struct sockaddr_un *sun, const char *name)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	(void)strlcpy(sun->sun_path, name, sizeof(sun->sun_path));
}

/* What connect(2) says: errno, or 0. */
static int
sock_ask(int fd, const struct sockaddr_un *sun)
{
	return connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == -1 ?
	    errno : 0;
}

/*
 * Whether a stream socket that some process has open is a dead listener
 * nevertheless: a process that a worker has left behind may hold one that was
 * shut down.  Ends if that cannot be found out.
 *
 * A stream that is connected already cannot connect again, so it may ask
 * without being noticed.  Linux looks at the listener first: ECONNREFUSED if it
 * is dead, EAGAIN if its backlog is full, else EISCONN.  The BSDs and macOS
 * look at our socket first and say EISCONN always, even for a directory.  There
 * we must knock: a live server has a client that is gone at once.  They say
 * ECONNREFUSED for a full backlog, too, hence several tries.  A server that
 * works takes a connection in that time, and we are as likely to be
 * the next in the backlog as its clients are.  One whose backlog is full for
 * all that time, as far as we see, serves nobody: it is taken for dead.
 */
static int
sock_dead(struct sockaddr_un *sun)
{
	struct sockaddr_un dot;
	int		 answer, fd, left, p[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) == -1)
		err(1, "cannot make a socket");
	if (fd_flags(p[0], O_NONBLOCK) == -1)
		err(1, "cannot set the flags of a socket");
	sock_address(&dot, ".");
	answer = sock_ask(p[0], sun);
	left = answer == EISCONN && sock_ask(p[0], &dot) == EISCONN ?
	    PROBE_TIME : 0;
	close(p[0]);
	close(p[1]);
	for (; left > 0; left -= PROBE_PAUSE) {
		if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1)
			err(1, "cannot make a socket");
		if (fd_flags(fd, O_NONBLOCK) == -1)
			err(1, "cannot set the flags of a socket");
		answer = sock_ask(fd, sun);
		close(fd);
		if (answer != ECONNREFUSED)
			break;
		(void)poll(NULL, 0, PROBE_PAUSE);
	}
	switch (answer) {
	case ECONNREFUSED:
	case ENOENT:
		return 1;
	case 0:
	case EAGAIN:
	case EINPROGRESS:
	case EISCONN:
	case EPROTOTYPE:	/* of a third type */
		return 0;
	default:
		errno = answer;
		err(1, "%s", opt.sockpath);
	}
}

/*
 * Ends unless the path is free or has a leftover: a socket to which nobody can
 * connect.  We ask with a datagram socket first, since a server would notice
 * a stream.  Linux and the BSDs look whether a process has the socket open
 * first, ECONNREFUSED, and at the types second, EPROTOTYPE.
 *
 * connect(2) follows a symbolic link that somebody puts there after our look
 * at it.  Then another socket is asked, which does no harm: nothing is sent,
 * and our answer is wrong only for who can replace the socket anyhow.  On
 * return the working directory may be sockdir.
 */
static void
sock_probe(void)
{
	struct sockaddr_un sun;
	struct stat	 st;
	int		 fd;

	if (fstatat(sock.dir, sock.name, &st, AT_SYMLINK_NOFOLLOW) == -1) {
		if (errno != ENOENT)
			err(1, "%s", opt.sockpath);
		return;
	}
	if (!S_ISSOCK(st.st_mode))
		errx(1, "%s: exists and is not a socket", opt.sockpath);
	if (fchdir(sock.dir) == -1)
		err(1, "cannot enter the directory of socket %s", opt.sockpath);
	sock_address(&sun, sock.name);
	if ((fd = socket(AF_UNIX, SOCK_DGRAM, 0)) == -1)
		err(1, "cannot make a socket");
	switch (sock_ask(fd, &sun)) {
	case ECONNREFUSED:
	case ENOENT:
		break;
	case EPROTOTYPE:
		if (sock_dead(&sun))
			break;
		/* FALLTHROUGH */
	case 0:
		errx(1, "%s: is in use by a running server", opt.sockpath);
	default:
		err(1, "%s", opt.sockpath);
	}
	close(fd);
}

/*
 * Opens a directory, component by component, and returns the descriptor.  A
 * symbolic link is followed only if it is in a directory in which nobody but
 * root can make one, as /var/run may be: else whoever has a directory on the
 * way could have the socket made anywhere.  Ends if that is impossible.
 */
static int
sock_walk(char *dir)
{
	struct stat	 st;
	const char	*name;
	int		 flags, fd, next;

	flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	if ((fd = open(dir[0] == '/' ? "/" : ".", flags)) == -1)
		err(1, "cannot open the directory of socket %s", opt.sockpath);
	for (name = strtok(dir, "/"); name != NULL; name = strtok(NULL, "/")) {
		if (fstat(fd, &st) == -1)
			err(1, "cannot look at the directory of socket %s",
			    opt.sockpath);
		flags &= ~O_NOFOLLOW;
		if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
			flags |= O_NOFOLLOW;
		if ((next = openat(fd, name, flags)) == -1) {
			if ((flags & O_NOFOLLOW) && fstatat(fd, name, &st,
			    AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
				errx(1, "-s %s: %s is a symbolic link where "
				    "others than root may make one",
				    opt.sockpath, name);
			err(1, "cannot open the directory of socket %s",
			    opt.sockpath);
		}
		close(fd);
		fd = next;
	}
	return fd;
}

/*
 * Splits sockpath into its directory, which is opened as sockdir, and
 * sockname.  The path is looked up this once only.  Ends if that is impossible.
 */
static void
sock_place(void)
{
	char		 dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char		*slash;

	if (opt.sockpath[0] == '\0')
		errx(1, "-s: socket path is empty");
	/* Made by a shorter name, but clients need the whole path. */
	if (strlcpy(dir, opt.sockpath, sizeof(dir)) >= sizeof(dir))
		errx(1, "-s %s: path is too long for a socket, at most %zu "
		    "bytes", opt.sockpath, sizeof(dir) - 1);
	sock.name = opt.sockpath;
	if ((slash = strrchr(dir, '/')) != NULL) {
		sock.name += slash - dir + 1;
		/* Of "/x" the slash is the directory. */
		slash[slash == dir] = '\0';
	} else
		(void)strlcpy(dir, ".", sizeof(dir));
	if (sock.name[0] == '\0')
		errx(1, "-s %s: ends in a slash, so it is no socket's path",
		    opt.sockpath);
	sock.dir = sock_walk(dir);
}

/*
 * Makes a stream socket in the working directory, with mode 0660 at once and
 * the status flag.  It has its final name already there, since that is what
 * fstat(1), ss(8) and their like show for as long as it lives.  Returns the
 * descriptor, or -1 after a message.
 */
static int
sock_bind(int flag)
{
	struct sockaddr_un sun;
	mode_t		 mask;
	int		 bound, fd;

	if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1) {
		warn("cannot make a socket");
		return -1;
	}
	if (fd_flags(fd, flag) == -1) {
		warn("cannot set the flags of a socket");
		return -1;
	}
	sock_address(&sun, sock.name);
	mask = umask(0117);
	bound = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	umask(mask);
	if (bound == -1) {
		warn("cannot make socket %s", opt.sockpath);
		return -1;
	}
	return fd;
}

/*
 * Makes the listening socket in the directory priv, which is ours alone, and
 * moves it to its place.  Nobody else can exchange a name in priv, or reach a
 * socket there whose owner or mode is not yet right.  The fixed pool's trialfd
 * has the same type and backlog, but its name is removed before it listens, so
 * that no client can ever connect to it.  The working directory becomes the one
 * that is open as cwd.  Returns 0, or -1 after a message.
 */
static int
sock_make(int priv, int cwd)
{
	if (fchdir(priv) == -1) {
		warn("cannot enter the directory made for socket %s",
		    opt.sockpath);
		return -1;
	}
	if (!opt.variable) {
		if ((trial.fd = sock_bind(0)) == -1)
			return -1;
		if (unlinkat(priv, sock.name, 0) == -1) {
			warn("cannot remove the trial's socket for %s",
			    opt.sockpath);
			return -1;
		}
		if (listen(trial.fd, opt.backlog) == -1) {
			warn("cannot listen on socket %s", opt.sockpath);
			return -1;
		}
	}
	if ((listener.fd = sock_bind(opt.variable ? O_NONBLOCK : 0)) == -1)
		return -1;
	if (fstatat(priv, sock.name, &sock.st, AT_SYMLINK_NOFOLLOW) == -1)
		warn("%s", opt.sockpath);
	/* A default ACL of the directory may have narrowed it. */
	else if ((sock.st.st_mode & 07777) != 0660 &&
	    fchmodat(priv, sock.name, 0660, 0) == -1)
		warn("cannot set the mode of socket %s", opt.sockpath);
	else if (fchownat(priv, sock.name, opt.sockuid, opt.sockgid,
	    AT_SYMLINK_NOFOLLOW) == -1)
		warn("cannot give socket %s to user %ld", opt.sockpath,
		    (long)opt.sockuid);
	else if (listen(listener.fd, opt.backlog) == -1)
		warn("cannot listen on socket %s", opt.sockpath);
	else if (fchdir(cwd) == -1)
		warn("cannot return to the working directory");
	else if (renameat(priv, sock.name, sock.dir, sock.name) == -1)
		warn("cannot move the socket to %s", opt.sockpath);
	else
		return 0;
	(void)unlinkat(priv, sock.name, 0);
	return -1;
}

/*
 * Makes a directory in sockdir that is ours alone, and returns a descriptor of
 * it, its name in name.  What was opened is looked at, because the name may
 * have been given to another meanwhile.  -1 after a message.
 */
static int
sock_private(char *name, size_t size)
{
	struct timespec	 ts;
	struct stat	 st;
	mode_t		 mask;
	int		 fd, made, tries = 100;

	do {
		/* Need not be secret: a name that exists is not taken. */
		(void)clock_gettime(CLOCK_REALTIME, &ts);
		(void)snprintf(name, size, ".kfcgi.%08x",
		    (unsigned int)ts.tv_nsec << 2 ^ (unsigned int)ts.tv_sec ^
		    (unsigned int)getpid() << 16);
		mask = umask(0077);
		made = mkdirat(sock.dir, name, 0700);
		umask(mask);
	} while (made == -1 && errno == EEXIST && --tries > 0);
	if (made == -1) {
		warn("cannot make a directory for socket %s", opt.sockpath);
		return -1;
	}
	if ((fd = openat(sock.dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		warn("cannot open the directory made for socket %s",
		    opt.sockpath);
	else if (fstat(fd, &st) == -1)
		warn("cannot look at the directory made for socket %s",
		    opt.sockpath);
	else if (st.st_uid != geteuid() || (st.st_mode & 0777) != 0700)
		warnx("the directory made for socket %s is not ours alone: "
		    "somebody else exchanges it", opt.sockpath);
	else
		return fd;
	fd_close(&fd);
	(void)unlinkat(sock.dir, name, AT_REMOVEDIR);
	return -1;
}

/*
 * Opens the listening socket.  Everything that can be judged before, the jail
 * and what is at the socket's path, is judged before anything is touched.
 *
 * The directory may belong to somebody else, who may exchange every name in
 * it at any time, while we are root.  Hence
 *  1. it is opened once and not looked up by its path again, see sock_place();
 *  2. the socket is made in a directory of our own inside it, into which
 *     nobody else can reach, see sock_private() and sock_make();
 *  3. the finished socket gets its name by renameat(2), which replaces what
 *     has that name without following it; from then on nothing is changed by
 *     that name.
 * Whoever owns the directory can so remove or replace the socket, and make
 * the start fail, but nothing else.
 *
 * If we are killed in between, an empty .kfcgi.XXXXXXXX, or one with a socket
 * that nobody has open, is left.  On return the working directory is that of
 * the caller if the jail is relative to it, else the root.
 */
static void
sock_open(void)
{
	struct stat	 st;
	char		 name[16];
	int		 cwd, made, priv;

	if (stat(opt.jail, &st) == -1)
		err(1, "-p %s", opt.jail);
	if (!S_ISDIR(st.st_mode))
		errx(1, "-p %s: not a directory", opt.jail);
	sock_place();
	if ((cwd = open(opt.jail[0] == '/' ? "/" : ".",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		err(1, "cannot open the working directory");
	sock_probe();
	if ((priv = sock_private(name, sizeof(name))) == -1)
		exit(1);
	made = sock_make(priv, cwd);
	close(priv);
	close(cwd);
	/* Fails, and shall, if somebody has moved it or put another there. */
	(void)unlinkat(sock.dir, name, AT_REMOVEDIR);
	if (made == -1)
		exit(1);
}

/*
 * Takes the socket back after a failed start, if it is still ours.  Whoever
 * exchanges it in the instant between look and removal loses something of the
 * directory that is at that person's disposal.
 */
static void
sock_remove(void)
{
	struct stat	 st;

	if (fstatat(sock.dir, sock.name, &st, AT_SYMLINK_NOFOLLOW) != -1 &&
	    st.st_dev == sock.st.st_dev && st.st_ino == sock.st.st_ino)
		(void)unlinkat(sock.dir, sock.name, 0);
}

static void
on_signal_start(int sig)
{
	int	 saved = errno;

	(void)sig;
	(void)kill(manager, SIGTERM);
	errno = saved;
}

/*
 * Waits for the manager's word, a byte on fd.  Without it the start has
 * failed, which the manager has explained: removes the socket, if it is
 * still ours.  pid is the manager, our child, or 0 if we are its child.
 */
static void
start_wait(int fd, int pid)
{
	struct sigaction sa;
	ssize_t		 n;
	char		 c;
	int		 ws;

	if (pid != 0) {
		/* A signal to this process is meant for the start. */
		manager = pid;
		memset(&sa, 0, sizeof(sa));
		sigemptyset(&sa.sa_mask);
		sa.sa_handler = on_signal_start;
		(void)sigaction(SIGINT, &sa, NULL);
		(void)sigaction(SIGQUIT, &sa, NULL);
		(void)sigaction(SIGTERM, &sa, NULL);
		sa.sa_handler = SIG_IGN;
		(void)sigaction(SIGHUP, &sa, NULL);
		(void)sigprocmask(SIG_SETMASK, &waitmask, NULL);
	}
	while ((n = read(fd, &c, 1)) == -1 && errno == EINTR)
		continue;
	if (n == 1)
		_exit(0);
	sock_remove();
	if (pid != 0) {
		while (waitpid(pid, &ws, 0) == -1 && errno == EINTR)
			continue;
		if (WIFSIGNALED(ws))
			warnx("the manager %s while starting", cause(ws, 1));
	}
	_exit(1);
}

/*
 * Splits off the process that keeps its privileges until the start has come
 * out, because a start that fails must take its socket back.  It is the one
 * the shell waits for, unless -d: then it is a child, and the manager stays
 * in the foreground.
 */
static void
detach(void)
{
	int	 p[2];
	pid_t	 pid;

	fflush(NULL);
	if (pipe(p) == -1) {
		warn("cannot start: pipe");
		sock_remove();
		exit(1);
	}
	if (fd_flags(p[0], 0) == -1 || fd_flags(p[1], 0) == -1) {
		warn("cannot start: fcntl");
		sock_remove();
		exit(1);
	}
	if ((pid = fork()) == -1) {
		warn("cannot start: fork");
		sock_remove();
		exit(1);
	}
	if ((pid == 0) == opt.debug) {
		close(p[1]);
		close(listener.fd);
		fd_close(&trial.fd);
		start_wait(p[0], pid);
	}
	close(p[0]);
	/* A way out of the jail, which the manager must not have. */
	fd_close(&sock.dir);
	start.fd = p[1];
	manager = getpid();
	if (opt.debug)
		start.waiter = pid;
	else if (setsid() == -1)
		fatal("setsid: %s", strerror(errno));
}

/*
 * Enters the jail and drops privileges for good.  Without -U the
 * manager stays root, to be able to signal workers that do the same or that
 * drop privileges by themselves.
 */
static void
jail_enter(void)
{
	if (chroot(opt.jail) == -1)
		fatal("-p %s: %s", opt.jail, strerror(errno));
	if (chdir("/") == -1)
		fatal("cannot enter jail %s: %s", opt.jail, strerror(errno));
	if (setgroups(1, &opt.procgid) == -1)
		fatal("cannot leave the caller's groups: %s", strerror(errno));
	if (setresgid(opt.procgid, opt.procgid, opt.procgid) == -1)
		fatal("cannot become group %ld: %s", (long)opt.procgid,
		    strerror(errno));
	if (setresuid(opt.procuid, opt.procuid, opt.procuid) == -1)
		fatal("cannot become user %ld: %s", (long)opt.procuid,
		    strerror(errno));
	if (opt.procuid == 0)
		logit(LOG_WARNING, "workers run as root: no -U was given, "
		    "or it names root");
	else if (setuid(0) != -1 || seteuid(0) != -1 ||
	    getuid() != opt.procuid || geteuid() != opt.procuid)
		fatal("privileges could be regained");
	if (getgid() != opt.procgid || getegid() != opt.procgid)
		fatal("group privileges could not be dropped");
}

/*
 * Has a look at prog while we may: later pledge(2) forbids it, and execve(2)
 * says ENOENT for a missing interpreter, too.
 */
static void
prog_look(void)
{
	struct stat	 st;

	start.progerr = stat(opt.prog[0], &st) == -1 ? errno : 0;
	start.progdir = start.progerr == 0 && S_ISDIR(st.st_mode);
}

int
main(int argc, char *argv[])
{
	int	 c, maxset = 0, backlogset = 0;

	descriptors_open();

	opterr = 0;
	opt.sockuid = opt.procuid = getuid();
	opt.sockgid = opt.procgid = getgid();

	/* The plus makes glibc stop at prog, as the others do. */
	while ((c = getopt(argc, argv, "+dl:n:N:p:rs:u:U:vw:")) != -1)
		switch (c) {
		case 'd':
			opt.debug = 1;
			break;
		case 'l':
			opt.backlog = number(c, optarg, 1, INT_MAX);
			backlogset = 1;
			break;
		case 'n':
			opt.min = number(c, optarg, 1, WORKERS_MAX);
			break;
		case 'N':
			opt.max = number(c, optarg, 1, WORKERS_MAX * 2);
			maxset = 1;
			break;
		case 'p':
			opt.jail = optarg;
			break;
		case 'r':
			opt.variable = 1;
			break;
		case 's':
			opt.sockpath = optarg;
			break;
		case 'u':
			user(c, optarg, &opt.sockuid, &opt.sockgid);
			break;
		case 'U':
			user(c, optarg, &opt.procuid, &opt.procgid);
			opt.procuser = optarg;
			break;
		case 'v':
			opt.verbose = 1;
			break;
		case 'w':
			opt.waittime = (int64_t)SECOND *
			    number(c, optarg, 0, INT_MAX);
			break;
		default:
			if (optopt != 0 && strchr("lnNpsuUw", optopt) != NULL)
				usage("-%c: needs a value", optopt);
			usage("-%c: unknown option", optopt);
		}
	argv += optind;
	argc -= optind;

	if (argc == 0)
		usage("no prog given");
	opt.prog = argv;
	if (!maxset)
		opt.max = opt.min * 2;
	if (opt.variable && opt.max < opt.min)
		errx(1, "-N %zu: must not be below -n, which is %zu", opt.max,
		    opt.min);
	if (!opt.variable)
		opt.max = opt.min;
	if (!backlogset)
		opt.backlog = (int)opt.max * 2;
	if (geteuid() != 0)
		errx(1, "need root privileges");

	signals_init();
	descriptors_limit();
	terminal_narrow();
	sock_open();
	detach();
	log_open();
	output_open();
	jail_enter();
	prog_look();
	if ((opt.variable ? setenv("FCGI_LISTENSOCK_DESCRIPTORS", "3", 1) :
	    unsetenv("FCGI_LISTENSOCK_DESCRIPTORS")) == -1)
		fatal("cannot set the environment: %s", strerror(errno));
	if (pledge(opt.variable ? "stdio proc exec unix sendfd" :
	    "stdio proc exec unix", NULL) == -1)
		fatal("pledge: %s", strerror(errno));
	loop();
}
