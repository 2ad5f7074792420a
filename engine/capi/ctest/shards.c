/*
 * Watches the threads that run it, also as a function of the routing script, which counts them. Packets of its name carry a number that grows; they are counted, and so is whatever would surprise
 * code that was written for one process: two calls at a time, a call on another thread than child_init, packets out of order.
 *
 * With the file "hold", its child_init number "hold_at" says there that it was called, waits until somebody adds to it, and answers
 * "hold_answer". A packet of type 9 is never done with.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sr_module.h"
#include "bin_interface.h"

#define FOR_EVER 9

static char *name = "shards";
static char *late_name = NULL;
static char *hold = NULL;
static int hold_at, hold_answer;
static int held = -1;
static int tells;
static stat_var *packets, *late, *visits, *visitors, *children, *wrong_rank, *at_once, *foreign, *disordered;
static int inside;
static int last = -1;
static _Thread_local int is_child;

static void count(stat_var *which)
{
	if (__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST) != 1)
		update_stat(at_once, 1);
	if (!is_child)
		update_stat(foreign, 1);
	update_stat(which, 1);
	__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
}

static void receive(int type)
{
	str key;
	int number;

	count(packets);
	while (type == FOR_EVER)
		pause();
	if (bin_pop_str(&key) != 0 || bin_pop_int(&number) != 0)
		return;
	if (number <= last)
		update_stat(disordered, 1);
	last = number;
}

static void receive_late(int type)
{
	(void)type;
	count(late);
}

/* In a route; each thread that comes is one more visitor. */
static int visit(struct sip_msg *msg)
{
	static _Thread_local int is_known;

	if (!is_known)
		update_stat(visitors, 1);
	is_known = 1;
	update_stat(visits, 1);
	return is_child && msg->len > 0 ? 1 : -1;
}

static int mod_init(void)
{
	/* Now: who is confined may not open it. */
	if (hold != NULL && (held = open(hold, O_WRONLY | O_APPEND)) < 0)
		return -1;
	return bin_register_cb(name, receive);
}

static int wait_there(void)
{
	struct timespec a_while = {0, 1000000};
	struct stat now;

	if (write(held, "w", 1) != 1)
		return -1;
	do
		nanosleep(&a_while, NULL);
	while (fstat(held, &now) == 0 && now.st_size < 2);
	return hold_answer;
}

static int child_init(int rank)
{
	static int calls;
	int call = __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);

	update_stat(children, 1);
	if (held >= 0 && call == hold_at && wait_there() < 0)
		return -1;
	if (rank != PROC_BIN)
		update_stat(wrong_rank, 1);
	is_child = 1;
	return late_name == NULL ? 0 : bin_register_cb(late_name, receive_late);
}

static void destroy(void)
{
	if (tells)
		fprintf(stderr, "shards: destroyed\n");
}

static param_export_t params[] = {
	{"name", STR_PARAM, &name},
	{"late_name", STR_PARAM, &late_name},
	{"hold", STR_PARAM, &hold},
	{"hold_at", INT_PARAM, &hold_at},
	{"hold_answer", INT_PARAM, &hold_answer},
	{"tells", INT_PARAM, &tells},
	{0, 0, 0}
};

static stat_export_t stats[] = {
	{"packets", 0, &packets},
	{"late", 0, &late},
	{"visits", 0, &visits},
	{"visitors", 0, &visitors},
	{"children", 0, &children},
	{"wrong_rank", 0, &wrong_rank},
	{"at_once", 0, &at_once},
	{"foreign", 0, &foreign},
	{"disordered", 0, &disordered},
	{0, 0, 0}
};

static cmd_export_t cmds[] = {
	{"visit", (cmd_function)visit, 0, 0, 0, REQUEST_ROUTE},
	{0, 0, 0, 0, 0, 0}
};

struct module_exports exports = {"shards", MODULE_VERSION, DEFAULT_DLFLAGS, cmds, params, stats, 0, 0, 0, mod_init, 0, destroy, child_init};
