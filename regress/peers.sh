# The programs that people put in front of kfcgi and behind it.  For the tests
# that source it, after lib.sh.
#
# A server ("peer") runs in the foreground as a job of the test, in a process
# group of its own, and everything it writes is below $T.  It listens on the
# socket $FRONT where it can, else on a free port of the loopback address;
# $VIA and $URL are what curl(1) needs to get there.

WWW=$T/www		# programs and pages, as the web server sees them
FRONT=$T/front
VIA="--unix-socket $FRONT"
URL=http://localhost
PEERS=			# process ids
mkdir "$WWW"

# The user that the web servers become, hence kfcgi's -u.
for WEB in www-data www nobody; do
	id "$WEB" >/dev/null 2>&1 && break
done
WEBGROUP=$(id -gn "$WEB")

# As lib.sh's, but a server with children is to end them itself.
trap 'end_peers; cleanup' EXIT
trap 'end_peers; cleanup; exit 1' INT TERM HUP

end_peers() {
	trap '' INT TERM HUP
	for _p in $PEERS; do
		kill -TERM "$_p" 2>/dev/null
	done
	for _p in $PEERS; do
		waitfor 5 dead "$_p" ||
		    kill -KILL "-$_p" "$_p" 2>/dev/null
		wait "$_p" 2>/dev/null
	done
	PEERS=
}

# missing command...: those that are not installed
missing() {
	for _c; do
		command -v "$_c" >/dev/null || echo "$_c"
	done
}

# need command...: without them there is nothing to be tested
need() {
	_m=$(missing "$@")
	[ -z "$_m" ] || skip_all "not installed:" $_m
}

# peer name command...: starts a server; $PEER is its pid
peer() {
	_name=$1
	shift
	perl -e 'setpgrp; exec @ARGV or die "$ARGV[0]: $!\n"' -- "$@" \
	    </dev/null >"$T/$_name.log" 2>&1 &
	PEER=$!
	PEERS="$PEERS $PEER"
}

# What the servers and curl had to say.
peer_diag() {
	for _f in "$T"/*.log "$T"/*/error.log; do
		[ -s "$_f" ] && diag "$_f:" && diag "$(tail -n 20 "$_f")"
	done
	diag "$(grep '^curl:' "$T/curl.err")"
}

# peer_stop [pid]: ends it, and its status
peer_stop() {
	_p=${1:-$PEER}
	kill -TERM "$_p" 2>/dev/null
	if ! waitfor 20 dead "$_p"; then
		diag "peer $_p does not end: killed"
		kill -KILL "-$_p" 2>/dev/null
	fi
	wait "$_p" 2>/dev/null
	_rv=$?
	peer_forget "$_p"
	return $_rv
}

# Its pid may soon be another process's.
peer_forget() {
	PEERS=$(echo " $PEERS " | sed "s/ $1 / /")
}

# Some server answers, whatever it has to say.
front_up() {
	[ "$(get / -o /dev/null -w '%{http_code}')" != 000 ]
}

peer_up() {
	waitfor 10 eval 'front_up || dead $PEER' && ! dead $PEER
}

# free_port address...: one that is free on all of them.  Not from the range
# that the system gives to clients, who could take it before we do.
free_port() {
	perl -MSocket -e '
		for (1 .. 1000) {
			my ($port, @s) = (10240 + int rand 20000);
			for (@ARGV) {
				socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
				setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
				bind($s, sockaddr_in($port, inet_aton($_))) or
				    last;
				push @s, $s;
			}
			@s == @ARGV and print("$port\n"), exit;
		}
		exit 1' "$@"
}

# --- requests.  All programs behind kfcgi are asked as regress/worker is, by
# the query string, and answer as it does.

# get path [curl's options]
get() {
	_path=$1
	shift
	curl -sS -g --max-time 60 $VIA "$@" "$URL$_path" 2>>"$T/curl.err"
}

# post path file [curl's options]
post() {
	_post=$2
	_to=$1
	shift 2
	get "$_to" --data-binary "@$_post" \
	    -H "Content-Type: application/octet-stream" "$@"
}

# load count concurrency path [curl's options]: that many requests, each with a
# number of its own.  The status codes are in $T/codes, the answers in $T/got.
load() {
	rm -rf "$T/got"
	mkdir "$T/got"
	_last=$1
	_max=$2
	_path=$3
	shift 3
	# No -g: the range is for curl to expand.
	curl -sS --parallel --parallel-max "$_max" --max-time 60 $VIA "$@" \
	    -o "$T/got/#1" -w '%{http_code}\n' "$URL${_path}id=[1-$_last]" \
	    >"$T/codes" 2>>"$T/curl.err"
}

# The sockets that the workers have open: more than before with a connection.
# A worker may be several processes; it is its process group.
conns() {
	for _p in $(processes pid pgid | awk -v w="$(workers | tr '\n' ' ')" '
	    BEGIN { n = split(w, a, " "); while (n > 0) is[a[n--]] = 1 }
	    $2 in is { print $1 }'); do
		ls -l "/proc/$_p/fd" 2>/dev/null |
		    sed -n "s/.*\(socket:.*\)/$_p \1/p"
	done
}

sockets() {
	conns | grep -c .
}

sockets_are() {
	[ "$(sockets)" -eq "$1" ]
}

# How many answers there were to the very request that was made: it says "GET
# /...id=number", or "POST".
answered() {
	(cd "$T/got" && find . -type f | sed 's,^\./,,' | xargs awk '
	    /^(GET|POST) \// { sub(/.*id=/, ""); if ($0 == FILENAME) n++ }
	    END { print n + 0 }')
}

# codes: how often which status, in a line
codes() {
	sort "$T/codes" | uniq -c | awk '{ printf "%s%s x %d", s, $2, $1;
	    s = ", " } END { print "" }'
}

# pattern bytes: what body=bytes answers
pattern() {
	perl -e '$n = shift;
	    $b = join "", map { $_ % 64 == 63 ? "\n" : chr(97 + $_ % 26) }
		0 .. 831;
	    print $b x ($n / 832), substr($b, 0, $n % 832)' "$1"
}

# noise bytes: something to post
noise() {
	perl -e 'srand 1; $n = shift;
	    print pack("N", rand 2 ** 32) for 1 .. $n / 4' "$1"
}

# fnv <file: its length and checksum as echo tells them
fnv() {
	perl -e '$h = 2166136261; binmode STDIN;
	    while (read STDIN, $b, 65536) {
		$n += length $b;
		$h = (($h ^ $_) * 16777619) & 0xffffffff for unpack "C*", $b;
	    }
	    printf "stdin %d %08x\n", $n, $h'
}

# --- programs

# php_page: $WWW/index.php; $PHP is how to run it
php_page() {
	PHP="$(command -v php-cgi) -d post_max_size=64M -d sys_temp_dir=$T/php"
	mkdir "$T/php"
	chown "$WEB" "$T/php"
	cat >"$WWW/index.php" <<'END'
<?php
header('Content-Type: text/plain');
usleep(1000 * (int)($_GET['slow'] ?? 0));
if (isset($_GET['body'])) {
	for ($i = 0, $b = ''; $i < 832; $i++)
		$b .= $i % 64 == 63 ? "\n" : chr(97 + $i % 26);
	for ($n = (int)$_GET['body']; $n > 0; $n -= 832)
		echo substr($b, 0, $n);
	exit;
}
printf("pid %d uid %d served 0\n%s %s\n", getmypid(), posix_getuid(),
    $_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI']);
if (isset($_GET['echo'])) {
	$h = hash_init('fnv1a32');
	$n = hash_update_stream($h, fopen('php://input', 'r'));
	printf("stdin %d %s\n", $n, hash_final($h));
}
END
}

# --- servers

# One nginx is below this directory; for another, set it to another.
NGINX=$T/nginx

# nginx_head: what every configuration of nginx here begins with
nginx_head() {
	mkdir -p "$NGINX"
	chown "$WEB" "$NGINX"
	cat <<END
user $WEB $WEBGROUP;
worker_processes 2;
pid $NGINX/pid;
error_log $NGINX/error.log error;
events {
	worker_connections 256;
}
END
}

# nginx_http: what every http block here begins with.  One status of the
# upstream in a line: no second try has hidden a loss.
nginx_http() {
	cat <<END
	log_format upstream '\$status \$upstream_status \$request';
	access_log $NGINX/access.log upstream;
	client_body_temp_path $NGINX/body;
	fastcgi_temp_path $NGINX/fastcgi;
	proxy_temp_path $NGINX/proxy;
	scgi_temp_path $NGINX/scgi;
	uwsgi_temp_path $NGINX/uwsgi;
	client_max_body_size 64m;
	fastcgi_next_upstream off;
	fastcgi_read_timeout 30s;
	fastcgi_param REQUEST_METHOD \$request_method;
	fastcgi_param REQUEST_URI \$request_uri;
	fastcgi_param QUERY_STRING \$query_string;
	fastcgi_param CONTENT_TYPE \$content_type;
	fastcgi_param CONTENT_LENGTH \$content_length;
	fastcgi_param SCRIPT_NAME \$fastcgi_script_name;
	fastcgi_param SCRIPT_FILENAME $WWW\$fastcgi_script_name;
	fastcgi_param SERVER_PROTOCOL \$server_protocol;
	fastcgi_param GATEWAY_INTERFACE CGI/1.1;
	fastcgi_param REDIRECT_STATUS 200;
END
}

# nginx_start configuration
nginx_start() {
	peer "${NGINX##*/}" nginx -p "$NGINX" -e "$NGINX/error.log" -c "$1" \
	    -g 'daemon off;'
}
