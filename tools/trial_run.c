// SPDX-License-Identifier: MIT
/*
 * One run of the command, looked at from outside.
 *
 * Every 100 ms (seldomer in a long run) the counters of all members are read from
 * the shared memory; every 20 ms the table of leases, which says what is being
 * waited for.  How long calls took is counted by the processes themselves, as
 * under `dz trace -c`.  A process whose life falls between two looks is not seen:
 * what it waited is in the sum and shown as the others'.
 */
#include "tools/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/lease.h"
#include "cache/sys.h"
#include "tools/dz.h"

#define LOOK_NS	      20000000u
#define SAMPLE_NS     100000000u
#define PROCESSES_MAX 1024u
#define FILES_MAX     4096u

struct look {
	struct trial_run *run;
	struct trace_session session;
	struct dz_totals before;
	uint64_t start_ns, sampled_ns;
	uint64_t start_wall_ms;
};

static struct trace_sum sums;

/* ---- sampling ---- */

/* Counters of a member, all its stripes. */
static void member_counts(const struct dz_seg *seg, uint32_t m, uint64_t bytes[DZ_TIERS],
			  uint64_t *wait_ns)
{
	for (uint32_t i = 0; i < DZ_STAT_STRIPES; i++) {
		const struct dz_stats *s = &seg->stats[(size_t)m * DZ_STAT_STRIPES + i];

		for (int t = 0; t < DZ_TIERS; t++)
			bytes[t] += atomic_load_explicit(&s->hit_bytes[t], memory_order_relaxed);
		*wait_ns += atomic_load_explicit(&s->wait_ns, memory_order_relaxed);
	}
}

static struct trial_process *process_of(struct trial_run *run, uint32_t m,
					const struct dz_member *p, double now)
{
	uint32_t pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
	uint64_t joined = atomic_load_explicit(&p->joined_ms, memory_order_relaxed);
	struct trial_process *more;

	for (uint32_t i = run->n_processes; i-- > 0;) {
		more = &run->processes[i];
		if (more->member == m && more->pid == pid && more->joined_ms == joined)
			return more;
	}
	if (run->n_processes == PROCESSES_MAX)
		return NULL;
	more = realloc(run->processes, (run->n_processes + 1) * sizeof(*more));
	if (!more)
		return NULL;
	run->processes = more;
	more += run->n_processes++;
	*more = (struct trial_process){
		.member = m, .pid = pid, .joined_ms = joined, .first = now
	};
	return more;
}

/* Those of this run: the records of an earlier one's dead may still be there. */
static void sample_processes(struct look *l, double now)
{
	const struct dz_seg *seg = &l->session.seg;

	for (uint32_t m = 1; m < seg->n_members; m++) {
		const struct dz_member *p = &seg->members[m];
		uint64_t bytes[DZ_TIERS] = { 0 }, wait_ns = 0;
		struct trial_process *mine;

		if (atomic_load_explicit(&p->state, memory_order_acquire) != DZ_MEMBER_LIVE ||
		    atomic_load_explicit(&p->is_agent, memory_order_relaxed) ||
		    atomic_load_explicit(&p->joined_ms, memory_order_relaxed) < l->start_wall_ms)
			continue;
		member_counts(seg, m, bytes, &wait_ns);
		mine = process_of(l->run, m, p, now);
		/* It leaves: what it counted has just gone to the common record. */
		if (!mine || wait_ns < mine->wait_ns)
			continue;
		memcpy(mine->comm, p->comm, sizeof(mine->comm) - 1);
		mine->wait_ns = wait_ns;
		mine->bytes = bytes[0] + bytes[1] + bytes[2] + bytes[3];
		mine->last = now;
	}
}

/* Twice the time between samples, from now on. */
static void thin_out(struct trial_run *run)
{
	for (uint32_t i = 0; i < run->n_samples / 2; i++)
		run->samples[i] = run->samples[2 * i + 1];
	run->n_samples /= 2;
	run->every_ns *= 2;
}

static void take_sample(struct look *l)
{
	const struct dz_seg *seg = &l->session.seg;
	struct trial_run *run = l->run;
	struct trial_sample s = { .seconds = (double)(dz_now_ns() - l->start_ns) / 1e9 };

	for (uint32_t m = 0; m < seg->n_members; m++)
		member_counts(seg, m, s.bytes, &s.wait_ns);
	for (int t = 0; t < DZ_TIERS; t++)
		s.bytes[t] -= dz_min_u64(s.bytes[t], l->before.hit_bytes[t]);
	s.wait_ns -= dz_min_u64(s.wait_ns, l->before.wait_ns);
	if (run->n_samples == TRIAL_SAMPLES_MAX)
		thin_out(run);
	run->samples[run->n_samples++] = s;
	sample_processes(l, s.seconds);
	l->sampled_ns = dz_now_ns();
}

static void add_file_wait(struct trial_run *run, const char *name, double seconds)
{
	struct trial_file *more;

	for (uint32_t i = 0; i < run->n_files; i++) {
		if (strcmp(run->files[i].name, name) == 0) {
			run->files[i].wait_seconds += seconds;
			return;
		}
	}
	if (run->n_files == FILES_MAX)
		return;
	if ((run->n_files & (run->n_files - 1)) == 0) {
		more = realloc(run->files, (run->n_files ? 2 * run->n_files : 1) * sizeof(*more));
		if (!more)
			return;
		run->files = more;
	}
	more = &run->files[run->n_files++];
	snprintf(more->name, sizeof(more->name), "%s", name);
	more->wait_seconds = seconds;
}

/* Who waits for what, right now: each waiter stands for the time since the last look. */
static void look_at_waiters(struct look *l, double seconds)
{
	const struct dz_seg *seg = &l->session.seg;
	char name[TRIAL_NAME_BYTES];

	for (uint32_t i = 0; i < seg->n_leases; i++) {
		const struct dz_lease *lease = &seg->leases[i];
		uint32_t waiters = atomic_load_explicit(&lease->waiters, memory_order_relaxed);
		uint64_t word = atomic_load_explicit(&lease->word, memory_order_acquire);

		if (!waiters || waiters > seg->n_members * 64 ||
		    (dz_lease_state(word) != DZ_LEASE_REQUESTED &&
		     dz_lease_state(word) != DZ_LEASE_ACTIVE) ||
		    seg->requests[i].kind != DZ_KIND_DATA)
			continue;
		/* It may be written anew at this moment: a copy with an end. */
		memcpy(name, seg->requests[i].name, sizeof(name) - 1);
		name[sizeof(name) - 1] = '\0';
		add_file_wait(l->run, name, seconds * waiters);
	}
}

/* ---- the command ---- */

static pid_t start_command(const struct trial *t, const struct trace_session *s)
{
	char word[24], **argv, *run[] = { (char *)"dz", (char *)"run", (char *)"--" };
	size_t n = 0;
	pid_t pid;

	while (t->command[n])
		n++;
	argv = calloc(n + 4, sizeof(*argv));
	snprintf(word, sizeof(word), "%llx", (unsigned long long)s->word);
	if (!argv || setenv("DELTAZERO_TRACE", word, 1) < 0)
		return -1;
	memcpy(argv, run, sizeof(run));
	memcpy(argv + 3, t->command, n * sizeof(*argv));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		/* Three runs cannot read one input. */
		dup2(null, STDIN_FILENO);
		if (t->json)
			dup2(STDERR_FILENO, STDOUT_FILENO);
		sigprocmask(SIG_SETMASK, &t->mask, NULL);
		execv("/proc/self/exe", argv);
		_exit(DZ_EXIT_OURS);
	}
	free(argv);
	return pid;
}

void trial_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

/* Looks until the command has ended; true when a signal asked us to stop. */
static bool watch(struct look *l, pid_t pid, int *status, struct rusage *use)
{
	sigset_t awaited;
	static const struct timespec pause = { .tv_nsec = LOOK_NS };
	uint64_t looked_ns = l->start_ns, now;
	bool was_stopped = false;
	siginfo_t info;

	trial_signals(&awaited);
	for (;;) {
		int sig = sigtimedwait(&awaited, &info, &pause);

		if (sig == SIGCHLD && wait4(pid, status, WNOHANG, use) == pid)
			return was_stopped;
		if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP) {
			was_stopped = true;
			/* The terminal's goes to the command too. */
			if (info.si_code <= 0)
				kill(pid, sig);
		}
		now = dz_now_ns();
		look_at_waiters(l, (double)(now - looked_ns) / 1e9);
		looked_ns = now;
		if (now - l->sampled_ns >= l->run->every_ns) {
			take_sample(l);
			trace_watch(&l->session);
			trace_sum_tables(&sums, &l->session, false);
		}
	}
}

/* ---- what came of it ---- */

static int by_process_wait(const void *a, const void *b)
{
	const struct trial_process *x = a, *y = b;

	return x->wait_ns < y->wait_ns ? 1 : x->wait_ns > y->wait_ns ? -1 : 0;
}

static int by_file_wait(const void *a, const void *b)
{
	const struct trial_file *x = a, *y = b;

	return x->wait_seconds < y->wait_seconds ? 1 : x->wait_seconds > y->wait_seconds ? -1 : 0;
}

static void collect_latency(struct look *l)
{
	struct trial_run *run = l->run;

	for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
		run->latency_ns[b] =
			(double)trace_ns(&l->session, dz_trace_bucket_end((uint32_t)b));
	for (uint32_t call = 0; call < DZ_STAT_CALLS; call++) {
		const struct trace_sum_row *row = &sums.rows[call];

		if (!(trace_call_info(call)->classes & TRACE_DATA) || !row->bytes)
			continue;
		for (int t = 0; t < DZ_TIERS; t++) {
			run->calls[t] += row->calls[t];
			run->call_ns[t] += row->ns[t];
			for (int b = 0; b < DZ_TRACE_BUCKETS; b++)
				run->latency[t][b] += row->buckets[t][b];
		}
	}
}

static void collect(struct look *l, const struct dz_config *cfg)
{
	struct trial_run *run = l->run;
	uint64_t seen = 0;

	/* The last sample is the whole. */
	take_sample(l);
	trace_sum_tables(&sums, &l->session, true);
	collect_latency(l);
	dz_totals_settled(&run->totals, cfg);
	dz_totals_since(&run->totals, &l->before);
	if (run->n_processes)
		qsort(run->processes, run->n_processes, sizeof(*run->processes), by_process_wait);
	if (run->n_files)
		qsort(run->files, run->n_files, sizeof(*run->files), by_file_wait);
	for (uint32_t i = 0; i < run->n_processes; i++)
		seen += run->processes[i].wait_ns;
	if (run->totals.wait_ns > seen)
		run->other_wait_seconds = (double)(run->totals.wait_ns - seen) / 1e9;
}

static double seconds_of(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

int trial_run(struct trial_run *run, const struct trial *t, const struct dz_config *cfg)
{
	static struct look l;
	struct rusage use = { 0 };
	int status = 0, ret;
	bool was_stopped;
	pid_t pid;

	memset(&l, 0, sizeof(l));
	memset(&sums, 0, sizeof(sums));
	l.run = run;
	run->every_ns = SAMPLE_NS;
	ret = trace_open(&l.session, cfg, DZ_TRACE_COUNTS | DZ_TRACE_FOLLOW);
	if (ret < 0)
		return ret;
	dz_totals_read(&l.before, cfg);
	l.start_ns = dz_now_ns();
	l.start_wall_ms = dz_wall_ms();
	pid = start_command(t, &l.session);
	was_stopped = pid > 0 && watch(&l, pid, &status, &use);
	run->seconds = (double)(dz_now_ns() - l.start_ns) / 1e9;
	run->cpu_seconds = seconds_of(&use.ru_utime) + seconds_of(&use.ru_stime);
	run->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	collect(&l, cfg);
	trace_close(&l.session);
	if (pid < 0)
		return -ENOMEM;
	return was_stopped || run->status == 128 + SIGINT ? -EINTR : 0;
}

void trial_run_free(struct trial_run *run)
{
	if (!run)
		return;
	free(run->processes);
	free(run->files);
	free(run);
}
