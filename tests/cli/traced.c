// SPDX-License-Identifier: MIT
/*
 * A program to be traced: `traced lines DIR` makes one call of each ordinary kind;
 * `traced count DIR HOW` makes many, in threads and children that end in different
 * ways (HOW: return, _exit, kill, exec), and prints how many of each it has made;
 * `traced loop DIR` reads until it is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *dir;

static const char *in_dir(const char *name)
{
	static __thread char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* ---- lines ---- */

static void read_calls(int fd)
{
	static char buf[8192];
	char other[16];
	struct iovec iov[2] = { { buf, 10 }, { other, sizeof(other) } };

	read(fd, buf, 100);
	pread(fd, buf, 4096, 100);
	pread(fd, buf, 10, 1 << 30);
	pread(fd, buf, 10, -1);
	readv(fd, iov, 2);
	preadv(fd, iov, 2, 20);
	lseek(fd, 0, SEEK_END);
	lseek(fd, -5, SEEK_CUR);
	read(fd, buf, 100);
	read(fd, buf, 100);
	lseek(fd, 3, SEEK_SET);
	lseek(fd, 0, SEEK_DATA);
	lseek(fd, 1 << 30, SEEK_HOLE);
	lseek(fd, -1, SEEK_SET);
	lseek(fd, 0, 77);
}

static void fd_calls(int fd)
{
	struct stat st;
	int copy = dup(fd);

	fstat(fd, &st);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	posix_fadvise(fd, 4096, 8192, POSIX_FADV_WILLNEED);
	readahead(fd, 0, 4096);
	fcntl(copy, F_GETFD);
	fcntl(copy, F_SETFD, FD_CLOEXEC);
	fcntl(copy, F_GETFD);
	fcntl(copy, F_GETFL);
	fcntl(fd, F_DUPFD_CLOEXEC, 20);
	close(20);
	close(copy);
	dup2(fd, 21);
	dup3(fd, 22, O_CLOEXEC);
	close(21);
	close(22);
	fsync(fd);
	ftruncate(fd, 0);
	mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

static void path_calls(void)
{
	struct stat st;
	char link[64];
	int d;

	stat(in_dir("text/lines.txt"), &st);
	lstat(in_dir("text"), &st);
	stat(in_dir("text/nothing"), &st);
	fstatat(AT_FDCWD, in_dir("text/no newline"), &st, AT_SYMLINK_NOFOLLOW);
	access(in_dir("text/lines.txt"), R_OK);
	access(in_dir("text/lines.txt"), F_OK);
	access(in_dir("text/nothing"), R_OK | X_OK);
	readlink(in_dir("text/lines.txt"), link, sizeof(link));
	open(in_dir("text/nothing"), O_RDONLY);
	open(in_dir("text/lines.txt/x"), O_RDONLY);
	open(in_dir("text/lines.txt"), O_RDONLY | O_DIRECTORY);
	open(in_dir("text/lines.txt"), O_CREAT | O_EXCL, 0644);
	d = open(in_dir("text"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fstat(d, &st);
	fstatat(d, "other.txt", &st, 0);
	close(openat(d, "other.txt", O_RDONLY | O_NONBLOCK));
	openat(d, "nothing", O_RDONLY);
	read(d, link, 10);
	close(d);
}

static int lines(void)
{
	int fd;

	access(in_dir("begin"), F_OK);
	path_calls();
	fd = open(in_dir("text/lines.txt"), O_RDONLY | O_CLOEXEC);
	read_calls(fd);
	fd_calls(fd);
	close(fd);
	access(in_dir("end"), F_OK);
	return 0;
}

/* ---- count ---- */

enum { OPEN, READ, PREAD, LSEEK, STAT, CLOSE, KINDS };
static const char *const kinds[KINDS] = { "open", "read", "pread", "lseek", "stat", "close" };
static _Atomic unsigned long *made;

static void *some_calls(void *arg)
{
	struct stat st;
	char buf[512];

	(void)arg;
	for (int i = 0; i < 40; i++) {
		int fd = open(in_dir("text/lines.txt"), O_RDONLY);

		for (int k = 0; k < 20; k++)
			made[READ] += read(fd, buf, sizeof(buf)) > 0;
		for (int k = 0; k < 30; k++)
			made[PREAD] += pread(fd, buf, sizeof(buf), k * 100) > 0;
		made[LSEEK] += lseek(fd, 0, SEEK_SET) == 0;
		made[STAT] += stat(in_dir("text/nothing"), &st) < 0;
		made[OPEN]++;
		made[CLOSE] += close(fd) == 0;
	}
	return NULL;
}

static void in_threads(void)
{
	pthread_t threads[6];

	for (int i = 0; i < 6; i++)
		pthread_create(&threads[i], NULL, some_calls, NULL);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
}

static void child(const char *how, char **argv)
{
	char fd[16];

	some_calls(NULL);
	if (strcmp(how, "_exit") == 0)
		_exit(0);
	if (strcmp(how, "kill") == 0)
		kill(getpid(), SIGKILL);
	if (strcmp(how, "exec") == 0) {
		snprintf(fd, sizeof(fd), "%d", 9);
		execl(argv[0], argv[0], "more", dir, fd, NULL);
	}
	exit(0);
}

static int count(const char *how, char **argv)
{
	char name[] = "/tmp/traced.XXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	ftruncate(fd, 4096);
	dup2(fd, 9);
	made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 9, 0);
	in_threads();
	for (int i = 0; i < 3; i++) {
		if (fork() == 0)
			child(how, argv);
	}
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < KINDS; i++)
		printf("%s %lu\n", kinds[i], made[i]);
	return 0;
}

/* After an exec: the counters are behind descriptor 9. */
static int more(void)
{
	made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 9, 0);
	some_calls(NULL);
	return 0;
}

/* ---- loop ---- */

static int loop(void)
{
	char buf[1000];
	int fd = open(in_dir("text/lines.txt"), O_RDONLY);

	printf("ready\n");
	fflush(stdout);
	for (;;) {
		lseek(fd, 0, SEEK_SET);
		read(fd, buf, sizeof(buf));
		usleep(2000);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	dir = argv[2];
	if (strcmp(argv[1], "lines") == 0)
		return lines();
	if (strcmp(argv[1], "count") == 0)
		return count(argv[3], argv);
	if (strcmp(argv[1], "more") == 0)
		return more();
	return loop();
}
