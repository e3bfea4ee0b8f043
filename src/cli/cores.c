#define _GNU_SOURCE /* pthread_setname_np, pthread_setaffinity_np */
#include "cores.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../base/assert.h"
#include "../base/log.h"
#include "../core/core.h"
#include "process.h"

static int start_thread(struct core_thread *t, unsigned id);
static void *core_thread(void *context);
static void pin(const struct core_thread *t);
static void turn(struct core_thread *t);
static void settle(struct core_thread *t);

enum status cores_start(struct cores *c, struct gateway *g, const struct listeners *listeners, char *why,
                        size_t why_len)
{
    int cpus[PROCESS_CPUS_MAX];
    unsigned num_cpus = process_cpus(cpus, PROCESS_CPUS_MAX);
    *c = (struct cores){.gateway = g};
    ASSERT(sem_init(&c->ready, 0, 0) == 0);
    enum status status = STATUS_OK;
    for (unsigned id = 0; id < g->num_cores; id++) {
        struct core_thread *t = &c->threads[id];
        t->cores = c;
        t->core = g->cores[id];
        t->listeners = listeners->of_core[id];
        t->num_listeners = listeners->num_of_core[id];
        t->cpu = process_cpu_of_core(id, cpus, num_cpus);
        int error = start_thread(t, id);
        if (error) {
            snprintf(why, why_len, "thread core/%u cannot be started: %s", id, strerror(error));
            status = STATUS_IO;
            break;
        }
        c->num_threads++;
    }
    for (unsigned id = 0; id < c->num_threads; id++)
        while (sem_wait(&c->ready) != 0) ASSERT(errno == EINTR);
    for (unsigned id = 0; id < c->num_threads && status == STATUS_OK; id++) {
        status = c->threads[id].started;
        if (status != STATUS_OK)
            snprintf(why, why_len, "core %u cannot start its ring (%s)", id, status_name(status));
    }
    return status;
}

void cores_wake(struct cores *c)
{
    for (unsigned id = 0; id < c->num_threads; id++) park_wake(&c->threads[id].core->park);
}

uint32_t cores_left(struct cores *c, bool *drained)
{
    uint32_t sum = 0;
    *drained = true;
    for (unsigned id = 0; id < c->num_threads; id++) {
        /* the flag first: behind it stands a count that was taken after the drain began */
        if (!atomic_load_explicit(&c->threads[id].drain_seen, memory_order_acquire)) *drained = false;
        sum += atomic_load_explicit(&c->threads[id].core->connections, memory_order_acquire);
    }
    if (sum) *drained = false;
    return sum;
}

void cores_join(struct cores *c)
{
    cores_wake(c);
    for (unsigned id = 0; id < c->num_threads; id++) ASSERT(pthread_join(c->threads[id].thread, NULL) == 0);
    if (c->gateway) sem_destroy(&c->ready);
}

static int start_thread(struct core_thread *t, unsigned id)
{
    pthread_attr_t attributes;
    char name[16];
    ASSERT(pthread_attr_init(&attributes) == 0);
    ASSERT(pthread_attr_setstacksize(&attributes, CORE_STACK_BYTES) == 0);
    int error = pthread_create(&t->thread, &attributes, core_thread, t);
    pthread_attr_destroy(&attributes);
    snprintf(name, sizeof name, "core/%u", id);
    if (!error) pthread_setname_np(t->thread, name);
    return error;
}

/* --- on the core's thread ----------------------------------------------------------------------------------------- */

static void *core_thread(void *context)
{
    struct core_thread *t = context;
    const struct gateway *g = t->cores->gateway;
    pin(t);
    t->started = core_start(t->core, t->listeners, t->num_listeners);
    bool started = t->started == STATUS_OK;
    if (!started) atomic_fetch_add(&t->cores->num_calm, 1); /* the others need not wait for it at the end */
    sem_post(&t->cores->ready);
    if (!started) return NULL;
    while (!atomic_load_explicit(&g->stop, memory_order_acquire)) turn(t);
    settle(t);
    return NULL;
}

/* A core that moves loses its caches, and the kernel's for its sockets. Failing to pin costs speed only: the mask may
 * have changed since it was read. */
static void pin(const struct core_thread *t)
{
    if (t->cpu < 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(t->cpu, &one);
    int error = pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    if (error) LOG(LOG_WARN, "process", "pin_failed", LOG_I64("cpu", t->cpu), LOG_ERRNO(error));
}

static void turn(struct core_thread *t)
{
    bool draining = atomic_load_explicit(&t->cores->gateway->draining, memory_order_acquire);
    core_turn(t->core, true);
    if (core_should_yield(t->core)) sched_yield();
    if (draining) atomic_store_explicit(&t->drain_seen, true, memory_order_release);
}

/* settle keeps turning until no core has anything under way: what has been handed to the store completes, what it was
 * asked for comes back, and nothing waits unread in a mailbox. A core that is calm may still get mail from one that is
 * not, so all must be at once. */
static void settle(struct core_thread *t)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct cores *c = t->cores;
    uint64_t deadline_ns = clock_mono_ns(clock_real()) + SETTLE_TIMEOUT_MS * 1000000ull;
    bool calm = false;
    for (unsigned calm_turns = 0; calm_turns < 2 && clock_mono_ns(clock_real()) < deadline_ns;) {
        bool busy = core_turn(t->core, false);
        bool now_calm = !busy && commit_pending(t->core->commit) == 0 && readers_idle(c->gateway->readers);
        if (now_calm != calm) atomic_fetch_add(&c->num_calm, now_calm ? 1u : -1u);
        calm = now_calm;
        calm_turns = atomic_load(&c->num_calm) == c->num_threads ? calm_turns + 1 : 0;
        if (calm) nanosleep(&pause, NULL);
    }
    if (!calm) atomic_fetch_add(&c->num_calm, 1); /* given up: the others need not wait for this one */
}
