#!/bin/sh
# The fixed pool: n workers that share the listener.
. ./lib.sh

ok "start" start -n 4 /bin/worker
is "$(nworkers)" 4 "four workers"
served 500 "500 requests at concurrency 16" -c 16
is "$(client -q echo -b 5000000 -A 60 | grep -c '^stdin 5000000 ')" 1 \
    "a request of 5 MB"
is "$(fetch body=5000000 | wc -c | tr -d ' ')" 5000000 "an answer of 5 MB"
is "$(client -n 200 -c 8 -q slow=10 -v |
    sed -n 's/.* answered \(pid [0-9]*\) .*/\1/p' | sort -u | grep -c .)" 4 \
    "all four answer"
quit

# -l is the backlog.  ss(8) knows the socket by its name, not by its path.
# backlog number options...
backlog() {
	_l=$1
	shift
	start "$@" /bin/worker
	if have ss; then
		is "$(ss -xlpH | awk -v p="pid=$PID," '
		    $2 == "LISTEN" && index($0, p) { print $4; exit }')" \
		    "$_l" "the backlog: $*"
	else
		skip "no ss(8)" "the backlog: $*"
	fi
	quit
}
backlog 7 -l 7 -n 1
backlog 10 -n 5
backlog 18 -r -n 2 -N 9
is "$?" 0 "status after SIGTERM"

done_testing
