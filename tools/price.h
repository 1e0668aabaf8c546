/* SPDX-License-Identifier: MIT */
/*
 * What requests to Blob cost, as an estimate.  List prices of one common case:
 * block blobs, hot tier, LRS, read from within their region (no charge for the
 * bytes).  Other tiers, regions and contracts differ, so whoever prints a price
 * prints this table's line too, and takes --price.
 */
#ifndef DZ_PRICE_H
#define DZ_PRICE_H

#include "cache/base.h"

#define DZ_PRICE_GET  0.005 /* USD for 10,000 reads */
#define DZ_PRICE_LIST 0.05  /* USD for 10,000 lists */
#define DZ_PRICE_NOTE                                                                              \
	"an estimate: USD 0.005 for 10,000 reads and 0.05 for 10,000 lists (hot tier, LRS, "       \
	"same region); --price sets your own"

static inline double dz_price(double requests, double per_10000)
{
	return requests / 10000 * per_10000;
}

/* USD for 10,000 reads as somebody wrote it; -1 when it is no price. */
double dz_price_parse(const char *text);

#endif
