// SPDX-License-Identifier: MIT
/*
 * See http_guest.h.  libcurl's multi handle opens a pair of descriptors of its
 * own, at the lowest free numbers; for the moment in which it does, the low
 * numbers are taken by others of ours.
 */
#include "cache/blob/http_guest.h"

#include "cache/base.h"
#include "cache/sys.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOW 100

CURLM *dz_guest_multi(void)
{
	int fillers[LOW], n = 0;
	CURLM *multi;

	while (n < LOW) {
		int fd = dz_sys_open("/dev/null", O_RDONLY | O_CLOEXEC, 0);

		if (fd < 0)
			break;
		fillers[n++] = fd;
		if (fd >= LOW)
			break;
	}
	/* All that the limit allows are taken: leave libcurl room. */
	for (int i = 0; i < 8 && n > 0 && fillers[n - 1] < LOW; i++)
		dz_sys_close(fillers[--n]);
	multi = curl_multi_init();
	while (n > 0)
		dz_sys_close(fillers[--n]);
	return multi;
}

static bool is_number(const char *host)
{
	struct in6_addr any;

	return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static void add_addresses(char *line, size_t room, const struct addrinfo *found)
{
	size_t at = strlen(line);
	char sep = ':';

	for (; found; found = found->ai_next) {
		char text[INET6_ADDRSTRLEN];
		const void *address =
			found->ai_family == AF_INET6
				? (void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr
				: (void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr;
		int n;

		if (!inet_ntop(found->ai_family, address, text, sizeof(text)))
			continue;
		n = snprintf(line + at, room - at, found->ai_family == AF_INET6 ? "%c[%s]" : "%c%s",
			     sep, text);
		if (n < 0 || (size_t)n >= room - at) {
			line[at] = '\0';
			return;
		}
		at += (size_t)n;
		sep = ',';
	}
}

static struct curl_slist *resolve(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	struct curl_slist *list;
	char line[1024];

	if (is_number(host) || getaddrinfo(host, port, &hints, &found) != 0)
		return NULL;
	snprintf(line, sizeof(line), "%.255s:%.8s", host, port);
	add_addresses(line, sizeof(line), found);
	freeaddrinfo(found);
	list = curl_slist_append(NULL, line);
	return list;
}

struct curl_slist *dz_guest_resolve(const char *url)
{
	struct curl_slist *list = NULL;
	char *host = NULL, *port = NULL;
	CURLU *parts = curl_url();

	if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
	    curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	    curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
		list = resolve(host, port);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parts);
	return list;
}
