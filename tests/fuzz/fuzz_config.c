/* SPDX-License-Identifier: MIT */
/* The environment: lines of the input as NAME=VALUE, and all of it as a mount and a size. */
#include "cache/config.h"

#include <stdlib.h>
#include <string.h>

static struct dz_config cfg;
static struct dz_mount mount;

static void check_mount(const struct dz_mount *m)
{
	if (strlen(m->local) != m->local_len || !memchr(m->endpoint, 0, sizeof(m->endpoint)) ||
	    !memchr(m->container, 0, sizeof(m->container)) ||
	    !memchr(m->prefix, 0, sizeof(m->prefix)) || !memchr(m->sas, 0, sizeof(m->sas)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *env[32], why[128];
	uint64_t bytes;
	size_t n = 0;

	memcpy(text, data, size);
	text[size] = '\0';
	/* A file that the input names would be read: that is another matter. */
	if (dz_config_mount(&mount, text, strlen(text), (char *[]){ NULL }, why, sizeof(why)) == 0)
		check_mount(&mount);
	dz_config_size(text, &bytes);
	for (char *line = strtok(text, "\n"); line && n < 31; line = strtok(NULL, "\n"))
		if (!strstr(line, "CONFIG") && !strstr(line, "HOME"))
			env[n++] = line;
	env[n] = NULL;
	dz_config_read(&cfg, env);
	for (uint32_t i = 0; i < cfg.n_mounts; i++)
		check_mount(&cfg.mounts[i]);
	free(text);
	return 0;
}
