/* SPDX-License-Identifier: MIT */
/*
 * The policy.  Frequencies live in a table of 16-bit words, direct mapped by
 * key, so a block that is not here has one too.  A new block enters a window,
 * the last 5 % of the fills.  When room is needed, the oldest of the window is
 * weighed against the worst of 8 random blocks outside: it displaces that one
 * if its count is higher by more than 1, or if that one's data set is idle;
 * else it goes itself.
 *
 * Why the margin: in a shuffled epoch the counts of all blocks differ by one at
 * most (seen in this epoch, or not yet), so nobody is displaced and the part
 * that stays is hit in every epoch, which is the optimum.  With skewed use the
 * counts differ by more, and the rarely used go.
 *
 * Where what is popular changes faster than counts age, LRU would do better. It
 * is told from the ages of the words at each access: what was used less than a
 * capacity ago, LRU would have.  While it leads, as many evictions go by
 * recency as it takes to catch up.
 *
 * Ageing is by the age of a word, when it is read: counts are halved for each
 * `half` of time since the last access.  Halving all at once would part the
 * counts of equals, and they would begin to displace each other.
 *
 * Everything here is a hint in shared memory: a lost or torn update, or one of
 * an enemy, costs hits and nothing else.
 */
#include "cache/evict.h"

#include "cache/index.h"
#include "cache/pins.h"
#include "cache/slabs.h"

#include <errno.h>

#define COUNT_MAX DZ_EVICT_COUNT_MAX
#define SAMPLE	  DZ_EVICT_SAMPLE
#define TICK_BITS 12
#define TICK_MASK ((1u << TICK_BITS) - 1)
/* Random slabs looked at for a sample of one class; entries of the window
 * likewise. */
#define LOOK_SLABS  64u
#define LOOK_WINDOW 64u
/* The clock of the table: 1/8 of the capacity a unit, so that 64 capacities are
 * within 12 bits. */
#define UNITS_A_CAPACITY 8u
/* Blocks that a cache has at least, for all that is reckoned in capacities. */
#define CAPACITY_MIN 64u
/* Of 65536: LRU's lead that may be chance, and the one from which it alone
 * decides. */
#define LEAD_USUAL 640
#define LEAD_STEP  8 /* for each of 256 evictions */
#define ROOM_TRIES 8u
#define PART_ONE   65536u

/* ---- decisions ---- */

static uint32_t word_age(uint16_t word, uint32_t now)
{
	return (now - word) & TICK_MASK;
}

uint32_t dz_evict_freq(uint16_t word, uint32_t now, uint32_t half)
{
	uint32_t halvings = word_age(word, now) / (half ? half : 1);

	return halvings > 3 ? 0 : (uint32_t)word >> TICK_BITS >> halvings;
}

uint16_t dz_evict_bump(uint16_t word, uint32_t now, uint32_t half)
{
	uint32_t count = dz_evict_freq(word, now, half);

	count += count < COUNT_MAX;
	return (uint16_t)(count << TICK_BITS | (now & TICK_MASK));
}

uint32_t dz_evict_half(uint64_t capacity, uint64_t footprint, uint32_t age_shift)
{
	uint64_t ticks = dz_max_u64(footprint * 5 / 2, capacity * DZ_EVICT_HALF_MIN);
	uint64_t units = dz_min_u64(ticks, capacity * DZ_EVICT_HALF_MAX) >> age_shift;

	return (uint32_t)dz_min_u64(dz_max_u64(units, 1), TICK_MASK / 4);
}

uint32_t dz_evict_by_recency(int32_t lead)
{
	int32_t n = (lead - LEAD_USUAL) / LEAD_STEP;

	return n < 0 ? 0 : n > 256 ? 256 : (uint32_t)n;
}

uint64_t dz_evict_idle_after(uint64_t capacity, uint32_t gap)
{
	uint64_t usual = dz_max_u64(capacity / DZ_EVICT_IDLE_PART, 2 * (uint64_t)gap);

	return dz_min_u64(usual, capacity);
}

bool dz_evict_goes_before(struct dz_evict_view a, struct dz_evict_view b)
{
	if (a.is_idle != b.is_idle)
		return a.is_idle;
	return a.freq != b.freq ? a.freq < b.freq : a.age > b.age;
}

bool dz_evict_displaces(struct dz_evict_view newcomer, struct dz_evict_view block)
{
	if (newcomer.is_idle != block.is_idle)
		return block.is_idle;
	return newcomer.freq > block.freq + DZ_EVICT_MARGIN;
}

/* ---- what the decisions are made from ---- */

/* How one call sees the cache. */
struct scene {
	const struct dz_seg *seg;
	enum dz_tier tier;
	uint64_t rnd;
	uint64_t capacity; /* blocks, when full; at least CAPACITY_MIN */
	uint32_t tick, shift, half;
	uint32_t window; /* its length */
	bool by_recency; /* this time */
	bool any_block;	 /* even one of the window: nothing else was found */
};

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static uint32_t random_below(struct scene *c, uint32_t n)
{
	return (uint32_t)((next_random(&c->rnd) >> 32) * n >> 32);
}

/* Blocks that the tier holds when it is full, by the mean size of those in it.
 */
static uint64_t tier_capacity(const struct dz_seg *seg, enum dz_tier tier)
{
	bool is_dram = tier == DZ_TIER_DRAM;
	uint64_t used = atomic_load_explicit(is_dram ? &seg->hdr->dram_used : &seg->hdr->disk_used,
					     memory_order_relaxed);
	uint64_t n = atomic_load_explicit(&seg->hdr->chunks[tier], memory_order_relaxed);
	uint64_t bytes = is_dram ? seg->dram_bytes : seg->disk_bytes;
	uint64_t mean = used / (n ? n : 1);

	if (mean < DZ_PAGE || mean > DZ_BLOCK_BYTES)
		mean = DZ_BLOCK_BYTES;
	return bytes / mean;
}

/* The clock's unit follows the capacity, but only when it is off by 4: old
 * words lose their age. */
static uint32_t choose_shift(const struct dz_seg *seg)
{
	uint64_t blocks = dz_max_u64(tier_capacity(seg, DZ_TIER_DRAM),
				     seg->n_disk_slabs ? tier_capacity(seg, DZ_TIER_DISK) : 0);
	uint32_t want =
		63 - (uint32_t)__builtin_clzll(dz_max_u64(blocks, CAPACITY_MIN) / UNITS_A_CAPACITY);
	uint32_t is = atomic_load_explicit(&seg->hdr->age_shift, memory_order_relaxed);

	if (is != 0 && is <= 32 && is - 1 < want + 2 && want < is - 1 + 2)
		return is - 1;
	want = want > 31 ? 31 : want;
	atomic_store_explicit(&seg->hdr->age_shift, want + 1, memory_order_relaxed);
	return want;
}

static uint64_t footprint_blocks(const struct dz_seg *seg)
{
	uint64_t part = atomic_load_explicit(&seg->hdr->footprint, memory_order_relaxed);

	part = dz_min_u64(part, PART_ONE);
	/* several keys may share a word: about -ln(1 - part) of them */
	return (uint64_t)seg->n_freq * part * 2 / (2 * PART_ONE - part);
}

static uint32_t half_of(const struct dz_seg *seg, enum dz_tier tier, uint32_t shift)
{
	return dz_evict_half(dz_max_u64(tier_capacity(seg, tier), CAPACITY_MIN),
			     footprint_blocks(seg), shift);
}

static _Atomic uint16_t *freq_word(const struct dz_seg *seg, struct dz_key key)
{
	uint64_t h = (key.lo ^ key.hi * 0x9e3779b97f4a7c15ull) * 0xd6e8feb86659fd93ull;

	return &seg->freq[(h >> 32) & (seg->n_freq - 1)];
}

uint32_t dz_evict_count(const struct dz_seg *seg, enum dz_tier tier, struct dz_key key)
{
	uint32_t tick = atomic_load_explicit(&seg->hdr->tick, memory_order_relaxed);
	uint32_t shift = dz_evict_shift(seg);

	return dz_evict_freq(atomic_load_explicit(freq_word(seg, key), memory_order_relaxed),
			     tick >> shift, half_of(seg, tier, shift));
}

static void scene_set(struct scene *c, const struct dz_seg *seg, enum dz_tier tier)
{
	uint64_t head = atomic_load_explicit(&seg->hdr->window_head, memory_order_relaxed);

	c->seg = seg;
	c->tier = tier;
	c->tick = atomic_load_explicit(&seg->hdr->tick, memory_order_relaxed);
	c->rnd = (((uint64_t)c->tick << 32 | 1) + head * 0x9e3779b97f4a7c15ull) ^ (uintptr_t)c >> 4;
	c->rnd += !c->rnd;
	next_random(&c->rnd);
	c->capacity = tier_capacity(seg, tier);
	c->window = (uint32_t)dz_max_u64(
		dz_min_u64(c->capacity / DZ_EVICT_WINDOW_PART, seg->n_window), 1);
	c->capacity = dz_max_u64(c->capacity, CAPACITY_MIN);
	c->shift = choose_shift(seg);
	c->by_recency = c->any_block = false;
	c->half = half_of(seg, tier, c->shift);
}

static bool choose_recency(struct scene *c)
{
	uint32_t lead = atomic_load_explicit(&c->seg->hdr->lead[c->tier], memory_order_relaxed);

	return random_below(c, 256) < dz_evict_by_recency((int32_t)(lead - PART_ONE));
}

/* Looks at a few words of the table, to follow how much of it is in use. */
static void scene_measure(struct scene *c)
{
	_Atomic uint32_t *footprint = &c->seg->hdr->footprint;
	uint32_t part = atomic_load_explicit(footprint, memory_order_relaxed);
	uint64_t recent = c->capacity * DZ_EVICT_HALF_MAX >> c->shift;
	uint32_t in_use = 0;

	for (uint32_t i = 0; i < SAMPLE; i++) {
		uint16_t w = atomic_load_explicit(&c->seg->freq[random_below(c, c->seg->n_freq)],
						  memory_order_relaxed);

		in_use += w != 0 && word_age(w, c->tick >> c->shift) <= recent;
	}
	part += in_use * (PART_ONE / SAMPLE) / 64;
	part -= part / 65;
	atomic_store_explicit(footprint, part, memory_order_relaxed);
}

static bool group_is_idle(const struct scene *c, uint32_t group)
{
	const struct dz_seg_header *h = c->seg->hdr;
	uint32_t last =
		atomic_load_explicit(&h->group_tick[group % DZ_GROUPS], memory_order_relaxed);
	uint32_t gap = atomic_load_explicit(&h->group_gap[group % DZ_GROUPS], memory_order_relaxed);
	uint32_t since = c->tick - last;

	return since < UINT32_MAX / 2 && since > dz_evict_idle_after(c->capacity, gap);
}

static struct dz_evict_view view_of(const struct scene *c, struct dz_key key, uint32_t group,
				    uint32_t tick)
{
	uint16_t w = atomic_load_explicit(freq_word(c->seg, key), memory_order_relaxed);

	return (struct dz_evict_view){
		.is_idle = group_is_idle(c, group),
		.freq = c->by_recency ? 0 : dz_evict_freq(w, c->tick >> c->shift, c->half),
		.age = c->tick - tick,
	};
}

static struct dz_evict_view view_of_slot(const struct scene *c, uint32_t slot)
{
	const struct dz_slot *s = dz_slot_of(c->seg, c->tier, slot);
	struct dz_key key = { atomic_load_explicit(&s->key_lo, memory_order_relaxed),
			      atomic_load_explicit(&s->key_hi, memory_order_relaxed) };

	return view_of(c, key, atomic_load_explicit(&s->group, memory_order_relaxed),
		       atomic_load_explicit(&s->tick, memory_order_relaxed));
}

/* Ready, and not kept by a mapping. */
static bool slot_may_go(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	uint64_t ctl =
		atomic_load_explicit(&dz_slot_of(seg, tier, slot)->ctl, memory_order_relaxed);

	return dz_ctl_state(ctl) == DZ_SLOT_READY &&
	       !(tier == DZ_TIER_DRAM && dz_slab_seems_mapped(seg, slot / DZ_SLAB_PAGES));
}

/* ---- accesses ---- */

/* Ticks in which a second access of the same block is taken for part of the
 * first. */
static void touch_group(const struct dz_seg *seg, uint32_t group, uint32_t tick, uint32_t period)
{
	_Atomic uint32_t *last = &seg->hdr->group_tick[group % DZ_GROUPS];
	_Atomic uint32_t *gap = &seg->hdr->group_gap[group % DZ_GROUPS];
	uint32_t was = atomic_load_explicit(last, memory_order_relaxed);

	if (tick - was < period)
		return;
	if (was != 0 && tick - was > atomic_load_explicit(gap, memory_order_relaxed))
		atomic_store_explicit(gap, tick - was, memory_order_relaxed);
	atomic_store_explicit(last, tick, memory_order_relaxed);
}

/*
 * Would LRU have had the block, which was used last `age` units ago?  An age of
 * one capacity is less than LRU reaches, so it is not favoured.
 */
static void learn(const struct dz_seg *seg, enum dz_tier tier, bool was_hit, uint32_t age,
		  uint32_t shift)
{
	_Atomic uint32_t *lead = &seg->hdr->lead[tier];
	uint64_t reach = tier_capacity(seg, tier) >> shift;
	int32_t is = (int32_t)atomic_load_explicit(lead, memory_order_relaxed), now;

	if (reach < 2)
		return; /* a small tier beside a large one: the clock is too coarse */
	now = (int32_t)PART_ONE * (1 + (age <= reach) - was_hit);
	is = is < 0 || is > 2 * (int32_t)PART_ONE ? 0 : is;
	atomic_store_explicit(lead, (uint32_t)(is + (now - is) / 256), memory_order_relaxed);
}

/* The clock goes on by 1 an access; in steps, that not every access writes
 * there. */
static bool advance(const struct dz_seg *seg, uint32_t slot, uint32_t tick, uint32_t period)
{
	uint32_t step = period >= 64 ? 16 : period >= 16 ? 4 : 1;
	uint64_t x = ((uint64_t)tick << 32 | slot) * 0x9e3779b97f4a7c15ull;

	if (((x ^ x >> 29) >> 8) % step != 0)
		return false;
	atomic_fetch_add_explicit(&seg->hdr->tick, step, memory_order_relaxed);
	return true;
}

void dz_evict_touch(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	struct dz_slot *s = dz_slot_of(seg, tier, slot);
	uint32_t tick = atomic_load_explicit(&seg->hdr->tick, memory_order_relaxed);
	uint32_t shift = dz_evict_shift(seg), period = dz_evict_period(shift), last;
	struct dz_key key;
	_Atomic uint16_t *word;
	uint16_t w;

	if (seg->is_read_only || !dz_evict_is_due(seg, s))
		return;
	touch_group(seg, atomic_load_explicit(&s->group, memory_order_relaxed), tick, period);
	last = atomic_load_explicit(&s->tick, memory_order_relaxed);
	atomic_store_explicit(&s->tick, tick ? tick : 1, memory_order_relaxed);
	key.lo = atomic_load_explicit(&s->key_lo, memory_order_relaxed);
	key.hi = atomic_load_explicit(&s->key_hi, memory_order_relaxed);
	word = freq_word(seg, key);
	w = atomic_load_explicit(word, memory_order_relaxed);
	if (advance(seg, slot, tick, period))
		learn(seg, tier, last != 0, w ? word_age(w, tick >> shift) : TICK_MASK, shift);
	w = dz_evict_bump(w, tick >> shift, half_of(seg, tier, shift));
	atomic_store_explicit(word, w, memory_order_relaxed);
}

static _Atomic uint32_t *fresh_of(const struct dz_seg *seg, uint32_t pages)
{
	return &seg->hdr->fresh[dz_class_number(pages)];
}

void dz_evict_filled(const struct dz_seg *seg, enum dz_tier tier, uint32_t slot)
{
	struct dz_slot *s = dz_slot_of(seg, tier, slot);
	uint32_t tick = atomic_load_explicit(&seg->hdr->tick, memory_order_relaxed);
	uint32_t period = dz_evict_period(choose_shift(seg));
	uint64_t n;

	touch_group(seg, atomic_load_explicit(&s->group, memory_order_relaxed), tick, period);
	/* born before: it only got more pieces */
	if (tier != DZ_TIER_DRAM || atomic_load_explicit(&s->born, memory_order_relaxed) != 0)
		return;
	n = atomic_fetch_add_explicit(&seg->hdr->window_head, 1, memory_order_relaxed);
	atomic_store_explicit(&s->born, (uint32_t)n + 1, memory_order_relaxed);
	atomic_store_explicit(&seg->window[n % seg->n_window], slot + 1, memory_order_relaxed);
	atomic_store_explicit(fresh_of(seg, dz_slabs_chunk_pages(seg, tier, slot)), slot + 1,
			      memory_order_relaxed);
}

/* ---- the window ---- */

static bool is_in_window(const struct scene *c, uint32_t slot)
{
	uint32_t head =
		(uint32_t)atomic_load_explicit(&c->seg->hdr->window_head, memory_order_relaxed);
	uint32_t born =
		atomic_load_explicit(&dz_dram_slot(c->seg, slot)->born, memory_order_relaxed);

	return c->tier == DZ_TIER_DRAM && !c->any_block && head - born < c->window;
}

/* The block has stood its test: from now on it is one of the others. */
static void leave_window(const struct scene *c, uint32_t slot)
{
	uint32_t head =
		(uint32_t)atomic_load_explicit(&c->seg->hdr->window_head, memory_order_relaxed);

	atomic_store_explicit(&dz_dram_slot(c->seg, slot)->born, head - UINT32_MAX / 2,
			      memory_order_relaxed);
}

static bool is_of_class(const struct scene *c, uint32_t slot, uint32_t pages)
{
	return slot < c->seg->n_dram_slots && slot_may_go(c->seg, c->tier, slot) &&
	       (pages == 0 || dz_slabs_chunk_pages(c->seg, c->tier, slot) == pages);
}

/* The block of the class that was filled last, unless it has been tested. */
static uint32_t last_filled(const struct scene *c, uint32_t pages)
{
	const struct dz_seg *seg = c->seg;
	uint32_t head =
		(uint32_t)atomic_load_explicit(&seg->hdr->window_head, memory_order_relaxed);
	uint32_t slot = atomic_load_explicit(fresh_of(seg, pages), memory_order_relaxed) - 1;

	if (pages == 0 || !is_of_class(c, slot, pages) ||
	    head - atomic_load_explicit(&dz_dram_slot(seg, slot)->born, memory_order_relaxed) >
		    UINT32_MAX / 4)
		return DZ_NONE;
	return slot;
}

/*
 * The oldest block of the window that has the class.  A class of which the
 * window holds none, as happens when there are many, has a window of one block.
 */
static uint32_t oldest_in_window(const struct scene *c, uint32_t pages)
{
	const struct dz_seg *seg = c->seg;
	uint64_t head = atomic_load_explicit(&seg->hdr->window_head, memory_order_relaxed);
	uint32_t len = c->window;

	if (c->tier != DZ_TIER_DRAM || head < len)
		return DZ_NONE;
	for (uint32_t k = 0; k < len && k < LOOK_WINDOW; k++) {
		uint64_t n = head - len + k;
		uint32_t slot = atomic_load_explicit(&seg->window[n % seg->n_window],
						     memory_order_relaxed) -
				1;

		if (is_of_class(c, slot, pages) &&
		    atomic_load_explicit(&dz_dram_slot(seg, slot)->born, memory_order_relaxed) ==
			    (uint32_t)n + 1)
			return slot;
	}
	return last_filled(c, pages);
}

/* ---- victims ---- */

struct victim {
	uint32_t slot; /* DZ_NONE: none found */
	uint32_t page;
	struct dz_evict_view view;
};

static void weigh(const struct scene *c, uint32_t slot, uint32_t page, struct victim *worst)
{
	struct dz_evict_view view = view_of_slot(c, slot);

	if (worst->slot == DZ_NONE || dz_evict_goes_before(view, worst->view))
		*worst = (struct victim){ slot, page, view };
}

/* A random block of the slab, outside the window; DZ_NONE: that one is none. */
static uint32_t random_block(struct scene *c, uint32_t slab, uint32_t *page)
{
	uint32_t slot;

	*page = dz_slabs_nth(c->seg, c->tier, slab, random_below(c, DZ_SLAB_PAGES), &slot);
	if (*page == DZ_NONE || !slot_may_go(c->seg, c->tier, slot) || is_in_window(c, slot))
		return DZ_NONE;
	return slot;
}

/*
 * The worst of SAMPLE blocks of the class (0: any), and the worst of as many
 * others met on the way.
 */
static void sample(struct scene *c, uint32_t pages, struct victim *same, struct victim *other)
{
	uint32_t n = c->tier == DZ_TIER_DRAM ? c->seg->n_dram_slabs : c->seg->n_disk_slabs;
	uint32_t n_same = 0, slab, slot, page;

	same->slot = other->slot = DZ_NONE;
	for (uint32_t i = 0; n > 0 && i < LOOK_SLABS && n_same < SAMPLE; i++) {
		slab = random_below(c, n);
		/* a rare class: where it was last seen */
		if (i == 0 && pages != 0)
			slab = dz_slabs_hint(c->seg, c->tier, pages);
		slot = random_block(c, slab, &page);
		if (slot == DZ_NONE)
			continue;
		if (pages == 0 || dz_slabs_chunk_pages(c->seg, c->tier, page) == pages) {
			weigh(c, slot, page, same);
			n_same++;
		} else {
			weigh(c, slot, page, other);
		}
	}
}

static bool evict_one(const struct scene *c, uint32_t slot)
{
	if (!dz_slot_evict(c->seg, c->tier, slot))
		return false;
	atomic_fetch_add_explicit(&c->seg->hdr->evictions, 1, memory_order_relaxed);
	return true;
}

/* The mean of a slab's blocks; false when one of them cannot go now. */
static bool view_of_slab(const struct scene *c, uint32_t slab, struct dz_evict_view *mean)
{
	uint32_t n = dz_slabs_count(c->seg, c->tier, slab), idle = 0, slot;

	*mean = (struct dz_evict_view){ .freq = 0 };
	for (uint32_t i = 0; i < n; i++) {
		struct dz_evict_view view;

		if (dz_slabs_nth(c->seg, c->tier, slab, i, &slot) == DZ_NONE ||
		    !slot_may_go(c->seg, c->tier, slot))
			return false;
		view = view_of_slot(c, slot);
		mean->freq += view.is_idle ? 0 : view.freq;
		idle += view.is_idle;
	}
	if (n == 0)
		return false;
	mean->freq = (mean->freq + n - 1) / n;
	mean->is_idle = idle == n;
	return true;
}

/* Empties a slab of another class, so that it can be cut anew. */
static bool evict_slab(const struct scene *c, uint32_t slab)
{
	uint32_t n = dz_slabs_count(c->seg, c->tier, slab), slot;
	bool any = false;

	for (uint32_t i = n; i-- > 0;)
		if (dz_slabs_nth(c->seg, c->tier, slab, i, &slot) != DZ_NONE)
			any |= evict_one(c, slot);
	return any;
}

/* Does `block`, which would go, rather displace the whole slab of `other`? */
static bool should_convert(const struct scene *c, struct dz_evict_view block,
			   const struct victim *other)
{
	struct dz_evict_view slab;

	return other->slot != DZ_NONE && !c->by_recency && dz_evict_displaces(block, other->view) &&
	       view_of_slab(c, other->page / DZ_SLAB_PAGES, &slab) &&
	       dz_evict_displaces(block, slab);
}

/* Nothing of the class can go: a slab of another. */
static bool convert(const struct scene *c, const struct victim *other)
{
	struct dz_evict_view slab;

	return other->slot != DZ_NONE && view_of_slab(c, other->page / DZ_SLAB_PAGES, &slab) &&
	       evict_slab(c, other->page / DZ_SLAB_PAGES);
}

/* One attempt: the window's oldest, a block of the class, or a slab of another.
 */
static bool make_room_once(struct scene *c, uint32_t pages)
{
	struct victim same, other, loser = { .slot = oldest_in_window(c, pages) };
	bool is_new = loser.slot != DZ_NONE;

	sample(c, pages, &same, &other);
	if (is_new) {
		loser.view = view_of_slot(c, loser.slot);
		leave_window(c, loser.slot);
	}
	if (same.slot != DZ_NONE &&
	    (!is_new || c->by_recency || dz_evict_displaces(loser.view, same.view))) {
		loser = same;
		is_new = false;
	}
	if (loser.slot == DZ_NONE)
		return convert(c, &other);
	if (should_convert(c, loser.view, &other))
		return evict_slab(c, other.page / DZ_SLAB_PAGES);
	if (is_new)
		atomic_fetch_add_explicit(&c->seg->hdr->rejects, 1, memory_order_relaxed);
	return evict_one(c, loser.slot);
}

int dz_evict_make_room(const struct dz_seg *seg, enum dz_tier tier, uint32_t pages)
{
	struct scene c;

	if (tier != DZ_TIER_DRAM && tier != DZ_TIER_DISK)
		return -EAGAIN;
	scene_set(&c, seg, tier);
	scene_measure(&c);
	c.by_recency = choose_recency(&c);
	for (uint32_t tries = 0; tries < ROOM_TRIES; tries++) {
		if (make_room_once(&c, pages))
			return 0;
		c.any_block = true;
	}
	/* Who tries again looks at others. */
	atomic_fetch_add_explicit(&seg->hdr->tick, 1, memory_order_relaxed);
	return -EAGAIN;
}

bool dz_evict_admits(const struct dz_seg *seg, enum dz_tier tier, struct dz_key key, uint32_t group)
{
	bool is_dram = tier == DZ_TIER_DRAM;
	uint64_t used = atomic_load_explicit(is_dram ? &seg->hdr->dram_used : &seg->hdr->disk_used,
					     memory_order_relaxed);
	struct dz_evict_view view;
	struct victim same, other;
	struct scene c;

	if (used + DZ_BLOCK_BYTES <= (is_dram ? seg->dram_bytes : seg->disk_bytes))
		return true;
	scene_set(&c, seg, tier);
	c.by_recency = choose_recency(&c);
	view = view_of(&c, key, group, c.tick);
	view.is_idle = false;
	sample(&c, 0, &same, &other);
	if (same.slot == DZ_NONE || c.by_recency || dz_evict_displaces(view, same.view))
		return true;
	atomic_fetch_add_explicit(&seg->hdr->rejects, 1, memory_order_relaxed);
	return false;
}
