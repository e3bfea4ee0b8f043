#include "past.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../base/hash.h"
#include "../base/limits.h"

_Static_assert((PAST_USERS & (PAST_USERS - 1)) == 0, "a slot is some bits of a hash");

void past_free(struct past_table *t)
{
    free(t->slots);
    t->slots = NULL;
}

static struct past *slot(const struct past_table *t, uint64_t user)
{
    return &t->slots[hash_u64(user) & (PAST_USERS - 1)];
}

const struct past *past_find(const struct past_table *t, uint32_t tenant, uint64_t user)
{
    const struct past *p = t->slots ? slot(t, user) : NULL;
    return p && p->user == user && p->tenant == tenant ? p : NULL;
}

void past_set(struct past_table *t, const struct past *p)
{
    ASSERT(p->user != 0);
    if (!t->slots) t->slots = calloc(PAST_USERS, sizeof *t->slots);
    ASSERT(t->slots != NULL);
    *slot(t, p->user) = *p;
}

void past_heard(struct past_table *t, uint32_t tenant, uint64_t user, uint64_t number)
{
    if (!past_find(t, tenant, user)) return;
    struct past *p = slot(t, user);
    if (number < p->from) p->from = number;
}
