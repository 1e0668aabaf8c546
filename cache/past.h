/* SPDX-License-Identifier: MIT */
/*
 * Past the cache: what a read gets from Blob while others hold all of DRAM.
 *
 * A small private segment and a fetcher of this process alone, made when they are
 * first needed: what is an engine without shared memory anyway.  Nothing that it
 * fetches is kept for others.
 */
#ifndef DZ_PAST_H
#define DZ_PAST_H

#include "cache/engine_priv.h"

/* Has waiting for room been in vain of late? */
bool dz_past_is_near(const struct dz_engine *e);
/* It was just now, for this name: said once a while.  false: there is no way past it. */
bool dz_past_begin(struct dz_engine *e, const char *name);
/* As dz_read_at(), dz_name_resolve() and dz_engine_list(). */
ssize_t dz_past_read(struct dz_engine *e, const struct dz_ofile *f, void *buf, size_t len,
		     uint64_t off);
int dz_past_resolve(struct dz_engine *e, uint32_t mount, const char *name, size_t len, bool strict,
		    struct dz_attr *attr);
int dz_past_list(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
		 struct dz_listing *out);
/* Around fork, as the engine's own fetcher; the child makes its own. */
void dz_past_fork_prepare(struct dz_engine *e);
void dz_past_fork_parent(struct dz_engine *e);
void dz_past_fork_child(struct dz_engine *e);
void dz_past_close(struct dz_engine *e);

#endif
