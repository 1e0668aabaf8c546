/* SPDX-License-Identifier: MIT */
/*
 * Changes of attributes: EROFS for what exists below a mount.  utimensat with
 * nothing to set succeeds on any path, as Linux has it.
 */
#define DZ_IN_roattr 1
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "shim/hooks.h"
#include "shim/real.h"
#include "shim/rofs.h"

/* A path that only means the descriptor: fchownat(fd, "", ..., AT_EMPTY_PATH). */
static bool is_managed_fd(int fd, const char *path, int flags)
{
	return (flags & AT_EMPTY_PATH) && path && path[0] == '\0' && dz_fd_get(fd);
}

DZ_DOOR(int, chmod, const char *path, mode_t mode)
{
	return dz_ro_door(DZ_CALL_chmod, dz_ro_change, SYS_fchmodat, AT_FDCWD, path, mode, 0, 0);
}

DZ_DOOR(int, fchmod, int fd, mode_t mode)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_2(SYS_fchmod, fd, mode));
	return (int)dz_done(DZ_CALL_fchmod, -EROFS, fd, mode);
}

/* The system call has no flags: libc makes them. */
DZ_DOOR(int, fchmodat, int dir_fd, const char *path, mode_t mode, int flags)
{
	int (*libc_fchmodat)(int, const char *, mode_t, int) = DZ_REAL(fchmodat);
	struct dz_path p;
	long r = dz_path_at(dir_fd, path, &p);
	int ret;

	if (r == 0) {
		ret = libc_fchmodat(p.dir_fd, p.path, mode, flags);
		if (ret == 0 || !dz_path_again(-errno, &p))
			return ret;
	}
	return (int)dz_done(DZ_CALL_fchmodat, r < 0 ? r : dz_ro_change(&p), dir_fd, path, mode,
			    flags);
}

DZ_DOOR(int, lchmod, const char *path, mode_t mode)
{
	return door_fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
}

DZ_DOOR(int, fchownat, int dir_fd, const char *path, uid_t uid, gid_t gid, int flags)
{
	if (is_managed_fd(dir_fd, path, flags))
		return (int)dz_done(DZ_CALL_fchownat, -EROFS, dir_fd, path, uid, gid, flags);
	return dz_ro_door(DZ_CALL_fchownat, dz_ro_change, SYS_fchownat, dir_fd, path, uid, gid,
			  flags);
}

DZ_DOOR(int, chown, const char *path, uid_t uid, gid_t gid)
{
	return door_fchownat(AT_FDCWD, path, uid, gid, 0);
}

DZ_DOOR(int, lchown, const char *path, uid_t uid, gid_t gid)
{
	return door_fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

DZ_DOOR(int, fchown, int fd, uid_t uid, gid_t gid)
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(dz_sys_3(SYS_fchown, fd, uid, gid));
	return (int)dz_done(DZ_CALL_fchown, -EROFS, fd, uid, gid);
}

/* ---- times ---- */

static bool is_time(const struct timespec *t)
{
	return t->tv_nsec == UTIME_NOW || t->tv_nsec == UTIME_OMIT ||
	       (t->tv_nsec >= 0 && t->tv_nsec < 1000000000);
}

/* What Linux says of the times of something that exists on a read-only file system. */
static int times_rule(const struct timespec t[2])
{
	return t && (!is_time(&t[0]) || !is_time(&t[1])) ? -EINVAL : -EROFS;
}

static bool is_nothing(const struct timespec t[2])
{
	return t && t[0].tv_nsec == UTIME_OMIT && t[1].tv_nsec == UTIME_OMIT;
}

static int set_times(enum dz_call call, int dir_fd, const char *path, const struct timespec t[2],
		     int flags)
{
	struct dz_path p;
	long r;

	if (is_managed_fd(dir_fd, path, flags))
		return (int)dz_done(call, is_nothing(t) ? 0 : times_rule(t), dir_fd, path, t,
				    flags);
	r = dz_path_at(dir_fd, path, &p);
	if (r != 0 && is_nothing(t))
		return 0;
	if (r == 0) {
		r = dz_sys_4(SYS_utimensat, p.dir_fd, p.path, t, flags);
		if (!dz_path_again(r, &p))
			return (int)dz_ret(r);
		r = 1;
	}
	if (r > 0)
		r = dz_ro_change(&p);
	return (int)dz_done(call, r == -EROFS ? times_rule(t) : r, dir_fd, path, t, flags);
}

static int set_fd_times(enum dz_call call, int fd, const struct timespec t[2])
{
	if (!dz_fd_get(fd))
		return (int)dz_ret(fd < 0 ? -EBADF : dz_sys_4(SYS_utimensat, fd, NULL, t, 0));
	return (int)dz_done(call, is_nothing(t) ? 0 : times_rule(t), fd, t);
}

/* Microseconds out of range stay so, for the kernel or times_rule() to refuse. */
static const struct timespec *of_timeval(const struct timeval tv[2], struct timespec out[2])
{
	if (!tv)
		return NULL;
	for (int i = 0; i < 2; i++) {
		bool is_valid = tv[i].tv_usec >= 0 && tv[i].tv_usec < 1000000;

		out[i].tv_sec = tv[i].tv_sec;
		out[i].tv_nsec = is_valid ? tv[i].tv_usec * 1000 : -1;
	}
	return out;
}

DZ_DOOR(int, utimensat, int dir_fd, const char *path, const struct timespec t[2], int flags)
{
	if (!path)
		return (int)dz_ret(-EINVAL);
	return set_times(DZ_CALL_utimensat, dir_fd, path, t, flags);
}

DZ_DOOR(int, futimens, int fd, const struct timespec t[2])
{
	return set_fd_times(DZ_CALL_futimens, fd, t);
}

DZ_DOOR(int, utime, const char *path, const struct utimbuf *u)
{
	struct timespec t[2];

	if (u) {
		t[0] = (struct timespec){ .tv_sec = u->actime };
		t[1] = (struct timespec){ .tv_sec = u->modtime };
	}
	return set_times(DZ_CALL_utime, AT_FDCWD, path, u ? t : NULL, 0);
}

DZ_DOOR(int, utimes, const char *path, const struct timeval tv[2])
{
	struct timespec t[2];

	return set_times(DZ_CALL_utimes, AT_FDCWD, path, of_timeval(tv, t), 0);
}

DZ_DOOR(int, lutimes, const char *path, const struct timeval tv[2])
{
	struct timespec t[2];

	return set_times(DZ_CALL_lutimes, AT_FDCWD, path, of_timeval(tv, t), AT_SYMLINK_NOFOLLOW);
}

DZ_DOOR(int, futimes, int fd, const struct timeval tv[2])
{
	struct timespec t[2];

	return set_fd_times(DZ_CALL_futimes, fd, of_timeval(tv, t));
}

DZ_DOOR(int, futimesat, int dir_fd, const char *path, const struct timeval tv[2])
{
	struct timespec t[2];

	if (!path)
		return set_fd_times(DZ_CALL_futimesat, dir_fd, of_timeval(tv, t));
	return set_times(DZ_CALL_futimesat, dir_fd, path, of_timeval(tv, t), 0);
}

#include "shim/aliases.h"
