/* Says what is called, and when. Compiled under several names: -DWHO=\"first\". */
#include "sr_module.h"

#ifndef WHO
#define WHO "order"
#endif

static int mod_init(void)
{
	LM_NOTICE(WHO " begins\n");
	return 0;
}

static int child_init(int rank)
{
	LM_NOTICE(WHO " is %d\n", rank);
	return 0;
}

static void destroy(void)
{
	LM_NOTICE(WHO " ends\n");
}

struct module_exports exports = {WHO, MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, destroy, child_init};
