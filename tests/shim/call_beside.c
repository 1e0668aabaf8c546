/* SPDX-License-Identifier: MIT */
/*
 * Calls on files that are no business of the library, and links that lead into the
 * tree.  call_beside ROOT in an empty directory; call_beside wide < FILE.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <wchar.h>

#include "say.h"

enum { BY_SYSCALL, BY_ROUTED_SYSCALL, BY_IOCTL };

static struct {
	int how;
	volatile int go, done;
} thread;

/* None of these is a cancellation point. */
static void *run_thread(void *arg)
{
	char c;
	int n;

	(void)arg;
	while (!thread.go)
		;
	if (thread.how == BY_SYSCALL)
		syscall(SYS_gettid);
	else if (thread.how == BY_ROUTED_SYSCALL)
		syscall(SYS_read, -1, &c, 1);
	else
		ioctl(0, FIONREAD, &n);
	thread.done = 1;
	return NULL;
}

static void cancellation(void)
{
	for (thread.how = BY_SYSCALL; thread.how <= BY_IOCTL; thread.how++) {
		pthread_t t;

		thread.go = thread.done = 0;
		pthread_create(&t, NULL, run_thread, NULL);
		pthread_cancel(t);
		thread.go = 1;
		pthread_join(t, NULL);
		SAY(thread.done);
	}
}

static void resolved(const char *path)
{
	char buf[PATH_MAX] = "";

	SAY_PTR(realpath(path, buf));
	dprintf(1, "%s\n", buf);
}

static void raw_calls(void)
{
	struct timespec times[2] = { { 1, 0 }, { 2, 0 } };
	int fd = open("file", O_CREAT | O_RDWR, 0600);
	struct stat st;

	SAY(syscall(SYS_utimensat, fd, NULL, times, 0));
	fstat(fd, &st);
	SAY(st.st_mtime);
	SAY(close_range((unsigned int)fd, (unsigned int)fd, 64));
	SAY(fcntl(fd, F_GETFD));
	close(fd);
}

/* The numbers of descriptors are the kernel's. */
static void descriptors(const char *file)
{
	int fd = open(file, O_RDONLY);
	char buf[8];

	SAY(close_range((unsigned int)fd, (unsigned int)fd, 64));
	SAY(read(fd, buf, 5));
	dup2(fd, 0);
	SAY_PTR(opendir("/proc/self/fd/"));
	close(fd);
}

static int shared_fd;
static volatile int is_read;

static void *ask_position(void *arg)
{
	while (!is_read)
		lseek(shared_fd, 0, SEEK_CUR);
	return arg;
}

/* To ask for the position while another thread reads moves it for nobody. */
static void positions(const char *file)
{
	char buf[64];
	long sum = 0, n;
	pthread_t t;

	shared_fd = open(file, O_RDONLY);
	pthread_create(&t, NULL, ask_position, NULL);
	for (int i = 0; i < 20; i++) {
		lseek(shared_fd, 0, SEEK_SET);
		while ((n = read(shared_fd, buf, sizeof(buf))) > 0)
			sum += n;
	}
	is_read = 1;
	pthread_join(t, NULL);
	SAY(sum);
	close(shared_fd);
}

/* Every number can be had, the engine's own among them, and files go on. */
static void numbers(const char *file, const char *other)
{
	int fd = open(file, O_RDONLY), copy = open("/etc/passwd", O_RDONLY), taken = 0;
	char buf[16] = "";
	struct stat st, same;

	for (int n = 400; n < 1000; n++)
		taken += dup2(copy, n) == n;
	SAY(taken);
	SAY(dup2(-1, 1001));
	fstat(copy, &same);
	for (int n = 400; n < 1000; n++)
		taken -= fstat(n, &st) == 0 && st.st_ino == same.st_ino && close(n) == 0;
	SAY(taken);
	SAY(read(fd, buf, 12));
	dprintf(1, "%s\n", buf);
	/* The next member looks for those that are gone. */
	SAY(system("true"));
	SAY(read(open(other, O_RDONLY), buf, 3));
	SAY(read(fd, buf, 12));
	close(fd);
	close(copy);
}

static sigjmp_buf out_of_read;

static void on_alarm(int signal)
{
	(void)signal;
	siglongjmp(out_of_read, 1);
}

/* A time limit of the old kind: the handler leaves the read for good. */
static void jumps(const char *file)
{
	struct itimerval soon = { .it_value = { 0, 700 } };
	static char buf[1 << 20];
	volatile int found = 0;
	struct stat st;

	shared_fd = open(file, O_RDONLY);
	signal(SIGALRM, on_alarm);
	for (volatile int i = 0; i < 60; i++) {
		if (sigsetjmp(out_of_read, 1) == 0) {
			setitimer(ITIMER_REAL, &soon, NULL);
			for (;;)
				pread(shared_fd, buf, sizeof(buf), 0);
		}
		found += stat(file, &st) == 0;
	}
	SAY(found);
	SAY(pread(shared_fd, buf, sizeof(buf), 0));
	close(shared_fd);
}

static void links(const char *file)
{
	char line[80] = "";
	struct stat st;

	SAY(symlink(file, "link"));
	SAY(stat("link", &st));
	SAY(st.st_size);
	SAY(stat("link/", &st));
	SAY(access("link", R_OK));
	SAY(pathconf("link", _PC_NAME_MAX));
	SAY_PTR(fopen("link", "r"));
	SAY_PTR(freopen("link", "r", stdin));
	SAY_PTR(fgets(line, sizeof(line), stdin));
	dprintf(1, "%s", line);
	SAY(open("link", O_RDONLY | O_DIRECTORY));
	SAY(open("missing/link", O_RDONLY));
	SAY(open("link/missing", O_RDONLY));
}

/* What cannot be read must not become readable in the next program. */
static void over_exec(const char *self, const char *file)
{
	char number[12];

	snprintf(number, sizeof(number), "%d", open(file, O_PATH));
	execl(self, self, "opath", number, (char *)NULL);
}

static int opath(int fd)
{
	char buf[4];

	SAY(fcntl(fd, F_GETFL) & O_PATH);
	SAY(read(fd, buf, sizeof(buf)));
	return 0;
}

static int wide(void)
{
	wchar_t word[20];
	int n = 0;

	SAY(wscanf(L"line %d of", &n));
	SAY(n);
	SAY(wscanf(L"%19ls", word));
	dprintf(1, "%ls\n", word);
	return 0;
}

int main(int argc, char **argv)
{
	char file[PATH_MAX], other[PATH_MAX];

	if (strcmp(argv[1], "wide") == 0)
		return wide();
	if (argc > 2)
		return opath(atoi(argv[2]));
	snprintf(file, sizeof(file), "%s/text/lines.txt", argv[1]);
	cancellation();
	resolved("/etc/missing/more");
	resolved("/etc/passwd/more");
	resolved("");
	raw_calls();
	links(file);
	positions(file);
	snprintf(other, sizeof(other), "%s/many/17", argv[1]);
	numbers(file, other);
	jumps(file);
	descriptors(file);
	over_exec(argv[0], file);
	return 1;
}
