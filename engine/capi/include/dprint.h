/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Messages of modules. */
#ifndef BINRUSH_DPRINT_H
#define BINRUSH_DPRINT_H

#include <stdio.h>

#define LM_GEN(...) ((void)fprintf(stderr, __VA_ARGS__))
#define LM_CRIT(...) LM_GEN(__VA_ARGS__)
#define LM_ERR(...) LM_GEN(__VA_ARGS__)
#define LM_WARN(...) LM_GEN(__VA_ARGS__)
#define LM_NOTICE(...) LM_GEN(__VA_ARGS__)
#define LM_INFO(...) LM_GEN(__VA_ARGS__)
#define LM_DBG(...) ((void)0)

#endif
