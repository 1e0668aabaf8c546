/* SPDX-License-Identifier: MIT */
/*
 * What the service said: the headers that we read, the error code of a refusal,
 * and whether a GET's answer is the answer to what was asked.
 */
#ifndef DZ_BLOB_ANSWER_H
#define DZ_BLOB_ANSWER_H

#include "cache/blob/blob.h"

struct dz_answer {
	int status;
	bool has_length, has_range, is_range_known; /* known: not "bytes * /N" */
	uint64_t length;
	uint64_t first, last, total; /* Content-Range */
	char etag[DZ_ETAG_MAX];
	int64_t mtime_s; /* -1: none */
	int64_t date_s;	 /* the service's clock, -1: none */
	uint64_t retry_after_ms;
	bool is_dir, is_bad; /* bad: a header that we need is malformed */
	char code[64];	     /* x-ms-error-code, or <Code> of the body */
	char request_id[64];
	char body[1024]; /* head of an error's body */
	size_t body_len;
};

void dz_answer_begin(struct dz_answer *a, int status);
void dz_answer_header(struct dz_answer *a, const char *name, size_t name_len, const char *value,
		      size_t value_len);
/* Bytes of a body that is not data. */
void dz_answer_error_body(struct dz_answer *a, const void *data, size_t n);
/* At the end of a refusal: the code from the body when no header had it. */
void dz_answer_finish(struct dz_answer *a);

/*
 * Is this the answer to a GET of bytes [off, end), which began after an earlier
 * try that left `known` (NULL: the first try)?  `etag` is what was pinned, or "".
 * Returns 0 with *stop one past the last byte that will come; -ESTALE when the
 * blob is another one; -ERANGE when it ends before `off`; -EPROTO when the answer contradicts
 * itself or the request.
 */
int dz_answer_check_get(const struct dz_answer *a, uint64_t off, uint64_t end, const char *etag,
			const struct dz_blob_res *known, uint64_t *stop);

#endif
