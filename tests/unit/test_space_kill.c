/* SPDX-License-Identifier: MIT */
/*
 * SIGKILL at every few instructions of filling, refilling, discarding and
 * evicting a block in a full tier.  After the usual repair slabs, slots and index agree, and all
 * space is usable.
 */
#include "cache/evict.h"
#include "tests/unit/space_check.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHILD 2 /* the member that is killed; its record stays free, so it counts as dead */
#define SLABS 4

static struct dz_key key_of(uint64_t n)
{
	return dz_block_key((struct dz_key){ 0x1234567, 0xabcdef }, n);
}

/* Fills one block, as a fetcher would. */
static void fill(const struct dz_seg *seg, enum dz_tier tier, uint64_t n, uint64_t bytes)
{
	uint64_t ctl;
	uint32_t slot = dz_slot_alloc(seg, tier, bytes, seg->member, &ctl);
	struct dz_slot *s;

	if (slot == DZ_NONE)
		return;
	s = dz_slot_of(seg, tier, slot);
	atomic_store(&s->key_lo, key_of(n).lo);
	atomic_store(&s->key_hi, key_of(n).hi);
	if (dz_index_insert(seg, key_of(n), tier, slot, DZ_NONE) < 0) {
		dz_slot_discard(seg, tier, slot, ctl);
		return;
	}
	atomic_store(&s->valid, 0xffff);
	dz_slot_publish(seg, tier, slot, ctl, &ctl);
	dz_evict_filled(seg, tier, slot);
	dz_evict_touch(seg, tier, slot);
}

/* What the child does until it is killed. */
static void one_of_each(const struct dz_seg *seg, enum dz_tier tier, uint64_t n, uint64_t bytes)
{
	uint64_t ctl, filling;
	uint32_t slot;

	fill(seg, tier, n, bytes);
	slot = dz_index_find(seg, key_of(n), tier, &ctl);
	if (slot != DZ_NONE && dz_slot_refill(seg, tier, slot, ctl, seg->member, &filling))
		dz_slot_discard(seg, tier, slot, filling);
	fill(seg, tier, n + 1, bytes);
	slot = dz_index_find(seg, key_of(n + 1), tier, &ctl);
	if (slot != DZ_NONE)
		dz_slot_evict(seg, tier, slot);
}

/* Lets a child do its work for `steps` instructions, and kills it; whether it was still at it. */
static bool kill_after(const struct dz_seg *seg, enum dz_tier tier, uint64_t n, uint64_t bytes,
		       long steps)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct dz_seg own = *seg;

		own.member = CHILD;
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(99);
		raise(SIGSTOP);
		one_of_each(&own, tier, n, bytes);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
		skip(); /* no ptrace here */
	while (steps-- > 0 && WIFSTOPPED(status)) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	if (!WIFSTOPPED(status))
		return false;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return true;
}

/* As whoever recovers a dead member does. */
static void recover(const struct dz_seg *seg, enum dz_tier tier)
{
	uint32_t n = tier == DZ_TIER_DRAM ? seg->n_dram_slots : seg->n_disk_slots;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t ctl = atomic_load(&dz_slot_of(seg, tier, i)->ctl);

		if (dz_ctl_owner(ctl) == CHILD)
			dz_slot_discard(seg, tier, i, ctl);
	}
	dz_slabs_scrub(seg, tier, 0, SLABS);
	dz_index_scrub(seg, 0, seg->n_buckets);
}

/* DRAM slots in evicting whose page begins no chunk now are found when one does. */
static void reap_all(const struct dz_seg *seg, enum dz_tier tier)
{
	uint32_t n = tier == DZ_TIER_DRAM ? seg->n_dram_slots : seg->n_disk_slots;

	for (uint32_t i = 0; i < n; i++)
		dz_slot_reap(seg, tier, i, atomic_load(&dz_slot_of(seg, tier, i)->ctl));
}

static void check(const struct dz_seg *seg, enum dz_tier tier, long step)
{
	const char *complaint = space_complaint(seg, tier);

	if (complaint)
		fail_msg("killed after %ld steps: %s", step, complaint);
}

/* Whole blocks and small ones in turn, so that slabs are cut anew. */
static void survives_kills(enum dz_tier tier)
{
	const char *finer = getenv("DZ_KILL_STRIDE"); /* 13 takes two minutes */
	long stride = finer ? atol(finer) : 307;

	struct fake_counts n = { .dram_slabs = SLABS, .disk_slabs = SLABS, .disk_slots = 256 };
	struct dz_seg seg;
	uint64_t key = 1;
	long steps = 3;
	int kills = 0;

	fake_seg_init(&seg, &n);
	for (; key < 40; key++)
		fill(&seg, tier, key, key % 3 ? 100000 : DZ_MIB);
	check(&seg, tier, 0);
	for (;; steps += stride, key += 2, kills++) {
		if (!kill_after(&seg, tier, key, kills % 3 == 0 ? DZ_MIB : 50000, steps))
			break;
		recover(&seg, tier);
		reap_all(&seg, tier);
		check(&seg, tier, steps);
	}
	print_message("%d kills, %ld instructions\n", kills, steps);
	assert_true(kills > 15);
	/* nothing has been lost: empty, it holds as much as when it was new */
	recover(&seg, tier);
	for (uint32_t i = 0; i < seg.n_dram_slots; i++)
		dz_slot_evict(&seg, tier, i);
	for (uint32_t i = 0; i < SLABS; i++)
		assert_int_not_equal(dz_slabs_alloc(&seg, tier, DZ_MIB), DZ_NONE);
	fake_seg_fini(&seg);
}

static void a_kill_while_dram_is_filled_or_evicted_loses_nothing(void **state)
{
	(void)state;
	survives_kills(DZ_TIER_DRAM);
}

static void a_kill_while_the_disk_is_filled_or_evicted_loses_nothing(void **state)
{
	(void)state;
	survives_kills(DZ_TIER_DISK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kill_while_dram_is_filled_or_evicted_loses_nothing),
		cmocka_unit_test(a_kill_while_the_disk_is_filled_or_evicted_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
