/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Destinations as modules read them, hashes, and the idioms of each API's strings. Ends with 0, or says where it was not so. */
#include "hash_func.h"
#include "resolve.h"
#include "socket_info.h"
#include "binrush.h"
#include "check.h"

static char *host;
static int hlen, port, proto;

static int parse(const char *text)
{
	static char bytes[64];

	hlen = port = proto = -7;
	strcpy(bytes, text);
	return parse_phostport(bytes, (int)strlen(bytes), &host, &hlen, &port, &proto);
}

static void parsed(const char *text, const char *should, int should_port, int should_proto)
{
	EQUAL(parse(text), 0);
	EQUAL(hlen, (long)strlen(should));
	CHECK(memcmp(host, should, strlen(should)) == 0);
	EQUAL(port, should_port);
	EQUAL(proto, should_proto);
}

static void hosts_and_ports(void)
{
	static const char *none[] = {
		"", ":", "a:", "x:a", "udp:a:b", "a:1:2:3", "[::1", "::1]", "[[::1]]", "a:65536:", "udp:a:65536", "nn:a:5", "a:99999"};
	size_t i;

	parsed("a.example", "a.example", 0, 0);
	parsed("a.example:5070", "a.example", 5070, 0);
	parsed("UDP:a.example", "a.example", 0, PROTO_UDP);
	parsed("tcp:a.example:5070", "a.example", 5070, PROTO_TCP);
	parsed("[2001:db8::1]", "[2001:db8::1]", 0, 0);
	parsed("[2001:db8::1]:5070", "[2001:db8::1]", 5070, 0);
	parsed("tls:[2001:db8::1]:5070", "[2001:db8::1]", 5070, PROTO_TLS);
	for (i = 0; i < sizeof(none) / sizeof(*none); i++) {
		EQUAL(parse(none[i]), -1);
		EQUAL(port, -7);
	}
}

static struct hostent *resolved(const char *text, unsigned short *its_port, unsigned short *its_proto)
{
	static char bytes[300];
	str name = {bytes, (int)strlen(text)};

	strcpy(bytes, text);
	return sip_resolvehost(&name, its_port, its_proto, 0, NULL);
}

static void addresses(void)
{
	unsigned short its_port = 0, its_proto = 0;
	struct hostent *he = resolved("127.0.0.1", &its_port, &its_proto);
	union sockaddr_union su;
	char long_one[280];

	CHECK(he);
	EQUAL(its_port, 5060);
	EQUAL(its_proto, PROTO_UDP);
	EQUAL(hostent2su(&su, he, 0, 5070), 0);
	EQUAL(su.sin.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	EQUAL(su_getport(&su), 5070);
	he = resolved("[::1]", &its_port, NULL);
	CHECK(he && he->h_addrtype == AF_INET6);
	/* Without a port it would be SRV records. */
	its_port = 0;
	CHECK(!resolved("localhost", &its_port, NULL));
	CHECK(!resolved("", &its_port, NULL));
	memset(long_one, 'a', sizeof(long_one));
	long_one[279] = '\0';
	CHECK(!resolved(long_one, &its_port, NULL));
}

/* What the functions of 1.11 answer. */
static void hashes(void)
{
	str alice = {(char *)"alice@example.com", 17}, upper = {(char *)"ALICE@Example.COM", 17};
	str high = {(char *)"\xff\x80\xfe\x81\xc3\xa4", 6}, eight = {(char *)"12345678", 8}, none = {NULL, 0};

	EQUAL(core_hash(&alice, NULL, 0), 2920418261L);
	EQUAL(core_hash(&alice, &eight, 0), 413146037L);
	EQUAL(core_hash(&alice, NULL, 512), 469);
	EQUAL(core_hash(&eight, NULL, 0), 1790317021L);
	EQUAL(core_case_hash(&alice, &eight, 512), 437);
	EQUAL(core_case_hash(&alice, NULL, 0), core_case_hash(&upper, NULL, 0));
	EQUAL(core_hash(&none, NULL, 0), 0);
	if ((char)-1 < 0)
		EQUAL(core_hash(&high, NULL, 0), 3251536428L);
}

#if BINRUSH_API == 1

static void idioms(void)
{
	static const char packet[] = "P4CK\x0f\xdd\x49\x0b\x02\0\0\0ul\x01\0\0\0";
	str name;

	CHECK(bin != NULL && bin_children == 1);
	get_name((char *)packet, name);
	CHECK(name.len == 2 && memcmp(name.s, "ul", 2) == 0);
}

#else

static void idioms(void)
{
	static const char *const names[] = {"ul", "dialog"};
	char room[8];
	str copy = {room, 0};
	int i;

	for (i = 0; i < 2; i++)
		EQUAL(_str(names[i])->len, (long)strlen(names[i]));
	EQUAL(str_static("dialog")->len, 6);
	CHECK(str_match(const_str("dialog"), str_static("dialog")));
	CHECK(!str_match(const_str("dialog"), str_static("dialo")));
	CHECK(!str_match(_str("a"), _str("b")));
	CHECK(str_cpy(&copy, const_str("dialog")) == &copy);
	CHECK(str_match(&copy, str_static("dialog")));
	CHECK(str2const(&copy)->s == room);
}

#endif

int main(void)
{
	alarm(60);
	hosts_and_ports();
	addresses();
	hashes();
	idioms();
	return 0;
}
