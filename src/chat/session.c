#include "session.h"

#include <stdio.h>
#include <stdlib.h>

#include "../api/admission.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../notify/notify.h"
#include "ids.h"
#include "presence.h"
#include "replay.h"

/* --- users known here -------------------------------------------------------------------------------------------- */

struct known_key {
    uint32_t tenant;
    struct slice id;
};

static bool known_eq(const void *value, const void *key)
{
    const struct known_user *u = value;
    const struct known_key *k = key;
    return u->tenant == k->tenant && slice_eq(known_user_id(u), k->id);
}

static uint64_t known_hash(const struct core *core, uint32_t tenant, struct slice id)
{
    return hash_bytes(&core->gateway->hash_key, id) ^ tenant;
}

struct known_user *known_user_find(const struct core *core, uint32_t tenant, struct slice id)
{
    struct known_key k = {tenant, id};
    return map_find(&core->known_users, known_hash(core, tenant, id), known_eq, &k);
}

static void known_forget_oldest(struct core *core)
{
    struct known_user *oldest = CONTAINER_OF(list_pop(&core->known_idle), struct known_user, idle);
    core->num_known_idle--;
    ASSERT(map_remove(&core->known_users, oldest->hash, oldest));
    free(oldest);
}

struct known_user *known_user_add(struct core *core, uint32_t tenant, struct slice id, uint64_t number)
{
    struct known_user *u = known_user_find(core, tenant, id);
    if (u) return u;
    if (core->num_known_idle >= KNOWN_IDLE_MAX) known_forget_oldest(core);
    u = malloc(sizeof *u + id.len);
    ASSERT(u != NULL);
    *u = (struct known_user){
        .tenant = tenant, .number = number, .hash = known_hash(core, tenant, id), .id_len = (uint16_t)id.len};
    memcpy(u->id, id.data, id.len);
    list_init(&u->sessions);
    list_init(&u->idle);
    list_push(&core->known_idle, &u->idle);
    core->num_known_idle++;
    map_insert(&core->known_users, u->hash, u);
    return u;
}

/* --- opening and closing ----------------------------------------------------------------------------------------- */

void session_set_device(struct session *s, struct slice device)
{
    ASSERT(device.len <= DEVICE_BYTES_MAX);
    if (device.len == 0) return;
    free(s->device);
    s->device = malloc(device.len);
    ASSERT(s->device != NULL);
    memcpy(s->device, device.data, device.len);
    s->device_len = (uint8_t)device.len;
}

struct session *session_open(struct core *core, struct conn *conn, struct known_user *user, struct api_key *key,
                             bool subprotocol, struct slice device)
{
    ASSERT(conn_user(conn) == NULL);
    struct session *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    s->conn = conn;
    s->user = user;
    s->key = key;
    s->subprotocol = subprotocol;
    s->state = SESSION_HELLO;
    s->id = random_u64(core->gateway->random);
    session_set_device(s, device);
    list_init(&s->of_user);
    if (list_empty(&user->sessions)) {
        list_remove(&user->idle);
        core->num_known_idle--;
    }
    list_push(&user->sessions, &s->of_user);
    if (subprotocol) {
        session_aside(s)->deadline_ns = core->now_ns + HELLO_TIMEOUT_MS * 1000000ull;
        list_push(&core->hello_waiting, &s->aside->waiting);
    }
    conn_set_user(conn, s);
    core->num_sessions++;
    return s;
}

struct session_aside *session_aside(struct session *s)
{
    if (s->aside) return s->aside;
    struct session_aside *a = s->aside = calloc(1, sizeof *a);
    ASSERT(a != NULL);
    a->session = s;
    list_init(&a->waiting);
    list_init(&a->replays);
    list_init(&a->watches);
    return a;
}

void session_tidy(struct session *s)
{
    struct session_aside *a = s->aside;
    if (!a || a->index || list_linked(&a->waiting) || !list_empty(&a->replays) || !list_empty(&a->watches)) return;
    ASSERT(a->num_watches == 0);
    free(a);
    s->aside = NULL;
}

bool session_replays(const struct session *s) { return s->aside && !list_empty(&s->aside->replays); }

struct session *session_on(struct core *core, struct conn_ref ref)
{
    struct conn *c = net_conn(core->net, ref);
    return c ? conn_user(c) : NULL;
}

/* aside_free ends what was lent; a core that ends has no lists to leave. */
static void aside_free(struct session *s)
{
    if (!s->aside) return;
    for (struct list *n; (n = list_pop(&s->aside->replays));) free(CONTAINER_OF(n, struct replaying, of_session));
    if (s->aside->index) map_free(s->aside->index);
    free(s->aside->index);
    free(s->aside);
    s->aside = NULL;
}

static void session_free(struct core *core, struct session *s)
{
    while (s->subs) session_unsubscribe(core, s->subs);
    presence_session_ended(core, s);
    if (s->pushes_wait) notify_session_drained(core, s);
    if (s->registered && !(PLANTED(socket_end_forgotten) && s->state == SESSION_OPENING)) {
        unsigned home = gateway_user_home(core->gateway, s->user->tenant, known_user_id(s->user));
        notice_post(core, home, notice_new(core, NOTICE_SOCKET_CLOSED, s->user->tenant, s->user->number,
                                           known_user_id(s->user), 0, s->typed, (struct slice){0}));
    }
    list_remove(&s->of_user);
    if (s->aside) list_remove(&s->aside->waiting);
    aside_free(s);
    if (list_empty(&s->user->sessions)) {
        list_push(&core->known_idle, &s->user->idle);
        core->num_known_idle++;
    }
    core->num_sessions--;
    free(s->device);
    free(s);
}

void session_on_closed(void *context, struct conn *c)
{
    struct session *s = conn_user(c);
    if (!s) return;
    conn_set_user(c, NULL);
    session_free(context, s);
}

void sessions_free(struct core *core)
{
    uint32_t at = 0;
    for (struct known_user *u; (u = map_next(&core->known_users, &at));) {
        for (struct list *n; (n = list_pop(&u->sessions));) {
            struct session *s = CONTAINER_OF(n, struct session, of_user);
            for (struct sub *sub; (sub = s->subs); free(sub)) s->subs = sub->next;
            aside_free(s);
            free(s->device);
            free(s);
        }
        free(u);
    }
    map_free(&core->known_users);
    at = 0;
    for (struct local_room *l; (l = map_next(&core->local_rooms, &at));) {
        free(l->subs);
        free(l);
    }
    map_free(&core->local_rooms);
}

/* --- subscriptions ----------------------------------------------------------------------------------------------- */

#define SUBS_LISTED_MAX 16u /* beyond, the session keeps an index */

static bool sub_eq(const void *value, const void *key)
{
    return ((const struct sub *)value)->room->number == *(const uint64_t *)key;
}

struct sub *session_sub(struct session *s, uint64_t room)
{
    if (UNLIKELY(s->aside && s->aside->index)) return map_find(s->aside->index, hash_u64(room), sub_eq, &room);
    for (struct sub *sub = s->subs; sub; sub = sub->next)
        if (sub->room->number == room) return sub;
    return NULL;
}

void session_subscribe(struct core *core, struct session *s, struct op *op)
{
    ASSERT(op->kind == OP_ROOM_POSITION);
    op->conn = net_ref(s->conn);
    op->tenant = s->user->tenant;
    op->user = s->user->number;
    op->in.position.subscribe = true;
    local_room_get(core, op->tenant, op->room)->pending++;
    op_dispatch(core, op);
}

static void index_add(struct session *s, struct sub *sub)
{
    if (s->aside && s->aside->index) {
        map_insert(s->aside->index, hash_u64(sub->room->number), sub);
    } else if (s->num_subs > SUBS_LISTED_MAX) {
        struct map *index = session_aside(s)->index = calloc(1, sizeof *index);
        ASSERT(index != NULL);
        for (struct sub *each = s->subs; each; each = each->next)
            map_insert(index, hash_u64(each->room->number), each);
    }
}

static struct sub *sub_new(struct core *core, struct session *s, struct local_room *l, uint64_t from)
{
    struct sub *sub = calloc(1, sizeof *sub);
    ASSERT(sub != NULL);
    sub->session = s;
    sub->room = l;
    sub->state = SUB_NEW;
    sub->replay_next = from;
    sub->next = s->subs;
    s->subs = sub;
    s->num_subs++;
    index_add(s, sub);
    core->num_subscriptions++;
    local_room_add(l, s->conn, sub);
    return sub;
}

struct sub *session_subscribed(struct core *core, struct op *op)
{
    struct local_room *l = local_room_find(core, op->tenant, op->room);
    ASSERT(l != NULL && l->pending > 0);
    l->pending--;
    struct session *s = session_on(core, op->conn);
    struct sub *sub = NULL;
    if (s && !op_failed(op)) {
        if (op->position.head > l->seen_head) l->seen_head = op->position.head;
        l->large = op->position.large;
        sub = session_sub(s, op->room);
        if (!sub && s->num_subs < SUBSCRIPTIONS_MAX) sub = sub_new(core, s, l, op->position.from);
        else if (!sub) op_fail(op, ERR_SUBSCRIPTIONS_FULL, NULL, NULL);
    }
    local_room_release(core, l);
    return sub;
}

uint64_t session_rewind(struct sub *sub, uint64_t from)
{
    ASSERT(from <= sub->room->seen_head + 1);
    uint64_t owed = sub->room->subs[sub->index].next_seq; /* by the walk that is under way; SUB_HELD is above all */
    if (owed < from) from = owed;
    replay_end(sub);
    session_tidy(sub->session);
    sub->state = SUB_NEW;
    sub->replay_next = from; /* a page that is being read meanwhile is for another state, or just the one that is due */
    sub->room->subs[sub->index].next_seq = SUB_HELD;
    return from;
}

void session_unsubscribe(struct core *core, struct sub *sub)
{
    struct session *s = sub->session;
    for (struct sub **at = &s->subs; *at; at = &(*at)->next) {
        if (*at != sub) continue;
        *at = sub->next;
        break;
    }
    replay_end(sub);
    if (s->aside && s->aside->index) ASSERT(map_remove(s->aside->index, hash_u64(sub->room->number), sub));
    session_tidy(s);
    s->num_subs--;
    core->num_subscriptions--;
    local_room_remove(core, sub->room, sub);
    free(sub);
}

void sub_go_live(struct sub *sub)
{
    ASSERT(sub->replay_next == sub->room->seen_head + 1);
    replay_end(sub);
    session_tidy(sub->session);
    sub->state = SUB_LIVE;
    sub->room->subs[sub->index].next_seq = sub->replay_next;
}

void session_start(struct core *core, struct sub *sub)
{
    if (sub->state != SUB_NEW) return;
    if (sub_ends(sub)) {
        session_unsubscribe(core, sub);
        return;
    }
    if (sub->replay_next + PLANTED(seam_event_lost) > sub->room->seen_head) {
        sub->replay_next = sub->room->seen_head + 1;
        sub_go_live(sub);
        return;
    }
    replay_begin(core, sub, sub->replay_next);
}

void session_resumed(struct core *core, struct session *s, const struct room_position *p)
{
    struct buf out = {0};
    char room_id[ID_TEXT_LEN];
    room_id_text(room_id, p->room);
    buf_printf(
        &out, "{\"type\":\"resumed\",\"room_id\":\"%.*s\",\"epoch\":%llu,\"recovered\":%s,\"from\":%llu,\"head\":%llu}",
        (int)ID_TEXT_LEN, room_id, (unsigned long long)p->epoch, p->recovered ? "true" : "false",
        (unsigned long long)p->from, (unsigned long long)p->head);
    net_reply_text(core->net, s->conn, buf_slice(&out));
    buf_free(&out);
}

/* --- behind, and caught up --------------------------------------------------------------------------------------- */

void session_on_drain(void *context, struct conn *c)
{
    struct session *s = conn_user(c);
    if (!s) return;
    if (!PLANTED(replay_not_resumed)) replay_go_on(context, s);
    if (s->pushes_wait) notify_session_drained(context, s);
}

void session_catch_up(struct core *core, struct sub *sub, uint64_t from)
{
    ASSERT(sub->state == SUB_LIVE);
    replay_begin(core, sub, from);
}

/* --- the beginning of a session ---------------------------------------------------------------------------------- */

struct opening_room {
    struct wish_room wish;
    struct room_position position;
    bool listed; /* the home said yes */
};

struct opening {
    struct conn_ref conn;
    struct op *hello;           /* NULL: served at once, without welcome */
    struct session_wish *wish;  /* NULL: all rooms, from the cursors */
    uint32_t num, pending;
    uint32_t num_left_out;      /* rooms beyond SUBSCRIPTIONS_MAX */
    struct opening_room *rooms;
};

static void opening_rooms(struct core *core, struct op *op);
static void opening_position(struct core *core, struct op *op);
static void opening_end(struct core *core, struct opening *o);
static void welcome_send(struct core *core, struct session *s, struct opening *o);

void session_begin(struct core *core, struct session *s, struct op *hello, struct session_wish *wish)
{
    ASSERT(s->state == SESSION_HELLO && !s->registered);
    if (s->aside) list_remove(&s->aside->waiting);
    session_tidy(s);
    s->state = SESSION_OPENING;
    s->registered = true;
    s->all = !wish || wish->mode == WISH_ALL;
    struct opening *o = calloc(1, sizeof *o);
    ASSERT(o != NULL);
    o->conn = net_ref(s->conn);
    o->hello = hello;
    o->wish = wish;
    struct op *op = op_new(core, OP_USER_ROOMS, s->user->id_len + s->device_len);
    op->tenant = s->user->tenant;
    op->user = s->user->number;
    op->user_id = op_keep(op, known_user_id(s->user));
    op->in.rooms.device = op_keep(op, slice_of(s->device, s->device_len));
    op->in.rooms.session = true;
    op->flow = o;
    op->then = opening_rooms;
    op_dispatch(core, op);
}

int wish_order(const void *a, const void *b)
{
    uint64_t x = ((const struct wish_room *)a)->room, y = ((const struct wish_room *)b)->room;
    return (x > y) - (x < y);
}

static const struct wish_room *wish_for(const struct session_wish *wish, uint64_t room)
{
    struct wish_room key = {.room = room};
    return wish ? bsearch(&key, wish->rooms, wish->num_rooms, sizeof key, wish_order) : NULL;
}

static void opening_add(struct opening *o, struct wish_room wish, const struct room_position *cursors)
{
    struct opening_room *r = &o->rooms[o->num++];
    *r = (struct opening_room){.wish = wish};
    r->wish.room = cursors ? cursors->room : wish.room;
    if (cursors) r->position = *cursors;
}

/* user_is_in looks in the user's rooms, which come sorted by number (user_rooms.c). */
static bool user_is_in(const struct op *op, uint64_t room)
{
    uint32_t low = 0, high = op->num_positions;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (op->positions[middle].room < room) low = middle + 1;
        else high = middle;
    }
    return low < op->num_positions && op->positions[low].room == room;
}

/* opening_choose makes the list: the user's rooms (all, or those wished for), then wishes the user is not in, so that
 * their refusal is told. */
static void opening_choose(struct opening *o, const struct op *op)
{
    uint32_t wished = o->wish ? o->wish->num_rooms : 0;
    o->rooms = calloc(op->num_positions + wished + 1, sizeof *o->rooms);
    ASSERT(o->rooms != NULL);
    for (uint32_t i = 0; i < op->num_positions; i++) {
        const struct wish_room *w = wish_for(o->wish, op->positions[i].room);
        if (w || !o->wish || o->wish->mode == WISH_ALL)
            opening_add(o, w ? *w : (struct wish_room){.room = op->positions[i].room}, &op->positions[i]);
    }
    for (uint32_t i = 0; i < wished; i++)
        if (!user_is_in(op, o->wish->rooms[i].room)) opening_add(o, o->wish->rooms[i], NULL);
}

static void opening_subscribe(struct core *core, struct session *s, struct opening *o, uint32_t index)
{
    struct opening_room *r = &o->rooms[index];
    struct op *op = op_new(core, OP_ROOM_POSITION, 0);
    op->room = r->wish.room;
    op->child_index = index;
    op->flow = o;
    op->then = opening_position;
    if (!o->hello) {
        op->in.position.mode = POSITION_AFTER;
        op->in.position.seq = r->position.delivered;
    } else if (r->wish.resume) {
        op->in.position.mode = POSITION_RESUME;
        op->in.position.epoch = r->wish.epoch;
        op->in.position.seq = r->wish.seq;
    } else {
        op->in.position.mode = POSITION_LIVE;
    }
    session_subscribe(core, s, op);
}

/* try_again_later ends a socket that would else be served without a room that its user may well be in. */
static void try_again_later(struct core *core, struct session *s, const struct op *op)
{
    LOG(LOG_WARN, "session", "rooms_not_read", LOG_U64("room", op->room),
        LOG_STR("code", error_rows[op->error.code].code));
    net_ws_close(core->net, s->conn, 4100, "try again", true);
}

static void error_send(struct core *core, struct session *s, const struct error *e, struct slice re)
{
    struct buf out = {0};
    error_frame(&out, e, re);
    net_reply_text(core->net, s->conn, buf_slice(&out));
    buf_free(&out);
}

static void opening_rooms(struct core *core, struct op *op)
{
    struct opening *o = op->flow;
    struct session *s = session_on(core, o->conn);
    if (op_failed(op) && s) try_again_later(core, s, op);
    else if (s) opening_choose(o, op);
    op_free(op);
    /* the last position may come back at once: pending counts one more until all are asked for */
    o->pending = o->num + 1;
    for (uint32_t i = 0; i < o->num; i++) {
        s = session_on(core, o->conn);
        if (s) opening_subscribe(core, s, o, i);
        else o->pending--;
    }
    if (--o->pending == 0) opening_end(core, o);
}

static void opening_position(struct core *core, struct op *op)
{
    struct opening *o = op->flow;
    struct opening_room *r = &o->rooms[op->child_index];
    struct session *s = session_on(core, o->conn);
    if (session_subscribed(core, op)) {
        uint64_t delivered = r->position.delivered, read = r->position.read;
        r->position = op->position;
        r->position.delivered = delivered;
        r->position.read = read;
        r->listed = true;
    } else if (s && op->error.code == ERR_SUBSCRIPTIONS_FULL) {
        o->num_left_out++;
    } else if (s && op_failed(op) && !op_not_in_room(op)) {
        try_again_later(core, s, op);
    } else if (s && o->hello && wish_for(o->wish, r->wish.room)) {
        error_send(core, s, &op->error, o->hello->re);
    }
    op_free(op);
    if (--o->pending == 0) opening_end(core, o);
}

/* opening_start starts a room of the list. A request that came right behind hello may have started the subscription
 * already, or have put it further back: the position that was asked for is told and served all the same, and nothing
 * that is still owed to another wish is passed over. */
static void opening_start(struct core *core, struct session *s, struct opening_room *r, bool resume)
{
    struct sub *sub = session_sub(s, r->wish.room);
    struct room_position p = r->position;
    if (!sub || (!resume && sub->state != SUB_NEW)) return;
    if (sub->state != SUB_LIVE && sub->replay_next < p.from) {
        p.from = sub->replay_next;
        resume = true;
    }
    p.from = session_rewind(sub, p.from);
    if (resume) session_resumed(core, s, &p);
    session_start(core, sub);
}

/* opening_start_joined starts the subscriptions to rooms that were joined while the socket opened: they came too late
 * for its list, and joined_subscribed has left them to it. */
static void opening_start_joined(struct core *core, struct session *s)
{
    for (struct sub *sub = s->subs, *next; sub; sub = next) {
        next = sub->next;
        if (sub->state != SUB_NEW) continue;
        const struct room_position p = {.room = sub->room->number,
                                        .epoch = core->gateway->epoch,
                                        .recovered = true,
                                        .from = sub->replay_next,
                                        .head = sub->room->seen_head};
        session_resumed(core, s, &p);
        session_start(core, sub);
    }
}

static void opening_serve(struct core *core, struct session *s, struct opening *o)
{
    s->state = SESSION_OPEN;
    if (o->num_left_out) {
        char detail[96];
        snprintf(detail, sizeof detail, "%u rooms are left out: a socket is subscribed to %u at most", o->num_left_out,
                 SUBSCRIPTIONS_MAX);
        const struct error e = {ERR_SUBSCRIPTIONS_FULL, detail, NULL};
        error_send(core, s, &e, o->hello ? o->hello->re : (struct slice){0});
    }
    if (o->hello) welcome_send(core, s, o);
    for (uint32_t i = 0; i < o->num; i++)
        if (o->rooms[i].listed) opening_start(core, s, &o->rooms[i], !o->hello || o->rooms[i].wish.resume);
    opening_start_joined(core, s);
    notify_session_opened(core, s);
}

static void opening_end(struct core *core, struct opening *o)
{
    struct session *s = session_on(core, o->conn);
    if (s) opening_serve(core, s, o);
    if (o->hello) {
        struct conn *c = net_conn(core->net, o->conn);
        if (c) net_request_end(core->net, c);
        op_free(o->hello);
    }
    free(o->wish);
    free(o->rooms);
    free(o);
}

static void welcome_room(struct buf *out, const struct room_position *p)
{
    char room_id[ID_TEXT_LEN];
    room_id_text(room_id, p->room);
    buf_printf(out, "{\"room_id\":\"%.*s\",\"epoch\":%llu,\"head\":%llu,\"delivered\":%llu,\"read\":%llu}",
               (int)ID_TEXT_LEN, room_id, (unsigned long long)p->epoch, (unsigned long long)p->head,
               (unsigned long long)p->delivered, (unsigned long long)p->read);
}

static void welcome_send(struct core *core, struct session *s, struct opening *o)
{
    const struct config *c = core->gateway->config;
    struct buf out = {0};
    char time[TIME_TEXT_LEN];
    time_text(time, core->now_ms);
    BUF_LIT(&out, "{\"type\":\"welcome\"");
    if (o->hello->re.len) {
        BUF_LIT(&out, ",\"re\":");
        buf_slice_append(&out, o->hello->re);
    }
    buf_printf(&out, ",\"session_id\":\"s_%016llx\",\"user_id\":", (unsigned long long)s->id);
    buf_json_string(&out, known_user_id(s->user));
    buf_printf(&out,
               ",\"server_time\":\"%.*s\",\"limits\":{\"content_chars\":%llu,\"message_bytes\":%zu,\"in_flight\":%u,"
               "\"subscriptions\":%u,\"ping_interval_ms\":%llu,\"idle_timeout_ms\":%llu},\"rooms\":[",
               (int)TIME_TEXT_LEN, time, (unsigned long long)c->limits_content_chars, core_message_bytes_max(c),
               REQUESTS_IN_FLIGHT_MAX, SUBSCRIPTIONS_MAX, (unsigned long long)c->net_ping_interval,
               (unsigned long long)c->net_idle_timeout);
    bool first = true;
    for (uint32_t i = 0; i < o->num; i++) {
        if (!o->rooms[i].listed) continue;
        if (!first) BUF_LIT(&out, ",");
        first = false;
        welcome_room(&out, &o->rooms[i].position);
    }
    BUF_LIT(&out, "]}");
    net_reply_text(core->net, s->conn, buf_slice(&out));
    buf_free(&out);
}

static void welcome_again(struct core *core, struct op *op)
{
    struct session *s = session_on(core, op->conn);
    struct opening o = {.hello = op};
    o.rooms = calloc(op->num_positions + 1, sizeof *o.rooms);
    ASSERT(o.rooms != NULL);
    for (uint32_t i = 0; s && i < op->num_positions; i++) {
        struct sub *sub = session_sub(s, op->positions[i].room);
        if (!sub) continue;
        struct opening_room *r = &o.rooms[o.num++];
        *r = (struct opening_room){.position = op->positions[i], .listed = true};
        r->position.epoch = core->gateway->epoch;
        r->position.head = sub->room->seen_head;
    }
    if (s) {
        net_request_end(core->net, s->conn);
        welcome_send(core, s, &o);
    }
    free(o.rooms);
    op_free(op);
}

void session_welcome_again(struct core *core, struct session *s, struct op *op)
{
    op->in.rooms.device = op_keep(op, slice_of(s->device, s->device_len));
    op->then = welcome_again;
    op_dispatch(core, op);
}

/* --- news about memberships -------------------------------------------------------------------------------------- */

/* joined_refused: who has left again meanwhile misses nothing. */
static void joined_refused(struct core *core, struct session *s, const struct op *op)
{
    if (op->error.code == ERR_SUBSCRIPTIONS_FULL) {
        char detail[96], room_id[ID_TEXT_LEN];
        room_id_text(room_id, op->room);
        snprintf(detail, sizeof detail, "%.*s is left out: a socket is subscribed to %u rooms at most",
                 (int)ID_TEXT_LEN, room_id, SUBSCRIPTIONS_MAX);
        const struct error e = {ERR_SUBSCRIPTIONS_FULL, detail, NULL};
        error_send(core, s, &e, (struct slice){0});
    } else if (!op_not_in_room(op)) {
        try_again_later(core, s, op);
    }
}

/* joined_subscribed: a subscription that is there already came from a request of the client's own, which was told where
 * it begins; while the socket opens, opening_end starts what is new. */
static void joined_subscribed(struct core *core, struct op *op)
{
    struct sub *sub = session_subscribed(core, op);
    struct session *s = session_on(core, op->conn);
    if (s && op_failed(op)) joined_refused(core, s, op);
    if (sub && sub->state == SUB_NEW && s && s->state == SESSION_OPEN) {
        session_resumed(core, s, &op->position);
        session_start(core, sub);
    }
    op_free(op);
}

static void joined_sockets(struct core *core, struct known_user *u, const struct notice *n)
{
    for (struct list *at = u->sessions.next, *next; at != &u->sessions; at = next) {
        next = at->next;
        struct session *s = CONTAINER_OF(at, struct session, of_user);
        struct sub *sub = session_sub(s, n->room);
        if (sub && n->seq > sub->changed_seq) {
            sub->changed_seq = n->seq;
            sub->left = false; /* back before the replay had reached the leave */
        }
        if (sub || !s->all || s->state == SESSION_HELLO) continue;
        struct op *op = op_new(core, OP_ROOM_POSITION, 0);
        op->room = n->room;
        op->in.position.mode = POSITION_AFTER;
        op->in.position.seq = n->seq ? n->seq - 1 : 0; /* from the join's own event on */
        op->then = joined_subscribed;
        session_subscribe(core, s, op);
    }
}

/* removed_sockets: a live subscription has had the leave itself, which went out before this notice, or gets it now in
 * place of a walk that has not come to it. One that replays goes on up to it, so that its client learns of the end as
 * well. A notice of a later join may have come first: it takes another way, over the user's home. */
static void removed_sockets(struct core *core, struct known_user *u, const struct notice *n)
{
    for (struct list *at = u->sessions.next; at != &u->sessions; at = at->next) {
        struct session *s = CONTAINER_OF(at, struct session, of_user);
        presence_ended(core, s, n->room);
        struct sub *sub = session_sub(s, n->room);
        if (!sub || n->seq < sub->changed_seq || PLANTED(removed_still_served)) continue;
        if (!PLANTED(leave_before_walk)) fanout_overtake(core, sub);
        if (sub->state == SUB_LIVE || sub->replay_next > n->seq) {
            session_unsubscribe(core, sub);
            continue;
        }
        sub->left = true;
        sub->changed_seq = n->seq;
    }
}

void session_on_notice(struct core *core, struct notice *n)
{
    struct known_user *u = known_user_find(core, n->tenant, notice_user_id(n));
    if (!u) return;
    if (n->kind == NOTICE_JOINED_SOCKETS) joined_sockets(core, u, n);
    else removed_sockets(core, u, n);
}

/* --- ends -------------------------------------------------------------------------------------------------------- */

void session_timers(struct core *core)
{
    while (!list_empty(&core->hello_waiting)) {
        struct session_aside *aside = CONTAINER_OF(core->hello_waiting.next, struct session_aside, waiting);
        struct session *s = aside->session;
        if (aside->deadline_ns > core->now_ns || net_is_about_to_hear(core->net, s->conn)) return;
        list_remove(&aside->waiting);
        session_tidy(s);
        net_ws_close(core->net, s->conn, 4001, "no hello", false);
    }
}

void session_revoke(struct core *core, const struct api_key *key, const struct tenant *tenant)
{
    uint32_t at = 0;
    for (struct conn *c; (c = net_each(core->net, &at));) {
        struct session *s = conn_user(c);
        if (s && !PLANTED(revoked_socket_stays) && (s->key == key || s->key->tenant == tenant))
            net_ws_close(core->net, c, 4004, key ? "the key was revoked" : "the tenant is switched off", true);
    }
}

#define RECONNECT_SPREAD_MS 2000u /* clients of a stopping server come back spread over this, at least … */
#define RECONNECTS_PER_MS 10u      /* … and no more of them at a time: an upgrade costs about as much as ten messages */

static uint64_t reconnect_spread_ms(const struct core *core)
{
    uint64_t sockets = 0;
    for (unsigned i = 0; i < core->num_cores; i++)
        sockets += atomic_load_explicit(&core->gateway->cores[i]->metrics.value[METRIC_WEBSOCKET_CONNECTIONS_ACTIVE],
                                        memory_order_relaxed);
    uint64_t spread_ms = sockets / RECONNECTS_PER_MS;
    return spread_ms > RECONNECT_SPREAD_MS ? spread_ms : RECONNECT_SPREAD_MS;
}

void session_drain_tell(struct core *core)
{
    uint64_t spread_ms = reconnect_spread_ms(core);
    uint32_t at = 0;
    for (struct conn *c; (c = net_each(core->net, &at));) {
        if (!conn_is_websocket(c)) continue;
        struct buf out = {0};
        buf_printf(&out, "{\"type\":\"server.shutdown\",\"reconnect_after_ms\":%llu}",
                   (unsigned long long)(random_u64(core->gateway->random) % spread_ms));
        net_reply_text(core->net, c, buf_slice(&out));
        buf_free(&out);
    }
}

void session_drain_close(struct core *core)
{
    uint32_t at = 0;
    for (struct conn *c; (c = net_each(core->net, &at));)
        if (conn_is_websocket(c) && !conn_in_request(c)) net_ws_close(core->net, c, 1001, "server is stopping", false);
}
