#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""Real commands on a local tree and on the same tree in a mount: what they print,
what they complain of and how they end have to be the same.  {} is the root.

Differences that no mount can avoid are taken out of the output by the command
itself: sizes, link counts and times of directories, inode and device numbers.
"""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.environ["DZ_TOP"], "tests", "shim"))
import libshim  # noqa: E402
from libblob import Skip, run_tests  # noqa: E402

# One test a line: its name, and the command.  The first word has to be there, or
# it is skipped; "!N" before the command is the status that it ends with, "%" that
# the kernel is to be asked on a read-only mount of the local tree.
COMMANDS = """
ls of the tree          | ls -R {}
ls long                 | ls -lR {} | sed '/^d/s/.*/dir/; /^total/d'
ls of a file            | ls -l {}/text/lines.txt
ls sorted by size       | ls -S {}/text {}/data
ls with types           | ls -pF {}
ls of nothing           | !2 ls {}/none
ls with inodes agrees with stat | cd {}/many && ls -i | while read -r i n; do [ "$i" = "$(stat -c %i "$n")" ] || echo "$n"; done
cd and pwd              | cd {}/tree/deep && pwd && cd .. && pwd && ls && cd "$OLDPWD" && pwd
cd of a file            | !1 cd {}/text/lines.txt
stat                    | stat -c '%n %s %F %a %y' {}/text/lines.txt {}/data/large.bin
stat of a directory     | stat -c '%n %F %a' {}/text {}/text/ {}/tree/deep/..
stat of nothing         | !1 stat {}/none
test                    | %test -r {}/text/lines.txt; echo $?; test -w {}/none; echo $?; test -d {}/text; echo $?; test -f {}/text; echo $?; test -s {}/text/empty; echo $?; test -x {}/text; echo $?; [ {}/text/lines.txt -ef {}/tree/../text/lines.txt ]; echo $?
find                    | find {} | sort
find by name            | find {} -name '*.txt' -type f -printf '%P %s %m %TY\\n' | sort
find with exec          | find {}/text -type f -exec md5sum {} + | wc -l
find with xargs         | find {} -type f -print0 | sort -z | xargs -0 md5sum
find empty files        | find {} -empty
find newer              | find {} -newer {}/text/lines.txt -type f
find with depth         | find {} -depth -maxdepth 2 | sort
find with size          | find {} -size +100k | sort
find execdir            | find {}/tree -name y.json -execdir pwd ';' -execdir cat y.json ';'
du apparent             | du -ab --apparent-size {}/text/lines.txt {}/data/large.bin
cat                     | cat {}/text/lines.txt {}/text/other.txt
cat of a directory      | !1 cat {}/text
cat of nothing          | !1 cat {}/none {}/text/other.txt
cat of numbers          | cat -nA {}/text/other.txt
cat of a redirection    | cat < {}/text/lines.txt
cat through a pipe      | cat {}/data/large.bin | cat | md5sum
cat to a file           | cat {}/data/large.bin > $OUT/copy && cmp $OUT/copy {}/data/large.bin
head and tail           | head -n 3 {}/text/lines.txt; tail -n 3 {}/text/lines.txt; head -c 100 {}/data/large.bin | xxd; tail -c 100 {}/data/large.bin | xxd
head of all but         | head -n -3990 {}/text/lines.txt; head -c -80000 {}/text/lines.txt | wc -c
tail from               | tail -n +3990 {}/text/lines.txt
tail of a redirection   | tail -n 2 < {}/text/lines.txt; tail -c 5 < {}/text/lines.txt
tac                     | tac {}/text/lines.txt | head -n 3
one offset for two readers | (head -c 1; head -c 1; head -n 1) < {}/text/lines.txt
one offset over a subshell | exec 5< {}/text/lines.txt; head -c 6 <&5; (read -r a <&5; echo "$a"); read -r b <&5; echo "$b"
sed leaves the rest     | (sed -n 1q; head -n 1) < {}/text/lines.txt
read loop               | n=0; while read -r a b c; do n=$((n + b)); done < {}/text/lines.txt; echo $n
read from a descriptor  | exec 7< {}/text/other.txt; while read -r -u 7 line; do echo "$line"; done; exec 7<&-
mapfile                 | mapfile -t lines < {}/text/lines.txt; echo ${#lines[@]} "${lines[17]}"
dollar less             | v=$(< {}/text/other.txt); echo "$v"
source                  | echo 'x=5' | cat - {}/text/empty > $OUT/s; . $OUT/s; . {}/text/empty; echo $x
globs                   | cd {} && echo */ te*/*.txt many/1?; echo {}/*/*.[tc]*; echo {}/none*
brace and case          | for f in {}/text/*; do case $f in *lines*) wc -l "$f";; esac; done
redirection to          | %!1 echo x > {}/text/lines.txt
redirection to nothing  | !1 read x < {}/none
wc                      | wc {}/text/lines.txt {}/text/other.txt; wc -c < {}/data/large.bin; wc -l < {}/text/lines.txt
sums                    | cd {} && md5sum text/* data/*; sha256sum data/large.bin; cksum data/large.bin; sum data/large.bin; b2sum data/large.bin
md5sum check            | cd {} && md5sum data/* > $OUT/sums && md5sum -c $OUT/sums
sort                    | sort -t, -k2n {}/data/words.csv | md5sum; sort -r {}/text/other.txt; sort -u < {}/text/lines.txt | wc -l
sort merge and check    | sort -n {}/many/* | tail -n 2; sort -c {}/text/other.txt
uniq, cut, paste, tr    | cut -d, -f2 {}/data/words.csv | head -n 3; paste {}/text/other.txt {}/text/other.txt; tr a-z A-Z < {}/text/other.txt; uniq -c {}/text/other.txt; nl {}/text/other.txt
join and comm           | comm {}/text/other.txt {}/text/other.txt; join {}/text/other.txt {}/text/other.txt
split                   | cd $OUT && split -n 3 {}/data/large.bin && md5sum x*; split -l 1000 {}/text/lines.txt l && wc -l l*
shuf                    | shuf --random-source={}/data/large.bin {}/data/words.csv | md5sum
od, xxd, hexdump        | od -A d -t x1 -j 1000 -N 64 {}/data/large.bin; xxd -s -32 {}/data/large.bin
base64                  | base64 {}/data/large.bin | md5sum
strings                 | strings -n 12 {}/data/large.bin | head
fold, fmt, expand       | fold -w 20 {}/text/lines.txt | tail -n 2; fmt {}/text/other.txt; expand {}/text/other.txt
cmp and diff            | cmp {}/text/lines.txt {}/text/other.txt; diff {}/text/lines.txt {}/text/other.txt | head -n 3; diff -r {}/text {}/text
diff of trees           | cp -r {} $OUT/tree && diff -r {} $OUT/tree && echo same
grep                    | !2 grep -n 'line 399' {}/text/lines.txt; grep -c file {}/text/*; grep -r 'line 77 ' {}; grep -rl a {}/tree | sort; grep x {}/none
grep of a redirection   | grep -m 2 file < {}/text/lines.txt; grep -q file {}/text/lines.txt; echo $?
grep binary             | grep -c abc {}/data/large.bin; grep -a -c . {}/data/large.bin
sed                     | sed -n '5,7p;$p' {}/text/lines.txt; sed 's/line/LINE/;3q' < {}/text/lines.txt
sed in place            | %!4 sed -i s/a/b/ {}/text/other.txt 2>/dev/null
awk                     | awk -F, '{ s += $2 } END { print s, NR }' {}/data/words.csv; awk 'FNR == 2' {}/text/*; awk 'NR == 5' < {}/text/lines.txt
awk getline             | awk 'BEGIN { while ((getline line < "{}/text/other.txt") > 0) print line; "cat {}/text/other.txt" | getline x; print x }'
perl                    | perl -ne '$n += length; END { print "$n\\n" }' {}/text/lines.txt; perl -e 'opendir D, shift; print join ",", sort readdir D' {}/text; perl -e 'open F, "<", shift; seek F, -10, 2; print <F>; print -s F, " ", -e "{}/none" ? 1 : 0, "\\n"' {}/text/lines.txt
perl of a redirection   | perl -e 'print scalar <STDIN>; print sysread(STDIN, $x, 10)' < {}/text/lines.txt
dd                      | dd if={}/data/large.bin bs=1000 skip=77 count=3 2>/dev/null | md5sum; dd if={}/data/large.bin bs=4096 skip=5 iflag=skip_bytes,count_bytes count=10000 status=none | md5sum; dd status=none bs=10 count=2 skip=1 < {}/text/lines.txt
dd direct               | dd if={}/data/large.bin bs=1M iflag=direct status=none | md5sum
dd to                   | %!1 dd if=/dev/zero of={}/new bs=1 count=1 status=none
cp                      | cp {}/data/large.bin $OUT/c && cmp $OUT/c {}/data/large.bin; cp -a {}/text $OUT/t && ls -l $OUT/t | sed /^total/d; cp --reflink=auto --sparse=always {}/data/large.bin $OUT/s && cmp $OUT/s {}/data/large.bin
cp into                 | %!1 cp {}/text/other.txt {}/text/new 2>/dev/null
mv out of               | %!1 mv {}/text/other.txt $OUT/m 2>/dev/null
install                 | install -m 600 {}/text/other.txt $OUT/i && stat -c '%a %s' $OUT/i
ln                      | %!1 ln {}/text/other.txt $OUT/hard 2>/dev/null
symlink into            | %ln -s {}/text $OUT/link && cat $OUT/link/other.txt && ls $OUT/link/ && readlink -f $OUT/link/other.txt && cd $OUT/link && pwd -P
rm                      | %!1 rm -rf {}/text 2>/dev/null
mkdir                   | %mkdir -p {}/text {}/tree/deep; echo $?
touch                   | %!1 touch {}/text/other.txt 2>/dev/null
tar                     | tar cf - --sort=name --mtime=@0 --mode=a=r -C {} text data tree | md5sum; tar cf $OUT/a.tar -C {} . && mkdir $OUT/x && tar xf $OUT/a.tar -C $OUT/x && diff -r $OUT/x {} && echo same
tar with gzip           | tar czf $OUT/a.tgz -C {} tree && tar tzf $OUT/a.tgz | sort
cpio                    | cd {} && find text | sort | cpio -o --quiet -H newc | cpio -t --quiet
rsync                   | rsync -rt {}/ $OUT/r/ && diff -r {} $OUT/r && rsync -rtn --itemize-changes {}/ $OUT/r/ | grep -v '/$'; rsync -rc --stats {}/text/ $OUT/r/text/ | grep 'files transferred'
rsync with attributes   | rsync -aHAX {}/text $OUT/ && ls $OUT/text
gzip                    | gzip -nc {}/data/words.csv | md5sum; gzip -n < {}/data/words.csv | gzip -dc | md5sum
xz, bzip2               | xz -c {}/text/lines.txt | md5sum; bzip2 -c {}/text/lines.txt | md5sum
zstd                    | zstd -q -c {}/data/words.csv | zstd -dc | md5sum; zstd -q -c --no-check < {}/text/lines.txt | md5sum
zip                     | cd {} && find text | sort | zip -q -@ $OUT/z.zip && unzip -p $OUT/z.zip | md5sum
file                    | cd {} && file text/lines.txt data/words.csv tree/z.html tree/deep/y.json text/empty text
openssl                 | openssl dgst -sha1 {}/data/large.bin; openssl enc -base64 -in {}/text/other.txt
realpath                | !1 realpath {}/tree/../text/./lines.txt; readlink -f {}/tree/deep/..; readlink {}/text; basename {}/text; realpath -e {}/none
env -i                  | env -i "$(command -v cat)" {}/text/other.txt
nice and timeout        | timeout 10 nice cat {}/text/other.txt
xargs                   | ls {}/text | xargs -I% -P 2 wc -c "{}/text/%" | sort
tee and process substitution | tee $OUT/t < {}/text/other.txt > /dev/null; diff <(cat {}/text/other.txt) $OUT/t && echo same
here in the background  | cat {}/text/other.txt & wait $!; echo $?
sh                      | sh -c 'read a < {}/text/lines.txt; echo $a; while read -r l; do echo "$l"; done < {}/text/other.txt; cd {}/tree && pwd && cat z.html'
sqlite3                 | sqlite3 :memory: ".import --csv {}/data/words.csv w" "select count(*) from w"
gcc with headers        | echo 'int main(void) { return sizeof(' > $OUT/a.c; cp {}/text/empty $OUT; echo '#include "text/empty"' > $OUT/b.c; echo 'int main(void) { return 0; }' >> $OUT/b.c; gcc -I{} -o $OUT/b $OUT/b.c && $OUT/b; echo $?
git                     | git hash-object {}/data/large.bin; git diff --no-index --stat {}/text/lines.txt {}/text/other.txt | tail -n 1
jq                      | jq .a {}/tree/deep/y.json
python script on it     | python3 {}/tree/deep/er/x.py; cd {}/tree/deep/er && python3 -c 'import x'
python files            | python3 - {} <<'.'
    import os, sys
    r = sys.argv[1]
    print(len(open(r + "/text/lines.txt").read()), open(r + "/data/large.bin", "rb").read(5))
    f = open(r + "/data/large.bin", "rb"); f.seek(-7, 2); print(f.read(), f.tell()); f.seek(1000003); b = bytearray(5000); print(f.readinto(b), hash(bytes(b[:0])), sum(b))
    fd = os.open(r + "/data/large.bin", os.O_RDONLY); print(sum(os.pread(fd, 999, 12345)), os.lseek(fd, 0, os.SEEK_END), os.read(fd, 1))
    print(sum(os.preadv(fd, [bytearray(10), bytearray(20)], 5) for _ in range(3)), os.get_blocking(fd), os.fstat(fd).st_size)
    print(sorted((e.name, e.is_dir(), e.is_file(), e.stat().st_size if e.is_file() else 0) for e in os.scandir(r + "/text")))
    print(sorted((a[len(r):], sorted(b), len(c)) for a, b, c in os.walk(r)))
    print(sorted((a[len(r):], len(b), len(c)) for a, b, c, d in os.fwalk(r)))
    for name in ("none", "text/lines.txt/x", "text"):
        for do in (open, os.listdir, os.stat, os.rmdir, os.listxattr):
            try: do(r + "/" + name); print(name, do.__name__, "well")
            except OSError as e: print(name, do.__name__ , e.errno if do is not os.rmdir else "")
    .
python shutil and pathlib | python3 - {} <<'.'
    import filecmp, glob, hashlib, mmap, os, pathlib, shutil, sys, tarfile, zipfile
    r, out = sys.argv[1], os.environ["OUT"]
    shutil.copytree(r, out + "/t"); c = filecmp.dircmp(r + "/text", out + "/t/text"); print(sorted(c.same_files), c.diff_files)
    shutil.copyfile(r + "/data/large.bin", out + "/c"); print(filecmp.cmp(r + "/data/large.bin", out + "/c", shallow=False))
    print(len(list(pathlib.Path(r).rglob("*"))), sorted(glob.glob(r + "/**/*.txt", recursive=True)))
    with open(r + "/data/large.bin", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m: print(hashlib.md5(m).hexdigest(), m[100:110], m.find(b"zz"), len(m), m.size())
    with open(r + "/data/large.bin", "rb") as f, mmap.mmap(f.fileno(), 8192, access=mmap.ACCESS_COPY, offset=4096) as m: m[0:3] = b"abc"; print(m[:8])
    with tarfile.open(out + "/a.tar", "w") as t: t.add(r + "/tree", "tree"); print(sorted(t.getnames()))
    print(os.path.realpath(r + "/tree/../text") == r + "/text", os.path.samefile(r + "/text", r + "/tree/../text"))
    os.chdir(r + "/tree"); print(os.getcwd(), sorted(os.listdir("deep")), open("z.html").read(), os.path.abspath(".."))
    .
python processes        | python3 - {} <<'.'
    import multiprocessing, os, subprocess, sys
    r = sys.argv[1]
    f = open(r + "/text/lines.txt", "rb", buffering=0); f.read(7)
    print(subprocess.run(["head", "-n", "1"], stdin=f, capture_output=True).stdout, f.read(4))
    print(subprocess.run(["cat", "text/other.txt"], cwd=r, capture_output=True, env=dict()).stdout)
    print(subprocess.check_output(["wc", "-c"], stdin=open(r + "/data/large.bin")), os.popen("cat " + r + "/text/other.txt").read(), os.system("test -f " + r + "/text/other.txt"))
    def size(n): return len(open(r + "/many/%d" % n).read())
    with multiprocessing.get_context("fork").Pool(4) as p: print(sum(p.map(size, range(300))))
    pid = os.fork()
    if pid == 0: f.seek(100); os._exit(0)
    os.waitpid(pid, 0); print(f.tell())
    r2, w = os.pipe(); os.dup2(f.fileno(), 20); f.close(); print(os.read(20, 9))
    .
python threads          | python3 - {} <<'.'
    import concurrent.futures, hashlib, sys
    r = sys.argv[1]
    def part(i):
        with open(r + "/data/large.bin", "rb") as f: f.seek(i * 1000); return hashlib.md5(f.read(50000)).hexdigest()
    with concurrent.futures.ThreadPoolExecutor(8) as pool: print(hashlib.md5("".join(pool.map(part, range(400))).encode()).hexdigest())
    .
python csv and codecs   | python3 -c 'import csv, codecs, fileinput, linecache, sys; r = sys.argv[1]; print(sum(int(row[1]) for row in csv.reader(open(r + "/data/words.csv")))); print(linecache.getline(r + "/text/lines.txt", 7), list(codecs.open(r + "/text/other.txt", encoding="utf-8")), next(fileinput.input(r + "/text/other.txt")))' {}
python asyncio and selectors | python3 -c 'import asyncio, select, sys; f = open(sys.argv[1] + "/text/lines.txt"); print([len(x) for x in select.select([f], [], [], 0)]); p = select.poll(); p.register(f, select.POLLIN); print(p.poll(0)[0][1])' {}
python numpy            | python3 -c 'import sys, numpy as n; p = sys.argv[1] + "/data/large.bin"; a = n.fromfile(p, "u1"); m = n.memmap(p, "u1", "r"); print(a.sum(), m.sum(), n.array_equal(a, m), n.fromfile(p, "<u4", 100, offset=4000).sum(), n.loadtxt(sys.argv[1] + "/data/words.csv", delimiter=",").sum())' {}
"""


def parse(text):
    tests, lines = [], text.strip("\n").split("\n")
    for line in lines:
        if line.startswith("    "):
            tests[-1][1] += "\n" + line[4:]
        elif line:
            name, command = line.split("|", 1)
            tests.append([name.strip(), command.strip()])
    return tests


def needed(command):
    """What has to be installed: the words at the starts of commands that are not of bash."""
    known = ("sqlite3", "gcc", "git", "jq", "zip", "unzip", "zstd", "rsync", "file", "xxd", "cpio",
             "openssl", "perl", "python3", "xz", "bzip2", "strings", "b2sum")
    words = command.replace("|", " ").replace(";", " ").replace("(", " ").split()
    return [word for word in words if word in known]


def as_test(name, command):
    read_only, line = command.startswith("%"), command.lstrip("%")
    status = 0
    if line.startswith("!"):
        status, line = line[1:].split(" ", 1)

    def run(trees):
        missing = [word for word in needed(line) if not shutil.which(word)]
        if missing:
            raise Skip(f"no {missing[0]}")
        if "numpy" in line and not has_numpy():
            raise Skip("no numpy")
        if read_only and not trees.can_bind:
            raise Skip("no mount namespaces here")
        trees.same(line, int(status), read_only)

    run.__name__ = name
    return run


def has_numpy():
    import importlib.util
    return importlib.util.find_spec("numpy") is not None


if __name__ == "__main__":
    chosen = [as_test(*test) for test in parse(COMMANDS) if not sys.argv[1:] or sys.argv[1] in test[0]]
    with libshim.trees() as both:
        run_tests(chosen, both)
