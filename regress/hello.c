/* hello.c: a FastCGI worker for both pools of kfcgi(8). */
#include <sys/socket.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void	/* a record: 6 is FCGI_STDOUT, 3 is FCGI_END_REQUEST */
put(int fd, int type, const unsigned char *req, const char *s, size_t n)
{
	unsigned char h[8] = { 1, type, req[2], req[3], n >> 8, n, 0, 0 };

	send(fd, h, sizeof(h), 0);
	send(fd, s, n, 0);
}

static int	/* -r: the next connection, with its cookie; -1 at the end */
take(int ctl, char *cookie)
{
	union { struct cmsghdr hdr; char buf[CMSG_SPACE(sizeof(int))]; } c;
	struct iovec iov = { .iov_base = cookie, .iov_len = 8 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1,
	    .msg_control = c.buf, .msg_controllen = sizeof(c.buf) };
	int fd = -1;

	if (recvmsg(ctl, &msg, MSG_WAITALL) == 8 && CMSG_FIRSTHDR(&msg) != NULL)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

int
main(void)
{
	static unsigned char h[8], rest[65535 + 255];
	const char *env = getenv("FCGI_LISTENSOCK_DESCRIPTORS");
	int fd, ctl = env == NULL ? 0 : atoi(env);	/* 0: FastCGI 1.0 */
	char cookie[8], page[80];
	size_t len;
	FILE *in;

	signal(SIGPIPE, SIG_IGN);
	while ((fd = ctl > 0 ? take(ctl, cookie) : accept(0, NULL, NULL)) != -1) {
		if ((in = fdopen(fd, "r")) == NULL)
			return 1;
		while (fread(h, sizeof(h), 1, in) == 1) {
			len = (size_t)h[4] << 8 | h[5];
			if (fread(rest, 1, len + h[6], in) != len + h[6])
				break;
			if (h[1] != 5 || len > 0)
				continue;	/* until the empty FCGI_STDIN */
			len = snprintf(page, sizeof(page), "Content-Type: text/plain"
			    "\r\n\r\nHello from worker %ld\n", (long)getpid());
			put(fd, 6, h, page, len);
			put(fd, 6, h, "", 0);
			put(fd, 3, h, "\0\0\0\0\0\0\0", 8);
			break;
		}
		fclose(in);
		if (ctl > 0)
			send(ctl, cookie, sizeof(cookie), 0);	/* done */
	}
	return ctl > 0 ? 0 : 1;
}
