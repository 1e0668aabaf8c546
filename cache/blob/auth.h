/* SPDX-License-Identifier: MIT */
/*
 * Which credential opens which mount.  Read from the AZURE_* environment once,
 * in the order that the README promises:
 *
 *   the URL's own SAS; what AZURE_STORAGE_AUTH_TYPE says; connection string;
 *   account key; SAS; workload identity; service principal; managed identity;
 *   nothing (public data).
 *
 * A key, SAS or connection string that names another account than the mount's is
 * passed over: it could not open the mount, and must not be sent there.
 */
#ifndef DZ_BLOB_AUTH_H
#define DZ_BLOB_AUTH_H

#include "cache/blob/sign.h"
#include "cache/blob/token.h"
#include "cache/config.h"

enum dz_cred_kind { DZ_CRED_NONE, DZ_CRED_KEY, DZ_CRED_SAS, DZ_CRED_TOKEN };

struct dz_cred {
	enum dz_cred_kind kind;
	const char *account;	       /* KEY: that signs */
	const struct dz_sign_key *key; /* KEY */
	const char *sas;	       /* SAS, without '?' */
	struct dz_token *token;	       /* TOKEN */
	const char *name;	       /* for messages: "account key of AZURE_STORAGE_KEY" */
};

struct dz_auth;

/* Returns 0, -ENOMEM, or -EINVAL after one log line. */
int dz_auth_open(struct dz_auth **out, char *const *envp, struct dz_http *http,
		 const struct dz_log *log);
/* After dz_http_close; NULL is allowed. */
void dz_auth_close(struct dz_auth *auth);

/*
 * The credential of a mount; it lives as long as `auth` and the mount.  Returns
 * 0, or -EINVAL after one log line when a token would travel unencrypted.
 */
int dz_auth_choose(struct dz_auth *auth, const struct dz_mount *m, struct dz_cred *cred);
/* NULL when no mount can need one. */
struct dz_token *dz_auth_token(struct dz_auth *auth);

#endif
