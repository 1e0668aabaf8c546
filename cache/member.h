/* SPDX-License-Identifier: MIT */
/*
 * Who is attached.  A live member holds a POSIX byte lock at the offset of its
 * number in the file `members`: the kernel releases it at SIGKILL and at exec,
 * and fork does not inherit it.  But a process loses it too when it opens and closes
 * that file by itself (a backup, cat): so it holds a second lock, of the open file
 * description.  That one a child has inherited that was forked past our hooks; both
 * must be free of who is dead.
 */
#ifndef DZ_MEMBER_H
#define DZ_MEMBER_H

#include "cache/segment.h"

/* Becomes a member; seg->member is set.  0 or -EUSERS (table full), -errno of the lock. */
int dz_member_join(struct dz_seg *seg);
/* Leaves: nothing held any more.  Async-signal-safe. */
void dz_member_leave(struct dz_seg *seg);
/* Parent, before fork: a record for the child, holding what we hold; DZ_NONE when full. */
uint32_t dz_member_prepare_child(struct dz_seg *seg);
/* Child, after fork: takes over the record that the parent prepared (DZ_NONE: joins anew). */
int dz_member_adopt(struct dz_seg *seg, uint32_t member);
/* Parent, after fork: whose record that is, should it never come to adopt it. */
void dz_member_child_is(struct dz_seg *seg, uint32_t member, uint32_t pid);
/* Parent, when fork failed. */
void dz_member_cancel_child(struct dz_seg *seg, uint32_t member);
/* Is it alive?  Our own number is.  A claimed or forking record is alive until its deadline. */
bool dz_member_is_alive(const struct dz_seg *seg, uint32_t member);
/* A DRAM slot in filling (word `ctl`) of a dead owner: published as far as it came, or freed. */
void dz_member_settle_slot(struct dz_seg *seg, uint32_t slot, uint64_t ctl);
/*
 * Repairs what dead members left (slots, leases, open files, hazards).  At most
 * once a second unless `now`; try-lock, never waits for another sweeper.
 */
void dz_member_sweep(struct dz_seg *seg, bool now);

#endif
