/* SPDX-License-Identifier: MIT */
/*
 * Services are child processes that die with the test (PDEATHSIG), on ports that
 * the kernel chose, with their files below $TMPDIR.
 */
#include "tests/unit/blob_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *env_or(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

unsigned char content_byte(uint64_t i)
{
	return (unsigned char)((i * 2654435761u) >> 13 ^ i >> 3);
}

void service_prepare(struct service *s)
{
	char path[512];

	memset(s, 0, sizeof(*s));
	s->is_azurite = getenv("DZ_TEST_AZURITE") != NULL;
	snprintf(s->dir, sizeof(s->dir), "%.200s/dz-blob-XXXXXX", env_or("TMPDIR", "/tmp"));
	assert_non_null(mkdtemp(s->dir));
	if (s->is_azurite)
		snprintf(s->container, sizeof(s->container), "unit-%d", (int)getpid());
	else
		snprintf(s->container, sizeof(s->container), "unit");
	snprintf(path, sizeof(path), "%s/root", s->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof(path), "%s/root/%s", s->dir, s->container);
	assert_int_equal(mkdir(path, 0755), 0);
}

static void make_parents(char *path)
{
	char *slash;

	for (slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
}

void service_add(const struct service *s, const char *name, uint64_t bytes)
{
	char path[2048];
	uint64_t i;
	FILE *file;

	snprintf(path, sizeof(path), "%s/root/%s/%s", s->dir, s->container, name);
	make_parents(path);
	file = fopen(path, "we");
	assert_non_null(file);
	for (i = 0; i < bytes; i++)
		putc(content_byte(i), file);
	assert_int_equal(fclose(file), 0);
}

void service_write(const struct service *s, const char *name, const char *text)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

void service_read(const struct service *s, const char *name, char *text, size_t cap)
{
	char path[512];
	FILE *file;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	file = fopen(path, "re");
	assert_non_null(file);
	n = fread(text, 1, cap - 1, file);
	fclose(file);
	text[n] = '\0';
}

/* The first line of a command's output. */
static void run_command(char *out, size_t cap, const char *command)
{
	FILE *pipe = popen(command, "re");
	char line[4096];

	assert_non_null(pipe);
	if (!fgets(line, sizeof(line), pipe))
		line[0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (pclose(pipe) != 0)
		fail_msg("failed: %s", command);
	if (out)
		snprintf(out, cap, "%s", line);
}

void service_put(const struct service *s, char *out, size_t cap, const char *arguments)
{
	char command[4096];

	snprintf(command, sizeof(command), "python3 %s/tests/tools/putblob.py --url %s %s",
		 env_or("DZ_TOP", "."), s->url, arguments);
	run_command(out, cap, command);
}

static void start_azurite(struct service *s)
{
	char arguments[1024];

	snprintf(s->url, sizeof(s->url), "%s", getenv("DZ_TEST_AZURITE"));
	snprintf(arguments, sizeof(arguments), "create %s", s->container);
	service_put(s, NULL, 0, arguments);
	snprintf(arguments, sizeof(arguments), "put-tree %s %s/root/%s", s->container, s->dir,
		 s->container);
	service_put(s, NULL, 0, arguments);
}

/* The port that it had before, so that a restart is found where it was. */
static const char *port_of(const struct service *s)
{
	static char port[8];
	unsigned int n = 0;

	if (sscanf(s->url, "http://127.0.0.1:%u/", &n) != 1)
		n = 0;
	snprintf(port, sizeof(port), "%u", n & 0xffff);
	return port;
}

static void exec_stand_in(const struct service *s, int out)
{
	char program[512], root[512], faults[512], token[512];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, 1);
	snprintf(program, sizeof(program), "%s/dz", env_or("DZ_BUILD", "build"));
	snprintf(root, sizeof(root), "%s/root", s->dir);
	unsetenv("AZURE_STORAGE_ACCOUNT");
	unsetenv("AZURE_STORAGE_KEY");
	snprintf(faults, sizeof(faults), "%s/faults", s->dir);
	snprintf(token, sizeof(token), "%s/token", s->dir);
	execl(program, "dz", "serve", "--root", root, "--port", port_of(s), "--fault", faults,
	      "--token-file", token, NULL);
	_exit(127);
}

static void read_url(struct service *s)
{
	char line[300];
	size_t len = 0;

	while (len + 1 < sizeof(line) && read(s->out, line + len, 1) == 1 && line[len] != '\n')
		len++;
	line[len] = '\0';
	if (sscanf(line, "URL %255s", s->url) != 1)
		fail_msg("dz serve did not start: `%s`", line);
}

static void start_stand_in(struct service *s, const char *faults)
{
	int pipe_fd[2];

	service_write(s, "faults", faults ? faults : "");
	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	s->pid = fork();
	if (s->pid == 0)
		exec_stand_in(s, pipe_fd[1]);
	close(pipe_fd[1]);
	s->out = pipe_fd[0];
	read_url(s);
}

void service_start(struct service *s, const char *faults)
{
	if (s->is_azurite)
		start_azurite(s);
	else
		start_stand_in(s, faults);
}

void service_end(struct service *s)
{
	if (s->pid <= 0)
		return;
	kill(s->pid, SIGTERM);
	waitpid(s->pid, NULL, 0);
	close(s->out);
	s->pid = 0;
}

void service_restart(struct service *s, const char *faults)
{
	service_end(s);
	start_stand_in(s, faults);
}

void service_stop(struct service *s)
{
	char command[512];

	service_end(s);
	snprintf(command, sizeof(command), "rm -rf '%s'", s->dir);
	run_command(NULL, 0, command);
}

int client_try_open(struct client *c, const struct service *s, const char *url,
		    const char *const *env, uint32_t budget_ms)
{
	struct dz_blob_options opt = {
		.budget_ms = budget_ms,
		.log = &c->log,
		.envp = (char *const *)env,
	};
	char text[2048], why[256];

	memset(c, 0, sizeof(*c));
	snprintf(c->log_path, sizeof(c->log_path), "%s/client.log", s->dir);
	unlink(c->log_path);
	c->log = (struct dz_log){ DZ_LOG_DEBUG, c->log_path, "test" };
	if (url)
		snprintf(text, sizeof(text), "/m=%s", url);
	else
		snprintf(text, sizeof(text), "/m=%s/%s", s->url, s->container);
	if (dz_config_mount(&c->mount, text, strlen(text), opt.envp, why, sizeof(why)) < 0)
		fail_msg("%s", why);
	return dz_blob_open(&c->blob, &opt);
}

void client_open(struct client *c, const struct service *s, const char *const *env)
{
	assert_int_equal(client_try_open(c, s, NULL, env, 0), 0);
}

void client_open_default(struct client *c, const struct service *s)
{
	static const char *const env[] = { "AZURE_STORAGE_KEY=" EMULATOR_KEY, NULL };

	client_open(c, s, env);
}

void client_close(struct client *c)
{
	dz_blob_close(c->blob);
}

const char *client_log(const struct client *c)
{
	static char text[65536];
	FILE *file = fopen(c->log_path, "re");
	size_t n = 0;

	if (file) {
		n = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
	}
	text[n] = '\0';
	return text;
}

static struct call *call_of(struct dz_blob_req *req)
{
	return (struct call *)req; /* its first member */
}

static int on_body(struct dz_blob_req *req, uint64_t off, const void *data, size_t n)
{
	struct call *call = call_of(req);

	/* In order, never twice, never more than asked for. */
	assert_int_equal(off, req->off + call->n_bytes);
	assert_true(call->n_bytes + n <= req->len);
	assert_true(req->res.etag[0] != '\0');
	if (!call->bytes)
		call->bytes = malloc(req->len);
	memcpy(call->bytes + call->n_bytes, data, n);
	call->n_bytes += n;
	return call->stop_with;
}

static int on_entry(struct dz_blob_req *req, const struct dz_blob_entry *e)
{
	struct call *call = call_of(req);
	size_t len = strlen(call->names);

	assert_int_equal(strlen(e->name), e->name_len);
	call->n_entries++;
	call->entries_bytes += e->size;
	if (len + e->name_len + 2 < sizeof(call->names))
		snprintf(call->names + len, sizeof(call->names) - len, "%s\n", e->name);
	return call->stop_with;
}

static void on_done(struct dz_blob_req *req, int err)
{
	struct call *call = call_of(req);

	call->is_done = true;
	call->err = err;
}

void call_free(struct call *c)
{
	free(c->bytes);
	c->bytes = NULL;
}

int client_try_submit(struct client *c, struct call *call)
{
	call->req.mount = &c->mount;
	call->req.body = on_body;
	call->req.entry = on_entry;
	call->req.done = on_done;
	return dz_blob_submit(c->blob, &call->req);
}

void client_submit(struct client *c, struct call *call)
{
	assert_int_equal(client_try_submit(c, call), 0);
}

void client_wait(struct client *c, struct call *call)
{
	while (!call->is_done)
		assert_true(dz_blob_pump(c->blob, 1000, -1) >= 0);
}

void client_run(struct client *c, struct call *call)
{
	client_submit(c, call);
	client_wait(c, call);
}

int client_get(struct client *c, struct call *call, const char *name, uint64_t off, uint64_t len,
	       const char *etag)
{
	*call = (struct call){
		.req = { .op = DZ_BLOB_GET, .name = name, .off = off, .len = len, .etag = etag }
	};
	client_run(c, call);
	return call->err;
}

int client_head(struct client *c, struct call *call, const char *name)
{
	*call = (struct call){ .req = { .op = DZ_BLOB_HEAD, .name = name } };
	client_run(c, call);
	return call->err;
}

int client_list(struct client *c, struct call *call, const char *prefix, bool delimiter,
		const char *marker)
{
	*call = (struct call){ .req = { .op = DZ_BLOB_LIST,
					.name = prefix,
					.delimiter = delimiter,
					.marker = marker } };
	client_run(c, call);
	return call->err;
}

void assert_content(const struct call *call, uint64_t off, uint64_t n)
{
	uint64_t i;

	assert_int_equal(call->n_bytes, n);
	for (i = 0; i < n; i++)
		if (call->bytes[i] != content_byte(off + i))
			fail_msg("byte %llu is wrong", (unsigned long long)(off + i));
}
