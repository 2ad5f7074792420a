/* A thread of a module's own, which is in nobody's call: what it says, registers, and ends by. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "sr_module.h"
#include "timer.h"

static stat_var *counted;

static void tick(unsigned int ticks, void *param)
{
	(void)ticks;
	(void)param;
}

static void *run(void *how)
{
	volatile int *nowhere = NULL;

	LM_ERR("a line\n");
	if (register_stat("own_thread", "counted", &counted, 0) != 0)
		return NULL;
	if (strcmp((char *)how, "crash") == 0 && register_timer("own", tick, NULL, 1) == 0)
		*nowhere = 1;
	return how;
}

static struct mi_root *start(struct mi_root *params, void *param)
{
	static char crash[] = "crash", end[] = "end";
	int crashes = params->node.kids != NULL;
	pthread_t thread;
	void *result = NULL;

	(void)param;
	if (pthread_create(&thread, NULL, run, crashes ? crash : end) != 0 || pthread_join(thread, &result) != 0 || result == NULL)
		return init_mi_tree(500, MI_SSTR("it failed"));
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static struct mi_root *leave(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	exit(0);
}

static mi_export_t commands[] = {
	{"own_start", "Starts a thread, and waits for it.", start, 0, 0, 0},
	{"own_exit", "Ends the process.", leave, MI_NO_INPUT_FLAG, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"own_thread", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, 0, 0, 0, 0};
