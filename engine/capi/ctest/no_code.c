/* A function without code. */
#include "sr_module.h"

static cmd_export_t cmds[] = {
	{"nothing", 0, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"no_code", MODULE_VERSION, DEFAULT_DLFLAGS, cmds, 0, 0, 0, 0, 0, 0, 0, 0, 0};
