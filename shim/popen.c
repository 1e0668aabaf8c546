/* SPDX-License-Identifier: MIT */
/*
 * popen(3): libc starts the shell by calls inside libc, with the environment as it
 * is.  One thing is missing there: a working directory below a mount, which exists
 * in this process alone.  For as long as the shell starts, `environ` then holds it
 * too; every variable that another thread may look for stays where it is.
 */
#define DZ_IN_popen 1
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/env.h"
#include "shim/hooks.h"
#include "shim/inherit.h"
#include "shim/real.h"
#include "shim/seen.h"

typedef FILE *popen_fn(const char *, const char *);

static FILE *popen_below(popen_fn *libc_popen, const char *command, const char *mode)
{
	char **given = environ;
	void *room;
	FILE *fp;

	if (dz_sys_mmap(&room, NULL, sizeof(struct dz_env), PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
		return libc_popen(command, mode);
	environ = (char **)dz_env_for_child(given, room);
	fp = libc_popen(command, mode);
	environ = given;
	dz_sys_munmap(room, sizeof(struct dz_env));
	return fp;
}

DZ_DOOR(FILE *, popen, const char *command, const char *mode)
{
	popen_fn *libc_popen = DZ_REAL(popen);
	char name[DZ_NAME_MAX + 1];
	uint32_t mount;

	dz_seen_forget();
	if (dz_is_on())
		dz_inherit_keep();
	if (!dz_is_on() || !dz_cwd_get(&mount, name))
		return libc_popen(command, mode);
	return popen_below(libc_popen, command, mode);
}

#include "shim/aliases.h"
