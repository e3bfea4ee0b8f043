/* next_random: numbers that are the same in every run (xorshift64: Marsaglia, Xorshift RNGs, 2003). */
#ifndef CARILLON_TESTS_UNIT_NEXT_RANDOM_H
#define CARILLON_TESTS_UNIT_NEXT_RANDOM_H

#include <stdint.h>

static uint64_t random_state = 0x9e3779b97f4a7c15ull; /* another one, not 0, is another sequence */

static inline uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

#endif
