#!/bin/sh
# The start tells the shell the truth, and disturbs nobody.
. ./lib.sh

# refused description pattern options... : the start fails in both modes,
# says why in one line, and leaves neither process nor socket
refused() {
	_what=$1
	_pattern=$2
	shift 2
	for _mode in "" -d; do
		"$KFCGI" $_mode -p "$JAIL" -s "$SOCK" -U "$WHO" "$@" \
		    </dev/null >"$T/out" 2>"$T/err"
		is "$?" 1 "$_what${_mode:+, $_mode}: status"
		like "$(grep '^kfcgi: ' "$T/err")" "^kfcgi: $_pattern" \
		    "$_what${_mode:+, $_mode}: message"
		is "$(grep -c '^kfcgi: ' "$T/err")" 1 \
		    "$_what${_mode:+, $_mode}: one line"
		is "$(strays)" "" "$_what${_mode:+, $_mode}: no process left"
		fails "$_what${_mode:+, $_mode}: no socket left" \
		    test -e "$SOCK"
	done
}

# A start that works.
start_daemon /bin/worker
is "$?" 0 "status of a good start"
is "$(cat "$T/out"; errors)" "" "which says nothing"
is "$(nworkers)" 3 "and has its workers when the shell returns"
like "$(fetch '')" '^pid' "which answer"
is "$(ps_of "$PID" ppid)" 1 "the manager is a daemon"
like "$(ps_of "$PID" tty)" '^[?-]+$' "without a terminal"
like "$(ps_of "$PID" stat)" s "in a session of its own"
for fd in 0 1 2; do
	ok "its descriptor $fd is /dev/null" is_open "$PID" $fd /dev/null
done
ok "its directory is the jail" is_open "$PID" wd "$JAIL"
ok "which is its root" is_open "$PID" root "$JAIL"

# A second one on the same path; then others that fail.
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err"
is "$?" 1 "a second start fails"
is "$(cat "$T/err")" "kfcgi: $SOCK: is in use by a running server" "and why"
"$KFCGI" -p "$JAIL" -s "$SOCK" -U nosuchuser /bin/worker 2>"$T/err"
is "$?" 1 "so does one with a wrong user"
is "$(client -n 50 -c 4 | head -n 1)" \
    "answered 50 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "the first serves on"
w=$(workers)
is "$(workers)" "$w" "with the same workers"
ok "SIGTERM ends it" kill -TERM "$PID"
ok "and all its workers" waitfor 10 no_strays
ok "the socket stays: the jail cannot reach it" test -S "$SOCK"
PID=
start_daemon -n 1 /bin/worker
is "$?" 0 "a leftover socket is replaced"
end_manager
rm -f "$SOCK"

# Programs that cannot be executed.
refused "prog missing" "cannot execute /bin/none in $JAIL: No such file" \
    /bin/none
cp "$JAIL/bin/worker" "$JAIL/bin/plain" && chmod 644 "$JAIL/bin/plain"
refused "not executable" \
    "cannot execute /bin/plain in $JAIL: Permission denied" /bin/plain
refused "a directory" \
    "cannot execute /bin in $JAIL: Permission denied: it is a directory" /bin
printf '#!/bin/nosh\n' >"$JAIL/bin/script" && chmod 755 "$JAIL/bin/script"
refused "script without its interpreter" \
    "cannot execute /bin/script in $JAIL: No such file.*the file is there,\
 but its interpreter or dynamic loader is missing in the jail" /bin/script
cp "$REGRESS/client" "$JAIL/bin/dynamic"
refused "dynamically linked, in a bare jail" \
    "cannot execute /bin/dynamic in $JAIL: No such file.*the file is there,\
 but its interpreter or dynamic loader is missing in the jail" /bin/dynamic
echo text >"$JAIL/bin/text" && chmod 755 "$JAIL/bin/text"
refused "neither program nor script" \
    "cannot execute /bin/text in $JAIL: Exec format error: neither" /bin/text

# Programs that do not live for the second of their trial; see trial.t, too.
refused "exits at once" "worker [0-9]* of /bin/worker exited with status 3, " \
    /bin/worker -E 3 -e 'database is down'
like "$(cat "$T/err")" "^database is down$" "what it printed reaches the shell"
refused "exits 0 at once" "worker [0-9]* of /bin/worker exited with status 0" \
    /bin/worker -E 0
refused "dies at once" \
    "worker [0-9]* of /bin/worker was killed by signal 11 " /bin/worker -S 11
refused "dies soon" \
    "worker [0-9]* of /bin/worker was killed by signal 6 " \
    /bin/worker -s 10 -S 6
refused "all the same with -r" \
    "worker [0-9]* of /bin/worker exited with status 7" -r /bin/worker -E 7

# A start that fails on a leftover: the leftover is no worse than before.
# An empty jail but for prog: all the above had that.
is "$(ls "$JAIL")" bin "the jail has prog and nothing else"

# Descriptors 0 to 2 closed by the caller.
(
	exec "$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 1 /bin/worker \
	    <&- >&- 2>&-
)
is "$?" 0 "started with descriptors 0 to 2 closed"
PID=$(manager_pid "$SOCK")
like "$(fetch report)" "^fds 0 1 2\$" "workers have them open"
end_manager

# Told to stop while starting: no pool, and the shell knows.
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 300 /bin/worker 2>"$T/err" &
shell=$!
ok "a start under way" waitfor 10 some_strays
kill -TERM $shell
wait $shell
is "$?" 1 "TERM to the starting process: status"
is "$(cat "$T/err")" "kfcgi: was told to stop while starting" "and message"
is "$(strays)" "" "no process left"
fails "no socket left" test -e "$SOCK"

# The starting process killed: nobody would know of the pool.
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 300 /bin/worker 2>"$T/err" &
shell=$!
ok "a start under way" waitfor 10 some_strays
kill -KILL $shell
wait $shell 2>/dev/null
ok "KILL to the starting process ends the start" \
    waitfor 10 no_strays
rm -f "$SOCK"

# Many at once are started at once.
start_daemon -n 100 /bin/worker
is "$?" 0 "a hundred workers"
is "$(nworkers)" 100 "all of them"
end_manager

done_testing
