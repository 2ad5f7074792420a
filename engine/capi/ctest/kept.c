/*
 * Keeps a pointer into a packet of "kept" beyond its callback, and looks at it in the next one: what it finds there is not what it
 * kept.
 */
#include "sr_module.h"
#include "bin_interface.h"

static stat_var *packets, *intact, *poisoned;
static char *first;
static char was;

static void receive(int type)
{
	str text;

	(void)type;
	update_stat(packets, 1);
	if (first != NULL) {
		if ((unsigned char)*first == 0xA5)
			update_stat(poisoned, 1);
		else if (*first == was)
			update_stat(intact, 1);
	}
	if (bin_pop_str(&text) != 0 || text.len == 0)
		return;
	first = text.s;
	was = *text.s;
}

static int mod_init(void)
{
	return bin_register_cb("kept", receive);
}

static stat_export_t stats[] = {
	{"packets", 0, &packets},
	{"intact", 0, &intact},
	{"poisoned", 0, &poisoned},
	{0, 0, 0}
};

struct module_exports exports = {"kept", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, stats, 0, 0, 0, mod_init, 0, 0, 0};
