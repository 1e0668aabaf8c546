/* SPDX-License-Identifier: MIT */
/*
 * call_programs ROOT: every way to start a process or a program, with a file of the
 * tree as its standard input, its working directory or its argument.
 */
#include "say.h"

#include "by_name.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

extern char **environ;

static char *const head[] = { (char *)"head", (char *)"-n", (char *)"1", NULL };
static char buf[4096];

static int wait_for(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int read_in_child(void *arg)
{
	_exit(read(*(int *)arg, buf, 10) == 10 ? 17 : 1);
}

/* The position moves on by what each child reads. */
static void forks(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int fd = open("text/lines.txt", O_RDONLY);
	pid_t pid;

	pid = BY_NAME(__fork, fork)();
	if (pid == 0)
		read_in_child(&fd);
	SAY(wait_for(pid));
	pid = BY_NAME(_Fork, fork)();
	if (pid == 0)
		read_in_child(&fd);
	SAY(wait_for(pid));
	pid = BY_NAME(__clone, clone)(read_in_child, stack + sizeof(stack), SIGCHLD, &fd);
	SAY(wait_for(pid));
	SAY(lseek(fd, 0, SEEK_CUR));
	close(fd);
}

/* A function of its own: what vfork's caller had in registers, the child may change. */
static __attribute__((noinline)) pid_t start_by_vfork(int fd)
{
	pid_t (*other_vfork)(void) = BY_NAME(__vfork, vfork);
	pid_t pid = other_vfork();

	if (pid == 0) {
		dup2(fd, 0);
		close(fd);
		execv("/usr/bin/head", head);
		_exit(127);
	}
	return pid;
}

static void vforks(void)
{
	int fd = open("text/other.txt", O_RDONLY);

	SAY(wait_for(start_by_vfork(fd)));
	SAY(lseek(fd, 0, SEEK_SET));
	SAY(read(fd, buf, 3));
	close(fd);
}

static void exec_0(void)
{
	execv("/usr/bin/head", head);
}

static void exec_1(void)
{
	execvpe("head", head, environ);
}

static void exec_2(void)
{
	char *const none[] = { NULL };

	execle("/usr/bin/head", "head", "-n", "2", (char *)NULL, none);
}

static void exec_3(void)
{
	syscall(SYS_execveat, open("/usr/bin", O_PATH), "head", head, environ, 0);
}

static void exec_4(void)
{
	execveat(open("/usr/bin", O_PATH), "head", head, environ, 0);
}

static void exec_5(void)
{
	fexecve(open("/usr/bin/head", O_RDONLY | O_CLOEXEC), head, environ);
}

static void exec_6(void)
{
	execv("/usr/bin/none", head);
	_exit(errno);
}

static void exec_7(void)
{
	execvpe("no-such-program", head, environ);
	_exit(errno);
}

/* No program: here it is not executable, there not in a format that is known. */
static void exec_8(void)
{
	execv("text/lines.txt", head);
}

static void exec_9(void)
{
	fexecve(open("text/lines.txt", O_RDONLY), head, environ);
}

static void exec_a(void)
{
	execvp("head", head);
}

static void execs(void)
{
	static void (*const ways[])(void) = { exec_0, exec_1, exec_2, exec_3, exec_4, exec_5,
					      exec_6, exec_7, exec_8, exec_9, exec_a };
	char name[] = "exec_0";
	pid_t pid;

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		name[5] = "0123456789a"[i];
		dprintf(1, "%s\n", name);
		pid = fork();
		if (pid == 0) {
			dup2(open("text/other.txt", O_RDONLY), 0);
			ways[i]();
			_exit(126);
		}
		SAY(wait_for(pid));
	}
}

static int wait_pidfd(int fd)
{
	siginfo_t info = { .si_status = -1 };

	waitid(P_PIDFD, (id_t)fd, &info, WEXITED);
	close(fd);
	return info.si_status;
}

/* glibc 2.39; an older one has the same by posix_spawn. */
static int like_pidfd_spawn(int *fd, const char *path, const posix_spawn_file_actions_t *fa,
			    const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	pid_t pid;
	int r = posix_spawnp(&pid, path, fa, attr, argv, envp);

	*fd = r ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	return r;
}

static int spawn_head(bool search, const char *path, const posix_spawn_file_actions_t *fa)
{
	int fd = -1;
	int r = (search ? BY_NAME(pidfd_spawnp, like_pidfd_spawn)
			: BY_NAME(pidfd_spawn, like_pidfd_spawn))(&fd, path, fa, NULL, head,
								  environ);

	if (r == ENOSYS) /* the library has the name, the libc behind it not */
		r = like_pidfd_spawn(&fd, path, fa, NULL, head, environ);
	return r ? 1000 + r : wait_pidfd(fd);
}

/* The status is said when the child's own words are out. */
static int spawn(const char *path, const posix_spawn_file_actions_t *fa, char *const argv[])
{
	pid_t pid;
	int r = posix_spawn(&pid, path, fa, NULL, argv, environ);

	return r ? 1000 + r : wait_for(pid);
}

static void spawns(void)
{
	char *pwd[] = { (char *)"pwd", NULL };
	posix_spawn_file_actions_t fa;
	int dir = open("tree/deep", O_RDONLY | O_DIRECTORY);

	posix_spawn_file_actions_init(&fa);
	SAY(posix_spawn_file_actions_addfchdir_np(&fa, dir));
	SAY(spawn("/bin/pwd", &fa, pwd));
	SAY(posix_spawn_file_actions_addopen(&fa, 0, "../../text/other.txt", O_RDONLY, 0));
	SAY(spawn_head(false, "/usr/bin/head", &fa));
	SAY(spawn_head(true, "head", &fa));
	SAY(spawn_head(true, "no-such-program", &fa));
	posix_spawn_file_actions_destroy(&fa);
	close(dir);
}

/* The child's standard input is a copy of ours, which moves on by what it reads. */
static void spawns_with_a_copy(void)
{
	char *const one[] = { (char *)"head", (char *)"-c", (char *)"5", NULL };
	int fd = open("text/lines.txt", O_RDONLY);
	posix_spawn_file_actions_t fa;

	posix_spawn_file_actions_init(&fa);
	SAY(posix_spawn_file_actions_adddup2(&fa, fd, 0));
	SAY(spawn("/usr/bin/head", &fa, one));
	SAY(lseek(fd, 7, SEEK_SET));
	SAY(spawn("/usr/bin/head", &fa, one));
	SAY(read(fd, buf, 10));
	SAY(say_sum(buf, 10));
	posix_spawn_file_actions_destroy(&fa);
	close(fd);
}

/* sh says of each of these what it is to the child. */
static char *const look[] = { (char *)"sh", (char *)"-c",
			      (char *)"head -n 1 <&9; head -n 1 <&8; head -n 1 <&7; head -c 5",
			      NULL };

/* What an action closes is closed in the child alone; the other way round, what it keeps. */
static void spawns_that_close(void)
{
	int fd = open("text/lines.txt", O_RDONLY), other = open("text/other.txt", O_RDONLY);

	for (int i = 0; i < 3; i++) {
		posix_spawn_file_actions_t fa;

		posix_spawn_file_actions_init(&fa);
		posix_spawn_file_actions_adddup2(&fa, fd, 9);
		posix_spawn_file_actions_adddup2(&fa, other, 8);
		posix_spawn_file_actions_adddup2(&fa, fd, 7);
		posix_spawn_file_actions_addopen(&fa, 0, "text/lines.txt", O_RDONLY, 0);
		if (i == 0)
			SAY(posix_spawn_file_actions_addclose(&fa, 9));
		else if (i == 1)
			SAY(posix_spawn_file_actions_addclosefrom_np(&fa, 8));
		SAY(spawn("/bin/sh", &fa, look));
		SAY(lseek(fd, 0, SEEK_SET));
		SAY(lseek(other, 0, SEEK_SET));
		posix_spawn_file_actions_destroy(&fa);
	}
	close(fd);
	close(other);
}

/* The flags of close_range: closed by exec, or in a table of one's own. */
static void exec_of_a_range(unsigned int flags)
{
	int other = open("text/other.txt", O_RDONLY);
	pid_t pid = fork();

	if (pid == 0) {
		dup2(open("text/lines.txt", O_RDONLY), 9);
		dup2(other, 8);
		dup2(other, 7);
		dup2(9, 0);
		SAY(close_range(8, 9, (int)flags));
		SAY(fcntl(9, F_GETFD));
		SAY(read(8, buf, 3));
		SAY(read(7, buf, 3));
		execv("/bin/sh", look);
		_exit(126);
	}
	SAY(wait_for(pid));
	SAY(lseek(other, 0, SEEK_CUR));
	close(other);
}

/* A path is that of the directory in which the child stands by then. */
static void spawns_elsewhere(void)
{
	char *cat[] = { (char *)"cat", NULL }, *pwd[] = { (char *)"pwd", NULL };
	posix_spawn_file_actions_t fa;
	int dir;

	posix_spawn_file_actions_init(&fa);
	SAY(posix_spawn_file_actions_addchdir_np(&fa, "tree"));
	SAY(posix_spawn_file_actions_addchdir_np(&fa, "deep/er"));
	SAY(posix_spawn_file_actions_addopen(&fa, 0, "../../z.html", O_RDONLY, 0));
	SAY(spawn("/bin/cat", &fa, cat));
	SAY(spawn("/bin/pwd", &fa, pwd));
	SAY(posix_spawn_file_actions_addchdir_np(&fa, "/usr"));
	SAY(posix_spawn_file_actions_addopen(&fa, 0, "text/lines.txt", O_RDONLY, 0));
	SAY(spawn("/bin/cat", &fa, cat));
	posix_spawn_file_actions_destroy(&fa);
	posix_spawn_file_actions_init(&fa);
	dir = open("/usr", O_RDONLY | O_DIRECTORY);
	SAY(posix_spawn_file_actions_addfchdir_np(&fa, dir));
	SAY(posix_spawn_file_actions_addopen(&fa, 0, "text/lines.txt", O_RDONLY, 0));
	SAY(spawn("/bin/cat", &fa, cat));
	posix_spawn_file_actions_destroy(&fa);
	posix_spawn_file_actions_init(&fa);
	SAY(posix_spawn_file_actions_addfchdir_np(&fa, dir));
	SAY(posix_spawn_file_actions_addchdir_np(&fa, "bin"));
	SAY(spawn("./pwd", &fa, pwd));
	posix_spawn_file_actions_destroy(&fa);
	close(dir);
}

/* --- terminals and daemons --- */

/* Standard input was a file; now it is a terminal, and other files go on. */
static void terminals(void)
{
	int fd = open("text/lines.txt", O_RDONLY), control = -1, tty = -1;
	pid_t pid = forkpty(&control, NULL, NULL, NULL);

	if (pid == 0)
		_exit(isatty(0) && read(fd, buf, 10) == 10 ? 17 : 1);
	SAY(wait_for(pid));
	SAY(close(control));
	SAY(openpty(&control, &tty, NULL, NULL, NULL));
	pid = fork();
	if (pid == 0) {
		dup2(fd, 0);
		_exit(setsid() > 0 && login_tty(tty) == 0 && isatty(0) && read(fd, buf, 10) == 10
			      ? 17
			      : 1);
	}
	SAY(wait_for(pid));
	SAY(lseek(fd, 0, SEEK_CUR));
	close(tty);
	close(control);
	close(fd);
}

/* What the daemon found: its standard input, its directory, its file. */
static void daemon_says(int to, int fd)
{
	long n = read(fd, buf, 10);
	char said[200], dir[100];

	n = snprintf(said, sizeof(said), "daemon: in %s, read %ld, input %ld", getcwd(dir, 100), n,
		     (long)read(0, buf, 10));
	_exit(write(to, said, (size_t)n) != n);
}

static void daemons(void)
{
	for (int stay = 0; stay < 2; stay++) {
		int fd = open("text/lines.txt", O_RDONLY), p[2];
		pid_t pid;

		SAY(pipe(p));
		pid = fork();
		if (pid == 0) {
			dup2(fd, 0);
			if (daemon(stay, stay) == 0)
				daemon_says(p[1], fd);
			_exit(99);
		}
		SAY(wait_for(pid));
		close(p[1]);
		memset(buf, 0, sizeof(buf));
		SAY(read(p[0], buf, sizeof(buf)) > 0);
		dprintf(1, "%s\n", buf);
		close(p[0]);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) < 0)
		return 2;
	forks();
	vforks();
	execs();
	spawns();
	spawns_with_a_copy();
	spawns_that_close();
	exec_of_a_range(CLOSE_RANGE_CLOEXEC);
	exec_of_a_range(CLOSE_RANGE_UNSHARE);
	spawns_elsewhere();
	terminals();
	daemons();
	return 0;
}
