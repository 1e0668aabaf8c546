/* SPDX-License-Identifier: MIT */
/*
 * Headers are taken one by one as they come; what we do not know is skipped, a
 * malformed value of one that we need marks the answer as bad.  Deciding is left
 * to the end of the headers: dz_answer_check_get believes a GET only if status,
 * Content-Range, Content-Length, ETag and total size tell one story.
 */
#include "cache/blob/answer.h"

#include "cache/blob/date.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* A header's value, or a piece of it. */
struct value {
	const char *p;
	size_t len;
};

void dz_answer_begin(struct dz_answer *a, int status)
{
	memset(a, 0, sizeof(*a));
	a->status = status;
	a->mtime_s = -1;
	a->date_s = -1;
}

/* Digits from the front of `v`; false when there are none or too many. */
static bool take_number(struct value *v, uint64_t *number)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < v->len && v->p[i] >= '0' && v->p[i] <= '9'; i++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(v->p[i] - '0'), &n))
			return false;
	v->p += i;
	v->len -= i;
	*number = n;
	return i > 0;
}

static bool take_text(struct value *v, const char *text)
{
	size_t len = strlen(text);

	if (v->len < len || strncasecmp(v->p, text, len) != 0)
		return false;
	v->p += len;
	v->len -= len;
	return true;
}

static bool value_is(struct value v, const char *text)
{
	return v.len == strlen(text) && strncasecmp(v.p, text, v.len) == 0;
}

static bool copy_value(char *to, size_t cap, struct value v)
{
	if (v.len >= cap)
		return false;
	memcpy(to, v.p, v.len);
	to[v.len] = '\0';
	return true;
}

static void take_length(struct dz_answer *a, struct value v)
{
	a->has_length = take_number(&v, &a->length) && v.len == 0;
	a->is_bad |= !a->has_length;
}

/* "bytes 0-4194303/8388608"; "bytes * /8388608" with a 416. */
static void take_range(struct dz_answer *a, struct value v)
{
	a->has_range = true;
	if (!take_text(&v, "bytes ")) {
		a->is_bad = true;
		return;
	}
	if (take_text(&v, "*")) {
		a->is_bad |= !take_text(&v, "/") || !take_number(&v, &a->total) || v.len != 0;
		return;
	}
	a->is_range_known = take_number(&v, &a->first) && take_text(&v, "-") &&
			    take_number(&v, &a->last) && take_text(&v, "/") &&
			    take_number(&v, &a->total) && v.len == 0;
	a->is_bad |= !a->is_range_known;
}

static void take_etag(struct dz_answer *a, struct value v)
{
	if (v.len >= 2 && v.p[0] == '"' && v.p[v.len - 1] == '"') {
		v.p++;
		v.len -= 2;
	}
	a->is_bad |= !copy_value(a->etag, sizeof(a->etag), v);
}

static void take_code(struct dz_answer *a, struct value v)
{
	copy_value(a->code, sizeof(a->code), v);
}

static void take_request_id(struct dz_answer *a, struct value v)
{
	copy_value(a->request_id, sizeof(a->request_id), v);
}

static void take_mtime(struct dz_answer *a, struct value v)
{
	a->mtime_s = dz_date_parse(v.p, v.len);
}

static void take_date(struct dz_answer *a, struct value v)
{
	a->date_s = dz_date_parse(v.p, v.len);
}

/* Seconds; the other form, a date, is not used by the service. */
static void take_retry_after(struct dz_answer *a, struct value v)
{
	uint64_t s;

	if (take_number(&v, &s) && v.len == 0 && !a->retry_after_ms)
		a->retry_after_ms = dz_min_u64(s, 86400) * 1000;
}

static void take_retry_after_ms(struct dz_answer *a, struct value v)
{
	uint64_t ms;

	if (take_number(&v, &ms) && v.len == 0)
		a->retry_after_ms = dz_min_u64(ms, 86400000);
}

static void take_folder(struct dz_answer *a, struct value v)
{
	a->is_dir |= value_is(v, "true");
}

static void take_resource_type(struct dz_answer *a, struct value v)
{
	a->is_dir |= value_is(v, "directory");
}

void dz_answer_header(struct dz_answer *a, const char *name, size_t name_len, const char *value,
		      size_t value_len)
{
	static const struct {
		const char *name;
		void (*take)(struct dz_answer *a, struct value v);
	} headers[] = {
		{ "content-length", take_length },
		{ "content-range", take_range },
		{ "etag", take_etag },
		{ "last-modified", take_mtime },
		{ "date", take_date },
		{ "x-ms-error-code", take_code },
		{ "x-ms-request-id", take_request_id },
		{ "retry-after", take_retry_after },
		{ "retry-after-ms", take_retry_after_ms },
		{ "x-ms-retry-after-ms", take_retry_after_ms },
		{ "x-ms-meta-hdi_isfolder", take_folder },
		{ "x-ms-resource-type", take_resource_type },
	};
	struct value v = { value, value_len };
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(headers); i++) {
		if (strlen(headers[i].name) != name_len ||
		    strncasecmp(headers[i].name, name, name_len) != 0)
			continue;
		headers[i].take(a, v);
		return;
	}
}

void dz_answer_error_body(struct dz_answer *a, const void *data, size_t n)
{
	size_t room = sizeof(a->body) - 1 - a->body_len;

	n = dz_min_u64(n, room);
	memcpy(a->body + a->body_len, data, n);
	a->body_len += n;
}

void dz_answer_finish(struct dz_answer *a)
{
	const char *code, *end;

	a->body[a->body_len] = '\0';
	code = a->code[0] ? NULL : strstr(a->body, "<Code>");
	end = code ? strchr(code + 6, '<') : NULL;
	if (end)
		take_code(a, (struct value){ code + 6, (size_t)(end - code - 6) });
}

/* The whole blob instead of a range is the same bytes if we asked from its start. */
static int check_whole(const struct dz_answer *a, uint64_t off, uint64_t end, uint64_t *stop)
{
	if (a->has_range || !a->has_length || off != 0 || a->length > end)
		return -EPROTO;
	*stop = a->length;
	return 0;
}

static int check_part(const struct dz_answer *a, uint64_t off, uint64_t end, uint64_t *stop)
{
	/* Azurite's way to say 416 to a range that begins at the very end. */
	if (a->is_range_known && a->first == off && a->total == off && a->last + 1 == off &&
	    a->has_length && a->length == 0)
		return -ERANGE;
	if (!a->is_range_known || a->first != off || a->last < a->first || a->last >= a->total)
		return -EPROTO;
	if (a->last + 1 != dz_min_u64(end, a->total))
		return -EPROTO;
	if (a->has_length && a->length != a->last + 1 - a->first)
		return -EPROTO;
	*stop = a->last + 1;
	return 0;
}

int dz_answer_check_get(const struct dz_answer *a, uint64_t off, uint64_t end, const char *etag,
			const struct dz_blob_res *known, uint64_t *stop)
{
	uint64_t total = a->status == 200 ? a->length : a->total;
	int ret;

	if (a->is_bad || !a->etag[0])
		return -EPROTO;
	/* The service refuses (412) before it comes to this; a proxy may not. */
	if (etag[0] && strcmp(etag, a->etag) != 0)
		return -ESTALE;
	if (a->status == 200)
		ret = check_whole(a, off, end, stop);
	else if (a->status == 206)
		ret = check_part(a, off, end, stop);
	else
		ret = -EPROTO;
	if (ret == 0 && known && known->size != total)
		ret = -EPROTO;
	return ret;
}
