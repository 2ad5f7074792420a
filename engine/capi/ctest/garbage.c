/* A table that is nowhere. */
#include "sr_module.h"

struct module_exports exports = {"garbage", MODULE_VERSION, DEFAULT_DLFLAGS, (cmd_export_t *)16, 0, 0, 0, 0, 0, 0, 0, 0, 0};
