/* SPDX-License-Identifier: MIT */
/* Our own descriptors stay out of the low range that programs count on. */
#ifndef DZ_FD_H
#define DZ_FD_H

#include "cache/sys.h"

#include <fcntl.h>

#define DZ_FD_HIGH 512

/*
 * Moves `fd` to a high number, close-on-exec.  Where the limit on descriptors is
 * too low for that, halves its wish; keeps the low one rather than fail.
 */
static inline int dz_fd_raise(int fd)
{
	for (int least = DZ_FD_HIGH; fd >= 0 && least >= 32; least /= 2) {
		int high = (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, least);

		if (high >= 0) {
			dz_sys_close(fd);
			return high;
		}
	}
	return fd;
}

#endif
