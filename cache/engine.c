// SPDX-License-Identifier: MIT
/*
 * The engine's door: attaching, forking, names, open files.  Reads are in
 * read.c, mappings in map.c, waiting for Blob in miss.c.
 *
 * The happy path of an attachment: map the segment, become a member, find (or
 * make) the records of our mounts and of the agent for their credentials.
 * Without shared memory: a small private segment and inline fetching, so the
 * program runs, slower, and one line of the log says why.
 */
#include "cache/engine_priv.h"
#include "cache/filelock.h"
#include "cache/lazy.h"
#include "cache/past.h"
#include "cache/probe.h"
#include "cache/sys.h"
#include "cache/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIVATE_BYTES (64 * DZ_MIB)

bool dz_engine_once(struct dz_engine *e, uint32_t bit)
{
	uint64_t mask = 1ull << (bit & 63);

	return !(atomic_fetch_or_explicit(&e->logged, mask, memory_order_relaxed) & mask);
}

struct dz_counter dz_engine_counter_find(struct dz_engine *e, uint32_t member)
{
	uintptr_t me = (uintptr_t)__builtin_thread_pointer();
	struct dz_stats *base = &e->seg.stats[(size_t)member * DZ_STAT_STRIPES];

	for (int i = 0; i < DZ_STAT_STRIPES - 1; i++) {
		uintptr_t owner = atomic_load_explicit(&e->stripe_owner[i], memory_order_relaxed);

		if (owner == me)
			return (struct dz_counter){ base + i, true };
		if (!owner && atomic_compare_exchange_strong(&e->stripe_owner[i], &owner, me))
			return (struct dz_counter){ base + i, true };
	}
	return (struct dz_counter){ base + DZ_STAT_STRIPES - 1, false };
}

static void engine_lib_dir(struct dz_engine *e, const char *lib_path)
{
	const char *slash = lib_path ? strrchr(lib_path, '/') : NULL;
	size_t n = slash ? (size_t)(slash - lib_path) : 0;

	if (n >= sizeof(e->lib_dir))
		n = 0;
	memcpy(e->lib_dir, n ? lib_path : ".", n ? n : 1);
	e->lib_dir[n ? n : 1] = '\0';
}

/* Shared memory, or a private segment when there is none to be had. */
static int engine_attach(struct dz_engine *e)
{
	int ret = dz_seg_open(&e->seg, &e->cfg, &e->log);

	if (ret == 0)
		ret = dz_member_join(&e->seg);
	if (ret == 0)
		ret = dz_engine_bind_mounts(e);
	if (ret == 0)
		return 0;
	if (ret == -EUSERS)
		dz_warn(&e->log,
			"cache %s: its tables are full: this process reads straight from Blob",
			e->seg.dir);
	dz_seg_close(&e->seg);
	if ((ret == -EROFS || ret == -EACCES) &&
	    dz_seg_open_read_only(&e->shared, &e->cfg, &e->log) == 0)
		dz_info(&e->log,
			"cache %s: can only be read here: what is not in it is fetched privately",
			e->shared.dir);
	atomic_store_explicit(&e->is_inline, 1, memory_order_relaxed);
	ret = dz_seg_open_private(&e->seg, &e->log, PRIVATE_BYTES);
	if (ret == 0)
		ret = dz_member_join(&e->seg);
	return ret < 0 ? ret : dz_engine_bind_mounts(e);
}

/* From here on each descriptor is noted before it can be used. */
static void engine_note_fds(struct dz_engine *e)
{
	atomic_store_explicit(&e->front.fds_low, INT_MAX, memory_order_relaxed);
	e->seg.fds_low = &e->front.fds_low;
	for (int fd = dz_engine_next_fd(e, 0); fd >= 0; fd = dz_engine_next_fd(e, fd + 1))
		dz_seg_note_fd(&e->seg, fd);
}

int dz_engine_open(struct dz_engine **out, const struct dz_config *cfg, char *const *envp,
		   const char *lib_path)
{
	struct dz_engine *e;
	void *map;
	int ret = dz_sys_mmap(&map, NULL, sizeof(*e), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ret < 0)
		return ret;
	e = map;
	e->cfg = *cfg;
	e->log = (struct dz_log){ .level = cfg->log_level,
				  .path = e->cfg.log_path,
				  .who = "deltazero" };
	e->envp = envp;
	engine_lib_dir(e, lib_path);
	atomic_store_explicit(&e->pid, (uint32_t)dz_sys_getpid(), memory_order_relaxed);
	atomic_store_explicit(&e->is_inline, cfg->fetch == DZ_FETCH_INLINE, memory_order_relaxed);
	ret = engine_attach(e);
	if (ret == 0 && !e->seg.is_private)
		ret = dz_disk_open(&e->disk, &e->seg, &e->cfg, &e->log);
	if (ret < 0) {
		dz_seg_close(&e->seg);
		dz_sys_munmap(map, sizeof(*e));
		return ret;
	}
	dz_disk_watch(e->disk, &e->seg);
	dz_trace_begin(e, envp);
	engine_note_fds(e);
	*out = e;
	return 0;
}

void dz_engine_set_lookup(struct dz_engine *e, dz_lookup_fn *lookup)
{
	e->lookup = lookup;
}

void dz_engine_set_guard(struct dz_engine *e, dz_guard_fn *guard)
{
	e->guard = guard;
}

void dz_engine_close(struct dz_engine *e)
{
	if (e->disk)
		dz_disk_close(e->disk);
	dz_member_leave(&e->seg);
	dz_trace_end(e);
	dz_past_close(e);
	dz_seg_close(&e->seg);
	if (e->shared.hdr)
		dz_seg_close(&e->shared);
	dz_sys_munmap(e, sizeof(*e));
}

uint32_t dz_engine_fork_prepare(struct dz_engine *e)
{
	dz_inline_fork_prepare(e);
	dz_past_fork_prepare(e);
	dz_lazy_fork_prepare(e);
	return e->seg.member < e->seg.n_members ? dz_member_prepare_child(&e->seg) : DZ_NONE;
}

void dz_engine_fork_parent(struct dz_engine *e, uint32_t cookie, long pid)
{
	dz_inline_fork_parent(e);
	dz_past_fork_parent(e);
	if (pid < 0)
		dz_member_cancel_child(&e->seg, cookie);
	else
		dz_member_child_is(&e->seg, cookie, (uint32_t)pid);
}

void dz_engine_fork_child(struct dz_engine *e, uint32_t cookie)
{
	uint64_t trace = atomic_load_explicit(e->front.trace, memory_order_relaxed);

	atomic_store_explicit(&e->pid, (uint32_t)dz_sys_getpid(), memory_order_relaxed);
	for (size_t i = 0; i < DZ_STAT_STRIPES - 1; i++)
		atomic_store_explicit(&e->stripe_owner[i], 0, memory_order_relaxed);
	dz_engine_forget_bounces(e);
	dz_inline_abandon(e);
	dz_past_fork_child(e);
	/* Without a record of its own it still reads; it just counts in nobody's name. */
	if (dz_member_adopt(&e->seg, cookie) < 0)
		e->seg.member = DZ_NONE;
	dz_engine_hold_mounts(e);
	dz_lazy_fork_child(e);
	dz_trace_fork_child(e, trace);
}

void dz_engine_handover(struct dz_engine *e, dz_fh fh, int fd)
{
	if (fd < 0)
		dz_file_share(&e->seg, fh, DZ_HANDOVER_MS);
	else
		dz_file_hand_over(&e->seg, fh, fd, DZ_HANDOVER_MS);
}

bool dz_engine_owns_fd(const struct dz_engine *e, int fd)
{
	return fd >= 0 && dz_engine_may_own_fd(e, fd) && dz_engine_next_fd(e, fd) == fd;
}

uint32_t dz_engine_fd_places(struct dz_engine *e, int *places[DZ_ENGINE_FDS])
{
	uint32_t n = 0;

	places[n++] = &e->seg.dir_fd;
	places[n++] = &e->seg.lock_fd;
	places[n++] = &e->seg.dram_fd;
	if (e->shared.hdr)
		places[n++] = &e->shared.dram_fd;
	if (e->lazy.is_open)
		places[n++] = &e->lazy.fd;
	return n;
}

int dz_engine_next_fd(const struct dz_engine *e, int from)
{
	int *places[DZ_ENGINE_FDS], next = e->disk ? dz_disk_next_fd(e->disk, from) : -1;
	uint32_t n = dz_engine_fd_places((struct dz_engine *)e, places);

	for (uint32_t i = 0; i < n; i++) {
		int fd = __atomic_load_n(places[i], __ATOMIC_RELAXED);

		if (fd >= 0 && fd >= from && (next < 0 || fd < next))
			next = fd;
	}
	return next;
}

/* ---- open files ---- */

static void engine_fill_file(struct dz_engine *e, struct dz_ofile *f, uint32_t mount,
			     const char *name, size_t len, const struct dz_attr *attr)
{
	const struct dz_mount *m = &e->cfg.mounts[mount];
	struct dz_key base = dz_names_file_key(m->data_id, m->prefix, name, len, attr->etag);

	f->key_lo = base.lo;
	f->key_hi = base.hi;
	f->size = attr->size;
	f->mtime_ns = attr->mtime_ns;
	f->ino = attr->ino;
	f->mode = attr->mode;
	f->mount = e->rec[mount];
	f->group = dz_names_group(m->data_id, name, len);
	f->name_len = (uint32_t)len;
	memcpy(f->etag, attr->etag, sizeof(f->etag));
	memcpy(f->name, name, len);
	f->name[len] = '\0';
	atomic_store_explicit(&f->pos, 0, memory_order_relaxed);
	atomic_store_explicit(&f->handover_ms, 0, memory_order_relaxed);
	atomic_store_explicit(&f->next_off, 0, memory_order_relaxed);
	atomic_store_explicit(&f->streak, 0, memory_order_relaxed);
	atomic_store_explicit(&f->window, 0, memory_order_relaxed);
	atomic_store_explicit(&f->ahead, 0, memory_order_relaxed);
	atomic_store_explicit(&f->last_blk, 0, memory_order_relaxed);
	atomic_store_explicit(&f->advice, 0, memory_order_relaxed);
	atomic_store_explicit(&f->read_bytes, 0, memory_order_relaxed);
}

int dz_engine_open_file(struct dz_engine *e, uint32_t mount, const char *name, size_t len,
			int flags, dz_fh *fh)
{
	struct dz_attr attr;
	uint32_t n;
	int ret = dz_name_resolve(e, mount, name, len, true, &attr);

	if (ret < 0)
		return ret;
	if (S_ISREG(attr.mode) && !attr.etag[0]) {
		dz_error(&e->log,
			 "open %.*s: Blob gives no ETag: its versions cannot be told apart",
			 (int)len, name);
		return -EIO;
	}
	n = dz_file_alloc(&e->seg);
	if (n == DZ_NONE)
		return -ENFILE;
	engine_fill_file(e, &e->seg.files[n], mount, name, len, &attr);
	atomic_store_explicit(&e->seg.files[n].flags, (uint32_t)flags, memory_order_relaxed);
	*fh = dz_file_ready(&e->seg, n);
	return 0;
}

int dz_engine_marker(struct dz_engine *e, dz_fh fh, int min_fd, bool cloexec)
{
	int fd = dz_file_marker(&e->seg, fh, cloexec);
	long high;

	if (fd < 0 || fd >= min_fd)
		return fd;
	high = dz_sys_3(SYS_fcntl, fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, min_fd);
	dz_sys_close(fd);
	return (int)high;
}

int dz_engine_resolve(struct dz_engine *e, int fd, dz_fh *fh)
{
	return dz_file_resolve(&e->seg, fd, fh);
}

void dz_engine_close_file(struct dz_engine *e, dz_fh fh)
{
	dz_file_drop(&e->seg, fh);
	if (__builtin_expect(e->has_locked, 0))
		dz_filelock_wake(&e->seg);
}

int dz_engine_flock(struct dz_engine *e, dz_fh fh, int op)
{
	e->has_locked = true;
	return dz_filelock(&e->seg, fh, op);
}

int dz_engine_fstat(struct dz_engine *e, dz_fh fh, struct dz_attr *attr)
{
	const struct dz_ofile *f = dz_file_get(&e->seg, fh);

	if (!f)
		return -EBADF;
	attr->size = f->size;
	attr->mtime_ns = f->mtime_ns;
	attr->ino = f->ino;
	attr->mode = f->mode;
	memcpy(attr->etag, f->etag, sizeof(attr->etag));
	return 0;
}

int dz_engine_fd_flags(struct dz_engine *e, dz_fh fh, int *flags)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);

	if (!f)
		return -EBADF;
	*flags = (int)atomic_load_explicit(&f->flags, memory_order_relaxed);
	return 0;
}

int dz_engine_set_fd_flags(struct dz_engine *e, dz_fh fh, int flags)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);

	if (!f)
		return -EBADF;
	atomic_store_explicit(&f->flags, (uint32_t)flags, memory_order_relaxed);
	return 0;
}

int dz_engine_name(struct dz_engine *e, dz_fh fh, uint32_t *mount, char *name)
{
	const struct dz_ofile *f = dz_file_get(&e->seg, fh);

	if (!f || f->name_len > DZ_NAME_MAX)
		return -EBADF;
	for (uint32_t i = 0; i < e->cfg.n_mounts; i++) {
		if (e->rec[i] != f->mount)
			continue;
		*mount = i;
		memcpy(name, f->name, f->name_len);
		name[f->name_len] = '\0';
		return 0;
	}
	return -EBADF;
}

/* ---- reading ---- */

static int engine_readable(struct dz_engine *e, dz_fh fh, struct dz_ofile **f)
{
	*f = dz_file_get(&e->seg, fh);
	if (!*f)
		return -EBADF;
	return ((*f)->mode & S_IFMT) == S_IFDIR ? -EISDIR : 0;
}

/*
 * Another thread may close the last descriptor while this one reads; by the time
 * it waits for Blob the description can be another file's.
 */
static ssize_t engine_still(struct dz_engine *e, dz_fh fh, ssize_t got)
{
	return dz_file_get(&e->seg, fh) ? got : -EBADF;
}

ssize_t dz_engine_pread(struct dz_engine *e, dz_fh fh, void *buf, size_t len, uint64_t off)
{
	struct dz_ofile *f;
	int ret = engine_readable(e, fh, &f);

	return ret < 0 ? ret : engine_still(e, fh, dz_read_at(e, f, buf, len, off));
}

/*
 * Takes [pos, pos + n) for this reader in one step; what an error leaves unread
 * is given back when nobody has moved on meanwhile.
 */
static uint64_t engine_take_range(struct dz_ofile *f, size_t len, size_t *n)
{
	uint64_t pos = atomic_load_explicit(&f->pos, memory_order_relaxed);

	do {
		uint64_t left = pos < f->size ? f->size - pos : 0;

		*n = (size_t)dz_min_u64(dz_min_u64(len, left), 0x7ffff000u);
	} while (*n && !atomic_compare_exchange_weak(&f->pos, &pos, pos + *n));
	return pos;
}

static void engine_give_back(struct dz_ofile *f, uint64_t end, uint64_t real_end)
{
	if (end != real_end)
		atomic_compare_exchange_strong(&f->pos, &end, real_end);
}

ssize_t dz_engine_read(struct dz_engine *e, dz_fh fh, void *buf, size_t len)
{
	struct dz_ofile *f;
	uint64_t pos;
	ssize_t got;
	size_t n;
	int ret = engine_readable(e, fh, &f);

	if (ret < 0)
		return ret;
	pos = engine_take_range(f, len, &n);
	if (!n)
		return 0;
	got = engine_still(e, fh, dz_read_at(e, f, buf, n, pos));
	if (got != -EBADF)
		engine_give_back(f, pos + n, pos + (got > 0 ? (uint64_t)got : 0));
	return got;
}

static ssize_t engine_iov_len(const struct iovec *iov, int n)
{
	size_t total = 0;

	if (n < 0 || n > 1024)
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (iov[i].iov_len > (size_t)SSIZE_MAX - total)
			return -EINVAL;
		total += iov[i].iov_len;
	}
	return (ssize_t)dz_min_u64(total, 0x7ffff000u);
}

static ssize_t engine_read_iov(struct dz_engine *e, struct dz_ofile *f, const struct iovec *iov,
			       int n, size_t len, uint64_t off)
{
	size_t done = 0;

	for (int i = 0; i < n && done < len; i++) {
		size_t want = (size_t)dz_min_u64(iov[i].iov_len, len - done);
		ssize_t got = dz_read_at(e, f, iov[i].iov_base, want, off + done);

		if (got < 0)
			return done ? (ssize_t)done : got;
		done += (size_t)got;
		if ((size_t)got < want)
			break;
	}
	return (ssize_t)done;
}

ssize_t dz_engine_preadv(struct dz_engine *e, dz_fh fh, const struct iovec *iov, int n,
			 uint64_t off)
{
	struct dz_ofile *f;
	ssize_t len = engine_iov_len(iov, n);
	int ret = engine_readable(e, fh, &f);

	if (ret < 0 || len < 0)
		return ret < 0 ? ret : len;
	return engine_still(e, fh, engine_read_iov(e, f, iov, n, (size_t)len, off));
}

ssize_t dz_engine_readv(struct dz_engine *e, dz_fh fh, const struct iovec *iov, int n)
{
	struct dz_ofile *f;
	ssize_t got, len = engine_iov_len(iov, n);
	uint64_t pos;
	size_t take;
	int ret = engine_readable(e, fh, &f);

	if (ret < 0 || len < 0)
		return ret < 0 ? ret : len;
	pos = engine_take_range(f, (size_t)len, &take);
	got = engine_still(e, fh, engine_read_iov(e, f, iov, n, take, pos));
	if (got != -EBADF)
		engine_give_back(f, pos + take, pos + (got > 0 ? (uint64_t)got : 0));
	return got;
}

int dz_engine_is_cached(struct dz_engine *e, dz_fh fh, uint64_t off, uint64_t len)
{
	struct dz_ofile *f;
	int ret = engine_readable(e, fh, &f);

	if (ret < 0)
		return ret;
	len = off < f->size ? dz_min_u64(len, f->size - off) : 0;
	while (len) {
		uint32_t in = (uint32_t)(off % DZ_BLOCK_BYTES);
		uint64_t n = dz_min_u64(len, DZ_BLOCK_BYTES - in);
		struct dz_key key =
			dz_block_key((struct dz_key){ f->key_lo, f->key_hi }, off / DZ_BLOCK_BYTES);

		if (!dz_dram_has(&e->seg, key, dz_pieces(in, n)))
			return -EAGAIN;
		off += n;
		len -= n;
	}
	return 0;
}

static int64_t engine_seek_base(const struct dz_ofile *f, int64_t off, int whence)
{
	int64_t size = (int64_t)f->size;

	switch (whence) {
	case SEEK_SET:
		return 0;
	case SEEK_CUR:
		return (int64_t)atomic_load_explicit(&f->pos, memory_order_relaxed);
	case SEEK_END:
		return size;
	case SEEK_DATA:
		return off < 0 || off >= size ? -ENXIO : 0;
	case SEEK_HOLE:
		return off < 0 || off >= size ? -ENXIO : size - off;
	default:
		return -EINVAL;
	}
}

int64_t dz_engine_seek(struct dz_engine *e, dz_fh fh, int64_t off, int whence)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	int64_t base, to;
	uint64_t was;

	if (!f)
		return -EBADF;
	if ((f->mode & S_IFMT) == S_IFDIR && whence > SEEK_CUR)
		return -EINVAL;
	do {
		base = engine_seek_base(f, off, whence);
		if (base < 0)
			return base;
		if (__builtin_add_overflow(base, off, &to))
			return -EOVERFLOW;
		if (to < 0)
			return -EINVAL;
		was = whence == SEEK_CUR ? (uint64_t)base : atomic_load(&f->pos);
		/* Who asks where it is, or moves on from there, must not undo another's read. */
	} while (to != (int64_t)was && !atomic_compare_exchange_weak(&f->pos, &was, (uint64_t)to));
	return to;
}

int dz_engine_advise(struct dz_engine *e, dz_fh fh, uint64_t off, uint64_t len, int advice)
{
	struct dz_ofile *f = dz_file_get(&e->seg, fh);
	uint64_t end, limit = dz_max_u64(1, e->seg.n_dram_slabs / 2);

	if (!f)
		return -EBADF;
	if (advice == POSIX_FADV_NORMAL || advice == POSIX_FADV_RANDOM ||
	    advice == POSIX_FADV_SEQUENTIAL) {
		atomic_store_explicit(&f->advice, (uint32_t)advice, memory_order_relaxed);
		return 0;
	}
	if (advice != POSIX_FADV_WILLNEED || off >= f->size)
		return 0;
	end = len ? dz_min_u64(off + len, f->size) : f->size;
	dz_read_prefetch(e, f, off / DZ_BLOCK_BYTES,
			 dz_min_u64((end - 1) / DZ_BLOCK_BYTES, off / DZ_BLOCK_BYTES + limit));
	return 0;
}

/* ---- counters ---- */

static void engine_count_u32(struct dz_counter c, _Atomic uint32_t *counter)
{
	if (c.is_own)
		atomic_store_explicit(counter,
				      atomic_load_explicit(counter, memory_order_relaxed) + 1,
				      memory_order_relaxed);
	else
		atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void dz_engine_count(struct dz_engine *e, uint32_t call, int64_t result)
{
	struct dz_counter c = dz_engine_counter(e);

	DZ_PROBE2(call, call, result);
	if (call >= DZ_STAT_CALLS)
		return;
	dz_count(c, &c.stats->calls, 1);
	engine_count_u32(c, &c.stats->by_call[call]);
	if (result < 0)
		dz_count(c, &c.stats->errors, 1);
}

void dz_engine_count_bypass(struct dz_engine *e, uint32_t call)
{
	struct dz_counter c = dz_engine_counter(e);

	if (call >= DZ_STAT_CALLS)
		return;
	dz_count(c, &c.stats->bypass, 1);
	engine_count_u32(c, &c.stats->bypass_by_call[call]);
}

void dz_engine_space(struct dz_engine *e, uint64_t *bytes, uint64_t *used)
{
	*bytes = e->seg.dram_bytes + e->seg.disk_bytes;
	*used = atomic_load_explicit(&e->seg.hdr->dram_used, memory_order_relaxed) +
		atomic_load_explicit(&e->seg.hdr->disk_used, memory_order_relaxed);
}
