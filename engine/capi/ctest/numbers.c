/* What the headers make of numbers and texts: each check that fails is the answer of mod_init. */
#include "sr_module.h"
#include "lock_ops.h"
#include "trim.h"
#include "ut.h"

#define CHECK(_what) \
	do { \
		if (!(_what)) { \
			LM_ERR("line %d: %s\n", __LINE__, #_what); \
			return -1; \
		} \
	} while (0)

static int number(const char *text, unsigned int *found)
{
	str s = {(char *)text, (int)strlen(text)};

	return strno2int(&s, found);
}

static int mod_init(void)
{
	static char buffer[] = "\t\r\n a b \n";
	str text = {buffer, sizeof(buffer) - 1}, blank = {buffer, 3};
	char digits[3], copy[sizeof(buffer)], *nowhere = NULL;
	unsigned int found = 0;
	int uid = -1, gid = -1;

	CHECK(number("12", &found) == 0 && found == 12);
	CHECK(number("0xfF09", &found) == 0 && found == 0xff09);
	CHECK(number("0xffffffff", &found) == 0 && found == 0xffffffff);
	CHECK(number("0x100000000", &found) == -1 && number("0xg", &found) == -1 && number("0x", &found) == -1);
	CHECK(btostr(digits, 0) == 1 && digits[0] == '0');
	CHECK(btostr(digits, 70) == 2 && memcmp(digits, "70", 2) == 0);
	CHECK(btostr(digits, 205) == 3 && memcmp(digits, "205", 3) == 0);
	CHECK(translate_pointer(copy, buffer, buffer + 4) == copy + 4);
	CHECK(translate_pointer(copy, buffer, nowhere) == NULL);
	trim(&text);
	CHECK(text.len == 3 && memcmp(text.s, "a b", 3) == 0);
	trim(&blank);
	CHECK(blank.len == 0);
	CHECK(user2uid(&uid, &gid, "77") == 0 && uid == 77 && gid == -1);
	CHECK(user2uid(&uid, &gid, "root") == 0 && uid == 0 && gid == 0);
	CHECK(user2uid(&uid, &gid, "no such user") == -1 && user2uid(&uid, &gid, NULL) == -1);
	return 0;
}

struct module_exports exports = {"numbers", MODULE_VERSION, DEFAULT_DLFLAGS, 0, 0, 0, 0, 0, 0, mod_init, 0, 0, 0};
