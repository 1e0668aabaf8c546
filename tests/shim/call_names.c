/* SPDX-License-Identifier: MIT */
/*
 * call_names ROOT: the names of libc that a program written in C does not spell
 * itself: those of large files, of the fortified and old ABIs, of libc's other parts.
 * Each must answer as the plain one does.
 */
#include "say.h"

#include "by_name.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static char buf[1 << 16];

/* What was read, and where that leaves the position. */
static void said(int fd, long n)
{
	dprintf(1, "   %ld bytes, sum %lld, at %ld\n", n, say_sum(buf, n > 0 ? n : 0),
		(long)lseek(fd, 0, SEEK_CUR));
	memset(buf, 0, sizeof(buf));
}

static ssize_t like_read_chk(int fd, void *buffer, size_t len, size_t room)
{
	return len <= room ? read(fd, buffer, len) : -1;
}

typedef ssize_t pread_chk_fn(int, void *, size_t, off_t, size_t);

static void reading(int fd)
{
	struct iovec iov[2] = { { buf, 100 }, { buf + 100, 1000 } };
	pread_chk_fn *none = NULL;

	said(fd, SAY(BY_NAME(__read, read)(fd, buf, 1000)));
	said(fd, SAY(BY_NAME(__read_nocancel, read)(fd, buf, 999)));
	said(fd, SAY(BY_NAME(__read_chk, like_read_chk)(fd, buf, 998, sizeof(buf))));
	said(fd, SAY(BY_NAME(pread64, pread)(fd, buf, 900, 70)));
	said(fd, SAY(BY_NAME(__pread64, pread)(fd, buf, 901, 71)));
	said(fd, SAY(BY_NAME(__pread64_nocancel, pread)(fd, buf, 902, 72)));
	said(fd, SAY(BY_NAME(__pread_chk, none)(fd, buf, 903, 73, sizeof(buf))));
	said(fd, SAY(BY_NAME(__pread64_chk, none)(fd, buf, 904, 74, sizeof(buf))));
	said(fd, SAY(BY_NAME(__pread64_chk, none)(fd, buf, 904, -1, sizeof(buf))));
	said(fd, SAY(BY_NAME(preadv64, preadv)(fd, iov, 2, 1 << 20)));
	said(fd, SAY(BY_NAME(preadv64v2, preadv2)(fd, iov, 2, -1, 0)));
	said(fd, SAY(BY_NAME(preadv64v2, preadv2)(fd, iov, 2, 5, 0)));
	SAY(BY_NAME(__lseek, lseek)(fd, -5, SEEK_END));
	SAY(BY_NAME(llseek, lseek)(fd, 5, SEEK_SET));
	SAY(BY_NAME(lseek64, lseek)(fd, 1LL << 40, SEEK_CUR));
	SAY(lseek(fd, 100, SEEK_SET));
}

/* Too much for its room: libc ends the program. */
static void overrun(int fd)
{
	int status = 0;

	if (fork() == 0) {
		close(2);
		signal(SIGABRT, SIG_DFL);
		BY_NAME(__read_chk, like_read_chk)(fd, buf, 100, 99);
		_exit(0);
	}
	wait(&status);
	SAY(WIFSIGNALED(status) ? WTERMSIG(status) : -1);
}

static void opened(int fd)
{
	dprintf(1, "   reads %ld, flags %x\n", (long)read(fd, buf, 10),
		fcntl(fd, F_GETFL) & ~O_LARGEFILE);
	close(fd);
}

static int like_open_2(const char *path, int flags)
{
	return open(path, flags);
}

static int like_openat_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags);
}

static void opening(int dir)
{
	opened(BY_NAME(__open, open)("text/lines.txt", O_RDONLY));
	opened(BY_NAME(open64, open)("text/lines.txt", O_RDONLY));
	opened(BY_NAME(__open64, open)("text/lines.txt", O_RDONLY | O_NONBLOCK));
	opened(BY_NAME(__open_nocancel, open)("text/lines.txt", O_RDONLY));
	opened(BY_NAME(__open64_nocancel, open)("text/lines.txt", O_RDONLY));
	opened(BY_NAME(openat64, openat)(dir, "lines.txt", O_RDONLY));
	opened(BY_NAME(__open_2, like_open_2)("text/lines.txt", O_RDONLY));
	opened(BY_NAME(__open64_2, like_open_2)("text/lines.txt", O_RDONLY));
	opened(BY_NAME(__openat_2, like_openat_2)(dir, "lines.txt", O_RDONLY));
	opened(BY_NAME(__openat64_2, like_openat_2)(dir, "lines.txt", O_RDONLY));
	SAY(BY_NAME(__open_2, like_open_2)("text/none", O_RDONLY));
	SAY(BY_NAME(__openat64_2, like_openat_2)(dir, "none", O_RDONLY));
	SAY(BY_NAME(creat64, creat)("text/none/x", 0600));
	SAY(BY_NAME(__close, close)(open("text/lines.txt", O_RDONLY)));
	SAY(BY_NAME(__close_nocancel, close)(open("text/lines.txt", O_RDONLY)));
	SAY(BY_NAME(__close, close)(997));
}

static int like_openat2(int dir, const char *path, const struct open_how *how, size_t size)
{
	return (int)syscall(SYS_openat2, dir, path, how, size);
}

static void opening_how(int dir)
{
	struct open_how how = { .flags = O_RDONLY };

	opened(BY_NAME(openat2, like_openat2)(dir, "lines.txt", &how, sizeof(how)));
	SAY(BY_NAME(openat2, like_openat2)(dir, "none", &how, sizeof(how)));
	SAY(BY_NAME(openat2, like_openat2)(dir, "lines.txt", &how, 3));
	opened((int)syscall(SYS_openat2, dir, "../data/words.csv", &how, sizeof(how)));
	how.resolve = RESOLVE_BENEATH;
	opened(BY_NAME(openat2, like_openat2)(dir, "lines.txt", &how, sizeof(how)));
	opened(BY_NAME(openat2, like_openat2)(AT_FDCWD, "text/../text/lines.txt", &how,
					      sizeof(how)));
	SAY(BY_NAME(openat2, like_openat2)(dir, "../data/words.csv", &how, sizeof(how)));
	SAY(BY_NAME(openat2, like_openat2)(dir, "/etc/passwd", &how, sizeof(how)));
	how.flags = O_RDWR | O_CREAT | O_EXCL;
	SAY(BY_NAME(openat2, like_openat2)(dir, "lines.txt", &how, sizeof(how)));
}

typedef int xstat_fn(int, const char *, struct stat *);
typedef int fxstat_fn(int, int, struct stat *);
typedef int fxstatat_fn(int, int, const char *, struct stat *, int);

static void of_stat(const struct stat *st)
{
	dprintf(1, "   type %o size %lld mtime %lld\n", st->st_mode & S_IFMT,
		(long long)st->st_size, (long long)st->st_mtime);
}

static void old_attributes(int fd, int dir)
{
	const int version = sizeof(long) == 8 ? 1 : 3;
	xstat_fn *by_path = NULL;
	fxstat_fn *by_fd = NULL;
	fxstatat_fn *at = NULL;
	struct stat st;

	SAY(BY_NAME(__xstat, by_path)(version, "text/lines.txt", &st));
	of_stat(&st);
	SAY(BY_NAME(__xstat64, by_path)(version, "text/none", &st));
	SAY(BY_NAME(__xstat64, by_path)(99, "text/lines.txt", &st));
	SAY(BY_NAME(__lxstat, by_path)(version, "text/empty", &st));
	of_stat(&st);
	SAY(BY_NAME(__lxstat64, by_path)(version, "text/lines.txt", &st));
	of_stat(&st);
	SAY(BY_NAME(__fxstat, by_fd)(version, fd, &st));
	of_stat(&st);
	SAY(BY_NAME(__fxstat64, by_fd)(version, fd, &st));
	of_stat(&st);
	SAY(BY_NAME(__fxstat64, by_fd)(version, 997, &st));
	SAY(BY_NAME(__fxstatat, at)(version, dir, "lines.txt", &st, 0));
	of_stat(&st);
	SAY(BY_NAME(__fxstatat64, at)(version, dir, "none", &st, 0));
	SAY(BY_NAME(__fxstatat64, at)(version, dir, "lines.txt", &st, AT_SYMLINK_NOFOLLOW));
	of_stat(&st);
	SAY(BY_NAME(__fstat64, fstat)(fd, &st));
	of_stat(&st);
	SAY(BY_NAME(lstat64, lstat)("text/empty", &st));
	of_stat(&st);
	SAY(BY_NAME(fstat64, fstat)(fd, &st));
	of_stat(&st);
	SAY(BY_NAME(fstatat64, fstatat)(dir, "lines.txt", &st, 0));
	of_stat(&st);
}

static void file_systems(int fd)
{
	struct statvfs vfs;
	struct statfs fs;
	struct stat st;

	SAY(BY_NAME(statfs64, statfs)("text", &fs));
	SAY(fs.f_bsize > 0 && fs.f_blocks > 0);
	SAY(BY_NAME(__statfs, statfs)("text/none", &fs));
	SAY(BY_NAME(fstatfs64, fstatfs)(fd, &fs));
	SAY(fs.f_namelen);
	SAY(fstatfs(fd, &fs));
	SAY(fs.f_namelen);
	SAY(BY_NAME(statvfs64, statvfs)("text", &vfs));
	SAY(vfs.f_namemax);
	SAY(fstatvfs(fd, &vfs));
	SAY(vfs.f_namemax);
	SAY(BY_NAME(fstatvfs64, fstatvfs)(fd, &vfs));
	SAY(vfs.f_frsize > 0);
	SAY(fstatvfs(997, &vfs));
	SAY(isfdtype(fd, S_IFREG));
	SAY(isfdtype(fd, S_IFSOCK));
	SAY(isfdtype(997, S_IFREG));
	SAY(fstat(fd, &st));
}

static int like_name_to_handle_at(int dir, const char *path, void *handle, int *mount, int flags)
{
	return (int)syscall(SYS_name_to_handle_at, dir, path, handle, mount, flags);
}

typedef int tty_chk_fn(int, char *, size_t, size_t);

static void descriptors(int fd)
{
	struct { /* struct file_handle with no room: EOVERFLOW on a file system that has handles */
		unsigned int bytes;
		int type;
	} handle = { 0, 0 };
	tty_chk_fn *tty_chk = NULL;
	struct termios tty;
	struct stat st;
	off64_t off = 10;
	int id, copy;

	SAY(BY_NAME(__dup2, dup2)(fd, 210));
	SAY(read(210, buf, 7));
	SAY(BY_NAME(__fcntl, fcntl)(210, F_GETFD));
	SAY(BY_NAME(fcntl64, fcntl)(210, F_DUPFD, 220));
	copy = BY_NAME(__fcntl, fcntl)(210, F_DUPFD_CLOEXEC, 230);
	SAY(read(copy, buf, 7));
	SAY(lseek(fd, 0, SEEK_CUR));
	SAY(ttyname_r(fd, buf, sizeof(buf)));
	SAY(ttyname_r(997, buf, sizeof(buf)));
	SAY(BY_NAME(__ttyname_r_chk, tty_chk)(fd, buf, 100, sizeof(buf)));
	SAY(tcgetattr(fd, &tty));
	SAY(BY_NAME(__write, write)(fd, "x", 1));
	SAY(BY_NAME(sendfile64, sendfile)(open("/dev/null", O_WRONLY), fd, &off, 100));
	SAY(off);
	SAY(BY_NAME(posix_fadvise64, posix_fadvise)(fd, 0, 100, POSIX_FADV_RANDOM));
	SAY(BY_NAME(posix_fadvise64, posix_fadvise)(997, 0, 100, POSIX_FADV_RANDOM));
	SAY(BY_NAME(lockf64, lockf)(fd, F_TEST, 10));
	stat("text", &st);
	SAY(((unsigned)ftok("text", 'q') & 0xff00ffff) == ((st.st_ino & 0xffff) | 'q' << 24));
	SAY(ftok("text/none", 'q'));
	SAY(BY_NAME(name_to_handle_at, like_name_to_handle_at)(AT_FDCWD, "text/none", &handle, &id,
							       0));
}

static void writing(int fd)
{
	struct iovec iov = { buf, 10 };

	SAY(BY_NAME(pwrite64, pwrite)(fd, "x", 1, 0));
	SAY(BY_NAME(__pwrite64, pwrite)(fd, "x", 1, 0));
	SAY(BY_NAME(pwritev, pwritev)(fd, &iov, 1, 0));
	SAY(BY_NAME(pwritev64, pwritev)(fd, &iov, 1, 0));
	SAY(BY_NAME(pwritev2, pwritev2)(fd, &iov, 1, 0, 0));
	SAY(BY_NAME(pwritev64v2, pwritev2)(fd, &iov, 1, 0, 0));
	SAY(BY_NAME(ftruncate64, ftruncate)(fd, 0));
	SAY(BY_NAME(fallocate64, fallocate)(fd, 0, 0, 10));
	SAY(BY_NAME(posix_fallocate64, posix_fallocate)(fd, 0, 10));
	SAY(sync_file_range(fd, 0, 10, SYNC_FILE_RANGE_WRITE));
	SAY(BY_NAME(truncate64, truncate)("text/none", 0));
}

typedef ssize_t readlink_chk_fn(const char *, char *, size_t, size_t);
typedef ssize_t readlinkat_chk_fn(int, const char *, char *, size_t, size_t);
typedef char *realpath_chk_fn(const char *, char *, size_t);
typedef char *getcwd_chk_fn(char *, size_t, size_t);
typedef char *getwd_chk_fn(char *, size_t);

static void paths(int dir)
{
	readlink_chk_fn *link = NULL;
	readlinkat_chk_fn *link_at = NULL;
	realpath_chk_fn *resolve = NULL;
	getcwd_chk_fn *cwd = NULL;
	getwd_chk_fn *wd = NULL;
	char *(*plain_wd)(char *) = NULL; /* the linker warns of getwd */

	SAY(BY_NAME(__readlink_chk, link)("text/lines.txt", buf, 10, sizeof(buf)));
	SAY(BY_NAME(__readlinkat_chk, link_at)(dir, "lines.txt", buf, 10, sizeof(buf)));
	SAY(BY_NAME(__readlinkat_chk, link_at)(dir, "none", buf, 10, sizeof(buf)));
	SAY(readlinkat(dir, "lines.txt", buf, 10));
	SAY(readlinkat(dir, "none", buf, 10));
	SAY_PTR(BY_NAME(__realpath_chk, resolve)("text/../text/empty", buf, sizeof(buf)));
	dprintf(1, "   %s\n", buf);
	dprintf(1, "   %s\n", canonicalize_file_name("tree/deep/../z.html"));
	SAY_PTR(canonicalize_file_name("tree/none"));
	SAY(chdir("tree/deep"));
	SAY_PTR(BY_NAME(__getcwd_chk, cwd)(buf, sizeof(buf), sizeof(buf)));
	dprintf(1, "   %s\n", buf);
	SAY_PTR(BY_NAME(__getwd_chk, wd)(buf, sizeof(buf)));
	dprintf(1, "   %s\n", buf);
	SAY_PTR(BY_NAME(getwd, plain_wd)(buf));
	dprintf(1, "   %s\n", buf);
	unsetenv("PWD");
	dprintf(1, "   %s\n", get_current_dir_name());
}

/* Last: what is below a new root is nothing of ours. */
static void roots(void)
{
	SAY(chroot("text/none"));
	SAY(chroot("../../text/lines.txt"));
	SAY(BY_NAME(name_to_handle_at, like_name_to_handle_at)(AT_FDCWD, "none", NULL, NULL, 0));
}

int main(int argc, char **argv)
{
	int fd, dir;

	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	fd = open("data/large.bin", O_RDONLY);
	dir = open("text", O_RDONLY | O_DIRECTORY);
	reading(fd);
	overrun(fd);
	opening(dir);
	opening_how(dir);
	old_attributes(fd, dir);
	file_systems(fd);
	descriptors(fd);
	writing(fd);
	paths(dir);
	roots();
	return 0;
}
