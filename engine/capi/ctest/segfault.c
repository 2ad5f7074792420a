/* Counts packets of "crash" until one says to follow a pointer to nowhere. */
#include "sr_module.h"
#include "bin_interface.h"

#define COUNT 1
#define CRASH 2

static stat_var *packets;

static void receive(int type)
{
	volatile int *nowhere = NULL;

	update_stat(packets, 1);
	if (type == CRASH)
		*nowhere = type;
}

static int mod_init(void)
{
	return bin_register_cb("crash", receive);
}

static stat_export_t stats[] = {
	{"packets", 0, &packets},
	{0, 0, 0}
};

struct module_exports exports = {"segfault", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, stats, 0, 0, 0, mod_init, 0, 0, 0};
