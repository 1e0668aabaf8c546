/* SPDX-License-Identifier: MIT */
/*
 * THE door of the cache: open, read, map, stat, list, advise, close.
 *
 * A read: find the open file; find each block's slot; copy it, or read it from
 * the NVMe tier, or ask for it and wait; return the count.
 *
 * Every call returns a count or 0, or -errno; errno is never touched.  Calls are
 * thread-safe and, on a DRAM hit, make no system call, take no lock and allocate
 * nothing, so a signal handler may read too.  `struct dz_engine` is one
 * process's attachment; after fork the child calls dz_engine_fork_child() before
 * anything else.
 */
#ifndef DZ_ENGINE_H
#define DZ_ENGINE_H

#include "cache/config.h"
#include "cache/log.h"
#include "cache/stats.h"

#include <sys/uio.h>

struct dz_engine;

/* The front of a struct dz_engine: all of it that a door reads itself. */
struct dz_engine_front {
	const _Atomic uint64_t *trace; /* never NULL; not 0: somebody looks (cache/trace.h) */
	_Atomic uintptr_t maps_low, maps_high; /* what all that was mapped lies in */
	_Atomic int fds_low; /* none of our descriptors has a number below; 0: who knows */
};

/* An open-file description: number and generation in one word; 0 is none. */
typedef uint64_t dz_fh;

struct dz_attr {
	uint64_t size;
	int64_t mtime_ns;
	uint64_t ino;
	uint32_t mode; /* S_IFREG | 0444 or S_IFDIR | 0555 */
	char etag[DZ_ETAG_MAX];
};

/* A directory's entries, copied once: stable while others refresh it. */
struct dz_list_entry {
	uint64_t ino;
	uint64_t size;
	int64_t mtime_ns;
	uint32_t mode;
	uint16_t name_len;
	char name[]; /* NUL-terminated */
};
struct dz_listing {
	uint64_t n;	  /* entries, "." and ".." not among them */
	uint64_t bytes;	  /* of the mapping below */
	uint32_t *offset; /* n offsets into `data`, for seekdir */
	uint8_t *data;
};

/*
 * Attaches (creating the shared memory when we are first).  Never fails for lack
 * of cache: without shared memory the engine works from a small private one and
 * fetches inline, with one log line.  0, or -ENOMEM.  Takes under a millisecond
 * when the segment exists.  `envp` has to stay: the agent is started with it.
 * `lib_path`: our own shared object, to find the agent's program and the fetch
 * module beside it.
 */
int dz_engine_open(struct dz_engine **out, const struct dz_config *cfg, char *const *envp,
		   const char *lib_path);
/*
 * How to find a symbol in what dlopen returned.  The library must not import
 * dlsym: since 2.34 it carries a version that older C libraries do not have.
 * Without it nothing can be fetched inline.
 */
typedef void *dz_lookup_fn(void *handle, const char *name);
void dz_engine_set_lookup(struct dz_engine *e, dz_lookup_fn *lookup);
/*
 * Called with 1 before and with -1 after code that is not ours runs in the calling
 * thread (the loader, curl), which may do I/O of its own.  Signals are blocked and
 * cancellation is off between the two.
 */
typedef void dz_guard_fn(int step);
void dz_engine_set_guard(struct dz_engine *e, dz_guard_fn *guard);
void dz_engine_close(struct dz_engine *e);

/* Around fork in a process with threads.  prepare returns a cookie for the other two. */
uint32_t dz_engine_fork_prepare(struct dz_engine *e);
void dz_engine_fork_parent(struct dz_engine *e, uint32_t cookie, long pid);
void dz_engine_fork_child(struct dz_engine *e, uint32_t cookie);
/*
 * Before exec (a vfork child may call it: writes shared memory only): keeps the file's
 * description alive until the new image has attached, and makes descriptor fd (-1: none)
 * one that it can resolve.
 */
void dz_engine_handover(struct dz_engine *e, dz_fh fh, int fd);

/* Starts the agents of our mounts where none runs; -errno: this process must fetch itself. */
int dz_engine_wake(struct dz_engine *e);

/* Is `fd` one of the engine's own descriptors?  The shim must not let the program close it. */
bool dz_engine_owns_fd(const struct dz_engine *e, int fd);
/* At a glance: most descriptors of a program are below all of ours. */
static inline bool dz_engine_may_own_fd(const struct dz_engine *e, int fd)
{
	const struct dz_engine_front *f = (const void *)e;

	return fd >= atomic_load_explicit(&f->fds_low, memory_order_relaxed);
}
/*
 * Frees the number of one of them: the engine goes on with another.  0, or -EBUSY.
 * Takes 10 ms.  Not in a vfork child: its memory is its parent's.
 */
int dz_engine_move_fd(struct dz_engine *e, int fd);
/* The lowest of them that is at least `from`; -1 when there is none. */
int dz_engine_next_fd(const struct dz_engine *e, int from);

/*
 * Names.  `name` is the path below mount number `mount` of the config, without
 * slashes at either end, "." or ".."; "" is the root.
 *
 * -ENOENT no such name, -ENOTDIR a file stands where a directory is needed,
 * -EACCES credentials refused, -EIO Blob does not answer (logged), -ENAMETOOLONG.
 */
int dz_engine_stat(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
		   struct dz_attr *attr);
/* Copies a directory's entries; dz_engine_unlist() gives them back (munmap). */
int dz_engine_list(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
		   struct dz_listing *out);
void dz_engine_unlist(struct dz_listing *l);
/* Forget what is known of a name or a directory: the next look asks Blob. */
int dz_engine_refresh(struct dz_engine *e, uint32_t mount, const char *name, size_t len);

/*
 * Opens: a new description at offset 0, pinned to the ETag that Blob confirmed
 * within the time to live.  `flags` are O_* and only kept for F_GETFL.
 * Additionally -ENFILE (table full), and the errors of names.
 */
int dz_engine_open_file(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
			int flags, dz_fh *fh);
/*
 * The marker: a new descriptor (lowest free number, >= min_fd) that stands for
 * `fh` in this process; close-on-exec when asked.  -EMFILE...
 */
int dz_engine_marker(struct dz_engine *e, dz_fh fh, int min_fd, bool cloexec);
/*
 * The description behind a descriptor that came from elsewhere (exec, SCM_RIGHTS,
 * an unhooked fork); this process now holds it.  -EBADF not a marker of this
 * cache, or its description is gone (the descriptor then stays dead).
 */
int dz_engine_resolve(struct dz_engine *e, int fd, dz_fh *fh);
/* This process has no descriptor for it any more. */
void dz_engine_close_file(struct dz_engine *e, dz_fh fh);

/* flock(2), as cache/filelock.h has it. */
int dz_engine_flock(struct dz_engine *e, dz_fh fh, int op);

/* -EBADF stale handle; all others as below. */
int dz_engine_fstat(struct dz_engine *e, dz_fh fh, struct dz_attr *attr);
int dz_engine_fd_flags(struct dz_engine *e, dz_fh fh, int *flags);
int dz_engine_set_fd_flags(struct dz_engine *e, dz_fh fh, int flags);
/* Which mount and name it is; `name` has DZ_NAME_MAX + 1 bytes. */
int dz_engine_name(struct dz_engine *e, dz_fh fh, uint32_t *mount, char *name);

/*
 * Up to `len` bytes (at most 0x7ffff000); fewer only at the end of the file.
 * -EISDIR, -EIO (Blob does not answer; logged), -ESTALE -> reported as EIO by the
 * shim: the blob changed since open and its old bytes are gone.
 * pread leaves the offset alone; read takes and moves it, as one step among all
 * holders.
 */
ssize_t dz_engine_pread(struct dz_engine *e, dz_fh fh, void *buf, size_t len, uint64_t off);
ssize_t dz_engine_read(struct dz_engine *e, dz_fh fh, void *buf, size_t len);
ssize_t dz_engine_preadv(struct dz_engine *e, dz_fh fh, const struct iovec *iov, int n,
			 uint64_t off);
ssize_t dz_engine_readv(struct dz_engine *e, dz_fh fh, const struct iovec *iov, int n);
/* -EAGAIN unless every byte of the range is in DRAM (RWF_NOWAIT). */
int dz_engine_is_cached(struct dz_engine *e, dz_fh fh, uint64_t off, uint64_t len);
/* SEEK_SET, CUR, END, DATA, HOLE.  -EINVAL, -ENXIO, -EOVERFLOW.  A directory: position cookies. */
int64_t dz_engine_seek(struct dz_engine *e, dz_fh fh, int64_t off, int whence);
/* POSIX_FADV_*; WILLNEED starts fetching and returns at once.  Always 0 or -EBADF. */
int dz_engine_advise(struct dz_engine *e, dz_fh fh, uint64_t off, uint64_t len, int advice);

/*
 * A mapping of [off, off + len) (off a multiple of the page size) with mmap(2)'s
 * prot, flags and addr; the file may be closed afterwards.  Returns 0 and the
 * address, or -errno as mmap(2) gives it (-EACCES shared and writable); of what
 * MAP_FIXED replaces, the engine is not told separately.
 */
int dz_engine_map(struct dz_engine *e, dz_fh fh, void *addr, size_t len, int prot, int flags,
		  uint64_t off, void **out);
/* May there be a mapping of ours in [at, end)?  Two loads. */
static inline bool dz_engine_may_map(const struct dz_engine *e, uintptr_t at, uintptr_t end)
{
	const struct dz_engine_front *f = (const void *)e;

	return at < atomic_load_explicit(&f->maps_high, memory_order_relaxed) &&
	       end > atomic_load_explicit(&f->maps_low, memory_order_relaxed);
}
/*
 * Around a call by which the program unmaps or replaces [at, end), whole pages: what
 * the one returns the other gets, with what the kernel said.
 */
uint32_t dz_engine_unmap_begin(struct dz_engine *e, uintptr_t at, uintptr_t end);
void dz_engine_unmap_end(struct dz_engine *e, uint32_t taken, uintptr_t at, uintptr_t end,
			 bool is_gone);
/* What of [at, end) is ours: these bits, of any part of it. */
#define DZ_MAP_IS_OURS	 1
#define DZ_MAP_IS_SHARED 2
#define DZ_MAP_IS_LAZY	 4 /* the program's own memory, to the kernel */
int dz_engine_map_is(const struct dz_engine *e, uintptr_t at, uintptr_t end);
/* mremap(2) of a range that is ours, as of a file's mapping. */
int dz_engine_remap(struct dz_engine *e, void *addr, size_t len, size_t new_len, int flags,
		    void *new_addr, void **out);
/* mprotect(2) has set the protection of [at, end). */
void dz_engine_map_protected(struct dz_engine *e, uintptr_t at, uintptr_t end, int prot);
/* madvise(WILLNEED): what the kernel cannot bring is fetched. */
void dz_engine_map_willneed(struct dz_engine *e, uintptr_t at, uintptr_t end);
/*
 * A real, ordinary, read-only descriptor with the file's bytes at offset 0 (a
 * sealed memfd or an unlinked file of the cache directory), for what only the
 * kernel can do: exec, dlopen, splice, a child that the shim cannot enter.
 */
int dz_engine_real_fd(struct dz_engine *e, dz_fh fh, bool cloexec);

/* Counters of the calling process; `call` is the shim's number (< DZ_STAT_CALLS). */
void dz_engine_count(struct dz_engine *e, uint32_t call, int64_t result);
void dz_engine_count_bypass(struct dz_engine *e, uint32_t call);

/*
 * Looking at a call, for `dz trace`.  The engine keeps nothing per thread, so the
 * caller has one zeroed dz_trace_self a thread, in initial-exec storage: at the
 * same distance from the thread pointer in each.
 */
struct dz_call_info {
	uint64_t queue_ns, net_ns, disk_ns; /* of this call's waiting */
	uint32_t gets;			    /* requests that it caused */
	uint32_t tier;			    /* the slowest that it needed; 0: memory */
	uint64_t since_ns;		    /* it waited first then, 0: never */
	uint64_t span;			    /* number of the call that all this is of */
};
/*
 * The next `left` calls of this kind are not timed; each is two additions to `counts`,
 * while the member's word is `word` and it needs nothing slower than memory.
 */
struct dz_trace_counts;
struct dz_trace_next {
	uint64_t word;
	struct dz_trace_counts *counts;
	uint32_t call, left;
};
/* Of each thread; what is looked at in each call comes first. */
struct dz_trace_self {
	uint64_t span, spans; /* number of the call that is under way; of the last one */
	struct dz_call_info info;
	struct dz_trace_next next[4]; /* by the calls' low bits */
	bool is_preparing;	      /* `next` changes: not for a signal handler now */
	uint32_t session, pid, tid;
	uint16_t ring, table;
	uint16_t seen[64]; /* calls, by their low bits: which of them are timed */
} __attribute__((aligned(64)));
void dz_engine_set_trace_self(struct dz_engine *e, struct dz_trace_self *self);

/* What of a call the tracer gets, beside its time. */
struct dz_call_record {
	uint32_t call, n_args;
	int64_t result;
	const long *args;
	uint32_t strings; /* bit i: args[i] is a string that can be read */
	bool is_bypass;
	bool has_stat; /* st_mode, st_size */
	uint16_t mode;
	uint16_t data_len;
	uint64_t size;
	const char *fd_path; /* NULL: none */
	const void *data;    /* data_len bytes of content */
	uintptr_t caller;
};
/* A call that is looked at; calls may lie within each other. */
struct dz_call_span {
	uint64_t start;	 /* 0: not timed */
	uint32_t weight; /* for so many calls that are not */
	uint64_t outer;	 /* number of the call around it */
};
/* Is anybody looking?  One load when not. */
static inline bool dz_engine_is_traced(const struct dz_engine *e)
{
	return atomic_load_explicit(((const struct dz_engine_front *)(const void *)e)->trace,
				    memory_order_relaxed) != 0;
}
/* How much content, and whether paths of descriptors, are wanted. */
uint32_t dz_engine_trace_content(const struct dz_engine *e);
bool dz_engine_trace_wants_paths(const struct dz_engine *e);
/*
 * Where only counts are wanted, the first calls of a kind are timed and every 32nd
 * of the others, for two looks at the clock cost as much as all the rest.
 */
void dz_engine_span_begin(struct dz_engine *e, struct dz_trace_self *self,
			  struct dz_call_span *span, uint32_t call);
/* The end of a call where only counts are wanted; false: it is still to be ended. */
bool dz_engine_span_count(struct dz_engine *e, struct dz_trace_self *self,
			  struct dz_call_span *span, uint32_t call, int64_t result);
void dz_engine_span_end(struct dz_engine *e, struct dz_trace_self *self, struct dz_call_span *span,
			const struct dz_call_record *rec);

/* Capacity, for statfs. */
void dz_engine_space(struct dz_engine *e, uint64_t *bytes, uint64_t *used);

#endif
