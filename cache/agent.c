// SPDX-License-Identifier: MIT
/*
 * The agent's loop.
 *
 * The happy path: attach, take the agent record (one agent a record: whoever
 * finds a live one there ends), make a FIFO that requesters open to wake us,
 * rescan for requests that a dead agent left, and pump.  Before it sleeps it says
 * so in the record and looks once more at the requests; a requester rings first
 * and then looks whether we sleep: one of the two sees the other.
 *
 * It ends by itself: when the segment's file has been removed (`dz purge`), or
 * when for the keep time no other member has been attached; then it removes the
 * segment, so that the memory goes back to the system.
 */
#include "cache/agent.h"

#include "cache/fetch.h"
#include "cache/index.h"
#include "cache/member.h"
#include "cache/pager.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_MS	    (10 * 60 * 1000)
#define SLEEP_MS    1000
#define SCRUB_PARTS 64u
#define AHEAD_SLABS 64u
#define HUGE_SLABS  16u
#define HUGE_TRIES  8u
#define IDLE_MS	    200

struct agent {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	struct dz_disk *disk;
	struct dz_fetcher *fetcher;
	struct dz_agent_rec *rec;
	uint32_t n;
	int fifo;
	uint64_t alone_since_ms;
	uint32_t scrubbed;
	uint64_t keep_ms;
	uint64_t next_ms;      /* housekeeping */
	_Atomic uint32_t grow; /* futex: bumped when memory is wanted soon */
	_Atomic uint32_t is_ending;
	pthread_t grower;
	_Atomic uint64_t busy_ms; /* something was fetched then */
	uint32_t huge;		  /* slabs that the grower has been through */
	uint32_t huge_tries;
	bool has_grower;
};

static int agent_take_record(struct agent *a)
{
	uint32_t old = atomic_load_explicit(&a->rec->member, memory_order_acquire);

	if (old != DZ_NONE && old != 0 && dz_member_is_alive(&a->seg, old) &&
	    atomic_load_explicit(&a->seg.members[old].is_agent, memory_order_relaxed))
		return -EEXIST;
	/* First: once the record names us, another who comes must see an agent there. */
	atomic_store_explicit(&a->seg.members[a->seg.member].is_agent, 1, memory_order_release);
	return atomic_compare_exchange_strong(&a->rec->member, &old, a->seg.member) ? 0 : -EEXIST;
}

static int agent_open_fifo(struct agent *a)
{
	char name[32];
	long ret;

	snprintf(name, sizeof(name), "agent.%u", a->n);
	ret = dz_sys_4(SYS_mknodat, a->seg.dir_fd, name, S_IFIFO | 0600, 0);
	if (ret < 0 && ret != -EEXIST)
		return (int)ret;
	/* Read-write: the FIFO never reports the end when the last requester has closed. */
	a->fifo = dz_sys_openat(a->seg.dir_fd, name, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
	return a->fifo < 0 ? a->fifo : 0;
}

/* True when `dz purge` says that the segment is gone. */
static bool agent_drain_fifo(const struct agent *a)
{
	char buf[512];
	bool told = false;
	ssize_t n;

	while ((n = dz_sys_read(a->fifo, buf, sizeof(buf))) > 0)
		told |= memchr(buf, 'q', (size_t)n) != NULL;
	return told;
}

static bool agent_segment_is_gone(const struct agent *a)
{
	struct stat st, mine;

	if (dz_sys_4(SYS_newfstatat, a->seg.dir_fd, "dram", &st, 0) < 0 ||
	    dz_sys_fstat(a->seg.dram_fd, &mine) < 0)
		return true;
	return st.st_ino != mine.st_ino;
}

static bool agent_is_alone(const struct agent *a)
{
	for (uint32_t m = 1; m < a->seg.n_members; m++) {
		if (m != a->seg.member &&
		    atomic_load_explicit(&a->seg.members[m].state, memory_order_relaxed) !=
			    DZ_MEMBER_FREE &&
		    !atomic_load_explicit(&a->seg.members[m].is_agent, memory_order_relaxed))
			return false;
	}
	return true;
}

/* A part of the tables a round: what a kill left in the middle of index and slabs. */
static void agent_scrub(struct agent *a)
{
	struct dz_seg *seg = &a->seg;
	uint32_t part = a->scrubbed++ % SCRUB_PARTS;
	uint32_t dram = (uint32_t)dz_div_up(seg->n_dram_slabs, SCRUB_PARTS);
	uint32_t disk = (uint32_t)dz_div_up(seg->n_disk_slabs, SCRUB_PARTS);
	uint32_t buckets = (uint32_t)dz_div_up(seg->n_buckets, SCRUB_PARTS);

	dz_slabs_scrub(seg, DZ_TIER_DRAM, part * dram, dram);
	if (a->disk) {
		dz_slabs_scrub(seg, DZ_TIER_DISK, part * disk, disk);
		dz_disk_recover_part(a->disk, part, SCRUB_PARTS);
	}
	dz_index_scrub(seg, part * buckets, buckets);
}

/* Programs wait for pages, and pager and keeper were killed at once. */
static void agent_start_pager(const struct agent *a)
{
	char exe[DZ_PATH_MAX] = "", dir[DZ_PATH_MAX], n[16];
	char *argv[] = { exe, (char[]){ "agent" }, n, (char[]){ "pager" }, dir, NULL };
	char *slash;
	pid_t pid;

	if (readlink("/proc/self/exe", exe, sizeof(exe) - 1) < 0)
		return;
	memcpy(dir, exe, sizeof(dir));
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	snprintf(n, sizeof(n), "%u", a->n);
	/* Nobody waits for it. */
	signal(SIGCHLD, SIG_IGN);
	posix_spawn(&pid, exe, NULL, NULL, argv, environ);
}

/* Time to go?  Also the housekeeping of once a second. */
static bool agent_is_done(struct agent *a)
{
	uint64_t now = dz_now_ms();

	if (agent_segment_is_gone(a))
		return true;
	dz_member_sweep(&a->seg, false);
	agent_scrub(a);
	if (dz_pager_is_missed(a->seg.dir_fd, a->n))
		agent_start_pager(a);
	if (!agent_is_alone(a) || !dz_fetcher_is_idle(a->fetcher)) {
		a->alone_since_ms = 0;
		return false;
	}
	if (!a->alone_since_ms)
		a->alone_since_ms = now;
	if (now - a->alone_since_ms < a->keep_ms)
		return false;
	/* Purging waits until nobody reads there any more. */
	dz_sys_close(a->fifo);
	a->fifo = -1;
	dz_seg_purge(&a->cfg);
	return true;
}

/* Our page tables for what was added: the network's thread shall not fault on each page. */
static void agent_map_new(const struct dz_seg *seg, uint32_t from)
{
	uint32_t to = dz_seg_backed(seg);

	/* An older kernel refuses: then the faults come one by one. */
	if (from < to)
		dz_sys_3(SYS_madvise, seg->dram + from * DZ_MIB, (to - from) * DZ_MIB,
			 MADV_POPULATE_WRITE);
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

/*
 * Memory that is there becomes huge pages, whatever its tmpfs was mounted with: for
 * readers, and above all for mappings of it, fewer entries of the TLB and of page
 * tables.  A copy of all of it, so only while nothing is fetched, a part at a time.
 * False: there is nothing to do, or it is not the time.
 */
static bool agent_make_huge(struct agent *a)
{
	uint32_t from = a->huge;
	uint32_t to = (uint32_t)dz_min_u64(dz_seg_backed(&a->seg), from + HUGE_SLABS);

	if (from >= to ||
	    dz_now_ms() < atomic_load_explicit(&a->busy_ms, memory_order_relaxed) + IDLE_MS)
		return false;
	/*
	 * -EAGAIN: somebody has a hand on a page just now.  Any other: an older kernel, or
	 * no huge page to be had; then the pages stay small.
	 */
	if (dz_sys_3(SYS_madvise, a->seg.dram + from * DZ_MIB, (to - from) * DZ_MIB,
		     MADV_COLLAPSE) == -EAGAIN &&
	    ++a->huge_tries < HUGE_TRIES)
		return false;
	a->huge_tries = 0;
	a->huge = to;
	return true;
}

/*
 * Memory for the DRAM tier is allocated ahead of its use, beside the network: the
 * kernel clears every page of it.
 */
static void *agent_grower_main(void *arg)
{
	struct agent *a = arg;

	while (!atomic_load_explicit(&a->is_ending, memory_order_acquire)) {
		uint32_t seen = atomic_load_explicit(&a->grow, memory_order_acquire);
		uint32_t backed = dz_seg_backed(&a->seg);
		uint64_t used =
			atomic_load_explicit(&a->seg.hdr->dram_used, memory_order_relaxed) / DZ_MIB;

		if (used + AHEAD_SLABS >= backed && dz_seg_grow(&a->seg))
			agent_map_new(&a->seg, backed);
		else if (!agent_make_huge(a))
			dz_sys_futex_wait(&a->grow, seen, a->huge < backed ? IDLE_MS : SLEEP_MS);
	}
	return NULL;
}

static void agent_grow_ahead(struct agent *a)
{
	uint64_t used = atomic_load_explicit(&a->seg.hdr->dram_used, memory_order_relaxed) / DZ_MIB;
	uint32_t backed = dz_seg_backed(&a->seg);

	if (backed >= a->seg.n_dram_slabs || used + AHEAD_SLABS < backed)
		return;
	atomic_fetch_add_explicit(&a->grow, 1, memory_order_release);
	dz_sys_futex_wake(&a->grow, 1);
}

static void agent_end_grower(struct agent *a)
{
	if (!a->has_grower)
		return;
	atomic_store_explicit(&a->is_ending, 1, memory_order_release);
	atomic_fetch_add_explicit(&a->grow, 1, memory_order_release);
	dz_sys_futex_wake(&a->grow, 1);
	pthread_join(a->grower, NULL);
}

/* One round: sleep only when there is nothing to do and nobody rang meanwhile. */
static int agent_round(struct agent *a)
{
	int ret;

	atomic_store_explicit(&a->rec->beat_ms, dz_now_ms(), memory_order_relaxed);
	ret = dz_fetcher_pump(a->fetcher, 0, -1, DZ_NONE);
	if (ret < 0)
		return ret;
	/* seq_cst store, then the look at the requests inside the pump. */
	atomic_store_explicit(&a->rec->sleeping, 1, memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
	ret = dz_fetcher_pump(a->fetcher, dz_fetcher_is_idle(a->fetcher) ? SLEEP_MS : 20, a->fifo,
			      DZ_NONE);
	atomic_store_explicit(&a->rec->sleeping, 0, memory_order_relaxed);
	agent_grow_ahead(a);
	if (!dz_fetcher_is_idle(a->fetcher))
		atomic_store_explicit(&a->busy_ms, dz_now_ms(), memory_order_relaxed);
	if (agent_drain_fifo(a))
		a->next_ms = 0;
	return ret < 0 ? ret : 0;
}

static int agent_run(struct agent *a)
{
	for (;;) {
		uint64_t now = dz_now_ms();
		int ret;

		if (now >= a->next_ms) {
			if (agent_is_done(a))
				return 0;
			dz_fetcher_rescan(a->fetcher);
			a->next_ms = now + SLEEP_MS;
		}
		ret = agent_round(a);
		if (ret < 0) {
			dz_error(&a->log, "agent: fetching: %s: ending, another is started",
				 dz_strerror(-ret));
			return ret;
		}
	}
}

void dz_agent_detach(const char *name)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	if (chdir("/") < 0)
		return;
	prctl(PR_SET_NAME, name);
	umask(077);
}

static int agent_open(struct agent *a)
{
	struct dz_fetch_options opt = { .seg = &a->seg,
					.cfg = &a->cfg,
					.log = &a->log,
					.envp = environ,
					.agent = a->n,
					.has_writer_thread = true };
	int ret = dz_seg_open(&a->seg, &a->cfg, &a->log);

	if (ret < 0)
		return ret;
	if (a->n >= a->seg.n_agents)
		return -EINVAL;
	a->rec = &a->seg.agents[a->n];
	opt.identity = atomic_load_explicit(&a->rec->identity, memory_order_acquire);
	/* Purged since we were called: what we have attached to is another's, or our own. */
	if (!opt.identity)
		return -ENXIO;
	ret = dz_member_join(&a->seg);
	if (ret == 0)
		ret = agent_take_record(a);
	if (ret == 0)
		ret = agent_open_fifo(a);
	if (ret == 0)
		ret = dz_disk_open(&a->disk, &a->seg, &a->cfg, &a->log);
	opt.disk = a->disk;
	dz_disk_watch(a->disk, &a->seg);
	if (a->disk)
		dz_disk_recover(a->disk, DZ_NONE);
	if (ret == 0)
		ret = dz_fetcher_open(&a->fetcher, &opt);
	if (ret == 0) {
		atomic_store_explicit(&a->rec->failures, 0, memory_order_relaxed);
		/* Whoever finds us dead may start another at once. */
		atomic_store_explicit(&a->rec->starting_until_ms, 0, memory_order_release);
		a->has_grower = pthread_create(&a->grower, NULL, agent_grower_main, a) == 0;
	}
	return ret;
}

static void agent_keep_time(struct agent *a)
{
	const char *s = dz_config_env(environ, "DELTAZERO_KEEP_SECONDS");

	a->keep_ms = KEEP_MS;
	if (s && *s)
		a->keep_ms = strtoull(s, NULL, 10) * 1000;
}

int dz_agent_main(int argc, char **argv)
{
	static struct agent a; /* large; this process is ours */
	int ret;

	if (argc > 2 && strcmp(argv[2], "pager") == 0)
		return dz_pager_main(argc, argv);
	if (argc != 2) {
		fprintf(stderr, "dz agent: started by the library, not by hand\n");
		return 1;
	}
	/* Before the working directory changes: paths in it may be relative to the program's. */
	dz_config_read(&a.cfg, environ);
	dz_agent_detach("dz-agent");
	a.n = (uint32_t)strtoul(argv[1], NULL, 10);
	a.fifo = -1;
	a.log = (struct dz_log){ .level = a.cfg.log_level,
				 .path = a.cfg.log_path,
				 .who = "deltazero-agent" };
	agent_keep_time(&a);
	ret = agent_open(&a);
	if (ret == 0)
		ret = agent_run(&a);
	else if (ret != -EEXIST)
		dz_error(&a.log, "agent: start: %s: programs fetch for themselves",
			 dz_strerror(-ret));
	agent_end_grower(&a);
	if (a.fetcher)
		dz_fetcher_close(a.fetcher);
	if (a.disk)
		dz_disk_close(a.disk);
	dz_member_leave(&a.seg);
	return ret == 0 ? 0 : 1;
}
