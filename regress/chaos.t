#!/bin/sh
# Both pools under random load, deaths, reloads and bad manners, side by side: no
# more requests fail than workers were killed or stopped in the midst of one,
# and in the end both pools are as they were.  The orders that a program alone can
# make are sim.t's; here are a kernel's.
#
# CHAOS_SEED	repeats what is done and when, with the same awk(1)
# CHAOS_TIME	so many seconds, 10
. ./lib.sh

seed=${CHAOS_SEED:-$(($(date +%s) % 1000000))}
seconds=${CHAOS_TIME:-10}
diag "CHAOS_SEED=$seed CHAOS_TIME=$seconds"

# What is done: lines "pause pool verb argument".  Requests that are evil end
# their worker; those that are stuck say whose they are, and we end it.  Cookies
# mean nothing to the fixed pool.
awk -v seed="$seed" -v left="$seconds" '
function one_of(list,	a, n) {
	n = split(list, a, " ")
	return a[int(rand() * n) + 1]
}
BEGIN {
	srand(seed)
	evil = "crash exit=0 exit=3 half kill=6 slow=50&crash"
	stuck = "hang stop"
	verbs = "evil evil evil stuck leave leave kill kill reload freeze status"
	for (; left > 0; left -= pause) {
		pause = rand() * 0.2
		r = rand() < 0.5
		verb = one_of(verbs)
		if (verb == "evil")
			arg = one_of(evil (r ? " cookie=wrong cookie=twice " \
			    "unasked closectl" : ""))
		else if (verb == "stuck")
			arg = one_of(stuck (r ? " cookie=none cookie=short" : ""))
		else if (verb == "leave")
			arg = one_of("leave early half garbage")
		else if (verb == "kill")
			arg = one_of("KILL SEGV ABRT TERM") " " int(rand() * 9)
		else
			arg = rand() * 0.4
		printf "%.2f %s %s %s\n", pause, r ? "variable" : "fixed", verb,
		    arg
	}
}' >"$T/plan"

# What the innocent ask for.
cat >"$T/queries" <<'END'
slow=1
slow=20
body=100000

cookie=late:20
cookie=split:10
END

# client_of pool options...: in the background, until all have ended
CLIENTS=
client_of() {
	_pool=$1
	shift
	"$REGRESS/client" -s "$T/$_pool.s" -t 90000 -A 150 "$@" \
	    >>"$T/$_pool.other" 2>&1 &
	CLIENTS="$CLIENTS $!"
}

# end_stuck: kills each worker that has said that it is stuck, if it is still one
end_stuck() {
	for pool in fixed variable; do
		use $pool
		sed -n 's/^err \([0-9]*\) 0$/\1/p' "$LOG" >"$T/stuck"
		kill -KILL $(workers | grep -Fxf "$T/stuck") 2>/dev/null
	done
}

# ended: all clients have
ended() {
	end_stuck
	all_dead $CLIENTS
}

# idle: at rest with the descriptors and workers that it had
idle() {
	status_matches ': 3 (serving|idle), 0 busy, 0 leaving, 0 starting' &&
	    has_workers 3 && [ "$(nfds "$PID")" -eq "$(cat "$T/$pool.fds")" ]
}

run fixed -v -n 3 -l 64 /bin/worker -g -x 40 -A 200
run variable -v -r -n 3 -N 8 -w 1 -l 64 /bin/worker -g -x 40 -A 200
for pool in fixed variable; do
	up $pool
	waitfor 20 rests
	nfds "$PID" >"$T/$pool.fds"
	echo 0 >"$T/$pool.kills"
	"$REGRESS/client" -s "$SOCK" -d "$seconds" -c 6 -Q "$T/queries" \
	    -R "$seed" -t 90000 -A 150 >"$T/$pool.innocent" 2>&1 &
	CLIENTS="$CLIENTS $!"
done
while read -r pause pool verb arg number; do
	sleep "$pause"
	use $pool
	case $verb in
	evil)	client_of $pool -q "$arg" ;;
	stuck)	client_of $pool -q "err=1&$arg" ;;
	leave)	client_of $pool -O "$arg" -n 3 -c 2 -q body=100000 -t 300 ;;
	kill)	w=$(workers | sed -n "$((number % 3 + 1))p")
		[ -z "$w" ] || kill "-$arg" "$w"
		echo $(($(cat "$T/$pool.kills") + 1)) >"$T/$pool.kills" ;;
	reload)	kill -HUP "$PID" ;;
	status)	kill -USR1 "$PID" ;;
	freeze)	kill -STOP "$PID"
		(sleep "$arg"; kill -CONT "$PID") & ;;
	esac
	end_stuck
done <"$T/plan"

ok "all requests have come to an end" waitfor 120 ended
for pool in fixed variable; do
	use $pool
	kill -CONT "$PID"
	result=$(head -n 1 "$T/$pool.innocent")
	doomed=$(($(cat "$T/$pool.kills") + $(grep -c ': stopped$' "$LOG")))
	diag "$pool: $result, $doomed workers killed or stopped"
	like "$result" '^answered [0-9]{2,} refused 0 .* timeout 0 bad 0' \
	    "$pool: the innocent are served"
	ok "$pool: no more of them failed than workers were killed" \
	    test "$(losses "$T/$pool.innocent")" -le "$doomed"
	ok "$pool: the pool is as it was" waitfor 60 idle ||
	    diag "$_status, $(nfds "$PID") descriptors"
	ok "$pool: no zombie" waitfor 20 no_zombies
	unlike "$(cat "$LOG")" '^kfcgi: .*(cannot|left behind|did not leave)' \
	    "$pool: nothing was beyond it"
	ends $pool
done
ok "nobody is left" waitfor 20 no_strays

done_testing
