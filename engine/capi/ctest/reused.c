/* A fixup that frees the text before it makes something of it, and may get the same memory again. */
#include "sr_module.h"
#include "ut.h"

int reused_same, reused_freed;

static int fix(void **param, int param_no)
{
	char *text = (char *)*param;
	int number = atoi(text);
	int *made;
	size_t before = (size_t)text;

	(void)param_no;
	pkg_free(text);
	made = (int *)pkg_malloc(sizeof(*made));
	if (made == NULL)
		return -1;
	*made = number;
	*param = made;
	reused_same += (size_t)made == before;
	return 0;
}

static int unfix(void **param, int param_no)
{
	(void)param_no;
	pkg_free(*param);
	reused_freed++;
	return 0;
}

static int f_number(struct sip_msg *msg, char *number)
{
	(void)msg;
	return *(int *)(void *)number;
}

static cmd_export_t cmds[] = {
	{"f_number", (cmd_function)f_number, 1, fix, unfix, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"reused", MODULE_VERSION, DEFAULT_DLFLAGS, cmds, 0, 0, 0, 0, 0, 0, 0, 0, 0};
