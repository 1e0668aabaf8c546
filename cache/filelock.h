/* SPDX-License-Identifier: MIT */
/*
 * flock(2) on files of the cache.  A lock belongs to an open-file description, as the
 * kernel's does: who has a duplicate, in this process or another, has the lock.
 *
 * The table of locks is a file of its own beside the segment, mapped for each call:
 * locks are rare.  A lock is one entry that names its owner by handle; it ends with
 * LOCK_UN, or when nobody holds the description any more, also by SIGKILL.
 */
#ifndef DZ_FILELOCK_H
#define DZ_FILELOCK_H

#include "cache/segment.h"

/*
 * LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB.  0; -EWOULDBLOCK; -EINTR when a signal came
 * while it waited; -EBADF; -ENOLCK when the table is full, or LOCK_EX cannot exclude
 * others: no shared memory, or it is read-only (LOCK_SH is granted then).
 */
int dz_filelock(struct dz_seg *seg, uint64_t fh, int op);
/* A description that may have had a lock is closed: those that wait look again. */
void dz_filelock_wake(struct dz_seg *seg);

#endif
