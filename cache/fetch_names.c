// SPDX-License-Identifier: MIT
/*
 * Fetching names.
 *
 * A directory: List with delimiter, page by page, entries collected in private
 * memory; after the last page sort, merge (a marker blob "x" and the prefix "x/"
 * are one directory), publish.  After a first page that is not the last the
 * request is marked long, so that whoever wants one name only asks for it alone.
 *
 * One name: HEAD; at 404, List below "name/": anything there makes it a
 * directory.  Both answers, found or absent, are published.
 *
 * A failure publishes nothing: what was known stays until its time to live.
 */
#include "cache/fetch_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fetch_names {
	struct dz_name_in *in; /* name and etag are offsets into text until the end */
	uint64_t n, cap;
	char *text;
	size_t text_len, text_cap;
	size_t prefix_len; /* of the names that Blob sends */
	uint64_t below;	   /* one name: entries found below it */
	char prefix[2 * DZ_NAME_MAX + 24];
	char marker[2048];
};

static void names_free(struct fetch_names *x)
{
	if (!x)
		return;
	free(x->in);
	free(x->text);
	free(x);
}

static void names_end(struct fetch_job *job, int err, const char *action)
{
	if (err < 0)
		dz_fetch_why(job, err, action);
	names_free(job->names);
	dz_fetch_end(job, err);
}

static bool names_text(struct fetch_names *x, const char *s, size_t len, size_t *off)
{
	if (x->text_len + len + 1 > x->text_cap) {
		size_t cap = (x->text_cap + len + 1) * 2 + 65536;
		char *bigger = realloc(x->text, cap);

		if (!bigger)
			return false;
		x->text = bigger;
		x->text_cap = cap;
	}
	*off = x->text_len;
	memcpy(x->text + x->text_len, s, len);
	x->text[x->text_len + len] = '\0';
	x->text_len += len + 1;
	return true;
}

static bool names_room(struct fetch_names *x)
{
	struct dz_name_in *bigger;

	if (x->n < x->cap)
		return true;
	bigger = realloc(x->in, (x->cap * 2 + 1024) * sizeof(*bigger));
	if (!bigger)
		return false;
	x->in = bigger;
	x->cap = x->cap * 2 + 1024;
	return true;
}

/* Can it be the name of a file?  Blob allows "a//b", "." and names of 1,024 bytes. */
static bool names_is_usable(const char *s, size_t len)
{
	return len > 0 && len <= 255 && !memchr(s, '/', len) && !memchr(s, '\0', len) &&
	       !(len == 1 && s[0] == '.') && !(len == 2 && s[0] == '.' && s[1] == '.');
}

static int names_entry(struct dz_blob_req *http, const struct dz_blob_entry *e)
{
	struct fetch_job *job = http->arg;
	struct fetch_names *x = job->names;
	const char *name = e->name + x->prefix_len;
	struct dz_name_in *in;
	size_t len, name_off, etag_off;

	if (e->name_len < x->prefix_len || memcmp(e->name, x->prefix, x->prefix_len) != 0)
		return 0;
	len = e->name_len - x->prefix_len;
	x->below++;
	if (len && name[len - 1] == '/')
		len--;
	if (!names_is_usable(name, len))
		return 0;
	if (!names_room(x) || !names_text(x, name, len, &name_off) ||
	    !names_text(x, e->etag, strlen(e->etag), &etag_off))
		return -ENOMEM;
	in = &x->in[x->n++];
	in->name = (const char *)name_off;
	in->etag = (const char *)etag_off;
	in->name_len = (uint32_t)len;
	in->is_dir = e->is_dir;
	in->size = e->is_dir ? 0 : e->size;
	in->mtime_s = e->mtime_s;
	return 0;
}

static int names_compare(const void *a, const void *b)
{
	const struct dz_name_in *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c ? c : (int)y->is_dir - (int)x->is_dir;
}

/* Offsets to pointers, sorted, one of each: a directory before a blob of its name. */
static void names_finish(struct fetch_names *x)
{
	uint64_t kept = 0;

	for (uint64_t i = 0; i < x->n; i++) {
		x->in[i].name = x->text + (size_t)x->in[i].name;
		x->in[i].etag = x->text + (size_t)x->in[i].etag;
	}
	if (x->n)
		qsort(x->in, x->n, sizeof(*x->in), names_compare);
	for (uint64_t i = 0; i < x->n; i++) {
		if (!kept || strcmp(x->in[kept - 1].name, x->in[i].name) != 0)
			x->in[kept++] = x->in[i];
	}
	x->n = kept;
}

static void names_list_page(struct fetch_job *job);

static void names_list_done(struct dz_blob_req *http, int err)
{
	struct fetch_job *job = http->arg;
	struct fetch_names *x = job->names;

	if (err < 0) {
		names_end(job, err, "list");
		return;
	}
	if (http->res.next_marker[0]) {
		snprintf(x->marker, sizeof(x->marker), "%s", http->res.next_marker);
		if (!dz_lease_holds(job->f->seg, job->lease, job->word)) {
			names_end(job, -ECANCELED, "list");
			return;
		}
		__atomic_fetch_or(&job->f->seg->requests[job->lease].flags, DZ_REQ_LONG,
				  __ATOMIC_RELAXED);
		dz_lease_progress(job->f->seg, job->lease, DZ_LEASE_ALL);
		names_list_page(job);
		return;
	}
	names_finish(x);
	err = dz_names_put_dir(job->f->seg, job->mount.id, job->req.name, strlen(job->req.name),
			       x->in, x->n);
	names_end(job, err, "list");
}

static void names_list_page(struct fetch_job *job)
{
	int ret;

	job->http.op = DZ_BLOB_LIST;
	job->http.delimiter = true;
	job->http.marker = job->names->marker;
	job->http.entry = names_entry;
	job->http.done = names_list_done;
	ret = dz_fetch_submit(job);
	if (ret < 0)
		names_end(job, ret, "list");
}

/* Blob's prefix of what lies below the name. */
static int names_set_prefix(struct fetch_job *job)
{
	struct fetch_names *x = job->names;
	int n = snprintf(x->prefix, sizeof(x->prefix), "%s%s%s", job->mount.prefix, job->req.name,
			 job->req.name[0] ? "/" : "");

	if (n < 0 || (size_t)n >= sizeof(x->prefix) || (size_t)n >= sizeof(job->name))
		return -ENAMETOOLONG;
	x->prefix_len = (size_t)n;
	memcpy(job->name, x->prefix, x->prefix_len + 1);
	return 0;
}

static void names_put_one(struct fetch_job *job, bool found, bool is_dir)
{
	const struct dz_blob_res *r = &job->http.res;
	const char *slash = strrchr(job->req.name, '/');
	const char *last = slash ? slash + 1 : job->req.name;
	struct dz_name_in in = { .name = last,
				 .name_len = (uint32_t)strlen(last),
				 .is_dir = is_dir,
				 .size = is_dir ? 0 : r->size,
				 .mtime_s = is_dir ? 0 : r->mtime_s,
				 .etag = is_dir ? "" : r->etag };
	int ret = dz_names_put_attr(job->f->seg, job->mount.id, job->req.name,
				    strlen(job->req.name), found ? &in : NULL);

	names_end(job, ret, "look up");
}

static void names_below_done(struct dz_blob_req *http, int err)
{
	struct fetch_job *job = http->arg;

	if (err < 0 && err != -ENOENT)
		names_end(job, err, "look up");
	else
		names_put_one(job, job->names->below > 0, true);
}

static void names_head_done(struct dz_blob_req *http, int err)
{
	struct fetch_job *job = http->arg;
	int ret;

	if (err != -ENOENT) {
		if (err < 0)
			names_end(job, err, "look up");
		else
			names_put_one(job, true, http->res.is_dir);
		return;
	}
	ret = names_set_prefix(job);
	if (ret == 0) {
		job->http.op = DZ_BLOB_LIST;
		job->http.delimiter = true;
		job->http.marker = NULL;
		job->http.entry = names_entry;
		job->http.done = names_below_done;
		ret = dz_fetch_submit(job);
	}
	if (ret < 0)
		names_end(job, ret, "look up");
}

void dz_fetch_names_start(struct fetch_job *job)
{
	int ret;

	job->names = calloc(1, sizeof(*job->names));
	if (!job->names) {
		names_end(job, -ENOMEM, "look up");
		return;
	}
	if (job->req.kind == DZ_KIND_DIR) {
		ret = names_set_prefix(job);
		if (ret == 0)
			names_list_page(job);
	} else {
		job->http.op = DZ_BLOB_HEAD;
		job->http.done = names_head_done;
		ret = dz_fetch_submit(job);
	}
	if (ret < 0)
		names_end(job, ret, "look up");
}
