/* SPDX-License-Identifier: MIT */
/*
 * What a program that this process is about to run inherits: the markers that
 * stay open over exec.  One with the shim finds their open files again, as long
 * as they are kept alive meanwhile; one that is blind gets real descriptors in
 * their place.
 */
#ifndef DZ_INHERIT_H
#define DZ_INHERIT_H

#include "cache/engine.h"

#define DZ_PROMOTED_MAX 32

struct dz_inherit {
	int n;
	struct {
		int fd;	   /* has a real file over it */
		int saved; /* the marker, elsewhere */
	} promoted[DZ_PROMOTED_MAX];
};

/* Is there anything of ours that the new program would get? */
bool dz_inherit_any(void);
/* Keeps the open files alive until the new program has looked. */
void dz_inherit_keep(void);
/* Puts real files in place of the markers, at the same offset. */
void dz_inherit_promote(struct dz_inherit *in);
/* The exec failed, or another process has started: the markers come back. */
void dz_inherit_undo(struct dz_inherit *in);

#endif
