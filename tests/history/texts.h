/* texts: every text of a history once. A text is known by its number, so two texts are equal when their numbers are;
 * number 0 is the empty text, which stands for none. */
#ifndef CARILLON_TESTS_HISTORY_TEXTS_H
#define CARILLON_TESTS_HISTORY_TEXTS_H

#include "history.h"

struct texts {
    struct history_text *items; /* [number] */
    size_t len, cap;
    uint32_t *slots;  /* a hash table of numbers, linear probing; 0: free */
    size_t num_slots; /* a power of two */
};

void texts_init(struct texts *t);
void texts_free(struct texts *t);
/* texts_number copies the text when it is new. */
uint32_t texts_number(struct texts *t, struct history_text text);
/* texts_find returns 0 for a text that is not there. */
uint32_t texts_find(const struct texts *t, struct history_text text);

/* must ends the process when memory could not be had: a checker has nothing else to fall back on. */
void *must(void *memory);

#endif
