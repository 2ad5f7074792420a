/* Two timers; one of them registers another. Told as statistics, and how many calls were not on the thread of child_init. */
#include "sr_module.h"
#include "timer.h"

int timer_often, timer_seldom, timer_added;

static int elsewhere;
static _Thread_local int is_child;

static void often(unsigned int ticks, void *param)
{
	(void)ticks;
	elsewhere += !is_child;
	++*(int *)param;
}

static void seldom(unsigned int ticks, void *param)
{
	(void)ticks;
	if (++*(int *)param == 1)
		register_timer("timer-added", often, &timer_added, 1);
}

static int mod_init(void)
{
	if (register_timer("timer-never", often, NULL, 0) != -1 || register_timer("timer-nothing", NULL, NULL, 1) != -1)
		return -2;
	if (register_timer("timer-often", often, &timer_often, 1) != 0)
		return -1;
	return register_timer("timer-seldom", seldom, &timer_seldom, 60);
}

static int child_init(int rank)
{
	(void)rank;
	is_child = 1;
	return 0;
}

static unsigned long tell_often(void *context)
{
	(void)context;
	return (unsigned long)timer_often;
}

static unsigned long tell_elsewhere(void *context)
{
	(void)context;
	return (unsigned long)elsewhere;
}

static stat_export_t stats[] = {
	{"often", STAT_IS_FUNC, (stat_var **)(void *)tell_often},
	{"elsewhere", STAT_IS_FUNC, (stat_var **)(void *)tell_elsewhere},
	{0, 0, 0}
};

struct module_exports exports = {"timer", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, stats, 0, 0, 0, mod_init, 0, 0, child_init};
