/* SPDX-License-Identifier: MIT */
/*
 * Mappings of managed files are ordinary kernel mappings, so reading, mincore,
 * mlock and the protection of private ones are the kernel's.  What the kernel
 * would get wrong is what the pieces below them are: not one file, and not the
 * program's to write.  So this process keeps a list of the ranges that are ours,
 * and asks it before munmap, mremap, mprotect, msync and madvise(REMOVE).
 *
 * The engine is told before the kernel unmaps: a range that another thread maps
 * anew in between would otherwise lose its pins.
 */
#define DZ_IN_mmap 1
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

#define MAPS	 4096
#define MAP_BUSY 1 /* not a page address: a slot that is being written */

/*
 * Slots are taken by one exchange of `at`, no lock.  When all are taken, a mapping
 * is served but not listed: `unlisted` then sends every munmap to the engine.
 */
static struct map_slot {
	_Atomic uintptr_t at; /* 0 free */
	uintptr_t end;
	bool is_shared;
} maps[MAPS];
static _Atomic uint32_t maps_used; /* slots from here on were never taken */
static _Atomic bool unlisted;
/* What all of them lie in: an address outside costs two loads. */
static _Atomic uintptr_t maps_low = UINTPTR_MAX, maps_high;

static void bounds_grow(uintptr_t at, uintptr_t end)
{
	uintptr_t low = maps_low, high = maps_high;

	while (at < low && !atomic_compare_exchange_weak(&maps_low, &low, at))
		;
	while (end > high && !atomic_compare_exchange_weak(&maps_high, &high, end))
		;
}

static void map_add(uintptr_t at, uintptr_t end, bool is_shared)
{
	for (uint32_t i = 0; i < MAPS; i++) {
		uintptr_t free_at = 0;
		uint32_t used = maps_used;

		if (!atomic_compare_exchange_strong(&maps[i].at, &free_at, MAP_BUSY))
			continue;
		maps[i].end = end;
		maps[i].is_shared = is_shared;
		while (used <= i && !atomic_compare_exchange_weak(&maps_used, &used, i + 1))
			;
		bounds_grow(at, end);
		/* Release: pairs with the load in map_next(). */
		atomic_store_explicit(&maps[i].at, at, memory_order_release);
		return;
	}
	bounds_grow(at, end);
	unlisted = true;
}

static bool may_be_ours(uintptr_t at, uintptr_t end)
{
	return at < atomic_load_explicit(&maps_high, memory_order_relaxed) &&
	       end > atomic_load_explicit(&maps_low, memory_order_relaxed);
}

/* The next slot, from *i on, that overlaps [at, end), or NULL. */
static struct map_slot *map_next(uintptr_t at, uintptr_t end, uint32_t *i)
{
	while (*i < maps_used) {
		struct map_slot *m = &maps[(*i)++];
		uintptr_t start = atomic_load_explicit(&m->at, memory_order_acquire);

		if (start > MAP_BUSY && start < end && m->end > at)
			return m;
	}
	return NULL;
}

/* 0: nothing of ours in the range; 1: ours; 2: ours and shared. */
static int map_kind(const void *addr, size_t len)
{
	uintptr_t at = (uintptr_t)addr, end = at + len;
	struct map_slot *m;
	uint32_t i = 0;
	int kind = 0;

	if (!may_be_ours(at, end))
		return 0;
	while ((m = map_next(at, end, &i)))
		kind |= m->is_shared ? 3 : 1;
	return kind == 3 ? 2 : kind;
}

/* The range will be unmapped or replaced: the list and the engine forget it. */
static void map_forget(void *addr, size_t len)
{
	uintptr_t at = (uintptr_t)addr, end = at + dz_round_up(len, (uintptr_t)getpagesize());
	bool is_ours = unlisted;
	struct map_slot *m;
	uint32_t i = 0;

	if (!may_be_ours(at, end))
		return;
	while ((m = map_next(at, end, &i))) {
		uintptr_t was_at = atomic_exchange(&m->at, MAP_BUSY), was_end = m->end;
		bool is_shared = m->is_shared;

		atomic_store(&m->at, 0);
		if (was_at <= MAP_BUSY)
			continue;
		is_ours = true;
		if (was_at < at)
			map_add(was_at, at, is_shared);
		if (was_end > end)
			map_add(end, was_end, is_shared);
	}
	if (is_ours)
		dz_engine_unmapped(dz_engine, addr, end - at);
}

/* Would the kernel refuse?  Then nothing may be forgotten. */
static bool is_range(const void *addr, size_t len)
{
	return len > 0 && ((uintptr_t)addr & ((uintptr_t)getpagesize() - 1)) == 0 &&
	       (uintptr_t)addr + len > (uintptr_t)addr;
}

/* The address, or -errno. */
static long map_file(dz_fh fh, const struct iovec *where, int prot, int flags, off_t off)
{
	struct dz_attr attr;
	int type = flags & MAP_TYPE;
	uint64_t page = (uint64_t)getpagesize();
	void *out;
	int ret;

	if (where->iov_len == 0 || off < 0 || ((uint64_t)off & (page - 1)))
		return -EINVAL;
	if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	ret = dz_engine_fstat(dz_engine, fh, &attr);
	if (ret < 0)
		return ret;
	if ((attr.mode & S_IFMT) == S_IFDIR)
		return -ENODEV;
	if (type != MAP_PRIVATE && (prot & PROT_WRITE))
		return -EACCES;
	if (type == MAP_SHARED_VALIDATE && (flags & MAP_SYNC))
		return -EOPNOTSUPP;
	if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == MAP_FIXED)
		map_forget(where->iov_base, where->iov_len);
	ret = dz_engine_map(dz_engine, fh, where->iov_base, where->iov_len, prot, flags,
			    (uint64_t)off, &out);
	if (ret < 0)
		return ret;
	map_add((uintptr_t)out, (uintptr_t)out + dz_round_up(where->iov_len, page),
		type != MAP_PRIVATE);
	return (long)out;
}

DZ_DOOR(void *, mmap, void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	dz_fh fh = flags & MAP_ANONYMOUS ? 0 : dz_fd_get(fd);
	const struct iovec where = { addr, len };

	if (!fh) {
		if ((flags & MAP_FIXED) && is_range(addr, len))
			map_forget(addr, len);
		return (void *)dz_ret(dz_sys_6(SYS_mmap, addr, len, prot, flags, fd, off));
	}
	return (void *)dz_done(DZ_CALL_mmap,
			       dz_is_opath(fh) ? -EBADF : map_file(fh, &where, prot, flags, off),
			       addr, len, prot, flags, fd, off);
}

DZ_DOOR(int, munmap, void *addr, size_t len)
{
	if (is_range(addr, len))
		map_forget(addr, len);
	return (int)dz_ret(dz_sys_2(SYS_munmap, addr, len));
}

/*
 * A mapping of ours may shrink.  Growing or moving it would need the file, which
 * may be closed, and the kernel does not move several pieces at once: -ENOMEM,
 * which says that there is no room there.
 */
DZ_DOOR(void *, mremap, void *addr, size_t len, size_t new_len, int flags, void *new_addr)
{
	if ((flags & MREMAP_FIXED) && is_range(new_addr, new_len))
		map_forget(new_addr, new_len);
	if (map_kind(addr, len ? len : 1) == 0)
		return (void *)dz_ret(dz_sys_5(SYS_mremap, addr, len, new_len, flags, new_addr));
	if (new_len > len || (flags & ~MREMAP_MAYMOVE) || !is_range(addr, new_len))
		return (void *)dz_done(DZ_CALL_mremap, new_len ? -ENOMEM : -EINVAL, addr, len,
				       new_len, flags, new_addr);
	if (len > new_len)
		door_munmap((char *)addr + new_len, len - new_len);
	return (void *)dz_done(DZ_CALL_mremap, (long)addr, addr, len, new_len, flags, new_addr);
}

DZ_DOOR(int, mprotect, void *addr, size_t len, int prot)
{
	if ((prot & PROT_WRITE) && map_kind(addr, len) == 2)
		return (int)dz_done(DZ_CALL_mprotect, -EACCES, addr, len, prot);
	return (int)dz_ret(dz_sys_3(SYS_mprotect, addr, len, prot));
}

/* Nothing of ours is dirty, and what lies below is not the program's to write out. */
DZ_DOOR(int, msync, void *addr, size_t len, int flags)
{
	int both = MS_ASYNC | MS_SYNC;

	if (map_kind(addr, len) == 0)
		return (int)dz_ret(dz_block_3(SYS_msync, addr, len, flags));
	if ((flags & ~(both | MS_INVALIDATE)) || (flags & both) == both || !is_range(addr, len))
		return (int)dz_done(DZ_CALL_msync, -EINVAL, addr, len, flags);
	return (int)dz_done(DZ_CALL_msync, 0, addr, len, flags);
}

DZ_DOOR(int, madvise, void *addr, size_t len, int advice)
{
	if (advice == MADV_REMOVE && map_kind(addr, len) != 0)
		return (int)dz_done(DZ_CALL_madvise, -EACCES, addr, len, advice);
	return (int)dz_ret(dz_sys_3(SYS_madvise, addr, len, advice));
}

DZ_DOOR(int, remap_file_pages, void *addr, size_t len, int prot, size_t page, int flags)
{
	if (map_kind(addr, len) != 0)
		return (int)dz_done(DZ_CALL_remap_file_pages, -EINVAL, addr, len, prot, page,
				    flags);
	return (int)dz_ret(dz_sys_5(SYS_remap_file_pages, addr, len, prot, page, flags));
}

#include "shim/aliases.h"
