/* A module with nothing but a name. */
#include "sr_module.h"

struct module_exports exports = {"null_tables", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
