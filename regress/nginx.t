#!/bin/sh
# nginx in front of kfcgi: php-cgi in a fixed pool, our worker in both, in its
# empty jail.  Every request gets its answer, whole, at the first try.
. ./lib.sh
. ./peers.sh
need nginx php-cgi curl perl

POST=6000000
BODY=8000003
noise $POST >"$T/post"
pattern $BODY >"$T/body"
sum=$(fnv <"$T/post")
php_page

{
	nginx_head
	echo 'http {'
	nginx_http
	cat <<END
	server {
		listen unix:$FRONT;
		location / {
			fastcgi_pass unix:$SOCK;
		}
		# The same, but bytes go through as they come.
		location /raw/ {
			rewrite ^/raw(.*) \$1 break;
			fastcgi_request_buffering off;
			fastcgi_buffering off;
			fastcgi_pass unix:$SOCK;
		}
	}
}
END
} >"$T/nginx.conf"
nginx_start "$T/nginx.conf"
ok "nginx is up" peer_up || diag "$(cat "$T/nginx.log")"
is "$(get / -o /dev/null -w '%{http_code}')" 502 "502 when there is no kfcgi"

# pages name user path: pages through nginx from the kfcgi that was started
pages() {
	_what=$1
	_page=$3
	: >"$T/nginx/error.log"
	: >"$T/nginx/access.log"
	_a=$(get "$_page?hello")
	like "$_a" "^pid [0-9]+ uid $(id -u "$2") " "$_what: a page, as user $2"
	like "$_a" "^GET $_page\?hello\$" "$_what: it was asked for what we asked"
	_pid=$(printf '%s\n' "$_a" | awk '/^pid/ { print $2 }')
	ok "$_what: from one of the workers" \
	    eval 'workers | grep -qx "'"$_pid"'"'
	for _p in "$_page" "/raw$_page"; do
		like "$(post "$_p?echo" "$T/post")" "^$sum\$" \
		    "$_what: $_p, $POST bytes posted arrive"
		get "$_p?body=$BODY" >"$T/answer"
		is "$(wc -c <"$T/answer" | tr -d ' ')" $BODY \
		    "$_what: $_p, length of a large answer"
		ok "$_what: $_p, and what is in it" \
		    cmp "$T/answer" "$T/body"
	done
	load 1000 16 "$_page?"
	is "$(codes)" "200 x 1000" "$_what: 1000 requests, 16 at a time"
	is "$(answered)" 1000 "$_what: every one has its own answer"
	# nginx logs a request when curl already has the answer.
	ok "$_what: nginx has logged them all" waitfor 10 access_lines 1005
	is "$(grep -vc '^200 200 ' "$T/nginx/access.log")" 0 \
	    "$_what: at the first try"
	is "$(cat "$T/nginx/error.log")" "" "$_what: nginx saw no error"
}

access_lines() {
	[ "$(grep -c . "$T/nginx/access.log")" -eq "$1" ]
}

# syslog_start: kfcgi is to be started by $T/with-log, for which /dev/log is
# ours.  What it logs is in $T/syslog, with the priority as a number.
syslog_start() {
	command -v unshare >/dev/null || return 1
	perl "$REGRESS/syslogd" "$T/devlog" "$T/syslog" & also_kill $!
	cat >"$T/with-log" <<-END
	#!/bin/sh
	exec unshare -m sh -c 'mount -t tmpfs tmpfs /dev &&
	    mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 &&
	    ln -s $T/devlog /dev/log && exec "\$@"' sh "$KFCGI" "\$@"
	END
	chmod 755 "$T/with-log"
	waitfor 10 test -S "$T/devlog" &&
	    "$T/with-log" -n 0 2>&1 | grep -q -- '-n 0: number'
}

# php-cgi, first one that lives for ever.
ok "php-cgi starts" \
    start -p / -u "$WEB" -U "$WEB" -n 4 -l 64 $PHP || exit 1
pages "php-cgi" "$WEB" /index.php
ok "php-cgi: no worker died" eval '! logged "^kfcgi: worker .* after"'
quit
is "$?" 0 "php-cgi: kfcgi stops"

# Then one that leaves after 50 requests: a normal thing, and nobody notices.
plain=$KFCGI
levels=0
if syslog_start; then
	KFCGI=$T/with-log
	levels=1
fi
PHP_FCGI_MAX_REQUESTS=50
export PHP_FCGI_MAX_REQUESTS
ok "php-cgi that recycles itself starts" \
    start -p / -u "$WEB" -U "$WEB" -n 4 -l 64 $PHP || exit 1
unset PHP_FCGI_MAX_REQUESTS
KFCGI=$plain
pages "php-cgi, recycled" "$WEB" /index.php
# 1005 requests, in 4 slots none of which may have lost more than 49.
ok "php-cgi, recycled: at least 17 times" \
    logged '^kfcgi: worker [0-9]* exited with status 0 after' 17
ok "php-cgi, recycled: and never did one fail" \
    eval '! grep "worker .* after" "$LOG" | grep -v "exited with status 0"'
ok "php-cgi, recycled: nor wait" eval '! logged "no new workers"'
ok "php-cgi, recycled: the pool is as large as before" \
    waitfor 10 has_workers 4
if [ $levels -eq 1 ]; then
	# A line each, or "3 more workers exited with status 0" a second later.
	recycled() {
		[ "$(awk '
		    /^<30>.*worker [0-9]+ exited with status 0/ { n++ }
		    /^<30>.* more workers? exited with status 0/ {
			sub(/ more .*/, ""); n += $NF }
		    END { print n + 0 }' "$T/syslog")" -ge 17 ]
	}
	ok "php-cgi, recycled: as LOG_INFO" waitfor 10 recycled
	# 24 to 28: LOG_DAEMON from LOG_EMERG to LOG_WARNING
	is "$(grep -E '^<2[4-8]>' "$T/syslog")" "" \
	    "php-cgi, recycled: no warning, no error"
else
	result 0 "php-cgi, recycled: as LOG_INFO # SKIP no namespace of our own"
fi
quit
is "$?" 0 "php-cgi, recycled: kfcgi stops"

# Our worker: the pool grows for the load.
ok "kfcgi -r starts" \
    start -u "$WEB" -r -n 2 -N 8 -l 64 /bin/worker || exit 1
pages "-r" "$WHO" /hello
: >"$T/codes"
load 8 8 "/hello?slow=1500&" & l=$!
ok "-r: the pool grows to -N for slow requests" waitfor 10 has_workers 8
wait $l
is "$(codes)" "200 x 8" "-r: which are all answered"
ok "-r: no worker died" eval '! logged "^kfcgi: worker .* after"'
quit
is "$?" 0 "-r: kfcgi stops"

# As kcgi(3)'s programs are: three processes.
ok "kfcgi -r starts a worker of three processes" \
    start -u "$WEB" -r -n 2 -N 8 -l 64 /bin/worker -3 || exit 1
pages "-r, three processes" "$WHO" /hello
quit
is "$?" 0 "-r, three processes: kfcgi stops"

ok "kfcgi starts the same worker in a fixed pool" \
    start -u "$WEB" -n 4 -l 64 /bin/worker || exit 1
pages "fixed" "$WHO" /hello
ok "fixed: no worker died" eval '! logged "^kfcgi: worker .* after"'
quit
is "$?" 0 "fixed: kfcgi stops"

peer_stop
is "$?" 0 "nginx ends"

done_testing
