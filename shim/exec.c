/* SPDX-License-Identifier: MIT */
/*
 * exec: the same process, another program.
 *  1. Complete its environment (env.c).
 *  2. Plan what the kernel shall run (target.c); for a file that is not ours only
 *     when markers are inherited, or when the kernel did not find its interpreter.
 *  3. Keep inherited open files alive; for a blind program, replace the markers.
 *  4. execveat.  It failed: all is as it was.
 *
 * Much of this runs in vfork children: no allocation, no table, big stack frames.
 */
#define DZ_IN_exec 1
#include "shim/exec.h"
#include "shim/env.h"
#include "shim/hooks.h"
#include "shim/inherit.h"
#include "shim/real.h"
#include "shim/target.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static long run(const struct dz_target *t, char *const envp[])
{
	if (t->flags == 0 && t->dir_fd == AT_FDCWD)
		return dz_sys_3(SYS_execve, t->path, t->argv, envp);
	return dz_sys_5(SYS_execveat, t->dir_fd, t->path, t->argv, envp, t->flags);
}

/* The path of a marker that is to be executed by descriptor; NULL when it is none. */
static const char *path_of_fd(int dir_fd, const char *path, int flags, char *buf, size_t len)
{
	dz_fh fh = dz_fd_get(dir_fd);

	if (!fh || !(flags & AT_EMPTY_PATH) || !path || *path)
		return NULL;
	return dz_path_of_fh(fh, buf, len) < 0 ? NULL : buf;
}

static int exec_planned(int dir_fd, const char *path, char *const argv[], char *const envp[],
			int flags, bool deep)
{
	struct dz_inherit in = { .n = 0 };
	struct dz_target t;
	int r = dz_target_plan(&t, dir_fd, path, argv, flags, deep);

	if (r < 0)
		return r;
	if (t.is_blind)
		dz_inherit_promote(&in);
	r = (int)run(&t, envp);
	dz_inherit_undo(&in);
	dz_target_done(&t);
	return r;
}

int dz_exec(int dir_fd, const char *path, char *const argv[], char *const envp[], int flags)
{
	char local[DZ_PATH_MAX];
	const char *ours = path_of_fd(dir_fd, path, flags, local, sizeof(local));
	struct dz_env room;
	struct dz_path p;
	bool deep;
	int r;

	if (!dz_is_on())
		return (int)(flags == 0 && dir_fd == AT_FDCWD
				     ? dz_sys_3(SYS_execve, path, argv, envp)
				     : dz_sys_5(SYS_execveat, dir_fd, path, argv, envp, flags));
	if (ours) {
		dir_fd = AT_FDCWD;
		path = ours;
		flags = 0;
	}
	envp = dz_env_for_child(envp, &room);
	deep = dz_inherit_any();
	if (deep)
		dz_inherit_keep();
	r = dz_path_at(dir_fd, path, &p);
	if (r < 0)
		return r;
	if (r == 0) /* "../../bin/true" from below a mount: the kernel gets "/bin/true" */
		r = exec_planned(p.dir_fd, p.path, argv, envp, flags, deep);
	else
		return exec_planned(dir_fd, path, argv, envp, flags, deep);
	if (dz_path_again(r, &p) && dz_path_local(p.mount, p.name, local, sizeof(local)) > 0)
		return exec_planned(AT_FDCWD, local, argv, envp, 0, deep);
	/* The file is there: its interpreter is not, for the kernel. */
	if (r == -ENOENT && !deep)
		return exec_planned(dir_fd, path, argv, envp, flags, true);
	return r;
}

DZ_DOOR(int, execve, const char *path, char *const argv[], char *const envp[])
{
	return (int)dz_ret(dz_exec(AT_FDCWD, path, argv, envp, 0));
}

DZ_DOOR(int, execv, const char *path, char *const argv[])
{
	return (int)dz_ret(dz_exec(AT_FDCWD, path, argv, environ, 0));
}

DZ_DOOR(int, execveat, int dir_fd, const char *path, char *const argv[], char *const envp[],
	int flags)
{
	return (int)dz_ret(dz_exec(dir_fd, path, argv, envp, flags));
}

DZ_DOOR(int, fexecve, int fd, char *const argv[], char *const envp[])
{
	int (*real)(int, char *const[], char *const[]) = DZ_REAL(fexecve);
	struct dz_env room;
	int r;

	if (fd < 0 || !argv || !envp)
		return (int)dz_ret(-EINVAL);
	r = dz_exec(fd, "", argv, envp, AT_EMPTY_PATH);
	if (r != -ENOSYS)
		return (int)dz_ret(r);
	return real(fd, argv, dz_env_for_child(envp, &room));
}

/* --- along $PATH --- */

/* A file without "#!" that the kernel does not know is the shell's. */
static int exec_as_script(const char *path, char *const argv[], char *const envp[])
{
	const char *vec[DZ_TARGET_ARGS];
	size_t n = 0;

	while (argv[n])
		n++;
	if (n + 2 > DZ_ARRAY_LEN(vec))
		return -E2BIG;
	vec[0] = "/bin/sh";
	vec[1] = path;
	if (n > 1)
		memcpy(vec + 2, argv + 1, (n - 1) * sizeof(*vec));
	vec[n > 0 ? n + 1 : 2] = NULL;
	return dz_exec(AT_FDCWD, vec[0], (char *const *)vec, envp, 0);
}

static int exec_or_script(const char *path, char *const argv[], char *const envp[])
{
	int r = dz_exec(AT_FDCWD, path, argv, envp, 0);

	return r == -ENOEXEC ? exec_as_script(path, argv, envp) : r;
}

/* The next directory of *list and `file` in buf; false at the end.  A name too long is skipped. */
static bool next_candidate(const char **list, const char *file, char *buf, size_t len)
{
	const char *dir = *list;
	size_t dir_len;
	int n;

	if (!dir)
		return false;
	dir_len = strcspn(dir, ":");
	*list = dir[dir_len] ? dir + dir_len + 1 : NULL;
	n = snprintf(buf, len, "%.*s%s%s", (int)dir_len, dir, dir_len ? "/" : "", file);
	if (n < 0 || (size_t)n >= len)
		buf[0] = '\0';
	return true;
}

static const char *search_path(void)
{
	const char *path = dz_config_env(environ, "PATH");

	return path ? path : "/bin:/usr/bin";
}

static bool goes_on(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -EACCES || r == -ESTALE || r == -ENODEV ||
	       r == -ETIMEDOUT || r == -ENAMETOOLONG;
}

static int exec_search(const char *file, char *const argv[], char *const envp[])
{
	const char *list = search_path();
	bool denied = false;
	char path[DZ_PATH_MAX];
	int r;

	if (!*file)
		return -ENOENT;
	if (strchr(file, '/'))
		return exec_or_script(file, argv, envp);
	if (strlen(file) > 255)
		return -ENAMETOOLONG;
	while (next_candidate(&list, file, path, sizeof(path))) {
		r = path[0] ? exec_or_script(path, argv, envp) : -ENOENT;
		denied = denied || r == -EACCES;
		if (!goes_on(r))
			return r;
	}
	return denied ? -EACCES : -ENOENT;
}

int dz_exec_find(const char *file, char *buf, size_t len)
{
	const char *list = search_path();
	struct dz_path p;
	struct dz_attr attr;
	int r;

	if (strchr(file, '/')) {
		r = snprintf(buf, len, "%s", file);
		return r < 0 || (size_t)r >= len ? -ENAMETOOLONG : 0;
	}
	while (*file && next_candidate(&list, file, buf, len)) {
		r = buf[0] ? dz_path_at(AT_FDCWD, buf, &p) : -ENOENT;
		if (r == 0)
			r = (int)dz_sys_3(SYS_faccessat, p.dir_fd, p.path, X_OK);
		else if (r > 0)
			r = dz_path_stat(&p, &attr) < 0 || !S_ISREG(attr.mode) ? -ENOENT : 0;
		if (r == 0)
			return 0;
	}
	return -ENOENT;
}

DZ_DOOR(int, execvp, const char *file, char *const argv[])
{
	return (int)dz_ret(exec_search(file, argv, environ));
}

DZ_DOOR(int, execvpe, const char *file, char *const argv[], char *const envp[])
{
	return (int)dz_ret(exec_search(file, argv, envp));
}

/* --- arguments one by one --- */

/* The list as a vector: `room`, or a mapping when it is longer (exec gives that back). */
static char **gather(const char *first, va_list args, char **room, size_t n_room)
{
	va_list again;
	char **vec = room;
	void *at;
	size_t n = 1;
	size_t i;

	va_copy(again, args);
	while (n > 0 && first && va_arg(again, char *))
		n++;
	va_end(again);
	if (n + 1 > n_room) {
		if (dz_sys_mmap(&at, NULL, (n + 1) * sizeof(*vec), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
			return NULL;
		vec = at;
	}
	vec[0] = (char *)(uintptr_t)first;
	for (i = 1; first && i < n + 1; i++)
		vec[i] = va_arg(args, char *);
	return vec;
}

DZ_DOOR(int, execl, const char *path, const char *first, ...)
{
	char *room[DZ_TARGET_ARGS];
	char **argv;
	va_list args;

	va_start(args, first);
	argv = gather(first, args, room, DZ_ARRAY_LEN(room));
	va_end(args);
	return (int)dz_ret(argv ? dz_exec(AT_FDCWD, path, argv, environ, 0) : -ENOMEM);
}

DZ_DOOR(int, execlp, const char *file, const char *first, ...)
{
	char *room[DZ_TARGET_ARGS];
	char **argv;
	va_list args;

	va_start(args, first);
	argv = gather(first, args, room, DZ_ARRAY_LEN(room));
	va_end(args);
	return (int)dz_ret(argv ? exec_search(file, argv, environ) : -ENOMEM);
}

/* The environment stands behind the NULL that ends the arguments. */
DZ_DOOR(int, execle, const char *path, const char *first, ...)
{
	char *room[DZ_TARGET_ARGS];
	char *const *envp;
	char **argv;
	va_list args;

	va_start(args, first);
	argv = gather(first, args, room, DZ_ARRAY_LEN(room));
	va_end(args);
	va_start(args, first);
	while (first && va_arg(args, char *))
		;
	envp = va_arg(args, char *const *);
	va_end(args);
	return (int)dz_ret(argv ? dz_exec(AT_FDCWD, path, argv, envp, 0) : -ENOMEM);
}

#include "shim/aliases.h"
