/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Codes of errors. */
#ifndef BINRUSH_ERROR_H
#define BINRUSH_ERROR_H

#include "dprint.h"

#define E_UNSPEC -1
#define E_OUT_OF_MEM -2
#define E_BAD_RE -3
#define E_BUG -5
#define E_CFG -6
#define E_NO_SOCKET -7
#define E_SCRIPT -10
#define E_INVALID_PARAMS -14

/* Something that the module's author believed to be impossible. */
#define LM_BUG(...) LM_CRIT("BUG: " __VA_ARGS__)
#define report_programming_bug LM_BUG

#endif
