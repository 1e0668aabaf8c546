/* SPDX-License-Identifier: MIT */
/*
 * Raw system calls: return the result or -errno, and never touch errno.  The
 * library's own I/O uses only these, so it cannot come back through its own
 * doors, and the shim's pass-through uses them before anything is initialised.
 */
#ifndef DZ_SYS_H
#define DZ_SYS_H

#include "cache/base.h"

#include <sys/syscall.h>
#include <time.h>

/* In place: a call in between is 3 ns, and a call that is passed on may cost 10. */
#if defined(__x86_64__)

static inline long dz_sys3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "0"(nr), "D"(a), "S"(b), "d"(c)
			     : "rcx", "r11", "memory");
	return ret;
}

static inline long dz_sys4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			     : "rcx", "r11", "memory");
	return ret;
}

static inline long dz_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}

#elif defined(__aarch64__)

static inline long dz_sys6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ __volatile__("svc #0"
			     : "+r"(x0)
			     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			     : "memory");
	return x0;
}

#define dz_sys3(nr, a, b, c)	dz_sys6(nr, a, b, c, 0, 0, 0)
#define dz_sys4(nr, a, b, c, d) dz_sys6(nr, a, b, c, d, 0, 0)

#else
#error "DeltaZero knows the system call convention of x86-64 and aarch64 only"
#endif

#define DZ_ARG_(x)		 ((long)(x))
#define dz_sys_0(nr)		 dz_sys3(nr, 0, 0, 0)
#define dz_sys_1(nr, a)		 dz_sys3(nr, DZ_ARG_(a), 0, 0)
#define dz_sys_2(nr, a, b)	 dz_sys3(nr, DZ_ARG_(a), DZ_ARG_(b), 0)
#define dz_sys_3(nr, a, b, c)	 dz_sys3(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c))
#define dz_sys_4(nr, a, b, c, d) dz_sys4(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c), DZ_ARG_(d))
#define dz_sys_5(nr, a, b, c, d, e)                                                                \
	dz_sys6(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c), DZ_ARG_(d), DZ_ARG_(e), 0)
#define dz_sys_6(nr, a, b, c, d, e, f)                                                             \
	dz_sys6(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c), DZ_ARG_(d), DZ_ARG_(e), DZ_ARG_(f))

struct stat;
int dz_sys_open(const char *path, int flags, unsigned int mode);
int dz_sys_openat(int dir_fd, const char *path, int flags, unsigned int mode);
int dz_sys_close(int fd);
ssize_t dz_sys_read(int fd, void *buf, size_t len);
ssize_t dz_sys_write(int fd, const void *buf, size_t len);
/* The same into what may be a pipe whose reader has gone: -EPIPE, and no SIGPIPE. */
ssize_t dz_sys_write_quiet(int fd, const void *buf, size_t len);
ssize_t dz_sys_pread(int fd, void *buf, size_t len, uint64_t off);
ssize_t dz_sys_pwrite(int fd, const void *buf, size_t len, uint64_t off);
int dz_sys_fstat(int fd, struct stat *st);
int dz_sys_stat(const char *path, struct stat *st);
int dz_sys_mkdir(const char *path, unsigned int mode);
int dz_sys_unlinkat(int dir_fd, const char *path, int flags);
int dz_sys_fallocate(int fd, int mode, uint64_t off, uint64_t len);
int dz_sys_ftruncate(int fd, uint64_t len);
/* Returns 0 and the address in *out, or -errno. */
int dz_sys_mmap(void **out, void *addr, size_t len, int prot, int flags, int fd, uint64_t off);
int dz_sys_munmap(void *addr, size_t len);
/* Address space (PROT_NONE) that begins `residue` bytes behind a multiple of a huge page. */
#define DZ_HUGE_PAGE (2ull << 20)
int dz_sys_reserve(void **out, size_t len, uint64_t residue);
/* A file, shared, from its beginning: huge pages of it can be mapped as such. */
int dz_sys_map_huge(void **out, size_t len, int prot, int fd);
int dz_sys_getpid(void);
int dz_sys_gettid(void);
int dz_sys_kill(int pid, int sig);
/* Non-private futexes: words in shared memory. */
int dz_sys_futex_wait(_Atomic uint32_t *word, uint32_t expect, uint32_t timeout_ms);
int dz_sys_futex_wake(_Atomic uint32_t *word, int n);

/* Through the vDSO: no system call. */
uint64_t dz_now_ms(void);  /* CLOCK_MONOTONIC_COARSE */
uint64_t dz_now_ns(void);  /* CLOCK_MONOTONIC */
uint64_t dz_wall_ms(void); /* CLOCK_REALTIME_COARSE */

#endif
