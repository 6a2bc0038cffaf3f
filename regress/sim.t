#!/bin/sh
# Order and time: a fixed set of lives in the simulator, see sim.c.  A life that
# breaks is told with the command that repeats it.
. ./lib.sh

ok "600 lives" eval 'FIRST=1 LIVES=600 "$REGRESS/sim" >"$T/lives"'
diag "$(cat "$T/lives")"
ok "one life, told" eval 'SEED=213 "$REGRESS/sim" >"$T/life"'
is "$(SEED=213 "$REGRESS/sim" | cksum)" "$(cksum <"$T/life")" \
    "the same seed, the same life"
done_testing
