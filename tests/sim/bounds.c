#include "bounds.h"

#include <inttypes.h>

#include "../../src/chat/fanout.h"
#include "../../src/chat/far_walk.h"
#include "../../src/chat/room.h"
#include "../../src/chat/tail.h"
#include "../../src/core/core.h"
#include "counts.h"
#include "world.h"

/* or_default: gateway_cells has 0 for what limits.h says. */
static uint32_t or_default(uint32_t cells, uint32_t default_cells) { return cells ? cells : default_cells; }

static void check_mailboxes(const struct core *core)
{
    uint32_t cells = or_default(core->gateway->cells.mailbox, MAILBOX_CELLS);
    for (unsigned to = 0; to < core->num_cores; to++) {
        if (to == core->id) continue;
        const struct outbox *o = &core->out[to];
        CHECK(spsc_depth(o->ring) <= cells, "core %u has %u cells in a mailbox of %u", core->id, spsc_depth(o->ring),
              cells);
        if (o->parked.len) count_happened(COUNT_MAILBOX_PARKED);
    }
}

/* check_behind: those who wait for a page are in its list, and what is kept for them is within its bound. */
static void check_behind(const struct core *core)
{
    CHECK(tails_bytes(core) <= core->tail_bytes_max, "core %u keeps %zu bytes for who is behind, of %zu", core->id,
          tails_bytes(core), core->tail_bytes_max);
    if (core->num_sessions == 0)
        CHECK(list_empty(&core->replays_ready) && list_empty(&core->replays_waiting),
              "core %u has somebody who is behind, and no session", core->id);
}

/* check_held: news wait for a run that is being walked, here or on another core, and for nothing else. */
static void check_held(const struct core *core, const struct room *r)
{
    const struct local_room *l = local_room_find(core, r->tenant, r->number);
    CHECK(far_walk_behind(r) || (l && l->runs.len), "core %u holds news of room %" PRIu64 ", and no run is walked",
          core->id, r->number);
    if (far_walk_behind(r)) count_happened(COUNT_FAR_NEWS_WAITED);
}

static void count_walks(const struct core *core)
{
    if (fanout_walking(core)) count_happened(COUNT_ROOMS_WALKED);
    if (core->news_bytes) count_happened(COUNT_NEWS_WAITED);
    for (struct list *n = core->rooms_held.next; n != &core->rooms_held; n = n->next)
        check_held(core, CONTAINER_OF(n, struct room, dirty));
}

void bounds_check(const struct core *core)
{
    const struct gateway_cells *cells = &core->gateway->cells;
    size_t pending = commit_pending(core->commit), pending_max = or_default(cells->commit_pending, COMMIT_PENDING_MAX);
    CHECK(pending <= pending_max, "core %u has %zu entries that are not durable, of %zu", core->id, pending,
          pending_max);
    if (pending == pending_max) count_happened(COUNT_COMMITS_FULL);
    if (pending > or_default(cells->commit, COMMIT_RING_CELLS)) count_happened(COUNT_COMMITS_PARKED);
    if (read_waiting(core->reader) > or_default(cells->read, READ_RING_CELLS)) count_happened(COUNT_READS_PARKED);
    CHECK(core->pending_bytes == 0 || pending > 0, "core %u counts %zu bytes of no entry", core->id,
          core->pending_bytes);
    CHECK(core->pending_bytes <= COMMIT_PENDING_BYTES_MAX, "core %u has %zu bytes that are not durable", core->id,
          core->pending_bytes);
    count_walks(core);
    check_mailboxes(core);
    check_behind(core);
    bounds_check_net(core->net);
}

static void check_none(const struct core *core, const char *what, uint64_t num)
{
    CHECK(num == 0, "core %u counts %" PRIu64 " %s, and all is over", core->id, num, what);
}

void bounds_check_empty(const struct core *core)
{
    bounds_check(core);
    check_none(core, "connections", net_connections(core->net));
    check_none(core, "sessions", core->num_sessions);
    check_none(core, "subscriptions", core->num_subscriptions);
    check_none(core, "rooms with subscribers", core->local_rooms.len);
    check_none(core, "bytes in queues", net_stats(core->net)->queued_bytes);
    check_none(core, "bytes under assembly", net_stats(core->net)->assembly_bytes);
    check_none(core, "chunks of queues", net_stats(core->net)->queue_nodes);
    check_none(core, "bytes of answers to strangers", core->anyone.bytes);
    check_none(core, "bytes that strangers began", core->anyone.assembly);
    check_none(core, "bytes of frames", (uint64_t)atomic_load(&core->frames_bytes));
    check_none(core, "bytes that are not durable", core->pending_bytes);
    check_none(core, "bytes of news", core->news_bytes);
    check_none(core, "entries that are not durable", commit_pending(core->commit));
    check_none(core, "jobs of readers", read_waiting(core->reader));
    check_none(core, "connections of all cores", atomic_load(&core->gateway->open_connections));
    for (unsigned to = 0; to < core->num_cores; to++) check_none(core, "parked mails", core->out[to].parked.len);
}
