// SPDX-License-Identifier: MIT
/*
 * Leases: see lease.h for the promise.
 *
 *     free -> claiming -> requested -> active -> free
 *
 * A lease lives within DZ_PROBE places of its key's hash, so a lookup reads a
 * few cache lines.  Two requesters of one key that claim different places at
 * once both look again after storing the key; the one further on gives up when it
 * sees the other, which waits a moment for it to do so, or to have been first
 * (tests/model/ask.pml).
 *
 * Killed in claiming: the place is free again after its deadline.  Killed in
 * active: dz_lease_take_over(), by any waiter or the sweeper.  A waiter never
 * depends on a wake-up: it waits at most 100 ms and looks again.
 */
#include "cache/lease.h"

#include "cache/index.h"
#include "cache/member.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>

#define DZ_PROBE    16
#define CLAIMING_MS 1000
#define RIVAL_LOOKS 200	 /* it is a few stores away from its decision */
#define ACTIVE_MS   4000 /* the fetcher renews it twice a second */

static uint32_t lease_home(const struct dz_seg *seg, struct dz_key key)
{
	return (uint32_t)((key.lo ^ key.hi * 0x9e3779b97f4a7c15ull) >> 20) % seg->n_leases;
}

static uint32_t lease_at(const struct dz_seg *seg, uint32_t home, uint32_t i)
{
	return (home + i) % seg->n_leases;
}

static bool lease_has_key(const struct dz_lease *l, struct dz_key key)
{
	return atomic_load_explicit(&l->key_lo, memory_order_relaxed) == key.lo &&
	       atomic_load_explicit(&l->key_hi, memory_order_relaxed) == key.hi;
}

/* Left in claiming by somebody who died, or sleeps: the place is open to others. */
static bool lease_is_abandoned(const struct dz_lease *l, uint64_t word, uint64_t now)
{
	return dz_lease_state(word) == DZ_LEASE_CLAIMING &&
	       atomic_load_explicit(&l->deadline_ms, memory_order_relaxed) < now;
}

/* A place under way for `key`, other than `except`, left in claiming before `now` or not. */
static uint32_t lease_find_since(const struct dz_seg *seg, struct dz_key key, uint32_t except,
				 uint64_t now, uint64_t *word)
{
	uint32_t home = lease_home(seg, key);

	for (uint32_t i = 0; i < DZ_PROBE; i++) {
		uint32_t idx = lease_at(seg, home, i);
		struct dz_lease *l = &seg->leases[idx];

		/* Acquire: pairs with the release that made it requested. */
		*word = atomic_load_explicit(&l->word, memory_order_acquire);
		if (idx != except && dz_lease_state(*word) != DZ_LEASE_FREE &&
		    lease_has_key(l, key) && !lease_is_abandoned(l, *word, now))
			return idx;
	}
	return DZ_NONE;
}

/* One that is not abandoned; DZ_NONE. */
static uint32_t lease_find(const struct dz_seg *seg, struct dz_key key, uint32_t except,
			   uint64_t *word)
{
	return lease_find_since(seg, key, except, dz_now_ms(), word);
}

static bool lease_is_open(const struct dz_lease *l, uint64_t word, uint64_t now)
{
	return dz_lease_state(word) == DZ_LEASE_FREE || lease_is_abandoned(l, word, now);
}

static uint32_t lease_claim_place(struct dz_seg *seg, struct dz_key key, uint64_t *word)
{
	uint32_t home = lease_home(seg, key);
	uint64_t now = dz_now_ms();

	for (uint32_t i = 0; i < DZ_PROBE; i++) {
		uint32_t idx = lease_at(seg, home, i);
		struct dz_lease *l = &seg->leases[idx];
		uint64_t old = atomic_load_explicit(&l->word, memory_order_acquire);

		if (!lease_is_open(l, old, now))
			continue;
		*word = dz_lease_word(dz_lease_token(old) + 1, seg->member, DZ_LEASE_CLAIMING);
		/* A deadline of the future first, so that nobody takes it for a dead one. */
		if (dz_lease_state(old) == DZ_LEASE_FREE)
			atomic_store_explicit(&l->deadline_ms, now + CLAIMING_MS,
					      memory_order_relaxed);
		if (atomic_compare_exchange_strong(&l->word, &old, *word)) {
			atomic_store_explicit(&l->deadline_ms, now + CLAIMING_MS,
					      memory_order_relaxed);
			return idx;
		}
	}
	return DZ_NONE;
}

static void lease_release_place(struct dz_lease *l, uint64_t word)
{
	atomic_compare_exchange_strong(&l->word, &word,
				       dz_lease_word(dz_lease_token(word), 0, DZ_LEASE_FREE));
}

void dz_lease_ring(struct dz_seg *seg, uint32_t agent, uint32_t idx)
{
	if (agent >= seg->n_agents || idx >= seg->n_leases)
		return;
	atomic_fetch_or_explicit(&seg->pending[agent * seg->pending_words + idx / 64],
				 1ull << (idx % 64), memory_order_release);
}

static void lease_join(struct dz_seg *seg, uint32_t idx, uint64_t word, uint32_t want,
		       struct dz_lease_ref *ref)
{
	struct dz_lease *l = &seg->leases[idx];

	atomic_fetch_or_explicit(&l->want, want, memory_order_relaxed);
	ref->idx = idx;
	ref->token = dz_lease_token(word);
	ref->seq = atomic_load_explicit(&l->seq, memory_order_acquire);
	ref->is_new = false;
}

/*
 * We have a place in claiming, with the key.  Who else is at it?  Who is further on and
 * claiming has not seen us, and will be a request at once, or has, and gives up: but it may
 * have been stopped in between, then its place is taken from it, as from one that was
 * abandoned.  Its own CAS fails then.  DZ_NONE: nobody.
 */
static uint32_t lease_find_rival(const struct dz_seg *seg, struct dz_key key, uint32_t mine,
				 uint64_t *word)
{
	uint32_t other;

	for (int i = 0;; i++) {
		bool is_late;

		other = lease_find_since(seg, key, mine, 0, word);
		if (other == DZ_NONE || dz_lease_state(*word) != DZ_LEASE_CLAIMING)
			return other;
		is_late = lease_is_abandoned(&seg->leases[other], *word, dz_now_ms());
		if (other < mine && !is_late)
			return other;
		if (i < RIVAL_LOOKS && !is_late)
			dz_sys_0(SYS_sched_yield);
		else
			lease_release_place(&seg->leases[other], *word);
	}
}

int dz_lease_ask(struct dz_seg *seg, struct dz_key key, const struct dz_request *req,
		 uint32_t agent, uint32_t want, struct dz_lease_ref *ref)
{
	uint64_t word, other_word;
	uint32_t idx = lease_find(seg, key, DZ_NONE, &word), other;
	struct dz_lease *l;

	if (idx != DZ_NONE && dz_lease_state(word) != DZ_LEASE_CLAIMING) {
		lease_join(seg, idx, word, want, ref);
		return 0;
	}
	idx = lease_claim_place(seg, key, &word);
	if (idx == DZ_NONE)
		return -EAGAIN;
	l = &seg->leases[idx];
	atomic_store_explicit(&l->key_lo, key.lo, memory_order_relaxed);
	atomic_store_explicit(&l->key_hi, key.hi, memory_order_relaxed);
	/* Both of two rivals store their key before they look for the other's. */
	atomic_thread_fence(memory_order_seq_cst);
	other = lease_find_rival(seg, key, idx, &other_word);
	if (other != DZ_NONE) {
		lease_release_place(l, word);
		if (dz_lease_state(other_word) == DZ_LEASE_CLAIMING)
			return -EAGAIN;
		lease_join(seg, other, other_word, want, ref);
		return 0;
	}
	memcpy(&seg->requests[idx], req, offsetof(struct dz_request, why));
	seg->requests[idx].why[0] = '\0';
	atomic_store_explicit(&l->want, want, memory_order_relaxed);
	atomic_store_explicit(&l->slot, DZ_NONE, memory_order_relaxed);
	atomic_store_explicit(&l->waiters, 0, memory_order_relaxed);
	atomic_store_explicit(&l->awaited, 0, memory_order_relaxed);
	ref->idx = idx;
	ref->token = dz_lease_token(word);
	ref->seq = atomic_load_explicit(&l->seq, memory_order_relaxed);
	ref->is_new = true;
	if (!atomic_compare_exchange_strong(&l->word, &word,
					    dz_lease_word(ref->token, 0, DZ_LEASE_REQUESTED)))
		return -EAGAIN;
	dz_lease_ring(seg, agent, idx);
	return 0;
}

int dz_lease_poll(const struct dz_seg *seg, struct dz_lease_ref *ref)
{
	const struct dz_lease *l = &seg->leases[ref->idx];
	uint64_t word, done;

	/* Acquire: what was published before the end is visible after this load. */
	ref->seq = atomic_load_explicit(&l->seq, memory_order_acquire);
	word = atomic_load_explicit(&l->word, memory_order_acquire);
	done = atomic_load_explicit(&l->done, memory_order_acquire);
	if (done >> 16 == ref->token)
		return -(int)(done & 0xffff);
	if (dz_lease_state(word) == DZ_LEASE_FREE)
		return 0;
	if (dz_lease_token(word) == ref->token)
		return 1;
	/* Taken over: the same request under a newer token, or another key's. */
	if (dz_lease_state(word) != DZ_LEASE_REQUESTED && dz_lease_state(word) != DZ_LEASE_ACTIVE)
		return 0;
	return 0;
}

void dz_lease_wait(struct dz_seg *seg, const struct dz_lease_ref *ref, uint32_t pieces,
		   uint32_t timeout_ms)
{
	struct dz_lease *l = &seg->leases[ref->idx];

	atomic_fetch_or_explicit(&l->awaited, pieces, memory_order_seq_cst);
	/* A waiter killed here leaves the count too high: a few needless wakes. */
	atomic_fetch_add_explicit(&l->waiters, 1, memory_order_seq_cst);
	dz_sys_futex_wait(&l->seq, ref->seq, timeout_ms);
	atomic_fetch_sub_explicit(&l->waiters, 1, memory_order_relaxed);
}

bool dz_lease_claim(struct dz_seg *seg, uint32_t idx, uint64_t *word)
{
	struct dz_lease *l = &seg->leases[idx];
	uint64_t old = atomic_load_explicit(&l->word, memory_order_acquire);

	if (dz_lease_state(old) != DZ_LEASE_REQUESTED)
		return false;
	*word = dz_lease_word(dz_lease_token(old), seg->member, DZ_LEASE_ACTIVE);
	atomic_store_explicit(&l->deadline_ms, dz_now_ms() + ACTIVE_MS, memory_order_relaxed);
	atomic_store_explicit(&l->active_us, (uint32_t)(dz_now_ns() / 1000), memory_order_relaxed);
	return atomic_compare_exchange_strong(&l->word, &old, *word);
}

bool dz_lease_holds(struct dz_seg *seg, uint32_t idx, uint64_t word)
{
	struct dz_lease *l = &seg->leases[idx];

	if (atomic_load_explicit(&l->word, memory_order_acquire) != word)
		return false;
	atomic_store_explicit(&l->deadline_ms, dz_now_ms() + ACTIVE_MS, memory_order_relaxed);
	return true;
}

void dz_lease_progress(struct dz_seg *seg, uint32_t idx, uint32_t pieces)
{
	struct dz_lease *l = &seg->leases[idx];

	/* seq_cst: a waiter adds itself before it checks seq; one of us sees the other. */
	atomic_fetch_add_explicit(&l->seq, 1, memory_order_seq_cst);
	if (atomic_load_explicit(&l->waiters, memory_order_seq_cst) &&
	    (atomic_load_explicit(&l->awaited, memory_order_seq_cst) & pieces))
		dz_sys_futex_wake(&l->seq, INT32_MAX);
}

void dz_lease_finish(struct dz_seg *seg, uint32_t idx, uint64_t word, int err)
{
	struct dz_lease *l = &seg->leases[idx];
	uint64_t token = dz_lease_token(word);

	if (atomic_load_explicit(&l->word, memory_order_acquire) != word)
		return;
	atomic_store_explicit(&l->done, token << 16 | (uint64_t)(-err & 0xffff),
			      memory_order_release);
	atomic_compare_exchange_strong(&l->word, &word, dz_lease_word(token, 0, DZ_LEASE_FREE));
	dz_lease_progress(seg, idx, DZ_LEASE_ALL);
}

/* The slot that a dead or late owner was filling. */
static void lease_settle_slot(struct dz_seg *seg, uint32_t idx, uint32_t owner, bool owner_dead)
{
	uint32_t n = atomic_load_explicit(&seg->leases[idx].slot, memory_order_acquire);
	struct dz_slot *s;
	struct dz_key key;
	uint64_t ctl;

	if (n >= seg->n_dram_slots)
		return;
	s = dz_dram_slot(seg, n);
	ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	if (dz_ctl_state(ctl) != DZ_SLOT_FILLING || dz_ctl_owner(ctl) != (owner & 0xffff))
		return;
	key.lo = atomic_load_explicit(&s->key_lo, memory_order_relaxed);
	key.hi = atomic_load_explicit(&s->key_hi, memory_order_relaxed);
	if (owner_dead && atomic_load_explicit(&s->valid, memory_order_acquire)) {
		/* Its bytes were stored before their bits: publish what there is. */
		atomic_compare_exchange_strong(&s->ctl, &ctl,
					       dz_ctl(dz_ctl_gen(ctl), 0, DZ_SLOT_READY));
		return;
	}
	dz_index_remove(seg, key, DZ_TIER_DRAM, n);
	if (owner_dead)
		dz_slot_discard(seg, DZ_TIER_DRAM, n, ctl);
	else
		atomic_compare_exchange_strong(
			&s->ctl, &ctl, dz_ctl(dz_ctl_gen(ctl) + 1, owner, DZ_SLOT_QUARANTINE));
}

bool dz_lease_take_over(struct dz_seg *seg, uint32_t idx, uint64_t word, bool owner_dead)
{
	struct dz_lease *l = &seg->leases[idx];
	uint64_t mine;

	if (dz_lease_state(word) != DZ_LEASE_ACTIVE)
		return false;
	if (!owner_dead &&
	    atomic_load_explicit(&l->deadline_ms, memory_order_relaxed) > dz_now_ms())
		return false;
	/* Claiming keeps others off while the slot is made safe. */
	mine = dz_lease_word(dz_lease_token(word) + 1, seg->member, DZ_LEASE_CLAIMING);
	atomic_store_explicit(&l->deadline_ms, dz_now_ms() + CLAIMING_MS, memory_order_relaxed);
	if (!atomic_compare_exchange_strong(&l->word, &word, mine))
		return false;
	lease_settle_slot(seg, idx, dz_lease_owner(word), owner_dead);
	atomic_store_explicit(&l->slot, DZ_NONE, memory_order_relaxed);
	atomic_compare_exchange_strong(&l->word, &mine,
				       dz_lease_word(dz_lease_token(mine), 0, DZ_LEASE_REQUESTED));
	dz_lease_progress(seg, idx, DZ_LEASE_ALL);
	return true;
}
