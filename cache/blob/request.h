/* SPDX-License-Identifier: MIT */
/*
 * A Blob request as it goes out: URL and header lines, signed or with its token.
 * Built anew for each try, because dates, ranges and tokens change.
 */
#ifndef DZ_BLOB_REQUEST_H
#define DZ_BLOB_REQUEST_H

#include "cache/blob/auth.h"
#include "cache/blob/blob.h"
#include "cache/blob/http.h"

struct dz_request {
	char *url; /* malloc'd; shown in messages up to its '?' only */
	char date[64], version[64], id[64], range[96], if_match[DZ_ETAG_MAX + 16];
	char authorization[DZ_SIGN_HEADER_BYTES];
};

/* Why a try may be refused before it is sent is told by submit, so this checks
 * once what does not change.  Returns 0 or -EINVAL. */
int dz_request_check(const struct dz_blob_req *req);

/*
 * Fills `r` and the verb, URL and headers of `http`.  `off` is the first byte to
 * ask for, `etag` what it must still be ("" for any), `bearer` the token's header
 * line or NULL.  Returns 0, -ENOMEM or -ENAMETOOLONG.
 */
int dz_request_build(struct dz_request *r, struct dz_http_req *http, const struct dz_blob_req *req,
		     const struct dz_cred *cred, const char *version, uint64_t off,
		     const char *etag, const char *bearer);
void dz_request_free(struct dz_request *r);

#endif
