/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: a range of a process's memory whose missing pages another process
 * supplies.  All of them 0 or -errno.
 */
#ifndef DZ_UFFD_H
#define DZ_UFFD_H

#include "cache/sys.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

/* Linux 6.6; older headers lack it. */
#ifndef UFFD_FEATURE_POISON
#define UFFD_FEATURE_POISON (1ull << 14)
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

/* What a lazy mapping needs: a child of fork, however it was made, has its own. */
#define DZ_UFFD_NEEDED ((uint64_t)UFFD_FEATURE_EVENT_FORK)

/* Pages [at, at + len) are missing until they are supplied. */
static inline int dz_uffd_register(int fd, uint64_t at, uint64_t len)
{
	struct uffdio_register r = { .range = { at, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	return (int)dz_sys_3(SYS_ioctl, fd, UFFDIO_REGISTER, &r);
}

/* *done: bytes copied, also when it fails in the middle. */
static inline int dz_uffd_copy(int fd, uint64_t to, const void *from, uint64_t len, uint64_t *done)
{
	struct uffdio_copy c = { .dst = to, .src = (uintptr_t)from, .len = len };
	int ret = (int)dz_sys_3(SYS_ioctl, fd, UFFDIO_COPY, &c);

	*done = c.copy > 0 ? (uint64_t)c.copy : 0;
	return ret;
}

/* Who waits for a page of the range looks again. */
static inline int dz_uffd_wake(int fd, uint64_t at, uint64_t len)
{
	struct uffdio_range r = { at, len };

	return (int)dz_sys_3(SYS_ioctl, fd, UFFDIO_WAKE, &r);
}

/* A touch of the page is SIGBUS from now on, as behind the end of a truncated file. */
static inline int dz_uffd_poison(int fd, uint64_t at, uint64_t len)
{
	struct uffdio_poison p = { .range = { at, len } };

	return (int)dz_sys_3(SYS_ioctl, fd, UFFDIO_POISON, &p);
}

#endif
