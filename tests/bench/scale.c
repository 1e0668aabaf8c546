/* SPDX-License-Identifier: MIT */
/*
 * scale replay [BLOCKS [spread]] | names [DIRECTORIES [NAMES]] | blobs [BLOBS] |
 *	 writes [BLOBS]
 *
 *   replay	seconds from nothing in shared memory to the first block read from the
 *		disk, its journal having that many records (and a quarter more that no
 *		longer count); spread: their places in random order
 *   names	shared memory per name, and lookups a second
 *   blobs	shared memory per blob of 4 KiB in the disk tier
 *   writes	blobs of 110 KB onto the disk a second: one by one, and as a batch
 *
 * One "name value" a line.  Works below the current directory, and in /dev/shm.
 * Exit status 1 when a figure that the README states does not hold; of the replay its
 * time on the CPU counts, which is one.
 */
#include "tests/bench/scale.h"

#define SHM	    "/dev/shm"
#define READS	    500
#define REPLAY_GOAL 1.0

static double seconds_since(uint64_t ns)
{
	return (double)(dz_now_ns() - ns) / 1e9;
}

static double cpu_seconds(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

/* ---- replay ---- */

static bool replay(uint32_t n, bool is_spread)
{
	uint64_t begin, right = 0, ctl;
	uint32_t missing = 0;
	struct scale s;
	double first, cpu;

	scale_open_blobs(&s, SHM, n);
	for (uint32_t i = 0; i < SCALE_REAL; i++)
		scale_put_blob(&s, i, SCALE_BLOB);
	scale_make_journal(&s, n, is_spread);
	scale_detach(&s);
	SCALE_MUST(dz_seg_purge(&s.cfg) == 0);
	cpu = cpu_seconds();
	begin = dz_now_ns();
	scale_attach(&s);
	SCALE_MUST(scale_get_blob(&s, SCALE_REAL / 2, SCALE_BLOB));
	first = seconds_since(begin);
	cpu = cpu_seconds() - cpu;
	for (uint32_t i = 0; i < n; i++)
		missing += dz_index_find(&s.seg, scale_key(i), DZ_TIER_DISK, &ctl) == DZ_NONE;
	for (uint32_t i = 0; i < SCALE_REAL; i++)
		right += scale_get_blob(&s, i, SCALE_BLOB);
	printf("replay-blocks %u\nreplay-first-read-seconds %.3f\nreplay-cpu-seconds %.3f\n"
	       "replay-missing %u\n",
	       n, first, cpu, missing);
	scale_close(&s);
	/* what else the machine does is no fault of ours */
	return cpu < REPLAY_GOAL && missing == 0 && right == SCALE_REAL;
}

/* ---- names ---- */

static bool names(uint32_t dirs, uint32_t each)
{
	uint64_t n = (uint64_t)dirs * each, x = 1, begin, before, wrong = 0, looks = n / 5;
	double bytes, put_s, look_s;
	struct scale s;

	scale_open(&s, SHM, n * 320 + 64 * DZ_MIB, DZ_SIZE_NONE);
	before = scale_dram_bytes(&s);
	begin = dz_now_ns();
	for (uint32_t d = 0; d < dirs; d++)
		scale_put_dir(&s, d, each);
	put_s = seconds_since(begin);
	bytes = (double)(scale_dram_bytes(&s) - before) / (double)n;
	begin = dz_now_ns();
	for (uint64_t i = 0; i < looks; i++) {
		uint64_t k = scale_rnd(&x) % n;

		wrong += !scale_name_is_right(&s, (uint32_t)(k / each), (uint32_t)(k % each));
	}
	look_s = seconds_since(begin);
	printf("names %llu\nname-bytes %.1f\nname-publish-per-second %.0f\n"
	       "name-lookups-per-second %.0f\nname-wrong %llu\n",
	       (unsigned long long)n, bytes, (double)n / put_s, (double)looks / look_s,
	       (unsigned long long)wrong);
	scale_close(&s);
	return bytes <= SCALE_NAME_BYTES && wrong == 0;
}

/* ---- blobs ---- */

/* Blobs [from, from + n) in batches of as many as fit. */
static uint64_t put_batches(struct scale *s, uint64_t from, uint32_t n, uint32_t len)
{
	struct dz_disk_put put[DZ_DISK_BATCH];
	uint32_t at_once =
		(uint32_t)dz_min_u64(DZ_DISK_BATCH, DZ_DISK_BATCH_BYTES / dz_disk_put_bytes(len));
	uint64_t each = dz_round_up(len, DZ_PAGE), writes = 0;
	uint8_t *data = calloc(at_once, each);
	struct dz_disk_writer *w;

	SCALE_MUST(data && dz_disk_writer_new(&w, false) == 0);
	for (uint32_t i = 0; i < n; i += at_once) {
		uint32_t m = (uint32_t)dz_min_u64(at_once, n - i);

		for (uint32_t k = 0; k < m; k++) {
			scale_block(data + k * each, from + i + k, len);
			put[k] = (struct dz_disk_put){ .key = scale_key(from + i + k),
						       .data = data + k * each,
						       .dram = DZ_NONE,
						       .len = len,
						       .group = 1,
						       .kind = DZ_KIND_DATA };
		}
		writes += dz_disk_write_batch(s->disk, w, put, m);
		for (uint32_t k = 0; k < m; k++)
			SCALE_MUST(put[k].ret == 0);
	}
	dz_disk_writer_free(w);
	free(data);
	return writes;
}

/* The two take turns, so that what else the disk does weighs on both. */
static bool writes(uint32_t n)
{
	uint64_t calls = 0;
	double one_s = 0, batch_s = 0;
	struct scale s;

	scale_open(&s, SHM, 128 * DZ_MIB, n * 2 * 130000ull + 64 * DZ_MIB);
	for (uint32_t i = 0; i < n; i += n / 8) {
		uint64_t begin = dz_now_ns();

		for (uint32_t k = 0; k < n / 8; k++)
			scale_put_blob(&s, i + k, 110000);
		one_s += seconds_since(begin);
		begin = dz_now_ns();
		calls += put_batches(&s, n + i, n / 8, 110000);
		batch_s += seconds_since(begin);
	}
	printf("writes-one-per-second %.0f\nwrites-batch-per-second %.0f\nwrites-ratio %.2f\n"
	       "writes-per-blob %.3f\n",
	       n / one_s, n / batch_s, one_s / batch_s, (double)calls / n);
	scale_close(&s);
	return calls * 4 < n;
}

static bool blobs(uint32_t n)
{
	uint64_t begin, x = 1, bytes;
	double put_s, look_s;
	uint32_t found = 0;
	struct scale s;

	scale_open_blobs(&s, SHM, n);
	begin = dz_now_ns();
	put_batches(&s, 0, n, SCALE_BLOB);
	put_s = seconds_since(begin);
	bytes = scale_disk_bytes(&s);
	begin = dz_now_ns();
	for (uint32_t i = 0; i < n; i++) {
		uint64_t ctl;

		found += dz_index_find(&s.seg, scale_key(scale_rnd(&x) % n), DZ_TIER_DISK, &ctl) !=
			 DZ_NONE;
	}
	look_s = seconds_since(begin);
	for (uint32_t i = 0; i < READS; i++)
		SCALE_MUST(scale_get_blob(&s, scale_rnd(&x) % n, SCALE_BLOB));
	printf("blobs %u\nblob-bytes %.1f\nblob-writes-per-second %.0f\nblob-lookups-per-second "
	       "%.0f\n",
	       n, (double)bytes / n, n / put_s, n / look_s);
	scale_close(&s);
	return found == n && bytes <= (uint64_t)n * SCALE_BLOB_BYTES;
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise)
{
	return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "replay") == 0)
		return !replay(number(argc, argv, 2, 1000000), argc > 3);
	if (strcmp(mode, "names") == 0)
		return !names(number(argc, argv, 2, 100), number(argc, argv, 3, 100000));
	if (strcmp(mode, "blobs") == 0)
		return !blobs(number(argc, argv, 2, 1000000));
	if (strcmp(mode, "writes") == 0)
		return !writes(number(argc, argv, 2, 4000));
	fprintf(stderr,
		"usage: scale replay [BLOCKS [spread]] | names [DIRS [NAMES]] | blobs [N] | "
		"writes [N]\n");
	return 2;
}
