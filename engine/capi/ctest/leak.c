/* Keeps nothing of what it copies from packets of "leak". */
#include "sr_module.h"
#include "bin_interface.h"
#include "ut.h"

static stat_var *packets;

static void receive(int type)
{
	str text, copy;

	(void)type;
	update_stat(packets, 1);
	if (bin_pop_str(&text) == 0 && text.len > 0)
		pkg_str_dup(&copy, &text);
}

static int mod_init(void)
{
	return bin_register_cb("leak", receive);
}

static stat_export_t stats[] = {
	{"packets", 0, &packets},
	{0, 0, 0}
};

struct module_exports exports = {"leak", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, stats, 0, 0, 0, mod_init, 0, 0, 0};
