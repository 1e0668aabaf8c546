// SPDX-License-Identifier: MIT
/* The machine, the container and the environment, as a program of ours would find them. */
#include "tools/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cache/ring.h"
#include "tools/elf_file.h"
#include "tools/human.h"
#include "tools/install_path.h"

bool dz_read_line(const char *path, char *buf, size_t size)
{
	FILE *from = fopen(path, "re");
	bool is_read = from && fgets(buf, (int)size, from);

	if (from)
		fclose(from);
	if (is_read)
		buf[strcspn(buf, "\n")] = '\0';
	return is_read;
}

uint64_t dz_meminfo(const char *label)
{
	FILE *from = fopen("/proc/meminfo", "re");
	size_t len = strlen(label);
	uint64_t kib = 0;
	char line[256];

	while (from && fgets(line, sizeof(line), from)) {
		if (strncmp(line, label, len) == 0 && line[len] == ':')
			kib = strtoull(line + len + 1, NULL, 10);
	}
	if (from)
		fclose(from);
	return kib * DZ_KIB;
}

/* ---- control groups ---- */

/* "0::/a/b" of version 2, or "9:memory:/a/b" of version 1. */
static bool own_cgroup(const char *controller, char path[1024])
{
	FILE *from = fopen("/proc/self/cgroup", "re");
	bool found = false;
	char line[1200];

	while (from && !found && fgets(line, sizeof(line), from)) {
		char *names = strchr(line, ':'), *at = names ? strchr(names + 1, ':') : NULL;

		if (!at)
			continue;
		*at++ = '\0';
		at[strcspn(at, "\n")] = '\0';
		found = controller ? strstr(names + 1, controller) != NULL : names[1] == '\0';
		if (found)
			snprintf(path, 1024, "%s", strcmp(at, "/") == 0 ? "" : at);
	}
	if (from)
		fclose(from);
	return found;
}

/* The tightest of the file from the group up to the root. */
static uint64_t tightest(const char *root, char *group, const char *file)
{
	uint64_t least = UINT64_MAX;
	char path[2048], text[64];

	for (bool is_root = false; !is_root;) {
		char *slash = strrchr(group, '/');

		snprintf(path, sizeof(path), "%s%s/%s", root, group, file);
		if (dz_read_line(path, text, sizeof(text)) && text[0] >= '0' && text[0] <= '9')
			least = dz_min_u64(least, strtoull(text, NULL, 10));
		is_root = !slash;
		if (slash)
			*slash = '\0';
	}
	/* Version 1 says "none" as a number near 2^63. */
	return least >= INT64_MAX / 2 ? UINT64_MAX : least;
}

uint64_t dz_cgroup_limit(const char *v2, const char *v1_controller, const char *v1)
{
	uint64_t limit = UINT64_MAX;
	char group[1024], root[128];

	if (own_cgroup(NULL, group))
		limit = tightest("/sys/fs/cgroup", group, v2);
	if (v1 && own_cgroup(v1_controller, group)) {
		snprintf(root, sizeof(root), "/sys/fs/cgroup/%s", v1_controller);
		limit = dz_min_u64(limit, tightest(root, group, v1));
	}
	return limit;
}

static const char *container_kind(void)
{
	if (getenv("KUBERNETES_SERVICE_HOST"))
		return "a Kubernetes pod";
	if (access("/.dockerenv", F_OK) == 0)
		return "a Docker container";
	if (access("/run/.containerenv", F_OK) == 0)
		return "a Podman container";
	return NULL;
}

static void examine_container(struct dz_doctor *d)
{
	uint64_t memory = dz_cgroup_limit("memory.max", "memory", "memory.limit_in_bytes");
	uint64_t pids = dz_cgroup_limit("pids.max", "pids", "pids.max");
	const char *kind = container_kind();
	char size[DZ_HUMAN_BYTES] = "none", text[256] = "", *at;
	char pid_text[32] = "none";

	if (memory != UINT64_MAX)
		dz_human(memory, size);
	if (pids != UINT64_MAX)
		snprintf(pid_text, sizeof(pid_text), "%" PRIu64, pids);
	dz_found(d, memory < 512 * DZ_MIB ? DZ_HEALTH_WARN : DZ_HEALTH_OK, "container",
		 memory < 512 * DZ_MIB
			 ? "the DRAM tier counts against this limit: raise it, or set "
			   "DELTAZERO_DRAM_SIZE to what may be used"
			 : NULL,
		 "%s; memory limit %s, process limit %s", kind ? kind : "no container", size,
		 pid_text);
	if (pids < 64)
		dz_found(d, DZ_HEALTH_WARN, "pids",
			 "raise the pid limit, or set DELTAZERO_FETCH=inline: the agent is a "
			 "process",
			 "at most %" PRIu64 " processes", pids);
	if (dz_read_line("/sys/fs/cgroup/cpu.max", text, sizeof(text)) &&
	    (at = strchr(text, ' '))) {
		double cpus = strtod(text, NULL) / strtod(at, NULL);

		if (cpus > 0 && cpus < 1)
			dz_found(d, DZ_HEALTH_WARN, "cpu", "give the container a whole CPU",
				 "limited to %.2f CPUs: fetching and TLS share them with the "
				 "program",
				 cpus);
	}
}

/* ---- kernel ---- */

static void examine_kernel(struct dz_doctor *d)
{
	struct utsname u;
	unsigned int major = 0, minor = 0;

	if (uname(&u) < 0)
		return;
	sscanf(u.release, "%u.%u", &major, &minor);
	if (major < 4 || (major == 4 && minor < 18))
		dz_found(d, DZ_HEALTH_WARN, "kernel", "4.18 is the oldest one that is tested",
			 "Linux %s on %s", u.release, u.machine);
	else
		dz_found(d, DZ_HEALTH_OK, "kernel", NULL, "Linux %s on %s", u.release, u.machine);
}

static void examine_uring(struct dz_doctor *d)
{
	static const char slower[] =
		"reads from disk go one after the other instead; allow io_uring_setup in the "
		"container's seccomp profile, and kernel.io_uring_disabled=0";
	struct dz_ring *ring;
	char text[32] = "";

	if (dz_ring_new(&ring, 8, false) < 0) {
		dz_found(d, DZ_HEALTH_WARN, "io_uring", slower, "no memory for a ring");
		return;
	}
	if (dz_ring_is_uring(ring))
		dz_found(d, DZ_HEALTH_OK, "io_uring", NULL, "a ring was set up");
	else if (dz_read_line("/proc/sys/kernel/io_uring_disabled", text, sizeof(text)) &&
		 text[0] != '0')
		dz_found(d, DZ_HEALTH_WARN, "io_uring", slower,
			 "not to be had: kernel.io_uring_disabled is %s", text);
	else
		dz_found(d, DZ_HEALTH_WARN, "io_uring", slower,
			 "not to be had: the kernel has none, or a seccomp profile denies it");
	dz_ring_free(ring);
}

/* The option of the mount that holds `dir`, and the type of its file system. */
static bool mount_of(const char *dir, char type[64], char options[512])
{
	char line[4096], point[2048], this_type[64], this_options[512];
	FILE *from = fopen("/proc/self/mounts", "re");
	size_t best = 0;

	while (from && fgets(line, sizeof(line), from)) {
		size_t n;

		if (sscanf(line, "%*s %2047s %63s %511s", point, this_type, this_options) != 3)
			continue;
		n = strcmp(point, "/") == 0 ? 0 : strlen(point);
		if (n + 1 <= best || strncmp(dir, point, n) != 0 ||
		    (n && dir[n] != '/' && dir[n] != '\0'))
			continue;
		best = n + 1;
		snprintf(type, 64, "%s", this_type);
		snprintf(options, 512, "%s", this_options);
	}
	if (from)
		fclose(from);
	return best > 0;
}

static void examine_huge_pages(struct dz_doctor *d)
{
	char setting[128] = "", type[64] = "", options[512] = "";
	const char *chosen;

	if (!mount_of(d->cfg->shm_dir, type, options) || strcmp(type, "tmpfs") != 0)
		return;
	dz_read_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", setting, sizeof(setting));
	chosen = strchr(setting, '[');
	if (strstr(options, "huge=always") || strstr(options, "huge=advise") ||
	    strstr(options, "huge=within_size") || (chosen && (strncmp(chosen, "[force", 6) == 0)))
		dz_found(d, DZ_HEALTH_OK, "hugepages", NULL, "the DRAM tier gets pages of 2 MiB");
	else
		dz_found(d, DZ_HEALTH_WARN, "hugepages",
			 "small reads are a quarter faster with 2 MiB pages: as root, "
			 "`mount -o remount,huge=advise /dev/shm`",
			 "the DRAM tier lies in 4 KiB pages (tmpfs %s without huge=)",
			 d->cfg->shm_dir);
}

/* ---- limits ---- */

static void examine_limits(struct dz_doctor *d)
{
	struct rlimit files = { 0 }, locked = { 0 }, size = { 0 };
	char text[DZ_HUMAN_BYTES] = "unlimited";

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_MEMLOCK, &locked);
	getrlimit(RLIMIT_FSIZE, &size);
	dz_found(d, files.rlim_cur < 1024 ? DZ_HEALTH_WARN : DZ_HEALTH_OK, "nofile",
		 files.rlim_cur < 1024 ? "an open file of a mount is a descriptor: "
					 "`ulimit -n 65536`"
				       : NULL,
		 "%" PRIu64 " open files a process (at most %" PRIu64 ")", (uint64_t)files.rlim_cur,
		 (uint64_t)files.rlim_max);
	if (locked.rlim_cur != RLIM_INFINITY)
		dz_human(locked.rlim_cur, text);
	/* Since 5.12 a ring is charged to the cgroup; before, to this limit. */
	dz_found(d, locked.rlim_cur < 64 * DZ_KIB ? DZ_HEALTH_WARN : DZ_HEALTH_OK, "memlock",
		 locked.rlim_cur < 64 * DZ_KIB ? "kernels before 5.12 count rings here: "
						 "`ulimit -l 8192`"
					       : NULL,
		 "%s of locked memory", text);
	if (size.rlim_cur != RLIM_INFINITY)
		dz_found(d, DZ_HEALTH_WARN, "fsize",
			 "`ulimit -f unlimited`: the disk tier's files are larger than this",
			 "files of at most %s may be written", dz_human(size.rlim_cur, text));
}

/* ---- what is loaded with us ---- */

static bool intercepts_files(const char *path, bool *is_allocator)
{
	struct dz_elf elf;
	bool does;

	*is_allocator = false;
	if (dz_elf_open(&elf, path) < 0)
		return false;
	does = dz_elf_defines(&elf, "open") || dz_elf_defines(&elf, "read") ||
	       dz_elf_defines(&elf, "openat") || dz_elf_defines(&elf, "fopen");
	*is_allocator = dz_elf_defines(&elf, "malloc");
	dz_elf_close(&elf);
	return does;
}

static void examine_preload(struct dz_doctor *d, const char *path, const char *where)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	char found[4096];
	struct dz_elf none = { 0 };
	bool is_allocator;

	if (strncmp(base, "libdeltazero", 12) == 0)
		return;
	if (strchr(path, '/'))
		snprintf(found, sizeof(found), "%s", path);
	else if (dz_elf_find_library(&none, "", path, found) < 0)
		found[0] = '\0';
	if (access(found, R_OK) < 0)
		dz_found(d, DZ_HEALTH_WARN, "preload",
			 "take it out: the loader complains at each start", "%s of %s is not there",
			 path, where);
	else if (intercepts_files(found, &is_allocator))
		dz_found(d, DZ_HEALTH_WARN, "preload",
			 "libdeltazero.so must stand in front of it (`dz run` puts it there); if "
			 "files of a mount misbehave, leave the other one out",
			 "%s of %s takes calls on files too", base, where);
	else
		dz_found(d, DZ_HEALTH_OK, "preload", NULL, "%s of %s %s", base, where,
			 is_allocator ? "is an allocator: they get along"
				      : "takes no calls on files");
}

static void examine_preloads(struct dz_doctor *d)
{
	const char *env = getenv("LD_PRELOAD");
	char list[8192] = "", *save, *word;

	snprintf(list, sizeof(list), "%s", env ? env : "");
	for (word = strtok_r(list, " :", &save); word; word = strtok_r(NULL, " :", &save))
		examine_preload(d, word, "LD_PRELOAD");
	if (!dz_read_line("/etc/ld.so.preload", list, sizeof(list)))
		list[0] = '\0';
	for (word = strtok_r(list, " :\t", &save); word; word = strtok_r(NULL, " :\t", &save))
		examine_preload(d, word, "/etc/ld.so.preload");
}

static void examine_installation(struct dz_doctor *d)
{
	char lib[DZ_PATH_MAX], fetch[DZ_PATH_MAX + 32], *slash;

	if (dz_library_path(lib) < 0) {
		dz_found(d, DZ_HEALTH_FAIL, "library",
			 "install libdeltazero.so beside dz, or in ../lib of it",
			 "libdeltazero.so is neither beside dz nor in ../lib");
		return;
	}
	slash = strrchr(lib, '/');
	snprintf(fetch, sizeof(fetch), "%.*s/libdeltazero-fetch.so", (int)(slash - lib), lib);
	if (strpbrk(lib, " :"))
		dz_found(d, DZ_HEALTH_FAIL, "library", "install it elsewhere",
			 "%s: LD_PRELOAD cannot hold a path with a space or colon", lib);
	else if (access(fetch, R_OK) < 0)
		dz_found(d, DZ_HEALTH_WARN, "library",
			 "install it too: without it nothing is fetched where no agent can run",
			 "%s is there, libdeltazero-fetch.so is not beside it", lib);
	else
		dz_found(d, DZ_HEALTH_OK, "library", NULL, "%s", lib);
}

void dz_doctor_node(struct dz_doctor *d)
{
	examine_installation(d);
	examine_kernel(d);
	examine_uring(d);
	examine_huge_pages(d);
	examine_limits(d);
	examine_container(d);
	examine_preloads(d);
}
