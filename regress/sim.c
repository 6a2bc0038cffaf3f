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
 * macros for functions of this file, so that an hour of a pool's life takes
 * milliseconds, and what matters in a daemon like this, the order of events,
 * is drawn at random: a signal, a death or a shortage may come between any two
 * calls.
 *
 *	make sim		lives with today's seeds, for 30 seconds
 *	SEED=n make sim		one life, told line by line
 *	FIRST=n LIVES=n make sim	so many lives from a seed on
 *
 * A life is a start, chaos, a calm in which all must be whole again, an idle
 * hour, a reload that may lose nothing, and a stop.  All of it follows from its
 * seed.  Each life is a process of its own, so it leaves nothing to the next.
 * What must hold is in the functions check_*() and wherever broken() is called.
 *
 * The kernel has a table of descriptors for each simulated process, the objects
 * that they name, and a queue of events, which happen while kfcgi is in a call.
 * A child is worker_child() itself: fork(2) is a setjmp(3), the child runs on a
 * copy of the table until it calls execv(2) or _exit(2), and what it wrote to
 * the manager's memory is undone.  What a worker does after that is drawn from
 * a struct program, with the virtues and vices of those that people run.
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
#include <stddef.h>
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
#define NFORK		260		/* in a second, see check_turn() */
#define NBLOCK		1024		/* of the manager's memory */
#define ARENA		(1024 * 1024)
#define MANAGER		NPROC		/* its process id */
#define WORKER_CTL	3		/* a worker's control socket */

/* What a descriptor names. */
enum kind { NONE, NUL, LISTENER, PIPE, SOCK, CONN };
struct object {
	enum kind	 kind;
	int		 refs;		/* descriptors, and messages */
	int		 peer;		/* the other end, or -1 */
	int		 flags, writes;	/* O_NONBLOCK; the end to write to */
	unsigned char	 buf[256];	/* what can be read */
	size_t		 len;
	struct message {
		uint64_t cookie;
		int	 conn;
	}		 msg[NMSG];	/* SOCK: sent to the worker, */
	int		 nmsg, owner;	/* which that is */
	int		 reset;		/* SOCK: the peer left some unread */
	int		 queue[NFD], nqueue; /* LISTENER: clients that wait */
	int		 down;		/* LISTENER, CONN: shutdown(2) */
	int		 client;	/* CONN: whose it is */
};

/* What a program does; times in ms, chances in 1000. */
struct program {
	int	 exec_time, no_exec, exec_hangs, unkillable, ready_time;
	int	 fails, fail_time, fail_end;	/* dies at once, and how */
	int	 life_time, life_end;	/* dies by itself; 0: does not */
	int	 slow, ack_time;	/* a request, and from it to the cookie */
	int	 odd, leaves;		/* a request goes wrong; is the last */
	int	 late, deaf;		/* from SIGTERM to its end; never */
	int	 children;		/* has another process in its group */
};

/* What programs that work are like, and how often others are not. */
static const struct trait {
	size_t	 member;
	int	 low, high, chance, bad_low, bad_high;
} traits[] = {
#define TRAIT(name, ...) { offsetof(struct program, name), __VA_ARGS__ }
	TRAIT(exec_time, 1, 60, 150, 100, 30000),
	TRAIT(no_exec, 0, 0, 60, 1, 1),
	TRAIT(exec_hangs, 0, 0, 80, 100, 1000),
	TRAIT(unkillable, 0, 0, 500, 1, 1),
	TRAIT(ready_time, 1, 800, 150, 800, 10000),
	TRAIT(fails, 0, 0, 250, 20, 2000),
	TRAIT(fail_time, 1, 3000, 0, 0, 0),
	TRAIT(fail_end, 0, 2, 0, 0, 0),
	TRAIT(life_time, 0, 0, 300, 100, 100000),
	TRAIT(life_end, 0, 0, 400, 3, 3),
	TRAIT(slow, 1, 100, 150, 100, 30000),
	TRAIT(ack_time, 0, 0, 300, 1, 200),
	TRAIT(odd, 0, 0, 400, 10, 1000),
	TRAIT(leaves, 0, 0, 200, 1, 100),
	TRAIT(late, 0, 0, 350, 1, 30000),
	TRAIT(deaf, 0, 0, 250, 200, 2000),
	TRAIT(children, 0, 0, 200, 200, 2000),
};

/* Wait statuses for fail_end and life_end. */
static const int ends[] = { 0, 1 << 8, SIGABRT, SIGSEGV };

/* How a request goes wrong. */
enum odd {
	FINE, CRASHES, WRONG, PIECES, SILENT, SHUTS, EXTRA, LEAVES, QUITS,
	UNASKED
};

struct process {
	enum { FREE, CHILD, LIVE, ZOMBIE } being;
	int		 pid, pgid, parent, end;
	int		 leader;	/* it is a worker, no child of one */
	struct {
		short	 object, cloexec; /* object is -1: not open */
	}		 fd[NFD];
	int		 top;		/* above the highest open one */
	unsigned	 mask, pending;	/* signals */
	void		 (*handler[32])(int);
	struct program	 prog;
	int		 ready, deaf, hangs, served;
	int		 doomed;	/* SIGKILL came in vain */
	int		 faulty;	/* broke the protocol */
	int		 freed;		/* its worker has recycled itself */
	int		 client, conn;	/* what it serves, or -1 */
	uint64_t	 cookie;
	int		 odd, said;	/* bytes of the cookie */
	int64_t		 born, executed, idle, told; /* since; 0: not yet */
};
#define manager_proc	(&world.process[0])
#define EACH(p)	for (p = world.process + 1; p < world.process + NPROC; p++)

struct client {
	enum { WAITS, HELD, GONE } state;
	int64_t		 born, queued;
	int		 fixed;		/* accepted by a worker */
	int		 taker, receiver; /* read it; was sent it */
	int		 regular;	/* comes back when it was served */
};

/* What happens at some time: in the world, or to a process that lives. */
struct event {
	int64_t		 at;
	uint64_t	 seq;
	void		 (*what)(int);
	void		 (*to)(struct process *, int);
	int		 pid, arg;
};

/* What may be short. */
enum shortage { NOTHING, FILES, MEMORY, PROCESSES, BUFFERS };

static struct {
	uint64_t	 seed, random, hash, seq, nevents, calls, turns;
	int64_t		 us;		/* the time */
	int		 show;		/* the life is told */
	int		 is_linux;	/* ends of sockets, groups, orphans */
	struct event	 heap[NEVENT];
	size_t		 nheap;
	struct object	 object[NOBJECT];
	struct process	 process[NPROC];
	struct client	 client[NCLIENT];
	int		 npid, nclient;	/* the last ones */
	struct process	*self;		/* who is running */
	int		 in_handler, handled;
	int		 listener, trial, tell; /* objects */
	struct program	 prog;
	int		 places;	/* one more worker exits; 0: no limit */
	int		 gap, burst, arrivals; /* of clients, in us */
	int64_t		 freeze;	/* the manager is stopped for so long, */
	int		 freeze_in;	/* so many calls from now */
	enum shortage	 shortage;
	int		 scarce;	/* per 1000 calls that fail of it */
	int		 poll_fails;	/* for good */
} world;

/* What has happened, as far as a check has to know. */
static struct {
	int		 reported, up;	/* to the shell, to the log */
	int		 spoilt, hopeless; /* the start may, or must fail */
	int		 asked;		/* SIGTERM and the like, so far */
	int64_t		 asked_at, patience; /* the end may take so long */
	int64_t		 reload_at, mended;
	int64_t		 frozen;	/* end of the last stop of the manager */
	int64_t		 short_at;	/* a call failed of a shortage */
	int64_t		 torn;		/* the pool was not whole */
	int		 gentle;	/* no client may be lost */
	int		 recycled;	/* a worker left with status 0 */
	int		 handed, deaths, faults;
	int		 wakeups, restless; /* polls that slept; did nothing */
	int64_t		 forks[NFORK], line_second;
	unsigned	 nforks, lines;
	size_t		 blocks;	/* of memory, kept till the end */
} life;

static void	 broken(const char *, ...) __dead
		    __attribute__((__format__(printf, 1, 2)));
static void	 check_close(const struct client *);
static void	 check_execv(void);
static void	 check_handout(int, const struct process *,
		    const struct client *);
static void	 check_kill(const struct process *, int);
static void	 check_log(int, const char *);
static void	 check_sleep(const struct pollfd *, nfds_t, int);
static void	 life_over(int) __dead;
static void	 memory_keep(int);
static int	 on_trial(const struct process *);
static int	 opt_backlog(void);
static void	 process_looks(struct process *, int);
static void	 say(const char *, ...)
		    __attribute__((__format__(printf, 1, 2)));

/*
 * ---------- Chance, time and the story
 */

/*
 * Returns a number from low to high: Marsaglia's xorshift, multiplied.  No
 * expression may draw two but in a known order, or compilers would differ.
 */
static int64_t
between(int64_t low, int64_t high)
{
	world.random ^= world.random >> 12;
	world.random ^= world.random << 25;
	world.random ^= world.random >> 27;
	return low + (int64_t)((world.random * 2685821657736338717ULL >> 8) %
	    (uint64_t)(high - low + 1));
}

static int
chance(int permille)
{
	return between(0, 999) < permille;
}

/* Returns a number from low to high, of each order of magnitude as often. */
static int64_t
spread(int64_t low, int64_t high)
{
	int	 doublings = 0;

	while (low > 0 && low << doublings < high / 2)
		doublings++;
	low <<= between(0, doublings);
	return between(low, low > 0 && low * 2 < high ? low * 2 : high);
}

/* Tells what happens, if the life is told. */
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
}

static int
sooner(const struct event *a, const struct event *b)
{
	return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

/* Puts an event that is so many microseconds away into the queue, a heap. */
static void
event_add(int64_t us, struct event e)
{
	struct event	*h = world.heap;
	size_t		 i;

	if (world.nheap == NEVENT)
		broken("sim.c: more than %d events", NEVENT);
	e.at = world.us + us;
	e.seq = world.seq++;
	for (i = world.nheap++; i > 0 && sooner(&e, &h[(i - 1) / 2]);
	    i = (i - 1) / 2)
		h[i] = h[(i - 1) / 2];
	h[i] = e;
}

/* Has something happen in so many microseconds. */
static void
after(int64_t us, void (*what)(int), int arg)
{
	struct event	 e = { 0, 0, what, NULL, 0, arg };

	event_add(us, e);
}

/* The same, to a process, if it lives then. */
static void
after_to(struct process *p, int64_t us, void (*to)(struct process *, int),
    int arg)
{
	struct event	 e = { 0, 0, NULL, to, p->pid, arg };

	event_add(us, e);
}

static struct process *
process(int pid)
{
	struct process	*p = &world.process[pid % NPROC];

	return p->being != FREE && p->pid == pid ? p : NULL;
}

/* Time passes until then, and what is to happen until then happens. */
static void
pass(int64_t until)
{
	struct event	*h = world.heap, e, last;
	struct process	*p;
	size_t		 i, down;

	while (world.nheap > 0 && h[0].at <= until) {
		e = h[0];
		last = h[--world.nheap];
		for (i = 0; (down = 2 * i + 1) < world.nheap; i = down) {
			if (down + 1 < world.nheap &&
			    sooner(&h[down + 1], &h[down]))
				down++;
			if (sooner(&last, &h[down]))
				break;
			h[i] = h[down];
		}
		h[i] = last;
		world.us = e.at > world.us ? e.at : world.us;
		world.nevents++;
		life.restless = 0;
		if (e.what != NULL)
			e.what(e.arg);
		else if ((p = process(e.pid)) != NULL && p->being == LIVE)
			e.to(p, e.arg);
	}
	world.us = until;
}

/*
 * ---------- Objects and descriptors
 */

/* Makes an object without a descriptor and returns its number. */
static int
object_new(enum kind kind)
{
	static int	 last;
	struct object	*o;
	int		 n;

	for (n = 0; n < NOBJECT; n++) {
		last = (last + 1) % NOBJECT;
		o = &world.object[last];
		if (o->kind != NONE)
			continue;
		o->kind = kind;
		o->refs = o->flags = o->writes = o->nmsg = o->owner = 0;
		o->reset = o->nqueue = o->down = 0;
		o->len = 0;
		o->peer = o->client = -1;
		return last;
	}
	broken("sim.c: more than %d objects", NOBJECT);
}

/* A client that has not been served learns that it will not be. */
static void
client_end(struct client *c)
{
	if (c->state == GONE)
		return;
	say("client %d is %s", (int)(c - world.client), c->state == WAITS ?
	    "refused" : "cut");
	if (c->state == HELD)
		check_close(c);
	c->state = GONE;
}

static void
process_ends(struct process *p, int status);

/* A worker's control socket is at its end, which those beside it see too. */
static void
hangup(int pid)
{
	struct process	*p;

	EACH(p)
		if (p->being == LIVE && p->pgid == pid && !p->deaf &&
		    p->fd[WORKER_CTL].object != -1)
			after_to(p, between(20, 3000), p->pid == pid ?
			    process_looks : process_ends, 0);
}

/* One descriptor, or message, less names an object. */
static void
object_drop(int i)
{
	struct object	*o = &world.object[i], *peer;
	int		 n;

	if (--o->refs > 0)
		return;
	peer = o->peer == -1 ? NULL : &world.object[o->peer];
	for (n = 0; n < o->nqueue; n++)
		client_end(&world.client[o->queue[n]]);
	if (o->kind == CONN)
		client_end(&world.client[o->client]);
	if (o->kind == SOCK && peer->refs > 0) {
		if (o->nmsg > 0 || o->len > 0)
			peer->reset = world.is_linux;
		if (peer->owner != 0)
			hangup(peer->owner);
	}
	for (n = 0; n < o->nmsg; n++)
		object_drop(o->msg[n].conn);
	o->nmsg = 0;
	if (peer == NULL)
		o->kind = NONE;
	else if (peer->refs == 0)
		o->kind = peer->kind = NONE;
}

/* Makes a descriptor of a process name an object. */
static void
fd_set_to(struct process *p, int fd, int object, int cloexec)
{
	p->fd[fd].object = (short)object;
	p->fd[fd].cloexec = (short)cloexec;
	if (fd >= p->top)
		p->top = fd + 1;
	world.object[object].refs++;
}

/* The same with the lowest one that is free, which is returned. */
static int
fd_new(struct process *p, int object, int cloexec)
{
	int	 fd;

	for (fd = 0; p->fd[fd].object != -1; fd++)
		if (fd == NFD - 1)
			broken("sim.c: more than %d descriptors", NFD);
	fd_set_to(p, fd, object, cloexec);
	return fd;
}

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

/* Returns what poll(2) says of an object. */
static short
readiness(const struct object *o)
{
	int	 peer_gone = o->peer != -1 && world.object[o->peer].refs == 0;

	switch (o->kind) {
	case LISTENER:
		return o->nqueue > 0 || o->down ? POLLIN : 0;
	case PIPE:
		if (o->writes)
			return POLLOUT;
		return (o->len > 0 || (peer_gone && !world.is_linux) ?
		    POLLIN : 0) | (peer_gone ? POLLHUP : 0);
	case SOCK:
		return peer_gone ? POLLIN | POLLHUP : o->len > 0 || o->reset ?
		    POLLIN : 0;
	case CONN:
		return world.client[o->client].state == GONE ?
		    POLLIN | POLLHUP : 0;
	default:
		return POLLOUT;
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
		if (p->being != FREE || p == manager_proc)
			continue;
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
	return NULL;
}

/* A process inherits descriptors. */
static void
process_inherits(struct process *p, const struct process *from)
{
	int	 fd;

	for (fd = 0; fd < from->top; fd++)
		if (from->fd[fd].object != -1)
			fd_set_to(p, fd, from->fd[fd].object,
			    from->fd[fd].cloexec);
}

/* A process gives up the connection that it has. */
static void
conn_drop(struct process *p)
{
	struct process	*c;

	if (p->conn != -1)
		object_drop(p->conn);
	p->conn = -1;
	if (p->being == LIVE && p->prog.children > 0)
		EACH(c)
			if (c->being == LIVE && c->parent == p->pid)
				conn_drop(c);
}

/* A process ends, with that wait status. */
static void
process_ends(struct process *p, int status)
{
	struct process	*c;

	if (p->being == ZOMBIE)
		return;
	say("%s %d ends %s %d", p->leader ? "worker" : "process", p->pid,
	    status & 0x7f ? "of signal" : "with status",
	    status & 0x7f ? status : status >> 8);
	p->being = ZOMBIE;
	p->end = status;
	while (p->top > 0)
		fd_drop(p, p->top - 1);
	conn_drop(p);
	EACH(c)
		if (c->being != FREE && c->parent == p->pid) {
			/* The manager is a subreaper, if the kernel has it. */
			c->parent = world.is_linux ? MANAGER : 1;
			c->freed = status == 0 && p->told == 0;
			if (c->being == ZOMBIE && !world.is_linux)
				c->being = FREE;
		}
	if (p->parent == 1)
		p->being = FREE;
	if (p->parent == MANAGER)
		manager_proc->pending |= 1U << SIGCHLD;
}

/* A worker that was told to go goes. */
static void
process_leaves(struct process *p)
{
	int	 status = chance(500) ? 0 : SIGTERM;

	after_to(p, p->prog.late * MS + between(20, 3000), process_ends,
	    status);
}

/* A process gets a signal: SIGTERM, SIGKILL, or none. */
static void
process_signal(struct process *p, int sig)
{
	if (sig == 0 || p->being == ZOMBIE)
		return;
	if (p->hangs && p->prog.unkillable)
		p->doomed = 1;
	else if (sig == SIGKILL || (p->leader && !p->ready && !p->deaf))
		process_ends(p, sig);
	else if (!p->deaf && p->client == -1)
		process_leaves(p);
}

/* Bytes of a cookie, and what else there is, go to the manager. */
static void
process_writes(struct process *p, uint64_t cookie, int from, int len)
{
	struct object	*o;
	unsigned char	 b[16];

	if (p->fd[WORKER_CTL].object == -1)
		return;
	o = &world.object[world.object[p->fd[WORKER_CTL].object].peer];
	memset(b, 'x', sizeof(b));
	memcpy(b, &cookie, sizeof(cookie));
	if (o->refs == 0 || o->len + (size_t)len > sizeof(o->buf))
		return;
	memcpy(o->buf + o->len, b + from, (size_t)len);
	o->len += (size_t)len;
}

static void
process_babbles(struct process *p, int unused)
{
	(void)unused;
	say("worker %d speaks unasked", p->pid);
	p->faulty = 1;
	process_writes(p, 0, 0, (int)between(1, 9));
}

/* A worker is about to see whether there is something to do. */
static void
look(struct process *p)
{
	if (p->ready && p->client == -1)
		after_to(p, between(5, 200), process_looks, 0);
}

/* One of the workers that wait in accept(2) is woken up. */
static void
accept_one(void)
{
	struct process	*p;
	int		 from = (int)between(0, NPROC - 1), i;

	for (i = 0; i < NPROC; i++) {
		p = &world.process[(from + i) % NPROC];
		if (p->being == LIVE && p->leader && p->ready &&
		    p->client == -1 && p->told == 0 &&
		    p->fd[0].object == world.listener) {
			look(p);
			return;
		}
	}
}

static void	 clients_come(int);

/* A worker is done with a client and says so, in one way or another. */
static void
process_acks(struct process *p, int client)
{
	if (p->client != client)
		return;
	conn_drop(p);
	if (p->odd == PIECES) {
		process_writes(p, p->cookie, p->said, p->said < 6 ? 2 : 8 -
		    p->said);
		if ((p->said += 2) < 8) {
			after_to(p, between(1, 300 * MS), process_acks, client);
			return;
		}
		p->said = 0;
	} else {
		p->faulty |= p->odd == WRONG || p->odd == EXTRA;
		process_writes(p, p->cookie + (p->odd == WRONG), 0,
		    p->odd == EXTRA ? (int)between(9, 16) : 8);
	}
	p->client = -1;
	p->idle = world.us;
	if (p->odd == LEAVES || (p->prog.leaves > 0 &&
	    p->served >= p->prog.leaves))
		after_to(p, between(1, 2 * MS), process_ends, 0);
	else if (p->odd == UNASKED)
		after_to(p, between(1, 2 * SEC), process_babbles, 0);
	else if (p->told != 0 && !p->deaf)
		process_leaves(p);
	else
		look(p);
}

/* A worker answers a request, or does what it does instead. */
static void
process_answers(struct process *p, int client)
{
	struct client	*c = &world.client[client];

	if (p->client != client)
		return;
	switch (p->odd) {
	case CRASHES:
		process_ends(p, chance(500) ? SIGSEGV : 1 << 8);
		return;
	case QUITS:
		process_ends(p, 0);
		return;
	case SHUTS:
		say("worker %d closes its control socket", p->pid);
		p->faulty = 1;
		fd_drop(p, WORKER_CTL);
		return;
	}
	if (c->state != GONE) {
		say("client %d has its answer", client);
		c->state = GONE;
		if (c->regular && world.arrivals)
			after(between(30, 3 * MS), clients_come, 1);
	}
	p->served++;
	if (c->fixed || chance(700))
		conn_drop(p);
	after_to(p, between(1, p->odd == FINE ? p->prog.ack_time * MS + 20 :
	    30 * MS), process_acks, client);
}

/* A worker looks for work: in its control socket, or at the listener. */
static void
process_looks(struct process *p, int unused)
{
	int		 fd = p->fd[WORKER_CTL].object == -1 ? 0 : WORKER_CTL;
	struct object	*o = &world.object[p->fd[fd].object];
	struct client	*c;
	struct process	*beside;

	(void)unused;
	if (!p->ready || p->client != -1)
		return;
	if (o->kind == LISTENER) {
		if (o->nqueue == 0 || (p->told && !p->deaf)) {
			if (o->nqueue > 0)
				accept_one();
			return;
		}
		p->client = o->queue[0];
		memmove(o->queue, o->queue + 1, (size_t)--o->nqueue *
		    sizeof(o->queue[0]));
		p->conn = object_new(CONN);
		world.object[p->conn].client = p->client;
		world.object[p->conn].refs = 1;
	} else if (o->nmsg > 0) {
		if (chance(p->prog.odd / 4)) {
			process_ends(p, chance(500) ? SIGSEGV : 3 << 8);
			return;
		}
		p->cookie = o->msg[0].cookie;
		p->conn = o->msg[0].conn;
		p->client = world.object[p->conn].client;
		memmove(o->msg, o->msg + 1, (size_t)--o->nmsg *
		    sizeof(o->msg[0]));
	} else {
		if (fd != 0 && !p->deaf && world.object[o->peer].refs == 0)
			process_leaves(p);
		return;
	}
	if (p->prog.children > 0)
		EACH(beside)
			if (beside->being == LIVE && beside->conn == -1 &&
			    beside->parent == p->pid) {
				beside->conn = p->conn;
				world.object[p->conn].refs++;
			}
	c = &world.client[p->client];
	c->fixed = fd == 0;
	if (c->state == WAITS)
		c->state = HELD;
	if (c->taker != 0)
		broken("client %d was given to worker %d and to worker %d",
		    p->client, c->taker, p->pid);
	c->taker = p->pid;
	p->odd = chance(p->prog.odd) ? (int)between(CRASHES, UNASKED) : FINE;
	if (c->fixed && p->odd > CRASHES && p->odd != SILENT)
		p->odd = QUITS;
	say("worker %d reads the request of client %d", p->pid, p->client);
	after_to(p, p->odd == SILENT ? 3000 * SEC : between(200, p->prog.slow *
	    MS + 400), process_answers, p->client);
}

static void
process_is_ready(struct process *p, int unused)
{
	(void)unused;
	p->ready = 1;
	p->deaf |= chance(p->prog.deaf);
	look(p);
}

/* Its life is over, unless the world was mended. */
static void
process_expires(struct process *p, int unused)
{
	(void)unused;
	if (p->prog.life_time > 0)
		process_ends(p, ends[p->prog.life_end]);
}

/* A worker's program runs: execve(2) has ended. */
static void
process_runs(struct process *p, int unused)
{
	const struct program *g = &p->prog;
	struct process	*c;
	int		 fd, n = 0, all = 0;

	(void)unused;
	p->executed = p->idle = world.us;
	say("worker %d is executed", p->pid);
	for (fd = p->top - 1; fd >= 0; fd--)
		if (p->fd[fd].object != -1 && p->fd[fd].cloexec)
			fd_drop(p, fd);
	EACH(c) {
		n += c->being == LIVE && c->executed != 0;
		all += c->being != FREE;
	}
	if (world.places > 0 && n > world.places)
		after_to(p, between(1, 80 * MS), process_ends, 1 << 8);
	else if (chance(g->fails))
		after_to(p, g->fail_time * MS, process_ends,
		    ends[g->fail_end]);
	if (g->life_time > 0)
		after_to(p, spread(MS, g->life_time * MS), process_expires, 0);
	after_to(p, between(g->ready_time * MS / 2, g->ready_time * MS) + 50,
	    process_is_ready, 0);
	if (!chance(g->children) || all > NPROC / 3 ||
	    (c = process_new(p->pid)) == NULL)
		return;
	say("worker %d has process %d beside it", p->pid, c->pid);
	c->pgid = p->pid;
	c->deaf = chance(g->deaf);
	if (chance(500))
		process_inherits(c, p);
	if (chance(300))
		after_to(c, spread(MS, 20 * SEC), process_ends, 0);
}

/*
 * ---------- What happens in the world
 */

/* A client tries to connect. */
static void
client_connects(int i)
{
	struct object	*l = &world.object[world.listener];
	struct client	*c = &world.client[i];

	if (c->state == GONE)
		return;
	if (l->kind != LISTENER || l->down)
		client_end(c);
	else if (l->nqueue > opt_backlog() || l->nqueue == NFD) {
		/* As on Linux, it waits until there is room, or goes. */
		if (world.us - c->born > 3 * SEC && !life.gentle)
			c->state = GONE;
		else
			after(between(5 * MS, 300 * MS), client_connects, i);
	} else {
		say("client %d connects", i);
		c->queued = world.us;
		l->queue[l->nqueue++] = i;
		accept_one();
	}
}

static void
client_hangs_up(int i)
{
	if (world.client[i].state == GONE)
		return;
	say("client %d hangs up", i);
	world.client[i].state = GONE;
}

/* One client comes, or some, who will not be the last. */
static void
clients_come(int one)
{
	struct client	*c;
	int		 n = one ? 1 : (int)between(1, world.burst), i;

	if (!world.arrivals)
		return;
	while (n-- > 0 && world.nclient < NCLIENT) {
		i = world.nclient++;
		c = &world.client[i];
		c->born = world.us;
		c->regular = chance(500);
		if (!life.gentle && chance(40))
			after(spread(MS, 10 * SEC), client_hangs_up, i);
		client_connects(i);
	}
	if (!one)
		after(between(1, 2 * world.gap), clients_come, 0);
}

/* Draws a program that works, or one with some of the vices there are. */
static void
program_draw(int bad)
{
	const struct trait *t;
	size_t		 i;

	for (i = 0; i < sizeof(traits) / sizeof(traits[0]); i++) {
		t = &traits[i];
		*(int *)(void *)((char *)&world.prog + t->member) = (int)
		    (bad && chance(t->chance) ? spread(t->bad_low, t->bad_high) :
		    spread(t->low, t->high));
	}
}

static void
program_changes(int unused)
{
	(void)unused;
	if (life.mended != 0)
		return;
	say("--- the program is exchanged");
	life.hopeless = 0;
	program_draw(chance(600));
	after(spread(SEC, 500 * SEC), program_changes, 0);
}

static void
signal_comes(int unused)
{
	static const int sigs[] = { SIGHUP, SIGHUP, SIGHUP, SIGUSR1, SIGCHLD };
	static const char *const names[] = { "SIGHUP", "SIGHUP", "SIGHUP",
	    "SIGUSR1", "SIGCHLD" };
	int	 i = (int)between(0, 4);

	(void)unused;
	if (life.mended != 0)
		return;
	say("--- %s is sent", names[i]);
	manager_proc->pending |= 1U << sigs[i];
	life.reload_at = world.us;
	after(spread(10 * MS, 300 * SEC), signal_comes, 0);
}

static void
freeze_comes(int unused)
{
	(void)unused;
	if (life.mended != 0 || life.asked != 0)
		return;
	world.freeze = spread(MS, 40 * SEC);
	world.freeze_in = (int)between(1, 40);
	after(spread(SEC, 1000 * SEC), freeze_comes, 0);
}

/* A shortage begins, or ends. */
static void
shortage_comes(int begins)
{
	if (life.mended != 0)
		return;
	world.shortage = begins ? (enum shortage)between(FILES, BUFFERS) :
	    NOTHING;
	world.scarce = (int)spread(10, 1000);
	say("--- shortage %d, %d of 1000 calls fail", world.shortage,
	    begins ? world.scarce : 0);
	after(begins ? spread(MS, 30 * SEC) : spread(SEC, 500 * SEC),
	    shortage_comes, !begins);
}

static void
poll_breaks(int unused)
{
	(void)unused;
	world.poll_fails = life.spoilt = 1;
	manager_proc->pending |= 1U << SIGUSR1;	/* or it may sleep on */
}

/* Everything is in order from now on, whatever was before. */
static void
world_mends(int unused)
{
	struct process	*p;

	(void)unused;
	say("--- the world is in order again");
	program_draw(0);
	world.shortage = NOTHING;
	life.mended = world.us;
	life.hopeless = 0;
	EACH(p) {
		if (p->being != LIVE)
			continue;
		p->prog.odd = p->prog.life_time = p->prog.leaves = 0;
		p->prog.ack_time = 0;
		p->prog.slow = p->prog.slow > 50 ? 50 : p->prog.slow;
		if (p->doomed || p->freed || (p->client != -1 &&
		    p->odd == SHUTS))
			process_ends(p, SIGKILL);
		else if (p->hangs) {
			p->hangs = 0;
			process_runs(p, 0);
		} else if (p->client != -1 && p->odd == SILENT) {
			p->odd = FINE;
			after_to(p, 1, process_answers, p->client);
		}
	}
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

	while (!world.in_handler && (sigs = p->pending & ~p->mask) != 0) {
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

static void
hash(uint64_t n)
{
	world.hash = (world.hash ^ n) * 1099511628211ULL;
}

/* Every system call begins with this: it takes a while, and things happen. */
static void
tick(void)
{
	int64_t	 cost = between(1, 10);

	world.calls++;
	hash((uint64_t)world.us ^ world.calls << 40);
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

/* Returns whether a call fails for want of that, with one of the errnos. */
static int
lacks(enum shortage what, int error, int other)
{
	if (world.shortage != what || !chance(world.scarce))
		return 0;
	errno = chance(500) ? error : other;
	life.short_at = world.us;
	say("a call of kfcgi fails: %s", strerror(errno));
	return 1;
}

static int
sim_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	int64_t	 until;
	nfds_t	 i;
	int	 loop = n > 1 || timeout != 0, ready, slept = 0;

	tick();
	if (loop && world.poll_fails) {
		errno = EPERM;
		return -1;
	}
	if (loop && lacks(MEMORY, ENOMEM, EAGAIN))
		return -1;
	world.handled = 0;
	world.turns += loop;
	life.restless += loop;
	if (life.restless > 300)
		broken("poll returned 300 times, and nothing happened");
	until = timeout < 0 ? FOREVER : world.us + timeout * MS;
	for (;; slept = 1) {
		for (ready = 0, i = 0; i < n; i++) {
			fds[i].revents = 0;
			if (fds[i].fd >= 0)
				fds[i].revents = readiness(named(fds[i].fd,
				    "poll")) & (fds[i].events | POLLHUP);
			ready += fds[i].revents != 0;
		}
		if (ready > 0 || world.us >= until)
			break;
		if (!slept)
			check_sleep(fds, n, timeout);
		pass(world.nheap > 0 && world.heap[0].at < until ?
		    world.heap[0].at : until);
		deliver();
		if (world.handled) {
			errno = EINTR;
			ready = -1;
			break;
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
sim_accept(int fd)
{
	struct object	*o;
	struct client	*c;
	int		 conn;

	tick();
	o = named(fd, "accept");
	if (o->kind != LISTENER || !(o->flags & O_NONBLOCK))
		broken("accept of what is no listener, or would wait");
	if (lacks(FILES, EMFILE, ENFILE) || lacks(MEMORY, ENOMEM, ENOBUFS))
		return -1;
	errno = chance(3) ? ECONNABORTED : o->down ? EINVAL : EAGAIN;
	if (o->nqueue == 0 || errno == ECONNABORTED)
		return -1;
	conn = object_new(CONN);
	world.object[conn].client = o->queue[0];
	memmove(o->queue, o->queue + 1, (size_t)--o->nqueue *
	    sizeof(o->queue[0]));
	c = &world.client[world.object[conn].client];
	if (c->state == WAITS)
		c->state = HELD;
	say("kfcgi accepts client %d", (int)(c - world.client));
	return fd_new(world.self, conn, 1);
}

static int
sim_close(int fd)
{
	tick();
	(void)named(fd, "close");
	fd_drop(world.self, fd);
	return 0;
}

/* A listener can be shut down on Linux only. */
static int
sim_shutdown(int fd)
{
	struct object	*o;

	tick();
	o = named(fd, "shutdown");
	if (o->kind == LISTENER && !world.is_linux)
		return -1;
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
	if (o->len > 0) {
		size = size > o->len ? o->len : size;
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
	struct object	*o, *to;

	tick();
	o = named(fd, "write");
	if (o->kind != PIPE || !o->writes)
		broken("write to descriptor %d, kind %d", fd, o->kind);
	if (world.self->fd[fd].object == world.tell) {
		say("--- kfcgi reports that it is up");
		life.reported = 1;
		return 1;
	}
	to = &world.object[o->peer];
	errno = to->refs == 0 ? EPIPE : EAGAIN;
	if (to->refs == 0 || to->len + size > sizeof(to->buf)) {
		if (errno == EAGAIN && !(o->flags & O_NONBLOCK))
			broken("write to descriptor %d waits", fd);
		return -1;
	}
	memcpy(to->buf + to->len, buf, size);
	to->len += size;
	return (ssize_t)size;
}

static ssize_t
sim_sendmsg(int fd, const struct msghdr *msg)
{
	struct object	*o, *peer;
	struct client	*c;
	int		 conn;

	tick();
	o = named(fd, "sendmsg");
	memcpy(&conn, CMSG_DATA(CMSG_FIRSTHDR(msg)), sizeof(conn));
	if (o->kind != SOCK || named(conn, "sendmsg")->kind != CONN)
		broken("sendmsg of no connection, or to no worker");
	if (lacks(BUFFERS, ENOBUFS, ENOMEM))
		return -1;
	peer = &world.object[o->peer];
	errno = peer->refs > 0 ? EAGAIN : o->reset ? ECONNRESET : EPIPE;
	if (peer->refs == 0 || peer->nmsg == NMSG) {
		o->reset = 0;
		return -1;
	}
	conn = world.self->fd[conn].object;
	c = &world.client[world.object[conn].client];
	say("kfcgi hands client %d to worker %d", world.object[conn].client,
	    peer->owner);
	check_handout(fd, process(peer->owner), c);
	memcpy(&peer->msg[peer->nmsg].cookie, msg->msg_iov[0].iov_base,
	    sizeof(uint64_t));
	peer->msg[peer->nmsg++].conn = conn;
	world.object[conn].refs++;
	c->receiver = peer->owner;
	life.handed++;
	if (process(peer->owner) != NULL)
		look(process(peer->owner));
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
sim_fcntl(int fd, int cmd, ...)
{
	struct object	*o;
	va_list		 ap;
	int		 arg;

	va_start(ap, cmd);
	arg = cmd == F_GETFL ? 0 : va_arg(ap, int);
	va_end(ap);
	tick();
	o = named(fd, "fcntl");
	if (cmd == F_SETFD)
		world.self->fd[fd].cloexec = (short)arg;
	if (cmd == F_SETFL)
		o->flags = arg;
	return o->flags;
}

static int
sim_dup2(int from, int to)
{
	int	 object;

	tick();
	(void)named(from, "dup2");
	object = world.self->fd[from].object;
	world.object[object].refs++;
	if (world.self->fd[to].object != -1)
		fd_drop(world.self, to);
	fd_set_to(world.self, to, object, 0);
	world.object[object].refs--;
	return to;
}

static int
sim_signal(int sig, void (*handler)(int))
{
	if (sig < 32)
		world.self->handler[sig] = handler == SIG_DFL ||
		    handler == SIG_IGN ? NULL : handler;
	return 0;
}

static int
sim_sigprocmask(const sigset_t *set)
{
	int	 sig;

	world.self->mask = 0;
	for (sig = 1; sig < 32; sig++)
		if (sigismember(set, sig) == 1)
			world.self->mask |= 1U << sig;
	tick();
	return 0;
}

static jmp_buf	 fork_point;

/*
 * Becomes the child and returns 0, or -1 with errno.  The child's memory is the
 * manager's, so that is kept, and given back in fork_done().
 */
static int
fork_child(void)
{
	struct process	*p;

	tick();
	if (lacks(PROCESSES, EAGAIN, ENOMEM) || lacks(MEMORY, ENOMEM, EAGAIN))
		return -1;
	if ((p = process_new(MANAGER)) == NULL) {
		errno = EAGAIN;
		return -1;
	}
	process_inherits(p, manager_proc);
	memcpy(p->handler, manager_proc->handler, sizeof(p->handler));
	p->leader = 1;
	p->being = CHILD;
	p->mask = manager_proc->mask;
	p->pgid = MANAGER;
	life.forks[life.nforks++ % NFORK] = world.us;
	world.self = p;
	memory_keep(1);
	return 0;
}

/* Is the manager again, and returns the child's process id. */
static int
fork_done(void)
{
	int	 pid = world.self->pid;

	memory_keep(0);
	world.self = manager_proc;
	say("kfcgi starts worker %d", pid);
	tick();
	return pid;
}

static int
sim_execv(void)
{
	struct process	*p = world.self;
	struct object	*ctl = &world.object[p->fd[WORKER_CTL].object];

	check_execv();
	if (p->prog.no_exec) {
		errno = chance(500) ? ENOENT : EACCES;
		return -1;
	}
	if (ctl->kind == SOCK)
		ctl->owner = p->pid;
	p->being = LIVE;
	p->hangs = chance(p->prog.exec_hangs);
	if (!p->hangs)
		after_to(p, between(100, p->prog.exec_time * MS), process_runs,
		    0);
	longjmp(fork_point, 1);
}

static void	 child_exit(int) __dead;
static void
child_exit(int status)
{
	world.self->being = LIVE;
	after_to(world.self, between(1, 400), process_ends, status << 8);
	longjmp(fork_point, 1);
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
		life.deaths += p->leader && !on_trial(p) && p->told == 0;
		life.recycled |= p->end == 0;
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
	if (sig != 0)
		say("kfcgi sends signal %d to %s %d", sig, pid < 0 ? "group" :
		    "worker", pid < 0 ? -pid : pid);
	if (pid == 0 || pid == -1 || (pid > 0 && process(pid) == NULL))
		broken("kill of %d, which may be anybody by now", (int)pid);
	EACH(p) {
		if (p->being == FREE || (pid > 0 ? p->pid != pid : p->pgid !=
		    -pid) || (pid < 0 && p->being == ZOMBIE && !world.is_linux))
			continue;
		found = 1;
		check_kill(p, sig);
		process_signal(p, sig);
		if (sig != 0 && p->told == 0) {
			p->told = world.us;
			life.faults += p->leader && (p->faulty ||
			    p->executed == 0);
		}
	}
	errno = ESRCH;
	return found ? 0 : -1;
}

static int
sim_clock_gettime(struct timespec *ts)
{
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
		hash((unsigned char)line[i]);
	say("log: %s", line);
	check_log(prio, line);
	tick();
}

/*
 * The manager's memory.  What was freed is filled, and looked at before it is
 * used again: nobody may have written to it.
 */
static unsigned char arena[2][ARENA] __attribute__((__aligned__(16)));
static size_t	 arena_top, nblocks;
static struct {
	size_t	 offset, size;
	int	 used;
} blocks[NBLOCK];

static void *
sim_calloc(size_t n, size_t size)
{
	static size_t	 last;
	unsigned char	*p;
	size_t		 b, k;

	tick();
	if (lacks(MEMORY, ENOMEM, ENOMEM))
		return NULL;
	size = (n * size + 15) / 16 * 16;
	for (k = 1; k <= nblocks; k++) {
		b = (last + k) % nblocks;
		if (!blocks[b].used && blocks[b].size == size)
			break;
	}
	if (k > nblocks) {
		if (nblocks == NBLOCK || arena_top + size > ARENA)
			broken("sim.c: the manager needs too much memory");
		b = nblocks++;
		blocks[b].offset = arena_top;
		blocks[b].size = size;
		memset(arena[0] + arena_top, 'x', size);
		arena_top += size;
	}
	last = b;
	blocks[b].used = 1;
	p = arena[0] + blocks[b].offset;
	for (k = 0; k < size; k++)
		if (p[k] != 'x')
			broken("memory was written to after free");
	return memset(p, 0, size);
}

static void
sim_free(void *p)
{
	size_t	 b;

	for (b = 0; b < nblocks; b++)
		if (arena[0] + blocks[b].offset == p && blocks[b].used) {
			blocks[b].used = 0;
			memset(p, 'x', blocks[b].size);
			return;
		}
	if (p != NULL)
		broken("free of what was not allocated, or was freed before");
}

static size_t
memory_used(void)
{
	size_t	 b, n = 0;

	for (b = 0; b < nblocks; b++)
		n += blocks[b].used != 0;
	return n;
}

/*
 * ---------- kfcgi
 */

/* fork(2) is a setjmp(3) here, and nothing changes between its two returns. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

#undef accept4
#undef dprintf
#undef fchmod
#define _exit(status)		child_exit(status)
#define accept4(fd, a, b, c)	sim_accept(fd)
#define calloc(n, size)		sim_calloc(n, size)
#define clock_gettime(clock, ts) sim_clock_gettime(ts)
#define close(fd)		sim_close(fd)
#define dprintf(...)		((void)0)
#define dup2(from, to)		sim_dup2(from, to)
#define execv(path, argv)	sim_execv()
#define exit(status)		life_over(status)
#define fchmod(fd, mode)	0
#define fcntl(fd, ...)		sim_fcntl(fd, __VA_ARGS__)
#define fork()			(setjmp(fork_point) == 0 ? fork_child() : \
				    fork_done())
#define free(p)			sim_free(p)
#define getppid()		MANAGER
#define kill(pid, sig)		sim_kill(pid, sig)
#define listen(fd, backlog)	0
#define pipe(fds)		pair(PIPE, fds)
#define poll(fds, n, timeout)	sim_poll(fds, n, timeout)
#define prctl(...)		0
#define read(fd, buf, size)	sim_read(fd, buf, size)
#define sendmsg(fd, msg, flags)	sim_sendmsg(fd, msg)
#define setpgid(a, b)		(world.self->pgid = world.self->pid, 0)
#define setrlimit(what, limit)	0
#define setsockopt(a, b, c, value, d) ((void)(value), 0)
#define shutdown(fd, how)	sim_shutdown(fd)
#define sigaction(sig, sa, old)	sim_signal(sig, (sa)->sa_handler)
#define signal(sig, handler)	sim_signal(sig, handler)
#define sigprocmask(how, set, old) sim_sigprocmask(set)
#define socketpair(a, b, c, fds) pair(SOCK, fds)
#undef syslog
#define syslog(...)		sim_syslog(__VA_ARGS__)
#define waitpid(pid, ws, flags)	sim_waitpid(pid, ws, flags)
#define write(fd, buf, size)	sim_write(fd, buf, size)
#undef log_heard
#define log_heard()		1
#undef log_patience
#define log_patience(ms)	((void)(ms))
int		 kfcgi_main(int, char **);
#define main			kfcgi_main
#include "../kfcgi.c"
#undef main
#undef _exit
#undef clock_gettime
#undef close
#undef exit
#undef fork
#undef pipe
#undef read
#undef waitpid
#undef write

/* Keeps the memory that a child may change, or gives it back. */
static void
memory_keep(int keep)
{
	static unsigned char kept[16384];
	const struct {
		void	*at;
		size_t	 size;
	} parts[] = {
		{ &listener, sizeof(listener) }, { &out, sizeof(out) },
		{ &pool, sizeof(pool) }, { &start, sizeof(start) },
		{ &trial, sizeof(trial) }
	};
	unsigned char	*k = kept;
	size_t		 i;

	memcpy(arena[keep], arena[!keep], arena_top);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (keep)
			memcpy(k, parts[i].at, parts[i].size);
		else
			memcpy(parts[i].at, k, parts[i].size);
		k += parts[i].size;
	}
}

static int
opt_backlog(void)
{
	return opt.backlog;
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

/*
 * ---------- What must hold
 */

struct outcome {
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
	struct outcome	 o;

	memset(&o, 0, sizeof(o));
	o.us = world.us - 1000 * SEC;
	o.events = world.nevents;
	o.hash = world.hash;
	o.failed = failed;
	fflush(stdout);
	if (result != -1 && write(result, &o, sizeof(o)) != sizeof(o))
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
	if (fd != -1 && (manager_proc->fd[fd].object == -1 ||
	    world.object[manager_proc->fd[fd].object].kind != kind ||
	    claimed[fd]++))
		broken("%s, descriptor %d, is closed or something else", what,
		    fd);
}

/*
 * The manager has the descriptors open that it knows of, and no other; the
 * workers that it knows of are its children, and are counted.
 */
static void
check_state(void)
{
	struct worker	*w;
	struct process	*p;
	char		 claimed[NFD];
	size_t		 k, n, places = 0, total = 0;
	int		 fd, i;

	memset(claimed, 0, sizeof(claimed));
	for (fd = 0; fd <= CONTROL_FD; fd++)
		claim(claimed, fd, NUL, "/dev/null");
	claim(claimed, listener.fd, LISTENER, "the listener");
	claim(claimed, listener.trial, LISTENER, "the trial's listener");
	claim(claimed, start.fd, PIPE, "the pipe of the start");
	for (i = 0; i < 2; i++) {
		claim(claimed, sigpipe[i], PIPE, "the pipe for signals");
		claim(claimed, out.pipe[i], PIPE, "the workers' output");
	}
	for (k = 0; k < listener.nconns; k++)
		claim(claimed, listener.conns[k].fd, CONN, "a connection");
	for (i = 0; i < NSTATES; i++) {
		n = 0;
		TAILQ_FOREACH(w, &pool.q[i], entry) {
			claim(claimed, w->exec, PIPE, "an exec pipe");
			claim(claimed, w->ctl, SOCK, "a control socket");
			claim(claimed, w->conn, CONN, "a connection");
			if (w->state != (enum state)i || (w->conn != -1) !=
			    (i == BUSY) || (!w->reaped &&
			    process(w->pid) == NULL))
				broken("worker %d is not what state %d says",
				    (int)w->pid, i);
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
	for (fd = 0; fd < manager_proc->top; fd++)
		if (manager_proc->fd[fd].object != -1 && !claimed[fd])
			broken("descriptor %d, kind %d, is open and forgotten",
			    fd, world.object[manager_proc->fd[fd].object].kind);
	EACH(p)
		if (p->being != FREE && p->leader && worker_of(p) == NULL)
			broken("worker %d is forgotten", p->pid);
}

/* Notes when fewer than n workers served who were not young, or some waited. */
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

/* What must hold after each turn of the loop. */
static void
check_turn(void)
{
	const struct client *c;
	int		 i;

	check_state();
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
			broken("client %d waits for worker %d, which was reaped",
			    i, c->taker);
	}
}

/* What must hold when kfcgi sleeps for so many ms, -1: for ever. */
static void
check_sleep(const struct pollfd *fds, nfds_t n, int timeout)
{
	struct process	*p = manager_proc;
	const struct object *o;
	size_t		 waiting = listener.nconns;
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
	if (!polled_too)
		waiting += (size_t)world.object[world.listener].nqueue;
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
	for (fd = 0; fd < p->top; fd++) {
		if (p->fd[fd].object == -1)
			continue;
		o = &world.object[p->fd[fd].object];
		for (i = 0; i < n && fds[i].fd != fd; i++)
			continue;
		if (i == n && (o->kind == PIPE || o->kind == SOCK) &&
		    readiness(o) & POLLIN)
			broken("sleeps for ever, and descriptor %d is readable",
			    fd);
	}
	EACH(p)
		if (p->being == ZOMBIE && p->parent == MANAGER &&
		    !(manager_proc->pending & 1U << SIGCHLD))
			broken("sleeps for ever, and child %d is dead", p->pid);
}

/* What a worker inherits: three or four descriptors, and no signal's fate. */
static void
check_execv(void)
{
	const struct process *p = world.self;
	int		 fd, i, sig;

	for (fd = 0; fd < p->top; fd++)
		if (p->fd[fd].object != -1 && !p->fd[fd].cloexec &&
		    fd > (opt.variable ? WORKER_CTL : STDERR_FILENO))
			broken("a worker inherits descriptor %d", fd);
	/* If execve(2) hangs, others would wait for the end of these. */
	for (fd = 0; fd < p->top && opt.variable; fd++) {
		i = p->fd[fd].object;
		if (i != -1 && (world.object[i].kind == CONN ||
		    (world.object[i].kind == SOCK &&
		    i != p->fd[WORKER_CTL].object &&
		    world.object[i].peer != p->fd[WORKER_CTL].object)))
			broken("a child keeps descriptor %d of another", fd);
	}
	if (world.object[p->fd[0].object].kind != (opt.variable ? NUL :
	    LISTENER) || (opt.variable &&
	    world.object[p->fd[WORKER_CTL].object].kind != SOCK))
		broken("a worker has a wrong descriptor 0, or control socket");
	for (fd = STDOUT_FILENO; fd <= STDERR_FILENO && !opt.debug; fd++)
		if (p->fd[fd].object != manager_proc->fd[out.pipe[1]].object)
			broken("what a worker prints goes elsewhere");
	for (sig = 1; sig < 32; sig++)
		if (p->handler[sig] != NULL || p->mask & 1U << sig)
			broken("signal %d is not a worker's own", sig);
	if (p->pgid != p->pid)
		broken("a worker has no group of its own");
}

/* A client is handed to a worker that is idle, and to that only. */
static void
check_handout(int fd, const struct process *p, const struct client *c)
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
	if (p->executed == 0 || (p->told != 0 && p->being == LIVE))
		broken("a client is handed to a worker that is not executed, "
		    "or told to go");
	TAILQ_FOREACH(old, &pool.q[IDLE], entry) {
		if (old->gen < w->gen && p->executed + SEC > world.us)
			broken("a client is handed to a new worker beside an "
			    "old one");
	}
}

/* Returns how many workers serve, but this one: all, or those that may. */
static size_t
serving_without(const struct worker *but, int ready)
{
	struct worker	*w;
	size_t		 n = 0;
	int		 i;

	for (i = ready ? IDLE : STARTING; i <= BUSY; i++)
		TAILQ_FOREACH(w, &pool.q[i], entry)
			n += w != but && (!ready || (w->gen == pool.gen &&
			    process(w->pid) != NULL && world.us -
			    process(w->pid)->executed >= SEC - 5 * MS));
	return n;
}

/* A worker is told to go, or killed, for a reason only. */
static void
check_kill(const struct process *p, int sig)
{
	const struct process *leader = process(p->pgid);
	const struct worker *w = worker_of(p);

	if (sig == 0 || p->being == ZOMBIE || ending.begun || !life.up)
		return;
	if (!p->leader) {
		if (leader != NULL && leader->being == LIVE &&
		    leader->told == 0 && sig == SIGTERM)
			broken("process %d is told to go before worker %d",
			    p->pid, p->pgid);
		return;
	}
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
	if (w->gen == pool.gen && (!opt.variable || pool_n() < opt.min ||
	    world.us - p->idle < opt.waittime * MS - 50 * MS))
		broken("SIGTERM for worker %d, which is needed", p->pid);
	if ((w->gen == pool.gen || pool.renewing) &&
	    serving_without(w, 0) < opt.min)
		broken("a worker goes, and there are fewer than %zu then",
		    opt.min);
	if (w->gen != pool.gen && life.gentle && serving_without(w, 1) <
	    opt.min)
		broken("an old worker goes when only %zu of the new are ready",
		    serving_without(w, 1));
}

/* A client that was not served is let down by rule only. */
static void
check_close(const struct client *c)
{
	int		 pid = c->taker != 0 ? c->taker : c->receiver;
	const struct process *p = &world.process[pid % NPROC];
	int		 well = p->being == LIVE && !p->faulty && p->told == 0 &&
			    !p->hangs && world.self == manager_proc;

	if (life.gentle && life.asked == 0 && world.places == 0)
		broken("a client is cut in a world that is in order");
	if (p->pid != pid && pid != 0)
		return;
	if (ending.begun) {
		if (opt.variable && life.up && life.asked == 1 && c->taker != 0
		    && well && world.us < life.asked_at + 19 * SEC)
			broken("a client is cut before the time is up");
	} else if (opt.variable) {
		if (pid == 0)
			broken("a client is cut that no worker ever had");
		if (well)
			broken("a client is cut, and worker %d is well", pid);
		if (c->taker == 0 && world.is_linux && !p->faulty &&
		    p->told == 0 && p->prog.children == 0)
			broken("a client is cut whose request nobody has read");
	}
}

/* What the log says is so. */
static void
check_log(int prio, const char *line)
{
	static long long delay;
	unsigned long long n[9], deaths, faults;
	const char	*next = strstr(line, "next trial in ");
	struct process	*p;
	int		 children = 0;

	note_whole();
	EACH(p)
		children += p->being != FREE && p->leader && !p->doomed;
	if (prio != LOG_DEBUG && world.us - life.line_second >= SEC) {
		life.line_second = world.us;
		life.lines = 0;
	}
	if (prio <= LOG_WARNING && ++life.lines > 40)
		broken("the log is flooded");
	if (prio <= LOG_WARNING && life.gentle && world.places == 0 &&
	    strstr(line, "did not leave") == NULL &&
	    strstr(line, "-N may be too low") == NULL &&
	    strstr(line, "had to be killed") == NULL)
		broken("it complains in a world that is in order: %s", line);
	if (strncmp(line, "no new workers for now", 22) == 0 &&
	    strstr(line, "cannot execute") == NULL && !trial.renews &&
	    world.us > life.torn + 3 * SEC && world.us > life.frozen + 3 * SEC)
		broken("the program is called broken beside a whole pool");
	if (next != NULL) {
		delay = delay == 0 ? 100 : delay * 2 < 10000 ? delay * 2 :
		    10000;
		if (strtoll(next + 14, NULL, 10) != delay)
			broken("the next trial is not in %lld ms", delay);
	}
	if (strncmp(line, "workers are started again", 25) == 0)
		delay = 0;
	if (strstr(line, "connections for now") != NULL &&
	    world.us - life.short_at > SEC / 10)
		broken("it complains of a shortage, and there is none");
	if (strncmp(line, "started: ", 9) == 0) {
		life.up = 1;
		if (life.hopeless || pool_n() < opt.min ||
		    (!opt.debug && !life.reported))
			broken("it says started, and is not, or nobody knows");
	}
	if (strcmp(line, "stopped") == 0 && children > 0 && !world.poll_fails)
		broken("it says stopped, and has children");
	if (sscanf(line, "status: %llu %*[a-z], %llu busy, %llu leaving, "
	    "%llu starting; min %llu, max %llu; %llu handed out, %llu "
	    "%*[a-z], %llu", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6],
	    &n[7], &n[8]) < 9)
		return;
	deaths = (unsigned)life.deaths;
	faults = (unsigned)life.faults;
	if (n[6] != (unsigned)life.handed || n[7] < deaths ||
	    n[7] > deaths + faults || n[8] > life.nforks)
		broken("the status is wrong: %d handed out, %d to %d deaths",
		    life.handed, life.deaths, life.deaths + life.faults);
	if (n[0] + n[1] + n[2] + n[3] != pool.total)
		broken("the status does not count every worker once");
}

/* The pool has as many workers as it should have, by what is executed. */
static void
check_whole(const char *when, size_t max)
{
	struct process	*p;
	struct worker	*w;
	size_t		 n = 0;

	EACH(p)
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
	if (life.up && life.asked == 0 && !world.poll_fails)
		broken("it ends, and nobody asked");
	EACH(p) {
		freed |= p->freed;
		if (p->being == FREE || p->freed)
			continue;
		if (!(p->doomed || world.poll_fails) || status != 1)
			broken("it ends with status %d, and process %d is left",
			    status, p->pid);
		life_report(0);
	}
	if ((status != 0) != (!life.up || world.poll_fails))
		broken("it ends with status %d", status);
	if (!freed && world.object[world.listener].refs > 0)
		broken("it ends with the listener open");
	if (memory_used() > life.blocks)
		broken("it ends with memory of %zu workers",
		    memory_used() - life.blocks);
	life_report(0);
}

/*
 * ---------- A life
 */

static void
check_refused(int unused)
{
	int	 i;

	(void)unused;
	for (i = 0; i < world.nclient; i++)
		if (world.us > life.frozen + SEC && life.up &&
		    world.client[i].state == WAITS && world.client[i].queued !=
		    0 && world.client[i].queued < life.asked_at)
			broken("client %d waits for a pool that stops", i);
}

static void
check_ended(int unused)
{
	(void)unused;
	if (world.us >= life.frozen + life.patience)
		broken("it does not end");
	after(50 * SEC, check_ended, 0);
}

/* Who is asked twice kills, which takes KILL_GRACE at most. */
static void
check_killed(int unused)
{
	(void)unused;
	broken("it was told to stop twice, and does not end");
}

/* Somebody wants kfcgi to stop. */
static void
stop_comes(int unused)
{
	static const int sigs[] = { SIGTERM, SIGINT, SIGQUIT };
	struct process	*p;

	(void)unused;
	say("--- kfcgi is told to stop");
	manager_proc->pending |= 1U << sigs[between(0, 2)];
	if (life.asked++ > 0) {
		if (world.us > life.asked_at + SEC &&
		    life.frozen < life.asked_at)
			after(8 * SEC, check_killed, 0);
		return;
	}
	life.asked_at = world.us;
	life.patience = 4 * SEC;
	EACH(p)
		if (p->being != FREE && (p->deaf || p->prog.late ||
		    p->client != -1 || p->hangs || !p->ready))
			life.patience = 30 * SEC;
	if (chance(300))
		after(spread(MS, 30 * SEC), stop_comes, 0);
	after(SEC, check_refused, 0);
	after(life.patience, check_ended, 0);
	world.freeze = 0;
}

static void
check_reloaded(int unused)
{
	struct process	*p;
	int		 i;

	(void)unused;
	check_whole("after a reload", opt.max);
	EACH(p)
		if (world.places == 0 && p->being == LIVE && p->leader &&
		    p->born < life.reload_at)
			broken("worker %d is left from before the reload",
			    p->pid);
	for (i = 0; i < world.nclient; i++)
		if (world.client[i].state != GONE &&
		    world.client[i].born < world.us - 10 * SEC)
			broken("client %d is not served", i);
	after(between(0, SEC), stop_comes, 0);
}

static void
check_idle(int unused)
{
	(void)unused;
	if (life.wakeups > 0)
		broken("it wakes up %d times in an idle hour", life.wakeups);
	say("--- a reload");
	life.gentle = world.arrivals = 1;
	life.reload_at = world.us;
	after(1, clients_come, 0);
	manager_proc->pending |= 1U << SIGHUP;
	after(100 * SEC, check_reloaded, 0);
}

static void
idle_hour(int unused)
{
	int	 i;

	(void)unused;
	say("--- an idle hour");
	check_whole("in an idle pool", opt.min);
	for (i = 0; i < world.nclient; i++)
		if (world.client[i].state != GONE)
			broken("client %d is never served", i);
	life.wakeups = 0;
	after(3600 * SEC, check_idle, 0);
}

static void
nobody_comes(int unused)
{
	(void)unused;
	world.arrivals = 0;
	after(opt.waittime * MS + 90 * SEC, idle_hour, 0);
}

static void
calm_comes(int unused)
{
	(void)unused;
	if (world.places == 0 || !opt.variable)
		check_whole("long after all is in order", opt.max);
	say("--- calm");
	world.gap = (int)(400 * MS);
	world.burst = 1;
	after(60 * SEC, nobody_comes, 0);
}

/* Reads the options of a life, and sets up what main() has done before. */
static void
boot(void)
{
	static char	 name[] = "kfcgi", r[] = "-r", v[] = "-v", d[] = "-d",
			 prog[] = "prog", n[16], max[16], backlog[16],
			 waittime[16], *argv[12];
	int		 argc = 0, fd, i, p[2];
	int		 low = (int)between(1, chance(800) ? 5 : 20);

	argv[argc++] = name;
	(void)snprintf(argv[argc++] = n, sizeof(n), "-n%d", low);
	(void)snprintf(argv[argc++] = waittime, sizeof(waittime), "-w%d",
	    chance(200) ? 0 : (int)spread(1, 300));
	if (chance(700)) {
		argv[argc++] = r;
		(void)snprintf(argv[argc++] = max, sizeof(max), "-N%d", low +
		    (chance(300) ? 0 : (int)between(0, 20)));
	}
	if (chance(300))
		(void)snprintf(argv[argc++] = backlog, sizeof(backlog), "-l%d",
		    (int)spread(1, 200));
	if (chance(500))
		argv[argc++] = v;
	if (chance(300))
		argv[argc++] = d;
	argv[argc++] = prog;
	for (i = 0; i < argc; i++)
		say("    %s", argv[i]);
	options(argc, argv);

	for (fd = 0; fd <= CONTROL_FD; fd++)
		(void)fd_new(manager_proc, object_new(NUL), fd == CONTROL_FD);
	nullfd = CONTROL_FD;
	world.listener = object_new(LISTENER);
	listener.fd = fd_new(manager_proc, world.listener, 1);
	if (opt.variable)
		world.object[world.listener].flags = O_NONBLOCK;
	else
		listener.trial = fd_new(manager_proc, object_new(LISTENER), 1);
	world.tell = -1;
	if (!opt.debug) {
		(void)pair(PIPE, p);
		fd_drop(manager_proc, p[0]);
		start.fd = p[1];
		world.tell = manager_proc->fd[p[1]].object;
		manager_proc->fd[p[1]].cloexec = 1;
	}
	manager = MANAGER;
	signals_init();
	if (!opt.debug && (pair(PIPE, out.pipe) == -1 ||
	    fd_flags(out.pipe[0], O_NONBLOCK) == -1 ||
	    fd_flags(out.pipe[1], 0) == -1))
		broken("sim.c: no pipe");
}

/* Draws a life, and lives it. */
static void	 live(uint64_t) __dead;
static void
live(uint64_t seed)
{
	int64_t		 chaos = 0, begin;
	int		 i;

	world.seed = seed;
	world.random = (seed + 1) * 0x9e3779b97f4a7c15ULL;
	for (i = 0; i < 8; i++)
		(void)between(0, 1);
	world.us = 1000 * SEC;
	world.is_linux = chance(700);
	world.npid = MANAGER;
	world.self = manager_proc;
	manager_proc->being = LIVE;
	manager_proc->pid = MANAGER;
	for (i = 0; i < NFD; i++)
		manager_proc->fd[i].object = -1;
	boot();

	program_draw(chance(500));
	if (chance(100))
		world.places = (int)opt.min;
	life.hopeless = world.prog.no_exec || world.prog.exec_hangs >= 1000 ||
	    (world.prog.fails >= 1000 && world.prog.fail_time < 900);
	life.spoilt = life.hopeless || world.prog.exec_hangs ||
	    world.prog.fails || world.prog.life_time ||
	    world.prog.exec_time > 5000 || chance(100);
	chaos = spread(2 * SEC, 2000 * SEC);
	begin = life.spoilt ? 0 : 30 * SEC;
	world.gap = (int)spread(chaos / 2000 + MS, chaos / 2000 + 5 * SEC);
	world.burst = chance(300) ? (int)spread(1, 40) : 1;
	world.arrivals = 1;
	after(between(0, 2 * SEC), clients_come, 0);
	if (chance(700))
		after(begin + spread(MS, chaos), signal_comes, 0);
	if (chance(400))
		after(begin + spread(MS, chaos), shortage_comes, 1);
	if (chance(300))
		after(begin + spread(MS, chaos), freeze_comes, 0);
	if (chance(600))
		after(begin + spread(MS, chaos), program_changes, 0);
	if (chance(150))
		after(spread(MS, chaos), stop_comes, 0);
	if (chance(20))
		after(spread(MS, chaos), poll_breaks, 0);
	after(begin + chaos, world_mends, 0);
	after(begin + chaos + 60 * SEC, calm_comes, 0);

	loop_begin();
	life.blocks = memory_used();
	while (!ending.begun || pool.total > 0) {
		turn();
		check_turn();
	}
	finish();
}

/* Returns the number in a variable of the environment, or def. */
static uint64_t
number_of(const char *name, uint64_t def)
{
	const char	*s = getenv(name);

	return s == NULL || *s == '\0' ? def : strtoull(s, NULL, 10);
}

/*
 * Lives one life in a process of its own, which must end within a minute, and
 * adds it to the sum.
 */
static void
live_apart(uint64_t seed, struct outcome *sum)
{
	struct outcome	 o;
	pid_t		 pid;
	int		 fds[2], ws;

	fflush(stdout);
	if (pipe(fds) == -1 || (pid = fork()) == -1)
		err(1, "cannot begin a life");
	if (pid == 0) {
		result = fds[1];
		alarm(60);
		live(seed);
	}
	close(fds[1]);
	if (read(fds[0], &o, sizeof(o)) != sizeof(o)) {
		memset(&o, 0, sizeof(o));
		o.failed = 1;
	}
	close(fds[0]);
	if (waitpid(pid, &ws, 0) == -1)
		err(1, "waitpid");
	if (WIFSIGNALED(ws) || WEXITSTATUS(ws) > 1)
		printf("sim: seed %llu: its process ended with %d (repeat: "
		    "SEED=%llu make sim)\n", (unsigned long long)seed, ws,
		    (unsigned long long)seed);
	sum->us += o.us;
	sum->events += o.events;
	sum->hash = sum->hash * 31 + o.hash;
	sum->failed += o.failed;
}

int
main(void)
{
	struct outcome	 sum;
	struct timespec	 ts;
	uint64_t	 first, lives, n = 0;
	time_t		 end;

	if (number_of("SEED", 0) != 0) {
		world.show = 1;
		setlinebuf(stdout);
		live(number_of("SEED", 0));
	}
	memset(&sum, 0, sizeof(sum));
	lives = number_of("LIVES", 0);
	first = number_of("FIRST", (uint64_t)time(NULL) / 86400 * 1000000);
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	end = ts.tv_sec + 30;
	while ((lives > 0 ? n < lives : ts.tv_sec < end) &&
	    sum.failed < (int)number_of("BROKEN", 10)) {
		live_apart(first + n++, &sum);
		(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	}
	printf("sim: seeds %llu to %llu: %llu lives of %llu hours, %llu "
	    "events, %d broken (sum %016llx)\n", (unsigned long long)first,
	    (unsigned long long)(first + n - 1), (unsigned long long)n,
	    (unsigned long long)(sum.us / SEC / 3600),
	    (unsigned long long)sum.events, sum.failed,
	    (unsigned long long)sum.hash);
	return sum.failed > 0;
}
