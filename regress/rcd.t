#!/bin/sh
# The examples of kfcgi.8, taken out of it and run, so that they stay true: the
# rc.d script with a stand-in for OpenBSD's rc.subr(8), the paths of httpd.conf,
# the systemd unit, the server block for nginx.  Only paths and users are other
# ones here.
. ./lib.sh
. ./peers.sh
MANUAL=$REGRESS/../kfcgi.8
KSH=$(command -v mksh || command -v ksh) || skip_all "not installed: mksh"
need pgrep pkill perl

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
	for s in "$HTTPD" "$API" "$HELLO"; do
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
# start and stop are waited for, 30 seconds at most; nothing is seen of the
# daemon but with -d; the status tells.
: >"$T/rc.conf.local"
cat >"$T/rc.d/rc.subr" <<'END'
rc_name=${0##*/}
rc_debug=0
if [[ $1 = -d ]]; then
	rc_debug=1
	shift
fi
. ${0%/*}/../rc.conf.local
eval flags=\${${rc_name}_flags-}
daemon_flags=$(echo ${flags:-$daemon_flags})
pexp="$daemon${daemon_flags:+ $daemon_flags}"

rc_check() { pgrep -xf "$pexp" >/dev/null; }
rc_start() { sh -c "$daemon $daemon_flags"; }
rc_reload() { pkill -HUP -xf "$pexp"; }
rc_stop() { pkill -TERM -xf "$pexp"; }
rc_gone() { ! rc_check; }

rc_wait() {
	typeset n=300
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

rc_cmd() {
	typeset word=failed
	case $1 in
	check)		rc_check; exit ;;
	start)		rc_do rc_start && rc_wait rc_check ;;
	reload)		rc_check && rc_do rc_reload ;;
	stop)		rc_check && rc_do rc_stop && rc_wait rc_gone ;;
	restart)	$0 stop && exec $0 start ;;
	esac && word=ok
	echo "$rc_name($word)"
	[[ $word = ok ]]
	exit
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

# The pool that rc.d has started is the one that lib.sh looks at.
pool() {
	SOCK=$1
	PID=$(manager_pid "$SOCK")
}

# Under load there may be more than n.
all_new() {
	[ "$(nworkers)" -ge 3 ] && [ -z "$(workers | grep -xF "$old")" ]
}

# gone worker...: manager and workers are
gone() {
	[ -z "$(manager_pid "$SOCK")" ] && all_dead "$@"
}

# The flags in the manual name no socket: there it is the default.  Not every
# system has its ksh where OpenBSD has it.
example rc.d | here |
    sed "s,daemon_flags=\",&-s $HTTPD ," >"$T/rc.d/kfcgi"
is "$(sed 1q "$T/rc.d/kfcgi")" '#!/bin/ksh' "rc.d: the manual has a script"
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

# A hundred reloads under load, a few milliseconds apart: a child has the
# command line of the manager until it has executed prog, and would die of the
# signal.  Those that come during a trial are one more reload, so the load goes
# on until many generations have been started; its clients ask until told to
# stop.
old=$(workers)
client -d 12 -c 4 -q slow=5 >"$T/load" & l=$!
i=0
failed=0
while [ $i -lt 100 ]; do
	rc reload || failed=$((failed + 1))
	i=$((i + 1))
done
is "$failed, $(cat "$T/out")" "0, kfcgi(ok)" "rc.d: a hundred reloads"
ok "rc.d: no request was lost in them" wait $l
like "$(cat "$T/load")" '^answered [0-9]{3,} refused 0 reset 0 cut 0' \
    "rc.d: of many"
ok "rc.d: all workers are new" waitfor 20 all_new
is "$(pgrep -xf "$KFCGI $flags")" "$first" "rc.d: still the same manager"
# Under load it has grown, to six at most.
ok "rc.d: with no worker too many" \
    waitfor 30 eval '[ "$(nworkers)" -le 6 ] && all_new'

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

# --- a second pool, by another name
ln -s kfcgi "$T/rc.d/kfcgi_api"
api=$(section rc.d | here | sed -n 's/^# rcctl set kfcgi_api flags //p')
like "$api" "^-s $API " "rc.d: the manual has flags for a second pool"
echo "kfcgi_api_flags=\"$api\"" >"$T/rc.conf.local"
fails "rc.d: the second is not taken for the first" rc kfcgi_api check
ok "rc.d: start of the second" rc kfcgi_api start
like "$(manager_pid "$HTTPD") $(manager_pid "$API")" "^[0-9]+ [0-9]+$" \
    "rc.d: both are there"
ok "rc.d: stop of the second" rc kfcgi_api stop
ok "rc.d: the first is not concerned" rc check

# --- stop, while a request is being answered
pool "$HTTPD"
client -q slow=1500 >"$T/slow" & l=$!
ok "rc.d: a worker is busy" waitfor 10 in_hand
w=$(workers)
ok "rc.d: stop" rc stop
ok "rc.d: the last request was answered" wait $l
ok "rc.d: nobody is left" gone $w
fails "rc.d: check after it fails" rc check
fails "rc.d: reload of what does not run fails" rc reload

# --- a start that must fail
mv "$WWWJAIL/bin/hello" "$WWWJAIL/bin/away"
fails "rc.d: start without the program fails" rc start
is "$(cat "$T/out" "$T/err")" "kfcgi(failed)" "rc.d: and says so, only that"
ok "rc.d: nobody is left" gone
like "$(section rc.d)" 'rcctl -d start' "rc.d: the manual says what to do"
fails "rc.d: start -d fails as well" rc -d start
like "$(cat "$T/err")" \
    "^kfcgi: cannot execute /bin/hello in $WWWJAIL as $WEB: No such file" \
    "rc.d: and says why"
PID=

# --- systemd.  A line that ends in a backslash goes on, words are split, no
# shell.
example systemd | here >"$T/kfcgi.service"
sed -e :a -e '/\\$/N; s/\\\n//; ta' "$T/kfcgi.service" >"$T/joined"
for line in Type=forking KillMode=mixed OOMPolicy=continue \
    Restart=on-failure; do
	ok "systemd: the manual has a unit with $line" \
	    grep -qx "$line" "$T/joined"
done
if have systemd-analyze; then
	systemd-analyze verify --man=no --generators=no \
	    "$T/kfcgi.service" >"$T/out" 2>&1
	is "$? $(grep kfcgi.service "$T/out")" "0 " "systemd: which is right"
else
	skip "no systemd-analyze" "systemd: which is right"
fi
ok "systemd: ExecStart succeeds" \
    $(sed -n 's/^ExecStart=//p' "$T/joined") 2>"$T/err"
pool "$HELLO"
like "$(fetch '')" '^pid' "systemd: it answers"
old=$(workers)
$(sed -n "s/\$MAINPID/$PID/; s/^ExecReload=//p" "$T/joined")
ok "systemd: ExecReload reloads" waitfor 20 all_new

# --- nginx, in front of that one
example nginx | here | sed "s,listen 8080,listen unix:$FRONT," >"$T/server"
like "$(cat "$T/server")" "fastcgi_pass unix:$HELLO;" \
    "nginx: the manual has a server"
if have nginx && have curl; then
	cp /etc/nginx/fastcgi_params "$T/"
	nginx_start <"$T/server"
	ok "nginx: takes it" peer_up || peer_diag
	like "$(get /hello?x)" '^GET /hello\?x$' "nginx: gets a page with it"
else
	skip "no nginx or no curl" "nginx: takes it" \
	    "nginx: gets a page with it"
fi

done_testing
