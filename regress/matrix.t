#!/bin/sh
# Every web server in front of every kind of worker, with kfcgi in between.
#
# server_NAME writes a configuration that passes everything to $SOCK, and what
# is below /keep with connections that are kept (KEEPS=1, if it can do that),
# and starts the server.  worker_NAME starts kfcgi with a worker, $PAGE is what
# to ask for.  cell does the same to any two of them.
: "${TEST_ALARM:=1200}"
. ./lib.sh
. ./peers.sh
need nginx php-cgi lighttpd apache2 haproxy fcgiwrap curl perl
perl -MFCGI -MCGI::Fast -e 1 2>/dev/null ||
    skip_all "not installed: FCGI or CGI::Fast for perl"

POST=500000
BODY=10000000
noise $POST >"$T/post"
pattern $BODY >"$T/body"
SUM=$(fnv <"$T/post")

# --- web servers

server_nginx() {
	KEEPS=1
	RAW=/raw
	{
		nginx_head
		echo 'http {'
		nginx_http
		cat <<-END
		upstream keep {
			server unix:$SOCK;
			keepalive 1;
		}
		server {
			listen unix:$FRONT;
			location / {
				fastcgi_pass unix:$SOCK;
			}
			location /keep/ {
				rewrite ^/keep(.*) \$1 break;
				fastcgi_keep_conn on;
				fastcgi_pass keep;
			}
			location /raw/ {
				rewrite ^/raw(.*) \$1 break;
				fastcgi_request_buffering off;
				fastcgi_pass unix:$SOCK;
			}
		}
		}
		END
	} | sed 's/^worker_processes.*/worker_processes 1;/' >"$T/nginx.conf"
	nginx_start "$T/nginx.conf"
}

# It opens a connection for each request, always, and never asks twice: it says
# "reconnecting" if it could not connect, or had not yet sent a byte; once it
# has, the request fails (500).  So nothing of what a worker's death may cost is
# hidden by it.
server_lighttpd() {
	KEEPS=0
	RAW=
	cat >"$T/lighttpd.conf" <<-END
	server.modules = ( "mod_fastcgi" )
	server.document-root = "$WWW"
	server.bind = "$FRONT"
	server.username = "$WEB"
	server.groupname = "$WEBGROUP"
	server.errorlog = "$T/lighttpd/error.log"
	server.upload-dirs = ( "$T/lighttpd" )
	\$HTTP["query-string"] =~ "raw" {
		server.stream-request-body = 1
	}
	fastcgi.server = ( "/" => ((
		"socket" => "$SOCK",
		"docroot" => "$WWW",
		"check-local" => "disable"
	)) )
	END
	mkdir -p "$T/lighttpd"
	chown "$WEB" "$T/lighttpd"
	peer lighttpd lighttpd -D -f "$T/lighttpd.conf"
}

# It cannot listen on a UNIX socket.
server_apache() {
	KEEPS=1
	RAW=
	port=$(free_port 127.0.0.1)
	VIA=
	URL=http://127.0.0.1:$port
	m=/usr/lib/apache2/modules
	cat >"$T/apache.conf" <<-END
	ServerRoot $T/apache
	DefaultRuntimeDir $T/apache
	PidFile $T/apache/pid
	ErrorLog $T/apache/error.log
	LogLevel error
	ServerName localhost
	Listen 127.0.0.1:$port
	LoadModule mpm_event_module $m/mod_mpm_event.so
	LoadModule authz_core_module $m/mod_authz_core.so
	LoadModule proxy_module $m/mod_proxy.so
	LoadModule proxy_fcgi_module $m/mod_proxy_fcgi.so
	User $WEB
	Group $WEBGROUP
	StartServers 1
	ServerLimit 1
	ThreadsPerChild 25
	MaxRequestWorkers 25
	MinSpareThreads 1
	MaxSpareThreads 25
	ProxyFCGIBackendType GENERIC
	ProxyPass /keep/ "unix:$SOCK|fcgi://keep$WWW/" enablereuse=on max=2 retry=0
	ProxyPass / "unix:$SOCK|fcgi://localhost$WWW/" retry=0
	END
	mkdir -p "$T/apache"
	peer apache apache2 -D FOREGROUND -f "$T/apache.conf"
}

server_haproxy() {
	KEEPS=1
	RAW=
	cat >"$T/haproxy.conf" <<-END
	global
		user $WEB
		group $WEBGROUP
	defaults
		mode http
		retries 0
		timeout connect 10s
		timeout client 60s
		timeout server 60s
	frontend front
		bind unix@$FRONT mode 666
		use_backend keep if { path_beg /keep/ }
		default_backend plain
	backend plain
		use-fcgi-app plain
		server kfcgi unix@$SOCK proto fcgi
	backend keep
		http-request replace-path /keep(/.*) \1
		use-fcgi-app keep
		http-reuse always
		server kfcgi unix@$SOCK proto fcgi
	fcgi-app plain
		docroot $WWW
		no option keep-conn
	fcgi-app keep
		docroot $WWW
		option keep-conn
	END
	peer haproxy haproxy -db -f "$T/haproxy.conf"
}

# --- workers.  GRACE=1: finishes its request when told to go.  N: how many;
# MAX: under load.

worker_php() {
	N=4 MAX=4 EXT=0
	PAGE=/index.php
	GRACE=1
	start -p / -u "$WEB" -U "$WEB" -n $N -l 64 $PHP
}

# In the empty jail, as it is static.
worker_libfcgi() {
	N=4 MAX=4 EXT=0
	PAGE=/libfcgi
	GRACE=1
	start -u "$WEB" -n $N -l 64 /bin/libfcgi
}

worker_fcgi_pl() {
	N=4 MAX=4 EXT=0
	PAGE=/fcgi.pl
	GRACE=1
	start -p / -u "$WEB" -U "$WEB" -n $N -l 64 "$WWW/fcgi.pl"
}

# The few lines of CGI::Fast's manual: SIGTERM ends it wherever it is.
worker_cgi_fast() {
	N=4 MAX=4 EXT=0
	PAGE=/fast.pl
	GRACE=0
	start -p / -u "$WEB" -U "$WEB" -n $N -l 64 "$WWW/fast.pl"
}

# SIGTERM ends fcgiwrap, too, and what was sent until then is made to look like
# a whole answer.
worker_fcgiwrap() {
	N=4 MAX=4 EXT=0
	PAGE=/script.sh
	GRACE=0
	start -p / -u "$WEB" -U "$WEB" -n $N -l 64 "$(command -v fcgiwrap)"
}

worker_fixed() {
	N=4 MAX=4 EXT=0
	PAGE=/hello
	GRACE=1
	start -u "$WEB" -n $N -l 64 /bin/worker -g
}

# The only one that need not do anything for it.
worker_variable() {
	N=4 MAX=4 EXT=1
	PAGE=/hello
	GRACE=1
	start -u "$WEB" -r -n $N -N $N -l 64 /bin/worker
}

# kcgi(3)'s shape, three processes, in a pool that grows.
worker_variable3() {
	PAGE=/hello
	GRACE=1
	N=2 MAX=8 EXT=1
	start -u "$WEB" -r -n $N -N $MAX -w 1 -l 64 /bin/worker -3
}

# The programs.
programs() {
	php_page
	cat >"$T/libfcgi.c" <<'END'
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcgi_stdio.h>
#include <fcgiapp.h>

static void
on_term(int sig)
{
	(void)sig;
	FCGX_ShutdownPending();
}

int
main(void)
{
	struct sigaction sa;
	char		 buf[16384];
	const char	*arg, *query;
	unsigned int	 h;
	long		 i, n, total;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = on_term;
	sigaction(SIGTERM, &sa, NULL);
	while (FCGI_Accept() >= 0) {
		query = getenv("QUERY_STRING");
		if ((arg = strstr(query, "slow=")) != NULL)
			usleep(1000 * atol(arg + 5));
		printf("Content-Type: text/plain\r\n\r\n");
		if ((arg = strstr(query, "body=")) != NULL) {
			n = atol(arg + 5);
			for (i = 0; i < n; i++)
				putchar(i % 64 == 63 ? '\n' : 'a' + i % 26);
			continue;
		}
		printf("pid %d uid %d served 0\n%s %s\n", (int)getpid(),
		    (int)getuid(), getenv("REQUEST_METHOD"),
		    getenv("REQUEST_URI"));
		if (strstr(query, "echo") == NULL)
			continue;
		h = 2166136261U;
		total = 0;
		while ((n = fread(buf, 1, sizeof(buf), stdin)) > 0) {
			total += n;
			for (i = 0; i < n; i++)
				h = (h ^ (unsigned char)buf[i]) * 16777619U;
		}
		printf("stdin %ld %08x\n", total, h);
	}
	return 0;
}
END
	# $CC may be for another system.
	for c in "$CC" cc; do
		$c -O -static -o "$JAIL/bin/libfcgi" "$T/libfcgi.c" -lfcgi \
		    2>"$T/cc.err" && break
	done || skip_all "no libfcgi: $(cat "$T/cc.err")"

	# What the two in perl have in common.
	cat >"$WWW/Answer.pm" <<'END'
package Answer;
sub answer {
	my ($query, $input) = @_;
	select undef, undef, undef, $1 / 1000 if $query =~ /slow=(\d+)/;
	my $a = "Content-Type: text/plain\r\n\r\n";
	if ($query =~ /body=(\d+)/) {
		my $b = join "", map { $_ % 64 == 63 ? "\n" :
		    chr(97 + $_ % 26) } 0 .. 831;
		return $a . $b x ($1 / 832) . substr($b, 0, $1 % 832);
	}
	$a .= "pid $$ uid $> served 0\n" .
	    "$ENV{REQUEST_METHOD} $ENV{REQUEST_URI}\n";
	if ($query =~ /echo/) {
		my $h = 2166136261;
		$h = (($h ^ $_) * 16777619) & 0xffffffff
		    for unpack "C*", $input;
		$a .= sprintf "stdin %d %08x\n", length $input, $h;
	}
	return $a;
}
1;
END
	cat >"$WWW/fcgi.pl" <<END
#!$(command -v perl)
use lib '$WWW';
use Answer;
use FCGI;
my \$stop = 0;
\$SIG{TERM} = sub { \$stop = 1 };
my \$r = FCGI::Request(\\*STDIN, \\*STDOUT, \\*STDERR, \\%ENV, 0,
    FCGI::FAIL_ACCEPT_ON_INTR());
while (!\$stop && \$r->Accept >= 0) {
	my \$in = "";
	1 while read STDIN, \$in, 65536, length \$in;
	print Answer::answer(\$ENV{QUERY_STRING}, \$in);
	\$r->Finish;
}
END
	cat >"$WWW/fast.pl" <<END
#!$(command -v perl)
use lib '$WWW';
use Answer;
use CGI::Fast;
while (my \$q = CGI::Fast->new) {
	print Answer::answer(\$ENV{QUERY_STRING},
	    scalar \$q->param('POSTDATA'));
}
END
	cat >"$WWW/script.sh" <<END
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
case \$QUERY_STRING in
*slow=*)
	ms=\${QUERY_STRING#*slow=}
	ms=00\${ms%%&*}
	sleep "0.\${ms#\${ms%???}}"
esac
case \$QUERY_STRING in
*body=*)
	head -c "\${QUERY_STRING#*body=}" '$T/body'
	exit
esac
echo "pid \$PPID uid ? served 0"
echo "\$REQUEST_METHOD \$REQUEST_URI"
case \$QUERY_STRING in
*echo*)
	exec perl -e 'read STDIN, \$b, \$ENV{CONTENT_LENGTH};
	    \$h = 2166136261;
	    \$h = ((\$h ^ \$_) * 16777619) & 0xffffffff for unpack "C*", \$b;
	    printf "stdin %d %08x\n", length \$b, \$h'
esac
END
	chmod 755 "$WWW"/*.pl "$WWW"/*.sh
}

# --- what is done in each cell

# clean: 200 requests, and nothing else happens.
clean() {
	load 200 8 "$PAGE?" && [ "$(codes)" = "200 x 200" ] &&
	    [ "$(answered)" -eq 200 ]
}

# loads size concurrency path: one round of that many requests after the other,
# until it is enough.  $T/rounds has for each how many had no right answer, how
# many another's, how many there were, and the size.
loads() {
	while [ ! -e "$ENOUGH" ]; do
		load "$@"
		cat "$T/codes" >>"$T/all"
		(cd "$T/got" && awk -v size="$1" '
		    FILENAME == ARGV[1] { n++ }
		    /^GET / {
			sub(/.*id=/, "")
			if ($0 == FILENAME) right++; else confused++
		    }
		    END { print n - right, confused + 0, n + 0, size }' \
		    "$T/codes" $(ls)) >>"$T/rounds"
	done
}
ENOUGH=$T/enough

# Two loads at once: one plain, one over connections that are kept.  They wait
# more than they work: it is the workers that shall be busy, not the machine.
loads_start() {
	rm -rf "$ENOUGH" "$T/all" "$T/keep"
	mkdir "$T/keep"
	: >"$T/rounds"
	: >"$T/keep/rounds"
	loads 40 8 "$PAGE?slow=20&" & l=$!
	if [ $KEEPS -eq 1 ]; then
		(T=$T/keep; loads 20 2 "/keep$PAGE?slow=20&") & l="$l $!"
	fi
	waitfor 30 rounds_are 1 $KEEPS
}

rounds() {
	grep -c . "$T/rounds"
}

rounds_are() {
	[ "$(rounds)" -ge "$1" ] && [ "$(grep -c . "$T/keep/rounds")" -ge "$2" ]
}

# loads_go_on: whole rounds more, so that what was until now was under load
loads_go_on() {
	waitfor 60 rounds_are $(($(rounds) + 2)) \
	    $((KEEPS * ($(grep -c . "$T/keep/rounds") + 2)))
}

loads_end() {
	: >"$ENOUGH"
	wait $l
}

# lost most file: not more requests than that failed up to now, all of them
# ended, and nobody got what was another's
lost() {
	awk -v most="$1" '
	    { lost += $1; confused += $2; if ($3 != $4) odd = 1 }
	    END { exit NR == 0 || odd || confused > 0 || lost > most }' "$2"
}

# lost_ok what most: that test, for the plain requests and the others
lost_ok() {
	ok "$1, what was lost" lost "$2" "$T/rounds" || loads_diag "$T"
	[ $KEEPS -eq 0 ] ||
	    ok "$1, what was lost of kept connections" \
		lost "$3" "$T/keep/rounds" || loads_diag "$T/keep"
}

loads_diag() {
	diag "lost, confused, of:" "$(tr '\n' ';' <"$1/rounds")" \
	    "$(sort "$1/all" | uniq -c | tr '\n' ';')"
}

# fresh: the workers that were not there before the last SIGHUP.  Under load
# there may be more than N.
fresh() {
	workers | grep -vxF "$old"
}

fresh_pool() {
	n=$(fresh | grep -c .)
	[ "$n" -ge $N ] && [ "$n" -le $MAX ]
}

# asked_pid [prefix]: who answers
asked_pid() {
	get "${1-}$PAGE?hello" | sed -n 's/^pid \([0-9]*\) .*/\1/p' | grep .
}

asked() {
	get "$PAGE?hello" | grep -qx "GET $PAGE?hello" &&
	    workers | grep -qx "$(asked_pid)"
}

posted() {
	post "$PAGE?echo" "$T/post" | grep -qx "$SUM"
}

large() {
	get "$PAGE?body=$BODY" | cmp - "$T/body"
}

# Clients that go away: in the middle of an answer, before it, and in the middle
# of an upload (curl's status for "took too long" is 28).
aborted() {
	aborts=
	for i in 1 2; do
		get "$PAGE?body=$BODY" 2>/dev/null | head -c 1000 \
		    >/dev/null & aborts="$aborts $!"
		get "$PAGE?slow=300" --max-time 0.1 >/dev/null &
		aborts="$aborts $!"
	done
	wait $aborts
	aborts=
	for i in 1 2; do
		post "$RAW$PAGE?echo&raw" "$T/post" --limit-rate 100k \
		    --max-time 0.3 >/dev/null & aborts="$aborts $!"
	done
	for p in $aborts; do
		wait $p
		[ $? -eq 28 ] || return 1
	done
	waitfor 10 sockets_are "$1" && waitfor 10 has_workers $N && asked
}

# kept idle: the second of two requests finds the connection of the first, that
# is, the workers have the very same sockets open, and more than idle ones.
# Apache may need more than one go: it opens another connection if it is not
# yet done with the last request when the next one comes.
kept() {
	p=$(asked_pid /keep) && c=$(conns) && q=$(asked_pid /keep) &&
	    [ "$p" = "$q" ] && [ "$(conns)" = "$c" ] &&
	    [ "$(printf '%s\n' "$c" | grep -c .)" -gt "$1" ]
}

# events: SIGHUP and SIGKILL under load.  What a web server does with a kept
# connection that its worker has left is its affair, hence N.  With -r no worker
# leaves one: it is busy until the web server closes it, and replaced before.
events() {
	loads_start
	old=$(workers)
	kill -HUP "$PID"
	ok "$what: SIGHUP" waitfor 20 logged '^kfcgi: reloaded:'
	ok "$what: SIGHUP, new workers" waitfor 30 fresh_pool
	[ "$KEEPS$EXT" = 11 ] ||
	    ok "$what: SIGHUP, the old have left" waitfor 30 all_dead $old
	loads_go_on
	lost_ok "$what: SIGHUP" $((GRACE ? 0 : N)) $((EXT ? 0 : N))

	# One that has a kept connection, then one that may have any.
	k=
	if [ $KEEPS -eq 1 ]; then
		k=$(asked_pid /keep)
		ok "$what: SIGKILL of one that answered" \
		    eval '[ -n "$k" ] && kill -KILL "$k" && waitfor 20 dead "$k"'
	fi
	w=$(fresh | grep -vx "$k" | head -n 1)
	ok "$what: SIGKILL of a new one" \
	    eval '[ -n "$w" ] && kill -KILL "$w" && waitfor 20 dead "$w"'
	ok "$what: SIGKILL, it was replaced" waitfor 20 fresh_pool
	loads_go_on
	loads_end
	lost_ok "$what: SIGKILL" $((1 + KEEPS + (GRACE ? 0 : N))) \
	    $((2 + (EXT ? 0 : N)))
}

# cell server worker
cell() {
	failed=$NFAILED
	rm -f "$T"/*/error.log "$T/curl.err"
	VIA="--unix-socket $FRONT"
	URL=http://localhost
	what="$1, $2"
	if ! ok "$what: kfcgi starts" worker_$2; then
		return
	fi
	server_$1
	if ! ok "$what: the server starts" peer_up; then
		diag "$(cat "$T/$1.log")"
		peer_stop
		quit
		return
	fi
	waitfor 10 has_workers $N
	idle=$(sockets)

	ok "$what: GET" asked
	ok "$what: POST" posted
	ok "$what: an answer of 10 MB" large
	ok "$what: 200 requests" clean || diag "$(codes), $(answered) right"
	[ $MAX -eq $N ] ||
	    ok "$what: for which the pool has grown" \
		logged '^kfcgi: worker [0-9]+ started' $((N + 1))
	ok "$what: nothing is kept open" waitfor 10 sockets_are "$idle"
	ok "$what: clients that abort" aborted "$idle"

	if [ $KEEPS -eq 1 ]; then
		ok "$what: connection kept" waitfor 10 kept "$idle"
	fi
	events
	peer_stop
	ok "$what: no connection outlives the server" \
	    waitfor 10 sockets_are "$idle"
	ok "$what: no worker from before the SIGHUP, either" \
	    waitfor 30 all_dead $old
	quit
	is "$?" 0 "$what: kfcgi stops"
	[ "$NFAILED" -eq "$failed" ] || peer_diag
}

programs
for s in ${SERVERS:-nginx lighttpd apache haproxy}; do
	for w in ${WORKERS:-php libfcgi fcgi_pl cgi_fast fcgiwrap fixed \
	    variable variable3}; do
		cell $s $w
	done
done

done_testing
