/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the functions of the 1.x API answer at their edges. Ends with 0, or says where it was not so.
 *
 *   edges_1x         all of it
 *   edges_1x leak    and loses memory, so that the tools that look for that find something
 */
#include <errno.h>

#include "binrush.h"
#include "check.h"

static char module[] = "edges", other[] = "other";
static str name = {module, 5};
static union sockaddr_union self, nobody;
static int out, port, calls_of_first, calls_of_second, command;
static char *kept;
static void (*in_callback)(void);

static void first(int type)
{
	calls_of_first++;
	command = type;
}

static void second(int type)
{
	calls_of_second++;
	command = type;
	if (in_callback)
		in_callback();
}

/* Runs the callbacks of `count` datagrams that are on their way. */
static void run(int count)
{
	while (count > 0) {
		int taken = binrush_run_once(10000);

		CHECK(taken > 0);
		count -= taken;
	}
}

/* Sends the packet in the making to ourselves, and pops it by `pops`. */
static void there_and_back(void (*pops)(void))
{
	int before = calls_of_second;

	in_callback = pops;
	CHECK(bin_send(&self) > 0);
	run(1);
	in_callback = NULL;
	EQUAL(calls_of_second, before + 1);
}

static struct binrush_counts counts(void)
{
	struct binrush_counts now;

	EQUAL(binrush_get_counts(&now, sizeof(now)), 0);
	CHECK(now.received ==
		now.handled + now.misread + now.nobody + now.too_short + now.bad_marker + now.bad_checksum + now.bad_name + now.nested);
	return now;
}

static void outside(void)
{
	str text = {module, 3};
	int number = 7;

	EQUAL(bin_pop_str(&text), -2);
	EQUAL(bin_pop_int(&number), -2);
	EQUAL(bin_skip_str(1), -2);
	EQUAL(bin_skip_int(0), -2);
	EQUAL(bin_pop_str(NULL), -2);
	CHECK(text.s == module && text.len == 3 && number == 7);
}

static void nothing_to_send(void)
{
	str bad = {module, -1}, empty = {NULL, 0}, letter = {module, 1};

	EQUAL(bin_push_int(1), -1);
	EQUAL(bin_push_str(&name), -1);
	EQUAL(bin_push_str(NULL), -1);
	EQUAL(bin_send(&self), -1);
	EQUAL(bin_send(NULL), 0);
	EQUAL(bin_init(NULL, 1), -1);
	EQUAL(bin_init(&bad, 1), -1);
	EQUAL(bin_init(&name, 1), 0);
	EQUAL(bin_push_int(1), 0);
	/* What was not begun is not sent under the name of the packet before. */
	EQUAL(bin_init(&bad, 1), -1);
	EQUAL(bin_push_int(1), -1);
	EQUAL(bin_send(&self), -1);
	EQUAL(bin_init(&empty, 1), -1);
	EQUAL(bin_push_int(1), -1);
	/* 17 bytes, which no receiver takes. */
	EQUAL(bin_init(&letter, 1), 0);
	EQUAL(bin_send(&self), -1);
	EQUAL(bin_push_int(1), 0);
	EQUAL(bin_send(&nobody), 21);
}

static void registrations(void)
{
	EQUAL(bin_register_cb(NULL, first), -1);
	EQUAL(bin_register_cb(module, NULL), -1);
	EQUAL(bin_register_cb("", first), -1);
	EQUAL(bin_register_cb(module, first), 0);
	EQUAL(bin_register_cb(module, second), 0);
	EQUAL(bin_register_cb(other, first), 0);
	/* Names are copied. */
	memset(other, 'x', sizeof(other) - 1);
	EQUAL(bin_init(&name, -5), 0);
	there_and_back(NULL);
	EQUAL(calls_of_first, 0);
	EQUAL(command, -5);
}

static void pops_of_nothing(void)
{
	str text;
	int i;

	for (i = 0; i < 4; i++) {
		memset(&text, 1, sizeof(text));
		EQUAL(bin_pop_str(&text), 0);
		CHECK(text.s == NULL && text.len == 0);
	}
	EQUAL(bin_pop_str(&text), -1);
	EQUAL(bin_skip_str(1), -1);
	EQUAL(bin_skip_int(1), -1);
	EQUAL(bin_skip_int(0), 0);
	EQUAL(bin_skip_str(-1), 0);
	EQUAL(bin_pop_int(NULL), -1);
	EQUAL(bin_pop_str(NULL), -1);
}

static void empty_strings(void)
{
	str none = {NULL, 5}, empty = {module, 0}, zero = {NULL, 0};

	EQUAL(bin_init(&name, 1), 0);
	EQUAL(bin_push_str(NULL), 0);
	EQUAL(bin_push_str(&none), 0);
	EQUAL(bin_push_str(&empty), 0);
	EQUAL(bin_push_str(&zero), 0);
	there_and_back(pops_of_nothing);
}

static void pops_what_fits(void)
{
	str text;
	int number;

	EQUAL(bin_pop_str(&text), 0);
	EQUAL(text.len, 65507 - 21 - 4 - 4);
	CHECK(text.s[0] == 'a' && text.s[text.len - 1] == 'z');
	EQUAL(bin_pop_int(&number), 0);
	EQUAL(number, 42);
	EQUAL(bin_skip_int(1), -1);
}

static void what_does_not_fit(void)
{
	static char bytes[70000];
	str text = {bytes, 65507 - 21 - 4 - 4};

	memset(bytes, 'b', sizeof(bytes));
	bytes[0] = 'a';
	bytes[text.len - 1] = 'z';
	EQUAL(bin_init(&name, 1), 0);
	EQUAL(bin_push_str(&text), 0);
	EQUAL(bin_push_int(42), 0);
	/* Refused, all of it, and the packet is as it was. */
	EQUAL(bin_push_int(43), -1);
	EQUAL(bin_push_str(NULL), -1);
	text.len = -1;
	EQUAL(bin_push_str(&text), -1);
	text.len = sizeof(bytes);
	EQUAL(bin_push_str(&text), -1);
	EQUAL(bin_send(&self), 65507);
	in_callback = pops_what_fits;
	run(1);
	in_callback = NULL;
}

static void pushes_while_it_pops(void)
{
	str reply = {module, 5}, text;
	int number;

	EQUAL(bin_pop_int(&number), 0);
	EQUAL(number, 1);
	EQUAL(bin_init(&reply, 99), 0);
	EQUAL(bin_push_str(&reply), 0);
	EQUAL(bin_send(&nobody), 30);
	EQUAL(bin_pop_str(&text), 0);
	CHECK(text.len == 5 && memcmp(text.s, "edges", 5) == 0);
	/* What was popped is the callback's to write. */
	memset(text.s, '#', (size_t)text.len);
	EQUAL(bin_pop_int(&number), 0);
	EQUAL(number, 2);
	/* No delivery inside of a delivery. */
	EQUAL(binrush_run_once(0), -1);
	errno = 0;
	EQUAL(binrush_listen(NULL), -1);
	EQUAL(errno, EBUSY);
	EQUAL(binrush_fd(), -1);
}

static void both_ways_at_once(void)
{
	EQUAL(bin_init(&name, 1), 0);
	EQUAL(bin_push_int(1), 0);
	EQUAL(bin_push_str(&name), 0);
	EQUAL(bin_push_int(2), 0);
	there_and_back(pushes_while_it_pops);
}

static void pops_lies(void)
{
	str text = {module, 3};
	int number;

	EQUAL(bin_pop_str(&text), -1);
	EQUAL(bin_skip_str(1), -1);
	CHECK(text.s == module && text.len == 3);
	/* Nothing has moved. */
	EQUAL(bin_pop_int(&number), 0);
	EQUAL(bin_skip_int(1), 0);
	EQUAL(bin_pop_int(&number), -1);
}

static void lengths_that_lie(void)
{
	static const int lies[] = {-1, -8, 5, 0x7fffffff, (int)0x80000000};
	size_t i;

	for (i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		struct binrush_counts before = counts();

		EQUAL(bin_init(&name, 1), 0);
		EQUAL(bin_push_int(lies[i]), 0);
		EQUAL(bin_push_int(0), 0);
		there_and_back(pops_lies);
		EQUAL(counts().misread, before.misread + 1);
	}
}

static void take_in(const char *bytes, size_t len)
{
	EQUAL(sendto(out, bytes, len, 0, &self.s, sizeof(self.sin)), (long)len);
	run(1);
}

static void refused_packets(void)
{
	/* The golden `ul` packet that inserts an AoR. */
	static const char good[] = "P4CK\x0f\xdd\x49\x0b\x02\0\0\0ul\x01\0\0\0\x08\0\0\0location\x05\0\0\0alice";
	struct binrush_counts before = counts();
	char bad[sizeof(good) - 1];

	take_in(good, sizeof(bad));
	EQUAL(counts().nobody, before.nobody + 1);
	take_in(good, 17);
	EQUAL(counts().too_short, before.too_short + 1);
	memcpy(bad, good, sizeof(bad));
	bad[3] = 'k';
	take_in(bad, sizeof(bad));
	EQUAL(counts().bad_marker, before.bad_marker + 1);
	memcpy(bad, good, sizeof(bad));
	bad[sizeof(bad) - 1] ^= 1;
	take_in(bad, sizeof(bad));
	EQUAL(counts().bad_checksum, before.bad_checksum + 1);
	/* Its checksum is right, and the length of its name negative. */
	EQUAL(unhex("5034434b709aeccbfcffffff6469616c6f670100000000000000", bad, sizeof(bad)), 26);
	take_in(bad, 26);
	EQUAL(counts().bad_name, before.bad_name + 1);
	take_in("", 0);
	EQUAL(counts().too_short, before.too_short + 2);
}

static void keeps_a_pointer(void)
{
	str text;

	EQUAL(bin_pop_str(&text), 0);
	CHECK(memcmp(text.s, "edges", 5) == 0);
	kept = text.s;
}

static void kept_pointers(void)
{
	int poison;

	for (poison = 0; poison <= 1; poison++) {
		binrush_poison(poison);
		EQUAL(bin_init(&name, 1), 0);
		EQUAL(bin_push_str(&name), 0);
		there_and_back(keeps_a_pointer);
		CHECK(memcmp(kept, poison ? "\xa5\xa5\xa5\xa5\xa5" : "edges", 5) == 0);
	}
	binrush_poison(0);
}

/* Packets leave from where the thread listens. */
static void leaving(void)
{
	union sockaddr_union to = loopback(0), from;
	socklen_t len = sizeof(from);
	char bytes[32];
	int sink = socket(AF_INET, SOCK_DGRAM, 0), queued;

	EQUAL(bind(sink, &to.s, sizeof(to.sin)), 0);
	to = loopback(port_of(sink));
	for (queued = 0; queued <= 1; queued++) {
		EQUAL(bin_init(&name, 1), 0);
		EQUAL(queued ? bin_send_batch(&to) : bin_send(&to), 21);
		bin_flush();
		EQUAL(recvfrom(sink, bytes, sizeof(bytes), 0, &from.s, &len), 21);
		EQUAL(su_getport(&from), port);
	}
	close(sink);
}

static void several_destinations(void)
{
	struct binrush_counts before = counts();
	int handled = calls_of_second, i;
	union sockaddr_union local;

	EQUAL(bin_init(&name, 1), 0);
	for (i = 0; i < 3; i++) {
		EQUAL(bin_push_int(i), 0);
		EQUAL(bin_send(&self), 21 + 4 * (i + 1));
	}
	memset(&local, 0, sizeof(local));
	local.s.sa_family = AF_UNIX;
	EQUAL(bin_send(&local), -1);
	EQUAL(bin_send_batch(&local), -1);
	EQUAL(bin_send_batch(NULL), 0);
	for (i = 0; i < BINRUSH_BATCH_MAX + 3; i++)
		EQUAL(bin_send_batch(&self), 33);
	EQUAL(bin_flush(), 3);
	EQUAL(bin_flush(), 0);
	run(3 + BINRUSH_BATCH_MAX + 3);
	EQUAL(calls_of_second, handled + 3 + BINRUSH_BATCH_MAX + 3);
	EQUAL(counts().sent, before.sent + 3 + BINRUSH_BATCH_MAX + 3);
	/* Port 0 is nobody's. */
	local = loopback(0);
	EQUAL(bin_send(&local), -1);
	EQUAL(bin_send_batch(&local), 33);
	EQUAL(bin_send_batch(&self), 33);
	EQUAL(bin_flush(), -1);
	run(1);
	EQUAL(counts().failed, before.failed + 2);
}

static void listening(void)
{
	union sockaddr_union same = loopback(port), any = loopback(0), local;
	struct binrush_counts few;

	EQUAL(binrush_run_once(0), 0);
	errno = 0;
	EQUAL(binrush_listen(&nobody), -1);
	EQUAL(errno, EADDRINUSE);
	memset(&local, 0, sizeof(local));
	EQUAL(binrush_listen(&local), -1);
	EQUAL(errno, EAFNOSUPPORT);
	EQUAL(port_of(binrush_fd()), port);
	/* Where it listens already. */
	EQUAL(binrush_listen(&same), 0);
	EQUAL(port_of(binrush_fd()), port);
	EQUAL(binrush_listen(&any), 0);
	CHECK(port_of(binrush_fd()) != port);
	EQUAL(binrush_listen(NULL), 0);
	EQUAL(binrush_fd(), -1);
	EQUAL(binrush_run_once(0), -1);
	EQUAL(binrush_get_counts(NULL, sizeof(few)), -1);
	memset(&few, 0xff, sizeof(few));
	EQUAL(binrush_get_counts(&few, 8), 0);
	CHECK(few.received == counts().received && few.handled == UINT64_MAX);
}

int main(int argc, char **argv)
{
	union sockaddr_union any = loopback(0);
	int sink = socket(AF_INET, SOCK_DGRAM, 0);

	(void)argv;
	alarm(60);
	out = socket(AF_INET, SOCK_DGRAM, 0);
	EQUAL(bind(sink, &any.s, sizeof(any.sin)), 0);
	nobody = loopback(port_of(sink));
	EQUAL(binrush_run_once(0), -1);
	EQUAL(binrush_listen(&any), 0);
	port = port_of(binrush_fd());
	self = loopback(port);

	outside();
	nothing_to_send();
	registrations();
	outside();
	empty_strings();
	what_does_not_fit();
	both_ways_at_once();
	lengths_that_lie();
	refused_packets();
	kept_pointers();
	leaving();
	several_destinations();
	outside();
	listening();

	if (argc > 1) {
		/* Where no register or stack still knows it. */
		char *volatile lost = malloc(1234);

		CHECK(lost);
		lost = NULL;
	}
	return 0;
}
