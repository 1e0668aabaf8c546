/* SPDX-License-Identifier: MIT */
/*
 * What of managed files this process maps: which ranges, of which blob, how.  The
 * pages are the kernel's affair; this is for the calls that the kernel would answer
 * wrongly, and for growing, moving and forking.
 *
 * Slots are taken by one exchange, without a lock.  A slot is seen by others from
 * dz_map_show() to dz_maps_take().
 */
#ifndef DZ_MAPS_H
#define DZ_MAPS_H

#include "cache/engine_priv.h"

#define DZ_MAPS 4096u

enum dz_map_kind {
	DZ_MAP_TIER, /* pages of the DRAM tier */
	DZ_MAP_LAZY, /* memory of the program's own, filled when it is touched */
	DZ_MAP_COPY, /* a file of its own */
};

/* A mapped range.  Its fields stand still while it is seen, but for end (growing) and prot. */
struct dz_map {
	_Atomic uintptr_t at; /* 0 free; DZ_MAP_UNSEEN */
	uintptr_t was_at;     /* of one that was taken */
	uintptr_t end;
	uint64_t off;	       /* of the blob, at `at` */
	struct dz_ofile *file; /* a copy of ours: the program may close its own */
	uint32_t file_no;
	uint32_t next; /* in a chain of taken ones: number + 1 */
	int prot;
	enum dz_map_kind kind;
	bool is_shared;
	uint64_t lazy_id; /* the pager's parts of it bear this; it outlives a cut */
};
#define DZ_MAP_UNSEEN 1 /* not the address of a page */

/* 0, or -ENOMEM: nothing can be mapped. */
int dz_maps_open(struct dz_engine *e);
/* A slot that nobody sees yet, with a copy of what `f` says; NULL: all are in use. */
struct dz_map *dz_map_new(struct dz_engine *e, const struct dz_ofile *f);
/* Its range is `at` to its end: from now on it is seen. */
void dz_map_show(struct dz_engine *e, struct dz_map *m, uintptr_t at);
/* No slot could be had for this range: it is served, and asked about in vain. */
void dz_map_unlisted(struct dz_engine *e, uintptr_t at, uintptr_t end);
void dz_map_drop(struct dz_engine *e, struct dz_map *m);
/* What a mapping is wanted to be: mmap(2)'s arguments. */
struct dz_map_want {
	void *addr;
	size_t len;
	int prot, flags;
	uint64_t off;
	const struct dz_map *like; /* of its kind, if that can be; or NULL */
};
/* Maps it and shows it. */
int dz_map_file(struct dz_engine *e, struct dz_ofile *f, const struct dz_map_want *w, void **out);
/* The next one, from *i on, that overlaps [at, end), or NULL. */
struct dz_map *dz_map_next(const struct dz_engine *e, uintptr_t at, uintptr_t end, uint32_t *i);

#endif
