// SPDX-License-Identifier: MIT
/* What is known of a file's blocks, and how it is shown. */
#include "tools/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/evict.h"
#include "cache/index.h"
#include "cache/sys.h"
#include "tools/human.h"
#include "tools/totals.h"

/* The tier that the next reader finds it in. */
static uint64_t since(const struct dz_seg *seg, bool in_dram, uint32_t slot)
{
	const struct dz_slot *s = in_dram ? dz_dram_slot(seg, slot) : &seg->disk_slots[slot];

	return atomic_load_explicit(&s->stamp_ms, memory_order_relaxed);
}

static void look_at(const struct dz_explain *x, uint64_t blk, struct dz_explain_run *r,
		    uint32_t *len)
{
	const struct dz_seg *seg = &x->engine->seg;
	struct dz_key key = dz_block_key((struct dz_key){ x->file.key_lo, x->file.key_hi }, blk);
	uint64_t ctl;
	uint32_t slot = dz_index_find(seg, key, DZ_TIER_DRAM, &ctl);

	*len = (uint32_t)dz_min_u64(DZ_BLOCK_BYTES, x->file.size - blk * DZ_BLOCK_BYTES);
	*r = (struct dz_explain_run){ .first = blk, .last = blk };
	if (slot != DZ_NONE)
		r->pieces = atomic_load_explicit(&dz_dram_slot(seg, slot)->valid,
						 memory_order_relaxed) &
			    dz_pieces(0, *len);
	r->is_whole = r->pieces == dz_pieces(0, *len);
	if (r->pieces)
		r->since_ms = since(seg, true, slot);
	slot = dz_index_find(seg, key, DZ_TIER_DISK, &ctl);
	r->on_disk = slot != DZ_NONE && slot < seg->n_disk_slots;
	if (r->on_disk)
		r->is_unverified =
			atomic_load_explicit(&seg->disk_slots[slot].kind, memory_order_relaxed) &
			DZ_SLOT_UNVERIFIED;
	if (r->on_disk && !r->pieces)
		r->since_ms = since(seg, false, slot);
	r->used = dz_evict_count(seg, r->pieces ? DZ_TIER_DRAM : DZ_TIER_DISK, key);
}

static bool is_alike(const struct dz_explain_run *a, const struct dz_explain_run *b)
{
	return a->is_whole == b->is_whole && (a->is_whole || a->pieces == b->pieces) &&
	       a->on_disk == b->on_disk && a->is_unverified == b->is_unverified &&
	       a->used == b->used;
}

static uint32_t pieces_bytes(uint32_t pieces, uint32_t len)
{
	uint32_t bytes = 0;

	for (uint32_t i = 0; i < DZ_PIECES; i++) {
		if (pieces >> i & 1)
			bytes += (uint32_t)dz_min_u64(DZ_PIECE_BYTES, len - i * DZ_PIECE_BYTES);
	}
	return bytes;
}

static int add_run(struct dz_explain *x, const struct dz_explain_run *r)
{
	struct dz_explain_run *more;

	if (x->n_runs && is_alike(&x->runs[x->n_runs - 1], r)) {
		x->runs[x->n_runs - 1].last = r->last;
		x->runs[x->n_runs - 1].since_ms =
			dz_min_u64(x->runs[x->n_runs - 1].since_ms, r->since_ms);
		return 0;
	}
	/* Doubles at each power of two. */
	if ((x->n_runs & (x->n_runs - 1)) == 0) {
		more = realloc(x->runs, (x->n_runs ? 2 * x->n_runs : 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		x->runs = more;
	}
	x->runs[x->n_runs++] = *r;
	return 0;
}

int dz_explain_blocks(struct dz_explain *x)
{
	struct dz_explain_run r;
	uint32_t len, in_dram;
	int ret = 0;

	x->n_blocks = dz_div_up(x->file.size, DZ_BLOCK_BYTES);
	for (uint64_t blk = 0; blk < x->n_blocks && ret == 0; blk++) {
		look_at(x, blk, &r, &len);
		in_dram = pieces_bytes(r.pieces, len);
		x->dram_bytes += in_dram;
		x->dram_blocks += r.is_whole;
		x->disk_blocks += r.on_disk;
		x->disk_bytes += r.on_disk ? len : 0;
		x->nowhere_bytes += r.on_disk ? 0 : len - in_dram;
		ret = add_run(x, &r);
	}
	return ret;
}

/* ---- who has it open ---- */

/* A member that holds a description of this blob; *from is where to go on. */
static bool next_holder(const struct dz_explain *x, uint64_t *from, uint32_t *member,
			uint32_t *file)
{
	const struct dz_seg *seg = &x->engine->seg;

	for (; *from < (uint64_t)seg->n_members * seg->n_files; ++*from) {
		uint32_t m = (uint32_t)(*from / seg->n_files), n = (uint32_t)(*from % seg->n_files);
		const struct dz_ofile *f = &seg->files[n];
		uint64_t held = atomic_load_explicit(
			&seg->held[(size_t)m * seg->held_words + n / 64], memory_order_relaxed);

		/* To the end of the word, or of the member's. */
		if (!(held >> (n % 64)))
			*from += dz_min_u64(n | 63, seg->n_files - 1) - n;
		if (!(held >> (n % 64) & 1) || m == seg->member ||
		    (uint8_t)atomic_load_explicit(&f->ctl, memory_order_acquire) != DZ_FILE_OPEN ||
		    f->mount != x->file.mount || f->name_len != x->file.name_len ||
		    memcmp(f->name, x->file.name, x->file.name_len) != 0 ||
		    !dz_member_is_alive(seg, m))
			continue;
		*member = m;
		*file = n;
		++*from;
		return true;
	}
	return false;
}

static const char *other_etag(const struct dz_explain *x, const struct dz_ofile *f)
{
	return strcmp(f->etag, x->file.etag) == 0 ? "" : ", an older version";
}

static void print_holders(const struct dz_explain *x)
{
	const struct dz_seg *seg = &x->engine->seg;
	uint64_t from = 0;
	uint32_t m, n;
	bool any = false;

	while (next_holder(x, &from, &m, &n)) {
		const struct dz_member *p = &seg->members[m];
		const struct dz_ofile *f = &seg->files[n];

		printf("%s %.15s[%u] at offset %" PRIu64 "%s\n", any ? "         " : "open in  ",
		       p->comm, atomic_load_explicit(&p->pid, memory_order_relaxed),
		       atomic_load_explicit(&f->pos, memory_order_relaxed), other_etag(x, f));
		any = true;
	}
	if (!any)
		puts("open in   no process");
}

static void json_holders(const struct dz_explain *x)
{
	const struct dz_seg *seg = &x->engine->seg;
	const char *comma = "";
	uint64_t from = 0;
	uint32_t m, n;
	char comm[16];

	fputs("  \"open\": [", stdout);
	while (next_holder(x, &from, &m, &n)) {
		const struct dz_member *p = &seg->members[m];
		const struct dz_ofile *f = &seg->files[n];

		snprintf(comm, sizeof(comm), "%.15s", p->comm);
		printf("%s{\"pid\": %u, \"command\": ", comma,
		       atomic_load_explicit(&p->pid, memory_order_relaxed));
		dz_json_string(stdout, comm);
		printf(", \"offset\": %" PRIu64 ", \"etag\": ",
		       atomic_load_explicit(&f->pos, memory_order_relaxed));
		dz_json_string(stdout, f->etag);
		putchar('}');
		comma = ", ";
	}
	fputs("]", stdout);
}

/* ---- for people ---- */

static void print_version(const struct dz_explain *x)
{
	printf("size      %" PRIu64 " bytes, %" PRIu64 " blocks of 1 MiB\n", x->file.size,
	       x->n_blocks);
	printf("ETag      %s", x->file.etag);
	if (x->blob_err == 1)
		puts(", Blob was not asked");
	else if (x->blob_err == -ENOENT)
		puts("; Blob has no such blob any more");
	else if (x->blob_err < 0)
		printf("; Blob: %s\n", dz_strerror(x->blob_err));
	else if (strcmp(x->blob_etag, x->file.etag) == 0)
		puts(", the same in Blob");
	else
		printf("; Blob has %s (%" PRIu64 " bytes) by now: `dz refresh` makes the next open "
		       "see it\n",
		       x->blob_etag, x->blob_size);
	if (x->was_known)
		printf("name      known for %.0f s, from %s\n", (double)x->age_ms / 1000,
		       x->was_listed ? "the list of its directory" : "an answer about it alone");
	else
		puts("name      not known to the cache before");
}

/* "12 s ago" */
static const char *age_of(const struct dz_explain_run *r, char age[16])
{
	uint64_t s = (dz_now_ms() - r->since_ms) / 1000;

	if (!r->since_ms)
		return r->on_disk ? "earlier run" : "";
	if (s < 120)
		snprintf(age, 16, "%u s ago", (unsigned int)s);
	else if (s < 7200)
		snprintf(age, 16, "%u min ago", (unsigned int)(s / 60));
	else
		snprintf(age, 16, "%u h ago", (unsigned int)(s / 3600) % 100000);
	return age;
}

static void print_runs(const struct dz_explain *x)
{
	char pieces[DZ_PIECES + 1], range[48], age[16];

	puts("blocks    where         since       pieces in DRAM    used of late");
	for (size_t i = 0; i < x->n_runs; i++) {
		const struct dz_explain_run *r = &x->runs[i];

		for (uint32_t p = 0; p < DZ_PIECES; p++)
			pieces[p] = r->pieces >> p & 1 ? '#' : '.';
		pieces[DZ_PIECES] = '\0';
		snprintf(range, sizeof(range),
			 r->first == r->last ? "%" PRIu64 : "%" PRIu64 "-%" PRIu64, r->first,
			 r->last);
		printf("%-9s %-13s %-11s %s  %u%s\n", range,
		       r->pieces && r->on_disk ? "DRAM and disk"
		       : r->pieces	       ? "DRAM"
		       : r->on_disk	       ? "disk"
					       : "nowhere",
		       age_of(r, age), r->is_whole ? "all             " : pieces, r->used,
		       r->is_unverified ? "  (of an earlier run, checked at its first use)" : "");
	}
}

void dz_explain_print(const struct dz_explain *x)
{
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES], c[DZ_HUMAN_BYTES];

	puts(x->path);
	printf("blob      %s\n", x->url);
	print_version(x);
	printf("in DRAM   %s, %" PRIu64 " of %" PRIu64 " blocks whole\n",
	       dz_human(x->dram_bytes, a), x->dram_blocks, x->n_blocks);
	printf("on disk   %s, %" PRIu64 " of %" PRIu64 " blocks\n", dz_human(x->disk_bytes, b),
	       x->disk_blocks, x->n_blocks);
	printf("nowhere   %s: the next reader of these waits for Blob\n",
	       dz_human(x->nowhere_bytes, c));
	print_holders(x);
	if (x->n_runs)
		print_runs(x);
}

void dz_explain_json(const struct dz_explain *x)
{
	fputs("{\n  \"path\": ", stdout);
	dz_json_string(stdout, x->path);
	fputs(",\n  \"url\": ", stdout);
	dz_json_string(stdout, x->url);
	printf(",\n  \"size\": %" PRIu64 ",\n  \"etag\": ", x->file.size);
	dz_json_string(stdout, x->file.etag);
	fputs(",\n  \"blob_etag\": ", stdout);
	if (x->blob_err == 0)
		dz_json_string(stdout, x->blob_etag);
	else
		fputs("null", stdout);
	printf(",\n  \"is_current\": %s,\n  \"known_seconds\": ",
	       x->blob_err == 1						 ? "null"
	       : x->blob_err == 0 && !strcmp(x->blob_etag, x->file.etag) ? "true"
									 : "false");
	if (x->was_known)
		printf("%.3f", (double)x->age_ms / 1000);
	else
		fputs("null", stdout);
	printf(",\n  \"bytes\": {\"dram\": %" PRIu64 ", \"disk\": %" PRIu64
	       ", \"nowhere\": %" PRIu64 "},\n",
	       x->dram_bytes, x->disk_bytes, x->nowhere_bytes);
	json_holders(x);
	fputs(",\n  \"blocks\": [", stdout);
	for (size_t i = 0; i < x->n_runs; i++) {
		const struct dz_explain_run *r = &x->runs[i];

		printf("%s\n    {\"first\": %" PRIu64 ", \"last\": %" PRIu64
		       ", \"dram_pieces\": %u, \"dram_whole\": %s, \"disk\": %s, "
		       "\"unverified\": %s, \"used\": %u, \"since_seconds\": ",
		       i ? "," : "", r->first, r->last, r->pieces, r->is_whole ? "true" : "false",
		       r->on_disk ? "true" : "false", r->is_unverified ? "true" : "false", r->used);
		if (r->since_ms)
			printf("%.3f}", (double)(dz_now_ms() - r->since_ms) / 1000);
		else
			fputs("null}", stdout);
	}
	puts("\n  ]\n}");
}
