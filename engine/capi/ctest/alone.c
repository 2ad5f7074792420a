/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A program that only links libbinrush: sends an AoR to itself, and says what arrived. */
#include <stdio.h>
#include <string.h>

#include <binrush.h>

static void contact_changed(int command)
{
	str domain, aor;

	if (bin_pop_str(&domain) || bin_pop_str(&aor))
		return;
	printf("ul %d: %.*s in %.*s\n", command, aor.len, aor.s, domain.len, domain.s);
}

int main(void)
{
	str module = {"ul", 2}, domain = {"location", 8}, aor = {"alice", 5};
	union sockaddr_union to;
	struct binrush_counts counts;
	socklen_t len = sizeof(to);

	memset(&to, 0, sizeof(to));
	to.sin.sin_family = AF_INET;
	to.sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (binrush_listen(&to) || getsockname(binrush_fd(), &to.s, &len)) {
		perror("cannot listen");
		return 1;
	}
	bin_register_cb("ul", contact_changed);

	if (bin_init(&module, 1) || bin_push_str(&domain) || bin_push_str(&aor))
		return 1;
	printf("sent %d bytes\n", bin_send(&to));

	if (binrush_run_once(1000) != 1 || binrush_get_counts(&counts, sizeof(counts)))
		return 1;
	printf("received %d, handled %d\n", (int)counts.received, (int)counts.handled);
	return 0;
}
