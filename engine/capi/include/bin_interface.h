/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The Binary Internal Interface: packets that are pushed together field by field, sent, and popped field by field at the other end.
 *
 * BINRUSH_API, defined before the first of these headers or by -DBINRUSH_API=3, chooses whose functions these are:
 *
 *   undefined or 1   those of OpenSIPS 1.10, 1.11 and 2.1: a packet is a UDP datagram
 *   3                those of OpenSIPS 3.x on bin_packet_t: packets go by TCP
 *
 * One program may have files of both. A packet has no types in it: what reads has to pop what was pushed, in the same order.
 *
 * Of OpenSIPS these are not offered: the API of 2.2 and 2.3; the macros of 1.x that look into its buffers (bin_send_type, bin_rcv_size and the like;
 * get_name is there); struct packet_cb_list; struct socket_info, grep_sock_info and other listeners; map.h; the database API (db/); clusterer's.
 * Destinations are read by socket_info.h and resolve.h, hashed by hash_func.h.
 */
#ifndef BINRUSH_BIN_INTERFACE_H
#define BINRUSH_BIN_INTERFACE_H

#include "ip_addr.h"

#define BIN_PACKET_MARKER "P4CK"
#define BIN_PACKET_MARKER_SIZE 4

#define is_valid_bin_packet(_p) (memcmp((_p), BIN_PACKET_MARKER, BIN_PACKET_MARKER_SIZE) == 0)

#ifdef __cplusplus
extern "C" {
#endif

#if BINRUSH_API == 1

/*
 *   0        4        8             12      12+length    16+length
 *   | P4CK   | CRC-32 | name length | name  | command    | fields ...
 *
 * Each thread makes one packet and reads one packet, and neither disturbs the other: a callback may push and send.
 */
#define CRC_FIELD_SIZE 4
#define LEN_FIELD_SIZE sizeof(int)
#define CMD_FIELD_SIZE sizeof(int)
#define HEADER_SIZE (BIN_PACKET_MARKER_SIZE + CRC_FIELD_SIZE)
#define MIN_BIN_PACKET_SIZE (HEADER_SIZE + LEN_FIELD_SIZE + CMD_FIELD_SIZE + 2)

/* The name in a packet at `_p` that was checked. */
#define get_name(_p, _name) \
	do { \
		memcpy(&(_name).len, (_p) + HEADER_SIZE, sizeof((_name).len)); \
		(_name).s = (_p) + HEADER_SIZE + LEN_FIELD_SIZE; \
	} while (0)

/*
 * Whether one can send: `bin` is never NULL, since packets always have a socket to leave from. What it points to is zeros, not to be looked at.
 * bin_children is 1.
 */
extern struct socket_info *bin;
extern int bin_children;

/*
 * Names who takes the packets of the module `mod_name`, which is copied. Of two with the same name the last one is called. In a module,
 * call it from mod_init or child_init: later it is refused, with a line in the log.
 *
 * 0; -1 without a name or a callback, for an empty name, and in a module that comes too late.
 */
int bin_register_cb(char *mod_name, void (*cb)(int packet_type));

/*
 * Begins a packet; the one that this thread made before is gone.
 *
 * 0; -1 with a name that is NULL, empty, negative or does not fit: then there is no packet, and pushing and sending answer -1.
 */
int bin_init(str *mod_name, int packet_type);

/*
 * Append a string or an int. NULL, and a string without bytes, is an empty string.
 *
 * 0; -1 without a packet, for a negative length, and for what would make the packet longer than a datagram may be, 65507 bytes: then it is
 * as it was. Nothing is ever cut off, so who checks no answer sends a packet without that field.
 */
int bin_push_str(const str *info);
int bin_push_int(int info);

/*
 * Sends the packet to `dest`. It stays, to be sent to others too. It leaves from where this thread listens by binrush_listen; in binrush from the
 * first bin_listen of the destination's family; without either from a port of the kernel's choice, so that there is no -1 for want of a bin_listen. What listens on
 * loopback reaches nobody else.
 *
 * The bytes sent; 0 for NULL; -1 where there is no packet or one below 18 bytes, which receivers refuse, no socket, an address of another family, or the
 * kernel refuses, also for want of room: it never waits.
 */
int bin_send(union sockaddr_union *dest);

/*
 * Take the next string or int of the packet whose callback runs on this thread. The bytes of a string are good until the callback returns,
 * and may be written to until then; an empty string has a NULL pointer.
 *
 * 0; -1 where nothing is left, what is left is too short, or a length is negative or reaches past the end: then nothing moves and `info` is as
 * it was; -2 outside of callbacks.
 */
int bin_pop_str(str *info);
int bin_pop_int(void *info);

/* Step over `count` strings or ints, all or none. Answer as the pops. */
int bin_skip_str(int count);
int bin_skip_int(int count);

#elif BINRUSH_API == 3

/*
 *   0        4              8         10                 12        12+length   16+length
 *   | P4CK   | total length | version | length of name   | name    | type      | fields ...
 *
 * Everything is in the struct: its functions need no callback to run in.
 */
#define BIN_MAX_BUF_LEN 65535
#define PKG_LEN_FIELD_SIZE 4
#define VERSION_FIELD_SIZE 2
#define LEN_FIELD_SIZE (sizeof(unsigned short))
#define CMD_FIELD_SIZE sizeof(int)
#define HEADER_SIZE (BIN_PACKET_MARKER_SIZE + PKG_LEN_FIELD_SIZE + VERSION_FIELD_SIZE)
#define MIN_BIN_PACKET_SIZE (HEADER_SIZE + LEN_FIELD_SIZE + 1 + CMD_FIELD_SIZE)

typedef unsigned bin_packet_flags_t;
#define BINFL_SYSMEM (1U << 0)

typedef struct bin_packet {
	str buffer;               /* the whole packet */
	char *front_pointer;      /* the next field to pop */
	struct bin_packet *next;  /* yours */
	int size;                 /* bytes there are at buffer.s */
	int type;
	bin_packet_flags_t flags; /* whose the bytes are */
	int src_id;               /* in a callback 0: not known here; pop it off the end of a routed packet */
} bin_packet_t;

/* Both APIs are in one library, so these have symbols of their own. */
#define BINRUSH_3(_name) __asm__("binrush_3_" #_name)

/*
 * Starts a packet in memory of its own, of `length` bytes to begin with (at least 17 and the capability's), or of the maximum with 0. Let go
 * of it with bin_free_packet. `next` and `src_id` are left as they are.
 *
 * 0; -1: nothing is started, as with a capability that is NULL or empty.
 */
int _bin_init(bin_packet_t *packet, str *capability, int packet_type, short version, int length, int use_sysmalloc)
	BINRUSH_3(init);
#define bin_init(_packet, _capability, _type, _version, _length) \
	_bin_init((_packet), (_capability), (_type), (_version), (_length), 0)

/*
 * Makes `packet` show the packet in `buffer`, which stays yours: it is not freed with the packet, and copied as soon as the packet grows. What
 * is no packet (marker, lengths) leaves one without bytes, with which everything answers -1.
 *
 * What `packet` itself has memory of its own for, it goes on owning: bin_init_buffer(&p, p.buffer.s, p.buffer.len) reads from the beginning what
 * was written, and bin_free_packet lets go of it. For that the struct is looked at; it need not be initialised.
 */
void bin_init_buffer(bin_packet_t *packet, char *buffer, int length) BINRUSH_3(init_buffer);

/*
 * Append a string (NULL is an empty one), an int, or fields that are encoded already.
 *
 * The new total length; -1: it would be above BIN_MAX_BUF_LEN, or there is no memory, and the packet is as it was.
 */
int bin_push_str(bin_packet_t *packet, const str *info) BINRUSH_3(push_str);
int bin_push_int(bin_packet_t *packet, int info) BINRUSH_3(push_int);
int bin_append_buffer(bin_packet_t *packet, str *buf) BINRUSH_3(append_buffer);

/*
 * Take `count` ints off the end, and put them back. Never more than the fields have, and not more than were taken; of a packet whose memory
 * you gave yourself, not more than `size` has.
 *
 * 0 or -1.
 */
int bin_remove_int_buffer_end(bin_packet_t *packet, int count) BINRUSH_3(remove_int_buffer_end);
int bin_skip_int_packet_end(bin_packet_t *packet, int count) BINRUSH_3(skip_int_packet_end);

/*
 * Take the next string or int, or an int off the end. The bytes of a string are the packet's.
 *
 * 0; 1: nothing is left (never of bin_pop_back_int); -1: what is left is too short, and nothing moves.
 */
int bin_pop_str(bin_packet_t *packet, str *info) BINRUSH_3(pop_str);
int bin_pop_int(bin_packet_t *packet, void *info) BINRUSH_3(pop_int);
int bin_pop_back_int(bin_packet_t *packet, void *info) BINRUSH_3(pop_back_int);

/* Step over `count` ints or strings, all or none. 0 or -1. */
int bin_skip_int(bin_packet_t *packet, int count) BINRUSH_3(skip_int);
int bin_skip_str(bin_packet_t *packet, int count) BINRUSH_3(skip_str);

/* The whole packet (answers 1); all its fields, and those not popped yet (answer how many bytes). -1 of what is no packet. */
int bin_get_buffer(bin_packet_t *packet, str *buffer) BINRUSH_3(get_buffer);
int bin_get_content_start(bin_packet_t *packet, str *buf) BINRUSH_3(get_content_start);
int bin_get_content_pos(bin_packet_t *packet, str *buf) BINRUSH_3(get_content_pos);

/* The capability; NULL and 0 of what is no packet. */
void bin_get_capability(bin_packet_t *packet, str *capability) BINRUSH_3(get_capability);

/* Takes all fields away, so that the packet can be filled anew. 0 or -1. */
int bin_reset_back_pointer(bin_packet_t *packet) BINRUSH_3(reset_back_pointer);

/* Writes the type again (4.0). */
void bin_set_packet_type(bin_packet_t *packet, int type) BINRUSH_3(set_packet_type);

/* Lets go of the memory. A second time, and in a callback with the packet that it was given, it does no harm. */
void bin_free_packet(bin_packet_t *packet) BINRUSH_3(free_packet);

/*
 * Names who takes the packets of a capability. `cap`, and `att_len` bytes of `att`, are copied; the callback gets the copy, aligned for
 * any type and its own to write. Of two with the same capability the last one is called. In a module, call it from mod_init or child_init: later it
 * is refused, with a line in the log.
 *
 * The packet is as it came: with the three ids at its end where it was routed, which bin_pop_back_int takes off (destination, source,
 * cluster). `ri` is good until the callback returns.
 *
 * 0 or -1.
 */
int bin_register_cb(str *cap, void (*cb)(bin_packet_t *packet, int packet_type, struct receive_info *ri, void *att), void *att, int att_len)
	BINRUSH_3(register_cb);

/*
 * Hands a packet to whoever registered for its capability in this process, outside of modules. It has as many bytes as its header says; `rcv` may be
 * NULL. Dropped, and counted by binrush_get_counts: what is no packet, what nobody registered for, and calls from inside of a callback, where OpenSIPS 3.6
 * calls the other one at once.
 */
void call_callbacks(char *buffer, struct receive_info *rcv) BINRUSH_3(call_callbacks);

/* The version in the header; -1 without bytes, where there is none to set either. */
static inline short get_bin_pkg_version(bin_packet_t *packet)
{
	short version;

	if (!packet->buffer.s)
		return -1;
	memcpy(&version, packet->buffer.s + BIN_PACKET_MARKER_SIZE + PKG_LEN_FIELD_SIZE, sizeof(version));
	return version;
}

static inline void set_bin_pkg_version(bin_packet_t *packet, short version)
{
	if (packet->buffer.s)
		memcpy(packet->buffer.s + BIN_PACKET_MARKER_SIZE + PKG_LEN_FIELD_SIZE, &version, sizeof(version));
}

/* Return from the calling function, which answers nothing, when the packet has another version, or one outside of a range. */
#define ensure_bin_version(_packet, _needed) ensure_bin_version2((_packet), (_needed), (_needed))
#define ensure_bin_version2(_packet, _least, _most) \
	do { \
		short _has = get_bin_pkg_version(_packet); \
		if (_has < (_least) || _has > (_most)) { \
			LM_INFO("a packet of type %d has version %d, and %d to %d are known: dropped\n", (_packet)->type, _has, (int)(_least), \
				(int)(_most)); \
			return; \
		} \
	} while (0)
#define _ensure_bin_version(_packet, _needed, _what) ensure_bin_version((_packet), (_needed))
#define _ensure_bin_version2(_packet, _least, _most, _what) ensure_bin_version2((_packet), (_least), (_most))

#else
#error "BINRUSH_API is 1 (OpenSIPS 1.10, 1.11, 2.1) or 3 (OpenSIPS 3.x); the API of 2.2 and 2.3 is not offered"
#endif

#ifdef __cplusplus
}
#endif

#endif
