/* world: everything a simulated run depends on besides the code under test: one seed, one clock, and actors that stand
 * in for threads.
 *
 * An actor is a stack of its own (ucontext(3)) that runs the production loop of a thread: cores run core_turn, and the
 * writer, the syncer and the readers run what they gave to pthread_create, which is wrapped at link time. Only one
 * actor runs at a time, until it blocks in its park or in ring_enter, ends, or is preempted at one of the seams (clock,
 * kv). The scheduler (scheduler.h) decides who goes on. So the whole process is one thread and one random stream, and a
 * seed says everything that happens in it.
 *
 * A parked actor goes on only when its park was signalled, its ring has completions, or its timeout has passed: a
 * wake-up that production forgets stays forgotten here.
 *
 * One world a process: the state is global, so that the seams, which get no context (ring.h, pthread), reach it. */
#ifndef CARILLON_TESTS_SIM_WORLD_H
#define CARILLON_TESTS_SIM_WORLD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <stdnoreturn.h>

#include "../../src/base/clock.h"
#include "../../src/base/park.h"
#include "../../src/base/random.h"

struct ring;

#define ACTORS_MAX 24u
#define WORLD_NEVER UINT64_MAX

/* world_begin starts a run from a seed; `trace` prints every step to stdout. */
void world_begin(uint64_t seed, bool trace);

/* --- chance -------------------------------------------------------------------------------------------------- */

uint64_t world_random(void);
/* world_below returns 0 ≤ n < bound; bound ≥ 1. */
uint64_t world_below(uint64_t bound);
/* world_chance is true once in `of` times on average. */
static inline bool world_chance(uint64_t of) { return world_below(of) == 0; }

/* --- what happened ------------------------------------------------------------------------------------------- */

/* world_trace adds a step to the run's hash, and to stdout when tracing. The text must depend on the seed alone: no
 * address, no real time. */
void world_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* world_note adds numbers to the hash, for steps too frequent to be printed each. */
void world_note(uint64_t a, uint64_t b);
uint64_t world_hash(void);
bool world_tracing(void);
/* world_fail ends the process: an invariant is broken. `report` of world_on_fail gets the sentence first. */
noreturn void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void world_on_fail(void (*report)(const char *text));
#define CHECK(condition, ...) \
    do { \
        if (!(condition)) world_fail(__VA_ARGS__); \
    } while (0)

/* --- time ---------------------------------------------------------------------------------------------------- */

uint64_t world_now_ns(void);
void world_advance(uint64_t ns);
const struct clock *world_clock(void);
const struct random *world_gateway_random(void);
/* world_set_wall_drift: how far the wall clock is ahead of (or behind) what passed since the run began. */
void world_set_wall_drift(int64_t ms);
/* world_wall_most_ms: the latest time that the wall clock has shown so far, in Unix milliseconds. */
uint64_t world_wall_most_ms(void);
/* world_set_preemption: an actor loses the processor once in `of` visits to a seam; 0: never. */
void world_set_preemption(unsigned of);
unsigned world_preemption(void);

/* --- actors -------------------------------------------------------------------------------------------------- */

/* actor_new makes an actor that begins when it is first resumed; returns its number. */
unsigned actor_new(const char *name, void *(*body)(void *argument), void *argument);
unsigned actors_len(void);
const char *actor_name(unsigned actor);
/* actor_runnable: it has something to run for now. actor_ended: its body has returned. */
bool actor_runnable(unsigned actor);
bool actor_ended(unsigned actor);
/* actor_sleeping: it waits, and nothing has come for it yet. */
bool actor_sleeping(unsigned actor);
/* actor_wake_ns: when its timeout passes; WORLD_NEVER when it has none or is not asleep. */
uint64_t actor_wake_ns(unsigned actor);
/* actor_resume lets it run until it blocks, is preempted or ends. From the scheduler only. */
void actor_resume(unsigned actor);
/* actor_wake_coming: a wake-up for it was sent, though it may take its time. */
bool actor_wake_coming(unsigned actor);
/* actors_signalling: an actor was interrupted in the middle of a wake-up, and may have others to wake behind it. */
bool actors_signalling(void);
/* world_set_late_wakes: a wake-up takes its time once in `of` times; 0: never. */
void world_set_late_wakes(unsigned of);
/* actor_preempt: called at a seam; goes on at once outside of actors. */
void actor_preempt(void);
/* actor_yield lets others run; the calling actor stays runnable. */
void actor_yield(void);
/* actor_sleeps counts how often the calling actor has slept. */
uint64_t actor_sleeps(void);
/* actor_sleep_on_ring blocks the calling actor until the ring has completions or the timeout passes. */
void actor_sleep_on_ring(struct ring *ring, uint64_t timeout_ns);
/* actors_drop forgets all actors where they stand, as a killed process does. */
void actors_drop(void);

extern const struct park_ops world_park_ops;

/* The wrapped calls: `-Wl,--wrap=pthread_create,--wrap=pthread_join` turns the production's calls into these. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument);
int __wrap_pthread_join(pthread_t thread, void **result);
pid_t __wrap_getpid(void);
int __wrap_pthread_getcpuclockid(pthread_t thread, clockid_t *clock);

#endif
