/* SPDX-License-Identifier: MIT */
/*
 * What a program's exec means to the kernel: the file to run may lie on a mount,
 * so may the interpreter of its "#!" line, and who runs may be blind to us.
 */
#ifndef DZ_TARGET_H
#define DZ_TARGET_H

#include "cache/engine.h"

#define DZ_SCRIPTS_MAX	5   /* "#!" lines in a row, as the kernel's limit */
#define DZ_SCRIPT_BYTES 256 /* of a first line, as the kernel reads it */
#define DZ_TARGET_ARGS	512

/* Room for the answer, on the caller's stack: a vfork child must not allocate. */
struct dz_target {
	/* What to give to the kernel. */
	int dir_fd;
	const char *path;
	char *const *argv;
	int flags;     /* of execveat */
	int fd;	       /* the file itself when it lies on a mount, ours to close; -1 */
	bool is_blind; /* static, set-user-ID, of another machine: the shim is not in it */
	bool changed;  /* not what the program gave */

	char local[DZ_PATH_MAX]; /* of a script on a mount */
	char lines[DZ_SCRIPTS_MAX][DZ_SCRIPT_BYTES + 1];
	char *vec[DZ_TARGET_ARGS];
	void *mapped; /* a longer argument list */
	size_t mapped_bytes;
};

/*
 * Fills *t for execveat(dir_fd, path, argv, flags).  `deep`: look at files that
 * are not ours too (to learn is_blind, or where an interpreter lies).  0 or
 * -errno as exec gives it; then nothing is to be undone.
 */
int dz_target_plan(struct dz_target *t, int dir_fd, const char *path, char *const argv[], int flags,
		   bool deep);
void dz_target_done(struct dz_target *t);

#endif
