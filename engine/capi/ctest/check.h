/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the test programs have in common: a check that names its place, addresses, hexadecimal text. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ip_addr.h"

#define CHECK(_that) \
	do { \
		if (!(_that)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #_that); \
			exit(1); \
		} \
	} while (0)

/* Two ints that have to be equal, told when they are not. */
#define EQUAL(_is, _should) \
	do { \
		long _a = (_is), _b = (_should); \
		if (_a != _b) { \
			fprintf(stderr, "%s:%d: %s is %ld and not %ld\n", __FILE__, __LINE__, #_is, _a, _b); \
			exit(1); \
		} \
	} while (0)

static inline union sockaddr_union loopback(int port)
{
	union sockaddr_union su;

	memset(&su, 0, sizeof(su));
	su.sin.sin_family = AF_INET;
	su.sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	su.sin.sin_port = htons((unsigned short)port);
	return su;
}

/* The port that a socket is bound to. */
static inline int port_of(int fd)
{
	union sockaddr_union su;
	socklen_t len = sizeof(su);

	CHECK(getsockname(fd, &su.s, &len) == 0);
	return su_getport(&su);
}

/* Bytes from hexadecimal text, which ends at the first other character; "-" is nothing. How many. */
static inline int unhex(const char *text, char *to, int max)
{
	unsigned byte;
	int len = 0;

	while (sscanf(text + 2 * len, "%2x", &byte) == 1) {
		CHECK(len < max);
		to[len++] = (char)byte;
	}
	return len;
}

static inline void print_hex(const char *what, const char *s, int len)
{
	int i;

	printf("%s ", what);
	for (i = 0; i < len; i++)
		printf("%02x", (unsigned char)s[i]);
	printf(len ? "\n" : "-\n");
}

#endif
