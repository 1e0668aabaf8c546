/* SPDX-License-Identifier: MIT */
/*
 * New processes.  A child of fork has a copy of the table, and the engine gives
 * it a record of its own that holds the same open files.  A child of vfork shares
 * the table, and only looks (vfork.S, dz_in_vfork_child).
 */
#define DZ_IN_process 1
#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/seen.h"
#include "shim/vfork.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

/* In the child: nobody else runs yet. */
static void child_begins(bool has_cookie, uint32_t cookie)
{
	dz_vforked = 0;
	if (!dz_pid)
		return;
	dz_start_again();
	if (dz_engine && has_cookie)
		dz_engine_fork_child(dz_engine, cookie);
}

long dz_fork_raw(long nr, long a, long b, long c, long d, long e)
{
	struct dz_engine *engine = dz_engine;
	uint32_t cookie = engine ? dz_engine_fork_prepare(engine) : 0;
	long pid;

	dz_seen_forget();
	pid = dz_sys_5(nr, a, b, c, d, e);

	if (pid == 0)
		child_begins(engine != NULL, cookie);
	else if (engine)
		dz_engine_fork_parent(engine, cookie, pid);
	return pid;
}

static pid_t fork_with(pid_t (*real)(void))
{
	struct dz_engine *e = dz_engine;
	uint32_t cookie = e ? dz_engine_fork_prepare(e) : 0;
	pid_t pid;

	dz_seen_forget();
	pid = real();

	if (pid == 0)
		child_begins(e != NULL, cookie);
	else if (e)
		dz_engine_fork_parent(e, cookie, pid);
	return pid;
}

static pid_t raw_fork(void)
{
	return (pid_t)dz_ret(dz_sys_5(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}

DZ_DOOR(pid_t, fork, void)
{
	pid_t (*real)(void) = DZ_REAL(fork);

	return fork_with(real);
}

/* glibc 2.34; async-signal-safe, without the handlers of pthread_atfork. */
DZ_DOOR(pid_t, _Fork, void)
{
	pid_t (*real)(void) = DZ_REAL(_Fork);

	return fork_with(real ? real : raw_fork);
}

/*
 * Before the child exists: libc's vfork is found, and the engine attached when
 * there are mounts, because a child that shares our memory cannot do it.
 */
void *dz_vfork_prepare(void)
{
	dz_seen_forget();
	dz_in_vfork_child(); /* what is left of an earlier child is forgotten */
	if (dz_is_on())
		dz_attach();
	return DZ_REAL(vfork);
}

/* --- clone --- */

struct clone_start {
	int (*fn)(void *);
	void *arg;
	uint32_t cookie;
	bool has_cookie;
};

/* A child with a copy of our memory: first what fork's child does. */
static int clone_begins(void *arg)
{
	const struct clone_start *start = arg;

	child_begins(start->has_cookie, start->cookie);
	return start->fn(start->arg);
}

typedef int clone_fn(int (*)(void *), void *, int, void *, ...);

DZ_DOOR(int, clone, int (*fn)(void *), void *stack, int flags, void *arg, pid_t *parent_tid,
	void *tls, pid_t *child_tid)
{
	clone_fn *real = (clone_fn *)DZ_REAL(clone);
	struct clone_start start = { .fn = fn, .arg = arg };
	int pid;

	if (flags & CLONE_VM) {
		dz_vforked = dz_vforked || !(flags & CLONE_THREAD);
		return real(fn, stack, flags, arg, parent_tid, tls, child_tid);
	}
	start.has_cookie = dz_engine != NULL;
	start.cookie = dz_engine ? dz_engine_fork_prepare(dz_engine) : 0;
	pid = real(fn ? clone_begins : NULL, stack, flags, &start, parent_tid, tls, child_tid);
	if (start.has_cookie)
		dz_engine_fork_parent(dz_engine, start.cookie, pid);
	return pid;
}

/* --- terminals: libc puts one on 0, 1 and 2 by calls that no door sees --- */

static void forget_stdio(void)
{
	int fd;

	for (fd = 0; fd <= 2; fd++)
		dz_fd_set(fd, 0);
}

DZ_DOOR(int, login_tty, int fd)
{
	int (*real)(int) = DZ_REAL(login_tty);
	int r = real(fd);

	if (r == 0)
		forget_stdio();
	return r;
}

DZ_DOOR(int, forkpty, int *control, char *name, const void *attr, const void *size)
{
	int (*real)(int *, char *, const void *, const void *) = DZ_REAL(forkpty);
	struct dz_engine *e = dz_engine;
	uint32_t cookie = e ? dz_engine_fork_prepare(e) : 0;
	int pid = real(control, name, attr, size);

	if (pid == 0) {
		child_begins(e != NULL, cookie);
		forget_stdio();
	} else if (e) {
		dz_engine_fork_parent(e, cookie, pid);
	}
	return pid;
}

/* --- daemon --- */

/* libc's duplicates /dev/null over 0, 1 and 2 by calls that no door sees. */
static int daemon_stdio(void)
{
	int fd = dz_sys_open("/dev/null", O_RDWR, 0);
	int to;

	if (fd < 0)
		return fd;
	for (to = 0; to <= 2; to++) {
		dz_fd_set(to, 0);
		if (fd != to)
			dz_sys_3(SYS_dup3, fd, to, 0);
	}
	return fd > 2 ? dz_sys_close(fd) : 0;
}

DZ_DOOR(int, daemon, int no_chdir, int no_close)
{
	int (*real)(int, int) = DZ_REAL(daemon);
	pid_t (*real_fork)(void) = DZ_REAL(fork);
	pid_t pid;

	if (!dz_is_on())
		return real(no_chdir, no_close);
	pid = fork_with(real_fork);
	if (pid != 0) {
		if (pid > 0)
			dz_sys_1(SYS_exit_group, 0); /* the parent's part of daemon(3) */
		return -1;
	}
	if (dz_sys_0(SYS_setsid) < 0)
		return -1;
	if (!no_chdir)
		dz_cwd_change("/");
	return no_close ? 0 : (int)dz_ret(daemon_stdio());
}

#include "shim/aliases.h"
