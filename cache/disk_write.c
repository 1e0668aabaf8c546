/* SPDX-License-Identifier: MIT */
/*
 * Blocks onto the disk, one or many at once.
 *
 *   1. is each there already, and does the policy want it?  Take its slot (evicting);
 *   2. copy them into one buffer in the order of their places: neighbours become one
 *      write, and up to DEPTH writes are under way while the next is copied;
 *   3. when all have landed, one append to the journal with a record for each;
 *   4. publish each, and make it findable.
 *
 * Killed before 3: the space is free again once recovery knows that the device has
 * stopped writing (dz_disk_recover).  Killed after it: the blocks are found by the next
 * replay.  Of a run of neighbours one may be of no use (evicted from DRAM while it was
 * copied): its place is written all the same, and given back.
 */
#include "cache/disk.h"

#include "cache/disk_priv.h"
#include "cache/evict.h"
#include "cache/journal.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* A journal is rewritten when it is four times what lives, but not below this. */
#define JOURNAL_MIN_BYTES (4 * DZ_MIB)
/* Writes in flight: of 1 MiB they keep an NVMe device busy. */
#define DEPTH 8u

/* Neighbours, written as one. */
struct write_run {
	struct dz_io io;
	uint32_t first, n; /* of the order */
};

struct dz_disk_writer {
	struct dz_ring *ring; /* NULL: lost, write by write */
	uint8_t *buf;	      /* DZ_DISK_BATCH_BYTES */
	uint32_t n_runs;
	struct dz_disk_put *order[DZ_DISK_BATCH]; /* by place; those with a slot */
	uint32_t n_order;
	struct write_run run[DZ_DISK_BATCH];
	struct dz_jrec rec[DZ_DISK_BATCH];
};

int dz_disk_writer_new(struct dz_disk_writer **out, bool no_uring)
{
	const size_t bytes = dz_round_up(sizeof(struct dz_disk_writer), DZ_PAGE);
	struct dz_disk_writer *w;
	void *mem;
	int ret = dz_sys_mmap(&mem, NULL, bytes + DZ_DISK_BATCH_BYTES, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (ret < 0)
		return ret;
	w = mem;
	w->buf = (uint8_t *)mem + bytes;
	ret = dz_ring_new(&w->ring, DEPTH, no_uring);
	if (ret < 0) {
		dz_sys_munmap(mem, bytes + DZ_DISK_BATCH_BYTES);
		return ret;
	}
	*out = w;
	return 0;
}

void dz_disk_writer_free(struct dz_disk_writer *w)
{
	if (!w)
		return;
	dz_ring_free(w->ring);
	dz_sys_munmap(w, dz_round_up(sizeof(*w), DZ_PAGE) + DZ_DISK_BATCH_BYTES);
}

/* ---- 1: a slot ---- */

/* Takes a slot for it; put->ret says why not. */
static bool put_begin(struct dz_disk *disk, struct dz_disk_put *put)
{
	struct dz_seg *seg = disk->seg;
	uint64_t ctl;

	put->slot = DZ_NONE;
	put->ret = -EINVAL;
	if (put->len == 0 || put->len > DZ_BLOCK_BYTES || seg->member >= seg->n_members)
		return false;
	put->ret = -ENODEV;
	if (!dz_disk_is_on(disk))
		return false;
	put->ret = -EEXIST;
	if (dz_index_find(seg, put->key, DZ_TIER_DISK, &ctl) != DZ_NONE)
		return false;
	put->ret = -EAGAIN;
	if (!dz_evict_admits(seg, DZ_TIER_DISK, put->key, put->group))
		return false;
	put->slot = dz_slot_alloc(seg, DZ_TIER_DISK, put->len, seg->member, &put->ctl);
	if (put->slot == DZ_NONE)
		return false;
	put->page = atomic_load_explicit(&seg->disk_slots[put->slot].page, memory_order_relaxed);
	put->ret = 0;
	return true;
}

/* Not this time: its slot is free again. */
static void put_drop(struct dz_disk *disk, struct dz_disk_put *put, int err)
{
	if (put->ret == 0)
		put->ret = err;
	dz_slot_discard(disk->seg, DZ_TIER_DISK, put->slot, put->ctl);
}

/* ---- 2: the bytes ---- */

/* Descriptor for writing at `page`, or -errno. */
static int write_fd(const struct dz_disk *disk, uint32_t page)
{
	uint32_t file = dz_disk_file_of(page);
	int fd = dz_disk_fd(disk, file);

	/* Never into a file of the program that has got our number. */
	return fd < 0 || dz_disk_fd_is_ours(disk, file, fd) ? fd : -EBADF;
}

/* Here and now; 0 or -errno. */
static int write_bytes(const struct dz_disk *disk, uint32_t page, const void *data, uint32_t len)
{
	uint64_t left = dz_round_up(len, DZ_PAGE), off = dz_disk_off_of(page);
	uint64_t begin_ms = dz_now_ms();
	const uint8_t *p = data;
	int fd = write_fd(disk, page);

	if (fd < 0)
		return fd;
	while (left > 0) {
		ssize_t n = dz_sys_pwrite(fd, p, left, off);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			return n == 0 ? -EIO : (int)n;
		p += n;
		off += (uint64_t)n;
		left -= (uint64_t)n;
	}
	dz_disk_took(disk, len, dz_now_ms() - begin_ms);
	return 0;
}

/* Races with an evictor on purpose: the copy counts if the slot's word is the same after. */
__attribute__((noinline, no_sanitize("thread"))) static void
write_racy_copy(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
	__asm__ volatile("" ::: "memory");
}

/* Its bytes and their sum, zeros up to the end of its chunk; put->ret when they are gone. */
static void put_stage(const struct dz_seg *seg, struct dz_disk_put *put, uint8_t *to)
{
	write_racy_copy(to, put->data, put->len);
	memset(to + put->len, 0, dz_disk_put_bytes(put->len) - put->len);
	/* the copy before the look: pairs with the evictor's fence before it stores new data */
	atomic_thread_fence(memory_order_acquire);
	if (put->dram != DZ_NONE &&
	    dz_ctl_gen(atomic_load_explicit(&dz_dram_slot(seg, put->dram)->ctl,
					    memory_order_relaxed)) != dz_ctl_gen(put->dram_ctl))
		put->ret = -ESTALE;
	else
		put->crc = dz_crc32c(0, to, put->len);
}

static void order_add(struct dz_disk_writer *w, struct dz_disk_put *put)
{
	uint32_t i = w->n_order++;

	for (; i > 0 && w->order[i - 1]->page > put->page; i--)
		w->order[i] = w->order[i - 1];
	w->order[i] = put;
}

/* Does b's place begin where a's ends, in the same slab? */
static bool are_neighbours(const struct dz_disk_put *a, const struct dz_disk_put *b)
{
	return a->page + dz_class_pages(a->len) == b->page && b->page % DZ_SLAB_PAGES != 0;
}

/* Gives the run to the ring, or writes it; *io is done then. */
static void run_start(const struct dz_disk *disk, struct dz_disk_writer *w, struct write_run *run)
{
	struct dz_io *io = &run->io;
	uint32_t page = w->order[run->first]->page;
	int ret = -EBUSY;

	io->fd = write_fd(disk, page);
	io->off = dz_disk_off_of(page);
	io->is_write = true;
	if (io->fd < 0) {
		io->res = io->fd;
		io->is_done = true;
		return;
	}
	while (w->ring && (ret = dz_ring_start(w->ring, io)) == -EBUSY && dz_ring_wait(w->ring) > 0)
		;
	if (w->ring && ret == 0) {
		dz_ring_kick(w->ring);
		return;
	}
	ret = write_bytes(disk, page, io->buf, io->len);
	io->res = ret < 0 ? ret : (int32_t)io->len;
	io->is_done = true;
}

/* Cuts the order into runs, copies each and sends it on its way. */
static void runs_start(const struct dz_disk *disk, struct dz_disk_writer *w)
{
	uint8_t *to = w->buf;

	w->n_runs = 0;
	for (uint32_t i = 0; i < w->n_order;) {
		struct write_run *run = &w->run[w->n_runs++];

		*run = (struct write_run){ .io.buf = to, .first = i };
		do {
			put_stage(disk->seg, w->order[i], to);
			to += dz_disk_put_bytes(w->order[i]->len);
			run->n++;
			i++;
		} while (i < w->n_order && are_neighbours(w->order[i - 1], w->order[i]));
		run->io.len = (uint32_t)(to - (uint8_t *)run->io.buf);
		run_start(disk, w, run);
	}
}

/*
 * The kernel took the ring away: what is in flight may land at any time.  Its slots are
 * freed when a barrier proves that it has; else they stay in quarantine.
 */
static void run_is_lost(struct dz_disk *disk, struct dz_disk_writer *w, struct write_run *run)
{
	int barrier = dz_disk_barrier(disk, w->order[run->first]->slot);

	for (uint32_t i = run->first; i < run->first + run->n; i++) {
		struct dz_disk_put *put = w->order[i];
		uint64_t old = put->ctl;

		put->ret = -EIO;
		put->ctl = dz_ctl(dz_ctl_gen(old), dz_ctl_owner(old), DZ_SLOT_QUARANTINE);
		atomic_compare_exchange_strong(&disk->seg->disk_slots[put->slot].ctl, &old,
					       put->ctl);
		if (barrier == 0)
			dz_slot_discard(disk->seg, DZ_TIER_DISK, put->slot, put->ctl);
		put->slot = DZ_NONE;
	}
}

/* Waits for all; a failed run's blocks are dropped. */
static void runs_end(struct dz_disk *disk, struct dz_disk_writer *w)
{
	bool is_lost = false;

	for (uint32_t i = 0; i < w->n_runs; i++) {
		struct write_run *run = &w->run[i];
		int err;

		while (!run->io.is_done && dz_ring_wait(w->ring) > 0)
			;
		if (!run->io.is_done) {
			run_is_lost(disk, w, run);
			is_lost = true;
			continue;
		}
		dz_disk_took(disk, run->io.len, run->io.took_ms);
		err = run->io.res < 0			    ? run->io.res
		      : (uint32_t)run->io.res < run->io.len ? -EIO
							    : 0;
		if (err < 0)
			dz_disk_failed(disk, "write", err);
		for (uint32_t k = run->first; err < 0 && k < run->first + run->n; k++)
			w->order[k]->ret = err;
	}
	if (is_lost)
		w->ring = NULL; /* not freed: the kernel may still know its memory */
}

/* ---- 3: the journal ---- */

/* Is what the record says still so, or may it become so (a block being written)? */
static bool record_is_live(void *ctx, const struct dz_jrec *rec)
{
	const struct dz_seg *seg = ctx;
	const struct dz_slot *s;
	enum dz_slot_state state;
	uint32_t slot;

	if (rec->page / DZ_SLAB_PAGES >= seg->n_disk_slabs)
		return false;
	slot = atomic_load_explicit(&seg->disk_map[rec->page], memory_order_relaxed) - 1;
	if (slot >= seg->n_disk_slots)
		return false;
	s = &seg->disk_slots[slot];
	state = dz_ctl_state(atomic_load_explicit(&s->ctl, memory_order_acquire));
	if (state == DZ_SLOT_FILLING)
		return true;
	return state == DZ_SLOT_READY &&
	       atomic_load_explicit(&s->page, memory_order_relaxed) == rec->page &&
	       atomic_load_explicit(&s->key_lo, memory_order_relaxed) == rec->key_lo &&
	       atomic_load_explicit(&s->key_hi, memory_order_relaxed) == rec->key_hi &&
	       atomic_load_explicit(&s->crc, memory_order_relaxed) == rec->crc;
}

static void record_make(struct dz_seg *seg, const struct dz_disk_put *put, struct dz_jrec *rec)
{
	*rec = (struct dz_jrec){
		.seq = atomic_fetch_add(&seg->hdr->journal_seq, 1) + 1,
		.key_lo = put->key.lo,
		.key_hi = put->key.hi,
		.page = put->page,
		.len = put->len,
		.crc = put->crc,
		.group = put->group,
		.kind = put->kind,
	};
	dz_jrec_seal(rec);
}

/* Appends, and rewrites a journal that has grown far beyond what lives. */
static int write_journal(const struct dz_disk *disk, const struct dz_jrec *recs, uint32_t n)
{
	struct dz_seg *seg = disk->seg;
	uint64_t live = atomic_load_explicit(&seg->hdr->chunks[DZ_TIER_DISK], memory_order_relaxed);
	int64_t size = dz_journal_append(disk->dir, seg->member, recs, n);

	if (size < 0)
		return (int)size;
	/* Of several threads one renames; a failure leaves a long journal. */
	if ((uint64_t)size > dz_min_u64(dz_max_u64(JOURNAL_MIN_BYTES, live * 4 * sizeof(*recs)),
					dz_disk_journal_max(seg->disk_bytes)))
		dz_journal_compact(disk->dir, seg->member, recs[0].seq, record_is_live, seg);
	return 0;
}

/* ---- 4: findable ---- */

/* Ready, then findable.  The slot is the index's from here on. */
static int put_publish(const struct dz_disk *disk, const struct dz_disk_put *put,
		       const struct dz_jrec *rec)
{
	const struct dz_seg *seg = disk->seg;
	uint64_t now;
	int ret;

	dz_disk_describe(&seg->disk_slots[put->slot], rec, rec->kind,
			 atomic_load_explicit(&seg->hdr->tick, memory_order_relaxed));
	atomic_store_explicit(&seg->disk_slots[put->slot].stamp_ms, dz_now_ms(),
			      memory_order_relaxed);
	if (!dz_slot_publish(seg, DZ_TIER_DISK, put->slot, put->ctl, &now))
		return -ESTALE;
	ret = dz_index_insert(seg, put->key, DZ_TIER_DISK, put->slot, DZ_NONE);
	if (ret < 0)
		dz_slot_evict(seg, DZ_TIER_DISK, put->slot);
	else
		dz_evict_filled(seg, DZ_TIER_DISK, put->slot);
	return ret;
}

/* ---- one, and many ---- */

int dz_disk_write(struct dz_disk *disk, struct dz_key key, const void *data, uint32_t len,
		  uint32_t group, uint32_t kind)
{
	struct dz_disk_put put = {
		.key = key, .data = data, .len = len, .group = group, .kind = kind, .dram = DZ_NONE
	};
	struct dz_seg *seg = disk->seg;
	_Atomic uint32_t *filling;
	struct dz_jrec rec;
	int ret;

	if (seg->member >= seg->n_members)
		return -EINVAL;
	filling = &seg->members[seg->member].filling;
	atomic_fetch_add_explicit(filling, 1, memory_order_relaxed);
	if (put_begin(disk, &put)) {
		put.crc = dz_crc32c(0, data, len);
		ret = write_bytes(disk, put.page, data, len);
		if (ret == 0) {
			record_make(seg, &put, &rec);
			ret = write_journal(disk, &rec, 1);
		}
		if (ret == 0)
			put.ret = put_publish(disk, &put, &rec);
		else
			put_drop(disk, &put, dz_disk_failed(disk, "write", ret));
	}
	atomic_fetch_sub_explicit(filling, 1, memory_order_relaxed);
	return put.ret;
}

/* Journals those that landed, and publishes them; drops the rest. */
static void batch_end(struct dz_disk *disk, struct dz_disk_writer *w)
{
	uint32_t n = 0, at = 0;
	int ret = 0;

	for (uint32_t i = 0; i < w->n_order; i++) {
		if (w->order[i]->ret == 0)
			record_make(disk->seg, w->order[i], &w->rec[n++]);
	}
	if (n > 0)
		ret = write_journal(disk, w->rec, n);
	if (ret < 0)
		dz_disk_failed(disk, "write", ret);
	for (uint32_t i = 0; i < w->n_order; i++) {
		struct dz_disk_put *put = w->order[i];

		if (put->ret == 0 && ret == 0)
			put->ret = put_publish(disk, put, &w->rec[at++]);
		else if (put->slot != DZ_NONE)
			put_drop(disk, put, ret);
	}
}

uint32_t dz_disk_write_batch(struct dz_disk *disk, struct dz_disk_writer *w,
			     struct dz_disk_put *puts, uint32_t n)
{
	struct dz_seg *seg = disk->seg;
	_Atomic uint32_t *filling = &seg->members[seg->member % seg->n_members].filling;
	uint64_t bytes = 0;

	/* A hint for whoever recovers us: look at the disk's slots. */
	atomic_fetch_add_explicit(filling, n, memory_order_relaxed);
	w->n_order = 0;
	for (uint32_t i = 0; i < n; i++) {
		bytes += dz_disk_put_bytes(puts[i].len);
		puts[i].slot = DZ_NONE;
		puts[i].ret = -ENOBUFS;
		if (i < DZ_DISK_BATCH && bytes <= DZ_DISK_BATCH_BYTES && put_begin(disk, &puts[i]))
			order_add(w, &puts[i]);
	}
	runs_start(disk, w);
	runs_end(disk, w);
	batch_end(disk, w);
	atomic_fetch_sub_explicit(filling, n, memory_order_relaxed);
	return w->n_runs;
}
