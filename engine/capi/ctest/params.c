/* Parameters of every kind. One is exported twice, as a text and as a number. */
#include "sr_module.h"

int params_number = 1;
char *params_text = "unset";
int params_function_number;
char *params_function_text;
char *params_either_text;
int params_either_number;

static int set_number(modparam_t type, void *value)
{
	int number = (int)(long)value;

	if (type != INT_PARAM || number > 100)
		return -3;
	params_function_number = number;
	return 0;
}

static int set_text(modparam_t type, void *value)
{
	params_function_text = value;
	return type == STR_PARAM ? 0 : -1;
}

static param_export_t params[] = {
	{"number", INT_PARAM, &params_number},
	{"text", STR_PARAM, &params_text},
	{"function_number", INT_PARAM | USE_FUNC_PARAM, (void *)set_number},
	{"function_text", STR_PARAM | USE_FUNC_PARAM, (void *)set_text},
	{"either", STR_PARAM, &params_either_text},
	{"either", INT_PARAM, &params_either_number},
	{0, 0, 0}
};

struct module_exports exports = {"params", MODULE_VERSION, DEFAULT_DLFLAGS, 0, params, 0, 0, 0, 0, 0, 0, 0, 0};
