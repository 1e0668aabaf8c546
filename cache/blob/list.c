/* SPDX-License-Identifier: MIT */
/*
 * The happy path: expat calls us for each element; the text of a leaf gathers in
 * `leaf`; at its end tag the leaf goes into the entry that is being built; at the
 * end of a Blob or BlobPrefix the entry is stored.  All strings of a page lie in
 * one growing buffer, entries refer to them by offset.
 *
 * A document type, a name without text, a size that is no number, a missing end:
 * the page is -EPROTO as a whole.  Elements that we do not know are skipped, as
 * newer service versions add some.
 */
#include "cache/blob/list.h"

#include "cache/blob/date.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <expat.h>

/* Longest leaf that we keep: a name or a marker. */
#define LEAF_MAX 8192

struct item {
	size_t name_at, name_len, etag_at;
	uint64_t size;
	int64_t mtime_s;
	bool is_dir;
};

struct dz_list {
	XML_Parser parser;
	int error;
	struct item *items;
	size_t n_items, cap_items;
	char *text;
	size_t text_len, text_cap;
	char marker[sizeof(((struct dz_blob_res *)0)->next_marker)];

	/* Where the parser stands. */
	uint32_t depth;
	bool is_page;  /* the root was EnumerationResults and has ended */
	bool in_entry; /* inside Blob or BlobPrefix */
	bool in_metadata;
	bool is_encoded; /* the Name is percent-encoded on top */
	bool is_deleted; /* a soft-deleted blob or a snapshot: not ours to show */
	struct item entry;
	char leaf[LEAF_MAX];
	size_t leaf_len;
};

static void list_fail(struct dz_list *list, int error)
{
	if (list->error)
		return;
	list->error = error;
	XML_StopParser(list->parser, XML_FALSE);
}

/* Room for one more of `size` bytes each; doubles.  False: no memory. */
static bool grow(void **array, size_t *cap, size_t need, size_t size)
{
	size_t to = *cap ? *cap : 64;
	void *moved;

	if (need <= *cap)
		return true;
	while (to < need)
		to *= 2;
	moved = realloc(*array, to * size);
	if (!moved)
		return false;
	*array = moved;
	*cap = to;
	return true;
}

/* Appends with a NUL; returns where it lies. */
static size_t store_text(struct dz_list *list, const char *p, size_t len)
{
	size_t at = list->text_len;

	if (!grow((void **)&list->text, &list->text_cap, at + len + 1, 1)) {
		list_fail(list, -ENOMEM);
		return 0;
	}
	memcpy(list->text + at, p, len);
	list->text[at + len] = '\0';
	list->text_len = at + len + 1;
	return at;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void decode_leaf(struct dz_list *list)
{
	size_t from = 0;
	size_t to = 0;

	for (; from < list->leaf_len; to++) {
		const char *p = list->leaf + from;
		size_t left = list->leaf_len - from;
		int high = *p == '%' && left > 2 ? hex_digit(p[1]) : -1;
		int low = high >= 0 ? hex_digit(p[2]) : -1;
		int c = low >= 0 ? high * 16 + low : *p;

		list->leaf[to] = (char)c;
		from += low >= 0 ? 3 : 1;
	}
	list->leaf_len = to;
}

static void take_name(struct dz_list *list)
{
	if (list->is_encoded)
		decode_leaf(list);
	/* A NUL cannot be in a path; nor can we serve a name that has one. */
	if (list->leaf_len == 0 || memchr(list->leaf, '\0', list->leaf_len)) {
		list_fail(list, -EPROTO);
		return;
	}
	list->entry.name_at = store_text(list, list->leaf, list->leaf_len);
	list->entry.name_len = list->leaf_len;
}

static void take_size(struct dz_list *list)
{
	uint64_t size = 0;
	size_t i;

	for (i = 0; i < list->leaf_len; i++) {
		unsigned int digit = (unsigned int)(list->leaf[i] - '0');

		if (digit > 9 || __builtin_mul_overflow(size, 10, &size) ||
		    __builtin_add_overflow(size, digit, &size)) {
			list_fail(list, -EPROTO);
			return;
		}
	}
	list->entry.size = size;
}

/* Without quotes here, with them in headers: we keep none. */
static void take_etag(struct dz_list *list)
{
	const char *p = list->leaf;
	size_t len = list->leaf_len;

	if (len >= 2 && p[0] == '"' && p[len - 1] == '"') {
		p++;
		len -= 2;
	}
	if (len >= DZ_ETAG_MAX)
		list_fail(list, -EPROTO);
	else
		list->entry.etag_at = store_text(list, p, len);
}

static void take_time(struct dz_list *list)
{
	int64_t mtime_s = dz_date_parse(list->leaf, list->leaf_len);

	if (mtime_s < 0)
		list_fail(list, -EPROTO);
	else
		list->entry.mtime_s = mtime_s;
}

static void take_marker(struct dz_list *list)
{
	if (list->leaf_len >= sizeof(list->marker)) {
		list_fail(list, -EPROTO);
		return;
	}
	memcpy(list->marker, list->leaf, list->leaf_len);
	list->marker[list->leaf_len] = '\0';
}

static bool leaf_is(const struct dz_list *list, const char *text)
{
	return list->leaf_len == strlen(text) && strncasecmp(list->leaf, text, list->leaf_len) == 0;
}

/* A leaf inside Properties or Metadata, or the Name itself. */
static void take_entry_leaf(struct dz_list *list, const char *name)
{
	if (list->in_metadata)
		list->entry.is_dir |= !strcasecmp(name, "hdi_isfolder") && leaf_is(list, "true");
	else if (strcmp(name, "Name") == 0)
		take_name(list);
	else if (strcmp(name, "Content-Length") == 0)
		take_size(list);
	else if (strcmp(name, "Etag") == 0)
		take_etag(list);
	else if (strcmp(name, "Last-Modified") == 0)
		take_time(list);
	else if (strcmp(name, "ResourceType") == 0)
		list->entry.is_dir |= leaf_is(list, "directory");
	else if (strcmp(name, "Deleted") == 0)
		list->is_deleted |= leaf_is(list, "true");
	else if (strcmp(name, "Snapshot") == 0)
		list->is_deleted |= list->leaf_len > 0;
}

static void begin_entry(struct dz_list *list)
{
	memset(&list->entry, 0, sizeof(list->entry));
	list->entry.etag_at = store_text(list, "", 0);
	list->in_entry = true;
	list->is_deleted = false;
}

/* A directory's name ends in '/', whichever way the service spelled it. */
static void end_entry(struct dz_list *list, bool is_prefix)
{
	struct item *e = &list->entry;
	char last;

	list->in_entry = false;
	if (list->error || list->is_deleted)
		return;
	if (e->name_len == 0) {
		list_fail(list, -EPROTO);
		return;
	}
	e->is_dir |= is_prefix;
	last = list->text[e->name_at + e->name_len - 1];
	if (e->is_dir && last != '/') {
		/* The name may lie before the ETag: copy it to the end. */
		size_t at = e->name_at;

		if (!grow((void **)&list->text, &list->text_cap, list->text_len + e->name_len + 2,
			  1)) {
			list_fail(list, -ENOMEM);
			return;
		}
		e->name_at = store_text(list, list->text + at, e->name_len);
		list->text[list->text_len - 1] = '/';
		store_text(list, "", 0);
		e->name_len++;
	}
	if (!grow((void **)&list->items, &list->cap_items, list->n_items + 1, sizeof(*e)))
		list_fail(list, -ENOMEM);
	else
		list->items[list->n_items++] = *e;
}

static bool is_entry_tag(const char *name)
{
	return strcmp(name, "Blob") == 0 || strcmp(name, "BlobPrefix") == 0;
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attributes)
{
	struct dz_list *list = user;

	list->leaf_len = 0;
	if (list->depth++ == 0 && strcmp(name, "EnumerationResults") != 0)
		list_fail(list, -EPROTO);
	/* Metadata's children may have any name, so depth decides. */
	if (list->depth == 3 && is_entry_tag(name))
		begin_entry(list);
	else if (list->depth == 4 && strcmp(name, "Metadata") == 0)
		list->in_metadata = true;
	if (strcmp(name, "Name") == 0 && list->depth == 4)
		list->is_encoded = attributes[0] && strcmp(attributes[0], "Encoded") == 0 &&
				   strcasecmp(attributes[1], "true") == 0;
}

static void XMLCALL on_end(void *user, const XML_Char *name)
{
	struct dz_list *list = user;
	uint32_t depth = list->depth--;

	if (depth == 1)
		list->is_page = true;
	else if (depth == 2 && strcmp(name, "NextMarker") == 0)
		take_marker(list);
	else if (depth == 3 && list->in_entry)
		end_entry(list, strcmp(name, "BlobPrefix") == 0);
	else if (depth == 4 && list->in_metadata && strcmp(name, "Metadata") == 0)
		list->in_metadata = false;
	else if (list->in_entry)
		take_entry_leaf(list, name);
	list->leaf_len = 0;
}

static void XMLCALL on_text(void *user, const XML_Char *text, int len)
{
	struct dz_list *list = user;

	if (list->leaf_len + (size_t)len > LEAF_MAX) {
		list_fail(list, -EPROTO);
		return;
	}
	memcpy(list->leaf + list->leaf_len, text, (size_t)len);
	list->leaf_len += (size_t)len;
}

/* No List page has one, and entities are how XML bites. */
static void XMLCALL on_doctype(void *user, const XML_Char *name DZ_UNUSED,
			       const XML_Char *sysid DZ_UNUSED, const XML_Char *pubid DZ_UNUSED,
			       int has_subset DZ_UNUSED)
{
	list_fail(user, -EPROTO);
}

struct dz_list *dz_list_new(void)
{
	struct dz_list *list = calloc(1, sizeof(*list));

	if (!list)
		return NULL;
	list->parser = XML_ParserCreate("UTF-8");
	if (!list->parser) {
		free(list);
		return NULL;
	}
	XML_SetUserData(list->parser, list);
	XML_SetElementHandler(list->parser, on_start, on_end);
	XML_SetCharacterDataHandler(list->parser, on_text);
	XML_SetStartDoctypeDeclHandler(list->parser, on_doctype);
	return list;
}

void dz_list_free(struct dz_list *list)
{
	if (!list)
		return;
	XML_ParserFree(list->parser);
	free(list->items);
	free(list->text);
	free(list);
}

int dz_list_feed(struct dz_list *list, const void *data, size_t n, bool is_last)
{
	enum XML_Status status;

	if (list->error)
		return list->error;
	status = XML_Parse(list->parser, data, (int)n, is_last);
	if (!list->error && (status != XML_STATUS_OK || (is_last && !list->is_page)))
		list->error =
			XML_GetErrorCode(list->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EPROTO;
	return list->error;
}

const char *dz_list_next_marker(const struct dz_list *list)
{
	return list->marker;
}

int dz_list_each(const struct dz_list *list,
		 int (*fn)(void *arg, const struct dz_blob_entry *entry), void *arg)
{
	size_t i;
	int ret;

	for (i = 0; i < list->n_items; i++) {
		const struct item *it = &list->items[i];
		struct dz_blob_entry entry = {
			.name = list->text + it->name_at,
			.name_len = it->name_len,
			.size = it->is_dir ? 0 : it->size,
			.mtime_s = it->mtime_s,
			.etag = list->text + it->etag_at,
			.is_dir = it->is_dir,
		};

		ret = fn(arg, &entry);
		if (ret)
			return ret;
	}
	return 0;
}
