// SPDX-License-Identifier: MIT
/*
 * Fetching in the program's own thread, where no agent can be.
 *
 * The fetcher (libcurl, OpenSSL) is not part of the preload object: it is a
 * module beside it, loaded with dlopen on the first use, local and bound to
 * itself, so that the program's own copies of those libraries stay apart.  One
 * thread of a process pumps at a time, one turn after another; the others sleep
 * on their leases.  Signals are handled between the turns, where nothing is held.
 */
#include "cache/inline.h"

#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct dz_inline {
	struct dz_fetch_ops ops;
	struct dz_fetcher *fetcher[8]; /* by agent record */
	uint32_t pid;
};

static int inline_load(struct dz_engine *e)
{
	char path[DZ_PATH_MAX + 32];
	const struct dz_fetch_ops *ops;
	void *lib, *map;
	int ret;

	snprintf(path, sizeof(path), "%s/libdeltazero-fetch.so", e->lib_dir);
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	/* The program has a libcurl of its own that does not fit: then apart from everything. */
	if (!lib)
		lib = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
	ops = lib && e->lookup ? e->lookup(lib, "dz_fetch_module") : NULL;
	if (!ops || ops->version != DZ_FETCH_OPS_VERSION) {
		if (dz_engine_once(e, 2))
			dz_error(&e->log,
				 "load %s: %s: nothing can be fetched from this process: install "
				 "libcurl, OpenSSL and expat, or let the agent run",
				 path, lib ? "another version" : "cannot be loaded");
		return -EIO;
	}
	ret = dz_sys_mmap(&map, NULL, sizeof(struct dz_inline), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ret < 0)
		return ret;
	e->inl = map;
	e->inl->ops = *ops;
	e->inl->pid = (uint32_t)dz_sys_getpid();
	return 0;
}

/* An ancestor's agent is gone, and we were not given what it had. */
static int inline_refuse(struct dz_engine *e)
{
	if (dz_engine_once(e, 9))
		dz_error(&e->log, "fetch: no agent runs, and this process has no credentials: its "
				  "environment was cleared; pass the AZURE_ variables on");
	return -EACCES;
}

static int inline_fetcher(struct dz_engine *e, uint32_t agent, struct dz_fetcher **out)
{
	struct dz_fetch_options opt = { .seg = &e->seg,
					.cfg = &e->cfg,
					.disk = e->disk,
					.log = &e->log,
					.envp = e->envp,
					.agent = agent };
	int ret = e->inl ? 0 : inline_load(e);

	if (ret < 0)
		return ret;
	if (agent >= DZ_ARRAY_LEN(e->inl->fetcher))
		return -EINVAL;
	if (!e->inl->fetcher[agent]) {
		opt.identity =
			atomic_load_explicit(&e->seg.agents[agent].identity, memory_order_acquire);
		ret = e->inl->ops.open(&e->inl->fetcher[agent], &opt);
	}
	*out = e->inl->fetcher[agent];
	return ret;
}

static uint32_t inline_agent_of(struct dz_engine *e, const struct dz_lease_ref *ref)
{
	uint32_t rec = e->seg.requests[ref->idx].mount;

	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		if (e->rec[i] == rec)
			return e->agent[i];
	}
	return e->home_agent;
}

/* ---- around code that is not ours ---- */

struct foreign {
	uint64_t signals;
	int cancel;
};

/*
 * A handler in between might read, and wait for what it has interrupted, or jump
 * out, and leave curl in the middle of something: as would a cancelled thread.
 */
static void foreign_enter(struct dz_engine *e, struct foreign *was)
{
	uint64_t all = ~(uint64_t)0;

	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &was->signals, sizeof(all));
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was->cancel);
	if (e->guard)
		e->guard(1);
}

static void foreign_leave(struct dz_engine *e, const struct foreign *was)
{
	int old;

	if (e->guard)
		e->guard(-1);
	pthread_setcancelstate(was->cancel, &old);
	dz_sys_4(SYS_rt_sigprocmask, SIG_SETMASK, &was->signals, NULL, sizeof(was->signals));
}

static bool inline_try_lock(struct dz_engine *e)
{
	uint32_t free_lock = 0;

	return atomic_compare_exchange_strong(&e->inline_lock, &free_lock,
					      (uint32_t)dz_sys_gettid());
}

/* With the lock held. */
static int inline_turn_locked(struct dz_engine *e, const struct dz_lease_ref *ref)
{
	struct dz_fetcher *f = NULL;
	uint32_t agent = inline_agent_of(e, ref);
	int ret;

	/* Whose would its leases and slots be, when the table was full at our fork? */
	if (e->seg.member >= e->seg.n_members) {
		if (dz_member_join(&e->seg) < 0)
			return -EAGAIN;
		dz_engine_hold_mounts(e);
	}
	ret = dz_agent_is_own(e, agent) ? inline_fetcher(e, agent, &f) : inline_refuse(e);
	return ret < 0 ? ret : e->inl->ops.pump(f, 50, -1, ref->idx);
}

/* One turn, of 50 ms at most: how many transfers are under way, or -errno. */
static int inline_turn(struct dz_engine *e, const struct dz_lease_ref *ref)
{
	struct foreign was;
	int ret;

	foreign_enter(e, &was);
	if (!inline_try_lock(e)) {
		foreign_leave(e, &was);
		dz_lease_wait(&e->seg, ref, DZ_LEASE_ALL, 20);
		return 0;
	}
	ret = inline_turn_locked(e, ref);
	atomic_store_explicit(&e->inline_lock, 0, memory_order_release);
	foreign_leave(e, &was);
	return ret;
}

/* Transfers stop when nobody pumps, so stay until ours has ended. */
int dz_inline_pump(struct dz_engine *e, const struct dz_lease_ref *ref)
{
	struct dz_lease_ref now = *ref;
	int ret;

	do {
		ret = inline_turn(e, ref);
	} while (ret > 0 && dz_lease_poll(&e->seg, &now) == 1);
	return ret < 0 ? ret : 0;
}

/* Not in the middle of a turn: the child could never take the locks that the turn holds. */
void dz_inline_fork_prepare(struct dz_engine *e)
{
	struct timespec ms = { 0, 1000000 };

	for (int i = 0; e->inl && i < 1000 && !inline_try_lock(e); i++)
		dz_sys_2(SYS_nanosleep, &ms, NULL);
}

void dz_inline_fork_parent(struct dz_engine *e)
{
	uint32_t tid = (uint32_t)dz_sys_gettid();

	atomic_compare_exchange_strong(&e->inline_lock, &tid, 0);
}

void dz_inline_abandon(struct dz_engine *e)
{
	atomic_store_explicit(&e->inline_lock, 0, memory_order_relaxed);
	if (!e->inl)
		return;
	for (size_t i = 0; i < DZ_ARRAY_LEN(e->inl->fetcher); i++) {
		if (e->inl->fetcher[i])
			e->inl->ops.abandon(e->inl->fetcher[i]);
		e->inl->fetcher[i] = NULL;
	}
}
