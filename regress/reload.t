#!/bin/sh
# SIGHUP: new workers first, no request lost, exactly the pool asked for.
. ./lib.sh

# No reload under way: it would be seen as more or fewer workers than n.
settled() {
	has_workers 3 && status_matches ': 3 [a-z]*, 0 busy, 0 leaving, 0 starting;'
}

# Deaf workers of a fixed pool, and of a variable one that releases them: gone
# within twenty seconds.  In the latter the leader heeds neither SIGTERM nor the
# end-of-file, which is for its siblings.  Both go on beside the rest, in a jail
# of their own.
MYJAIL=$JAIL JAIL=$T/deafjail
mkdir -p "$JAIL/bin"
cp "$MYJAIL/bin/worker" "$JAIL/bin"
run deaf -n 2 /bin/worker -t
run released -r -n 1 -N 2 -w 0 /bin/worker -3 -t
up deaf
DEAF=$(workers)
kill -HUP "$PID"
ok "deaf: reloaded" waitfor 10 logged 'reloaded: 2 new'
up released
client -n 2 -c 2 -q slow=500 >/dev/null
SOCK=$T/sock LOG=$T/log JAIL=$MYJAIL

for r in "" -r; do
	name=${r:-fixed}

	# Plainly.
	start $r -n 3 -N 6 /bin/worker
	old=$(workers)
	kill -HUP "$PID"
	ok "$name: all workers are new" waitfor 10 new_pool 3 $old
	ok "$name: and that is logged" logged '^kfcgi: reloaded: 3 new workers'
	like "$(fetch '')" '^pid' "$name: they serve"

	# Any number of SIGHUPs in any rhythm.
	for i in $(seq 30) $(awk 'BEGIN { srand(7); for (i = 0; i < 25; i++)
	    printf "0.%03d ", rand() * 25 }'); do
		kill -HUP "$PID"
		case $i in
		0.*)	sleep "$i" ;;
		*)	sleep 0.01 ;;
		esac
	done
	ok "$name: many: settles" waitfor 20 settled
	old=$(workers)
	kill -HUP "$PID"
	ok "$name: one more: all are new" waitfor 10 new_pool 3 $old
	ok "$name: no zombie" waitfor 10 no_zombies
	unlike "$(cat "$LOG")" 'reload failed' "$name: none failed"
	quit
	is "$?" 0 "$name: status"
	is "$(strays)" "" "$name: no orphan"

	# Under load.  In a fixed pool SIGTERM is all there is: the worker must
	# finish by itself.
	[ -z "$r" ] && g=-g || g=
	start $r -n 3 -N 6 -w 1 /bin/worker $g
	client -d 6 -c 8 -q slow=5 -t 30000 -A 100 >"$T/load" &
	load=$!
	while alive $load; do
		kill -HUP "$PID"
		sleep 0.5
	done
	wait $load
	diag "$(cat "$T/load")"
	is "$(losses "$T/load")" 0 \
	    "$name: a reload every half second loses nothing"
	ok "$name: n again" waitfor 15 settled
	quit

	# The new ones are no good: the old ones stay, with one LOG_ERR.
	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	start $r -n 3 -N 3 /bin/prog -g
	old=$(workers)
	for prog in exits removed; do
		rm -f "$JAIL/bin/prog"
		[ $prog = removed ] || {
			printf '#!/bin/worker -E1\n' >"$JAIL/bin/prog"
			chmod 755 "$JAIL/bin/prog"
		}
		: >"$LOG"
		client -o -n 200 -c 4 -q slow=5 >"$T/load" &
		load=$!
		kill -HUP "$PID"
		ok "$name: prog $prog: said so" \
		    waitfor 10 logged '^kfcgi: reload failed, the old workers stay: '
		wait $load
		is "$(cat "$T/load")" "$(all 200)" \
		    "$name: prog $prog: the old pool serves on"
		ok "$name: prog $prog: the new ones go" waitfor 10 has_workers 3
		is "$(workers)" "$old" "$name: prog $prog: the old ones stay"
		is "$(grep -c 'reload failed' "$LOG")" 1 \
		    "$name: prog $prog: in one line"
	done
	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	kill -HUP "$PID"
	ok "$name: put back: all are new" waitfor 10 new_pool 3 $old
	quit
done

# Saturated: signals are heard though descriptors are always ready, which takes
# a manager that strace(1) slows down.
start -r -n 8 -N 8 /bin/worker -g
old=$(workers)
"$REGRESS/client" -s "$SOCK" -d 60 -c 64 -t 30000 >"$T/load" &
load=$!
also_kill $load
! have strace || strace_on -o /dev/null
kill -HUP "$PID"
ok "saturated: reloads" waitfor 20 logged '^kfcgi: reloaded:'
ok "saturated: old ones leave" waitfor 20 new_pool 8 $old
kill $load
! have strace || strace_off
wait $load 2>/dev/null
quit
is "$?" 0 "saturated: status"

# With -r a busy old worker finishes its request and takes no new one.
start -r -n 2 -N 2 /bin/worker
client -q slow=2500 >"$T/slow" 2>&1 &
slow=$!
waitfor 10 logged 'has connection 1'
old=$(sed -n 's/.*worker \([0-9]*\) has connection 1$/\1/p' "$LOG")
kill -HUP "$PID"
ok "busy: reloaded" waitfor 10 logged 'reloaded: 2 new workers, 1 of the old'
served 100 "busy: others serve" -c 4
ok "busy: the old one works on" alive "$old"
wait $slow
like "$(cat "$T/slow")" "^pid $old .*served 1\$" "busy: and finishes"
ok "busy: then it leaves" waitfor 10 dead "$old"
is "$(grep -c "worker $old has connection" "$LOG")" 1 "busy: without another"
quit

# A fixed worker that is still there at the next SIGHUP is killed.
start -n 2 /bin/worker -t
old=$(workers)
kill -HUP "$PID"
ok "fixed, deaf: reloaded" waitfor 10 logged 'reloaded: 2 new'
is "$(nworkers)" 4 "fixed, deaf: the old ones are still there"
kill -HUP "$PID"
ok "fixed, deaf: reloaded again" waitfor 10 logged 'reloaded: 2 new' 2
ok "fixed, deaf: the first ones are gone" waitfor 5 all_dead $old
is "$(nworkers)" 4 "fixed, deaf: the second ones are there"
quit_now
is "$?" 0 "fixed, deaf: status"

# The deaf from above.
use deaf
ok "deaf: they go in the end" waitfor 30 new_pool 2 $DEAF
is "$(grep -c 'did not leave within 20 s of SIGTERM: killed' "$LOG")" 2 \
    "deaf: and that is told"
ends deaf
use released
ok "released and deaf: it goes in the end" waitfor 30 logged \
    'did not leave within 20 s of SIGTERM: killed'
ok "released and deaf: n are left" waitfor 10 has_workers 1
ends released

done_testing
