/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Packets from a script, and packets told as text; of the 1.x API, or with BINRUSH_API 3 of that one.
 *
 *   packets make PORT   < lines "init NAME TYPE VERSION", "str HEX", "int NUMBER", "send": to PORT of this host
 *   packets read NAME.. < lines "HEX LAYOUT", a packet and its fields in letters: s a string, i an int, t three ints off the end (3.x)
 *
 * 1.x: what is read comes by a datagram that the program sends to itself.
 */
#include "binrush.h"
#include "check.h"

#define LINE_MAX_LEN (1 << 18)

static char line[LINE_MAX_LEN], frame[65536];
static const char *layout;

#if BINRUSH_API == 3
static bin_packet_t made, *reading;
#define POP_STR(_to) bin_pop_str(reading, (_to))
#define POP_INT(_to) bin_pop_int(reading, (_to))
#define END 1
#else
#define POP_STR(_to) bin_pop_str(_to)
#define POP_INT(_to) bin_pop_int(_to)
#define END -1
#endif

static void push(const char *what, char *value)
{
	str text = {frame, 0};

	if (strcmp(what, "str") == 0) {
		text.len = unhex(value, frame, sizeof(frame));
#if BINRUSH_API == 3
		CHECK(bin_push_str(&made, text.len ? &text : NULL) > 0);
#else
		EQUAL(bin_push_str(text.len ? &text : NULL), 0);
#endif
		return;
	}
	CHECK(strcmp(what, "int") == 0);
#if BINRUSH_API == 3
	CHECK(bin_push_int(&made, atoi(value)) > 0);
#else
	EQUAL(bin_push_int(atoi(value)), 0);
#endif
}

static void begin(char *name, int type, int version)
{
	str text = {name, (int)strlen(name)};

#if BINRUSH_API == 3
	/* As short as may be, so that it has to grow. */
	EQUAL(bin_init(&made, &text, type, (short)version, text.len + 17), 0);
#else
	(void)version;
	EQUAL(bin_init(&text, type), 0);
#endif
}

static void make(int port)
{
	union sockaddr_union to = loopback(port);
	char what[16], value[LINE_MAX_LEN / 2], name[64];
	int type, version;

	while (fgets(line, sizeof(line), stdin)) {
		if (strncmp(line, "send", 4) == 0) {
#if BINRUSH_API == 3
			EQUAL(binrush_packet_send(&made, &to), made.buffer.len);
			bin_free_packet(&made);
#else
			CHECK(bin_send(&to) >= 18);
#endif
		} else if (sscanf(line, "init %63s %d %d", name, &type, &version) == 3) {
			begin(name, type, version);
		} else {
			CHECK(sscanf(line, "%15s %131071s", what, value) == 2);
			push(what, value);
		}
	}
}

static void pop_all(int type)
{
	const char *field;
	str text;
	int number;

	printf("type %d\n", type);
#if BINRUSH_API == 3
	printf("version %d\n", get_bin_pkg_version(reading));
	for (field = layout; *field; field++) {
		if (*field == 't') {
			int ids[3];

			EQUAL(bin_pop_back_int(reading, &ids[2]), 0);
			EQUAL(bin_pop_back_int(reading, &ids[1]), 0);
			EQUAL(bin_pop_back_int(reading, &ids[0]), 0);
			printf("ids %d %d %d\n", ids[0], ids[1], ids[2]);
		}
	}
#endif
	for (field = layout; *field; field++) {
		if (*field == 's') {
			EQUAL(POP_STR(&text), 0);
			CHECK((text.len == 0) == (text.s == NULL));
			print_hex("str", text.s, text.len);
		} else if (*field == 'i') {
			EQUAL(POP_INT(&number), 0);
			printf("int %d\n", number);
		}
	}
	EQUAL(POP_INT(&number), END);
	EQUAL(POP_STR(&text), END);
}

#if BINRUSH_API == 3
static void callback(bin_packet_t *packet, int type, struct receive_info *ri, void *att)
{
	EQUAL(packet->type, type);
	EQUAL(ri->proto, PROTO_BIN);
	CHECK(strcmp(att, "attached") == 0);
	reading = packet;
	pop_all(type);
}
#else
static void callback(int type)
{
	pop_all(type);
}
#endif

static void read_all(void)
{
	char fields[256];

#if BINRUSH_API == 1
	union sockaddr_union any = loopback(0), self;
	int out = socket(AF_INET, SOCK_DGRAM, 0);

	EQUAL(binrush_listen(&any), 0);
	self = loopback(port_of(binrush_fd()));
#endif
	while (fgets(line, sizeof(line), stdin)) {
		int len = unhex(line, frame, sizeof(frame));

		CHECK(sscanf(line + 2 * len, " %255s", fields) == 1);
		layout = fields;
#if BINRUSH_API == 3
		CHECK((size_t)len >= MIN_BIN_PACKET_SIZE);
		call_callbacks(frame, NULL);
#else
		EQUAL(sendto(out, frame, (size_t)len, 0, &self.s, sizeof(self.sin)), len);
		EQUAL(binrush_run_once(10000), 1);
#endif
	}
}

int main(int argc, char **argv)
{
	int i;

	alarm(60);
	CHECK(argc > 2);
	if (strcmp(argv[1], "make") == 0) {
		make(atoi(argv[2]));
		return 0;
	}
	for (i = 2; i < argc; i++) {
#if BINRUSH_API == 3
		str name = {argv[i], (int)strlen(argv[i])};
		char att[] = "attached";

		EQUAL(bin_register_cb(&name, callback, att, sizeof(att)), 0);
#else
		EQUAL(bin_register_cb(argv[i], callback), 0);
#endif
	}
	read_all();
	return 0;
}
