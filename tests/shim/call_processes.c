/* SPDX-License-Identifier: MIT */
/* call_processes ROOT: one open file in several processes and programs. */
#include "say.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char buf[4096];

static int wait_for(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

static int read_in_child(void *arg)
{
	_exit(read(*(int *)arg, buf, 10) == 10 ? 0 : 1);
}

/* The position is one for all. */
static void forks(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int fd = open("text/lines.txt", O_RDONLY);
	pid_t pid = fork();

	if (pid == 0)
		read_in_child(&fd);
	SAY(wait_for(pid));
	SAY(lseek(fd, 0, SEEK_CUR));
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		read_in_child(&fd);
	SAY(wait_for(pid));
	SAY(lseek(fd, 0, SEEK_CUR));
	pid = clone(read_in_child, stack + sizeof(stack), SIGCHLD, &fd);
	SAY(wait_for(pid));
	SAY(lseek(fd, 0, SEEK_CUR));
	pid = fork();
	if (pid == 0) { /* closing, and opening anew, in the child */
		close(fd);
		_exit(open("text/other.txt", O_RDONLY) == fd ? 0 : 1);
	}
	SAY(wait_for(pid));
	SAY(read(fd, buf, 10));
	close(fd);
}

/* The child shares our memory: what it does to its descriptors must not be done to ours. */
static void vforks(void)
{
	int fd = open("text/lines.txt", O_RDONLY);
	int other = open("text/other.txt", O_RDONLY | O_CLOEXEC);
	pid_t pid;
	int i;

	for (i = 0; i < 3; i++) {
		pid = vfork();
		if (pid == 0) {
			dup2(fd, 0);
			close(fd);
			dup2(other, fd);
			close_range(3, 100, 0);
			execl("/usr/bin/head", "head", "-c", "12", (char *)NULL);
			_exit(127);
		}
		SAY(wait_for(pid));
		SAY(lseek(fd, 0, SEEK_CUR));
	}
	pid = vfork();
	if (pid == 0) {
		execl("/none/none", "none", (char *)NULL);
		_exit(errno == ENOENT ? 3 : 4);
	}
	SAY(wait_for(pid));
	SAY(read(other, buf, 100));
	SAY(read(fd, buf, 100));
	SAY(read(0, buf, 1));
	close(fd);
	close(other);
}

/* The error of the spawn, else the status: said when the child's own words are out. */
static int spawn(const char *path, posix_spawn_file_actions_t *fa, char **argv, char **env)
{
	pid_t pid;
	int r = strchr(path, '/') ? posix_spawn(&pid, path, fa, NULL, argv, env)
				  : posix_spawnp(&pid, path, fa, NULL, argv, env);

	return r ? 1000 + r : wait_for(pid);
}

static void spawns(void)
{
	char *cat[] = { "cat", NULL };
	char *ls[] = { "ls", NULL };
	char *env[] = { NULL };
	posix_spawn_file_actions_t fa;
	int i;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "text/other.txt", O_RDONLY, 0);
	for (i = 0; i < 2; i++)
		SAY(spawn("/bin/cat", &fa, cat, i ? env : environ));
	SAY(spawn("cat", &fa, cat, environ));
	SAY(spawn("no-such-program", &fa, cat, environ));
	posix_spawn_file_actions_destroy(&fa);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "text/none", O_RDONLY, 0);
	SAY(spawn("/bin/cat", &fa, cat, environ));
	posix_spawn_file_actions_destroy(&fa);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addchdir_np(&fa, "tree");
	SAY(spawn("/bin/ls", &fa, ls, environ));
	posix_spawn_file_actions_destroy(&fa);
	SAY(system("pwd; cat text/other.txt; exit 7"));
	SAY(system("kill -TERM $$"));
}

static void *vfork_many(void *arg)
{
	int fd = *(int *)arg;
	volatile long bad = 0; /* vfork returns twice */
	volatile int i;

	for (i = 0; i < 40; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			dup2(fd, 0);
			close_range(3, 100, 0);
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		bad += wait_for(pid) != 0;
		bad += pread(fd, buf, 10, 100) != 10;
	}
	return (void *)bad;
}

static void threads_that_vfork(void)
{
	pthread_t threads[4];
	int fds[4];
	void *bad;
	int i;

	for (i = 0; i < 4; i++) {
		fds[i] = open("text/lines.txt", O_RDONLY);
		pthread_create(&threads[i], NULL, vfork_many, &fds[i]);
	}
	for (i = 0; i < 4; i++) {
		pthread_join(threads[i], &bad);
		SAY((long)bad);
		SAY(close(fds[i]));
	}
}

static void *read_pipe(void *arg)
{
	char c;

	return (void *)(long)read(*(int *)arg, &c, 1);
}

/* read() stays a cancellation point. */
static void cancel(void)
{
	pthread_t thread;
	void *result;
	int fds[2];

	SAY(pipe(fds));
	pthread_create(&thread, NULL, read_pipe, &fds[0]);
	usleep(50000);
	SAY(pthread_cancel(thread));
	SAY(pthread_join(thread, &result));
	SAY(result == PTHREAD_CANCELED);
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) < 0)
		return 2;
	forks();
	vforks();
	spawns();
	threads_that_vfork();
	cancel();
	dup2(open("text/other.txt", O_RDONLY), 0);
	execlp("cat", "cat", (char *)NULL);
	return 3;
}
