#!/bin/sh
# The command line: every flag, range and message; nothing is left behind.
. ./lib.sh

# bad description pattern options... : one line, status 1, nothing touched
bad() {
	_what=$1
	_pattern=$2
	shift 2
	_before=$(ls -lR --time-style=full-iso "$T" 2>/dev/null || ls -lRT "$T")
	"$KFCGI" "$@" </dev/null >"/tmp/$$.out" 2>"/tmp/$$.err"
	_status=$?
	_err=$(cat "/tmp/$$.err")
	_after=$(ls -lR --time-style=full-iso "$T" 2>/dev/null || ls -lRT "$T")
	is "$_status" 1 "$_what: status"
	like "$_err" "^kfcgi: $_pattern" "$_what: message"
	is "$(wc -l <"/tmp/$$.err" | tr -d ' ')" 1 "$_what: one line"
	is "$(cat "/tmp/$$.out")" "" "$_what: nothing on standard output"
	is "$_after" "$_before" "$_what: no file changed"
	is "$(strays)" "" "$_what: no process left"
	rm -f "/tmp/$$.out" "/tmp/$$.err"
}

# sane options... : the rest of a good command line, to be spoilt
P="-p $JAIL -s $SOCK -U $WHO"

bad "-n 0" "-n 0: number is too small, must be from 1 " $P -n 0 /bin/worker
bad "-n -1" "-n -1: number is too small" $P -n -1 /bin/worker
bad "-n 3x" "-n 3x: number is invalid" $P -n 3x /bin/worker
bad "-n with nothing" "-n : number is invalid" $P -n '' /bin/worker
bad "-n beyond int" "-n 4294967299: number is too large" \
    $P -n 4294967299 /bin/worker
bad "-n beyond every type" "-n 99999999999999999999999: number is too large" \
    $P -n 99999999999999999999999 /bin/worker
bad "-N 0" "-N 0: number is too small" $P -N 0 /bin/worker
bad "-r, N < n" "-N 2: must not be below -n, which is 3" \
    $P -r -N 2 /bin/worker
bad "-r, N < given n" "-N 4: must not be below -n, which is 5" \
    $P -r -N 4 -n 5 /bin/worker
bad "-l 0" "-l 0: number is too small" $P -l 0 /bin/worker
bad "-w soon" "-w soon: number is invalid" $P -w soon /bin/worker
bad "-w -1" "-w -1: number is too small, must be from 0 " $P -w -1 /bin/worker
bad "unknown -u" "-u nosuchuser: no such user" $P -u nosuchuser /bin/worker
bad "unknown -U" "-U nosuchuser: no such user" $P -U nosuchuser /bin/worker
bad "-U with an id that nobody has" "-U 3999999999: no such user" \
    $P -U 3999999999 /bin/worker
bad "-U with a number beyond ids" "-U 99999999999: no such user" \
    $P -U 99999999999 /bin/worker
bad "no jail" "-p $T/none: No such file" \
    -p "$T/none" -s "$SOCK" -U $WHO /bin/worker
echo precious >"$T/file"
bad "jail is a file" "-p $T/file: not a directory" \
    -p "$T/file" -s "$SOCK" -U $WHO /bin/worker
bad "socket path is a file" "$T/file: exists and is not a socket" \
    -p "$JAIL" -s "$T/file" -U $WHO /bin/worker
is "$(cat "$T/file")" precious "the file is whole"
bad "socket path is a directory" "$JAIL: exists and is not a socket" \
    -p "$JAIL" -s "$JAIL" -U $WHO /bin/worker
long=$(printf '%0120d' 0)
bad "socket path too long" "-s $T/$long: path is too long" \
    -p "$JAIL" -s "$T/$long" -U $WHO /bin/worker
bad "no socket directory" \
    "cannot open the directory of socket $T/none/sock: No such file" \
    -p "$JAIL" -s "$T/none/sock" -U $WHO /bin/worker
bad "empty socket path" "-s: socket path is empty" \
    -p "$JAIL" -s '' -U $WHO /bin/worker
bad "no prog" "no prog given; usage: kfcgi .*prog" $P
bad "unknown flag" "-q: unknown option; usage: kfcgi" $P -q /bin/worker
bad "no value" "-n: needs a value; usage: kfcgi" $P -n

usage=$("$KFCGI" 2>&1)
for flag in '-drv' '-l backlog' '-n workers' '-N maxworkers' '-p chroot' \
    '-s sockpath' '-u sockuser' '-U procuser' '-w waittime'; do
	like "$usage" "\\[$flag\\]" "usage names $flag"
done

# Not root.  A copy, since the tree may not be readable to others.
mkdir "$T/copy" && cp "$KFCGI" "$T/copy/kfcgi" && chmod 755 "$T/copy/kfcgi"
err=$(cd / && as_user "$WHO" "$T/copy/kfcgi" $P /bin/worker 2>&1)
is "$?" 1 "not root: status"
is "$err" "kfcgi: need root privileges" "not root: message"

# Parsing stops at prog, at -- at the latest.
ok "options after prog start" start -n 1 /bin/worker -- -r -n 0 --
report=$(fetch report)
args=$(printf '%s\n' "$report" | sed -n 's/^arg [0-9]* //p' | tr '\n' ' ')
is "$args" "/bin/worker -- -r -n 0 -- " "and are prog's"
has_workers 1
is "$?" 0 "while kfcgi took none of them"
quit
is "$?" 0 "status after SIGTERM"

# Unused without -r, but accepted; users by number.
start -N 1 -w 0 /bin/worker
is "$?" 0 "-N and -w without -r"
is "$(nworkers)" 3 "three workers by default"
like "$(fetch '')" "uid $(id -u "$WHO")" "which serve as -U says"
quit
u=$(id -u "$WHO") g=$(id -g "$WHO")
start -u "$u" -U "$u" -n 1 /bin/worker
like "$(fetch report)" "^uid $u $u $u\$" "-U with a number"
is "$(ls -ln "$SOCK" | awk '{ print $3, $4 }')" "$u $g" "-u with a number"
unlike "$(cat "$LOG")" "run as root" "no word of root"
quit

# No -U, or -U root.
WHO=root
start -n 1 /bin/worker
like "$(fetch report)" "^uid 0 0 0\$" "-U root leaves root"
is "$(grep -c 'workers run as root' "$LOG")" 1 "with one warning"
quit
WHO=nobody

# Where jail, socket and prog are looked for.
cd "$T" || exit 1
SOCK=rel.sock
start -n 1 /bin/worker
like "$(client -q '')" "^pid" "relative socket path"
quit
cd "$JAIL" || exit 1
for prog in bin/worker ./bin/worker /bin/worker; do
	start -p . -s ../dot.sock -n 1 "$prog"
	like "$("$REGRESS/client" -s ../dot.sock -q report)" \
	    "^root-entries bin" "-p . with $prog"
	quit
done
SOCK=$T/sock
start -p / -n 1 "$JAIL/bin/worker"
like "$(fetch '')" "^pid" "-p /"
quit

# The manager keeps its argv.
start_daemon -n 1 /bin/worker
is "$(ps_of "$PID" args)" \
    "$KFCGI -p $JAIL -s $SOCK -U $WHO -n 1 /bin/worker" \
    "the manager is found by its exact command line"
end_manager

done_testing
