#include "counts.h"

#include <inttypes.h>
#include <stdio.h>

#include "../../src/base/assert.h"

static struct counts happened;

static const char *const names[COUNTS] = {
#define COUNT(id, name) [COUNT_##id] = name,
#include "counts.def"
#undef COUNT
};

void count_more(enum count_id id, uint64_t num)
{
    ASSERT(id < COUNTS);
    happened.of[id] += num;
}

void count_happened(enum count_id id) { count_more(id, 1); }

const struct counts *counts_taken(void) { return &happened; }

void counts_add(struct counts *sum, const struct counts *more)
{
    for (unsigned id = 0; id < COUNTS; id++) sum->of[id] += more->of[id];
}

const char *count_name(enum count_id id)
{
    ASSERT(id < COUNTS);
    return names[id];
}

void counts_print(const struct counts *counts)
{
    for (unsigned id = 0; id < COUNTS; id++) printf("%-32s %12" PRIu64 "\n", names[id], counts->of[id]);
}

unsigned counts_missing(const struct counts *counts)
{
    unsigned num = 0;
    for (unsigned id = 0; id < COUNTS; id++) {
        if (counts->of[id]) continue;
        printf("sim: %s never happened\n", names[id]);
        num++;
    }
    return num;
}
