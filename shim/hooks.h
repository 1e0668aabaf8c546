/* SPDX-License-Identifier: MIT */
/*
 * How a door is written.  A door is the exported function that takes the place of
 * libc's.  It looks up, hands down, translates, in at most 15 lines:
 *
 *	DZ_DOOR(off_t, lseek, int fd, off_t off, int whence)
 *	{
 *		dz_fh fh = dz_fd_get(fd);
 *
 *		if (!fh)
 *			return dz_ret(dz_sys_3(SYS_lseek, fd, off, whence));
 *		return dz_done(DZ_CALL_lseek, dz_engine_seek(dz_engine, fh, off, whence));
 *	}
 *
 * and, for a path:
 *
 *	DZ_DOOR(int, mkdir, const char *path, mode_t mode)
 *	{
 *		struct dz_path p;
 *		long r = dz_path_at(AT_FDCWD, path, &p);
 *
 *		if (r == 0) {
 *			r = dz_sys_3(SYS_mkdirat, p.dir_fd, p.path, mode);
 *			if (!dz_path_again(r, &p))
 *				return (int)dz_ret(r);
 *			r = 1;
 *		}
 *		return (int)dz_done(DZ_CALL_mkdir, r < 0 ? r : ro_mkdir(&p));
 *	}
 *
 * The C name of a door is door_NAME, its symbol is NAME: so no prototype,
 * attribute or fortify macro of a system header can meet it, and nothing in here
 * can call a door by mistake.  Every variadic door whose optional argument is a
 * register (open, fcntl, ioctl, syscall) is written with fixed arguments: the
 * x86-64 and AArch64 Linux ABIs pass them alike.
 *
 * A file defines DZ_IN_FAMILY as 1 before it includes this header and ends with
 * #include "shim/aliases.h", which defines the other names of its doors.
 */
#ifndef DZ_HOOKS_H
#define DZ_HOOKS_H

#include "shim/fdtab.h"
#include "shim/guard.h"
#include "shim/init.h"
#include "shim/paths.h"
#include "shim/ret.h"
#include "shim/trace.h"

#include "cache/sys.h"

/* DZ_CALL_read...: what dz_engine_count() counts under. */
enum dz_call {
#define HOOK(name, family) DZ_CALL_##name,
#define ALIAS(alias, name, family)
#define SKIP(name, reason)
#include "shim/hooks.def"
#undef HOOK
#undef ALIAS
#undef SKIP
	DZ_CALLS
};

#define DZ_DOOR(ret, name, ...)                                                                    \
	DZ_EXPORT ret door_##name(__VA_ARGS__) __asm__(#name);                                     \
	ret door_##name(__VA_ARGS__)

/*
 * A call that is passed on goes through no second function, whose return the processor
 * cannot foresee behind a system call; what is ours stands apart, with its registers.
 */
#define DZ_INLINE   inline __attribute__((always_inline))
#define DZ_NOINLINE __attribute__((noinline))

/* In the place of the kernel's answer: it has not been asked yet.  No system call gives it. */
#define DZ_NOT_ASKED (-4096L)

/* Another name of a door of the same file; aliases.h writes these. */
#define DZ_DOOR_ALIAS(alias_name, name)                                                            \
	DZ_EXPORT extern __typeof__(door_##name) door_##alias_name __asm__(#alias_name)            \
		__attribute__((alias(#name)));

static inline long dz_counted(enum dz_call call, long result)
{
	if ((uint32_t)call < DZ_STAT_CALLS && dz_engine)
		dz_engine_count(dz_engine, (uint32_t)call, result);
	/* ESTALE would make programs think of NFS; the reason is in the log. */
	return dz_ret(result == -ESTALE ? -EIO : result);
}

static inline long dz_not_served(enum dz_call call, long result)
{
	if ((uint32_t)call < DZ_STAT_CALLS && dz_engine)
		dz_engine_count_bypass(dz_engine, (uint32_t)call);
	return dz_ret(result);
}

/*
 * Counts a managed call and gives the program its answer: dz_done(DZ_CALL_x,
 * result, the call's arguments...).  `result` is the work itself where that can
 * be, so that a trace shows its time.
 */
#define dz_done(call, result, ...) DZ_TRACED(dz_counted, call, result, false, ##__VA_ARGS__)
/* A call that touched a mount and was not served; the program gets -errno. */
#define dz_bypass(call, result, ...) DZ_TRACED(dz_not_served, call, result, true, ##__VA_ARGS__)

#endif
