#!/bin/sh
# Builds without a warning: compilers, C libraries, word sizes, makes and
# standards; each result must serve.  Then install, uninstall, dist; then other
# processors, where qemu-user(1) can run what was built for them.
TEST_ALARM=${TEST_ALARM:-1800}
. ./lib.sh

# What the make that runs this was told is not for those that are run here.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES CFLAGS CPPFLAGS LDFLAGS LDLIBS \
    WARNFLAGS PREFIX DESTDIR TESTS
OURS=$KFCGI

# The sources, and nothing that was built.
mkdir "$T/src" "$T/src/compat" "$T/src/regress" || exit 1
(
	cd .. || exit 1
	cp Makefile LICENSE README.md kfcgi.c kfcgi.8 "$T/src"
	cp compat/*.[ch] "$T/src/compat"
	cd regress || exit 1
	for f in *; do
		[ -f "$f" ] || continue
		case $(dd if="$f" bs=4 count=1 2>/dev/null | tr -d '\177') in
		ELF)
			;;
		*)
			cp -p "$f" "$T/src/regress"
			;;
		esac
	done
)

# has command what: if not, what is skipped; in CI it must not be
has() {
	command -v "${1%% *}" >/dev/null && return 0
	skip "$2" "needs $1"
	return 1
}

skip() {
	if [ -n "${CI:-}" ]; then
		result 1 "$1: must not be skipped in CI: $2"
	else
		NTESTS=$((NTESTS + 1))
		echo "ok $NTESTS - $1 # SKIP $2"
	fi
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

# tree make cc flags [ldflags]: what others get, built in $TREE
TREE=$T/v/tree
tree() {
	_what="$1, ${2%% -idir*}, $3${4:+ $4}"
	rm -rf "$TREE"
	mkdir -p "$T/v" && cp -R "$T/src" "$TREE" || exit 1
	ok "$_what: builds" builds "$TREE" "$1" CC="$2" \
	    CFLAGS="-O2 -g -Werror $3" LDFLAGS="${4:-}" all regress/compat-test
}

# runs [qemu sysroot]: what is in $TREE, if need be by qemu-user(1).  Perl can
# give the manager the name by which the tests know it.  $BUILT is what to start.
runs() {
	BUILT=$TREE/kfcgi
	if [ $# -gt 0 ]; then
		BUILT=$T/v/kfcgi
		cat >"$BUILT" <<-END
			#!/usr/bin/perl
			exec { '$1' } \$0, '-L', '$2', '-0', \$0,
			    '$TREE/kfcgi', @ARGV;
		END
		chmod 755 "$BUILT"
	fi
	serves "$_what" "$BUILT"
	${1:-} ${1:+-L "$2"} "$TREE/regress/compat-test" >"$T/compat.out" 2>&1
	ok "$_what: its compat/ passes" passed "$T/compat.out"
}

# suite name...: those tests, with workers and client of this system.  Twice if
# need be: qemu-user(1) is slow, and dies now and then on a loaded machine.
suite() {
	for _t; do
		ok "$_what: $_t.t" tries 2 suite_of "$_t" ||
		    diag "$(cat "$T/$_t.out")"
	done
}

suite_of() {
	KFCGI=$BUILT sh "$REGRESS/$1.t" >"$T/$1.out" 2>&1
	passed "$T/$1.out"
}

# passed output: a plan, as many results, none that is bad; but beyond
# qemu-user(1) are the last test of args.t, of the whole command line, and those
# of compat-test with descriptors above FD_SETSIZE.  Without it they are done, too.
passed() {
	_plan=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$1")
	[ -n "$_plan" ] && [ "$_plan" -gt 0 ] &&
	    [ "$(grep -Ec '^(not )?ok ' "$1")" -eq "$_plan" ] &&
	    ! grep '^not ok' "$1" | grep -v -e 'by its exact command line$' \
	    -e 'ppoll: higher than an fd_set goes$' \
	    -e 'ppoll: no memory for so high a one$' >/dev/null
}

# multiarch: where gcc -m32 finds <asm/*.h>, which x86 has but once.  That is
# what gcc-multilib is for, but it does not go with the cross compilers.
multiarch=$(gcc -print-multiarch 2>/dev/null)
m32="-m32 -idirafter /usr/include/$multiarch"
compilers="gcc clang"
if [ "$(uname -s)" = Linux ]; then
	compilers="$compilers musl-gcc"
	case $(uname -m) in
	x86_64|amd64)
		compilers="$compilers gcc-m32 clang-m32"
		# Not every kernel runs what they make.
		echo 'int main(void) { return 0; }' >"$T/m32.c"
		m32run="qemu-i386-static /"
		gcc $m32 -static -o "$T/m32" "$T/m32.c" && "$T/m32" && m32run=
		;;
	esac
fi 2>/dev/null

for make in make bmake; do
	has $make $make || continue
	for cc in $compilers; do
		has "${cc%-m32}" "$make $cc" || continue
		[ $cc = "${cc%-m32}" ] || [ -z "$m32run" ] ||
		    has qemu-i386-static "$make $cc" || continue
		command=$cc ld= sysroot=
		case $cc in
		musl-gcc)
			ld=-static
			;;
		*-m32)
			command="${cc%-m32} $m32" sysroot=$m32run
			;;
		esac
		tree $make "$command" -std=c11 $ld
		tree $make "$command" -std=c99 $ld || continue
		runs $sysroot
		# The whole suite is for what gcc makes here, and sanitize
		# has it for clang.
		case $make,$cc in
		make,musl-gcc|make,gcc-m32)
			suite fixed variable start
			;;
		esac
	done
done
# What NetBSD gets: two calls of ours.  FreeBSD gets what Linux does, but for
# its closefrom(2) and the form of log lines, which compat.t has.
if [ "$(uname -s)" = Linux ] && has make "as on NetBSD" &&
    has gcc "as on NetBSD"; then
	tree make gcc "-std=c99 -Dsetresgid=compat_setresgid\
 -Dsetresuid=compat_setresuid"
	_what="as on NetBSD"
	runs
	unlike "$(nm -u "$BUILT")" 'setres' "$_what: those calls are ours"
	suite fixed variable
fi

# What macOS gets, as far as it can be had here: our versions of its missing
# calls in earnest.  More descriptors than an fd_set has room for, too.
# Fortified headers would call the system's ppoll(2) all the same.
if [ "$(uname -s)" = Linux ] && has make "as on macOS" &&
    has gcc "as on macOS"; then
	tree make gcc "-std=c99 -Dppoll=compat_ppoll -Daccept4=compat_accept4\
 -Dsetresgid=compat_setresgid -Dsetresuid=compat_setresuid -U_FORTIFY_SOURCE\
 -DSIGINFO=SIGUSR2"
	_what="as on macOS"
	runs
	undefined=$(nm -u "$BUILT")
	like "$undefined" 'pselect' "$_what: ppoll is ours"
	unlike "$undefined" 'ppoll|accept4|setres' "$_what: and so are the others"
	suite fixed variable
	KFCGI=$BUILT
	ok "$_what: 1100 workers" start -r -n 1100 /bin/worker
	ok "$_what: with descriptors above FD_SETSIZE" \
	    test -n "$(ls "/proc/$PID/fd" | awk '$1 >= 1024')"
	is "$(client -n 2000 -c 300 -t 60000 -A 200 | head -n 1)" \
	    "answered 2000 refused 0 reset 0 cut 0 timeout 0 bad 0" \
	    "$_what: and serve"
	kill -USR2 "$PID"	# which SIGINFO was made to be
	ok "$_what: SIGINFO logs the state" waitfor 10 logged '^kfcgi: status: '
	quit
	is "$?" 0 "$_what: and stop"
	KFCGI=$OURS
fi

# Other levels see other things.
for opt in -O0 -O3 -Os "-O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3"; do
	for cc in gcc clang; do
		has $cc "$cc $opt" || continue
		rm -rf "$T/v/opt"
		cp -R "$T/src" "$T/v/opt"
		ok "$cc $opt: builds" builds "$T/v/opt" make CC=$cc \
		    CFLAGS="$opt -Werror" all regress/client \
		    regress/worker regress/compat-test regress/floor
	done
done

# A warning is not missed: these flags find fault with everything.
rm -rf "$T/v/opt"
cp -R "$T/src" "$T/v/opt"
quiet() {
	"$@" >/dev/null 2>&1
}
fails "a warning is a failure" quiet builds "$T/v/opt" make \
    CFLAGS="-Wtraditional -Wdeclaration-after-statement -Wconversion"

files() {
	(cd "$1" && find . -type f | sort)
}

for make in make bmake; do
	has $make "$make install" || continue
	rm -rf "$T/v/inst" "$T/dest"
	cp -R "$T/src" "$T/v/inst"
	# First without DESTDIR, where the headers are not: bmake looks there.
	ok "$make" builds "$T/v/inst" $make
	ok "$make install" builds "$T/v/inst" $make DESTDIR="$T/dest" \
	    PREFIX=/opt/k install
	is "$(files "$T/dest" | tr '\n' ' ')" \
	    "./opt/k/man/man8/kfcgi.8 ./opt/k/sbin/kfcgi " \
	    "$make install: what it should, below DESTDIR and PREFIX"
	is "$(find "$T/dest" -type f -perm 755) $(find "$T/dest" -type f \
	    -perm 644)" "$T/dest/opt/k/sbin/kfcgi $T/dest/opt/k/man/man8/kfcgi.8" \
	    "$make install: modes"
	ok "$make install: the manual is the manual" \
	    cmp "$T/src/kfcgi.8" "$T/dest/opt/k/man/man8/kfcgi.8"
	serves "$make install" "$T/dest/opt/k/sbin/kfcgi"
	ok "$make install: again" builds "$T/v/inst" $make DESTDIR="$T/dest" \
	    PREFIX=/opt/k install
	ok "$make uninstall" builds "$T/v/inst" $make DESTDIR="$T/dest" \
	    PREFIX=/opt/k uninstall
	is "$(files "$T/dest")" "" "$make uninstall: no file is left"
	ok "$make install: the usual places" builds "$T/v/inst" $make \
	    DESTDIR="$T/dest" install
	is "$(files "$T/dest" | tr '\n' ' ')" \
	    "./usr/local/man/man8/kfcgi.8 ./usr/local/sbin/kfcgi " \
	    "$make install: which are in /usr/local"

	# From a tree where all has been built.
	ok "$make all helpers" builds "$T/v/inst" $make all regress/client \
	    regress/worker regress/compat-test
	ok "$make dist" builds "$T/v/inst" $make dist
	tarball=$(cd "$T/v/inst" && ls kfcgi-*.tar.gz)
	rm -rf "$T/v/dist"
	mkdir "$T/v/dist"
	tar -xzf "$T/v/inst/$tarball" -C "$T/v/dist"
	name=${tarball%.tar.gz}
	is "$(ls "$T/v/dist")" "$name" "$make dist: one directory"
	is "$(files "$T/v/dist/$name")" "$(files "$T/src")" \
	    "$make dist: all of the sources and nothing else"
	ok "$make dist: builds" builds "$T/v/dist/$name" $make CFLAGS="-O2 -Werror"
	serves "$make dist" "$T/v/dist/$name/kfcgi"
	ok "$make clean" builds "$T/v/inst" $make clean
	is "$(files "$T/v/inst")" "$(files "$T/src")" \
	    "$make clean: as if nothing had been built"
done

# cross arch test...: built for another processor
cross() {
	_arch=$1
	shift
	has "$_arch-linux-gnu-gcc" "$_arch" && has "qemu-$_arch-static" "$_arch" &&
	    tree make "$_arch-linux-gnu-gcc" -std=c99 || return
	# Its root is the sysroot; from there kfcgi must find what is in ours.
	_root=$T/root.$_arch
	mkdir -p "$_root"
	for _t in /* /usr/"$_arch"-linux-gnu/lib; do
		ln -sfn "$_t" "$_root/${_t##*/}"
	done
	runs "qemu-$_arch-static" "$_root"
	suite "$@"
}

# Not those that strace(1) kfcgi, since that sees qemu's own calls.  By hand, odd,
# reload and stop pass, too, but that takes minutes.
if [ "$(uname -s)" = Linux ]; then
	cross aarch64 fixed variable start
	# The bytes the other way round.
	cross s390x fixed variable
fi

done_testing
