/* SPDX-License-Identifier: MIT */
/*
 * List Blobs and List Containers.
 *
 * A page is one walk over the tree in the byte order of the full names.  It
 * begins at the larger of prefix and marker by bisection in each directory on
 * the way, so the last page costs what the first does, and it stats only the
 * entries that it writes.
 *
 * The marker holds the last name of the page before.  A page that would end
 * exactly with the listing has no NextMarker: the walk looks one entry ahead.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "tools/serve.h"

#define PAGE_MAX   5000
#define MARKER_MAX 2048

struct page {
	struct serve_call *call;
	struct serve_buf *xml;
	const char *prefix;
	const char *delimiter;
	bool with_meta;
	unsigned max;
	unsigned n;
	bool is_full; /* and there is more */
	/* Everything up to here was on earlier pages. */
	char after[SERVE_PATH_MAX];
	bool after_is_prefix; /* ... with all that begins with it */
	/* What this page wrote last. */
	char last[SERVE_PATH_MAX];
	bool last_is_prefix;
};

static bool starts_with(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

/* ---- the marker: "dz1!" kind, base64 of the name ---- */

static void write_marker(struct serve_buf *out, const char *name, bool is_prefix)
{
	size_t n = strlen(name);
	unsigned char *base64 = malloc(n / 3 * 4 + 8);

	if (!base64)
		return;
	EVP_EncodeBlock(base64, (const unsigned char *)name, (int)n);
	serve_buf_printf(out, "dz1!%c%s", is_prefix ? 'p' : 'b', (char *)base64);
	free(base64);
}

static bool read_marker(struct page *p, const char *marker)
{
	int n;

	if (!*marker)
		return true;
	if (strlen(marker) > MARKER_MAX || strncmp(marker, "dz1!", 4) != 0 ||
	    (marker[4] != 'p' && marker[4] != 'b'))
		return false;
	p->after_is_prefix = marker[4] == 'p';
	if (marker[5] == '\0')
		return true;
	n = serve_base64_decode((unsigned char *)p->after, sizeof(p->after) - 1, marker + 5);
	if (n < 0)
		return false;
	p->after[n] = '\0';
	return true;
}

/* ---- entries ---- */

static void write_name(struct serve_buf *xml, const char *name)
{
	if (serve_is_xml_safe(name)) {
		serve_buf_str(xml, "<Name>");
		serve_buf_xml(xml, name);
	} else {
		serve_buf_str(xml, "<Name Encoded=\"true\">");
		serve_buf_percent(xml, name);
	}
	serve_buf_str(xml, "</Name>");
}

/* Notes the entry; false when the page has no room left. */
static bool take_place(struct page *p, const char *name, bool is_prefix)
{
	if (p->n == p->max) {
		p->is_full = true;
		return false;
	}
	p->n++;
	snprintf(p->last, sizeof(p->last), "%s", name);
	p->last_is_prefix = is_prefix;
	return true;
}

static void write_prop(struct serve_buf *xml, const struct serve_buf *props, const char *name,
		       const char *otherwise)
{
	char value[1024];

	if (!serve_prop(props, name, value, sizeof(value)))
		snprintf(value, sizeof(value), "%s", otherwise);
	serve_buf_printf(xml, "<%s>", name);
	serve_buf_xml(xml, value);
	serve_buf_printf(xml, "</%s>", name);
}

static void write_meta(struct serve_buf *xml, const struct serve_buf *props)
{
	serve_buf_str(xml, "<Metadata>");
	for (const char *p = props->data; p && *p; p += strcspn(p, "\n") + 1) {
		int key = (int)strcspn(p + 10, ":");
		char value[8192];

		if (strncmp(p, "x-ms-meta-", 10) != 0)
			continue;
		snprintf(value, sizeof(value), "%.*s", (int)strcspn(p + 12 + key, "\n"),
			 p + 12 + key);
		serve_buf_printf(xml, "<%.*s>", key, p + 10);
		serve_buf_xml(xml, value);
		serve_buf_printf(xml, "</%.*s>", key, p + 10);
	}
	serve_buf_str(xml, "</Metadata>");
}

static void write_blob(struct page *p, const char *name, const struct serve_blob *b)
{
	struct serve_buf *xml = p->xml;
	char date[32];

	serve_http_date(date, b->mtime.tv_sec);
	serve_buf_str(xml, "<Blob>");
	write_name(xml, name);
	serve_buf_printf(xml,
			 "<Properties><Creation-Time>%s</Creation-Time>"
			 "<Last-Modified>%s</Last-Modified><Etag>%s</Etag>"
			 "<Content-Length>%llu</Content-Length>",
			 date, date, b->etag, (unsigned long long)b->size);
	write_prop(xml, &b->props, "Content-Type", "application/octet-stream");
	write_prop(xml, &b->props, "Content-MD5", "");
	serve_buf_str(xml, "<BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>"
			   "<AccessTierInferred>true</AccessTierInferred>"
			   "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
			   "<ServerEncrypted>true</ServerEncrypted></Properties>");
	if (p->with_meta)
		write_meta(xml, &b->props);
	serve_buf_str(xml, "</Blob>");
}

static bool emit_prefix(struct page *p, const char *name)
{
	if (p->last_is_prefix && strcmp(name, p->last) == 0)
		return true;
	if (!take_place(p, name, true))
		return false;
	serve_buf_str(p->xml, "<BlobPrefix>");
	write_name(p->xml, name);
	serve_buf_str(p->xml, "</BlobPrefix>");
	return true;
}

/* The blob, or the prefix that hides it.  False: the page is full. */
static bool emit_blob(struct page *p, const char *name)
{
	struct serve *srv = p->call->srv;
	const char *cut = *p->delimiter ? strstr(name + strlen(p->prefix), p->delimiter) : NULL;
	char path[SERVE_PATH_MAX];
	struct serve_blob b = { 0 };

	if (cut) {
		snprintf(path, sizeof(path), "%.*s",
			 (int)(cut - name + (ptrdiff_t)strlen(p->delimiter)), name);
		return emit_prefix(p, path);
	}
	/* Gone since the directory was read, or a pipe: no blob. */
	if (serve_blob_path(path, p->call->req.container, name) < 0 ||
	    serve_blob_get(srv, path, &b, NULL) < 0)
		return true;
	if (take_place(p, name, false))
		write_blob(p, name, &b);
	serve_buf_free(&b.props);
	return !p->is_full;
}

/* ---- the walk ---- */

/* Is `name` (a blob, or with '/' all below it) wholly before this page? */
static bool is_before(const struct page *p, const char *name, bool is_dir)
{
	if (p->after_is_prefix && starts_with(name, p->after))
		return true;
	if (is_dir && starts_with(p->after, name))
		return false;
	return strcmp(name, p->after) <= 0 && *p->after;
}

/* First entry that can be on the page. */
static size_t first_entry(const struct page *p, const struct serve_dir *dir, const char *base)
{
	const char *start = strcmp(p->prefix, p->after) > 0 ? p->prefix : p->after;
	size_t lo = 0, hi = dir->n_names;

	if (!starts_with(start, base))
		return 0;
	start += strlen(base);
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(dir->names[mid], start) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	/* "a/" sorts before the "a/b" where the page begins, and holds it. */
	return lo > 0 && starts_with(start, dir->names[lo - 1]) ? lo - 1 : lo;
}

static bool walk(struct page *p, const char *base);

/* A directory: one prefix, or all that is below.  False: the page is full. */
static bool visit_dir(struct page *p, const char *name)
{
	char path[SERVE_PATH_MAX];

	if (strcmp(p->delimiter, "/") != 0 || !starts_with(name, p->prefix) ||
	    strcmp(name, p->prefix) == 0)
		return walk(p, name);
	if ((size_t)snprintf(path, sizeof(path), "%s/%.*s", p->call->req.container,
			     (int)strlen(name) - 1, name) >= sizeof(path))
		return true;
	return !serve_dir_has_files(p->call->srv, path) || emit_prefix(p, name);
}

/* One entry.  False: the page is full, or the prefix lies behind. */
static bool visit(struct page *p, const char *name)
{
	bool is_dir = name[strlen(name) - 1] == '/';
	bool is_inside = starts_with(name, p->prefix);

	if (!is_inside && !(is_dir && starts_with(p->prefix, name)))
		return strcmp(name, p->prefix) < 0;
	if (is_before(p, name, is_dir))
		return true;
	return is_dir ? visit_dir(p, name) : emit_blob(p, name);
}

/* `base` is "" or the name of a directory with its '/'. */
static bool walk(struct page *p, const char *base)
{
	struct serve *srv = p->call->srv;
	char path[SERVE_PATH_MAX], name[SERVE_PATH_MAX];
	const struct serve_dir *dir;
	bool goes_on = true;

	snprintf(path, sizeof(path), "%s%s%.*s", p->call->req.container, *base ? "/" : "",
		 *base ? (int)strlen(base) - 1 : 0, base);
	dir = serve_dir_get(srv, path);
	if (!dir)
		return true;
	for (size_t i = first_entry(p, dir, base); goes_on && i < dir->n_names; i++) {
		if ((size_t)snprintf(name, sizeof(name), "%s%s", base, dir->names[i]) <
		    sizeof(name))
			goes_on = visit(p, name);
	}
	serve_dir_put(srv, dir);
	return goes_on;
}

/* ---- the answer ---- */

/* maxresults; false with the call's error. */
static bool read_max(struct serve_call *call, unsigned *max)
{
	const char *text = serve_query(&call->req, "maxresults");
	char *end;
	long n;

	*max = PAGE_MAX;
	if (!text)
		return true;
	errno = 0;
	n = strtol(text, &end, 10);
	if (end == text || *end) {
		serve_error(call, "InvalidQueryParameterValue");
		return false;
	}
	if (n <= 0) {
		serve_error(call, "OutOfRangeQueryParameterValue");
		return false;
	}
	*max = n > PAGE_MAX ? PAGE_MAX : (unsigned)n;
	return true;
}

static const char *query_or_empty(struct serve_call *call, const char *name)
{
	const char *value = serve_query(&call->req, name);

	return value ? value : "";
}

static void write_element(struct serve_buf *xml, const char *name, const char *value)
{
	if (!*value)
		return;
	serve_buf_printf(xml, "<%s>", name);
	serve_buf_xml(xml, value);
	serve_buf_printf(xml, "</%s>", name);
}

/* The service begins its lists with a byte order mark. */
static void write_start(struct serve_call *call, struct serve_buf *xml)
{
	serve_buf_printf(xml,
			 "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>"
			 "<EnumerationResults ServiceEndpoint=\"http://127.0.0.1:%u/%s\"",
			 call->srv->port, call->srv->account);
	if (*call->req.container)
		serve_buf_printf(xml, " ContainerName=\"%s\"", call->req.container);
	serve_buf_str(xml, ">");
	write_element(xml, "Prefix", query_or_empty(call, "prefix"));
	write_element(xml, "Marker", query_or_empty(call, "marker"));
	write_element(xml, "MaxResults", query_or_empty(call, "maxresults"));
	write_element(xml, "Delimiter", query_or_empty(call, "delimiter"));
}

static void write_end(struct page *p, const char *given_marker)
{
	struct serve_buf *xml = p->xml;

	serve_buf_str(xml, "</Blobs><NextMarker>");
	if (p->call->fault.empty_page && *given_marker)
		serve_buf_xml(xml, given_marker);
	else if (p->call->fault.empty_page)
		write_marker(xml, "", false);
	else if (p->is_full)
		write_marker(xml, p->last, p->last_is_prefix);
	serve_buf_str(xml, "</NextMarker></EnumerationResults>");
}

void serve_op_list(struct serve_call *call)
{
	const char *marker = query_or_empty(call, "marker");
	struct page p = { .call = call,
			  .xml = &call->res.body,
			  .prefix = query_or_empty(call, "prefix"),
			  .delimiter = query_or_empty(call, "delimiter") };

	p.with_meta = strstr(query_or_empty(call, "include"), "metadata") != NULL;
	if (!serve_container_exists(call->srv, call->req.container)) {
		serve_error(call, "ContainerNotFound");
		return;
	}
	if (!read_max(call, &p.max))
		return;
	if (!read_marker(&p, marker)) {
		serve_error(call, "InvalidMarker");
		return;
	}
	write_start(call, p.xml);
	serve_buf_str(p.xml, "<Blobs>");
	if (!call->fault.empty_page)
		walk(&p, "");
	write_end(&p, marker);
	serve_set(call, "Content-Type", "application/xml");
	call->res.status = 200;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void write_container(struct serve_call *call, const char *name)
{
	struct serve_buf *xml = &call->res.body;
	struct stat st;
	char date[32];

	if (!serve_container_exists(call->srv, name) ||
	    !starts_with(name, query_or_empty(call, "prefix")) ||
	    fstatat(call->srv->root_fd, name, &st, 0) < 0)
		return;
	serve_http_date(date, st.st_ctim.tv_sec);
	serve_buf_printf(xml,
			 "<Container><Name>%s</Name><Properties><Last-Modified>%s</Last-Modified>"
			 "<Etag>0x8%014llX</Etag></Properties></Container>",
			 name, date, (unsigned long long)st.st_ino & 0xffffffffffffff);
}

/* One page: nobody has 5,000 containers in a folder of test data. */
void serve_op_containers(struct serve_call *call)
{
	struct dirent **names = NULL;
	int n = scandirat(call->srv->root_fd, ".", &names, NULL, by_bytes);

	write_start(call, &call->res.body);
	serve_buf_str(&call->res.body, "<Containers>");
	for (int i = 0; i < n; i++) {
		write_container(call, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	serve_buf_str(&call->res.body, "</Containers><NextMarker/></EnumerationResults>");
	serve_set(call, "Content-Type", "application/xml");
	call->res.status = 200;
}
