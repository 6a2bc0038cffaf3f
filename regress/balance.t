#!/bin/sh
# Past one machine: two hosts, each with nginx and kfcgi, behind HAProxy with
# the configuration that the README has.  The hosts are 127.0.0.1 and
# 127.0.0.2.  One of them has its kfcgi reloaded under load, loses it, and gets
# it back; nobody who only reads notices.  Nor does who writes, if the host is
# drained first, as the README says.
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
ok "the README has it" test -s "$T/readme" || done_testing
drain=$(sed -n "s/^    echo '\(set server .* drain\)' | .*/\1/p" \
    "$REGRESS/../README.md")
ready=$(sed -n "s/^    echo '\(set server .* ready\)' | .*/\1/p" \
    "$REGRESS/../README.md")
is "$drain, $ready" "set server hosts/a state drain, set server hosts/a state ready" \
    "and how to drain one"
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

# haproxy_says command
haproxy_says() {
	perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Peer => shift) or exit 1;
		print $s "@ARGV\n";
		print while <$s>' "$T/stats" "$@"
}

# state host: UP, DOWN or DRAIN, as HAProxy sees it (or "UP 1/2" on the way
# there)
state() {
	haproxy_says show stat | awk -F, -v h="$1" '$2 == h { print $18 }'
}

# under_way host: how many requests it has
under_way() {
	haproxy_says show stat | awk -F, -v h="$1" '$2 == h { print $5 }'
}

state_is() {
	[ "$(state "$1")" = "$2" ]
}

ok "host a is up" waitfor 20 state_is a UP
ok "host b is up" waitfor 20 state_is b UP

# loader options...: load, until it is enough; a hundred requests with each of
# the options.  "200 x 100, 100 right" if all is well.
loader() {
	rm -f "$T/enough"
	: >"$T/all"
	(
		trap 'exit 1' TERM
		while [ ! -e "$T/enough" ]; do
			for o; do
				load 100 8 "/page?slow=20&" $o
				echo "$(codes), $(answered) right" >>"$T/all"
			done
		done
	) &
	loader=$!
	also_kill $loader
}

loader_end() {
	: >"$T/enough"
	waitfor 60 dead $loader
	wait $loader
	KILL=
}

# What has come of the requests in the load, up to now.
results() {
	sort "$T/all" | uniq -c | sed 's/^ *[0-9]* //'
}
FINE="200 x 100, 100 right"
loader -sS

rounds() {
	[ "$(grep -c . "$T/all")" -ge "$1" ]
}

# more: another hundred requests begin and end
more() {
	waitfor 60 rounds $(($(grep -c . "$T/all") + 2))
}

# served host: how many pages its nginx delivered that were no health checks
served() {
	grep -Ec '^200 200 (GET|POST) /page' "$T/$1/access.log"
}

serves() {
	[ "$(served "$1")" -gt "$2" ]
}

ok "both serve" waitfor 20 eval 'serves a 10 && serves b 10'

# refused host: how many its nginx had to refuse
refused() {
	grep -Ec '^502 502 (GET|POST) /page' "$T/$1/access.log"
}

# ends signal host: its kfcgi
ends() {
	eval "pid=\$pid_$2"
	kill "-$1" "$pid"
	ok "SIG$1 to kfcgi of host $2: it ends" waitfor 30 dead "$pid"
	wait "$pid" 2>/dev/null
	peer_forget "$pid"
}

# More than once: the load has its pauses.
LOG=$T/a.kfcgi
for i in 1 2 3 4 5 6; do
	kill -HUP $pid_a
	ok "SIGHUP to kfcgi of host a" waitfor 30 logged '^kfcgi: reloaded:' $i
done
more
n=$(served a)
more
ok "SIGHUP: host a serves" serves a "$n"
is "$(refused a)" 0 "SIGHUP: and its nginx had nothing to refuse"

# out signal host other: that host's kfcgi ends, and comes back
out() {
	ends "$1" "$2"
	ok "SIG$1: HAProxy notices" waitfor 30 state_is "$2" DOWN
	more
	n=$(served "$2")
	more
	is "$(served "$2")" "$n" "SIG$1: host $2 has nothing to do"
	ok "SIG$1: kfcgi of host $2 starts" pool "$2"
	ok "SIG$1: HAProxy notices" waitfor 30 state_is "$2" UP
	ok "SIG$1: host $2 serves again" waitfor 30 serves "$2" "$n"
	ok "SIG$1: host $3 does, too" more
	diag "SIG$1: host $2's nginx had to refuse $(refused "$2") requests"
}
out TERM a b
# Workers die with it, in the middle of requests that may be repeated.
out KILL b a

loader_end
is "$(results)" "$FINE" "every request was answered, rightly"
diag "$(grep -c . "$T/all") times 100 requests"

# The same with POST, which is tried once: what the host refuses until HAProxy
# has noticed is lost.  No more than that.
loader "-d x"
more
ends TERM a
ok "POST: HAProxy notices" waitfor 30 state_is a DOWN
more
n=$(grep -c . "$T/all")
more
is "$(sed 1,${n}d "$T/all" | sort -u)" "$FINE" \
    "POST: none is lost when it has noticed"
is "$(results | grep -v \
    '^200 x \([0-9]*\)\(, 502 x [0-9]*\)*, \1 right$')" "" \
    "POST: what is lost is told so, by 502"
diag "POST: host a's nginx had to refuse $(refused a) requests"
ok "POST: kfcgi of host a starts" pool a
ok "POST: HAProxy notices" waitfor 30 state_is a UP
loader_end

# So the host is drained before, and nothing is lost.
loader -sS "-d x"
n=$(served a)
ok "drain: host a serves" waitfor 30 serves a "$n"
haproxy_says "$drain" >/dev/null
ok "drain: HAProxy does" waitfor 10 state_is a DRAIN
ok "drain: nothing is under way" \
    waitfor 30 eval '[ "$(under_way a)" -eq 0 ]'
n=$(refused a)
ends TERM a
more
ok "drain: kfcgi of host a starts" pool a
haproxy_says "$ready" >/dev/null
ok "drain: HAProxy notices" waitfor 30 state_is a UP
n2=$(served a)
ok "drain: host a serves again" waitfor 30 serves a "$n2"
more
loader_end
is "$(results)" "$FINE" "drain: every GET and POST was answered, rightly"
is "$(refused a)" "$n" "drain: host a's nginx had nothing to refuse"

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
