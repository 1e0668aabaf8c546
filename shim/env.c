/* SPDX-License-Identifier: MIT */
/*
 * What is kept at the start, and how a child's environment is completed.
 *
 * A program that clears LD_PRELOAD or gives a child an environment of its own
 * does not mean the mounts to vanish there, so: LD_PRELOAD gets our file put in
 * front when it is missing, a DELTAZERO_* name that is absent gets the value of
 * our start, one that is present stays as the caller wants it.  So do the AZURE_*
 * names: a mount without its credentials is another mount, that nobody may read.
 */
#include "shim/env.h"

#include "shim/paths.h"

#include "cache/config.h"
#include "cache/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KEPT_VARS 64

static char *const *at_start = (char *const[]){ NULL };
static const char *kept[KEPT_VARS + 1]; /* "DELTAZERO_...=...", "AZURE_...=..." of at_start */
static char preload_item[DZ_PATH_MAX];	/* our entry of LD_PRELOAD; "" when we came otherwise */

#define CWD_VAR	    "DELTAZERO_CWD="
#define PRELOAD_VAR "LD_PRELOAD="

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void keep_var(const char *var)
{
	static size_t n;

	if (n < KEPT_VARS)
		kept[n++] = var;
}

/* The item of LD_PRELOAD ("a:b c") that is us: the one with our file's name. */
static void keep_preload(const char *list)
{
	const char *own = strrchr(dz_lib_path(), '/');
	size_t own_len;
	size_t len;

	own = own ? own + 1 : dz_lib_path();
	own_len = strlen(own);
	for (; *list; list += len) {
		list += strspn(list, ": ");
		len = strcspn(list, ": ");
		if (own_len == 0 || len < own_len || len >= sizeof(preload_item) ||
		    memcmp(list + len - own_len, own, own_len) != 0)
			continue;
		memcpy(preload_item, list, len);
		preload_item[len] = '\0';
		return;
	}
}

/* Vector and strings in a mapping of their own; where there is none, the program's. */
static char *const *copy_of(char *const *envp)
{
	size_t bytes = sizeof(char *);
	size_t n;
	char **vec;
	char *text;
	void *at;

	for (n = 0; envp[n]; n++)
		bytes += sizeof(char *) + strlen(envp[n]) + 1;
	if (dz_sys_mmap(&at, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			0) < 0)
		return envp;
	vec = at;
	text = (char *)(vec + n + 1);
	for (n = 0; envp[n]; n++) {
		vec[n] = memcpy(text, envp[n], strlen(envp[n]) + 1);
		text += strlen(text) + 1;
	}
	return vec;
}

void dz_env_keep(char *const *envp)
{
	at_start = copy_of(envp);
	for (envp = at_start; *envp; envp++) {
		if (has_prefix(*envp, "AZURE_") ||
		    (has_prefix(*envp, "DELTAZERO_") && !has_prefix(*envp, CWD_VAR)))
			keep_var(*envp);
		else if (has_prefix(*envp, PRELOAD_VAR))
			keep_preload(*envp + strlen(PRELOAD_VAR));
	}
}

char *const *dz_env_at_start(void)
{
	return at_start;
}

/* --- a child's --- */

/* The place of a NAME=... in envp, or NULL. */
static const char *find(char *const *envp, const char *var)
{
	size_t len = (size_t)(strchr(var, '=') - var) + 1;

	for (; *envp; envp++)
		if (strncmp(*envp, var, len) == 0)
			return *envp;
	return NULL;
}

static bool is_complete(char *const *envp, const char *cwd)
{
	const char *preload = find(envp, PRELOAD_VAR);
	const char *old_cwd = find(envp, CWD_VAR);
	uint32_t i;

	if (preload_item[0] && (!preload || !strstr(preload, preload_item)))
		return false;
	if (cwd ? !old_cwd || strcmp(old_cwd, cwd) != 0 : old_cwd != NULL)
		return false;
	for (i = 0; kept[i]; i++)
		if (!find(envp, kept[i]))
			return false;
	return true;
}

static const char *make_preload(const char *old, struct dz_env *room)
{
	const char *rest = old ? old + strlen(PRELOAD_VAR) : "";
	int n = snprintf(room->preload, sizeof(room->preload), PRELOAD_VAR "%s%s%s", preload_item,
			 *rest ? ":" : "", rest);

	return n < 0 || (size_t)n >= sizeof(room->preload) ? NULL : room->preload;
}

/* The caller's variables but those that we set; their number, or DZ_ENV_VARS for too many. */
static size_t copy_vars(char *const *envp, bool own_preload, struct dz_env *room)
{
	size_t n = 0;

	for (; *envp && n < DZ_ENV_VARS; envp++)
		if (!has_prefix(*envp, CWD_VAR) && !(own_preload && has_prefix(*envp, PRELOAD_VAR)))
			room->vars[n++] = *envp;
	return n;
}

char *const *dz_env_for_child(char *const *envp, struct dz_env *room)
{
	return dz_env_for_cwd(envp, NULL, room);
}

char *const *dz_env_for_cwd(char *const *envp, const char *cwd, struct dz_env *room)
{
	static char *const none[] = { NULL };
	const char *preload = NULL;
	size_t n;
	uint32_t i;

	envp = envp ? envp : none;
	if (!cwd)
		cwd = dz_cwd_env(room->cwd, sizeof(room->cwd));
	if (!dz_is_on() || is_complete(envp, cwd))
		return envp;
	preload = find(envp, PRELOAD_VAR);
	if (!preload_item[0] || (preload && strstr(preload, preload_item)))
		preload = NULL;
	else
		preload = make_preload(preload, room);
	n = copy_vars(envp, preload != NULL, room);
	if (n + KEPT_VARS + 3 > DZ_ENV_VARS)
		return envp;
	if (preload)
		room->vars[n++] = preload;
	if (cwd)
		room->vars[n++] = cwd;
	for (i = 0; kept[i]; i++)
		if (!find(envp, kept[i]))
			room->vars[n++] = kept[i];
	room->vars[n] = NULL;
	return (char *const *)room->vars;
}
