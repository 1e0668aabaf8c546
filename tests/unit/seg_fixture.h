/* SPDX-License-Identifier: MIT */
/* A real segment in files of its own, and children that attach to it. */
#ifndef DZ_TEST_SEG_FIXTURE_H
#define DZ_TEST_SEG_FIXTURE_H

#include "cache/member.h"
#include "cache/segment.h"
#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SEG_TEST_DRAM (24 * DZ_MIB)

struct seg_fixture {
	struct dz_config cfg;
	struct dz_log log;
	struct dz_seg seg;
	char root[DZ_PATH_MAX];
};

/* Directories, without a segment yet.  The log goes to a file below root. */
static inline struct seg_fixture *seg_fixture_dirs(void)
{
	const char *base = getenv("DELTAZERO_SHM_DIR");
	struct seg_fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	snprintf(f->root, sizeof(f->root), "%.4000s/dz-seg-XXXXXX", base ? base : "/dev/shm");
	if (!mkdtemp(f->root))
		return NULL;
	snprintf(f->cfg.shm_dir, sizeof(f->cfg.shm_dir), "%.4000s/shm", f->root);
	snprintf(f->cfg.cache_dir, sizeof(f->cfg.cache_dir), "%.4000s/cache", f->root);
	snprintf(f->cfg.log_path, sizeof(f->cfg.log_path), "%.4000s/log", f->root);
	f->log = (struct dz_log){ .level = DZ_LOG_WARN, .path = f->cfg.log_path, .who = "test" };
	f->cfg.dram_bytes = SEG_TEST_DRAM;
	f->cfg.disk_bytes = DZ_SIZE_NONE;
	f->seg.dir_fd = f->seg.lock_fd = f->seg.dram_fd = -1;
	return f;
}

static inline int seg_fixture_up(void **state)
{
	struct seg_fixture *f = seg_fixture_dirs();

	*state = f;
	if (!f || dz_seg_open(&f->seg, &f->cfg, &f->log) < 0)
		return -1;
	return dz_member_join(&f->seg);
}

static inline int seg_fixture_down(void **state)
{
	struct seg_fixture *f = *state;
	char cmd[DZ_PATH_MAX + 16];

	if (f->seg.hdr) {
		dz_member_leave(&f->seg);
		dz_seg_close(&f->seg);
	}
	snprintf(cmd, sizeof(cmd), "rm -rf '%.4000s'", f->root);
	if (system(cmd) != 0)
		fprintf(stderr, "%s stays\n", f->root);
	free(f);
	return 0;
}

/* Runs fn(f) in a child with an attachment of its own; its pid. */
static inline pid_t seg_child(struct seg_fixture *f, int (*fn)(struct seg_fixture *f))
{
	pid_t pid = fork();

	if (pid == 0) {
		alarm(60);
		memset(&f->seg, 0, sizeof(f->seg));
		if (dz_seg_open(&f->seg, &f->cfg, &f->log) < 0 || dz_member_join(&f->seg) < 0)
			_exit(99);
		_exit(fn(f));
	}
	return pid;
}

/* Exit status of a child, or 128 + its signal. */
static inline int seg_reap(pid_t pid)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The path of a file of the segment. */
static inline const char *seg_path(const struct seg_fixture *f, const char *name, char *buf)
{
	snprintf(buf, DZ_PATH_MAX, "%.3000s/deltazero.%u.%d/%s", f->cfg.shm_dir,
		 (unsigned int)geteuid(), DZ_LAYOUT_MAJOR, name);
	return buf;
}

#endif
