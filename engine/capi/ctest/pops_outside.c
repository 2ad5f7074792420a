/* Pops where there is no packet: in mod_init, in child_init, by a command. */
#include "sr_module.h"
#include "bin_interface.h"

static int refused(void)
{
	str text;
	int number;

	return bin_pop_str(&text) == -2 && bin_pop_int(&number) == -2 && bin_skip_str(1) == -2 && bin_skip_int(1) == -2;
}

static int mod_init(void)
{
	return refused() ? 0 : -1;
}

static int child_init(int rank)
{
	(void)rank;
	return refused() ? 0 : -1;
}

static struct mi_root *pop(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	return refused() ? init_mi_tree(200, MI_SSTR(MI_OK)) : init_mi_tree(500, MI_SSTR("popped"));
}

static mi_export_t commands[] = {
	{"pops_outside", "Pops where there is no packet.", pop, MI_NO_INPUT_FLAG, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"pops_outside", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, mod_init, 0, 0, child_init};
