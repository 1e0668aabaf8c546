// SPDX-License-Identifier: MIT
/*
 * dz run: a command with the library in front of it.
 *
 * 1. The options become the environment that the library reads.
 * 2. Without --report, dz becomes the command: nothing of it is left.
 * 3. With --report, dz stays as its parent, passes signals on, and writes what
 *    the cache counted meanwhile when it has ended.
 *
 * Nothing is started before the options, the mounts and the report file are
 * known to be good (125).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/sys.h"
#include "tools/dz.h"
#include "tools/install_path.h"
#include "tools/totals.h"

static const char help[] =
	"Usage: dz run [-m LOCAL=URL]... [OPTION]... [--] COMMAND [ARGUMENT]...\n"
	"Runs COMMAND, which sees the container of URL as files below LOCAL.  Options\n"
	"stand for the variables of the environment and win over them.\n"
	"\n"
	"  -m, --mount LOCAL=URL  what is below the path LOCAL (DELTAZERO_MOUNT); LOCAL\n"
	"                         need not exist\n"
	"      --cache-dir DIR    NVMe tier (DELTAZERO_CACHE_DIR)\n"
	"      --shm-dir DIR      DRAM tier and index (DELTAZERO_SHM_DIR)\n"
	"      --dram-size N      at most, such as 4G (DELTAZERO_DRAM_SIZE)\n"
	"      --disk-size N      at most, 0 for none (DELTAZERO_DISK_SIZE)\n"
	"      --report FILE      when COMMAND has ended, writes to FILE as JSON what the\n"
	"                         cache counted meanwhile, other programs on it included\n"
	"      --help             this text\n"
	"\n"
	"URL: https://ACCOUNT.blob.core.windows.net/CONTAINER[/PREFIX][?SAS], az://...,\n"
	"abfss://..., wasbs://..., or http://HOST:PORT/ACCOUNT/CONTAINER.  Credentials\n"
	"come from AZURE_STORAGE_KEY and the other names that Azure's tools read.\n"
	"\n"
	"Exit status: that of COMMAND; 125 when dz fails before it starts, 126 when\n"
	"COMMAND cannot be executed, 127 when it is not found.";

struct run {
	char *mounts; /* "A=U;B=V", NULL: leave the environment's */
	const char *report;
	FILE *report_to;
	char **command;
};

static void add_mount(struct run *run, const char *mount)
{
	char *all;

	if (asprintf(&all, "%s%s%s", run->mounts ? run->mounts : "", run->mounts ? ";" : "",
		     mount) < 0)
		abort();
	free(run->mounts);
	run->mounts = all;
}

/* A relative directory would be another one in a program that changes its own. */
static int set_path(const char *name, const char *path)
{
	char cwd[DZ_PATH_MAX], full[2 * DZ_PATH_MAX];

	if (path[0] == '/')
		return setenv(name, path, 1);
	if (!getcwd(cwd, sizeof(cwd)))
		return -1;
	snprintf(full, sizeof(full), "%s/%s", cwd, path);
	return setenv(name, full, 1);
}

/* Returns 0, or the exit status. */
static int parse(struct run *run, int argc, char **argv)
{
	enum { CACHE_DIR = 256, SHM_DIR, DRAM_SIZE, DISK_SIZE, REPORT };
	static const struct option options[] = {
		{ "mount", required_argument, NULL, 'm' },
		{ "cache-dir", required_argument, NULL, CACHE_DIR },
		{ "shm-dir", required_argument, NULL, SHM_DIR },
		{ "dram-size", required_argument, NULL, DRAM_SIZE },
		{ "disk-size", required_argument, NULL, DISK_SIZE },
		{ "report", required_argument, NULL, REPORT },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt, ret = 0;

	while (ret == 0 && (opt = getopt_long(argc, argv, "+m:h", options, NULL)) != -1) {
		switch (opt) {
		case 'm':
			add_mount(run, optarg);
			break;
		case CACHE_DIR:
			ret = set_path("DELTAZERO_CACHE_DIR", optarg);
			break;
		case SHM_DIR:
			ret = set_path("DELTAZERO_SHM_DIR", optarg);
			break;
		case DRAM_SIZE:
			ret = setenv("DELTAZERO_DRAM_SIZE", optarg, 1);
			break;
		case DISK_SIZE:
			ret = setenv("DELTAZERO_DISK_SIZE", optarg, 1);
			break;
		case REPORT:
			run->report = optarg;
			break;
		case 'h':
			puts(help);
			exit(dz_flushed("run"));
		default:
			return dz_usage("run", "wrong option");
		}
	}
	if (ret < 0)
		return dz_fail("run", "environment: %m");
	run->command = argv + optind;
	return optind < argc ? 0 : dz_usage("run", "which command?");
}

/* In front of what is there: the first of a LD_PRELOAD is asked first. */
static int set_preload(void)
{
	const char *old = getenv("LD_PRELOAD");
	char lib[DZ_PATH_MAX];
	char *all;

	if (dz_library_path(lib) < 0)
		return dz_fail("run", "libdeltazero.so: neither beside dz nor in ../lib");
	if (strpbrk(lib, " :"))
		return dz_fail("run", "%s: LD_PRELOAD cannot hold a path with a space or colon",
			       lib);
	if (asprintf(&all, "%s%s%s", lib, old && *old ? ":" : "", old ? old : "") < 0 ||
	    setenv("LD_PRELOAD", all, 1) < 0)
		return dz_fail("run", "environment: %m");
	free(all);
	return 0;
}

static int prepare(struct run *run, struct dz_config *cfg)
{
	if (run->mounts && setenv("DELTAZERO_MOUNT", run->mounts, 1) < 0)
		return dz_fail("run", "environment: %m");
	if (dz_config_read(cfg, environ) < 0)
		return dz_fail("run", "%s", cfg->error);
	if (cfg->n_mounts == 0)
		return dz_usage("run", "nothing is mounted: -m LOCAL=URL");
	if (run->report) {
		run->report_to = fopen(run->report, "we");
		if (!run->report_to)
			return dz_fail("run", "%s: %m", run->report);
	}
	return set_preload();
}

static int execute(char **command)
{
	execvp(command[0], command);
	int err = errno;

	dz_fail("run", "%s: %s", command[0], strerror(err));
	return err == ENOENT ? DZ_EXIT_NOT_FOUND : DZ_EXIT_CANNOT_RUN;
}

/* ---- with a report ---- */

static volatile sig_atomic_t child_pid; /* lint: volatile: sig_atomic_t, read by pass_on() */

/* The terminal sends its signals to the command too: only those of processes go on. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	if (info->si_code <= 0 && child_pid > 0)
		kill((pid_t)child_pid, sig);
	errno = saved;
}

static const int passed_on[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT };

static void mask_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < DZ_ARRAY_LEN(passed_on); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(how, &set, NULL);
}

static void pass_signals_on(void)
{
	struct sigaction act = { .sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct sigaction old;

	for (size_t i = 0; i < DZ_ARRAY_LEN(passed_on); i++) {
		sigaction(passed_on[i], NULL, &old);
		/* What nohup made us ignore stays ignored, in the command as well. */
		if (old.sa_handler != SIG_IGN)
			sigaction(passed_on[i], &act, NULL);
	}
}

static double seconds_of(const struct timeval *t)
{
	return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static int exit_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int write_report(struct run *run, const struct dz_totals *totals, int status, double seconds,
			const struct rusage *use)
{
	FILE *to = run->report_to;

	fputs("{\n  \"command\": [", to);
	for (char **arg = run->command; *arg; arg++) {
		fputs(arg == run->command ? "" : ", ", to);
		dz_json_string(to, *arg);
	}
	fprintf(to, "],\n  \"status\": %d,\n  \"seconds\": %.6f,\n", exit_status(status), seconds);
	fprintf(to, "  \"user_seconds\": %.6f,\n  \"system_seconds\": %.6f,\n",
		seconds_of(&use->ru_utime), seconds_of(&use->ru_stime));
	fputs("  \"stat\": ", to);
	dz_totals_json(to, totals, "  ");
	fputs("\n}\n", to);
	return fclose(to) ? dz_fail("run", "%s: %m", run->report) : 0;
}

/* Ends as the command did, so that a shell sees its signal. */
static int end_like(int status)
{
	if (WIFSIGNALED(status)) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	return exit_status(status);
}

static int run_and_report(struct run *run, const struct dz_config *cfg)
{
	static struct dz_totals before, after;
	uint64_t start_ns = dz_now_ns();
	struct rusage use;
	int status;
	pid_t pid;

	dz_totals_read(&before, cfg);
	mask_signals(SIG_BLOCK);
	pid = fork();
	if (pid == 0) {
		mask_signals(SIG_UNBLOCK);
		_exit(execute(run->command));
	}
	if (pid < 0)
		return dz_fail("run", "fork: %m");
	child_pid = pid;
	pass_signals_on();
	mask_signals(SIG_UNBLOCK);
	while (wait4(pid, &status, 0, &use) < 0 && errno == EINTR)
		;
	child_pid = 0;
	dz_totals_read(&after, cfg);
	dz_totals_since(&after, &before);
	write_report(run, &after, status, (double)(dz_now_ns() - start_ns) / 1e9, &use);
	return end_like(status);
}

int cmd_run(int argc, char **argv)
{
	static struct dz_config cfg;
	struct run run = { 0 };
	int ret = parse(&run, argc, argv);

	if (ret == 0)
		ret = prepare(&run, &cfg);
	if (ret != 0)
		return ret;
	if (run.report)
		return run_and_report(&run, &cfg);
	return execute(run.command);
}
