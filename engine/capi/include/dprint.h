/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Lines for the log. */
#ifndef BINRUSH_DPRINT_H
#define BINRUSH_DPRINT_H

#include <stdarg.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "str.h"

#define L_ALERT -3
#define L_CRIT -2
#define L_ERR -1
#define L_WARN 1
#define L_NOTICE 2
#define L_INFO 3
#define L_DBG 4

/* The name in front of each line; a module that defines none gets the name that it exports. */
#ifdef MOD_NAME
#define BINRUSH_MOD_NAME MOD_NAME
#else
#define BINRUSH_MOD_NAME ((const char *)0)
#endif

/* Bytes of a line; what is longer is cut. */
#define BINRUSH_LINE_MAX 4096

#ifdef __cplusplus
extern "C" {
#endif

/* Whether lines of that level are wanted. */
int binrush_log_wants(int level);

/* Says one line, without a limit on its length. Of one module 100 lines a second are written. */
void binrush_log(int level, const char *module, const char *function, str text);

#ifdef __cplusplus
}
#endif

#define is_printable(_level) binrush_log_wants(_level)

#if defined(__GNUC__)
#define BINRUSH_PRINTF(_format, _first) __attribute__((format(printf, _format, _first), unused))
#else
#define BINRUSH_PRINTF(_format, _first)
#endif

BINRUSH_PRINTF(4, 5)
static void binrush_logf(int level, const char *module, const char *function, const char *format, ...)
{
	char line[BINRUSH_LINE_MAX];
	str text;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (len < 0)
		return;
	text.s = line;
	text.len = len < (int)sizeof(line) ? len : (int)sizeof(line) - 1;
	binrush_log(level, module, function, text);
}

/* A line without a function's name in front, at the level of errors. */
#define dprint(...) binrush_logf(L_ERR, BINRUSH_MOD_NAME, (const char *)0, __VA_ARGS__)

/* The arguments are looked at only if the line is wanted. */
#define LM_GEN1(_level, ...) \
	do { \
		if (is_printable(_level)) \
			binrush_logf((_level), BINRUSH_MOD_NAME, __func__, __VA_ARGS__); \
	} while (0)

/* There is one log, so the facility is not looked at. */
#define LM_GEN2(_facility, _level, ...) LM_GEN1(_level, __VA_ARGS__)

#define LM_ALERT(...) LM_GEN1(L_ALERT, __VA_ARGS__)
#define LM_CRIT(...) LM_GEN1(L_CRIT, __VA_ARGS__)
#define LM_ERR(...) LM_GEN1(L_ERR, __VA_ARGS__)
#define LM_WARN(...) LM_GEN1(L_WARN, __VA_ARGS__)
#define LM_NOTICE(...) LM_GEN1(L_NOTICE, __VA_ARGS__)
#define LM_INFO(...) LM_GEN1(L_INFO, __VA_ARGS__)
#ifdef NO_DEBUG
#define LM_DBG(...) ((void)0)
#else
#define LM_DBG(...) LM_GEN1(L_DBG, __VA_ARGS__)
#endif

#endif
