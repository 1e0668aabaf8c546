/* SPDX-License-Identifier: MIT */
/*
 * The virtual working directory.  The kernel cannot stand in a directory of a
 * mount, so after chdir() into one the kernel's working directory is an empty,
 * already removed directory, where every relative path that slips past us fails
 * with ENOENT, and the directory that the program means is kept here.
 *
 * States of the pair (ours, the kernel's):
 *
 *	(none, real)  --chdir into a mount-->  (mount and name, void)
 *	(mount and name, void)  --chdir out-->  (none, real)
 *
 * A vfork child changes the kernel's directory of its own and must not change
 * ours: its word is kept on its thread, and forgotten by the parent.
 *
 * A reader copies the current record and looks again whether it is still
 * current; records are taken in turn, so a reader never waits.
 */
#define DZ_IN_cwd 1
#include "shim/give.h"
#include "shim/hidden.h"
#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/seen.h"
#include "shim/vfork.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cwd {
	bool is_inside;
	uint32_t mount;
	char name[DZ_NAME_MAX + 1];
};

static struct cwd records[8];
static _Atomic uint32_t turn;
static struct cwd *_Atomic current; /* NULL: the kernel's */
static __thread struct cwd *of_vfork_child __attribute__((tls_model("initial-exec")));

void __chk_fail(void) __attribute__((noreturn));

static struct cwd *cwd_now(void)
{
	if (of_vfork_child && dz_in_vfork_child())
		return of_vfork_child;
	of_vfork_child = NULL;
	return atomic_load_explicit(&current, memory_order_acquire);
}

bool dz_cwd_is_inside(void)
{
	const struct cwd *c = cwd_now();

	return c && c->is_inside;
}

bool dz_cwd_get(uint32_t *mount, char *name)
{
	struct cwd *c;

	do {
		c = cwd_now();
		if (!c || !c->is_inside)
			return false;
		*mount = c->mount;
		memcpy(name, c->name, sizeof(c->name));
		/* Seven more changes while we copied would show us another record's bytes. */
	} while (c != cwd_now());
	name[DZ_NAME_MAX] = '\0';
	return true;
}

static void cwd_set(bool is_inside, uint32_t mount, const char *name)
{
	struct cwd *c = &records[atomic_fetch_add(&turn, 1) % DZ_ARRAY_LEN(records)];

	if (is_inside)
		dz_hot.was_inside = true;
	c->is_inside = is_inside;
	c->mount = mount;
	snprintf(c->name, sizeof(c->name), "%s", name);
	if (dz_in_vfork_child())
		of_vfork_child = c;
	else
		/* Release: pairs with the acquire in cwd_now(). */
		atomic_store_explicit(&current, c, memory_order_release);
}

/* Out: only a record of "none" in a vfork child whose parent is inside. */
static void cwd_leave(void)
{
	if (cwd_now())
		cwd_set(false, 0, "");
}

/* --- the void --- */

#define VOID_NAME ".deltazero-void."

static int void_in(const char *dir)
{
	char path[DZ_PATH_MAX];
	int fd;
	int n = snprintf(path, sizeof(path), "%s/" VOID_NAME "%d", dir, dz_sys_gettid());

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	fd = dz_sys_mkdir(path, 0700);
	if (fd < 0 && fd != -EEXIST)
		return fd;
	fd = dz_sys_open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	dz_sys_unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
	return fd;
}

int dz_cwd_void_fd(void)
{
	int fd = void_in(dz_config.shm_dir);

	if (fd < 0)
		fd = void_in("/dev/shm");
	if (fd < 0)
		fd = void_in("/tmp");
	return fd;
}

/* Stands the kernel in the void. */
static int go_void(void)
{
	int fd = dz_cwd_void_fd();
	int r;

	if (fd < 0)
		return -EACCES;
	r = (int)dz_sys_1(SYS_fchdir, fd);
	dz_sys_close(fd);
	return r;
}

static bool is_in_void(void)
{
	char path[DZ_PATH_MAX];
	long n = dz_sys_4(SYS_readlinkat, AT_FDCWD, "/proc/self/cwd", path, sizeof(path) - 1);

	if (n <= 0)
		return false;
	path[n] = '\0';
	return strstr(path, "/" VOID_NAME) != NULL;
}

void dz_cwd_start(const char *value)
{
	struct dz_path p;
	char path[DZ_PATH_MAX];

	if (value && is_in_void()) {
		if (dz_path_at(AT_FDCWD, value, &p) == 1)
			cwd_set(true, p.mount, p.name);
		return;
	}
	/* Born in a real directory that a mount covers: it is hidden, as below a real mount. */
	if (dz_sys_2(SYS_getcwd, path, sizeof(path)) > 0 && dz_path_at(AT_FDCWD, path, &p) == 1 &&
	    go_void() == 0)
		cwd_set(true, p.mount, p.name);
}

const char *dz_cwd_env(char *buf, size_t len)
{
	char name[DZ_NAME_MAX + 1];
	uint32_t mount;
	int n;

	if (!dz_cwd_get(&mount, name))
		return NULL;
	n = snprintf(buf, len, "DELTAZERO_CWD=");
	if (n < 0 || dz_path_local(mount, name, buf + n, len - (size_t)n) < 0)
		return NULL;
	return buf;
}

/* --- doors --- */

static int enter(const struct dz_path *p)
{
	struct dz_attr attr;
	int r = dz_path_stat(p, &attr);

	if (r < 0)
		return r;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	r = go_void();
	if (r == 0)
		cwd_set(true, p->mount, p->name);
	return r;
}

/* The kernel's answer to a change of directory; true when it went where a mount is: into *p. */
static bool went_out(long r, struct dz_path *p)
{
	if (r < 0 || !dz_is_on())
		return false;
	dz_seen_forget(); /* of relative paths */
	if (dz_hidden_fd(AT_FDCWD, p))
		return true;
	cwd_leave();
	return false;
}

int dz_cwd_change(const char *path)
{
	struct dz_path p;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = dz_sys_1(SYS_chdir, p.path);
		if (!went_out(r, &p) && !dz_path_again(r, &p))
			return (int)r;
		r = 1;
	}
	return r < 0 ? (int)r : enter(&p);
}

DZ_DOOR(int, chdir, const char *path)
{
	return (int)dz_ret(dz_cwd_change(path));
}

static int fchdir_ours(dz_fh fh)
{
	struct dz_path p;
	int r = dz_engine_name(dz_engine, fh, &p.mount, p.name);

	p.len = r < 0 ? 0 : (uint32_t)strlen(p.name);
	p.wants_dir = true;
	return r < 0 ? r : enter(&p);
}

DZ_DOOR(int, fchdir, int fd)
{
	dz_fh fh = dz_fd_get(fd);
	struct dz_path p;
	long r;

	if (fh)
		return (int)dz_done(DZ_CALL_fchdir, fchdir_ours(fh), fd);
	r = dz_sys_1(SYS_fchdir, fd);
	if (went_out(r, &p))
		return (int)dz_done(DZ_CALL_fchdir, enter(&p), fd);
	return (int)dz_ret(r);
}

/* The virtual directory's path with its NUL: bytes, 0 when it is the kernel's, -errno. */
static int virtual_path(char *buf, size_t len)
{
	char name[DZ_NAME_MAX + 1];
	uint32_t mount;
	int n;

	if (!dz_is_on() || !dz_cwd_get(&mount, name))
		return 0;
	n = dz_path_local(mount, name, buf, len);
	return n < 0 ? -ERANGE : n + 1;
}

/* The system call: bytes with the NUL, or -errno. */
long dz_cwd_syscall(char *buf, size_t len)
{
	int n = virtual_path(buf, len);

	return n != 0 ? n : dz_sys_2(SYS_getcwd, buf, len);
}

DZ_DOOR(char *, getcwd, char *buf, size_t len)
{
	char *(*real)(char *, size_t) = DZ_REAL(getcwd);
	char path[DZ_PATH_MAX];
	int n = virtual_path(path, sizeof(path));

	if (n == 0)
		return real(buf, len);
	if (n > 0 && buf && len == 0)
		n = -EINVAL;
	else if (n > 0 && len > 0 && (size_t)n > len)
		n = -ERANGE;
	if (n < 0) {
		dz_done(DZ_CALL_getcwd, n, buf, len);
		return NULL;
	}
	return buf ? memcpy(buf, path, (size_t)n) : dz_give(path, len ? len : (size_t)n);
}

DZ_DOOR(char *, __getcwd_chk, char *buf, size_t len, size_t room)
{
	if (len > room)
		__chk_fail();
	return door_getcwd(buf, len);
}

DZ_DOOR(char *, getwd, char *buf)
{
	if (!buf) {
		errno = EINVAL;
		return NULL;
	}
	return door_getcwd(buf, PATH_MAX);
}

DZ_DOOR(char *, __getwd_chk, char *buf, size_t room)
{
	char *(*real)(char *, size_t) = DZ_REAL(__getwd_chk);
	char path[DZ_PATH_MAX];
	int n = virtual_path(path, sizeof(path));

	if (n == 0)
		return real(buf, room);
	if (n > 0 && (size_t)n > room)
		__chk_fail();
	return door_getwd(buf);
}

DZ_DOOR(char *, get_current_dir_name, void)
{
	char *(*real)(void) = DZ_REAL(get_current_dir_name);
	char path[DZ_PATH_MAX];
	int n = virtual_path(path, sizeof(path));

	return n <= 0 ? real() : dz_give(path, (size_t)n);
}

/* A root of ours cannot be had: EPERM, where the kernel would not find an error of the name. */
static int refuse_root(struct dz_path *p)
{
	struct dz_attr attr;
	int r;

	p->wants_dir = true;
	r = dz_path_stat(p, &attr);
	return r < 0 ? r : -EPERM;
}

/* Below a new root our mounts' paths would mean something else: none of them is there. */
DZ_DOOR(int, chroot, const char *path)
{
	struct dz_path p;
	int r = dz_path_at(AT_FDCWD, path, &p);

	if (r != 0)
		return (int)dz_bypass(DZ_CALL_chroot, r < 0 ? r : refuse_root(&p), path);
	r = (int)dz_sys_1(SYS_chroot, p.path);
	if (r == 0 && !dz_in_vfork_child())
		dz_stop();
	return (int)dz_ret(r);
}

#include "shim/aliases.h"
