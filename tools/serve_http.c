/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 request heads.
 *
 * 1. Wait for the empty line; 64 KiB without one is not a request.
 * 2. Cut the lines in place: method, target, headers with lower-case names.
 * 3. Decode the query and split the path into account, container and blob.
 *
 * The path and the query also stay as they were sent, for signatures and the
 * log.  A head that breaks the grammar is -EBADMSG; nothing is guessed.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve.h"

const char *serve_header(const struct serve_req *req, const char *name)
{
	for (size_t i = 0; i < req->n_headers; i++) {
		if (strcmp(req->headers[i].name, name) == 0)
			return req->headers[i].value;
	}
	return NULL;
}

const char *serve_query(const struct serve_req *req, const char *name)
{
	for (size_t i = 0; i < req->n_query; i++) {
		if (strcmp(req->query[i].name, name) == 0)
			return req->query[i].value;
	}
	return NULL;
}

static char *lower(char *s)
{
	for (char *p = s; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return s;
}

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return s + strspn(s, " \t");
}

/* "GET /target HTTP/1.1" */
static int parse_request_line(struct serve_req *req, char *line)
{
	char *target = strchr(line, ' ');
	char *version = target ? strchr(target + 1, ' ') : NULL;

	if (!version || target[1] != '/')
		return -EBADMSG;
	*target++ = '\0';
	*version++ = '\0';
	if (strcmp(version, "HTTP/1.1") != 0 && strcmp(version, "HTTP/1.0") != 0)
		return -EBADMSG;
	req->keep_alive = version[7] == '1';
	req->method = line;
	req->path = target;
	req->raw_query = target + strcspn(target, "?");
	if (*req->raw_query)
		*req->raw_query++ = '\0';
	return 0;
}

static int parse_header(struct serve_req *req, char *line)
{
	char *colon = strchr(line, ':');

	if (!colon || colon == line || req->n_headers == SERVE_HEADERS_MAX)
		return -EBADMSG;
	*colon = '\0';
	req->headers[req->n_headers++] = (struct serve_pair){ lower(line), trim(colon + 1) };
	return 0;
}

/* Calls for each line between `head` and its empty line. */
static int parse_lines(struct serve_req *req, char *head, char *end)
{
	int ret = 0;
	bool is_first = true;

	while (ret == 0 && head < end) {
		char *eol = memchr(head, '\n', (size_t)(end - head));

		if (!eol || eol == head || eol[-1] != '\r' ||
		    memchr(head, '\0', (size_t)(eol - head)))
			return -EBADMSG;
		eol[-1] = '\0';
		ret = is_first ? parse_request_line(req, head) : parse_header(req, head);
		is_first = false;
		head = eol + 1;
	}
	return is_first ? -EBADMSG : ret;
}

static int parse_length(struct serve_req *req, const char *text)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EBADMSG;
	errno = 0;
	req->body_bytes = strtoull(text, &end, 10);
	req->has_length = true;
	return *end || errno ? -EBADMSG : 0;
}

/* What the headers say about this connection and the body. */
static int parse_framing(struct serve_req *req)
{
	const char *connection = serve_header(req, "connection");
	const char *length = serve_header(req, "content-length");
	const char *expect = serve_header(req, "expect");

	if (connection && strcasecmp(connection, "close") == 0)
		req->keep_alive = false;
	if (connection && strcasecmp(connection, "keep-alive") == 0)
		req->keep_alive = true;
	req->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
	req->is_chunked = serve_header(req, "transfer-encoding") != NULL;
	return length ? parse_length(req, length) : 0;
}

/* One "key=value" of the query; returns the end of the room it used. */
static char *parse_parameter(struct serve_req *req, const char *text, size_t n, char *room)
{
	const char *eq = memchr(text, '=', n);
	size_t key_len = eq ? (size_t)(eq - text) : n;
	size_t value_len = eq ? n - key_len - 1 : 0;
	char *value = room + key_len + 1;

	if (req->n_query == SERVE_QUERY_MAX || !serve_percent_decode(room, text, key_len) ||
	    !serve_percent_decode(value, eq ? eq + 1 : "", value_len))
		return NULL;
	req->query[req->n_query++] = (struct serve_pair){ lower(room), value };
	return value + value_len + 1;
}

static char *parse_query(struct serve_req *req, char *room)
{
	const char *p = req->raw_query;

	while (room && *p) {
		size_t n = strcspn(p, "&");

		if (n > 0)
			room = parse_parameter(req, p, n, room);
		p += n;
		p += *p == '&';
	}
	return room;
}

/* "/account/container/blob" -> container and blob; the account stays in the path. */
static int parse_path(struct serve_req *req, char *room)
{
	const char *container = strchr(req->path + 1, '/');
	char *slash;

	req->container = room;
	if (!serve_percent_decode(room, container ? container + 1 : "",
				  container ? strlen(container + 1) : 0))
		return -EBADMSG;
	slash = strchr(room, '/');
	req->blob = slash ? slash + 1 : room + strlen(room);
	if (slash)
		*slash = '\0';
	return 0;
}

ssize_t serve_http_parse(struct serve_req *req, char *data, size_t len)
{
	char *end = memmem(data, len, "\r\n\r\n", 4);
	char *room;

	if (!end)
		return len >= SERVE_HEAD_MAX ? -EBADMSG : 0;
	*req = (struct serve_req){ 0 };
	if (parse_lines(req, data, end + 2) < 0 || parse_framing(req) < 0)
		return -EBADMSG;
	/* Decoding never lengthens; each parameter may add two NULs. */
	req->decoded = malloc(strlen(req->path) + strlen(req->raw_query) * 2 + 16);
	if (!req->decoded)
		return -EBADMSG;
	room = parse_query(req, req->decoded);
	if (!room || parse_path(req, room) < 0) {
		serve_http_free(req);
		return -EBADMSG;
	}
	return end + 4 - data;
}

void serve_http_free(struct serve_req *req)
{
	free(req->decoded);
	req->decoded = NULL;
}
