/* SPDX-License-Identifier: MIT */
/* Names: what was published is found, all of it, and nonsense in memory harms nobody. */
#include "cache/index.h"
#include "cache/names.h"
#include "cache/names_format.h"
#include "cache/slabs.h"
#include "tests/unit/fake_seg.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define REC 0x1122334455667788ull

static int set_up(void **state)
{
	struct fake_counts n = { .dram_slabs = 64 };
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

/* Entries whose attributes are functions of their number and of `salt`. */
struct list {
	struct dz_name_in *in;
	char *text;
	uint64_t n;
};

static struct list list_new(uint64_t n, uint64_t salt)
{
	struct list l = { calloc(n ? n : 1, sizeof(*l.in)), calloc(n ? n : 1, 64), n };

	for (uint64_t i = 0; i < n; i++) {
		char *name = l.text + i * 64, *etag = name + 40;

		l.in[i].name_len =
			(uint32_t)snprintf(name, 40, "file-%llu.bin", (unsigned long long)i);
		snprintf(etag, 24, "0x%llX", (unsigned long long)(i * 7 + salt));
		l.in[i].name = name;
		l.in[i].etag = etag;
		l.in[i].size = i * 3 + salt;
		l.in[i].mtime_s = (int64_t)(i + salt);
		l.in[i].is_dir = i % 10 == 3;
	}
	return l;
}

static void list_free(struct list *l)
{
	free(l->in);
	free(l->text);
}

static void find(struct dz_seg *seg, const char *path, struct dz_name *out)
{
	dz_names_find(seg, REC, path, strlen(path), out);
}

/* Is entry i of the listing below `dir` what it was made with? */
static bool entry_is_right(struct dz_seg *seg, const char *dir, uint64_t i, uint64_t salt)
{
	char path[128], etag[24];
	struct dz_name out;

	snprintf(path, sizeof(path), "%s%sfile-%llu.bin", dir, *dir ? "/" : "",
		 (unsigned long long)i);
	snprintf(etag, sizeof(etag), "0x%llX", (unsigned long long)(i * 7 + salt));
	find(seg, path, &out);
	return out.state == DZ_NAME_FOUND && out.attr.size == i * 3 + salt &&
	       strcmp(out.attr.etag, etag) == 0 &&
	       out.attr.mtime_ns == (int64_t)(i + salt) * 1000000000 &&
	       ((out.attr.mode & 0040000) != 0) == (i % 10 == 3);
}

static void check_directory_of(struct dz_seg *seg, const char *dir, uint64_t n)
{
	struct list l = list_new(n, 5);
	struct dz_name out;
	char path[128];

	assert_int_equal(dz_names_put_dir(seg, REC, dir, strlen(dir), l.in, n), 0);
	for (uint64_t i = 0; i < n; i++)
		if (!entry_is_right(seg, dir, i, 5))
			fail_msg("entry %llu of %llu", (unsigned long long)i,
				 (unsigned long long)n);
	for (uint64_t i = n; i < n + 50; i++) {
		snprintf(path, sizeof(path), "%s%sfile-%llu.bin", dir, *dir ? "/" : "",
			 (unsigned long long)i);
		find(seg, path, &out);
		assert_int_equal(out.state, DZ_NAME_ABSENT);
	}
	list_free(&l);
}

static void every_name_is_found_and_no_other(void **state)
{
	const uint64_t sizes[] = { 0, 1, 2, 3, 100, 5000, 20000 };

	for (size_t i = 0; i < DZ_ARRAY_LEN(sizes); i++) {
		check_directory_of(*state, "", sizes[i]);
		check_directory_of(*state, "a/b", sizes[i]);
	}
}

static void two_hundred_thousand_names_are_found(void **state)
{
	check_directory_of(*state, "big", 200000);
}

static void a_directory_that_was_never_listed_is_unknown(void **state)
{
	struct dz_name out;

	find(*state, "x", &out);
	assert_int_equal(out.state, DZ_NAME_UNKNOWN);
	find(*state, "a/b/c", &out);
	assert_int_equal(out.state, DZ_NAME_UNKNOWN);
}

static void one_name_can_be_known_alone_present_or_absent(void **state)
{
	struct list l = list_new(1, 9);
	struct dz_name out;

	assert_int_equal(dz_names_put_attr(*state, REC, "d/file-0.bin", 12, l.in), 0);
	assert_true(entry_is_right(*state, "d", 0, 9));
	assert_int_equal(dz_names_put_attr(*state, REC, "d/none", 6, NULL), 0);
	find(*state, "d/none", &out);
	assert_int_equal(out.state, DZ_NAME_ABSENT);
	assert_false(out.listed);
	find(*state, "d/other", &out);
	assert_int_equal(out.state, DZ_NAME_UNKNOWN);
	dz_names_forget(*state, REC, "d/none", 6);
	find(*state, "d/none", &out);
	assert_int_equal(out.state, DZ_NAME_UNKNOWN);
	list_free(&l);
}

static void a_listing_is_copied_whole(void **state)
{
	struct list l = list_new(30000, 1);
	struct dz_listing out;
	uint8_t *seen = calloc(l.n, 1);

	assert_int_equal(dz_names_put_dir(*state, REC, "d", 1, l.in, l.n), 0);
	assert_int_equal(dz_names_copy(*state, REC, "d", 1, &out), 0);
	assert_int_equal(out.n, l.n);
	for (uint64_t i = 0; i < out.n; i++) {
		const struct dz_list_entry *e = (const void *)(out.data + out.offset[i]);
		uint64_t n = strtoull(e->name + 5, NULL, 10);

		assert_int_equal(e->size, n * 3 + 1);
		assert_int_equal(strlen(e->name), e->name_len);
		assert_int_equal(seen[n]++, 0);
	}
	munmap(out.data, out.bytes);
	free(seen);
	list_free(&l);
}

static void a_replaced_listing_replaces_all_of_it(void **state)
{
	struct list l = list_new(40000, 1);
	struct dz_name out;

	assert_int_equal(dz_names_put_dir(*state, REC, "d", 1, l.in, 40000), 0);
	assert_int_equal(dz_names_put_dir(*state, REC, "d", 1, l.in, 10), 0);
	find(*state, "d/file-9.bin", &out);
	assert_int_equal(out.state, DZ_NAME_FOUND);
	find(*state, "d/file-39999.bin", &out);
	assert_int_equal(out.state, DZ_NAME_ABSENT);
	list_free(&l);
}

static void many_replacements_leak_no_slots(void **state)
{
	struct dz_seg *seg = *state;
	struct list l = list_new(20000, 1);
	uint32_t before;

	assert_int_equal(dz_names_put_dir(seg, REC, "d", 1, l.in, l.n), 0);
	for (int i = 0; i < 60; i++) {
		int ret = dz_names_put_dir(seg, REC, "d", 1, l.in, l.n);

		if (ret != 0)
			fail_msg("replacement %d: %d", i, ret);
	}
	/* the old blocks behind the first are evicted when their space is wanted */
	before = atomic_load(&seg->hdr->chunks[DZ_TIER_DRAM]);
	assert_true(before <= seg->n_dram_slabs * 4);
	list_free(&l);
}

static void a_name_that_is_as_long_as_blob_allows_is_found(void **state)
{
	char dir[DZ_NAME_MAX + 1], last[256], path[DZ_NAME_MAX + 1];
	struct dz_name_in in = { .name = last, .name_len = 255, .etag = "0x1", .size = 77 };
	struct dz_name out;

	memset(dir, 'd', sizeof(dir));
	memset(last, 'n', sizeof(last));
	dir[DZ_NAME_MAX - 256] = last[255] = '\0';
	assert_int_equal(dz_names_put_dir(*state, REC, dir, strlen(dir), &in, 1), 0);
	snprintf(path, sizeof(path), "%s/%s", dir, last);
	find(*state, path, &out);
	assert_int_equal(out.state, DZ_NAME_FOUND);
	assert_int_equal(out.attr.size, 77);
}

/* ---- others replace it while we look ---- */

#ifdef __SANITIZE_THREAD__ /* each racing word costs it a report that is suppressed */
#define RACE_NAMES    100
#define RACE_REPLACES 20
#else
#define RACE_NAMES    15000
#define RACE_REPLACES 100
#endif

struct race {
	struct dz_seg seg;
	_Atomic bool is_over;
	_Atomic uint64_t looks, wrong;
};

static void *looks_up(void *arg)
{
	struct race *r = arg;
	uint64_t x = (uintptr_t)&x | 1;

	while (!atomic_load(&r->is_over)) {
		char path[64];
		struct dz_name out;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		snprintf(path, sizeof(path), "d/file-%llu.bin",
			 (unsigned long long)(x >> 33) % RACE_NAMES);
		find(&r->seg, path, &out);
		/* every listing has it: the salt of its size and of its ETag must agree */
		if (out.state == DZ_NAME_FOUND) {
			uint64_t i = (x >> 33) % RACE_NAMES, salt = out.attr.size - i * 3;

			if (strtoull(out.attr.etag, NULL, 16) != i * 7 + salt || salt > 1000)
				atomic_fetch_add(&r->wrong, 1);
			atomic_fetch_add(&r->looks, 1);
		} else if (out.state == DZ_NAME_ABSENT) {
			atomic_fetch_add(&r->wrong, 1);
		}
	}
	return NULL;
}

static void lookups_during_replacement_see_the_old_or_the_new(void **state)
{
	struct race r = { .seg = *(struct dz_seg *)*state };
	struct list l[4];
	pthread_t t[3];

	for (uint64_t i = 0; i < 4; i++)
		l[i] = list_new(RACE_NAMES, i * 100);
	assert_int_equal(dz_names_put_dir(*state, REC, "d", 1, l[0].in, l[0].n), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, looks_up, &r), 0);
	for (int i = 0; i < RACE_REPLACES; i++)
		assert_int_equal(dz_names_put_dir(*state, REC, "d", 1, l[i % 4].in, RACE_NAMES), 0);
	atomic_store(&r.is_over, true);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(atomic_load(&r.wrong), 0);
	assert_true(atomic_load(&r.looks) > 20);
	for (int i = 0; i < 4; i++)
		list_free(&l[i]);
}

/* ---- damaged blocks ---- */

static void use_everything(struct dz_seg *seg, const char *dir)
{
	struct dz_listing out;
	struct dz_name name;
	uint64_t stamp, n;

	for (uint64_t i = 0; i < 30; i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/file-%llu.bin", dir, (unsigned long long)i);
		find(seg, path, &name);
		assert_true(name.state <= DZ_NAME_ABSENT);
		if (name.state == DZ_NAME_FOUND)
			assert_true(strlen(name.attr.etag) < DZ_ETAG_MAX);
	}
	find(seg, "alone/x", &name);
	dz_names_dir_info(seg, REC, dir, strlen(dir), &stamp, &n);
	if (dz_names_copy(seg, REC, dir, strlen(dir), &out) < 0)
		return;
	/* what a readdir does with it */
	for (uint64_t i = 0; i < out.n; i++) {
		const struct dz_list_entry *e;

		assert_true(out.offset[i] + sizeof(*e) <= out.bytes);
		e = (const void *)(out.data + out.offset[i]);
		assert_true(out.offset[i] + sizeof(*e) + e->name_len < out.bytes);
		assert_int_equal(e->name[e->name_len], 0);
	}
	munmap(out.data, out.bytes);
}

static uint32_t slot_of_dir(struct dz_seg *seg, const char *dir)
{
	uint64_t ctl;
	uint32_t slot =
		dz_index_find(seg, dz_names_dir_key(REC, dir, strlen(dir)), DZ_TIER_DRAM, &ctl);

	assert_int_not_equal(slot, DZ_NONE);
	return slot;
}

static void a_damaged_block_is_unknown_or_wrong_but_never_a_crash(void **state)
{
	struct dz_seg *seg = *state;
	struct list l = list_new(30, 0);
	uint64_t x = 88172645463325252ull;
	uint32_t slot, len;
	uint8_t *bytes, *copy;

	assert_int_equal(dz_names_put_dir(seg, REC, "d", 1, l.in, l.n), 0);
	assert_int_equal(dz_names_put_attr(seg, REC, "alone/x", 7, l.in), 0);
	slot = slot_of_dir(seg, "d");
	bytes = dz_seg_page(seg, slot);
	len = atomic_load(&dz_slot_of(seg, DZ_TIER_DRAM, slot)->len);
	copy = malloc(len);
	memcpy(copy, bytes, len);
	for (int round = 0; round < 20000; round++) {
		for (int flips = 0; flips < 1 + round % 4; flips++) {
			uint32_t at;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/* the head and the table more often than the rest */
			at = (uint32_t)(x >> 20) % (round % 2 ? len : 256);
			bytes[at] = (uint8_t)(round % 3 ? x >> 8 : 0xff);
		}
		use_everything(seg, "d");
		memcpy(bytes, copy, len);
	}
	assert_true(entry_is_right(seg, "d", 3, 0));
	free(copy);
	list_free(&l);
}

static void an_absurd_count_of_entries_makes_no_absurd_listing(void **state)
{
	const uint64_t totals[] = {
		1ull << 62, (1ull << 62) + 3, UINT64_MAX, 1ull << 32, 0, 29, 31
	};
	struct dz_seg *seg = *state;
	struct list l = list_new(30, 0);
	struct dz_dir_head *head;

	assert_int_equal(dz_names_put_dir(seg, REC, "d", 1, l.in, l.n), 0);
	head = (void *)dz_seg_page(seg, slot_of_dir(seg, "d"));
	for (size_t i = 0; i < DZ_ARRAY_LEN(totals); i++) {
		head->total = totals[i];
		use_everything(seg, "d");
	}
	list_free(&l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_name_is_found_and_no_other),
		TEST(two_hundred_thousand_names_are_found),
		TEST(a_directory_that_was_never_listed_is_unknown),
		TEST(one_name_can_be_known_alone_present_or_absent),
		TEST(a_listing_is_copied_whole),
		TEST(a_replaced_listing_replaces_all_of_it),
		TEST(many_replacements_leak_no_slots),
		TEST(a_name_that_is_as_long_as_blob_allows_is_found),
		TEST(lookups_during_replacement_see_the_old_or_the_new),
		TEST(a_damaged_block_is_unknown_or_wrong_but_never_a_crash),
		TEST(an_absurd_count_of_entries_makes_no_absurd_listing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
