/* SPDX-License-Identifier: MIT */
/*
 * The start in a program, in this order:
 *  1. AT_SECURE, or neither DELTAZERO_MOUNT nor DELTAZERO_CONFIG: off for good.
 *  2. Read the configuration; no mount left: off.  Keep the environment.
 *  3. Constructor only: take over the working directory, the markers that we were
 *     born with, and standard input.
 * The engine is attached later, by dz_attach().
 *
 * A mistake in the configuration is one log line; the other mounts work.  No
 * malloc, no thread, no signal handler, no descriptor.
 */
#include "shim/init.h"
#include "shim/real.h"

#include "shim/env.h"
#include "shim/fdtab.h"
#include "shim/guard.h"
#include "shim/hidden.h"
#include "shim/paths.h"
#include "shim/stdin.h"
#include "shim/trace.h"

#include "cache/sys.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

struct dz_hot dz_hot DZ_HOT_LINE;
struct dz_config dz_config;
struct dz_engine *dz_engine DZ_HOT_LINE;
_Atomic int dz_pid;
__thread int dz_depth __attribute__((tls_model("initial-exec")));

/* 0 free, 1 taken, 2 taken and waited for: a futex. */
static _Atomic uint32_t attach_lock;

static bool is_wanted(char *const *envp)
{
	const char *mount = dz_config_env(envp, "DELTAZERO_MOUNT");
	const char *config = dz_config_env(envp, "DELTAZERO_CONFIG");

	if (getauxval(AT_SECURE))
		return false;
	return (mount && *mount) || (config && *config);
}

static enum dz_state start_with(char *const *envp)
{
	struct dz_log log;

	if (!is_wanted(envp))
		return DZ_OFF;
	log.who = "deltazero";
	if (dz_config_read(&dz_config, envp) < 0) {
		log.level = dz_config.log_level;
		log.path = dz_config.log_path;
		dz_error(&log, "%s", dz_config.error);
	}
	if (dz_config.n_mounts == 0)
		return DZ_OFF;
	dz_env_keep(envp);
	dz_hidden_start();
	dz_path_start();
	dz_pid = dz_sys_getpid();
	return DZ_ON;
}

bool dz_start(void)
{
	static _Atomic uint32_t started;

	/* Whoever comes meanwhile (a second thread, a recursion) goes to the kernel. */
	if (dz_hot.state != DZ_NEW || !environ || atomic_exchange(&started, 1))
		return dz_hot.state == DZ_ON;
	dz_hot.state = (int)start_with(environ);
	return dz_hot.state == DZ_ON;
}

__attribute__((constructor(101))) static void init(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	if (!environ && dz_hot.state == DZ_NEW)
		dz_hot.state = (int)start_with(envp);
	if (!dz_start())
		return;
	dz_cwd_start(dz_config_env(envp, "DELTAZERO_CWD"));
	dz_fd_adopt_all();
	if (dz_fd_get(0))
		dz_stdin_adopt();
}

static void attach_lock_take(void)
{
	uint32_t old = 0;

	if (atomic_compare_exchange_strong(&attach_lock, &old, 1))
		return;
	while (atomic_exchange(&attach_lock, 2) != 0)
		dz_sys_futex_wait(&attach_lock, 2, 100);
}

static void attach_lock_give(void)
{
	if (atomic_exchange(&attach_lock, 0) == 2)
		dz_sys_futex_wake(&attach_lock, 1);
}

/* The engine calls what may come back through our doors, or has done so. */
static void guard(int step)
{
	dz_depth += step;
}

static int attach_locked(void)
{
	struct dz_engine *e = NULL;
	int r = 0;

	dz_depth++;
	if (!dz_engine)
		r = dz_engine_open(&e, &dz_config, dz_env_at_start(), dz_lib_path());
	dz_depth--;
	if (e) {
		dz_engine_set_lookup(e, dz_real_in);
		dz_engine_set_guard(e, guard);
		dz_engine_set_trace_self(e, &dz_trace_self);
		/* Release: pairs with the acquire in dz_attach(). */
		__atomic_store_n(&dz_engine, e, __ATOMIC_RELEASE);
	}
	return r < 0 ? -EIO : 0;
}

int dz_attach(void)
{
	uint64_t all = ~(uint64_t)0;
	uint64_t old;
	int r;

	if (__atomic_load_n(&dz_engine, __ATOMIC_ACQUIRE))
		return 0;
	/* A member's lock belongs to a process: a vfork child cannot take it for its parent. */
	if (!dz_is_on() || dz_depth > 0 || dz_in_vfork_child())
		return -EIO;
	/* A handler that came while we hold the lock would wait for it for ever. */
	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, sizeof(all));
	attach_lock_take();
	r = attach_locked();
	attach_lock_give();
	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, sizeof(old));
	return r;
}

void dz_start_again(void)
{
	dz_pid = dz_sys_getpid();
	attach_lock = 0;
	dz_fd_start_again();
}

void dz_stop(void)
{
	dz_hot.state = DZ_OFF;
}
