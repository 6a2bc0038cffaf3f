#!/bin/sh
# Past one machine: two hosts, each with nginx and kfcgi, behind HAProxy with
# the configuration that the README has.  The hosts are 127.0.0.1 and
# 127.0.0.2.  One of them loses its kfcgi under load, and gets it back; nobody
# notices.
. ./lib.sh
. ./peers.sh
need haproxy nginx curl perl
port=$(free_port 127.0.0.1 127.0.0.2) ||
    skip_all "127.0.0.2 is not an address of this system"

# host letter address
host() {
	NGINX=$T/$1
	{
		nginx_head
		echo 'http {'
		nginx_http
		cat <<-END
		server {
			listen $2:$port;
			location / {
				fastcgi_pass unix:$T/$1.sock;
			}
		}
		}
		END
	} >"$T/$1.conf"
	nginx_start "$T/$1.conf"
}

# pool letter: kfcgi of that host, as it was set up
pool() {
	SOCK=$T/$1.sock
	LOG=$T/$1.kfcgi
	start -u "$WEB" -r -n 4 -N 8 -l 64 /bin/worker
	_rv=$?
	PEERS="$PEERS $PID"
	eval "pid_$1=$PID"
	return $_rv
}

host a 127.0.0.1
host b 127.0.0.2
ok "kfcgi of host a" pool a
ok "kfcgi of host b" pool b

# The README's, but for the addresses.
awk '/^```/ { on = $0 == "```haproxy"; next } on' "$REGRESS/../README.md" \
    >"$T/readme"
[ -s "$T/readme" ] || cat >"$T/readme" <<'END'
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s

frontend www
    bind :80
    default_backend hosts

backend hosts
    balance leastconn
    option httpchk GET /health
    default-server check inter 1s fall 2 rise 2
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 502
    http-request disable-l7-retry unless METH_GET
    server a 192.0.2.1:80
    server b 192.0.2.2:80
END
{
	cat <<-END
	global
	    user $WEB
	    group $WEBGROUP
	    stats socket $T/stats mode 600 level admin
	END
	sed -e "s/192\.0\.2\.\([12]\):80/127.0.0.\1:$port/" \
	    -e "s,bind .*:80,bind unix@$FRONT mode 666," "$T/readme"
} >"$T/haproxy.conf"
is "$(grep -c "127.0.0.[12]:$port" "$T/haproxy.conf")" 2 \
    "the configuration has two hosts"
ok "HAProxy takes it" haproxy -c -q -f "$T/haproxy.conf"
peer haproxy haproxy -db -f "$T/haproxy.conf"
ok "HAProxy is up" peer_up || peer_diag

# state host: UP or DOWN, as HAProxy sees it (or "UP 1/2" on the way there)
state() {
	perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Peer => shift) or exit 1;
		print $s "show stat\n";
		while (<$s>) {
			my @f = split /,/;
			print "$f[17]\n" if $f[1] eq $ARGV[0];
		}' "$T/stats" "$1"
}

state_is() {
	[ "$(state "$1")" = "$2" ]
}

ok "host a is up" waitfor 20 state_is a UP
ok "host b is up" waitfor 20 state_is b UP

# Load, until it is enough.  Every answer must be the right one.
: >"$T/all"
(
	trap 'exit 1' TERM
	while [ ! -e "$T/enough" ]; do
		load 100 8 "/page?slow=5&"
		echo "$(codes), $(answered) right" >>"$T/all"
	done
) &
loader=$!
also_kill $loader

rounds() {
	[ "$(grep -c . "$T/all")" -ge "$1" ]
}

# more: another hundred requests begin and end
more() {
	waitfor 60 rounds $(($(grep -c . "$T/all") + 2))
}

# served host: how many pages its nginx delivered that were no health checks
served() {
	grep -c '^200 200 GET /page' "$T/$1/access.log"
}

serves() {
	[ "$(served "$1")" -gt "$2" ]
}

ok "both serve" waitfor 20 eval 'serves a 10 && serves b 10'

# out signal host other: that host's kfcgi ends, and comes back
out() {
	eval "pid=\$pid_$2"
	kill "-$1" "$pid"
	ok "SIG$1 to kfcgi of host $2: it ends" waitfor 30 dead "$pid"
	wait "$pid" 2>/dev/null
	peer_forget "$pid"
	ok "SIG$1: HAProxy notices" waitfor 30 state_is "$2" DOWN
	more
	n=$(served "$2")
	more
	is "$(served "$2")" "$n" "SIG$1: host $2 has nothing to do"
	ok "SIG$1: kfcgi of host $2 starts" pool "$2"
	ok "SIG$1: HAProxy notices" waitfor 30 state_is "$2" UP
	ok "SIG$1: host $2 serves again" waitfor 30 serves "$2" "$n"
	ok "SIG$1: host $3 does, too" more
	diag "SIG$1: host $2's nginx had to refuse" \
	    "$(grep -c '^502 502 GET /page' "$T/$2/access.log") requests"
}
out TERM a b
# Workers die with it, in the middle of requests that may be repeated.
out KILL b a

: >"$T/enough"
waitfor 60 dead $loader
wait $loader
KILL=
is "$(sort "$T/all" | uniq -c | sed 's/^ *[0-9]* //')" \
    "200 x 100, 100 right" "every request was answered, rightly"
diag "$(grep -c . "$T/all") times 100 requests"

# What may not be repeated is not: a worker that dies of a POST takes none with
# it.  A GET is tried again, and again.
deaths() {
	cat "$T"/?.kfcgi | grep -c 'killed by signal 9'
}
n=$(deaths)
is "$(get '/page?kill=KILL' -d x -o /dev/null -w '%{http_code}')" 502 \
    "a POST whose worker dies fails"
waitfor 10 eval '[ "$(deaths)" -gt '"$n"' ]'
is "$(deaths)" $((n + 1)) "and was tried once"
get '/page?kill=KILL' -o /dev/null
ok "a GET is tried again" waitfor 10 eval '[ "$(deaths)" -gt '"$((n + 2))"' ]'

done_testing
