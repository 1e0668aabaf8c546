/* SPDX-License-Identifier: MIT */
/* What the library does with a libc name, compiled in from its list. */
#ifndef DZ_HOOKED_H
#define DZ_HOOKED_H

#include "cache/base.h"

enum dz_hooked {
	DZ_HOOKED_UNKNOWN, /* the list does not have it: no file can be reached by it, or it is new
			    */
	DZ_HOOKED_YES,
	DZ_HOOKED_SKIPPED, /* left to libc on purpose */
};

enum dz_hooked dz_hooked(const char *name);
/* Does a name that the list lacks sound as if it reached a file? */
bool dz_sounds_like_file(const char *name);

#endif
