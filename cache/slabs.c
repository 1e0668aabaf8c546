/* SPDX-License-Identifier: MIT */
/*
 * Slabs and their chunks.  A slab is free, cut, or busy:
 *
 *     free(g) -> cut(g) -> busy(g+1) -> free(g+1)     all bits were 0
 *                   ^----------'                      a bit was set: cut(g+1)
 *
 * Busy brings every bitmap word from (g, no bits) to (g+1, no bits).  A CAS that
 * an allocator prepared at g fails from then on, and one that came before is
 * seen and turns the slab back to cut.  Anybody who meets a busy slab finishes
 * it, so a kill in the middle is no state of its own.
 */
#include "cache/slabs.h"

#include "cache/index.h"
#include "cache/member.h"

#include <errno.h>

enum slab_state { SLAB_FREE, SLAB_CUT, SLAB_BUSY };

#define WORD_CHUNKS 43
#define WORD_BITS   (((uint64_t)1 << WORD_CHUNKS) - 1)
#define WORDS	    6
#define GEN_MASK    (((uint64_t)1 << 21) - 1)
/* Slabs looked at in one walk: for a chunk of the class, then for a free slab. */
#define LOOK_CUT  32
#define LOOK_FREE 64
/* A slab's generation rises under a chunk's feet only when a return fails: rare. */
#define CLEAR_TRIES 64

static const uint16_t class_pages[] = { 1,  2,	3,  4,	5,  6,	7,  8,	10, 12,	 14,  16, 20,
					24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 256 };
_Static_assert(DZ_ARRAY_LEN(class_pages) <= DZ_CLASSES, "a hint for each class");

static uint64_t slab_ctl(uint64_t gen, enum slab_state state, uint32_t pages)
{
	return gen << 16 | (uint64_t)state << 8 | (uint64_t)((pages - 1) & 0xff);
}

static uint64_t ctl_gen(uint64_t ctl)
{
	return ctl >> 16;
}

static enum slab_state ctl_state(uint64_t ctl)
{
	return (enum slab_state)(ctl >> 8 & 0xff);
}

/* 1 to 256; what stands in a damaged segment may be no class, but never 0. */
static uint32_t ctl_pages(uint64_t ctl)
{
	return (uint32_t)(ctl & 0xff) + 1;
}

/* Was the word last changed at the slab's generation `gen`, or before (a failed return)? */
static bool word_is_current(uint64_t word, uint64_t gen)
{
	return ((gen - (word >> WORD_CHUNKS)) & GEN_MASK) <= GEN_MASK / 2;
}

static uint64_t word_of(uint64_t gen, uint64_t bits)
{
	return gen << WORD_CHUNKS | bits;
}

static uint64_t chunk_bit(uint32_t chunk)
{
	return (uint64_t)1 << chunk % WORD_CHUNKS;
}

static uint32_t tier_slabs(const struct dz_seg *seg, enum dz_tier tier)
{
	return tier == DZ_TIER_DRAM   ? seg->n_dram_slabs
	       : tier == DZ_TIER_DISK ? seg->n_disk_slabs
				      : 0;
}

/* Where new blocks may go now: DRAM grows with use. */
static uint32_t usable_slabs(const struct dz_seg *seg, enum dz_tier tier)
{
	return tier == DZ_TIER_DRAM ? dz_seg_backed(seg) : tier_slabs(seg, tier);
}

static struct dz_slab *slab_at(const struct dz_seg *seg, enum dz_tier tier, uint32_t slab)
{
	return tier == DZ_TIER_DRAM ? &seg->dram_slabs[slab] : &seg->disk_slabs[slab];
}

static _Atomic uint32_t *free_hint(const struct dz_seg *seg, enum dz_tier tier)
{
	return tier == DZ_TIER_DRAM ? &seg->hdr->dram_hint : &seg->hdr->disk_hint;
}

uint32_t dz_class_number(uint32_t pages)
{
	uint32_t i = 0;

	while (i + 1 < DZ_ARRAY_LEN(class_pages) && class_pages[i] < pages)
		i++;
	return i;
}

static _Atomic uint32_t *cut_hint(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages)
{
	return &seg->hdr->cut_hint[tier][dz_class_number(pages)];
}

uint32_t dz_class_pages(uint64_t bytes)
{
	uint64_t pages = dz_min_u64(dz_div_up(bytes, DZ_PAGE), DZ_SLAB_PAGES);

	return class_pages[dz_class_number((uint32_t)pages)];
}

/* ---- accounting: what `dz stat` shows; a kill may leave it off by one chunk ---- */

/* *counter += n, not above `limit`; n < 0 not below 0. */
static void add_within(_Atomic uint64_t *counter, int64_t n, uint64_t limit)
{
	uint64_t old = atomic_load_explicit(counter, memory_order_relaxed), now;

	do {
		if (n < 0)
			now = old > (uint64_t)-n ? old - (uint64_t)-n : 0;
		else
			now = dz_min_u64(old + (uint64_t)n, limit);
	} while (!atomic_compare_exchange_weak_explicit(counter, &old, now, memory_order_relaxed,
							memory_order_relaxed));
}

static void account(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages, bool is_taken)
{
	bool is_dram = tier == DZ_TIER_DRAM;
	int64_t bytes = (int64_t)pages * DZ_PAGE;
	_Atomic uint32_t *chunks = &seg->hdr->chunks[tier];
	uint32_t n = atomic_load_explicit(chunks, memory_order_relaxed);

	add_within(is_dram ? &seg->hdr->dram_used : &seg->hdr->disk_used, is_taken ? bytes : -bytes,
		   is_dram ? seg->dram_bytes : seg->disk_bytes);
	if (is_taken)
		atomic_fetch_add_explicit(chunks, 1, memory_order_relaxed);
	else
		while (n > 0 && !atomic_compare_exchange_weak_explicit(chunks, &n, n - 1,
								       memory_order_relaxed,
								       memory_order_relaxed))
			;
}

/* ---- cutting and returning ---- */

/* Brings a busy slab (word `ctl`) to its end: free, or cut again. */
static void slab_finish(struct dz_slab *s, uint64_t ctl)
{
	uint64_t gen = ctl_gen(ctl), end = slab_ctl(gen, SLAB_FREE, 1);

	for (int i = 0; i < WORDS; i++) {
		uint64_t w = atomic_load_explicit(&s->bitmap[i], memory_order_acquire);

		while (!(w & WORD_BITS) && word_is_current(w, gen) && w != word_of(gen, 0))
			if (atomic_compare_exchange_weak(&s->bitmap[i], &w, word_of(gen, 0)))
				w = word_of(gen, 0);
		if (w != word_of(gen, 0))
			end = slab_ctl(gen, SLAB_CUT, ctl_pages(ctl));
	}
	atomic_compare_exchange_strong(&s->ctl, &ctl, end);
}

static bool slab_is_empty(const struct dz_slab *s)
{
	uint64_t bits = 0;

	for (int i = 0; i < WORDS; i++)
		bits |= atomic_load_explicit(&s->bitmap[i], memory_order_relaxed) & WORD_BITS;
	return bits == 0;
}

/* Returns an empty slab to the free ones. */
static void slab_return(const struct dz_seg *seg, enum dz_tier tier, uint32_t slab)
{
	struct dz_slab *s = slab_at(seg, tier, slab);
	uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	uint64_t busy = slab_ctl(ctl_gen(ctl) + 1, SLAB_BUSY, ctl_pages(ctl));

	if (ctl_state(ctl) != SLAB_CUT || !slab_is_empty(s))
		return;
	if (!atomic_compare_exchange_strong(&s->ctl, &ctl, busy))
		return;
	slab_finish(s, busy);
	atomic_store_explicit(free_hint(seg, tier), slab, memory_order_relaxed);
}

/* The slab's word, after finishing a return that somebody began. */
static uint64_t slab_load(struct dz_slab *s)
{
	uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);

	if (ctl_state(ctl) != SLAB_BUSY)
		return ctl;
	slab_finish(s, ctl);
	return atomic_load_explicit(&s->ctl, memory_order_acquire);
}

/* ---- finding a free chunk ---- */

void dz_slabs_walk(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes,
		   struct dz_chunk_walk *w)
{
	uint32_t n = usable_slabs(seg, tier);

	*w = (struct dz_chunk_walk){ .page = DZ_NONE };
	if (n == 0 || bytes > DZ_BLOCK_BYTES)
		return;
	w->pages = dz_class_pages(bytes);
	w->slab = atomic_load_explicit(cut_hint(seg, tier, w->pages), memory_order_relaxed) % n;
	w->left = (uint32_t)dz_min_u64(n, LOOK_CUT);
}

/* A free chunk in the walk's slab from w->next on. */
static bool walk_slab(const struct dz_slab *s, struct dz_chunk_walk *w)
{
	uint32_t n = DZ_SLAB_PAGES / w->pages;

	for (; w->next < n; w->next++) {
		uint64_t word = atomic_load_explicit(&s->bitmap[w->next / WORD_CHUNKS],
						     memory_order_acquire);

		if (!word_is_current(word, w->gen))
			break;
		if (word & chunk_bit(w->next))
			continue;
		w->page = w->slab * DZ_SLAB_PAGES + w->next * w->pages;
		w->next++;
		return true;
	}
	w->next = DZ_SLAB_PAGES;
	return false;
}

/* Is the walk's slab of the class, or made so?  Then the walk goes into it. */
static bool walk_enter(const struct dz_seg *seg, enum dz_tier tier, struct dz_chunk_walk *w)
{
	struct dz_slab *s = slab_at(seg, tier, w->slab);
	uint64_t ctl = slab_load(s), cut;

	if (w->wants_free) {
		if (ctl_state(ctl) != SLAB_FREE)
			return false;
		cut = slab_ctl(ctl_gen(ctl), SLAB_CUT, w->pages);
		if (!atomic_compare_exchange_strong(&s->ctl, &ctl, cut))
			return false;
		ctl = cut;
		atomic_store_explicit(cut_hint(seg, tier, w->pages), w->slab, memory_order_relaxed);
		atomic_store_explicit(free_hint(seg, tier), w->slab + 1, memory_order_relaxed);
	}
	if (ctl_state(ctl) != SLAB_CUT || ctl_pages(ctl) != w->pages)
		return false;
	w->gen = ctl_gen(ctl);
	w->next = 0;
	return true;
}

/* Nothing of this class nearby: look for a free slab; where none is, start elsewhere next time. */
static bool walk_turn(const struct dz_seg *seg, enum dz_tier tier, struct dz_chunk_walk *w,
		      uint32_t n)
{
	if (w->wants_free) {
		atomic_store_explicit(free_hint(seg, tier), w->slab, memory_order_relaxed);
		return false;
	}
	w->wants_free = true;
	w->slab = atomic_load_explicit(free_hint(seg, tier), memory_order_relaxed) % n;
	w->left = (uint32_t)dz_min_u64(n, LOOK_FREE);
	return true;
}

bool dz_slabs_next(const struct dz_seg *seg, enum dz_tier tier, struct dz_chunk_walk *w)
{
	uint32_t n = usable_slabs(seg, tier);

	if (w->pages == 0)
		return false; /* no such tier, or too many bytes */
	for (;;) {
		if (w->is_in_slab) {
			if (walk_slab(slab_at(seg, tier, w->slab), w))
				return true;
			w->is_in_slab = false;
			w->slab = (w->slab + 1) % n;
		}
		if (w->left == 0 && !walk_turn(seg, tier, w, n))
			return false;
		w->left--;
		w->is_in_slab = walk_enter(seg, tier, w);
		if (!w->is_in_slab)
			w->slab = (w->slab + 1) % n;
	}
}

bool dz_slabs_commit(const struct dz_seg *seg, enum dz_tier tier, const struct dz_chunk_walk *w)
{
	struct dz_slab *s = slab_at(seg, tier, w->page / DZ_SLAB_PAGES);
	uint32_t chunk = w->page % DZ_SLAB_PAGES / w->pages;
	_Atomic uint64_t *word = &s->bitmap[chunk / WORD_CHUNKS];
	uint64_t old = atomic_load_explicit(word, memory_order_acquire), now;

	do {
		if (!word_is_current(old, w->gen) || old & chunk_bit(chunk))
			return false;
		now = word_of(w->gen, (old & WORD_BITS) | chunk_bit(chunk));
	} while (!atomic_compare_exchange_weak(word, &old, now));
	account(seg, tier, w->pages, true);
	return true;
}

uint32_t dz_slabs_alloc(const struct dz_seg *seg, enum dz_tier tier, uint64_t bytes)
{
	struct dz_chunk_walk w;

	dz_slabs_walk(seg, tier, bytes, &w);
	while (dz_slabs_next(seg, tier, &w))
		if (dz_slabs_commit(seg, tier, &w))
			return w.page;
	return DZ_NONE;
}

/* ---- one chunk ---- */

/* The chunk that begins at page `off` of the slab; DZ_NONE when none does. */
static uint32_t chunk_at(uint64_t ctl, uint32_t off)
{
	uint32_t pages = ctl_pages(ctl);

	if (ctl_state(ctl) == SLAB_FREE || off % pages || off / pages >= DZ_SLAB_PAGES / pages)
		return DZ_NONE;
	return off / pages;
}

/* Clears the bit of the chunk at `page`, if it is set; *pages is the class then. */
static bool chunk_clear(struct dz_slab *s, uint32_t page, uint32_t *pages)
{
	for (uint32_t tries = 0; tries < CLEAR_TRIES; tries++) {
		uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
		uint32_t chunk = chunk_at(ctl, page % DZ_SLAB_PAGES);
		_Atomic uint64_t *word;
		uint64_t old;

		if (chunk == DZ_NONE)
			return false;
		word = &s->bitmap[chunk / WORD_CHUNKS];
		old = atomic_load_explicit(word, memory_order_acquire);
		while (word_is_current(old, ctl_gen(ctl))) {
			if (!(old & chunk_bit(chunk)))
				return false;
			if (!atomic_compare_exchange_weak(word, &old, old & ~chunk_bit(chunk)))
				continue;
			*pages = ctl_pages(ctl);
			return true;
		}
	}
	return false;
}

void dz_slabs_free(const struct dz_seg *seg, enum dz_tier tier, uint32_t page)
{
	uint32_t slab = page / DZ_SLAB_PAGES, pages;

	if (slab >= tier_slabs(seg, tier) || !chunk_clear(slab_at(seg, tier, slab), page, &pages))
		return;
	account(seg, tier, pages, false);
	atomic_store_explicit(cut_hint(seg, tier, pages), slab, memory_order_relaxed);
	slab_return(seg, tier, slab);
}

int dz_slabs_take(const struct dz_seg *seg, enum dz_tier tier, uint32_t page, uint64_t bytes)
{
	uint32_t slab = page / DZ_SLAB_PAGES, pages = dz_class_pages(bytes), chunk;
	uint64_t ctl, cut, bits;
	struct dz_slab *s;

	if (slab >= tier_slabs(seg, tier) || bytes > DZ_BLOCK_BYTES)
		return -EINVAL;
	s = slab_at(seg, tier, slab);
	ctl = atomic_load_explicit(&s->ctl, memory_order_relaxed);
	cut = slab_ctl(ctl_gen(ctl), SLAB_CUT, pages);
	chunk = chunk_at(cut, page % DZ_SLAB_PAGES);
	if (chunk == DZ_NONE || (ctl_state(ctl) != SLAB_FREE && ctl != cut))
		return -EEXIST;
	bits = atomic_load_explicit(&s->bitmap[chunk / WORD_CHUNKS], memory_order_relaxed);
	if (bits & chunk_bit(chunk))
		return -EEXIST;
	atomic_store_explicit(&s->bitmap[chunk / WORD_CHUNKS],
			      word_of(ctl_gen(ctl), (bits & WORD_BITS) | chunk_bit(chunk)),
			      memory_order_relaxed);
	atomic_store_explicit(&s->ctl, cut, memory_order_relaxed);
	return 0;
}

uint32_t dz_slabs_chunk_pages(const struct dz_seg *seg, enum dz_tier tier, uint32_t page)
{
	uint32_t slab = page / DZ_SLAB_PAGES;
	uint64_t ctl;

	if (slab >= tier_slabs(seg, tier))
		return 0;
	ctl = atomic_load_explicit(&slab_at(seg, tier, slab)->ctl, memory_order_acquire);
	return ctl_state(ctl) == SLAB_FREE ? 0 : ctl_pages(ctl);
}

bool dz_slabs_is_taken(const struct dz_seg *seg, enum dz_tier tier, uint32_t page)
{
	uint32_t slab = page / DZ_SLAB_PAGES, chunk;
	const struct dz_slab *s;
	uint64_t ctl;

	if (slab >= tier_slabs(seg, tier))
		return false;
	s = slab_at(seg, tier, slab);
	ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	chunk = chunk_at(ctl, page % DZ_SLAB_PAGES);
	return chunk != DZ_NONE &&
	       atomic_load_explicit(&s->bitmap[chunk / WORD_CHUNKS], memory_order_acquire) &
		       chunk_bit(chunk);
}

uint32_t dz_slabs_hint(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages)
{
	uint32_t n = tier_slabs(seg, tier);

	return n ? atomic_load_explicit(cut_hint(seg, tier, pages), memory_order_relaxed) % n : 0;
}

uint32_t dz_slabs_count(const struct dz_seg *seg, enum dz_tier tier, uint32_t slab)
{
	const struct dz_slab *s;
	uint32_t n = 0;

	if (slab >= tier_slabs(seg, tier))
		return 0;
	s = slab_at(seg, tier, slab);
	for (int i = 0; i < WORDS; i++)
		n += (uint32_t)__builtin_popcountll(
			atomic_load_explicit(&s->bitmap[i], memory_order_relaxed) & WORD_BITS);
	return n;
}

/* The slot that holds the chunk at `page`; DZ_NONE: none. */
static uint32_t page_slot(const struct dz_seg *seg, enum dz_tier tier, uint32_t page)
{
	uint32_t slot = page;

	if (tier == DZ_TIER_DISK) /* 0 - 1 is DZ_NONE */
		slot = atomic_load_explicit(&seg->disk_map[page], memory_order_acquire) - 1;
	if (slot >= (tier == DZ_TIER_DISK ? seg->n_disk_slots : seg->n_dram_slots))
		return DZ_NONE;
	return slot;
}

uint32_t dz_slabs_nth(const struct dz_seg *seg, enum dz_tier tier, uint32_t slab, uint32_t n,
		      uint32_t *slot)
{
	uint32_t count = dz_slabs_count(seg, tier, slab), page;
	const struct dz_slab *s;
	uint64_t ctl;

	if (count == 0)
		return DZ_NONE;
	s = slab_at(seg, tier, slab);
	ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	n %= count;
	for (uint32_t i = 0; i < WORDS; i++) {
		uint64_t bits =
			atomic_load_explicit(&s->bitmap[i], memory_order_acquire) & WORD_BITS;
		uint32_t here = (uint32_t)__builtin_popcountll(bits);

		if (n >= here) {
			n -= here;
			continue;
		}
		while (n-- > 0)
			bits &= bits - 1;
		page = (i * WORD_CHUNKS + (uint32_t)__builtin_ctzll(bits)) * ctl_pages(ctl);
		if (page >= DZ_SLAB_PAGES)
			return DZ_NONE;
		page += slab * DZ_SLAB_PAGES;
		*slot = page_slot(seg, tier, page);
		return *slot == DZ_NONE ? DZ_NONE : page;
	}
	return DZ_NONE;
}

/* ---- repair ---- */

/* A block that the index does not lead to. */
static bool slot_is_lost(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	const struct dz_slot *s = dz_slot_of(seg, tier, slot);
	struct dz_key key = { atomic_load_explicit(&s->key_lo, memory_order_acquire),
			      atomic_load_explicit(&s->key_hi, memory_order_acquire) };
	uint64_t ctl;

	return dz_index_find(seg, key, tier, &ctl) != slot;
}

/* The chunk at `page`, and the slot that holds or held it. */
static bool scrub_chunk(const struct dz_seg *seg, enum dz_tier tier, uint32_t page)
{
	bool is_taken = dz_slabs_is_taken(seg, tier, page);
	uint32_t slot = page_slot(seg, tier, page);
	uint64_t ctl;

	if (slot == DZ_NONE)
		return false;
	ctl = atomic_load_explicit(&dz_slot_of(seg, tier, slot)->ctl, memory_order_acquire);
	switch (dz_ctl_state(ctl)) {
	case DZ_SLOT_FREE:
		return is_taken && dz_slot_free_orphan(seg, tier, slot, page);
	case DZ_SLOT_READY:
		return is_taken && slot_is_lost(seg, tier, slot) && dz_slot_evict(seg, tier, slot);
	case DZ_SLOT_EVICTING: /* killed after it cleared the bit: not taken any more */
		return !dz_member_is_alive(seg, dz_ctl_owner(ctl)) &&
		       dz_slot_reap(seg, tier, slot, ctl);
	default:
		return false; /* its owner's, or whoever recovers the owner */
	}
}

void dz_slabs_reset(const struct dz_seg *seg, enum dz_tier tier)
{
	for (uint32_t slab = 0; slab < tier_slabs(seg, tier); slab++) {
		struct dz_slab *s = slab_at(seg, tier, slab);
		uint64_t gen = ctl_gen(atomic_load_explicit(&s->ctl, memory_order_relaxed)) + 1;

		for (int i = 0; i < WORDS; i++)
			atomic_store_explicit(&s->bitmap[i], word_of(gen, 0), memory_order_relaxed);
		atomic_store_explicit(&s->ctl, slab_ctl(gen, SLAB_FREE, 1), memory_order_relaxed);
	}
}

/* What kills took off the counters; what others allocate meanwhile may be missed. */
void dz_slabs_recount(const struct dz_seg *seg, enum dz_tier tier)
{
	bool is_dram = tier == DZ_TIER_DRAM;
	uint64_t bytes = 0;
	uint32_t chunks = 0;

	for (uint32_t slab = 0; slab < tier_slabs(seg, tier); slab++) {
		uint32_t n = dz_slabs_count(seg, tier, slab);

		chunks += n;
		bytes += (uint64_t)n * DZ_PAGE *
			 dz_slabs_chunk_pages(seg, tier, slab * DZ_SLAB_PAGES);
	}
	atomic_store_explicit(is_dram ? &seg->hdr->dram_used : &seg->hdr->disk_used,
			      dz_min_u64(bytes, is_dram ? seg->dram_bytes : seg->disk_bytes),
			      memory_order_relaxed);
	atomic_store_explicit(&seg->hdr->chunks[tier], chunks, memory_order_relaxed);
}

/*
 * A disk slot that no chunk leads to.  One that is being filled and has its
 * chunk is left to whoever knows that no write to it is under way any more.
 */
static bool scrub_disk_slot(const struct dz_seg *seg, uint32_t slot)
{
	const struct dz_slot *s = &seg->disk_slots[slot];
	uint64_t ctl = atomic_load_explicit(&s->ctl, memory_order_acquire);
	uint32_t page = atomic_load_explicit(&s->page, memory_order_relaxed);
	bool is_filling = dz_ctl_state(ctl) == DZ_SLOT_FILLING;

	if ((!is_filling && dz_ctl_state(ctl) != DZ_SLOT_EVICTING) ||
	    dz_member_is_alive(seg, dz_ctl_owner(ctl)))
		return false;
	if (!is_filling)
		return dz_slot_reap(seg, DZ_TIER_DISK, slot, ctl);
	return (page / DZ_SLAB_PAGES >= seg->n_disk_slabs ||
		page_slot(seg, DZ_TIER_DISK, page) != slot) &&
	       dz_slot_discard(seg, DZ_TIER_DISK, slot, ctl);
}

/* The part of the disk's slots that slabs [first, first + n) are of all slabs. */
static uint32_t scrub_disk_slots(const struct dz_seg *seg, uint32_t first, uint32_t n)
{
	uint64_t all = seg->n_disk_slabs, freed = 0;
	uint64_t from = (uint64_t)first * seg->n_disk_slots / all;
	uint64_t to = dz_min_u64((uint64_t)first + n, all) * seg->n_disk_slots / all;

	for (uint64_t slot = from; slot < to; slot++)
		freed += scrub_disk_slot(seg, (uint32_t)slot);
	return (uint32_t)freed;
}

uint32_t dz_slabs_scrub(const struct dz_seg *seg, enum dz_tier tier, uint32_t first, uint32_t n)
{
	uint32_t freed = 0;

	for (uint32_t slab = first; slab < tier_slabs(seg, tier) && slab - first < n; slab++) {
		uint64_t ctl = slab_load(slab_at(seg, tier, slab));
		uint32_t base = slab * DZ_SLAB_PAGES;

		if (ctl_state(ctl) != SLAB_CUT)
			continue;
		for (uint32_t off = 0; off < DZ_SLAB_PAGES; off += ctl_pages(ctl))
			freed += scrub_chunk(seg, tier, base + off);
		slab_return(seg, tier, slab);
	}
	if (tier == DZ_TIER_DISK && first < seg->n_disk_slabs)
		freed += scrub_disk_slots(seg, first, n);
	if (first == 0 && n >= tier_slabs(seg, tier))
		dz_slabs_recount(seg, tier);
	return freed;
}
