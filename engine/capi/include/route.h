/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Routes of the script. */
#ifndef BINRUSH_ROUTE_H
#define BINRUSH_ROUTE_H

#include "parser/msg_parser.h"

#define REQUEST_ROUTE 1
#define FAILURE_ROUTE 2
#define ONREPLY_ROUTE 4
#define BRANCH_ROUTE 8
#define ERROR_ROUTE 16
#define LOCAL_ROUTE 32
#define STARTUP_ROUTE 64
#define TIMER_ROUTE 128
#define EVENT_ROUTE 256

#endif
