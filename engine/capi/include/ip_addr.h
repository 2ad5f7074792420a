/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Addresses as OpenSIPS has them. Ports are in host order, but in sockaddr_union; addresses in network order. */
#ifndef BINRUSH_IP_ADDR_H
#define BINRUSH_IP_ADDR_H

#include <string.h>
#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <netdb.h>

#include "str.h"
#include "dprint.h"

/* Numbers of transports. They differ between releases: those of 3.6 with BINRUSH_API 3, of 1.11 otherwise. */
#if BINRUSH_API >= 3
enum sip_protos {
	PROTO_NONE = 0,
	PROTO_FIRST = 1,
	PROTO_UDP = 1,
	PROTO_TCP,
	PROTO_TLS,
	PROTO_SCTP,
	PROTO_WS,
	PROTO_WSS,
	PROTO_IPSEC,
	PROTO_SIP_LAST = PROTO_IPSEC,
	PROTO_BIN,
	PROTO_BINS,
	PROTO_HEP_UDP,
	PROTO_HEP_TCP,
	PROTO_HEP_TLS,
	PROTO_SMPP,
	PROTO_MSRP,
	PROTO_MSRPS,
	PROTO_OTHER
};
#else
enum sip_protos { PROTO_NONE, PROTO_UDP, PROTO_TCP, PROTO_TLS, PROTO_SCTP, PROTO_OTHER };
#endif
#define PROTO_LAST PROTO_OTHER

/* An address without a port: `af` is AF_INET or AF_INET6, `len` 4 or 16; both 0 where it is not known. */
struct ip_addr {
	unsigned int af;
	unsigned int len;
	union {
		unsigned long addrl[16 / sizeof(long)];
		unsigned int addr32[4];
		unsigned short addr16[8];
		unsigned char addr[16];
	} u;
};

/* The addresses that equal `ip` where `mask` has ones. */
struct net {
	struct ip_addr ip;
	struct ip_addr mask;
};

/* An address with a port, as system calls take it. Its family tells which member is meant. */
union sockaddr_union {
	struct sockaddr s;
	struct sockaddr_in sin;
	struct sockaddr_in6 sin6;
};

enum si_flags { SI_NONE = 0, SI_IS_IP = 1, SI_IS_LO = 2, SI_IS_MCAST = 4 };

/* A listener. This library shows none: where there is a pointer to one, it is NULL. */
struct socket_info;

/* What differs between the releases in the two structs below. */
#if BINRUSH_API >= 3
typedef unsigned int binrush_reserved;
typedef const struct socket_info binrush_listener;
#else
typedef int binrush_reserved;
typedef struct socket_info binrush_listener;
#endif

/*
 * Where a packet came from and to. What nobody asked for is 0: datagrams in an engine have no source, since asking for it costs more than
 * handling them. `bind_address` is NULL.
 */
struct receive_info {
	struct ip_addr src_ip;
	struct ip_addr dst_ip;
	unsigned short src_port;
	unsigned short dst_port;
	int proto;
	binrush_reserved proto_reserved1;
	binrush_reserved proto_reserved2;
	union sockaddr_union src_su;
	binrush_listener *bind_address;
};

/* Where something is sent to. */
struct dest_info {
	int proto;
	binrush_reserved proto_reserved1;
	union sockaddr_union to;
	binrush_listener *send_sock;
};

/* How many bytes of the union are the address. */
#define sockaddru_len(_su) \
	((_su).s.sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in))

#define AF2PF(_af) ((_af) == AF_INET ? PF_INET : (_af) == AF_INET6 ? PF_INET6 : (_af))

/* Address number `_no` of a resolved name, without and with a port (host order). */
#define hostent2ip_addr(_ip, _he, _no) \
	do { \
		(_ip)->af = (unsigned int)(_he)->h_addrtype; \
		(_ip)->len = (unsigned int)(_he)->h_length; \
		memcpy((_ip)->u.addr, (_he)->h_addr_list[(_no)], (_ip)->len); \
	} while (0)

/* The address of a socket address; of another family than IPv4's and IPv6's one that is not known. */
static inline void sockaddr2ip_addr(struct ip_addr *ip, const struct sockaddr *sa)
{
	memset(ip, 0, sizeof(*ip));
	if (sa->sa_family == AF_INET) {
		ip->af = AF_INET;
		ip->len = 4;
		memcpy(ip->u.addr, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		ip->af = AF_INET6;
		ip->len = 16;
		memcpy(ip->u.addr, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	}
}

static inline void su2ip_addr(struct ip_addr *ip, union sockaddr_union *su)
{
	sockaddr2ip_addr(ip, &su->s);
}

/* The port in host order, 0 of another family. */
static inline unsigned short su_getport(const union sockaddr_union *su)
{
	if (su->s.sa_family == AF_INET)
		return ntohs(su->sin.sin_port);
	return su->s.sa_family == AF_INET6 ? ntohs(su->sin6.sin6_port) : 0;
}

/* Sets the port, which is in host order. */
static inline void su_setport(union sockaddr_union *su, unsigned short port)
{
	if (su->s.sa_family == AF_INET)
		su->sin.sin_port = htons(port);
	else if (su->s.sa_family == AF_INET6)
		su->sin6.sin6_port = htons(port);
}

/* An address and a port (host order) as one. 0, or -1 for an address of another family. */
static inline int init_su(union sockaddr_union *su, struct ip_addr *ip, unsigned short port)
{
	memset(su, 0, sizeof(*su));
	if (ip->af == AF_INET)
		memcpy(&su->sin.sin_addr, ip->u.addr, 4);
	else if (ip->af == AF_INET6)
		memcpy(&su->sin6.sin6_addr, ip->u.addr, 16);
	else
		return -1;
	su->s.sa_family = (sa_family_t)ip->af;
	su_setport(su, port);
	return 0;
}

/* Address number `no` of a resolved name, with a port in host order. 0, or -1 for an address of another family. */
static inline int hostent2su(union sockaddr_union *su, struct hostent *he, unsigned int no, unsigned short port)
{
	struct ip_addr ip;

	if (he->h_addrtype != AF_INET && he->h_addrtype != AF_INET6)
		return -1;
	hostent2ip_addr(&ip, he, no);
	return init_su(su, &ip, port);
}

/* Whether two addresses are the same. */
static inline int ip_addr_cmp(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->af == b->af && a->len == b->len && memcmp(a->u.addr, b->u.addr, a->len) == 0;
}

/* Whether two addresses with their ports are the same. */
static inline int su_cmp(union sockaddr_union *a, union sockaddr_union *b)
{
	struct ip_addr x, y;

	su2ip_addr(&x, a);
	su2ip_addr(&y, b);
	return x.len != 0 && ip_addr_cmp(&x, &y) && su_getport(a) == su_getport(b);
}

/* 1 where `ip` is in `net`, 0 where it is not, -1 where they are of different families. */
static inline int matchnet(struct ip_addr *ip, struct net *net)
{
	unsigned int i;

	if (ip->af != net->ip.af)
		return -1;
	for (i = 0; i < ip->len; i++)
		if ((ip->u.addr[i] & net->mask.u.addr[i]) != net->ip.u.addr[i])
			return 0;
	return 1;
}

/* The address as text, terminated, in memory of the thread that the next call in this file uses again. */
static inline char *ip_addr2a(struct ip_addr *ip)
{
	static __thread char text[INET6_ADDRSTRLEN];

	if (!inet_ntop((int)ip->af, ip->u.addr, text, sizeof(text)))
		text[0] = '\0';
	return text;
}

#endif
