/* What the tests of readers share: parse in a confined child, as it is done, and look at the rows. */
#ifndef CLM_TESTS_PRESETS_READING_H
#define CLM_TESTS_PRESETS_READING_H

#include "cmocka_all.h"

#include "dump.h"

extern struct arena *arena;
extern struct status st;

int arena_setup(void **state);
int arena_teardown(void **state);

/* The dump's main file is `path` if it names none; the test fails when it cannot be parsed. */
const Clm__Agent__Facts *reading(confine_fn *read, const char *path, const char *dump);
/* "CERTIFICATE KEY name,name host:port,host:port": the test fails with what there is instead. */
void assert_row(const Clm__Agent__Facts *facts, size_t row, const char *wanted);
bool has_want(const Clm__Agent__Facts *facts, const char *pattern);

#define READING(name) cmocka_unit_test_setup_teardown(name, arena_setup, arena_teardown)

#endif
