/* MODULE_VERSION was forgotten. */
#include "sr_module.h"

struct module_exports exports = {
	.name = "no_version",
};
