/* SPDX-License-Identifier: MIT */
/*
 * A fetch: build the request of the source (a POST to the authority, or a GET to
 * the local identity endpoint), gather the JSON, keep the token with its end,
 * wake the waiters.  The federated token file is read again each time, because
 * the kubelet replaces it.
 *
 * A refusal (4xx) ends the waiters at once; no answer, 429, 5xx and the identity
 * endpoint's 404 and 410 are tried again, five times over some six seconds.  A
 * renewal that fails leaves the old token in use until its own end.  Tokens and
 * secrets are wiped before their memory is freed and never logged.
 */
#include "cache/blob/token.h"

#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <openssl/crypto.h>

#define ANSWER_MAX     32768
#define REQUEST_MAX    32768
#define TRIES_MAX      5
#define RETRY_BASE_MS  200
#define RENEW_RETRY_MS 30000
#define MARGIN_MS      (5 * 60 * 1000)
/* Do not send a token that ends while the request is under way. */
#define LAST_USE_MS 10000

struct dz_token {
	struct dz_http_req http;
	struct dz_token_source source;
	struct dz_http *pool;
	const struct dz_log *log;
	struct dz_token_waiter *waiters;
	char *bearer; /* header line, or NULL */
	uint32_t generation;
	uint64_t renew_ms, end_ms; /* dz_now_ms */
	uint64_t due_ms;	   /* next try after a failure; 0: none */
	uint32_t tries;
	bool is_busy, is_closing;
	int status;
	char url[1024], secret_line[1024];
	char body[REQUEST_MAX];
	char answer[ANSWER_MAX + 1];
	size_t answer_len;
};

static const char *source_name(const struct dz_token *t)
{
	static const char *const names[] = { "workload identity", "service principal",
					     "managed identity (IMDS)", "managed identity" };

	return names[t->source.kind];
}

static void put(char *to, size_t cap, const char *text)
{
	size_t len = strlen(to);

	snprintf(to + len, cap - len, "%s", text);
}

/* Percent-encodes everything but what never needs it. */
static void put_encoded(char *to, size_t cap, const char *text)
{
	size_t len = strlen(to);

	for (; *text && len + 4 < cap; text++) {
		unsigned char c = (unsigned char)*text;
		bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
				(c >= 'A' && c <= 'Z') || strchr("-._~", c);

		len += (size_t)snprintf(to + len, cap - len, is_plain ? "%c" : "%%%02X", c);
	}
}

static void put_field(char *to, size_t cap, const char *name, const char *value)
{
	if (!value)
		return;
	put(to, cap, name);
	put_encoded(to, cap, value);
}

/* The file's text without the newline at its end.  Returns 0 or -errno. */
static int read_assertion(const struct dz_token *t, char *text, size_t cap)
{
	ssize_t n;
	int fd;

	if (!t->source.assertion_file) {
		snprintf(text, cap, "%s", t->source.assertion ? t->source.assertion : "");
		return text[0] ? 0 : -ENOENT;
	}
	fd = dz_sys_open(t->source.assertion_file, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	n = dz_sys_read(fd, text, cap - 1);
	dz_sys_close(fd);
	if (n < 0)
		return (int)n;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
		n--;
	text[n] = '\0';
	return n > 0 ? 0 : -ENODATA;
}

static int put_credential(struct dz_token *t)
{
	char assertion[16384];
	int ret;

	if (t->source.kind == DZ_TOKEN_SECRET) {
		put_field(t->body, REQUEST_MAX, "&client_secret=", t->source.secret);
		return 0;
	}
	ret = read_assertion(t, assertion, sizeof(assertion));
	if (ret < 0) {
		dz_error(t->log, "workload identity: %s: %s",
			 t->source.assertion_file ? t->source.assertion_file : "assertion",
			 dz_strerror(ret));
		/* Not the file's own error: -ENOENT would read as a missing blob. */
		return -EACCES;
	}
	put(t->body, REQUEST_MAX,
	    "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type"
	    "%3Ajwt-bearer");
	put_field(t->body, REQUEST_MAX, "&client_assertion=", assertion);
	OPENSSL_cleanse(assertion, sizeof(assertion));
	return 0;
}

static bool ends_in_slash(const char *text)
{
	size_t len = strlen(text);

	return len > 0 && text[len - 1] == '/';
}

/* A token for the whole service: "https://storage.azure.com/.default". */
static int build_exchange(struct dz_token *t)
{
	const char *authority = t->source.authority;
	const char *resource = t->source.resource;
	char scope[256];

	snprintf(t->url, sizeof(t->url), "%s%s%s/oauth2/v2.0/token", authority,
		 ends_in_slash(authority) ? "" : "/", t->source.tenant_id);
	snprintf(scope, sizeof(scope), "%s%s.default", resource,
		 ends_in_slash(resource) ? "" : "/");
	snprintf(t->body, REQUEST_MAX, "grant_type=client_credentials");
	put_field(t->body, REQUEST_MAX, "&client_id=", t->source.client_id);
	put_field(t->body, REQUEST_MAX, "&scope=", scope);
	t->http.verb = "POST";
	t->http.headers[t->http.n_headers++] = "Content-Type: application/x-www-form-urlencoded";
	t->http.body = t->body;
	return put_credential(t);
}

static void build_imds(struct dz_token *t)
{
	snprintf(t->url, sizeof(t->url), "%s/metadata/identity/oauth2/token?api-version=2018-02-01",
		 t->source.imds_host);
	put_field(t->url, sizeof(t->url), "&resource=", t->source.resource);
	put_field(t->url, sizeof(t->url), "&client_id=", t->source.client_id);
	put_field(t->url, sizeof(t->url), "&object_id=", t->source.object_id);
	put_field(t->url, sizeof(t->url), "&msi_res_id=", t->source.resource_id);
	t->http.headers[t->http.n_headers++] = "Metadata: true";
}

static void build_app_service(struct dz_token *t)
{
	const struct dz_token_source *s = &t->source;

	snprintf(t->url, sizeof(t->url), "%s%sapi-version=%s", s->endpoint,
		 strchr(s->endpoint, '?') ? "&" : "?",
		 s->is_old_endpoint ? "2017-09-01" : "2019-08-01");
	put_field(t->url, sizeof(t->url), "&resource=", s->resource);
	put_field(t->url, sizeof(t->url),
		  s->is_old_endpoint ? "&clientid=" : "&client_id=", s->client_id);
	snprintf(t->secret_line, sizeof(t->secret_line), "%s: %s",
		 s->is_old_endpoint ? "Secret" : "X-IDENTITY-HEADER",
		 s->endpoint_secret ? s->endpoint_secret : "");
	t->http.headers[t->http.n_headers++] = t->secret_line;
}

static struct dz_token *token_of(struct dz_http_req *req)
{
	return (struct dz_token *)req; /* `http` is its first member */
}

static int on_prepare(struct dz_http_req *req)
{
	struct dz_token *t = token_of(req);
	int ret = 0;

	req->n_headers = 0;
	req->verb = "GET";
	req->url = t->url;
	req->body = NULL;
	t->body[0] = '\0';
	/* The identity endpoints are on this host: a proxy would only lose them. */
	req->is_direct = t->source.kind == DZ_TOKEN_IMDS || t->source.kind == DZ_TOKEN_APP_SERVICE;
	if (t->source.kind == DZ_TOKEN_IMDS)
		build_imds(t);
	else if (t->source.kind == DZ_TOKEN_APP_SERVICE)
		build_app_service(t);
	else
		ret = build_exchange(t);
	req->body_len = strlen(t->body);
	return ret;
}

static void on_begin(struct dz_http_req *req, int status)
{
	struct dz_token *t = token_of(req);

	t->status = status;
	t->answer_len = 0;
}

static void on_header(struct dz_http_req *req DZ_UNUSED, const char *name DZ_UNUSED,
		      size_t name_len DZ_UNUSED, const char *value DZ_UNUSED,
		      size_t value_len DZ_UNUSED)
{
}

static int on_data(struct dz_http_req *req, const void *data, size_t n)
{
	struct dz_token *t = token_of(req);

	if (n > ANSWER_MAX - t->answer_len)
		return -EPROTO;
	memcpy(t->answer + t->answer_len, data, n);
	t->answer_len += n;
	return 0;
}

/* A number, or a string that holds one; -1 otherwise. */
static int64_t json_number(const cJSON *json, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, name);
	char *end;
	long long n;

	if (cJSON_IsNumber(item))
		return (int64_t)item->valuedouble;
	if (!cJSON_IsString(item) || !item->valuestring[0])
		return -1;
	n = strtoll(item->valuestring, &end, 10);
	return *end ? -1 : n;
}

/* Milliseconds that the token lives; ten minutes when the answer does not say. */
static uint64_t json_lifetime_ms(const cJSON *json)
{
	int64_t s = json_number(json, "expires_in");
	int64_t on = json_number(json, "expires_on");

	if (s < 0 && on >= 0)
		s = on - (int64_t)(dz_wall_ms() / 1000);
	if (s < 0 && on < 0)
		s = 600;
	return s > 0 ? (uint64_t)dz_min_u64((uint64_t)s, 7 * 86400) * 1000 : 0;
}

static void forget_bearer(struct dz_token *t)
{
	if (t->bearer)
		OPENSSL_cleanse(t->bearer, strlen(t->bearer));
	free(t->bearer);
	t->bearer = NULL;
}

/* True when every character may stand in a header. */
static bool is_plain_token(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

static int keep_token(struct dz_token *t, const cJSON *json)
{
	const cJSON *token = cJSON_GetObjectItemCaseSensitive(json, "access_token");
	uint64_t life_ms = json_lifetime_ms(json);
	uint64_t now = dz_now_ms();

	if (!cJSON_IsString(token) || !token->valuestring[0] || life_ms == 0 ||
	    !is_plain_token(token->valuestring))
		return -EPROTO;
	forget_bearer(t);
	if (asprintf(&t->bearer, "Authorization: Bearer %s", token->valuestring) < 0) {
		t->bearer = NULL;
		return -ENOMEM;
	}
	t->generation++;
	t->end_ms = now + life_ms;
	t->renew_ms =
		life_ms > 2 * MARGIN_MS ? t->end_ms - MARGIN_MS - now % 60000 : now + life_ms / 2;
	dz_info(t->log, "%s: token for %llu s", source_name(t),
		(unsigned long long)(life_ms / 1000));
	return 0;
}

static void wake_waiters(struct dz_token *t, int err)
{
	struct dz_token_waiter *w = t->waiters;
	struct dz_token_waiter *next;

	t->waiters = NULL;
	for (; w; w = next) {
		next = w->next;
		w->ready(w, err);
	}
}

/* The first line of what the authority says; it holds no secret. */
static void log_refusal(const struct dz_token *t, const cJSON *json, int err, const char *why)
{
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(json, "error");
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(json, "error_description");
	const char *code = cJSON_IsString(error) ? error->valuestring : "";
	const char *words = cJSON_IsString(text) ? text->valuestring : why;

	dz_error(t->log, "%s: no token from %.*s: status %d: %.60s %.*s (%s)", source_name(t),
		 (int)strcspn(t->url, "?"), t->url, t->status, code,
		 (int)dz_min_u64(strcspn(words, "\r\n"), 200), words, dz_strerror(err));
}

static bool is_worth_a_retry(const struct dz_token *t, int err)
{
	bool is_local = t->source.kind == DZ_TOKEN_IMDS || t->source.kind == DZ_TOKEN_APP_SERVICE;

	if (err)
		return err == -EHOSTUNREACH || err == -ECONNRESET || err == -ETIMEDOUT;
	return t->status == 429 || t->status >= 500 ||
	       (is_local && (t->status == 404 || t->status == 410));
}

/* What the waiters are told, in the words of dz_blob_req's done(). */
static int result_of(const struct dz_token *t, int err)
{
	if (err == -EHOSTUNREACH || err == -EACCES)
		return err;
	return err || t->status >= 500 || t->status == 429 ? -EIO : -EACCES;
}

static void fetch_failed(struct dz_token *t, const cJSON *json, int err, const char *why)
{
	bool again = is_worth_a_retry(t, err) && ++t->tries < TRIES_MAX;
	int result = result_of(t, err);

	if (t->is_closing || err == -ECANCELED) {
		wake_waiters(t, -ECANCELED);
		return;
	}
	if (again) {
		t->due_ms = dz_now_ms() + ((uint64_t)RETRY_BASE_MS << t->tries);
		return;
	}
	log_refusal(t, json, result, why);
	t->tries = 0;
	/* While the old token serves, renewal is tried again; without, on demand. */
	t->due_ms = t->bearer ? dz_now_ms() + RENEW_RETRY_MS : 0;
	wake_waiters(t, result);
}

static void on_done(struct dz_http_req *req, int err, const char *why)
{
	struct dz_token *t = token_of(req);
	cJSON *json = NULL;

	t->is_busy = false;
	OPENSSL_cleanse(t->body, sizeof(t->body));
	t->answer[t->answer_len] = '\0';
	if (!err)
		json = cJSON_Parse(t->answer);
	if (!err && t->status == 200)
		err = json ? keep_token(t, json) : -EPROTO;
	OPENSSL_cleanse(t->answer, sizeof(t->answer));
	if (err || t->status != 200) {
		fetch_failed(t, json, err, why);
	} else {
		t->tries = 0;
		t->due_ms = 0;
		wake_waiters(t, 0);
	}
	cJSON_Delete(json);
}

static void begin_fetch(struct dz_token *t)
{
	if (t->is_busy || t->is_closing)
		return;
	t->is_busy = true;
	t->due_ms = 0;
	t->status = 0;
	t->answer_len = 0;
	dz_http_submit(t->pool, &t->http);
}

const char *dz_token_header(struct dz_token *t, uint32_t *generation)
{
	uint64_t now = dz_now_ms();

	if (!t->bearer)
		return NULL;
	if (now + LAST_USE_MS >= t->end_ms && now >= t->renew_ms) {
		forget_bearer(t);
		return NULL;
	}
	if (now >= t->renew_ms && !t->due_ms)
		begin_fetch(t);
	*generation = t->generation;
	return t->bearer;
}

void dz_token_wait(struct dz_token *t, struct dz_token_waiter *w)
{
	w->next = t->waiters;
	t->waiters = w;
	if (!t->due_ms)
		begin_fetch(t);
}

void dz_token_reject(struct dz_token *t, uint32_t generation)
{
	if (generation == t->generation)
		forget_bearer(t);
}

uint64_t dz_token_step(struct dz_token *t)
{
	uint64_t now = dz_now_ms();

	if (!t->due_ms)
		return UINT64_MAX;
	if (now < t->due_ms)
		return t->due_ms - now;
	begin_fetch(t);
	return UINT64_MAX;
}

int dz_token_new(struct dz_token **out, const struct dz_token_source *source, struct dz_http *http,
		 const struct dz_log *log)
{
	struct dz_token *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->source = *source;
	t->pool = http;
	t->log = log;
	t->http.prepare = on_prepare;
	t->http.begin = on_begin;
	t->http.header = on_header;
	t->http.data = on_data;
	t->http.done = on_done;
	t->http.is_urgent = true;
	*out = t;
	return 0;
}

void dz_token_cancel(struct dz_token *t)
{
	t->is_closing = true;
	wake_waiters(t, -ECANCELED);
}

void dz_token_free(struct dz_token *t)
{
	if (!t)
		return;
	forget_bearer(t);
	OPENSSL_cleanse(t, sizeof(*t));
	free(t);
}
