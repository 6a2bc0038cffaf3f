#!/bin/sh
# Workers and clients that misbehave: they cost their slot.
. ./lib.sh

# One slow or odd request, while others are served at full speed.
# aside query: $! is a client with that query, which a worker now has
aside() {
	_n=$(grep -c 'has connection' "$LOG")
	client -q "$1" -t 60000 >"$T/aside" 2>&1 &
	aside=$!
	waitfor 10 logged 'has connection' $((_n + 1))
}

others_served() {
	served 300 "$1: others are served" -c 4
}

# A cookie that is late, or comes in pieces, is a cookie.  So is one before the
# answer: the worker is free too early, but whoever holds the connection may
# answer it.
start -r -n 2 -N 6 -w 0 /bin/worker
like "$(fetch cookie=early)" '^pid' "a cookie before the answer"
for cookie in late:1500 split:500; do
	aside "cookie=$cookie"
	others_served "cookie $cookie"
	w=$(sed -n 's/^pid \([0-9]*\).*/\1/p' "$T/aside")
	ok "cookie $cookie: taken" waitfor 10 logged \
	    "worker $w is done with connection"
done
aside cookie=short
others_served "half a cookie and no more"
aside hang
others_served "a request that hangs"
aside stop
others_served "a worker that is stopped"
unlike "$(cat "$LOG")" "stopped$" "none was found fault with"
quit_now
is "$?" 0 "status"

# A wrong one, one too many, one that nobody asked for.
# fault query message description
fault() {
	start -r -n 2 -N 2 /bin/worker
	n=$(nsockets "$PID")
	fetch "$1" >/dev/null
	ok "$3: logged" waitfor 10 logged "^kfcgi: worker [0-9]+ $2: stopped"
	w=$(sed -n 's/^kfcgi: worker \([0-9]*\) .*: stopped$/\1/p' "$LOG" |
	    head -n 1)
	ok "$3: that worker is gone" waitfor 10 dead "$w"
	ok "$3: and replaced" waitfor 10 has_workers 2
	others_served "$3"
	ok "$3: and its connection is closed" waitfor 10 eval '
	    [ "$(nsockets "$PID")" -eq "$n" ]'
	quit
}
fault cookie=wrong "wrote a wrong cookie" "a wrong cookie"
fault cookie=twice \
    "wrote (more than its cookie|to its control socket unasked)" \
    "a cookie twice"
fault unasked "wrote to its control socket unasked" "bytes out of turn"
for busy in '' 'cookie=none&'; do
	fault "${busy}closectl" "closed its control socket but lives" \
	    "the control socket closed by a living worker${busy:+, busy}"
done

# Hung workers cost their slots; N of them and the rest waits, until
# they are gone.
start -r -n 2 -N 3 /bin/worker
for i in 1 2; do
	aside hang
done
others_served "two of three hang"
aside hang
client -q '' -t 60000 >"$T/waits" 2>&1 &
waits=$!
ok "all hang: saturated" waitfor 10 logged 'all 3 workers are busy'
fails "one more waits" test -s "$T/waits"
kill -KILL "$(workers | head -n 1)"
wait $waits
like "$(cat "$T/waits")" '^pid' "until a hung one is killed"
quit_now
is "$?" 0 "status"
ok "nobody left" waitfor 10 no_strays

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
	ok "$name: n again" waitfor 10 has_workers 2
	quit
	is "$?" 0 "$name: status"
done

# The manager stopped and continued: nobody is released or killed for the
# time that passed, if there is work for them.
start -r -n 1 -N 4 -w 5 /bin/worker
client -n 4 -c 4 -q slow=500 >/dev/null
waitfor 10 has_workers 4
before=$(workers)
freeze "$PID"
client -n 4 -c 4 -q slow=300 -t 20000 -v >"$T/stopped" 2>&1 &
load=$!
sleep 5.5	# longer than -w
kill -CONT "$PID"
wait $load
is "$(grep '^answered' "$T/stopped")" "$(all 4)" \
    "manager stopped and continued: waiting clients are answered"
is "$(sed -n 's/.* answered \(pid [0-9]*\) .*/\1/p' "$T/stopped" | sort -u |
    grep -c .)" 4 "by four workers"
is "$(workers)" "$before" "the same ones as before"
quit

# The wall clock a day later: the monotonic one counts.  The test makes the flag
# when the pool is up; so that no jail hides it, there is none.
cat >"$T/clock.c" <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>
int
clock_gettime(clockid_t id, struct timespec *ts)
{
	int (*real)(clockid_t, struct timespec *) =
	    (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT,
	    "clock_gettime");
	int rv = real(id, ts);

	if (id == CLOCK_REALTIME && access(CLOCKFLAG, F_OK) == 0)
		ts->tv_sec += 86400;
	return rv;
}
END
$CC -shared -fPIC "-DCLOCKFLAG=\"$T/flag\"" -o "$T/clock.so" "$T/clock.c"
JAIL=/
LD_PRELOAD=$T/clock.so start -r -n 1 -N 4 -w 100 "$T/jail/bin/worker"
client -n 4 -c 4 -q slow=500 >/dev/null
waitfor 10 has_workers 4
before=$(workers)
: >"$T/flag"
served 4 "clock stepped by a day" -c 4 -q slow=200
is "$(workers)" "$before" "clock stepped by a day: no worker less"
quit

done_testing
