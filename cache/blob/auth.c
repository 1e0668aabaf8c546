/* SPDX-License-Identifier: MIT */
/*
 * Opening reads every name once into copies (a program may change its
 * environment later) and makes the key and the token source ready; choosing is
 * then a walk down the list of auth.h, without I/O.
 *
 * A key that is not base64, a connection string without a credential, and a mode
 * whose settings are missing are told when opening, by name, not at the first
 * read.
 */
#include "cache/blob/auth.h"

#include "cache/connstr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

enum setting {
	AUTH_TYPE,
	CONNECTION,
	ACCOUNT,
	KEY,
	SAS,
	TOKEN_FILE,
	ASSERTION,
	CLIENT_ID,
	TENANT_ID,
	CLIENT_SECRET,
	AUTHORITY,
	RESOURCE,
	MSI_CLIENT_ID,
	MSI_OBJECT_ID,
	MSI_RESOURCE_ID,
	IMDS_HOST,
	IDENTITY_ENDPOINT,
	IDENTITY_HEADER,
	MSI_ENDPOINT,
	MSI_SECRET,
	N_SETTINGS
};

/* The first that is set counts. */
static const char *const names[N_SETTINGS][3] = {
	[AUTH_TYPE] = { "AZURE_STORAGE_AUTH_TYPE" },
	[CONNECTION] = { "AZURE_STORAGE_CONNECTION_STRING" },
	[ACCOUNT] = { "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME" },
	[KEY] = { "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY" },
	[SAS] = { "AZURE_STORAGE_SAS_TOKEN" },
	[TOKEN_FILE] = { "AZURE_FEDERATED_TOKEN_FILE", "AZURE_OAUTH_TOKEN_FILE" },
	[ASSERTION] = { "WORKLOAD_IDENTITY_TOKEN" },
	[CLIENT_ID] = { "AZURE_STORAGE_SPN_CLIENT_ID", "AZURE_CLIENT_ID" },
	[TENANT_ID] = { "AZURE_STORAGE_SPN_TENANT_ID", "AZURE_TENANT_ID" },
	[CLIENT_SECRET] = { "AZURE_STORAGE_SPN_CLIENT_SECRET", "AZURE_CLIENT_SECRET" },
	[AUTHORITY] = { "AZURE_STORAGE_AAD_ENDPOINT", "AZURE_AUTHORITY_HOST" },
	[RESOURCE] = { "AZURE_STORAGE_AUTH_RESOURCE" },
	[MSI_CLIENT_ID] = { "AZURE_STORAGE_IDENTITY_CLIENT_ID", "AZURE_CLIENT_ID" },
	[MSI_OBJECT_ID] = { "AZURE_STORAGE_IDENTITY_OBJECT_ID" },
	[MSI_RESOURCE_ID] = { "AZURE_STORAGE_IDENTITY_RESOURCE_ID" },
	[IMDS_HOST] = { "AZURE_POD_IDENTITY_AUTHORITY_HOST" },
	[IDENTITY_ENDPOINT] = { "IDENTITY_ENDPOINT" },
	[IDENTITY_HEADER] = { "IDENTITY_HEADER" },
	[MSI_ENDPOINT] = { "MSI_ENDPOINT" },
	[MSI_SECRET] = { "MSI_SECRET" },
};

enum mode { MODE_AUTO, MODE_KEY, MODE_SAS, MODE_SPN, MODE_MSI, MODE_WORKLOAD, MODE_NONE };

struct dz_auth {
	const struct dz_log *log;
	enum mode mode;
	char *set[N_SETTINGS];
	struct dz_sign_key *key;	/* of AZURE_STORAGE_KEY and its synonyms */
	struct dz_sign_key *string_key; /* of the connection string */
	char *string_account, *string_sas, *string_endpoint;
	const char *env_sas; /* without '?' */
	struct dz_token *token;
	const char *token_name;
};

static char *copy_setting(char *const *envp, const char *const *alternatives)
{
	const char *value;
	int i;

	for (i = 0; i < 3 && alternatives[i]; i++) {
		value = dz_config_env(envp, alternatives[i]);
		if (value && *value)
			return strdup(value);
	}
	return NULL;
}

static char *copy_part(const struct dz_auth *a, const char *name)
{
	struct dz_span span;

	if (!dz_connstr_get(a->set[CONNECTION], name, &span))
		return NULL;
	return strndup(span.p, span.len);
}

static int read_mode(struct dz_auth *a)
{
	static const struct {
		const char *name;
		enum mode mode;
	} modes[] = {
		{ "key", MODE_KEY },
		{ "sas", MODE_SAS },
		{ "spn", MODE_SPN },
		{ "msi", MODE_MSI },
		{ "none", MODE_NONE },
		{ "anonymous", MODE_NONE },
		{ "workloadidentity", MODE_WORKLOAD },
	};
	size_t i;

	if (!a->set[AUTH_TYPE])
		return 0;
	for (i = 0; i < DZ_ARRAY_LEN(modes); i++) {
		if (strcasecmp(a->set[AUTH_TYPE], modes[i].name) != 0)
			continue;
		a->mode = modes[i].mode;
		return 0;
	}
	dz_error(a->log,
		 "AZURE_STORAGE_AUTH_TYPE: `%.40s`: write key, sas, workloadidentity, spn, msi or "
		 "anonymous",
		 a->set[AUTH_TYPE]);
	return -EINVAL;
}

static int read_key(struct dz_auth *a, struct dz_sign_key **key, const char *text, const char *name)
{
	int ret = text ? dz_sign_key_new(key, text, strlen(text)) : 0;

	if (ret == -EINVAL)
		dz_error(a->log, "%s: the account key is not base64 (%zu characters)", name,
			 strlen(text));
	return ret;
}

static int read_connection(struct dz_auth *a)
{
	char *key = copy_part(a, "AccountKey");
	int ret;

	if (!a->set[CONNECTION])
		return 0;
	a->string_account = copy_part(a, "AccountName");
	a->string_sas = copy_part(a, "SharedAccessSignature");
	a->string_endpoint = copy_part(a, "BlobEndpoint");
	ret = read_key(a, &a->string_key, key, "AZURE_STORAGE_CONNECTION_STRING");
	if (key)
		OPENSSL_cleanse(key, strlen(key));
	free(key);
	if (ret == 0 && !a->string_key && !a->string_sas) {
		dz_error(a->log, "AZURE_STORAGE_CONNECTION_STRING: has neither AccountKey nor "
				 "SharedAccessSignature");
		ret = -EINVAL;
	}
	return ret;
}

static bool has_workload(const struct dz_auth *a)
{
	return (a->set[TOKEN_FILE] || a->set[ASSERTION]) && a->set[CLIENT_ID] && a->set[TENANT_ID];
}

static bool has_principal(const struct dz_auth *a)
{
	return a->set[CLIENT_SECRET] && a->set[CLIENT_ID] && a->set[TENANT_ID];
}

static bool has_managed(const struct dz_auth *a)
{
	return a->set[MSI_CLIENT_ID] || a->set[MSI_OBJECT_ID] || a->set[MSI_RESOURCE_ID] ||
	       a->set[IDENTITY_ENDPOINT] || a->set[MSI_ENDPOINT];
}

static void source_managed(const struct dz_auth *a, struct dz_token_source *s)
{
	bool is_new = a->set[IDENTITY_ENDPOINT] && a->set[IDENTITY_HEADER];

	s->kind = is_new || a->set[MSI_ENDPOINT] ? DZ_TOKEN_APP_SERVICE : DZ_TOKEN_IMDS;
	s->endpoint = is_new ? a->set[IDENTITY_ENDPOINT] : a->set[MSI_ENDPOINT];
	s->endpoint_secret = is_new ? a->set[IDENTITY_HEADER] : a->set[MSI_SECRET];
	s->is_old_endpoint = !is_new;
	s->client_id = a->set[MSI_CLIENT_ID];
	s->object_id = a->set[MSI_OBJECT_ID];
	s->resource_id = a->set[MSI_RESOURCE_ID];
	/* The service takes one name of an identity; the more special one counts. */
	if (s->object_id || s->resource_id)
		s->client_id = NULL;
	s->imds_host = a->set[IMDS_HOST] ? a->set[IMDS_HOST] : "http://169.254.169.254";
}

/* Fills the source of tokens; false when there is none. */
static bool find_source(struct dz_auth *a, struct dz_token_source *s)
{
	bool is_auto = a->mode == MODE_AUTO;

	*s = (struct dz_token_source){
		.authority = a->set[AUTHORITY] ? a->set[AUTHORITY]
					       : "https://login.microsoftonline.com/",
		.resource = a->set[RESOURCE] ? a->set[RESOURCE] : "https://storage.azure.com/",
		.tenant_id = a->set[TENANT_ID],
		.client_id = a->set[CLIENT_ID],
		.assertion_file = a->set[TOKEN_FILE],
		.assertion = a->set[ASSERTION],
		.secret = a->set[CLIENT_SECRET],
	};
	a->token_name = "workload identity";
	s->kind = DZ_TOKEN_WORKLOAD;
	if (a->mode == MODE_WORKLOAD || (is_auto && has_workload(a)))
		return has_workload(a);
	a->token_name = "service principal";
	s->kind = DZ_TOKEN_SECRET;
	if (a->mode == MODE_SPN || (is_auto && has_principal(a)))
		return has_principal(a);
	a->token_name = "managed identity";
	source_managed(a, s);
	return a->mode == MODE_MSI || (is_auto && has_managed(a));
}

/* By TLS, or not leaving this host (an emulator, a test). */
static bool is_private(const char *url)
{
	const char *host = strstr(url, "://");
	size_t len;

	if (strncasecmp(url, "https://", 8) == 0)
		return true;
	if (!host)
		return false;
	host += 3;
	len = strcspn(host, ":/");
	if (len == 9 && strncmp(host, "localhost", 9) == 0)
		return true;
	/* 127.0.0.0/8, and not a name that begins like it. */
	return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len;
}

static int open_token(struct dz_auth *a, struct dz_http *http)
{
	struct dz_token_source source;

	if (!find_source(a, &source))
		return 0;
	if (source.kind <= DZ_TOKEN_SECRET && !is_private(source.authority)) {
		dz_error(a->log, "AZURE_AUTHORITY_HOST: `%.100s`: must begin with https://",
			 source.authority);
		return -EINVAL;
	}
	return dz_token_new(&a->token, &source, http, a->log);
}

/* A mode that was asked for must find what it needs. */
static int check_mode(const struct dz_auth *a)
{
	static const char *const needs[] = {
		[MODE_KEY] = "AZURE_STORAGE_KEY or a connection string with AccountKey",
		[MODE_SAS] = "AZURE_STORAGE_SAS_TOKEN, or a SAS in the URL or connection string",
		[MODE_SPN] = "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
		[MODE_MSI] = "",
		[MODE_WORKLOAD] = "AZURE_CLIENT_ID, AZURE_TENANT_ID and "
				  "AZURE_FEDERATED_TOKEN_FILE",
	};
	bool is_met = true;

	if (a->mode == MODE_KEY)
		is_met = a->key || a->string_key;
	else if (a->mode == MODE_SPN || a->mode == MODE_WORKLOAD)
		is_met = a->token;
	/* For sas the URL may have it: that is known only at the mount. */
	if (is_met)
		return 0;
	dz_error(a->log, "AZURE_STORAGE_AUTH_TYPE: `%.40s` needs %s", a->set[AUTH_TYPE],
		 needs[a->mode]);
	return -EINVAL;
}

/* People paste a SAS with and without its '?'. */
static const char *without_mark(const char *sas)
{
	return sas && sas[0] == '?' ? sas + 1 : sas;
}

static int read_all(struct dz_auth *a, struct dz_http *http)
{
	int ret = read_mode(a);

	if (ret == 0)
		ret = read_connection(a);
	if (ret == 0)
		ret = read_key(a, &a->key, a->set[KEY], "AZURE_STORAGE_KEY");
	if (ret == 0)
		ret = open_token(a, http);
	if (ret == 0)
		ret = check_mode(a);
	a->env_sas = without_mark(a->set[SAS]);
	return ret;
}

int dz_auth_open(struct dz_auth **out, char *const *envp, struct dz_http *http,
		 const struct dz_log *log)
{
	struct dz_auth *a = calloc(1, sizeof(*a));
	int ret;
	int i;

	if (!a)
		return -ENOMEM;
	a->log = log;
	for (i = 0; i < N_SETTINGS; i++)
		a->set[i] = copy_setting(envp, names[i]);
	ret = read_all(a, http);
	if (ret < 0) {
		dz_auth_close(a);
		return ret;
	}
	*out = a;
	return 0;
}

static void free_secret(char *text)
{
	if (text)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}

void dz_auth_close(struct dz_auth *a)
{
	int i;

	if (!a)
		return;
	dz_token_free(a->token);
	dz_sign_key_free(a->key);
	dz_sign_key_free(a->string_key);
	free_secret(a->string_account);
	free_secret(a->string_sas);
	free_secret(a->string_endpoint);
	for (i = 0; i < N_SETTINGS; i++)
		free_secret(a->set[i]);
	free(a);
}

static bool is_account_of(const char *account, const struct dz_mount *m)
{
	return account && m->account[0] && strcasecmp(account, m->account) == 0;
}

/* Does a connection string without an account name speak of this mount's host? */
static bool is_endpoint_of(const char *endpoint, const struct dz_mount *m)
{
	const char *host = strstr(m->endpoint, "://");

	return endpoint && host && strcasestr(endpoint, host + 3);
}

static bool string_applies(const struct dz_auth *a, const struct dz_mount *m)
{
	if (a->string_account)
		return is_account_of(a->string_account, m);
	return is_endpoint_of(a->string_endpoint, m);
}

/* AZURE_STORAGE_KEY and _SAS_TOKEN are of AZURE_STORAGE_ACCOUNT, or of whatever is mounted. */
static bool env_applies(const struct dz_auth *a, const struct dz_mount *m)
{
	return !a->set[ACCOUNT] || is_account_of(a->set[ACCOUNT], m);
}

static bool choose_key(const struct dz_auth *a, const struct dz_mount *m, struct dz_cred *c,
		       bool from_string)
{
	c->kind = DZ_CRED_KEY;
	c->account = m->account;
	c->key = from_string ? a->string_key : a->key;
	c->name = from_string ? "account key of the connection string" : "account key";
	return c->key && m->account[0] && (from_string ? string_applies(a, m) : env_applies(a, m));
}

static bool choose_sas(const struct dz_auth *a, const struct dz_mount *m, struct dz_cred *c,
		       bool from_string)
{
	c->kind = DZ_CRED_SAS;
	c->sas = from_string ? without_mark(a->string_sas) : a->env_sas;
	c->name = from_string ? "SAS of the connection string" : "SAS of AZURE_STORAGE_SAS_TOKEN";
	return c->sas && (from_string ? string_applies(a, m) : env_applies(a, m));
}

static bool choose_static(const struct dz_auth *a, const struct dz_mount *m, struct dz_cred *c)
{
	bool is_auto = a->mode == MODE_AUTO;

	if ((is_auto || a->mode == MODE_KEY) && choose_key(a, m, c, true))
		return true;
	if ((is_auto || a->mode == MODE_SAS) && choose_sas(a, m, c, true))
		return true;
	if ((is_auto || a->mode == MODE_KEY) && choose_key(a, m, c, false))
		return true;
	return (is_auto || a->mode == MODE_SAS) && choose_sas(a, m, c, false);
}

int dz_auth_choose(struct dz_auth *a, const struct dz_mount *m, struct dz_cred *c)
{
	memset(c, 0, sizeof(*c));
	if (m->sas[0]) {
		*c = (struct dz_cred){ DZ_CRED_SAS, .sas = m->sas, .name = "SAS of the URL" };
		return 0;
	}
	if (choose_static(a, m, c))
		return 0;
	if (!a->token) {
		*c = (struct dz_cred){ DZ_CRED_NONE, .name = "none (no credential applies)" };
		return 0;
	}
	*c = (struct dz_cred){ DZ_CRED_TOKEN, .token = a->token, .name = a->token_name };
	if (is_private(m->endpoint))
		return 0;
	dz_error(a->log, "%s: a %s needs https://: its token must not travel unencrypted", m->local,
		 a->token_name);
	return -EINVAL;
}

struct dz_token *dz_auth_token(struct dz_auth *a)
{
	return a->token;
}
