/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Locks between threads. */
#ifndef BINRUSH_LOCKING_H
#define BINRUSH_LOCKING_H

#include <pthread.h>

#include "dprint.h"
#include "mem/mem.h"
#include "mem/shm_mem.h"

#define GEN_LOCK_T_PREFERED

typedef pthread_mutex_t gen_lock_t;

#define lock_alloc() ((gen_lock_t *)shm_malloc(sizeof(gen_lock_t)))
#define lock_dealloc(_lock) shm_free((void *)(_lock))
#define lock_get(_lock) pthread_mutex_lock(_lock)
#define lock_release(_lock) pthread_mutex_unlock(_lock)
#define lock_destroy(_lock) pthread_mutex_destroy(_lock)

/* The lock itself, or NULL. */
static inline gen_lock_t *lock_init(gen_lock_t *lock)
{
	return pthread_mutex_init(lock, NULL) == 0 ? lock : NULL;
}

/* Some locks, by number. */
struct gen_lock_set_t_ {
	long size;
	gen_lock_t *locks;
};
typedef struct gen_lock_set_t_ gen_lock_set_t;

#define lock_set_get(_set, _i) lock_get(&(_set)->locks[_i])
#define lock_set_release(_set, _i) lock_release(&(_set)->locks[_i])
#define lock_set_dealloc(_set) shm_free((void *)(_set))

/* NULL when there is no memory, or `size` is negative. */
static inline gen_lock_set_t *lock_set_alloc(int size)
{
	gen_lock_set_t *set;

	if (size < 0)
		return NULL;
	set = (gen_lock_set_t *)shm_malloc(sizeof(*set) + (size_t)size * sizeof(gen_lock_t));
	if (set == NULL)
		return NULL;
	set->size = size;
	set->locks = (gen_lock_t *)(void *)(set + 1);
	return set;
}

/* The set itself, or NULL. */
static inline gen_lock_set_t *lock_set_init(gen_lock_set_t *set)
{
	long i;

	for (i = 0; i < set->size; i++)
		if (lock_init(&set->locks[i]) == NULL)
			return NULL;
	return set;
}

static inline void lock_set_destroy(gen_lock_set_t *set)
{
	long i;

	for (i = 0; i < set->size; i++)
		lock_destroy(&set->locks[i]);
}

#endif
