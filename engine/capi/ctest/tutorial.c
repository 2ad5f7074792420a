/*
 * The module of the module-interface tutorial: two functions under one name in the script, with one parameter and with none, a fixup
 * for the former, and a text that is set through a function.
 */
#include "sr_module.h"
#include "dprint.h"
#include "mem/mem.h"
#include "mod_fix.h"
#include "ut.h"

static int mod_init(void);
static int child_init(int rank);
static void destroy(void);

static int w_greet1(struct sip_msg *msg, char *whom);
static int w_greet0(struct sip_msg *msg);
static int fixup_greet1(void **param, int param_no);
static int free_fixup_greet1(void **param, int param_no);
static int set_greeting(modparam_t type, void *value);

static str greeting = {"hello", 5};
static int times = 1;
static char *signature = "";

/* How far it came, for whoever looks into the library. */
int tutorial_initialised, tutorial_children, tutorial_rank, tutorial_destroyed;
int tutorial_fixed, tutorial_freed;
char tutorial_said[256];
const char *tutorial_packet;
unsigned int tutorial_packet_len;
unsigned short tutorial_port;

static cmd_export_t cmds[] = {
	{"greet", (cmd_function)w_greet1, 1, fixup_greet1, free_fixup_greet1, REQUEST_ROUTE | ONREPLY_ROUTE},
	{"greet", (cmd_function)w_greet0, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

static param_export_t params[] = {
	{"greeting", STR_PARAM | USE_FUNC_PARAM, (void *)set_greeting},
	{"times", INT_PARAM, &times},
	{"signature", STR_PARAM, &signature},
	{0, 0, 0}
};

struct module_exports exports = {
	"tutorial",
	MODULE_VERSION,
	DEFAULT_DLFLAGS,
	cmds,
	params,
	0,
	0,
	0,
	0,
	mod_init,
	0,
	destroy,
	child_init
};

static int mod_init(void)
{
	tutorial_initialised++;
	LM_INFO("greets with \"%.*s\"\n", greeting.len, greeting.s);
	return 0;
}

static int child_init(int rank)
{
	tutorial_children++;
	tutorial_rank = rank;
	return 0;
}

static void destroy(void)
{
	tutorial_destroyed++;
}

static int set_greeting(modparam_t type, void *value)
{
	if (type != STR_PARAM || *(char *)value == 0)
		return -1;
	greeting.s = value;
	greeting.len = (int)strlen(greeting.s);
	return 0;
}

static int fixup_greet1(void **param, int param_no)
{
	tutorial_fixed = param_no;
	return fixup_spve_null(param, param_no);
}

static int free_fixup_greet1(void **param, int param_no)
{
	tutorial_freed = param_no;
	pkg_free(*param);
	*param = NULL;
	return 0;
}

static int say(struct sip_msg *msg, const str *whom)
{
	snprintf(tutorial_said, sizeof(tutorial_said), "%.*s %.*s x%d%s", greeting.len, greeting.s, whom->len, whom->s, times,
			 signature);
	tutorial_packet = msg->buf;
	tutorial_packet_len = msg->len;
	tutorial_port = msg->rcv.src_port;
	return 1;
}

static int w_greet1(struct sip_msg *msg, char *whom)
{
	str text;

	if (fixup_get_svalue(msg, (gparam_p)(void *)whom, &text) != 0)
		return -1;
	return say(msg, &text);
}

static int w_greet0(struct sip_msg *msg)
{
	str nobody = str_init("whoever you are");

	say(msg, &nobody);
	return -2;
}
