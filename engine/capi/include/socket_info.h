/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Texts that say where something is. Of OpenSIPS's header this is what a destination of replication is read by; listeners are binrush's own
 * affair, so there is no struct socket_info to look into, and no grep_sock_info, find_si or lists of listeners.
 */
#ifndef BINRUSH_SOCKET_INFO_H
#define BINRUSH_SOCKET_INFO_H

#include <string.h>
#include <strings.h>

#include "ip_addr.h"

/* The transport of that name in the numbers of ip_addr.h, whatever its case. 0, or -1. */
static inline int parse_proto(unsigned char *s, long len, int *proto)
{
	static const struct {
		const char *name;
		int proto;
	} known[] = {
		{"udp", PROTO_UDP},
		{"tcp", PROTO_TCP},
		{"tls", PROTO_TLS},
		{"sctp", PROTO_SCTP},
#if BINRUSH_API >= 3
		{"ws", PROTO_WS},
		{"wss", PROTO_WSS},
		{"bin", PROTO_BIN},
		{"bins", PROTO_BINS},
#endif
	};
	unsigned int i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (len == (long)strlen(known[i].name) && strncasecmp((const char *)s, known[i].name, (size_t)len) == 0) {
			*proto = known[i].proto;
			return 0;
		}
	return -1;
}

/* A port from its digits; -1 of what is none. */
static inline int binrush_port(const char *s, const char *end)
{
	int port = 0;

	if (s == end)
		return -1;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		port = 10 * port + (*s - '0');
		if (port > 65535)
			return -1;
	}
	return port;
}

/*
 * Takes "[proto:]host[:port]" apart; an IPv6 address stands in brackets, which stay with it. What is not said is 0. `host` points into `s`.
 *
 * 0, or -1: it is no such text, or the port is above 65535, which OpenSIPS lets pass.
 */
static inline int parse_phostport(char *s, int slen, char **host, int *hlen, int *port, int *proto)
{
	char *end = s + slen, *colon[2] = {NULL, NULL}, *p, *begin = s;
	int colons = 0, is_inside = 0, number = 0, transport = 0;

	for (p = s; p < end; p++) {
		if (*p == '[' || *p == ']') {
			if (is_inside == (*p == '['))
				return -1;
			is_inside = !is_inside;
		} else if (*p == ':' && !is_inside) {
			if (colons == 2)
				return -1;
			colon[colons++] = p;
		}
	}
	if (slen <= 0 || is_inside || end[-1] == ':')
		return -1;
	if (colons == 1)
		number = binrush_port(colon[0] + 1, end);
	else if (colons == 2 && (number = binrush_port(colon[1] + 1, end)) < 0)
		return -1;
	if (colons == 2 || number < 0) {
		/* What is before the first colon is the transport; what is behind it and is no port is the host. */
		if (parse_proto((unsigned char *)s, colon[0] - s, &transport) < 0)
			return -1;
		begin = colon[0] + 1;
		if (number < 0)
			number = 0;
		else
			end = colon[1];
	} else if (colons == 1) {
		end = colon[0];
	}
	*host = begin;
	*hlen = (int)(end - begin);
	*port = number;
	*proto = transport;
	return 0;
}

#endif
