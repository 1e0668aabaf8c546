/* SPDX-License-Identifier: MIT */
/*
 * One Microsoft Entra token for Azure Storage: fetched when first wanted,
 * renewed in the background before it ends, shared by all requests of a client.
 * The fetch runs on the client's own connections; whoever needs the token
 * meanwhile waits here.
 */
#ifndef DZ_BLOB_TOKEN_H
#define DZ_BLOB_TOKEN_H

#include "cache/blob/http.h"
#include "cache/log.h"

enum dz_token_kind {
	DZ_TOKEN_WORKLOAD,    /* a federated token file, exchanged */
	DZ_TOKEN_SECRET,      /* a service principal's secret */
	DZ_TOKEN_IMDS,	      /* the virtual machine's managed identity */
	DZ_TOKEN_APP_SERVICE, /* IDENTITY_ENDPOINT, or MSI_ENDPOINT of older hosts */
};

/* Strings are borrowed and outlive the token; NULL where not given. */
struct dz_token_source {
	enum dz_token_kind kind;
	const char *authority; /* "https://login.microsoftonline.com/" */
	const char *resource;  /* "https://storage.azure.com/" */
	const char *tenant_id, *client_id;
	const char *assertion_file, *assertion, *secret;
	const char *object_id, *resource_id; /* managed identities by other names */
	const char *imds_host;		     /* "http://169.254.169.254" */
	const char *endpoint, *endpoint_secret;
	bool is_old_endpoint; /* MSI_ENDPOINT */
};

struct dz_token;

/* Embedded in whoever waits. */
struct dz_token_waiter {
	/* err: 0, -EACCES refused, -EHOSTUNREACH, -EIO, -ECANCELED. */
	void (*ready)(struct dz_token_waiter *w, int err);
	struct dz_token_waiter *next;
};

/* Returns 0, or -ENOMEM. */
int dz_token_new(struct dz_token **out, const struct dz_token_source *source, struct dz_http *http,
		 const struct dz_log *log);
/* Ends the waiters with -ECANCELED. */
void dz_token_cancel(struct dz_token *t);
/* After dz_token_cancel and dz_http_close. */
void dz_token_free(struct dz_token *t);

/* "Authorization: Bearer ..." and its number, or NULL: dz_token_wait first. */
const char *dz_token_header(struct dz_token *t, uint32_t *generation);
void dz_token_wait(struct dz_token *t, struct dz_token_waiter *w);
/* The service refused token number `generation`: it is not handed out again. */
void dz_token_reject(struct dz_token *t, uint32_t generation);
/* Begins what is due; returns the milliseconds until the next time, or UINT64_MAX. */
uint64_t dz_token_step(struct dz_token *t);

#endif
