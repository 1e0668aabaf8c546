/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 exchanges over one pool of connections, in one thread.  Knows no
 * Azure: a request is a verb, a URL and header lines; an answer is a status,
 * header lines and bytes, handed out as they arrive.  No retry but one: a
 * kept-alive connection that the server had closed meanwhile.
 *
 * At most `limit` requests are out at a time; the rest wait in order.  The limit
 * grows by one for each limit's worth of good answers and halves, at most twice
 * a second, when dz_http_slow_down is told that the service asks for it.
 */
#ifndef DZ_BLOB_HTTP_H
#define DZ_BLOB_HTTP_H

#include "cache/base.h"

#define DZ_HTTP_HEADERS_MAX 16

struct dz_http;

struct dz_http_req {
	/*
	 * About to go out: set verb, url, headers (and body) now, so that dates and
	 * tokens are fresh.  Non-zero ends the request with that error.
	 */
	int (*prepare)(struct dz_http_req *req);
	const char *verb;
	const char *url; /* these must live until done() */
	const char *headers[DZ_HTTP_HEADERS_MAX];
	uint32_t n_headers;
	const void *body; /* NULL: none */
	size_t body_len;
	bool is_direct; /* never by a proxy */
	bool is_urgent; /* outside the limit, before the queue */

	/* An answer begins (again, after an interim one): forget earlier headers. */
	void (*begin)(struct dz_http_req *req, int status);
	void (*header)(struct dz_http_req *req, const char *name, size_t name_len,
		       const char *value, size_t value_len);
	/* Body bytes; non-zero aborts with that error. */
	int (*data)(struct dz_http_req *req, const void *data, size_t n);
	/*
	 * The end; the request may be submitted again or freed here.  err: 0 when the
	 * answer came whole (whatever its status), -EHOSTUNREACH nobody there,
	 * -ECONNRESET broken off, -ETIMEDOUT too slow, -EPROTO not HTTP,
	 * -EKEYREJECTED a certificate that does not verify, -ECANCELED, or what
	 * prepare() or data() returned.
	 */
	void (*done)(struct dz_http_req *req, int err, const char *why);

	uint64_t queue_ns, net_ns; /* set for done() */

	/* The pool's. */
	struct dz_http_req *next;
	uint64_t since_ns;
	bool is_second; /* repeated after a stale connection */
};

struct dz_http_options {
	uint32_t max_connections;
	const char *user_agent;
	const char *ca_file; /* NULL: the system's */
	bool is_guest;	     /* in somebody else's process: no low descriptors, no threads */
};

struct dz_http_stats {
	uint64_t requests, bytes, connections;
	uint32_t in_flight, queued, open_now, peak_open, limit;
};

/* The certificates that the environment names, for dz_http_options; NULL: none. */
const char *dz_http_ca_file(char *const *envp);
/* Returns 0, -ENOMEM, or -EIO when libcurl does not start. */
int dz_http_open(struct dz_http **out, const struct dz_http_options *opt);
/* Everything in flight ends with -ECANCELED. */
void dz_http_close(struct dz_http *http);
/* In a forked child: closes our copies of the sockets, says nothing on them, leaks the rest. */
void dz_http_abandon(struct dz_http *http);

/* Queues; nothing is called back before the next dz_http_step. */
void dz_http_submit(struct dz_http *http, struct dz_http_req *req);
/* Sends, receives and ends what can be without waiting.  Returns how many ended, or -EIO. */
int dz_http_step(struct dz_http *http);
/* Waits for the network, wake_fd (or -1), or the time.  Returns 0 or -EIO. */
int dz_http_wait(struct dz_http *http, int timeout_ms, int wake_fd);

void dz_http_went_well(struct dz_http *http);
void dz_http_slow_down(struct dz_http *http);
void dz_http_get_stats(const struct dz_http *http, struct dz_http_stats *out);

#endif
