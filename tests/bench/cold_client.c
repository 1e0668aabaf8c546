// SPDX-License-Identifier: MIT
/*
 * cold_client URL QUERY NAMES CONNECTIONS: fetches the blobs that NAMES lists ("NAME
 * SIZE", one a line) in that order, 1 MiB ranges, over so many connections at once,
 * with libcurl and nothing around it.  Prints the seconds and the bytes.
 *
 * It is what cold reads through the cache are compared with.  Like the cache it
 * keeps what it gets, in memory that is new to it.
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <curl/curl.h>

#define RANGE	  ((uint64_t)1 << 20)
#define SLOTS_MAX 256

struct blob {
	char *name;
	uint64_t size;
};

struct slot {
	CURL *easy;
	uint8_t *at; /* where the next byte goes */
	uint64_t left;
};

struct client {
	CURLM *multi;
	const char *url, *query;
	struct blob *blobs;
	size_t n_blobs, blob; /* the next range: of this blob, */
	uint64_t off;	      /* from here */
	uint8_t *memory;
	uint64_t used, total;
	int n_busy;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t on_data(char *data, size_t size, size_t n, void *user)
{
	struct slot *slot = user;

	n *= size;
	if (n > slot->left)
		return n + 1;
	memcpy(slot->at, data, n);
	slot->at += n;
	slot->left -= n;
	return n;
}

static void load_names(struct client *c, const char *path)
{
	FILE *f = fopen(path, "r");
	char name[4096];
	unsigned long long size;

	if (!f)
		err(1, "%s", path);
	while (fscanf(f, "%4095s %llu", name, &size) == 2) {
		c->blobs = realloc(c->blobs, (c->n_blobs + 1) * sizeof(*c->blobs));
		if (!c->blobs)
			err(1, "names");
		c->blobs[c->n_blobs].name = strdup(name);
		c->blobs[c->n_blobs++].size = size;
		c->total += size;
	}
	fclose(f);
	c->memory =
		mmap(NULL, c->total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->memory == MAP_FAILED)
		err(1, "memory");
	madvise(c->memory, c->total, MADV_HUGEPAGE);
}

static void slot_open(struct slot *slot)
{
	slot->easy = curl_easy_init();
	if (!slot->easy)
		errx(1, "curl_easy_init");
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEDATA, slot);
	curl_easy_setopt(slot->easy, CURLOPT_BUFFERSIZE, 65536L);
	curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_FAILONERROR, 1L);
}

/* Starts the next range in this slot; false when there is none left. */
static int slot_start(struct client *c, struct slot *slot)
{
	struct blob *b = &c->blobs[c->blob];
	char url[8192], range[64];
	uint64_t len;

	if (c->blob == c->n_blobs)
		return 0;
	len = b->size - c->off < RANGE ? b->size - c->off : RANGE;
	snprintf(url, sizeof(url), "%s/%s?%s", c->url, b->name, c->query);
	snprintf(range, sizeof(range), "%llu-%llu", (unsigned long long)c->off,
		 (unsigned long long)(c->off + len - 1));
	slot->at = c->memory + c->used;
	slot->left = len;
	c->used += len;
	c->off += len;
	if (c->off == b->size) {
		c->off = 0;
		c->blob++;
	}
	curl_easy_setopt(slot->easy, CURLOPT_URL, url);
	curl_easy_setopt(slot->easy, CURLOPT_RANGE, range);
	curl_multi_add_handle(c->multi, slot->easy);
	c->n_busy++;
	return 1;
}

static void take_ended(struct client *c)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(c->multi, &left))) {
		CURLcode result = msg->data.result;
		CURL *easy = msg->easy_handle;
		struct slot *slot;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&slot);
		if (result != CURLE_OK || slot->left)
			errx(1, "%s: %llu bytes missing", curl_easy_strerror(result),
			     (unsigned long long)slot->left);
		curl_multi_remove_handle(c->multi, easy);
		c->n_busy--;
		slot_start(c, slot);
	}
}

int main(int argc, char **argv)
{
	static struct slot slots[SLOTS_MAX];
	static struct client c;
	double start;
	int n, running;

	if (argc != 5)
		errx(2, "usage: cold_client URL QUERY NAMES CONNECTIONS");
	c.url = argv[1];
	c.query = argv[2];
	load_names(&c, argv[3]);
	n = atoi(argv[4]);
	if (n < 1 || n > SLOTS_MAX)
		errx(2, "1 to %d connections", SLOTS_MAX);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	c.multi = curl_multi_init();
	curl_multi_setopt(c.multi, CURLMOPT_MAXCONNECTS, (long)n);
	start = now();
	for (int i = 0; i < n; i++) {
		slot_open(&slots[i]);
		if (!slot_start(&c, &slots[i]))
			break;
	}
	while (c.n_busy) {
		curl_multi_perform(c.multi, &running);
		take_ended(&c);
		if (c.n_busy)
			curl_multi_poll(c.multi, NULL, 0, 1000, NULL);
	}
	printf("seconds %.4f\nbytes %llu\n", now() - start, (unsigned long long)c.used);
	return 0;
}
