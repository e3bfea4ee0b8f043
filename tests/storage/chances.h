/* chances: the chances of one script, all from its seed: splitmix64 (Steele, Lea and Flood 2014). */
#ifndef CARILLON_TESTS_STORAGE_CHANCES_H
#define CARILLON_TESTS_STORAGE_CHANCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chances {
    uint64_t state;
};

static inline uint64_t chances_next(struct chances *c)
{
    uint64_t z = c->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* chances_below: 0 … bound - 1 */
static inline uint64_t chances_below(struct chances *c, uint64_t bound) { return chances_next(c) % bound; }
static inline bool chances_one_in(struct chances *c, uint64_t of) { return chances_below(c, of) == 0; }

#endif
