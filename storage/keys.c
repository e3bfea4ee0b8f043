#include "keys.h"

#include "../src/base/assert.h"
#include "../src/base/planted.h"

/* The integers of every key stand first and have a fixed width, so a key is read without a separator, and rows that
 * share leading numbers are one contiguous range:
 *
 *   meta          name
 *   tenants       tenant u32
 *   keys          tenant u32 | public prefix …
 *   names         tenant u32 | kind u8 | text …
 *   users         tenant u32 | user u64
 *   rooms         tenant u32 | room u64
 *   members       tenant u32 | room u64 | user u64
 *   user_rooms    tenant u32 | user u64 | room u64
 *   log           tenant u32 | room u64 | seq u64
 *   changes       tenant u32 | room u64 | target seq u64 | event seq u64
 *   cursors       tenant u32 | user u64 | device length u8 | device … | room u64
 *   idempotency   tenant u32 | room u64 | first seq u64          a run of message keys; room ≥ 1
 *                 tenant u32 | 0 u64    | user u64 | text …      a kept answer; text is "path key"
 *   notifications tenant u32 | user u64 | number u64 | part u8   0 the body, 1 how it ended
 *   outbox        tenant u32 | user u64 | number u64
 *   dead_letters  tenant u32 | number u64 | user u64
 *   subscriptions tenant u32 | user u64 | topic …                user ≥ 1
 *                 tenant u32 | 0 u64    | topic length u8 | topic … | user u64
 */

static void append_u8(struct key *k, uint8_t v);
static void append_u32(struct key *k, uint32_t v);
static void append_u64(struct key *k, uint64_t v);
static void append_text(struct key *k, struct slice text);

_Static_assert(KEY_MAX >= 4 + 8 + 8 + KEY_TEXT_MAX, "the longest key: numbers and the longest text");

void key_meta(struct key *k, struct slice name)
{
    ASSERT(name.len > 0);
    k->len = 0;
    append_text(k, name);
}

void key_tenant(struct key *k, uint32_t tenant)
{
    k->len = 0;
    append_u32(k, tenant);
}

void key_api_key(struct key *k, uint32_t tenant, struct slice prefix)
{
    key_tenant(k, tenant);
    append_text(k, prefix);
}

void key_name(struct key *k, uint32_t tenant, enum name_kind kind, struct slice text)
{
    key_tenant(k, PLANTED(tenant_left_out_of_key) ? 1 : tenant);
    append_u8(k, (uint8_t)kind);
    append_text(k, text);
}

void key_user(struct key *k, uint32_t tenant, uint64_t user)
{
    key_tenant(k, tenant);
    append_u64(k, user);
}

void key_room(struct key *k, uint32_t tenant, uint64_t room)
{
    key_tenant(k, tenant);
    append_u64(k, room);
}

void key_member(struct key *k, uint32_t tenant, uint64_t room, uint64_t user)
{
    key_room(k, tenant, room);
    append_u64(k, user);
}

void key_user_room(struct key *k, uint32_t tenant, uint64_t user, uint64_t room)
{
    key_user(k, tenant, user);
    append_u64(k, room);
}

void key_log(struct key *k, uint32_t tenant, uint64_t room, uint64_t seq)
{
    key_room(k, tenant, room);
    append_u64(k, seq);
}

void key_change(struct key *k, uint32_t tenant, uint64_t room, uint64_t target, uint64_t seq)
{
    key_log(k, tenant, room, target);
    append_u64(k, seq);
}

void key_cursor(struct key *k, uint32_t tenant, uint64_t user, struct slice device, uint64_t room)
{
    ASSERT(device.len <= UINT8_MAX);
    key_user(k, tenant, user);
    append_u8(k, (uint8_t)device.len);
    append_text(k, device);
    append_u64(k, room);
}

void key_idempotency_run(struct key *k, uint32_t tenant, uint64_t room, uint64_t first_seq)
{
    ASSERT(room > 0 && first_seq > 0); /* room 0 is where the kept answers lie */
    key_log(k, tenant, room, first_seq);
}

void key_answer(struct key *k, uint32_t tenant, uint64_t user, struct slice text)
{
    ASSERT(text.len > 0);
    key_room(k, tenant, 0);
    append_u64(k, user);
    append_text(k, text);
}

void key_outbox(struct key *k, uint32_t tenant, uint64_t user, uint64_t number)
{
    key_user(k, tenant, user);
    append_u64(k, number);
}

void key_notification(struct key *k, uint32_t tenant, uint64_t user, uint64_t number, enum notification_part part)
{
    key_outbox(k, tenant, user, number);
    append_u8(k, (uint8_t)part);
}

void key_dead_letter(struct key *k, uint32_t tenant, uint64_t number, uint64_t user)
{
    key_tenant(k, tenant);
    append_u64(k, number);
    append_u64(k, user);
}

void key_subscription(struct key *k, uint32_t tenant, uint64_t user, struct slice topic)
{
    ASSERT(user > 0 && topic.len > 0); /* user 0 is where the topics lie */
    key_user(k, tenant, user);
    append_text(k, topic);
}

void key_topic(struct key *k, uint32_t tenant, struct slice topic)
{
    ASSERT(topic.len > 0 && topic.len <= UINT8_MAX);
    key_user(k, tenant, 0);
    append_u8(k, (uint8_t)topic.len);
    append_text(k, topic);
}

void key_subscriber(struct key *k, uint32_t tenant, struct slice topic, uint64_t user)
{
    key_topic(k, tenant, topic);
    append_u64(k, user);
}

void key_prefix_end(struct key *end, struct slice prefix)
{
    ASSERT(prefix.len <= KEY_MAX);
    end->len = (uint16_t)prefix.len;
    if (prefix.len) memcpy(end->bytes, prefix.data, prefix.len);
    /* A trailing 0xff cannot be raised: the byte before it is, and what follows is cut off. */
    while (end->len && end->bytes[end->len - 1] == 0xff) end->len--;
    if (end->len) end->bytes[end->len - 1]++;
}

bool key_parse_u32(struct slice *rest, uint32_t *v)
{
    if (rest->len < 4) return false;
    const unsigned char *p = (const unsigned char *)rest->data;
    *v = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    *rest = slice_from(*rest, 4);
    return true;
}

bool key_parse_u64(struct slice *rest, uint64_t *v)
{
    if (rest->len < 8) return false;
    uint32_t high = 0, low = 0;
    bool parsed = key_parse_u32(rest, &high) && key_parse_u32(rest, &low);
    ASSERT(parsed);
    *v = (uint64_t)high << 32 | low;
    return true;
}

static void append_u8(struct key *k, uint8_t v)
{
    ASSERT(k->len < KEY_MAX);
    k->bytes[k->len++] = v;
}

static void append_u32(struct key *k, uint32_t v)
{
    ASSERT(k->len + 4u <= KEY_MAX);
    v = __builtin_bswap32(v); /* every supported machine is little-endian, asserted in records.c */
    memcpy(k->bytes + k->len, &v, 4);
    k->len += 4;
}

static void append_u64(struct key *k, uint64_t v)
{
    ASSERT(k->len + 8u <= KEY_MAX);
    v = __builtin_bswap64(v);
    memcpy(k->bytes + k->len, &v, 8);
    k->len += 8;
}

static void append_text(struct key *k, struct slice text)
{
    ASSERT(text.len <= KEY_TEXT_MAX && k->len + text.len <= KEY_MAX);
    if (text.len) memcpy(k->bytes + k->len, text.data, text.len);
    k->len = (uint16_t)(k->len + text.len);
}
