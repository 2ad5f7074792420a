/* Compiled with other flags. */
#include "sr_module.h"

struct module_exports exports = {
	.name = "wrong_flags",
	.version = OPENSIPS_FULL_VERSION,
	.compile_flags = "STATS: Off, USE_IPV6, F_MALLOC, FAST_LOCK-ADAPTIVE_WAIT",
};
