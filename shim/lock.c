/* SPDX-License-Identifier: MIT */
/*
 * Locks.  flock(2) excludes between the processes of the node's cache, by a table of
 * the engine's.  A lock of fcntl or lockf for writing needs a descriptor that writes, and
 * one for reading meets no other kind: those need no table.
 */
#define DZ_IN_lock 1
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

/* Signals of what a thread does itself: none of them ends a wait. */
static bool is_own_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL ||
	       sig == SIGTRAP || sig == SIGSYS || sig == SIGABRT;
}

/*
 * Do all handlers of this process ask for calls to be begun again?  Run-time systems
 * and sanitizers have handlers of faults that do not, which count for nothing here.
 */
static bool handlers_restart(void)
{
	/* As the kernel has it. */
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		uint64_t mask;
	} sa;

	for (int sig = 1; sig < 64; sig++)
		if (!is_own_fault(sig) &&
		    dz_sys_4(SYS_rt_sigaction, sig, NULL, &sa, sizeof(sa.mask)) == 0 &&
		    sa.handler != SIG_DFL && sa.handler != SIG_IGN && !(sa.flags & SA_RESTART))
			return false;
	return true;
}

static int flock_ours(dz_fh fh, int op)
{
	int r;

	if (dz_is_opath(fh))
		return -EBADF;
	do
		r = dz_engine_flock(dz_engine, fh, op);
	while (r == -EINTR && handlers_restart());
	return r;
}

DZ_DOOR(int, flock, int fd, int op)
{
	dz_fh fh = dz_fd_get(fd);

	if (!fh)
		return (int)dz_ret(dz_sys_2(SYS_flock, fd, op));
	return (int)dz_done(DZ_CALL_flock, flock_ours(fh, op), fd, op);
}

/* lockf(3) locks for writing, which a descriptor that reads may not. */
static int lockf_check(int op)
{
	switch (op) {
	case F_LOCK:
	case F_TLOCK:
		return -EBADF;
	case F_ULOCK:
	case F_TEST:
		return 0;
	default:
		return -EINVAL;
	}
}

DZ_DOOR(int, lockf, int fd, int op, off_t len)
{
	int (*libc_lockf)(int, int, off_t) = DZ_REAL(lockf64);

	if (!dz_fd_get(fd))
		return libc_lockf(fd, op, len);
	return (int)dz_done(DZ_CALL_lockf, lockf_check(op), fd, op, len);
}

#include "shim/aliases.h"
