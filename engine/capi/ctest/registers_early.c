/* Registers wherever its code runs before packets come. */
#include "sr_module.h"
#include "bin_interface.h"

static int answers;

static void receive(int type)
{
	(void)type;
}

__attribute__((constructor)) static void construct(void)
{
	answers |= bin_register_cb("constructor", receive);
}

static int set(modparam_t type, void *value)
{
	(void)type;
	(void)value;
	return bin_register_cb("parameter", receive);
}

static int mod_init(void)
{
	return bin_register_cb("mod_init", receive) | answers;
}

static int child_init(int rank)
{
	(void)rank;
	return bin_register_cb("child_init", receive);
}

static int command_init(void)
{
	return bin_register_cb("command_init", receive);
}

static struct mi_root *nothing(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static param_export_t params[] = {
	{"name", INT_PARAM | USE_FUNC_PARAM, (void *)set},
	{0, 0, 0}
};

static mi_export_t commands[] = {
	{"early_nothing", "Does nothing.", nothing, MI_NO_INPUT_FLAG, 0, command_init},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"registers_early", MODULE_VERSION, DEFAULT_DLFLAGS, 0, params, 0, commands, 0, 0, mod_init, 0, 0, child_init};
