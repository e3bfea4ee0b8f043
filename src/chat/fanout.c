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
static uint32_t room_walk(struct core *core, struct local_room *l, uint32_t max);
static bool run_is_through(const struct local_room *l);
static uint32_t walk_to(struct core *core, const struct local_room *l, struct local_sub *s);
static void count_deliveries(struct core *core, const struct local_room *l, uint64_t delivered);

/* --- at the home ------------------------------------------------------------------------------------------------- */

bool fanout_publish_dirty(struct core *core)
{
    bool any = false;
    for (struct list *n; (n = list_pop(&core->rooms_dirty));) {
        struct room *r = CONTAINER_OF(n, struct room, dirty);
        if ((fanout_walking(core) && is_walked_enough(core, r)) || far_walk_behind(r)) {
            list_push(&core->rooms_held, n);
            continue;
        }
        fanout_publish(core, r);
        any = true;
    }
    return any;
}

void fanout_look_again(struct core *core, struct room *r)
{
    if (!list_linked(&r->dirty)) return;
    list_remove(&r->dirty);
    list_push(&core->rooms_dirty, &r->dirty);
}

/* is_walked_enough: more runs would not make the walk here quicker, and one run instead of many makes it cheaper.
 * Whoever waits for the news gets them when a run is through; the core turns until then. However long runs are, the
 * walk has a few of them before it, so that it does not stop while the next one becomes durable; unless they are much
 * of what a socket's queue holds, where some reader may have an older one. */
static bool is_walked_enough(const struct core *core, const struct room *r)
{
    const struct local_room *l = local_room_find(core, r->tenant, r->number);
    if (!l) return false;
    bool few = l->runs.len < core->fanout_runs_max / 2;
    return l->runs.len >= core->fanout_runs_max || (!few && l->runs_bytes >= FANOUT_RUNS_BYTES) ||
           l->runs_bytes >= core->queue_bytes_max / FANOUT_QUEUE_PART;
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

static struct frame *run_encode_frame(struct core *core, struct room *r, struct run_event *events, uint32_t num,
                                      size_t bytes)
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
    frame_charge(f, &core->frames_bytes);
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

/* --- at a core with subscribers ---------------------------------------------------------------------------------- */

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

#define SUBS_DOUBLED_MAX 256u /* places; more grow by a quarter, because what is not used counts for each socket */

/* Subscribers stand on a ring of places, of which each run has a way before it: what it has not been brought to yet. A
 * place that comes or goes at the end makes that longer or shorter for those whose way leads over it, and for no other:
 * who come and go as fast as the walk goes keep no run from being through. */
static void walk_ends_move(struct local_room *l, uint32_t last, int by)
{
    for (struct queue_node *n = l->runs.head; n; n = n->next) {
        struct frame_core *here = CONTAINER_OF(n, struct frame_core, parked);
        if (l->walk_at + (here->walk_end - l->walked) > last) here->walk_end += (uint64_t)by;
    }
}

void local_room_add(struct local_room *l, struct conn *conn, struct sub *sub)
{
    if (l->num_subs == l->cap_subs) {
        l->cap_subs += l->cap_subs < SUBS_DOUBLED_MAX ? l->cap_subs + 2 : l->cap_subs / 4;
        l->subs = realloc(l->subs, l->cap_subs * sizeof *l->subs);
        ASSERT(l->subs != NULL);
    }
    walk_ends_move(l, l->num_subs, 1);
    sub->index = l->num_subs;
    l->subs[l->num_subs++] = (struct local_sub){conn, sub, SUB_HELD};
}

void local_room_remove(struct core *core, struct local_room *l, struct sub *sub)
{
    ASSERT(sub->index < l->num_subs && l->subs[sub->index].sub == sub);
    struct local_sub *last = &l->subs[l->num_subs - 1];
    /* The walk may have passed the place that it moves to, or come to both. */
    if (last->sub != sub && !PLANTED(moved_subscriber_passed)) fanout_overtake(core, last->sub);
    l->num_subs--;
    walk_ends_move(l, l->num_subs, -1);
    l->subs[sub->index] = *last;
    if (!PLANTED(moved_subscriber_lost)) l->subs[sub->index].sub->index = sub->index;
    if (l->walk_at >= l->num_subs) l->walk_at = 0;
    if (l->num_subs == 0) runs_drop(core, l);
    local_room_release(core, l);
}

void local_room_release(struct core *core, struct local_room *l)
{
    if (l->num_subs || l->pending || !list_empty(&l->watches)) return;
    ASSERT(l->runs.len == 0); /* the walk would come to a room that is no more */
    unsigned home = gateway_room_home(core->gateway, l->tenant, l->number);
    notice_post(core, home,
                notice_new(core, NOTICE_ROOM_UNUSED, l->tenant, 0, (struct slice){0}, l->number, 0, (struct slice){0}));
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
    if (l->num_subs == 0 && !PLANTED(walk_of_nobody)) { /* somebody has asked to subscribe, or only watches */
        frame_ref(f, core->id);
        far_walk_through(core, l, f);
        frame_unref(f, core->id);
        return;
    }
    if (l->num_subs > core->fanout_slice || l->runs.len >= core->fanout_runs_max / 2) far_walk_begun(core, l);
    run_queue(core, l, f);
}

/* --- the walk ---------------------------------------------------------------------------------------------------- */

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
    ASSERT(!l->runs.len || CONTAINER_OF(l->runs.tail, struct frame_core, parked)->walk_end <= here->walk_end);
    queue_push(&l->runs, &here->parked);
    l->runs_bytes += f->len;
    if (l->runs.len > 1) return;
    list_push(&core->rooms_walking, &l->walking);
    core->num_rooms_walking++;
}

static void run_pop(struct core *core, struct local_room *l)
{
    struct frame *f = run_of(core, queue_pop(&l->runs));
    l->runs_bytes -= f->len;
    far_walk_through(core, l, f);
    frame_unref(f, core->id);
    struct room *r = LIKELY(list_empty(&core->rooms_held)) ? NULL : room_find(core, l->tenant, l->number);
    if (r) fanout_look_again(core, r);
    if (l->runs.len) return;
    list_remove(&l->walking);
    core->num_rooms_walking--;
}

static void runs_drop(struct core *core, struct local_room *l)
{
    while (l->runs.len) run_pop(core, l);
}

/* fanout_walk: what one room needs less than its share goes to those behind it. Where there are more rooms than places,
 * the others are at the head of the list in the next turn. */
bool fanout_walk(struct core *core, uint32_t max)
{
    bool any = fanout_walking(core);
    uint32_t of_room = max / FANOUT_ROOM_PART > FANOUT_ROOM_SLICE ? max / FANOUT_ROOM_PART : FANOUT_ROOM_SLICE;
    for (uint32_t rooms = core->num_rooms_walking; max && rooms; rooms--) {
        struct local_room *l = CONTAINER_OF(core->rooms_walking.next, struct local_room, walking);
        list_remove(&l->walking);
        list_push(&core->rooms_walking, &l->walking);
        uint32_t share = (max + rooms - 1) / rooms;
        max -= room_walk(core, l, share < of_room ? share : of_room);
    }
    return any;
}

/* room_walk comes to the next `max` subscribers, or as many as are missing, and lets go of the runs that are through.
 * Returns to how many it came. */
static uint32_t room_walk(struct core *core, struct local_room *l, uint32_t max)
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
    return num;
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
