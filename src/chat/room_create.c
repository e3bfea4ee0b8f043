/* room_create: making a room at its tenant's home. One commit entry holds all of it: the room, its members both ways
 * round, the DM's unique name, the idempotency row. The room's own home loads it from there when first asked.
 *
 * A DM exists once for each pair, and a repeated Idempotency-Key makes no second room: both are looked up first, and
 * while one creation is open, others for the same pair or key wait for it (`dms_opening`) and then look for themselves:
 * a DM's creation is found by its pair, and by its key as well. */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/assert.h"
#include "../core/notice.h"
#include "ids.h"
#include "room.h"

struct creation {
    struct read_job job;
    struct durable_wait wait;
    struct commit_entry entry;
    uint64_t hash;
    struct op *op;
    struct queue waiting;   /* ops for the same key */
    struct buf lookup_key;  /* row to look up first; also what concurrent creations meet at; empty: neither */
    struct buf found;
    enum status found_status;
    bool found_answer;      /* what was found is the kept answer of a request with this key */
    uint16_t http_status;   /* which the room's object is answered with */
    uint64_t room;
    uint64_t payload_hash;  /* of the request that made the room: this one's, or the one that is found */
    struct commit_row *rows;
    uint32_t num_rows;
    struct key *keys;
    struct buf *values;
};

static void creation_lookup_key(struct core *core, struct creation *c);
static void creation_commit(struct core *core, struct creation *c);
static void lookup_run(struct read_job *job, struct kv *kv);
static void lookup_done(void *context, struct read_job *job);

static bool creation_eq(const void *value, const void *key)
{
    const struct creation *c = value;
    return slice_eq(buf_slice(&c->lookup_key), *(const struct slice *)key);
}

/* creation_of_key finds the open creation of a DM that another request with the same Idempotency-Key asked for. Few are
 * open at once, and fewer have a key. */
static struct creation *creation_of_key(struct core *core, const struct op *op)
{
    uint32_t at = 0;
    for (struct creation *c; (c = map_next(&core->dms_opening, &at));)
        if (c->op->tenant == op->tenant && c->op->user == op->user && slice_eq(c->op->client_id, op->client_id))
            return c;
    return NULL;
}

void room_on_create(struct core *core, struct op *op)
{
    if (!room_may_write(core, op)) {
        op_return(core, op);
        return;
    }
    struct creation *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->op = op;
    c->payload_hash = op->payload_hash;
    creation_lookup_key(core, c);
    if (c->lookup_key.len == 0) {
        creation_commit(core, c);
        return;
    }
    struct slice key = buf_slice(&c->lookup_key);
    c->hash = hash_bytes(&core->gateway->hash_key, key);
    struct creation *open = map_find(&core->dms_opening, c->hash, creation_eq, &key);
    if (!open && op->client_id.len) open = creation_of_key(core, op);
    if (open) {
        queue_push(&open->waiting, &op->mail.node);
        buf_free(&c->lookup_key);
        free(c);
        return;
    }
    map_insert(&core->dms_opening, c->hash, c);
    c->job = (struct read_job){.return_core = (uint16_t)core->id, .run = lookup_run, .done = lookup_done};
    read_submit(core->reader, &c->job);
}

/* --- the unique key of a DM -------------------------------------------------------------------------------------- */

static void append_escaped(struct buf *out, struct slice id)
{
    for (size_t i = 0; i < id.len; i++) {
        if (id.data[i] == ':' || id.data[i] == '%') buf_printf(out, "%%%02X", (unsigned)(unsigned char)id.data[i]);
        else buf_char(out, id.data[i]);
    }
}

/* dm_unique_key: "dm:" and both user ids in byte order, so that it is the same from either side; a colon in an id is
 * percent-escaped, so that two pairs never meet. */
static void dm_unique_key(struct buf *out, struct slice a, struct slice b)
{
    int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    if (order > 0 || (order == 0 && a.len > b.len)) {
        struct slice swap = a;
        a = b;
        b = swap;
    }
    BUF_LIT(out, "dm:");
    append_escaped(out, a);
    BUF_LIT(out, ":");
    append_escaped(out, b);
}

/* dm_name: the unique key as it fits into a row key: its digest when it is long. */
static void dm_name(struct buf *out, struct slice unique_key)
{
    if (unique_key.len <= 200) {
        buf_slice_append(out, unique_key);
        return;
    }
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)unique_key.data, unique_key.len, digest);
    BUF_LIT(out, "dm#");
    for (size_t i = 0; i < sizeof digest; i++) buf_printf(out, "%02x", digest[i]);
}

static void creation_lookup_key(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    struct key key;
    if (op->in.change.type == ROOM_DM) {
        ASSERT(op->num_members == 2);
        struct buf unique = {0}, name = {0};
        dm_unique_key(&unique, op->members[0].user_id, op->members[1].user_id);
        dm_name(&name, buf_slice(&unique));
        key_name(&key, op->tenant, NAME_DM, buf_slice(&name));
        buf_free(&unique);
        buf_free(&name);
    } else if (op->client_id.len) {
        key_answer(&key, op->tenant, op->user, op->client_id);
    } else {
        return;
    }
    buf_append(&c->lookup_key, key.bytes, key.len);
}

/* --- looking first ----------------------------------------------------------------------------------------------- */

static void lookup_run(struct read_job *job, struct kv *kv)
{
    struct creation *c = CONTAINER_OF(job, struct creation, job);
    struct key key;
    c->found_status = STATUS_NOT_FOUND;
    if (c->op->client_id.len) {
        key_answer(&key, c->op->tenant, c->op->user, c->op->client_id);
        c->found_status = kv_get(kv, KV_IDEMPOTENCY, key_slice(&key), &c->found);
    }
    c->found_answer = c->found_status != STATUS_NOT_FOUND;
    if (!c->found_answer && c->op->in.change.type == ROOM_DM)
        c->found_status = kv_get(kv, KV_NAMES, buf_slice(&c->lookup_key), &c->found);
}

/* answer_room goes on to the room's home for its object. */
static void answer_room(struct core *core, struct op *op, uint64_t room, uint16_t http_status)
{
    op->kind = OP_ROOM_GET;
    op->room = room;
    op->created_status = http_status;
    op_dispatch(core, op);
}

static void creation_free(struct creation *c)
{
    for (uint32_t i = 0; c->values && i < c->num_rows; i++) buf_free(&c->values[i]);
    free(c->values);
    free(c->keys);
    free(c->rows);
    buf_free(&c->lookup_key);
    buf_free(&c->found);
    free(c);
}

static void answer_one(struct core *core, struct creation *c, struct op *op)
{
    if (op->client_id.len && op->payload_hash != c->payload_hash) {
        op_fail(op, ERR_IDEMPOTENCY_MISMATCH, NULL, "Idempotency-Key");
        op_return(core, op);
        return;
    }
    answer_room(core, op, c->room, c->http_status);
}

static void creation_end(struct core *core, struct creation *c, enum error_code failed)
{
    if (c->lookup_key.len) ASSERT(map_remove(&core->dms_opening, c->hash, c));
    while (c->waiting.len) {
        struct op *op = CONTAINER_OF(queue_pop(&c->waiting), struct op, mail.node);
        if (failed == ERR_NONE) {
            room_on_create(core, op); /* finds what was made, under its own key */
        } else {
            op_fail(op, failed, NULL, NULL);
            op_return(core, op);
        }
    }
    if (failed == ERR_NONE) {
        answer_one(core, c, c->op);
    } else {
        op_fail(c->op, failed, NULL, NULL);
        op_return(core, c->op);
    }
    creation_free(c);
}

static void lookup_settled(struct core *core, struct durable_wait *w, bool durable);

static void lookup_done(void *context, struct read_job *job)
{
    core_when_durable(context, &CONTAINER_OF(job, struct creation, job)->wait, lookup_settled);
}

static void lookup_settled(struct core *core, struct durable_wait *w, bool durable)
{
    struct creation *c = CONTAINER_OF(w, struct creation, wait);
    if (!durable) c->found_status = STATUS_READ_ONLY;
    if (c->found_status == STATUS_NOT_FOUND) {
        creation_commit(core, c);
        return;
    }
    enum status s = c->found_status;
    c->http_status = 200;
    if (s == STATUS_OK && !c->found_answer) {
        s = number_record_decode(&c->room, buf_slice(&c->found));
    } else if (s == STATUS_OK) {
        struct answer_record record;
        s = answer_record_decode(&record, buf_slice(&c->found));
        c->room = record.room;
        c->payload_hash = record.payload_hash;
        c->http_status = record.http_status;
    }
    if (s == STATUS_OK && !c->found_answer && c->op->client_id.len) creation_commit(core, c);
    else creation_end(core, c, s == STATUS_OK ? ERR_NONE : ERR_STORE_READ_FAILED);
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

static struct buf *creation_row(struct creation *c, enum kv_cf cf, struct key **key)
{
    *key = &c->keys[c->num_rows];
    c->rows[c->num_rows] = (struct commit_row){.op = COMMIT_PUT, .cf = (uint8_t)cf};
    return &c->values[c->num_rows++];
}

static void creation_room_row(struct core *core, struct creation *c)
{
    struct op *op = c->op;
    struct buf unique = {0};
    if (op->in.change.type == ROOM_DM) dm_unique_key(&unique, op->members[0].user_id, op->members[1].user_id);
    struct room_record record = {.tenant = op->tenant,
                                 .room = c->room,
                                 .type = op->in.change.type,
                                 .flags = op->in.change.flags,
                                 .members_max = op->in.change.members_max,
                                 .created_ms = op->now_ms,
                                 .updated_ms = op->now_ms,
                                 .created_by = op->user,
                                 .retained_from = 1,
                                 .name = op->in.change.name,
                                 .description = op->in.change.description,
                                 .avatar_url = op->in.change.avatar_url,
                                 .unique_key = buf_slice(&unique),
                                 .settings = op->in.change.settings,
                                 .num_epochs = 1,
                                 .epochs = {{core->gateway->epoch, 1}}};
    struct key *key;
    struct buf *value = creation_row(c, KV_ROOMS, &key);
    key_room(key, op->tenant, c->room);
    room_record_encode(value, &record);
    if (op->in.change.type == ROOM_DM) {
        struct buf name = {0};
        dm_name(&name, buf_slice(&unique));
        value = creation_row(c, KV_NAMES, &key);
        key_name(key, op->tenant, NAME_DM, buf_slice(&name));
        number_record_encode(value, c->room);
        buf_free(&name);
    }
    buf_free(&unique);
}

static void creation_answer_row(struct creation *c)
{
    struct op *op = c->op;
    struct key *key;
    struct answer_record repeat = {
        .room = c->room, .payload_hash = op->payload_hash, .created_ms = op->now_ms, .http_status = c->http_status};
    struct buf *value = creation_row(c, KV_IDEMPOTENCY, &key);
    key_answer(key, op->tenant, op->user, op->client_id);
    answer_record_encode(value, &repeat);
}

static void creation_member_rows(struct creation *c)
{
    struct op *op = c->op;
    for (uint32_t i = 0; i < op->num_members; i++) {
        bool admin = op->members[i].user == op->user;
        struct member_record m = {.role = admin ? MEMBER_ADMIN : MEMBER_MEMBER,
                                  .joined_ms = op->now_ms,
                                  .user_id = op->members[i].user_id};
        struct key *key;
        struct buf *value = creation_row(c, KV_MEMBERS, &key);
        key_member(key, op->tenant, c->room, op->members[i].user);
        member_record_encode(value, &m);
        value = creation_row(c, KV_USER_ROOMS, &key);
        key_user_room(key, op->tenant, op->members[i].user, c->room);
        member_record_encode(value, &m);
    }
}

void number_row(struct core *core, struct key *key, struct buf *value, uint64_t number)
{
    char name[32];
    int len = snprintf(name, sizeof name, STORE_NUMBER_META "%u", core->id);
    if (number > core->number_used) core->number_used = number;
    key_meta(key, slice_of(name, (size_t)len));
    number_record_encode(value, core->number_used);
}

static void creation_done(void *context, struct commit_entry *entry, enum status result);

/* creation_new_rows gives the room its number and makes all its rows. */
static void creation_new_rows(struct core *core, struct creation *c)
{
    c->http_status = 201;
    c->room = gateway_number(core->gateway);
    creation_room_row(core, c);
    creation_member_rows(c);
    struct key *key;
    struct buf *value = creation_row(c, KV_META, &key);
    number_row(core, key, value, c->room);
}

/* creation_commit writes the room, or, for a DM that exists, the answer of a request with a key alone. */
static void creation_commit(struct core *core, struct creation *c)
{
    if (c->room == 0 && op_members_full(c->op->members, c->op->num_members)) {
        creation_end(core, c, ERR_USER_ROOMS_FULL);
        return;
    }
    uint32_t rows_max = 4 + 2 * c->op->num_members;
    c->rows = calloc(rows_max, sizeof *c->rows);
    c->keys = calloc(rows_max, sizeof *c->keys);
    c->values = calloc(rows_max, sizeof *c->values);
    ASSERT(c->rows && c->keys && c->values);
    if (c->room == 0) creation_new_rows(core, c);
    if (c->op->client_id.len) creation_answer_row(c);
    ASSERT(c->num_rows <= rows_max);
    for (uint32_t i = 0; i < c->num_rows; i++) {
        c->rows[i].key = key_slice(&c->keys[i]);
        c->rows[i].value = buf_slice(&c->values[i]);
    }
    c->entry = (struct commit_entry){
        .class = COMMIT_FSYNC, .rows = c->rows, .num_rows = (uint16_t)c->num_rows, .done = creation_done};
    enum status s = commit_push(core->commit, &c->entry);
    if (s != STATUS_OK) creation_end(core, c, s == STATUS_FULL ? ERR_STORE_OVERLOADED : ERR_STORE_READ_ONLY);
}

static void creation_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct creation *c = CONTAINER_OF(entry, struct creation, entry);
    struct op *op = c->op;
    if (result != STATUS_OK) {
        creation_end(core, c, store_error(result));
        return;
    }
    for (uint32_t i = 0; c->http_status == 201 && i < op->num_members; i++) {
        const struct op_member *m = &op->members[i];
        notice_post(core, gateway_user_home(core->gateway, op->tenant, m->user_id),
                    notice_new(core, NOTICE_JOINED, op->tenant, m->user, m->user_id, c->room, 0, (struct slice){0}));
    }
    creation_end(core, c, ERR_NONE);
}
