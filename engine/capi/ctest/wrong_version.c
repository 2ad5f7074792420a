/* Compiled for a genuine server. */
#include "sr_module.h"

struct module_exports exports = {
	.name = "wrong_version",
	.version = "opensips 1.11.11 (x86_64/linux)",
	.compile_flags = OPENSIPS_COMPILE_FLAGS,
};
