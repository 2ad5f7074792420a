/* A thread of a module's own, which is in nobody's call: what it says, registers, and ends by. */
#include <pthread.h>
#include <signal.h>
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

static void *run_exit(void *unused)
{
	(void)unused;
	exit(0);
}

static struct mi_root *leave_there(struct mi_root *params, void *param)
{
	pthread_t thread;

	(void)params;
	(void)param;
	if (pthread_create(&thread, NULL, run_exit, NULL) != 0 || pthread_join(thread, NULL) != 0)
		return init_mi_tree(500, MI_SSTR("it failed"));
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static pthread_barrier_t both;

static void *run_into_nowhere(void *unused)
{
	volatile int *nowhere = NULL;

	pthread_barrier_wait(&both);
	*nowhere = 1;
	return unused;
}

static void *run_into_trap(void *unused)
{
	pthread_barrier_wait(&both);
#if defined(__x86_64__)
	__asm__ volatile("xorl %%ecx, %%ecx; divl %%ecx" : : : "eax", "ecx", "edx", "cc");
#else
	raise(SIGFPE);
#endif
	return unused;
}

static struct mi_root *crash_twice(struct mi_root *params, void *param)
{
	pthread_t threads[2];

	(void)params;
	(void)param;
	if (pthread_barrier_init(&both, NULL, 2) != 0 || pthread_create(&threads[0], NULL, run_into_nowhere, NULL) != 0 ||
	    pthread_create(&threads[1], NULL, run_into_trap, NULL) != 0)
		return init_mi_tree(500, MI_SSTR("it failed"));
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static mi_export_t commands[] = {
	{"own_start", "Starts a thread, and waits for it.", start, 0, 0, 0},
	{"own_exit", "Ends the process.", leave, MI_NO_INPUT_FLAG, 0, 0},
	{"own_leave", "Ends the process from a thread.", leave_there, MI_NO_INPUT_FLAG, 0, 0},
	{"own_twice", "Two threads that crash at the same time.", crash_twice, MI_NO_INPUT_FLAG, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"own_thread", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, 0, 0, 0, 0};
