// SPDX-License-Identifier: MIT
/* Which calls are wanted: strace's -e expressions, and -e tier=, slower=, origin. */
#include "tools/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void trace_filter_all(struct trace_filter *f)
{
	memset(f, 0, sizeof(*f));
	memset(f->calls, true, sizeof(f->calls));
}

/* ---- trace=SET ---- */

static uint32_t class_of(const char *name)
{
	static const struct {
		const char *name;
		uint32_t class;
	} classes[] = { { "%file", TRACE_FILE },     { "file", TRACE_FILE },
			{ "%desc", TRACE_DESC },     { "desc", TRACE_DESC },
			{ "%memory", TRACE_MEMORY }, { "memory", TRACE_MEMORY } };

	for (size_t i = 0; i < DZ_ARRAY_LEN(classes); i++) {
		if (strcmp(classes[i].name, name) == 0)
			return classes[i].class;
	}
	return 0;
}

static bool is_stat(const char *symbol)
{
	return strstr(symbol, "stat") && !strstr(symbol, "statfs") && !strstr(symbol, "statvfs");
}

/* Marks the calls that `name` means; false: there is none. */
static bool mark_calls(bool *marks, const char *name)
{
	uint32_t class = class_of(name);
	bool found = false;

	for (uint32_t i = 0; i < DZ_STAT_CALLS; i++) {
		const struct trace_call_info *info = trace_call_info(i);
		bool matches =
			class ? (info->classes & class) != 0
			      : strcmp(info->symbol, name) == 0 || strcmp(info->name, name) == 0;

		if (strcmp(name, "all") == 0)
			matches = true;
		if (strcmp(name, "%%stat") == 0)
			matches = is_stat(info->symbol);
		if (matches)
			marks[i] = true;
		found |= matches;
	}
	return found || strcmp(name, "none") == 0;
}

static bool add_calls(struct trace_filter *f, char *list, char *why, size_t len)
{
	bool marks[DZ_STAT_CALLS] = { false }, is_not = list[0] == '!';
	char *save, *word;

	for (word = strtok_r(list + is_not, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		/* `?name` may be one that there is not. */
		if (!mark_calls(marks, word + (*word == '?')) && *word != '?') {
			snprintf(why, len, "no such call: %s", word);
			return false;
		}
	}
	for (uint32_t i = 0; i < DZ_STAT_CALLS; i++)
		f->calls[i] = marks[i] != is_not;
	return true;
}

/* ---- the others ---- */

static bool add_tiers(struct trace_filter *f, char *list, char *why, size_t len)
{
	static const char *const names[DZ_TIERS] = { "dram", "disk", "peer", "blob" };
	bool is_not = list[0] == '!';
	uint32_t tiers = 0;
	char *save, *word;

	for (word = strtok_r(list + is_not, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		uint32_t i = 0;

		while (i < DZ_TIERS && strcmp(names[i], word) != 0)
			i++;
		if (i == DZ_TIERS) {
			snprintf(why, len, "no such tier: %s: dram, disk, peer or blob", word);
			return false;
		}
		tiers |= 1u << i;
	}
	f->tiers = is_not ? ~tiers & ((1u << DZ_TIERS) - 1) : tiers;
	return true;
}

static bool add_status(struct trace_filter *f, char *list, char *why, size_t len)
{
	bool is_not = list[0] == '!', success = false, failure = false;
	char *save, *word;

	for (word = strtok_r(list + is_not, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (strcmp(word, "successful") == 0) {
			success = true;
		} else if (strcmp(word, "failed") == 0) {
			failure = true;
		} else if (strcmp(word, "unfinished") == 0 || strcmp(word, "unavailable") == 0 ||
			   strcmp(word, "detached") == 0) {
			continue; /* strace's: none of ours is ever so */
		} else {
			snprintf(why, len, "no such status: %s: successful or failed", word);
			return false;
		}
	}
	f->no_success = success == is_not;
	f->no_failure = failure == is_not;
	return true;
}

static bool add_slower(struct trace_filter *f, const char *text, char *why, size_t len)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "", 1e9 }, { "s", 1e9 }, { "ms", 1e6 }, { "us", 1e3 }, { "ns", 1 } };
	char *end;
	double n = strtod(text, &end);

	for (size_t i = 0; i < DZ_ARRAY_LEN(units); i++) {
		if (end != text && n >= 0 && strcmp(end, units[i].name) == 0) {
			f->slower_ns = (uint64_t)(n * units[i].ns);
			return true;
		}
	}
	snprintf(why, len, "slower=%s: write 1ms, 20us or 0.5s", text);
	return false;
}

bool trace_filter_add(struct trace_filter *f, const char *expr, char *why, size_t len)
{
	char *copy = strdup(expr);
	char *value = copy ? strchr(copy, '=') : NULL;
	bool ok = true;

	if (!copy)
		abort();
	if (value)
		*value++ = '\0';
	if (!value && strcmp(copy, "origin") == 0)
		f->tiers = 1u << DZ_TIER_PEER | 1u << DZ_TIER_BLOB;
	else if (!value)
		ok = add_calls(f, copy, why, len);
	else if (strcmp(copy, "trace") == 0 || strcmp(copy, "t") == 0)
		ok = add_calls(f, value, why, len);
	else if (strcmp(copy, "status") == 0)
		ok = add_status(f, value, why, len);
	else if (strcmp(copy, "tier") == 0)
		ok = add_tiers(f, value, why, len);
	else if (strcmp(copy, "slower") == 0)
		ok = add_slower(f, value, why, len);
	else
		snprintf(why, len, "-e %s=: not trace, status, tier or slower", copy), ok = false;
	free(copy);
	return ok;
}

/* The path itself, or one below it. */
static bool path_matches(const char *wanted, const char *path)
{
	size_t n = strlen(wanted);

	while (n > 1 && wanted[n - 1] == '/')
		n--;
	return path && strncmp(path, wanted, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_on_path(const struct trace_filter *f, const struct trace_event *ev)
{
	for (uint32_t i = 0; i < f->n_paths; i++) {
		if (path_matches(f->paths[i], ev->fd_path))
			return true;
		for (uint32_t k = 0; k < 6; k++) {
			if (path_matches(f->paths[i], ev->strings[k]))
				return true;
		}
	}
	return f->n_paths == 0;
}

static bool is_in_tier(const struct trace_filter *f, const struct trace_event *ev)
{
	const char *tier = trace_tier(ev);

	if (!f->tiers)
		return true;
	return tier && !ev->is_bypass && (f->tiers >> ev->tier & 1);
}

bool trace_filter_wants(const struct trace_filter *f, const struct trace_event *ev)
{
	return ev->call < DZ_STAT_CALLS && f->calls[ev->call] &&
	       !(f->no_success && ev->result >= 0) && !(f->no_failure && ev->result < 0) &&
	       ev->ns >= f->slower_ns && is_in_tier(f, ev) && is_on_path(f, ev);
}

bool trace_filter_needs_events(const struct trace_filter *f)
{
	return f->no_success || f->no_failure || f->slower_ns || f->n_paths || f->tiers;
}
