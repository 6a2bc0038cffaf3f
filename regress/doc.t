#!/bin/sh
# README and manual say what the program does: taken out of the text, checked.
. ./lib.sh

README=$REGRESS/../README.md
MAN=$REGRESS/../kfcgi.8
SRC=$REGRESS/../kfcgi.c

# The worker that the README tells of, in both pools.
ok "the README's worker compiles without a warning" \
    $CC -static -Wall -Wextra -Werror -o "$JAIL/hello" "$REGRESS/hello.c"
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
	quit
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

# Every number in the manual's text is that of the program.  A phrase below is
# looked for with the value that the source has; what digits are left when all
# phrases are taken out would be numbers that nobody checks.  EXAMPLES are run by
# examples.t and rcd.t, DIAGNOSTICS are compared by messages.t.
cat >"$T/numbers.pl" <<'END'
use strict;
use warnings;
my ($src, $text) = do {
	local $/;
	open(my $fh, '<', $ARGV[0]) or die;
	(scalar <$fh>, scalar <STDIN>);
};
my %const = $src =~ /^#define\s+(\w+)\s+(\d+|"[^"]*")/mg;
s/"//g for values %const;
my ($promises) = $src =~ /pledge\(variable \? "([^"]*)"/;
$text =~ s/^(\S)/\n$1/mg;
$text =~ s/\n(EXAMPLES|DIAGNOSTICS|SEE ALSO)\n.*?(?=\n\n[A-Z])//sg;
$text =~ s/^.*\n//;			# the headline
$text =~ s/\s+\S+\s+\w+ \d+, \d{4}\s+\S+\s*$//;	# the bottom line
$text =~ s/^\s+\d\.\s+/ /mg;		# what happens at start, in order
$text =~ s/\s+/ /g;

my (%words) = (100 => 'a tenth of a second', 1000 => 'a second');
sub c {
	my ($name, $factor) = @_;
	defined $const{$name} or die "no $name in the source";
	return $const{$name} * ($factor || 1);
}
sub seconds { c(shift) / 1000 }
sub words { $words{c(shift)} // 'something that has no word' }
sub source {		# a fact that is in the source as such
	my ($re, $value) = @_;
	return $src =~ $re ? $value : 'not in the source';
}

# phrase, value, how often
my @facts = (
	[ 'The default is %s.', c('WORKERS'), 1 ],
	[ 'The default is %s.', c('WAITTIME'), 1 ],
	[ 'The default is %s.', $const{JAIL}, 1 ],
	[ 'The default is %s.', $const{SOCKPATH}, 1 ],
	[ 'From 1 to %s.', c('WORKERS_MAX'), 1 ],
	[ 'From 1 to %s,', c('WORKERS_MAX', 2), 1 ],
	[ 'are still alive %s later', words('TRIAL_TIME'), 1 ],
	[ 'all are alive %s later', words('TRIAL_TIME'), 1 ],
	[ 'dies within %s of its start', words('HEALTHY_AGE'), 1 ],
	[ 'has lived for %s or', words('HEALTHY_AGE'), 1 ],
	[ '%s milliseconds at first', c('BRAKE_MIN'), 1 ],
	[ 'twice as long each time', source(qr/brake_delay \*= 2;/, 2), 1 ],
	[ '%s seconds at most', seconds('BRAKE_MAX'), 1 ],
	[ 'the delay would be %s seconds', seconds('BRAKE_MAX'), 1 ],
	[ 'split after %s bytes', c('LINE_SIZE'), 1 ],
	[ 'More than %s lines in a second', c('LINES_MAX'), 1 ],
	[ 'still there %s seconds after its SIGTERM', seconds('LEAVE_GRACE'), 1 ],
	[ '%s seconds after the signal', seconds('LEAVE_GRACE'), 1 ],
	[ 'costs %s seconds at every stop', seconds('LEAVE_GRACE'), 1 ],
	[ 'one that does has %s seconds', seconds('LEAVE_GRACE'), 1 ],
	[ 'killed after %s seconds', seconds('FAIL_GRACE'), 1 ],
	[ 'mode %s', source(qr/chmod\(sockpath, 0660\)/, '0660'), 2 ],
	[ 'messages of %s bytes', source(qr/uint64_t\s+cookie/, 8), 1 ],
	[ 'the same %s bytes', source(qr/uint64_t\s+cookie/, 8), 1 ],
	[ 'descriptors 0, 1 and 2 and, with -r, descriptor %s,', c('CONTROL_FD'), 1 ],
	[ 'as descriptor %s and accept', source(qr/listenfd, STDIN_FILENO/, 0), 1 ],
	[ 'Descriptor %s is /dev/null', source(qr/nullfd : listenfd, STDIN_FILENO/, 0), 1 ],
	[ '"%s"', source(qr/"stdio proc exec"/, 'stdio proc exec'), 1 ],
);
sub report {
	my ($good, $what) = @_;
	print $good ? "ok\t" : "BAD\t", "$what\n";
}
for (@facts) {
	my ($phrase, $value, $n) = @$_;
	my $is = $phrase =~ /%s/ ? sprintf $phrase, $value : $phrase;
	my $found = () = $text =~ /\Q$is\E/g;
	report($found == $n && $value !~ /not in/, "$n x $is");
	$text =~ s/\Q$is\E//g;
}
# Numbers of another kind.
$text =~ s/FastCGI 1\.0|arg0|SIGUSR1//g;
$text =~ s/\w\(\d\)//g;			# pages
$text =~ s/0 releases it at once//;	# variable.t
$text =~ s/[Ss]tatus (is )?[01]\b//g;	# start.t, stop.t, death.t
$text =~ s/the shell gets is 0 if the start has succeeded, and 1 if not//;
$text =~ s/it is 0 after a stop by SIGTERM or SIGINT, and 1 if//;
$text =~ s/2>&1//;			# security.t
$text =~ s/(the|of|with) mode 0\d{3}//g;	# of prog: security.t
report($text !~ /\d/, "a number that is not checked: " .
    ($text =~ /(.{0,40}\d.{0,40})/ ? $1 : ''));

# The options and the signals.
my ($opts) = $src =~ /getopt\(argc, argv, "\+([^"]*)"/;
my %opt = map { $_ => 1 } $opts =~ /\w/g;
open(my $fh, '<', $ARGV[1]) or die;
my ($section, %fl, %sig, @pa) = ('');
while (<$fh>) {
	$section = $1 if /^\.S[hs] (.*)/;
	$fl{$1} = 1 if $section eq 'Options' && /^\.It Fl (\w)/;
	if ($section eq 'SIGNALS' && /^\.It Dv (.*)/) {
		$sig{$_} = 1 for split / , /, $1;
	}
	push @pa, $1 if $section eq 'FILES' && /^\.It Pa (.*)/;
}
report(join(' ', sort keys %fl) eq join(' ', sort keys %opt),
    'every option, and no other');
my ($caught) = $src =~ /caught\[\] = \{(.*?)\};/s;
my %caught = map { $_ => 1 } $caught =~ /(SIG\w+)/g;
$caught{SIGKILL} = 1;			# said not to be for use
delete $caught{SIGCHLD};
report(join(' ', sort keys %sig) eq join(' ', sort keys %caught),
    'every signal, and no other');
report($src =~ /"\Q$_\E"/, "file $_") for @pa;
END
plain | perl "$T/numbers.pl" "$SRC" "$MAN" >"$T/numbers"
is "$?" 0 "the manual's facts are compared"
ok "there are many" test "$(grep -c . "$T/numbers")" -gt 30
is "$(sed -n 's/^BAD	//p' "$T/numbers")" "" "and all are those of the program"
is "$(sed -n 's/^#define EPISODE[^(]*(\(.*\)).*/\1/p' "$SRC")" "2 * BRAKE_MAX" \
    "an episode is as long as two of the longest delays"
like "$(plain | tr -s ' \n' ' ')" \
    "for a tenth of a second more have been waiting. Logged once until there \
have been 20 seconds without" "and that is what DIAGNOSTICS say"
is "$(sed -n 's/^#define FULL_TIME[^0-9]*\([0-9]*\).*/\1/p' "$SRC")" 100 \
    "a tenth of a second is that of the source"

# And in the README's text: what is neither code nor figure.
awk '/^```/ { code = !code; next }
    /^<!-- figures/ { figures = 1 }
    !code && !figures && !/^    /
    /^<!-- end/ { figures = 0 }' "$README" >"$T/readme"
sed -e 's/kcgi(3)//; s/kfcgi(8)//; s/Debian 12//; s/FastCGI 1\.0//' \
    -e 's/^| [0-9]*: .*//; s/104: Connection reset by peer//' \
    -e "s/after $(($(sed -n 's/^#define LEAVE_GRACE[^0-9]*\([0-9]*\).*/\1/p' \
	"$SRC") / 1000)) s at the latest//" \
    -e 's/on Debian 210 MB//; s/status 1//; s/502//g' \
    -e 's/libc6-dev//; s/SIGUSR1//; s/status 0//; s/arg0//' \
    "$T/readme" >"$T/rest"
is "$(grep '[0-9]' "$T/rest")" "" "README: no number that is not checked"

# The tests that the README's table names are there.
for t in $(sed -n 's/^|.*|\(.*\)|$/\1/p' "$README" | tr ', ' '\n\n' |
    grep '\.t$' | sort -u); do
	ok "the README's $t exists" test -f "$REGRESS/$t"
done

done_testing
