/*
 * Finds the function "given" of another module before its own mod_init, and in a thread of its own: in a constructor, where a parameter
 * is set by a function, and in a thread that mod_init waits for. What each found answers, which is 0 where it found nothing.
 * Compiled under several names: -DWHO=\"early\".
 */
#include <pthread.h>
#include <stddef.h>

#include "sr_module.h"

int asks_constructed, asks_set, asks_thread;

static int ask(void)
{
	cmd_function found = find_export("given", 0, 0);

	return found == NULL ? 0 : found(NULL, NULL, NULL, NULL, NULL, NULL, NULL);
}

__attribute__((constructor)) static void construct(void)
{
	asks_constructed = ask();
}

static int set(modparam_t type, void *value)
{
	(void)type;
	(void)value;
	asks_set = ask();
	return 0;
}

static void *run(void *unused)
{
	asks_thread = ask();
	return unused;
}

static int mod_init(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, run, NULL) != 0 || pthread_join(thread, NULL) != 0 ? -1 : 0;
}

static param_export_t params[] = {
	{"ask", INT_PARAM | USE_FUNC_PARAM, (void *)set},
	{0, 0, 0}
};

struct module_exports exports = {WHO, MODULE_VERSION, DEFAULT_DLFLAGS, 0, params, 0, 0, 0, 0, mod_init, 0, 0, 0};
