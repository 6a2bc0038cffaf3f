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

# refuses: nobody listens
refuses() {
	[ "$(client -q '' -t 500 2>&1)" = refused ]
}

# has_socket pid: it has
has_socket() {
	[ "$(nsockets "$1")" -eq 1 ]
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

# Deaf to SIGTERM: killed after 20 seconds, which go on beside the rest.
run deaf -n 2 -p / "$(command -v perl)" -e '$SIG{TERM} = "IGNORE"; alarm 90;
    sleep 1 while 1'
up deaf
begin=$(date +%s)
kill -TERM "$PID"
(
	waitfor 40 dead "$PID"
	echo $(($(date +%s) - begin)) >"$T/took"
) &
SOCK=$T/sock LOG=$T/log PID=

for r in "" -r; do
	name=${r:-fixed}
	# In a fixed pool SIGTERM is all there is: the worker must finish its
	# request by itself.
	g=-g
	[ -z "$r" ] || g=

	for sig in TERM INT QUIT; do
		start $r -n 1 -N 1 /bin/worker $g
		ok "$name: $sig: a request in hand" request
		"$REGRESS/client" -s "$SOCK" -t 60000 >/dev/null 2>&1 &
		next=$!
		ok "$name: $sig: another waits" waitfor 10 has_socket $next
		kill -$sig "$PID"
		ok "$name: $sig: which ends at once" waitfor 10 dead $next
		ok "$name: $sig: refuses others meanwhile" waitfor 10 refuses
		ok "$name: $sig: with it in hand" alive $held
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
	start $r -n 3 /bin/worker
	freeze "$PID"	# so that it sees both at once
	kill -HUP "$PID"
	kill -TERM "$PID"
	kill -CONT "$PID"
	waitfor 30 dead "$PID"
	wait "$PID"
	is "$? $(strays)" "0 " "$name: HUP, TERM: status 0, nobody left"
	is "$(grep -Ec ' started( on trial)?$' "$LOG")" $((${r:+-1} + 4)) \
	    "$name: HUP, TERM: no reload"
	PID=

	# Deaf workers, and busy: killed at the second signal.
	start $r -n 3 -N 3 /bin/worker -t
	client -q hang >/dev/null 2>&1 &
	waitfor 10 in_hand
	kill -TERM "$PID"
	waitfor 10 refuses
	kill -TERM "$PID"
	ok "$name: deaf workers: killed at the second TERM" at_once
	wait "$PID"
	is "$? $(strays)" "0 " "$name: deaf workers: status 0, nobody left"
	PID=

	# During a reload, or a replacement: no orphan, no zombie, status 0.
	for change in 'kill -HUP "$PID"' 'kill -KILL $(workers)'; do
		start $r -n 4 /bin/worker
		eval "$change"
		sleep 0.01
		quit
		is "$? $(strays)" "0 " "$name: stop after $change"
	done
done

# Who is left of a worker's process group may finish its request, too.
start -n 1 /bin/worker -3
client -q 'out=begun&slow=2000' >"$T/held" 2>&1 &
held=$!
waitfor 10 logged begun
quit
is "$? $(strays)" "0 " "a worker of three processes: status 0, nobody left"
wait $held
like "$(cat "$T/held")" '^pid' "a worker of three: the request is answered"

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
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U $WHO /bin/other 2>"$T/err" </dev/null
	is "$? $(sed 's/ [0-9]* / N /; q' "$T/err")" "1 kfcgi: worker N of\
 /bin/other has become another user, whom we cannot tell to go" \
	    "workers of another user: no fixed pool of them"
	for p in $(strays); do
		kill -KILL $p
	done
	start -r -n 1 /bin/other
	also_kill $(workers)
	kill -TERM "$PID"
	kill -INT "$PID"
	ok "workers of another user: do not hold it up" at_once
	wait "$PID"
	is "$?" 1 "workers of another user: status 1"
	PID=
	for message in 'cannot send SIGTERM to worker [0-9]+: ' \
	    'cannot send SIGKILL to worker [0-9]+: ' \
	    '1 worker left behind: not ended by SIGKILL within 5 s$'; do
		ok "workers of another user: $message" logged "$message"
	done
fi

# The deaf from above; the machine may be slow, but rc.d waits no longer.
use deaf
waitfor 40 dead "$PID"
wait "$PID"
is "$?" 0 "deaf workers: status"
PID=
waitfor 10 test -s "$T/took"
ok "deaf workers: which took 20 s: $(cat "$T/took")" \
    test "$(cat "$T/took")" -ge 19 -a "$(cat "$T/took")" -lt 30
ok "deaf workers: had to be killed" logged '2 workers had to be killed'

done_testing
