#!/bin/sh
# Shortage of descriptors, processes and kernel memory: slower, but every
# request is answered; no spinning, and the log stays readable.
. ./lib.sh

REAL=$KFCGI

# limited option value...: kfcgi from here on is started with that limit,
# soft and hard; -u is the shell's option for processes, or -p.
limited() {
	KFCGI=$T/limited
	{
		echo '#!/bin/sh'
		case $1 in
		-u)	echo "(ulimit -u $2) 2>/dev/null && ulimit -u $2 ||" \
			    "ulimit -p $2";;
		*)	echo "ulimit $1 $2";;
		esac
		echo "exec '$REAL' \"\$@\""
	} >"$KFCGI"
	chmod 755 "$KFCGI"
}

unlimited() {
	KFCGI=$REAL
}

all() {
	echo "answered $1 refused 0 reset 0 cut 0 timeout 0 bad 0"
}

# at_most limit number description
at_most() {
	ok "$3" test "$2" -le "$1" ||
	    diag "got $2, expected at most $1"
}

count() {
	grep -c "$1" "$LOG"
}

cpu() {
	ps_of "$PID" time
}

# trace_end leaves the count in $CALLS.  Counting slows the manager down, no matter.
CALLS=unknown
trace_begin() {
	have strace || return
	strace_on -qq -c -o "$T/count"
}

trace_end() {
	have strace || return
	strace_off
	CALLS=$(awk '$NF == "total" { print $4 }' "$T/count")
}

# calls_at_most limit description
calls_at_most() {
	if have strace; then
		at_most "$1" "$CALLS" "$2"
	else
		skip "no strace(1)" "$2"
	fi
}

# can_inject description: else what was to be shown is skipped
can_inject() {
	have strace && return
	skip "no strace(1)" "$1"
	return 1
}

# inject call error when: the manager's next such calls fail, until trace_end
inject() {
	strace_on -qq -o "$T/injected" -e "trace=$1" \
	    -e "inject=$1:error=$2:when=$3"
}

injected() {
	grep -c INJECTED "$T/injected"
}

# occupy number: that many of procuser's processes are somebody else's
SLEEPERS=
occupy() {
	i=0
	while [ $i -lt "$1" ]; do
		perl -e '($u, $g) = (getpwnam(shift))[2, 3];
		    $( = $) = "$g $g"; $< = $> = $u; sleep 200' "$WHO" &
		SLEEPERS="$SLEEPERS $!"
		also_kill $!
		i=$((i + 1))
	done
	# Each has become that user.
	waitfor 10 eval '[ "$(commands_of "$WHO" | grep -c "^perl -e")" -eq \
	    "$(echo $SLEEPERS | wc -w)" ]'
}

vacate() {
	kill -KILL $SLEEPERS
	wait $SLEEPERS 2>/dev/null
	SLEEPERS=
}

# procuser: users that have no process, since theirs are counted.
WHO= WHO2=
for u in games backup news uucp lp list irc operator _portmap _identd _bgpd; do
	id "$u" >/dev/null 2>&1 || continue
	[ -z "$(commands_of "$u")" ] || continue
	WHO2=$WHO WHO=$u
	[ -n "$WHO2" ] && break
done
[ -n "$WHO2" ] || skip_all "no two users without a process"

# --- A shortage that lasts.  Its end is at the end
# of this file.
MINE=$SOCK MYLOG=$LOG MYSELF=$WHO MYJAIL=$JAIL
SOCK=$T/long LOG=$T/longlog WHO=$WHO2 JAIL=$T/longjail
mkdir -p "$JAIL/bin"
cp "$MYJAIL/bin/worker" "$JAIL/bin"
limited -u 3
ok "three processes: start" start -n 2 /bin/worker -A 200
occupy 1
kill -KILL "$(workers | head -n 1)"
ok "the dead cannot be replaced" \
    waitfor 20 logged 'cannot start a worker: Resource .* serving with 1'
LONG=$PID LONGSLEEPERS=$SLEEPERS
also_kill "$LONG" $(workers)
SOCK=$MINE LOG=$MYLOG WHO=$MYSELF JAIL=$MYJAIL SLEEPERS=
unlimited

# --- Descriptors: 40 for N = 60, and 120 requests at once.
limited -n 40
ok "-N 60 with 40 descriptors: start" \
    start -r -n 2 -N 60 -l 128 -w 1 /bin/worker -A 200
has_limit() {
	awk '/^Max open files/ { exit !($4 == 40 && $5 == 40) }' \
	    "/proc/$PID/limits"
}
if has_proc; then
	ok "the limit is on" has_limit
else
	skip "no /proc" "the limit is on"
fi
fds=$(nfds "$PID")
trace_begin
is "$(client -o -n 120 -c 120 -q slow=100 -t 100000)" "$(all 120)" \
    "120 requests at once: all answered"
at_most 40 "$(nworkers)" "no more workers than descriptors"
trace_end
diag "system calls: $CALLS, CPU: $(cpu), workers: $(nworkers)"
# About 5 a request, and 50 to start, reap and release a worker.
calls_at_most 6000 "no spinning"
ok "it was short of descriptors" logged 'Too many open files'
at_most 2 "$(count 'cannot start a worker')" \
    "one line or two about workers that cannot be started"
at_most 2 "$(count 'cannot accept connections for now')" \
    "one line or two about connections that cannot be accepted"
ok "shrinks to n" waitfor 30 has_workers 2
is "$(nfds "$PID")" "$fds" "no descriptor is left behind"
is "$(client -o -n 100 -c 2)" "$(all 100)" "and serves"

# Again, longer, with workers that die and are replaced meanwhile.
client -o -n 240 -c 120 -q slow=50 -t 100000 >"$T/load" &
load=$!
n=0
while alive $load && [ $n -lt 10 ]; do
	sleep 0.1	# a rhythm, nothing that is waited for
	w=$(workers | head -n 1)
	[ -n "$w" ] && kill -KILL "$w" 2>/dev/null && n=$((n + 1))
done
wait $load
at_most "$n" "$(awk '{ print $6 + $8 }' "$T/load")" \
    "$n workers killed meanwhile: no more requests lost"
like "$(cat "$T/load")" 'refused 0 .* timeout 0 bad 0$' "the others are answered"
ok "n again" waitfor 60 has_workers 2
quit
is "$?" 0 "status"

# A reload for which there are not enough: an old one goes for each new one.
limited -n 20
ok "start" start -r -n 6 -N 6 /bin/worker
w=$(workers)
kill -HUP "$PID"
is "$(client -o -n 800 -c 4 -q slow=10 -t 60000)" "$(all 800)" \
    "a reload without descriptors: all answered"
ok "the shortage is told" waitfor 20 logged 'cannot start a worker: Too many open'
ok "and then the reload" waitfor 30 logged 'reloaded: 6 new'
ok "all are new" waitfor 10 new_pool 6 $w
is "$(client -o -n 60 -c 6)" "$(all 60)" "and serve"
is "$(count 'cannot start a worker')" 1 "one line"
quit

# Too few to start at all: that is fatal, and said.  A worker of a fixed pool
# needs one only until it has been executed, so there must not be enough for
# those that are started in one turn.
for r in '' -r; do
	limited -n 16
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" $r -n 60 /bin/worker \
	    </dev/null >"$T/out" 2>"$T/err"
	is "$?" 1 "${r:-fixed}: not enough descriptors to start: status"
	is "$(cat "$T/err")" \
	    'kfcgi: cannot start a worker: Too many open files' \
	    "${r:-fixed}: and why"
	is "$(strays)" "" "${r:-fixed}: nobody is left"
done
unlimited

# --- Processes of procuser: six, the manager among them.
limited -u 6
ok "six processes: start" start -r -n 2 -N 60 -l 128 -w 1 /bin/worker -A 200
trace_begin
is "$(client -o -n 120 -c 120 -q slow=20 -t 100000)" "$(all 120)" \
    "120 requests at once: all answered"
at_most 5 "$(nworkers)" "no more workers than processes"
trace_end
diag "system calls: $CALLS, CPU: $(cpu), workers: $(nworkers)"
calls_at_most 3000 "no spinning"
ok "it was short of processes" \
    logged 'cannot start a worker: Resource temporarily unavailable, serving with 5'
at_most 2 "$(count 'cannot start a worker')" "one line or two about that"
ok "shrinks to n" waitfor 30 has_workers 2
is "$(client -o -n 100 -c 2)" "$(all 100)" "and serves"
quit

for r in '' -r; do
	pool=${r:-fixed}
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" $r -n 10 /bin/worker \
	    </dev/null >"$T/out" 2>"$T/err"
	is "$?" 1 "$pool: not enough processes to start: status"
	is "$(cat "$T/err")" \
	    'kfcgi: cannot start a worker: Resource temporarily unavailable' \
	    "$pool: and why"
	is "$(strays)" "" "$pool: nobody is left"

	# Enough to start, not to reload, and then not even to replace.
	ok "$pool: start" start $r -n 4 -N 4 /bin/worker -g
	w=$(workers)
	kill -HUP "$PID"
	is "$(client -o -n 800 -c 4 -q slow=10 -t 60000)" "$(all 800)" \
	    "$pool: a reload without processes: all answered"
	ok "$pool: the shortage is told" waitfor 20 \
	    logged 'cannot start a worker: Resource .* serving with [3-5]$'
	ok "$pool: and then the reload" waitfor 30 logged 'reloaded: 4 new'
	ok "$pool: all are new" waitfor 10 new_pool 4 $w
	is "$(client -o -n 60 -c 4)" "$(all 60)" "$pool: and serve"
	w=$(workers)
	# An episode of its own, so that it is told.
	quit
	ok "$pool: start" start $r -n 4 -N 4 /bin/worker -g
	w=$(workers)
	ok "$pool: somebody else takes the processes" occupy 3
	trace_begin
	# All at once, or one is replaced before the next has died.
	freeze "$PID"
	kill -KILL $w
	waitfor 10 all_dead $w
	kill -CONT "$PID"
	ok "$pool: the dead cannot be replaced" \
	    waitfor 20 logged 'cannot start a worker: Resource .* serving with 2'
	ok "$pool: two are left" waitfor 20 has_workers 2
	is "$(client -o -n 60 -c 4 -t 60000)" "$(all 60)" "$pool: who serve"
	vacate
	ok "$pool: with time, n again" waitfor 60 has_workers 4
	at_most 2 "$(count 'cannot start a worker: .* serving with')" \
	    "$pool: one line or two about it"
	trace_end
	diag "$pool: system calls: $CALLS, CPU: $(cpu)"
	calls_at_most 3000 "$pool: no spinning"
	quit
done

# In a fixed pool even if none at all is left.
ok "fixed: start" start -n 4 /bin/worker -g
occupy 1
freeze "$PID"
kill -KILL $(workers)
ok "fixed: somebody else takes the place of all" occupy 4
client -o -n 8 -c 8 -t 60000 >"$T/load" &
load=$!
kill -CONT "$PID"
ok "fixed: none can be replaced" \
    waitfor 20 logged 'cannot start a worker: Resource .* serving with 0'
vacate
wait $load
is "$(cat "$T/load")" "$(all 8)" "fixed: requests wait until some can"
ok "fixed: n again" waitfor 60 has_workers 4
quit
unlimited

# --- Descriptors in flight: on Linux as many as one process may have open, for
# all of a user's processes together.  Another pool of that user has fifty under
# way to workers that do not read.
in_flight() {
	SOCK=$T/other
	ok "another pool of the same user" start -r -n 50 -N 50 -l 128 /bin/worker
	OTHER=$PID OTHERLOG=$T/otherlog OTHERWORKERS=$(workers)
	mv "$LOG" "$OTHERLOG"	# its descriptor stays with it
	also_kill $OTHER $OTHERWORKERS
	SOCK=$MINE
	limited -n 40
	ok "start" start -r -n 3 -N 6 /bin/worker
	freeze $OTHERWORKERS
	"$REGRESS/client" -s "$T/other" -o -n 50 -c 50 -t 100000 >"$T/otherload" &
	otherload=$!
	ok "fifty descriptors under way" waitfor 20 eval '
	    [ "$(grep -c "has connection" "$OTHERLOG")" -eq 50 ]'
	trace_begin
	client -o -n 30 -c 10 -t 100000 >"$T/load" &
	load=$!
	ok "hand-out is impossible" waitfor 20 logged \
	    'cannot hand out connections for now: Too many references'
	switches() {
		awk '/ctxt_switches/ { n += $2 } END { print n }' "/proc/$PID/status"
	}
	if has_proc; then
		n=$(($(switches) + 4))
		ok "it goes on trying" waitfor 20 eval '[ "$(switches)" -ge $n ]'
	else
		skip "no /proc" "it goes on trying"
	fi
	kill -CONT $OTHERWORKERS
	wait $load
	is "$(cat "$T/load")" "$(all 30)" "all answered when there is room again"
	trace_end
	diag "system calls: $CALLS, CPU: $(cpu)"
	if have strace; then
		ok "indeed" test \
		    "$(awk '$NF == "sendmsg" { print $5 }' "$T/count")" -ge 2
	else
		skip "no strace(1)" "indeed"
	fi
	calls_at_most 2000 "no spinning"
	at_most 2 "$(count 'cannot hand out')" "one line or two about it"
	wait $otherload
	is "$(cat "$T/otherload")" "$(all 50)" "the other pool's, too"
	ok "n again" eval 'client -n 20 >/dev/null; [ "$(nworkers)" -ge 3 ]'
	quit
	unlimited
	PID=$OTHER
	SOCK=$T/other
	LOG=$OTHERLOG
	quit
	LOG=$T/log
	SOCK=$MINE
}
if [ "$(uname -s)" = Linux ]; then
	in_flight
else
	skip "only Linux counts them for each user" "descriptors in flight"
fi

# --- The system's own shortage, by injected errors.
for e in EMFILE ENFILE ENOBUFS ENOMEM; do
	can_inject "accept: $e" || continue
	start -r -n 2 -N 4 /bin/worker
	inject accept4 $e 1..3
	is "$(client -o -n 40 -c 8 -t 60000)" "$(all 40)" \
	    "accept: $e: all answered"
	trace_end
	is "$(injected)" 3 "accept: $e: it was met"
	is "$(count 'cannot accept connections for now: ')" 1 \
	    "accept: $e: one line"
	quit
done
for e in EINTR ECONNABORTED; do
	can_inject "accept: $e" || continue
	start -r -n 2 -N 4 /bin/worker
	inject accept4 $e 1..3
	is "$(client -o -n 40 -c 8 -t 60000)" "$(all 40)" \
	    "accept: $e: all answered"
	trace_end
	is "$(injected)" 3 "accept: $e: it was met"
	is "$(count 'cannot')" 0 "accept: $e: is nothing"
	quit
done
for e in ENOBUFS ENOMEM ETOOMANYREFS; do
	can_inject "hand-out: $e" || continue
	start -r -n 2 -N 4 /bin/worker
	inject sendmsg $e 1..2
	is "$(client -o -n 40 -c 8 -t 60000)" "$(all 40)" \
	    "hand-out: $e: all answered"
	trace_end
	is "$(injected)" 2 "hand-out: $e: it was met"
	is "$(count 'cannot hand out connections for now: ')" 1 \
	    "hand-out: $e: one line"
	quit
done
for call in socketpair pipe clone; do
	[ $call = clone ] && e=EAGAIN || e=ENFILE
	can_inject "$call: $e" || continue
	start -r -n 2 -N 4 /bin/worker
	inject "/^$call[23]?\$" $e 1..2
	client -o -n 40 -c 8 -q slow=20 -t 60000 >"$T/load" &
	load=$!
	wait $load
	is "$(cat "$T/load")" "$(all 40)" "$call: $e: all answered"
	kill -KILL $(workers)
	ok "$call: $e: replaced" waitfor 30 eval '
	    [ "$(workers | grep -c .)" -ge 2 ]'
	trace_end
	is "$(injected)" 2 "$call: $e: it was met"
	is "$(count 'cannot start a worker: ')" 1 "$call: $e: one line"
	is "$(client -o -n 20 -c 4)" "$(all 20)" "$call: $e: and serves"
	quit
	is "$?" 0 "$call: $e: status"
done
if can_inject "poll: ENOMEM"; then
	start -r -n 2 -N 4 /bin/worker
	inject ppoll ENOMEM 2..4
	is "$(client -o -n 40 -c 8 -t 60000)" "$(all 40)" \
	    "poll: ENOMEM: all answered"
	trace_end
	is "$(injected)" 3 "poll: ENOMEM: it was met"
	quit
	is "$?" 0 "status"
fi

# --- The long shortage: one line, though it was tried every second.
PID=$LONG LOG=$T/longlog SOCK=$T/long JAIL=$T/longjail SLEEPERS=$LONGSLEEPERS
is "$(count 'cannot start a worker')" 1 "one line for all of it"
is "$(client -o -n 20 -c 2)" "$(all 20)" "the other worker serves"
vacate
ok "n again" waitfor 30 has_workers 2
quit
is "$?" 0 "status"
is "$(strays)" "" "nobody is left"
LOG=$MYLOG SOCK=$MINE JAIL=$MYJAIL

done_testing
