#include "bounds.h"

#include <inttypes.h>

#include "../../net/connection.h"
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

/* holds_of counts the sends without a copy that hold this frame, on all cores, and says which is the first. */
static unsigned holds_of(const struct gateway *g, const struct frame *f, const struct zero_copy_hold **first)
{
    unsigned num = 0;
    for (unsigned i = 0; i < g->num_cores; i++) {
        const struct zero_copy *z = &g->cores[i]->net->zero_copy;
        for (uint32_t at = 0; at < z->num_used; at++) {
            const struct zero_copy_hold *h = zero_copy_held(z, at);
            if (h && h->frame == f && num++ == 0) *first = h;
        }
    }
    return num;
}

/* check_held_frame: those sends are all that keeps it. */
static void check_held_frame(struct frame *f, unsigned holds)
{
    unsigned refs = 0, cores = 0;
    for (unsigned i = 0; i < f->num_cores; i++) {
        refs += f->cores[i].refs;
        cores += f->cores[i].refs > 0;
    }
    CHECK(refs == holds && atomic_load(&f->cores_left) == cores,
          "a frame has %u references and is held by %u cores; %u sends on %u cores have it, and all is over", refs,
          atomic_load(&f->cores_left), holds, cores);
}

/* bytes_being_sent: of the frames that are charged to this core, those that closed sockets still send from, because
 * their peers have not read all of it. However many sends hold a frame, it is charged once. */
static uint64_t bytes_being_sent(const struct core *core)
{
    const struct gateway *g = core->gateway;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < g->num_cores; i++) {
        const struct zero_copy *z = &g->cores[i]->net->zero_copy;
        for (uint32_t at = 0; at < z->num_used; at++) {
            const struct zero_copy_hold *h = zero_copy_held(z, at), *first = NULL;
            if (!h || h->frame->account != &core->frames_bytes) continue;
            unsigned holds = holds_of(g, h->frame, &first);
            if (h != first) continue;
            check_held_frame(h->frame, holds);
            bytes += h->frame->charged;
        }
    }
    return bytes;
}

/* check_frames: what is counted is what the ring may still read (check_zero_copies), and not a byte more. */
static void check_frames(const struct core *core)
{
    uint64_t counted = (uint64_t)atomic_load(&core->frames_bytes), sent = bytes_being_sent(core);
    CHECK(counted == sent, "core %u counts %" PRIu64 " bytes of frames where %" PRIu64 " are sent, and all is over",
          core->id, counted, sent);
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
    check_frames(core);
    check_none(core, "bytes that are not durable", core->pending_bytes);
    check_none(core, "bytes of news", core->news_bytes);
    check_none(core, "entries that are not durable", commit_pending(core->commit));
    check_none(core, "jobs of readers", read_waiting(core->reader));
    check_none(core, "connections of all cores", atomic_load(&core->gateway->open_connections));
    for (unsigned to = 0; to < core->num_cores; to++) check_none(core, "parked mails", core->out[to].parked.len);
}
