/* Cannot start. */
#include "sr_module.h"

static int mod_init(void)
{
	LM_ERR("there is nothing to do here\n");
	return -7;
}

struct module_exports exports = {"failing_init", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
