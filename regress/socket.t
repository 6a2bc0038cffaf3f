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
	    -e 'trace=/^(umask|bind|listen|l?ch(mod|own)|unlink)' \
	    "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" -U "$WHO" -n 1 \
	    /bin/worker &
	also_kill $!
	waitfor 10 eval '! no_strays'
	PID=$(manager_pid "$SOCK")
	is "$(sed -n -e 's/^[0-9]* *umask(0117).*/narrow/p' \
	    -e 's/^[0-9]* *\(bind\|l*ch[mo][ow][dn]\|listen\|unlink\).*/\1/p' \
	    "$T/trace" | head -n 8 | tr '\n' ' ')" \
	    "narrow bind unlink listen narrow bind lchown listen " \
	    "narrow mode, then owner, then clients"
	end_manager
else
	skip "no strace(1)" "narrow mode, then owner, then clients"
fi
rm -f "$SOCK"

# --- What lies at the path.
#
# holder how: a socket at $SOCK, "stale" if nobody has it open, "dead" if it is
# a listener that was shut down but is still held, "dgram", "live" (says
# "client" when it has one), "dying" (ends soon after its first client), "full",
# or "busy": full, and taking a client three times a second.
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
sleep 60 if $how !~ /live|dying|busy/;
for (;;) {
	select(undef, undef, undef, 0.3) if $how eq 'busy';
	$s->accept;
	print "client\n" if $how eq 'live';
	exit select(undef, undef, undef, 0.2) if $how eq 'dying';
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

# BSD has one error for a full backlog and a dead listener; busy gets it, too.
cat >"$T/bsd.c" <<'END'
#define _GNU_SOURCE
#include <sys/socket.h>
#include <dlfcn.h>
#include <errno.h>
int
connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	int	 (*next)(int, const struct sockaddr *, socklen_t), rv;

	*(void **)&next = dlsym(RTLD_NEXT, "connect");
	if ((rv = next(fd, sa, len)) == -1 && errno == EAGAIN)
		errno = ECONNREFUSED;
	return rv;
}
END
$CC -shared -fPIC -o "$T/bsd.so" "$T/bsd.c"

for case in stale dead dying live dgram full busy; do
	bsd=
	[ $case != busy ] || bsd=LD_PRELOAD=$T/bsd.so
	holder $case
	before=$(ls -li "$SOCK")
	env $bsd "$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker \
	    2>"$T/err"
	rv=$?
	PID=$(manager_pid "$SOCK")
	case $case in
	stale|dead|dying)
		is "$rv $(errors)" "0 " "a socket that is $case: replaced"
		like "$(fetch '')" "^pid" "$case: and the new one serves"
		;;
	*)
		is "$rv $(cat "$T/err")" \
		    "1 kfcgi: $SOCK: is in use by a running server" \
		    "a socket that is $case: refused"
		is "$(ls -li "$SOCK")" "$before" "$case: and untouched"
		ok "$case: that server has noticed one client at most" \
		    test "$(grep -c client "$T/held")" -le 1
		;;
	esac
	[ -z "$PID" ] || end_manager
	kill -KILL $HOLDER 2>/dev/null
	wait $HOLDER 2>/dev/null
done
rm -f "$SOCK"

# --- The path and the working directory.
mkdir "$T/d"
cd "$T/d" || exit 1
for s in x ../d/x "$T//d/./x"; do
	SOCK=$s
	start_daemon -n 1 /bin/worker
	is "$? $(ls -A "$T/d")" "0 x" "-s $s: the socket is there, nothing else"
	[ "${s#/}" != "$s" ] || SOCK=$T/d/$s
	like "$(fetch '')" "^pid" "-s $s: and serves"
	! have ss || like "$(ss -xlpH)" " $SOCK .*pid=$PID," "-s $s: seen by ss(8)"
	end_manager
	rm -f "$SOCK"
done

# As long as the system allows: 107 bytes on Linux.
max=$("$KFCGI" -p "$JAIL" -s "$(printf '%0300d' 0)" -U "$WHO" /bin/worker 2>&1 |
    sed -n 's/.*at most \([0-9]*\) bytes$/\1/p')
SOCK=$T/d/$(printf "%0$((max - ${#T} - 3))d" 0)
start_daemon -n 1 /bin/worker
is "$? ${#SOCK}" "0 $max" "a path of $max bytes: starts"
end_manager
rm -f "$SOCK"

# refused path message: and nothing is made
refused() {
	"$KFCGI" -p "$JAIL" -s "$1" -U "$WHO" /bin/worker 2>"$T/err"
	is "$? $(cat "$T/err")" "1 kfcgi: $2" "-s $1: refused"
	is "$(ls -A "$T/d")" "" "-s $1: nothing made"
}
echo precious >"$T/file"
ln -s file "$T/link"
where="cannot reach the directory of socket"
refused "${SOCK}0" \
    "-s ${SOCK}0: path is too long for a socket: $((max + 1)) bytes from the\
 root, at most $max bytes"
refused '' "-s: socket path is empty"
refused /etc "/etc: exists and is not a socket"
refused "$T/link" "$T/link: exists and is not a socket"
refused / "/: exists and is not a socket"
refused x/ "$where x/: $T/d/x: No such file or directory"
refused x/y "$where x/y: $T/d/x: No such file or directory"
refused "$T/file/y" "cannot look at socket $T/file/y: Not a directory"
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

# --- Who may exchange names on the way.
#
# way description owner mode said options...: a start in such a directory says
# that, or makes a socket of that mode and owner, which serves
SOCK=$T/w/sock
way() {
	mkdir -p "$T/w"
	chown "$2" "$T/w"
	chmod "$3" "$T/w"
	_d=$1 _said=$4
	shift 4
	start_daemon "$@" -n 1 /bin/worker
	_got="$(errors)"
	[ -z "$PID" ] || _got="$_got$(mode)$(fetch '' | sed -n '/^pid/!p;q')"
	is "$_got" "$_said" "$_d"
	[ -z "$PID" ] || end_manager
}
OTHER=games
o=$(id -u $OTHER) d=$(id -u daemon) D=$(id -g daemon)
whos="srw-rw---- $u $g"
daemons="srw-rw---- $d $D"
weak="others than root can change $T/w"
theirs="with sockuser's rights, used as $weak: Permission denied"
stranger="kfcgi: -s $SOCK: its directory belongs to user $o, who could let\
 others connect"

way "root's directory" 0 755 "$daemons" -u daemon
way "over another's leftover" 0 755 "$whos" -u "$WHO"
way "sticky, over another's leftover" 0 1777 "srw-rw---- 0 0"
way "a group's: root is no sockuser" "0:$D" 775 \
    "kfcgi: -s $SOCK: $weak, so -u has to name a user who may make the socket"
way "a group's: another's leftover" "0:$D" 775 \
    "kfcgi: cannot connect to socket $SOCK $theirs" -u daemon
rm -f "$SOCK"
way "a group's: one of it is sockuser" "0:$D" 775 "$daemons" -u daemon
way "a group's: over one's own leftover" "0:$D" 775 "$daemons" -u daemon
rm "$SOCK"
way "a stranger's" $OTHER 755 "kfcgi: cannot make socket $SOCK $theirs" \
    -u daemon
way "a stranger's, for all to write" $OTHER 777 "$stranger" -u daemon
is "$(ls -A "$T/w")" "" "and no socket is left there"
way "procuser's, setgid" "$WHO:$D" 2775 "$daemons" -u daemon
rm -f "$SOCK"
way "sockuser's, with another's group" "daemon:$g" 2755 "$daemons" -u daemon
rm -f "$SOCK"

# A default ACL lets in whom the mode does not show.
if have setfacl && setfacl -m u:daemon:rwx "$T/w" 2>/dev/null; then
	setfacl -d -m u:$OTHER:rw,u:"$WHO":rw "$T/w"
	way "a stranger's default ACL" $OTHER 775 "$stranger" -u daemon
	setfacl -b -d -m g::r-x "$T/w"
	way "a default ACL of root's that narrows" 0 755 "$daemons" -u daemon
else
	skip "no setfacl(1)" "a stranger's default ACL" \
	    "a default ACL of root's that narrows"
fi
rm -rf "$T/w"

# What a container may leave to root.
if have setpriv; then
	KFCGI_REAL=$KFCGI KFCGI=$T/few
	printf '#!/bin/sh\nexec setpriv --bounding-set=%s%s %s "$@"\n' -all, \
	    +chown,+setuid,+setgid,+sys_chroot,+kill "$KFCGI_REAL" >"$KFCGI"
	chmod 755 "$KFCGI"
	way "few capabilities" 0 755 "$whos" -u "$WHO"
	way "few capabilities, over the leftover" 0 755 "$whos" -u "$WHO"
	KFCGI=$KFCGI_REAL
	unset KFCGI_REAL
else
	skip "no setpriv(1)" "few capabilities, over the leftover"
fi

# Symbolic links: root's are followed, and count for what they lead through.
mkdir "$T/root" "$T/theirs"
chown "$WHO" "$T/theirs"
ln -s root "$T/rootway"
ln -s "$T/root" "$T/theirs/way"
ln -s "$T/theirs/way" "$T/rootstheirs"
ln -s "$T/root" "$T/theirlink"
chown -h "$WHO" "$T/theirlink"
ln -s loop "$T/loop"
ln -s ../root "$T/root/way"
ln -s "$T/root/way" "$T/rootway2"
for way in theirs/way theirs/way/../root rootstheirs theirlink; do
	SOCK=$T/$way/sock
	start_daemon /bin/worker
	like "$? $(errors)" "^1 .* can change $T/their[a-z]*, so -u" \
	    "$way: refused to root" || also_kill "$PID"
	start_daemon -u daemon /bin/worker
	like "$? $(errors)" "^1 .* change $T/their[a-z]*: Permission denied$" \
	    "$way: refused to sockuser" || also_kill "$PID"
	is "$(ls -A "$T/root")" way "$way: nothing made where it leads"
done
SOCK=$T/loop/sock
start_daemon /bin/worker
like "$(errors)" "$where .*/loop: .* symbolic links\$" "a loop: refused"
for way in rootway rootway2 root/../root//way/.; do
	SOCK=$T/$way/sock
	start_daemon -n 1 /bin/worker
	like "$? $(errors)$(fetch '')" "^0 pid" "$way: serves"
	end_manager
	rm -f "$T/root/sock"
done

# --- Somebody exchanges names all the time while we start.
#
# The socket is $A/d/sock.  n: anybody may write to d; s: it is sticky, and the
# whole way is root's; d: $A is the attacker's, who exchanges d as well.
A=$T/a V=$T/victim
mkdir "$V"
for f in root daemon; do
	echo precious >"$V/$f"
	chmod 600 "$V/$f"
	chown $f "$V/$f"
done
# attack.pl user what victims...: as that user, until SIGTERM, in the working
# directory, where links has hard links of the victims
cat >"$T/attack.pl" <<'END'
use Socket;
use Time::HiRes 'usleep';
my ($user, $what, @victims) = @ARGV;
my ($ended, $met, $n, $links) = (0, 0, 0, 0);
my ($u, $g) = (getpwnam $user)[2, 3];
$( = $) = "$g $g";
$< = $> = $u;
alarm 100;
$SIG{TERM} = sub { $ended = 1 };

# Puts something else in the place of a socket that was made, or in d where it
# is to be made, since a made one cannot be exchanged.
sub name {
	my $uid = (lstat 'd/sock')[4];
	return unlink 'd/sock' if defined $uid && $uid == $<;
	return if defined $uid xor $what ne 's';
	my ($how, $s) = $n++ % ($what eq 's' ? 2 : 4);
	if ($how == 0) {
		symlink $victims[$n / 4 % 3], 'links/new';
	} elsif ($how == 1) {
		socket($s, AF_UNIX, SOCK_STREAM, 0);
		bind($s, pack_sockaddr_un('links/new'));
	}
	$met += rename $how < 2 ? 'links/new' : 'links/' . $links++, 'd/sock';
	usleep 300;
	unlink 'd/sock', 'links/new';
}

# Another directory is there for a while.
sub directory {
	rename 'd', 'e' or return;
	$met++;
	usleep 300 if mkdir 'd', 0777;
	rename 'd', 'f';
	rename 'e', 'd';
	unlink 'f/sock';
	rmdir 'f';
	usleep 1000;
}

umask 0;
$| = 1;
print "ready\n";
for (my $i = 0; !$ended; $i++) {
	name;
	directory if $what eq 'd' && $i % 50 == 0;
}
print "met $met\n";
END
victims() {
	cat "$V"/*
	# The links' number falls, as he removes those he was given.
	ls -ln "$V" "$JAIL/bin/worker" | awk '{ $2 = ""; print }'
	ls -A "$T"
}
for what in n s d; do
	rm -rf "$A"
	mkdir -p "$A/d" "$A/links"
	perl -e 'link $ARGV[$_ % 2], "$ARGV[2]/$_" for 0 .. 799' "$V/root" \
	    "$V/daemon" "$A/links"
	chown "$WHO" "$A/links"
	chmod 777 "$A/d"
	[ $what != s ] || chmod +t "$A/d"
	[ $what != d ] || chown "$WHO" "$A"
	: >"$T/ready" >"$T/said"
	before=$(victims)
	(cd "$A" && exec perl "$T/attack.pl" "$WHO" $what "$V/root" \
	    "$V/daemon" "$V/x") >"$T/ready" 2>&1 &
	attacker=$!
	also_kill $attacker
	waitfor 10 grep -q ready "$T/ready"
	i=0
	while [ $i -lt 50 ]; do
		"$KFCGI" -p "$JAIL" -s "$A/d/sock" -u daemon -U "$WHO" -n 1 \
		    /bin/none 2>>"$T/said" && echo started >>"$T/said"
		i=$((i + 1))
	done
	kill -TERM $attacker
	wait $attacker
	is "$? $(victims)" "0 $before" "attack $what: nothing outside is touched"
	met=$(sed -n 's/^met //p' "$T/ready")
	ok "attack $what: and has met something: ${met:-0}" \
	    test "${met:-0}" -ge 1
	is "$(grep -c '^kfcgi: ' "$T/said") $(grep -vc '^kfcgi: ' "$T/said")" \
	    "50 0" "attack $what: each start says one line"
done

done_testing
