/* SPDX-License-Identifier: MIT */
/*
 * One request, from submit to done:
 *  1. choose the mount's credential; wait for a token where that is one;
 *  2. queue it at the connection pool, which calls back to build each try;
 *  3. check the head of the answer, then hand out its bytes, or gather the page;
 *  4. judge the end: an answer is final, a failure to get one is tried again.
 *
 * A try fails when the service asks to come back (408, 429, 500, 502, 503, 504),
 * when the connection breaks or stalls, or when the answer contradicts itself.
 * The next one waits a random time that doubles at most up to 10 s (or what
 * Retry-After says) and asks for the bytes that are still missing, pinned to the
 * ETag of those that were handed out.  When the request's budget of time is used
 * up, the caller gets the error and the log one line.
 */
#include "cache/blob/blob.h"

#include "cache/blob/answer.h"
#include "cache/blob/auth.h"
#include "cache/blob/http.h"
#include "cache/blob/list.h"
#include "cache/blob/request.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION "2021-12-02"
#define USER_AGENT  "deltazero/0.1"
#define CONNECTIONS 64
#define BUDGET_MS   60000
/* An address where nobody ever answered is a typing mistake: do not hang on it. */
#define FIRST_CONTACT_MS 5000
#define BACKOFF_BASE_MS	 50
#define BACKOFF_MAX_MS	 10000
/* A storm of failures writes this many lines in ten seconds, and a sum. */
#define LOG_LINES     20
#define LOG_PERIOD_MS 10000

struct op {
	struct dz_http_req http; /* first: op_of() */
	struct dz_token_waiter waiter;
	struct dz_blob *blob;
	struct dz_blob_req *req;
	struct op *next, **link; /* all that are not at the pool or at the token */
	struct dz_cred cred;
	struct dz_request out;
	struct dz_answer answer;
	struct dz_list *list;
	uint64_t begin_ms, due_ms;
	uint64_t at, stop; /* GET: next byte to hand out; end of this answer */
	uint64_t queue_ns;
	uint32_t backoff; /* failures in a row without a byte */
	uint32_t token_generation;
	bool is_token_renewed;
	bool is_checked; /* the head of this answer was found good */
	bool is_caller_error;
	int head_error; /* what the check said */
};

struct dz_blob {
	struct dz_http *http;
	struct dz_auth *auth;
	struct dz_log log;
	uint32_t budget_ms;
	char version[32];
	struct op *waiting; /* for their next try */
	uint64_t random;
	uint64_t errors, retries, tries;
	uint32_t n_ops, n_ended;
	bool has_contact; /* somebody answered once */
	bool is_closing;
	uint64_t log_since_ms;
	uint32_t log_lines, log_dropped;
};

static struct op *op_of(struct dz_http_req *http)
{
	return (struct op *)http;
}

static struct op *op_of_waiter(struct dz_token_waiter *w)
{
	return (struct op *)((char *)w - offsetof(struct op, waiter));
}

static const char *verb_of(const struct op *op)
{
	static const char *const verbs[] = { "GET", "HEAD", "LIST" };

	return verbs[op->req->op];
}

/* The ETag that the next try must find: the caller's, or that of the bytes so far. */
static const char *pinned_etag(const struct op *op)
{
	if (op->req->etag && op->req->etag[0])
		return op->req->etag;
	return op->at > op->req->off ? op->req->res.etag : "";
}

static uint64_t next_random(struct dz_blob *b)
{
	b->random ^= b->random << 13;
	b->random ^= b->random >> 7;
	b->random ^= b->random << 17;
	return b->random;
}

static void op_link(struct op *op)
{
	struct dz_blob *b = op->blob;

	op->next = b->waiting;
	op->link = &b->waiting;
	if (op->next)
		op->next->link = &op->next;
	b->waiting = op;
}

static void op_unlink(struct op *op)
{
	*op->link = op->next;
	if (op->next)
		op->next->link = op->link;
}

/* False when this line is one too many. */
static bool may_log(struct dz_blob *b)
{
	uint64_t now = dz_now_ms();

	if (now - b->log_since_ms >= LOG_PERIOD_MS) {
		if (b->log_dropped)
			dz_warn(&b->log, "blob: %u more failures were not logged", b->log_dropped);
		b->log_since_ms = now;
		b->log_lines = 0;
		b->log_dropped = 0;
	}
	if (b->log_lines++ < LOG_LINES)
		return true;
	b->log_dropped++;
	return false;
}

/* `se` of a SAS is a date and perhaps a time, such as 2026-11-23T09%3A00%3A00Z. */
static bool has_expired(const char *sas)
{
	time_t now = (time_t)(dz_wall_ms() / 1000);
	char day[32];
	struct tm tm;

	while (strncmp(sas, "se=", 3) != 0) {
		sas = strchr(sas, '&');
		if (!sas++)
			return false;
	}
	gmtime_r(&now, &tm);
	strftime(day, sizeof(day),
		 strcasestr(sas, "%3A") ? "%Y-%m-%dT%H%%3A%M%%3A%S" : "%Y-%m-%dT%H:%M:%S", &tm);
	return strncasecmp(sas + 3, day, dz_min_u64(strcspn(sas + 3, "&Z"), strlen(day))) < 0;
}

/* What a person can do about it; "" when the error speaks for itself. */
static const char *advice(const struct op *op, int err, char *text, size_t cap)
{
	const struct dz_answer *a = &op->answer;
	int64_t skew = a->date_s < 0 ? 0 : a->date_s - (int64_t)(dz_wall_ms() / 1000);

	if (err == -EHOSTUNREACH)
		return "; is the account's name right, and is there a way through to it?";
	if (err != -EACCES)
		return "";
	if (op->cred.kind == DZ_CRED_KEY && (skew > 600 || skew < -600)) {
		snprintf(text, cap, "; this machine's clock is %lld s off", (long long)-skew);
		return text;
	}
	if (op->cred.kind == DZ_CRED_SAS && has_expired(op->cred.sas))
		return "; the SAS has expired";
	if (strcmp(a->code, "AuthorizationPermissionMismatch") == 0)
		return op->cred.kind == DZ_CRED_SAS ? "; the SAS needs read and list (sp=rl)"
						    : "; the identity needs the role Storage Blob "
						      "Data Reader (a new role "
						      "takes some minutes)";
	if (strcmp(a->code, "AuthorizationFailure") == 0)
		return "; a firewall rule of the account may shut out this network";
	return "";
}

/* "LIST https://acct.blob.core.windows.net/c, prefix `a/`" without secrets. */
static void log_end(struct op *op, int err, const char *why)
{
	const struct dz_blob_req *req = op->req;
	const struct dz_answer *a = &op->answer;
	char text[96];

	if (!may_log(op->blob))
		return;
	dz_warn(&op->blob->log,
		"%s %s/%s/%.300s: %s: status %d %s%s%s (credential: %s; %u tries; request %s)%s",
		verb_of(op), req->mount->endpoint, req->mount->container, req->name,
		dz_strerror(err), a->status, a->code, why[0] ? " " : "", why, op->cred.name,
		req->res.tries, a->request_id[0] ? a->request_id : "-",
		advice(op, err, text, sizeof(text)));
}

static void op_free(struct op *op)
{
	op->req->priv = NULL;
	dz_list_free(op->list);
	dz_request_free(&op->out);
	free(op);
}

static bool is_quiet(const struct op *op, int err)
{
	/* A container that is not there is a mistake; a blob may well be missing. */
	if (err == -ENOENT)
		return strcmp(op->answer.code, "ContainerNotFound") != 0;
	return err == 0 || err == -ERANGE || err == -ECANCELED || op->is_caller_error;
}

static void op_end(struct op *op, int err, const char *why)
{
	struct dz_blob_req *req = op->req;
	struct dz_blob *b = op->blob;

	if (!is_quiet(op, err))
		log_end(op, err, why);
	if (err && err != -ENOENT && err != -ERANGE)
		b->errors++;
	req->res.status = op->answer.status;
	req->res.queue_ns = op->queue_ns;
	memcpy(req->res.error_code, op->answer.code, sizeof(req->res.error_code));
	op_free(op);
	b->n_ops--;
	b->n_ended++;
	req->done(req, err);
}

/* To the pool, by way of the token. */
static void op_queue(struct op *op)
{
	op->is_checked = false;
	op->head_error = 0;
	if (op->cred.kind == DZ_CRED_TOKEN &&
	    !dz_token_header(op->cred.token, &op->token_generation))
		dz_token_wait(op->cred.token, &op->waiter);
	else
		dz_http_submit(op->blob->http, &op->http);
}

static void on_token(struct dz_token_waiter *w, int err)
{
	struct op *op = op_of_waiter(w);

	if (err) {
		dz_answer_begin(&op->answer, 0);
		op_end(op, err, "no token");
	} else {
		op_queue(op);
	}
}

static int on_prepare(struct dz_http_req *http)
{
	struct op *op = op_of(http);
	const char *bearer = NULL;

	dz_answer_begin(&op->answer, 0);
	op->stop = 0;
	if (op->cred.kind == DZ_CRED_TOKEN) {
		bearer = dz_token_header(op->cred.token, &op->token_generation);
		/* It ended while we queued. */
		if (!bearer)
			return -EAGAIN;
	}
	op->req->res.tries++;
	op->blob->tries++;
	return dz_request_build(&op->out, http, op->req, &op->cred, op->blob->version, op->at,
				pinned_etag(op), bearer);
}

static void on_begin(struct dz_http_req *http, int status)
{
	struct op *op = op_of(http);

	dz_answer_begin(&op->answer, status);
	op->blob->has_contact = true;
}

static void on_header(struct dz_http_req *http, const char *name, size_t name_len,
		      const char *value, size_t value_len)
{
	dz_answer_header(&op_of(http)->answer, name, name_len, value, value_len);
}

static void take_attributes(struct op *op, uint64_t size)
{
	struct dz_blob_res *res = &op->req->res;

	res->status = op->answer.status;
	res->size = size;
	res->mtime_s = op->answer.mtime_s < 0 ? 0 : op->answer.mtime_s;
	res->is_dir = op->answer.is_dir;
	memcpy(res->etag, op->answer.etag, sizeof(res->etag));
}

/* Once for each answer, before its first byte.  Returns 0, -EPROTO or -ESTALE. */
static int check_get(struct op *op)
{
	const struct dz_blob_req *req = op->req;
	const struct dz_blob_res *known = op->at > req->off ? &req->res : NULL;

	if (op->is_checked || op->head_error)
		return op->head_error;
	op->head_error = dz_answer_check_get(&op->answer, op->at, req->off + req->len,
					     pinned_etag(op), known, &op->stop);
	if (op->head_error == -ERANGE)
		op->req->res.size = op->answer.total;
	if (op->head_error)
		return op->head_error;
	op->is_checked = true;
	take_attributes(op, op->answer.status == 200 ? op->answer.length : op->answer.total);
	return 0;
}

static int take_bytes(struct op *op, const void *data, size_t n)
{
	uint64_t at = op->at;
	int ret = check_get(op);

	if (ret)
		return ret;
	if (n > op->stop - at) {
		op->head_error = -EPROTO;
		return -EPROTO;
	}
	op->at += n;
	op->backoff = 0;
	ret = op->req->body(op->req, at, data, n);
	op->is_caller_error = ret != 0;
	return ret;
}

static int take_page(struct op *op, const void *data, size_t n, bool is_last)
{
	if (!op->list)
		op->list = dz_list_new();
	if (!op->list)
		return -ENOMEM;
	return dz_list_feed(op->list, data, n, is_last);
}

static int on_data(struct dz_http_req *http, const void *data, size_t n)
{
	struct op *op = op_of(http);
	int status = op->answer.status;

	if (op->req->op == DZ_BLOB_GET && (status == 200 || status == 206))
		return take_bytes(op, data, n);
	if (op->req->op == DZ_BLOB_LIST && status == 200)
		return take_page(op, data, n, false);
	dz_answer_error_body(&op->answer, data, n);
	return 0;
}

/* The end of a good-looking GET: all of it, or -EPROTO. */
static int finish_get(struct op *op)
{
	int ret = check_get(op);

	if (ret)
		return ret;
	return op->at == op->stop ? 0 : -EPROTO;
}

static int finish_head(struct op *op)
{
	const struct dz_answer *a = &op->answer;

	if (a->is_bad || !a->has_length || !a->etag[0])
		return -EPROTO;
	take_attributes(op, a->length);
	return 0;
}

static int give_entry(void *arg, const struct dz_blob_entry *e)
{
	struct op *op = arg;
	int ret = op->req->entry(op->req, e);

	op->is_caller_error = ret != 0;
	return ret;
}

/* Every name must lie below what was asked for, or it is not an answer to it. */
static int check_entry(void *arg, const struct dz_blob_entry *e)
{
	const struct op *op = arg;
	size_t len = strlen(op->req->name);

	return e->name_len >= len && memcmp(e->name, op->req->name, len) == 0 ? 0 : -EPROTO;
}

static int finish_list(struct op *op)
{
	struct dz_blob_req *req = op->req;
	const char *next;
	int ret = take_page(op, "", 0, true);

	if (ret == 0)
		ret = dz_list_each(op->list, check_entry, op);
	if (ret)
		return ret;
	next = dz_list_next_marker(op->list);
	/* A page that leads to itself would never end. */
	if (next[0] && req->marker && strcmp(next, req->marker) == 0)
		return -EPROTO;
	memcpy(req->res.next_marker, next, strlen(next) + 1);
	return dz_list_each(op->list, give_entry, op);
}

static int finish_success(struct op *op)
{
	switch (op->req->op) {
	case DZ_BLOB_GET:
		return finish_get(op);
	case DZ_BLOB_HEAD:
		return finish_head(op);
	default:
		return finish_list(op);
	}
}

enum verdict { FINAL, AGAIN, AGAIN_WITH_NEW_TOKEN };

static enum verdict judge_denial(struct op *op, int *err)
{
	*err = -EACCES;
	if (op->cred.kind != DZ_CRED_TOKEN || op->is_token_renewed)
		return FINAL;
	op->is_token_renewed = true;
	return AGAIN_WITH_NEW_TOKEN;
}

/* A whole answer came; its status decides. */
static enum verdict judge_status(struct op *op, int *err)
{
	const struct dz_answer *a = &op->answer;

	*err = -EIO;
	switch (a->status) {
	case 404:
		*err = -ENOENT;
		return FINAL;
	case 401:
	case 403:
		return judge_denial(op, err);
	case 412:
		*err = -ESTALE;
		return FINAL;
	case 416:
		/* After bytes were handed out it means that the blob shrank. */
		*err = op->at > op->req->off ? -ESTALE : -ERANGE;
		op->req->res.size = a->total;
		return FINAL;
	case 409:
		if (strcmp(a->code, "PublicAccessNotPermitted") == 0)
			*err = -EACCES;
		return FINAL;
	case 500:
		/* The emulator says so, and will say so again. */
		return strcmp(a->code, "FeatureNotSupported") == 0 ? FINAL : AGAIN;
	case 408:
	case 429:
	case 502:
	case 503:
	case 504:
		return AGAIN;
	default:
		return FINAL;
	}
}

static bool is_success(const struct op *op)
{
	int status = op->answer.status;

	return status == 200 || (status == 206 && op->req->op == DZ_BLOB_GET);
}

/* *err: in, how the exchange went; out, what the caller gets if this was the last try. */
static enum verdict judge(struct op *op, int *err)
{
	if (op->is_caller_error || *err == -ECANCELED || *err == -ENOMEM || *err == -ENAMETOOLONG)
		return FINAL;
	/* A certificate does not get better by asking again. */
	if (*err == -EKEYREJECTED) {
		*err = -EIO;
		return FINAL;
	}
	if (op->head_error == -ESTALE) {
		*err = -ESTALE;
		return FINAL;
	}
	if (*err == 0 && is_success(op)) {
		*err = finish_success(op);
		if (*err != -EPROTO || op->is_caller_error)
			return FINAL;
	} else if (*err == 0) {
		dz_answer_finish(&op->answer);
		return judge_status(op, err);
	}
	if (*err != -EHOSTUNREACH)
		*err = -EIO;
	return AGAIN;
}

/* Full jitter, or what the service asks for if that is longer. */
static uint64_t choose_delay(struct op *op)
{
	uint64_t top = (uint64_t)BACKOFF_BASE_MS << dz_min_u64(op->backoff, 16);
	uint64_t delay = next_random(op->blob) % (dz_min_u64(top, BACKOFF_MAX_MS) + 1);

	return dz_max_u64(delay, op->answer.retry_after_ms);
}

static bool is_slow_down(const struct op *op, int err)
{
	return op->answer.status == 503 || op->answer.status == 429 || err == -ETIMEDOUT;
}

/* Plans the next try; ends the request when that would come too late. */
static void op_retry(struct op *op, int err, const char *why)
{
	struct dz_blob *b = op->blob;
	uint64_t now = dz_now_ms();
	uint64_t budget =
		b->has_contact ? b->budget_ms : dz_min_u64(b->budget_ms, FIRST_CONTACT_MS);
	uint64_t delay = choose_delay(op);

	if (now + delay > op->begin_ms + budget) {
		op_end(op, err, why);
		return;
	}
	b->retries++;
	op->backoff++;
	op->due_ms = now + delay;
	dz_list_free(op->list);
	op->list = NULL;
	dz_debug(&b->log, "%s %s/%.300s: status %d %s %s; again in %llu ms", verb_of(op),
		 op->req->mount->container, op->req->name, op->answer.status, op->answer.code, why,
		 (unsigned long long)delay);
	op_link(op);
}

static const char *why_malformed(const struct op *op, int wire_err, const char *why)
{
	if (op->head_error == -EPROTO || (wire_err == 0 && is_success(op)))
		return "the answer does not fit the request";
	return wire_err ? why : "";
}

static void on_done(struct dz_http_req *http, int err, const char *why)
{
	struct op *op = op_of(http);
	struct dz_blob *b = op->blob;
	int wire_err = err;

	op->queue_ns += http->queue_ns;
	op->req->res.net_ns = http->net_ns;
	if (err == -EAGAIN) {
		op_queue(op);
		return;
	}
	/* Broken off or silent, but somebody took the connection. */
	b->has_contact |= err == -ETIMEDOUT || err == -ECONNRESET;
	if (is_slow_down(op, err))
		dz_http_slow_down(b->http);
	else if (err == 0)
		dz_http_went_well(b->http);
	switch (judge(op, &err)) {
	case FINAL:
		op_end(op, err, why_malformed(op, wire_err, why));
		break;
	case AGAIN:
		op_retry(op, err, why_malformed(op, wire_err, why));
		break;
	case AGAIN_WITH_NEW_TOKEN:
		dz_token_reject(op->cred.token, op->token_generation);
		b->retries++;
		op_queue(op);
		break;
	}
}

/* Queues what is due; returns the milliseconds until the next, or `limit`. */
static uint64_t start_due(struct dz_blob *b, uint64_t limit)
{
	struct op *op = b->waiting;
	struct op *next;
	uint64_t now = dz_now_ms();

	for (; op; op = next) {
		next = op->next;
		if (op->due_ms > now) {
			limit = dz_min_u64(limit, op->due_ms - now);
			continue;
		}
		op_unlink(op);
		op_queue(op);
	}
	return limit;
}

int dz_blob_submit(struct dz_blob *b, struct dz_blob_req *req)
{
	struct op *op;
	int ret = b->is_closing ? -EINVAL : dz_request_check(req);

	if (ret)
		return ret;
	op = calloc(1, sizeof(*op));
	if (!op)
		return -ENOMEM;
	ret = dz_auth_choose(b->auth, req->mount, &op->cred);
	if (ret) {
		free(op);
		return ret;
	}
	op->blob = b;
	op->req = req;
	op->begin_ms = dz_now_ms();
	op->at = req->off;
	op->waiter.ready = on_token;
	op->http = (struct dz_http_req){ .prepare = on_prepare,
					 .begin = on_begin,
					 .header = on_header,
					 .data = on_data,
					 .done = on_done };
	memset(&req->res, 0, sizeof(req->res));
	req->priv = op;
	b->n_ops++;
	op_queue(op);
	return 0;
}

static uint64_t start_all(struct dz_blob *b, uint64_t limit)
{
	struct dz_token *token = dz_auth_token(b->auth);

	limit = start_due(b, limit);
	return token ? dz_min_u64(limit, dz_token_step(token)) : limit;
}

int dz_blob_pump(struct dz_blob *b, int timeout_ms, int wake_fd)
{
	uint32_t ended = b->n_ended;
	uint64_t limit = timeout_ms < 0 ? INT32_MAX : (uint64_t)timeout_ms;
	int ret;

	start_all(b, limit);
	ret = dz_http_step(b->http);
	if (ret < 0 || b->n_ended != ended || timeout_ms == 0)
		goto out;
	/* Tries that failed just now may be due before the caller's time is up. */
	limit = start_all(b, limit);
	ret = dz_http_wait(b->http, (int)limit, wake_fd);
	if (ret < 0)
		goto out;
	start_all(b, limit);
	ret = dz_http_step(b->http);
out:
	return ret < 0 ? ret : (int)(b->n_ended - ended);
}

void dz_blob_get_stats(const struct dz_blob *b, struct dz_blob_stats *out)
{
	struct dz_http_stats http;

	dz_http_get_stats(b->http, &http);
	*out = (struct dz_blob_stats){
		.requests = b->tries,
		.bytes = http.bytes,
		.errors = b->errors,
		.retries = b->retries,
		.connections = http.connections,
		.in_flight = http.in_flight,
		.queued = b->n_ops > http.in_flight ? b->n_ops - http.in_flight : 0,
		.open_now = http.open_now,
		.peak_open = http.peak_open,
	};
}

/* A version is a date; anything else would be a header of its own. */
static void choose_version(struct dz_blob *b, char *const *envp)
{
	const char *text = dz_config_env(envp, "AZURE_STORAGE_SERVICE_API_VERSION");

	snprintf(b->version, sizeof(b->version), "%s", API_VERSION);
	if (!text || !*text)
		return;
	if (strspn(text, "0123456789-") == strlen(text) && strlen(text) == 10)
		snprintf(b->version, sizeof(b->version), "%s", text);
	else
		dz_warn(&b->log,
			"AZURE_STORAGE_SERVICE_API_VERSION: `%.20s`: not like " API_VERSION
			": using " API_VERSION,
			text);
}

static void seed_random(struct dz_blob *b)
{
	b->random = 0;
	dz_sys_3(SYS_getrandom, &b->random, sizeof(b->random), 0);
	b->random ^= dz_now_ns();
	b->random |= 1;
}

int dz_blob_open(struct dz_blob **out, const struct dz_blob_options *opt)
{
	struct dz_blob *b = calloc(1, sizeof(*b));
	struct dz_http_options http = {
		.max_connections = opt->max_connections ? opt->max_connections : CONNECTIONS,
		.user_agent = USER_AGENT,
		.ca_file = dz_http_ca_file(opt->envp),
		.is_guest = opt->is_guest,
	};
	int ret;

	if (!b)
		return -ENOMEM;
	b->log = *opt->log;
	b->budget_ms = opt->budget_ms ? opt->budget_ms : BUDGET_MS;
	choose_version(b, opt->envp);
	seed_random(b);
	ret = dz_http_open(&b->http, &http);
	if (ret < 0)
		goto err_free;
	ret = dz_auth_open(&b->auth, opt->envp, b->http, &b->log);
	if (ret < 0)
		goto err_http;
	*out = b;
	return 0;

err_http:
	dz_http_close(b->http);
err_free:
	free(b);
	return ret;
}

void dz_blob_close(struct dz_blob *b)
{
	struct op *op;

	if (!b)
		return;
	b->is_closing = true;
	if (dz_auth_token(b->auth))
		dz_token_cancel(dz_auth_token(b->auth));
	while ((op = b->waiting)) {
		op_unlink(op);
		op_end(op, -ECANCELED, "");
	}
	dz_http_close(b->http);
	dz_auth_close(b->auth);
	free(b);
}

void dz_blob_abandon(struct dz_blob *b)
{
	if (b)
		dz_http_abandon(b->http);
}
