#!/bin/sh
# Workers and clients that misbehave: they cost their slot.  What time and order
# may do is sim.t's.
. ./lib.sh

# aside query: $aside is a client with that query, which a worker now has
aside() {
	_n=$(grep -c 'has connection' "$LOG")
	client -q "$1" -t 60000 >"$T/aside" 2>&1 &
	aside=$!
	waitfor 20 logged 'has connection' $((_n + 1))
}

others_served() {
	served 100 "$1: others are served" -c 4 -t 30000
}

# A cookie that is late, or comes in pieces, is a cookie.  So is one before the
# answer: the worker is free too early, but whoever holds the connection may
# answer it.
start -r -n 2 -N 6 -w 0 /bin/worker
like "$(fetch cookie=early)" '^pid' "a cookie before the answer"
for cookie in late:1500 split:500; do
	aside "cookie=$cookie"
	others_served "cookie $cookie"
	wait $aside
	w=$(sed -n 's/^pid \([0-9]*\).*/\1/p' "$T/aside")
	ok "cookie $cookie: taken" waitfor 20 logged \
	    "worker $w is done with connection"
done
for query in cookie=short hang stop; do
	aside $query
	others_served "$query"
done
unlike "$(cat "$LOG")" "stopped$" "none was found fault with"
quit_now
is "$?" 0 "status"

# A wrong cookie, bytes that nobody asked for, no control socket.
start -r -n 2 -N 2 /bin/worker
n=$(nsockets "$PID")
# fault query message
fault() {
	fetch "$1" >/dev/null
	ok "$1: logged" waitfor 20 logged "^kfcgi: worker [0-9]+ $2: stopped"
	w=$(sed -n "s/^kfcgi: worker \([0-9]*\) $2: stopped\$/\1/p" "$LOG" |
	    head -n 1)
	ok "$1: that worker is gone" waitfor 20 dead "$w"
	ok "$1: and replaced" waitfor 20 has_workers 2
	others_served "$1"
}
fault cookie=wrong "wrote a wrong cookie"
fault unasked "wrote to its control socket unasked"
fault 'cookie=none&closectl' "closed its control socket but lives"
ok "their connections are closed" waitfor 20 eval '
    [ "$(nsockets "$PID")" -eq "$n" ]'
quit

# Hung workers cost their slots; N of them and the rest waits, until they are
# gone.
start -r -n 2 -N 3 /bin/worker
for i in 1 2; do
	aside hang
done
others_served "two of three hang"
aside hang
client -q '' -t 60000 >"$T/waits" 2>&1 &
waits=$!
ok "all hang: saturated" waitfor 20 logged 'all 3 workers are busy'
fails "one more waits" test -s "$T/waits"
kill -KILL "$(workers | head -n 1)"
wait $waits
like "$(cat "$T/waits")" '^pid' "until a hung one is killed"
quit_now
is "$?" 0 "status"
ok "nobody left" waitfor 20 no_strays

# Clients.
for r in "" -r; do
	name=${r:-fixed}
	start $r -n 2 -N 4 -w 1 /bin/worker
	client -O leave -n 20 >/dev/null 2>&1
	others_served "$name: clients that leave before they are served"
	client -O early -n 20 -q body=2000000 >/dev/null 2>&1
	others_served "$name: clients that leave while they are served"
	client -O garbage -n 5 -t 1000 >/dev/null 2>&1
	others_served "$name: clients that send garbage"
	"$REGRESS/client" -s "$SOCK" -O half -t 5000 >/dev/null 2>&1 &
	half=$!
	others_served "$name: a client that sends half a header and waits"
	kill $half 2>/dev/null
	wait $half 2>/dev/null
	unlike "$(cat "$LOG")" 'signal ([0-9] |1[^5])|exited with status' \
	    "$name: no worker died of it"
	ok "$name: n again" waitfor 20 has_workers 2
	quit
	is "$?" 0 "$name: status"
done

done_testing
