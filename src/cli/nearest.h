/* nearest: which known name a mistyped one was meant to be. Pure. */
#ifndef CARILLON_CLI_NEAREST_H
#define CARILLON_CLI_NEAREST_H

#include <stdbool.h>

#define NEAREST_NAME_BYTES_MAX 32u /* longer names are like nothing */

/* nearest_distance counts the insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`, both
 * of at most NEAREST_NAME_BYTES_MAX bytes. */
unsigned nearest_distance(const char *a, const char *b);

/* nearest_better says whether `name` may stand for `given` and is closer than *distance, which it then lowers. Start
 * with UINT_MAX. At most a third of what was typed may be wrong, so that a guess is never absurd. */
bool nearest_better(const char *given, const char *name, unsigned *distance);

#endif
