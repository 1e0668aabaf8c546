/* SPDX-License-Identifier: MIT */
/* The policy: its decisions, and what they come to on small loads of mixed sizes. */
#include "cache/evict.h"
#include "cache/pins.h"
#include "tests/unit/space_check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DRAM  DZ_TIER_DRAM
#define DISK  DZ_TIER_DISK
#define SLABS 100

static int set_up(void **state)
{
	struct fake_counts n = { .dram_slabs = SLABS, .disk_slabs = SLABS, .disk_slots = 8192 };
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

static uint64_t rnd(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x >> 11;
}

/* Uses the block; fetches it first when it is not there.  Whether it was. */
static bool use(struct dz_seg *seg, enum dz_tier tier, uint64_t n, uint64_t bytes, uint32_t group)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(seg, key_of(n), tier, &ctl);
	bool was_there = slot != DZ_NONE;
	struct dz_slot *s;

	if (!was_there) {
		slot = dz_slot_alloc(seg, tier, bytes, 1, &ctl);
		assert_int_not_equal(slot, DZ_NONE);
		s = dz_slot_of(seg, tier, slot);
		s->key_lo = key_of(n).lo;
		s->key_hi = key_of(n).hi;
		s->group = group;
		assert_int_equal(dz_index_insert(seg, key_of(n), tier, slot, DZ_NONE), 0);
		assert_true(dz_slot_publish(seg, tier, slot, ctl, &ctl));
		dz_evict_filled(seg, tier, slot);
	}
	dz_evict_touch(seg, tier, slot);
	return was_there;
}

/* Epochs over n blocks in random order; the hit share of the last `counted` ones. */
static double epochs(struct dz_seg *seg, uint32_t first, uint32_t n, uint64_t (*bytes)(uint64_t),
		     int all, int counted, uint32_t group)
{
	uint32_t *p = malloc(n * sizeof(*p)), hits = 0;
	uint64_t x = 12345;

	for (int e = 0; e < all; e++) {
		for (uint32_t i = 0; i < n; i++) {
			uint32_t j = (uint32_t)(rnd(&x) % (i + 1));

			p[i] = p[j];
			p[j] = first + i;
		}
		for (uint32_t i = 0; i < n; i++)
			hits += use(seg, DRAM, p[i], bytes(p[i]), group) && e >= all - counted;
	}
	free(p);
	return (double)hits / counted / n;
}

static uint64_t whole(uint64_t n)
{
	(void)n;
	return DZ_MIB;
}

/* Photographs, a few large files and their tails. */
static uint64_t mixed(uint64_t n)
{
	return n % 10 == 0 ? DZ_MIB : n % 10 == 1 ? n * 7919 % DZ_MIB : 60000 + n * 104729 % 100000;
}

static void a_count_grows_to_15_and_no_further(void **state)
{
	uint16_t w = 0;

	(void)state;
	for (uint32_t i = 1; i <= 20; i++) {
		w = dz_evict_bump(w, 100, 10);
		assert_int_equal(dz_evict_freq(w, 100, 10), i < 15 ? i : 15);
	}
}

static void a_count_is_halved_for_each_half_life_unused(void **state)
{
	uint16_t w = 12 << 12 | 100;

	(void)state;
	assert_int_equal(dz_evict_freq(w, 109, 10), 12);
	assert_int_equal(dz_evict_freq(w, 110, 10), 6);
	assert_int_equal(dz_evict_freq(w, 120, 10), 3);
	assert_int_equal(dz_evict_freq(w, 140, 10), 0);
	assert_int_equal(dz_evict_freq(w, 109 + 4096, 10), 12); /* the clock has 12 bits */
	assert_int_equal(dz_evict_freq(w, 200, 0), 0);
	assert_int_equal(dz_evict_bump(w, 110, 10), 7 << 12 | 110);
}

static void the_half_life_is_2_5_data_sets_within_8_to_64_capacities(void **state)
{
	(void)state;
	assert_int_equal(dz_evict_half(1000, 2000, 0), 1023); /* 8,000, but 12 bits allow no more */
	assert_int_equal(dz_evict_half(1000, 2000, 6), 8000 >> 6);
	assert_int_equal(dz_evict_half(1000, 10000, 6), 25000 >> 6);
	assert_int_equal(dz_evict_half(1000, 100000, 7), 64000 >> 7);
	assert_int_equal(dz_evict_half(64, 0, 31), 1);
}

static void a_newcomer_displaces_only_what_is_used_less_by_more_than_one(void **state)
{
	struct dz_evict_view a = { .freq = 5 }, b = { .freq = 4 };

	(void)state;
	assert_false(dz_evict_displaces(a, b));
	b.freq = 3;
	assert_true(dz_evict_displaces(a, b));
}

static void the_block_of_an_idle_data_set_goes_before_any_other(void **state)
{
	struct dz_evict_view idle = { .is_idle = true, .freq = 15 }, other = { .freq = 0 };

	(void)state;
	assert_true(dz_evict_goes_before(idle, other));
	assert_false(dz_evict_goes_before(other, idle));
	assert_true(dz_evict_displaces(other, idle));
	assert_false(dz_evict_displaces(idle, other));
}

static void of_equals_the_longest_unused_goes(void **state)
{
	struct dz_evict_view a = { .freq = 3, .age = 10 }, b = { .freq = 3, .age = 9 };

	(void)state;
	assert_true(dz_evict_goes_before(a, b));
	assert_false(dz_evict_goes_before(b, a));
}

static void a_data_set_is_idle_after_twice_its_longest_pause_within_bounds(void **state)
{
	(void)state;
	assert_int_equal(dz_evict_idle_after(1000, 0), 250);
	assert_int_equal(dz_evict_idle_after(1000, 200), 400);
	assert_int_equal(dz_evict_idle_after(1000, 5000), 1000);
	assert_int_equal(dz_evict_idle_after(1000, UINT32_MAX), 1000);
}

static void recency_decides_only_when_lru_leads(void **state)
{
	(void)state;
	assert_int_equal(dz_evict_by_recency(-65536), 0);
	assert_int_equal(dz_evict_by_recency(640), 0);
	assert_in_range(dz_evict_by_recency(1500), 50, 200);
	assert_int_equal(dz_evict_by_recency(4096), 256);
	assert_int_equal(dz_evict_by_recency(INT32_MAX), 256);
}

static void shuffled_epochs_hit_almost_the_part_that_fits(void **state)
{
	assert_true(epochs(*state, 0, 2 * SLABS, whole, 20, 10, 1) > 0.5 * 0.9);
}

/* About 0.24 MiB a block, of which classes waste some: 45 % of 1,000 blocks fit. */
static void blocks_of_mixed_sizes_share_the_space(void **state)
{
	struct dz_seg *seg = *state;
	double share = epochs(seg, 0, 1000, mixed, 20, 10, 1);

	assert_null(space_complaint(seg, DRAM));
	print_message("hit share %.3f with %u blocks in %.0f MiB\n", share, seg->hdr->chunks[0],
		      (double)seg->hdr->dram_used / (double)DZ_MIB);
	assert_true(seg->hdr->dram_used > seg->dram_bytes * 85 / 100);
	assert_true(share > (double)seg->hdr->chunks[0] / 1000 * 0.85);
}

static void a_rare_class_gets_room_in_a_cache_full_of_another(void **state)
{
	struct dz_seg *seg = *state;

	epochs(seg, 0, SLABS * 2, whole, 5, 1, 1);
	for (uint64_t n = 0; n < 50; n++)
		use(seg, DRAM, 10000 + n, 5000, 1);
	epochs(seg, 20000, 4000, mixed, 2, 1, 1);
	for (uint64_t n = 0; n < 50; n++)
		use(seg, DRAM, 30000 + n, DZ_MIB, 1);
	assert_null(space_complaint(seg, DRAM));
}

static void a_new_data_set_takes_the_place_of_an_idle_one(void **state)
{
	epochs(*state, 0, 2 * SLABS, whole, 10, 1, 1);
	assert_true(epochs(*state, 5000, 2 * SLABS, whole, 3, 1, 2) > 0.5 * 0.85);
}

static void prefetched_blocks_that_nobody_uses_go_first(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t there = 0;
	uint64_t ctl;

	for (int round = 0; round < 6; round++)
		for (uint64_t n = 0; n < SLABS / 2; n++)
			use(seg, DRAM, n, DZ_MIB, 1);
	for (uint64_t n = 1000; n < 1000 + 3 * SLABS; n++) {
		uint32_t slot = dz_slot_alloc(seg, DRAM, DZ_MIB, 1, &ctl);

		dz_dram_slot(seg, slot)->key_lo = key_of(n).lo;
		dz_dram_slot(seg, slot)->key_hi = key_of(n).hi;
		dz_dram_slot(seg, slot)->group = 1;
		dz_index_insert(seg, key_of(n), DRAM, slot, DZ_NONE);
		dz_slot_publish(seg, DRAM, slot, ctl, &ctl);
		dz_evict_filled(seg, DRAM, slot);
	}
	for (uint64_t n = 0; n < SLABS / 2; n++)
		there += dz_index_find(seg, key_of(n), DRAM, &ctl) != DZ_NONE;
	assert_true(there >= SLABS / 2 - 3);
}

static void refilling_a_block_does_not_make_it_new(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t head, ctl;
	uint32_t slot;

	use(seg, DRAM, 1, DZ_MIB, 1);
	head = seg->hdr->window_head;
	slot = dz_index_find(seg, key_of(1), DRAM, &ctl);
	dz_evict_filled(seg, DRAM, slot);
	assert_int_equal(seg->hdr->window_head, head);
}

static void the_disk_admits_everything_until_it_is_full_and_then_the_popular(void **state)
{
	struct dz_seg *seg = *state;

	for (int round = 0; round < 6; round++)
		for (uint64_t n = 1; n <= SLABS; n++) {
			if (round == 0)
				assert_true(dz_evict_admits(seg, DISK, key_of(n), 1));
			use(seg, DISK, n, DZ_MIB, 1);
		}
	assert_false(dz_evict_admits(seg, DISK, key_of(5000), 1));
	/* as if it had been read again and again, from elsewhere */
	for (uint32_t i = 0; i < seg->n_freq; i++)
		if (seg->freq[i] == 0)
			seg->freq[i] = (uint16_t)(15 << 12 |
						  (seg->hdr->tick >> (seg->hdr->age_shift - 1)));
	assert_true(dz_evict_admits(seg, DISK, key_of(5000), 1));
}

/* What is mapped is read without our seeing it, so it looks the least used of all. */
static void mapped_blocks_do_not_keep_the_others_from_going(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	for (uint64_t n = 0; n < SLABS; n++)
		use(seg, DRAM, n, DZ_BLOCK_BYTES, 0);
	for (uint64_t n = 0; n < SLABS / 2; n++)
		dz_pin_slabs(seg, -1, dz_index_find(seg, key_of(n), DRAM, &ctl) / DZ_SLAB_PAGES, 1);
	for (int round = 0; round < 20; round++) {
		for (uint64_t n = SLABS / 2; n < SLABS; n++)
			use(seg, DRAM, n, DZ_BLOCK_BYTES, 0);
	}
	for (uint64_t n = 0; n < 1000; n++)
		use(seg, DRAM, SLABS + n, DZ_BLOCK_BYTES, 0);
	for (uint64_t n = 0; n < SLABS / 2; n++)
		assert_int_not_equal(dz_index_find(seg, key_of(n), DRAM, &ctl), DZ_NONE);
}

static void make_room_gives_up_when_everything_is_in_use(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	for (int i = 0; i < SLABS; i++)
		assert_int_not_equal(dz_slot_alloc(seg, DRAM, DZ_MIB, 1, &ctl), DZ_NONE);
	assert_int_equal(dz_evict_make_room(seg, DRAM, 256), -EAGAIN);
	assert_int_equal(dz_evict_make_room(seg, DRAM, 1), -EAGAIN);
	assert_int_equal(dz_slot_alloc(seg, DRAM, 1, 1, &ctl), DZ_NONE);
	assert_int_equal(dz_evict_make_room(seg, DZ_TIER_BLOB, 1), -EAGAIN);
}

/* One slab, then two: the newcomer always finds room. */
static void the_smallest_caches_work(void **state)
{
	(void)state;
	for (uint32_t slabs = 1; slabs <= 3; slabs++) {
		struct fake_counts n = { .dram_slabs = slabs };
		struct dz_seg seg;

		fake_seg_init(&seg, &n);
		for (uint64_t i = 1; i < 500; i++)
			use(&seg, DRAM, i, i % 3 == 0 ? 100000 : DZ_MIB, 1);
		assert_null(space_complaint(&seg, DRAM));
		fake_seg_fini(&seg);
	}
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_count_grows_to_15_and_no_further),
		cmocka_unit_test(a_count_is_halved_for_each_half_life_unused),
		cmocka_unit_test(the_half_life_is_2_5_data_sets_within_8_to_64_capacities),
		cmocka_unit_test(a_newcomer_displaces_only_what_is_used_less_by_more_than_one),
		cmocka_unit_test(the_block_of_an_idle_data_set_goes_before_any_other),
		cmocka_unit_test(of_equals_the_longest_unused_goes),
		cmocka_unit_test(a_data_set_is_idle_after_twice_its_longest_pause_within_bounds),
		cmocka_unit_test(recency_decides_only_when_lru_leads),
		T(shuffled_epochs_hit_almost_the_part_that_fits),
		T(blocks_of_mixed_sizes_share_the_space),
		T(a_rare_class_gets_room_in_a_cache_full_of_another),
		T(a_new_data_set_takes_the_place_of_an_idle_one),
		T(prefetched_blocks_that_nobody_uses_go_first),
		T(refilling_a_block_does_not_make_it_new),
		T(the_disk_admits_everything_until_it_is_full_and_then_the_popular),
		T(mapped_blocks_do_not_keep_the_others_from_going),
		T(make_room_gives_up_when_everything_is_in_use),
		cmocka_unit_test(the_smallest_caches_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
