#!/bin/sh
# The log [I, B5, E5, F1, F2, G1]: what is said, at which level, and that
# neither a flood nor a syslogd that does not read holds anything up.

. ./devlog.sh

# said level pattern: how often the present kfcgi has logged that line
said() {
	case $1 in
	CRIT)		_pri=26;;
	ERR)		_pri=27;;
	WARNING)	_pri=28;;
	NOTICE)		_pri=29;;
	INFO)		_pri=30;;
	DEBUG)		_pri=31;;
	*)		_pri='[0-9]+';;
	esac
	grep -Ec "^<$_pri>[A-Z][a-z][a-z] [ 0-9][0-9] [0-9:]{8}\
 kfcgi\\[$LOGPID\\]: $2\$" "$SYSLOG"
}

has_said() {
	[ "$(said "$1" "$2")" -ge "${3:-1}" ]
}

# tells level pattern description: it does, and once
tells() {
	waitfor 10 has_said "$1" "$2"
	is "$(said "$1" "$2")" 1 "$3"
}

# begin options... prog...: a daemon with a log of its own
begin() {
	if ! start_daemon "$@" || [ -z "$PID" ]; then
		diag "kfcgi $* did not start: $(cat "$T/err")"
		return 1
	fi
	LOGPID=$PID
}

# All that the present kfcgi has logged, without PRI, time and tag.
text() {
	sed -n "s/^<[0-9]*>.\{15\} kfcgi\[$LOGPID\]: //p" "$SYSLOG"
}

moment() {
	perl -MTime::HiRes=time -e 'printf "%.3f\n", time'
}

# between low value high
between() {
	awk -v a="$1" -v b="$2" -v c="$3" 'BEGIN { exit !(a <= b && b <= c) }'
}

# gone pid...
gone() {
	for _p; do
		alive "$_p" && return 1
	done
	:
}

# answered count options...: that many requests, and each is answered
answered() {
	_n=$1
	shift
	[ "$(client -o -n "$_n" "$@")" = \
	    "answered $_n refused 0 reset 0 cut 0 timeout 0 bad 0" ]
}

syslogd_start

for r in '' -r; do
	pool=${r:-fixed}
	served=
	[ -n "$r" ] && served=', [^,]*[0-9]+[^,]*'

	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	before=$(moment)
	ok "$pool: start" begin $r -n 2 -N 2 /bin/prog
	after=$(moment)
	tells INFO "started: 2 workers of /bin/prog in $JAIL for $SOCK" \
	    "$pool: the start is told"
	is "$(ls "$JAIL")" bin "$pool: though there is no /dev in the jail"

	# Deaths [F1, F2].
	w=$(workers | head -n 1)
	low=$(moment)
	kill -SEGV "$w"
	tells ERR "worker $w was killed by signal 11 \\([A-Za-z ]+\\) after\
 [0-9]+\\.[0-9]{3} s$served" "$pool: a death by signal is an error"
	high=$(moment)
	life=$(sed -n "s/.*worker $w was killed.* after \([0-9.]*\) s.*/\1/p" \
	    "$SYSLOG")
	ok "$pool: how long it lived" between \
	    "$(echo "$low $after" | awk '{ printf "%.3f", $1 - $2 - 0.01 }')" \
	    "$life" \
	    "$(echo "$high $before" | awk '{ printf "%.3f", $1 - $2 + 0.01 }')"
	waitfor 15 has_workers 2
	fetch 'err=1&exit=3' >/dev/null
	waitfor 10 has_said NOTICE 'worker: err [0-9]+ 0'
	w=$(text | sed -n 's/^worker: err \([0-9]*\) 0$/\1/p' | tail -n 1)
	tells ERR "worker $w exited with status 3 after [0-9.]+ s$served" \
	    "$pool: so is an exit with status 3"
	waitfor 15 has_workers 2
	fetch 'err=1&exit=0' >/dev/null
	waitfor 10 has_said NOTICE 'worker: err [0-9]+ 0' 2
	w=$(text | sed -n 's/^worker: err \([0-9]*\) 0$/\1/p' | tail -n 1)
	tells INFO "worker $w exited with status 0 after [0-9.]+ s$served" \
	    "$pool: an exit with status 0 is none"
	ok "$pool: two workers again" waitfor 15 has_workers 2

	# A program that breaks after a good start.
	mv "$JAIL/bin/prog" "$JAIL/bin/away"
	kill -KILL $(workers)
	ok "$pool: a worker that cannot be executed" \
	    waitfor 15 has_said ERR "cannot execute /bin/prog in $JAIL: No such.*"
	ok "$pool: fails a trial" waitfor 30 has_said ERR "no new workers for\
 now: cannot execute /bin/prog in $JAIL: No such.*; next trial in 800 ms"
	is "$(text | sed -n 's/^no new workers.*; next trial in \([0-9]*\) ms$/\1/p' |
	    tr '\n' ' ')" '100 200 400 800 ' "$pool: and is tried ever less often"
	mv "$JAIL/bin/away" "$JAIL/bin/prog"
	tells INFO 'workers are started again: a trial passed' \
	    "$pool: mended, that is told"
	ok "$pool: two workers again" waitfor 30 has_workers 2
	like "$(fetch '')" '^pid' "$pool: which serve"

	# Saturation [E5]: more than once in one episode.
	if [ -n "$r" ]; then
		ok "$pool: answered while saturated" answered 40 -c 8 -q slow=20
		is "$(said WARNING "all 2 workers are busy and connections\
 wait: -N may be too low")" 1 "$pool: saturation is told once"
		is "$(text | grep -c 'are busy and')" 1 "$pool: and no more"
	fi

	# Reload [G1].
	w=$(workers)
	kill -HUP "$PID"
	tells INFO 'reloaded: 2 new workers, 0 of the old still busy' \
	    "$pool: a reload is told"
	ok "$pool: the old ones go" waitfor 10 gone $w
	errors=$(said ERR '.*')
	mv "$JAIL/bin/prog" "$JAIL/bin/away"
	w=$(workers)
	kill -HUP "$PID"
	tells ERR "reload failed, the old workers stay: cannot execute\
 /bin/prog in $JAIL: No such file or directory.*" "$pool: a failed one, too"
	ok "$pool: answered by the old workers" answered 20 -c 2
	is "$(said ERR '.*')" $((errors + 1)) "$pool: in one line"
	is "$(workers)" "$w" "$pool: the old workers are there"
	mv "$JAIL/bin/away" "$JAIL/bin/prog"

	# Output [I2].
	fetch 'out=first+line' >/dev/null
	tells NOTICE 'worker: first line' "$pool: standard output"
	fetch 'err=3' >/dev/null
	waitfor 10 has_said NOTICE 'worker: err [0-9]+ 2'
	is "$(text | sed -n 's/^worker: err [0-9]* //p' | tail -n 3 |
	    tr '\n' ' ')" '0 1 2 ' "$pool: standard error, line by line"
	for len in 999 1000 1001 10000; do
		fetch "out=begin+$len&errlong=$len&out=end+$len" >/dev/null
		ok "$pool: a line of $len characters" \
		    waitfor 10 has_said NOTICE "worker: end $len"
		is "$(text | sed -n "/^worker: begin $len/,/^worker: end $len/p" |
		    sed -n 's/^worker: \([a-z]*\)$/\1/p' | tr -d '\n')" \
		    "$(awk -v n="$len" 'BEGIN { for (i = 0; i < n; i++)
		    printf "%c", 97 + i % 26 }')" \
		    "$pool: arrives whole, in pieces"
	done

	# The state [I3].  Numbers that are known: see below for the others.
	kill -USR1 "$PID"
	ok "$pool: SIGUSR1" waitfor 10 has_said INFO 'status: 2 [a-z]+,.*'

	# Deaths of those who were told to go are no news.
	ok "$pool: stop" kill -TERM "$PID"
	waitfor 15 dead "$PID"
	tells INFO stopped "$pool: the end is told"
	is "$(said DEBUG '.*')" 0 "$pool: without -v no debug line"
	is "$(grep -c "kfcgi\\[$LOGPID\\]" "$SYSLOG")" "$(said '' '.*')" \
	    "$pool: facility, time and tag of every line"
	PID=
	rm -f "$SOCK" "$JAIL/bin/prog"
done

# -v: a line for each start, hand-out, release and end [I1].
# Who is let go finds its control socket closed, or gets the SIGTERM first.
end='(was killed by signal 15|exited with status 0)'
ok "-v: start" begin -v -r -n 1 -N 2 -w 0 /bin/worker
w=$(workers)
tells DEBUG "worker $w started on trial" "-v: a start"
tells DEBUG "worker $w passed its trial" "-v: a trial"
client -q slow=300 >/dev/null &
slow=$!
ok "-v: a hand-out" waitfor 10 has_said DEBUG "worker $w has connection 1"
fetch '' >"$T/second"
v=$(sed -n 's/^pid \([0-9]*\).*/\1/p' "$T/second")
tells DEBUG "worker $v has connection 2" "-v: another"
tells DEBUG "worker $v is done with connection 2" "-v: a cookie"
tells DEBUG "worker $v released after 0 s of idleness" "-v: a release"
tells DEBUG "worker $v $end .*" "-v: a reap"
wait $slow
w=$(workers)
kill -TERM "$PID"
waitfor 15 dead "$PID"
tells DEBUG "worker $w $end .*" "-v: a reap at the stop"
tells INFO stopped "-v: the end"
# Each is there once, so nothing is said twice.
is "$(text | grep -Ec '^worker [0-9]+ started( on trial)?$')" \
    "$(text | grep -Ec "^worker [0-9]+ $end ")" \
    "-v: as many starts as ends"
PID=

# Broken protocol [F6].
for q in cookie=wrong cookie=twice unasked closectl; do
	begin -r -n 1 -N 1 /bin/worker
	w=$(workers)
	fetch "$q" >/dev/null
	ok "$q: is an error" waitfor 10 has_said ERR "worker $w .*: stopped"
	is "$(text | grep -c 'stopped$')" 1 "$q: told once"
	ok "$q: replaced" waitfor 10 eval 'dead '"$w"' && has_workers 1'
	end_manager
done

# The end of patience [H2], and of root's.
rm -f "$SOCK"
"$KFCGI" -v -r -p "$JAIL" -s "$SOCK" -n 1 -N 1 /bin/worker 2>"$T/err"
PID=$(manager_pid "$SOCK") LOGPID=$PID
tells WARNING 'workers run as root.*' "no -U: a warning"
client -q hang >/dev/null 2>&1 &
waitfor 10 has_said DEBUG 'worker [0-9]+ has connection 1'
quit_now
tells WARNING '1 worker had to be killed' "one that had to be killed: a warning"

# A time zone of the caller, which the jail does not have [B5].
zone=/usr/share/zoneinfo/Asia/Tokyo
if [ -e $zone ] && ! ls /lib/ld-musl-* >/dev/null 2>&1; then
	TZ=Asia/Tokyo
	export TZ
	h1=$(date +%H)
	begin -n 1 /bin/worker
	h2=$(date +%H)
	unset TZ
	fetch 'out=hour' >/dev/null
	waitfor 10 has_said NOTICE 'worker: hour'
	like "$h1 $h2" "$(sed -n 's/^<30>.\{7\}\([0-9]*\):.*started.*/\1/p' \
	    "$SYSLOG")" "the caller's time zone"
	end_manager
fi

# SIGUSR1, in both pools [I3].
#
# status_is numbers: asked again and again, as states pass
status_is() {
	kill -USR1 "$PID"
	[ "$(text | sed -n 's/^status: //p' | tail -n 1)" = "$1" ]
}
status_becomes() {
	waitfor 15 status_is "$1" && result 0 "$2" || {
		result 1 "$2"
		diag "got '$(text | sed -n 's/^status: //p' | tail -n 1)'," \
		    "expected '$1'"
	}
}
cp "$JAIL/bin/worker" "$JAIL/bin/prog"
ok "start" begin -r -n 2 -N 4 /bin/prog
status_becomes "2 idle, 0 busy, 0 leaving, 0 starting; min 2, max 4;\
 0 handed out, 0 deaths, 0 restarts" "status at start"
is "$(said INFO 'status: .*')" "$(text | grep -c '^status: ')" "its level"
answered 3
status_becomes "2 idle, 0 busy, 0 leaving, 0 starting; min 2, max 4;\
 3 handed out, 0 deaths, 0 restarts" "after three requests"
client -n 3 -c 3 -q 'err=1&hang' -t 100000 >/dev/null &
also_kill $!
status_becomes "0 idle, 3 busy, 0 leaving, 0 starting; min 2, max 4;\
 6 handed out, 0 deaths, 0 restarts" "three that hang"
ok "which have begun" waitfor 10 has_said NOTICE 'worker: err [0-9]+ 0' 3
hung=$(text | sed -n 's/^worker: err \([0-9]*\) 0$/\1/p')
kill -KILL "$(echo "$hung" | head -n 1)"
status_becomes "0 idle, 2 busy, 0 leaving, 0 starting; min 2, max 4;\
 6 handed out, 1 death, 0 restarts" "one of them killed"
kill -HUP "$PID"
status_becomes "2 idle, 0 busy, 2 leaving, 0 starting; min 2, max 4;\
 6 handed out, 1 death, 0 restarts" "a reload: the busy are leaving"
waitfor 10 has_said INFO 'reloaded: .*'
is "$(said INFO 'reloaded: 2 new workers, 2 of the old still busy')" 1 \
    "which the reload tells, too"
kill -KILL $(echo "$hung" | tail -n 2)
status_becomes "2 idle, 0 busy, 0 leaving, 0 starting; min 2, max 4;\
 6 handed out, 3 deaths, 0 restarts" "killed: two deaths more"
w=$(workers | head -n 1)
kill -KILL "$w"
status_becomes "2 idle, 0 busy, 0 leaving, 0 starting; min 2, max 4;\
 6 handed out, 4 deaths, 1 restart" "an idle one: a death and a restart"
mv "$JAIL/bin/prog" "$JAIL/bin/away"
w=$(workers | head -n 1)
kill -KILL "$w"
waitfor 15 has_said ERR 'no new workers for now: .*'
waitfor 10 eval '
    kill -USR1 "$PID"
    text | tail -n 1 | grep -q "^status: 1 idle, 0 busy, 0 leaving, 0 starting; "'
is "$?" 0 "one that cannot be replaced"
mv "$JAIL/bin/away" "$JAIL/bin/prog"
end_manager

ok "start" begin -n 3 /bin/prog
status_becomes "3 serving, 0 busy, 0 leaving, 0 starting; min 3, max 3;\
 0 handed out, 0 deaths, 0 restarts" "fixed: status at start"
answered 3
fetch exit=0 >/dev/null
status_becomes "3 serving, 0 busy, 0 leaving, 0 starting; min 3, max 3;\
 0 handed out, 1 death, 1 restart" "fixed: one ended by itself"
fetch crash >/dev/null
status_becomes "3 serving, 0 busy, 0 leaving, 0 starting; min 3, max 3;\
 0 handed out, 2 deaths, 2 restarts" "fixed: one crashed"
kill -HUP "$PID"
waitfor 10 has_said INFO 'reloaded: .*'
status_becomes "3 serving, 0 busy, 0 leaving, 0 starting; min 3, max 3;\
 0 handed out, 2 deaths, 2 restarts" "fixed: a reload is neither"
end_manager
ok "start" begin -n 2 /bin/worker -t
kill -HUP "$PID"
status_becomes "2 serving, 0 busy, 2 leaving, 0 starting; min 2, max 2;\
 0 handed out, 0 deaths, 0 restarts" "fixed: those who do not go, leaving"
quit_now

# -d: on standard error, too; the workers' output stays there [I1, I2].
start -n 1 /bin/worker
LOGPID=$PID
fetch 'out=on+the+terminal' >/dev/null
w=$(workers)
kill -SEGV "$w"
ok "-d: in the log" waitfor 10 has_said ERR \
    "worker $w was killed by signal 11 .*"
ok "-d: on standard error, too" logged \
    "^kfcgi: worker $w was killed by signal 11 "
is "$(grep -c '^on the terminal$' "$LOG")" 1 \
    "-d: what a worker writes stays there"
is "$(text | grep -c 'on the terminal')" 0 "-d: and is not in the log"
quit
tells INFO stopped "-d: the end"
is "$(grep '^kfcgi: ' "$LOG" | sed 's/^kfcgi: //')" "$(text)" \
    "-d: the same lines in both"

# A flood: 100,000 lines slow nobody, and are all accounted for.
for r in '' -r; do
	pool=${r:-fixed}
	ok "$pool: start" begin $r -n 3 -N 3 /bin/worker
	client -q flood=100000 -t 100000 -A 120 >"$T/flood" &
	flood=$!
	waitfor 10 has_said NOTICE 'worker: flood [0-9]+'
	ok "$pool: others are answered during a flood" \
	    answered 500 -c 2 -t 60000
	wait $flood
	like "$(cat "$T/flood")" '^pid' "$pool: so is the one that makes it"
	fetch 'out=after' >/dev/null
	# What comes after the flood may still be of the same second.
	total() {
		text | awk '
		    /^worker: flood [0-9]+$/ || /^worker: after$/ { n++ }
		    / lines of the workers. output dropped/ { n += $1; d++ }
		    / lines lost: syslogd/ { n += $1; l += $1 }
		    END { print n + 0, d + 0, l + 0 }'
	}
	ok "$pool: all are told, or counted as dropped" waitfor 20 eval '
	    [ "$(total | sed "s/ .*//")" -ge 100001 ]'
	is "$(total | sed 's/ .*//')" 100001 "$pool: 100,000 and one"
	ok "$pool: some were dropped" test "$(total | cut -d' ' -f2)" -gt 0
	is "$(said WARNING '[0-9]+ lines of the workers. output dropped: .*')" \
	    "$(total | cut -d' ' -f2)" "$pool: which is a warning"
	ok "$pool: no more than a hundred for each line that counts them" \
	    test "$(said NOTICE 'worker: .*')" -le \
	    $((100 * ($(total | cut -d' ' -f2) + 1)))
	diag "$pool: $(said NOTICE 'worker: .*') of 100001 lines told;" \
	    "lost: $(total | cut -d' ' -f3)"
	end_manager
done

# The last words: nearly a pipe full of them, and nobody is left to read for.
ok "last words: start" begin -n 1 /bin/worker
w=$(workers)
freeze "$PID"
like "$(fetch 'flood=5000')" '^pid' "last words: 5,000"
kill -KILL "$w"
waitfor 10 has_state "$w" Z
kill -TERM "$PID"
kill -CONT "$PID"
waitfor 30 dead "$PID"
tells INFO stopped "last words: the end"
# The lost may have been kfcgi's own, of which there are three before the end.
ok "last words: all told, or counted as dropped or lost" between 5000 \
    "$(total | sed 's/ .*//')" 5003
PID=

# Last words: no newline ends them, but the death is told after them.
cat >"$T/words.c" <<'END'
#include <string.h>
#include <unistd.h>
int
main(int argc, char *argv[])
{
	const char	*words = "cannot open the database";

	if (argc < 2 || access("/flag", F_OK) != 0)
		execv("/bin/worker", argv);
	(void)write(2, words, strlen(words));
	_exit(3);
}
END
$CC -static -o "$JAIL/bin/words" "$T/words.c"
for r in '' -r; do
	pool=${r:-fixed}
	ok "$pool, last words: start" begin $r -n 1 -N 1 /bin/words -A 100
	: >"$JAIL/flag"
	w=$(workers)
	kill -KILL "$w"
	ok "$pool, last words: a death" waitfor 10 has_said ERR \
	    'worker [0-9]+ exited with status 3 after .*'
	is "$(text | sed -n "/^worker $w was killed/,\$p" | sed -n 2p)" \
	    'worker: cannot open the database' \
	    "$pool, last words: on a line of their own"
	like "$(text | sed -n "/^worker $w was killed/,\$p" | sed -n 3p)" \
	    '^worker [0-9]+ exited with status 3 after ' \
	    "$pool, last words: and before that"
	rm "$JAIL/flag"
	end_manager
	rm -f "$SOCK"
done

# A syslogd that does not read.
#
# outcome: lines about connections that arrived or were counted as lost
outcome() {
	text | awk '/(has|is done with) connection/ { n++ }
	    / lines lost: syslogd did not read them$/ { n += $1; l++ }
	    END { print n + 0, l + 0 }'
}
# With few places in its queue, so that this is what is full; else it is the
# buffer of the sender, where there is always room for one line more.
syslogd_stop
syslogd_start 10
ok "start" begin -v -r -n 4 -N 4 /bin/worker
kill -USR1 "$SYSLOGD"
is "$(client -o -n 600 -c 2 -t 60000)" \
    "answered 600 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "600 requests while syslogd does not read"
# One place becomes free, and there is more than one line to say.
n=$(wc -l <"$SYSLOG")
one_more() {
	[ "$(wc -l <"$SYSLOG")" -gt "$n" ]
}
for i in 1 2 3; do
	n=$(wc -l <"$SYSLOG")
	kill -USR2 "$SYSLOGD"
	waitfor 10 one_more
	ok "syslogd reads one message and no more: the manager goes on" \
	    answered 10 -t 5000
done
kill -HUP "$SYSLOGD"
n=0
ok "after that" waitfor 20 eval '
    fetch "" >/dev/null; n=$((n + 1)); has_said WARNING "[0-9]+ lines lost: .*"'
ok "the lost lines are told, all of them" waitfor 20 eval '
    [ "$(outcome | sed "s/ .*//")" -eq $((2 * (630 + n))) ]'
is "$(outcome | sed 's/ .*//')" $((2 * (630 + n))) "exactly"
ok "the manager stops" kill -TERM "$PID"
ok "though it had been ignored" waitfor 15 dead "$PID"
PID=

# One that is stopped by a signal; then the worker dies, too.
ok "start" begin -r -n 2 -N 2 /bin/worker
freeze "$SYSLOGD"
client -o -n 40 -c 2 -q flood=50 -t 60000 >"$T/stopped"
is "$(cat "$T/stopped")" \
    "answered 40 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "requests that log while syslogd is stopped"
kill -KILL $(workers)
ok "the dead are replaced while syslogd is stopped" waitfor 15 has_workers 2
ok "and serve" answered 20 -c 2
ok "SIGTERM while syslogd is stopped" kill -TERM "$PID"
ok "ends it" waitfor 15 dead "$PID"
ok "and all its workers" waitfor 10 no_strays
PID=
kill -CONT "$SYSLOGD"

# One that goes away.
ok "start" begin -v -r -n 2 -N 4 -w 0 /bin/worker
answered 5
n=$(nfds "$PID")
syslogd_stop
ok "requests without a syslogd" answered 200 -c 8
kill -KILL $(workers)
ok "the dead are replaced without a syslogd" waitfor 15 has_workers 2
ok "a reload without a syslogd" kill -HUP "$PID"
fetch 'flood=300' >/dev/null
ok "and serve" answered 20 -c 2
ok "two workers" waitfor 10 has_workers 2
ok "no descriptor is left behind" waitfor 10 eval '
    [ "$(nfds "$PID")" -le "$n" ]'
quit
syslogd_start
rm -f "$SOCK"

# Lines of workers that arrived, or were counted as dropped or lost
outcome_of_flood() {
	text | awk '/^worker: flood/ { n++ }
	    / lines lost: syslogd did not read them$/ { n += $1 }
	    END { print n + 0 }'
}

# One that is behind at the stop gets the last lines, if it reads within a second.
behind() {
	syslogd_stop
	syslogd_start 5
	begin -n 1 /bin/worker || return
	kill -USR1 "$SYSLOGD"
	fetch flood=50 >/dev/null
	w=$(workers)
	kill -TERM "$PID"
	waitfor 10 all_dead "$w"
	kill -HUP "$SYSLOGD"
	waitfor 15 dead "$PID"
	PID=
	waitfor 5 has_said INFO stopped
}
ok "one that is behind: the last line arrives" tries 3 behind
ok "after the number of those before" has_said WARNING '[0-9]+ lines lost: .*'
is "$(outcome_of_flood)" 50 "which is right"

# begin_outside options... prog...: in no jail, so /dev/log stays in sight
begin_outside() {
	"$KFCGI" -p / -s "$SOCK" -U "$WHO" "$@" </dev/null 2>"$T/err"
	_rv=$?
	PID=$(manager_pid "$SOCK")
	LOGPID=$PID
	[ -n "$PID" ] && return $_rv
}

# One that is replaced where it can be seen; the next one hangs.
syslogd_stop
syslogd_start
ok "outside a jail: start" begin_outside -n 1 "$JAIL/bin/worker"
is "$(cat "$T/err")" "" "which says nothing on standard error"
n=$(nfds "$PID")
syslogd_stop
syslogd_start 5
ok "the next syslogd is heard of" waitfor 20 eval '
    kill -USR1 "$PID"; has_said INFO "status: .*"'
is "$(nfds "$PID")" "$n" "with no descriptor more"
w=$(workers)
kill -KILL "$w"
waitfor 15 new_pool 1 "$w"
like "$(fetch report)" "^fds 0 1 2\$" "which a new worker does not have"
kill -USR1 "$SYSLOGD"
for i in 1 2 3 4; do
	client -q flood=50 -t 5000 >/dev/null
done
like "$(client -q '' -t 5000)" '^pid' "it hangs: the pool serves"
kill -TERM "$PID"
ok "and SIGTERM is obeyed" waitfor 10 dead "$PID"
[ -z "$PID" ] || dead "$PID" || kill -KILL "$PID"
PID=
rm -f "$SOCK"

# One that is replaced where it cannot be seen: nothing is worse than that.
syslogd_stop
syslogd_start
ok "in a jail: start" begin -n 1 /bin/worker
n=$(nfds "$PID")
syslogd_stop
syslogd_start
fetch 'out=unheard' >/dev/null
kill -USR1 "$PID"
fetch 'flood=99' >/dev/null
like "$(fetch '')" '^pid' "a syslogd that cannot be seen: the pool serves"
ok "no descriptor is left behind" waitfor 10 eval '
    [ "$(nfds "$PID")" -le "$n" ]'
kill -TERM "$PID"
ok "and SIGTERM is obeyed" waitfor 10 dead "$PID"
PID=
rm -f "$SOCK"

# One that comes late, to a start that has said so.
NONE='kfcgi: no syslogd: messages are lost unless -d shows them'
syslogd_stop
ok "no syslogd yet: start" begin_outside -n 1 "$JAIL/bin/worker"
is "$(cat "$T/err")" "$NONE" "no syslogd yet: is said on standard error"
n=$(nfds "$PID")
fetch 'flood=20' >/dev/null
syslogd_start
ok "a late syslogd has the number of lines lost" waitfor 20 eval '
    kill -USR1 "$PID"
    has_said WARNING "[0-9]+ lines lost: syslogd did not read them"'
ok "and then the line" waitfor 10 has_said INFO 'status: .*'
is "$(nfds "$PID")" $((n + 1)) "by one descriptor"
quit
tells INFO stopped "and the end"
rm -f "$SOCK"

# None at all.
syslogd_stop
start -n 1 /bin/worker
is "$(grep -Fxc "$NONE" "$LOG") $(grep -c syslogd "$LOG")" "1 1" \
    "no syslogd: -d says so, too, once"
quit
start_daemon -n 1 /bin/none
is "$(grep -c "no syslogd" "$T/err") $(grep -c ^kfcgi: "$T/err")" "0 1" \
    "no syslogd: no word of it when the start fails"
ok "started without a syslogd" begin -v -r -n 2 -N 4 -w 0 /bin/worker
n=$(nfds "$PID")
ok "which serves" answered 200 -c 8
ok "two workers" waitfor 10 has_workers 2
ok "no descriptor is left behind" waitfor 10 eval '
    [ "$(nfds "$PID")" -eq "$n" ]'
quit
syslogd_start

syslogd_stop
done_testing
