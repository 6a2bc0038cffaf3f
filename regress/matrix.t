#!/bin/sh
# nginx and HAProxy in front of every kind of worker, with kfcgi in between.
#
# server_NAME starts a web server that passes everything to $SOCK.  worker_NAME
# starts kfcgi with four workers: $PAGE is what to ask for, LOSES is what a reload
# may cost if SIGTERM ends the worker wherever it is.
. ./lib.sh
. ./peers.sh
need nginx haproxy php-cgi fcgiwrap curl perl

SIZE=500000
dd if=/dev/zero bs=$SIZE count=1 2>/dev/null >"$T/post"
BODY=10000000

# --- web servers

server_nginx() {
	nginx_start <<-END
	server {
		listen unix:$FRONT;
		location / {
			fastcgi_pass unix:$SOCK;
		}
	}
	END
}

server_haproxy() {
	cat >"$T/haproxy.conf" <<-END
	global
		user $WEB
	defaults
		mode http
		retries 0
		timeout connect 10s
		timeout client 60s
		timeout server 60s
	frontend front
		bind unix@$FRONT mode 666
		default_backend pool
	backend pool
		use-fcgi-app pool
		server kfcgi unix@$SOCK proto fcgi
	fcgi-app pool
		docroot $WWW
		no option keep-conn
	END
	peer haproxy haproxy -db -f "$T/haproxy.conf"
}

# --- workers

# One that leaves after so many requests, as is usual.
worker_php() {
	PAGE=/index.php LOSES=0
	PHP_FCGI_MAX_REQUESTS=50 start -p / -u "$WEB" -U "$WEB" -n 4 -l 64 \
	    "$(command -v php-cgi)" -d post_max_size=64M
}

cat >"$WWW/index.php" <<'END'
<?php
header('Content-Type: text/plain');
usleep(1000 * (int)($_GET['slow'] ?? 0));
if (isset($_GET['body'])) {
	echo str_repeat('a', (int)$_GET['body']);
	exit;
}
printf("pid %d uid %d\n%s %s\n", getmypid(), posix_getuid(),
    $_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI']);
if (isset($_GET['echo']))
	printf("stdin %d\n", strlen(file_get_contents('php://input')));
END

# What was sent until its end is made to look like a whole answer.
worker_fcgiwrap() {
	PAGE=/cgi LOSES=4
	start -p / -u "$WEB" -U "$WEB" -n 4 -l 64 "$(command -v fcgiwrap)"
}

cat >"$WWW/cgi" <<'END'
#!/usr/bin/perl
$_ = $ENV{QUERY_STRING};
select undef, undef, undef, $1 / 1000 if /slow=(\d+)/;
print "Content-Type: text/plain\r\n\r\n";
if (/body=(\d+)/) {
	print "a" x $1;
	exit;
}
printf "pid %d uid $>\n$ENV{REQUEST_METHOD} $ENV{REQUEST_URI}\n", getppid;
printf "stdin %d\n", read STDIN, $_, $ENV{CONTENT_LENGTH} if /echo/;
END
chmod 755 "$WWW/cgi"

# In the empty jail.
worker_fixed() {
	PAGE=/hello LOSES=0
	start -u "$WEB" -n 4 -l 64 /bin/worker -g
}

worker_variable() {
	PAGE=/hello LOSES=0
	start -u "$WEB" -r -n 4 -N 4 -l 64 /bin/worker
}

# --- what is done with each two of them

asked() {
	_a=$(get "$PAGE?hello")
	_p=$(echo "$_a" | sed -n 's/^pid \([0-9]*\) .*/\1/p')
	matches "$_a" "^GET $PAGE\?hello\$" && workers | grep -qx "$_p"
}

renewed() {
	new_pool 4 $old
}

# began server worker
began() {
	what="$1, $2"
	rm -f "$T"/*/error.log "$T/curl.err"
	ok "$what: kfcgi starts" worker_$2 || return 1
	server_$1
	ok "$what: the server starts" peer_up && return
	peer_diag
	ended
}

ended() {
	peer_stop $PEER
	quit
	is "$?" 0 "$what: kfcgi stops"
	return 1
}

# cell server worker
cell() {
	failed=$NFAILED
	began "$1" "$2" || return
	ok "$what: GET" asked
	like "$(get "$PAGE?echo" --data-binary "@$T/post" \
	    -H 'Content-Type: application/octet-stream')" "^stdin $SIZE( |\$)" \
	    "$what: POST"
	is "$(get "$PAGE?body=$BODY" | wc -c | tr -d ' ')" $BODY \
	    "$what: an answer of 10 MB"
	: >"$T/all"
	load 200 8 "$PAGE?slow=20&"
	is "$(cat "$T/all")" "200 x 200, 200 right" "$what: 200 requests"
	[ "$2" != php ] ||
	    ok "$what: in which workers have left" \
		logged '^kfcgi: worker [0-9]+ exited with status 0'

	# They wait more than they work: the workers shall be busy, not the
	# machine.
	loader "$PAGE?slow=20&" -sS
	waitfor 30 rounds 1
	old=$(workers)
	kill -HUP "$PID"
	ok "$what: SIGHUP: new workers" waitfor 30 renewed
	more
	ok "$what: SIGHUP: at most $LOSES requests were lost: $(lost)" \
	    test "$(lost)" -le $LOSES
	old=$(workers | head -n 1)
	kill -KILL "$old"
	ok "$what: SIGKILL: it was replaced" waitfor 20 renewed
	more
	loader_end
	ok "$what: SIGKILL: at most one more was lost: $(lost)" \
	    test "$(lost)" -le $((LOSES + 1)) || diag "$(cat "$T/all")"
	[ "$NFAILED" -eq "$failed" ] || peer_diag
	ended
}

# nginx with each of the workers, HAProxy with one for each pool.
for s in ${SERVERS:-nginx haproxy}; do
	for w in ${WORKERS:-php fcgiwrap fixed variable}; do
		case $s.$w in
		nginx.*|*.php|*.variable)
			cell $s $w
			;;
		esac
	done
done

done_testing
