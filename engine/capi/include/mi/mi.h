/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Commands: what an operator may ask a module. */
#ifndef BINRUSH_MI_H
#define BINRUSH_MI_H

#include "tree.h"

/* Commands that answer later are not served: MI_ROOT_ASYNC_RPL is an error for whoever asked. */
#define MI_ASYNC_RPL_FLAG (1 << 0)
/* Takes no parameters: is called with NULL. */
#define MI_NO_INPUT_FLAG (1 << 1)

#define MI_ROOT_ASYNC_RPL ((struct mi_root *)-1)

/*
 * Runs a command, on the thread that runs the module's other code. The parameters are kids of the tree's node, without names, in
 * order; they stay until it returns. The answer is freed by the caller.
 */
typedef struct mi_root *(mi_cmd_f)(struct mi_root *params, void *param);
typedef int (mi_child_init_f)(void);

/* For modules that answer later where that is served; here nobody hands out one. */
struct mi_handler;
typedef void (mi_handler_f)(struct mi_root *answer, struct mi_handler *handler, int done);
struct mi_handler {
	mi_handler_f *handler_f;
	void *param;
};

/* An entry of the table `mi_cmds`. */
typedef struct mi_export_ {
	char *name;
	char *help;
	mi_cmd_f *cmd;
	unsigned int flags;
	void *param;
	mi_child_init_f *init_f;
} mi_export_t;

/* Registers commands while the server runs: 0, or -1 when one of that name is there. */
int register_mi_cmd(mi_cmd_f f, char *name, char *help, void *param, mi_child_init_f in, unsigned int flags, char *module);
int register_mi_mod(char *module, mi_export_t *commands);

#endif
