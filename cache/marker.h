/* SPDX-License-Identifier: MIT */
/*
 * Markers: O_PATH descriptors of sockets in the segment's directory.
 *
 *     files.ID/N      for whoever opens description number N.  Its inode stays when N
 *                     becomes another file, so that an open makes none; therefore it
 *                     says nothing to another process.
 *     files.ID/N.G    of description N in its generation G alone: made when it is handed
 *                     to another program or process, which finds the file by that name.
 *
 * A descriptor that was duplicated past us and outlived its description names a
 * number alone, or a generation that has gone: EBADF, never another file.
 */
#ifndef DZ_MARKER_H
#define DZ_MARKER_H

#include "cache/segment.h"

struct dz_marker {
	uint32_t n;
	uint32_t gen;
	bool is_own; /* else gen means nothing */
};

/* A descriptor of the marker of number n, made if it is not there; -errno. */
int dz_marker_open(struct dz_seg *seg, uint32_t n, int flags);
/* The same of its generation's own. */
int dz_marker_open_own(struct dz_seg *seg, uint32_t n, uint32_t gen, int flags);
/* It has been freed: nobody finds it any more. */
void dz_marker_forget_own(struct dz_seg *seg, uint32_t n, uint32_t gen);
/* What a path, or a descriptor, names; false: no marker of this segment, or one removed. */
bool dz_marker_of_path(const struct dz_seg *seg, const char *path, struct dz_marker *m);
bool dz_marker_of_fd(const struct dz_seg *seg, int fd, struct dz_marker *m);

#endif
