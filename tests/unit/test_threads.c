/* SPDX-License-Identifier: MIT */
// timeout: 300
/*
 * Engines as threads: each has its own view of one segment and its own member, and all
 * fill, copy, evict, pin, list, open and lease at once.  Every byte and every name is
 * checked.  ThreadSanitizer sees what processes would do to each other.
 */
#include "cache/engine_priv.h"
#include "cache/evict.h"
#include "cache/index.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KEYS	300
#define THREADS 6
#define ROUNDS	4000

static struct dz_seg shared;
static _Atomic uint64_t copies, fills, wrong, names_found, pinned;

struct worker {
	struct dz_seg seg;
	uint64_t seed;
	uint32_t hint[KEYS]; /* where a block was found last */
	uint8_t buf[DZ_BLOCK_BYTES];
};

static uint64_t next_random(struct worker *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return w->seed;
}

static struct dz_key key_of(uint64_t n)
{
	return dz_hash128(&n, sizeof(n), 5);
}

/* Small blocks, and some of several pieces. */
static uint32_t len_of(uint64_t n)
{
	return n % 10 ? 500 + (uint32_t)(n * 97 % 9000) : 150000 + (uint32_t)n;
}

static uint8_t byte_of(uint64_t n, uint32_t off)
{
	return (uint8_t)(n * 131 + off * 7 + (off >> 8));
}

static bool bytes_are(const uint8_t *p, uint64_t n, uint32_t off, uint32_t len)
{
	for (uint32_t i = 0; i < len; i += 61)
		if (p[i] != byte_of(n, off + i))
			return false;
	return p[len - 1] == byte_of(n, off + len - 1);
}

static void complain(void)
{
	atomic_fetch_add(&wrong, 1);
}

/* ---- what they do ---- */

/* Readers race with this on purpose; the name stands in tests/tsan.supp. */
__attribute__((noinline)) static void store_into_slot(uint8_t *to, const uint8_t *from, size_t n)
{
	memcpy(to, from, n);
	__asm__ volatile("" ::: "memory");
}

/* As a fetcher: piece by piece, findable from the start. */
static void fill(struct worker *w, uint64_t n)
{
	uint32_t len = len_of(n), slot;
	struct dz_seg *seg = &w->seg;
	struct dz_slot *s;
	uint64_t ctl;

	slot = dz_slot_alloc(seg, DZ_TIER_DRAM, len, seg->member, &ctl);
	if (slot == DZ_NONE)
		return;
	s = dz_slot_of(seg, DZ_TIER_DRAM, slot);
	atomic_store_explicit(&s->key_lo, key_of(n).lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, key_of(n).hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, len, memory_order_relaxed);
	atomic_store_explicit(&s->valid, 0, memory_order_relaxed);
	if (dz_index_insert(seg, key_of(n), DZ_TIER_DRAM, slot, DZ_NONE) < 0) {
		dz_slot_discard(seg, DZ_TIER_DRAM, slot, ctl);
		return;
	}
	for (uint32_t off = 0; off < len; off += DZ_PIECE_BYTES) {
		uint32_t part = (uint32_t)dz_min_u64(DZ_PIECE_BYTES, len - off);

		for (uint32_t i = 0; i < part; i++)
			w->buf[i] = byte_of(n, off + i);
		store_into_slot(dz_seg_page(seg, slot) + off, w->buf, part);
		atomic_fetch_or_explicit(&s->valid, 1u << off / DZ_PIECE_BYTES,
					 memory_order_release);
	}
	if (!dz_slot_publish(seg, DZ_TIER_DRAM, slot, ctl, &ctl))
		complain();
	dz_evict_filled(seg, DZ_TIER_DRAM, slot);
	atomic_fetch_add(&fills, 1);
}

static void copy(struct worker *w, uint64_t n)
{
	uint32_t off = (uint32_t)(next_random(w) % len_of(n));
	uint32_t len = (uint32_t)(1 + next_random(w) % (len_of(n) - off));
	bool got;

	/* Where it was last, which may be another's now; or by a search. */
	if (next_random(w) % 2 && w->hint[n % KEYS] < w->seg.n_dram_slots)
		got = dz_dram_copy_at(&w->seg, key_of(n), w->hint[n % KEYS], off, len, w->buf);
	else
		got = dz_dram_copy(&w->seg, key_of(n), off, len, w->buf, &w->hint[n % KEYS]);
	if (!got)
		return;
	atomic_fetch_add(&copies, 1);
	if (!bytes_are(w->buf, n, off, len))
		complain();
}

/* One fetch for all who want the same. */
static void fetch(struct worker *w, uint64_t n)
{
	struct dz_request req = { .kind = DZ_KIND_DATA, .blk = n };
	struct dz_lease_ref ref;
	uint64_t word;

	if (dz_dram_has(&w->seg, key_of(n), 1) ||
	    dz_lease_ask(&w->seg, key_of(n), &req, 0, 1, &ref) < 0)
		return;
	if (dz_lease_claim(&w->seg, ref.idx, &word)) {
		fill(w, w->seg.requests[ref.idx].blk % KEYS);
		dz_lease_finish(&w->seg, ref.idx, word, 0);
		return;
	}
	for (int i = 0; i < 100 && dz_lease_poll(&w->seg, &ref) == 1; i++)
		dz_lease_wait(&w->seg, &ref, DZ_LEASE_ALL, 10);
}

/* A pinned block stays what it is. */
static void pin(struct worker *w, uint64_t n)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(&w->seg, key_of(n), DZ_TIER_DRAM, &ctl);
	int record;

	if (slot == DZ_NONE || dz_ctl_state(ctl) != DZ_SLOT_READY)
		return;
	record = dz_slot_pin(&w->seg, slot, ctl);
	if (record < 0)
		return;
	for (int i = 0; i < 3; i++)
		if (!bytes_are(dz_seg_page(&w->seg, slot), n, 0, len_of(n)))
			complain();
	dz_slot_unpin(&w->seg, record);
	atomic_fetch_add(&pinned, 1);
}

static void evict(struct worker *w, uint64_t n)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(&w->seg, key_of(n), DZ_TIER_DRAM, &ctl);

	if (slot != DZ_NONE)
		dz_slot_evict(&w->seg, DZ_TIER_DRAM, slot);
}

static void publish_names(struct worker *w, uint64_t salt)
{
	struct dz_name_in in[60];
	char text[60][24], etag[24];

	snprintf(etag, sizeof(etag), "0x%llX", (unsigned long long)salt);
	for (uint32_t i = 0; i < 60; i++) {
		snprintf(text[i], sizeof(text[i]), "n%u", i);
		in[i] = (struct dz_name_in){ .name = text[i],
					     .name_len = (uint32_t)strlen(text[i]),
					     .size = salt,
					     .etag = etag };
	}
	dz_names_put_dir(&w->seg, 9, "d", 1, in, 60);
}

static void look_up(struct worker *w)
{
	struct dz_name out;
	char path[32];

	snprintf(path, sizeof(path), "d/n%u", (unsigned int)(next_random(w) % 60));
	dz_names_find(&w->seg, 9, path, strlen(path), &out);
	if (out.state == DZ_NAME_ABSENT)
		complain();
	if (out.state != DZ_NAME_FOUND)
		return;
	atomic_fetch_add(&names_found, 1);
	if (strtoull(out.attr.etag, NULL, 16) != out.attr.size)
		complain();
}

static void open_and_close(struct worker *w, uint64_t n)
{
	uint32_t file = dz_file_alloc(&w->seg);
	struct dz_ofile *f;
	uint64_t fh;

	if (file == DZ_NONE)
		return;
	w->seg.files[file].size = n;
	fh = dz_file_ready(&w->seg, file);
	if (n % 3 == 0)
		dz_file_share(&w->seg, fh, 0);
	f = dz_file_get(&w->seg, fh);
	if (!f || f->size != n)
		complain();
	dz_file_drop(&w->seg, fh);
}

static void repair(struct worker *w)
{
	uint32_t part = (uint32_t)(next_random(w) % 4);

	dz_member_sweep(&w->seg, true);
	dz_slabs_scrub(&w->seg, DZ_TIER_DRAM, part * w->seg.n_dram_slabs / 4,
		       w->seg.n_dram_slabs / 4);
	dz_index_scrub(&w->seg, part * w->seg.n_buckets / 4, w->seg.n_buckets / 4);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t what = next_random(w) % 64, n = next_random(w) % KEYS;

		if (what < 24)
			copy(w, n);
		else if (what < 38)
			fetch(w, n);
		else if (what < 44)
			evict(w, n);
		else if (what < 50)
			pin(w, n);
		else if (what < 56)
			look_up(w);
		else if (what < 61)
			open_and_close(w, n);
		else if (what < 63)
			publish_names(w, next_random(w) % 100000);
		else if (i % 16 == 0)
			repair(w);
	}
	return NULL;
}

/* ---- and what must hold afterwards ---- */

static void nothing_is_left_in_the_middle(void)
{
	for (uint32_t n = 0; n < shared.n_dram_slots; n++) {
		enum dz_slot_state state =
			dz_ctl_state(atomic_load(&dz_dram_slot(&shared, n)->ctl));

		assert_true(state == DZ_SLOT_FREE || state == DZ_SLOT_READY);
	}
	for (uint32_t n = 0; n < shared.n_files; n++)
		assert_int_equal(atomic_load(&shared.files[n].ctl) & 0xff, DZ_FILE_FREE);
	for (uint32_t n = 0; n < shared.n_leases; n++)
		assert_int_not_equal(dz_lease_state(atomic_load(&shared.leases[n].word)),
				     DZ_LEASE_ACTIVE);
}

static void engines_as_threads_keep_each_byte_and_name_right(void **state)
{
	static struct worker worker[THREADS];
	static const struct dz_log quiet = { .level = DZ_LOG_ERROR, .path = "", .who = "test" };
	pthread_t t[THREADS];

	(void)state;
	assert_int_equal(dz_seg_open_private(&shared, &quiet, 16 * DZ_MIB), 0);
	for (int i = 0; i < THREADS; i++) {
		worker[i].seg = shared;
		worker[i].seed = 0x9e3779b97f4a7c15ull * (unsigned int)(i + 1);
		assert_int_equal(dz_member_join(&worker[i].seg), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, work, &worker[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	print_message("# %llu copies, %llu fills, %llu names, %llu pins\n",
		      (unsigned long long)copies, (unsigned long long)fills,
		      (unsigned long long)names_found, (unsigned long long)pinned);
	assert_int_equal(wrong, 0);
	assert_true(copies > 100 && fills > 100 && names_found > 50 && pinned > 10);
	repair(&worker[0]);
	nothing_is_left_in_the_middle();
	for (int i = 0; i < THREADS; i++)
		dz_member_leave(&worker[i].seg);
	dz_seg_close(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engines_as_threads_keep_each_byte_and_name_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
