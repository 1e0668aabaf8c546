/* SPDX-License-Identifier: MIT */
/*
 * One key that is wanted, one tenant of other keys, two slots, two fetchers of which
 * one may be killed and both may stall and be taken over: what lease.c, fetch_data.c,
 * slots.c, member.c and disk.c do, each CAS one step.
 *
 *     cc -DDMA     the store into a slot is the device's: it lands after its owner's
 *                  death too, until the barrier (the disk tier)
 *     without      it is the owner's: he is dead or does it (DRAM)
 *
 * Never: a valid slot with another key's bytes.  Always: the reader gets its bytes, if
 * everyone who can move does.
 */
#define NONE	  7
#define WANTED	  1 /* the key, and its bytes */
#define OTHER	  2
#ifndef CRASHES
#define CRASHES	  1
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 1
#endif
#ifndef EVICTIONS
#define EVICTIONS 1
#endif

mtype = { free, filling, ready, evicting, quarantine }; /* a slot's state */
mtype = { idle, requested, fetching, claiming };	/* the lease's */

mtype state[2] = free;
byte gen[2], owner[2] = NONE, key[2], bytes[2];
bool valid[2];
byte indexed = NONE; /* the slot that the wanted key leads to */

mtype lease = idle;
byte token, holder = NONE, lease_slot = NONE;

bool alive[2] = true;
byte under_way[2] = NONE; /* a store of his that has not landed: its slot */
byte crashes, takeovers, evictions;
bool served;

#define HOLDS(me, t) (lease == fetching && holder == me && token == t)
#define MINE(s, st, who, g) (state[s] == st && owner[s] == who && gen[s] == g)

/* The store lands.  Nothing that is valid may become another key's bytes. */
inline land(f)
{
	atomic {
		bytes[under_way[f]] = WANTED;
		assert(!valid[under_way[f]] || key[under_way[f]] == WANTED);
		under_way[f] = NONE
	}
}

/* The CAS is won: evicting, with nobody else at it. */
inline finish(s)
{
	if
	:: indexed == s -> indexed = NONE
	:: else
	fi;
	/* a reader between these two finds no key */
	d_step { key[s] = 0; valid[s] = false; bytes[s] = 0; state[s] = free; owner[s] = NONE }
}

inline evict_from(s, st, who, g)
{
	if
	:: atomic { MINE(s, st, who, g) -> state[s] = evicting; gen[s] = (gen[s] + 1) % 4; owner[s] = 6 };
		finish(s)
	:: else
	fi
}

inline quarantine_his(s, who)
{
	if
	:: indexed == s -> indexed = NONE
	:: else
	fi;
	if
	:: atomic { state[s] == filling && owner[s] == who ->
#ifdef BROKEN /* shows that the model would notice */
			state[s] = free; owner[s] = NONE; key[s] = 0; valid[s] = false;
#else
			state[s] = quarantine;
#endif
			gen[s] = (gen[s] + 1) % 4 }
	:: else /* he was quicker */
	fi
}

/* A slot in filling of a dead owner. */
inline settle_dead(s, who, g)
{
#ifdef DMA
	quarantine_his(s, who);
	g = gen[s];
	if
	:: state[s] == quarantine && owner[s] == who ->
		under_way[who] != s; /* the barrier */
		evict_from(s, quarantine, who, g)
	:: else
	fi
#else
	if
	:: atomic { valid[s] && indexed == s && MINE(s, filling, who, g) ->
			state[s] = ready; owner[s] = NONE }
	:: else -> evict_from(s, filling, who, g)
	fi
#endif
}

/* Who has made the lease claiming makes its slot safe. */
inline settle(who, is_dead, s, g)
{
	s = lease_slot;
	if
	:: s != NONE && state[s] == filling && owner[s] == who ->
		g = gen[s];
		if
		:: is_dead -> settle_dead(s, who, g)
		:: else -> quarantine_his(s, who)
		fi
	:: else
	fi;
	lease_slot = NONE;
	atomic { lease = requested; holder = NONE }
}

/* free -> filling, evicting another key's block where there is no room; NONE. */
inline alloc(me, s, g)
{
	if
	:: atomic { state[0] == free -> s = 0; state[0] = filling; owner[0] = me; g = gen[0] }
	:: atomic { state[0] != free && state[1] == free -> s = 1; state[1] = filling;
			owner[1] = me; g = gen[1] }
	:: atomic { state[0] != free && state[1] != free -> s = NONE };
		if
		:: atomic { state[0] == ready && key[0] == OTHER -> state[0] = evicting;
				gen[0] = (gen[0] + 1) % 4; owner[0] = me }; finish(0)
		:: atomic { state[1] == ready && key[1] == OTHER -> state[1] = evicting;
				gen[1] = (gen[1] + 1) % 4; owner[1] = me }; finish(1)
		:: else
		fi
	fi
}

/* Somebody else has the key in filling though the lease is ours. */
inline displace(me, s, g)
{
	s = indexed;
	if
	:: s != NONE && state[s] == filling && owner[s] < 2 && owner[s] != me ->
		g = gen[s];
		if
		:: !alive[1 - me] -> settle_dead(s, (1 - me), g)
		:: else -> quarantine_his(s, (1 - me))
		fi
	:: else
	fi
}

proctype fetcher(byte me)
{
	byte s, g, mine;

	{
end:	do
	:: atomic { !served && lease == requested -> lease = fetching; holder = me; mine = token };
		s = NONE;
		if
		:: indexed != NONE && valid[indexed] -> skip /* it is there by now */
		:: indexed != NONE && !valid[indexed] -> displace(me, s, g); s = NONE
		:: indexed == NONE ->
			alloc(me, s, g);
			if
			:: s == NONE
			:: s != NONE ->
				key[s] = WANTED;
				if
				:: atomic { indexed == NONE -> indexed = s }
				:: else -> evict_from(s, filling, me, g); s = NONE
				fi
			fi
		fi;
		if
		:: s == NONE
		:: s != NONE ->
			lease_slot = s;
			if
			:: atomic { HOLDS(me, mine) -> under_way[me] = s } /* and here he may stall */;
#ifdef DMA
				under_way[me] == NONE;
#else
				land(me);
#endif
				valid[s] = true
			:: else
			fi;
			if
			:: atomic { lease_slot == s -> lease_slot = NONE }
			:: else
			fi;
			if
			:: atomic { valid[s] && MINE(s, filling, me, g) -> state[s] = ready; owner[s] = NONE }
			:: !(valid[s] && MINE(s, filling, me, g)) ->
				evict_from(s, filling, me, g);
				/* taken over: quarantined for our sake, and we are done with it */
				g = (g + 1) % 4;
				evict_from(s, quarantine, me, g)
			fi
		fi;
		if
		:: atomic { HOLDS(me, mine) -> lease = idle; holder = NONE; s = 0; g = 0; mine = 0 }
		:: atomic { else -> s = 0; g = 0; mine = 0 }
		fi
	od
	} unless { !alive[me] }
}

#ifdef DMA
active proctype device()
{
end:	do
	:: under_way[0] != NONE -> land(0)
	:: under_way[1] != NONE -> land(1)
	od
}
#endif

/* Other keys come and go. */
active proctype tenant()
{
	byte s, g;

end:	do
	:: !served && evictions < EVICTIONS ->
		alloc(5, s, g);
		if
		:: s == NONE
		:: s != NONE ->
			atomic { key[s] = OTHER; bytes[s] = OTHER; valid[s] = true };
			atomic { state[s] = ready; owner[s] = NONE }
		fi;
		atomic { evictions++; s = 0; g = 0 }
	:: atomic { !served && evictions < EVICTIONS && state[0] == ready -> state[0] = evicting;
			gen[0] = (gen[0] + 1) % 4; owner[0] = 5; evictions++ }; finish(0)
	:: atomic { !served && evictions < EVICTIONS && state[1] == ready -> state[1] = evicting;
			gen[1] = (gen[1] + 1) % 4; owner[1] = 5; evictions++ }; finish(1)
	od
}

/* Asks, waits, and looks after who fetches. */
active proctype reader()
{
	byte s, g, who, seen;

	do
	:: served -> break
	:: !served && indexed != NONE ->
		/* the seqlock: word, key, bit, bytes, and the word again */
		atomic { s = indexed; if :: s != NONE -> g = gen[s] :: else fi };
		if
		:: s != NONE && (state[s] == ready || state[s] == filling) && key[s] == WANTED &&
		   gen[s] == g ->
			if
			:: valid[s] ->
				seen = bytes[s];
				if
				:: gen[s] == g && (state[s] == ready || state[s] == filling) ->
					assert(seen == WANTED);
					served = true
				:: else
				fi
			:: else
			fi
		:: else
		fi;
		atomic { s = 0; g = 0; seen = 0 }
	:: atomic { !served && lease == idle && (indexed == NONE || !valid[indexed]) ->
			lease = requested; token = (token + 1) % 4 }
#ifndef FORSAKEN /* shows the same of the claim that the reader goes on */
	:: atomic { !served && lease == fetching && !alive[holder] -> who = holder;
			lease = claiming; token = (token + 1) % 4 };
		settle(who, true, s, g);
		atomic { s = 0; g = 0; who = 0 }
#endif
	:: atomic { !served && lease == fetching && alive[holder] && takeovers < TAKEOVERS ->
			who = holder; lease = claiming; token = (token + 1) % 4; takeovers++ };
		settle(who, false, s, g);
		atomic { s = 0; g = 0; who = 0 }
	od
}

/* Kills one, at any time, and later recovers what it left, as the sweeper does. */
active proctype killer()
{
	byte s, g, who;

	if
	:: atomic { crashes < CRASHES -> who = 0; alive[0] = false; crashes++ } /* they are alike */
	:: goto over
	fi;
	/* whatever it does concerns the lease too: the reader's look does the same */
	do
	:: s < 2 ->
		g = gen[s];
		if
		:: owner[s] == who && state[s] == filling -> settle_dead(s, who, g)
		:: owner[s] == who && state[s] == quarantine ->
#ifdef DMA
			under_way[who] != s;
#endif
			evict_from(s, quarantine, who, g)
		:: owner[s] == who && state[s] == evicting -> finish(s)
		:: else
		fi;
		s++
	:: else -> break
	od;
over:	atomic { s = 0; g = 0; who = 0 }
}

init
{
	atomic { run fetcher(0); run fetcher(1) }
}

ltl proceeds { <> served }
