/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Answers of commands, and their parameters: trees of nodes. */
#ifndef BINRUSH_MI_TREE_H
#define BINRUSH_MI_TREE_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../str.h"

/* Copies the name, the value; otherwise they must stay as long as the tree. */
#define MI_DUP_NAME (1 << 0)
#define MI_DUP_VALUE (1 << 1)
#define MI_NOT_COMPLETED (1 << 2)
#define MI_WRITTEN (1 << 3)
#define MI_IS_ARRAY (1 << 4)

#define MI_SSTR(_literal) _literal, (sizeof(_literal) - 1)

#define MI_OK_S "OK"
#define MI_OK_LEN (sizeof(MI_OK_S) - 1)
#define MI_OK MI_OK_S
#define MI_INTERNAL_ERR_S "Server Internal Error"
#define MI_INTERNAL_ERR_LEN (sizeof(MI_INTERNAL_ERR_S) - 1)
#define MI_INTERNAL_ERR MI_INTERNAL_ERR_S
#define MI_MISSING_PARM_S "Too few or too many arguments"
#define MI_MISSING_PARM_LEN (sizeof(MI_MISSING_PARM_S) - 1)
#define MI_MISSING_PARM MI_MISSING_PARM_S
#define MI_BAD_PARM_S "Bad parameter"
#define MI_BAD_PARM_LEN (sizeof(MI_BAD_PARM_S) - 1)
#define MI_BAD_PARM MI_BAD_PARM_S

/* Bytes of a value that is printed; what is longer is cut. */
#define BINRUSH_MI_VALUE_MAX 4096

struct mi_handler;

struct mi_attr {
	str name;
	str value;
	struct mi_attr *next;
};

struct mi_node {
	str value;
	str name;
	unsigned int flags;
	struct mi_node *kids;
	struct mi_node *next;
	struct mi_node *last;
	struct mi_attr *attributes;
};

struct mi_root {
	unsigned int code;
	str reason;
	struct mi_handler *async_hdl;
	struct mi_node node;
};

/* A tree without nodes; `reason` is not copied. NULL without memory. */
struct mi_root *init_mi_tree(unsigned int code, char *reason, int reason_len);
void free_mi_tree(struct mi_root *root);
void free_mi_node(struct mi_node *node);

/* NULL when there is neither a name nor a value, or no memory. */
struct mi_node *add_mi_node_child(struct mi_node *parent, int flags, char *name, int name_len, char *value, int value_len);
struct mi_node *add_mi_node_sibling(struct mi_node *brother, int flags, char *name, int name_len, char *value, int value_len);
struct mi_attr *add_mi_attr(struct mi_node *node, int flags, char *name, int name_len, char *value, int value_len);

/* NULL when there is none. */
struct mi_attr *get_mi_attr_by_name(struct mi_node *node, char *name, int len);
void del_mi_attr_list(struct mi_node *node);

/* The same with values that are printed. */
#if defined(__GNUC__)
#define BINRUSH_MI_PRINTF __attribute__((format(printf, 5, 6), unused))
#else
#define BINRUSH_MI_PRINTF
#endif

#define BINRUSH_MI_FORMATTED(_type, _function, _add) \
	BINRUSH_MI_PRINTF \
	static _type *_function(struct mi_node *node, int flags, char *name, int name_len, char *format, ...) \
	{ \
		char value[BINRUSH_MI_VALUE_MAX]; \
		va_list args; \
		int len; \
\
		va_start(args, format); \
		len = vsnprintf(value, sizeof(value), format, args); \
		va_end(args); \
		if (len < 0) \
			return NULL; \
		if (len >= (int)sizeof(value)) \
			len = (int)sizeof(value) - 1; \
		return _add(node, flags | MI_DUP_VALUE, name, name_len, value, len); \
	}

BINRUSH_MI_FORMATTED(struct mi_node, addf_mi_node_child, add_mi_node_child)
BINRUSH_MI_FORMATTED(struct mi_node, addf_mi_node_sibling, add_mi_node_sibling)
BINRUSH_MI_FORMATTED(struct mi_attr, addf_mi_attr, add_mi_attr)

#endif
