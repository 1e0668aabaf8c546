// SPDX-License-Identifier: MIT
/*
 * in_order all FILE CHUNK             reads FILE by so many bytes at a time
 * in_order mixed MOUNTED LOCAL SEED N  N readers of the files 0 to 5 of both folders: in order,
 *                                      with steps and jumps, of several at once, over fork
 *
 * Each byte of `mixed` is compared with the local file's; status 1 and a line say which one
 * is wrong.
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES  6
#define ROUNDS 40
#define MOST   ((size_t)3 << 20)

static struct {
	char path[256];
	const uint8_t *bytes;
	size_t size;
} files[FILES];

struct reader {
	pthread_t thread;
	uint64_t seed;
	bool may_fork;
	uint8_t *buf;
};

static uint64_t draw(struct reader *r, uint64_t below)
{
	r->seed = r->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (r->seed >> 33) % below;
}

static void check(const struct reader *r, int i, size_t at, ssize_t got, size_t wanted)
{
	size_t have = at < files[i].size ? files[i].size - at : 0;

	if (got < 0)
		err(1, "%s at %zu", files[i].path, at);
	if ((size_t)got != (have < wanted ? have : wanted))
		errx(1, "%s at %zu: %zd of %zu bytes", files[i].path, at, got, wanted);
	for (size_t k = 0; k < (size_t)got; k++)
		if (r->buf[k] != files[i].bytes[at + k])
			errx(1, "%s: byte %zu is wrong", files[i].path, at + k);
}

static size_t chunk_of(struct reader *r)
{
	static const size_t sizes[] = { 1, 100, 4096, 8192, 65537, 262144, 1 << 20, MOST };

	return sizes[draw(r, sizeof(sizes) / sizeof(sizes[0]))];
}

/* A child of this stream goes on where it stands; then its parent does. */
static void read_in_child(struct reader *r, int fd, int i, size_t chunk)
{
	off_t at = lseek(fd, 0, SEEK_CUR);
	pid_t pid = fork();
	int status;

	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		for (int k = 0; k < 3; k++) {
			ssize_t n = read(fd, r->buf, chunk);

			check(r, i, (size_t)at, n, chunk);
			at += n;
		}
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "the child failed");
}

/* Some other place in between. */
static void look_aside(struct reader *r, int fd, int i)
{
	int other = (int)draw(r, FILES);
	size_t n = chunk_of(r), at = draw(r, files[i].size);

	check(r, i, at, pread(fd, r->buf, n, (off_t)at), n);
	fd = open(files[other].path, O_RDONLY);
	if (fd < 0)
		err(1, "%s", files[other].path);
	at = draw(r, files[other].size);
	check(r, other, at, pread(fd, r->buf, n, (off_t)at), n);
	close(fd);
}

static void read_some(struct reader *r)
{
	int i = (int)draw(r, FILES), fd = open(files[i].path, O_RDONLY), n = (int)draw(r, 60);
	size_t chunk = chunk_of(r), at = draw(r, 2) ? draw(r, files[i].size) : 0;

	if (fd < 0 || lseek(fd, (off_t)at, SEEK_SET) < 0)
		err(1, "%s", files[i].path);
	if (draw(r, 4) == 0)
		posix_fadvise(fd, 0, 0, draw(r, 2) ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_RANDOM);
	for (; n > 0 && at < files[i].size; n--) {
		ssize_t got = read(fd, r->buf, chunk);

		check(r, i, at, got, chunk);
		at += (size_t)got;
		if (draw(r, 12) == 0)
			look_aside(r, fd, i);
		if (draw(r, 12) == 0)
			at = (size_t)lseek(fd, (off_t)draw(r, 100000), SEEK_CUR);
		if (draw(r, 12) == 0 && at > 100000)
			at = (size_t)lseek(fd, -(off_t)draw(r, 100000), SEEK_CUR);
		if (r->may_fork && draw(r, 10) == 0) {
			read_in_child(r, fd, i, chunk);
			at = (size_t)lseek(fd, 0, SEEK_CUR);
		}
	}
	close(fd);
}

static void *work(void *arg)
{
	struct reader *r = arg;

	r->buf = malloc(MOST);
	for (int i = 0; r->buf && i < ROUNDS; i++)
		read_some(r);
	free(r->buf);
	return NULL;
}

static void read_mixed(const char *mounted, const char *local, uint64_t seed, int n)
{
	struct reader readers[16];

	for (int i = 0; i < FILES; i++) {
		struct stat st;
		char path[256];
		int fd;

		snprintf(files[i].path, sizeof(files[i].path), "%s/%d", mounted, i);
		snprintf(path, sizeof(path), "%s/%d", local, i);
		fd = open(path, O_RDONLY);
		if (fd < 0 || fstat(fd, &st) < 0)
			err(1, "%s", path);
		files[i].size = (size_t)st.st_size;
		files[i].bytes = mmap(NULL, files[i].size, PROT_READ, MAP_PRIVATE, fd, 0);
		close(fd);
	}
	n = n < 16 ? n : 16;
	for (int i = 0; i < n; i++) {
		readers[i] =
			(struct reader){ .seed = seed * 100 + (uint64_t)i, .may_fork = n == 1 };
		if (pthread_create(&readers[i].thread, NULL, work, &readers[i]) != 0)
			errx(1, "no thread");
	}
	for (int i = 0; i < n; i++)
		pthread_join(readers[i].thread, NULL);
}

static void read_all(const char *path, size_t chunk)
{
	uint8_t *buf = malloc(chunk);
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0 || !buf)
		err(1, "%s", path);
	while ((n = read(fd, buf, chunk)) > 0)
		;
	if (n < 0)
		err(1, "%s", path);
	close(fd);
	free(buf);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "all") == 0)
		read_all(argv[2], strtoul(argv[3], NULL, 10));
	else if (argc == 6 && strcmp(argv[1], "mixed") == 0)
		read_mixed(argv[2], argv[3], strtoull(argv[4], NULL, 10), atoi(argv[5]));
	else
		errx(2, "see the top of %s", __FILE__);
	return 0;
}
