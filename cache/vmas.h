/* SPDX-License-Identifier: MIT */
/*
 * The pieces of this process's memory, as the kernel has cut them.  For moving what
 * consists of several: before Linux 6.17 mremap(2) moves one at a time.
 */
#ifndef DZ_VMAS_H
#define DZ_VMAS_H

#include "cache/base.h"

/*
 * Moves what lies in [from, end), pages and all, to the same distances from `to`,
 * where nothing that matters lies.  0, or -errno: everything is where it was.
 */
int dz_vmas_move(uintptr_t from, uintptr_t end, uintptr_t to);
/* Takes [at, end) out of the registration that it is in, and registers it with `uffd`. */
int dz_vmas_register(int uffd, uintptr_t at, uintptr_t end);

#endif
