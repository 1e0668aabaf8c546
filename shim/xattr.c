/* SPDX-License-Identifier: MIT */
/* Extended attributes: a managed file has none, and gets none. */
#define DZ_IN_xattr 1
#include <fcntl.h>
#include <sys/xattr.h>

#include "shim/hooks.h"
#include "shim/rofs.h"

/* What the kernel is asked when the path is not ours: number and arguments behind the path. */
struct xattr_call {
	uint32_t call;
	long nr;
	long a, b, c, d;
	int answer; /* for a name that exists below a mount */
};

static long xattr_path(const char *path, const struct xattr_call *x)
{
	struct dz_attr attr;
	struct dz_path p;
	long r = dz_path_at(AT_FDCWD, path, &p);

	if (r == 0) {
		r = dz_sys_5(x->nr, p.path, x->a, x->b, x->c, x->d);
		if (!dz_path_again(r, &p))
			return dz_ret(r);
		r = 1;
	}
	if (r > 0)
		r = dz_path_stat(&p, &attr);
	return dz_done(x->call, r < 0 ? r : x->answer, path, x->a, x->b, x->c, x->d);
}

static long xattr_fd(int fd, const struct xattr_call *x)
{
	if (!dz_fd_get(fd))
		return dz_ret(dz_sys_5(x->nr, fd, x->a, x->b, x->c, x->d));
	return dz_done(x->call, x->answer, fd, x->a, x->b, x->c, x->d);
}

#define XATTR_CALL(name, a, b, c, d, answer)                                                       \
	(&(struct xattr_call){ DZ_CALL_##name, SYS_##name, (long)(a), (long)(b), (long)(c),        \
			       (long)(d), answer })

DZ_DOOR(ssize_t, getxattr, const char *path, const char *name, void *value, size_t len)
{
	return xattr_path(path, XATTR_CALL(getxattr, name, value, len, 0, -ENODATA));
}

DZ_DOOR(ssize_t, lgetxattr, const char *path, const char *name, void *value, size_t len)
{
	return xattr_path(path, XATTR_CALL(lgetxattr, name, value, len, 0, -ENODATA));
}

DZ_DOOR(ssize_t, fgetxattr, int fd, const char *name, void *value, size_t len)
{
	return xattr_fd(fd, XATTR_CALL(fgetxattr, name, value, len, 0, -ENODATA));
}

DZ_DOOR(ssize_t, listxattr, const char *path, char *list, size_t len)
{
	return xattr_path(path, XATTR_CALL(listxattr, list, len, 0, 0, 0));
}

DZ_DOOR(ssize_t, llistxattr, const char *path, char *list, size_t len)
{
	return xattr_path(path, XATTR_CALL(llistxattr, list, len, 0, 0, 0));
}

DZ_DOOR(ssize_t, flistxattr, int fd, char *list, size_t len)
{
	return xattr_fd(fd, XATTR_CALL(flistxattr, list, len, 0, 0, 0));
}

DZ_DOOR(int, setxattr, const char *path, const char *name, const void *value, size_t len, int flags)
{
	return (int)xattr_path(path, XATTR_CALL(setxattr, name, value, len, flags, -EROFS));
}

DZ_DOOR(int, lsetxattr, const char *path, const char *name, const void *value, size_t len,
	int flags)
{
	return (int)xattr_path(path, XATTR_CALL(lsetxattr, name, value, len, flags, -EROFS));
}

DZ_DOOR(int, fsetxattr, int fd, const char *name, const void *value, size_t len, int flags)
{
	return (int)xattr_fd(fd, XATTR_CALL(fsetxattr, name, value, len, flags, -EROFS));
}

DZ_DOOR(int, removexattr, const char *path, const char *name)
{
	return (int)xattr_path(path, XATTR_CALL(removexattr, name, 0, 0, 0, -EROFS));
}

DZ_DOOR(int, lremovexattr, const char *path, const char *name)
{
	return (int)xattr_path(path, XATTR_CALL(lremovexattr, name, 0, 0, 0, -EROFS));
}

DZ_DOOR(int, fremovexattr, int fd, const char *name)
{
	return (int)xattr_fd(fd, XATTR_CALL(fremovexattr, name, 0, 0, 0, -EROFS));
}

#include "shim/aliases.h"
