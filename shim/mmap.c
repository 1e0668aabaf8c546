/* SPDX-License-Identifier: MIT */
/*
 * Mappings of managed files are the kernel's, so reading, mincore, mlock and the
 * protection of private ones are too.  What the kernel would get wrong is what the
 * pieces below them are: not one file, not the program's to write, or memory of its
 * own that is filled when it is touched.  So the engine keeps a list of what is
 * ours, and is asked before munmap, mremap, mprotect, msync and madvise.
 */
#define DZ_IN_mmap 1
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/hooks.h"
#include "shim/opath.h"
#include "shim/real.h"

/* The page behind the range. */
static uintptr_t range_end(const void *addr, size_t len)
{
	return (uintptr_t)addr + dz_round_up(len, (uintptr_t)getpagesize());
}

/* Would the kernel refuse? */
static bool is_range(const void *addr, size_t len)
{
	return len > 0 && ((uintptr_t)addr & ((uintptr_t)getpagesize() - 1)) == 0 &&
	       range_end(addr, len) > (uintptr_t)addr;
}

static bool may_be_ours(const void *addr, size_t len)
{
	return dz_engine && is_range(addr, len) &&
	       dz_engine_may_map(dz_engine, (uintptr_t)addr, range_end(addr, len));
}

/* Bits DZ_MAP_IS_; 0: nothing of ours in the range. */
static int map_is(const void *addr, size_t len)
{
	if (!may_be_ours(addr, len))
		return 0;
	return dz_engine_map_is(dz_engine, (uintptr_t)addr, range_end(addr, len));
}

/* A range that a call of the kernel unmaps or replaces. */
struct going {
	uintptr_t at, end;
	uint32_t taken;
};

static struct going going_begin(const void *addr, size_t len)
{
	struct going g = { .at = (uintptr_t)addr };

	if (!may_be_ours(addr, len))
		return g;
	g.end = range_end(addr, len);
	g.taken = dz_engine_unmap_begin(dz_engine, g.at, g.end);
	return g;
}

static void going_end(const struct going *g, bool is_gone)
{
	if (g->taken)
		dz_engine_unmap_end(dz_engine, g->taken, g->at, g->end, is_gone);
}

static bool is_error(long r)
{
	return r < 0 && r > -4096;
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
	ret = dz_engine_map(dz_engine, fh, where->iov_base, where->iov_len, prot, flags,
			    (uint64_t)off, &out);
	return ret < 0 ? ret : (long)out;
}

/* Of what is not ours, perhaps over what is. */
static long map_other(const struct iovec *where, int prot, int flags, int fd, off_t off)
{
	struct going g = { .taken = 0 };
	long r;

	if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) == MAP_FIXED)
		g = going_begin(where->iov_base, where->iov_len);
	r = dz_sys_6(SYS_mmap, where->iov_base, where->iov_len, prot, flags, fd, off);
	going_end(&g, !is_error(r));
	return r;
}

DZ_DOOR(void *, mmap, void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	dz_fh fh = flags & MAP_ANONYMOUS ? 0 : dz_fd_get(fd);
	const struct iovec where = { addr, len };

	if (!fh)
		return (void *)dz_ret(map_other(&where, prot, flags, fd, off));
	return (void *)dz_done(DZ_CALL_mmap,
			       dz_is_opath(fh) ? -EBADF : map_file(fh, &where, prot, flags, off),
			       addr, len, prot, flags, fd, off);
}

DZ_DOOR(int, munmap, void *addr, size_t len)
{
	struct going g = going_begin(addr, len);
	long r = dz_sys_2(SYS_munmap, addr, len);

	going_end(&g, r == 0);
	return (int)dz_ret(r);
}

static long remap_ours(void *addr, size_t len, size_t new_len, int flags, void *new_addr)
{
	void *out;
	int r = dz_engine_remap(dz_engine, addr, len, new_len, flags, new_addr, &out);

	return r < 0 ? r : (long)out;
}

DZ_DOOR(void *, mremap, void *addr, size_t len, size_t new_len, int flags, void *new_addr)
{
	struct going g = { .taken = 0 };
	bool is_ours = map_is(addr, len ? len : 1) != 0;
	long r;

	if ((flags & MREMAP_FIXED) && (flags & MREMAP_MAYMOVE))
		g = going_begin(new_addr, new_len);
	r = is_ours ? remap_ours(addr, len, new_len, flags, new_addr)
		    : dz_sys_5(SYS_mremap, addr, len, new_len, flags, new_addr);
	going_end(&g, !is_error(r));
	return (void *)(is_ours ? dz_done(DZ_CALL_mremap, r, addr, len, new_len, flags, new_addr)
				: dz_ret(r));
}

DZ_DOOR(int, mprotect, void *addr, size_t len, int prot)
{
	int is = map_is(addr, len);
	long r;

	if ((prot & PROT_WRITE) && (is & DZ_MAP_IS_SHARED))
		return (int)dz_done(DZ_CALL_mprotect, -EACCES, addr, len, prot);
	r = dz_sys_3(SYS_mprotect, addr, len, prot);
	if (r == 0 && is)
		dz_engine_map_protected(dz_engine, (uintptr_t)addr, range_end(addr, len), prot);
	return (int)dz_ret(r);
}

/* Nothing of ours is dirty, and what lies below is not the program's to write out. */
DZ_DOOR(int, msync, void *addr, size_t len, int flags)
{
	int both = MS_ASYNC | MS_SYNC;

	if (!len || map_is(addr, len) == 0)
		return (int)dz_ret(dz_block_3(SYS_msync, addr, len, flags));
	if ((flags & ~(both | MS_INVALIDATE)) || (flags & both) == both || !is_range(addr, len))
		return (int)dz_done(DZ_CALL_msync, -EINVAL, addr, len, flags);
	return (int)dz_done(DZ_CALL_msync, 0, addr, len, flags);
}

/* Memory of the program's own takes advice that a file's pages do not; 1: the kernel's. */
static long advise_lazy(void *addr, size_t len, int advice)
{
	switch (advice) {
	case MADV_WILLNEED:
		dz_engine_map_willneed(dz_engine, (uintptr_t)addr, range_end(addr, len));
		return 0;
	case MADV_FREE:
	case MADV_WIPEONFORK:
		return -EINVAL;
	default:
		return 1;
	}
}

DZ_DOOR(int, madvise, void *addr, size_t len, int advice)
{
	int is = map_is(addr, len);
	long r = 1;

	if (is && advice == MADV_REMOVE)
		r = -EACCES;
	else if (is & DZ_MAP_IS_LAZY)
		r = advise_lazy(addr, len, advice);
	if (r <= 0)
		return (int)dz_done(DZ_CALL_madvise, r, addr, len, advice);
	return (int)dz_ret(dz_sys_3(SYS_madvise, addr, len, advice));
}

DZ_DOOR(int, remap_file_pages, void *addr, size_t len, int prot, size_t page, int flags)
{
	if (map_is(addr, len) != 0)
		return (int)dz_done(DZ_CALL_remap_file_pages, -EINVAL, addr, len, prot, page,
				    flags);
	return (int)dz_ret(dz_sys_5(SYS_remap_file_pages, addr, len, prot, page, flags));
}

#include "shim/aliases.h"
