/* Has a command that another module has. */
#include "sr_module.h"

static struct mi_root *nothing(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	return NULL;
}

static mi_export_t commands[] = {
	{"mi_echo", 0, nothing, 0, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"mi_taken", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, 0, 0, 0, 0};
