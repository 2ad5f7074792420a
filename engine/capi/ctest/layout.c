/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Sizes and offsets of 1.11 and 3.6 on LP64: those that modules were compiled with. Compiles or does not; run, it does nothing. */
#include <stddef.h>

#include "binrush.h"

#define SIZE(_type, _size) _Static_assert(sizeof(_type) == (_size), "size of " #_type)
#define AT(_type, _field, _offset) _Static_assert(offsetof(_type, _field) == (_offset), "offset of " #_field)

SIZE(str, 16);
AT(str, s, 0);
AT(str, len, 8);

SIZE(struct ip_addr, 24);
AT(struct ip_addr, af, 0);
AT(struct ip_addr, len, 4);
AT(struct ip_addr, u, 8);
SIZE(struct net, 48);

SIZE(union sockaddr_union, 28);

SIZE(struct receive_info, 104);
AT(struct receive_info, src_ip, 0);
AT(struct receive_info, dst_ip, 24);
AT(struct receive_info, src_port, 48);
AT(struct receive_info, dst_port, 50);
AT(struct receive_info, proto, 52);
AT(struct receive_info, proto_reserved1, 56);
AT(struct receive_info, proto_reserved2, 60);
AT(struct receive_info, src_su, 64);
AT(struct receive_info, bind_address, 96);

SIZE(struct dest_info, 48);
AT(struct dest_info, to, 8);
AT(struct dest_info, send_sock, 40);

SIZE(struct binrush_counts, 88);

#if BINRUSH_API == 1
_Static_assert(PROTO_UDP == 1 && PROTO_OTHER == 5, "numbers of 1.11");
_Static_assert(HEADER_SIZE == 8 && MIN_BIN_PACKET_SIZE == 18, "sizes of 1.11");
#else
_Static_assert(PROTO_UDP == 1 && PROTO_BIN == 8 && PROTO_BINS == 9 && PROTO_OTHER == 16, "numbers of 3.6");
_Static_assert(HEADER_SIZE == 10 && MIN_BIN_PACKET_SIZE == 17, "sizes of 3.6");

SIZE(bin_packet_t, 48);
AT(bin_packet_t, buffer, 0);
AT(bin_packet_t, front_pointer, 16);
AT(bin_packet_t, next, 24);
AT(bin_packet_t, size, 32);
AT(bin_packet_t, type, 36);
AT(bin_packet_t, flags, 40);
AT(bin_packet_t, src_id, 44);
#endif

int main(void)
{
	return 0;
}
