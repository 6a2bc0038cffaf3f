#!/bin/sh
# Workers that cannot all live, as where the database allows four connections:
# the requests wait for those four.  Also run by noreset.
. ./lib.sh

mkdir "$JAIL/slots"
chmod 777 "$JAIL/slots"
cat >"$T/few.c" <<'END'
#include <sys/file.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int
main(void)
{
	static char	*argv[] = { "/bin/worker", "-A", "200", NULL };
	const char	*words = "too many connections\n";
	char		 path[] = "/slots/0";
	int		 fd;

	for (; path[7] < '4'; path[7]++) {
		fd = open(path, O_RDWR | O_CREAT, 0666);
		if (fd == -1)
			return 2;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			execv(argv[0], argv);
			return 2;
		}
		close(fd);
	}
	(void)write(2, words, strlen(words));
	return 1;
}
END
$CC -w -static -o "$JAIL/bin/few" "$T/few.c" || exit 1

ok "four may live: start" start -r -n 2 -N 10 -l 64 /bin/few
client -d 14 -c 10 -q slow=20 -t 30000 >"$T/load" 2>&1
diag "$(cat "$T/load")"
answered=$(sed -n 's/^answered \([0-9]*\) .*/\1/p' "$T/load")
lost=$(sed -n 's/^answered [0-9]* refused \([0-9]*\) reset \([0-9]*\) cut \([0-9]*\) .*/\1 \2 \3/p' \
    "$T/load" | awk '{ print $1 + $2 + $3 }')
ok "four may live: four times as many requests as one could answer" \
    test "$answered" -gt 1400
if [ -n "${NORESET:-}" ]; then
	# Who dies may have read its connection.
	ok "four may live: few are lost" test "$lost" -le $((answered / 20))
else
	is "$lost" 0 "four may live: none is lost"
fi
ok "four may live: it is known that no more can be started" \
    logged 'no new workers for now: .* exited with status 1'
client -n 200 -c 10 -q slow=20 -t 30000 >"$T/load" 2>&1
is "$(head -n 1 "$T/load")" \
    "answered 200 refused 0 reset 0 cut 0 timeout 0 bad 0" \
    "then all requests wait for the four"
ok "four live" has_workers 4
quit_now
is "$?" 0 "status"

done_testing
