/* SPDX-License-Identifier: MIT */
/*
 * scale replay [BLOCKS [spread]] | names [DIRECTORIES [NAMES]] | blobs [BLOBS]
 *
 *   replay	seconds from nothing in shared memory to the first block read from the
 *		disk, its journal having that many records (and a quarter more that no
 *		longer count); spread: their places in random order
 *   names	shared memory per name, and lookups a second
 *   blobs	shared memory per blob of 4 KiB in the disk tier
 *
 * One "name value" a line.  Works below the current directory, and in /dev/shm.
 * Exit status 1 when a figure that the README states does not hold.
 */
#include "tests/bench/scale.h"

#define SHM	    "/dev/shm"
#define BLOB	    4096u
#define REAL_BLOBS  1000u /* of a replay: those whose bytes are there */
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

/* 0 .. n-1 in random order, or as they are. */
static uint32_t *places_new(uint32_t n, bool is_spread)
{
	uint32_t *at = malloc(n * sizeof(*at));
	uint64_t x = 88172645463325252ull;

	SCALE_MUST(at);
	for (uint32_t i = 0; i < n; i++)
		at[i] = i;
	for (uint32_t i = n - 1; is_spread && i > 0; i--) {
		uint32_t k = (uint32_t)(scale_rnd(&x) % (i + 1)), t = at[i];

		at[i] = at[k];
		at[k] = t;
	}
	return at;
}

/* One record; the blocks beyond the real ones lie behind them. */
static struct dz_jrec record_of(uint64_t seq, uint64_t n, uint32_t page)
{
	struct dz_key key = scale_key(n);
	struct dz_jrec rec = { .seq = seq,
			       .key_lo = key.lo,
			       .key_hi = key.hi,
			       .page = page,
			       .len = BLOB,
			       .crc = (uint32_t)n,
			       .group = 1,
			       .kind = DZ_KIND_DATA };

	dz_jrec_seal(&rec);
	return rec;
}

/* A quarter of the places had another tenant first. */
static void journal_make(const struct scale *s, uint32_t n, bool is_spread)
{
	uint32_t *at = places_new(n - REAL_BLOBS, is_spread);
	char path[DZ_PATH_MAX + 32];
	uint64_t seq = REAL_BLOBS;
	FILE *file;

	snprintf(path, sizeof(path), "%s/journal.made", s->dir);
	file = fopen(path, "w");
	SCALE_MUST(file);
	for (uint32_t i = 0; i < n - REAL_BLOBS; i++) {
		struct dz_jrec old, rec;

		old = record_of(++seq, (uint64_t)n + i, REAL_BLOBS + at[i]);
		rec = record_of(++seq, REAL_BLOBS + i, REAL_BLOBS + at[i]);
		SCALE_MUST(i % 4 || fwrite(&old, sizeof(old), 1, file) == 1);
		SCALE_MUST(fwrite(&rec, sizeof(rec), 1, file) == 1);
	}
	/* after a reboot no page of it is in memory */
	SCALE_MUST(fflush(file) == 0 && fsync(fileno(file)) == 0);
	SCALE_MUST(posix_fadvise(fileno(file), 0, 0, POSIX_FADV_DONTNEED) == 0);
	SCALE_MUST(fclose(file) == 0);
	free(at);
}

static bool replay(uint32_t n, bool is_spread)
{
	uint64_t begin, right = 0, ctl;
	uint32_t missing = 0;
	struct scale s;
	double first, cpu;

	/* as many slots as blocks: a sixteenth of the shared memory may be slots of the disk */
	scale_open(&s, SHM, (uint64_t)n * 64 * 16 + 64 * DZ_MIB, (uint64_t)n * BLOB * 34 / 32);
	for (uint32_t i = 0; i < REAL_BLOBS; i++)
		scale_put_blob(&s, i, BLOB);
	journal_make(&s, n, is_spread);
	scale_detach(&s);
	SCALE_MUST(dz_seg_purge(&s.cfg) == 0);
	cpu = cpu_seconds();
	begin = dz_now_ns();
	scale_attach(&s);
	SCALE_MUST(scale_get_blob(&s, REAL_BLOBS / 2, BLOB));
	first = seconds_since(begin);
	cpu = cpu_seconds() - cpu;
	for (uint32_t i = 0; i < n; i++)
		missing += dz_index_find(&s.seg, scale_key(i), DZ_TIER_DISK, &ctl) == DZ_NONE;
	for (uint32_t i = 0; i < REAL_BLOBS; i++)
		right += scale_get_blob(&s, i, BLOB);
	printf("replay-blocks %u\nreplay-first-read-seconds %.3f\nreplay-cpu-seconds %.3f\n"
	       "replay-missing %u\n",
	       n, first, cpu, missing);
	scale_close(&s);
	return first < REPLAY_GOAL && missing == 0 && right == REAL_BLOBS;
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

static bool blobs(uint32_t n)
{
	uint64_t begin, x = 1, bytes;
	double put_s, look_s;
	uint32_t found = 0;
	struct scale s;

	scale_open(&s, SHM, (uint64_t)n * 64 * 16 + 64 * DZ_MIB, (uint64_t)n * BLOB * 34 / 32);
	begin = dz_now_ns();
	for (uint32_t i = 0; i < n; i++)
		scale_put_blob(&s, i, BLOB);
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
		SCALE_MUST(scale_get_blob(&s, scale_rnd(&x) % n, BLOB));
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
	fprintf(stderr,
		"usage: scale replay [BLOCKS [spread]] | names [DIRS [NAMES]] | blobs [N]\n");
	return 2;
}
