/* SPDX-License-Identifier: MIT */
/*
 * call_syscalls ROOT: what libc has doors for, by syscall() and its number, as runtimes of
 * other languages and old programs call it.
 */
#include "say.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static char buf[1 << 16];

/* A result that is a number of bytes, and their sum. */
static void said(long n)
{
	dprintf(1, "   %ld bytes, sum %lld\n", n, say_sum(buf, n > 0 ? n : 0));
	memset(buf, 0, sizeof(buf));
}

static void reading(int fd)
{
	struct iovec iov[2] = { { buf, 100 }, { buf + 100, 1000 } };

	said(SAY(syscall(SYS_read, fd, buf, 1000)));
	said(SAY(syscall(SYS_pread64, fd, buf, 1000, 3145728)));
	said(SAY(syscall(SYS_readv, fd, iov, 2)));
	said(SAY(syscall(SYS_preadv, fd, iov, 2, 1L << 20, 0)));
	said(SAY(syscall(SYS_preadv2, fd, iov, 2, 77L, 0, 0)));
	said(SAY(syscall(SYS_preadv2, fd, iov, 2, -1L, -1L, 0)));
	SAY(syscall(SYS_preadv2, fd, iov, 2, 0L, 0, 0x4000));
	SAY(syscall(SYS_lseek, fd, 0, SEEK_CUR));
	SAY(syscall(SYS_lseek, fd, -5, SEEK_END));
	SAY(syscall(SYS_write, fd, "x", 1));
	SAY(syscall(SYS_pwrite64, fd, "x", 1, 0));
	SAY(syscall(SYS_ftruncate, fd, 0));
	SAY(syscall(SYS_fallocate, fd, 0, 0, 10));
	SAY(syscall(SYS_fsync, fd));
	SAY(syscall(SYS_fdatasync, fd));
	SAY(syscall(SYS_readahead, fd, 0L, 1000L));
	SAY(syscall(SYS_fadvise64, fd, 0L, 0L, POSIX_FADV_RANDOM));
	SAY(syscall(SYS_fadvise64, fd, 0L, 0L, 77));
	SAY(syscall(SYS_read, 997, buf, 1));
}

static void of_stat(const struct stat *st)
{
	dprintf(1, "   type %o size %lld mtime %lld\n", st->st_mode & S_IFMT,
		(long long)st->st_size, (long long)st->st_mtime);
}

static void attributes(int fd, int dir)
{
	struct statx stx;
	struct statfs fs;
	struct stat st;

	SAY(syscall(SYS_fstat, fd, &st));
	of_stat(&st);
	SAY(syscall(SYS_newfstatat, dir, "empty", &st, 0));
	of_stat(&st);
	SAY(syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH));
	of_stat(&st);
	SAY(syscall(SYS_newfstatat, dir, "none", &st, 0));
	SAY(syscall(SYS_statx, dir, "lines.txt", 0, STATX_SIZE, &stx));
	SAY(stx.stx_size);
	SAY(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_SIZE, &stx));
	SAY(stx.stx_size);
	SAY(syscall(SYS_statfs, "text", &fs));
	SAY(syscall(SYS_statfs, "text/none", &fs));
	SAY(syscall(SYS_fstatfs, fd, &fs));
	SAY(syscall(SYS_faccessat, dir, "lines.txt", R_OK));
	SAY(syscall(SYS_faccessat, dir, "none", R_OK));
	SAY(syscall(SYS_faccessat2, dir, "lines.txt", R_OK, AT_EACCESS));
	SAY(syscall(SYS_readlinkat, dir, "lines.txt", buf, 100));
	SAY(syscall(SYS_readlinkat, dir, "none", buf, 100));
	SAY(syscall(SYS_getxattr, "text/lines.txt", "user.none", buf, 100));
	SAY(syscall(SYS_fgetxattr, fd, "user.none", buf, 100));
	SAY(syscall(SYS_flistxattr, fd, buf, 100));
}

static void descriptors(int fd)
{
	int copy = (int)SAY(syscall(SYS_dup, fd)), left = 0;

	SAY(syscall(SYS_lseek, fd, 70, SEEK_SET));
	said(SAY(syscall(SYS_read, copy, buf, 10)));
	SAY(syscall(SYS_dup3, fd, 300, O_CLOEXEC));
	SAY(syscall(SYS_fcntl, 300, F_GETFD));
	SAY(syscall(SYS_fcntl, fd, F_DUPFD, 310));
	SAY(syscall(SYS_fcntl, fd, F_GETFL) & ~O_LARGEFILE);
	said(SAY(syscall(SYS_read, 310, buf, 10)));
	SAY(syscall(SYS_ioctl, fd, FIONREAD, &left));
	SAY(left);
	SAY(syscall(SYS_flock, fd, 1 /* shared */));
	SAY(syscall(SYS_flock, fd, 8 /* none */));
	SAY(syscall(SYS_close_range, 300, 310, 0));
	SAY(syscall(SYS_read, 310, buf, 10));
	SAY(syscall(SYS_close, copy));
	SAY(syscall(SYS_read, copy, buf, 10));
	SAY(syscall(SYS_openat, AT_FDCWD, "text/lines.txt", O_RDONLY) == copy);
	said(SAY(syscall(SYS_read, copy, buf, 10)));
	SAY(syscall(SYS_close, copy));
	SAY(syscall(SYS_close, copy));
}

static void mappings(int fd)
{
	char *m = (char *)syscall(SYS_mmap, NULL, 65536L, PROT_READ, MAP_PRIVATE, fd, 1L << 20);

	SAY(say_sum(m, 65536));
	SAY(syscall(SYS_madvise, m, 65536L, MADV_SEQUENTIAL));
	m = (char *)syscall(SYS_mremap, m, 65536L, 131072L, MREMAP_MAYMOVE);
	SAY(say_sum(m, 131072));
	SAY(syscall(SYS_mprotect, m, 4096L, PROT_READ | PROT_WRITE));
	SAY(syscall(SYS_msync, m, 4096L, MS_SYNC));
	SAY(syscall(SYS_munmap, m, 131072L));
	SAY(syscall(SYS_mmap, NULL, 4096L, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L));
}

static void copies(int fd, int out)
{
	off64_t from = 1000, to = 5;
	int p[2];

	SAY(syscall(SYS_sendfile, out, fd, &from, 5000L));
	SAY(from);
	SAY(syscall(SYS_copy_file_range, fd, &from, out, &to, 3000L, 0));
	SAY(from + to);
	SAY(pipe(p));
	said(SAY(syscall(SYS_splice, fd, &from, p[1], NULL, 4096L, 0)) > 0
		     ? syscall(SYS_read, p[0], buf, 4096L)
		     : -1);
	SAY(pread(out, buf, 10000, 0));
	SAY(say_sum(buf, 6000));
}

static void directories(int dir)
{
	long n;

	SAY(syscall(SYS_getdents64, dir, buf, sizeof(buf)) > 100);
	SAY(syscall(SYS_getdents64, dir, buf, sizeof(buf)));
	SAY(syscall(SYS_chdir, "text/none"));
	SAY(syscall(SYS_chdir, "tree/deep"));
	n = syscall(SYS_getcwd, buf, sizeof(buf));
	dprintf(1, "   %s %d\n", buf, n == (long)strlen(buf) + 1);
	SAY(syscall(SYS_getcwd, buf, 3));
	SAY(syscall(SYS_fchdir, dir));
	SAY(syscall(SYS_faccessat, AT_FDCWD, "lines.txt", F_OK));
	SAY(syscall(SYS_chdir, ".."));
}

static void waits(int fd)
{
	struct timespec none = { 0, 0 };
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	sigset_t mask;
	struct {
		const sigset_t *set;
		size_t size;
	} with_mask = { &mask, 8 };
	fd_set r;

	sigemptyset(&mask);
	SAY(syscall(SYS_ppoll, &p, 1, &none, NULL, 8));
	SAY(p.revents);
	FD_ZERO(&r);
	FD_SET(fd, &r);
	SAY(syscall(SYS_pselect6, fd + 1, &r, NULL, NULL, &none, &with_mask));
	SAY(FD_ISSET(fd, &r));
}

/* Each child reads ten bytes of what its parent has open. */
static void processes(int fd)
{
	static const char *const says[] = { "clone", "clone3", "fork" };
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = { .exit_signal = SIGCHLD };

	SAY(syscall(SYS_lseek, fd, 0, SEEK_SET));
	for (int i = 0; i < 3; i++) {
		long pid = i == 0   ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)
			   : i == 1 ? syscall(SYS_clone3, &args, sizeof(args))
#if defined(SYS_fork)
				    : syscall(SYS_fork);
#else
				    : fork();
#endif
		int status = -1;

		if (pid == 0)
			_exit(syscall(SYS_read, fd, buf, 10) == 10 ? 17 : 1);
		waitpid((pid_t)pid, &status, 0);
		dprintf(1, "   %s: %d, at %ld\n", says[i], status,
			syscall(SYS_lseek, fd, 0, SEEK_CUR));
	}
}

static void changes(int dir)
{
	SAY(syscall(SYS_mkdirat, dir, "lines.txt", 0777));
	SAY(syscall(SYS_mkdirat, dir, "none/x", 0777));
	SAY(syscall(SYS_linkat, dir, "none", dir, "x", 0));
	SAY(syscall(SYS_symlinkat, "x", dir, "lines.txt"));
	SAY(syscall(SYS_truncate, "text/none", 0L));
	SAY(syscall(SYS_fchmodat, dir, "none", 0600));
	SAY(syscall(SYS_fchownat, dir, "none", 0, 0, 0));
	SAY(syscall(SYS_utimensat, dir, "none", NULL, 0));
}

/* Numbers that only the first architectures have. */
static void old_calls(int fd)
{
#if defined(SYS_open)
	struct timeval none = { 0, 0 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct stat st;
	fd_set r;
	int other = (int)syscall(SYS_open, "text/lines.txt", O_RDONLY);

	said(SAY(syscall(SYS_read, other, buf, 10)));
	SAY(syscall(SYS_open, "text/none", O_RDONLY));
	SAY(syscall(SYS_creat, "text/lines.txt/x", 0600));
	SAY(syscall(SYS_dup2, other, 320));
	said(SAY(syscall(SYS_read, 320, buf, 10)));
	SAY(syscall(SYS_close, other));
	SAY(syscall(SYS_stat, "text/lines.txt", &st));
	of_stat(&st);
	SAY(syscall(SYS_lstat, "text/none", &st));
	SAY(syscall(SYS_access, "text/lines.txt", R_OK));
	SAY(syscall(SYS_readlink, "text/lines.txt", buf, 100));
	SAY(syscall(SYS_poll, &p, 1, -1));
	FD_ZERO(&r);
	FD_SET(fd, &r);
	SAY(syscall(SYS_select, fd + 1, &r, NULL, NULL, &none));
	SAY(FD_ISSET(fd, &r));
	SAY(syscall(SYS_mkdir, "text", 0777));
	SAY(syscall(SYS_link, "none", "x"));
	SAY(syscall(SYS_symlink, "x", "text"));
	SAY(syscall(SYS_chmod, "none", 0600));
	SAY(syscall(SYS_utimes, "none", NULL));
#endif
}

/* Last: head reads what is left of standard input. */
static void exec(int fd)
{
	char *argv[] = { (char *)"head", (char *)"-c", (char *)"12", NULL };

	SAY(syscall(SYS_lseek, fd, 100, SEEK_SET));
	SAY(syscall(SYS_execve, "text/none", argv, environ));
	SAY(syscall(SYS_dup3, fd, 0, 0));
	syscall(SYS_execve, "/usr/bin/head", argv, environ);
}

int main(int argc, char **argv)
{
	char scratch[4096];
	int fd, dir, out;

	snprintf(scratch, sizeof(scratch), "%s/copy", getenv("OUT"));
	out = open(scratch, O_RDWR | O_CREAT, 0600);
	if (argc < 2 || syscall(SYS_chdir, argv[1]) != 0 || out < 0)
		return 2;
	fd = (int)syscall(SYS_openat, AT_FDCWD, "data/large.bin", O_RDONLY | O_CLOEXEC);
	dir = (int)syscall(SYS_openat, AT_FDCWD, "text", O_RDONLY | O_DIRECTORY);
	reading(fd);
	attributes(fd, dir);
	descriptors(fd);
	mappings(fd);
	copies(fd, out);
	directories(dir);
	waits(fd);
	processes(fd);
	changes(dir);
	old_calls(fd);
	exec(fd);
	return 1;
}
