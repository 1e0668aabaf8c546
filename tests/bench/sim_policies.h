/* SPDX-License-Identifier: MIT */
/*
 * The policies that the simulator compares with, as published, on blocks of one
 * size that are numbered from 0.  Each is a make() and an access() that tells
 * whether the block was there.
 */
#ifndef DZ_BENCH_SIM_POLICIES_H
#define DZ_BENCH_SIM_POLICIES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct trace {
	uint32_t *id;
	uint32_t n, n_ids;
	uint32_t from, to; /* accesses that count */
	uint32_t capacity;
	const uint8_t *group; /* of each block */
};

/* ---- queues of block numbers; a block is in one at most ---- */

#define NOWHERE 255

struct queues {
	uint32_t *prev, *next;
	uint8_t *where;	   /* which queue, or NOWHERE */
	uint8_t *count;	   /* of accesses, for those that count */
	uint32_t size[6];  /* of each queue */
	uint32_t n, c;	   /* blocks, capacity */
	uint32_t p, hand;  /* ARC's target; SIEVE's and CLOCK's hand */
	uint32_t accesses; /* W-TinyLFU: since the last halving */
};

/* The sentinel of queue q: its next is the head (newest), its prev the tail. */
static inline uint32_t end_of(const struct queues *s, int q)
{
	return s->n + (uint32_t)q;
}

static inline void *policy_make(const struct trace *t)
{
	struct queues *s = calloc(1, sizeof(*s));

	s->n = t->n_ids;
	s->c = t->capacity;
	s->prev = calloc(s->n + 6, sizeof(*s->prev));
	s->next = calloc(s->n + 6, sizeof(*s->next));
	s->where = malloc(s->n);
	s->count = calloc(s->n, 1);
	for (uint32_t i = 0; i < s->n; i++)
		s->where[i] = NOWHERE;
	for (int q = 0; q < 6; q++)
		s->prev[end_of(s, q)] = s->next[end_of(s, q)] = end_of(s, q);
	s->hand = end_of(s, 0);
	return s;
}

static inline void policy_drop(void *p)
{
	struct queues *s = p;

	free(s->prev);
	free(s->next);
	free(s->where);
	free(s->count);
	free(s);
}

static inline void push(struct queues *s, int q, uint32_t id)
{
	uint32_t e = end_of(s, q), first = s->next[e];

	s->next[e] = s->prev[first] = id;
	s->prev[id] = e;
	s->next[id] = first;
	s->where[id] = (uint8_t)q;
	s->size[q]++;
}

static inline void pull(struct queues *s, uint32_t id)
{
	s->size[s->where[id]]--;
	s->next[s->prev[id]] = s->next[id];
	s->prev[s->next[id]] = s->prev[id];
	s->where[id] = NOWHERE;
}

static inline uint32_t tail(const struct queues *s, int q)
{
	return s->prev[end_of(s, q)];
}

static inline void move(struct queues *s, int q, uint32_t id)
{
	pull(s, id);
	push(s, q, id);
}

/* ---- LRU, CLOCK, SIEVE ---- */

static inline bool lru_access(void *p, uint32_t id)
{
	struct queues *s = p;

	if (s->where[id] == 0) {
		move(s, 0, id);
		return true;
	}
	if (s->size[0] == s->c)
		pull(s, tail(s, 0));
	push(s, 0, id);
	return false;
}

static inline bool clock_access(void *p, uint32_t id)
{
	struct queues *s = p;

	if (s->where[id] == 0) {
		s->count[id] = 1;
		return true;
	}
	while (s->size[0] == s->c) {
		uint32_t v = tail(s, 0);

		if (s->count[v])
			move(s, 0, v);
		else
			pull(s, v);
		s->count[v] = 0;
	}
	push(s, 0, id);
	return false;
}

static inline bool sieve_access(void *p, uint32_t id)
{
	struct queues *s = p;

	if (s->where[id] == 0) {
		s->count[id] = 1;
		return true;
	}
	if (s->size[0] == s->c) {
		uint32_t v = s->hand == end_of(s, 0) ? tail(s, 0) : s->hand;

		while (s->count[v]) {
			s->count[v] = 0;
			v = s->prev[v];
			if (v == end_of(s, 0))
				v = tail(s, 0);
		}
		s->hand = s->prev[v];
		pull(s, v);
	}
	push(s, 0, id);
	return false;
}

/* ---- S3-FIFO: small 0 (a tenth), main 1, ghosts 2 (as many as main) ---- */

static inline void s3_evict_main(struct queues *s)
{
	for (;;) {
		uint32_t v = tail(s, 1);

		if (s->count[v] == 0) {
			pull(s, v);
			return;
		}
		s->count[v]--;
		move(s, 1, v);
	}
}

/* One step; the tail of small may only move to main. */
static inline void s3_evict_small(struct queues *s)
{
	uint32_t v = tail(s, 0);

	if (s->count[v] > 1) {
		s->count[v] = 0;
		move(s, 1, v);
		return;
	}
	if (s->size[2] >= s->c - s->c / 10)
		pull(s, tail(s, 2));
	move(s, 2, v);
}

static inline bool s3fifo_access(void *p, uint32_t id)
{
	struct queues *s = p;
	bool was_ghost = s->where[id] == 2;

	if (s->where[id] <= 1) {
		s->count[id] = (uint8_t)(s->count[id] < 3 ? s->count[id] + 1 : 3);
		return true;
	}
	if (was_ghost)
		pull(s, id);
	while (s->size[0] + s->size[1] >= s->c) {
		if (s->size[0] >= s->c / 10 && s->size[0] > 0)
			s3_evict_small(s);
		else
			s3_evict_main(s);
	}
	s->count[id] = 0;
	push(s, was_ghost ? 1 : 0, id);
	return false;
}

/* ---- ARC: T1 0, T2 1, B1 2, B2 3 ---- */

static inline void arc_replace(struct queues *s, bool was_b2)
{
	if (s->size[0] > 0 && (s->size[0] > s->p || (was_b2 && s->size[0] == s->p)))
		move(s, 2, tail(s, 0));
	else if (s->size[1] > 0)
		move(s, 3, tail(s, 1));
	else
		move(s, 2, tail(s, 0));
}

static inline bool arc_ghost(struct queues *s, uint32_t id)
{
	bool was_b2 = s->where[id] == 3;
	uint32_t b1 = s->size[2], b2 = s->size[3];
	uint32_t step = was_b2 ? (b1 > b2 ? b1 / b2 : 1) : (b2 > b1 ? b2 / b1 : 1);

	if (was_b2)
		s->p = s->p > step ? s->p - step : 0;
	else
		s->p = s->p + step < s->c ? s->p + step : s->c;
	arc_replace(s, was_b2);
	move(s, 1, id);
	return false;
}

static inline bool arc_access(void *p, uint32_t id)
{
	struct queues *s = p;

	if (s->where[id] <= 1) {
		move(s, 1, id);
		return true;
	}
	if (s->where[id] <= 3)
		return arc_ghost(s, id);
	if (s->size[0] + s->size[2] == s->c) {
		if (s->size[0] < s->c) {
			pull(s, tail(s, 2));
			arc_replace(s, false);
		} else {
			pull(s, tail(s, 0));
		}
	} else if (s->size[0] + s->size[1] + s->size[2] + s->size[3] >= s->c) {
		if (s->size[0] + s->size[1] + s->size[2] + s->size[3] == 2 * s->c)
			pull(s, tail(s, 3));
		if (s->size[0] + s->size[1] >= s->c)
			arc_replace(s, false);
	}
	push(s, 0, id);
	return false;
}

/*
 * ---- W-TinyLFU: window 0 (1 %, LRU), probation 1, protected 2 (80 % of main) ----
 * Exact counters to 15, halved every 10 capacities, admission by strictly more.
 */

static inline void tinylfu_count(struct queues *s, uint32_t id)
{
	s->count[id] = (uint8_t)(s->count[id] < 15 ? s->count[id] + 1 : 15);
	if (++s->accesses < 10 * s->c)
		return;
	s->accesses = 0;
	for (uint32_t i = 0; i < s->n; i++)
		s->count[i] /= 2;
}

static inline bool tinylfu_hit(struct queues *s, uint32_t id, uint32_t main_size)
{
	move(s, s->where[id] == 0 ? 0 : 2, id);
	if (s->size[2] > main_size * 4 / 5)
		move(s, 1, tail(s, 2));
	return true;
}

static inline bool tinylfu_access(void *p, uint32_t id)
{
	struct queues *s = p;
	uint32_t window = s->c / 100 ? s->c / 100 : 1, main_size = s->c - window;

	tinylfu_count(s, id);
	if (s->where[id] <= 2)
		return tinylfu_hit(s, id, main_size);
	push(s, 0, id);
	if (s->size[0] <= window)
		return false;
	move(s, 1, tail(s, 0));
	if (s->size[1] + s->size[2] > main_size) {
		uint32_t candidate = s->next[end_of(s, 1)], victim = tail(s, 1);

		if (victim == candidate && s->size[2] > 0)
			victim = tail(s, 2);
		pull(s, s->count[candidate] > s->count[victim] ? victim : candidate);
	}
	return false;
}

#endif
