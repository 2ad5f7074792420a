/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a module's callback costs: eight fields of a dialog update, popped. Calls by pointers, as a module calls through its PLT. */
#include "bin_interface.h"

static int (*pop_str)(str *);
static int (*pop_int)(void *);

/* What was popped: lengths and ints, added up. */
unsigned long sum;

void prepare(int (*own_pop_str)(str *), int (*own_pop_int)(void *))
{
	pop_str = own_pop_str;
	pop_int = own_pop_int;
}

void callback(int command)
{
	str text;
	int number, i;

	(void)command;
	for (i = 0; i < 5; i++) {
		if (pop_str(&text) != 0)
			return;
		sum += (unsigned long)text.len;
	}
	for (i = 0; i < 3; i++) {
		if (pop_int(&number) != 0)
			return;
		sum += (unsigned long)number;
	}
}
