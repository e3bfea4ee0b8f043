#include "faults.h"

#include <inttypes.h>

#include "client.h"
#include "counts.h"
#include "fake_ring.h"
#include "store_watch.h"
#include "world.h"

#define DAY_MS 86400000
#define WALL_DRIFT_MS_MAX (3ll * DAY_MS) /* far from IDEMPOTENCY_KEEP_MS, by which keys are rightly forgotten */

/* excuse: which gateways have had what; bit g: gateway g. */
struct excuses {
    uint32_t unread, reserve, memory, short_queues;
};

static struct faults {
    struct ring_faults ring;
    struct gateway_cells cells;
    unsigned late_of, spurious_of, pause_of, clock_of, read_of, reserve_of, memory_of, start_of;
    uint64_t steps;
    uint64_t paused_until[ACTORS_MAX]; /* in steps */
    uint64_t reads_until, reserve_until, memory_until;
    int64_t drift_ms;
    struct excuses excuses;
} faults;

static unsigned sometimes(unsigned runs, unsigned of) { return world_chance(runs) ? of : 0; }

/* One statement a choice: initializers are evaluated in any order (C17 section 6.7.9), and a seed must mean the same
 * whoever compiles this. */
static void plan_ring(struct ring_faults *ring)
{
    ring->buffers = world_chance(3) ? 1 + (unsigned)world_below(3) : 64;
    ring->odd_of = sometimes(2, 40);
    ring->error_of = sometimes(4, 200);
    ring->tiny_of = sometimes(4, 6);
    ring->starved_of = sometimes(6, 200);
    ring->delay_of = sometimes(3, 10);
    unsigned entries = 1 + (unsigned)world_below(4);
    ring->sq_entries = sometimes(4, entries);
    ring->cq_entries = sometimes(4, entries);
}

static void plan_cells(struct gateway_cells *cells)
{
    uint32_t bytes_min = 1 + (uint32_t)world_below(400); /* of what is said here no message is large */
    cells->zero_copy_bytes_min = sometimes(2, bytes_min);
    if (!world_chance(3)) return;
    cells->mailbox = 2u << world_below(3);
    cells->commit = 2u << world_below(3);
    cells->read = 2u << world_below(3);
    cells->commit_pending = sometimes(2, 8 + (unsigned)world_below(16));
}

void faults_plan(void)
{
    faults = (struct faults){0};
    plan_ring(&faults.ring);
    plan_cells(&faults.cells);
    faults.late_of = sometimes(3, 4);
    faults.spurious_of = sometimes(3, 100);
    faults.pause_of = sometimes(3, 300);
    faults.clock_of = sometimes(3, 200);
    faults.read_of = sometimes(5, 300);
    faults.reserve_of = sometimes(5, 500);
    faults.memory_of = sometimes(5, 500);
    faults.start_of = sometimes(3, 2);
    rings_set_faults(&faults.ring);
}

void faults_end(struct gateway *g)
{
    struct excuses excuses = faults.excuses; /* of what was asked before */
    faults = (struct faults){.ring = {.buffers = 64}, .drift_ms = faults.drift_ms, .excuses = excuses};
    rings_set_faults(&faults.ring);
    world_set_late_wakes(0);
    watched_store_fail_reads(0);
    atomic_store(&g->disk, DISK_OK);
    atomic_store(&g->memory, MEMORY_OK);
}

void faults_start(struct gateway *g)
{
    watched_store_fail_reads(0);
    faults.reads_until = faults.reserve_until = faults.memory_until = 0;
    for (unsigned i = 0; i < ACTORS_MAX; i++) faults.paused_until[i] = 0;
    world_set_late_wakes(faults.late_of);
    g->cells = faults.cells;
    if (faults.cells.commit_pending) faults.excuses.short_queues |= 1u << (scenario.gateway + 1);
}

bool faults_bad_start(void) { return faults.start_of && world_chance(faults.start_of); }

/* --- now and then ---------------------------------------------------------------------------------------------- */

static bool begins(unsigned of) { return of && world_chance(of); }

static void pause_somebody(void)
{
    if (!begins(faults.pause_of)) return;
    unsigned actor = (unsigned)world_below(actors_len());
    uint64_t steps = world_chance(8) ? world_below(2000) : world_below(200);
    faults.paused_until[actor] = faults.steps + steps;
    count_happened(COUNT_PAUSE);
    world_trace("%s stands still for %" PRIu64 " steps", actor_name(actor), steps);
}

/* wake_somebody for no reason: park_block and a wait of the ring may return so (a signal, a timer of the kernel). */
static void wake_somebody(void)
{
    if (!begins(faults.spurious_of)) return;
    unsigned actor = (unsigned)world_below(actors_len());
    if (!actor_sleeping(actor)) return;
    count_happened(COUNT_SPURIOUS_WAKE);
    actor_resume(actor);
}

static void step_clock(void)
{
    static const int64_t steps_ms[] = {1000, 60000, 3600000, DAY_MS};
    if (!begins(faults.clock_of)) return;
    int64_t by_ms = steps_ms[world_below(4)];
    if (world_chance(2)) by_ms = -by_ms;
    int64_t drift_ms = faults.drift_ms + by_ms;
    if (drift_ms > WALL_DRIFT_MS_MAX || drift_ms < -WALL_DRIFT_MS_MAX) return;
    faults.drift_ms = drift_ms;
    world_set_wall_drift(drift_ms);
    count_happened(by_ms < 0 ? COUNT_CLOCK_BACK : COUNT_CLOCK_FORTH);
    world_trace("the wall clock is stepped by %" PRId64 " ms", by_ms);
}

/* fail_reads: for a while one in some reads fails, or every one. */
static void fail_reads(void)
{
    if (faults.reads_until && faults.steps >= faults.reads_until) {
        faults.reads_until = 0;
        watched_store_fail_reads(0);
        world_trace("the store reads well again");
    }
    if (faults.reads_until || !begins(faults.read_of)) return;
    unsigned of = world_chance(3) ? 1 : 2 + (unsigned)world_below(20);
    faults.reads_until = faults.steps + 1 + world_below(300);
    watched_store_fail_reads(of);
    world_trace("one in %u reads fails", of);
}

/* reach begins or ends one of the bounds that the main thread watches in production (src/cli/serve.c). */
static void reach(_Atomic int *state, int full, uint64_t *until, unsigned of, uint32_t *excuse, enum count_id count)
{
    if (*until && faults.steps >= *until) {
        *until = 0;
        atomic_store(state, 0);
        world_trace("%s: over", count_name(count));
    }
    if (*until || !begins(of)) return;
    *until = faults.steps + 1 + world_below(400);
    *excuse |= 1u << scenario.gateway;
    atomic_store(state, full);
    count_happened(count);
    world_trace("%s", count_name(count));
}

_Static_assert(DISK_OK == 0 && MEMORY_OK == 0, "reach() ends both with 0");

void faults_step(struct gateway *g)
{
    if (scenario.healing) return;
    faults.steps++;
    pause_somebody();
    wake_somebody();
    step_clock();
    fail_reads();
    reach(&g->disk, DISK_RESERVE, &faults.reserve_until, faults.reserve_of, &faults.excuses.reserve,
          COUNT_DISK_RESERVE);
    reach(&g->memory, MEMORY_FULL, &faults.memory_until, faults.memory_of, &faults.excuses.memory, COUNT_MEMORY_FULL);
}

bool faults_paused(unsigned actor) { return !scenario.healing && faults.steps < faults.paused_until[actor]; }

/* --- excuses ----------------------------------------------------------------------------------------------------- */

void faults_read_failed(void)
{
    count_happened(COUNT_READ_FAILS);
    faults.excuses.unread |= 1u << scenario.gateway;
}

static bool had(uint32_t gateways, unsigned gateway) { return gateways >> gateway & 1; }

bool faults_excuse(unsigned gateway, struct slice code)
{
    const struct excuses *e = &faults.excuses;
    if (slice_is(code, "store.read_failed")) return had(e->unread, gateway);
    if (slice_is(code, "store.disk_full")) return had(e->reserve, gateway);
    if (slice_is(code, "server.overloaded")) return had(e->memory, gateway);
    return slice_is(code, "store.overloaded") && had(e->short_queues, gateway);
}
