/* SPDX-License-Identifier: MIT */
/*
 * disk_seq_sim [DIR] [MIB] [RUNS]: sequential reads of 1 MiB out of the disk
 * tier (ring, checks and the copy to the reader's memory), beside fio with
 * io_uring and O_DIRECT on the same slab files.  Alternating runs; medians and
 * their ratio.  The budget is 0.9 (design.md 10).
 */
#include "cache/bounce.h"
#include "cache/disk.h"
#include "cache/member.h"
#include "cache/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUNS_MAX 64
#define UNITS	 (DZ_BLOCK_BYTES / DZ_BOUNCE_UNIT)

struct bench {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	struct dz_disk *disk;
	struct dz_bounce *b;
	char dir[DZ_PATH_MAX];
	uint8_t *user;
	uint64_t n_blocks;
};

static void die(const char *what, int err)
{
	fprintf(stderr, "disk_seq_sim: %s: %s\n", what, dz_strerror(err));
	exit(1);
}

static struct dz_key key_of(uint64_t n)
{
	return dz_hash128(&n, sizeof(n), 1);
}

static void fill(struct bench *x)
{
	for (uint64_t i = 0; i < x->n_blocks; i++) {
		int ret;

		memset(x->user, (int)(i * 7 + 1), DZ_BLOCK_BYTES);
		ret = dz_disk_write(x->disk, key_of(i), x->user, DZ_BLOCK_BYTES, 1, DZ_KIND_DATA);
		if (ret < 0)
			die("write", ret);
	}
}

/* Unit u of the whole range: its slot is looked up as the engine does. */
static void unit_start(struct bench *x, uint64_t u, uint32_t *slot, uint64_t *ctl)
{
	uint32_t skip, i = (uint32_t)(u % DZ_BOUNCE_IOS);
	int ret;

	*slot = dz_index_find(&x->seg, key_of(u / UNITS), DZ_TIER_DISK, ctl);
	if (*slot == DZ_NONE)
		die("find", -2);
	dz_disk_prep_read(x->disk, *slot, (uint32_t)(u % UNITS * DZ_BOUNCE_UNIT), DZ_BOUNCE_UNIT,
			  dz_bounce_buf(x->b, i), &x->b->io[i], &skip);
	ret = dz_ring_start(x->b->ring, &x->b->io[i]);
	if (ret < 0)
		die("start", ret);
}

/* Bytes a second through ring, check and copy. */
static double read_all(struct bench *x)
{
	uint64_t n = x->n_blocks * UNITS, begin_ns = dz_now_ns(), ctl[DZ_BOUNCE_IOS];
	uint32_t slot[DZ_BOUNCE_IOS];

	for (uint64_t u = 0; u < DZ_BOUNCE_IOS && u < n; u++)
		unit_start(x, u, &slot[u], &ctl[u]);
	for (uint64_t u = 0; u < n; u++) {
		uint32_t i = (uint32_t)(u % DZ_BOUNCE_IOS);
		int ret;

		while (!x->b->io[i].is_done)
			if (dz_ring_wait(x->b->ring) < 0)
				die("wait", -5);
		ret = dz_disk_check_read(x->disk, slot[i], ctl[i], &x->b->io[i]);
		if (ret < 0)
			die("read", ret);
		memcpy(x->user + u % UNITS * DZ_BOUNCE_UNIT, dz_bounce_buf(x->b, i),
		       DZ_BOUNCE_UNIT);
		if (x->user[u % UNITS * DZ_BOUNCE_UNIT] != (uint8_t)(u / UNITS * 7 + 1))
			die("wrong byte", -5);
		if (u + DZ_BOUNCE_IOS < n)
			unit_start(x, u + DZ_BOUNCE_IOS, &slot[i], &ctl[i]);
	}
	return (double)(x->n_blocks * DZ_BLOCK_BYTES) * 1e9 / (double)(dz_now_ns() - begin_ns);
}

/* The same bytes by fio; its terse output has KiB/s in field 7. */
static double fio_all(const struct bench *x)
{
	char cmd[DZ_PATH_MAX * 2], line[8192], *p = line;
	FILE *out;

	snprintf(cmd, sizeof(cmd),
		 "cd '%.3000s' && fio --name=seq --rw=read --bs=1m --iodepth=8 "
		 "--ioengine=io_uring --direct=1 --readonly --file_service_type=sequential "
		 "--filename=$(ls slab.* | paste -sd:) --size=%lluM --minimal",
		 x->dir, (unsigned long long)x->n_blocks);
	out = popen(cmd, "r");
	if (!out || !fgets(line, sizeof(line), out))
		return 0;
	pclose(out);
	for (int field = 1; field < 7 && p; field++)
		p = strchr(p, ';') ? strchr(p, ';') + 1 : NULL;
	return p ? strtod(p, NULL) * 1024 : 0;
}

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void open_tier(struct bench *x, const char *dir, uint64_t mib)
{
	int ret;

	x->log = (struct dz_log){ .level = DZ_LOG_WARN, .path = "", .who = "disk_seq_sim" };
	snprintf(x->cfg.cache_dir, sizeof(x->cfg.cache_dir), "%s", dir);
	snprintf(x->cfg.shm_dir, sizeof(x->cfg.shm_dir), "%s", dir);
	x->cfg.dram_bytes = 32 * DZ_MIB;
	/* whole files of 16: fio reads each of them from its front */
	x->n_blocks = dz_round_up(mib, 16);
	x->cfg.disk_bytes = x->n_blocks * DZ_MIB;
	ret = dz_seg_open(&x->seg, &x->cfg, &x->log);
	if (ret == 0 && !x->seg.is_new)
		ret = -17;
	if (ret == 0)
		ret = dz_member_join(&x->seg);
	if (ret == 0)
		ret = dz_disk_open(&x->disk, &x->seg, &x->cfg, &x->log);
	if (ret == 0 && !x->disk)
		ret = -19;
	if (ret == 0)
		ret = dz_bounce_new(&x->b);
	if (ret < 0)
		die("tier", ret);
	dz_disk_dir(&x->cfg, x->dir, sizeof(x->dir));
	x->user = aligned_alloc(DZ_PAGE, DZ_BLOCK_BYTES);
}

int main(int argc, char **argv)
{
	static struct bench x;
	char root[] = "./dz-seq-XXXXXX", path[DZ_PATH_MAX], cmd[DZ_PATH_MAX + 128];
	double ours[RUNS_MAX], fio[RUNS_MAX], a, b;
	int runs = argc > 3 ? atoi(argv[3]) : 5;

	if ((argc > 1 && chdir(argv[1]) < 0) || !mkdtemp(root) || !realpath(root, path))
		die(argc > 1 ? argv[1] : root, -2);
	open_tier(&x, path, argc > 2 ? strtoull(argv[2], NULL, 10) : 512);
	fill(&x);
	runs = runs < 1 ? 1 : runs > RUNS_MAX ? RUNS_MAX : runs;
	for (int i = 0; i < runs; i++) {
		ours[i] = read_all(&x);
		fio[i] = fio_all(&x);
	}
	a = median(ours, runs);
	b = median(fio, runs);
	printf("sequential 1 MiB from the disk tier (%s): %.0f MiB/s; fio: %.0f MiB/s; ratio "
	       "%.2f\n",
	       dz_ring_is_uring(x.b->ring) ? "io_uring" : "pread", a / (double)DZ_MIB,
	       b / (double)DZ_MIB, b > 0 ? a / b : 0);
	dz_disk_close(x.disk);
	dz_member_leave(&x.seg);
	dz_seg_close(&x.seg);
	dz_seg_purge(&x.cfg);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", path);
	return system(cmd) != 0;
}
