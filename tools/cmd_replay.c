// SPDX-License-Identifier: MIT
/*
 * dz record: the calls of a job, in a file (`dz trace --format record`).
 * dz replay: makes those calls again, below any directory, by as many threads, each
 * after the same time of thinking, and says how long they took.
 *
 * A replay makes ordinary calls: below a mount it is run by `dz run`, below a
 * directory of the kernel by itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/sys.h"
#include "tools/dz.h"
#include "tools/human.h"

static const char record_help[] =
	"Usage: dz record -o FILE [-m LOCAL=URL]... [--] COMMAND [ARGUMENT]...\n"
	"Runs COMMAND and writes to FILE which files it reads, where and when: names,\n"
	"offsets, sizes and times, no content.  dz replay makes the same calls again.\n"
	"\n"
	"  -o, --output FILE  write there\n"
	"      --json         at the end one JSON object on standard output: file,\n"
	"                     threads, paths, calls, bytes, missed\n"
	"      --help         this text\n"
	"\n"
	"Other options are those of dz trace: -p PID, -P PATH, --shm-dir DIR...\n"
	"Exit status: that of COMMAND; 125 when dz fails.";

static const char replay_help[] =
	"Usage: dz replay [OPTION]... FILE DIR\n"
	"Makes the calls of a recorded job again, below DIR, by as many threads, each\n"
	"after the same time of thinking.  DIR may be any directory; for a mount:\n"
	"dz run -m DIR=URL -- dz replay FILE DIR\n"
	"\n"
	"      --no-think  one call after the other, without the job's own time\n"
	"      --json      one JSON object\n"
	"      --help      this text\n"
	"\n"
	"Exit status: 0; 1 when a call ended otherwise than at the recording; 125 when\n"
	"dz fails.";

struct call {
	char op;
	uint32_t gap_us, took_us, path;
	uint64_t off, len;
};

struct worker {
	struct replay *replay;
	struct call *calls;
	size_t n;
	uint64_t start_us;
	pthread_t thread;
	int *fds; /* of paths, + 1; 0: not open */
	char *buf;
	size_t buf_len;
	uint64_t bytes, wait_ns, differ;
};

struct replay {
	const char *dir;
	int dir_fd;
	bool no_think, is_json;
	char **paths;
	size_t n_paths;
	struct worker *workers;
	size_t n_workers, n_calls;
	uint64_t recorded_ns; /* that calls took */
	uint64_t begin_ns;
};

#define BUF_MAX ((size_t)256 << 20)

/* ---- reading a recording ---- */

static void *grown(void *at, size_t n, size_t size)
{
	void *more = n & (n - 1) ? at : reallocarray(at, n ? 2 * n : 1, size);

	if (!more)
		abort();
	return more;
}

static bool read_path(struct replay *r, const char *line)
{
	size_t n;
	int at = 0;

	if (sscanf(line, "P %zu %n", &n, &at) < 1 || !at || n != r->n_paths)
		return false;
	r->paths = grown(r->paths, r->n_paths, sizeof(*r->paths));
	r->paths[r->n_paths] = strndup(line + at, strcspn(line + at, "\n"));
	return r->paths[r->n_paths++] != NULL;
}

static bool read_thread(struct replay *r, const char *line)
{
	uint64_t us;
	unsigned int pid;
	size_t n;

	if (sscanf(line, "T %zu %u %" SCNu64, &n, &pid, &us) != 3 || n != r->n_workers)
		return false;
	r->workers = grown(r->workers, r->n_workers, sizeof(*r->workers));
	r->workers[r->n_workers++] = (struct worker){ .start_us = us };
	return true;
}

static bool read_call(struct replay *r, const char *line)
{
	struct call c;
	size_t thread;

	if (sscanf(line, "%zu %u %c %u %" SCNu64 " %" SCNu64 " %u", &thread, &c.gap_us, &c.op,
		   &c.path, &c.off, &c.len, &c.took_us) != 7 ||
	    thread >= r->n_workers || c.path >= r->n_paths || !strchr("ocrmslOCRMSL", c.op))
		return false;
	struct worker *w = &r->workers[thread];

	w->calls = grown(w->calls, w->n, sizeof(*w->calls));
	w->calls[w->n++] = c;
	if (c.op == 'r' && c.len > w->buf_len)
		w->buf_len = c.len < BUF_MAX ? (size_t)c.len : BUF_MAX;
	r->recorded_ns += (uint64_t)c.took_us * 1000;
	r->n_calls++;
	return true;
}

/* 0, or the exit status. */
static int read_recording(struct replay *r, const char *file)
{
	FILE *from = fopen(file, "re");
	unsigned long number = 0;
	char *line = NULL;
	size_t cap = 0;
	int ret = 0;

	if (!from)
		return dz_fail("replay", "%s: %m", file);
	while (ret == 0 && getline(&line, &cap, from) > 0) {
		bool ok = ++number == 1	   ? strcmp(line, "dz-record 1\n") == 0
			  : line[0] == 'P' ? read_path(r, line)
			  : line[0] == 'T' ? read_thread(r, line)
					   : read_call(r, line);

		if (!ok)
			ret = dz_fail("replay", "%s: line %lu: not of a recording", file, number);
	}
	if (ret == 0 && number == 0)
		ret = dz_fail("replay", "%s: empty", file);
	free(line);
	fclose(from);
	return ret;
}

/* ---- making the calls ---- */

static int fd_of(struct worker *w, const struct call *c)
{
	int *fd = &w->fds[c->path];

	if (!*fd)
		*fd = openat(w->replay->dir_fd, w->replay->paths[c->path], O_RDONLY | O_CLOEXEC) +
		      1;
	return *fd - 1;
}

static bool do_open(struct worker *w, const struct call *c)
{
	int fd = openat(w->replay->dir_fd, w->replay->paths[c->path], O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	/* The second of two that are open at once gets the place of the first. */
	if (w->fds[c->path])
		close(w->fds[c->path] - 1);
	w->fds[c->path] = fd + 1;
	return true;
}

static bool do_close(struct worker *w, const struct call *c)
{
	if (w->fds[c->path])
		close(w->fds[c->path] - 1);
	w->fds[c->path] = 0;
	return true;
}

static bool do_read(struct worker *w, const struct call *c)
{
	int fd = fd_of(w, c);
	uint64_t done = 0;

	while (fd >= 0 && done < c->len) {
		size_t n = (size_t)dz_min_u64(c->len - done, w->buf_len);
		ssize_t got = pread(fd, w->buf, n, (off_t)(c->off + done));

		if (got <= 0)
			break;
		done += (uint64_t)got;
	}
	w->bytes += done;
	return fd >= 0 && done == c->len;
}

static bool do_map(struct worker *w, const struct call *c)
{
	int fd = fd_of(w, c);
	struct stat st;
	unsigned char sum = 0;
	uint64_t len;
	char *at;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	len = c->off < (uint64_t)st.st_size ? dz_min_u64(c->len, (uint64_t)st.st_size - c->off) : 0;
	if (!len)
		return c->len == 0;
	at = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, (off_t)c->off);
	if (at == MAP_FAILED)
		return false;
	for (uint64_t i = 0; i < len; i += 4096)
		sum ^= (unsigned char)*(volatile char *)(at + i); /* lint: volatile: a load */
	(void)sum;
	munmap(at, len);
	w->bytes += len;
	return true;
}

static bool do_list(struct worker *w, const struct call *c)
{
	int fd = openat(w->replay->dir_fd, w->replay->paths[c->path],
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	while (dir && readdir(dir))
		;
	if (dir)
		closedir(dir);
	return dir != NULL;
}

static bool do_stat(struct worker *w, const struct call *c)
{
	struct stat st;

	return fstatat(w->replay->dir_fd, w->replay->paths[c->path], &st, 0) == 0;
}

static bool do_call(struct worker *w, const struct call *c)
{
	switch (c->op | 0x20) {
	case 'o':
		return do_open(w, c);
	case 'c':
		return do_close(w, c);
	case 'r':
		return do_read(w, c);
	case 'm':
		return do_map(w, c);
	case 'l':
		return do_list(w, c);
	default:
		return do_stat(w, c);
	}
}

static void think(uint64_t us)
{
	struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	if (us)
		nanosleep(&ts, NULL);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	/* A nap is 50 us too long: what is slept beyond comes off the next ones. */
	uint64_t owed_ns = 0;

	if (!w->replay->no_think)
		think(w->start_us);
	for (size_t i = 0; i < w->n; i++) {
		const struct call *c = &w->calls[i];
		uint64_t start;

		owed_ns += (uint64_t)c->gap_us * 1000;
		if (i && !w->replay->no_think && owed_ns > 50000) {
			uint64_t before = dz_now_ns(), slept;

			think(owed_ns / 1000);
			slept = dz_now_ns() - before;
			owed_ns -= slept < owed_ns ? slept : owed_ns;
		}
		start = dz_now_ns();
		/* A call that failed then may fail. */
		w->differ += !do_call(w, c) == (c->op >= 'a');
		w->wait_ns += dz_now_ns() - start;
	}
	return NULL;
}

static int prepare(struct replay *r)
{
	r->dir_fd = open(r->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->dir_fd < 0)
		return dz_fail("replay", "%s: %m", r->dir);
	for (size_t i = 0; i < r->n_workers; i++) {
		struct worker *w = &r->workers[i];

		w->replay = r;
		w->fds = calloc(r->n_paths, sizeof(*w->fds));
		w->buf = malloc(w->buf_len + 1);
		if (!w->fds || !w->buf)
			return dz_fail("replay", "not enough memory");
	}
	return 0;
}

static int run(struct replay *r)
{
	int ret = prepare(r);

	if (ret != 0)
		return ret;
	r->begin_ns = dz_now_ns();
	for (size_t i = 0; i < r->n_workers; i++) {
		if (pthread_create(&r->workers[i].thread, NULL, work, &r->workers[i]) != 0)
			return dz_fail("replay", "cannot start %zu threads", r->n_workers);
	}
	for (size_t i = 0; i < r->n_workers; i++)
		pthread_join(r->workers[i].thread, NULL);
	return 0;
}

/* ---- what came of it ---- */

static int report(const struct replay *r)
{
	double seconds = (double)(dz_now_ns() - r->begin_ns) / 1e9;
	uint64_t bytes = 0, wait_ns = 0, differ = 0;
	char text[DZ_HUMAN_BYTES];

	for (size_t i = 0; i < r->n_workers; i++) {
		bytes += r->workers[i].bytes;
		wait_ns += r->workers[i].wait_ns;
		differ += r->workers[i].differ;
	}
	if (r->is_json)
		printf("{\"seconds\": %.6f, \"threads\": %zu, \"calls\": %zu, \"bytes\": %" PRIu64
		       ", \"call_seconds\": %.6f, \"recorded_call_seconds\": %.6f, \"differ\": "
		       "%" PRIu64 "}\n",
		       seconds, r->n_workers, r->n_calls, bytes, (double)wait_ns / 1e9,
		       (double)r->recorded_ns / 1e9, differ);
	else
		printf("%zu calls by %zu threads in %.3f s: %s\n"
		       "in calls: %.3f s, and %.3f s at the recording\n"
		       "%" PRIu64 " calls ended otherwise\n",
		       r->n_calls, r->n_workers, seconds, dz_human(bytes, text),
		       (double)wait_ns / 1e9, (double)r->recorded_ns / 1e9, differ);
	if (dz_flushed("replay") != 0)
		return DZ_EXIT_OURS;
	return differ ? DZ_EXIT_NO : DZ_EXIT_OK;
}

int cmd_replay(int argc, char **argv)
{
	static const struct option options[] = {
		{ "no-think", no_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct replay r = { 0 };
	int opt, ret;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (opt == 'h') {
			puts(replay_help);
			return dz_flushed("replay");
		}
		if (opt == '?')
			return dz_usage("replay", "wrong option");
		r.no_think |= opt == 'n';
		r.is_json |= opt == 'j';
	}
	if (argc - optind != 2)
		return dz_usage("replay", "a recording and a directory are expected");
	r.dir = argv[optind + 1];
	ret = read_recording(&r, argv[optind]);
	if (ret == 0)
		ret = run(&r);
	return ret != 0 ? ret : report(&r);
}

/* Everything but --help is what dz trace makes of it. */
int cmd_record(int argc, char **argv)
{
	char **args = calloc((size_t)argc + 3, sizeof(*args));

	if (!args)
		return dz_fail("record", "not enough memory");
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		puts(record_help);
		free(args);
		return dz_flushed("record");
	}
	args[0] = argv[0];
	args[1] = (char *)"--format";
	args[2] = (char *)"record";
	memcpy(args + 3, argv + 1, (size_t)(argc - 1) * sizeof(*args));
	return cmd_trace(argc + 2, args);
}
