/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Statistics: each module's own, shown by /metrics. */
#ifndef BINRUSH_STATISTICS_H
#define BINRUSH_STATISTICS_H

#include "str.h"
#include "atomic.h"
#include "version.h"

#define DYNAMIC_MODULE_NAME "dynamic"

/* Goes up and down: shown as a gauge, and never reset. */
#define STAT_NO_RESET (1 << 0)
#define STAT_NO_SYNC (1 << 1)
#define STAT_SHM_NAME (1 << 2)
/* In stat_export_t: `stat_pointer` is a stat_function that tells the value. */
#define STAT_IS_FUNC (1 << 3)

typedef atomic_t stat_val;
typedef unsigned long (*stat_function)(void *);

typedef struct stat_var_ {
	unsigned int mod_idx;
	str name;
	unsigned short flags;
	void *context;
	union {
		stat_val *val;
		stat_function f;
	} u;
	struct stat_var_ *hnext;
	struct stat_var_ *lnext;
} stat_var;

/* An entry of the table `stats`. `*stat_pointer` is set once mod_init has returned, not before. */
typedef struct stat_export_ {
	char *name;
	unsigned short flags;
	stat_var **stat_pointer;
} stat_export_t;

/*
 * Registers a statistic while the server runs, or from mod_init: 0, or -1 when there is one. A name stays the caller's. Of what is
 * registered as "dynamic" there may be one already, which is shared.
 */
int register_stat2(char *module, char *name, stat_var **var, unsigned short flags, void *context, int unsafe);
int register_dynamic_stat(str *name, stat_var **var);

#define register_stat(_module, _name, _var, _flags) register_stat2((_module), (_name), (_var), (_flags), NULL, 0)

/* NULL when there is none. Upper and lower case are alike. */
stat_var *get_stat(str *name);

/* The value now; 0 for NULL. */
unsigned long binrush_stat_value(const stat_var *var);

#define get_stat_val(_var) binrush_stat_value(_var)

#define update_stat(_var, _n) \
	do { \
		if (!((_var)->flags & STAT_IS_FUNC)) \
			atomic_add((unsigned long)(long)(_n), (_var)->u.val); \
	} while (0)

#define reset_stat(_var) \
	do { \
		if (!((_var)->flags & (STAT_NO_RESET | STAT_IS_FUNC))) \
			atomic_set((_var)->u.val, 0); \
	} while (0)

#define if_update_stat(_condition, _var, _n) \
	do { \
		if (_condition) \
			update_stat(_var, _n); \
	} while (0)

#define if_reset_stat(_condition, _var) \
	do { \
		if (_condition) \
			reset_stat(_var); \
	} while (0)

#endif
