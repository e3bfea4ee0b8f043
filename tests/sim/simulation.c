#include "simulation.h"

#include <inttypes.h>
#include <stdlib.h>

#include "client.h"
#include "counts.h"
#include "fake_ring.h"
#include "faults.h"
#include "gateways.h"
#include "notifier.h"
#include "operator.h"
#include "passer.h"
#include "recorder.h"
#include "scenario.h"
#include "scheduler.h"
#include "steward.h"
#include "store_watch.h"
#include "truth.h"
#include "world.h"

#define CRASHES_MAX 4u
#define HEALING_STEPS_MAX 100000u
#define HEALING_NS_MAX 200000000000u /* simulated: beyond the longest timeout of a connection */

/* plan: what comes to pass whatever the steps are; for the rest see faults_plan and scenario_plan. */
static struct plan {
    uint64_t chaos_steps;
    uint64_t crash_at[CRASHES_MAX];      /* steps */
    uint64_t disk_fails_at[CRASHES_MAX]; /* before the crash of the same place; 0: never */
    unsigned num_crashes;
    uint64_t weeks_pass_at; /* from that step on, as soon as they may; 0: never, or they have */
} plan;

static void plan_make(void);
static void steps_before(void);
static void weeks_pass(void);
static void restart_drained(void);
static void heal(void);
static void links_end(void);

struct outcome simulation_run(uint64_t seed, bool trace)
{
    world_begin(seed, trace);
    plan_make();
    gateways_open();
    recorder_open();
    notifiers_open(&gateways.config);
    clients_open();
    operator_open();
    truth_begin();
    gateways_start();
    while (scheduler_steps() < plan.chaos_steps) {
        steps_before();
        scheduler_step();
    }
    heal();
    uint64_t steps = scheduler_steps();
    links_end();
    gateways_stop(true);
    for (unsigned i = 0; i < scenario.num_clients; i++) client_check_end(i);
    unsigned known = scenario_num_known(), unknown = scenario_num_unknown();
    CHECK(store_rooms() >= known && store_rooms() <= known + unknown, "%u rooms were made instead of %u", store_rooms(),
          known);
    store_check_end();
    recorder_judge(gateways.kv);
    recorder_close();
    operator_close();
    clients_close();
    passers_close();
    notifiers_close();
    gateways_close();
    world_trace("done after %" PRIu64 " steps, %u crashes, %u messages", steps, gateways.crashes, clients_messages());
    return (struct outcome){
        .hash = world_hash(), .steps = steps, .messages = clients_messages(), .crashes = gateways.crashes};
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void plan_make(void)
{
    plan = (struct plan){.chaos_steps = 4000 + world_below(16000), .num_crashes = (unsigned)world_below(CRASHES_MAX)};
    bool soon = world_chance(4); /* one after the other, while the start before is still under way */
    for (unsigned i = 0; i < plan.num_crashes; i++)
        plan.crash_at[i] = soon && i ? plan.crash_at[i - 1] + world_below(60) : 1 + world_below(plan.chaos_steps);
    qsort(plan.crash_at, plan.num_crashes, sizeof plan.crash_at[0], by_size);
    for (unsigned i = 0; i < plan.num_crashes; i++) {
        uint64_t before = 20 + world_below(300);
        if (world_chance(4) && plan.crash_at[i] > before) plan.disk_fails_at[i] = plan.crash_at[i] - before;
    }
    if (world_chance(12)) plan.weeks_pass_at = 1 + world_below(plan.chaos_steps);
    static const unsigned rates[] = {0, 4, 16, 64};
    world_set_preemption(rates[world_below(4)]);
    faults_plan();
    scenario_plan(plan.chaos_steps);
    scenario.weeks_pass = plan.weeks_pass_at > 0;
    if (scenario.weeks_pass) scenario.notified = false; /* the keys of creations would be forgotten */
}

/* steps_before does what the plan has for this step. */
static void steps_before(void)
{
    unsigned next = gateways.crashes;
    if (plan.weeks_pass_at && scheduler_steps() >= plan.weeks_pass_at && !scenario_may_come_twice()) weeks_pass();
    restart_drained();
    if (next >= plan.num_crashes) return;
    if (scheduler_steps() == plan.disk_fails_at[next] && scheduler_steps()) gateways_fail_disk();
    if (scheduler_steps() >= plan.crash_at[next]) {
        gateways_crash();
        gateways_start();
    }
}

/* weeks_pass: no socket lives so long, and no message's id is kept so long. */
static void weeks_pass(void)
{
    plan.weeks_pass_at = 0;
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
    gateways_stop(false);
    gateways_start();
}

/* heal: no more faults, and steps until nobody waits for anything. */
static void heal(void)
{
    faults_end(&gateways.now);
    /* One that was asked to stop and refuses all clients meanwhile would be waited for as well. */
    if (scenario.disk_failed || scenario.draining_gateways >> scenario.gateway & 1) {
        gateways_crash();
        gateways_start();
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
        scheduler_step();
    }
}

/* links_end: the last client goes, and steps follow until the gateway has closed every connection. */
static void links_end(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) client_leave(i);
    operator_leave();
    passers_leave();
    notifiers_leave();
    scenario.num_cores = 0; /* nobody comes back */
    for (unsigned n = 0; links_open_at_gateway() || rings_reading(); n++) {
        CHECK(n < HEALING_STEPS_MAX, "%u connections are never closed", links_open_at_gateway());
        scheduler_step();
    }
}
