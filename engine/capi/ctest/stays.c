/*
 * Does not return from where it is told to stay, and makes a file there, so that one sees that it is in it. In its constructor it stays
 * where the environment has STAYS_MARK, which is that file. Its function "falls" crashes.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sr_module.h"

static char *where = "";
static char *mark = "";

static void stay(const char *here)
{
	int fd;

	if (strcmp(where, here) != 0)
		return;
	fd = open(mark, O_CREAT | O_WRONLY, 0600);
	if (fd >= 0)
		close(fd);
	for (;;)
		pause();
}

__attribute__((constructor)) static void load(void)
{
	char *found = getenv("STAYS_MARK");

	if (found == NULL)
		return;
	mark = found;
	where = "constructor";
	stay("constructor");
}

static int set_here(modparam_t type, void *value)
{
	(void)type;
	(void)value;
	stay("modparam");
	return 0;
}

static int fixup(void **param, int number)
{
	(void)param;
	(void)number;
	stay("fixup");
	return 0;
}

static int free_fixup(void **param, int number)
{
	(void)param;
	(void)number;
	stay("free_fixup");
	return 0;
}

static int stays(struct sip_msg *message, char *text)
{
	(void)message;
	(void)text;
	return 1;
}

static int falls(struct sip_msg *message)
{
	volatile int *nowhere = NULL;

	(void)message;
	*nowhere = 1;
	return 1;
}

static int mod_init(void)
{
	stay("mod_init");
	return 0;
}

static int child_init(int rank)
{
	(void)rank;
	stay("child_init");
	return 0;
}

static void destroy(void)
{
	stay("destroy");
}

static cmd_export_t cmds[] = {
	{"stays", (cmd_function)stays, 1, fixup, free_fixup, REQUEST_ROUTE},
	{"falls", (cmd_function)falls, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

static param_export_t params[] = {
	{"where", STR_PARAM, &where},
	{"mark", STR_PARAM, &mark},
	{"here", INT_PARAM | USE_FUNC_PARAM, (void *)set_here},
	{0, 0, 0}
};

struct module_exports exports = {"stays", MODULE_VERSION, DEFAULT_DLFLAGS, cmds, params, 0, 0, 0, 0, mod_init, 0, destroy, child_init};
