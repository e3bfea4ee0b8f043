#include "gateways.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/core/core.h"
#include "bounds.h"
#include "counts.h"
#include "fake_ring.h"
#include "faults.h"
#include "homes.h"
#include "notices.h"
#include "notifier.h"
#include "recorder.h"
#include "scenario.h"
#include "steward.h"
#include "store_watch.h"
#include "truth.h"
#include "world.h"

#define CORES_OF_A_RUN 4u
#define IDLE_TURNS_MAX 4u /* one that tells its sockets of the end, one that goes on with what that has begun */

struct gateways gateways;

/* own: what nobody else needs to know of them. */
static struct own {
    uint8_t pepper[32];
    struct store store;
    bool mark_fails;              /* its writes or syncs do */
    uint64_t epoch;               /* of the gateway that runs, or ran last */
    bool was_clean, may_be_clean; /* how it ended; with a disk that fails, one cannot know */
    uint64_t starts;              /* of the store since, those that failed or were cut off included */
} own;

/* disk_failure: what the disk refuses from some moment on. */
enum disk_failure { FAIL_WRITES, FAIL_SYNCS, FAIL_MARK_WRITES, FAIL_MARK_SYNCS, DISK_FAILURES };

static void disk_fail(enum disk_failure what, unsigned others);
static void disk_mend(void);
static void check_bad_mark(void);
static bool start_badly(void);
static enum status gateway_begin(char *why, size_t why_len);
static enum status store_begin(char *why, size_t why_len);
static void check_epoch(void);
static void cores_narrow(void);
static void *core_body(void *argument);
static void power_or_kill(void);
static size_t rows_lost(void);
static bool all_gone(void);
static void cores_settle(void);

void gateways_open(void)
{
    gateways.kv = watched_store_open();
    gateways.mark = mark_fake_new();
    random_fill(world_gateway_random(), own.pepper, sizeof own.pepper);
    config_defaults(&gateways.config);
    gateways.config.process_readers = 1 + world_below(2);
    gateways.config.limits_connections = 512; /* more than there are links, of which some wait to be closed */
    if (scenario.sluggish) gateways.config.limits_send_queue = 64u << 10;
    if (scenario.narrow) gateways.config.limits_send_queue = 512 + world_below(8192);
    gateways.config.net_zero_copy = world_chance(2) ? CONFIG_ZERO_COPY_AUTO : CONFIG_ZERO_COPY_ON;
    if (world_chance(8)) gateways.config.net_zero_copy = CONFIG_ZERO_COPY_OFF;
    struct config_error error;
    ASSERT(config_set(&gateways.config, "admin.master_key=" SCENARIO_MASTER_KEY, &error) == STATUS_OK);
}

void gateways_close(void)
{
    watched_store_end();
    mark_close(gateways.mark);
    config_free(&gateways.config);
}

/* --- a start --------------------------------------------------------------------------------------------------- */

void gateways_start(void)
{
    char why[512] = "";
    disk_mend();
    watched_store_fail_reads(0);
    bool opened = false;
    if (faults_bad_start()) {
        check_bad_mark();
        opened = start_badly();
    }
    CHECK(opened || gateway_begin(why, sizeof why) == STATUS_OK, "the gateway does not start again: %s", why);
    check_epoch();
    cores_narrow();
    scenario.num_cores = gateways.now.num_cores;
    scenario.disk_failed = false;
    scenario.gateway++;
    CHECK(scenario.gateway < GATEWAYS_MAX, "more gateways than a run may have");
    scenario.epochs[scenario.gateway] = own.epoch;
    truth_epoch(own.epoch);
    notices_start();
    CHECK(commit_start_threads(gateways.now.commit) == STATUS_OK, "the writer does not start");
    CHECK(readers_start_threads(gateways.now.readers) == STATUS_OK, "the readers do not start");
    gateways.first_core_actor = actors_len();
    for (unsigned i = 0; i < gateways.now.num_cores; i++) {
        char name[16];
        snprintf(name, sizeof name, "core/%u", i % CORES_OF_A_RUN);
        actor_new(name, core_body, gateways.now.cores[i]);
    }
    world_trace("gateway started with %u cores in epoch %" PRIu64, gateways.now.num_cores, gateways.now.epoch);
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
    struct bad_mark bad = {{&ops}, STATUS_OK, kv_sequence(gateways.kv) + 1 + world_below(9)};
    uint64_t marked;
    if (mark_read(gateways.mark, &marked) != STATUS_OK) return; /* a first start made none */
    if (world_chance(2)) bad.status = world_chance(2) ? STATUS_CORRUPT : STATUS_INVALID;
    count_happened(bad.status == STATUS_OK ? COUNT_START_MARK_AHEAD : COUNT_START_MARK_DAMAGED);
    size_t unsynced = store_unsynced();
    enum status s = store_open_with(&store, gateways.kv, &bad.mark, world_gateway_random(), why, sizeof why);
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
    bool opened = gateway_begin(why, sizeof why) == STATUS_OK;
    disk_mend();
    watched_store_fail_reads(0);
    if (opened) return true;
    count_happened(COUNT_START_FAILS);
    world_trace("a start fails: %s", why);
    CHECK(why[0], "a start fails and does not say why");
    if (world_chance(2)) power_or_kill();
    return false;
}

static enum status gateway_begin(char *why, size_t why_len)
{
    enum status s = store_begin(why, why_len);
    if (s != STATUS_OK) return s;
    memcpy(own.store.pepper, own.pepper, sizeof own.pepper); /* a file of its own in production, which stays */
    gateways.now = (struct gateway){.config = &gateways.config,
                                   .clock = world_clock(),
                                   .random = world_gateway_random(),
                                   .park_ops = &world_park_ops,
                                   .store = &own.store,
                                   .num_cores = 1 + (unsigned)world_below(world_chance(4) ? CORES_OF_A_RUN : 3)};
    steward_serve(&gateways.now, &gateways.config);
    faults_start(&gateways.now);
    s = gateway_open(&gateways.now, why, why_len);
    if (s == STATUS_OK) return s;
    gateway_close(&gateways.now);
    store_close(&own.store, true);
    return s;
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
    o->status = store_open_with(&own.store, gateways.kv, gateways.mark, world_gateway_random(), o->why, sizeof o->why);
    o->done = true;
    return NULL;
}

/* store_begin opens the store; a start in so many is cut off at one of its reads and writes, and made again. Not the
 * very first: a store that holds something and has no mark yet begins a new history (storage/store.h). */
static enum status store_begin(char *why, size_t why_len)
{
    static struct opening opening; /* an actor that was dropped leaves it alone */
    unsigned preempt_of = world_preemption();
    world_set_preemption(1);
    for (bool crashes = own.epoch && world_chance(4);; crashes = false) {
        opening = (struct opening){.done = false};
        mark_fake_hold(gateways.mark);
        own.starts++;
        unsigned actor = actor_new("opening", opening_body, &opening);
        while (!actor_ended(actor) && !(crashes && world_chance(8))) actor_resume(actor);
        actors_drop();
        if (opening.done) break;
        power_or_kill();
        count_happened(COUNT_STARTS_CRASHED);
    }
    world_set_preemption(preempt_of);
    if (opening.status != STATUS_OK) mark_close(gateways.mark);
    snprintf(why, why_len, "%s", opening.why);
    return opening.status;
}

/* check_epoch: it rises with every start behind an end that was not clean, and with no other but for starts that came
 * to nothing. What nobody was served from may begin anew: a first start that failed left no mark. */
static void check_epoch(void)
{
    uint64_t epoch = own.store.epoch, least = own.epoch + !(own.was_clean || own.may_be_clean);
    uint64_t most = own.epoch + !own.was_clean + own.starts - 1;
    CHECK(epoch >= least && (own.epoch == 0 || epoch <= most),
          "epoch %" PRIu64 " behind %" PRIu64 ", %s, and %" PRIu64 " starts", epoch, own.epoch,
          own.was_clean ? "a clean end" : "a crash", own.starts);
    own.epoch = epoch;
    own.was_clean = own.may_be_clean = false;
    own.starts = 0;
}

/* cores_narrow gives the cores bounds that the little which is said in a run reaches. */
static void cores_narrow(void)
{
    bool sliced = world_chance(2); /* the rooms are small, so the slices are */
    for (unsigned i = 0; sliced && i < gateways.now.num_cores; i++) {
        gateways.now.cores[i]->fanout_slice = 1 + (uint32_t)world_below(3);
        gateways.now.cores[i]->fanout_runs_max = 1 + (uint32_t)world_below(3);
    }
    for (unsigned i = 0; scenario.crowded && i < gateways.now.num_cores; i++) {
        gateways.now.cores[i]->users_loaded_max = 1 + (unsigned)world_below(3);
        gateways.now.cores[i]->user_waiting_max = 1 + (unsigned)world_below(4);
    }
    for (unsigned i = 0; scenario.forgetful && i < gateways.now.num_cores; i++) {
        gateways.now.cores[i]->idempotency.window_max = (uint32_t)world_below(8);
        gateways.now.cores[i]->idempotency.run_events = 4 + (uint32_t)world_below(16);
    }
    for (unsigned i = 0; i < gateways.now.num_cores; i++) {
        size_t *tail_bytes_max = &gateways.now.cores[i]->tail_bytes_max;
        if (scenario.forgetful_tails) *tail_bytes_max = (1 + world_below(8)) * TAIL_BLOCK_BYTES_MIN;
        if (scenario.no_tails) *tail_bytes_max = 0;
    }
    for (unsigned i = 0; i < gateways.now.num_cores; i++) notifier_bound(gateways.now.cores[i]);
}

/* --- a core's thread ------------------------------------------------------------------------------------------- */

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

/* --- the disk -------------------------------------------------------------------------------------------------- */

void gateways_fail_disk(void)
{
    scenario.disk_failed = true;
    scenario.failed_gateways |= 1u << scenario.gateway;
    disk_fail((enum disk_failure)world_below(DISK_FAILURES), 0);
}

/* disk_fail: of the store, `others` of those operations still succeed. */
static void disk_fail(enum disk_failure what, unsigned others)
{
    static const char *const names[DISK_FAILURES] = {"writes", "syncs", "the mark's writes", "the mark's syncs"};
    world_trace("the disk fails: %s", names[what]);
    watched_store_fail_at(what == FAIL_WRITES, what == FAIL_SYNCS, others);
    mark_fake_fail(gateways.mark, what == FAIL_MARK_WRITES, what == FAIL_MARK_SYNCS);
    own.mark_fails = what >= FAIL_MARK_WRITES;
}

static void disk_mend(void)
{
    watched_store_fail(false, false);
    mark_fake_fail(gateways.mark, false, false);
    own.mark_fails = false;
}

/* --- an end ---------------------------------------------------------------------------------------------------- */

void gateways_crash(void)
{
    if (own.mark_fails && commit_poisoned(gateways.now.commit)) count_happened(COUNT_MARK_FAILS);
    rings_crash();
    actors_drop();
    power_or_kill();
    gateways.crashes++;
}

static void power_or_kill(void)
{
    bool power = !world_chance(3);
    scenario.power_losses += power;
    size_t before = rows_lost();
    recorder_crash(power);
    watched_store_crash(power);
    count_more(COUNT_FAST_LOST, rows_lost() - before);
    mark_fake_crash(gateways.mark, power && world_chance(2));
    count_happened(power ? COUNT_POWER_LOSSES : COUNT_KILLS);
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

void gateways_stop(bool at_end)
{
    bool empty = at_end || all_gone(), poisoned = commit_poisoned(gateways.now.commit);
    unsigned preempt_of = world_preemption();
    scenario.num_cores = 0;
    world_set_preemption(0);
    world_set_late_wakes(0); /* time stands still while the cores settle */
    atomic_store(&gateways.now.stop, true);
    for (unsigned i = 0; i < gateways.now.num_cores; i++) {
        park_wake(&gateways.now.cores[i]->park);
        CHECK(__wrap_pthread_join(gateways.first_core_actor + i, NULL) == 0, "a core does not end");
    }
    cores_settle();
    if (empty && !poisoned) {
        world_advance(PRESENCE_GRACE_MS * 1000000ull);
        cores_settle();
        cores_settle(); /* who is offline was told in the turns before */
        homes_check_empty(&gateways.now);
        for (unsigned i = 0; i < gateways.now.num_cores; i++) bounds_check_empty(gateways.now.cores[i]);
    }
    commit_stop_threads(gateways.now.commit);
    readers_stop_threads(gateways.now.readers);
    gateway_close(&gateways.now);
    rings_crash(); /* connections that nobody has accepted end with the listeners */
    actors_drop();
    store_close(&own.store, !poisoned);
    own.may_be_clean = !poisoned;
    own.was_clean = !poisoned && !scenario.disk_failed;
    world_set_preemption(preempt_of);
    if (!at_end) count_happened(COUNT_DRAINS);
    world_trace("gateway stopped in good order%s", empty ? "" : ", with connections open");
}

/* all_gone: no connection is left, also none whose last completion is held back. */
static bool all_gone(void)
{
    uint32_t left = links_open_at_gateway();
    for (unsigned i = 0; i < gateways.now.num_cores; i++) left += net_connections(gateways.now.cores[i]->net);
    return left == 0;
}

/* cores_settle turns the cores, which have left their loops, until nothing is on its way: what a turn without work has
 * submitted, or moved up in front of a mailbox, is work for the next one. */
static void cores_settle(void)
{
    for (unsigned idle = 0; idle < IDLE_TURNS_MAX; idle++) {
        bool busy = false;
        for (unsigned i = 0; i < gateways.now.num_cores; i++) {
            struct core *core = gateways.now.cores[i];
            busy |= core_turn(core, false) || commit_pending(core->commit) > 0;
            for (unsigned to = 0; to < gateways.now.num_cores; to++) /* what a timer has sent makes no turn busy */
                busy |= to != i && (core->out[to].parked.len || spsc_depth(core->out[to].ring));
        }
        for (unsigned actor = 0; actor < gateways.first_core_actor; actor++)
            if (actor_runnable(actor)) actor_resume(actor);
        busy |= rings_have_arrivals(); /* also behind the last look at them */
        if (busy) idle = 0;
    }
}
