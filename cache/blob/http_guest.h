/* SPDX-License-Identifier: MIT */
/* What a guest in somebody else's process owes its host: no low descriptor, no thread. */
#ifndef DZ_BLOB_HTTP_GUEST_H
#define DZ_BLOB_HTTP_GUEST_H

#include <curl/curl.h>

/* curl_multi_init() whose own descriptors are not among the lowest 100. */
CURLM *dz_guest_multi(void);
/*
 * The host of the URL, looked up in this thread (libcurl would start one), as
 * CURLOPT_RESOLVE wants it.  NULL: it is a number already, or cannot be found, and
 * libcurl will say so.  The caller frees the list after the transfer.
 */
struct curl_slist *dz_guest_resolve(const char *url);

#endif
