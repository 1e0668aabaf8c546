/* SPDX-License-Identifier: MIT */
/*
 * AZURE_STORAGE_CONNECTION_STRING: `Name=Value` pairs between semicolons, names
 * in any case, values as they stand (a key ends in '=').  Looked up in place;
 * nothing is copied.  `UseDevelopmentStorage=true` stands for the emulator's
 * public account, key and endpoint.
 */
#ifndef DZ_CONNSTR_H
#define DZ_CONNSTR_H

#include "cache/base.h"

/* A piece of someone else's text. */
struct dz_span {
	const char *p;
	size_t len;
};

/*
 * AccountName, AccountKey, SharedAccessSignature, BlobEndpoint, EndpointSuffix
 * and DefaultEndpointsProtocol.  False when `text` is NULL or has no such name.
 */
bool dz_connstr_get(const char *text, const char *name, struct dz_span *value);

/* Case-insensitive in ASCII only: no locale. */
bool dz_span_is(struct dz_span s, const char *text);

#endif
