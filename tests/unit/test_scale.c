/* SPDX-License-Identifier: MIT */
/* A large cache's shared memory: the figures that the README states, on a smaller one. */
#include "tests/bench/scale.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DIRS  100u
#define EACH  2000u
#define BLOBS 50000u

static void a_name_costs_what_is_stated_and_is_found(void **state)
{
	const uint64_t n = (uint64_t)DIRS * EACH;
	struct scale s;
	uint64_t before, bytes, x = 1;

	(void)state;
	scale_open(&s, NULL, n * 320 + 64 * DZ_MIB, DZ_SIZE_NONE);
	before = scale_dram_bytes(&s);
	for (uint32_t d = 0; d < DIRS; d++)
		scale_put_dir(&s, d, EACH);
	bytes = scale_dram_bytes(&s) - before;
	print_message("# %.1f bytes a name\n", (double)bytes / (double)n);
	assert_in_range(bytes, n * 60, n * SCALE_NAME_BYTES);
	for (int i = 0; i < 20000; i++) {
		uint64_t k = scale_rnd(&x) % n;

		assert_true(scale_name_is_right(&s, (uint32_t)(k / EACH), (uint32_t)(k % EACH)));
	}
	assert_false(scale_name_is_right(&s, 0, EACH));
	scale_close(&s);
}

/* Of a journal with so many blocks all are there, and each for no more than is stated. */
static void a_cached_blob_costs_what_is_stated_and_is_found(void **state)
{
	uint64_t bytes, ctl;
	struct scale s;

	(void)state;
	scale_open_blobs(&s, NULL, BLOBS);
	for (uint32_t i = 0; i < SCALE_REAL; i++)
		scale_put_blob(&s, i, SCALE_BLOB);
	scale_make_journal(&s, BLOBS, true);
	scale_detach(&s);
	assert_int_equal(dz_seg_purge(&s.cfg), 0);
	scale_attach(&s);
	bytes = scale_disk_bytes(&s);
	print_message("# %.1f bytes a blob\n", (double)bytes / BLOBS);
	assert_in_range(bytes, BLOBS * 64, BLOBS * SCALE_BLOB_BYTES);
	for (uint32_t i = 0; i < BLOBS; i++)
		assert_int_not_equal(dz_index_find(&s.seg, scale_key(i), DZ_TIER_DISK, &ctl),
				     DZ_NONE);
	/* the tenants that their places had before are not */
	for (uint32_t i = 0; i < BLOBS; i += 4)
		assert_int_equal(dz_index_find(&s.seg, scale_key(BLOBS + i), DZ_TIER_DISK, &ctl),
				 DZ_NONE);
	for (uint32_t i = 0; i < SCALE_REAL; i++)
		assert_true(scale_get_blob(&s, i, SCALE_BLOB));
	scale_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_costs_what_is_stated_and_is_found),
		cmocka_unit_test(a_cached_blob_costs_what_is_stated_and_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
