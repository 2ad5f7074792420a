/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Numbers that several threads add to. */
#ifndef BINRUSH_ATOMIC_H
#define BINRUSH_ATOMIC_H

typedef struct {
	volatile unsigned long counter;
} atomic_t;

#define atomic_set(_at, _value) __atomic_store_n(&(_at)->counter, (unsigned long)(_value), __ATOMIC_RELAXED)
#define atomic_get(_at) __atomic_load_n(&(_at)->counter, __ATOMIC_RELAXED)

static inline void atomic_add(unsigned long value, atomic_t *at)
{
	__atomic_fetch_add(&at->counter, value, __ATOMIC_RELAXED);
}

static inline void atomic_sub(unsigned long value, atomic_t *at)
{
	__atomic_fetch_sub(&at->counter, value, __ATOMIC_RELAXED);
}

static inline void atomic_inc(atomic_t *at)
{
	atomic_add(1, at);
}

static inline void atomic_dec(atomic_t *at)
{
	atomic_sub(1, at);
}

#endif
