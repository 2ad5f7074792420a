/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Parameters of script functions, prepared when the script is read. */
#ifndef BINRUSH_MOD_FIX_H
#define BINRUSH_MOD_FIX_H

#include <regex.h>

#include "error.h"
#include "mem/mem.h"
#include "pvar.h"

#define GPARAM_TYPE_INT 0
#define GPARAM_TYPE_STR 1

#define GPARAM_INT_VALUE_FLAG (1U << 0)
#define GPARAM_STR_VALUE_FLAG (1U << 1)

/* A number or a text. There are no pseudo-variables in it: a parameter that has one is refused when the script is read. */
typedef struct _gparam {
	int type;
	union {
		int ival;
		str sval;
	} v;
} gparam_t, *gparam_p;

/* The parameter becomes a `str *`. */
int fixup_str_null(void **param, int param_no);
int fixup_str_str(void **param, int param_no);
int fixup_free_str_null(void **param, int param_no);
int fixup_free_str_str(void **param, int param_no);

/* The parameter becomes the number itself: `(unsigned int)(unsigned long)param`, `(int)(long)param`. */
int fixup_uint_null(void **param, int param_no);
int fixup_uint_uint(void **param, int param_no);
int fixup_sint_null(void **param, int param_no);
int fixup_sint_sint(void **param, int param_no);

/* The parameter becomes a `gparam_p`. */
int fixup_igp_null(void **param, int param_no);
int fixup_igp_igp(void **param, int param_no);
int fixup_igp_igp_igp(void **param, int param_no);
int fixup_sgp_null(void **param, int param_no);
int fixup_sgp_sgp(void **param, int param_no);
int fixup_spve_null(void **param, int param_no);
int fixup_spve_spve(void **param, int param_no);
int fixup_spve_uint(void **param, int param_no);

/* The same for any parameter. */
int fixup_str(void **param);
int fixup_uint(void **param);
int fixup_sint(void **param);
int fixup_igp(void **param);
int fixup_sgp(void **param);
int fixup_spve(void **param);

/* The parameter becomes a `regex_t *`: extended, upper and lower case alike, where `.` matches no line feed. */
static inline int fixup_regexp_null(void **param, int param_no)
{
	regex_t *compiled;

	if (param_no != 1) {
		LM_ERR("there is no parameter %d\n", param_no);
		return E_UNSPEC;
	}
	compiled = (regex_t *)pkg_malloc(sizeof(*compiled));
	if (compiled == NULL)
		return E_OUT_OF_MEM;
	if (regcomp(compiled, (char *)*param, REG_EXTENDED | REG_ICASE | REG_NEWLINE) != 0) {
		LM_ERR("\"%s\" is no regular expression\n", (char *)*param);
		pkg_free(compiled);
		return E_BAD_RE;
	}
	pkg_free(*param);
	*param = compiled;
	return 0;
}

static inline int fixup_free_regexp_null(void **param, int param_no)
{
	if (param_no != 1)
		return E_UNSPEC;
	if (*param != NULL) {
		regfree((regex_t *)*param);
		pkg_free(*param);
		*param = NULL;
	}
	return 0;
}

/* The parameter would become a `pv_spec_t *`. There are no pseudo-variables: the script is refused. */
static inline int fixup_pvar_null(void **param, int param_no)
{
	LM_ERR("parameter %d, \"%s\", is a pseudo-variable, and modules cannot read or set them here\n", param_no, (char *)*param);
	return E_CFG;
}

static inline int fixup_free_pvar_null(void **param, int param_no)
{
	(void)param;
	return param_no == 1 ? 0 : E_UNSPEC;
}

/* What is in a `gparam_p`: 0, or -1 when it is no such thing. */
int fixup_get_ivalue(struct sip_msg *msg, gparam_p param, int *value);
int fixup_get_svalue(struct sip_msg *msg, gparam_p param, str *value);
int fixup_get_isvalue(struct sip_msg *msg, gparam_p param, int *number, str *text, unsigned int *flags);

#endif
