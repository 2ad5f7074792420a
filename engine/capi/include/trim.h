/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Texts without what is blank around them. The text is moved, not its bytes: keep a copy of what is to be freed. */
#ifndef BINRUSH_TRIM_H
#define BINRUSH_TRIM_H

#include "str.h"

static inline int binrush_is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static inline void trim_leading(str *text)
{
	while (text->len > 0 && binrush_is_white(*text->s)) {
		text->s++;
		text->len--;
	}
}

static inline void trim_trailing(str *text)
{
	while (text->len > 0 && binrush_is_white(text->s[text->len - 1]))
		text->len--;
}

static inline void trim(str *text)
{
	trim_leading(text);
	trim_trailing(text);
}

#endif
