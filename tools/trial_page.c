// SPDX-License-Identifier: MIT
/*
 * The page of a trial: one file, no script, nothing from elsewhere.  Pictures are
 * drawn for the width of a phone and stand side by side where there is room; the
 * colours follow the reader's light or dark setting.
 */
#include "tools/trial.h"

#include <errno.h>
#include <string.h>
#include <time.h>

static const char style[] =
	":root{color-scheme:light dark;--page:#fafafa;--card:#fff;--text:#1b1f24;--soft:#5b6570;"
	"--line:#d9dee3;--dram:#16877a;--disk:#c77c11;--peer:#4f7d3a;--blob:#c83e4d;"
	"--none:#7b8794;--cold:#3b82c4;--warm:#7d54c4}\n"
	"@media(prefers-color-scheme:dark){:root{--page:#14171a;--card:#1d2226;--text:#e8ebee;"
	"--soft:#a3adb7;--line:#3a4249;--dram:#35b8a6;--disk:#e8a33d;--peer:#8cc06f;"
	"--blob:#ef6d78;--none:#9aa5b1;--cold:#62a8e8;--warm:#b595f2}}\n"
	"*{box-sizing:border-box}\n"
	"body{margin:0 auto;padding:16px;max-width:1280px;background:var(--page);"
	"color:var(--text);font:16px/1.5 system-ui,sans-serif}\n"
	"h1{font-size:1.4rem;margin:.2em 0}h2{font-size:1rem;margin:0 0 .4em}\n"
	"code{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere}\n"
	".advice{border-left:4px solid var(--warm);background:var(--card);padding:12px 16px;"
	"margin:16px 0;font-size:1.05rem}\n"
	".soft{color:var(--soft);font-size:.85rem}\n"
	".cards{display:grid;gap:16px;grid-template-columns:repeat(auto-fill,"
	"minmax(min(100%,380px),1fr))}\n"
	".card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;"
	"min-width:0}\n"
	".wide{overflow-x:auto;margin:16px 0}\n"
	"table{border-collapse:collapse;width:100%;font-size:.9rem;"
	"font-variant-numeric:tabular-nums}\n"
	"th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--line);"
	"white-space:nowrap}\n"
	"th:first-child,td:first-child{text-align:left}\n"
	"tr.part td:first-child{padding-left:20px;color:var(--soft)}\n"
	"svg{display:block;width:100%;height:auto}\n"
	"svg text{fill:var(--text);font:12px system-ui,sans-serif}\n"
	"svg .soft{fill:var(--soft);font-size:11px}svg "
	".line{stroke:var(--line);stroke-width:1;fill:none}\n"
	".dram{fill:var(--dram)}.disk{fill:var(--disk)}.peer{fill:var(--peer)}"
	".blob{fill:var(--blob)}.none{fill:var(--none)}.cold{fill:var(--cold)}"
	".warm{fill:var(--warm)}\n"
	"@media(max-width:560px){table{font-size:.76rem}th,td{padding:3px 4px}"
	"tr.part td:first-child{padding-left:12px}}\n"
	".key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 .8em}\n"
	".key.dram{background:var(--dram)}.key.disk{background:var(--disk)}"
	".key.blob{background:var(--blob)}.key.peer{background:var(--peer)}"
	".key.none{background:var(--none)}.key.cold{background:var(--cold)}"
	".key.warm{background:var(--warm)}\n";

void trial_text(FILE *to, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '<')
			fputs("&lt;", to);
		else if (c == '>')
			fputs("&gt;", to);
		else if (c == '&')
			fputs("&amp;", to);
		else if (c == '"')
			fputs("&quot;", to);
		else
			putc(c < 0x20 ? ' ' : c, to);
	}
}

static void print_head(FILE *to, const struct trial *t)
{
	char advice[1024], when[64] = "";
	time_t now = time(NULL);
	struct tm tm;

	if (gmtime_r(&now, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M UTC", &tm);
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
	      "<title>DeltaZero trial</title>\n<style>\n",
	      to);
	fputs(style, to);
	fputs("</style>\n</head>\n<body>\n<h1>Does the cache help?</h1>\n<p><code>", to);
	for (char **arg = t->command; *arg; arg++) {
		fputs(arg == t->command ? "" : " ", to);
		trial_text(to, *arg);
	}
	fprintf(to, "</code><br><span class=\"soft\">dz trial, %s, %u round%s</span></p>\n", when,
		t->runs, t->runs == 1 ? "" : "s");
	trial_advice(t, advice, sizeof(advice));
	fputs("<p class=\"advice\">", to);
	trial_text(to, advice);
	fputs("</p>\n", to);
}

static void print_table(FILE *to, const struct trial *t)
{
	struct trial_row rows[TRIAL_ROWS_MAX];
	uint32_t n = trial_rows(t, rows);

	fprintf(to,
		"<div class=\"wide\"><table>\n<thead><tr><th>%s</th><th>%s</th><th>%s</th>"
		"<th>%s</th></tr></thead>\n<tbody>\n",
		t->runs > 1 ? "medians" : "", trial_titles[0], trial_titles[1], trial_titles[2]);
	for (uint32_t i = 0; i < n; i++) {
		fprintf(to, "<tr%s><td>%s</td>", rows[i].is_part ? " class=\"part\"" : "",
			rows[i].title);
		for (int mode = 0; mode < TRIAL_MODES; mode++)
			fprintf(to, "<td>%s</td>", rows[i].value[mode]);
		fputs("</tr>\n", to);
	}
	fputs("</tbody></table></div>\n<p class=\"soft\">", to);
	trial_text(to, trial_note);
	fputs("</p>\n", to);
}

static void open_card(FILE *to, const char *title, const char *note)
{
	fprintf(to, "<section class=\"card\"><h2>%s</h2>\n", title);
	if (note)
		fprintf(to, "<p class=\"soft\" style=\"margin:.2em 0 .6em\">%s</p>\n", note);
}

static void close_card(FILE *to)
{
	fputs("</section>\n", to);
}

static const char tier_keys[] =
	"<span class=\"key dram\"></span>DRAM<span class=\"key disk\"></span>NVMe"
	"<span class=\"key blob\"></span>Blob";
static const char mode_keys[] =
	"<span class=\"key none\"></span>no cache<span class=\"key cold\"></span>cold"
	"<span class=\"key warm\"></span>warm";

static void print_cards(FILE *to, const struct trial *t)
{
	char title[64];

	fputs("<div class=\"cards\">\n", to);
	open_card(to, "How long it took", t->runs > 1 ? "bar: median; marks: each run" : NULL);
	trial_svg_wall(to, t);
	close_card(to);
	open_card(to, "Where the bytes came from", tier_keys);
	trial_svg_shares(to, t);
	close_card(to);
	for (int mode = 0; mode < TRIAL_MODES; mode++) {
		if (!t->n[mode])
			continue;
		snprintf(title, sizeof(title), "Bytes a second, %s", trial_titles[mode]);
		open_card(to, title, tier_keys);
		trial_svg_throughput(to, t, (enum trial_mode)mode);
		close_card(to);
	}
	open_card(to, "How long reads took", tier_keys);
	trial_svg_latency(to, t);
	close_card(to);
	open_card(to, "Which processes waited for data", mode_keys);
	trial_svg_processes(to, t);
	close_card(to);
	open_card(to, "Which files they waited for",
		  "sampled every 20 ms; in the run without a cache and the cold one");
	trial_svg_files(to, t);
	close_card(to);
	fputs("</div>\n", to);
}

int trial_page(const struct trial *t, const char *path)
{
	FILE *to = fopen(path, "we");
	int ret;

	if (!to)
		return -errno;
	print_head(to, t);
	print_table(to, t);
	print_cards(to, t);
	fputs("</body>\n</html>\n", to);
	ret = ferror(to) ? -EIO : 0;
	if (fclose(to) != 0 && ret == 0)
		ret = -errno;
	return ret;
}
