/* SPDX-License-Identifier: MIT */
/*
 * posix_spawn and system.  Libc's child works by calls that no door sees, so what
 * it shall do with a mount is prepared here, in the parent:
 *
 *  - a file action that opens a path of a mount opens it now, close-on-exec, and
 *    becomes "duplicate that descriptor"; each spawn gets a fresh open file;
 *  - one that enters a directory of a mount becomes "enter the empty directory",
 *    and the child learns the rest from DELTAZERO_CWD;
 *  - a descriptor of ours that one duplicates is made ready for the new program;
 *  - one that enters any other is remembered, for the relative paths behind it;
 *  - the program itself is planned as for exec.
 *
 * What was prepared belongs to a file-actions object, known by its address, and
 * goes with its destroy (or next init).
 */
#define DZ_IN_spawn 1
#include "shim/env.h"
#include "shim/exec.h"
#include "shim/hooks.h"
#include "shim/inherit.h"
#include "shim/real.h"
#include "shim/seen.h"
#include "shim/target.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef posix_spawn_file_actions_t actions_t;

enum action_kind { ACTION_OPEN, ACTION_DUP, ACTION_CHDIR, ACTION_ELSEWHERE };

/* A descriptor of ours that a file-actions object refers to. */
struct action {
	_Atomic(const void *) owner; /* NULL: free */
	enum action_kind kind;
	/* The file, or the directory that is meant (-1 unknown); DUP: the program's own. */
	int fd;
	int void_fd;	/* CHDIR: where the kernel goes */
	uint32_t order; /* among the actions of its owner */
};

static struct action actions[256];
static _Atomic uint32_t last_order;

static struct action *action_take(const void *owner)
{
	uint32_t i;

	for (i = 0; i < DZ_ARRAY_LEN(actions); i++) {
		const void *none = NULL;

		if (atomic_compare_exchange_strong(&actions[i].owner, &none, owner)) {
			actions[i].order = ++last_order;
			return &actions[i];
		}
	}
	return NULL;
}

static void action_give(struct action *a)
{
	if (a->fd >= 0 && a->kind != ACTION_DUP)
		dz_fd_close(a->fd);
	if (a->void_fd >= 0)
		dz_sys_close(a->void_fd);
	a->fd = a->void_fd = -1;
	a->owner = NULL;
}

static void actions_forget(const void *owner)
{
	uint32_t i;

	for (i = 0; i < DZ_ARRAY_LEN(actions); i++)
		if (actions[i].owner == owner)
			action_give(&actions[i]);
}

/* The child's last change of directory, NULL when it makes none. */
static const struct action *action_last_chdir(const void *owner)
{
	const struct action *last = NULL;
	uint32_t i;

	for (i = 0; owner && i < DZ_ARRAY_LEN(actions); i++) {
		const struct action *a = &actions[i];

		if (a->owner == owner && a->kind >= ACTION_CHDIR &&
		    (!last || (int32_t)(a->order - last->order) > 0))
			last = a;
	}
	return last;
}

/* Where the child's relative paths begin; -1 when nobody knows. */
static int action_base(const void *owner)
{
	const struct action *last = dz_is_on() ? action_last_chdir(owner) : NULL;

	return last ? last->fd : AT_FDCWD;
}

/* As dz_path_at() in the child. */
static int action_path(const void *owner, const char *path, struct dz_path *p)
{
	int base = action_base(owner);

	p->dir_fd = base;
	p->path = path;
	return base == -1 && path[0] != '/' ? 0 : dz_path_at(base, path, p);
}

/* A high descriptor: the low numbers are what the other actions speak of. */
static int open_high(const struct dz_path *p, int flags)
{
	int fd = dz_fd_open(p, flags | O_CLOEXEC);
	dz_fh fh;
	int high;

	if (fd < 0)
		return fd;
	fh = dz_fd_get(fd);
	high = (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 256);
	if (high < 0)
		return fd;
	if (dz_fd_set(high, fh) < 0) {
		dz_sys_close(high);
		return fd;
	}
	dz_fd_close(fd);
	return high;
}

/* 0 with the action's descriptor, or a positive error as these functions return it. */
static int action_make(const void *owner, const struct dz_path *p, int flags, enum action_kind kind,
		       struct action **out)
{
	struct action *a = action_take(owner);
	int fd;

	if (!a)
		return ENOMEM;
	a->kind = kind;
	a->fd = a->void_fd = -1;
	fd = open_high(p, flags);
	if (fd < 0) {
		action_give(a);
		return -fd;
	}
	a->fd = fd;
	*out = a;
	return 0;
}

static int open_dir(int base, const char *path)
{
	return (int)dz_sys_4(SYS_openat, base, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
}

/* A directory that is not ours: `fd` is given away. */
static void action_note(const void *owner, int fd)
{
	int high = fd < 0 ? -1 : (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 256);
	struct action *a = action_take(owner);

	if (high >= 0) {
		dz_sys_close(fd);
		fd = high;
	}
	if (!a) {
		dz_sys_close(fd);
		return;
	}
	a->kind = ACTION_ELSEWHERE;
	a->fd = fd;
	a->void_fd = -1;
}

DZ_DOOR(int, posix_spawn_file_actions_init, actions_t *fa)
{
	int (*real)(actions_t *) = DZ_REAL(posix_spawn_file_actions_init);

	if (dz_is_on())
		actions_forget(fa);
	return real(fa);
}

DZ_DOOR(int, posix_spawn_file_actions_destroy, actions_t *fa)
{
	int (*real)(actions_t *) = DZ_REAL(posix_spawn_file_actions_destroy);

	if (dz_is_on())
		actions_forget(fa);
	return real(fa);
}

/* An open that must fail is left to libc: spawn reports it when the child tries. */
DZ_DOOR(int, posix_spawn_file_actions_addopen, actions_t *fa, int fd, const char *path, int flags,
	mode_t mode)
{
	int (*real)(actions_t *, int, const char *, int, mode_t) =
		DZ_REAL(posix_spawn_file_actions_addopen);
	int (*real_dup)(actions_t *, int, int) = DZ_REAL(posix_spawn_file_actions_adddup2);
	struct dz_path p;
	struct action *a;
	int saved = errno;
	int r = action_path(fa, path, &p);

	if (r <= 0)
		return real(fa, fd, r == 0 ? p.path : path, flags, mode);
	r = action_make(fa, &p, flags, ACTION_OPEN, &a);
	dz_done(DZ_CALL_posix_spawn_file_actions_addopen, -r, fa, fd, path, flags, mode);
	errno = saved;
	return r == 0 ? real_dup(fa, a->fd, fd) : real(fa, fd, path, flags, mode);
}

DZ_DOOR(int, posix_spawn_file_actions_adddup2, actions_t *fa, int fd, int copy)
{
	int (*real)(actions_t *, int, int) = DZ_REAL(posix_spawn_file_actions_adddup2);
	struct action *a = dz_fd_get(fd) ? action_take(fa) : NULL;
	int saved = errno;

	if (a) {
		a->kind = ACTION_DUP;
		a->fd = fd;
		a->void_fd = -1;
		dz_done(DZ_CALL_posix_spawn_file_actions_adddup2, 0, fa, fd, copy);
		errno = saved;
	}
	return real(fa, fd, copy);
}

static int add_chdir(actions_t *fa, const struct dz_path *p)
{
	int (*real)(actions_t *, int) = DZ_REAL(posix_spawn_file_actions_addfchdir_np);
	struct action *a;
	int r = real ? action_make(fa, p, O_RDONLY | O_DIRECTORY, ACTION_CHDIR, &a) : ENOSYS;

	if (r != 0)
		return r;
	a->void_fd = dz_cwd_void_fd();
	return a->void_fd < 0 ? -a->void_fd : real(fa, a->void_fd);
}

DZ_DOOR(int, posix_spawn_file_actions_addchdir_np, actions_t *fa, const char *path)
{
	int (*real)(actions_t *, const char *) = DZ_REAL(posix_spawn_file_actions_addchdir_np);
	struct dz_path p;
	int r = action_path(fa, path, &p);

	if (r > 0)
		return add_chdir(fa, &p) == 0 ? 0 : real(fa, path);
	if (r == 0 && dz_is_on())
		action_note(fa, open_dir(p.dir_fd, p.path));
	return real(fa, r == 0 ? p.path : path);
}

DZ_DOOR(int, posix_spawn_file_actions_addfchdir_np, actions_t *fa, int fd)
{
	int (*real)(actions_t *, int) = DZ_REAL(posix_spawn_file_actions_addfchdir_np);
	dz_fh fh = dz_fd_get(fd);
	struct dz_path p;

	if (!fh || dz_engine_name(dz_engine, fh, &p.mount, p.name) < 0) {
		if (dz_is_on())
			action_note(fa, (int)dz_sys_3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0));
		return real(fa, fd);
	}
	p.len = (uint32_t)strlen(p.name);
	p.wants_dir = true;
	return add_chdir(fa, &p);
}

/* --- spawning --- */

/* A fresh open file at offset 0 under the number that the file action names. */
static void action_renew(const struct action *a)
{
	struct dz_path p;
	int fd;

	if (dz_engine_name(dz_engine, dz_fd_get(a->fd), &p.mount, p.name) < 0)
		return;
	p.len = (uint32_t)strlen(p.name);
	p.wants_dir = false;
	fd = dz_fd_open(&p, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (dz_sys_3(SYS_dup3, fd, a->fd, O_CLOEXEC) >= 0)
		dz_fd_set(a->fd, dz_fd_get(fd));
	dz_fd_close(fd);
}

/* Renews what is opened; the working directory in `cwd` (else ""). */
static void actions_prepare(const void *owner, char *cwd, size_t len)
{
	const struct action *last = action_last_chdir(owner);
	int n = snprintf(cwd, len, "DELTAZERO_CWD=");
	uint32_t i;

	for (i = 0; owner && i < DZ_ARRAY_LEN(actions); i++) {
		const struct action *a = &actions[i];

		if (a->owner != owner || a->kind == ACTION_ELSEWHERE)
			continue;
		if (a->kind == ACTION_OPEN)
			action_renew(a);
		if (dz_fd_get(a->fd))
			dz_fd_hand_over(a->fd, dz_fd_get(a->fd));
	}
	if (!last || last->kind != ACTION_CHDIR ||
	    dz_path_of_fh(dz_fd_get(last->fd), cwd + n, len - (size_t)n) < 0)
		cwd[0] = '\0';
}

typedef int spawn_fn(pid_t *, const char *, const actions_t *, const posix_spawnattr_t *,
		     char *const[], char *const[]);

/* What is started, however it was looked up.  0 or a positive error. */
static int spawn(spawn_fn *real, pid_t *pid, const char *path, const actions_t *fa,
		 const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	struct dz_inherit in = { .n = 0 };
	struct dz_target t;
	struct dz_env room;
	char cwd[DZ_CWD_BYTES];
	char by_fd[40];
	int base;
	int r;

	dz_seen_forget();
	if (dz_engine)
		actions_prepare(fa, cwd, sizeof(cwd));
	else
		cwd[0] = '\0';
	base = action_base(fa);
	r = dz_target_plan(&t, base == -1 ? AT_FDCWD : base, path, argv, 0, true);
	if (r < 0)
		return -r;
	if (t.fd >= 0) {
		snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", t.fd);
		t.path = by_fd;
	}
	if (t.is_blind)
		dz_inherit_promote(&in);
	else
		dz_inherit_keep();
	r = real(pid, t.path, fa, attr, t.argv, dz_env_for_cwd(envp, cwd[0] ? cwd : NULL, &room));
	dz_inherit_undo(&in);
	dz_target_done(&t);
	return r;
}

DZ_DOOR(int, posix_spawn, pid_t *pid, const char *path, const actions_t *fa,
	const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawn_fn *real = (spawn_fn *)DZ_REAL(posix_spawn);

	if (!dz_is_on())
		return real(pid, path, fa, attr, argv, envp);
	return spawn(real, pid, path, fa, attr, argv, envp);
}

/* Libc would look along $PATH in the child; we look here, a mount may be on it. */
DZ_DOOR(int, posix_spawnp, pid_t *pid, const char *file, const actions_t *fa,
	const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawn_fn *real = (spawn_fn *)DZ_REAL(posix_spawnp);
	char path[DZ_PATH_MAX];

	if (!dz_is_on())
		return real(pid, file, fa, attr, argv, envp);
	/* A path with a slash is not looked up, but a script without "#!" still is the shell's. */
	if (dz_exec_find(file, path, sizeof(path)) < 0)
		return spawn(real, pid, file, fa, attr, argv, envp);
	return spawn(real, pid, path, fa, attr, argv, envp);
}

/* glibc 2.39: the same with a descriptor of the process in the place of its number. */
DZ_DOOR(int, pidfd_spawn, int *pidfd, const char *path, const actions_t *fa,
	const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawn_fn *real = (spawn_fn *)DZ_REAL(pidfd_spawn);

	if (!real)
		return ENOSYS;
	if (!dz_is_on())
		return real(pidfd, path, fa, attr, argv, envp);
	return spawn(real, pidfd, path, fa, attr, argv, envp);
}

DZ_DOOR(int, pidfd_spawnp, int *pidfd, const char *file, const actions_t *fa,
	const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawn_fn *real = (spawn_fn *)DZ_REAL(pidfd_spawnp);
	char path[DZ_PATH_MAX];

	if (!real)
		return ENOSYS;
	if (!dz_is_on())
		return real(pidfd, file, fa, attr, argv, envp);
	if (dz_exec_find(file, path, sizeof(path)) < 0)
		return spawn(real, pidfd, file, fa, attr, argv, envp);
	return spawn(real, pidfd, path, fa, attr, argv, envp);
}

/* --- system --- */

static int wait_for(pid_t pid)
{
	int status;
	long r;

	do
		r = dz_block_4(SYS_wait4, pid, &status, 0, NULL);
	while (r == -EINTR);
	return r < 0 ? -1 : status;
}

/* `sh -c command` with the signal mask that the caller has. */
static int run_shell(const char *command, const sigset_t *mask)
{
	spawn_fn *real = (spawn_fn *)DZ_REAL(posix_spawn);
	char *argv[] = { (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
			 (char *)(uintptr_t)command, NULL };
	posix_spawnattr_t attr;
	pid_t pid;
	int r;

	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, mask);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = spawn(real, &pid, "/bin/sh", NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	return r == 0 ? wait_for(pid) : 127 << 8;
}

/* A Ctrl-C meanwhile was the shell's alone: libc ignores it, we take it off the queue. */
static void discard_pending(void)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	while (dz_sys_4(SYS_rt_sigtimedwait, &set, NULL, &now, 8) > 0)
		;
}

/*
 * Libc's own does, but for a program in a virtual working directory, whose shell
 * must learn of it, and for inherited files of ours.  SIGINT and SIGQUIT are held
 * back by the mask, where libc ignores them: no handler is exchanged.
 */
DZ_DOOR(int, system, const char *command)
{
	int (*real)(const char *) = DZ_REAL(system);
	char cwd[DZ_CWD_BYTES];
	sigset_t held;
	sigset_t old;
	int status;

	dz_seen_forget();
	if (!command || !dz_is_on() || (!dz_inherit_any() && !dz_cwd_env(cwd, sizeof(cwd))))
		return real(command);
	sigemptyset(&held);
	sigaddset(&held, SIGCHLD);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGQUIT);
	sigprocmask(SIG_BLOCK, &held, &old);
	status = run_shell(command, &old);
	discard_pending();
	sigprocmask(SIG_SETMASK, &old, NULL);
	return status;
}

#include "shim/aliases.h"
