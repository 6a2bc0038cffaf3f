#!/bin/sh
# The trial: the program is judged by a worker that no client can reach, at a
# start, at SIGHUP and in doubt.  It takes a second, so independent pools run
# side by side.
. ./lib.sh

[ -d /proc/self/fd ] || skip_all "needs /proc"

cat >"$T/odd.c" <<'END'
#include <sys/socket.h>
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int
main(int argc, char *argv[])
{
	static char	*worker[] = { "/bin/worker", "-g", "-A", "100", NULL };
	const char	*how = argc > 1 ? argv[1] : "";
	char		 flood[8000];	/* more than a pipe holds, in 20 */
	int		 i;

	alarm(100);
	signal(SIGPIPE, SIG_IGN);
	if (strcmp(how, "leaves") == 0 && fork() != 0)
		return 0;
	if (strcmp(how, "job") == 0 && fork() == 0)
		for (;;)
			pause();
	if (strcmp(how, "pours") == 0) {
		for (i = 0; i < 8000; i++)
			flood[i] = "a flood\n"[i % 8];
		for (i = 0; i < 20; i++)
			(void)write(2, flood, sizeof(flood));
		abort();
	}
	/* What each version of a program does to the listener it shares. */
	if (strcmp(how, "versions") == 0) {
		if (access("/second", F_OK) == 0) {
			if (fcntl(0, F_GETFL) & O_NONBLOCK)
				errx(4, "the listener does not block");
		} else if (listen(0, 1) == -1 ||
		    fcntl(0, F_SETFL, O_NONBLOCK) == -1)
			err(5, "not a listener");
	}
	execv(worker[0], worker);
	err(1, "%s", worker[0]);
}
END
$CC -w -static -o "$JAIL/bin/odd" "$T/odd.c" || exit 1

# A jail in which worker -b fails.
mkdir -p "$T/broken/bin" "$T/mended/bin"
cp "$JAIL/bin/worker" "$T/broken/bin"
cp "$JAIL/bin/worker" "$T/mended/bin"
: >"$T/broken/broken"

# begin name options... prog...: a daemon is started in the background.  Its
# socket is $T/name.s, what it says $T/name.e, its status $T/name.r; the pid of
# the shell's child is in $T/name.p.
begin() {
	_name=$1
	shift
	(
		"$KFCGI" -p "$JAIL" -s "$T/$_name.s" -U "$WHO" "$@" \
		    </dev/null >"$T/$_name.e" 2>&1 &
		echo $! >"$T/$_name.p"
		wait $!
		echo $? >"$T/$_name.r"
	) &
}

# begins status name: that is its status, when it is there
begins() {
	waitfor 30 test -s "$T/$2.r"
	is "$(cat "$T/$2.r")" "$1" "$2: the start's status"
}

# no_group pid: of that process group nobody lives
no_group() {
	processes pgid stat |
	    awk -v g="$1" '$1 == g && $2 !~ /^Z/ { n++ } END { exit n > 0 }'
}

# All that have been on trial, in order.
tried() {
	sed -n 's/^kfcgi: worker \([0-9]*\) started on trial$/\1/p' "$LOG"
}

# A file system that does not answer: in a jail with a file hang, execve(2) does
# not come to an end.
cat >"$T/hang.c" <<'END'
#include <sys/syscall.h>
#include <unistd.h>
extern char	**environ;
int
execv(const char *path, char *const argv[])
{
	if (access("/hang", F_OK) == -1)
		return syscall(SYS_execve, path, argv, environ);
	alarm(100);
	for (;;)
		pause();
}
END
$CC -w -shared -fPIC -o "$T/hang.so" "$T/hang.c" || exit 1
mkdir -p "$T/dead/bin"
cp "$JAIL/bin/worker" "$T/dead/bin"
for pool in hung hung-r; do
	r=-r
	[ $pool = hung-r ] || r=
	LD_PRELOAD=$T/hang.so JAIL=$T/dead run $pool $r -v -n 2 -N 2 /bin/worker
done
# One version of it shuts down the listener when it leaves.
run spoilt -v -n 1 -p / "$(command -v perl)" -e 'alarm 200; $SIG{TERM} = sub {
    shutdown STDIN, 2 if -e $ARGV[0]; exit }; sleep 1 while 1' "$T/spoilt.now"

sockets_of() {
	for _w in $1; do
		ls -l "/proc/$_w/fd" 2>/dev/null | sed -n 's/.*socket:\[\(.*\)\]/\1/p'
	done
}
# hanging: the worker whose execve(2) does not end
hanging() {
	for _w in $(workers); do
		[ "$(ps_of "$_w" comm)" = worker ] || echo "$_w"
	done
}

hangs() {
	[ -n "$(hanging)" ]
}

# --- A start takes the second of its trial, and refuses what fails in it.
for r in '' -r; do
	begin "good$r" $r -n 2 -w 0 -l 16 /bin/worker
	JAIL=$T/broken begin "late$r" $r -n 3 /bin/worker -b 400 \
	    -e "database is down"
	JAIL=$T/jail
	begin "leaves$r" $r -n 3 /bin/odd leaves
	begin "flood$r" $r -n 3 /bin/odd pours
	begin "told$r" $r -n 3 /bin/worker -3 -t
done
# One that takes the listener from those that share it, and then takes its time.
begin closes -p / "$(command -v perl)" -e 'alarm 60;
    $SIG{TERM} = sub { shutdown STDIN, 2; sleep 9 }; sleep 1 while 1'
# Whoever connects meanwhile waits, or learns at once that it is over.
clients=
for name in good late good-r late-r; do
	waitfor 5 test -S "$T/$name.s"
	"$REGRESS/client" -s "$T/$name.s" -n 8 -c 8 -t 25000 \
	    >"$T/$name.c" 2>&1 &
	clients="$clients $!"
done
for name in told.TERM told-r.INT; do
	waitfor 5 test -S "$T/${name%.*}.s"
	kill -${name#*.} "$(cat "$T/${name%.*}.p")"
done
wait $clients
for r in '' -r; do
	pool=${r:-fixed}
	is "$(head -n 1 "$T/good$r.c")" "$(all 8)" \
	    "$pool: who connects during a start is answered"
	begins 0 "good$r"
	is "$(grep -v '^kfcgi: no syslogd: ' "$T/good$r.e")" "" \
	    "$pool: and says nothing else"
	like "$(head -n 1 "$T/late$r.c")" "^answered 0 .* timeout 0 bad 0" \
	    "$pool: who connects to a start that fails learns it"
	time=$(sed -n 's/^time \([0-9]*\) .*/\1/p' "$T/late$r.c")
	ok "$pool: at once: after $time ms" test "${time:-99999}" -lt 8000

	for name in late leaves flood told; do
		begins 1 "$name$r"
		fails "$pool: $name: no socket is left" test -e "$T/$name$r.s"
		# Whoever was not refused is not to stay.
		PID=$(manager_pid "$T/$name$r.s")
		[ -z "$PID" ] || end_manager
	done
	like "$(cat "$T/late$r.e")" "^database is down\$" "$pool: late: its words"
	like "$(cat "$T/late$r.e")" "^kfcgi: worker [0-9]+ of /bin/worker exited\
 with status 3, (0\\.[4-9]|[1-9])[0-9.]* s after its start\$" \
	    "$pool: late: how and when it ended"
	like "$(cat "$T/leaves$r.e")" \
	    "worker [0-9]+ of /bin/odd exited with status 0, " \
	    "$pool: leaves: to end with status 0 is a failure, too"
	like "$(cat "$T/flood$r.e")" 'was killed by signal 6 ' \
	    "$pool: one that writes a lot: how it ended"
	like "$(cat "$T/flood$r.e")" '^a flood$' \
	    "$pool: one that writes a lot: some of it"
	ok "$pool: and no more than can be read" \
	    test "$(wc -c <"$T/flood$r.e")" -lt 70000
	is "$(cat "$T/told$r.e")" "kfcgi: was told to stop while starting" \
	    "$pool: told to stop during the trial, and deaf: and why"
	PID=$(manager_pid "$T/good$r.s")
	ok "$pool: the trial is not one too many" waitfor 10 has_workers 2
	end_manager
done
begins 1 closes
like "$(cat "$T/closes.e")" \
    '^kfcgi: worker [0-9]+ of .* shut down the listening socket, which workers' \
    "one that shuts down the listener: refused"
ok "nobody is left of all those" waitfor 10 no_strays

# --- The listener for trials is lost, but not the pool.
up spoilt
: >"$T/spoilt.now"
kill -HUP "$PID"
ok "spoilt: the one that does so is refused" waitfor 10 logged \
    '^kfcgi: reload failed, .* shut down the listening socket, which workers'
rm "$T/spoilt.now"
kill -HUP "$PID"
ok "spoilt: after it no other can be tried" waitfor 10 logged \
    '^kfcgi: reload failed, .* socket for trials, restart kfcgi$'

# --- The file system stops to answer.
up hung
up hung-r
: >"$T/dead/hang"
kill -KILL "$(workers | head -n 1)"
waitfor 10 hangs
hanging_r=$(hanging)
is "$(sockets_of "$hanging_r" | grep -cxF "$(sockets_of "$PID")")" \
    "$(echo $hanging_r | wc -w)" \
    "hung-r: who hangs shares with the manager its control socket only"
use hung
survivors=$(workers)
kill -HUP "$PID"
waitfor 10 hangs
hanging=$(hanging)
# Nor do the processes end, as far as kfcgi can see: whoever traces them has not
# been told yet.
strace -qq -o /dev/null -p "$hanging" -p "${hanging_r%%[!0-9]*}" &
tracer=$!
also_kill $tracer $hanging $hanging_r
waitfor 10 grep -q 'TracerPid:[[:space:]]*[1-9]' \
    "/proc/${hanging_r%%[!0-9]*}/status"	# the last to be attached
freeze $tracer

# --- None of the processes of a trial survives it, and none is counted: of one
# that heeds SIGTERM, of three that do not, and of one that leaves another.
run good -v -n 2 /bin/worker
run deaf -v -n 2 /bin/worker -3 -t
run job -v -n 2 /bin/odd job
run var -v -r -n 2 -N 4 /bin/worker -3
pools="good deaf job var"

use good
waitfor 10 logged 'started on trial'
trial=$(tried)
waitfor 5 eval '[ "$(readlink "/proc/$trial/exe")" = "$JAIL/bin/worker" ]'
ino=$(sockets_of "$trial")
# Num RefCount Protocol Flags Type St Inode Path: listening is flag 10000, and
# a path that begins with @ is in the abstract name space.
entry=$(awk -v i="$ino" '$7 == i' /proc/net/unix)
like "$entry" ' 00010000 0001 01 [0-9]+( [^@].*)?$' \
    "on trial: a stream socket that listens and has no abstract name"
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

for pool in $pools; do
	up $pool
	trial=$(tried)
	like "$trial" '^[0-9]+$' "$pool: there was a trial"
	if [ $pool = var ]; then
		like "$(workers | tr '\n' ' ')" "(^| )$trial " \
		    "$pool: who was on trial is one of the pool"
	else
		ok "$pool: none of its processes is left" \
		    waitfor 5 no_group "$trial"
	fi
	counts "2 (serving|idle), 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 r" \
	    "$pool: and none is counted"
	ok "$pool: two workers" waitfor 10 has_workers 2
done
use good
unlike "$(sockets_of "$(workers)")" "^$ino\$" \
    "the workers have not inherited the trial's listener"

# The same at SIGHUP, and with another SIGHUP during its trial.
for pool in $pools; do
	use $pool
	workers >"$T/$pool.old"
	kill -HUP "$PID"
	[ $pool = good ] || continue
	counts '2 serving, 0 busy, 0 leaving, 1 starting; ' \
	    "$pool: SIGHUP: it is told, but not as one of the pool"
	like "$(fetch '')" "^pid $(tr '\n' ' ' <"$T/$pool.old" |
	    sed 's/ *$//; s/ / |pid /') " "$pool: SIGHUP: the old serve on"
done
for pool in $pools; do
	use $pool
	ok "$pool: SIGHUP: a trial" waitfor 10 logged 'started on trial$' 2
	kill -HUP "$PID"
done
for pool in $pools; do
	use $pool
	ok "$pool: SIGHUP again: another reload" \
	    waitfor 20 logged '^kfcgi: reloaded: 2 new workers' 2
	unlike "$(cat "$LOG")" 'reload failed' "$pool: SIGHUP: none failed"
	is "$(tried | wc -l | tr -d ' ')" 3 "$pool: SIGHUP: a trial each"
	[ $pool = var ] || for trial in $(tried); do
		ok "$pool: SIGHUP: no process of a trial is left" \
		    waitfor 5 no_group "$trial"
	done
	# Those that are deaf have twenty seconds to leave.
	counts "2 (serving|idle), 0 busy, [02] leaving, 0 starting; .* 0 deaths, 0 r" \
	    "$pool: SIGHUP: nor counted"
	ok "$pool: SIGHUP: the first workers have gone" \
	    waitfor 10 all_dead $(cat "$T/$pool.old")
done

# A stop during a trial.
for pool in $pools; do
	use $pool
	kill -HUP "$PID"
	waitfor 10 logged 'started on trial$' 4
	ends $pool
done
ok "stopped during a trial: nobody is left" waitfor 10 no_strays

# --- A reload refuses what a start refuses.  What one version of the program did
# to the listener is no concern of the next.  Who was lost by the old pool, or is
# slow to leave it, is not missing in the new one; who was released and is slow
# counts.
JAIL=$T/mended
run late -n 2 /bin/worker -b 400
run late-r -r -n 2 -N 2 /bin/worker -b 400
JAIL=$T/jail
run versions -v -n 1 -l 8 /bin/odd versions
run lost -v -r -n 2 -N 2 /bin/worker
run slow -v -r -n 2 -N 4 /bin/worker -3 -t
run released -v -r -n 1 -N 3 -w 0 /bin/worker -3 -t
for pool in late late-r versions lost slow released; do
	up $pool
done
: >"$T/mended/broken"
for pool in late late-r; do
	use $pool
	kill -HUP "$PID"
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
kill -HUP "$PID"
waitfor 5 logged 'started on trial$' 2
sleep 0.6	# so that it is still lost when the trial is over
fetch closectl >/dev/null
ok "lost: reloads" waitfor 10 logged '^kfcgi: reloaded: 2 new workers'
like "$(status)" 'status: 2 idle, 0 busy, ' "lost: the new pool is whole at once"
for pool in late late-r; do
	use $pool
	ok "$pool: SIGHUP: refused" waitfor 10 logged "^kfcgi: reload failed, the old\
 workers stay: worker [0-9]+ of /bin/worker exited with status 3, .* s after"
	counts '2 (idle|serving), 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 r' \
	    "$pool: SIGHUP: nothing of the failure is counted"
done
use versions
ok "versions: the second, which would not have it, is there" \
    waitfor 10 logged '^kfcgi: reloaded: 1 new worker,'
like "$(fetch '')" '^pid' "versions: and serves"
unlike "$(cat "$LOG")" 'does not block|exited with status [1-9]' \
    "versions: it found no fault"
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
client -o -n 4 -c 4 -q slow=2000 -t 30000 >"$T/slow.c" 2>&1 &
load=$!
counts ' 4 busy, 4 leaving, 0 starting' \
    "slow: N new ones serve beside the old that do not leave"
fails "slow: these are still there" all_dead $old
wait $load
is "$(cat "$T/slow.c")" "$(all 4)" "slow: all answered"
use released
client -n 3 -c 3 -q slow=500 >/dev/null
ok "released: two are" waitfor 10 logged 'released after' 2
client -o -n 3 -c 3 -q slow=500 -t 30000 >"$T/released.c" 2>&1 &
load=$!
counts ' 1 busy, 2 leaving, 0 starting' \
    "released: they take their places until they have gone"
wait $load
is "$(cat "$T/released.c")" "$(all 3)" "released: all answered"
for pool in late late-r versions lost slow released; do
	ends $pool
done
ok "nobody is left" waitfor 10 no_strays

# --- A program that is not executed within 20 s.
for pool in hung hung-r; do
	use $pool
	like "$(fetch '')" '^pid' "$pool: the old ones serve"
	ok "$pool: and a trial is given up that does not execute the program" \
	    waitfor 60 logged "^kfcgi: (reload failed, the old workers stay|no\
 new workers for now): cannot execute .*: the file system does not answer"
done
ok "hung-r: so is the worker that replaces one" \
    logged '^kfcgi: cannot execute .*: the file system does not answer$'
use hung
is "$(workers | grep -vx "$hanging")" "$survivors" \
    "hung: the old ones are there"
kill -KILL $(echo "$survivors" | head -n 1)
waitfor 10 has_workers 2
kill -HUP "$PID"
ok "hung: a reload says what it waits for" waitfor 10 \
    logged "^kfcgi: reload waits for the end of worker $hanging, "
counts '1 serving, .* 1 leaving, 0 starting;' \
    "hung: no second trial beside one that hangs, and no other worker"
rm "$T/dead/hang"
kill -KILL $tracer
ok "hung: it goes on when that is gone" waitfor 30 logged '^kfcgi: reloaded:'
use hung-r
ok "hung-r: it goes on as well" waitfor 60 \
    logged '^kfcgi: workers are started again: a trial passed'
use spoilt
n=$(tried | wc -l)
ok "spoilt: young deaths are no reason for a trial, which is told" \
    waitfor 20 eval 'kill -KILL $(workers) 2>/dev/null
    logged "^kfcgi: workers are replaced without trials"'
ok "spoilt: the dead are replaced" waitfor 10 has_workers 1
is "$(tried | wc -l)" "$n" "spoilt: without a trial"
for pool in hung hung-r spoilt; do
	ends $pool
done
SOCK=$T/sock LOG=$T/log

done_testing
