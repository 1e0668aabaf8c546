/* SPDX-License-Identifier: MIT */
/*
 * The tables of a segment, written to by somebody who means harm: the input is a list
 * of patches, then everything is used that a reader, a fetcher and a sweeper use.  Each
 * table ends at a page that is not mapped.
 */
#include "cache/engine_priv.h"
#include "cache/evict.h"
#include "cache/files.h"
#include "cache/index.h"
#include "cache/lease.h"
#include "cache/member.h"
#include "cache/names.h"
#include "cache/slabs.h"
#include "cache/sys.h"
#include "tests/unit/fake_seg.h"

#include <stdio.h>

#define REC 7

static struct dz_seg seg;
static struct {
	uint8_t *at, *copy;
	size_t bytes;
} table[20];
static size_t n_tables;

static void add_table(void *at, uint64_t n, size_t size)
{
	table[n_tables].at = at;
	table[n_tables].bytes = n * size;
	table[n_tables].copy = malloc(n * size);
	n_tables++;
}

static struct dz_key key_of(uint64_t n)
{
	return dz_hash128(&n, sizeof(n), 3);
}

static void put_block(enum dz_tier tier, uint64_t n, uint64_t bytes)
{
	uint64_t ctl;
	uint32_t slot = dz_slot_alloc(&seg, tier, bytes, 1, &ctl);
	struct dz_slot *s = dz_slot_of(&seg, tier, slot);

	atomic_store(&s->key_lo, key_of(n).lo);
	atomic_store(&s->key_hi, key_of(n).hi);
	atomic_store(&s->len, (uint32_t)bytes);
	atomic_store(&s->valid, 0xffff);
	dz_index_insert(&seg, key_of(n), tier, slot, DZ_NONE);
	dz_slot_publish(&seg, tier, slot, ctl, &ctl);
	dz_evict_filled(&seg, tier, slot);
}

static void fill(void)
{
	struct dz_name_in in[40];
	char text[40][16];
	struct dz_request req = { .kind = DZ_KIND_DATA };
	struct dz_lease_ref ref;

	for (uint64_t n = 0; n < 12; n++) {
		put_block(DZ_TIER_DRAM, n, n % 3 ? 5000 * n + 1 : 70000);
		put_block(DZ_TIER_DISK, n, 30000);
	}
	for (int i = 0; i < 40; i++) {
		snprintf(text[i], sizeof(text[i]), "f-%d", i);
		in[i] = (struct dz_name_in){ text[i], (uint32_t)strlen(text[i]),
					     i == 3,  (uint64_t)i,
					     1,	      "0x1" };
	}
	dz_names_put_dir(&seg, REC, "d", 1, in, 40);
	dz_names_put_attr(&seg, REC, "e/f-1", 5, in + 1);
	for (int i = 0; i < 5; i++)
		dz_file_ready(&seg, dz_file_alloc(&seg));
	dz_lease_ask(&seg, key_of(50), &req, 0, 1, &ref);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct fake_counts n = {
		.dram_slabs = 4, .disk_slabs = 2, .disk_slots = 128, .members = 4
	};

	(void)argc;
	(void)argv;
	fake_seg_init(&seg, &n);
	fill();
	add_table(seg.hdr, 1, sizeof(*seg.hdr));
	add_table(seg.members, seg.n_members, sizeof(*seg.members));
	add_table((void *)seg.held, (uint64_t)seg.n_members * seg.held_words, 8);
	add_table((void *)seg.pending, (uint64_t)seg.n_agents * seg.pending_words, 8);
	add_table(seg.leases, seg.n_leases, sizeof(*seg.leases));
	add_table(seg.requests, seg.n_leases, sizeof(*seg.requests));
	add_table(seg.files, seg.n_files, sizeof(*seg.files));
	add_table(seg.buckets, seg.n_buckets, sizeof(*seg.buckets));
	add_table(seg.dram_slots, seg.n_dram_slots, sizeof(*seg.dram_slots));
	add_table(seg.dram_slabs, seg.n_dram_slabs, sizeof(*seg.dram_slabs));
	add_table(seg.disk_slots, seg.n_disk_slots, sizeof(*seg.disk_slots));
	add_table(seg.disk_slabs, seg.n_disk_slabs, sizeof(*seg.disk_slabs));
	add_table((void *)seg.disk_map, (uint64_t)seg.n_disk_slabs * DZ_SLAB_PAGES, 4);
	add_table((void *)seg.window, seg.n_window, 4);
	add_table((void *)seg.freq, seg.n_freq, 2);
	add_table(seg.dram, seg.dram_bytes / 8, 1);
	for (size_t i = 0; i < n_tables; i++)
		memcpy(table[i].copy, table[i].at, table[i].bytes);
	return 0;
}

/* Nothing that this writes may be used as a pointer or an index unchecked. */
static void patch(const uint8_t *p)
{
	size_t t = p[0] % n_tables, width = (size_t)1 << (p[1] & 3);
	uint64_t value = 0;
	uint32_t at;

	memcpy(&at, p + 2, 4);
	memcpy(&value, p + 6, 6);
	if (p[1] & 4)
		value = ~value;
	/* near the front, where what is in use lies, unless it says otherwise */
	if (!(p[1] & 8))
		at %= 2048;
	memcpy(table[t].at + at % (table[t].bytes - 8) / width * width, &value, width);
}

static void read_all(void)
{
	static uint8_t buf[DZ_BLOCK_BYTES];
	uint32_t slot;

	for (uint64_t n = 0; n < 14; n++) {
		dz_dram_copy(&seg, key_of(n), 0, 1, buf, &slot);
		dz_dram_copy(&seg, key_of(n), 65536, DZ_BLOCK_BYTES - 65536, buf, &slot);
		dz_dram_has(&seg, key_of(n), 0xffff);
	}
}

static void use_names(void)
{
	struct dz_listing out;
	struct dz_name name;

	dz_names_find(&seg, REC, "d/f-7", 5, &name);
	dz_names_find(&seg, REC, "d/none", 6, &name);
	dz_names_find(&seg, REC, "e/f-1", 5, &name);
	if (dz_names_copy(&seg, REC, "d", 1, &out) < 0)
		return;
	for (uint64_t i = 0; i < out.n; i++) {
		const struct dz_list_entry *e = (const void *)(out.data + out.offset[i]);

		if (out.offset[i] + sizeof(*e) + e->name_len >= out.bytes || e->name[e->name_len])
			abort();
	}
	munmap(out.data, out.bytes);
}

static void use_files_and_leases(void)
{
	struct dz_request req = { .kind = DZ_KIND_DATA };
	struct dz_lease_ref ref;
	uint64_t word;
	uint32_t n;

	for (uint64_t fh = 1; fh < 8; fh++) {
		dz_file_get(&seg, fh);
		dz_file_drop(&seg, fh);
	}
	n = dz_file_alloc(&seg);
	if (n != DZ_NONE)
		dz_file_drop(&seg, dz_file_ready(&seg, n));
	for (uint64_t k = 48; k < 53; k++)
		if (dz_lease_ask(&seg, key_of(k), &req, 0, 1, &ref) == 0)
			dz_lease_poll(&seg, &ref);
	for (uint32_t i = 0; i < seg.n_leases; i++) {
		uint64_t was = atomic_load(&seg.leases[i].word);

		dz_lease_take_over(&seg, i, was, i % 2);
		if (dz_lease_claim(&seg, i, &word))
			dz_lease_finish(&seg, i, word, -5);
	}
}

static void use_space(void)
{
	for (int tier = DZ_TIER_DRAM; tier <= DZ_TIER_DISK; tier++) {
		uint64_t ctl;

		for (uint64_t bytes = 1000; bytes < 3000000; bytes *= 7) {
			uint32_t slot = dz_slot_alloc(&seg, tier, bytes, 1, &ctl);

			if (slot != DZ_NONE)
				dz_slot_discard(&seg, tier, slot, ctl);
		}
		for (uint64_t n = 0; n < 3; n++) {
			uint32_t slot = dz_index_find(&seg, key_of(n), tier, &ctl);

			if (slot != DZ_NONE)
				dz_slot_evict(&seg, tier, slot);
		}
		dz_slabs_scrub(&seg, tier, 0, 100);
	}
	dz_index_scrub(&seg, 0, seg.n_buckets);
	dz_member_sweep(&seg, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (size_t at = 0; at + 12 <= size && at < 12 * 64; at += 12)
		patch(data + at);
	read_all();
	use_names();
	use_files_and_leases();
	use_space();
	read_all();
	for (size_t i = 0; i < n_tables; i++)
		memcpy(table[i].at, table[i].copy, table[i].bytes);
	atomic_store(&seg.is_sweeping, 0);
	return 0;
}
