/* A module that does not say who it is. */
#include "sr_module.h"

struct module_exports exports = {0, MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
