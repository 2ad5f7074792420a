/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* str: bytes with their length. */
#ifndef BINRUSH_STR_H
#define BINRUSH_STR_H

/* Whose names these are: see bin_interface.h. Who says it later than the first of these headers is told by the compiler. */
#ifndef BINRUSH_API
#define BINRUSH_API 1
#endif

/*
 * Not terminated: `len` bytes at `s`, any of which may be 0. Of an empty one `s` may be NULL. Print one with "%.*s", s.len, s.s.
 */
#if BINRUSH_API >= 3
struct __str
#else
struct _str
#endif
{
	char *s;
	int len;
};

#if BINRUSH_API >= 3

#include <string.h>

typedef struct __str str;

/* The same, of bytes that stay as they are. */
struct __str_const {
	const char *s;
	int len;
};
typedef struct __str_const str_const;

#define STR_NULL ((str){NULL, 0})
#define STR_NULL_const ((str_const){NULL, 0})
#define STR_EMPTY ((str){"", 0})
#define STR_EMPTY_const ((str_const){"", 0})

/* Of a literal, whose length the compiler knows. */
#define str_init(_literal) ((str){(_literal), sizeof(_literal) - 1})
#define str_const_init(_literal) ((str_const){(_literal), sizeof(_literal) - 1})

/* Whether there is nothing in it. */
#define ZSTR(_s) (!(_s).s || (_s).len == 0)
#define ZSTRP(_sp) (!(_sp) || ZSTR(*(_sp)))

/* Two arguments of a call: the bytes and how many. */
#define STR_L(_s) (_s), strlen(_s)

/* Makes `dest` show a terminated string. */
static inline void init_str(str *dest, const char *src)
{
	dest->s = (char *)src;
	dest->len = (int)strlen(src);
}

#else

typedef struct _str str;

#endif

#endif
