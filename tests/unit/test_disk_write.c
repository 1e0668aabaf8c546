/* SPDX-License-Identifier: MIT */
/* Blocks written together, and a disk that is slow. */
#include "cache/disk_priv.h"
#include "tests/unit/disk_batch.h"
#include "tests/unit/space_check.h"
#include "tools/dz.h"
#include "tools/totals.h"

#define MIB   ((uint32_t)DZ_MIB)
#define SMALL 110000u

static bool no_uring; /* which ring the test is for */

static int set_up(void **state)
{
	struct fixture *f = fixture_new(NULL, 40 * DZ_MIB);

	*state = f;
	no_uring = false;
	return f && f->disk ? 0 : -1;
}

static int set_up_pwrite(void **state)
{
	int ret = set_up(state);

	no_uring = true;
	return ret;
}

static int tear_down(void **state)
{
	fixture_free(*state);
	return 0;
}

static void a_batch_is_read_back_and_survives_a_reboot(void **state)
{
	static const uint32_t lens[] = { 1, 4095, 4096, 4097, 110250, 500000, 1048575, 1048576 };
	struct fixture *f = *state;
	struct batch *b = batch_new(no_uring);

	for (uint64_t i = 0; i < 18; i++)
		batch_add(b, i, lens[i % 8]);
	batch_write(f, b);
	for (uint32_t i = 0; i < b->n; i++)
		assert_int_equal(b->put[i].ret, 0);
	for (int boots = 0; boots < 2; boots++) {
		for (uint64_t i = 0; i < 18; i++)
			assert_block(f, i, lens[i % 8]);
		assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
		reopen(f);
	}
	batch_free(b);
}

/* Write calls that this process has made. */
static uint64_t write_calls(void)
{
	char line[128];
	unsigned long long n = 0;
	FILE *io = fopen("/proc/self/io", "r");

	while (io && fgets(line, sizeof(line), io))
		if (sscanf(line, "syscw: %llu", &n) == 1)
			break;
	if (io)
		fclose(io);
	return n;
}

/* 36 blobs: 9 fit a slab, so 4 writes, and one for all their records. */
static void small_blobs_side_by_side_are_one_write_a_slab(void **state)
{
	struct fixture *f = *state;
	struct batch *b = batch_new(no_uring);
	uint64_t calls;
	uint32_t writes;

	for (uint64_t i = 0; i < 36; i++)
		batch_add(b, i, SMALL);
	calls = write_calls();
	writes = batch_write(f, b);
	calls = write_calls() - calls;
	assert_int_equal(writes, 4);
	assert_true(!no_uring || calls == 0 || calls == writes + 1);
	for (uint64_t i = 0; i < 36; i++)
		assert_block(f, i, SMALL);
	/* and their waste is below a fifth */
	assert_in_range(f->seg.hdr->disk_used, 36 * SMALL, 36 * SMALL / 5 * 6);
	batch_free(b);
}

static void a_batch_that_is_too_large_is_written_as_far_as_it_goes(void **state)
{
	struct fixture *f = *state;
	struct batch *b = batch_new(no_uring);

	for (uint64_t i = 0; i < 9; i++)
		batch_add(b, i, MIB);
	assert_int_equal(batch_write(f, b), 8);
	for (uint64_t i = 0; i < 8; i++)
		assert_block(f, i, MIB);
	assert_int_equal(b->put[8].ret, -ENOBUFS);
	assert_int_equal(get(f, 8, MIB), -ENOENT);
	batch_free(b);
}

static void what_is_there_twice_is_written_once(void **state)
{
	struct fixture *f = *state;
	struct batch *b = batch_new(no_uring);

	assert_int_equal(put(f, 1, SMALL), 0);
	batch_add(b, 1, SMALL);
	batch_add(b, 2, SMALL);
	batch_add(b, 2, SMALL);
	batch_write(f, b);
	assert_int_equal(b->put[0].ret, -EEXIST);
	assert_int_equal(b->put[1].ret + b->put[2].ret, -EEXIST);
	assert_block(f, 2, SMALL);
	assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
	batch_free(b);
}

/* Its bytes may be another block's by now. */
static void a_block_that_left_dram_meanwhile_is_not_written(void **state)
{
	struct fixture *f = *state;
	struct batch *b = batch_new(no_uring);

	for (uint64_t i = 0; i < 3; i++)
		batch_add(b, i, SMALL);
	b->put[1].dram = 0;
	b->put[1].dram_ctl = dz_ctl(77, 0, DZ_SLOT_READY);
	batch_write(f, b);
	assert_int_equal(b->put[1].ret, -ESTALE);
	assert_int_equal(get(f, 1, SMALL), -ENOENT);
	assert_block(f, 0, SMALL);
	assert_block(f, 2, SMALL);
	assert_int_equal(f->seg.hdr->disk_used, 2 * dz_disk_put_bytes(SMALL));
	assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
	assert_int_equal(f->seg.members[f->seg.member].filling, 0);
	batch_free(b);
}

static void without_its_journal_nothing_of_a_batch_is_kept(void **state)
{
	struct fixture *f = *state;
	struct batch *b = batch_new(no_uring);
	char cmd[DZ_PATH_MAX + 64];

	snprintf(cmd, sizeof(cmd), "cd %.4000s && rm -f journal.* && mkdir journal.%u", f->dir,
		 f->seg.member);
	assert_int_equal(system(cmd), 0);
	for (uint64_t i = 0; i < 20; i++)
		batch_add(b, i, SMALL);
	batch_write(f, b);
	for (uint32_t i = 0; i < 20; i++)
		assert_true(b->put[i].ret < 0);
	assert_false(dz_disk_is_on(f->disk));
	assert_int_equal(f->seg.hdr->disk_used, 0);
	assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
	batch_free(b);
}

/* Wherever the kill fell: no wrong byte, then or after a reboot, and no place is lost. */
static void a_writer_killed_in_a_batch_leaves_no_wrong_block_and_no_slot(void **state)
{
	struct fixture *f = *state;

	for (uint64_t round = 0; round < 12; round++) {
		kill_a_writer(f, round * 333, 20 + round * 7, no_uring);
		dz_member_sweep(&f->seg, true);
		dz_disk_recover(f->disk, DZ_NONE);
		dz_slabs_scrub(&f->seg, DZ_TIER_DISK, 0, f->seg.n_disk_slabs);
		assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
	}
	assert_true(assert_no_wrong_block(f) > 20);
}

/* ---- a replay ---- */

/* As a replay that was killed may leave its tables, and worse: a key that leads elsewhere. */
static void leave_half_a_replay(struct dz_seg *seg, const uint32_t *page, uint32_t n)
{
	atomic_store(&seg->hdr->disk_slabs, DZ_NONE);
	for (uint32_t i = 0; i < n; i++) {
		struct dz_slot *s = &seg->disk_slots[i];
		uint64_t ctl;

		assert_true(dz_slot_take(seg, i, page[i + 1], SMALL, &ctl));
		s->key_lo = key_of(i).lo;
		s->key_hi = key_of(i).hi;
		s->len = SMALL;
		s->kind = DZ_KIND_DATA;
		s->ctl = ctl;
		assert_int_equal(dz_index_add(seg, key_of(i), DZ_TIER_DISK, i), 0);
	}
}

static void a_replay_that_was_killed_is_begun_anew(void **state)
{
	struct fixture *f = *state;
	uint32_t page[40];

	for (uint64_t i = 0; i < 40; i++) {
		uint64_t ctl;

		assert_int_equal(put(f, i, SMALL), 0);
		page[i] = f->seg.disk_slots[dz_index_find(&f->seg, key_of(i), DZ_TIER_DISK, &ctl)]
				  .page;
	}
	detach(f);
	assert_int_equal(dz_seg_purge(&f->cfg), 0);
	assert_int_equal(dz_seg_open(&f->seg, &f->cfg, &f->log), 0);
	assert_int_equal(dz_member_join(&f->seg), 0);
	leave_half_a_replay(&f->seg, page, 20);
	assert_int_equal(dz_disk_open(&f->disk, &f->seg, &f->cfg, &f->log), 0);
	assert_non_null(f->disk);
	for (int boots = 0; boots < 2; boots++) {
		assert_null(space_complaint(&f->seg, DZ_TIER_DISK));
		for (uint64_t i = 0; i < 40; i++)
			assert_block(f, i, SMALL);
		reopen(f);
	}
}

/* ---- slow ---- */

/* An I/O that took so long, half a second and more after the last one. */
static void took(struct fixture *f, uint32_t len, uint64_t ms)
{
	f->seg.hdr->disk_slow_ms = 0;
	dz_disk_took(f->disk, len, ms);
}

static void a_disk_slower_than_blob_is_off_for_a_minute_then_for_two(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(put(f, 1, MIB), 0);
	for (uint64_t minutes = 1; minutes <= 2; minutes++) {
		uint64_t now;

		for (int i = 0; i < 15; i++)
			took(f, MIB, 2000);
		assert_true(dz_disk_is_on(f->disk));
		took(f, MIB, 2000);
		now = dz_now_ms();
		assert_false(dz_disk_is_on(f->disk));
		assert_int_equal(dz_disk_off(f->seg.hdr), DZ_DISK_OFF_FOR_NOW);
		assert_in_range(f->seg.hdr->disk_off, now + minutes * 60000 - 5000,
				now + minutes * 60000);
		assert_int_equal(get(f, 1, MIB), -ENOENT);
		assert_int_equal(put(f, 2, MIB), -ENODEV);
		/* when the time is over, its blocks are there as before */
		f->seg.hdr->disk_off = now > 2 ? now - 1 : 1;
		assert_true(dz_disk_is_on(f->disk));
		assert_block(f, 1, MIB);
	}
}

/* Of dz.c, which a test does not link; nothing here fails by it. */
int dz_fail(const char *command, const char *fmt, ...)
{
	(void)command;
	(void)fmt;
	return 125;
}

static bool stat_says(struct fixture *f, const char *what)
{
	struct dz_totals t;
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);
	bool found;

	assert_int_equal(dz_totals_read(&t, &f->cfg), 0);
	dz_totals_print(to, &t);
	dz_totals_json(to, &t, "");
	fclose(to);
	found = strstr(text, what);
	free(text);
	return found;
}

static void stat_tells_off_for_now_from_off(void **state)
{
	struct fixture *f = *state;

	assert_true(stat_says(f, "\"off\": false"));
	f->seg.hdr->disk_off = dz_now_ms() + 50000;
	assert_true(stat_says(f, "off for now: it is slow"));
	assert_true(stat_says(f, "\"off\": true"));
	f->seg.hdr->disk_off = 1;
	assert_true(stat_says(f, ", switched off"));
	assert_false(stat_says(f, "off for now"));
}

static void a_stall_now_and_then_is_borne(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 200; i++) {
		took(f, MIB, 3000);
		for (int k = 0; k < 5; k++)
			took(f, MIB, 20);
	}
	/* many in one queue are one stall */
	for (int i = 0; i < 200; i++)
		dz_disk_took(f->disk, MIB, 3000);
	assert_true(dz_disk_is_on(f->disk));
	assert_int_equal(f->seg.hdr->disk_slow_off, 0);
}

/* What takes long in a read or a write is what counts. */
static void reads_and_writes_are_timed(void **state)
{
	struct fixture *f = *state;
	struct batch *b;
	struct dz_io io;
	uint32_t slot, skip;
	uint64_t ctl;

	assert_int_equal(put(f, 1, MIB), 0);
	assert_int_equal(f->seg.hdr->disk_slow, 0);
	slot = dz_index_find(&f->seg, key_of(1), DZ_TIER_DISK, &ctl);
	dz_disk_prep_read(f->disk, slot, 0, MIB, f->buf, &io, &skip);
	io.res = (int32_t)dz_sys_pread(io.fd, io.buf, io.len, io.off);
	io.took_ms = 4000;
	f->seg.hdr->disk_slow_ms = 0;
	assert_int_equal(dz_disk_check_read(f->disk, slot, ctl, &io), 0);
	assert_int_equal(f->seg.hdr->disk_slow, 4);
	/* one at the usual speed */
	assert_int_equal(put(f, 2, MIB), 0);
	assert_int_equal(f->seg.hdr->disk_slow, 3);
	assert_block(f, 2, MIB);
	assert_int_equal(f->seg.hdr->disk_slow, 2);
	b = batch_new(no_uring);
	batch_add(b, 3, SMALL);
	assert_int_equal(batch_write(f, b), 1);
	assert_int_equal(f->seg.hdr->disk_slow, 1);
	batch_free(b);
}

#define BOTH(test)                                                                                 \
	{ #test " (io_uring)", test, set_up, tear_down, NULL },                                    \
	{                                                                                          \
#test " (pwrite)", test, set_up_pwrite, tear_down, NULL                            \
	}
#define ONE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_batch_is_read_back_and_survives_a_reboot),
		BOTH(small_blobs_side_by_side_are_one_write_a_slab),
		BOTH(a_batch_that_is_too_large_is_written_as_far_as_it_goes),
		BOTH(what_is_there_twice_is_written_once),
		BOTH(a_block_that_left_dram_meanwhile_is_not_written),
		BOTH(without_its_journal_nothing_of_a_batch_is_kept),
		BOTH(a_writer_killed_in_a_batch_leaves_no_wrong_block_and_no_slot),
		ONE(a_replay_that_was_killed_is_begun_anew),
		ONE(a_disk_slower_than_blob_is_off_for_a_minute_then_for_two),
		ONE(stat_tells_off_for_now_from_off),
		ONE(a_stall_now_and_then_is_borne),
		ONE(reads_and_writes_are_timed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
