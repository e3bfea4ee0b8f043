#include "kv.h"

#include "../src/base/assert.h"

const char *kv_cf_name(enum kv_cf cf)
{
    switch (cf) {
    case KV_META: return "meta";
    case KV_TENANTS: return "tenants";
    case KV_KEYS: return "keys";
    case KV_NAMES: return "names";
    case KV_USERS: return "users";
    case KV_SESSIONS: return "sessions";
    case KV_ROOMS: return "rooms";
    case KV_MEMBERS: return "members";
    case KV_USER_ROOMS: return "user_rooms";
    case KV_LOG: return "log";
    case KV_CHANGES: return "changes";
    case KV_CURSORS: return "cursors";
    case KV_IDEMPOTENCY: return "idempotency";
    case KV_OUTBOX: return "outbox";
    case KV_DEAD_LETTERS: return "dead_letters";
    case KV_NOTIFICATIONS: return "notifications";
    case KV_SUBSCRIPTIONS: return "subscriptions";
    case KV_AUDIT: return "audit";
    case KV_CFS: break;
    }
    UNREACHABLE();
}

int kv_key_compare(struct slice a, struct slice b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    if (order) return order;
    return (a.len > b.len) - (a.len < b.len);
}

bool kv_range_valid(enum kv_cf cf, struct slice from, struct slice to)
{
    if (cf >= KV_CFS || kv_key_compare(from, to) >= 0) return false;
    return cf != KV_LOG || from.len <= KV_LOG_RANGE_FROM_MAX;
}
