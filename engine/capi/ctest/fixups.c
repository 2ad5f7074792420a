/* Functions for every fixup: each answers what it got. */
#include "sr_module.h"
#include "mod_fix.h"
#include "ut.h"

char fixups_text[64];

static int keep(const str *text)
{
	snprintf(fixups_text, sizeof(fixups_text), "%.*s", text->len, text->s);
	return 1;
}

static int f_str(struct sip_msg *msg, char *text)
{
	(void)msg;
	return keep((str *)(void *)text);
}

static int f_uint(struct sip_msg *msg, char *number)
{
	(void)msg;
	return (int)(unsigned long)number;
}

static int f_sint(struct sip_msg *msg, char *number)
{
	(void)msg;
	return (int)(long)number;
}

static int f_igp(struct sip_msg *msg, char *number)
{
	int value;
	str text;

	if (fixup_get_svalue(msg, (gparam_p)(void *)number, &text) == 0)
		return -100;
	return fixup_get_ivalue(msg, (gparam_p)(void *)number, &value) == 0 ? value : -101;
}

static int f_spve_uint(struct sip_msg *msg, char *text, char *number)
{
	unsigned int flags = 0;
	int value = 0;
	str found = {NULL, 0};

	if (fixup_get_isvalue(msg, (gparam_p)(void *)text, &value, &found, &flags) != 0 || !(flags & GPARAM_STR_VALUE_FLAG))
		return -100;
	keep(&found);
	return flags & GPARAM_INT_VALUE_FLAG ? value : (int)(unsigned long)number;
}

static int f_regexp(struct sip_msg *msg, char *expression)
{
	(void)msg;
	return regexec((regex_t *)(void *)expression, "a TEXT", 0, NULL, 0) == 0 ? 1 : -1;
}

static int refuse(void **param, int param_no)
{
	return param == NULL && param_no == 0 ? -9 : 0;
}

static int f_refused(struct sip_msg *msg)
{
	(void)msg;
	return 1;
}

static cmd_export_t cmds[] = {
	{"f_str", (cmd_function)f_str, 1, fixup_str_null, fixup_free_str_null, REQUEST_ROUTE},
	{"f_uint", (cmd_function)f_uint, 1, fixup_uint_null, 0, REQUEST_ROUTE},
	{"f_sint", (cmd_function)f_sint, 1, fixup_sint_null, 0, REQUEST_ROUTE},
	{"f_igp", (cmd_function)f_igp, 1, fixup_igp_null, 0, REQUEST_ROUTE},
	{"f_spve_uint", (cmd_function)f_spve_uint, 2, fixup_spve_uint, 0, REQUEST_ROUTE},
	{"f_too_many", (cmd_function)f_spve_uint, 2, fixup_str_null, 0, REQUEST_ROUTE},
	{"f_regexp", (cmd_function)f_regexp, 1, fixup_regexp_null, fixup_free_regexp_null, REQUEST_ROUTE},
	{"f_pvar", (cmd_function)f_str, 1, fixup_pvar_null, fixup_free_pvar_null, REQUEST_ROUTE},
	{"f_refused", (cmd_function)f_refused, 0, refuse, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"fixups", MODULE_VERSION, DEFAULT_DLFLAGS, cmds, 0, 0, 0, 0, 0, 0, 0, 0, 0};
