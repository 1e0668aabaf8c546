/* SPDX-License-Identifier: MIT */
/* A journal's file; every second record of the input gets its checksum made right. */
#include "cache/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

static bool keep(void *ctx, const struct dz_jrec *rec)
{
	uint64_t *last = ctx;

	if (!dz_jrec_is_valid(rec) || (*last && rec->seq > *last))
		abort();
	*last = rec->seq;
	return rec->page % 3 != 0;
}

static void remove_dir(void)
{
	dz_journal_remove(dir);
	rmdir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(dir, sizeof(dir), "/dev/shm/dz-fuzz-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	return atexit(remove_dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + 1);
	uint64_t seen = 0, last;
	char path[96];
	int fd;

	memcpy(copy, data, size);
	for (size_t at = 0; at + sizeof(struct dz_jrec) <= size; at += sizeof(struct dz_jrec)) {
		struct dz_jrec rec;

		memcpy(&rec, copy + at, sizeof(rec));
		if (at / sizeof(rec) % 2 == 0)
			dz_jrec_seal(&rec);
		memcpy(copy + at, &rec, sizeof(rec));
	}
	snprintf(path, sizeof(path), "%s/journal.7", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, copy, size) != (ssize_t)size)
		abort();
	close(fd);
	dz_journal_replay(dir, keep, NULL, &seen, &last);
	/* what was kept can be replayed again */
	seen = 0;
	dz_journal_replay(dir, keep, NULL, &seen, &last);
	dz_journal_remove(dir);
	free(copy);
	return 0;
}
