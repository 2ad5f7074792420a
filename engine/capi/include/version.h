/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For which server a module is compiled. */
#ifndef BINRUSH_VERSION_H
#define BINRUSH_VERSION_H

#if defined(__x86_64__)
#define BINRUSH_ARCH "x86_64"
#elif defined(__aarch64__)
#define BINRUSH_ARCH "aarch64"
#else
#error "binrush runs on x86_64 and aarch64"
#endif

#if !defined(__linux__)
#error "binrush runs on Linux"
#endif

#if !defined(__LP64__)
#error "modules of binrush have 64-bit pointers; compile without -m32 and -mx32"
#endif

/*
 * The loader compares both with its own, byte by byte; a module that has others is not loaded. The first is not made of NAME, VERSION,
 * ARCH and OS, as OpenSIPS makes it: those are left to the module.
 */
#define OPENSIPS_FULL_VERSION "binrush 0.1.0 (" BINRUSH_ARCH "/linux)"

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
