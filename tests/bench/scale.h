/* SPDX-License-Identifier: MIT */
/*
 * A cache with as many names and blobs as a large data set has: what `scale` (make
 * bench-scale) measures and test_scale holds to its figures.  A segment and a disk
 * tier of their own below the current directory; what fails ends the program.
 */
#ifndef BENCH_SCALE_H
#define BENCH_SCALE_H

#include "cache/disk.h"
#include "cache/index.h"
#include "cache/journal.h"
#include "cache/member.h"
#include "cache/names.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SCALE_REC 0x5ca1e0001ull
/* The figures that the README states; bytes of shared memory. */
#define SCALE_NAME_BYTES 105
#define SCALE_BLOB_BYTES 110
#define SCALE_BLOB	 4096u
#define SCALE_REAL	 1000u /* of a made journal's blocks those whose bytes are there */

struct scale {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	struct dz_disk *disk;
	uint8_t *buf; /* a block, aligned */
	char root[512];
	char dir[DZ_PATH_MAX]; /* of the disk tier */
};

#define SCALE_MUST(cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* ---- a cache ---- */

static inline void scale_attach(struct scale *s)
{
	SCALE_MUST(dz_seg_open(&s->seg, &s->cfg, &s->log) == 0);
	SCALE_MUST(dz_member_join(&s->seg) == 0);
	SCALE_MUST(dz_disk_open(&s->disk, &s->seg, &s->cfg, &s->log) == 0);
	SCALE_MUST(s->disk || s->cfg.disk_bytes == DZ_SIZE_NONE);
}

static inline void scale_detach(struct scale *s)
{
	dz_disk_close(s->disk);
	s->disk = NULL;
	dz_member_leave(&s->seg);
	dz_seg_close(&s->seg);
}

/* `shm`: the directory of the shared memory. */
static inline void scale_open(struct scale *s, const char *shm, uint64_t dram, uint64_t disk)
{
	char real[DZ_PATH_MAX];

	memset(s, 0, sizeof(*s));
	snprintf(s->root, sizeof(s->root), "./dz-scale-XXXXXX");
	SCALE_MUST(mkdtemp(s->root) && realpath(s->root, real));
	s->log = (struct dz_log){ .level = DZ_LOG_WARN, .path = "", .who = "scale" };
	snprintf(s->cfg.shm_dir, sizeof(s->cfg.shm_dir), "%.3000s%s", shm ? shm : real,
		 shm ? real + strlen(real) - strlen("/dz-scale-XXXXXX") : "");
	snprintf(s->cfg.cache_dir, sizeof(s->cfg.cache_dir), "%.4000s", real);
	SCALE_MUST(dz_sys_mkdir(s->cfg.shm_dir, 0700) == 0 || !shm);
	s->cfg.dram_bytes = dram;
	s->cfg.disk_bytes = disk;
	SCALE_MUST(dz_disk_dir(&s->cfg, s->dir, sizeof(s->dir)) == 0);
	s->buf = mmap(NULL, DZ_MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	SCALE_MUST(s->buf != MAP_FAILED);
	scale_attach(s);
}

/*
 * Room for n blobs of a page: as many slots as that, for which a sixteenth of the shared
 * memory may be slots of the disk.
 */
static inline void scale_open_blobs(struct scale *s, const char *shm, uint32_t n)
{
	scale_open(s, shm, (uint64_t)n * 64 * 16 + 64 * DZ_MIB, (uint64_t)n * SCALE_BLOB * 34 / 32);
}

static inline void scale_close(struct scale *s)
{
	char cmd[2 * DZ_PATH_MAX + 64];

	scale_detach(s);
	munmap(s->buf, DZ_MIB);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s' '%.4000s'", s->root, s->cfg.shm_dir);
	SCALE_MUST(system(cmd) == 0);
}

/* The same in every run, and spread over all numbers. */
static inline uint64_t scale_rnd(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 0x2545f4914f6cdd1dull >> 16;
}

/* ---- names ---- */

static inline void scale_dir_name(char *out, size_t size, uint32_t dir)
{
	snprintf(out, size, "train/n%08u", 1440764 + dir * 37);
}

/* Name and attributes are functions of the numbers. */
static inline void scale_name(char *name, char *etag, struct dz_name_in *in, uint32_t dir,
			      uint32_t i)
{
	uint64_t n = (uint64_t)dir << 32 | i;

	in->name_len = (uint32_t)snprintf(name, 40, "ILSVRC2012_val_%08u.JPEG", i);
	snprintf(etag, 24, "0x8DC%012llX", (unsigned long long)(n * 0x9e3779b97f4a7c15ull >> 16));
	in->name = name;
	in->etag = etag;
	in->size = 110000 + n % 99991;
	in->mtime_s = (int64_t)(1600000000 + n % 100000007);
	in->is_dir = false;
}

static inline void scale_put_dir(struct scale *s, uint32_t dir, uint32_t n)
{
	struct dz_name_in *in = calloc(n, sizeof(*in));
	char *text = malloc((size_t)n * 64), path[64];

	SCALE_MUST(in && text);
	for (uint32_t i = 0; i < n; i++)
		scale_name(text + (size_t)i * 64, text + (size_t)i * 64 + 40, &in[i], dir, i);
	scale_dir_name(path, sizeof(path), dir);
	SCALE_MUST(dz_names_put_dir(&s->seg, SCALE_REC, path, strlen(path), in, n) == 0);
	free(in);
	free(text);
}

static inline bool scale_name_is_right(const struct scale *s, uint32_t dir, uint32_t i)
{
	char path[128], name[40], etag[24];
	struct dz_name_in in;
	struct dz_name out;
	size_t len;

	scale_dir_name(path, sizeof(path), dir);
	len = strlen(path);
	scale_name(name, etag, &in, dir, i);
	path[len] = '/';
	memcpy(path + len + 1, name, in.name_len + 1);
	dz_names_find(&s->seg, SCALE_REC, path, len + 1 + in.name_len, &out);
	return out.state == DZ_NAME_FOUND && out.attr.size == in.size &&
	       out.attr.mtime_ns == in.mtime_s * 1000000000 && strcmp(out.attr.etag, etag) == 0 &&
	       out.attr.ino == dz_names_ino(SCALE_REC, path, len + 1 + in.name_len);
}

/* Bytes of DRAM in use and of the records that describe them. */
static inline uint64_t scale_dram_bytes(const struct scale *s)
{
	uint64_t used = atomic_load(&s->seg.hdr->dram_used);

	return used + used / DZ_PAGE * sizeof(struct dz_slot) +
	       atomic_load(&s->seg.hdr->chunks[DZ_TIER_DRAM]) * sizeof(struct dz_bucket) / 8;
}

/* ---- blobs ---- */

static inline struct dz_key scale_key(uint64_t n)
{
	return dz_hash128(&n, sizeof(n), SCALE_REC);
}

static inline void scale_block(uint8_t *buf, uint64_t n, uint32_t len)
{
	uint64_t x = n * 0x9e3779b97f4a7c15ull + 1, word;

	for (uint32_t i = 0; i < len; i += 8) {
		word = scale_rnd(&x);
		memcpy(buf + i, &word, 8);
	}
}

static inline void scale_put_blob(struct scale *s, uint64_t n, uint32_t len)
{
	scale_block(s->buf, n, len);
	SCALE_MUST(dz_disk_write(s->disk, scale_key(n), s->buf, len, 1, DZ_KIND_DATA) == 0);
}

/* Reads it as the engine does; false: a miss.  Wrong bytes end the program. */
static inline bool scale_get_blob(struct scale *s, uint64_t n, uint32_t len)
{
	uint32_t slot, skip;
	struct dz_io io;
	uint64_t ctl;

	slot = dz_index_find(&s->seg, scale_key(n), DZ_TIER_DISK, &ctl);
	if (slot == DZ_NONE)
		return false;
	dz_disk_prep_read(s->disk, slot, 0, len, s->buf, &io, &skip);
	io.res = (int32_t)dz_sys_pread(io.fd, io.buf, io.len, io.off);
	if (dz_disk_check_read(s->disk, slot, ctl, &io) != 0)
		return false;
	if (dz_disk_is_unverified(s->disk, slot) && dz_disk_verify(s->disk, slot, ctl, s->buf) != 0)
		return false;
	for (uint64_t i = 0, x = n * 0x9e3779b97f4a7c15ull + 1, word; i < len; i += 8) {
		word = scale_rnd(&x);
		SCALE_MUST(memcmp(s->buf + i, &word, 8) == 0);
	}
	return true;
}

/* ---- a journal without the work of a day ---- */

/* 0 .. n-1 in random order, or as they are. */
static inline uint32_t *scale_places(uint32_t n, bool is_spread)
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
static inline struct dz_jrec scale_record(uint64_t seq, uint64_t n, uint32_t page)
{
	struct dz_key key = scale_key(n);
	struct dz_jrec rec = { .seq = seq,
			       .key_lo = key.lo,
			       .key_hi = key.hi,
			       .page = page,
			       .len = SCALE_BLOB,
			       .crc = (uint32_t)n,
			       .group = 1,
			       .kind = DZ_KIND_DATA };

	dz_jrec_seal(&rec);
	return rec;
}

/* A quarter of the places had another tenant first. */
static inline void scale_make_journal(const struct scale *s, uint32_t n, bool is_spread)
{
	uint32_t *at = scale_places(n - SCALE_REAL, is_spread);
	char path[DZ_PATH_MAX + 32];
	uint64_t seq = SCALE_REAL;
	FILE *file;

	snprintf(path, sizeof(path), "%s/journal.made", s->dir);
	file = fopen(path, "w");
	SCALE_MUST(file);
	for (uint32_t i = 0; i < n - SCALE_REAL; i++) {
		struct dz_jrec old, rec;

		old = scale_record(++seq, (uint64_t)n + i, SCALE_REAL + at[i]);
		rec = scale_record(++seq, SCALE_REAL + i, SCALE_REAL + at[i]);
		SCALE_MUST(i % 4 || fwrite(&old, sizeof(old), 1, file) == 1);
		SCALE_MUST(fwrite(&rec, sizeof(rec), 1, file) == 1);
	}
	/* after a reboot no page of it is in memory */
	SCALE_MUST(fflush(file) == 0 && fsync(fileno(file)) == 0);
	SCALE_MUST(posix_fadvise(fileno(file), 0, 0, POSIX_FADV_DONTNEED) == 0);
	SCALE_MUST(fclose(file) == 0);
	free(at);
}

/* What the disk tier costs in shared memory: that of a like segment with none is taken off. */
static inline uint64_t scale_disk_bytes(const struct scale *s)
{
	const struct dz_seg_header *h = s->seg.hdr;
	uint64_t pages = (uint64_t)h->n_dram_slabs * DZ_SLAB_PAGES, both = pages + h->n_disk_slots;

	return h->n_disk_slots * sizeof(struct dz_slot) +
	       (uint64_t)h->n_disk_slabs * (sizeof(struct dz_slab) + DZ_SLAB_PAGES * 4) +
	       (h->n_buckets * sizeof(struct dz_bucket) + h->n_freq * 2ull) * h->n_disk_slots /
		       both;
}

#endif
