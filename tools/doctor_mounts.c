// SPDX-License-Identifier: MIT
/*
 * The way to each mount, step by step, so that the first step that fails is named:
 * the host's address, an answer over HTTP (and TLS), the two clocks, the
 * credential, and at last a List of the container.
 *
 * Never a secret: of a SAS its dates and permissions, of a key that it is one.
 */
#include "tools/doctor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "cache/blob/auth.h"
#include "cache/blob/date.h"
#include "cache/blob/http.h"
#include "cache/log.h"
#include "cache/sys.h"
#include "tools/ask.h"

#define ANSWER_MS 10000

/* ---- DNS ---- */

/* "scheme://host[:port]/..." */
static void split_host(const char *url, char host[256])
{
	const char *at = strstr(url, "://");
	size_t len;

	at = at ? at + 3 : url;
	if (*at == '[') {
		len = strcspn(++at, "]");
	} else {
		len = strcspn(at, ":/");
	}
	snprintf(host, 256, "%.*s", (int)len, at);
}

static bool examine_name(struct dz_doctor *d, const char *host)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM }, *list = NULL;
	uint64_t begin = dz_now_ns();
	int ret = getaddrinfo(host, "443", &hint, &list);
	double ms = (double)(dz_now_ns() - begin) / 1e6;
	char text[INET6_ADDRSTRLEN] = "?";
	uint32_t n = 0;

	if (ret != 0) {
		dz_found(d, DZ_HEALTH_FAIL, "dns",
			 "check the account's name in the URL and /etc/resolv.conf; a private "
			 "endpoint needs its private DNS zone",
			 "%s: %s", host, gai_strerror(ret));
		return false;
	}
	for (struct addrinfo *a = list; a; a = a->ai_next)
		n++;
	getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(list);
	dz_found(d, ms > 1000 ? DZ_HEALTH_WARN : DZ_HEALTH_OK, "dns",
		 ms > 1000 ? "a slow resolver delays each new connection: look at /etc/resolv.conf"
			   : NULL,
		 "%s is %s%s, in %.0f ms", host, text, n > 1 ? " and others" : "", ms);
	return true;
}

/* ---- connection and clock ---- */

/* One request without credentials: any answer will do, even a refusal. */
struct probe {
	struct dz_http_req req;
	int64_t date_s;
	int status, err;
	bool is_done;
	char why[256];
};

static int probe_prepare(struct dz_http_req *req)
{
	req->verb = "GET";
	return 0;
}

static void probe_begin(struct dz_http_req *req, int status)
{
	((struct probe *)req)->status = status;
}

static void probe_header(struct dz_http_req *req, const char *name, size_t name_len,
			 const char *value, size_t value_len)
{
	if (name_len == 4 && strncasecmp(name, "date", 4) == 0)
		((struct probe *)req)->date_s = dz_date_parse(value, value_len);
}

static int probe_data(struct dz_http_req *req, const void *data, size_t n)
{
	(void)req;
	(void)data;
	(void)n;
	return 0;
}

static void probe_done(struct dz_http_req *req, int err, const char *why)
{
	struct probe *p = (struct probe *)req;

	p->is_done = true;
	p->err = err;
	snprintf(p->why, sizeof(p->why), "%s", why ? why : "");
}

static void tell_clock(struct dz_doctor *d, const struct probe *p)
{
	int64_t skew = p->date_s - (int64_t)time(NULL);

	if (p->date_s < 0)
		return;
	skew = skew < 0 ? -skew : skew;
	/* Shared Key is refused beyond 15 minutes; a SAS that begins now is sooner. */
	dz_found(d,
		 skew > 600  ? DZ_HEALTH_FAIL
		 : skew > 60 ? DZ_HEALTH_WARN
			     : DZ_HEALTH_OK,
		 "clock",
		 skew > 60 ? "set the clock (chrony, systemd-timesyncd): requests are "
			     "refused beyond 15 minutes"
			   : NULL,
		 "%" PRId64 " s apart from the service's", skew);
}

static void tell_probe(struct dz_doctor *d, const struct dz_mount *m, const struct probe *p,
		       double ms)
{
	bool is_tls = strncasecmp(m->endpoint, "https:", 6) == 0;

	if (p->err == -EKEYREJECTED)
		dz_found(d, DZ_HEALTH_FAIL, "tls",
			 "behind a proxy that opens TLS, install its certificate (update-ca-"
			 "certificates); in a bare image, install ca-certificates",
			 "%s: the certificate does not verify: %s", m->endpoint, p->why);
	else if (p->err < 0)
		dz_found(d, DZ_HEALTH_FAIL, "connection",
			 "check the firewall, the account's network rules and https_proxy",
			 "%s: %s", m->endpoint, p->why[0] ? p->why : dz_strerror(p->err));
	else
		dz_found(d, DZ_HEALTH_OK, is_tls ? "tls" : "connection", NULL,
			 "%s answers in %.0f ms, %s", m->endpoint, ms,
			 is_tls ? "its certificate verifies" : "without TLS");
}

/* Returns whether anything answered. */
static bool examine_connection(struct dz_doctor *d, const struct dz_mount *m)
{
	struct dz_http_options opt = { .max_connections = 1,
				       .user_agent = "dz-doctor",
				       .ca_file = dz_http_ca_file(environ) };
	char url[DZ_URL_MAX + 16];
	struct probe p = { .req = { .prepare = probe_prepare,
				    .begin = probe_begin,
				    .header = probe_header,
				    .data = probe_data,
				    .done = probe_done },
			   .date_s = -1 };
	uint64_t begin = dz_now_ns();
	struct dz_http *http;

	if (dz_http_open(&http, &opt) < 0)
		return false;
	snprintf(url, sizeof(url), "%s/?comp=list", m->endpoint);
	p.req.url = url;
	dz_http_submit(http, &p.req);
	while (!p.is_done && dz_now_ns() - begin < ANSWER_MS * 1000000ull) {
		if (dz_http_step(http) < 0 || p.is_done)
			break;
		dz_http_wait(http, 100, -1);
	}
	if (!p.is_done)
		p = (struct probe){ .err = -ETIMEDOUT,
				    .date_s = -1,
				    .is_done = true,
				    .why = "no answer within 10 s" };
	tell_probe(d, m, &p, (double)(dz_now_ns() - begin) / 1e6);
	if (p.err == 0)
		tell_clock(d, &p);
	dz_http_close(http);
	return p.err == 0;
}

/* ---- credentials ---- */

/* Value of a field of a SAS, percent-decoded as far as dates need it. */
static bool sas_field(const char *sas, const char *name, char value[64])
{
	size_t len = strlen(name), n = 0;

	for (const char *p = sas; *p; p += strcspn(p, "&"), p += *p == '&') {
		if (strncmp(p, name, len) != 0 || p[len] != '=')
			continue;
		for (p += len + 1; *p && *p != '&' && n < 63; p++) {
			if (strncasecmp(p, "%3A", 3) == 0) {
				value[n++] = ':';
				p += 2;
			} else {
				value[n++] = *p;
			}
		}
		value[n] = '\0';
		return true;
	}
	return false;
}

/* "2026-11-23T08:00:00Z", "2026-11-23T08:00Z" or "2026-11-23"; -1. */
static int64_t sas_time(const char *text)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!end) {
		memset(&tm, 0, sizeof(tm));
		end = strptime(text, "%Y-%m-%dT%H:%M", &tm);
	}
	if (!end) {
		memset(&tm, 0, sizeof(tm));
		end = strptime(text, "%Y-%m-%d", &tm);
	}
	return end ? (int64_t)timegm(&tm) : -1;
}

static void examine_sas(struct dz_doctor *d, const struct dz_cred *cred)
{
	char se[64] = "", st[64] = "", sp[64] = "";
	int64_t now = (int64_t)time(NULL), end, begin;
	static const char renew[] = "make a new SAS";

	if (!sas_field(cred->sas, "sig", sp))
		dz_found(d, DZ_HEALTH_FAIL, "credentials", "paste the whole token, sig= included",
			 "%s has no signature", cred->name);
	sp[0] = '\0';
	sas_field(cred->sas, "sp", sp);
	sas_field(cred->sas, "st", st);
	begin = st[0] ? sas_time(st) : -1;
	if (!sas_field(cred->sas, "se", se)) {
		dz_found(d, DZ_HEALTH_OK, "credentials", NULL,
			 "%s: its end is in a stored access policy", cred->name);
		return;
	}
	end = sas_time(se);
	if (end >= 0 && end < now)
		dz_found(d, DZ_HEALTH_FAIL, "credentials", renew, "%s ended at %s", cred->name, se);
	else if (begin > now)
		dz_found(d, DZ_HEALTH_FAIL, "credentials",
			 "wait, or make one that began 15 minutes ago: clocks differ",
			 "%s begins at %s", cred->name, st);
	else if (end >= 0 && end - now < 86400)
		dz_found(d, DZ_HEALTH_WARN, "credentials", renew,
			 "%s ends at %s, in %.1f hours: a job that runs longer gets errors",
			 cred->name, se, (double)(end - now) / 3600);
	else
		dz_found(d, DZ_HEALTH_OK, "credentials", NULL, "%s, until %s, permissions %s",
			 cred->name, se, sp);
	if (sp[0] && (!strchr(sp, 'r') || !strchr(sp, 'l')))
		dz_found(d, DZ_HEALTH_FAIL, "credentials", "make one with Read and List (sp=rl)",
			 "%s allows `%s`: without r and l nothing can be read", cred->name, sp);
}

static void examine_credentials(struct dz_doctor *d, struct dz_ask *ask, const struct dz_mount *m)
{
	struct dz_http_options opt = { .max_connections = 1,
				       .user_agent = "dz-doctor",
				       .ca_file = dz_http_ca_file(environ) };
	struct dz_auth *auth = NULL;
	struct dz_http *http;
	struct dz_cred cred;

	if (dz_http_open(&http, &opt) < 0)
		return;
	if (dz_auth_open(&auth, environ, http, dz_ask_log(ask)) < 0 ||
	    dz_auth_choose(auth, m, &cred) < 0)
		dz_found(d, DZ_HEALTH_FAIL, "credentials", "correct that variable", "%s",
			 dz_ask_why(ask));
	else if (cred.kind == DZ_CRED_SAS)
		examine_sas(d, &cred);
	else if (cred.kind == DZ_CRED_NONE)
		dz_found(d, DZ_HEALTH_OK, "credentials", NULL,
			 "none are given: only public data can be read");
	else
		dz_found(d, DZ_HEALTH_OK, "credentials", NULL, "%s%s%s", cred.name,
			 cred.account ? " of account " : "", cred.account ? cred.account : "");
	dz_http_close(http);
	dz_auth_close(auth);
}

/* ---- the container ---- */

static const char *list_advice(int err, const char *code)
{
	if (strcmp(code, "ContainerNotFound") == 0)
		return "check the container's name in the URL";
	if (strcmp(code, "AuthorizationPermissionMismatch") == 0)
		return "give the identity the role Storage Blob Data Reader, or the SAS sp=rl";
	if (strcmp(code, "AuthorizationFailure") == 0)
		return "the account's network rules refuse this address: allow it, or use a "
		       "private "
		       "endpoint";
	if (err == -EACCES)
		return "check that the key or identity is this account's, and has Storage Blob "
		       "Data "
		       "Reader";
	return "look at the cause; the Azure portal shows the account's state";
}

static void examine_list(struct dz_doctor *d, struct dz_ask *ask, const struct dz_mount *m)
{
	struct dz_blob_res res = { 0 };
	uint64_t begin = dz_now_ns();
	uint32_t n = 0;
	int ret = dz_ask_list(ask, m, &n, &res);
	double ms = (double)(dz_now_ns() - begin) / 1e6;

	if (ret < 0)
		dz_found(d, DZ_HEALTH_FAIL, "list", list_advice(ret, res.error_code), "%s: %s",
			 m->local, dz_ask_why(ask)[0] ? dz_ask_why(ask) : dz_strerror(ret));
	else if (n == 0)
		dz_found(d, DZ_HEALTH_WARN, "list",
			 "check the prefix in the URL: names are "
			 "case-sensitive",
			 "%s: the list is empty", m->local);
	else
		dz_found(d, DZ_HEALTH_OK, "list", NULL, "%s: %u%s entries in %.0f ms", m->local, n,
			 res.next_marker[0] ? " and more" : "", ms);
}

static void examine_mount(struct dz_doctor *d, const struct dz_mount *m)
{
	struct dz_ask *ask = NULL;
	char host[256];
	int ret;

	dz_found(d, DZ_HEALTH_OK, "mount", NULL, "%s = %s/%s/%s", m->local, m->endpoint,
		 m->container, m->prefix);
	split_host(m->endpoint, host);
	if (!getenv("https_proxy") && !getenv("HTTPS_PROXY") && !examine_name(d, host))
		return;
	if (!examine_connection(d, m))
		return;
	ret = dz_ask_open(&ask, environ);
	if (ret < 0)
		dz_found(d, DZ_HEALTH_FAIL, "credentials", "correct that variable", "%s",
			 ask && dz_ask_why(ask)[0] ? dz_ask_why(ask) : dz_strerror(ret));
	else
		examine_credentials(d, ask, m);
	if (ret == 0)
		examine_list(d, ask, m);
	dz_ask_close(ask);
}

void dz_doctor_mounts(struct dz_doctor *d)
{
	if (d->cfg->error[0])
		dz_found(d, DZ_HEALTH_FAIL, "config", "correct that variable", "%s", d->cfg->error);
	else if (d->cfg->n_mounts == 0)
		dz_found(d, DZ_HEALTH_WARN, "mount",
			 "set DELTAZERO_MOUNT=/mnt/blob=https://ACCOUNT.blob.core.windows.net/"
			 "CONTAINER to have the way to Blob examined too",
			 "nothing is mounted");
	for (uint32_t i = 0; i < d->cfg->n_mounts; i++)
		examine_mount(d, &d->cfg->mounts[i]);
}
