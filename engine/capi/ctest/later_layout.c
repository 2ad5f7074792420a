/* What a module of OpenSIPS 2.2 to 3.6 looks like: a type behind the name, and all else one place further. */
enum module_type { MOD_TYPE_NULL, MOD_TYPE_DEFAULT };

struct module_exports {
	char *name;
	enum module_type type;
	char *version;
	char *compile_flags;
	unsigned int dlflags;
	void *rest[20];
};

#ifndef FLAGS
#define FLAGS 0
#endif

#ifndef TYPE
#define TYPE MOD_TYPE_DEFAULT
#endif

struct module_exports exports = {"later", TYPE, "opensips 2.2.0 (x86_64/linux)", FLAGS, 0, {0}};
