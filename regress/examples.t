#!/bin/sh
# The command lines of README and manual, run as they stand there: in a mount
# namespace in which the directories they write to are empty, and a network
# namespace in which their ports are free.  rc.d, httpd.conf, nginx and systemd
# of the manual are rcd.t's, HAProxy of the README is balance.t's.
. ./devlog.sh
. ./peers.sh
trap 'stop_pools; syslogd_stop; end_peers; cleanup' EXIT
trap 'stop_pools; syslogd_stop; end_peers; cleanup; exit 1' INT TERM HUP

[ -n "${DEVLOG_ALONE:-}" ] || skip_all "needs unshare(1)"
need nginx curl ip service pgrep
MAN=$REGRESS/../kfcgi.8

# A system as it is when one begins: nothing there yet, kfcgi in the path.
ip link set lo up
for d in /srv /run /var/www /var/log/nginx; do
	mkdir -p "$d" && mount -t tmpfs -o mode=755 tmpfs "$d" || exit 1
done
mkdir -p /var/www/bin /var/www/run "$T/path" "$T/tree"
cp -R /etc/nginx "$T/etc-nginx" && mount --bind "$T/etc-nginx" /etc/nginx
# What another test or a person may have left there.
rm -f /etc/nginx/conf.d/*
for f in passwd group; do
	grep -v '^www:' /etc/$f >"$T/$f"
done
echo 'www:x:67:67:HTTP Server:/var/www:/sbin/nologin' >>"$T/passwd"
echo 'www:x:67:' >>"$T/group"
mount --bind "$T/passwd" /etc/passwd
mount --bind "$T/group" /etc/group
ln -s "$KFCGI" "$T/path/kfcgi"
PATH=$T/path:$PATH
KFCGI=kfcgi		# its command line from now on
cp "$REGRESS/../README.md" "$T/tree"
cd "$T/tree" || exit 1

HTTPD=/var/www/run/httpd.sock
HELLO=/run/hello.sock

stop_pools() {
	service nginx stop >/dev/null 2>&1
	for s in "-s $HELLO " ' -u www -U www '; do
		PID=$(pgrep -of "^kfcgi .*$s")
		[ -z "$PID" ] || end_manager
	done
	PID=
}

# found pattern: $PID is the manager with that in its command line
found() {
	PID=$(pgrep -of "^kfcgi .*$1")
	[ -n "$PID" ]
}

# block first last: the indented lines of the README between those two
block() {
	awk -v a="$1" -v b="$2" '
	    index($0, b) == 1 { on = 0 }
	    on && /^(    |$)/ { sub(/^    /, ""); print }
	    index($0, a) == 1 { on = 1 }' README.md
}

# example title: the command lines of that subsection of the manual
example() {
	awk -v t=".Ss $1" '
	    /^\.S[hs] / { on = $0 == t }
	    /^\.Bd/ { display = 1 }
	    /^\.Ed/ { display = 0 }
	    on && /^\.Dl # / { print substr($0, 7) }
	    on && display { gsub(/\\e/, "\\"); sub(/^# /, ""); print }' "$MAN"
}

# runs description file: as typed, and each command succeeds
runs() {
	sh -e -x "$2" >"$T/out" 2>"$T/err" </dev/null
	result $? "$1" || diag "$(cat "$2" "$T/out" "$T/err")"
}

syslogd_start

# --- README
block '## From nothing' '**Debian' >"$T/hello.sh"
like "$(cat "$T/hello.sh")" '>hello.c$' "README: how to take the worker out"
runs "README: and it is taken out" "$T/hello.sh"
ok "README: hello.c is there" test -s hello.c

block '**Debian' '**OpenBSD' >"$T/debian.sh"
packages=$(sed -n 's/^apt-get install -y //p' "$T/debian.sh")
like "$packages" nginx "README, Debian: the packages"
ok "README, Debian: are all known" dpkg-query -W $packages >/dev/null
sed -i '/^apt-get /d' "$T/debian.sh"
like "$(cat "$T/debian.sh")" '^kfcgi .* -s /run/hello.sock ' \
    "README, Debian: there is a start"
runs "README, Debian: every step" "$T/debian.sh"
like "$(tail -n 1 "$T/out")" '^Hello from worker [0-9]+$' \
    "README, Debian: and there is the page"
found "-s $HELLO "
is "$(nworkers)" 3 "README, Debian: by one of three workers"
stop_pools

block '**OpenBSD' 'The manual has' >"$T/openbsd.all"
# Up to where it is httpd's.
sed '/^cat /,$d' "$T/openbsd.all" >"$T/openbsd.sh"
like "$(cat "$T/openbsd.sh")" '^kfcgi ' "README, OpenBSD: there is a start"
runs "README, OpenBSD: every step of ours" "$T/openbsd.sh"
SOCK=$HTTPD
like "$(fetch '')" '^Hello from worker' "README, OpenBSD: the worker answers"
inside=$(sed -n 's/.*fastcgi socket "\(.*\)".*/\1/p' "$T/openbsd.all")
is "/var/www$inside" "$HTTPD" "README, OpenBSD: on the socket httpd looks for"
stop_pools

# --- Manual
example Shell >"$T/shell"
grep '^kfcgi' "$T/shell" >"$T/starts"
is "$(grep -c . "$T/starts")" 2 "manual, shell: two starts"
# workers of each
set -- 3 4
while read -r line; do
	echo "$line" >"$T/start.sh"
	runs "manual, shell: $line" "$T/start.sh"
	found " -u www -U www "
	is "$(nworkers)" "$1" "manual, shell: $1 workers"
	shift
	pattern=$(sed -n "s/^pkill -USR1 -xf '\(.*\)'\$/\1/p" "$T/shell")
	if [ "$pattern" = "$line" ]; then
		is "$(pgrep -xf "$pattern")" "$PID" \
		    "manual, shell: found by its command line"
		kill -USR1 "$PID"
		ok "manual, shell: and tells its state" \
		    waitfor 10 grep -q "kfcgi.*status: 3 serving" "$SYSLOG"
		asked=1
	fi
	stop_pools
done <"$T/starts"
is "${asked:-}" 1 "manual, shell: one of them was asked"

for kind in static 'dynamically linked'; do
	rm -rf /srv/*
	example "Empty jail, $kind program" >"$T/jail.sh"
	like "$(cat "$T/jail.sh")" '^kfcgi ' "manual, $kind: there is a start"
	runs "manual, $kind: every step" "$T/jail.sh"
	SOCK=$HELLO
	like "$(fetch '')" '^Hello from worker' "manual, $kind: it answers"
	stop_pools
done

done_testing
