#include "window.h"

#include <stdlib.h>

#include "../../src/base/assert.h"

static void grow(struct window *w)
{
    uint32_t capacity = w->capacity ? w->capacity * 2 : 64;
    uint64_t *grown = calloc(capacity, sizeof *grown);
    ASSERT(grown != NULL);
    for (uint64_t n = w->first; n < w->next; n++) grown[n & (capacity - 1)] = w->intended_ns[n & (w->capacity - 1)];
    free(w->intended_ns);
    w->intended_ns = grown;
    w->capacity = capacity;
}

uint64_t window_push(struct window *w, uint64_t intended_ns)
{
    ASSERT(!window_full(w) && intended_ns != 0);
    if (w->next - w->first == w->capacity) grow(w);
    w->intended_ns[w->next & (w->capacity - 1)] = intended_ns;
    return w->next++;
}

uint64_t window_take(struct window *w, uint64_t number)
{
    if (number < w->first || number >= w->next) return 0;
    uint64_t intended = w->intended_ns[number & (w->capacity - 1)];
    w->intended_ns[number & (w->capacity - 1)] = 0;
    while (w->first < w->next && w->intended_ns[w->first & (w->capacity - 1)] == 0) w->first++;
    return intended;
}

bool window_waits(const struct window *w, uint64_t number)
{
    return number >= w->first && number < w->next && w->intended_ns[number & (w->capacity - 1)] != 0;
}

void window_free(struct window *w)
{
    free(w->intended_ns);
    *w = (struct window){0};
}
