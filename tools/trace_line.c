// SPDX-License-Identifier: MIT
/*
 * A call as one line of strace's, with the tier behind it and, of a call that
 * waited, for what.
 */
#include "tools/trace.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define RESULT_COLUMN 40

/* ---- arguments ---- */

/* Quoted as strace quotes: the short octal form where no digit follows. */
static void put_quoted(FILE *to, const char *s, size_t n)
{
	static const char letters[] = "\a\b\t\n\v\f\r";

	putc('"', to);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		bool digit_next = i + 1 < n && s[i + 1] >= '0' && s[i + 1] <= '9';

		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c >= '\t' && c <= '\r')
			fprintf(to, "\\%c", "abtnvfr"[strchr(letters, c) - letters]);
		else if (isprint(c))
			putc(c, to);
		else
			fprintf(to, digit_next ? "\\%03o" : "\\%o", c);
	}
	putc('"', to);
}

static void put_fd(FILE *to, const struct trace_event *ev, int64_t fd, bool is_first, bool paths)
{
	const char *path = is_first && !trace_gives_fd(ev) && ev->fd_path
				   ? ev->fd_path
				   : trace_path_of(ev->pid, fd);

	fprintf(to, "%d", (int)fd);
	if (paths && path)
		fprintf(to, "<%s>", path);
}

static void put_address(FILE *to, uint64_t value)
{
	if (value)
		fprintf(to, "%#" PRIx64, value);
	else
		fputs("NULL", to);
}

static void put_stat(FILE *to, const struct trace_event *ev, uint64_t address)
{
	if (!ev->has_stat) {
		put_address(to, address);
		return;
	}
	fprintf(to, "{st_mode=%s|%04o, st_size=%" PRIu64 ", ...}",
		S_ISDIR(ev->mode) ? "S_IFDIR" : "S_IFREG", ev->mode & 07777, ev->size);
}

/* What the library fills in: all that a blob has, of which nothing is an attribute. */
static void put_statx(FILE *to, const struct trace_event *ev, uint64_t address)
{
	if (!ev->has_stat) {
		put_address(to, address);
		return;
	}
	fprintf(to,
		"{stx_mask=STATX_ALL, stx_attributes=0, stx_mode=%s|%04o, stx_size=%" PRIu64
		", ...}",
		S_ISDIR(ev->mode) ? "S_IFDIR" : "S_IFREG", ev->mode & 07777, ev->size);
}

static void put_buffer(FILE *to, const struct trace_event *ev, uint64_t address, uint32_t content)
{
	if (ev->result == 0 && content) {
		fputs("\"\"", to);
	} else if (!content || ev->result < 0 || !ev->data) {
		put_address(to, address);
	} else {
		put_quoted(to, ev->data, ev->data_len);
		if (ev->result > ev->data_len)
			fputs("...", to);
	}
}

static void put_string(FILE *to, const struct trace_event *ev, uint32_t i)
{
	if (ev->strings[i])
		put_quoted(to, ev->strings[i], strlen(ev->strings[i]));
	else
		put_address(to, ev->args[i]);
}

static bool fcntl_has_arg(uint64_t cmd)
{
	return cmd != F_GETFD && cmd != F_GETFL && cmd != F_GETOWN && cmd != F_GETLEASE &&
	       cmd != F_GETPIPE_SZ && cmd != F_GET_SEALS;
}

static void put_fcntl_arg(FILE *to, const struct trace_event *ev, uint32_t i)
{
	uint64_t cmd = ev->args[i - 1], arg = ev->args[i];

	if (cmd == F_SETFD && arg == FD_CLOEXEC)
		fputs("FD_CLOEXEC", to);
	else if (cmd == F_SETFL)
		trace_flags(to, 'O', arg);
	else if (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC || cmd == F_SETFD)
		fprintf(to, "%d", (int)arg);
	else
		put_address(to, arg);
}

/* Is there anything of argument i to be shown? */
static bool is_shown(const struct trace_event *ev, const char *args, char kind, uint32_t i)
{
	if (kind == '-')
		return false;
	if (kind == 'o')
		return i > 0 &&
		       ((ev->args[i - 1] & O_CREAT) || (ev->args[i - 1] & O_TMPFILE) == O_TMPFILE);
	if (i > 0 && args[i - 1] == 'c')
		return fcntl_has_arg(ev->args[i - 1]);
	return true;
}

static void put_as_is(FILE *to, const struct trace_event *ev, uint32_t i)
{
	int64_t value = (int64_t)ev->args[i];

	if (ev->strings[i])
		put_string(to, ev, i);
	else if (value > -100000 && value < 100000)
		fprintf(to, "%" PRId64, value);
	else
		put_address(to, ev->args[i]);
}

static void put_arg(FILE *to, const struct trace_event *ev, const struct trace_style *style,
		    const char *args, uint32_t i)
{
	static const char *const fixed[] = { "0", "\"\"", "AT_EMPTY_PATH", "AT_SYMLINK_NOFOLLOW",
					     "AT_FDCWD" };
	uint64_t value = ev->args[i];
	char kind = args[i];

	if (kind >= '0' && kind <= '4') {
		fputs(fixed[kind - '0'], to);
	} else if (kind == 'f' || (kind == 'D' && (int)value != AT_FDCWD)) {
		put_fd(to, ev, (int64_t)value, i == 0, style->with_paths);
	} else if (i > 0 && args[i - 1] == 'c') {
		put_fcntl_arg(to, ev, i);
	} else if (kind == 'D') {
		fputs("AT_FDCWD", to);
	} else if (kind == 's') {
		put_string(to, ev, i);
	} else if (kind == 'S') {
		put_stat(to, ev, value);
	} else if (kind == 'Z') {
		put_statx(to, ev, value);
	} else if (kind == 'b') {
		put_buffer(to, ev, value, style->content);
	} else if (kind == 'p') {
		put_address(to, value);
	} else if (kind == 'd') {
		fprintf(to, "%" PRId64, (int64_t)value);
	} else if (kind == 'u') {
		fprintf(to, "%" PRIu64, value);
	} else if (kind == 'x') {
		fprintf(to, "%#" PRIx64, value);
	} else if (kind == 'o' || kind == 'm') {
		fprintf(to, value & 0777 || !value ? "%#03o" : "%#o", (unsigned int)value);
	} else {
		trace_flags(to, kind, value);
	}
}

static void put_args(FILE *to, const struct trace_event *ev, const struct trace_style *style)
{
	const char *args = trace_call_info(ev->call)->args;
	const char *comma = "";
	uint32_t n = args ? (uint32_t)strlen(args) : ev->n_args;

	for (uint32_t i = 0; i < n && i < 6; i++) {
		if (args && !is_shown(ev, args, args[i], i))
			continue;
		fputs(comma, to);
		comma = ", ";
		if (args)
			put_arg(to, ev, style, args, i);
		else
			put_as_is(to, ev, i);
	}
}

/* ---- the rest of a line ---- */

static bool is_fd(const struct trace_event *ev)
{
	const char *name = trace_call_info(ev->call)->symbol;

	return trace_gives_fd(ev) || strncmp(name, "dup", 3) == 0 ||
	       (strcmp(name, "fcntl") == 0 &&
		(ev->args[1] == F_DUPFD || ev->args[1] == F_DUPFD_CLOEXEC));
}

static void put_result(FILE *to, const struct trace_event *ev, const struct trace_style *style)
{
	const struct trace_call_info *info = trace_call_info(ev->call);
	int err = (int)-ev->result;
	const char *path;

	if (ev->result < 0 && ev->result > -4096) {
		const char *name = strerrorname_np(err);

		fprintf(to, "= -1 %s (%s)", name ? name : "?", strerror(err));
	} else if (info->classes & TRACE_ADDR) {
		fprintf(to, "= %#" PRIx64, (uint64_t)ev->result);
	} else if (strcmp(info->symbol, "fcntl") == 0 && ev->args[1] == F_GETFL) {
		fprintf(to, "= %#" PRIx64 " (flags ", (uint64_t)ev->result);
		trace_flags(to, 'O', (uint64_t)ev->result);
		putc(')', to);
	} else if (strcmp(info->symbol, "fcntl") == 0 && ev->args[1] == F_GETFD &&
		   ev->result == 1) {
		fputs("= 0x1 (flags FD_CLOEXEC)", to);
	} else {
		fprintf(to, "= %" PRId64, ev->result);
		path = trace_path_of(ev->pid, ev->result);
		if (style->with_paths && path && is_fd(ev))
			fprintf(to, "<%s>", path);
	}
}

/* What a call waited for; the rest of its time is that of copying and looking up. */
static void put_split(FILE *to, const struct trace_event *ev, const char *colon)
{
	uint64_t waited_us = (uint64_t)ev->queue_us + ev->net_us + ev->disk_us;
	uint64_t us = ev->ns / 1000;
	const struct {
		const char *name;
		uint64_t us;
	} parts[] = { { "queue", ev->queue_us },
		      { "net", ev->net_us },
		      { "disk", ev->disk_us },
		      { "copy", waited_us && us > waited_us ? us - waited_us : 0 } };

	for (size_t i = 0; i < DZ_ARRAY_LEN(parts); i++) {
		if (!parts[i].us)
			continue;
		fprintf(to, "%s%s %" PRIu64 ".%06u", colon, parts[i].name, parts[i].us / 1000000,
			(unsigned int)(parts[i].us % 1000000));
		colon = ", ";
	}
}

/* " <0.031204 blob: 1 GET, queue 0.000310, net 0.030120, copy 0.000774>" */
static void put_tier(FILE *to, const struct trace_event *ev, const struct trace_style *style)
{
	const char *tier = trace_tier(ev);
	bool has_gets = ev->tier && ev->gets;

	if (!style->takes && !tier)
		return;
	fputs(" <", to);
	if (style->takes)
		fprintf(to, "%" PRIu64 ".%06u%s", ev->ns / 1000000000,
			(unsigned int)(ev->ns / 1000 % 1000000), tier ? " " : "");
	fputs(tier ? tier : "", to);
	if (has_gets)
		fprintf(to, ": %u GET%s", ev->gets, ev->gets == 255 ? "+" : "");
	put_split(to, ev, has_gets ? ", " : ": ");
	putc('>', to);
}

static void put_stamp(FILE *to, struct trace_style *style, uint64_t ns)
{
	time_t seconds = (time_t)(ns / 1000000000);
	unsigned int us = (unsigned int)(ns / 1000 % 1000000);
	uint64_t since = style->last_ns && ns > style->last_ns ? ns - style->last_ns : 0;
	char text[32];
	struct tm tm;

	if (style->relative)
		fprintf(to, "%6" PRIu64 ".%06u ", since / 1000000000,
			(unsigned int)(since / 1000 % 1000000));
	style->last_ns = ns;
	if (style->stamp == TRACE_EPOCH) {
		fprintf(to, "%lld.%06u ", (long long)seconds, us);
	} else if (style->stamp != TRACE_NO_STAMP && localtime_r(&seconds, &tm)) {
		strftime(text, sizeof(text), "%H:%M:%S", &tm);
		fputs(text, to);
		if (style->stamp == TRACE_MICROSECONDS)
			fprintf(to, ".%06u", us);
		putc(' ', to);
	}
}

static void put_front(FILE *to, struct trace_style *style, uint32_t tid, uint64_t ns)
{
	if (style->is_file)
		fprintf(to, "%-5u ", tid);
	else if (style->n_pids > 1)
		fprintf(to, "[pid %5u] ", tid);
	put_stamp(to, style, ns);
}

void trace_end_line(FILE *to, struct trace_style *style, uint32_t pid, uint64_t ns, int status)
{
	const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;

	put_front(to, style, pid, ns);
	if (!WIFSIGNALED(status))
		fprintf(to, "+++ exited with %d +++\n", WEXITSTATUS(status));
	else
		fprintf(to, "+++ killed by SIG%s%s +++\n", name ? name : "?",
			WCOREDUMP(status) ? " (core dumped)" : "");
}

void trace_line(FILE *to, struct trace_style *style, const struct trace_event *ev)
{
	char *left = NULL;
	size_t len = 0;
	FILE *mem = open_memstream(&left, &len);

	if (!mem)
		return;
	put_front(mem, style, ev->tid, ev->start_ns);
	fprintf(mem, "%s(", trace_call_info(ev->call)->name);
	put_args(mem, ev, style);
	fputs(") ", mem);
	fclose(mem);
	fprintf(to, "%-*s", RESULT_COLUMN, left);
	free(left);
	put_result(to, ev, style);
	put_tier(to, ev, style);
	putc('\n', to);
}
