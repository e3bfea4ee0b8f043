#include "planted.h"

#ifdef CARILLON_PLANTED

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assert.h"

#ifdef CARILLON_PLANT_ACK_BEFORE_SYNC
enum planted planted_bug = PLANTED_ack_before_sync;
#else
enum planted planted_bug = PLANTED_NONE;
#endif

static const struct planted_row rows[PLANTED_BUGS] = {
    [PLANTED_NONE] = {"none", "", ""},
#define PLANT(name, breaks, sentence) [PLANTED_##name] = {#name, breaks, sentence},
#include "planted.def"
#undef PLANT
};

bool planted_choose(const char *name)
{
    for (unsigned bug = 0; bug < PLANTED_BUGS; bug++) {
        if (strcmp(rows[bug].name, name) != 0) continue;
        planted_bug = (enum planted)bug;
        return true;
    }
    return false;
}

const struct planted_row *planted_row(enum planted bug)
{
    ASSERT(bug > PLANTED_NONE && bug < PLANTED_BUGS);
    return &rows[bug];
}

const char *planted_name(void) { return rows[planted_bug].name; }

/* Before main: unit tests and fuzz targets, which know nothing of it, take the variable as the gateway does. */
__attribute__((constructor)) static void take_environment(void)
{
    const char *name = getenv("CARILLON_PLANTED");
    if (!name) return;
    if (!planted_choose(name)) {
        fprintf(stderr, "CARILLON_PLANTED names no planted bug: %s (src/base/planted.def has them)\n", name);
        exit(2);
    }
    unsetenv("CARILLON_PLANTED"); /* the gateway warns of names that are no settings of its own */
}

#endif
