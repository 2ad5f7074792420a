/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Names of hosts to addresses, by the resolver of the system. */
#ifndef BINRUSH_RESOLVE_H
#define BINRUSH_RESOLVE_H

#include <string.h>

#include "ip_addr.h"

/* Always NULL here. */
struct dns_node;

/* Not for -std=c11 without _DEFAULT_SOURCE, which hides the resolver of the system; modules are compiled as gnu11. */
#ifdef _DEFAULT_SOURCE

/*
 * The addresses of a name or an address, IPv4's where there are any; NULL where there are none. Waits for the resolver: only for mod_init and
 * the like. The answer is the thread's until its next call in this file.
 */
static inline struct hostent *resolvehost(char *name, int no_ip_test)
{
	static __thread struct hostent entry;
	static __thread char memory[8192];
	struct hostent *found = NULL;
	int why;

	(void)no_ip_test;
	if (gethostbyname2_r(name, AF_INET, &entry, memory, sizeof(memory), &found, &why) == 0 && found)
		return found;
	if (gethostbyname2_r(name, AF_INET6, &entry, memory, sizeof(memory), &found, &why) == 0)
		return found;
	return NULL;
}

/*
 * As resolvehost, of a name that is not terminated, or an IPv6 address in brackets. `*proto`, where it is 0, becomes PROTO_UDP; `*port`, where it
 * is 0, 5060 for an address.
 *
 * Of a name without a port OpenSIPS asks for NAPTR and SRV records; here that is NULL, with a line in the log, as is `is_sips`. `*dn` is NULL.
 */
static inline struct hostent *sip_resolvehost(str *name, unsigned short *port, unsigned short *proto, int is_sips, struct dns_node **dn)
{
	unsigned char address[16];
	char text[256];
	int is_address;

	if (dn)
		*dn = NULL;
	if (is_sips || name->len <= 0 || name->len >= (int)sizeof(text)) {
		LM_ERR("`%.*s` cannot be resolved: it is no name, or for SIPS\n", name->len > 0 ? name->len : 0, name->s);
		return NULL;
	}
	memcpy(text, name->s, (size_t)name->len);
	text[name->len] = '\0';
	if (text[0] == '[' && text[name->len - 1] == ']') {
		memmove(text, text + 1, (size_t)name->len - 2);
		text[name->len - 2] = '\0';
	}
	is_address = inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
	if (port && *port == 0 && is_address)
		*port = 5060;
	if (!is_address && (!port || *port == 0)) {
		LM_ERR("`%s` has no port, and SRV records are not asked for: say the port\n", text);
		return NULL;
	}
	if (proto && *proto == 0)
		*proto = PROTO_UDP;
	return resolvehost(text, 0);
}

#endif

#endif
