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

/* The fortified calls have no prototype that can be written down in a program. */
static inline ssize_t like_read_chk(int fd, void *buf, size_t len, size_t room)
{
	ssize_t (*real)(int, void *, size_t) =
		(ssize_t(*)(int, void *, size_t))by_name("read", NULL);

	return len <= room ? real(fd, buf, len) : -1;
}

#endif
