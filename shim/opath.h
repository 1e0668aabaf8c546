/* SPDX-License-Identifier: MIT */
/*
 * O_PATH: a descriptor that names a file and gives no bytes.  Programs that open
 * a managed file so are rare; the others pay one load.
 */
#ifndef DZ_OPATH_H
#define DZ_OPATH_H

#include "shim/init.h"

#include <fcntl.h>
#include <stdatomic.h>

/* Has this process, or one that it descends from, opened a name of ours with O_PATH? */
extern _Atomic bool dz_opath_seen __attribute__((visibility("hidden")));

static inline bool dz_is_opath(dz_fh fh)
{
	int flags;

	if (!atomic_load_explicit(&dz_opath_seen, memory_order_relaxed))
		return false;
	return dz_engine_fd_flags(dz_engine, fh, &flags) == 0 && (flags & O_PATH);
}

#endif
