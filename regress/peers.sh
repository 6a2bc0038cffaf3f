# The web servers that people put in front of kfcgi.  For the tests that source
# it, after lib.sh.
#
# A server ("peer") runs in the foreground as a job of the test, in a process
# group of its own, listens on the socket $FRONT, and all it writes is below $T.

WWW=$T/www		# programs and pages, as the web server sees them
FRONT=$T/front
PEERS=			# process ids
mkdir "$WWW"

# The user that the web servers become, hence kfcgi's -u.
for WEB in www-data www nobody; do
	id "$WEB" >/dev/null 2>&1 && break
done

# As lib.sh's, but a server with children is to end them itself.
trap 'end_peers; cleanup' EXIT
trap 'end_peers; cleanup; exit 1' INT TERM HUP

end_peers() {
	trap '' INT TERM HUP
	for _peer in $PEERS; do
		peer_stop "$_peer"
	done
}

# need command...: without them there is nothing to be tested
need() {
	for _c; do
		have "$_c" || skip_all "not installed: $_c"
	done
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

# peer_stop pid: ends it
peer_stop() {
	kill -TERM "$1" 2>/dev/null
	if ! waitfor 20 dead "$1"; then
		diag "peer $1 does not end: killed"
		kill -KILL "-$1" 2>/dev/null
	fi
	peer_forget "$1"
}

# Its pid may soon be another process's.
peer_forget() {
	wait "$1" 2>/dev/null
	PEERS=$(echo " $PEERS " | sed "s/ $1 / /")
}

# Some server answers, whatever it has to say.
front_up() {
	[ "$(get / -o /dev/null -w '%{http_code}')" != 000 ]
}

peer_up() {
	waitfor 10 eval 'front_up || dead $PEER' && ! dead $PEER
}

# --- requests.  All programs behind kfcgi are asked as regress/worker is, by
# the query string, and answer as it does.

# get path [curl's options]
get() {
	_path=$1
	shift
	curl -sS -g --max-time 60 --unix-socket "$FRONT" "$@" \
	    "http://localhost$_path" 2>>"$T/curl.err"
}

# load count concurrency path [curl's options]: that many requests, each with a
# number of its own, and a line in $T/all: how often which status, and how many
# answers were to the very request, as "200 x 100, 100 right"
load() {
	rm -rf "$T/got"
	mkdir "$T/got"
	_last=$1
	_max=$2
	_path=$3
	shift 3
	# No -g: the range is for curl to expand.
	curl -sS --parallel --parallel-max "$_max" --max-time 60 \
	    --unix-socket "$FRONT" "$@" -o "$T/got/#1" -w '%{http_code}\n' \
	    "http://localhost${_path}id=[1-$_last]" 2>>"$T/curl.err" |
	    sort | uniq -c |
	    awk '{ printf "%s x %d, ", $2, $1 }' >"$T/codes"
	_right=$(cd "$T/got" && find . -type f | sed 's,^\./,,' | xargs awk '
	    /^(GET|POST) \// { sub(/.*id=/, ""); if ($0 == FILENAME) n++ }
	    END { print n + 0 }' /dev/null)
	echo "$(cat "$T/codes")$_right right" >>"$T/all"
}

# loader path [curl's option]...: load until loader_end, a hundred requests with
# each of the options
loader() {
	rm -f "$T/enough"
	: >"$T/all"
	_to=$1
	shift
	(
		trap 'exit 1' TERM
		while [ ! -e "$T/enough" ]; do
			for _o; do
				load 100 8 "$_to" $_o
			done
		done
	) &
	LOADER=$!
	also_kill $LOADER
	LOADS=$#
}

loader_end() {
	: >"$T/enough"
	waitfor 60 dead $LOADER
	wait $LOADER
}

rounds() {
	[ "$(grep -c . "$T/all")" -ge "$1" ]
}

# more: another hundred requests with each option begin and end
more() {
	waitfor 60 rounds $(($(grep -c . "$T/all") + 2 * LOADS))
}

# lost: how many of the loader's requests had no right answer up to now
lost() {
	awk '{ n += 100 - $(NF - 1) } END { print n + 0 }' "$T/all"
}

# --- nginx

# One nginx is below this directory; for another, set it to another.
NGINX=$T/nginx

# nginx_start: with standard input as the servers of its http block.  It logs
# one status of the upstream in a line: no second try has hidden a loss.
nginx_start() {
	mkdir -p "$NGINX"
	chown "$WEB" "$NGINX"
	{
		cat <<-END
		user $WEB;
		worker_processes 1;
		pid $NGINX/pid;
		error_log $NGINX/error.log error;
		events {
			worker_connections 256;
		}
		http {
			log_format upstream
			    '\$status \$upstream_status \$request';
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
			fastcgi_param SCRIPT_FILENAME
			    $WWW\$fastcgi_script_name;
			fastcgi_param REDIRECT_STATUS 200;
		END
		cat
		echo '}'
	} >"$NGINX.conf"
	peer "${NGINX##*/}" nginx -p "$NGINX" -e "$NGINX/error.log" \
	    -c "$NGINX.conf" -g 'daemon off;'
}
