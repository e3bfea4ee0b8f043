/* simulator: the production gateway - cores, net, commit pipeline, readers - in one thread from one seed.
 *
 *   simulator --seed N [--trace] [--stats]     one run, in this process
 *   simulator --seeds A..B [--jobs J] [--hashes] [--stats]    one process a run; every failed seed and why it failed
 *
 * A run: a store, a gateway with one to four cores over it, clients that do what clients do, an operator; the scheduler
 * lets one actor, one client or one link take one step at a time; now and then the process dies, or stops in good
 * order, and another one, with another number of cores, is started over what is left of the store. Then the run heals:
 * no more faults, no new requests, until everybody holds everything; and at the end the gateway is closed in good
 * order. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/log.h"
#include "../../src/core/core.h"
#include "client.h"
#include "fake_ring.h"
#include "homes.h"
#include "operator.h"
#include "passer.h"
#include "stats.h"
#include "steward.h"
#include "store_watch.h"
#include "truth.h"
#include "world.h"

#define CORES_OF_A_RUN 4u
#define CRASHES_MAX 4u
#define HEALING_STEPS_MAX 100000u
#define HEALING_NS_MAX 200000000000u /* simulated: beyond the longest timeout of a connection */
#define IDLE_TURNS_MAX 4u /* one that tells its sockets of the end, one that goes on with what that has begun */
#define RUN_SECONDS_MAX 120u        /* of real time: a run takes milliseconds, and seconds under a sanitizer */
#define PIPELINE_ACTORS 2u          /* writer and syncer are made first */
#define SYNCER_ACTOR 1u

struct plan {
    uint64_t chaos_steps;
    uint64_t crash_at[CRASHES_MAX];      /* steps */
    uint64_t disk_fails_at[CRASHES_MAX]; /* before the crash of the same place; 0: never */
    unsigned num_crashes;
    uint64_t weeks_pass_at; /* step; 0: never */
};

static struct run {
    struct plan plan;
    struct config config;
    struct kv *kv;
    struct mark *mark;
    uint8_t pepper[32];
    struct store store;
    struct gateway gateway;
    unsigned first_core_actor;
    uint64_t steps, readers_stand; /* until that step the disk reads nothing */
    uint64_t syncer_stands; /* until that step it syncs nothing: what fast rooms have shown is lost with the power */
    unsigned crashes;
    uint64_t epoch;          /* of the gateway that runs, or ran last */
    bool was_clean, may_be_clean; /* how it ended; with a disk that fails, one cannot know */
    unsigned starts_crashed; /* since */
} run;

static void plan_make(struct plan *plan);
static void gateway_start(void);
static void gateway_crash(void);
static void gateway_stop(bool at_end);
static void steps_before(void);
static bool step(void);
static void heal(void);

static void run_seed(uint64_t seed, bool trace)
{
    world_begin(seed, trace);
    plan_make(&run.plan);
    run.kv = watched_store_open();
    run.mark = mark_fake_new();
    random_fill(world_gateway_random(), run.pepper, sizeof run.pepper);
    config_defaults(&run.config);
    run.config.process_readers = 1 + world_below(2);
    run.config.limits_connections = 64;
    if (scenario.sluggish) run.config.limits_send_queue = 64u << 10;
    struct config_error error;
    ASSERT(config_set(&run.config, "admin.master_key=" SCENARIO_MASTER_KEY, &error) == STATUS_OK);
    clients_open();
    operator_open();
    truth_begin();
    gateway_start();
    for (; run.steps < run.plan.chaos_steps; run.steps++) {
        steps_before();
        step();
    }
    heal();
    gateway_stop(true);
    for (unsigned i = 0; i < scenario.num_clients; i++) client_check_end(i);
    CHECK(store_rooms() == scenario_num_known(), "%u rooms were made instead of %u", store_rooms(),
          scenario_num_known());
    store_check_end();
    operator_close();
    clients_close();
    passers_close();
    watched_store_end();
    mark_close(run.mark);
    config_free(&run.config);
    world_trace("done after %" PRIu64 " steps, %u crashes, %u messages", run.steps, run.crashes, clients_messages());
}

/* weeks_pass: no socket lives so long, and no message's id is kept so long. */
static void weeks_pass(void)
{
    for (unsigned t = 0; t < scenario.num_tenants; t++)
        if (scenario_pending(t) < scenario.num_rooms) return; /* it would be made a second time */
    world_trace("weeks pass");
    stat_count(STAT_WINDOWS_PASSED);
    scenario.late_gateways |= 1u << scenario.gateway;
    world_advance(9ull * 24 * 3600 * 1000000000u);
}

/* restart_drained: a gateway that has stopped in good order is followed by another one. */
static void restart_drained(void)
{
    if (!steward_drained()) return;
    gateway_stop(false);
    gateway_start();
}

/* steps_before does what the plan has for this step. */
static void steps_before(void)
{
    unsigned next = run.crashes;
    if (run.plan.weeks_pass_at && run.steps == run.plan.weeks_pass_at) weeks_pass();
    restart_drained();
    if (next >= run.plan.num_crashes) return;
    if (run.steps == run.plan.disk_fails_at[next] && run.steps) {
        scenario.disk_failed = true;
        scenario.failed_gateways |= 1u << scenario.gateway;
        bool writes = world_chance(2);
        world_trace("the disk fails: %s", writes ? "writes" : "syncs");
        watched_store_fail(writes, !writes);
        stat_count(STAT_DISK_FAILURES);
    }
    if (run.steps >= run.plan.crash_at[next]) {
        gateway_crash();
        gateway_start();
    }
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void plan_make(struct plan *plan)
{
    *plan = (struct plan){.chaos_steps = 4000 + world_below(16000), .num_crashes = (unsigned)world_below(CRASHES_MAX)};
    bool soon = world_chance(4); /* one after the other, while the start before is still under way */
    for (unsigned i = 0; i < plan->num_crashes; i++)
        plan->crash_at[i] = soon && i ? plan->crash_at[i - 1] + world_below(60) : 1 + world_below(plan->chaos_steps);
    qsort(plan->crash_at, plan->num_crashes, sizeof plan->crash_at[0], by_size);
    for (unsigned i = 0; i < plan->num_crashes; i++) {
        uint64_t before = 20 + world_below(300);
        if (world_chance(4) && plan->crash_at[i] > before) plan->disk_fails_at[i] = plan->crash_at[i] - before;
    }
    if (world_chance(12)) plan->weeks_pass_at = 1 + world_below(plan->chaos_steps);
    static const unsigned rates[] = {0, 4, 16, 64};
    world_set_preemption(rates[world_below(4)]);
    rings_set_faults(world_chance(3) ? 1 + (unsigned)world_below(3) : 64, world_chance(2) ? 40 : 0);
    scenario_plan(plan->chaos_steps);
    scenario.weeks_pass = plan->weeks_pass_at > 0;
}

/* --- the gateway ----------------------------------------------------------------------------------------------- */

/* idling: how a core's turns have gone since it last worked or slept. */
struct idling {
    unsigned turns;
    uint64_t sleeps, at_ns;
};

/* check_spin: a core that finds nothing to do goes to sleep, if not at once then soon. When time has passed during the
 * turn, what it meant to wait for may have come. */
static void check_spin(const struct core *core, bool busy, struct idling *idle)
{
    if (busy || actor_sleeps() != idle->sleeps || world_now_ns() != idle->at_ns) idle->turns = 0;
    idle->sleeps = actor_sleeps();
    idle->at_ns = world_now_ns();
    CHECK(++idle->turns < IDLE_TURNS_MAX, "core %u turns without work and does not sleep", core->id);
}

/* core_body is what a core's thread runs (src/cli/cores.c), without pinning. */
static void *core_body(void *argument)
{
    struct core *core = argument;
    struct net_listener listeners[2] = {{.fd = LISTENER_FD_BASE + (int)core->id},
                                        {.fd = LISTENER_FD_BASE + ADMIN_FD + (int)core->id, .trusted = 1}};
    CHECK(core_start(core, listeners, 2) == STATUS_OK, "core %u does not start", core->id);
    struct idling idle = {0};
    while (!atomic_load(&core->gateway->stop)) {
        check_spin(core, core_turn(core, true), &idle);
        actor_yield();
    }
    return NULL;
}

/* opening: a store that is being opened, as an actor, so that the process may be gone in the middle of it. */
struct opening {
    enum status status;
    bool done;
    char why[512];
};

static void *opening_body(void *argument)
{
    struct opening *o = argument;
    o->status = store_open_with(&run.store, run.kv, run.mark, world_gateway_random(), o->why, sizeof o->why);
    o->done = true;
    return NULL;
}

/* rows_lost counts events of fast rooms that crashes have taken back, and that somebody may have seen. */
static size_t rows_lost(void)
{
    size_t num = 0;
    for (unsigned r = 0; r < scenario.num_rooms; r++)
        if (scenario_room_known(r) && scenario.tenants[scenario.rooms[r].tenant].fast)
            num += store_num_lost(slice_str(scenario.rooms[r].id));
    return num;
}

static void power_or_kill(void)
{
    bool power = !world_chance(3);
    size_t before = rows_lost();
    watched_store_crash(power);
    stats[STAT_FAST_LOST] += rows_lost() - before;
    mark_fake_crash(run.mark, power && world_chance(2));
    stat_count(power ? STAT_POWER_LOSSES : STAT_KILLS);
}

/* store_begin opens the store; a start in so many is cut off at one of its reads and writes, and made again. Not the
 * very first: a store that holds something and has no mark yet begins a new history (storage/store.h). */
static void store_begin(void)
{
    static struct opening opening; /* an actor that was dropped leaves it alone */
    unsigned preempt_of = world_preemption();
    world_set_preemption(1);
    for (bool crashes = run.epoch && world_chance(4); !opening.done; crashes = false) {
        opening = (struct opening){.done = false};
        mark_fake_hold(run.mark);
        unsigned actor = actor_new("opening", opening_body, &opening);
        while (!actor_ended(actor) && !(crashes && world_chance(8))) actor_resume(actor);
        if (opening.done) break;
        actors_drop();
        power_or_kill();
        run.starts_crashed++;
        stat_count(STAT_STARTS_CRASHED);
    }
    opening.done = false;
    actors_drop();
    world_set_preemption(preempt_of);
    CHECK(opening.status == STATUS_OK, "the store does not open again: %s", opening.why);
}

/* check_epoch: it rises with every start behind an end that was not clean, and with no other. */
static void check_epoch(void)
{
    uint64_t epoch = run.store.epoch;
    uint64_t least = run.epoch + !(run.was_clean || run.may_be_clean),
             most = run.epoch + !run.was_clean + run.starts_crashed;
    CHECK(epoch >= least && epoch <= most, "epoch %" PRIu64 " behind %" PRIu64 ", %s, and %u crashed starts", epoch,
          run.epoch, run.was_clean ? "a clean end" : "a crash", run.starts_crashed);
    run.epoch = epoch;
    run.was_clean = run.may_be_clean = false;
    run.starts_crashed = 0;
}

static void gateway_start(void)
{
    char why[512] = "";
    watched_store_fail(false, false);
    store_begin();
    check_epoch();
    enum status s;
    memcpy(run.store.pepper, run.pepper, sizeof run.pepper); /* a file of its own in production, which stays */
    run.gateway = (struct gateway){.config = &run.config,
                                   .clock = world_clock(),
                                   .random = world_gateway_random(),
                                   .park_ops = &world_park_ops,
                                   .store = &run.store,
                                   .num_cores = 1 + (unsigned)world_below(world_chance(4) ? CORES_OF_A_RUN : 3)};
    steward_serve(&run.gateway, &run.config);
    s = gateway_open(&run.gateway, why, sizeof why);
    CHECK(s == STATUS_OK, "the gateway does not open: %s", why);
    for (unsigned i = 0; scenario.crowded && i < run.gateway.num_cores; i++) {
        run.gateway.cores[i]->users_loaded_max = 1 + (unsigned)world_below(3);
        run.gateway.cores[i]->user_waiting_max = 1 + (unsigned)world_below(4);
    }
    scenario.num_cores = run.gateway.num_cores;
    scenario.disk_failed = false;
    scenario.gateway++;
    CHECK(scenario.gateway < GATEWAYS_MAX, "more gateways than a run may have");
    scenario.epochs[scenario.gateway] = run.epoch;
    truth_epoch(run.epoch);
    CHECK(commit_start_threads(run.gateway.commit) == STATUS_OK, "the writer does not start");
    CHECK(readers_start_threads(run.gateway.readers) == STATUS_OK, "the readers do not start");
    run.first_core_actor = actors_len();
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        char name[16];
        snprintf(name, sizeof name, "core/%u", i % CORES_OF_A_RUN);
        actor_new(name, core_body, run.gateway.cores[i]);
    }
    world_trace("gateway started with %u cores in epoch %" PRIu64, run.gateway.num_cores, run.gateway.epoch);
}

/* gateway_crash: the process is gone between two instructions; its memory is left to the end of the run. */
static void gateway_crash(void)
{
    rings_crash();
    actors_drop();
    power_or_kill();
    run.crashes++;
}

/* cores_settle turns the cores, which have left their loops, until nothing is on its way. */
static void cores_settle(void)
{
    for (bool busy = true; busy;) {
        busy = false;
        for (unsigned i = 0; i < run.gateway.num_cores; i++) {
            struct core *core = run.gateway.cores[i];
            busy |= core_turn(core, false) || commit_pending(core->commit) > 0;
        }
        for (unsigned actor = 0; actor < run.first_core_actor; actor++)
            if (actor_runnable(actor)) actor_resume(actor);
    }
}

/* links_end: the last client has gone. */
static void links_end(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) client_leave(i);
    operator_leave();
    passers_leave();
    scenario.num_cores = 0; /* nobody comes back */
    for (unsigned n = 0; links_open_at_gateway(); n++) {
        CHECK(n < HEALING_STEPS_MAX, "%u connections are never closed", links_open_at_gateway());
        step();
    }
}

/* gateway_stop ends the gateway in good order: the cores leave their loops, the pipeline ends, everything is freed. At
 * the end of the run all clients have left before; behind a drain, those that did not go in time are still there. */
static void gateway_stop(bool at_end)
{
    if (at_end) links_end();
    bool empty = links_open_at_gateway() == 0, poisoned = commit_poisoned(run.gateway.commit);
    unsigned preempt_of = world_preemption();
    scenario.num_cores = 0;
    world_set_preemption(0);
    atomic_store(&run.gateway.stop, true);
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        park_wake(&run.gateway.cores[i]->park);
        CHECK(__wrap_pthread_join(run.first_core_actor + i, NULL) == 0, "a core does not end");
    }
    cores_settle();
    if (empty && !poisoned) {
        world_advance(PRESENCE_GRACE_MS * 1000000ull);
        cores_settle();
        cores_settle(); /* who is offline was told in the turns before */
        homes_check_empty(&run.gateway);
    }
    commit_stop_threads(run.gateway.commit);
    readers_stop_threads(run.gateway.readers);
    gateway_close(&run.gateway);
    rings_crash(); /* connections that nobody has accepted end with the listeners */
    actors_drop();
    store_close(&run.store, !poisoned);
    run.may_be_clean = !poisoned;
    run.was_clean = !poisoned && !scenario.disk_failed;
    world_set_preemption(preempt_of);
    if (!at_end) stat_count(STAT_DRAINS);
    world_trace("gateway stopped in good order%s", empty ? "" : ", with connections open");
}

/* --- the scheduler --------------------------------------------------------------------------------------------- */

/* check_wakes: who sleeps has nothing to do. The work is published before the wake-up is sent, with no seam between the
 * two, so whenever the scheduler runs a sleeper with work is one that nobody will wake. */
static void check_wakes(void)
{
    bool settled = true; /* nobody who moves entries along is awake */
    for (unsigned actor = 0; actor < actors_len(); actor++)
        if (actor < PIPELINE_ACTORS || actor >= run.first_core_actor) settled &= actor_sleeping(actor);
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        struct core *core = run.gateway.cores[i];
        if (!actor_sleeping(run.first_core_actor + i)) continue;
        CHECK(!commit_pollable(core->commit) || actor_runnable(run.first_core_actor + i),
              "core %u sleeps over a completed commit", i);
        CHECK(!read_pollable(core->reader) || actor_runnable(run.first_core_actor + i),
              "core %u sleeps over a finished read", i);
        for (unsigned from = 0; from < run.gateway.num_cores; from++)
            CHECK(from == i || spsc_empty(core->in[from]) || actor_runnable(run.first_core_actor + i),
                  "core %u sleeps over mail of core %u", i, from);
        CHECK(!settled || scenario.disk_failed || commit_pending(core->commit) == 0,
              "core %u has entries that nobody moves on", i);
    }
    CHECK(!settled || scenario.disk_failed || store_unsynced() == 0, "what is written is not synced");
}

/* check_homes: when every core sleeps and no mail is under way, the homes know what there is. */
static void check_homes(void)
{
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        if (!actor_sleeping(run.first_core_actor + i)) return;
        for (unsigned other = 0; other < run.gateway.num_cores; other++)
            if (other != i && !spsc_empty(run.gateway.cores[i]->in[other])) return;
    }
    homes_check(&run.gateway);
}

struct choice {
    enum {
        CHOICE_ACTOR,
        CHOICE_CLIENT,
        CHOICE_PASSER,
        CHOICE_LINK,
        CHOICE_TIME,
        CHOICE_OPERATOR,
        CHOICE_STEWARD
    } kind;
    unsigned index, weight;
};

static bool stands(unsigned actor)
{
    bool reader = actor >= PIPELINE_ACTORS && actor < run.first_core_actor;
    if (scenario.healing) return false;
    return (reader && run.steps < run.readers_stand) || (actor == SYNCER_ACTOR && run.steps < run.syncer_stands);
}

static unsigned choices_make(struct choice *choices)
{
    unsigned num = 0;
    for (unsigned i = 0; i < actors_len(); i++)
        if (actor_runnable(i) && !stands(i)) choices[num++] = (struct choice){CHOICE_ACTOR, i, 6};
    for (unsigned i = 0; i < scenario.num_clients; i++)
        if (client_can_step(i)) choices[num++] = (struct choice){CHOICE_CLIENT, i, 3};
    for (unsigned i = 0; i < PASSERS_MAX; i++)
        if (passer_can_step(i)) choices[num++] = (struct choice){CHOICE_PASSER, i, 1};
    for (unsigned i = 0; i < links_len(); i++)
        if (link_can_step(i)) choices[num++] = (struct choice){CHOICE_LINK, i, 4};
    if (operator_can_step()) choices[num++] = (struct choice){CHOICE_OPERATOR, 0, 2};
    if (steward_can_step()) choices[num++] = (struct choice){CHOICE_STEWARD, 0, 2};
    if (!scenario.healing) choices[num++] = (struct choice){CHOICE_TIME, 0, 1};
    return num;
}

static uint64_t next_wake_ns(void)
{
    uint64_t next = WORLD_NEVER;
    for (unsigned i = 0; i < actors_len(); i++)
        if (actor_wake_ns(i) < next) next = actor_wake_ns(i);
    for (unsigned i = 0; i < scenario.num_clients; i++)
        if (client_wake_ns(i) < next) next = client_wake_ns(i);
    return operator_wake_ns() < next ? operator_wake_ns() : next;
}

#define JUMP_NS 100000000u /* several of them make COMMIT_AGE_MAX_MS */

static void advance(uint64_t ns)
{
    if (ns >= JUMP_NS) scenario.late_gateways |= 1u << scenario.gateway;
    world_advance(ns);
}

/* pass_time: mostly as long as a request takes; now and then beyond the pings. */
static void pass_time(void)
{
    uint64_t ns = world_below(3000000);
    if (world_chance(100)) ns = world_below(300000000);
    if (scenario.crowded && world_chance(8)) { /* users go offline, and are evicted */
        if (world_chance(2)) passers_change();
        if (world_chance(2)) run.readers_stand = run.steps + world_below(200);
        ns = 2000000000u + world_below(5000000000u);
    }
    if (scenario.tenants[0].fast && world_chance(20)) {
        run.syncer_stands = run.steps + world_below(1000);
        scenario.late_gateways |= 1u << scenario.gateway;
    }
    if (world_chance(2000)) ns = 20000000000u + world_below(30000000000u);
    advance(ns);
    world_note(1, ns);
}

static void choose(const struct choice *choices, unsigned num)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < num; i++) total += choices[i].weight;
    uint64_t at = world_below(total);
    const struct choice *c = choices;
    for (; at >= c->weight; c++) at -= c->weight;
    world_note((uint64_t)c->kind, c->index);
    switch (c->kind) {
    case CHOICE_ACTOR: actor_resume(c->index); return;
    case CHOICE_CLIENT: client_step(c->index); return;
    case CHOICE_PASSER: passer_step(c->index); return;
    case CHOICE_LINK: link_step(c->index); return;
    case CHOICE_TIME: pass_time(); return;
    case CHOICE_OPERATOR: operator_step(); return;
    case CHOICE_STEWARD: steward_step(); return;
    }
}

/* step: false when nothing could run and only time passed. */
static bool step(void)
{
    struct choice choices[ACTORS_MAX + CLIENTS_MAX + PASSERS_MAX + 128];
    links_sweep();
    check_wakes();
    check_homes();
    unsigned num = choices_make(choices);
    if (num) {
        choose(choices, num);
        return true;
    }
    for (unsigned i = 0; i < scenario.num_clients; i++) client_check_stall(i);
    uint64_t next = next_wake_ns();
    CHECK(next != WORLD_NEVER && next >= world_now_ns(), "nothing can run, and nothing will");
    advance(next - world_now_ns());
    return false;
}

static void heal(void)
{
    /* One that was asked to stop and refuses all clients meanwhile would be waited for as well. */
    if (scenario.disk_failed || scenario.draining_gateways >> scenario.gateway & 1) {
        gateway_crash();
        gateway_start();
    }
    world_trace("healing");
    scenario.healing = true;
    passers_leave();
    rings_set_faults(64, 0);
    for (unsigned i = 0; i < scenario.num_clients; i++) client_heal(i);
    uint64_t since_ns = world_now_ns();
    for (unsigned n = 0;; n++) {
        const char *missing = operator_unsettled();
        unsigned who = 0;
        for (unsigned i = 0; i < scenario.num_clients && !missing; i++) missing = client_unsettled(who = i);
        if (!missing) return;
        CHECK(n < HEALING_STEPS_MAX && world_now_ns() - since_ns < HEALING_NS_MAX,
              "the run does not come to rest: client %u: %s", who, missing);
        step();
        run.steps++;
    }
}

/* --- one process a seed ---------------------------------------------------------------------------------------- */

/* result: what a child leaves for its parent, in shared memory. */
struct result {
    bool done;
    uint64_t hash, steps;
    unsigned messages, crashes;
    char why[512];
    uint64_t stats[STATS_NUM];
};

static struct result *result_of_child;

static void report_failure(const char *text)
{
    if (result_of_child) snprintf(result_of_child->why, sizeof result_of_child->why, "%s", text);
    else fprintf(stderr, "FAILED: %s\n", text);
}

static void result_take(struct result *r)
{
    r->done = true;
    r->hash = world_hash();
    r->steps = run.steps;
    r->messages = clients_messages();
    r->crashes = run.crashes;
    memcpy(r->stats, stats, sizeof r->stats);
}

struct options {
    uint64_t first, last;
    unsigned jobs;
    bool trace, hashes, stats, single;
};

static int usage(void)
{
    fprintf(stderr, "usage: simulator --seed N [--trace] [--stats] | --seeds A..B [--jobs J] [--hashes] [--stats]\n");
    return 2;
}

static int help(void)
{
    printf("simulator: the production gateway in one thread from one seed, against clients, an operator and faults.\n\n"
           "  simulator --seed N [--trace] [--stats]\n"
           "      One run. --trace prints every step that can be told, up to the failure; a seed repeats itself.\n"
           "  simulator --seeds A..B [--jobs J] [--hashes] [--stats]\n"
           "      One process a run, J at a time (the number of processors), one line for each failed seed.\n"
           "      --hashes prints what a run came to: the same seed gives the same hash.\n"
           "      --stats counts what happened over all seeds, and fails when something never did.\n\n"
           "Exit codes: 0 everything holds, 1 it does not, 2 usage.\n");
    return 0;
}

static bool options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.first = 1, .last = 300, .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        int used = 0;
        if (strcmp(argv[i], "--trace") == 0) o->trace = true;
        else if (strcmp(argv[i], "--hashes") == 0) o->hashes = true;
        else if (strcmp(argv[i], "--stats") == 0) o->stats = true;
        else if (strcmp(argv[i], "--seed") == 0 && sscanf(value, "%" SCNu64 "%n", &o->first, &used) == 1 &&
                 !value[used]) {
            o->last = o->first;
            o->single = true;
            i++;
        } else if (strcmp(argv[i], "--seeds") == 0 &&
                   sscanf(value, "%" SCNu64 "..%" SCNu64 "%n", &o->first, &o->last, &used) == 2 && !value[used] &&
                   o->first <= o->last && o->last - o->first < 1000000) {
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0 && sscanf(value, "%u%n", &o->jobs, &used) == 1 && o->jobs) {
            i++;
        } else {
            return false;
        }
    }
    return !o->trace || o->single;
}

static int run_single(const struct options *o)
{
    struct result r = {0};
    world_on_fail(report_failure);
    run_seed(o->first, o->trace);
    result_take(&r);
    printf("seed %" PRIu64 " hash %016" PRIx64 ": %" PRIu64 " steps, %u crashes, %u messages\n", o->first, r.hash,
           r.steps, r.crashes, r.messages);
    if (o->stats) stats_print(r.stats);
    return 0;
}

static pid_t child_start(uint64_t seed, struct result *r)
{
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid > 0) return pid;
    result_of_child = r;
    world_on_fail(report_failure);
    alarm(RUN_SECONDS_MAX); /* a loop without a step in it cannot be seen from inside */
    run_seed(seed, false);
    result_take(r);
    exit(0);
}

struct totals {
    uint64_t seeds, failed, steps, messages, crashes;
    uint64_t stats[STATS_NUM];
};

static void result_count(struct totals *t, const struct options *o, uint64_t seed, const struct result *r, int status)
{
    t->seeds++;
    t->steps += r->steps;
    t->messages += r->messages;
    t->crashes += r->crashes;
    for (unsigned s = 0; s < STATS_NUM; s++) t->stats[s] += r->stats[s];
    if (r->done && status == 0) {
        if (o->hashes) printf("seed %" PRIu64 " hash %016" PRIx64 "\n", seed, r->hash);
        return;
    }
    t->failed++;
    const char *why = r->why[0] ? r->why : WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "the sanitizer's report";
    printf("seed %" PRIu64 " FAILED: %s\n  replay: simulator --seed %" PRIu64 " --trace\n", seed, why, seed);
}

static int run_many(const struct options *o)
{
    size_t num = o->last - o->first + 1;
    struct result *results =
        mmap(NULL, num * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t *children = calloc(num, sizeof *children);
    ASSERT(results != MAP_FAILED && children);
    struct totals t = {0};
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (size_t started = 0; t.seeds < num;) {
        if (started < num && started - t.seeds < o->jobs) {
            children[started] = child_start(o->first + started, &results[started]);
            started++;
            continue;
        }
        int status;
        pid_t pid = wait(&status);
        ASSERT(pid > 0);
        for (size_t i = 0; i < started; i++)
            if (children[i] == pid) {
                children[i] = 0; /* numbers come again */
                result_count(&t, o, o->first + i, &results[i], status);
            }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("sim: %" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64 " steps, %" PRIu64 " crashes, %" PRIu64
           " messages, %.1f s, %.0f seeds/s\n",
           t.seeds, t.failed, t.steps, t.crashes, t.messages, seconds, (double)t.seeds / seconds);
    munmap(results, num * sizeof *results);
    free(children);
    if (o->stats && !stats_print(t.stats)) {
        printf("sim: FAILED: something that the scenario is about never happened\n");
        return 1;
    }
    return t.failed ? 1 : 0;
}

static void line_dropped(struct slice line) {}

int main(int argc, char **argv)
{
    static const struct log_sink nowhere = {.line = line_dropped};
    struct options o;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return help();
    if (!options_parse(&o, argc, argv)) return usage();
    if (!o.trace) log_set_sink(&nowhere); /* what the operator does has its line whatever the level */
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* big blocks come and go with every gateway */
    log_set_level(LOG_ERROR);
    atomic_store(&log_level_now, o.trace ? (int)LOG_INFO : (int)LOG_ERROR + 1);
    return o.single ? run_single(&o) : run_many(&o);
}
