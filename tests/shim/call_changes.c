/* SPDX-License-Identifier: MIT */
/* Every change of a name or an attribute: argument 1 is a read-only tree's root. */
#include "say.h"

#include "by_name.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static void names(const char *outside)
{
	char other[4096];

	SAY(mkdir("new", 0777));
	SAY(mkdir("text", 0777));
	SAY(mkdir("text/", 0777));
	SAY(mkdir(".", 0777));
	SAY(mkdir("text/lines.txt", 0777));
	SAY(mkdir("none/new", 0777));
	SAY(mkdir("text/lines.txt/new", 0777));
	SAY(mkdirat(AT_FDCWD, "new/", 0777));
	SAY(mkdir("", 0777));
	SAY(rmdir("text"));
	SAY(rmdir("none/x"));
	SAY(rmdir("text/lines.txt/x"));
	SAY(unlink("text/lines.txt"));
	SAY(unlink("none/x"));
	SAY(unlinkat(AT_FDCWD, "text", AT_REMOVEDIR));
	SAY(remove("text/lines.txt"));
	SAY(mknod("new", S_IFREG | 0600, 0));
	SAY(mknod("text", S_IFREG | 0600, 0));
	SAY(mknod("new/", S_IFREG | 0600, 0));
	SAY(mkfifo("new", 0600));
	SAY(mkfifo("text/lines.txt", 0600));
	SAY(symlink("x", "new"));
	SAY(symlink("x", "text"));
	SAY(symlink("x", "none/new"));
	SAY(symlink("x", "new/"));
	SAY(rename("text", "new"));
	SAY(rename("text/lines.txt", "text/other.txt"));
	SAY(rename("none/x", "new"));
	SAY(rename("text/lines.txt", "none/x"));
	snprintf(other, sizeof(other), "%s/moved", outside);
	SAY(rename("text/lines.txt", other));
	SAY(link("text/lines.txt", "new"));
	SAY(link("text/lines.txt", "text/other.txt"));
	SAY(link("none", "new"));
	SAY(link("text/lines.txt", other));
	close(creat(other, 0600));
	SAY(rename(other, "new"));
	SAY(renameat2(AT_FDCWD, other, AT_FDCWD, "text/lines.txt", 1));
	SAY(link(other, "new"));
	SAY(link("text/lines.txt", other));
	SAY(access(other, F_OK));
}

/* Each mode that opens to write; none makes a file. */
static void streams(void)
{
	static const char *const modes[] = { "w",   "wb", "w+", "wx",  "we", "a",
					     "a+b", "ax", "r+", "r+b", "r+e" };

	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		dprintf(1, "   %s\n", modes[i]);
		SAY_PTR(fopen("text/lines.txt", modes[i]));
		SAY_PTR(fopen("new", modes[i]));
		SAY_PTR(fopen("text", modes[i]));
		SAY_PTR(freopen("new", modes[i], fopen("text/lines.txt", "r")));
		SAY_PTR(freopen("text/lines.txt", modes[i], fopen("/dev/null", "r")));
	}
	SAY_PTR(freopen("new", "w", stdin));
}

static void files(void)
{
	char name[64];

	SAY(open("new", O_RDWR | O_CREAT, 0600));
	SAY(open("text/lines.txt", O_RDWR));
	SAY(open("text/lines.txt", O_WRONLY | O_TRUNC));
	SAY(open("text/lines.txt", O_RDONLY | O_CREAT | O_EXCL, 0600));
	SAY(open("text/lines.txt", O_RDONLY | O_CREAT, 0600) > 0);
	SAY(creat("text", 0600));
	SAY(truncate("text/lines.txt", 0));
	SAY(truncate("text", 0));
	SAY(truncate("none", 0));
	SAY(truncate("text/lines.txt", -1));
	SAY(mkstemp(strcpy(name, "tmpXXXXXX")));
	SAY(mkstemp(strcpy(name, "tmp")));
	SAY(mkstemp(strcpy(name, "none/tmpXXXXXX")));
	SAY(mkostemps(strcpy(name, "tmpXXXXXX.txt"), 4, O_CLOEXEC));
	SAY(mkostemps(strcpy(name, "tmpXXXXX.txt"), 4, 0));
	SAY_PTR(mkdtemp(strcpy(name, "text/XXXXXX")));
	streams();
}

typedef int xmknod_fn(int, const char *, mode_t, dev_t *);
typedef int xmknodat_fn(int, int, const char *, mode_t, dev_t *);

/* The names that a program does not spell itself, and those of a directory's descriptor. */
static void other_names(void)
{
	int dir = open("text", O_RDONLY | O_DIRECTORY);
	xmknodat_fn *mknod_at = NULL;
	xmknod_fn *mknod_old = NULL;
	char name[64];
	dev_t dev = 0;

	SAY(renameat(dir, "lines.txt", dir, "new"));
	SAY(renameat(dir, "none", dir, "new"));
	SAY(linkat(dir, "lines.txt", dir, "new", 0));
	SAY(linkat(dir, "none", dir, "new", 0));
	SAY(symlinkat("x", dir, "new"));
	SAY(mknodat(dir, "new", S_IFREG | 0600, 0));
	SAY(mknodat(dir, "lines.txt", S_IFREG | 0600, 0));
	SAY(BY_NAME(__xmknod, mknod_old)(0, "new", S_IFREG | 0600, &dev));
	SAY(BY_NAME(__xmknodat, mknod_at)(0, dir, "lines.txt", S_IFREG | 0600, &dev));
	SAY(mkfifoat(dir, "new", 0600));
	SAY(mkfifoat(dir, "lines.txt", 0600));
	SAY(BY_NAME(mkstemp64, mkstemp)(strcpy(name, "tmpXXXXXX")));
	SAY(mkostemp(strcpy(name, "tmpXXXXXX"), O_CLOEXEC));
	SAY(BY_NAME(mkostemp64, mkostemp)(strcpy(name, "none/tmpXXXXXX"), 0));
	SAY(mkstemps(strcpy(name, "tmpXXXXXX.txt"), 4));
	SAY(BY_NAME(mkstemps64, mkstemps)(strcpy(name, "tmpXXXXXX.txt"), 40));
	SAY(BY_NAME(mkostemps64, mkostemps)(strcpy(name, "text/XXXXXX.c"), 2, 0));
	SAY(BY_NAME(truncate64, truncate)("text/lines.txt", 5));
	SAY(BY_NAME(creat64, creat)("text/lines.txt", 0600));
	SAY(lchmod("text/lines.txt", 0600));
	SAY(lchmod("none", 0600));
	SAY(llistxattr("text/lines.txt", name, sizeof(name)));
	SAY(lsetxattr("text/lines.txt", "user.x", "1", 1, 0));
	SAY(lremovexattr("text/lines.txt", "user.x"));
	SAY(fremovexattr(dir, "user.x"));
}

static void attributes(void)
{
	struct timespec omit[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };
	struct timespec now[2] = { { 0, UTIME_NOW }, { 5, 0 } }, bad[2] = { { 0, -1 }, { 0, 0 } };
	struct timeval tv[2] = { { 1, 1 }, { 2, 2 } };
	int fd = open("text/lines.txt", O_RDONLY), dir = open("text", O_RDONLY);

	SAY(chmod("text", 0777));
	SAY(chmod("none", 0777));
	SAY(fchmod(fd, 0777));
	SAY(fchmodat(dir, "lines.txt", 0777, 0));
	SAY(fchmodat(dir, "none", 0777, 0));
	SAY(chown("text", 0, 0));
	SAY(lchown("text/lines.txt", 0, 0));
	SAY(fchown(fd, 0, 0));
	SAY(fchownat(dir, "lines.txt", 0, 0, AT_SYMLINK_NOFOLLOW));
	SAY(fchownat(fd, "", 0, 0, AT_EMPTY_PATH));
	SAY(utime("text/lines.txt", NULL));
	SAY(utimes("text/lines.txt", tv));
	SAY(utimes("none", tv));
	SAY(lutimes("text/lines.txt", tv));
	SAY(futimes(fd, tv));
	SAY(futimesat(dir, "lines.txt", tv));
	SAY(utimensat(dir, "lines.txt", now, 0));
	SAY(utimensat(dir, "lines.txt", omit, 0));
	SAY(utimensat(dir, "none", omit, 0));
	SAY(utimensat(dir, "lines.txt", bad, 0));
	SAY(futimens(fd, now));
	SAY(futimens(fd, omit));
	SAY(setxattr("text/lines.txt", "user.x", "1", 1, 0));
	SAY(fsetxattr(fd, "user.x", "1", 1, 0));
	SAY(removexattr("text/lines.txt", "user.x"));
	SAY(setxattr("none", "user.x", "1", 1, 0));
	SAY(access("text", W_OK));
	SAY(faccessat(dir, "lines.txt", W_OK, 0));
	SAY(write(fd, "x", 1));
	SAY(ftruncate(fd, 0));
	SAY(posix_fallocate(fd, 0, 1));
	SAY(fsync(fd));
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	names(getenv("OUT"));
	files();
	other_names();
	attributes();
	return 0;
}
