/* SPDX-License-Identifier: MIT */
/* Mappings: a slab stays pinned as long as a page of it is mapped, and no longer. */
#include "cache/engine_priv.h"
#include "cache/index.h"
#include "cache/pins.h"
#include "cache/slabs.h"
#include "tests/unit/seg_fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 3u

/* A segment with one file of three pages, whole in DRAM. */
struct map_fixture {
	struct dz_engine e; /* first: its segment is the fixture's */
	struct seg_fixture *files;
	dz_fh fh;
	uint32_t slab;
};

static void put_block(struct map_fixture *f, struct dz_key key)
{
	const struct dz_seg *seg = &f->e.seg;
	uint64_t ctl, now;
	uint32_t n = dz_slot_alloc(seg, DZ_TIER_DRAM, PAGES * DZ_PAGE, seg->member, &ctl);
	struct dz_slot *s = dz_dram_slot(seg, n);

	assert_int_not_equal(n, DZ_NONE);
	atomic_store(&s->key_lo, key.lo);
	atomic_store(&s->key_hi, key.hi);
	atomic_store(&s->len, PAGES * DZ_PAGE);
	memset(dz_seg_page(seg, n), 'x', PAGES * DZ_PAGE);
	atomic_store(&s->valid, 1);
	assert_int_equal(dz_index_insert(seg, key, DZ_TIER_DRAM, n, DZ_NONE), 0);
	assert_true(dz_slot_publish(seg, DZ_TIER_DRAM, n, ctl, &now));
	f->slab = n / DZ_SLAB_PAGES;
}

static int set_up(void **state)
{
	struct map_fixture *f = calloc(1, sizeof(*f));
	struct dz_ofile *file;
	uint32_t n;

	*state = f;
	if (!f || seg_fixture_up((void **)&f->files) < 0)
		return -1;
	f->e.seg = f->files->seg;
	n = dz_file_alloc(&f->e.seg);
	if (n == DZ_NONE)
		return -1;
	file = &f->e.seg.files[n];
	file->key_lo = 1;
	file->key_hi = 2;
	file->size = PAGES * DZ_PAGE;
	file->mode = S_IFREG | 0444;
	f->fh = dz_file_ready(&f->e.seg, n);
	put_block(f, dz_block_key((struct dz_key){ 1, 2 }, 0));
	return 0;
}

static int tear_down(void **state)
{
	struct map_fixture *f = *state;

	seg_fixture_down((void **)&f->files);
	free(f);
	return 0;
}

static uint8_t *map_file(struct map_fixture *f)
{
	void *at;

	assert_int_equal(
		dz_engine_map(&f->e, f->fh, NULL, PAGES * DZ_PAGE, PROT_READ, MAP_SHARED, 0, &at),
		0);
	assert_int_equal(*(uint8_t *)at, 'x');
	return at;
}

static void unmap_page(uint8_t *at, uint32_t page)
{
	munmap(at + (size_t)page * DZ_PAGE, DZ_PAGE);
}

static void a_block_with_a_hole_stays_pinned_until_its_last_page_goes(void **state)
{
	struct map_fixture *f = *state;
	uint8_t *at = map_file(f);

	unmap_page(at, 1);
	assert_true(dz_slab_is_mapped(&f->e.seg, f->slab));
	unmap_page(at, 0);
	assert_true(dz_slab_is_mapped(&f->e.seg, f->slab));
	unmap_page(at, 2);
	assert_false(dz_slab_is_mapped(&f->e.seg, f->slab));
}

static void a_slab_that_was_mapped_once_does_not_count_for_good(void **state)
{
	struct map_fixture *f = *state;
	uint8_t *at = map_file(f);

	assert_int_equal(dz_pins_count(&f->e.seg), 1);
	munmap(at, PAGES * DZ_PAGE);
	assert_int_equal(dz_pins_collect(&f->e.seg), 0);
	assert_int_equal(dz_pins_count(&f->e.seg), 0);
}

/* By the system call itself, so no handler of ours runs; it lives until it is killed. */
static pid_t child_past_us(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	while (pid == 0)
		pause();
	return pid;
}

static void what_a_child_maps_that_we_were_not_told_of_stays_pinned(void **state)
{
	struct map_fixture *f = *state;
	uint8_t *at = map_file(f);
	pid_t pid = child_past_us();

	munmap(at, PAGES * DZ_PAGE);
	assert_true(dz_slab_is_mapped(&f->e.seg, f->slab));
	assert_int_equal(dz_pins_collect(&f->e.seg), 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_false(dz_slab_is_mapped(&f->e.seg, f->slab));
}

static bool is_ours(struct map_fixture *f, const uint8_t *at, uint32_t first, uint32_t pages)
{
	uintptr_t from = (uintptr_t)at + (uintptr_t)first * DZ_PAGE;

	return dz_engine_may_map(&f->e, from, from + pages * DZ_PAGE) &&
	       dz_engine_map_is(&f->e, from, from + pages * DZ_PAGE) != 0;
}

static void what_the_kernel_did_not_unmap_is_still_ours(void **state)
{
	struct map_fixture *f = *state;
	uint8_t *at = map_file(f);
	uintptr_t page = (uintptr_t)at + DZ_PAGE;
	uint32_t taken = dz_engine_unmap_begin(&f->e, page, page + DZ_PAGE);

	assert_int_not_equal(taken, 0);
	assert_false(is_ours(f, at, 0, PAGES));
	dz_engine_unmap_end(&f->e, taken, page, page + DZ_PAGE, false);
	assert_true(is_ours(f, at, 1, 1));
	taken = dz_engine_unmap_begin(&f->e, page, page + DZ_PAGE);
	dz_engine_unmap_end(&f->e, taken, page, page + DZ_PAGE, true);
	assert_true(is_ours(f, at, 0, 1));
	assert_false(is_ours(f, at, 1, 1));
	assert_true(is_ours(f, at, 2, 1));
	munmap(at, PAGES * DZ_PAGE);
}

static void a_mapping_over_another_is_pinned_when_the_other_has_gone(void **state)
{
	struct map_fixture *f = *state;
	uint8_t *at = map_file(f);
	void *over;

	assert_int_equal(dz_engine_map(&f->e, f->fh, at + DZ_PAGE, DZ_PAGE, PROT_READ,
				       MAP_PRIVATE | MAP_FIXED, 0, &over),
			 0);
	assert_ptr_equal(over, at + DZ_PAGE);
	munmap(at, DZ_PAGE);
	munmap(at + 2 * DZ_PAGE, DZ_PAGE);
	assert_true(dz_slab_is_mapped(&f->e.seg, f->slab));
	munmap(over, DZ_PAGE);
	assert_false(dz_slab_is_mapped(&f->e.seg, f->slab));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_block_with_a_hole_stays_pinned_until_its_last_page_goes, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(a_slab_that_was_mapped_once_does_not_count_for_good,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			what_a_child_maps_that_we_were_not_told_of_stays_pinned, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_the_kernel_did_not_unmap_is_still_ours, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			a_mapping_over_another_is_pinned_when_the_other_has_gone, set_up,
			tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
