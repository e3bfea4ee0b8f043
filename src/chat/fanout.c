#include "fanout.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "../base/planted.h"
#include "../base/probe.h"
#include "../core/notice.h"
#include "event.h"
#include "room.h"
#include "session.h"
#include "tail.h"

/* --- at the home --------------------------------------------------------------------------------------------------- */

bool fanout_publish_dirty(struct core *core)
{
    bool any = false;
    for (struct list *n; (n = list_pop(&core->rooms_dirty));) {
        fanout_publish(core, CONTAINER_OF(n, struct room, dirty));
        any = true;
    }
    return any;
}

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
    for (uint64_t others = mask & ~(1ull << core->id); others; others &= others - 1)
        core_post_run(core, (unsigned)__builtin_ctzll(others), f);
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
        while (num--) event_release(CONTAINER_OF(queue_pop(&r->published), struct event, node));
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
    map_insert(&core->local_rooms, hash_u64(number), l);
    return l;
}

void local_room_add(struct local_room *l, struct conn *conn, struct sub *sub)
{
    if (l->num_subs == l->cap_subs) {
        l->cap_subs = l->cap_subs ? l->cap_subs * 2 : 2;
        l->subs = realloc(l->subs, l->cap_subs * sizeof *l->subs);
        ASSERT(l->subs != NULL);
    }
    sub->index = l->num_subs;
    l->subs[l->num_subs++] = (struct local_sub){conn, sub, SUB_HELD};
}

void local_room_remove(struct core *core, struct local_room *l, struct sub *sub)
{
    ASSERT(sub->index < l->num_subs && l->subs[sub->index].sub == sub);
    struct local_sub *last = &l->subs[--l->num_subs];
    l->subs[sub->index] = *last;
    if (!PLANTED(moved_subscriber_lost)) l->subs[sub->index].sub->index = sub->index;
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
    frame_ref(f, core->id); /* so that the walk's own drops cannot free it */
    uint64_t delivered = 0;
    for (uint32_t i = 0; i < l->num_subs && !(PLANTED(tail_dropped) && i >= 4); i++) {
        struct local_sub *s = &l->subs[i];
        if (s->next_seq != f->first_seq) {
            ASSERT(s->next_seq == SUB_HELD); /* a live subscription stands exactly at the next run */
            continue;
        }
        enum status sent = net_send(core->net, s->conn, f, CONN_DURABLE);
        if (LIKELY(sent == STATUS_OK)) {
            s->next_seq = f->last_seq + 1;
            delivered++;
            continue;
        }
        s->next_seq = SUB_HELD;
        if (sent == STATUS_FULL && !PLANTED(catch_up_forgotten)) /* else it is closing */
            session_catch_up(core, s->sub, f->first_seq);
    }
    core_count(core, METRIC_DELIVERIES, delivered * f->events);
    if (gateway_room_home(core->gateway, f->tenant, f->room) != core->id)
        core_count(core, METRIC_CROSS_CORE_DELIVERIES, delivered * f->events);
    probe_fanout(core->id, f->room, f->first_seq, f->last_seq, f->len, delivered);
    frame_unref(f, core->id);
}
