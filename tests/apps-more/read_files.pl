# SPDX-License-Identifier: MIT
# read_files.pl ROOT: reads a tree in the ways of perl, and prints what it got.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Fcntl qw(:seek :mode O_RDONLY);
use File::Basename;
use File::Copy;
use File::Find;
use File::Spec;
use Cwd qw(getcwd realpath);
use IO::File;
use IO::Select;

my $root = shift;
chdir $root or die "chdir: $!";
print getcwd() eq $root ? "here\n" : "elsewhere\n", realpath('small/../large'), "\n";
open my $f, '<', 'lines.txt' or die $!;
my @lines = <$f>;
print scalar(@lines), " $lines[77]", eof($f) ? 1 : 0, ' ', tell($f), " $.\n";
seek $f, 100, SEEK_SET;
print scalar(<$f>), tell($f), "\n";
close $f;
open $f, '<:raw', 'large' or die $!;
print sysseek($f, 8 * 4321, SEEK_SET), ' ', sysread($f, my $b, 16), ' ', join(',', unpack('Q<*', $b)), "\n";
binmode $f;
seek $f, 0, SEEK_SET;
{ local $/ = \10007; my $n = 0; my $d = Digest::MD5->new; while (<$f>) { $d->add($_); $n++ } print "$n ", $d->hexdigest, "\n"; }
seek $f, 0, SEEK_SET;
print Digest::MD5->new->addfile($f)->hexdigest, "\n";
print -s $f, ' ', -f $f ? 1 : 0, ' ', -e 'none' ? 1 : 0, ' ', -d 'small' ? 1 : 0, ' ', -z 'empty' ? 1 : 0, ' ', -r 'large' ? 1 : 0, "\n";
open my $d, '<&', $f or die $!;
sysseek $d, 1000, SEEK_SET;
print sysseek($f, 0, SEEK_CUR), "\n";
print join(' ', (stat 'large')[2, 7, 9]), ' ', S_ISDIR((stat 'small')[2]) ? 1 : 0, "\n";
opendir my $dir, 'small' or die $!;
my @names = sort grep { !/^\./ } readdir $dir;
rewinddir $dir;
my @again = readdir $dir;
print "@names ", scalar(@again), "\n";
print join(' ', sort glob('small/1* *.txt')), ' ', join(' ', <sm*/0[1-3]>), "\n";
find({ wanted => sub { push @names, $File::Find::name if -f }, no_chdir => 1 }, '.');
print join(' ', sort @names), "\n";
copy('large', "$ENV{OUT}/copy") or die $!;
system 'cmp', 'large', "$ENV{OUT}/copy";
print `md5sum < large`, `cat other.txt`, qx{cd small && pwd | sed 's,.*/,,'};
open my $pipe, '-|', 'tail', '-n', '1', 'lines.txt' or die $!;
print <$pipe>;
open STDIN, '<', 'lines.txt' or die $!;
print scalar(<STDIN>);
sysseek STDIN, 0, SEEK_SET;
system 'head -n 2';
my $pid = fork; # not the tail above, which wait might find first
if (!$pid) { open my $g, '<', 'other.txt' or die $!; print <$g>; exit 0 }
waitpid $pid, 0;
my $io = IO::File->new('large', O_RDONLY) or die $!;
print $io->opened, ' ', $io->read($b, 100), ' ', md5_hex($b), ' ', IO::Select->new($io)->can_read(0) > 0 ? 1 : 0, "\n";
print open(my $none, '<', 'none') ? 'there' : $! + 0, ' ', open(my $folder, '<', 'lines.txt/x') ? 'there' : $! + 0, "\n";
eval { require './script.pm'; print Script::answer(), "\n" };
print $@;
