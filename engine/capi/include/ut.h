/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Numbers, texts, and one as the other. */
#ifndef BINRUSH_UT_H
#define BINRUSH_UT_H

#include <sys/types.h>
#include <sys/select.h>
#include <sys/time.h>
#include <ctype.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "str.h"
#include "config.h"
#include "dprint.h"
#include "mem/mem.h"
#include "mem/shm_mem.h"

struct sip_msg;

/* An empty text for NULL. */
#define ZSW(_text) ((_text) ? (_text) : "")

/* Initialises a str by a literal. */
#ifndef str_init
#define str_init(_literal) {_literal, sizeof(_literal) - 1}
#endif

static inline int binrush_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static inline int binrush_is_end(char c)
{
	return c == 0 || c == '\r' || c == '\n';
}

/* Where a text begins, and how long it is, without blanks in front and without blanks and ends of lines behind. */
#define trim_len(_len, _begin, _text) \
	do { \
		(_begin) = (_text).s; \
		(_len) = (_text).len; \
		while ((_len) > 0 && (binrush_is_end((_begin)[(_len) - 1]) || binrush_is_blank((_begin)[(_len) - 1]))) \
			(_len)--; \
		while ((_len) > 0 && binrush_is_blank(*(_begin))) { \
			(_begin)++; \
			(_len)--; \
		} \
	} while (0)

/* Without ends of lines behind. */
#define trim_r(_text) \
	do { \
		while ((_text).len > 0 && binrush_is_end((_text).s[(_text).len - 1])) \
			(_text).len--; \
	} while (0)

/* Without spaces in front and behind. */
#define str_trim_spaces_lr(_text) \
	do { \
		while ((_text).len > 0 && (_text).s[(_text).len - 1] == ' ') \
			(_text).len--; \
		while ((_text).len > 0 && (_text).s[0] == ' ') { \
			(_text).s++; \
			(_text).len--; \
		} \
	} while (0)

/* The same, with a 0 written over each space behind. */
#define trim_spaces_lr(_text) \
	do { \
		while ((_text).len > 0 && (_text).s[(_text).len - 1] == ' ') \
			(_text).s[--(_text).len] = 0; \
		str_trim_spaces_lr(_text); \
	} while (0)

/* Sign, digits of 64 bits, and a 0. */
#define INT2STR_MAX_LEN (1 + 20 + 1)

/* Writes a number to the end of a buffer of INT2STR_MAX_LEN bytes, with a 0 behind; where it begins. */
static inline char *int2bstr(unsigned long number, char *buffer, int *len)
{
	char *end = buffer + INT2STR_MAX_LEN - 1;
	char *at = end;

	*at = 0;
	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number != 0);
	if (len)
		*len = (int)(end - at);
	return at;
}

/* The buffer is the thread's: it holds one number at a time. */
static inline char *int2str(unsigned long number, int *len)
{
	static __thread char buffer[INT2STR_MAX_LEN];

	return int2bstr(number, buffer, len);
}

static inline char *sint2str(long number, int *len)
{
	char *at = int2str(number < 0 ? 0UL - (unsigned long)number : (unsigned long)number, len);

	if (number < 0) {
		*--at = '-';
		if (len)
			(*len)++;
	}
	return at;
}

/* 0, or -1 when it is no number, or too large for an unsigned int. */
static inline int str2int(const str *text, unsigned int *number)
{
	unsigned long sum = 0;
	int i;

	if (!text || !text->s || text->len <= 0 || !number)
		return -1;
	for (i = 0; i < text->len; i++) {
		if (text->s[i] < '0' || text->s[i] > '9')
			return -1;
		sum = sum * 10 + (unsigned long)(text->s[i] - '0');
		if (sum > UINT_MAX)
			return -1;
	}
	*number = (unsigned int)sum;
	return 0;
}

/* 0, or -1 when it is no number, or too large for an int. */
static inline int str2sint(const str *text, int *number)
{
	str digits;
	unsigned int sum;
	int negative;

	if (!text || !text->s || text->len <= 0 || !number)
		return -1;
	digits = *text;
	negative = *digits.s == '-';
	if (negative) {
		digits.s++;
		digits.len--;
	}
	if (str2int(&digits, &sum) != 0 || sum > (unsigned int)INT_MAX + (unsigned int)negative)
		return -1;
	*number = negative ? (int)(0 - (long)sum) : (int)sum;
	return 0;
}

/* The number, or 0 with *err = 1 when it is none or has more than 16 bits. */
static inline unsigned short str2s(const char *s, unsigned int len, int *err)
{
	str text;
	unsigned int number = 0;
	int failed;

	text.s = (char *)s;
	text.len = (int)len;
	failed = str2int(&text, &number) != 0 || number > USHRT_MAX;
	if (err)
		*err = failed;
	return failed ? 0 : (unsigned short)number;
}

/* 0, or -1 when it is no number in hexadecimal digits, or too large for an unsigned int. */
static inline int hexstr2int(char *s, int len, unsigned int *number)
{
	unsigned long sum = 0;
	int i;

	if (!s || len <= 0 || !number)
		return -1;
	for (i = 0; i < len; i++) {
		if (!isxdigit((unsigned char)s[i]))
			return -1;
		sum = sum * 16 + (unsigned long)(s[i] <= '9' ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
		if (sum > UINT_MAX)
			return -1;
	}
	*number = (unsigned int)sum;
	return 0;
}

/* The same of decimal digits, or of hexadecimal ones behind "0x". */
static inline int strno2int(str *text, unsigned int *number)
{
	if (text && text->s && text->len > 2 && text->s[0] == '0' && text->s[1] == 'x')
		return hexstr2int(text->s + 2, text->len - 2, number);
	return str2int(text, number);
}

/* Writes 1 to 3 digits, and no 0 behind them: how many. */
static inline int btostr(char *p, unsigned char value)
{
	int len = 0;

	if (value >= 100)
		p[len++] = (char)('0' + value / 100);
	if (value >= 10)
		p[len++] = (char)('0' + value / 10 % 10);
	p[len++] = (char)('0' + value % 10);
	return len;
}

/* Where a pointer into one buffer is in a copy of that; NULL for NULL. */
#define translate_pointer(_copy, _buffer, _p) ((_p) ? (_copy) + ((_p) - (_buffer)) : NULL)

/* A user by name or number: 0 and the ids, of a number that of the user alone; or -1. Either pointer to an id may be NULL. */
static inline int user2uid(int *uid, int *gid, char *user)
{
	struct passwd *found;
	char *end;
	long number;

	if (!user || !*user)
		return -1;
	number = strtol(user, &end, 10);
	if (*end == 0) {
		if (uid)
			*uid = (int)number;
		return 0;
	}
	found = getpwnam(user);
	if (found == NULL)
		return -1;
	if (uid)
		*uid = (int)found->pw_uid;
	if (gid)
		*gid = (int)found->pw_gid;
	return 0;
}

static inline char *q_memchr(char *p, int c, unsigned int size)
{
	return (char *)memchr(p, c, size);
}

static inline void strlower(str *text)
{
	int i;

	for (i = 0; i < text->len; i++)
		text->s[i] = (char)tolower((unsigned char)text->s[i]);
}

/* Copies with malloc(3): 0, or -1 without memory. */
static inline int pkg_str_dup(str *copy, const str *text)
{
	/* Not of 0 bytes, for which malloc may answer NULL. */
	copy->s = (char *)pkg_malloc(text->len > 0 ? (size_t)text->len : 1);
	if (copy->s == NULL) {
		LM_ERR("no memory for %d bytes\n", text->len);
		return -1;
	}
	copy->len = text->len > 0 ? text->len : 0;
	if (copy->len > 0)
		memcpy(copy->s, text->s, (size_t)copy->len);
	return 0;
}

static inline int shm_str_dup(str *copy, const str *text)
{
	return pkg_str_dup(copy, text);
}

static inline int binrush_comparable(const str *a, const str *b)
{
	return a && b && a->s && b->s && a->len >= 0 && b->len >= 0;
}

/* -1, 0, 1 by their bytes, where one that begins like a longer one is less; -2 when one of them is none. */
static inline int str_strcmp(const str *a, const str *b)
{
	int order;

	if (!binrush_comparable(a, b))
		return -2;
	order = memcmp(a->s, b->s, (size_t)(a->len < b->len ? a->len : b->len));
	if (order == 0)
		order = (a->len > b->len) - (a->len < b->len);
	return (order > 0) - (order < 0);
}

/* The same, upper and lower case alike. */
static inline int str_strcasecmp(const str *a, const str *b)
{
	int order;

	if (!binrush_comparable(a, b))
		return -2;
	order = strncasecmp(a->s, b->s, (size_t)(a->len < b->len ? a->len : b->len));
	if (order == 0)
		order = (a->len > b->len) - (a->len < b->len);
	return (order > 0) - (order < 0);
}

/* Waits; whoever waits in a callback keeps all packets of the thread waiting. */
static inline void sleep_us(unsigned int us)
{
	struct timeval wait;

	wait.tv_sec = us / 1000000;
	wait.tv_usec = us % 1000000;
	select(0, NULL, NULL, NULL, &wait);
}

#endif
