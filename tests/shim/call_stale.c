/* SPDX-License-Identifier: MIT */
/*
 * A stream of libc's, whose number becomes a managed file's by dup2, is closed: by
 * a call inside libc.  The next file on the number must not be taken for the managed one.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	FILE *f = fopen("/etc/passwd", "r");
	char path[4096], buf[4] = "";
	int fd, again, number;

	if (argc < 2 || !f)
		return 2;
	snprintf(path, sizeof(path), "%s/text/lines.txt", argv[1]);
	number = fileno(f);
	fd = open(path, O_RDONLY);
	if (dup2(fd, number) != number || read(number, buf, 4) != 4 || memcmp(buf, "line", 4) != 0)
		return 3;
	fclose(f);
	again = open("/dev/zero", O_RDONLY);
	if (again != number || read(again, buf, 4) != 4 || buf[0] != 0)
		return 4;
	/* The same with freopen, which duplicates over the number inside libc. */
	f = fdopen(fd, "r");
	if (!f || freopen("/dev/zero", "r", f) != f || fgetc(f) != 0 ||
	    read(fileno(f), buf, 1) != 1 || buf[0] != 0)
		return 5;
	fclose(f);
	puts("ok");
	return 0;
}
