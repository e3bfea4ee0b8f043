#include "user.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../core/notice.h"
#include "presence.h"
#include "room.h"

enum user_state {
    USER_LOOKING,  /* a reader looks for the name; ops wait */
    USER_ABSENT,   /* looked for and not there, or not readable; its ops are being answered, the first may create it */
    USER_UNKNOWN,  /* absent with sockets: their cores have yet to close them; the next op looks again */
    USER_CREATING, /* its rows are on their way to the disk; ops wait */
    USER_READY,    /* number known */
};

enum rooms_state { ROOMS_UNKNOWN, ROOMS_LOADING, ROOMS_LOADED };

enum presence {
    PRESENCE_OFFLINE,
    PRESENCE_COMING,  /* has a socket; told when the rooms are loaded */
    PRESENCE_ONLINE,  /* told */
    PRESENCE_LEAVING, /* told, and without a socket until `leave_ns` */
};

struct user_room {
    uint64_t room, joined_seq;
    uint64_t delivered, read; /* the user's own cursor */
    bool dirty;
};

/* device_room: one device's cursor in one room; only for devices that named themselves. */
struct device_room {
    uint64_t room, delivered, read;
    bool dirty;
    uint8_t device_len;
    char device[DEVICE_BYTES_MAX];
};

struct user {
    uint32_t tenant;
    uint64_t number, created_ms;
    uint8_t state;       /* enum user_state */
    uint8_t rooms_state; /* enum rooms_state */
    bool rooms_stale;    /* loading: a room was left meanwhile, what is read may still list it */
    uint8_t presence;    /* enum presence */
    bool typed;          /* since the first socket, on any that is gone */
    struct queue waiting, rooms_waiting;
    struct user_room *rooms;
    uint32_t num_rooms, cap_rooms;
    struct device_room *devices;
    uint32_t num_devices, cap_devices;
    struct list dirty; /* in core->users_dirty */
    uint64_t cursor_flush; /* number of the last write of cursors that has some of its */
    struct list idle;  /* in core->users_idle once it is ready, in core->users_leaving while it is leaving */
    uint64_t leave_ns; /* leaving: when it is offline */
    uint64_t hash, last_used_ns;
    uint16_t id_len, num_cores;
    uint32_t sockets[]; /* for each core; the id's bytes stand behind them */
};

static struct slice user_id(const struct user *u) { return slice_of(u->sockets + u->num_cores, u->id_len); }
static void user_serve(struct core *core, struct user *u, struct op *op);
static void user_evict_idle(struct core *core);
static void user_look(struct core *core, struct user *u);
static void user_create(struct core *core, struct user *u, struct op *first);
static void user_count_socket(struct core *core, struct user *u, const struct op *op);
static void rooms_load(struct core *core, struct user *u);

/* --- finding ------------------------------------------------------------------------------------------------------- */

struct user_key {
    uint32_t tenant;
    struct slice id;
};

static bool by_id(const void *value, const void *key)
{
    const struct user *u = value;
    const struct user_key *k = key;
    return u->tenant == k->tenant && slice_eq(user_id(u), k->id);
}

static struct user *user_find(const struct core *core, uint32_t tenant, struct slice id)
{
    struct user_key k = {tenant, id};
    return map_find(&core->users_by_id, hash_bytes(&core->gateway->hash_key, id) ^ tenant, by_id, &k);
}

uint32_t user_num_sockets(const struct core *core, uint32_t tenant, struct slice id, unsigned of_core)
{
    const struct user *u = user_find(core, tenant, id);
    return u ? u->sockets[of_core] : 0;
}

uint64_t user_socket_cores(const struct core *core, uint32_t tenant, struct slice id)
{
    const struct user *u = user_find(core, tenant, id);
    uint64_t cores = 0;
    for (unsigned at = 0; u && at < u->num_cores; at++) cores |= (uint64_t)(u->sockets[at] > 0) << at;
    return cores;
}

static struct user *user_get(struct core *core, uint32_t tenant, struct slice id)
{
    struct user *u = user_find(core, tenant, id);
    if (u) return u;
    user_evict_idle(core);
    ASSERT(id.len > 0 && id.len <= USER_ID_BYTES_MAX);
    u = calloc(1, sizeof *u + core->num_cores * sizeof u->sockets[0] + id.len);
    ASSERT(u != NULL);
    u->num_cores = (uint16_t)core->num_cores;
    u->tenant = tenant;
    u->hash = hash_bytes(&core->gateway->hash_key, id) ^ tenant;
    u->id_len = (uint16_t)id.len;
    memcpy(u->sockets + u->num_cores, id.data, id.len);
    list_init(&u->dirty);
    list_init(&u->idle);
    map_insert(&core->users_by_id, u->hash, u);
    user_look(core, u);
    return u;
}

static void user_free(struct user *u)
{
    free(u->rooms);
    free(u->devices);
    free(u);
}

static bool has_socket(const struct user *u)
{
    for (unsigned core = 0; core < u->num_cores; core++)
        if (u->sockets[core]) return true;
    return false;
}

/* A user is evicted only with no socket, nothing to load and nothing to write: what is on disk tells the rest. */
static bool user_evictable(const struct core *core, const struct user *u)
{
    if (u->state != USER_READY || u->rooms_state == ROOMS_LOADING || u->waiting.len || u->rooms_waiting.len) return false;
    if (u->dirty.next != &u->dirty) return false;
    /* read again before they are written, its cursors would be the old ones, and go on from there */
    if (core->cursor_flush_open && u->cursor_flush == core->cursor_flush_number) return false;
    return u->presence == PRESENCE_OFFLINE && !has_socket(u);
}

/* user_evict_idle gives users used lately, and those it must keep, a second chance; a few looks keep it O(1). */
static void user_evict_idle(struct core *core)
{
    for (unsigned looks = 0; core->users_by_id.len >= core->users_loaded_max && looks < 8; looks++) {
        struct list *oldest = list_pop(&core->users_idle);
        if (!oldest) return;
        struct user *u = CONTAINER_OF(oldest, struct user, idle);
        if (!user_evictable(core, u) || core->now_ns - u->last_used_ns < 1000000000u) {
            list_push(&core->users_idle, &u->idle);
            continue;
        }
        ASSERT(map_remove(&core->users_by_id, u->hash, u));
        user_free(u);
    }
}

/* user_forget drops a user that turned out not to exist. */
static void user_forget(struct core *core, struct user *u)
{
    ASSERT(u->waiting.len == 0 && u->rooms_waiting.len == 0 && !has_socket(u));
    ASSERT(map_remove(&core->users_by_id, u->hash, u));
    user_free(u);
}

void users_free(struct core *core)
{
    uint32_t at = 0;
    for (struct user *u; (u = map_next(&core->users_by_id, &at));) user_free(u);
    while (core->full_again.len) op_free(CONTAINER_OF(queue_pop(&core->full_again), struct op, mail.node));
    map_free(&core->users_by_id);
}

/* --- ops ---------------------------------------------------------------------------------------------------------------- */

static bool user_wait(struct core *core, struct queue *q, struct op *op)
{
    if (q->len < core->user_waiting_max) {
        queue_push(q, &op->mail.node);
        return true;
    }
    op_fail(op, ERR_SERVER_OVERLOADED, "Too many requests wait for this user", NULL);
    op_return(core, op);
    return false;
}

void user_on_op(struct core *core, struct op *op)
{
    ASSERT(gateway_user_home(core->gateway, op->tenant, op->user_id) == core->id);
    struct user *u = user_get(core, op->tenant, op->user_id);
    u->last_used_ns = core->now_ns;
    if (op->kind == OP_USER_ROOMS && op->in.rooms.session) user_count_socket(core, u, op);
    if (u->state == USER_UNKNOWN) user_look(core, u);
    if (u->state == USER_READY) user_serve(core, u, op);
    else user_wait(core, &u->waiting, op);
}

static void user_object(struct core *core, struct user *u, struct op *op)
{
    char time[TIME_TEXT_LEN];
    time_text(time, u->created_ms);
    BUF_LIT(&op->out, "{\"user_id\":");
    buf_json_string(&op->out, user_id(u));
    buf_printf(&op->out, ",\"display_name\":null,\"created_at\":\"%.*s\"}", (int)TIME_TEXT_LEN, time);
    op->http_status = 200;
}

static void user_rooms_answer(struct core *core, struct user *u, struct op *op);
static void user_cursor(struct core *core, struct user *u, struct op *op);
static void user_presence(struct core *core, struct user *u, struct op *op);
static void user_comes(struct core *core, struct user *u);
static void user_stays(struct core *core, struct user *u);
static void user_goes(struct core *core, struct user *u, uint64_t number);

/* user_count_socket counts a socket when its request comes, whatever becomes of the request (user.h). */
static void user_count_socket(struct core *core, struct user *u, const struct op *op)
{
    u->sockets[op->origin] += 1 + (PLANTED(socket_counted_twice) && has_socket(u));
    core->num_user_sockets++;
    if (u->presence == PRESENCE_OFFLINE) u->presence = PRESENCE_COMING;
    else if (u->presence == PRESENCE_LEAVING) user_stays(core, u);
}

/* rooms_full: a leave is answered when it is durable, and this home is told of it in the same moment. A client that joins
 * another room at once may be faster than that news, so it is looked at once more a little later. */
static void rooms_full(struct core *core, struct op *op)
{
    op->rooms_full = op->in.resolve.again_ns != 0;
    if (op->rooms_full) {
        op_return(core, op);
        return;
    }
    op->in.resolve.again_ns = core->now_ns + ROOMS_FULL_AGAIN_MS * 1000000ull;
    queue_push(&core->full_again, &op->mail.node);
}

uint64_t user_full_again_ns(const struct core *core)
{
    return CONTAINER_OF(core->full_again.head, struct op, mail.node)->in.resolve.again_ns;
}

void user_full_again(struct core *core)
{
    while (UNLIKELY(core->full_again.len) && user_full_again_ns(core) <= core->now_ns)
        user_on_op(core, CONTAINER_OF(queue_pop(&core->full_again), struct op, mail.node));
}

static void rooms_wait(struct core *core, struct user *u, struct op *op)
{
    if (user_wait(core, &u->rooms_waiting, op) && u->rooms_state == ROOMS_UNKNOWN) rooms_load(core, u);
}

static void user_serve(struct core *core, struct user *u, struct op *op)
{
    switch ((enum op_kind)op->kind) {
    case OP_USER_RESOLVE:
        op->user = u->number;
        if (op->joins && u->rooms_state != ROOMS_LOADED) {
            rooms_wait(core, u, op);
            return;
        }
        if (op->joins && u->num_rooms >= core->gateway->config->limits_rooms_per_user) rooms_full(core, op);
        else op_return(core, op);
        return;
    case OP_USER_GET:
        user_object(core, u, op);
        op_return(core, op);
        return;
    case OP_USER_ROOMS:
    case OP_USER_CURSOR:
    case OP_USER_PRESENCE:
        if (u->rooms_state != ROOMS_LOADED) {
            rooms_wait(core, u, op);
        } else if (op->kind == OP_USER_ROOMS) {
            if (u->presence == PRESENCE_COMING) user_comes(core, u);
            user_rooms_answer(core, u, op);
        } else if (op->kind == OP_USER_PRESENCE) {
            user_presence(core, u, op);
        } else {
            user_cursor(core, u, op);
        }
        return;
    default: UNREACHABLE();
    }
}

/* user_rest ends a settlement that has found nobody. An answer may have brought another op at once, and sockets that are
 * counted keep the user: their ends are still to come. */
static void user_rest(struct core *core, struct user *u)
{
    if (u->waiting.len) user_look(core, u);
    else if (has_socket(u)) u->state = USER_UNKNOWN;
    else user_forget(core, u);
}

/* user_settle answers what waited for the look-up; the first op that may create the user does so. */
static void user_settle(struct core *core, struct user *u, enum error_code failed)
{
    struct queue waiting = u->waiting;
    u->waiting = (struct queue){0};
    while (waiting.len) {
        struct op *op = CONTAINER_OF(queue_pop(&waiting), struct op, mail.node);
        if (failed != ERR_NONE) {
            op_fail(op, failed, NULL, NULL);
            op_return(core, op);
        } else if (u->state == USER_READY) {
            user_serve(core, u, op);
        } else if (op->kind == OP_USER_RESOLVE && !op->asks && u->state == USER_ABSENT) {
            user_create(core, u, op);
        } else if (u->state == USER_CREATING) {
            queue_push(&u->waiting, &op->mail.node);
        } else {
            op_fail(op, ERR_USER_NOT_FOUND, NULL, NULL);
            op_return(core, op);
        }
    }
    if (u->state == USER_ABSENT) user_rest(core, u);
}

/* --- look-up by name -------------------------------------------------------------------------------------------------------- */

struct user_look {
    struct read_job job;
    struct durable_wait wait;
    struct user *user;
    enum status status;
    uint64_t number, created_ms;
    struct buf value;
};

static void look_run(struct read_job *job, struct kv *kv)
{
    struct user_look *l = CONTAINER_OF(job, struct user_look, job);
    struct key key;
    key_name(&key, l->user->tenant, NAME_USER, user_id(l->user));
    l->status = kv_get(kv, KV_NAMES, key_slice(&key), &l->value);
    if (l->status == STATUS_OK) l->status = number_record_decode(&l->number, buf_slice(&l->value));
    if (l->status != STATUS_OK) return;
    key_user(&key, l->user->tenant, l->number);
    l->status = kv_get(kv, KV_USERS, key_slice(&key), &l->value);
    struct user_record record;
    if (l->status == STATUS_OK) l->status = user_record_decode(&record, buf_slice(&l->value));
    else if (l->status == STATUS_NOT_FOUND) l->status = STATUS_CORRUPT; /* a name without its user */
    if (l->status == STATUS_OK) l->created_ms = record.created_ms;
}

static void user_ready(struct core *core, struct user *u, uint64_t number, uint64_t created_ms)
{
    u->number = number;
    u->created_ms = created_ms;
    u->state = USER_READY;
    u->last_used_ns = core->now_ns; /* however long that took: it stays while its ops are answered */
    list_push(&core->users_idle, &u->idle);
}

static void look_settled(struct core *core, struct durable_wait *w, bool durable);

/* look_done: absence needs no waiting; what was found may be another core's entry that is not durable yet. */
static void look_done(void *context, struct read_job *job)
{
    struct user_look *l = CONTAINER_OF(job, struct user_look, job);
    if (l->status == STATUS_OK) core_when_durable(context, &l->wait, look_settled);
    else look_settled(context, &l->wait, true);
}

static void look_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct user_look *l = CONTAINER_OF(w, struct user_look, wait);
    if (!durable) l->status = STATUS_READ_ONLY;
    struct user *u = l->user;
    enum status s = l->status;
    if (s == STATUS_OK) user_ready(core, u, l->number, l->created_ms);
    else u->state = USER_ABSENT;
    if (s != STATUS_OK && s != STATUS_NOT_FOUND) LOG(LOG_ERROR, "user", "load_failed", LOG_STR("status", status_name(s)));
    buf_free(&l->value);
    free(l);
    user_settle(core, u, s == STATUS_OK || s == STATUS_NOT_FOUND ? ERR_NONE : ERR_STORE_READ_FAILED);
}

static void user_look(struct core *core, struct user *u)
{
    struct user_look *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->job = (struct read_job){.return_core = (uint16_t)core->id, .run = look_run, .done = look_done};
    l->user = u;
    u->state = USER_LOOKING;
    read_submit(core->reader, &l->job);
}

/* --- creation ------------------------------------------------------------------------------------------------------------------ */

struct user_creation {
    struct commit_entry entry;
    struct commit_row rows[3];
    struct key keys[3];
    struct buf values[3];
    struct user *user;
    uint64_t number, created_ms;
};

static void creation_free(struct user_creation *c)
{
    for (int i = 0; i < 3; i++) buf_free(&c->values[i]);
    free(c);
}

static void creation_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct user_creation *c = CONTAINER_OF(entry, struct user_creation, entry);
    struct user *u = c->user;
    if (result == STATUS_OK) {
        user_ready(core, u, c->number, c->created_ms);
        u->rooms_state = ROOMS_LOADED; /* new: in no room yet */
    } else {
        u->state = USER_ABSENT;
    }
    creation_free(c);
    user_settle(core, u, result == STATUS_OK ? ERR_NONE : store_error(result));
}

static void user_create(struct core *core, struct user *u, struct op *first)
{
    if (!room_may_write(core, first)) {
        op_return(core, first);
        return;
    }
    struct user_creation *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->user = u;
    c->number = gateway_number(core->gateway);
    c->created_ms = first->now_ms;
    struct user_record record = {
        .tenant = u->tenant, .user = c->number, .created_ms = c->created_ms, .user_id = user_id(u)};
    key_name(&c->keys[0], u->tenant, NAME_USER, user_id(u));
    number_record_encode(&c->values[0], c->number);
    key_user(&c->keys[1], u->tenant, c->number);
    user_record_encode(&c->values[1], &record);
    number_row(core, &c->keys[2], &c->values[2], c->number);
    static const enum kv_cf families[3] = {KV_NAMES, KV_USERS, KV_META};
    for (int i = 0; i < 3; i++)
        c->rows[i] = (struct commit_row){COMMIT_PUT, (uint8_t)families[i], key_slice(&c->keys[i]), buf_slice(&c->values[i])};
    c->entry = (struct commit_entry){.class = COMMIT_FSYNC, .rows = c->rows, .num_rows = 3, .done = creation_done};
    if (commit_push(core->commit, &c->entry) != STATUS_OK) { /* poisoned since that look */
        creation_free(c);
        op_fail(first, ERR_STORE_READ_ONLY, NULL, NULL);
        op_return(core, first);
        return;
    }
    u->state = USER_CREATING;
    queue_push(&u->waiting, &first->mail.node);
}

/* --- rooms and cursors ------------------------------------------------------------------------------------------------------ */

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

static struct user_room *user_room(struct user *u, uint64_t room)
{
    uint32_t at = user_room_at(u, room);
    return at < u->num_rooms && u->rooms[at].room == room ? &u->rooms[at] : NULL;
}

static void user_room_add(struct user *u, uint64_t room, uint64_t joined_seq)
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

static void user_room_remove(struct user *u, struct user_room *r)
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

static struct device_room *device_room(struct user *u, struct slice device, uint64_t room)
{
    uint32_t at = device_room_at(u, device, room);
    return at < u->num_devices && device_order(&u->devices[at], room, device) == 0 ? &u->devices[at] : NULL;
}

static struct device_room *device_room_add(struct user *u, struct slice device, uint64_t room)
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

/* devices_forget drops every device's cursor in a room. */
static void devices_forget(struct user *u, uint64_t room)
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
    struct device_room *d = device_room_add(u, device, room);
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
        rooms_load(core, u);
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

static void rooms_load(struct core *core, struct user *u)
{
    struct rooms_load *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->job = (struct read_job){.return_core = (uint16_t)core->id, .run = rooms_run, .done = rooms_done};
    l->user = u;
    u->rooms_state = ROOMS_LOADING;
    u->rooms_stale = false;
    read_submit(core->reader, &l->job);
}

/* user_rooms_answer lists rooms and cursors as the device sees them: a device never seen before starts at the user's
 * own cursor. */
static void user_rooms_answer(struct core *core, struct user *u, struct op *op)
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
        struct device_room *d = op->in.rooms.device.len ? device_room(u, op->in.rooms.device, r->room) : NULL;
        if (d) {
            p->delivered = d->delivered;
            p->read = d->read;
        }
    }
    op_return(core, op);
}

/* raise moves a mark upwards only. */
static bool raise(uint64_t *mark, uint64_t seq)
{
    if (seq <= *mark && !PLANTED(cursor_moved_back)) return false;
    *mark = seq;
    return true;
}

static void user_cursor(struct core *core, struct user *u, struct op *op)
{
    struct user_room *own = user_room(u, op->room);
    if (!own) { /* it left while the ack was on its way */
        op_fail(op, ERR_ROOM_NOT_MEMBER, NULL, NULL);
        op_return(core, op);
        return;
    }
    uint64_t seq = op->in.cursor.seq;
    bool read = op->in.cursor.read;
    bool moved = raise(&own->delivered, seq); /* what was read was delivered */
    if (read) moved |= raise(&own->read, seq);
    own->dirty |= moved;
    moved = own->dirty; /* a silent ack may have moved it that far and not be written yet: the answer says it is */
    if (op->in.cursor.device.len) {
        struct device_room *d = device_room(u, op->in.cursor.device, op->room);
        if (!d && u->num_devices < DEVICE_CURSORS_MAX) {
            d = device_room_add(u, op->in.cursor.device, op->room);
            d->dirty = true;
        }
        if (d) {
            bool device_moved = raise(&d->delivered, seq);
            if (read) device_moved |= raise(&d->read, seq);
            d->dirty |= device_moved;
            moved |= d->dirty;
        }
    }
    if (moved && !list_linked(&u->dirty)) {
        if (list_empty(&core->users_dirty)) core->cursor_flush_due_ns = core->now_ns + CURSOR_FLUSH_MS * 1000000ull;
        list_push(&core->users_dirty, &u->dirty);
    }
    if (op->answered && (moved || core->cursor_flush_open)) {
        core->cursor_flush_due_ns = core->now_ns; /* somebody waits: write now */
        queue_push(&core->cursor_ops, &op->mail.node);
        return;
    }
    /* where it stood that far already, the write that should have said so may be the one that failed */
    if (op->answered && commit_poisoned(core->gateway->commit)) op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
    op_return(core, op);
}

/* --- writing cursors ------------------------------------------------------------------------------------------------------- */

#define CURSOR_ROWS_MAX 1024u /* rows of one write; more wait for the next turn */

struct cursor_flush {
    struct commit_entry entry;
    struct queue ops; /* answered when it is in the WAL */
    uint32_t num;
    struct commit_row rows[CURSOR_ROWS_MAX];
    struct key keys[CURSOR_ROWS_MAX];
    char values[CURSOR_ROWS_MAX][32];
};

static void flush_row(struct cursor_flush *f, const struct user *u, struct slice device, uint64_t room, uint64_t delivered,
                      uint64_t read)
{
    struct buf value = {0};
    struct cursor_record record = {delivered, read};
    cursor_record_encode(&value, &record);
    ASSERT(f->num < CURSOR_ROWS_MAX && value.len <= sizeof f->values[0]);
    memcpy(f->values[f->num], value.data, value.len);
    key_cursor(&f->keys[f->num], u->tenant, u->number, device, room);
    f->rows[f->num] = (struct commit_row){COMMIT_PUT, KV_CURSORS, key_slice(&f->keys[f->num]),
                                          slice_of(f->values[f->num], value.len)};
    f->num += !PLANTED(cursor_not_written);
    buf_free(&value);
}

/* flush_user takes a user's moved cursors; false when the write is full and some are left. */
static bool flush_user(struct cursor_flush *f, struct user *u)
{
    for (uint32_t i = 0; i < u->num_rooms; i++) {
        struct user_room *r = &u->rooms[i];
        if (!r->dirty) continue;
        if (f->num == CURSOR_ROWS_MAX) return false;
        flush_row(f, u, (struct slice){0}, r->room, r->delivered, r->read);
        r->dirty = false;
    }
    for (uint32_t i = 0; i < u->num_devices; i++) {
        struct device_room *d = &u->devices[i];
        if (!d->dirty) continue;
        if (f->num == CURSOR_ROWS_MAX) return false;
        flush_row(f, u, slice_of(d->device, d->device_len), d->room, d->delivered, d->read);
        d->dirty = false;
    }
    return true;
}

static void flush_answer(struct core *core, struct queue *ops, enum status result)
{
    while (ops->len) {
        struct op *op = CONTAINER_OF(queue_pop(ops), struct op, mail.node);
        if (result != STATUS_OK) op_fail(op, store_error(result), NULL, NULL);
        op_return(core, op);
    }
}

static void flush_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct cursor_flush *f = CONTAINER_OF(entry, struct cursor_flush, entry);
    core->cursor_flush_open = false;
    struct queue ops = f->ops;
    free(f);
    flush_answer(core, &ops, result);
}

void user_cursors_flush(struct core *core)
{
    if (core->cursor_flush_open || core->now_ns < core->cursor_flush_due_ns) return;
    if (list_empty(&core->users_dirty) && core->cursor_ops.len == 0) return;
    if (commit_full(core->commit)) return; /* the next turn tries again */
    struct cursor_flush *f = malloc(sizeof *f);
    ASSERT(f != NULL);
    f->num = 0;
    core->cursor_flush_number++;
    bool full = false;
    while (!full && !list_empty(&core->users_dirty)) {
        struct user *u = CONTAINER_OF(core->users_dirty.next, struct user, dirty);
        u->cursor_flush = core->cursor_flush_number;
        full = !flush_user(f, u);
        if (!full) list_remove(&u->dirty);
    }
    f->ops = (struct queue){0};
    if (!full) { /* with some left, their acks wait for the next write too */
        f->ops = core->cursor_ops;
        core->cursor_ops = (struct queue){0};
    }
    f->entry = (struct commit_entry){.class = COMMIT_FAST, .rows = f->rows, .num_rows = (uint16_t)f->num, .done = flush_done};
    core->cursor_flush_open = true;
    core->cursor_flush_due_ns = full ? core->now_ns : core->now_ns + CURSOR_FLUSH_MS * 1000000ull;
    if (f->num == 0 || commit_push(core->commit, &f->entry) != STATUS_OK)
        flush_done(core, &f->entry, f->num == 0 ? STATUS_OK : STATUS_IO);
}

/* --- presence ----------------------------------------------------------------------------------------------------- */

/* presence_post tells every core, as each has a part in it: who listens there, whom it is asked about, who types. */
static void presence_post(struct core *core, const struct user *u, uint64_t room, uint64_t offline_ms,
                          struct slice rooms)
{
    for (unsigned target = 0; target < core->num_cores; target++)
        notice_post(core, target, notice_new(core, NOTICE_PRESENCE, u->tenant, u->number, user_id(u), room, offline_ms,
                                             rooms));
}

static void presence_tell(struct core *core, const struct user *u, uint64_t offline_ms)
{
    struct buf rooms = {0};
    ASSERT(u->rooms_state == ROOMS_LOADED);
    for (uint32_t i = 0; i < u->num_rooms; i++) buf_append(&rooms, &u->rooms[i].room, 8);
    presence_post(core, u, 0, offline_ms, buf_slice(&rooms));
    buf_free(&rooms);
}

static void user_comes(struct core *core, struct user *u)
{
    u->presence = PRESENCE_ONLINE;
    core->num_online++;
    presence_tell(core, u, 0);
}

/* user_stays: back within the grace, nobody has noticed. */
static void user_stays(struct core *core, struct user *u)
{
    u->presence = PRESENCE_ONLINE;
    list_remove(&u->idle);
    list_push(&core->users_idle, &u->idle);
}

/* user_goes: the last socket is gone. Typing ends now, the rest when the grace is over. `number` is the user's, who may
 * not have been looked up here yet. */
static void user_goes(struct core *core, struct user *u, uint64_t number)
{
    static const struct slice none;
    for (unsigned target = 0; u->typed && target < core->num_cores; target++)
        notice_post(core, target, notice_new(core, NOTICE_TYPING_GONE, u->tenant, number, none, 0, 0, none));
    u->typed = false;
    if (u->presence == PRESENCE_COMING) { /* nobody was told yet */
        u->presence = PRESENCE_OFFLINE;
        return;
    }
    ASSERT(u->presence == PRESENCE_ONLINE);
    u->presence = PRESENCE_LEAVING;
    u->leave_ns = core->now_ns + PRESENCE_GRACE_MS * 1000000ull;
    list_remove(&u->idle);
    list_push(&core->users_leaving, &u->idle);
}

void user_presence_timers(struct core *core)
{
    for (unsigned n = 0; n < PRESENCE_LEAVING_TURN && !list_empty(&core->users_leaving); n++) {
        struct user *u = CONTAINER_OF(core->users_leaving.next, struct user, idle);
        if (u->leave_ns > core->now_ns) return;
        list_remove(&u->idle);
        list_push(&core->users_idle, &u->idle);
        u->presence = PRESENCE_OFFLINE;
        core->num_online -= !PLANTED(presence_count_leaks);
        if (!PLANTED(offline_not_told))
            presence_tell(core, u, core->now_ms - PRESENCE_GRACE_MS - (core->now_ns - u->leave_ns) / 1000000);
    }
}

uint64_t user_presence_wake_at(const struct core *core)
{
    if (list_empty(&core->users_leaving)) return UINT64_MAX;
    return CONTAINER_OF(core->users_leaving.next, struct user, idle)->leave_ns;
}

/* share_a_room walks two lists that are sorted by number. */
static bool share_a_room(const struct user *u, const struct op *op)
{
    uint32_t mine = 0, theirs = 0;
    while (mine < u->num_rooms && theirs < op->num_positions) {
        if (u->rooms[mine].room == op->positions[theirs].room) return true;
        if (u->rooms[mine].room < op->positions[theirs].room) mine++;
        else theirs++;
    }
    return false;
}

/* user_presence: to those who share no room with the user, the user does not exist. */
static void user_presence(struct core *core, struct user *u, struct op *op)
{
    if (u->number == op->user || share_a_room(u, op)) {
        presence_object(&op->out, core, u->number, user_id(u));
        op->http_status = 200;
    } else {
        op_fail(op, ERR_USER_NOT_FOUND, NULL, NULL);
    }
    op_return(core, op);
}

/* --- notices --------------------------------------------------------------------------------------------------------------------- */

static void user_joined(struct core *core, struct user *u, const struct notice *n)
{
    if (u->rooms_state != ROOMS_UNKNOWN) {
        struct user_room *r = user_room(u, n->room);
        if (!r) user_room_add(u, n->room, n->seq);
        else if (n->seq > r->joined_seq) *r = (struct user_room){.room = n->room, .joined_seq = n->seq, .delivered = n->seq, .read = n->seq};
    }
    for (unsigned target = 0; target < core->num_cores; target++)
        if (u->sockets[target] && !PLANTED(join_not_told))
            notice_post(core, target, notice_new(core, NOTICE_JOINED_SOCKETS, n->tenant, n->user, notice_user_id(n), n->room,
                                                 n->seq, (struct slice){0}));
    /* nobody has asked about a room that is new (seq 0); in another one those who did learn who came with whom */
    if (n->seq && (u->presence == PRESENCE_ONLINE || u->presence == PRESENCE_LEAVING))
        presence_post(core, u, n->room, 0, slice_of(&n->room, 8));
}

static void user_left(struct user *u, const struct notice *n)
{
    u->rooms_stale = u->rooms_state == ROOMS_LOADING;
    struct user_room *r = user_room(u, n->room);
    if (r && r->joined_seq < n->seq) user_room_remove(u, r);
    devices_forget(u, n->room);
}

static void user_socket_closed(struct core *core, struct user *u, const struct notice *n)
{
    ASSERT(u != NULL && u->sockets[n->from_core] > 0);
    u->sockets[n->from_core]--;
    core->num_user_sockets--;
    u->typed |= n->seq != 0;
    if (has_socket(u)) return;
    user_goes(core, u, n->user);
    if (u->state == USER_UNKNOWN) user_forget(core, u);
}

void user_on_notice(struct core *core, struct notice *n)
{
    struct user *u = user_find(core, n->tenant, notice_user_id(n));
    bool loaded = u && u->state == USER_READY; /* else what is on disk will tell of joins and leaves */
    switch ((enum notice_kind)n->kind) {
    case NOTICE_JOINED:
        if (loaded) user_joined(core, u, n);
        return;
    case NOTICE_LEFT:
        if (loaded) user_left(u, n);
        return;
    case NOTICE_SOCKET_CLOSED: user_socket_closed(core, u, n); return;
    case NOTICE_JOINED_SOCKETS:
    case NOTICE_REMOVED:
    case NOTICE_NOTIFIED:
    case NOTICE_OUTBOX:
    case NOTICE_SOCKET_OPENED:
    case NOTICE_SOCKET_DRAINED:
    case NOTICE_ROOM_UNUSED:
    case NOTICE_ROOM_WALKED:
    case NOTICE_ROOM_SIZE:
    case NOTICE_PRESENCE:
    case NOTICE_TYPING:
    case NOTICE_TYPING_GONE: break;
    }
    UNREACHABLE();
}
