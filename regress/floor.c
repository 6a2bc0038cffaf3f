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
 * The floor under a variable pool, for bench: what accept4, sendmsg with a
 * descriptor, read, close and poll cost, and nothing else.  It must be no
 * model for anybody: it knows no jail and no user, sees no death, checks no
 * cookie and has no timer.
 *
 * It hands connections out at the least cost that poll(2) allows: only the
 * busy workers are polled, the listener only while nobody is known to wait, all
 * that are ready are handled before it polls again, and who has just become
 * idle gets what waits in the backlog without a poll in between.
 *
 * As kfcgi, it returns to the shell when all n workers are executed.  SIGTERM
 * ends it, and that its workers.
 */

#include "fcgi.h"

/* pfds[0] is the listener; from 1, workers: the busy, then the idle. */
static struct pollfd	*pfds;
static int		*conns;		/* what each has */
static int		 nbusy, nworkers;
static int		 listenfd;
static uint64_t		 handed;
static char		**prog;

/* Returns the listening socket, non-blocking. */
static int
listener(const char *path, int backlog)
{
	struct sockaddr_un sun;
	int		 fd;

	address(&sun, path);
	unlink(path);
	if ((fd = socket(AF_UNIX, SOCK_STREAM, 0)) == -1 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) == -1 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) == -1 ||
	    bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    listen(fd, backlog) == -1)
		err(1, "%s", path);
	return fd;
}

/* Starts a worker.  Returns 0 if it fails. */
static int
start(void)
{
	int	 ctl[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ctl) == -1)
		return 0;
	(void)fcntl(ctl[0], F_SETFD, FD_CLOEXEC);
	(void)fcntl(ctl[0], F_SETFL, O_NONBLOCK);
	(void)fcntl(ctl[1], F_SETFD, FD_CLOEXEC);
	switch (fork()) {
	case -1:
		return 0;
	case 0:
		if (dup2(ctl[1], 3) == -1)
			_exit(127);
		/* It may have been 3 already, and dup2(2) do nothing. */
		(void)fcntl(3, F_SETFD, 0);
		(void)setenv("FCGI_LISTENSOCK_DESCRIPTORS", "3", 1);
		execv(prog[0], prog);
		_exit(127);
	}
	close(ctl[1]);
	nworkers++;
	pfds[nworkers].fd = ctl[0];
	pfds[nworkers].events = POLLIN;
	return 1;
}

/* Takes the cookie of the busy worker in that slot, who is idle then. */
static void
answered(int i)
{
	struct pollfd	 pfd = pfds[i];
	unsigned char	 cookie[2 * sizeof(handed)];

	if (read(pfd.fd, cookie, sizeof(cookie)) != sizeof(handed))
		errx(1, "not a cookie");
	close(conns[i]);
	pfds[i] = pfds[nbusy];
	conns[i] = conns[nbusy];
	pfds[nbusy--] = pfd;
}

/* Hands out a connection, if there is one.  Returns whether there was. */
static int
hand_out(void)
{
	struct msghdr	 msg;
	struct cmsghdr	*cmsg;
	struct iovec	 iov;
	union {
		struct cmsghdr	 hdr;
		unsigned char	 buf[CMSG_SPACE(sizeof(int))];
	} control;
	int		 conn;

	if ((conn = accept4(listenfd, NULL, NULL, SOCK_CLOEXEC)) == -1) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			err(1, "accept4");
		return 0;
	}
	handed++;
	memset(&msg, 0, sizeof(msg));
	memset(&control, 0, sizeof(control));
	iov.iov_base = &handed;
	iov.iov_len = sizeof(handed);
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control.buf;
	msg.msg_controllen = sizeof(control.buf);
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(cmsg), &conn, sizeof(conn));
	nbusy++;
	if (sendmsg(pfds[nbusy].fd, &msg, 0) != sizeof(handed))
		err(1, "sendmsg");
	conns[nbusy] = conn;
	return 1;
}

/*
 * Returns whether another connection waits: on Linux an accept4(2) in vain
 * costs 3 us, this 0.2.
 */
static int
another(void)
{
	struct pollfd	 pfd;

	pfd.fd = listenfd;
	pfd.events = POLLIN;
	return poll(&pfd, 1, 0) == 1;
}

static void __dead
loop(void)
{
	int		 i, n, saturated = 0, waiting;

	for (;;) {
		pfds[0].fd = saturated ? -1 : listenfd;
		if ((n = poll(pfds, nbusy + 1, -1)) == -1)
			err(1, "poll");
		waiting = saturated || pfds[0].revents;
		n -= pfds[0].revents != 0;
		/* Downwards: who has answered changes places with the last. */
		for (i = nbusy; n > 0; i--)
			if (pfds[i].revents) {
				answered(i);
				n--;
			}
		while (waiting && nbusy < nworkers)
			if (!hand_out())
				waiting = saturated = 0;
			else if (!saturated)
				waiting = another();
		if (waiting)
			saturated = 1;
	}
}

static void __dead
usage(void)
{
	fprintf(stderr, "usage: floor [-l backlog] [-n workers] -s sockpath"
	    " prog [arg ...]\n");
	exit(1);
}

int
main(int argc, char *argv[])
{
	const char	*path = NULL;
	char		 c;
	int		 ch, backlog = 128, n = 1, p[2];

	while ((ch = getopt(argc, argv, "+l:n:s:")) != -1)
		switch (ch) {
		case 'l':
			backlog = number(ch, 1, 100000);
			break;
		case 'n':
			n = number(ch, 1, 100000);
			break;
		case 's':
			path = optarg;
			break;
		default:
			usage();
		}
	argc -= optind;
	argv += optind;
	if (path == NULL || argc == 0)
		usage();
	prog = argv;
	descriptors(2 * (rlim_t)n + 32);
	if ((pfds = calloc(n + 1, sizeof(*pfds))) == NULL ||
	    (conns = calloc(n + 1, sizeof(*conns))) == NULL)
		err(1, NULL);
	listenfd = listener(path, backlog);
	pfds[0].events = POLLIN;

	/* All have that pipe until they are executed: then it is at its end. */
	if (pipe(p) == -1 || fcntl(p[1], F_SETFD, FD_CLOEXEC) == -1)
		err(1, "pipe");
	switch (fork()) {
	case -1:
		err(1, "fork");
	case 0:
		break;
	default:
		close(p[1]);
		_exit(read(p[0], &c, 1) == 0 ? 0 : 1);
	}
	close(p[0]);
	if (setsid() == -1)
		err(1, "setsid");
	alarm(5 * LIFETIME);	/* whatever happens */
	while (nworkers < n)
		if (!start()) {
			if (write(p[1], "", 1) == -1)
				err(1, "write");
			errx(1, "%s: cannot start %d", prog[0], n);
		}
	close(p[1]);
	loop();
}
