/* SPDX-License-Identifier: MIT */
/* call_locks ROOT: flock between descriptors, processes and programs. */
#include "say.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static int exit_of(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* In another process, by an open of its own: 0 or the errno. */
static int elsewhere(const char *path, int op)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(flock(open(path, O_RDONLY), op | LOCK_NB) == 0 ? 0 : errno);
	return exit_of(pid);
}

static void exclusion(void)
{
	int fd = open("text/lines.txt", O_RDONLY), same = dup(fd);
	int other = open("text/lines.txt", O_RDONLY);

	SAY(flock(fd, LOCK_EX));
	SAY(flock(same, LOCK_EX | LOCK_NB));
	SAY(flock(other, LOCK_EX | LOCK_NB));
	SAY(flock(other, LOCK_SH | LOCK_NB));
	SAY(elsewhere("text/lines.txt", LOCK_EX) == EWOULDBLOCK);
	SAY(elsewhere("text/other.txt", LOCK_EX));
	SAY(elsewhere("text", LOCK_EX));
	SAY(flock(fd, LOCK_SH));
	SAY(flock(other, LOCK_SH | LOCK_NB));
	SAY(flock(other, LOCK_EX | LOCK_NB));
	/* The one that failed has lost what it had. */
	SAY(flock(fd, LOCK_EX | LOCK_NB));
	SAY(flock(same, LOCK_UN));
	SAY(flock(other, LOCK_EX | LOCK_NB));
	SAY(flock(other, LOCK_UN));
	SAY(flock(other, LOCK_UN));
	SAY(flock(other, LOCK_NB));
	SAY(flock(other, 77));
	SAY(flock(997, LOCK_SH));
	close(fd);
	close(same);
	close(other);
}

/* It ends with the last descriptor, wherever that is. */
static void lifetime(void)
{
	int fd = open("text/lines.txt", O_RDONLY), same = dup(fd), p[2];
	char c = 'x';
	pid_t pid;

	SAY(flock(fd, LOCK_EX));
	close(fd);
	SAY(elsewhere("text/lines.txt", LOCK_SH) == EWOULDBLOCK);
	close(same);
	SAY(elsewhere("text/lines.txt", LOCK_SH));
	fd = open("text/lines.txt", O_RDONLY);
	SAY(pipe(p));
	pid = fork();
	if (pid == 0) { /* the lock is the description's, so it is ours too */
		flock(fd, LOCK_EX);
		_exit(flock(fd, LOCK_EX | LOCK_NB) == 0 && write(p[1], &c, 1) == 1 ? 0 : 1);
	}
	SAY(exit_of(pid));
	SAY(flock(fd, LOCK_EX | LOCK_NB));
	SAY(elsewhere("text/lines.txt", LOCK_SH) == EWOULDBLOCK);
	close(fd);
	SAY(elsewhere("text/lines.txt", LOCK_EX));
	close(p[0]);
	close(p[1]);
}

/* Killed while it has the lock: who waits gets it. */
static void killed(void)
{
	int fd, p[2];
	char c = 'x';
	pid_t pid;

	SAY(pipe(p));
	pid = fork();
	if (pid == 0) {
		flock(open("text/lines.txt", O_RDONLY), LOCK_EX);
		if (write(p[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	SAY(read(p[0], &c, 1));
	fd = open("text/lines.txt", O_RDONLY);
	SAY(flock(fd, LOCK_SH | LOCK_NB));
	kill(pid, SIGKILL);
	SAY(exit_of(pid));
	SAY(flock(fd, LOCK_SH | LOCK_NB));
	close(fd);
	close(p[0]);
	close(p[1]);
}

static void on_alarm(int signal)
{
	(void)signal;
}

/* A wait ends with a signal, or goes on behind one. */
static void waiting(void)
{
	struct sigaction act = { .sa_handler = on_alarm };
	int fd = open("text/lines.txt", O_RDONLY), other = open("text/lines.txt", O_RDONLY), p[2];
	pid_t pid;
	char c;

	SAY(flock(fd, LOCK_EX));
	sigaction(SIGALRM, &act, NULL);
	ualarm(50000, 50000);
	SAY(flock(other, LOCK_EX));
	act.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &act, NULL);
	SAY(pipe(p));
	pid = fork();
	if (pid == 0) {
		ualarm(30000, 30000);
		close(fd);
		close(p[0]);
		_exit(flock(other, LOCK_EX) == 0 && write(p[1], "y", 1) == 1 ? 0 : 1);
	}
	usleep(200000);
	ualarm(0, 0);
	close(p[1]);
	SAY(flock(fd, LOCK_UN));
	SAY(read(p[0], &c, 1));
	SAY(exit_of(pid));
	close(p[0]);
	close(fd);
	close(other);
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	exclusion();
	lifetime();
	killed();
	waiting();
	return 0;
}
