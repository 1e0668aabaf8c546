// SPDX-License-Identifier: MIT
/*
 * bench_io DIR [MAPPING]: the calls of the budget table on the files in DIR, one
 * line a row: "NAME OPERATIONS_A_SECOND BYTES_AN_OPERATION".  It knows nothing of
 * what is behind DIR: the same program runs on ext4, through the library and on
 * another mount.
 *
 * DIR has `large` (any size), `medium` (16 MiB), `small/` (files of 110 KB) and
 * `names/` (many tiny files).  With MAPPING, the file in memory that the cache's
 * DRAM tier is, it measures the bare copy out of as many bytes of it as `large`
 * has, by the same random pattern.
 *
 * Each row first touches all that it will read, untimed.
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROW_SECONDS 0.2
#define MIB	    ((size_t)1 << 20)
#define SMALL_MAX   4096

static char buf[4 * MIB] __attribute__((aligned(4096)));

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* What a row does: `step` is one operation. */
struct row {
	int fd;
	size_t block; /* bytes of an operation */
	size_t span;  /* bytes that it moves over */
	const uint8_t *mapping;
	char (*names)[256];
	size_t n_names;
	const char *dir;
};

static void time_row(const char *name, struct row *row, void (*step)(struct row *), size_t batch)
{
	double start, seconds;
	uint64_t n = 0;

	random_state = 88172645463325252ull;
	start = now();
	do {
		for (size_t i = 0; i < batch; i++)
			step(row);
		n += batch;
		seconds = now() - start;
	} while (seconds < ROW_SECONDS);
	printf("%s %.1f %zu\n", name, (double)n / seconds, row->block);
	fflush(stdout);
}

static void step_pread(struct row *row)
{
	size_t off = next_random() % (row->span / row->block) * row->block;

	if (pread(row->fd, buf, row->block, (off_t)off) != (ssize_t)row->block)
		err(1, "pread at %zu", off);
}

static void step_copy(struct row *row)
{
	size_t off = next_random() % (row->span / row->block) * row->block;

	memcpy(buf, row->mapping + off, row->block);
	__asm__ __volatile__("" : : "r"(buf) : "memory");
}

static void step_read(struct row *row)
{
	ssize_t n = read(row->fd, buf, row->block);

	if (n < 0)
		err(1, "read");
	if (n < (ssize_t)row->block && lseek(row->fd, 0, SEEK_SET) != 0)
		err(1, "lseek");
}

static void touch(int fd, size_t span)
{
	for (size_t off = 0; off < span; off += MIB)
		if (pread(fd, buf, MIB, (off_t)off) < 0)
			err(1, "pread");
}

static void rows_pread(struct row *row, size_t size)
{
	static const struct {
		const char *name;
		size_t block, span;
	} rows[] = {
		{ "pread-4k", 4096, SIZE_MAX },
		{ "pread-4k-hot", 4096, 16 * MIB },
		{ "pread-128k", 128 << 10, SIZE_MAX },
		{ "pread-1m", MIB, SIZE_MAX },
	};

	touch(row->fd, size);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		row->block = rows[i].block;
		row->span = rows[i].span < size ? rows[i].span : size;
		time_row(rows[i].name, row, step_pread, row->block == 4096 ? 256 : 4);
	}
}

static void rows_read(struct row *row)
{
	static const size_t blocks[] = { 64, 256, 1024 };
	char name[32];

	for (size_t i = 0; i < 3; i++) {
		row->block = blocks[i];
		snprintf(name, sizeof(name), "read-%zu", blocks[i]);
		time_row(name, row, step_read, 256);
	}
}

static void rows_large(const char *dir)
{
	struct row row = { 0 };
	struct stat st;
	char path[4096];

	snprintf(path, sizeof(path), "%s/large", dir);
	row.fd = open(path, O_RDONLY);
	if (row.fd < 0 || fstat(row.fd, &st) < 0)
		err(1, "%s", path);
	rows_pread(&row, (size_t)st.st_size);
	close(row.fd);
	/* A file of its own: small reads run to its end and begin again. */
	snprintf(path, sizeof(path), "%s/medium", dir);
	row.fd = open(path, O_RDONLY);
	if (row.fd < 0)
		err(1, "%s", path);
	touch(row.fd, 16 * MIB);
	rows_read(&row);
	close(row.fd);
}

static void step_small(struct row *row)
{
	const char *name = row->names[next_random() % row->n_names];
	struct stat st;
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", row->dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0 || read(fd, buf, (size_t)st.st_size) != st.st_size)
		err(1, "%s", path);
	close(fd);
	row->block = (size_t)st.st_size;
}

static void step_stat(struct row *row)
{
	const char *name = row->names[next_random() % row->n_names];
	struct stat st;
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", row->dir, name);
	if (stat(path, &st) < 0)
		err(1, "%s", path);
}

static void step_readdir(struct row *row)
{
	DIR *dir = opendir(row->dir);
	size_t n = 0;

	if (!dir)
		err(1, "%s", row->dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	row->block = n;
}

static void load_names(struct row *row, size_t max)
{
	DIR *dir = opendir(row->dir);
	struct dirent *e;

	if (!dir)
		err(1, "%s", row->dir);
	row->names = calloc(max, sizeof(*row->names));
	row->n_names = 0;
	while (row->n_names < max && (e = readdir(dir)))
		if (e->d_name[0] != '.')
			snprintf(row->names[row->n_names++], sizeof(*row->names), "%s", e->d_name);
	closedir(dir);
}

static void rows_names(const char *dir)
{
	struct row row = { 0 };
	char path[4096];

	row.dir = path;
	snprintf(path, sizeof(path), "%s/small", dir);
	load_names(&row, SMALL_MAX);
	for (size_t i = 0; i < 3 * row.n_names; i++)
		step_small(&row);
	time_row("open-fstat-read-close", &row, step_small, 16);
	free(row.names);

	snprintf(path, sizeof(path), "%s/names", dir);
	load_names(&row, SMALL_MAX);
	row.block = 0;
	for (size_t i = 0; i < 3 * row.n_names; i++)
		step_stat(&row);
	time_row("stat", &row, step_stat, 64);
	step_readdir(&row);
	time_row("readdir", &row, step_readdir, 1);
	free(row.names);
}

/* The copy that a read from memory cannot do without, from the very pages. */
static void rows_copy(const char *dir, const char *file)
{
	struct row row = { .block = 4096 };
	struct stat large, st;
	char path[4096];
	int fd = open(file, O_RDONLY);

	snprintf(path, sizeof(path), "%s/large", dir);
	if (stat(path, &large) < 0)
		err(1, "%s", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", file);
	row.span = (size_t)(large.st_size < st.st_size ? large.st_size : st.st_size);
	row.mapping = mmap(NULL, row.span, PROT_READ, MAP_SHARED, fd, 0);
	if (row.mapping == MAP_FAILED)
		err(1, "%s", file);
	madvise((void *)row.mapping, row.span, MADV_HUGEPAGE);
	for (size_t off = 0; off < row.span; off += MIB)
		memcpy(buf, row.mapping + off, MIB < row.span - off ? MIB : row.span - off);
	time_row("copy-4k", &row, step_copy, 256);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		errx(2, "usage: bench_io DIR [MAPPING]");
	memset(buf, 1, sizeof(buf));
	if (argc > 2) {
		rows_copy(argv[1], argv[2]);
		return 0;
	}
	rows_large(argv[1]);
	rows_names(argv[1]);
	return 0;
}
