/* SPDX-License-Identifier: MIT */
/*
 * Azure Blob over HTTP, asynchronously, in one thread: submit requests, pump,
 * and get one callback for each.  This is the only door into blob/; it knows
 * nothing of caches.  Retries (503, 429, 5xx, resets; Retry-After honoured, full
 * jitter from 50 ms), AIMD of the connection budget and token refresh happen
 * inside; a caller sees one final answer.
 *
 * Integrity: a GET is successful only if status, Content-Range, body length and
 * (when asked) ETag agree; otherwise it is retried as a transport failure and at
 * the end is -EIO.  Body bytes are handed out as they arrive; after a retry
 * they continue where the last try stopped (never twice, never out of order).
 *
 * Used in the agent process, or by a thread of the program for
 * DELTAZERO_FETCH=inline; no threads of its own, no globals but libcurl's.
 */
#ifndef DZ_BLOB_H
#define DZ_BLOB_H

#include "cache/config.h"
#include "cache/log.h"

struct dz_blob;

enum dz_blob_op { DZ_BLOB_GET, DZ_BLOB_HEAD, DZ_BLOB_LIST };

/*
 * One entry of a List page; strings are valid during the callback only.  A
 * directory may come twice, as BlobPrefix and as its marker or HNS directory.
 */
struct dz_blob_entry {
	const char *name; /* decoded, whole (with the prefix); dirs end in '/' */
	size_t name_len;
	uint64_t size;
	int64_t mtime_s;  /* Unix time */
	const char *etag; /* without quotes; "" for a prefix */
	bool is_dir;	  /* BlobPrefix, or hdi_isfolder / ResourceType directory */
};

struct dz_blob_res {
	int status;	 /* HTTP status of the last try, 0 when there was none */
	uint64_t size;	 /* whole blob, from Content-Range or Content-Length */
	int64_t mtime_s; /* Last-Modified */
	char etag[DZ_ETAG_MAX];
	bool is_dir;		/* HEAD/GET: x-ms-meta-hdi_isfolder or directory */
	char next_marker[2048]; /* LIST: "" when this was the last page */
	char error_code[64];	/* x-ms-error-code or the Code of the body */
	uint64_t queue_ns;	/* waiting for a connection */
	uint64_t net_ns;	/* first byte sent to last byte received, last try */
	uint32_t tries;
};

struct dz_blob_req {
	enum dz_blob_op op;
	const struct dz_mount *mount; /* must outlive the request */
	/* GET/HEAD: blob name with mount prefix; LIST: prefix with mount prefix ("" or ends in
	 * '/').  Must outlive the request. */
	const char *name;
	const char *etag;   /* GET: If-Match, NULL or "" for none */
	uint64_t off;	    /* GET: first byte */
	uint64_t len;	    /* GET: bytes wanted, > 0; a range past the end is cut */
	const char *marker; /* LIST: continuation, NULL or "" for the first page */
	bool delimiter;	    /* LIST: one level ('/') or everything below */

	/*
	 * GET: n bytes at blob offset `off` arrived, in order.  `res` already has
	 * size, etag, mtime.  Non-zero stops the transfer with that error.
	 */
	int (*body)(struct dz_blob_req *req, uint64_t off, const void *data, size_t n);
	/* LIST: one entry, in the service's order.  Called only after the whole page has arrived
	 * and parsed. */
	int (*entry)(struct dz_blob_req *req, const struct dz_blob_entry *e);
	/*
	 * The end; the request may be freed or submitted again here.  err: 0,
	 * -ENOENT 404, -EACCES 401/403 after one token refresh, -ESTALE 412 (the
	 * ETag changed, also between two tries), -ERANGE 416 (the blob ends before
	 * `off`; res.size says where: 0 for an empty blob, whatever the range),
	 * -EIO retries used up or malformed answers, -EHOSTUNREACH nobody answers
	 * at that address, -ECANCELED client closed, -ENOMEM, or what body() or
	 * entry() returned.  One log line names action, object, cause for
	 * everything but 0, -ENOENT of a blob, -ERANGE, -ECANCELED and the caller's
	 * own errors; a storm of them is cut to 20 lines in 10 s and a sum.
	 */
	void (*done)(struct dz_blob_req *req, int err);
	void *arg; /* the caller's */

	struct dz_blob_res res;
	void *priv; /* the client's, while in flight */
	struct dz_blob_req *next;
};

struct dz_blob_stats {
	uint64_t requests, bytes, errors, retries, connections; /* connections: opened ever */
	uint32_t in_flight, queued, open_now, peak_open;
};

struct dz_blob_options {
	uint32_t max_connections; /* 64; for the whole client */
	uint32_t budget_ms;	  /* time for one request with its retries; 60,000 */
	bool is_guest;		  /* in somebody else's process: no low descriptors, no threads */
	const struct dz_log *log;
	char *const *envp; /* AZURE_* are read here, once */
};

/* Returns 0, -ENOMEM, or -EINVAL with one log line (bad key, bad connection string). */
int dz_blob_open(struct dz_blob **out, const struct dz_blob_options *opt);
/* Every request in flight ends with -ECANCELED. */
void dz_blob_close(struct dz_blob *b);
/* After fork, in the child: forget without touching the parent's connections. */
void dz_blob_abandon(struct dz_blob *b);
/*
 * Takes the request until its done() ran; nothing is called back before the next
 * pump.  May be called from body(), entry() and done().  Returns 0, -ENOMEM, or
 * -EINVAL (malformed, closing, or a token would travel unencrypted): then done()
 * is not called.
 */
int dz_blob_submit(struct dz_blob *b, struct dz_blob_req *req);
/*
 * Moves transfers on; waits up to timeout_ms for the network, for wake_fd (-1:
 * none) to become readable, or for a retry to come due.  Returns the number of
 * requests that ended, or -errno.
 */
int dz_blob_pump(struct dz_blob *b, int timeout_ms, int wake_fd);
void dz_blob_get_stats(const struct dz_blob *b, struct dz_blob_stats *out);

#endif
