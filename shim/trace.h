/* SPDX-License-Identifier: MIT */
/*
 * A call under `dz trace`: its arguments, as the program gave them, and its time.
 * While nobody looks it costs one load of the member's word and a branch.
 */
#ifndef DZ_SHIM_TRACE_H
#define DZ_SHIM_TRACE_H

#include "shim/init.h"

#pragma GCC visibility push(hidden)
extern __thread struct dz_trace_self dz_trace_self __attribute__((tls_model("initial-exec")));

/* What an argument is, two bits each: of a number nothing more is known. */
enum dz_trace_arg { DZ_ARG_NUMBER, DZ_ARG_STRING, DZ_ARG_STAT, DZ_ARG_MEMORY };

/* The end of a call: `kinds` has two bits an argument. */
void dz_traced(struct dz_call_span *span, uint32_t call, long result, bool is_bypass, uint32_t n,
	       uint32_t kinds, const long *args, void *caller);
#pragma GCC visibility pop

struct stat;
#define DZ_ARG_KIND(x)                                                                             \
	_Generic((x),                                                                              \
		const char *: DZ_ARG_STRING,                                                       \
		struct stat *: DZ_ARG_STAT,                                                        \
		void *: DZ_ARG_MEMORY,                                                             \
		char *: DZ_ARG_MEMORY,                                                             \
		default: DZ_ARG_NUMBER)
#define DZ_ARG_LONG(x) ((long)(x))

/* Each of up to six arguments, in order. */
#define DZ_EACH_0(f)
#define DZ_EACH_1(f, a)		       f(a, 0)
#define DZ_EACH_2(f, a, b)	       f(a, 0) f(b, 1)
#define DZ_EACH_3(f, a, b, c)	       f(a, 0) f(b, 1) f(c, 2)
#define DZ_EACH_4(f, a, b, c, d)       f(a, 0) f(b, 1) f(c, 2) f(d, 3)
#define DZ_EACH_5(f, a, b, c, d, e)    f(a, 0) f(b, 1) f(c, 2) f(d, 3) f(e, 4)
#define DZ_EACH_6(f, a, b, c, d, e, g) f(a, 0) f(b, 1) f(c, 2) f(d, 3) f(e, 4) f(g, 5)

#define DZ_NTH(z, a, b, c, d, e, f, n, ...) n
#define DZ_N_ARGS(...)			    DZ_NTH(0, ##__VA_ARGS__, 6, 5, 4, 3, 2, 1, 0)

#define DZ_GLUE_(a, b)	  a##b
#define DZ_GLUE(a, b)	  DZ_GLUE_(a, b)
#define DZ_EACH(f, ...)	  DZ_GLUE(DZ_EACH_, DZ_N_ARGS(__VA_ARGS__))(f, ##__VA_ARGS__)
#define DZ_ONE_LONG(x, i) [i] = DZ_ARG_LONG(x),
#define DZ_ONE_KIND(x, i) | (uint32_t)DZ_ARG_KIND(x) << 2 * (i)

/*
 * finish(call, result) with a look at the call around the work.  The record is made
 * out of the way of the code that runs when nobody looks.
 */
#define DZ_TRACED(finish, call, result, is_bypass, ...)                                            \
	({                                                                                         \
		bool traced_ = __builtin_expect(dz_engine && dz_engine_is_traced(dz_engine), 0);   \
		struct dz_call_span span_;                                                         \
		long done_;                                                                        \
                                                                                                   \
		if (traced_)                                                                       \
			dz_engine_span_begin(dz_engine, &dz_trace_self, &span_, (uint32_t)(call)); \
		done_ = (long)(result);                                                            \
		if (traced_ &&                                                                     \
		    ((is_bypass) ||                                                                \
		     !dz_engine_span_count(dz_engine, &dz_trace_self, &span_, (uint32_t)(call),    \
					   done_ == -ESTALE ? -EIO : done_))) {                    \
			const long args_[6] = { DZ_EACH(DZ_ONE_LONG, ##__VA_ARGS__) };             \
                                                                                                   \
			dz_traced(&span_, (uint32_t)(call), done_, is_bypass,                      \
				  DZ_N_ARGS(__VA_ARGS__), 0u DZ_EACH(DZ_ONE_KIND, ##__VA_ARGS__),  \
				  args_, __builtin_return_address(0));                             \
		}                                                                                  \
		finish(call, done_);                                                               \
	})

#endif
