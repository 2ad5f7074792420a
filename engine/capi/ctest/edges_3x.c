/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the functions of the 3.x API answer at their edges. Ends with 0, or says where it was not so. */
#define BINRUSH_API 3
#include "binrush.h"
#include "check.h"

static char capability[] = "edges", bytes[70000];
static str cap = {capability, 5};
static int called;

/* A struct full of what memory may hold. */
static bin_packet_t fresh(void)
{
	bin_packet_t packet;

	memset(&packet, 0x5a, sizeof(packet));
	return packet;
}

static bin_packet_t started(int length)
{
	bin_packet_t packet = fresh();

	EQUAL(bin_init(&packet, &cap, 7, 2, length), 0);
	return packet;
}

static void beginning(void)
{
	bin_packet_t packet = fresh();
	str bad = {capability, -1}, long_one = {bytes, 65520}, empty = {NULL, 0}, got;

	EQUAL(bin_init(&packet, &cap, 7, 2, 21), -1);
	EQUAL(bin_init(&packet, &cap, 7, 2, -1), -1);
	EQUAL(bin_init(&packet, &cap, 7, 2, 65536), -1);
	EQUAL(bin_init(&packet, &bad, 7, 2, 0), -1);
	EQUAL(bin_init(&packet, &long_one, 7, 2, 0), -1);
	EQUAL(bin_init(NULL, &cap, 7, 2, 0), -1);
	EQUAL(bin_init(&packet, &cap, 7, -2, 22), 0);
	EQUAL(packet.buffer.len, 21);
	EQUAL(packet.size, 22);
	EQUAL(packet.type, 7);
	EQUAL(get_bin_pkg_version(&packet), -2);
	set_bin_pkg_version(&packet, 3);
	EQUAL(get_bin_pkg_version(&packet), 3);
	bin_get_capability(&packet, &got);
	CHECK(got.len == 5 && memcmp(got.s, "edges", 5) == 0);
	bin_set_packet_type(&packet, 11);
	EQUAL(packet.type, 11);
	CHECK(memcmp(packet.buffer.s, "P4CK\x15\0\0\0\x03\0\x05\0edges\x0b\0\0\0", 21) == 0);
	bin_free_packet(&packet);
	bin_free_packet(&packet);
	bin_free_packet(NULL);
	EQUAL(bin_push_int(&packet, 1), -1);
	EQUAL(_bin_init(&packet, &cap, 1, 1, 0, 1), 0);
	CHECK(packet.flags & BINFL_SYSMEM);
	bin_free_packet(&packet);
	EQUAL(bin_init(&packet, &empty, 1, 1, 0), -1);
	EQUAL(bin_init(&packet, NULL, 1, 1, 0), -1);
}

static void growing(void)
{
	bin_packet_t packet = started(22);
	str text = {bytes, 65535 - 21 - 2 - 4}, got, self;
	int number;

	memset(bytes, 'b', sizeof(bytes));
	EQUAL(bin_push_str(&packet, &text), 65531);
	EQUAL(bin_push_int(&packet, 42), 65535);
	EQUAL(bin_push_int(&packet, 43), -1);
	EQUAL(bin_push_str(&packet, NULL), -1);
	text.len = 70000;
	EQUAL(bin_push_str(&packet, &text), -1);
	text.len = -1;
	EQUAL(bin_push_str(&packet, &text), -1);
	EQUAL(bin_append_buffer(&packet, &text), -1);
	EQUAL(bin_append_buffer(&packet, NULL), -1);
	EQUAL(packet.buffer.len, 65535);
	EQUAL(bin_pop_str(&packet, &got), 0);
	EQUAL(got.len, 65508);
	EQUAL(bin_pop_int(&packet, &number), 0);
	EQUAL(number, 42);
	EQUAL(bin_pop_int(&packet, &number), 1);
	bin_free_packet(&packet);

	/* A part of the packet, appended to it while it moves. */
	packet = started(40);
	text = (str){capability, 5};
	EQUAL(bin_push_str(&packet, &text), 28);
	EQUAL(bin_get_content_start(&packet, &self), 7);
	EQUAL(bin_append_buffer(&packet, &self), 35);
	EQUAL(bin_get_content_start(&packet, &self), 14);
	EQUAL(bin_append_buffer(&packet, &self), 49);
	for (number = 0; number < 4; number++) {
		EQUAL(bin_pop_str(&packet, &got), 0);
		CHECK(got.len == 5 && memcmp(got.s, "edges", 5) == 0);
	}
	EQUAL(bin_get_content_pos(&packet, &got), 0);
	bin_free_packet(&packet);
}

static void popping(void)
{
	bin_packet_t packet = started(0);
	str text = {capability, 5}, got = {bytes, 3};
	int number = 9;

	EQUAL(bin_pop_str(&packet, &got), 1);
	EQUAL(bin_pop_int(&packet, &number), 1);
	EQUAL(bin_pop_back_int(&packet, &number), -1);
	EQUAL(bin_skip_int(&packet, 1), -1);
	EQUAL(bin_skip_str(&packet, 1), -1);
	EQUAL(bin_skip_str(&packet, -1), 0);
	EQUAL(bin_skip_int(&packet, -1), -1);
	EQUAL(bin_pop_str(&packet, NULL), -1);
	CHECK(got.s == bytes && number == 9);
	EQUAL(bin_push_str(&packet, NULL), 23);
	EQUAL(bin_push_str(&packet, &text), 30);
	EQUAL(bin_push_int(&packet, 5), 34);
	EQUAL(bin_skip_str(&packet, 4), -1);
	EQUAL(bin_pop_str(&packet, &got), 0);
	CHECK(got.s == NULL && got.len == 0);
	EQUAL(bin_skip_str(&packet, 1), 0);
	EQUAL(bin_skip_int(&packet, 1), 0);
	EQUAL(bin_pop_int(&packet, &number), 1);
	/* What was popped can be taken off the end too, down to the type and no further. */
	EQUAL(bin_pop_back_int(&packet, &number), 0);
	EQUAL(number, 5);
	EQUAL(bin_pop_back_int(&packet, &number), 0);
	EQUAL(bin_pop_back_int(&packet, &number), 0);
	EQUAL(packet.buffer.len, 22);
	EQUAL(bin_pop_back_int(&packet, &number), -1);
	/* The cursor is behind the end now. */
	EQUAL(bin_pop_int(&packet, &number), -1);
	EQUAL(bin_get_content_pos(&packet, &got), -1);
	bin_free_packet(&packet);

	/* A length that lies: nothing moves. */
	packet = started(0);
	EQUAL(bin_push_int(&packet, 0x00050005), 25);
	EQUAL(bin_pop_str(&packet, &got), -1);
	EQUAL(bin_skip_str(&packet, 1), -1);
	EQUAL(bin_pop_int(&packet, &number), 0);
	EQUAL(number, 0x00050005);
	bin_free_packet(&packet);
}

static void taking_off_and_putting_back(void)
{
	bin_packet_t packet = started(64);
	int number, i;

	EQUAL(bin_skip_int_packet_end(&packet, 1), -1);
	for (i = 0; i < 3; i++)
		EQUAL(bin_push_int(&packet, i), 25 + 4 * i);
	EQUAL(bin_remove_int_buffer_end(&packet, 4), -1);
	EQUAL(bin_remove_int_buffer_end(&packet, -1), -1);
	EQUAL(bin_remove_int_buffer_end(&packet, 3), 0);
	EQUAL(packet.buffer.len, 21);
	EQUAL(packet.buffer.s[4], 21);
	EQUAL(bin_skip_int_packet_end(&packet, 2), 0);
	EQUAL(bin_skip_int_packet_end(&packet, 2), -1);
	EQUAL(bin_skip_int_packet_end(&packet, 1), 0);
	EQUAL(bin_skip_int_packet_end(&packet, -1), -1);
	EQUAL(packet.buffer.s[4], 33);
	for (i = 0; i < 3; i++) {
		EQUAL(bin_pop_int(&packet, &number), 0);
		EQUAL(number, i);
	}
	EQUAL(bin_reset_back_pointer(&packet), 0);
	EQUAL(packet.buffer.len, 21);
	EQUAL(bin_pop_int(&packet, &number), 1);
	EQUAL(bin_push_int(&packet, 9), 25);
	EQUAL(bin_pop_int(&packet, &number), 0);
	EQUAL(number, 9);
	bin_free_packet(&packet);
	EQUAL(bin_reset_back_pointer(&packet), -1);
}

static void wrapping(void)
{
	bin_packet_t packet = started(0), wrapped = fresh();
	str whole, got;
	char copy[64];
	int number;

	EQUAL(bin_push_int(&packet, 77), 25);
	EQUAL(bin_get_buffer(&packet, &whole), 1);
	EQUAL(bin_get_buffer(&packet, NULL), -1);
	memcpy(copy, whole.s, (size_t)whole.len);
	bin_init_buffer(&wrapped, copy, whole.len);
	EQUAL(wrapped.type, 7);
	EQUAL(bin_pop_int(&wrapped, &number), 0);
	EQUAL(number, 77);
	/* Growing, it gets memory of its own, and the buffer stays. */
	EQUAL(bin_push_int(&wrapped, 78), 29);
	CHECK(wrapped.buffer.s != copy && copy[4] == 25);
	EQUAL(bin_pop_int(&wrapped, &number), 0);
	EQUAL(number, 78);
	bin_free_packet(&wrapped);
	bin_free_packet(&packet);

	/* What is no packet: too short, another marker, a name that reaches past the end. */
	bin_init_buffer(&wrapped, copy, 15);
	EQUAL(bin_pop_int(&wrapped, &number), -1);
	EQUAL(bin_push_int(&wrapped, 1), -1);
	EQUAL(bin_get_buffer(&wrapped, &got), -1);
	EQUAL(bin_get_content_start(&wrapped, &got), -1);
	bin_free_packet(&wrapped);
	copy[10] = 100;
	bin_init_buffer(&wrapped, copy, 25);
	EQUAL(bin_pop_int(&wrapped, &number), -1);
	copy[10] = 5;
	copy[0] = 'p';
	bin_init_buffer(&wrapped, copy, 25);
	EQUAL(bin_pop_int(&wrapped, &number), -1);
	bin_get_capability(&wrapped, &got);
	CHECK(got.s == NULL && got.len == 0);
	bin_init_buffer(&wrapped, NULL, 25);
	EQUAL(bin_pop_int(&wrapped, &number), -1);
}

/* What was written is read from its beginning, as the entities of 3.6's B2B do, and nothing is lost: see `valgrind`. */
static void wrapping_what_it_owns(void)
{
	bin_packet_t packet = started(40), moved;
	int number, i;

	for (i = 0; i < 50; i++)
		CHECK(bin_push_int(&packet, i) > 0);
	bin_init_buffer(&packet, packet.buffer.s, packet.buffer.len);
	CHECK(packet.size > packet.buffer.len);
	for (i = 0; i < 50; i++) {
		EQUAL(bin_pop_int(&packet, &number), 0);
		EQUAL(number, i);
	}
	EQUAL(bin_pop_int(&packet, &number), 1);
	EQUAL(bin_push_int(&packet, 50), 21 + 4 * 51);
	/* A struct may move. */
	moved = packet;
	bin_init_buffer(&moved, moved.buffer.s, 21);
	EQUAL(bin_push_int(&moved, 7), 25);
	bin_free_packet(&moved);

	/* What is no packet any more is still let go of. */
	packet = started(40);
	packet.buffer.s[0] = 'p';
	bin_init_buffer(&packet, packet.buffer.s, packet.buffer.len);
	EQUAL(bin_pop_int(&packet, &number), -1);
	EQUAL(bin_push_int(&packet, 1), -1);
	bin_free_packet(&packet);

	/* A struct that remembers memory which is gone owns nothing of what lies there now. */
	packet = started(40);
	EQUAL(bin_push_int(&packet, 1), 25);
	moved = packet;
	bin_free_packet(&packet);
	moved.buffer.s = malloc(48);
	CHECK(moved.buffer.s);
	memcpy(moved.buffer.s, "P4CK\x15\0\0\0\x03\0\x05\0edges\x0b\0\0\0", 21);
	packet = moved;
	bin_init_buffer(&packet, packet.buffer.s, 21);
	bin_free_packet(&packet);
	CHECK(memcmp(moved.buffer.s, "P4CK", 4) == 0);
	free(moved.buffer.s);
}

/* A struct that was filled by hand, with memory of malloc: the library has no words behind it. */
static void made_by_hand(void)
{
	bin_packet_t packet = fresh();
	int number;

	packet.flags = 0;
	packet.buffer.s = malloc(25);
	CHECK(packet.buffer.s);
	packet.buffer.len = packet.size = 25;
	memcpy(packet.buffer.s, "P4CK\x19\0\0\0\x03\0\x05\0edges\x0b\0\0\0\x09\0\0\0", 25);
	packet.front_pointer = packet.buffer.s + 21;
	EQUAL(bin_pop_back_int(&packet, &number), 0);
	EQUAL(number, 9);
	EQUAL(bin_skip_int_packet_end(&packet, 2), -1);
	EQUAL(bin_skip_int_packet_end(&packet, 1), 0);
	EQUAL(bin_remove_int_buffer_end(&packet, 1), 0);
	EQUAL(bin_push_int(&packet, 10), 25);
	EQUAL(bin_push_int(&packet, 11), 29);
	EQUAL(bin_pop_int(&packet, &number), 0);
	EQUAL(number, 10);
	bin_free_packet(&packet);

	/* One of ours whose bytes were replaced. */
	packet = started(40);
	free(packet.buffer.s);
	packet.buffer.s = malloc(25);
	CHECK(packet.buffer.s);
	packet.buffer.len = packet.size = 25;
	memcpy(packet.buffer.s, "P4CK\x19\0\0\0\x03\0\x05\0edges\x0b\0\0\0\x09\0\0\0", 25);
	EQUAL(bin_pop_back_int(&packet, &number), 0);
	EQUAL(number, 9);
	bin_free_packet(&packet);
}

/* Returns to the caller unless the version is 2. */
static void only_version_2(bin_packet_t *packet)
{
	ensure_bin_version(packet, 2);
	called++;
}

static void versions_of_nothing(void)
{
	bin_packet_t packet = started(0);
	char rubbish[40] = "not a packet";

	only_version_2(&packet);
	EQUAL(called, 1);
	bin_free_packet(&packet);
	EQUAL(get_bin_pkg_version(&packet), -1);
	set_bin_pkg_version(&packet, 2);
	only_version_2(&packet);
	bin_init_buffer(&packet, rubbish, sizeof(rubbish));
	EQUAL(get_bin_pkg_version(&packet), -1);
	set_bin_pkg_version(&packet, 2);
	only_version_2(&packet);
	EQUAL(called, 1);
	called = 0;
}

static struct binrush_counts counts(void)
{
	struct binrush_counts now;

	EQUAL(binrush_get_counts(&now, sizeof(now)), 0);
	return now;
}

static void callback(bin_packet_t *packet, int type, struct receive_info *ri, void *att)
{
	bin_packet_t reply = started(0);
	struct binrush_counts before = counts();
	str whole;
	int i;

	called++;
	EQUAL(type, 7);
	/* Nothing was taken off its end that could be put back. */
	EQUAL(bin_skip_int_packet_end(packet, 1), -1);
	EQUAL(bin_push_int(packet, 4711), 25);
	EQUAL(bin_remove_int_buffer_end(packet, 1), 0);
	EQUAL(bin_skip_int_packet_end(packet, 2), -1);
	EQUAL(bin_skip_int_packet_end(packet, 1), 0);
	EQUAL(bin_pop_back_int(packet, &i), 0);
	EQUAL(i, 4711);
	EQUAL(ri->src_port, 5555);
	EQUAL(*(int *)att, 1234);
	/* Longer than what it came with, and never freed by us. */
	for (i = 0; i < 100; i++)
		CHECK(bin_push_int(packet, i) > 0);
	/* No delivery inside of a delivery. */
	bin_get_buffer(&reply, &whole);
	call_callbacks(whole.s, ri);
	EQUAL(counts().nested, before.nested + 1);
	bin_free_packet(&reply);
	if (called == 2)
		bin_free_packet(packet);
}

static void needs_version_3(bin_packet_t *packet, int type, struct receive_info *ri, void *att)
{
	(void)type;
	(void)ri;
	(void)att;
	ensure_bin_version2(packet, 1, 2);
	called++;
	ensure_bin_version(packet, 3);
	called++;
}

static void nothing(bin_packet_t *packet, int type, struct receive_info *ri, void *att)
{
	(void)packet;
	(void)type;
	(void)ri;
	(void)att;
}

static int *attachment;

/* What it was given stays where it is, and what it writes there is kept, whoever registers meanwhile. */
static void registers(bin_packet_t *packet, int type, struct receive_info *ri, void *att)
{
	str another = str_init("another");

	(void)packet;
	(void)type;
	(void)ri;
	CHECK(!attachment || attachment == att);
	attachment = att;
	++*attachment;
	EQUAL(bin_register_cb(&another, nothing, NULL, 0), 0);
	*attachment += 100;
}

static void attachments_stay(void)
{
	bin_packet_t packet = started(0);
	str another = str_init("one more");
	int att = 0, i;

	EQUAL(bin_register_cb(&cap, registers, &att, sizeof(att)), 0);
	for (i = 0; i < 3; i++)
		call_callbacks(packet.buffer.s, NULL);
	EQUAL(bin_register_cb(&another, nothing, NULL, 0), 0);
	EQUAL(*attachment, 303);
	EQUAL(att, 0);
	bin_free_packet(&packet);
}

static void callbacks(void)
{
	bin_packet_t packet = started(0);
	struct binrush_counts before = counts(), after;
	struct receive_info ri;
	int att = 1234, i;

	EQUAL(bin_register_cb(NULL, callback, NULL, 0), -1);
	EQUAL(bin_register_cb(&cap, NULL, NULL, 0), -1);
	EQUAL(bin_register_cb(&cap, callback, &att, -1), -1);
	EQUAL(bin_register_cb(&cap, callback, &att, sizeof(att)), 0);
	att = 0;
	memset(&ri, 0, sizeof(ri));
	ri.src_su = loopback(5555);
	for (i = 0; i < 3; i++)
		call_callbacks(packet.buffer.s, &ri);
	EQUAL(called, 3);
	EQUAL(bin_register_cb(&cap, needs_version_3, NULL, 0), 0);
	called = 0;
	call_callbacks(packet.buffer.s, NULL);
	EQUAL(called, 1);
	/* Nobody's, and none. */
	packet.buffer.s[12] = 'E';
	call_callbacks(packet.buffer.s, NULL);
	packet.buffer.s[0] = 'p';
	call_callbacks(packet.buffer.s, NULL);
	call_callbacks(NULL, NULL);
	EQUAL(called, 1);
	bin_free_packet(&packet);
	after = counts();
	EQUAL(after.received, before.received + 4 + 3 + 2);
	EQUAL(after.handled, before.handled + 4);
	EQUAL(after.nested, before.nested + 3);
	EQUAL(after.nobody, before.nobody + 1);
	EQUAL(after.bad_marker, before.bad_marker + 1);
}

static void sending(void)
{
	union sockaddr_union to = loopback(0), local;
	bin_packet_t packet = started(0);
	int listener = socket(AF_INET, SOCK_STREAM, 0), peer;
	char got[64];

	EQUAL(bind(listener, &to.s, sizeof(to.sin)), 0);
	EQUAL(listen(listener, 1), 0);
	to = loopback(port_of(listener));
	EQUAL(binrush_packet_send(&packet, NULL), 0);
	EQUAL(binrush_packet_send(&packet, &to), 21);
	EQUAL(bin_push_int(&packet, 5), 25);
	EQUAL(binrush_packet_send(&packet, &to), 25);
	peer = accept(listener, NULL, NULL);
	EQUAL(recv(peer, got, 46, MSG_WAITALL), 46);
	CHECK(memcmp(got + 21, packet.buffer.s, 25) == 0);
	memset(&local, 0, sizeof(local));
	EQUAL(binrush_packet_send(&packet, &local), -1);
	bin_free_packet(&packet);
	EQUAL(binrush_packet_send(&packet, &to), -1);
	EQUAL(binrush_packet_send(NULL, &to), -1);
	close(peer);
	close(listener);
}

int main(void)
{
	alarm(60);
	beginning();
	growing();
	popping();
	taking_off_and_putting_back();
	wrapping();
	wrapping_what_it_owns();
	made_by_hand();
	versions_of_nothing();
	callbacks();
	attachments_stay();
	sending();
	return 0;
}
