/* Calls itself as another one does, and asks for flags of its own. */
#include "sr_module.h"

struct module_exports exports = {"null_tables", MODULE_VERSION, RTLD_NOW | RTLD_GLOBAL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
