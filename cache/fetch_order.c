/* SPDX-License-Identifier: MIT */
/*
 * A walk through the listing collects the names, then they are sorted.  A listing
 * that is replaced or evicted meanwhile gives NULL: the next demand tries again.
 */
#include "cache/fetch_order.h"

#include "cache/names.h"

#include <stdlib.h>
#include <string.h>

struct gather {
	char *text;
	size_t used, room;
	uint32_t n;
};

static bool gather_add(struct gather *g, const char *name)
{
	size_t len = strlen(name) + 1;

	if (g->n == DZ_ORDER_NAMES)
		return false;
	if (g->used + len > g->room) {
		size_t room = g->room ? 2 * g->room : 65536;
		char *text = realloc(g->text, room);

		if (!text)
			return false;
		g->text = text;
		g->room = room;
	}
	memcpy(g->text + g->used, name, len);
	g->used += len;
	g->n++;
	return true;
}

static bool gather_all(struct gather *g, const struct dz_seg *seg, uint64_t rec_id, const char *dir,
		       size_t len)
{
	struct dz_names_cursor at = { 0 };
	struct dz_attr attr;
	char name[256];
	int ret;

	while ((ret = dz_names_next(seg, rec_id, dir, len, &at, name, &attr)) == 1) {
		if (!gather_add(g, name))
			return false;
	}
	return ret == 0;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct dz_order *dz_order_new(const struct dz_seg *seg, uint64_t rec_id, const char *dir,
			      size_t len)
{
	struct gather g = { 0 };
	struct dz_order *o = calloc(1, sizeof(*o));
	const char *at;

	if (!o || !gather_all(&g, seg, rec_id, dir, len) || !g.n)
		goto err;
	o->name = malloc(g.n * sizeof(*o->name));
	if (!o->name)
		goto err;
	o->text = g.text;
	at = g.text;
	for (; o->n < g.n; o->n++) {
		o->name[o->n] = at;
		at += strlen(at) + 1;
	}
	qsort(o->name, o->n, sizeof(*o->name), by_bytes);
	return o;

err:
	free(g.text);
	free(o);
	return NULL;
}

void dz_order_free(struct dz_order *o)
{
	if (!o)
		return;
	free(o->name);
	free(o->text);
	free(o);
}

uint32_t dz_order_find(const struct dz_order *o, const char *name)
{
	uint32_t low = 0, high = o->n;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (strcmp(o->name[middle], name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
