#!/usr/bin/perl
#
# judge.pl table promises [trace]: whether pledge(2) with these promises would
# have allowed the system calls in a trace of kfcgi, made by strace(1) with -f
# and -b execve.  The table is the one in pledge.t.
#
# Judged are the calls of the manager since the point where it pledges, and of
# its children until they execute prog.  Prints each kind as "promise
# OpenBSD-call Linux-call number", or as "bad" with the whole of it; nothing of
# a start that was refused before it entered the jail.

use strict;
use warnings;

my ($table, @promises) = (shift, split ' ', shift);
my (%promised, %of, %call);
$promised{$_} = 1 for @promises, '-';
open(my $fh, '<', $table) or die;
while (<$fh>) {
	next if /^#/;
	my ($linux, $openbsd, $promise) = split;
	$of{$linux} = $promise;
	$call{$linux} = $openbsd;
}

my (%half, %mine, %log, %try, %seen);
my ($manager, $jailed, $kept, $proved, $dropped, $pledged);
my $devlog = qr|^\d+, \{sa_family=AF_UNIX, sun_path="/dev/log"\}, \d+\)|;

# Who is it that drops: children are known from its fork(2).
sub judge {
	my ($pid, $line) = @_;

	my ($name, $args) = $line =~ /^(\w+)\((.*)$/ or return;
	my ($rv) = $args =~ /\) += (-?\d+|\?)[^=]*$/;
	$rv = '?' unless defined $rv;
	my ($fd) = $args =~ /^(\d+)[,)]/;

	# Log sockets from before; then where our part begins: kfcgi looks at
	# prog just before it pledges, which "stdio proc exec" would forbid.
	# Before that it has made sure of its groups, after its users; unless
	# the user is root, those must have proved to be irrevocable.
	if (!$pledged) {
		$log{$fd} = 1 if $name eq 'connect' && $args =~ $devlog;
		delete $log{$fd} if $name eq 'close';
		$jailed = 1 if $name eq 'chroot' && $rv eq '0';
		if ($name =~ /^setresuid(32)?$/ && $rv eq '0') {
			$manager = $pid;
			$kept = $args =~ /^0, 0, 0\)/;
		}
		return if !defined $manager || $pid != $manager;
		$proved = 1 if $name =~ /^(setuid|setresuid)(32)?$/ &&
		    $rv eq '-1' && $args =~ /EPERM/;
		$dropped = 1 if $name =~ /^getegid(32)?$/ &&
		    ($kept || $proved);
		$mine{$pid} = $pledged = 1 if $dropped &&
		    $name =~ /^(newfstatat|stat|stat64|fstatat64|statx)$/ &&
		    $args =~ /^(AT_FDCWD, )?"[^"]/;
		return;
	}
	return unless $mine{$pid};

	if ($name =~ /^(clone|clone3|fork|vfork)$/) {
		$mine{$rv} = 1 if $rv =~ /^\d+$/ && $rv > 0;
		# A fork(2) and no thread: that is all that proc allows.
		$name = 'fork' if $name eq 'fork' ||
		    $args =~ /flags=(CLONE_CHILD_\w+\||)*SIGCHLD|exit_signal=SIGCHLD/ &&
		    $args !~ /CLONE_(VM|THREAD|FILES|FS)\b/;
	}
	$name = 'fstat' if $name =~ /^(newfstatat|statx)$/ &&
	    $args =~ /^\d+, "", .*AT_EMPTY_PATH/ ||
	    $name eq 'fstat64';

	# The syslog(3) of compat; never in a child.
	if ($pid == $manager) {
		if ($name eq 'socket' && $rv =~ /^\d+$/ && $args =~
		    /^AF_UNIX, SOCK_DGRAM(\|SOCK_CLOEXEC)?, 0\)/) {
			$try{$pid} = [ $rv, $line ];
			return;
		}
		# Its flags are set before it is connected.
		my $try = $try{$pid};
		if ($try && $name eq 'fcntl' && $fd == $try->[0] &&
		    $args =~ /^\d+, F_(SETFD, FD_CLOEXEC|GETFL|SETFL, O_RDWR\|O_NONBLOCK)\)/) {
			$seen{"$of{$name} $call{$name} $name"}++;
			return;
		}
		# A handler of signals may have run meanwhile.
		if ($name !~ /^(write|(rt_)?sigreturn)$/ &&
		    ($try = delete $try{$pid})) {
			if ($name eq 'connect' && $fd == $try->[0] &&
			    $args =~ $devlog) {
				$log{$fd} = 1;
				$name = 'sendsyslog';
			} else {
				print "bad $try->[1]\n";
			}
		}
		$name = 'sendsyslog' if $name eq 'connect' && $log{$fd} &&
		    $args =~ $devlog;
		$name = 'sendsyslog' if $name =~ /^send(to)?$/ && $log{$fd} &&
		    $args =~ /^\d+, "<\d+>.*, (MSG_NOSIGNAL|0)(, NULL, 0)?\)/;
		delete $log{$fd} if $name eq 'close';
	}
	my $bad = !exists $of{$name} || !$promised{$of{$name}};
	$bad = 1 if $name eq 'fcntl' &&
	    $args !~ /^\d+, F_(GETFD|SETFD|GETFL|SETFL)\b/;
	$bad = 1 if $name =~ /^(mmap2?|mprotect)$/ && $args =~ /PROT_EXEC/;
	$bad = 1 if $name eq 'prctl' &&
	    $args !~ /^PR_SET_(PDEATHSIG|CHILD_SUBREAPER), /;
	$bad = 1 if $name eq 'prlimit64' && $args !~ /^0, /;
	if ($name eq 'sendmsg' && $args =~ /SCM_RIGHTS/) {
		$name = 'sendfd';
		$bad = 1 if !$promised{$of{$name}};
	}
	$bad = 1 if $name eq 'sendmsg' && $args !~ /msg_name=NULL/;
	if ($bad) {
		print "bad ", $pid == $manager ? "manager" : "child", ": $line\n";
	} else {
		$seen{"$of{$name} $call{$name} $name"}++;
	}
	# What it does from here on is prog's.
	delete $mine{$pid} if $name eq 'execve' && $rv eq '0';
}

# An execve(2) that succeeds is where strace lets go of a child; lines of the
# same child that come later are those of one that failed.
my @lines;
while (<>) {
	chomp;
	my ($pid, $rest) = /^(\d+) +(.*)$/ or next;
	next if $rest =~ /^(---|\+\+\+)/;
	if ($rest =~ s/ <unfinished \.\.\.>$//) {
		$half{$pid} = $rest;
		# A child may be traced before its fork(2) has returned.
		push @lines, [ $pid, undef ];
		$half{"$pid at"} = $#lines;
		next;
	}
	if ($rest =~ s/^<\.\.\. \w+ resumed>//) {
		my $at = delete $half{"$pid at"};
		$rest = (delete $half{$pid} || '') . $rest;
		$lines[$at] = [ $pid, $rest ] if defined $at;
		next;
	}
	push @lines, [ $pid, $rest ];
}
# One that never returned: an execve(2), an exit, or the end of the trace.
for my $pid (grep { /^\d+$/ } keys %half) {
	$lines[$half{"$pid at"}] = [ $pid, $half{$pid} ];
}
judge(@$_) for grep { defined $_->[1] } @lines;

print "bad: jailed, but no privilege drop in the trace\n"
    if $jailed && !$pledged;
print "$_ $seen{$_}\n" for sort keys %seen;
