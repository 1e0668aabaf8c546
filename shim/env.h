/* SPDX-License-Identifier: MIT */
/*
 * The environment of the programs that this one runs: LD_PRELOAD with us in it,
 * DELTAZERO_* as at our start, the identity of our credentials, and the virtual
 * working directory, whatever the caller's own environment says (`env -i`,
 * subprocess with env=).
 */
#ifndef DZ_ENV_H
#define DZ_ENV_H

#include "cache/base.h"

/* Copies the environment, once: the program may write over it, or free it. */
void dz_env_keep(char *const *envp);
/* That copy, for as long as the process lives. */
char *const *dz_env_at_start(void);

#define DZ_ENV_VARS  1024
#define DZ_CWD_BYTES 2048 /* of "DELTAZERO_CWD=...": a mount's path and a name */
/* Room for one environment, on the caller's stack: a vfork child must not allocate. */
struct dz_env {
	const char *vars[DZ_ENV_VARS];
	char preload[4096];
	char cwd[DZ_CWD_BYTES];
	char identity[64]; /* "DELTAZERO_IDENTITY=HASH:OF" */
};

/*
 * The environment to run a program with: `envp` itself when nothing is missing in
 * it, else built in *room.  One that has no room left is passed on as it is.
 */
char *const *dz_env_for_child(char *const *envp, struct dz_env *room);
/* The same for a child that will stand elsewhere: `cwd` is its "DELTAZERO_CWD=...", NULL as ours.
 */
char *const *dz_env_for_cwd(char *const *envp, const char *cwd, struct dz_env *room);

#endif
