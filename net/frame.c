#include "frame.h"

#include <stdlib.h>

#include "../src/base/assert.h"

_Static_assert(sizeof(struct frame) % 64 == 0, "the counters begin on a cache line");
_Static_assert(sizeof(struct frame_core) == 64, "a core counts without touching another core's line");

struct frame *frame_new(unsigned num_cores, uint32_t len)
{
    ASSERT(num_cores >= 1 && num_cores <= UINT16_MAX);
    size_t data_at = sizeof(struct frame) + num_cores * sizeof(struct frame_core);
    size_t whole = (data_at + len + 63) & ~(size_t)63; /* aligned_alloc wants a multiple of the alignment */
    struct frame *f = aligned_alloc(64, whole);
    ASSERT(f != NULL);
    *f = (struct frame){.num_cores = (uint16_t)num_cores, .len = len, ._data_at = (uint32_t)data_at};
    for (unsigned i = 0; i < num_cores; i++) f->cores[i] = (struct frame_core){0};
    frame_hold(f, 1); /* its maker's, until frame_hold says which cores get it */
    return f;
}

void frame_charge(struct frame *f, _Atomic int64_t *account)
{
    ASSERT(f->account == NULL);
    f->charged = f->_data_at + f->len;
    f->account = account;
    atomic_fetch_add_explicit(account, (int64_t)f->charged, memory_order_relaxed);
}

void frame_unref(struct frame *f, unsigned core)
{
    struct frame_core *here = frame_core_of(f, core);
    ASSERT(here->refs > 0);
    if (--here->refs == 0) frame_let_go(f);
}

void frame_let_go(struct frame *f)
{
    /* Release publishes this core's last reads before the free, acquire makes the freeing core see everyone's. */
    uint32_t before = atomic_fetch_sub_explicit(&f->cores_left, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1) return;
    if (f->account) atomic_fetch_sub_explicit(f->account, (int64_t)f->charged, memory_order_relaxed);
    free(f);
}
