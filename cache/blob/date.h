/* SPDX-License-Identifier: MIT */
/*
 * HTTP dates ("Sun, 06 Nov 1994 08:49:37 GMT") without locale or time zone.
 */
#ifndef DZ_BLOB_DATE_H
#define DZ_BLOB_DATE_H

#include "cache/base.h"

#define DZ_DATE_BYTES 32

/* Unix time in seconds, or -1 when the text is not such a date. */
int64_t dz_date_parse(const char *text, size_t len);
void dz_date_format(char out[DZ_DATE_BYTES], int64_t unix_s);

#endif
