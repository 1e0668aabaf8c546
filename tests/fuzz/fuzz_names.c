/* SPDX-License-Identifier: MIT */
/*
 * A block of a directory, as it could lie in shared memory: the input itself, or (first
 * byte odd) patches of a right one.
 */
#include "cache/names_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void look_up(const uint8_t *block, const struct dz_dir_head *head, const char *name,
		    size_t len, uint64_t hash)
{
	struct dz_attr attr;

	if (dz_dir_block_find(block, head, name, len, hash, &attr) == 1 &&
	    !memchr(attr.etag, 0, sizeof(attr.etag)))
		abort();
}

static uint32_t build(uint8_t *buf, uint32_t room)
{
	struct dz_dir_head head = { .n_blocks = 1, .listing = 1, .total = 12 };
	struct dz_name_in in[12];
	uint32_t order[12];
	char text[12][16];

	for (uint32_t i = 0; i < 12; i++) {
		snprintf(text[i], sizeof(text[i]), "file-%u", i);
		in[i] = (struct dz_name_in){ .name = text[i],
					     .name_len = (uint32_t)strlen(text[i]),
					     .etag = "0x1" };
		order[i] = i;
	}
	return dz_dir_block_build(buf, room, &head, 1, "d", 1, in, order, 12);
}

/* Exactly its bytes are allocated, so that one more is an error. */
static uint8_t *make_block(const uint8_t *data, size_t size, uint32_t *len)
{
	uint64_t built[512];
	uint8_t *block;

	if (data[0] % 2 == 0) {
		block = malloc(size - 1);
		memcpy(block, data + 1, size - 1);
		*len = (uint32_t)(size - 1);
		return block;
	}
	*len = build((uint8_t *)built, sizeof(built));
	for (size_t at = 1; at + 6 <= size; at += 6) {
		uint32_t off = (data[at] | (uint32_t)data[at + 1] << 8) % (*len - 4);

		memcpy((uint8_t *)built + off, data + at + 2, 4);
	}
	block = malloc(*len);
	memcpy(block, built, *len);
	return block;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct dz_dir_entry *e;
	struct dz_dir_head head;
	uint32_t at = 0, len;
	uint8_t *block;

	if (size < 2)
		return 0;
	block = make_block(data, size, &len);
	if (!dz_dir_head_read(block, len, &head))
		goto out;
	look_up(block, &head, "file-1", 6, dz_dir_hash("file-1", 6));
	while ((e = dz_dir_block_next(block, &head, &at))) {
		struct dz_dir_entry copy;

		memcpy(&copy, e, sizeof(copy));
		look_up(block, &head, e->text, copy.name_len, copy.hash);
	}
out:
	free(block);
	return 0;
}
