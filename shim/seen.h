/* SPDX-License-Identifier: MIT */
/*
 * Paths that a look has just shown to lead into no mount.  A program that asks for
 * what does not exist (include paths, module paths) asks many times in the same
 * few directories; each look costs a system call or more.
 *
 * An answer holds for DZ_SEEN_MS, and until this process changes a name, its
 * working directory, or starts another process.  So a link that somebody else
 * puts in the place of a directory may be found that much later.
 *
 * No lock: an entry is one word, hash and time; a lost one is looked at again.
 */
#ifndef DZ_SEEN_H
#define DZ_SEEN_H

#include "cache/base.h"

#define DZ_SEEN_MS 100

enum dz_seen_kind {
	DZ_SEEN_NAME, /* this path leads into no mount */
	DZ_SEEN_DIR,  /* no name directly below does, unless it is a link itself */
};

bool dz_seen(enum dz_seen_kind kind, const char *path, size_t len);
void dz_seen_note(enum dz_seen_kind kind, const char *path, size_t len);
/* Something may have changed: nothing is known any more. */
void dz_seen_forget(void);

#endif
