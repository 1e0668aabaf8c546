// SPDX-License-Identifier: MIT
/*
 * bench_one WHAT ARGUMENT...: one measurement, printed as lines "NAME NUMBER".  It
 * knows nothing of what is behind a path.
 *
 *   touch FILE [once]       maps it, reads a byte of each page, unmaps: bytes a second
 *   sequential FILE         one pass of read(), 1 MiB each: bytes a second
 *   random FILE N           N threads, pread of 4 KiB: operations a second
 *   list FILE N             N threads read the files whose names FILE has: seconds, bytes
 *   calls FILE [ALSO]       ns for pread of 4 KiB, read of 64 B, open+close, fstat, stat:
 *                           libc's own, and what the preloaded library's cost more,
 *                           while the file ALSO is open
 *   libraries FILE ONE TWO  the same calls of the library ONE, and what TWO's cost more
 *   start N LIB SPEC PROG   us of a process that runs PROG, N of each kind: plain, with
 *                           LIB preloaded, and with DELTAZERO_MOUNT=SPEC besides
 *   memory FILE...          KiB that this process has in memory after reading them, but
 *                           for what lies in memory that is shared
 */
#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECONDS	    1.0
#define MIB	    ((size_t)1 << 20)
#define PAGE	    4096
#define THREADS_MAX 64

extern char **environ;

static char buf[MIB] __attribute__((aligned(4096)));

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_file(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", path);
	*size = (size_t)st.st_size;
	return fd;
}

/* ---- touch, sequential ---- */

static void measure_touch(const char *path, bool once)
{
	size_t size, done = 0;
	int fd = open_file(path, &size);
	double start = now(), seconds;
	unsigned int sum = 0;

	do {
		const uint8_t *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED)
			err(1, "mmap %s", path);
		for (size_t off = 0; off < size; off += PAGE)
			sum += p[off];
		munmap((void *)p, size);
		done += size;
		seconds = now() - start;
	} while (!once && seconds < SECONDS / 2);
	__asm__ __volatile__("" : : "r"(sum));
	printf("touch %.1f\n", (double)done / seconds);
}

static void measure_sequential(const char *path)
{
	size_t size, done = 0;
	int fd = open_file(path, &size);
	double start = now();
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		done += (size_t)n;
	if (n < 0 || done != size)
		err(1, "read %s", path);
	printf("sequential %.1f\n", (double)done / (now() - start));
}

/* ---- threads ---- */

struct worker {
	pthread_t thread;
	uint64_t random;
	const char *path;
	uint64_t n; /* operations, or bytes */
};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void *random_main(void *arg)
{
	struct worker *w = arg;
	char page[PAGE] __attribute__((aligned(4096)));
	size_t size;
	int fd = open_file(w->path, &size);
	double end = now() + SECONDS;

	while (now() < end) {
		for (int i = 0; i < 8; i++, w->n++) {
			size_t off = next_random(&w->random) % (size / PAGE) * PAGE;

			if (pread(fd, page, PAGE, (off_t)off) != PAGE)
				err(1, "pread %s at %zu", w->path, off);
		}
	}
	close(fd);
	return NULL;
}

static char **names;
static size_t n_names;
static size_t next_name;

static void *list_main(void *arg)
{
	struct worker *w = arg;
	char *mem = malloc(MIB);
	size_t i;

	if (!mem)
		err(1, "malloc");
	while ((i = __atomic_fetch_add(&next_name, 1, __ATOMIC_RELAXED)) < n_names) {
		int fd = open(names[i], O_RDONLY);
		ssize_t n;

		if (fd < 0)
			err(1, "%s", names[i]);
		while ((n = read(fd, mem, MIB)) > 0)
			w->n += (uint64_t)n;
		if (n < 0)
			err(1, "read %s", names[i]);
		close(fd);
	}
	free(mem);
	return NULL;
}

static void load_names(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[4096];

	if (!f)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		names = realloc(names, (n_names + 1) * sizeof(*names));
		if (!names || !(names[n_names++] = strdup(line)))
			err(1, "names");
	}
	fclose(f);
}

/* Together, the workers do n operations, or read n bytes. */
static uint64_t run_workers(int n, const char *path, void *(*run)(void *))
{
	static struct worker w[THREADS_MAX];
	uint64_t total = 0;

	if (n < 1 || n > THREADS_MAX)
		errx(2, "1 to %d threads", THREADS_MAX);
	for (int i = 0; i < n; i++) {
		w[i].random = 88172645463325252ull + 2654435761ull * (unsigned int)(getpid() + i);
		w[i].path = path;
		if (pthread_create(&w[i].thread, NULL, run, &w[i]) != 0)
			errx(1, "pthread_create");
	}
	for (int i = 0; i < n; i++) {
		pthread_join(w[i].thread, NULL);
		total += w[i].n;
	}
	return total;
}

static void measure_random(const char *path, int n)
{
	double start = now();
	uint64_t ops = run_workers(n, path, random_main);

	printf("random %.1f\n", (double)ops / (now() - start));
}

static void measure_list(const char *path, int n)
{
	double start;
	uint64_t bytes;

	load_names(path);
	start = now();
	bytes = run_workers(n, path, list_main);
	printf("seconds %.4f\nbytes %llu\n", now() - start, (unsigned long long)bytes);
}

/* ---- calls ---- */

/* The calls of one library: of the program's own, which may be preloaded, or of libc. */
struct library {
	ssize_t (*pread)(int fd, void *to, size_t n, off_t at);
	ssize_t (*read)(int fd, void *to, size_t n);
	off_t (*lseek)(int fd, off_t at, int whence);
	int (*open)(const char *path, int flags, ...);
	int (*close)(int fd);
	int (*fstat)(int fd, struct stat *st);
	int (*stat)(const char *path, struct stat *st);
};

static void call_pread(const struct library *lib, int fd, const char *path)
{
	(void)path;
	if (lib->pread(fd, buf, PAGE, PAGE) != PAGE)
		err(1, "pread");
}

static void call_read(const struct library *lib, int fd, const char *path)
{
	(void)path;
	if (lib->read(fd, buf, 64) != 64 && lib->lseek(fd, 0, SEEK_SET) != 0)
		err(1, "read");
}

static void call_open(const struct library *lib, int fd, const char *path)
{
	fd = lib->open(path, O_RDONLY);
	if (fd < 0)
		err(1, "%s", path);
	lib->close(fd);
}

static void call_fstat(const struct library *lib, int fd, const char *path)
{
	struct stat st;

	(void)path;
	if (lib->fstat(fd, &st) < 0)
		err(1, "fstat");
}

static void call_stat(const struct library *lib, int fd, const char *path)
{
	struct stat st;

	(void)fd;
	if (lib->stat(path, &st) < 0)
		err(1, "stat");
}

static struct library library_of(void *handle)
{
	struct library lib;

#define FIND(name)                                                                                 \
	*(void **)&lib.name = dlsym(handle, #name);                                                \
	if (!lib.name)                                                                             \
	errx(1, "no %s: %s", #name, dlerror())
	FIND(pread);
	FIND(read);
	FIND(lseek);
	FIND(open);
	FIND(close);
	FIND(fstat);
	FIND(stat);
#undef FIND
	return lib;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

#define ROUNDS 801

/*
 * Short rounds of both in turn, in one process: what disturbs one disturbs the other, and
 * where the kernel has laid the process's memory is the same for both.
 */
static void measure_calls(const char *path, const char *what, const struct library libs[2])
{
	static const struct {
		const char *name;
		void (*call)(const struct library *lib, int fd, const char *path);
	} calls[] = {
		{ "pread", call_pread }, { "read", call_read }, { "open-close", call_open },
		{ "fstat", call_fstat }, { "stat", call_stat },
	};
	double ns[2][ROUNDS], more[ROUNDS];
	int fds[2] = { libs[0].open(path, O_RDONLY), libs[1].open(path, O_RDONLY) };

	for (size_t c = 0; c < sizeof(calls) / sizeof(calls[0]); c++) {
		for (int round = 0; round < ROUNDS; round++) {
			for (int turn = 0; turn < 2; turn++) {
				int which = (turn + round) & 1;
				double start = now();

				for (int i = 0; i < 100; i++)
					calls[c].call(&libs[which], fds[which], path);
				ns[which][round] = (now() - start) / 100 * 1e9;
			}
			more[round] = ns[1][round] - ns[0][round];
		}
		qsort(more, ROUNDS, sizeof(double), by_size);
		qsort(ns[0], ROUNDS, sizeof(double), by_size);
		printf("%s-%s-ns %.2f\n%s-more-ns %.2f\n", calls[c].name, what, ns[0][ROUNDS / 2],
		       calls[c].name, more[ROUNDS / 2]);
	}
	libs[0].close(fds[0]);
	libs[1].close(fds[1]);
}

static void measure_own_calls(const char *path, const char *also)
{
	const struct library libs[2] = {
		library_of(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD)),
		library_of(RTLD_DEFAULT),
	};
	size_t size;

	if (also)
		open_file(also, &size);
	measure_calls(path, "libc", libs);
}

/* Neither is preloaded: each has an engine of its own, and the descriptors that it opened. */
static void measure_two_libraries(const char *path, const char *const names[2])
{
	struct library libs[2];

	for (int i = 0; i < 2; i++) {
		void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);

		if (!handle)
			errx(1, "%s", dlerror());
		libs[i] = library_of(handle);
	}
	measure_calls(path, "first", libs);
}

/* ---- start ---- */

static double start_once(char **argv, char **env)
{
	double start = now();
	int status;
	pid_t pid;

	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, env) != 0)
		errx(1, "%s: cannot be started", argv[0]);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "%s: status %d", argv[0], status);
	return (now() - start) * 1e6;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure_start(int n, const char *lib, const char *spec, char **argv)
{
	static const char *const kinds[] = { "plain-us", "preloaded-us", "mounted-us" };
	double *took = calloc(3 * (size_t)n, sizeof(*took));
	char preload[4200], mount[4200];
	char *env[64] = { NULL };
	int n_env = 0;

	if (!took)
		err(1, "calloc");
	for (char **e = environ; *e && n_env < 60; e++) {
		if (strncmp(*e, "LD_PRELOAD=", 11) != 0 && strncmp(*e, "DELTAZERO_MOUNT=", 16) != 0)
			env[n_env++] = *e;
	}
	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", lib);
	snprintf(mount, sizeof(mount), "DELTAZERO_MOUNT=%s", spec);
	for (int i = 0; i < n; i++) {
		for (int kind = 0; kind < 3; kind++) {
			env[n_env] = kind > 0 ? preload : NULL;
			env[n_env + 1] = kind > 1 ? mount : NULL;
			took[kind * n + i] = start_once(argv, env);
		}
	}
	for (int kind = 0; kind < 3; kind++) {
		qsort(took + kind * n, (size_t)n, sizeof(*took), by_value);
		printf("%s %.1f\n", kinds[kind], took[kind * n + n / 2]);
	}
	free(took);
}

/* ---- memory ---- */

/* Rss but for mappings of memory that processes share: the cache's segment. */
static uint64_t own_kib(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[4096];
	uint64_t total = 0;
	bool is_shared = false;

	if (!f)
		err(1, "/proc/self/smaps");
	while (fgets(line, sizeof(line), f)) {
		unsigned long long kib;
		char perms[8];

		if (sscanf(line, "%*x-%*x %7s", perms) == 1)
			is_shared = perms[3] == 's';
		else if (!is_shared && sscanf(line, "Rss: %llu", &kib) == 1)
			total += kib;
	}
	fclose(f);
	return total;
}

static void measure_memory(char **paths)
{
	for (; *paths; paths++) {
		size_t size;
		int fd = open_file(*paths, &size);

		while (read(fd, buf, sizeof(buf)) > 0)
			;
		close(fd);
	}
	printf("own-kib %llu\n", (unsigned long long)own_kib());
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";

	memset(buf, 1, sizeof(buf));
	if (strcmp(what, "touch") == 0)
		measure_touch(argv[2], argc > 3);
	else if (strcmp(what, "sequential") == 0)
		measure_sequential(argv[2]);
	else if (strcmp(what, "random") == 0 && argc == 4)
		measure_random(argv[2], atoi(argv[3]));
	else if (strcmp(what, "list") == 0 && argc == 4)
		measure_list(argv[2], atoi(argv[3]));
	else if (strcmp(what, "calls") == 0)
		measure_own_calls(argv[2], argc > 3 ? argv[3] : NULL);
	else if (strcmp(what, "libraries") == 0 && argc > 4)
		measure_two_libraries(argv[2], (const char *const[]){ argv[3], argv[4] });
	else if (strcmp(what, "start") == 0 && argc > 5)
		measure_start(atoi(argv[2]), argv[3], argv[4], argv + 5);
	else if (strcmp(what, "memory") == 0)
		measure_memory(argv + 2);
	else
		errx(2, "usage: bench_one WHAT ARGUMENT..., see the source");
	return 0;
}
