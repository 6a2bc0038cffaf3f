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
 *	DRAIN	 as BUSY, but leaves when the cookie is back
 *	LOST	 closed its control socket: it is dying, or just broken
 *	LEAVING	 was told to go (SIGTERM)
 *	KILLED	 was made to go (SIGKILL)
 *
 * The pool is what is STARTING, IDLE, BUSY or LOST of the present generation.
 * A worker is forgotten when it has been reaped, never before.
 *
 * An accepted connection is in listener.conns while it waits for a worker, in
 * its worker's conn while that is busy, and closed when the cookie is back
 * (worker_ack), when the worker is given up (worker_cut), or at the end if it
 * has no worker yet (stop).
 *
 * All signals are blocked except inside ppoll(2).  Until it ends, the manager
 * waits nowhere else.
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

/* Times, in milliseconds. */
#define SECOND		1000
#define NS		1000000		/* nanoseconds in one */
#define EXEC_TIME	20000		/* to execute prog */
#define TRIAL_TIME	1000		/* who dies sooner dies young */
#define TRIAL_GRACE	500		/* for a worker that passed to leave */
#define TRIAL_VALID	10000		/* after one passed, no doubt */
#define RETRY_MIN	100		/* first pause after a failed trial */
#define RETRY_MAX	10000		/* longest pause; it doubles */
#define STORM_PAUSE	10000		/* between trials because of storms */
#define ROW_GAP		10000		/* so long without crash ends a row, */
#define ROW_LONG	10000		/* and a row so long is logged */
#define LOST_GRACE	1000		/* from end-of-file to SIGTERM */
#define LEAVE_GRACE	20000		/* from SIGTERM to SIGKILL */
#define FAIL_GRACE	2000		/* the same after a failed start */
#define KILL_GRACE	5000		/* from SIGKILL to our end without it */
#define SHORT_RETRY	1000		/* without descriptors or memory */
#define GROW_WAIT	10		/* for a worker that is coming back */
#define LEFT_TIME	100		/* it may be, so long after a hangup */
#define FULL_TIME	100		/* of saturation until it is logged */
#define EPISODE		20000		/* of calm until it is logged again */
#define SETTLE		100		/* without an event: all are polled */
#define POLL_RETRY	100		/* when ppoll(2) lacks memory */
#define SIGNAL_CHECK	10		/* longest time between two looks */
#define PROBE_TIME	1000		/* for a busy server to take us */
#define PROBE_PAUSE	20		/* from one look to the next */

#define LINKS_MAX	32		/* symbolic links to the socket */
#define SLICE		8		/* workers started in a turn */
#define STORM		100		/* young deaths, restarts in a second */
#define KINDS		8		/* of death, joined in the log */

#define LINE_SIZE	1000		/* bytes of output in a syslog line */
#define LINES_MAX	100		/* lines of output in a second */
#define OUTPUT_CHUNK	16384		/* bytes of it read at a time */
#define OUTPUT_TURNS	8		/* reads at most when a worker died */
#define WORDS_SIZE	8192		/* bytes of it shown if a start fails */

/* In this order: those from STARTING to BUSY serve, or soon will. */
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
	pid_t		 pid;		/* and process group, once it made it */
	size_t		 slot;		/* in polled; 0: none */
	int		 exec;		/* pipe, closed by execve(2); or -1 */
	int		 ctl;		/* control socket, with -r; or -1 */
	int		 conn;		/* its connection, or -1 */
	int64_t		 hungup;	/* when its client was seen so, or 0 */
	uint64_t	 cookie;	/* of conn */
	unsigned char	 said[2 * sizeof(uint64_t)]; /* what it wrote back */
	size_t		 saidlen;
	uint64_t	 served;	/* connections it has finished */
	int64_t		 started;	/* time of fork(2) */
	int64_t		 since;		/* time it entered its state */
	int64_t		 due;		/* STARTING, LOST, LEAVING: limit */
	int		 failed;	/* not executed, which was logged */
	int		 reaped;	/* pid may be another process by now */
};

/* How a worker came to its end. */
enum end {
	ASKED,			/* we told it to go, or killed it */
	RECYCLED,		/* left by itself with status 0 */
	CRASHED			/* all others */
};

/* What a child reports when it cannot execute prog. */
struct report {
	int		 error;		/* errno */
	char		 call[28];	/* what failed; empty: execve(2) */
};

TAILQ_HEAD(workers, worker);

#define NO_GEN		-1

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

/*
 * The start.  The manager cannot undo it, being jailed and no longer root, so
 * another process waits in start_wait() for its outcome: the one that the
 * shell waits for, or with -d a child.
 */
static struct {
	int		 done;		/* it has succeeded */
	int		 fd;		/* pipe to the process that waits */
	pid_t		 waiter;	/* that process with -d, or -1 */
	int		 progerr;	/* errno of stat(prog), or 0 */
	int		 progdir;	/* prog is a directory */
	char		 words[WORDS_SIZE]; /* the last the workers wrote */
	size_t		 nwords;
} start = { .fd = -1, .waiter = -1, .progerr = -1 };

/*
 * The end of the manager.  A start that fails sets the status before it logs
 * why, since vlogit() looks at that.
 */
static struct {
	int		 begun;
	int		 told;		/* by a signal; a second one kills */
	int64_t		 due;		/* when finish_late() is called */
	int		 status;	/* for exit(3) */
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
 * has lived for TRIAL_TIME.  A program whose trial in doubt failed is broken:
 * then only workers on trial are started, until one passes.  In the fixed pool
 * the worker on trial has a listening socket of the same kind, whose name was
 * removed before it listened, and is told to go when it has passed, since the
 * pool may need the descriptors and the process.
 */
static struct {
	struct worker	*w;		/* the worker on trial, or NULL */
	int		 passed;	/* fixed: w passed and is to leave */
	int64_t		 due;		/* end of its time to execute prog, */
					/* to live, or, if passed, to leave */
	int		 renews;	/* this trial is for a new generation */
	int		 asked;		/* the next one shall be */
	int		 doubt;		/* a worker died young */
	int		 broken;	/* a trial in doubt failed */
	int64_t		 delay;		/* broken: pause before the next */
	int64_t		 next;		/* broken or doubt: not before then */
	int64_t		 valid;		/* before then only storms make doubt */
	int64_t		 stormed;	/* when a storm last made a doubt */
	int		 fd;		/* fixed: the listener for w */
} trial = { .fd = -1 };

/*
 * The pool.  A worker counts in n only if it is of the present generation, so
 * that the workers of the one before, however slowly they leave, do not hold
 * back those that are to replace them.
 */
static struct {
	struct workers	 q[NSTATES];	/* all; IDLE: the last used first */
	size_t		 n[NSTATES];	/* of the present generation */
	size_t		 total;		/* workers not yet reaped */
	int		 gen;		/* the present one; 0: none yet */
	int		 renewing;	/* the one before still serves */
	size_t		 awaited;	/* new workers yet to execute prog */
	int64_t		 start_due;	/* shortage: no start before then */
	size_t		 vacant;	/* dead workers not yet replaced */
} pool;

/*
 * A storm of young deaths must not become one of forks: of the workers that
 * replace those that crashed young, at most STORM are started in a second.
 */
static struct {
	size_t		 owed;		/* such workers, yet to be started */
	unsigned	 made;		/* started in the second up to due */
	int64_t		 due;
	unsigned	 died;		/* young deaths up to died_due */
	int64_t		 died_due;
	int64_t		 first;		/* first young crash of the row */
	int64_t		 last;		/* latest young crash of the row */
	int		 warned;	/* the row was logged */
} storm;

/*
 * The listening socket.  Its state is used with -r only and says what is known
 * of the backlog; each is worse than the one before.  A connection is accepted
 * when a worker is idle, or when a worker is started for it: then it waits in
 * conns, the oldest first, and whichever worker is idle first gets it.
 */
static struct {
	int		 fd;
	enum {
		CALM,			/* empty: the listener is polled */
		BACKED_UP,		/* perhaps not empty */
		SATURATED,		/* not empty, and no worker is idle */
		WARNED			/* that was logged */
	}		 state;
	int64_t		 since;		/* SATURATED since then */
	int64_t		 due;		/* shortage: no accept before then */
	int64_t		 grow_due;	/* no growth before then */
	int		*conns;		/* accepted, without a worker */
	size_t		 nconns;
} listener = { .fd = -1 };

/*
 * What is polled: the listener, the workers' output, then one slot for each
 * worker: at first for the pipe that tells that it was executed, then for its
 * control socket.  Below nhot are those that must be heard at once, from nhot
 * to n the idle ones.
 *
 * The idle are left out while others are busy, because ppoll(2) asks each of
 * what it is given: with 500 idle workers a request cost 55 us with them and
 * 25 without.  They are polled when SETTLE has passed without an event; an
 * idle worker has nothing to tell but its end, which SIGCHLD tells as well.
 */
static struct {
	struct pollfd	*fds;
	struct worker	**owner;	/* of each slot */
	struct worker	**ready;	/* events(): those with an event */
	struct pollfd	*conns;		/* pool_returning(): the busy ones' */
	size_t		 n, nhot, cap;	/* cap: also of listener.conns */
	int		 all;		/* the idle are polled too */
	int64_t		 all_due;	/* when that begins */
} polled = { .all = 1 };

/*
 * What the workers print, unless -d.  They share one pipe, because a pipe for
 * each would double what is polled.
 */
static struct {
	int		 pipe[2];	/* ours, the workers' */
	char		 line[LINE_SIZE]; /* of len bytes, not yet logged */
	size_t		 len;
	unsigned long	 lines;		/* seen in the second up to due */
	unsigned long	 dropped;	/* of these */
	int64_t		 due;
} out = { .pipe = { -1, -1 } };

/*
 * Of the deaths of one kind within a second the first is logged and the others
 * are counted.  The key of a kind is the wait status, or -errno of what kept a
 * worker from executing prog.
 */
static struct {
	struct kind {
		int		 key;
		int		 prio;
		unsigned	 more;	/* after the first, up to due */
		int64_t		 due;
	}		 kinds[KINDS];
	int		 more;		/* whether any kind has more */
} joint;

/* For the status line. */
static struct {
	uint64_t	 handed;	/* connections, and the last cookie */
	uint64_t	 deaths;
	uint64_t	 restarts;
} count;

/* When each of these was last seen, so that an episode is logged once. */
static struct {
	int64_t		 saturation;
	int64_t		 shortage;
	int64_t		 nofork;	/* a worker could not be started */
} seen;

/*
 * The time, in milliseconds of the monotonic clock: all times in this file
 * are.  It is read once in each turn of the loop, after ppoll(2), since it
 * passes nowhere else.
 */
static int64_t	 now;

static pid_t	 manager;
static int	 errfd = STDERR_FILENO;	/* where we log with -d */
static int	 nullfd = -1;		/* /dev/null, always CONTROL_FD */
static int	 terminal;		/* with -d, and there is one */
static struct rlimit caller_nofile;	/* the limit for the workers */

/*
 * A new signal goes in here and into signals(), or the end of loop(), and into
 * SIGNALS in the manual.
 */
static const int caught[] = {
	SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGUSR1,
#ifdef SIGINFO
	SIGINFO,
#endif
};
static volatile sig_atomic_t got[NSIG];	/* came, and was not yet acted on */
static sigset_t	 nomask;		/* for workers */
static sigset_t	 waitmask;		/* inside ppoll(2) */

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
static void	 start_wait(int, pid_t) __dead;
static void	 loop(void) __dead;
static void	 finish(void) __dead;
static void	 worker_child(int, int, int) __dead;

/*
 * ---------- Small things: descriptors, the clock, words for a status
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
	struct pollfd	 pfd;

	pfd.fd = fd;
	pfd.events = events;
	pfd.revents = 0;
	return poll(&pfd, 1, 0);
}

/* Returns the time, see now. */
static int64_t
clock_ms(void)
{
	struct timespec	 ts;

	/* Cannot fail: the clock exists everywhere, ts is ours. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec / NS;
}

/* Sets a time to when, if that is sooner. */
static void
sooner(int64_t *due, int64_t when)
{
	if (when < *due)
		*due = when;
}

/* Notes that something happens now.  Returns whether an episode begins. */
static int
episode(int64_t *last)
{
	int	 news = now - *last >= EPISODE;

	*last = now;
	return news;
}

/* Says how n workers with this wait status ended.  Returns static memory. */
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

/* Says how long a worker has lived.  Returns static memory. */
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

/*
 * Logs a message; one at LOG_DEBUG only with -v.  With -d it also goes to
 * standard error, unless that would block; when a start fails, always.
 */
static void
vlogit(int prio, const char *fmt, va_list ap)
{
	char	 buf[2048];

	if (prio == LOG_DEBUG && !opt.verbose)
		return;
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	if (!start.done && ending.status != 0 && prio <= LOG_ERR)
		(void)dprintf(STDERR_FILENO, "kfcgi: %s\n", buf);
	else if (opt.debug && fd_ready(errfd, POLLOUT))
		(void)dprintf(errfd, "kfcgi: %s\n", buf);
	syslog(prio, "%s", buf);
}

/* Logs a message, see vlogit(). */
static void
logit(int prio, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vlogit(prio, fmt, ap);
	va_end(ap);
}

/*
 * Opens the log, and reads the time zone, while we are outside the jail.  With
 * -d, a terminal that poll(2) calls writable may have no room for a line, nor a
 * pipe that a worker has filled meanwhile.  So it is opened again, for our
 * write(2) to fail instead of waiting.  Of a pipe only Linux makes a new file
 * then; other systems duplicate the descriptor.
 */
static void
log_open(void)
{
	struct stat	 st;
	const char	*name = NULL;
	int		 fd;

	if (opt.debug && (name = ttyname(STDERR_FILENO)) == NULL &&
	    fstat(STDERR_FILENO, &st) == 0 && S_ISFIFO(st.st_mode))
		name = "/dev/fd/2";
	if (name != NULL &&
	    (fd = open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY)) != -1) {
		if (fd_flags(fd, 0) == 0)
			errfd = fd;
		else
			close(fd);
	}
	tzset();
	openlog("kfcgi", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

/*
 * ---------- What workers print
 */

/*
 * Opens the pipe for the workers' output, while we are root: then a worker
 * that opens it again as /dev/stderr on Linux can write to it but not read
 * what other workers wrote.
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
	    fd_flags(out.pipe[1], 0) == -1)
		fatal("cannot set flags of the workers' output: %s",
		    strerror(errno));
	/* Fails on systems that have no modes for pipes and do not need it. */
	(void)fchmod(out.pipe[1], 0222);
}

/*
 * Puts right what a worker may have changed on the pipe that all share: with
 * O_NONBLOCK, output of the next generation would be lost.
 */
static void
output_restore(void)
{
	/* Cannot fail: the pipe is open. */
	if (out.pipe[1] != -1)
		(void)fcntl(out.pipe[1], F_SETFL, 0);
}

/* Keeps the last WORDS_SIZE bytes that workers write during a start. */
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

/* Logs the line of output, or counts it if there were too many. */
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

/* Logs how many lines of output were dropped. */
static void
output_dropped(void)
{
	if (out.dropped > 0)
		logit(LOG_WARNING, "%lu lines of the workers' output dropped: "
		    "more than %d in a second", out.dropped, LINES_MAX);
	out.dropped = 0;
}

/*
 * Reads some of the workers' output and logs it line by line, long lines in
 * pieces.  Returns whether there may be more.
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

/* Reads output that often at most, because workers may go on writing. */
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

/*
 * Makes room for one more worker wherever each has a place, whether it still
 * has a slot or not.  Returns -1 with errno.
 */
static int
poll_reserve(void)
{
	size_t	 cap = polled.cap == 0 ? 16 : polled.cap * 2;
	void	*p;

	if (SLOT_WORKER + pool.total + 1 < polled.cap)
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

/* Has a worker polled in every turn. */
static void
poll_hot(struct worker *w)
{
	if (w->slot >= polled.nhot)
		poll_swap(w->slot, polled.nhot++);
}

/* Has a worker polled only when all are. */
static void
poll_cold(struct worker *w)
{
	if (w->slot < polled.nhot)
		poll_swap(w->slot, --polled.nhot);
}

/* Gives a worker a slot for fd, polled in every turn. */
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

/* Takes a worker's slot away, if it has one. */
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
 * Puts right what a worker of the fixed pool may have changed on a listener
 * for all that share it: status flags, timeouts, the length of the backlog.
 * What shutdown(2) did cannot be undone, see listener_down().
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

/* Returns whether a worker of the fixed pool has shut a listener down. */
static int
listener_down(int fd)
{
	short	 events = 0;
	char	 c;

	/* Linux tells by poll(2), the others as the end of what can be read. */
#ifdef POLLRDHUP
	events = POLLRDHUP;
#endif
	return !opt.variable && (fd_ready(fd, events) == 1 ||
	    recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0);
}

/* The backlog is empty, which ends an episode of saturation. */
static void
backlog_calm(void)
{
	if (listener.state == WARNED)
		seen.saturation = now;
	listener.state = CALM;
}

/*
 * Accepts a connection and returns it.  -1 if there is none, or if there is a
 * shortage: then it is tried again when a descriptor is closed, or after
 * SHORT_RETRY.
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

/* Accepts a connection into listener.conns.  Returns 0 if it could not. */
static int
conn_queue(void)
{
	int	 conn;

	if ((conn = conn_accept()) == -1)
		return 0;
	listener.conns[listener.nconns++] = conn;
	return 1;
}

/* Takes the oldest connection out of listener.conns and returns it. */
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
 * Puts a connection back in front of listener.conns.  There is always room:
 * each connection was accepted for a worker, and poll_reserve() made room for
 * as many as there ever were workers at a time.
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

/*
 * In the child: arranges what a worker inherits and executes prog, or writes a
 * report to ex.  in becomes its descriptor 0 and, with -r, ctl its control
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
	/* If execve(2) hangs, others must not wait for the end of these. */
	fd_close(&start.fd);
	if (opt.variable)
		fd_close(&listener.fd);
	for (i = SLOT_WORKER; i < polled.n; i++) {
		fd_close(&polled.owner[i]->conn);
		fd_close(&polled.owner[i]->ctl);
	}
	for (i = 0; i < listener.nconns; i++)
		fd_close(&listener.conns[i]);
	/*
	 * A process group of its own; a session, which cannot use the
	 * terminal, only if there is a terminal: Linux gives each session a
	 * share of the processor, which made the manager 15 % more expensive.
	 */
	TRY("process group", (terminal ? setsid() : setpgid(0, 0)) == -1);
#ifdef __linux__
	TRY("prctl", prctl(PR_SET_PDEATHSIG, SIGKILL) == -1);
	if (getppid() != manager)	/* it died before that */
		_exit(1);
#endif
	TRY("dup2", dup2(in, STDIN_FILENO) == -1);
	if (!opt.debug)
		TRY("dup2", dup2(out.pipe[1], STDOUT_FILENO) == -1 ||
		    dup2(out.pipe[1], STDERR_FILENO) == -1);
	if (opt.variable)
		TRY("dup2", dup2(ctl, CONTROL_FD) == -1);
	TRY("setrlimit", setrlimit(RLIMIT_NOFILE, &caller_nofile) == -1);
	/* Before unblocking, or a SIGTERM for this worker would be lost. */
	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_DFL;
	TRY("sigaction", sigaction(SIGPIPE, &sa, NULL) == -1);
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		/*
		 * pkill(1) finds us by the manager's command line, which is
		 * still ours.  To ignore a signal drops what is pending of
		 * it.  SIGTERM stays: it may be from the manager.
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
 * Starts a worker, in state TRIAL or STARTING.  Returns NULL with errno if
 * there is a shortage of descriptors, memory or processes.
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
	w->due = now + EXEC_TIME;
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
	poll_remove(w);
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
	w->due = now + LEAVE_GRACE;
	worker_state(w, LEAVING);
	worker_kill(w, SIGTERM);
}

/*
 * ---------- Deaths: their count, their log, the doubt
 */

/*
 * A worker died young.  That puts the program in doubt unless a trial passed
 * within TRIAL_VALID and none is under way.  A storm does so even then, but
 * not again within STORM_PAUSE.  If workers keep crashing young for ROW_LONG
 * although trials pass, that is logged once.
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
	else if (storm.died >= STORM && now - trial.stormed >= STORM_PAUSE) {
		trial.stormed = now;
		trial.doubt = 1;
	}
	if (end == RECYCLED)
		return;
	if (now - storm.last >= ROW_GAP) {
		storm.first = now;
		storm.warned = 0;
	}
	storm.last = now;
	if (!storm.warned && !trial.broken && !trial.doubt &&
	    now - storm.first >= ROW_LONG) {
		storm.warned = 1;
		logit(LOG_WARNING, "workers have been dying within a second of "
		    "their start for %d s, though trials pass: a request may "
		    "be what kills them", ROW_LONG / SECOND);
	}
}

/* Counts the end of a worker that was not on trial, here and nowhere else. */
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

/* Logs how many more deaths of a kind there were. */
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
 * Logs a death.  If one of the same kind, see joint, was logged less than a
 * second ago, it is counted, and logged at LOG_DEBUG only.
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

/* Returns the level at which the end of a worker is logged. */
static int
death_level(const struct worker *w, enum end end, int ws)
{
	if (w->failed)
		return LOG_DEBUG;	/* why was logged already */
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
 * Ends what a dead worker left in its process group, which may have the
 * client's connection or the listener.  A worker that recycled itself may
 * leave a process behind to finish a job.  The worker was reaped in this turn,
 * so its number is hardly anybody else's yet.
 */
static void
worker_leftovers(const struct worker *w, enum end end)
{
	if (w->gen == NO_GEN || ending.begun || end == CRASHED)
		(void)kill(-w->pid, SIGKILL);
	else if (end == ASKED)
		(void)kill(-w->pid, SIGTERM);
}

/*
 * ---------- The pool: its size and its generations
 */

/* Returns how many workers of the present generation take a place. */
static size_t
pool_count(void)
{
	return pool.n[STARTING] + pool.n[IDLE] + pool.n[BUSY] + pool.n[LOST];
}

/*
 * Returns how many there may be, with -r: N less those that were told to go and
 * have not gone yet, so that these do not pile up.
 */
static size_t
pool_places(void)
{
	size_t	 leaving = pool.n[LEAVING] + pool.n[KILLED];

	return opt.max > leaving ? opt.max - leaving : 0;
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
			n++;
	return n;
}

/* Counts a worker that joined the pool as a restart if one had died. */
static void
pool_restarted(void)
{
	if (pool.vacant > 0) {
		pool.vacant--;
		count.restarts++;
	}
}

/* Returns whether the limit on storms is reached, until storm.due. */
static int
storm_full(void)
{
	return storm.made >= STORM && now < storm.due;
}

/*
 * Returns when the next worker may be started in a pool of so many places: a
 * time that may have passed, or INT64_MAX for never.  Of the n workers the
 * limit on storms keeps as many places vacant as crashed, and no more.
 */
static int64_t
pool_when(size_t places)
{
	if (ending.begun || pool.gen == 0 || trial.broken ||
	    pool_count() >= places)
		return INT64_MAX;
	if (storm_full() && storm.owed > 0 &&
	    pool_count() + storm.owed >= opt.min)
		return storm.due > pool.start_due ? storm.due : pool.start_due;
	return pool.start_due;
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
 * Begins a new generation, which has no worker yet: pool_fill() starts its
 * workers.  The one before serves until all of these have executed prog.
 * Workers of a fixed pool that have not left since an earlier reload are
 * killed.
 */
static void
pool_renew(void)
{
	struct worker	*w;

	while (!opt.variable && (w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL)
		worker_kill(w, SIGKILL);
	if (!opt.variable)
		listener_restore(listener.fd);
	output_restore();
	pool.gen++;
	memset(pool.n, 0, sizeof(pool.n));
	pool.vacant = storm.owed = 0;
	pool.renewing = 1;
	pool.awaited = opt.min;
}

/*
 * ---------- The end, and what leads to it
 */

/*
 * Kills all workers that were told to go, or are lost, and logs how many.
 * Returns whether there were any; these have KILL_GRACE to end.
 */
static int
kill_all(void)
{
	struct worker	*w;
	size_t		 n = 0;

	while ((w = TAILQ_FIRST(&pool.q[DRAIN])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[LOST])) != NULL ||
	    (w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL) {
		worker_kill(w, SIGKILL);
		n++;
	}
	if (n == 0)
		return 0;
	ending.due = now + KILL_GRACE;
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

	ending.begun = 1;
	ending.status = status;
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
		fd_close(&listener.conns[i]);
	listener.nconns = 0;
	/* The workers of a fixed pool have the listener open as well. */
	if (!opt.variable)
		(void)shutdown(listener.fd, SHUT_RDWR);
	fd_close(&listener.fd);
	fd_close(&trial.fd);
}

/*
 * Ends the manager when there is no worker left to wait for.  After a failed
 * start with -d this waits until start_wait() has removed the socket.
 */
static void
finish(void)
{
	int	 i;

	/* Nothing else is to be done, so the log may take its time. */
	log_patience(SECOND);
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
	if ((w = TAILQ_LAST(&pool.q[KILLED], workers)) != NULL &&
	    now < w->since + KILL_GRACE) {
		ending.due = w->since + KILL_GRACE;
		return;
	}
	logit(LOG_ERR, "%zu worker%s left behind: not ended by SIGKILL within "
	    "%d s", pool.total, pool.total == 1 ? "" : "s",
	    KILL_GRACE / SECOND);
	ending.status = 1;
	finish();
}

/* Ends a start that fails before there is any worker, with a message. */
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
 * Makes a start fail, and begins to stop.  Standard error gets what the workers
 * have printed and then why.  Clients that wait in the backlog learn it at
 * once.
 */
static void
start_fail(const char *why)
{
	output_show();
	ending.status = 1;
	logit(LOG_ERR, "%s", why);
	stop(1, FAIL_GRACE);
}

/*
 * A worker could not be started, with that errno.  A start fails; a pool that
 * is up serves with what it has, and an episode of that is logged once.
 */
static void
worker_short(int error)
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
 * A worker of the fixed pool has ended.  If one has shut the listener down, no
 * client can connect any more, and that cannot be mended from inside the jail.
 */
static void
listener_check(void)
{
	static const char why[] = "a worker has shut down the listening "
	    "socket, which all workers share";

	if (ending.begun || !listener_down(listener.fd))
		return;
	if (!start.done)
		start_fail(why);
	else {
		logit(LOG_ERR, "%s: stopping", why);
		stop(1, LEAVE_GRACE);
	}
}

/*
 * ---------- The trial
 */

/*
 * Returns the worker of an earlier trial that was not executed and has not
 * ended yet, or NULL.
 */
static struct worker *
trial_hung(void)
{
	struct worker	*w;

	TAILQ_FOREACH(w, &pool.q[KILLED], entry)
		if (w->gen == NO_GEN && w->failed)
			return w;
	return NULL;
}

/*
 * Returns when the next trial is to begin, or INT64_MAX for never.  One whose
 * worker hangs in execve(2), even after SIGKILL, must not be followed by more.
 */
static int64_t
trial_when(void)
{
	if (trial.w != NULL || !start.done || ending.begun ||
	    trial_hung() != NULL)
		return INT64_MAX;
	if (trial.asked)
		return now;
	if (trial.broken)
		return trial.next;
	return trial.doubt ? trial.next : INT64_MAX;
}

/*
 * The trial has passed.  With -r its worker joins the pool if that is short of
 * n, or connections wait, else it is told to go.  In the fixed pool it has gone
 * or was killed; if it has shut down its listener, which a worker of the pool
 * would do to the one that all share, the trial has failed after all.
 */
static void
trial_pass(void)
{
	struct worker	*w = trial.w;
	int		 waits;

	if (listener_down(trial.fd)) {
		trial_fail("worker %ld of %.300s shut down the listening "
		    "socket, which workers share", (long)w->pid, opt.prog[0]);
		return;
	}
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
	waits = listener.nconns > 0 || listener.state >= SATURATED;
	if (pool_count() >= opt.min &&
	    (!waits || pool_count() >= pool_places())) {
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
 * The trial failed, and why.  A start fails; a reload leaves the old workers;
 * a program that was in doubt is broken from now on, until a trial passes.
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
 * Puts a worker on trial: for a new generation if the start or a SIGHUP asks
 * for one, else because the program is in doubt or broken.
 */
static void
trial_begin(void)
{
	static const char down[] = "a program has shut down the listening "
	    "socket for trials, restart kfcgi";

	trial.renews = trial.asked;
	trial.asked = trial.passed = 0;
	trial.due = now + EXEC_TIME;
	if (listener_down(trial.fd)) {
		/* No other can be made in the jail. */
		trial.doubt = trial.broken = 0;
		trial.valid = now + TRIAL_VALID;
		if (trial.renews)
			trial_fail("%s", down);
		else
			logit(LOG_ERR, "workers are replaced without trials: "
			    "%s", down);
		return;
	}
	if (!opt.variable)
		listener_restore(trial.fd);
	if (trial.renews)
		output_restore();
	if ((trial.w = worker_start(TRIAL)) != NULL)
		return;
	if (trial.renews || trial.broken)
		trial_fail("cannot start a worker: %s", strerror(errno));
	else {
		/* The program had no part in that, so the doubt stays. */
		trial.next = now + SHORT_RETRY;
		worker_short(errno);
	}
}

/* The worker on trial was reaped with status ws. */
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
		hint = ": OpenBSD ends a program so if its dynamic loader is "
		    "missing in the jail";
	trial_fail("worker %ld of %.300s %s, %s after its start%s",
	    (long)w->pid, opt.prog[0], cause(ws, 1), lifetime(w), hint);
}

/*
 * ---------- What a worker says
 */

/* Says why a worker was not executed.  Returns static memory. */
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
	/* What prog_look() saw at the start holds for a start only. */
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
	} else if (rep->error == ETIMEDOUT)
		hint = ": the file system does not answer";
	else if (rep->error == ENOEXEC)
		hint = ": neither a program for this system nor a script "
		    "with #! and an interpreter";
	(void)snprintf(buf, sizeof(buf), "cannot execute %.300s in %.300s: "
	    "%s%s%s", opt.prog[0], opt.jail, strerror(rep->error), hint, who);
	return buf;
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
	logit(LOG_ERR, "worker %ld %s: stopped", (long)w->pid, what);
	death_count(w, CRASHED);
	worker_stop(w);
}

/* A worker could not be executed, for the reason in its report. */
static void
worker_unexecuted(struct worker *w, const struct report *rep)
{
	w->failed = 1;
	if (w == trial.w)
		trial_fail("%s", worker_excuse(rep));
	else if (!start.done && !ending.begun)
		start_fail(worker_excuse(rep));
	else if (w->state == STARTING) {
		death_log(-rep->error, LOG_ERR, "%s", worker_excuse(rep));
		/* No request can have caused that. */
		trial.doubt = 1;
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
	worker_unexecuted(w, &rep);
}

/* A worker has written its cookie back: its connection is done with. */
static void
worker_ack(struct worker *w)
{
	fd_close(&w->conn);
	w->saidlen = 0;
	w->served++;
	listener.due = 0;
	logit(LOG_DEBUG, "worker %ld is done with connection %llu",
	    (long)w->pid, (unsigned long long)w->cookie);
	if (w->state == DRAIN)
		worker_stop(w);
	else
		worker_state(w, IDLE);
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
	if (w->state == IDLE || w->state == BUSY || w->state == DRAIN) {
		w->due = now + LOST_GRACE;
		worker_state(w, LOST);
	}
}

/*
 * Reads what a worker has written: its cookie, whole or in pieces, or else it
 * breaks the protocol.  Returns whether there may be more.
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
		 * The BSDs do not say that, so there it may have been read.
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
 * Hands a connection and a new cookie to an idle worker.  Returns 1 if the
 * connection is the worker's.  Else it is still the caller's: 0 if the worker
 * was given up, -1 if there is a shortage.
 */
static int
worker_assign(struct worker *w, int conn)
{
	struct msghdr	 msg;
	struct cmsghdr	*cmsg;
	struct iovec	 iov;
	union {
		struct cmsghdr	 hdr;
		unsigned char	 buf[64];	/* no constant on NetBSD */
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
		w->hungup = 0;
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
	listener.due = now + SHORT_RETRY;
	if (episode(&seen.shortage))
		logit(LOG_ERR, "cannot hand out connections for now: %s",
		    strerror(errno));
	return -1;
}

/*
 * ---------- How a worker ends, or hangs
 */

/*
 * A worker was reaped with status ws.  First all is read that it wrote, since
 * that decides what becomes of its connection; then its end is classified, and
 * counted and logged accordingly.
 */
static void
worker_dead(struct worker *w, int ws)
{
	enum end	 end;

	w->reaped = 1;
	worker_executed(w);
	while (w->ctl != -1 && worker_read(w) > 0)
		continue;
	worker_cut(w);		/* a child of it may hold the other ends */
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
		listener_check();
	}
	/* A process has gone, and descriptors with it. */
	listener.due = pool.start_due = 0;
	queue_remove(w);
	pool.total--;
	free(w);
}

/* Reaps all children that have ended. */
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
 * A worker has not executed prog within EXEC_TIME: the file system may not
 * answer.
 */
static void
worker_stuck(struct worker *w)
{
	static const struct report stuck = { ETIMEDOUT, "" };

	/* If we were stopped, it may have executed prog long ago. */
	if (w->exec != -1 && fd_ready(w->exec, POLLIN) == 1) {
		worker_executed(w);
		return;
	}
	if (!w->failed) {
		/* Without trials, each vacant place would take one more. */
		trial.doubt = 1;
		worker_unexecuted(w, &stuck);
	}
	if (w->state == STARTING) {
		death_count(w, CRASHED);
		worker_kill(w, SIGKILL);
	}
}

/*
 * trial.due has come: the worker on trial has lived for TRIAL_TIME, or has not
 * executed prog within EXEC_TIME, or had passed and has not gone within
 * TRIAL_GRACE.
 */
static void
trial_time(void)
{
	struct worker	*w;

	/* Its SIGCHLD may have been held back for SIGNAL_CHECK. */
	pool_reap();
	if ((w = trial.w) == NULL || now < trial.due)
		return;
	if (trial.passed) {
		worker_kill(w, SIGKILL);
		trial_pass();
	} else if (w->exec != -1)
		worker_stuck(w);
	else if (opt.variable && w->ctl == -1)
		trial_fail("worker %ld of %.300s closed its control socket",
		    (long)w->pid, opt.prog[0]);
	else if (opt.variable)
		trial_pass();
	else {
		/* The pool may need the place that it takes. */
		trial.passed = 1;
		trial.due = now + TRIAL_GRACE;
		worker_kill(w, SIGTERM);
	}
}

/*
 * ---------- The pool: who is started, handed a connection, released
 */

/*
 * Starts a worker for the pool.  Returns 0 if it could not: then a start
 * fails, and else it is tried again after SHORT_RETRY, or when a worker has
 * gone.  A reload may find no room for two generations: then only as many of
 * the old stay as new ones are missing.
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
		worker_short(error);
		return 0;
	}
	pool_restarted();
	if (storm.owed > 0 && !storm_full()) {
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
 * Starts workers that are missing to n, at most SLICE in a turn, so that
 * connections are handed out meanwhile.
 */
static void
pool_fill(void)
{
	int	 i;

	for (i = 0; i < SLICE && now >= pool_when(opt.min); i++)
		if (!pool_start())
			return;
}

/* The start has succeeded: tells start_wait(), leaves the caller's terminal. */
static void
start_report(void)
{
	int	 fd;

	start.done = 1;
	/* The log cannot tell that there is none. */
	if (!log_heard() && fd_ready(STDERR_FILENO, POLLOUT))
		warnx("no syslogd: messages are lost unless -d shows them");
	/* Cannot fail: all these are open. */
	if (!opt.debug)
		for (fd = 0; fd < CONTROL_FD; fd++)
			(void)dup2(nullfd, fd);
	if (write(start.fd, "", 1) == 1)
		logit(LOG_INFO, "started: %zu worker%s of %s in %s for %s",
		    opt.min, opt.min == 1 ? "" : "s", opt.prog[0], opt.jail,
		    opt.sockpath);
	else {
		/* It was killed.  A manager that nobody asked for must end. */
		logit(LOG_ERR, "the starting process is gone: stopping");
		stop(1, LEAVE_GRACE);
	}
	fd_close(&start.fd);
}

/*
 * Lets the old generation go if all of the new one has been executed, and says
 * that the reload, or the start, has succeeded.
 */
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
 * Notes whose client has hung up, and returns how many busy workers are about
 * to be idle: their client has closed the connection, but their cookie is not
 * back yet.  A worker whose client did so more than LEFT_TIME ago is busy with
 * something.
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
			if (w->hungup == 0)
				w->hungup = now;
			/* A first request may take who knows how long. */
			returning += w->served > 0 &&
			    now - w->hungup < LEFT_TIME;
		}
	return returning;
}

/*
 * Connections wait and no worker is idle.  For each worker that is being
 * started one connection is accepted into listener.conns; whichever worker is
 * idle first gets it, so that no connection depends on a worker that may take
 * long to initialise itself.  One more worker is started, at most one in a
 * turn, unless a busy one is about to be idle: a client may be back with its
 * next request before its worker is, and two clients are no reason for a third
 * worker.  That holds for LEFT_TIME only, because in a large pool there is
 * always one.  If there is no place for one more, that is saturation, which is
 * logged if it lasts.
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
		if (listener.state == CALM || !conn_queue())
			return;
	if (listener.nconns == pool.n[STARTING] &&
	    listener.state != CALM && now >= when &&
	    now >= listener.grow_due) {
		if (now - listener.since < LEFT_TIME && pool_returning() > 0)
			listener.grow_due = now + GROW_WAIT;
		else if (!conn_queue())
			return;
	}
	if (listener.nconns > pool.n[STARTING]) {
		if (now >= when)
			(void)pool_start();
	} else if (listener.state == SATURATED && pool_count() >= opt.max &&
	    now >= listener.since + FULL_TIME) {
		if (now - seen.saturation >= EPISODE) {
			if (!fd_ready(listener.fd, POLLIN)) {
				/* The last that waited was handed out. */
				backlog_calm();
				return;
			}
			logit(LOG_WARNING, "all %zu workers are busy and "
			    "connections wait: -N may be too low", opt.max);
		}
		listener.state = WARNED;
	}
}

/*
 * Hands connections to idle workers while there are both: first those in
 * listener.conns, then those of the backlog.  After the first, poll(2) is
 * asked whether there is another, because on Linux an accept4(2) in vain costs
 * 3 us, and a poll(2) 0.2; that was 6 % of the time per request with 4
 * workers.  When all N are busy it is not asked, since then nearly always
 * there is one.
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
 * Returns the idle worker above n that is to be released first, or NULL: the
 * one that was idle for longest.  Those that are STARTING or LOST do not count
 * towards n.
 */
static struct worker *
pool_surplus(void)
{
	if (ending.begun || pool.renewing ||
	    pool.n[IDLE] + pool.n[BUSY] <= opt.min)
		return NULL;
	return TAILQ_LAST(&pool.q[IDLE], workers);
}

/* Releases the workers above n that have been idle for -w. */
static void
pool_shrink(void)
{
	struct worker	*w;

	while ((w = pool_surplus()) != NULL &&
	    now - w->since >= opt.waittime) {
		logit(LOG_DEBUG, "worker %ld released after %lld s of "
		    "idleness", (long)w->pid,
		    (long long)(now - w->since) / SECOND);
		worker_stop(w);
		/* There are more than n: no dead worker is missed. */
		pool.vacant = storm.owed = 0;
	}
}

/*
 * Logs the line that SIGUSR1 and SIGINFO ask for, at the end of a turn of the
 * loop, when dead workers have been replaced.
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

/*
 * Returns when the loop must go on without an event; INT64_MAX: never.  Each
 * time here is looked at by timers() or by what loop() calls after that.
 */
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
	if ((w = pool_surplus()) != NULL)
		sooner(&due, w->since + opt.waittime);
	if ((w = TAILQ_FIRST(&pool.q[STARTING])) != NULL)
		sooner(&due, w->due);
	if ((w = TAILQ_FIRST(&pool.q[LOST])) != NULL)
		sooner(&due, w->due);
	if ((w = TAILQ_FIRST(&pool.q[LEAVING])) != NULL)
		sooner(&due, w->due);
	if (out.dropped)
		sooner(&due, out.due);
	for (i = 0; joint.more && i < KINDS; i++)
		if (joint.kinds[i].more > 0)
			sooner(&due, joint.kinds[i].due);
	if (!polled.all && polled.nhot < polled.n)
		sooner(&due, polled.all_due);
	return due;
}

/*
 * Handles what the last ppoll(2) reported of n descriptors.  They are
 * collected first, since to handle one may move the slots of others.  Workers
 * that have just been executed are handled before those that are done with a
 * connection, so that the latter are the first to get another.
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
		polled.all = 0;
		polled.all_due = now + SETTLE;
	} else if (now >= polled.all_due)
		polled.all = 1;
}

/*
 * Acts on the signals that ppoll(2) let in; a stop goes before a SIGHUP.
 * SIGUSR1 has to wait for the end of the turn, see loop().
 */
static void
signals(void)
{
	struct worker	*w;
	int		 n;

	if (got[SIGCHLD]) {
		got[SIGCHLD] = 0;
		pool_reap();
	}
	if ((n = got[SIGTERM] + got[SIGINT] + got[SIGQUIT]) > 0) {
		got[SIGTERM] = got[SIGINT] = got[SIGQUIT] = 0;
		if (!start.done && !ending.begun)
			start_fail("was told to stop while starting");
		else if (!ending.begun)
			stop(0, LEAVE_GRACE);
		if (n > 1 || ending.told)
			(void)kill_all();
		ending.told = 1;
	}
	if (got[SIGHUP]) {
		got[SIGHUP] = 0;
		trial.asked = 1;
		if ((w = trial_hung()) != NULL)
			logit(LOG_WARNING, "reload waits for the end of worker "
			    "%ld, which has been hanging since its trial",
			    (long)w->pid);
	}
}

/* Does what is due, see deadline(). */
static void
timers(void)
{
	struct worker	*w;
	size_t		 i;

	if (trial.w != NULL && now >= trial.due)
		trial_time();
	if (ending.begun && pool.total > 0 && now >= ending.due)
		finish_late();
	while ((w = TAILQ_FIRST(&pool.q[STARTING])) != NULL && now >= w->due)
		worker_stuck(w);
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
 * The loop.  Its order matters: what workers wrote is read before they are
 * reaped and before others are started, and connections are handed out before
 * a worker is found to be idle for too long.
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
	trial.stormed = now - STORM_PAUSE;
	storm.last = now - ROW_GAP;
	trial.asked = 1;
	trial_begin();
	while (!ending.begun || pool.total > 0) {
		polled.fds[SLOT_LISTENER].fd = opt.variable && start.done &&
		    listener.state == CALM ? listener.fd : -1;
		due = deadline();
		if (due != INT64_MAX) {
			due = due > now ? due - now : 0;
			ts.tv_sec = due / SECOND;
			ts.tv_nsec = due % SECOND * NS;
		}
		n = ppoll(polled.fds, polled.all ? polled.n : polled.nhot,
		    due == INT64_MAX ? NULL : &ts, &waitmask);
		now = clock_ms();
		if (n == -1 && errno != EINTR) {
			/* Short of memory in the kernel: wait a while. */
			ts.tv_sec = 0;
			ts.tv_nsec = POLL_RETRY * NS;
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
 * ---------- Set-up: the command line, descriptors, signals
 */

/*
 * Ends with status 1 and one line: what is wrong with the command line, and
 * what it may be.
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
 * message.
 */
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
 * Reads the command line into opt, or ends with a message.  What depends on
 * another option is set when all have been read.
 */
static void
options(int argc, char *argv[])
{
	int	 c, maxset = 0, backlogset = 0;

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
}

/*
 * Makes sure that descriptors 0 to 2 are open, and that nullfd is CONTROL_FD,
 * so that nothing else gets the number of the workers' control socket.  Closes
 * all others that the caller left open.
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
 * Raises the manager's limit of descriptors, if it may be too low, up to the
 * caller's hard limit.  A worker takes two: with -r its control socket, and
 * its connection or its exec pipe.  After two reloads there may be busy
 * workers of three generations.
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
 * With -d the workers' standard output and standard error may be the caller's
 * terminal.  It is opened again for writing only, or they could read what is
 * typed there.  They cannot take it over either, see worker_child().
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
 * Blocks all signals.  ppoll(2) lets in those that are caught and those that
 * stop or continue a process; all others mean nothing to the manager.  A
 * signal that the caller ignored gets its default back, because workers would
 * go on ignoring it.
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
	/* Blocks nothing, so that one ppoll(2) lets in all that is pending. */
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
		sock_make(&trial.fd);
	sock_make(&listener.fd);
	sock_rights(1);
}

/*
 * ---------- Set-up: two processes, the jail
 */

/* The process that waits passes a signal on to the manager, as SIGTERM. */
static void
on_signal_start(int sig)
{
	int	 saved = errno;

	(void)sig;
	(void)kill(manager, SIGTERM);
	errno = saved;
}

/*
 * Waits for a byte on fd, which says that the start has succeeded, and ends
 * with status 0.  At end-of-file it has failed, and the manager has said why:
 * removes the socket and ends with status 1.  pid is the manager if that is
 * our child, else 0.
 */
static void
start_wait(int fd, pid_t pid)
{
	struct sigaction sa;
	ssize_t		 n;
	char		 c;
	int		 ws;

	if (pid != 0) {
		/* Whoever stops this process means the start. */
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
 * Splits into the manager, which returns, and the process that waits for the
 * outcome of the start in start_wait(), as root and outside the jail, since it
 * may have to remove the socket.  The manager is the child, or with -d, where
 * it stays in the foreground, the parent.
 */
static void
detach(void)
{
	const char *call;
	int	 p[2];
	pid_t	 pid;

	fflush(NULL);
	call = "pipe";
	if (pipe(p) == -1)
		goto fail;
	call = "fcntl";
	if (fd_flags(p[0], 0) == -1 || fd_flags(p[1], 0) == -1)
		goto fail;
	call = "fork";
	if ((pid = fork()) == -1)
		goto fail;
	if ((pid == 0) == opt.debug) {
		close(p[1]);
		close(listener.fd);
		fd_close(&trial.fd);
		start_wait(p[0], pid);
	}
	close(p[0]);
	start.fd = p[1];
	manager = getpid();
	if (opt.debug)
		start.waiter = pid;
	else if (setsid() == -1)
		fatal("setsid: %s", strerror(errno));
	return;
fail:
	warn("cannot start: %s", call);
	sock_remove();
	exit(1);
}

/*
 * Enters the jail and drops privileges for good, or ends with a message.
 * Without -U the manager stays root, as the workers do, and can signal those
 * that drop their privileges themselves.
 */
static void
jail_enter(void)
{
	if (chroot(opt.jail) == -1)
		fatal("cannot enter jail %s: %s", opt.jail, strerror(errno));
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
 * Notes whether prog is there, since execve(2) says ENOENT also for a missing
 * interpreter.  After pledge(2) we could not look any more.
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
	descriptors_open();
	options(argc, argv);
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
