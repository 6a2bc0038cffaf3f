#!/bin/sh
# Past one machine: two hosts, each with nginx and kfcgi, behind HAProxy with
# the configuration that the README has.  The hosts are 127.0.0.1 and
# 127.0.0.2.  One of them has its kfcgi reloaded under load, loses it, and gets
# it back; nobody who only reads notices.  Nor does who writes, if the host is
# drained first, as the README says.
. ./lib.sh
. ./peers.sh
need haproxy nginx curl perl

# A port that is free on both.  Not from the range that the system gives to
# clients, who could take it before we do.
port=$(perl -MSocket -e '
	for (1 .. 1000) {
		my ($port, @s) = (10240 + int rand 20000);
		for (@ARGV) {
			socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
			setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
			bind($s, sockaddr_in($port, inet_aton($_))) or last;
			push @s, $s;
		}
		@s == @ARGV and print("$port\n"), exit;
	}
	exit 1' 127.0.0.1 127.0.0.2) ||
    skip_all "127.0.0.2 is not an address of this system"

# host letter address: its nginx, and its kfcgi
host() {
	NGINX=$T/$1
	nginx_start <<-END
	server {
		listen $2:$port;
		location / {
			fastcgi_pass unix:$T/$1.sock;
		}
	}
	END
	pool "$1"
}

# pool letter: kfcgi of that host, as it was set up
pool() {
	SOCK=$T/$1.sock
	LOG=$T/$1.kfcgi
	start -u "$WEB" -r -n 4 -N 8 -l 64 /bin/worker
	_rv=$?
	PEERS="$PEERS $PID"
	return $_rv
}

ok "host b" host b 127.0.0.2
ok "host a" host a 127.0.0.1

# The README's, but for the addresses.
readme() {
	sed -n "s/^    echo '\(set server hosts\/a state $1\)' | .*/\1/p" \
	    "$REGRESS/../README.md" | grep .
}
ok "the README says how to drain one" eval \
    'drain=$(readme drain) && ready=$(readme ready)'
{
	cat <<-END
	global
	    user $WEB
	    stats socket $T/stats mode 600 level admin
	END
	awk '/^```/ { on = $0 == "```haproxy"; next } on' \
	    "$REGRESS/../README.md" |
	    sed -e "s/192\.0\.2\.\([12]\):80/127.0.0.\1:$port/" \
		-e "s,bind .*:80,bind unix@$FRONT mode 666,"
} >"$T/haproxy.conf"
is "$(grep -c "127.0.0.[12]:$port" "$T/haproxy.conf")" 2 \
    "and has a configuration with two hosts"
peer haproxy haproxy -db -f "$T/haproxy.conf"
ok "HAProxy takes it" peer_up || peer_diag

# haproxy_says command
haproxy_says() {
	perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Peer => shift) or exit 1;
		print $s "@ARGV\n";
		print while <$s>' "$T/stats" "$@"
}

# shows host field value: 18 is UP, DOWN or DRAIN, as HAProxy sees it (or "UP
# 1/2" on the way there), 5 how many requests it has
shows() {
	[ "$(haproxy_says show stat |
	    awk -F, -v h="$1" -v f="$2" '$2 == h { print $f }')" = "$3" ]
}

# served: how many pages host a's nginx delivered that were no health checks
served() {
	grep -Ec '^200 200 (GET|POST) /page' "$T/a/access.log"
}

# serves what: host a does, from now on
serves() {
	n=$(served)
	ok "$1: host a serves" waitfor 30 eval '[ "$(served)" -gt "$n" ]'
}

# refused: how many it had to refuse
refused() {
	grep -Ec '^502 502 (GET|POST) /page' "$T/a/access.log"
}

# results: what has come of the requests since the last time, but all is well
results() {
	grep -vx '200 x 100, 100 right' "$T/all"
	: >"$T/all"
}

# stopped what, started what: kfcgi of host a
stopped() {
	kill -TERM "$PID"
	ok "$1: kfcgi of host a ends" waitfor 30 dead "$PID"
	peer_forget "$PID"
}

started() {
	ok "$1: kfcgi of host a starts" pool a
	[ "$1" != drain ] || haproxy_says "$ready" >/dev/null
	ok "$1: HAProxy notices" waitfor 30 shows a 18 UP
	serves "$1"
}

ok "host a is up" waitfor 20 shows a 18 UP
ok "host b is up" waitfor 20 shows b 18 UP
loader "/page?slow=20&" -sS "-d x"
serves start

# More than once: the load has its pauses.
for i in 1 2; do
	kill -HUP "$PID"
	ok "SIGHUP to kfcgi of host a" waitfor 30 logged '^kfcgi: reloaded:' $i
done
serves SIGHUP
more
is "$(results)" "" "SIGHUP: every GET and POST was answered, rightly"
is "$(refused)" 0 "SIGHUP: and host a's nginx had nothing to refuse"

# A POST is tried once: what the host refuses until HAProxy has noticed is lost.
# No more than that, and no GET.
stopped SIGTERM
ok "SIGTERM: HAProxy notices" waitfor 30 shows a 18 DOWN
more
lost=$(results)
is "$(echo "$lost" | grep -v \
    '^200 x \([0-9]*\), 502 x [0-9]*, \1 right$')" "" \
    "SIGTERM: what is lost is told so, by 502"
ok "SIGTERM: no GET is lost, and no POST but what was refused" \
    test "$(echo "$lost" | sed 's/.* 502 x \([0-9]*\),.*/\1/' |
	awk '{ n += $1 } END { print n + 0 }')" -le "$(grep -Ec \
	'^502 502 POST /page' "$T/a/access.log")"
more
is "$(results)" "" "SIGTERM: nothing is lost when it has noticed"
started SIGTERM

# So the host is drained before, and nothing is lost.
more
results >/dev/null
haproxy_says "$drain" >/dev/null
ok "drain: HAProxy does" waitfor 10 shows a 18 DRAIN
ok "drain: nothing is under way" waitfor 30 shows a 5 0
n=$(refused)
stopped drain
more
is "$(refused)" "$n" "drain: host a's nginx had nothing to refuse"
started drain
more
loader_end
is "$(results)" "" "drain: every GET and POST was answered, rightly"

# What may not be repeated is not: a worker that dies of a POST takes none with
# it.  A GET is tried again, and again.
deaths() {
	cat "$T"/?.kfcgi | grep -c 'killed by signal 9'
}
is "$(get '/page?kill=9' -d x -o /dev/null -w '%{http_code}')" 502 \
    "a POST whose worker dies fails"
waitfor 10 eval '[ "$(deaths)" -gt 0 ]'
is "$(deaths)" 1 "and was tried once"
get '/page?kill=9' -o /dev/null
ok "a GET is tried again" waitfor 10 eval '[ "$(deaths)" -gt 2 ]'

done_testing
