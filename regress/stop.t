#!/bin/sh
# The stop: at once for the idle, bounded for all, and nobody is left.  And all
# other signals.
. ./lib.sh

# A request that a worker has until we let it go on; what its client gets is in
# $T/held.
request() {
	client -q stop -t 60000 >"$T/held" 2>&1 &
	held=$!
	waitfor 10 in_hand && waitfor 10 has_state "$busy" T
}

# answered description: it was, to its end
answered() {
	kill -CONT "$busy"
	wait $held
	like "$(cat "$T/held")" '^pid' "$1: the request in hand is answered"
}

# refuses: nobody listens, though the request is still in hand.  Who came just
# before may wait until the last worker has gone.
refuses() {
	[ "$(client -q '' -t 500 2>&1)" = refused ] && alive $held
}

# at_once: the manager ends, long before the 20 seconds are over
at_once() {
	_begin=$(date +%s)
	waitfor 10 dead "$PID" && [ $(($(date +%s) - _begin)) -lt 15 ]
}

# Every signal that would end another process, by number.
others() {
	_i=1
	while [ $_i -le 64 ]; do
		# glibc keeps the first real-time signals to itself.
		case $_i.$(kill -l $_i 2>/dev/null) in
		*.|3[2-4].*)	;;
		*.HUP|*.INT|*.QUIT|*.TERM|*.KILL|*.CHLD)	;;
		*.STOP|*.CONT|*.TSTP|*.TTIN|*.TTOU)	;;
		*)	echo $_i ;;
		esac
		_i=$((_i + 1))
	done
}

for r in "" -r; do
	name=${r:-fixed}
	# In a fixed pool SIGTERM is all there is: the worker must finish its
	# request by itself.
	g=-g
	[ -z "$r" ] || g=

	for sig in TERM INT QUIT; do
		start $r -n 2 /bin/worker $g
		ok "$name: $sig: a request in hand" request
		kill -$sig "$PID"
		ok "$name: $sig: refuses others meanwhile" waitfor 10 refuses
		answered "$name: $sig"
		waitfor 10 dead "$PID"
		wait "$PID"
		is "$? $(strays)" "0 " "$name: $sig: status 0, nobody left"
		PID=
	done

	# All others mean nothing to the manager.
	for mode in -d ""; do
		if [ -n "$mode" ]; then
			start $r -n 2 /bin/worker $g
		else
			start_daemon $r -n 2 /bin/worker $g
		fi
		before=$(workers)
		ok "$name${mode:+, $mode}: a request in hand" request
		for sig in $(others); do
			kill -$sig "$PID" 2>/dev/null ||
			    diag "signal $sig: no manager"
		done
		answered "$name${mode:+, $mode}: other signals"
		ok "$name${mode:+, $mode}: the manager lives" alive "$PID"
		is "$(workers)" "$before" \
		    "$name${mode:+, $mode}: so do its workers"
		m=$PID
		quit QUIT
		ok "$name${mode:+, $mode}: until QUIT" dead "$m"
		ok "$name${mode:+, $mode}: nobody is left" waitfor 10 no_strays
	done

	# As process 1, which the system spares signals that nobody catches.
	if unshare -pf true 2>/dev/null; then
		: >"$LOG"
		unshare -pf "$KFCGI" -d -v -p "$JAIL" -s "$SOCK" -U "$WHO" \
		    $r -n 2 /bin/worker $g </dev/null >"$LOG" 2>&1 &
		outer=$!
		also_kill $outer
		waitfor 20 logged '^kfcgi: started: 2 workers'
		PID=$(children $outer)
		ok "$name, process 1: a request in hand" request
		kill -QUIT "$PID"
		answered "$name, process 1: QUIT"
		ok "$name, process 1: QUIT ends it" waitfor 10 dead "$PID"
		wait $outer
		is "$?" 0 "$name, process 1: status"
		PID=
	else
		skip "no PID namespaces" "$name, process 1"
	fi

	# TERM beats HUP.
	for order in "HUP TERM" "TERM HUP"; do
		start $r -n 3 /bin/worker
		freeze "$PID"	# so that it sees both at once
		for sig in $order; do
			kill -$sig "$PID"
		done
		kill -CONT "$PID"
		waitfor 30 dead "$PID"
		wait "$PID"
		is "$? $(strays)" "0 " "$name: $order: status 0, nobody left"
		is "$(grep -Ec ' started( on trial)?$' "$LOG")" \
		    $((${r:+-1} + 4)) "$name: $order: no reload"
		PID=
	done

	# Workers deaf to SIGTERM: two signals, or 20 seconds.
	start $r -n 3 -N 3 /bin/worker -t
	client -q hang >/dev/null 2>&1 &
	waitfor 10 in_hand
	kill -TERM "$PID"
	ok "$name: deaf workers: the idle see the end of their socket" \
	    waitfor 10 has_workers 1
	kill -TERM "$PID"
	ok "$name: the busy one is killed at the second TERM" at_once
	wait "$PID"
	is "$? $(strays)" "0 " "$name: status 0, nobody left"
	PID=
	start $r -n 3 -N 3 /bin/worker -t
	client -q hang >/dev/null 2>&1 &
	client -q stop >/dev/null 2>&1 &
	waitfor 10 in_hand 2
	begin=$(date +%s)
	quit
	is "$? $(strays)" "0 " "$name: TERM once: status 0, nobody left"
	# The machine may be slow, but rc.d waits no longer.
	s=$(($(date +%s) - begin))
	ok "$name: which took 20 s: $s" test $s -ge 19 -a $s -lt 30
	ok "$name: they had to be killed" logged '2 workers had to be killed'

	# Clients that wait in the backlog when it ends are not left hanging.
	start $r -n 1 -N 1 -l 8 /bin/worker
	client -n 4 -c 4 -q slow=2000 -t 30000 >"$T/load" 2>&1 &
	load=$!
	waitfor 10 in_hand
	quit
	is "$?" 0 "$name: clients in the backlog: status 0"
	wait $load
	like "$(head -n 1 "$T/load")" 'timeout 0 bad 0' \
	    "$name: each of them learns it"

	# Stop at any moment of a reload, or of a replacement: no orphan, no
	# zombie, status 0.  The moments are spread, not chosen.
	for s in 0 0.008 0.5 1 1.01 1.05; do
		for change in 'kill -HUP "$PID"' 'kill -KILL $(workers)'; do
			start $r -n 4 /bin/worker
			eval "$change"
			sleep $s
			quit
			is "$? $(strays)" "0 " "$name: stop $s s after $change"
		done
	done
done

# A worker that leaves its process group is still there to be killed.
start -n 2 -p / "$(command -v perl)" -e '$SIG{TERM} = "IGNORE"; alarm 60;
    setpgrp(0, getpgrp getppid) and syswrite STDOUT, "left\n"; sleep 1 while 1'
waitfor 10 logged '^left' 3	# with the one on trial
w=$(workers)
freeze "$PID"	# so that it sees both at once
kill -TERM "$PID"
kill -INT "$PID"
kill -CONT "$PID"
ok "workers that left their process group: TERM and INT" at_once
wait "$PID"
is "$?" 0 "end them at once: status 0"
ok "and they are gone" all_dead $w
PID=

# The manager is stopped when the time of a worker is over, and so is that.
run frozen -n 1 -p / "$(command -v perl)" -e '$SIG{TERM} = sub { sleep 3; exit };
    alarm 60; syswrite STDOUT, "$$ ready\n"; sleep 1 while 1'
use frozen
waitfor 10 logged ready
kill -TERM "$PID"
waitfor 10 logged 'was told to stop'
freeze "$PID"
waitfor 10 dead "$(sed -n 's/ ready$//p' "$LOG")"
kill -CONT "$PID"
waitfor 10 dead "$PID"
fails "who has ended is not left behind" logged 'left behind'
SOCK=$T/sock LOG=$T/log PID=

# A worker that shuts the listener down ends the pool when it ends.  That is no
# signal, so the first one is no second.
start -n 2 -p / "$(command -v perl)" -e '$SIG{TERM} = "IGNORE"; alarm 60;
    $SIG{USR1} = sub { shutdown STDIN, 2; exit }; sleep 1 while 1'
kill -USR1 "$(workers | head -n 1)"
ok "the listener shut down: stops by itself" waitfor 10 logged "^kfcgi: a worker\
 has shut down the listening socket, which all workers share: stopping\$"
kill -TERM "$PID"
status >/dev/null
fails "and kills nobody at the first SIGTERM" logged 'had to be killed'
kill -TERM "$PID"
ok "but at the second" at_once
wait "$PID"
is "$?" 1 "with status 1"
PID=

# Workers that became another user cannot be signalled: they are left behind,
# but the manager ends and says so.
cat >"$T/other.c" <<'END'
#include <unistd.h>
int
main(int argc, char *argv[])
{
	(void)argv;
	alarm(100);
	if (setuid(0) == -1 || argc > 1)
		return getuid() != 0;
	for (;;)
		pause();
}
END
$CC -w -static -o "$JAIL/bin/other" "$T/other.c" || exit 1
chmod 4755 "$JAIL/bin/other"
if ! as_user $WHO "$JAIL/bin/other" try; then
	skip "no setuid programs in $T" "workers of another user"
else
	start -n 1 /bin/other
	also_kill $(workers)
	kill -TERM "$PID"
	kill -INT "$PID"
	ok "workers of another user: do not hold it up" at_once
	wait "$PID"
	is "$?" 1 "workers of another user: status 1"
	PID=
	for message in 'cannot send SIGTERM to worker [0-9]+: ' \
	    'cannot send SIGKILL to worker [0-9]+: ' \
	    '2 workers left behind: not ended by SIGKILL within 5 s$'; do
		ok "workers of another user: $message" logged "$message"
	done
fi

done_testing
