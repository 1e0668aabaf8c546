// SPDX-License-Identifier: MIT
#include "tools/install_path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int own_directory(char dir[DZ_PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", dir, DZ_PATH_MAX - 1);

	if (n <= 0)
		return -ENOENT;
	dir[n] = '\0';
	*strrchr(dir, '/') = '\0';
	return 0;
}

int dz_library_path(char path[DZ_PATH_MAX])
{
	static const char *const places[] = { ".", "../lib", "../lib64",
					      "../lib/x86_64-linux-gnu" };
	char dir[DZ_PATH_MAX], tried[DZ_PATH_MAX + 64];
	int ret = own_directory(dir);

	for (size_t i = 0; ret == 0 && i < DZ_ARRAY_LEN(places); i++) {
		snprintf(tried, sizeof(tried), "%s/%s/libdeltazero.so", dir, places[i]);
		if (realpath(tried, path))
			return 0;
	}
	return -ENOENT;
}
