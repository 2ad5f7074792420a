/* Uses a function of OpenSIPS that is not here. */
#include "sr_module.h"

int parse_headers(struct sip_msg *msg, unsigned long long flags, int next);

static int mod_init(void)
{
	return parse_headers(NULL, 0, 0);
}

struct module_exports exports = {"undefined", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
