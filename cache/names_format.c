// SPDX-License-Identifier: MIT
/* See names_format.h: building blocks of names, and reading them without trust. */
#include "cache/names_format.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

uint64_t dz_dir_hash(const char *name, size_t len)
{
	return dz_hash64(name, len, DZ_DIR_MAGIC);
}

bool dz_dir_head_read(const uint8_t *block, uint32_t len, struct dz_dir_head *head)
{
	if (len < sizeof(*head))
		return false;
	memcpy(head, block, sizeof(*head));
	return head->magic == DZ_DIR_MAGIC && head->bytes <= len && head->blk < head->n_blocks &&
	       head->n_blocks <= 1u << 20 && head->table_len >= 1 &&
	       head->table_len <= DZ_BLOCK_BYTES / 4 &&
	       (head->table_len & (head->table_len - 1)) == 0 &&
	       sizeof(*head) + (uint64_t)head->table_len * 4 <= head->bytes;
}

/* The entry at `off` if it lies wholly within the block. */
static const struct dz_dir_entry *dir_entry_at(const uint8_t *block, const struct dz_dir_head *head,
					       uint32_t off, struct dz_dir_entry *copy)
{
	if (off % 8 || off < sizeof(*head) || off + sizeof(*copy) > head->bytes)
		return NULL;
	memcpy(copy, block + off, sizeof(*copy));
	if (off + dz_dir_entry_bytes(copy->name_len, copy->etag_len) > head->bytes)
		return NULL;
	return (const void *)(block + off);
}

static void dir_entry_attr(const struct dz_dir_entry *e, const struct dz_dir_entry *fixed,
			   struct dz_attr *out)
{
	size_t etag = fixed->etag_len < DZ_ETAG_MAX ? fixed->etag_len : DZ_ETAG_MAX - 1;

	out->size = fixed->size;
	out->mtime_ns = fixed->mtime_ns;
	out->ino = fixed->ino;
	out->mode = fixed->is_dir ? S_IFDIR | 0555 : S_IFREG | 0444;
	memcpy(out->etag, e->text + fixed->name_len + 1, etag);
	out->etag[etag] = '\0';
}

int dz_dir_block_find(const uint8_t *block, const struct dz_dir_head *head, const char *name,
		      size_t name_len, uint64_t hash, struct dz_attr *out)
{
	const uint8_t *table = block + sizeof(*head);
	uint32_t mask = head->table_len - 1;

	for (uint32_t i = 0; i <= mask; i++) {
		struct dz_dir_entry fixed;
		const struct dz_dir_entry *e;
		uint32_t off;

		memcpy(&off, table + (size_t)(((uint32_t)(hash >> 32) + i) & mask) * 4, 4);
		if (!off)
			return 0;
		e = dir_entry_at(block, head, off, &fixed);
		if (!e)
			return -EPROTO;
		if (fixed.hash != hash || fixed.name_len != name_len ||
		    memcmp(e->text, name, name_len) != 0)
			continue;
		dir_entry_attr(e, &fixed, out);
		return 1;
	}
	return 0;
}

const struct dz_dir_entry *dz_dir_block_next(const uint8_t *block, const struct dz_dir_head *head,
					     uint32_t *at)
{
	struct dz_dir_entry fixed;
	const struct dz_dir_entry *e;
	uint64_t off = *at ? *at : dz_round_up(sizeof(*head) + (uint64_t)head->table_len * 4, 8);

	if (off + sizeof(fixed) > head->bytes)
		return NULL;
	e = dir_entry_at(block, head, (uint32_t)off, &fixed);
	if (e)
		*at = (uint32_t)(off + dz_dir_entry_bytes(fixed.name_len, fixed.etag_len));
	return e;
}

static void dir_table_add(uint8_t *table, uint32_t table_len, uint64_t hash, uint32_t off)
{
	for (uint32_t i = 0; i < table_len; i++) {
		uint8_t *place =
			table + (size_t)(((uint32_t)(hash >> 32) + i) & (table_len - 1)) * 4;
		uint32_t old;

		memcpy(&old, place, 4);
		if (!old) {
			memcpy(place, &off, 4);
			return;
		}
	}
}

static uint64_t dir_child_ino(uint64_t rec_id, const char *dir, size_t dir_len,
			      const struct dz_name_in *in)
{
	char path[DZ_NAME_MAX + 8];
	size_t at = 0;

	if (dir_len + in->name_len + 2 > sizeof(path))
		return dz_hash64(in->name, in->name_len, rec_id);
	if (dir_len) {
		memcpy(path, dir, dir_len);
		path[dir_len] = '/';
		at = dir_len + 1;
	}
	memcpy(path + at, in->name, in->name_len);
	return dz_names_ino(rec_id, path, at + in->name_len);
}

uint32_t dz_dir_block_build(uint8_t *buf, uint32_t room, struct dz_dir_head *head, uint64_t rec_id,
			    const char *dir, size_t dir_len, const struct dz_name_in *in,
			    const uint32_t *order, uint32_t n)
{
	uint32_t table_len = 1;
	uint64_t off;

	while (table_len < n + n / 2 + 1)
		table_len <<= 1;
	off = dz_round_up(sizeof(*head) + (uint64_t)table_len * 4, 8);
	if (off > room)
		return 0;
	memset(buf, 0, off);
	for (uint32_t i = 0; i < n; i++) {
		const struct dz_name_in *x = &in[order[i]];
		size_t etag_len = x->etag ? strlen(x->etag) : 0;
		size_t bytes = dz_dir_entry_bytes(x->name_len, etag_len);
		struct dz_dir_entry e = { .hash = dz_dir_hash(x->name, x->name_len),
					  .size = x->size,
					  .mtime_ns = (int64_t)((uint64_t)x->mtime_s * 1000000000u),
					  .ino = dir_child_ino(rec_id, dir, dir_len, x),
					  .name_len = (uint16_t)x->name_len,
					  .etag_len = (uint8_t)etag_len,
					  .is_dir = x->is_dir };

		if (off + bytes > room)
			return 0;
		memset(buf + off, 0, bytes);
		memcpy(buf + off, &e, sizeof(e));
		memcpy(buf + off + sizeof(e), x->name, x->name_len);
		memcpy(buf + off + sizeof(e) + x->name_len + 1, x->etag ? x->etag : "", etag_len);
		dir_table_add(buf + sizeof(*head), table_len, e.hash, (uint32_t)off);
		off += bytes;
	}
	head->magic = DZ_DIR_MAGIC;
	head->n_entries = n;
	head->table_len = table_len;
	head->bytes = (uint32_t)off;
	memcpy(buf, head, sizeof(*head));
	return (uint32_t)off;
}
