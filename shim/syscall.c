/* SPDX-License-Identifier: MIT */
/*
 * syscall(2), libc's function: programs reach the newer calls through it.  A
 * number that can meet a file of ours goes to the door of the call, all others to
 * the kernel.  What has a `syscall` instruction of its own is beyond us.
 *
 * The exported symbol is a stub in vfork.S, because of clone.
 */
#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/vfork.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

/*
 * X(number, door, type of its result): system calls whose arguments are the
 * door's.  They are passed as words, which the ABIs of x86-64 and AArch64 pass
 * as they pass ints and pointers; the result's upper half is only defined as far
 * as its type goes.
 */
#define SAME_CALLS(X)                                                                              \
	X(read, read, long)                                                                        \
	X(pread64, pread, long)                                                                    \
	X(readv, readv, long)                                                                      \
	X(preadv, preadv, long)                                                                    \
	X(write, write, long)                                                                      \
	X(pwrite64, pwrite, long)                                                                  \
	X(writev, writev, long)                                                                    \
	X(pwritev, pwritev, long)                                                                  \
	X(lseek, lseek, long)                                                                      \
	X(getdents64, getdents64, long)                                                            \
	X(sendfile, sendfile, long)                                                                \
	X(copy_file_range, copy_file_range, long)                                                  \
	X(splice, splice, long)                                                                    \
	X(tee, tee, long)                                                                          \
	X(vmsplice, vmsplice, long)                                                                \
	X(readahead, readahead, long)                                                              \
	X(mmap, mmap, long)                                                                        \
	X(mremap, mremap, long)                                                                    \
	X(munmap, munmap, int)                                                                     \
	X(msync, msync, int)                                                                       \
	X(mprotect, mprotect, int)                                                                 \
	X(madvise, madvise, int)                                                                   \
	X(openat, openat, int)                                                                     \
	X(openat2, openat2, int)                                                                   \
	X(name_to_handle_at, name_to_handle_at, int)                                               \
	X(close, close, int)                                                                       \
	X(close_range, close_range, int)                                                           \
	X(dup, dup, int)                                                                           \
	X(dup3, dup3, int)                                                                         \
	X(fcntl, fcntl, int)                                                                       \
	X(ioctl, ioctl, int)                                                                       \
	X(flock, flock, int)                                                                       \
	X(fsync, fsync, int)                                                                       \
	X(fdatasync, fdatasync, int)                                                               \
	X(syncfs, syncfs, int)                                                                     \
	X(sync_file_range, sync_file_range, int)                                                   \
	X(fallocate, fallocate, int)                                                               \
	X(ftruncate, ftruncate, int)                                                               \
	X(truncate, truncate, int)                                                                 \
	X(fstat, fstat, int)                                                                       \
	X(newfstatat, fstatat, int)                                                                \
	X(statx, statx, int)                                                                       \
	X(statfs, statfs, int)                                                                     \
	X(fstatfs, fstatfs, int)                                                                   \
	X(faccessat2, faccessat, int)                                                              \
	X(readlinkat, readlinkat, long)                                                            \
	X(chdir, chdir, int)                                                                       \
	X(fchdir, fchdir, int)                                                                     \
	X(chroot, chroot, int)                                                                     \
	X(mount, mount, int)                                                                       \
	X(umount2, umount2, int)                                                                   \
	X(pivot_root, pivot_root, int)                                                             \
	X(swapon, swapon, int)                                                                     \
	X(acct, acct, int)                                                                         \
	X(quotactl, quotactl, int)                                                                 \
	X(mkdirat, mkdirat, int)                                                                   \
	X(unlinkat, unlinkat, int)                                                                 \
	X(renameat2, renameat2, int)                                                               \
	X(linkat, linkat, int)                                                                     \
	X(symlinkat, symlinkat, int)                                                               \
	X(mknodat, mknodat, int)                                                                   \
	X(fchmod, fchmod, int)                                                                     \
	X(fchown, fchown, int)                                                                     \
	X(fchownat, fchownat, int)                                                                 \
	X(getxattr, getxattr, long)                                                                \
	X(lgetxattr, lgetxattr, long)                                                              \
	X(fgetxattr, fgetxattr, long)                                                              \
	X(listxattr, listxattr, long)                                                              \
	X(llistxattr, llistxattr, long)                                                            \
	X(flistxattr, flistxattr, long)                                                            \
	X(setxattr, setxattr, int)                                                                 \
	X(lsetxattr, lsetxattr, int)                                                               \
	X(fsetxattr, fsetxattr, int)                                                               \
	X(removexattr, removexattr, int)                                                           \
	X(lremovexattr, lremovexattr, int)                                                         \
	X(fremovexattr, fremovexattr, int)                                                         \
	X(ppoll, ppoll, int)                                                                       \
	X(epoll_ctl, epoll_ctl, int)                                                               \
	X(inotify_add_watch, inotify_add_watch, int)                                               \
	X(sendmsg, sendmsg, long)                                                                  \
	X(recvmsg, recvmsg, long)                                                                  \
	X(pidfd_getfd, pidfd_getfd, int)                                                           \
	X(execve, execve, int)                                                                     \
	X(execveat, execveat, int)

/* Those that AArch64 has no numbers for. */
#if defined(SYS_open)
#define OLD_CALLS(X)                                                                               \
	X(open, open, int)                                                                         \
	X(creat, creat, int)                                                                       \
	X(stat, stat, int)                                                                         \
	X(lstat, lstat, int)                                                                       \
	X(access, access, int)                                                                     \
	X(readlink, readlink, long)                                                                \
	X(dup2, dup2, int)                                                                         \
	X(poll, poll, int)                                                                         \
	X(select, select, int)                                                                     \
	X(mkdir, mkdir, int)                                                                       \
	X(rmdir, rmdir, int)                                                                       \
	X(unlink, unlink, int)                                                                     \
	X(rename, rename, int)                                                                     \
	X(renameat, renameat, int)                                                                 \
	X(link, link, int)                                                                         \
	X(symlink, symlink, int)                                                                   \
	X(mknod, mknod, int)                                                                       \
	X(chmod, chmod, int)                                                                       \
	X(chown, chown, int)                                                                       \
	X(lchown, lchown, int)                                                                     \
	X(utime, utime, int)                                                                       \
	X(utimes, utimes, int)                                                                     \
	X(futimesat, futimesat, int)
#else
#define OLD_CALLS(X)
#endif

#define DECLARE(number, door, type)                                                                \
	extern type word_##door(long a, long b, long c, long d, long e, long f) __asm__(#door);
SAME_CALLS(DECLARE)
OLD_CALLS(DECLARE)

extern int word_faccessat(long, long, long, long, long, long) __asm__("faccessat");
extern int word_utimensat(long, long, long, long, long, long) __asm__("utimensat");
extern int word_futimens(long, long, long, long, long, long) __asm__("futimens");
extern int word_fchmodat(long, long, long, long, long, long) __asm__("fchmodat");
extern long word_preadv2(long, long, long, long, long, long) __asm__("preadv2");
extern long word_pwritev2(long, long, long, long, long, long) __asm__("pwritev2");
extern int word_pselect(long, long, long, long, long, long) __asm__("pselect");
extern int word_posix_fadvise(long, long, long, long, long, long) __asm__("posix_fadvise");

/* The kernel's: a pointer to {mask, its size}. */
static int select_with_mask(long n, long r, long w, long e, long timeout, const long *mask)
{
	return word_pselect(n, r, w, e, timeout, mask ? mask[0] : 0);
}

/* Numbers whose arguments are not the door's; false for none of these. */
static bool other_call(long nr, const long *a, long *result)
{
	switch (nr) {
	case SYS_faccessat:
		*result = word_faccessat(a[0], a[1], a[2], 0, 0, 0);
		return true;
	case SYS_fchmodat:
		*result = word_fchmodat(a[0], a[1], a[2], 0, 0, 0);
		return true;
	case SYS_utimensat: /* the kernel takes no path for the descriptor itself */
		*result = a[1] ? word_utimensat(a[0], a[1], a[2], a[3], 0, 0)
			       : word_futimens(a[0], a[2], 0, 0, 0, 0);
		return true;
	case SYS_preadv2:
		*result = word_preadv2(a[0], a[1], a[2], a[3], a[5], 0);
		return true;
	case SYS_pwritev2:
		*result = word_pwritev2(a[0], a[1], a[2], a[3], a[5], 0);
		return true;
	case SYS_pselect6:
		*result = select_with_mask(a[0], a[1], a[2], a[3], a[4], (const long *)a[5]);
		return true;
	case SYS_fadvise64:
		*result = dz_ret(-word_posix_fadvise(a[0], a[1], a[2], a[3], 0, 0));
		return true;
	case SYS_getcwd:
		*result = dz_ret(dz_cwd_syscall((char *)a[0], (size_t)a[1]));
		return true;
	default:
		return false;
	}
}

/* A child with a copy of our memory. */
static bool new_process(long nr, const long *a, long *result)
{
	switch (nr) {
#if defined(SYS_fork)
	case SYS_fork:
	case SYS_vfork: /* libc's syscall() cannot return twice on one stack either */
		*result = dz_ret(dz_fork_raw(SYS_fork, 0, 0, 0, 0, 0));
		return true;
#endif
	case SYS_clone:
	case SYS_clone3: /* dz_syscall_route() has seen that memory is copied */
		*result = dz_ret(dz_fork_raw(nr, a[0], a[1], a[2], a[3], a[4]));
		return true;
	default:
		return false;
	}
}

#define ROUTE(number, door, type)                                                                  \
	case SYS_##number:                                                                         \
		*result = word_##door(a[0], a[1], a[2], a[3], a[4], a[5]);                         \
		return true;

static bool same_call(long nr, const long *a, long *result)
{
	switch (nr) {
		SAME_CALLS(ROUTE)
		OLD_CALLS(ROUTE)
	default:
		return false;
	}
}

static bool route(long nr, const long *a, long *result)
{
	return same_call(nr, a, result) || other_call(nr, a, result) || new_process(nr, a, result);
}

/* Libc's syscall() is no cancellation point, the doors of some calls are. */
long dz_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	int (*set_state)(int, int *) = DZ_REAL(pthread_setcancelstate);
	const long args[] = { a, b, c, d, e, f };
	int old = PTHREAD_CANCEL_ENABLE;
	bool is_done;
	long r;

	if (!dz_is_on())
		return dz_ret(dz_sys6(nr, a, b, c, d, e, f));
	if (set_state)
		set_state(PTHREAD_CANCEL_DISABLE, &old);
	is_done = route(nr, args, &r);
	if (set_state)
		set_state(old, &old);
	return is_done ? r : dz_ret(dz_sys6(nr, a, b, c, d, e, f));
}

/* Does the child share our memory, or begin on another stack? */
static bool is_plain_fork(long nr, long a, long b)
{
	const struct clone_args *args;

	if (nr == SYS_clone)
		return !(a & CLONE_VM) && b == 0;
	args = (const struct clone_args *)a;
	return args && !(args->flags & CLONE_VM) && args->stack == 0;
}

void *dz_syscall_route(long nr, long a, long b)
{
	if (dz_is_on() && is_plain_fork(nr, a, b))
		return (void *)dz_syscall;
	if (nr == SYS_clone && (a & (CLONE_VM | CLONE_THREAD)) == CLONE_VM) {
		dz_vfork_prepare();
		dz_vforked = 1;
	}
	return DZ_REAL(syscall);
}
