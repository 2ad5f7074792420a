/*
 * Functions of the routing script that tell on standard error what is done with them, in order: prepared, called, freed, ended. A call on
 * another thread than child_init answers -9, as does a message that describes nothing.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "sr_module.h"
#include "mem/mem.h"

static _Thread_local int is_child;

static int child_init(int rank)
{
	(void)rank;
	is_child = 1;
	fprintf(stderr, "calls: child_init\n");
	return 0;
}

static void destroy(void)
{
	fprintf(stderr, "calls: destroy\n");
}

static int fixup(void **param, int number)
{
	fprintf(stderr, "calls: fixup %d %s\n", number, (char *)*param);
	return strcmp(*param, "refused") == 0 ? -5 : 0;
}

static int free_fixup(void **param, int number)
{
	fprintf(stderr, "calls: free %d %s\n", number, (char *)*param);
	pkg_free(*param);
	return 0;
}

static int is_described(const struct sip_msg *msg)
{
	return is_child && msg != NULL && msg->buf != NULL;
}

/* In any route: says what it was prepared with, and how long the packet is. */
static int tell(struct sip_msg *msg, const char *what)
{
	if (!is_described(msg))
		return -9;
	fprintf(stderr, "calls: %s of %u\n", what, msg->len);
	return 1;
}

/* As many as there may be: how many of them say "x". */
static int six(struct sip_msg *msg, const char *a, const char *b, const char *c, const char *d, const char *e, const char *f)
{
	const char *all[] = {a, b, c, d, e, f};
	int i, count = 0;

	if (!is_described(msg))
		return -9;
	for (i = 0; i < 6; i++)
		count += strcmp(all[i], "x") == 0;
	return count;
}

/* Whether all three texts are there. */
static int three(struct sip_msg *msg, const char *a, const char *b, const char *c)
{
	if (!is_described(msg))
		return -9;
	return a != NULL && b != NULL && c != NULL ? 1 : -1;
}

/* Whether the packet came by a connection, `bin`, from 127.0.0.1, without a word. */
static int by_connection(struct sip_msg *msg)
{
	if (!is_described(msg))
		return -9;
	return msg->len > 0 && msg->rcv.proto == 8 && memcmp(msg->rcv.src_ip.u.addr, "\177\0\0\1", 4) == 0 ? 2 : -2;
}

static const char *shown(const struct ip_addr *ip, char *text)
{
	if (ip->af == 0 && ip->len == 0)
		return "nowhere";
	if (ip->len != (ip->af == AF_INET ? 4 : 16))
		return "a wrong length";
	return inet_ntop((int)ip->af, ip->u.addr, text, INET6_ADDRSTRLEN);
}

/* Says all of the receive info. */
static int received(struct sip_msg *msg)
{
	const struct receive_info *rcv;
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN], su[INET6_ADDRSTRLEN] = "";
	unsigned int port = 0;

	if (!is_described(msg))
		return -9;
	rcv = &msg->rcv;
	if (rcv->src_su.s.sa_family == AF_INET) {
		inet_ntop(AF_INET, &rcv->src_su.sin.sin_addr, su, sizeof(su));
		port = ntohs(rcv->src_su.sin.sin_port);
	} else if (rcv->src_su.s.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &rcv->src_su.sin6.sin6_addr, su, sizeof(su));
		port = ntohs(rcv->src_su.sin6.sin6_port);
	}
	fprintf(stderr, "calls: %s %d to %s %d by %d, %s %u, %d %d %s\n", shown(&rcv->src_ip, from), rcv->src_port,
		shown(&rcv->dst_ip, to), rcv->dst_port, rcv->proto, su, port, rcv->proto_reserved1, rcv->proto_reserved2,
		rcv->bind_address == NULL ? "and no more" : "and a listener");
	return 1;
}

static cmd_export_t cmds[] = {
	{"tell", (cmd_function)tell, 1, fixup, free_fixup, REQUEST_ROUTE | STARTUP_ROUTE | TIMER_ROUTE | EVENT_ROUTE},
	{"six", (cmd_function)six, 6, 0, 0, REQUEST_ROUTE},
	{"three", (cmd_function)three, 3, fixup, free_fixup, REQUEST_ROUTE},
	{"by_connection", (cmd_function)by_connection, 0, 0, 0, REQUEST_ROUTE},
	{"received", (cmd_function)received, 0, 0, 0, REQUEST_ROUTE},
	{"on_reply", (cmd_function)by_connection, 0, 0, 0, ONREPLY_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {
	.name = "calls",
	.version = MODULE_VERSION,
	.dlflags = DEFAULT_DLFLAGS,
	.cmds = cmds,
	.destroy_f = destroy,
	.init_child_f = child_init,
};
