/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The headers in a program of C++, which finds the functions of C. */
#include "binrush.h"

int main()
{
	struct binrush_counts counts;

#if BINRUSH_API == 1
	char module[] = "edges";
	str name = {module, 5};

	if (bin_init(&name, 1) != 0 || bin_push_int(1) != 0 || bin_flush() != 0 || !bin)
		return 1;
#else
	bin_packet_t packet = {};

	if (get_bin_pkg_version(&packet) != -1 || binrush_packet_send(&packet, nullptr) != 0)
		return 1;
	bin_free_packet(&packet);
#endif
	return binrush_get_counts(&counts, sizeof(counts)) == 0 && counts.received == 0 ? 0 : 1;
}
