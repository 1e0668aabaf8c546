/* SPDX-License-Identifier: MIT */
/*
 * Answers: the protocol's errors with their status and XML, the headers that
 * every answer has, and the log line.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/serve.h"

static const struct error {
	const char *code;
	int status;
	const char *text;
} errors[] = {
	{ "AuthenticationFailed", 403,
	  "Server failed to authenticate the request. Make sure the value of Authorization header "
	  "is formed correctly including the signature." },
	{ "AuthorizationFailure", 403,
	  "This request is not authorized to perform this operation." },
	{ "AuthorizationPermissionMismatch", 403,
	  "This request is not authorized to perform this operation using this permission." },
	{ "AuthorizationProtocolMismatch", 403,
	  "This request is not authorized to perform this operation using this protocol." },
	{ "AuthorizationSourceIPMismatch", 403,
	  "This request is not authorized to perform this operation using this source IP." },
	{ "AuthorizationServiceMismatch", 403,
	  "This request is not authorized to perform this operation using this service." },
	{ "AuthorizationResourceTypeMismatch", 403,
	  "This request is not authorized to perform this operation using this resource type." },
	{ "NoAuthenticationInformation", 401,
	  "Server failed to authenticate the request. Please refer to the information in the "
	  "www-authenticate header." },
	{ "InvalidAuthenticationInfo", 401,
	  "Server failed to authenticate the request. Please refer to the information in the "
	  "www-authenticate header." },
	{ "BlobNotFound", 404, "The specified blob does not exist." },
	{ "ContainerNotFound", 404, "The specified container does not exist." },
	{ "ResourceNotFound", 404, "The specified resource does not exist." },
	{ "CannotVerifyCopySource", 404, "The specified copy source does not exist." },
	{ "BlobAlreadyExists", 409, "The specified blob already exists." },
	{ "ContainerAlreadyExists", 409, "The specified container already exists." },
	{ "PathConflict", 409,
	  "dz serve keeps blobs as files: a name cannot be both a file and a folder." },
	{ "ConditionNotMet", 412,
	  "The condition specified using HTTP conditional header(s) is not met." },
	{ "InvalidRange", 416,
	  "The range specified is invalid for the current size of the resource." },
	{ "UnsatisfiableCondition", 400,
	  "The request includes an unsatisfiable condition for this operation." },
	{ "InvalidUri", 400, "The requested URI does not represent any resource on the server." },
	{ "InvalidInput", 400, "One of the request inputs is not valid." },
	{ "InvalidHeaderValue", 400,
	  "The value for one of the HTTP headers is not in the correct format." },
	{ "InvalidQueryParameterValue", 400,
	  "Value for one of the query parameters specified in the request URI is invalid." },
	{ "OutOfRangeQueryParameterValue", 400,
	  "One of the query parameters specified in the request URI is outside the permissible "
	  "range." },
	{ "OutOfRangeInput", 400, "One of the request inputs is out of range." },
	{ "InvalidResourceName", 400, "The specified resource name contains invalid characters." },
	{ "InvalidMarker", 400, "The specified marker is invalid." },
	{ "InvalidBlockList", 400, "The specified block list is invalid." },
	{ "InvalidBlockId", 400, "The specified block ID is invalid." },
	{ "InvalidBlobOrBlock", 400, "The specified blob or block content is invalid." },
	{ "InvalidXmlDocument", 400, "XML specified is not syntactically valid." },
	{ "InvalidMd5", 400, "The MD5 value specified in the request is invalid." },
	{ "Md5Mismatch", 400,
	  "The MD5 value specified in the request did not match with the MD5 value calculated by "
	  "the server." },
	{ "MissingRequiredHeader", 400,
	  "An HTTP header that's mandatory for this request is not specified." },
	{ "MissingContentLengthHeader", 411, "The Content-Length header was not specified." },
	{ "RequestBodyTooLarge", 413,
	  "The request body is too large and exceeds the maximum permissible limit." },
	{ "UnsupportedHttpVerb", 405, "The resource doesn't support the specified HTTP verb." },
	{ "TooManyRequests", 429, "The server is currently receiving too many requests." },
	{ "OperationTimedOut", 500,
	  "The operation could not be completed within the permitted time." },
	{ "InternalError", 500,
	  "The server encountered an internal error. Please retry the request." },
	{ "NotImplemented", 501, "dz serve does not have this operation." },
	{ "BadGateway", 502, "The server received no answer." },
	{ "ServerBusy", 503,
	  "The server is currently unable to receive requests. Please retry your request." },
	{ "GatewayTimeout", 504, "The server received no answer in time." },
};

static const struct error *find_error(const char *code)
{
	for (size_t i = 0; i < DZ_ARRAY_LEN(errors); i++) {
		if (strcmp(errors[i].code, code) == 0)
			return &errors[i];
	}
	return NULL;
}

/* The status's usual code, for fault rules that name a number only. */
static const char *code_of_status(int status)
{
	if (status == 503)
		return "ServerBusy";
	if (status == 500)
		return "InternalError";
	for (size_t i = 0; i < DZ_ARRAY_LEN(errors); i++) {
		if (errors[i].status == status)
			return errors[i].code;
	}
	return "InternalError";
}

void serve_set(struct serve_call *call, const char *name, const char *fmt, ...)
{
	char value[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	serve_buf_printf(&call->res.head, "%s: %s\r\n", name, value);
}

/* Drops what the operation has prepared so far. */
static void drop_answer(struct serve_res *res)
{
	res->head.len = 0;
	res->body.len = 0;
	res->head_len = 0;
	res->file_len = 0;
	if (res->file_fd >= 0)
		close(res->file_fd);
	res->file_fd = -1;
}

static void error_xml(struct serve_call *call, const char *code, const char *text,
		      const char *detail)
{
	struct serve_buf *xml = &call->res.body;
	char date[32];

	serve_http_date(date, time(NULL));
	serve_buf_printf(xml,
			 "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
			 "<Error><Code>%s</Code><Message>",
			 code);
	serve_buf_xml(xml, text);
	serve_buf_printf(xml, "\nTime:%s</Message>", date);
	if (detail) {
		serve_buf_str(xml, "<AuthenticationErrorDetail>");
		serve_buf_xml(xml, detail);
		serve_buf_str(xml, "</AuthenticationErrorDetail>");
	}
	serve_buf_str(xml, "</Error>");
	serve_set(call, "Content-Type", "application/xml");
}

static void answer_error(struct serve_call *call, int status, const char *code, const char *text,
			 const char *detail)
{
	drop_answer(&call->res);
	call->res.status = status;
	call->res.error = code;
	if (strcmp(call->req.method, "HEAD") != 0 && status != 304)
		error_xml(call, code, text, detail);
	if (status == 401)
		serve_set(
			call, "WWW-Authenticate",
			"Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/"
			"authorize resource_id=https://storage.azure.com");
}

void serve_error_detail(struct serve_call *call, const char *code, const char *detail)
{
	const struct error *e = find_error(code);

	answer_error(call, e->status, e->code, e->text, detail);
}

void serve_error(struct serve_call *call, const char *code)
{
	serve_error_detail(call, code, NULL);
}

void serve_error_status(struct serve_call *call, int status, const char *code)
{
	const struct error *e = find_error(*code ? code : code_of_status(status));

	answer_error(call, status, *code ? code : e->code, e ? e->text : "As the script says.",
		     NULL);
}

void serve_error_errno(struct serve_call *call, int err)
{
	switch (err) {
	case -ENOENT:
		serve_error(call, serve_container_exists(call->srv, call->req.container)
					  ? "BlobNotFound"
					  : "ContainerNotFound");
		break;
	case -EINVAL:
	case -ENAMETOOLONG:
		serve_error(call, "InvalidResourceName");
		break;
	case -ENOTDIR:
	case -EISDIR:
	case -ENOTEMPTY:
	case -EEXIST:
		serve_error(call, "PathConflict");
		break;
	default:
		fprintf(stderr, "dz serve: %s %s: %s\n", call->req.method, call->req.path,
			strerror(-err));
		serve_error(call, "InternalError");
	}
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = { { 200, "OK" },
			{ 201, "Created" },
			{ 202, "Accepted" },
			{ 206, "Partial Content" },
			{ 304, "Not Modified" },
			{ 403, "Forbidden" },
			{ 404, "Not Found" },
			{ 412, "Precondition Failed" },
			{ 416, "Range Not Satisfiable" },
			{ 503, "Service Unavailable" } };

	for (size_t i = 0; i < DZ_ARRAY_LEN(reasons); i++) {
		if (reasons[i].status == status)
			return reasons[i].text;
	}
	return status < 400 ? "OK" : "Error";
}

static void echo_header(struct serve_call *call, const char *name, struct serve_buf *out)
{
	const char *value = serve_header(&call->req, name);

	if (value && strlen(value) <= 1024)
		serve_buf_printf(out, "%s: %s\r\n", name, value);
}

void serve_head(struct serve_call *call, uint64_t content_length, struct serve_buf *out)
{
	uint64_t n = atomic_fetch_add_explicit(&call->srv->last_request, 1, memory_order_relaxed);
	struct serve_res *res = &call->res;
	char date[32];

	serve_http_date(date, time(NULL));
	serve_buf_printf(out, "HTTP/1.1 %d %s\r\nServer: dz-serve\r\nDate: %s\r\n", res->status,
			 reason(res->status), date);
	serve_buf_printf(out, "x-ms-request-id: %08x-001e-0000-0000-%012llx\r\n",
			 (unsigned)getpid(), (unsigned long long)n);
	echo_header(call, "x-ms-version", out);
	echo_header(call, "x-ms-client-request-id", out);
	if (res->error)
		serve_buf_printf(out, "x-ms-error-code: %s\r\n", res->error);
	if (res->status != 304)
		serve_buf_printf(out, "Content-Length: %llu\r\n",
				 (unsigned long long)content_length);
	if (!call->req.keep_alive)
		serve_buf_str(out, "Connection: close\r\n");
	if (call->fault.retry_after >= 0)
		serve_buf_printf(out, "Retry-After: %d\r\n", call->fault.retry_after);
	if (call->fault.retry_after_ms >= 0)
		serve_buf_printf(out, "x-ms-retry-after-ms: %d\r\n", call->fault.retry_after_ms);
	serve_buf_add(out, res->head.data, res->head.len);
	serve_buf_str(out, "\r\n");
}

/* The query without the value of `sig`: a log is no place for credentials. */
static void log_query(struct serve_buf *line, const char *query)
{
	while (*query) {
		size_t n = strcspn(query, "&");

		if (strncmp(query, "sig=", 4) == 0) {
			serve_buf_str(line, "sig=REDACTED");
		} else {
			struct serve_buf part = { 0 };

			serve_buf_add(&part, query, n);
			serve_buf_json(line, part.data);
			serve_buf_free(&part);
		}
		query += n;
		if (*query)
			serve_buf_add(line, query++, 1);
	}
}

static void log_string(struct serve_buf *line, const char *key, const char *value)
{
	serve_buf_printf(line, ",\"%s\":\"", key);
	serve_buf_json(line, value);
	serve_buf_str(line, "\"");
}

/* One write(2) on a file opened for appending: lines never mix. */
void serve_log(struct serve_call *call, uint64_t conn, uint64_t body_bytes, uint64_t start_ns)
{
	struct serve_req *req = &call->req;
	const char *range = serve_header(req, "x-ms-range");
	struct serve_buf line = { 0 };
	struct timespec now;
	ssize_t ignored;

	if (call->srv->log_fd < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	if (!range)
		range = serve_header(req, "range");
	serve_buf_printf(&line, "{\"time\":%lld.%06ld,\"conn\":%llu", (long long)now.tv_sec,
			 now.tv_nsec / 1000, (unsigned long long)conn);
	log_string(&line, "method", req->method);
	log_string(&line, "op", call->op ? call->op->name : "");
	log_string(&line, "path", req->path);
	serve_buf_str(&line, ",\"query\":\"");
	log_query(&line, req->raw_query);
	serve_buf_str(&line, "\"");
	log_string(&line, "range", range ? range : "");
	serve_buf_printf(&line, ",\"status\":%d,\"bytes\":%llu,\"ms\":%.3f", call->res.status,
			 (unsigned long long)body_bytes, (double)(serve_now_ns() - start_ns) / 1e6);
	log_string(&line, "error", call->res.error ? call->res.error : "");
	serve_buf_printf(&line, ",\"fault\":%u}\n", call->fault.rule);
	ignored = write(call->srv->log_fd, line.data, line.len);
	(void)ignored;
	serve_buf_free(&line);
}
