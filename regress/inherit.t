#!/bin/sh
# What a worker inherits: as little as the protocol needs.
. ./lib.sh

# has name expected: that line of the report, in $REPORT
has() {
	is "$(printf '%s\n' "$REPORT" | sed -n "s/^$1 //p")" "$2" "$pool: $1"
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
umask 027;
$^F = 1000;
open(my $a, '<', '/etc/passwd'); open(my $b, '<', '/');
POSIX::dup2(fileno($a), $_) for 5, 6, 77, 200;
exec @ARGV;
END

for r in '' -r; do
	pool=${r:-fixed}
	fds="0 1 2${r:+ 3}"
	rm -f "$SOCK"
	(ulimit -Sn 300; exec perl "$T/caller.pl" "$KFCGI" -p "$JAIL" \
	    -s "$SOCK" -U "$WHO" $r -n 3 -N 200 /bin/worker)
	is "$?" 0 "$pool: started by a caller in disorder"
	PID=$(manager_pid "$SOCK")
	# Later workers must not inherit earlier ones' sockets or connections.
	client -n 12 -c 6 -q slow=50 >/dev/null
	REPORT=$(fetch report)
	has uid "$u $u $u"
	has gid "$g $g $g"
	has groups "$g"
	has mask none
	has ignored none
	like "$REPORT" '^nofile 300 ' "$pool: the caller's limit of descriptors"
	like "$REPORT" "^pgid $(printf '%s\n' "$REPORT" |
	    sed -n 's/^pid //p')\$" "$pool: a process group of its own"
	has sid "$PID"
	has cwd /
	has root-entries bin
	has fds "$fds"
	has 'fd 1' "pipe blocking"
	has 'fd 2' "pipe blocking"
	if [ -n "$r" ]; then
		has 'fd 0' "null blocking"
		has 'fd 3' "sock blocking"
	else
		has 'fd 0' "sock-listen blocking"
	fi
	is "$(printf '%s\n' "$REPORT" | grep FCGI_LISTENSOCK_DESCRIPTORS)" \
	    "${r:+env FCGI_LISTENSOCK_DESCRIPTORS=3}" \
	    "$pool: the variable is there with -r only"
	if has_proc; then
		w=$(workers | head -n 1)
		is "$(awk '/^Umask/ { print $2 }' "/proc/$w/status")" 0027 \
		    "$pool: the caller's umask"
	else
		skip "no /proc" "$pool: the caller's umask"
	fi
	# Also a replacement, born when connections were open.
	client -n 4 -c 4 -q slow=400 >/dev/null & load=$!
	w=$(workers | head -n 1)
	kill -KILL "$w"
	ok "$pool: replaced" waitfor 10 eval 'dead '"$w"' && has_workers 3 ||
	    [ "$(nworkers)" -gt 3 ]'
	wait $load
	for w in $(workers); do
		# Its last client may have gone before its connection.
		waitfor 10 eval '[ "$(echo $(fds "$w"))" = "$fds" ]'
		is "$(echo $(fds "$w"))" "$fds" "$pool: descriptors of $w"
	done
	end_manager
	rm -f "$SOCK"

	# A manager that is killed leaves no worker: with -r it sees the end of
	# its control socket, without it takes a feature of Linux.
	if [ -z "$r" ] && [ "$(uname -s)" != Linux ]; then
		skip "no PR_SET_PDEATHSIG" "$pool: the manager is killed"
		continue
	fi
	start $r -n 3 /bin/worker
	kill -KILL "$PID"
	wait "$PID" 2>/dev/null
	ok "$pool: no worker survives a SIGKILL of the manager" \
	    waitfor 10 no_strays
	ok "$pool: and a new one starts on its socket" start $r -n 1 /bin/worker
	quit
done

# What a worker leaves behind stays a child of the manager.
if [ "$(uname -s)" = Linux ]; then
	start -n 1 -p / "$(command -v perl)" -e 'alarm 60;
	    fork or fork or do { $0 = "helper"; setpgrp; sleep }; sleep'
	helper() {
		processes pid ppid args | awk -v p="$PID" '
		    $2 == p && $3 == "helper" { print $1 }'
	}
	ok "a helper that was forked twice is the manager's child" \
	    waitfor 10 eval '[ -n "$(helper)" ]'
	also_kill $(helper)
	quit
else
	skip "no PR_SET_CHILD_SUBREAPER" "a helper that was forked twice"
fi

# Standard error stays with -d; the manager cannot get its privileges back.
start -n 1 /bin/worker
like "$(fetch report)" "^fd 2 file" "-d: standard error is the caller's"
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

done_testing
