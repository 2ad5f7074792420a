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

/* A str as one of bytes that stay as they are: they are laid out alike. */
static inline const str_const *_cs2cc(const str *_sp)
{
	return (const str_const *)(const void *)_sp;
}

static inline str_const *_s2c(str *_sp)
{
	return (str_const *)(void *)_sp;
}

#define str2const(_sp) ((const str_const *)(const void *)(_sp))

/* Copies bytes and length to where `dest` has room for them. */
static inline str *_str_cpy(str *dest, const str_const *src)
{
	if (src->len > 0)
		memcpy(dest->s, src->s, (size_t)src->len);
	dest->len = src->len;
	return dest;
}

#define str_cpy(_dest, _src) _str_cpy((_dest), str2const(_src))

/* 1 where two are the same bytes, 0 where not; a str or a str_const each. */
static inline int binrush_str_match(const str_const *a, const str_const *b)
{
	return a->len == b->len && (a->len <= 0 || memcmp(a->s, b->s, (size_t)a->len) == 0);
}

#ifndef str_match
#define str_match(_a, _b) binrush_str_match(str2const(_a), str2const(_b))
#endif

/*
 * A str in place, by its address: of any terminated text (until the same place runs again), of a literal, and of a literal that stays as it is.
 */
#define _str(_text) \
	({ \
		static str _shown; \
		init_str(&_shown, (_text)); \
		(const str *)&_shown; \
	})
#define str_static(_literal) \
	({ \
		static const str _shown = {(char *)(_literal), sizeof(_literal) - 1}; \
		&_shown; \
	})
#define const_str(_literal) \
	({ \
		static const str_const _shown = {(_literal), sizeof(_literal) - 1}; \
		&_shown; \
	})

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
