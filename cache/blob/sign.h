/* SPDX-License-Identifier: MIT */
/*
 * Shared Key: the Authorization header of a request, from the request as it
 * will be sent.  Knows no sockets and keeps no state but the key.
 */
#ifndef DZ_BLOB_SIGN_H
#define DZ_BLOB_SIGN_H

#include "cache/base.h"

struct dz_sign_key;

struct dz_sign_request {
	const char *verb;
	const char *account; /* that signs */
	const char *url;     /* whole, percent-encoded, exactly as sent */
	/* "Name: value" lines; x-ms-date must be among them. */
	const char *const *headers;
	uint32_t n_headers;
};

#define DZ_SIGN_TEXT_BYTES   8192
#define DZ_SIGN_HEADER_BYTES 256

/* Returns 0, -EINVAL when `base64` (len characters) is not a key, or -ENOMEM. */
int dz_sign_key_new(struct dz_sign_key **out, const char *base64, size_t len);
void dz_sign_key_free(struct dz_sign_key *key);

/*
 * The text that is signed, and its length; -ENAMETOOLONG when it needs more than
 * `cap` bytes.
 */
ssize_t dz_sign_text(const struct dz_sign_request *r, char *text, size_t cap);

/* "Authorization: SharedKey ACCOUNT:SIGNATURE".  Returns 0, -ENAMETOOLONG, or -EIO. */
int dz_sign(const struct dz_sign_key *key, const struct dz_sign_request *r,
	    char header[DZ_SIGN_HEADER_BYTES]);

#endif
