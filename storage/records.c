#include "records.h"

#include "../src/base/assert.h"

/* Every value:
 *
 *   0        1             5
 *   +--------+-------------+---------------------------
 *   | ver u8 | key id u32  | the record's own fields …
 *   +--------+-------------+---------------------------
 *
 * A layout below shows what follows this head. `text8`, `text16` and `text32` are a length of that many bits and the
 * bytes. A record has one encoding only: decoding and encoding again gives the same bytes. */

#define RECORD_VERSION 1u
#define RECORD_HEAD_LEN 5u
#define RECORD_NOT_ENCRYPTED 0u

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "integers are stored as they lie in memory");

/* Writing: each store_… writes at `out` and returns the end; each put_… appends to a buf. */
static char *store_u8(char *out, uint8_t v);
static char *store_u32(char *out, uint32_t v);
static char *store_u64(char *out, uint64_t v);
static char *store_text8(char *out, struct slice text);
static char *store_text32(char *out, struct slice text);
static char *store_head(char *out);
static void put_head(struct buf *out);
static void put_u8(struct buf *out, uint8_t v);
static void put_u16(struct buf *out, uint16_t v);
static void put_u32(struct buf *out, uint32_t v);
static void put_u64(struct buf *out, uint64_t v);
static void put_text8(struct buf *out, struct slice text);
static void put_text16(struct buf *out, struct slice text);
static void put_text32(struct buf *out, struct slice text);

/* Reading: a reader that ran past the end stays bad and gives zeros, so that a decoder checks once, at its end. */
struct reader {
    struct slice rest;
    bool bad;
};

static struct reader reader_of(struct slice value);
static enum status reader_end(const struct reader *r);
static uint8_t take_u8(struct reader *r);
static uint16_t take_u16(struct reader *r);
static uint32_t take_u32(struct reader *r);
static uint64_t take_u64(struct reader *r);
static struct slice take_bytes(struct reader *r, size_t len);
static uint8_t take_enum(struct reader *r, uint8_t first, uint8_t last);

#define DURABILITY_LAST 2u /* 0 inherited, 1 fsync, 2 fast */

/* tenant: tenant u32 | state u8 | durability u8 | created_ms u64 | name text16 | config text32 */
void tenant_record_encode(struct buf *out, const struct tenant_record *r)
{
    ASSERT(r->state >= TENANT_ACTIVE && r->state <= TENANT_DELETED && r->durability <= DURABILITY_LAST);
    put_head(out);
    put_u32(out, r->tenant);
    put_u8(out, r->state);
    put_u8(out, r->durability);
    put_u64(out, r->created_ms);
    put_text16(out, r->name);
    put_text32(out, r->config);
}

enum status tenant_record_decode(struct tenant_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct tenant_record){0};
    out->tenant = take_u32(&r);
    out->state = take_enum(&r, TENANT_ACTIVE, TENANT_DELETED);
    out->durability = take_enum(&r, 0, DURABILITY_LAST);
    out->created_ms = take_u64(&r);
    out->name = take_bytes(&r, take_u16(&r));
    out->config = take_bytes(&r, take_u32(&r));
    return reader_end(&r);
}

/* API key: tenant u32 | role u8 | state u8 | created_ms u64 | hmac 32 bytes */
void api_key_record_encode(struct buf *out, const struct api_key_record *r)
{
    ASSERT(r->role >= KEY_ROLE_SERVER && r->role <= KEY_ROLE_READ);
    ASSERT(r->state >= KEY_ACTIVE && r->state <= KEY_REVOKED);
    put_head(out);
    put_u32(out, r->tenant);
    put_u8(out, r->role);
    put_u8(out, r->state);
    put_u64(out, r->created_ms);
    buf_append(out, r->hmac, sizeof r->hmac);
}

enum status api_key_record_decode(struct api_key_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct api_key_record){0};
    out->tenant = take_u32(&r);
    out->role = take_enum(&r, KEY_ROLE_SERVER, KEY_ROLE_READ);
    out->state = take_enum(&r, KEY_ACTIVE, KEY_REVOKED);
    out->created_ms = take_u64(&r);
    struct slice hmac = take_bytes(&r, sizeof out->hmac);
    if (hmac.len) memcpy(out->hmac, hmac.data, sizeof out->hmac);
    return reader_end(&r);
}

/* user: tenant u32 | user u64 | created_ms u64 | user_id text16 | display_name text16 | profile text32 */
void user_record_encode(struct buf *out, const struct user_record *r)
{
    put_head(out);
    put_u32(out, r->tenant);
    put_u64(out, r->user);
    put_u64(out, r->created_ms);
    put_text16(out, r->user_id);
    put_text16(out, r->display_name);
    put_text32(out, r->profile);
}

enum status user_record_decode(struct user_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct user_record){0};
    out->tenant = take_u32(&r);
    out->user = take_u64(&r);
    out->created_ms = take_u64(&r);
    out->user_id = take_bytes(&r, take_u16(&r));
    out->display_name = take_bytes(&r, take_u16(&r));
    out->profile = take_bytes(&r, take_u32(&r));
    return reader_end(&r);
}

/* room: tenant u32 | room u64 | type u8 | flags u8 | durability u8 | members_max u32 | created_ms u64 | updated_ms u64
 *     | created_by u64 | retained_from u64 | name text16 | description text16 | avatar_url text16 | unique_key text16
 *     | settings text32 | num_epochs u16 | num_epochs × (epoch u64 | first_seq u64) */
void room_record_encode(struct buf *out, const struct room_record *r)
{
    ASSERT(r->type >= ROOM_DM && r->type <= ROOM_CHANNEL && r->durability <= DURABILITY_LAST);
    ASSERT(r->num_epochs <= ROOM_EPOCHS_MAX);
    put_head(out);
    put_u32(out, r->tenant);
    put_u64(out, r->room);
    put_u8(out, r->type);
    put_u8(out, r->flags);
    put_u8(out, r->durability);
    put_u32(out, r->members_max);
    put_u64(out, r->created_ms);
    put_u64(out, r->updated_ms);
    put_u64(out, r->created_by);
    put_u64(out, r->retained_from);
    put_text16(out, r->name);
    put_text16(out, r->description);
    put_text16(out, r->avatar_url);
    put_text16(out, r->unique_key);
    put_text32(out, r->settings);
    put_u16(out, r->num_epochs);
    for (unsigned i = 0; i < r->num_epochs; i++) {
        put_u64(out, r->epochs[i].epoch);
        put_u64(out, r->epochs[i].first_seq);
    }
}

enum status room_record_decode(struct room_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct room_record){0};
    out->tenant = take_u32(&r);
    out->room = take_u64(&r);
    out->type = take_enum(&r, ROOM_DM, ROOM_CHANNEL);
    out->flags = take_u8(&r);
    out->durability = take_enum(&r, 0, DURABILITY_LAST);
    out->members_max = take_u32(&r);
    out->created_ms = take_u64(&r);
    out->updated_ms = take_u64(&r);
    out->created_by = take_u64(&r);
    out->retained_from = take_u64(&r);
    out->name = take_bytes(&r, take_u16(&r));
    out->description = take_bytes(&r, take_u16(&r));
    out->avatar_url = take_bytes(&r, take_u16(&r));
    out->unique_key = take_bytes(&r, take_u16(&r));
    out->settings = take_bytes(&r, take_u32(&r));
    out->num_epochs = take_u16(&r);
    if (out->num_epochs > ROOM_EPOCHS_MAX) {
        out->num_epochs = 0;
        return STATUS_CORRUPT;
    }
    for (unsigned i = 0; i < out->num_epochs; i++) {
        out->epochs[i].epoch = take_u64(&r);
        out->epochs[i].first_seq = take_u64(&r);
    }
    return reader_end(&r);
}

/* member: role u8 | joined_seq u64 | joined_ms u64 | user_id text16 */
void member_record_encode(struct buf *out, const struct member_record *r)
{
    ASSERT(r->role >= MEMBER_MEMBER && r->role <= MEMBER_ADMIN);
    put_head(out);
    put_u8(out, r->role);
    put_u64(out, r->joined_seq);
    put_u64(out, r->joined_ms);
    put_text16(out, r->user_id);
}

enum status member_record_decode(struct member_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct member_record){0};
    out->role = take_enum(&r, MEMBER_MEMBER, MEMBER_ADMIN);
    out->joined_seq = take_u64(&r);
    out->joined_ms = take_u64(&r);
    out->user_id = take_bytes(&r, take_u16(&r));
    return reader_end(&r);
}

/* log event, from the value's first byte:
 *
 *   0     1        5        9      17     25     26      27           35       43         51
 *   +-----+--------+--------+------+------+------+-------+------------+--------+----------+
 *   | ver | key id | tenant | room | seq  | kind | flags | created_ms | sender | reply_to |
 *   | u8  | u32    | u32    | u64  | u64  | u8   | u8    | u64        | u64    | u64      |
 *   +-----+--------+--------+------+------+------+-------+------------+--------+----------+
 *   | sender_id text8 | client_id text8 | message_type text8 | content text32 | meta text32 |
 *   +-----------------+-----------------+--------------------+----------------+-------------+ */
#define LOG_FIXED_LEN 51u
_Static_assert(LOG_FIXED_LEN == RECORD_HEAD_LEN + 4 + 8 + 8 + 1 + 1 + 8 + 8 + 8, "as drawn");

size_t log_record_len(const struct log_record *r)
{
    return LOG_FIXED_LEN + 3 + r->sender_id.len + r->client_id.len + r->message_type.len + 8 + r->content.len +
           r->meta.len;
}

char *log_record_encode_to(char *out, const struct log_record *r)
{
    ASSERT(r->kind >= LOG_MESSAGE && r->kind <= LOG_REACTION);
    ASSERT(r->room > 0 && r->seq > 0);
    const char *begin = out;
    out = store_head(out);
    out = store_u32(out, r->tenant);
    out = store_u64(out, r->room);
    out = store_u64(out, r->seq);
    out = store_u8(out, r->kind);
    out = store_u8(out, r->flags);
    out = store_u64(out, r->created_ms);
    out = store_u64(out, r->sender);
    out = store_u64(out, r->reply_to);
    ASSERT((size_t)(out - begin) == LOG_FIXED_LEN);
    out = store_text8(out, r->sender_id);
    out = store_text8(out, r->client_id);
    out = store_text8(out, r->message_type);
    out = store_text32(out, r->content);
    out = store_text32(out, r->meta);
    ASSERT((size_t)(out - begin) == log_record_len(r));
    return out;
}

enum status log_record_decode(struct log_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct log_record){0};
    out->tenant = take_u32(&r);
    out->room = take_u64(&r);
    out->seq = take_u64(&r);
    out->kind = take_enum(&r, LOG_MESSAGE, LOG_REACTION);
    out->flags = take_u8(&r);
    out->created_ms = take_u64(&r);
    out->sender = take_u64(&r);
    out->reply_to = take_u64(&r);
    out->sender_id = take_bytes(&r, take_u8(&r));
    out->client_id = take_bytes(&r, take_u8(&r));
    out->message_type = take_bytes(&r, take_u8(&r));
    out->content = take_bytes(&r, take_u32(&r));
    out->meta = take_bytes(&r, take_u32(&r));
    if (out->room == 0 || out->seq == 0) return STATUS_CORRUPT; /* both are counted from 1 */
    return reader_end(&r);
}

/* cursor: delivered u64 | read u64 */
void cursor_record_encode(struct buf *out, const struct cursor_record *r)
{
    put_head(out);
    put_u64(out, r->delivered);
    put_u64(out, r->read);
}

enum status cursor_record_decode(struct cursor_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    out->delivered = take_u64(&r);
    out->read = take_u64(&r);
    return reader_end(&r);
}

/* answer: room u64 | payload_hash u64 | created_ms u64 | http_status u16 | answer text32 */
void answer_record_encode(struct buf *out, const struct answer_record *r)
{
    put_head(out);
    put_u64(out, r->room);
    put_u64(out, r->payload_hash);
    put_u64(out, r->created_ms);
    put_u16(out, r->http_status);
    put_text32(out, r->answer);
}

enum status answer_record_decode(struct answer_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct answer_record){0};
    out->room = take_u64(&r);
    out->payload_hash = take_u64(&r);
    out->created_ms = take_u64(&r);
    out->http_status = take_u16(&r);
    out->answer = take_bytes(&r, take_u32(&r));
    return reader_end(&r);
}

/* idempotency run, from the value's first byte; its fingerprints rise by print, then by seq, for a binary search:
 *
 *   0     1        5          13          21      25      33
 *   +-----+--------+----------+-----------+-------+-------+-----+-------+-----+----
 *   | ver | key id | last seq | newest ms | count | print | seq | print | seq | …
 *   | u8  | u32    | u64      | u64       | u32   | u64   | u64 | u64   | u64 | count times
 *   +-----+--------+----------+-----------+-------+-------+-----+-------+-----+---- */
#define FINGERPRINT_LEN 16u
_Static_assert(sizeof(struct fingerprint) == FINGERPRINT_LEN, "fingerprints are stored as they lie in memory");

static bool run_in_order(const struct idempotency_run_record *r);

void idempotency_run_record_encode(struct buf *out, const struct idempotency_run_record *r)
{
    ASSERT(r->prints.len % FINGERPRINT_LEN == 0 && r->prints.len / FINGERPRINT_LEN <= UINT32_MAX);
    ASSERT(run_in_order(r));
    put_head(out);
    put_u64(out, r->last_seq);
    put_u64(out, r->newest_ms);
    put_u32(out, fingerprints_len(r->prints));
    buf_slice_append(out, r->prints);
}

enum status idempotency_run_record_decode(struct idempotency_run_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct idempotency_run_record){0};
    out->last_seq = take_u64(&r);
    out->newest_ms = take_u64(&r);
    out->prints = take_bytes(&r, (size_t)take_u32(&r) * FINGERPRINT_LEN);
    if (reader_end(&r) != STATUS_OK) return STATUS_CORRUPT;
    return run_in_order(out) ? STATUS_OK : STATUS_CORRUPT;
}

/* run_in_order: every fingerprint is above the one before it, so that none is there twice, and points into the run. */
static bool run_in_order(const struct idempotency_run_record *r)
{
    uint32_t num = fingerprints_len(r->prints);
    struct fingerprint last = {0, 0};
    for (uint32_t i = 0; i < num; i++) {
        struct fingerprint f = fingerprints_at(r->prints, i);
        if (f.seq == 0 || f.seq > r->last_seq || fingerprint_order(&last, &f) >= 0) return false;
        last = f;
    }
    return r->last_seq > 0;
}

int fingerprint_order(const void *a, const void *b)
{
    const struct fingerprint *x = a, *y = b;
    int by_print = (x->print > y->print) - (x->print < y->print);
    return by_print ? by_print : (x->seq > y->seq) - (x->seq < y->seq);
}

uint32_t fingerprints_len(struct slice prints) { return (uint32_t)(prints.len / FINGERPRINT_LEN); }

struct fingerprint fingerprints_at(struct slice prints, uint32_t index)
{
    ASSERT(index < fingerprints_len(prints));
    struct fingerprint f;
    memcpy(&f, prints.data + (size_t)index * FINGERPRINT_LEN, FINGERPRINT_LEN);
    return f;
}

/* number: v u64 */
/* notification: tenant u32 | user u64 | number u64 | priority u8 | created_ms u64 | user_id text8 | topic text8
 *             | payload text32 */
void notification_record_encode(struct buf *out, const struct notification_record *r)
{
    ASSERT(r->priority >= PRIORITY_LOW && r->priority <= PRIORITY_URGENT && r->topic.len > 0);
    put_head(out);
    put_u32(out, r->tenant);
    put_u64(out, r->user);
    put_u64(out, r->number);
    put_u8(out, r->priority);
    put_u64(out, r->created_ms);
    put_text8(out, r->user_id);
    put_text8(out, r->topic);
    put_text32(out, r->payload);
}

enum status notification_record_decode(struct notification_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct notification_record){0};
    out->tenant = take_u32(&r);
    out->user = take_u64(&r);
    out->number = take_u64(&r);
    out->priority = take_enum(&r, PRIORITY_LOW, PRIORITY_URGENT);
    out->created_ms = take_u64(&r);
    out->user_id = take_bytes(&r, take_u8(&r));
    out->topic = take_bytes(&r, take_u8(&r));
    out->payload = take_bytes(&r, take_u32(&r));
    if (out->topic.len == 0) r.bad = true;
    return reader_end(&r);
}

/* outbox: priority u8 | attempts u32 | created_ms u64 | expires_ms u64 | last_attempt_ms u64 | user_id text8 */
void outbox_record_encode(struct buf *out, const struct outbox_record *r)
{
    ASSERT(r->priority >= PRIORITY_LOW && r->priority <= PRIORITY_URGENT);
    put_head(out);
    put_u8(out, r->priority);
    put_u32(out, r->attempts);
    put_u64(out, r->created_ms);
    put_u64(out, r->expires_ms);
    put_u64(out, r->last_attempt_ms);
    put_text8(out, r->user_id);
}

enum status outbox_record_decode(struct outbox_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct outbox_record){0};
    out->priority = take_enum(&r, PRIORITY_LOW, PRIORITY_URGENT);
    out->attempts = take_u32(&r);
    out->created_ms = take_u64(&r);
    out->expires_ms = take_u64(&r);
    out->last_attempt_ms = take_u64(&r);
    out->user_id = take_bytes(&r, take_u8(&r));
    return reader_end(&r);
}

/* notification's end: state u8 | reason u8 | attempts u32 | last_attempt_ms u64 | ended_ms u64 */
void notification_end_record_encode(struct buf *out, const struct notification_end_record *r)
{
    ASSERT(r->state == NOTIFICATION_DELIVERED
               ? r->reason == DEAD_NOT
               : r->state == NOTIFICATION_DEAD && r->reason >= DEAD_ATTEMPTS && r->reason <= DEAD_FULL);
    put_head(out);
    put_u8(out, r->state);
    put_u8(out, r->reason);
    put_u32(out, r->attempts);
    put_u64(out, r->last_attempt_ms);
    put_u64(out, r->ended_ms);
}

enum status notification_end_record_decode(struct notification_end_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct notification_end_record){0};
    out->state = take_enum(&r, NOTIFICATION_DELIVERED, NOTIFICATION_DEAD);
    out->reason = take_enum(&r, DEAD_NOT, DEAD_FULL);
    out->attempts = take_u32(&r);
    out->last_attempt_ms = take_u64(&r);
    out->ended_ms = take_u64(&r);
    if ((out->state == NOTIFICATION_DEAD) != (out->reason != DEAD_NOT)) r.bad = true;
    return reader_end(&r);
}

/* dead letter: priority u8 | reason u8 | attempts u32 | created_ms u64 | last_attempt_ms u64 | ended_ms u64
 *            | user_id text8 */
void dead_letter_record_encode(struct buf *out, const struct dead_letter_record *r)
{
    ASSERT(r->priority >= PRIORITY_LOW && r->priority <= PRIORITY_URGENT);
    ASSERT(r->reason >= DEAD_ATTEMPTS && r->reason <= DEAD_FULL);
    put_head(out);
    put_u8(out, r->priority);
    put_u8(out, r->reason);
    put_u32(out, r->attempts);
    put_u64(out, r->created_ms);
    put_u64(out, r->last_attempt_ms);
    put_u64(out, r->ended_ms);
    put_text8(out, r->user_id);
}

enum status dead_letter_record_decode(struct dead_letter_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct dead_letter_record){0};
    out->priority = take_enum(&r, PRIORITY_LOW, PRIORITY_URGENT);
    out->reason = take_enum(&r, DEAD_ATTEMPTS, DEAD_FULL);
    out->attempts = take_u32(&r);
    out->created_ms = take_u64(&r);
    out->last_attempt_ms = take_u64(&r);
    out->ended_ms = take_u64(&r);
    out->user_id = take_bytes(&r, take_u8(&r));
    return reader_end(&r);
}

/* subscription: created_ms u64 | user_id text8 */
void subscription_record_encode(struct buf *out, const struct subscription_record *r)
{
    put_head(out);
    put_u64(out, r->created_ms);
    put_text8(out, r->user_id);
}

enum status subscription_record_decode(struct subscription_record *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = (struct subscription_record){0};
    out->created_ms = take_u64(&r);
    out->user_id = take_bytes(&r, take_u8(&r));
    return reader_end(&r);
}

void number_record_encode(struct buf *out, uint64_t v)
{
    put_head(out);
    put_u64(out, v);
}

enum status number_record_decode(uint64_t *out, struct slice value)
{
    struct reader r = reader_of(value);
    *out = take_u64(&r);
    return reader_end(&r);
}

static char *store_u8(char *out, uint8_t v)
{
    *out = (char)v;
    return out + 1;
}

static char *store_u32(char *out, uint32_t v)
{
    memcpy(out, &v, sizeof v);
    return out + sizeof v;
}

static char *store_u64(char *out, uint64_t v)
{
    memcpy(out, &v, sizeof v);
    return out + sizeof v;
}

static char *store_text8(char *out, struct slice text)
{
    ASSERT(text.len <= UINT8_MAX);
    out = store_u8(out, (uint8_t)text.len);
    if (text.len) memcpy(out, text.data, text.len);
    return out + text.len;
}

static char *store_text32(char *out, struct slice text)
{
    ASSERT(text.len <= UINT32_MAX);
    out = store_u32(out, (uint32_t)text.len);
    if (text.len) memcpy(out, text.data, text.len);
    return out + text.len;
}

static char *store_head(char *out)
{
    out = store_u8(out, RECORD_VERSION);
    return store_u32(out, RECORD_NOT_ENCRYPTED);
}

static void put_head(struct buf *out)
{
    char head[RECORD_HEAD_LEN];
    store_head(head);
    buf_append(out, head, sizeof head);
}

static void put_u8(struct buf *out, uint8_t v) { buf_append(out, &v, sizeof v); }
static void put_u16(struct buf *out, uint16_t v) { buf_append(out, &v, sizeof v); }
static void put_u32(struct buf *out, uint32_t v) { buf_append(out, &v, sizeof v); }
static void put_u64(struct buf *out, uint64_t v) { buf_append(out, &v, sizeof v); }

static void put_text8(struct buf *out, struct slice text)
{
    ASSERT(text.len <= UINT8_MAX);
    put_u8(out, (uint8_t)text.len);
    buf_slice_append(out, text);
}

static void put_text16(struct buf *out, struct slice text)
{
    ASSERT(text.len <= UINT16_MAX);
    put_u16(out, (uint16_t)text.len);
    buf_slice_append(out, text);
}

static void put_text32(struct buf *out, struct slice text)
{
    ASSERT(text.len <= UINT32_MAX);
    put_u32(out, (uint32_t)text.len);
    buf_slice_append(out, text);
}

static struct reader reader_of(struct slice value)
{
    struct reader r = {value, false};
    uint8_t version = take_u8(&r);
    uint32_t key_id = take_u32(&r);
    if (version != RECORD_VERSION || key_id != RECORD_NOT_ENCRYPTED) r.bad = true;
    return r;
}

/* Bytes left over are as wrong as missing ones: a longer record of an unknown writer must not pass for ours. */
static enum status reader_end(const struct reader *r) { return r->bad || r->rest.len ? STATUS_CORRUPT : STATUS_OK; }

static struct slice take_bytes(struct reader *r, size_t len)
{
    if (r->bad || r->rest.len < len) {
        r->bad = true;
        return (struct slice){NULL, 0};
    }
    struct slice taken = {r->rest.data, len};
    r->rest = slice_from(r->rest, len);
    return taken;
}

static uint8_t take_u8(struct reader *r)
{
    struct slice bytes = take_bytes(r, 1);
    return bytes.len ? (uint8_t)bytes.data[0] : 0;
}

static uint16_t take_u16(struct reader *r)
{
    uint16_t v = 0;
    struct slice bytes = take_bytes(r, sizeof v);
    if (bytes.len) memcpy(&v, bytes.data, sizeof v);
    return v;
}

static uint32_t take_u32(struct reader *r)
{
    uint32_t v = 0;
    struct slice bytes = take_bytes(r, sizeof v);
    if (bytes.len) memcpy(&v, bytes.data, sizeof v);
    return v;
}

static uint64_t take_u64(struct reader *r)
{
    uint64_t v = 0;
    struct slice bytes = take_bytes(r, sizeof v);
    if (bytes.len) memcpy(&v, bytes.data, sizeof v);
    return v;
}

static uint8_t take_enum(struct reader *r, uint8_t first, uint8_t last)
{
    uint8_t v = take_u8(r);
    if (v < first || v > last) r->bad = true;
    return v;
}
