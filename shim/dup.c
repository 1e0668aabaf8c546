/* SPDX-License-Identifier: MIT */
/*
 * Descriptors: closing, duplicating, fcntl.
 *
 * A marker is a real descriptor, so the kernel does the work and the table
 * follows: after a duplicate exists it is entered; before a number is closed it
 * is taken out.  The engine's own descriptors are not the program's: closing one
 * is EBADF, as if it were not open.
 */
#define DZ_IN_dup 1
#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/stdin.h"

#include <fcntl.h>
#include <linux/close_range.h>

static DZ_NOINLINE int close_ours(int fd)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_fd_close(fd));
	return (int)dz_done(DZ_CALL_close, dz_fd_close(fd), fd);
}

/* Without an engine nothing is ours, nor the engine's. */
DZ_DOOR(int, close, int fd)
{
	if (dz_engine && (dz_engine_may_own_fd(dz_engine, fd) || dz_fd_get(fd)))
		return close_ours(fd);
	return (int)dz_ret(dz_sys_1(SYS_close, fd));
}

/* --- close_range: around the engine's descriptors --- */

static void forget(int fd, dz_fh fh, void *arg)
{
	(void)fh;
	(void)arg;
	dz_fd_forget(fd);
}

/* The first descriptor of the engine in [first, last], or last + 1. */
static uint64_t next_owned(uint64_t first, uint64_t last)
{
	int fd = first > INT32_MAX ? -1 : dz_engine_next_fd(dz_engine, (int)first);

	return fd < 0 || (uint64_t)fd > last ? last + 1 : (uint64_t)fd;
}

/* Before Linux 5.9: one by one. */
static long close_each(uint64_t first, uint64_t last)
{
	for (; first <= last && first < 65536; first++)
		dz_sys_close((int)first);
	return 0;
}

static long close_gap(uint64_t first, uint64_t last, unsigned int flags, bool can_loop)
{
	long r;

	if (first > last)
		return 0;
	r = dz_sys_3(SYS_close_range, first, last, flags);
	return r == -ENOSYS && can_loop ? close_each(first, last) : r;
}

static long close_span(uint64_t first, uint64_t last, unsigned int flags, bool can_loop)
{
	uint64_t owned;
	long r = 0;

	if (!dz_engine)
		return close_gap(first, last, flags, can_loop);
	if (!(flags & CLOSE_RANGE_CLOEXEC) && first <= INT32_MAX)
		dz_fd_each((int)first, last > INT32_MAX ? INT32_MAX : (int)last, forget, NULL);
	/* The engine's are close-on-exec already. */
	if (flags & CLOSE_RANGE_CLOEXEC)
		return close_gap(first, last, flags, can_loop);
	while (r == 0 && first <= last) {
		owned = next_owned(first, last);
		r = close_gap(first, owned - 1, flags, can_loop);
		first = owned + 1;
	}
	return r;
}

DZ_DOOR(int, close_range, unsigned int first, unsigned int last, int flags)
{
	/* What the kernel refuses must not be forgotten here. */
	if (first > last || (flags & ~(int)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)))
		return (int)dz_ret(-EINVAL);
	return (int)dz_ret(close_span(first, last, (unsigned int)flags, false));
}

DZ_DOOR(void, closefrom, int first)
{
	close_span(first < 0 ? 0 : (uint64_t)first, UINT32_MAX, 0, true);
}

/* --- duplicates --- */

/* The kernel made `copy` of `fd`: the table follows. */
static int enter(int fd, int copy)
{
	dz_fh fh = dz_fd_get(fd);
	int r = 0;

	if (copy >= 0 && (fh || dz_fd_get(copy)))
		r = dz_fd_set(copy, fh);
	if (r < 0) {
		dz_sys_close(copy);
		return r;
	}
	/* Libc's stream reads inside libc; its pointer can be set to one that does not. */
	if (copy == 0 && fh && !dz_in_vfork_child())
		dz_stdin_adopt();
	return copy;
}

static long answer(enum dz_call call, int fd, int copy, int flags, long r)
{
	return dz_fd_get(fd) ? dz_done(call, r, fd, copy, flags) : dz_ret(r);
}

DZ_DOOR(int, dup, int fd)
{
	return (int)answer(DZ_CALL_dup, fd, 0, 0, enter(fd, (int)dz_sys_1(SYS_dup, fd)));
}

/* Is it free for the program?  A vfork child's descriptors are its own already. */
static int make_room(int fd, int copy)
{
	if (!dz_engine || !dz_engine_owns_fd(dz_engine, copy) || dz_in_vfork_child())
		return 0;
	if (dz_sys_2(SYS_fcntl, fd, F_GETFD) < 0)
		return -EBADF;
	return dz_engine_move_fd(dz_engine, copy);
}

static int dup_to(int fd, int copy, int flags)
{
	int r = make_room(fd, copy);

	if (r < 0)
		return r;
	if (!dz_fd_get(copy) || dz_in_vfork_child())
		return enter(fd, (int)dz_sys_3(SYS_dup3, fd, copy, flags));
	/* It stands for a file that another thread may be handing over. */
	dz_fd_begin(copy);
	r = enter(fd, (int)dz_sys_3(SYS_dup3, fd, copy, flags));
	dz_fd_end(copy);
	return r;
}

DZ_DOOR(int, dup2, int fd, int copy)
{
	/* dup3 refuses equal numbers; dup2 asks whether fd is open. */
	if (fd == copy)
		return (int)dz_ret(dz_sys_2(SYS_fcntl, fd, F_GETFD) < 0 ? -EBADF : fd);
	return (int)answer(DZ_CALL_dup2, fd, copy, 0, dup_to(fd, copy, 0));
}

DZ_DOOR(int, dup3, int fd, int copy, int flags)
{
	return (int)answer(DZ_CALL_dup3, fd, copy, flags, dup_to(fd, copy, flags));
}

/* --- fcntl --- */

/* O_LARGEFILE as the kernel shows it; libc's own constant is 0 on 64 bits. */
#if defined(__aarch64__)
#define LARGEFILE_BIT 0400000
#else
#define LARGEFILE_BIT 0100000
#endif
/* What F_SETFL may change. */
#define SETTABLE (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK)

static int get_flags(dz_fh fh)
{
	int flags;
	int r = dz_engine_fd_flags(dz_engine, fh, &flags);

	if (r < 0)
		return r;
	return flags & O_PATH ? flags : flags | LARGEFILE_BIT;
}

static int set_flags(dz_fh fh, int flags)
{
	int old;
	int r = dz_engine_fd_flags(dz_engine, fh, &old);

	if (r == 0 && (old & O_PATH))
		return -EBADF;
	if (r == 0)
		r = dz_engine_set_fd_flags(dz_engine, fh, (old & ~SETTABLE) | (flags & SETTABLE));
	return r;
}

/* Nobody can write, so a reader's lock is always granted; a writer's needs a writable fd. */
static int set_lock(const struct flock *lock)
{
	if (!lock)
		return -EFAULT;
	if (lock->l_type == F_WRLCK)
		return -EBADF;
	return lock->l_type == F_RDLCK || lock->l_type == F_UNLCK ? 0 : -EINVAL;
}

static int get_lock(struct flock *lock)
{
	if (!lock)
		return -EFAULT;
	if (lock->l_type != F_RDLCK && lock->l_type != F_WRLCK)
		return -EINVAL;
	lock->l_type = F_UNLCK;
	return 0;
}

static long fcntl_ours(int fd, dz_fh fh, int cmd, long arg)
{
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return enter(fd, (int)dz_sys_3(SYS_fcntl, fd, cmd, arg));
	case F_GETFD:
	case F_SETFD:
		return dz_sys_3(SYS_fcntl, fd, cmd, arg);
	case F_GETFL:
		return get_flags(fh);
	case F_SETFL:
		return set_flags(fh, (int)arg);
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return set_lock((const struct flock *)arg);
	case F_GETLK:
	case F_OFD_GETLK:
		return get_lock((struct flock *)arg);
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
		return -EBADF;
	case F_GETOWN:
	case F_GETSIG:
		return 0;
	case F_GETLEASE:
		return F_UNLCK;
	default: /* leases, seals, notifications, what is yet to come */
		return -EINVAL;
	}
}

DZ_DOOR(int, fcntl, int fd, int cmd, long arg)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh && (cmd == F_SETLKW || cmd == F_OFD_SETLKW))
		return (int)dz_ret(dz_block_3(SYS_fcntl, fd, cmd, arg));
	if (!fh)
		return (int)dz_ret(dz_sys_3(SYS_fcntl, fd, cmd, arg));
	return (int)dz_done(DZ_CALL_fcntl, fcntl_ours(fd, fh, cmd, arg), fd, cmd, arg);
}

#include "shim/aliases.h"
