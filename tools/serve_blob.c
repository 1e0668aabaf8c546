/* SPDX-License-Identifier: MIT */
/*
 * Get, Put, Copy and Delete of a blob, its metadata, and containers.
 *
 * A read opens the file first and takes ETag and size from that descriptor, so
 * the bytes that follow belong to the ETag in the answer.  A write prepares a
 * temporary file, then checks its conditions and renames under one lock: of two
 * writers with the same condition one wins.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "tools/serve.h"

#define RANGE_MD5_MAX (4 * DZ_MIB)
/* Up to here a copy into the answer's buffer is cheaper than sendfile(2). */
#define SMALL_BYTES (64 * DZ_KIB)

/* ---- conditions ---- */

/* Is `etag` in the list of a condition header?  Quotes are optional. */
static bool etag_in(const char *list, const char *etag)
{
	size_t n = strlen(etag);

	for (const char *p = list; *p;) {
		size_t item;

		p += strspn(p, " ,");
		if (strncmp(p, "W/", 2) == 0)
			p += 2;
		item = strcspn(p, ",");
		while (item > 0 && p[item - 1] == ' ')
			item--;
		if ((item == 1 && *p == '*') || (item == n && memcmp(p, etag, n) == 0) ||
		    (item == n + 2 && *p == '"' && memcmp(p + 1, etag, n) == 0))
			return true;
		p += strcspn(p, ",");
	}
	return false;
}

/* A read that need not be repeated is 304, a write that must not happen 412. */
static bool refuse_none_match(struct serve_call *call, bool is_write, const char *none_match)
{
	if (!is_write && strcmp(none_match, "*") == 0)
		serve_error(call, "UnsatisfiableCondition");
	else if (!is_write)
		serve_error_status(call, 304, "ConditionNotMet");
	else if (strcmp(none_match, "*") == 0)
		serve_error(call, "BlobAlreadyExists");
	else
		serve_error(call, "ConditionNotMet");
	return false;
}

bool serve_conditions(struct serve_call *call, const struct serve_blob *b, bool is_write)
{
	const char *match = serve_header(&call->req, "if-match");
	const char *none_match = serve_header(&call->req, "if-none-match");
	const char *since = serve_header(&call->req, "if-modified-since");
	const char *unless = serve_header(&call->req, "if-unmodified-since");

	if ((match && (!b || !etag_in(match, b->etag))) ||
	    (unless && b && b->mtime.tv_sec > serve_parse_http_date(unless))) {
		serve_error(call, "ConditionNotMet");
		return false;
	}
	if (none_match && b && etag_in(none_match, b->etag))
		return refuse_none_match(call, is_write, none_match);
	if (since && !none_match && b && b->mtime.tv_sec <= serve_parse_http_date(since))
		return refuse_none_match(call, is_write, "");
	return true;
}

/* ---- answers ---- */

static void set_etag(struct serve_call *call, const struct serve_blob *b)
{
	char date[32];

	serve_http_date(date, b->mtime.tv_sec);
	serve_set(call, "ETag", "\"%s\"", b->etag);
	serve_set(call, "Last-Modified", "%s", date);
}

/* The lines up to the blocks are headers. */
static void set_props(struct serve_call *call, const struct serve_buf *props, bool is_range)
{
	for (const char *p = props->data; p && *p && *p != '#';) {
		size_t line = strcspn(p, "\n");

		/* Of a part, the MD5 of the whole has another name. */
		if (is_range && strncmp(p, "Content-MD5:", 12) == 0)
			serve_buf_str(&call->res.head, "x-ms-blob-");
		serve_buf_add(&call->res.head, p, line);
		serve_buf_str(&call->res.head, "\r\n");
		p += line + 1;
	}
}

static void set_blob(struct serve_call *call, const struct serve_blob *b, bool is_range)
{
	char date[32], type[8];

	set_etag(call, b);
	serve_http_date(date, b->mtime.tv_sec);
	serve_set(call, "x-ms-creation-time", "%s", date);
	serve_buf_str(&call->res.head, "x-ms-blob-type: BlockBlob\r\n"
				       "x-ms-lease-status: unlocked\r\n"
				       "x-ms-lease-state: available\r\n"
				       "x-ms-server-encrypted: true\r\n"
				       "Accept-Ranges: bytes\r\n");
	if (!serve_prop(&b->props, "Content-Type", type, sizeof(type)))
		serve_set(call, "Content-Type", "application/octet-stream");
	set_props(call, &b->props, is_range);
}

/* ---- Get Blob ---- */

/*
 * "bytes=A-" or "bytes=A-B", cut to the blob.  Returns 0, or -ERANGE: past the
 * end, or a form that the service does not have (suffixes, lists).
 */
static int parse_range(const char *text, uint64_t size, uint64_t *first, uint64_t *last)
{
	char *end;

	if (strncmp(text, "bytes=", 6) != 0 || text[6] < '0' || text[6] > '9')
		return -ERANGE;
	errno = 0;
	*first = strtoull(text + 6, &end, 10);
	if (*end != '-' || errno)
		return -ERANGE;
	*last = UINT64_MAX;
	if (end[1]) {
		if (end[1] < '0' || end[1] > '9')
			return -ERANGE;
		*last = strtoull(end + 1, &end, 10);
		if (*end || errno)
			return -ERANGE;
	}
	if (*first >= size || *last < *first)
		return -ERANGE;
	*last = dz_min_u64(*last, size - 1);
	return 0;
}

/* True and the range, or false with the call's error; the whole blob is no range. */
static bool wanted_range(struct serve_call *call, const struct serve_blob *b, uint64_t *first,
			 uint64_t *len, bool *is_range)
{
	const char *text = serve_header(&call->req, "x-ms-range");
	uint64_t last;

	if (!text)
		text = serve_header(&call->req, "range");
	*first = 0;
	*len = b->size;
	*is_range = text && strcmp(call->req.method, "GET") == 0 && !call->fault.range_ignored;
	if (!*is_range)
		return true;
	if (parse_range(text, b->size, first, &last) < 0) {
		serve_error(call, "InvalidRange");
		serve_set(call, "Content-Range", "bytes */%llu", (unsigned long long)b->size);
		return false;
	}
	*len = last - *first + 1;
	return true;
}

static void set_range(struct serve_call *call, const struct serve_blob *b, uint64_t first,
		      uint64_t len)
{
	uint64_t shift = call->fault.range_wrong ? 1 : 0;

	call->res.status = 206;
	serve_set(call, "Content-Range", "bytes %llu-%llu/%llu",
		  (unsigned long long)(first + shift),
		  (unsigned long long)(first + len - 1 + shift), (unsigned long long)b->size);
}

static void set_md5(struct serve_call *call, const void *data, size_t len)
{
	unsigned char md5[EVP_MAX_MD_SIZE], base64[32];

	EVP_Digest(data, len, md5, NULL, EVP_md5(), NULL);
	EVP_EncodeBlock(base64, md5, 16);
	serve_set(call, "Content-MD5", "%s", (char *)base64);
}

/* Small bodies travel with their head in one packet; `fd` is used up. */
static void set_body(struct serve_call *call, int fd, uint64_t first, uint64_t len, bool with_md5)
{
	struct serve_buf *body = &call->res.body;
	ssize_t n = -1;

	if (len <= SMALL_BYTES || with_md5) {
		serve_buf_reserve(body, len);
		n = pread(fd, body->data, len, (off_t)first);
	}
	if (n == (ssize_t)len) {
		body->len = len;
		close(fd);
		if (with_md5)
			set_md5(call, body->data, len);
		return;
	}
	call->res.file_fd = fd;
	call->res.file_off = first;
	call->res.file_len = len;
}

static void answer_get(struct serve_call *call, const struct serve_blob *b, int fd)
{
	const char *range_md5 = serve_header(&call->req, "x-ms-range-get-content-md5");
	bool with_md5 = range_md5 && strcasecmp(range_md5, "true") == 0;
	uint64_t first, len;
	bool is_range;

	if (!wanted_range(call, b, &first, &len, &is_range))
		goto out_close;
	if (with_md5 && (!is_range || len > RANGE_MD5_MAX)) {
		serve_error(call, "InvalidHeaderValue");
		goto out_close;
	}
	call->res.status = 200;
	if (is_range)
		set_range(call, b, first, len);
	set_blob(call, b, is_range);
	call->res.head_len = len;
	if (strcmp(call->req.method, "GET") == 0 && len > 0 && !serve_query(&call->req, "comp")) {
		set_body(call, fd, first, len, with_md5);
		return;
	}
out_close:
	if (fd >= 0)
		close(fd);
}

void serve_op_get(struct serve_call *call)
{
	struct serve_blob b = { 0 };
	char path[SERVE_PATH_MAX];
	int fd = -1;
	int ret = serve_blob_path(path, call->req.container, call->req.blob);

	/* A name that no file can have is a blob that is not there. */
	ret = ret < 0 ? -ENOENT : serve_blob_get(call->srv, path, &b, &fd);
	if (ret < 0)
		serve_error_errno(call, ret);
	else if (serve_conditions(call, &b, false))
		answer_get(call, &b, fd);
	else if (fd >= 0)
		close(fd);
	serve_buf_free(&b.props);
}

/* ---- writes ---- */

/* The blob that is there now against the conditions; under the lock. */
static bool may_replace(struct serve_call *call, const char *path)
{
	struct serve_blob b;
	int ret = serve_blob_get(call->srv, path, &b, NULL);
	bool is_allowed;

	if (ret < 0 && ret != -ENOENT) {
		serve_error_errno(call, ret);
		return false;
	}
	is_allowed = serve_conditions(call, ret == 0 ? &b : NULL, true);
	serve_buf_free(&b.props);
	return is_allowed;
}

static void set_new_etag(struct serve_call *call, const char *path)
{
	struct serve_blob b;

	if (serve_blob_get(call->srv, path, &b, NULL) == 0)
		set_etag(call, &b);
	serve_buf_free(&b.props);
}

void serve_replace(struct serve_call *call, const struct serve_buf *props, int status)
{
	struct serve *srv = call->srv;
	char path[SERVE_PATH_MAX];
	int ret = serve_blob_path(path, call->req.container, call->req.blob);

	if (ret < 0) {
		serve_error_errno(call, ret);
		return;
	}
	pthread_mutex_lock(&srv->publish);
	if (!serve_container_exists(srv, call->req.container)) {
		serve_error(call, "ContainerNotFound");
	} else if (may_replace(call, path)) {
		ret = serve_publish(srv, path, call->tmp, props);
		if (ret < 0) {
			serve_error_errno(call, ret);
		} else {
			call->tmp[0] = '\0';
			call->res.status = status;
			set_new_etag(call, path);
		}
	}
	pthread_mutex_unlock(&srv->publish);
}

/* Content-Type and the like as Put Blob has them, then the MD5 of the body. */
static void put_props(struct serve_call *call, struct serve_buf *props)
{
	unsigned char md5[EVP_MAX_MD_SIZE], base64[32];
	static const char *const names[][3] = {
		{ "content-type", "x-ms-blob-content-type", "Content-Type" },
		{ "content-encoding", "x-ms-blob-content-encoding", "Content-Encoding" },
		{ "content-language", "x-ms-blob-content-language", "Content-Language" },
		{ "cache-control", "x-ms-blob-cache-control", "Cache-Control" },
	};

	for (size_t i = 0; i < DZ_ARRAY_LEN(names); i++) {
		const char *value = serve_header(&call->req, names[i][0]);

		if (value && *value && !serve_header(&call->req, names[i][1]))
			serve_buf_printf(props, "%s: %s\n", names[i][2], value);
	}
	if (call->md5 && !serve_header(&call->req, "x-ms-blob-content-md5")) {
		EVP_DigestFinal_ex(call->md5, md5, NULL);
		EVP_EncodeBlock(base64, md5, 16);
		serve_buf_printf(props, "Content-MD5: %s\n", (char *)base64);
		serve_set(call, "Content-MD5", "%s", (char *)base64);
	}
	serve_props_of_request(&call->req, true, props);
}

void serve_op_put(struct serve_call *call)
{
	const char *type = serve_header(&call->req, "x-ms-blob-type");
	struct serve_buf props = { 0 };

	if (!type) {
		serve_error(call, "MissingRequiredHeader");
		return;
	}
	if (strcmp(type, "BlockBlob") != 0) {
		serve_error(call, "NotImplemented");
		return;
	}
	put_props(call, &props);
	serve_set(call, "x-ms-request-server-encrypted", "true");
	serve_replace(call, &props, 201);
	serve_buf_free(&props);
}

/* "http://host/ACCOUNT/CONTAINER/BLOB?..." -> our path; false: not on this server. */
static bool parse_source(struct serve_call *call, const char *url, char *path)
{
	const char *host = strstr(url, "://");
	const char *rest = host ? strchr(host + 3, '/') : NULL;
	size_t account = strlen(call->srv->account);
	char decoded[SERVE_PATH_MAX];
	char *slash;
	size_t n;

	if (!rest || strncmp(rest + 1, call->srv->account, account) != 0 ||
	    rest[1 + account] != '/')
		return false;
	rest += account + 2;
	n = strcspn(rest, "?");
	if (n >= sizeof(decoded) || !serve_percent_decode(decoded, rest, n))
		return false;
	slash = strchr(decoded, '/');
	if (!slash)
		return false;
	*slash = '\0';
	return serve_blob_path(path, decoded, slash + 1) == 0;
}

/* The source's own conditions, x-ms-source-if-match. */
static bool source_is_as_expected(struct serve_call *call, const struct serve_blob *b)
{
	const char *match = serve_header(&call->req, "x-ms-source-if-match");

	if (!match || etag_in(match, b->etag))
		return true;
	serve_error(call, "ConditionNotMet");
	return false;
}

/* Metadata of the request replaces the source's; content headers are the source's. */
static void copy_props(struct serve_call *call, const struct serve_buf *from, struct serve_buf *to)
{
	struct serve_buf own = { 0 };

	serve_props_of_request(&call->req, false, &own);
	for (const char *p = from->data; p && *p;) {
		size_t line = strcspn(p, "\n");

		if (own.len == 0 || strncmp(p, "x-ms-meta-", 10) != 0)
			serve_buf_add(to, p, line + (p[line] == '\n'));
		p += line + (p[line] == '\n');
	}
	/* In front of the blocks, which end the headers. */
	if (own.len) {
		serve_buf_add(&own, to->data, to->len);
		serve_buf_free(to);
		*to = own;
	}
}

static void copy_from(struct serve_call *call, const struct serve_blob *b, int fd)
{
	struct serve_buf props = { 0 };
	int ret = 0;

	call->tmp_fd = serve_tmp_open(call->srv, call->tmp);
	if (call->tmp_fd < 0)
		ret = call->tmp_fd;
	else if (fd >= 0)
		ret = serve_copy(fd, 0, b->size, call->tmp_fd);
	if (ret < 0) {
		serve_error_errno(call, ret);
		return;
	}
	copy_props(call, &b->props, &props);
	serve_set(call, "x-ms-copy-id", "00000000-0000-0000-0000-%012llx",
		  (unsigned long long)serve_now_ns() & 0xffffffffffff);
	serve_set(call, "x-ms-copy-status", "success");
	serve_replace(call, &props, 202);
	serve_buf_free(&props);
}

void serve_op_copy(struct serve_call *call)
{
	const char *url = serve_header(&call->req, "x-ms-copy-source");
	struct serve_blob b = { 0 };
	char path[SERVE_PATH_MAX];
	int fd = -1;

	/* A SAS gives no right to read another blob of the account. */
	if (call->by_sas && !strstr(url, "sig="))
		serve_error(call, "CannotVerifyCopySource");
	else if (!parse_source(call, url, path) || serve_blob_get(call->srv, path, &b, &fd) < 0)
		serve_error(call, "CannotVerifyCopySource");
	else if (source_is_as_expected(call, &b))
		copy_from(call, &b, fd);
	if (fd >= 0)
		close(fd);
	serve_buf_free(&b.props);
}

void serve_op_delete(struct serve_call *call)
{
	struct serve *srv = call->srv;
	char path[SERVE_PATH_MAX];
	struct serve_blob b = { 0 };
	int ret = serve_blob_path(path, call->req.container, call->req.blob);

	pthread_mutex_lock(&srv->publish);
	ret = ret < 0 ? -ENOENT : serve_blob_get(srv, path, &b, NULL);
	if (ret == 0 && serve_conditions(call, &b, true))
		ret = serve_unlink(srv, path);
	pthread_mutex_unlock(&srv->publish);
	serve_buf_free(&b.props);
	if (ret < 0)
		serve_error_errno(call, ret);
	else if (call->res.status == 0)
		call->res.status = 202;
}

/* The metadata of the request in the place of the old. */
static void replace_meta(struct serve_call *call, struct serve_buf *props)
{
	struct serve_buf kept = { 0 };

	serve_props_of_request(&call->req, false, &kept);
	for (const char *p = props->data; p && *p;) {
		size_t line = strcspn(p, "\n");

		if (strncmp(p, "x-ms-meta-", 10) != 0)
			serve_buf_add(&kept, p, line + (p[line] == '\n'));
		p += line + (p[line] == '\n');
	}
	serve_buf_free(props);
	*props = kept;
}

void serve_op_set_meta(struct serve_call *call)
{
	struct serve *srv = call->srv;
	char path[SERVE_PATH_MAX];
	struct serve_blob b = { 0 };
	int ret = serve_blob_path(path, call->req.container, call->req.blob);

	pthread_mutex_lock(&srv->publish);
	ret = ret < 0 ? -ENOENT : serve_blob_get(srv, path, &b, NULL);
	if (ret == 0 && serve_conditions(call, &b, true)) {
		replace_meta(call, &b.props);
		ret = serve_publish_props(srv, path, &b.props);
		if (ret == 0) {
			call->res.status = 200;
			set_new_etag(call, path);
		}
	}
	pthread_mutex_unlock(&srv->publish);
	serve_buf_free(&b.props);
	if (ret < 0)
		serve_error_errno(call, ret);
}

/* ---- containers ---- */

static void set_container(struct serve_call *call)
{
	struct stat st = { 0 };
	char date[32];

	fstatat(call->srv->root_fd, call->req.container, &st, 0);
	serve_http_date(date, st.st_ctim.tv_sec);
	serve_set(call, "ETag", "\"0x8%014llX\"", (unsigned long long)st.st_ino & 0xffffffffffffff);
	serve_set(call, "Last-Modified", "%s", date);
}

void serve_op_container_get(struct serve_call *call)
{
	if (!serve_container_exists(call->srv, call->req.container)) {
		serve_error(call, "ContainerNotFound");
		return;
	}
	set_container(call);
	serve_set(call, "x-ms-lease-status", "unlocked");
	serve_set(call, "x-ms-lease-state", "available");
	serve_set(call, "x-ms-has-immutability-policy", "false");
	serve_set(call, "x-ms-has-legal-hold", "false");
	call->res.status = 200;
}

/* 3 to 63 lower-case letters, digits and single hyphens. */
static bool is_container_name(const char *name)
{
	size_t n = strlen(name);

	return n >= 3 && n <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n &&
	       name[0] != '-' && name[n - 1] != '-' && !strstr(name, "--");
}

void serve_op_container_put(struct serve_call *call)
{
	if (!is_container_name(call->req.container)) {
		serve_error(call, "InvalidResourceName");
	} else if (mkdirat(call->srv->root_fd, call->req.container, 0777) == 0) {
		set_container(call);
		call->res.status = 201;
	} else if (errno == EEXIST) {
		serve_error(call, "ContainerAlreadyExists");
	} else {
		serve_error_errno(call, -errno);
	}
}
