/* SPDX-License-Identifier: MIT */
/*
 * What the user asked for, read once from the environment (and from the file
 * that DELTAZERO_CONFIG names: the same DELTAZERO_NAME=VALUE, one a line; the
 * environment wins).  One fixed-size value without pointers to free, so it can
 * live in a preload object that must not call malloc.  It is about 60 KiB: keep
 * it off small stacks.
 *
 * Credentials are not kept here: blob/auth.c reads them where they are used,
 * in the agent.  Here they only enter `identity`, a hash.
 */
#ifndef DZ_CONFIG_H
#define DZ_CONFIG_H

#include "cache/base.h"

enum dz_log_level { DZ_LOG_ERROR, DZ_LOG_WARN, DZ_LOG_INFO, DZ_LOG_DEBUG };
enum dz_fetch_mode { DZ_FETCH_AGENT, DZ_FETCH_INLINE };

#define DZ_URL_MAX     512
#define DZ_SAS_MAX     1024
#define DZ_PATH_MAX    4096
#define DZ_TTL_FOREVER UINT64_MAX

/* One LOCAL=URL of DELTAZERO_MOUNT. */
struct dz_mount {
	char local[512]; /* absolute, normalised, no trailing slash */
	uint32_t local_len;
	char endpoint[DZ_URL_MAX]; /* scheme://host[:port][/account], no slash at the end */
	char account[64];	   /* account that signs; "" when unknown */
	char container[64];
	char prefix[DZ_NAME_MAX]; /* "" or "a/b/", decoded */
	char sas[DZ_SAS_MAX];	  /* without '?'; "" when none in the URL */
	bool path_style;	  /* the account is the first path segment */
	bool is_az;		  /* az://, so the environment said where: `endpoint` */
	uint64_t identity;	  /* hash of the credentials that apply */
	bool is_borrowed;	  /* they are an ancestor's: only its agent has them */
	uint64_t id;		  /* hash of endpoint, container, prefix, identity */
	uint64_t data_id;	  /* hash of endpoint and container only */
};

struct dz_config {
	struct dz_mount mounts[DZ_MOUNTS_MAX];
	uint32_t n_mounts;
	char cache_dir[DZ_PATH_MAX];
	char shm_dir[DZ_PATH_MAX];
	uint64_t dram_bytes; /* 0: choose from what is free; never DZ_SIZE_NONE */
	uint64_t disk_bytes; /* 0: choose; DZ_SIZE_NONE: no disk tier */
	enum dz_fetch_mode fetch;
	uint64_t ttl_ms; /* DZ_TTL_FOREVER for `inf` */
	enum dz_log_level log_level;
	char log_path[DZ_PATH_MAX]; /* "": standard error */
	char error[256];	    /* first complaint, "" when none */
};

#define DZ_SIZE_NONE UINT64_MAX

/*
 * Reads the environment `envp` ("NAME=value" strings, NULL at the end).
 * Returns 0, or -EINVAL with cfg->error set to one line that names the
 * variable, what is wrong and what is accepted; mounts parsed before the
 * mistake stay usable.  Never allocates; safe in a constructor.
 */
int dz_config_read(struct dz_config *cfg, char *const *envp);

/*
 * Parses one LOCAL=URL.  Returns 0, or -EINVAL with a message in `why`
 * (`why_len` bytes).
 */
int dz_config_mount(struct dz_mount *m, const char *text, size_t len, char *const *envp, char *why,
		    size_t why_len);

/* "4G", "512MiB", "1048576", "0"; powers of 1,024.  Returns 0 or -EINVAL. */
int dz_config_size(const char *text, uint64_t *bytes);

/* The names that credentials have in the environment; NULL at the end. */
extern const char *const dz_credentials[];
/*
 * Hash of the credentials in `envp`, 0 when there are none.  With DELTAZERO_IDENTITY
 * it may be an ancestor's: "HASH:OF", both in hex, says that who has the credentials
 * OF (as this function alone would hash them) runs under the identity HASH.
 */
uint64_t dz_config_identity(char *const *envp, bool *is_borrowed);
/* Of what stands in `envp` itself. */
uint64_t dz_config_credentials(char *const *envp);

/* Value of `name` in `envp`, or NULL. */
const char *dz_config_env(char *const *envp, const char *name);

#endif
