/*
 * Opens files when its thread begins, which the server may not let it: says on standard error which, and with what outcome.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sr_module.h"

static char *reads = NULL;
static char *writes = NULL;

static void tell(const char *how, const char *path, int flags)
{
	int file;

	if (path == NULL)
		return;
	file = open(path, flags, 0600);
	fprintf(stderr, "opens: %s %s\n", how, file < 0 ? strerror(errno) : "well");
	if (file >= 0)
		close(file);
}

static int child_init(int rank)
{
	(void)rank;
	tell("reads", reads, O_RDONLY);
	tell("writes", writes, O_WRONLY | O_CREAT);
	return 0;
}

static param_export_t params[] = {
	{"reads", STR_PARAM, &reads},
	{"writes", STR_PARAM, &writes},
	{0, 0, 0}
};

struct module_exports exports = {
	.name = "opens",
	.version = MODULE_VERSION,
	.dlflags = DEFAULT_DLFLAGS,
	.params = params,
	.init_child_f = child_init,
};
