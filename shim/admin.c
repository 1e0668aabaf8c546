/* SPDX-License-Identifier: MIT */
/*
 * Paths that the kernel takes for itself: to mount, to swap, to account, to keep quotas.
 * It looks for them where a mount of ours is not, so each call is its own, the answer
 * too; a refusal of a path of ours is counted as a call that was not served.
 *
 * The path of a descriptor, /proc/self/fd/N, is one of ours when the descriptor is.
 */
#define DZ_IN_admin 1
#include <sys/mount.h>

#include "shim/hooks.h"

/* The kernel's; its refusal of one of ours is counted. */
#define answer(ours, r, call, ...)                                                                 \
	((int)((ours) && (r) < 0 ? dz_bypass(call, r, __VA_ARGS__) : dz_ret(r)))

/* p->path is what the kernel is to look for: of one of ours, what the program gave. */
static bool is_ours(const char *path, struct dz_path *p)
{
	if (dz_path_at(AT_FDCWD, path, p) == 0)
		return false;
	p->path = path;
	return true;
}

/* A source is a path when it is bound or moved; else a device's, or only a word. */
static bool is_path(const char *source, unsigned long flags)
{
	return (flags & (MS_BIND | MS_MOVE)) || (!dz_is_wild(source) && source[0] == '/');
}

DZ_DOOR(int, mount, const char *source, const char *target, const char *type, unsigned long flags,
	const void *data)
{
	struct dz_path from = { .path = source }, to;
	bool ours = is_path(source, flags) && is_ours(source, &from);
	long r;

	ours |= is_ours(target, &to);
	r = dz_sys_5(SYS_mount, from.path, to.path, type, flags, data);
	return answer(ours, r, DZ_CALL_mount, source, target, type, flags, data);
}

DZ_DOOR(int, umount2, const char *path, int flags)
{
	struct dz_path p;
	bool ours = is_ours(path, &p);
	long r = dz_sys_2(SYS_umount2, p.path, flags);

	return answer(ours, r, DZ_CALL_umount2, path, flags);
}

DZ_DOOR(int, umount, const char *path)
{
	struct dz_path p;
	bool ours = is_ours(path, &p);
	long r = dz_sys_2(SYS_umount2, p.path, 0);

	return answer(ours, r, DZ_CALL_umount, path);
}

DZ_DOOR(int, pivot_root, const char *root, const char *old)
{
	struct dz_path to, from;
	bool ours = is_ours(root, &to);
	long r;

	ours |= is_ours(old, &from);
	r = dz_sys_2(SYS_pivot_root, to.path, from.path);
	return answer(ours, r, DZ_CALL_pivot_root, root, old);
}

DZ_DOOR(int, swapon, const char *path, int flags)
{
	struct dz_path p;
	bool ours = is_ours(path, &p);
	long r = dz_sys_2(SYS_swapon, p.path, flags);

	return answer(ours, r, DZ_CALL_swapon, path, flags);
}

DZ_DOOR(int, acct, const char *path)
{
	struct dz_path p;
	bool ours = is_ours(path, &p);
	long r = dz_sys_1(SYS_acct, p.path);

	return answer(ours, r, DZ_CALL_acct, path);
}

DZ_DOOR(int, quotactl, int command, const char *device, int id, char *at)
{
	struct dz_path p;
	bool ours = is_ours(device, &p);
	long r = dz_sys_4(SYS_quotactl, command, p.path, id, at);

	return answer(ours, r, DZ_CALL_quotactl, command, device, id, at);
}

#include "shim/aliases.h"
