/* SPDX-License-Identifier: MIT */
/*
 * Block blobs in pieces: Put Block, Put Block List, Get Block List.
 *
 * 1. A staged block is a file in the blob's folder of .dz-serve/blocks, named
 *    by its id in hexadecimal.  The blob stays as it is, or absent.
 * 2. A commit copies the listed blocks one after the other: staged ones from
 *    their files, committed ones out of the blob that is there.
 * 3. The copy becomes the blob at once; its properties list the blocks with
 *    their sizes, for step 2 of a later commit.  The staged blocks are removed.
 *
 * A commit that is refused leaves blob and staged blocks untouched.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/serve.h"

#define ID_MAX	   88 /* base64 of 64 bytes */
#define BLOCKS_MAX 50000

/* ---- staged blocks ---- */

/* A block id as a file name: base64 has '/'. */
static void hex_of_id(char *hex, const char *id)
{
	*hex = '\0';
	for (; *id; id++)
		hex += snprintf(hex, 3, "%02x", (unsigned char)*id);
}

static void id_of_hex(char *id, const char *hex)
{
	unsigned c;

	while (sscanf(hex, "%2x", &c) == 1) {
		*id++ = (char)c;
		hex += 2;
	}
	*id = '\0';
}

/* Decoded length of a block id, or -1. */
static int id_length(const char *id)
{
	unsigned char raw[ID_MAX];
	int n = strlen(id) <= ID_MAX ? serve_base64_decode(raw, sizeof(raw), id) : -1;

	return n >= 1 && n <= 64 ? n : -1;
}

static DIR *open_blocks(struct serve *srv, const char *dir)
{
	int fd = openat(srv->root_fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (!stream && fd >= 0)
		close(fd);
	return stream;
}

/* Next block file of the stream, NULL at the end. */
static const char *next_block(DIR *stream)
{
	struct dirent *e;

	while (stream && (e = readdir(stream))) {
		if (e->d_name[0] != '.')
			return e->d_name;
	}
	return NULL;
}

/* All ids of a blob's staged blocks have the same length. */
static bool fits_others(struct serve *srv, const char *dir, const char *id)
{
	DIR *stream = open_blocks(srv, dir);
	const char *other = next_block(stream);
	char other_id[ID_MAX * 2];
	bool fits = true;

	if (other && strlen(other) <= 2 * ID_MAX) {
		id_of_hex(other_id, other);
		fits = id_length(other_id) == id_length(id);
	}
	if (stream)
		closedir(stream);
	return fits;
}

static int stage(struct serve_call *call, const char *dir, const char *id)
{
	char path[512], hex[ID_MAX * 2 + 1];
	int ret = serve_mkdirs(call->srv, dir);

	if (ret < 0)
		return ret;
	hex_of_id(hex, id);
	snprintf(path, sizeof(path), "%s/%s", dir, hex);
	if (renameat(call->srv->root_fd, call->tmp, call->srv->root_fd, path) < 0)
		return -errno;
	call->tmp[0] = '\0';
	return 0;
}

void serve_op_block(struct serve_call *call)
{
	const char *id = serve_query(&call->req, "blockid");
	char path[SERVE_PATH_MAX], dir[128];
	int ret;

	if (!id || id_length(id) < 0) {
		serve_error(call, "InvalidQueryParameterValue");
		return;
	}
	if (!serve_container_exists(call->srv, call->req.container)) {
		serve_error(call, "ContainerNotFound");
		return;
	}
	ret = serve_blob_path(path, call->req.container, call->req.blob);
	serve_blocks_path(dir, path);
	if (ret == 0 && !fits_others(call->srv, dir, id)) {
		serve_error(call, "InvalidBlobOrBlock");
		return;
	}
	if (ret == 0)
		ret = stage(call, dir, id);
	if (ret < 0) {
		serve_error_errno(call, ret);
		return;
	}
	call->res.status = 201;
	serve_set(call, "x-ms-request-server-encrypted", "true");
}

static void remove_staged(struct serve *srv, const char *dir)
{
	DIR *stream = open_blocks(srv, dir);
	const char *name;

	while ((name = next_block(stream)))
		unlinkat(dirfd(stream), name, 0);
	if (stream)
		closedir(stream);
	unlinkat(srv->root_fd, dir, AT_REMOVEDIR);
}

/* ---- commit ---- */

struct commit {
	struct serve *srv;
	char dir[128];		/* staged blocks */
	struct serve_blob blob; /* what is there now */
	int blob_fd;
	int out_fd;
	struct serve_buf lines; /* "#block ID SIZE" of the new blob */
	unsigned n;
};

/* Offset and size of a committed block; false: it is not in the blob. */
static bool find_committed(const struct commit *c, const char *id, uint64_t *off, uint64_t *size)
{
	const char *p = c->blob.props.data ? strstr(c->blob.props.data, "#block ") : NULL;
	char have[ID_MAX + 1];

	for (*off = 0; p; p = strstr(p + 1, "#block ")) {
		unsigned long long n;

		if (sscanf(p, "#block %88s %llu", have, &n) != 2)
			return false;
		*size = n;
		if (strcmp(have, id) == 0)
			return true;
		*off += n;
	}
	return false;
}

/* Appends the staged block; -ENOENT when there is none. */
static int add_staged(struct commit *c, const char *id, uint64_t *size)
{
	char path[512], hex[ID_MAX * 2 + 1];
	struct stat st;
	int fd, ret;

	hex_of_id(hex, id);
	snprintf(path, sizeof(path), "%s/%s", c->dir, hex);
	fd = openat(c->srv->root_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = fstat(fd, &st) < 0 ? -errno : serve_copy(fd, 0, (uint64_t)st.st_size, c->out_fd);
	*size = (uint64_t)st.st_size;
	close(fd);
	return ret;
}

static int add_committed(struct commit *c, const char *id, uint64_t *size)
{
	uint64_t off;

	if (c->blob_fd < 0 || !find_committed(c, id, &off, size))
		return -ENOENT;
	return serve_copy(c->blob_fd, off, *size, c->out_fd);
}

/* `where` is Latest, Uncommitted or Committed. */
static int add_block(struct commit *c, const char *where, const char *id)
{
	uint64_t size = 0;
	int ret = -ENOENT;

	if (++c->n > BLOCKS_MAX || id_length(id) < 0)
		return -ENOENT;
	if (strcmp(where, "Committed") != 0)
		ret = add_staged(c, id, &size);
	if (ret == -ENOENT && strcmp(where, "Uncommitted") != 0)
		ret = add_committed(c, id, &size);
	if (ret == 0)
		serve_buf_printf(&c->lines, "#block %s %llu\n", id, (unsigned long long)size);
	return ret;
}

/*
 * The elements of <BlockList>.  -EBADMSG: not a block list; -ENOENT: a block is
 * unknown.
 */
static int add_blocks(struct commit *c, const char *xml)
{
	const char *p = xml ? strstr(xml, "<BlockList") : NULL;
	const char *end = p ? strstr(p, "</BlockList>") : NULL;
	int ret = 0;

	if (p && !end && strstr(p, "/>"))
		return 0; /* <BlockList/>: an empty blob */
	if (!end)
		return -EBADMSG;
	p = strchr(p, '>');
	while (ret == 0 && (p = strchr(p + 1, '<')) && p < end) {
		char where[16], close[16], id[ID_MAX + 1];

		if (sscanf(p, "<%11[A-Za-z]> %88[A-Za-z0-9+/=] </%11[A-Za-z]>", where, id, close) !=
			    3 ||
		    strcmp(where, close) != 0 ||
		    (strcmp(where, "Latest") != 0 && strcmp(where, "Committed") != 0 &&
		     strcmp(where, "Uncommitted") != 0))
			return -EBADMSG;
		ret = add_block(c, where, id);
		p = strstr(p, "</");
	}
	return ret;
}

static void finish_commit(struct serve_call *call, struct commit *c)
{
	struct serve_buf props = { 0 };

	serve_props_of_request(&call->req, true, &props);
	serve_buf_add(&props, c->lines.data, c->lines.len);
	serve_set(call, "x-ms-request-server-encrypted", "true");
	serve_replace(call, &props, 201);
	if (call->res.status == 201)
		remove_staged(call->srv, c->dir);
	serve_buf_free(&props);
}

void serve_op_commit(struct serve_call *call)
{
	struct commit c = { .srv = call->srv, .blob_fd = -1 };
	char path[SERVE_PATH_MAX];
	int ret = serve_blob_path(path, call->req.container, call->req.blob);

	if (ret < 0) {
		serve_error_errno(call, ret);
		return;
	}
	serve_blocks_path(c.dir, path);
	serve_blob_get(call->srv, path, &c.blob, &c.blob_fd);
	call->tmp_fd = c.out_fd = serve_tmp_open(call->srv, call->tmp);
	ret = c.out_fd < 0 ? c.out_fd : add_blocks(&c, call->in.data);
	if (ret == 0)
		finish_commit(call, &c);
	else if (ret == -EBADMSG)
		serve_error(call, "InvalidXmlDocument");
	else if (ret == -ENOENT)
		serve_error(call, "InvalidBlockList");
	else
		serve_error_errno(call, ret);
	if (c.blob_fd >= 0)
		close(c.blob_fd);
	serve_buf_free(&c.blob.props);
	serve_buf_free(&c.lines);
}

/* ---- Get Block List ---- */

static void list_block(struct serve_buf *xml, const char *id, unsigned long long size)
{
	serve_buf_printf(xml, "<Block><Name>%s</Name><Size>%llu</Size></Block>", id, size);
}

static void list_committed(struct serve_buf *xml, const struct serve_blob *b)
{
	const char *p = b->props.data ? strstr(b->props.data, "#block ") : NULL;
	char id[ID_MAX + 1];
	unsigned long long size;

	serve_buf_str(xml, "<CommittedBlocks>");
	for (; p && sscanf(p, "#block %88s %llu", id, &size) == 2; p = strstr(p + 1, "#block "))
		list_block(xml, id, size);
	serve_buf_str(xml, "</CommittedBlocks>");
}

/* Returns how many there are. */
static unsigned list_staged(struct serve_buf *xml, struct serve *srv, const char *dir)
{
	DIR *stream = open_blocks(srv, dir);
	char id[ID_MAX * 2];
	const char *name;
	unsigned n = 0;

	serve_buf_str(xml, "<UncommittedBlocks>");
	while ((name = next_block(stream))) {
		struct stat st;

		if (fstatat(dirfd(stream), name, &st, 0) < 0)
			continue;
		id_of_hex(id, name);
		list_block(xml, id, (unsigned long long)st.st_size);
		n++;
	}
	serve_buf_str(xml, "</UncommittedBlocks>");
	if (stream)
		closedir(stream);
	return n;
}

void serve_op_blocks(struct serve_call *call)
{
	const char *type = serve_query(&call->req, "blocklisttype");
	struct serve_buf *xml = &call->res.body;
	struct serve_blob b = { 0 };
	char path[SERVE_PATH_MAX], dir[128];
	bool all = type && strcmp(type, "all") == 0;
	unsigned staged = 0;
	int ret = serve_blob_path(path, call->req.container, call->req.blob);

	ret = ret < 0 ? -ENOENT : serve_blob_get(call->srv, path, &b, NULL);
	serve_blocks_path(dir, path);
	serve_buf_str(xml, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
	if (!type || all || strcmp(type, "committed") == 0)
		list_committed(xml, &b);
	if (type && (all || strcmp(type, "uncommitted") == 0))
		staged = list_staged(xml, call->srv, dir);
	serve_buf_str(xml, "</BlockList>");
	if (ret < 0 && staged == 0) {
		serve_error_errno(call, ret);
	} else {
		call->res.status = 200;
		serve_set(call, "Content-Type", "application/xml");
		serve_set(call, "x-ms-blob-content-length", "%llu", (unsigned long long)b.size);
		if (ret == 0)
			serve_set(call, "ETag", "\"%s\"", b.etag);
	}
	serve_buf_free(&b.props);
}
