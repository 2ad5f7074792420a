/* Registers two callbacks for "twice", in mod_init or in child_init: the later one gets all packets. */
#include "sr_module.h"
#include "bin_interface.h"

static stat_var *earlier, *later;

static void receive_earlier(int type)
{
	(void)type;
	update_stat(earlier, 1);
}

static void receive_later(int type)
{
	(void)type;
	update_stat(later, 1);
}

static int in_child;

static int register_both(void)
{
	return bin_register_cb("twice", receive_earlier) == 0 && bin_register_cb("twice", receive_later) == 0 ? 0 : -1;
}

static int mod_init(void)
{
	return in_child ? 0 : register_both();
}

static int child_init(int rank)
{
	(void)rank;
	return in_child ? register_both() : 0;
}

static param_export_t params[] = {
	{"in_child", INT_PARAM, &in_child},
	{0, 0, 0}
};

static stat_export_t stats[] = {
	{"earlier", 0, &earlier},
	{"later", 0, &later},
	{0, 0, 0}
};

struct module_exports exports = {"twice", MODULE_VERSION, DEFAULT_DLFLAGS, 0, params, stats, 0, 0, 0, mod_init, 0, 0, child_init};
