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
	setlocale(LC_ALL, "C.UTF-8");
	reads();
	large();
	errors();
	descriptors();
	wide();
	reopens();
	pipes();
	return 0;
}
