/*
 * Finds the function "given", of whichever module has it, this one included, and calls it: what it answers is the number of its module.
 * Compiled under several names and numbers: -DWHO=\"first\" -DNUMBER=1.
 */
#include "sr_module.h"

#ifndef WHO
#define WHO "asks"
#define NUMBER 1
#endif

/* 0: nobody has it. */
int asks_found;

static int given(struct sip_msg *message)
{
	(void)message;
	return NUMBER;
}

static int mod_init(void)
{
	cmd_function found = find_export("given", 0, 0);
	cmd_export_t *entry = find_cmd_export_t("given", 0, 0);

	if ((found == NULL) != (entry == NULL) || (entry != NULL && entry->function != found))
		return -1;
	asks_found = found == NULL ? 0 : found(NULL, NULL, NULL, NULL, NULL, NULL, NULL);
	return 0;
}

static cmd_export_t cmds[] = {
	{"given", (cmd_function)given, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {WHO, MODULE_VERSION, DEFAULT_DLFLAGS, cmds, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
