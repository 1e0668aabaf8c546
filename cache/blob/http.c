/* SPDX-License-Identifier: MIT */
/*
 * A request waits in the queue until the limit has room, gets a slot (an easy
 * handle that keeps its settings), and runs in the multi handle, which keeps the
 * connections.  Its end releases the slot before done() runs, so done() may
 * submit again; starting always happens in dz_http_step, never inside one of
 * libcurl's callbacks.
 *
 * What can fail: libcurl's result is turned into one errno, with libcurl's own
 * words beside it.  A connection that sat idle may have been closed by the
 * server just when we used it; then nothing came back, and the request goes out
 * once more on a new connection without anybody being told.
 *
 * The only user of <curl/curl.h>.
 */
#include "cache/blob/http.h"

#include "cache/blob/http_guest.h"
#include "cache/config.h"
#include "cache/fd.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

/* Room for the sockets of all connections, also while some are being replaced. */
#define SOCKETS_MAX    1024
#define HALVE_EVERY_MS 500
#define CONNECT_MS     2000L
/*
 * A transfer that stalls is given up, and goes on elsewhere from where it stood.
 * Far below what a healthy connection does: 64 transfers may share a thin line.
 */
#define STALL_BYTES_PER_S 4096L
#define STALL_S		  5L
/*
 * libcurl allocates this for each transfer.  From 128 KiB on malloc maps and
 * unmaps it each time: 0.43 s of CPU for 2 GiB instead of 0.34 s.
 */
#define RECEIVE_BYTES (64 * 1024L)

struct slot {
	CURL *easy;
	struct curl_slist lines[DZ_HTTP_HEADERS_MAX + 1];
	struct dz_http *http;
	struct dz_http_req *req;
	int status;
	int error; /* of data() */
	bool has_answer;
	struct curl_slist *addresses; /* of a guest: see http_guest.h */
	char why[CURL_ERROR_SIZE];
	struct slot *next_free;
	struct slot *next_busy, **busy_link;
};

struct dz_http {
	CURLM *multi;
	CURLSH *share; /* TLS sessions */
	struct slot *free_slots, *busy_slots;
	struct dz_http_req *first, **last; /* the queue */
	struct dz_http_req *urgent;
	uint32_t max;
	double limit;
	uint64_t halved_ms;
	uint32_t n_busy, n_counted, n_queued; /* counted: busy and not urgent */
	uint64_t requests, bytes, connections;
	uint32_t peak_open, n_sockets;
	int sockets[SOCKETS_MAX];
	bool is_guest;
	char *user_agent, *ca_file;
};

static curl_socket_t on_open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct dz_http *http = user;
	int fd;

	(void)purpose;
	if (http->n_sockets == SOCKETS_MAX)
		return CURL_SOCKET_BAD;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (http->is_guest)
		fd = dz_fd_raise(fd);
	http->sockets[http->n_sockets++] = fd;
	if (http->n_sockets > http->peak_open)
		http->peak_open = http->n_sockets;
	http->connections++;
	return fd;
}

static int on_close_socket(void *user, curl_socket_t fd)
{
	struct dz_http *http = user;
	uint32_t i;

	for (i = 0; i < http->n_sockets; i++) {
		if (http->sockets[i] != fd)
			continue;
		http->sockets[i] = http->sockets[--http->n_sockets];
		break;
	}
	return dz_sys_close(fd);
}

/* "HTTP/1.1 206 Partial Content" -> 206; -1 when it is another line. */
static int parse_status(const char *line, size_t len)
{
	const char *at = memchr(line, ' ', len);
	int status = 0;
	int i;

	if (len < 12 || memcmp(line, "HTTP/", 5) != 0 || !at || line + len - at < 4)
		return -1;
	for (i = 1; i <= 3; i++) {
		if (at[i] < '0' || at[i] > '9')
			return -1;
		status = status * 10 + (at[i] - '0');
	}
	return status;
}

static void take_header(struct dz_http_req *req, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	const char *value, *end;

	if (!colon)
		return;
	end = line + len;
	while (end > colon + 1 && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' '))
		end--;
	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	req->header(req, line, (size_t)(colon - line), value, (size_t)(end - value));
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
	struct slot *slot = user;
	size_t len = size * n;
	int status = parse_status(line, len);

	slot->has_answer = true;
	if (status >= 0) {
		slot->status = status;
		slot->req->begin(slot->req, status);
	} else {
		take_header(slot->req, line, len);
	}
	return len;
}

static size_t on_data(char *data, size_t size, size_t n, void *user)
{
	struct slot *slot = user;
	size_t len = size * n;

	slot->http->bytes += len;
	slot->error = slot->req->data(slot->req, data, len);
	/* Any other count than `len` makes libcurl stop. */
	return slot->error ? len + 1 : len;
}

/* The settings that no request changes. */
static void slot_setup(struct slot *slot)
{
	struct dz_http *http = slot->http;
	CURL *easy = slot->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->why);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	/* A blob stored with Content-Encoding must arrive as it is stored. */
	curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	/* "." and ".." are ordinary characters of a blob's name. */
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALL_S);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, http);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, http);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, slot);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
	curl_easy_setopt(easy, CURLOPT_SHARE, http->share);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, http->user_agent);
	if (http->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, http->ca_file);
}

static struct slot *slot_get(struct dz_http *http)
{
	struct slot *slot = http->free_slots;

	if (slot) {
		http->free_slots = slot->next_free;
		return slot;
	}
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->http = http;
	slot->easy = curl_easy_init();
	if (!slot->easy) {
		free(slot);
		return NULL;
	}
	slot_setup(slot);
	return slot;
}

static void slot_put(struct slot *slot)
{
	struct dz_http *http = slot->http;

	slot->req = NULL;
	slot->next_free = http->free_slots;
	http->free_slots = slot;
}

static void slot_link(struct slot *slot)
{
	struct dz_http *http = slot->http;

	slot->next_busy = http->busy_slots;
	slot->busy_link = &http->busy_slots;
	if (slot->next_busy)
		slot->next_busy->busy_link = &slot->next_busy;
	http->busy_slots = slot;
	http->n_busy++;
	http->n_counted += !slot->req->is_urgent;
}

static void slot_unlink(struct slot *slot)
{
	*slot->busy_link = slot->next_busy;
	if (slot->next_busy)
		slot->next_busy->busy_link = slot->busy_link;
	slot->http->n_busy--;
	slot->http->n_counted -= !slot->req->is_urgent;
}

/* Our header lines as libcurl's list, without copying them. */
static struct curl_slist *slot_lines(struct slot *slot)
{
	const struct dz_http_req *req = slot->req;
	static const char no_expect[] = "Expect:";
	uint32_t i;

	for (i = 0; i < req->n_headers; i++)
		slot->lines[i] = (struct curl_slist){ .data = (char *)req->headers[i],
						      .next = &slot->lines[i + 1] };
	slot->lines[i] = (struct curl_slist){ .data = (char *)no_expect, .next = NULL };
	return slot->lines;
}

static void slot_load(struct slot *slot)
{
	const struct dz_http_req *req = slot->req;
	CURL *easy = slot->easy;

	slot->status = 0;
	slot->error = 0;
	slot->has_answer = false;
	slot->why[0] = '\0';
	curl_easy_setopt(easy, CURLOPT_URL, req->url);
	if (slot->http->is_guest) {
		curl_slist_free_all(slot->addresses);
		slot->addresses = dz_guest_resolve(req->url);
		curl_easy_setopt(easy, CURLOPT_RESOLVE, slot->addresses);
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, slot_lines(slot));
	curl_easy_setopt(easy, CURLOPT_NOPROXY, req->is_direct ? "*" : NULL);
	curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	if (strcmp(req->verb, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (!req->body)
		return;
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, req->body);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
}

/* Sends one; when that is not possible, ends it.  Returns how many ended. */
static int request_start(struct dz_http *http, struct dz_http_req *req)
{
	struct slot *slot = slot_get(http);
	int ret;

	req->queue_ns += dz_now_ns() - req->since_ns;
	ret = slot ? req->prepare(req) : -ENOMEM;
	if (ret == 0) {
		slot->req = req;
		slot_load(slot);
		if (curl_multi_add_handle(http->multi, slot->easy) != CURLM_OK)
			ret = -ENOMEM;
	}
	if (ret) {
		if (slot)
			slot_put(slot);
		req->done(req, ret, "could not be sent");
		return 1;
	}
	slot_link(slot);
	http->requests++;
	return 0;
}

static struct dz_http_req *queue_pop(struct dz_http *http)
{
	struct dz_http_req *req = http->urgent;

	if (req) {
		http->urgent = req->next;
	} else {
		req = http->first;
		if (!req || http->n_counted >= (uint32_t)http->limit)
			return NULL;
		http->first = req->next;
		if (!http->first)
			http->last = &http->first;
	}
	http->n_queued--;
	return req;
}

static int start_queued(struct dz_http *http)
{
	struct dz_http_req *req;
	int n = 0;

	while ((req = queue_pop(http)))
		n += request_start(http, req);
	return n;
}

static bool was_connected(const struct slot *slot)
{
	curl_off_t ready_us = 0;
	long opened = 1;

	curl_easy_getinfo(slot->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
	curl_easy_getinfo(slot->easy, CURLINFO_NUM_CONNECTS, &opened);
	return slot->has_answer || ready_us > 0 || opened == 0;
}

static int error_of(const struct slot *slot, CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
		return -EHOSTUNREACH;
	case CURLE_OPERATION_TIMEDOUT:
		return was_connected(slot) ? -ETIMEDOUT : -EHOSTUNREACH;
	case CURLE_WRITE_ERROR:
		return slot->error ? slot->error : -EPROTO;
	case CURLE_OUT_OF_MEMORY:
		return -ENOMEM;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return -EKEYREJECTED;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_WEIRD_SERVER_REPLY:
		return -EPROTO;
	default:
		return -ECONNRESET;
	}
}

/* An idle connection that the server had closed: nothing of an answer came. */
static bool was_stale(const struct slot *slot, CURLcode code)
{
	long opened = 1;

	if (code != CURLE_GOT_NOTHING && code != CURLE_RECV_ERROR && code != CURLE_SEND_ERROR)
		return false;
	curl_easy_getinfo(slot->easy, CURLINFO_NUM_CONNECTS, &opened);
	return opened == 0 && !slot->has_answer && !slot->req->is_second;
}

static void queue_front(struct dz_http *http, struct dz_http_req *req)
{
	req->since_ns = dz_now_ns();
	req->next = http->first;
	if (!http->first)
		http->last = &req->next;
	http->first = req;
	http->n_queued++;
}

static uint64_t time_on_wire_ns(CURL *easy)
{
	curl_off_t total = 0;
	curl_off_t before = 0;

	curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &total);
	curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &before);
	return total > before ? (uint64_t)(total - before) * 1000 : 0;
}

/* Returns how many requests ended: none when this one goes out again. */
static int slot_finish(struct slot *slot, CURLcode code)
{
	struct dz_http *http = slot->http;
	struct dz_http_req *req = slot->req;
	int err = error_of(slot, code);
	bool again = was_stale(slot, code);
	char why[CURL_ERROR_SIZE];

	snprintf(why, sizeof(why), "%s", slot->why[0] ? slot->why : curl_easy_strerror(code));
	req->net_ns = time_on_wire_ns(slot->easy);
	curl_multi_remove_handle(http->multi, slot->easy);
	slot_unlink(slot);
	slot_put(slot);
	if (again) {
		req->is_second = true;
		queue_front(http, req);
		return 0;
	}
	req->done(req, err, why);
	return 1;
}

static int finish_ended(struct dz_http *http)
{
	struct slot *slot;
	CURLMsg *msg;
	int left;
	int n = 0;

	while ((msg = curl_multi_info_read(http->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &slot);
		n += slot_finish(slot, msg->data.result);
	}
	return n;
}

void dz_http_submit(struct dz_http *http, struct dz_http_req *req)
{
	req->since_ns = dz_now_ns();
	req->queue_ns = 0;
	req->net_ns = 0;
	req->is_second = false;
	req->next = NULL;
	http->n_queued++;
	if (req->is_urgent) {
		req->next = http->urgent;
		http->urgent = req;
		return;
	}
	*http->last = req;
	http->last = &req->next;
}

int dz_http_step(struct dz_http *http)
{
	int n = start_queued(http);
	int running, ended;

	do {
		if (curl_multi_perform(http->multi, &running) != CURLM_OK)
			return -EIO;
		ended = finish_ended(http);
		/* A free slot may have a request waiting, even one that fails at once. */
		ended += start_queued(http);
		n += ended;
	} while (ended > 0);
	return n;
}

int dz_http_wait(struct dz_http *http, int timeout_ms, int wake_fd)
{
	struct curl_waitfd extra = { .fd = wake_fd, .events = CURL_WAIT_POLLIN };
	CURLMcode code = curl_multi_poll(http->multi, &extra, wake_fd >= 0, timeout_ms, NULL);

	return code == CURLM_OK ? 0 : -EIO;
}

void dz_http_went_well(struct dz_http *http)
{
	http->limit += 1.0 / http->limit;
	if (http->limit > http->max)
		http->limit = http->max;
}

/* One burst of refusals is one signal, not one for each request that was out. */
void dz_http_slow_down(struct dz_http *http)
{
	uint64_t now = dz_now_ms();

	if (http->halved_ms && now - http->halved_ms < HALVE_EVERY_MS)
		return;
	http->halved_ms = now;
	http->limit = http->limit < 2 ? 1 : http->limit / 2;
}

void dz_http_get_stats(const struct dz_http *http, struct dz_http_stats *out)
{
	*out = (struct dz_http_stats){
		.requests = http->requests,
		.bytes = http->bytes,
		.connections = http->connections,
		.in_flight = http->n_busy,
		.queued = http->n_queued,
		.open_now = http->n_sockets,
		.peak_open = http->peak_open,
		.limit = (uint32_t)http->limit,
	};
}

static bool http_init(struct dz_http *http, const struct dz_http_options *opt)
{
	http->user_agent = strdup(opt->user_agent);
	http->ca_file = opt->ca_file ? strdup(opt->ca_file) : NULL;
	http->is_guest = opt->is_guest;
	http->multi = opt->is_guest ? dz_guest_multi() : curl_multi_init();
	http->share = curl_share_init();
	if (!http->user_agent || (opt->ca_file && !http->ca_file) || !http->multi || !http->share)
		return false;
	curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
	curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)http->max);
	curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)http->max);
	return true;
}

static void http_free(struct dz_http *http)
{
	struct slot *slot;

	while ((slot = http->free_slots)) {
		http->free_slots = slot->next_free;
		curl_easy_cleanup(slot->easy);
		curl_slist_free_all(slot->addresses);
		free(slot);
	}
	if (http->multi)
		curl_multi_cleanup(http->multi);
	if (http->share)
		curl_share_cleanup(http->share);
	free(http->user_agent);
	free(http->ca_file);
	free(http);
}

const char *dz_http_ca_file(char *const *envp)
{
	static const char *const names[] = { "AZURE_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE" };
	const char *value;
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(names); i++) {
		value = dz_config_env(envp, names[i]);
		if (value && *value)
			return value;
	}
	return NULL;
}

int dz_http_open(struct dz_http **out, const struct dz_http_options *opt)
{
	struct dz_http *http;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -EIO;
	http = calloc(1, sizeof(*http));
	if (!http)
		return -ENOMEM;
	http->last = &http->first;
	http->max = opt->max_connections ? opt->max_connections : 1;
	http->limit = http->max;
	if (!http_init(http, opt)) {
		http_free(http);
		return -ENOMEM;
	}
	*out = http;
	return 0;
}

static void cancel_queued(struct dz_http *http)
{
	struct dz_http_req *req;

	/* Room for all of them: none will be sent. */
	http->n_counted = 0;
	http->limit = 1;
	while ((req = queue_pop(http)))
		req->done(req, -ECANCELED, "closing");
}

void dz_http_close(struct dz_http *http)
{
	struct dz_http_req *req;
	struct slot *slot;

	while ((slot = http->busy_slots)) {
		req = slot->req;
		curl_multi_remove_handle(http->multi, slot->easy);
		slot_unlink(slot);
		slot_put(slot);
		req->done(req, -ECANCELED, "closing");
	}
	cancel_queued(http);
	http_free(http);
}

void dz_http_abandon(struct dz_http *http)
{
	uint32_t i;

	for (i = 0; i < http->n_sockets; i++)
		dz_sys_close(http->sockets[i]);
	http->n_sockets = 0;
}
