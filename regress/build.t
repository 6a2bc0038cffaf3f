#!/bin/sh
# Builds without a warning and serves: compilers, C libraries, word sizes, what
# others get of compat/, each make, other processors by qemu-user(1).
TEST_ALARM=${TEST_ALARM:-1800}
. ./lib.sh

# What the make that runs this was told is not for those that are run here.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES CFLAGS CPPFLAGS LDFLAGS LDLIBS \
    WARNFLAGS PREFIX DESTDIR TESTS
OURS=$KFCGI

# The sources, and nothing that was built.
mkdir "$T/src" "$T/v" || exit 1
(cd .. && cp -Rp Makefile LICENSE README.md kfcgi.c kfcgi.8 compat regress \
    "$T/src") || exit 1
rm -f $(LC_ALL=C grep -l "$(printf '^\177ELF')" "$T/src/regress"/*)

# has command what: or what is skipped
has() {
	have "$1" && return
	skip "needs $1" "$2"
	return 1
}

# builds directory make argument...: without a warning of compiler or linker
builds() {
	_dir=$1
	shift
	(cd "$_dir" && "$@") >"$T/make.out" 2>&1 &&
	    ! grep -i 'warning' "$T/make.out" >/dev/null && return 0
	diag "$* in $_dir:"
	diag "$(tail -n 20 "$T/make.out")"
	return 1
}

# serves name kfcgi: it answers, in both pools
serves() {
	KFCGI=$2
	for r in "" -r; do
		rm -f "$SOCK"
		start $r -n 2 /bin/worker
		like "$(fetch '')" '^pid' "$1: it serves${r:+, $r}"
		quit
		is "$?" 0 "$1: and stops"
	done
	KFCGI=$OURS
}

# fresh directory: a copy of the sources
fresh() {
	rm -rf "$1"
	cp -Rp "$T/src" "$1"
}

# tree cc flags [ldflags [name [target...]]]: what others get, built in $TREE
TREE=$T/v/tree
tree() {
	_what=${4:-"${1%% -idir*}, $2${3:+ $3}"}
	_flags="-O2 -g -Werror $2" _cc=$1 _ld=${3:-}
	shift $(($# < 4 ? $# : 4))
	fresh "$TREE"
	ok "$_what: builds" builds "$TREE" make CC="$_cc" CFLAGS="$_flags" \
	    LDFLAGS="$_ld" all "$@" &&
	    ok "$_what: so does the test of compat/" builds "$TREE/regress" \
	    make CC="$_cc" CFLAGS="$_flags -Wall -Wextra" LDFLAGS="$_ld" \
	    compat-test
}

# runs: $TREE serves, as $BUILT, and its compat-test passes; by $by, if that is a
# qemu.  Perl can give the manager the name by which the tests know it.
runs() {
	BUILT=$TREE/kfcgi
	if [ -n "$by" ]; then
		BUILT=$T/v/kfcgi
		printf '%s\n' '#!/usr/bin/perl' "exec { '${by%% *}' } \$0, \
		    qw(${by#* }), '-0', \$0, '$TREE/kfcgi', @ARGV;" >"$BUILT"
		chmod 755 "$BUILT"
	fi
	serves "$_what" "$BUILT"
	$by "$TREE/regress/compat-test" >"$T/out" 2>&1
	ok "$_what: its compat/" passed "$T/out" || diag "$(cat "$T/out")"
}

# suite name...: those tests, with workers and client of this system.  Twice if
# need be: qemu-user(1) is slow, and dies now and then on a loaded machine.
suite() {
	for _t; do
		ok "$_what: $_t.t" tries 2 passes "$_t" ||
		    diag "$(cat "$T/out")"
	done
}

passes() {
	KFCGI=$BUILT sh "$REGRESS/$1.t" >"$T/out" 2>&1
	passed "$T/out"
}

# passed output: a plan, as many results, none that is bad
passed() {
	grep -q '^1\.\.0 # SKIP OpenBSD needs nothing of compat$' "$1" && return
	_plan=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$1")
	[ -n "$_plan" ] && [ "$_plan" -gt 0 ] &&
	    [ "$(grep -Ec '^(not )?ok ' "$1")" -eq "$_plan" ] &&
	    ! grep -q '^not ok' "$1"
}

# A program with the headers that kfcgi uses: that a compiler is there says
# nothing about its headers and libraries, or about the kernel.
{
	grep -E '^#(if|else|elif|endif|include)' ../kfcgi.c
	echo 'int main(void) { return 0; }'
} >"$T/v/nothing.c"

# makes command...: it makes that program, which then runs, by $by
by=
makes() {
	{ "$@" "-I$T/src" -o "$T/v/nothing" "$T/v/nothing.c" &&
	    $by "$T/v/nothing"; } >/dev/null 2>&1
}

# Where <asm/*.h> is; gcc-multilib does not go with the cross compilers.
m32="-m32 -idirafter /usr/include/$(gcc -print-multiarch 2>/dev/null)"
compilers="gcc clang"
[ "$(uname -s)" = Linux ] && compilers="$compilers musl-gcc"
[ "$(uname -sm)" = "Linux x86_64" ] &&
    compilers="$compilers gcc-m32 clang-m32"

# wide command...: file offsets and times that compat.h makes wide enough
wide() {
	cat >"$T/v/wide.c" <<-'END'
	#include "compat/compat.h"
	int	 wide[sizeof(off_t) == 8 && sizeof(time_t) == 8 ? 1 : -1];
	END
	"$@" "-I$T/src" -c -o "$T/v/wide.o" "$T/v/wide.c"
}

for cc in $compilers; do
	# The whole suite is for gcc's, and sanitize has it for clang's.
	command=$cc ld= by= tests="fixed variable start"
	case $cc in
	musl-gcc)	ld=-static ;;
	gcc-m32)	command="gcc $m32" ;;
	clang-m32)	command="clang $m32" tests= ;;
	*)		tests= ;;
	esac
	# Not every kernel runs what -m32 makes.
	makes $command $ld || by="qemu-i386-static -L /"
	if [ -n "$by" ] && ! makes $command $ld; then
		skip "no $cc whose programs run here" "$cc"
		continue
	fi
	ok "$cc: offsets and times have 64 bits" wide $command
	tree "$command" -std=c11 $ld
	tree "$command" -std=c99 $ld || continue
	runs
	suite $tests
done
by=

# Headers as other systems have them: with what is theirs, each where it is
# theirs.  No file is given one that it does not include itself.
BSD=$T/v/bsd
mkdir -p "$BSD/sys" "$BSD/machine"
cp ../compat/queue.h "$BSD/sys/queue.h"
echo '#define __dead __attribute__((__noreturn__))' >>"$BSD/sys/queue.h"
# gcc's <stddef.h> asks for these two on FreeBSD and NetBSD.
: >"$BSD/sys/_types.h"
for d in SIZE PTRDIFF WCHAR; do
	echo "#define _BSD_${d}_T_"
done >"$BSD/machine/ansi.h"

# adds header: from standard input what it has beside this system's
adds() {
	{
		echo "#pragma once"
		echo "#include_next <$1>"
		cat
	} >"$BSD/$1"
}
adds signal.h <<'END'
#define SIGINFO SIGUSR2
END
adds stdlib.h <<'END'
#define strtonum compat_strtonum
long long strtonum(const char *, long long, long long, const char **);
END
adds string.h <<'END'
#define strlcpy compat_strlcpy
size_t strlcpy(char *, const char *, size_t);
END
adds syslog.h <<'END'
#define openlog compat_openlog
#define syslog compat_syslog
void openlog(const char *, int, int);
void syslog(int, const char *, ...);
END
adds unistd.h <<'END'
#define pledge compat_pledge
int pledge(const char *, const char *);
END

# as system macro calls [libc]: what the system gets that has this macro,
# with helpers, and these calls
as() {
	_os="as on $1" _calls=$3
	tree gcc "-std=c99 -U_FORTIFY_SOURCE -D_GNU_SOURCE -U__linux__ -D$2 \
	    -I$BSD" "${4:-}" "$_os" all helpers || return
	runs
	is "$(nm -u "$BUILT" | sed 's/.* //; s/@.*//' |
	    grep -Ex 'accept4|closefrom|ppoll|prctl|setres[gu]id|syslog' |
	    tr '\n' ' ')" "$_calls" "$_os: what is not from compat/"
	suite fixed variable
}

if [ "$(uname -s)" = Linux ] && has gcc "as on other systems"; then
	as FreeBSD __FreeBSD__ "accept4 closefrom setresgid setresuid "
	as NetBSD __NetBSD__ "accept4 closefrom "
	# There compat.c is empty; what it would have is from elsewhere.
	gcc -c -o "$T/v/libc.o" ../compat/compat.c
	as OpenBSD __OpenBSD__ "accept4 closefrom setresgid setresuid " \
	    "$T/v/libc.o"
	as macOS __APPLE__ ""
	KFCGI=$BUILT
	ok "$_what: start" start -n 1 /bin/worker
	kill -USR2 "$PID"	# which SIGINFO was made to be
	ok "$_what: SIGINFO logs the state" waitfor 10 logged '^kfcgi: status: '
	quit
	is "$?" 0 "$_what: and stop"
	KFCGI=$OURS
fi

# Other levels see other things.
for cc in gcc clang; do
	for opt in -O0 "-O3 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"; do
		! makes $cc || tree $cc "$opt" "" "" helpers
	done
done

files() {
	(cd "$1" && find . -type f | sort)
}

for make in make bmake; do
	has $make $make || continue
	fresh "$T/v/inst"
	rm -rf "$T/dest" "$T/v/dist"
	# First without DESTDIR, where the headers are not: bmake looks there.
	ok "$make" builds "$T/v/inst" $make
	set -- $make DESTDIR="$T/dest" PREFIX=/opt/k
	ok "$make install" builds "$T/v/inst" "$@" install
	is "$(find "$T/dest" -type f -exec ls -l {} + |
	    awk '{ print $1, $NF }' | sort)" \
	    "-rw-r--r-- $T/dest/opt/k/man/man8/kfcgi.8
-rwxr-xr-x $T/dest/opt/k/sbin/kfcgi" "$make install: these files and modes"
	chmod 2775 "$T/dest/opt/k/sbin" "$T/dest/opt/k/man/man8"
	builds "$T/v/inst" "$@" install
	is "$(ls -ld "$T/dest/opt/k/sbin" "$T/dest/opt/k/man/man8" |
	    cut -c 1-10 | sort -u)" drwxrwsr-x \
	    "$make install: directories that exist stay as they are"
	serves "$make install" "$T/dest/opt/k/sbin/kfcgi"
	ok "$make uninstall" builds "$T/v/inst" "$@" install uninstall
	is "$(files "$T/dest")" "" "$make uninstall: no file is left"

	# From a tree where all has been built.
	ok "$make helpers, dist" builds "$T/v/inst" $make helpers dist
	mkdir "$T/v/dist"
	tar -xzf "$T/v/inst"/kfcgi-*.tar.gz -C "$T/v/dist"
	dist=$(echo "$T/v/dist"/kfcgi-*)
	is "$(files "$dist")" "$(files "$T/src")" \
	    "$make dist: all of the sources and nothing else"
	ok "$make dist: builds" builds "$dist" $make CFLAGS="-O2 -Werror"
	ok "$make clean" builds "$T/v/inst" $make clean
	is "$(files "$T/v/inst")" "$(files "$T/src")" \
	    "$make clean: as if nothing had been built"
done

# cross arch test...: built for another processor
cross() {
	_arch=$1 _root=$T/root.$1
	shift
	# Its root is the sysroot; from there kfcgi must find what is in ours.
	# By relative links, since qemu takes its root for that of absolute ones.
	mkdir -p "$_root"
	_up=$(echo "$_root" | sed 's,/[^/]*,../,g')
	for _t in /* /usr/"$_arch"-linux-gnu/lib; do
		ln -sfn "$_up${_t#/}" "$_root/${_t##*/}"
	done
	by="qemu-$_arch-static -L $_root"
	if ! makes "$_arch-linux-gnu-gcc"; then
		skip "no compiler and qemu-user for $_arch" "$_arch"
		return
	fi
	tree "$_arch-linux-gnu-gcc" -std=c99 || return
	runs
	suite "$@"
}

# Not those that strace(1) kfcgi, since that sees qemu's own calls.
if [ "$(uname -s)" = Linux ]; then
	cross aarch64 fixed variable
	cross s390x fixed variable	# the bytes the other way round
fi

done_testing
