/* SPDX-License-Identifier: MIT */
/*
 * Single flight: one lease a block (or listing, or name) that is being fetched.
 * A requester claims a free lease, writes what it wants and rings the fetcher
 * of the mount's credentials; everyone who wants the same waits on `seq`.  The
 * token changes at each takeover, so a fetcher that slept through its deadline
 * cannot publish.
 */
#ifndef DZ_LEASE_H
#define DZ_LEASE_H

#include "cache/segment.h"

/* Bits of `awaited`: the pieces, and one that only the end (or a listing's page) sets. */
#define DZ_LEASE_END 0x10000u
#define DZ_LEASE_ALL UINT32_MAX

struct dz_lease_ref {
	uint32_t idx;
	uint32_t seq;	/* value of the futex word when we looked */
	uint64_t token; /* of the request we wait for */
	bool is_new;	/* we made the request: the fetcher wants waking */
};

static inline uint64_t dz_lease_word(uint64_t token, uint32_t owner, enum dz_lease_state st)
{
	return token << 24 | (uint64_t)(owner & 0xffff) << 8 | (uint64_t)st;
}

static inline uint64_t dz_lease_token(uint64_t word)
{
	return word >> 24;
}

static inline uint32_t dz_lease_owner(uint64_t word)
{
	return (uint32_t)(word >> 8) & 0xffff;
}

static inline enum dz_lease_state dz_lease_state(uint64_t word)
{
	return (enum dz_lease_state)(word & 0xff);
}

/*
 * Asks for `want` (pieces) of `key`, described by *req (copied).  Joins the
 * request that is under way when there is one.  0 and *ref, or -EAGAIN: the
 * table has no room near this key (wait a little, or fetch privately).
 */
int dz_lease_ask(struct dz_seg *seg, struct dz_key key, const struct dz_request *req,
		 uint32_t agent, uint32_t want, struct dz_lease_ref *ref);
/*
 * How did it go?  1: under way (ref->seq is refreshed: wait on it), 0: it ended
 * well, or somebody else's took its place: look again, -errno: it failed.
 */
int dz_lease_poll(const struct dz_seg *seg, struct dz_lease_ref *ref);
/* Sleeps for these pieces, or the end, or anything, at most timeout_ms. */
void dz_lease_wait(struct dz_seg *seg, const struct dz_lease_ref *ref, uint32_t pieces,
		   uint32_t timeout_ms);

/* Fetcher: requested -> active.  *word is then what it owns. */
bool dz_lease_claim(struct dz_seg *seg, uint32_t idx, uint64_t *word);
/* Fetcher: still ours?  Also pushes the deadline back. */
bool dz_lease_holds(struct dz_seg *seg, uint32_t idx, uint64_t word);
/* Fetcher: these pieces are there; wakes only if one of them is slept for. */
void dz_lease_progress(struct dz_seg *seg, uint32_t idx, uint32_t pieces);
/* Fetcher: the end, err 0 or -errno.  Does nothing when it was taken over. */
void dz_lease_finish(struct dz_seg *seg, uint32_t idx, uint64_t word, int err);
/*
 * Anyone: an active lease (word `word`: that owner, not one who has come since)
 * whose owner is dead (`owner_dead`) or late becomes requested again, under a new
 * token.  The slot that was being filled is made
 * safe: of a dead owner it is published as far as it came, of a late one it is
 * quarantined.  Returns whether it did.
 */
bool dz_lease_take_over(struct dz_seg *seg, uint32_t idx, uint64_t word, bool owner_dead);
/* Rings the bit of `idx` for this agent. */
void dz_lease_ring(struct dz_seg *seg, uint32_t agent, uint32_t idx);

#endif
