/* SPDX-License-Identifier: MIT */
/* stdio on a tree: argument 1 is its root. */
#include "say.h"

#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

static char buf[4 << 20];

static void reads(void)
{
	char *line = NULL, word[64];
	size_t room = 0;
	FILE *f = SAY_PTR(fopen("text/lines.txt", "r"));
	struct stat st;

	SAY(fileno(f) > 2);
	SAY(fstat(fileno(f), &st));
	SAY(st.st_size);
	SAY(fread(buf, 1, 10, f));
	SAY(say_sum(buf, 10));
	SAY(ftell(f));
	SAY(fgetc(f));
	SAY(ungetc('Q', f));
	SAY(fgetc(f));
	SAY_PTR(fgets(buf, 100, f));
	SAY(say_sum(buf, (long long)strlen(buf)));
	SAY(getline(&line, &room, f));
	SAY(fseek(f, 5, SEEK_SET));
	SAY(fscanf(f, "%63s", word));
	SAY(say_sum(word, (long long)strlen(word)));
	SAY(fseek(f, -4, SEEK_END));
	SAY(fread(buf, 1, 100, f));
	SAY(feof(f));
	SAY(ferror(f));
	SAY(fseek(f, -1, SEEK_SET));
	SAY(fseeko(f, 1000000000, SEEK_SET));
	SAY(fgetc(f));
	rewind(f);
	SAY(feof(f));
	SAY(lseek(fileno(f), 0, SEEK_CUR));
	SAY(fwrite("x", 1, 1, f));
	SAY(ferror(f));
	SAY(fclose(f));
	free(line);
}

static void large(void)
{
	FILE *f = SAY_PTR(fopen("data/large.bin", "rbe"));
	size_t n, sum = 0;

	SAY(fcntl(fileno(f), F_GETFD));
	SAY(fread(buf, 1, sizeof(buf), f));
	SAY(say_sum(buf, 3 << 20));
	rewind(f);
	while ((n = fread(buf, 7, 1000, f)) > 0)
		sum += n;
	SAY(sum);
	for (int i = 0; i < 200; i++) {
		fseek(f, (long)i * 15013, SEEK_SET);
		sum += (size_t)fgetc(f);
	}
	SAY(sum);
	setvbuf(f, NULL, _IONBF, 0);
	SAY(fseek(f, 100, SEEK_SET));
	SAY(fread(buf, 1, 5000, f));
	SAY(say_sum(buf, 5000));
	SAY(fclose(f));
}

static void errors(void)
{
	SAY_PTR(fopen("no-such", "r"));
	SAY_PTR(fopen("text/lines.txt/x", "r"));
	SAY_PTR(fopen("text/lines.txt", "q"));
	FILE *d = SAY_PTR(fopen("text", "r"));
	SAY(fgetc(d));
	SAY(errno);
	SAY(ferror(d));
	SAY(fclose(d));
	SAY_PTR(fdopen(9999, "r"));
}

static void descriptors(void)
{
	int fd = open("text/lines.txt", O_RDONLY), other;
	FILE *f;

	SAY_PTR(fdopen(fd, "w"));
	SAY(lseek(fd, 20, SEEK_SET));
	f = SAY_PTR(fdopen(fd, "r"));
	SAY(fileno(f) == fd);
	SAY_PTR(fgets(buf, 50, f));
	SAY(say_sum(buf, (long long)strlen(buf)));
	SAY(fflush(f));
	SAY(lseek(fd, 0, SEEK_CUR));
	other = dup(fd);
	SAY(fclose(f));
	SAY(read(fd, buf, 1));
	SAY(read(other, buf, 7));
	SAY(say_sum(buf, 7));
	SAY(close(other));
}

static void reopens(void)
{
	FILE *f = SAY_PTR(fopen("text/lines.txt", "r")), *same;

	SAY_PTR(fgets(buf, 50, f));
	same = SAY_PTR(freopen("text/other.txt", "r", f));
	SAY(same == f);
	SAY_PTR(fgets(buf, 50, f));
	SAY(say_sum(buf, (long long)strlen(buf)));
	SAY_PTR(freopen("/dev/null", "r", f));
	SAY(fgetc(f));
	SAY(fclose(f));
	SAY_PTR(freopen("text/lines.txt", "r", stdin));
	SAY(fileno(stdin));
	SAY_PTR(fgets(buf, 50, stdin));
	SAY(say_sum(buf, (long long)strlen(buf)));
	SAY(lseek(0, 3, SEEK_SET));
	SAY(read(0, buf, 5));
	SAY(say_sum(buf, 5));
	SAY_PTR(freopen("no-such", "r", stdin));
}

static void wide(void)
{
	FILE *f = SAY_PTR(fopen("text/unicode", "r"));
	wchar_t line[100];
	int n = 0;

	SAY_PTR(fgets(buf, 50, f));
	SAY(fclose(f));
	f = SAY_PTR(fopen("text/unicode", "r"));
	SAY_PTR(fgetws(line, 100, f));
	SAY(say_sum(line, (long long)(wcslen(line) * sizeof(*line))));
	SAY(fgetwc(f));
	SAY(ungetwc(L'x', f));
	SAY(getwc(f));
	SAY(fwscanf(f, L"%d", &n));
	SAY(n);
	while (fgetwc(f) != WEOF)
		n++;
	SAY(n);
	SAY(feof(f));
	SAY(ferror(f));
	SAY(fclose(f));
	f = SAY_PTR(fopen("text/unicode", "r,ccs=UTF-8"));
	SAY(fwide(f, 0));
	SAY_PTR(fgetws(line, 100, f));
	SAY(say_sum(line, (long long)(wcslen(line) * sizeof(*line))));
	SAY(fclose(f));
	f = SAY_PTR(fopen("text/lines.txt", "r"));
	SAY(fgetc(f));
	SAY(fwide(f, 1));
	SAY(fclose(f));
}

/* In each mode that opens to read, and as much of a descriptor as it allows. */
static void modes(void)
{
	static const char *const names[] = { "r", "rb", "re", "rm", "rc", "rbecm", "rx", "rt" };
	static const char *const wanted[] = { "r", "rb", "re", "r+", "w",  "w+",
					      "a", "a+", "wx", "x",  "rw", "" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		FILE *f = SAY_PTR(fopen("text/lines.txt", names[i]));

		dprintf(1, "   %s: %d %d\n", names[i], f ? fcntl(fileno(f), F_GETFD) : 0,
			f ? fgetc(f) : 0);
		f = f ? SAY_PTR(freopen("text/other.txt", names[i], f)) : NULL;
		dprintf(1, "   %d\n", f ? fgetc(f) : 0);
		if (f)
			fclose(f);
	}
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		int fd = open("text/lines.txt", O_RDONLY);
		FILE *f = SAY_PTR(fdopen(fd, wanted[i]));

		dprintf(1, "   %s: %d\n", wanted[i], f ? fgetc(f) : 0);
		SAY(f ? fclose(f) : close(fd));
	}
}

/* A stream that took another file's place has all that one of libc's has. */
static void wide_after_freopen(void)
{
	static const char *const names[] = { "r", "rm", "r,ccs=UTF-8" };
	wchar_t line[100];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		FILE *f = SAY_PTR(fopen("text/lines.txt", "r"));

		SAY(fgetc(f));
		f = SAY_PTR(freopen("text/unicode", names[i], f));
		SAY_PTR(fgetws(line, 100, f));
		SAY(say_sum(line, (long long)(wcslen(line) * sizeof(*line))));
		SAY(fgetwc(f));
		SAY(fclose(f));
	}
}

static void unlocked(void)
{
	FILE *f = SAY_PTR(fopen("text/lines.txt", "r"));
	fpos_t at;

	SAY(fileno_unlocked(f) == fileno(f));
	SAY(getc_unlocked(f));
	SAY(fgetc_unlocked(f));
	SAY(fgetpos(f, &at));
	SAY(fread_unlocked(buf, 3, 1000, f));
	SAY(say_sum(buf, 3000));
	SAY_PTR(fgets_unlocked(buf, 100, f));
	SAY(say_sum(buf, (long long)strlen(buf)));
	SAY(feof_unlocked(f));
	SAY(fsetpos(f, &at));
	SAY(ftell(f));
	SAY(fread_unlocked(buf, 1, sizeof(buf), f));
	SAY(feof_unlocked(f) != 0);
	SAY(ferror_unlocked(f));
	clearerr_unlocked(f);
	SAY(feof_unlocked(f));
	SAY(fclose(f));
}

/* A buffer of the program's own, of libc's, of a line. */
static void buffers(void)
{
	static const int kinds[] = { _IOFBF, _IOFBF, _IOLBF, _IONBF };
	static char own[1 << 20];

	for (int i = 0; i < 4; i++) {
		FILE *f = SAY_PTR(fopen("data/large.bin", "r"));
		long sum = 0;
		int c;

		SAY(setvbuf(f, i == 0 ? own : NULL, kinds[i], i == 2 ? 100 : sizeof(own)));
		for (int k = 0; k < 5000 && (c = getc(f)) != EOF; k++)
			sum = sum * 31 + c;
		SAY(sum);
		SAY(fseek(f, 2 << 20, SEEK_SET));
		SAY(fread(buf, 1, 2 << 20, f));
		SAY(say_sum(buf, 1 << 20));
		SAY(fclose(f));
	}
}

/* For who counts the calls: large reads, each of a MiB. */
static int mebibytes(void)
{
	FILE *f = fopen("data/large.bin", "r");

	for (int i = 0; i < 3; i++)
		if (!f || fread(buf, 1, 1 << 20, f) != 1 << 20)
			return 1;
	return fclose(f);
}

static void pipe_modes(void)
{
	static const char *const names[] = { "r", "re", "w", "we", "rw", "x" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		FILE *p = SAY_PTR(popen("read x; head -n 1 < text/other.txt; echo $x", names[i]));

		if (p && *names[i] == 'w')
			SAY(fputs("written\n", p) >= 0);
		else if (p)
			SAY(fread(buf, 1, 1000, p)); /* to its end: it is not to get a SIGPIPE */
		SAY(p ? pclose(p) : -1);
	}
}

static void pipes(void)
{
	FILE *p = SAY_PTR(popen("head -n 2 text/lines.txt; pwd | wc -l", "r"));

	SAY(fread(buf, 1, 1000, p));
	SAY(say_sum(buf, 20));
	SAY(pclose(p));
}

int main(int argc, char **argv)
{
	if (argc < 2 || chdir(argv[1]) != 0)
		return 2;
	if (argc > 2)
		return mebibytes();
	setlocale(LC_ALL, "C.UTF-8");
	reads();
	large();
	errors();
	descriptors();
	modes();
	wide_after_freopen();
	unlocked();
	buffers();
	wide();
	reopens();
	pipes();
	pipe_modes();
	return 0;
}
