/* SPDX-License-Identifier: MIT */
/*
 * System calls by instruction, not through libc: the shim exports `syscall`,
 * `open` and the rest, so a libc call from here could come back through our own
 * doors.  errno is never read nor written.
 *
 * A call fails by returning -errno, exactly as the kernel gave it; nothing here
 * retries (not even -EINTR), because only the caller knows what is left to do.
 */
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

int dz_sys_open(const char *path, int flags, unsigned int mode)
{
	return dz_sys_openat(AT_FDCWD, path, flags, mode);
}

int dz_sys_openat(int dir_fd, const char *path, int flags, unsigned int mode)
{
	return (int)dz_sys_4(SYS_openat, dir_fd, path, flags, mode);
}

int dz_sys_close(int fd)
{
	return (int)dz_sys_1(SYS_close, fd);
}

ssize_t dz_sys_read(int fd, void *buf, size_t len)
{
	return dz_sys_3(SYS_read, fd, buf, len);
}

ssize_t dz_sys_write(int fd, const void *buf, size_t len)
{
	return dz_sys_3(SYS_write, fd, buf, len);
}

ssize_t dz_sys_write_quiet(int fd, const void *buf, size_t len)
{
	const uint64_t pipe_bit = 1ull << (SIGPIPE - 1);
	const struct timespec now = { 0, 0 };
	uint64_t old = 0, pending = 0;
	long ret;

	/* It would come to this thread: held back, then taken, unless one waited before. */
	dz_sys_4(SYS_rt_sigprocmask, SIG_BLOCK, &pipe_bit, &old, sizeof(old));
	dz_sys_2(SYS_rt_sigpending, &pending, sizeof(pending));
	ret = dz_sys_3(SYS_write, fd, buf, len);
	if (ret == -EPIPE && !(pending & pipe_bit))
		dz_sys_4(SYS_rt_sigtimedwait, &pipe_bit, NULL, &now, sizeof(pipe_bit));
	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	return ret;
}

ssize_t dz_sys_pread(int fd, void *buf, size_t len, uint64_t off)
{
	return dz_sys_4(SYS_pread64, fd, buf, len, off);
}

ssize_t dz_sys_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
	return dz_sys_4(SYS_pwrite64, fd, buf, len, off);
}

/* On both architectures libc's struct stat is the kernel's. */
int dz_sys_fstat(int fd, struct stat *st)
{
	return (int)dz_sys_2(SYS_fstat, fd, st);
}

int dz_sys_stat(const char *path, struct stat *st)
{
	return (int)dz_sys_4(SYS_newfstatat, AT_FDCWD, path, st, 0);
}

int dz_sys_mkdir(const char *path, unsigned int mode)
{
	return (int)dz_sys_3(SYS_mkdirat, AT_FDCWD, path, mode);
}

int dz_sys_unlinkat(int dir_fd, const char *path, int flags)
{
	return (int)dz_sys_3(SYS_unlinkat, dir_fd, path, flags);
}

int dz_sys_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
	return (int)dz_sys_4(SYS_fallocate, fd, mode, off, len);
}

int dz_sys_ftruncate(int fd, uint64_t len)
{
	return (int)dz_sys_2(SYS_ftruncate, fd, len);
}

int dz_sys_mmap(void **out, void *addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
	long ret = dz_sys_6(SYS_mmap, addr, len, prot, flags, fd, off);

	/* The kernel reserves the last page of the address space for -errno. */
	if (ret < 0 && ret > -4096)
		return (int)ret;
	*out = (void *)ret;
	return 0;
}

int dz_sys_munmap(void *addr, size_t len)
{
	return (int)dz_sys_2(SYS_munmap, addr, len);
}

int dz_sys_reserve(void **out, size_t len, uint64_t residue)
{
	void *room;
	size_t before;
	int ret = dz_sys_mmap(&room, NULL, len + DZ_HUGE_PAGE, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ret < 0)
		return ret;
	before = (residue - (uintptr_t)room) % DZ_HUGE_PAGE;
	if (before)
		dz_sys_munmap(room, before);
	*out = (uint8_t *)room + before;
	dz_sys_munmap((uint8_t *)*out + len, DZ_HUGE_PAGE - before);
	return 0;
}

int dz_sys_map_huge(void **out, size_t len, int prot, int fd)
{
	int ret = dz_sys_reserve(out, len, 0);

	if (ret < 0)
		return ret;
	ret = dz_sys_mmap(out, *out, len, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	if (ret < 0)
		dz_sys_munmap(*out, len);
	return ret;
}

int dz_sys_getpid(void)
{
	return (int)dz_sys_0(SYS_getpid);
}

int dz_sys_gettid(void)
{
	return (int)dz_sys_0(SYS_gettid);
}

int dz_sys_kill(int pid, int sig)
{
	return (int)dz_sys_2(SYS_kill, pid, sig);
}

int dz_sys_futex_wait(_Atomic uint32_t *word, uint32_t expect, uint32_t timeout_ms)
{
	struct timespec ts = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = (long)(timeout_ms % 1000) * 1000000L,
	};
	struct timespec *limit = timeout_ms == UINT32_MAX ? NULL : &ts;

	return (int)dz_sys_4(SYS_futex, word, FUTEX_WAIT, expect, limit);
}

int dz_sys_futex_wake(_Atomic uint32_t *word, int n)
{
	return (int)dz_sys_3(SYS_futex, word, FUTEX_WAKE, n);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	/* Cannot fail for these clocks, and so leaves errno alone. */
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

uint64_t dz_now_ms(void)
{
	return clock_ns(CLOCK_MONOTONIC_COARSE) / 1000000ULL;
}

uint64_t dz_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t dz_wall_ms(void)
{
	return clock_ns(CLOCK_REALTIME_COARSE) / 1000000ULL;
}
