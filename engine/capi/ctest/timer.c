/* Two timers; one of them registers another. */
#include "sr_module.h"
#include "timer.h"

int timer_often, timer_seldom, timer_added;

static void often(unsigned int ticks, void *param)
{
	(void)ticks;
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

struct module_exports exports = {"timer", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
