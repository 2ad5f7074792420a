/* Commands that answer in every way. */
#include <string.h>

#include "sr_module.h"
#include "mi/mi.h"
#include "ut.h"

int mi_children;

static int mi_child_init(void)
{
	mi_children++;
	return 0;
}

/* Its parameters, in order, each with its length as an attribute. */
static struct mi_root *echo(struct mi_root *params, void *param)
{
	struct mi_root *answer = init_mi_tree(200, MI_SSTR(MI_OK));
	struct mi_node *list, *node, *given;
	int len;
	char *digits;

	list = add_mi_node_child(&answer->node, MI_IS_ARRAY, MI_SSTR("echo"), param, (int)strlen(param));
	for (given = params->node.kids; given; given = given->next) {
		node = add_mi_node_child(list, MI_DUP_VALUE, MI_SSTR("param"), given->value.s, given->value.len);
		digits = int2str((unsigned long)given->value.len, &len);
		add_mi_attr(node, MI_DUP_VALUE, MI_SSTR("len"), digits, len);
		addf_mi_attr(node, 0, MI_SSTR("twice"), "%d", 2 * given->value.len);
		if (get_mi_attr_by_name(node, MI_SSTR("len")) != node->attributes)
			return init_mi_tree(500, MI_SSTR("no attribute"));
	}
	if (list->kids)
		addf_mi_node_sibling(list->kids, 0, MI_SSTR("last"), "%s", "of all");
	return answer;
}

static struct mi_root *complain(struct mi_root *params, void *param)
{
	(void)param;
	return params->node.kids ? init_mi_tree(400, MI_SSTR(MI_BAD_PARM)) : init_mi_tree(400, MI_SSTR(MI_MISSING_PARM));
}

static struct mi_root *same(struct mi_root *params, void *param)
{
	(void)param;
	params->code = 200;
	return params;
}

static struct mi_root *nothing(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	return NULL;
}

static struct mi_root *later(struct mi_root *params, void *param)
{
	(void)params;
	(void)param;
	return MI_ROOT_ASYNC_RPL;
}

static struct mi_root *no_input(struct mi_root *params, void *param)
{
	(void)param;
	return params == NULL ? init_mi_tree(200, MI_SSTR(MI_OK)) : NULL;
}

static mi_export_t commands[] = {
	{"mi_echo", "Says what it is told.", echo, 0, "given", mi_child_init},
	{"mi_complain", 0, complain, 0, 0, 0},
	{"mi_same", 0, same, 0, 0, 0},
	{"mi_nothing", 0, nothing, 0, 0, 0},
	{"mi_later", 0, later, MI_ASYNC_RPL_FLAG, 0, 0},
	{"mi_no_input", 0, no_input, MI_NO_INPUT_FLAG, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

static int mod_init(void)
{
	/* Another of this name is refused; the first stays. */
	if (register_mi_cmd(nothing, "mi_registered", 0, 0, mi_child_init, 0, "mi") != 0)
		return -1;
	return register_mi_cmd(nothing, "mi_registered", 0, 0, 0, 0, "mi") == -1 ? 0 : -2;
}

struct module_exports exports = {"mi", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, mod_init, 0, 0, 0};
