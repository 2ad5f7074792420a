/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the functions answer when a thread has let go of all that it had: in a destructor of its own data, which runs after the library's, and
 * in atexit. Says so on standard output, and nothing on standard error.
 */
#include <pthread.h>

#include "binrush.h"
#include "check.h"

static pthread_key_t key;
static char module[] = "edges";
static str name = {module, 5};

static void nobody(int type)
{
	(void)type;
}

static void use_everything(const char *when)
{
	union sockaddr_union to = loopback(9);
	str text;
	int number;

	EQUAL(binrush_listen(&to), -1);
	EQUAL(binrush_listen(NULL), -1);
	EQUAL(binrush_fd(), -1);
	EQUAL(binrush_run_once(0), -1);
	EQUAL(bin_register_cb(module, nobody), 0);
	EQUAL(bin_init(&name, 1), -1);
	EQUAL(bin_push_int(1), -1);
	EQUAL(bin_send(&to), -1);
	EQUAL(bin_send_batch(&to), -1);
	EQUAL(bin_flush(), -1);
	EQUAL(bin_pop_str(&text), -2);
	EQUAL(bin_pop_int(&number), -2);
	printf("%s\n", when);
	fflush(stdout);
}

static void at_the_end_of_a_thread(void *unused)
{
	(void)unused;
	use_everything("thread");
}

static void at_exit(void)
{
	use_everything("exit");
}

/* Takes all that a thread can have, and lets it end. */
static void *thread(void *unused)
{
	union sockaddr_union any = loopback(0);

	EQUAL(pthread_setspecific(key, &key), 0);
	EQUAL(binrush_listen(&any), 0);
	EQUAL(bin_register_cb(module, nobody), 0);
	EQUAL(bin_init(&name, 1), 0);
	return unused;
}

int main(void)
{
	pthread_t id;

	alarm(60);
	EQUAL(pthread_key_create(&key, at_the_end_of_a_thread), 0);
	EQUAL(pthread_create(&id, NULL, thread, NULL), 0);
	EQUAL(pthread_join(id, NULL), 0);
	EQUAL(atexit(at_exit), 0);
	thread(NULL);
	return 0;
}
