/* SPDX-License-Identifier: MIT */
/*
 * Engines as threads over one segment: find, fill, refill, pin, discard and
 * evict the same few blocks, in a tier that is far too small.  The content of a
 * block is a function of its key, so a wrong byte is seen; for TSan the bytes
 * are written and read as atomics.
 */
#include "cache/evict.h"
#include "tests/unit/space_check.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define THREADS 4
#define KEYS	300
#define STEPS	40000
#define WORDS	16 /* looked at in each block, spread over its length */

struct engine {
	struct dz_seg seg;
	enum dz_tier tier;
	uint64_t rnd;
	uint32_t hits, fills, pins, stale;
	const char *complaint;
};

static uint64_t next(struct engine *e)
{
	e->rnd ^= e->rnd << 13;
	e->rnd ^= e->rnd >> 7;
	e->rnd ^= e->rnd << 17;
	return e->rnd >> 11;
}

static struct dz_key key_of(uint64_t n)
{
	return dz_block_key((struct dz_key){ 0x1234567, 0xabcdef }, n);
}

/* Most are small, one in four a whole block. */
static uint32_t bytes_of(uint64_t n)
{
	return n % 4 == 0 ? (uint32_t)DZ_MIB : (uint32_t)(n * 7919 % 200000 + 1);
}

/* The disk's bytes lie behind those of DRAM. */
static _Atomic uint64_t *word_at(struct engine *e, uint32_t slot, uint32_t i, uint32_t len)
{
	const struct dz_slot *s = dz_slot_of(&e->seg, e->tier, slot);
	uint32_t page = atomic_load_explicit(&s->page, memory_order_relaxed);
	uint32_t pages = (len + DZ_PAGE - 1) / DZ_PAGE;
	uint64_t off = ((uint64_t)page + (uint64_t)i * pages / WORDS) * DZ_PAGE + i * 8;

	if (off > e->seg.dram_bytes - 8)
		off = 0;
	return (_Atomic uint64_t *)(e->seg.dram + off);
}

static uint64_t word_of(struct dz_key key, uint32_t i)
{
	return (key.lo ^ key.hi) * (2 * i + 1);
}

static bool bytes_are_right(struct engine *e, uint32_t slot, struct dz_key key, uint32_t len)
{
	for (uint32_t i = 0; i < WORDS; i++)
		if (atomic_load_explicit(word_at(e, slot, i, len), memory_order_acquire) !=
		    word_of(key, i))
			return false;
	return true;
}

/* As a reader does: copy, then look again whether it was still there. */
static void read_block(struct engine *e, uint32_t slot, struct dz_key key, uint32_t len,
		       uint64_t ctl)
{
	struct dz_slot *s = dz_slot_of(&e->seg, e->tier, slot);
	bool is_whole = atomic_load_explicit(&s->valid, memory_order_acquire) == 0xffff;
	bool is_right = bytes_are_right(e, slot, key, len);
	uint64_t now = atomic_load_explicit(&s->ctl, memory_order_acquire);

	if (dz_ctl_gen(now) != dz_ctl_gen(ctl) || !dz_ctl_is_readable(now)) {
		e->stale++;
		return;
	}
	if (is_whole && !is_right)
		e->complaint = "wrong bytes";
	e->hits++;
	dz_evict_touch(&e->seg, e->tier, slot);
}

/* As a mapping does: no second look, the pin alone must hold it. */
static void pin_block(struct engine *e, uint32_t slot, struct dz_key key, uint32_t len,
		      uint64_t ctl)
{
	int pin = dz_slot_pin(&e->seg, slot, ctl);

	if (pin < 0)
		return;
	if (atomic_load_explicit(&dz_dram_slot(&e->seg, slot)->valid, memory_order_acquire) ==
	    0xffff)
		for (int i = 0; i < 20; i++)
			if (!bytes_are_right(e, slot, key, len))
				e->complaint = "wrong bytes under a pin";
	e->pins++;
	dz_slot_unpin(&e->seg, pin);
}

static void fill_block(struct engine *e, struct dz_key key, uint32_t len)
{
	uint64_t ctl;
	uint32_t slot = dz_slot_alloc(&e->seg, e->tier, len, e->seg.member, &ctl);
	struct dz_slot *s;

	if (slot == DZ_NONE)
		return;
	s = dz_slot_of(&e->seg, e->tier, slot);
	atomic_store_explicit(&s->key_lo, key.lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, key.hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, len, memory_order_relaxed);
	atomic_store_explicit(&s->group, 1, memory_order_relaxed);
	if (dz_index_insert(&e->seg, key, e->tier, slot, DZ_NONE) < 0 || next(e) % 16 == 0) {
		dz_slot_discard(&e->seg, e->tier, slot, ctl);
		return;
	}
	for (uint32_t i = 0; i < WORDS; i++)
		atomic_store_explicit(word_at(e, slot, i, len), word_of(key, i),
				      memory_order_relaxed);
	atomic_store_explicit(&s->valid, 0xffff, memory_order_release);
	if (!dz_slot_publish(&e->seg, e->tier, slot, ctl, &ctl))
		e->complaint = "a slot was lost while it was being filled";
	dz_evict_filled(&e->seg, e->tier, slot);
	e->fills++;
}

static void step(struct engine *e)
{
	uint64_t n = next(e) % KEYS + 1, ctl, filling;
	struct dz_key key = key_of(n);
	uint32_t slot = dz_index_find(&e->seg, key, e->tier, &ctl), dice = (uint32_t)next(e) % 64;

	if (slot == DZ_NONE) {
		fill_block(e, key, bytes_of(n));
	} else if (dice == 0) {
		dz_slot_evict(&e->seg, e->tier, slot);
	} else if (dice < 4) {
		if (dz_slot_refill(&e->seg, e->tier, slot, ctl, e->seg.member, &filling)) {
			read_block(e, slot, key, bytes_of(n), filling);
			if (dice == 1)
				dz_slot_discard(&e->seg, e->tier, slot, filling);
			else
				dz_slot_publish(&e->seg, e->tier, slot, filling, &ctl);
		}
	} else if (dice < 16 && e->tier == DZ_TIER_DRAM) {
		pin_block(e, slot, key, bytes_of(n), ctl);
	} else {
		read_block(e, slot, key, bytes_of(n), ctl);
	}
	if (next(e) % 1024 == 0)
		dz_slabs_scrub(&e->seg, e->tier, (uint32_t)next(e) % 8, 2);
	if (next(e) % 1024 == 0)
		dz_index_scrub(&e->seg, 0, e->seg.n_buckets);
}

static void *run(void *arg)
{
	struct engine *e = arg;

	for (int i = 0; i < STEPS && !e->complaint; i++)
		step(e);
	return NULL;
}

static void engines_see_right_bytes_only(enum dz_tier tier)
{
	struct fake_counts n = { .dram_slabs = 8, .disk_slabs = 8, .disk_slots = 500 };
	struct engine *e = calloc(THREADS, sizeof(*e));
	pthread_t t[THREADS];
	struct dz_seg seg;

	fake_seg_init(&seg, &n);
	for (uint32_t i = 0; i < THREADS; i++) {
		e[i] = (struct engine){ .seg = seg, .tier = tier, .rnd = i * 77777 + 12345 };
		e[i].seg.member = i + 1;
		atomic_store(&seg.members[i + 1].state, DZ_MEMBER_LIVE);
		atomic_store(&seg.members[i + 1].pid, 1);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, run, &e[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < THREADS; i++) {
		if (e[i].complaint)
			fail_msg("%s", e[i].complaint);
		print_message("hits %u fills %u pins %u stale %u\n", e[i].hits, e[i].fills,
			      e[i].pins, e[i].stale);
		assert_true(e[i].hits > 0 && e[i].fills > 0);
	}
	/* what a pin kept from being discarded, and what a lost race left out of the index */
	for (int i = 0; i < 2; i++)
		dz_slabs_scrub(&seg, tier, 0, UINT32_MAX);
	const char *complaint = space_complaint(&seg, tier);
	if (complaint)
		fail_msg("%s", complaint);
	fake_seg_fini(&seg);
	free(e);
}

static void engines_see_right_bytes_only_in_dram(void **state)
{
	(void)state;
	engines_see_right_bytes_only(DZ_TIER_DRAM);
}

static void engines_see_right_bytes_only_on_disk(void **state)
{
	(void)state;
	engines_see_right_bytes_only(DZ_TIER_DISK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engines_see_right_bytes_only_in_dram),
		cmocka_unit_test(engines_see_right_bytes_only_on_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
