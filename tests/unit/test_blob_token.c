/* SPDX-License-Identifier: MIT */
/*
 * Tokens: from each source, fetched once for all who wait, renewed before they
 * end and after a refusal.  tests/tools/tokens.py hands them out, the stand-in
 * accepts the newest one only.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/blob_fixture.h"

#define BYTES 5000u

static struct service service;

/* tokens.py, running. */
struct authority {
	int pid, in, out;
	char url[128];
};

static int start_service(void **state)
{
	(void)state;
	unsetenv("DZ_TEST_AZURITE");
	service_prepare(&service);
	service_add(&service, "b", BYTES);
	service_start(&service, NULL);
	return 0;
}

static int stop_service(void **state)
{
	(void)state;
	service_stop(&service);
	return 0;
}

static void exec_authority(int in, int out, const char *lifetime, const char *refuse)
{
	const char *top = getenv("DZ_TOP");
	char script[512], token[512];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(in, 0);
	dup2(out, 1);
	snprintf(script, sizeof(script), "%s/tests/tools/tokens.py", top ? top : ".");
	snprintf(token, sizeof(token), "%s/token", service.dir);
	execlp("python3", "python3", script, "--token-file", token, "--lifetime", lifetime,
	       "--refuse", refuse, NULL);
	_exit(127);
}

static void start_authority(struct authority *a, const char *lifetime, const char *refuse)
{
	int in[2], out[2];
	char line[200];
	size_t len = 0;

	service_write(&service, "token", "none");
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	a->pid = fork();
	if (a->pid == 0)
		exec_authority(in[0], out[1], lifetime, refuse);
	close(in[0]);
	close(out[1]);
	a->in = in[1];
	a->out = out[0];
	while (len + 1 < sizeof(line) && read(a->out, line + len, 1) == 1 && line[len] != '\n')
		len++;
	line[len] = '\0';
	assert_int_equal(sscanf(line, "URL %127s", a->url), 1);
}

static void stop_authority(struct authority *a)
{
	close(a->in);
	close(a->out);
	waitpid(a->pid, NULL, 0);
}

/* Opens a client with these variables; `%s` in the first is the authority's URL. */
static void open_client(struct client *c, const struct authority *a, const char *first,
			const char *second, const char *third, const char *fourth)
{
	static char variable[256];
	const char *env[] = { variable, second, third, fourth, NULL };
	char url[] = "%s";
	const char *at = strstr(first, url);

	snprintf(variable, sizeof(variable), "%.*s%s%s", (int)(at - first), first, a->url,
		 at + strlen(url));
	client_open(c, &service, env);
}

static void expect_served(struct client *c)
{
	struct call call;

	assert_int_equal(client_get(c, &call, "b", 0, BYTES, NULL), 0);
	assert_content(&call, 0, BYTES);
	call_free(&call);
}

static void a_federated_token_file_is_exchanged(void **state)
{
	char file[512];
	struct authority a;
	struct client c;

	(void)state;
	service_write(&service, "assertion", "assertion\n");
	snprintf(file, sizeof(file), "AZURE_FEDERATED_TOKEN_FILE=%s/assertion", service.dir);
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "AZURE_AUTHORITY_HOST=%s/", "AZURE_CLIENT_ID=client",
		    "AZURE_TENANT_ID=tenant", file);
	expect_served(&c);
	assert_null(strstr(client_log(&c), "TOKEN"));
	client_close(&c);
	stop_authority(&a);
}

static void a_missing_token_file_is_eacces_not_a_missing_blob(void **state)
{
	struct authority a;
	struct client c;
	struct call call;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "AZURE_AUTHORITY_HOST=%s/", "AZURE_CLIENT_ID=client",
		    "AZURE_TENANT_ID=tenant", "AZURE_FEDERATED_TOKEN_FILE=/no/such/file");
	assert_int_equal(client_get(&c, &call, "b", 0, 1, NULL), -EACCES);
	assert_non_null(strstr(client_log(&c), "/no/such/file"));
	client_close(&c);
	stop_authority(&a);
}

static void a_service_principals_secret_is_exchanged(void **state)
{
	struct authority a;
	struct client c;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "AZURE_AUTHORITY_HOST=%s", "AZURE_CLIENT_ID=client",
		    "AZURE_TENANT_ID=tenant", "AZURE_CLIENT_SECRET=secret");
	expect_served(&c);
	client_close(&c);
	stop_authority(&a);
}

static void a_wrong_secret_is_eacces_and_never_in_the_log(void **state)
{
	struct authority a;
	struct client c;
	struct call call;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "AZURE_AUTHORITY_HOST=%s", "AZURE_CLIENT_ID=client",
		    "AZURE_TENANT_ID=tenant", "AZURE_CLIENT_SECRET=hunter2");
	assert_int_equal(client_get(&c, &call, "b", 0, 1, NULL), -EACCES);
	assert_non_null(strstr(client_log(&c), "AADSTS7000215"));
	assert_null(strstr(client_log(&c), "hunter2"));
	client_close(&c);
	stop_authority(&a);
}

static void imds_gives_a_token_when_asked_for(void **state)
{
	struct authority a;
	struct client c;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "AZURE_POD_IDENTITY_AUTHORITY_HOST=%s", "AZURE_STORAGE_AUTH_TYPE=msi",
		    NULL, NULL);
	expect_served(&c);
	client_close(&c);
	stop_authority(&a);
}

static void an_identity_endpoint_gives_a_token(void **state)
{
	struct authority a;
	struct client c;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "IDENTITY_ENDPOINT=%s/msi/token", "IDENTITY_HEADER=header", NULL, NULL);
	expect_served(&c);
	client_close(&c);
	stop_authority(&a);
}

static void a_token_endpoint_that_is_busy_is_asked_again(void **state)
{
	struct authority a;
	struct client c;

	(void)state;
	start_authority(&a, "3600", "2");
	open_client(&c, &a, "IDENTITY_ENDPOINT=%s/msi/token", "IDENTITY_HEADER=header", NULL, NULL);
	expect_served(&c);
	client_close(&c);
	stop_authority(&a);
}

static void one_token_serves_all_who_wait(void **state)
{
	enum { N = 50 };
	static struct call calls[N];
	struct authority a;
	struct client c;
	char token[32];
	int i;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "IDENTITY_ENDPOINT=%s/msi/token", "IDENTITY_HEADER=header", NULL, NULL);
	for (i = 0; i < N; i++) {
		calls[i] = (struct call){ .req = { .op = DZ_BLOB_GET, .name = "b", .len = 10 } };
		client_submit(&c, &calls[i]);
	}
	for (i = 0; i < N; i++) {
		client_wait(&c, &calls[i]);
		assert_int_equal(calls[i].err, 0);
		call_free(&calls[i]);
	}
	service_read(&service, "token", token, sizeof(token));
	assert_string_equal(token, "TOKEN-1");
	client_close(&c);
	stop_authority(&a);
}

static void a_refused_token_is_renewed_once(void **state)
{
	struct authority a;
	struct client c;
	struct call call;

	(void)state;
	start_authority(&a, "3600", "0");
	open_client(&c, &a, "IDENTITY_ENDPOINT=%s/msi/token", "IDENTITY_HEADER=header", NULL, NULL);
	expect_served(&c);
	/* The service wants another one now, which the next fetch brings. */
	service_write(&service, "token", "revoked");
	assert_int_equal(client_get(&c, &call, "b", 0, 10, NULL), 0);
	assert_int_equal(call.req.res.tries, 2);
	call_free(&call);
	client_close(&c);
	stop_authority(&a);
}

static void a_short_token_is_renewed_before_it_ends(void **state)
{
	struct authority a;
	struct client c;
	char token[32];
	int i;

	(void)state;
	start_authority(&a, "3", "0");
	open_client(&c, &a, "IDENTITY_ENDPOINT=%s/msi/token", "IDENTITY_HEADER=header", NULL, NULL);
	for (i = 0; i < 5; i++) {
		expect_served(&c);
		usleep(700000);
	}
	service_read(&service, "token", token, sizeof(token));
	assert_string_not_equal(token, "TOKEN-1");
	client_close(&c);
	stop_authority(&a);
}

static void a_token_never_travels_unencrypted_to_another_host(void **state)
{
	static const char *const env[] = { "IDENTITY_ENDPOINT=http://127.0.0.1:1/msi/token",
					   "IDENTITY_HEADER=header", NULL };
	static const char *const urls[] = { "http://10.0.0.1:10000/a/c",
					    "http://127.0.0.1.example.com:80/a/c",
					    "http://localhost.example.com:80/a/c" };
	struct call call = { .req = { .op = DZ_BLOB_HEAD, .name = "b" } };
	struct client c;
	size_t i;

	(void)state;
	for (i = 0; i < DZ_ARRAY_LEN(urls); i++) {
		assert_int_equal(client_try_open(&c, &service, urls[i], env, 0), 0);
		assert_int_equal(client_try_submit(&c, &call), -EINVAL);
		assert_non_null(strstr(client_log(&c), "https://"));
		client_close(&c);
	}
}

static void a_mode_without_its_settings_is_told_when_opening(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_AUTH_TYPE=spn", "AZURE_CLIENT_ID=x",
					   NULL };
	static const char *const unknown[] = { "AZURE_STORAGE_AUTH_TYPE=kerberos", NULL };
	struct client c;

	(void)state;
	assert_int_equal(client_try_open(&c, &service, NULL, env, 0), -EINVAL);
	assert_non_null(strstr(client_log(&c), "AZURE_CLIENT_SECRET"));
	assert_int_equal(client_try_open(&c, &service, NULL, unknown, 0), -EINVAL);
	assert_non_null(strstr(client_log(&c), "workloadidentity"));
}

static void a_malformed_key_is_told_when_opening(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_KEY=hunter2!", NULL };
	struct client c;

	(void)state;
	assert_int_equal(client_try_open(&c, &service, NULL, env, 0), -EINVAL);
	assert_non_null(strstr(client_log(&c), "base64"));
	assert_null(strstr(client_log(&c), "hunter2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_federated_token_file_is_exchanged),
		cmocka_unit_test(a_missing_token_file_is_eacces_not_a_missing_blob),
		cmocka_unit_test(a_service_principals_secret_is_exchanged),
		cmocka_unit_test(a_wrong_secret_is_eacces_and_never_in_the_log),
		cmocka_unit_test(imds_gives_a_token_when_asked_for),
		cmocka_unit_test(an_identity_endpoint_gives_a_token),
		cmocka_unit_test(a_token_endpoint_that_is_busy_is_asked_again),
		cmocka_unit_test(one_token_serves_all_who_wait),
		cmocka_unit_test(a_refused_token_is_renewed_once),
		cmocka_unit_test(a_short_token_is_renewed_before_it_ends),
		cmocka_unit_test(a_token_never_travels_unencrypted_to_another_host),
		cmocka_unit_test(a_mode_without_its_settings_is_told_when_opening),
		cmocka_unit_test(a_malformed_key_is_told_when_opening),
	};

	return cmocka_run_group_tests(tests, start_service, stop_service);
}
