#!/bin/sh
# The fixed pool: n workers that share the listener.
. ./lib.sh

ok "start" start -n 4 /bin/worker
is "$(nworkers)" 4 "four workers"
is "$(client -n 500 -c 16 | head -n 1)" \
    "answered 500 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "500 requests at concurrency 16"
is "$(client -q echo -b 5000000 -A 60 | grep -c '^stdin 5000000 ')" 1 \
    "a request of 5 MB"
is "$(client -q body=5000000 -L 5000000 -n 2 | head -n 1)" \
    "answered 2 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "an answer of 5 MB"
is "$(client -k -n 20 -c 4 | head -n 1)" \
    "answered 80 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "20 requests on each of four kept connections"
pids=$(client -n 200 -c 8 -q slow=10 -P | sed -n 's/^pids \([0-9]*\).*/\1/p')
is "$pids" 4 "all four answer"
is "$(workers | tr '\n' ' ')" "$(workers | sort -n | tr '\n' ' ')" \
    "still the same four"

# No system call per request, nor when idle.
if have strace; then
	strace -c -o "$T/count" -p "$PID" 2>"$T/strace" &
	tracer=$!
	also_kill $tracer
	waitfor 10 grep -q attached "$T/strace"
	client -n 200 -c 8 >/dev/null
	kill -INT $tracer
	wait $tracer
	is "$(awk '$NF == "total" { print $(NF - 1) }' "$T/count")" "" \
	    "the manager did nothing for 200 requests"
else
	skip "no strace(1)" "the manager did nothing for 200 requests"
fi

# -l is the backlog.  ss(8) knows the socket by its name, not by its path.
backlog() {
	if have ss; then
		is "$(ss -xlpH | awk -v p="pid=$PID," '
		    $2 == "LISTEN" && index($0, p) { print $4; exit }')" \
		    "$1" "$2"
	else
		skip "no ss(8)" "$2"
	fi
}
quit
for l in 1 7; do
	start -l $l -n 1 /bin/worker
	backlog $l "-l $l"
	quit
done
start -n 5 /bin/worker
backlog 10 "2n by default"
quit
start -r -n 2 -N 9 /bin/worker
backlog 18 "2N with -r"
quit
is "$?" 0 "status after SIGTERM"

done_testing
