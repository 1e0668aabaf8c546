/* SPDX-License-Identifier: MIT */
/*
 * dz serve: a stand-in for Azure Blob Storage on loopback.
 *
 * 1. Read options, key and fault rules; a mistake ends here, with 125.
 * 2. Listen, start the workers, print the URL.
 * 3. Accept connections and deal them out in turn until SIGTERM or SIGINT.
 * 4. Close all connections and end with 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/dz.h"
#include "tools/serve.h"

#define THREADS_MAX 64

/* The account of the storage emulators; documented and the same everywhere. */
static const char emulator_account[] = "devstoreaccount1";
static const char emulator_key[] = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq"
				   "/K1SZFPTOtr/KBHBeksoGMGw==";

static const char help[] =
	"Usage: dz serve --root DIR [OPTION]...\n"
	"Serve each folder of DIR as a container over the Blob REST protocol, on\n"
	"127.0.0.1.  The first line of output is the URL of the account:\n"
	"\n"
	"  URL http://127.0.0.1:PORT/devstoreaccount1\n"
	"\n"
	"Account and key are the emulator's public ones, unless AZURE_STORAGE_ACCOUNT and\n"
	"AZURE_STORAGE_KEY (or AZURE_STORAGE_ACCESS_KEY) are set.  Ends on SIGTERM.\n"
	"\n"
	"  --root DIR         the folder of containers\n"
	"  --port N           listen here (default 0: any free port)\n"
	"  --log FILE         append one JSON object a request: time, conn, method, op,\n"
	"                     path, query, range, status, bytes, ms, error, fault\n"
	"  --fault FILE       misbehave as its rules say\n"
	"  --latency MS       wait before each answer\n"
	"  --anonymous        also serve requests without credentials\n"
	"  --token-file FILE  accept the bearer token that stands in FILE at that time\n"
	"  --threads N        worker threads (default 2)\n"
	"  --help             this text\n"
	"\n";

struct options {
	const char *root;
	const char *log;
	const char *fault;
	const char *token_file;
	unsigned port;
	unsigned latency_ms;
	unsigned threads;
	bool is_anonymous;
};

static bool parse_unsigned(const char *text, unsigned max, unsigned *value)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > max)
		return false;
	*value = (unsigned)n;
	return true;
}

/* -1: go on; otherwise the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option names[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "port", required_argument, NULL, 'p' },
		{ "log", required_argument, NULL, 'l' },
		{ "fault", required_argument, NULL, 'f' },
		{ "latency", required_argument, NULL, 'm' },
		{ "anonymous", no_argument, NULL, 'a' },
		{ "token-file", required_argument, NULL, 't' },
		{ "threads", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	bool is_good = true;
	int c;

	*o = (struct options){ .threads = 2 };
	opterr = 0;
	while (is_good && (c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'r':
			o->root = optarg;
			break;
		case 'p':
			is_good = parse_unsigned(optarg, 65535, &o->port);
			break;
		case 'l':
			o->log = optarg;
			break;
		case 'f':
			o->fault = optarg;
			break;
		case 'm':
			is_good = parse_unsigned(optarg, 3600000, &o->latency_ms);
			break;
		case 'a':
			o->is_anonymous = true;
			break;
		case 't':
			o->token_file = optarg;
			break;
		case 'n':
			is_good = parse_unsigned(optarg, THREADS_MAX, &o->threads) && o->threads;
			break;
		case 'h':
			fputs(help, stdout);
			fputs(serve_fault_help, stdout);
			return fflush(stdout) ? DZ_EXIT_OURS : DZ_EXIT_OK;
		default:
			return dz_usage("serve", "%s: no such option, or its value is missing",
					argv[optind - 1]);
		}
	}
	if (!is_good)
		return dz_usage("serve", "%s: not a number that fits", optarg);
	if (optind < argc)
		return dz_usage("serve", "%s: unexpected", argv[optind]);
	return o->root ? -1 : dz_usage("serve", "--root DIR is missing");
}

/* 0, or the exit status. */
static int read_key(struct serve *srv)
{
	const char *account = getenv("AZURE_STORAGE_ACCOUNT");
	const char *key = getenv("AZURE_STORAGE_KEY");
	int n;

	if (!key || !*key)
		key = getenv("AZURE_STORAGE_ACCESS_KEY");
	srv->account = account && *account ? account : emulator_account;
	n = serve_base64_decode(srv->key, sizeof(srv->key), key && *key ? key : emulator_key);
	if (n <= 0)
		return dz_fail("serve", "AZURE_STORAGE_KEY: not base64");
	srv->key_len = (size_t)n;
	return 0;
}

static int open_files(struct serve *srv, const struct options *o)
{
	char why[512];

	srv->root_fd = open(o->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (srv->root_fd < 0)
		return dz_fail("serve", "--root %s: %m", o->root);
	srv->log_fd = -1;
	if (o->log)
		srv->log_fd = open(o->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (o->log && srv->log_fd < 0)
		return dz_fail("serve", "--log %s: %m", o->log);
	if (o->fault) {
		srv->faults = serve_faults_read(o->fault, why, sizeof(why));
		if (!srv->faults)
			return dz_fail("serve", "--fault %s", why);
	}
	srv->has_state = faccessat(srv->root_fd, SERVE_STATE "/props", F_OK, 0) == 0;
	srv->dirs = serve_dirs_open();
	return srv->dirs ? 0 : dz_fail("serve", "out of memory");
}

/* The socket, or -errno; *port becomes the one that was given. */
static int listen_on(uint16_t *port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons(*port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 4096) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
		int err = errno;

		close(fd);
		return -err;
	}
	*port = ntohs(addr.sin_port);
	return fd;
}

/* A descriptor that becomes readable on SIGTERM and SIGINT. */
static int catch_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void accept_all(int listen_fd, struct serve_worker **workers, unsigned n, uint64_t *number)
{
	int fd;

	while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		serve_worker_give(workers[*number % n], fd, *number + 1);
		++*number;
	}
	/* Out of descriptors: the queue keeps the rest; do not spin meanwhile. */
	if (errno == EMFILE || errno == ENFILE)
		usleep(10000);
}

static void accept_until_signal(int listen_fd, int signal_fd, struct serve_worker **workers,
				unsigned n)
{
	struct pollfd fds[2] = { { .fd = listen_fd, .events = POLLIN },
				 { .fd = signal_fd, .events = POLLIN } };
	uint64_t number = 0;

	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[1].revents)
			return;
		if (fds[0].revents)
			accept_all(listen_fd, workers, n, &number);
	}
}

static int serve_clients(struct serve *srv, unsigned threads)
{
	struct serve_worker *workers[THREADS_MAX];
	int signal_fd = catch_signals();
	int listen_fd = listen_on(&srv->port);

	if (listen_fd < 0)
		return dz_fail("serve", "--port %u: %s", srv->port, strerror(-listen_fd));
	for (unsigned i = 0; i < threads; i++) {
		workers[i] = serve_worker_start(srv);
		if (!workers[i])
			return dz_fail("serve", "cannot start a worker: %m");
	}
	printf("URL http://127.0.0.1:%u/%s\n", srv->port, srv->account);
	fflush(stdout);
	accept_until_signal(listen_fd, signal_fd, workers, threads);
	srv->stopping = true;
	close(listen_fd);
	for (unsigned i = 0; i < threads; i++)
		serve_worker_stop(workers[i]);
	close(signal_fd);
	return DZ_EXIT_OK;
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int cmd_serve(int argc, char **argv)
{
	struct serve srv = { .publish = PTHREAD_MUTEX_INITIALIZER };
	struct options o;
	int ret = parse_options(argc, argv, &o);

	if (ret >= 0)
		return ret;
	srv.port = (uint16_t)o.port;
	srv.is_anonymous = o.is_anonymous;
	srv.token_file = o.token_file;
	srv.latency_ms = o.latency_ms;
	ret = read_key(&srv);
	if (ret == 0)
		ret = open_files(&srv, &o);
	if (ret)
		return ret;
	raise_descriptor_limit();
	ret = serve_clients(&srv, o.threads);
	serve_dirs_close(srv.dirs);
	serve_faults_free(srv.faults);
	if (srv.log_fd >= 0)
		close(srv.log_fd);
	close(srv.root_fd);
	return ret;
}
