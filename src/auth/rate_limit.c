#include "rate_limit.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../base/limits.h"

#define SECOND_NS 1000000000u

bool rate_take(struct rate_state *out, _Atomic uint64_t *full_at_ns, uint32_t per_second, uint64_t now_ns)
{
    ASSERT(per_second > 0 && per_second <= SECOND_NS);
    uint64_t cost_ns = SECOND_NS / per_second, whole_ns = cost_ns * per_second;
    uint64_t full_at = atomic_load_explicit(full_at_ns, memory_order_relaxed), next;
    *out = (struct rate_state){.limit = per_second};
    do {
        next = (full_at > now_ns ? full_at : now_ns) + cost_ns;
        if (next - now_ns <= whole_ns) continue; /* to the exchange */
        out->wait_ns = next - now_ns - whole_ns;
        out->full_in_ns = full_at - now_ns;
        return false;
    } while (!atomic_compare_exchange_weak_explicit(full_at_ns, &full_at, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    out->full_in_ns = next - now_ns;
    out->remaining = (uint32_t)((whole_ns - out->full_in_ns) / cost_ns);
    return true;
}

/* --- addresses ------------------------------------------------------------------------------------------------- */

struct rate_slot {
    _Atomic uint64_t print; /* of the address; 0: nobody's */
    _Atomic uint64_t full_at_ns;
};

struct rate_table {
    struct hash_key key;
    _Alignas(CACHE_LINE) struct rate_slot slots[RATE_SLOTS]; /* sets of RATE_WAYS, side by side */
};

_Static_assert(RATE_SLOTS % RATE_WAYS == 0, "the table is made of whole sets");

struct rate_table *rate_table_new(const struct hash_key *key)
{
    struct rate_table *t = aligned_alloc(CACHE_LINE, sizeof *t);
    ASSERT(t != NULL);
    memset(t, 0, sizeof *t);
    t->key = *key;
    return t;
}

void rate_table_free(struct rate_table *t) { free(t); }

/* address_print: 64 bits of a keyed hash stand for the address: two that share them would share a bucket as well. */
static uint64_t address_print(const struct rate_table *t, const uint8_t address[16])
{
    static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
    size_t len = memcmp(address, v4, sizeof v4) == 0 ? 16 : 8;
    uint64_t print = hash_bytes(&t->key, slice_of(address, len));
    return print ? print : 1;
}

/* slot_of finds the address's place or takes one over: an empty one, or the one nearest to full. */
static struct rate_slot *slot_of(struct rate_table *t, uint64_t print)
{
    struct rate_slot *set = &t->slots[(print >> 32) % (RATE_SLOTS / RATE_WAYS) * RATE_WAYS], *oldest = set;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < RATE_WAYS; i++) {
        if (atomic_load_explicit(&set[i].print, memory_order_relaxed) == print) return &set[i];
        uint64_t full_at = atomic_load_explicit(&set[i].full_at_ns, memory_order_relaxed);
        if (full_at >= least) continue;
        least = full_at;
        oldest = &set[i];
    }
    atomic_store_explicit(&oldest->full_at_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&oldest->print, print, memory_order_relaxed);
    return oldest;
}

bool rate_table_take(struct rate_state *out, struct rate_table *t, const uint8_t address[16], uint32_t per_second,
                     uint64_t now_ns)
{
    return rate_take(out, &slot_of(t, address_print(t, address))->full_at_ns, per_second, now_ns);
}
