/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What binrush has beyond the interfaces of OpenSIPS: sending many packets at once, and receiving in a program that only links libbinrush.
 *
 *   cc program.c $(pkg-config --cflags --libs binrush)
 */
#ifndef BINRUSH_H
#define BINRUSH_H

#include <stddef.h>
#include <stdint.h>

#include "bin_interface.h"

/* How many packets a queue holds, and how many datagrams one binrush_run_once takes. */
#define BINRUSH_BATCH_MAX 64

#ifdef __cplusplus
extern "C" {
#endif

#if BINRUSH_API == 1

/*
 * As bin_send, but that the packet only joins this thread's queue. That goes out by bin_flush; when it has BINRUSH_BATCH_MAX packets or 256 KiB of
 * them; before the next bin_send; when the thread ends; and in a module of binrush within a tenth of a second. One system call then sends all of it, waiting
 * 1 ms at most for room. After fork it is the parent's, which alone sends it.
 *
 * The packet's length; 0 for NULL; -1 where there is no packet, no socket, or an address of another family. What the kernel refuses later is
 * counted as failed.
 */
int bin_send_batch(union sockaddr_union *dest);

/* Sends what this thread queued. How many packets the kernel took; -1 where it refused any: the others went all the same. */
int bin_flush(void);

#else

/*
 * Sends a packet of the 3.x API by TCP. OpenSIPS has clusterer for that; this is for programs that are in no cluster, to whatever listens for BIN.
 * The connection is kept for this thread's next packets, 16 of them at most, and opened anew where the peer closed it, and after fork in the child.
 *
 * The packet's length, when the kernel has all of it; 0 for NULL; -1 where it is no packet, `to` is no address, or it was not taken within 100 ms
 * (and as much for a connection that has to be made). Then the connection is closed.
 */
int binrush_packet_send(bin_packet_t *packet, const union sockaddr_union *to);

#endif

/*
 * Receiving without the engine: datagrams of 1.x on one socket of the calling thread, whose callbacks run inside of binrush_run_once. Callbacks are
 * those that the process registered, by whichever thread. Modules inside of binrush need none of this.
 */

/*
 * Listens at `addr`, at a port of the kernel's choice for port 0, instead of where this thread listened before; with NULL it ends.
 *
 * What this thread sends to that address family leaves from there. Nothing happens where it listens at that very address already.
 *
 * 0; -1, with the reason in errno: then nothing has changed. EAFNOSUPPORT: neither IPv4 nor IPv6; EBUSY: in a callback, or at the end of the thread.
 */
int binrush_listen(const union sockaddr_union *addr);

/* The descriptor, for poll and getsockname: not for reading. -1 without a listener and in callbacks. */
int binrush_fd(void);

/*
 * Waits for datagrams up to `timeout_ms` (for ever when it is negative) and runs the callbacks of those that are there, BINRUSH_BATCH_MAX at most.
 *
 * How many datagrams it took, whatever they were; 0 when the time was over, or a signal came; -1 without a listener, in a callback, and where the
 * socket fails.
 */
int binrush_run_once(int timeout_ms);

/*
 * For debugging: with anything but 0, what a callback popped is overwritten with 0xA5 as soon as it returns, so that who kept a pointer finds out.
 * Of binrush_run_once; in the engine it is a parameter of the module.
 */
void binrush_poison(int on);

/* What became of packets in this process since it began. At rest `received` is the sum of the eight counters after it. */
struct binrush_counts {
	uint64_t received;     /* datagrams that binrush_run_once took, packets that call_callbacks was given */
	uint64_t handled;      /* a callback ran, and popped nothing that was not there */
	uint64_t misread;      /* a callback ran, and a pop answered -1 */
	uint64_t nobody;       /* of a name that nobody registered for */
	uint64_t too_short;    /* below 18 bytes; of call_callbacks also with a length that is none */
	uint64_t bad_marker;   /* without P4CK */
	uint64_t bad_checksum; /* changed on their way, or not of 1.x */
	uint64_t bad_name;     /* with a name that reaches past the end */
	uint64_t nested;       /* came inside of a callback on the same thread, where no other one runs */
	uint64_t sent;         /* packets that the kernel took, once for each destination */
	uint64_t failed;       /* packets that it did not take */
};

/* Writes the counters, `size` bytes of them: sizeof(*counts). 0; -1 for NULL. */
int binrush_get_counts(struct binrush_counts *counts, size_t size);

#ifdef __cplusplus
}
#endif

#endif
