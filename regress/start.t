#!/bin/sh
# The start tells the shell the truth, and disturbs nobody.  More of that, with
# time, is in trial.t.
. ./lib.sh

# refused description pattern options... : the start fails in both modes, says
# why in one line and leaves no process, and no socket but a dead one with -d,
# when nobody outside the jail is left to remove it
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
		is "$(grep -c '^kfcgi: ' "$T/err") $(strays)" "1 " \
		    "$_what${_mode:+, $_mode}: one line, no process left"
		[ -n "$_mode" ] ||
		    fails "$_what: no socket left" test -e "$SOCK"
	done
}

# A start that works.
start_daemon /bin/worker
is "$?" 0 "status of a good start"
is "$(cat "$T/out"; errors)" "" "which says nothing"
is "$(nworkers)" 3 "and has its workers when the shell returns"
is "$(ps_of "$PID" ppid)" 1 "the manager is a daemon"
like "$(ps_of "$PID" tty)" '^[?-]+$' "without a terminal"
for fd in 0 1 2; do
	ok "its descriptor $fd is /dev/null" is_open "$PID" $fd /dev/null
done
ok "its directory is the jail" is_open "$PID" wd "$JAIL"
ok "which is its root" is_open "$PID" root "$JAIL"

# A second one on the same path.
w=$(workers)
"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" /bin/worker 2>"$T/err"
is "$? $(cat "$T/err")" "1 kfcgi: $SOCK: is in use by a running server" \
    "a second start fails, and why"
is "$(client -n 50 -c 4 | head -n 1)" \
    "$(all 50)" \
    "the first serves on"
is "$(workers)" "$w" "with the same workers"
quit
ok "nobody is left after SIGTERM" no_strays
ok "the socket stays: the jail cannot reach it" test -S "$SOCK"
rm -f "$SOCK"

# Programs that cannot be executed.
cp "$JAIL/bin/worker" "$JAIL/bin/plain" && chmod 644 "$JAIL/bin/plain"
printf '#!/bin/nosh\n' >"$JAIL/bin/script" && chmod 755 "$JAIL/bin/script"
echo text >"$JAIL/bin/text" && chmod 755 "$JAIL/bin/text"
while IFS='|' read -r prog why; do
	refused "$prog" "cannot execute $prog in $JAIL as $WHO: $why$" "$prog"
done <<END
/bin/none|No such file or directory
/bin/plain|Permission denied
/bin|Permission denied
/bin/script|No such file or directory: the file is there, but its interpreter\
 or dynamic loader is missing in the jail
/bin/text|Exec format error
END

# Programs that do not live for the second of their trial.
refused "exits at once" "worker [0-9]* of /bin/worker exited with status 3 after " \
    /bin/worker -E 3 -e 'database is down'
like "$(cat "$T/err")" "^database is down$" "what it printed reaches the shell"
refused "dies soon, with -r" \
    "worker [0-9]* of /bin/worker was killed by signal 11 " \
    -r /bin/worker -s 10 -S 11
start_daemon -p / "$(command -v perl)" -e 'print STDERR "no newline"; exit 3'
is "$(sed '2s/: .*/:/' "$T/err")" "no newline
kfcgi:" "what it printed is a line of its own"
# All the above had that.
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

# Room for n workers and the manager, and the one on trial is slow to go.
if have prlimit; then
	prlimit --nproc=4 "$KFCGI" -p "$JAIL" -s "$SOCK" -U lp -n 3 \
	    /bin/worker -t 2>"$T/err"
	is "$? $(errors)" "0 " "no room for one more: starts"
	PID=$(manager_pid "$SOCK")
	end_manager
else
	skip "no prlimit(1)" "no room for one more"
fi

# In a new PID namespace, without a fork, no worker has a parent.
if unshare --pid true 2>/dev/null; then
	unshare --pid "$KFCGI" -d -p "$JAIL" -s "$SOCK" -U "$WHO" \
	    /bin/worker </dev/null >"$T/out" 2>"$T/err"
	is "$? $(errors)" "1 kfcgi: cannot set up a worker: parent process: No\
 such process" "no parent: why"
else
	skip "no PID namespaces" "no parent: why"
fi

# Many at once are started at once.
ok "a hundred: start" start_daemon -n 100 /bin/worker
ok "a hundred workers" waitfor 10 has_workers 100
end_manager

done_testing
