/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory of one process: that of malloc(3), so that tools which look for leaks see it. */
#ifndef BINRUSH_MEM_H
#define BINRUSH_MEM_H

#include <stdlib.h>
#include <string.h>

#include "../config.h"
#include "../dprint.h"

#define pkg_malloc(_size) malloc(_size)
#define pkg_realloc(_at, _size) realloc((_at), (_size))
#define pkg_free(_at) free(_at)

#endif
