/* SPDX-License-Identifier: MIT */
/*
 * A message becomes one line in a buffer on the stack and leaves by one write,
 * so lines of many processes do not mix in a file.  Control characters (a blob's
 * name may hold a newline) become '?', a long message ends in "...".
 *
 * A log that cannot be opened falls back to standard error; a write that fails
 * is forgotten: there is nobody to tell.
 */
#include "cache/log.h"

#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 1024

struct utc {
	unsigned int year, month, day, hour, minute, second, ms;
};

/*
 * Days since 1970 to a date, without gmtime_r: libc's takes the time zone lock
 * and may read /etc/localtime.  Years begin in March here, so that the leap day
 * is the last one; an era is 400 years.
 */
static struct utc utc_from_ms(uint64_t wall_ms)
{
	uint64_t seconds = wall_ms / 1000;
	uint64_t days = seconds / 86400 + 719468;
	uint64_t day_of_era = days % 146097;
	uint64_t year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	uint64_t day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	uint64_t month = (5 * day_of_year + 2) / 153;
	struct utc t = {
		.day = (unsigned int)(day_of_year - (153 * month + 2) / 5 + 1),
		.month = (unsigned int)(month < 10 ? month + 3 : month - 9),
		.hour = (unsigned int)(seconds / 3600 % 24),
		.minute = (unsigned int)(seconds / 60 % 60),
		.second = (unsigned int)(seconds % 60),
		.ms = (unsigned int)(wall_ms % 1000),
	};

	t.year = (unsigned int)(days / 146097 * 400 + year_of_era + (t.month <= 2));
	return t;
}

static const char *level_name(enum dz_log_level level)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	return (unsigned int)level < DZ_ARRAY_LEN(names) ? names[level] : "?";
}

/* Returns the length; a file's lines carry the time and the process as well. */
static size_t format_head(char *line, const struct dz_log *log, enum dz_log_level level,
			  bool is_file)
{
	struct utc t = utc_from_ms(dz_wall_ms());
	int n;

	if (is_file)
		n = snprintf(line, LINE_MAX_BYTES,
			     "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ %s[%d]: %s: ", t.year, t.month,
			     t.day, t.hour, t.minute, t.second, t.ms, log->who, dz_sys_getpid(),
			     level_name(level));
	else
		n = snprintf(line, LINE_MAX_BYTES, "%s: %s: ", log->who, level_name(level));
	return n < 0 ? 0 : (size_t)dz_min_u64((uint64_t)n, LINE_MAX_BYTES / 2);
}

static void mask_controls(char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			text[i] = '?';
}

/* Ends the line; `wanted` is what vsnprintf would have liked to write. */
static size_t finish_line(char *line, size_t head, int wanted)
{
	size_t room = LINE_MAX_BYTES - 1 - head;
	size_t len = head + (wanted < 0 ? 0 : (size_t)wanted);

	if (wanted >= 0 && (size_t)wanted >= room) {
		len = LINE_MAX_BYTES - 2;
		memcpy(line + len - 3, "...", 3);
	}
	mask_controls(line, len);
	line[len] = '\n';
	return len + 1;
}

static int open_log(const struct dz_log *log)
{
	if (!log->path || !log->path[0])
		return -ENOENT;
	return dz_sys_open(log->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
}

void dz_logf(const struct dz_log *log, enum dz_log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	size_t head;
	va_list args;
	int wanted;
	int fd;

	if (!log || level > log->level)
		return;
	fd = open_log(log);
	head = format_head(line, log, level, fd >= 0);
	va_start(args, fmt);
	wanted = vsnprintf(line + head, LINE_MAX_BYTES - 1 - head, fmt, args);
	va_end(args);
	dz_sys_write_quiet(fd >= 0 ? fd : 2, line, finish_line(line, head, wanted));
	if (fd >= 0)
		dz_sys_close(fd);
}

static const struct {
	int err;
	const char *text;
} error_texts[] = {
	{ 0, "success" },
	{ EPERM, "operation not permitted" },
	{ ENOENT, "no such file or directory" },
	{ ESRCH, "no such process" },
	{ EINTR, "interrupted" },
	{ EIO, "input/output error" },
	{ E2BIG, "too many arguments" },
	{ EBADF, "bad descriptor" },
	{ ECHILD, "no such child" },
	{ EAGAIN, "try again" },
	{ ENOMEM, "out of memory" },
	{ EACCES, "permission denied" },
	{ EFAULT, "bad address" },
	{ EBUSY, "busy" },
	{ EEXIST, "exists already" },
	{ EXDEV, "on another filesystem" },
	{ ENODEV, "not possible on this filesystem" },
	{ ENOTDIR, "not a directory" },
	{ EISDIR, "is a directory" },
	{ EINVAL, "invalid argument" },
	{ ENFILE, "too many open files on this machine" },
	{ EMFILE, "too many open files in this process" },
	{ EFBIG, "too large" },
	{ ENOSPC, "no space left" },
	{ EROFS, "read-only" },
	{ EPIPE, "broken pipe" },
	{ ERANGE, "out of range" },
	{ ENAMETOOLONG, "name too long" },
	{ ENOSYS, "not provided by this kernel" },
	{ ENOTEMPTY, "directory not empty" },
	{ ELOOP, "too many symbolic links" },
	{ ENODATA, "no data" },
	{ EPROTO, "protocol error" },
	{ EOVERFLOW, "value too large" },
	{ EOPNOTSUPP, "not supported" },
	{ EADDRINUSE, "address in use" },
	{ ENETUNREACH, "network unreachable" },
	{ ECONNABORTED, "connection aborted" },
	{ ECONNRESET, "connection reset" },
	{ ENOBUFS, "no buffers" },
	{ ENOTCONN, "not connected" },
	{ ETIMEDOUT, "timed out" },
	{ ECONNREFUSED, "connection refused" },
	{ EHOSTUNREACH, "host unreachable" },
	{ EALREADY, "already under way" },
	{ ESTALE, "changed since it was opened" },
	{ EDQUOT, "quota exceeded" },
	{ ECANCELED, "cancelled" },
	{ EOWNERDEAD, "owner died" },
};

const char *dz_strerror(int err)
{
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(error_texts); i++)
		if (error_texts[i].err == (err < 0 ? -err : err))
			return error_texts[i].text;
	return "unknown error";
}
