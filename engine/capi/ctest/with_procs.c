/* Wants a process of its own. */
#include "sr_module.h"

static void run(int no)
{
	(void)no;
}

static proc_export_t procs[] = {
	{"poller", 0, 0, run, 1, PROC_FLAG_INITCHILD},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"with_procs", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, procs, 0, 0, 0, 0};
