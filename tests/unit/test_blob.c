/* SPDX-License-Identifier: MIT */
/*
 * The client against a service that behaves: the Azurite of $DZ_TEST_AZURITE
 * (tests/azurite/blob.sh starts one), or the stand-in.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/blob_fixture.h"

#define PLAIN_BYTES 300000u
#define PAGE	    5000

static struct service service;

static const char *const odd_names[] = {
	"odd/a b.txt",	   "odd/\xC3\xBC\xE2\x82\xAC.txt",
	"odd/50%.txt",	   "odd/50%25.txt",
	"odd/one+one.txt", "odd/r&d.txt",
	"odd/a=b;c.txt",   "odd/#1?.txt",
	"odd/it's.txt",	   "odd/(x)!~*.txt",
	"odd/<tag>.txt",
};

static int start_service(void **state)
{
	char name[64];
	size_t i;

	(void)state;
	service_prepare(&service);
	service_add(&service, "plain", PLAIN_BYTES);
	service_add(&service, "empty", 0);
	service_add(&service, "changing", 1000);
	for (i = 0; i < DZ_ARRAY_LEN(odd_names); i++)
		service_add(&service, odd_names[i], 10 + i);
	service_add(&service, "tree/sub/deep/file", 3);
	service_add(&service, "tree/sub/file", 2);
	service_add(&service, "tree/file", 1);
	for (i = 0; i < PAGE + 20; i++) {
		snprintf(name, sizeof(name), "many/%05zu", i);
		service_add(&service, name, 1);
	}
	service_start(&service, NULL);
	return 0;
}

static int stop_service(void **state)
{
	(void)state;
	service_stop(&service);
	return 0;
}

static void a_whole_blob_arrives(void **state)
{
	struct client c;
	struct call call;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "plain", 0, PLAIN_BYTES, NULL), 0);
	assert_content(&call, 0, PLAIN_BYTES);
	assert_int_equal(call.req.res.status, 206);
	assert_int_equal(call.req.res.size, PLAIN_BYTES);
	assert_int_equal(call.req.res.tries, 1);
	assert_true(call.req.res.mtime_s > 1500000000);
	assert_false(call.req.res.is_dir);
	call_free(&call);
	client_close(&c);
}

static void a_range_in_the_middle_arrives(void **state)
{
	struct client c;
	struct call call;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "plain", 12345, 54321, NULL), 0);
	assert_content(&call, 12345, 54321);
	assert_int_equal(call.req.res.size, PLAIN_BYTES);
	call_free(&call);
	client_close(&c);
}

static void a_range_past_the_end_is_cut(void **state)
{
	struct client c;
	struct call call;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "plain", PLAIN_BYTES - 7, 1 << 20, NULL), 0);
	assert_content(&call, PLAIN_BYTES - 7, 7);
	call_free(&call);
	client_close(&c);
}

static void a_range_beyond_the_end_is_erange_with_the_size(void **state)
{
	struct client c;
	struct call call;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "plain", PLAIN_BYTES, 10, NULL), -ERANGE);
	assert_int_equal(call.n_bytes, 0);
	assert_int_equal(call.req.res.size, PLAIN_BYTES);
	client_close(&c);
}

static void any_range_of_an_empty_blob_is_erange_and_head_has_its_attributes(void **state)
{
	struct client c;
	struct call call;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "empty", 0, 4096, NULL), -ERANGE);
	assert_int_equal(call.req.res.size, 0);
	assert_string_equal(client_log(&c), "");
	assert_int_equal(client_head(&c, &call, "empty"), 0);
	assert_int_equal(call.req.res.size, 0);
	assert_true(call.req.res.etag[0] != '\0');
	client_close(&c);
}

static void head_tells_what_get_tells(void **state)
{
	struct client c;
	struct call head, get;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_head(&c, &head, "plain"), 0);
	assert_int_equal(client_get(&c, &get, "plain", 0, 1, NULL), 0);
	assert_int_equal(head.req.res.size, PLAIN_BYTES);
	assert_string_equal(head.req.res.etag, get.req.res.etag);
	assert_int_equal(head.req.res.mtime_s, get.req.res.mtime_s);
	assert_null(strchr(head.req.res.etag, '"'));
	call_free(&get);
	client_close(&c);
}

static void a_matching_etag_is_served_and_another_is_estale(void **state)
{
	char arguments[1024];
	struct client c;
	struct call old, now;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &old, "changing", 0, 10, NULL), 0);
	assert_int_equal(client_get(&c, &now, "changing", 0, 10, old.req.res.etag), 0);
	call_free(&now);
	snprintf(arguments, sizeof(arguments), "put %s changing /dev/null", service.container);
	service_put(&service, NULL, 0, arguments);
	snprintf(arguments, sizeof(arguments), "put %s changing %s/root/%s/plain",
		 service.container, service.dir, service.container);
	service_put(&service, NULL, 0, arguments);
	assert_int_equal(client_get(&c, &now, "changing", 0, 10, old.req.res.etag), -ESTALE);
	assert_int_equal(now.req.res.status, 412);
	assert_int_equal(now.n_bytes, 0);
	call_free(&old);
	client_close(&c);
}

static void a_missing_blob_is_enoent_without_a_word(void **state)
{
	struct client c;
	struct call call;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "not/there", 0, 1, NULL), -ENOENT);
	assert_string_equal(call.req.res.error_code, "BlobNotFound");
	assert_int_equal(client_head(&c, &call, "not/there"), -ENOENT);
	assert_string_equal(client_log(&c), "");
	client_close(&c);
}

static void a_missing_container_is_enoent_with_a_log_line(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_KEY=" EMULATOR_KEY, NULL };
	struct client c;
	struct call call;
	char url[512];

	(void)state;
	snprintf(url, sizeof(url), "%s/no-such-container", service.url);
	assert_int_equal(client_try_open(&c, &service, url, env, 0), 0);
	assert_int_equal(client_list(&c, &call, "", true, NULL), -ENOENT);
	assert_non_null(strstr(client_log(&c), "ContainerNotFound"));
	client_close(&c);
}

static void odd_names_are_listed_and_read(void **state)
{
	struct client c;
	struct call list, get;
	size_t i;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_list(&c, &list, "odd/", true, NULL), 0);
	assert_int_equal(list.n_entries, DZ_ARRAY_LEN(odd_names));
	for (i = 0; i < DZ_ARRAY_LEN(odd_names); i++) {
		assert_non_null(strstr(list.names, odd_names[i]));
		assert_int_equal(client_get(&c, &get, odd_names[i], 0, 100, NULL), 0);
		assert_content(&get, 0, 10 + i);
		call_free(&get);
	}
	client_close(&c);
}

static void a_prefix_with_odd_characters_selects(void **state)
{
	struct client c;
	struct call list;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_list(&c, &list, "odd/50%", false, NULL), 0);
	assert_int_equal(list.n_entries, 2);
	assert_int_equal(client_list(&c, &list, "odd/one+", false, NULL), 0);
	assert_int_equal(list.n_entries, 1);
	assert_int_equal(client_list(&c, &list, "odd/r&", false, NULL), 0);
	assert_int_equal(list.n_entries, 1);
	client_close(&c);
}

static void a_delimiter_shows_one_level(void **state)
{
	struct client c;
	struct call list;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_list(&c, &list, "tree/", true, NULL), 0);
	assert_non_null(strstr(list.names, "tree/file\n"));
	assert_non_null(strstr(list.names, "tree/sub/\n"));
	assert_int_equal(list.n_entries, 2);
	client_close(&c);
}

static void without_a_delimiter_everything_below_is_listed(void **state)
{
	struct client c;
	struct call list;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_list(&c, &list, "tree/", false, NULL), 0);
	assert_string_equal(list.names, "tree/file\ntree/sub/deep/file\ntree/sub/file\n");
	assert_int_equal(list.entries_bytes, 6);
	assert_string_equal(list.req.res.next_marker, "");
	client_close(&c);
}

static void pages_follow_their_markers_to_the_end(void **state)
{
	struct client c;
	struct call list;
	uint64_t total = 0;
	char marker[2048] = "";
	int pages = 0;

	(void)state;
	client_open_default(&c, &service);
	do {
		assert_int_equal(client_list(&c, &list, "many/", true, marker), 0);
		total += list.n_entries;
		pages++;
		memcpy(marker, list.req.res.next_marker, sizeof(marker));
	} while (marker[0] && pages < 10);
	assert_int_equal(total, PAGE + 20);
	assert_int_equal(pages, 2);
	client_close(&c);
}

static void an_empty_prefix_lists_nothing(void **state)
{
	struct client c;
	struct call list;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_list(&c, &list, "no/such/dir/", true, NULL), 0);
	assert_int_equal(list.n_entries, 0);
	client_close(&c);
}

static void a_directory_marker_is_a_directory(void **state)
{
	char arguments[256];
	struct client c;
	struct call call;

	(void)state;
	snprintf(arguments, sizeof(arguments), "mkdir %s marked", service.container);
	service_put(&service, NULL, 0, arguments);
	client_open_default(&c, &service);
	assert_int_equal(client_head(&c, &call, "marked"), 0);
	assert_true(call.req.res.is_dir);
	assert_int_equal(client_list(&c, &call, "mark", true, NULL), 0);
	assert_string_equal(call.names, "marked/\n");
	client_close(&c);
}

static void a_wrong_key_is_eacces_and_never_in_the_log(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_KEY=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
					   NULL };
	struct client c;
	struct call call;

	(void)state;
	client_open(&c, &service, env);
	assert_int_equal(client_get(&c, &call, "plain", 0, 1, NULL), -EACCES);
	assert_int_equal(call.req.res.status, 403);
	assert_int_equal(call.req.res.tries, 1);
	assert_non_null(strstr(client_log(&c), "account key"));
	assert_null(strstr(client_log(&c), "c2Vjcm"));
	client_close(&c);
}

static void no_credential_is_refused(void **state)
{
	static const char *const env[] = { NULL };
	struct client c;
	struct call call;
	int err;

	(void)state;
	client_open(&c, &service, env);
	err = client_get(&c, &call, "plain", 0, 1, NULL);
	/* The service does not tell strangers what there is. */
	assert_true(err == -EACCES || err == -ENOENT);
	assert_int_equal(call.n_bytes, 0);
	client_close(&c);
}

static void make_sas(char *sas, size_t cap, const char *option)
{
	char arguments[256];

	snprintf(arguments, sizeof(arguments), "sas %s %s", service.container, option);
	service_put(&service, sas, cap, arguments);
}

static void check_sas(const char *url, const char *const *env)
{
	struct client c;
	struct call call;

	assert_int_equal(client_try_open(&c, &service, url, env, 0), 0);
	assert_int_equal(client_get(&c, &call, odd_names[1], 0, 100, NULL), 0);
	assert_content(&call, 0, 11);
	call_free(&call);
	assert_int_equal(client_list(&c, &call, "tree/", true, NULL), 0);
	assert_int_equal(call.n_entries, 2);
	assert_int_equal(client_head(&c, &call, "plain"), 0);
	client_close(&c);
}

static void a_sas_in_the_url_opens_and_wins_over_a_wrong_key(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_KEY=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
					   NULL };
	char sas[1024], url[2048];

	(void)state;
	make_sas(sas, sizeof(sas), "");
	snprintf(url, sizeof(url), "%s/%s?%s", service.url, service.container, sas);
	check_sas(url, env);
}

static void a_sas_in_the_environment_opens(void **state)
{
	char sas[1024], variable[1100];
	const char *env[] = { variable, NULL };

	(void)state;
	make_sas(sas, sizeof(sas), "");
	snprintf(variable, sizeof(variable), "AZURE_STORAGE_SAS_TOKEN=?%s", sas);
	check_sas(NULL, env);
}

static void an_expired_sas_is_eacces_and_never_in_the_log(void **state)
{
	static const char *const env[] = { NULL };
	char sas[1024], url[2048];
	struct client c;
	struct call call;

	(void)state;
	make_sas(sas, sizeof(sas), "--expired");
	snprintf(url, sizeof(url), "%s/%s?%s", service.url, service.container, sas);
	assert_int_equal(client_try_open(&c, &service, url, env, 0), 0);
	assert_int_equal(client_get(&c, &call, "plain", 0, 1, NULL), -EACCES);
	assert_non_null(strstr(client_log(&c), "expired"));
	assert_null(strstr(client_log(&c), "sig="));
	client_close(&c);
}

static void a_connection_string_opens_az_urls(void **state)
{
	char string[1024], url[256];
	const char *env[] = { string, NULL };

	(void)state;
	snprintf(string, sizeof(string),
		 "AZURE_STORAGE_CONNECTION_STRING=DefaultEndpointsProtocol=http;AccountName=%s;"
		 "AccountKey=%s;BlobEndpoint=%s;",
		 EMULATOR_ACCOUNT, EMULATOR_KEY, service.url);
	snprintf(url, sizeof(url), "az://%s", service.container);
	check_sas(url, env);
}

static void another_accounts_key_is_not_used(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_ACCOUNT=somebodyelse",
					   "AZURE_STORAGE_KEY=" EMULATOR_KEY, NULL };
	struct client c;
	struct call call;

	(void)state;
	client_open(&c, &service, env);
	assert_int_not_equal(client_get(&c, &call, "plain", 0, 1, NULL), 0);
	client_close(&c);
}

static void many_requests_at_once_all_end_within_the_budget(void **state)
{
	enum { N = 300 };
	static struct call calls[N];
	struct dz_blob_stats stats;
	struct client c;
	int i;

	(void)state;
	client_open_default(&c, &service);
	for (i = 0; i < N; i++) {
		calls[i] = (struct call){ .req = { .op = DZ_BLOB_GET,
						   .name = "plain",
						   .off = (uint64_t)i * 900,
						   .len = 900 } };
		client_submit(&c, &calls[i]);
	}
	for (i = 0; i < N; i++) {
		client_wait(&c, &calls[i]);
		assert_int_equal(calls[i].err, 0);
		assert_content(&calls[i], (uint64_t)i * 900, 900);
		call_free(&calls[i]);
	}
	dz_blob_get_stats(c.blob, &stats);
	assert_int_equal(stats.requests, N);
	assert_int_equal(stats.in_flight + stats.queued, 0);
	assert_true(stats.connections <= 64);
	assert_true(stats.peak_open <= 64);
	client_close(&c);
}

static void what_body_returns_ends_the_request(void **state)
{
	struct client c;
	struct call call = { .req = { .op = DZ_BLOB_GET, .name = "plain", .len = PLAIN_BYTES },
			     .stop_with = -ENOSPC };

	(void)state;
	client_open_default(&c, &service);
	client_run(&c, &call);
	assert_int_equal(call.err, -ENOSPC);
	assert_true(call.n_bytes < PLAIN_BYTES);
	assert_string_equal(client_log(&c), "");
	call_free(&call);
	client_close(&c);
}

static void a_readable_wake_fd_ends_the_pump(void **state)
{
	struct client c;
	int fd = eventfd(1, EFD_CLOEXEC);

	(void)state;
	client_open_default(&c, &service);
	/* The runner's time limit is the test: this would wait for ten minutes. */
	assert_int_equal(dz_blob_pump(c.blob, 600000, fd), 0);
	client_close(&c);
	close(fd);
}

static void closing_cancels_what_is_in_flight(void **state)
{
	struct client c;
	struct call sent = { .req = { .op = DZ_BLOB_GET, .name = "plain", .len = 10 } };
	struct call queued = sent;

	(void)state;
	client_open_default(&c, &service);
	client_submit(&c, &sent);
	assert_true(dz_blob_pump(c.blob, 0, -1) >= 0);
	client_submit(&c, &queued);
	client_close(&c);
	assert_true(sent.is_done);
	assert_true(queued.is_done);
	assert_int_equal(queued.err, -ECANCELED);
	call_free(&sent);
}

static void a_forked_child_that_abandons_leaves_the_parents_connection(void **state)
{
	struct dz_blob_stats before, after;
	struct client c;
	struct call call;
	int status;
	pid_t pid;

	(void)state;
	client_open_default(&c, &service);
	assert_int_equal(client_get(&c, &call, "plain", 0, 10, NULL), 0);
	call_free(&call);
	dz_blob_get_stats(c.blob, &before);
	pid = fork();
	if (pid == 0) {
		dz_blob_abandon(c.blob);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(client_get(&c, &call, "plain", 10, 10, NULL), 0);
	assert_content(&call, 10, 10);
	call_free(&call);
	dz_blob_get_stats(c.blob, &after);
	assert_int_equal(after.connections, before.connections);
	client_close(&c);
}

static void nobody_at_the_address_is_ehostunreach(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_KEY=" EMULATOR_KEY, NULL };
	struct client c;
	struct call call;

	(void)state;
	/* Port 1 of loopback: nobody listens, and the refusal comes at once. */
	assert_int_equal(
		client_try_open(&c, &service, "http://127.0.0.1:1/devstoreaccount1/c", env, 300),
		0);
	assert_int_equal(client_get(&c, &call, "plain", 0, 1, NULL), -EHOSTUNREACH);
	assert_true(call.req.res.tries > 1);
	assert_int_equal(call.req.res.status, 0);
	client_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_whole_blob_arrives),
		cmocka_unit_test(a_range_in_the_middle_arrives),
		cmocka_unit_test(a_range_past_the_end_is_cut),
		cmocka_unit_test(a_range_beyond_the_end_is_erange_with_the_size),
		cmocka_unit_test(any_range_of_an_empty_blob_is_erange_and_head_has_its_attributes),
		cmocka_unit_test(head_tells_what_get_tells),
		cmocka_unit_test(a_matching_etag_is_served_and_another_is_estale),
		cmocka_unit_test(a_missing_blob_is_enoent_without_a_word),
		cmocka_unit_test(a_missing_container_is_enoent_with_a_log_line),
		cmocka_unit_test(odd_names_are_listed_and_read),
		cmocka_unit_test(a_prefix_with_odd_characters_selects),
		cmocka_unit_test(a_delimiter_shows_one_level),
		cmocka_unit_test(without_a_delimiter_everything_below_is_listed),
		cmocka_unit_test(pages_follow_their_markers_to_the_end),
		cmocka_unit_test(an_empty_prefix_lists_nothing),
		cmocka_unit_test(a_directory_marker_is_a_directory),
		cmocka_unit_test(a_wrong_key_is_eacces_and_never_in_the_log),
		cmocka_unit_test(no_credential_is_refused),
		cmocka_unit_test(a_sas_in_the_url_opens_and_wins_over_a_wrong_key),
		cmocka_unit_test(a_sas_in_the_environment_opens),
		cmocka_unit_test(an_expired_sas_is_eacces_and_never_in_the_log),
		cmocka_unit_test(a_connection_string_opens_az_urls),
		cmocka_unit_test(another_accounts_key_is_not_used),
		cmocka_unit_test(many_requests_at_once_all_end_within_the_budget),
		cmocka_unit_test(what_body_returns_ends_the_request),
		cmocka_unit_test(a_readable_wake_fd_ends_the_pump),
		cmocka_unit_test(closing_cancels_what_is_in_flight),
		cmocka_unit_test(a_forked_child_that_abandons_leaves_the_parents_connection),
		cmocka_unit_test(nobody_at_the_address_is_ehostunreach),
	};

	return cmocka_run_group_tests(tests, start_service, stop_service);
}
