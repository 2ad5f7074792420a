/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The hashes of OpenSIPS: the same numbers as 1.11 has on the same machine, so that what is kept by them is found. */
#ifndef BINRUSH_HASH_FUNC_H
#define BINRUSH_HASH_FUNC_H

#include "str.h"

/* A character as it is hashed: signed where `char` is, capitals of ASCII as small letters if they are to be. */
static inline unsigned int binrush_hash_char(char c, int folds)
{
	return (unsigned int)(folds && c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Goes on from `hash` with the words of `text`, high byte first, the last one of 0 to 3 bytes. */
static inline unsigned int binrush_hash_words(unsigned int hash, const str *text, int folds)
{
	unsigned int word = 0;
	int i;

	for (i = 0; i < text->len; i++) {
		word = (word << 8) + binrush_hash_char(text->s[i], folds);
		if (i % 4 == 3) {
			hash += word ^ (word >> 3);
			word = 0;
		}
	}
	return hash + (word ^ (word >> 3));
}

static inline unsigned int binrush_hash(const str *first, const str *second, unsigned int size, int folds)
{
	unsigned int hash = binrush_hash_words(0, first, folds);

	if (second)
		hash = binrush_hash_words(hash, second, folds);
	hash = hash + (hash >> 11) + ((hash >> 13) + (hash >> 23));
	return size ? hash & (size - 1) : hash;
}

/* Of one or two strings (`s2` may be NULL): below `size`, a power of two, or any number with 0. */
static inline unsigned int core_hash(const str *s1, const str *s2, const unsigned int size)
{
	return binrush_hash(s1, s2, size, 0);
}

/* The same whatever the case of ASCII letters. */
static inline unsigned int core_case_hash(str *s1, str *s2, unsigned int size)
{
	return binrush_hash(s1, s2, size, 1);
}

#endif
