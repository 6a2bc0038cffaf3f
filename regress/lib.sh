# Shared by the tests, which source it.  Needs a POSIX shell, run by root, and
# what OpenBSD's base system has; what only another system has is asked for by
# have, and skipped where it is missing.
#
# A test prints TAP: ok, is, like and fails count; done_testing ends it.
# Everything lives below $T, which goes away at the end with all that was
# started: kfcgi by $PID, others by what was given to also_kill.

set -u
umask 022
cd "$(dirname "$0")" || exit 1
REGRESS=$PWD
: "${KFCGI:=$REGRESS/../kfcgi}"
: "${CC:=cc}"
export KFCGI CC

T=$(mktemp -d "${TMPDIR:-/tmp}/kfcgi.XXXXXXXX") || exit 1
chmod 755 "$T"
JAIL=$T/jail		# holds /bin/worker and nothing else
SOCK=$T/sock
LOG=$T/log		# what kfcgi -d says
WHO=nobody		# procuser
PID=			# the manager
KILL=
BESIDE=			# other test files that run, who clean up themselves
NTESTS=0
NFAILED=0
mkdir -p "$JAIL/bin"
cp "$REGRESS/worker" "$JAIL/bin/worker"

# No test lives longer than this many seconds.
TEST_ALARM=${TEST_ALARM:-900}
(
	# prove(1) waits for the end of whoever has its pipe.
	exec </dev/null >/dev/null
	trap 'kill $s; exit' TERM
	sleep "$TEST_ALARM" & s=$!
	wait $s
	echo "$0: still running after $TEST_ALARM s" >&2
	kill -TERM $$
) &
ALARM=$!

cleanup() {
	trap '' EXIT INT TERM HUP
	kill $ALARM 2>/dev/null
	[ -n "$PID" ] && end_manager
	leave
	# shellcheck disable=SC2086
	[ -z "$BESIDE" ] || {
		kill -TERM $BESIDE
		wait $BESIDE
	} 2>/dev/null
	for p in $KILL; do
		kill -KILL "$p" 2>/dev/null
	done
	rm -rf "$T"
}
trap 'cleanup' EXIT
trap 'cleanup; exit 1' INT TERM HUP

also_kill() {
	KILL="$KILL $*"
}

# leave: all that kfcgi has said so far, in files below $T or in what was looked
# at last, perhaps after a status, is left for messages.t in the directory
# $KFCGI_LEFT, if that is set: of lines that differ in numbers only the first.
GOT=
leave() {
	[ -n "${KFCGI_LEFT:-}" ] || return 0
	_l=$KFCGI_LEFT/${0##*/}
	{
		[ ! -e "$_l" ] || cat "$_l"
		find "$T" -maxdepth 1 -type f -exec cat {} +
		cat <<EOF
${GOT#[0-9] }
EOF
	} | grep -a -e '^kfcgi: ' -e '^<[0-9]*>.\{15\} kfcgi\[' |
	    awk '{ k = $0; gsub(/[0-9]+/, "0", k) } !seen[k]++' >"$_l.new"
	mv "$_l.new" "$_l"
}

# --- TAP

# By a here-document: printf(1) is no part of every shell, and an argument may
# be too long for execve(2).
diag() {
	sed 's/^/# /' <<EOF
$*
EOF
}

# matches text extended-regex
matches() {
	grep -Eq -- "$2" <<EOF
$1
EOF
}

# result status description
result() {
	leave
	NTESTS=$((NTESTS + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $NTESTS - $2"
	else
		NFAILED=$((NFAILED + 1))
		echo "not ok $NTESTS - $2"
	fi
	return "$1"
}

# ok description command...: the command succeeds
ok() {
	_d=$1
	shift
	"$@"
	result $? "$_d"
}

# fails description command...: the command fails
fails() {
	_d=$1
	shift
	if "$@"; then
		result 1 "$_d"
	else
		result 0 "$_d"
	fi
}

# is got expected description
is() {
	GOT=$1
	if [ "$1" = "$2" ]; then
		result 0 "$3"
	else
		result 1 "$3"
		diag "got '$1', expected '$2'"
		return 1
	fi
}

# like text extended-regex description
like() {
	GOT=$1
	if matches "$1" "$2"; then
		result 0 "$3"
	else
		result 1 "$3"
		diag "got '$1', expected to match '$2'"
		return 1
	fi
}

unlike() {
	if matches "$1" "$2"; then
		result 1 "$3"
		diag "got '$1', expected not to match '$2'"
		return 1
	fi
	result 0 "$3"
}

# have command: this system has it
have() {
	[ "$1" != strace ] || [ -z "${NOSTRACE:-}" ] || return 1
	command -v "$1" >/dev/null 2>&1
}

# may_skip reason: in CI nothing may be skipped but what the file $SKIPS lists,
# a line for each test file and reason: "file: reason"
may_skip() {
	[ -z "${CI:-}" ] && [ -z "${SKIPS:-}" ] && return
	[ -n "${SKIPS:-}" ] && grep -Fqx -- "${0##*/}: $1" "$SKIPS"
}

# skip reason description...: assertions that this system cannot make
skip() {
	_d=$1
	shift
	for _s in "$@"; do
		if may_skip "$_d"; then
			NTESTS=$((NTESTS + 1))
			echo "ok $NTESTS - $_s # SKIP $_d"
		else
			result 1 "$_s: must not be skipped here: $_d"
		fi
	done
}

# A test file that this system cannot run.
skip_all() {
	if ! may_skip "$*"; then
		echo "1..1"
		echo "not ok 1 - must not be skipped here: $*"
		exit 1
	fi
	echo "1..0 # SKIP $*"
	exit 0
}

done_testing() {
	if [ "$NFAILED" -gt 0 ] && [ -s "$LOG" ]; then
		diag "the end of kfcgi's log:"
		diag "$(tail -n 40 "$LOG")"
	fi
	echo "1..$NTESTS"
	[ "$NFAILED" -eq 0 ]
	exit $?
}

# --- processes: all that a test knows about them, one way for each system
#
# By ps(1) with what POSIX and OpenBSD both have: one -o for each keyword, and
# ww, without which BSD's cuts a line to the terminal's width.  What ps(1) does
# not tell comes from /proc, or from fstat(1) where there is none or $NOPROC is
# set.

# processes keyword...: a line for each process there is
processes() {
	_o=
	for _k in "$@"; do
		_o="$_o -o $_k="
	done
	# shellcheck disable=SC2086
	ps -axww $_o
}

# ps_of pid keyword...: a line for this one, if it exists
ps_of() {
	_o="-p $1"
	shift
	for _k in "$@"; do
		_o="$_o -o $_k="
	done
	# shellcheck disable=SC2086
	ps -ww $_o 2>/dev/null | sed 's/^ *//; s/ *$//'
}

# children pid: those that live
children() {
	processes pid ppid stat |
	    awk -v p="$1" '$2 == p && $3 !~ /^Z/ { print $1 }'
}

# commands_of user: the command lines of that user's processes
commands_of() {
	processes uid args | awk -v u="$(id -u "$1" 2>/dev/null || echo "$1")" '
	    $1 == u { sub(/^ *[0-9]+ /, ""); print }'
}

has_proc() {
	[ -z "${NOPROC:-}" ] && [ -d /proc/self/fd ]
}

# fds pid: the numbers of its descriptors, in order
fds() {
	if has_proc; then
		ls "/proc/$1/fd"
	else
		fstat -p "$1" | awk 'NR > 1 {
			sub(/[*]/, "", $4)
			if ($4 ~ /^[0-9]+$/)
				print $4
		    }'
	fi | sort -n
}

nfds() {
	fds "$1" | grep -c .
}

# nsockets pid: how many of its descriptors are sockets
nsockets() {
	if has_proc; then
		ls -l "/proc/$1/fd" | grep -c ' socket:'
	else
		fstat -p "$1" | grep -Ec '[0-9][*] (unix|local) '
	fi
}

# is_open pid what file: that is what it has, a descriptor's number, wd or root
is_open() {
	if has_proc; then
		case $2 in
		wd)	_k=cwd ;;
		root)	_k=root ;;
		*)	_k=fd/$2 ;;
		esac
		[ "/proc/$1/$_k" -ef "$3" ]
	else
		fstat -p "$1" "$3" | awk -v k="$2" '
		    NR > 1 && $4 == k { n++ } END { exit !n }'
	fi
}

# strays: processes of this test's jail, whoever their parent is
strays() {
	if has_proc; then
		ls -ld /proc/[0-9]*/root 2>/dev/null | awk -v j="$JAIL" '
		    $NF == j { split($(NF - 2), p, "/"); print p[3] }'
	else
		fstat "$JAIL" | awk 'NR > 1 && $4 == "root" { print $3 }'
	fi
}

# --- waiting: for conditions, never for time to pass

# waitfor seconds command...: until it succeeds
waitfor() {
	_n=$(($1 * 20))
	shift
	while ! "$@"; do
		[ "$_n" -gt 0 ] || return 1
		_n=$((_n - 1))
		sleep 0.05
	done
}

# tries n command...: until it succeeds, so often at most: where the machine may
# have been too slow for what is to be shown
tries() {
	_t=$1
	shift
	while ! "$@"; do
		_t=$((_t - 1))
		[ "$_t" -gt 0 ] || return 1
		diag "once more: $*"
	done
}

# A child of process 1 may stay a zombie: look at the state, too.
alive() {
	case $(ps_of "$1" stat) in
	''|Z*|*X*)
		return 1
		;;
	esac
}

dead() {
	! alive "$1"
}

# has_state pid letter: as ps(1) has it
has_state() {
	case $(ps_of "$1" stat) in
	"$2"*)	return 0 ;;
	esac
	return 1
}

# freeze pid...: until SIGCONT; a signal takes its time to arrive
freeze() {
	kill -STOP "$@"
	waitfor 10 all_frozen "$@"
}

all_frozen() {
	for _p in "$@"; do
		# Or t, if it is traced.
		has_state "$_p" T || has_state "$_p" t || return 1
	done
}

all_dead() {
	for _p in "$@"; do
		alive "$_p" && return 1
	done
	return 0
}

# logged pattern [count]: kfcgi -d has said it (so often, or more)
logged() {
	[ "$(grep -Ec -- "$1" "$LOG" 2>/dev/null)" -ge "${2:-1}" ]
}

# --- kfcgi

# start options... prog...: in the foreground as a job, its log in $LOG
start() {
	: >"$LOG"
	"$KFCGI" -d -v -p "$JAIL" -s "$SOCK" -U "$WHO" "$@" \
	    </dev/null >>"$LOG" 2>&1 &
	PID=$!
	if ! waitfor 20 started_or_dead || dead $PID; then
		diag "kfcgi $* did not start:"
		diag "$(cat "$LOG")"
		return 1
	fi
}

started_or_dead() {
	dead "$PID" || logged '^kfcgi: started:'
}

# start_daemon options... prog...: the usual way; the shell's status
start_daemon() {
	"$KFCGI" -p "$JAIL" -s "$SOCK" -U "$WHO" "$@" \
	    </dev/null >"$T/out" 2>"$T/err"
	_rv=$?
	PID=$(manager_pid "$SOCK")
	return $_rv
}

# errors: what a start has said on standard error, into $T/err; but not that
# there is no syslogd, which most tests do not have
errors() {
	sed '/^kfcgi: no syslogd: messages are lost unless -d shows them$/d' \
	    "$T/err"
}

# strace_on options...: strace(1) follows the manager from here on
strace_on() {
	: >"$T/strace"
	strace "$@" -p "$PID" 2>"$T/strace" &
	TRACER=$!
	also_kill $TRACER
	waitfor 20 grep -q 'TracerPid:[[:space:]]*[1-9]' "/proc/$PID/status"
}

strace_off() {
	kill -INT $TRACER 2>/dev/null
	wait $TRACER 2>/dev/null
}

# The manager that serves a socket, by its command line, as rc.d finds it.
# noreset has a script for $KFCGI, which says what it executes.
manager_pid() {
	processes pid stat args |
	    awk -v s="-s $1 " -v k="${KFCGI_REAL:-$KFCGI}" '
	    $3 == k && index($0, s) && $2 !~ /^Z/ { print $1 }' |
	    sort -n | head -n 1
}

# quit [signal...]: the manager ends; returns its status if it is our child.  Not
# named stop, which is an alias in OpenBSD's shell.
quit() {
	for _s in ${*:-TERM}; do
		kill "-$_s" "$PID" 2>/dev/null
	done
	waitfor 30 dead "$PID" || diag "kfcgi $PID does not end"
	wait "$PID" 2>/dev/null
	_rv=$?
	PID=
	return $_rv
}

# quit_now: without waiting for the busy; two signals, since equal ones merge
quit_now() {
	quit TERM INT
}

# run name options... prog...: one of several side by side, as a job.  Its socket,
# log and pid are $T/name.s, .l and .p.
run() {
	_name=$1
	shift
	: >"$T/$_name.l"
	"$KFCGI" -d -p "$JAIL" -s "$T/$_name.s" -U "$WHO" "$@" \
	    </dev/null >>"$T/$_name.l" 2>&1 &
	echo $! >"$T/$_name.p"
	also_kill $!
}

# use name: the functions here are about that one from now on
use() {
	SOCK=$T/$1.s
	LOG=$T/$1.l
	read -r PID <"$T/$1.p"
}

# up name: it has started
up() {
	use "$1"
	ok "$1: starts" waitfor 30 logged '^kfcgi: started:'
}

# ends name: without waiting for the busy
ends() {
	use "$1"
	quit_now
	is "$?" 0 "$1: status"
}

# status: its line, asked for anew
status() {
	_n=$(grep -c '^kfcgi: status:' "$LOG")
	kill -USR1 "$PID"
	waitfor 10 logged '^kfcgi: status:' $((_n + 1))
	grep '^kfcgi: status:' "$LOG" | tail -n 1
}

status_matches() {
	_status=$(status)
	matches "$_status" "$1"
}

# counts pattern description: the status comes to match that
counts() {
	waitfor 10 status_matches "$1"
	like "$_status" "$1" "$2"
}

# For cleanup: whatever state the manager is in, neither it nor a worker stays.
end_manager() {
	_w=$(children "$PID")
	kill -TERM "$PID" 2>/dev/null
	waitfor 3 dead "$PID" || kill -KILL "$PID" 2>/dev/null
	for p in $_w; do
		kill -KILL "$p" 2>/dev/null
	done
	wait "$PID" 2>/dev/null
	PID=
}

workers() {
	children "$PID"
}

nworkers() {
	workers | grep -c .
}

# has_workers n
has_workers() {
	[ "$(nworkers)" -eq "$1" ]
}

# rests: the manager has done what there was to do, also what comes after it has
# told the shell that it has started
rests() {
	has_state "$PID" S || has_state "$PID" I
}

# no_zombies: the manager has reaped all its children
no_zombies() {
	processes pid ppid stat |
	    awk -v p="$PID" '$2 == p && $3 ~ /^Z/ { n++ } END { exit n > 0 }'
}

# in_hand [n]: so many workers have a connection, beside their listener or
# control socket; one of them is $busy
in_hand() {
	_left=${1:-1}
	for _w in $(workers); do
		[ "$(nsockets "$_w")" -eq 2 ] || continue
		busy=$_w
		_left=$((_left - 1))
	done
	[ $_left -eq 0 ]
}

no_strays() {
	[ -z "$(strays)" ]
}

# new_pool n pid...: n workers, none of them of those.  _n is waitfor's.
new_pool() {
	has_workers "$1" || return
	shift
	all_dead "$@"
}

# as_user user command...
as_user() {
	perl -e '($u, $g) = (getpwnam(shift))[2, 3]; $( = $) = "$g $g";
	    $< = $> = $u; exec @ARGV or die' -- "$@"
}

# To be killed, it is started without this function: $! is a shell's here.
client() {
	"$REGRESS/client" -s "$SOCK" "$@"
}

# fetch query: the answer's body
fetch() {
	client -q "$1" 2>&1
}

# all n: what client says if so many requests were answered, and no other
all() {
	echo "answered $1 refused 0 reset 0 cut 0 timeout 0 bad 0"
}

# served n description options...: so many requests, and all are answered
served() {
	_n=$1
	_d=$2
	shift 2
	is "$(client -o -n "$_n" "$@")" "$(all "$_n")" "$_d"
}

# answers file, losses file: of how many requests a client says so there
answers() {
	sed -n 's/^answered \([0-9]*\) .*/\1/p' "$1"
}

losses() {
	awk '/^answered/ { print $4 + $6 + $8 + $10 + $12 }' "$1"
}
