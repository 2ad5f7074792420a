/* Exports that cannot be, each for the macro that chooses it. */
#include "sr_module.h"

int f(struct sip_msg *msg)
{
	(void)msg;
	return 1;
}

struct mi_root *run(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	return NULL;
}

int number;
stat_var *counted;

#define TEN(_entry) _entry, _entry, _entry, _entry, _entry, _entry, _entry, _entry, _entry, _entry
#define ENTRY {"f", (cmd_function)f, 0, 0, 0, REQUEST_ROUTE}

static cmd_export_t cmds[] = {
#if defined(TOO_MANY_PARAMETERS)
	{"f", (cmd_function)f, 7, 0, 0, REQUEST_ROUTE},
#elif defined(FEWER_THAN_NO_PARAMETERS)
	{"f", (cmd_function)f, -1, 0, 0, REQUEST_ROUTE},
#elif defined(NO_END)
	/* There is one, so that nobody reads beyond it. */
	TEN(TEN(TEN(TEN(ENTRY)))),
#elif defined(EMPTY_NAME)
	{"", (cmd_function)f, 0, 0, 0, REQUEST_ROUTE},
#else
	ENTRY,
#endif
	{0, 0, 0, 0, 0, 0}
};

static param_export_t params[] = {
#if defined(ODD_TYPE)
	{"number", 3, &number},
#elif defined(NO_POINTER)
	{"number", INT_PARAM, 0},
#else
	{"number", INT_PARAM, &number},
#endif
	{0, 0, 0}
};

static stat_export_t stats[] = {
#if defined(STATISTIC_WITHOUT_POINTER)
	{"counted", 0, 0},
#else
	{"counted", 0, &counted},
#endif
	{0, 0, 0}
};

static mi_export_t commands[] = {
#if defined(COMMAND_WITHOUT_CODE)
	{"run", 0, 0, 0, 0, 0},
#elif defined(NAME_WITH_A_BLANK)
	{"run away", 0, run, 0, 0, 0},
#else
	{"run", 0, run, 0, 0, 0},
#endif
	{0, 0, 0, 0, 0, 0}
};

#if defined(ODD_FLAGS)
#define FLAGS 0x40000000
#else
#define FLAGS DEFAULT_DLFLAGS
#endif

struct module_exports exports = {"broken", MODULE_VERSION, FLAGS, cmds, params, stats, commands, 0, 0, 0, 0, 0, 0};
