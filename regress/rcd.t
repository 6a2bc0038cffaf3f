#!/bin/sh
# The examples of kfcgi.8, taken out of it and run, so that they stay true: the
# rc.d script with a stand-in for OpenBSD's rc.subr(8), the paths of httpd.conf,
# the systemd unit, the server block for nginx.  Only paths and users are other
# ones here.
. ./lib.sh
. ./peers.sh
MANUAL=$REGRESS/../kfcgi.8
KSH=$(command -v mksh || command -v ksh) || skip_all "not installed: mksh"
need pgrep nginx curl perl

# section word: of EXAMPLES, the subsection with that word in its title
section() {
	awk -v w=" $1 " '
	    /^\.S[hs] / { s = index($0 " ", w) && examples }
	    /^\.Sh / { examples = /EXAMPLES/ }
	    s' "$MANUAL"
}

# example word: the first display of that subsection
example() {
	section "$1" | awk '
	    /^\.Ed/ && on { exit }
	    on { gsub(/\\&/, ""); gsub(/\\e/, "\\"); print }
	    /^\.Bd -literal/ { on = 1 }'
}

# The system's directories, as they are here.
mkdir -p "$T/sbin" "$T/rc.d" "$T/run" "$T/var/www/run" "$T/var/www/bin" \
    "$T/srv/hello"
WWWJAIL=$T/var/www
HTTPD=$WWWJAIL/run/httpd.sock
API=$WWWJAIL/run/api.sock
DEAF=$WWWJAIL/run/deaf.sock
PLUS=$WWWJAIL/run/a+b.sock
HELLO=$T/run/hello.sock
cp "$KFCGI" "$T/sbin/kfcgi"
KFCGI=$T/sbin/kfcgi
cp "$REGRESS/worker" "$WWWJAIL/bin/hello"
cp "$REGRESS/worker" "$WWWJAIL/bin/api"
cp "$REGRESS/worker" "$T/srv/hello/hello"

here() {
	sed -e "s,/usr/local/sbin/,$T/sbin/,g" -e "s,/etc/rc.d/,$T/rc.d/,g" \
	    -e "s,/var/www/,$T/var/www/,g" -e "s,/srv/,$T/srv/,g" \
	    -e "s,/run/hello,$T/run/hello,g" -e "s/www-data/$WEB/g" \
	    -e "s/-U hello /-U $WHO /" \
	    -e "s/-u www /-u $WEB /" -e "s,-U www ,-U $WEB -p $WWWJAIL ,"
}

# Pools that rc.d has started are not our children.
end_pools() {
	for s in "$HTTPD" "$API" "$DEAF" "$PLUS" "$HELLO"; do
		PID=$(manager_pid "$s")
		[ -z "$PID" ] || end_manager
	done
	PID=
}
trap 'end_pools; end_peers; cleanup' EXIT
trap 'end_pools; end_peers; cleanup; exit 1' INT TERM HUP

# --- rc.d

# What rc.subr(8) promises, and no more: flags from rc.conf.local by the name
# of the script; processes found by their whole command line, which is pexp;
# start and stop are waited for, daemon_timeout seconds at most; nothing is
# seen of the daemon but with -d; the status tells.
cat >"$T/rc.d/rc.subr" <<'END'
rc_name=${0##*/}
rc_debug=0
while getopts d opt; do
	rc_debug=1
done
shift $((OPTIND - 1))
: ${daemon_timeout:=30}
conf=${0%/*}/../rc.conf.local
[ ! -f $conf ] || . $conf
eval flags=\${${rc_name}_flags-}
[ -z "$flags" ] || daemon_flags=$flags
set -A words -- $daemon_flags
daemon_flags=${words[*]}
pexp="$daemon${daemon_flags:+ $daemon_flags}"

rc_pids() { pgrep -xf "$pexp"; }
rc_check() { [ -n "$(rc_pids)" ]; }
rc_start() { sh -c "$daemon $daemon_flags"; }
rc_reload() { kill -HUP $(rc_pids); }
rc_stop() { kill -TERM $(rc_pids); }
rc_gone() { ! rc_check; }

rc_wait() {
	typeset n=$((daemon_timeout * 10))
	until "$@"; do
		((n-- > 0)) || return 1
		sleep 0.1
	done
}

rc_do() {
	if ((rc_debug)); then
		"$@"
	else
		"$@" >/dev/null 2>&1
	fi
}

rc_end() {
	echo "$rc_name($1)"
	[[ $1 = ok ]]
	exit
}

rc_cmd() {
	[[ $(id -u) -eq 0 ]] || rc_end failed
	case $1 in
	check)
		rc_check
		exit
		;;
	start)
		rc_check && exit 0
		rc_do rc_start && rc_wait rc_check && rc_end ok
		;;
	reload)
		rc_check && rc_do rc_reload && rc_end ok
		;;
	stop)
		rc_check || exit 0
		rc_do rc_stop && rc_wait rc_gone && rc_end ok
		;;
	restart)
		$0 stop && exec $0 start
		;;
	esac
	rc_end failed
}
END

# rc [name] command...: the script's status; what it said is in $T/out and
# $T/err
rc() {
	case $1 in
	kfcgi_*)
		_rc=$1
		shift
		;;
	*)
		_rc=kfcgi
		;;
	esac
	"$T/rc.d/$_rc" "$@" </dev/null >"$T/out" 2>"$T/err"
}

# rc_ok name: that it said so
rc_ok() {
	is "$(cat "$T/out"; errors)" "$1(ok)" "rc.d: which says so"
}

rc_failed() {
	is "$(cat "$T/out" "$T/err")" "$1(failed)" \
	    "rc.d: and says so, only that"
}

# The pool that rc.d has started is the one that lib.sh looks at.
pool() {
	SOCK=$1
	PID=$(manager_pid "$SOCK")
}

# The flags in the manual name no socket: there it is the default.  Not every
# system has its ksh where OpenBSD has it.
example rc.d | here |
    sed "s,daemon_flags=\",&-s $HTTPD ," >"$T/rc.d/kfcgi"
is "$(sed 1q "$T/rc.d/kfcgi")" '#!/bin/ksh' "rc.d: the manual has a script"
like "$(cat "$T/rc.d/kfcgi")" '^rc_cmd \$1$' "rc.d: with a last line"
sed -i "1s,/bin/ksh,$KSH," "$T/rc.d/kfcgi"
mode=$(section rc.d | sed -n 's/^mode \([0-7]*\):$/\1/p')
is "$mode" 0555 "rc.d: and its mode"
chmod "$mode" "$T/rc.d/kfcgi"

fails "rc.d: check before the start fails" rc check
ok "rc.d: start" rc start
is "$(cat "$T/out")" "kfcgi(ok)" "rc.d: which says so"
pool "$HTTPD"
first=$PID
ok "rc.d: check" rc check
flags=$(sed -n 's/^daemon_flags="\(.*\)"$/\1/p' "$T/rc.d/kfcgi")
is "$(pgrep -xf "$KFCGI $flags")" "$PID" "rc.d: pexp finds the manager only"
is "$(nworkers)" 3 "rc.d: three workers"
like "$(fetch '')" "^pid [0-9]* uid $(id -u "$WEB") " "rc.d: which answer"
ok "rc.d: start of what runs is fine" rc start
is "$(pgrep -xf "$KFCGI $flags")" "$first" "rc.d: and changes nothing"

# Reload, under load.
# Under load there may be more than three.
all_new() {
	[ "$(nworkers)" -ge 3 ] && [ -z "$(workers | grep -xF "$old")" ]
}
old=$(workers)
client -n 1000 -c 3 -q slow=5 -v >"$T/load" & l=$!
ok "rc.d: there is load" waitfor 20 test -s "$T/load"
ok "rc.d: reload" rc reload
is "$(cat "$T/out")" "kfcgi(ok)" "rc.d: which says so"
ok "rc.d: all workers are new" waitfor 20 all_new
ok "rc.d: no request was lost" wait $l
ok "rc.d: check after it" rc check
is "$(pgrep -xf "$KFCGI $flags")" "$first" "rc.d: the same manager"

ok "rc.d: restart" rc restart
is "$(cat "$T/out")" "kfcgi(ok)
kfcgi(ok)" "rc.d: which says so twice"
pool "$HTTPD"
unlike "$PID" "^($first)?\$" "rc.d: another manager"
like "$(fetch '')" '^pid' "rc.d: and it serves"

# --- httpd.conf.  What the web server sees is below its jail.
inside=$(example httpd | sed -n 's/.*fastcgi socket "\(.*\)".*/\1/p')
is "/var/www$inside" /var/www/run/httpd.sock "httpd: the path in the manual"
ok "httpd: is that of kfcgi's default socket" \
    grep -q "/var/www$inside" "$KFCGI"
ok "httpd: from its jail, the socket is there" perl -MSocket -e '
	chroot shift and chdir "/" or die "chroot: $!";
	socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
	connect($s, pack_sockaddr_un(shift)) or die "connect: $!"' \
    "$WWWJAIL" "$inside"

# --- a second pool, by another name
ln -s kfcgi "$T/rc.d/kfcgi_api"
api=$(section rc.d | here | sed -n 's/^# rcctl set kfcgi_api flags //p')
like "$api" "^-s $API " "rc.d: the manual has flags for a second pool"
echo "kfcgi_api_flags=\"$api\"" >"$T/rc.conf.local"
fails "rc.d: the second is not taken for the first" rc kfcgi_api check
ok "rc.d: start of the second" rc kfcgi_api start
rc_ok kfcgi_api
like "$(manager_pid "$HTTPD") $(manager_pid "$API")" "^[0-9]+ [0-9]+$" \
    "rc.d: both are there"
ok "rc.d: stop of the second" rc kfcgi_api stop
ok "rc.d: the first is not concerned" rc check

# --- a pool whose workers hang and are deaf to SIGTERM.  Its stop takes its 20
# seconds, hence goes on beside all that follows.
ln -s kfcgi "$T/rc.d/kfcgi_deaf"
cp "$REGRESS/worker" "$WWWJAIL/bin/deaf"
echo "kfcgi_deaf_flags=\"-n 2 -s $DEAF -u $WEB -U $WEB -p $WWWJAIL" \
    "/bin/deaf -t\"" >>"$T/rc.conf.local"
ok "rc.d: start of a pool with deaf workers" rc kfcgi_deaf start
pool "$DEAF"
deaf="$PID $(workers)"
is "$(printf '%s\n' $deaf | grep -c .)" 3 "rc.d: a manager and two of them"
idle=$(sockets)
client -q hang >/dev/null 2>&1 & hang=$!
client -q hang >/dev/null 2>&1 & hang="$hang $!"
ok "rc.d: both hang" waitfor 20 sockets_are $((idle + 2))
"$T/rc.d/kfcgi_deaf" stop </dev/null >"$T/deaf.out" 2>&1 & deafstop=$!

# --- a start that fails because the workers do, or the socket is another's
sed -i 's,^kfcgi_api_flags.*/bin/api,& -E 3,' "$T/rc.conf.local"
fails "rc.d: start of workers that die fails" rc kfcgi_api start
rc_failed kfcgi_api
fails "rc.d: check after it fails" rc kfcgi_api check
is "$(manager_pid "$API")" "" "rc.d: nobody is left"
fails "rc.d: start -d of them fails as well" rc kfcgi_api -d start
like "$(cat "$T/err")" '^kfcgi: worker .* exited with status 3,' \
    "rc.d: and says why"
echo "kfcgi_api_flags=\"-s $HTTPD -u $WEB -U $WEB -p $WWWJAIL /bin/api\"" \
    >>"$T/rc.conf.local"
pool "$HTTPD"
first=$PID
old=$(workers)
fails "rc.d: start with the socket of the first fails" rc kfcgi_api start
rc_failed kfcgi_api
fails "rc.d: start -d with it fails as well" rc kfcgi_api -d start
like "$(cat "$T/err")" "^kfcgi: $HTTPD: is in use by a running server" \
    "rc.d: and says why"
pool "$HTTPD"
is "$PID, $(workers)" "$first, $old" "rc.d: the first is not concerned"
like "$(fetch '')" '^pid' "rc.d: and serves"

# --- a reload whose workers fail: here, as they say in /tmp/tried
cat >"$T/try.c" <<'END'
#include <fcntl.h>
int
main(void)
{
	return open("/tmp/tried", O_CREAT | O_WRONLY, 0600) == -1 ? 2 : 1;
}
END
# $CC may be for another system.
for c in "$CC" cc; do
	$c -static -o "$WWWJAIL/bin/try" "$T/try.c" 2>"$T/err" && break
done || diag "$(cat "$T/err")"
mkdir -m 1777 "$WWWJAIL/tmp"
mv "$WWWJAIL/bin/hello" "$WWWJAIL/bin/away"
mv "$WWWJAIL/bin/try" "$WWWJAIL/bin/hello"
ok "rc.d: a reload with a program that fails" rc reload
ok "rc.d: it is tried" waitfor 20 test -e "$WWWJAIL/tmp/tried"
same() {
	[ "$(workers)" = "$old" ]
}
ok "rc.d: the old workers stay" waitfor 20 same
like "$(fetch '')" '^pid' "rc.d: and serve"
mv "$WWWJAIL/bin/away" "$WWWJAIL/bin/hello"
ok "rc.d: a reload with the right one" rc reload
ok "rc.d: all workers are new" waitfor 20 all_new

# --- flags with a character that means something in a pattern
plus="-s $PLUS -u $WEB -U $WEB -p $WWWJAIL /bin/api"
chars=$(section rc.d | sed -n 's/^\.Ql \(\* .*\) ,$/\1/p')
like "$chars" '(^| )\+( |$)' "rc.d: the manual warns of +"
sed "s,^daemon_flags=.*,daemon_flags=\"$plus\"," "$T/rc.d/kfcgi" \
    >"$T/rc.d/kfcgi_plain"
{
	sed '/rc\.subr$/q' "$T/rc.d/kfcgi_plain"
	echo "pexp=\"$KFCGI $(echo "$plus" | sed 's/+/[+]/')\""
	sed '1,/rc\.subr$/d' "$T/rc.d/kfcgi_plain"
} >"$T/rc.d/kfcgi_pexp"
chmod 555 "$T/rc.d/kfcgi_plain" "$T/rc.d/kfcgi_pexp"
ok "rc.d: with +, and pexp set: start" rc kfcgi_pexp start
rc_ok kfcgi_pexp
pool "$PLUS"
old=$(workers)
ok "rc.d: with pexp set: check" rc kfcgi_pexp check
fails "rc.d: without, it is not found" rc kfcgi_plain check
ok "rc.d: with pexp set: reload" rc kfcgi_pexp reload
ok "rc.d: with pexp set: all workers are new" waitfor 20 all_new
ok "rc.d: with pexp set: stop" rc kfcgi_pexp stop
is "$(manager_pid "$PLUS")" "" "rc.d: nobody is left"

# --- stop, while a request is being answered
pool "$HTTPD"
client -q slow=1500 >"$T/slow" & l=$!
ok "rc.d: a worker is busy" waitfor 10 sockets_are 4
w=$(workers)
ok "rc.d: stop" rc stop
is "$(cat "$T/out")" "kfcgi(ok)" "rc.d: which says so"
ok "rc.d: the last request was answered" wait $l
fails "rc.d: check after it fails" rc check
is "$(manager_pid "$HTTPD")$(for p in $w; do alive "$p" && echo "$p"; done)" \
    "" "rc.d: nobody is left"
ok "rc.d: stop of what does not run is fine" rc stop
fails "rc.d: reload of what does not run fails" rc reload
rc_failed kfcgi
PID=

# --- a start that must fail
mv "$WWWJAIL/bin/hello" "$WWWJAIL/bin/away"
fails "rc.d: start without the program fails" rc start
rc_failed kfcgi
fails "rc.d: check after it fails" rc check
is "$(manager_pid "$HTTPD")" "" "rc.d: nobody is left"
fails "rc.d: start -d fails as well" rc -d start
like "$(cat "$T/err")" \
    "^kfcgi: cannot execute /bin/hello in $WWWJAIL: No such file" \
    "rc.d: and says why"
mv "$WWWJAIL/bin/away" "$WWWJAIL/bin/hello"
ok "rc.d: start with it" rc start
ok "rc.d: and stop" rc stop

# --- systemd
example systemd | here >"$T/kfcgi.service"
like "$(cat "$T/kfcgi.service")" "^ExecStart=$KFCGI -d " \
    "systemd: the manual has a unit, with -d"
if command -v systemd-analyze >/dev/null; then
	systemd-analyze verify --man=no --generators=no \
	    "$T/kfcgi.service" >"$T/out" 2>&1
	is "$?" 0 "systemd: its syntax is right" || diag "$(cat "$T/out")"
	is "$(grep kfcgi.service "$T/out")" "" "systemd: no remark on it"
elif [ -n "${CI:-}" ]; then
	result 1 "systemd: no systemd-analyze, which must not be in CI"
else
	result 0 "systemd: its syntax # SKIP no systemd-analyze"
fi
# A line that ends in a backslash goes on, words are split, no shell.
sed -e :a -e '/\\$/N; s/\\\n//; ta' "$T/kfcgi.service" >"$T/joined"
exec_start=$(sed -n 's/^ExecStart=//p' "$T/joined")
exec_reload=$(sed -n 's/^ExecReload=//p' "$T/joined")
SOCK=$HELLO
like "$(cat "$T/joined")" '^Restart=on-failure$' "systemd: it restarts, if"
mv "$T/srv/hello/hello" "$T/srv/hello/away"
$exec_start </dev/null >"$T/out" 2>&1
is "$?" 1 "systemd: a start that fails has the status for it"
like "$(cat "$T/out")" '^kfcgi: cannot execute /hello' "systemd: and says why"
mv "$T/srv/hello/away" "$T/srv/hello/hello"
: >"$LOG"
$exec_start </dev/null >"$LOG" 2>&1 &
PID=$!
ok "systemd: ExecStart starts it" \
    eval 'waitfor 20 started_or_dead && alive $PID' ||
    diag "$(cat "$LOG")"
like "$(fetch '')" '^pid' "systemd: it answers"
old=$(workers)
client -n 1000 -c 3 -q slow=5 -v >"$T/load" & l=$!
ok "systemd: there is load" waitfor 20 test -s "$T/load"
$(echo "$exec_reload" | sed "s/\$MAINPID/$PID/")
ok "systemd: ExecReload reloads" waitfor 20 all_new
ok "systemd: no request was lost" wait $l

# --- nginx, in front of that one
cp /etc/nginx/fastcgi_params "$T/" 2>/dev/null ||
    echo 'fastcgi_param REQUEST_METHOD $request_method;
	fastcgi_param REQUEST_URI $request_uri;' >"$T/fastcgi_params"
example nginx | here | sed "s,listen 8080,listen unix:$FRONT," >"$T/server"
like "$(cat "$T/server")" "fastcgi_pass unix:$HELLO;" \
    "nginx: the manual has a server"
{
	nginx_head
	echo 'http {'
	nginx_http
	cat "$T/server"
	echo '}'
} >"$T/nginx.conf"
nginx_start "$T/nginx.conf"
ok "nginx: takes it" peer_up || peer_diag
like "$(get /hello?x)" '^GET /hello\?x$' "nginx: gets a page with it"
peer_stop

# --- systemd's stop.  KillMode=mixed: SIGTERM to the manager only.
like "$(cat "$T/joined")" '^KillMode=mixed$' "systemd: it signals the manager"
waitfor 10 eval '[ "$(sockets)" -eq "$(nworkers)" ]'
client -q slow=1500 >"$T/slow" & l=$!
ok "systemd: a worker is busy" \
    waitfor 10 eval '[ "$(sockets)" -gt "$(nworkers)" ]'
w=$(workers)
quit
is "$?" 0 "systemd: the status after SIGTERM"
ok "systemd: the last request was answered" wait $l
is "$(for p in $w; do alive "$p" && echo "$p"; done)" "" \
    "systemd: nobody is left"

# --- the deaf, at last
wait $deafstop
is "$? $(cat "$T/deaf.out")" "0 kfcgi_deaf(ok)" \
    "rc.d: the stop of deaf workers succeeds, too, within daemon_timeout"
ok "rc.d: nobody is left" all_dead $deaf
wait $hang

done_testing
