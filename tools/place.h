/* SPDX-License-Identifier: MIT */
/*
 * What a PATH or URL on the command line means: a mount of the configuration and
 * a name below it.
 */
#ifndef DZ_PLACE_H
#define DZ_PLACE_H

#include "cache/engine.h"
#include "cache/segment.h"

struct dz_place {
	uint32_t mount;
	char name[DZ_NAME_MAX + 1]; /* without slashes at either end; "" is the root */
};

/*
 * A path is looked up among the mounts; a URL becomes one more, under a path that
 * nobody else asks for.  Returns 0, or an exit status after a message.
 */
int dz_place_find(const char *command, struct dz_config *cfg, const char *what,
		  struct dz_place *place);
/* The library's engine over cfg.  Returns 0, or an exit status after a message. */
int dz_place_engine(const char *command, const struct dz_config *cfg, struct dz_engine **engine);

/* Is there a cache?  Opening its segment would make one. */
bool dz_place_has_cache(const struct dz_config *cfg);
/*
 * Maps the segment, to look: joins nothing, makes nothing.  Returns 0, -ENOENT
 * when there is none, or the -errno of opening it.
 */
int dz_place_look(struct dz_seg *seg, const struct dz_config *cfg);

#endif
