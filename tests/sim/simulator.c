/* simulator: the production gateway - cores, net, commit pipeline, readers - in one thread from one seed.
 *
 *   simulator --seed N [--trace] [--stats]     one run, in this process
 *   simulator --seeds A..B [--jobs J] [--hashes] [--stats] [--until-failure]
 *                                    one process a run; each failed seed, and why
 *   simulator … --planted NAME       the same with a planted bug on (src/base/planted.h)
 *   simulator --planted list         which bugs there are: name, what it breaks, what it does
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
#include "../../src/base/planted.h"
#include "../../src/core/core.h"
#include "bounds.h"
#include "client.h"
#include "counts.h"
#include "disk.h"
#include "fake_ring.h"
#include "faults.h"
#include "homes.h"
#include "inboxes.h"
#include "notices.h"
#include "notifier.h"
#include "operator.h"
#include "passer.h"
#include "recorder.h"
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
    bool mark_fails;
    uint64_t steps, readers_stand; /* until that step the disk reads nothing */
    uint64_t syncer_stands; /* until that step it syncs nothing: what fast rooms have shown is lost with the power */
    unsigned crashes;
    uint64_t epoch;          /* of the gateway that runs, or ran last */
    bool was_clean, may_be_clean; /* how it ended; with a disk that fails, one cannot know */
    uint64_t starts; /* of the store since, those that failed or were cut off included */
} run;

/* disk_failure: what the disk refuses from some moment on. */
enum disk_failure { FAIL_WRITES, FAIL_SYNCS, FAIL_MARK_WRITES, FAIL_MARK_SYNCS, DISK_FAILURES };

static void disk_fail(enum disk_failure what, unsigned others);
static void disk_mend(void);
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
    run.config.limits_connections = 512; /* more than there are links, of which some wait to be closed */
    if (scenario.sluggish) run.config.limits_send_queue = 64u << 10;
    if (scenario.narrow) run.config.limits_send_queue = 512 + world_below(8192);
    run.config.net_zero_copy = world_chance(2) ? CONFIG_ZERO_COPY_AUTO : CONFIG_ZERO_COPY_ON;
    if (world_chance(8)) run.config.net_zero_copy = CONFIG_ZERO_COPY_OFF;
    struct config_error error;
    ASSERT(config_set(&run.config, "admin.master_key=" SCENARIO_MASTER_KEY, &error) == STATUS_OK);
    recorder_open();
    notifiers_open(&run.config);
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
    unsigned known = scenario_num_known(), unknown = scenario_num_unknown();
    CHECK(store_rooms() >= known && store_rooms() <= known + unknown, "%u rooms were made instead of %u", store_rooms(),
          known);
    store_check_end();
    recorder_judge(run.kv);
    recorder_close();
    operator_close();
    clients_close();
    passers_close();
    notifiers_close();
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
    count_happened(COUNT_WINDOWS_PASSED);
    scenario.late_gateways |= 1u << scenario.gateway;
    world_advance(9ull * 24 * 3600 * 1000000000u);
    recorder_forgotten();
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
        disk_fail((enum disk_failure)world_below(DISK_FAILURES), 0);
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
    faults_plan();
    scenario_plan(plan->chaos_steps);
    scenario.weeks_pass = plan->weeks_pass_at > 0;
    if (scenario.weeks_pass) scenario.notified = false; /* the keys of creations would be forgotten */
}

/* --- the disk -------------------------------------------------------------------------------------------------- */

/* disk_fail: of the store, `others` of those operations still succeed. */
static void disk_fail(enum disk_failure what, unsigned others)
{
    static const char *const names[DISK_FAILURES] = {"writes", "syncs", "the mark's writes", "the mark's syncs"};
    world_trace("the disk fails: %s", names[what]);
    watched_store_fail_at(what == FAIL_WRITES, what == FAIL_SYNCS, others);
    mark_fake_fail(run.mark, what == FAIL_MARK_WRITES, what == FAIL_MARK_SYNCS);
    run.mark_fails = what >= FAIL_MARK_WRITES;
}

static void disk_mend(void)
{
    watched_store_fail(false, false);
    mark_fake_fail(run.mark, false, false);
    run.mark_fails = false;
}

/* --- the gateway ----------------------------------------------------------------------------------------------- */

/* idling: how a core's turns have gone since it last worked or slept. */
struct idling {
    unsigned turns;
    uint64_t sleeps, at_ns, sends;
};

/* check_spin: a core that finds nothing to do goes to sleep, if not at once then soon. When time has passed during the
 * turn, what it meant to wait for may have come. A send is work, too: what is behind it waits for no completion. */
static void check_spin(const struct core *core, bool busy, struct idling *idle)
{
    uint64_t sends = net_stats(core->net)->sends;
    bool worked = busy || sends != idle->sends;
    if (worked || actor_sleeps() != idle->sleeps || world_now_ns() != idle->at_ns) idle->turns = 0;
    idle->sends = sends;
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
        bounds_check(core);
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
    scenario.power_losses += power;
    size_t before = rows_lost();
    recorder_crash(power);
    watched_store_crash(power);
    count_more(COUNT_FAST_LOST, rows_lost() - before);
    mark_fake_crash(run.mark, power && world_chance(2));
    count_happened(power ? COUNT_POWER_LOSSES : COUNT_KILLS);
}

/* store_begin opens the store; a start in so many is cut off at one of its reads and writes, and made again. Not the
 * very first: a store that holds something and has no mark yet begins a new history (storage/store.h). */
static enum status store_begin(char *why, size_t why_len)
{
    static struct opening opening; /* an actor that was dropped leaves it alone */
    unsigned preempt_of = world_preemption();
    world_set_preemption(1);
    for (bool crashes = run.epoch && world_chance(4);; crashes = false) {
        opening = (struct opening){.done = false};
        mark_fake_hold(run.mark);
        run.starts++;
        unsigned actor = actor_new("opening", opening_body, &opening);
        while (!actor_ended(actor) && !(crashes && world_chance(8))) actor_resume(actor);
        actors_drop();
        if (opening.done) break;
        power_or_kill();
        count_happened(COUNT_STARTS_CRASHED);
    }
    world_set_preemption(preempt_of);
    if (opening.status != STATUS_OK) mark_close(run.mark);
    snprintf(why, why_len, "%s", opening.why);
    return opening.status;
}

/* check_epoch: it rises with every start behind an end that was not clean, and with no other but for starts that came
 * to nothing. What nobody was served from may begin anew: a first start that failed left no mark. */
static void check_epoch(void)
{
    uint64_t epoch = run.store.epoch, least = run.epoch + !(run.was_clean || run.may_be_clean);
    uint64_t most = run.epoch + !run.was_clean + run.starts - 1;
    CHECK(epoch >= least && (run.epoch == 0 || epoch <= most),
          "epoch %" PRIu64 " behind %" PRIu64 ", %s, and %" PRIu64 " starts", epoch, run.epoch,
          run.was_clean ? "a clean end" : "a crash", run.starts);
    run.epoch = epoch;
    run.was_clean = run.may_be_clean = false;
    run.starts = 0;
}

static enum status gateway_open_all(char *why, size_t why_len)
{
    enum status s = store_begin(why, why_len);
    if (s != STATUS_OK) return s;
    memcpy(run.store.pepper, run.pepper, sizeof run.pepper); /* a file of its own in production, which stays */
    run.gateway = (struct gateway){.config = &run.config,
                                   .clock = world_clock(),
                                   .random = world_gateway_random(),
                                   .park_ops = &world_park_ops,
                                   .store = &run.store,
                                   .num_cores = 1 + (unsigned)world_below(world_chance(4) ? CORES_OF_A_RUN : 3)};
    steward_serve(&run.gateway, &run.config);
    faults_start(&run.gateway);
    s = gateway_open(&run.gateway, why, why_len);
    if (s == STATUS_OK) return s;
    gateway_close(&run.gateway);
    store_close(&run.store, true);
    return s;
}

/* bad_mark: a mark file that says that the store was once durable up to `sequence`, or that cannot be read. */
struct bad_mark {
    struct mark mark;
    enum status status;
    uint64_t sequence;
};

static enum status bad_mark_read(struct mark *m, uint64_t *sequence)
{
    const struct bad_mark *bad = (const struct bad_mark *)m;
    *sequence = bad->sequence;
    return bad->status;
}

/* check_bad_mark: a store that has lost something acknowledged, or of which nobody can tell, is not opened, and nothing
 * of it is touched. */
static void check_bad_mark(void)
{
    static const struct mark_ops ops = {.read = bad_mark_read}; /* any other call ends the run */
    char why[512] = "";
    struct store store;
    struct bad_mark bad = {{&ops}, STATUS_OK, kv_sequence(run.kv) + 1 + world_below(9)};
    uint64_t marked;
    if (mark_read(run.mark, &marked) != STATUS_OK) return; /* a first start made none */
    if (world_chance(2)) bad.status = world_chance(2) ? STATUS_CORRUPT : STATUS_INVALID;
    count_happened(bad.status == STATUS_OK ? COUNT_START_MARK_AHEAD : COUNT_START_MARK_DAMAGED);
    size_t unsynced = store_unsynced();
    enum status s = store_open_with(&store, run.kv, &bad.mark, world_gateway_random(), why, sizeof why);
    CHECK(s == STATUS_CORRUPT || s == STATUS_INVALID, "a store that may have lost something opens: %s", status_name(s));
    CHECK(why[0] && store_unsynced() == unsynced, "a store that is not opened is written to");
}

/* start_badly: a start that meets an error says what it was, and leaves nothing behind that a later one minds. True:
 * the error did not come to pass, and the gateway is open. */
static bool start_badly(void)
{
    char why[512] = "";
    unsigned others = (unsigned)world_below(3);
    unsigned what = (unsigned)world_below(DISK_FAILURES + 2u);
    if (what < DISK_FAILURES) disk_fail((enum disk_failure)what, others);
    else if (what == DISK_FAILURES) watched_store_fail_reads(1 + (unsigned)world_below(8));
    else rings_fail_open();
    bool opened = gateway_open_all(why, sizeof why) == STATUS_OK;
    disk_mend();
    watched_store_fail_reads(0);
    if (opened) return true;
    count_happened(COUNT_START_FAILS);
    world_trace("a start fails: %s", why);
    CHECK(why[0], "a start fails and does not say why");
    if (world_chance(2)) power_or_kill();
    return false;
}

static void gateway_start(void)
{
    char why[512] = "";
    disk_mend();
    watched_store_fail_reads(0);
    bool opened = false;
    if (faults_bad_start()) {
        check_bad_mark();
        opened = start_badly();
    }
    CHECK(opened || gateway_open_all(why, sizeof why) == STATUS_OK, "the gateway does not start again: %s", why);
    check_epoch();
    bool sliced = world_chance(2); /* the rooms are small, so the slices are */
    for (unsigned i = 0; sliced && i < run.gateway.num_cores; i++) {
        run.gateway.cores[i]->fanout_slice = 1 + (uint32_t)world_below(3);
        run.gateway.cores[i]->fanout_runs_max = 1 + (uint32_t)world_below(3);
    }
    for (unsigned i = 0; scenario.crowded && i < run.gateway.num_cores; i++) {
        run.gateway.cores[i]->users_loaded_max = 1 + (unsigned)world_below(3);
        run.gateway.cores[i]->user_waiting_max = 1 + (unsigned)world_below(4);
    }
    for (unsigned i = 0; scenario.forgetful && i < run.gateway.num_cores; i++) {
        run.gateway.cores[i]->idempotency.window_max = (uint32_t)world_below(8);
        run.gateway.cores[i]->idempotency.run_events = 4 + (uint32_t)world_below(16);
    }
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        size_t *tail_bytes_max = &run.gateway.cores[i]->tail_bytes_max;
        if (scenario.forgetful_tails) *tail_bytes_max = (1 + world_below(8)) * TAIL_BLOCK_BYTES_MIN;
        if (scenario.no_tails) *tail_bytes_max = 0;
    }
    for (unsigned i = 0; i < run.gateway.num_cores; i++) notifier_bound(run.gateway.cores[i]);
    scenario.num_cores = run.gateway.num_cores;
    scenario.disk_failed = false;
    scenario.gateway++;
    CHECK(scenario.gateway < GATEWAYS_MAX, "more gateways than a run may have");
    scenario.epochs[scenario.gateway] = run.epoch;
    truth_epoch(run.epoch);
    notices_start();
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
    if (run.mark_fails && commit_poisoned(run.gateway.commit)) count_happened(COUNT_MARK_FAILS);
    rings_crash();
    actors_drop();
    power_or_kill();
    run.crashes++;
}

/* cores_settle turns the cores, which have left their loops, until nothing is on its way: what a turn without work has
 * submitted, or moved up in front of a mailbox, is work for the next one. */
static void cores_settle(void)
{
    for (unsigned idle = 0; idle < IDLE_TURNS_MAX; idle++) {
        bool busy = false;
        for (unsigned i = 0; i < run.gateway.num_cores; i++) {
            struct core *core = run.gateway.cores[i];
            busy |= core_turn(core, false) || commit_pending(core->commit) > 0;
            for (unsigned to = 0; to < run.gateway.num_cores; to++) /* what a timer has sent makes no turn busy */
                busy |= to != i && (core->out[to].parked.len || spsc_depth(core->out[to].ring));
        }
        for (unsigned actor = 0; actor < run.first_core_actor; actor++)
            if (actor_runnable(actor)) actor_resume(actor);
        busy |= rings_have_arrivals(); /* also behind the last look at them */
        if (busy) idle = 0;
    }
}

/* links_end: the last client has gone. */
static void links_end(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) client_leave(i);
    operator_leave();
    passers_leave();
    notifiers_leave();
    scenario.num_cores = 0; /* nobody comes back */
    for (unsigned n = 0; links_open_at_gateway() || rings_reading(); n++) {
        CHECK(n < HEALING_STEPS_MAX, "%u connections are never closed", links_open_at_gateway());
        step();
    }
}

/* all_gone: no connection is left, also none whose last completion is held back. */
static bool all_gone(void)
{
    uint32_t left = links_open_at_gateway();
    for (unsigned i = 0; i < run.gateway.num_cores; i++) left += net_connections(run.gateway.cores[i]->net);
    return left == 0;
}

/* gateway_stop ends the gateway in good order: the cores leave their loops, the pipeline ends, everything is freed. At
 * the end of the run all clients have left before; behind a drain, those that did not go in time are still there. */
static void gateway_stop(bool at_end)
{
    if (at_end) links_end();
    bool empty = at_end || all_gone(), poisoned = commit_poisoned(run.gateway.commit);
    unsigned preempt_of = world_preemption();
    scenario.num_cores = 0;
    world_set_preemption(0);
    world_set_late_wakes(0); /* time stands still while the cores settle */
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
        for (unsigned i = 0; i < run.gateway.num_cores; i++) bounds_check_empty(run.gateway.cores[i]);
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
    if (!at_end) count_happened(COUNT_DRAINS);
    world_trace("gateway stopped in good order%s", empty ? "" : ", with connections open");
}

/* --- the scheduler --------------------------------------------------------------------------------------------- */

/* check_wakes: who sleeps has nothing to do. The work is published before the wake-up is sent, and the only seam
 * between the two is in the sending, so at any other time a sleeper with work is one that nobody will wake. */
static void check_wakes(void)
{
    if (actors_signalling()) return;
    bool settled = true; /* nobody who moves entries along is awake */
    for (unsigned actor = 0; actor < actors_len(); actor++)
        if (actor < PIPELINE_ACTORS || actor >= run.first_core_actor)
            settled &= actor_sleeping(actor) && !actor_wake_coming(actor);
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        struct core *core = run.gateway.cores[i];
        if (!actor_sleeping(run.first_core_actor + i)) continue;
        bool woken = actor_runnable(run.first_core_actor + i) || actor_wake_coming(run.first_core_actor + i);
        CHECK(!commit_pollable(core->commit) || woken, "core %u sleeps over a completed commit", i);
        CHECK(!read_pollable(core->reader) || woken, "core %u sleeps over a finished read", i);
        for (unsigned from = 0; from < run.gateway.num_cores; from++)
            CHECK(from == i || spsc_empty(core->in[from]) || woken, "core %u sleeps over mail of core %u", i, from);
        for (unsigned to = 0; to < run.gateway.num_cores; to++) {
            const struct outbox *o = &core->out[to];
            CHECK(to == i || !o->parked.len || spsc_depth(o->ring) > o->ring->mask || woken,
                  "core %u sleeps over mail that core %u has room for", i, to);
        }
        CHECK(!settled || scenario.disk_failed || commit_pending(core->commit) == 0,
              "core %u has entries that nobody moves on", i);
    }
    if (!settled || scenario.disk_failed) return;
    if (!commit_all_durable(run.gateway.commit)) { /* of class fast, which nobody waits for: it has its time */
        CHECK(actor_wake_ns(SYNCER_ACTOR) <= world_now_ns() + FAST_SYNC_DELAY_MS * 1000000ull,
              "the syncer sleeps over what is written");
        return;
    }
    CHECK(store_unsynced() == 0, "what is written is not synced");
    uint64_t marked = 0, sequence = kv_sequence(run.kv);
    CHECK(mark_read(run.mark, &marked) == STATUS_OK && marked == sequence,
          "the store is durable up to %" PRIu64 ", and its mark says %" PRIu64, sequence, marked);
}

/* check_homes: when every core sleeps and no mail is under way, the homes know what there is. */
static void check_homes(void)
{
    for (unsigned i = 0; i < run.gateway.num_cores; i++) {
        struct core *core = run.gateway.cores[i];
        if (!actor_sleeping(run.first_core_actor + i)) return;
        for (unsigned other = 0; other < run.gateway.num_cores; other++)
            if (other != i && (!spsc_empty(core->in[other]) || core->out[other].parked.len)) return;
    }
    homes_check(&run.gateway);
    if (scenario.notified && !scenario.disk_failed) inboxes_check(&run.gateway);
}

struct choice {
    enum {
        CHOICE_ACTOR,
        CHOICE_CLIENT,
        CHOICE_PASSER,
        CHOICE_NOTIFIER,
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
        if (actor_runnable(i) && !stands(i) && !faults_paused(i))
            choices[num++] = (struct choice){CHOICE_ACTOR, i, 6};
    for (unsigned i = 0; i < scenario.num_clients; i++)
        if (client_can_step(i)) choices[num++] = (struct choice){CHOICE_CLIENT, i, 3};
    for (unsigned i = 0; i < PASSERS_MAX; i++)
        if (passer_can_step(i)) choices[num++] = (struct choice){CHOICE_PASSER, i, 1};
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++)
        if (notifier_can_step(i)) choices[num++] = (struct choice){CHOICE_NOTIFIER, i, 2};
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
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++)
        if (notifier_wake_ns(i) < next) next = notifier_wake_ns(i);
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
    if (scenario.notified && world_chance(20)) /* attempts fall due, and what waits expires */
        ns = world_below(world_chance(2) ? 400000000u : 4000000000u);
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
    case CHOICE_NOTIFIER: notifier_step(c->index); return;
    case CHOICE_LINK: link_step(c->index); return;
    case CHOICE_TIME: pass_time(); return;
    case CHOICE_OPERATOR: operator_step(); return;
    case CHOICE_STEWARD: steward_step(); return;
    }
}

/* step: false when nothing could run and only time passed. */
static bool step(void)
{
    struct choice choices[ACTORS_MAX + CLIENTS_MAX + PASSERS_MAX + NOTIFIERS_MAX + LINKS_MAX + 3];
    links_sweep();
    faults_step(&run.gateway);
    check_wakes();
    check_homes();
    unsigned num = choices_make(choices);
    if (num) {
        choose(choices, num);
        return true;
    }
    for (unsigned i = 0; i < scenario.num_clients; i++) client_check_stall(i);
    notifiers_check_stall();
    uint64_t next = next_wake_ns();
    CHECK(next != WORLD_NEVER && next >= world_now_ns(), "nothing can run, and nothing will");
    advance(next - world_now_ns());
    return false;
}

static void heal(void)
{
    faults_end(&run.gateway);
    /* One that was asked to stop and refuses all clients meanwhile would be waited for as well. */
    if (scenario.disk_failed || scenario.draining_gateways >> scenario.gateway & 1) {
        gateway_crash();
        gateway_start();
    }
    world_trace("healing");
    scenario.healing = true;
    passers_leave();
    for (unsigned i = 0; i < scenario.num_clients; i++) client_heal(i);
    notifiers_heal();
    uint64_t since_ns = world_now_ns();
    for (unsigned n = 0;; n++) {
        const char *missing = operator_unsettled();
        unsigned who = 0;
        for (unsigned i = 0; i < scenario.num_clients && !missing; i++) missing = client_unsettled(who = i);
        if (!missing) missing = notifiers_unsettled();
        if (!missing) {
            recorder_healed(since_ns);
            return;
        }
        CHECK(n < HEALING_STEPS_MAX && world_now_ns() - since_ns < HEALING_NS_MAX,
              "the run does not come to rest: client %u, or a notifier: %s", who, missing);
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
    struct counts counts;
    char why[512];
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
    r->counts = *counts_taken();
}

struct options {
    uint64_t first, last;
    unsigned jobs;
    bool trace, hashes, stats, single;
    bool until_failure; /* no more seeds are begun behind the first that fails */
    const char *planted; /* NULL: none */
};

static int usage(void)
{
    fprintf(stderr, "usage: simulator --seed N [--trace] [--stats] |\n"
                    "       simulator --seeds A..B [--jobs J] [--hashes] [--stats] [--until-failure] |\n"
                    "       simulator --planted list; with --planted NAME: one planted bug is on\n");
    return 2;
}

static int help(void)
{
    printf("simulator: the production gateway in one thread from one seed, against clients, an operator and faults.\n\n"
           "  simulator --seed N [--trace] [--stats]\n"
           "      One run. --trace prints every step that can be told, up to the failure; a seed repeats itself.\n"
           "  simulator --seeds A..B [--jobs J] [--hashes] [--stats] [--until-failure]\n"
           "      One process a run, J at a time (the number of processors), one line for each failed seed.\n"
           "      --hashes prints what a run came to: the same seed gives the same hash.\n"
           "      --stats prints how often each kind of thing happened over all seeds.\n"
           "      --until-failure begins no more seeds behind the first that fails.\n"
           "      With %u seeds or more, what never happened is a failure.\n"
           "  simulator --planted list\n"
           "      The bugs that can be turned on in the preset \"planted\": name, what it breaks, what it does.\n"
           "  simulator ... --planted NAME\n"
           "      The same with that bug on.\n\n"
           "Exit codes: 0 everything holds, 1 it does not, 2 usage.\n",
           COUNTED_SEEDS_MIN);
    return 0;
}

#if PLANTED_BUILD
static void planted_list(void)
{
    for (unsigned bug = PLANTED_NONE + 1; bug < PLANTED_BUGS; bug++) {
        const struct planted_row *row = planted_row((enum planted)bug);
        printf("%s\t%s\t%s\n", row->name, row->breaks, row->sentence);
    }
}

static bool plant(const char *name)
{
    return planted_choose(name) || (fprintf(stderr, "simulator: no planted bug has the name %s\n", name), false);
}
#else
static void planted_list(void) {}

static bool plant(const char *name)
{
    fprintf(stderr, "simulator: no bugs are planted in this build; the preset \"planted\" has them\n");
    return false;
}
#endif

static bool options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.first = 1, .last = 300, .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        int used = 0;
        if (strcmp(argv[i], "--trace") == 0) o->trace = true;
        else if (strcmp(argv[i], "--hashes") == 0) o->hashes = true;
        else if (strcmp(argv[i], "--stats") == 0) o->stats = true;
        else if (strcmp(argv[i], "--until-failure") == 0) o->until_failure = true;
        else if (strcmp(argv[i], "--planted") == 0 && *value) o->planted = argv[++i];
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
    if (o->stats) counts_print(&r.counts);
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
    struct counts counts;
};

static void result_count(struct totals *t, const struct options *o, uint64_t seed, const struct result *r, int status)
{
    t->seeds++;
    t->steps += r->steps;
    t->messages += r->messages;
    t->crashes += r->crashes;
    counts_add(&t->counts, &r->counts);
    if (r->done && status == 0) {
        if (o->hashes) printf("seed %" PRIu64 " hash %016" PRIx64 "\n", seed, r->hash);
        return;
    }
    t->failed++;
    const char *why = r->why[0] ? r->why : WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "the sanitizer's report";
    printf("seed %" PRIu64 " FAILED: %s\n  replay: %s --seed %" PRIu64 " --trace\n", seed, why, disk_program, seed);
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
        if (o->until_failure && t.failed && t.seeds == started) break;
        if (started < num && started - t.seeds < o->jobs && !(o->until_failure && t.failed)) {
            children[started] = child_start(o->first + started, &results[started]);
            started++;
            continue;
        }
        int status;
        pid_t pid = wait(&status);
        ASSERT(pid > 0);
        for (size_t i = 0; i < started; i++) {
            if (children[i] != pid) continue;
            children[i] = 0; /* the number may be given to another child */
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
    if (o->stats) counts_print(&t.counts);
    unsigned missing = t.seeds >= COUNTED_SEEDS_MIN ? counts_missing(&t.counts) : 0;
    if (missing) printf("sim: FAILED: %u of what the scenarios and faults are about never happened\n", missing);
    return t.failed || missing ? 1 : 0;
}

static void line_dropped(struct slice line) {}

int main(int argc, char **argv)
{
    static const struct log_sink nowhere = {.line = line_dropped};
    struct options o;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return help();
    if (!options_parse(&o, argc, argv)) return usage();
    if (o.planted && strcmp(o.planted, "list") == 0) {
        planted_list();
        return 0;
    }
    if (o.planted && !plant(o.planted)) return 2;
    if (!o.trace) log_set_sink(&nowhere); /* what the operator does has its line whatever the level */
    mallopt(M_MMAP_THRESHOLD, 64 << 20); /* big blocks come and go with every gateway */
    log_set_level(LOG_ERROR);
    atomic_store(&log_level_now, o.trace ? (int)LOG_INFO : (int)LOG_ERROR + 1);
    return o.single ? run_single(&o) : run_many(&o);
}
