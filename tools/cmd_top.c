// SPDX-License-Identifier: MIT
/*
 * dz top: what the processes of this cache do right now.
 *
 * On a terminal: the alternate screen, redrawn every few seconds and when its size
 * changes, until `q`.  Otherwise, or with -b: as text, one block a time.  It looks
 * at the counters in shared memory; nobody it looks at notices.
 *
 * However it ends (q, a signal, a terminal that hangs up), the terminal is put back.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cache/log.h"
#include "tools/dz.h"
#include "tools/top.h"

static const char help[] =
	"Usage: dz top [-b] [-n N] [-d SECONDS] [-o ORDER] [--json]\n"
	"Shows what the processes of this user's cache on this node do: calls, bytes,\n"
	"where they came from, waiting, requests to Blob, and the files that are read.\n"
	"\n"
	"  -b, --batch          text, one block a time, to be read by a program or later\n"
	"  -n, --iterations N   end after N blocks\n"
	"  -d, --delay SECONDS  between two blocks (2)\n"
	"  -o, --order ORDER    of processes: read, calls, wait or pid\n"
	"      --json           one JSON object a line\n"
	"      --help           this text\n"
	"\n"
	"Keys: q ends, s changes the order, space looks at once.\n"
	"WAIT% is the time that threads waited for disk or network, of one thread's time.\n"
	"Files are in the order of the bytes that were read; AT% is how far a reader is.";

struct options {
	bool is_batch, is_json;
	unsigned long n; /* 0: for ever */
	double delay;
	enum top_order order;
};

static volatile sig_atomic_t is_asked_to_end, is_resized; /* lint: volatile: set by handlers */

/* ---- options ---- */

static int set_order(struct options *o, const char *name)
{
	for (int i = 0; i < TOP_ORDERS; i++) {
		if (strcmp(top_order_names[i], name) == 0) {
			o->order = (enum top_order)i;
			return 0;
		}
	}
	return dz_usage("top", "-o %s: read, calls, wait or pid", name);
}

static int set_number(struct options *o, int opt, const char *text)
{
	char *end;

	if (opt == 'n')
		o->n = strtoul(text, &end, 10);
	else
		o->delay = strtod(text, &end);
	if (*end || end == text || (opt == 'n' && o->n == 0) ||
	    (opt == 'd' && !(o->delay >= 0.05 && o->delay <= 86400)))
		return dz_usage("top", "-%c %s: not such a number", opt, text);
	return 0;
}

static int parse(struct options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{ "batch", no_argument, NULL, 'b' },
		{ "iterations", required_argument, NULL, 'n' },
		{ "delay", required_argument, NULL, 'd' },
		{ "order", required_argument, NULL, 'o' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt, ret = 0;

	while (ret == 0 && (opt = getopt_long(argc, argv, "bn:d:o:h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			exit(dz_flushed("top"));
		}
		if (opt == '?')
			return dz_usage("top", "wrong option");
		if (opt == 'n' || opt == 'd')
			ret = set_number(o, opt, optarg);
		else if (opt == 'o')
			ret = set_order(o, optarg);
		o->is_batch |= opt == 'b' || opt == 'j';
		o->is_json |= opt == 'j';
	}
	if (ret == 0 && optind < argc)
		return dz_usage("top", "%s: no argument is expected", argv[optind]);
	return ret;
}

/* ---- the terminal ---- */

static struct termios saved;

static void on_signal(int sig)
{
	if (sig == SIGWINCH)
		is_resized = 1;
	else
		is_asked_to_end = 1;
}

static void enter_screen(void)
{
	const struct sigaction act = { .sa_handler = on_signal };
	struct termios raw;

	tcgetattr(STDIN_FILENO, &saved);
	raw = saved;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	sigaction(SIGWINCH, &act, NULL);
	fputs("\033[?1049h\033[?25l", stdout);
}

static void leave_screen(void)
{
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &saved);
}

static void screen_size(uint32_t *rows, uint32_t *columns)
{
	struct winsize size;

	*rows = 24;
	*columns = 80;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col) {
		*rows = size.ws_row;
		*columns = size.ws_col;
	}
}

/* Each line replaces the one before it: no flicker. */
static void show(const char *text)
{
	fputs("\033[H", stdout);
	for (const char *at = text; *at;) {
		size_t n = strcspn(at, "\n");

		fwrite(at, 1, n, stdout);
		fputs("\033[K", stdout);
		at += n + (at[n] == '\n');
		if (*at)
			fputs("\r\n", stdout);
	}
	fputs("\033[J", stdout);
	fflush(stdout);
}

static void draw(const struct top_sample *s, int ret, const struct options *o)
{
	uint32_t rows, columns;
	char *text = NULL;
	size_t len;
	FILE *mem = open_memstream(&text, &len);

	if (!mem)
		return;
	screen_size(&rows, &columns);
	if (ret < 0)
		fprintf(mem, "dz top: %s\n",
			ret == -ENOENT ? "no cache: nothing has run yet, or it was purged"
				       : dz_strerror(ret));
	else
		top_draw(mem, s, rows, columns, o->order);
	fclose(mem);
	show(text);
	free(text);
}

/* Waits for a key or the next time.  True: look again now. */
static bool wait_for_key(struct options *o, int timeout_ms)
{
	struct pollfd in = { STDIN_FILENO, POLLIN, 0 };
	char key;

	if (poll(&in, 1, timeout_ms) <= 0)
		return false;
	if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q') {
		is_asked_to_end = 1;
		return false;
	}
	if (key == 's')
		o->order = (enum top_order)((o->order + 1) % TOP_ORDERS);
	return key == ' ';
}

static int run_live(struct top *t, struct options *o)
{
	struct top_sample s;
	unsigned long n = 0;
	int ret = top_take(t, &s);

	enter_screen();
	for (double delay = 0.5; !is_asked_to_end; delay = o->delay) {
		uint64_t end = (uint64_t)(delay * 1000);

		if (ret == 0)
			top_sort(&s, o->order);
		draw(&s, ret, o);
		if (o->n && n++ == o->n)
			break;
		/* A key or another size: the same figures, drawn anew. */
		for (uint64_t ms = 0; ms < end && !is_asked_to_end; ms += 50) {
			enum top_order order = o->order;

			if (wait_for_key(o, 50))
				break;
			if (order == o->order && !is_resized)
				continue;
			is_resized = 0;
			if (ret == 0)
				top_sort(&s, o->order);
			draw(&s, ret, o);
		}
		top_sample_free(&s);
		ret = top_take(t, &s);
	}
	leave_screen();
	top_sample_free(&s);
	return dz_flushed("top");
}

/* ---- as text ---- */

static int run_batch(struct top *t, const struct options *o)
{
	struct top_sample s;
	int ret = top_take(t, &s);

	top_sample_free(&s);
	for (unsigned long i = 0; o->n == 0 || i < o->n; i++) {
		poll(NULL, 0, (int)(o->delay * 1000));
		ret = top_take(t, &s);
		if (ret < 0 && ret != -ENOENT)
			return dz_fail("top", "%s", dz_strerror(ret));
		top_sort(&s, o->order);
		if (o->is_json)
			top_json(stdout, &s);
		else if (ret == -ENOENT)
			puts("no cache: nothing has run yet, or it was purged");
		else
			top_draw(stdout, &s, 0, 500, o->order);
		if (!o->is_json)
			putchar('\n');
		top_sample_free(&s);
		if (fflush(stdout) != 0)
			break;
	}
	return dz_flushed("top");
}

int cmd_top(int argc, char **argv)
{
	struct options o = { .delay = 2 };
	static struct dz_config cfg;
	struct top *t;
	int ret = parse(&o, argc, argv);

	if (ret != 0)
		return ret;
	/* A wrong mount does not keep us from looking at the cache. */
	dz_config_read(&cfg, environ);
	t = top_new(&cfg);
	if (o.is_batch || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		ret = run_batch(t, &o);
	else
		ret = run_live(t, &o);
	top_free(t);
	return ret;
}
