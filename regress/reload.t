#!/bin/sh
# SIGHUP: new workers first, no request lost, exactly the pool asked for.
. ./lib.sh

# No reload under way: it would be seen as more or fewer workers than n.
settled() {
	has_workers 3 && status_matches ': 3 [a-z]*, 0 busy, 0 leaving, 0 starting;'
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

	# Any number of SIGHUPs.
	for i in 1 2 3 4 5 6 7 8 9 10; do
		kill -HUP "$PID"
		sleep 0.01
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
		    waitfor 10 logged \
		    '^kfcgi: reload failed, old workers that stay: 3: '
		wait $load
		is "$(cat "$T/load")" "$(all 200)" \
		    "$name: prog $prog: the old pool serves on"
		ok "$name: prog $prog: the new ones go" waitfor 10 has_workers 3
		is "$(workers)" "$old" "$name: prog $prog: the old ones stay"
		is "$(grep -c 'reload failed' "$LOG")" 1 \
		    "$name: prog $prog: in one line"
	done
	kill -KILL $old
	ok "$name: none is left" waitfor 10 logged 'no new workers for now'
	waitfor 10 has_workers 0
	kill -HUP "$PID"
	ok "$name: and none is said to stay" waitfor 10 logged \
	    '^kfcgi: reload failed, old workers that stay: 0: '
	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	kill -HUP "$PID"
	ok "$name: put back: all are new" waitfor 10 new_pool 3 $old
	quit
done

# With -r a busy old worker finishes its request and takes no new one.
start -r -n 2 -N 2 /bin/worker
client -q stop -t 60000 >"$T/slow" 2>&1 &
slow=$!
waitfor 10 logged 'has connection 1'
old=$(sed -n 's/.*worker \([0-9]*\) has connection 1$/\1/p' "$LOG")
kill -HUP "$PID"
ok "busy: reloaded" waitfor 10 logged 'reloaded: 2 new workers, 1 of the old'
served 100 "busy: others serve" -c 4
ok "busy: the old one stays" alive "$old"
kill -CONT "$old"
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

# Executed is not ready: a program that needs 0.7 s until it accepts.  Backlogs
# and clients, few and many; a run without a reload, then one with reloads that
# follow each other and that overlap.
pools="4.60 8.11 128.4 r4.11 r8.60 r128.4"
each() {
	for p in $pools; do
		use $p
		"$@"
	done
}
load() {
	"$REGRESS/client" -s "$SOCK" -d $1 -c "${p#*.}" -q slow=20 -t 30000 \
	    -A 100 >"$T/$p.$2" &
	loads="$loads $!"
}
longest() {
	sed -n 's/.* max \([0-9]*\)$/\1/p' "$T/$p.$1"
}
# As long as without, or half a second more: the machine may be busy.
nothing_lost() {
	is "$(losses "$T/$p.with")" 0 "$p: nothing is lost"
	ok "$p: longest wait without and with: $(longest without) $(longest with)" \
	    test "$(longest with)" -lt $(($(longest without) + 500000))
}
for p in $pools; do
	l=${p%.*}
	r=
	[ $l = ${l#r} ] || r="-r -N 4"
	run $p $r -n 4 -l ${l#r} /bin/worker -g -s 700
done
for p in $pools; do
	up $p
done
for what in "1 ready" "2 without"; do
	loads=
	each load $what
	wait $loads
done
loads=
each load 12 with
for i in 1 2 3; do
	each eval 'kill -HUP $PID'
	each waitfor 10 logged '^kfcgi: reloaded:' $i
done
for i in 1 2 3 4 5; do
	each eval 'kill -HUP $PID'
	sleep 0.3
done
wait $loads
each nothing_lost
for p in $pools; do
	ends $p
done

done_testing
