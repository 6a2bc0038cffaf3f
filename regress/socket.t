#!/bin/sh
# The socket: its mode and owner at every moment, what may be replaced.
. ./lib.sh

mode() {
	ls -ln "$SOCK" | awk '{ print substr($1, 1, 10), $3, $4 }'
}

u=$(id -u "$WHO") g=$(id -g "$WHO")
for mask in 000 077 777; do
	(umask $mask; exec "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" \
	    -U "$WHO" -n 1 /bin/worker)
	PID=$(manager_pid "$SOCK")
	is "$(mode)" "srw-rw---- $u $g" "mode and owner with umask $mask"
	end_manager
done
start_daemon -n 1 /bin/worker
is "$(mode)" "srw-rw---- 0 0" "without -u it is the caller's"
end_manager
rm -f "$SOCK"

# Never wider, even for an instant: in which order things are done.  The first
# socket is the trial's: it has no name any more when it listens, so that nobody
# can connect to it.
if have strace; then
	strace -f -o "$T/trace" \
	    -e 'trace=/^(umask|bind|listen|.*ch(mod|own)|unlink|rename)' \
	    "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" -U "$WHO" -n 1 \
	    /bin/worker &
	also_kill $!
	waitfor 10 eval '! no_strays'
	PID=$(manager_pid "$SOCK")
	is "$(sed -n -e '/REMOVEDIR/q' -e 's/^[0-9]* *umask(0117).*/narrow/p' \
	    -e 's/^[0-9]* *\(bind\|[lf]*ch[mo][ow][dn]\|listen\).*/\1/p' \
	    -e 's/^[0-9]* *\(unlink\|rename\).*/\1/p' \
	    "$T/trace" | tr '\n' ' ')" \
	    "narrow bind unlink listen narrow bind fchown listen rename " \
	    "narrow mode, then owner, then clients, and its place at last"
	end_manager
else
	skip "no strace(1)" \
	    "narrow mode, then owner, then clients, and its place at last"
fi
rm -f "$SOCK"

# --- What lies at the path.
#
# holder how: a socket at $SOCK, "stale" if nobody has it open, "dead" if it is
# a listener that was shut down but is still held, "dgram", "live" (says
# "client" when it has one), "full", or "busy": full, and taking a client three
# times a second.
cat >"$T/holder.pl" <<'END'
use IO::Socket::UNIX;
use Socket;
my ($path, $how) = @ARGV;
alarm 60;
$| = 1;
my $s = IO::Socket::UNIX->new(Local => $path, $how eq 'dgram' ?
    (Type => SOCK_DGRAM) : (Type => SOCK_STREAM, Listen => 1)) or die;
shutdown $s, 2 if $how eq 'dead';
my @clients;
for (1 .. ($how =~ /full|busy/ ? 20 : 0)) {
	socket(my $c, AF_UNIX, SOCK_STREAM, 0) or die;
	$c->blocking(0);
	connect($c, pack_sockaddr_un($path)) or last;
	push @clients, $c;
}
print "ready\n";
exit if $how eq 'stale';
sleep 60 if $how !~ /live|busy/;
for (;;) {
	select(undef, undef, undef, 0.3) if $how eq 'busy';
	$s->accept;
	print "client\n" if $how eq 'live';
}
END
holder() {
	rm -f "$SOCK"
	: >"$T/held"
	perl "$T/holder.pl" "$SOCK" "$1" >"$T/held" &
	HOLDER=$!
	also_kill $HOLDER
	waitfor 10 grep -q ready "$T/held"
	[ "$1" != stale ] || wait $HOLDER
}

# A system that looks at the asking socket first and has one error for a full
# backlog and a dead listener, as the BSDs: EISCONN and ECONNREFUSED.
cat >"$T/bsd.c" <<'END'
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <errno.h>
#include <unistd.h>
int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage ss;
	socklen_t sslen = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &sslen) == 0) {
		errno = EISCONN;
		return -1;
	}
	if (syscall(SYS_connect, fd, sa, len) == 0)
		return 0;
	if (errno == EAGAIN)
		errno = ECONNREFUSED;
	return -1;
}
END
$CC -shared -fPIC -D_GNU_SOURCE -o "$T/bsd.so" "$T/bsd.c"

for case in stale dead 'dead bsd' live 'live bsd' dgram full 'busy bsd'; do
	bsd=
	[ "$case" = "${case% bsd}" ] || bsd=LD_PRELOAD=$T/bsd.so
	holder ${case% bsd}
	before=$(ls -li "$SOCK")
	env $bsd "$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker \
	    2>"$T/err"
	rv=$?
	PID=$(manager_pid "$SOCK")
	case $case in
	stale|dead*)
		is "$rv $(errors)" "0 " "a socket that is $case: replaced"
		like "$(fetch '')" "^pid" "$case: and the new one serves"
		;;
	*)
		is "$rv $(cat "$T/err")" \
		    "1 kfcgi: $SOCK: is in use by a running server" \
		    "a socket that is $case: refused"
		is "$(ls -li "$SOCK")" "$before" "$case: and untouched"
		[ -n "$bsd" ] || is "$(cat "$T/held")" ready \
		    "$case: that server has noticed nothing"
		;;
	esac
	[ -z "$PID" ] || end_manager
	kill -KILL $HOLDER 2>/dev/null
	wait $HOLDER 2>/dev/null
done
rm -f "$SOCK"

# A worker's job that has the listener, for real: clients are told that nobody
# listens, and the next start does not mind.
start_daemon -n 1 -p / "$(command -v perl)" -MPOSIX -e 'alarm 60;
    if (fork == 0) { setsid; alarm 60; print "job $$\n"; } sleep 60 while 1'
ok "a worker that leaves a job behind" waitfor 10 eval '
    job=$(children "$(workers)"); [ -n "$job" ]'
also_kill $job
quit
ok "the job is there when the pool has gone" alive "$job"
is "$(fetch '')" "refused" "and nobody listens"
start_daemon -n 1 /bin/worker
is "$? $(errors)" "0 " "the next start does not mind"
like "$(fetch '')" "^pid" "and serves"
end_manager
kill -KILL $job
rm -f "$SOCK"

# --- The path and the working directory.
mkdir "$T/d"
cd "$T/d" || exit 1
for s in x ../d/x "$T//d/./x"; do
	SOCK=$s
	start_daemon -n 1 /bin/worker
	is "$? $(ls -A "$T/d")" "0 x" "-s $s: the socket is there, nothing else"
	like "$(cd "$T/d" && client -q '')" "^pid" "-s $s: and serves"
	end_manager
	rm -f "$T/d/x"
done

# As long as the system allows: 107 bytes on Linux.
max=$("$KFCGI" -p "$JAIL" -s "$(printf '%0300d' 0)" -U "$WHO" /bin/worker 2>&1 |
    sed -n 's/.*at most \([0-9]*\) bytes$/\1/p')
SOCK=$T/d/$(printf "%0$((max - ${#T} - 3))d" 0)
start_daemon -n 1 /bin/worker
is "$? ${#SOCK}" "0 $max" "a path of $max bytes: starts"
like "$(fetch '')" "^pid" "and serves"
end_manager
rm -f "$SOCK"

# refused path message: and nothing is made
refused() {
	"$KFCGI" -p "$JAIL" -s "$1" -U "$WHO" /bin/worker 2>"$T/err"
	is "$? $(cat "$T/err")" "1 kfcgi: $2" "-s $1: refused"
	is "$(ls -A "$T/d")" "" "-s $1: nothing made"
}
echo precious >"$T/file"
ln -s "$T/file" "$T/link"
where="cannot open the directory of socket"
slash="ends in a slash, so it is no socket's path"
refused "${SOCK}0" \
    "-s ${SOCK}0: path is too long for a socket, at most $max bytes"
refused '' "-s: socket path is empty"
refused . ".: exists and is not a socket"
refused /etc "/etc: exists and is not a socket"
refused "$T/link" "$T/link: exists and is not a socket"
refused / "-s /: $slash"
refused x/ "-s x/: $slash"
refused x/y "$where x/y: No such file or directory"
refused "$T/file/y" "$where $T/file/y: Not a directory"
ok "a symbolic link stays" test -L "$T/link"
cd / || exit 1

# That a start fails at each call on the way, and leaves nothing then, is in
# messages.t; here, that what has taken the socket's place meanwhile stays.
SOCK=$T/d/x
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker -s 500 -S 11 2>"$T/err" &
start=$!
waitfor 10 test -S "$SOCK"
rm "$SOCK"
echo precious >"$SOCK"
wait $start
is "$? $(cat "$SOCK")" "1 precious" "a failed start removes its own socket only"

# --- A directory that belongs to somebody else, who does all that can be done
# there while we start.  $A/d is the socket's directory; $A is that user's, too.
A=$T/a
V=$T/victim
mkdir -p "$A/d" "$A/links" "$V/dir/empty" "$V/dir/full"
echo precious >"$V/file"
chmod 600 "$V/file"
chmod 700 "$V/dir"
echo precious >"$V/dir/full/sock"
perl -e 'link $ARGV[0], "$ARGV[1]/$_" for 0 .. 399' "$V/file" "$A/links"
chown "$WHO" "$A" "$A/d" "$A/links"
# attack.pl what victim-file victim-directory: until SIGTERM, in the working
# directory
cat >"$T/attack.pl" <<'END'
use Socket;
use Time::HiRes 'usleep';
my ($what, $victim, $victimdir) = @ARGV;
my ($ended, $met, $n, $links) = (0, 0, 0, 0);
alarm 100;
$SIG{TERM} = sub { $ended = 1 };

# The socket's name: has root made one?  Puts something else there.
sub name {
	my ($uid) = (lstat 'd/sock')[4] // return;
	return unlink 'd/sock' if !-S _ || $uid == $<;
	$met++;
	my ($how, $s) = $n++ % 4;
	if ($how == 0) {
		symlink $victim, 'new';
	} elsif ($how == 1) {
		unlink 'new';
		socket($s, AF_UNIX, SOCK_STREAM, 0);
		bind($s, pack_sockaddr_un('new'));
	}
	rename $how < 2 ? 'new' : 'links/' . $links++, 'd/sock';
	usleep 300;
	unlink 'd/sock';
}

# The private directory: renames it away, puts another there.
sub private {
	opendir my $d, 'd' or return;
	for (map { "d/$_" } grep { /^\.kfcgi\./ } readdir $d) {
		rename $_, "d/away.$n" or next;
		$met++;
		my $how = $n++ % 4;
		symlink "$victimdir/" . ($n & 4 ? 'full' : 'empty'), $_
		    if $how == 0;
		mkdir $_, 0700 if $how == 1;
		mkdir $_, 0777 and symlink '/none', "$_/sock" if $how == 2;
		usleep 300;
		unlink $_;
	}
}

# The directory itself: another is there for a while.
sub directory {
	rename 'd', 'e' or return;
	$met++;
	usleep 300 if mkdir 'd', 0755;
	rename 'd', 'f';
	rename 'e', 'd';
	unlink 'f/sock';
	rmdir 'f';
	usleep 1000;
}

$| = 1;
print "ready\n";
for (my $i = 0; !$ended; $i++) {
	name if $what =~ /n/;
	private if $what =~ /p/;
	directory if $what =~ /d/ && $i % 50 == 0;
}
print "met $met\n";
END
victims() {
	cat "$V/file" "$V/dir/full/sock"
	# The links' number falls, as he removes those he was given.
	find "$V" | sort | perl -lne '@s = lstat; print "$_ @s[2, 4, 5, 7, 9]"'
	ls -ld "$T/file" "$JAIL" "$JAIL/bin" "$JAIL/bin/worker"
	ls -A "$T"
}
SOCK=$A/d/sock
for what in n p d npd; do
	: >"$T/ready"
	: >"$T/said"
	before=$(victims)
	# Not as_user, as $! is to be that process.
	perl -e '($u, $g) = (getpwnam(shift))[2, 3]; chdir shift or die;
	    $( = $) = "$g $g"; $< = $> = $u; exec "perl", @ARGV or die' "$WHO" \
	    "$A" "$T/attack.pl" $what "$V/file" "$V/dir" >"$T/ready" 2>&1 &
	attacker=$!
	also_kill $attacker
	waitfor 10 grep -q ready "$T/ready"
	i=0
	while [ $i -lt 50 ]; do
		"$KFCGI" -p "$JAIL" -s "$SOCK" -u daemon -U "$WHO" -n 1 \
		    /bin/none 2>>"$T/said" && echo started >>"$T/said"
		i=$((i + 1))
	done
	kill -TERM $attacker
	wait $attacker
	is "$?" 0 "attack $what: the attacker was at it to the end"
	is "$(victims)" "$before" "attack $what: nothing outside is touched"
	met=$(sed -n 's/^met //p' "$T/ready")
	ok "attack $what: and has met something: ${met:-0}" \
	    test "${met:-0}" -ge 1
	is "$(grep -c '^kfcgi: ' "$T/said") $(grep -vc '^kfcgi: ' "$T/said")" \
	    "50 0" "attack $what: each start says one line"
	diag "$(sed -e "s/\.kfcgi\.[0-9a-f]*/.../" "$T/said" | sort | uniq -c)"
	rm -rf "$A/d" "$A/e" "$A/f"
	mkdir "$A/d"
	chown "$WHO" "$A/d"
done
start_daemon -u "$WHO" -n 1 /bin/worker
is "$? $(mode)" "0 srw-rw---- $u $g" "and when they have gone, it starts"
is "$(ls -A "$A/d")" sock "with nothing but the socket there"
end_manager

# Symbolic links on the way to the socket: root's are followed, others' are not.
mkdir "$T/root" "$T/theirs"
chown "$WHO" "$T/theirs"
ln -s root "$T/rootway"
ln -s "$T/root" "$T/theirs/way"
is "$("$KFCGI" -p "$JAIL" -s "$T/theirs/way/sock" -U "$WHO" /bin/worker 2>&1)" \
    "kfcgi: -s $T/theirs/way/sock: way is a symbolic link where others than\
 root may make one" \
    "a link that somebody else made is refused"
is "$(ls -A "$T/root")" "" "and nothing is made where it points"
ln -s "$T/theirs/way" "$T/rootstheirs"
like "$("$KFCGI" -p "$JAIL" -s "$T/rootstheirs/sock" -U "$WHO" /bin/worker \
    2>&1)" 'way is a symbolic link' "nor is it by way of a link of root's"
is "$(ls -A "$T/root")" "" "and nothing is made there, either"
ln -s loop "$T/loop"
like "$("$KFCGI" -p "$JAIL" -s "$T/loop/sock" -U "$WHO" /bin/worker 2>&1)" \
    '^kfcgi: cannot open the directory of .* symbolic links$' "nor a loop"
ln -s ../root "$T/root/way"
ln -s "$T/root/way" "$T/rootway2"
SOCK=$T/rootway2/sock
start_daemon -n 1 /bin/worker
is "$?" 0 "a relative link behind an absolute one is followed"
end_manager
SOCK=$T/rootway/sock
start_daemon -n 1 /bin/worker
is "$?" 0 "a link that root made is followed"
like "$(fetch '')" '^pid' "and the pool serves"
end_manager

done_testing
