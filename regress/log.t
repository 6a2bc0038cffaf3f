#!/bin/sh
# The log: what is said, at which level, and that neither a flood nor a syslogd
# that does not read holds anything up.  What leads to a message is looked at
# in the test of that; messages.t is about the others.

. ./devlog.sh

# said level pattern: how often the present kfcgi has logged that line
said() {
	case $1 in
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
	waitfor 15 has_said "$1" "$2"
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

# end description: told to stop, it does
end() {
	kill -TERM "$PID"
	ok "$1" waitfor 15 dead "$PID" || kill -KILL "$PID"
	PID=
	rm -f "$SOCK"
}

# All that the present kfcgi has logged, without PRI, time and tag.
text() {
	sed -n "s/^<[0-9]*>.\{15\} kfcgi\[$LOGPID\]: //p" "$SYSLOG"
}

# total pattern: lines that arrived, or were counted as dropped or lost
total() {
	text | awk -v p="$1" '
	    $0 ~ p || /^worker: after$/ { n++ }
	    / lines of the workers. output dropped: / { n += $1 }
	    / lines lost: syslogd did not read them$/ { n += $1 }
	    END { print n + 0 }'
}

# between low value high
between() {
	awk -v a="$1" -v b="$2" -v c="$3" 'BEGIN { exit !(a <= b && b <= c) }'
}

moment() {
	perl -MTime::HiRes=time -e 'printf "%.3f\n", time'
}

syslogd_start

for r in '' -r; do
	pool=${r:-fixed}
	served=
	[ -n "$r" ] && served=', served [0-9]'

	cp "$JAIL/bin/worker" "$JAIL/bin/prog"
	before=$(moment)
	ok "$pool: start" begin $r -n 2 -N 2 /bin/prog
	after=$(moment)
	tells INFO "started: 2 workers of /bin/prog in $JAIL for $SOCK" \
	    "$pool: the start is told"
	is "$(ls "$JAIL")" bin "$pool: though there is no /dev in the jail"

	# Deaths.
	w=$(workers | head -n 1)
	low=$(moment)
	kill -SEGV "$w"
	tells ERR "worker $w was killed by signal 11 \\([A-Za-z ]+\\) after\
 [0-9]+\\.[0-9]{3} s$served" "$pool: a death by signal is an error"
	high=$(moment)
	life=$(sed -n "s/.*worker $w was killed.* after \([0-9.]*\) s.*/\1/p" \
	    "$SYSLOG")
	# A hundredth for the rounding of both.
	ok "$pool: how long it lived" between \
	    "$(echo "$low $after" | awk '{ print $1 - $2 - 0.01 }')" "$life" \
	    "$(echo "$high $before" | awk '{ print $1 - $2 + 0.01 }')"
	waitfor 15 has_workers 2
	for level in "ERR 3" "INFO 0"; do
		fetch "exit=${level#* }" >/dev/null
		tells "${level% *}" "worker [0-9]+ exited with status\
 ${level#* } after [0-9.]+ s$served" "$pool: status ${level#* } is ${level% *}"
		waitfor 15 has_workers 2
	done

	# A program that breaks after a good start.
	mv "$JAIL/bin/prog" "$JAIL/bin/away"
	kill -KILL $(workers)
	ok "$pool: a worker that cannot be executed" waitfor 30 has_said ERR \
	    "no new workers for now: cannot execute /bin/prog in $JAIL as $WHO:\
 No such.*; next trial in 100 ms"
	mv "$JAIL/bin/away" "$JAIL/bin/prog"
	is "$(said '' 'worker [0-9]+ exited with status 127 .*')" 0 \
	    "$pool: and that it ended is no news"
	tells INFO 'workers are started again: a trial passed' \
	    "$pool: mended, that is told"
	ok "$pool: two workers again" waitfor 30 has_workers 2

	# Reload.
	w=$(workers)
	kill -HUP "$PID"
	tells INFO 'reloaded: 2 new workers, 0 of the old still busy' \
	    "$pool: a reload is told"
	waitfor 10 all_dead $w
	errors=$(said ERR '.*')
	mv "$JAIL/bin/prog" "$JAIL/bin/away"
	kill -HUP "$PID"
	tells ERR "reload failed, old workers that stay: 2: cannot execute\
 /bin/prog in $JAIL as $WHO: No such file or directory.*" "$pool: a failed one, too"
	is "$(said ERR '.*')" $((errors + 1)) "$pool: in one line"
	mv "$JAIL/bin/away" "$JAIL/bin/prog"

	# Output.
	fetch out=first-line >/dev/null
	tells NOTICE 'worker: first-line' "$pool: standard output"
	fetch 'err=3' >/dev/null
	waitfor 10 has_said NOTICE 'worker: err [0-9]+ 2'
	is "$(text | sed -n 's/^worker: err [0-9]* //p' | tr '\n' ' ')" \
	    '0 1 2 ' "$pool: standard error, line by line"
	for len in 999 1000 1001 10000; do
		fetch "out=begin-$len&errlong=$len&out=end-$len" >/dev/null
		waitfor 10 has_said NOTICE "worker: end-$len"
		is "$(text |
		    sed -n "/^worker: begin-$len/,/^worker: end-$len/p" |
		    sed -n 's/^worker: \([a-z]*\)$/\1/p' | tr -d '\n')" \
		    "$(awk -v n="$len" 'BEGIN { for (i = 0; i < n; i++)
		    printf "%c", 97 + i % 26 }')" \
		    "$pool: a line of $len characters, whole, in pieces"
	done

	# What has a level with -r only.
	if [ -n "$r" ]; then
		served 40 "$pool: answered while saturated" -c 8 -q slow=20
		tells WARNING "all 2 workers are busy and connections wait:\
 -N may be too low" "$pool: saturation is told"
		fetch cookie=wrong >/dev/null
		tells ERR "worker [0-9]+ wrote a wrong cookie: stopped" \
		    "$pool: a mistake in the protocol"
		is "$(said ERR '.*')" $((errors + 2)) "$pool: in one line"
	fi

	# Deaths of those who were told to go are no news.
	end "$pool: stop"
	tells INFO stopped "$pool: the end is told"
	is "$(said DEBUG '.*')" 0 "$pool: without -v no debug line"
	is "$(grep -c "kfcgi\\[$LOGPID\\]" "$SYSLOG")" "$(said '' '.*')" \
	    "$pool: facility, time and tag of every line"
done

# -v: a line for each start, hand-out, release and end.
# Who is let go finds its control socket closed, or gets the SIGTERM first.
end='(was killed by signal 15|exited with status 0)'
ok "-v: start" begin -v -r -n 1 -N 2 -w 0 /bin/worker
w=$(workers)
tells DEBUG "worker $w started on trial" "-v: a start"
tells DEBUG "worker $w passed its trial" "-v: a trial"
client -q slow=2000 >/dev/null &
slow=$!
ok "-v: a hand-out" waitfor 10 has_said DEBUG "worker $w has connection 1"
v=$(fetch '' | sed -n 's/^pid \([0-9]*\).*/\1/p')
tells DEBUG "worker $v has connection 2" "-v: another"
tells DEBUG "worker $v is done with connection 2" "-v: a cookie"
tells DEBUG "worker $v released after 0 s of idleness" "-v: a release"
tells DEBUG "worker $v $end .*" "-v: a reap"
wait $slow
end "-v: stop"
tells DEBUG "worker $w $end .*" "-v: a reap at the stop"
is "$(text | grep -Ec '^worker [0-9]+ started( on trial)?$')" \
    "$(text | grep -Ec "^worker [0-9]+ $end ")" \
    "-v: as many starts as ends, so nothing is said twice"

# The end of patience, and of root's.
"$KFCGI" -v -r -p "$JAIL" -s "$SOCK" -n 1 -N 1 /bin/worker 2>"$T/err"
PID=$(manager_pid "$SOCK") LOGPID=$PID
tells WARNING 'workers run as root.*' "no -U: a warning"
client -q hang >/dev/null 2>&1 &
waitfor 10 has_said DEBUG 'worker [0-9]+ has connection 1'
quit_now
tells WARNING '1 worker had to be killed' "one that had to be killed: a warning"

# A time zone of the caller, which the jail does not have; musl would look for
# it there.
zone=/usr/share/zoneinfo/Asia/Tokyo
if [ -e $zone ] && ! ldd --version 2>&1 | grep -q musl; then
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

# SIGUSR1: asked again and again, as states pass
# becomes idle busy leaving handed-out deaths restarts description: of two to
# four workers with -r, of three in the fixed pool
becomes() {
	_s=s
	[ "$6" -ne 1 ] || _s=
	_d=s
	[ "$5" -ne 1 ] || _d=
	_status="$1 $IDLE, $2 busy, $3 leaving, 0 starting; $POOL; $4 handed\
 out, $5 death$_d, $6 restart$_s"
	waitfor 15 eval 'kill -USR1 "$PID"
	    [ "$(text | sed -n "s/^status: //p" | tail -n 1)" = "$_status" ]'
	is "$(text | sed -n 's/^status: //p' | tail -n 1)" "$_status" "$7"
}
ok "status: start" begin -r -n 2 -N 4 /bin/worker
IDLE=idle POOL="min 2, max 4"
becomes 2 0 0 0 0 0 "status: at start"
ok "status: its level" has_said INFO 'status: .*'
client -n 3 >/dev/null
becomes 2 0 0 3 0 0 "status: after three requests"
client -n 3 -c 3 -q 'err=1&hang' -t 100000 >/dev/null &
also_kill $!
becomes 0 3 0 6 0 0 "status: three that hang"
ok "status: which have begun" \
    waitfor 10 has_said NOTICE 'worker: err [0-9]+ 0' 3
hung=$(text | sed -n 's/^worker: err \([0-9]*\) 0$/\1/p')
kill -KILL "$(echo "$hung" | head -n 1)"
becomes 0 2 0 6 1 0 "status: one of them killed"
kill -HUP "$PID"
becomes 2 0 2 6 1 0 "status: a reload: the busy are leaving"
tells INFO 'reloaded: 2 new workers, 2 of the old still busy' \
    "status: which the reload tells, too"
kill -KILL $(echo "$hung" | tail -n 2)
becomes 2 0 0 6 3 0 "status: killed: two deaths more"
kill -KILL "$(workers | head -n 1)"
becomes 2 0 0 6 4 1 "status: an idle one: a death and a restart"
fetch cookie=wrong >/dev/null
becomes 2 0 0 7 5 2 "status: so is one that is stopped for a mistake"
end_manager

ok "status, fixed: start" begin -n 3 /bin/worker -t
IDLE=serving POOL="min 3, max 3"
client -n 3 >/dev/null
becomes 3 0 0 0 0 0 "status, fixed: after three requests"
fetch exit=0 >/dev/null
becomes 3 0 0 0 1 1 "status, fixed: one ended by itself"
fetch crash >/dev/null
becomes 3 0 0 0 2 2 "status, fixed: one crashed"
kill -HUP "$PID"
becomes 3 0 3 0 2 2 "status, fixed: a reload is neither; the deaf are leaving"
quit_now

# -d: on standard error, too; the workers' output stays there.
start -n 1 /bin/worker
LOGPID=$PID
fetch out=on-the-terminal >/dev/null
kill -SEGV "$(workers)"
waitfor 10 has_said ERR "worker [0-9]+ was killed by signal 11 .*"
quit
tells INFO stopped "-d: the end"
is "$(grep -c '^on-the-terminal$' "$LOG") $(text | grep -c 'terminal')" "1 0" \
    "-d: what a worker writes stays there"
is "$(grep '^kfcgi: ' "$LOG" | sed 's/^kfcgi: //')" "$(text)" \
    "-d: the same lines in both"

# A flood: 100,000 lines slow nobody, and are all accounted for.
ok "flood: start" begin -r -n 3 -N 3 /bin/worker
low=$(moment)
client -q flood=100000 -t 100000 -A 120 >"$T/flood" &
flood=$!
waitfor 10 has_said NOTICE 'worker: flood [0-9]+'
served 500 "flood: others are answered meanwhile" -c 2 -t 60000
wait $flood
like "$(cat "$T/flood")" '^pid' "flood: so is the one that makes it"
fetch 'out=after' >/dev/null
# What comes after the flood may still be of the same second.
ok "flood: all are told, or counted" waitfor 20 eval '
    [ "$(total "^worker: flood [0-9]+$")" -ge 100001 ]'
is "$(total '^worker: flood [0-9]+$')" 100001 "flood: 100,000 and one"
ok "flood: some were dropped, which is a warning" has_said WARNING \
    "[0-9]+ lines of the workers' output dropped: more than 100 in a second"
# A second begins when the one before has ended.
ok "flood: a hundred a second at most" between 1 \
    "$(text | grep -c '^worker: ')" "$(echo "$low $(moment)" |
    awk '{ print 100 * ($2 - $1 + 2) }')"
end_manager

# The last words are told before the death; and nearly a pipe full of them, when
# nobody is left to read for.
ok "last words: start" begin -n 1 /bin/worker
w=$(workers)
freeze "$PID"
fetch 'errlong=10000&errlong=10000' >/dev/null
kill -SEGV "$w"
waitfor 10 has_state "$w" Z
kill -CONT "$PID"
waitfor 10 has_said ERR "worker $w was killed .*"
is "$(text | sed "/^worker $w was/q" | grep -c '^worker: ')" 20 \
    "last words: 20,000 characters, before the death"
waitfor 15 new_pool 1 "$w"
w=$(workers)
freeze "$PID"
like "$(fetch 'flood=5000')" '^pid' "last words: 5,000"
kill -KILL "$w"
waitfor 10 has_state "$w" Z
kill -TERM "$PID"
kill -CONT "$PID"
waitfor 30 dead "$PID"
tells INFO stopped "last words: the end"
# The lost may have been kfcgi's own, of which there are a few before the end.
ok "last words: all told, or counted" between 5000 \
    "$(total '^worker: flood [0-9]+$')" 5005
PID=

# No newline ends them, but the death is told after them.
ok "last words: start" begin -p / -n 1 "$(command -v perl)" -e '
    exec @ARGV if !-e shift; print STDERR "cannot open the database"; exit 3' \
    "$T/flag" "$JAIL/bin/worker" -A 100
w=$(workers)
waitfor 20 eval '[ "$(ps_of "$w" comm)" = worker ]'
: >"$T/flag"
kill -KILL "$w"
waitfor 10 has_said ERR 'worker [0-9]+ exited with status 3 after .*'
is "$(text | sed -n "/^worker $w was killed/,\$p" | sed -n 2,3p |
    sed 's/[0-9][0-9.]*/N/g')" \
    "worker: cannot open the database
worker N exited with status N after N s" \
    "last words: on a line of their own, and before the death"
rm "$T/flag"
end_manager

# A syslogd that reads gets every line, though only ten have room at once.
burst() {
	syslogd_stop
	syslogd_start 10 "$@"
	begin -n 1 /bin/worker || return
	fetch 'flood=60&crash' >/dev/null
	waitfor 10 grep -q "kfcgi\\[$PID\\]: worker [0-9]* was killed" "$SYSLOG"
	n=$(grep -c "kfcgi\\[$PID\\]: worker: flood" "$SYSLOG")
	diag "$n lines"
	end_manager
	[ "$n" -eq 60 ] && [ ! -s "$T/err" ]
}
ok "burst: 60 lines and a death" tries 3 burst
ok "burst: to a stream" \
    tries 3 burst perl "$REGRESS/syslogd" -s /dev/log "$SYSLOG"
if busybox syslogd --help >/dev/null 2>&1; then
	ok "burst: to that of busybox" \
	    tries 3 burst busybox syslogd -n -O "$SYSLOG"
else
	skip "no busybox(1) with a syslogd" "burst: to that of busybox"
fi

# One that hangs, with few places in its queue, so that this is what is full;
# else it is the buffer of the sender, where there is room for one line more.
handed='(has|is done with) connection'
syslogd_stop
syslogd_start 10
ok "hung: start" begin -v -r -n 4 -N 4 /bin/worker
freeze "$SYSLOGD"
# A tenth of a second for each line would be two minutes.
served 600 "hung: 600 requests" -c 1 -A 60
kill -CONT "$SYSLOGD"
# The lost are told before the next line, if there is room for that by then.
n=600
ok "hung: after that the lost are told, exactly" waitfor 20 eval '
    [ "$(total "$handed")" -eq $((2 * n)) ] ||
    { fetch "" >/dev/null; n=$((n + 1)); false; }' ||
    diag "$(total "$handed") lines of $n connections"
ok "hung: which is a warning" has_said WARNING '[0-9]+ lines lost: .*'
freeze "$SYSLOGD"
w=$(workers)
kill -KILL $w
ok "hung again: the dead are replaced" waitfor 15 new_pool 4 $w
served 20 "hung again: and serve" -c 2
end "hung again: it stops"

# One that goes away.
syslogd_stop
syslogd_start
ok "gone: start" begin -v -r -n 2 -N 4 -w 0 /bin/worker
client -n 5 >/dev/null
n=$(nfds "$PID")
syslogd_stop
served 200 "gone: requests" -c 8
fetch 'flood=300' >/dev/null
ok "gone: two workers, and no descriptor is left behind" waitfor 10 eval '
    has_workers 2 && [ "$(nfds "$PID")" -le "$n" ]'
end "gone: it stops"

# One that is replaced where it can be seen: in no jail, /dev/log stays in sight.
syslogd_stop
syslogd_start
ok "replaced: start" begin -p / -n 1 "$JAIL/bin/worker"
is "$(cat "$T/err")" "" "replaced: nothing on standard error"
waitfor 10 rests
n=$(nfds "$PID")
syslogd_stop
syslogd_start
ok "replaced: the next is heard of" waitfor 20 eval '
    kill -USR1 "$PID"; has_said INFO "status: .*"'
is "$(said '' '[0-9]+ lines lost: .*')" 0 "replaced: and nothing was lost"
is "$(nfds "$PID")" "$n" "replaced: with no descriptor more"
w=$(workers)
kill -KILL "$w"
waitfor 15 new_pool 1 "$w"
like "$(fetch report)" "^fds 0 1 2\$" "replaced: nor has a new worker one"
end "replaced: it stops"

# One that comes late, to a start that has said so.
NONE='kfcgi: no syslogd: messages are lost unless -d shows them'
syslogd_stop
ok "late: start" begin -p / -n 1 "$JAIL/bin/worker"
is "$(cat "$T/err")" "$NONE" "late: there is none, on standard error"
waitfor 10 rests
n=$(nfds "$PID")
fetch 'flood=20' >/dev/null
syslogd_start
ok "late: it has the number of lines lost" waitfor 20 eval '
    kill -USR1 "$PID"
    has_said WARNING "[0-9]+ lines lost: syslogd did not read them"'
ok "late: and then the line" waitfor 10 has_said INFO 'status: .*'
is "$(nfds "$PID")" $((n + 1)) "late: by one descriptor"
end "late: it stops"

# None at all.
syslogd_stop
start -n 1 /bin/worker
is "$(grep -Fxc "$NONE" "$LOG") $(grep -c syslogd "$LOG")" "1 1" \
    "none: -d says so, too, once"
quit
start_daemon -n 1 /bin/none
is "$(grep -c "no syslogd" "$T/err") $(grep -c ^kfcgi: "$T/err")" "0 1" \
    "none: no word of it when the start fails"

done_testing
