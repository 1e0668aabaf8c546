/* SPDX-License-Identifier: MIT */
/*
 * The URL is the mount's endpoint, the container and the percent-encoded name;
 * then the query, then a SAS where that is the credential; then the header
 * lines; the signature comes last, over all of them.
 *
 * A range goes out as x-ms-range, which is signed with the other x-ms headers.
 * Only memory and the length of what is signed can fail.
 */
#include "cache/blob/request.h"

#include "cache/blob/date.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The largest page that the service gives. */
#define LIST_PAGE "5000"

static bool is_etag(const char *etag)
{
	size_t len = strlen(etag);

	if (len >= DZ_ETAG_MAX)
		return false;
	for (; *etag; etag++)
		if (*etag <= ' ' || *etag > '~' || *etag == '"')
			return false;
	return true;
}

int dz_request_check(const struct dz_blob_req *req)
{
	if (!req->mount || !req->name || !req->done)
		return -EINVAL;
	if (req->op == DZ_BLOB_LIST)
		return req->entry ? 0 : -EINVAL;
	if (!req->name[0])
		return -EINVAL;
	if (req->op == DZ_BLOB_HEAD)
		return 0;
	if (!req->body || req->len == 0 || req->off > INT64_MAX || req->len > INT64_MAX)
		return -EINVAL;
	return !req->etag || is_etag(req->etag) ? 0 : -EINVAL;
}

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* Returns the end of what it wrote: at most three characters for each. */
static char *put_encoded(char *to, const char *text, bool keep_slash)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (is_unreserved(*text) || (keep_slash && c == '/')) {
			*to++ = *text;
			continue;
		}
		*to++ = '%';
		*to++ = hex[c >> 4];
		*to++ = hex[c & 15];
	}
	*to = '\0';
	return to;
}

static char *put_param(char *to, const char *name, const char *value)
{
	if (!value || !value[0])
		return to;
	to = stpcpy(to, name);
	return put_encoded(to, value, false);
}

/* Metadata tells directories of older tools (hdi_isfolder) from empty blobs. */
static char *put_list_query(char *to, const struct dz_blob_req *req)
{
	to = stpcpy(to, "?restype=container&comp=list&include=metadata&maxresults=" LIST_PAGE);
	to = put_param(to, "&prefix=", req->name);
	to = put_param(to, "&delimiter=", req->delimiter ? "/" : "");
	return put_param(to, "&marker=", req->marker);
}

static int build_url(struct dz_request *r, const struct dz_blob_req *req,
		     const struct dz_cred *cred)
{
	const struct dz_mount *m = req->mount;
	const char *sas = cred->kind == DZ_CRED_SAS ? cred->sas : "";
	const char *marker = req->marker ? req->marker : "";
	size_t room = strlen(m->endpoint) + strlen(m->container) + strlen(sas) +
		      3 * (strlen(req->name) + strlen(marker)) + 256;
	char *to;

	r->url = malloc(room);
	if (!r->url)
		return -ENOMEM;
	to = stpcpy(r->url, m->endpoint);
	to = stpcpy(stpcpy(to, "/"), m->container);
	if (req->op == DZ_BLOB_LIST)
		to = put_list_query(to, req);
	else
		to = put_encoded(stpcpy(to, "/"), req->name, true);
	if (sas[0])
		stpcpy(stpcpy(to, req->op == DZ_BLOB_LIST ? "&" : "?"), sas);
	return 0;
}

/* Unique enough to find one try in the service's log. */
static void build_id(char *id, size_t cap)
{
	snprintf(id, cap, "x-ms-client-request-id: dz-%x-%llx", (unsigned int)dz_sys_getpid(),
		 (unsigned long long)dz_now_ns());
}

static void add_header(struct dz_http_req *http, const char *line)
{
	http->headers[http->n_headers++] = line;
}

static void build_headers(struct dz_request *r, struct dz_http_req *http,
			  const struct dz_blob_req *req, const char *version, uint64_t off,
			  const char *etag)
{
	char date[DZ_DATE_BYTES];

	dz_date_format(date, (int64_t)(dz_wall_ms() / 1000));
	snprintf(r->date, sizeof(r->date), "x-ms-date: %s", date);
	snprintf(r->version, sizeof(r->version), "x-ms-version: %s", version);
	build_id(r->id, sizeof(r->id));
	http->n_headers = 0;
	add_header(http, r->date);
	add_header(http, r->version);
	add_header(http, r->id);
	if (req->op != DZ_BLOB_GET)
		return;
	snprintf(r->range, sizeof(r->range), "x-ms-range: bytes=%llu-%llu", (unsigned long long)off,
		 (unsigned long long)(req->off + req->len - 1));
	add_header(http, r->range);
	if (!etag[0])
		return;
	snprintf(r->if_match, sizeof(r->if_match), "If-Match: \"%s\"", etag);
	add_header(http, r->if_match);
}

static int add_signature(struct dz_request *r, struct dz_http_req *http, const struct dz_cred *cred)
{
	struct dz_sign_request to_sign = {
		.verb = http->verb,
		.account = cred->account,
		.url = r->url,
		.headers = http->headers,
		.n_headers = http->n_headers,
	};
	int ret = dz_sign(cred->key, &to_sign, r->authorization);

	if (ret == 0)
		add_header(http, r->authorization);
	return ret;
}

int dz_request_build(struct dz_request *r, struct dz_http_req *http, const struct dz_blob_req *req,
		     const struct dz_cred *cred, const char *version, uint64_t off,
		     const char *etag, const char *bearer)
{
	int ret;

	dz_request_free(r);
	ret = build_url(r, req, cred);
	if (ret < 0)
		return ret;
	http->verb = req->op == DZ_BLOB_HEAD ? "HEAD" : "GET";
	http->url = r->url;
	build_headers(r, http, req, version, off, etag);
	if (cred->kind == DZ_CRED_TOKEN)
		add_header(http, bearer);
	if (cred->kind == DZ_CRED_KEY)
		return add_signature(r, http, cred);
	return 0;
}

void dz_request_free(struct dz_request *r)
{
	free(r->url);
	r->url = NULL;
}
