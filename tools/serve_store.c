/* SPDX-License-Identifier: MIT */
/*
 * Blobs as files.
 *
 *     ROOT/CONTAINER/a/b          the blob "a/b"
 *     ROOT/.dz-serve/props/HASH   its properties, where it has any
 *     ROOT/.dz-serve/blocks/HASH/ its staged blocks
 *     ROOT/.dz-serve/tmp/         bodies on their way in
 *
 * A file that somebody puts into a container is a blob at once.  Its ETag comes
 * from inode, size and mtime; properties name the ETag that they belong to, and
 * are ignored when the file has become another.  A blob gets new content by
 * rename(2), so a reader has the old bytes or the new ones.
 *
 * What files cannot do: "a" and "a/b" as blobs at once.  The one case that
 * matters, an empty blob as the marker of a folder, is a directory whose
 * properties begin with "#marker".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "tools/serve.h"

#define PROPS_MAX (4 * DZ_MIB) /* 50,000 committed blocks have their lines here */

bool serve_container_exists(struct serve *srv, const char *container)
{
	struct stat st;

	if (container[0] == '.' || container[0] == '\0' || strchr(container, '/'))
		return false;
	return fstatat(srv->root_fd, container, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* No empty part, no "." and no "..": those would be another file. */
static bool is_file_name(const char *blob)
{
	for (const char *p = blob;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || n > 255 || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
		if (*p == '\0')
			return true;
	}
}

int serve_blob_path(char *path, const char *container, const char *blob)
{
	if (container[0] == '.' || !is_file_name(blob))
		return -EINVAL;
	if (snprintf(path, SERVE_PATH_MAX, "%s/%s", container, blob) >= SERVE_PATH_MAX)
		return -EINVAL;
	return 0;
}

/* ".dz-serve/KIND/HASH" */
static void state_path(char *out, const char *kind, const char *path)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	int n = snprintf(out, 32, SERVE_STATE "/%s/", kind);

	EVP_Digest(path, strlen(path), hash, NULL, EVP_sha256(), NULL);
	for (int i = 0; i < 20; i++)
		n += snprintf(out + n, 3, "%02x", hash[i]);
}

void serve_blocks_path(char *dir, const char *path)
{
	state_path(dir, "blocks", path);
}

static void etag_of(char *etag, const struct stat *st, uint64_t salt)
{
	uint64_t h = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;

	h = (h ^ (uint64_t)st->st_size * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
	h = (h ^ h >> 32 ^ st->st_ino * 0xc4ceb9fe1a85ec53u) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 29 ^ salt) & 0xffffffffffffffu;
	snprintf(etag, SERVE_ETAG_MAX, "0x8%014llX", (unsigned long long)h);
}

/* ---- properties ---- */

bool serve_prop(const struct serve_buf *props, const char *name, char *value, size_t len)
{
	size_t n = strlen(name);

	for (const char *p = props->data; p && *p;) {
		size_t line = strcspn(p, "\n");

		if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
			snprintf(value, len, "%.*s", (int)(line - n - 2), p + n + 2);
			return true;
		}
		p += line + (p[line] == '\n');
	}
	return false;
}

/* The file at `path` below the root; false when there is none. */
static bool read_file(struct serve *srv, const char *path, struct serve_buf *out)
{
	int fd = openat(srv->root_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 1;

	while (n > 0 && out->len < PROPS_MAX) {
		serve_buf_reserve(out, 4096);
		n = read(fd, out->data + out->len, 4096);
		if (n > 0)
			out->len += (size_t)n;
		out->data[out->len] = '\0';
	}
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* Removes the first line when it is `line`; otherwise empties the buffer. */
static void claim_props(struct serve_buf *props, const char *line)
{
	size_t n = strlen(line);

	if (props->len >= n && memcmp(props->data, line, n) == 0) {
		memmove(props->data, props->data + n, props->len - n + 1);
		props->len -= n;
	} else if (props->data) {
		props->len = 0;
		props->data[0] = '\0';
	}
}

static void read_props(struct serve *srv, const char *path, const char *first_line,
		       struct serve_buf *props)
{
	char side[128];

	if (!srv->has_state)
		return;
	state_path(side, "props", path);
	if (read_file(srv, side, props))
		claim_props(props, first_line);
}

bool serve_is_marker(struct serve *srv, const char *path, struct stat *st)
{
	struct stat unused;
	char side[128];

	if (!srv->has_state)
		return false;
	state_path(side, "props", path);
	return fstatat(srv->root_fd, side, st ? st : &unused, 0) == 0;
}

static int write_props(struct serve *srv, const char *path, const char *first_line,
		       const struct serve_buf *props)
{
	char side[128], tmp[64];
	int fd = serve_tmp_open(srv, tmp);
	int ret = 0;

	if (fd < 0)
		return fd;
	state_path(side, "props", path);
	if (write(fd, first_line, strlen(first_line)) < 0 ||
	    (props->len && write(fd, props->data, props->len) != (ssize_t)props->len) ||
	    renameat(srv->root_fd, tmp, srv->root_fd, side) < 0) {
		ret = -errno;
		unlinkat(srv->root_fd, tmp, 0);
	}
	close(fd);
	return ret;
}

static void forget_props(struct serve *srv, const char *path)
{
	char side[128];

	state_path(side, "props", path);
	unlinkat(srv->root_fd, side, 0);
}

void serve_props_of_request(const struct serve_req *req, bool content, struct serve_buf *props)
{
	static const struct {
		const char *from;
		const char *to;
	} names[] = { { "x-ms-blob-content-type", "Content-Type" },
		      { "x-ms-blob-content-encoding", "Content-Encoding" },
		      { "x-ms-blob-content-language", "Content-Language" },
		      { "x-ms-blob-content-disposition", "Content-Disposition" },
		      { "x-ms-blob-cache-control", "Cache-Control" },
		      { "x-ms-blob-content-md5", "Content-MD5" } };

	for (size_t i = 0; content && i < DZ_ARRAY_LEN(names); i++) {
		const char *value = serve_header(req, names[i].from);

		if (value && *value)
			serve_buf_printf(props, "%s: %s\n", names[i].to, value);
	}
	for (size_t i = 0; i < req->n_headers; i++) {
		if (strncmp(req->headers[i].name, "x-ms-meta-", 10) == 0)
			serve_buf_printf(props, "%s: %s\n", req->headers[i].name,
					 req->headers[i].value);
	}
}

/* ---- reading ---- */

/* The salt of a path "container/blob"; rules say "/container/blob". */
static uint64_t salt_of(struct serve *srv, const char *path)
{
	char full[SERVE_PATH_MAX + 1];

	if (!srv->faults)
		return 0;
	snprintf(full, sizeof(full), "/%s", path);
	return serve_fault_salt(srv->faults, full);
}

void serve_blob_from_stat(struct serve *srv, const char *path, const struct stat *st,
			  bool with_props, struct serve_blob *b)
{
	uint64_t salt = salt_of(srv, path);
	char first_line[64];

	*b = (struct serve_blob){ .mtime = st->st_mtim, .size = (uint64_t)st->st_size };
	if (with_props && srv->has_state) {
		etag_of(b->etag, st, 0);
		snprintf(first_line, sizeof(first_line), "#etag %s\n", b->etag);
		read_props(srv, path, first_line, &b->props);
	}
	etag_of(b->etag, st, salt);
}

/* `path` is a directory: a blob when it is marked as one. */
static int marker_get(struct serve *srv, const char *path, struct serve_blob *b)
{
	struct stat st;

	if (!serve_is_marker(srv, path, &st))
		return -ENOENT;
	*b = (struct serve_blob){ .mtime = st.st_mtim, .is_marker = true };
	etag_of(b->etag, &st, salt_of(srv, path));
	read_props(srv, path, "#marker\n", &b->props);
	return 0;
}

int serve_blob_get(struct serve *srv, const char *path, struct serve_blob *b, int *out)
{
	struct stat st;
	int fd = -1;
	int ret;

	*b = (struct serve_blob){ 0 };
	if (out)
		*out = -1;
	if (out)
		fd = openat(srv->root_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ret = out ? (fd < 0 ? -1 : fstat(fd, &st)) : fstatat(srv->root_fd, path, &st, 0);
	if (ret < 0) {
		ret = errno == ENOTDIR ? -ENOENT : -errno;
	} else if (S_ISREG(st.st_mode)) {
		serve_blob_from_stat(srv, path, &st, true, b);
		if (out)
			*out = fd;
		return 0;
	} else {
		ret = S_ISDIR(st.st_mode) ? marker_get(srv, path, b) : -ENOENT;
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

/* ---- writing ---- */

int serve_mkdirs(struct serve *srv, const char *path)
{
	char part[SERVE_PATH_MAX];
	struct stat st;

	for (const char *end = path; *end;) {
		end += strcspn(end + 1, "/") + 1;
		snprintf(part, sizeof(part), "%.*s", (int)(end - path), path);
		if (mkdirat(srv->root_fd, part, 0777) < 0 && errno != EEXIST)
			return -errno;
	}
	if (fstatat(srv->root_fd, path, &st, 0) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int make_state(struct serve *srv)
{
	static const char *const dirs[] = { "tmp", "props", "blocks" };
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < DZ_ARRAY_LEN(dirs); i++) {
		char path[64];

		snprintf(path, sizeof(path), SERVE_STATE "/%s", dirs[i]);
		ret = serve_mkdirs(srv, path);
	}
	if (ret == 0)
		srv->has_state = true;
	return ret;
}

int serve_tmp_open(struct serve *srv, char *name)
{
	unsigned long long n = atomic_fetch_add(&srv->last_tmp, 1);
	int fd;

	snprintf(name, 64, SERVE_STATE "/tmp/%d.%llu", getpid(), n);
	fd = openat(srv->root_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == ENOENT && make_state(srv) == 0)
		fd = openat(srv->root_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0) {
		name[0] = '\0';
		return -errno;
	}
	return fd;
}

static int make_parent(struct serve *srv, const char *path)
{
	char parent[SERVE_PATH_MAX];

	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
	return serve_mkdirs(srv, parent);
}

static bool is_dir(struct serve *srv, const char *path)
{
	struct stat st;

	return fstatat(srv->root_fd, path, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

/* A listing of the parent is kept until its mtime changes; a marker changes it. */
static void touch_parent(struct serve *srv, const char *path)
{
	char parent[SERVE_PATH_MAX];

	snprintf(parent, sizeof(parent), "%.*s", (int)(strrchr(path, '/') - path), path);
	utimensat(srv->root_fd, parent, NULL, 0);
}

static int publish_marker(struct serve *srv, const char *path, const char *tmp,
			  const struct serve_buf *props)
{
	int ret = serve_mkdirs(srv, path);

	if (ret == 0)
		ret = write_props(srv, path, "#marker\n", props);
	if (ret == 0) {
		touch_parent(srv, path);
		unlinkat(srv->root_fd, tmp, 0);
	}
	return ret;
}

int serve_publish(struct serve *srv, const char *path, const char *tmp,
		  const struct serve_buf *props)
{
	char first_line[64], etag[SERVE_ETAG_MAX], folder[16];
	struct stat st;
	int ret;

	if (fstatat(srv->root_fd, tmp, &st, 0) < 0)
		return -errno;
	if (st.st_size == 0 &&
	    (is_dir(srv, path) || serve_prop(props, "x-ms-meta-hdi_isfolder", folder, 16)))
		return publish_marker(srv, path, tmp, props);
	ret = make_parent(srv, path);
	if (ret < 0)
		return ret;
	if (is_dir(srv, path))
		return -EISDIR;
	/* rename keeps inode and mtime, so the ETag is known before. */
	etag_of(etag, &st, 0);
	snprintf(first_line, sizeof(first_line), "#etag %s\n", etag);
	ret = write_props(srv, path, first_line, props);
	if (ret == 0 && renameat(srv->root_fd, tmp, srv->root_fd, path) < 0)
		ret = -errno;
	return ret;
}

int serve_publish_props(struct serve *srv, const char *path, const struct serve_buf *props)
{
	char first_line[64], etag[SERVE_ETAG_MAX];
	struct stat st;

	if (is_dir(srv, path))
		return write_props(srv, path, "#marker\n", props);
	if (utimensat(srv->root_fd, path, NULL, 0) < 0 || fstatat(srv->root_fd, path, &st, 0) < 0)
		return -errno;
	etag_of(etag, &st, 0);
	snprintf(first_line, sizeof(first_line), "#etag %s\n", etag);
	return write_props(srv, path, first_line, props);
}

/* In Blob a folder is gone with its last blob; the container stays. */
static void remove_empty_parents(struct serve *srv, const char *path)
{
	char dir[SERVE_PATH_MAX];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	while ((slash = strrchr(dir, '/')) && strchr(dir, '/') != slash) {
		*slash = '\0';
		if (serve_is_marker(srv, dir, NULL) ||
		    unlinkat(srv->root_fd, dir, AT_REMOVEDIR) < 0)
			return;
	}
}

int serve_unlink(struct serve *srv, const char *path)
{
	if (is_dir(srv, path)) {
		if (!serve_is_marker(srv, path, NULL))
			return -ENOENT;
		unlinkat(srv->root_fd, path, AT_REMOVEDIR); /* stays while blobs lie below */
		touch_parent(srv, path);
	} else if (unlinkat(srv->root_fd, path, 0) < 0) {
		return errno == ENOTDIR ? -ENOENT : -errno;
	}
	forget_props(srv, path);
	remove_empty_parents(srv, path);
	return 0;
}

int serve_copy(int from, uint64_t off, uint64_t len, int to)
{
	while (len > 0) {
		off64_t at = (off64_t)off;
		ssize_t n = copy_file_range(from, &at, to, NULL, len, 0);

		/* A symbolic link may have led to another file system. */
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP))
			n = sendfile(to, from, &at, dz_min_u64(len, DZ_GIB));
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}
