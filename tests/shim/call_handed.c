/* SPDX-License-Identifier: MIT */
/*
 * call_handed ROOT: a duplicate that no hook has seen is kept over the close of its
 * original, and another file gets that one's place.  However the next program comes by
 * both: what was handed to it reads, the duplicate is EBADF and never the other file.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define COPY 50

static char me[4096], stale_arg[16], fd_arg[16];
static int bad;

/* On a mount alone: the kernel reads both. */
#define IS(want, call)                                                                             \
	do {                                                                                       \
		long got_ = (long)(call);                                                          \
		if (got_ != (want)) {                                                              \
			dprintf(1, "%d: %s = %ld, not %ld\n", __LINE__, #call, got_,               \
				(long)(want));                                                     \
			bad++;                                                                     \
		}                                                                                  \
	} while (0)

/* As a program that does not call libc. */
static long raw(long nr, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
#else
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#endif
}

/* What the kernel has there, whatever a hook would say. */
static void kernels_name(int fd, char *name, size_t len)
{
	char link[64];
	long n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)name, (long)len - 1);
	name[n > 0 ? n : 0] = '\0';
}

/* Opens the other file until it has the place that the stale one had. */
static int open_in_place_of(int stale, int flags)
{
	char was[4096], is[4096];
	int i;

	kernels_name(stale, was, sizeof(was));
	for (i = 0; i < 40000; i++) {
		int fd = open("text/other.txt", O_RDONLY | flags);

		kernels_name(fd, is, sizeof(is));
		if (strcmp(was, is) == 0)
			return fd;
		close(fd);
	}
	return -1;
}

/* 0, or what is wrong: of the program that got both. */
static int look(int stale, int fd)
{
	char buf[64] = "";

	if (pread(fd, buf, 7, 0) != 7 || memcmp(buf, "another", 7) != 0)
		return 10;
	if (read(stale, buf, 8) != -1 || errno != EBADF)
		return 11;
	return lseek(stale, 0, SEEK_END) == -1 ? 0 : 12;
}

static int wait_for(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void by_exec(pid_t (*start)(void))
{
	pid_t pid = start();

	if (pid == 0) {
		execl(me, "call_handed", "look", stale_arg, fd_arg, (char *)NULL);
		_exit(99);
	}
	IS(0, wait_for(pid));
}

/* The program's descriptor is closed on exec; its duplicate in the child is not. */
static void by_spawn(int fd)
{
	char *argv[] = { "call_handed", "look", stale_arg, fd_arg, NULL };
	posix_spawn_file_actions_t fa;
	pid_t pid = -1;

	IS(0, posix_spawn(&pid, me, NULL, NULL, argv, environ));
	IS(0, wait_for(pid));
	IS(0, fcntl(fd, F_SETFD, FD_CLOEXEC));
	snprintf(fd_arg, sizeof(fd_arg), "%d", COPY);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fd, COPY);
	IS(0, posix_spawn(&pid, me, &fa, NULL, argv, environ));
	IS(0, wait_for(pid));
	posix_spawn_file_actions_destroy(&fa);
	IS(0, fcntl(fd, F_SETFD, 0));
	snprintf(fd_arg, sizeof(fd_arg), "%d", fd);
}

static void by_shell(void)
{
	char line[8192];
	FILE *p;

	snprintf(line, sizeof(line), "%s look %s %s", me, stale_arg, fd_arg);
	IS(0, system(line));
	p = popen(line, "r");
	IS(0, p ? pclose(p) : -1);
}

static void by_message(int stale, int fd)
{
	char room[CMSG_SPACE(2 * sizeof(int))] = { 0 }, byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = room,
			    .msg_controllen = sizeof(room) };
	int both[2] = { stale, fd }, s[2];
	pid_t pid;

	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(both)),
					       .cmsg_level = SOL_SOCKET,
					       .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), both, sizeof(both));
	socketpair(AF_UNIX, SOCK_STREAM, 0, s);
	IS(1, sendmsg(s[0], &m, 0));
	pid = fork();
	if (pid == 0) {
		recvmsg(s[1], &m, 0);
		memcpy(both, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(both));
		_exit(look(both[0], both[1]));
	}
	IS(0, wait_for(pid));
	close(s[0]);
	close(s[1]);
}

/* Each way with a stale duplicate of its own: one that was handed over has left its place. */
static void way(int n)
{
	int first = open("text/lines.txt", O_RDONLY);
	int stale = (int)raw(SYS_dup, first, 0, 0, 0), fd;

	close(first);
	fd = open_in_place_of(stale, 0);
	IS(1, fd >= 0);
	snprintf(stale_arg, sizeof(stale_arg), "%d", stale);
	snprintf(fd_arg, sizeof(fd_arg), "%d", fd);
	if (n == 0)
		by_exec(fork);
	else if (n == 1)
		by_spawn(fd);
	else if (n == 2)
		by_shell();
	else
		by_message(stale, fd);
	/* here nothing has changed */
	IS(0, look(stale, fd));
	close(fd);
	raw(SYS_close, stale, 0, 0, 0);
}

static void by_vfork(void)
{
	int first = open("text/lines.txt", O_RDONLY);
	int stale = (int)raw(SYS_dup, first, 0, 0, 0), fd;
	pid_t pid;

	close(first);
	fd = open_in_place_of(stale, O_CLOEXEC);
	snprintf(stale_arg, sizeof(stale_arg), "%d", stale);
	pid = vfork();
	if (pid == 0) {
		dup2(fd, 0);
		execl(me, "call_handed", "look", stale_arg, "0", (char *)NULL);
		_exit(99);
	}
	IS(0, wait_for(pid));
	IS(0, look(stale, fd));
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "look") == 0)
		return look(atoi(argv[2]), atoi(argv[3]));
	if (argc < 2 || !realpath(argv[0], me) || chdir(argv[1]) < 0)
		return 2;
	for (int n = 0; n < 4; n++)
		way(n);
	by_vfork();
	puts(bad ? "bad" : "ok");
	return bad != 0;
}
