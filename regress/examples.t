#!/bin/sh
# The command lines of README and manual, run as they stand there: in a mount
# namespace in which the directories they write to are empty, a network
# namespace in which their ports are free, and a process namespace in which
# pkill(1) finds nobody else.  rc.d, httpd.conf, nginx and systemd of the manual
# are rcd.t's, HAProxy of the README is balance.t's.
ALSO_PRIVATE="-p --fork --kill-child --mount-proc"
. ./devlog.sh
. ./peers.sh
[ -n "${DEVLOG_ALONE:-}" ] || skip_all "needs unshare(1)"
need nginx php-cgi curl ip service pgrep pkill
MAN=$REGRESS/../kfcgi.8

# A system as it is when one begins: nothing there yet, kfcgi in the path.
ip link set lo up
for d in /srv /run /var/www /var/log/nginx; do
	mkdir -p "$d" && mount -t tmpfs -o mode=755 tmpfs "$d" || exit 1
done
mkdir -p /var/www/bin /var/www/run "$T/path" "$T/tree"
cp -a /etc "$T/etc" && mount --bind "$T/etc" /etc || exit 1
rm -f /etc/nginx/conf.d/*
sed -i -E '/^(www|hello|_hello|php):/d' /etc/passwd /etc/group /etc/shadow \
    /etc/gshadow
echo 'www:x:67:67:HTTP Server:/var/www:/sbin/nologin' >>/etc/passwd
echo 'www:x:67:' >>/etc/group
ln -s "$KFCGI" "$T/path/kfcgi"
PATH=$T/path:$PATH
KFCGI=kfcgi		# its command line from now on
mkdir "$T/tree/regress"
cp "$REGRESS/../README.md" "$T/tree"
cp "$REGRESS/hello.c" "$T/tree/regress"
cd "$T/tree" || exit 1

# Nothing outlives the process namespace.
stop_pools() {
	service nginx stop >/dev/null 2>&1
	for PID in $(pgrep -P 1 -f '^kfcgi '); do
		end_manager
	done
	PID=
	rm -f /run/*.sock /var/www/run/*.sock
}
trap 'stop_pools; syslogd_stop; end_peers; cleanup' EXIT
trap 'stop_pools; syslogd_stop; end_peers; cleanup; exit 1' INT TERM HUP

# found pattern: $PID is the manager with that in its command line
found() {
	PID=$(pgrep -of "^kfcgi .*$1")
	[ -n "$PID" ]
}

# block first last: what is to be typed, in the README between those two
block() {
	awk -v a="$1" -v b="$2" '
	    index($0, b) == 1 { on = 0 }
	    /^```/ { code = $0 == "```sh"; next }
	    on && (code || sub(/^    /, "")) { print }
	    index($0, a) == 1 { on = 1 }' README.md
}

# example title: the command lines of that subsection of the manual
example() {
	awk -v t=".Ss $1" '
	    /^\.S[hs] / { on = $0 == t }
	    /^\.Ed/ { display = 0 }
	    on && /^\.Dl # / { print substr($0, 7) }
	    on && display { gsub(/\\e/, "\\"); sub(/^# /, ""); print }
	    /^\.Bd/ { display = 1 }' "$MAN"
}

# runs description file: as typed, and each command succeeds; one is a start
runs() {
	grep -q '^kfcgi \|^pkill ' "$2" &&
	    sh -e -x "$2" >"$T/out" 2>"$T/err" </dev/null
	result $? "$1" || diag "$(cat "$2" "$T/out" "$T/err")"
}

# installed file: the packages it wants are there; the rest is left in it
installed() {
	packages=$(sed -n 's/^apt-get install -y //p' "$1")
	sed -i '/^apt-get /d' "$1"
	[ -n "$packages" ] && dpkg-query -W $packages >/dev/null
}

syslogd_start

# --- README
block '**Debian, nginx.**' 'Later' >"$T/debian.sh"
ok "README, Debian: the packages are all known" installed "$T/debian.sh"
runs "README, Debian: every step" "$T/debian.sh"
like "$(tail -n 1 "$T/out")" '^Hello from worker [0-9]+$' \
    "README, Debian: and there is the page"
found "-s /run/hello.sock "
is "$(nworkers)" 3 "README, Debian: by one of three workers"
is "$(ps_of "$PID" user)" hello "README, Debian: of a user of their own"

# What comes after it, a line at a time; journalctl(1) is systemd's.
block 'Later' '**Debian, nginx, PHP' | grep -v '^#' >"$T/later"
is "$(sed 's/ .*//' "$T/later" | tr '\n' ' ')" "cc pkill journalctl pkill " \
    "README: what comes after it"
old=$(workers)
sed -n 1,2p "$T/later" >"$T/reload.sh"
runs "README: a new version" "$T/reload.sh"
ok "README: is loaded" waitfor 20 new_pool 3 $old
is "$(sed -n 's/^journalctl -t //p' "$T/later")" \
    "$(sed -n 's/.* \([a-z]*\)\[[0-9]*\]: reloaded.*/\1/p' "$SYSLOG")" \
    "README: the log's tag"
sed -n '$p' "$T/later" >"$T/stop.sh"
runs "README: the end" "$T/stop.sh"
ok "README: and it ends" waitfor 20 dead "$PID"

# says pattern query: what nginx says is in the README's table, and is said
says() {
	line=$(sed -n "s/^| \(.*; \)*\($1[^|;]*\).*/\2/p" README.md |
	    sed 's/ *$//')
	curl -sS -o /dev/null "http://localhost:8080/?${2-}" 2>"$T/err"
	like "$line" "$1" "README: what nginx says: $line"
	ok "README: and it does" \
	    waitfor 10 grep -Fq "${line:-no line}" /var/log/nginx/error.log
}
start_hello() {
	stop_pools
	kfcgi -r -p /srv/hello -s /run/hello.sock -U hello "$@" /hello
	service nginx start >/dev/null
}
says '111: '
rm /run/hello.sock
says '2: '
cp "$REGRESS/worker" /srv/hello/hello
start_hello -n 1
says '13: '
start_hello -n 1 -u www-data
says 'upstream prematurely closed' crash
start_hello -n 1 -N 1 -l 1 -u www-data
for i in 1 2 3 4; do
	curl -sS -o /dev/null "http://localhost:8080/?slow=2000" &
	also_kill $!
done
says '11: ' slow=2000
stop_pools

block '**Debian, nginx, PHP' '**OpenBSD' >"$T/php.sh"
ok "README, PHP: the packages are all known" installed "$T/php.sh"
runs "README, PHP: every step" "$T/php.sh"
like "$(tail -n 1 "$T/out")" '^Hello from PHP [0-9.]+$' \
    "README, PHP: and there is the page"
stop_pools

block '**OpenBSD' 'To have it' >"$T/openbsd.all"
# Up to where it is httpd's.
sed '/^cat /,$d' "$T/openbsd.all" >"$T/openbsd.sh"
runs "README, OpenBSD: every step of ours" "$T/openbsd.sh"
SOCK=/var/www/run/httpd.sock
like "$(fetch '')" '^Hello from worker' "README, OpenBSD: the worker answers"
inside=$(sed -n 's/.*fastcgi socket "\(.*\)".*/\1/p' "$T/openbsd.all")
is "/var/www$inside" "$SOCK" "README, OpenBSD: on the socket httpd looks for"
stop_pools

# --- Manual
example Shell >"$T/shell"
cp /var/www/bin/hello /var/www/bin/api
grep '^kfcgi' "$T/shell" >"$T/start.sh"
runs "manual, shell: the starts" "$T/start.sh"
found "-s /var/www/run/api.sock "
is "$(nworkers)" 4 "manual, shell: four workers of the second"
line=$(sed -n 1p "$T/start.sh")
found "${line#kfcgi }"
is "$(nworkers)" 3 "manual, shell: three of the first"
for what in "-HUP reloaded:" "-USR1 status:" " stopped"; do
	typed="pkill ${what% *} -o -xf '$line'"
	[ -n "${what% *}" ] || typed="pkill -o -xf '$line'"
	ok "manual, shell: $typed" grep -Fqx -- "$typed" "$T/shell"
	echo "$typed" >"$T/typed.sh"
	runs "manual, shell: finds it" "$T/typed.sh"
	ok "manual, shell: ${what#* }" waitfor 20 \
	    grep -q "kfcgi\[$PID\]: ${what#* }" "$SYSLOG"
done
stop_pools

# There, hello.c is in the working directory.
rm -rf /srv/*
example "A jail with one file" >"$T/jail.sh"
cp regress/hello.c .
runs "manual, jail: every step" "$T/jail.sh"
SOCK=/run/hello.sock
like "$(fetch '')" '^Hello from worker' "manual, jail: it answers"
is "$(find /srv -type f)" /srv/hello/hello "manual, jail: of one file"
stop_pools

# What is said of php-cgi.
said=$(sed -n 's/.*asks `\(.*\)?`.*/\1/p' README.md)
like "$said" 'what -r asks for$' "README: what is asked of php-cgi with -r"
fails "README: whose start fails" start_daemon -r -p / -s /run/php.sock \
    /usr/bin/php-cgi
like "$(cat "$T/err")" "$said" "README: and it is asked"

# A signal to a worker that has not been executed yet would be lost.
is "$(grep -E '(pkill|pgrep) -' README.md "$MAN" | grep -v -e ' -o ')" "" \
    "every pkill signals the oldest only"

done_testing
