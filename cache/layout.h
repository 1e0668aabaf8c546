/* SPDX-License-Identifier: MIT */
/*
 * Every byte of the shared memory of one cache.  Two files in the cache's
 * directory: `meta` (header, tables, index) and `dram` (1 MiB slabs of data).
 * No pointers, no pthread types, fixed-width little-endian fields, futex words
 * of our own.  A field that another process may change while we look at it is
 * _Atomic; everything read from here is bounds-checked against the private
 * copies of the counts in struct dz_seg, because a segment is untrusted input.
 *
 * A slot (of DRAM or of the disk):
 *
 *     free -> filling -> ready -> evicting -> free
 *                ^---------'         (a partial block gets more pieces)
 *     filling -> quarantine -> free  (its owner may still write there)
 *
 * Each arrow is one CAS on `ctl`, which holds generation, state and owner, so a
 * process killed anywhere leaves a state that somebody else can finish.  The
 * generation changes when a slot leaves `ready` for `evicting`.
 */
#ifndef DZ_LAYOUT_H
#define DZ_LAYOUT_H

#include "cache/base.h"
#include "cache/hash.h"

#include <stdatomic.h>

#define DZ_LAYOUT_MAJOR 1
#define DZ_LAYOUT_MINOR 1
#define DZ_SEG_MAGIC	0x31304f52455a4c44ull /* "DLZERO01" */
#define DZ_PAGE		4096u
#define DZ_SLAB_PAGES	256u /* 1 MiB */
#define DZ_NONE		UINT32_MAX
#define DZ_CLASSES	32  /* of chunk sizes; 25 are in use */
#define DZ_GROUPS	256 /* a data set's last use, by its group's low bits */

enum dz_tier { DZ_TIER_DRAM, DZ_TIER_DISK, DZ_TIER_PEER, DZ_TIER_BLOB, DZ_TIERS };

/* What the bytes of a slot are. */
enum dz_kind { DZ_KIND_DATA = 1, DZ_KIND_DIR = 2, DZ_KIND_ATTR = 3 };

enum dz_slot_state {
	DZ_SLOT_FREE,
	DZ_SLOT_FILLING,
	DZ_SLOT_READY,
	DZ_SLOT_EVICTING,
	DZ_SLOT_QUARANTINE,
};

/* ctl of a slot: generation:32 | owner (member):16 | unused:8 | state:8 */
static inline uint64_t dz_ctl(uint32_t gen, uint32_t owner, enum dz_slot_state state)
{
	return (uint64_t)gen << 32 | (uint64_t)(owner & 0xffff) << 16 | (uint64_t)state;
}

static inline uint32_t dz_ctl_gen(uint64_t ctl)
{
	return (uint32_t)(ctl >> 32);
}

static inline uint32_t dz_ctl_owner(uint64_t ctl)
{
	return (uint32_t)(ctl >> 16) & 0xffff;
}

static inline enum dz_slot_state dz_ctl_state(uint64_t ctl)
{
	return (enum dz_slot_state)(ctl & 0xff);
}

/* Bytes may be copied: the slot is ready, or gets further pieces meanwhile. */
static inline bool dz_ctl_is_readable(uint64_t ctl)
{
	return dz_ctl_state(ctl) == DZ_SLOT_READY || dz_ctl_state(ctl) == DZ_SLOT_FILLING;
}

struct dz_slot {
	_Atomic uint64_t ctl;
	_Atomic uint64_t key_lo;
	_Atomic uint64_t key_hi;
	_Atomic uint32_t page;	   /* first page in the tier; DRAM: the slot's own number */
	_Atomic uint32_t len;	   /* bytes of the block, <= DZ_BLOCK_BYTES */
	_Atomic uint32_t valid;	   /* bit i: piece i (64 KiB) holds the blob's bytes */
	_Atomic uint32_t crc;	   /* CRC-32C of the len bytes; disk only */
	_Atomic uint32_t group;	   /* data set, for eviction */
	_Atomic uint32_t tick;	   /* last counted access */
	_Atomic uint64_t stamp_ms; /* dz_now_ms() when it came; names: when Blob confirmed them */
	_Atomic uint32_t kind;	   /* enum dz_kind; disk: | DZ_SLOT_UNVERIFIED */
	_Atomic uint32_t born;	   /* number of its fill, for eviction's window */
};
_Static_assert(sizeof(struct dz_slot) == 64, "a slot is one cache line");
#define DZ_SLOT_UNVERIFIED 0x100u /* replayed from a journal, CRC not yet checked */

/*
 * A slab: 1 MiB of a tier, whole or cut into chunks of one class.
 * ctl: generation:48 | state:8 | class:8 (pages a chunk, less one).
 * Chunk i is allocated when bit i % 43 of bitmap[i / 43] is set.  The upper 21
 * bits of each word are those of the slab's generation at the last change, so
 * a CAS prepared before the slab was cut anew fails.
 */
struct dz_slab {
	_Atomic uint64_t ctl;
	_Atomic uint64_t bitmap[6];
	_Atomic uint64_t mapped; /* DRAM: may a program map it?  see pins.c */
};
_Static_assert(sizeof(struct dz_slab) == 64, "a slab header is one cache line");

/* Bucket entry: tag:24 | tier:1 | unused:7 | slot:32; 0 is empty. */
struct dz_bucket {
	_Atomic uint64_t entry[8];
};
_Static_assert(sizeof(struct dz_bucket) == 64, "a bucket is one cache line");

enum dz_member_state {
	DZ_MEMBER_FREE,
	DZ_MEMBER_CLAIMED, /* being filled in, until deadline_ms */
	DZ_MEMBER_FORKING, /* a parent made it for its child, until deadline_ms */
	DZ_MEMBER_LIVE,	   /* holds the byte lock at offset = its number */
};

#define DZ_HAZARDS 8
struct dz_member {
	_Atomic uint32_t state;
	_Atomic uint32_t pid; /* in its own PID namespace */
	_Atomic uint64_t start_ticks;
	_Atomic uint64_t pid_ns;
	_Atomic uint64_t deadline_ms;
	_Atomic uint64_t joined_ms;	     /* wall clock */
	_Atomic uint64_t trace;		     /* 0: off; set by `dz trace -p` */
	_Atomic uint64_t hazard[DZ_HAZARDS]; /* gen:32 | slot:32, 0 none */
	char comm[16];
	_Atomic uint32_t is_agent;
	_Atomic uint32_t parent;
	_Atomic uint32_t filling; /* slots it owns in state filling; a hint for recovery */
	_Atomic uint64_t mounts;  /* bit n: it uses mount record n */
	uint8_t pad[256 - 152];
};
_Static_assert(sizeof(struct dz_member) == 256, "a member is four cache lines");

/* A place that members fetch from, without secrets. */
struct dz_mount_rec {
	_Atomic uint64_t id; /* 0: free; see records.c */
	_Atomic uint32_t ready;
	uint32_t path_style;
	uint64_t data_id;
	uint64_t identity;
	char endpoint[512];
	char account[64];
	char container[64];
	char prefix[DZ_NAME_MAX];
	uint8_t pad[2048 - 32 - 512 - 128 - DZ_NAME_MAX];
};
_Static_assert(sizeof(struct dz_mount_rec) == 2048, "a mount record is 2 KiB");

struct dz_agent_rec {
	_Atomic uint64_t identity;	    /* 0: free */
	_Atomic uint32_t member;	    /* DZ_NONE: none */
	_Atomic uint32_t sleeping;	    /* 1: write to its FIFO to wake it */
	_Atomic uint64_t starting_until_ms; /* someone is starting it */
	_Atomic uint32_t failures;	    /* starts that came to nothing, in a row */
	_Atomic uint32_t connections;
	_Atomic uint64_t requests, bytes, errors, retries, opened, peak;
	_Atomic uint64_t beat_ms; /* dz_now_ms() of its last round */
	uint8_t pad[128 - 88];
};
_Static_assert(sizeof(struct dz_agent_rec) == 128, "an agent record is two cache lines");

enum dz_lease_state {
	DZ_LEASE_FREE,
	DZ_LEASE_CLAIMING,  /* a requester writes the request; until deadline_ms */
	DZ_LEASE_REQUESTED, /* any fetcher may take it */
	DZ_LEASE_ACTIVE,    /* owner fetches; until deadline_ms */
};

/* word: token:40 | owner:16 | state:8 */
struct dz_lease {
	_Atomic uint64_t word;
	_Atomic uint64_t key_lo;
	_Atomic uint64_t key_hi;
	_Atomic uint64_t deadline_ms;
	_Atomic uint64_t done; /* token:40 | -err:16 of the last end, 0 never */
	_Atomic uint32_t seq;  /* futex: bumped at each progress and at the end */
	_Atomic uint32_t waiters;
	_Atomic uint32_t want;	    /* pieces wanted, beyond those valid */
	_Atomic uint32_t slot;	    /* being filled, or DZ_NONE */
	_Atomic uint32_t awaited;   /* pieces that somebody sleeps for */
	_Atomic uint32_t active_us; /* dz_now_ns() / 1000 when a fetcher took it last */
};
_Static_assert(sizeof(struct dz_lease) == 64, "a lease is one cache line");

/* What to fetch; written in state CLAIMING, read in ACTIVE. */
struct dz_request {
	uint32_t kind;	/* enum dz_kind: a block, a listing, one name's attributes */
	uint32_t mount; /* number of the mount record */
	uint32_t flags;
	uint32_t name_len;
	uint64_t blk;	    /* block number */
	uint64_t blob_size; /* DATA */
	uint32_t group;
	uint32_t pad;
	char etag[DZ_ETAG_MAX];
	char name[DZ_NAME_MAX + 8]; /* below the mount's prefix; NUL-terminated */
	char why[448]; /* of a failure, for the waiters' log line; written before the end */
	uint8_t fill[2048 - 488 - DZ_ETAG_MAX - DZ_NAME_MAX - 8];
};
_Static_assert(sizeof(struct dz_request) == 2048, "a request is 2 KiB");
#define DZ_REQ_PREFETCH 1u /* nobody waits */
#define DZ_REQ_SMALL	2u /* a lone random read: fetch only what is wanted */
#define DZ_REQ_AHEAD	8u /* the fetcher's own: a small blob that the job has not asked for */
#define DZ_REQ_LONG	4u /* set by the fetcher: a listing of more than one page */

enum dz_file_state { DZ_FILE_FREE, DZ_FILE_OPENING, DZ_FILE_OPEN };

/*
 * An open-file description: what POSIX shares over dup, fork and exec.
 * ctl: generation:32 | member at work:16 | shared:1 (more than one process may
 * hold it) <<8 | state:8.
 * Filled in by its opener before state OPEN, then constant but for pos, flags
 * and the reader's history.
 */
struct dz_ofile {
	_Atomic uint64_t ctl;
	_Atomic uint64_t pos;
	_Atomic uint64_t marker_ino;  /* of the number's marker; 0: not made yet */
	_Atomic uint64_t handover_ms; /* not reclaimed before (exec in progress) */
	uint64_t key_lo, key_hi;      /* dz_block_key() base */
	uint64_t size;
	int64_t mtime_ns;
	uint64_t ino;
	uint32_t mode; /* S_IFREG | 0444, S_IFDIR | 0555 */
	uint32_t mount;
	_Atomic uint32_t flags; /* O_* as F_GETFL shows them */
	uint32_t group;
	_Atomic uint64_t next_off; /* where a sequential reader would go on */
	_Atomic uint32_t window;   /* blocks to read ahead, 0 after a jump */
	_Atomic uint32_t advice;   /* POSIX_FADV_* */
	_Atomic uint64_t ahead;	   /* first block not yet asked for */
	_Atomic uint64_t last_blk; /* that a reader entered */
	uint32_t name_len;
	_Atomic uint32_t streak; /* small misses in a row that followed one another */
	char etag[DZ_ETAG_MAX];
	char name[DZ_NAME_MAX + 8]; /* below the mount */
	_Atomic uint32_t has_own;   /* a marker of its own may be there (marker.h) */
	uint8_t pad[1280 - 132 - DZ_ETAG_MAX - DZ_NAME_MAX - 16];
	/* Served through it, about: see read_count().  A line that nothing else needs. */
	_Atomic uint64_t read_bytes;
};
_Static_assert(sizeof(struct dz_ofile) == 1280, "an open file is 1,280 bytes");

struct dz_seg_header {
	uint64_t magic;
	uint32_t major, minor;
	uint64_t id; /* of this very segment: names the directory of its markers */
	uint64_t abi_hash;
	uint8_t boot_id[16];
	_Atomic uint32_t state; /* 0 building, 1 ready, 2 retired */
	uint32_t uid;
	uint64_t meta_bytes, dram_bytes, disk_bytes;
	uint32_t n_members, n_files, n_leases, n_mounts, n_agents;
	uint32_t n_dram_slabs, n_disk_slabs;
	uint32_t n_disk_slots;
	uint32_t n_buckets; /* power of two */
	uint32_t n_freq;    /* power of two */
	uint32_t n_window;
	uint32_t dram_ino; /* low half of the inode of the `dram` that belongs to it */
	uint64_t off_members, off_stats, off_held, off_mounts, off_agents, off_pending, off_leases,
		off_requests, off_files, off_buckets, off_dram_slots, off_dram_slabs,
		off_disk_slots, off_disk_slabs, off_disk_map, off_freq, off_window;
	/* from here on: changed while in use, a cache line each */
	_Alignas(64) _Atomic uint32_t tick;    /* counted accesses: the clock of eviction */
	_Atomic uint32_t dram_hint, disk_hint; /* where to look for a free slab */
	_Atomic uint64_t window_head;
	_Alignas(64) _Atomic uint64_t dram_used; /* bytes in allocated chunks */
	_Atomic uint64_t disk_used;
	_Atomic uint64_t evictions, rejects;
	_Alignas(64) _Atomic uint64_t journal_seq;
	_Atomic uint64_t file_hint, member_hint;
	_Atomic uint64_t disk_off; /* the disk tier is off: 1 for good, else until then (ms) */
	_Alignas(64) _Atomic uint64_t last_sweep_ms;
	/* Slabs of DRAM that have memory behind them, 0: all.  Grows with use. */
	_Atomic uint32_t dram_backed;
	_Atomic uint32_t members_high;	/* no record from here on was ever used */
	_Atomic uint64_t dram_stuck_ms; /* growing failed: not again before */
	/* hints of slabs.c and evict.c, by tier; any value is safe */
	_Alignas(64) _Atomic uint32_t cut_hint[2][DZ_CLASSES]; /* class -> slab with room */
	_Atomic uint32_t disk_slot_hint;
	_Atomic uint32_t chunks[2]; /* allocated chunks */
	_Atomic uint32_t footprint; /* part of the frequency table in recent use, of 65536 */
	_Atomic uint32_t age_shift; /* unit of that table's clock: 2^n ticks; n + 1, 0 not set */
	_Atomic uint32_t lead[2];   /* 65536 + what LRU would hit more, of 65536 */
	_Atomic uint32_t group_tick[DZ_GROUPS]; /* last use */
	_Atomic uint32_t group_gap[DZ_GROUPS];	/* longest time without */
	_Atomic uint32_t fresh[DZ_CLASSES];	/* slot + 1 of DRAM filled last, by class */
	_Atomic uint64_t disk_lock;	/* inode of our slab files' lock, hashed; 0: not known */
	_Atomic uint32_t disk_slabs;	/* of n_disk_slabs those that found room */
	_Atomic uint32_t dram_mapped;	/* about how many DRAM slabs programs map */
	_Atomic uint32_t disk_slow;	/* score of slow I/Os, see disk_slow.c */
	_Atomic uint64_t disk_slow_ms;	/* the last one that counted */
	_Atomic uint32_t disk_slow_off; /* how often it was off for that */
};
_Static_assert(sizeof(struct dz_seg_header) <= 4096, "the header fits its page");

#endif
