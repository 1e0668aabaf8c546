/* SPDX-License-Identifier: MIT */
/* What a shared library needs, read from its file: for those on a mount (loader.c). */
#ifndef DZ_NEEDED_H
#define DZ_NEEDED_H

#include "cache/base.h"

#define DZ_NEEDED_MAX 64

struct dz_needed {
	void *image; /* mapped; the strings lie in it */
	size_t len;
	const char *path; /* of DT_RUNPATH or DT_RPATH; NULL: none */
	uint32_t n;
	const char *names[DZ_NEEDED_MAX];
};

/* False: no library of this machine's kind; nothing to be closed then. */
bool dz_needed_open(int fd, struct dz_needed *out);
void dz_needed_close(struct dz_needed *needed);

/*
 * Directory number `i` of a search path, with $ORIGIN put in, and "/name" behind it.
 * -ENOENT when there are no more, -EINVAL when this one cannot be used.
 */
int dz_needed_candidate(const char *path, uint32_t i, const char *origin, const char *name,
			char *out, size_t len);

#endif
