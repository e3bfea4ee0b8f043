/* park: how a thread sleeps until another has work for it, without a lost wake-up.
 *
 * The sleeper: park_prepare; look for work once more; if there is none, block (park_block, or the ring's
 * wait with park_fd polled); park_done. The waker: publish the work; park_wake. The flag, the full fence on
 * both sides and the second look make sure that either the sleeper sees the work or the waker sees the flag
 * (Dekker). A wake-up costs a system call only when the other side sleeps.
 *
 * The simulator replaces the blocking by `struct park_ops`. */
#ifndef CARILLON_BASE_PARK_H
#define CARILLON_BASE_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "status.h"

struct park;

struct park_ops {
    void (*signal)(struct park *p); /* wake the sleeper */
    void (*block)(struct park *p, uint64_t timeout_ns);
};

struct park {
    _Alignas(64) _Atomic uint32_t sleeping;
    int fd;                     /* eventfd, -1 in the simulator */
    const struct park_ops *ops; /* the real eventfd operations unless a test says otherwise */
    void *ops_context;
    _Atomic uint64_t wakes;     /* signals sent, for metrics */
};

/* park_init makes the eventfd; `ops` NULL means the real one. */
MUST_USE enum status park_init(struct park *p, const struct park_ops *ops, void *ops_context);
void park_close(struct park *p);

static inline void park_prepare(struct park *p)
{
    atomic_store_explicit(&p->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

static inline void park_done(struct park *p) { atomic_store_explicit(&p->sleeping, 0, memory_order_relaxed); }

/* park_block sleeps until a wake-up or the timeout (UINT64_MAX: none). Spurious returns are allowed. */
void park_block(struct park *p, uint64_t timeout_ns);

/* park_drain empties the eventfd after a poll on it reported readiness. */
void park_drain(struct park *p);

void park_signal(struct park *p);

/* park_wake: to be called after publishing work. Returns whether a signal was sent. */
static inline bool park_wake(struct park *p)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&p->sleeping, memory_order_relaxed)) return false;
    if (!atomic_exchange_explicit(&p->sleeping, 0, memory_order_relaxed)) return false;
    park_signal(p);
    return true;
}

#endif
