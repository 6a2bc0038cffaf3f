#!/bin/sh
# The trial: the program is judged by a worker that no client can reach, at a
# start, at SIGHUP and in doubt.  It takes a second, so independent pools run
# side by side.
. ./lib.sh

[ -d /proc/self/fd ] || skip_all "needs /proc"

# odd ms status words: says so after that time and ends
# odd how: as main() has it, and serves then, if it can
cat >"$T/odd.c" <<'END'
#include <sys/socket.h>
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void
late(int ms, int status, const char *words)
{
	usleep(ms * 1000);
	(void)write(2, words, strlen(words));
	(void)write(2, "\n", 1);
	_exit(status);
}
int
main(int argc, char *argv[])
{
	static char	*worker[] = { "/bin/worker", "-g", "-A", "100", NULL };
	const char	*how = argc > 1 ? argv[1] : "";
	FILE		*f;
	int		 ms, status;

	alarm(100);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 4)
		late(atoi(argv[1]), atoi(argv[2]), argv[3]);
	if (strcmp(how, "stops") == 0)
		raise(SIGSTOP);
	else if (strcmp(how, "leaves") == 0 && fork() != 0)
		return 0;
	else if (strcmp(how, "job") == 0 && fork() == 0)
		for (;;)
			pause();
	else if (strcmp(how, "floods") == 0 && fork() == 0) {
		for (;;)
			if (write(2, "a flood\n", 8) == -1)
				pause();
	} else if (strcmp(how, "pours") == 0) {
		for (ms = 0; ms < 20000; ms++)
			(void)write(2, "a flood\n", 8);
		abort();
	}
	/* What each version of a program does to the listener it shares. */
	if (strcmp(how, "versions") == 0) {
		if (access("/second", F_OK) == 0) {
			if (fcntl(0, F_GETFL) & O_NONBLOCK)
				late(0, 4, "the listener does not block");
		} else if (listen(0, 1) == -1 ||
		    fcntl(0, F_SETFL, O_NONBLOCK) == -1)
			late(0, 5, "not a listener");
	}
	/* As /mode says, if it is there. */
	if (strcmp(how, "mode") == 0 && (f = fopen("/mode", "r")) != NULL &&
	    fscanf(f, "%d %d", &ms, &status) == 2)
		late(ms, status, "database is down");
	execv(worker[0], worker);
	err(1, "%s", worker[0]);
}
END
$CC -w -static -o "$JAIL/bin/odd" "$T/odd.c" || exit 1

moment() {
	perl -MTime::HiRes=time -e 'printf "%d\n", time * 1000'
}

# begin name options... prog...: a daemon is started in the background.  Its
# socket is $T/name.s, what it says $T/name.e, its status and the milliseconds
# that the start took $T/name.r; the pid of the shell's child is $CHILD.
begin() {
	_name=$1
	shift
	(
		_t=$(moment)
		"$KFCGI" -p "$JAIL" -s "$T/$_name.s" -U "$WHO" "$@" \
		    </dev/null >"$T/$_name.e" 2>&1 &
		echo $! >"$T/$_name.p"
		wait $!
		echo "$? $(($(moment) - _t))" >"$T/$_name.r"
	) &
}

# begun name: its result is there
begun() {
	waitfor 30 test -s "$T/$1.r"
}

# run name options... prog...: the same in the foreground, with -d -v
run() {
	_name=$1
	shift
	"$KFCGI" -d -v -p "$JAIL" -s "$T/$_name.s" -U "$WHO" "$@" \
	    </dev/null >"$T/$_name.l" 2>&1 &
	echo $! >"$T/$_name.p"
	also_kill $!
}

# use name: the functions of lib.sh are about that one
use() {
	SOCK=$T/$1.s
	LOG=$T/$1.l
	PID=$(cat "$T/$1.p")
}

# The processes of a process group that live.
group() {
	processes pid pgid stat |
	    awk -v g="$1" '$2 == g && $3 !~ /^Z/ { print $1 }'
}

no_group() {
	[ -z "$(group "$1")" ]
}

# The last that was on trial.
on_trial() {
	sed -n 's/^kfcgi: worker \([0-9]*\) started on trial$/\1/p' "$LOG" |
	    tail -n 1
}

# status_matches pattern: asked for anew
status_matches() {
	_n=$(grep -c '^kfcgi: status:' "$LOG")
	kill -USR1 "$PID"
	waitfor 5 logged '^kfcgi: status:' $((_n + 1))
	grep '^kfcgi: status:' "$LOG" | tail -n 1 | grep -Eq "$1"
}

# counts pattern description: the status comes to match that
counts() {
	waitfor 5 status_matches "$1" && result 0 "$2" || {
		result 1 "$2"
		diag "$(grep '^kfcgi: status:' "$LOG" | tail -n 1)," \
		    "expected to match $1"
	}
}

# ends name: two signals, for those that are deaf
ends() {
	use "$1"
	kill -TERM "$PID" 2>/dev/null
	kill -INT "$PID" 2>/dev/null
	waitfor 20 dead "$PID"
	wait "$PID"
	is "$?" 0 "$1: stopped: status"
	PID=
}

TOP=$SOCK

# --- A start takes the second of its trial, and refuses what fails in it.
for r in '' -r; do
	begin "good$r" $r -n 2 -w 0 -l 16 /bin/worker
	for ms in 50 300 900; do
		begin "late$ms$r" $r -n 3 /bin/odd $ms 3 "database is down"
	done
	begin "zero$r" $r -n 3 /bin/odd 300 0 "in the background"
	begin "leaves$r" $r -n 3 /bin/odd leaves
	begin "flood$r" $r -n 3 /bin/odd pours
	begin "told$r" $r -n 3 /bin/worker -3
	begin "told-t$r" $r -n 3 /bin/worker -3 -t
done
# Whoever connects meanwhile waits, or learns at once that it is over.
clients=
for name in good late900 good-r late900-r; do
	waitfor 5 test -S "$T/$name.s"
	"$REGRESS/client" -s "$T/$name.s" -n 8 -c 8 -t 25000 \
	    >"$T/$name.c" 2>&1 &
	clients="$clients $!"
done
for name in told told-t told-r told-t-r; do
	waitfor 5 test -S "$T/$name.s"
	kill -TERM "$(cat "$T/$name.p")"
done
wait $clients
for r in '' -r; do
	pool=${r:-fixed}
	is "$(head -n 1 "$T/good$r.c")" \
	    "answered 8 refused 0 reset 0 cut 0 timeout 0 bad 0" \
	    "$pool: who connects during a start is answered"
	begun "good$r"
	read -r status ms <"$T/good$r.r"
	is "$status" 0 "$pool: a good start: status"
	ok "$pool: a good start took the second of the trial: $ms ms" \
	    test "$ms" -ge 1000
	is "$(grep -v '^kfcgi: no syslogd: ' "$T/good$r.e")" "" \
	    "$pool: and says nothing else"
	like "$(head -n 1 "$T/late900$r.c")" "^answered 0 .* timeout 0 bad 0" \
	    "$pool: who connects to a start that fails learns it"
	time=$(sed -n 's/^time \([0-9]*\) .*/\1/p' "$T/late900$r.c")
	ok "$pool: at once: after $time ms" test "${time:-99999}" -lt 8000

	for name in late50 late300 late900 zero leaves flood; do
		begun "$name$r"
		read -r status ms <"$T/$name$r.r"
		is "$status" 1 "$pool: $name: refused"
		fails "$pool: $name: no socket is left" test -e "$T/$name$r.s"
	done
	for ms in 50 300 900; do
		is "$(sed "s/worker [0-9]* /worker /; s/, 0\.[0-9]* s/, s/" \
		    "$T/late$ms$r.e")" "database is down
kfcgi: worker of /bin/odd exited with status 3, s after its start" \
		    "$pool: after $ms ms: its words, and how it ended"
		life=$(sed -n 's/.* 0\.\([0-9]*\) s after its start/\1/p' \
		    "$T/late$ms$r.e" | sed 's/^0*//')
		ok "$pool: after $ms ms: and when: $life ms" \
		    test "${life:-0}" -ge "$ms"
	done
	for name in zero leaves; do
		like "$(cat "$T/$name$r.e")" \
		    "worker [0-9]+ of /bin/odd exited with status 0, " \
		    "$pool: $name: to end with status 0 is a failure, too"
	done
	like "$(cat "$T/flood$r.e")" 'was killed by signal 6 ' \
	    "$pool: one that writes a lot: how it ended"
	like "$(cat "$T/flood$r.e")" '^a flood$' \
	    "$pool: one that writes a lot: some of it"
	ok "$pool: and no more than can be read" \
	    test "$(wc -c <"$T/flood$r.e")" -lt 70000
	for name in told told-t; do
		begun "$name$r"
		read -r status ms <"$T/$name$r.r"
		is "$status" 1 "$pool: $name to stop during the trial"
		is "$(cat "$T/$name$r.e")" \
		    "kfcgi: was told to stop while starting" \
		    "$pool: $name to stop during the trial: and why"
		fails "$pool: $name to stop: no socket is left" \
		    test -e "$T/$name$r.s"
	done
	# Whoever was not refused is not to stay.
	for name in late50 late300 late900 zero leaves flood told told-t; do
		PID=$(manager_pid "$T/$name$r.s")
		[ -z "$PID" ] || end_manager
	done
	PID=$(manager_pid "$T/good$r.s")
	ok "$pool: the trial is not one too many" waitfor 10 has_workers 2
	end_manager
done
ok "nobody is left of all those" waitfor 10 no_strays

# --- None of the processes of a trial survives it, and none is counted.
kinds="good three deaf both stops job floods"
args() {
	case $1 in
	good)	echo /bin/worker ;;
	three)	echo /bin/worker -3 ;;
	deaf)	echo /bin/worker -t ;;
	both)	echo /bin/worker -3 -t ;;
	*)	echo /bin/odd "$1" ;;
	esac
}
for kind in $kinds; do
	run "$kind" -n 2 $(args "$kind")
done
run var -r -n 2 -N 4 /bin/worker -3

sockets_of() {
	for _w in $1; do
		ls -l "/proc/$_w/fd" 2>/dev/null | sed -n 's/.*socket:\[\(.*\)\]/\1/p'
	done
}
use good
waitfor 10 logged 'started on trial'
trial=$(on_trial)
waitfor 5 eval '[ "$(readlink "/proc/$trial/exe")" = "$JAIL/bin/worker" ]'
ino=$(sockets_of "$trial")
is "$(echo "$ino" | grep -c .)" 1 "on trial: one socket"
# Num RefCount Protocol Flags Type St Inode Path: listening is flag 10000.
entry=$(awk -v i="$ino" '$7 == i' /proc/net/unix)
like "$entry" ' 00010000 0001 01 ' "on trial: it is a stream socket that listens"
unlike "$entry" ' @' "on trial: which is not in the abstract name space"
client -q '' -t 20000 >"$T/good.c" 2>&1 &
load=$!
is "$(cd "$T" && find . -type s | grep -v '^\./[a-z]*\(-r\)*\.s$')" "" \
    "on trial: there are the pools' sockets and no other"

# It waits for the pool: whoever is on trial has descriptors 0, 1 and 2.
sleep 0.1
is "$(nfds "$trial")" 3 "on trial: nor does a client of the pool get there"
wait $load
like "$(cat "$T/good.c")" '^pid' "on trial: the pool answers that"
unlike "$(cat "$T/good.c")" "^pid $trial " "on trial: and nobody else"

for kind in $kinds; do
	use "$kind"
	ok "$kind: starts" waitfor 20 logged '^kfcgi: started: 2 workers'
	trial=$(on_trial)
	like "$trial" '^[0-9]+$' "$kind: there was a trial"
	ok "$kind: none of its processes is left" waitfor 5 no_group "$trial"
	counts "2 serving, 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 restarts" \
	    "$kind: and none is counted"
	ok "$kind: two workers" waitfor 10 has_workers 2
done
use good
unlike "$(sockets_of "$(workers)")" "^$ino\$" \
    "the workers have not inherited the trial's listener"
use var
ok "-r: starts" waitfor 20 logged '^kfcgi: started: 2 workers'
trial=$(on_trial)
like "$(workers | tr '\n' ' ')" "(^| )$trial " \
    "-r: who was on trial is one of the pool"
counts "2 idle, 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 restarts" \
    "-r: of which there are two"

# The same at SIGHUP, and with another SIGHUP during its trial.
for kind in $kinds var; do
	use "$kind"
	workers >"$T/$kind.old"
	kill -HUP "$PID"
done
for kind in $kinds var; do
	use "$kind"
	ok "$kind: SIGHUP: a trial" waitfor 10 logged 'started on trial$' 2
	kill -HUP "$PID"
	[ "$kind" = good ] || continue
	counts '2 serving, 0 busy, 0 leaving, 1 starting; ' \
	    "$kind: SIGHUP: it is told, but not as one of the pool"
	like "$(fetch '')" "^pid $(tr '\n' ' ' <"$T/$kind.old" |
	    sed 's/ *$//; s/ / |pid /') " "$kind: SIGHUP: the old serve on"
done
for kind in $kinds var; do
	use "$kind"
	ok "$kind: SIGHUP again: another trial" \
	    waitfor 20 logged 'started on trial$' 3
	ok "$kind: SIGHUP again: another reload" \
	    waitfor 20 logged '^kfcgi: reloaded: 2 new workers' 2
	unlike "$(cat "$LOG")" 'reload failed' "$kind: SIGHUP: none failed"
	for trial in $(sed -n 's/^kfcgi: worker \([0-9]*\) started on trial$/\1/p' \
	    "$LOG"); do
		[ $kind = var ] ||
		    waitfor 5 no_group "$trial" || echo "$trial"
	done >"$T/left"
	is "$(cat "$T/left")" "" "$kind: SIGHUP: no process of a trial is left"
	# Those that are deaf or stopped have twenty seconds to leave.
	counts "2 (serving|idle), 0 busy, [02] leaving, 0 starting; .* 0 deaths, 0 restarts" \
	    "$kind: SIGHUP: nor counted"
	ok "$kind: SIGHUP: the first workers have gone" \
	    waitfor 10 all_dead $(cat "$T/$kind.old")
done

# A stop during a trial.
for kind in $kinds var; do
	use "$kind"
	_n=$(($(grep -c 'started on trial$' "$LOG") + 1))
	kill -HUP "$PID"
	waitfor 10 logged 'started on trial$' $_n
	ends "$kind"
done
ok "stopped during a trial: nobody is left" waitfor 10 no_strays

# --- A reload refuses what a start refuses.
for r in '' -r; do
	mkdir -p "$T/jail$r.2/bin"
	cp "$JAIL/bin/worker" "$JAIL/bin/odd" "$T/jail$r.2/bin"
	JAIL=$T/jail$r.2 run "mode$r" $r -n 2 -N 2 /bin/odd mode
	JAIL=$T/jail
done
for r in '' -r; do
	use "mode$r"
	ok "${r:-fixed}: a good program starts" \
	    waitfor 20 logged '^kfcgi: started: 2 workers'
	workers >"$T/mode$r.old"
done
i=0
for ms in 50 300 900; do
	i=$((i + 1))
	for r in '' -r; do
		use "mode$r"
		echo "$ms 3" >"$T/jail$r.2/mode"
		kill -HUP "$PID"
	done
	for r in '' -r; do
		pool=${r:-fixed}
		use "mode$r"
		ok "$pool: SIGHUP: one that fails after $ms ms is refused" \
		    waitfor 10 logged "^kfcgi: reload failed, the old workers\
 stay: worker [0-9]+ of /bin/odd exited with status 3, 0\\.[0-9]+ s after its start" $i
		is "$(grep -c 'database is down' "$LOG")" $i \
		    "$pool: SIGHUP: after $ms ms: its words are there"
		is "$(workers)" "$(cat "$T/mode$r.old")" \
		    "$pool: SIGHUP: after $ms ms: the old workers stay"
		like "$(fetch '')" '^pid' "$pool: SIGHUP: after $ms ms: and serve"
	done
done
for r in '' -r; do
	use "mode$r"
	unlike "$(cat "$LOG")" 'reloaded:' "${r:-fixed}: SIGHUP: none replaced them"
	counts '2 (idle|serving), 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 restarts' \
	    "${r:-fixed}: SIGHUP: nothing of the failures is counted"
	ends "mode$r"
done

# --- What one version of the program did to the listener is no concern of the
# next.  Who was lost by the old pool, or is slow to leave it, is not missing
# in the new one; who was released and is slow counts.
run versions -n 1 -l 8 /bin/odd versions
run lost -r -n 2 -N 2 /bin/worker
run slow -r -n 2 -N 4 /bin/worker -3 -t
run released -r -n 1 -N 3 -w 0 /bin/worker -3 -t
for kind in versions lost slow released; do
	use $kind
	ok "$kind: starts" waitfor 20 logged '^kfcgi: started:'
done
use versions
like "$(fetch '')" '^pid' "versions: the first serves"
: >"$JAIL/second"
kill -HUP "$PID"
use slow
client -n 4 -c 4 -q slow=500 >/dev/null
ok "slow: it has grown to N" waitfor 5 has_workers 4
old=$(workers)
kill -HUP "$PID"
use lost
n=$(workers | wc -l)
kill -HUP "$PID"
waitfor 5 logged 'started on trial$' 2
sleep 0.6	# so that it is still lost when the trial is over
fetch closectl >/dev/null
ok "lost: reloads" waitfor 10 logged '^kfcgi: reloaded: 2 new workers'
kill -USR1 "$PID"
waitfor 5 logged '^kfcgi: status:'
like "$(grep '^kfcgi: status:' "$LOG" | head -n 1)" \
    'status: 2 idle, 0 busy, ' "lost: the new pool is whole at once"
use versions
ok "versions: the second, which would not have it, is there" \
    waitfor 10 logged '^kfcgi: reloaded: 1 new worker,'
like "$(fetch '')" '^pid' "versions: and serves"
unlike "$(cat "$LOG")" 'does not block|exited with status [1-9]' "versions: it found no fault"
freeze $(workers)
is "$(perl -MSocket -MFcntl -e 'alarm 20; for (;;) {
	socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
	fcntl($s, F_SETFL, O_NONBLOCK);
	connect($s, pack_sockaddr_un($ARGV[0])) or last;
	push @s, $s } print @s >= 8 ? "as many" : scalar @s' "$SOCK")" \
    "as many" "versions: as many as -l says can wait"
kill -CONT $(workers)
use slow
ok "slow: reloads" waitfor 10 logged '^kfcgi: reloaded: 2 new workers'
client -n 4 -c 4 -q slow=2000 -t 30000 >"$T/slow.c" 2>&1 &
load=$!
counts ' 4 busy, 4 leaving, 0 starting' \
    "slow: N new ones serve beside the old that do not leave"
fails "slow: these are still there" all_dead $old
wait $load
is "$(head -n 1 "$T/slow.c")" \
    "answered 4 refused 0 reset 0 cut 0 timeout 0 bad 0" "slow: all answered"
use released
client -n 3 -c 3 -q slow=500 >/dev/null
ok "released: two are" waitfor 10 logged 'released after' 2
client -n 3 -c 3 -q slow=500 -t 30000 >"$T/released.c" 2>&1 &
load=$!
counts ' 1 busy, 2 leaving, 0 starting' \
    "released: they take their places until they have gone"
wait $load
is "$(head -n 1 "$T/released.c")" \
    "answered 3 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "released: all answered"
for kind in versions lost slow released; do
	ends $kind
done
ok "nobody is left" waitfor 10 no_strays
SOCK=$TOP
LOG=$T/log

done_testing
