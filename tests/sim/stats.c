#include "stats.h"

#include <inttypes.h>
#include <stdio.h>

uint64_t stats[STATS_NUM];

#define STAT(name, text) text,
static const char *const texts[STATS_NUM] = {STATS(STAT)};
#undef STAT

bool stats_print(const uint64_t all[STATS_NUM])
{
    bool reached = true;
    for (unsigned s = 0; s < STATS_NUM; s++) {
        printf("%12" PRIu64 "  %s%s\n", all[s], texts[s], all[s] ? "" : "   NEVER HAPPENED");
        reached &= all[s] > 0;
    }
    return reached;
}
