/* SPDX-License-Identifier: MIT */
/*
 * The client against a service that misbehaves: whatever it does, the bytes are
 * right and in order, or there is an error within the budget of time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/sys.h"
#include "tests/unit/blob_fixture.h"

#define BYTES 300000u

static const char *const key_env[] = { "AZURE_STORAGE_KEY=" EMULATOR_KEY, NULL };

/* A service of its own, with faults, for each test. */
struct setup {
	struct service service;
	struct client client;
	struct call call;
};

static void set_up(struct setup *s, const char *faults, uint32_t budget_ms)
{
	/* The emulator behaves; its tests are in test_blob.c. */
	unsetenv("DZ_TEST_AZURITE");
	service_prepare(&s->service);
	service_add(&s->service, "b", BYTES);
	service_add(&s->service, "d/1", 1);
	service_add(&s->service, "d/2", 1);
	service_start(&s->service, faults);
	assert_int_equal(client_try_open(&s->client, &s->service, NULL, key_env, budget_ms), 0);
	memset(&s->call, 0, sizeof(s->call));
}

static void tear_down(struct setup *s)
{
	call_free(&s->call);
	client_close(&s->client);
	service_stop(&s->service);
}

/* Reads all of the blob and expects it right after this many tries. */
static void expect_right(const char *faults, uint32_t tries)
{
	struct setup s;

	set_up(&s, faults, 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, BYTES, NULL), 0);
	assert_content(&s.call, 0, BYTES);
	assert_int_equal(s.call.req.res.size, BYTES);
	assert_int_equal(s.call.req.res.tries, tries);
	tear_down(&s);
}

/* Reads a part of the blob and expects this error, whatever was handed out being right. */
static void expect_error(const char *faults, int err)
{
	struct setup s;

	set_up(&s, faults, 400);
	assert_int_equal(client_get(&s.client, &s.call, "b", 100, BYTES - 100, NULL), err);
	assert_content(&s.call, 100, s.call.n_bytes);
	tear_down(&s);
}

static void every_status_that_means_later_is_tried_again(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=status:503\n", 2);
	expect_right("op=get count=2 action=status:500\n", 3);
	expect_right("op=get count=1 action=status:429 retry-after-ms=20\n", 2);
	expect_right("op=get count=1 action=status:408\n", 2);
	expect_right("op=get count=1 action=status:502\n", 2);
	expect_right("op=get count=1 action=status:504\n", 2);
}

static void retry_after_is_waited_for(void **state)
{
	uint64_t begin = dz_now_ms();

	(void)state;
	expect_right("op=get count=1 action=status:503 retry-after=1\n", 2);
	assert_true(dz_now_ms() - begin >= 1000);
}

static void a_retry_after_beyond_the_budget_fails_at_once(void **state)
{
	uint64_t begin = dz_now_ms();

	(void)state;
	expect_error("op=get action=status:503 retry-after=3600\n", -EIO);
	assert_true(dz_now_ms() - begin < 5000);
}

static void a_lasting_refusal_ends_with_the_budget_and_one_line(void **state)
{
	struct setup s;
	const char *line;

	(void)state;
	set_up(&s, "op=get action=status:503\n", 300);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), -EIO);
	assert_int_equal(s.call.req.res.status, 503);
	assert_true(s.call.req.res.tries > 2);
	line = strstr(client_log(&s.client), "warning: GET");
	assert_non_null(line);
	assert_non_null(strstr(line, "503 ServerBusy"));
	assert_null(strstr(line + 1, "warning: GET"));
	tear_down(&s);
}

static void a_final_refusal_is_not_repeated(void **state)
{
	struct setup s;

	(void)state;
	set_up(&s, "op=get action=status:500 code=FeatureNotSupported\n", 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), -EIO);
	assert_int_equal(s.call.req.res.tries, 1);
	assert_string_equal(s.call.req.res.error_code, "FeatureNotSupported");
	tear_down(&s);
	set_up(&s, "op=get action=status:400\n", 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), -EIO);
	assert_int_equal(s.call.req.res.tries, 1);
	tear_down(&s);
}

static void a_body_that_breaks_off_goes_on_where_it_stopped(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=reset:100000\n", 2);
	expect_right("op=get count=1 action=short:100000\n", 2);
	expect_right("op=get count=3 action=short:70001\n", 4);
	expect_right("op=get count=1 action=short:0\n", 2);
}

static void no_answer_is_tried_again(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=close\n", 2);
	expect_right("op=get count=1 action=lost\n", 2);
}

static void a_stalled_answer_is_given_up(void **state)
{
	uint64_t begin = dz_now_ms();

	(void)state;
	expect_right("op=get count=1 action=stall\n", 2);
	assert_true(dz_now_ms() - begin < 15000);
}

static void a_slow_answer_is_waited_for(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=delay:1500\n", 1);
	expect_right("op=get count=1 action=drip:150000\n", 1);
}

static void bytes_after_the_end_are_dropped(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=long:5000\n", 1);
}

static void a_body_shorter_than_its_range_is_tried_again(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=truncate:1000\n", 2);
	expect_error("op=get action=truncate:1000\n", -EIO);
}

static void a_wrong_content_range_is_never_believed(void **state)
{
	(void)state;
	expect_right("op=get count=1 action=range-wrong\n", 2);
	expect_error("op=get action=range-wrong\n", -EIO);
}

static void a_whole_blob_for_a_range_is_never_believed(void **state)
{
	(void)state;
	expect_error("op=get action=range-ignored\n", -EIO);
	/* But it is what was asked for when that was the whole blob. */
	expect_right("op=get action=range-ignored\n", 1);
}

static void a_blob_that_changes_under_a_read_is_estale(void **state)
{
	(void)state;
	expect_error("op=get count=1 action=short:50000\nop=get nth=2 action=etag-change\n",
		     -ESTALE);
}

static void a_blob_that_changes_between_reads_is_estale(void **state)
{
	struct setup s;
	char etag[DZ_ETAG_MAX];

	(void)state;
	set_up(&s, "op=get nth=2 action=etag-change\n", 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), 0);
	memcpy(etag, s.call.req.res.etag, sizeof(etag));
	call_free(&s.call);
	assert_int_equal(client_get(&s.client, &s.call, "b", 10, 10, etag), -ESTALE);
	assert_int_equal(s.call.n_bytes, 0);
	tear_down(&s);
}

static void an_empty_page_has_a_marker_that_goes_on(void **state)
{
	struct setup s;
	char marker[2048];

	(void)state;
	set_up(&s, "op=list count=1 action=empty-page\n", 0);
	assert_int_equal(client_list(&s.client, &s.call, "d/", true, NULL), 0);
	assert_int_equal(s.call.n_entries, 0);
	memcpy(marker, s.call.req.res.next_marker, sizeof(marker));
	assert_true(marker[0] != '\0');
	assert_int_equal(client_list(&s.client, &s.call, "d/", true, marker), 0);
	assert_string_equal(s.call.names, "d/1\nd/2\n");
	tear_down(&s);
}

static void a_page_that_breaks_off_is_handed_out_once_and_whole(void **state)
{
	struct setup s;

	(void)state;
	set_up(&s, "op=list count=1 action=short:700\nop=list nth=2 count=1 action=truncate:600\n",
	       0);
	assert_int_equal(client_list(&s.client, &s.call, "d/", true, NULL), 0);
	assert_string_equal(s.call.names, "d/1\nd/2\n");
	assert_int_equal(s.call.req.res.tries, 3);
	tear_down(&s);
}

static void a_refused_key_is_not_tried_again(void **state)
{
	struct setup s;

	(void)state;
	set_up(&s, "op=get count=1 action=auth-expired\n", 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), -EACCES);
	assert_int_equal(s.call.req.res.tries, 1);
	tear_down(&s);
}

static void a_kept_connection_that_the_server_closed_costs_nothing(void **state)
{
	struct setup s;

	(void)state;
	set_up(&s, NULL, 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), 0);
	call_free(&s.call);
	service_restart(&s.service, NULL);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), 0);
	assert_int_equal(s.call.req.res.tries, 1);
	assert_content(&s.call, 0, 10);
	tear_down(&s);
}

static void a_service_that_comes_back_is_waited_for(void **state)
{
	struct setup s;
	struct call call = { .req = { .op = DZ_BLOB_GET, .name = "b", .len = 10 } };

	(void)state;
	set_up(&s, NULL, 0);
	assert_int_equal(client_get(&s.client, &s.call, "b", 0, 10, NULL), 0);
	service_end(&s.service);
	client_submit(&s.client, &call);
	assert_true(dz_blob_pump(s.client.blob, 300, -1) >= 0);
	assert_false(call.is_done);
	service_restart(&s.service, NULL);
	client_wait(&s.client, &call);
	assert_int_equal(call.err, 0);
	assert_content(&call, 0, 10);
	call_free(&call);
	tear_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_status_that_means_later_is_tried_again),
		cmocka_unit_test(retry_after_is_waited_for),
		cmocka_unit_test(a_retry_after_beyond_the_budget_fails_at_once),
		cmocka_unit_test(a_lasting_refusal_ends_with_the_budget_and_one_line),
		cmocka_unit_test(a_final_refusal_is_not_repeated),
		cmocka_unit_test(a_body_that_breaks_off_goes_on_where_it_stopped),
		cmocka_unit_test(no_answer_is_tried_again),
		cmocka_unit_test(a_stalled_answer_is_given_up),
		cmocka_unit_test(a_slow_answer_is_waited_for),
		cmocka_unit_test(bytes_after_the_end_are_dropped),
		cmocka_unit_test(a_body_shorter_than_its_range_is_tried_again),
		cmocka_unit_test(a_wrong_content_range_is_never_believed),
		cmocka_unit_test(a_whole_blob_for_a_range_is_never_believed),
		cmocka_unit_test(a_blob_that_changes_under_a_read_is_estale),
		cmocka_unit_test(a_blob_that_changes_between_reads_is_estale),
		cmocka_unit_test(an_empty_page_has_a_marker_that_goes_on),
		cmocka_unit_test(a_page_that_breaks_off_is_handed_out_once_and_whole),
		cmocka_unit_test(a_refused_key_is_not_tried_again),
		cmocka_unit_test(a_kept_connection_that_the_server_closed_costs_nothing),
		cmocka_unit_test(a_service_that_comes_back_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
