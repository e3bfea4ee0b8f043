#include "map.h"

#include <stdlib.h>

#include "assert.h"

void map_free(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}

void *map_find(const struct map *m, uint64_t hash, map_eq eq, const void *key)
{
    if (!m->slots) return NULL;
    for (uint32_t i = (uint32_t)hash & m->mask; m->slots[i].value; i = (i + 1) & m->mask)
        if (m->slots[i].hash == hash && eq(m->slots[i].value, key)) return m->slots[i].value;
    return NULL;
}

static void place(struct map *m, uint64_t hash, void *value)
{
    uint32_t i = (uint32_t)hash & m->mask;
    while (m->slots[i].value) i = (i + 1) & m->mask;
    m->slots[i] = (struct map_slot){hash, value};
}

static void grow(struct map *m)
{
    struct map old = *m;
    uint32_t slots = old.slots ? (old.mask + 1) * 2 : 16;
    m->slots = calloc(slots, sizeof *m->slots);
    ASSERT(m->slots != NULL);
    m->mask = slots - 1;
    for (uint32_t i = 0; old.slots && i <= old.mask; i++)
        if (old.slots[i].value) place(m, old.slots[i].hash, old.slots[i].value);
    free(old.slots);
}

void map_insert(struct map *m, uint64_t hash, void *value)
{
    ASSERT(value != NULL);
    if (!m->slots || (uint64_t)(m->len + 1) * 4 > (uint64_t)(m->mask + 1) * 3) grow(m);
    place(m, hash, value);
    m->len++;
}

bool map_remove(struct map *m, uint64_t hash, const void *value)
{
    if (!m->slots) return false;
    uint32_t i = (uint32_t)hash & m->mask;
    while (m->slots[i].value && m->slots[i].value != value) i = (i + 1) & m->mask;
    if (!m->slots[i].value) return false;
    /* close the gap: move back every later entry of the run whose own slot does not lie behind the gap */
    for (uint32_t j = (i + 1) & m->mask; m->slots[j].value; j = (j + 1) & m->mask) {
        uint32_t home = (uint32_t)m->slots[j].hash & m->mask;
        if (((j - home) & m->mask) >= ((j - i) & m->mask)) {
            m->slots[i] = m->slots[j];
            i = j;
        }
    }
    m->slots[i] = (struct map_slot){0, NULL};
    m->len--;
    return true;
}

void *map_next(const struct map *m, uint32_t *at)
{
    while (m->slots && *at <= m->mask) {
        void *value = m->slots[(*at)++].value;
        if (value) return value;
    }
    return NULL;
}
