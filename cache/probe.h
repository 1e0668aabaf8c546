/* SPDX-License-Identifier: MIT */
/*
 * Static probes (USDT) for bpftrace, perf and SystemTap: dz:call, dz:read, dz:wait.
 * Each is a nop, and a note that says where it is and where its arguments are; the
 * form of the note is that of <sys/sdt.h>, which is therefore not needed:
 *
 *     bpftrace -e 'usdt:build/libdeltazero.so:dz:read { @[arg0] = hist(arg2); }'
 *
 *     dz:call   number in hooks.def, result
 *     dz:read   tier (0 dram, 1 disk, 2 peer, 3 blob), bytes, nanoseconds waited
 *     dz:wait   nanoseconds in the queue, nanoseconds for the network
 */
#ifndef DZ_PROBE_H
#define DZ_PROBE_H

#if defined(__x86_64__) || defined(__aarch64__)
#define DZ_PROBE_NOTE(name, args)                                                                  \
	"990: nop\n"                                                                               \
	" .pushsection .note.stapsdt,\"\",\"note\"\n"                                              \
	" .balign 4\n"                                                                             \
	" .4byte 992f-991f, 994f-993f, 3\n"                                                        \
	"991: .asciz \"stapsdt\"\n"                                                                \
	"992: .balign 4\n"                                                                         \
	"993: .8byte 990b\n"                                                                       \
	" .8byte _.stapsdt.base\n"                                                                 \
	" .8byte 0\n" /* no semaphore: always compiled in */                                       \
	" .asciz \"dz\"\n"                                                                         \
	" .asciz \"" name "\"\n"                                                                   \
	" .asciz \"" args "\"\n"                                                                   \
	"994: .balign 4\n"                                                                         \
	" .popsection\n"                                                                           \
	" .ifndef _.stapsdt.base\n"                                                                \
	" .pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                   \
	" .weak _.stapsdt.base\n"                                                                  \
	" .hidden _.stapsdt.base\n"                                                                \
	"_.stapsdt.base: .space 1\n"                                                               \
	" .size _.stapsdt.base, 1\n"                                                               \
	" .popsection\n"                                                                           \
	" .endif\n"
#define DZ_PROBE2(name, a, b)                                                                      \
	__asm__ volatile(DZ_PROBE_NOTE(#name, "-8@%0 -8@%1")::"r"((long)(a)), "r"((long)(b)))
#define DZ_PROBE3(name, a, b, c)                                                                   \
	__asm__ volatile(DZ_PROBE_NOTE(#name, "-8@%0 -8@%1 -8@%2")::"r"((long)(a)),                \
			 "r"((long)(b)), "r"((long)(c)))
#else
#define DZ_PROBE2(name, a, b)	 ((void)(a), (void)(b))
#define DZ_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
