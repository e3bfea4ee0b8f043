#include "replay.h"

#include <stdlib.h>
#include <string.h>

#include "../api/admission.h"
#include "../api/pages.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "history.h"
#include "tail.h"

/* page_read: one page of a room's log on its way through a reader, for all sessions that want it. */
struct page_read {
    struct read_job job;
    struct list of_core; /* core->page_reads */
    struct list waiters; /* struct session_aside.waiting, whoever asked first at the front */
    uint32_t tenant;
    uint64_t room, from, to;
    enum status status;
    uint32_t num;
    struct frame *frame; /* NULL: it could not be read */
};

static void session_feed(struct core *core, struct session *s, bool first);
static bool part_send(struct core *core, struct session *s, struct sub *sub, const struct tail_part *part);
static void page_want(struct core *core, struct session *s, const struct sub *sub);
static void page_done(void *context, struct read_job *job);

void replay_begin(struct core *core, struct sub *sub, uint64_t from)
{
    ASSERT(from <= sub->room->seen_head);
    sub->state = SUB_REPLAY;
    sub->replay_next = from;
    core_count(core, METRIC_REPLAYS, 1);
    struct session *s = sub->session;
    struct session_aside *aside = session_aside(s);
    struct replaying *r = malloc(sizeof *r);
    ASSERT(r != NULL);
    *r = (struct replaying){.sub = sub};
    list_push(&aside->replays, &r->of_session);
    if (!s->replay_open && !list_linked(&aside->waiting)) list_push(&core->replays_ready, &aside->waiting);
}

/* replay_end: those whose turn it is stand at the front, and a session that ends begins with the newest, at the
 * back. */
void replay_end(struct sub *sub)
{
    if (sub->state != SUB_REPLAY) return;
    struct list *all = &sub->session->aside->replays;
    for (struct list *front = all->next, *back = all->prev;; front = front->next, back = back->prev) {
        ASSERT(front != all);
        struct replaying *first = CONTAINER_OF(front, struct replaying, of_session);
        struct replaying *last = CONTAINER_OF(back, struct replaying, of_session);
        if (first->sub != sub && last->sub != sub) continue;
        struct replaying *found = first->sub == sub ? first : last;
        list_remove(&found->of_session);
        free(found);
        return;
    }
}

void replay_go_on(struct core *core, struct session *s)
{
    bool waits = s->aside && list_linked(&s->aside->waiting);
    if (!s->replay_open && !waits) session_feed(core, s, false);
}

/* waiter_feed feeds a session that has just been taken out of a list; it may go to the end of it again. */
static void waiter_feed(struct core *core, struct list *waiting, bool first)
{
    struct session *s = CONTAINER_OF(waiting, struct session_aside, waiting)->session;
    session_feed(core, s, first);
    session_tidy(s);
}

/* replays_retry lets those try again that had to wait until their tenant's answers fit: some of them, in turns. */
static void replays_retry(struct core *core)
{
    if (list_empty(&core->replays_waiting) || core->now_ns < core->replays_due_ns) return;
    core->replays_due_ns = core->now_ns + REPLAYS_RETRY_MS * 1000000ull;
    struct list *last = core->replays_waiting.prev;
    for (unsigned i = 0; i < REPLAYS_RETRIED_MAX; i++) {
        struct list *n = list_pop(&core->replays_waiting);
        bool was_last = n == last; /* it may be gone after this */
        waiter_feed(core, n, false);
        if (was_last) return;
    }
}

void replays_run(struct core *core)
{
    core->replay_credit = REPLAY_TURN_BYTES;
    replays_retry(core);
    while (core->replay_credit > 0 && !list_empty(&core->replays_ready))
        waiter_feed(core, list_pop(&core->replays_ready), false);
    tails_fit(core);
}

static uint64_t sub_goal(const struct sub *sub)
{
    if (PLANTED(undurable_replay)) return UINT64_MAX;
    return sub->left ? sub->changed_seq : sub->room->seen_head;
}

/* answers_wait: may the tenant's sockets be given no more pages for now? */
static bool answers_wait(const struct core *core, const struct session *s)
{
    return UNLIKELY(core->guards & GUARD_REPLIES) && !answers_fit(core, s->key->tenant);
}

static void wait_for_memory(struct core *core, struct session *s)
{
    list_push(&core->replays_waiting, &s->aside->waiting);
}

/* session_feed gives a session what it may have now. The first of those for whom a page was read gets it whatever the
 * turn has left: a page that nobody gets would have been read for nothing, for ever. */
static void session_feed(struct core *core, struct session *s, bool first)
{
    if (!net_conn(core->net, net_ref(s->conn))) return; /* closing */
    for (; session_replays(s); first = false) {
        struct sub *sub = CONTAINER_OF(s->aside->replays.next, struct replaying, of_session)->sub;
        struct tail_part part;
        if (net_queued(s->conn) > REPLAY_BATCH_BYTES) {
            net_want_drain(core->net, s->conn);
            return;
        }
        if (core->replay_credit <= 0 && !first) {
            list_push(&core->replays_ready, &s->aside->waiting);
            return;
        }
        if (!tail_find(&part, core, sub->room->tenant, sub->room->number, sub->replay_next, sub_goal(sub))) {
            page_want(core, s, sub);
            return;
        }
        if (part.kind == TAIL_PAGES && answers_wait(core, s)) {
            wait_for_memory(core, s);
            return;
        }
        if (!part_send(core, s, sub, &part)) return;
    }
}

/* part_send is false when the socket takes no more: it is closing, or its queue drains first. */
static bool part_send(struct core *core, struct session *s, struct sub *sub, const struct tail_part *part)
{
    struct frame *f = tail_frame(core, part);
    enum status sent = net_send(core->net, s->conn, f, part->kind == TAIL_RUNS ? CONN_DURABLE : CONN_REPLAY);
    if (sent == STATUS_FULL) net_want_drain(core->net, s->conn);
    if (sent != STATUS_OK) return false;
    core->replay_credit -= (int64_t)f->len + REPLAY_SEND_BYTES;
    core_count(core, METRIC_DELIVERIES, part->last - part->first + 1);
    core_count(core, METRIC_REPLAY_PARTS, 1);
    sub->replay_next = part->last + 1;
    if (sub_ends(sub) && !PLANTED(caught_up_beyond_leave))
        session_unsubscribe(core, sub);
    else if (sub->replay_next > sub->room->seen_head)
        sub_go_live(sub);
    else {
        list_push(&s->aside->replays, list_pop(&s->aside->replays)); /* the others have their turn */
    }
    return true;
}

/* --- pages from the store ---------------------------------------------------------------------------------------- */

static size_t page_bound(const struct core *core)
{
    return pages_bound(core, REPLAY_BATCH_EVENTS, REPLAY_BATCH_BYTES);
}

static void page_run(struct read_job *job, struct kv *kv)
{
    struct page_read *r = CONTAINER_OF(job, struct page_read, job);
    struct buf frames = {0};
    r->status = history_read(&frames, &r->num, kv, HISTORY_FRAMES, r->tenant, r->room, r->from, r->to,
                             REPLAY_BATCH_EVENTS, REPLAY_BATCH_BYTES);
    if (r->status == STATUS_OK) {
        r->frame = frame_new(1, (uint32_t)frames.len);
        memcpy(frame_data(r->frame), frames.data, frames.len);
    }
    buf_free(&frames);
}

/* page_under_way finds a read that begins at or before `seq` and may reach it. One that ends before, because its page
 * is full, is followed by another. */
static struct page_read *page_under_way(const struct core *core, const struct local_room *l, uint64_t seq)
{
    for (struct list *at = core->page_reads.next; at != &core->page_reads; at = at->next) {
        struct page_read *r = CONTAINER_OF(at, struct page_read, of_core);
        if (r->room == l->number && r->tenant == l->tenant && r->from <= seq && seq <= r->to) return r;
    }
    return NULL;
}

static struct page_read *page_ask(struct core *core, const struct sub *sub)
{
    const struct local_room *l = sub->room;
    uint64_t from = sub->replay_next, next = tail_next(core, l->tenant, l->number, from);
    struct page_read *r = calloc(1, sizeof *r);
    ASSERT(r != NULL);
    r->job = (struct read_job){.return_core = (uint16_t)core->id, .run = page_run, .done = page_done};
    r->tenant = l->tenant;
    r->room = l->number;
    r->from = from;
    r->to = from + REPLAY_BATCH_EVENTS - 1;
    if (r->to >= next) r->to = next - 1;
    if (r->to > l->seen_head && !PLANTED(undurable_replay)) r->to = l->seen_head;
    list_init(&r->waiters);
    list_push(&core->page_reads, &r->of_core);
    core_count(core, METRIC_REPLAY_READS, 1);
    read_submit(core->reader, &r->job);
    return r;
}

/* page_want: memory for one more page is reserved, among answers that wait for readers and among those under way. */
static void page_want(struct core *core, struct session *s, const struct sub *sub)
{
    struct page_read *r = page_under_way(core, sub->room, sub->replay_next);
    if (!r && answers_wait(core, s)) {
        wait_for_memory(core, s);
        return;
    }
    if (!r && !pages_reserve(core, PAGES_REPLAYED, page_bound(core))) {
        core->replays_want_pages = true;
        wait_for_memory(core, s);
        return;
    }
    if (!r) r = page_ask(core, sub);
    s->replay_open = true;
    list_push(&r->waiters, &s->aside->waiting);
}

/* page_given_back lets those go on that waited for it, in this turn. */
static void page_given_back(struct core *core)
{
    pages_release(core, PAGES_REPLAYED, page_bound(core));
    if (UNLIKELY(core->replays_want_pages)) core->replays_due_ns = core->now_ns;
    core->replays_want_pages = false;
}

/* page_failed ends the sockets that stand where nothing can be read; the order has no hole. */
static void page_failed(struct core *core, struct session *s, const struct page_read *r)
{
    const struct sub *sub = session_sub(s, r->room);
    if (!sub || sub->state != SUB_REPLAY || sub->replay_next < r->from || sub->replay_next > r->to) return;
    LOG(LOG_ERROR, "session", "replay_failed", LOG_U64("room", r->room), LOG_U64("from", r->from),
        LOG_STR("status", status_name(r->status)));
    net_ws_close(core->net, s->conn, 4200, "the history could not be read: reconnect and resume", true);
}

static void page_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct page_read *r = CONTAINER_OF(job, struct page_read, job);
    page_given_back(core);
    list_remove(&r->of_core);
    if (r->frame) {
        frame_ref(r->frame, core->id);
        tail_add_page(core, r->tenant, r->room, r->from, r->from + r->num - 1, r->frame);
    }
    bool first = true;
    for (struct list *n; (n = list_pop(&r->waiters)); first = false) {
        struct session *s = CONTAINER_OF(n, struct session_aside, waiting)->session;
        s->replay_open = false;
        if (!first && PLANTED(page_waiter_forgotten)) continue;
        if (!r->frame) page_failed(core, s, r);
        waiter_feed(core, n, first);
    }
    free(r);
}
