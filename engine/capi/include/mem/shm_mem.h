/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory that all processes share: as there is one process, that of malloc(3) too. */
#ifndef BINRUSH_SHM_MEM_H
#define BINRUSH_SHM_MEM_H

#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <sys/types.h>

#include "../dprint.h"

#define shm_malloc(_size) malloc(_size)
#define shm_realloc(_at, _size) realloc((_at), (_size))
#define shm_free(_at) free(_at)

/* There is no lock around it that a caller could hold. */
#define shm_malloc_unsafe(_size) malloc(_size)
#define shm_realloc_unsafe(_at, _size) realloc((_at), (_size))
#define shm_free_unsafe(_at) free(_at)

#endif
