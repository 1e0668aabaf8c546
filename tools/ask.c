// SPDX-License-Identifier: MIT
/*
 * The client's log lines go to a file in memory, so that the last one can be
 * shown as the cause of a finding instead of being strewn over the output.
 */
#include "tools/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUDGET_MS 15000

struct dz_ask {
	struct dz_blob *blob;
	struct dz_log log;
	int log_fd;
	char log_path[64];
	char why[1024];
	uint32_t entries;
	bool is_done;
	int err;
};

int dz_ask_open(struct dz_ask **out, char *const *envp)
{
	struct dz_ask *ask = calloc(1, sizeof(*ask));
	struct dz_blob_options opt = { .max_connections = 4, .budget_ms = BUDGET_MS };
	int ret;

	if (!ask)
		return -ENOMEM;
	ask->log_fd = memfd_create("dz-ask", MFD_CLOEXEC);
	snprintf(ask->log_path, sizeof(ask->log_path), "/proc/self/fd/%d", ask->log_fd);
	ask->log = (struct dz_log){ .level = DZ_LOG_WARN,
				    .path = ask->log_fd < 0 ? "" : ask->log_path,
				    .who = "dz" };
	opt.log = &ask->log;
	opt.envp = envp;
	ret = dz_blob_open(&ask->blob, &opt);
	if (ret < 0)
		ask->blob = NULL;
	*out = ask;
	return ret;
}

void dz_ask_close(struct dz_ask *ask)
{
	if (!ask)
		return;
	if (ask->blob)
		dz_blob_close(ask->blob);
	if (ask->log_fd >= 0)
		close(ask->log_fd);
	free(ask);
}

static void on_done(struct dz_blob_req *req, int err)
{
	struct dz_ask *ask = req->arg;

	ask->is_done = true;
	ask->err = err;
}

static int on_entry(struct dz_blob_req *req, const struct dz_blob_entry *entry)
{
	struct dz_ask *ask = req->arg;

	(void)entry;
	ask->entries++;
	return 0;
}

static int ask_and_wait(struct dz_ask *ask, struct dz_blob_req *req)
{
	int ret;

	req->arg = ask;
	req->done = on_done;
	req->entry = on_entry;
	ask->is_done = false;
	ask->entries = 0;
	if (ask->log_fd >= 0 && ftruncate(ask->log_fd, 0) < 0)
		return -errno;
	ret = dz_blob_submit(ask->blob, req);
	while (ret == 0 && !ask->is_done) {
		int n = dz_blob_pump(ask->blob, 1000, -1);

		ret = n < 0 ? n : 0;
	}
	return ret < 0 ? ret : ask->err;
}

int dz_ask_head(struct dz_ask *ask, const struct dz_mount *m, const char *name,
		struct dz_blob_res *res)
{
	char whole[2 * DZ_NAME_MAX + 1];
	struct dz_blob_req req = { .op = DZ_BLOB_HEAD, .mount = m, .name = whole };
	int ret;

	snprintf(whole, sizeof(whole), "%s%s", m->prefix, name);
	ret = ask_and_wait(ask, &req);
	*res = req.res;
	return ret;
}

int dz_ask_list(struct dz_ask *ask, const struct dz_mount *m, uint32_t *n, struct dz_blob_res *res)
{
	struct dz_blob_req req = {
		.op = DZ_BLOB_LIST, .mount = m, .name = m->prefix, .delimiter = true
	};
	int ret = ask_and_wait(ask, &req);

	*n = ask->entries;
	*res = req.res;
	return ret;
}

/* "TIME who[PID]: level: TEXT": the text of the last line. */
const char *dz_ask_why(struct dz_ask *ask)
{
	char buf[sizeof(ask->why)], *line, *text;
	off_t size = ask->log_fd < 0 ? 0 : lseek(ask->log_fd, 0, SEEK_END);
	off_t from = size > (off_t)sizeof(buf) - 1 ? size - (off_t)sizeof(buf) + 1 : 0;
	ssize_t n = size > 0 ? pread(ask->log_fd, buf, sizeof(buf) - 1, from) : 0;

	ask->why[0] = '\0';
	if (n <= 0)
		return ask->why;
	buf[n] = '\0';
	if (buf[n - 1] == '\n')
		buf[n - 1] = '\0';
	line = strrchr(buf, '\n');
	line = line ? line + 1 : buf;
	text = strstr(line, "]: ");
	text = text ? strstr(text + 3, ": ") : NULL;
	snprintf(ask->why, sizeof(ask->why), "%s", text ? text + 2 : line);
	return ask->why;
}

const struct dz_log *dz_ask_log(struct dz_ask *ask)
{
	return &ask->log;
}
