#include "rules.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../src/base/assert.h"

static const struct rule *table;
static unsigned num_rules;

static void tell(void)
{
    bool all = true;
    for (const struct rule *rule = table; rule < table + num_rules; rule++) {
        fprintf(stderr, "rule %-16s %-24s %10llu  %s\n", rule->name, rule->section,
                (unsigned long long)rule->times_needed, rule->what);
        all = all && rule->times_needed > 0;
    }
    if (all || !getenv("CARILLON_FUZZ_ALL_RULES")) return;
    fprintf(stderr, "a rule that no input needed: remove it, or keep an input that needs it\n");
    _exit(1);
}

void rules_begin(const struct rule *rules, unsigned num)
{
    ASSERT(table == NULL);
    table = rules;
    num_rules = num;
    int error = atexit(tell);
    ASSERT(error == 0);
}
