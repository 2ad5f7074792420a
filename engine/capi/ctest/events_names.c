/* Publishes names that others have, that are long, and that nobody can tell; raises what may be. */
#include "sr_module.h"
#include "evi/evi_modules.h"

#define LONG_64 "E_4567890123456789012345678901234567890123456789012345678901234_"

static event_id_t aor = EVI_ERROR, longest = EVI_ERROR;

static int mod_init(void)
{
	str built_in = {"E_UL_AOR_INSERT", 15};
	str fits = {LONG_64, 64}, longer = {LONG_64 "5", 65};

	aor = evi_publish_event(built_in);
	longest = evi_publish_event(fits);
	return aor != EVI_ERROR && longest != EVI_ERROR && evi_publish_event(longer) == EVI_ERROR ? 0 : -1;
}

static struct mi_root *raise_both(struct mi_root *params, void *param)
{
	str name = {"it's, mine:", 11}, value = {"v", 1};
	evi_params_p list;

	(void)params;
	(void)param;
	list = evi_get_params();
	if (list == NULL || evi_param_add_str(list, &name, &value) != 0 || evi_raise_event(aor, list) != 0)
		return init_mi_tree(500, MI_SSTR("not raised"));
	if (evi_raise_event(longest, NULL) != 0)
		return init_mi_tree(500, MI_SSTR("the long one is not raised"));
	return init_mi_tree(200, MI_SSTR(MI_OK));
}

static mi_export_t commands[] = {
	{"events_raise_names", "Raises an event of the server's own, and one with a long name.", raise_both, 0, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"events_names", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, commands, 0, 0, mod_init, 0, 0, 0};
