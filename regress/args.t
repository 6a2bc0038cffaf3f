#!/bin/sh
# The command line: every flag, range and message; nothing is left behind.
. ./lib.sh

# all: every file below $T, and when it was changed
all() {
	find "$T" | perl -MTime::HiRes=lstat -lne '
	    @s = lstat; print "$_ @s[2, 4, 5, 7, 9]"'
}

# bad description pattern options... : one line, status 1, nothing touched
bad() {
	_what=$1
	_pattern=$2
	shift 2
	_before=$(all)
	_err=$("$KFCGI" "$@" 2>&1 </dev/null)
	is "$?" 1 "$_what: status"
	like "$_err" "^kfcgi: $_pattern" "$_what: message"
	is "$(printf '%s\n' "$_err" | wc -l | tr -d ' ')" 1 "$_what: one line"
	is "$(all)" "$_before" "$_what: no file changed"
	is "$(strays)" "" "$_what: no process left"
}

# The rest of a good command line, to be spoilt.
P="-p $JAIL -s $SOCK -U $WHO"

bad "-n 0" "-n 0: number is too small, must be from 1 to 32767$" \
    $P -n 0 /bin/worker
bad "-n 3x" "-n 3x: number is invalid" $P -n 3x /bin/worker
bad "-n beyond its range" "-n 32768: number is too large" \
    $P -n 32768 /bin/worker
bad "-n beyond int" "-n 4294967299: number is too large" \
    $P -n 4294967299 /bin/worker
bad "-N 0" "-N 0: number is too small, must be from 1 to 65534$" \
    $P -N 0 /bin/worker
bad "-r, N < n" "-N 2: must not be below -n, which is 3" \
    $P -r -N 2 /bin/worker
bad "-r, N < given n" "-N 4: must not be below -n, which is 5" \
    $P -r -N 4 -n 5 /bin/worker
bad "-l 0" "-l 0: number is too small, must be from 1 to 2147483647$" \
    $P -l 0 /bin/worker
bad "-w -1" "-w -1: number is too small, must be from 0 to 2147483647$" \
    $P -w -1 /bin/worker
bad "unknown -u" "-u nosuchuser: no such user" $P -u nosuchuser /bin/worker
bad "unknown -U" "-U nosuchuser: no such user" $P -U nosuchuser /bin/worker
bad "-U with an id that nobody has" "-U 3999999999: no such user" \
    $P -U 3999999999 /bin/worker
bad "no jail" "-p $T/none: No such file" \
    -p "$T/none" -s "$SOCK" -U $WHO /bin/worker
echo precious >"$T/file"
bad "jail is a file" "-p $T/file: not a directory" \
    -p "$T/file" -s "$SOCK" -U $WHO /bin/worker
bad "socket path is a file" "$T/file: exists and is not a socket" \
    -p "$JAIL" -s "$T/file" -U $WHO /bin/worker
# The line of getopt(3), which is every system's own, and usage()'s.
usage="usage: kfcgi [-drv] [-l backlog] [-n workers] [-N maxworkers]\
 [-p chroot] [-s sockpath] [-u sockuser] [-U procuser] [-w waittime] prog\
 [arg0...]"
is "$("$KFCGI" $P 2>&1; echo $?)" "$usage
1" "no prog"
for wrong in q n; do
	err=$("$KFCGI" $P -$wrong 2>&1)
	is "$? $(printf '%s\n' "$err" | sed 1d)" "1 $usage" "wrong: -$wrong"
	like "$err" " option .*$wrong" "wrong: -$wrong: getopt(3) says so"
done

# Not root.  A copy, since the tree may not be readable to others.
mkdir "$T/copy" && cp "$KFCGI" "$T/copy/kfcgi" && chmod 755 "$T/copy/kfcgi"
err=$(cd / && as_user "$WHO" "$T/copy/kfcgi" $P /bin/worker 2>&1)
is "$? $err" "1 kfcgi: need root privileges" "not root"

# Parsing stops at prog, at -- at the latest.
ok "options after prog start" start -n 1 /bin/worker -- -r -n 0 --
report=$(fetch report)
args=$(printf '%s\n' "$report" | sed -n 's/^arg [0-9]* //p' | tr '\n' ' ')
is "$args" "/bin/worker -- -r -n 0 -- " "and are prog's"
is "$(nworkers)" 1 "while kfcgi took none of them"
quit

# Unused without -r, but accepted.
start -N 1 -w 0 /bin/worker
is "$(nworkers)" 3 "-N and -w without -r; three workers by default"
quit

# Users by number; jail and prog by relative paths.
u=$(id -u "$WHO") g=$(id -g "$WHO")
cd "$JAIL" || exit 1
for prog in bin/worker /bin/worker; do
	start -p . -u "$u" -U "$u" -n 1 $prog
	report=$(fetch report)
	like "$report" "^uid $u $u $u\$" "-U with a number"
	like "$report" "^root-entries bin" "-p . with $prog"
	is "$(ls -ln "$SOCK" | awk '{ print $3, $4 }')" "$u $g" \
	    "-u with a number"
	unlike "$(cat "$LOG")" "run as root" "no word of root"
	quit
done
cd / || exit 1

# -U root, and no jail.
WHO=root
start -p / -n 1 "$JAIL/bin/worker"
like "$(fetch report)" "^uid 0 0 0\$" "-U root leaves root, -p / the root"
is "$(grep -c 'workers run as root' "$LOG")" 1 "with one warning"
quit
WHO=nobody

# The manager keeps its argv.
start_daemon -n 1 /bin/worker
is "$(ps_of "$PID" args)" \
    "$KFCGI -p $JAIL -s $SOCK -U $WHO -n 1 /bin/worker" \
    "the manager is found by its exact command line"
end_manager

done_testing
