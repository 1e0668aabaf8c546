/* SPDX-License-Identifier: MIT */
/* Pages of List Blobs as the service, its emulator and its bad days write them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cache/blob/list.h"

#define HEAD "\xEF\xBB\xBF<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults>"
#define TAIL "</Blobs><NextMarker /></EnumerationResults>"

static char seen[4096];

static int note(void *arg, const struct dz_blob_entry *e)
{
	size_t len = strlen(seen);

	(void)arg;
	snprintf(seen + len, sizeof(seen) - len, "%s %llu %lld %s%s|", e->name,
		 (unsigned long long)e->size, (long long)e->mtime_s, e->etag,
		 e->is_dir ? " dir" : "");
	assert_int_equal(strlen(e->name), e->name_len);
	return 0;
}

/* Feeds in pieces of `step` bytes; returns the first error. */
static int parse(const char *xml, size_t step, char *marker)
{
	struct dz_list *list = dz_list_new();
	size_t len = strlen(xml);
	size_t at;
	int ret = 0;

	assert_non_null(list);
	seen[0] = '\0';
	for (at = 0; at < len && ret == 0; at += step)
		ret = dz_list_feed(list, xml + at, dz_min_u64(step, len - at), false);
	if (ret == 0)
		ret = dz_list_feed(list, "", 0, true);
	if (ret == 0) {
		assert_int_equal(dz_list_each(list, note, NULL), 0);
		if (marker)
			snprintf(marker, 2048, "%s", dz_list_next_marker(list));
	}
	dz_list_free(list);
	return ret;
}

static void expect(const char *xml, const char *entries)
{
	static const size_t steps[] = { 1, 7, 100000 };
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(steps); i++) {
		assert_int_equal(parse(xml, steps[i], NULL), 0);
		assert_string_equal(seen, entries);
	}
}

#define PROPERTIES                                                                                 \
	"<Properties><Last-Modified>Sun, 06 Nov 1994 08:49:37 GMT</Last-Modified>"                 \
	"<Etag>0x8D1</Etag><Content-Length>42</Content-Length></Properties>"

static void a_page_gives_blobs_and_prefixes_in_order(void **state)
{
	(void)state;
	expect(HEAD "<Prefix>p/</Prefix><Delimiter>/</Delimiter><Blobs>"
		    "<BlobPrefix><Name>p/d/</Name></BlobPrefix>"
		    "<Blob><Name>p/x &amp; y</Name>" PROPERTIES "</Blob>" TAIL,
	       "p/d/ 0 0  dir|p/x & y 42 784111777 0x8D1|");
}

static void an_empty_page_may_have_a_marker(void **state)
{
	char marker[2048];

	(void)state;
	assert_int_equal(
		parse(HEAD "<Blobs /><NextMarker>2!72!a&amp;b</NextMarker></EnumerationResults>", 9,
		      marker),
		0);
	assert_string_equal(marker, "2!72!a&b");
	assert_string_equal(seen, "");
}

static void an_encoded_name_is_decoded_and_others_are_not(void **state)
{
	(void)state;
	expect(HEAD "<Blobs><Blob><Name Encoded=\"true\">a%EF%BF%BEb%2Fc%</Name>" PROPERTIES
		    "</Blob><Blob><Name>50%25</Name>" PROPERTIES "</Blob>" TAIL,
	       "a\xEF\xBF\xBE"
	       "b/c% 42 784111777 0x8D1|50%25 42 784111777 0x8D1|");
}

static void directories_are_known_by_each_of_their_signs(void **state)
{
	(void)state;
	expect(HEAD "<Blobs>"
		    "<Blob><Name>m</Name>" PROPERTIES
		    "<Metadata><Hdi_isfolder>TRUE</Hdi_isfolder></Metadata></Blob>"
		    "<Blob><Name>n/</Name>" PROPERTIES
		    "<Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>"
		    "<Blob><Name>r</Name><Properties><Etag>\"e\"</Etag><ResourceType>directory"
		    "</ResourceType><Content-Length>0</Content-Length></Properties></Blob>"
		    "<Blob><Name>f</Name><Properties><Etag>e</Etag><ResourceType>file"
		    "</ResourceType><Content-Length>1</Content-Length></Properties>"
		    "<Metadata><hdi_isfolder>false</hdi_isfolder></Metadata></Blob>" TAIL,
	       "m/ 0 784111777 0x8D1 dir|n/ 0 784111777 0x8D1 dir|r/ 0 0 e dir|f 1 0 e|");
}

static void metadata_may_be_named_like_anything(void **state)
{
	(void)state;
	expect(HEAD "<Blobs><Blob><Name>a</Name>" PROPERTIES
		    "<Metadata><Name>evil</Name><Etag>evil</Etag><Content-Length>7</Content-Length>"
		    "<Metadata>x</Metadata><Blob>y</Blob></Metadata></Blob>" TAIL,
	       "a 42 784111777 0x8D1|");
}

static void unknown_elements_are_skipped(void **state)
{
	(void)state;
	expect(HEAD "<New><Name>no</Name></New><Blobs><Blob><Name>a</Name>" PROPERTIES
		    "<OrMetadata><x>1</x></OrMetadata><Tags><TagSet><Tag><Key>k</Key></Tag>"
		    "</TagSet></Tags></Blob>" TAIL,
	       "a 42 784111777 0x8D1|");
}

static void snapshots_and_deleted_blobs_are_not_shown(void **state)
{
	(void)state;
	expect(HEAD "<Blobs><Blob><Name>a</Name><Snapshot>2026-01-01</Snapshot>" PROPERTIES
		    "</Blob><Blob><Name>b</Name><Deleted>true</Deleted>" PROPERTIES "</Blob>" TAIL,
	       "");
}

static void what_is_not_a_whole_page_is_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		"<html><body>Please log in</body></html>",
		HEAD "<Blobs><Blob><Name>a</Name>" PROPERTIES "</Blob>",
		HEAD "<Blobs><Blob><Name>a</Name></Blob></Blobs><NextMarker/>",
		HEAD "<Blobs><Blob>" PROPERTIES "</Blob>" TAIL,
		HEAD "<Blobs><Blob><Name></Name>" PROPERTIES "</Blob>" TAIL,
		HEAD "<Blobs><Blob><Name Encoded=\"true\">a%00b</Name></Blob>" TAIL,
		HEAD "<Blobs><Blob><Name>a</Name><Properties><Content-Length>4x</Content-Length>"
		     "</Properties></Blob>" TAIL,
		HEAD "<Blobs><Blob><Name>a</Name><Properties><Content-Length>"
		     "99999999999999999999</Content-Length></Properties></Blob>" TAIL,
		HEAD "<Blobs><Blob><Name>a</Name><Properties><Last-Modified>today</Last-Modified>"
		     "</Properties></Blob>" TAIL,
		"<!DOCTYPE x [<!ENTITY a \"aaaa\">]><EnumerationResults><Blobs>" TAIL,
		HEAD "<Blobs>" TAIL "<more/>",
		"{\"error\": \"not xml\"}",
	};
	size_t i;

	(void)state;
	for (i = 0; i < DZ_ARRAY_LEN(bad); i++) {
		assert_int_equal(parse(bad[i], 100000, NULL), -EPROTO);
		assert_int_equal(parse(bad[i], 3, NULL), -EPROTO);
	}
}

static void an_endless_name_is_refused(void **state)
{
	static char xml[40000];
	size_t len;

	(void)state;
	strcpy(xml, HEAD "<Blobs><Blob><Name>");
	len = strlen(xml);
	memset(xml + len, 'a', 20000);
	strcpy(xml + len + 20000, "</Name></Blob>" TAIL);
	assert_int_equal(parse(xml, 4096, NULL), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_gives_blobs_and_prefixes_in_order),
		cmocka_unit_test(an_empty_page_may_have_a_marker),
		cmocka_unit_test(an_encoded_name_is_decoded_and_others_are_not),
		cmocka_unit_test(directories_are_known_by_each_of_their_signs),
		cmocka_unit_test(metadata_may_be_named_like_anything),
		cmocka_unit_test(unknown_elements_are_skipped),
		cmocka_unit_test(snapshots_and_deleted_blobs_are_not_shown),
		cmocka_unit_test(what_is_not_a_whole_page_is_nothing),
		cmocka_unit_test(an_endless_name_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
