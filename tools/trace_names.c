// SPDX-License-Identifier: MIT
/* The constants behind numbers, as strace names them. */
#include "tools/trace.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct name {
	uint64_t value;
	const char *text;
};
#define N(constant)                                                                                \
	{                                                                                          \
		(uint64_t)(constant), #constant                                                    \
	}

/* libc's own is 0 on 64 bits; this is the kernel's. */
#if defined(__aarch64__)
#define LARGEFILE_BIT 0400000
#else
#define LARGEFILE_BIT 0100000
#endif

/* In the order of strace's tables: what holds another stands before it. */
static const struct name open_flags[] = { N(O_CREAT),
					  N(O_EXCL),
					  N(O_NOCTTY),
					  N(O_TRUNC),
					  N(O_APPEND),
					  N(O_NONBLOCK),
					  N(O_SYNC),
					  N(O_DSYNC),
					  N(O_DIRECT),
					  { LARGEFILE_BIT, "O_LARGEFILE" },
					  N(O_NOFOLLOW),
					  N(O_NOATIME),
					  N(O_CLOEXEC),
					  N(O_PATH),
					  N(O_TMPFILE),
					  N(O_DIRECTORY),
					  { O_ASYNC, "FASYNC" } };
static const struct name statx_masks[] = { N(STATX_ALL),
					   N(STATX_BASIC_STATS),
					   N(STATX_TYPE),
					   N(STATX_MODE),
					   N(STATX_NLINK),
					   N(STATX_UID),
					   N(STATX_GID),
					   N(STATX_ATIME),
					   N(STATX_MTIME),
					   N(STATX_CTIME),
					   N(STATX_INO),
					   N(STATX_SIZE),
					   N(STATX_BLOCKS),
					   N(STATX_BTIME),
					   { 0x1000, "STATX_MNT_ID" },
					   { 0x2000, "STATX_DIOALIGN" } };
static const struct name ioctls[] = { N(TCGETS),	  N(TIOCGWINSZ),    N(FIONREAD),
				      N(FIONBIO),	  N(FIOCLEX),	    N(FIONCLEX),
				      N(FIGETBSZ),	  N(FIBMAP),	    N(FICLONE),
				      N(FS_IOC_GETFLAGS), N(FS_IOC_FIEMAP), N(BLKGETSIZE64) };
static const struct name prot[] = { N(PROT_READ), N(PROT_WRITE), N(PROT_EXEC) };
static const struct name map_flags[] = { N(MAP_SHARED_VALIDATE), N(MAP_SHARED),	   N(MAP_PRIVATE),
					 N(MAP_FIXED),		 N(MAP_ANONYMOUS), N(MAP_POPULATE),
					 N(MAP_NORESERVE),	 N(MAP_DENYWRITE), N(MAP_LOCKED),
					 N(MAP_NONBLOCK),	 N(MAP_STACK),	   N(MAP_HUGETLB) };
static const struct name access_modes[] = { N(R_OK), N(W_OK), N(X_OK) };
static const struct name at_flags[] = { N(AT_SYMLINK_NOFOLLOW), N(AT_EMPTY_PATH),
					N(AT_SYMLINK_FOLLOW),	N(AT_NO_AUTOMOUNT),
					N(AT_STATX_FORCE_SYNC), N(AT_STATX_DONT_SYNC) };
static const struct name remap_flags[] = { N(MREMAP_MAYMOVE), N(MREMAP_FIXED) };
static const struct name sync_flags[] = { N(MS_ASYNC), N(MS_INVALIDATE), N(MS_SYNC) };
static const struct name rename_flags[] = { { 1, "RENAME_NOREPLACE" },
					    { 2, "RENAME_EXCHANGE" },
					    { 4, "RENAME_WHITEOUT" } };
static const struct name lock_ops[] = { N(LOCK_SH), N(LOCK_EX), N(LOCK_UN), N(LOCK_NB) };

static const struct name whences[] = { N(SEEK_SET), N(SEEK_CUR), N(SEEK_END), N(SEEK_DATA),
				       N(SEEK_HOLE) };
static const struct name advices[] = { N(POSIX_FADV_NORMAL),	 N(POSIX_FADV_RANDOM),
				       N(POSIX_FADV_SEQUENTIAL), N(POSIX_FADV_WILLNEED),
				       N(POSIX_FADV_DONTNEED),	 N(POSIX_FADV_NOREUSE) };
static const struct name madvices[] = { N(MADV_NORMAL),	  N(MADV_RANDOM),    N(MADV_SEQUENTIAL),
					N(MADV_WILLNEED), N(MADV_DONTNEED),  N(MADV_FREE),
					N(MADV_HUGEPAGE), N(MADV_NOHUGEPAGE) };
static const struct name fcntls[] = {
	N(F_DUPFD),	    N(F_GETFD),	     N(F_SETFD),      N(F_GETFL),    N(F_SETFL),
	N(F_GETLK),	    N(F_SETLK),	     N(F_SETLKW),     N(F_SETOWN),   N(F_GETOWN),
	N(F_OFD_GETLK),	    N(F_OFD_SETLK),  N(F_OFD_SETLKW), N(F_GETLEASE), N(F_SETLEASE),
	N(F_DUPFD_CLOEXEC), N(F_GETPIPE_SZ), N(F_ADD_SEALS),  N(F_GET_SEALS)
};

static const struct {
	char family;
	bool is_one; /* one of them, not several */
	uint8_t n;
	const struct name *names;
	const char *unknown;
} families[] = {
#define F(c, one, names, unknown)                                                                  \
	{                                                                                          \
		c, one, DZ_ARRAY_LEN(names), names, unknown                                        \
	}
	F('q', false, open_flags, "O_???"),
	F('O', false, open_flags, "O_???"),
	F('P', false, prot, "PROT_???"),
	F('M', false, map_flags, "MAP_???"),
	F('A', false, access_modes, "?_OK"),
	F('T', false, at_flags, "AT_???"),
	F('r', false, remap_flags, "MREMAP_???"),
	F('y', false, sync_flags, "MS_???"),
	F('R', false, rename_flags, "RENAME_???"),
	F('k', false, lock_ops, "LOCK_???"),
	F('w', true, whences, "SEEK_???"),
	F('a', true, advices, "POSIX_FADV_???"),
	F('X', false, statx_masks, "STATX_???"),
	F('Y', false, at_flags, "AT_???"),
	F('i', true, ioctls, ""),
	F('v', true, madvices, "MADV_???"),
	F('c', true, fcntls, "F_???"),
};

/* What strace says where no bit is set. */
static const char *none_of(char family)
{
	return family == 'P' ? "PROT_NONE" : family == 'A' ? "F_OK" : "0";
}

static void one_of(FILE *to, size_t f, uint64_t value)
{
	for (size_t i = 0; i < families[f].n; i++) {
		if (families[f].names[i].value == value) {
			fputs(families[f].names[i].text, to);
			return;
		}
	}
	fprintf(to, *families[f].unknown ? "%#" PRIx64 " /* %s */" : "%#" PRIx64, value,
		families[f].unknown);
}

static void some_of(FILE *to, size_t f, uint64_t value, const char *bar)
{
	if (!value && !*bar)
		fputs(none_of(families[f].family), to);
	for (size_t i = 0; i < families[f].n; i++) {
		const struct name *name = &families[f].names[i];

		if (!name->value || (value & name->value) != name->value)
			continue;
		fprintf(to, "%s%s", bar, name->text);
		value &= ~name->value;
		bar = "|";
	}
	if (value)
		fprintf(to, "%s%#" PRIx64, bar, value);
}

void trace_flags(FILE *to, char family, uint64_t value)
{
	static const char *const modes[] = { "O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE" };

	bool has_first = family == 'O' ||
			 (family == 'Y' && !(value & (AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC)));

	value = (uint32_t)value;
	for (size_t f = 0; f < DZ_ARRAY_LEN(families); f++) {
		if (families[f].family != family)
			continue;
		if (family == 'O')
			fputs(modes[value & 3], to);
		else if (has_first)
			fputs("AT_STATX_SYNC_AS_STAT", to);
		if (families[f].is_one)
			one_of(to, f, value);
		else
			some_of(to, f, family == 'O' ? value & ~(uint64_t)3 : value,
				has_first ? "|" : "");
		return;
	}
	fprintf(to, "%#" PRIx64, value);
}
