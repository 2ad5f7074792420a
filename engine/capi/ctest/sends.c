/*
 * Sends packets "sent" of no fields to a port of 127.0.0.1: of type 1 from child_init, at once; of type 2 each second, and of type 3 from
 * a function, by the queue; of type 4 from destroy, at once.
 */
#include <arpa/inet.h>
#include <string.h>

#include "sr_module.h"
#include "binrush.h"
#include "timer.h"

#define CHILD 1
#define TIMER 2
#define FUNCTION 3
#define END 4

static int port, early, ticking, last;

static int sends(int type, int (*send)(union sockaddr_union *))
{
	str name = {"sent", 4};
	union sockaddr_union to;

	memset(&to, 0, sizeof(to));
	to.sin.sin_family = AF_INET;
	to.sin.sin_port = htons((unsigned short)port);
	to.sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return bin_init(&name, type) == 0 && send(&to) > 0 ? 1 : -1;
}

static void tick(unsigned int ticks, void *param)
{
	(void)ticks;
	(void)param;
	sends(TIMER, bin_send_batch);
}

static int queues(struct sip_msg *message)
{
	(void)message;
	return sends(FUNCTION, bin_send_batch);
}

static int mod_init(void)
{
	return ticking ? register_timer("sends-tick", tick, NULL, 1) : 0;
}

static int child_init(int rank)
{
	(void)rank;
	return early && sends(CHILD, bin_send) < 0 ? -1 : 0;
}

static void destroy(void)
{
	if (last)
		sends(END, bin_send);
}

static cmd_export_t cmds[] = {
	{"sends_queue", (cmd_function)queues, 0, 0, 0, STARTUP_ROUTE | TIMER_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

static param_export_t params[] = {
	{"port", INT_PARAM, &port},
	{"early", INT_PARAM, &early},
	{"ticking", INT_PARAM, &ticking},
	{"last", INT_PARAM, &last},
	{0, 0, 0}
};

struct module_exports exports = {"sends", MODULE_VERSION, DEFAULT_DLFLAGS, cmds, params, 0, 0, 0, 0, mod_init, 0, destroy, child_init};
