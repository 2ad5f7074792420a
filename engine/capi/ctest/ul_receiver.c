/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A backup of usrloc, written as modules of 1.11 are: one callback for the module's packets, one function for each command, fields popped in
 * the order in which the active node pushed them, C objects copied out of strings. (The order is that of 1.11 modules/usrloc/ureplication.c.)
 *
 * Reads packets as lines of hexadecimal text, sends each to itself, and tells in the end what it did and what it holds.
 */
#include <time.h>

#include "binrush.h"
#include "check.h"

enum { AOR_INSERT = 1, AOR_DELETE, CONTACT_INSERT, CONTACT_UPDATE, CONTACT_DELETE, COMMANDS };

#define RECORDS_MAX 4096

/* An AoR, or with `is_contact` one of its contacts. */
struct record {
	char *domain, *aor, *uri, *callid;
	int is_contact, cseq;
	time_t expires, last_modified;
	struct record *next;
};

/* What a contact is told with. */
struct contact_info {
	str domain, aor, uri, callid, user_agent, path, attr, received, instance, sock;
	time_t expires, last_modified;
	int q, cseq, flags, cflags, methods;
};

static struct record *records;
static int created[COMMANDS], updated[COMMANDS], removed[COMMANDS], nothing[COMMANDS], failed;

/* Popped strings are gone when the callback returns. */
static char *copy_of(str *s)
{
	char *copy = malloc((size_t)s->len + 1);

	CHECK(copy);
	if (s->len)
		memcpy(copy, s->s, (size_t)s->len);
	copy[s->len] = '\0';
	return copy;
}

static int is(const char *has, str *s)
{
	return strlen(has) == (size_t)s->len && (s->len == 0 || memcmp(has, s->s, (size_t)s->len) == 0);
}

/* The place where the record is, or where the list ends. NULL for `uri`: the AoR itself. */
static struct record **find(str *domain, str *aor, str *uri)
{
	struct record **at;

	for (at = &records; *at; at = &(*at)->next)
		if (is((*at)->domain, domain) && is((*at)->aor, aor) && (*at)->is_contact == (uri != NULL) && (!uri || is((*at)->uri, uri)))
			break;
	return at;
}

static void insert(str *domain, str *aor, struct contact_info *ci)
{
	struct record *new = calloc(1, sizeof(*new));

	CHECK(new);
	new->domain = copy_of(domain);
	new->aor = copy_of(aor);
	if (ci) {
		new->is_contact = 1;
		new->uri = copy_of(&ci->uri);
		new->callid = copy_of(&ci->callid);
		new->cseq = ci->cseq;
		new->expires = ci->expires;
		new->last_modified = ci->last_modified;
	}
	new->next = records;
	records = new;
}

static void unlink_record(struct record **at)
{
	struct record *old = *at;

	*at = old->next;
	free(old->domain);
	free(old->aor);
	free(old->uri);
	free(old->callid);
	free(old);
}

static int receive_aor_insert(void)
{
	str domain, aor;

	if (bin_pop_str(&domain) || bin_pop_str(&aor))
		return -1;
	if (*find(&domain, &aor, NULL)) {
		nothing[AOR_INSERT]++;
		return 0;
	}
	insert(&domain, &aor, NULL);
	created[AOR_INSERT]++;
	return 0;
}

static int receive_aor_delete(void)
{
	struct record **at;
	str domain, aor;
	int found = 0;

	if (bin_pop_str(&domain) || bin_pop_str(&aor))
		return -1;
	for (at = &records; *at;) {
		if (is((*at)->domain, &domain) && is((*at)->aor, &aor)) {
			unlink_record(at);
			found = 1;
		} else {
			at = &(*at)->next;
		}
	}
	found ? removed[AOR_DELETE]++ : nothing[AOR_DELETE]++;
	return 0;
}

static int pop_object(void *object, int size)
{
	str st;

	if (bin_pop_str(&st) || st.len != size)
		return -1;
	memcpy(object, st.s, (size_t)size);
	return 0;
}

static int pop_contact(struct contact_info *ci)
{
	memset(ci, 0, sizeof(*ci));
	if (bin_pop_str(&ci->domain) || bin_pop_str(&ci->aor) || bin_pop_str(&ci->uri) || bin_pop_str(&ci->callid) ||
		bin_pop_str(&ci->user_agent) || bin_pop_str(&ci->path) || bin_pop_str(&ci->attr) || bin_pop_str(&ci->received) ||
		bin_pop_str(&ci->instance))
		return -1;
	if (pop_object(&ci->expires, sizeof(ci->expires)) || pop_object(&ci->q, sizeof(ci->q)))
		return -1;
	if (bin_pop_str(&ci->sock) || ci->sock.len == 0)
		return -1;
	if (bin_pop_int(&ci->cseq) || bin_pop_int(&ci->flags) || bin_pop_int(&ci->cflags) || bin_pop_int(&ci->methods))
		return -1;
	return pop_object(&ci->last_modified, sizeof(ci->last_modified));
}

/* Datagrams overtake each other, so what is missing is made. */
static int receive_contact(int command)
{
	struct contact_info ci;
	struct record *contact;

	if (pop_contact(&ci))
		return -1;
	if (!*find(&ci.domain, &ci.aor, NULL))
		insert(&ci.domain, &ci.aor, NULL);
	contact = *find(&ci.domain, &ci.aor, &ci.uri);
	if (!contact) {
		insert(&ci.domain, &ci.aor, &ci);
		created[command]++;
	} else if (is(contact->callid, &ci.callid) && ci.cseq < contact->cseq) {
		nothing[command]++;
	} else {
		free(contact->callid);
		contact->callid = copy_of(&ci.callid);
		contact->cseq = ci.cseq;
		contact->expires = ci.expires;
		contact->last_modified = ci.last_modified;
		updated[command]++;
	}
	return 0;
}

static int receive_contact_delete(void)
{
	str domain, aor, uri, callid;
	struct record **at;
	int cseq;

	if (bin_pop_str(&domain) || bin_pop_str(&aor) || bin_pop_str(&uri) || bin_pop_str(&callid) || bin_pop_int(&cseq))
		return -1;
	at = find(&domain, &aor, &uri);
	if (!*at) {
		nothing[CONTACT_DELETE]++;
		return 0;
	}
	unlink_record(at);
	removed[CONTACT_DELETE]++;
	return 0;
}

static void receive_binary_packet(int packet_type)
{
	int rc, more;

	switch (packet_type) {
	case AOR_INSERT:
		rc = receive_aor_insert();
		break;
	case AOR_DELETE:
		rc = receive_aor_delete();
		break;
	case CONTACT_INSERT:
	case CONTACT_UPDATE:
		rc = receive_contact(packet_type);
		break;
	case CONTACT_DELETE:
		rc = receive_contact_delete();
		break;
	default:
		rc = -1;
	}
	/* All of it was understood when nothing is left. */
	if (rc == 0)
		EQUAL(bin_pop_int(&more), -1);
	else
		failed++;
}

int main(void)
{
	static char line[140000], frame[65536];
	union sockaddr_union any = loopback(0), self;
	int out = socket(AF_INET, SOCK_DGRAM, 0), command, aors = 0, contacts = 0;
	struct record *record;

	alarm(60);
	EQUAL(binrush_listen(&any), 0);
	self = loopback(port_of(binrush_fd()));
	binrush_poison(1);
	EQUAL(bin_register_cb("ul", receive_binary_packet), 0);
	while (fgets(line, sizeof(line), stdin)) {
		int len = unhex(line, frame, sizeof(frame));

		EQUAL(sendto(out, frame, (size_t)len, 0, &self.s, sizeof(self.sin)), len);
		EQUAL(binrush_run_once(10000), 1);
	}
	for (command = AOR_INSERT; command < COMMANDS; command++)
		printf("%d: created %d updated %d removed %d nothing %d\n", command, created[command], updated[command], removed[command],
			nothing[command]);
	for (record = records; record; record = record->next)
		record->is_contact ? contacts++ : aors++;
	printf("failed %d\naors %d\ncontacts %d\n", failed, aors, contacts);
	while (records)
		unlink_record(&records);
	return 0;
}
