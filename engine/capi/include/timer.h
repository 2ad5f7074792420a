/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Time since the start, and what is to be done in a while. */
#ifndef BINRUSH_TIMER_H
#define BINRUSH_TIMER_H

typedef unsigned long long utime_t;

/* Called with the seconds since the start, between packets, by the thread that runs the module's other code. */
typedef void (timer_function)(unsigned int ticks, void *param);

/*
 * Each `interval` seconds, from mod_init on: 0, or -1 when the interval is 0 or the program runs no timers.
 *
 * There is no register_utimer and no register_timer_process: nothing here ticks faster, and modules have no processes.
 */
int register_timer(char *label, timer_function f, void *param, unsigned int interval);

/* Seconds, microseconds. */
unsigned int get_ticks(void);
utime_t get_uticks(void);

#endif
