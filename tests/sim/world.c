#include "world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "../../src/base/assert.h"
#include "counts.h"
#include "fake_ring.h"

#define STACK_BYTES (256u << 10)
#define PARKS_MAX 32u
#define EPOCH_START_MS 1767225600000ull /* 2026-01-01: what wall clocks show when a run begins */

enum actor_state { ACTOR_READY, ACTOR_PARKED, ACTOR_IN_RING, ACTOR_ENDED };

struct actor {
    char name[16];
    enum actor_state state;
    struct park *park; /* of a parked one */
    struct ring *ring; /* of one in a ring */
    uint64_t wake_ns, sleeps;
    ucontext_t context;
    char *stack; /* kept for the next actor in this place */
    void *(*body)(void *argument);
    void *argument;
};

struct signalled {
    struct park *park;
    bool set;
    uint64_t late_ns; /* set by then; 0: nothing is under way */
};

static struct world {
    uint64_t seed, hash;
    uint64_t random[4], gateway_random[4];
    uint64_t now_ns;
    unsigned preempt_of, late_of;
    int64_t wall_drift_ms;
    uint64_t wall_most_ms; /* that the wall clock has shown before its drift was last set */
    bool trace;
    void (*report)(const char *text);
    struct actor actors[ACTORS_MAX];
    unsigned num_actors;
    struct actor *running; /* NULL: the scheduler */
    ucontext_t scheduler;
    struct signalled parks[PARKS_MAX];
    unsigned num_parks;
    unsigned signalling; /* actors in the middle of a wake-up */
} world;

static void random_seed(uint64_t state[4], uint64_t seed);
static uint64_t random_next(uint64_t state[4]);

void world_begin(uint64_t seed, bool trace)
{
    world.seed = seed;
    world.hash = seed;
    world.trace = trace;
    world.now_ns = 1000000000u;
    random_seed(world.random, seed);
    random_seed(world.gateway_random, seed ^ 0x6a09e667f3bcc908u);
    actors_drop();
}

/* --- chance -------------------------------------------------------------------------------------------------- */

/* The seed is spread by splitmix64 (Steele, Lea and Flood 2014), so that neighbouring seeds have nothing in common. */
static void random_seed(uint64_t state[4], uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        state[i] = z ^ z >> 31;
    }
}

static uint64_t rotate_left(uint64_t v, unsigned by) { return v << by | v >> (64 - by); }

/* xoshiro256** (Blackman and Vigna 2018) */
static uint64_t random_next(uint64_t s[4])
{
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t world_random(void) { return random_next(world.random); }

uint64_t world_below(uint64_t bound)
{
    ASSERT(bound > 0);
    return world_random() % bound;
}

static void gateway_fill(void *context, void *out, size_t len)
{
    for (size_t at = 0; at < len; at += 8) {
        uint64_t v = random_next(world.gateway_random);
        memcpy((char *)out + at, &v, len - at < 8 ? len - at : 8);
    }
}

const struct random *world_gateway_random(void)
{
    static const struct random seeded = {NULL, gateway_fill};
    return &seeded;
}

/* The status that an operator asks for names the process and its CPU time, and numbers with more digits would make
 * another run of the same seed. */
pid_t __wrap_getpid(void) { return 1; }
int __wrap_pthread_getcpuclockid(pthread_t thread, clockid_t *clock) { return ENOENT; }

/* --- what happened ------------------------------------------------------------------------------------------- */

void world_note(uint64_t a, uint64_t b)
{
    uint64_t h = world.hash;
    h = (h ^ a) * 0x9fb21c651e98df25u;
    h ^= h >> 29;
    h = (h ^ b) * 0xd6e8feb86659fd93u;
    world.hash = h ^ h >> 32;
}

void world_trace(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (len >= (int)sizeof text) len = sizeof text - 1;
    uint64_t h = 0;
    for (int i = 0; i < len; i++) h = h * 31 + (unsigned char)text[i];
    world_note(h, world.now_ns);
    if (world.trace) printf("%12.6f %s\n", (double)world.now_ns / 1e9, text);
}

uint64_t world_hash(void) { return world.hash; }

bool world_tracing(void) { return world.trace; }

void world_on_fail(void (*report)(const char *text)) { world.report = report; }

noreturn void world_fail(const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (world.report) world.report(text);
    fflush(stdout);
    _Exit(1);
}

/* --- time ---------------------------------------------------------------------------------------------------- */

uint64_t world_now_ns(void) { return world.now_ns; }

void world_advance(uint64_t ns) { world.now_ns += ns; }

static uint64_t clock_mono(void *context)
{
    actor_preempt();
    return world.now_ns;
}

static uint64_t wall_ms(void) { return EPOCH_START_MS + world.now_ns / 1000000 + (uint64_t)world.wall_drift_ms; }

static uint64_t clock_wall(void *context) { return wall_ms(); }

void world_set_wall_drift(int64_t ms)
{
    world.wall_most_ms = world_wall_most_ms();
    world.wall_drift_ms = ms;
}

uint64_t world_wall_most_ms(void) { return wall_ms() > world.wall_most_ms ? wall_ms() : world.wall_most_ms; }

const struct clock *world_clock(void)
{
    static const struct clock simulated = {NULL, clock_mono, clock_wall};
    return &simulated;
}

void world_set_preemption(unsigned of) { world.preempt_of = of; }

unsigned world_preemption(void) { return world.preempt_of; }

/* --- actors -------------------------------------------------------------------------------------------------- */

static void actor_begin(void)
{
    world.running->body(world.running->argument);
    world.running->state = ACTOR_ENDED;
}

unsigned actor_new(const char *name, void *(*body)(void *argument), void *argument)
{
    ASSERT(world.num_actors < ACTORS_MAX);
    unsigned number = world.num_actors++;
    struct actor *a = &world.actors[number];
    char *stack = a->stack ? a->stack : malloc(STACK_BYTES);
    ASSERT(stack);
    *a = (struct actor){.state = ACTOR_READY, .stack = stack, .body = body, .argument = argument};
    snprintf(a->name, sizeof a->name, "%s", name);
    ASSERT(getcontext(&a->context) == 0);
    a->context.uc_stack.ss_sp = stack;
    a->context.uc_stack.ss_size = STACK_BYTES;
    a->context.uc_link = &world.scheduler;
    makecontext(&a->context, actor_begin, 0);
    return number;
}

unsigned actors_len(void) { return world.num_actors; }

const char *actor_name(unsigned actor) { return world.actors[actor].name; }

bool actor_ended(unsigned actor) { return world.actors[actor].state == ACTOR_ENDED; }

static struct signalled *signalled_of(struct park *park)
{
    for (unsigned i = 0; i < world.num_parks; i++)
        if (world.parks[i].park == park) return &world.parks[i];
    ASSERT(world.num_parks < PARKS_MAX);
    world.parks[world.num_parks] = (struct signalled){.park = park};
    return &world.parks[world.num_parks++];
}

/* came: what a waiting actor waits for, other than time. */
static bool came(const struct actor *a)
{
    if (a->state == ACTOR_PARKED) {
        const struct signalled *s = signalled_of(a->park);
        return s->set || (s->late_ns && s->late_ns <= world.now_ns);
    }
    return a->state == ACTOR_IN_RING && ring_has_arrivals(a->ring);
}

bool actor_runnable(unsigned actor)
{
    const struct actor *a = &world.actors[actor];
    if (a->state == ACTOR_READY) return true;
    return a->state != ACTOR_ENDED && (came(a) || world.now_ns >= a->wake_ns);
}

bool actor_sleeping(unsigned actor)
{
    const struct actor *a = &world.actors[actor];
    return (a->state == ACTOR_PARKED || a->state == ACTOR_IN_RING) && !came(a);
}

uint64_t actor_wake_ns(unsigned actor)
{
    const struct actor *a = &world.actors[actor];
    uint64_t at_ns = WORLD_NEVER;
    if (a->state == ACTOR_PARKED && signalled_of(a->park)->late_ns) at_ns = signalled_of(a->park)->late_ns;
    if (a->state == ACTOR_IN_RING) at_ns = ring_due_ns(a->ring);
    if (a->state != ACTOR_PARKED && a->state != ACTOR_IN_RING) return at_ns;
    return at_ns < a->wake_ns ? at_ns : a->wake_ns;
}

bool actors_signalling(void) { return world.signalling > 0; }

bool actor_wake_coming(unsigned actor)
{
    const struct actor *a = &world.actors[actor];
    if (a->state == ACTOR_IN_RING) return ring_wake_coming(a->ring);
    if (a->state != ACTOR_PARKED) return false;
    const struct signalled *s = signalled_of(a->park);
    return s->set || s->late_ns;
}

void actor_resume(unsigned actor)
{
    ASSERT(!world.running && world.actors[actor].state != ACTOR_ENDED);
    world.running = &world.actors[actor];
    ASSERT(swapcontext(&world.scheduler, &world.running->context) == 0);
    world.running = NULL;
}

static void leave(void)
{
    struct actor *self = world.running;
    ASSERT(swapcontext(&self->context, &world.scheduler) == 0);
    self->state = ACTOR_READY;
}

void actor_yield(void)
{
    if (world.running) leave();
}

uint64_t actor_sleeps(void) { return world.running->sleeps; }

void actor_preempt(void)
{
    if (!world.running || !world.preempt_of || !world_chance(world.preempt_of)) return;
    leave();
}

static uint64_t deadline_of(uint64_t timeout_ns)
{
    return timeout_ns >= WORLD_NEVER - world.now_ns ? WORLD_NEVER : world.now_ns + timeout_ns;
}

void actor_sleep_on_ring(struct ring *ring, uint64_t timeout_ns)
{
    ASSERT(world.running);
    world.running->state = ACTOR_IN_RING;
    world.running->ring = ring;
    world.running->wake_ns = deadline_of(timeout_ns);
    world.running->sleeps++;
    leave();
}

void actors_drop(void)
{
    ASSERT(!world.running);
    world.num_actors = 0;
    world.num_parks = 0;
    world.signalling = 0;
}

/* --- parks and threads --------------------------------------------------------------------------------------- */

/* A park watched by a ring is an eventfd that the ring polls; any other is waited on by park_block. */
#define LATE_NS_MAX 5000000u

void world_set_late_wakes(unsigned of)
{
    world.late_of = of;
    for (unsigned i = 0; i < world.num_parks && !of; i++) { /* what is under way arrives */
        world.parks[i].set |= world.parks[i].late_ns != 0;
        world.parks[i].late_ns = 0;
    }
}

/* The waker may be interrupted before its signal; and the sleeper may get it late, and have woken for another
 * reason. */
static void park_signalled(struct park *park)
{
    struct signalled *signal = signalled_of(park);
    uint64_t due_ns = 0;
    world.signalling++;
    actor_preempt();
    world.signalling--;
    if (world.late_of && world_chance(world.late_of)) {
        count_happened(COUNT_LATE_WAKE);
        due_ns = world.now_ns + 1 + world_below(LATE_NS_MAX);
    }
    if (ring_signal_watch(park, due_ns)) return;
    if (!due_ns) signal->set = true;
    else if (!signal->late_ns || due_ns < signal->late_ns) signal->late_ns = due_ns;
}

static void park_sleep(struct park *park, uint64_t timeout_ns)
{
    ASSERT(world.running);
    struct signalled *signal = signalled_of(park);
    if (signal->late_ns && signal->late_ns <= world.now_ns) signal->set = true;
    if (!signal->set) {
        world.running->state = ACTOR_PARKED;
        world.running->park = park;
        world.running->wake_ns = deadline_of(timeout_ns);
        leave();
    }
    signal->set = false;
    if (signal->late_ns <= world.now_ns) signal->late_ns = 0;
}

const struct park_ops world_park_ops = {.signal = park_signalled, .block = park_sleep};

/* commit.c starts the writer, then the syncer; read.c the readers. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument)
{
    char name[16];
    static const char *const known[] = {"writer", "syncer"};
    unsigned next = world.num_actors;
    if (next < 2) snprintf(name, sizeof name, "%s", known[next]);
    else snprintf(name, sizeof name, "reader/%u", (next - 2) % 100);
    *thread = actor_new(name, body, argument);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
    while (!actor_ended((unsigned)thread)) {
        CHECK(!actor_sleeping((unsigned)thread) || actor_wake_ns((unsigned)thread) != WORLD_NEVER,
              "%s sleeps for ever while its end is waited for", actor_name((unsigned)thread));
        if (!actor_runnable((unsigned)thread)) world.now_ns = actor_wake_ns((unsigned)thread);
        actor_resume((unsigned)thread);
    }
    return 0;
}
