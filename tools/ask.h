/* SPDX-License-Identifier: MIT */
/* Blob's own answers, past the cache: one request at a time, waited for. */
#ifndef DZ_ASK_H
#define DZ_ASK_H

#include "cache/blob/blob.h"

struct dz_ask;

/* Returns 0, -ENOMEM, or -EINVAL (credentials that make no sense; dz_ask_why() says more). */
int dz_ask_open(struct dz_ask **out, char *const *envp);
void dz_ask_close(struct dz_ask *ask);
/* `name` is below the mount.  Returns what struct dz_blob_req's done() says. */
int dz_ask_head(struct dz_ask *ask, const struct dz_mount *m, const char *name,
		struct dz_blob_res *res);
/* One page of the mount's root; *n entries. */
int dz_ask_list(struct dz_ask *ask, const struct dz_mount *m, uint32_t *n, struct dz_blob_res *res);
/* What the client had to say about the last failure; "" when nothing. */
const char *dz_ask_why(struct dz_ask *ask);
/* The log that it is written to. */
const struct dz_log *dz_ask_log(struct dz_ask *ask);

#endif
