/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What a module exports, and what it finds in others.
 *
 * What OpenSIPS 1.11 has and these headers do not: the parser of SIP messages, the functions of pseudo-variables (pv_*) and the fixups
 * that need them, `globals.h`, `register_utimer`, `register_timer_process`, databases, and processes of a module's own. A module that
 * uses one of them does not compile.
 */
#ifndef BINRUSH_SR_MODULE_H
#define BINRUSH_SR_MODULE_H

#include <dlfcn.h>

#include "version.h"
#include "parser/msg_parser.h"
#include "statistics.h"
#include "mi/mi.h"
#include "pvar.h"
#include "error.h"
#include "route.h"

/* Modules cast functions with fewer parameters to cmd_function; that is what parameters left NULL are for. */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wcast-function-type"
#endif

/*
 * A function of the routing script: > 0 is true, < 0 is false, 0 ends the script. Parameters that it does not take are NULL. One that
 * takes fewer may be declared with fewer, and cast.
 */
typedef int (*cmd_function)(struct sip_msg *, char *, char *, char *, char *, char *, char *);

/*
 * Called for each parameter when the script is read: `*param` is a text, which it may replace (and then free with pkg_free);
 * `param_no` is from 1. Once with NULL and 0 for a function without parameters. Negative: the script is refused.
 */
typedef int (*fixup_function)(void **param, int param_no);
typedef int (*free_fixup_function)(void **param, int param_no);

typedef int (*init_function)(void);
typedef int (*child_init_function)(int rank);
typedef int (*response_function)(struct sip_msg *);
typedef void (*destroy_function)(void);

/* Types of parameters: `param_pointer` is a `char **`, an `int *`, or, with USE_FUNC_PARAM, a param_func_t. */
#define STR_PARAM (1U << 0)
#define INT_PARAM (1U << 1)
#define USE_FUNC_PARAM (1U << 31)
#define PARAM_TYPE_MASK(_type) ((_type) & ~USE_FUNC_PARAM)

typedef unsigned int modparam_t;

/* `value` is a text, which stays, or `(void *)(long)number`. Negative: the start fails. */
typedef int (*param_func_t)(modparam_t type, void *value);

typedef void (*mod_proc)(int no);
typedef int (*mod_proc_wrapper)(void);

/*
 * Ranks of child_init. Modules here see PROC_BIN alone: child_init is called once, by the thread that runs the module's code, or, for
 * a module that is configured to be reentrant, once by each of them.
 *
 * A server that gave its sockets away and takes them back starts new threads. A reentrant module has its child_init there again. Any
 * other has it once: another thread runs its code from then on, one at a time as before, and thread-local variables that child_init
 * set are not set there.
 *
 * What child_init registers for packets is of its thread: where each child_init of a reentrant module registers one name, each thread
 * calls what its own gave, with its own copy of `att`. Of two with one name in one child_init the last one is called.
 *
 * No function of a module may end its thread (pthread_exit, or being cancelled) nor leave by longjmp or by a C++ exception: there are
 * frames of the server below it, and the process is aborted. Nor may any thread of a module end the process: who calls exit is told, and
 * the status is 70; _exit ends everything without a word, packets that are queued included.
 *
 * Reentrant means that callbacks run on all threads at the same time. Commands, timers and functions of statistics run on the first of
 * them, also while callbacks run on others. No packet name may be registered both by a reentrant module and by one that is not.
 */
#define PROC_MAIN 0
#define PROC_TIMER -1
#define PROC_MODULE -2
#define PROC_TCP_MAIN -4
#define PROC_BIN -8

/* For dlopen(3): the server chooses. */
#define DEFAULT_DLFLAGS 0
#define OPENSIPS_DLFLAGS RTLD_NOW

/* Stands for two members: `version` and `compile_flags`. */
#define MODULE_VERSION OPENSIPS_FULL_VERSION, OPENSIPS_COMPILE_FLAGS

#define PROC_FLAG_INITCHILD (1 << 0)

struct cmd_export_ {
	char *name;
	cmd_function function;
	int param_no;
	fixup_function fixup;
	free_fixup_function free_fixup;
	/* REQUEST_ROUTE and the like. */
	int flags;
};

struct param_export_ {
	char *name;
	modparam_t type;
	void *param_pointer;
};

struct proc_export_ {
	char *name;
	mod_proc_wrapper pre_fork_function;
	mod_proc_wrapper post_fork_function;
	mod_proc function;
	unsigned int no;
	unsigned int flags;
};

typedef struct cmd_export_ cmd_export_t;
typedef struct param_export_ param_export_t;
typedef struct proc_export_ proc_export_t;

/*
 * The symbol `exports`. Tables end with an entry whose name is NULL, and may be NULL themselves.
 *
 * A module with `procs` is not loaded: it runs on the server's threads. `response_f` is never called.
 */
struct module_exports {
	char *name;
	char *version;
	char *compile_flags;
	unsigned int dlflags;
	cmd_export_t *cmds;
	param_export_t *params;
	stat_export_t *stats;
	mi_export_t *mi_cmds;
	pv_export_t *items;
	proc_export_t *procs;
	init_function init_f;
	response_function response_f;
	destroy_function destroy_f;
	child_init_function init_child_f;
};

/*
 * Functions of modules that are loaded, those loaded later too once mod_init runs, of which the one loaded last is asked first: NULL when
 * there is none. NULL as well, which the log tells, when a reentrant module asks and the function is of one that is not: it may run on one
 * thread alone.
 */
cmd_function find_export(char *name, int param_no, int flags);
cmd_function find_mod_export(char *module, char *name, int param_no, int flags);
cmd_export_t *find_cmd_export_t(char *name, int param_no, int flags);

/* Where a parameter is, by name and type: NULL when there is none. */
void *find_param_export(char *module, char *name, modparam_t type);

/* 1 when a module of that name is loaded, otherwise 0. */
int module_loaded(char *name);

#endif
