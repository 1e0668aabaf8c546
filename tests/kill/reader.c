/* SPDX-License-Identifier: MIT */
/*
 * Reads files whose bytes are a function of their number and the offset, and
 * checks each of them.  Knows nothing of the library that is preloaded.
 *
 *     reader make DIR N          N files: f-0 ...
 *     reader storm DIR N SEED    until it is killed: reads, maps, lists, forks, execs
 *     reader all DIR N           every byte of every file once
 *     reader child DIR I FD OFF  goes on with a descriptor that it was given over exec
 *
 * Status 41: a call failed; 42: a wrong byte; 43: a call took too long.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BUF_BYTES (1 << 20)

static const char *dir;
static const char *self;
static uint64_t n_files;
static uint64_t seed;
static unsigned char buf[BUF_BYTES];

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t next_random(void)
{
	seed += 0x9e3779b97f4a7c15ull;
	return mix(seed);
}

/* Small ones, and every fourth of up to 5 MiB. */
static uint64_t size_of(uint64_t i)
{
	return i % 4 ? mix(i + 1) % 200000 : 1 + mix(i + 1) % (5 << 20);
}

static unsigned char byte_of(uint64_t i, uint64_t off)
{
	return (unsigned char)(mix(i << 40 | off >> 3) >> (off & 7) * 8);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void complain(int status, const char *what, uint64_t i, uint64_t off)
{
	dprintf(2, "reader %d: %s: file %" PRIu64 " at %" PRIu64 ": errno %d (%s)\n", getpid(),
		what, i, off, errno, strerror(errno));
	_exit(status);
}

static void check_bytes(const unsigned char *p, uint64_t n, uint64_t i, uint64_t off,
			const char *what)
{
	for (uint64_t k = 0; k < n; k++)
		if (p[k] != byte_of(i, off + k))
			complain(42, what, i, off + k);
}

static double limit_s(void)
{
	const char *s = getenv("READER_LIMIT");

	return s ? atof(s) : 5;
}

static double began;

static void begin(void)
{
	began = now();
}

static void end(const char *what, uint64_t i, uint64_t off)
{
	double took = now() - began;

	if (took > limit_s()) {
		dprintf(2, "reader %d: %s took %.3f s: file %" PRIu64 " at %" PRIu64 "\n", getpid(),
			what, took, i, off);
		_exit(43);
	}
}

static void path_of(uint64_t i, char *path)
{
	snprintf(path, 4096, "%s/%" PRIu64 "/f-%" PRIu64, dir, i % 3, i);
}

static int open_file(uint64_t i, int flags)
{
	char path[4096];
	int fd;

	path_of(i, path);
	begin();
	fd = open(path, O_RDONLY | flags);
	if (fd < 0)
		complain(41, "open", i, 0);
	end("open", i, 0);
	return fd;
}

static void read_at_random(uint64_t i)
{
	uint64_t size = size_of(i);
	int fd = open_file(i, O_CLOEXEC), times = 1 + (int)(next_random() % 8);

	while (times-- > 0) {
		uint64_t off = next_random() % (size + 1), n = 1 + next_random() % BUF_BYTES;
		ssize_t got, want = (ssize_t)(size - off < n ? size - off : n);

		begin();
		got = pread(fd, buf, n, (off_t)off);
		if (got != want)
			complain(41, "pread", i, off);
		end("pread", i, off);
		check_bytes(buf, (uint64_t)got, i, off, "pread");
	}
	close(fd);
}

static void read_on(int fd, uint64_t i, uint64_t off)
{
	uint64_t size = size_of(i), step = 4096 + next_random() % 300000;

	while (off < size) {
		ssize_t got;

		begin();
		got = read(fd, buf, step);
		if (got <= 0)
			complain(41, "read", i, off);
		end("read", i, off);
		check_bytes(buf, (uint64_t)got, i, off, "read");
		off += (uint64_t)got;
	}
	if (read(fd, buf, 1) != 0)
		complain(41, "read at the end", i, off);
}

static void read_through(uint64_t i)
{
	int fd = open_file(i, O_CLOEXEC);

	read_on(fd, i, 0);
	close(fd);
}

static void map_it(uint64_t i)
{
	uint64_t size = size_of(i);
	int fd = open_file(i, O_CLOEXEC);
	unsigned char *p;

	if (size == 0) {
		close(fd);
		return;
	}
	begin();
	p = mmap(NULL, size, PROT_READ, next_random() % 2 ? MAP_PRIVATE : MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		complain(41, "mmap", i, 0);
	end("mmap", i, 0);
	close(fd);
	check_bytes(p, size, i, 0, "mmap");
	munmap(p, size);
}

static void list_it(uint64_t k)
{
	char path[4096];
	uint64_t n = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%" PRIu64, dir, k % 3);
	begin();
	d = opendir(path);
	if (!d)
		complain(41, "opendir", k, 0);
	while ((e = readdir(d)))
		n += e->d_name[0] == 'f';
	closedir(d);
	end("readdir", k, 0);
	if (n != n_files / 3 + (k % 3 < n_files % 3))
		complain(41, "readdir: not all names", k % 3, n);
}

static void stat_it(uint64_t i)
{
	char path[4096];
	struct stat st;

	path_of(i, path);
	begin();
	if (stat(path, &st) < 0)
		complain(41, "stat", i, 0);
	end("stat", i, 0);
	if ((uint64_t)st.st_size != size_of(i))
		complain(42, "stat", i, (uint64_t)st.st_size);
}

static void wait_for(pid_t pid, uint64_t i)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			complain(41, "waitpid", i, 0);
	/* it may have been killed like us */
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(WEXITSTATUS(status));
}

/* The child reads on from where the parent is, and the parent from where it ends. */
static void share_over_fork(uint64_t i)
{
	uint64_t size = size_of(i), half = size / 2;
	int fd = open_file(i, O_CLOEXEC);
	off_t at;
	pid_t pid;

	if (lseek(fd, (off_t)half, SEEK_SET) != (off_t)half)
		complain(41, "lseek", i, half);
	pid = fork();
	if (pid < 0)
		complain(41, "fork", i, 0);
	if (pid == 0) {
		read_on(fd, i, half);
		_exit(0);
	}
	wait_for(pid, i);
	at = lseek(fd, 0, SEEK_CUR);
	if (at < (off_t)half || at > (off_t)size)
		complain(41, "offset after the child", i, (uint64_t)at);
	read_on(fd, i, (uint64_t)at);
	close(fd);
}

static void hand_over_exec(uint64_t i)
{
	uint64_t off = size_of(i) / 3;
	int fd = open_file(i, 0);
	pid_t pid;

	if (lseek(fd, (off_t)off, SEEK_SET) != (off_t)off)
		complain(41, "lseek", i, off);
	pid = fork();
	if (pid < 0)
		complain(41, "fork", i, 0);
	if (pid == 0) {
		char a[32], b[32], c[32];

		snprintf(a, sizeof(a), "%" PRIu64, i);
		snprintf(b, sizeof(b), "%d", fd);
		snprintf(c, sizeof(c), "%" PRIu64, off);
		execl(self, self, "child", dir, a, b, c, (char *)NULL);
		complain(41, "exec", i, 0);
	}
	close(fd);
	wait_for(pid, i);
}

static void storm(void)
{
	for (;;) {
		uint64_t i = next_random() % n_files;

		switch (next_random() % 16) {
		case 0:
			list_it(i);
			break;
		case 1:
			share_over_fork(i);
			break;
		case 2:
			hand_over_exec(i);
			break;
		case 3:
			map_it(i);
			break;
		case 4:
		case 5:
		case 6:
			stat_it(i);
			break;
		case 7:
		case 8:
			read_through(i);
			break;
		default:
			read_at_random(i);
		}
	}
}

static int make_files(void)
{
	char path[4096];

	for (uint64_t k = 0; k < 3; k++) {
		snprintf(path, sizeof(path), "%s/%" PRIu64, dir, k);
		mkdir(path, 0755);
	}
	for (uint64_t i = 0; i < n_files; i++) {
		uint64_t size = size_of(i);
		FILE *f;

		path_of(i, path);
		f = fopen(path, "w");
		if (!f)
			return 1;
		for (uint64_t off = 0; off < size; off++)
			putc(byte_of(i, off), f);
		fclose(f);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	self = argv[0];
	dir = argv[2];
	n_files = strtoull(argv[3], NULL, 10);
	if (strcmp(argv[1], "make") == 0)
		return make_files();
	if (strcmp(argv[1], "child") == 0 && argc == 6) {
		read_on(atoi(argv[4]), n_files, strtoull(argv[5], NULL, 10));
		return 0;
	}
	if (strcmp(argv[1], "all") == 0) {
		for (uint64_t i = 0; i < n_files; i++)
			read_through(i);
		return 0;
	}
	seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
	storm();
}
