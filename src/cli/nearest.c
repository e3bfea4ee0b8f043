#include "nearest.h"

#include <string.h>

#include "../base/assert.h"

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

/* Optimal string alignment: Levenshtein's table with one more way, swapping two neighbours, because that is how most
 * typing goes wrong. Three rows are enough: the swap looks back two. */
unsigned nearest_distance(const char *a, const char *b)
{
    unsigned rows[3][NEAREST_NAME_BYTES_MAX + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    ASSERT(a_len <= NEAREST_NAME_BYTES_MAX && b_len <= NEAREST_NAME_BYTES_MAX);
    for (unsigned j = 0; j <= b_len; j++) rows[0][j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *above_that = rows[(i + 1) % 3];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned replaced = above[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = least(replaced, 1 + least(above[j], row[j - 1]));
            /* cppcheck-suppress arrayIndexOutOfBoundsCond ; it takes a constant argument for the longest one */
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], 1 + above_that[j - 2]);
        }
    }
    return rows[a_len % 3][b_len];
}

bool nearest_better(const char *given, const char *name, unsigned *distance)
{
    if (strlen(given) > NEAREST_NAME_BYTES_MAX) return false;
    unsigned d = nearest_distance(given, name);
    if (d >= *distance || d > (strlen(given) + 2) / 3) return false;
    *distance = d;
    return true;
}
