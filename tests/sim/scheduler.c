#include "scheduler.h"

#include "client.h"
#include "fake_ring.h"
#include "faults.h"
#include "gateways.h"
#include "notifier.h"
#include "operator.h"
#include "passer.h"
#include "scenario.h"
#include "sleepers.h"
#include "steward.h"
#include "world.h"

#define JUMP_NS 100000000u /* several of them make COMMIT_AGE_MAX_MS */

static struct scheduler {
    uint64_t steps;         /* that have been taken */
    uint64_t readers_stand; /* until that step the disk reads nothing */
    uint64_t syncer_stands; /* until that step it syncs nothing: what fast rooms have shown is lost with the power */
} scheduler;

/* choice: who may go on in this step, and how likely beside the others. */
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

static unsigned choices_make(struct choice *choices);
static void choose(const struct choice *choices, unsigned num);
static void pass_time(void);
static void pass_to_next_wake(void);
static uint64_t next_wake_ns(void);
static void advance(uint64_t ns);

uint64_t scheduler_steps(void) { return scheduler.steps; }

void scheduler_step(void)
{
    struct choice choices[ACTORS_MAX + CLIENTS_MAX + PASSERS_MAX + NOTIFIERS_MAX + LINKS_MAX + 3];
    links_sweep();
    faults_step(&gateways.now);
    sleepers_check();
    unsigned num = choices_make(choices);
    if (num) choose(choices, num);
    else pass_to_next_wake();
    scheduler.steps++;
}

/* stands: the disk has the actor wait, though it could run. */
static bool stands(unsigned actor)
{
    bool reader = actor >= PIPELINE_ACTORS && actor < gateways.first_core_actor;
    if (scenario.healing) return false;
    return (reader && scheduler.steps < scheduler.readers_stand) ||
           (actor == SYNCER_ACTOR && scheduler.steps < scheduler.syncer_stands);
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

/* pass_time: mostly as long as a request takes; now and then beyond the pings. */
static void pass_time(void)
{
    uint64_t ns = world_below(3000000);
    if (world_chance(100)) ns = world_below(300000000);
    if (scenario.crowded && world_chance(8)) { /* users go offline, and are evicted */
        if (world_chance(2)) passers_change();
        if (world_chance(2)) scheduler.readers_stand = scheduler.steps + world_below(200);
        ns = 2000000000u + world_below(5000000000u);
    }
    if (scenario.tenants[0].fast && world_chance(20)) {
        scheduler.syncer_stands = scheduler.steps + world_below(1000);
        scenario.late_gateways |= 1u << scenario.gateway;
    }
    if (scenario.notified && world_chance(20)) /* attempts fall due, and what waits expires */
        ns = world_below(world_chance(2) ? 400000000u : 4000000000u);
    if (world_chance(2000)) ns = 20000000000u + world_below(30000000000u);
    advance(ns);
    world_note(1, ns);
}

/* pass_to_next_wake: nobody can go on, so time passes until somebody can. */
static void pass_to_next_wake(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) client_check_stall(i);
    notifiers_check_stall();
    uint64_t next = next_wake_ns();
    CHECK(next != WORLD_NEVER && next >= world_now_ns(), "nothing can run, and nothing will");
    advance(next - world_now_ns());
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

static void advance(uint64_t ns)
{
    if (ns >= JUMP_NS) scenario.late_gateways |= 1u << scenario.gateway;
    world_advance(ns);
}
