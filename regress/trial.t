#!/bin/sh
# The trial: the program is judged by a worker that no client can reach, at a
# start and at SIGHUP.  It takes a second, so independent pools run side by side.
# In which order things may happen meanwhile is sim.t's.
. ./lib.sh

[ -d /proc/self/fd ] || skip_all "needs /proc"

PERL=$(command -v perl)

# A jail in which worker -b fails.
mkdir -p "$T/broken/bin"
cp "$JAIL/bin/worker" "$T/broken/bin"
: >"$T/broken/broken"

# begin name options... prog...: a daemon is started in the background.  Its
# socket is $T/name.s, what it says $T/name.e, its status $T/name.r; the pid of
# the shell's child is in $T/name.p.
begin() {
	_name=$1
	shift
	(
		"$KFCGI" -s "$T/$_name.s" -U "$WHO" "$@" </dev/null \
		    >"$T/$_name.e" 2>&1 &
		echo $! >"$T/$_name.p"
		wait $!
		echo $? >"$T/$_name.r"
	) &
}

# begins status name: that is its status, when it is there
begins() {
	waitfor 60 test -s "$T/$2.r"
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

sockets_of() {
	for _w in $1; do
		ls -l "/proc/$_w/fd" 2>/dev/null |
		    sed -n 's/.*socket:\[\(.*\)\]/\1/p'
	done
}

# --- A start takes the second of its trial, and refuses what fails in it.
# Whoever connects meanwhile waits, or learns at once that it is over.
clients=
for r in '' -r; do
	begin "good$r" -p "$JAIL" $r -n 2 -l 16 /bin/worker
	begin "fails$r" -p "$T/broken" $r -n 3 /bin/worker -b 400 \
	    -e "database is down"
	for name in good fails; do
		waitfor 20 test -S "$T/$name$r.s"
		"$REGRESS/client" -s "$T/$name$r.s" -n 8 -c 8 -t 60000 -A 90 \
		    >"$T/$name$r.c" 2>&1 &
		clients="$clients $!"
	done
done
begin ends -p / "$PERL" -e 'exit 0'
begin told -d -p "$JAIL" /bin/worker -3 -t
waitfor 20 eval '[ -n "$(children "$(cat "$T/told.p")")" ]'
kill -TERM "$(cat "$T/told.p")"
wait $clients
for r in '' -r; do
	pool=${r:-fixed}
	is "$(head -n 1 "$T/good$r.c")" "$(all 8)" \
	    "$pool: who connects during a start is answered"
	begins 0 "good$r"
	PID=$(manager_pid "$T/good$r.s")
	ok "$pool: the trial is not one too many" waitfor 20 has_workers 2
	end_manager
	like "$(head -n 1 "$T/fails$r.c")" "^answered 0 .* timeout 0 bad 0" \
	    "$pool: who connects to a start that fails learns it"
	begins 1 "fails$r"
	fails "$pool: no socket is left" test -e "$T/fails$r.s"
	like "$(cat "$T/fails$r.e")" "^database is down\$" "$pool: its words"
	like "$(cat "$T/fails$r.e")" "^kfcgi: worker [0-9]+ of /bin/worker \
exited with status 3 after (0\\.[4-9]|[1-9])[0-9.]* s\$" \
	    "$pool: how and when it ended"
done
begins 1 ends
like "$(cat "$T/ends.e")" "exited with status 0 after [0-9.]+ s: does it put \
itself into the background\\?$" "status 0 is a failure, too"
begins 1 told
like "$(cat "$T/told.e")" '^kfcgi: was told to stop while starting$' \
    "told to stop during the trial, and deaf: and why"
ok "nobody is left of all those" waitfor 20 no_strays

# --- None of the processes of a trial survives it, and none is counted: of one
# that heeds SIGTERM, of three that do not, and of one that leaves another.
run heeds -v -n 2 /bin/worker
run deaf -v -n 2 /bin/worker -3 -t
JAIL=/ run job -v -n 2 "$PERL" -e 'alarm 100; fork ? sleep : do { sleep while 1 }'
run variable -v -r -n 2 -N 4 /bin/worker -3
pools="heeds deaf job variable"

use heeds
waitfor 20 logged 'started on trial'
trial=$(tried)
waitfor 20 eval '[ "$(readlink "/proc/$trial/exe")" = "$JAIL/bin/worker" ]'
ino=$(sockets_of "$trial")
# Num RefCount Protocol Flags Type St Inode Path: listening is flag 10000, and
# a path that begins with @ is in the abstract name space.
like "$(awk -v i="$ino" '$7 == i' /proc/net/unix)" \
    ' 00010000 0001 01 [0-9]+( [^@].*)?$' \
    "on trial: a stream socket that listens and has no abstract name"
is "$(cd "$T" && find . -type s | grep -v '^\./[a-z]*\(-r\)*\.s$')" "" \
    "on trial: there are the pools' sockets and no other"
like "$(client -q '' -t 60000)" '^pid' "on trial: the pool answers"

for pool in $pools; do
	up $pool
	trial=$(tried)
	if [ $pool = variable ]; then
		like "$(workers | tr '\n' ' ')" "(^| )$trial " \
		    "$pool: who was on trial is one of the pool"
	else
		ok "$pool: none of its processes is left" \
		    waitfor 20 no_group "$trial"
	fi
	counts "2 (serving|idle), 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 r" \
	    "$pool: and none is counted"
done
use heeds
unlike "$(sockets_of "$(workers)")" "^$ino\$" \
    "the workers have not inherited the trial's listener"
like "$(fetch '')" "^pid" "and serve"

# The old serve during the trial of SIGHUP.
old=$(workers)
kill -HUP "$PID"
ok "SIGHUP: a trial" waitfor 20 logged 'started on trial$' 2
like "$(fetch '')" "^pid ($(echo $old | tr ' ' '|')) " "SIGHUP: the old serve"
ok "SIGHUP: reloads" waitfor 20 logged '^kfcgi: reloaded: 2 new workers'
ok "SIGHUP: the old ones go" waitfor 20 new_pool 2 $old
counts '2 serving, 0 busy, 0 leaving, 0 starting; .* 0 deaths, 0 r' \
    "SIGHUP: none of them is counted"

# A stop during a trial.
for pool in $pools; do
	use $pool
	n=$(tried | wc -l)
	kill -HUP "$PID"
	waitfor 20 logged 'started on trial$' $((n + 1))
	ends $pool
done
ok "stopped during a trial: nobody is left" waitfor 20 no_strays

# --- What one version of a program did to the listener, which all share, is no
# concern of the next.
JAIL=/ run versions -v -n 1 -l 8 "$PERL" -MFcntl -MSocket -e '
    if (-e $ARGV[1]) {
	print "it does not block\n" if fcntl(STDIN, F_GETFL, 0) & O_NONBLOCK;
    } else {
	listen(STDIN, 1) or die;
	fcntl(STDIN, F_SETFL, O_NONBLOCK) or die;
    }
    exec $ARGV[0], "-g"' "$JAIL/bin/worker" "$T/second"

# A worker that SIGKILL does not end, as in a file system that does not answer:
# whoever traces it has not been told yet.
cat >"$T/lasts.c" <<'END'
#include <sys/ptrace.h>
#include <signal.h>
#include <unistd.h>
int
main(int argc, char *argv[])
{
	pid_t	 parent = getpid();
	int	 p[2];
	char	 c;

	if (access("/lasts", F_OK) == -1)
		execv("/bin/worker", argv);
	close(3);			/* so the trial fails */
	if (pipe(p) == -1)
		return 1;
	if (fork() == 0) {
		alarm(60);
		setsid();
		if (ptrace(PTRACE_SEIZE, parent, 0, 0) == -1)
			return 1;
		close(p[1]);
		raise(SIGSTOP);
		return 0;
	}
	close(p[1]);
	(void)read(p[0], &c, 1);	/* until it is traced */
	for (;;)
		pause();
}
END
$CC -w -static -o "$JAIL/bin/lasts" "$T/lasts.c" || exit 1
run lasts -v -r -n 1 /bin/lasts
up versions
up lasts
: >"$JAIL/lasts"
kill -HUP "$PID"
use versions
like "$(fetch '')" '^pid' "versions: the first serves"
: >"$T/second"
kill -HUP "$PID"
ok "versions: the second, which would not have it, is there" \
    waitfor 20 logged '^kfcgi: reloaded: 1 new worker,'
waitfor 20 has_workers 1
like "$(fetch '')" '^pid' "versions: and serves"
unlike "$(cat "$LOG")" 'does not block' "versions: it found no fault"
freeze $(workers)
is "$(perl -MSocket -MFcntl -e 'alarm 20; for (;;) {
	socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die;
	fcntl($s, F_SETFL, O_NONBLOCK);
	connect($s, pack_sockaddr_un($ARGV[0])) or last;
	push @s, $s } print @s >= 8 ? "as many" : scalar @s' "$SOCK")" \
    "as many" "versions: as many as -l says can wait"
kill -CONT $(workers)
ends versions

use lasts
ok "lasts: its trial fails" waitfor 20 logged "^kfcgi: reload failed, old \
workers that stay: 1: worker [0-9]+ of /bin/lasts closed its control socket\$"
kill -HUP "$PID"
ok "lasts: a reload says what it waits for" waitfor 20 logged \
    "^kfcgi: reload waits for worker $(tried | tail -n 1), which hangs\$"
counts '1 idle, .* 1 leaving, 0 starting;' "lasts: no second trial beside it"
like "$(fetch '')" '^pid' "lasts: the old one serves"
rm "$JAIL/lasts"
# Only the tracer is stopped.
for w in $(strays); do
	! has_state "$w" T || kill -KILL "$w"
done
ok "lasts: it goes on when that is gone" waitfor 30 logged '^kfcgi: reloaded:'
ends lasts
SOCK=$T/sock LOG=$T/log

done_testing
