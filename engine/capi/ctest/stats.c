/* Statistics of every kind. They are counted by two commands, so that a test says when. */
#include "sr_module.h"
#include "statistics.h"

static stat_var *packets, *active;
static stat_var *later, *shared;
static unsigned long asked;

static unsigned long tell(void *context)
{
	(void)context;
	return ++asked;
}

static stat_export_t stats[] = {
	{"packets", 0, &packets},
	{"active", STAT_NO_RESET, &active},
	{"asked", STAT_IS_FUNC, (stat_var **)(void *)tell},
	{0, 0, 0}
};

static struct mi_root *count(struct mi_root *params, void *param)
{
	str name = {"late-packets", 12};

	(void)params;
	(void)param;
	if (later == NULL && register_stat("stats", "late-packets", &later, 0) != 0)
		return init_mi_tree(500, MI_SSTR("no statistic"));
	if (shared == NULL && register_dynamic_stat(&name, &shared) != 0)
		return init_mi_tree(500, MI_SSTR("no dynamic statistic"));
	if (get_stat(&name) != later)
		return init_mi_tree(500, MI_SSTR("another statistic"));
	update_stat(packets, 3);
	update_stat(active, 2);
	update_stat(active, -1);
	if_update_stat(1, later, 7);
	if_update_stat(0, later, 100);
	update_stat(shared, 5);
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static struct mi_root *reset(struct mi_root *params, void *param)
{
	struct mi_root *answer = init_mi_tree(200, MI_SSTR(MI_OK));

	(void)params;
	(void)param;
	addf_mi_node_child(&answer->node, 0, MI_SSTR("packets"), "%lu", get_stat_val(packets));
	reset_stat(packets);
	reset_stat(active);
	return answer;
}

static mi_export_t commands[] = {
	{"stats_count", "Counts.", count, MI_NO_INPUT_FLAG, 0, 0},
	{"stats_reset", "Tells what was counted, and begins anew.", reset, MI_NO_INPUT_FLAG, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"stats", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, stats, commands, 0, 0, 0, 0, 0, 0};
