/* A library, but no module. */
int not_exports;
