/* SPDX-License-Identifier: MIT */
/* Space and slots: what is given out is nobody else's, and comes back. */
#include "cache/evict.h"
#include "tests/unit/space_check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DRAM  DZ_TIER_DRAM
#define DISK  DZ_TIER_DISK
#define OWNER 1

static int set_up(void **state)
{
	struct fake_counts n = { .dram_slabs = 8, .disk_slabs = 8, .disk_slots = 4096 };
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

/* A ready block of that many bytes. */
static uint32_t put(struct dz_seg *seg, enum dz_tier tier, uint64_t n, uint64_t bytes)
{
	uint64_t ctl;
	uint32_t slot = dz_slot_alloc(seg, tier, bytes, OWNER, &ctl);
	struct dz_slot *s;

	assert_int_not_equal(slot, DZ_NONE);
	s = dz_slot_of(seg, tier, slot);
	atomic_store(&s->key_lo, key_of(n).lo);
	atomic_store(&s->key_hi, key_of(n).hi);
	atomic_store(&s->valid, 0xffff);
	assert_int_equal(dz_index_insert(seg, key_of(n), tier, slot, DZ_NONE), 0);
	assert_true(dz_slot_publish(seg, tier, slot, ctl, &ctl));
	return slot;
}

static void a_class_is_the_smallest_that_holds_the_bytes(void **state)
{
	(void)state;
	assert_int_equal(dz_class_pages(0), 1);
	assert_int_equal(dz_class_pages(1), 1);
	assert_int_equal(dz_class_pages(4096), 1);
	assert_int_equal(dz_class_pages(4097), 2);
	assert_int_equal(dz_class_pages(9 * 4096), 10);
	assert_int_equal(dz_class_pages(110 * 1000), 28);
	assert_int_equal(dz_class_pages(512 * 1024), 128);
	assert_int_equal(dz_class_pages(512 * 1024 + 1), 256);
	assert_int_equal(dz_class_pages(DZ_MIB), 256);
	for (uint32_t pages = 1; pages <= 128; pages++)
		assert_true(dz_class_pages(pages * 4096) <= pages + (pages + 3) / 4);
}

/* Every class, until the tier is full: no page is given out twice, none is beyond the end. */
static void chunks_never_overlap_and_fill_the_tier(void **state)
{
	struct dz_seg *seg = *state;

	for (uint32_t pages = 1; pages <= 256; pages = dz_class_pages((pages + 1) * 4096)) {
		uint8_t owned[8 * 256] = { 0 };
		uint32_t n = 0, page;

		while ((page = dz_slabs_alloc(seg, DRAM, pages * 4096)) != DZ_NONE) {
			assert_true(page + pages <= seg->n_dram_slots);
			for (uint32_t i = 0; i < pages; i++)
				assert_int_equal(owned[page + i]++, 0);
			assert_true(dz_slabs_is_taken(seg, DRAM, page));
			assert_int_equal(dz_slabs_chunk_pages(seg, DRAM, page), pages);
			n++;
		}
		assert_int_equal(n, 8 * (256 / pages));
		assert_int_equal(seg->hdr->dram_used, (uint64_t)n * pages * 4096);
		for (page = 0; page < seg->n_dram_slots; page++)
			dz_slabs_free(seg, DRAM, page);
		assert_int_equal(seg->hdr->dram_used, 0);
		assert_int_equal(dz_slabs_chunk_pages(seg, DRAM, 0), 0);
		if (pages == 256)
			break;
	}
}

static void freeing_twice_or_in_the_middle_changes_nothing(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t a = dz_slabs_alloc(seg, DRAM, 8 * 4096), b = dz_slabs_alloc(seg, DRAM, 8 * 4096);

	dz_slabs_free(seg, DRAM, a);
	dz_slabs_free(seg, DRAM, a);
	dz_slabs_free(seg, DRAM, b + 1);
	dz_slabs_free(seg, DRAM, UINT32_MAX);
	assert_true(dz_slabs_is_taken(seg, DRAM, b));
	assert_int_equal(seg->hdr->dram_used, 8 * 4096);
	assert_int_equal(dz_slabs_count(seg, DRAM, b / 256), 1);
}

static void an_empty_slab_may_be_cut_for_another_class(void **state)
{
	struct dz_seg *seg = *state;

	for (int i = 0; i < 8; i++)
		assert_int_not_equal(dz_slabs_alloc(seg, DISK, DZ_MIB), DZ_NONE);
	assert_int_equal(dz_slabs_alloc(seg, DISK, 4096), DZ_NONE);
	dz_slabs_free(seg, DISK, 5 * 256);
	assert_int_equal(dz_slabs_alloc(seg, DISK, 4096) / 256, 5);
}

static void more_than_a_block_is_not_given_out(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	assert_int_equal(dz_slabs_alloc(seg, DRAM, DZ_MIB + 1), DZ_NONE);
	assert_int_equal(dz_slot_alloc(seg, DRAM, DZ_MIB + 1, OWNER, &ctl), DZ_NONE);
	assert_int_equal(dz_slot_alloc(seg, DZ_TIER_PEER, 1, OWNER, &ctl), DZ_NONE);
}

static void take_refuses_what_overlaps(void **state)
{
	struct dz_seg *seg = *state;

	assert_int_equal(dz_slabs_take(seg, DISK, 256 + 16, 8 * 4096), 0);
	assert_int_equal(dz_slabs_take(seg, DISK, 256 + 16, 8 * 4096), -EEXIST);
	assert_int_equal(dz_slabs_take(seg, DISK, 256 + 20, 8 * 4096), -EEXIST);
	assert_int_equal(dz_slabs_take(seg, DISK, 256 + 32, 16 * 4096), -EEXIST);
	assert_int_equal(dz_slabs_take(seg, DISK, 256 + 24, 8 * 4096), 0);
	assert_int_equal(dz_slabs_take(seg, DISK, 8 * 256, 4096), -EINVAL);
	assert_true(dz_slabs_is_taken(seg, DISK, 256 + 16));
	assert_int_equal(dz_slabs_chunk_pages(seg, DISK, 0), 0);
}

static void a_slot_taken_at_a_page_is_like_one_allocated(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	assert_true(dz_slot_take(seg, 5, 300, 4 * 4096, &ctl));
	seg->disk_slots[5].ctl = ctl;
	seg->disk_slots[5].key_lo = 1;
	assert_int_equal(seg->disk_slots[5].page, 300);
	assert_int_equal(dz_index_add(seg, (struct dz_key){ 1, 0 }, DISK, 5), 0);
	assert_false(dz_slot_take(seg, 6, 300, 4 * 4096, &ctl));
	assert_false(dz_slot_take(seg, 6, 301, 4 * 4096, &ctl));
	dz_slabs_recount(seg, DISK);
	assert_int_equal(seg->hdr->disk_used, 4 * 4096);
	assert_null(space_complaint(seg, DISK));
	assert_true(dz_slot_evict(seg, DISK, 5));
	assert_int_equal(seg->hdr->disk_used, 0);
	assert_null(space_complaint(seg, DISK));
}

static void a_slot_taken_and_untaken_leaves_nothing(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;

	assert_true(dz_slot_take(seg, 5, 300, 4 * 4096, &ctl));
	seg->disk_slots[5].ctl = ctl;
	dz_slot_untake(seg, 5);
	assert_null(space_complaint(seg, DISK));
	assert_true(dz_slot_take(seg, 5, 300, 128 * 4096, &ctl) ||
		    dz_slot_take(seg, 5, 256, 128 * 4096, &ctl));
}

static void a_slot_lives_from_free_to_free_with_a_new_generation(void **state)
{
	static const enum dz_tier tiers[] = { DRAM, DISK };
	struct dz_seg *seg = *state;

	for (int i = 0; i < 2; i++) {
		enum dz_tier tier = tiers[i];
		uint32_t slot = put(seg, tier, 1, 100 * 1000);
		struct dz_slot *s = dz_slot_of(seg, tier, slot);
		uint64_t ctl = s->ctl, found;

		assert_int_equal(dz_ctl_state(ctl), DZ_SLOT_READY);
		assert_int_not_equal(dz_ctl_gen(ctl), 0);
		assert_null(space_complaint(seg, tier));
		assert_true(dz_slot_evict(seg, tier, slot));
		assert_int_equal(dz_ctl_state(s->ctl), DZ_SLOT_FREE);
		assert_int_equal(dz_ctl_gen(s->ctl), dz_ctl_gen(ctl) + 1);
		assert_int_equal(dz_index_find(seg, key_of(1), tier, &found), DZ_NONE);
		assert_int_equal(s->valid, 0);
		assert_false(dz_slot_evict(seg, tier, slot));
		assert_null(space_complaint(seg, tier));
	}
	assert_int_equal(seg->hdr->dram_used + seg->hdr->disk_used, 0);
}

static void a_refilled_slot_keeps_its_generation(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t slot = put(seg, DRAM, 1, 4096);
	uint64_t ready = dz_dram_slot(seg, slot)->ctl, filling, now;

	assert_true(dz_slot_refill(seg, DRAM, slot, ready, 5, &filling));
	assert_int_equal(filling, dz_ctl(dz_ctl_gen(ready), 5, DZ_SLOT_FILLING));
	assert_false(dz_slot_refill(seg, DRAM, slot, ready, 6, &now));
	assert_false(dz_slot_evict(seg, DRAM, slot));
	assert_true(dz_slot_publish(seg, DRAM, slot, filling, &now));
	assert_int_equal(now, ready);
	assert_false(dz_slot_publish(seg, DRAM, slot, filling, &now));
}

static void who_lost_his_slot_can_neither_publish_nor_discard_it(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl, now;
	uint32_t slot = dz_slot_alloc(seg, DRAM, 4096, 7, &ctl);

	assert_true(dz_slot_discard(seg, DRAM, slot, ctl)); /* by who took over */
	assert_false(dz_slot_publish(seg, DRAM, slot, ctl, &now));
	assert_false(dz_slot_discard(seg, DRAM, slot, ctl));
	assert_int_equal(dz_slot_alloc(seg, DRAM, 4096, 8, &now), slot);
	assert_false(dz_slot_publish(seg, DRAM, slot, ctl, &ctl));
	assert_int_equal(dz_dram_slot(seg, slot)->ctl, now);
}

static void a_quarantined_slot_can_be_discarded(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t ctl;
	uint32_t slot = dz_slot_alloc(seg, DRAM, 4096, 7, &ctl);

	ctl = dz_ctl(dz_ctl_gen(ctl) + 1, 7, DZ_SLOT_QUARANTINE);
	atomic_store(&dz_dram_slot(seg, slot)->ctl, ctl);
	assert_true(dz_slot_discard(seg, DRAM, slot, ctl));
	assert_null(space_complaint(seg, DRAM));
}

static void a_pinned_slot_is_not_evicted(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t slot = put(seg, DRAM, 1, 4096);
	uint64_t ctl = dz_dram_slot(seg, slot)->ctl;
	int pin = dz_slot_pin(seg, slot, ctl);

	assert_true(pin >= 0);
	assert_false(dz_slot_evict(seg, DRAM, slot));
	assert_int_equal(dz_dram_slot(seg, slot)->ctl, ctl);
	dz_slot_unpin(seg, pin);
	assert_true(dz_slot_evict(seg, DRAM, slot));
	assert_int_equal(dz_slot_pin(seg, slot, ctl), -ESTALE);
	for (int i = 0; i < DZ_HAZARDS; i++)
		assert_int_equal(seg->members[1].hazard[i], 0);
}

static void pins_beyond_the_records_are_refused(void **state)
{
	struct dz_seg *seg = *state;

	for (uint64_t i = 0; i < DZ_HAZARDS; i++) {
		uint32_t slot = put(seg, DRAM, i + 1, 4096);

		assert_int_equal(dz_slot_pin(seg, slot, dz_dram_slot(seg, slot)->ctl), i);
	}
	assert_int_equal(dz_slot_pin(seg, 0, dz_dram_slot(seg, 0)->ctl), -EAGAIN);
}

/* It was ready and pinned, was refilled, and the fill failed. */
static void a_pinned_slot_that_is_discarded_keeps_its_bytes_until_unpinned(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t slot = put(seg, DRAM, 1, 4096);
	uint64_t ctl = dz_dram_slot(seg, slot)->ctl, found;
	int pin = dz_slot_pin(seg, slot, ctl);

	assert_true(dz_slot_refill(seg, DRAM, slot, ctl, OWNER, &ctl));
	assert_true(dz_slot_discard(seg, DRAM, slot, ctl));
	assert_int_equal(dz_index_find(seg, key_of(1), DRAM, &found), DZ_NONE);
	assert_true(dz_slabs_is_taken(seg, DRAM, slot));
	assert_int_equal(dz_slabs_scrub(seg, DRAM, 0, 8), 0);
	dz_slot_unpin(seg, pin);
	assert_int_equal(dz_slabs_scrub(seg, DRAM, 0, 8), 1);
	assert_null(space_complaint(seg, DRAM));
}

static void disk_slots_run_out_before_the_space_does(void **state)
{
	struct dz_seg *seg = *state;

	seg->n_disk_slots = 16;
	for (uint64_t i = 1; i <= 100; i++)
		put(seg, DISK, i, 4096);
	assert_int_equal(seg->hdr->disk_used, 16 * 4096);
	assert_null(space_complaint(seg, DISK));
}

static void an_eviction_that_another_finishes_is_left_to_him(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t slot = put(seg, DRAM, 1, 4096);
	_Atomic uint64_t *ctl = &dz_dram_slot(seg, slot)->ctl;
	uint64_t seen = dz_ctl(2, DZ_NONE, DZ_SLOT_EVICTING);

	atomic_store(ctl, dz_ctl(2, 3, DZ_SLOT_EVICTING)); /* since we looked */
	assert_false(dz_slot_reap(seg, DRAM, slot, seen));
	assert_true(dz_slabs_is_taken(seg, DRAM, slot));
	atomic_store(ctl, seen);
	assert_true(dz_slot_reap(seg, DRAM, slot, seen));
	assert_false(dz_slabs_is_taken(seg, DRAM, slot));
}

static void the_scrubber_takes_back_chunks_without_a_slot(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t page = dz_slabs_alloc(seg, DRAM, 4096), slot = put(seg, DRAM, 1, 4096);

	assert_int_equal(dz_slabs_scrub(seg, DRAM, 0, 8), 1);
	assert_false(dz_slabs_is_taken(seg, DRAM, page));
	assert_true(dz_slabs_is_taken(seg, DRAM, slot));
	assert_null(space_complaint(seg, DRAM));
}

static void the_scrubber_evicts_blocks_that_the_index_lost(void **state)
{
	struct dz_seg *seg = *state;
	uint32_t slot = put(seg, DISK, 1, 4096);

	put(seg, DISK, 2, 4096);
	dz_index_remove(seg, key_of(1), DISK, slot);
	assert_int_equal(dz_slabs_scrub(seg, DISK, 0, 8), 1);
	assert_null(space_complaint(seg, DISK));
	assert_int_equal(seg->hdr->disk_used, 4096);
}

/* A segment is untrusted: whatever stands in it, nothing outside is touched. */
static void a_mutated_segment_leads_nowhere(void **state)
{
	struct dz_seg *seg = *state;
	uint64_t x = 88172645463325252ull, ctl;
	uint32_t slot;

	for (int round = 0; round < 300; round++) {
		uint8_t *tables[] = { (uint8_t *)seg->dram_slabs, (uint8_t *)seg->disk_slabs,
				      (uint8_t *)seg->disk_map,	  (uint8_t *)seg->buckets,
				      (uint8_t *)seg->window,	  (uint8_t *)seg->dram_slots,
				      (uint8_t *)seg->disk_slots };

		for (int i = 0; i < 2000; i++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			tables[x % 7][(x >> 8) % 512] = (uint8_t)(x >> 40);
		}
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		seg->hdr->dram_hint = seg->hdr->disk_hint = (uint32_t)x;
		seg->hdr->disk_slot_hint = (uint32_t)(x >> 16);
		seg->hdr->cut_hint[round % 2][x % DZ_CLASSES] = (uint32_t)(x >> 20);
		seg->hdr->age_shift = (uint32_t)(x >> 24);
		seg->hdr->footprint = (uint32_t)(x >> 28);
		seg->hdr->chunks[round % 2] = (uint32_t)(x >> 30);
		slot = dz_slot_alloc(seg, round % 2, x % DZ_MIB, OWNER, &ctl);
		if (slot != DZ_NONE) {
			dz_slot_publish(seg, round % 2, slot, ctl, &ctl);
			dz_evict_filled(seg, round % 2, slot);
			dz_evict_touch(seg, round % 2, slot);
		}
		dz_evict_make_room(seg, round % 2, dz_class_pages(x % DZ_MIB));
		dz_slabs_scrub(seg, round % 2, 0, 8);
		dz_index_scrub(seg, 0, seg->n_buckets);
	}
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_class_is_the_smallest_that_holds_the_bytes),
		T(chunks_never_overlap_and_fill_the_tier),
		T(freeing_twice_or_in_the_middle_changes_nothing),
		T(an_empty_slab_may_be_cut_for_another_class),
		T(more_than_a_block_is_not_given_out),
		T(take_refuses_what_overlaps),
		T(a_slot_taken_at_a_page_is_like_one_allocated),
		T(a_slot_taken_and_untaken_leaves_nothing),
		T(a_slot_lives_from_free_to_free_with_a_new_generation),
		T(a_refilled_slot_keeps_its_generation),
		T(who_lost_his_slot_can_neither_publish_nor_discard_it),
		T(a_quarantined_slot_can_be_discarded),
		T(a_pinned_slot_is_not_evicted),
		T(pins_beyond_the_records_are_refused),
		T(a_pinned_slot_that_is_discarded_keeps_its_bytes_until_unpinned),
		T(disk_slots_run_out_before_the_space_does),
		T(an_eviction_that_another_finishes_is_left_to_him),
		T(the_scrubber_takes_back_chunks_without_a_slot),
		T(the_scrubber_evicts_blocks_that_the_index_lost),
		T(a_mutated_segment_leads_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
