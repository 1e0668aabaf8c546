/* SPDX-License-Identifier: MIT */
/*
 * A Blob service to test the client on: a tree of files served by `dz serve`, or
 * put into the Azurite of $DZ_TEST_AZURITE; and the client's calls made to wait
 * for their end.
 */
#ifndef DZ_TESTS_BLOB_FIXTURE_H
#define DZ_TESTS_BLOB_FIXTURE_H

#include "cache/blob/blob.h"

#define EMULATOR_ACCOUNT "devstoreaccount1"
#define EMULATOR_KEY                                                                               \
	"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"                          \
	"K1SZFPTOtr/KBHBeksoGMGw=="

/* A service that runs; one a test program. */
struct service {
	char dir[256];	    /* its files, in dir/root/CONTAINER */
	char container[64]; /* "unit", or "unit-PID" where others may be at work */
	char url[256];	    /* http://127.0.0.1:PORT/devstoreaccount1 */
	bool is_azurite;
	int pid, out;
};

/* Makes the directory and its container's folder. */
void service_prepare(struct service *s);
/* A file of the container: byte i of it is content_byte(i). */
void service_add(const struct service *s, const char *name, uint64_t bytes);
unsigned char content_byte(uint64_t i);
/* faults: NULL, or the text of a fault file (stand-in only). */
void service_start(struct service *s, const char *faults);
/* Stand-in only: ends it, keeping its files; ends and starts it on the same port. */
void service_end(struct service *s);
void service_restart(struct service *s, const char *faults);
void service_stop(struct service *s);
/* A file beside the root; "token" holds the bearer token that the stand-in accepts. */
void service_write(const struct service *s, const char *name, const char *text);
void service_read(const struct service *s, const char *name, char *text, size_t cap);
/* putblob.py ARGUMENTS...; its output's first line goes to `out` (may be NULL). */
void service_put(const struct service *s, char *out, size_t cap, const char *arguments);

/* A client of the service. */
struct client {
	struct dz_blob *blob;
	struct dz_mount mount;
	struct dz_log log;
	char log_path[300];
};

/* env: up to eight NAME=VALUE, NULL at the end.  url: NULL for the service's. */
int client_try_open(struct client *c, const struct service *s, const char *url,
		    const char *const *env, uint32_t budget_ms);
void client_open(struct client *c, const struct service *s, const char *const *env);
/* With the emulator's key. */
void client_open_default(struct client *c, const struct service *s);
void client_close(struct client *c);

/* One call and what came of it. */
struct call {
	struct dz_blob_req req;
	bool is_done;
	int err;
	unsigned char *bytes; /* GET: what was handed out, from req.off on */
	uint64_t n_bytes, cap;
	int stop_with; /* GET: what body() returns */
	uint64_t n_entries, entries_bytes;
	char names[8192]; /* LIST: the first names, each with a newline */
};

void call_free(struct call *c);
int client_try_submit(struct client *c, struct call *call);
void client_submit(struct client *c, struct call *call);
void client_wait(struct client *c, struct call *call);
/* Both. */
void client_run(struct client *c, struct call *call);
/* These run to the end and return err. */
int client_get(struct client *c, struct call *call, const char *name, uint64_t off, uint64_t len,
	       const char *etag);
int client_head(struct client *c, struct call *call, const char *name);
int client_list(struct client *c, struct call *call, const char *prefix, bool delimiter,
		const char *marker);
/* Fails the test unless `n` bytes from `off` on are those of the content. */
void assert_content(const struct call *call, uint64_t off, uint64_t n);
/* What the client logged, in a buffer of this call. */
const char *client_log(const struct client *c);

#endif
