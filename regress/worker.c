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
 * With -3 it is three processes, as kcgi(3) programs are.  The leader, which
 * was exec'd, is the only one to heed SIGTERM.  The delegator holds the control
 * or the listening socket; it also answers.  The third one is only there.
 *
 * It is linked statically and runs in an empty jail: no files are needed.
 */

#include "fcgi.h"

#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <dirent.h>

#define TICK		 20000		/* microseconds, see live() */
#define RECYCLED	 77		/* -3: delegator's status for -x, -y */
#define MAXFDS		 1024		/* as far as we look */
#define MAXGROUPS	 1024		/* NGROUPS_MAX is not the kernel's */

/* The options and the state of this process. */
static struct {
	int		 ctl;		/* control socket; -1: FastCGI 1.0 */
	int		 grace;		/* -g */
	int		 three;		/* -3 */
	long		 maxreq;	/* -x, -y; 0: any number */
	int		 before;	/* -y: exit before the cookie */
	long		 served;
	int64_t		 deadline;	/* -A */
	pid_t		 leader;
	int		 life;		/* -3: end-of-file: no leader */
	uint8_t		 cookie[8];
	char		*facts;		/* what we found at start */
	size_t		 nfacts;
} w = { .life = -1 };

static volatile sig_atomic_t got_term;

/* The connection that is served. */
static struct {
	int		 fd;
	int		 failed;	/* client went away or sent rubbish */
	size_t		 inpos, inlen;
	size_t		 outlen;
	uint8_t		 in[16384];
	uint8_t		 out[65536];
} conn;

/* What is to be done after the answer, by directives. */
static struct {
	char		 cookie[16];	/* directive cookie */
	long		 ms;		/* its milliseconds */
	int		 unasked;
	int		 closectl;
} after;

struct req {
	int		 id;		/* 0: not begun */
	int		 echo;
	int		 report;
	int		 half;
	long		 body;		/* directive body, or -1 */
	unsigned long	 inbytes;	/* of FCGI_STDIN */
	uint32_t	 insum;
	char		 method[32];
	char		 uri[4096];
	char		 query[16384];
};

extern char		**environ;

/*
 * Sleeps to the end, whatever signal comes meanwhile.  The end is a point in
 * time: where a tick of the system is 10 ms, what nanosleep(2) says is left
 * need not get less between two ticks of ours.
 */
static void
msleep(long ms)
{
	struct timespec	 ts;
	int64_t		 end = now() + (int64_t)ms * 1000, left;

	while ((left = end - now()) > 0) {
		ts.tv_sec = left / 1000000;
		ts.tv_nsec = left % 1000000 * 1000;
		(void)nanosleep(&ts, NULL);
	}
}

/* Writes all of it.  Returns 0, or -1 with errno. */
static int
write_all(int fd, const void *data, size_t len)
{
	const char	*p = data;
	ssize_t		 n;

	while (len > 0) {
		if ((n = write(fd, p, len)) == -1) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		p += n;
		len -= n;
	}
	return 0;
}

/*
 * Writes a line in one write(2), so that lines of two workers do not mix.
 * Nobody is told if it fails.
 */
static void
say(int fd, const char *text)
{
	char	 line[20000];
	int	 n;

	n = snprintf(line, sizeof(line), "%s\n", text);
	(void)write_all(fd, line, n < (int)sizeof(line) ? n : 0);
}

/* Says "what 0", "what 1" and so on, n lines on standard error. */
static void
say_lines(const char *what, long n)
{
	char	 line[64];
	long	 i;

	for (i = 0; i < n; i++) {
		snprintf(line, sizeof(line), "%s %ld", what, i);
		say(STDERR_FILENO, line);
	}
}

/* Ends this process by a signal: that is what we want, not the core. */
static void
die(int sig)
{
	struct rlimit	 rl = { 0, 0 };

	(void)setrlimit(RLIMIT_CORE, &rl);
	signal(sig, SIG_DFL);
	raise(sig);
}

/*
 * ---------- Life and death
 */

/* Without SA_RESTART, so that whatever blocks comes back. */
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

/* A tick: at the end of our life it kills. */
static void
on_alarm(int sig)
{
	if (now() >= w.deadline) {
		signal(sig, SIG_DFL);
		raise(sig);	/* blocked now, deadly when we return */
	}
}

/* With -g and -3: see stopped(). */
static void
on_term(int sig)
{
	got_term = sig;
}

/*
 * Starts the timer of this process: nothing that a test starts may live for
 * ever, whatever mask it inherits.
 *
 * With -g and -3 the timer ticks.  When we are told to end just before a call
 * that waits, stopped() has been asked too early.  Then a tick interrupts the
 * call, and stopped() is asked again.
 */
static void
live(void)
{
	struct itimerval	 it;
	sigset_t		 set;

	catch(SIGALRM, on_alarm);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	memset(&it, 0, sizeof(it));
	it.it_interval.tv_usec = it.it_value.tv_usec = TICK;
	if (!w.grace && !w.three)
		it.it_value.tv_sec = (w.deadline - now()) / 1000000;
	if (setitimer(ITIMER_REAL, &it, NULL) == -1)
		err(1, "setitimer");
}

/*
 * Returns whether to end when idle: because of SIGTERM with -g, because there
 * is no leader any more in a sibling.  Otherwise SIGTERM kills, or is ignored.
 */
static int
stopped(void)
{
	struct pollfd	 pfd;

	if (w.life == -1)
		return got_term;
	pfd.fd = w.life;
	pfd.events = POLLIN;
	return poll(&pfd, 1, 0) == 1;
}

/*
 * Makes this process the leader of two siblings, and returns in the delegator,
 * which goes on like a worker of one process.
 *
 * The leader waits for SIGTERM or a sibling's failure.  A sibling that ends
 * well is no reason to go.  On SIGTERM the leader ends at once and the siblings
 * follow by themselves; with -g it waits for them.
 */
static void
three(void)
{
	char	 byte;
	int	 i, status, life[2];

	if (pipe(life) == -1)
		err(1, "pipe");
	for (i = 0; i < 2; i++)
		switch (fork()) {
		case -1:
			err(1, "fork");
		case 0:
			signal(SIGTERM, SIG_IGN);
			live();		/* timers are not inherited */
			close(life[1]);
			w.life = life[0];
			if (i == 0)
				return;
			close(w.ctl != -1 ? w.ctl : STDIN_FILENO);
			while (read(w.life, &byte, 1) == -1)
				continue;
			exit(0);
		}
	close(life[0]);
	close(w.ctl != -1 ? w.ctl : STDIN_FILENO);
	while (!got_term) {
		if (waitpid(-1, &status, 0) == -1)
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status) == RECYCLED)
			exit(0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			exit(1);
	}
	close(life[1]);
	while (w.grace && (waitpid(-1, &status, 0) > 0 || errno == EINTR))
		continue;
	exit(0);
}

/*
 * ---------- What is told by the directive report: mostly as found at start
 */

/* Returns what a descriptor is. */
static const char *
fd_type(int fd)
{
	struct pollfd	 pfd;
	struct stat	 st;
	socklen_t	 len = sizeof(int);
	int		 listens = 0;
	char		 byte;

	if (fstat(fd, &st) == -1)
		return "unknown";
	if (S_ISSOCK(st.st_mode))
		return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens,
		    &len) == 0 && listens ? "sock-listen" : "sock";
	if (S_ISFIFO(st.st_mode))
		return "pipe";
	if (S_ISREG(st.st_mode))
		return "file";
	/* There is no /dev/null in the jail to compare with. */
	pfd.fd = fd;
	pfd.events = POLLIN;
	return S_ISCHR(st.st_mode) && !isatty(fd) && poll(&pfd, 1, 0) == 1 &&
	    read(fd, &byte, 1) == 0 ? "null" : "unknown";
}

/* Tells the users and groups. */
static void
facts_ids(FILE *f)
{
	uid_t	 ru, eu, su;
	gid_t	 rg, eg, sg, groups[MAXGROUPS];
	int	 i, n;

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
	fprintf(f, "uid %u %u %u\ngid %u %u %u\ngroups", (unsigned)ru,
	    (unsigned)eu, (unsigned)su, (unsigned)rg, (unsigned)eg,
	    (unsigned)sg);
	if ((n = getgroups(MAXGROUPS, groups)) == -1)
		err(1, "getgroups");
	for (i = 0; i < n; i++)
		fprintf(f, " %u", (unsigned)groups[i]);
	fprintf(f, "%s\n", n == 0 ? " none" : "");
}

/* Tells which signals are blocked, and which ignored. */
static void
facts_signals(FILE *f)
{
	struct sigaction	 sa;
	sigset_t		 mask;
	int			 i, n;

	sigemptyset(&mask);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	fprintf(f, "mask");
	for (i = 1, n = 0; i < NSIG; i++)
		if (sigismember(&mask, i) == 1)
			n += fprintf(f, " %d", i);
	fprintf(f, "%s\nignored", n == 0 ? " none" : "");
	for (i = 1, n = 0; i < NSIG; i++)
		if (sigaction(i, NULL, &sa) == 0 && sa.sa_handler != SIG_DFL)
			n += fprintf(f, " %d", i);
	fprintf(f, "%s\n", n == 0 ? " none" : "");
}

/* Records it, before anything is changed or opened. */
static void
facts_record(char *argv[])
{
	struct rlimit	 rl;
	char		 path[PATH_MAX];
	FILE		*f;
	int		 i, flags[MAXFDS];

	for (i = 0; i < MAXFDS; i++)
		flags[i] = fcntl(i, F_GETFL);
	if ((f = open_memstream(&w.facts, &w.nfacts)) == NULL)
		err(1, "open_memstream");
	fprintf(f, "pid %d\npgid %d\nsid %d\n", (int)getpid(), (int)getpgrp(),
	    (int)getsid(0));
	facts_ids(f);
	facts_signals(f);
	fprintf(f, "proto %s\nfds", w.ctl != -1 ? "ext" : "1.0");
	for (i = 0; i < MAXFDS; i++)
		if (flags[i] != -1)
			fprintf(f, " %d", i);
	fprintf(f, "\n");
	for (i = 0; i < MAXFDS; i++)
		if (flags[i] != -1)
			fprintf(f, "fd %d %s %s\n", i, fd_type(i), flags[i] &
			    O_NONBLOCK ? "nonblocking" : "blocking");
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		fprintf(f, "nofile %lld %lld\n", (long long)rl.rlim_cur,
		    (long long)rl.rlim_max);
	if (getcwd(path, sizeof(path)) != NULL)
		fprintf(f, "cwd %s\n", path);
	for (i = 0; environ[i] != NULL; i++)
		fprintf(f, "env %s\n", environ[i]);
	for (i = 0; argv[i] != NULL; i++)
		fprintf(f, "arg %d %s\n", i, argv[i]);
	if (fclose(f) == EOF)
		err(1, "open_memstream");
}

/* Tells what is in the root directory, for which it opens a descriptor. */
static int
facts_root(char *to, size_t size)
{
	struct dirent	*de;
	DIR		*dir;
	size_t		 len;

	if ((dir = opendir("/")) == NULL)
		return 0;
	len = strlcpy(to, "root-entries", size);
	while ((de = readdir(dir)) != NULL)
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0 &&
		    len + strlen(de->d_name) + 3 < size)
			len += snprintf(to + len, size - len, " %s",
			    de->d_name);
	closedir(dir);
	return len + snprintf(to + len, size - len, "\n");
}

/*
 * ---------- A connection: bytes and records
 */

/* Reads all of len.  Returns 0 if the connection ends before that. */
static int
get(void *data, size_t len)
{
	char	*p = data;
	size_t	 n;
	ssize_t	 rv;

	while (len > 0) {
		if (conn.inpos == conn.inlen) {
			rv = read(conn.fd, conn.in, sizeof(conn.in));
			if (rv == -1 && errno == EINTR)
				continue;
			if (rv <= 0)
				return 0;
			conn.inpos = 0;
			conn.inlen = rv;
		}
		n = conn.inlen - conn.inpos < len ? conn.inlen - conn.inpos :
		    len;
		memcpy(p, conn.in + conn.inpos, n);
		conn.inpos += n;
		p += n;
		len -= n;
	}
	return 1;
}

/* Sends what has been gathered. */
static void
flush(void)
{
	if (!conn.failed && write_all(conn.fd, conn.out, conn.outlen) == -1)
		conn.failed = 1;
	conn.outlen = 0;
}

/* Gathers it, to be sent in few calls; len is far less than there is room. */
static void
put(const void *data, size_t len)
{
	if (len > sizeof(conn.out) - conn.outlen)
		flush();
	memcpy(conn.out + conn.outlen, data, len);
	conn.outlen += len;
}

/* Puts a record of at most CHUNK bytes. */
static void
put_record(int type, int id, const void *data, size_t len)
{
	uint8_t	 h[HEADER];

	header(h, type, id, len);
	put(h, sizeof(h));
	put(data, len);
}

/*
 * ---------- A request
 */

/* Keeps a parameter's value if it is called name, cut off if it is too long. */
static void
req_param(const char *name, const uint8_t *p, const size_t len[2], char *to,
    size_t size)
{
	size_t	 n = len[1] < size ? len[1] : size - 1;

	if (strlen(name) != len[0] || memcmp(name, p, len[0]) != 0)
		return;
	memcpy(to, p + len[0], n);
	to[n] = '\0';
}

/* Takes the parameters apart.  Returns 0 if they are not well-formed. */
static int
req_params(struct req *r, const uint8_t *p, size_t left)
{
	size_t	 len[2];
	int	 i;

	while (left > 0) {
		for (i = 0; i < 2; i++) {
			if (left < 1 || ((*p & 0x80) && left < 4))
				return 0;
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
			return 0;
		req_param("REQUEST_METHOD", p, len, r->method,
		    sizeof(r->method));
		req_param("REQUEST_URI", p, len, r->uri, sizeof(r->uri));
		req_param("QUERY_STRING", p, len, r->query, sizeof(r->query));
		p += len[0] + len[1];
		left -= len[0] + len[1];
	}
	return 1;
}

/*
 * Reads a request; the input is counted and summed up, not stored.  Returns 0
 * if there is none, or none that is any good.
 */
static int
req_read(struct req *r)
{
	static uint8_t	 content[65535 + 255], params[1024 * 1024];
	uint8_t		 h[HEADER];
	size_t		 len, nparams = 0;

	memset(r, 0, sizeof(*r));
	r->body = -1;
	r->insum = FNV1A_START;
	for (;;) {
		if (!get(h, sizeof(h)) || h[0] != 1)
			return 0;
		len = h[4] << 8 | h[5];
		if (!get(content, len + h[6]))
			return 0;
		if (h[1] == FCGI_BEGIN_REQUEST) {
			r->id = h[2] << 8 | h[3];
		} else if (r->id == 0) {
			return 0;
		} else if (h[1] == FCGI_PARAMS) {
			if (len > sizeof(params) - nparams)
				return 0;
			memcpy(params + nparams, content, len);
			nparams += len;
		} else if (h[1] == FCGI_STDIN && len > 0) {
			r->insum = fnv1a(r->insum, content, len);
			r->inbytes += len;
		} else if (h[1] == FCGI_STDIN || h[1] == FCGI_ABORT_REQUEST)
			return req_params(r, params, nparams);
	}
}

/* Writes to the control socket; whom nobody hears ends, as on end-of-file. */
static void
ctl_write(const void *data, size_t len)
{
	if (write_all(w.ctl, data, len) == 0)
		return;
	if (errno == EPIPE || errno == ECONNRESET)
		exit(0);
	err(1, "control socket");
}

/* Writes the cookie, with -r, in the way that was asked for. */
static void
ack(void)
{
	const size_t	 half = sizeof(w.cookie) / 2;
	const char	*how = after.cookie;

	if (w.ctl == -1 || strcmp(how, "none") == 0)
		return;
	if (strcmp(how, "split") == 0 || strcmp(how, "short") == 0) {
		ctl_write(w.cookie, half);
		if (strcmp(how, "short") == 0)
			return;
		msleep(after.ms);
		ctl_write(w.cookie + half, half);
		return;
	}
	if (strcmp(how, "late") == 0)
		msleep(after.ms);
	if (strcmp(how, "wrong") == 0)
		w.cookie[sizeof(w.cookie) - 1] ^= 1;
	ctl_write(w.cookie, sizeof(w.cookie));
	if (strcmp(how, "twice") == 0)
		ctl_write(w.cookie, sizeof(w.cookie));
}

/* errlong=N: one line of so many letters on standard error. */
static void
say_long(long n)
{
	char	 line[16384];
	long	 i;

	if (n >= (long)sizeof(line))
		n = sizeof(line) - 1;
	for (i = 0; i < n; i++)
		line[i] = 'a' + i % 26;
	line[i] = '\0';
	say(STDERR_FILENO, line);
}

/*
 * Does a directive.  What concerns the answer or what comes after it is only
 * noted.  Others' query strings are none of our business.
 */
static void
directive(struct req *r, const char *name, char *arg)
{
	char	 who[32];
	long	 n = atol(arg);

	if (strcmp(name, "slow") == 0) {		/* milliseconds */
		msleep(n);
	} else if (strcmp(name, "hang") == 0) {
		for (;;)
			pause();
	} else if (strcmp(name, "crash") == 0) {
		die(SIGSEGV);
	} else if (strcmp(name, "kill") == 0) {		/* a signal */
		die(n);
	} else if (strcmp(name, "exit") == 0) {		/* a status */
		exit(w.three ? 1 : n);	/* else the leader would stay */
	} else if (strcmp(name, "stop") == 0) {
		raise(SIGSTOP);
	} else if (strcmp(name, "body") == 0) {		/* bytes */
		r->body = n;
	} else if (strcmp(name, "echo") == 0) {
		r->echo = 1;
	} else if (strcmp(name, "report") == 0) {
		r->report = 1;
	} else if (strcmp(name, "half") == 0) {		/* SIGKILL after it */
		r->half = 1;
	} else if (strcmp(name, "cookie") == 0) {	/* how[:ms] */
		if (strchr(arg, ':') != NULL)
			after.ms = atol(strchr(arg, ':') + 1);
		arg[strcspn(arg, ":")] = '\0';
		(void)strlcpy(after.cookie, arg, sizeof(after.cookie));
	} else if (strcmp(name, "unasked") == 0) {	/* junk when idle */
		after.unasked = 1;
	} else if (strcmp(name, "closectl") == 0) {	/* and live on */
		after.closectl = 1;
	} else if (strcmp(name, "err") == 0) {		/* lines */
		snprintf(who, sizeof(who), "err %d", (int)w.leader);
		say_lines(who, n);
	} else if (strcmp(name, "errlong") == 0) {	/* bytes */
		say_long(n);
	} else if (strcmp(name, "flood") == 0) {	/* lines */
		say_lines("flood", n);
	} else if (strcmp(name, "out") == 0) {		/* a word */
		say(STDOUT_FILENO, arg);
	}
}

/* Does the directives in the order of the query string. */
static void
directives(struct req *r)
{
	static char	 none[1];
	char		*arg, *next, *p;

	for (p = r->query; p != NULL; p = next) {
		if ((next = strchr(p, '&')) != NULL)
			*next++ = '\0';
		if ((arg = strchr(p, '=')) != NULL)
			*arg++ = '\0';
		directive(r, p, arg != NULL ? arg : none);
	}
}

/* body=N: so many bytes. */
static void
req_body(const struct req *r)
{
	char	 data[CHUNK];
	long	 left, n;

	memset(data, 'a', sizeof(data));
	for (left = r->body; left > 0 && !conn.failed; left -= n) {
		n = left < CHUNK ? left : CHUNK;
		put_record(FCGI_STDOUT, r->id, data, n);
	}
}

/* Does what the query says and answers.  conn.failed tells if that failed. */
static void
req_answer(struct req *r)
{
	char		 text[8192];
	uint8_t		 h[HEADER];
	size_t		 n, pos;
	int		 len;

	directives(r);
	if (strcmp(after.cookie, "early") == 0) {
		ack();
		(void)strlcpy(after.cookie, "none", sizeof(after.cookie));
	}
	len = snprintf(text, sizeof(text),
	    "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n");
	if (r->report)
		len += facts_root(text + len, sizeof(text) - len);
	else if (r->body == -1)
		len += snprintf(text + len, sizeof(text) - len,
		    "pid %d uid %d served %ld\n%s %s\n", (int)w.leader,
		    (int)getuid(), w.served, r->method, r->uri);
	if (r->echo)
		len += snprintf(text + len, sizeof(text) - len,
		    "stdin %lu %08x\n", r->inbytes, (unsigned)r->insum);
	if (r->half) {
		header(h, FCGI_STDOUT, r->id, len);
		put(h, sizeof(h));
		put(text, len / 2);
		flush();
		die(SIGKILL);
	}
	put_record(FCGI_STDOUT, r->id, text, len);
	for (pos = 0; r->report && pos < w.nfacts; pos += n) {
		n = w.nfacts - pos < CHUNK ? w.nfacts - pos : CHUNK;
		put_record(FCGI_STDOUT, r->id, w.facts + pos, n);
	}
	req_body(r);
	put_record(FCGI_STDOUT, r->id, "", 0);
	put_record(FCGI_END_REQUEST, r->id, "\0\0\0\0\0\0\0", 8);
	flush();
}

/*
 * ---------- The worker: how it gets its connections, and what comes after each
 */

/* Returns the control socket, -1 if there is none: FastCGI 1.0. */
static int
ctl_env(void)
{
	const char	*errstr, *value;
	int		 fd;

	if ((value = getenv("FCGI_LISTENSOCK_DESCRIPTORS")) == NULL)
		return -1;
	fd = strtonum(value, 0, INT_MAX, &errstr);
	return errstr == NULL ? fd : -1;
}

/* Returns the next connection of the listening socket, -1 to end. */
static int
next_listened(void)
{
	struct pollfd	 pfd;
	int		 fd;

	pfd.fd = STDIN_FILENO;
	pfd.events = POLLIN;
	while (!stopped()) {
		if ((fd = accept(STDIN_FILENO, NULL, NULL)) != -1)
			return fd;
		/* Another program made it non-blocking. */
		if (errno == EAGAIN)
			(void)poll(&pfd, 1, -1);
		else if (errno != EINTR && errno != ECONNABORTED)
			err(1, "accept");
	}
	return -1;
}

/* Returns the next connection of the control socket, -1 to end. */
static int
next_handed(void)
{
	union {
		struct cmsghdr	 hdr;
		char		 buf[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct msghdr	 msg;
	struct cmsghdr	*cmsg;
	struct iovec	 iov;
	ssize_t		 n;
	int		 fd;

	do {
		if (stopped())
			return -1;
		memset(&msg, 0, sizeof(msg));
		iov.iov_base = w.cookie;
		iov.iov_len = sizeof(w.cookie);
		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		n = recvmsg(w.ctl, &msg, 0);
	} while (n == -1 && errno == EINTR);
	if (n == 0 || (n == -1 && errno == ECONNRESET))
		return -1;
	if (n == -1)
		err(1, "recvmsg");
	cmsg = CMSG_FIRSTHDR(&msg);
	if (n != sizeof(w.cookie) || (msg.msg_flags & MSG_CTRUNC) ||
	    cmsg == NULL || cmsg->cmsg_level != SOL_SOCKET ||
	    cmsg->cmsg_type != SCM_RIGHTS ||
	    cmsg->cmsg_len != CMSG_LEN(sizeof(fd)))
		errx(1, "not a cookie with one descriptor");
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/*
 * Serves a connection, of one request.  The cookie is written before the
 * descriptor is closed, as kcgi(3) does it.
 */
static void
serve(int fd)
{
	static struct req	 r;
	int			 last = 0, status = w.three ? RECYCLED : 0;

	memset(&after, 0, sizeof(after));
	conn.fd = fd;
	conn.failed = 1;	/* unless there is a request */
	conn.inpos = conn.inlen = conn.outlen = 0;
	if (req_read(&r)) {
		conn.failed = 0;
		w.served++;
		req_answer(&r);
		last = w.served == w.maxreq;
	}
	if (w.three && conn.failed)
		errx(1, "client hung up");
	if (last && w.before)
		exit(status);
	ack();
	close(fd);
	if (last)
		exit(status);
	if (w.ctl == -1)
		return;
	if (after.unasked) {
		msleep(50);
		ctl_write("UNASKED!", 8);
	}
	if (after.closectl) {
		close(w.ctl);
		while (!stopped())
			pause();
		exit(0);
	}
}

static void __dead
usage(void)
{
	fprintf(stderr, "usage: worker [-3gt] [-A secs] [-b ms] [-E status]"
	    " [-e text] [-S signal]\n\t[-s ms] [-x n | -y n] [arg ...]\n");
	exit(1);
}

int
main(int argc, char *argv[])
{
	const char	*words = NULL;
	long		 lifetime = LIFETIME, brokenms = -1, sleepms = 0;
	int		 ch, deaf = 0, fd, sig = 0, status = -1;

	w.ctl = ctl_env();
	w.leader = getpid();
	facts_record(argv);
	/* The plus sign is for glibc: no options behind the operands. */
	while ((ch = getopt(argc, argv, "+3A:b:E:e:gS:s:tx:y:")) != -1)
		switch (ch) {
		case '3':
			w.three = 1;
			break;
		case 'A':	/* seconds to live */
			lifetime = number(ch, 1, 1000000);
			break;
		case 'b':	/* end after that if /broken exists */
			brokenms = number(ch, 0, 1000000);
			break;
		case 'E':	/* end at once */
			status = number(ch, 0, 255);
			break;
		case 'e':	/* words for standard error */
			words = optarg;
			break;
		case 'g':	/* upon SIGTERM finish the request */
			w.grace = 1;
			break;
		case 'S':	/* end by that signal */
			sig = number(ch, 1, NSIG);
			break;
		case 's':	/* sleep before that */
			sleepms = number(ch, 0, 1000000);
			break;
		case 't':	/* ignore SIGTERM */
			deaf = 1;
			break;
		case 'y':	/* end after so many requests, no cookie */
			w.before = 1;
			/* FALLTHROUGH */
		case 'x':	/* or after the cookie */
			w.maxreq = number(ch, 1, LONG_MAX);
			break;
		default:
			usage();
		}

	w.deadline = now() + lifetime * 1000000;
	live();
	signal(SIGPIPE, SIG_IGN);
	if (deaf)
		signal(SIGTERM, SIG_IGN);
	else if (w.grace || w.three)
		catch(SIGTERM, on_term);
	if (words != NULL)
		say(STDERR_FILENO, words);
	if (status != -1)
		exit(status);
	if (brokenms != -1 && access("/broken", F_OK) == 0) {
		msleep(brokenms);
		exit(3);
	}
	msleep(sleepms);
	if (sig != 0)
		die(sig);
	if (w.three)
		three();
	while ((fd = w.ctl != -1 ? next_handed() : next_listened()) != -1)
		serve(fd);
	return 0;
}
