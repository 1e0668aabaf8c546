/* SPDX-License-Identifier: MIT */
/* Leases: one fetch for all who want the same, and no end of waiting for the dead. */
#include "cache/index.h"
#include "cache/lease.h"
#include "cache/slabs.h"
#include "cache/sys.h"
#include "tests/unit/fake_seg.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up(void **state)
{
	struct fake_counts n = { .dram_slabs = 4, .leases = 64 };
	struct dz_seg *seg = calloc(1, sizeof(*seg));

	fake_seg_init(seg, &n);
	*state = seg;
	return 0;
}

static int tear_down(void **state)
{
	fake_seg_fini(*state);
	free(*state);
	return 0;
}

static struct dz_key key_of(uint64_t n)
{
	return dz_hash128(&n, sizeof(n), 3);
}

static int ask(struct dz_seg *seg, uint64_t n, uint32_t want, struct dz_lease_ref *ref)
{
	struct dz_request req = { .kind = DZ_KIND_DATA, .blk = n };

	return dz_lease_ask(seg, key_of(n), &req, 0, want, ref);
}

/* The same segment as another member sees it. */
static struct dz_seg as_member(const struct dz_seg *seg, uint32_t member)
{
	struct dz_seg other = *seg;

	other.member = member;
	atomic_store(&seg->members[member].state, DZ_MEMBER_LIVE);
	atomic_store(&seg->members[member].pid, (uint32_t)getpid());
	return other;
}

static uint32_t leases_in_use(const struct dz_seg *seg)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < seg->n_leases; i++)
		n += dz_lease_state(atomic_load(&seg->leases[i].word)) != DZ_LEASE_FREE;
	return n;
}

static void two_who_ask_for_the_same_share_one_lease(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2);
	struct dz_lease_ref a, b;

	assert_int_equal(ask(seg, 1, 1, &a), 0);
	assert_int_equal(ask(&other, 1, 4, &b), 0);
	assert_true(a.is_new);
	assert_false(b.is_new);
	assert_int_equal(a.idx, b.idx);
	assert_int_equal(a.token, b.token);
	assert_int_equal(atomic_load(&seg->leases[a.idx].want), 5);
	assert_int_equal(leases_in_use(seg), 1);
}

static void the_fetcher_is_rung_for(void **state)
{
	struct dz_seg *seg = *state;
	struct dz_lease_ref a;

	assert_int_equal(ask(seg, 1, 1, &a), 0);
	assert_true(atomic_load(&seg->pending[a.idx / 64]) >> (a.idx % 64) & 1);
	dz_lease_ring(seg, seg->n_agents, a.idx);
	dz_lease_ring(seg, 0, seg->n_leases);
}

static void one_claims_and_the_end_reaches_who_asked(void **state)
{
	struct dz_seg *seg = *state;
	struct dz_lease_ref a;
	uint64_t word, again;

	assert_int_equal(ask(seg, 1, 1, &a), 0);
	assert_int_equal(dz_lease_poll(seg, &a), 1);
	assert_true(dz_lease_claim(seg, a.idx, &word));
	assert_false(dz_lease_claim(seg, a.idx, &again));
	assert_true(dz_lease_holds(seg, a.idx, word));
	assert_int_equal(dz_lease_poll(seg, &a), 1);
	dz_lease_finish(seg, a.idx, word, 0);
	assert_int_equal(dz_lease_poll(seg, &a), 0);
	assert_false(dz_lease_holds(seg, a.idx, word));
	assert_int_equal(leases_in_use(seg), 0);
}

static void a_failure_reaches_who_asked_and_nobody_after(void **state)
{
	struct dz_seg *seg = *state;
	struct dz_lease_ref a, b;
	uint64_t word;

	assert_int_equal(ask(seg, 1, 1, &a), 0);
	assert_true(dz_lease_claim(seg, a.idx, &word));
	dz_lease_finish(seg, a.idx, word, -EACCES);
	assert_int_equal(dz_lease_poll(seg, &a), -EACCES);
	assert_int_equal(ask(seg, 1, 1, &b), 0);
	assert_true(b.is_new);
	assert_true(b.token > a.token);
	assert_int_equal(dz_lease_poll(seg, &b), 1);
}

static void a_full_neighbourhood_says_try_again(void **state)
{
	struct dz_seg *seg = *state;
	struct dz_lease_ref ref;
	int ret = 0;
	uint64_t n = 0;

	while (ret == 0 && n < 1000)
		ret = ask(seg, ++n, 1, &ref);
	assert_int_equal(ret, -EAGAIN);
	/* those under way can still be joined */
	assert_int_equal(ask(seg, 1, 2, &ref), 0);
	assert_false(ref.is_new);
}

/* ---- the dead and the late ---- */

/* Member 2 fetches: its lease and a slot with `valid` pieces. */
static uint32_t begin_fetch(struct dz_seg *other, uint64_t n, uint32_t valid, uint64_t *word,
			    uint64_t *ctl)
{
	struct dz_lease_ref ref;
	uint32_t slot;
	struct dz_slot *s;

	assert_int_equal(ask(other, n, 0xffff, &ref), 0);
	assert_true(dz_lease_claim(other, ref.idx, word));
	slot = dz_slot_alloc(other, DZ_TIER_DRAM, DZ_BLOCK_BYTES, other->member, ctl);
	assert_int_not_equal(slot, DZ_NONE);
	s = dz_slot_of(other, DZ_TIER_DRAM, slot);
	atomic_store(&s->key_lo, key_of(n).lo);
	atomic_store(&s->key_hi, key_of(n).hi);
	atomic_store(&s->len, (uint32_t)DZ_BLOCK_BYTES);
	assert_int_equal(dz_index_insert(other, key_of(n), DZ_TIER_DRAM, slot, DZ_NONE), 0);
	atomic_store(&s->valid, valid);
	atomic_store(&other->leases[ref.idx].slot, slot);
	return slot;
}

static uint32_t lease_of(const struct dz_seg *seg, uint64_t word)
{
	for (uint32_t i = 0; i < seg->n_leases; i++)
		if (atomic_load(&seg->leases[i].word) == word)
			return i;
	fail_msg("no such lease");
	return 0;
}

static enum dz_slot_state slot_state(struct dz_seg *seg, uint32_t slot)
{
	return dz_ctl_state(atomic_load(&dz_slot_of(seg, DZ_TIER_DRAM, slot)->ctl));
}

static void the_lease_of_a_dead_owner_is_taken_over(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2);
	uint64_t word, ctl;
	uint32_t slot = begin_fetch(&other, 1, 0x3, &word, &ctl), idx = lease_of(seg, word);
	struct dz_lease_ref ref;

	assert_int_equal(ask(seg, 1, 1, &ref), 0);
	assert_true(dz_lease_take_over(seg, idx, word, true));
	/* what had come is published, under the same generation */
	assert_int_equal(slot_state(seg, slot), DZ_SLOT_READY);
	assert_int_equal(dz_index_find(seg, key_of(1), DZ_TIER_DRAM, &ctl), slot);
	/* who waited looks again, joins the same request and gets the new token */
	assert_int_equal(dz_lease_poll(seg, &ref), 0);
	assert_int_equal(ask(seg, 1, 1, &ref), 0);
	assert_false(ref.is_new);
	assert_int_equal(ref.token, dz_lease_token(word) + 1);
	assert_true(dz_lease_claim(seg, idx, &word));
}

static void a_dead_owner_s_empty_slot_is_freed(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2);
	uint64_t word, ctl;
	uint32_t slot = begin_fetch(&other, 1, 0, &word, &ctl);

	assert_true(dz_lease_take_over(seg, lease_of(seg, word), word, true));
	assert_int_equal(slot_state(seg, slot), DZ_SLOT_FREE);
	assert_int_equal(dz_index_find(seg, key_of(1), DZ_TIER_DRAM, &ctl), DZ_NONE);
	assert_int_equal(atomic_load(&seg->hdr->chunks[0]), 0);
}

static void a_late_owner_keeps_its_slot_but_cannot_publish(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2);
	uint64_t word, ctl, now;
	uint32_t slot = begin_fetch(&other, 1, 0x3, &word, &ctl), idx = lease_of(seg, word);

	assert_false(dz_lease_take_over(seg, idx, word, false)); /* not late yet */
	atomic_store(&seg->leases[idx].deadline_ms, 0);
	assert_true(dz_lease_take_over(seg, idx, word, false));
	assert_int_equal(slot_state(seg, slot), DZ_SLOT_QUARANTINE);
	assert_int_equal(dz_index_find(seg, key_of(1), DZ_TIER_DRAM, &ctl), DZ_NONE);
	/* it wakes up */
	assert_false(dz_lease_holds(&other, idx, word));
	ctl = dz_ctl(1, 2, DZ_SLOT_FILLING);
	assert_false(dz_slot_publish(&other, DZ_TIER_DRAM, slot, ctl, &now));
	dz_lease_finish(&other, idx, word, 0);
	assert_int_equal(dz_lease_state(atomic_load(&seg->leases[idx].word)), DZ_LEASE_REQUESTED);
	/* only it can give the space back */
	now = atomic_load(&dz_slot_of(seg, DZ_TIER_DRAM, slot)->ctl);
	assert_true(dz_slot_discard(&other, DZ_TIER_DRAM, slot, now));
}

static void a_renewed_lease_is_not_late(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2);
	uint64_t word, ctl;

	begin_fetch(&other, 1, 0, &word, &ctl);
	atomic_store(&seg->leases[lease_of(seg, word)].deadline_ms, 0);
	assert_true(dz_lease_holds(&other, lease_of(seg, word), word));
	assert_false(dz_lease_take_over(seg, lease_of(seg, word), word, false));
}

static void of_two_who_take_over_one_does(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2), third = as_member(seg, 3);
	uint64_t word, ctl;
	uint32_t idx;

	begin_fetch(&other, 1, 0, &word, &ctl);
	idx = lease_of(seg, word);
	assert_true(dz_lease_take_over(seg, idx, word, true));
	assert_false(dz_lease_take_over(&third, idx, word, true));
	assert_int_equal(dz_lease_token(atomic_load(&seg->leases[idx].word)),
			 dz_lease_token(word) + 1);
}

static void who_came_after_the_dead_owner_is_not_taken_for_it(void **state)
{
	struct dz_seg *seg = *state, dead = as_member(seg, 2), next = as_member(seg, 3);
	uint64_t word, now, ctl;
	uint32_t idx;

	begin_fetch(&dead, 1, 0, &word, &ctl);
	idx = lease_of(seg, word);
	assert_true(dz_lease_take_over(seg, idx, word, true));
	assert_true(dz_lease_claim(&next, idx, &now));
	/* who had looked at the lease before all that */
	assert_false(dz_lease_take_over(seg, idx, word, true));
	assert_true(dz_lease_holds(&next, idx, now));
}

/* Every place of the neighbourhood, also behind the end of the table. */
static void a_place_left_in_claiming_blocks_nobody_for_long(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t now = dz_now_ms();

	for (uint64_t n = 1; n < 200; n++) {
		struct dz_lease_ref ref;
		uint64_t word;

		assert_int_equal(ask(seg, n, 1, &ref), 0);
		/* its asker was killed before the request was written, at any place near by */
		for (uint32_t i = 0; i < 16; i += 5) {
			struct dz_lease *dead = &seg->leases[(ref.idx + i) % seg->n_leases];

			atomic_store(&dead->key_lo, key_of(n).lo);
			atomic_store(&dead->key_hi, key_of(n).hi);
			atomic_store(&dead->deadline_ms, now - 1);
			atomic_store(&dead->word, dz_lease_word(n * 3, 5, DZ_LEASE_CLAIMING));
		}
		assert_int_equal(ask(seg, n, 1, &ref), 0);
		assert_true(ref.is_new);
		assert_true(dz_lease_claim(seg, ref.idx, &word));
		dz_lease_finish(seg, ref.idx, word, 0);
		for (uint32_t i = 0; i < seg->n_leases; i++)
			atomic_store(&seg->leases[i].word,
				     dz_lease_word(n * 3 + 1, 0, DZ_LEASE_FREE));
	}
}

/* ---- at once ---- */

struct crowd {
	struct dz_seg seg;
	_Atomic uint32_t fetched[64]; /* times that block i was fetched while it was wanted once */
	_Atomic uint64_t done;
	_Atomic bool is_over;
};

static void *fetches(void *arg)
{
	struct crowd *c = arg;

	while (!atomic_load(&c->is_over)) {
		for (uint32_t i = 0; i < c->seg.n_leases; i++) {
			uint64_t word;

			if (!dz_lease_claim(&c->seg, i, &word))
				continue;
			atomic_fetch_add(&c->fetched[c->seg.requests[i].blk], 1);
			dz_lease_progress(&c->seg, i, DZ_LEASE_ALL);
			dz_lease_finish(&c->seg, i, word, 0);
		}
	}
	return NULL;
}

static void *wants(void *arg)
{
	struct crowd *c = arg;
	uint32_t x = (uint32_t)(uintptr_t)&x;

	for (int i = 0; i < 3000; i++) {
		struct dz_lease_ref ref;

		x = x * 1664525 + 1013904223;
		if (ask(&c->seg, (x >> 16) % 20, 1, &ref) < 0)
			continue;
		while (dz_lease_poll(&c->seg, &ref) == 1)
			dz_lease_wait(&c->seg, &ref, DZ_LEASE_ALL, 100);
		atomic_fetch_add(&c->done, 1);
	}
	return NULL;
}

static void everybody_who_waits_is_served(void **state)
{
	struct crowd c = { .seg = *(struct dz_seg *)*state };
	pthread_t t[6];

	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&t[i], NULL, i < 2 ? fetches : wants, &c), 0);
	for (int i = 2; i < 6; i++)
		pthread_join(t[i], NULL);
	atomic_store(&c.is_over, true);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_true(atomic_load(&c.done) > 6000);
	assert_int_equal(leases_in_use(&c.seg), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* ---- rivals ---- */

#define RIVALS 4
#define ROUNDS 3000

struct rivals {
	struct dz_seg *seg;
	pthread_barrier_t gate;
	_Atomic uint32_t made, joined;
	uint32_t wrong;
};

struct rival {
	struct rivals *all;
	uint32_t member;
};

/* All ask for the same at once: one makes the request, the others join it. */
static void *rival_main(void *arg)
{
	struct rival *me = arg;
	struct rivals *all = me->all;
	struct dz_seg seg = as_member(all->seg, me->member);

	for (uint64_t n = 1; n <= ROUNDS; n++) {
		struct dz_lease_ref ref;
		uint64_t word;

		pthread_barrier_wait(&all->gate);
		while (ask(&seg, n, 1, &ref) == -EAGAIN)
			sched_yield();
		atomic_fetch_add(ref.is_new ? &all->made : &all->joined, 1);
		if (pthread_barrier_wait(&all->gate) != PTHREAD_BARRIER_SERIAL_THREAD)
			continue;
		all->wrong += atomic_exchange(&all->made, 0) != 1;
		all->wrong += atomic_exchange(&all->joined, 0) != RIVALS - 1;
		for (uint32_t i = 0; i < seg.n_leases; i++)
			if (dz_lease_claim(&seg, i, &word))
				dz_lease_finish(&seg, i, word, 0);
	}
	return NULL;
}

static void of_rivals_who_ask_at_once_one_makes_the_request(void **state)
{
	struct rivals all = { .seg = *state };
	struct rival rival[RIVALS];
	pthread_t thread[RIVALS];

	pthread_barrier_init(&all.gate, NULL, RIVALS);
	for (uint32_t i = 0; i < RIVALS; i++) {
		rival[i] = (struct rival){ &all, i + 1 };
		assert_int_equal(pthread_create(&thread[i], NULL, rival_main, &rival[i]), 0);
	}
	for (uint32_t i = 0; i < RIVALS; i++)
		pthread_join(thread[i], NULL);
	pthread_barrier_destroy(&all.gate);
	assert_int_equal(all.wrong, 0);
	assert_int_equal(leases_in_use(all.seg), 0);
}

/* Both places that a key would take first, as two left them who were killed there. */
static void a_rival_that_sleeps_is_not_waited_for(void **state)
{
	struct dz_seg *seg = *state, other = as_member(seg, 2);
	struct dz_lease_ref first, ref;
	struct dz_lease *l;
	uint64_t word, sleeping;

	assert_int_equal(ask(&other, 1, 1, &first), 0);
	assert_true(dz_lease_claim(&other, first.idx, &word));
	dz_lease_finish(&other, first.idx, word, 0);
	/* the one behind it, in claiming, with the key, and with time left */
	l = &seg->leases[(first.idx + 1) % seg->n_leases];
	sleeping = dz_lease_word(7, 2, DZ_LEASE_CLAIMING);
	atomic_store(&l->key_lo, key_of(1).lo);
	atomic_store(&l->key_hi, key_of(1).hi);
	atomic_store(&l->deadline_ms, dz_now_ms() + 60000);
	atomic_store(&l->word, sleeping);
	assert_int_equal(ask(seg, 1, 1, &ref), 0);
	assert_true(ref.is_new);
	assert_int_equal(ref.idx, first.idx);
	/* it wakes up, and finds that its place is gone */
	assert_int_not_equal(atomic_load(&l->word), sleeping);
	assert_int_equal(leases_in_use(seg), 1);
}

struct late_rival {
	struct dz_seg *seg;
	uint32_t idx; /* of its place; the other's is the one before */
	bool is_first;
};

/* It has looked, and seen nobody; the other claims; it makes its request. */
static void *late_rival_main(void *arg)
{
	struct late_rival *r = arg;
	_Atomic uint64_t *word = &r->seg->leases[r->idx].word;
	uint64_t claiming = dz_lease_word(7, 2, DZ_LEASE_CLAIMING);

	while (dz_lease_state(atomic_load(&r->seg->leases[r->idx - 1].word)) == DZ_LEASE_FREE)
		sched_yield();
	r->is_first = atomic_compare_exchange_strong(word, &claiming,
						     dz_lease_word(7, 0, DZ_LEASE_REQUESTED));
	return NULL;
}

static void a_rival_further_on_that_has_looked_before_is_joined(void **state)
{
	struct dz_seg *seg = *state;

	for (uint64_t n = 1; n <= 200; n++) {
		struct late_rival rival = { .seg = seg };
		struct dz_lease_ref ref;
		struct dz_lease *l;
		pthread_t thread;
		uint64_t word;

		/* where does it live? */
		assert_int_equal(ask(seg, n, 1, &ref), 0);
		assert_true(dz_lease_claim(seg, ref.idx, &word));
		dz_lease_finish(seg, ref.idx, word, 0);
		rival.idx = ref.idx + 1;
		if (rival.idx == seg->n_leases)
			continue;
		l = &seg->leases[rival.idx];
		atomic_store(&l->key_lo, key_of(n).lo);
		atomic_store(&l->key_hi, key_of(n).hi);
		atomic_store(&l->deadline_ms, dz_now_ms() + 60000);
		atomic_store(&l->word, dz_lease_word(7, 2, DZ_LEASE_CLAIMING));
		assert_int_equal(pthread_create(&thread, NULL, late_rival_main, &rival), 0);
		while (ask(seg, n, 1, &ref) == -EAGAIN)
			sched_yield();
		pthread_join(thread, NULL);
		assert_int_equal(leases_in_use(seg), 1);
		assert_true(ref.is_new != rival.is_first);
		assert_true(dz_lease_claim(seg, ref.idx, &word));
		dz_lease_finish(seg, ref.idx, word, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(two_who_ask_for_the_same_share_one_lease),
		TEST(the_fetcher_is_rung_for),
		TEST(one_claims_and_the_end_reaches_who_asked),
		TEST(a_failure_reaches_who_asked_and_nobody_after),
		TEST(a_full_neighbourhood_says_try_again),
		TEST(the_lease_of_a_dead_owner_is_taken_over),
		TEST(a_dead_owner_s_empty_slot_is_freed),
		TEST(a_late_owner_keeps_its_slot_but_cannot_publish),
		TEST(a_renewed_lease_is_not_late),
		TEST(of_two_who_take_over_one_does),
		TEST(who_came_after_the_dead_owner_is_not_taken_for_it),
		TEST(a_place_left_in_claiming_blocks_nobody_for_long),
		TEST(everybody_who_waits_is_served),
		TEST(of_rivals_who_ask_at_once_one_makes_the_request),
		TEST(a_rival_that_sleeps_is_not_waited_for),
		TEST(a_rival_further_on_that_has_looked_before_is_joined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
