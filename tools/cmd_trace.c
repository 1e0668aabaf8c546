// SPDX-License-Identifier: MIT
/*
 * dz trace: the calls of a program that the cache answers, as strace would show
 * them, and where their bytes came from.
 *
 * 1. A session: a file in the cache's directory that traced processes write to.
 * 2. -p: the processes are told so.  -- COMMAND: `dz run` starts it with the
 *    session's number in its environment; its children follow by themselves.
 * 3. Every few milliseconds: what came is printed, or added up.
 * 4. The end: all of them are gone, or we are told to stop.  The file is removed;
 *    a process that goes on lets go of it at its next call.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/sys.h"
#include "tools/dz.h"
#include "tools/trace.h"
#include "tools/trace_record.h"

static const char help[] =
	"Usage: dz trace [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"       dz trace [OPTION]... -p PID\n"
	"Shows the calls that the cache answers: they make no system call, so strace\n"
	"does not see them.  Lines and options are strace's; behind a line stands where\n"
	"the bytes came from (dram, disk, peer, blob) and what a slow call waited for.\n"
	"\n"
	"  -c                   no lines: count calls, errors, tiers, bytes and times\n"
	"  -C                   both\n"
	"  -S ORDER             of the table: time (as it is), calls, errors, bytes,\n"
	"                       avg-time, max-time, name, none\n"
	"      --json           the table of -c as one JSON object; of --format record,\n"
	"                       what was recorded\n"
	"  -e trace=SET         only these calls: read,pread64,%file,%desc,%memory,!close\n"
	"  -e status=SET        successful, failed\n"
	"  -e tier=SET          dram, disk, peer, blob\n"
	"  -e slower=TIME       that took at least 1ms, 20us, 0.5s\n"
	"  -e origin            that Blob or a peer had to answer\n"
	"  -P PATH              only calls on this path, or below it\n"
	"  -z, -Z               only calls that succeeded; that failed\n"
	"  -f                   children too: always so (strace -f)\n"
	"      --no-follow      no children\n"
	"  -p, --attach PID     a running process; ^C lets go of it\n"
	"  -o, --output FILE    write there; '|COMMAND' pipes\n"
	"  -T                   the time that each call took\n"
	"  -t, -tt, -ttt, -r    time of day, with microseconds, since 1970; since the\n"
	"                       last line\n"
	"  -y                   paths of descriptors\n"
	"  -q, -qq              not how COMMAND ended\n"
	"  -s N                 show N bytes of what was read (none)\n"
	"      --format FORMAT  lines, chrome (JSON that Perfetto opens), dftracer (for\n"
	"                       its tools) or record (for dz replay)\n"
	"  -m, --mount LOCAL=URL, --cache-dir DIR, --shm-dir DIR, --dram-size N,\n"
	"      --disk-size N    as for dz run\n"
	"      --help           this text\n"
	"\n"
	"Exit status: that of COMMAND; 0 after -p; 125 when dz fails.";

struct trace {
	struct trace_filter filter;
	struct trace_style style;
	enum trace_order order;
	struct trace_session session;
	struct trace_events events;
	struct trace_record *record;
	FILE *to;
	const char *output;
	bool counts, only_counts, is_json, follows, is_pipe;
	bool is_chrome, is_dftracer, is_record; /* instead of lines */
	bool has_event;				/* something was printed */
	uint64_t dropped;			/* that was told */
	uint32_t pids[64];
	uint32_t n_pids;
	uint32_t waits; /* of pids that have not touched a mount yet: bits */
	char **command;
	pid_t child, pid; /* child: -1 once it has ended */
	int status;
	uint32_t quiet; /* -q */
	enum { NO_END, HAS_ENDED, END_IS_TOLD } end;
	uint64_t ended_ns;
	uint32_t seen[256]; /* threads: hash -> tid */
};

static volatile sig_atomic_t stop_asked; /* lint: volatile: sig_atomic_t, set by on_stop() */
static struct trace_sum sums;

/* ---- options ---- */

static int set_mount(const char *mount)
{
	static char *all;
	char *more;

	if (asprintf(&more, "%s%s%s", all ? all : "", all ? ";" : "", mount) < 0)
		return -1;
	free(all);
	all = more;
	return setenv("DELTAZERO_MOUNT", all, 1);
}

static int set_dir(const char *name, const char *path)
{
	char cwd[DZ_PATH_MAX], full[2 * DZ_PATH_MAX + 1];

	if (path[0] == '/')
		return setenv(name, path, 1);
	if (!getcwd(cwd, sizeof(cwd)))
		return -1;
	snprintf(full, sizeof(full), "%s/%s", cwd, path);
	return setenv(name, full, 1);
}

enum {
	CACHE_DIR = 256,
	SHM_DIR,
	DRAM_SIZE,
	DISK_SIZE,
	FORMAT,
	NO_FOLLOW,
	JSON,
};

static int set_place(int opt)
{
	switch (opt) {
	case 'm':
		return set_mount(optarg);
	case CACHE_DIR:
		return set_dir("DELTAZERO_CACHE_DIR", optarg);
	case SHM_DIR:
		return set_dir("DELTAZERO_SHM_DIR", optarg);
	case DRAM_SIZE:
		return setenv("DELTAZERO_DRAM_SIZE", optarg, 1);
	default:
		return setenv("DELTAZERO_DISK_SIZE", optarg, 1);
	}
}

static int add_path(struct trace *t, const char *path)
{
	if (t->filter.n_paths == TRACE_PATHS_MAX)
		return dz_usage("trace", "-P: at most %d paths", TRACE_PATHS_MAX);
	t->filter.paths[t->filter.n_paths++] = path;
	return 0;
}

/* "12", or "12,13 14" as strace takes them. */
static int add_pids(struct trace *t, char *list)
{
	char *save, *end;

	for (char *word = strtok_r(list, ", \n\t", &save); word;
	     word = strtok_r(NULL, ", \n\t", &save)) {
		unsigned long pid = strtoul(word, &end, 10);

		if (*end || pid == 0 || pid > INT32_MAX)
			return dz_usage("trace", "-p %s: not the number of a process", word);
		if (t->n_pids == DZ_ARRAY_LEN(t->pids) / 2)
			return dz_usage("trace", "-p: at most %zu processes",
					DZ_ARRAY_LEN(t->pids) / 2);
		t->pids[t->n_pids++] = (uint32_t)pid;
	}
	return 0;
}

static int add_expr(struct trace *t, const char *expr)
{
	char why[128] = "";

	if (trace_filter_add(&t->filter, expr, why, sizeof(why)))
		return 0;
	return dz_usage("trace", "%s", why);
}

static int set_content(struct trace *t, const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n > 4096)
		return dz_usage("trace", "-s %s: a number from 0 to 4096", text);
	t->style.content = (uint32_t)n;
	return 0;
}

static bool has_lines(const struct trace *t)
{
	return !t->is_chrome && !t->is_dftracer && !t->is_record;
}

static int set_format(struct trace *t, const char *format)
{
	t->is_chrome = strcmp(format, "chrome") == 0;
	t->is_dftracer = strcmp(format, "dftracer") == 0;
	t->is_record = strcmp(format, "record") == 0;
	if (!has_lines(t) || strcmp(format, "lines") == 0)
		return 0;
	return dz_usage("trace", "--format %s: lines, chrome, dftracer or record", format);
}

static void set_flag(struct trace *t, int opt)
{
	switch (opt) {
	case 'c':
		t->counts = t->only_counts = true;
		break;
	case 'C':
		t->counts = true;
		break;
	case 'z':
		t->filter.no_failure = true;
		break;
	case 'Z':
		t->filter.no_success = true;
		break;
	case 'T':
		t->style.takes = true;
		break;
	case 't':
		t->style.stamp += t->style.stamp < TRACE_EPOCH;
		break;
	case 'r':
		t->style.relative = true;
		break;
	case 'q':
		t->quiet++;
		break;
	case 'y':
		t->style.with_paths = true;
		break;
	case NO_FOLLOW:
		t->follows = false;
		break;
	case JSON:
		t->is_json = true;
		break;
	default: /* -f */
		break;
	}
}

static int set_option(struct trace *t, int opt)
{
	switch (opt) {
	case 'e':
		return add_expr(t, optarg);
	case 'P':
		return add_path(t, optarg);
	case 'p':
		return add_pids(t, optarg);
	case 's':
		return set_content(t, optarg);
	case 'S':
		return trace_order_named(optarg, &t->order)
			       ? 0
			       : dz_usage("trace", "-S %s: no such order", optarg);
	case 'o':
		t->output = optarg;
		return 0;
	case FORMAT:
		return set_format(t, optarg);
	case 'm':
	case CACHE_DIR:
	case SHM_DIR:
	case DRAM_SIZE:
	case DISK_SIZE:
		return set_place(opt) < 0 ? dz_fail("trace", "environment: %m") : 0;
	case '?':
		return dz_usage("trace", "wrong option");
	default:
		set_flag(t, opt);
		return 0;
	}
}

static int parse(struct trace *t, int argc, char **argv)
{
	static const struct option options[] = {
		{ "mount", required_argument, NULL, 'm' },
		{ "cache-dir", required_argument, NULL, CACHE_DIR },
		{ "shm-dir", required_argument, NULL, SHM_DIR },
		{ "dram-size", required_argument, NULL, DRAM_SIZE },
		{ "disk-size", required_argument, NULL, DISK_SIZE },
		{ "format", required_argument, NULL, FORMAT },
		{ "no-follow", no_argument, NULL, NO_FOLLOW },
		{ "json", no_argument, NULL, JSON },
		{ "attach", required_argument, NULL, 'p' },
		{ "output", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt, ret = 0;

	while (ret == 0 &&
	       (opt = getopt_long(argc, argv, "+cCS:e:P:zZfp:o:Ttrqys:m:h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(help);
			exit(dz_flushed("trace"));
		}
		ret = set_option(t, opt);
	}
	t->command = optind < argc ? argv + optind : NULL;
	if (ret == 0 && !t->command && !t->n_pids)
		return dz_usage("trace", "which command, or -p which process?");
	if (ret == 0 && t->is_json && !t->only_counts && !t->is_record)
		return dz_usage("trace", "--json is for -c; lines have --format chrome");
	if (ret == 0 && t->is_json && !t->only_counts && !t->output)
		return dz_usage("trace", "--json of a recording needs -o FILE");
	if (ret == 0 && t->command && t->n_pids)
		return dz_usage("trace", "a command and -p: one of them");
	return ret;
}

/* ---- where the lines go ---- */

static int open_output(struct trace *t)
{
	t->to = stderr;
	if (!t->output) {
		if (!has_lines(t) || t->is_json)
			t->to = stdout;
		return 0;
	}
	t->is_pipe = t->output[0] == '|';
	t->style.is_file = t->follows;
	t->to = t->is_pipe ? popen(t->output + 1, "we") : fopen(t->output, "we");
	return t->to ? 0 : dz_fail("trace", "%s: %m", t->output);
}

static int close_output(struct trace *t)
{
	bool is_bad = fflush(t->to) != 0 || ferror(t->to);

	if (t->is_pipe)
		pclose(t->to);
	else if (t->output && fclose(t->to) != 0)
		is_bad = true;
	return is_bad ? dz_fail("trace", "%s: could not be written",
				t->output ? t->output : "the output")
		      : 0;
}

/* How many threads there were so far: with a second one, lines begin with a number. */
static void see_thread(struct trace *t, uint32_t tid)
{
	uint32_t i = tid % DZ_ARRAY_LEN(t->seen);

	for (uint32_t k = 0; k < DZ_ARRAY_LEN(t->seen); k++) {
		uint32_t *at = &t->seen[(i + k) % DZ_ARRAY_LEN(t->seen)];

		if (*at == tid)
			return;
		if (*at)
			continue;
		*at = tid;
		t->style.n_pids++;
		return;
	}
}

static void take_event(struct trace *t, struct trace_event *ev)
{
	see_thread(t, ev->tid);
	trace_path_learn(ev);
	if (!trace_filter_wants(&t->filter, ev))
		return;
	if (t->counts && !(t->session.word & DZ_TRACE_COUNTS))
		trace_sum_event(&sums, ev);
	if (t->only_counts)
		return;
	if (t->is_record)
		trace_record_event(t->record, ev);
	else if (t->is_chrome)
		trace_chrome_event(t->to, ev, !t->has_event);
	else if (t->is_dftracer)
		trace_dftracer_event(t->to, ev, !t->has_event);
	else
		trace_line(t->to, &t->style, ev);
	t->has_event = true;
}

static void take_all(struct trace *t, bool is_end)
{
	uint64_t dropped = trace_dropped(&t->session);

	trace_drain(&t->session, &t->events, is_end);
	for (size_t i = 0; i < t->events.n; i++) {
		take_event(t, &t->events.at[i]);
		trace_event_free(&t->events.at[i]);
	}
	if (t->events.n && !is_end)
		fflush(t->to);
	t->events.n = 0;
	if (dropped > t->dropped && has_lines(t) && !t->only_counts)
		fprintf(t->to, "--- %llu calls not shown: the ring was full ---\n",
			(unsigned long long)(dropped - t->dropped));
	t->dropped = dropped;
	if (!t->counts)
		return;
	trace_sum_missed(&sums, &t->session);
	if (t->session.word & DZ_TRACE_COUNTS)
		trace_sum_tables(&sums, &t->session, is_end);
}

/* ---- whom ---- */

/* 0, or the exit status. */
static int attach(struct trace *t)
{
	for (uint32_t i = 0; i < t->n_pids; i++) {
		int ret = trace_attach(&t->session, t->pids[i]);
		uint32_t n = t->follows && (ret == 0 || ret == -EAGAIN)
				     ? trace_attach_family(&t->session, t->pids[i])
				     : 0;

		if (ret == -EAGAIN) {
			fprintf(stderr, "dz trace: process %u has not touched a mount: %s\n",
				t->pids[i],
				n ? "looking at what it has started" : "waiting for it");
			t->waits |= 1u << i;
		} else if (ret == -EBUSY) {
			return dz_fail("trace", "process %u: another dz trace looks at it",
				       t->pids[i]);
		} else if (ret < 0) {
			return dz_fail("trace", "process %u: %s", t->pids[i], dz_strerror(-ret));
		}
	}
	return 0;
}

static void attach_late(struct trace *t)
{
	for (uint32_t i = 0; i < t->n_pids; i++) {
		if ((t->waits >> i & 1) && trace_attach(&t->session, t->pids[i]) != -EAGAIN)
			t->waits &= ~(1u << i);
	}
}

static int start_command(struct trace *t)
{
	char word[24], **argv, *run[] = { (char *)"dz", (char *)"run", (char *)"--" };
	size_t n = 0;

	while (t->command[n])
		n++;
	argv = calloc(n + 4, sizeof(*argv));
	snprintf(word, sizeof(word), "%llx", (unsigned long long)t->session.word);
	if (!argv || setenv("DELTAZERO_TRACE", word, 1) < 0)
		return dz_fail("trace", "environment: %m");
	memcpy(argv, run, sizeof(run));
	memcpy(argv + 3, t->command, n * sizeof(*argv));
	t->child = fork();
	if (t->child == 0) {
		signal(SIGINT, SIG_DFL);
		signal(SIGQUIT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		execv("/proc/self/exe", argv);
		_exit(DZ_EXIT_OURS);
	}
	free(argv);
	return t->child < 0 ? dz_fail("trace", "fork: %m") : 0;
}

static void on_stop(int sig)
{
	(void)sig;
	stop_asked++;
}

/* ^C is for the command as well, which ends or does not; we stay until it has. */
static void catch_signals(void)
{
	struct sigaction act = { .sa_handler = on_stop };

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static bool is_over(struct trace *t)
{
	if (t->child > 0 && waitpid(t->child, &t->status, WNOHANG) == t->child) {
		t->pid = t->child;
		t->child = -1;
		t->end = HAS_ENDED;
		t->ended_ns = dz_wall_ms() * 1000000;
	}
	if (t->command)
		return (t->child < 0 && (t->session.n_live == 0 || stop_asked)) || stop_asked > 2;
	return stop_asked || (!t->waits && t->session.n_live == 0);
}

/* Behind the lines of its calls, so not before they have been read once more. */
static void tell_end(struct trace *t)
{
	if (t->end == HAS_ENDED && !t->quiet && has_lines(t) && !t->only_counts)
		trace_end_line(t->to, &t->style, (uint32_t)t->pid, t->ended_ns, t->status);
	t->end = t->end == HAS_ENDED ? END_IS_TOLD : t->end;
}

static void loop(struct trace *t)
{
	uint64_t wait_ms = 5;

	for (;;) {
		bool over, was_ended = t->end == HAS_ENDED;

		trace_watch(&t->session);
		attach_late(t);
		over = is_over(t);
		take_all(t, over);
		if (over || was_ended)
			tell_end(t);
		if (over || ferror(t->to))
			return;
		/* Counts need no haste. */
		poll(NULL, 0, t->session.word & DZ_TRACE_LINES ? (int)wait_ms : 50);
	}
}

static int exit_status(const struct trace *t)
{
	if (!t->command || !t->child)
		return DZ_EXIT_OK;
	if (WIFSIGNALED(t->status)) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(WTERMSIG(t->status), SIG_DFL);
		raise(WTERMSIG(t->status));
	}
	return WEXITSTATUS(t->status);
}

static uint32_t wanted(const struct trace *t)
{
	bool is_simple = t->counts && !trace_filter_needs_events(&t->filter);
	uint32_t want = t->follows ? DZ_TRACE_FOLLOW : 0;

	if (is_simple)
		want |= DZ_TRACE_COUNTS;
	if (!is_simple || !t->only_counts)
		want |= DZ_TRACE_LINES;
	if (t->style.with_paths || t->filter.n_paths || !has_lines(t))
		want |= DZ_TRACE_PATHS;
	return want | t->style.content << 16;
}

static int finish(struct trace *t)
{
	int ret;

	if (t->is_chrome || t->is_dftracer)
		trace_chrome_end(t->to);
	if (t->is_json && t->only_counts)
		trace_sum_json(t->to, &sums, &t->session, &t->filter, t->order);
	else if (t->counts)
		trace_sum_print(t->to, &sums, &t->session, &t->filter, t->order);
	if (t->dropped)
		fprintf(stderr, "dz trace: %llu calls were not seen: the rings were full\n",
			(unsigned long long)t->dropped);
	ret = close_output(t);
	if (ret == 0 && t->is_json && !t->only_counts) {
		trace_record_json(stdout, t->record, t->output, t->dropped);
		ret = dz_flushed("trace");
	}
	trace_close(&t->session);
	free(t->events.at);
	return ret ? ret : exit_status(t);
}

int cmd_trace(int argc, char **argv)
{
	static struct dz_config cfg;
	static struct trace t = { .follows = true };
	int ret;

	trace_filter_all(&t.filter);
	ret = parse(&t, argc, argv);
	if (ret != 0)
		return ret;
	if (dz_config_read(&cfg, environ) < 0 && t.command)
		return dz_fail("trace", "%s", cfg.error);
	if (t.command && cfg.n_mounts == 0)
		return dz_usage("trace", "nothing is mounted: -m LOCAL=URL");
	ret = open_output(&t);
	if (ret != 0)
		return ret;
	ret = trace_open(&t.session, &cfg, wanted(&t));
	if (ret < 0) {
		trace_close(&t.session);
		return dz_fail("trace", "%s: %s", cfg.shm_dir, dz_strerror(-ret));
	}
	catch_signals();
	ret = t.command ? start_command(&t) : attach(&t);
	if (ret != 0) {
		trace_close(&t.session);
		return ret;
	}
	if (t.is_chrome || t.is_dftracer)
		trace_chrome_begin(t.to, t.session.wall_ns);
	if (t.is_record)
		t.record = trace_record_new(t.to, &cfg);
	loop(&t);
	return finish(&t);
}
