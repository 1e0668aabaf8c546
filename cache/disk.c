/* SPDX-License-Identifier: MIT */
/*
 * Blocks on the disk: replayed, read, and what the dead were writing; disk_write.c
 * writes them.
 *
 * A read: where is it (prep), read, is it still that block (check)?  A place may
 * be evicted and written again while it is read: the generation in the slot's
 * word changes before the first new byte is written, so the check after the I/O
 * sees it.  A replayed block counts as unverified until its CRC was right once.
 */
#include "cache/disk.h"

#include "cache/disk_priv.h"
#include "cache/evict.h"
#include "cache/journal.h"
#include "cache/member.h"
#include "cache/slabs.h"
#include "cache/sys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Slots of the dead that share barriers. */
#define RECOVER_LOT 64
#define QUIET_MS    60000

/* ---- open: claim or join, replay ---- */

int dz_disk_dir(const struct dz_config *cfg, char *dir, size_t size)
{
	int n = snprintf(dir, size, "%s/deltazero.%u.%d", cfg->cache_dir,
			 (unsigned int)dz_sys_0(SYS_geteuid), DZ_LAYOUT_MAJOR);

	return cfg->cache_dir[0] != '/' || n < 0 || (size_t)n >= size ? -EINVAL : 0;
}

/* The struct and its arrays, one mapping. */
struct disk_memory {
	struct dz_disk disk;
	_Atomic int fds[DZ_DISK_FILES];
	_Atomic uint64_t ids[DZ_DISK_FILES];
	_Atomic bool is_broken;
};

static struct dz_disk *disk_new(struct dz_seg *seg, const struct dz_log *log)
{
	struct disk_memory *m;
	void *mem;

	if (dz_sys_mmap(&mem, NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0) < 0)
		return NULL;
	m = mem;
	for (uint32_t i = 0; i < DZ_DISK_FILES; i++)
		atomic_init(&m->fds[i], -1);
	m->disk.fds = m->fds;
	m->disk.ids = m->ids;
	m->disk.is_broken = &m->is_broken;
	m->disk.seg = seg;
	m->disk.log = log;
	m->disk.lock_fd = -1;
	return &m->disk;
}

void dz_disk_close(struct dz_disk *disk)
{
	if (!disk)
		return;
	for (uint32_t i = 0; i < DZ_DISK_FILES; i++) {
		int fd = atomic_load_explicit(&disk->fds[i], memory_order_relaxed);

		if (fd >= 0 && dz_disk_fd_is_ours(disk, i, fd))
			dz_sys_close(fd);
	}
	if (disk->lock_fd >= 0)
		dz_sys_close(disk->lock_fd);
	dz_sys_munmap(disk, sizeof(struct disk_memory));
}

struct disk_replay {
	const struct dz_disk *disk;
	const uint64_t *old_bytes;
	uint32_t n_blocks; /* in slots 0.. */
};

void dz_disk_describe(struct dz_slot *s, const struct dz_jrec *rec, uint32_t kind, uint32_t tick)
{
	uint32_t pieces = (uint32_t)dz_div_up(rec->len, DZ_PIECE_BYTES);

	atomic_store_explicit(&s->key_lo, rec->key_lo, memory_order_relaxed);
	atomic_store_explicit(&s->key_hi, rec->key_hi, memory_order_relaxed);
	atomic_store_explicit(&s->len, rec->len, memory_order_relaxed);
	atomic_store_explicit(&s->valid, (1u << pieces) - 1, memory_order_relaxed);
	atomic_store_explicit(&s->crc, rec->crc, memory_order_relaxed);
	atomic_store_explicit(&s->group, rec->group, memory_order_relaxed);
	atomic_store_explicit(&s->tick, tick, memory_order_relaxed);
	atomic_store_explicit(&s->stamp_ms, 0, memory_order_relaxed);
	atomic_store_explicit(&s->kind, kind, memory_order_relaxed);
}

/* Fits it into this tier, and were there bytes at that place? */
static bool replay_is_possible(const struct disk_replay *r, const struct dz_jrec *rec)
{
	uint64_t pages = dz_class_pages(rec->len);
	uint64_t end = dz_disk_off_of(rec->page) + pages * DZ_PAGE;

	if (rec->len == 0 || rec->len > DZ_BLOCK_BYTES || (rec->key_lo | rec->key_hi) == 0 ||
	    rec->kind < DZ_KIND_DATA || rec->kind > DZ_KIND_ATTR)
		return false;
	if (rec->page / DZ_SLAB_PAGES >= r->disk->seg->n_disk_slabs ||
	    rec->page % DZ_SLAB_PAGES + pages > DZ_SLAB_PAGES)
		return false;
	return end <= r->old_bytes[dz_disk_file_of(rec->page)];
}

/* One record, newest first: kept when its place and its key are still nobody's. */
static bool replay_record(void *ctx, const struct dz_jrec *rec)
{
	struct disk_replay *r = ctx;
	const struct dz_seg *seg = r->disk->seg;
	struct dz_key key = { rec->key_lo, rec->key_hi };
	struct dz_slot *s;
	uint64_t ctl;

	if (r->n_blocks >= seg->n_disk_slots || !replay_is_possible(r, rec) ||
	    !dz_slot_take(seg, r->n_blocks, rec->page, rec->len, &ctl))
		return false;
	s = &seg->disk_slots[r->n_blocks];
	dz_disk_describe(s, rec, rec->kind | DZ_SLOT_UNVERIFIED, 0);
	atomic_store_explicit(&s->ctl, ctl, memory_order_release);
	if (dz_index_add(seg, key, DZ_TIER_DISK, r->n_blocks) < 0) {
		dz_slot_untake(seg, r->n_blocks);
		return false;
	}
	r->n_blocks++;
	return true;
}

static void replay_soon(void *ctx, const struct dz_jrec *rec)
{
	const struct disk_replay *r = ctx;
	const struct dz_seg *seg = r->disk->seg;

	dz_index_prefetch_places(seg, (struct dz_key){ rec->key_lo, rec->key_hi });
	if (rec->page / DZ_SLAB_PAGES >= seg->n_disk_slabs)
		return;
	__builtin_prefetch(&seg->disk_map[rec->page], 1);
	__builtin_prefetch(&seg->disk_slabs[rec->page / DZ_SLAB_PAGES], 1);
}

/* Raises the counter, so that new records win over all that are on the disk. */
static void replay_set_seq(const struct dz_seg *seg, uint64_t last)
{
	uint64_t seq = atomic_load_explicit(&seg->hdr->journal_seq, memory_order_relaxed);

	while (seq < last && !atomic_compare_exchange_weak(&seg->hdr->journal_seq, &seq, last))
		;
}

/*
 * What the tables say is of a replay that was killed, or of a time since when another
 * segment had the files, and wrote to them.
 */
static void replay_reset(const struct dz_seg *seg)
{
	if (atomic_exchange(&seg->hdr->disk_slabs, DZ_NONE) == 0)
		return;
	dz_index_drop_tier(seg, DZ_TIER_DISK);
	dz_slot_reset_disk(seg);
}

static int disk_replay(struct dz_disk *disk, const uint64_t *old_bytes)
{
	struct disk_replay r = { .disk = disk, .old_bytes = old_bytes };
	uint64_t last, begin_ns = dz_now_ns();
	int ret;

	replay_reset(disk->seg);
	ret = dz_journal_replay(disk->dir, replay_record, replay_soon, &r, &last);
	dz_slabs_recount(disk->seg, DZ_TIER_DISK);
	replay_set_seq(disk->seg, last);
	if (ret < 0) {
		dz_warn(disk->log, "disk tier %s: journals: %s: starting empty", disk->dir,
			dz_strerror(ret));
		dz_journal_remove(disk->dir);
	}
	dz_info(disk->log, "disk tier %s: %llu blocks of an earlier run, replayed in %llu ms",
		disk->dir, (unsigned long long)r.n_blocks,
		(unsigned long long)((dz_now_ns() - begin_ns) / 1000000));
	return dz_disk_claimed(disk);
}

int dz_disk_open(struct dz_disk **out, struct dz_seg *seg, const struct dz_config *cfg,
		 const struct dz_log *log)
{
	uint64_t old_bytes[DZ_DISK_FILES];
	struct dz_disk *disk;
	int ret;

	*out = NULL;
	if (cfg->disk_bytes == DZ_SIZE_NONE || seg->n_disk_slabs == 0 || seg->is_private ||
	    dz_disk_off(seg->hdr) == DZ_DISK_OFF)
		return 0;
	disk = disk_new(seg, log);
	if (!disk)
		return -ENOMEM;
	ret = dz_disk_dir(cfg, disk->dir, sizeof(disk->dir));
	if (ret == 0)
		ret = dz_disk_claim(disk, old_bytes);
	if (ret == 1)
		ret = disk_replay(disk, old_bytes);
	if (ret == 0) {
		*out = disk;
		return 0;
	}
	/* The segment knows its lock: the others have a tier, only we have not. */
	dz_disk_switch_off(disk, "slab files", ret, ret != -EXDEV && ret != -EMFILE);
	dz_disk_close(disk);
	return 0;
}

bool dz_disk_is_on(const struct dz_disk *disk)
{
	return disk && dz_disk_off(disk->seg->hdr) == DZ_DISK_ON &&
	       !atomic_load_explicit(disk->is_broken, memory_order_relaxed);
}

int *dz_disk_fd_place(struct dz_disk *disk, int fd)
{
	for (uint32_t i = 0; i < DZ_DISK_FILES; i++) {
		if (atomic_load_explicit(&disk->fds[i], memory_order_relaxed) == fd)
			return (int *)&disk->fds[i];
	}
	return disk->lock_fd == fd ? &disk->lock_fd : NULL;
}

int dz_disk_next_fd(const struct dz_disk *disk, int from)
{
	int next = disk->lock_fd >= from ? disk->lock_fd : -1;

	for (uint32_t i = 0; i < DZ_DISK_FILES; i++) {
		int fd = atomic_load_explicit(&disk->fds[i], memory_order_relaxed);

		if (fd >= 0 && fd >= from && (next < 0 || fd < next))
			next = fd;
	}
	return next;
}

/* ---- read ---- */

void dz_disk_prep_read(const struct dz_disk *disk, uint32_t slot, uint32_t off, uint32_t len,
		       void *buf, struct dz_io *io, uint32_t *skip)
{
	const struct dz_seg *seg = disk->seg;
	uint32_t page, begin = off & ~(DZ_PAGE - 1);
	uint64_t end = dz_round_up((uint64_t)off + len, DZ_PAGE);

	*skip = off - begin;
	*io = (struct dz_io){ .fd = -1, .buf = buf, .len = (uint32_t)(end - begin) };
	if (slot >= seg->n_disk_slots || !dz_disk_is_on(disk))
		return;
	page = atomic_load_explicit(&seg->disk_slots[slot].page, memory_order_relaxed);
	if (page / DZ_SLAB_PAGES >= seg->n_disk_slabs ||
	    page % DZ_SLAB_PAGES * (uint64_t)DZ_PAGE + end > DZ_MIB)
		return;
	io->off = dz_disk_off_of(page) + begin;
	io->fd = dz_disk_fd(disk, dz_disk_file_of(page));
}

static uint32_t file_of_fd(const struct dz_disk *disk, int fd)
{
	uint32_t i = 0;

	while (i < DZ_DISK_FILES && atomic_load_explicit(&disk->fds[i], memory_order_relaxed) != fd)
		i++;
	return i;
}

/* An error of the device or the file system ends the tier; one of this process its own. */
int dz_disk_failed(const struct dz_disk *disk, const char *what, int err)
{
	dz_disk_switch_off(disk, what, err,
			   err != -EBADF && err != -EINVAL && err != -EFAULT && err != -ENOMEM &&
				   err != -EMFILE && err != -ENFILE);
	return err;
}

int dz_disk_check_read(const struct dz_disk *disk, uint32_t slot, uint64_t ctl, struct dz_io *io)
{
	uint32_t file = file_of_fd(disk, io->fd);

	if (io->fd < 0 || slot >= disk->seg->n_disk_slots)
		return -ESTALE;
	/* Moved since (movefd.c), while the read lay here: the next has the new number. */
	if (file == DZ_DISK_FILES)
		return -ESTALE;
	/* The program may have closed our descriptor, and opened a file of its own there. */
	if (!dz_disk_fd_is_ours(disk, file, io->fd))
		return dz_disk_failed(disk, "read", -EBADF);
	if (io->res < 0)
		return dz_disk_failed(disk, "read", io->res);
	if ((uint32_t)io->res != io->len)
		return dz_disk_failed(disk, "read", -EIO);
	dz_disk_took(disk, io->len, io->took_ms);
	/* Orders the device's bytes before the look at the word: who evicts changes it first. */
	atomic_thread_fence(memory_order_acquire);
	if (dz_ctl_state(ctl) != DZ_SLOT_READY ||
	    atomic_load_explicit(&disk->seg->disk_slots[slot].ctl, memory_order_relaxed) != ctl)
		return -ESTALE;
	return 0;
}

bool dz_disk_is_unverified(const struct dz_disk *disk, uint32_t slot)
{
	return slot < disk->seg->n_disk_slots &&
	       atomic_load_explicit(&disk->seg->disk_slots[slot].kind, memory_order_relaxed) &
		       DZ_SLOT_UNVERIFIED;
}

int dz_disk_verify(const struct dz_disk *disk, uint32_t slot, uint64_t ctl, const void *data)
{
	struct dz_slot *s;
	uint32_t len, crc;

	if (slot >= disk->seg->n_disk_slots)
		return -EILSEQ;
	s = &disk->seg->disk_slots[slot];
	len = atomic_load_explicit(&s->len, memory_order_relaxed);
	crc = atomic_load_explicit(&s->crc, memory_order_relaxed);
	/* Len and crc are this tenant's if the word has not changed since. */
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&s->ctl, memory_order_relaxed) != ctl || len > DZ_BLOCK_BYTES)
		return -EILSEQ;
	if (dz_crc32c(0, data, len) == crc) {
		/* A later tenant was written by this run: clearing its bit is right, too. */
		atomic_fetch_and(&s->kind, ~DZ_SLOT_UNVERIFIED);
		return 0;
	}
	dz_info(disk->log, "disk tier %s: a block of an earlier run fails its checksum: dropped",
		disk->dir);
	dz_slot_evict(disk->seg, DZ_TIER_DISK, slot);
	return -EILSEQ;
}

/* ---- after a death ---- */

int dz_disk_barrier(struct dz_disk *disk, uint32_t slot)
{
	uint32_t page;

	if (slot >= disk->seg->n_disk_slots)
		return -EINVAL;
	page = atomic_load_explicit(&disk->seg->disk_slots[slot].page, memory_order_relaxed);
	if (page / DZ_SLAB_PAGES >= disk->seg->n_disk_slabs)
		return -EINVAL;
	return dz_disk_barrier_file(disk, dz_disk_file_of(page));
}

/* Has its owner died?  What is in quarantine has been judged already. */
static bool recover_is_due(const struct dz_seg *seg, uint64_t ctl, uint32_t member)
{
	if (member != DZ_NONE && dz_ctl_owner(ctl) != member)
		return false;
	if (dz_ctl_state(ctl) == DZ_SLOT_QUARANTINE)
		return true;
	return dz_ctl_state(ctl) == DZ_SLOT_FILLING &&
	       (member != DZ_NONE || !dz_member_is_alive(seg, dz_ctl_owner(ctl)));
}

/* filling -> quarantine; *ctl is the new word.  False: it changed. */
static bool recover_quarantine(struct dz_slot *s, uint64_t *ctl)
{
	uint64_t old = *ctl;

	if (dz_ctl_state(old) == DZ_SLOT_FILLING)
		atomic_store_explicit(&s->stamp_ms, dz_now_ms(), memory_order_relaxed);
	*ctl = dz_ctl(dz_ctl_gen(old), dz_ctl_owner(old), DZ_SLOT_QUARANTINE);
	return atomic_compare_exchange_strong(&s->ctl, &old, *ctl);
}

/* Slots that were in quarantine before a barrier, which is what proves them quiet. */
struct recover_lot {
	uint32_t slot[RECOVER_LOT];
	uint64_t ctl[RECOVER_LOT];
	uint32_t n;
};

/*
 * Where the file system has no barrier: a device gives an I/O up after 30 s (nvme's
 * io_timeout), so twice that after its owner was found dead none is under way.
 */
static bool recover_is_old(const struct dz_slot *s)
{
	return dz_now_ms() - atomic_load_explicit(&s->stamp_ms, memory_order_relaxed) > QUIET_MS;
}

/* One barrier a file serves all of a lot: their owners were dead before it began. */
static uint32_t recover_free(struct dz_disk *disk, struct recover_lot *lot)
{
	uint32_t proved = 0, none = 0, tried = 0, freed = 0;

	for (uint32_t i = 0; i < lot->n; i++) {
		const struct dz_slot *s = &disk->seg->disk_slots[lot->slot[i]];
		uint32_t page = atomic_load_explicit(&s->page, memory_order_relaxed);
		uint32_t file = 1u << dz_disk_file_of(page);

		if (!(tried & file)) {
			int ret = dz_disk_barrier(disk, lot->slot[i]);

			proved |= ret == 0 ? file : 0;
			none |= ret == -EOPNOTSUPP ? file : 0;
		}
		tried |= file;
		if (proved & file || (none & file && recover_is_old(s)))
			freed +=
				dz_slot_discard(disk->seg, DZ_TIER_DISK, lot->slot[i], lot->ctl[i]);
	}
	lot->n = 0;
	return freed;
}

/* Of the slots from *first on; a lot at a time, which is 16 barriers at most. */
static uint32_t recover_slots(struct dz_disk *disk, uint32_t member, uint32_t *first, uint32_t end)
{
	struct dz_seg *seg = disk->seg;
	struct recover_lot lot = { .n = 0 };
	uint32_t i = *first;

	for (; i < end && lot.n < RECOVER_LOT; i++) {
		struct dz_slot *s = &seg->disk_slots[i];
		uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);

		if (!recover_is_due(seg, ctl, member) || !recover_quarantine(s, &ctl))
			continue;
		lot.slot[lot.n] = i;
		lot.ctl[lot.n++] = ctl;
	}
	*first = i;
	return recover_free(disk, &lot);
}

uint32_t dz_disk_recover(struct dz_disk *disk, uint32_t member)
{
	uint32_t freed = 0, first = 0;

	while (first < disk->seg->n_disk_slots)
		freed += recover_slots(disk, member, &first, disk->seg->n_disk_slots);
	return freed;
}

uint32_t dz_disk_recover_part(struct dz_disk *disk, uint32_t part, uint32_t parts)
{
	uint64_t n = disk->seg->n_disk_slots;
	uint32_t first = (uint32_t)(n * part / parts);

	return recover_slots(disk, DZ_NONE, &first, (uint32_t)(n * (part + 1) / parts));
}

static void disk_on_dead(struct dz_seg *seg, uint32_t member)
{
	dz_disk_recover(seg->disk, member);
}

void dz_disk_watch(struct dz_disk *disk, struct dz_seg *seg)
{
	seg->disk = disk;
	seg->on_dead = disk ? disk_on_dead : NULL;
}
