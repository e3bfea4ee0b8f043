/* planted: bugs that are built in on purpose, to prove that the tests find them.
 *
 * `PLANTED(name)` stands where the real mistake would be made, in the condition that the mistake would get wrong. Built
 * as ever it is the constant 0, and nothing of this module is in the binary. Built with CARILLON_PLANTED (the CMake
 * option of that name, which the preset `planted` sets) it is true for the one bug that is chosen, and none is chosen
 * by itself: the environment variable CARILLON_PLANTED names it, before main runs and out of reach of the settings, or
 * planted_choose does. An unknown name ends the program with exit code 2.
 *
 * The rows of planted.def are the bugs; `tests/sim/run --planted all` proves that each of them is caught.
 *
 * Built with CARILLON_PLANT_ACK_BEFORE_SYNC, a plain macro, the same is built in and ack_before_sync is on from the
 * start.
 *
 * Threads: chosen before threads are started, read by all. */
#ifndef CARILLON_BASE_PLANTED_H
#define CARILLON_BASE_PLANTED_H

#if defined(CARILLON_PLANT_ACK_BEFORE_SYNC) && !defined(CARILLON_PLANTED)
#define CARILLON_PLANTED
#endif

#ifdef CARILLON_PLANTED

#include <stdbool.h>

#define PLANTED_BUILD 1

enum planted {
    PLANTED_NONE,
#define PLANT(name, breaks, sentence) PLANTED_##name,
#include "planted.def"
#undef PLANT
    PLANTED_BUGS
};

extern enum planted planted_bug; /* the one that is on */

#define PLANTED(name) __builtin_expect(planted_bug == PLANTED_##name, 0)

/* planted_choose turns one bug on and all others off; false: there is none of that name. */
bool planted_choose(const char *name);
/* planted_row names a bug, 1 ≤ bug < PLANTED_BUGS: what it breaks, and what it does in a sentence. */
struct planted_row {
    const char *name, *breaks, *sentence;
};
const struct planted_row *planted_row(enum planted bug);
/* planted_name of the bug that is on; "none". */
const char *planted_name(void);

#else

#define PLANTED_BUILD 0
#define PLANTED(name) 0
static inline const char *planted_name(void) { return ""; }

#endif
#endif
