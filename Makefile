# For OpenBSD make, bmake and GNU make alike: nothing but what all of them do.
#
# Set on the command line or in the environment: CC, CFLAGS, CPPFLAGS, LDFLAGS,
# LDLIBS, WARNFLAGS, PREFIX, SBINDIR, MANDIR, DESTDIR.

VERSION =	0.1

PREFIX ?=	/usr/local
SBINDIR ?=	${PREFIX}/sbin
MANDIR ?=	${PREFIX}/man

CC ?=		cc
CFLAGS ?=	-O2 -g
WARNFLAGS ?=	-Wall -Wextra -Wshadow -Wstrict-prototypes \
		-Wmissing-prototypes -Wold-style-definition -Wpointer-arith \
		-Wpointer-sign -Wcast-qual -Wwrite-strings
INSTALL ?=	install

# For "make regress": the binary to test, the test files (none: all).  demo
# and bench too use the binary.
KFCGI ?=	kfcgi
TESTS ?=

COMPILE =	${CC} ${CFLAGS} ${WARNFLAGS} ${CPPFLAGS}
COMPAT =	compat/compat.c compat/compat.h compat/queue.h
BUILT =		kfcgi kfcgi.o compat.o kfcgi.html
DISTFILES =	LICENSE Makefile README.md compat kfcgi.8 kfcgi.c regress

# The tests have a Makefile of their own, which gets our variables.  -s, or the
# last line would not be the count of the tests.
REGRESS =	k='${KFCGI}'; \
		case $$k in /*) ;; *) k=`pwd`/$${k:-kfcgi} ;; esac; \
		cd regress && ${MAKE} -s KFCGI="$$k" TESTS='${TESTS}' CC='${CC}' \
		    CFLAGS='${CFLAGS}' WARNFLAGS='${WARNFLAGS}' \
		    CPPFLAGS='${CPPFLAGS}' LDFLAGS='${LDFLAGS}' \
		    LDLIBS='${LDLIBS}'

all: kfcgi

# "make deps regress": one after the other, also with -j.
.NOTPARALLEL:

kfcgi: kfcgi.o compat.o
	${CC} ${CFLAGS} ${LDFLAGS} -o kfcgi kfcgi.o compat.o ${LDLIBS}

kfcgi.o: kfcgi.c compat/compat.h compat/queue.h
	${COMPILE} -c -o kfcgi.o kfcgi.c

compat.o: ${COMPAT}
	${COMPILE} -c -o compat.o compat/compat.c

regress demo bench: kfcgi
	@+${REGRESS} $@

helpers:
	@+${REGRESS} $@

# Lives of a pool in a simulated kernel: for 30 seconds, or that of SEED.
sim:
	@+${REGRESS} lives

deps:
	@sh regress/deps

# Directories that exist keep their owner and mode.
install: kfcgi
	@for d in "${DESTDIR}${SBINDIR}" "${DESTDIR}${MANDIR}/man8"; do \
		[ -d "$$d" ] || ${INSTALL} -d "$$d" || exit 1; \
	done
	${INSTALL} -c -m 0755 kfcgi "${DESTDIR}${SBINDIR}/kfcgi"
	${INSTALL} -c -m 0644 kfcgi.8 "${DESTDIR}${MANDIR}/man8/kfcgi.8"

uninstall:
	rm -f "${DESTDIR}${SBINDIR}/kfcgi" "${DESTDIR}${MANDIR}/man8/kfcgi.8"

# A page may refer to one that only another system has.  cppcheck reads no
# system headers, so only our own lists make sense to it: those of Linux.
lint:
	mandoc -T lint -W warning kfcgi.8
	@if mandoc -T lint -W style kfcgi.8 2>/dev/null | \
	    grep -v 'referenced manual not found'; then exit 1; fi
	@if command -v cppcheck >/dev/null 2>&1; then \
		echo cppcheck; \
		cppcheck --quiet --std=c99 --inline-suppr --error-exitcode=1 \
		    --enable=warning,performance,portability -D__linux__ \
		    kfcgi.c compat/compat.c regress/*.c; \
	else echo 'cppcheck: not found, skipped'; [ -z "$$CI" ]; fi
	@for f in `{ grep -ls '^#!.*/sh' regress/*; \
	    ls regress/*.sh regress/*.t; } 2>/dev/null | sort -u`; do \
		echo sh -n $$f; sh -n $$f || exit 1; \
	done

# By the compilers, and it takes minutes.
analyze:
	@sh regress/analyze

html: kfcgi.html

kfcgi.html: kfcgi.8
	mandoc -T html kfcgi.8 >kfcgi.html.tmp
	mv kfcgi.html.tmp kfcgi.html

dist:
	rm -rf kfcgi-${VERSION}
	mkdir kfcgi-${VERSION}
	cp -R ${DISTFILES} kfcgi-${VERSION}
	(cd kfcgi-${VERSION} && ${MAKE} -s clean)
	tar -czf kfcgi-${VERSION}.tar.gz kfcgi-${VERSION}
	rm -rf kfcgi-${VERSION}

clean:
	rm -f ${BUILT} kfcgi.html.tmp kfcgi-${VERSION}.tar.gz
	rm -rf kfcgi-${VERSION}
	cd regress && ${MAKE} -s clean

.PHONY: all analyze bench clean demo deps dist helpers html install lint regress \
	sim uninstall
