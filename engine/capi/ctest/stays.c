/* Does not return from where it is told to stay, and makes a file there, so that one sees that it is in it. */
#include <fcntl.h>
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

static param_export_t params[] = {
	{"where", STR_PARAM, &where},
	{"mark", STR_PARAM, &mark},
	{0, 0, 0}
};

struct module_exports exports = {"stays", MODULE_VERSION, DEFAULT_DLFLAGS, 0, params, 0, 0, 0, 0, mod_init, 0, destroy, child_init};
