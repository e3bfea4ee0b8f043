/* cores: one pinned thread around each core of the gateway.
 *
 * Call order: cores_start; cores_wake after changing gateway->draining or ->stop; cores_left while draining;
 * gateway->stop = true; cores_join. The main thread calls everything. */
#ifndef CARILLON_CLI_CORES_H
#define CARILLON_CLI_CORES_H

#include <pthread.h>
#include <semaphore.h>

#include "../core/gateway.h"
#include "listeners.h"

struct cores;

struct core_thread {
    struct cores *cores;
    struct core *core;
    const struct net_listener *listeners;
    unsigned num_listeners;
    int cpu; /* -1: not pinned */
    pthread_t thread;
    enum status started;
    _Atomic bool drain_seen; /* set by the thread: a whole turn ran after gateway->draining was set */
};

struct cores {
    struct gateway *gateway;
    unsigned num_threads;
    sem_t ready;               /* raised by each thread that has started, or failed to */
    _Atomic unsigned num_calm; /* threads with nothing under way, while they end */
    struct core_thread threads[CORES_MAX];
};

/* cores_start starts the threads and returns when all of them serve; on failure `why` says what happened, and the
 * caller still sets gateway->stop and calls cores_join. */
MUST_USE enum status cores_start(struct cores *c, struct gateway *g, const struct listeners *listeners, char *why,
                                 size_t why_len);
/* cores_wake makes sleeping cores take a turn now. */
void cores_wake(struct cores *c);
/* cores_left sums what a stop waits for (core->connections); *drained: every core has begun to drain, and it is 0. */
uint32_t cores_left(struct cores *c, bool *drained);
/* cores_join waits for the threads, which end after gateway->stop once nothing is under way (SETTLE_TIMEOUT_MS). */
void cores_join(struct cores *c);

#endif
