/* SPDX-License-Identifier: MIT */
/*
 * The configuration: each DELTAZERO_* name is looked up in the environment, then
 * in the file of DELTAZERO_CONFIG (the same NAME=VALUE, one a line, `#` begins a
 * comment line), then has a default.
 *
 * A mistake does not end the reading: the setting keeps its default, the first
 * complaint is kept, and -EINVAL says that there was one.  Runs in a constructor
 * of strangers' programs: no malloc, no stdio but snprintf, no libc file calls.
 */
#include "cache/config.h"

#include "cache/log.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX_BYTES 16384
#define FILE_MAX_NAMES 64

/* Where settings come from, and the configuration they go to. */
struct reader {
	struct dz_config *cfg;
	char *const *envp;
	char *file_env[FILE_MAX_NAMES + 1]; /* into file_text */
	char file_text[FILE_MAX_BYTES + 1];
};

const char *dz_config_env(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; envp && *envp; envp++)
		if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=')
			return *envp + len + 1;
	return NULL;
}

/* The value, or NULL when it is unset or empty. */
static const char *setting(const struct reader *r, const char *name)
{
	const char *value = dz_config_env(r->envp, name);

	if (!value || !*value)
		value = dz_config_env(r->file_env, name);
	return value && *value ? value : NULL;
}

/* Keeps the first complaint. */
DZ_PRINTF(2, 3) static void complain(struct dz_config *cfg, const char *fmt, ...)
{
	va_list args;

	if (cfg->error[0])
		return;
	va_start(args, fmt);
	vsnprintf(cfg->error, sizeof(cfg->error), fmt, args);
	va_end(args);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static char *trim(char *line)
{
	char *end;

	while (is_space(*line))
		line++;
	end = line + strlen(line);
	while (end > line && is_space(end[-1]))
		*--end = '\0';
	return line;
}

/* Only our own names: a secret does not belong in this file. */
static void take_line(struct reader *r, char *line, uint32_t *n, uint32_t number)
{
	line = trim(line);
	if (!*line || *line == '#')
		return;
	if (strncmp(line, "DELTAZERO_", 10) != 0 || !strchr(line, '='))
		complain(r->cfg, "DELTAZERO_CONFIG: line %u: not DELTAZERO_NAME=VALUE", number);
	else if (*n == FILE_MAX_NAMES)
		complain(r->cfg, "DELTAZERO_CONFIG: line %u: more than %d settings", number,
			 FILE_MAX_NAMES);
	else
		r->file_env[(*n)++] = line;
}

static void take_file(struct reader *r)
{
	uint32_t n = 0;
	uint32_t number = 1;
	char *line = r->file_text;
	char *end;

	for (; line; line = end, number++) {
		end = strchr(line, '\n');
		if (end)
			*end++ = '\0';
		take_line(r, line, &n, number);
	}
	r->file_env[n] = NULL;
}

/* Reads the whole file; returns its length, -EFBIG when it is too long, or -errno. */
static ssize_t slurp(int fd, char *text, size_t max)
{
	size_t len = 0;
	ssize_t n;

	do {
		n = dz_sys_read(fd, text + len, max - len);
		if (n < 0 && n != -EINTR)
			return n;
		len += n > 0 ? (size_t)n : 0;
		if (len == max)
			return -EFBIG;
	} while (n != 0);
	return (ssize_t)len;
}

static void read_file(struct reader *r)
{
	const char *path = dz_config_env(r->envp, "DELTAZERO_CONFIG");
	ssize_t len;
	int fd;

	if (!path || !*path)
		return;
	fd = dz_sys_open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
	len = fd < 0 ? fd : slurp(fd, r->file_text, FILE_MAX_BYTES);
	if (fd >= 0)
		dz_sys_close(fd);
	if (len < 0) {
		complain(r->cfg, "DELTAZERO_CONFIG: %.150s: %s", path, dz_strerror((int)len));
		return;
	}
	r->file_text[len] = '\0';
	take_file(r);
}

static bool is_mounted(const struct dz_config *cfg, const struct dz_mount *m)
{
	uint32_t i;

	for (i = 0; i < cfg->n_mounts; i++)
		if (strcmp(cfg->mounts[i].local, m->local) == 0)
			return true;
	return false;
}

static void read_mount(struct reader *r, const char *text, size_t len)
{
	struct dz_config *cfg = r->cfg;
	struct dz_mount *m;
	char why[220];

	if (cfg->n_mounts == DZ_MOUNTS_MAX) {
		complain(cfg, "DELTAZERO_MOUNT: more than %d mounts", DZ_MOUNTS_MAX);
		return;
	}
	m = &cfg->mounts[cfg->n_mounts];
	if (dz_config_mount(m, text, len, r->envp, why, sizeof(why)) < 0)
		complain(cfg, "DELTAZERO_MOUNT: %s", why);
	else if (is_mounted(cfg, m))
		complain(cfg, "DELTAZERO_MOUNT: %.150s is mounted twice", m->local);
	else
		cfg->n_mounts++;
}

static void read_mounts(struct reader *r)
{
	const char *at = setting(r, "DELTAZERO_MOUNT");
	size_t len;

	while (at) {
		at += strspn(at, "; \t\n");
		len = strcspn(at, ";");
		while (len > 0 && (is_space(at[len - 1]) || at[len - 1] == '\n'))
			len--;
		if (len > 0)
			read_mount(r, at, len);
		at = strchr(at, ';');
	}
}

/* True when `path` (LEN bytes at most) could be stored as an absolute path. */
static bool put_path(struct reader *r, const char *name, char *to, const char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (path[0] != '/' || len >= DZ_PATH_MAX) {
		complain(r->cfg, "%s: `%.100s`: not an absolute path", name, path);
		return false;
	}
	memcpy(to, path, len);
	to[len] = '\0';
	return true;
}

/* As XDG has it; a user without a home still gets a directory of their own. */
static void default_cache_dir(struct reader *r)
{
	const char *cache = dz_config_env(r->envp, "XDG_CACHE_HOME");
	const char *home = dz_config_env(r->envp, "HOME");
	unsigned int uid = (unsigned int)dz_sys_0(SYS_geteuid);
	char *dir = r->cfg->cache_dir;
	int n;

	if (uid == 0)
		n = snprintf(dir, DZ_PATH_MAX, "/var/cache/deltazero");
	else if (cache && cache[0] == '/')
		n = snprintf(dir, DZ_PATH_MAX, "%s/deltazero", cache);
	else if (home && home[0] == '/')
		n = snprintf(dir, DZ_PATH_MAX, "%s/.cache/deltazero", home);
	else
		n = snprintf(dir, DZ_PATH_MAX, "/var/tmp/deltazero.%u", uid);
	if (n < 0 || n >= DZ_PATH_MAX)
		snprintf(dir, DZ_PATH_MAX, "/var/tmp/deltazero.%u", uid);
}

static void read_dirs(struct reader *r)
{
	const char *cache = setting(r, "DELTAZERO_CACHE_DIR");
	const char *shm = setting(r, "DELTAZERO_SHM_DIR");

	if (!cache || !put_path(r, "DELTAZERO_CACHE_DIR", r->cfg->cache_dir, cache))
		default_cache_dir(r);
	if (!shm || !put_path(r, "DELTAZERO_SHM_DIR", r->cfg->shm_dir, shm))
		snprintf(r->cfg->shm_dir, DZ_PATH_MAX, "/dev/shm");
}

/* Power of 1,024 of a suffix: "", "K", "KiB", "M"...; -1 when it is none. */
static int unit_power(const char *suffix)
{
	static const char letters[] = "KMGTP";
	const char *at;

	if (!*suffix || strcmp(suffix, "B") == 0)
		return 0;
	at = strchr(letters, *suffix >= 'a' ? *suffix - 'a' + 'A' : *suffix);
	if (!at)
		return -1;
	suffix++;
	if (*suffix && strcmp(suffix, "B") != 0 && strcmp(suffix, "iB") != 0)
		return -1;
	return (int)(at - letters) + 1;
}

/* Digits to a number; returns where they end, NULL without digits or on overflow. */
static const char *parse_digits(const char *text, uint64_t *number)
{
	const char *at = text;
	uint64_t n = 0;

	for (; *at >= '0' && *at <= '9'; at++)
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
			return NULL;
	*number = n;
	return at > text ? at : NULL;
}

int dz_config_size(const char *text, uint64_t *bytes)
{
	uint64_t n;
	const char *suffix = parse_digits(text, &n);
	int power = suffix ? unit_power(suffix) : -1;

	if (power < 0)
		return -EINVAL;
	for (; power > 0; power--)
		if (__builtin_mul_overflow(n, 1024, &n))
			return -EINVAL;
	/* The largest number is our DZ_SIZE_NONE. */
	if (n == UINT64_MAX)
		return -EINVAL;
	*bytes = n;
	return 0;
}

/* Unset and "auto" leave 0. */
static void read_size(struct reader *r, const char *name, uint64_t *bytes)
{
	const char *text = setting(r, name);

	*bytes = 0;
	if (!text || strcmp(text, "auto") == 0)
		return;
	if (dz_config_size(text, bytes) < 0)
		complain(r->cfg, "%s: `%.40s`: not a size; write 512M, 4G or bytes", name, text);
	else if (*bytes == 0)
		*bytes = DZ_SIZE_NONE;
}

static void read_sizes(struct reader *r)
{
	struct dz_config *cfg = r->cfg;

	read_size(r, "DELTAZERO_DISK_SIZE", &cfg->disk_bytes);
	read_size(r, "DELTAZERO_DRAM_SIZE", &cfg->dram_bytes);
	if (cfg->dram_bytes != DZ_SIZE_NONE)
		return;
	/* The index and the pages in flight live there: it can be small, not absent. */
	cfg->dram_bytes = 0;
	complain(cfg, "DELTAZERO_DRAM_SIZE: `0`: this tier cannot be switched off; write 64M");
}

static void read_fetch(struct reader *r)
{
	const char *text = setting(r, "DELTAZERO_FETCH");

	r->cfg->fetch = DZ_FETCH_AGENT;
	if (!text || strcmp(text, "agent") == 0)
		return;
	if (strcmp(text, "inline") == 0)
		r->cfg->fetch = DZ_FETCH_INLINE;
	else
		complain(r->cfg, "DELTAZERO_FETCH: `%.40s`: neither agent nor inline", text);
}

/* "60", "0.5", "inf" to milliseconds; false when it is none of these. */
static bool parse_ttl(const char *text, uint64_t *ms)
{
	uint64_t scale = 100;
	const char *at;

	if (strcmp(text, "inf") == 0) {
		*ms = DZ_TTL_FOREVER;
		return true;
	}
	at = parse_digits(text, ms);
	if (!at || *ms > UINT64_MAX / 2000)
		return false;
	*ms *= 1000;
	if (*at == '.')
		for (at++; *at >= '0' && *at <= '9'; at++, scale /= 10)
			*ms += (uint64_t)(*at - '0') * scale;
	return !*at;
}

static void read_ttl(struct reader *r)
{
	const char *text = setting(r, "DELTAZERO_METADATA_TTL");

	r->cfg->ttl_ms = 60000;
	if (!text || parse_ttl(text, &r->cfg->ttl_ms))
		return;
	r->cfg->ttl_ms = 60000;
	complain(r->cfg, "DELTAZERO_METADATA_TTL: `%.40s`: not seconds; write 60, 0.5 or inf",
		 text);
}

static bool parse_level(const char *text, size_t len, enum dz_log_level *level)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	size_t i;

	for (i = 0; i < DZ_ARRAY_LEN(names); i++) {
		if (strlen(names[i]) != len || memcmp(names[i], text, len) != 0)
			continue;
		*level = (enum dz_log_level)i;
		return true;
	}
	return false;
}

static void read_log(struct reader *r)
{
	const char *text = setting(r, "DELTAZERO_LOG");
	size_t len;

	r->cfg->log_level = DZ_LOG_WARN;
	if (!text)
		return;
	len = strcspn(text, ":");
	if (len > 0 && !parse_level(text, len, &r->cfg->log_level))
		complain(r->cfg,
			 "DELTAZERO_LOG: `%.40s`: not LEVEL[:FILE] with error, warn, info or debug",
			 text);
	if (text[len] == ':' && text[len + 1])
		put_path(r, "DELTAZERO_LOG", r->cfg->log_path, text + len + 1);
}

int dz_config_read(struct dz_config *cfg, char *const *envp)
{
	struct reader r;

	memset(cfg, 0, sizeof(*cfg));
	r.cfg = cfg;
	r.envp = envp;
	r.file_env[0] = NULL;
	read_file(&r);
	read_log(&r);
	read_dirs(&r);
	read_sizes(&r);
	read_fetch(&r);
	read_ttl(&r);
	read_mounts(&r);
	return cfg->error[0] ? -EINVAL : 0;
}
