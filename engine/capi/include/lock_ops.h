/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where some modules look for locks. */
#ifndef BINRUSH_LOCK_OPS_H
#define BINRUSH_LOCK_OPS_H

#include "locking.h"

#endif
