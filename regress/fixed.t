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

# After one of them has set O_NONBLOCK the others end at once, with status 0, and
# serve nobody: that is bounded and told.  Workers that end after a request each,
# beside them, are neither.
cat >"$T/storm.c" <<'END'
#include <sys/socket.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
static volatile sig_atomic_t set;
static void
on_usr1(int sig)
{
	(void)sig;
	fcntl(0, F_SETFL, O_NONBLOCK);
	set = (int)write(1, "set\n", 4);
}
int
main(void)
{
	struct sigaction sa = { .sa_handler = on_usr1 };

	alarm(60);
	sigaction(SIGUSR1, &sa, NULL);
	while (accept(0, NULL, NULL) != -1 || set)
		pause();
	return 0;
}
END
$CC -static -o "$JAIL/bin/storm" "$T/storm.c" || exit 1
run storm -n 4 /bin/storm
run honest -n 4 /bin/worker -x 1
up honest
"$REGRESS/client" -s "$SOCK" -d 12 -c 8 >"$T/load" &
load=$!
up storm
first=$(workers | head -n 1)
kill -USR1 "$first"
waitfor 10 logged '^set'
kill -KILL $(workers | grep -vx "$first")
begin=$(date +%s)
ok "a storm of status 0: told" waitfor 30 logged \
    'workers have been dying within a second of their start for 10 s'
n=$(status | sed 's/.* \([0-9]*\) restarts*$/\1/') s=$(($(date +%s) - begin + 1))
ok "a storm of status 0: bounded: $n in $s s" test "$n" -le $((s * 110))
ends storm
wait $load
is "$(losses "$T/load")" 0 "a request each: nothing is lost"
ok "a request each: no limit: $(answers "$T/load")" \
    test "$(answers "$T/load")" -gt 1500
use honest
fails "a request each: nothing is told" logged 'have been dying'
ends honest

done_testing
