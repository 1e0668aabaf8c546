/* SPDX-License-Identifier: MIT */
/*
 * The names of a listed directory in the order of their bytes: what a program that
 * sorts them (a shell's glob, Python's sorted()) opens next.  A listing itself is
 * kept in another order, see names.c.  A fetcher's own memory.
 */
#ifndef DZ_FETCH_ORDER_H
#define DZ_FETCH_ORDER_H

#include "cache/segment.h"

#define DZ_ORDER_NAMES 262144u /* more take too long to sort between two requests */

struct dz_order {
	uint32_t n;
	const char **name; /* n, into text */
	char *text;
};

/* NULL: not listed, too many names, or no memory. */
struct dz_order *dz_order_new(const struct dz_seg *seg, uint64_t rec_id, const char *dir,
			      size_t len);
void dz_order_free(struct dz_order *o); /* or NULL */
/* Number of the first name that does not come before `name`; n when there is none. */
uint32_t dz_order_find(const struct dz_order *o, const char *name);

#endif
