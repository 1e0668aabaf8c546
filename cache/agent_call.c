// SPDX-License-Identifier: MIT
/*
 * The program's side of the agent: is there one, wake it, start it.
 *
 * The happy path: the record's member is alive; it sleeps only if it says so,
 * then one byte into its FIFO wakes it.  No agent: one process of the node starts
 * one (a deadline in the record keeps the others off), everyone waits for its
 * record to come alive.  Three starts in a row that came to nothing: this process
 * fetches inline from then on, with one log line.
 */
#include "cache/engine_priv.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define START_MS     5000
#define AGAIN_MS     60000
#define MAX_FAILURES 3

bool dz_agent_is_alive(struct dz_engine *e, uint32_t agent)
{
	uint32_t member = atomic_load_explicit(&e->seg.agents[agent].member, memory_order_acquire);

	return member != DZ_NONE && member != 0 && member < e->seg.n_members &&
	       atomic_load_explicit(&e->seg.members[member].is_agent, memory_order_relaxed) &&
	       dz_member_is_alive(&e->seg, member);
}

bool dz_agent_is_own(const struct dz_engine *e, uint32_t agent)
{
	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		if (e->agent[i] == agent && !e->cfg.mounts[i].is_borrowed)
			return true;
	}
	return false;
}

/* -ENXIO: nobody reads the FIFO, so nobody is there. */
static int agent_ring(struct dz_engine *e, uint32_t agent)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "agent.%u", agent);
	fd = dz_sys_openat(e->seg.dir_fd, name, O_WRONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	/* It may be killed between the two. */
	dz_sys_write_quiet(fd, "", 1);
	dz_sys_close(fd);
	return 0;
}

static int agent_give_up(struct dz_engine *e, int err)
{
	atomic_store_explicit(&e->is_inline, 1, memory_order_relaxed);
	if (dz_engine_once(e, 1))
		dz_warn(&e->log,
			"agent: start: %s: this process fetches for itself; is `dz` beside the "
			"library, and may processes be started here?",
			dz_strerror(-err));
	return err;
}

/* Purged while we use it: an agent that we started would serve the next segment. */
static bool agent_segment_is_gone(const struct dz_engine *e)
{
	struct stat st;

	return e->seg.dram_fd >= 0 && dz_sys_fstat(e->seg.dram_fd, &st) == 0 && st.st_nlink == 0;
}

static int agent_start(struct dz_engine *e, uint32_t agent)
{
	struct dz_agent_rec *rec = &e->seg.agents[agent];
	uint64_t until = atomic_load_explicit(&rec->starting_until_ms, memory_order_acquire);
	uint64_t now = dz_now_ms();
	int ret;

	/* Without credentials it would be refused, and answer so to those who have them. */
	if (!dz_agent_is_own(e, agent))
		return -EACCES;
	if (agent_segment_is_gone(e))
		return agent_give_up(e, -ESTALE);
	if (until > now)
		return 0; /* somebody is at it: wait */
	/* What kept it from starting may have passed: one more try a minute. */
	if (atomic_load_explicit(&rec->failures, memory_order_relaxed) >= MAX_FAILURES &&
	    now < until + AGAIN_MS)
		return agent_give_up(e, -ECHILD);
	if (!atomic_compare_exchange_strong(&rec->starting_until_ms, &until, now + START_MS))
		return 0;
	/* Undone by the agent when it has come up. */
	atomic_fetch_add_explicit(&rec->failures, 1, memory_order_relaxed);
	ret = dz_spawn_agent(e, agent);
	if (ret < 0) {
		atomic_store_explicit(&rec->starting_until_ms, now, memory_order_release);
		return agent_give_up(e, ret);
	}
	return 0;
}

int dz_agent_call(struct dz_engine *e, uint32_t agent)
{
	struct dz_agent_rec *rec = &e->seg.agents[agent];
	uint64_t seen = atomic_load_explicit(&e->agent_seen_ms, memory_order_relaxed);
	uint64_t now = dz_now_ms();

	if (atomic_load_explicit(&e->is_inline, memory_order_relaxed))
		return -ECHILD;
	/* Pairs with the agent's store of `sleeping` before it looks at the requests. */
	atomic_thread_fence(memory_order_seq_cst);
	if (seen + 100 < now || seen > now) {
		if (!dz_agent_is_alive(e, agent))
			return agent_start(e, agent);
		atomic_store_explicit(&e->agent_seen_ms, now, memory_order_relaxed);
	}
	if (atomic_exchange_explicit(&rec->sleeping, 0, memory_order_seq_cst) == 0)
		return 0;
	if (agent_ring(e, agent) == -ENXIO) {
		atomic_store_explicit(&e->agent_seen_ms, 0, memory_order_relaxed);
		return agent_start(e, agent);
	}
	return 0;
}

int dz_engine_wake(struct dz_engine *e)
{
	int ret = 0;

	for (uint32_t i = 0; i < e->cfg.n_mounts && ret == 0; i++) {
		if (!e->cfg.mounts[i].is_borrowed)
			ret = dz_agent_call(e, e->agent[i]);
	}
	return ret;
}
