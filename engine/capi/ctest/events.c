/* Raises events with parameters of every kind, by a command. */
#include "sr_module.h"
#include "evi/evi_modules.h"

static event_id_t happened = EVI_ERROR;

static int mod_init(void)
{
	str name = {"E_TEST_HAPPENED", 15};
	str empty = {"", 0};
	str unknown = {"E_TEST_UNKNOWN", 14};

	if (evi_get_id(&name) != EVI_ERROR || evi_publish_event(empty) != EVI_ERROR)
		return -1;
	happened = evi_publish_event(name);
	if (happened == EVI_ERROR || evi_publish_event(name) != happened || evi_get_id(&name) != happened)
		return -2;
	return evi_get_id(&unknown) == EVI_ERROR && evi_probe_event(happened + 1000) == -1 ? 0 : -3;
}

static struct mi_root *raise_event(struct mi_root *params, void *param)
{
	str callid = {"callid", 6}, number = {"number", 6}, nothing = {"nothing", 7}, empty = {"empty", 5}, unset = {"unset", 5};
	str value = {"a\0b", 3}, null = {NULL, 0}, none = {"", 0};
	int negative = -5, bare = 7;
	evi_params_p list;
	evi_params_t own = {0, 0, 0};

	(void)params;
	(void)param;
	if (!evi_probe_event(happened))
		return init_mi_tree(202, MI_SSTR("nobody wants it"));
	list = evi_get_params();
	if (list == NULL || evi_param_add_str(list, &callid, &value) != 0 || evi_param_add_int(list, &number, &negative) != 0 ||
		evi_param_add_int(list, NULL, &bare) != 0 || evi_param_add_str(list, &nothing, &null) != 0 ||
		evi_param_add_str(list, &empty, &none) != 0 || evi_param_create(list, &unset) == NULL)
		return init_mi_tree(500, MI_SSTR("no parameters"));
	if (evi_param_add(list, &number, &bare, 0) != -1 || evi_param_set_int(NULL, &bare) != -1)
		return init_mi_tree(500, MI_SSTR("odd parameters"));
	if (evi_raise_event(happened, list) != 0 || evi_raise_event(happened, &own) != 0)
		return init_mi_tree(500, MI_SSTR("not raised"));
	/* Of an event that is none nothing is taken, the list neither. */
	list = evi_get_params();
	if (evi_raise_event(-1, list) != -1)
		return init_mi_tree(500, MI_SSTR("raised"));
	evi_free_params(list);
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static mi_export_t commands[] = {
	{"events_raise", "Raises E_TEST_HAPPENED twice, if anybody wants it.", raise_event, 0, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"events", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, mod_init, 0, 0, 0};
