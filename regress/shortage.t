#!/bin/sh
# Shortage of descriptors and processes, as the kernel has it: slower, but every
# request is answered, and the log stays readable.  Calls that fail, in any order,
# are sim.t's.
. ./lib.sh

REAL=$KFCGI

# limited option value: kfcgi from here on is started with that limit, soft and
# hard; -u is the shell's option for processes, or -p.
limited() {
	KFCGI=$T/limited
	{
		echo '#!/bin/sh'
		case $1 in
		-u)	echo "(ulimit -u $2) 2>/dev/null && ulimit -u $2 ||" \
			    "ulimit -p $2" ;;
		*)	echo "ulimit $1 $2" ;;
		esac
		echo "exec '$REAL' \"\$@\""
	} >"$KFCGI"
	chmod 755 "$KFCGI"
}

unlimited() {
	KFCGI=$REAL
}

# told pattern: in a line or two
told() {
	_told=$(grep -c "$1" "$LOG")
	ok "told in a line or two: $1" test "$_told" -ge 1 -a "$_told" -le 2
}

# procuser: a user who has no process, since those are counted.
WHO=
for u in games backup news uucp lp list irc operator _portmap _identd _bgpd; do
	id "$u" >/dev/null 2>&1 && [ -z "$(commands_of "$u")" ] && WHO=$u && break
done
[ -n "$WHO" ] || skip_all "no user without a process"

# --- Too few to start at all: that is fatal, and said.  A worker of a fixed pool
# needs a descriptor only until it has been executed, so there must not be
# enough for those that are started in one turn.
for limit in '-n 16:Too many open files' \
    '-u 6:Resource temporarily unavailable'; do
	limited ${limit%:*}
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" -n 60 /bin/worker \
	    </dev/null >"$T/out" 2>"$T/err"
	is "$? $(cat "$T/err")" "1 kfcgi: cannot start a worker: ${limit#*:}" \
	    "${limit%:*}: too few to start: refused"
	is "$(strays)" "" "${limit%:*}: nobody is left"
done

# --- Growth: 120 requests at once and N = 60, but 40 descriptors, or six
# processes of procuser, the manager among them.  The pool grows to what there is
# room for: what waits does not take it from the workers.
for limit in '-n 40:Too many open files:6' '-u 6:Resource .* with 5:5'; do
	what=${limit%%:*}
	limited $what
	ok "$what: start" start -r -n 2 -N 60 -l 128 -w 1 /bin/worker -A 200
	waitfor 20 rests
	fds=$(nfds "$PID")
	served 120 "$what: 120 requests at once" -c 120 -q slow=100 -t 100000
	limit=${limit#*:}
	ok "$what: it was short of them" logged "${limit%%:*}"
	n=$(grep -c '^kfcgi: worker [0-9]* started' "$LOG")
	ok "$what: $n workers" test "$n" -ge "${limit#*:}"
	told 'cannot start a worker'
	ok "$what: shrinks to n" waitfor 30 has_workers 2
	ok "$what: no descriptor is left behind" waitfor 20 eval '
	    [ "$(nfds "$PID")" -eq "$fds" ]'
	served 100 "$what: and serves" -c 2
	quit
	is "$?" 0 "$what: status"
done

# --- The system has no descriptor for a connection, three times.
if have strace; then
	start -r -n 2 -N 4 /bin/worker
	strace_on -qq -o "$T/injected" -e trace=accept4 \
	    -e inject=accept4:error=ENFILE:when=1..3
	served 40 "no connection can be accepted: they wait" -c 8 -t 60000
	strace_off
	told 'cannot accept connections for now: Too many open files in system'
	quit
else
	skip "no strace(1)" "no connection can be accepted"
fi

# --- A reload for which there are not enough: an old one goes for each new one.
# Workers of a fixed pool are short of processes only.
for limit in '-n 22:-r -n 6 -N 6:Too many open files' '-u 6:-n 4:Resource .*'
do
	what=${limit%%:*}
	limited $what
	options=${limit#*:}
	options=${options%:*}
	n=${options##* }
	ok "$what: start" start $options /bin/worker -g
	w=$(workers)
	kill -HUP "$PID"
	served 800 "$what: a reload" -c 4 -q slow=10 -t 60000
	ok "$what: the shortage is told" waitfor 20 logged \
	    "cannot start a worker: ${limit##*:}, serving with [0-9]+\$"
	ok "$what: and then the reload" waitfor 30 logged "reloaded: $n new"
	ok "$what: all are new" waitfor 20 new_pool $n $w
	served 60 "$what: and serve" -c 4
	is "$(grep -c 'cannot start a worker' "$LOG")" 1 "$what: one line"
	quit
done

unlimited

# --- Descriptors in flight: on Linux as many as one process may have open, for
# all of a user's processes together.  Another pool of that user has fifty under
# way to workers that do not read.
in_flight() {
	run other -v -r -n 50 -N 50 -l 128 /bin/worker
	up other
	waitfor 20 has_workers 50	# and not who waited for the start
	others=$(workers)
	also_kill $others
	limited -n 40
	run few -r -n 3 -N 6 /bin/worker
	up few
	freeze $others
	"$REGRESS/client" -s "$T/other.s" -o -n 50 -c 50 -t 100000 \
	    >"$T/otherload" &
	otherload=$!
	use other
	ok "fifty descriptors under way" waitfor 20 logged 'has connection' 50
	use few
	client -o -n 30 -c 10 -t 100000 >"$T/load" &
	load=$!
	ok "hand-out is impossible" waitfor 20 logged \
	    'cannot hand out connections for now: Too many references'
	kill -CONT $others
	wait $load
	is "$(cat "$T/load")" "$(all 30)" "all answered when there is room again"
	told 'cannot hand out'
	wait $otherload
	is "$(cat "$T/otherload")" "$(all 50)" "the other pool's, too"
	served 20 "n again"
	ok "n again" test "$(nworkers)" -ge 3
	ends few
	unlimited
	ends other
	SOCK=$T/sock LOG=$T/log
}

if [ "$(uname -s)" = Linux ]; then
	in_flight
else
	skip "only Linux counts them for each user" "descriptors in flight"
fi

done_testing
