#include "script.h"

#include "../../src/base/assert.h"
#include "../../storage/keys.h"

#define NUMBERS 4u             /* tenants, rooms and users there are */
#define SEQS 24u
#define LONG_KEY_BYTES 3000u   /* ten times what the product's longest key has */
#define LARGE_VALUE_BYTES (1u << 20)

static void real_key(struct chances *c, enum kv_cf cf, struct key *k);
static void strange_key(struct chances *c, struct buf *out);
static void neighbour(struct chances *c, struct buf *key);
static void script_value(struct chances *c, struct buf *out);

void script_key(struct chances *c, enum kv_cf cf, struct buf *out)
{
    if (chances_one_in(c, 8)) {
        strange_key(c, out);
        return;
    }
    struct key k;
    real_key(c, cf, &k);
    buf_slice_append(out, key_slice(&k));
    if (chances_one_in(c, 8)) neighbour(c, out);
}

static struct slice some_text(struct chances *c)
{
    static const char *const texts[] = {"a", "ab", "abc", "b", "device-1", "\xc3\xa9"};
    return slice_str(texts[chances_below(c, sizeof texts / sizeof *texts)]);
}

/* real_key: as the product makes them, family by family (docs/STORAGE_FORMAT.md). */
static void real_key(struct chances *c, enum kv_cf cf, struct key *k)
{
    uint32_t tenant = 1 + (uint32_t)chances_below(c, 2);
    uint64_t a = 1 + chances_below(c, NUMBERS), b = 1 + chances_below(c, NUMBERS), seq = 1 + chances_below(c, SEQS);
    switch (cf) {
    case KV_META:
    case KV_AUDIT: key_meta(k, some_text(c)); return;
    case KV_TENANTS: key_tenant(k, tenant); return;
    case KV_KEYS: key_api_key(k, tenant, some_text(c)); return;
    case KV_NAMES: key_name(k, tenant, chances_one_in(c, 2) ? NAME_USER : NAME_DM, some_text(c)); return;
    case KV_USERS:
    case KV_SESSIONS: key_user(k, tenant, a); return;
    case KV_ROOMS: key_room(k, tenant, a); return;
    case KV_MEMBERS: key_member(k, tenant, a, b); return;
    case KV_USER_ROOMS: key_user_room(k, tenant, a, b); return;
    case KV_LOG: key_log(k, tenant, a, seq); return;
    case KV_CHANGES: key_change(k, tenant, a, seq, 1 + chances_below(c, SEQS)); return;
    case KV_CURSORS: key_cursor(k, tenant, a, some_text(c), b); return;
    case KV_IDEMPOTENCY:
        if (chances_one_in(c, 2)) key_idempotency_run(k, tenant, a, seq);
        else key_answer(k, tenant, a, some_text(c));
        return;
    case KV_OUTBOX: key_outbox(k, tenant, a, seq); return;
    case KV_DEAD_LETTERS: key_dead_letter(k, tenant, seq, a); return;
    case KV_NOTIFICATIONS:
        key_notification(k, tenant, a, seq, chances_one_in(c, 2) ? NOTIFICATION_BODY : NOTIFICATION_END);
        return;
    case KV_SUBSCRIPTIONS:
        if (chances_one_in(c, 2)) key_subscription(k, tenant, a, some_text(c));
        else key_subscriber(k, tenant, some_text(c), a);
        return;
    case KV_CFS: break;
    }
    UNREACHABLE();
}

static void strange_key(struct chances *c, struct buf *out)
{
    static const unsigned char bytes[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0xff};
    size_t len = 1 + chances_below(c, chances_one_in(c, 8) ? LONG_KEY_BYTES : 14);
    unsigned char fill = bytes[chances_below(c, sizeof bytes)];
    for (size_t i = 0; i < len; i++) {
        if (chances_one_in(c, 6)) fill = bytes[chances_below(c, sizeof bytes)];
        buf_char(out, (char)fill);
    }
}

static void neighbour(struct chances *c, struct buf *key)
{
    switch (chances_below(c, 4)) {
    case 0: buf_char(key, '\0'); return;
    case 1: buf_char(key, '\xff'); return;
    case 2: key->len -= key->len > 1; return;
    case 3: key->data[key->len - 1]++; return;
    }
}

void script_bounds(struct chances *c, enum kv_cf cf, struct buf *lower, struct buf *upper)
{
    struct key end;
    if (chances_one_in(c, 3)) { /* a prefix: of a real key, or all 0xff, which nothing is behind */
        script_key(c, cf, lower);
        if (lower->len > KEY_MAX) lower->len = KEY_MAX;
        lower->len = 1 + chances_below(c, lower->len);
        if (chances_one_in(c, 6)) memset(lower->data, 0xff, lower->len);
        key_prefix_end(&end, buf_slice(lower));
        buf_slice_append(upper, key_slice(&end));
        return;
    }
    if (!chances_one_in(c, 3)) script_key(c, cf, lower);
    if (!chances_one_in(c, 3)) script_key(c, cf, upper);
}

/* Every family in turn, the log and one other more often, so that rows gather somewhere. */
enum kv_cf script_family(struct chances *c)
{
    if (chances_one_in(c, 3)) return KV_LOG;
    if (chances_one_in(c, 3)) return KV_MEMBERS;
    return (enum kv_cf)chances_below(c, KV_CFS);
}

static size_t value_len(struct chances *c)
{
    if (chances_one_in(c, 10)) return 0;
    if (chances_one_in(c, 600)) return LARGE_VALUE_BYTES - chances_below(c, 2);
    if (chances_one_in(c, 20)) return chances_below(c, 40000); /* around the WAL's blocks of 32 KiB */
    return chances_below(c, 200);
}

static void script_value(struct chances *c, struct buf *out)
{
    size_t len = value_len(c);
    uint64_t v = chances_next(c);
    bool compressible = chances_one_in(c, 2);
    buf_reserve(out, len + sizeof v);
    for (size_t at = 0; at < len; at += sizeof v) {
        if (!compressible) v = chances_next(c);
        buf_append(out, &v, len - at < sizeof v ? len - at : sizeof v);
    }
}

void script_batch_make(struct chances *c, struct script_batch *batch)
{
    size_t num = chances_below(c, chances_one_in(c, 4) ? SCRIPT_OPS_MAX + 1 : 4);
    enum kv_cf cf = script_family(c);
    while (batch->len < num) {
        struct script_op *op = &batch->ops[batch->len];
        if (chances_one_in(c, 2)) cf = script_family(c);
        *op = (struct script_op){.cf = cf};
        script_key(c, cf, &op->key);
        uint64_t kind = chances_below(c, 12);
        if (kind < 2) op->kind = SCRIPT_DELETE;
        if (kind == 2) { /* a range of the log begins at a room or a tenant */
            if (cf == KV_LOG && op->key.len > KV_LOG_RANGE_FROM_MAX)
                op->key.len = chances_one_in(c, 4) ? 4 : KV_LOG_RANGE_FROM_MAX;
            script_key(c, cf, &op->value);
            op->kind = SCRIPT_DELETE_RANGE;
            if (!kv_range_valid(cf, buf_slice(&op->key), buf_slice(&op->value))) {
                op->kind = SCRIPT_DELETE;
                op->value.len = 0;
            }
        }
        if (op->kind == SCRIPT_PUT) script_value(c, &op->value);
        batch->len++;
    }
}

void script_batch_clear(struct script_batch *batch)
{
    while (batch->len) {
        struct script_op *op = &batch->ops[--batch->len];
        buf_free(&op->key);
        buf_free(&op->value);
    }
}

void script_batch_into(struct kv *kv, struct kv_batch *b, const struct script_batch *batch)
{
    for (size_t i = 0; i < batch->len; i++) {
        const struct script_op *op = &batch->ops[i];
        struct slice key = buf_slice(&op->key), value = buf_slice(&op->value);
        switch (op->kind) {
        case SCRIPT_PUT: kv->ops->batch_put(b, op->cf, key, value); break;
        case SCRIPT_DELETE: kv->ops->batch_delete(b, op->cf, key); break;
        case SCRIPT_DELETE_RANGE: kv->ops->batch_delete_range(b, op->cf, key, value); break;
        }
    }
}
