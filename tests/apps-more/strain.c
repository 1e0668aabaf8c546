/* SPDX-License-Identifier: MIT */
/*
 * strain WHAT ROOT: descriptors, threads, signals, forks and exits under load.  The
 * eight bytes at 8 * i of ROOT/large are i, so each read knows what it has to get.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS 600000
#define BLOCK 4096

static const char *path;
static _Atomic unsigned wrong;
static _Atomic unsigned long signals;
static _Atomic int stop;

/* Async-signal-safe: handlers call it. */
static int is_right(const uint64_t *words, ssize_t n, off_t at)
{
	for (ssize_t i = 0; i < n / 8; i++)
		if (words[i] != (uint64_t)at / 8 + (uint64_t)i) {
			wrong++;
			return 0;
		}
	return n >= 0;
}

static int read_at(int fd, off_t at)
{
	uint64_t buf[BLOCK / 8];
	ssize_t n = pread(fd, buf, sizeof(buf), at);

	if (n != sizeof(buf) && wrong++ == 0)
		dprintf(2, "pread of %d at %lld: %zd, errno %d\n", fd, (long long)at, n, errno);
	return is_right(buf, n, at);
}

static off_t any_place(unsigned *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return (off_t)(*seed >> 8) % (WORDS - BLOCK / 8) * 8;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int must_open(void)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		perror("open");
		exit(2);
	}
	return fd;
}

static int report(const char *what)
{
	printf("%s: %s\n", what, wrong ? "wrong bytes" : "right");
	return wrong != 0;
}

/* A million times, with room for few; the numbers are those that the kernel gives. */
static int opens_and_closes(void)
{
	struct rlimit limit = { 64, 64 };
	int first, fd;

	setrlimit(RLIMIT_NOFILE, &limit);
	first = must_open();
	close(first);
	for (unsigned i = 0; i < 1000000; i++) {
		fd = open(path, O_RDONLY | (i % 2 ? O_CLOEXEC : 0));
		if (fd != first || (i % 1000 == 0 && !read_at(fd, i * 4)) || close(fd)) {
			printf("at %u: %d, first %d, errno %d\n", i, fd, first, errno);
			return 1;
		}
	}
	for (fd = 0; open(path, O_RDONLY) >= 0; fd++)
		;
	printf("%s\n", errno == EMFILE && fd > 40 ? "full" : "not full");
	for (fd = first; fd < 64; fd++)
		close(fd);
	return read_at(must_open(), 800) ? report("opens") : 1;
}

static _Atomic unsigned char seen[WORDS * 8 / BLOCK + 1];

static void *read_in_turn(void *arg)
{
	uint64_t buf[BLOCK / 8];
	int fd = *(int *)arg;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (buf[0] * 8 % BLOCK != 0)
			wrong++;
		is_right(buf, n, (off_t)buf[0] * 8);
		seen[buf[0] * 8 / BLOCK]++;
	}
	return NULL;
}

/* Each block goes to one of them. */
static int threads_on_one_descriptor(void)
{
	pthread_t threads[64];
	int fd = must_open(), missing = 0;

	for (int i = 0; i < 64; i++)
		pthread_create(&threads[i], NULL, read_in_turn, &fd);
	for (int i = 0; i < 64; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < WORDS * 8 / BLOCK + 1; i++)
		missing += seen[i] != 1;
	printf("%d blocks not read once\n", missing);
	return report("threads") || missing;
}

static int handler_fd;

static void read_in_handler(int sig)
{
	static unsigned seed = 1;
	uint64_t buf[8];
	int fd = open(path, O_RDONLY), saved = errno;

	(void)sig;
	read_at(handler_fd, any_place(&seed));
	if (fd < 0 || !is_right(buf, read(fd, buf, sizeof(buf)), 0) || close(fd))
		wrong++;
	signals++;
	errno = saved;
}

static void start_timer(void (*handler)(int), int usec)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct itimerval every = { { 0, usec }, { 0, usec } };

	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static int timer(void)
{
	double end = now() + 3;
	unsigned seed = 7;

	handler_fd = must_open();
	start_timer(read_in_handler, 1000);
	/* On a busy machine, and with a handler that waits for the server, longer. */
	while (now() < end || (signals < 100 && now() < end + 20)) {
		int fd = must_open();

		for (int i = 0; i < 50; i++)
			read_at(fd, any_place(&seed));
		lseek(fd, 4000, SEEK_SET);
		void *p = mmap(NULL, BLOCK, PROT_READ, MAP_PRIVATE, fd, BLOCK);
		is_right(p, BLOCK, BLOCK);
		munmap(p, BLOCK);
		close(fd);
	}
	start_timer(SIG_IGN, 0);
	printf("%s\n", signals >= 100 ? "signals came" : "no signals");
	return report("timer");
}

static sigjmp_buf back;

static void jump(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

/* Out of whatever it is in: a read, an open, a wait for the server. */
static int jumps_out_of_reads(void)
{
	static volatile unsigned jumps;
	static volatile int fd = -1;
	static unsigned seed = 3;
	static uint64_t buf[1000];
	double end = now() + 3;
	struct itimerval off = { 0 };

	if (sigsetjmp(back, 1))
		jumps++;
	else
		start_timer(jump, 700);
	while (now() < end || (jumps < 100 && now() < end + 20)) {
		if (fd < 0)
			fd = must_open();
		for (int i = 0; i < 20; i++)
			read_at(fd, any_place(&seed));
		lseek(fd, 8000, SEEK_SET);
		is_right(buf, read(fd, buf, sizeof(buf)), 8000);
		if (jumps % 3 == 0) {
			int old = fd;

			fd = -1; /* a jump from here leaves it open */
			close(old);
		}
	}
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_IGN);
	printf("%s\n", jumps >= 100 ? "jumped" : "no jumps");
	for (off_t at = 0; at + BLOCK <= WORDS * 8; at += BLOCK)
		read_at(fd < 0 ? fd = must_open() : fd, at);
	return report("jumps");
}

static void *read_on(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	int fd = must_open();

	while (!stop)
		read_at(fd, any_place(&seed));
	close(fd);
	return NULL;
}

static void start_readers(pthread_t *threads, int count)
{
	for (int i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, read_on, (void *)(uintptr_t)(i + 1));
}

static int forks_beside_readers(void)
{
	pthread_t threads[8];
	int fd = must_open(), bad = 0, status;

	start_readers(threads, 8);
	for (unsigned i = 0; i < 200; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int own = must_open();
			int right = read_at(own, i * 800) && read_at(fd, i * 8);

			lseek(fd, i, SEEK_SET);
			_exit(right && !wrong ? 0 : 1);
		}
		if (waitpid(pid, &status, 0) != pid || status || lseek(fd, 0, SEEK_CUR) != (off_t)i)
			bad++;
	}
	stop = 1;
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	printf("%d children were wrong\n", bad);
	return report("forks") || bad;
}

/* A child that ends by `how` while its threads read; it must end, and as it said. */
static void end_while_reading(int how)
{
	pthread_t threads[16];

	alarm(20);
	start_readers(threads, 16);
	usleep(3000);
	if (how == 0)
		exit(wrong ? 1 : 7);
	if (how == 1)
		_exit(wrong ? 1 : 7);
	if (how == 2)
		quick_exit(wrong ? 1 : 7);
	kill(getpid(), SIGKILL);
}

static int exits_during_reads(void)
{
	int ends[4] = { 0 }, status;

	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (pid == 0)
			end_while_reading(i % 4);
		waitpid(pid, &status, 0);
		ends[i % 4] += i % 4 == 3 ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
					  : WIFEXITED(status) && WEXITSTATUS(status) == 7;
	}
	printf("ended well: %d %d %d %d\n", ends[0], ends[1], ends[2], ends[3]);
	read_at(must_open(), 0);
	return report("exits");
}

static void *read_until_cancelled(void *arg)
{
	uint64_t buf[BLOCK / 8];
	int fd = *(int *)arg;

	for (off_t at = 0;; at = (at + BLOCK) % (WORDS * 8 - BLOCK) / 8 * 8)
		is_right(buf, pread(fd, buf, sizeof(buf), at), at);
	return NULL;
}

static void close_stream(void *stream)
{
	fclose(stream);
}

static void *copy_until_cancelled(void *arg)
{
	(void)arg;
	for (;;) {
		FILE *f = fopen(path, "r");
		uint64_t buf[1000];

		pthread_cleanup_push(close_stream, f);
		is_right(buf, (ssize_t)fread(buf, 1, sizeof(buf), f), 0);
		pthread_testcancel();
		pthread_cleanup_pop(1);
	}
	return NULL;
}

/* Reads are points where a thread ends; what it held does not hold up others. */
static int cancels_readers(void)
{
	pthread_t readers[4], threads[8];
	int fd = must_open(), cancelled = 0;
	void *result;

	alarm(60);
	start_readers(readers, 4);
	for (int round = 0; round < 25; round++) {
		for (int i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL,
				       i % 2 ? copy_until_cancelled : read_until_cancelled, &fd);
		usleep(2000);
		for (int i = 0; i < 8; i++)
			pthread_cancel(threads[i]);
		for (int i = 0; i < 8; i++) {
			pthread_join(threads[i], &result);
			cancelled += result == PTHREAD_CANCELED;
		}
	}
	stop = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(readers[i], NULL);
	printf("%d cancelled\n", cancelled);
	return report("cancellation");
}

static const struct {
	const char *name;
	int (*run)(void);
} ways[] = {
	{ "opens", opens_and_closes },
	{ "threads", threads_on_one_descriptor },
	{ "timer", timer },
	{ "jumps", jumps_out_of_reads },
	{ "forks", forks_beside_readers },
	{ "exits", exits_during_reads },
	{ "cancellation", cancels_readers },
};

int main(int argc, char **argv)
{
	static char file[4096];

	snprintf(file, sizeof(file), "%s/large", argc > 2 ? argv[2] : "");
	path = file;
	for (size_t i = 0; argc > 2 && i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(argv[1], ways[i].name))
			return ways[i].run();
	return 2;
}
