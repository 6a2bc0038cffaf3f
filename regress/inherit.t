#!/bin/sh
# What a worker inherits: as little as the protocol needs.
. ./lib.sh

# field name: that line of the report, in $REPORT
field() {
	printf '%s\n' "$REPORT" | sed -n "s/^$1 //p"
}

u=$(id -u "$WHO") g=$(id -g "$WHO")

# A caller in disorder: open descriptors, ignored and blocked signals, the
# variable of the extension, supplementary groups, a low soft limit.
cat >"$T/caller.pl" <<'END'
use POSIX;
POSIX::sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGUSR2, SIGCHLD));
$SIG{$_} = 'IGNORE' for qw(HUP TERM INT CHLD PIPE USR1 USR2 ALRM);
$ENV{FCGI_LISTENSOCK_DESCRIPTORS} = 17;
$) = "0 0 1 2 3 4";
$^F = 1000;
open(my $a, '<', '/etc/passwd'); open(my $b, '<', '/');
POSIX::dup2(fileno($a), $_) for 5, 6, 77, 200;
exec @ARGV;
END

for pool in fixed variable; do
	r=
	[ $pool = variable ] && r=-r
	rm -f "$SOCK"
	(ulimit -Sn 300; exec perl "$T/caller.pl" "$KFCGI" -p "$JAIL" \
	    -s "$SOCK" -U "$WHO" $r -n 3 -N 200 /bin/worker)
	is "$?" 0 "$pool: started by a caller in disorder"
	PID=$(manager_pid "$SOCK")
	# Later workers must not inherit earlier ones' sockets or connections.
	client -n 12 -c 6 -q slow=50 >/dev/null
	REPORT=$(fetch report)
	is "$(field uid)" "$u $u $u" "$pool: user"
	is "$(field gid)" "$g $g $g" "$pool: group"
	is "$(field groups)" "$g" "$pool: no group more"
	is "$(field mask)" none "$pool: no signal blocked"
	is "$(field ignored)" none "$pool: no signal ignored"
	is "$(field nofile | awk '{ print $1 }')" 300 \
	    "$pool: the caller's limit of descriptors"
	is "$(field pgid)" "$(field pid)" "$pool: a process group"
	is "$(field sid)" "$PID" "$pool: in the manager's session"
	is "$(field cwd)" / "$pool: directory"
	is "$(field root-entries)" bin "$pool: in the jail"
	is "$(field 'fd 1')" "pipe blocking" "$pool: standard output"
	is "$(field 'fd 2')" "pipe blocking" "$pool: standard error"
	var=$(field env | grep FCGI_LISTENSOCK_DESCRIPTORS)
	if [ $pool = fixed ]; then
		is "$(field fds)" "0 1 2" "fixed: descriptors"
		is "$(field 'fd 0')" "sock-listen blocking" \
		    "fixed: the listener is 0 and blocking"
		is "$var" "" "fixed: the variable is gone"
	else
		is "$(field fds)" "0 1 2 3" "variable: descriptors"
		is "$(field 'fd 0')" "null blocking" \
		    "variable: /dev/null is 0"
		is "$(field 'fd 3')" "sock blocking" \
		    "variable: the control socket"
		is "$var" "FCGI_LISTENSOCK_DESCRIPTORS=3" \
		    "variable: the variable names it"
	fi
	# Also a replacement, born when connections were open.
	client -n 4 -c 4 -q slow=400 >/dev/null & load=$!
	w=$(workers | head -n 1)
	kill -KILL "$w"
	ok "$pool: replaced" waitfor 10 eval 'dead '"$w"' && has_workers 3 ||
	    [ "$(nworkers)" -gt 3 ]'
	wait $load
	for w in $(workers); do
		is "$(fds "$w" | tr '\n' ' ')" \
		    "$([ $pool = fixed ] && echo '0 1 2 ' || echo '0 1 2 3 ')" \
		    "$pool: descriptors of worker $w"
	done
	end_manager
done

# Standard output and error stay with -d.
rm -f "$SOCK"
start -n 1 /bin/worker
like "$(fetch report)" "^fd 2 file" "-d: standard error is the caller's"
quit

# The manager cannot get its privileges back.
start -n 1 /bin/worker
# What it is, was, and could be again.
is "$(ps_of "$PID" uid ruid svuid | tr -s ' ')" "$u $u $u" \
    "the manager's users"
is "$(ps_of "$PID" gid rgid svgid | tr -s ' ')" "$g $g $g" \
    "the manager's groups"
if has_proc; then
	like "$(grep ^CapEff "/proc/$PID/status")" '0000000000000000' \
	    "the manager's capabilities"
	is "$(grep ^NoNewPrivs "/proc/$PID/status" | awk '{ print $2 }')" 0 \
	    "set-user-ID programs in the jail still work"
else
	skip "no /proc" "the manager's capabilities" \
	    "set-user-ID programs in the jail still work"
fi
quit

# A manager that is killed leaves no worker.
for r in '' -r; do
	rm -f "$SOCK"
	start $r -n 3 /bin/worker
	kill -KILL "$PID"
	wait "$PID" 2>/dev/null
	ok "no worker survives a SIGKILL of the manager${r:+, $r}" \
	    waitfor 10 no_strays
	ok "and a new one starts on its socket" start $r -n 1 /bin/worker
	quit
done

done_testing
