/* A function of the routing script that says yes to whatever has bytes. */
#include "sr_module.h"

static int yes(const struct sip_msg *msg)
{
	return msg->len > 0 ? 1 : -1;
}

static cmd_export_t cmds[] = {
	{"yes", (cmd_function)yes, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {
	.name = "route",
	.version = MODULE_VERSION,
	.dlflags = DEFAULT_DLFLAGS,
	.cmds = cmds,
};
