/* SPDX-License-Identifier: MIT */
/*
 * Replay: read all journals into memory; sort by seq, newest first; hand each
 * record to the caller, who keeps those whose place nobody newer has taken;
 * write the kept ones to `journal.base` (new file, rename) and remove the rest.
 * Killed at any step, the next replay sees records twice, and keeps the same.
 */
#include "cache/journal.h"

#include "cache/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define JOURNAL_PREFIX "journal."
#define JOURNAL_BASE   "journal.base"
#define JOURNAL_NEW    "new.journal" /* not replayed */
/* A sequence number that no real journal reaches: such a record is damage. */
#define SEQ_MAX	     ((uint64_t)1 << 56)
#define NAME_BYTES   64
#define LOAD_BYTES   DZ_MIB
#define OUT_RECORDS  256u /* 16 KiB on the stack of whoever comes first */
#define SOON	     24	  /* records ahead of the one in hand: the memory of that many on its way */
#define DIRENT_BYTES 4096
/* Beyond this (64 million blocks) the journals are damaged or not ours. */
#define JOURNAL_MAX_BYTES (4 * DZ_GIB)

/* As getdents64(2) gives it. */
struct journal_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t rec_len;
	uint8_t type;
	char name[];
};

void dz_jrec_seal(struct dz_jrec *rec)
{
	rec->magic = DZ_JREC_MAGIC;
	memset(rec->pad, 0, sizeof(rec->pad));
	rec->sum = dz_crc32c(0, rec, offsetof(struct dz_jrec, sum));
}

bool dz_jrec_is_valid(const struct dz_jrec *rec)
{
	return rec->magic == DZ_JREC_MAGIC && rec->seq > 0 && rec->seq < SEQ_MAX &&
	       rec->sum == dz_crc32c(0, rec, offsetof(struct dz_jrec, sum));
}

static int journal_open_dir(const char *dir)
{
	return dz_sys_open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

/*
 * Opens for appending, at a whole record: what a full disk or a crash left of
 * one is cut off.  A writer that passed between the two loses a record: a miss.
 */
static int journal_open_end(int dir_fd, const char *name, uint64_t *size)
{
	struct stat st;
	int ret, fd;

	fd = dz_sys_openat(dir_fd, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			   0600);
	if (fd < 0)
		return fd;
	ret = dz_sys_fstat(fd, &st);
	*size = ret < 0 ? 0 : (uint64_t)st.st_size;
	if (ret == 0 && *size % sizeof(struct dz_jrec) != 0) {
		*size -= *size % sizeof(struct dz_jrec);
		ret = dz_sys_ftruncate(fd, *size);
	}
	if (ret < 0) {
		dz_sys_close(fd);
		return ret;
	}
	return fd;
}

static int journal_write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = dz_sys_write(fd, p, len);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -ENOSPC : (int)n;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* One write, so that records of several writers never mix. */
int64_t dz_journal_append(const char *dir, uint32_t member, const struct dz_jrec *recs, uint32_t n)
{
	char path[4096];
	uint64_t size;
	int ret, fd, len;

	len = snprintf(path, sizeof(path), "%s/" JOURNAL_PREFIX "%u", dir, member);
	if (len < 0 || (size_t)len >= sizeof(path))
		return -ENAMETOOLONG;
	fd = journal_open_end(AT_FDCWD, path, &size);
	if (fd < 0)
		return fd;
	ret = journal_write_all(fd, recs, n * sizeof(*recs));
	dz_sys_close(fd);
	return ret < 0 ? ret : (int64_t)size;
}

/* Calls fn with the name of each journal, until it fails. */
static int journal_for_each(int dir_fd, int (*fn)(void *ctx, int dir_fd, const char *name),
			    void *ctx)
{
	_Alignas(8) uint8_t buf[DIRENT_BYTES];
	long n;

	dz_sys_3(SYS_lseek, dir_fd, 0, SEEK_SET);
	while ((n = dz_sys_3(SYS_getdents64, dir_fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			struct journal_dirent *e = (void *)(buf + at);
			int ret = 0;

			at += e->rec_len;
			if (strncmp(e->name, JOURNAL_PREFIX, strlen(JOURNAL_PREFIX)) == 0)
				ret = fn(ctx, dir_fd, e->name);
			if (ret < 0)
				return ret;
		}
	}
	return (int)n;
}

/* All records, in one anonymous mapping; n counts those that are valid. */
struct journal_load {
	struct dz_jrec *recs;
	uint64_t n, room;
	uint64_t bytes; /* of the files, found first */
	bool is_unsorted;
};

static int load_count(void *ctx, int dir_fd, const char *name)
{
	struct journal_load *l = ctx;
	struct stat st;

	int fd;

	if (dz_sys_4(SYS_newfstatat, dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode))
		return 0;
	l->bytes += (uint64_t)st.st_size;
	/* The device begins while memory is made ready, and reads more at once than we ask for. */
	fd = dz_sys_openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd >= 0) {
		dz_sys_4(SYS_fadvise64, fd, 0, 0, POSIX_FADV_WILLNEED);
		dz_sys_close(fd);
	}
	return 0;
}

/* Straight to where they stay; what is not valid is written over by the next. */
static int load_file(void *ctx, int dir_fd, const char *name)
{
	struct journal_load *l = ctx;
	int fd = dz_sys_openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
	uint64_t off = 0;

	if (fd < 0)
		return 0;
	while (l->n < l->room) {
		struct dz_jrec *to = l->recs + l->n;
		uint64_t bytes = dz_min_u64((l->room - l->n) * sizeof(*to), LOAD_BYTES);
		ssize_t n = dz_sys_pread(fd, to, bytes, off);

		if (n < (ssize_t)sizeof(*to))
			break;
		n /= (ssize_t)sizeof(*to);
		off += (uint64_t)n * sizeof(*to);
		for (ssize_t i = 0; i < n; i++) {
			if (!dz_jrec_is_valid(&to[i]))
				continue;
			if (&to[i] != &l->recs[l->n])
				l->recs[l->n] = to[i];
			l->is_unsorted |= l->n > 0 && to[i].seq < l->recs[l->n - 1].seq;
			l->n++;
		}
	}
	dz_sys_close(fd);
	return 0;
}

/* NULL when there is no memory. */
static void *journal_map(uint64_t bytes)
{
	void *mem;

	if (dz_sys_mmap(&mem, NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) < 0)
		return NULL;
	dz_sys_3(SYS_madvise, mem, bytes, MADV_HUGEPAGE);
	return mem;
}

static int journal_load(struct journal_load *l, int dir_fd)
{
	int ret = journal_for_each(dir_fd, load_count, l);

	if (ret < 0)
		return ret;
	if (l->bytes > JOURNAL_MAX_BYTES)
		return -EFBIG;
	l->room = l->bytes / sizeof(struct dz_jrec);
	if (l->room == 0)
		return 0;
	l->recs = journal_map(l->room * sizeof(struct dz_jrec));
	return l->recs ? journal_for_each(dir_fd, load_file, l) : -ENOMEM;
}

struct journal_order {
	uint64_t seq;
	uint64_t i; /* | ORDER_KEPT: the caller wants it */
};
#define ORDER_KEPT ((uint64_t)1 << 63)

/* One pass of a radix sort by the byte at `shift`, highest first. */
static bool order_pass(const struct journal_order *from, struct journal_order *to, uint64_t n,
		       unsigned int shift)
{
	uint64_t at[256] = { 0 }, sum = 0;

	for (uint64_t i = 0; i < n; i++)
		at[from[i].seq >> shift & 0xff]++;
	if (at[from[0].seq >> shift & 0xff] == n)
		return false;
	for (int b = 255; b >= 0; b--) {
		uint64_t count = at[b];

		at[b] = sum;
		sum += count;
	}
	for (uint64_t i = 0; i < n; i++)
		to[at[from[i].seq >> shift & 0xff]++] = from[i];
	return true;
}

/* Order of the records, newest first; the mapping holds two arrays of n. */
static struct journal_order *journal_sort(const struct journal_load *l, struct journal_order *mem)
{
	struct journal_order *from = mem, *to = mem + l->n;

	for (uint64_t i = 0; i < l->n; i++)
		from[l->n - 1 - i] = (struct journal_order){ l->recs[i].seq, i };
	/* newest first already, as a journal that one writer appended to */
	for (unsigned int shift = 0; l->is_unsorted && shift < 56; shift += 8) {
		if (order_pass(from, to, l->n, shift)) {
			struct journal_order *t = from;

			from = to;
			to = t;
		}
	}
	return from;
}

/* The wanted records on their way to a file; an error ends the writing, not the replay. */
struct journal_out {
	struct dz_jrec batch[OUT_RECORDS];
	size_t n;
	int fd, err;
};

static void out_flush(struct journal_out *o)
{
	if (o->err == 0)
		o->err = journal_write_all(o->fd, o->batch, o->n * sizeof(o->batch[0]));
	o->n = 0;
}

static void out_put(struct journal_out *o, const struct dz_jrec *rec)
{
	o->batch[o->n++] = *rec;
	if (o->n == DZ_ARRAY_LEN(o->batch))
		out_flush(o);
}

static int remove_file(void *ctx, int dir_fd, const char *name)
{
	const char *except = ctx;

	if (!except || strcmp(name, except) != 0)
		dz_sys_unlinkat(dir_fd, name, 0);
	return 0;
}

/* Makes JOURNAL_NEW the only journal.  On error the old ones stay, and are as good. */
static void journal_replace(int dir_fd, int err)
{
	char base[] = JOURNAL_BASE;

	if (err == 0)
		err = (int)dz_sys_5(SYS_renameat2, dir_fd, JOURNAL_NEW, dir_fd, base, 0);
	if (err < 0)
		dz_sys_unlinkat(dir_fd, JOURNAL_NEW, 0);
	else
		journal_for_each(dir_fd, remove_file, base);
}

/* What was kept, oldest first, so that the next load finds it sorted. */
static int journal_rewrite(int dir_fd, const struct journal_load *l,
			   const struct journal_order *order)
{
	struct journal_out out = { 0 };

	out.fd = dz_sys_openat(dir_fd, JOURNAL_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (out.fd < 0)
		return out.fd;
	for (uint64_t i = l->n; i-- > 0;) {
		if (order[i].i & ORDER_KEPT)
			out_put(&out, &l->recs[order[i].i & ~ORDER_KEPT]);
	}
	out_flush(&out);
	dz_sys_close(out.fd);
	return out.err;
}

/* Sorts, hands over newest first, rewrites.  The load is not empty. */
static int journal_digest(int dir_fd, const struct journal_load *l, dz_journal_fn *fn,
			  dz_journal_soon_fn *soon, void *ctx, uint64_t *last)
{
	uint64_t order_bytes = 2 * l->n * sizeof(struct journal_order);
	struct journal_order *mem = journal_map(order_bytes), *order;

	if (!mem)
		return -ENOMEM;
	order = journal_sort(l, mem);
	*last = order[0].seq;
	for (uint64_t i = 0; i < l->n; i++) {
		if (soon && i + SOON < l->n)
			soon(ctx, &l->recs[order[i + SOON].i]);
		if (fn(ctx, &l->recs[order[i].i]))
			order[i].i |= ORDER_KEPT;
	}
	journal_replace(dir_fd, journal_rewrite(dir_fd, l, order));
	dz_sys_munmap(mem, order_bytes);
	return 0;
}

int dz_journal_replay(const char *dir, dz_journal_fn *fn, dz_journal_soon_fn *soon, void *ctx,
		      uint64_t *last)
{
	struct journal_load l = { 0 };
	int ret, dir_fd = journal_open_dir(dir);

	*last = 0;
	if (dir_fd < 0)
		return dir_fd;
	ret = journal_load(&l, dir_fd);
	if (ret == 0 && l.n > 0)
		ret = journal_digest(dir_fd, &l, fn, soon, ctx, last);
	if (l.recs)
		dz_sys_munmap(l.recs, l.room * sizeof(struct dz_jrec));
	dz_sys_close(dir_fd);
	return ret;
}

/* Copies what fn wants from one open file to the end of another. */
static int journal_copy(int from, int to, dz_journal_fn *fn, void *ctx)
{
	struct journal_out out = { .fd = to };
	struct dz_jrec in[OUT_RECORDS];
	uint64_t off = 0;
	ssize_t n;

	while ((n = dz_sys_pread(from, in, sizeof(in), off)) >= (ssize_t)sizeof(in[0])) {
		n /= (ssize_t)sizeof(in[0]);
		off += (uint64_t)n * sizeof(in[0]);
		for (ssize_t i = 0; i < n; i++) {
			if (dz_jrec_is_valid(&in[i]) && fn(ctx, &in[i]))
				out_put(&out, &in[i]);
		}
	}
	out_flush(&out);
	return n < 0 ? (int)n : out.err;
}

/*
 * Moves the file aside; whoever appends from now on begins a new one, to which
 * the wanted records follow.  An append that had the old one open already may
 * be lost.
 */
int dz_journal_compact(const char *dir, uint32_t member, uint64_t unique, dz_journal_fn *fn,
		       void *ctx)
{
	char name[NAME_BYTES], old[NAME_BYTES];
	uint64_t size;
	int ret, from, to, dir_fd = journal_open_dir(dir);

	if (dir_fd < 0)
		return dir_fd;
	snprintf(name, sizeof(name), JOURNAL_PREFIX "%u", member);
	snprintf(old, sizeof(old), JOURNAL_PREFIX "%u.%llx", member, (unsigned long long)unique);
	ret = (int)dz_sys_5(SYS_renameat2, dir_fd, name, dir_fd, old, 0);
	if (ret < 0)
		goto out_dir;
	from = dz_sys_openat(dir_fd, old, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
	ret = from;
	if (from < 0)
		goto out_dir;
	to = journal_open_end(dir_fd, name, &size);
	ret = to;
	if (to < 0)
		goto out_from;
	ret = journal_copy(from, to, fn, ctx);
	if (ret == 0)
		dz_sys_unlinkat(dir_fd, old, 0);
	dz_sys_close(to);
out_from:
	dz_sys_close(from);
out_dir:
	dz_sys_close(dir_fd);
	return ret < 0 ? ret : 0;
}

void dz_journal_remove(const char *dir)
{
	int dir_fd = journal_open_dir(dir);

	if (dir_fd < 0)
		return;
	journal_for_each(dir_fd, remove_file, NULL);
	dz_sys_close(dir_fd);
}
