/* SPDX-License-Identifier: MIT */
/* What vfork.S and the table share. */
#ifndef DZ_VFORK_H
#define DZ_VFORK_H

/* 1 after vfork() on this thread, in parent and child, until dz_in_vfork_child() has looked. */
extern __thread int dz_vforked __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Called by the stub before the child exists; returns libc's vfork. */
void *dz_vfork_prepare(void) __attribute__((visibility("hidden")));

/* Whom syscall(clone or clone3, a, b...) goes to: libc's, or dz_syscall(). */
void *dz_syscall_route(long nr, long a, long b) __attribute__((visibility("hidden")));
long dz_syscall(long nr, long a, long b, long c, long d, long e, long f)
	__attribute__((visibility("hidden")));
/* fork(2) by the raw system call `nr` with its arguments; the child becomes one of ours. */
long dz_fork_raw(long nr, long a, long b, long c, long d, long e)
	__attribute__((visibility("hidden")));

#endif
