#!/bin/sh
# SIGHUP: new workers first, no request lost, exactly the pool asked for.
. ./lib.sh

# No reload under way: it would be seen as more or fewer workers than n.
settled() {
	has_workers 3 || return 1
	_n=$(grep -c '^kfcgi: status:' "$LOG")
	kill -USR1 "$PID"
	waitfor 5 logged '^kfcgi: status:' $((_n + 1))
	grep '^kfcgi: status:' "$LOG" | tail -n 1 |
	    grep -q ': 3 [a-z]*, 0 busy, 0 leaving, 0 starting;'
}

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
	for i in $(seq 60); do
		kill -HUP "$PID"
		sleep 0.01
	done
	ok "$name: 60 at 10 ms: the pool is n" waitfor 20 has_workers 3
	for i in $(awk 'BEGIN { srand(7); for (i = 0; i < 25; i++)
	    printf "0.%03d ", rand() * 25 }'); do
		kill -HUP "$PID"
		sleep "$i"
	done
	ok "$name: 25 at random: settles" waitfor 20 settled
	is "$(nworkers)" 3 "$name: 25 at random: the pool is n"
	old=$(workers)
	kill -HUP "$PID"
	ok "$name: one more: all are new" waitfor 10 new_pool 3 $old
	is "$(zombies "$PID")" "" "$name: no zombie"
	unlike "$(cat "$LOG")" 'reload failed' "$name: none failed"
	quit
	is "$?" 0 "$name: status"
	is "$(strays)" "" "$name: no orphan"

	# Under load, every half second for ten seconds: nothing is lost.
	for g in -g ""; do
		# In a fixed pool SIGTERM is all there is: the worker must
		# finish by itself.
		[ -z "$r$g" ] && continue
		start $r -n 3 -N 6 -w 1 /bin/worker $g
		client -d 10 -c 8 -q slow=5 -t 30000 -A 100 >"$T/load" &
		load=$!
		while alive $load; do
			kill -HUP "$PID"
			sleep 0.5
		done
		wait $load
		like "$(head -n 1 "$T/load")" \
		    'answered [0-9]+ refused 0 reset 0 cut 0 timeout 0 bad 0' \
		    "$name${g:+, $g}: a reload every half second loses nothing"
		diag "$(cat "$T/load")"
		ok "$name${g:+, $g}: n again" waitfor 15 settled
		quit
	done

	# Saturated: signals are heard though descriptors are always ready,
	# which takes a manager that strace(1) slows down.
	start $r -n 8 -N 8 /bin/worker -g
	old=$(workers)
	"$REGRESS/client" -s "$SOCK" -d 60 -c 64 -t 30000 >"$T/load" &
	load=$!
	tracer=
	also_kill $load
	if have strace; then
		strace -o /dev/null -p "$PID" 2>"$T/strace" &
		tracer=$!
		also_kill $tracer
		waitfor 10 grep -q attached "$T/strace"
	fi
	kill -HUP "$PID"
	ok "$name: saturated: reloads" waitfor 20 logged '^kfcgi: reloaded:'
	ok "$name: saturated: old ones leave" waitfor 20 new_pool 8 $old
	kill $load
	[ -z "$tracer" ] || kill -INT $tracer
	wait $load $tracer 2>/dev/null
	quit
	is "$?" 0 "$name: saturated: status"

	# The new ones are no good: the old ones stay, with one LOG_ERR.
	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	start $r -n 3 -N 3 /bin/prog -g
	old=$(workers)
	for prog in junk exits removed plain; do
		rm -f "$JAIL/bin/prog"
		case $prog in
		junk)
			echo junk >"$JAIL/bin/prog"
			chmod 755 "$JAIL/bin/prog"
			;;
		exits)
			printf '#!/bin/worker -E1\n' >"$JAIL/bin/prog"
			chmod 755 "$JAIL/bin/prog"
			;;
		plain)
			cp "$JAIL/bin/worker" "$JAIL/bin/prog"
			chmod 644 "$JAIL/bin/prog"
			;;
		esac
		: >"$LOG"
		client -n 200 -c 4 -q slow=5 >"$T/load" &
		load=$!
		kill -HUP "$PID"
		ok "$name: prog $prog: said so" \
		    waitfor 10 logged '^kfcgi: reload failed, the old workers stay: '
		wait $load
		is "$(head -n 1 "$T/load")" \
		    "answered 200 refused 0 reset 0 cut 0 timeout 0 bad 0" \
		    "$name: prog $prog: the old pool serves on"
		ok "$name: prog $prog: the new ones go" waitfor 10 has_workers 3
		is "$(workers)" "$old" "$name: prog $prog: the old ones stay"
		is "$(grep -c 'reload failed' "$LOG")" 1 \
		    "$name: prog $prog: in one line"
		diag "$(grep 'reload failed' "$LOG")"
	done
	rm -f "$JAIL/bin/prog"
	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	kill -HUP "$PID"
	ok "$name: put back: all are new" waitfor 10 new_pool 3 $old
	quit
done

# With -r a busy old worker finishes its request and takes no new one.
start -r -n 2 -N 2 /bin/worker
client -q slow=2500 >"$T/slow" 2>&1 &
slow=$!
waitfor 10 logged 'has connection 1'
old=$(sed -n 's/.*worker \([0-9]*\) has connection 1$/\1/p' "$LOG")
kill -HUP "$PID"
ok "busy: reloaded" waitfor 10 logged 'reloaded: 2 new workers, 1 of the old'
is "$(client -n 100 -c 4 | head -n 1)" \
    "answered 100 refused 0 reset 0 cut 0 timeout 0 bad 0" "busy: others serve"
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

# Deaf workers: gone within twenty seconds, in reload and in release.
start -n 2 /bin/worker -t
old=$(workers)
kill -HUP "$PID"
ok "fixed, deaf: reloaded" waitfor 10 logged 'reloaded: 2 new'
ok "fixed, deaf: they go in the end" waitfor 30 new_pool 2 $old
is "$(grep -c 'did not leave within 20 s of SIGTERM: killed' "$LOG")" 2 \
    "fixed, deaf: and that is told"
quit_now

# The same in idle release: here the leader heeds neither SIGTERM nor the
# end-of-file, which is for its siblings.
start -r -n 1 -N 2 -w 0 /bin/worker -3 -t
client -n 2 -c 2 -q slow=500 >/dev/null
ok "-r, deaf: released" waitfor 10 logged 'released after'
ok "-r, deaf: it goes in the end" waitfor 30 logged \
    'did not leave within 20 s of SIGTERM: killed'
ok "-r, deaf: n are left" waitfor 10 has_workers 1
quit_now
is "$?" 0 "-r, deaf: status"

# The three-process worker reloads under load, too.
start -r -n 2 -N 4 /bin/worker -3
client -d 3 -c 4 -q slow=5 -t 30000 >"$T/load" &
load=$!
while alive $load; do
	kill -HUP "$PID"
	sleep 0.5
done
wait $load
like "$(head -n 1 "$T/load")" \
    'answered [0-9]+ refused 0 reset 0 cut 0 timeout 0 bad 0' \
    "three processes: a reload every half second loses nothing"
quit
ok "three processes: nobody left" waitfor 10 no_strays

done_testing
