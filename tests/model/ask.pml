/* SPDX-License-Identifier: MIT */
/*
 * dz_lease_ask(): three who want the same key and may claim any place, in any order, of
 * which one may be stopped for ever, or for longer than a deadline, at any step.  Each
 * load, store and CAS is a step.  Never: two requests for the key.  At the end: one, and
 * who was not stopped has made it or joined it.
 *
 *     -DOLD    the rule that was: who sees a rival further on in claiming goes on
 */
#ifndef N
#define N	3
#endif
#define PLACES	3
#define NONE	7
#ifndef STOPS
#define STOPS	1
#endif
#ifndef LATE
#define LATE	2 /* how often one is taken for late, rightly or not */
#endif

mtype = { free, claiming, requested };

mtype state[PLACES] = free;
byte owner[PLACES] = NONE, token[PLACES];
bool key[PLACES];
byte requests, late, stops;
bool stopped[3], done[3];

#define CLAIMED_BY_ME(p, t) (state[p] == claiming && owner[p] == me && token[p] == t)

/* The CAS of whoever saw place q in claiming under that token. */
inline release(q, t)
{
	atomic {
		if
		:: state[q] == claiming && token[q] == t -> state[q] = free; owner[q] = NONE
		:: else
		fi
	}
}

proctype asker(byte me)
{
	byte p, q, t, seen_token;
	mtype seen;

	{
	skip;
again:	q = 0; /* is it under way? */
	do
	:: q == PLACES -> break
	:: q < PLACES ->
		if
		:: atomic { state[q] == requested && key[q] -> q = NONE }; break
		:: else -> q++
		fi
	od;
	if
	:: q == NONE -> goto out
	:: else
	fi;

	/* a place: free, or abandoned by one who is late */
	atomic {
		if
		:: state[0] == free -> p = 0
		:: state[1] == free -> p = 1
		:: state[2] == free -> p = 2
		:: late < LATE && state[0] == claiming -> p = 0; late++
		:: late < LATE && state[1] == claiming -> p = 1; late++
		:: late < LATE && state[2] == claiming -> p = 2; late++
		fi;
		state[p] = claiming;
		owner[p] = me;
		token[p] = (token[p] + 1) % 4;
		t = token[p]
	}
	key[p] = true;

look:	q = 0;
	do
	:: q == PLACES -> break
	:: q < PLACES && q == p -> q++
	:: q < PLACES && q != p ->
		atomic { seen = state[q]; seen_token = token[q];
			if
			:: seen != free && !key[q] -> seen = free
			:: else
			fi };
		if
		:: seen == free -> q++
		:: seen == requested -> release(p, t); goto out
		:: seen == claiming && q < p ->
			if
			:: release(p, t); goto again
			:: atomic { late < LATE -> late++ }; release(q, seen_token); goto look
			fi
		:: seen == claiming && q > p ->
#ifdef OLD
			q++
#else
			if
			:: atomic { state[q] != claiming || token[q] != seen_token }; goto look
			:: atomic { late < LATE -> late++ }; release(q, seen_token); goto look
			/* it has been stopped: that is seen, in the end */
			:: atomic { owner[q] != NONE && stopped[owner[q]] }; release(q, seen_token); goto look
			fi
#endif
		fi
	od;

	if
	:: atomic { CLAIMED_BY_ME(p, t) -> state[p] = requested; requests++; assert(requests == 1) }
	:: else -> goto again
	fi;
out:	done[me] = true
	} unless { stopped[me] }
}

/* One is stopped at any step. */
active proctype stopper()
{
	if
	:: atomic { stops < STOPS -> stopped[0] = true; stops++ }
	:: skip
	fi
}

init
{
	atomic {
		run asker(0); run asker(1);
#if N > 2
		run asker(2)
#else
		done[2] = true
#endif
	};
	(done[0] || stopped[0]) && done[1] && done[2];
	assert(requests == 1)
}
