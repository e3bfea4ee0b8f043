#include "user_state.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../core/notice.h"
#include "room.h"

static void user_evict_idle(struct core *core);
static void user_look(struct core *core, struct user *u);
static void user_create(struct core *core, struct user *u, struct op *first);
static void user_count_socket(struct core *core, struct user *u, const struct op *op);

/* --- finding ----------------------------------------------------------------------------------------------------- */

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

uint32_t user_sockets(const struct core *core, uint32_t tenant, struct slice id)
{
    const struct user *u = user_find(core, tenant, id);
    uint32_t num = 0;
    for (unsigned at = 0; u && at < u->num_cores; at++) num += u->sockets[at];
    return num;
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
    if (u->state != USER_READY || u->rooms_state == ROOMS_LOADING || u->waiting.len || u->rooms_waiting.len)
        return false;
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

/* --- ops --------------------------------------------------------------------------------------------------------- */

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

/* user_count_socket counts a socket when its request comes, whatever becomes of the request (user.h). */
static void user_count_socket(struct core *core, struct user *u, const struct op *op)
{
    u->sockets[op->origin] += 1 + (PLANTED(socket_counted_twice) && has_socket(u));
    core->num_user_sockets++;
    if (u->presence == PRESENCE_OFFLINE) u->presence = PRESENCE_COMING;
    else if (u->presence == PRESENCE_LEAVING) user_stays(core, u);
}

/* rooms_full: a leave is answered when it is durable, and this home is told of it in the same moment. A client that
 * joins another room at once may be faster than that news, so it is looked at once more a little later. */
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
    if (user_wait(core, &u->rooms_waiting, op) && u->rooms_state == ROOMS_UNKNOWN) user_rooms_load(core, u);
}

void user_serve(struct core *core, struct user *u, struct op *op)
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

/* user_rest ends a settlement that has found nobody. An answer may have brought another op at once, and sockets that
 * are counted keep the user: their ends are still to come. */
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

/* --- look-up by name --------------------------------------------------------------------------------------------- */

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
    if (s != STATUS_OK && s != STATUS_NOT_FOUND)
        LOG(LOG_ERROR, "user", "load_failed", LOG_STR("status", status_name(s)));
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

/* --- creation ---------------------------------------------------------------------------------------------------- */

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
        c->rows[i] =
            (struct commit_row){COMMIT_PUT, (uint8_t)families[i], key_slice(&c->keys[i]), buf_slice(&c->values[i])};
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

/* --- notices ----------------------------------------------------------------------------------------------------- */

static void user_joined(struct core *core, struct user *u, const struct notice *n)
{
    if (u->rooms_state != ROOMS_UNKNOWN) {
        struct user_room *r = user_room(u, n->room);
        if (!r) user_room_add(u, n->room, n->seq);
        else if (n->seq > r->joined_seq)
            *r = (struct user_room){.room = n->room, .joined_seq = n->seq, .delivered = n->seq, .read = n->seq};
    }
    for (unsigned target = 0; target < core->num_cores; target++)
        if (u->sockets[target] && !PLANTED(join_not_told))
            notice_post(core, target,
                        notice_new(core, NOTICE_JOINED_SOCKETS, n->tenant, n->user, notice_user_id(n), n->room, n->seq,
                                   (struct slice){0}));
    /* nobody has asked about a room that is new (seq 0); in another one those who did learn who came with whom */
    if (n->seq && (u->presence == PRESENCE_ONLINE || u->presence == PRESENCE_LEAVING))
        user_presence_post(core, u, n->room, 0, slice_of(&n->room, 8));
}

static void user_left(struct user *u, const struct notice *n)
{
    u->rooms_stale = u->rooms_state == ROOMS_LOADING;
    struct user_room *r = user_room(u, n->room);
    if (r && r->joined_seq < n->seq) user_room_remove(u, r);
    user_devices_forget(u, n->room);
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
