#include "texts.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_AT_FIRST 1024u

static size_t slot_of(const struct texts *t, struct history_text text);
static void slots_grow(struct texts *t);

void texts_init(struct texts *t)
{
    *t = (struct texts){.num_slots = SLOTS_AT_FIRST};
    t->slots = must(calloc(t->num_slots, sizeof *t->slots));
    t->cap = 64;
    t->items = must(malloc(t->cap * sizeof *t->items));
    t->items[t->len++] = (struct history_text){"", 0};
}

void texts_free(struct texts *t)
{
    for (size_t i = 1; i < t->len; i++) free((char *)t->items[i].data);
    free(t->items);
    free(t->slots);
}

uint32_t texts_number(struct texts *t, struct history_text text)
{
    if (text.len == 0) return 0;
    size_t slot = slot_of(t, text);
    if (t->slots[slot]) return t->slots[slot];
    if (t->len == t->cap) t->items = must(realloc(t->items, (t->cap *= 2) * sizeof *t->items));
    char *copy = must(malloc(text.len + 1)); /* ended by a NUL, for whoever prints it */
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    uint32_t number = (uint32_t)t->len;
    t->items[t->len++] = (struct history_text){copy, text.len};
    t->slots[slot] = number;
    if (t->len * 2 > t->num_slots) slots_grow(t);
    return number;
}

uint32_t texts_find(const struct texts *t, struct history_text text)
{
    return text.len ? t->slots[slot_of(t, text)] : 0;
}

/* FNV-1a, 64 bit, folded: records come from our own clients, and a slow table is the worst that a hostile one gets. */
static uint64_t hash(struct history_text text)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < text.len; i++) h = (h ^ (unsigned char)text.data[i]) * 1099511628211u;
    return h ^ h >> 29;
}

/* slot_of returns the slot of an equal text, or the free one where it belongs. */
static size_t slot_of(const struct texts *t, struct history_text text)
{
    size_t slot = hash(text) & (t->num_slots - 1);
    for (; t->slots[slot]; slot = (slot + 1) & (t->num_slots - 1)) {
        struct history_text other = t->items[t->slots[slot]];
        if (other.len == text.len && memcmp(other.data, text.data, text.len) == 0) break;
    }
    return slot;
}

static void slots_grow(struct texts *t)
{
    free(t->slots);
    t->num_slots *= 2;
    t->slots = must(calloc(t->num_slots, sizeof *t->slots));
    for (size_t i = 1; i < t->len; i++) t->slots[slot_of(t, t->items[i])] = (uint32_t)i;
}

void *must(void *memory)
{
    if (memory) return memory;
    fputs("history: out of memory\n", stderr);
    abort();
}
