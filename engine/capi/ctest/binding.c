/* Finds the functions and parameters of other modules, as one module of OpenSIPS uses another. */
#include "sr_module.h"

int binding_failed;

static int mod_init(void)
{
	int *times;

	/* Each is a bit, so that a test shows which. */
	binding_failed |= (module_loaded("tutorial") == 1 && module_loaded("binding") == 1 && !module_loaded("nobody")) ? 0 : 1;
	binding_failed |= find_export("greet", 1, REQUEST_ROUTE | ONREPLY_ROUTE) ? 0 : 2;
	binding_failed |= find_export("greet", 0, ONREPLY_ROUTE) ? 4 : 0;
	binding_failed |= find_export("greet", 2, REQUEST_ROUTE) ? 8 : 0;
	binding_failed |= find_mod_export("tutorial", "greet", 0, 0) == find_export("greet", 0, 0) ? 0 : 16;
	binding_failed |= find_mod_export("binding", "greet", 0, 0) || find_mod_export(NULL, NULL, 0, 0) ? 32 : 0;
	binding_failed |= find_cmd_export_t("greet", 1, 0)->fixup ? 0 : 64;
	times = find_param_export("tutorial", "times", INT_PARAM);
	binding_failed |= times && *times == 1 && !find_param_export("tutorial", "times", STR_PARAM) ? 0 : 128;
	return binding_failed;
}

struct module_exports exports = {"binding", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
