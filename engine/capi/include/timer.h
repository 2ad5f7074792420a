/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Time since the start. */
#ifndef BINRUSH_TIMER_H
#define BINRUSH_TIMER_H

typedef unsigned long long utime_t;

/* Seconds, microseconds. */
unsigned int get_ticks(void);
utime_t get_uticks(void);

#endif
