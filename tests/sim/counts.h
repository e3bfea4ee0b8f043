/* counts: how often each kind of thing has happened in a run: what clients and operator did and were told, and each
 * fault. The kinds stand in counts.def; a new one is a row there and a count_happened where it happens.
 *
 * The counters of a run are global, as its world is. Runs are processes of their own, so whoever wants a sum takes the
 * counters at the end of each (counts_taken) and adds them up. */
#ifndef CARILLON_TESTS_SIM_COUNTS_H
#define CARILLON_TESTS_SIM_COUNTS_H

#include <stdint.h>

#define COUNTED_SEEDS_MIN 2000u /* with so many seeds every kind must have happened */

enum count_id {
#define COUNT(id, name) COUNT_##id,
#include "counts.def"
#undef COUNT
    COUNTS
};

struct counts {
    uint64_t of[COUNTS];
};

/* count_happened counts one more in this process. */
void count_happened(enum count_id id);
/* count_more counts `num` more. */
void count_more(enum count_id id, uint64_t num);
/* counts_taken are the counters of this process so far. */
const struct counts *counts_taken(void);
void counts_add(struct counts *sum, const struct counts *more);
/* count_name is the kind's name, "ring.receive_ends". */
const char *count_name(enum count_id id);
/* counts_print writes one line a kind to stdout. */
void counts_print(const struct counts *counts);
/* counts_missing writes the kinds that never happened to stdout, one line each, and returns how many those are. */
unsigned counts_missing(const struct counts *counts);

#endif
