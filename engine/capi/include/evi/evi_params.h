/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Parameters of events. */
#ifndef BINRUSH_EVI_PARAMS_H
#define BINRUSH_EVI_PARAMS_H

#include "../str.h"

#define EVI_INT_VAL 0x01
#define EVI_STR_VAL 0x02

/* evi_raise_event frees the list. */
#define EVI_FREE_LIST (1 << 31)

typedef struct evi_param_ {
	int flags;
	union {
		int n;
		str s;
	} val;
	str name;
	struct evi_param_ *next;
} evi_param_t, *evi_param_p;

/* One that is not from evi_get_params must be all zero at first, and its parameters are freed by whoever made it. */
typedef struct evi_params_ {
	int flags;
	evi_param_p first;
	evi_param_p last;
} evi_params_t, *evi_params_p;

/* An empty list; NULL without memory. */
evi_params_p evi_get_params(void);
void evi_free_params(evi_params_p list);

/* Names and texts are not copied: they must stay until the event is raised. 0, or -1. `name` may be NULL. */
int evi_param_add(evi_params_p list, str *name, void *value, int flags);
evi_param_p evi_param_create(evi_params_p list, str *name);
int evi_param_set(evi_param_p param, void *value, int flags);

#define evi_param_add_int(_list, _name, _value) evi_param_add((_list), (_name), (_value), EVI_INT_VAL)
#define evi_param_add_str(_list, _name, _value) evi_param_add((_list), (_name), (_value), EVI_STR_VAL)
#define evi_param_set_int(_param, _value) evi_param_set((_param), (_value), EVI_INT_VAL)
#define evi_param_set_str(_param, _value) evi_param_set((_param), (_value), EVI_STR_VAL)

#endif
