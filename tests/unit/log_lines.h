/* log_lines: what a harness's gateway logs, caught before it leaves. */
#ifndef CARILLON_TESTS_UNIT_LOG_LINES_H
#define CARILLON_TESTS_UNIT_LOG_LINES_H

#include "harness.h"

/* CAUGHT(name) in the list of tests: a harness whose lines are let go of at the end. */
int lines_teardown(void **state);
#define CAUGHT(name) cmocka_unit_test_setup_teardown(name, harness_setup, lines_teardown)

/* lines_catch begins, with none. lines: those caught since then or since lines_forget, NUL-terminated. */
void lines_catch(void);
const char *lines(void);
void lines_forget(void);

#endif
