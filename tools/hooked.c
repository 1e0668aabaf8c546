// SPDX-License-Identifier: MIT
#include "tools/hooked.h"

#include <string.h>

#define HOOK(name, family)	   { #name, DZ_HOOKED_YES },
#define ALIAS(alias, name, family) { #alias, DZ_HOOKED_YES },
#define SKIP(name, reason)	   { #name, DZ_HOOKED_SKIPPED },
static const struct {
	const char *name;
	enum dz_hooked what;
} list[] = {
#include "shim/hooks.def"
};
#undef HOOK
#undef ALIAS
#undef SKIP

enum dz_hooked dz_hooked(const char *name)
{
	for (size_t i = 0; i < DZ_ARRAY_LEN(list); i++) {
		if (strcmp(list[i].name, name) == 0)
			return list[i].what;
	}
	return DZ_HOOKED_UNKNOWN;
}

static bool has_any(const char *name, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strstr(name, words[i]))
			return true;
	}
	return false;
}

bool dz_sounds_like_file(const char *name)
{
	static const char *const file_like[] = {
		"open",	    "read",    "stat",	"seek",	    "mmap",	 "sendfile", "splice",
		"getdents", "scandir", "xattr", "io_uring", "copy_file", "access",
	};
	static const char *const not_files[] = {
		"thread", "fread", "fseek",    "memopen", "memstream", "eventfd", "thrd",   "sem_",
		"mq_",	  "shm_",  "iconv",    "cat",	  "log",       "dlopen",  "proc",   "pty",
		"popen",  "msg",   "fsconfig", "db_",	  "ucontext",  "state",	  "static",
	};

	return has_any(name, file_like, DZ_ARRAY_LEN(file_like)) &&
	       !has_any(name, not_files, DZ_ARRAY_LEN(not_files));
}
