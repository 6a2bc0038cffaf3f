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
 * A worker is in exactly one state, and on that state's queue:
 *
 *	TRIAL	 started with its whole generation (at start, on SIGHUP), gets
 *		 nothing to do until all of it has been executed and is alive
 *	IDLE	 may be handed a connection; fixed: serves
 *	BUSY	 has a connection, its cookie is outstanding
 *	DRAIN	 as BUSY, but leaves when the cookie is back
 *	LOST	 closed its control socket: is it dying, or just broken?
 *	LEAVING	 was told to go (SIGTERM)
 *	KILLED	 was made to go (SIGKILL)
 *
 * "The pool" is IDLE, BUSY and LOST.  A worker is forgotten when it has been
 * reaped, never before.
 *
 * All signals are blocked but inside ppoll(2), where the manager spends its
 * idle time and the only place where it may wait.  [A1] and the like refer
 * to clauses of the design.
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

/* What the manual promises [A1]. */
#define SOCKPATH	"/var/www/run/httpd.sock"
#define JAIL		"/var/www"
#define WORKERS		3
#define WAITTIME	300		/* seconds */

#define WORKERS_MAX	32767		/* keeps 2n far from INT_MAX */
#define CONTROL_FD	3		/* a worker's control socket, with -r */

/* Times, in milliseconds. */
#define TRIAL_TIME	100		/* must be survived by a generation */
#define HEALTHY_AGE	1000		/* or one request: then it works */
#define BRAKE_MIN	100
#define BRAKE_MAX	10000
#define LOST_GRACE	1000		/* from end-of-file to SIGTERM */
#define LEAVE_GRACE	20000		/* from SIGTERM to SIGKILL */
#define FAIL_GRACE	2000		/* the same after a failed start */
#define SHORT_RETRY	1000		/* without descriptors or memory */
#define FULL_TIME	100		/* of saturation before a warning */
#define EPISODE		(2 * BRAKE_MAX)	/* of calm, then warn again */
#define SETTLE		100		/* of calm, then watch the idle */
#define SIGNAL_CHECK	10		/* longest deafness when always busy */
#define PROBE_TIME	1000		/* a server may be too busy to be seen */
#define PROBE_PAUSE	20		/* from one look to the next */
#define SECOND		1000

#define LINE_SIZE	1000		/* bytes of output in a syslog line */
#define LINES_MAX	100		/* lines of output in a second */
#define OUTPUT_CHUNK	16384		/* read from the workers at a time */

enum state {
	TRIAL,
	IDLE,
	BUSY,
	DRAIN,
	LOST,
	LEAVING,
	KILLED,
	NSTATES
};

struct worker;

/* A descriptor that is polled for a worker; fd is -1 when closed. */
struct watch {
	int		 fd;
	size_t		 slot;		/* in pollfds and watches */
	struct worker	*w;
};

struct worker {
	TAILQ_ENTRY(worker) entry;	/* of its state's queue */
	enum state	 state;
	pid_t		 pid;		/* soon also its process group [D6] */
	struct watch	 exec;		/* end-of-file: it was executed */
	struct watch	 ctl;		/* control socket, -1 if fixed */
	int		 conn;		/* connection it has, or -1 [E4] */
	uint64_t	 cookie;	/* that goes with it */
	unsigned char	 in[2 * sizeof(uint64_t)]; /* of its cookie... */
	size_t		 inlen;		/* ...so many bytes are back */
	uint64_t	 served;	/* cookies that came back */
	int64_t		 started;
	int64_t		 since;		/* when this state was entered */
	int64_t		 due;		/* LOST, LEAVING: when patience ends */
	int		 failed;	/* not executed, and that was logged */
	int		 cut;		/* its connection was closed on it */
	int		 reaped;	/* its pid is no longer ours */
};

/* A connection that has no worker: its worker died before taking it [F4]. */
struct orphan {
	TAILQ_ENTRY(orphan) entry;
	int		 conn;
};

/* What a child reports when it cannot execute prog. */
struct report {
	int		 error;		/* errno */
	char		 call[28];
};

TAILQ_HEAD(workers, worker);
TAILQ_HEAD(orphans, orphan);

static void	 usage(const char *, ...) __dead
		    __attribute__((__format__(printf, 1, 2)));
static int	 number(int, const char *, int, int);
static void	 user(int, const char *, uid_t *, gid_t *);

static void	 descriptors_open(void);
static void	 descriptors_limit(void);
static void	 terminal_narrow(void);
static void	 signals_init(void);
static void	 on_signal(int);
static void	 on_signal_start(int);
static void	 sock_open(void);
static void	 sock_place(void);
static void	 sock_probe(void);
static int	 sock_dead(struct sockaddr_un *);
static int	 sock_ask(int, const struct sockaddr_un *);
static int	 sock_private(char *, size_t);
static int	 sock_make(int, int);
static int	 sock_bind(int);
static void	 sock_address(struct sockaddr_un *, const char *);
static void	 sock_remove(void);
static void	 detach(void);
static void	 start_wait(int, int) __dead;
static void	 start_report(void);
static void	 jail_enter(void);
static void	 prog_look(void);

static void	 loop(void) __dead;
static int64_t	 clock_ms(void);
static int64_t	 deadline(void);
static void	 events(int);
static void	 signals(void);
static void	 timers(void);
static void	 finish(void) __dead;

static void	 trial_begin(void);
static void	 trial_commit(void);
static void	 trial_fail(const char *, ...)
		    __attribute__((__format__(printf, 1, 2)));
static void	 stop(int, int64_t);
static void	 kill_all(void);
static void	 status(void);
static size_t	 pool_count(void);
static void	 pool_fill(void);
static void	 pool_accept(void);
static void	 pool_shrink(void);
static void	 pool_reap(void);
static void	 pool_full(void);
static int	 pool_healthy(void);
static void	 brake(void);
static void	 start_failed(void);
static int	 conn_next(void);
static void	 conn_keep(int);

static struct worker *worker_start(enum state);
static void	 worker_child(int, int) __dead;
static void	 worker_state(struct worker *, enum state);
static void	 worker_executed(struct worker *);
static int	 worker_assign(struct worker *, int);
static int	 worker_read(struct worker *);
static void	 worker_ack(struct worker *);
static void	 worker_lost(struct worker *, int);
static const char *worker_excuse(const struct report *);
static void	 worker_fault(struct worker *, const char *);
static void	 worker_stop(struct worker *);
static int	 worker_young(const struct worker *);
static void	 worker_kill(struct worker *, int);
static void	 worker_dead(struct worker *, int);
static void	 worker_leftovers(const struct worker *, int, int);
static int	 death_level(const struct worker *, int, int);
static struct worker *worker_find(pid_t);

static int	 fd_flags(int, int);
static void	 fd_close(int *);
static int	 watch_reserve(void);
static void	 watch_add(struct watch *, int);
static void	 watch_swap(size_t, size_t);
static void	 watch_hot(struct watch *);
static void	 watch_cold(struct watch *);
static void	 watch_close(struct watch *);
static int	 fd_ready(int, short, int);

static void	 log_open(void);
static void	 logit(int, const char *, ...)
		    __attribute__((__format__(printf, 2, 3)));
static void	 vlogit(int, const char *, va_list);
static void	 fatal(const char *, ...) __dead
		    __attribute__((__format__(printf, 1, 2)));
static int	 episode(int64_t *);
static int	 log_blocked(void);
static void	 log_line(int, const char *);
static void	 output_open(void);
static int	 output_read(void);
static void	 output_line(void);
static void	 output_dropped(void);
static void	 output_show(void);
static const char *lifetime(const struct worker *);
static int	 killed(int);
static const char *cause(int);

/* The command line. */
static int	 debug;			/* -d */
static int	 variable;		/* -r */
static int	 verbose;		/* -v */
static int	 backlog;		/* -l */
static size_t	 min = WORKERS;		/* -n */
static size_t	 max;			/* -N; fixed: n */
static const char *jail = JAIL;		/* -p */
static const char *sockpath = SOCKPATH;	/* -s */
static const char *procuser = "root";	/* -U */
static uid_t	 sockuid, procuid;	/* -u, -U */
static gid_t	 sockgid, procgid;
static int64_t	 waittime = WAITTIME * SECOND; /* -w */
static char	**prog;

/* Set up once. */
static pid_t	 manager;
static int	 nullfd = -1;		/* /dev/null, always CONTROL_FD */
static int	 terminal;		/* -d, and the caller has one */
static int	 listenfd = -1;
static int	 trialfd = -1;		/* the same for who is on trial, if fixed */
static int	 output[2] = { -1, -1 };	/* workers' pipe, unless -d */
static int	 startfd = -1;		/* to the process in start_wait() */
static pid_t	 starter = -1;		/* its pid if it is our child (-d) */
static int	 sockdir = -1;		/* directory of sockpath... */
static const char *sockname;		/* ...and the name in there */
static struct stat sockst;		/* the socket that we made */
static struct rlimit caller_nofile;	/* as workers shall have it [D5] */
static sigset_t	 nomask;
static const int caught[] = {
	SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1,
#ifdef SIGINFO
	SIGINFO,
#endif
};
static int	 progerr = -1;		/* errno of stat(prog), 0 if there */
static int	 progdir;		/* it is a directory */

/* The pool. */
static struct workers queue[NSTATES];	/* IDLE: last idle first [E2] */
static size_t	 in[NSTATES];		/* length of each queue */
static struct orphans orphans = TAILQ_HEAD_INITIALIZER(orphans);
static int64_t	 now;			/* milliseconds, monotonic */
static int	 up;			/* the start succeeded */
static int	 trial;			/* a generation is on trial... */
static size_t	 trial_left;		/* ...not all yet executed... */
static int64_t	 trial_due;		/* ...or that until then */
static int	 again;			/* SIGHUP came during the trial */
static int	 stopping;
static int64_t	 stop_due;
static int	 exitstatus;
static int	 proven;		/* there was a healthy worker */
static size_t	 braked;		/* replacements that wait... */
static int64_t	 brake_due;		/* ...until then [F3] */
static int64_t	 brake_delay;
static int64_t	 brake_last;		/* when the brake was last applied */
static size_t	 nworkers;		/* in any state */
static int	 backed_up;		/* connections may be waiting */
static int	 saturated;		/* they do, and nobody can take them */
static int	 full;			/* because all N workers are busy */
static int64_t	 full_due;		/* not to be told before that */
static int64_t	 accept_due;		/* no accept before that [J1] */
static int64_t	 full_last, short_last, fork_last; /* episodes */
static uint64_t	 handed, deaths, restarts;

/*
 * What is polled: the listener and the workers' output in the first two
 * slots, then up to nhot what must always be watched, then idle workers.
 */
static struct pollfd *pollfds;
static struct watch **watches, **ready;
static size_t	 nwatches, nhot, watchcap;
static int	 calm = 1;		/* the idle are watched, too */
static int64_t	 calm_due;

/* Log. */
static int	 logfd = -1;		/* the C library's syslog socket */
static struct stat logst;
static int	 logwait;		/* milliseconds for syslogd to read */
static unsigned long lost_lines;
static char	 line[LINE_SIZE];	/* of output, not yet complete */
static size_t	 linelen;
static unsigned long nlines, ndropped;	/* lines in this second */
static int64_t	 lines_due;		/* when it ends */

static volatile sig_atomic_t got_chld, got_hup, got_int, got_term, got_usr1;

int
main(int argc, char *argv[])
{
	int	 c, maxset = 0, backlogset = 0;

	descriptors_open();

	opterr = 0;
	sockuid = procuid = getuid();
	sockgid = procgid = getgid();

	/* The plus makes glibc stop at prog, as the others do [A2]. */
	while ((c = getopt(argc, argv, "+dl:n:N:p:rs:u:U:vw:")) != -1)
		switch (c) {
		case 'd':
			debug = 1;
			break;
		case 'l':
			backlog = number(c, optarg, 1, INT_MAX);
			backlogset = 1;
			break;
		case 'n':
			min = number(c, optarg, 1, WORKERS_MAX);
			break;
		case 'N':
			max = number(c, optarg, 1, WORKERS_MAX * 2);
			maxset = 1;
			break;
		case 'p':
			jail = optarg;
			break;
		case 'r':
			variable = 1;
			break;
		case 's':
			sockpath = optarg;
			break;
		case 'u':
			user(c, optarg, &sockuid, &sockgid);
			break;
		case 'U':
			user(c, optarg, &procuid, &procgid);
			procuser = optarg;
			break;
		case 'v':
			verbose = 1;
			break;
		case 'w':
			waittime = (int64_t)SECOND *
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
	prog = argv;
	if (!maxset)
		max = min * 2;
	if (variable && max < min)
		errx(1, "-N %zu: must not be below -n, which is %zu", max, min);
	if (!variable)
		max = min;
	if (!backlogset)
		backlog = (int)max * 2;
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
	if ((variable ? setenv("FCGI_LISTENSOCK_DESCRIPTORS", "3", 1) :
	    unsetenv("FCGI_LISTENSOCK_DESCRIPTORS")) == -1)
		fatal("cannot set the environment: %s", strerror(errno));
	if (pledge(variable ? "stdio proc exec unix sendfd" :
	    "stdio proc exec", NULL) == -1)
		fatal("pledge: %s", strerror(errno));
	loop();
}

/*
 * Ends with status 1, saying what is wrong with the command line and, on
 * the same line, what it may be [A6].
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

/* The value of a numeric option, or exit [A3]. */
static int
number(int opt, const char *arg, int low, int high)
{
	const char	*errstr;
	int		 n;

	n = (int)strtonum(arg, low, high, &errstr);
	if (errstr != NULL)
		errx(1, "-%c %s: number is %s, must be from %d to %d",
		    opt, arg, errstr, low, high);
	return n;
}

/* Finds a user by name or by a number that has a passwd entry [A4]. */
static void
user(int opt, const char *arg, uid_t *uid, gid_t *gid)
{
	const char	*errstr;
	struct passwd	*pw;
	uid_t		 id;

	if ((pw = getpwnam(arg)) == NULL) {
		id = (uid_t)strtonum(arg, 0, UINT_MAX, &errstr);
		if (errstr != NULL || (pw = getpwuid(id)) == NULL)
			errx(1, "-%c %s: no such user", opt, arg);
	}
	*uid = pw->pw_uid;
	*gid = pw->pw_gid;
}

/*
 * Makes sure of descriptors 0 to 2, keeps /dev/null at CONTROL_FD, where it
 * holds the place of the workers' control socket, and closes all others:
 * what the caller left open is nobody's here [B5, D2].
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
 * those on trial, and perhaps the busy ones of two pools before [D5].
 */
static void
descriptors_limit(void)
{
	struct rlimit	 rl;
	rlim_t		 need = 6 * (rlim_t)max + 32;

	if (getrlimit(RLIMIT_NOFILE, &caller_nofile) == -1)
		err(1, "getrlimit");
	rl = caller_nofile;
	if (rl.rlim_cur == RLIM_INFINITY || rl.rlim_cur >= need)
		return;
	rl.rlim_cur = need;
	if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < need)
		rl.rlim_cur = rl.rlim_max;
	/* If that fails, the shortage is met when it comes [J]. */
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
	int		 fd, out;

	if (!debug)
		return;
	if ((fd = open("/dev/tty", O_RDONLY | O_NOCTTY)) != -1) {
		terminal = 1;
		close(fd);
	}
	for (out = STDOUT_FILENO; out <= STDERR_FILENO; out++) {
		if ((name = ttyname(out)) == NULL ||
		    (fd = open(name, O_WRONLY | O_NOCTTY)) == -1)
			continue;
		(void)dup2(fd, out);
		close(fd);
	}
}

/*
 * Blocks everything and gives each signal its default back, whatever the
 * caller ignored, since workers will inherit it [D3].
 */
static void
signals_init(void)
{
	struct sigaction sa;
	sigset_t	 all;
	size_t		 i;
	int		 sig;

	sigfillset(&all);
	sigemptyset(&nomask);
	if (sigprocmask(SIG_SETMASK, &all, NULL) == -1)
		err(1, "sigprocmask");
	memset(&sa, 0, sizeof(sa));
	/* Blocks nothing, so that all that is pending comes at once [H3]. */
	sigemptyset(&sa.sa_mask);
	sa.sa_handler = SIG_DFL;
	for (sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &sa, NULL); /* not all may be set */
	sa.sa_handler = SIG_IGN;
	if (sigaction(SIGPIPE, &sa, NULL) == -1)
		err(1, "sigaction");
	sa.sa_handler = on_signal;
	for (i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		if (sigaction(caught[i], &sa, NULL) == -1)
			err(1, "sigaction");
}

static void
on_signal(int sig)
{
	switch (sig) {
	case SIGCHLD:
		got_chld = 1;
		break;
	case SIGHUP:
		got_hup = 1;
		break;
	case SIGINT:
		got_int = 1;
		break;
	case SIGTERM:
		got_term = 1;
		break;
	default:		/* SIGUSR1, SIGINFO */
		got_usr1 = 1;
		break;
	}
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

	if (stat(jail, &st) == -1)
		err(1, "-p %s", jail);
	if (!S_ISDIR(st.st_mode))
		errx(1, "-p %s: not a directory", jail);
	sock_place();
	if ((cwd = open(jail[0] == '/' ? "/" : ".",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		err(1, "cannot open the working directory");
	sock_probe();
	if ((priv = sock_private(name, sizeof(name))) == -1)
		exit(1);
	made = sock_make(priv, cwd);
	close(priv);
	close(cwd);
	/* Fails, and shall, if somebody has moved it or put another there. */
	(void)unlinkat(sockdir, name, AT_REMOVEDIR);
	if (made == -1)
		exit(1);
}

/*
 * Splits sockpath into its directory, which is opened as sockdir, and
 * sockname.  Symbolic links on the way to the directory are followed, as
 * /var/run may be one; this is the only time.  Ends if that is impossible.
 */
static void
sock_place(void)
{
	char		 dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char		*slash;

	if (sockpath[0] == '\0')
		errx(1, "-s: socket path is empty");
	/* Made by a shorter name, but clients need the whole path. */
	if (strlcpy(dir, sockpath, sizeof(dir)) >= sizeof(dir))
		errx(1, "-s %s: path is too long for a socket, at most %zu "
		    "bytes", sockpath, sizeof(dir) - 1);
	sockname = sockpath;
	if ((slash = strrchr(dir, '/')) != NULL) {
		sockname += slash - dir + 1;
		/* Of "/x" the slash is the directory. */
		slash[slash == dir] = '\0';
	} else
		(void)strlcpy(dir, ".", sizeof(dir));
	if (sockname[0] == '\0')
		errx(1, "-s %s: ends in a slash, so it is no socket's path",
		    sockpath);
	if ((sockdir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) == -1)
		err(1, "cannot open the directory of socket %s", sockpath);
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

	if (fstatat(sockdir, sockname, &st, AT_SYMLINK_NOFOLLOW) == -1) {
		if (errno != ENOENT)
			err(1, "%s", sockpath);
		return;
	}
	if (!S_ISSOCK(st.st_mode))
		errx(1, "%s: exists and is not a socket", sockpath);
	if (fchdir(sockdir) == -1)
		err(1, "cannot enter the directory of socket %s", sockpath);
	sock_address(&sun, sockname);
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
		errx(1, "%s: is in use by a running server", sockpath);
	default:
		err(1, "%s", sockpath);
	}
	close(fd);
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
		err(1, "%s", sockpath);
	}
}

/* What connect(2) says: errno, or 0. */
static int
sock_ask(int fd, const struct sockaddr_un *sun)
{
	return connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == -1 ?
	    errno : 0;
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
		made = mkdirat(sockdir, name, 0700);
		umask(mask);
	} while (made == -1 && errno == EEXIST && --tries > 0);
	if (made == -1) {
		warn("cannot make a directory for socket %s", sockpath);
		return -1;
	}
	if ((fd = openat(sockdir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
	    O_CLOEXEC)) == -1)
		warn("cannot open the directory made for socket %s", sockpath);
	else if (fstat(fd, &st) == -1)
		warn("cannot look at the directory made for socket %s",
		    sockpath);
	else if (st.st_uid != geteuid() || (st.st_mode & 0777) != 0700)
		warnx("the directory made for socket %s is not ours alone: "
		    "somebody else exchanges it", sockpath);
	else
		return fd;
	fd_close(&fd);
	(void)unlinkat(sockdir, name, AT_REMOVEDIR);
	return -1;
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
		warn("cannot enter the directory made for socket %s", sockpath);
		return -1;
	}
	if (!variable) {
		if ((trialfd = sock_bind(0)) == -1)
			return -1;
		if (unlinkat(priv, sockname, 0) == -1) {
			warn("cannot remove the trial's socket for %s",
			    sockpath);
			return -1;
		}
		if (listen(trialfd, backlog) == -1) {
			warn("cannot listen on socket %s", sockpath);
			return -1;
		}
	}
	if ((listenfd = sock_bind(variable ? O_NONBLOCK : 0)) == -1)
		return -1;
	if (fstatat(priv, sockname, &sockst, AT_SYMLINK_NOFOLLOW) == -1)
		warn("%s", sockpath);
	/* A default ACL of the directory may have narrowed it. */
	else if ((sockst.st_mode & 07777) != 0660 &&
	    fchmodat(priv, sockname, 0660, 0) == -1)
		warn("cannot set the mode of socket %s", sockpath);
	else if (fchownat(priv, sockname, sockuid, sockgid,
	    AT_SYMLINK_NOFOLLOW) == -1)
		warn("cannot give socket %s to user %ld", sockpath,
		    (long)sockuid);
	else if (listen(listenfd, backlog) == -1)
		warn("cannot listen on socket %s", sockpath);
	else if (fchdir(cwd) == -1)
		warn("cannot return to the working directory");
	else if (renameat(priv, sockname, sockdir, sockname) == -1)
		warn("cannot move the socket to %s", sockpath);
	else
		return 0;
	(void)unlinkat(priv, sockname, 0);
	return -1;
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
	sock_address(&sun, sockname);
	mask = umask(0117);
	bound = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	umask(mask);
	if (bound == -1) {
		warn("cannot make socket %s", sockpath);
		return -1;
	}
	return fd;
}

/* The address of a name in the working directory, short enough. */
static void
sock_address(struct sockaddr_un *sun, const char *name)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	(void)strlcpy(sun->sun_path, name, sizeof(sun->sun_path));
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

	if (fstatat(sockdir, sockname, &st, AT_SYMLINK_NOFOLLOW) != -1 &&
	    st.st_dev == sockst.st_dev && st.st_ino == sockst.st_ino)
		(void)unlinkat(sockdir, sockname, 0);
}

/*
 * Splits off the process that keeps its privileges until the start has come
 * out, because a start that fails must take its socket back.  It is the one
 * the shell waits for, unless -d: then it is a child, and the manager stays
 * in the foreground [B2].
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
	if ((pid == 0) == debug) {
		close(p[1]);
		close(listenfd);
		fd_close(&trialfd);
		start_wait(p[0], pid);
	}
	close(p[0]);
	/* A way out of the jail, which the manager must not have. */
	fd_close(&sockdir);
	startfd = p[1];
	manager = getpid();
	if (debug)
		starter = pid;
	else if (setsid() == -1)
		fatal("setsid: %s", strerror(errno));
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
		/* Who interrupts us means the start, which must end well. */
		manager = pid;
		memset(&sa, 0, sizeof(sa));
		sigemptyset(&sa.sa_mask);
		sa.sa_handler = on_signal_start;
		(void)sigaction(SIGINT, &sa, NULL);
		(void)sigaction(SIGTERM, &sa, NULL);
		sa.sa_handler = SIG_IGN;
		(void)sigaction(SIGHUP, &sa, NULL);
		(void)sigprocmask(SIG_SETMASK, &nomask, NULL);
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
			warnx("the manager %s while starting", cause(ws));
	}
	_exit(1);
}

static void
on_signal_start(int sig)
{
	int	 saved = errno;

	(void)sig;
	(void)kill(manager, SIGTERM);
	errno = saved;
}

/* Tells that the start has succeeded, and leaves the caller's terminal. */
static void
start_report(void)
{
	int	 fd;

	up = 1;
	pollfds[1].fd = output[0];
	/* Cannot fail: all these are open. */
	for (fd = 0; fd < CONTROL_FD && !debug; fd++)
		(void)dup2(nullfd, fd);
	if (write(startfd, "", 1) == 1)
		logit(LOG_INFO, "started: %zu worker%s of %s in %s for %s",
		    min, min == 1 ? "" : "s", prog[0], jail, sockpath);
	else {
		/* Nobody was told that we are here: then we must not be. */
		logit(LOG_ERR, "the starting process is gone: stopping");
		stop(1, LEAVE_GRACE);
	}
	fd_close(&startfd);
}

/*
 * Enters the jail and drops privileges for good [D1].  Without -U the
 * manager stays root, to be able to signal workers that do the same or that
 * drop privileges by themselves [A4].
 */
static void
jail_enter(void)
{
	if (chroot(jail) == -1 || chdir("/") == -1)
		fatal("-p %s: %s", jail, strerror(errno));
	if (setgroups(1, &procgid) == -1 ||
	    setresgid(procgid, procgid, procgid) == -1 ||
	    setresuid(procuid, procuid, procuid) == -1)
		fatal("cannot become user %ld: %s", (long)procuid,
		    strerror(errno));
	if (procuid == 0)
		logit(LOG_WARNING, "workers run as root: no -U was given, "
		    "or it names root");
	else if (setuid(0) != -1 || seteuid(0) != -1 ||
	    getuid() != procuid || geteuid() != procuid)
		fatal("privileges could be regained");
	if (getgid() != procgid || getegid() != procgid)
		fatal("group privileges could not be dropped");
}

/*
 * Has a look at prog while we may: later pledge(2) forbids it, and execve(2)
 * says ENOENT for a missing interpreter, too [B3].
 */
static void
prog_look(void)
{
	struct stat	 st;

	progerr = stat(prog[0], &st) == -1 ? errno : 0;
	progdir = progerr == 0 && S_ISDIR(st.st_mode);
}

/*
 * The loop.  Its order matters: what workers said is heard before they are
 * reaped; waiting connections are handed out before a worker is thought to
 * be superfluous.
 */
static void
loop(void)
{
	struct timespec	 ts, zero = { 0, 0 };
	int64_t		 due, heard;
	int		 i, n;

	for (i = 0; i < NSTATES; i++)
		TAILQ_INIT(&queue[i]);
	if (watch_reserve() == -1)
		fatal("cannot start: %s", strerror(errno));
	heard = now = clock_ms();
	full_last = short_last = fork_last = brake_last = now - EPISODE;
	trial_begin();
	while (!stopping || nworkers > 0) {
		pollfds[0].fd = variable && up && !backed_up ? listenfd : -1;
		due = deadline();
		if (due != INT64_MAX) {
			due = due > now ? due - now : 0;
			ts.tv_sec = due / SECOND;
			ts.tv_nsec = due % SECOND * 1000000;
		}
		n = ppoll(pollfds, calm ? nwatches : nhot,
		    due == INT64_MAX ? NULL : &ts, &nomask);
		now = clock_ms();
		if (n == -1 && errno != EINTR) {
			/* Out of kernel memory: the signals will do for now. */
			ts.tv_sec = 0;
			ts.tv_nsec = BRAKE_MIN * 1000000;
			(void)ppoll(NULL, 0, &ts, &nomask);
		}
		/* Linux delivers no signal while descriptors are ready. */
		if (n <= 0)
			heard = now;
		else if (now - heard >= SIGNAL_CHECK) {
			(void)ppoll(NULL, 0, &zero, &nomask);
			heard = now;
		}
		events(n);
		signals();
		timers();
		pool_fill();
		pool_accept();
		pool_shrink();
		if (got_usr1)
			status();
	}
	finish();
}

static int64_t
clock_ms(void)
{
	struct timespec	 ts;

	/* Cannot fail: the clock exists everywhere, ts is ours. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * SECOND + ts.tv_nsec / 1000000;
}

/* When something is to be done though nothing happens; INT64_MAX: never. */
static int64_t
deadline(void)
{
	struct worker	*w;
	int64_t		 due = INT64_MAX;

#define SOONER(when)	do { if ((when) < due) due = (when); } while (0)
	if (trial)
		SOONER(trial_due);
	if (stopping)
		SOONER(stop_due);
	if (!stopping && now < brake_due &&
	    (braked || backed_up || !TAILQ_EMPTY(&orphans)))
		SOONER(brake_due);
	if (!stopping && now < accept_due &&
	    (backed_up || !TAILQ_EMPTY(&orphans)))
		SOONER(accept_due);
	if (!stopping && in[IDLE] + in[BUSY] > min &&
	    (w = TAILQ_LAST(&queue[IDLE], workers)) != NULL)
		SOONER(w->since + waittime);
	if ((w = TAILQ_FIRST(&queue[LOST])) != NULL)
		SOONER(w->due);
	if ((w = TAILQ_FIRST(&queue[LEAVING])) != NULL)
		SOONER(w->due);
	if (!stopping && saturated && now < full_due)
		SOONER(full_due);
	if (ndropped)
		SOONER(lines_due);
	if (!calm && nhot < nwatches)
		SOONER(calm_due);
#undef SOONER
	return due;
}

/*
 * Handles what n descriptors of the last ppoll(2) reported.  They are noted
 * first, since to handle one may move or close others.
 */
static void
events(int n)
{
	struct watch	*wt;
	size_t		 i, nready = 0, hotready = 0;

	if (n > 0 && pollfds[0].revents) {
		backed_up = 1;
		n--;
		hotready++;
	}
	if (n > 0 && pollfds[1].revents) {
		(void)output_read();
		n--;
		hotready++;
	}
	for (i = 2; n > 0 && i < nwatches; i++)
		if (pollfds[i].revents) {
			pollfds[i].revents = 0;
			ready[nready++] = watches[i];
			hotready += i < nhot;
			n--;
		}
	for (i = 0; i < nready; i++) {
		wt = ready[i];
		if (wt->fd == -1)
			continue;
		if (wt == &wt->w->exec)
			worker_executed(wt->w);
		else
			(void)worker_read(wt->w);
	}
	if (hotready) {
		calm = 0;
		calm_due = now + SETTLE;
	} else if (now >= calm_due)
		calm = 1;
}

/* Acts on the signals that the last ppoll(2) let in; TERM beats HUP [H3]. */
static void
signals(void)
{
	struct worker	*w;
	int		 n;

	if (got_chld) {
		got_chld = 0;
		pool_reap();
	}
	if ((n = got_term + got_int) > 0) {
		got_term = got_int = 0;
		if (!up && !stopping) {
			logit(LOG_ERR, "was told to stop while starting");
			stop(1, FAIL_GRACE);
		} else
			stop(0, LEAVE_GRACE);
		if (n > 1)
			kill_all();
	}
	if (got_hup) {
		got_hup = 0;
		if (stopping)
			return;
		again = 1;
		/* Those whom the last one let go had their time [G3]. */
		while (!variable && (w = TAILQ_FIRST(&queue[LEAVING])) != NULL)
			worker_kill(w, SIGKILL);
	}
}

/* Does what is due. */
static void
timers(void)
{
	struct worker	*w;

	if (trial && now >= trial_due)
		trial_commit();
	if (again && !trial && !stopping)
		trial_begin();
	if (now >= brake_due)
		braked = 0;
	if (stopping && now >= stop_due)
		kill_all();
	while ((w = TAILQ_FIRST(&queue[LOST])) != NULL && now >= w->due)
		worker_fault(w, "closed its control socket but lives");
	while ((w = TAILQ_FIRST(&queue[LEAVING])) != NULL && now >= w->due) {
		logit(LOG_WARNING, "worker %ld did not leave within %d s of "
		    "SIGTERM: killed", (long)w->pid, LEAVE_GRACE / SECOND);
		worker_kill(w, SIGKILL);
	}
	if (ndropped && now >= lines_due)
		output_dropped();
}

/* The end: no worker is left.  After a failed start no socket is, either. */
static void
finish(void)
{
	int	 i;

	/* All that is in the pipe; bounded, since somebody may have escaped. */
	for (i = 0; i < 64 && output_read(); i++)
		continue;
	/* Nobody is held up any more, and it should be known how it ended. */
	logwait = SECOND;
	output_line();
	output_dropped();
	if (up)
		logit(LOG_INFO, "stopped");
	fd_close(&startfd);
	if (starter != -1)
		while (waitpid(starter, NULL, 0) == -1 && errno == EINTR)
			continue;
	exit(exitstatus);
}

/*
 * Starts a whole generation of n workers, at start and on SIGHUP [B2, G1].
 * They get nothing to do yet, but in a fixed pool they share the listener.
 */
static void
trial_begin(void)
{
	size_t	 i;

	again = 0;
	trial = 1;
	trial_left = min;
	trial_due = INT64_MAX;
	for (i = 0; i < min; i++)
		if (worker_start(TRIAL) == NULL) {
			trial_fail("cannot start a worker: %s",
			    strerror(errno));
			return;
		}
}

/* All of the generation was executed and is alive: it is the pool now. */
static void
trial_commit(void)
{
	struct worker	*w;

	/* News of a death may be as old as SIGNAL_CHECK. */
	pool_reap();
	if (!trial)
		return;
	TAILQ_FOREACH(w, &queue[TRIAL], entry)
		if (variable && w->ctl.fd == -1) {
			trial_fail("worker %ld closed its control socket",
			    (long)w->pid);
			return;
		}
	trial = 0;
	/* What held up the old ones is over. */
	braked = 0;
	brake_due = 0;
	/* The lost are on their way out, which pool_reap() shall explain. */
	while ((w = TAILQ_FIRST(&queue[IDLE])) != NULL)
		worker_stop(w);
	while ((w = TAILQ_FIRST(&queue[BUSY])) != NULL)
		worker_state(w, DRAIN);
	while ((w = TAILQ_FIRST(&queue[TRIAL])) != NULL)
		worker_state(w, IDLE);
	if (!up)
		start_report();
	else
		logit(LOG_INFO, "reloaded: %zu new worker%s, %zu of the old "
		    "still busy", min, min == 1 ? "" : "s", in[DRAIN]);
}

/* The generation is no good, and why.  On SIGHUP the old one stays. */
static void
trial_fail(const char *fmt, ...)
{
	struct worker	*w;
	va_list		 ap;
	char		 why[1024];

	trial = 0;
	va_start(ap, fmt);
	(void)vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (!up) {
		output_show();
		logit(LOG_ERR, "%s", why);
		stop(1, FAIL_GRACE);
		return;
	}
	logit(LOG_ERR, "reload failed, the old workers stay: %s", why);
	while ((w = TAILQ_FIRST(&queue[TRIAL])) != NULL)
		worker_stop(w);
}

/*
 * Begins to stop, with that exit status: at once who is idle, with -r who is
 * busy after that, and who is still there after grace milliseconds is killed
 * [H].  Asked again, kills at once.
 */
static void
stop(int st, int64_t grace)
{
	struct worker	*w;
	struct orphan	*o;

	if (stopping) {
		kill_all();
		return;
	}
	stopping = 1;
	exitstatus = st;
	stop_due = now + grace;
	trial = 0;
	while ((w = TAILQ_FIRST(&queue[IDLE])) != NULL ||
	    (w = TAILQ_FIRST(&queue[LOST])) != NULL ||
	    (w = TAILQ_FIRST(&queue[TRIAL])) != NULL)
		worker_stop(w);
	while ((w = TAILQ_FIRST(&queue[BUSY])) != NULL)
		worker_state(w, DRAIN);
	while ((o = TAILQ_FIRST(&orphans)) != NULL) {
		TAILQ_REMOVE(&orphans, o, entry);
		close(o->conn);
		free(o);
	}
	/*
	 * The workers of a fixed pool have the listener, too.  Linux refuses
	 * connections to it from here on; the BSDs, when the last has gone.
	 */
	if (!variable)
		(void)shutdown(listenfd, SHUT_RDWR);
	fd_close(&listenfd);
}

/* Ends the patience with whoever is still there. */
static void
kill_all(void)
{
	struct worker	*w;
	size_t		 n;

	n = in[DRAIN] + in[LOST] + in[LEAVING];
	if (n > 0)
		logit(LOG_WARNING, "%zu worker%s had to be killed", n,
		    n == 1 ? "" : "s");
	stop_due = INT64_MAX;
	while ((w = TAILQ_FIRST(&queue[DRAIN])) != NULL ||
	    (w = TAILQ_FIRST(&queue[LOST])) != NULL ||
	    (w = TAILQ_FIRST(&queue[LEAVING])) != NULL)
		worker_kill(w, SIGKILL);
}

/*
 * One line for SIGUSR1 and SIGINFO [I3], at the end of a turn of the loop,
 * when the dead have been replaced.
 */
static void
status(void)
{
	got_usr1 = 0;
	logit(LOG_INFO, "status: %zu %s, %zu busy, %zu leaving, %zu starting; "
	    "min %zu, max %zu; %llu handed out, %llu deaths, %llu restarts",
	    in[IDLE], variable ? "idle" : "serving", in[BUSY],
	    in[DRAIN] + in[LOST] + in[LEAVING] + in[KILLED],
	    in[TRIAL] + braked, min, max, (unsigned long long)handed,
	    (unsigned long long)deaths, (unsigned long long)restarts);
}

static size_t
pool_count(void)
{
	return in[IDLE] + in[BUSY] + in[LOST];
}

/* Replaces the dead, but for those whose replacements are braked [F1]. */
static void
pool_fill(void)
{
	while (up && !stopping && pool_count() + braked < min) {
		if (worker_start(IDLE) == NULL) {
			start_failed();
			return;
		}
		restarts++;
	}
}

/*
 * Hands out connections while there are any, and workers to have them: idle
 * ones, or new ones up to N [E1], among which count those that were released
 * and are slow to go, lest they pile up.  Whether there is another is asked of
 * poll(2): an accept4(2) in vain costs 3 us on Linux, not 0.2, which was 6 %
 * of the time per request with 4 workers.  Not when saturated: then there
 * nearly always is.
 */
static void
pool_accept(void)
{
	struct worker	*w;
	int		 accepted = 0, conn, rv;

	while (!stopping && (!TAILQ_EMPTY(&orphans) ||
	    (backed_up && now >= accept_due))) {
		if (accepted && !saturated && TAILQ_EMPTY(&orphans) &&
		    !fd_ready(listenfd, POLLIN, 0)) {
			backed_up = 0;
			return;
		}
		w = TAILQ_FIRST(&queue[IDLE]);
		if (w == NULL && (pool_count() + in[LEAVING] >= max ||
		    now < brake_due)) {
			pool_full();
			return;
		}
		if ((conn = conn_next()) == -1)
			return;
		accepted = 1;
		if (w == NULL && (w = worker_start(IDLE)) == NULL) {
			start_failed();
			conn_keep(conn);
			return;
		}
		if ((rv = worker_assign(w, conn)) != 1)
			conn_keep(conn);
		if (rv == -1)
			return;
	}
}

/*
 * Nobody can take the next connection: saturation, told once [E5], if it lasts.
 * For a moment two clients can do it to four workers, since who has its answer
 * may be back before the worker's cookie is.
 */
static void
pool_full(void)
{
	if (!backed_up)
		return;
	if (!saturated)
		full_due = now + FULL_TIME;
	saturated = 1;
	if (full || pool_count() < max || now < full_due)
		return;
	full = 1;
	if (now - full_last >= EPISODE)
		logit(LOG_WARNING, "all %zu workers are busy and connections "
		    "wait: -N may be too low", max);
}

/*
 * Releases workers above n that were idle for too long, oldest first [E2].
 * The lost do not count: they will not be there.
 */
static void
pool_shrink(void)
{
	struct worker	*w;

	while (!stopping && in[IDLE] + in[BUSY] > min &&
	    (w = TAILQ_LAST(&queue[IDLE], workers)) != NULL &&
	    now - w->since >= waittime) {
		logit(LOG_DEBUG, "worker %ld released after %lld s of "
		    "idleness", (long)w->pid,
		    (long long)(now - w->since) / SECOND);
		worker_stop(w);
	}
}

static void
pool_reap(void)
{
	struct worker	*w;
	pid_t		 pid;
	int		 ws;

	while ((pid = waitpid(-1, &ws, WNOHANG)) > 0) {
		if (pid == starter)
			starter = -1;
		else if ((w = worker_find(pid)) != NULL)
			worker_dead(w, ws);
	}
}

/*
 * Whether the pool has had a healthy worker since the brake was last
 * applied.  Asked only when a worker has died young.
 */
static int
pool_healthy(void)
{
	static const enum state living[] = { IDLE, BUSY, DRAIN };
	struct worker	*w;
	size_t		 i;
	int		 healthy = 0;

	for (i = 0; i < sizeof(living) / sizeof(living[0]); i++)
		TAILQ_FOREACH(w, &queue[living[i]], entry) {
			if (w->served == 0 && now - w->started < HEALTHY_AGE)
				continue;
			proven = 1;
			if (w->started > brake_last)
				healthy = 1;
		}
	return healthy;
}

/*
 * A worker died young, or could not be started: replacements wait, each
 * time longer.  Those that die while others wait already are the same time.
 */
static void
brake(void)
{
	if (now >= brake_due) {
		if (pool_healthy())
			brake_delay = 0;
		brake_delay *= 2;
		if (brake_delay < BRAKE_MIN)
			brake_delay = BRAKE_MIN;
		if (brake_delay > BRAKE_MAX)
			brake_delay = BRAKE_MAX;
		brake_last = now;
		brake_due = now + brake_delay;
		logit(LOG_INFO, "next worker in %lld ms",
		    (long long)brake_delay);
	}
	if (pool_count() + braked < min)
		braked++;
}

/* worker_start() failed, errno says why; the pool serves on [J2]. */
static void
start_failed(void)
{
	int	 saved = errno;

	if (episode(&fork_last))
		logit(LOG_ERR, "cannot start a worker: %s, serving with %zu",
		    strerror(saved), pool_count());
	brake();
	if (pool_count() < min)
		braked = min - pool_count();
}

/*
 * The next connection to be handed out: one whose worker died before taking
 * it, or a new one.  -1 if there is none, or none can be accepted [J1].
 */
static int
conn_next(void)
{
	struct orphan	*o;
	int		 conn;

	if ((o = TAILQ_FIRST(&orphans)) != NULL) {
		conn = o->conn;
		TAILQ_REMOVE(&orphans, o, entry);
		free(o);
		return conn;
	}
	do {
		conn = accept4(listenfd, NULL, NULL, SOCK_CLOEXEC);
	} while (conn == -1 && (errno == EINTR || errno == ECONNABORTED));
	if (conn != -1)
		return conn;
	if (errno == EAGAIN || errno == EWOULDBLOCK) {
		if (full)
			full_last = now;
		backed_up = saturated = full = 0;
	} else {
		accept_due = now + SHORT_RETRY;
		if (episode(&short_last))
			logit(LOG_ERR, "cannot accept connections for now: %s",
			    strerror(errno));
	}
	return -1;
}

/* Keeps a connection for the next worker.  Out of memory, it is closed. */
static void
conn_keep(int conn)
{
	struct orphan	*o;

	if ((o = malloc(sizeof(*o))) == NULL) {
		logit(LOG_ERR, "connection closed: %s", strerror(errno));
		close(conn);
		return;
	}
	o->conn = conn;
	TAILQ_INSERT_HEAD(&orphans, o, entry);
}

/*
 * Starts a worker in that state, TRIAL or IDLE.  An idle one may be handed a
 * connection at once, which waits in the control socket until it can read.
 * NULL with errno if descriptors, memory or processes are short.
 */
static struct worker *
worker_start(enum state st)
{
	struct worker	*w;
	int		 ctl[2] = { -1, -1 }, ex[2] = { -1, -1 }, saved;

	if (watch_reserve() == -1 || (w = calloc(1, sizeof(*w))) == NULL)
		return NULL;
	if ((variable &&
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
		worker_child(ctl[1], ex[1]);
	fd_close(&ctl[1]);
	fd_close(&ex[1]);
	w->started = w->since = now;
	w->conn = w->exec.fd = w->ctl.fd = -1;
	w->exec.w = w->ctl.w = w;
	watch_add(&w->exec, ex[0]);
	watch_hot(&w->exec);
	if (variable) {
		watch_add(&w->ctl, ctl[0]);
		/* One that is no good must be found out while on trial. */
		if (st == TRIAL)
			watch_hot(&w->ctl);
	}
	/* Behind those who are ready: it has yet to be executed. */
	w->state = st;
	TAILQ_INSERT_TAIL(&queue[st], w, entry);
	in[st]++;
	nworkers++;
	logit(LOG_DEBUG, "worker %ld started", (long)w->pid);
	return w;
}

/*
 * In the child: arranges what a worker inherits [D] and executes prog, or
 * reports on ex why not.  ctl is its end of the control socket.
 */
static void
worker_child(int ctl, int ex)
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
	 * A group of its own [D6], and if there is a terminal, nothing to do
	 * with that.  Not always a session: Linux would schedule each worker
	 * as if it were a user, which made the manager 15 % more expensive.
	 */
	TRY("process group", (terminal ? setsid() : setpgid(0, 0)) == -1);
#ifdef __linux__
	TRY("prctl", prctl(PR_SET_PDEATHSIG, SIGKILL) == -1);
	if (getppid() != manager)
		_exit(1);
#endif
	TRY("dup2", dup2(variable ? nullfd : listenfd, STDIN_FILENO) == -1);
	if (!debug)
		TRY("dup2", dup2(output[1], STDOUT_FILENO) == -1 ||
		    dup2(output[1], STDERR_FILENO) == -1);
	if (variable)
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
	TRY("", execv(prog[0], prog) == -1);
#undef TRY
fail:
	memset(&rep, 0, sizeof(rep));
	rep.error = errno;
	(void)strlcpy(rep.call, call, sizeof(rep.call));
	if (write(ex, &rep, sizeof(rep)) == -1)
		_exit(126);		/* the manager is gone */
	_exit(127);
}

/* Moves a worker to another state, the only way to change it. */
static void
worker_state(struct worker *w, enum state st)
{
	TAILQ_REMOVE(&queue[w->state], w, entry);
	in[w->state]--;
	w->state = st;
	w->since = now;
	in[st]++;
	if (st == IDLE)
		TAILQ_INSERT_HEAD(&queue[st], w, entry);
	else
		TAILQ_INSERT_TAIL(&queue[st], w, entry);
	if (w->ctl.fd == -1)
		return;
	if (st == BUSY || st == DRAIN)
		watch_hot(&w->ctl);
	else
		watch_cold(&w->ctl);
}

/* The child executed prog, or reports why it could not; known once only. */
static void
worker_executed(struct worker *w)
{
	struct report	 rep;
	ssize_t		 n;

	if (w->exec.fd == -1)
		return;
	n = read(w->exec.fd, &rep, sizeof(rep));
	watch_close(&w->exec);
	if (n != sizeof(rep)) {
		if (w->state == TRIAL && --trial_left == 0)
			trial_due = now + TRIAL_TIME;
		return;
	}
	w->failed = 1;
	if (w->state == TRIAL) {
		trial_fail("%s", worker_excuse(&rep));
		return;
	}
	if (w->state < LOST)
		logit(LOG_ERR, "%s", worker_excuse(&rep));
	worker_lost(w, 1);
}

/* Says what could not be executed, where and why [B3]. */
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
	if (rep->error == ENOENT && up)
		hint = ", or its interpreter or dynamic loader is missing "
		    "in the jail";
	else if (rep->error == ENOENT && progerr == 0)
		hint = ": the file is there, but its interpreter or dynamic "
		    "loader is missing in the jail";
	else if (rep->error == ENOENT)
		hint = ": the path is looked for inside the jail";
	else if (rep->error == EACCES && progdir && !up)
		hint = ": it is a directory";
	else if (rep->error == EACCES) {
		hint = " for user ";
		who = procuser;
	} else if (rep->error == ENOEXEC)
		hint = ": neither a program for this system nor a script "
		    "with #! and an interpreter";
	(void)snprintf(buf, sizeof(buf), "cannot execute %s in %s: %s%s%s",
	    prog[0], jail, strerror(rep->error), hint, who);
	return buf;
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
	uint64_t	 cookie = handed + 1;
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

	n = sendmsg(w->ctl.fd, &msg, 0);
	if (n == sizeof(cookie)) {
		handed++;
		w->cookie = cookie;
		w->inlen = 0;
		w->conn = conn;
		worker_state(w, BUSY);
		if (verbose)
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
	accept_due = now + SHORT_RETRY;
	if (episode(&short_last))
		logit(LOG_ERR, "cannot hand out connections for now: %s",
		    strerror(errno));
	return -1;
}

/*
 * Reads what a worker has to say: the cookie of its connection, whole or in
 * pieces [E6], and nothing else.  Returns whether there may be more.
 */
static int
worker_read(struct worker *w)
{
	ssize_t	 n;
	int	 unread;

	n = read(w->ctl.fd, w->in + w->inlen, sizeof(w->in) - w->inlen);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		/*
		 * On Linux ECONNRESET says that our message was never read
		 * [F4].  The BSDs do not tell, hence a taken one; but who was
		 * never executed has read nothing, and reports that.
		 */
		unread = n == -1 && errno == ECONNRESET && w->inlen == 0;
		worker_executed(w);
		worker_lost(w, unread);
		return 0;
	}
	w->inlen += n;
	if (w->state != BUSY && w->state != DRAIN)
		worker_fault(w, "wrote to its control socket unasked");
	else if (w->inlen > sizeof(w->cookie))
		worker_fault(w, "wrote more than its cookie");
	else if (w->inlen == sizeof(w->cookie)) {
		if (memcmp(w->in, &w->cookie, sizeof(w->cookie)) == 0)
			worker_ack(w);
		else
			worker_fault(w, "wrote a wrong cookie");
	}
	return 1;
}

/* The cookie is back: so is the worker, and the connection is done with. */
static void
worker_ack(struct worker *w)
{
	fd_close(&w->conn);
	w->inlen = 0;
	accept_due = 0;
	if (w->served++ == 0) {
		proven = 1;
		brake_delay = 0;
	}
	if (verbose)
		logit(LOG_DEBUG, "worker %ld is done with connection %llu",
		    (long)w->pid, (unsigned long long)w->cookie);
	if (w->state == DRAIN)
		worker_stop(w);
	else
		worker_state(w, IDLE);
}

/*
 * The control socket is at its end.  A connection that the worker has not
 * read goes to another; one that it may have read is closed, never replayed
 * [F4, F5].  Most likely the worker is dying, so SIGCHLD may explain it.
 */
static void
worker_lost(struct worker *w, int unread)
{
	if (w->conn != -1 && unread && !stopping) {
		conn_keep(w->conn);
		w->conn = -1;
	} else if (w->conn != -1) {
		w->cut = 1;
		fd_close(&w->conn);
	}
	watch_close(&w->ctl);
	if (w->state == IDLE || w->state == BUSY || w->state == DRAIN) {
		w->due = now + LOST_GRACE;
		worker_state(w, LOST);
	}
}

/* Stops a worker that broke the protocol [F6]. */
static void
worker_fault(struct worker *w, const char *what)
{
	int	 young;

	if (w->state == TRIAL) {
		trial_fail("worker %ld %s", (long)w->pid, what);
		return;
	}
	logit(LOG_ERR, "worker %ld %s: stopped", (long)w->pid, what);
	deaths++;
	young = worker_young(w);
	worker_stop(w);
	if (young)
		brake();
}

/* Tells a worker to go; its connection, if it still has one, is closed. */
static void
worker_stop(struct worker *w)
{
	if (w->conn != -1) {
		w->cut = 1;
		fd_close(&w->conn);
	}
	watch_close(&w->ctl);
	w->due = now + LEAVE_GRACE;
	worker_state(w, LEAVING);
	worker_kill(w, SIGTERM);
}

/*
 * Whether its end is one of a crash loop [F3]: it ended early and has not
 * served.  One that died of a request has; else clients that hang up on
 * workers that die of that could apply the brake from outside.
 */
static int
worker_young(const struct worker *w)
{
	int64_t	 end = w->state == LOST ? w->since : now;

	return w->served == 0 && !w->cut && end - w->started < HEALTHY_AGE;
}

/* SIGTERM is for the worker to handle; SIGKILL is for all its processes. */
static void
worker_kill(struct worker *w, int sig)
{
	if (sig == SIGKILL) {
		if (w->conn != -1)
			fd_close(&w->conn);
		watch_close(&w->ctl);
		worker_state(w, KILLED);
	}
	if (w->reaped)
		return;
	(void)kill(w->pid, sig);
	/* There is no such group yet, if it has not come to make it. */
	if (sig == SIGKILL)
		(void)kill(-w->pid, sig);
}

/* A worker was reaped with status ws [F1 to F5]. */
static void
worker_dead(struct worker *w, int ws)
{
	static const char doubt[] = ": does it speak what -r asks for?";
	enum state	 was;
	int		 asked, clean, young;

	w->reaped = 1;
	worker_executed(w);
	while (w->ctl.fd != -1 && worker_read(w) > 0)
		continue;
	if (w->conn != -1)
		worker_lost(w, 0);
	watch_close(&w->ctl);	/* another of its processes may have it */
	(void)output_read();

	was = w->state;
	asked = was == LEAVING || was == KILLED;
	clean = WIFEXITED(ws) && WEXITSTATUS(ws) == 0;
	young = worker_young(w);
	worker_state(w, KILLED);
	worker_leftovers(w, asked, clean);
	if (was != TRIAL)
		logit(death_level(w, asked, ws), variable ?
		    "worker %ld %s after %s, served %llu" :
		    "worker %ld %s after %s", (long)w->pid, cause(ws),
		    lifetime(w), (unsigned long long)w->served);
	else if (trial)
		trial_fail("worker %ld of %s %s, %s after its start%s",
		    (long)w->pid, prog[0], cause(ws), lifetime(w),
		    clean && variable ? doubt : "");

	if (!asked && was != TRIAL)
		deaths++;
	/* A fixed pool's worker that recycles itself has served, too [F2]. */
	if (w->served > 0 || now - w->started >= HEALTHY_AGE ||
	    (clean && !asked && !variable))
		proven = 1;
	/*
	 * A worker that exits 0 recycles itself and is replaced at once [F2].
	 * If we know that it has not served, that is no recycling but a loop.
	 */
	if (young && !asked && was != TRIAL && !(clean && !variable)) {
		brake();
		if (!proven && brake_delay == BRAKE_MAX && !killed(ws)) {
			logit(LOG_CRIT, "no worker has ever lived for a "
			    "second or served a request: giving up");
			stop(1, FAIL_GRACE);
		}
	}
	accept_due = 0;		/* descriptors were freed [J1] */
	TAILQ_REMOVE(&queue[KILLED], w, entry);
	in[KILLED]--;
	nworkers--;
	free(w);
}

/*
 * Ends what a dead worker has left in its process group: it may have the
 * client's connection, or the listener.  But who recycles itself may leave
 * somebody to finish a job.
 */
static void
worker_leftovers(const struct worker *w, int asked, int clean)
{
	if (w->cut || stopping || !(asked || clean))
		(void)kill(-w->pid, SIGKILL);
	else if (asked)
		(void)kill(-w->pid, SIGTERM);
}

/* How grave it is that a worker ended like that [F1, F2]. */
static int
death_level(const struct worker *w, int asked, int ws)
{
	if (w->failed || !up || (asked && (WIFEXITED(ws) || killed(ws))))
		return LOG_DEBUG;
	return WIFEXITED(ws) && WEXITSTATUS(ws) == 0 ? LOG_INFO : LOG_ERR;
}

static struct worker *
worker_find(pid_t pid)
{
	struct worker	*w;
	int		 i;

	for (i = 0; i < NSTATES; i++)
		TAILQ_FOREACH(w, &queue[i], entry)
			if (w->pid == pid && !w->reaped)
				return w;
	return NULL;
}

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

/* Makes room to watch one worker more.  -1 with errno. */
static int
watch_reserve(void)
{
	size_t	 cap = watchcap == 0 ? 16 : watchcap * 2;
	void	*p;

	if (watchcap >= nwatches + 2 && watchcap > 0)
		return 0;
	if ((p = realloc(pollfds, cap * sizeof(*pollfds))) == NULL)
		return -1;
	pollfds = p;
	if ((p = realloc(watches, cap * sizeof(*watches))) == NULL)
		return -1;
	watches = p;
	if ((p = realloc(ready, cap * sizeof(*ready))) == NULL)
		return -1;
	ready = p;
	if (watchcap == 0) {
		memset(pollfds, 0, 2 * sizeof(*pollfds));
		pollfds[0].fd = pollfds[1].fd = -1;
		pollfds[0].events = pollfds[1].events = POLLIN;
		watches[0] = watches[1] = NULL;
		nwatches = nhot = 2;
	}
	watchcap = cap;
	return 0;
}

/* Watches a worker's descriptor, as a cold one. */
static void
watch_add(struct watch *wt, int fd)
{
	wt->fd = fd;
	wt->slot = nwatches++;
	watches[wt->slot] = wt;
	pollfds[wt->slot].fd = fd;
	pollfds[wt->slot].events = POLLIN;
	pollfds[wt->slot].revents = 0;
}

static void
watch_swap(size_t a, size_t b)
{
	struct pollfd	 pfd = pollfds[a];
	struct watch	*wt = watches[a];

	pollfds[a] = pollfds[b];
	watches[a] = watches[b];
	watches[a]->slot = a;
	pollfds[b] = pfd;
	watches[b] = wt;
	watches[b]->slot = b;
}

/* Has it watched always, or only when all is calm. */
static void
watch_hot(struct watch *wt)
{
	if (wt->slot >= nhot)
		watch_swap(wt->slot, nhot++);
}

static void
watch_cold(struct watch *wt)
{
	if (wt->slot < nhot)
		watch_swap(wt->slot, --nhot);
}

static void
watch_close(struct watch *wt)
{
	if (wt->fd == -1)
		return;
	watch_cold(wt);
	watch_swap(wt->slot, --nwatches);
	fd_close(&wt->fd);
}

/*
 * Whether reading or writing would not block, as far as poll(2) can tell, or
 * comes to that within ms milliseconds.
 */
static int
fd_ready(int fd, short events, int ms)
{
	struct pollfd	 pfd;

	pfd.fd = fd;
	pfd.events = events;
	pfd.revents = 0;
	return poll(&pfd, 1, ms) != 0;
}

/*
 * Opens the log and all that it needs while that is still in sight [B5].  The
 * C library's socket is the descriptor that was free, if it made one at all;
 * we want to know it, since syslog(3) would block on a syslogd that hangs.
 */
static void
log_open(void)
{
	int	 fd;

	tzset();
	if ((fd = dup(nullfd)) != -1)
		close(fd);
	openlog("kfcgi", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	if (fd != -1 && fstat(fd, &logst) == 0 && S_ISSOCK(logst.st_mode))
		logfd = fd;
}

static void
logit(int prio, const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vlogit(prio, fmt, ap);
	va_end(ap);
}

/* To syslog; also to standard error with -d, or if it is why we fail [I1]. */
static void
vlogit(int prio, const char *fmt, va_list ap)
{
	char	 buf[2048];

	if (prio == LOG_DEBUG && !verbose)
		return;
	(void)vsnprintf(buf, sizeof(buf), fmt, ap);
	if ((debug && fd_ready(STDERR_FILENO, POLLOUT, 0)) ||
	    (!up && prio <= LOG_ERR))
		(void)dprintf(STDERR_FILENO, "kfcgi: %s\n", buf);
	log_line(prio, buf);
}

/* Whether syslog(3) would wait for syslogd to read, longer than we do. */
static int
log_blocked(void)
{
	struct stat	 st;

	if (logfd == -1 || fstat(logfd, &st) == -1 ||
	    st.st_dev != logst.st_dev || st.st_ino != logst.st_ino ||
	    fd_ready(logfd, POLLOUT, logwait))
		return 0;
	logwait = 0;
	return 1;
}

/* Gives one line to syslogd, or counts it if that would block. */
static void
log_line(int prio, const char *text)
{
	if (lost_lines > 0 && !log_blocked()) {
		syslog(LOG_WARNING, "%lu lines lost: syslogd did not read them",
		    lost_lines);
		lost_lines = 0;
	}
	if (log_blocked())
		lost_lines++;
	else
		syslog(prio, "%s", text);
}

/* For the set-up, before there is any worker. */
static void
fatal(const char *fmt, ...)
{
	va_list	 ap;

	va_start(ap, fmt);
	vlogit(LOG_ERR, fmt, ap);
	va_end(ap);
	exitstatus = 1;
	finish();
}

/* Whether what happens now is news, or goes on since last seen. */
static int
episode(int64_t *last)
{
	int	 news = now - *last >= EPISODE;

	*last = now;
	return news;
}

/*
 * The pipe for the workers' output [I2].  It is one for all: a pipe each
 * would double what is polled per request.  Never written to by us.  Linux
 * lets a worker open it again: as /dev/stderr it may, but nobody shall read
 * there what is meant for the log, hence made as root.
 */
static void
output_open(void)
{
	if (debug)
		return;
	if (pipe(output) == -1 || fd_flags(output[0], O_NONBLOCK) == -1 ||
	    fd_flags(output[1], 0) == -1)
		fatal("cannot make a pipe for the workers' output: %s",
		    strerror(errno));
	/* The others have no modes for pipes, and no need for them. */
	(void)fchmod(output[1], 0222);
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

	if (!up || output[0] == -1 ||
	    (n = read(output[0], buf, sizeof(buf))) <= 0)
		return 0;
	for (p = buf; n > 0; p += len, n -= len) {
		nl = memchr(p, '\n', n);
		len = nl == NULL ? (size_t)n : (size_t)(nl - p);
		if (len > LINE_SIZE - linelen) {
			len = LINE_SIZE - linelen;
			nl = NULL;
		}
		memcpy(line + linelen, p, len);
		linelen += len;
		if (nl != NULL || linelen == LINE_SIZE)
			output_line();
		if (nl != NULL)
			len++;
	}
	return 1;
}

/* Logs a line of output, or counts it if there were too many. */
static void
output_line(void)
{
	char	 text[LINE_SIZE + sizeof("worker: ")], *p;

	if (linelen == 0)
		return;
	while ((p = memchr(line, '\0', linelen)) != NULL)
		*p = '?';
	if (now >= lines_due) {
		output_dropped();
		nlines = 0;
		lines_due = now + SECOND;
	}
	if (nlines++ < LINES_MAX) {
		(void)snprintf(text, sizeof(text), "worker: %.*s",
		    (int)linelen, line);
		log_line(LOG_NOTICE, text);
	} else
		ndropped++;
	linelen = 0;
}

static void
output_dropped(void)
{
	if (ndropped > 0)
		logit(LOG_WARNING, "%lu lines of the workers' output dropped: "
		    "more than %d in a second", ndropped, LINES_MAX);
	ndropped = 0;
}

/* Shows the shell what the workers of a failed start have written [B4]. */
static void
output_show(void)
{
	char	 buf[4096], last = '\n';
	ssize_t	 n;
	int	 i;

	/* Bounded: somebody may still be writing. */
	for (i = 0; i < 16; i++) {
		if ((n = read(output[0], buf, sizeof(buf))) <= 0 ||
		    write(STDERR_FILENO, buf, n) == -1)
			return;
		last = buf[n - 1];
	}
	if (last != '\n')
		(void)dprintf(STDERR_FILENO, "\n");
}

static const char *
lifetime(const struct worker *w)
{
	static char	 buf[32];
	int64_t		 age = now - w->started;

	(void)snprintf(buf, sizeof(buf), "%lld.%03d s",
	    (long long)(age / SECOND), (int)(age % SECOND));
	return buf;
}

/* Whether somebody ended it: us, or somebody from outside. */
static int
killed(int ws)
{
	return WIFSIGNALED(ws) &&
	    (WTERMSIG(ws) == SIGKILL || WTERMSIG(ws) == SIGTERM);
}

/* A wait status in words. */
static const char *
cause(int ws)
{
	static char	 buf[80];

	if (WIFSIGNALED(ws))
		(void)snprintf(buf, sizeof(buf), "was killed by signal %d (%s)",
		    WTERMSIG(ws), strsignal(WTERMSIG(ws)));
	else
		(void)snprintf(buf, sizeof(buf), "exited with status %d",
		    WEXITSTATUS(ws));
	return buf;
}
