/*
 * Preloaded into kfcgi: read(2) never says ECONNRESET but 0, an end-of-file.  So
 * it is on OpenBSD and others, where nobody learns from the control socket
 * whether a worker that died had read its last message.
 */

#define _GNU_SOURCE

#include <sys/types.h>
#include <sys/syscall.h>

#include <errno.h>
#include <unistd.h>

ssize_t
read(int fd, void *buf, size_t len)
{
	ssize_t	 n;

	n = syscall(SYS_read, fd, buf, len);
	return n == -1 && errno == ECONNRESET ? 0 : n;
}
