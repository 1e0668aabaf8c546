/* SPDX-License-Identifier: MIT */
/* Programs that say what each call gave, to be run on a local tree and on a mount. */
#ifndef SAY_H
#define SAY_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* The call, its result, and the errno of a failure.  Written at once: a crash keeps the lines. */
#define SAY(call)                                                                                  \
	({                                                                                         \
		errno = 0;                                                                         \
		long long said_ = (long long)(call);                                               \
		dprintf(1, "%d: %s = %lld%s%s\n", __LINE__, #call, said_, said_ < 0 ? " " : "",    \
			said_ < 0 ? strerrorname_np(errno) : "");                                  \
		said_;                                                                             \
	})
/* Only whether it is there: pointers differ from run to run. */
#define SAY_PTR(call)                                                                              \
	({                                                                                         \
		errno = 0;                                                                         \
		__typeof__(call) said_ = (call);                                                   \
		dprintf(1, "%d: %s = %s\n", __LINE__, #call,                                       \
			said_ &&said_ != (void *)-1 ? "yes" : strerrorname_np(errno));             \
		said_;                                                                             \
	})

/* A sum that depends on the order. */
static inline long long say_sum(const void *buf, long long len)
{
	const unsigned char *p = buf;
	unsigned long long h = 1469598103934665603u;

	for (long long i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211u;
	return (long long)(h >> 1);
}

#endif
