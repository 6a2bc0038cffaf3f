#!/bin/sh
# README and manual say what the program does: taken out of the text, checked.
. ./lib.sh

README=$REGRESS/../README.md
MAN=$REGRESS/../kfcgi.8
SRC=$REGRESS/../kfcgi.c

# The worker of the README, by the README's own command, in both pools.
(cd "$REGRESS/.." && eval "$(sed -n \
    's,^    \(sed -n .*README.md.*\) >hello.c$,\1,p' README.md)") >"$T/hello.c"
ok "the README's worker compiles without a warning" \
    $CC -static -Wall -Wextra -Werror -o "$JAIL/hello" "$T/hello.c"
for r in "" -r; do
	start $r -n 2 /hello
	like "$(fetch '')" '^Hello from worker [0-9]+$' \
	    "${r:-fixed}: the README's worker answers"
	is "$(client -n 1000 -c 8 | head -n 1)" \
	    "answered 1000 refused 0 reset 0 cut 0 timeout 0 bad 0" \
	    "${r:-fixed}: 1,000 requests"
	is "$(client -m POST -b 1000000 -n 4 | head -n 1)" \
	    "answered 4 refused 0 reset 0 cut 0 timeout 0 bad 0" \
	    "${r:-fixed}: also with a body"
	stop
done

# The manual as text, without overstrikes.
plain() {
	mandoc -T ascii "$MAN" | sed "s/.$(printf '\b')//g"
}

# Synopsis: of the manual, of usage(), of the comment in the design.
usage=$("$KFCGI" 2>&1 | sed 's/.*usage: //')
synopsis=$(plain |
    sed -n '/^SYNOPSIS/,/^DESC/p' | sed '1d;$d' | tr -s ' \t\n' ' ')
is "$(echo $synopsis)" "$(echo $usage)" "the synopsis is usage()'s"

# Defaults and limits.
page=$(plain | tr -s ' \t\n' ' ')
const() {
	sed -n "s/^#define $1[[:space:]][[:space:]]*\"*\([^\"[:space:]]*\)\"*.*/\1/p" "$SRC"
}
for pair in \
    "SOCKPATH:The default is %s" \
    "JAIL:The default is %s" \
    "WORKERS:The default is %s" \
    "WAITTIME:The default is %s" \
    "WORKERS_MAX:From 1 to %s" \
    "LINE_SIZE:split after %s bytes" \
    "LINES_MAX:More than %s lines in a second"; do
	value=$(const "${pair%%:*}")
	# shellcheck disable=SC2059
	text=$(printf "${pair#*:}" "$value")
	ok "the manual knows ${pair%%:*}" \
	    test -n "$value" -a -z "${page##*"$text"*}"
done
is "$(const EPISODE)" "(2" "an episode is as long as two of the longest delays"
like "$page" "Logged once until there have been 20 seconds without" \
    "and that is what the manual says"
for pair in "LEAVE_GRACE:%s seconds after its SIGTERM" \
    "LEAVE_GRACE:%s seconds after the signal" \
    "FAIL_GRACE:killed after %s seconds" "BRAKE_MAX:%s seconds at most"; do
	text=$(printf "${pair#*:}" $(($(const "${pair%%:*}") / 1000)))
	ok "the manual knows ${pair%%:*}: $text" test -z "${page##*"$text"*}"
done

# The tests that the README's table names are there.
for t in $(sed -n 's/^|.*|\(.*\)|$/\1/p' "$README" | tr ', ' '\n\n' |
    grep '\.t$' | sort -u); do
	ok "the README's $t exists" test -f "$REGRESS/$t"
done

done_testing
