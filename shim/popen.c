/* SPDX-License-Identifier: MIT */
/*
 * popen(3): libc starts the shell by calls inside libc, with the environment as it
 * is.  Only one thing is missing there: a working directory below a mount, which
 * exists in this process alone.  The shell is told to go there itself.
 */
#define DZ_IN_popen 1
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/hooks.h"
#include "shim/real.h"

/* "cd 'DIR'", a newline, the command. */
static void command_write(char *to, const char *dir, const char *command)
{
	to = mempcpy(to, "cd '", 4);
	for (; *dir != '\0'; dir++) {
		if (*dir == '\'')
			to = mempcpy(to, "'\\'", 3);
		*to++ = *dir;
	}
	to = mempcpy(to, "'\n", 2);
	memcpy(to, command, strlen(command) + 1);
}

/* Bytes of a mapping with the command to give to libc, 0 when it is the program's own. */
static size_t command_map(const char *command, void **out)
{
	char name[DZ_NAME_MAX + 1], dir[DZ_PATH_MAX];
	uint32_t mount;
	size_t len;

	if (!dz_is_on() || !dz_cwd_get(&mount, name) ||
	    dz_path_local(mount, name, dir, sizeof(dir)) < 0)
		return 0;
	len = 4 * strlen(dir) + strlen(command) + 8;
	if (dz_sys_mmap(out, NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0) < 0)
		return 0;
	command_write(*out, dir, command);
	return len;
}

DZ_DOOR(FILE *, popen, const char *command, const char *mode)
{
	FILE *(*libc_popen)(const char *, const char *) = DZ_REAL(popen);
	void *there;
	size_t len = command_map(command, &there);
	FILE *fp = libc_popen(len ? there : command, mode);

	if (len)
		dz_sys_munmap(there, len);
	return fp;
}

#include "shim/aliases.h"
