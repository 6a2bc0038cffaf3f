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
 * A simulator: kfcgi's own loop in a kernel, a time and a world that are made
 * up.  It includes ../kfcgi.c unchanged.  The system calls of the engine are
 * macros for the functions sim_*() below, so that an hour of a pool's life
 * takes milliseconds, and what matters in a daemon like this, the order of
 * events, is drawn at random: a signal, a death or a shortage may come between
 * any two calls.
 *
 *	make sim		lives with today's seeds, for 30 seconds
 *	SEED=n make sim		one life, told line by line
 *	FIRST=n LIVES=n make sim	so many lives from a seed on
 *
 * A life is a start, chaos, a calm in which all must be whole again, an idle
 * hour, a reload that may lose nothing, and a stop.  All of it follows from
 * its seed.  Each life is a process of its own, so nothing of it is left for
 * the next.  What must hold is said, and looked at, in the functions check_*()
 * and wherever broken() is called; there is no other oracle.
 *
 * The kernel has one table of descriptors for each simulated process, objects
 * they name, and a queue of events that happen while kfcgi is in a call.  A
 * child is worker_child() itself: fork(2) is a setjmp(3), the child runs on a
 * copy of the table until it calls execv(2) or _exit(2), and what it wrote to
 * the manager's memory is undone.  What it does after execv(2) is a struct
 * program, with the virtues and vices of those that people run.
 */

#include "../compat/compat.h"

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
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
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

/* Times of the world are in microseconds. */
#define MS		1000LL
#define SEC		1000000LL
#define FOREVER		INT64_MAX

#define NFD		1024		/* descriptors of a process */
#define NPROC		256
#define NOBJECT		4096
#define NCLIENT		16384
#define NEVENT		16384
#define NMSG		4		/* messages in a control socket */
#define WORKER_CTL	3		/* its descriptor in a worker */
#define MANAGER		NPROC		/* its process id */
#define NFORK		260		/* in a second, see check_turn() */
#define ARENA		(1024 * 1024)	/* of the manager's memory */

enum kind { NONE, NUL, LISTENER, PIPE, SOCK, CONN };

/* What a descriptor names. */
struct object {
	enum kind	 kind;
	int		 refs;		/* descriptors, and messages */
	int		 peer;		/* the other end, or -1 */
	int		 flags;		/* O_NONBLOCK */
	int		 writes;	/* PIPE: the end to write to */
	unsigned char	 buf[256];	/* what can be read */
	size_t		 len;
	struct {
		uint64_t cookie;
		int	 conn;
	}		 msg[NMSG];	/* SOCK: sent to the worker */
	int		 nmsg;
	int		 reset;		/* the peer left messages unread */
	int		 owner;		/* SOCK: the worker that reads it */
	int		 queue[NFD];	/* LISTENER: clients that wait */
	int		 nqueue;
	int		 down;		/* LISTENER, CONN: shutdown(2) */
	int		 client;	/* CONN: whose it is */
};

/* What a program does when it is run.  Times in ms, chances in 1000. */
struct program {
	int		 exec_time, exec_errno, exec_hangs;
	int		 ready_time;	/* from execve(2) to its first accept */
	int		 fails;		/* dies at once: */
	int		 fail_time, fail_status;
	int		 places;	/* one more exits; 0: no limit */
	int		 life_time;	/* dies by itself; 0: does not */
	int		 life_status;
	int		 slow;		/* a request takes up to this */
	int		 ack_time;	/* from the answer to the cookie */
	int		 odd;		/* requests that go wrong */
	int		 leaves;	/* after so many requests; 0: never */
	int		 late;		/* leaves so long after SIGTERM */
	int		 deaf;		/* workers that do not */
	int		 children;	/* have another process in the group */
	int		 unkillable;	/* while they hang in execve(2) */
};

enum being { FREE, CHILD, LIVE, ZOMBIE };

struct process {
	enum being	 being;
	int		 pid, pgid, parent;
	int		 leader;	/* it is a worker, no child of one */
	int		 trial;		/* it was started on trial */
	int		 end;		/* ZOMBIE: for waitpid(2) */
	struct {
		short	 object;	/* -1: not open */
		short	 cloexec;
	}		 fd[NFD];
	int		 top;		/* above the highest open one */
	unsigned	 mask, pending;	/* signals */
	void		 (*handler[32])(int);
	struct program	 prog;
	int		 started, ready, deaf, hangs, doomed;
	int		 client;	/* what it serves, or -1 */
	int		 conn;		/* the object, or -1 */
	uint64_t	 cookie;
	int		 odd;		/* how this request goes wrong */
	int		 said;		/* bytes of the cookie it wrote */
	int		 served;
	int		 faulty;	/* broke the protocol */
	int64_t		 born, executed, told;	/* 0: not yet */
	int		 freed;		/* its worker has recycled itself */
};

enum client_state { WAITS, HELD, GONE };

struct client {
	enum client_state state;
	int64_t		 born, queued;
	int		 conn;		/* the object, or -1 */
	int		 taker;		/* the worker that read it */
	int		 receiver;	/* the last it was sent to */
	int		 sent, fixed;
	int		 regular;	/* comes back when it was served */
};

enum what {
	EXECUTED, READY, EXPIRE, LOOK, ANSWER, COOKIE, DIE, SPEAK, ARRIVE, HANGUP,
	SIGNAL, FREEZE, REFUSED, SHORT, CHANGE, MEND, PEACE, QUIET, IDLE_BEGIN,
	IDLE_END, RELOADED, STOP, ENDED, NO_POLL
};

struct event {
	int64_t		 at;
	uint64_t	 seq;
	enum what	 what;
	int		 id, arg;
};

/* How a request goes wrong. */
enum odd {
	FINE, CRASH, WRONG, PIECES, SILENT, SHUTS, EXTRA, LEAVES,
	QUITS, UNASKED, NODD
};

/* What may be short, and the errno of it. */
enum shortage { NO_SHORTAGE, FILES, MEMORY, PROCESSES, BUFFERS };

/* The world. */
static struct {
	uint64_t	 seed, random;
	int64_t		 us;		/* the time */
	uint64_t	 hash, seq, nevents, calls, turns;
	int		 show;		/* the life is told */
	int		 is_linux;		/* ends of sockets, groups, orphans */
	struct event	 heap[NEVENT];
	size_t		 nheap;
	struct object	 object[NOBJECT];
	struct process	 process[NPROC];
	int		 npid;		/* the last process id */
	struct client	 client[NCLIENT];
	int		 nclient;
	struct process	*self;		/* who is running */
	int		 in_handler, handled;
	int		 listener, trial, tell; /* objects */
	struct program	 prog;
	int		 gap, burst;	/* between arrivals, in us */
	int		 arrivals;	/* they go on */
	int64_t		 freeze;	/* the manager is stopped for so long, */
	int		 freeze_in;	/* so many calls from now */
	enum shortage	 shortage;
	int		 scarce;	/* per 1000 calls that fail of it */
	int		 nprocess;	/* at most; 0: no limit */
	int		 poll_fails;	/* for good */
} world;

/* What has happened, as far as a check has to know. */
static struct {
	int		 reported;	/* to the shell, that it is up */
	int		 up;		/* the log says so */
	int		 recycled;	/* a worker left with status 0 */
	int		 asked;		/* SIGTERM and the like, so far */
	int64_t		 asked_at, reload_at;
	int64_t		 frozen;	/* end of the last stop of the manager */
	int64_t		 short_at;	/* a call failed of a shortage */
	int64_t		 mended;	/* the world is in order since then */
	int64_t		 patience;	/* the end may take so long */
	int		 gentle;	/* no client may be lost */
	int64_t		 torn;		/* the pool was not whole, or clients waited */
	int		 wakeups;	/* in the idle hour */
	int		 spoilt;	/* the start may fail */
	int		 hopeless;	/* the start must fail */
	int		 handed, deaths;
	int		 faults;	/* told to go for a fault of theirs */
	int		 restless;	/* polls in a row that did nothing */
	int64_t		 forks[NFORK];	/* times of the last ones */
	unsigned	 nforks;
	int64_t		 lines;		/* in the second from */
	int64_t		 line_second;
	int		 stopped;	/* the log says so */
	size_t		 blocks;	/* of memory, kept till the end */
} life;

static void	 broken(const char *, ...) __dead
		    __attribute__((__format__(printf, 1, 2)));
static void	 check_close(struct client *);
static void	 check_execv(void);
static void	 check_handout(int, struct process *, struct client *);
static void	 check_kill(struct process *, int);
static void	 check_log(int, const char *);
static void	 check_up(void);
static void	 note_whole(void);
static void	 check_sleep(const struct pollfd *, nfds_t, int);
static void	 life_over(int) __dead;
static void	 memory_save(void);
static void	 memory_restore(void);
static int	 on_trial(const struct process *);
static int	 opt_backlog(void);

/*
 * ---------- Chance, time and the story
 */

/* Returns a random number: Marsaglia's xorshift, multiplied. */
static uint64_t
draw(void)
{
	world.random ^= world.random >> 12;
	world.random ^= world.random << 25;
	world.random ^= world.random >> 27;
	return world.random * 2685821657736338717ULL;
}

/* Returns a number from low to high. */
static int64_t
between(int64_t low, int64_t high)
{
	return low + (int64_t)((draw() >> 8) % (uint64_t)(high - low + 1));
}

/* Returns 1 in so many of 1000 cases. */
static int
chance(int permille)
{
	return between(0, 999) < permille;
}

/* Returns a number from low to high, of each order of magnitude as often. */
static int64_t
spread(int64_t low, int64_t high)
{
	int64_t	 n = low;
	int	 doublings = 0;

	while (n < high / 2) {
		n *= 2;
		doublings++;
	}
	n = low << between(0, doublings);
	return between(n, n * 2 < high ? n * 2 : high);
}

/* Tells what happens, if the life is told. */
static void	 say(const char *, ...)
		    __attribute__((__format__(printf, 1, 2)));
static void
say(const char *fmt, ...)
{
	va_list	 ap;

	if (!world.show)
		return;
	printf("%5lld.%06d  ", (long long)(world.us / SEC),
	    (int)(world.us % SEC));
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

/* Has what happen at that time. */
static void
at(int64_t when, enum what what, int id, int arg)
{
	struct event	*h = world.heap, e;
	size_t		 i, up;

	if (world.nheap == NEVENT)
		broken("sim.c: more than %d events", NEVENT);
	e.at = when;
	e.seq = world.seq++;
	e.what = what;
	e.id = id;
	e.arg = arg;
	for (i = world.nheap++; i > 0; i = up) {
		up = (i - 1) / 2;
		if (h[up].at < e.at || (h[up].at == e.at && h[up].seq < e.seq))
			break;
		h[i] = h[up];
	}
	h[i] = e;
}

/* The same, so many microseconds from now. */
static void
after(int64_t us, enum what what, int id, int arg)
{
	at(world.us + us, what, id, arg);
}

/* Takes the next event from the queue. */
static struct event
next_event(void)
{
	struct event	*h = world.heap, first = h[0], last;
	size_t		 i, down;

	last = h[--world.nheap];
	for (i = 0; (down = 2 * i + 1) < world.nheap; i = down) {
		if (down + 1 < world.nheap && (h[down + 1].at < h[down].at ||
		    (h[down + 1].at == h[down].at &&
		    h[down + 1].seq < h[down].seq)))
			down++;
		if (last.at < h[down].at ||
		    (last.at == h[down].at && last.seq < h[down].seq))
			break;
		h[i] = h[down];
	}
	h[i] = last;
	return first;
}

/*
 * ---------- Objects and descriptors
 */

static struct process *
process(int pid)
{
	struct process	*p = &world.process[pid % NPROC];

	return p->being != FREE && p->pid == pid ? p : NULL;
}

#define manager_proc	(&world.process[0])

/* Makes an object without a descriptor and returns its number. */
static int
object_new(enum kind kind)
{
	static int	 hint;
	struct object	*o;
	int		 i, n;

	for (n = 0; n < NOBJECT; n++) {
		i = (hint + n) % NOBJECT;
		o = &world.object[i];
		if (o->kind == NONE) {
			hint = i + 1;
			o->kind = kind;
			o->refs = o->flags = o->writes = o->nmsg = 0;
			o->reset = o->nqueue = o->down = 0;
			o->len = 0;
			o->peer = o->client = -1;
			o->owner = 0;
			return i;
		}
	}
	broken("sim.c: more than %d objects", NOBJECT);
}

/* The client learns that its connection is at its end, or that it is served. */
static void
client_end(struct client *c)
{
	if (c->state == GONE)
		return;
	if (c->state == WAITS)
		say("client %d is refused", (int)(c - world.client));
	else {
		say("client %d is cut", (int)(c - world.client));
		check_close(c);
	}
	c->state = GONE;
}

static void	 hangup(int);

/* One descriptor or message less names an object. */
static void
object_drop(int i)
{
	struct object	*o = &world.object[i], *peer;
	int		 n;

	if (--o->refs > 0)
		return;
	peer = o->peer == -1 ? NULL : &world.object[o->peer];
	switch (o->kind) {
	case LISTENER:
		for (n = 0; n < o->nqueue; n++)
			client_end(&world.client[o->queue[n]]);
		break;
	case CONN:
		client_end(&world.client[o->client]);
		break;
	case SOCK:
		if (peer->refs > 0 && (o->nmsg > 0 || o->len > 0))
			peer->reset = world.is_linux;
		for (n = 0; n < o->nmsg; n++)
			object_drop(o->msg[n].conn);
		o->nmsg = 0;
		if (peer->refs > 0 && peer->owner != 0)
			hangup(peer->owner);
		break;
	default:
		break;
	}
	if (peer == NULL)
		o->kind = NONE;
	else if (peer->refs == 0)
		o->kind = peer->kind = NONE;
}

/* Gives a process the lowest free descriptor for an object. */
static int
fd_new(struct process *p, int object, int cloexec)
{
	int	 fd;

	for (fd = 0; p->fd[fd].object != -1; fd++)
		if (fd == NFD - 1)
			broken("sim.c: more than %d descriptors", NFD);
	p->fd[fd].object = (short)object;
	p->fd[fd].cloexec = (short)cloexec;
	if (fd >= p->top)
		p->top = fd + 1;
	world.object[object].refs++;
	return fd;
}

/* Closes a descriptor of a process. */
static void
fd_drop(struct process *p, int fd)
{
	int	 object = p->fd[fd].object;

	p->fd[fd].object = -1;
	while (p->top > 0 && p->fd[p->top - 1].object == -1)
		p->top--;
	object_drop(object);
}

/* Returns what a descriptor of whoever runs names; it must be open. */
static struct object *
named(int fd, const char *call)
{
	if (fd < 0 || fd >= NFD || world.self->fd[fd].object == -1)
		broken("%s of descriptor %d, which is not open", call, fd);
	return &world.object[world.self->fd[fd].object];
}

static int
readable(const struct object *o)
{
	switch (o->kind) {
	case LISTENER:
		return o->nqueue > 0 || o->down;
	case PIPE:
		return !o->writes && (o->len > 0 ||
		    world.object[o->peer].refs == 0);
	case SOCK:
		return o->len > 0 || o->reset ||
		    world.object[o->peer].refs == 0;
	case CONN:
		return world.client[o->client].state == GONE;
	default:
		return 0;
	}
}

/*
 * ---------- Processes
 */

static struct process *
process_new(int parent)
{
	struct process	*p;
	int		 i, tries;

	for (tries = 0; tries < NPROC; tries++) {
		p = &world.process[++world.npid % NPROC];
		if (p->being == FREE && p != manager_proc) {
			memset(p, 0, sizeof(*p));
			for (i = 0; i < NFD; i++)
				p->fd[i].object = -1;
			p->pid = p->pgid = world.npid;
			p->parent = parent;
			p->being = LIVE;
			p->client = p->conn = -1;
			p->born = world.us;
			p->prog = world.prog;
			return p;
		}
	}
	return NULL;
}

/* Returns how many there are: of leaders, of a group, or all (0). */
static int
process_count(void)
{
	int	 i, n = 0;

	for (i = 1; i < NPROC; i++)
		n += world.process[i].being != FREE;
	return n;
}

/* A signal is on its way to the manager: it comes once, however often sent. */
static void
manager_signal(int sig)
{
	manager_proc->pending |= 1U << sig;
}

/* A worker is about to see whether there is something to do for it. */
static void
look(int pid)
{
	struct process	*p = process(pid);

	if (p != NULL && p->being == LIVE && p->ready && p->client == -1)
		after(between(5, 200), LOOK, pid, 0);
}

/* A worker's control socket is at its end, which those beside it see too. */
static void
hangup(int pid)
{
	struct process	*p;

	look(pid);
	for (p = world.process; p < world.process + NPROC; p++)
		if (p->being == LIVE && p->pgid == pid && p->pid != pid &&
		    p->fd[WORKER_CTL].object != -1 && !p->deaf)
			after(between(20, 3000), DIE, p->pid, 0);
}

/* A process gives up the connection that it has. */
static void
conn_drop(struct process *p)
{
	if (p->conn != -1)
		object_drop(p->conn);
	p->conn = -1;
}

/* A process ends, with that wait status. */
static void
die(struct process *p, int status)
{
	struct process	*c;
	int		 i;

	if (p->being != LIVE && p->being != CHILD)
		return;
	say("%s %d ends%s %d", p->leader ? "worker" : "process", p->pid,
	    status & 0x7f ? " of signal" : " with status",
	    status & 0x7f ? status : status >> 8);
	p->being = ZOMBIE;
	p->end = status;
	while (p->top > 0)
		fd_drop(p, p->top - 1);
	conn_drop(p);
	for (i = 1; i < NPROC; i++) {
		c = &world.process[i];
		if (c->being != FREE && c->parent == p->pid) {
			/* The manager is a subreaper, if the kernel has it. */
			c->parent = world.is_linux ? MANAGER : 1;
			c->freed = status == 0 && p->told == 0;
			if (c->being == ZOMBIE && !world.is_linux)
				c->being = FREE;
			else if (c->being == ZOMBIE)
				manager_signal(SIGCHLD);
		}
	}
	if (p->parent == MANAGER)
		manager_signal(SIGCHLD);
	else if (p->parent == 1)
		p->being = FREE;
}

/* A process gets a signal. */
static void
process_signal(struct process *p, int sig)
{
	if (p->being == ZOMBIE || sig == 0)
		return;
	if (sig == SIGKILL) {
		if (p->hangs && p->prog.unkillable)
			p->doomed = 1;
		else
			die(p, SIGKILL);
		return;
	}
	if (p->told == 0)
		p->told = world.us;
	if (p->hangs && p->prog.unkillable)
		p->doomed = 1;
	else if (p->leader && !p->ready && !p->deaf)
		die(p, SIGTERM);
	else if (!p->deaf && p->client == -1)
		after(p->prog.late * MS + between(20, 3000), DIE, p->pid,
		    chance(500) ? 0 : SIGTERM);
}

/* Writes to the manager by a worker's control socket. */
static void
speak(struct process *p, uint64_t cookie, int from, int len)
{
	struct object	*o;
	unsigned char	 b[16];

	if (p->fd[WORKER_CTL].object == -1)
		return;
	o = &world.object[world.object[p->fd[WORKER_CTL].object].peer];
	memset(b, 0x5a, sizeof(b));
	memcpy(b, &cookie, sizeof(cookie));
	if (o->refs == 0 || o->len + (size_t)len > sizeof(o->buf))
		return;
	memcpy(o->buf + o->len, b + from, (size_t)len);
	o->len += (size_t)len;
}

/* A worker has work: serves it, or whatever its program does instead. */
static void
serve(struct process *p, int client, int conn)
{
	struct client	*c = &world.client[client];
	int64_t		 t = between(200, p->prog.slow * MS + 400);

	if (c->taker != 0)
		broken("client %d was given to worker %d and to worker %d",
		    client, c->taker, p->pid);
	p->client = client;
	p->conn = conn;
	c->taker = p->pid;
	p->odd = FINE;
	if (chance(p->prog.odd))
		p->odd = (int)between(CRASH, UNASKED);
	if (c->fixed && p->odd > CRASH && p->odd != SILENT)
		p->odd = QUITS;
	say("worker %d reads the request of client %d", p->pid, client);
	after(p->odd == SILENT ? 3000 * SEC : t, ANSWER, p->pid, client);
}

/* A worker looks for work: in its control socket, or at the listener. */
static void
worker_looks(struct process *p)
{
	struct object	*o = &world.object[p->fd[p->fd[WORKER_CTL].object ==
			    -1 ? 0 : WORKER_CTL].object];
	struct client	*c;
	int		 i, conn;

	if (!p->ready || p->client != -1)
		return;
	if (o->kind == LISTENER) {
		if (o->nqueue == 0 || o->down || (p->told && !p->deaf))
			return;
		i = o->queue[0];
		memmove(o->queue, o->queue + 1,
		    (size_t)--o->nqueue * sizeof(o->queue[0]));
		c = &world.client[i];
		conn = object_new(CONN);
		world.object[conn].client = i;
		world.object[conn].refs = 1;
		c->conn = conn;
		c->fixed = 1;
		if (c->state != GONE)
			c->state = HELD;
		serve(p, i, conn);
	} else if (o->nmsg > 0) {
		if (p->leader && chance(p->prog.odd / 4)) {
			die(p, chance(500) ? SIGSEGV : 3 << 8);
			return;
		}
		p->cookie = o->msg[0].cookie;
		conn = o->msg[0].conn;
		memmove(o->msg, o->msg + 1,
		    (size_t)--o->nmsg * sizeof(o->msg[0]));
		serve(p, world.object[conn].client, conn);
	} else if (world.object[o->peer].refs == 0 && !p->deaf)
		after(p->prog.late * MS + between(20, 3000), DIE, p->pid, 0);
}

/* A worker has answered, or done what it does instead. */
static void
worker_answers(struct process *p, int client)
{
	struct client	*c = &world.client[client];

	if (p->client != client)
		return;
	switch (p->odd) {
	case CRASH:
		die(p, chance(500) ? SIGSEGV : 1 << 8);
		return;
	case QUITS:
		die(p, 0);
		return;
	case SHUTS:
		say("worker %d closes its control socket", p->pid);
		p->faulty = 1;
		fd_drop(p, WORKER_CTL);
		return;
	default:
		break;
	}
	if (c->state != GONE) {
		say("client %d has its answer", client);
		c->state = GONE;
		if (c->regular && world.arrivals)
			after(between(30, 3 * MS), ARRIVE, 1, 0);
	}
	p->served++;
	if (c->fixed || chance(700))
		conn_drop(p);
	after(p->odd == FINE ? between(1, p->prog.ack_time * MS + 20) :
	    between(1, 30 * MS), COOKIE, p->pid, client);
}

/* A worker is done with a client and says so. */
static void
worker_done(struct process *p, int client)
{
	if (p->client != client)
		return;
	conn_drop(p);
	if (world.client[client].fixed)
		;
	else if (p->odd == WRONG || p->odd == EXTRA) {
		p->faulty = 1;
		speak(p, p->cookie + (p->odd == WRONG), 0,
		    p->odd == WRONG ? 8 : (int)between(9, 16));
	} else if (p->odd == PIECES) {
		speak(p, p->cookie, p->said, p->said < 6 ? 2 : 8 - p->said);
		p->said += 2;
		if (p->said < 8) {
			after(between(1, 300 * MS), COOKIE, p->pid, client);
			return;
		}
		p->said = 0;
	} else
		speak(p, p->cookie, 0, 8);
	p->client = -1;
	if (p->odd == LEAVES || (p->prog.leaves > 0 &&
	    p->served >= p->prog.leaves))
		after(between(1, 2 * MS), DIE, p->pid, 0);
	else if (p->odd == UNASKED)
		after(between(1, 2 * SEC), SPEAK, p->pid, 0);
	else if (p->told != 0 && !p->deaf)
		after(p->prog.late * MS + 1, DIE, p->pid, 0);
	else
		look(p->pid);
}

/* A worker's program runs: execve(2) has ended. */
static void
worker_runs(struct process *p)
{
	struct program	*g = &p->prog;
	struct process	*c;
	int		 fd, i, n = 0;

	if (p->executed)
		return;
	p->hangs = 0;
	p->executed = world.us;
	say("worker %d is executed", p->pid);
	for (fd = p->top - 1; fd >= 0; fd--)
		if (p->fd[fd].object != -1 && p->fd[fd].cloexec)
			fd_drop(p, fd);
	for (i = 1; i < NPROC; i++)
		n += world.process[i].executed != 0 &&
		    world.process[i].being == LIVE;
	if (g->places > 0 && n > g->places)
		after(between(1, 80 * MS), DIE, p->pid, 1 << 8);
	else if (chance(g->fails))
		after(g->fail_time * MS + 50, DIE, p->pid, g->fail_status);
	if (g->life_time > 0)
		after(spread(MS, g->life_time * MS), EXPIRE, p->pid, 0);
	after(between(g->ready_time * MS / 2, g->ready_time * MS) + 50, READY,
	    p->pid, 0);
	if (!chance(g->children) || process_count() > NPROC / 3 || (c = process_new(p->pid)) == NULL)
		return;
	c->pgid = p->pid;
	c->deaf = chance(g->deaf);
	if (chance(500))
		for (fd = 0; fd < p->top; fd++)
			if (p->fd[fd].object != -1) {
				c->fd[fd] = p->fd[fd];
				world.object[p->fd[fd].object].refs++;
				c->top = fd + 1;
			}
	say("worker %d has process %d beside it", p->pid, c->pid);
	if (chance(300))
		after(spread(MS, 20 * SEC), DIE, c->pid, 0);
}

/*
 * ---------- Clients, programs, and what happens in the world
 */

/* One of the workers that wait in accept(2) is woken up. */
static void
accept_one(void)
{
	struct process	*p;
	int		 from = (int)between(0, NPROC - 1), i;

	for (i = 0; i < NPROC; i++) {
		p = &world.process[(from + i) % NPROC];
		if (p->being == LIVE && p->leader && p->ready &&
		    p->client == -1 && !p->told &&
		    p->fd[0].object == world.listener) {
			look(p->pid);
			return;
		}
	}
}

/* A client tries to connect. */
static void
client_connects(int i)
{
	struct object	*l = &world.object[world.listener];
	struct client	*c = &world.client[i];

	if (c->state == GONE)
		return;
	if (l->kind != LISTENER || l->down) {
		client_end(c);
		return;
	}
	if (l->nqueue > opt_backlog() || l->nqueue == NFD) {
		/* As on Linux, it waits until there is room, or goes. */
		if (world.us - c->born > 3 * SEC && !life.gentle)
			c->state = GONE;
		else
			after(between(5 * MS, 300 * MS), ARRIVE, 2, i);
		return;
	}
	say("client %d connects", i);
	c->queued = world.us;
	l->queue[l->nqueue++] = i;
	accept_one();
}

/* Some clients come. */
static void
clients_arrive(int n)
{
	struct client	*c;

	while (n-- > 0 && world.nclient < NCLIENT) {
		c = &world.client[world.nclient++];
		memset(c, 0, sizeof(*c));
		c->state = WAITS;
		c->conn = -1;
		c->born = world.us;
		c->regular = chance(500);
		if (!life.gentle && chance(40))
			after(spread(MS, 10 * SEC), HANGUP,
			    (int)(c - world.client), 0);
		client_connects((int)(c - world.client));
	}
}

/* Sets the program to one that works. */
static void
program_good(struct program *g)
{
	int	 places = g->places;

	memset(g, 0, sizeof(*g));
	g->places = places;
	g->exec_time = (int)spread(1, 60);
	g->ready_time = (int)spread(1, 800);
	g->slow = (int)spread(1, 100);
	g->late = chance(200) ? (int)spread(1, 1500) : 0;
}

/* Sets the program to one with some of the vices there are. */
static void
program_any(struct program *g)
{
	program_good(g);
	if (chance(150))
		g->exec_time = (int)spread(100, 30000);
	if (chance(60))
		g->exec_errno = chance(500) ? ENOENT : EACCES;
	if (chance(80)) {
		g->exec_hangs = chance(300) ? 1000 : 100;
		g->unkillable = chance(500);
	}
	if (chance(150))
		g->ready_time = (int)spread(800, 10000);
	if (chance(250)) {
		g->fails = chance(500) ? 1000 : (int)between(20, 900);
		g->fail_time = (int)spread(1, 3000);
		g->fail_status = chance(300) ? 0 : chance(500) ? 1 << 8 :
		    SIGABRT;
	}
	if (chance(300)) {
		g->life_time = (int)spread(100, 100000);
		g->life_status = chance(600) ? 0 : SIGSEGV;
	}
	if (chance(400))
		g->odd = (int)spread(10, 1000);
	if (chance(200))
		g->leaves = (int)spread(1, 100);
	if (chance(150))
		g->slow = (int)spread(100, 30000);
	if (chance(300))
		g->ack_time = (int)spread(1, 200);
	if (chance(200))
		g->late = (int)spread(100, 30000);
	if (chance(250))
		g->deaf = chance(300) ? 1000 : 200;
	if (chance(200))
		g->children = chance(500) ? 1000 : 200;
}

/* Everything is in order from now on, whatever was before. */
static void
world_mended(void)
{
	struct process	*p;

	say("--- the world is in order again");
	program_good(&world.prog);
	world.shortage = NO_SHORTAGE;
	world.nprocess = 0;
	life.mended = world.us;
	life.hopeless = 0;
	for (p = world.process + 1; p < world.process + NPROC; p++) {
		if (p->being != LIVE)
			continue;
		p->prog.odd = p->prog.life_time = p->prog.leaves = 0;
		p->prog.ack_time = 0;
		p->prog.slow = p->prog.slow > 50 ? 50 : p->prog.slow;
		if (p->doomed || p->freed || (p->client != -1 && p->odd == SHUTS))
			die(p, SIGKILL);
		else if (p->hangs)
			worker_runs(p);
		else if (p->client != -1 && p->odd == SILENT) {
			p->odd = FINE;
			after(1, ANSWER, p->pid, p->client);
		}
	}
}

/* Draws the next signal that somebody sends to the manager. */
static void
signal_comes(void)
{
	static const int sigs[] = { SIGHUP, SIGHUP, SIGHUP, SIGUSR1, SIGCHLD };
	int	 sig = sigs[between(0, 4)];

	if (life.mended != 0)
		return;
	say("--- %s is sent", sig == SIGHUP ? "SIGHUP" : sig == SIGUSR1 ?
	    "SIGUSR1" : "SIGCHLD");
	if (sig == SIGHUP)
		life.reload_at = world.us;
	manager_signal(sig);
	after(spread(10 * MS, 300 * SEC), SIGNAL, 0, 0);
}

/* A shortage begins, or ends. */
static void
shortage_comes(int begins)
{
	if (life.mended != 0)
		return;
	world.shortage = NO_SHORTAGE;
	if (begins) {
		world.shortage = (enum shortage)between(FILES, BUFFERS);
		world.scarce = (int)spread(10, 1000);
		say("--- a shortage of kind %d, %d in 1000 calls fail",
		    world.shortage, world.scarce);
	} else
		say("--- the shortage is over");
	after(begins ? spread(MS, 30 * SEC) : spread(SEC, 500 * SEC), SHORT,
	    !begins, 0);
}

/* The part of an event that is about a worker. */
static void
worker_event(const struct event *e, struct process *p)
{
	if (p == NULL || p->being != LIVE) {
		if (e->what == LOOK)
			accept_one();
		return;
	}
	switch (e->what) {
	case EXECUTED:
		if (p->hangs == 0)
			worker_runs(p);
		break;
	case READY:
		p->ready = 1;
		p->deaf = p->deaf || chance(p->prog.deaf);
		look(p->pid);
		break;
	case EXPIRE:
		if (p->prog.life_time > 0)
			die(p, p->prog.life_status);
		break;
	case LOOK:
		worker_looks(p);
		if (p->client == -1 && p->told)
			accept_one();
		break;
	case ANSWER:
		worker_answers(p, e->arg);
		break;
	case COOKIE:
		worker_done(p, e->arg);
		break;
	case SPEAK:
		say("worker %d speaks unasked", p->pid);
		p->faulty = 1;
		speak(p, 0, 0, (int)between(1, 9));
		break;
	default:
		die(p, e->arg);
	}
}

static void	 story(const struct event *);

/* Something happens. */
static void
happen(const struct event *e)
{
	world.nevents++;
	life.restless = 0;
	switch (e->what) {
	case ARRIVE:
		if (e->id == 2)
			client_connects(e->arg);
		else if (world.arrivals) {
			clients_arrive(e->id == 1 ? 1 :
			    (int)between(1, world.burst));
			if (e->id == 0)
				after(between(1, 2 * world.gap), ARRIVE, 0, 0);
		}
		break;
	case HANGUP:
		if (world.client[e->id].state != GONE) {
			say("client %d hangs up", e->id);
			world.client[e->id].state = GONE;
		}
		break;
	case SIGNAL:
		signal_comes();
		break;
	case FREEZE:
		if (life.mended == 0 && life.asked == 0) {
			world.freeze = spread(MS, 40 * SEC);
			world.freeze_in = (int)between(1, 40);
			after(spread(SEC, 1000 * SEC), FREEZE, 0, 0);
		}
		break;
	case SHORT:
		shortage_comes(e->id);
		break;
	case CHANGE:
		if (life.mended == 0) {
			say("--- the program is exchanged");
			if (chance(400))
				program_good(&world.prog);
			else
				program_any(&world.prog);
			life.hopeless = 0;
			after(spread(SEC, 500 * SEC), CHANGE, 0, 0);
		}
		break;
	case MEND:
		world_mended();
		break;
	case REFUSED:
	case PEACE:
	case QUIET:
	case IDLE_BEGIN:
	case IDLE_END:
	case RELOADED:
	case STOP:
	case ENDED:
	case NO_POLL:
		story(e);
		break;
	default:
		worker_event(e, process(e->id));
	}
}

/* Time passes, up to then, and what happens until then happens. */
static void
pass(int64_t until)
{
	struct event	 e;

	while (world.nheap > 0 && world.heap[0].at <= until) {
		e = next_event();
		if (e.at > world.us)
			world.us = e.at;
		happen(&e);
	}
	world.us = until;
}

/*
 * ---------- The kernel, as kfcgi sees it
 */

/* Has the manager's handlers run for the signals that came. */
static void
deliver(void)
{
	struct process	*p = manager_proc;
	unsigned	 sigs;
	int		 sig;

	if (world.in_handler)
		return;
	while ((sigs = p->pending & ~p->mask) != 0) {
		for (sig = 1; (sigs & 1U << sig) == 0; sig++)
			continue;
		p->pending &= ~(1U << sig);
		if (p->handler[sig] == NULL)
			continue;
		world.handled = world.in_handler = 1;
		p->handler[sig](sig);
		world.in_handler = 0;
	}
}

/* Every system call begins with this: it takes a while, and things happen. */
static void
tick(void)
{
	int64_t	 cost = between(1, 10);

	world.calls++;
	world.hash = (world.hash ^ (uint64_t)world.us ^ world.calls << 40) *
	    1099511628211ULL;
	if (world.self != manager_proc)
		return;
	if (chance(2))
		cost += spread(10, 20 * MS);
	if (world.freeze > 0 && --world.freeze_in <= 0) {
		say("--- kfcgi is stopped for %lld ms",
		    (long long)(world.freeze / MS));
		cost += world.freeze;
		world.freeze = 0;
		life.frozen = world.us + cost;
	}
	pass(world.us + cost);
	deliver();
}

/* Returns whether a call fails for want of that, with errno. */
static int
lacks(enum shortage what, int error, int other)
{
	if (world.shortage != what || !chance(world.scarce))
		return 0;
	errno = chance(500) ? error : other;
	life.short_at = world.us;
	say("a call fails: %s", strerror(errno));
	return 1;
}

/* Sets what poll(2) says of a descriptor.  Returns whether it says anything. */
static int
poll_one(struct pollfd *pfd)
{
	struct object	*o;
	short		 got_events = 0;

	pfd->revents = 0;
	if (pfd->fd < 0)
		return 0;
	o = named(pfd->fd, "poll");
	if (readable(o))
		got_events = POLLIN;
	if (o->kind == PIPE && o->writes)
		got_events = POLLOUT;
	else if ((o->kind == PIPE || o->kind == SOCK) &&
	    world.object[o->peer].refs == 0)
		got_events |= POLLHUP;
	if (o->kind == PIPE && got_events & POLLHUP && o->len == 0 &&
	    world.is_linux)
		got_events = POLLHUP;
	if (o->kind == CONN && got_events)
		got_events |= POLLHUP;
	pfd->revents = got_events & (pfd->events | POLLHUP);
	return pfd->revents != 0;
}

static int
sim_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	int64_t	 until;
	nfds_t	 i;
	int	 loop = n > 1 || timeout != 0, ready, slept = 0;

	tick();
	world.handled = 0;
	if (loop && world.poll_fails) {
		errno = EPERM;
		return -1;
	}
	if (loop && lacks(MEMORY, ENOMEM, EAGAIN))
		return -1;
	until = timeout < 0 ? FOREVER : world.us + timeout * MS;
	if (loop) {
		world.turns++;
		if (++life.restless > 300)
			broken("poll returned 300 times, and nothing happened");
	}
	for (;;) {
		for (ready = 0, i = 0; i < n; i++)
			ready += poll_one(&fds[i]);
		if (ready > 0 || world.us >= until)
			break;
		if (!slept)
			check_sleep(fds, n, timeout);
		slept = 1;
		if (world.nheap == 0 && until == FOREVER)
			broken("sleeps, and nothing will ever happen");
		pass(world.nheap > 0 && world.heap[0].at < until ?
		    world.heap[0].at : until);
		if (manager_proc->pending & ~manager_proc->mask) {
			deliver();
			if (world.handled) {
				errno = EINTR;
				ready = -1;
				break;
			}
		}
	}
	if (slept) {
		life.restless = 0;
		life.wakeups++;
		if (world.show)
			printf("\n");
	}
	return ready;
}

static int
sim_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct object	*o;
	struct client	*c;
	int		 conn;

	(void)sa;
	(void)len;
	tick();
	o = named(fd, "accept");
	if (o->kind != LISTENER)
		broken("accept of what is no listener");
	if (lacks(FILES, EMFILE, ENFILE) || lacks(MEMORY, ENOMEM, ENOBUFS))
		return -1;
	if (chance(3)) {
		errno = chance(500) ? EINTR : ECONNABORTED;
		return -1;
	}
	if (o->nqueue == 0) {
		errno = o->down ? EINVAL : EAGAIN;
		if (!o->down && !(o->flags & O_NONBLOCK))
			broken("accept waits for a client");
		return -1;
	}
	c = &world.client[o->queue[0]];
	memmove(o->queue, o->queue + 1, (size_t)--o->nqueue *
	    sizeof(o->queue[0]));
	conn = object_new(CONN);
	world.object[conn].client = (int)(c - world.client);
	c->conn = conn;
	if (c->state != GONE)
		c->state = HELD;
	fd = fd_new(world.self, conn, flags != 0);
	say("kfcgi accepts client %d", (int)(c - world.client));
	return fd;
}

static int
sim_close(int fd)
{
	tick();
	(void)named(fd, "close");
	fd_drop(world.self, fd);
	return 0;
}

static int
sim_shutdown(int fd, int how)
{
	struct object	*o;

	(void)how;
	tick();
	o = named(fd, "shutdown");
	if (o->kind == LISTENER && !world.is_linux) {
		errno = ENOTCONN;
		return -1;
	}
	o->down = 1;
	if (o->kind == CONN)
		client_end(&world.client[o->client]);
	return 0;
}

static ssize_t
sim_read(int fd, void *buf, size_t size)
{
	struct object	*o;

	tick();
	o = named(fd, "read");
	if (o->kind != PIPE && o->kind != SOCK)
		broken("read of descriptor %d, kind %d", fd, o->kind);
	if (o->len > 0) {
		if (size > o->len)
			size = o->len;
		memcpy(buf, o->buf, size);
		o->len -= size;
		memmove(o->buf, o->buf + size, o->len);
		return (ssize_t)size;
	}
	if (o->reset) {
		o->reset = 0;
		errno = ECONNRESET;
		return -1;
	}
	if (world.object[o->peer].refs == 0)
		return 0;
	if (!(o->flags & O_NONBLOCK))
		broken("read of descriptor %d waits", fd);
	errno = EAGAIN;
	return -1;
}

static ssize_t
sim_write(int fd, const void *buf, size_t size)
{
	struct object	*o;

	tick();
	o = named(fd, "write");
	if (o->kind == NUL)
		return (ssize_t)size;
	if (o->kind != PIPE || !o->writes)
		broken("write to descriptor %d, kind %d", fd, o->kind);
	if (world.self->fd[fd].object == world.tell && size == 1) {
		say("--- kfcgi reports that it is up");
		life.reported = 1;
		return 1;
	}
	o = &world.object[o->peer];
	if (o->refs == 0) {
		errno = EPIPE;
		return -1;
	}
	if (o->len + size > sizeof(o->buf)) {
		if (!(world.object[o->peer].flags & O_NONBLOCK))
			broken("write to descriptor %d waits", fd);
		errno = EAGAIN;
		return -1;
	}
	memcpy(o->buf + o->len, buf, size);
	o->len += size;
	return (ssize_t)size;
}

static ssize_t
sim_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct cmsghdr	*cmsg = CMSG_FIRSTHDR(msg);
	struct object	*o, *peer;
	struct client	*c;
	int		 conn;

	(void)flags;
	tick();
	o = named(fd, "sendmsg");
	if (o->kind != SOCK)
		broken("sendmsg to what is no control socket");
	memcpy(&conn, CMSG_DATA(cmsg), sizeof(conn));
	if (named(conn, "sendmsg")->kind != CONN)
		broken("what is handed out is no connection");
	if (lacks(BUFFERS, ENOBUFS, ENOMEM))
		return -1;
	peer = &world.object[o->peer];
	if (peer->refs == 0) {
		errno = o->reset ? ECONNRESET : EPIPE;
		o->reset = 0;
		return -1;
	}
	if (peer->nmsg == NMSG) {
		errno = EAGAIN;
		return -1;
	}
	conn = world.self->fd[conn].object;
	c = &world.client[world.object[conn].client];
	say("kfcgi hands client %d to worker %d",
	    world.object[conn].client, peer->owner);
	check_handout(fd, process(peer->owner), c);
	memcpy(&peer->msg[peer->nmsg].cookie, msg->msg_iov[0].iov_base,
	    sizeof(uint64_t));
	peer->msg[peer->nmsg++].conn = conn;
	world.object[conn].refs++;
	c->receiver = peer->owner;
	c->sent++;
	life.handed++;
	look(peer->owner);
	return (ssize_t)msg->msg_iov[0].iov_len;
}

/* Makes both ends of a pipe or socketpair. */
static int
pair(enum kind kind, int *fds)
{
	int	 a, b;

	tick();
	if (lacks(FILES, EMFILE, ENFILE) || lacks(BUFFERS, ENOBUFS, ENFILE))
		return -1;
	a = object_new(kind);
	b = object_new(kind);
	world.object[a].peer = b;
	world.object[b].peer = a;
	world.object[b].writes = kind == PIPE;
	fds[0] = fd_new(world.self, a, 0);
	fds[1] = fd_new(world.self, b, 0);
	return 0;
}

static int
sim_socketpair(int domain, int type, int protocol, int *fds)
{
	(void)domain;
	(void)type;
	(void)protocol;
	return pair(SOCK, fds);
}

static int
sim_pipe(int *fds)
{
	return pair(PIPE, fds);
}

static int
sim_fcntl(int fd, int cmd, ...)
{
	struct object	*o;
	va_list		 ap;
	int		 arg;

	va_start(ap, cmd);
	arg = cmd == F_GETFL || cmd == F_GETFD ? 0 : va_arg(ap, int);
	va_end(ap);
	tick();
	o = named(fd, "fcntl");
	switch (cmd) {
	case F_GETFL:
		return o->flags;
	case F_SETFL:
		o->flags = arg;
		return 0;
	case F_SETFD:
		world.self->fd[fd].cloexec = arg & FD_CLOEXEC;
		return 0;
	default:
		broken("sim.c: fcntl %d", cmd);
	}
}

static int
sim_dup2(int from, int to)
{
	int	 object;

	tick();
	(void)named(from, "dup2");
	object = world.self->fd[from].object;
	if (from == to)
		return to;
	world.object[object].refs++;
	if (world.self->fd[to].object != -1)
		fd_drop(world.self, to);
	world.self->fd[to].object = (short)object;
	world.self->fd[to].cloexec = 0;
	if (to >= world.self->top)
		world.self->top = to + 1;
	return to;
}

static void	 (*sim_signal(int sig, void (*handler)(int)))(int);
static void
(*sim_signal(int sig, void (*handler)(int)))(int)
{
	if (sig < 32)
		world.self->handler[sig] = handler == SIG_DFL ||
		    handler == SIG_IGN ? NULL : handler;
	return SIG_DFL;
}

static int
sim_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	unsigned	 mask = 0;
	int		 sig;

	if (old != NULL)
		sigemptyset(old);
	for (sig = 1; sig < 32; sig++) {
		if (set != NULL && sigismember(set, sig) == 1)
			mask |= 1U << sig;
		if (old != NULL && world.self->mask & 1U << sig)
			sigaddset(old, sig);
	}
	if (set != NULL)
		world.self->mask = how == SIG_SETMASK ? mask :
		    how == SIG_BLOCK ? world.self->mask | mask :
		    world.self->mask & ~mask;
	tick();
	return 0;
}

static jmp_buf	 fork_point;

/*
 * Becomes the child: 0, or -1 with errno.  Its memory is the manager's, so
 * that is kept, and given back in fork_done().
 */
static int
fork_child(void)
{
	struct process	*p;
	int		 i;

	tick();
	if (lacks(PROCESSES, EAGAIN, ENOMEM) || lacks(MEMORY, ENOMEM, EAGAIN))
		return -1;
	if ((world.nprocess > 0 && process_count() >= world.nprocess) ||
	    (p = process_new(MANAGER)) == NULL) {
		life.short_at = world.us;
		errno = EAGAIN;
		return -1;
	}
	p->leader = 1;
	p->being = CHILD;
	p->top = manager_proc->top;
	memcpy(p->fd, manager_proc->fd, sizeof(p->fd));
	for (i = 0; i < p->top; i++)
		if (p->fd[i].object != -1)
			world.object[p->fd[i].object].refs++;
	memcpy(p->handler, manager_proc->handler, sizeof(p->handler));
	p->mask = manager_proc->mask;
	p->pgid = MANAGER;
	life.forks[life.nforks++ % NFORK] = world.us;
	world.self = p;
	memory_save();
	return 0;
}

/* Is the manager again.  Returns the child's process id. */
static int
fork_done(void)
{
	int	 pid = world.self->pid;

	memory_restore();
	world.self = manager_proc;
	say("kfcgi starts worker %d", pid);
	tick();
	return pid;
}

static int
sim_execv(const char *path, char *const *argv)
{
	struct process	*p = world.self;

	(void)path;
	(void)argv;
	p->trial = world.object[p->fd[0].object].kind == LISTENER &&
	    p->fd[0].object == world.trial;
	check_execv();
	if (p->prog.exec_errno != 0) {
		errno = p->prog.exec_errno;
		return -1;
	}
	p->being = LIVE;
	if (p->fd[WORKER_CTL].object != -1 &&
	    world.object[p->fd[WORKER_CTL].object].kind == SOCK)
		world.object[p->fd[WORKER_CTL].object].owner = p->pid;
	if (chance(p->prog.exec_hangs))
		p->hangs = 1;
	else
		after(between(100, p->prog.exec_time * MS), EXECUTED, p->pid,
		    0);
	longjmp(fork_point, 1);
}

static void	 sim__exit(int) __dead;
static void
sim__exit(int status)
{
	struct process	*p = world.self;

	p->being = LIVE;
	after(between(1, 400), DIE, p->pid, status << 8);
	longjmp(fork_point, 1);
}

static int
sim_setpgid(pid_t pid, pid_t pgid)
{
	if (pid != 0 || pgid != 0)
		broken("setpgid of another process");
	world.self->pgid = world.self->pid;
	return 0;
}

static pid_t
sim_waitpid(pid_t pid, int *status, int flags)
{
	struct process	*p;
	int		 from = (int)between(1, NPROC), i, children = 0;

	tick();
	if (pid != -1 || flags != WNOHANG)
		broken("waitpid waits");
	for (i = 0; i < NPROC; i++) {
		p = &world.process[(from + i) % NPROC];
		if (p == manager_proc || p->being == FREE ||
		    p->parent != MANAGER)
			continue;
		children++;
		if (p->being != ZOMBIE)
			continue;
		*status = p->end;
		p->being = FREE;
		if (p->leader && !on_trial(p) && p->told == 0)
			life.deaths++;
		if (p->leader && p->end == 0)
			life.recycled = 1;
		say("kfcgi reaps %s %d", p->leader ? "worker" : "process",
		    p->pid);
		return p->pid;
	}
	errno = ECHILD;
	return children > 0 ? 0 : -1;
}

static int
sim_kill(pid_t pid, int sig)
{
	struct process	*p;
	int		 found = 0;

	tick();
	if (pid == 0 || pid == -1)
		broken("kill of process %d", (int)pid);
	if (sig != 0)
		say("kfcgi sends signal %d to %s %d", sig,
		    pid < 0 ? "group" : "worker", pid < 0 ? -pid : pid);
	if (pid > 0 && process(pid) == NULL)
		broken("kill of %d, which may be anybody by now", (int)pid);
	for (p = world.process + 1; p < world.process + NPROC; p++) {
		if (p->being == FREE ||
		    (pid > 0 ? p->pid != pid : p->pgid != -pid))
			continue;
		if (p->being == ZOMBIE && pid < 0 && !world.is_linux)
			continue;
		found = 1;
		check_kill(p, sig);
		life.faults += sig != 0 && p->leader && p->told == 0 &&
		    (p->faulty || p->executed == 0);
		process_signal(p, sig);
		if (sig != 0 && p->told == 0)
			p->told = world.us;
	}
	errno = ESRCH;
	return found ? 0 : -1;
}

static int
sim_clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	tick();
	ts->tv_sec = (time_t)(world.us / SEC);
	ts->tv_nsec = (long)(world.us % SEC) * 1000;
	return 0;
}

static void	 sim_syslog(int, const char *, ...)
		    __attribute__((__format__(printf, 2, 3)));
static void
sim_syslog(int prio, const char *fmt, ...)
{
	char	 line[2048];
	va_list	 ap;
	size_t	 i;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	for (i = 0; line[i] != '\0'; i++)
		world.hash = (world.hash ^ (unsigned char)line[i]) *
		    1099511628211ULL;
	say("log: %s", line);
	check_log(prio, line);
	tick();
}

/*
 * The manager's memory.  What was freed is filled, kept for a while, and
 * looked at before it is used again: nobody may have written to it.
 */
static unsigned char arena[ARENA] __attribute__((__aligned__(16)));
static unsigned char arena_kept[ARENA];
static size_t	 arena_top;
static struct block {
	size_t	 offset, size;
	int	 used;
} blocks[4096];
static int	 nblocks;

#define FREED	0xdf

static void
sim_free(void *p)
{
	int	 i;

	if (p == NULL)
		return;
	for (i = 0; i < nblocks; i++)
		if (arena + blocks[i].offset == p && blocks[i].used) {
			blocks[i].used = 0;
			memset(p, FREED, blocks[i].size);
			return;
		}
	broken("free of what was not allocated, or freed before");
}

static void *
sim_calloc(size_t n, size_t size)
{
	static int	 hint;
	struct block	*b;
	unsigned char	*p;
	size_t		 k;
	int		 i;

	tick();
	if (lacks(MEMORY, ENOMEM, ENOMEM))
		return NULL;
	size = (n * size + 15) / 16 * 16;
	for (i = 0; i < nblocks; i++) {
		b = &blocks[(hint + i) % nblocks];
		if (b->used || b->size != size)
			continue;
		p = arena + b->offset;
		for (k = 0; k < size; k++)
			if (p[k] != FREED)
				broken("memory was written to after free");
		hint = (int)(b - blocks) + 1;
		b->used = 1;
		return memset(p, 0, size);
	}
	if (arena_top + size > ARENA || nblocks == 4096)
		broken("sim.c: the manager needs too much memory");
	b = &blocks[nblocks++];
	b->offset = arena_top;
	b->size = size;
	b->used = 1;
	arena_top += size;
	return memset(arena + b->offset, 0, size);
}

/* Returns how many blocks are in use. */
static size_t
memory_blocks(void)
{
	size_t	 n = 0;
	int	 i;

	for (i = 0; i < nblocks; i++)
		n += blocks[i].used != 0;
	return n;
}

/*
 * ---------- kfcgi
 */

#define _exit(status)		sim__exit(status)
#undef accept4
#define accept4(...)		sim_accept4(__VA_ARGS__)
#define calloc(...)		sim_calloc(__VA_ARGS__)
#define clock_gettime(...)	sim_clock_gettime(__VA_ARGS__)
#define close(fd)		sim_close(fd)
#define dup2(...)		sim_dup2(__VA_ARGS__)
#define execv(...)		sim_execv(__VA_ARGS__)
#define exit(status)		life_over(status)
#define fcntl(...)		sim_fcntl(__VA_ARGS__)
#define fork()			(setjmp(fork_point) == 0 ? fork_child() : \
				    fork_done())
#define free(p)			sim_free(p)
#define getppid()		MANAGER
#define kill(...)		sim_kill(__VA_ARGS__)
#define listen(...)		0
#define pipe(fds)		sim_pipe(fds)
#define poll(...)		sim_poll(__VA_ARGS__)
#define prctl(...)		0
#define read(...)		sim_read(__VA_ARGS__)
#define sendmsg(...)		sim_sendmsg(__VA_ARGS__)
#define setpgid(...)		sim_setpgid(__VA_ARGS__)
#define setrlimit(...)		0
#define setsockopt(fd, level, name, value, size) ((void)(value), 0)
#define shutdown(...)		sim_shutdown(__VA_ARGS__)
#define sigaction(sig, sa, old)	(sim_signal(sig, (sa)->sa_handler), 0)
#define signal(sig, handler)	sim_signal(sig, handler)
#define sigprocmask(...)	sim_sigprocmask(__VA_ARGS__)
#define socketpair(...)		sim_socketpair(__VA_ARGS__)
#undef syslog
#define syslog(...)		sim_syslog(__VA_ARGS__)
#define waitpid(...)		sim_waitpid(__VA_ARGS__)
#define write(...)		sim_write(__VA_ARGS__)
#undef log_heard
#define log_heard()		1
#undef log_patience
#define log_patience(ms)	((void)(ms))
#undef dprintf
#define dprintf(...)		((void)0)
#undef fchmod
#define fchmod(...)		0
int		 kfcgi_main(int, char **);
#define main			kfcgi_main
/* fork(2) is a setjmp(3) here, and nothing changes between its two returns. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

#include "../kfcgi.c"
#undef main
#undef _exit
#undef calloc
#undef clock_gettime
#undef close
#undef exit
#undef fork
#undef free
#undef kill
#undef pipe
#undef poll
#undef read
#undef waitpid
#undef write

/* What of the manager's memory a child may change, beside the arena. */
static struct {
	void	*at;
	size_t	 size;
	unsigned char kept[8192];
} globals[] = {
	{ &listener, sizeof(listener), "" },
	{ &out, sizeof(out), "" },
	{ &pool, sizeof(pool), "" },
	{ &start, sizeof(start), "" },
	{ &trial, sizeof(trial), "" },
};
#define NGLOBALS	(sizeof(globals) / sizeof(globals[0]))

static void
memory_save(void)
{
	size_t	 i;

	memcpy(arena_kept, arena, arena_top);
	for (i = 0; i < NGLOBALS; i++)
		memcpy(globals[i].kept, globals[i].at, globals[i].size);
}

static void
memory_restore(void)
{
	size_t	 i;

	memcpy(arena, arena_kept, arena_top);
	for (i = 0; i < NGLOBALS; i++)
		memcpy(globals[i].at, globals[i].kept, globals[i].size);
}

/* Returns the manager's struct for a process, or NULL. */
static struct worker *
worker_of(const struct process *p)
{
	struct worker	*w;
	int		 i;

	for (i = 0; i < NSTATES; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			if (w->pid == p->pid)
				return w;
	return NULL;
}

static int
on_trial(const struct process *p)
{
	return worker_of(p) != NULL && worker_of(p)->gen == NO_GEN;
}

static int
opt_backlog(void)
{
	return opt.backlog;
}

/*
 * ---------- What must hold
 */

struct report_of_life {
	int64_t		 us;
	uint64_t	 events, hash;
	int		 failed;
};
static int	 result = -1;		/* the pipe to the one that counts */

/* The life is over; the one that counts is told. */
static void	 life_report(int) __dead;
static void
life_report(int failed)
{
	struct report_of_life r;

	memset(&r, 0, sizeof(r));
	r.us = world.us;
	r.events = world.nevents;
	r.hash = world.hash;
	r.failed = failed;
	if (world.show)
		printf("%s\n", failed ? "It broke." : "It held.");
	fflush(stdout);
	if (result != -1 && write(result, &r, sizeof(r)) != sizeof(r))
		_exit(2);
	_exit(failed);
}

/* Something that must hold does not: tells it, and ends the life. */
static void
broken(const char *fmt, ...)
{
	va_list	 ap;

	printf("sim: seed %llu, turn %llu, at %lld.%03d s: ",
	    (unsigned long long)world.seed, (unsigned long long)world.turns,
	    (long long)(world.us / SEC), (int)(world.us % SEC / MS));
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf(" (repeat: SEED=%llu make sim)\n",
	    (unsigned long long)world.seed);
	life_report(1);
}

/* Returns how many workers of the present generation serve, or soon will. */
static size_t
pool_n(void)
{
	return pool.n[STARTING] + pool.n[IDLE] + pool.n[BUSY] + pool.n[LOST];
}

/* A descriptor of the manager must be open, and be named only once. */
static void
claim(char *claimed, int fd, enum kind kind, const char *what)
{
	if (fd == -1)
		return;
	if (manager_proc->fd[fd].object == -1)
		broken("%s is descriptor %d, which is not open", what, fd);
	if (world.object[manager_proc->fd[fd].object].kind != kind)
		broken("%s is descriptor %d, which is something else", what,
		    fd);
	if (claimed[fd]++)
		broken("%s is descriptor %d, as is something else", what, fd);
}

/* The manager has the descriptors open that it knows of, and no other. */
static void
check_descriptors(void)
{
	struct worker	*w;
	char		 claimed[NFD];
	size_t		 k;
	int		 fd, i;

	memset(claimed, 0, sizeof(claimed));
	for (fd = 0; fd < 4; fd++)
		claim(claimed, fd, NUL, "/dev/null");
	claim(claimed, listener.fd, LISTENER, "the listener");
	claim(claimed, listener.trial, LISTENER, "the trial's listener");
	claim(claimed, sigpipe[0], PIPE, "the pipe for signals");
	claim(claimed, sigpipe[1], PIPE, "the pipe for signals");
	claim(claimed, start.fd, PIPE, "the pipe of the start");
	claim(claimed, out.pipe[0], PIPE, "the workers' output");
	claim(claimed, out.pipe[1], PIPE, "the workers' output");
	for (i = 0; i < NSTATES; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry) {
			claim(claimed, w->exec, PIPE, "an exec pipe");
			claim(claimed, w->ctl, SOCK, "a control socket");
			claim(claimed, w->conn, CONN, "a connection");
		}
	for (k = 0; k < listener.nconns; k++)
		claim(claimed, listener.conns[k].fd, CONN, "a connection");
	for (fd = 0; fd < manager_proc->top; fd++)
		if (manager_proc->fd[fd].object != -1 && !claimed[fd])
			broken("descriptor %d, kind %d, is open and forgotten",
			    fd, world.object[manager_proc->fd[fd].object].kind);
}

/* The workers that the manager knows of are its children, and are counted. */
static void
check_workers(void)
{
	struct worker	*w;
	struct process	*p;
	size_t		 n, places = 0, total = 0;
	int		 i;

	for (i = 0; i < NSTATES; i++) {
		n = 0;
		TAILQ_FOREACH(w, &pool.q[i], entry) {
			if (w->state != (enum state)i)
				broken("worker %d is on the queue of state %d "
				    "in state %d", (int)w->pid, i, w->state);
			if (!w->reaped && process(w->pid) == NULL)
				broken("worker %d is not there any more",
				    (int)w->pid);
			if ((w->conn != -1) != (i == BUSY))
				broken("worker %d has %s connection in state "
				    "%d", (int)w->pid, w->conn == -1 ? "no" :
				    "a", i);
			n += w->gen == pool.gen;
			total++;
		}
		if (n != pool.n[i])
			broken("%zu workers are in state %d, %zu are counted",
			    n, i, pool.n[i]);
		places += n;
	}
	if (total != pool.total)
		broken("there are %zu workers, %zu are counted", total,
		    pool.total);
	n = pool_n();
	if (n > opt.max || (n > opt.min && places > opt.max))
		broken("%zu workers, and %zu that leave, are more than -N %zu",
		    n, places - n, opt.max);
	for (p = world.process + 1; p < world.process + NPROC; p++)
		if (p->being != FREE && p->leader && p->parent == MANAGER &&
		    worker_of(p) == NULL)
			broken("worker %d is forgotten", p->pid);
}

/* What must hold after each turn of the loop. */
static void
check_turn(void)
{
	struct client	*c;
	int		 i;

	check_descriptors();
	check_workers();
	note_whole();
	if (life.nforks >= NFORK && !life.recycled && world.us -
	    life.forks[life.nforks % NFORK] < SEC)
		broken("%d workers were started in a second", NFORK);
	/* A crash ends the request at once, whoever else has it open. */
	for (i = world.nclient > 200 ? world.nclient - 200 : 0;
	    opt.variable && i < world.nclient; i++) {
		c = &world.client[i];
		if (c->state == HELD && c->taker != 0 &&
		    process(c->taker) == NULL)
			broken("client %d still waits for worker %d, which "
			    "was reaped", i, c->taker);
	}
}

/*
 * What must hold when kfcgi is about to sleep for so many ms, -1: until
 * something happens.
 */
static void
check_sleep(const struct pollfd *fds, nfds_t n, int timeout)
{
	struct object	*l = &world.object[world.listener];
	struct process	*p = manager_proc;
	size_t		 waiting;
	nfds_t		 i;
	int		 fd, polled_too = 0;

	if (timeout > 0 && n <= 1 && fds->fd != sigpipe[0])
		broken("waits for descriptor %d alone", fds->fd);
	if (ending.begun && timeout < 0)
		broken("the end has no end");
	if (!life.up || ending.begun)
		return;
	for (i = 0; i < n; i++)
		polled_too |= fds[i].fd != -1 && fds[i].fd == listener.fd;
	waiting = listener.nconns + (polled_too ? 0 : (size_t)l->nqueue);
	if (opt.variable && world.us - life.short_at > 1100 * MS &&
	    world.us - life.frozen > 1100 * MS) {
		if (waiting > 0 && conn_worker() != NULL)
			broken("a client waits beside an idle worker");
		if (waiting > pool.n[STARTING] && timeout < 0 &&
		    trial.w == NULL && pool_missing(opt.max) > 0)
			broken("a client waits, and no worker is started");
	}
	if (timeout >= 0)
		return;
	if (pool_n() < opt.min && trial.w == NULL)
		broken("sleeps for ever with %zu workers", pool_n());
	if (!TAILQ_EMPTY(&pool.q[LEAVING]) || !TAILQ_EMPTY(&pool.q[LOST]) ||
	    !TAILQ_EMPTY(&pool.q[STARTING]) || !TAILQ_EMPTY(&pool.q[TRIAL]))
		broken("sleeps for ever, and a worker may never go");
	for (fd = 0; fd < p->top; fd++)
		if (p->fd[fd].object != -1 && (world.object[
		    p->fd[fd].object].kind == PIPE || world.object[
		    p->fd[fd].object].kind == SOCK) &&
		    readable(&world.object[p->fd[fd].object]))
			broken("sleeps for ever, and descriptor %d is readable",
			    fd);
	for (p = world.process + 1; p < world.process + NPROC; p++)
		if (p->being == ZOMBIE && p->parent == MANAGER &&
		    !(manager_proc->pending & 1U << SIGCHLD))
			broken("sleeps for ever, and child %d is dead", p->pid);
}

/* What a worker inherits: three or four descriptors, and no signal's fate. */
static void
check_execv(void)
{
	struct process	*p = world.self;
	int		 fd, sig;

	for (fd = 0; fd < p->top; fd++)
		if (p->fd[fd].object != -1 && !p->fd[fd].cloexec &&
		    fd > (opt.variable ? WORKER_CTL : STDERR_FILENO))
			broken("a worker inherits descriptor %d", fd);
	if (world.object[p->fd[0].object].kind !=
	    (opt.variable ? NUL : LISTENER))
		broken("descriptor 0 of a worker is not what it should be");
	if (opt.variable && world.object[p->fd[WORKER_CTL].object].kind != SOCK)
		broken("a worker has no control socket");
	for (sig = 1; sig < 32; sig++)
		if (p->handler[sig] != NULL || p->mask & 1U << sig)
			broken("signal %d is not a worker's own", sig);
	if (p->pgid != p->pid)
		broken("a worker has no group of its own");
}

/* A client is handed to a worker that is idle, and to that only. */
static void
check_handout(int fd, struct process *p, struct client *c)
{
	struct worker	*w, *old;

	TAILQ_FOREACH(w, &pool.q[IDLE], entry)
		if (w->ctl == fd)
			break;
	if (w == NULL)
		broken("a client is handed to a worker that is not idle");
	if (c->taker != 0)
		broken("a client is handed out again: worker %d has read its "
		    "request", c->taker);
	if (p == NULL)
		return;
	if (p->executed == 0)
		broken("a client is handed to a worker not yet executed");
	if (p->told != 0 && p->being == LIVE)
		broken("a client is handed to a worker that was told to go");
	TAILQ_FOREACH(old, &pool.q[IDLE], entry)
		if (old->gen < w->gen && p->executed + SEC > world.us)
			broken("a client is handed to a new worker beside an "
			    "old one");
}

/* A worker is told to go, or killed, for a reason only. */
static void
check_kill(struct process *p, int sig)
{
	struct process	*leader = &world.process[p->pgid % NPROC];
	struct worker	*w, *new;
	size_t		 n = 0;
	int		 i;

	if (sig == 0 || p->being == ZOMBIE || ending.begun || !life.up)
		return;
	if (!p->leader) {
		if (leader->pid == p->pgid && leader->being == LIVE &&
		    leader->told == 0 && sig == SIGTERM)
			broken("process %d is told to go before worker %d",
			    p->pid, p->pgid);
		return;
	}
	w = worker_of(p);
	if (w == NULL)
		broken("signal %d for a worker that is unknown", sig);
	if (opt.variable && p->client != -1 && !p->faulty &&
	    world.client[p->client].state == HELD)
		broken("signal %d for worker %d, which has a request", sig,
		    p->pid);
	if (p->faulty || w->gen == NO_GEN || p->executed == 0)
		return;
	if (sig == SIGKILL && (p->told == 0 || (world.us - p->told <
	    19 * SEC && (opt.variable || !trial.renews))))
		broken("SIGKILL for worker %d, which had no time to leave",
		    p->pid);
	if (sig != SIGTERM)
		return;
	if (w->gen == pool.gen && (!opt.variable || pool_n() < opt.min))
		broken("SIGTERM for worker %d, which is needed", p->pid);
	if (w->gen == pool.gen || !life.gentle)
		return;
	for (i = IDLE; i <= BUSY; i++)
		TAILQ_FOREACH(new, &pool.q[i], entry)
			n += new->gen == pool.gen && process(new->pid) != NULL
			    && world.us - process(new->pid)->executed >=
			    SEC - 5 * MS;
	if (n < opt.min)
		broken("old workers go when only %zu of the new are ready", n);
}

/* A client that was not served is let down by rule only. */
static void
check_close(struct client *c)
{
	struct process	*p = &world.process[(c->taker != 0 ? c->taker :
			    c->receiver) % NPROC];

	if (p->pid != (c->taker != 0 ? c->taker : c->receiver))
		return;
	if (life.gentle && life.asked == 0 && world.prog.places == 0)
		broken("a client is cut in a world that is in order");
	if (!opt.variable)
		return;
	if (ending.begun) {
		if (life.up && life.asked == 1 && c->taker != 0 &&
		    p->being == LIVE && !p->faulty &&
		    world.us < life.asked_at + 19 * SEC)
			broken("a client is cut before the time is up");
		return;
	}
	if (c->sent == 0)
		broken("a client is cut that no worker ever had");
	if (p->being == LIVE && !p->faulty && world.self == manager_proc &&
	    p->told == 0 && !p->hangs)
		broken("a client is cut, and worker %d is well", p->pid);
	if (c->taker == 0 && p->being != LIVE && world.is_linux && !p->faulty &&
	    p->told == 0 && p->prog.children == 0)
		broken("a client is cut whose request nobody has read");
}

/* Notes when the pool was not whole, or somebody waited. */
static void
note_whole(void)
{
	struct worker	*w;
	size_t		 n = 0;
	int		 i;

	for (i = IDLE; i <= BUSY; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			n += w->gen == pool.gen && now - w->started >= SECOND;
	if (n < opt.min || (opt.variable && (listener.nconns > 0 ||
	    world.object[world.listener].nqueue > 0)))
		life.torn = world.us;
}

/* What the log says is so. */
static void
check_log(int prio, const char *line)
{
	unsigned long long handed, deaths, n[6];
	struct process	*p;
	int		 children = 0;

	for (p = world.process + 1; p < world.process + NPROC; p++)
		children += p->being != FREE && p->leader && !p->doomed;
	note_whole();
	if (prio != LOG_DEBUG && world.us - life.line_second >= SEC) {
		life.line_second = world.us;
		life.lines = 0;
	}
	if (prio <= LOG_WARNING && ++life.lines > 40)
		broken("the log is flooded");
	if (prio <= LOG_WARNING && life.gentle && world.prog.places == 0 &&
	    strstr(line, "did not leave") == NULL &&
	    strstr(line, "-N may be too low") == NULL &&
	    strstr(line, "had to be killed") == NULL)
		broken("it complains in a world that is in order: %s", line);
	if (strncmp(line, "no new workers for now", 22) == 0 &&
	    strstr(line, "cannot execute") == NULL && !trial.renews &&
	    world.us > life.torn + 3 * SEC &&
	    world.us > life.frozen + 3 * SEC)
		broken("the program is called broken beside a whole pool");
	if (strncmp(line, "started: ", 9) == 0)
		check_up();
	if (strcmp(line, "stopped") == 0 && children > 0 && !world.poll_fails)
		broken("it says stopped, and has children");
	if (sscanf(line, "status: %llu %*[a-z], %llu busy, %llu leaving, "
	    "%llu starting; min %llu, max %llu; %llu handed out, %llu deaths",
	    &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &handed, &deaths) < 8)
		return;
	if (handed != (unsigned)life.handed)
		broken("the status says %llu handed out, there were %d",
		    handed, life.handed);
	if (n[0] + n[1] + n[2] + n[3] != pool.total)
		broken("the status does not count every worker once");
	if (deaths < (unsigned)life.deaths ||
	    deaths > (unsigned)(life.deaths + life.faults))
		broken("the status says %llu deaths, there were %d", deaths,
		    life.deaths);
}

/* The start succeeds with a program that works, and with no other. */
static void
check_up(void)
{
	if (life.hopeless)
		broken("a start succeeds with a program that cannot");
	life.up = 1;
	if (!opt.debug && !life.reported)
		broken("it is up, and the shell does not know");
	if (pool_n() < opt.min)
		broken("a start succeeds with %zu workers", pool_n());
}

/* The pool has as many workers as it should have. */
static void
check_whole(const char *when, size_t max)
{
	struct process	*p;
	struct worker	*w;
	size_t		 n = 0;

	for (p = world.process + 1; p < world.process + NPROC; p++)
		n += p->being == LIVE && p->leader && p->executed != 0 &&
		    p->told == 0 && !p->faulty && (w = worker_of(p)) != NULL &&
		    w->gen == pool.gen;
	if (n < opt.min || n > max)
		broken("%s there are %zu workers, not %zu to %zu", when, n,
		    opt.min, max);
}

/* kfcgi ends with that status. */
static void
life_over(int status)
{
	struct process	*p;
	int		 freed = 0;

	say("--- kfcgi ends with status %d", status);
	if (!life.up && !life.spoilt && life.asked == 0)
		broken("the start of a program that works fails");
	if (world.poll_fails && status == 1)
		life_report(0);
	if (life.up && life.asked == 0)
		broken("it ends, and nobody asked");
	for (p = world.process + 1; p < world.process + NPROC; p++) {
		freed += p->freed;
		if (p->being == FREE || p->freed)
			continue;
		if (p->doomed && status == 1)
			life_report(0);
		broken("it ends, and process %d is left", p->pid);
	}
	if ((status != 0) != !life.up)
		broken("it ends with status %d", status);
	if (!freed && world.object[world.listener].refs > 0)
		broken("it ends with the listener open");
	if (memory_blocks() > life.blocks)
		broken("it ends with memory of %zu workers",
		    memory_blocks() - life.blocks);
	life_report(0);
}

/*
 * ---------- A life
 */

/* Somebody wants kfcgi to stop. */
static void
stop_comes(void)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGQUIT };
	struct process	*p;

	say("--- kfcgi is told to stop");
	if (life.asked++ == 0) {
		life.asked_at = world.us;
		life.patience = 2 * SEC;
		for (p = world.process + 1; p < world.process + NPROC; p++)
			if (p->being != FREE && (p->deaf || p->prog.late ||
			    p->client != -1 || p->hangs || !p->ready))
				life.patience = 23 * SEC;
		if (chance(300))
			after(spread(MS, 30 * SEC), STOP, 0, 0);
		after(SEC, REFUSED, 0, 0);
		after(life.patience + 7 * SEC, ENDED, 0, 0);
		world.freeze = 0;
	}
	manager_signal(sigs[between(0, 2)]);
}

/* The course of a life. */
static void
story(const struct event *e)
{
	int	 i;

	switch (e->what) {
	case PEACE:
		if (world.prog.places == 0 || !opt.variable)
			check_whole("long after all is in order", opt.max);
		say("--- calm");
		world.gap = (int)(400 * MS);
		world.burst = 1;
		if (!world.arrivals) {
			world.arrivals = 1;
			after(1, ARRIVE, 0, 0);
		}
		after(60 * SEC, QUIET, 0, 0);
		break;
	case QUIET:
		world.arrivals = 0;
		after(opt.waittime * MS + 90 * SEC, IDLE_BEGIN, 0, 0);
		break;
	case IDLE_BEGIN:
		say("--- an idle hour");
		check_whole("in an idle pool", opt.min);
		for (i = 0; i < world.nclient; i++)
			if (world.client[i].state != GONE)
				broken("client %d is not served for ever", i);
		life.wakeups = 0;
		after(3600 * SEC, IDLE_END, 0, 0);
		break;
	case IDLE_END:
		if (life.wakeups > 0)
			broken("it wakes up %d times in an idle hour",
			    life.wakeups);
		say("--- a reload");
		life.gentle = world.arrivals = 1;
		life.reload_at = world.us;
		after(1, ARRIVE, 0, 0);
		manager_signal(SIGHUP);
		after(100 * SEC, RELOADED, 0, 0);
		break;
	case RELOADED:
		check_whole("after a reload", opt.max);
		for (i = 1; i < NPROC && world.prog.places == 0; i++)
			if (world.process[i].being == LIVE &&
			    world.process[i].leader &&
			    world.process[i].born < life.reload_at)
				broken("worker %d is left from before the "
				    "reload", world.process[i].pid);
		for (i = 0; i < world.nclient; i++)
			if (world.client[i].state != GONE &&
			    world.client[i].born < world.us - 10 * SEC)
				broken("client %d is not served", i);
		after(between(0, SEC), STOP, 0, 0);
		break;
	case REFUSED:
		if (world.us < life.frozen + SEC || !life.up)
			break;
		for (i = 0; i < world.nclient; i++)
			if (world.client[i].state == WAITS &&
			    world.client[i].queued != 0 &&
			    world.client[i].queued < life.asked_at)
				broken("client %d waits for a pool that stops",
				    i);
		break;
	case ENDED:
		if (world.us < life.frozen + life.patience + 7 * SEC)
			after(50 * SEC, ENDED, 0, 0);
		else
			broken("it does not end");
		break;
	case NO_POLL:
		world.poll_fails = life.spoilt = 1;
		manager_signal(SIGUSR1);	/* or it may sleep on */
		after(30 * SEC, ENDED, 0, 0);
		break;
	default:
		stop_comes();
	}
}

/* Sets up what main() has done before the loop begins. */
static void
boot(void)
{
	static char	*argv[12], name[] = "kfcgi", r[] = "-r", v[] = "-v",
			 d[] = "-d", prog[] = "prog", n[16], max[16], backlog[16], wait[16];
	int		 argc = 0, fd, low = (int)(chance(800) ? between(1, 5) :
			    between(1, 20)), p[2];

	argv[argc++] = name;
	(void)snprintf(n, sizeof(n), "-n%d", low);
	argv[argc++] = n;
	if (chance(700)) {
		argv[argc++] = r;
		(void)snprintf(max, sizeof(max), "-N%d", low +
		    (int)(chance(300) ? 0 : between(0, 20)));
		argv[argc++] = max;
	}
	if (chance(300)) {
		(void)snprintf(backlog, sizeof(backlog), "-l%d",
		    (int)spread(1, 200));
		argv[argc++] = backlog;
	}
	(void)snprintf(wait, sizeof(wait), "-w%d", (int)(chance(200) ? 0 :
	    spread(1, 300)));
	argv[argc++] = wait;
	if (chance(500))
		argv[argc++] = v;
	if (chance(300))
		argv[argc++] = d;
	argv[argc++] = prog;
	argv[argc] = NULL;
	for (fd = 0; fd < argc; fd++)
		say("    %s", argv[fd]);
	optind = 1;
	options(argc, argv);

	for (fd = 0; fd < 4; fd++)
		(void)fd_new(manager_proc, object_new(NUL), fd == 3);
	nullfd = 3;
	world.listener = object_new(LISTENER);
	listener.fd = fd_new(manager_proc, world.listener, 1);
	world.object[world.listener].flags = opt.variable ? O_NONBLOCK : 0;
	world.trial = -1;
	if (!opt.variable) {
		world.trial = object_new(LISTENER);
		listener.trial = fd_new(manager_proc, world.trial, 1);
	}
	if (!opt.debug) {
		(void)pair(PIPE, p);
		fd_drop(manager_proc, p[0]);
		start.fd = p[1];
		world.tell = manager_proc->fd[p[1]].object;
		manager_proc->fd[p[1]].cloexec = 1;
	}
	manager = MANAGER;
	signals_init();
	if (opt.debug)
		return;
	if (sim_pipe(out.pipe) == -1 ||
	    sim_fcntl(out.pipe[0], F_SETFD, FD_CLOEXEC) == -1 ||
	    sim_fcntl(out.pipe[1], F_SETFD, FD_CLOEXEC) == -1 ||
	    sim_fcntl(out.pipe[0], F_SETFL, O_NONBLOCK) == -1)
		err(1, "the workers' output");
}

/* Draws a life, and lives it. */
static void	 live(uint64_t) __dead;
static void
live(uint64_t seed)
{
	int	 i;
	int64_t	 chaos;

	world.seed = seed;
	world.random = (seed + 1) * 0x9e3779b97f4a7c15ULL;
	for (i = 0; i < 8; i++)
		(void)draw();
	world.us = 1000 * SEC;
	world.is_linux = chance(700);
	world.npid = MANAGER;
	world.self = manager_proc;
	manager_proc->being = LIVE;
	manager_proc->pid = MANAGER;
	manager_proc->parent = 1;
	for (i = 0; i < NFD; i++)
		manager_proc->fd[i].object = -1;
	life.short_at = -1000 * SEC;

	boot();
	if (chance(500))
		program_good(&world.prog);
	else
		program_any(&world.prog);
	if (chance(100))
		world.prog.places = (int)opt.min;
	life.spoilt = world.prog.exec_errno || world.prog.exec_hangs ||
	    world.prog.fails || world.prog.life_time ||
	    world.prog.exec_time > 5000;
	life.hopeless = world.prog.exec_errno || world.prog.exec_hangs ==
	    1000 || (world.prog.fails == 1000 && world.prog.fail_time < 900);
	chaos = spread(2 * SEC, 2000 * SEC);
	world.gap = (int)spread(chaos / 2000 + MS, chaos / 2000 + 5 * SEC);
	world.burst = chance(300) ? (int)spread(1, 40) : 1;
	world.arrivals = 1;
	after(between(0, 2 * SEC), ARRIVE, 0, 0);
	if (chance(100))
		life.spoilt = 1;
	i = life.spoilt ? 0 : 30;
	if (chance(700))
		after(i * SEC + spread(MS, chaos), SIGNAL, 0, 0);
	if (chance(400))
		after(i * SEC + spread(MS, chaos), SHORT, 1, 0);
	if (chance(300))
		after(i * SEC + spread(MS, chaos), FREEZE, 0, 0);
	if (chance(600))
		after(i * SEC + spread(MS, chaos), CHANGE, 0, 0);
	if (chance(150))
		after(spread(MS, chaos), STOP, 0, 0);
	if (chance(20))
		after(spread(MS, chaos), NO_POLL, 0, 0);
	after(i * SEC + chaos, MEND, 0, 0);
	after((i + 60) * SEC + chaos, PEACE, 0, 0);

	loop_begin();
	life.blocks = memory_blocks() - pool.total;
	while (!ending.begun || pool.total > 0) {
		turn();
		check_turn();
	}
	finish();
	broken("finish() returns");
}

/* Prints the number in the environment's variable, or returns def. */
static long long
number_of(const char *name, long long def)
{
	const char	*s = getenv(name);

	return s == NULL || *s == '\0' ? def : strtoll(s, NULL, 10);
}

/*
 * Lives one life in a process of its own, which must end within a minute.
 * Returns whether it broke.
 */
static int
live_apart(uint64_t seed, struct report_of_life *sum)
{
	struct report_of_life r;
	pid_t	 pid;
	int	 fds[2], status;
	ssize_t	 n;

	fflush(stdout);
	if (pipe(fds) == -1 || (pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		close(fds[0]);
		result = fds[1];
		alarm(60);
		live(seed);
	}
	close(fds[1]);
	n = read(fds[0], &r, sizeof(r));
	close(fds[0]);
	if (waitpid(pid, &status, 0) == -1)
		err(1, "waitpid");
	if (n != sizeof(r)) {
		printf("sim: seed %llu: the process of this life %s %d "
		    "(repeat: SEED=%llu make sim)\n",
		    (unsigned long long)seed, WIFSIGNALED(status) ?
		    "was killed by signal" : "exited with", WIFSIGNALED(status)
		    ? WTERMSIG(status) : WEXITSTATUS(status),
		    (unsigned long long)seed);
		return 1;
	}
	sum->us += r.us;
	sum->events += r.events;
	sum->hash = sum->hash * 31 + r.hash;
	return r.failed;
}

int
main(void)
{
	struct report_of_life sum;
	long long first, n, lives, ms;
	int	 failed = 0;
	struct timespec	 ts, begin;

	if (getenv("SEED") != NULL && *getenv("SEED") != '\0') {
		world.show = 1;
		live((uint64_t)number_of("SEED", 0));
	}
	memset(&sum, 0, sizeof(sum));
	lives = number_of("LIVES", 0);
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	first = number_of("FIRST", (long long)ts.tv_sec / 86400 * 1000000);
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	for (n = 0;; n++) {
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
		ms = (ts.tv_sec - begin.tv_sec) * 1000 +
		    (ts.tv_nsec - begin.tv_nsec) / 1000000;
		if (lives > 0 ? n == lives : ms >= 30000)
			break;
		failed += live_apart((uint64_t)(first + n), &sum);
		if (failed == number_of("STOP", 20))
			break;
	}
	printf("sim: seeds %lld to %lld, %lld lives, %lld hours, %llu events, "
	    "%d broken; sum %016llx\n", first, first + n - 1, n,
	    (long long)(sum.us / SEC / 3600), (unsigned long long)sum.events,
	    failed, (unsigned long long)sum.hash);
	return failed > 0;
}
