/*
 * Functions of the routing script that write all over the message that they are shown, and say what they find there; one that takes
 * its time; and one that crashes.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sr_module.h"

/* Bits of what `look` finds; a message that is as it should be has none, for which it answers -1. */
#define SCRIBBLED 1
#define SCRIBBLED_PACKET 2
#define NO_END 4

/* Leaves everything but rcv, buf and len full of ones, and an X at the beginning of the packet. */
static int scribble(struct sip_msg *msg)
{
	struct sip_msg was = *msg;

	memset(msg, 0xff, sizeof(*msg));
	msg->rcv = was.rcv;
	msg->buf = was.buf;
	msg->len = was.len;
	if (msg->len > 0)
		msg->buf[0] = 'X';
	return 1;
}

/* Has the message point elsewhere. */
static int divert(struct sip_msg *msg)
{
	static char elsewhere[] = "elsewhere";

	msg->buf = elsewhere;
	msg->len = sizeof(elsewhere) - 1;
	return 1;
}

static int look(const struct sip_msg *msg)
{
	static const struct sip_msg zero;
	struct sip_msg rest = *msg;
	int found = 0;

	memset(&rest.rcv, 0, sizeof(rest.rcv));
	rest.buf = NULL;
	rest.len = 0;
	if (memcmp(&rest, &zero, sizeof(rest)) != 0)
		found |= SCRIBBLED;
	if (msg->buf[0] == 'X')
		found |= SCRIBBLED_PACKET;
	if (msg->buf[msg->len] != 0)
		found |= NO_END;
	return found != 0 ? found : -1;
}

/* How many bytes there are before the first 0: of a packet without any, all of them. */
static int letters(const struct sip_msg *msg)
{
	return strlen(msg->buf) == msg->len && msg->len > 0 ? (int)msg->len : -1;
}

/* Whether the packet has the text, to the first 0. */
static int has(const struct sip_msg *msg, const char *text)
{
	return strstr(msg->buf, text) != NULL ? 1 : -1;
}

/* Takes so many milliseconds. */
static int dawdle(const struct sip_msg *msg, const char *ms)
{
	struct timespec a_while = {0, 1000000L * atoi(ms)};

	(void)msg;
	nanosleep(&a_while, NULL);
	return 1;
}

/* Follows a pointer to nowhere. */
static int fall(struct sip_msg *msg)
{
	volatile int *nowhere = NULL;

	(void)msg;
	*nowhere = 1;
	return 1;
}

static cmd_export_t cmds[] = {
	{"scribble", (cmd_function)scribble, 0, 0, 0, REQUEST_ROUTE | TIMER_ROUTE},
	{"divert", (cmd_function)divert, 0, 0, 0, REQUEST_ROUTE},
	{"look", (cmd_function)look, 0, 0, 0, REQUEST_ROUTE | TIMER_ROUTE},
	{"letters", (cmd_function)letters, 0, 0, 0, REQUEST_ROUTE | TIMER_ROUTE},
	{"dawdle", (cmd_function)dawdle, 1, 0, 0, REQUEST_ROUTE | STARTUP_ROUTE | TIMER_ROUTE | EVENT_ROUTE},
	{"fall", (cmd_function)fall, 0, 0, 0, REQUEST_ROUTE},
	{"has", (cmd_function)has, 1, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {
	.name = "message",
	.version = MODULE_VERSION,
	.dlflags = DEFAULT_DLFLAGS,
	.cmds = cmds,
};
