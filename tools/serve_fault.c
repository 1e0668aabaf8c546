/* SPDX-License-Identifier: MIT */
/*
 * The script of misbehaviour, one rule a line:
 *
 *     match=/data/train.bin op=get nth=3 count=2 action=status:503 retry-after=1
 *
 * The text of `dz serve --help` below describes the words.  All rules that fire
 * for a request act together.  Each rule counts the requests that match it, in
 * the order in which their heads arrive, so a script gives the same faults to
 * the same requests.  The file is read once, at the start.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/serve.h"

const char serve_fault_help[] =
	"FAULT FILE: one rule a line, words separated by blanks, '#' begins a comment:\n"
	"  match=GLOB       against /CONTAINER/BLOB, '*' also matches '/' (default: all)\n"
	"  op=NAME[,NAME]   get head list put block commit blocks copy delete meta\n"
	"                   container create containers (default: all)\n"
	"  nth=N            begins with the N-th request that matches (default 1)\n"
	"  every=N          then fires for every N-th (default 1)\n"
	"  count=N          fires N times (default: without end)\n"
	"  retry-after=S    this header in the answer; retry-after-ms=MS likewise\n"
	"  code=NAME        x-ms-error-code for status:CODE (default: the usual one)\n"
	"  action=          one of:\n"
	"    delay:MS         answers later          status:CODE   this error instead\n"
	"    close            no answer              stall         never an answer\n"
	"    lost             done, but no answer    drip:RATE     RATE body bytes/second\n"
	"    reset:BYTES      RST after these body bytes\n"
	"    short:BYTES      the connection closes after these body bytes\n"
	"    truncate:BYTES   a body of BYTES, and Content-Length agrees\n"
	"    long:BYTES       that many bytes after the end of the body\n"
	"    range-wrong      Content-Range is one byte off\n"
	"    range-ignored    200 and the whole blob\n"
	"    etag-change      another ETag from here on, in List too\n"
	"    empty-page       List: no entries and a NextMarker\n"
	"    auth-expired     401 (Bearer) or 403, count=N times\n";

struct rule {
	struct rule *next;
	uint32_t line;
	char match[1100];
	char ops[128];
	uint64_t nth, every, count;
	int retry_after, retry_after_ms;
	char code[48];
	const struct action *action;
	int64_t value;
	_Atomic uint64_t seen;
	_Atomic bool has_fired;
};

struct serve_faults {
	struct rule *rules; /* in the order of the file */
	bool has_salts;
};

struct action {
	const char *name;
	bool has_value;
	void (*apply)(const struct rule *r, struct serve_fault *f);
};

static void act_delay(const struct rule *r, struct serve_fault *f)
{
	f->delay_ms += (uint32_t)r->value;
}

static void act_status(const struct rule *r, struct serve_fault *f)
{
	f->status = (int)r->value;
	memcpy(f->code, r->code, sizeof(f->code));
}

static void act_reset(const struct rule *r, struct serve_fault *f)
{
	f->reset_at = r->value;
}

static void act_short(const struct rule *r, struct serve_fault *f)
{
	f->short_at = r->value;
}

static void act_truncate(const struct rule *r, struct serve_fault *f)
{
	f->truncate_to = r->value;
}

static void act_long(const struct rule *r, struct serve_fault *f)
{
	f->extra = (uint64_t)r->value;
}

static void act_drip(const struct rule *r, struct serve_fault *f)
{
	f->drip = (uint64_t)r->value;
}

static void act_etag(const struct rule *r, struct serve_fault *f)
{
	f->etag_salt ^= (uint64_t)r->line * 0x9e3779b97f4a7c15u;
}

static void act_close(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->close = true;
}

static void act_lost(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->lost = true;
}

static void act_stall(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->stall = true;
}

static void act_range_wrong(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->range_wrong = true;
}

static void act_range_ignored(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->range_ignored = true;
}

static void act_empty_page(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->empty_page = true;
}

static void act_auth(const struct rule *r DZ_UNUSED, struct serve_fault *f)
{
	f->auth_expired = true;
}

static const struct action actions[] = {
	{ "delay", true, act_delay },
	{ "status", true, act_status },
	{ "reset", true, act_reset },
	{ "short", true, act_short },
	{ "truncate", true, act_truncate },
	{ "long", true, act_long },
	{ "drip", true, act_drip },
	{ "etag-change", false, act_etag },
	{ "close", false, act_close },
	{ "lost", false, act_lost },
	{ "stall", false, act_stall },
	{ "range-wrong", false, act_range_wrong },
	{ "range-ignored", false, act_range_ignored },
	{ "empty-page", false, act_empty_page },
	{ "auth-expired", false, act_auth },
};

/* ---- reading ---- */

static bool parse_number(const char *text, int64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoll(text, &end, 10);
	return end != text && *end == '\0' && errno == 0 && *value >= 0;
}

static bool parse_action(struct rule *r, char *text)
{
	char *colon = strchr(text, ':');

	if (colon)
		*colon++ = '\0';
	for (size_t i = 0; i < DZ_ARRAY_LEN(actions); i++) {
		if (strcmp(text, actions[i].name) != 0)
			continue;
		r->action = &actions[i];
		if (!actions[i].has_value)
			return colon == NULL;
		return colon && parse_number(colon, &r->value);
	}
	return false;
}

static bool parse_text(char *dst, size_t len, const char *text)
{
	return *text && (size_t)snprintf(dst, len, "%s", text) < len;
}

/* "op" as ",get,head," so that a name is found with its commas. */
static bool parse_ops(struct rule *r, const char *text)
{
	return *text && (size_t)snprintf(r->ops, sizeof(r->ops), ",%s,", text) < sizeof(r->ops);
}

static bool parse_word(struct rule *r, char *word)
{
	char *value = strchr(word, '=');
	int64_t n = 0;

	if (!value)
		return false;
	*value++ = '\0';
	if (strcmp(word, "match") == 0)
		return parse_text(r->match, sizeof(r->match), value);
	if (strcmp(word, "op") == 0)
		return parse_ops(r, value);
	if (strcmp(word, "code") == 0)
		return parse_text(r->code, sizeof(r->code), value);
	if (strcmp(word, "action") == 0)
		return parse_action(r, value);
	if (!parse_number(value, &n))
		return false;
	if (strcmp(word, "nth") == 0)
		r->nth = (uint64_t)n;
	else if (strcmp(word, "every") == 0)
		r->every = (uint64_t)n;
	else if (strcmp(word, "count") == 0)
		r->count = (uint64_t)n;
	else if (strcmp(word, "retry-after") == 0)
		r->retry_after = (int)n;
	else if (strcmp(word, "retry-after-ms") == 0)
		r->retry_after_ms = (int)n;
	else
		return false;
	return true;
}

/* NULL on a mistake; *word is then the word that was not understood. */
static struct rule *parse_rule(char *first, char **state, const char **word)
{
	struct rule *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	*r = (struct rule){
		.nth = 1, .every = 1, .count = UINT64_MAX, .retry_after = -1, .retry_after_ms = -1
	};
	for (char *w = first; w; w = strtok_r(NULL, " \t\n", state)) {
		if (w[0] == '#')
			break;
		*word = w;
		if (!parse_word(r, w))
			goto err_free;
	}
	*word = "action=";
	if (r->action && r->nth > 0 && r->every > 0 &&
	    (r->action->apply != act_status || (r->value >= 200 && r->value <= 599)))
		return r;
err_free:
	free(r);
	return NULL;
}

struct serve_faults *serve_faults_read(const char *path, char *why, size_t why_len)
{
	struct serve_faults *f = calloc(1, sizeof(*f));
	struct rule **tail = f ? &f->rules : NULL;
	char line[4096];
	uint32_t number = 0;
	FILE *in = fopen(path, "re");

	if (!in || !f) {
		snprintf(why, why_len, "%s: %s", path, strerror(errno));
		goto err_free;
	}
	while (fgets(line, sizeof(line), in)) {
		const char *word = "";
		char *state = NULL;
		char *first = strtok_r(line, " \t\n", &state);

		number++;
		if (!first || first[0] == '#')
			continue;
		*tail = parse_rule(first, &state, &word);
		if (!*tail) {
			snprintf(why, why_len, "%s:%u: %s is missing or not understood", path,
				 number, word);
			goto err_free;
		}
		(*tail)->line = number;
		f->has_salts = f->has_salts || (*tail)->action->apply == act_etag;
		tail = &(*tail)->next;
	}
	fclose(in);
	return f;

err_free:
	if (in)
		fclose(in);
	serve_faults_free(f);
	return NULL;
}

void serve_faults_free(struct serve_faults *f)
{
	struct rule *next;

	for (struct rule *r = f ? f->rules : NULL; r; r = next) {
		next = r->next;
		free(r);
	}
	free(f);
}

/* ---- deciding ---- */

void serve_fault_clear(struct serve_fault *out)
{
	*out = (struct serve_fault){ .retry_after = -1,
				     .retry_after_ms = -1,
				     .reset_at = -1,
				     .short_at = -1,
				     .truncate_to = -1 };
}

static bool matches_path(const struct rule *r, const char *path)
{
	return !r->match[0] || fnmatch(r->match, path, 0) == 0;
}

static bool matches_op(const struct rule *r, const char *op)
{
	char want[32];

	snprintf(want, sizeof(want), ",%s,", op);
	return !r->ops[0] || strstr(r->ops, want);
}

/* Counts the request; is it this rule's turn? */
static bool fires(struct rule *r)
{
	uint64_t n = atomic_fetch_add(&r->seen, 1) + 1;

	if (n < r->nth || (n - r->nth) % r->every != 0 || (n - r->nth) / r->every >= r->count)
		return false;
	atomic_store(&r->has_fired, true);
	return true;
}

void serve_fault_decide(struct serve_faults *f, const char *op, const char *path,
			struct serve_fault *out)
{
	serve_fault_clear(out);
	for (struct rule *r = f ? f->rules : NULL; r; r = r->next) {
		if (!matches_op(r, op) || !matches_path(r, path) || !fires(r))
			continue;
		out->rule = r->line;
		if (r->retry_after >= 0)
			out->retry_after = r->retry_after;
		if (r->retry_after_ms >= 0)
			out->retry_after_ms = r->retry_after_ms;
		r->action->apply(r, out);
	}
}

uint64_t serve_fault_salt(struct serve_faults *f, const char *path)
{
	struct serve_fault out = { 0 };

	if (!f || !f->has_salts)
		return 0;
	for (struct rule *r = f->rules; r; r = r->next) {
		if (r->action->apply == act_etag && atomic_load(&r->has_fired) &&
		    matches_path(r, path))
			act_etag(r, &out);
	}
	return out.etag_salt;
}
