/* SPDX-License-Identifier: MIT */
/*
 * The parts of `dz serve`, a stand-in for Azure Blob Storage on loopback.
 *
 *     cmd_serve   options, listening, signals
 *     conn        epoll workers: read a request, answer it, next
 *     http        bytes -> struct serve_req
 *     route       which operation is it; is it allowed; who answers
 *     auth        SharedKey, SAS, bearer tokens
 *     fault       the script of misbehaviour
 *     blob, block, list    the operations
 *     store       names -> files, ETags, properties
 *     dirs        sorted directories, cached
 *     text        growing buffers, escapes
 *
 * Each folder of the root is a container, each file below it a block blob whose
 * name is its path.  What files cannot hold (content types, metadata, staged
 * blocks, directory markers) lies in ROOT/.dz-serve.
 *
 * Nothing here is shared with the client in cache/blob: where both sign or parse
 * the same thing, they were written apart, and Azurite judges both.
 */
#ifndef DZ_TOOLS_SERVE_H
#define DZ_TOOLS_SERVE_H

#include "cache/base.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

/* ---- text: bytes that grow; out of memory ends the process ---- */

struct serve_buf {
	char *data; /* always followed by a NUL once anything was added */
	size_t len;
	size_t cap;
};

void serve_buf_reserve(struct serve_buf *b, size_t more);
void serve_buf_add(struct serve_buf *b, const void *data, size_t n);
void serve_buf_str(struct serve_buf *b, const char *s);
void serve_buf_printf(struct serve_buf *b, const char *fmt, ...) DZ_PRINTF(2, 3);
void serve_buf_xml(struct serve_buf *b, const char *s);
/* Everything but unreserved characters and '/'. */
void serve_buf_percent(struct serve_buf *b, const char *s);
/* The inside of a JSON string. */
void serve_buf_json(struct serve_buf *b, const char *s);
void serve_buf_free(struct serve_buf *b);
/* Can `s` stand in an XML document (UTF-8, no control characters)? */
bool serve_is_xml_safe(const char *s);
/* Decodes %XX of `n` bytes into `dst` (n + 1 bytes); false: malformed or a NUL. */
bool serve_percent_decode(char *dst, const char *src, size_t n);
/* Decodes base64 into `dst` (`cap` bytes); returns the length or -1. */
int serve_base64_decode(unsigned char *dst, size_t cap, const char *text);
/* "Sun, 06 Nov 1994 08:49:37 GMT"; `text` has 32 bytes. */
void serve_http_date(char *text, time_t t);
/* -1 when it is not such a date. */
time_t serve_parse_http_date(const char *text);
uint64_t serve_now_ns(void);

/* ---- http ---- */

#define SERVE_HEAD_MAX	  (64 * DZ_KIB)
#define SERVE_HEADERS_MAX 64
#define SERVE_QUERY_MAX	  40

struct serve_pair {
	char *name; /* lower case */
	char *value;
};

struct serve_req {
	char *method;
	char *path;	 /* as sent, percent-encoded, without the query */
	char *raw_query; /* as sent, "" when none */
	struct serve_pair headers[SERVE_HEADERS_MAX];
	size_t n_headers;
	struct serve_pair query[SERVE_QUERY_MAX]; /* decoded */
	size_t n_query;
	char *decoded; /* owns what query, container and blob point to */
	char *container;
	char *blob; /* "" when the request is for a container or the account */
	uint64_t body_bytes;
	bool has_length;
	bool is_chunked;
	bool keep_alive;
	bool expects_continue;
};

/*
 * Cuts the request head at the front of `data` in place.  Returns its length, 0
 * when more bytes are needed, or -EBADMSG.  `req` points into `data` until
 * serve_http_free().
 */
ssize_t serve_http_parse(struct serve_req *req, char *data, size_t len);
void serve_http_free(struct serve_req *req);
/* Value of a header or query parameter, NULL when absent. */
const char *serve_header(const struct serve_req *req, const char *name);
const char *serve_query(const struct serve_req *req, const char *name);

/* ---- fault ---- */

/* What the rules that matched want done to one answer. */
struct serve_fault {
	uint32_t rule; /* line of the last rule that fired, 0: none */
	uint32_t delay_ms;
	int status;	     /* 0: none */
	int retry_after;     /* seconds, -1: none */
	int retry_after_ms;  /* -1: none */
	char code[48];	     /* x-ms-error-code, "" for the status's usual one */
	int64_t reset_at;    /* body bytes before a RST, -1: none */
	int64_t short_at;    /* body bytes before a close, -1: none */
	int64_t truncate_to; /* shorter body, Content-Length agrees, -1: none */
	uint64_t extra;	     /* bytes too many */
	uint64_t drip;	     /* bytes a second, 0: none */
	uint64_t etag_salt;  /* changes the ETag */
	bool auth_expired, close, lost, stall, range_wrong, range_ignored, empty_page;
};

struct serve_faults;

/* Reads the rules of `path`; returns NULL and a message in `why` on a mistake. */
struct serve_faults *serve_faults_read(const char *path, char *why, size_t why_len);
void serve_faults_free(struct serve_faults *f);
void serve_fault_clear(struct serve_fault *out);
/* Decides about one request; `path` is "/CONTAINER/BLOB", decoded. */
void serve_fault_decide(struct serve_faults *f, const char *op, const char *path,
			struct serve_fault *out);
/* Salt of the etag-change rules that have fired for `path`; counts nothing. */
uint64_t serve_fault_salt(struct serve_faults *f, const char *path);
/* The text about rules in `dz serve --help`. */
extern const char serve_fault_help[];

/* ---- a request and its answer ---- */

struct serve {
	int root_fd;
	const char *account;
	unsigned char key[256];
	size_t key_len;
	uint16_t port;
	bool is_anonymous;	/* requests without credentials may read and write */
	const char *token_file; /* NULL: bearer tokens are refused */
	uint32_t latency_ms;
	int log_fd; /* -1: none */
	struct serve_faults *faults;
	pthread_mutex_t publish;   /* held while a name gets new content */
	_Atomic bool has_state;	   /* ROOT/.dz-serve exists */
	_Atomic uint64_t last_tmp; /* number of the last temporary file */
	_Atomic uint64_t last_request;
	_Atomic bool stopping;
	struct serve_dirs *dirs;
};

struct serve_res {
	int status;
	const char *error;     /* x-ms-error-code, NULL for a good answer */
	struct serve_buf head; /* header lines beyond those that every answer has */
	struct serve_buf body;
	int file_fd; /* the body when >= 0 */
	uint64_t file_off;
	uint64_t file_len;
	uint64_t head_len; /* HEAD: Content-Length that has no body */
};

/* Where the body of a request goes. */
enum serve_sink { SERVE_SINK_DROP, SERVE_SINK_MEMORY, SERVE_SINK_FILE };

struct serve_call {
	struct serve *srv;
	const struct serve_op *op; /* NULL: unknown, already answered with an error */
	struct serve_req req;
	struct serve_res res;
	struct serve_fault fault;
	bool by_sas;
	enum serve_sink sink;
	struct serve_buf in; /* SERVE_SINK_MEMORY */
	int tmp_fd;	     /* SERVE_SINK_FILE */
	char tmp[64];	     /* its name below the root, "" when there is none */
	void *md5;	     /* EVP_MD_CTX over the request body, or NULL */
};

#define SERVE_BODY_MAX (16 * DZ_MIB) /* in memory: block lists, XML */

struct serve_op {
	const char *name; /* as fault rules say it */
	const char *method;
	char level;	     /* 'a'ccount, 'c'ontainer, 'b'lob */
	const char *restype; /* query parameters that must agree; "" is absent */
	const char *comp;
	const char *marker;	/* a header that must be there, or NULL */
	const char *allowed_by; /* SAS permissions, any of them */
	enum serve_sink sink;
	void (*answer)(struct serve_call *call);
};

/* Finds the operation, checks the credentials, asks the fault rules, opens the sink. */
void serve_begin(struct serve_call *call);
/* The body is in: runs the operation. */
void serve_finish(struct serve_call *call);
/* Back to an empty call; closes and removes what is left of it. */
void serve_call_reset(struct serve_call *call);

/* Answers with an error of the protocol: "BlobNotFound" knows its status and text. */
void serve_error(struct serve_call *call, const char *code);
/* The same with further text in the XML. */
void serve_error_detail(struct serve_call *call, const char *code, const char *detail);
/* The same for a fault rule: any status, and the code where the rule has one. */
void serve_error_status(struct serve_call *call, int status, const char *code);
/* -errno of the file system as an error of the protocol. */
void serve_error_errno(struct serve_call *call, int err);
/* One more header line of the answer. */
void serve_set(struct serve_call *call, const char *name, const char *fmt, ...) DZ_PRINTF(3, 4);
/* Status line and headers, ready to send. */
void serve_head(struct serve_call *call, uint64_t content_length, struct serve_buf *out);

/* ---- auth ---- */

/* True when the request may go on; otherwise the call has its error. */
bool serve_auth(struct serve_call *call);

/* ---- store ---- */

#define SERVE_STATE    ".dz-serve"
#define SERVE_PATH_MAX 4096
#define SERVE_ETAG_MAX 24

/* A blob as it is now. */
struct serve_blob {
	char etag[SERVE_ETAG_MAX]; /* without quotes */
	struct timespec mtime;
	uint64_t size;
	bool is_marker;		/* a directory on disk that also is an empty blob */
	struct serve_buf props; /* header lines, then "#block ID SIZE" lines */
};

/* Paths are "CONTAINER/BLOB", below the root. */
bool serve_container_exists(struct serve *srv, const char *container);
/* 0 and the path of the call's blob, or -EINVAL: no file can have that name. */
int serve_blob_path(char *path, const char *container, const char *blob);
/*
 * Fills `b` (free its props).  With `fd`, also opens the content; -1 for a
 * marker.  Returns 0, -ENOENT or another -errno.
 */
int serve_blob_get(struct serve *srv, const char *path, struct serve_blob *b, int *fd);
/* The listing's form: `st` is known, properties only when `with_props`. */
void serve_blob_from_stat(struct serve *srv, const char *path, const struct stat *st,
			  bool with_props, struct serve_blob *b);
/* Is the directory `path` also a blob?  `st` (or NULL) gets the marker's times. */
bool serve_is_marker(struct serve *srv, const char *path, struct stat *st);
/* New temporary file: descriptor or -errno; its name goes to `name`, 64 bytes. */
int serve_tmp_open(struct serve *srv, char *name);
/*
 * `tmp` becomes the blob, with these properties; under srv->publish.  Returns 0
 * or -errno: -ENOTDIR or -EISDIR where files cannot do what blobs can.
 */
int serve_publish(struct serve *srv, const char *path, const char *tmp,
		  const struct serve_buf *props);
/* Replaces the properties and with them the ETag; under srv->publish. */
int serve_publish_props(struct serve *srv, const char *path, const struct serve_buf *props);
/* Removes a blob and the directories that it leaves empty; under srv->publish. */
int serve_unlink(struct serve *srv, const char *path);
/* Folder of the staged blocks of a blob, below the root; 128 bytes. */
void serve_blocks_path(char *dir, const char *path);
/* Makes every directory of `path`, the last part included. */
int serve_mkdirs(struct serve *srv, const char *path);
/* Copies `len` bytes at `off` of one file to the end of another; 0 or -errno. */
int serve_copy(int from, uint64_t off, uint64_t len, int to);
/* Value of a property line in `props`; false when absent. */
bool serve_prop(const struct serve_buf *props, const char *name, char *value, size_t len);
/* "x-ms-meta-" (and content headers) of the request, as lines for the properties. */
void serve_props_of_request(const struct serve_req *req, bool content, struct serve_buf *props);

/* ---- dirs ---- */

struct serve_dir {
	char **names; /* sorted by bytes; directories end in '/' */
	size_t n_names;
	size_t cap;
};

/* The entries of a directory below the root; NULL when it cannot be read. */
const struct serve_dir *serve_dir_get(struct serve *srv, const char *path);
void serve_dir_put(struct serve *srv, const struct serve_dir *dir);
/* Does a file lie anywhere below? */
bool serve_dir_has_files(struct serve *srv, const char *path);
struct serve_dirs *serve_dirs_open(void);
void serve_dirs_close(struct serve_dirs *dirs);

/* ---- operations ---- */

void serve_op_get(struct serve_call *call);
void serve_op_put(struct serve_call *call);
void serve_op_copy(struct serve_call *call);
void serve_op_delete(struct serve_call *call);
void serve_op_set_meta(struct serve_call *call);
void serve_op_container_get(struct serve_call *call);
void serve_op_container_put(struct serve_call *call);
void serve_op_list(struct serve_call *call);
void serve_op_containers(struct serve_call *call);
void serve_op_block(struct serve_call *call);
void serve_op_commit(struct serve_call *call);
void serve_op_blocks(struct serve_call *call);
/*
 * If-Match and its relatives against a blob (NULL: there is none).  True when
 * the operation may go on.
 */
bool serve_conditions(struct serve_call *call, const struct serve_blob *b, bool is_write);
/* Publishes call->tmp with conditions checked; sets the answer. */
void serve_replace(struct serve_call *call, const struct serve_buf *props, int status);

/* ---- conn ---- */

struct serve_worker;

struct serve_worker *serve_worker_start(struct serve *srv);
/* The worker owns `fd` from here on. */
void serve_worker_give(struct serve_worker *w, int fd, uint64_t number);
/* Ends the thread; open connections are closed. */
void serve_worker_stop(struct serve_worker *w);

/* ---- log ---- */

void serve_log(struct serve_call *call, uint64_t conn, uint64_t body_bytes, uint64_t start_ns);

#endif
