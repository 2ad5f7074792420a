/* Starts, and then does not. */
#include "sr_module.h"

static int child_init(int rank)
{
	return rank == PROC_BIN ? -5 : 0;
}

struct module_exports exports = {"failing_child", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, 0, 0, 0, child_init};
