// SPDX-License-Identifier: MIT
#include "tools/totals.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cache/disk.h"
#include "cache/member.h"
#include "cache/segment.h"
#include "tools/human.h"
#include "tools/place.h"

static const char *const tier_names[DZ_TIERS] = { "dram", "disk", "peer", "blob" };

/* Names of the calls, by the number under which the shim counts them: its list, in its order. */
#define HOOK(name, family) #name,
#define ALIAS(alias, name, family)
#define SKIP(name, reason)
static const char *const call_names[] = {
#include "shim/hooks.def"
};
#undef HOOK
#undef ALIAS
#undef SKIP
#define CALLS DZ_ARRAY_LEN(call_names)
_Static_assert(CALLS <= DZ_STAT_CALLS, "every call has a counter");

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_stripe(struct dz_totals *t, const struct dz_stats *s)
{
	t->calls += load(&s->calls);
	t->errors += load(&s->errors);
	for (int i = 0; i < DZ_TIERS; i++) {
		t->hits[i] += load(&s->hits[i]);
		t->hit_bytes[i] += load(&s->hit_bytes[i]);
		t->bytes += load(&s->hit_bytes[i]);
	}
	t->misses += load(&s->misses);
	t->wait_ns += load(&s->wait_ns);
	t->bypass += load(&s->bypass);
	t->origin_requests += load(&s->origin_requests);
	t->origin_bytes += load(&s->origin_bytes);
	t->origin_errors += load(&s->origin_errors);
	t->origin_retries += load(&s->origin_retries);
	t->origin_connections += load(&s->origin_connections);
	t->crc_errors += load(&s->crc_errors);
	t->uncached += load(&s->uncached);
	t->disk_writes += load(&s->disk_writes);
	t->disk_write_bytes += load(&s->disk_write_bytes);
	t->name_hits += load(&s->name_hits);
	t->name_misses += load(&s->name_misses);
	for (int i = 0; i < DZ_STAT_CALLS; i++) {
		t->by_call[i] += atomic_load_explicit(&s->by_call[i], memory_order_relaxed);
		t->bypass_by_call[i] +=
			atomic_load_explicit(&s->bypass_by_call[i], memory_order_relaxed);
	}
}

static void read_segment(struct dz_totals *t, const struct dz_seg *seg)
{
	const struct dz_seg_header *h = seg->hdr;

	for (uint32_t i = 0; i < seg->n_members * DZ_STAT_STRIPES; i++)
		add_stripe(t, &seg->stats[i]);
	for (uint32_t i = 0; i < seg->n_members; i++)
		t->members += dz_member_is_alive(seg, i);
	t->evictions = load(&h->evictions);
	t->dram_used = load(&h->dram_used);
	t->dram_size = seg->dram_bytes;
	t->disk_used = load(&h->disk_used);
	t->disk_size = seg->disk_bytes;
	t->is_disk_off = dz_disk_off(h) != DZ_DISK_ON;
	t->is_disk_slow = dz_disk_off(h) == DZ_DISK_OFF_FOR_NOW;
	snprintf(t->dir, sizeof(t->dir), "%s", seg->dir);
}

int dz_totals_read(struct dz_totals *t, const struct dz_config *cfg)
{
	struct dz_seg seg;
	int ret;

	memset(t, 0, sizeof(*t));
	ret = dz_place_look(&seg, cfg);
	if (ret < 0)
		return ret;
	read_segment(t, &seg);
	dz_seg_close(&seg);
	return 0;
}

int dz_totals_settled(struct dz_totals *t, const struct dz_config *cfg)
{
	static const struct timespec pause = { .tv_nsec = 30000000 };
	uint64_t before;
	int ret = dz_totals_read(t, cfg);

	for (int i = 0; ret == 0 && i < 16; i++) {
		before = t->origin_requests + t->origin_bytes;
		nanosleep(&pause, NULL);
		ret = dz_totals_read(t, cfg);
		/* The agent counts as it goes: twice the same, after a while. */
		if (i > 1 && before == t->origin_requests + t->origin_bytes)
			break;
	}
	return ret;
}

/* All before the sizes are counters: one array. */
void dz_totals_since(struct dz_totals *t, const struct dz_totals *before)
{
	const size_t n = offsetof(struct dz_totals, dram_used) / sizeof(uint64_t);
	uint64_t *now = (uint64_t *)t;
	const uint64_t *then = (const uint64_t *)before;

	/* A cache that was purged and made anew meanwhile has counted from zero. */
	for (size_t i = 0; i < n; i++)
		now[i] -= now[i] >= then[i] ? then[i] : 0;
}

/* ---- JSON ---- */

/* "symbol": count, of those that are not zero. */
static void json_calls(FILE *to, const uint64_t *counts)
{
	const char *comma = "";

	putc('{', to);
	for (size_t i = 0; i < CALLS; i++) {
		if (!counts[i])
			continue;
		fprintf(to, "%s\"%s\": %" PRIu64, comma, call_names[i], counts[i]);
		comma = ", ";
	}
	putc('}', to);
}

static void json_tiers(FILE *to, const uint64_t *counts, int n)
{
	const char *comma = "";

	putc('{', to);
	for (int i = 0; i < n; i++) {
		fprintf(to, "%s\"%s\": %" PRIu64, comma, tier_names[i], counts[i]);
		comma = ", ";
	}
	putc('}', to);
}

void dz_totals_json(FILE *to, const struct dz_totals *t, const char *in)
{
	fprintf(to, "{\n%s  \"calls\": %" PRIu64 ",\n", in, t->calls);
	fprintf(to, "%s  \"bytes\": %" PRIu64 ",\n", in, t->bytes);
	fprintf(to, "%s  \"errors\": %" PRIu64 ",\n", in, t->errors);
	fprintf(to, "%s  \"hits\": ", in);
	json_tiers(to, t->hits, DZ_TIER_BLOB);
	fprintf(to, ",\n%s  \"hit_bytes\": ", in);
	json_tiers(to, t->hit_bytes, DZ_TIERS);
	fprintf(to, ",\n%s  \"misses\": %" PRIu64 ",\n", in, t->misses);
	fprintf(to,
		"%s  \"origin\": {\"requests\": %" PRIu64 ", \"bytes\": %" PRIu64
		", \"errors\": %" PRIu64 ", \"retries\": %" PRIu64 ", \"connections\": %" PRIu64
		"},\n",
		in, t->origin_requests, t->origin_bytes, t->origin_errors, t->origin_retries,
		t->origin_connections);
	fprintf(to, "%s  \"wait_seconds\": %.6f,\n", in, (double)t->wait_ns / 1e9);
	fprintf(to, "%s  \"evictions\": %" PRIu64 ",\n", in, t->evictions);
	fprintf(to, "%s  \"uncached\": %" PRIu64 ",\n", in, t->uncached);
	fprintf(to, "%s  \"dram\": {\"used\": %" PRIu64 ", \"size\": %" PRIu64 "},\n", in,
		t->dram_used, t->dram_size);
	fprintf(to, "%s  \"disk\": {\"used\": %" PRIu64 ", \"size\": %" PRIu64 "", in, t->disk_used,
		t->disk_size);
	fprintf(to, ", \"off\": %s", t->is_disk_off ? "true" : "false");
	fprintf(to,
		", \"writes\": %" PRIu64 ", \"write_bytes\": %" PRIu64 ", \"crc_errors\": %" PRIu64
		"},\n",
		t->disk_writes, t->disk_write_bytes, t->crc_errors);
	fprintf(to, "%s  \"names\": {\"hits\": %" PRIu64 ", \"misses\": %" PRIu64 "},\n", in,
		t->name_hits, t->name_misses);
	fprintf(to, "%s  \"members\": %u,\n%s  \"by_call\": ", in, t->members, in);
	json_calls(to, t->by_call);
	fprintf(to, ",\n%s  \"bypass\": ", in);
	json_calls(to, t->bypass_by_call);
	fprintf(to, "\n%s}", in);
}

/* ---- Prometheus ---- */

static void metric(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP deltazero_%s %s\n# TYPE deltazero_%s %s\n", name, help, name, type);
}

static void counter(FILE *to, const char *name, const char *help, uint64_t value)
{
	metric(to, name, "counter", help);
	fprintf(to, "deltazero_%s %" PRIu64 "\n", name, value);
}

static void by_tier(FILE *to, const char *name, const char *type, const char *help,
		    const uint64_t *values, int n)
{
	metric(to, name, type, help);
	for (int i = 0; i < n; i++)
		fprintf(to, "deltazero_%s{tier=\"%s\"} %" PRIu64 "\n", name, tier_names[i],
			values[i]);
}

void dz_totals_prometheus(FILE *to, const struct dz_totals *t)
{
	const uint64_t used[] = { t->dram_used, t->disk_used };
	const uint64_t size[] = { t->dram_size, t->disk_size };

	counter(to, "calls_total", "Calls served.", t->calls);
	counter(to, "bytes_total", "Bytes given to programs.", t->bytes);
	counter(to, "errors_total", "Calls answered with an error.", t->errors);
	by_tier(to, "hits_total", "counter", "Blocks served, by tier.", t->hits, DZ_TIER_BLOB);
	by_tier(to, "hit_bytes_total", "counter", "Bytes served, by where they were.", t->hit_bytes,
		DZ_TIERS);
	counter(to, "misses_total", "Blocks that had to be fetched.", t->misses);
	counter(to, "origin_requests_total", "Requests to Blob.", t->origin_requests);
	counter(to, "origin_bytes_total", "Bytes received from Blob.", t->origin_bytes);
	counter(to, "origin_errors_total", "Requests that failed.", t->origin_errors);
	counter(to, "origin_retries_total", "Requests made again.", t->origin_retries);
	counter(to, "origin_connections_total", "Connections opened.", t->origin_connections);
	metric(to, "wait_seconds_total", "counter", "Time that calls waited for disk or network.");
	fprintf(to, "deltazero_wait_seconds_total %.6f\n", (double)t->wait_ns / 1e9);
	counter(to, "evictions_total", "Blocks evicted.", t->evictions);
	counter(to, "uncached_total", "Reads and names for which DRAM had no room.", t->uncached);
	counter(to, "disk_writes_total", "Blocks written to the disk tier.", t->disk_writes);
	counter(to, "disk_write_bytes_total", "Bytes of them.", t->disk_write_bytes);
	counter(to, "crc_errors_total", "Blocks of the disk tier with a wrong checksum.",
		t->crc_errors);
	counter(to, "name_hits_total", "Names that were known.", t->name_hits);
	counter(to, "name_misses_total", "Names that Blob was asked for.", t->name_misses);
	metric(to, "disk_off", "gauge", "1 when the disk tier switched itself off.");
	fprintf(to, "deltazero_disk_off %d\n", t->is_disk_off);
	by_tier(to, "used_bytes", "gauge", "Space in use.", used, 2);
	by_tier(to, "size_bytes", "gauge", "Space at most.", size, 2);
	metric(to, "members", "gauge", "Processes attached.");
	fprintf(to, "deltazero_members %u\n", t->members);
	metric(to, "bypass_total", "counter", "Calls on managed paths that were not served.");
	for (size_t i = 0; i < CALLS; i++) {
		if (t->bypass_by_call[i])
			fprintf(to, "deltazero_bypass_total{symbol=\"%s\"} %" PRIu64 "\n",
				call_names[i], t->bypass_by_call[i]);
	}
}

/* ---- for people ---- */

static void print_tiers(FILE *to, const struct dz_totals *t)
{
	static const char *const titles[DZ_TIERS] = { "DRAM", "NVMe", "peer", "Blob" };
	uint64_t all = 0;
	char buf[DZ_HUMAN_BYTES];

	for (int i = 0; i < DZ_TIERS; i++)
		all += t->hit_bytes[i];
	for (int i = 0; i < DZ_TIERS; i++)
		if (i != DZ_TIER_PEER || t->hit_bytes[i])
			fprintf(to, "  from %s    %10s  %5.1f %%\n", titles[i],
				dz_human(t->hit_bytes[i], buf),
				dz_percent((double)t->hit_bytes[i], (double)all));
}

static void print_tier_use(FILE *to, const char *title, uint64_t used, uint64_t size,
			   const char *note)
{
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES];

	fprintf(to, "%-12s %12s of %s (%.0f %%)%s\n", title, dz_human(used, a), dz_human(size, b),
		dz_percent((double)used, (double)size), note);
}

void dz_totals_print(FILE *to, const struct dz_totals *t)
{
	char a[DZ_HUMAN_BYTES], b[DZ_HUMAN_BYTES];

	if (!t->dir[0]) {
		fprintf(to, "no cache: nothing has run yet, or it was purged\n");
		return;
	}
	fprintf(to, "cache        %s\n", t->dir);
	fprintf(to, "members      %12u\n", t->members);
	fprintf(to, "calls        %12" PRIu64 ", %" PRIu64 " of them with an error\n", t->calls,
		t->errors);
	fprintf(to, "bytes read   %12s\n", dz_human(t->bytes, a));
	print_tiers(to, t);
	fprintf(to, "misses       %12" PRIu64 " blocks, %.3f s waited for disk and network\n",
		t->misses, (double)t->wait_ns / 1e9);
	fprintf(to,
		"Blob         %12" PRIu64 " requests, %s, %" PRIu64 " errors, %" PRIu64
		" retries, %" PRIu64 " connections\n",
		t->origin_requests, dz_human(t->origin_bytes, b), t->origin_errors,
		t->origin_retries, t->origin_connections);
	print_tier_use(to, "DRAM", t->dram_used, t->dram_size, "");
	print_tier_use(to, "NVMe", t->disk_used, t->disk_size,
		       t->is_disk_slow	? ", off for now: it is slow"
		       : t->is_disk_off ? ", switched off"
					: "");
	fprintf(to, "evictions    %12" PRIu64 "\n", t->evictions);
	if (t->uncached)
		fprintf(to, "uncached     %12" PRIu64 " reads and names: DRAM had no room\n",
			t->uncached);
	fprintf(to, "bypass       %12" PRIu64 " calls not served\n", t->bypass);
	for (size_t i = 0; i < CALLS; i++) {
		if (t->bypass_by_call[i])
			fprintf(to, "  %-10s %12" PRIu64 "\n", call_names[i], t->bypass_by_call[i]);
	}
}
