/* Counts packets of "endless" until one says to go on for ever; another one says to take a while, in milliseconds. */
#include <time.h>

#include "sr_module.h"
#include "bin_interface.h"

#define COUNT 1
#define FOR_EVER 2
#define A_WHILE 3

static stat_var *packets;
static volatile int goes_on = 1;

static void receive(int type)
{
	struct timespec now, until;
	int milliseconds;

	update_stat(packets, 1);
	if (type == FOR_EVER)
		while (goes_on)
			continue;
	if (type != A_WHILE || bin_pop_int(&milliseconds) != 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (milliseconds % 1000) * 1000000L;
	until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec < until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec < until.tv_nsec));
}

static int mod_init(void)
{
	return bin_register_cb("endless", receive);
}

static stat_export_t stats[] = {
	{"packets", 0, &packets},
	{0, 0, 0}
};

struct module_exports exports = {"endless", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, stats, 0, 0, 0, mod_init, 0, 0, 0};
