/* SPDX-License-Identifier: MIT */
/*
 * Who may do what, by the rules of the Blob service:
 *
 * - SharedKey: HMAC-SHA256 over the verb, eleven headers, the x-ms headers and
 *   the resource; the date within 15 minutes of ours.
 * - SAS, of the account or of the service: HMAC over the fields of the query,
 *   then start, expiry, protocol, address, resource and permission.
 * - Bearer: the token that stands in the file of --token-file, read each time.
 * - None: only with --anonymous.
 *
 * A refusal says in AuthenticationErrorDetail which string was signed here, as
 * the service does: that is how a client's mistake is found.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tools/serve.h"

#define SKEW_MAX_S (15 * 60)

static bool signature_is(struct serve *srv, const struct serve_buf *text, const char *claimed)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	unsigned char base64[EVP_MAX_MD_SIZE * 2];
	unsigned int mac_len = 0;
	size_t n;

	if (!HMAC(EVP_sha256(), srv->key, (int)srv->key_len, (unsigned char *)text->data, text->len,
		  mac, &mac_len))
		return false;
	n = (size_t)EVP_EncodeBlock(base64, mac, (int)mac_len);
	return strlen(claimed) == n && CRYPTO_memcmp(base64, claimed, n) == 0;
}

static bool refuse_signature(struct serve_call *call, const struct serve_buf *signed_text)
{
	struct serve_buf detail = { 0 };

	serve_buf_printf(&detail,
			 "The MAC signature found in the HTTP request is not the same as any "
			 "computed signature. Server used following string to sign: '%s'.",
			 signed_text->data);
	serve_error_detail(call, "AuthenticationFailed", detail.data);
	serve_buf_free(&detail);
	return false;
}

static bool refuse(struct serve_call *call, const char *code, const char *detail)
{
	serve_error_detail(call, code, detail);
	return false;
}

/* ---- SharedKey ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct serve_pair *const *)a)->name,
		      (*(const struct serve_pair *const *)b)->name);
}

static int by_name_and_value(const void *a, const void *b)
{
	int names = by_name(a, b);

	return names ? names
		     : strcmp((*(const struct serve_pair *const *)a)->value,
			      (*(const struct serve_pair *const *)b)->value);
}

/* The eleven lines between the verb and the x-ms headers. */
static void sign_standard_headers(const struct serve_req *req, struct serve_buf *text)
{
	static const char *const names[] = { "content-encoding",
					     "content-language",
					     "content-length",
					     "content-md5",
					     "content-type",
					     "date",
					     "if-modified-since",
					     "if-match",
					     "if-none-match",
					     "if-unmodified-since",
					     "range" };

	for (size_t i = 0; i < DZ_ARRAY_LEN(names); i++) {
		const char *value = serve_header(req, names[i]);
		bool is_zero_length = i == 2 && value && strcmp(value, "0") == 0;
		bool is_replaced_date = i == 5 && serve_header(req, "x-ms-date");

		serve_buf_printf(text, "%s\n",
				 value && !is_zero_length && !is_replaced_date ? value : "");
	}
}

static void sign_ms_headers(struct serve_req *req, struct serve_buf *text)
{
	struct serve_pair *sorted[SERVE_HEADERS_MAX];
	size_t n = 0;

	for (size_t i = 0; i < req->n_headers; i++) {
		if (strncmp(req->headers[i].name, "x-ms-", 5) == 0)
			sorted[n++] = &req->headers[i];
	}
	qsort(sorted, n, sizeof(*sorted), by_name);
	for (size_t i = 0; i < n; i++)
		serve_buf_printf(text, "%s:%s\n", sorted[i]->name, sorted[i]->value);
}

static void sign_resource(struct serve_call *call, struct serve_buf *text)
{
	struct serve_req *req = &call->req;
	struct serve_pair *sorted[SERVE_QUERY_MAX];

	serve_buf_printf(text, "/%s%s", call->srv->account, req->path);
	for (size_t i = 0; i < req->n_query; i++)
		sorted[i] = &req->query[i];
	qsort(sorted, req->n_query, sizeof(*sorted), by_name_and_value);
	for (size_t i = 0; i < req->n_query; i++) {
		if (i > 0 && strcmp(sorted[i]->name, sorted[i - 1]->name) == 0)
			serve_buf_printf(text, ",%s", sorted[i]->value);
		else
			serve_buf_printf(text, "\n%s:%s", sorted[i]->name, sorted[i]->value);
	}
}

static bool check_date(struct serve_call *call)
{
	const char *text = serve_header(&call->req, "x-ms-date");
	time_t date, now = time(NULL);

	if (!text)
		text = serve_header(&call->req, "date");
	if (!text)
		return refuse(call, "AuthenticationFailed", "x-ms-date is missing");
	date = serve_parse_http_date(text);
	if (date == -1)
		return refuse(call, "AuthenticationFailed", "x-ms-date is not a date");
	if (date < now - SKEW_MAX_S || date > now + SKEW_MAX_S)
		return refuse(call, "AuthenticationFailed",
			      "Request date header too old: it differs from the server's clock by "
			      "more than 15 minutes");
	return true;
}

/* "ACCOUNT:SIGNATURE" */
static bool check_shared_key(struct serve_call *call, const char *credentials)
{
	const char *colon = strchr(credentials, ':');
	size_t n = colon ? (size_t)(colon - credentials) : 0;
	struct serve_buf text = { 0 };
	bool is_good;

	if (!colon || strncmp(credentials, call->srv->account, n) != 0 ||
	    call->srv->account[n] != '\0')
		return refuse(call, "AuthenticationFailed", "another account");
	if (!check_date(call))
		return false;
	serve_buf_printf(&text, "%s\n", call->req.method);
	sign_standard_headers(&call->req, &text);
	sign_ms_headers(&call->req, &text);
	sign_resource(call, &text);
	is_good = signature_is(call->srv, &text, colon + 1);
	if (!is_good)
		refuse_signature(call, &text);
	serve_buf_free(&text);
	return is_good;
}

/* ---- SAS ---- */

static const char *field(const struct serve_req *req, const char *name)
{
	const char *value = serve_query(req, name);

	return value ? value : "";
}

static void sign_fields(const struct serve_req *req, const char *const *names,
			struct serve_buf *text)
{
	for (; *names; names++)
		serve_buf_printf(text, "%s\n", field(req, *names));
}

/* The versions are dates: they compare as text. */
static void sign_service_sas(struct serve_call *call, struct serve_buf *text)
{
	const struct serve_req *req = &call->req;
	const char *version = field(req, "sv");
	bool is_blob = strcmp(field(req, "sr"), "b") == 0;
	static const char *const head[] = { "sp", "st", "se", NULL };
	static const char *const middle[] = { "si", "sip", "spr", "sv", NULL };
	static const char *const tail[] = { "rscc", "rscd", "rsce", "rscl", "rsct", NULL };

	sign_fields(req, head, text);
	serve_buf_printf(text, "/blob/%s/%s%s%s\n", call->srv->account, req->container,
			 is_blob ? "/" : "", is_blob ? req->blob : "");
	sign_fields(req, middle, text);
	if (strcmp(version, "2018-11-09") >= 0)
		serve_buf_printf(text, "%s\n%s\n", field(req, "sr"), field(req, "snapshot"));
	if (strcmp(version, "2020-12-06") >= 0)
		serve_buf_printf(text, "%s\n", field(req, "ses"));
	sign_fields(req, tail, text);
	text->data[--text->len] = '\0'; /* no newline after the last field */
}

static void sign_account_sas(struct serve_call *call, struct serve_buf *text)
{
	static const char *const names[] = {
		"sp", "ss", "srt", "st", "se", "sip", "spr", "sv", NULL
	};

	serve_buf_printf(text, "%s\n", call->srv->account);
	sign_fields(&call->req, names, text);
	if (strcmp(field(&call->req, "sv"), "2020-12-06") >= 0)
		serve_buf_printf(text, "%s\n", field(&call->req, "ses"));
}

/* "2025-01-31", "2025-01-31T10:00Z" or "2025-01-31T10:00:00Z"; -1: none of them. */
static time_t parse_sas_time(const char *text)
{
	static const char *const forms[] = { "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d" };

	for (size_t i = 0; i < DZ_ARRAY_LEN(forms); i++) {
		struct tm tm = { 0 };
		const char *end = strptime(text, forms[i], &tm);

		if (end && *end == '\0')
			return timegm(&tm);
	}
	return -1;
}

static bool check_sas_time(struct serve_call *call)
{
	const char *start = serve_query(&call->req, "st");
	time_t expiry = parse_sas_time(field(&call->req, "se"));
	time_t now = time(NULL);

	if (expiry == -1 || (start && parse_sas_time(start) == -1))
		return refuse(call, "AuthenticationFailed", "Signature fields not well formed.");
	if (expiry <= now || (start && parse_sas_time(start) > now))
		return refuse(call, "AuthenticationFailed",
			      "Signature not valid in the specified time frame");
	return true;
}

/* Loopback has one client address. */
static bool check_sas_address(struct serve_call *call)
{
	const char *sip = serve_query(&call->req, "sip");

	if (sip && strcmp(sip, "127.0.0.1") != 0 && strncmp(sip, "127.0.0.0-", 10) != 0 &&
	    strcmp(sip, "0.0.0.0-255.255.255.255") != 0)
		return refuse(call, "AuthorizationSourceIPMismatch", NULL);
	if (strcmp(field(&call->req, "spr"), "https") == 0)
		return refuse(call, "AuthorizationProtocolMismatch", NULL);
	return true;
}

static bool check_sas_resource(struct serve_call *call, bool is_account_sas)
{
	const struct serve_req *req = &call->req;
	char need = *req->blob ? 'o' : *req->container ? 'c' : 's';

	if (!is_account_sas) {
		/* A service SAS opens blobs and the listing, not the container itself. */
		if (*req->blob || (call->op && *call->op->allowed_by == 'l' &&
				   strcmp(field(req, "sr"), "c") == 0))
			return true;
		return refuse(call, "AuthorizationFailure", NULL);
	}
	if (!strchr(field(req, "ss"), 'b'))
		return refuse(call, "AuthorizationServiceMismatch", NULL);
	/* Listing blobs is an operation on the container. */
	if (!strchr(field(req, "srt"), need))
		return refuse(call, "AuthorizationResourceTypeMismatch", NULL);
	return true;
}

static bool check_sas_permission(struct serve_call *call)
{
	const char *have = field(&call->req, "sp");
	const char *need = call->op ? call->op->allowed_by : "";

	if (*need == '\0')
		need = strcmp(call->req.method, "PUT") == 0 ? "wc" : "rl";
	if (strpbrk(have, need))
		return true;
	return refuse(call, "AuthorizationPermissionMismatch", NULL);
}

static bool check_sas(struct serve_call *call)
{
	bool is_account_sas = serve_query(&call->req, "ss") != NULL;
	struct serve_buf text = { 0 };
	bool is_good;

	if (*field(&call->req, "sv") == '\0' ||
	    (!is_account_sas && *field(&call->req, "sr") == '\0'))
		return refuse(call, "AuthenticationFailed", "sv, sr or ss is missing");
	if (is_account_sas)
		sign_account_sas(call, &text);
	else
		sign_service_sas(call, &text);
	is_good = signature_is(call->srv, &text, field(&call->req, "sig"));
	if (!is_good)
		refuse_signature(call, &text);
	serve_buf_free(&text);
	call->by_sas = true;
	return is_good && check_sas_time(call) && check_sas_address(call) &&
	       check_sas_resource(call, is_account_sas) && check_sas_permission(call);
}

/* ---- Bearer ---- */

static bool check_bearer(struct serve_call *call, const char *token)
{
	char want[8192];
	ssize_t n = -1;
	int fd;

	if (!call->srv->token_file)
		return refuse(call, "InvalidAuthenticationInfo", NULL);
	fd = open(call->srv->token_file, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, want, sizeof(want) - 1);
		close(fd);
	}
	while (n > 0 && (want[n - 1] == '\n' || want[n - 1] == ' '))
		n--;
	if (n <= 0 || strlen(token) != (size_t)n || CRYPTO_memcmp(token, want, (size_t)n) != 0)
		return refuse(call, "InvalidAuthenticationInfo", NULL);
	return true;
}

bool serve_auth(struct serve_call *call)
{
	const char *authorization = serve_header(&call->req, "authorization");

	if (authorization && strncasecmp(authorization, "SharedKey ", 10) == 0)
		return check_shared_key(call, authorization + 10);
	if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
		return check_bearer(call, authorization + 7);
	if (authorization)
		return refuse(call, "AuthenticationFailed", "neither SharedKey nor Bearer");
	if (serve_query(&call->req, "sig"))
		return check_sas(call);
	if (call->srv->is_anonymous)
		return true;
	return refuse(call, "NoAuthenticationInformation", NULL);
}
