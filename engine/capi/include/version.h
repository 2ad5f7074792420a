/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For which server a module is compiled. */
#ifndef BINRUSH_VERSION_H
#define BINRUSH_VERSION_H

#define NAME "binrush"
#define VERSION "0.1.0"

#if defined(__x86_64__)
#define ARCH "x86_64"
#elif defined(__aarch64__)
#define ARCH "aarch64"
#else
#error "binrush runs on x86_64 and aarch64"
#endif

#if defined(__linux__)
#define OS "linux"
#else
#error "binrush runs on Linux"
#endif

#if !defined(__LP64__)
#error "modules of binrush have 64-bit pointers; compile without -m32 and -mx32"
#endif

/* The loader compares both with its own, byte by byte; a module that has others is not loaded. */
#define OPENSIPS_FULL_VERSION NAME " " VERSION " (" ARCH "/" OS ")"

/* What the layouts in these headers depend on. */
#define OPENSIPS_COMPILE_FLAGS "STATS: On, USE_IPV6, USE_TCP, USE_PTHREAD_MUTEX, LP64"

/* What code asks for with #ifdef. */
#ifndef STATISTICS
#define STATISTICS
#endif
#ifndef USE_IPV6
#define USE_IPV6
#endif
#ifndef USE_TCP
#define USE_TCP
#endif

#endif
