/* SPDX-License-Identifier: MIT */
/* What the environment says becomes what the rest of the program reads. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/config.h"
#include "cache/connstr.h"

static struct dz_config cfg;

static const char *const no_env[] = { NULL };

static int read_env(const char *const *env)
{
	return dz_config_read(&cfg, (char *const *)env);
}

/* Parses one mount; `why` of the last failure is kept for the test. */
static char why[256];

static int parse(struct dz_mount *m, const char *text, const char *const *env)
{
	why[0] = '\0';
	return dz_config_mount(m, text, strlen(text), (char *const *)env, why, sizeof(why));
}

static void expect_mount(const char *text, const char *const *env, const char *endpoint,
			 const char *account, const char *container, const char *prefix)
{
	struct dz_mount m;

	if (parse(&m, text, env) != 0)
		fail_msg("%s", why);
	assert_string_equal(m.endpoint, endpoint);
	assert_string_equal(m.account, account);
	assert_string_equal(m.container, container);
	assert_string_equal(m.prefix, prefix);
}

static void expect_refusal(const char *text, const char *const *env, const char *word)
{
	struct dz_mount m;

	assert_int_equal(parse(&m, text, env), -EINVAL);
	if (!strstr(why, word))
		fail_msg("`%s` does not say `%s`", why, word);
}

static void without_a_word_everything_has_a_default(void **state)
{
	static const char *const env[] = { "HOME=/home/u", NULL };

	(void)state;
	assert_int_equal(read_env(env), 0);
	assert_int_equal(cfg.n_mounts, 0);
	assert_string_equal(cfg.shm_dir, "/dev/shm");
	assert_string_equal(cfg.cache_dir,
			    geteuid() == 0 ? "/var/cache/deltazero" : "/home/u/.cache/deltazero");
	assert_int_equal(cfg.dram_bytes, 0);
	assert_int_equal(cfg.disk_bytes, 0);
	assert_int_equal(cfg.fetch, DZ_FETCH_AGENT);
	assert_int_equal(cfg.ttl_ms, 60000);
	assert_int_equal(cfg.log_level, DZ_LOG_WARN);
	assert_string_equal(cfg.log_path, "");
	assert_string_equal(cfg.error, "");
}

static void every_setting_is_read(void **state)
{
	static const char *const env[] = {
		"DELTAZERO_CACHE_DIR=/nvme/dz/", "DELTAZERO_SHM_DIR=/mnt/shm",
		"DELTAZERO_DRAM_SIZE=4G",	 "DELTAZERO_DISK_SIZE=512MiB",
		"DELTAZERO_FETCH=inline",	 "DELTAZERO_METADATA_TTL=0.25",
		"DELTAZERO_LOG=debug:/tmp/log",	 NULL
	};

	(void)state;
	assert_int_equal(read_env(env), 0);
	assert_string_equal(cfg.cache_dir, "/nvme/dz");
	assert_string_equal(cfg.shm_dir, "/mnt/shm");
	assert_int_equal(cfg.dram_bytes, 4 * DZ_GIB);
	assert_int_equal(cfg.disk_bytes, 512 * DZ_MIB);
	assert_int_equal(cfg.fetch, DZ_FETCH_INLINE);
	assert_int_equal(cfg.ttl_ms, 250);
	assert_int_equal(cfg.log_level, DZ_LOG_DEBUG);
	assert_string_equal(cfg.log_path, "/tmp/log");
}

static void zero_switches_the_disk_tier_off_and_inf_is_forever(void **state)
{
	static const char *const env[] = { "DELTAZERO_DISK_SIZE=0", "DELTAZERO_METADATA_TTL=inf",
					   NULL };

	(void)state;
	assert_int_equal(read_env(env), 0);
	assert_true(cfg.disk_bytes == DZ_SIZE_NONE);
	assert_true(cfg.ttl_ms == DZ_TTL_FOREVER);
}

static void a_mistake_names_its_variable_and_keeps_the_default(void **state)
{
	static const char *const mistakes[][2] = {
		{ "DELTAZERO_DRAM_SIZE=many", NULL },	 { "DELTAZERO_DRAM_SIZE=0", NULL },
		{ "DELTAZERO_DISK_SIZE=1.5G", NULL },	 { "DELTAZERO_FETCH=both", NULL },
		{ "DELTAZERO_METADATA_TTL=soon", NULL }, { "DELTAZERO_LOG=loud", NULL },
		{ "DELTAZERO_LOG=info:here", NULL },	 { "DELTAZERO_SHM_DIR=shm", NULL },
		{ "DELTAZERO_CACHE_DIR=./x", NULL },	 { "DELTAZERO_MOUNT=/mnt", NULL },
		{ "DELTAZERO_CONFIG=/no/such", NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < DZ_ARRAY_LEN(mistakes); i++) {
		assert_int_equal(read_env(mistakes[i]), -EINVAL);
		assert_memory_equal(cfg.error, mistakes[i][0], strcspn(mistakes[i][0], "="));
		assert_int_equal(cfg.dram_bytes, 0);
		assert_int_equal(cfg.ttl_ms, 60000);
		assert_string_equal(cfg.shm_dir, "/dev/shm");
		assert_true(cfg.cache_dir[0] == '/');
	}
}

static void sizes_are_powers_of_1024_and_never_overflow(void **state)
{
	uint64_t n;

	(void)state;
	assert_int_equal(dz_config_size("1048576", &n), 0);
	assert_int_equal(n, 1048576);
	assert_int_equal(dz_config_size("3k", &n), 0);
	assert_int_equal(n, 3072);
	assert_int_equal(dz_config_size("2TB", &n), 0);
	assert_true(n == 2048 * DZ_GIB);
	assert_int_equal(dz_config_size("", &n), -EINVAL);
	assert_int_equal(dz_config_size("G", &n), -EINVAL);
	assert_int_equal(dz_config_size("4X", &n), -EINVAL);
	assert_int_equal(dz_config_size("4Gi", &n), -EINVAL);
	assert_int_equal(dz_config_size("-1", &n), -EINVAL);
	assert_int_equal(dz_config_size("18446744073709551615", &n), -EINVAL);
	assert_int_equal(dz_config_size("18446744073709551616", &n), -EINVAL);
	assert_int_equal(dz_config_size("99999999P", &n), -EINVAL);
}

static void every_spelling_of_an_account_is_one_endpoint(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_ACCOUNT=acct", NULL };
	static const char *const urls[] = {
		"/m=https://acct.blob.core.windows.net/data/a/b",
		"/m=https://acct.blob.core.windows.net:443/data/a/b/",
		"/m=HTTPS://ACCT.BLOB.core.windows.net/data//a/b",
		"/m=https://acct.dfs.core.windows.net/data/a/b",
		"/m=abfss://data@acct.dfs.core.windows.net/a/b",
		"/m=abfs://data@acct.dfs.core.windows.net/a/b/",
		"/m=wasbs://data@acct.blob.core.windows.net/a/b",
		"/m=az://data/a/b",
		"/m=azure://data/a/b/",
	};
	struct dz_mount first, m;
	size_t i;

	(void)state;
	assert_int_equal(parse(&first, urls[0], env), 0);
	for (i = 0; i < DZ_ARRAY_LEN(urls); i++) {
		expect_mount(urls[i], env, "https://acct.blob.core.windows.net", "acct", "data",
			     "a/b/");
		assert_int_equal(parse(&m, urls[i], env), 0);
		assert_false(m.path_style);
		assert_true(m.id == first.id && m.data_id == first.data_id);
	}
}

static void an_emulator_has_the_account_in_its_path(void **state)
{
	struct dz_mount m;

	(void)state;
	expect_mount("/m=http://127.0.0.1:10000/devstoreaccount1/c", no_env,
		     "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1", "c", "");
	expect_mount("/m=http://azurite:10000/acc/c/p", no_env, "http://azurite:10000/acc", "acc",
		     "c", "p/");
	expect_mount("/m=http://azurite.ns.svc.cluster.local:10000/acc/c", no_env,
		     "http://azurite.ns.svc.cluster.local:10000/acc", "acc", "c", "");
	expect_mount("/m=http://[::1]:10000/acc/c", no_env, "http://[::1]:10000/acc", "acc", "c",
		     "");
	expect_mount("/m=http://a1.blob.localhost:10000/c", no_env,
		     "http://a1.blob.localhost:10000", "a1", "c", "");
	assert_int_equal(parse(&m, "/m=http://127.0.0.1:80/a/c", no_env), 0);
	assert_true(m.path_style);
	assert_string_equal(m.endpoint, "http://127.0.0.1/a");
}

static void other_hosts_of_azure_are_understood(void **state)
{
	static const char *const env[] = { "AZURE_STORAGE_ACCOUNT=acct", NULL };

	(void)state;
	expect_mount("/m=https://acct.blob.core.chinacloudapi.cn/c", no_env,
		     "https://acct.blob.core.chinacloudapi.cn", "acct", "c", "");
	expect_mount("/m=https://Acct.BLOB.Core.Windows.Net/c", no_env,
		     "https://acct.blob.core.windows.net", "acct", "c", "");
	expect_mount("/m=https://acct.z12.blob.storage.azure.net/c", no_env,
		     "https://acct.z12.blob.storage.azure.net", "acct", "c", "");
	expect_mount("/m=https://acct-secondary.blob.core.windows.net/c", no_env,
		     "https://acct-secondary.blob.core.windows.net", "acct", "c", "");
	/* A domain of one's own: the environment has the account. */
	expect_mount("/m=https://data.example.com/c/p", env, "https://data.example.com", "acct",
		     "c", "p/");
	expect_mount("/m=https://data.example.com/$web", no_env, "https://data.example.com", "",
		     "$web", "");
}

static void az_takes_its_endpoint_from_the_environment(void **state)
{
	static const char *const emulator[] = {
		"AZURE_STORAGE_CONNECTION_STRING=UseDevelopmentStorage=true", NULL
	};
	static const char *const string[] = {
		"AZURE_STORAGE_CONNECTION_STRING=DefaultEndpointsProtocol=https;AccountName=me;"
		"AccountKey=a2V5;EndpointSuffix=core.usgovcloudapi.net",
		NULL
	};
	static const char *const explicit[] = {
		"AZURE_STORAGE_ACCOUNT=me", "AZURE_STORAGE_BLOB_ENDPOINT=http://localhost:1/other/",
		NULL
	};
	static const char *const host[] = { "AZURE_STORAGE_BLOB_ENDPOINT=me.blob.core.windows.net",
					    NULL };

	(void)state;
	expect_mount("/m=az://c/p", emulator, "http://127.0.0.1:10000/devstoreaccount1",
		     "devstoreaccount1", "c", "p/");
	expect_mount("/m=az://c", string, "https://me.blob.core.usgovcloudapi.net", "me", "c", "");
	expect_mount("/m=az://c", explicit, "http://localhost:1/other", "other", "c", "");
	expect_mount("/m=az://c", host, "https://me.blob.core.windows.net", "me", "c", "");
	expect_refusal("/m=az://c", no_env, "AZURE_STORAGE_ACCOUNT");
}

static void a_prefix_is_percent_decoded(void **state)
{
	(void)state;
	expect_mount("/m=https://a.blob.core.windows.net/c/x%20y/50%25/%C3%BC", no_env,
		     "https://a.blob.core.windows.net", "a", "c", "x y/50%/\xC3\xBC/");
	expect_mount("/m=https://a.blob.core.windows.net/c/a+b", no_env,
		     "https://a.blob.core.windows.net", "a", "c", "a+b/");
	expect_refusal("/m=https://a.blob.core.windows.net/c/50%", no_env, "%25");
	expect_refusal("/m=https://a.blob.core.windows.net/c/%zz", no_env, "%25");
	expect_refusal("/m=https://a.blob.core.windows.net/c/a%00b", no_env, "%");
	expect_refusal("/m=https://a.blob.core.windows.net/c/a#b", no_env, "%23");
}

static void a_sas_is_kept_apart_and_never_shown(void **state)
{
	struct dz_mount m;

	(void)state;
	assert_int_equal(
		parse(&m, "/m=https://a.blob.core.windows.net/c/p?sv=2020&sig=s%3D", no_env), 0);
	assert_string_equal(m.sas, "sv=2020&sig=s%3D");
	assert_string_equal(m.prefix, "p/");
	expect_refusal("/m=https://a.blob.core.windows.net/?sig=SECRET", no_env, "container");
	assert_null(strstr(why, "SECRET"));
	expect_refusal("/m=https://a.blob.core.windows.net/c?SECRET", no_env, "SAS");
	assert_null(strstr(why, "SECRET"));
	expect_refusal("/m=https://u:SECRET@a.blob.core.windows.net/c", no_env, "host");
	assert_null(strstr(why, "SECRET"));
}

static void a_malformed_mount_says_what_to_write(void **state)
{
	(void)state;
	expect_refusal("/m", no_env, "LOCAL=URL");
	expect_refusal("/m=", no_env, "LOCAL=URL");
	expect_refusal("m=https://a.blob.core.windows.net/c", no_env, "absolute");
	expect_refusal("/=https://a.blob.core.windows.net/c", no_env, "below /");
	expect_refusal("/a/../b=https://a.blob.core.windows.net/c", no_env, "..");
	expect_refusal("/m=s3://bucket/x", no_env, "az://");
	expect_refusal("/m=https:///c", no_env, "host");
	expect_refusal("/m=https://a.blob.core.windows.net", no_env, "container");
	expect_refusal("/m=https://a.blob.core.windows.net/Data", no_env, "upper-case");
	expect_refusal("/m=https://a.blob.core.windows.net/da_ta", no_env, "letters");
	expect_refusal("/m=abfss://acct.dfs.core.windows.net/c", no_env, "CONTAINER@");
	expect_refusal("/m=http://127.0.0.1:1", no_env, "ACCOUNT");
}

static void mounts_are_separated_by_semicolons(void **state)
{
	static const char *const env[] = { "DELTAZERO_MOUNT="
					   "/data//x/./=https://a.blob.core.windows.net/c?sig=1;"
					   " /k=v=az://d ;;\n/e=http://127.0.0.1:1/a/c;",
					   "AZURE_STORAGE_ACCOUNT=b", NULL };

	(void)state;
	assert_int_equal(read_env(env), 0);
	assert_int_equal(cfg.n_mounts, 3);
	assert_string_equal(cfg.mounts[0].local, "/data/x");
	assert_int_equal(cfg.mounts[0].local_len, 7);
	assert_string_equal(cfg.mounts[0].sas, "sig=1");
	assert_string_equal(cfg.mounts[1].local, "/k=v");
	assert_string_equal(cfg.mounts[1].endpoint, "https://b.blob.core.windows.net");
	assert_string_equal(cfg.mounts[2].container, "c");
}

static void a_bad_mount_leaves_the_good_ones(void **state)
{
	static const char *const env[] = {
		"DELTAZERO_MOUNT=/a=https://a.blob.core.windows.net/c;/b=ftp://x/y;"
		"/a=https://a.blob.core.windows.net/d;/e=https://a.blob.core.windows.net/e",
		NULL
	};

	(void)state;
	assert_int_equal(read_env(env), -EINVAL);
	assert_int_equal(cfg.n_mounts, 2);
	assert_string_equal(cfg.mounts[1].local, "/e");
	assert_non_null(strstr(cfg.error, "ftp://x/y"));
}

static void identity_follows_the_credentials_and_data_does_not(void **state)
{
	static const char *const one[] = { "AZURE_STORAGE_KEY=a2V5", NULL };
	static const char *const two[] = { "AZURE_STORAGE_KEY=a2V6", NULL };
	struct dz_mount m[5];

	(void)state;
	assert_int_equal(parse(&m[0], "/m=https://a.blob.core.windows.net/c", no_env), 0);
	assert_int_equal(parse(&m[1], "/m=https://a.blob.core.windows.net/c", one), 0);
	assert_int_equal(parse(&m[2], "/m=https://a.blob.core.windows.net/c", two), 0);
	assert_int_equal(parse(&m[3], "/n=https://a.blob.core.windows.net/c?sig=x", one), 0);
	assert_int_equal(parse(&m[4], "/n=https://a.blob.core.windows.net/c?sig=x", two), 0);
	assert_true(m[0].identity != m[1].identity && m[1].identity != m[2].identity);
	assert_true(m[1].id != m[2].id);
	assert_true(m[1].data_id == m[2].data_id && m[2].data_id == m[3].data_id);
	/* The URL's SAS is its only credential. */
	assert_true(m[3].identity == m[4].identity && m[3].id == m[4].id);
}

/* "HASH:OF" counts for exactly the credentials that it was made for. */
static void an_identity_is_lent_to_who_has_nothing_of_its_own(void **state)
{
	static const char *const given[] = { "AZURE_STORAGE_KEY=secret", NULL };
	char lent[64];
	const char *const cleared[] = { lent, NULL };
	const char *const others[] = { lent, "AZURE_STORAGE_KEY=other", NULL };
	static const char *const broken[] = { "DELTAZERO_IDENTITY=12:0", NULL };
	struct dz_mount m[4];

	(void)state;
	snprintf(lent, sizeof(lent), "DELTAZERO_IDENTITY=%016llx:%016llx",
		 (unsigned long long)dz_config_credentials((char *const *)given), 0ull);
	assert_int_equal(parse(&m[0], "/d=https://a.blob.core.windows.net/c", given), 0);
	assert_int_equal(parse(&m[1], "/d=https://a.blob.core.windows.net/c", cleared), 0);
	assert_int_equal(parse(&m[2], "/d=https://a.blob.core.windows.net/c", others), 0);
	assert_int_equal(parse(&m[3], "/d=https://a.blob.core.windows.net/c", broken), 0);
	assert_true(m[1].id == m[0].id && m[1].is_borrowed && !m[0].is_borrowed);
	assert_true(m[2].identity != m[0].identity && !m[2].is_borrowed);
	assert_true(m[3].identity == 0 && !m[3].is_borrowed);
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void a_file_gives_what_the_environment_does_not(void **state)
{
	char path[] = "/tmp/dz-config-XXXXXX", variable[64];
	const char *env[] = { variable, "DELTAZERO_DRAM_SIZE=1G", NULL };

	(void)state;
	close(mkstemp(path));
	snprintf(variable, sizeof(variable), "DELTAZERO_CONFIG=%s", path);
	write_file(path, "# ours\n\n  DELTAZERO_DRAM_SIZE=2G\r\nDELTAZERO_DISK_SIZE=3G\n"
			 "DELTAZERO_MOUNT=/m=https://a.blob.core.windows.net/c");
	assert_int_equal(read_env(env), 0);
	assert_int_equal(cfg.dram_bytes, DZ_GIB);
	assert_int_equal(cfg.disk_bytes, 3 * DZ_GIB);
	assert_int_equal(cfg.n_mounts, 1);
	write_file(path, "DELTAZERO_DISK_SIZE=3G\nAZURE_STORAGE_KEY=SECRET\n");
	assert_int_equal(read_env(env), -EINVAL);
	assert_non_null(strstr(cfg.error, "line 2"));
	assert_null(strstr(cfg.error, "SECRET"));
	unlink(path);
}

static void a_connection_string_is_read_by_name(void **state)
{
	static const char text[] = "accountname = me ;AccountKey=a2V5PT0=;Empty=;junk;"
				   "BlobEndpoint=http://h/;";
	struct dz_span v;

	(void)state;
	assert_true(dz_connstr_get(text, "AccountName", &v));
	assert_true(dz_span_is(v, "me"));
	assert_true(dz_connstr_get(text, "AccountKey", &v));
	assert_true(dz_span_is(v, "a2V5PT0="));
	assert_true(dz_connstr_get(text, "BlobEndpoint", &v));
	assert_true(dz_span_is(v, "http://h/"));
	assert_false(dz_connstr_get(text, "Empty", &v));
	assert_false(dz_connstr_get(text, "SharedAccessSignature", &v));
	assert_false(dz_connstr_get(NULL, "AccountName", &v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_word_everything_has_a_default),
		cmocka_unit_test(every_setting_is_read),
		cmocka_unit_test(zero_switches_the_disk_tier_off_and_inf_is_forever),
		cmocka_unit_test(a_mistake_names_its_variable_and_keeps_the_default),
		cmocka_unit_test(sizes_are_powers_of_1024_and_never_overflow),
		cmocka_unit_test(every_spelling_of_an_account_is_one_endpoint),
		cmocka_unit_test(an_emulator_has_the_account_in_its_path),
		cmocka_unit_test(other_hosts_of_azure_are_understood),
		cmocka_unit_test(az_takes_its_endpoint_from_the_environment),
		cmocka_unit_test(a_prefix_is_percent_decoded),
		cmocka_unit_test(a_sas_is_kept_apart_and_never_shown),
		cmocka_unit_test(a_malformed_mount_says_what_to_write),
		cmocka_unit_test(mounts_are_separated_by_semicolons),
		cmocka_unit_test(a_bad_mount_leaves_the_good_ones),
		cmocka_unit_test(identity_follows_the_credentials_and_data_does_not),
		cmocka_unit_test(an_identity_is_lent_to_who_has_nothing_of_its_own),
		cmocka_unit_test(a_file_gives_what_the_environment_does_not),
		cmocka_unit_test(a_connection_string_is_read_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
