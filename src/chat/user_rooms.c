#include "user_state.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/log.h"

/* Both lists are sorted, so that a user of thousands of rooms costs no more than a logarithm an ack. */

/* user_room_at returns the place of a room in the list: where it stands, or would be inserted. */
static uint32_t user_room_at(const struct user *u, uint64_t room)
{
    uint32_t low = 0, high = u->num_rooms;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (u->rooms[middle].room < room) low = middle + 1;
        else high = middle;
    }
    return low;
}

struct user_room *user_room(struct user *u, uint64_t room)
{
    uint32_t at = user_room_at(u, room);
    return at < u->num_rooms && u->rooms[at].room == room ? &u->rooms[at] : NULL;
}

void user_room_add(struct user *u, uint64_t room, uint64_t joined_seq)
{
    if (u->num_rooms == u->cap_rooms) {
        u->cap_rooms = u->cap_rooms ? u->cap_rooms * 2 : 1; /* most users are in one room, or in many */
        u->rooms = realloc(u->rooms, u->cap_rooms * sizeof *u->rooms);
        ASSERT(u->rooms != NULL);
    }
    uint32_t at = user_room_at(u, room);
    memmove(&u->rooms[at + 1], &u->rooms[at], (u->num_rooms - at) * sizeof *u->rooms);
    u->rooms[at] = (struct user_room){
        .room = room, .joined_seq = joined_seq, .delivered = joined_seq, .read = joined_seq};
    u->num_rooms++;
}

void user_room_remove(struct user *u, struct user_room *r)
{
    uint32_t at = (uint32_t)(r - u->rooms);
    memmove(r, r + 1, (u->num_rooms - at - 1) * sizeof *u->rooms);
    u->num_rooms--;
}

/* device_order: by room, then by the device's bytes. */
static int device_order(const struct device_room *d, uint64_t room, struct slice device)
{
    if (d->room != room) return d->room < room ? -1 : 1;
    size_t shared = d->device_len < device.len ? d->device_len : device.len;
    int order = memcmp(d->device, device.data, shared);
    return order ? order : (d->device_len > device.len) - (d->device_len < device.len);
}

static uint32_t device_room_at(const struct user *u, struct slice device, uint64_t room)
{
    uint32_t low = 0, high = u->num_devices;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (device_order(&u->devices[middle], room, device) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

struct device_room *user_device(struct user *u, struct slice device, uint64_t room)
{
    uint32_t at = device_room_at(u, device, room);
    return at < u->num_devices && device_order(&u->devices[at], room, device) == 0 ? &u->devices[at] : NULL;
}

struct device_room *user_device_add(struct user *u, struct slice device, uint64_t room)
{
    if (u->num_devices == u->cap_devices) {
        u->cap_devices = u->cap_devices ? u->cap_devices * 2 : 2;
        u->devices = realloc(u->devices, u->cap_devices * sizeof *u->devices);
    }
    ASSERT(u->devices != NULL);
    uint32_t at = device_room_at(u, device, room);
    struct device_room *d = &u->devices[at];
    memmove(d + 1, d, (u->num_devices - at) * sizeof *d);
    *d = (struct device_room){.room = room, .device_len = (uint8_t)device.len};
    memcpy(d->device, device.data, device.len);
    u->num_devices++;
    return d;
}

void user_devices_forget(struct user *u, uint64_t room)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < u->num_devices; i++)
        if (u->devices[i].room != room) u->devices[kept++] = u->devices[i];
    u->num_devices = kept;
}

struct rooms_load {
    struct read_job job;
    struct durable_wait wait;
    struct user *user;
    enum status status;
    struct buf rooms;   /* room u64 · joined seq u64, repeated */
    struct buf cursors; /* room u64 · delivered u64 · read u64 · device length u8 · device, repeated */
};

static enum status load_rooms(struct rooms_load *l, struct kv *kv, const struct key *prefix)
{
    struct key end;
    key_prefix_end(&end, key_slice(prefix));
    struct kv_iter *i = kv_iter_open(kv, KV_USER_ROOMS, key_slice(prefix), key_slice(&end));
    enum status s = STATUS_OK;
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix->len);
        struct member_record m;
        uint64_t room;
        s = key_parse_u64(&rest, &room) ? member_record_decode(&m, kv_iter_value(kv, i)) : STATUS_CORRUPT;
        if (s != STATUS_OK) break;
        buf_append(&l->rooms, &room, 8);
        buf_append(&l->rooms, &m.joined_seq, 8);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

static enum status load_cursors(struct rooms_load *l, struct kv *kv, const struct key *prefix)
{
    struct key end;
    key_prefix_end(&end, key_slice(prefix));
    struct kv_iter *i = kv_iter_open(kv, KV_CURSORS, key_slice(prefix), key_slice(&end));
    enum status s = STATUS_OK;
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix->len);
        uint8_t device_len = rest.len ? (uint8_t)rest.data[0] : 0;
        if (rest.len != 1u + device_len + 8u || device_len > DEVICE_BYTES_MAX) {
            s = STATUS_CORRUPT;
            break;
        }
        struct slice room_part = slice_from(rest, 1u + device_len);
        struct cursor_record c;
        uint64_t room;
        ASSERT(key_parse_u64(&room_part, &room));
        s = cursor_record_decode(&c, kv_iter_value(kv, i));
        buf_append(&l->cursors, &room, 8);
        buf_append(&l->cursors, &c.delivered, 8);
        buf_append(&l->cursors, &c.read, 8);
        buf_append(&l->cursors, rest.data, 1u + device_len);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

static void rooms_run(struct read_job *job, struct kv *kv)
{
    struct rooms_load *l = CONTAINER_OF(job, struct rooms_load, job);
    struct key prefix;
    key_user(&prefix, l->user->tenant, l->user->number); /* t · u: the prefix of both families */
    l->status = load_rooms(l, kv, &prefix);
    if (l->status == STATUS_OK) l->status = load_cursors(l, kv, &prefix);
}

static void take_cursor(struct user *u, uint64_t room, struct slice device, uint64_t delivered, uint64_t read)
{
    struct user_room *own = user_room(u, room);
    if (!own) return; /* of a room the user has left */
    if (device.len == 0) {
        /* a returning member's cursors start at its join: older positions count as that */
        if (delivered > own->delivered) own->delivered = delivered;
        if (read > own->read) own->read = read;
        return;
    }
    struct device_room *d = user_device_add(u, device, room);
    d->delivered = delivered > own->joined_seq ? delivered : own->joined_seq;
    d->read = read > own->joined_seq ? read : own->joined_seq;
}

static void rooms_take(struct user *u, struct rooms_load *l)
{
    for (struct slice s = buf_slice(&l->rooms); s.len; s = slice_from(s, 16)) {
        uint64_t pair[2];
        memcpy(pair, s.data, sizeof pair);
        if (!user_room(u, pair[0])) user_room_add(u, pair[0], pair[1]); /* a notice may have been faster */
    }
    for (struct slice s = buf_slice(&l->cursors); s.len;) {
        uint64_t v[3];
        memcpy(v, s.data, sizeof v);
        uint8_t len = (uint8_t)s.data[24];
        take_cursor(u, v[0], slice_of(s.data + 25, len), v[1], v[2]);
        s = slice_from(s, 25u + len);
    }
}

static void rooms_settled(struct core *core, struct durable_wait *w, bool durable);

static void rooms_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct rooms_load, job)->wait, rooms_settled);
}

static void rooms_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct rooms_load *l = CONTAINER_OF(w, struct rooms_load, wait);
    if (!durable) l->status = STATUS_READ_ONLY;
    struct user *u = l->user;
    enum status s = l->status;
    if (s == STATUS_OK && u->rooms_stale) {
        buf_free(&l->rooms);
        buf_free(&l->cursors);
        free(l);
        u->num_rooms = 0; /* joins that were told of are on disk as well */
        user_rooms_load(core, u);
        return;
    }
    if (s == STATUS_OK) rooms_take(u, l);
    else LOG(LOG_ERROR, "user", "rooms_load_failed", LOG_STR("status", status_name(s)));
    u->rooms_state = s == STATUS_OK ? ROOMS_LOADED : ROOMS_UNKNOWN;
    u->last_used_ns = core->now_ns; /* as in user_ready */
    buf_free(&l->rooms);
    buf_free(&l->cursors);
    free(l);
    struct queue waiting = u->rooms_waiting;
    u->rooms_waiting = (struct queue){0};
    while (waiting.len) {
        struct op *op = CONTAINER_OF(queue_pop(&waiting), struct op, mail.node);
        if (s == STATUS_OK) {
            user_serve(core, u, op);
        } else {
            op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
            op_return(core, op);
        }
    }
}

void user_rooms_load(struct core *core, struct user *u)
{
    struct rooms_load *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->job = (struct read_job){.return_core = (uint16_t)core->id, .run = rooms_run, .done = rooms_done};
    l->user = u;
    u->rooms_state = ROOMS_LOADING;
    u->rooms_stale = false;
    read_submit(core->reader, &l->job);
}

void user_rooms_answer(struct core *core, struct user *u, struct op *op)
{
    op->user = u->number;
    op->positions = calloc(u->num_rooms ? u->num_rooms : 1, sizeof *op->positions);
    ASSERT(op->positions != NULL);
    op->num_positions = u->num_rooms;
    for (uint32_t i = 0; i < u->num_rooms; i++) {
        const struct user_room *r = &u->rooms[i];
        struct room_position *p = &op->positions[i];
        *p = (struct room_position){
            .room = r->room, .joined_seq = r->joined_seq, .delivered = r->delivered, .read = r->read};
        struct device_room *d = op->in.rooms.device.len ? user_device(u, op->in.rooms.device, r->room) : NULL;
        if (d) {
            p->delivered = d->delivered;
            p->read = d->read;
        }
    }
    op_return(core, op);
}
