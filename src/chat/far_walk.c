#include "far_walk.h"

#include <stdlib.h>

#include "../../net/frame.h"
#include "../base/assert.h"
#include "../base/planted.h"
#include "../core/notice.h"
#include "fanout.h"
#include "room.h"

static uint32_t run_weight(const struct core *core, uint32_t len);
static void tell_home(struct core *core, struct local_room *l, uint64_t weight);

/* far_walks: of a room that some other core walks; allocated when the first one says so. */
struct far_walks {
    uint64_t mask;      /* cores that have said so */
    uint64_t through[]; /* by core: the sum of the weights up to which it has come */
};

/* --- at the home ------------------------------------------------------------------------------------------------- */

void far_walk_sent(const struct core *core, struct room *r, uint32_t len)
{
    r->sent_weight += run_weight(core, len);
}

/* run_weight: FANOUT_RUNS_MAX short runs fill the window, or half as many long ones, or FANOUT_QUEUE_PART of a socket's
 * queue: what is_walked_enough asks for at home. */
static uint32_t run_weight(const struct core *core, uint32_t len)
{
    uint32_t least = FANOUT_RUNS_BYTES / core->fanout_runs_max;
    uint32_t weight = len < least ? least : len < 2 * least ? len : 2 * least;
    uint64_t of_queue = (uint64_t)len * FANOUT_RUNS_BYTES / (core->queue_bytes_max / FANOUT_QUEUE_PART);
    return of_queue > weight ? (uint32_t)of_queue : weight;
}

bool far_walk_behind(const struct room *r)
{
    if (LIKELY(!r->far) || PLANTED(far_walk_ignored)) return false;
    for (uint64_t cores = r->far->mask; cores; cores &= cores - 1)
        if (r->sent_weight - r->far->through[__builtin_ctzll(cores)] >= FANOUT_RUNS_BYTES) return true;
    return false;
}

/* The first word of a core that has not seen a run of this room yet is 0: then it is taken to have got what was sent,
 * until it says more. So is one whose sum is of the time before the room was unloaded and loaded again: a run of then
 * was still on its way to that core when its first subscriber of now came. */
void far_walk_on_notice(struct core *core, struct notice *n)
{
    ASSERT(n->kind == NOTICE_ROOM_WALKED);
    struct room *r = room_find(core, n->tenant, n->room);
    uint64_t bit = 1ull << n->from_core;
    if (!r || !(r->core_mask & bit)) return;
    if (!r->far) {
        r->far = calloc(1, sizeof *r->far + core->num_cores * sizeof *r->far->through);
        ASSERT(r->far != NULL);
    }
    r->far->mask |= bit;
    bool of_now = n->seq && n->seq <= r->sent_weight;
    r->far->through[n->from_core] = of_now ? n->seq : r->sent_weight;
    fanout_look_again(core, r);
}

void far_walk_left(struct room *r, unsigned core)
{
    if (!r->far) return;
    r->far->mask &= ~(1ull << core);
    if (r->far->mask == 0) far_walk_free(r);
}

void far_walk_free(struct room *r)
{
    free(r->far);
    r->far = NULL;
}

/* --- at a core with subscribers ---------------------------------------------------------------------------------- */

void far_walk_begun(struct core *core, struct local_room *l)
{
    if (l->tells_home || gateway_room_home(core->gateway, l->tenant, l->number) == core->id) return;
    l->tells_home = true;
    tell_home(core, l, l->through_weight);
}

void far_walk_through(struct core *core, struct local_room *l, struct frame *f)
{
    l->through_weight = frame_core_of(f, core->id)->weight;
    if (LIKELY(!l->tells_home)) return;
    if (l->through_weight - l->told_weight < FANOUT_RUNS_BYTES / 2 || PLANTED(far_walk_untold)) return;
    tell_home(core, l, l->through_weight);
}

static void tell_home(struct core *core, struct local_room *l, uint64_t weight)
{
    static const struct slice none;
    l->told_weight = weight;
    notice_post(core, gateway_room_home(core->gateway, l->tenant, l->number),
                notice_new(core, NOTICE_ROOM_WALKED, l->tenant, 0, none, l->number, weight, none));
}
