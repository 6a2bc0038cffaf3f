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
 * that worker's control socket, together with a cookie, and the worker is
 * idle again when it has written the cookie back; there are between n and N
 * workers.  The fixed pool is the variable one with n == N where no worker is
 * ever busy.
 *
 * The program is judged away from traffic: a worker on trial is started like
 * any other, but no client can reach it.  See the comment over "trial" below.
 *
 * A worker is in exactly one state, and on that state's queue:
 *
 *	TRIAL	 is on trial: gets no connection, belongs to no generation
 *	STARTING was forked for the pool, but has not yet executed prog
 *	IDLE	 may be handed a connection; fixed: serves
 *	BUSY	 has a connection, its cookie is outstanding
 *	LOST	 closed its control socket: it is dying, or just broken
 *	LEAVING	 was told to go (SIGTERM)
 *	KILLED	 was made to go (SIGKILL)
 *
 * The pool is what is STARTING, IDLE, BUSY or LOST of the present generation.
 * A worker is forgotten when it has been reaped, never before; one that was
 * told to go, when nobody of its process group is left.
 *
 * An accepted connection is in listener.conns while it waits for a worker, in
 * its worker's conn while that is busy, and closed when the cookie is back
 * (worker_read), when the worker is given up (worker_cut), or at the end if it
 * has no worker yet (stop).
 *
 * The manager waits in the poll(2) of turn() and nowhere else.
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

/* Defaults, as in the manual. */
#define SOCKPATH	"/var/www/run/httpd.sock"
#define JAIL		"/var/www"
#define WORKERS		3
#define WAITTIME	300		/* seconds */

#define WORKERS_MAX	32767		/* keeps 2n far from INT_MAX */
#define CONTROL_FD	3		/* its control socket, -r; see main() */
#define SLICE		8		/* workers started in a turn */
#define BACKLOG_MAX	10000		/* of it, so many are told of the end */
#define GENERATIONS	16		/* that there may be at once */

/* Times, in milliseconds. */
#define SECOND		1000
#define EXEC_TIME	20000		/* to execute prog */
#define TRIAL_TIME	1000		/* who dies sooner dies young */
#define TRIAL_GRACE	500		/* for a worker that passed to leave */
#define TRIAL_VALID	10000		/* after one passed, none in doubt */
#define DOUBT_TIME	2000		/* for the pool to become whole again */
#define RETRY_MIN	100		/* first pause after a failed trial */
#define RETRY_MAX	10000		/* longest pause; it doubles */
#define ROW_LONG	10000		/* a row of young deaths that is told */
#define READY_TIME	1000		/* from execve(2) to accept(2) */
#define LOST_GRACE	1000		/* from end-of-file to SIGTERM */
#define LEAVE_GRACE	20000		/* from SIGTERM to SIGKILL */
#define GROUP_LOOK	100		/* at what dead workers left behind */
#define FAIL_GRACE	2000		/* the same after a failed start */
#define KILL_GRACE	5000		/* from SIGKILL to our end without it */
#define SHORT_RETRY	1000		/* without descriptors or memory */
#define GROW_TIME	5		/* for a worker to become idle */
#define FULL_TIME	100		/* of saturation until it is logged */
#define EPISODE		20000		/* of calm until it is logged again */
#define SETTLE		100		/* without an event: all are polled */
#define POLL_RETRY	100		/* when poll(2) lacks memory */
#define PROBE_TIME	1000		/* for a busy server to take us */
#define PROBE_PAUSE	20		/* from one look to the next */
#define NEVER		INT64_MAX

#define LINKS_MAX	32		/* symbolic links to the socket */

#define LINE_SIZE	1000		/* bytes of output in a syslog line */
#define OUTPUT_CHUNK	16384		/* bytes of it read at a time */
#define OUTPUT_TURNS	16		/* reads at most when a worker died */

/* The command line.  Only options() changes it. */
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

static pid_t	 manager;
static int	 nullfd = -1;		/* /dev/null, always CONTROL_FD */
static int	 terminal;		/* with -d, and there is one */
static int	 errfd = STDERR_FILENO;	/* where we log with -d */
static struct rlimit caller_nofile;	/* the limit for the workers */

/* For the status line. */
static struct {
	uint64_t	 handed;	/* connections, and the last cookie */
	uint64_t	 deaths;
	uint64_t	 restarts;
} count;

/*
 * The end of the manager.  A start that fails sets the status before it logs
 * why, since logit() looks at that.
 */
static struct {
	int		 begun;
	int		 told;		/* by a signal; a second one kills */
	int64_t		 due;		/* when finish_late() is called */
	int		 status;	/* for exit(3) */
} ending;

static void	 fatal(const char *, const char *) __dead;
static void	 logit(int, const char *, ...)
		    __attribute__((__format__(printf, 2, 3)));

/*
 * ---------- Small things: descriptors, time
 */

/*
 * Makes a descriptor close-on-exec and adds a status flag, or none if that is
 * 0.  Returns -1 with errno.
 */
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
 * Closes a descriptor, if it is open, and sets it to -1.  An error of close(2)
 * would be about data that we wrote, and we write none.
 */
static void
fd_close(int *fd)
{
	if (*fd != -1)
		(void)close(*fd);
	*fd = -1;
}

/* Returns 1 if a descriptor is ready for events, else 0; -1 if not known. */
static int
fd_ready(int fd, short events)
{
	struct pollfd	 pfd = { fd, events, 0 };

	return poll(&pfd, 1, 0);
}

/*
 * The time, in milliseconds of the monotonic clock: all times in this file
 * are.  It is read once in each turn of the loop, after poll(2), since it
 * passes nowhere else.
 */
static int64_t	 now;

/*
 * When the loop must go on without an event.  It is NEVER at the beginning of
 * what a turn does; who sets a time for later says so by later(), who waits
 * for one by due(), so that each time stands where it is looked at and nowhere
 * else.
 */
static int64_t	 wake = NEVER;

/* Returns the time, see now. */
static int64_t
clock_ms(void)
{
	struct timespec	 ts;

	/* Cannot fail: the clock exists everywhere, ts is ours. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec / 1000000;
}

/* Returns whether a time has come; if not, the loop goes on when it does. */
static int
due(int64_t when)
{
	if (now >= when)
		return 1;
	if (when < wake)
		wake = when;
	return 0;
}

/*
 * Returns the time in so many milliseconds, when the loop goes on.  They begin
 * with this call: the manager may have been stopped since now was read.
 */
static int64_t
later(int64_t ms)
{
	int64_t	 when = clock_ms() + ms;

	(void)due(when);
	return when;
}

/*
 * ---------- The log, and what limits it
 */

/*
 * Every rate, and all that is told once an episode.  A limit lets so many
 * events pass in a span of time, which begins with the first of them; if the
 * others are called something, their number is logged when it is over.  A span
 * of more than a second is an episode: it lasts until there were no events for
 * so long.
 */
enum { FAILURES, RECYCLINGS, DEAF, LINES, STORM, EXITS, ROW, ROW_TOLD, NO_CONN,
    NO_WORKER, SATURATION, NLIMITS };
static struct limit {
	unsigned	 max;
	int64_t		 span;
	int		 prio;
	const char	*more;		/* what the others are called */
	int64_t		 begin, end;	/* of the present span */
	unsigned	 n;		/* events in it */
} limits[NLIMITS] = {
	[FAILURES] = { .max = 5, .span = SECOND, .prio = LOG_ERR,
	    .more = "more of the workers failed in the same second" },
	[RECYCLINGS] = { .max = 5, .span = SECOND, .prio = LOG_INFO,
	    .more = "more of the workers ended with status 0 in that second" },
	[DEAF] = { .max = 5, .span = SECOND, .prio = LOG_WARNING,
	    .more = "more of the workers did not leave in time: killed" },
	[LINES] = { .max = 100, .span = SECOND, .prio = LOG_WARNING, .more =
	    "lines of the workers' output dropped: more than 100 in a second" },
	[STORM] = { .max = 100, .span = SECOND },
	[EXITS] = { .max = 100, .span = SECOND },
	[ROW] = { .span = ROW_LONG },
	[ROW_TOLD] = { .max = 1, .span = ROW_LONG },
	[NO_CONN] = { .max = 1, .span = EPISODE },
	[NO_WORKER] = { .max = 1, .span = EPISODE },
	[SATURATION] = { .max = 1, .span = EPISODE },
};

/*
 * The start.  The manager cannot undo it, being jailed and no longer root, so
 * the process that the shell waits for does, see detach().
 */
static struct {
	int		 done;		/* it has succeeded */
	int		 fd;		/* pipe to the process that waits */
	int		 there;		/* prog was, when we could look */
} start = { .fd = -1 };

/*
 * Logs a message; one at LOG_DEBUG only with -v.  With -d, and if it says why a
 * start fails, it also goes to standard error, unless that would block.
 */
static void
logit(int prio, const char *fmt, ...)
{
	va_list	 ap;
	char	 buf[2048];

	if (prio == LOG_DEBUG && !opt.verbose)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if ((opt.debug ||
	    (!start.done && ending.status != 0 && prio <= LOG_ERR)) &&
	    fd_ready(errfd, POLLOUT) != 0)
		(void)dprintf(errfd, "kfcgi: %s\n", buf);
	syslog(prio, "%s", buf);
}

/*
 * Tells how many events were above each limit whose span is over, or, at the
 * end of the manager, of every limit.
 */
static void
limits_tell(int all)
{
	struct limit	*l;

	for (l = limits; l < limits + NLIMITS; l++)
		if (l->more != NULL && l->n > l->max && (due(l->end) || all)) {
			logit(l->prio, "%u %s", l->n - l->max, l->more);
			l->n = 0;
			l->end = now;
		}
}

/* Notes an event.  Returns whether it is within its limit. */
static int
limit(int which)
{
	struct limit	*l = &limits[which];

	if (now >= l->end) {
		limits_tell(0);
		l->n = 0;
		l->begin = now;
	}
	if (l->n == 0 || l->span > SECOND)
		l->end = now + l->span;
	return l->n++ < l->max;
}

/* Returns whether no more events are within a limit, until its span ends. */
static int
limit_full(int which)
{
	return limits[which].n >= limits[which].max && !due(limits[which].end);
}

/*
 * ---------- What workers print
 */

/*
 * Unless -d, workers print into one pipe, because a pipe for each would double
 * what is polled.
 */
static struct {
	int		 pipe[2];	/* ours, the workers' */
	char		 line[LINE_SIZE]; /* of len bytes, not yet logged */
	size_t		 len;
} out = { .pipe = { -1, -1 } };

/*
 * Logs the line of output, or counts it if there were too many.  What has no
 * end yet is split in front of a character of UTF-8 that is not whole.
 */
static void
output_line(int ended)
{
	char	 text[LINE_SIZE + sizeof("worker: ")], *p;
	size_t	 i, len = out.len;
	int	 lead;

	for (i = 1; !ended && i <= 3 && i < out.len; i++) {
		lead = (unsigned char)out.line[out.len - i];
		if (lead >= 0xc0 && i < (lead >= 0xf0 ? 4u : lead >= 0xe0 ? 3u :
		    2u))
			len = out.len - i;
		if (lead >= 0xc0 || lead < 0x80)
			break;
	}
	if (len == 0)
		return;
	while ((p = memchr(out.line, '\0', len)) != NULL)
		*p = '?';
	if (limit(LINES)) {
		(void)snprintf(text, sizeof(text), "worker: %.*s", (int)len,
		    out.line);
		syslog(LOG_NOTICE, "%s", text);
	}
	out.len -= len;
	memmove(out.line, out.line + len, out.len);
}

/*
 * Reads some of the workers' output and logs it line by line, long lines in
 * pieces.  During a start the shell sees it, too.  Returns whether there may be
 * more.
 */
static int
output_read(void)
{
	static char	 buf[OUTPUT_CHUNK];
	char		*p, *nl;
	size_t		 len;
	ssize_t		 n;

	/* Standard error that is ready has room for 512 bytes. */
	if (out.pipe[0] == -1 || (n = read(out.pipe[0], buf, start.done ?
	    sizeof(buf) : 512)) <= 0)
		return 0;
	if (!start.done && fd_ready(STDERR_FILENO, POLLOUT) == 1)
		(void)!write(STDERR_FILENO, buf, n);
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
			output_line(nl != NULL);
		if (nl != NULL)
			len++;
	}
	return 1;
}

/*
 * Logs what a worker that has died, or fails a start, has printed: last words
 * need no newline.  Others may go on writing, so there is an end.
 */
static void
output_drain(void)
{
	int	 i;

	for (i = 0; i < OUTPUT_TURNS && output_read(); i++)
		continue;
	if (!start.done && out.len > 0)
		(void)!write(STDERR_FILENO, "\n", 1);
	output_line(1);
}

/*
 * ---------- The pool and its workers
 */

/* In this order: those from STARTING to BUSY serve, or soon will. */
enum state {
	TRIAL,
	STARTING,
	IDLE,
	BUSY,
	LOST,
	LEAVING,
	KILLED,
	NSTATES
};

struct worker {
	TAILQ_ENTRY(worker) entry;	/* of its state's queue */
	enum state	 state;
	int		 gen;		/* generation, NO_GEN on trial */
	pid_t		 pid;		/* and process group, once it made it */
	int		 exec;		/* pipe, closed by execve(2); or -1 */
	int		 ctl;		/* control socket, with -r; or -1 */
	int		 conn;		/* its connection, or -1 */
	int		 last;		/* it is told to go after that */
	uint64_t	 cookie;	/* of conn */
	uint64_t	 hungup;	/* cookie whose client had, pool_full() */
	unsigned char	 said[2 * sizeof(uint64_t)]; /* what it wrote back */
	size_t		 saidlen;
	uint64_t	 served;	/* connections it has finished */
	int64_t		 started;	/* time of fork(2) */
	int64_t		 since;		/* time it entered its state */
	int64_t		 due;		/* limit for its state, if any */
	int		 reaped;	/* pid is but a group's, or 0 */
};

TAILQ_HEAD(workers, worker);

#define NO_GEN		-1

/*
 * A worker counts in n only if it is of the present generation, so that the
 * workers of the one before, however slowly they leave, do not hold back those
 * that are to replace them.
 */
static struct {
	struct workers	 q[NSTATES];	/* all; IDLE: the last used first */
	size_t		 n[NSTATES];	/* of the present generation */
	size_t		 total;		/* workers not yet reaped */
	int		 gen;		/* the present one; 0: none yet */
	int		 renewing;	/* the one before still serves */
	size_t		 fresh;		/* first workers yet to be started, */
	size_t		 awaited;	/* and yet to execute prog */
	int64_t		 ready;		/* all of these have, long enough */
	int64_t		 start_due;	/* shortage: no start before then */
	int64_t		 look;		/* at groups of the reaped, or NEVER */
	int64_t		 idle;		/* see pool_idles(); 0: it does not */
} pool = { .look = NEVER };

/*
 * Puts a worker on a state's queue; only the present generation is counted.
 * The idle of a generation that may not be ready yet are behind the others.
 */
static void
queue_insert(struct worker *w, enum state st)
{
	w->state = st;
	w->since = now;
	if (w->gen == pool.gen)
		pool.n[st]++;
	if (st == IDLE && !(pool.renewing && w->gen == pool.gen))
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
}

/* Returns the worker with that process id, or NULL. */
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

/* Says how a worker has ended, after how long.  Returns static memory. */
static const char *
cause(const struct worker *w, int ws)
{
	static char	 buf[128];
	int64_t		 age = now - w->started;
	int		 sig = WIFSIGNALED(ws) ? WTERMSIG(ws) : 0;

	(void)snprintf(buf, sizeof(buf), sig != 0 ?
	    "was killed by signal %d (%s) after %lld.%03d s" :
	    "exited with status %d%s after %lld.%03d s", sig != 0 ? sig :
	    WEXITSTATUS(ws), sig != 0 ? strsignal(sig) : "",
	    (long long)(age / SECOND), (int)(age % SECOND));
	return buf;
}

/* Returns how many workers of any generation serve, or soon will. */
static size_t
pool_serving(void)
{
	struct worker	*w;
	size_t		 n = 0;
	int		 i;

	for (i = STARTING; i <= BUSY; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			n += !w->last;
	return n;
}

/*
 * ---------- The connections that wait, and what is polled
 */

/*
 * The listening socket.  With -r, a connection that finds no idle worker is
 * accepted all the same if a worker is starting, or may be started, for it.
 * It waits in conns, with the time at which it was accepted, and whichever
 * worker is idle first gets it, so that no connection depends on a worker that
 * may take long to initialise itself.  While that cannot be, connections wait
 * in the backlog.
 */
static struct {
	int		 fd;
	int		 trial;		/* fixed: that of the worker on trial */
	int		 backed;	/* somebody may be in the backlog */
	int64_t		 full;		/* and nobody can take on, since then */
	int		 told;		/* saturation was logged */
	int64_t		 due;		/* shortage: no accept before then */
	struct conn {
		int	 fd;
		int64_t	 since;
	}		*conns;		/* the oldest first */
	size_t		 nconns;
} listener = { .fd = -1, .trial = -1, .full = NEVER };

/*
 * What is polled, collected anew in each turn: first what the manager itself
 * has, then of each worker the pipe that tells that it was executed, later its
 * control socket.  From nhot on these are the idle ones.
 *
 * The idle are left out while others are busy, because poll(2) asks each of
 * what it is given: with 500 idle workers a request cost 55 us with them and
 * 25 without.  They are polled when SETTLE has passed without an event; an
 * idle worker has nothing to tell but its end, which SIGCHLD tells as well.
 */
enum { POLL_SIGNAL, POLL_LISTENER, POLL_OUTPUT, POLL_WORKER };
static struct {
	struct pollfd	*fds;
	struct worker	**owner;	/* from POLL_WORKER on */
	size_t		 n, nhot;
	size_t		 cap;		/* room for so many */
	int		 calm;		/* the idle are polled */
	int64_t		 settle;	/* when that begins */
} polled = { .calm = 1 };

/* Has a descriptor polled, -1 for none, of that worker or the manager. */
static void
poll_add(int fd, struct worker *w)
{
	polled.fds[polled.n] = (struct pollfd){ fd, POLLIN, 0 };
	polled.owner[polled.n++] = w;
}

/*
 * ---------- A worker: its start and its end
 */

/* What a child reports when it cannot execute prog. */
struct report {
	int		 error;		/* errno */
	char		 call[28];	/* what failed; empty: execve(2) */
};

/*
 * A new signal goes in here and into signals(), or the end of turn(), and into
 * SIGNALS in the manual.
 */
static const int caught[] = {
	SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1,
#ifdef SIGINFO
	SIGINFO,
#endif
};
static volatile sig_atomic_t got[NSIG];	/* came, and was not yet acted on */
static int	 sigpipe[2];		/* makes poll(2) return for a signal */
static sigset_t	 nomask;		/* for workers */
static sigset_t	 allmask;		/* around fork(2) */
static sigset_t	 ourmask;		/* lets in what is caught, and stops */

/*
 * In the child: arranges what a worker inherits and executes prog, or writes a
 * report to ex.  in becomes its descriptor 0 and, with -r, ctl its control
 * socket.
 */
static void
worker_child(int in, int ctl, int ex)
{
	struct worker	*w;
	struct report	 rep;
	const char	*call;
	size_t		 i;

#define TRY(name, failed)						\
	do {								\
		call = (name);						\
		if (failed)						\
			goto fail;					\
	} while (0)
	/* If execve(2) hangs, others must not wait for the end of these. */
	fd_close(&start.fd);
	if (opt.variable)
		fd_close(&listener.fd);
	for (i = 0; i < NSTATES; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry) {
			fd_close(&w->conn);
			fd_close(&w->ctl);
		}
	for (i = 0; i < listener.nconns; i++)
		fd_close(&listener.conns[i].fd);
	/*
	 * A process group of its own; a session, which cannot use the
	 * terminal, only if there is a terminal: Linux gives each session a
	 * share of the processor, which costs a third of the throughput.
	 */
	TRY("process group", (terminal ? setsid() : setpgid(0, 0)) == -1);
#ifdef __linux__
	TRY("prctl", prctl(PR_SET_PDEATHSIG, SIGKILL) == -1);
	/* If it died before that; or in a new PID namespace, without a fork. */
	errno = ESRCH;
	TRY("parent process", getppid() != manager);
#endif
	TRY("descriptors", dup2(in, STDIN_FILENO) == -1 || (!opt.debug &&
	    (dup2(out.pipe[1], STDOUT_FILENO) == -1 ||
	    dup2(out.pipe[1], STDERR_FILENO) == -1)) ||
	    (opt.variable && dup2(ctl, CONTROL_FD) == -1) ||
	    setrlimit(RLIMIT_NOFILE, &caller_nofile) == -1);
	/*
	 * Before unblocking, or a SIGTERM for this worker would be lost.
	 * pkill(1) finds us by the manager's command line, which is still
	 * ours.  To ignore a signal drops what is pending of it.  SIGTERM
	 * stays: it may be from the manager.
	 */
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		if (caught[i] != SIGTERM)
			(void)signal(caught[i], SIG_IGN);
		(void)signal(caught[i], SIG_DFL);
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
 * Starts a worker, in state TRIAL or STARTING.  Its times begin at its own
 * fork(2), because the manager may have been stopped before that.  Returns NULL
 * with errno if there is a shortage of descriptors, memory or processes.
 */
static struct worker *
worker_start(enum state st)
{
	struct worker	*w;
	int		 ctl[2] = { -1, -1 }, ex[2] = { -1, -1 }, error = 0;

	errno = EAGAIN;		/* far too many have not left yet */
	if (POLL_WORKER + pool.total >= polled.cap ||
	    (w = calloc(1, sizeof(*w))) == NULL)
		return NULL;
	/* No handler is to run in the child. */
	(void)sigprocmask(SIG_SETMASK, &allmask, NULL);
	if ((opt.variable &&
	    (socketpair(AF_UNIX, SOCK_STREAM, 0, ctl) == -1 ||
	    fd_flags(ctl[0], O_NONBLOCK) == -1 ||
	    fd_flags(ctl[1], 0) == -1)) || pipe(ex) == -1 ||
	    fd_flags(ex[0], O_NONBLOCK) == -1 ||
	    fd_flags(ex[1], 0) == -1 || (w->pid = fork()) == -1)
		error = errno;
	else if (w->pid == 0)
		worker_child(opt.variable ? nullfd : st == TRIAL ?
		    listener.trial : listener.fd, ctl[1], ex[1]);
	(void)sigprocmask(SIG_SETMASK, &ourmask, NULL);
	fd_close(&ctl[1]);
	fd_close(&ex[1]);
	if (error != 0) {
		fd_close(&ctl[0]);
		fd_close(&ex[0]);
		free(w);
		errno = error;
		return NULL;
	}
	w->started = clock_ms();
	w->due = later(EXEC_TIME);
	w->gen = st == TRIAL ? NO_GEN : pool.gen;
	w->conn = -1;
	w->exec = ex[0];
	w->ctl = ctl[0];
	queue_insert(w, st);
	pool.total++;
	logit(LOG_DEBUG, "worker %ld started%s", (long)w->pid,
	    st == TRIAL ? " on trial" : "");
	return w;
}

/*
 * Gives a worker up: closes its descriptors.  If it has a connection, that
 * ends for the client at once, even if another process has a copy of it.
 */
static void
worker_cut(struct worker *w)
{
	if (w->conn != -1) {
		(void)shutdown(w->conn, SHUT_RDWR);
		fd_close(&w->conn);
	}
	fd_close(&w->exec);
	fd_close(&w->ctl);
}

/*
 * Sends SIGTERM to a worker, or SIGKILL to all of its process group: then it
 * is KILLED, and its descriptors are closed.  A worker that is another user by
 * now cannot be signalled, unless we are root.
 */
static void
worker_kill(struct worker *w, int sig)
{
	if (sig == SIGKILL) {
		worker_cut(w);
		worker_state(w, KILLED);
	}
	/* ESRCH, as some systems say of one that is not reaped yet, is fine. */
	if (!w->reaped && kill(w->pid, sig) == -1 && errno == EPERM)
		logit(LOG_ERR, "cannot send %s to worker %ld: %s",
		    sig == SIGKILL ? "SIGKILL" : "SIGTERM", (long)w->pid,
		    strerror(errno));
	/* Fails if the child has not made its group yet; then it is alone. */
	if (sig == SIGKILL)
		(void)kill(-w->pid, sig);
}

/* Tells a worker to go.  Its connection, if it has one, is closed. */
static void
worker_stop(struct worker *w)
{
	worker_cut(w);
	worker_state(w, LEAVING);
	worker_kill(w, SIGTERM);
	w->due = later(LEAVE_GRACE);
}

/*
 * ---------- The end, and what leads to it
 */

/*
 * Kills all workers that are not killed yet, once all were told to go, and logs
 * how many.  Returns whether there were any; these have KILL_GRACE to end.
 */
static int
kill_all(void)
{
	struct worker	*w;
	size_t		 n = 0;
	int		 i;

	for (i = 0; i < KILLED; i++)
		while ((w = TAILQ_FIRST(&pool.q[i])) != NULL) {
			worker_kill(w, SIGKILL);
			n++;
		}
	if (n == 0)
		return 0;
	ending.due = later(KILL_GRACE);
	logit(LOG_WARNING, "%zu worker%s had to be killed", n,
	    n == 1 ? "" : "s");
	return 1;
}

/*
 * Begins to stop, with that exit status: a worker that is busy is told to go
 * after its request, all others at once, and those that are left after grace
 * milliseconds are killed.
 */
static void
stop(int status, int64_t grace)
{
	struct worker	*w;
	size_t		 i;
	int		 conn;

	ending.begun = 1;
	ending.status = status;
	for (i = TRIAL; i <= LOST; i++)
		while (i != BUSY && (w = TAILQ_FIRST(&pool.q[i])) != NULL)
			worker_stop(w);
	TAILQ_FOREACH(w, &pool.q[BUSY], entry)
		w->last = 1;
	for (i = 0; i < listener.nconns; i++)
		fd_close(&listener.conns[i].fd);
	listener.nconns = 0;
	/*
	 * Who is in the backlog learns it at once, also in a fixed pool, whose
	 * workers have the listener open as well.
	 */
	(void)shutdown(listener.fd, SHUT_RDWR);
	(void)fd_flags(listener.fd, O_NONBLOCK);
	for (i = 0; i < BACKLOG_MAX; i++) {
		conn = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
		if (conn == -1 && errno != EINTR && errno != ECONNABORTED)
			break;
		fd_close(&conn);
	}
	fd_close(&listener.fd);
	fd_close(&listener.trial);
	ending.due = later(grace);
}

/* Ends the manager when there is no worker left to wait for. */
static void __dead
finish(void)
{
	limits_tell(1);
	if (start.done)
		logit(LOG_INFO, "stopped");
	exit(ending.status);
}

/*
 * ending.due has come: kills the workers that are left.  Those that SIGKILL
 * has not ended within KILL_GRACE, because they wait for a file system or are
 * another user by now, would hold up the end for ever: it comes without them.
 */
static void
finish_late(void)
{
	struct worker	*w;

	if (kill_all())
		return;
	/* The last of them may have been killed for another reason. */
	w = TAILQ_LAST(&pool.q[KILLED], workers);
	ending.due = w->since + KILL_GRACE;
	if (!due(ending.due))
		return;
	logit(LOG_ERR, "%zu worker%s left behind: not ended by SIGKILL within "
	    "%d s", pool.total, pool.total == 1 ? "" : "s",
	    KILL_GRACE / SECOND);
	ending.status = 1;
	finish();
}

/*
 * Ends a start that fails before there is any worker: logs what could not be
 * done, with what, and errno.
 */
static void
fatal(const char *what, const char *with)
{
	ending.status = 1;
	logit(LOG_ERR, "cannot %s%s: %s", what, with, strerror(errno));
	finish();
}

/*
 * Makes a start fail, and begins to stop.  Standard error gets what the workers
 * have printed and then why.  Clients that wait in the backlog learn it at
 * once.
 */
static void
start_fail(const char *what, const char *why)
{
	output_drain();
	ending.status = 1;
	logit(LOG_ERR, "%s%s", what, why);
	stop(1, FAIL_GRACE);
}

/*
 * ---------- The trial: what is known of the program
 */

/*
 * Whether the program works is asked of a worker that no client can reach,
 * never of those that serve.
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
 * (a start, a SIGHUP), or because the program is in DOUBT (a worker died
 * young) or BROKEN (a trial failed, or a worker could not be executed), when
 * only workers on trial are started until one passes.  It passes when it has
 * lived for TRIAL_TIME, and stays on trial until it was reaped or has joined
 * the pool, so that a system with room for n workers and one more is enough.
 * In the fixed pool its listening socket is of the same kind but has no name,
 * and it is told to go when it has passed.
 *
 * Where there is room for n workers only, the one on trial may fail because the
 * pool is whole.  So while the program is in doubt, the failure is called one
 * when the next worker dies young, or when the pool is not whole in time.
 */
static struct {
	struct worker	*w;		/* the worker on trial, or NULL */
	int		 renews;	/* it is for a new generation */
	int		 passed;	/* it passed and is to leave */
	int		 asked;		/* one for a new generation is wanted */
	enum { GOOD, DOUBT, BROKEN } prog;
	int64_t		 due;		/* no other trial before then */
	int64_t		 delay;		/* BROKEN: pause before the next */
	char		 why[1024];	/* DOUBT: how one failed, or empty */
} trial;

/* The program works: a trial has passed, or the pool is whole. */
static void
trial_good(const char *how)
{
	if (trial.prog == BROKEN)
		logit(LOG_INFO, "workers are started again: %s", how);
	trial.prog = GOOD;
	trial.due = now + TRIAL_VALID;
	limits[STORM].n = 0;
}

/* The program does not work, and why. */
static void
trial_broken(const char *why)
{
	if (trial.prog != BROKEN)
		trial.delay = RETRY_MIN;
	else if ((trial.delay *= 2) > RETRY_MAX)
		trial.delay = RETRY_MAX;
	trial.prog = BROKEN;
	trial.due = later(trial.delay);
	logit(LOG_ERR, "no new workers for now: %s; next trial in %lld ms",
	    why, (long long)trial.delay);
}

/*
 * ---------- The pool: its size and its generations
 */

/*
 * Returns how many workers of the present generation are missing to so many.
 * Against N count those as well that were released and have not gone yet, so
 * that these do not pile up.
 */
static size_t
pool_missing(size_t places)
{
	size_t	 n = pool.n[STARTING] + pool.n[IDLE] + pool.n[BUSY] +
	    pool.n[LOST];

	if (places > opt.min)
		n += pool.n[LEAVING] + pool.n[KILLED];
	return n < places ? places - n : 0;
}

/*
 * Workers die young although trials pass.  If that goes on for ROW_LONG, it is
 * logged once.
 */
static void
row(void)
{
	(void)limit(ROW);
	if (trial.prog != BROKEN && now - limits[ROW].begin >= ROW_LONG &&
	    limit(ROW_TOLD))
		logit(LOG_WARNING, "workers have been dying within a second of "
		    "their start for %d s, though trials pass: a request may "
		    "be what kills them", ROW_LONG / SECOND);
}

/*
 * Returns whether workers of a fixed pool end with status 0 faster than 100 in
 * a second while nobody waits.  They may recycle themselves as they should, and
 * one is started as soon as a client waits; but if in half a second none comes,
 * they end without having served anybody.
 */
static int
pool_idles(void)
{
	if (!opt.variable && limit_full(EXITS) &&
	    fd_ready(listener.fd, POLLIN) == 0) {
		if (pool.idle == 0)
			pool.idle = now;
		return 1;
	}
	if (pool.idle != 0 && now - pool.idle >= SECOND / 2)
		row();
	pool.idle = 0;
	return 0;
}

/* Returns how many workers of old generations serve. */
static size_t
pool_old(void)
{
	return pool_serving() - pool.n[STARTING] - pool.n[IDLE] - pool.n[BUSY];
}

/* Returns whether the new workers of a reload leave connections to the old. */
static int
pool_unready(void)
{
	return start.done && pool.renewing && pool_old() > 0;
}

/*
 * Returns how many of those that are missing may be started now.  A pool whose
 * new workers are not ready does not grow.
 */
static size_t
pool_vacant(size_t places)
{
	if (pool_missing(places) == 0 || ending.begun || pool.gen == 0 ||
	    (places > opt.min && pool_unready()) || pool_idles() ||
	    trial.prog == BROKEN || limit_full(STORM) || !due(pool.start_due))
		return 0;
	return pool_missing(places);
}

/*
 * Returns whether n workers serve who are no longer young, and nobody waits for
 * one more.
 */
static int
pool_whole(void)
{
	struct worker	*w;
	size_t		 n = 0;
	int		 i;

	for (i = IDLE; i <= BUSY; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			n += w->gen == pool.gen &&
			    now - w->started >= TRIAL_TIME;
	return n >= opt.min && (!opt.variable || (listener.nconns == 0 &&
	    fd_ready(listener.fd, POLLIN) == 0));
}

/*
 * Lets workers of old generations go until keep of them are left: the busy
 * after their request, all others at once.  Workers that are LOST stay, because
 * SIGCHLD is about to tell why.  Returns how many were busy.
 */
static size_t
pool_release(size_t keep)
{
	struct worker	*w, *next;
	size_t		 busy = 0, old = pool_old();
	int		 i;

	for (i = STARTING; i <= BUSY; i++)
		TAILQ_FOREACH_SAFE(w, &pool.q[i], entry, next) {
			if (w->gen == pool.gen || w->last || old <= keep)
				continue;
			old--;
			if (w->state == BUSY) {
				w->last = 1;
				busy++;
			} else
				worker_stop(w);
		}
	return busy;
}

/*
 * Puts right what a worker may have changed for all that share it: O_NONBLOCK
 * on the pipe for output, by which the next ones would lose some, and on the
 * listener of a fixed pool, and the length of that one's backlog.  What
 * shutdown(2) did to it cannot be undone.
 */
static void
shared_restore(int fd)
{
	/* Cannot fail: all these are open, and fd listens already. */
	if (out.pipe[1] != -1)
		(void)fcntl(out.pipe[1], F_SETFL, 0);
	if (!opt.variable) {
		(void)fcntl(fd, F_SETFL, 0);
		(void)listen(fd, opt.backlog);
	}
}

/*
 * Begins a new generation, which has no worker yet: pool_fill() starts its
 * workers.  The one before serves until all of these are ready.
 * Workers of a fixed pool that have not left since an earlier reload are
 * killed.
 */
static void
pool_renew(void)
{
	struct worker	*w;

	while (!opt.variable && (w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL)
		worker_kill(w, SIGKILL);
	shared_restore(listener.fd);
	pool.gen++;
	memset(pool.n, 0, sizeof(pool.n));
	pool.renewing = 1;
	pool.fresh = pool.awaited = opt.min;
}

/*
 * ---------- The trial: its course
 */

/*
 * The trial failed, and why.  A start fails; a reload leaves the old workers.
 * A worker that hangs stays on trial until it is reaped: without trials, each
 * vacant place would take one more.  A pool that is whole is not called broken.
 */
static void __attribute__((__format__(printf, 1, 2)))
trial_fail(const char *fmt, ...)
{
	struct worker	*w = trial.w;
	va_list		 ap;
	char		 why[sizeof(trial.why)];
	int		 hangs = w != NULL && w->exec != -1;

	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (w != NULL && !w->reaped)
		worker_kill(w, SIGKILL);
	if (!start.done) {
		start_fail("", why);
		return;
	}
	if (trial.renews)
		logit(LOG_ERR, "reload failed, old workers that stay: %zu: %s",
		    pool_serving(), why);
	if (trial.prog == BROKEN || hangs ||
	    (trial.prog == DOUBT && trial.why[0] != '\0')) {
		if (!pool_whole())
			trial_broken(why);
	} else if (trial.prog == DOUBT) {
		(void)strlcpy(trial.why, why, sizeof(trial.why));
		trial.due = later(DOUBT_TIME);
	}
	trial.renews = 0;
}

/*
 * The worker on trial has lived for TRIAL_TIME: the trial has passed.  With -r
 * the worker joins the pool if that begins a new generation, is short of n, or
 * somebody waits; else it is told to go, and what follows waits until it has
 * gone.
 */
static void
trial_pass(struct worker *w)
{
	int	 grows;

	logit(LOG_DEBUG, "worker %ld passed its trial", (long)w->pid);
	trial_good("a trial passed");
	grows = !trial.renews && pool_missing(opt.min) == 0;
	if (opt.variable && (!grows || (pool_missing(opt.max) > 0 &&
	    listener.nconns > pool.n[STARTING]))) {
		trial.w = NULL;
		if (trial.renews)
			pool_renew();
		queue_remove(w);
		w->gen = pool.gen;
		queue_insert(w, IDLE);
		if (pool.awaited > 0 && --pool.awaited == 0)
			pool.ready = later(READY_TIME);
		if (pool.fresh > 0)
			pool.fresh--;
		else
			count.restarts += !grows;
		return;
	}
	if (kill(w->pid, 0) == -1 && errno == EPERM) {
		trial_fail("worker %ld of %.300s has become another user, whom "
		    "we cannot tell to go", (long)w->pid, opt.prog[0]);
		return;
	}
	trial.passed = 1;
	fd_close(&w->ctl);
	worker_kill(w, SIGTERM);
	w->due = later(TRIAL_GRACE);
}

/*
 * Puts a worker on trial, if that is asked for or due.  In doubt, the workers
 * that are starting go first, in case there is room for n of them only, and a
 * shortage, in which the program has no part, ends nothing.
 */
static void
trial_next(void)
{
	int	 renews = trial.asked && !pool.renewing;

	if (trial.w != NULL || ending.begun || (!renews && (!start.done ||
	    trial.prog == GOOD || !due(trial.due) ||
	    (trial.prog == DOUBT && (pool.n[STARTING] > 0 ||
	    pool_vacant(opt.min) > 0)))))
		return;
	if (!renews && pool_whole()) {
		trial_good("the pool is whole");
		return;
	}
	trial.renews = renews;
	trial.asked = trial.asked && !renews;
	trial.passed = 0;
	shared_restore(listener.trial);
	if ((trial.w = worker_start(TRIAL)) != NULL)
		return;
	if (renews || trial.prog == BROKEN)
		trial_fail("cannot start a worker: %s", strerror(errno));
	else
		trial.due = later(SHORT_RETRY);
}

/*
 * The worker on trial was reaped with status ws.  What is left of its group has
 * no client and goes, too.
 */
static void
trial_dead(const struct worker *w, int ws)
{
	const char	*hint = "";

	(void)kill(-w->pid, SIGKILL);
	trial.w = NULL;
	if (ending.begun)
		return;
	if (trial.passed) {
		if (trial.renews)
			pool_renew();
		return;
	}
	if (w->state == KILLED)		/* why was told then */
		return;
	if (WIFEXITED(ws) && WEXITSTATUS(ws) == 0)
		hint = opt.variable ? ": does it speak what -r asks for?" :
		    ": does it put itself into the background?";
	else if (WIFSIGNALED(ws) && WTERMSIG(ws) == SIGABRT)
		hint = ": OpenBSD ends a program so if its dynamic loader is "
		    "missing in the jail";
	trial_fail("worker %ld of %.300s %s%s", (long)w->pid, opt.prog[0],
	    cause(w, ws), hint);
}

/*
 * ---------- How a worker ends, or is lost
 */

/*
 * A worker has ended unasked, or broke the protocol: counts that, here only.
 * Dying young, it calls the program in doubt, and the next trial is begun when
 * TRIAL_VALID is over, but in a storm of such deaths at once.  Unless it has
 * recycled itself it may be one too many, see pool_vacant().
 */
static void
death(const struct worker *w, int failed)
{
	count.deaths++;
	if (ending.begun || w->gen != pool.gen ||
	    now - w->started >= TRIAL_TIME)
		return;
	if (failed || (opt.variable && w->served == 0)) {
		(void)limit(STORM);
		row();
	} else
		(void)limit(EXITS);
	if (trial.prog == GOOD) {
		trial.prog = DOUBT;
		trial.why[0] = '\0';
	} else if (trial.prog == DOUBT && trial.why[0] != '\0' &&
	    !pool_whole())
		trial_broken(trial.why);
	if (trial.prog == DOUBT && limit_full(STORM))
		trial.due = now;
}

/* Stops a worker that broke the protocol; what says how. */
static void
worker_fault(struct worker *w, const char *what)
{
	if (w == trial.w) {
		trial_fail("worker %ld of %.300s %s", (long)w->pid,
		    opt.prog[0], what);
		return;
	}
	logit(limit(FAILURES) ? LOG_ERR : LOG_DEBUG, "worker %ld %s: stopped",
	    (long)w->pid, what);
	death(w, 1);
	worker_stop(w);
}

/* A worker was not executed, which no request can have caused. */
static void
worker_unexecuted(struct worker *w, const struct report *rep)
{
	const char	*hint = "";
	char		 why[1024];

	/* What was seen at the start may have changed since. */
	if (rep->error == ENOENT && start.done)
		hint = ", or its interpreter or dynamic loader is missing in "
		    "the jail";
	else if (rep->error == ENOENT && start.there)
		hint = ": the file is there, but its interpreter or dynamic "
		    "loader is missing in the jail";
	if (rep->call[0] != '\0')
		(void)snprintf(why, sizeof(why), "cannot set up a worker: "
		    "%s: %s", rep->call, strerror(rep->error));
	else
		(void)snprintf(why, sizeof(why), "cannot execute %.300s in "
		    "%.300s as %.100s: %s%s", opt.prog[0], opt.jail,
		    opt.procuser, rep->error == ETIMEDOUT ?
		    "the file system does not answer" : strerror(rep->error),
		    hint);
	if (w == trial.w)
		trial_fail("%s", why);
	else if (w->state == STARTING && !start.done)
		start_fail("", why);
	else if (w->state == STARTING) {
		if (trial.prog != BROKEN)
			trial_broken(why);
		death(w, 1);
		worker_kill(w, SIGKILL);
	}
}

/*
 * The exec pipe of a worker is readable.  At its end prog was executed, or the
 * child was killed before, which SIGCHLD tells, and from now on the control
 * socket is polled.  Else there is a report why prog was not executed.
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
	if (n == sizeof(rep))
		worker_unexecuted(w, &rep);
	else if (w == trial.w)
		w->due = later(TRIAL_TIME);
	else if (w->state == STARTING) {
		worker_state(w, IDLE);
		if (w->gen == pool.gen && pool.awaited > 0 &&
		    --pool.awaited == 0)
			pool.ready = later(READY_TIME);
	}
}

/*
 * A worker has not executed prog within EXEC_TIME: the file system may not
 * answer.  But if the manager was stopped, it may have done so long ago.
 */
static void
worker_stuck(struct worker *w)
{
	static const struct report late = { ETIMEDOUT, "" };

	if (fd_ready(w->exec, POLLIN) == 1)
		worker_executed(w);
	else
		worker_unexecuted(w, &late);
}

/*
 * Puts a connection that no worker has read back in front of those that wait.
 * There is room: each has had a worker, or could have had one.
 */
static void
conn_keep(int conn)
{
	memmove(listener.conns + 1, listener.conns,
	    listener.nconns * sizeof(*listener.conns));
	listener.conns[0].fd = conn;
	listener.conns[0].since = now;
	listener.nconns++;
}

/*
 * A control socket is at its end.  A connection that is known to be unread
 * goes to another worker; any other is closed, because the request might run
 * twice.  Most likely the worker is dying, so SIGCHLD is given time to tell
 * how.
 */
static void
worker_lost(struct worker *w, int unread)
{
	if (w->conn != -1 && unread && !ending.begun) {
		conn_keep(w->conn);
		w->conn = -1;
	}
	worker_cut(w);
	if (w->state == IDLE || w->state == BUSY) {
		w->due = later(LOST_GRACE);
		worker_state(w, LOST);
	}
}

/*
 * Reads what a worker has written: its cookie, whole or in pieces, by which it
 * is done with its connection, or else it breaks the protocol.  Returns whether
 * there may be more.
 */
static int
worker_read(struct worker *w)
{
	ssize_t	 n;

	n = read(w->ctl, w->said + w->saidlen, sizeof(w->said) - w->saidlen);
	switch (n) {
	case -1:
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		/*
		 * On Linux ECONNRESET says that our message was never read.
		 * The BSDs do not say that, so there it may have been read.
		 */
		worker_lost(w, errno == ECONNRESET && w->saidlen == 0);
		return 0;
	case 0:
		worker_lost(w, 0);
		return 0;
	}
	w->saidlen += n;
	if (w->state != BUSY)
		worker_fault(w, "wrote to its control socket unasked");
	else if (w->saidlen > sizeof(w->cookie))
		worker_fault(w, "wrote more than its cookie");
	else if (w->saidlen == sizeof(w->cookie) &&
	    memcmp(w->said, &w->cookie, sizeof(w->cookie)) != 0)
		worker_fault(w, "wrote a wrong cookie");
	else if (w->saidlen == sizeof(w->cookie)) {
		fd_close(&w->conn);
		w->saidlen = 0;
		w->served++;
		listener.due = 0;
		logit(LOG_DEBUG, "worker %ld is done with connection %llu",
		    (long)w->pid, (unsigned long long)w->cookie);
		if (w->last)
			worker_stop(w);
		else
			worker_state(w, IDLE);
	}
	return 1;
}

/*
 * Forgets the workers that were reaped, unless somebody of their process group
 * is waited for.  Where these are not our children no signal tells of them, so
 * we look again.
 */
static void
groups_look(void)
{
	struct worker	*w, *next;
	int		 i;

	if (pool.look == NEVER)
		return;
	pool.look = NEVER;
	for (i = LEAVING; i <= KILLED; i++)
		TAILQ_FOREACH_SAFE(w, &pool.q[i], entry, next) {
			if (!w->reaped)
				continue;
			if (w->pid != 0 && kill(-w->pid, 0) == 0) {
				pool.look = later(GROUP_LOOK);
				continue;
			}
			queue_remove(w);
			pool.total--;
			free(w);
		}
}

/*
 * A worker was reaped with status ws.  First all is read that it wrote, since
 * that decides what becomes of its connection.  Others of its process group
 * may have that connection or the listener: if the worker was told to go, so
 * are they, and have what is left of its time; if it failed, they are killed;
 * if it recycled itself, they may finish a job.
 */
static void
worker_dead(struct worker *w, int ws)
{
	int	 asked, failed, prio;

	w->reaped = 1;
	worker_executed(w);
	while (w->ctl != -1 && worker_read(w))
		continue;
	worker_cut(w);		/* a child of it may hold the other ends */
	output_drain();

	asked = w->state == LEAVING || w->state == KILLED;
	failed = !WIFEXITED(ws) || WEXITSTATUS(ws) != 0;
	if (w == trial.w)
		trial_dead(w, ws);
	else {
		if (asked)
			prio = WIFEXITED(ws) || WTERMSIG(ws) == SIGTERM ||
			    WTERMSIG(ws) == SIGKILL ? LOG_DEBUG : LOG_ERR;
		else if (failed)
			prio = limit(FAILURES) ? LOG_ERR : LOG_DEBUG;
		else
			prio = limit(RECYCLINGS) ? LOG_INFO : LOG_DEBUG;
		logit(prio, opt.variable ?
		    "worker %ld %s, served %llu" : "worker %ld %s",
		    (long)w->pid, cause(w, ws), (unsigned long long)w->served);
		if (!asked)
			death(w, failed);
		if (asked)
			(void)kill(-w->pid, w->state == KILLED ? SIGKILL :
			    SIGTERM);
		else if (failed || ending.begun)
			(void)kill(-w->pid, SIGKILL);
	}
	if (!asked) {
		w->pid = 0;
		worker_state(w, KILLED);
	}
	pool.look = now;
	/* A process has gone, and descriptors with it. */
	listener.due = pool.start_due = 0;
}

/* Reaps all children that have ended. */
static void
pool_reap(void)
{
	struct worker	*w;
	pid_t		 pid;
	int		 ws;

	while ((pid = waitpid(-1, &ws, WNOHANG)) > 0)
		if ((w = worker_find(pid)) != NULL)
			worker_dead(w, ws);
	groups_look();
}

/*
 * ---------- The pool: who is started, let go, released
 */

/*
 * Starts a worker for the pool.  Returns 0 if it could not: then a start
 * fails, and else it is tried again after SHORT_RETRY, or when a worker has
 * gone.  A reload may find no room for two generations: then only as many of
 * the old stay as new ones are missing.
 */
static int
pool_start(int grows)
{
	int	 error;

	if (worker_start(STARTING) != NULL) {
		if (pool.fresh > 0)
			pool.fresh--;
		else
			count.restarts += !grows;
		return 1;
	}
	error = errno;
	pool.start_due = later(SHORT_RETRY);
	if (!start.done)
		start_fail("cannot start a worker: ", strerror(error));
	else if (limit(NO_WORKER))
		logit(LOG_ERR, "cannot start a worker: %s, serving with %zu",
		    strerror(error), pool_serving());
	if (pool.renewing && pool_missing(opt.min) < opt.min)
		(void)pool_release(pool_missing(opt.min));
	return 0;
}

/*
 * Starts workers that are missing to n, at most SLICE in a turn, so that
 * connections are handed out meanwhile.
 */
static void
pool_fill(void)
{
	int	 i;

	for (i = 0; i < SLICE && pool_vacant(opt.min) > 0; i++)
		if (!pool_start(0))
			return;
	if (i == SLICE)
		wake = now;
}

/*
 * The start has succeeded when all workers have been executed, a reload when
 * they have had READY_TIME to make themselves ready: lets the old ones go, or
 * tells detach().  If that was killed, nobody wants this manager.
 */
static void
pool_renewed(void)
{
	size_t	 busy;
	int	 fd;

	if (!pool.renewing || pool.awaited > 0 || ending.begun ||
	    (start.done && !due(pool.ready)))
		return;
	pool.renewing = 0;
	busy = pool_release(0);
	if (start.done) {
		logit(LOG_INFO, "reloaded: %zu new worker%s, %zu of the old "
		    "still busy", opt.min, opt.min == 1 ? "" : "s", busy);
		return;
	}
	start.done = 1;
	/* The log cannot tell that there is none. */
	if (!log_heard() && fd_ready(STDERR_FILENO, POLLOUT) == 1)
		warnx("no syslogd: messages are lost unless -d shows them");
	/* Leaves the caller's terminal.  Cannot fail: all these are open. */
	for (fd = 0; !opt.debug && fd < CONTROL_FD; fd++)
		(void)dup2(nullfd, fd);
	if (opt.debug || write(start.fd, "", 1) == 1)
		logit(LOG_INFO, "started: %zu worker%s of %s in %s for %s",
		    opt.min, opt.min == 1 ? "" : "s", opt.prog[0], opt.jail,
		    opt.sockpath);
	else {
		logit(LOG_ERR, "the starting process is gone: stopping");
		stop(1, LEAVE_GRACE);
	}
	fd_close(&start.fd);
}

/*
 * Releases the workers above n that have been idle for -w, the one that was
 * idle for longest first.  Those that are STARTING or LOST do not count.
 */
static void
pool_shrink(void)
{
	struct worker	*w;

	while (!ending.begun && !pool.renewing &&
	    pool.n[IDLE] + pool.n[BUSY] > opt.min &&
	    (w = TAILQ_LAST(&pool.q[IDLE], workers)) != NULL &&
	    due(w->since + opt.waittime)) {
		logit(LOG_DEBUG, "worker %ld released after %lld s of "
		    "idleness", (long)w->pid,
		    (long long)(now - w->since) / SECOND);
		worker_stop(w);
	}
}

/*
 * Logs the line that SIGUSR1 and SIGINFO ask for, at the end of a turn of the
 * loop, when dead workers have been replaced.
 */
static void
status(void)
{
	size_t	 starting = pool.n[STARTING] + !TAILQ_EMPTY(&pool.q[TRIAL]);

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
 * ---------- Connections: accepted, handed out, waiting
 */

/*
 * Hands a connection and a new cookie to an idle worker.  Returns 1 if the
 * connection is the worker's.  Else it is still the caller's: 0 if the worker
 * was given up, -1 if there is a shortage.
 */
static int
worker_assign(struct worker *w, int conn)
{
	uint64_t	 cookie = count.handed + 1;
	struct iovec	 iov = { &cookie, sizeof(cookie) };
	union {
		struct cmsghdr	 hdr;
		unsigned char	 buf[64];	/* no constant on NetBSD */
	} control;
	struct msghdr	 msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = control.buf,
	    .msg_controllen = CMSG_SPACE(sizeof(int)) };
	struct cmsghdr	*cmsg;
	ssize_t		 n;

	memset(&control, 0, sizeof(control));
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
		worker_state(w, BUSY);
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
	listener.due = later(SHORT_RETRY);
	if (limit(NO_CONN))
		logit(LOG_ERR, "cannot hand out connections for now: %s",
		    strerror(errno));
	return -1;
}

/*
 * Returns the idle worker that gets the next connection, or NULL.  The new ones
 * of a reload may not be ready, and get none while there are old ones.
 */
static struct worker *
conn_worker(void)
{
	struct worker	*w = TAILQ_FIRST(&pool.q[IDLE]);

	return w != NULL && w->gen == pool.gen && pool_unready() ? NULL : w;
}

/*
 * Returns whether a connection may be taken on: by an idle worker, or by one
 * that is starting or soon may be, if that is not for those that wait.  Many
 * that wait would take the descriptors that workers need.
 */
static int
conn_room(void)
{
	size_t	 vacant = pool_vacant(opt.max);

	return !ending.begun && (conn_worker() != NULL || listener.nconns <
	    pool.n[STARTING] + (vacant < SLICE ? vacant : SLICE));
}

/* Nobody is in the backlog any more, which ends an episode of saturation. */
static void
conn_calm(void)
{
	if (listener.told)
		(void)limit(SATURATION);
	listener.backed = listener.told = 0;
	listener.full = NEVER;
}

/*
 * Accepts the next connection into conns.  In a shortage that is tried again
 * when a descriptor is closed, or after SHORT_RETRY.  Whether there is one more
 * is asked by poll(2), because on Linux an accept4(2) in vain costs 3 us, and a
 * poll(2) 0.2; but if nobody could take on before, nearly always there is.
 */
static void
conn_accept(void)
{
	int	 conn;

	do {
		conn = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
	} while (conn == -1 && (errno == EINTR || errno == ECONNABORTED));
	if (conn != -1) {
		listener.conns[listener.nconns].fd = conn;
		listener.conns[listener.nconns++].since = now;
		if (listener.full == NEVER &&
		    fd_ready(listener.fd, POLLIN) == 0)
			conn_calm();
	} else if (errno == EAGAIN || errno == EWOULDBLOCK)
		conn_calm();
	else {
		listener.due = later(SHORT_RETRY);
		if (limit(NO_CONN))
			logit(LOG_ERR, "cannot accept connections for now: %s",
			    strerror(errno));
	}
}

/*
 * Nobody can take on a connection, and some are in the backlog.  If that lasts
 * because all N workers are busy, it is logged.  A busy worker whose client has
 * hung up is about to be idle, and that client may be the one who waits; it is
 * given until the next look.
 */
static void
pool_full(void)
{
	struct worker	*w;
	int		 returning = 0;

	if (listener.full == NEVER)
		listener.full = now;
	if (listener.told || pool.renewing || pool_missing(opt.max) > 0 ||
	    !due(listener.full + FULL_TIME))
		return;
	if (fd_ready(listener.fd, POLLIN) == 0) {
		conn_calm();
		return;
	}
	TAILQ_FOREACH(w, &pool.q[BUSY], entry)
		if (w->hungup != w->cookie && fd_ready(w->conn, 0) == 1) {
			w->hungup = w->cookie;
			returning = 1;
		}
	if (returning) {
		listener.full = now;
		(void)later(FULL_TIME);
		return;
	}
	listener.told = 1;
	if (limit(SATURATION))
		logit(LOG_WARNING, "all %zu workers are busy and connections "
		    "wait: -N may be too low", opt.max);
}

/*
 * Hands connections to idle workers while there are both: first those that
 * wait, then those of the backlog.  The workers that are starting are for the
 * oldest of those that wait; if the next has waited for GROW_TIME, one more is
 * started, at most one in a turn.  Its client may be back before its worker
 * is, and two clients are no reason for a third worker.
 */
static void
pool_accept(void)
{
	struct worker	*w;
	int		 conn, rv;

	while (!ending.begun && due(listener.due)) {
		w = conn_worker();
		if (w != NULL && listener.nconns > 0) {
			conn = listener.conns[0].fd;
			memmove(listener.conns, listener.conns + 1,
			    --listener.nconns * sizeof(*listener.conns));
			if ((rv = worker_assign(w, conn)) != 1)
				conn_keep(conn);
			if (rv == -1)
				return;
		} else if (listener.backed && conn_room())
			conn_accept();
		else
			break;
	}
	if (listener.backed && !conn_room())
		pool_full();
	if (listener.nconns > pool.n[STARTING] && pool_vacant(opt.max) > 0 &&
	    due(listener.conns[pool.n[STARTING]].since + GROW_TIME) &&
	    pool_start(1))
		wake = now;
}

/*
 * ---------- The loop
 */

/* Collects what is polled. */
static void
poll_collect(void)
{
	struct worker	*w;
	int		 i;

	polled.n = 0;
	poll_add(sigpipe[0], NULL);
	poll_add(pool.idle != 0 || (opt.variable && start.done &&
	    !listener.backed && now >= listener.due) ? listener.fd : -1, NULL);
	poll_add(out.pipe[0], NULL);
	for (i = TRIAL; i <= STARTING; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			poll_add(w->exec != -1 ? w->exec : w->ctl, w);
	TAILQ_FOREACH(w, &pool.q[BUSY], entry)
		poll_add(w->ctl, w);
	polled.nhot = polled.n;
	if (opt.variable && !TAILQ_EMPTY(&pool.q[IDLE]) &&
	    (polled.calm || (polled.calm = due(polled.settle))))
		TAILQ_FOREACH(w, &pool.q[IDLE], entry)
			poll_add(w->ctl, w);
}

/*
 * Handles what poll(2) reported of n descriptors.  Workers that have just been
 * executed are handled before those that are done with a connection, so that
 * the latter are the first to get another.
 */
static void
events(int n)
{
	struct worker	*w;
	char		 drain[64];
	size_t		 i;

	for (i = 0; i < polled.n && n > 0; i++) {
		if (polled.fds[i].revents == 0)
			continue;
		n--;
		if (i < polled.nhot) {
			polled.calm = 0;
			polled.settle = now + SETTLE;
		}
		w = polled.owner[i];
		if (i == POLL_SIGNAL)
			while (read(sigpipe[0], drain, sizeof(drain)) > 0)
				continue;
		else if (i == POLL_LISTENER)
			listener.backed = opt.variable;
		else if (i == POLL_OUTPUT)
			(void)output_read();
		else if (polled.fds[i].fd == w->exec)
			worker_executed(w);
		else if (polled.fds[i].fd == w->ctl)
			(void)worker_read(w);
	}
}

/*
 * Acts on the signals that came; a stop goes before a SIGHUP.  SIGUSR1 has to
 * wait for the end of the turn, see turn().
 */
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
			start_fail("was told to stop while starting", "");
		else if (!ending.begun)
			stop(0, LEAVE_GRACE);
		if (n > 1 || ending.told)
			(void)kill_all();
		ending.told = 1;
	}
	if (got[SIGHUP]) {
		got[SIGHUP] = 0;
		trial.asked = 1;
		if (trial.w != NULL && trial.w->state == KILLED)
			logit(LOG_WARNING, "reload waits for worker %ld, which "
			    "hangs", (long)trial.w->pid);
	}
}

/* Does what is due for the end, then for the workers, then for the trial. */
static void
timers(void)
{
	struct worker	*w;

	if (ending.begun && pool.total > 0 && due(ending.due))
		finish_late();
	if ((w = trial.w) != NULL && w->state == TRIAL && due(w->due)) {
		if (trial.passed)
			worker_kill(w, SIGKILL);
		else if (w->exec != -1)
			worker_stuck(w);
		else if (opt.variable && w->ctl == -1)
			trial_fail("worker %ld of %.300s closed its control "
			    "socket", (long)w->pid, opt.prog[0]);
		else
			trial_pass(w);
	}
	while ((w = TAILQ_FIRST(&pool.q[STARTING])) != NULL && due(w->due))
		worker_stuck(w);
	while ((w = TAILQ_FIRST(&pool.q[LOST])) != NULL && due(w->due))
		worker_fault(w, "closed its control socket but lives");
	while ((w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL && due(w->due)) {
		logit(limit(DEAF) ? LOG_WARNING : LOG_DEBUG, "worker %ld did "
		    "not leave within %d s of SIGTERM: killed", (long)w->pid,
		    LEAVE_GRACE / SECOND);
		worker_kill(w, SIGKILL);
	}
	if (due(pool.look))
		groups_look();
	trial_next();
	limits_tell(0);
}

/* Makes ready for the first turn, which begins the trial of the start. */
static void
loop_begin(void)
{
	int	 i;

	for (i = 0; i < NSTATES; i++)
		TAILQ_INIT(&pool.q[i]);
	/* Whatever a row of reloads with workers that do not leave makes. */
	polled.cap = POLL_WORKER + GENERATIONS * (opt.max + 1);
	polled.fds = calloc(polled.cap, sizeof(*polled.fds));
	polled.owner = calloc(polled.cap, sizeof(*polled.owner));
	listener.conns = calloc(polled.cap, sizeof(*listener.conns));
	if (polled.fds == NULL || polled.owner == NULL ||
	    listener.conns == NULL)
		fatal("start", "");
	now = clock_ms();
	trial.asked = 1;
	wake = now;
}

/*
 * One turn of the loop.  Its order matters: what workers wrote is read before
 * they are reaped and before others are started, and connections are handed
 * out before a worker is found to be idle for too long.
 */
static void
turn(void)
{
	int	 n, error, wait = -1;

	poll_collect();
	if (wake != NEVER)
		wait = wake <= now ? 0 : wake - now > INT_MAX ? INT_MAX :
		    (int)(wake - now);
	n = poll(polled.fds, polled.n, wait);
	error = errno;
	now = clock_ms();
	wake = NEVER;
	if (n == -1 && error != EINTR) {
		if (error != EAGAIN && error != ENOMEM) {
			ending.status = 1;
			logit(LOG_ERR, "cannot wait for events: %s",
			    strerror(error));
			if (!ending.begun)
				stop(1, 0);
			finish();
		}
		/* Signals are heard all the same. */
		(void)poll(polled.fds, POLL_LISTENER, POLL_RETRY);
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

/*
 * ---------- Set-up: the command line, descriptors, signals
 */

/* Ends with status 1 and what the command line may be. */
static void __dead
usage(void)
{
	fprintf(stderr, "usage: kfcgi [-drv] [-l backlog] [-n workers] "
	    "[-N maxworkers] [-p chroot] [-s sockpath] [-u sockuser] "
	    "[-U procuser] [-w waittime] prog [arg0...]\n");
	exit(1);
}

/* Returns the value of a numeric option, or ends with a message. */
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

/*
 * Finds a user by name, or by a number that has a passwd entry, or ends with a
 * message.  Some systems have an errno for a user that is not there.
 */
static void
user(int flag, const char *arg, uid_t *uid, gid_t *gid)
{
	const char	*errstr;
	struct passwd	*pw;
	uid_t		 id;

	id = (uid_t)strtonum(arg, 0, UINT_MAX, &errstr);
	errno = 0;
	if ((pw = getpwnam(arg)) == NULL && errstr == NULL)
		pw = getpwuid(id);
	if (pw == NULL && errno != 0 && errno != ENOENT && errno != ESRCH)
		err(1, "-%c %s: cannot look the user up", flag, arg);
	if (pw == NULL)
		errx(1, "-%c %s: no such user", flag, arg);
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
}

/*
 * Reads the command line into opt, or ends with a message.  What depends on
 * another option is set when all have been read.
 */
static void
options(int argc, char *argv[])
{
	int	 c;

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
			break;
		case 'n':
			opt.min = number(c, optarg, 1, WORKERS_MAX);
			break;
		case 'N':
			opt.max = number(c, optarg, 1, WORKERS_MAX * 2);
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
			usage();
		}
	if (optind == argc)
		usage();
	opt.prog = argv + optind;
	if (opt.max == 0)
		opt.max = opt.min * 2;
	if (opt.variable && opt.max < opt.min)
		errx(1, "-N %zu: must not be below -n, which is %zu", opt.max,
		    opt.min);
	if (!opt.variable)
		opt.max = opt.min;
	if (opt.backlog == 0)
		opt.backlog = (int)opt.max * 2;
}

/*
 * Makes sure that descriptors 0 to 2 are open, and that nullfd is CONTROL_FD,
 * so that nothing else gets the number of the workers' control socket.  Closes
 * all others that the caller left open.
 */
static void
descriptors_open(void)
{
	closefrom(CONTROL_FD);
	do {
		if ((nullfd = open("/dev/null", O_RDWR)) == -1)
			err(1, "/dev/null");
	} while (nullfd < CONTROL_FD);
	if (fd_flags(nullfd, 0) == -1)
		err(1, "/dev/null");
}

/*
 * Raises the manager's limit of descriptors to what the workers may take, up to
 * the caller's hard limit: with -r each a control socket, and a connection or
 * an exec pipe, and after two reloads those of three generations are busy.
 */
static void
descriptors_limit(void)
{
	struct rlimit	 rl;
	rlim_t		 need = 6 * (rlim_t)opt.max + 32;

	if (getrlimit(RLIMIT_NOFILE, &caller_nofile) == -1)
		err(1, "getrlimit");
	rl = caller_nofile;
	if (rl.rlim_cur >= need)
		return;
	rl.rlim_cur = rl.rlim_max < need ? rl.rlim_max : need;
	/* If that fails, the shortage is met when it comes. */
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

/*
 * With -d the workers' standard output and standard error may be the caller's
 * terminal.  It is opened again for writing only, or they could read what is
 * typed there, and once more for us: poll(2) calls a terminal writable that has
 * no room for a line.  They cannot take it over either, see worker_child().
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
		if (to == STDERR_FILENO && (fd = open(name, O_WRONLY |
		    O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) != -1)
			errfd = fd;
	}
}

/*
 * Notes a signal, and makes poll(2) return also if it is yet to be called.
 * SIGINFO asks for what SIGUSR1 does.
 */
static void
on_signal(int sig)
{
	int	 saved = errno;

#ifdef SIGINFO
	if (sig == SIGINFO)
		sig = SIGUSR1;
#endif
	got[sig] = 1;
	if (write(sigpipe[1], "", 1) == -1)
		errno = saved;		/* a pipe that is full will do */
}

/*
 * Blocks all signals but those that are caught and those that stop or continue
 * a process; they mean nothing to the manager.  A signal that the caller
 * ignored gets its default back, because workers would go on ignoring it.
 */
static void
signals_init(void)
{
	static const int stops[] = { SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT };
	struct sigaction sa;
	size_t		 i;
	int		 sig;

	sigfillset(&allmask);
	sigfillset(&ourmask);
	sigemptyset(&nomask);
	(void)sigprocmask(SIG_SETMASK, &allmask, NULL);
	if (pipe(sigpipe) == -1 || fd_flags(sigpipe[0], O_NONBLOCK) == -1 ||
	    fd_flags(sigpipe[1], O_NONBLOCK) == -1)
		fatal("make a pipe for signals", "");
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_flags = SA_RESTART;
	sa.sa_handler = SIG_DFL;
	for (sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &sa, NULL); /* not all may be set */
	sa.sa_handler = on_signal;
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		if (sigaction(caught[i], &sa, NULL) == -1)
			fatal("catch signals", "");
		sigdelset(&ourmask, caught[i]);
	}
	for (i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		sigdelset(&ourmask, stops[i]);
	(void)sigprocmask(SIG_SETMASK, &ourmask, NULL);
}

/*
 * ---------- Set-up: the socket
 *
 * Root acts by name only where nobody but root can exchange one: each
 * directory on the way is root's, and not writable by others unless sticky;
 * that holds for a symbolic link, as /var/run may be, and its target as well.
 * Anywhere else all that is done at the path is done with the effective user
 * and groups of sockuser: whoever exchanges names there gets nothing done that
 * sockuser could not do anyway.
 *
 * In root's sticky directory others may make names and exchange their own.
 * What they put at the path is looked at, asked and removed, which follows no
 * link and costs them only what is theirs; what root has made there stays.
 */
static struct {
	struct sockaddr_un addr;	/* absolute: ss(8) and cleaners look */
	char		 weak[PATH_MAX]; /* the first name on the way that */
					/* others can exchange, or empty */
	struct stat	 st;		/* what we made, to recognise it */
} sock;

/*
 * Takes on the rights of sockuser, or root's again, or ends with a message.
 * Root's other groups do not come back: nothing that follows needs them.
 */
static void
sock_rights(int root)
{
	struct passwd	*pw;
	gid_t		 gid = getgid();

	if ((geteuid() == 0) == root)
		return;
	if (root ? seteuid(0) == -1 || setegid(gid) == -1 ||
	    setgroups(1, &gid) == -1 :
	    (pw = getpwuid(opt.sockuid)) == NULL ||
	    initgroups(pw->pw_name, opt.sockgid) == -1 ||
	    setegid(opt.sockgid) == -1 || seteuid(opt.sockuid) == -1)
		err(1, "cannot change to the rights of user %ld",
		    root ? 0L : (long)opt.sockuid);
}

/*
 * Removes the socket after a failed start, if it is still ours.  Whoever
 * exchanges it between lstat(2) and unlink(2) loses a file of their own.
 */
static void
sock_remove(void)
{
	struct stat	 st;

	sock_rights(sock.weak[0] == '\0');
	if (lstat(sock.addr.sun_path, &st) != -1 &&
	    st.st_dev == sock.st.st_dev && st.st_ino == sock.st.st_ino)
		(void)unlink(sock.addr.sun_path);
	sock_rights(1);
}

/* Ends with a message: what could not be done, and the reason, an errno. */
static __dead void
sock_fail(const char *what, int reason)
{
	sock_remove();
	errno = reason;
	err(1, "cannot %s socket %s%s%s", what, opt.sockpath, sock.weak[0] ==
	    '\0' ? "" : " with sockuser's rights, used as others than root "
	    "can change ", sock.weak);
}

/*
 * Sets sock.weak by a look at what is before each slash of the path, or ends
 * with a message.  Where that is a link, goes on with the path it leads to.
 */
static void
sock_way(void)
{
	struct stat	 st;
	char		 path[PATH_MAX], to[PATH_MAX], *name;
	size_t		 len, room;
	ssize_t		 n;
	int		 links = 0;

	(void)strlcpy(path, sock.addr.sun_path, sizeof(path));
	for (len = 0; path[len += strcspn(path + len, "/")] != '\0'; len++) {
		(void)strlcpy(sock.weak, path, len == 0 ? 2 : len + 1);
		if (lstat(sock.weak, &st) == -1)
			goto fail;
		if (st.st_uid != 0 || (!S_ISLNK(st.st_mode) &&
		    (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
		    (st.st_mode & S_ISVTX) == 0))
			return;
		if (!S_ISLNK(st.st_mode))
			continue;
		if ((n = readlink(sock.weak, to, sizeof(to) - 1)) == -1)
			goto fail;
		to[n] = '\0';
		name = to[0] == '/' ? sock.weak : strrchr(sock.weak, '/') + 1;
		room = sizeof(sock.weak) - (size_t)(name - sock.weak);
		errno = links == LINKS_MAX ? ELOOP : ENAMETOOLONG;
		if (links++ == LINKS_MAX || (size_t)snprintf(name, room,
		    "%s%s", to, path + len) >= room)
			goto fail;
		(void)strlcpy(path, sock.weak, sizeof(path));
		len = (size_t)-1;	/* from the beginning */
	}
	sock.weak[0] = '\0';
	return;
fail:
	err(1, "cannot reach the directory of socket %s: %s", opt.sockpath,
	    sock.weak);
}

/*
 * Returns whether some process has open what is at the path (SOCK_DGRAM), or
 * listens there (SOCK_STREAM), or ends with a message.  A root that lacks the
 * capability to connect asks with sockuser's rights.
 */
static int
sock_ask(int type)
{
	int	 answer, fd;

	if ((fd = socket(AF_UNIX, type, 0)) == -1 ||
	    fd_flags(fd, O_NONBLOCK) == -1)
		sock_fail("connect to", errno);
	while ((answer = connect(fd, (struct sockaddr *)&sock.addr,
	    sizeof(sock.addr)) == -1 ? errno : 0) == EACCES &&
	    geteuid() == 0 && opt.sockuid != 0)
		sock_rights(0);
	sock_rights(sock.weak[0] == '\0');
	close(fd);
	if (answer == ECONNREFUSED || answer == ENOENT)
		return 0;
	/* A full backlog is EAGAIN, another type of socket EPROTOTYPE. */
	if (answer != 0 && answer != EAGAIN && answer != EINPROGRESS &&
	    answer != EPROTOTYPE)
		sock_fail("connect to", answer);
	return 1;
}

/*
 * Removes a leftover, a socket to which nobody can connect, or ends with a
 * message if there is anything else.
 *
 * A datagram socket, which no server notices, is refused if no process has
 * the other open.  If one has, a stream socket asks whether that listens; a
 * live server gets one client, which is gone at once.  This goes on for
 * PROBE_TIME: the BSDs refuse also when a backlog is full, and the workers of
 * a manager that was killed may still be dying.
 */
static void
sock_clear(void)
{
	struct stat	 st;
	int		 left, live = 0;

	if (lstat(sock.addr.sun_path, &st) == -1) {
		if (errno == ENOENT)
			return;
		sock_fail("look at", errno);
	}
	if (!S_ISSOCK(st.st_mode))
		errx(1, "%s: exists and is not a socket", opt.sockpath);
	for (left = PROBE_TIME; left > 0 && sock_ask(SOCK_DGRAM);
	    left -= PROBE_PAUSE) {
		live = live || sock_ask(SOCK_STREAM);
		(void)poll(NULL, 0, PROBE_PAUSE);
	}
	if (left <= 0 && live)
		errx(1, "%s: is in use by a running server", opt.sockpath);
	if (unlink(sock.addr.sun_path) == -1 && errno != ENOENT)
		sock_fail("remove", errno);
}

/*
 * Gives the socket its owner, group and mode, or ends with a message.  Nothing
 * is done to what somebody else has put there.  Where others can exchange
 * names, the mode is not changed, since chmod(2) follows links, and a stranger
 * may not own the directory: a default ACL there lets in whom no mode shows.
 */
static void
sock_own(char *path)
{
	struct stat	 dir, *st = &sock.st;
	char		*name = strrchr(path, '/') + 1, first = *name;

	errno = EPERM;
	if (lstat(path, st) == -1 || !S_ISSOCK(st->st_mode) ||
	    st->st_uid != geteuid() || ((st->st_mode & 07777) != 0660 &&
	    (sock.weak[0] != '\0' || chmod(path, 0660) == -1)) ||
	    ((st->st_uid != opt.sockuid || st->st_gid != opt.sockgid) &&
	    lchown(path, opt.sockuid, opt.sockgid) == -1) ||
	    lstat(path, st) == -1 || (st->st_mode & 07777) != 0660 ||
	    st->st_uid != opt.sockuid || st->st_gid != opt.sockgid)
		sock_fail("set owner and mode of", errno);
	if (sock.weak[0] == '\0')
		return;
	dir.st_uid = (uid_t)-1;		/* unless exchanged meanwhile */
	*name = '\0';
	(void)stat(path, &dir);
	*name = first;
	if (dir.st_uid != 0 && dir.st_uid != opt.sockuid &&
	    dir.st_uid != opt.procuid) {
		sock_remove();
		errx(1, "-s %s: its directory belongs to user %ld, who could "
		    "let others connect", opt.sockpath, (long)dir.st_uid);
	}
}

/*
 * Makes a stream socket at the path, with mode 0660 from the beginning, that
 * listens, and stores its descriptor, or ends with a message.  That of the
 * trial loses its name before it listens: no client can ever connect to it.
 */
static void
sock_make(int *fd)
{
	mode_t	 mask = umask(0117);

	if ((*fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1 ||
	    fd_flags(*fd, opt.variable ? O_NONBLOCK : 0) == -1 ||
	    bind(*fd, (struct sockaddr *)&sock.addr, sizeof(sock.addr)) == -1)
		sock_fail("make", errno);
	umask(mask);
	if (fd == &listener.fd)
		sock_own(sock.addr.sun_path);
	else if (unlink(sock.addr.sun_path) == -1)
		sock_fail("remove", errno);
	if (listen(*fd, opt.backlog) == -1)
		sock_fail("listen on", errno);
}

/*
 * Opens the listening socket, and for the fixed pool that of the trial, or
 * ends with a message.  The jail and what is at the socket's path are looked
 * at before anything is touched.
 */
static void
sock_open(void)
{
	struct stat	 st;
	char		 cwd[PATH_MAX] = "";
	size_t		 len, size = sizeof(sock.addr.sun_path);

	if (stat(opt.jail, &st) == -1)
		err(1, "-p %s", opt.jail);
	if (!S_ISDIR(st.st_mode))
		errx(1, "-p %s: not a directory", opt.jail);
	if (opt.sockpath[0] == '\0')
		errx(1, "-s: socket path is empty");
	if (opt.sockpath[0] != '/' && getcwd(cwd, sizeof(cwd)) == NULL)
		err(1, "cannot find the directory of -s %s", opt.sockpath);
	sock.addr.sun_family = AF_UNIX;
	len = (size_t)snprintf(sock.addr.sun_path, size, "%s%s%s", cwd,
	    cwd[0] == '\0' || cwd[1] == '\0' ? "" : "/", opt.sockpath);
	if (len >= size)
		errx(1, "-s %s: path is too long for a socket: %zu bytes from "
		    "the root, at most %zu bytes", opt.sockpath, len, size - 1);
	sock_way();
	if (sock.weak[0] != '\0' && opt.sockuid == 0)
		errx(1, "-s %s: others than root can change %s, so -u has to "
		    "name a user who may make the socket", opt.sockpath,
		    sock.weak);
	sock_rights(sock.weak[0] == '\0');
	sock_clear();
	if (!opt.variable)
		sock_make(&listener.trial);
	sock_make(&listener.fd);
	sock_rights(1);
}

/*
 * ---------- Set-up: two processes, the jail
 */

/*
 * Without -d, splits into the manager, which returns and leaves the caller's
 * session, and the process that waits for the outcome of the start, as root and
 * outside the jail.  A byte on the pipe says that the start has succeeded.  At
 * end-of-file it has failed, and the manager has said why unless it was killed.
 */
static void
detach(void)
{
	char	 c;
	ssize_t	 n;
	int	 p[2], ws;

	manager = getpid();
	if (opt.debug)
		return;
	fflush(NULL);
	if (pipe(p) == -1 || fd_flags(p[0], 0) == -1 ||
	    fd_flags(p[1], 0) == -1 || (manager = fork()) == -1) {
		warn("cannot start");
		sock_remove();
		exit(1);
	}
	if (manager != 0) {
		close(p[1]);
		fd_close(&listener.fd);
		fd_close(&listener.trial);
		while ((n = read(p[0], &c, 1)) == -1 && errno == EINTR)
			continue;
		if (n == 1)
			_exit(0);
		sock_remove();
		if (waitpid(manager, &ws, 0) == manager && WIFSIGNALED(ws))
			warnx("the manager was killed by signal %d while "
			    "starting", WTERMSIG(ws));
		_exit(1);
	}
	close(p[0]);
	start.fd = p[1];
	manager = getpid();
	if (setsid() == -1)
		fatal("leave the session", "");
}

/*
 * Enters the jail and drops privileges for good, or ends with a message.
 * Without -U the manager stays root, as the workers do, and can signal those
 * that drop their privileges themselves.
 */
static void
jail_enter(void)
{
	if (chroot(opt.jail) == -1 || chdir("/") == -1)
		fatal("enter jail ", opt.jail);
	if (setgroups(1, &opt.procgid) == -1 ||
	    setresgid(opt.procgid, opt.procgid, opt.procgid) == -1 ||
	    setresuid(opt.procuid, opt.procuid, opt.procuid) == -1)
		fatal("become user ", opt.procuser);
	if (opt.procuid == 0)
		logit(LOG_WARNING, "workers run as root: no -U was given, "
		    "or it names root");
	errno = EPERM;
	if ((opt.procuid != 0 && (setuid(0) != -1 || seteuid(0) != -1)) ||
	    getuid() != opt.procuid || geteuid() != opt.procuid ||
	    getgid() != opt.procgid || getegid() != opt.procgid)
		fatal("drop privileges for good as user ", opt.procuser);
}

int
main(int argc, char *argv[])
{
	struct stat	 st;

	descriptors_open();
	options(argc, argv);
	if (geteuid() != 0)
		errx(1, "need root privileges");

	descriptors_limit();
	terminal_narrow();
	sock_open();
	detach();
	signals_init();
	/* While we are outside the jail. */
	tzset();
	openlog("kfcgi", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	if (!opt.debug && (pipe(out.pipe) == -1 ||
	    fd_flags(out.pipe[0], O_NONBLOCK) == -1 ||
	    fd_flags(out.pipe[1], 0) == -1))
		fatal("make a pipe for the workers' output", "");
	/*
	 * A worker that opens it again as /dev/stderr on Linux can write to it
	 * but not read what others wrote.  Fails where pipes have no mode.
	 */
	if (!opt.debug)
		(void)fchmod(out.pipe[1], 0222);
	jail_enter();
	/* execve(2) says ENOENT also for a missing interpreter. */
	start.there = stat(opt.prog[0], &st) == 0;
	if ((opt.variable ? setenv("FCGI_LISTENSOCK_DESCRIPTORS", "3", 1) :
	    unsetenv("FCGI_LISTENSOCK_DESCRIPTORS")) == -1)
		fatal("set the environment", "");
	if (pledge(opt.variable ? "stdio proc exec unix sendfd" :
	    "stdio proc exec unix", NULL) == -1)
		fatal("pledge", "");
#ifdef __linux__
	/*
	 * What a worker leaves behind stays our child: systemd then finds the
	 * main process of a unit.  Kernels that cannot do that do without.
	 */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
#endif
	loop_begin();
	while (!ending.begun || pool.total > 0)
		turn();
	finish();
}
