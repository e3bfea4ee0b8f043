#include "fanout.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../base/planted.h"
#include "../base/probe.h"
#include "../core/notice.h"
#include "event.h"
#include "far_walk.h"
#include "room.h"
#include "session.h"
#include "tail.h"

#define WALK_AHEAD 4u /* connections whose memory is asked for before the walk comes to them */

static bool is_walked_enough(const struct core *core, const struct room *r);
static void run_queue(struct core *core, struct local_room *l, struct frame *f);
static void runs_drop(struct core *core, struct local_room *l);
static void room_walk(struct core *core, struct local_room *l, uint32_t max);
static bool run_is_through(const struct local_room *l);
static uint32_t walk_to(struct core *core, const struct local_room *l, struct local_sub *s);
static void count_deliveries(struct core *core, const struct local_room *l, uint64_t delivered);

/* --- at the home --------------------------------------------------------------------------------------------------- */

bool fanout_publish_dirty(struct core *core)
{
    bool any = false;
    struct list waiting;
    list_init(&waiting);
    for (struct list *n; (n = list_pop(&core->rooms_dirty));) {
        struct room *r = CONTAINER_OF(n, struct room, dirty);
        if ((UNLIKELY(fanout_walking(core)) && is_walked_enough(core, r)) || far_walk_behind(r)) {
            list_push(&waiting, n);
            continue;
        }
        fanout_publish(core, r);
        any = true;
    }
    for (struct list *n; (n = list_pop(&waiting));) list_push(&core->rooms_dirty, n);
    return any;
}

/* is_walked_enough: more runs would not make the walk here quicker, and one run instead of many makes it cheaper. Whoever
 * waits for the news gets them when a run is through; the core turns until then. */
static bool is_walked_enough(const struct core *core, const struct room *r)
{
    const struct local_room *l = local_room_find(core, r->tenant, r->number);
    return l && (l->runs.len >= core->fanout_runs_max || l->runs_bytes >= FANOUT_RUNS_BYTES);
}

bool fanout_takes_news(const struct core *core) { return LIKELY(core->news_bytes < FANOUT_WAITING_BYTES); }

struct run_event {
    struct log_record record;
    size_t len;
};

/* run_measure decodes events from `first` on until the run is as long as a run may be; returns how many. */
static uint32_t run_measure(struct event *first, struct run_event *events, uint32_t max, size_t *bytes)
{
    uint32_t num = 0;
    *bytes = 0;
    for (struct queue_node *n = &first->node; n && num < max; n = n->next) {
        struct event *e = CONTAINER_OF(n, struct event, node);
        enum status s = log_record_decode(&events[num].record, event_record(e));
        ASSERT(s == STATUS_OK && events[num].record.seq == e->seq); /* what goes out is what was written */
        events[num].len = event_frame_len(&events[num].record);
        if (num && *bytes + events[num].len > RUN_BYTES_MAX) break;
        *bytes += events[num].len;
        num++;
    }
    return num;
}

static struct frame *run_encode_frame(struct core *core, struct room *r, struct run_event *events, uint32_t num, size_t bytes)
{
    ASSERT(num > 0);
    struct frame *f = frame_new(core->num_cores, (uint32_t)bytes);
    char *at = frame_data(f);
    for (uint32_t i = 0; i < num; i++) at = event_frame(at, &events[i].record);
    ASSERT(at == frame_data(f) + bytes);
    f->events = (uint16_t)num;
    f->tenant = r->tenant;
    f->room = r->number;
    f->first_seq = events[0].record.seq;
    f->last_seq = events[num - 1].record.seq;
    f->charged = (uint32_t)bytes;
    f->account = &core->frames_bytes;
    atomic_fetch_add_explicit(&core->frames_bytes, (int64_t)bytes, memory_order_relaxed);
    return f;
}

static void run_send(struct core *core, struct room *r, struct frame *f)
{
    uint64_t mask = r->core_mask;
    frame_hold(f, (uint32_t)__builtin_popcountll(mask) - (PLANTED(frame_freed_early) && mask & (mask - 1)));
    far_walk_sent(core, r, f->len);
    for (uint64_t others = mask & ~(1ull << core->id); others; others &= others - 1) {
        unsigned target = (unsigned)__builtin_ctzll(others);
        f->cores[target].weight = r->sent_weight;
        core_post_run(core, target, f);
    }
    if (mask >> core->id & 1) fanout_local(core, f);
}

#define RUN_EVENTS_MAX 256u

void fanout_publish(struct core *core, struct room *r)
{
    list_remove(&r->dirty);
    while (r->published.len) {
        struct run_event events[RUN_EVENTS_MAX];
        uint32_t num = 1;
        if (r->core_mask) {
            size_t bytes;
            struct event *first = CONTAINER_OF(r->published.head, struct event, node);
            num = run_measure(first, events, RUN_EVENTS_MAX, &bytes);
            run_send(core, r, run_encode_frame(core, r, events, num, bytes));
        }
        while (num--) {
            struct event *e = CONTAINER_OF(queue_pop(&r->published), struct event, node);
            core->news_bytes -= e->record_len;
            event_release(e);
        }
    }
}

/* --- at a core with subscribers ---------------------------------------------------------------------------------------- */

struct local_key {
    uint32_t tenant;
    uint64_t number;
};

static bool local_eq(const void *value, const void *key)
{
    const struct local_room *l = value;
    const struct local_key *k = key;
    return l->number == k->number && l->tenant == k->tenant;
}

struct local_room *local_room_find(const struct core *core, uint32_t tenant, uint64_t number)
{
    struct local_key k = {tenant, number};
    return map_find(&core->local_rooms, hash_u64(number), local_eq, &k);
}

struct local_room *local_room_get(struct core *core, uint32_t tenant, uint64_t number)
{
    struct local_room *l = local_room_find(core, tenant, number);
    if (l) return l;
    l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->tenant = tenant;
    l->number = number;
    l->large = true;
    list_init(&l->watches);
    list_init(&l->walking);
    map_insert(&core->local_rooms, hash_u64(number), l);
    return l;
}

/* local_room_add: one more place makes the way round longer, for the runs that are being walked too. */
void local_room_add(struct local_room *l, struct conn *conn, struct sub *sub)
{
    if (l->num_subs == l->cap_subs) {
        l->cap_subs = l->cap_subs ? l->cap_subs * 2 : 2;
        l->subs = realloc(l->subs, l->cap_subs * sizeof *l->subs);
        ASSERT(l->subs != NULL);
    }
    sub->index = l->num_subs;
    l->subs[l->num_subs++] = (struct local_sub){conn, sub, SUB_HELD};
    for (struct queue_node *n = l->runs.head; n; n = n->next) CONTAINER_OF(n, struct frame_core, parked)->walk_end++;
}

void local_room_remove(struct core *core, struct local_room *l, struct sub *sub)
{
    ASSERT(sub->index < l->num_subs && l->subs[sub->index].sub == sub);
    struct local_sub *last = &l->subs[l->num_subs - 1];
    /* The walk may have passed the place that it moves to, or come to both. */
    if (last->sub != sub && !PLANTED(moved_subscriber_passed)) fanout_overtake(core, last->sub);
    l->num_subs--;
    l->subs[sub->index] = *last;
    if (!PLANTED(moved_subscriber_lost)) l->subs[sub->index].sub->index = sub->index;
    if (l->walk_at >= l->num_subs) l->walk_at = 0;
    if (l->num_subs == 0) runs_drop(core, l);
    local_room_release(core, l);
}

void local_room_release(struct core *core, struct local_room *l)
{
    if (l->num_subs || l->pending || !list_empty(&l->watches)) return;
    unsigned home = gateway_room_home(core->gateway, l->tenant, l->number);
    notice_post(core, home, notice_new(core, NOTICE_ROOM_UNUSED, l->tenant, 0, (struct slice){0}, l->number, 0, (struct slice){0}));
    ASSERT(map_remove(&core->local_rooms, hash_u64(l->number), l));
    free(l->subs);
    free(l);
}

void fanout_on_notice(struct core *core, struct notice *n)
{
    ASSERT(n->kind == NOTICE_ROOM_SIZE);
    struct local_room *l = local_room_find(core, n->tenant, n->room);
    if (l) l->large = n->seq != 0;
}

void fanout_local(struct core *core, struct frame *f)
{
    struct local_room *l = local_room_find(core, f->tenant, f->room);
    if (l && PLANTED(run_to_another_room)) l = map_next(&core->local_rooms, &(uint32_t){0});
    if (!l) { /* its last subscriber left while the run was on its way */
        if (!PLANTED(frame_kept)) frame_let_go(f);
        return;
    }
    ASSERT(l->seen_head < f->first_seq || l->seen_head == 0);
    l->seen_head = f->last_seq;
    tail_append(core, f);
    bool at_once = l->runs.len == 0 && l->num_subs <= core->fanout_slice;
    if (!at_once) far_walk_begun(core, l);
    run_queue(core, l, f);
    if (LIKELY(at_once)) room_walk(core, l, l->num_subs);
}

/* --- the walk ------------------------------------------------------------------------------------------------------------ */

static struct frame *run_of(const struct core *core, struct queue_node *node)
{
    struct frame_core *here = CONTAINER_OF(node, struct frame_core, parked);
    return (struct frame *)((char *)(here - core->id) - offsetof(struct frame, cores));
}

/* run_queue: the walk holds a reference until the run is through. */
static void run_queue(struct core *core, struct local_room *l, struct frame *f)
{
    struct frame_core *here = &f->cores[core->id];
    frame_ref(f, core->id);
    here->walk_end = l->walked + l->num_subs;
    /* Fewer may subscribe than when the run before came, which has the longer way then: no run is through before it. */
    uint64_t before = l->runs.len ? CONTAINER_OF(l->runs.tail, struct frame_core, parked)->walk_end : 0;
    if (before > here->walk_end) here->walk_end = before;
    queue_push(&l->runs, &here->parked);
    l->runs_bytes += f->len;
    if (l->runs.len == 1) list_push(&core->rooms_walking, &l->walking);
}

static void run_pop(struct core *core, struct local_room *l)
{
    struct frame *f = run_of(core, queue_pop(&l->runs));
    l->runs_bytes -= f->len;
    far_walk_through(core, l, f);
    frame_unref(f, core->id);
    if (l->runs.len == 0) list_remove(&l->walking);
}

static void runs_drop(struct core *core, struct local_room *l)
{
    while (l->runs.len) run_pop(core, l);
}

bool fanout_walk(struct core *core)
{
    bool any = fanout_walking(core);
    core->walk_turn++;
    for (unsigned i = 0; i < FANOUT_TURN_SLICES && fanout_walking(core); i++) {
        struct local_room *l = CONTAINER_OF(core->rooms_walking.next, struct local_room, walking);
        if (l->walk_turn == core->walk_turn) break; /* all have had theirs */
        l->walk_turn = core->walk_turn;
        list_remove(&l->walking);
        list_push(&core->rooms_walking, &l->walking);
        room_walk(core, l, core->fanout_slice);
    }
    return any;
}

/* room_walk comes to the next `max` subscribers, or as many as are missing, and lets go of the runs that are through. */
static void room_walk(struct core *core, struct local_room *l, uint32_t max)
{
    uint64_t missing = CONTAINER_OF(l->runs.tail, struct frame_core, parked)->walk_end - l->walked;
    uint32_t num = missing < max ? (uint32_t)missing : max;
    uint64_t delivered = 0;
    for (uint32_t i = 0; i < num; i++) {
        uint32_t ahead = l->walk_at + WALK_AHEAD;
        if (ahead < l->num_subs) net_prefetch(l->subs[ahead].conn);
        delivered += walk_to(core, l, &l->subs[l->walk_at]);
        if (++l->walk_at == l->num_subs) l->walk_at = 0;
    }
    l->walked += num;
    count_deliveries(core, l, delivered);
    probe_fanout(core->id, l->number, run_of(core, l->runs.head)->first_seq, l->seen_head, l->runs_bytes, delivered);
    while (l->runs.len && run_is_through(l)) run_pop(core, l);
}

static bool run_is_through(const struct local_room *l)
{
    if (PLANTED(tail_dropped)) return true;
    return CONTAINER_OF(l->runs.head, struct frame_core, parked)->walk_end <= l->walked;
}

/* walk_to gives one subscriber what it has not got of the runs; returns the events. */
static uint32_t walk_to(struct core *core, const struct local_room *l, struct local_sub *s)
{
    uint32_t delivered = 0;
    for (struct queue_node *n = l->runs.head; n && s->next_seq != SUB_HELD; n = n->next) {
        struct frame *f = run_of(core, n);
        if (f->first_seq < s->next_seq) { /* it got this one, or came later */
            if (!PLANTED(joiner_walked_again)) continue;
        } else {
            ASSERT(f->first_seq == s->next_seq); /* a live subscription stands exactly at a run, or behind them all */
        }
        enum status sent = net_send(core->net, s->conn, f, CONN_DURABLE);
        if (LIKELY(sent == STATUS_OK)) {
            s->next_seq = f->last_seq + 1;
            delivered += f->events;
            continue;
        }
        s->next_seq = SUB_HELD;
        if (sent == STATUS_FULL && !PLANTED(catch_up_forgotten)) /* else it is closing */
            session_catch_up(core, s->sub, f->first_seq);
    }
    return delivered;
}

static void count_deliveries(struct core *core, const struct local_room *l, uint64_t delivered)
{
    core_count(core, METRIC_DELIVERIES, delivered);
    if (gateway_room_home(core->gateway, l->tenant, l->number) != core->id)
        core_count(core, METRIC_CROSS_CORE_DELIVERIES, delivered);
}

void fanout_overtake(struct core *core, struct sub *sub)
{
    struct local_room *l = sub->room;
    count_deliveries(core, l, walk_to(core, l, &l->subs[sub->index]));
}

void fanout_end(struct core *core)
{
    while (fanout_walking(core)) {
        struct local_room *l = CONTAINER_OF(core->rooms_walking.next, struct local_room, walking);
        l->tells_home = false; /* mail is read no more */
        runs_drop(core, l);
    }
}
