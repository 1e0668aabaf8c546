// SPDX-License-Identifier: MIT
/*
 * See names.h.  A lookup: find the block of the directory that must hold the
 * name, search it in place, and check afterwards that the slot was ours all the
 * time; if it was not, start over, and after a few times call it unknown.
 *
 * Publishing: blocks 1.. first, block 0 last, replacing the old block 0 in one
 * step.  Killed on the way, the new blocks are found by nobody and are evicted.
 */
#include "cache/names.h"

#include "cache/evict.h"
#include "cache/index.h"
#include "cache/names_format.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define KEY_DIR	 0x6469722eull
#define KEY_ATTR 0x61747472ull
#define KEY_INO	 0x696e6f00ull
#define TRIES	 4

static struct dz_key name_key(uint64_t rec_id, const char *name, size_t len, uint64_t what)
{
	struct dz_key k = dz_hash128(name, len, rec_id ^ what);

	k.hi ^= rec_id;
	return k;
}

struct dz_key dz_names_dir_key(uint64_t rec_id, const char *dir, size_t len)
{
	return name_key(rec_id, dir, len, KEY_DIR);
}

struct dz_key dz_names_attr_key(uint64_t rec_id, const char *name, size_t len)
{
	return name_key(rec_id, name, len, KEY_ATTR);
}

uint64_t dz_names_ino(uint64_t rec_id, const char *name, size_t len)
{
	uint64_t ino = dz_hash64(name, len, rec_id ^ KEY_INO);

	return ino > 1 ? ino : 2;
}

static struct dz_key dir_block_key(struct dz_key dir, uint64_t listing, uint32_t blk)
{
	if (blk == 0)
		return dir;
	return (struct dz_key){ dir.lo ^ (listing + blk * 0x9e3779b97f4a7c15ull),
				dir.hi ^ listing };
}

/* A block as it lies in DRAM; `ctl` proves afterwards that it did. */
struct name_view {
	const uint8_t *bytes;
	uint32_t len;
	uint32_t slot;
	uint64_t ctl;
	uint64_t stamp_ms;
};

static bool name_view_get(const struct dz_seg *seg, struct dz_key key, struct name_view *v)
{
	const struct dz_slot *s;

	v->slot = dz_index_find(seg, key, DZ_TIER_DRAM, &v->ctl);
	if (v->slot == DZ_NONE || dz_ctl_state(v->ctl) != DZ_SLOT_READY)
		return false;
	s = dz_dram_slot(seg, v->slot);
	v->len = atomic_load_explicit(&s->len, memory_order_relaxed);
	v->stamp_ms = atomic_load_explicit(&s->stamp_ms, memory_order_relaxed);
	v->bytes = dz_seg_page(seg, v->slot);
	return v->len <= DZ_BLOCK_BYTES &&
	       v->slot + dz_div_up(v->len, DZ_PAGE) <= seg->n_dram_slots;
}

static bool name_view_holds(const struct dz_seg *seg, const struct name_view *v)
{
	/* Keeps the reads above from sinking below the check; pairs with the
	 * release fence of an evictor before it stores new data. */
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&dz_dram_slot(seg, v->slot)->ctl, memory_order_relaxed) ==
	       v->ctl;
}

/* 1 found, 0 the directory does not have it, -EAGAIN changed under us, -ENOENT unknown. */
static int name_find_in_dir(const struct dz_seg *seg, struct dz_key dir, const char *name,
			    size_t len, struct dz_name *out)
{
	uint64_t hash = dz_dir_hash(name, len);
	struct dz_dir_head head;
	struct name_view v;
	int ret;

	if (!name_view_get(seg, dir, &v))
		return -ENOENT;
	if (!dz_dir_head_read(v.bytes, v.len, &head) || !name_view_holds(seg, &v))
		return -EAGAIN;
	out->stamp_ms = v.stamp_ms;
	if (hash % head.n_blocks != 0) {
		uint64_t listing = head.listing;
		uint32_t blk = (uint32_t)(hash % head.n_blocks);

		if (!name_view_get(seg, dir_block_key(dir, listing, blk), &v))
			return -ENOENT;
		if (!dz_dir_head_read(v.bytes, v.len, &head) || head.listing != listing)
			return -EAGAIN;
	}
	ret = dz_dir_block_find(v.bytes, &head, name, len, hash, &out->attr);
	if (!name_view_holds(seg, &v))
		return -EAGAIN;
	if (ret >= 0)
		dz_evict_touch(seg, DZ_TIER_DRAM, v.slot);
	return ret;
}

static int name_find_alone(const struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len,
			   struct dz_name *out)
{
	const char *slash = memrchr(name, '/', len), *last = slash ? slash + 1 : name;
	size_t last_len = len - (size_t)(last - name);
	struct dz_dir_head head;
	struct name_view v;
	int ret = 0;

	if (!name_view_get(seg, dz_names_attr_key(rec_id, name, len), &v))
		return -ENOENT;
	if (!dz_dir_head_read(v.bytes, v.len, &head) || !name_view_holds(seg, &v))
		return -EAGAIN;
	out->stamp_ms = v.stamp_ms;
	if (head.n_entries)
		ret = dz_dir_block_find(v.bytes, &head, last, last_len, dz_dir_hash(last, last_len),
					&out->attr);
	return name_view_holds(seg, &v) ? ret : -EAGAIN;
}

void dz_names_find(const struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len,
		   struct dz_name *out)
{
	const char *slash = memrchr(name, '/', len);
	size_t dir_len = slash ? (size_t)(slash - name) : 0;
	const char *last = slash ? slash + 1 : name;
	struct dz_key dir = dz_names_dir_key(rec_id, name, dir_len);
	int ret = -EAGAIN;

	out->state = DZ_NAME_UNKNOWN;
	out->listed = true;
	for (int i = 0; i < TRIES && ret == -EAGAIN; i++)
		ret = name_find_in_dir(seg, dir, last, len - (size_t)(last - name), out);
	if (ret == -ENOENT) {
		out->listed = false;
		ret = -EAGAIN;
		for (int i = 0; i < TRIES && ret == -EAGAIN; i++)
			ret = name_find_alone(seg, rec_id, name, len, out);
	}
	if (ret >= 0)
		out->state = ret ? DZ_NAME_FOUND : DZ_NAME_ABSENT;
}

int dz_names_dir_info(const struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		      uint64_t *stamp_ms, uint64_t *n_entries)
{
	struct dz_key key = dz_names_dir_key(rec_id, dir, len);
	struct dz_dir_head head;
	struct name_view v;

	for (int i = 0; i < TRIES; i++) {
		if (!name_view_get(seg, key, &v))
			return -ENOENT;
		if (!dz_dir_head_read(v.bytes, v.len, &head) || !name_view_holds(seg, &v))
			continue;
		*stamp_ms = v.stamp_ms;
		*n_entries = head.total;
		return 0;
	}
	return -ENOENT;
}

/* Private copies of all blocks, for a listing to be made from. */
struct name_copy {
	uint8_t *base;
	size_t room, bytes;
	uint64_t entries;
};

static int name_copy_block(const struct dz_seg *seg, struct dz_key key, struct name_copy *c,
			   struct dz_dir_head *head)
{
	struct name_view v;
	uint8_t *to = c->base + c->bytes;

	if (!name_view_get(seg, key, &v))
		return -ENOENT;
	if (v.len > c->room - c->bytes)
		return -ENOBUFS;
	memcpy(to, v.bytes, v.len);
	/* The next one lies right behind it: its length is all of it. */
	if (!name_view_holds(seg, &v) || !dz_dir_head_read(to, v.len, head) || head->bytes != v.len)
		return -EAGAIN;
	c->bytes += dz_round_up(v.len, 8);
	return 0;
}

static int name_copy_all(const struct dz_seg *seg, struct dz_key dir, struct name_copy *c,
			 uint32_t *n_blocks)
{
	struct dz_dir_head head, first;
	int ret;

	c->bytes = 0;
	ret = name_copy_block(seg, dir, c, &first);
	for (uint32_t b = 1; ret == 0 && b < first.n_blocks; b++) {
		ret = name_copy_block(seg, dir_block_key(dir, first.listing, b), c, &head);
		if (ret == 0 && (head.listing != first.listing || head.blk != b))
			ret = -EAGAIN;
	}
	if (ret == 0) {
		*n_blocks = first.n_blocks;
		/* No more than there is room for, whatever the head says. */
		c->entries = dz_min_u64(first.total, c->bytes / sizeof(struct dz_dir_entry));
	}
	return ret;
}

/* Blocks -> struct dz_list_entry records with their offsets in front. */
static int name_make_listing(const struct name_copy *c, uint32_t n_blocks, struct dz_listing *out)
{
	size_t room = 4096 + c->entries * 4 + 8 + c->bytes * 2;
	const uint8_t *block = c->base;
	void *map;
	size_t at;
	int ret = dz_sys_mmap(&map, NULL, room, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ret < 0)
		return ret;
	memset(out, 0, sizeof(*out));
	out->bytes = room;
	out->offset = map;
	out->data = map;
	at = dz_round_up(c->entries * 4 + 8, 8);
	for (uint32_t b = 0; b < n_blocks; b++) {
		struct dz_dir_head head;
		const struct dz_dir_entry *e;
		uint32_t pos = 0;

		memcpy(&head, block, sizeof(head));
		while (out->n < c->entries && (e = dz_dir_block_next(block, &head, &pos))) {
			struct dz_list_entry *to = (void *)(out->data + at);
			size_t bytes = dz_round_up(sizeof(*to) + e->name_len + 1u, 8);

			if (at + bytes > room)
				break;
			to->ino = e->ino;
			to->size = e->size;
			to->mtime_ns = e->mtime_ns;
			to->mode = e->is_dir ? S_IFDIR | 0555 : S_IFREG | 0444;
			to->name_len = e->name_len;
			memcpy(to->name, e->text, e->name_len);
			to->name[e->name_len] = '\0';
			out->offset[out->n++] = (uint32_t)at;
			at += bytes;
		}
		block += dz_round_up(head.bytes, 8);
	}
	return 0;
}

int dz_names_copy(const struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		  struct dz_listing *out)
{
	struct dz_key key = dz_names_dir_key(rec_id, dir, len);
	struct name_copy c = { .room = DZ_BLOCK_BYTES };
	uint32_t n_blocks = 0;
	void *map;
	int ret = -EAGAIN;

	for (int i = 0; i < 16 && (ret == -EAGAIN || ret == -ENOBUFS); i++) {
		ret = dz_sys_mmap(&map, NULL, c.room, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (ret < 0)
			return ret;
		c.base = map;
		ret = name_copy_all(seg, key, &c, &n_blocks);
		if (ret == 0)
			ret = name_make_listing(&c, n_blocks, out);
		dz_sys_munmap(map, c.room);
		if (ret == -ENOBUFS)
			c.room *= 8;
	}
	return ret == -EAGAIN || ret == -ENOBUFS ? -ENOENT : ret;
}

static int name_next_in(const struct name_view *v, const struct dz_dir_head *head,
			struct dz_names_cursor *at, char *name, struct dz_attr *attr)
{
	const struct dz_dir_entry *e = dz_dir_block_next(v->bytes, head, &at->at);
	size_t len = e ? e->name_len : 0;

	if (!e)
		return 0;
	if (len > 255)
		return -EAGAIN;
	memcpy(name, e->text, len);
	name[len] = '\0';
	return dz_dir_block_find(v->bytes, head, name, len, dz_dir_hash(name, len), attr) == 1
		       ? 1
		       : -EAGAIN;
}

int dz_names_next(const struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		  struct dz_names_cursor *at, char *name, struct dz_attr *attr)
{
	struct dz_key key = dz_names_dir_key(rec_id, dir, len);

	for (int tries = 0; tries < TRIES;) {
		struct dz_names_cursor before = *at;
		struct dz_dir_head head;
		struct name_view v;
		int ret;

		if (!name_view_get(seg, dir_block_key(key, at->listing, at->blk), &v))
			return -ENOENT;
		if (!dz_dir_head_read(v.bytes, v.len, &head))
			return -ENOENT;
		if (at->listing && head.listing != at->listing)
			return -ESTALE;
		ret = name_next_in(&v, &head, at, name, attr);
		if (!name_view_holds(seg, &v) || ret < 0) {
			*at = before;
			tries++;
			continue;
		}
		at->listing = head.listing;
		if (ret == 1 || at->blk + 1 >= head.n_blocks)
			return ret;
		at->blk++;
		at->at = 0;
	}
	return -ENOENT;
}

struct dz_key dz_names_file_key(uint64_t data_id, const char *prefix, const char *name, size_t len,
				const char *etag)
{
	char id[2 * DZ_NAME_MAX + DZ_ETAG_MAX + 16];
	size_t n = strnlen(prefix, DZ_NAME_MAX), e = strnlen(etag, DZ_ETAG_MAX - 1);

	if (len > DZ_NAME_MAX)
		len = DZ_NAME_MAX;
	memcpy(id, prefix, n);
	memcpy(id + n, name, len);
	id[n + len] = '\0';
	memcpy(id + n + len + 1, etag, e);
	return dz_hash128(id, n + len + 1 + e, data_id);
}

uint32_t dz_names_group(uint64_t data_id, const char *name, size_t len)
{
	const char *slash = memchr(name, '/', len);

	return (uint32_t)dz_hash64(name, slash ? (size_t)(slash - name) : 0, data_id);
}

static void name_drop_key(struct dz_seg *seg, struct dz_key key)
{
	uint64_t ctl;
	uint32_t slot = dz_index_find(seg, key, DZ_TIER_DRAM, &ctl);

	if (slot != DZ_NONE)
		dz_slot_evict(seg, DZ_TIER_DRAM, slot);
}

void dz_names_forget(struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len)
{
	const char *slash = memrchr(name, '/', len);

	name_drop_key(seg, dz_names_attr_key(rec_id, name, len));
	name_drop_key(seg, dz_names_dir_key(rec_id, name, len));
	name_drop_key(seg, dz_names_dir_key(rec_id, name, slash ? (size_t)(slash - name) : 0));
}

/* One block into a slot of its own; replaces what has the key. */
static int name_put_slot(struct dz_seg *seg, struct dz_key key, enum dz_kind kind,
			 const uint8_t *bytes, uint32_t len)
{
	uint64_t ctl, old_ctl, ready;
	uint32_t n = dz_slot_alloc(seg, DZ_TIER_DRAM, len, seg->member, &ctl), old;
	struct dz_slot *s;
	int ret;

	if (n == DZ_NONE)
		return -ENOSPC;
	s = dz_dram_slot(seg, n);
	atomic_store_explicit(&s->key_lo, key.lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, key.hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, len, memory_order_relaxed);
	atomic_store_explicit(&s->kind, kind, memory_order_relaxed);
	atomic_store_explicit(&s->group, 0, memory_order_relaxed);
	atomic_store_explicit(&s->stamp_ms, dz_now_ms(), memory_order_relaxed);
	memcpy(dz_seg_page(seg, n), bytes, len);
	atomic_store_explicit(&s->valid, 0xffff, memory_order_release);
	old = dz_index_find(seg, key, DZ_TIER_DRAM, &old_ctl);
	ret = dz_index_insert(seg, key, DZ_TIER_DRAM, n, old);
	if (ret < 0) {
		dz_slot_discard(seg, DZ_TIER_DRAM, n, ctl);
		return ret;
	}
	if (!dz_slot_publish(seg, DZ_TIER_DRAM, n, ctl, &ready))
		return -EAGAIN;
	dz_evict_filled(seg, DZ_TIER_DRAM, n);
	if (old != DZ_NONE)
		dz_slot_evict(seg, DZ_TIER_DRAM, old);
	return 0;
}

static int name_put_block(struct dz_seg *seg, struct dz_key key, enum dz_kind kind,
			  const uint8_t *bytes, uint32_t len)
{
	_Atomic uint32_t *filling;
	int ret;

	if (seg->member >= seg->n_members)
		return -ENOSPC;
	/* Tells whoever recovers us that there are slots to look for. */
	filling = &seg->members[seg->member].filling;
	atomic_fetch_add_explicit(filling, 1, memory_order_relaxed);
	ret = name_put_slot(seg, key, kind, bytes, len);
	atomic_fetch_sub_explicit(filling, 1, memory_order_relaxed);
	return ret;
}

/* Entries of each block, by hash: order[start[b] .. start[b + 1]). */
static void name_partition(const struct dz_name_in *in, uint64_t n, uint32_t n_blocks,
			   uint32_t *start, uint32_t *order)
{
	memset(start, 0, ((size_t)n_blocks + 1) * 4);
	for (uint64_t i = 0; i < n; i++)
		start[dz_dir_hash(in[i].name, in[i].name_len) % n_blocks + 1]++;
	for (uint32_t b = 0; b < n_blocks; b++)
		start[b + 1] += start[b];
	for (uint64_t i = n; i-- > 0;) {
		uint32_t b = (uint32_t)(dz_dir_hash(in[i].name, in[i].name_len) % n_blocks);

		order[--start[b + 1]] = (uint32_t)i;
	}
	/* Filled from the back: start[b + 1] is now the start of block b. */
	memmove(start, start + 1, (size_t)n_blocks * 4);
	start[n_blocks] = (uint32_t)n;
}

static int name_put_blocks(struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
			   const struct dz_name_in *in, uint64_t n, uint32_t n_blocks,
			   uint32_t *start, uint8_t *buf)
{
	struct dz_key key = dz_names_dir_key(rec_id, dir, len);
	uint32_t *order = start + n_blocks + 1;
	struct dz_dir_head head = { .n_blocks = n_blocks,
				    .listing = dz_now_ns() | 1,
				    .total = n,
				    .ino = dz_names_ino(rec_id, dir, len) };

	name_partition(in, n, n_blocks, start, order);
	for (uint32_t b = n_blocks; b-- > 0;) {
		uint32_t bytes;
		int ret;

		head.blk = b;
		bytes = dz_dir_block_build(buf, DZ_BLOCK_BYTES, &head, rec_id, dir, len, in,
					   order + start[b], start[b + 1] - start[b]);
		if (!bytes)
			return -ENOBUFS;
		ret = name_put_block(seg, dir_block_key(key, head.listing, b), DZ_KIND_DIR, buf,
				     bytes);
		if (ret < 0)
			return ret;
	}
	return 0;
}

int dz_names_put_dir(struct dz_seg *seg, uint64_t rec_id, const char *dir, size_t len,
		     const struct dz_name_in *in, uint64_t n)
{
	uint64_t bytes = 0;
	uint32_t n_blocks;
	int ret = -ENOBUFS;

	if (n > UINT32_MAX / 2)
		return -ENOSPC;
	for (uint64_t i = 0; i < n; i++)
		bytes += dz_dir_entry_bytes(in[i].name_len, DZ_ETAG_MAX) + 12;
	n_blocks = (uint32_t)(bytes / (DZ_BLOCK_BYTES * 3 / 4)) + 1;
	for (int i = 0; i < 3 && ret == -ENOBUFS; i++, n_blocks += n_blocks / 4 + 1) {
		size_t room = DZ_BLOCK_BYTES + ((size_t)n_blocks + 1 + n) * 4;
		void *map;

		ret = dz_sys_mmap(&map, NULL, room, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ret < 0)
			return ret;
		ret = name_put_blocks(seg, rec_id, dir, len, in, n, n_blocks,
				      (uint32_t *)((uint8_t *)map + DZ_BLOCK_BYTES), map);
		dz_sys_munmap(map, room);
	}
	return ret;
}

int dz_names_put_attr(struct dz_seg *seg, uint64_t rec_id, const char *name, size_t len,
		      const struct dz_name_in *in)
{
	const char *slash = memrchr(name, '/', len);
	uint64_t buf[(DZ_NAME_MAX + DZ_ETAG_MAX + 512) / 8];
	struct dz_dir_head head = { .n_blocks = 1, .listing = 1, .total = in ? 1 : 0 };
	uint32_t zero = 0;
	uint32_t bytes =
		dz_dir_block_build((uint8_t *)buf, sizeof(buf), &head, rec_id, name,
				   slash ? (size_t)(slash - name) : 0, in, &zero, in ? 1 : 0);

	if (!bytes)
		return -ENOSPC;
	return name_put_block(seg, dz_names_attr_key(rec_id, name, len), DZ_KIND_ATTR,
			      (uint8_t *)buf, bytes);
}
