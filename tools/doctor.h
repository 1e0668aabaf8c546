/* SPDX-License-Identifier: MIT */
/*
 * Is this node fit?  Each examination reports one finding or several, in words
 * that say what was found and, unless it is well, what to do.
 */
#ifndef DZ_DOCTOR_H
#define DZ_DOCTOR_H

#include "cache/config.h"

enum dz_health { DZ_HEALTH_OK, DZ_HEALTH_WARN, DZ_HEALTH_FAIL };

struct dz_doctor {
	const struct dz_config *cfg;
	bool json, is_first;
	enum dz_health worst;
	uint32_t n[3]; /* findings of each kind */
};

/*
 * Reports: `what` is one word, `advice` NULL or what to do.  No secret may come
 * here.
 */
void dz_found(struct dz_doctor *d, enum dz_health health, const char *what, const char *advice,
	      const char *fmt, ...) DZ_PRINTF(5, 6);

/* doctor_node.c: kernel, io_uring, huge pages, limits, container, preloads, the installation. */
void dz_doctor_node(struct dz_doctor *d);
/* doctor_cache.c: the directories, the disk's speed, and which sizes were chosen, and why. */
void dz_doctor_cache(struct dz_doctor *d);
/* doctor_mounts.c: names, connection, clock, credentials and a List of each mount. */
void dz_doctor_mounts(struct dz_doctor *d);

/* One line of a small file of /proc or /sys into buf; false when it cannot be read. */
bool dz_read_line(const char *path, char *buf, size_t size);
/* "label: N kB" of /proc/meminfo, in bytes; 0: not there. */
uint64_t dz_meminfo(const char *label);
/*
 * A limit of this process's cgroup, version 2 or 1, the tightest on the way up;
 * UINT64_MAX: none.  `v1` may be NULL.
 */
uint64_t dz_cgroup_limit(const char *v2, const char *v1_controller, const char *v1);

#endif
