/* SPDX-License-Identifier: MIT */
/*
 * Mappings that are filled when they are touched: what the program's side does, and
 * what it says to the pager (cache/pager.h), the process that fills them.
 *
 * Such a mapping is anonymous memory of the program, registered with a userfaultfd.
 * The program keeps a descriptor of it, so a page that did not come is waited for
 * as long as the program lives, and never reads as zeros; the pager has another.
 * The descriptor serves faults of the kernel too: write(2), O_DIRECT and io_uring
 * from the mapping wait like a load.
 */
#ifndef DZ_LAZY_H
#define DZ_LAZY_H

#include "cache/engine_priv.h"
#include "cache/maps.h"

#define DZ_LAZY_MAGIC	   0x317a616cu
#define DZ_LAZY_SOCKET	   "pager.%u" /* in the cache's directory; the agent's number */
#define DZ_LAZY_STATE	   "pager.%u.state"
#define DZ_LAZY_MIN_BYTES  (64 * DZ_MIB)
#define DZ_LAZY_TIMEOUT_MS 3000

enum dz_lazy_op {
	DZ_LAZY_MAP = 1, /* with the userfaultfd: this range, of this file */
	DZ_LAZY_UNMAP,	 /* the range is another's now */
	DZ_LAZY_PING,
};

/* One request a connection; the answer is a struct dz_lazy_answer. */
struct dz_lazy_msg {
	uint32_t magic, op;
	uint64_t session; /* of the last answer; 0: none yet */
	uint32_t pid;
	int32_t fd; /* its userfaultfd's number there */
	uint64_t at, len, off;
	uint64_t id;	/* of the mapping: unmapping touches no other that is at its place by now */
	uint64_t mount; /* its record's id: numbers are of one segment */
	struct dz_ofile file;
};

struct dz_lazy_answer {
	int32_t err;
	uint32_t is_new; /* the session is: of ranges before this one nothing is known */
	uint64_t session;
};

/* Can lazy mappings of files of this agent be made here?  Finds out once. */
bool dz_lazy_is_possible(struct dz_engine *e, uint32_t agent);
/*
 * What lies from `at` to m->end, memory that nobody can touch yet, is filled from
 * m->off of m->file on; it may be touched afterwards.  0, or -errno: it must not be.
 */
int dz_lazy_begin(struct dz_engine *e, struct dz_map *m, uintptr_t at);
/* The two halves of it: for pages that are moved there in between. */
int dz_lazy_tell(struct dz_engine *e, struct dz_map *m, uintptr_t at);
int dz_lazy_register(struct dz_engine *e, const struct dz_map *m, uintptr_t at);
/* [at, end) of a mapping that was taken out of sight is no longer its. */
void dz_lazy_unmapped(struct dz_engine *e, const struct dz_map *m, uintptr_t at, uintptr_t end);
/* Around fork; the child's before any other code of the program runs. */
void dz_lazy_fork_prepare(struct dz_engine *e);
void dz_lazy_fork_child(struct dz_engine *e);

#endif
