/* rules: the differences between one of our parsers and somebody else's that are on purpose. Each is named, says which
 * section it rests on, and is counted where it is needed. The table is printed at the end of the program; with
 * CARILLON_FUZZ_ALL_RULES in the environment a rule that was never needed ends it with 1, so that a replay shows that
 * the kept inputs reach them all. */
#ifndef CARILLON_FUZZ_RULES_H
#define CARILLON_FUZZ_RULES_H

#include <stdint.h>

struct rule {
    const char *name, *section, *what;
    uint64_t times_needed;
};

/* rules_begin remembers the table until the end of the program. */
void rules_begin(const struct rule *rules, unsigned num);

#endif
