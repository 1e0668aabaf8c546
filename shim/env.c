/* SPDX-License-Identifier: MIT */
/*
 * What is kept at the start, and how a child's environment is completed.
 *
 * A program that clears LD_PRELOAD or gives a child an environment of its own
 * does not mean the mounts to vanish there, so: LD_PRELOAD gets our file put in
 * front when it is missing, a DELTAZERO_* name that is absent gets the value of
 * our start, one that is present stays as the caller wants it.  So do the AZURE_*
 * names that are no secret.
 *
 * Who takes credentials out of an environment may have a reason, so they are not
 * put back: the child learns under which identity it runs, DELTAZERO_IDENTITY, and
 * the agent that has the credentials fetches for it.  Only where no agent can run
 * the child gets them, because it must fetch itself.
 */
#include "shim/env.h"

#include "shim/guard.h"
#include "shim/paths.h"

#include "cache/config.h"
#include "cache/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KEPT_VARS 64

static char *const *at_start = (char *const[]){ NULL };
static const char *kept[KEPT_VARS + 1]; /* "DELTAZERO_...=...", "AZURE_...=..." of at_start */
static const char *lent[KEPT_VARS + 1]; /* those of at_start that are credentials */
static uint64_t identity;		/* of at_start; 0: nothing to lend */
static bool is_borrowed;		/* it was lent to us */
static char endpoint[DZ_URL_MAX + 32];	/* "AZURE_...=...": what else says only a secret; "" */
static char preload_item[DZ_PATH_MAX];	/* our entry of LD_PRELOAD; "" when we came otherwise */

#define CWD_VAR	     "DELTAZERO_CWD="
#define IDENTITY_VAR "DELTAZERO_IDENTITY="
#define ENDPOINT_VAR "AZURE_STORAGE_BLOB_ENDPOINT="
#define PRELOAD_VAR  "LD_PRELOAD="

/* What a child is to get of our credentials. */
enum lending { LEND_NOTHING, LEND_IDENTITY, LEND_ALL };

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void keep_var(const char **list, const char *var)
{
	size_t n = 0;

	while (list[n])
		n++;
	if (n < KEPT_VARS)
		list[n] = var;
}

static bool is_credential(const char *var)
{
	size_t len = strcspn(var, "=");
	size_t i;

	for (i = 0; dz_credentials[i]; i++)
		if (strncmp(dz_credentials[i], var, len) == 0 && !dz_credentials[i][len])
			return true;
	return false;
}

/* Is there a mount that the environment's credentials open?  Where az:// is, only they may say. */
static void keep_identity(void)
{
	uint32_t i;

	for (i = 0; i < dz_config.n_mounts; i++) {
		const struct dz_mount *m = &dz_config.mounts[i];

		if (!m->sas[0])
			identity = dz_config_identity(at_start, &is_borrowed);
		if (m->is_az && !endpoint[0])
			snprintf(endpoint, sizeof(endpoint), ENDPOINT_VAR "%s", m->endpoint);
	}
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
		if (is_credential(*envp))
			keep_var(lent, *envp);
		else if (has_prefix(*envp, "AZURE_") ||
			 (has_prefix(*envp, "DELTAZERO_") && !has_prefix(*envp, CWD_VAR) &&
			  !has_prefix(*envp, IDENTITY_VAR)))
			keep_var(kept, *envp);
		else if (has_prefix(*envp, PRELOAD_VAR))
			keep_preload(*envp + strlen(PRELOAD_VAR));
	}
	keep_identity();
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

/* Has the caller put in credentials of its own? */
static bool has_others(char *const *envp)
{
	const char *same;

	for (; *envp; envp++) {
		if (!is_credential(*envp))
			continue;
		same = find(at_start, *envp);
		if (!same || strcmp(same, *envp) != 0)
			return true;
	}
	return false;
}

/* Does somebody fetch for us, so that a child without credentials can be served? */
static bool has_agent(void)
{
	return is_borrowed || (dz_attach() == 0 && dz_engine_wake(dz_engine) == 0);
}

static enum lending lending_for(char *const *envp)
{
	bool unused;

	if (!identity || dz_config_identity(envp, &unused) == identity || has_others(envp))
		return LEND_NOTHING;
	return has_agent() ? LEND_IDENTITY : LEND_ALL;
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
static size_t copy_vars(char *const *envp, bool own_preload, enum lending how, struct dz_env *room)
{
	size_t n = 0;

	for (; *envp && n < DZ_ENV_VARS; envp++)
		if (!has_prefix(*envp, CWD_VAR) &&
		    !(own_preload && has_prefix(*envp, PRELOAD_VAR)) &&
		    !(how == LEND_IDENTITY && has_prefix(*envp, IDENTITY_VAR)))
			room->vars[n++] = *envp;
	return n;
}

static size_t add_missing(char *const *envp, const char *const *list, size_t n, struct dz_env *room)
{
	for (; *list; list++)
		if (!find(envp, *list))
			room->vars[n++] = *list;
	return n;
}

static size_t add_identity(char *const *envp, size_t n, struct dz_env *room)
{
	snprintf(room->identity, sizeof(room->identity), IDENTITY_VAR "%016llx:%016llx",
		 (unsigned long long)identity, (unsigned long long)dz_config_credentials(envp));
	room->vars[n++] = room->identity;
	if (endpoint[0] && !find(envp, endpoint) && !find(at_start, endpoint))
		room->vars[n++] = endpoint;
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
	enum lending how;
	size_t n;

	envp = envp ? envp : none;
	if (!dz_is_on())
		return envp;
	if (!cwd)
		cwd = dz_cwd_env(room->cwd, sizeof(room->cwd));
	how = lending_for(envp);
	if (how == LEND_NOTHING && is_complete(envp, cwd))
		return envp;
	preload = find(envp, PRELOAD_VAR);
	if (!preload_item[0] || (preload && strstr(preload, preload_item)))
		preload = NULL;
	else
		preload = make_preload(preload, room);
	n = copy_vars(envp, preload != NULL, how, room);
	if (n + 2 * KEPT_VARS + 5 > DZ_ENV_VARS)
		return envp;
	if (preload)
		room->vars[n++] = preload;
	if (cwd)
		room->vars[n++] = cwd;
	n = add_missing(envp, kept, n, room);
	if (how == LEND_ALL)
		n = add_missing(envp, lent, n, room);
	else if (how == LEND_IDENTITY)
		n = add_identity(envp, n, room);
	room->vars[n] = NULL;
	return (char *const *)room->vars;
}
