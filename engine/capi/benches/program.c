/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What sending costs a program that is linked with the shared library:
 *
 *   program sendto|bin_send PORT TIMES      writes how many nanoseconds TIMES packets of 200 bytes took
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "binrush.h"

static str texts[5];

static void make(void)
{
	static str name = {(char *)"dialog", 6};
	int failed = bin_init(&name, 2), i;

	for (i = 0; i < 5; i++)
		failed |= bin_push_str(&texts[i]);
	failed |= bin_push_int(4) | bin_push_int(1893452400) | bin_push_int(77);
	if (failed)
		exit(1);
}

int main(int argc, char **argv)
{
	static const char *const said[5] = {"9c3e1f70-55aa-4d0e-9b1c-2f6d8a7e4b10@192.0.2.10", "as5f3b2c1d", "gK0c7a91e2",
		"sip:alice@example.com:5060;user=phone", "sip:bob@example.org:5060;transport=udp;xyz"};
	static char packet[200];
	struct timespec begin, end;
	union sockaddr_union to;
	long i, times;
	int is_plain, out = socket(AF_INET, SOCK_DGRAM, 0);

	if (argc != 4 || out < 0)
		return 2;
	is_plain = strcmp(argv[1], "sendto") == 0;
	memset(&to, 0, sizeof(to));
	to.sin.sin_family = AF_INET;
	to.sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	to.sin.sin_port = htons((unsigned short)atoi(argv[2]));
	times = atol(argv[3]);
	for (i = 0; i < 5; i++) {
		texts[i].s = (char *)said[i];
		texts[i].len = (int)strlen(said[i]);
	}
	/* The first one takes the memory and the socket. */
	make();
	if (bin_send(&to) != 200)
		return 3;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (i = 0; i < times; i++) {
		if (is_plain) {
			if (sendto(out, packet, sizeof(packet), 0, &to.s, sizeof(to.sin)) != 200)
				return 4;
		} else {
			make();
			if (bin_send(&to) != 200)
				return 4;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%lld\n", (end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec));
	return 0;
}
