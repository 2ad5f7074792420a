/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A child of fork sends nothing that its parent queued (compiled with BINRUSH_API 1), and has connections of its own (with 3).
 */
#include <sys/wait.h>

#include "binrush.h"
#include "check.h"

#if BINRUSH_API == 1

static char module[] = "edges";
static str name = {module, 5};

static void queue(union sockaddr_union *to, int type)
{
	EQUAL(bin_init(&name, type), 0);
	EQUAL(bin_send_batch(to), 21);
}

/* The types of the packets that have come, as they are written one after the other in decimals. */
static int come(int fd)
{
	char bytes[64];
	int types = 0;

	while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) == 21)
		types = 10 * types + bytes[17];
	return types;
}

int main(void)
{
	union sockaddr_union to = loopback(0);
	int sink = socket(AF_INET, SOCK_DGRAM, 0), status;
	pid_t child;

	alarm(60);
	EQUAL(bind(sink, &to.s, sizeof(to.sin)), 0);
	to = loopback(port_of(sink));
	queue(&to, 1);
	child = fork();
	if (child == 0) {
		queue(&to, 2);
		EQUAL(bin_flush(), 1);
		EQUAL(bin_flush(), 0);
		_exit(0);
	}
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
	EQUAL(come(sink), 2);

	/* Also what it sends at once, and what is left when it ends. */
	child = fork();
	if (child == 0) {
		EQUAL(bin_init(&name, 3), 0);
		EQUAL(bin_send(&to), 21);
		exit(0);
	}
	EQUAL(waitpid(child, &status, 0), child);
	EQUAL(status, 0);
	EQUAL(come(sink), 3);
	queue(&to, 4);
	EQUAL(bin_flush(), 2);
	EQUAL(come(sink), 14);
	return 0;
}

#else

/* The next connection's whole content, which ends when all who have it have closed it: types of packets of 21 bytes. */
static int content(int listener)
{
	char bytes[21];
	int peer = accept(listener, NULL, NULL), types = 0;

	CHECK(peer >= 0);
	while (recv(peer, bytes, sizeof(bytes), MSG_WAITALL) == sizeof(bytes))
		types = 10 * types + bytes[17];
	close(peer);
	return types;
}

static void send_one(union sockaddr_union *to, int type)
{
	str cap = str_init("edges");
	bin_packet_t packet;

	EQUAL(bin_init(&packet, &cap, type, 1, 0), 0);
	EQUAL(binrush_packet_send(&packet, to), 21);
	bin_free_packet(&packet);
}

int main(void)
{
	union sockaddr_union to = loopback(0);
	int listener = socket(AF_INET, SOCK_STREAM, 0), status;
	pid_t sender, child;

	alarm(60);
	EQUAL(bind(listener, &to.s, sizeof(to.sin)), 0);
	EQUAL(listen(listener, 4), 0);
	to = loopback(port_of(listener));
	sender = fork();
	if (sender == 0) {
		close(listener);
		send_one(&to, 1);
		child = fork();
		if (child == 0) {
			send_one(&to, 2);
			_exit(0);
		}
		EQUAL(waitpid(child, &status, 0), child);
		EQUAL(status, 0);
		/* What the child closed is open for us. */
		send_one(&to, 3);
		_exit(0);
	}
	EQUAL(waitpid(sender, &status, 0), sender);
	EQUAL(status, 0);
	EQUAL(content(listener), 13);
	EQUAL(content(listener), 2);
	return 0;
}

#endif
