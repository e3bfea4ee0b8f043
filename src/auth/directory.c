#include "directory.h"

#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/planted.h"
#include "../chat/ids.h"
#include "../chat/room.h"
#include "../chat/session.h"
#include "../core/core.h"

static struct tenant *tenant_apply(struct core *core, const struct tenant_record *r, struct rate_bucket *requests);
static struct api_key *key_apply(struct core *core, struct slice prefix, const struct api_key_record *r);

/* --- looking up -------------------------------------------------------------------------------------------------- */

static bool tenant_eq(const void *value, const void *key)
{
    return ((const struct tenant *)value)->number == *(const uint32_t *)key;
}

struct tenant *directory_tenant(const struct directory *d, uint32_t number)
{
    return map_find(&d->tenants, hash_u64(number), tenant_eq, &number);
}

static bool key_eq(const void *value, const void *key)
{
    const struct api_key *k = value;
    return slice_eq(slice_of(k->prefix, k->prefix_len), *(const struct slice *)key);
}

struct api_key *directory_key(struct core *core, struct slice prefix)
{
    return map_find(&core->directory.keys, hash_bytes(&core->gateway->hash_key, prefix), key_eq, &prefix);
}

/* A key is "ck_" + prefix + "_" + secret; the prefix is public and finds the row, the whole is compared by its HMAC. */
#define KEY_PREFIX_LEN API_KEY_ID_LEN
#define KEY_SECRET_BYTES 32u
#define KEY_TEXT_LEN (3 + KEY_PREFIX_LEN + 1 + 2 * KEY_SECRET_BYTES)
_Static_assert(KEY_TEXT_LEN <= API_KEY_TEXT_MAX, "a key fits into its buffer");

static void key_hmac(const struct core *core, uint8_t out[32], struct slice text)
{
    unsigned len = 32;
    ASSERT(HMAC(EVP_sha256(), core->gateway->pepper, sizeof core->gateway->pepper, (const uint8_t *)text.data, text.len,
                out, &len) != NULL &&
           len == 32);
}

struct api_key *directory_authenticate(struct core *core, struct slice presented)
{
    if (presented.len != KEY_TEXT_LEN || memcmp(presented.data, "ck_", 3) != 0) return NULL;
    struct api_key *k = directory_key(core, slice_of(presented.data + 3, KEY_PREFIX_LEN));
    if (!k) return NULL;
    uint8_t hmac[32];
    key_hmac(core, hmac, presented);
    if (CRYPTO_memcmp(hmac, k->hmac, sizeof hmac) != 0) return NULL;
    return (k->state == KEY_ACTIVE || PLANTED(removed_key_serves)) && k->tenant->state != TENANT_DELETED ? k : NULL;
}

enum error_code directory_key_refused(const struct api_key *k)
{
    bool active = k->state == KEY_ACTIVE || PLANTED(removed_key_serves);
    if (!active || k->tenant->state == TENANT_DELETED) return ERR_AUTH_INVALID_KEY;
    return k->tenant->state == TENANT_ACTIVE ? ERR_NONE : ERR_TENANT_DISABLED;
}

/* --- loading ----------------------------------------------------------------------------------------------------- */

/* tenant_bucket finds the bucket that core 0 has made for the tenant, or makes it. */
static struct rate_bucket *tenant_bucket(struct core *core, uint32_t number)
{
    struct tenant *first = directory_tenant(&core->gateway->cores[0]->directory, number);
    if (first) return first->requests;
    struct rate_bucket *b = aligned_alloc(CACHE_LINE, sizeof *b);
    ASSERT(b != NULL && core->id == 0);
    memset(b, 0, sizeof *b);
    return b;
}

static enum status load_tenants(struct core *core, struct kv *kv)
{
    struct kv_iter *i = kv_iter_open(kv, KV_TENANTS, SLICE("\0\0\0\0"), SLICE("\xff\xff\xff\xff\xff"));
    enum status s = STATUS_OK;
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct tenant_record r;
        s = tenant_record_decode(&r, kv_iter_value(kv, i));
        if (s == STATUS_OK) tenant_apply(core, &r, tenant_bucket(core, r.tenant));
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

enum status directory_load(struct core *core, struct kv *kv)
{
    shown_keys_init(&core->directory.shown);
    enum status s = load_tenants(core, kv);
    if (s != STATUS_OK) return s;
    struct kv_iter *i = kv_iter_open(kv, KV_KEYS, SLICE("\0\0\0\0"), SLICE("\xff\xff\xff\xff\xff"));
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct api_key_record r;
        struct slice prefix = kv_iter_key(kv, i);
        uint32_t tenant;
        s = key_parse_u32(&prefix, &tenant) ? api_key_record_decode(&r, kv_iter_value(kv, i)) : STATUS_CORRUPT;
        if (s == STATUS_OK && (r.tenant != tenant || !directory_tenant(&core->directory, tenant))) s = STATUS_CORRUPT;
        if (s == STATUS_OK) key_apply(core, prefix, &r);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

void directory_free(struct core *core)
{
    struct directory *d = &core->directory;
    uint32_t at = 0;
    for (struct tenant *t; (t = map_next(&d->tenants, &at));) {
        if (core->id == 0) free(t->requests);
        buf_free(&t->name);
        buf_free(&t->config);
        free(t);
    }
    at = 0;
    for (struct api_key *k; (k = map_next(&d->keys, &at));) free(k);
    map_free(&d->tenants);
    map_free(&d->keys);
    shown_keys_free(&d->shown);
}

/* --- applying, on every core ------------------------------------------------------------------------------------- */

/* buf_set replaces a text; what a change leaves as it is was lent from here. */
static void buf_set(struct buf *b, struct slice text)
{
    if (text.data && text.data == b->data) return;
    b->len = 0;
    buf_slice_append(b, text);
}

/* tenant_rate_read takes the rate out of the tenant's config, which was checked when it was set. */
static void tenant_rate_read(struct core *core, struct tenant *t)
{
    struct json_node config, limits, rate;
    uint64_t number = core->gateway->config->limits_tenant_rate;
    if (t->config.len && json_parse_copy(core->json, &config, buf_slice(&t->config)) == JSON_OK &&
        json_get(config, "limits", &limits) && json_get(limits, "tenant_rate", &rate))
        json_u64(rate, &number);
    t->rate = number <= REQUEST_RATE_MAX ? (uint32_t)number : REQUEST_RATE_MAX;
    if (t->rate) core->rates = true;
}

static struct tenant *tenant_apply(struct core *core, const struct tenant_record *r, struct rate_bucket *requests)
{
    struct directory *d = &core->directory;
    struct tenant *t = directory_tenant(d, r->tenant);
    if (!t) {
        t = calloc(1, sizeof *t);
        ASSERT(t != NULL);
        t->number = r->tenant;
        map_insert(&d->tenants, hash_u64(t->number), t);
        if (t->number > d->max_tenant) d->max_tenant = t->number;
    }
    t->state = r->state;
    t->durability = r->durability;
    t->created_ms = r->created_ms;
    t->requests = requests;
    buf_set(&t->name, r->name);
    buf_set(&t->config, r->config);
    tenant_rate_read(core, t);
    return t;
}

static struct api_key *key_apply(struct core *core, struct slice prefix, const struct api_key_record *r)
{
    struct api_key *k = directory_key(core, prefix);
    if (!k) {
        k = calloc(1, sizeof *k);
        ASSERT(k != NULL && prefix.len <= sizeof k->prefix);
        k->prefix_len = (uint8_t)prefix.len;
        memcpy(k->prefix, prefix.data, prefix.len);
        k->tenant = directory_tenant(&core->directory, r->tenant);
        ASSERT(k->tenant != NULL);
        map_insert(&core->directory.keys, hash_bytes(&core->gateway->hash_key, prefix), k);
    }
    k->role = r->role;
    k->state = r->state;
    k->created_ms = r->created_ms;
    memcpy(k->hmac, r->hmac, sizeof k->hmac);
    return k;
}

static void apply_here(struct core *core, struct op *op)
{
    if (op->in.directory.has_tenant) {
        struct tenant *t = tenant_apply(core, &op->in.directory.tenant, op->in.directory.requests);
        if (t->state != TENANT_ACTIVE) session_revoke(core, NULL, t);
    }
    if (op->in.directory.has_key) {
        struct api_key *k = key_apply(core, op->in.directory.prefix, &op->in.directory.key);
        if (k->state != KEY_ACTIVE) session_revoke(core, k, NULL);
    }
    op_return(core, op);
}

/* --- changing, at core 0 ----------------------------------------------------------------------------------------- */

/* directory_change: one change on its way: to the disk, then to every core, then back to the operator. */
struct directory_change {
    struct commit_entry entry;
    struct commit_row rows[3];
    struct key keys[3];
    struct buf values[3];
    struct op *op;
    uint32_t left; /* cores that have yet to take it over */
};

static bool key_generate(struct core *core, struct op *op, struct buf *text);
static bool change_prepare(struct core *core, struct op *op);
static void change_commit(struct core *core, struct op *op);
static void changes_go_on(struct core *core);
static void repeat_lookup(struct core *core, struct op *op);

void directory_on_op(struct core *core, struct op *op)
{
    if (op->kind == OP_DIRECTORY_APPLY) {
        apply_here(core, op);
        return;
    }
    ASSERT(core->id == 0);
    queue_push(&core->directory.waiting, &op->mail.node);
    changes_go_on(core);
}

/* takes_away: revoking a key, and nothing but switching a tenant off or deleting it: an operator can do that at the
 * disk's reserve too. */
static bool takes_away(const struct op *op)
{
    if (op->kind == OP_KEY_REVOKE) return true;
    const struct tenant_record *wish = &op->in.directory.tenant;
    return op->kind == OP_TENANT_UPDATE && (wish->state == TENANT_DISABLED || wish->state == TENANT_DELETED) &&
           !wish->name.data && !wish->config.data;
}

static void change_begin(struct core *core, struct op *op)
{
    bool may = takes_away(op) ? room_may_shrink(core, op) : room_may_write(core, op);
    core->directory.changing = may && change_prepare(core, op);
    if (core->directory.changing) change_commit(core, op);
    else op_return(core, op);
}

/* changes_go_on begins the next change: one at a time, so that each starts from what the one before it left. */
static void changes_go_on(struct core *core)
{
    struct directory *d = &core->directory;
    shown_keys_drop_old(&d->shown, core->now_ns);
    while (!d->changing && d->waiting.len) {
        struct op *op = CONTAINER_OF(queue_pop(&d->waiting), struct op, mail.node);
        if (op->client_id.len) repeat_lookup(core, op);
        else change_begin(core, op);
    }
}

static void change_end(struct core *core, struct op *op)
{
    core->directory.changing = false;
    op_return(core, op);
    changes_go_on(core);
}

static struct tenant_record tenant_record_of(const struct tenant *t)
{
    return (struct tenant_record){.tenant = t->number,
                                  .state = t->state,
                                  .durability = t->durability,
                                  .created_ms = t->created_ms,
                                  .name = buf_slice(&t->name),
                                  .config = buf_slice(&t->config)};
}

static bool tenant_create(struct core *core, struct op *op)
{
    ASSERT(core->directory.max_tenant < UINT32_MAX);
    op->tenant = op->in.directory.tenant.tenant = ++core->directory.max_tenant;
    op->in.directory.tenant.state = TENANT_ACTIVE;
    op->in.directory.tenant.created_ms = op->now_ms;
    op->in.directory.key.role = KEY_ROLE_SERVER;
    op->http_status = 201;
    return key_generate(core, op, &op->out);
}

/* tenant_update lays the members that were given over what is there. */
static bool tenant_update(struct core *core, struct op *op)
{
    struct tenant *t = directory_tenant(&core->directory, op->tenant);
    if (!t || t->state == TENANT_DELETED) return op_fail(op, ERR_TENANT_NOT_FOUND, NULL, NULL);
    struct tenant_record now = tenant_record_of(t), *wish = &op->in.directory.tenant;
    if (wish->state) now.state = wish->state;
    if (wish->durability) now.durability = wish->durability;
    if (wish->name.data) now.name = wish->name;
    if (wish->config.data) now.config = wish->config;
    *wish = now;
    op->http_status = now.state == TENANT_DELETED ? 204 : 200;
    return true;
}

static bool key_create(struct core *core, struct op *op)
{
    struct tenant *t = directory_tenant(&core->directory, op->tenant);
    if (!t || t->state == TENANT_DELETED) return op_fail(op, ERR_TENANT_NOT_FOUND, NULL, NULL);
    op->http_status = 201;
    return key_generate(core, op, &op->out);
}

static bool key_revoke(struct core *core, struct op *op)
{
    struct api_key *k = directory_key(core, op->in.directory.prefix);
    if (!k || k->tenant->number != op->tenant || k->state != KEY_ACTIVE)
        return op_fail(op, ERR_KEY_NOT_FOUND, NULL, NULL);
    op->in.directory.key = (struct api_key_record){
        .tenant = op->tenant, .role = k->role, .state = KEY_REVOKED, .created_ms = k->created_ms};
    memcpy(op->in.directory.key.hmac, k->hmac, sizeof k->hmac);
    op->http_status = 204;
    return true;
}

static bool change_prepare(struct core *core, struct op *op)
{
    op->in.directory.has_tenant = op->kind == OP_TENANT_CREATE || op->kind == OP_TENANT_UPDATE;
    op->in.directory.has_key = op->kind != OP_TENANT_UPDATE;
    switch ((enum op_kind)op->kind) {
    case OP_TENANT_CREATE: return tenant_create(core, op);
    case OP_TENANT_UPDATE: return tenant_update(core, op);
    case OP_KEY_CREATE: return key_create(core, op);
    case OP_KEY_REVOKE: return key_revoke(core, op);
    default: UNREACHABLE();
    }
}

static void hex(char *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
}

/* key_generate makes a new key: its text goes into `text`, shown once; only its HMAC is kept. */
static bool key_generate(struct core *core, struct op *op, struct buf *text)
{
    uint8_t secret[KEY_SECRET_BYTES], prefix[KEY_PREFIX_LEN / 2];
    char out[KEY_TEXT_LEN];
    random_fill(core->gateway->random, secret, sizeof secret);
    random_fill(core->gateway->random, prefix, sizeof prefix);
    memcpy(out, "ck_", 3);
    hex(out + 3, prefix, sizeof prefix);
    out[3 + KEY_PREFIX_LEN] = '_';
    hex(out + 4 + KEY_PREFIX_LEN, secret, sizeof secret);
    buf_append(text, out, sizeof out);
    struct api_key_record *r = &op->in.directory.key;
    r->tenant = op->tenant;
    r->state = KEY_ACTIVE;
    r->created_ms = op->now_ms;
    key_hmac(core, r->hmac, slice_of(out, sizeof out));
    op->in.directory.prefix = op_keep(op, slice_of(out + 3, KEY_PREFIX_LEN));
    if (!directory_key(core, op->in.directory.prefix)) return true;
    return op_fail(op, ERR_SERVER_OVERLOADED, "Try again", NULL); /* 48 random bits met twice */
}

static void change_done(void *context, struct commit_entry *entry, enum status result);
static void repeat_row(const struct op *op, struct key *key, struct buf *value);

static void change_commit(struct core *core, struct op *op)
{
    struct directory_change *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    uint16_t num = 0;
    c->op = op;
    if (op->in.directory.has_tenant) {
        key_tenant(&c->keys[num], op->tenant);
        tenant_record_encode(&c->values[num], &op->in.directory.tenant);
        c->rows[num].cf = KV_TENANTS;
        num++;
    }
    if (op->in.directory.has_key) {
        key_api_key(&c->keys[num], op->tenant, op->in.directory.prefix);
        api_key_record_encode(&c->values[num], &op->in.directory.key);
        c->rows[num].cf = KV_KEYS;
        num++;
    }
    if (op->client_id.len) {
        repeat_row(op, &c->keys[num], &c->values[num]);
        c->rows[num].cf = KV_IDEMPOTENCY;
        num++;
    }
    for (uint16_t i = 0; i < num; i++) {
        c->rows[i].op = COMMIT_PUT;
        c->rows[i].key = key_slice(&c->keys[i]);
        c->rows[i].value = buf_slice(&c->values[i]);
    }
    c->entry = (struct commit_entry){.class = COMMIT_FSYNC, .rows = c->rows, .num_rows = num, .done = change_done};
    if (commit_push(core->commit, &c->entry) != STATUS_OK) change_done(core, &c->entry, STATUS_IO);
}

static void change_applied(struct core *core, struct op *child);

static void change_done(void *context, struct commit_entry *entry, enum status result)
{
    struct core *core = context;
    struct directory_change *c = CONTAINER_OF(entry, struct directory_change, entry);
    struct op *op = c->op;
    for (unsigned i = 0; i < 3; i++) buf_free(&c->values[i]);
    if (result != STATUS_OK) {
        free(c);
        op_fail(op, store_error(result), NULL, NULL);
        change_end(core, op);
        return;
    }
    c->left = core->num_cores;
    if (op->in.directory.has_tenant) op->in.directory.requests = tenant_bucket(core, op->in.directory.tenant.tenant);
    for (unsigned target = 0, num = core->num_cores; target < num; target++) {
        struct op *child = op_new(core, OP_DIRECTORY_APPLY, 0);
        child->in.directory = op->in.directory; /* its text lives in `op`, which waits for all of them */
        child->flow = c;
        child->then = change_applied;
        op_send(core, child, target);
    }
}

static void change_applied(struct core *core, struct op *child)
{
    struct directory_change *c = child->flow;
    op_free(child);
    if (--c->left) return;
    struct op *op = c->op;
    free(c);
    if (op->client_id.len) {
        const struct shown_key answer = {
            .payload_hash = op->payload_hash, .created_ms = op->in.directory.key.created_ms, .tenant = op->tenant};
        shown_keys_add(&core->directory.shown, core->now_ns, op->client_id, &answer, buf_slice(&op->out));
    }
    change_end(core, op);
}

/* --- a request that may be a repeat ------------------------------------------------------------------------------ */

#define OPERATOR_TENANT 0u /* whose kept answers the operator's are: no tenant and no user has number 0 */
#define OPERATOR_USER 0u

/* repeat_row keeps what the request made, but not the API key that is shown once. */
static void repeat_row(const struct op *op, struct key *key, struct buf *value)
{
    char id[ID_TEXT_LEN];
    struct answer_record record = {
        .payload_hash = op->payload_hash, .created_ms = op->now_ms, .http_status = op->http_status};
    tenant_id_text(id, op->tenant);
    record.answer = op->kind == OP_TENANT_CREATE ? slice_of(id, sizeof id) : op->in.directory.prefix;
    key_answer(key, OPERATOR_TENANT, OPERATOR_USER, op->client_id);
    answer_record_encode(value, &record);
}

/* repeat_search: the change under way is the look for the answer of the first one. */
struct repeat_search {
    struct read_job job;
    struct op *op;
    enum status status;
    struct buf bytes;
};

static bool repeat_same(struct op *op, uint64_t payload_hash)
{
    return payload_hash == op->payload_hash || op_fail(op, ERR_IDEMPOTENCY_MISMATCH, NULL, "Idempotency-Key");
}

static void repeat_shown(struct core *core, struct op *op, const struct shown_key *k)
{
    if (!repeat_same(op, k->payload_hash)) return;
    struct slice text = shown_key_text(k);
    op->tenant = k->tenant;
    op->in.directory.tenant.created_ms = op->in.directory.key.created_ms = k->created_ms;
    op->in.directory.prefix = op_keep(op, slice_of(text.data + 3, KEY_PREFIX_LEN));
    op->http_status = 201;
    buf_slice_append(&op->out, text);
    core->idempotency.hits++;
}

static void repeat_run(struct read_job *job, struct kv *kv)
{
    struct repeat_search *s = CONTAINER_OF(job, struct repeat_search, job);
    struct key key;
    key_answer(&key, OPERATOR_TENANT, OPERATOR_USER, s->op->client_id);
    s->status = kv_get(kv, KV_IDEMPOTENCY, key_slice(&key), &s->bytes);
}

static void repeat_done(void *context, struct read_job *job)
{
    struct core *core = context;
    struct repeat_search *s = CONTAINER_OF(job, struct repeat_search, job);
    struct op *op = s->op;
    struct answer_record record;
    enum status status = s->status == STATUS_OK ? answer_record_decode(&record, buf_slice(&s->bytes)) : s->status;
    core->directory.changing = false;
    if (status == STATUS_NOT_FOUND) {
        change_begin(core, op);
    } else {
        if (status != STATUS_OK) op_fail(op, ERR_STORE_READ_FAILED, NULL, NULL);
        else if (room_may_shrink(core, op) && repeat_same(op, record.payload_hash)) {
            /* not of a store that has failed */
            op_fail(op, ERR_IDEMPOTENCY_EXPIRED, NULL, NULL);
            buf_slice_append(&op->out, record.answer);
        }
        op_return(core, op);
    }
    buf_free(&s->bytes);
    free(s);
    changes_go_on(core);
}

static void repeat_lookup(struct core *core, struct op *op)
{
    const struct shown_key *shown = shown_keys_find(&core->directory.shown, core->now_ns, op->client_id);
    if (shown) {
        repeat_shown(core, op, shown);
        op_return(core, op);
        return;
    }
    struct repeat_search *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    s->job = (struct read_job){.return_core = (uint16_t)core->id, .run = repeat_run, .done = repeat_done};
    s->op = op;
    core->directory.changing = true;
    core->idempotency.lookups++;
    read_submit(core->reader, &s->job);
}

/* --- as JSON ----------------------------------------------------------------------------------------------------- */

void directory_tenant_json(struct buf *out, const struct tenant *t)
{
    static const char *const states[] = {"", "active", "disabled", "deleted"};
    static const char *const durabilities[] = {"default", "fsync", "fast"};
    char id[ID_TEXT_LEN], time[TIME_TEXT_LEN];
    tenant_id_text(id, t->number);
    time_text(time, t->created_ms);
    buf_printf(out, "{\"tenant_id\":\"%.*s\",\"name\":", (int)ID_TEXT_LEN, id);
    buf_json_string(out, buf_slice(&t->name));
    buf_printf(out, ",\"state\":\"%s\",\"durability\":\"%s\",\"config\":", states[t->state],
               durabilities[t->durability]);
    if (t->config.len) buf_slice_append(out, buf_slice(&t->config));
    else BUF_LIT(out, "{}");
    buf_printf(out, ",\"created_at\":\"%.*s\"}", (int)TIME_TEXT_LEN, time);
}

void directory_key_json(struct buf *out, const struct api_key *k)
{
    static const char *const roles[] = {"", "server", "admin", "read"};
    char time[TIME_TEXT_LEN];
    time_text(time, k->created_ms);
    buf_printf(out, "{\"key_id\":\"%.*s\",\"role\":\"%s\",\"state\":\"%s\",\"created_at\":\"%.*s\"}",
               (int)k->prefix_len, k->prefix, roles[k->role], k->state == KEY_ACTIVE ? "active" : "revoked",
               (int)TIME_TEXT_LEN, time);
}
