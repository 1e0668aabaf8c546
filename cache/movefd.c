/* SPDX-License-Identifier: MIT */
/*
 * A program wants a number for itself (dup2) on which the engine has a descriptor:
 * that one moves out of the way.
 *
 *  1. A duplicate on a high number; the engine uses it from now on.
 *  2. Threads that have loaded the old number are given time to be done with it.
 *  3. The old one is closed.
 *
 * The lock that says that this member lives is lost with any descriptor of its
 * file.  So the description holds one too, for reading, while the process gets
 * its own back: at no time would another member find it free.
 */
#include "cache/engine_priv.h"
#include "cache/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#define GRACE_NS 10000000

static void lock_put(int fd, uint32_t member, int cmd, short type)
{
	struct flock fl = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)member, .l_len = 1
	};

	dz_sys_3(SYS_fcntl, fd, cmd, &fl);
}

static void close_with_lock(const struct dz_seg *seg, int old, int copy)
{
	lock_put(copy, seg->member, F_SETLK, F_RDLCK);
	lock_put(copy, seg->member, F_OFD_SETLK, F_RDLCK);
	dz_sys_close(old);
	lock_put(copy, seg->member, F_SETLK, F_RDLCK);
	lock_put(copy, seg->member, F_OFD_SETLK, F_UNLCK);
	lock_put(copy, seg->member, F_SETLK, F_WRLCK);
}

static int high_copy(int fd)
{
	int least = fd >= DZ_FD_HIGH ? fd + 1 : DZ_FD_HIGH;
	int copy = (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, least);

	for (least = DZ_FD_HIGH; copy < 0 && least >= 4; least /= 2)
		copy = (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, least);
	return copy;
}

/* Which of the engine's words holds it; NULL. */
static int *place_of(struct dz_engine *e, int fd)
{
	int *places[DZ_ENGINE_FDS];
	uint32_t n = dz_engine_fd_places(e, places);

	for (uint32_t i = 0; i < n; i++)
		if (__atomic_load_n(places[i], __ATOMIC_RELAXED) == fd)
			return places[i];
	return e->disk ? dz_disk_fd_place(e->disk, fd) : NULL;
}

int dz_engine_move_fd(struct dz_engine *e, int fd)
{
	struct timespec grace = { .tv_nsec = GRACE_NS };
	int *place = place_of(e, fd);
	bool is_lock = place == &e->seg.lock_fd;
	int copy = place ? high_copy(fd) : -EBADF;
	int old = fd;

	if (copy < 0)
		return -EBUSY;
	dz_seg_note_fd(&e->seg, copy);
	if (!__atomic_compare_exchange_n(place, &old, copy, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_RELAXED)) {
		/* Another thread moves it. */
		dz_sys_close(copy);
		return -EBUSY;
	}
	dz_sys_2(SYS_nanosleep, &grace, NULL);
	if (is_lock && e->seg.member < e->seg.n_members)
		close_with_lock(&e->seg, fd, copy);
	else
		dz_sys_close(fd);
	return 0;
}
