/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Attributes of nodes. */
#ifndef BINRUSH_MI_ATTR_H
#define BINRUSH_MI_ATTR_H

#include "tree.h"

#endif
