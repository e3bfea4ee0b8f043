/* marks: the mark file and its fake side by side, over writes, syncs, reopenings, crashes and errors. */
#ifndef CARILLON_TESTS_STORAGE_MARKS_H
#define CARILLON_TESTS_STORAGE_MARKS_H

#include "chances.h"

/* marks_run runs one script in directories under `dir`; ends the process where the two disagree (disagree). */
void marks_run(const char *dir, struct chances *chances);

#endif
