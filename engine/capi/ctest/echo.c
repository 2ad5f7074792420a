/*
 * Answers each packet "echo" of one int, a port, with a packet "echoed" of the same int, to that port on 127.0.0.1.
 */
#include <arpa/inet.h>
#include <string.h>

#include "sr_module.h"
#include "bin_interface.h"
#include "dprint.h"

static void echo(int type)
{
	str name = {"echoed", 6};
	union sockaddr_union to;
	int port;

	if (bin_pop_int(&port) != 0)
		return;
	memset(&to, 0, sizeof(to));
	to.sin.sin_family = AF_INET;
	to.sin.sin_port = htons((unsigned short)port);
	to.sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bin_init(&name, type) != 0 || bin_push_int(port) < 0 || bin_send(&to) < 0)
		LM_ERR("nothing was sent to %d\n", port);
}

static int mod_init(void)
{
	return bin_register_cb("echo", echo);
}

struct module_exports exports = {"echo", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
