/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A template for modules of your own: counts the dialogs that other servers replicate by BIN.
 *
 *   loadmodule "dialog_count.so"
 *   modparam("dialog_count", "domain", "example.org")
 *
 * Compiles with the headers of binrush, and in the folder modules/dialog_count of the sources of OpenSIPS 1.11.
 */
#include <string.h>

#include "../../sr_module.h"
#include "../../dprint.h"
#include "../../bin_interface.h"
#include "../../mod_fix.h"
#include "../../ut.h"

/* What a packet of "dialog" is about. */
#define DIALOG_CREATED 1
#define DIALOG_UPDATED 2
#define DIALOG_DELETED 3

/* Parameter: only dialogs whose Call-ID ends with @ and this count. Empty: all. */
static char *domain = "";

static stat_var *created, *deleted, *skipped, *unreadable;

/*
 * One thread runs all code of this module, one call at a time, so plain variables will do. Statistics are counted atomically and may be
 * read by anybody.
 */
static unsigned int active;

/* Whether the dialog counts. `callid` is good until the callback returns: what is to be kept has to be copied. */
static int counts(const str *callid)
{
	size_t len = strlen(domain);
	size_t have = (size_t)callid->len;

	if (len == 0)
		return 1;
	return have > len && callid->s[have - len - 1] == '@' && memcmp(callid->s + have - len, domain, len) == 0;
}

/* Called with each packet. Fields are popped in the order in which they were pushed; what is not popped is skipped. */
static void receive(int type)
{
	str callid;

	if (bin_pop_str(&callid) != 0) {
		update_stat(unreadable, 1);
		return;
	}
	if (!counts(&callid)) {
		update_stat(skipped, 1);
		return;
	}
	switch (type) {
	case DIALOG_CREATED:
		active++;
		update_stat(created, 1);
		break;
	case DIALOG_DELETED:
		if (active > 0)
			active--;
		update_stat(deleted, 1);
		break;
	case DIALOG_UPDATED:
		break;
	default:
		LM_DBG("packet of type %d is not looked at\n", type);
	}
}

/* dialogs_above("10") in the script: whether there are more. `limit` is what the fixup made of the text. */
static int w_dialogs_above(struct sip_msg *msg, char *limit)
{
	(void)msg;
	return active > (unsigned int)(unsigned long)limit ? 1 : -1;
}

/* What an operator asks for: the numbers, as a tree. */
static struct mi_root *mi_dialog_count(struct mi_root *params, void *param)
{
	struct mi_root *answer;
	struct mi_node *node;

	(void)param;
	if (params && params->node.kids)
		return init_mi_tree(400, MI_SSTR(MI_MISSING_PARM));
	answer = init_mi_tree(200, MI_SSTR(MI_OK));
	if (answer == NULL)
		return NULL;
	node = addf_mi_node_child(&answer->node, 0, MI_SSTR("active"), "%u", active);
	if (node == NULL || addf_mi_attr(node, 0, MI_SSTR("created"), "%lu", (unsigned long)get_stat_val(created)) == NULL) {
		free_mi_tree(answer);
		return NULL;
	}
	return answer;
}

static unsigned long tell_active(void *context)
{
	(void)context;
	return active;
}

/* Called once, after all parameters are set. */
static int mod_init(void)
{
	if (*domain == '@') {
		LM_ERR("\"domain\" is what stands behind the @, not \"%s\"\n", domain);
		return -1;
	}
	if (bin_register_cb("dialog", receive) != 0) {
		LM_ERR("cannot register for packets of dialog\n");
		return -1;
	}
	return 0;
}

/* Called once by the thread that will run the rest. */
static int child_init(int rank)
{
	LM_DBG("ready, rank %d\n", rank);
	return 0;
}

/* Called last. */
static void destroy(void)
{
	LM_NOTICE("%u dialogs were active\n", active);
}

static cmd_export_t cmds[] = {
	{"dialogs_above", (cmd_function)w_dialogs_above, 1, fixup_uint_null, 0, REQUEST_ROUTE | TIMER_ROUTE | EVENT_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

static param_export_t params[] = {
	{"domain", STR_PARAM, &domain},
	{0, 0, 0}
};

static stat_export_t stats[] = {
	{"created_dialogs", 0, &created},
	{"deleted_dialogs", 0, &deleted},
	{"skipped_packets", 0, &skipped},
	{"unreadable_packets", 0, &unreadable},
	{"active_dialogs", STAT_IS_FUNC, (stat_var **)(void *)tell_active},
	{0, 0, 0}
};

static mi_export_t commands[] = {
	{"dialog_count", "How many dialogs are active. No parameters.", mi_dialog_count, 0, 0, 0},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {
	"dialog_count",
	MODULE_VERSION,
	DEFAULT_DLFLAGS,
	cmds,
	params,
	stats,
	commands,
	0, /* pseudo-variables */
	0, /* processes of its own: not here */
	mod_init,
	0, /* SIP replies */
	destroy,
	child_init
};
