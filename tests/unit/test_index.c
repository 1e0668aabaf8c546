/* SPDX-License-Identifier: MIT */
/* The index: what is found, what is replaced, and what a race or a kill leaves. */
#include "cache/index.h"
#include "tests/unit/fake_seg.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DRAM DZ_TIER_DRAM
#define DISK DZ_TIER_DISK

static int set_up(void **state)
{
	struct fake_counts n = {
		.dram_slabs = 4, .disk_slabs = 4, .disk_slots = 256, .buckets = 64
	};
	struct dz_seg *seg = malloc(sizeof(*seg));

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
	return dz_block_key((struct dz_key){ 0x1234567, 0xabcdef }, n);
}

/* Makes the slot one that holds the key, in the given state. */
static void tenant(struct dz_seg *seg, enum dz_tier tier, uint32_t slot, struct dz_key key,
		   enum dz_slot_state state)
{
	struct dz_slot *s = dz_slot_of(seg, tier, slot);

	atomic_store(&s->key_lo, key.lo);
	atomic_store(&s->key_hi, key.hi);
	atomic_store(&s->ctl, dz_ctl(1, 1, state));
}

static void insert_new(struct dz_seg *seg, enum dz_tier tier, uint32_t slot, struct dz_key key)
{
	tenant(seg, tier, slot, key, DZ_SLOT_READY);
	assert_int_equal(dz_index_insert(seg, key, tier, slot, DZ_NONE), 0);
}

static uint32_t entries(const struct dz_seg *seg)
{
	uint32_t n = 0;

	for (uint32_t b = 0; b < seg->n_buckets; b++)
		for (int i = 0; i < 8; i++)
			n += atomic_load(&seg->buckets[b].entry[i]) != 0;
	return n;
}

static void a_block_is_found_in_the_tier_where_it_was_put(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl = 0;

	insert_new(seg, DRAM, 7, key_of(1));
	insert_new(seg, DISK, 9, key_of(1));
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), 7);
	assert_int_equal(ctl, dz_ctl(1, 1, DZ_SLOT_READY));
	assert_int_equal(dz_index_find(seg, key_of(1), DISK, &ctl), 9);
	assert_int_equal(dz_index_find(seg, key_of(2), DRAM, &ctl), DZ_NONE);
	assert_int_equal(dz_index_find(seg, key_of(1), DZ_TIER_PEER, &ctl), DZ_NONE);
}

static void a_slot_that_is_being_filled_is_found_too(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	tenant(seg, DRAM, 3, key_of(1), DZ_SLOT_FILLING);
	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, 3, DZ_NONE), 0);
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), 3);
}

static void a_slot_that_is_not_readable_is_not_found(void **state)
{
	static const enum dz_slot_state states[] = { DZ_SLOT_FREE, DZ_SLOT_EVICTING,
						     DZ_SLOT_QUARANTINE };
	struct dz_seg *seg = *state;
	uint64_t ctl;

	insert_new(seg, DRAM, 3, key_of(1));
	for (size_t i = 0; i < DZ_ARRAY_LEN(states); i++) {
		tenant(seg, DRAM, 3, key_of(1), states[i]);
		assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), DZ_NONE);
	}
}

static void an_entry_whose_slot_has_another_tenant_is_not_found(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	insert_new(seg, DRAM, 3, key_of(1));
	tenant(seg, DRAM, 3, key_of(2), DZ_SLOT_READY);
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), DZ_NONE);
}

static void a_second_slot_for_the_same_key_is_refused(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	insert_new(seg, DRAM, 3, key_of(1));
	tenant(seg, DRAM, 4, key_of(1), DZ_SLOT_FILLING);
	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, 4, DZ_NONE), -EEXIST);
	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, 4, 99), -EEXIST);
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), 3);
	assert_int_equal(entries(seg), 1);
}

static void inserting_the_same_slot_again_changes_nothing(void **state)
{
	struct dz_seg *seg = *state;

	insert_new(seg, DRAM, 3, key_of(1));
	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, 3, DZ_NONE), 0);
	assert_int_equal(entries(seg), 1);
}

static void the_old_slot_is_replaced_in_its_place(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	insert_new(seg, DRAM, 3, key_of(1));
	tenant(seg, DRAM, 4, key_of(1), DZ_SLOT_FILLING);
	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, 4, 3), 0);
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), 4);
	assert_int_equal(entries(seg), 1);
	assert_false(dz_index_remove(seg, key_of(1), DRAM, 3));
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), 4);
}

static void an_old_slot_that_has_gone_does_not_hinder(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	tenant(seg, DRAM, 4, key_of(1), DZ_SLOT_FILLING);
	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, 4, 3), 0);
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), 4);
}

static void only_the_entry_of_that_slot_and_tier_is_removed(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	insert_new(seg, DRAM, 7, key_of(1));
	insert_new(seg, DISK, 7, key_of(1));
	assert_false(dz_index_remove(seg, key_of(1), DRAM, 8));
	assert_true(dz_index_remove(seg, key_of(1), DRAM, 7));
	assert_false(dz_index_remove(seg, key_of(1), DRAM, 7));
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), DZ_NONE);
	assert_int_equal(dz_index_find(seg, key_of(1), DISK, &ctl), 7);
}

static void key_zero_is_nobodys(void **state)
{
	struct dz_seg *seg = *state;
	struct dz_key zero = { 0, 0 };
	uint64_t ctl;

	tenant(seg, DRAM, 3, zero, DZ_SLOT_FILLING);
	assert_int_equal(dz_index_insert(seg, zero, DRAM, 3, DZ_NONE), -EINVAL);
	assert_int_equal(dz_index_find(seg, zero, DRAM, &ctl), DZ_NONE);
}

static void a_slot_out_of_bounds_is_refused_and_never_followed(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	assert_int_equal(dz_index_insert(seg, key_of(1), DRAM, seg->n_dram_slots, DZ_NONE),
			 -EINVAL);
	insert_new(seg, DRAM, 3, key_of(1));
	for (uint32_t b = 0; b < seg->n_buckets; b++)
		for (int i = 0; i < 8; i++)
			atomic_fetch_or(&seg->buckets[b].entry[i], 0xffffffff);
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &ctl), DZ_NONE);
	assert_int_equal(dz_index_scrub(seg, 0, UINT32_MAX), seg->n_buckets * 8);
	assert_int_equal(entries(seg), 0);
}

static void random_buckets_never_lead_to_a_wrong_block(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t x = 88172645463325252ull, ctl;

	for (uint32_t s = 0; s < seg->n_dram_slots; s++)
		tenant(seg, DRAM, s, key_of(s), DZ_SLOT_READY);
	for (uint32_t b = 0; b < seg->n_buckets; b++)
		for (int i = 0; i < 8; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			atomic_store(&seg->buckets[b].entry[i], x);
		}
	for (uint64_t k = 0; k < 4096; k++) {
		uint32_t slot = dz_index_find(seg, key_of(k), DRAM, &ctl);

		assert_true(slot == DZ_NONE || slot == k);
		dz_index_insert(seg, key_of(k), DRAM, (uint32_t)k % seg->n_dram_slots, DZ_NONE);
		dz_index_remove(seg, key_of(k), DRAM, (uint32_t)k % seg->n_dram_slots);
	}
}

/* 64 buckets of 8: at half load no key may fail to find a place. */
static void a_half_full_table_takes_every_key(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	for (uint32_t k = 0; k < 256; k++)
		insert_new(seg, DRAM, k, key_of(k));
	for (uint32_t k = 0; k < 256; k++)
		assert_int_equal(dz_index_find(seg, key_of(k), DRAM, &ctl), k);
}

static void a_full_table_says_so_and_takes_the_place_of_dead_entries(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t k = 0;
	int ret;

	do {
		tenant(seg, DRAM, k, key_of(k), DZ_SLOT_READY);
		ret = dz_index_insert(seg, key_of(k), DRAM, k, DZ_NONE);
		k++;
	} while (ret == 0 && k < 600);
	assert_int_equal(ret, -ENOSPC);
	assert_true(k > 400);
	for (uint32_t i = 0; i < k - 1; i++)
		tenant(seg, DRAM, i, key_of(i), DZ_SLOT_FREE);
	assert_int_equal(dz_index_insert(seg, key_of(k - 1), DRAM, k - 1, DZ_NONE), 0);
}

static void the_scrubber_clears_what_maps_to_no_slot_and_nothing_else(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	for (uint32_t k = 0; k < 30; k++)
		insert_new(seg, DRAM, k, key_of(k));
	for (uint32_t k = 0; k < 10; k++)
		tenant(seg, DRAM, k, key_of(k), DZ_SLOT_FREE);
	for (uint32_t k = 10; k < 20; k++)
		tenant(seg, DRAM, k, key_of(k + 1000), DZ_SLOT_READY);
	assert_int_equal(dz_index_scrub(seg, 0, 32) + dz_index_scrub(seg, 32, 32), 20);
	assert_int_equal(entries(seg), 10);
	for (uint32_t k = 20; k < 30; k++)
		assert_int_equal(dz_index_find(seg, key_of(k), DRAM, &ctl), k);
}

#define RACERS 4
#define ROUNDS 3000

struct race {
	struct dz_seg *seg;
	pthread_barrier_t barrier;
	_Atomic uint32_t winners;
};

struct racer {
	struct race *race;
	uint32_t number;
};

/* All insert the same key, each its own slot; exactly one may win and stay. */
static void *race_to_insert(void *arg)
{
	struct racer *r = arg;
	struct dz_seg *seg = r->race->seg;
	uint64_t ctl;

	for (uint32_t n = 1; n <= ROUNDS; n++) {
		struct dz_key key = key_of(n);

		tenant(seg, DRAM, r->number, key, DZ_SLOT_FILLING);
		pthread_barrier_wait(&r->race->barrier);
		bool won = dz_index_insert(seg, key, DRAM, r->number, DZ_NONE) == 0;

		if (won)
			atomic_fetch_add(&r->race->winners, 1);
		pthread_barrier_wait(&r->race->barrier);
		if (atomic_load(&r->race->winners) != 1 || entries(seg) != 1 ||
		    (won && dz_index_find(seg, key, DRAM, &ctl) != r->number))
			return "not exactly one";
		pthread_barrier_wait(&r->race->barrier);
		if (won) {
			dz_index_remove(seg, key, DRAM, r->number);
			atomic_store(&r->race->winners, 0);
		}
		pthread_barrier_wait(&r->race->barrier);
	}
	return NULL;
}

static void of_racing_inserts_of_a_key_exactly_one_wins(void **state)
{
	struct race race = { .seg = *state };
	struct racer r[RACERS];
	pthread_t t[RACERS];
	void *complaint, *first = NULL;

	pthread_barrier_init(&race.barrier, NULL, RACERS);
	for (uint32_t i = 0; i < RACERS; i++) {
		r[i] = (struct racer){ &race, i };
		pthread_create(&t[i], NULL, race_to_insert, &r[i]);
	}
	for (int i = 0; i < RACERS; i++) {
		pthread_join(t[i], &complaint);
		first = first ? first : complaint;
	}
	pthread_barrier_destroy(&race.barrier);
	assert_null(first);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_block_is_found_in_the_tier_where_it_was_put),
		T(a_slot_that_is_being_filled_is_found_too),
		T(a_slot_that_is_not_readable_is_not_found),
		T(an_entry_whose_slot_has_another_tenant_is_not_found),
		T(a_second_slot_for_the_same_key_is_refused),
		T(inserting_the_same_slot_again_changes_nothing),
		T(the_old_slot_is_replaced_in_its_place),
		T(an_old_slot_that_has_gone_does_not_hinder),
		T(only_the_entry_of_that_slot_and_tier_is_removed),
		T(key_zero_is_nobodys),
		T(a_slot_out_of_bounds_is_refused_and_never_followed),
		T(random_buckets_never_lead_to_a_wrong_block),
		T(a_half_full_table_takes_every_key),
		T(a_full_table_says_so_and_takes_the_place_of_dead_entries),
		T(the_scrubber_clears_what_maps_to_no_slot_and_nothing_else),
		T(of_racing_inserts_of_a_key_exactly_one_wins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
