/* SPDX-License-Identifier: MIT */
/* The only place that sets errno: -errno from inside becomes -1 and errno at the door. */
#ifndef DZ_RET_H
#define DZ_RET_H

#include <errno.h>

static inline long dz_ret(long r)
{
	if (r >= 0 || r < -4095)
		return r;
	errno = (int)-r;
	return -1;
}

#endif
