/* SPDX-License-Identifier: MIT */
/*
 * neighbours WHAT ROOT ...: reads of a program in which other things live too: a
 * libcurl and a libssl of its own, libraries that the loader binds past all preloads.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "42" when the libraries of this name are those that the test made. */
static int own_libraries(const char *folder)
{
	int (*curl)(void);
	int (*ssl)(void);
	char name[4096];
	void *lib;

	snprintf(name, sizeof(name), "%s/libcurl.so.4", folder);
	lib = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
	curl = lib ? (int (*)(void))dlsym(lib, "curl_easy_init") : NULL;
	snprintf(name, sizeof(name), "%s/libssl.so.3", folder);
	lib = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
	ssl = lib ? (int (*)(void))dlsym(lib, "SSL_new") : NULL;
	return curl && ssl ? curl() + ssl() : 0;
}

static int print_first(const char *file)
{
	char line[100] = "";
	FILE *f = fopen(file, "r");

	if (!f || !fgets(line, sizeof(line), f))
		printf("%s\n", strerror(errno));
	else
		fputs(line, stdout);
	return f ? fclose(f) : 1;
}

/* A plugin's read_first(path) under loader flags; a plugin in a namespace of its own. */
static int plugin(const char *how, const char *path, const char *file)
{
	void *lib = !strcmp(how, "deepbind")  ? dlopen(path, RTLD_NOW | RTLD_DEEPBIND)
		    : !strcmp(how, "dlmopen") ? dlmopen(LM_ID_NEWLM, path, RTLD_NOW)
					      : dlopen(path, RTLD_NOW);
	int (*read_first)(const char *) =
		lib ? (int (*)(const char *))dlsym(lib, "read_first") : NULL;

	if (!read_first) {
		puts(dlerror());
		return 1;
	}
	return read_first(file);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "own")) {
		printf("%d\n", own_libraries(argv[3]));
		return print_first(argv[2]);
	}
	return argc == 4 ? plugin(argv[1], argv[3], argv[2]) : 2;
}
