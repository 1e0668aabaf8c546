/* SPDX-License-Identifier: MIT */
/*
 * LOCAL=URL becomes a dz_mount:
 *  1. split at the '=' in front of the URL's scheme; tidy LOCAL;
 *  2. cut the URL into scheme, authority, path and query;
 *  3. from the authority (or, for az://, from the environment): the endpoint, the
 *     account, and whether the account stands in the host or in the path;
 *  4. the first segment of what is left is the container, the rest, decoded, the
 *     prefix; the query is a SAS;
 *  5. hash what names the data, and what opens it.
 *
 * A mistake leaves -EINVAL and one sentence in `why`, which shows the text up to
 * its '?': what follows is a secret.
 */
#include "cache/config.h"

#include "cache/connstr.h"
#include "cache/hash.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SPELLINGS                                                                                  \
	"write https://ACCOUNT.blob.core.windows.net/CONTAINER, http://HOST:PORT/ACCOUNT/"         \
	"CONTAINER, az://, abfss:// or wasbs://"

/* One parse: its target, its sources, and where a complaint goes. */
struct parse {
	struct dz_mount *m;
	char *const *envp;
	const char *connection; /* AZURE_STORAGE_CONNECTION_STRING or NULL */
	struct dz_span shown;
	char *why;
	size_t why_len;
};

struct url {
	struct dz_span scheme, authority, path, query;
};

static int complain(struct parse *p, const char *what)
{
	int shown = (int)dz_min_u64(p->shown.len, 64);

	snprintf(p->why, p->why_len, "`%.*s`: %s", shown, p->shown.p, what);
	return -EINVAL;
}

static struct dz_span span_of(const char *text)
{
	return (struct dz_span){ text, strlen(text) };
}

static struct dz_span span_from(struct dz_span s, size_t at)
{
	return (struct dz_span){ s.p + at, s.len - at };
}

/* Index of the first of `chars`, or the length. */
static size_t span_find(struct dz_span s, const char *chars)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (s.p[i] && strchr(chars, s.p[i]))
			break;
	return i;
}

/* In any case, as host names are. */
static bool span_has(struct dz_span s, const char *text)
{
	size_t len = strlen(text);
	size_t i;

	for (i = 0; i + len <= s.len; i++)
		if (dz_span_is((struct dz_span){ s.p + i, len }, text))
			return true;
	return false;
}

static bool span_copy(char *to, size_t cap, struct dz_span s)
{
	if (s.len >= cap)
		return false;
	memcpy(to, s.p, s.len);
	to[s.len] = '\0';
	return true;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool span_holds_only(struct dz_span s, const char *others)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (!is_alnum(s.p[i]) && !(s.p[i] && strchr(others, s.p[i])))
			return false;
	return true;
}

static void lower_case(char *text)
{
	for (; *text; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
}

/* The '=' in front of the first "scheme://"; LOCAL itself may hold an '='. */
static const char *find_split(struct dz_span text)
{
	const char *at = memmem(text.p, text.len, "://", 3);

	while (at && at > text.p && *at != '=')
		at--;
	return at && *at == '=' ? at : NULL;
}

static int parse_local_segment(struct parse *p, struct dz_span segment)
{
	struct dz_mount *m = p->m;

	if (segment.len == 0 || (segment.len == 1 && segment.p[0] == '.'))
		return 0;
	if (segment.len == 2 && segment.p[0] == '.' && segment.p[1] == '.')
		return complain(p, "the local path must not hold `..`");
	if (m->local_len + 1 + segment.len >= sizeof(m->local))
		return complain(p, "the local path is longer than 511 bytes");
	m->local[m->local_len++] = '/';
	memcpy(m->local + m->local_len, segment.p, segment.len);
	m->local_len += (uint32_t)segment.len;
	return 0;
}

static int parse_local(struct parse *p, struct dz_span local)
{
	size_t end;
	int ret;

	if (local.len == 0 || local.p[0] != '/')
		return complain(p, "the local path must be absolute, such as /mnt/blob");
	for (; local.len > 0; local = span_from(local, end)) {
		local = span_from(local, 1);
		end = span_find(local, "/");
		ret = parse_local_segment(p, (struct dz_span){ local.p, end });
		if (ret < 0)
			return ret;
	}
	if (p->m->local_len == 0)
		return complain(p, "the local path must be below /, such as /mnt/blob");
	return 0;
}

/* False when there is no "://". */
static bool url_cut(struct dz_span text, struct url *u)
{
	const char *colon = memmem(text.p, text.len, "://", 3);
	size_t end;

	if (!colon)
		return false;
	u->scheme = (struct dz_span){ text.p, (size_t)(colon - text.p) };
	text = span_from(text, u->scheme.len + 3);
	end = span_find(text, "/?#");
	u->authority = (struct dz_span){ text.p, end };
	text = span_from(text, end);
	end = span_find(text, "?");
	u->path = (struct dz_span){ text.p, end };
	u->query = span_from(text, end < text.len ? end + 1 : end);
	return true;
}

static bool is_zone(struct dz_span host)
{
	return span_has(host, ".blob.") || span_has(host, ".dfs.");
}

/*
 * The account is in the host for Azure's own zones and for custom domains; in
 * the path for an emulator or gateway: an address, a bare name, or a port.
 */
static bool is_path_style(struct dz_span authority)
{
	struct dz_span host = { authority.p, span_find(authority, ":") };
	bool has_port = host.len < authority.len;
	bool is_address = authority.p[0] == '[' || span_find(host, ".") == host.len;
	size_t i;

	if (is_zone(host))
		return false;
	for (i = 0; i < host.len && strchr("0123456789.", host.p[i]); i++)
		;
	return is_address || i == host.len || has_port;
}

static void drop_suffix(char *text, const char *suffix)
{
	size_t len = strlen(text);
	size_t cut = strlen(suffix);

	if (len > cut && memcmp(text + len - cut, suffix, cut) == 0)
		text[len - cut] = '\0';
}

/* ".dfs." to ".blob.": one account, two services; we speak the blob one. */
static int use_blob_zone(struct parse *p, char *endpoint, size_t cap)
{
	char *dfs = strstr(endpoint, ".dfs.");
	size_t len = strlen(endpoint);

	if (!dfs)
		return 0;
	if (len + 2 > cap)
		return complain(p, "the host is too long");
	memmove(dfs + 6, dfs + 5, len + 1 - (size_t)(dfs + 5 - endpoint));
	memcpy(dfs, ".blob.", 6);
	return 0;
}

static int set_host(struct parse *p, bool is_https, struct dz_span authority)
{
	char *endpoint = p->m->endpoint;
	int n;

	if (span_find(authority, "@") < authority.len) {
		/* What stands there may be a password. */
		p->shown = span_of(p->m->local);
		return complain(p, "no user or container may stand before the host here");
	}
	if (authority.len == 0 || !span_holds_only(authority, ".-_:[]"))
		return complain(p, "the host name is missing or malformed");
	n = snprintf(endpoint, DZ_URL_MAX, "%s://%.*s", is_https ? "https" : "http",
		     (int)dz_min_u64(authority.len, DZ_URL_MAX), authority.p);
	/* Room for the account of a path-style endpoint as well. */
	if (n < 0 || n >= DZ_URL_MAX - 70)
		return complain(p, "the host is too long");
	lower_case(endpoint);
	drop_suffix(endpoint, is_https ? ":443" : ":80");
	return use_blob_zone(p, endpoint, DZ_URL_MAX - 70);
}

/* The account that the environment names, for a host that does not. */
static struct dz_span env_account(const struct parse *p)
{
	const char *text;
	struct dz_span account;

	if (dz_connstr_get(p->connection, "AccountName", &account))
		return account;
	text = dz_config_env(p->envp, "AZURE_STORAGE_ACCOUNT");
	if (!text || !*text)
		text = dz_config_env(p->envp, "AZURE_STORAGE_ACCOUNT_NAME");
	return span_of(text ? text : "");
}

static int set_account(struct parse *p, struct dz_span account)
{
	struct dz_mount *m = p->m;

	if (!span_holds_only(account, "-") || !span_copy(m->account, sizeof(m->account), account))
		return complain(p, "the account name is malformed (letters and digits)");
	if (!m->path_style)
		lower_case(m->account);
	/* The geo-replica answers under another name and signs with the first. */
	drop_suffix(m->account, "-secondary");
	return 0;
}

static int set_account_of_path(struct parse *p, struct dz_span *path)
{
	struct dz_mount *m = p->m;
	struct dz_span account;
	size_t len = strlen(m->endpoint);

	while (path->len > 0 && path->p[0] == '/')
		*path = span_from(*path, 1);
	account = (struct dz_span){ path->p, span_find(*path, "/") };
	if (account.len == 0)
		return complain(p, "no account; write http://HOST:PORT/ACCOUNT/CONTAINER");
	if (account.len >= sizeof(m->account))
		return complain(p, "the account name is longer than 63 characters");
	snprintf(m->endpoint + len, sizeof(m->endpoint) - len, "/%.*s", (int)account.len,
		 account.p);
	*path = span_from(*path, account.len);
	return set_account(p, account);
}

/* Endpoint, account and style; takes the account off `path` when it is there. */
static int parse_base(struct parse *p, bool is_https, struct dz_span authority,
		      struct dz_span *path)
{
	int ret = set_host(p, is_https, authority);

	if (ret < 0)
		return ret;
	p->m->path_style = is_path_style(authority);
	if (p->m->path_style)
		return set_account_of_path(p, path);
	if (is_zone(authority))
		return set_account(p, (struct dz_span){ authority.p, span_find(authority, ".") });
	return set_account(p, env_account(p));
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One character of a percent-encoded text; returns what it took, 0 when bad. */
static size_t decode_one(struct dz_span s, char *c)
{
	int high, low;

	*c = s.p[0];
	if (*c != '%')
		return 1;
	high = s.len > 2 ? hex_digit(s.p[1]) : -1;
	low = s.len > 2 ? hex_digit(s.p[2]) : -1;
	if (high < 0 || low < 0)
		return 0;
	*c = (char)(high << 4 | low);
	return *c ? 3 : 0;
}

static int parse_prefix(struct parse *p, struct dz_span text)
{
	char *prefix = p->m->prefix;
	size_t len = 0;
	size_t took;

	while (text.len > 0 && text.p[0] == '/')
		text = span_from(text, 1);
	if (span_find(text, "#") < text.len)
		return complain(p, "write a `#` of the prefix as %23");
	for (; text.len > 0; text = span_from(text, took)) {
		if (len + 2 >= sizeof(p->m->prefix))
			return complain(p, "the prefix is longer than 1,022 bytes");
		took = decode_one(text, &prefix[len++]);
		if (!took)
			return complain(p, "a `%` of the prefix is not followed by two hex "
					   "digits; write a `%` as %25");
	}
	if (len > 0 && prefix[len - 1] != '/')
		prefix[len++] = '/';
	prefix[len] = '\0';
	return 0;
}

static int set_container(struct parse *p, struct dz_span name)
{
	size_t i;

	if (name.len == 0)
		return complain(p, "no container; " SPELLINGS);
	if (!span_copy(p->m->container, sizeof(p->m->container), name) ||
	    !span_holds_only(name, "-$"))
		return complain(p, "the container's name may hold up to 63 lower-case letters, "
				   "digits and `-`");
	for (i = 0; i < name.len; i++)
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			return complain(p, "a container's name has no upper-case letters");
	return 0;
}

static int parse_container(struct parse *p, struct dz_span path)
{
	size_t end;
	int ret;

	while (path.len > 0 && path.p[0] == '/')
		path = span_from(path, 1);
	end = span_find(path, "/");
	ret = set_container(p, (struct dz_span){ path.p, end });
	if (ret < 0)
		return ret;
	return parse_prefix(p, span_from(path, end));
}

static int parse_sas(struct parse *p, struct dz_span query)
{
	size_t i;

	if (query.len == 0)
		return 0;
	if (!span_has(query, "sig="))
		return complain(p, "what follows the `?` is not a SAS token (it has no sig=)");
	for (i = 0; i < query.len; i++)
		if (query.p[i] <= ' ' || query.p[i] > '~' || query.p[i] == '#')
			return complain(p, "the SAS token holds a character that must be encoded");
	if (!span_copy(p->m->sas, sizeof(p->m->sas), query))
		return complain(p, "the SAS token is longer than 1,023 characters");
	return 0;
}

static int parse_http(struct parse *p, const struct url *u)
{
	struct dz_span path = u->path;
	int ret = parse_base(p, dz_span_is(u->scheme, "https"), u->authority, &path);

	return ret < 0 ? ret : parse_container(p, path);
}

/* CONTAINER@ACCOUNT.dfs.core.windows.net, as Hadoop spells it; always by TLS. */
static int parse_hadoop(struct parse *p, const struct url *u)
{
	size_t at = span_find(u->authority, "@");
	struct dz_span none = { "", 0 };
	int ret;

	if (at == u->authority.len)
		return complain(p, "write abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/");
	ret = set_container(p, (struct dz_span){ u->authority.p, at });
	if (ret < 0)
		return ret;
	ret = parse_base(p, true, span_from(u->authority, at + 1), &none);
	return ret < 0 ? ret : parse_prefix(p, u->path);
}

/* "https://host/", "host", "http://127.0.0.1:10000/devstoreaccount1". */
static int parse_endpoint(struct parse *p, struct dz_span text)
{
	struct url u = { .path = { "", 0 }, .query = { "", 0 } };
	size_t i;
	int ret;

	if (!url_cut(text, &u)) {
		u.authority = (struct dz_span){ text.p, span_find(text, "/") };
		u.path = span_from(text, u.authority.len);
		u.scheme = span_of("https");
	}
	if (!dz_span_is(u.scheme, "https") && !dz_span_is(u.scheme, "http"))
		return complain(p, "the endpoint for az:// must begin with https:// or http://");
	ret = parse_base(p, dz_span_is(u.scheme, "https"), u.authority, &u.path);
	if (ret < 0)
		return ret;
	for (i = 0; i < u.path.len; i++)
		if (u.path.p[i] != '/')
			return complain(p, "the endpoint for az:// has a path too many");
	return 0;
}

/* AZURE_STORAGE_BLOB_ENDPOINT, else what the connection string has, else by account. */
static int parse_az_endpoint(struct parse *p)
{
	const char *text = dz_config_env(p->envp, "AZURE_STORAGE_BLOB_ENDPOINT");
	struct dz_span account = env_account(p);
	struct dz_span suffix = span_of("core.windows.net");
	struct dz_span scheme = span_of("https");
	struct dz_span found;
	char url[DZ_URL_MAX];

	if (text && *text)
		return parse_endpoint(p, span_of(text));
	if (dz_connstr_get(p->connection, "BlobEndpoint", &found))
		return parse_endpoint(p, found);
	if (account.len == 0)
		return complain(p, "az:// needs AZURE_STORAGE_ACCOUNT or "
				   "AZURE_STORAGE_CONNECTION_STRING");
	dz_connstr_get(p->connection, "EndpointSuffix", &suffix);
	dz_connstr_get(p->connection, "DefaultEndpointsProtocol", &scheme);
	if (account.len + suffix.len + scheme.len + 16 > sizeof(url))
		return complain(p, "the account or the endpoint suffix is too long");
	snprintf(url, sizeof(url), "%.*s://%.*s.blob.%.*s", (int)scheme.len, scheme.p,
		 (int)account.len, account.p, (int)suffix.len, suffix.p);
	return parse_endpoint(p, span_of(url));
}

static int parse_az(struct parse *p, const struct url *u)
{
	int ret = set_container(p, u->authority);

	if (ret < 0)
		return ret;
	p->m->is_az = true;
	ret = parse_az_endpoint(p);
	return ret < 0 ? ret : parse_prefix(p, u->path);
}

static int parse_url(struct parse *p, struct dz_span text)
{
	static const struct {
		const char *scheme;
		int (*parse)(struct parse *p, const struct url *u);
	} schemes[] = {
		{ "https", parse_http },   { "http", parse_http },    { "az", parse_az },
		{ "azure", parse_az },	   { "abfss", parse_hadoop }, { "abfs", parse_hadoop },
		{ "wasbs", parse_hadoop }, { "wasb", parse_hadoop },
	};
	struct url u;
	size_t i;
	int ret;

	if (!url_cut(text, &u))
		return complain(p, "no URL; " SPELLINGS);
	for (i = 0; i < DZ_ARRAY_LEN(schemes); i++) {
		if (!dz_span_is(u.scheme, schemes[i].scheme))
			continue;
		ret = schemes[i].parse(p, &u);
		return ret < 0 ? ret : parse_sas(p, u.query);
	}
	return complain(p, "unknown scheme; " SPELLINGS);
}

static uint64_t hash_text(const char *text, uint64_t seed)
{
	/* With the NUL, so that two texts in turn cannot run together. */
	return dz_hash64(text, strlen(text) + 1, seed);
}

const char *const dz_credentials[] = {
	"AZURE_STORAGE_AUTH_TYPE",
	"AZURE_STORAGE_CONNECTION_STRING",
	"AZURE_STORAGE_ACCESS_KEY",
	"AZURE_STORAGE_KEY",
	"AZURE_STORAGE_ACCOUNT_KEY",
	"AZURE_STORAGE_SAS_TOKEN",
	"AZURE_FEDERATED_TOKEN_FILE",
	"AZURE_OAUTH_TOKEN_FILE",
	"AZURE_CLIENT_ID",
	"AZURE_TENANT_ID",
	"AZURE_AUTHORITY_HOST",
	"AZURE_CLIENT_SECRET",
	"AZURE_STORAGE_SPN_CLIENT_ID",
	"AZURE_STORAGE_SPN_TENANT_ID",
	"AZURE_STORAGE_SPN_CLIENT_SECRET",
	"AZURE_STORAGE_AAD_ENDPOINT",
	"AZURE_STORAGE_IDENTITY_CLIENT_ID",
	"AZURE_STORAGE_IDENTITY_RESOURCE_ID",
	"AZURE_STORAGE_IDENTITY_OBJECT_ID",
	"IDENTITY_ENDPOINT",
	NULL,
};

/*
 * Whoever runs with other credentials gets other names: what one may list, the
 * other may not.
 */
uint64_t dz_config_credentials(char *const *envp)
{
	uint64_t hash = 0;
	const char *value;
	size_t i;

	for (i = 0; dz_credentials[i]; i++) {
		value = dz_config_env(envp, dz_credentials[i]);
		if (value && *value)
			hash = hash_text(value, hash_text(dz_credentials[i], hash));
	}
	return hash;
}

/* Sixteen hex digits and what must follow them. */
static bool take_hex(const char **at, char end, uint64_t *number)
{
	int i, digit;

	*number = 0;
	for (i = 0; i < 16; i++, (*at)++) {
		digit = hex_digit(**at);
		if (digit < 0)
			return false;
		*number = *number << 4 | (uint64_t)digit;
	}
	return *(*at)++ == end;
}

uint64_t dz_config_identity(char *const *envp, bool *is_borrowed)
{
	const char *lent = dz_config_env(envp, "DELTAZERO_IDENTITY");
	uint64_t own = dz_config_credentials(envp);
	uint64_t identity, of;

	*is_borrowed =
		lent && take_hex(&lent, ':', &identity) && take_hex(&lent, '\0', &of) && of == own;
	return *is_borrowed ? identity : own;
}

static void mount_set_ids(struct dz_mount *m, char *const *envp)
{
	/* The URL's own SAS is the only credential of its mount. */
	m->identity = m->sas[0] ? hash_text(m->sas, 1) : dz_config_identity(envp, &m->is_borrowed);
	m->data_id = hash_text(m->container, hash_text(m->endpoint, 0));
	/* Odd: records.c has use for the others. */
	m->id = dz_hash64(&m->identity, sizeof(m->identity), hash_text(m->prefix, m->data_id)) | 1;
}

int dz_config_mount(struct dz_mount *m, const char *text, size_t len, char *const *envp, char *why,
		    size_t why_len)
{
	struct dz_span whole = { text, len };
	struct parse p = {
		.m = m,
		.envp = envp,
		.connection = dz_config_env(envp, "AZURE_STORAGE_CONNECTION_STRING"),
		.shown = { text, span_find(whole, "?") },
		.why = why,
		.why_len = why_len,
	};
	const char *split = find_split(whole);
	int ret;

	memset(m, 0, sizeof(*m));
	if (!split)
		return complain(&p, "not LOCAL=URL; " SPELLINGS);
	ret = parse_local(&p, (struct dz_span){ text, (size_t)(split - text) });
	if (ret < 0)
		return ret;
	ret = parse_url(&p, span_from(whole, (size_t)(split + 1 - text)));
	if (ret < 0)
		return ret;
	mount_set_ids(m, envp);
	return 0;
}
