/* SPDX-License-Identifier: MIT */
/*
 * Memory of a walk over a tree: address space is reserved once and used from the
 * front, so nothing moves; what a directory took is given back at a mark.
 */
#ifndef DZ_ARENA_H
#define DZ_ARENA_H

#include "cache/sys.h"

#include <sys/mman.h>

struct dz_arena {
	uint8_t *at;
	size_t used, room;
};

/* 0, or -ENOMEM.  Pages are only taken where they are written. */
static inline int dz_arena_open(struct dz_arena *a)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ret = -1;
	void *at;

	/* A limit on the address space may leave less. */
	for (a->room = DZ_GIB; a->room >= DZ_MIB && ret < 0; a->room /= 4)
		ret = dz_sys_mmap(&at, NULL, a->room, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (ret < 0)
		return ret;
	a->room *= 4;
	a->at = at;
	a->used = 0;
	return 0;
}

/* Zeroed, aligned; NULL when the reserve is used up. */
static inline void *dz_arena_get(struct dz_arena *a, size_t bytes)
{
	size_t at = a->used;

	bytes = dz_round_up(bytes, 16);
	if (bytes > a->room - at)
		return NULL;
	a->used += bytes;
	__builtin_memset(a->at + at, 0, bytes);
	return a->at + at;
}

/* Back to where a->used stood; a large piece goes back to the system. */
static inline void dz_arena_reset(struct dz_arena *a, size_t mark)
{
	size_t from = dz_round_up(mark, 4096);

	if (a->used > from + 16 * DZ_MIB)
		dz_sys_3(SYS_madvise, a->at + from, a->used - from, MADV_DONTNEED);
	a->used = mark;
}

static inline void dz_arena_close(struct dz_arena *a)
{
	dz_sys_munmap(a->at, a->room);
}

#endif
