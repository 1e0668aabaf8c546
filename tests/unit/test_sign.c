/* SPDX-License-Identifier: MIT */
/*
 * What is signed, to the byte, and what comes out.  The expected signatures were
 * computed with Python's hmac; Azurite judges the rules (tests/azurite/blob.sh).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cache/blob/sign.h"

#define KEY "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U="

static char text[DZ_SIGN_TEXT_BYTES];

static const char *text_of(const char *verb, const char *account, const char *url,
			   const char *const *headers, uint32_t n)
{
	struct dz_sign_request r = { verb, account, url, headers, n };
	ssize_t len = dz_sign_text(&r, text, sizeof(text) - 1);

	assert_true(len > 0);
	text[len] = '\0';
	return text;
}

static const char *const get_headers[] = {
	"x-ms-version: 2021-12-02",	"x-ms-date: Mon, 23 Nov 2026 08:00:00 GMT",
	"x-ms-range: bytes=0-1048575",	"If-Match: \"0x8D1\"",
	"x-ms-client-request-id: dz-1",
};

static void a_get_is_signed_with_its_headers_in_order(void **state)
{
	(void)state;
	assert_string_equal(text_of("GET", "acct", "https://acct.blob.core.windows.net/c/a%20b",
				    get_headers, 5),
			    "GET\n\n\n\n\n\n\n\n\"0x8D1\"\n\n\n\n"
			    "x-ms-client-request-id:dz-1\n"
			    "x-ms-date:Mon, 23 Nov 2026 08:00:00 GMT\n"
			    "x-ms-range:bytes=0-1048575\n"
			    "x-ms-version:2021-12-02\n"
			    "/acct/c/a%20b");
}

static void an_account_in_the_path_comes_twice(void **state)
{
	(void)state;
	text_of("HEAD", "devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1/c/b", NULL, 0);
	assert_non_null(strstr(text, "\n/devstoreaccount1/devstoreaccount1/c/b"));
}

static void a_query_is_sorted_and_decoded(void **state)
{
	(void)state;
	text_of("GET", "acct",
		"https://h/c?restype=container&comp=list&prefix=a%20b%2F%C3%BC%2B&delimiter=%2F"
		"&Marker=x%3Dy&maxresults=5000",
		NULL, 0);
	assert_non_null(strstr(text, "/acct/c\ncomp:list\ndelimiter:/\nmarker:x=y\n"
				     "maxresults:5000\nprefix:a b/\xC3\xBC+\nrestype:container"));
}

static void equal_names_of_a_query_are_joined(void **state)
{
	(void)state;
	text_of("GET", "acct", "https://h/c?b=2&a=1&b=1", NULL, 0);
	assert_non_null(strstr(text, "/acct/c\na:1\nb:2,1"));
}

static void standard_headers_have_their_lines(void **state)
{
	static const char *const headers[] = { "Content-Length: 11",	   "Content-MD5: md5",
					       "content-type: text/plain", "Date: d",
					       "If-None-Match: *",	   "Range: bytes=1-2",
					       "Content-Encoding: gzip" };

	(void)state;
	assert_string_equal(text_of("PUT", "a", "https://h/c/b", headers, 7),
			    "PUT\ngzip\n\n11\nmd5\ntext/plain\nd\n\n\n*\n\nbytes=1-2\n/a/c/b");
}

static void a_length_of_zero_is_signed_as_nothing(void **state)
{
	static const char *const headers[] = { "Content-Length: 0" };

	(void)state;
	assert_string_equal(text_of("PUT", "a", "https://h/c/b", headers, 1),
			    "PUT\n\n\n\n\n\n\n\n\n\n\n\n/a/c/b");
}

static void a_name_that_begins_another_sorts_first(void **state)
{
	static const char *const headers[] = { "x-ms-meta-ab: 2", "X-MS-Meta-A:  1  " };

	(void)state;
	text_of("PUT", "a", "https://h/c/b", headers, 2);
	assert_non_null(strstr(text, "\nx-ms-meta-a:1\nx-ms-meta-ab:2\n/a/c/b"));
}

static void the_signature_is_hmac_sha256_in_base64(void **state)
{
	struct dz_sign_request r = { "GET", "acct", "https://acct.blob.core.windows.net/c/a%20b",
				     get_headers, 5 };
	char header[DZ_SIGN_HEADER_BYTES];
	struct dz_sign_key *key;

	(void)state;
	assert_int_equal(dz_sign_key_new(&key, KEY, strlen(KEY)), 0);
	assert_int_equal(dz_sign(key, &r, header), 0);
	assert_string_equal(
		header,
		"Authorization: SharedKey acct:x04RRMU9D/zhu8QAxpVnPvRBHwd96f6wbdf9OFjv2kw=");
	/* The keyed template is copied, not used up. */
	memset(header, 0, sizeof(header));
	assert_int_equal(dz_sign(key, &r, header), 0);
	assert_string_equal(
		header,
		"Authorization: SharedKey acct:x04RRMU9D/zhu8QAxpVnPvRBHwd96f6wbdf9OFjv2kw=");
	dz_sign_key_free(key);
}

static void what_is_no_base64_is_no_key(void **state)
{
	static const char *const bad[] = { "", "a", "abc", "ab!d", "a2V5*2V5" };
	struct dz_sign_key *key;
	size_t i;

	(void)state;
	for (i = 0; i < DZ_ARRAY_LEN(bad); i++)
		assert_int_equal(dz_sign_key_new(&key, bad[i], strlen(bad[i])), -EINVAL);
}

static void a_text_that_is_too_long_is_refused_not_cut(void **state)
{
	static const char *const headers[] = { "x-ms-date: d" };
	struct dz_sign_request r = { "GET", "a", "https://h/c/b", headers, 1 };
	char small[20];

	(void)state;
	assert_int_equal(dz_sign_text(&r, small, sizeof(small)), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_get_is_signed_with_its_headers_in_order),
		cmocka_unit_test(an_account_in_the_path_comes_twice),
		cmocka_unit_test(a_query_is_sorted_and_decoded),
		cmocka_unit_test(equal_names_of_a_query_are_joined),
		cmocka_unit_test(standard_headers_have_their_lines),
		cmocka_unit_test(a_length_of_zero_is_signed_as_nothing),
		cmocka_unit_test(a_name_that_begins_another_sorts_first),
		cmocka_unit_test(the_signature_is_hmac_sha256_in_base64),
		cmocka_unit_test(what_is_no_base64_is_no_key),
		cmocka_unit_test(a_text_that_is_too_long_is_refused_not_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
