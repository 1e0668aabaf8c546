/* SPDX-License-Identifier: MIT */
/*
 * Pointers that no program can mean: into the first page, or into the kernel's half of
 * the addresses.  Those are EFAULT, for one compare.  What else cannot be read or written
 * is found by the copy, and that is the program's SIGSEGV: to look before would be a
 * system call for each read, and to catch it a signal handler in somebody else's program.
 */
#ifndef DZ_WILD_H
#define DZ_WILD_H

#include <stdbool.h>
#include <stdint.h>

static inline bool dz_is_wild(const void *p)
{
	return __builtin_expect((intptr_t)p < 4096, 0);
}

/* Such that not even the kernel's first look at the range lets it pass. */
static inline bool dz_is_kernels(const void *p)
{
	return (intptr_t)p < 0;
}

#endif
