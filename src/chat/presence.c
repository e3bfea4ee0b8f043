#include "presence.h"

#include <stdlib.h>

#include "../../net/websocket.h"
#include "../base/assert.h"
#include "../core/notice.h"
#include "fanout.h"
#include "ids.h"
#include "session.h"

static void change_add(struct core *core, const struct notice *n);
static uint32_t room_tell(struct core *core, struct local_room *l, struct frame *f, uint64_t user, uint64_t serial,
                          enum metric_id counter);

/* --- who is online ------------------------------------------------------------------------------------------------ */

/* The set holds numbers in place of pointers: a word for each user who is online, and nothing allocated. */
static void *number_value(uint64_t user)
{
    return (void *)(uintptr_t)user;
}

static bool number_eq(const void *value, const void *key)
{
    return (uint64_t)(uintptr_t)value == *(const uint64_t *)key;
}

bool presence_online(const struct core *core, uint64_t user)
{
    return map_find(&core->online, hash_u64(user), number_eq, &user) != NULL;
}

/* last_seen: a user who went offline. */
struct last_seen {
    uint64_t user, ms;
    struct list of_core; /* core->last_seen_oldest */
};

static bool seen_eq(const void *value, const void *key)
{
    return ((const struct last_seen *)value)->user == *(const uint64_t *)key;
}

static struct last_seen *seen_find(const struct core *core, uint64_t user)
{
    return map_find(&core->last_seen, hash_u64(user), seen_eq, &user);
}

static void seen_forget(struct core *core, struct last_seen *seen)
{
    list_remove(&seen->of_core);
    ASSERT(map_remove(&core->last_seen, hash_u64(seen->user), seen));
    free(seen);
}

static void set_online(struct core *core, uint64_t user)
{
    struct last_seen *seen = seen_find(core, user);
    if (seen) seen_forget(core, seen);
    if (!presence_online(core, user)) map_insert(&core->online, hash_u64(user), number_value(user));
}

static void set_offline(struct core *core, uint64_t user, uint64_t seen_ms)
{
    map_remove(&core->online, hash_u64(user), number_value(user));
    if (seen_find(core, user)) return;
    if (core->last_seen.len >= PRESENCE_REMEMBERED_MAX)
        seen_forget(core, CONTAINER_OF(core->last_seen_oldest.next, struct last_seen, of_core));
    struct last_seen *seen = malloc(sizeof *seen);
    ASSERT(seen != NULL);
    *seen = (struct last_seen){.user = user, .ms = seen_ms};
    list_init(&seen->of_core);
    list_push(&core->last_seen_oldest, &seen->of_core);
    map_insert(&core->last_seen, hash_u64(user), seen);
}

static void typing_tell(struct core *core, const struct notice *n);

void presence_on_notice(struct core *core, struct notice *n)
{
    if (n->kind == NOTICE_TYPING) {
        typing_tell(core, n);
        return;
    }
    ASSERT(n->kind == NOTICE_PRESENCE);
    if (n->seq)
        set_offline(core, n->user, n->seq);
    else
        set_online(core, n->user);
    change_add(core, n);
}

/* --- changes that wait to be told --------------------------------------------------------------------------------- */

struct presence_change {
    struct list of_core; /* core->presence_changes */
    uint32_t tenant;
    uint64_t user;
    uint64_t serial; /* of this telling: a socket that has it was told; 0: it has not begun */
    uint64_t *rooms; /* those with listeners here */
    uint32_t num_rooms, at;
    uint16_t id_len;
    char id[];
};

static bool change_eq(const void *value, const void *key)
{
    return ((const struct presence_change *)value)->user == *(const uint64_t *)key;
}

static bool has_listeners(const struct local_room *l)
{
    return l && (!list_empty(&l->watches) || (!l->large && l->num_subs));
}

/* rooms_heard copies the numbers of those rooms of a notice that have listeners here: most have none. */
static uint64_t *rooms_heard(const struct core *core, const struct notice *n, uint32_t *num)
{
    struct slice body = notice_body(n);
    uint64_t *rooms = NULL;
    uint32_t cap = 0;
    *num = 0;
    for (; body.len; body = slice_from(body, 8)) {
        uint64_t room;
        memcpy(&room, body.data, 8);
        if (!has_listeners(local_room_find(core, n->tenant, room))) continue;
        if (*num == cap) {
            cap = cap ? cap * 2 : 4;
            /* cppcheck-suppress memleakOnRealloc ; without memory the process ends */
            rooms = realloc(rooms, cap * sizeof *rooms);
            ASSERT(rooms != NULL);
        }
        rooms[(*num)++] = room;
    }
    return rooms;
}

static struct presence_change *change_new(struct core *core, const struct notice *n)
{
    struct presence_change *c = malloc(sizeof *c + n->id_len);
    ASSERT(c != NULL && n->id_len <= USER_ID_BYTES_MAX);
    *c = (struct presence_change){.tenant = n->tenant, .user = n->user, .id_len = (uint16_t)n->id_len};
    memcpy(c->id, n->text, n->id_len);
    list_init(&c->of_core);
    list_push(&core->presence_changes, &c->of_core);
    map_insert(&core->presence_pending, hash_u64(c->user), c);
    return c;
}

static bool change_reaches(const struct presence_change *c, uint64_t room)
{
    for (uint32_t i = c->at; i < c->num_rooms; i++)
        if (c->rooms[i] == room) return true;
    return false;
}

/* change_extend adds a room that the user joined while the change waits. The told ones make room for it, so that who
 * leaves and joins again and again makes the list no longer than the user has rooms. */
static void change_extend(struct presence_change *c, uint64_t room)
{
    if (change_reaches(c, room)) return;
    uint32_t untold = c->num_rooms - c->at;
    memmove(c->rooms, c->rooms + c->at, untold * sizeof *c->rooms);
    c->rooms = realloc(c->rooms, (untold + 1) * sizeof *c->rooms);
    ASSERT(c->rooms != NULL);
    c->rooms[untold] = room;
    c->num_rooms = untold + 1;
    c->at = 0;
}

static size_t change_bytes(const struct presence_change *c)
{
    return c ? sizeof *c + c->id_len + c->num_rooms * sizeof *c->rooms : 0;
}

/* change_add: a notice names all rooms of the user when they come or go, one when they join it. What waits already is
 * told anew, to the rooms of both: a user leaves and joins few rooms while a change waits. */
static void change_add(struct core *core, const struct notice *n)
{
    uint32_t num;
    uint64_t *rooms = rooms_heard(core, n, &num);
    if (num == 0) return;
    struct presence_change *c = map_find(&core->presence_pending, hash_u64(n->user), change_eq, &n->user);
    if (core->presence_bytes + sizeof *c + n->id_len + num * sizeof *rooms > PRESENCE_BYTES_MAX) {
        core->presence_dropped++;
        free(rooms);
        return;
    }
    core->presence_bytes -= change_bytes(c);
    if (c && n->room) { /* one more */
        change_extend(c, n->room);
        free(rooms);
    } else {
        if (!c) c = change_new(core, n);
        free(c->rooms);
        c->rooms = rooms;
        c->num_rooms = num;
        c->at = 0;
        c->serial = 0;
    }
    core->presence_bytes += change_bytes(c);
}

static void change_free(struct core *core, struct presence_change *c)
{
    list_remove(&c->of_core);
    ASSERT(map_remove(&core->presence_pending, hash_u64(c->user), c));
    core->presence_bytes -= change_bytes(c);
    free(c->rooms);
    free(c);
}

/* --- telling ------------------------------------------------------------------------------------------------------ */

/* text_frame makes a frame of this core alone, with one reference for the walk. */
static struct frame *text_frame(const struct core *core, struct slice text)
{
    uint8_t header[WS_HEADER_MAX];
    size_t header_len = ws_header(header, WS_OP_TEXT, text.len);
    struct frame *f = frame_new(1, (uint32_t)(header_len + text.len));
    memcpy(frame_data(f), header, header_len);
    memcpy(frame_data(f) + header_len, text.data, text.len);
    frame_ref(f, core->id);
    return f;
}

static const char *status_text(const struct core *core, uint64_t user)
{
    return presence_online(core, user) ? "online" : "offline";
}

static struct frame *change_frame(const struct core *core, const struct presence_change *c)
{
    struct buf text = {0};
    BUF_LIT(&text, "{\"type\":\"presence.update\",\"user_id\":");
    buf_json_string(&text, slice_of(c->id, c->id_len));
    buf_printf(&text, ",\"status\":\"%s\"}", status_text(core, c->user));
    struct frame *f = text_frame(core, buf_slice(&text));
    buf_free(&text);
    return f;
}

/* slice_told: what a turn has told so far. */
struct slice_told {
    uint32_t looked; /* sockets */
    bool full;       /* PRESENCE_SENDS was reached before, and more sockets had to be sent something since */
};

/* change_tell goes on with a change, room by room, until it is told or the slice is full. */
static void change_tell(struct core *core, struct presence_change *c, struct slice_told *t)
{
    struct frame *f = change_frame(core, c);
    if (c->serial == 0) c->serial = ++core->ephemeral_serial;
    for (; c->at < c->num_rooms && !t->full; c->at++) {
        uint32_t sends_before = core->presence_sends;
        struct local_room *l = local_room_find(core, c->tenant, c->rooms[c->at]);
        t->looked += l ? 1 + room_tell(core, l, f, c->user, c->serial, METRIC_PRESENCE_UPDATES) : 1;
        t->full = !presence_goes_on(t->looked, sends_before, core->presence_sends, core->presence_sends_max);
    }
    frame_unref(f, core->id);
    if (c->at == c->num_rooms) change_free(core, c);
}

/* What telling costs, measured with 3000 sockets a core: the look, and the send of a socket that had nothing else to
 * send, with the kernel's part in it. More news for a socket that has some already costs a look. */
#define LOOK_NS 40u
#define SEND_NS 6000u

/* Changes in one large room reach the same sockets, and are worth telling together. */
bool presence_goes_on(uint32_t looked, uint32_t sends_before, uint32_t sends, uint32_t sends_max)
{
    return looked < PRESENCE_SLICE && (sends_before < sends_max || sends == sends_before);
}

uint64_t presence_pause_ns(uint32_t looked, uint32_t sends)
{
    return (PRESENCE_SHARE - 1) * ((uint64_t)looked * LOOK_NS + (uint64_t)sends * SEND_NS);
}

void presence_flush(struct core *core)
{
    if (LIKELY(list_empty(&core->presence_changes)) || core->now_ns < core->presence_due_ns) return;
    struct slice_told told = {0};
    core->presence_serial = core->ephemeral_serial;
    core->presence_sends = 0;
    while (!told.full && !list_empty(&core->presence_changes))
        change_tell(core, CONTAINER_OF(core->presence_changes.next, struct presence_change, of_core), &told);
    core->presence_due_ns = core->now_ns + presence_pause_ns(told.looked, core->presence_sends);
}

uint64_t presence_wake_at(const struct core *core)
{
    return list_empty(&core->presence_changes) ? UINT64_MAX : core->presence_due_ns;
}

/* session_tell: nobody is told of what they do themselves, and nobody twice. */
static void session_tell(struct core *core, struct session *s, struct frame *f, uint64_t user, uint64_t serial,
                         enum metric_id counter)
{
    if (s->told == serial || s->user->number == user) return;
    if (s->told <= core->presence_serial) core->presence_sends++; /* the first in this turn */
    s->told = serial;
    if (net_send(core->net, s->conn, f, CONN_EPHEMERAL) == STATUS_OK)
        core_count(core, counter, 1); /* else net counts it */
}

/* room_tell gives a frame to a room's listeners on this core; returns how many sockets it looked at. */
static uint32_t room_tell(struct core *core, struct local_room *l, struct frame *f, uint64_t user, uint64_t serial,
                          enum metric_id counter)
{
    uint32_t looked = 0;
    for (uint32_t i = 0; !l->large && i < l->num_subs; i++, looked++) {
        const struct sub *sub = l->subs[i].sub;
        /* not before the welcome, and not after the leave that a replay has yet to reach */
        if (sub->state != SUB_NEW && !sub->left && !sub->quiet)
            session_tell(core, sub->session, f, user, serial, counter);
    }
    for (struct list *at = l->watches.next; at != &l->watches; at = at->next, looked++)
        session_tell(core, CONTAINER_OF(at, struct watch, of_room)->session, f, user, serial, counter);
    return looked;
}

static void typing_tell(struct core *core, const struct notice *n)
{
    struct local_room *l = local_room_find(core, n->tenant, n->room);
    if (!has_listeners(l)) return;
    struct buf text = {0};
    char room_id[ID_TEXT_LEN];
    room_id_text(room_id, n->room);
    buf_printf(&text, "{\"type\":\"typing\",\"room_id\":\"%.*s\",\"user_id\":", (int)ID_TEXT_LEN, room_id);
    buf_json_string(&text, notice_user_id(n));
    buf_printf(&text, ",\"action\":\"%s\"}", n->seq ? "start" : "stop");
    struct frame *f = text_frame(core, buf_slice(&text));
    buf_free(&text);
    room_tell(core, l, f, n->user, ++core->ephemeral_serial, METRIC_TYPING);
    frame_unref(f, core->id);
}

/* --- watches ------------------------------------------------------------------------------------------------------ */

/* watch: a socket that asked to hear of a room. */
struct watch_key {
    const struct session *session;
    uint64_t room;
};

static uint64_t watch_hash(const struct session *s, uint64_t room)
{
    return hash_u64(s->id ^ hash_u64(room));
}

static bool watch_eq(const void *value, const void *key)
{
    const struct watch *w = value;
    const struct watch_key *k = key;
    return w->session == k->session && w->room->number == k->room;
}

static struct watch *watch_find(const struct core *core, const struct session *s, uint64_t room)
{
    struct watch_key k = {s, room};
    return map_find(&core->watches, watch_hash(s, room), watch_eq, &k);
}

bool presence_watch(struct core *core, struct session *s, struct local_room *l)
{
    struct sub *sub = session_sub(s, l->number);
    if (sub) sub->quiet = false;
    if (watch_find(core, s, l->number)) return true;
    struct session_aside *aside = session_aside(s);
    if (aside->num_watches >= SUBSCRIPTIONS_MAX) return false;
    struct watch *w = malloc(sizeof *w);
    ASSERT(w != NULL);
    *w = (struct watch){.session = s, .room = l};
    list_init(&w->of_room);
    list_init(&w->of_session);
    list_push(&l->watches, &w->of_room);
    list_push(&aside->watches, &w->of_session);
    aside->num_watches++;
    map_insert(&core->watches, watch_hash(s, l->number), w);
    return true;
}

static void watch_free(struct core *core, struct watch *w)
{
    struct local_room *l = w->room;
    list_remove(&w->of_room);
    list_remove(&w->of_session);
    w->session->aside->num_watches--;
    session_tidy(w->session);
    ASSERT(map_remove(&core->watches, watch_hash(w->session, l->number), w));
    free(w);
    local_room_release(core, l);
}

void presence_ended(struct core *core, struct session *s, uint64_t room)
{
    struct watch *w = s->aside && s->aside->num_watches ? watch_find(core, s, room) : NULL;
    if (w) watch_free(core, w);
}

bool presence_unwatch(struct core *core, struct session *s, uint64_t room)
{
    struct sub *sub = session_sub(s, room);
    struct watch *w = watch_find(core, s, room);
    if (sub) sub->quiet = true;
    if (w) watch_free(core, w);
    return sub || w;
}

void presence_session_ended(struct core *core, struct session *s)
{
    while (s->aside && !list_empty(&s->aside->watches))
        watch_free(core, CONTAINER_OF(s->aside->watches.next, struct watch, of_session));
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

void presence_object(struct buf *out, const struct core *core, uint64_t user, struct slice user_id)
{
    const struct last_seen *seen = seen_find(core, user);
    BUF_LIT(out, "{\"user_id\":");
    buf_json_string(out, user_id);
    buf_printf(out, ",\"status\":\"%s\",\"last_seen\":", status_text(core, user));
    if (seen) {
        char time[TIME_TEXT_LEN];
        time_text(time, seen->ms);
        buf_printf(out, "\"%.*s\"}", (int)TIME_TEXT_LEN, time);
    } else {
        BUF_LIT(out, "null}");
    }
}

void presence_page(struct buf *out, const struct core *core, const struct op *op, bool online_only, size_t bytes_max)
{
    struct slice members = buf_slice(&op->out);
    uint64_t next = op->in.presence.next;
    bool first = true;
    BUF_LIT(out, "\"items\":[");
    while (members.len) {
        uint64_t user;
        memcpy(&user, members.data, 8);
        struct slice id = slice_of(members.data + 9, (uint8_t)members.data[8]);
        members = slice_from(members, 9 + id.len);
        if (online_only && !presence_online(core, user)) continue;
        if (!first) BUF_LIT(out, ",");
        first = false;
        presence_object(out, core, user, id);
        if (out->len < bytes_max || members.len == 0) continue;
        next = user;
        break;
    }
    if (next)
        buf_printf(out, "],\"next\":\"%llu\"", (unsigned long long)next);
    else
        BUF_LIT(out, "],\"next\":null");
}

void presence_free(struct core *core)
{
    while (!list_empty(&core->presence_changes))
        change_free(core, CONTAINER_OF(core->presence_changes.next, struct presence_change, of_core));
    while (!list_empty(&core->last_seen_oldest))
        seen_forget(core, CONTAINER_OF(core->last_seen_oldest.next, struct last_seen, of_core));
    uint32_t at = 0;
    for (struct watch *w; (w = map_next(&core->watches, &at));) free(w);
    map_free(&core->watches);
    map_free(&core->presence_pending);
    map_free(&core->last_seen);
    map_free(&core->online);
}
