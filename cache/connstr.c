/* SPDX-License-Identifier: MIT */
/*
 * A connection string is searched from its start for each name: it has six
 * pairs, and is read once a process.  A pair without '=' is skipped; the first
 * of two equal names counts.
 */
#include "cache/connstr.h"

#include <string.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool dz_span_is(struct dz_span s, const char *text)
{
	size_t i;

	for (i = 0; i < s.len && text[i]; i++)
		if (lower(s.p[i]) != lower(text[i]))
			return false;
	return i == s.len && !text[i];
}

static struct dz_span span_trim(struct dz_span s)
{
	while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\n')) {
		s.p++;
		s.len--;
	}
	while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\n'))
		s.len--;
	return s;
}

static bool pair_get(const char *text, const char *name, struct dz_span *value)
{
	const char *at, *end, *eq;
	struct dz_span key;

	for (at = text; *at; at = *end ? end + 1 : end) {
		end = at + strcspn(at, ";");
		eq = memchr(at, '=', (size_t)(end - at));
		if (!eq)
			continue;
		key = span_trim((struct dz_span){ at, (size_t)(eq - at) });
		if (!dz_span_is(key, name))
			continue;
		*value = span_trim((struct dz_span){ eq + 1, (size_t)(end - eq - 1) });
		return value->len > 0;
	}
	return false;
}

/* What the emulator's documentation publishes. */
static bool emulator_get(const char *name, struct dz_span *value)
{
	static const char *const pairs[][2] = {
		{ "AccountName", "devstoreaccount1" },
		{ "AccountKey", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"
				"K1SZFPTOtr/KBHBeksoGMGw==" },
		{ "BlobEndpoint", "http://127.0.0.1:10000/devstoreaccount1" },
		{ "DefaultEndpointsProtocol", "http" },
	};
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(pairs); i++) {
		if (strcmp(pairs[i][0], name) != 0)
			continue;
		*value = (struct dz_span){ pairs[i][1], strlen(pairs[i][1]) };
		return true;
	}
	return false;
}

bool dz_connstr_get(const char *text, const char *name, struct dz_span *value)
{
	struct dz_span flag;

	if (!text)
		return false;
	if (pair_get(text, name, value))
		return true;
	return pair_get(text, "UseDevelopmentStorage", &flag) && dz_span_is(flag, "true") &&
	       emulator_get(name, value);
}
