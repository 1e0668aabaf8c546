/* SPDX-License-Identifier: MIT */
/*
 * Bytes that grow, and the escapes of XML, JSON, URLs and base64.  A server for
 * tests that is out of memory has nothing to tell its client: it ends.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "tools/serve.h"

void serve_buf_reserve(struct serve_buf *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 256;

	if (b->len + more + 1 <= b->cap)
		return;
	while (cap < b->len + more + 1)
		cap *= 2;
	b->data = realloc(b->data, cap);
	if (!b->data) {
		fputs("dz serve: out of memory\n", stderr);
		_exit(125);
	}
	b->cap = cap;
}

void serve_buf_add(struct serve_buf *b, const void *data, size_t n)
{
	serve_buf_reserve(b, n);
	if (n > 0)
		memcpy(b->data + b->len, data, n);
	b->len += n;
	b->data[b->len] = '\0';
}

void serve_buf_str(struct serve_buf *b, const char *s)
{
	serve_buf_add(b, s, strlen(s));
}

void serve_buf_printf(struct serve_buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	serve_buf_reserve(b, 256);
	va_start(ap, fmt);
	n = vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= b->cap - b->len) {
		serve_buf_reserve(b, (size_t)n);
		va_start(ap, fmt);
		vsnprintf(b->data + b->len, b->cap - b->len, fmt, ap);
		va_end(ap);
	}
	b->len += (size_t)n;
}

void serve_buf_free(struct serve_buf *b)
{
	free(b->data);
	*b = (struct serve_buf){ 0 };
}

static const char *xml_entity(char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\r':
		return "&#xD;";
	default:
		return NULL;
	}
}

void serve_buf_xml(struct serve_buf *b, const char *s)
{
	while (*s) {
		size_t plain = strcspn(s, "&<>\"\r");

		serve_buf_add(b, s, plain);
		s += plain;
		if (*s)
			serve_buf_str(b, xml_entity(*s++));
	}
}

void serve_buf_percent(struct serve_buf *b, const char *s)
{
	for (; *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("-._~/", *s))
			serve_buf_add(b, s, 1);
		else
			serve_buf_printf(b, "%%%02X", (unsigned char)*s);
	}
}

void serve_buf_json(struct serve_buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			serve_buf_printf(b, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			serve_buf_printf(b, "\\u%04x", (unsigned)(unsigned char)*s);
		else
			serve_buf_add(b, s, 1);
	}
}

/* Length of the UTF-8 sequence at `s`, 0 when it is none; its value in *code. */
static size_t utf8_sequence(const unsigned char *s, uint32_t *code)
{
	size_t n = s[0] < 0x80	     ? 1
		   : s[0] >> 5 == 6  ? 2
		   : s[0] >> 4 == 14 ? 3
		   : s[0] >> 3 == 30 ? 4
				     : 0;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	if (n == 0)
		return 0;
	*code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		*code = *code << 6 | (s[i] & 0x3f);
	}
	return *code < least[n] || *code > 0x10ffff ? 0 : n;
}

bool serve_is_xml_safe(const char *s)
{
	const unsigned char *p = (const unsigned char *)s;

	while (*p) {
		uint32_t code;
		size_t n = utf8_sequence(p, &code);

		if (n == 0 || (code < 0x20 && code != '\t' && code != '\n' && code != '\r'))
			return false;
		if ((code >= 0xd800 && code < 0xe000) || code == 0xfffe || code == 0xffff)
			return false;
		p += n;
	}
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool serve_percent_decode(char *dst, const char *src, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (src[i] == '%') {
			int hi = i + 2 < n ? hex_digit(src[i + 1]) : -1;
			int lo = i + 2 < n ? hex_digit(src[i + 2]) : -1;

			if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
				return false;
			*dst++ = (char)(hi << 4 | lo);
			i += 2;
		} else {
			*dst++ = src[i];
		}
	}
	*dst = '\0';
	return true;
}

int serve_base64_decode(unsigned char *dst, size_t cap, const char *text)
{
	size_t n = strlen(text);
	int len;

	if (n == 0 || n % 4 != 0 || n / 4 * 3 > cap)
		return -1;
	len = EVP_DecodeBlock(dst, (const unsigned char *)text, (int)n);
	if (len < 0)
		return -1;
	return len - (text[n - 1] == '=') - (text[n - 2] == '=');
}

void serve_http_date(char *text, time_t t)
{
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, 32, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

time_t serve_parse_http_date(const char *text)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);

	return end && *end == '\0' ? timegm(&tm) : -1;
}

uint64_t serve_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}
