// SPDX-License-Identifier: MIT
/*
 * The pictures of a trial's page, 360 units wide: one unit is one pixel of a
 * phone.  Each says in words what it shows, for those who do not see it, and
 * figures stand beside the bars, so that colour alone decides nothing.
 */
#include "tools/trial.h"

#include <string.h>

#include "tools/human.h"

#define WIDTH 360
#define LEFT  56 /* for the scale */
#define ROW   26

static const char *const mode_class[TRIAL_MODES] = { "none", "cold", "warm" };
static const char *const tier_class[DZ_TIERS] = { "dram", "disk", "peer", "blob" };
static const char *const tier_title[DZ_TIERS] = { "DRAM", "NVMe", "peers", "Blob" };

static double larger(double a, double b)
{
	return a > b ? a : b;
}

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static void begin(FILE *to, int height, const char *label)
{
	fprintf(to, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", WIDTH, height,
		label);
}

static void end(FILE *to)
{
	fputs("</svg>\n", to);
}

static void bar(FILE *to, const char *class, double x, double y, double w, double h)
{
	fprintf(to, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
		class, x, y, w > 0 ? w : 0, h);
}

static void nothing(FILE *to, const char *why)
{
	fprintf(to, "<p class=\"soft\">%s</p>\n", why);
}

/* ---- how long it took ---- */

void trial_svg_wall(FILE *to, const struct trial *t)
{
	const double room = WIDTH - 70 - 64;
	double most = 0, least, longest;

	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		trial_range(t, (enum trial_mode)mode, &least, &longest);
		most = longest > most ? longest : most;
	}
	begin(to, TRIAL_MODES * 36, "wall time of the three kinds of run, as bars");
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);
		double y = mode * 36;

		if (!run)
			continue;
		fprintf(to, "<text x=\"0\" y=\"%.0f\">%s</text>\n", y + 20, trial_titles[mode]);
		bar(to, mode_class[mode], 70, y + 4, room * run->seconds / most, 24);
		trial_range(t, (enum trial_mode)mode, &least, &longest);
		fprintf(to, "<text x=\"%.1f\" y=\"%.0f\">%.2f s</text>\n",
			76 + room * longest / most, y + 20, run->seconds);
		for (uint32_t i = 0; t->n[mode] > 1 && i < t->n[mode]; i++) {
			double x = 70 + room * t->run[mode][i]->seconds / most;

			fprintf(to,
				"<path class=\"line\" style=\"stroke:var(--text)\" "
				"d=\"M%.1f %.0fv28\"/>\n",
				x, y + 2);
		}
	}
	end(to);
}

/* ---- where the bytes came from ---- */

void trial_svg_shares(FILE *to, const struct trial *t)
{
	const double room = WIDTH - 70;
	char size[DZ_HUMAN_BYTES];

	begin(to, TRIAL_MODES * 48, "share of the tiers in the bytes that were read");
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);
		double x = 70, y = mode * 48, all;

		if (!run)
			continue;
		all = (double)trial_bytes(run);
		fprintf(to, "<text x=\"0\" y=\"%.0f\">%s</text>\n", y + 18, trial_titles[mode]);
		bar(to, "line", 70, y + 2, room - 1, 22);
		for (int tier = 0; tier < DZ_TIERS && all > 0; tier++) {
			double w = room * (double)run->totals.hit_bytes[tier] / all;

			bar(to, tier_class[tier], x, y + 2, w, 22);
			x += w;
		}
		fprintf(to, "<text class=\"soft\" x=\"70\" y=\"%.0f\">%s", y + 40,
			dz_human((uint64_t)all, size));
		for (int tier = 0; tier < DZ_TIERS; tier++) {
			if (run->totals.hit_bytes[tier])
				fprintf(to, ", %.1f %% %s",
					dz_percent((double)run->totals.hit_bytes[tier], all),
					tier_title[tier]);
		}
		fputs("</text>\n", to);
	}
	end(to);
}

/* ---- bytes a second ---- */

struct plot {
	double x0, y0, w, h;
	double x_max, y_max;
};

static double x_of(const struct plot *p, double x)
{
	return p->x0 + p->w * (p->x_max > 0 ? x / p->x_max : 0);
}

static double y_of(const struct plot *p, double y)
{
	return p->y0 + p->h * (1 - (p->y_max > 0 ? smaller(y / p->y_max, 1) : 0));
}

/* 1, 2 or 5 times a power of ten, at least `least`. */
static double round_step(double least)
{
	double power = 1;

	if (!(least > 0))
		return 1;
	while (power > least)
		power /= 10;
	while (power * 10 <= least)
		power *= 10;
	if (least <= power)
		return power;
	return least <= 2 * power ? 2 * power : least <= 5 * power ? 5 * power : 10 * power;
}

/* The same for bytes: 1, 2, 5, 10... 500 of a unit of 1,024. */
static double round_bytes(double least)
{
	double unit = 1;

	while (least >= unit * 1000)
		unit *= 1024;
	return round_step(least / unit) * unit;
}

static void scales(FILE *to, const struct plot *p)
{
	double x_step = round_step(p->x_max / 5), y_step = round_bytes(p->y_max / 4);
	char text[DZ_HUMAN_BYTES];

	for (double y = 0; y <= p->y_max * 1.001; y += y_step) {
		fprintf(to, "<path class=\"line\" d=\"M%.0f %.1fh%.0f\"/>", p->x0, y_of(p, y),
			p->w);
		fprintf(to,
			"<text class=\"soft\" text-anchor=\"end\" x=\"%.0f\" y=\"%.1f\">%s"
			"</text>\n",
			p->x0 - 5, y_of(p, y) + 4, y > 0 ? dz_human((uint64_t)y, text) : "0");
	}
	for (double x = 0; x <= p->x_max * 1.001; x += x_step)
		fprintf(to,
			"<text class=\"soft\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.0f\">"
			"%.6g%s</text>\n",
			x_of(p, x), p->y0 + p->h + 16, x, x == 0 ? " s" : "");
}

static double rate_of(const struct trial_run *run, uint32_t i, int tiers)
{
	const struct trial_sample *now = &run->samples[i];
	const struct trial_sample *before = i ? now - 1 : NULL;
	double seconds = now->seconds - (before ? before->seconds : 0), bytes = 0;

	for (int tier = 0; tier < tiers; tier++)
		bytes += (double)now->bytes[tier] - (before ? (double)before->bytes[tier] : 0);
	return seconds > 0 && bytes > 0 ? bytes / seconds : 0;
}

/* The same scales in all three pictures, so that they can be compared. */
static void common_scale(const struct trial *t, struct plot *p)
{
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);

		if (!run)
			continue;
		p->x_max = larger(p->x_max, run->seconds);
		/* The last one may span next to no time. */
		for (uint32_t i = 0; i < run->n_samples; i++) {
			if (i + 1 < run->n_samples || run->n_samples == 1)
				p->y_max = larger(p->y_max, rate_of(run, i, DZ_TIERS));
		}
	}
}

/* The area up to the first `tiers` tiers: drawn from the back, the whole first. */
static void area(FILE *to, const struct plot *p, const struct trial_run *run, int tiers)
{
	fprintf(to, "<path class=\"%s\" d=\"M%.1f %.1f", tier_class[tiers - 1], x_of(p, 0),
		y_of(p, 0));
	for (uint32_t i = 0; i < run->n_samples; i++) {
		double from = i ? run->samples[i - 1].seconds : 0;
		double y = y_of(p, rate_of(run, i, tiers));

		fprintf(to, "L%.1f %.1fL%.1f %.1f", x_of(p, from), y,
			x_of(p, run->samples[i].seconds), y);
	}
	fprintf(to, "V%.1fZ\"/>\n", y_of(p, 0));
}

void trial_svg_throughput(FILE *to, const struct trial *t, enum trial_mode mode)
{
	const struct trial_run *run = trial_median(t, mode);
	struct plot p = { .x0 = LEFT + 8, .y0 = 8, .w = WIDTH - LEFT - 20, .h = 130 };

	common_scale(t, &p);
	if (!run || p.y_max <= 0) {
		nothing(to, "Nothing was read below the mount.");
		return;
	}
	begin(to, 164, "bytes a second over the run, by the tier they came from");
	for (int tiers = DZ_TIERS; tiers > 0; tiers--)
		area(to, &p, run, tiers);
	scales(to, &p);
	fprintf(to,
		"<path class=\"line\" style=\"stroke:var(--text)\" d=\"M%.1f %.0fv%.0f\"/>"
		"<text class=\"soft\" text-anchor=\"%s\" x=\"%.1f\" y=\"20\">end</text>\n",
		x_of(&p, run->seconds), p.y0, p.h, run->seconds > p.x_max * 0.8 ? "end" : "start",
		x_of(&p, run->seconds) + (run->seconds > p.x_max * 0.8 ? -4 : 4));
	end(to);
}

/* ---- how long reads took ---- */

#define DECADES	   8 /* 100 ns to 10 s */
#define PER_DECADE 4
#define BINS	   (DECADES * PER_DECADE)
#define FIRST_NS   100.0
#define HISTOGRAM  56 /* high */

static int bin_of(double ns)
{
	static const double quarters[] = { 1.7783, 3.1623, 5.6234, 10 };
	double from = FIRST_NS;
	int bin = 0;

	while (ns >= from * 10 && bin < BINS) {
		from *= 10;
		bin += PER_DECADE;
	}
	for (int i = 0; i < PER_DECADE && ns >= from * quarters[i]; i++)
		bin++;
	return bin < BINS ? bin : BINS - 1;
}

/* The share of the calls in each bin, by tier; the largest of a bin. */
static double fill_bins(const struct trial_run *run, double bins[DZ_TIERS][BINS])
{
	double all = 0, most = 0;

	for (int t = 0; t < DZ_TIERS; t++) {
		for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
			all += (double)run->latency[t][b];
	}
	for (int t = 0; t < DZ_TIERS && all > 0; t++) {
		for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
			bins[t][bin_of(run->latency_ns[b])] += (double)run->latency[t][b] / all;
	}
	for (int i = 0; i < BINS; i++) {
		double sum = 0;

		for (int t = 0; t < DZ_TIERS; t++)
			sum += bins[t][i];
		most = larger(most, sum);
	}
	return most;
}

/* Tiers one upon the other, the fastest at the bottom. */
static void draw_bins(FILE *to, double bins[DZ_TIERS][BINS], double base, double most)
{
	const double w = (WIDTH - 24.0) / BINS;

	for (int i = 0; i < BINS; i++) {
		double y = base;

		for (int t = 0; t < DZ_TIERS; t++) {
			/* What happened at all is seen. */
			double size = larger(HISTOGRAM * bins[t][i] / most, 1.5);

			if (bins[t][i] <= 0)
				continue;
			y -= size;
			bar(to, tier_class[t], 12 + i * w, y, w - 1, size);
		}
	}
	fprintf(to, "<path class=\"line\" d=\"M12 %.0fh%d\"/>\n", base, WIDTH - 24);
}

static void draw_decades(FILE *to, double y)
{
	static const char *const decades[] = { "100 ns", "",	   "10 µs", "",	   "1 ms",
					       "",	 "100 ms", "",	    "10 s" };

	for (int i = 0; i <= DECADES; i++) {
		bool is_first = i == 0, is_last = i == DECADES;

		fprintf(to,
			"<text class=\"soft\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.0f\">%s"
			"</text>\n",
			is_first  ? "start"
			: is_last ? "end"
				  : "middle",
			is_first  ? 6
			: is_last ? WIDTH - 6
				  : 12 + i * (WIDTH - 24.0) / DECADES,
			y, decades[i]);
	}
}

void trial_svg_latency(FILE *to, const struct trial *t)
{
	double bins[TRIAL_MODES][DZ_TIERS][BINS] = { { { 0 } } }, most = 0;

	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);

		if (run)
			most = larger(most, fill_bins(run, bins[mode]));
	}
	if (most <= 0) {
		nothing(to, "No call read data below the mount.");
		return;
	}
	begin(to, TRIAL_MODES * (HISTOGRAM + 14) + 22,
	      "histograms of the time that calls took which read, by the tier that they "
	      "needed, on a logarithmic scale");
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		double base = (mode + 1) * (HISTOGRAM + 14) - 4;

		fprintf(to,
			"<text class=\"soft\" text-anchor=\"end\" x=\"%d\" y=\"%.0f\">%s</text>\n",
			WIDTH - 12, base - HISTOGRAM, trial_titles[mode]);
		draw_bins(to, bins[mode], base, most);
	}
	draw_decades(to, TRIAL_MODES * (HISTOGRAM + 14) + 14);
	end(to);
}

/* ---- who waited, and for what ---- */

/* A title, a bar of `value` of `most`, and the figure. */
static void list_row(FILE *to, int row, const char *title, const char *class, double value,
		     double most, const char *figure)
{
	const double room = WIDTH - 150 - 96;
	double y = row * ROW;
	size_t len = strlen(title);
	const char *tail = title + (len > 20 ? len - 19 : 0);

	/* The end of a path says more than its beginning; no character is cut in two. */
	while (((unsigned char)*tail & 0xc0) == 0x80)
		tail++;
	fprintf(to, "<text x=\"0\" y=\"%.0f\"><title>", y + 17);
	trial_text(to, title);
	fputs("</title>", to);
	fputs(tail > title ? "…" : "", to);
	trial_text(to, tail);
	fputs("</text>\n", to);
	bar(to, class, 150, y + 4, room * (most > 0 ? smaller(value / most, 1) : 0), 17);
	fprintf(to, "<text x=\"%.1f\" y=\"%.0f\">%s</text>\n",
		156 + room * (most > 0 ? smaller(value / most, 1) : 0), y + 17, figure);
}

void trial_svg_processes(FILE *to, const struct trial *t)
{
	enum { EACH = 6 };
	double most = 0;
	int rows = 0;
	char title[48], figure[64];

	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);
		uint32_t n = run ? (uint32_t)dz_min_u64(run->n_processes, EACH) : 0;

		rows += (int)n + (run && run->other_wait_seconds > 0.005);
		if (n)
			most = larger(most, (double)run->processes[0].wait_ns / 1e9);
		if (run)
			most = larger(most, run->other_wait_seconds);
	}
	if (!rows) {
		nothing(to, "No process of the command used the mount long enough to be seen.");
		return;
	}
	begin(to, rows * ROW + 4, "seconds that processes waited for data");
	rows = 0;
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);

		for (uint32_t i = 0; run && i < run->n_processes && i < EACH; i++) {
			const struct trial_process *p = &run->processes[i];
			double wait = (double)p->wait_ns / 1e9;

			snprintf(title, sizeof(title), "%s %u", p->comm, p->pid);
			snprintf(figure, sizeof(figure), "%.2f of %.1f s", wait,
				 larger(p->last - p->first, wait));
			list_row(to, rows++, title, mode_class[mode], wait, most, figure);
		}
		if (run && run->other_wait_seconds > 0.005) {
			snprintf(figure, sizeof(figure), "%.2f s", run->other_wait_seconds);
			list_row(to, rows++, "short-lived ones", mode_class[mode],
				 run->other_wait_seconds, most, figure);
		}
	}
	end(to);
}

void trial_svg_files(FILE *to, const struct trial *t)
{
	enum { EACH = 8 };
	double most = 0;
	int rows = 0;
	char figure[32];

	for (int mode = 0; mode <= TRIAL_COLD; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);

		rows += run ? (int)dz_min_u64(run->n_files, EACH) : 0;
		if (run && run->n_files)
			most = larger(most, run->files[0].wait_seconds);
	}
	if (!rows) {
		nothing(to, "Nobody was seen waiting for a file.");
		return;
	}
	begin(to, rows * ROW + 4, "files that processes waited for longest");
	rows = 0;
	for (int mode = 0; mode <= TRIAL_COLD; mode++) {
		const struct trial_run *run = trial_median(t, (enum trial_mode)mode);

		for (uint32_t i = 0; run && i < run->n_files && i < EACH; i++) {
			snprintf(figure, sizeof(figure), "%.2f s", run->files[i].wait_seconds);
			list_row(to, rows++, run->files[i].name, mode_class[mode],
				 run->files[i].wait_seconds, most, figure);
		}
	}
	end(to);
}
