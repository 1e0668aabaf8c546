/* SPDX-License-Identifier: MIT */
/* Calls by the names that headers hide: BY_NAME(__read, read)(fd, buf, 10). */
#ifndef BY_NAME_H
#define BY_NAME_H

#include <dlfcn.h>

static inline void *by_name(const char *name, void *otherwise)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	return found ? found : otherwise;
}

/*
 * The function `name`, of the type of `like`, a function or a NULL pointer to one; a libc
 * that lacks the name is asked for `like`.
 */
#define BY_NAME(name, like) ((__typeof__(*(like)) *)by_name(#name, (void *)(like)))

#endif
