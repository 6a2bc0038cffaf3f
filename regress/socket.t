#!/bin/sh
# The socket [C]: its mode and owner at every moment, what may be replaced.
. ./lib.sh

mode() {
	ls -ln "$SOCK" | awk '{ print substr($1, 1, 10), $3, $4 }'
}

u=$(id -u "$WHO") g=$(id -g "$WHO")
for mask in 000 022 077 777; do
	(umask $mask; exec "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" \
	    -U "$WHO" -n 1 /bin/worker)
	PID=$(manager_pid "$SOCK")
	is "$(mode)" "srw-rw---- $u $g" "mode and owner with umask $mask"
	end_manager
done
start_daemon -n 1 /bin/worker
is "$(mode)" "srw-rw---- 0 0" "without -u it is the caller's"
if has_proc; then
	is "$(awk '/^Umask/ { print $2 }' "/proc/$(workers)/status")" 0022 \
	    "the workers have the caller's umask"
else
	skip "no /proc" "the workers have the caller's umask"
fi
end_manager
rm -f "$SOCK"

# Never wider, even for an instant: in which order things are done [C1].
if have strace; then
	strace -f -o "$T/trace" -e trace=umask,bind,chmod,fchmodat,lchown,chown,fchownat,listen \
	    "$KFCGI" -p "$JAIL" -s "$SOCK" -u "$WHO" -U "$WHO" -n 1 /bin/worker &
	also_kill $!
	waitfor 10 grep -qs 'listen(' "$T/trace"
	waitfor 10 some_strays
	PID=$(manager_pid "$SOCK")
	is "$(sed -n 's/^[0-9]* *\(umask(0177)\|bind\|l*chown\|fchown\|fchownat\|chmod\|fchmodat\|listen\).*/\1/p' \
	    "$T/trace" | tr '\n' ' ')" "umask(0177) bind lchown chmod listen " \
	    "narrow mode, then owner, then mode, then clients"
	end_manager
else
	skip "no strace(1)" \
	    "narrow mode, then owner, then mode, then clients"
fi

# What lies at the path [C2].
perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(Type => SOCK_STREAM,
    Local => shift) or die' "$T/stale"
SOCK=$T/stale
start_daemon -n 1 /bin/worker
is "$?" 0 "a socket without an owner is replaced"
end_manager
for type in SOCK_STREAM SOCK_DGRAM; do
	rm -f "$T/foreign"
	perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(
	    Type => '$type', Local => shift,
	    Listen => '$type' == SOCK_STREAM ? 1 : undef) or die;
	    $| = 1; print "ready\n"; alarm 60; if ('$type' == SOCK_STREAM) {
	    $s->accept; print "client\n" } sleep 60' "$T/foreign" >"$T/out" &
	foreign=$!
	also_kill $foreign
	waitfor 10 grep -q ready "$T/out"
	SOCK=$T/foreign
	before=$(ls -li "$SOCK")
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err"
	is "$?" 1 "another server's socket ($type) is refused"
	is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" \
	    "and named"
	is "$(ls -li "$SOCK")" "$before" "and untouched"
	is "$(cat "$T/out")" ready "that server has noticed nothing"
	kill $foreign
	wait $foreign 2>/dev/null
done

# A full backlog is a live server, too.
SOCK=$T/full
start -l 1 -n 1 /bin/worker
perl -MIO::Socket::UNIX -MSocket -e 'for (1 .. 50) {
    socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; $s->blocking(0);
    connect($s, pack_sockaddr_un($ARGV[0])) or last; push @s, $s }
    $| = 1; print "ready\n"; alarm 60; sleep 60' "$SOCK" >"$T/out" &
also_kill $!
waitfor 10 grep -q ready "$T/out"
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err"
is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" \
    "a server whose backlog is full is respected"
quit

# Symbolic links are not followed to be removed.
echo precious >"$T/file"
ln -s "$T/file" "$T/link"
"$KFCGI" -p "$JAIL" -s "$T/link" -U "$WHO" /bin/worker 2>"$T/err"
is "$?" 1 "a symbolic link is refused"
ok "and stays" test -L "$T/link"

done_testing
