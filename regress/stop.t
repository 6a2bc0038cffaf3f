#!/bin/sh
# The stop: at once for the idle, bounded for all, and nobody is left.
. ./lib.sh

# One of the workers of a fixed pool has a connection.
has_connection() {
	for w in $(workers); do
		[ "$(nfds "$w")" -gt 3 ] && return 0
	done
	return 1
}

# One of the workers has a connection.
in_hand() {
	for _w in $(workers); do
		[ "$(nfds "$_w")" -gt $((${r:+1} + 3)) ] && return 0
	done
	return 1
}

for r in "" -r; do
	name=${r:-fixed}
	for sig in TERM INT QUIT; do
		start $r -n 3 /bin/worker
		quit $sig
		is "$?" 0 "$name: $sig: status 0"
		is "$(strays)" "" "$name: $sig: nobody left"
		is "$(fetch '' )" "refused" "$name: $sig: nobody listens"
	done

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
		is "$?" 0 "$name: $order: status 0"
		is "$(strays)" "" "$name: $order: nobody left"
		is "$(grep -Ec ' started( on trial)?$' "$LOG")" $((${r:+-1} + 4)) \
		    "$name: $order: no reload"
		PID=
	done

	# Workers deaf to SIGTERM: two signals, or 20 seconds.
	start $r -n 3 /bin/worker -t
	client -q '' >/dev/null
	kill -TERM "$PID"
	ok "$name: stopping" waitfor 10 \
	    eval 'fetch "" | grep -q refused'
	[ -z "$r" ] || ok "$name: idle ones leave at end-of-file" \
	    waitfor 10 dead "$PID"
	kill -TERM "$PID" 2>/dev/null
	waitfor 10 dead "$PID"
	wait "$PID"
	is "$?" 0 "$name: deaf workers, TERM twice: status 0"
	is "$(strays)" "" "$name: deaf workers, TERM twice: nobody left"
	PID=
done

# With -r a busy worker may finish.
start -r -n 2 /bin/worker
client -q slow=1500 >"$T/slow" 2>&1 &
slow=$!
waitfor 10 logged 'has connection 1'
quit
is "$?" 0 "-r, busy: status 0"
wait $slow
like "$(cat "$T/slow")" '^pid' "-r, busy: the request is finished first"

# Fixed: a worker that finishes its request on SIGTERM is let.
start -n 2 /bin/worker -g
client -q slow=1500 >"$T/slow" 2>&1 &
slow=$!
ok "a request in hand" waitfor 10 has_connection
quit
is "$?" 0 "fixed, busy: status 0"
wait $slow
like "$(cat "$T/slow")" '^pid' "fixed, busy: the request is finished first"

# Twenty seconds are the bound: deaf, stopped and hung workers at once.
start -r -n 3 -N 3 /bin/worker -t
client -q hang >/dev/null 2>&1 &
client -q stop >/dev/null 2>&1 &
waitfor 10 logged 'has connection 2'
begin=$(date +%s)
quit
is "$?" 0 "hung and stopped workers: status 0"
diag "it took $(($(date +%s) - begin)) s"
ok "they had to be killed" logged '2 workers had to be killed'
is "$(strays)" "" "nobody left"
start -n 3 /bin/worker -t
begin=$(date +%s)
quit
is "$?" 0 "fixed, deaf workers: status 0"
diag "it took $(($(date +%s) - begin)) s"
is "$(strays)" "" "nobody left"

# A worker that tries to leave its process group is still there to be killed.
cat >"$T/escape.c" <<'END'
#include <signal.h>
#include <unistd.h>
int
main(void)
{
	signal(SIGTERM, SIG_IGN);
	(void)setpgid(0, getpgid(getppid()));
	alarm(60);
	for (;;)
		pause();
}
END
ok "a worker that would leave its process group" \
    $CC -static -o "$JAIL/bin/escape" "$T/escape.c"
start -n 2 /bin/escape
quit_now
is "$?" 0 "is found all the same: status 0"
is "$(strays)" "" "nobody left"

# Clients that wait in the backlog when it ends are not left hanging.
for r in "" -r; do
	start $r -n 1 -N 1 -l 8 /bin/worker
	client -n 4 -c 4 -q slow=2000 -t 30000 >"$T/load" 2>&1 &
	load=$!
	sleep 0.3
	quit
	is "$?" 0 "${r:-fixed}: clients in the backlog: status 0"
	wait $load
	like "$(head -n 1 "$T/load")" 'timeout 0 bad 0' \
	    "${r:-fixed}: each of them learns it"
done

# Stop at any moment of a reload, or of a replacement: no orphan, no zombie,
# status 0.  The moments are spread, not chosen.
for r in "" -r; do
	bad=0
	for ms in 0 8 500 1000 1010 1050; do
		start $r -n 4 /bin/worker
		kill -HUP "$PID"
		sleep "$(echo $ms | sed 's/.*/000&/; s/\(...\)$/.\1/')"
		quit || bad=$((bad + 1))
		[ -z "$(strays)" ] || bad=$((bad + 1))
		start $r -n 4 /bin/worker
		kill -KILL $(workers)
		sleep "$(echo $ms | sed 's/.*/000&/; s/\(...\)$/.\1/')"
		quit || bad=$((bad + 1))
		[ -z "$(strays)" ] || bad=$((bad + 1))
	done
	is "$bad" 0 "${r:-fixed}: stopped at 12 moments of change"
done

# INT reaches a foreground kfcgi and its starter alike; only one counts.
in_session "$KFCGI" -d -v -p "$JAIL" -s "$SOCK" -U "$WHO" -r -n 1 /bin/worker \
    >"$LOG" 2>&1 </dev/null &
PID=$!
waitfor 10 logged 'started: 1'
client -q slow=1000 >"$T/slow" 2>&1 &
slow=$!
waitfor 10 logged 'has connection 1'
kill -INT "-$PID"
waitfor 30 dead "$PID"
wait "$PID"
is "$?" 0 "INT from the keyboard: status 0"
wait $slow
like "$(cat "$T/slow")" '^pid' "the request in hand was finished"
PID=

# What containers send, with a request in hand; and all that would end another
# process, by number: to the manager that means nothing.
others() {
	_i=1
	while [ $_i -le 64 ]; do
		# glibc keeps the first real-time signals to itself.
		case $_i.$(kill -l $_i 2>/dev/null) in
		*.|3[2-4].*|*.HUP|*.INT|*.QUIT|*.KILL|*.TERM|*.CHLD|*.STOP)	;;
		*.TSTP|*.TTIN|*.TTOU|*.CONT)	;;
		*)	echo $_i ;;
		esac
		_i=$((_i + 1))
	done
}
for r in "" -r; do
	for mode in -d ""; do
		name=${r:-fixed}${mode:+, $mode}
		if [ -n "$mode" ]; then
			start $r -n 2 /bin/worker -g
		else
			start_daemon $r -n 2 /bin/worker -g
		fi
		before=$(workers)
		client -q slow=1500 >"$T/slow" 2>&1 &
		slow=$!
		ok "$name: a request in hand" waitfor 10 in_hand
		for sig in $(others); do
			kill -$sig "$PID" 2>/dev/null ||
			    diag "signal $sig: no manager"
		done
		wait $slow
		like "$(cat "$T/slow")" '^pid' "$name: signals: it is answered"
		ok "$name: signals: the manager lives" alive "$PID"
		is "$(workers)" "$before" "$name: signals: so do its workers"
		client -q slow=1500 >"$T/slow" 2>&1 &
		slow=$!
		waitfor 10 in_hand
		m=$PID
		kill -QUIT "$m"
		wait $slow
		like "$(cat "$T/slow")" '^pid' "$name: QUIT: a request is answered"
		ok "$name: QUIT: ends it" waitfor 10 dead "$m"
		[ -z "$mode" ] || { wait "$m"; is "$?" 0 "$name: QUIT: status"; }
		ok "$name: QUIT: nobody is left" waitfor 10 no_strays
		PID=
		rm -f "$SOCK"
	done

	# As process 1, which the system spares signals that nobody catches.
	name="${r:-fixed}, process 1"
	if unshare -pf true 2>/dev/null; then
		: >"$LOG"
		unshare -pf "$KFCGI" -d -v -p "$JAIL" -s "$SOCK" -U "$WHO" \
		    $r -n 2 /bin/worker -g </dev/null >"$LOG" 2>&1 &
		outer=$!
		also_kill $outer
		ok "$name: start" waitfor 20 logged '^kfcgi: started: 2 workers'
		PID=$(children $outer)
		client -q slow=1500 >"$T/slow" 2>&1 &
		slow=$!
		waitfor 10 in_hand
		kill -QUIT "$PID"
		wait $slow
		like "$(cat "$T/slow")" '^pid' "$name: QUIT: a request is answered"
		ok "$name: QUIT: ends it" waitfor 10 dead "$PID"
		wait $outer
		is "$?" 0 "$name: QUIT: status"
		PID=
	else
		skip "no PID namespaces" "$name: start" \
		    "$name: QUIT: a request is answered" \
		    "$name: QUIT: ends it" "$name: QUIT: status"
	fi
done

done_testing
