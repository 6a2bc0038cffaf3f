# A /dev/log of our own, for the tests that source this instead of lib.sh: in a
# private mount namespace; and in a private network namespace, too, because
# that has its own limit of datagrams waiting in a socket.  $ALSO_PRIVATE are
# further options for unshare(1).  Where there is none of that, on /dev/log if it
# is free.
if [ -z "${DEVLOG_ALONE:-}" ] && unshare -mn sh -c \
    'mount -t tmpfs tmpfs /mnt && mount --bind /dev/null /dev/null' \
    2>/dev/null; then
	DEVLOG_ALONE=1 exec unshare -mn ${ALSO_PRIVATE:-} sh "$0" "$@"
fi
. ./lib.sh

SYSLOG=$T/syslog	# what syslogd has read
SYSLOGD=

if [ -n "${DEVLOG_ALONE:-}" ]; then
	mkdir "$T/dev" || exit 1
	mount -t tmpfs -o mode=755 tmpfs "$T/dev" || exit 1
	for f in null zero full random urandom tty; do
		: >"$T/dev/$f"
		mount --bind "/dev/$f" "$T/dev/$f" || exit 1
	done
	ln -s /proc/self/fd "$T/dev/fd"
	mount --rbind "$T/dev" /dev || exit 1
	umount -l "$T/dev"
elif [ -e /dev/log ] || [ "$(uname -s)" != Linux ]; then
	skip_all "needs a /dev/log of its own: no unshare(1)"
fi

# syslogd_start [places [command...]]: how many messages may wait, if we can have
# a say, and what is to read them instead of ours
syslogd_start() {
	[ -n "${DEVLOG_ALONE:-}" ] &&
	    echo "${1:-512}" >/proc/sys/net/unix/max_dgram_qlen
	rm -f /dev/log
	: >>"$SYSLOG"
	shift $(($# > 0))
	[ $# -gt 0 ] || set -- perl "$REGRESS/syslogd" /dev/log "$SYSLOG"
	"$@" &
	SYSLOGD=$!
	also_kill "$SYSLOGD"
	waitfor 10 test -S /dev/log || exit 1
}

syslogd_stop() {
	[ -n "$SYSLOGD" ] || return 0
	kill -CONT "$SYSLOGD"
	kill -TERM "$SYSLOGD"
	waitfor 10 dead "$SYSLOGD" || kill -KILL "$SYSLOGD"
	wait "$SYSLOGD" 2>/dev/null
	SYSLOGD=
	rm -f /dev/log
}
trap 'syslogd_stop; cleanup' EXIT
trap 'syslogd_stop; cleanup; exit 1' INT TERM HUP
