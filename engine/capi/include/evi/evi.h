/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Events. */
#ifndef BINRUSH_EVI_H
#define BINRUSH_EVI_H

#define EVI_ERROR -1
#define MAX_EVENT_NAME 64

typedef int event_id_t;

#endif
