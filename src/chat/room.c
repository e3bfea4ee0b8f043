#include "room.h"

#include <stdio.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../base/log.h"
#include "../base/planted.h"
#include "../core/notice.h"
#include "fanout.h"
#include "far_walk.h"
#include "history.h"
#include "ids.h"
#include "typing.h"

static struct room *room_load(struct core *core, uint32_t tenant, uint64_t number);
static void room_evict_idle(struct core *core);

/* --- finding and loading ----------------------------------------------------------------------------------------- */

struct room_key {
    uint32_t tenant;
    uint64_t number;
};

static bool room_eq(const void *value, const void *key)
{
    const struct room *r = value;
    const struct room_key *k = key;
    return r->number == k->number && (r->tenant == k->tenant || PLANTED(tenant_not_compared));
}

struct room *room_find(const struct core *core, uint32_t tenant, uint64_t number)
{
    struct room_key k = {tenant, number};
    return map_find(&core->rooms, hash_u64(number), room_eq, &k);
}

static bool member_eq(const void *value, const void *key)
{
    return ((const struct member *)value)->user == *(const uint64_t *)key;
}

struct member *room_member(const struct room *r, uint64_t user)
{
    return map_find(&r->members, hash_u64(user), member_eq, &user);
}

void room_on_op(struct core *core, struct op *op)
{
    ASSERT(gateway_room_home(core->gateway, op->tenant, op->room) == core->id);
    struct room *r = room_find(core, op->tenant, op->room);
    if (!r) r = room_load(core, op->tenant, op->room);
    /* A ready room with ops waiting is within room_unblock: what an answer there brings about stands behind them. */
    if (LIKELY(r->state == ROOM_READY && r->waiting.len == 0)) {
        room_apply(core, r, op);
        return;
    }
    if (r->waiting.len >= ROOM_WAITING_MAX) {
        op_fail(op, ERR_SERVER_OVERLOADED, "Too many requests wait for this room", NULL);
        op_return(core, op);
        return;
    }
    queue_push(&r->waiting, &op->mail.node);
}

void room_unblock(struct core *core, struct room *r)
{
    ASSERT(r->state != ROOM_LOADING);
    r->state = ROOM_READY;
    while (r->state == ROOM_READY && r->waiting.len) {
        struct op *op = CONTAINER_OF(queue_pop(&r->waiting), struct op, mail.node);
        room_apply(core, r, op);
    }
}

/* reads_membership: these answer from what is durable, so they wait while a change is on its way. */
static bool reads_membership(enum op_kind kind)
{
    return kind == OP_ROOM_GET || kind == OP_ROOM_MEMBERS || kind == OP_ROOM_POSITION || kind == OP_ROOM_HISTORY ||
           kind == OP_ROOM_ACK || kind == OP_ROOM_PRESENCE || kind == OP_ROOM_TYPING || kind == OP_ROOM_TARGETS;
}

static void room_get(struct core *core, struct room *r, struct op *op);
static void room_members_list(struct core *core, struct room *r, struct op *op);
static void room_position_of(struct core *core, struct room *r, struct op *op);
static void room_ack(struct core *core, struct room *r, struct op *op);
static void room_history(struct core *core, struct room *r, struct op *op);
static void room_presence(struct core *core, struct room *r, struct op *op);
static void room_typing(struct core *core, struct room *r, struct op *op);
static void room_targets(struct core *core, struct room *r, struct op *op);

/* keeps_answer: an Idempotency-Key that has not been looked up yet. */
static bool keeps_answer(const struct op *op)
{
    return op->client_id.len && !op->repeat_checked &&
           (op->kind == OP_ROOM_JOIN || op->kind == OP_ROOM_LEAVE || op->kind == OP_ROOM_ADD);
}

bool room_settled(struct core *core, struct room *r, struct op *op)
{
    if (LIKELY(r->changes_pending == 0) || PLANTED(undurable_membership)) return true;
    if (commit_poisoned(core->gateway->commit)) { /* the change will never be known to be durable */
        op_fail(op, ERR_STORE_READ_ONLY, NULL, NULL);
        op_return(core, op);
    } else {
        queue_push(&r->readers, &op->mail.node);
    }
    return false;
}

void room_apply(struct core *core, struct room *r, struct op *op)
{
    r->last_used_ns = core->now_ns;
    enum op_kind kind = (enum op_kind)op->kind;
    if ((reads_membership(kind) || keeps_answer(op)) && !room_settled(core, r, op)) return;
    if (UNLIKELY(keeps_answer(op))) {
        room_repeat_lookup(core, r, op);
        return;
    }
    switch (kind) {
    case OP_ROOM_SEND: room_send(core, r, op); return;
    case OP_ROOM_GET: room_get(core, r, op); return;
    case OP_ROOM_JOIN: room_join(core, r, op); return;
    case OP_ROOM_LEAVE: room_leave(core, r, op); return;
    case OP_ROOM_ADD: room_add(core, r, op); return;
    case OP_ROOM_REMOVE: room_remove(core, r, op); return;
    case OP_ROOM_ROLE: room_role(core, r, op); return;
    case OP_ROOM_MEMBERS: room_members_list(core, r, op); return;
    case OP_ROOM_POSITION: room_position_of(core, r, op); return;
    case OP_ROOM_HISTORY: room_history(core, r, op); return;
    case OP_ROOM_ACK: room_ack(core, r, op); return;
    case OP_ROOM_PRESENCE: room_presence(core, r, op); return;
    case OP_ROOM_TYPING: room_typing(core, r, op); return;
    case OP_ROOM_TARGETS: room_targets(core, r, op); return;
    default: UNREACHABLE();
    }
}

/* room_check_member fails the op unless its user is a member: a private room does not exist for others. */
static struct member *room_check_member(struct room *r, struct op *op)
{
    struct member *m = room_member(r, op->user);
    if (!m && PLANTED(stranger_served)) m = map_next(&r->members, &(uint32_t){0});
    if (m) return m;
    bool hidden = r->record.type == ROOM_DM || (r->record.flags & ROOM_PRIVATE);
    op_fail(op, hidden ? ERR_ROOM_NOT_FOUND : ERR_ROOM_NOT_MEMBER, NULL, NULL);
    return NULL;
}

/* --- reading commands -------------------------------------------------------------------------------------------- */

uint64_t room_epoch_of(const struct core *core, const struct room *r) { return core->gateway->epoch; }

bool room_large(const struct core *core, const struct room *r)
{
    return r->members.len > CONFIG_NOW(core->gateway->config, limits_presence_room_members);
}

static void room_get(struct core *core, struct room *r, struct op *op)
{
    struct member *m = room_check_member(r, op);
    if (m) {
        op->http_status = op->created_status ? op->created_status : 200;
        op->head = r->durable_head;
        room_object(&op->out, core, r, m);
    }
    op_return(core, op);
}

static void put_text(struct buf *out, const char *name, struct slice value)
{
    buf_printf(out, ",\"%s\":", name);
    if (value.len) buf_json_string(out, value);
    else BUF_LIT(out, "null");
}

static void put_time(struct buf *out, const char *name, uint64_t ms)
{
    char text[TIME_TEXT_LEN];
    time_text(text, ms);
    buf_printf(out, ",\"%s\":\"%.*s\"", name, (int)TIME_TEXT_LEN, text);
}

void room_object(struct buf *out, const struct core *core, const struct room *r, const struct member *m)
{
    static const char *const types[] = {"", "dm", "group", "channel"};
    const struct room_record *rec = &r->record;
    char room_id[ID_TEXT_LEN], tenant_id[ID_TEXT_LEN];
    room_id_text(room_id, r->number);
    tenant_id_text(tenant_id, r->tenant);
    buf_printf(out, "{\"room_id\":\"%.*s\",\"tenant_id\":\"%.*s\",\"type\":\"%s\"", (int)ID_TEXT_LEN, room_id,
               (int)ID_TEXT_LEN, tenant_id, types[rec->type]);
    put_text(out, "unique_key", rec->unique_key);
    put_text(out, "name", rec->name);
    put_text(out, "description", rec->description);
    put_text(out, "avatar_url", rec->avatar_url);
    buf_printf(out, ",\"is_private\":%s,\"max_participants\":", rec->flags & ROOM_PRIVATE ? "true" : "false");
    if (rec->members_max) buf_u64(out, rec->members_max);
    else BUF_LIT(out, "null");
    BUF_LIT(out, ",\"settings\":");
    if (rec->settings.len) buf_slice_append(out, rec->settings);
    else BUF_LIT(out, "{}");
    buf_printf(out, ",\"member_count\":%u,\"last_seq\":%llu,\"epoch\":%llu", r->members.len,
               (unsigned long long)r->durable_head, (unsigned long long)room_epoch_of(core, r));
    buf_printf(out, ",\"durability\":\"%s\"", room_fast(core, r) ? "fast" : "fsync");
    put_time(out, "created_at", rec->created_ms);
    put_time(out, "updated_at", rec->updated_ms);
    if (m) buf_printf(out, ",\"role\":\"%s\"", m->role == MEMBER_ADMIN ? "admin" : "member");
    BUF_LIT(out, "}");
}

static void page_sink(const struct member **page, uint32_t at, uint32_t num)
{
    for (uint32_t child; (child = 2 * at + 1) < num; at = child) {
        if (child + 1 < num && page[child + 1]->user > page[child]->user) child++;
        if (page[at]->user >= page[child]->user) return;
        const struct member *m = page[at];
        page[at] = page[child];
        page[child] = m;
    }
}

static int member_order(const void *a, const void *b)
{
    uint64_t x = (*(const struct member *const *)a)->user, y = (*(const struct member *const *)b)->user;
    return (x > y) - (x < y);
}

/* members_page finds the `limit` members with the lowest numbers behind `after`, in order. They stand in a heap with
 * the highest on top meanwhile: a room may have far more members than a page, and nearly all of them cost one look. */
static uint32_t members_page(const struct room *r, uint64_t after, uint32_t limit, const struct member **page,
                             bool *more)
{
    uint32_t num = 0, at = 0;
    *more = false;
    for (const struct member *m; (m = map_next(&r->members, &at));) {
        if (m->user <= after) continue;
        if (num < limit) {
            page[num++] = m;
            for (uint32_t i = num == limit ? num / 2 : 0; i-- > 0;) page_sink(page, i, num);
            continue;
        }
        *more = true;
        if (!num || m->user > page[0]->user) continue;
        page[0] = m;
        page_sink(page, 0, num);
    }
    /* cppcheck-suppress uninitvar ; num says how many there are */
    qsort(page, num, sizeof *page, member_order);
    return num;
}

/* room_members_list answers a page of members in the order of their numbers: behind the number in.history.after_seq, at
 * most in.history.limit of them (0: PAGE_LIMIT_MAX). */
static void room_members_list(struct core *core, struct room *r, struct op *op)
{
    if (!room_check_member(r, op)) {
        op_return(core, op);
        return;
    }
    const struct member *page[PAGE_LIMIT_MAX];
    uint32_t limit = op->in.history.limit ? op->in.history.limit : PAGE_LIMIT_MAX;
    bool more;
    ASSERT(limit <= PAGE_LIMIT_MAX);
    uint32_t num = members_page(r, op->in.history.after_seq, limit, page, &more);
    BUF_LIT(&op->out, "{\"items\":[");
    for (uint32_t i = 0; i < num; i++) {
        const struct member *m = page[i];
        buf_printf(&op->out, "%s{\"user_id\":", i ? "," : "");
        buf_json_string(&op->out, slice_of(m->id, m->id_len));
        buf_printf(&op->out, ",\"role\":\"%s\",\"joined_seq\":%llu", m->role == MEMBER_ADMIN ? "admin" : "member",
                   (unsigned long long)m->joined_seq);
        put_time(&op->out, "joined_at", m->joined_ms);
        BUF_LIT(&op->out, "}");
    }
    if (more) buf_printf(&op->out, "],\"next\":\"%llu\"}", (unsigned long long)page[num - 1]->user);
    else BUF_LIT(&op->out, "],\"next\":null}");
    op->http_status = 200;
    op_return(core, op);
}

/* epoch_known: one of this store's, and not so old that its end is no longer kept (ROOM_EPOCHS_MAX): a room that has
 * forgotten none begins its list with its first event. */
static bool epoch_known(const struct core *core, const struct room *r, uint64_t epoch)
{
    if (epoch == 0 || epoch > core->gateway->epoch || store_epoch_given_up(core->gateway->store, epoch)) return false;
    const struct room_epoch *oldest = r->record.num_epochs ? &r->record.epochs[0] : NULL;
    return !oldest || epoch >= oldest->epoch || oldest->first_seq == 1;
}

/* position_good: did epoch `epoch` durably reach `seq`? It did if seq lies before the first event of the next epoch
 * that this room saw, and is not beyond what is on disk. */
static bool position_good(const struct core *core, const struct room *r, uint64_t epoch, uint64_t seq)
{
    if (!epoch_known(core, r, epoch) || seq > r->durable_head) return false;
    for (unsigned i = 0; i < r->record.num_epochs && !PLANTED(stale_epoch_accepted); i++)
        if (r->record.epochs[i].epoch > epoch) return seq < r->record.epochs[i].first_seq;
    return true;
}

/* resume_position: where a client that holds [epoch, seq] goes on. When that epoch never durably reached seq, what the
 * client holds is void from the first event of the next epoch on; when retention removed the gap, from the first row
 * that is left. */
static void resume_position(const struct core *core, const struct room *r, struct room_position *p, uint64_t epoch,
                            uint64_t seq, uint64_t first)
{
    p->recovered = position_good(core, r, epoch, seq) && seq + 1 >= first;
    if (p->recovered) {
        p->from = seq + 1 + PLANTED(resume_off_by_one);
        return;
    }
    if (!epoch_known(core, r, epoch)) {
        p->from = first; /* nothing the client holds can be trusted */
        return;
    }
    if (seq < p->from) p->from = seq + 1;
    for (unsigned i = 0; i < r->record.num_epochs; i++) {
        const struct room_epoch *next = &r->record.epochs[i];
        if (next->epoch > epoch && next->first_seq < p->from) p->from = next->first_seq;
    }
    if (p->from < first) p->from = first;
}

static void room_position_of(struct core *core, struct room *r, struct op *op)
{
    struct member *m = room_check_member(r, op);
    if (!m) {
        op_return(core, op);
        return;
    }
    /* the live position is pinned behind what was published: news of this turn goes out before the answer */
    if (op->in.position.subscribe) fanout_publish(core, r);
    struct room_position *p = &op->position;
    p->room = r->number;
    p->member = true;
    p->epoch = room_epoch_of(core, r);
    p->head = PLANTED(undurable_position) ? r->head : r->durable_head;
    p->joined_seq = m->joined_seq;
    p->large = r->large;
    p->recovered = true;
    p->from = r->durable_head + 1;
    uint64_t first = r->record.retained_from;
    if (r->record.flags & ROOM_HISTORY_SINCE_JOIN && m->joined_seq > first) first = m->joined_seq;
    uint64_t seq = op->in.position.seq;
    if (op->in.position.mode == POSITION_RESUME) resume_position(core, r, p, op->in.position.epoch, seq, first);
    else if (op->in.position.mode == POSITION_AFTER && seq < r->durable_head) {
        p->recovered = seq + 1 >= first;
        p->from = p->recovered ? seq + 1 : first;
    }
    if (op->in.position.subscribe) r->core_mask |= 1ull << op->origin;
    op_return(core, op);
}

/* room_presence brings a page of members, in the order of their numbers, to the core that asks:
 *
 *   user u64 · id length u8 · id, repeated
 *
 * That core says who of them is online when it takes them over, and is told of every change after. So none falls
 * between. */
static void room_presence(struct core *core, struct room *r, struct op *op)
{
    if (!room_check_member(r, op)) {
        op_return(core, op);
        return;
    }
    const struct member *page[PAGE_LIMIT_MAX];
    bool more;
    ASSERT(op->in.presence.limit <= PAGE_LIMIT_MAX);
    uint32_t num = members_page(r, op->in.presence.after, op->in.presence.limit, page, &more);
    for (uint32_t i = 0; i < num; i++) {
        buf_append(&op->out, &page[i]->user, 8);
        buf_char(&op->out, (char)page[i]->id_len);
        buf_append(&op->out, page[i]->id, page[i]->id_len);
    }
    op->in.presence.next = more ? page[num - 1]->user : 0;
    op->position.large = r->large;
    if (op->in.presence.watch) r->core_mask |= 1ull << op->origin;
    op_return(core, op);
}

/* room_typing: who may not write here does not type here either. */
static void room_typing(struct core *core, struct room *r, struct op *op)
{
    struct member *m = room_check_member(r, op);
    if (m && r->record.type == ROOM_CHANNEL && m->role != MEMBER_ADMIN) op_fail(op, ERR_ROOM_READ_ONLY, NULL, NULL);
    if (!op_failed(op) && op->in.typing.stop) typing_stop(core, r, op->user);
    else if (!op_failed(op)) typing_start(core, r, op->user, slice_of(m->id, m->id_len));
    op_return(core, op);
}

static void room_history(struct core *core, struct room *r, struct op *op)
{
    struct member *m = room_check_member(r, op);
    if (!m) {
        op_return(core, op);
        return;
    }
    uint64_t first = r->record.retained_from;
    if (r->record.flags & ROOM_HISTORY_SINCE_JOIN && m->joined_seq > first) first = m->joined_seq;
    op->head = r->durable_head;
    history_page(core, op, first, PLANTED(undurable_history) ? r->head : r->durable_head);
}

static void room_ack(struct core *core, struct room *r, struct op *op)
{
    if (!room_check_member(r, op)) {
        op_return(core, op);
    } else if (op->in.cursor.seq > r->durable_head) {
        op_fail(op, ERR_ACK_BEYOND_HEAD, NULL, "seq");
        op_return(core, op);
    } else {
        op->kind = OP_USER_CURSOR;
        if (PLANTED(cursor_moved_by_write)) op->in.cursor.seq = r->durable_head;
        op_dispatch(core, op);
    }
}

/* room_targets adds the room's members to those the op names already; their ids lie in op->out. The caller's key acts
 * for the whole tenant, so its user need not be one of them. */
static void room_targets(struct core *core, struct room *r, struct op *op)
{
    uint32_t at = 0, num = op->num_members;
    if (r->members.len > NOTIFY_TARGETS_MAX) {
        op_fail(op, ERR_TOO_MANY_ITEMS, "The room has more than 10000 members", "targets.room_id");
        op_return(core, op);
        return;
    }
    op->members = realloc(op->members, (num + r->members.len + 1) * sizeof *op->members);
    ASSERT(op->members != NULL);
    buf_reserve(&op->out, (size_t)r->members.len * USER_ID_BYTES_MAX); /* it must not move any more */
    for (const struct member *m; (m = map_next(&r->members, &at));) {
        op->members[num++] = (struct op_member){.user = m->user, .user_id = {op->out.data + op->out.len, m->id_len}};
        buf_append(&op->out, m->id, m->id_len);
    }
    op->num_members = num;
    op_return(core, op);
}

/* --- members ----------------------------------------------------------------------------------------------------- */

void room_members_put(struct core *core, struct room *r, uint64_t user, struct slice id, uint8_t role, uint64_t seq,
                      uint64_t ms)
{
    ASSERT(id.len <= USER_ID_BYTES_MAX && !room_member(r, user));
    struct member *m = malloc(sizeof *m + id.len);
    ASSERT(m != NULL);
    *m = (struct member){.user = user,
                         .joined_seq = seq,
                         .joined_ms = ms,
                         .home = (uint16_t)gateway_user_home(core->gateway, r->tenant, id),
                         .role = role,
                         .id_len = (uint8_t)id.len};
    memcpy(m->id, id.data, id.len);
    map_insert(&r->members, hash_u64(user), m);
    if (role == MEMBER_ADMIN) r->num_admins++;
}

void room_members_take(struct room *r, struct member *m)
{
    if (m->role == MEMBER_ADMIN) r->num_admins--;
    ASSERT(map_remove(&r->members, hash_u64(m->user), m));
    free(m);
}

void room_on_notice(struct core *core, struct notice *n)
{
    ASSERT(n->kind == NOTICE_ROOM_UNUSED);
    struct room *r = room_find(core, n->tenant, n->room);
    if (!r) return;
    r->core_mask &= ~(1ull << n->from_core);
    far_walk_left(r, n->from_core);
    fanout_look_again(core, r);
}

/* --- loading: a reader collects the rows, the home makes the room of them ---------------------------------------- */

struct room_load {
    struct read_job job;
    struct durable_wait wait;
    struct room *room;
    const struct hash_key *fingerprint_key;
    uint64_t now_ms;
    enum status status;
    struct buf record;  /* the rooms row */
    struct buf members; /* repeated: user u64 · value length u32 · member record */
    uint64_t head, last_ms;
    struct room_keys keys;
};

static void load_run(struct read_job *job, struct kv *kv);
static void load_done(void *context, struct read_job *job);

static struct room *room_load(struct core *core, uint32_t tenant, uint64_t number)
{
    room_evict_idle(core);
    struct room *r = calloc(1, sizeof *r);
    struct room_load *load = calloc(1, sizeof *load);
    ASSERT(r != NULL && load != NULL);
    r->tenant = tenant;
    r->number = number;
    r->state = ROOM_LOADING;
    list_init(&r->dirty);
    list_init(&r->idle);
    map_insert(&core->rooms, hash_u64(number), r);
    load->job = (struct read_job){.return_core = (uint16_t)core->id, .run = load_run, .done = load_done};
    load->room = r;
    load->fingerprint_key = &core->gateway->fingerprint_key;
    load->now_ms = core->now_ms;
    read_submit(core->reader, &load->job);
    return r;
}

static enum status load_members(struct room_load *load, struct kv *kv, const struct key *prefix)
{
    struct key end;
    key_prefix_end(&end, key_slice(prefix));
    struct kv_iter *i = kv_iter_open(kv, KV_MEMBERS, key_slice(prefix), key_slice(&end));
    for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) {
        struct slice rest = slice_from(kv_iter_key(kv, i), prefix->len), value = kv_iter_value(kv, i);
        uint64_t user;
        if (!key_parse_u64(&rest, &user)) continue;
        uint32_t len = (uint32_t)value.len;
        buf_append(&load->members, &user, 8);
        buf_append(&load->members, &len, 4);
        buf_slice_append(&load->members, value);
    }
    return kv_iter_close(kv, i);
}

/* load_head: sequence numbers are dense, so the log's last key is the head. */
static enum status load_head(struct room_load *load, struct kv *kv, const struct key *prefix)
{
    struct key end;
    key_prefix_end(&end, key_slice(prefix));
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, key_slice(prefix), key_slice(&end));
    enum status s = STATUS_OK;
    if (kv_iter_last(kv, i)) {
        struct log_record r;
        s = log_record_decode(&r, kv_iter_value(kv, i));
        if (s == STATUS_OK && (r.tenant != load->room->tenant || r.room != load->room->number)) s = STATUS_CORRUPT;
        load->head = r.seq;
        load->last_ms = r.created_ms;
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

static void load_run(struct read_job *job, struct kv *kv)
{
    struct room_load *load = CONTAINER_OF(job, struct room_load, job);
    struct room *r = load->room; /* its key alone: the rest belongs to the home */
    struct key key;
    key_room(&key, r->tenant, r->number);
    load->status = kv_get(kv, KV_ROOMS, key_slice(&key), &load->record);
    if (load->status == STATUS_OK) load->status = load_members(load, kv, &key);
    if (load->status == STATUS_OK) load->status = load_head(load, kv, &key);
    if (load->status == STATUS_OK)
        load->status = room_keys_load(&load->keys, kv, load->fingerprint_key, r->tenant, r->number, load->now_ms);
}

static enum status load_take_members(struct core *core, struct room *r, struct slice rows)
{
    while (rows.len) {
        uint64_t user;
        uint32_t len;
        memcpy(&user, rows.data, 8);
        memcpy(&len, rows.data + 8, 4);
        struct member_record m;
        enum status s = member_record_decode(&m, slice_of(rows.data + 12, len));
        if (s != STATUS_OK) return s;
        room_members_put(core, r, user, m.user_id, m.role, m.joined_seq, m.joined_ms);
        rows = slice_from(rows, 12 + len);
    }
    return STATUS_OK;
}

static enum status load_take(struct core *core, struct room *r, struct room_load *load)
{
    if (load->status != STATUS_OK) return load->status;
    r->strings = load->record;
    load->record = (struct buf){0};
    enum status s = room_record_decode(&r->record, buf_slice(&r->strings));
    if (s != STATUS_OK) return s;
    if (r->record.tenant != r->tenant || r->record.room != r->number) return STATUS_CORRUPT;
    if (r->record.flags & ROOM_DELETED) return STATUS_NOT_FOUND;
    r->head = r->durable_head = load->head - (PLANTED(seq_reused) && load->head) + (PLANTED(seq_skipped) && load->head);
    if (r->record.retained_from > r->head + 1) return STATUS_CORRUPT;
    r->last_ms = load->last_ms;
    r->keys = load->keys;
    load->keys = (struct room_keys){0};
    return load_take_members(core, r, buf_slice(&load->members));
}

static void room_free(struct room *r)
{
    uint32_t at = 0;
    for (struct member *m; (m = map_next(&r->members, &at));) free(m);
    map_free(&r->members);
    room_keys_free(&r->keys);
    far_walk_free(r);
    buf_free(&r->strings);
    free(r);
}

static enum error_code load_error(enum status s)
{
    if (s == STATUS_NOT_FOUND) return ERR_ROOM_NOT_FOUND;
    return s == STATUS_READ_ONLY ? ERR_STORE_READ_ONLY : ERR_STORE_READ_FAILED;
}

static void load_failed(struct core *core, struct room *r, enum status s)
{
    if (s != STATUS_NOT_FOUND)
        LOG(LOG_ERROR, "room", "load_failed", LOG_U64("room", r->number), LOG_STR("status", status_name(s)));
    ASSERT(map_remove(&core->rooms, hash_u64(r->number), r));
    while (r->waiting.len) {
        struct op *op = CONTAINER_OF(queue_pop(&r->waiting), struct op, mail.node);
        op_fail(op, load_error(s), NULL, NULL);
        op_return(core, op);
    }
    room_free(r);
}

static void load_settled(struct core *core, struct durable_wait *w, bool durable);

static void load_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct room_load, job)->wait, load_settled);
}

static void load_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct room_load *load = CONTAINER_OF(w, struct room_load, wait);
    struct room *r = load->room;
    if (!durable) load->status = STATUS_READ_ONLY;
    enum status s = load_take(core, r, load);
    if (s == STATUS_OK) {
        r->large = room_large(core, r);
        list_push(&core->rooms_idle, &r->idle);
        r->state = ROOM_READY;
        room_unblock(core, r);
    } else {
        load_failed(core, r, s);
    }
    buf_free(&load->record);
    buf_free(&load->members);
    room_keys_free(&load->keys);
    free(load);
}

/* A room is evicted only with no subscriber, no load or look-up, and nothing on its way to the disk. */
static bool room_evictable(const struct room *r)
{
    return r->state == ROOM_READY && r->core_mask == 0 && r->events_pending == 0 && r->waiting.len == 0 &&
           r->readers.len == 0 && r->published.len == 0 && r->num_typing == 0;
}

static void room_evict_idle(struct core *core)
{
    /* second chance: rooms used lately, or not evictable, go to the back; a few looks a load keep it O(1) */
    for (unsigned looks = 0; core->rooms.len >= ROOMS_LOADED_MAX && looks < 8; looks++) {
        struct list *oldest = list_pop(&core->rooms_idle);
        if (!oldest) return;
        struct room *r = CONTAINER_OF(oldest, struct room, idle);
        if (!room_evictable(r) || core->now_ns - r->last_used_ns < 1000000000u) {
            list_push(&core->rooms_idle, &r->idle);
            continue;
        }
        ASSERT(map_remove(&core->rooms, hash_u64(r->number), r));
        room_free(r);
    }
}

void rooms_free(struct core *core)
{
    uint32_t at = 0;
    for (struct room *r; (r = map_next(&core->rooms, &at));) room_free(r);
    map_free(&core->rooms);
    map_free(&core->dms_opening);
}
