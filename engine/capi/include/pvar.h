/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pseudo-variables. A module may export some; nothing here reads or sets them. */
#ifndef BINRUSH_PVAR_H
#define BINRUSH_PVAR_H

#include "str.h"
#include "parser/msg_parser.h"

#define PV_VAL_NONE 0
#define PV_VAL_NULL 1
#define PV_VAL_EMPTY 2
#define PV_VAL_STR 4
#define PV_VAL_INT 8
#define PV_TYPE_INT 16
#define PV_VAL_PKG 32
#define PV_VAL_SHM 64

/* A number as large as that of any OpenSIPS; only its size matters here. */
typedef unsigned int pv_type_t;

typedef struct _pv_value {
	str rs;
	int ri;
	int flags;
} pv_value_t, *pv_value_p;

typedef union {
	int n;
	str s;
} int_str;

typedef struct _pv_name {
	int type;
	union {
		struct {
			int type;
			int_str name;
		} isname;
		void *dname;
	} u;
} pv_name_t, *pv_name_p;

typedef struct _pv_index {
	int type;
	union {
		int ival;
		void *dval;
	} u;
} pv_index_t, *pv_index_p;

typedef struct _pv_param {
	pv_name_t pvn;
	pv_index_t pvi;
	str pvv;
} pv_param_t, *pv_param_p;

struct pv_context;
struct _pv_spec;
typedef struct _pv_spec pv_spec_t, *pv_spec_p;

typedef int (*pv_getf_t)(struct sip_msg *, pv_param_t *, pv_value_t *);
typedef int (*pv_setf_t)(struct sip_msg *, pv_param_t *, int, pv_value_t *);
typedef int (*pv_parse_name_f)(pv_spec_p, str *);
typedef int (*pv_parse_index_f)(pv_spec_p, str *);
typedef int (*pv_init_param_f)(pv_spec_p, int);

/* What a module's own structures may hold; no function makes one, as pv_parse_spec does elsewhere. */
struct _pv_spec {
	pv_type_t type;
	pv_getf_t getf;
	pv_setf_t setf;
	pv_param_t pvp;
	struct pv_context *pvc;
	void *trans;
};

typedef struct _pv_elem {
	str text;
	pv_spec_t spec;
	struct _pv_elem *next;
} pv_elem_t, *pv_elem_p;

/* An entry of the table `items`; the last has a name whose address is NULL. */
typedef struct _pv_export {
	str name;
	pv_type_t type;
	pv_getf_t getf;
	pv_setf_t setf;
	pv_parse_name_f parse_name;
	pv_parse_index_f parse_index;
	pv_init_param_f init_param;
	int iparam;
} pv_export_t;

#endif
