/* Made for another server, with a constructor: it may have given the address of its own code to anybody. */
#include "sr_module.h"

int constructed;

__attribute__((constructor)) static void construct(void)
{
	constructed = 1;
}

struct module_exports exports = {"constructed", "opensips 1.11.11 (x86_64/linux)", OPENSIPS_COMPILE_FLAGS, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
