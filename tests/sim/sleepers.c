#include "sleepers.h"

#include <inttypes.h>

#include "../../src/core/core.h"
#include "gateways.h"
#include "homes.h"
#include "inboxes.h"
#include "scenario.h"
#include "store_watch.h"
#include "world.h"

static void check_wakes(void);
static void check_homes(void);

void sleepers_check(void)
{
    check_wakes();
    check_homes();
}

/* check_wakes: who sleeps has nothing to do. The work is published before the wake-up is sent, and the only seam
 * between the two is in the sending, so at any other time a sleeper with work is one that nobody will wake. */
static void check_wakes(void)
{
    if (actors_signalling()) return;
    bool settled = true; /* nobody who moves entries along is awake */
    for (unsigned actor = 0; actor < actors_len(); actor++)
        if (actor < PIPELINE_ACTORS || actor >= gateways.first_core_actor)
            settled &= actor_sleeping(actor) && !actor_wake_coming(actor);
    for (unsigned i = 0; i < gateways.now.num_cores; i++) {
        struct core *core = gateways.now.cores[i];
        if (!actor_sleeping(gateways.first_core_actor + i)) continue;
        bool woken = actor_runnable(gateways.first_core_actor + i) || actor_wake_coming(gateways.first_core_actor + i);
        CHECK(!commit_pollable(core->commit) || woken, "core %u sleeps over a completed commit", i);
        CHECK(!read_pollable(core->reader) || woken, "core %u sleeps over a finished read", i);
        for (unsigned from = 0; from < gateways.now.num_cores; from++)
            CHECK(from == i || spsc_empty(core->in[from]) || woken, "core %u sleeps over mail of core %u", i, from);
        for (unsigned to = 0; to < gateways.now.num_cores; to++) {
            const struct outbox *o = &core->out[to];
            CHECK(to == i || !o->parked.len || spsc_depth(o->ring) > o->ring->mask || woken,
                  "core %u sleeps over mail that core %u has room for", i, to);
        }
        CHECK(!settled || scenario.disk_failed || commit_pending(core->commit) == 0,
              "core %u has entries that nobody moves on", i);
    }
    if (!settled || scenario.disk_failed) return;
    if (!commit_all_durable(gateways.now.commit)) { /* of class fast, which nobody waits for: it has its time */
        CHECK(actor_wake_ns(SYNCER_ACTOR) <= world_now_ns() + FAST_SYNC_DELAY_MS * 1000000ull,
              "the syncer sleeps over what is written");
        return;
    }
    CHECK(store_unsynced() == 0, "what is written is not synced");
    uint64_t marked = 0, sequence = kv_sequence(gateways.kv);
    CHECK(mark_read(gateways.mark, &marked) == STATUS_OK && marked == sequence,
          "the store is durable up to %" PRIu64 ", and its mark says %" PRIu64, sequence, marked);
}

/* check_homes: when every core sleeps and no mail is under way, the homes know what there is. */
static void check_homes(void)
{
    for (unsigned i = 0; i < gateways.now.num_cores; i++) {
        struct core *core = gateways.now.cores[i];
        if (!actor_sleeping(gateways.first_core_actor + i)) return;
        for (unsigned other = 0; other < gateways.now.num_cores; other++)
            if (other != i && (!spsc_empty(core->in[other]) || core->out[other].parked.len)) return;
    }
    homes_check(&gateways.now);
    if (scenario.notified && !scenario.disk_failed) inboxes_check(&gateways.now);
}
