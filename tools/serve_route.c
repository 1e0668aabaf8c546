/* SPDX-License-Identifier: MIT */
/*
 * From a request head to the operation that answers it.
 *
 * 1. The first row of the table that fits method, level, restype, comp and
 *    marker header is the operation; none: 400, 405 or 501.
 * 2. The fault rules are asked; a rule may answer in the operation's place.
 * 3. The credentials are checked, before the body is read.
 * 4. The body goes to the sink that the row names; a refused request's body is
 *    read and dropped, so that the connection stays usable.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "tools/serve.h"

static const struct serve_op ops[] = {
	/* name, method, level, restype, comp, marker, allowed by, sink, answer */
	{ "get", "GET", 'b', "", "", NULL, "r", SERVE_SINK_DROP, serve_op_get },
	{ "head", "HEAD", 'b', "", "", NULL, "r", SERVE_SINK_DROP, serve_op_get },
	{ "head", "GET", 'b', "", "metadata", NULL, "r", SERVE_SINK_DROP, serve_op_get },
	{ "head", "HEAD", 'b', "", "metadata", NULL, "r", SERVE_SINK_DROP, serve_op_get },
	{ "list", "GET", 'c', "container", "list", NULL, "l", SERVE_SINK_DROP, serve_op_list },
	{ "copy", "PUT", 'b', "", "", "x-ms-copy-source", "wc", SERVE_SINK_DROP, serve_op_copy },
	{ "put", "PUT", 'b', "", "", NULL, "wc", SERVE_SINK_FILE, serve_op_put },
	{ "block", "PUT", 'b', "", "block", NULL, "wc", SERVE_SINK_FILE, serve_op_block },
	{ "commit", "PUT", 'b', "", "blocklist", NULL, "wc", SERVE_SINK_MEMORY, serve_op_commit },
	{ "blocks", "GET", 'b', "", "blocklist", NULL, "r", SERVE_SINK_DROP, serve_op_blocks },
	{ "meta", "PUT", 'b', "", "metadata", NULL, "w", SERVE_SINK_DROP, serve_op_set_meta },
	{ "delete", "DELETE", 'b', "", "", NULL, "d", SERVE_SINK_DROP, serve_op_delete },
	{ "container", "GET", 'c', "container", "", NULL, "", SERVE_SINK_DROP,
	  serve_op_container_get },
	{ "container", "HEAD", 'c', "container", "", NULL, "", SERVE_SINK_DROP,
	  serve_op_container_get },
	{ "create", "PUT", 'c', "container", "", NULL, "", SERVE_SINK_DROP,
	  serve_op_container_put },
	{ "containers", "GET", 'a', "", "list", NULL, "", SERVE_SINK_DROP, serve_op_containers },
};

static bool query_is(const struct serve_req *req, const char *name, const char *value)
{
	const char *have = serve_query(req, name);

	return strcmp(have ? have : "", value) == 0;
}

static const struct serve_op *find_op(const struct serve_req *req)
{
	char level = *req->blob ? 'b' : *req->container ? 'c' : 'a';

	for (size_t i = 0; i < DZ_ARRAY_LEN(ops); i++) {
		if (ops[i].level == level && strcmp(ops[i].method, req->method) == 0 &&
		    query_is(req, "restype", ops[i].restype) &&
		    query_is(req, "comp", ops[i].comp) &&
		    (!ops[i].marker || serve_header(req, ops[i].marker)))
			return &ops[i];
	}
	return NULL;
}

/* Does the path begin with /ACCOUNT? */
static bool is_our_account(struct serve_call *call)
{
	size_t n = strlen(call->srv->account);
	const char *path = call->req.path + 1;

	return strncmp(path, call->srv->account, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* A rule that answers in the operation's place. */
static bool refused_by_fault(struct serve_call *call)
{
	struct serve_fault *f = &call->fault;
	const char *authorization = serve_header(&call->req, "authorization");

	if (f->auth_expired)
		serve_error(call, authorization && strncmp(authorization, "Bearer", 6) == 0
					  ? "InvalidAuthenticationInfo"
					  : "AuthenticationFailed");
	else if (f->status)
		serve_error_status(call, f->status, f->code);
	return call->res.status != 0;
}

static bool has_bad_version(struct serve_call *call)
{
	const char *v = serve_header(&call->req, "x-ms-version");
	int year, month, day, end = 0;

	return v && (sscanf(v, "%4d-%2d-%2d%n", &year, &month, &day, &end) != 3 || v[end] != '\0');
}

static void decide_faults(struct serve_call *call)
{
	struct serve_buf path = { 0 };

	serve_buf_printf(&path, "/%s%s%s", call->req.container, *call->req.blob ? "/" : "",
			 call->req.blob);
	serve_fault_decide(call->srv->faults, call->op ? call->op->name : "", path.data,
			   &call->fault);
	serve_buf_free(&path);
}

static void open_sink(struct serve_call *call)
{
	call->sink = call->op->sink;
	if (call->sink == SERVE_SINK_MEMORY && call->req.body_bytes > SERVE_BODY_MAX) {
		serve_error(call, "RequestBodyTooLarge");
		call->sink = SERVE_SINK_DROP;
	}
	if (call->sink == SERVE_SINK_FILE) {
		call->tmp_fd = serve_tmp_open(call->srv, call->tmp);
		if (call->tmp_fd < 0)
			serve_error_errno(call, call->tmp_fd);
	}
	/* Put Blob stores the MD5 of its body; a staged block's is checked on request. */
	if (strcmp(call->op->name, "put") == 0 || serve_header(&call->req, "content-md5")) {
		call->md5 = EVP_MD_CTX_new();
		if (call->md5)
			EVP_DigestInit_ex(call->md5, EVP_md5(), NULL);
	}
}

void serve_begin(struct serve_call *call)
{
	struct serve_req *req = &call->req;

	call->op = find_op(req);
	decide_faults(call);
	if (refused_by_fault(call))
		return;
	if (!is_our_account(call) || has_bad_version(call))
		serve_error(call, has_bad_version(call) ? "InvalidHeaderValue" : "InvalidUri");
	else if (!serve_auth(call))
		return;
	else if (!call->op)
		serve_error(call, "NotImplemented");
	else if (req->is_chunked || (!req->has_length && strcmp(req->method, "PUT") == 0))
		serve_error(call, "MissingContentLengthHeader");
	else
		open_sink(call);
}

/* The body against the Content-MD5 that came with it. */
static bool has_right_md5(struct serve_call *call)
{
	const char *text = serve_header(&call->req, "content-md5");
	unsigned char want[EVP_MAX_MD_SIZE], have[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *copy;

	if (!text || !call->md5)
		return true;
	if (serve_base64_decode(want, sizeof(want), text) != 16) {
		serve_error(call, "InvalidMd5");
		return false;
	}
	copy = EVP_MD_CTX_new();
	EVP_MD_CTX_copy_ex(copy, call->md5);
	EVP_DigestFinal_ex(copy, have, NULL);
	EVP_MD_CTX_free(copy);
	if (memcmp(want, have, 16) == 0)
		return true;
	serve_error(call, "Md5Mismatch");
	return false;
}

void serve_finish(struct serve_call *call)
{
	if (call->res.status == 0 && has_right_md5(call))
		call->op->answer(call);
}

void serve_call_reset(struct serve_call *call)
{
	struct serve_res *res = &call->res;

	if (res->file_fd >= 0)
		close(res->file_fd);
	if (call->tmp_fd >= 0)
		close(call->tmp_fd);
	if (call->tmp[0])
		unlinkat(call->srv->root_fd, call->tmp, 0);
	EVP_MD_CTX_free(call->md5);
	serve_http_free(&call->req);
	serve_buf_free(&res->body);
	serve_buf_free(&call->in);
	res->head.len = 0;
	*call = (struct serve_call){ .srv = call->srv,
				     .tmp_fd = -1,
				     .res = { .file_fd = -1, .head = res->head } };
	serve_fault_clear(&call->fault);
}
