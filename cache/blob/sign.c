/* SPDX-License-Identifier: MIT */
/*
 * A signature in three steps: write the text to sign (verb, twelve standard
 * headers, the x-ms-* headers in order, the resource with its query in order),
 * take its HMAC-SHA256 under the account's key, and print that in base64.
 *
 * Standard headers are looked up among the lines that will be sent, so what is
 * signed cannot drift from what is sent.  Only the length of a text can fail.
 */
#include "cache/blob/sign.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define PARAMS_MAX 32
#define X_MS_MAX   32

struct dz_sign_key {
	EVP_MAC *mac;
	EVP_MAC_CTX *ctx; /* keyed; copied for each signature */
};

/* A text that grows; `len` runs on past `cap` so that overflow shows at the end. */
struct text {
	char *p;
	size_t cap, len;
};

static void put_char(struct text *t, char c)
{
	if (t->len < t->cap)
		t->p[t->len] = c;
	t->len++;
}

static void put_bytes(struct text *t, const char *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		put_char(t, bytes[i]);
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static void put_lower(struct text *t, const char *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		put_char(t, lower(bytes[i]));
}

static const char *header_value(const char *line)
{
	const char *value = strchr(line, ':');

	if (!value)
		return "";
	value++;
	return value + strspn(value, " \t");
}

static size_t header_value_len(const char *value)
{
	size_t len = strlen(value);

	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	return len;
}

static const char *find_header(const struct dz_sign_request *r, const char *name)
{
	size_t len = strlen(name);
	uint32_t i;

	for (i = 0; i < r->n_headers; i++)
		if (strncasecmp(r->headers[i], name, len) == 0 && r->headers[i][len] == ':')
			return header_value(r->headers[i]);
	return "";
}

static void put_standard_headers(struct text *t, const struct dz_sign_request *r)
{
	static const char *const names[] = {
		"Content-Encoding",
		"Content-Language",
		"Content-Length",
		"Content-MD5",
		"Content-Type",
		"Date",
		"If-Modified-Since",
		"If-Match",
		"If-None-Match",
		"If-Unmodified-Since",
		"Range",
	};
	const char *value;
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(names); i++) {
		value = find_header(r, names[i]);
		/* Since 2015-02-21 a length of zero is signed as nothing. */
		if (strcmp(names[i], "Content-Length") == 0 && strcmp(value, "0") == 0)
			value = "";
		put_bytes(t, value, header_value_len(value));
		put_char(t, '\n');
	}
}

static int compare_headers(const void *a, const void *b)
{
	const char *x = *(const char *const *)a;
	const char *y = *(const char *const *)b;
	size_t x_len = strcspn(x, ":");
	size_t y_len = strcspn(y, ":");
	int order = strncasecmp(x, y, dz_min_u64(x_len, y_len));

	return order ? order : (x_len > y_len) - (x_len < y_len);
}

static void put_x_ms_headers(struct text *t, const struct dz_sign_request *r)
{
	const char *lines[X_MS_MAX];
	const char *value;
	size_t n = 0;
	size_t i;

	for (i = 0; i < r->n_headers && n < X_MS_MAX; i++)
		if (strncasecmp(r->headers[i], "x-ms-", 5) == 0)
			lines[n++] = r->headers[i];
	qsort(lines, n, sizeof(lines[0]), compare_headers);
	for (i = 0; i < n; i++) {
		value = header_value(lines[i]);
		put_lower(t, lines[i], strcspn(lines[i], ":"));
		put_char(t, ':');
		put_bytes(t, value, header_value_len(value));
		put_char(t, '\n');
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void put_decoded(struct text *t, const char *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (p[i] == '%' && i + 2 < len && hex_digit(p[i + 1]) >= 0 &&
		    hex_digit(p[i + 2]) >= 0) {
			put_char(t, (char)(hex_digit(p[i + 1]) << 4 | hex_digit(p[i + 2])));
			i += 2;
		} else {
			put_char(t, p[i]);
		}
	}
}

/* One `name=value` of the query, in place. */
struct param {
	const char *p;
	size_t name_len, len;
};

static int compare_params(const void *a, const void *b)
{
	const struct param *x = a;
	const struct param *y = b;
	int order = strncasecmp(x->p, y->p, dz_min_u64(x->name_len, y->name_len));

	if (order)
		return order;
	if (x->name_len != y->name_len)
		return x->name_len < y->name_len ? -1 : 1;
	/* Equal names keep their order: qsort is not stable. */
	return x->p < y->p ? -1 : x->p > y->p;
}

static size_t split_query(const char *query, struct param *params)
{
	size_t n = 0;

	while (*query && n < PARAMS_MAX) {
		params[n].p = query;
		params[n].len = strcspn(query, "&");
		params[n].name_len = dz_min_u64(strcspn(query, "="), params[n].len);
		query += params[n].len;
		query += *query == '&';
		n += params[n].len > 0;
	}
	qsort(params, n, sizeof(params[0]), compare_params);
	return n;
}

static bool is_same_name(const struct param *a, const struct param *b)
{
	return a->name_len == b->name_len && strncasecmp(a->p, b->p, a->name_len) == 0;
}

static void put_query(struct text *t, const char *query)
{
	struct param params[PARAMS_MAX];
	size_t n = split_query(query, params);
	size_t skip, i;

	for (i = 0; i < n; i++) {
		if (i > 0 && is_same_name(&params[i - 1], &params[i])) {
			put_char(t, ',');
		} else {
			put_char(t, '\n');
			put_lower(t, params[i].p, params[i].name_len);
			put_char(t, ':');
		}
		skip = dz_min_u64(params[i].name_len + 1, params[i].len);
		put_decoded(t, params[i].p + skip, params[i].len - skip);
	}
}

/* "/ACCOUNT" and the path; an account that stands in the path comes twice. */
static void put_resource(struct text *t, const struct dz_sign_request *r)
{
	const char *host = strstr(r->url, "://");
	const char *path = host ? strchr(host + 3, '/') : NULL;
	size_t len;

	put_char(t, '/');
	put_bytes(t, r->account, strlen(r->account));
	if (!path)
		path = "/";
	len = strcspn(path, "?");
	put_bytes(t, path, len);
	if (path[len] == '?')
		put_query(t, path + len + 1);
}

ssize_t dz_sign_text(const struct dz_sign_request *r, char *text, size_t cap)
{
	struct text t = { .p = text, .cap = cap, .len = 0 };

	put_bytes(&t, r->verb, strlen(r->verb));
	put_char(&t, '\n');
	put_standard_headers(&t, r);
	put_x_ms_headers(&t, r);
	put_resource(&t, r);
	return t.len <= cap ? (ssize_t)t.len : -ENAMETOOLONG;
}

int dz_sign(const struct dz_sign_key *key, const struct dz_sign_request *r,
	    char header[DZ_SIGN_HEADER_BYTES])
{
	char text[DZ_SIGN_TEXT_BYTES];
	unsigned char mac[32];
	unsigned char base64[48];
	size_t mac_len = 0;
	ssize_t len = dz_sign_text(r, text, sizeof(text));
	EVP_MAC_CTX *ctx;
	bool is_ok;
	int n;

	if (len < 0)
		return (int)len;
	ctx = EVP_MAC_CTX_dup(key->ctx);
	is_ok = ctx && EVP_MAC_update(ctx, (unsigned char *)text, (size_t)len) &&
		EVP_MAC_final(ctx, mac, &mac_len, sizeof(mac));
	EVP_MAC_CTX_free(ctx);
	if (!is_ok)
		return -EIO;
	EVP_EncodeBlock(base64, mac, (int)mac_len);
	n = snprintf(header, DZ_SIGN_HEADER_BYTES, "Authorization: SharedKey %s:%s", r->account,
		     (char *)base64);
	return n < DZ_SIGN_HEADER_BYTES ? 0 : -ENAMETOOLONG;
}

/* Returns the length of the key, or -EINVAL. */
static int decode_key(unsigned char key[96], const char *base64, size_t len)
{
	int n;

	if (len == 0 || len > 128 || len % 4 != 0)
		return -EINVAL;
	n = EVP_DecodeBlock(key, (const unsigned char *)base64, (int)len);
	if (n <= 0)
		return -EINVAL;
	/* EVP_DecodeBlock counts the padding as zero bytes. */
	n -= base64[len - 1] == '=';
	n -= base64[len - 2] == '=';
	return n;
}

static bool key_init(struct dz_sign_key *key, const unsigned char *bytes, size_t len)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	key->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (!key->mac)
		return false;
	key->ctx = EVP_MAC_CTX_new(key->mac);
	return key->ctx && EVP_MAC_init(key->ctx, bytes, len, params);
}

int dz_sign_key_new(struct dz_sign_key **out, const char *base64, size_t len)
{
	unsigned char bytes[96];
	struct dz_sign_key *key;
	int n = decode_key(bytes, base64, len);

	if (n < 0)
		return n;
	key = calloc(1, sizeof(*key));
	if (!key || !key_init(key, bytes, (size_t)n)) {
		dz_sign_key_free(key);
		n = -ENOMEM;
	}
	OPENSSL_cleanse(bytes, sizeof(bytes));
	if (n < 0)
		return n;
	*out = key;
	return 0;
}

void dz_sign_key_free(struct dz_sign_key *key)
{
	if (!key)
		return;
	EVP_MAC_CTX_free(key->ctx);
	EVP_MAC_free(key->mac);
	free(key);
}
