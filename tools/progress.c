// SPDX-License-Identifier: MIT
#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cache/sys.h"
#include "tools/human.h"

#define BAR_EVERY_NS  200000000u
#define LINE_EVERY_NS 1000000000u
#define BAR_MAX	      40

void dz_progress_start(struct dz_progress *p, bool json)
{
	p->is_bar = !json && isatty(STDOUT_FILENO);
	p->start_ns = dz_now_ns();
	p->shown_ns = p->start_ns;
}

/* Seconds to go at the rate so far; -1: not known. */
static double progress_eta(const struct dz_progress *p, double seconds)
{
	double left = (double)(p->total_bytes - dz_min_u64(p->done_bytes, p->total_bytes));

	if (!p->total_bytes || !p->moved_bytes)
		return -1;
	return left * seconds / (double)p->moved_bytes;
}

static int terminal_width(void)
{
	struct winsize w;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 80;
}

static void progress_bar(const struct dz_progress *p, double seconds)
{
	char done[DZ_HUMAN_BYTES], total[DZ_HUMAN_BYTES], rate[DZ_HUMAN_BYTES];
	char eta[DZ_HUMAN_BYTES], text[128], bar[BAR_MAX + 1] = "";
	double share = p->total_bytes ? (double)p->done_bytes / (double)p->total_bytes : 0;
	int width = terminal_width(), n, room;
	double left = progress_eta(p, seconds);

	share = share > 1 ? 1 : share;
	n = snprintf(text, sizeof(text),
		     "%3.0f %%  %s of %s  %s/s  ETA %s  %" PRIu64 "/%" PRIu64 " files", share * 100,
		     dz_human(p->done_bytes, done), dz_human(p->total_bytes, total),
		     dz_human(seconds > 0 ? (uint64_t)((double)p->moved_bytes / seconds) : 0, rate),
		     left < 0 ? "-" : dz_human_time(left, eta), p->done_files, p->total_files);
	room = width - n - 4;
	room = room > BAR_MAX ? BAR_MAX : room;
	if (room >= 8) {
		int full = (int)(share * room);

		memset(bar, '=', (size_t)full);
		memset(bar + full, ' ', (size_t)(room - full));
		bar[room] = '\0';
		printf("\r[%s] %s\033[K", bar, text);
	} else {
		printf("\r%.*s\033[K", width - 1, text);
	}
	fflush(stdout);
}

static void progress_line(const struct dz_progress *p, double seconds)
{
	double left = progress_eta(p, seconds);

	printf("{\"event\": \"progress\", \"seconds\": %.3f, \"bytes\": %" PRIu64
	       ", \"bytes_total\": %" PRIu64 ", \"files\": %" PRIu64 ", \"files_total\": %" PRIu64
	       ", \"bytes_per_second\": %.0f, \"eta_seconds\": ",
	       seconds, p->done_bytes, p->total_bytes, p->done_files, p->total_files,
	       seconds > 0 ? (double)p->moved_bytes / seconds : 0);
	if (left < 0)
		puts("null}");
	else
		printf("%.1f}\n", left);
	fflush(stdout);
}

void dz_progress_show(struct dz_progress *p)
{
	uint64_t now = dz_now_ns();
	double seconds = (double)(now - p->start_ns) / 1e9;

	if (now - p->shown_ns < (p->is_bar ? BAR_EVERY_NS : LINE_EVERY_NS))
		return;
	p->shown_ns = now;
	if (p->is_bar)
		progress_bar(p, seconds);
	else
		progress_line(p, seconds);
}

double dz_progress_end(struct dz_progress *p)
{
	if (p->is_bar) {
		fputs("\r\033[K", stdout);
		fflush(stdout);
	}
	return (double)(dz_now_ns() - p->start_ns) / 1e9;
}
