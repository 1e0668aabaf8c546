/* SPDX-License-Identifier: MIT */
/* call_files ROOT: what open, read, seek, stat, access, paths and descriptors say. */
#include "say.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char buf[1 << 16];
static const char *volatile no_path; /* NULL, where gcc does not see it */

static void opening(void)
{
	int dir = open("text", O_RDONLY | O_DIRECTORY);
	int file = open("text/lines.txt", O_RDONLY);

	SAY(dir >= 0);
	SAY(open("text/none", O_RDONLY));
	SAY(open("text/lines.txt/x", O_RDONLY));
	SAY(open("text/lines.txt/", O_RDONLY));
	SAY(open("text/lines.txt/.", O_RDONLY));
	SAY(open("text/lines.txt", O_RDONLY | O_DIRECTORY));
	SAY(open("text/lines.txt", O_RDONLY | O_CREAT | O_EXCL, 0644));
	SAY(open("text", O_WRONLY));
	SAY(open("text", O_RDONLY | O_CREAT, 0644));
	SAY(open("", O_RDONLY));
	SAY(open(no_path, O_RDONLY));
	SAY(open("none/none", O_RDONLY));
	SAY(open("none/../text/lines.txt", O_RDONLY));
	SAY(open("text/../text/./lines.txt", O_RDONLY) >= 0);
	SAY(open("text//lines.txt", O_RDONLY | O_NOFOLLOW) >= 0);
	SAY(openat(dir, "lines.txt", O_RDONLY) >= 0);
	SAY(openat(dir, "../text/lines.txt", O_RDONLY) >= 0);
	SAY(openat(dir, "none", O_RDONLY));
	SAY(openat(file, "lines.txt", O_RDONLY));
	SAY(openat(12345, "lines.txt", O_RDONLY));
	memset(buf, 'a', 5000);
	buf[5000] = '\0';
	SAY(open(buf, O_RDONLY));
	SAY(syscall(SYS_openat, dir, "lines.txt", O_RDONLY) >= 0);
	SAY(open("text/lines.txt", O_RDONLY | O_CREAT, 0644) >= 0);
}

static void reading(void)
{
	int fd = open("data/large.bin", O_RDONLY);
	int dir = open("data", O_RDONLY);
	int path = open("data/large.bin", O_PATH);
	struct iovec iov[3] = { { buf, 100 }, { buf + 100, 0 }, { buf + 100, 1000 } };
	volatile int many = 2000; /* more than gcc may know of */

	SAY(read(fd, buf, 1000));
	SAY(say_sum(buf, 1000));
	SAY(read(fd, buf, 0));
	SAY(pread(fd, buf, 1000, 3145728));
	SAY(say_sum(buf, 1000));
	SAY(pread(fd, buf, 1000, 3150049 - 10));
	SAY(pread(fd, buf, 1000, 3150049));
	SAY(pread(fd, buf, 1000, 1LL << 40));
	SAY(pread(fd, buf, 1000, -1));
	SAY(readv(fd, iov, 3));
	SAY(say_sum(buf, 1100));
	SAY(preadv(fd, iov, 3, 1048000));
	SAY(say_sum(buf, 1100));
	SAY(preadv(fd, iov, 3, -2));
	SAY(preadv2(fd, iov, 3, -1, 0));
	SAY(preadv2(fd, iov, 3, 0, 0x4000));
	SAY(readv(fd, iov, -many));
	SAY(readv(fd, iov, many));
	SAY(readv(fd, iov, 0));
	SAY(read(dir, buf, 10));
	SAY(pread(dir, buf, 10, 0));
	SAY(read(path, buf, 10));
	SAY(lseek(path, 0, SEEK_SET));
	SAY(write(fd, "x", 1));
	SAY(pwrite(fd, "x", 1, 0));
	SAY(writev(fd, iov, 1));
	SAY(ftruncate(fd, 0));
	SAY(fallocate(fd, 0, 0, 10));
	SAY(posix_fallocate(fd, 0, 10));
	SAY(fsync(fd));
	SAY(fdatasync(fd));
	SAY(syncfs(fd));
	SAY(syscall(SYS_pread64, fd, buf, 50, 7));
	SAY(say_sum(buf, 50));
}

/* Where nothing can be: an error, not a crash; what stands before it in a vector is read. */
static void reading_to_nowhere(void)
{
	int fd = open("text/other.txt", O_RDONLY), dir = open("text", O_RDONLY);
	char *volatile null = NULL, *volatile low = (char *)100, *volatile high = (char *)-4096;
	struct iovec iov[2] = { { buf, 5 }, { null, 5 } };
	struct stat st;

	SAY(read(fd, null, 10));
	SAY(read(fd, low, 10));
	SAY(read(fd, high, 10));
	SAY(read(fd, null, 0));
	SAY(read(dir, null, 10));
	SAY(pread(fd, null, 10, 3));
	SAY(pread(fd, low, 10, 1000));
	SAY(pread(fd, high, 10, 1000));
	SAY(pread(fd, null, 10, -3));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(readv(fd, iov, 2));
	SAY(say_sum(buf, 5));
	SAY(readv(fd, iov + 1, 1));
	SAY(lseek(fd, 0, SEEK_CUR));
	iov[1].iov_base = high;
	SAY(preadv(fd, iov, 2, 0));
	SAY(preadv(fd, (struct iovec *)low, 2, 0));
	SAY(lseek(fd, 0, SEEK_END));
	SAY(read(fd, null, 10));
	SAY(stat("text/other.txt", (struct stat *)low));
	SAY(fstat(fd, (struct stat *)high));
	SAY(fstat(fd, &st));
	SAY(open(low, O_RDONLY));
	SAY(open(high, O_RDONLY));
}

static void seeking(void)
{
	int fd = open("data/large.bin", O_RDONLY);

	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(lseek(fd, -10, SEEK_END));
	SAY(lseek(fd, 5, SEEK_CUR));
	SAY(lseek(fd, -1, SEEK_SET));
	SAY(lseek(fd, -99999999, SEEK_CUR));
	SAY(lseek(fd, 1LL << 40, SEEK_SET));
	SAY(read(fd, buf, 10));
	SAY(lseek(fd, LLONG_MAX, SEEK_CUR));
	SAY(lseek(fd, 0, 17));
	SAY(lseek(fd, 100, SEEK_DATA));
	SAY(lseek(fd, 100, SEEK_HOLE));
	SAY(lseek(fd, 1LL << 40, SEEK_DATA));
	SAY(lseek(fd, 3150049, SEEK_HOLE));
	SAY(lseek(fd, -1, SEEK_DATA));
}

static void say_stat(const struct stat *st)
{
	dprintf(1, "   type %o size %lld mtime %lld\n", st->st_mode & S_IFMT,
		S_ISDIR(st->st_mode) ? 0LL : (long long)st->st_size,
		S_ISDIR(st->st_mode) ? 0LL : (long long)st->st_mtime);
}

static void attributes(void)
{
	int fd = open("text/lines.txt", O_RDONLY);
	struct statvfs vfs;
	struct statx stx;
	struct stat st;
	struct stat other;

	SAY(stat("text/lines.txt", &st));
	say_stat(&st);
	SAY(lstat("text/lines.txt", &other));
	SAY(st.st_ino == other.st_ino && st.st_dev == other.st_dev);
	SAY(fstat(fd, &other));
	SAY(st.st_ino == other.st_ino && st.st_dev == other.st_dev);
	SAY(fstatat(AT_FDCWD, "text", &st, AT_SYMLINK_NOFOLLOW));
	say_stat(&st);
	SAY(fstatat(fd, "", &st, AT_EMPTY_PATH));
	say_stat(&st);
	SAY(fstatat(fd, "", &st, 0));
	SAY(fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
	say_stat(&st);
	SAY(stat("text/", &st));
	SAY(stat("text/lines.txt/", &st));
	SAY(stat("text/none", &st));
	SAY(stat("", &st));
	SAY(stat(no_path, &st));
	SAY(stat("text/empty", &st));
	say_stat(&st);
	SAY(statx(AT_FDCWD, "text/lines.txt", 0, STATX_BASIC_STATS, &stx));
	SAY(stx.stx_size);
	SAY(stx.stx_ino == other.st_ino);
	SAY(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	SAY(stx.stx_size);
	SAY(statx(AT_FDCWD, "none", 0, STATX_BASIC_STATS, &stx));
	SAY(access("text/lines.txt", R_OK));
	SAY(access("text", R_OK | X_OK));
	SAY(access("text/none", F_OK));
	SAY(access("text/lines.txt", X_OK));
	SAY(access("text/lines.txt", 64));
	SAY(faccessat(AT_FDCWD, "text/lines.txt", R_OK, AT_EACCESS));
	SAY(euidaccess("text/lines.txt", R_OK));
	SAY(readlink("text/lines.txt", buf, 10));
	SAY(readlink("text/none", buf, 10));
	SAY(statvfs("text", &vfs));
	SAY(fpathconf(fd, _PC_NAME_MAX));
	SAY(pathconf("text/none", _PC_NAME_MAX));
}

static void descriptors(void)
{
	int fd = open("text/lines.txt", O_RDONLY | O_NONBLOCK);
	struct flock lock = { .l_type = F_RDLCK };
	int copy;
	int left;

	SAY(read(fd, buf, 5));
	copy = dup(fd);
	SAY(read(copy, buf, 5));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(dup2(fd, 200));
	SAY(dup2(fd, fd) == fd);
	SAY(dup3(fd, fd, 0));
	SAY(dup3(fd, 201, O_CLOEXEC));
	SAY(fcntl(201, F_GETFD));
	SAY(fcntl(200, F_GETFD));
	SAY(fcntl(fd, F_DUPFD, 300));
	SAY(fcntl(fd, F_DUPFD_CLOEXEC, 301));
	SAY(lseek(300, 0, SEEK_CUR));
	SAY(fcntl(fd, F_GETFL));
	SAY(fcntl(fd, F_SETFL, O_NOATIME));
	SAY(fcntl(200, F_GETFL));
	SAY(fcntl(fd, F_SETLK, &lock));
	SAY(fcntl(fd, F_GETLK, &lock));
	lock.l_type = F_WRLCK;
	SAY(fcntl(fd, F_SETLK, &lock));
	SAY(flock(fd, LOCK_SH));
	SAY(ioctl(fd, FIOCLEX));
	SAY(fcntl(fd, F_GETFD));
	SAY(ioctl(fd, FIONREAD, &left));
	SAY(left);
	SAY(isatty(fd));
	SAY(ttyname(fd) == NULL);
	SAY(ioctl(fd, TCGETS, buf));
	SAY(close(200));
	SAY(read(200, buf, 1));
	SAY(close(200));
	SAY(read(300, buf, 5));
	SAY(dup2(open("/dev/null", O_RDONLY), 300));
	SAY(read(300, buf, 5));
	SAY(close_range(301, 400, 0));
	SAY(read(301, buf, 5));
	SAY(read(copy, buf, 5));
	closefrom(3);
	SAY(read(copy, buf, 5));
	SAY(open("text/lines.txt", O_RDONLY));
}

static void working_directory(const char *root)
{
	SAY(chdir("text"));
	SAY_PTR(getcwd(buf, sizeof(buf)));
	dprintf(1, "   %s\n", buf);
	SAY_PTR(getcwd(buf, 3));
	SAY_PTR(realpath("../data/large.bin", buf));
	dprintf(1, "   %s\n", buf);
	SAY_PTR(realpath("none", NULL));
	SAY_PTR(realpath("lines.txt/x", NULL));
	SAY_PTR(realpath("none/..", NULL));
	SAY(chdir("lines.txt"));
	SAY(chdir("none"));
	SAY(access("../text/lines.txt", F_OK));
	SAY(access("../../../../../../../../../../../../etc/passwd", F_OK));
	SAY(fchdir(open("../tree", O_RDONLY)));
	dprintf(1, "   %s\n", getcwd(buf, sizeof(buf)));
	SAY(fchdir(open("z.html", O_RDONLY)));
	SAY(chdir("/"));
	dprintf(1, "   %s\n", getcwd(buf, sizeof(buf)));
	SAY(chdir(root));
	SAY(access("text", F_OK));
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) < 0)
		return 2;
	opening();
	reading();
	reading_to_nowhere();
	seeking();
	attributes();
	working_directory(argv[1]);
	descriptors();
	return 0;
}
