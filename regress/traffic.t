#!/bin/sh
# What traffic does to the pool: requests that kill, more clients than workers,
# and programs that stop working after a good start.  Independent pools run side
# by side.  In which order all that may come is sim.t's.
. ./lib.sh

# --- Requests that kill for more than ten seconds, a few in each; this goes on
# beside the rest.
for pool in dying dying-r; do
	run $pool ${pool#dying} -n 2 /bin/worker
done
for pool in dying dying-r; do
	up $pool
	(
		trap 'exit' TERM
		while :; do
			client -q crash >/dev/null 2>&1
			sleep 0.2
		done
	) &
	also_kill $!
done

# --- Requests that kill, as fast as may be: at most a hundred workers are
# started in a second to replace those that died young.
run storm -v -n 4 /bin/worker
run storm-r -v -r -n 4 -N 99 /bin/worker
began=$(date +%s)
for pool in storm storm-r; do
	up $pool
	client -d 3 -c 8 -q crash >/dev/null &
	echo $! >"$T/$pool.client"
done
for pool in storm storm-r; do
	use $pool
	wait "$(cat "$T/$pool.client")"
	# And those of the start, and of the seconds that are not whole.
	most=$((($(date +%s) - began + 3) * 100))
	n=$(grep -c '^kfcgi: worker [0-9]* started$' "$LOG")
	ok "$pool: $n workers, of at most $most" test "$n" -gt 40 -a "$n" -le $most
	like "$(fetch '')" '^pid' "$pool: serves after it"
	ends $pool
done

# --- A pool follows its load: c clients at a time are no reason for many more
# workers than c, nor for much fewer if each request takes its time.  On one
# processor, where a client may be quicker than the manager.
one=$KFCGI
if have taskset; then
	one=$T/one
	echo "#!/bin/sh" >"$one"
	echo "exec taskset -c 0 '$KFCGI' \"\$@\"" >>"$one"
	chmod 755 "$one"
fi
# load name clients options...: so many at a time, for that pool
load() {
	_name=$1
	_c=$2
	shift 2
	up $_name
	served $((_c * 50)) "$_name: all answered" -c $_c -t 60000 "$@"
	n=$(nworkers)
	# A worker may be kept from the processor when it has answered.
	ok "$_name: $n workers, not many more" test $n -le $((_c * 2 + 2))
	unlike "$(cat "$LOG")" 'N may be too low' "$_name: nor is N too low"
	ends $_name
}
KFCGI=$one run quick1 -r -n 1 -N 40 -l 128 /bin/worker
KFCGI=$one run quick8 -r -n 2 -N 80 -l 128 /bin/worker
run slow8 -r -n 2 -N 80 -l 128 /bin/worker
load quick1 1
load quick8 8
load slow8 8 -q slow=50
ok "slow8: nor much fewer" test $((n * 2)) -ge 8

# --- Programs that stop working after a good start: one that fails, and one that
# is not there.  A single process at a time is tried, and the pool is whole again
# when they are mended.
for pool in fails missing; do
	r=-r
	[ $pool = missing ] || r=
	JAIL=$T/jail.$pool
	mkdir -p "$JAIL/bin"
	ln "$T/jail/bin/worker" "$JAIL/bin/worker"
	ln "$T/jail/bin/worker" "$JAIL/bin/prog"
	run $pool -v $r -n 20 -N 20 /bin/prog
done
for pool in fails missing; do
	up $pool
	rm "$T/jail.$pool/bin/prog"
	if [ $pool = fails ]; then
		printf '#!/bin/worker -E3\n' >"$T/prog"
		chmod 755 "$T/prog"
		mv "$T/prog" "$T/jail.$pool/bin/prog"
	fi
	kill -KILL $(workers)
done
for pool in fails missing; do
	use $pool
	ok "$pool: it is known to be broken" waitfor 30 logged \
	    '^kfcgi: no new workers for now: .*; next trial in 800 ms$'
	is "$(sed -n 's/.*; next trial in \([0-9]*\) ms$/\1/p' "$LOG" |
	    head -n 4 | tr '\n' ' ')" "100 200 400 800 " \
	    "$pool: each time for twice as long"
	is "$(sed -n '/no new workers for now/,$p' "$LOG" |
	    grep -c 'worker [0-9]* started$')" 0 "$pool: only trials"
	ok "$pool: one at a time" test "$(nworkers)" -le 1
	rm -f "$T/jail.$pool/bin/prog"
	ln "$T/jail/bin/worker" "$T/jail.$pool/bin/prog"
done
for pool in fails missing; do
	use $pool
	ok "$pool: mended: it is tried" waitfor 30 logged \
	    '^kfcgi: workers are started again: a trial passed$'
	ok "$pool: mended: and the pool is whole" waitfor 30 has_workers 20
	like "$(fetch '')" '^pid' "$pool: mended: and serves"
	ends $pool
done
JAIL=$T/jail

# --- Of many deaths in a second the first are told whole, the others counted.
run joined -n 20 /bin/worker
up joined
freeze "$PID"
w=$(workers)
kill -SEGV $w
waitfor 20 all_dead $w
kill -CONT "$PID"
ok "20 deaths: replaced" waitfor 30 new_pool 20 $w
ok "20 deaths: the others are counted" waitfor 20 logged \
    '^kfcgi: 15 more of the workers failed in the same second$'
is "$(grep -c 'worker [0-9]* was killed by signal 11 (.*) after ' "$LOG")" 5 \
    "20 deaths: the first are told whole"
is "$(status | sed 's/.*; //')" "0 handed out, 20 deaths, 20 restarts" \
    "20 deaths: all are counted, in a fixed pool, too"
ends joined

# --- Those that went on beside the rest.
for pool in dying dying-r; do
	use $pool
	ok "$pool: that requests may be what kills is told" waitfor 60 logged \
	    '^kfcgi: workers have been dying within a second of their start for 10 s, though trials pass: a request may be what kills them$'
	sleep 1		# in which five more die
	is "$(grep -c ' have been dying ' "$LOG")" 1 "$pool: once"
	unlike "$(cat "$LOG")" 'no new workers' "$pool: and nobody waits"
	ends $pool
done

done_testing
