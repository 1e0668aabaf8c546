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

long dz_sys6(long nr, long a, long b, long c, long d, long e, long f);

#define DZ_ARG_(x)		 ((long)(x))
#define dz_sys_0(nr)		 dz_sys6(nr, 0, 0, 0, 0, 0, 0)
#define dz_sys_1(nr, a)		 dz_sys6(nr, DZ_ARG_(a), 0, 0, 0, 0, 0)
#define dz_sys_2(nr, a, b)	 dz_sys6(nr, DZ_ARG_(a), DZ_ARG_(b), 0, 0, 0, 0)
#define dz_sys_3(nr, a, b, c)	 dz_sys6(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c), 0, 0, 0)
#define dz_sys_4(nr, a, b, c, d) dz_sys6(nr, DZ_ARG_(a), DZ_ARG_(b), DZ_ARG_(c), DZ_ARG_(d), 0, 0)
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
