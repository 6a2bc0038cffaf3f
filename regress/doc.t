#!/bin/sh
# README and manual say what the program does: taken out of the text, checked.
. ./lib.sh

README=$REGRESS/../README.md
MAN=$REGRESS/../kfcgi.8
SRC=$REGRESS/../kfcgi.c

# The worker that the README begins with, in both pools.
none_lost="refused 0 reset 0 cut 0 timeout 0 bad 0"
ok "hello.c compiles without a warning" \
    $CC -static -Wall -Wextra -Werror -o "$JAIL/hello" "$REGRESS/hello.c"
for r in "" -r; do
	start $r -n 2 /hello
	like "$(fetch '')" '^Hello from worker [0-9]+$' \
	    "${r:-fixed}: hello.c answers"
	for asked in "-n 1000 -c 8" "-b 1000000 -n 4"; do
		like "$(client $asked)" "^answered [14](000)? $none_lost" \
		    "${r:-fixed}: also client $asked"
	done
	quit
done

# The manual as text, without overstrikes.
plain() {
	mandoc -T ascii "$MAN" | sed "s/.$(printf '\b')//g"
}

usage=$("$KFCGI" 2>&1 | sed 's/.*usage: //')
synopsis=$(plain |
    sed -n '/^SYNOPSIS/,/^DESC/p' | sed '1d;$d' | tr -s ' \t\n' ' ')
is "$(echo $synopsis)" "$(echo $usage)" "the synopsis is usage()'s"

# Every number in the manual's text is that of the program.  The phrases below
# are taken out of it, with the values that the source has; what digits are left
# would be numbers that nobody checks.  A phrase need not be there, but for the
# defaults; the value must, as some are words.  EXAMPLES are run by examples.t
# and rcd.t.
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
$text =~ s/^(\S)/\n$1/mg;
$text =~ s/\n(EXAMPLES|SEE ALSO)\n.*?(?=\n\n[A-Z])//sg;
$text =~ s/^.*\n//;			# the headline
$text =~ s/\s+\S+\s+\w+ \d+, \d{4}\s+\S+\s*$//;	# the bottom line
$text =~ s/\s+/ /g;

my %words = (1000 => 'a second');
sub c {
	my ($name, $factor) = @_;
	defined $const{$name} or die "no $name in the source";
	return $const{$name} * ($factor || 1);
}
sub text { $const{+shift} // 'not in the source' }
sub seconds { c(shift) / 1000 }
sub words { $words{c(shift)} // 'has no word' }
sub limit { $src =~ /\[$_[0]\] = \{ \.max = (\d+),/ ? $1 : 'not in the source' }
sub source {		# a fact that is in the source as such
	my ($re, $value) = @_;
	return $src =~ $re ? $value : 'not in the source';
}

# phrase, value
my @facts = (
	[ 'The default is %s.', c('WORKERS') ],
	[ 'The default is %s.', c('WAITTIME') ],
	[ 'The default is %s.', text('JAIL') ],
	[ 'The default is %s.', text('SOCKPATH') ],
	[ 'The default is twice -n%s', source(qr/max = \S*min \* 2;/, '.') ],
	[ 'twice -n, or twice -N with -r%s',
	    source(qr/backlog = \(int\)\S*max \* 2;/, '.') ],
	[ 'from 1 to %s.', c('WORKERS_MAX') ],
	[ 'from 1 to %s and not', c('WORKERS_MAX', 2) ],
	[ 'and lives for %s.', words('TRIAL_TIME') ],
	[ 'for which any worker has %s seconds', seconds('EXEC_TIME') ],
	[ 'ends within %s of its start', words('TRIAL_TIME') ],
	[ 'but not within %s seconds', seconds('TRIAL_VALID') ],
	[ 'follows after %s milliseconds', c('RETRY_MIN') ],
	[ 'twice as long each time%s', source(qr/delay \*= 2\)/, ',') ],
	[ 'up to %s seconds', seconds('RETRY_MAX') ],
	[ 'After %s workers that ended young in a second',
	    limit('STORM') == 100 ? 'a hundred' : 'has no word' ],
	[ 'no idle worker for %s milliseconds', c('GROW_TIME') ],
	[ 'split after %s bytes', c('LINE_SIZE') ],
	[ 'more than %s in a second', limit('LINES') ],
	[ 'After %s seconds, or at a second signal', seconds('LEAVE_GRACE') ],
	[ 'has not ended in %s seconds', seconds('KILL_GRACE') ],
	[ '%s seconds later all of them are killed', seconds('LEAVE_GRACE') ],
	[ 'until there were %s seconds without', seconds('EPISODE') ],
	[ 'stays full for %s', words('PROBE_TIME') ],
	[ 'mode %s.', source(qr/umask\(~?0?117\)|0660/, '0660') ],
	[ 'as descriptor %s and accept', source(qr/STDIN_FILENO/, 0) ],
	[ 'descriptors 0, 1 and 2, and with -r its control socket as '
	    . 'descriptor %s,', c('CONTROL_FD') ],
	[ 'descriptor %s is /dev/null', source(qr/STDIN_FILENO/, 0) ],
	[ 'need %s descriptors for each',
	    source(qr/need = 6 \* \(rlim_t\)\S*max \+ 32;/, 'six') ],
	[ 'and %s more: on OpenBSD, raise openfiles-max of the login class '
	    . 'daemon for -N above 165', source(qr/max \+ 32;/, 32) ],
	[ '"%s"', source(qr/"stdio proc exec unix"/, 'stdio proc exec unix') ],
	[ 'and also "%s" with -r',
	    source(qr/\? "stdio proc exec unix sendfd" :/, 'sendfd') ],
);
sub report {
	my ($good, $what) = @_;
	print $good ? "ok\t" : "BAD\t", "$what\n";
}
for (@facts) {
	my ($phrase, $value) = @$_;
	my $is = sprintf $phrase, $value;
	my $said = $text =~ s/\Q$is\E//g;
	report($value !~ /^(not in|has no)/ &&
	    ($said || $phrase !~ /default/), $is);
}
# Numbers of another kind.
$text =~ s/FastCGI 1\.0|arg0|SIGUSR1//g;
$text =~ s/\w\(\d\)//g;			# pages
$text =~ s/-w 0 releases them at once//;	# variable.t
$text =~ s/status (is |other than )?[01]\b//g;	# start.t, stop.t, death.t
$text =~ s/exits 0 on success, and >0 if//;
$text =~ s/write to descriptor 2//;	# of every process
$text =~ s/with mode 0\d{3}//g;	# of prog: security.t
report($text !~ /\d/, "a number that is not checked: " .
    ($text =~ /(.{0,40}\d.{0,40})/ ? $1 : ''));

# The options and the signals.
my ($opts) = $src =~ /getopt\(argc, argv, "\+([^"]*)"/;
my %opt = map { $_ => 1 } $opts =~ /\w/g;
open(my $fh, '<', $ARGV[1]) or die;
my ($section, %fl, %sig, @pa) = ('');
while (<$fh>) {
	$section = $1 if /^\.S[hs] (.*)/;
	$fl{$1} = 1 if $section eq 'DESCRIPTION' && /^\.It Fl (\w)/;
	if ($section eq 'SIGNALS' && /^\.It Dv (.*)/) {
		$sig{$_} = 1 for split / , /, $1;
	}
	push @pa, $1 if $section eq 'FILES' && /^\.It Pa (.*)/;
}
report(join(' ', sort keys %fl) eq join(' ', sort keys %opt),
    'every option, and no other');
my ($caught) = $src =~ /caught\[\] = \{(.*?)\};/s;
my %caught = map { $_ => 1 } $caught =~ /(SIG\w+)/g;
delete $caught{SIGCHLD};
report(join(' ', sort keys %sig) eq join(' ', sort keys %caught),
    'every signal, and no other');
report($src =~ /"\Q$_\E"/, "file $_") for @pa;
END
plain | perl "$T/numbers.pl" "$SRC" "$MAN" >"$T/numbers"
is "$?" 0 "the manual's facts are compared"
ok "there are many" test "$(grep -c . "$T/numbers")" -gt 20
is "$(sed -n 's/^BAD	//p' "$T/numbers")" "" "and all are the program's"

# What DIAGNOSTICS quotes is in the source: in angle brackets what varies, at
# the end of a line that a hint follows three dots.
cat >"$T/quoted.pl" <<'END'
use strict;
use warnings;
my ($src, $man) = map {
	open(my $fh, '<', $_) or die "$_: $!\n";
	local $/;
	scalar <$fh>;
} @ARGV;
$src =~ s/\\"/'/g;
# Each string of the source, pieces joined, is a pattern; err(3) and warn(3) add
# a reason.
my (@formats, @hints);
while ($src =~ /((?:"[^"\n]*"\s*)+)/g) {
	my $f = join '', $1 =~ /"([^"\n]*)"/g;
	push @formats, $f if $f =~ / /;
	push @hints, $f if $f =~ /^(: |, or | for user )/;
}
sub pattern {		# of what is printed by a format
	my ($f) = @_;
	return join '', map { /^%/ ? '(?:<[^>]*>(?: after <time> s| s)?|s)?' : quotemeta }
	    split /(%[-+.*0-9]*(?:ll|l|z)?[a-z])/, $f;
}
my $hint = join '|', map { quotemeta } @hints;
sub found {
	my ($text) = @_;
	for my $f (@formats) {
		(my $letters = $f) =~ s/%\w+|[^a-z]//g;
		next if length $letters <= 7;
		my $re = pattern($f);
		return 1 if $text =~ /^$re(: <reason>)?((?:$hint)(<\w+>)?)?$/;
		# One message may begin or end with another.
		$re = pattern(substr $f, 2);
		return 1 if $f =~ /^%s/ && $text =~ /^(.+)$re$/ && found($1);
		$re = pattern(substr $f, 0, -2);
		return 1 if $f =~ /%s$/ && $text =~ /^$re(.+)$/ &&
		    grep { $_ eq $1 } @formats;
	}
	return 0;
}
my ($diag) = $man =~ /^\.Sh DIAGNOSTICS\n(.*?)^\.Sh/ms or die;
while ($diag =~ /^\.It Sy "(.*)"$/mg) {
	(my $text = $1) =~ s/\\&|\.\.\.$//g;
	print found($text) ? "ok\t" : "BAD\t", "$text\n";
}
END
perl "$T/quoted.pl" "$SRC" "$MAN" >"$T/quoted"
is "$?" 0 "the messages that DIAGNOSTICS quotes are compared"
ok "there are many" test "$(grep -c . "$T/quoted")" -gt 10
is "$(sed -n 's/^BAD	//p' "$T/quoted")" "" "and all are in the source"

# And in the README's text: what is neither code nor figure.
awk '/^```/ { code = !code; next }
    /^<!-- figures/ { figures = 1 }
    !code && !figures && !/^    /
    /^<!-- end/ { figures = 0 }' "$README" >"$T/readme"
sed -e 's/kcgi(3)//; s/kfcgi(8)//; s/Debian 12//; s/FastCGI 1\.0//' \
    -e 's/^| [0-9]*: .*//; s/104: Connection reset by peer//' \
    -e "s/after $(($(sed -n 's/^#define LEAVE_GRACE[^0-9]*\([0-9]*\).*/\1/p' \
	"$SRC") / 1000)) s; what even that//" \
    -e 's/Debian [0-9]* MB//; s/status 1//; s/502//g; s/1 MB//' \
    -e 's/OpenBSD 7\.8//; s/amd64//; s/^| [45][0-9][0-9] [A-Z].*//' \
    -e 's/libc6-dev//; s/SIGUSR1//; s/status 0//; s/arg0//' \
    "$T/readme" >"$T/rest"
is "$(grep '[0-9]' "$T/rest")" "" "README: no number that is not checked"

# The tests that the README's table names are there.
for t in $(sed -n 's/^|.*|\(.*\)|$/\1/p' "$README" | tr ', ' '\n\n' |
    grep '\.t$' | sort -u); do
	ok "the README's $t exists" test -f "$REGRESS/$t"
done

done_testing
