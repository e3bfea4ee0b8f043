/* sync: everything that is missing in every room, in one call, paged.
 *
 * The user's home lists rooms and cursors; every room's home says where the caller stands; then readers read room after
 * room, in the order of their numbers, until `limit` events are in. `next` names the room to go on at, and the seq when
 * that room has been begun: the verdict on the caller's position was said then. A room that has not been begun is
 * judged by the caller's own position on its own page. */
#include <stdlib.h>

#include "../base/assert.h"
#include "../chat/history.h"
#include "../chat/ids.h"
#include "../chat/session.h"
#include "admission.h"
#include "api.h"
#include "pages.h"

struct sync_room {
    uint64_t room, epoch, seq;
    bool resume; /* the caller named its position */
    bool in;     /* the home said yes */
    struct room_position position;
};

struct sync {
    struct read_job job;
    struct op *op;
    void (*then)(struct core *core, struct op *op); /* the op's own */
    uint32_t limit, left, num, asked, at, written;
    uint64_t cursor_room, cursor_seq;
    struct sync_room *rooms; /* the wishes at first, then the rooms in the order of their numbers */
    uint32_t num_wishes;
    struct buf events;
    uint32_t num_events;
    enum status status;
};

static void sync_rooms(struct core *core, struct op *op);
static void sync_position(struct core *core, struct op *child);
static void sync_next(struct core *core, struct sync *s);

/* --- reading the request ----------------------------------------------------------------------------------------- */

static bool wish_read(struct op *op, struct sync_room *w, struct slice name, struct json_node position)
{
    struct json_node part;
    uint64_t v[2];
    unsigned num = 0;
    if (!room_id_parse(name, &w->room)) w->room = 0; /* like any room that the caller is not in: left out */
    if (json_type_of(position) == JSON_ARRAY) {
        struct json_iter i = json_array(position);
        while (json_array_next(&i, &part)) {
            if (num == 2 || !json_u64(part, &v[num]))
                return op_fail(op, ERR_FIELD_INVALID, "A position is [epoch, seq]", "rooms");
            num++;
        }
    }
    if (num != 2) return op_fail(op, ERR_FIELD_INVALID, "A position is [epoch, seq]", "rooms");
    w->epoch = v[0];
    w->seq = v[1];
    w->resume = true;
    return true;
}

static bool wishes_read(struct op *op, struct sync *s, struct json_node object)
{
    struct json_node rooms;
    if (!json_get(object, "rooms", &rooms) || json_type_of(rooms) == JSON_NULL) return true;
    if (json_type_of(rooms) != JSON_OBJECT)
        return op_fail(op, ERR_FIELD_INVALID, "rooms is {room_id: [epoch, seq]}", "rooms");
    struct slice name;
    struct json_node position;
    struct json_iter i = json_object(rooms);
    while (json_object_next(&i, &name, &position)) s->num_wishes++;
    if (s->num_wishes > SUBSCRIPTIONS_MAX) return op_fail(op, ERR_TOO_MANY_ITEMS, NULL, "rooms");
    s->rooms = calloc(s->num_wishes + 1, sizeof *s->rooms);
    ASSERT(s->rooms != NULL);
    i = json_object(rooms);
    for (uint32_t n = 0; json_object_next(&i, &name, &position); n++)
        if (!wish_read(op, &s->rooms[n], name, position)) return false;
    return true;
}

/* a cursor is "<room id>.<seq>"; seq 0: the room has not been begun */
static bool cursor_read(struct op *op, struct sync *s, struct slice text)
{
    if (text.len == 0) return true;
    bool good = text.len > ID_TEXT_LEN + 1 && text.data[ID_TEXT_LEN] == '.' &&
                room_id_parse((struct slice){text.data, ID_TEXT_LEN}, &s->cursor_room) &&
                slice_u64(slice_from(text, ID_TEXT_LEN + 1), &s->cursor_seq);
    return good || op_fail(op, ERR_CURSOR_INVALID, NULL, "cursor");
}

static void sync_free(struct sync *s)
{
    free(s->rooms);
    buf_free(&s->events);
    free(s);
}

bool sync_begin(struct core *core, struct op *op, struct json_node object)
{
    ASSERT(op->kind == OP_USER_ROOMS);
    struct fields f = {.object = object};
    uint64_t limit = SYNC_LIMIT_DEFAULT;
    struct slice cursor = {0};
    if (!field_u64(&f, "limit", &limit, false) || !field_text(&f, "cursor", &cursor, 64, false)) {
        op->error = f.error;
        return false;
    }
    if (limit < 1 || limit > SYNC_LIMIT_MAX) return op_fail(op, ERR_FIELD_INVALID, "limit is 1 to 1000", "limit");
    struct sync *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    s->op = op;
    s->limit = s->left = (uint32_t)limit;
    if (!cursor_read(op, s, cursor) || !wishes_read(op, s, object)) {
        sync_free(s);
        return false;
    }
    s->then = op->then;
    op->flow = s;
    op->then = sync_rooms;
    return true;
}

/* --- asking the homes -------------------------------------------------------------------------------------------- */

static void sync_end(struct core *core, struct sync *s)
{
    struct op *op = s->op;
    op->then = s->then;
    op->flow = NULL;
    sync_free(s);
    op->then(core, op);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const struct sync_room *)a)->room, y = ((const struct sync_room *)b)->room;
    return (x > y) - (x < y);
}

static void sync_choose(struct sync *s, const struct op *op)
{
    struct sync_room *rooms = calloc(op->num_positions + 1, sizeof *rooms);
    ASSERT(rooms != NULL);
    if (s->num_wishes) qsort(s->rooms, s->num_wishes, sizeof *s->rooms, by_number);
    for (uint32_t i = 0; i < op->num_positions; i++) {
        struct sync_room r = {.room = op->positions[i].room, .seq = op->positions[i].delivered};
        const struct sync_room *wish =
            s->num_wishes ? bsearch(&r, s->rooms, s->num_wishes, sizeof r, by_number) : NULL;
        if (wish) r = *wish;
        if (r.room == s->cursor_room && s->cursor_seq) {
            r.resume = false;
            r.seq = s->cursor_seq - 1;
        }
        if (r.room >= s->cursor_room) rooms[s->num++] = r;
    }
    qsort(rooms, s->num, sizeof *rooms, by_number);
    free(s->rooms);
    s->rooms = rooms;
}

static void sync_rooms(struct core *core, struct op *op)
{
    struct sync *s = op->flow;
    if (op_failed(op)) {
        sync_end(core, s);
        return;
    }
    sync_choose(s, op);
    BUF_LIT(&op->out, "\"rooms\":[");
    s->asked = s->num + 1; /* one more until all are asked for */
    for (uint32_t i = 0; i < s->num; i++) {
        struct op *child = op_new(core, OP_ROOM_POSITION, 0);
        child->tenant = op->tenant;
        child->user = op->user;
        child->room = s->rooms[i].room;
        child->in.position.mode = s->rooms[i].resume ? POSITION_RESUME : POSITION_AFTER;
        child->in.position.epoch = s->rooms[i].epoch;
        child->in.position.seq = s->rooms[i].seq;
        child->child_index = i;
        child->flow = s;
        child->then = sync_position;
        op_dispatch(core, child);
    }
    if (--s->asked == 0) sync_next(core, s);
}

static void sync_position(struct core *core, struct op *child)
{
    struct sync *s = child->flow;
    struct sync_room *r = &s->rooms[child->child_index];
    /* a room the user has left meanwhile is left out; one that is merely not to be had is not */
    r->in = !op_failed(child);
    if (!r->in && !op_not_in_room(child)) op_fail(s->op, child->error.code, child->error.detail, NULL);
    r->position = child->position;
    op_free(child);
    if (--s->asked == 0) sync_next(core, s);
}

/* --- reading, room after room ------------------------------------------------------------------------------------ */

/* page_bytes_max: several answers of one socket may wait in one queue, so its pages are shorter. */
static size_t page_bytes_max(const struct sync *s)
{
    return s->op->is_websocket ? WEBSOCKET_PAGE_BYTES_MAX : HISTORY_BYTES_MAX;
}

/* sync_bound: a room's events stand beside the answer until they are copied into it. */
size_t sync_bound(const struct core *core, const struct op *op)
{
    const struct sync *s = op->flow;
    return 2 * pages_bound(core, s->limit, page_bytes_max(s));
}

static void sync_run(struct read_job *job, struct kv *kv)
{
    struct sync *s = CONTAINER_OF(job, struct sync, job);
    const struct room_position *p = &s->rooms[s->at].position;
    s->status = history_read(&s->events, &s->num_events, kv, HISTORY_JSON, s->op->tenant, p->room, p->from, p->head,
                             s->left, page_bytes_max(s) - s->op->out.len); /* sync_next has seen that it is no longer */
}

static void room_write(struct sync *s)
{
    struct buf *out = &s->op->out;
    const struct room_position *p = &s->rooms[s->at].position;
    char room_id[ID_TEXT_LEN];
    room_id_text(room_id, p->room);
    if (s->written++) BUF_LIT(out, ",");
    buf_printf(out, "{\"room_id\":\"%.*s\",\"epoch\":%llu,\"recovered\":%s,\"from\":%llu,\"head\":%llu,\"events\":[",
               (int)ID_TEXT_LEN, room_id, (unsigned long long)p->epoch, p->recovered ? "true" : "false",
               (unsigned long long)p->from, (unsigned long long)p->head);
    buf_slice_append(out, buf_slice(&s->events));
    BUF_LIT(out, "]}");
    s->events.len = 0;
}

static void sync_finish(struct core *core, struct sync *s, uint64_t room, uint64_t seq)
{
    struct buf *out = &s->op->out;
    if (room) {
        char room_id[ID_TEXT_LEN];
        room_id_text(room_id, room);
        buf_printf(out, "],\"next\":\"%.*s.%llu\"", (int)ID_TEXT_LEN, room_id, (unsigned long long)seq);
    } else {
        BUF_LIT(out, "],\"next\":null");
    }
    (void)answer_taken(core, s->op);
    sync_end(core, s);
}

static void sync_read_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct sync *s = CONTAINER_OF(job, struct sync, job);
    const struct room_position *p = &s->rooms[s->at].position;
    if (s->status != STATUS_OK) {
        op_fail(s->op, ERR_STORE_READ_FAILED, NULL, NULL);
        sync_end(core, s);
        return;
    }
    uint64_t next = p->from + s->num_events;
    room_write(s);
    s->left -= s->num_events;
    if (next <= p->head) { /* the page is full in the middle of this room */
        sync_finish(core, s, p->room, next);
        return;
    }
    s->at++;
    sync_next(core, s);
}

static void sync_next(struct core *core, struct sync *s)
{
    if (op_failed(s->op)) {
        sync_end(core, s);
        return;
    }
    for (; s->at < s->num; s->at++) {
        const struct sync_room *r = &s->rooms[s->at];
        if (!r->in) continue;
        if (r->position.from > r->position.head) {
            room_write(s);
            continue;
        }
        if (s->left == 0 || s->op->out.len > page_bytes_max(s)) {
            sync_finish(core, s, r->position.room, 0);
            return;
        }
        s->job = (struct read_job){.return_core = (uint16_t)core->id, .run = sync_run, .done = sync_read_done};
        read_submit(core->reader, &s->job);
        return;
    }
    sync_finish(core, s, 0, 0);
}
