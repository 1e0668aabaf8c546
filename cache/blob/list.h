/* SPDX-License-Identifier: MIT */
/*
 * One page of List Blobs, parsed as it arrives and read out when it is whole.
 * Names come out decoded, ETags without quotes, directories with a '/' at the
 * end; nothing is handed out of a page that did not parse to its end.
 */
#ifndef DZ_BLOB_LIST_H
#define DZ_BLOB_LIST_H

#include "cache/blob/blob.h"

struct dz_list;

struct dz_list *dz_list_new(void); /* NULL: no memory */
void dz_list_free(struct dz_list *list);

/* More of the page; is_last with the final piece (which may be empty).
 * Returns 0, -EPROTO when this is not a List page, or -ENOMEM. */
int dz_list_feed(struct dz_list *list, const void *data, size_t n, bool is_last);

/* After the last piece: "" when there is no further page. */
const char *dz_list_next_marker(const struct dz_list *list);
/* Calls fn for each entry in the service's order until it returns non-zero; returns that. */
int dz_list_each(const struct dz_list *list,
		 int (*fn)(void *arg, const struct dz_blob_entry *entry), void *arg);

#endif
