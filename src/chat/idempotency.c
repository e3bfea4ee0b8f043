#include "idempotency.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/limits.h"

/* --- the window ------------------------------------------------------------------------------------------------ */

struct window_key {
    uint32_t tenant;
    uint64_t room, sender;
    struct slice client_id;
};

void idempotency_init(struct idempotency *i, const struct hash_key *hash_key)
{
    *i = (struct idempotency){._hash_key = hash_key};
    list_init(&i->_by_age);
}

void idempotency_free(struct idempotency *i)
{
    if (i->_by_age.next)
        for (struct list *n; (n = list_pop(&i->_by_age));) free(CONTAINER_OF(n, struct idempotency_entry, _age));
    map_free(&i->_window);
}

static bool window_eq(const void *value, const void *key)
{
    const struct idempotency_entry *e = value;
    const struct window_key *k = key;
    return e->room == k->room && e->sender == k->sender && e->tenant == k->tenant &&
           slice_eq(slice_of(e->client_id, e->client_id_len), k->client_id);
}

static uint64_t window_hash(const struct idempotency *i, const struct window_key *k)
{
    return hash_bytes(i->_hash_key, k->client_id) ^ hash_u64(k->room * 31 + k->sender);
}

struct idempotency_entry *idempotency_find(const struct idempotency *i, uint32_t tenant, uint64_t room, uint64_t sender,
                                           struct slice client_id)
{
    struct window_key k = {tenant, room, sender, client_id};
    return map_find(&i->_window, window_hash(i, &k), window_eq, &k);
}

struct idempotency_entry *idempotency_add(struct idempotency *i, uint32_t tenant, uint64_t room, uint64_t sender,
                                          struct slice client_id, uint64_t seq, uint64_t hash, uint64_t created_ms)
{
    ASSERT(client_id.len > 0 && client_id.len <= UINT8_MAX);
    struct idempotency_entry *e = malloc(sizeof *e + client_id.len);
    ASSERT(e != NULL);
    struct window_key k = {tenant, room, sender, client_id};
    *e = (struct idempotency_entry){.hash = window_hash(i, &k),
                                    .tenant = tenant,
                                    .room = room,
                                    .sender = sender,
                                    .seq = seq,
                                    .payload_hash = hash,
                                    .created_ms = created_ms,
                                    .client_id_len = (uint8_t)client_id.len};
    memcpy(e->client_id, client_id.data, client_id.len);
    map_insert(&i->_window, e->hash, e);
    list_push(&i->_by_age, &e->_age);
    return e;
}

void idempotency_evict(struct idempotency *i)
{
    while (i->_window.len > IDEMPOTENCY_WINDOW) {
        struct idempotency_entry *oldest = CONTAINER_OF(i->_by_age.next, struct idempotency_entry, _age);
        if (oldest->event) return; /* not durable yet: duplicates may still come to wait on it */
        list_remove(&oldest->_age);
        ASSERT(map_remove(&i->_window, oldest->hash, oldest));
        free(oldest);
    }
}

/* --- the filter -------------------------------------------------------------------------------------------------- */

#define FILTER_PROBES 7u

void room_keys_free(struct room_keys *k)
{
    while (k->newest) {
        struct filter_block *older = k->newest->older;
        free(k->newest);
        k->newest = older;
    }
    free(k->open);
    *k = (struct room_keys){0};
}

uint64_t fingerprint_of(const struct hash_key *key, uint64_t sender, struct slice client_id)
{
    char bytes[8 + 256];
    ASSERT(client_id.len <= 256);
    memcpy(bytes, &sender, 8);
    memcpy(bytes + 8, client_id.data, client_id.len);
    return hash_bytes(key, slice_of(bytes, 8 + client_id.len));
}

/* probe i of a fingerprint, by double hashing (Kirsch and Mitzenmacher) */
static uint32_t filter_bit(uint64_t print, unsigned i)
{
    uint32_t a = (uint32_t)print, b = (uint32_t)(print >> 32) | 1;
    return (a + i * b) & (FILTER_BLOCK_BITS - 1);
}

static bool block_has(const struct filter_block *b, uint64_t print)
{
    for (unsigned i = 0; i < FILTER_PROBES; i++) {
        uint32_t bit = filter_bit(print, i);
        if (!(b->bits[bit / 64] >> (bit % 64) & 1)) return false;
    }
    return true;
}

static struct filter_block *filter_room_for_one(struct room_keys *k)
{
    if (k->newest && k->newest->keys < FILTER_BLOCK_KEYS) return k->newest;
    if (k->num_blocks == FILTER_BLOCKS_MAX) {
        k->unknown = true;
        return NULL;
    }
    struct filter_block *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    b->older = k->newest;
    k->newest = b;
    k->num_blocks++;
    return b;
}

static void filter_add(struct room_keys *k, uint64_t print, uint64_t created_ms)
{
    struct filter_block *b = filter_room_for_one(k);
    if (!b) return;
    for (unsigned i = 0; i < FILTER_PROBES; i++) {
        uint32_t bit = filter_bit(print, i);
        b->bits[bit / 64] |= 1ull << (bit % 64);
    }
    b->keys++;
    if (created_ms > b->newest_ms) b->newest_ms = created_ms;
}

void room_keys_add(struct room_keys *k, uint64_t print, uint64_t seq, uint64_t created_ms)
{
    if (k->num_open == k->cap_open) {
        k->cap_open = k->cap_open ? k->cap_open * 2 : 16;
        k->open = realloc(k->open, k->cap_open * sizeof *k->open);
        ASSERT(k->open != NULL);
    }
    k->open[k->num_open++] = (struct fingerprint){print, seq};
    filter_add(k, print, created_ms);
}

bool room_keys_maybe(const struct room_keys *k, uint64_t print)
{
    if (k->unknown) return true;
    for (const struct filter_block *b = k->newest; b; b = b->older)
        if (block_has(b, print)) return true;
    return false;
}

void room_keys_drop_old(struct room_keys *k, uint64_t now_ms)
{
    if (!k->newest) return;
    for (struct filter_block *b = k->newest; b->older;) {
        if (b->older->newest_ms + IDEMPOTENCY_KEEP_MS >= now_ms) {
            b = b->older;
            continue;
        }
        struct filter_block *dropped = b->older;
        b->older = dropped->older;
        free(dropped);
        k->num_blocks--;
    }
}

/* --- runs ------------------------------------------------------------------------------------------------------------
 *
 *   key    tenant u32 BE · room u64 BE · first seq u64 BE
 *   value  version u8 · key id u32 · last seq u64 · newest ms u64 · count u32 · count × (fingerprint u64 · seq u64)
 *          little-endian, sorted by fingerprint */

#define RUN_HEAD 25u
#define RUN_ITEM 16u

static void put_be64(struct buf *out, uint64_t v)
{
    uint64_t be = __builtin_bswap64(v);
    buf_append(out, &be, 8);
}

void run_key(struct buf *out, uint32_t tenant, uint64_t room, uint64_t first_seq)
{
    uint32_t be = __builtin_bswap32(tenant);
    buf_append(out, &be, 4);
    put_be64(out, room);
    put_be64(out, first_seq);
}

static int fingerprint_order(const void *a, const void *b)
{
    uint64_t x = ((const struct fingerprint *)a)->print, y = ((const struct fingerprint *)b)->print;
    return (x > y) - (x < y);
}

void run_encode(struct buf *out, uint64_t last_seq, uint64_t newest_ms, struct fingerprint *prints, uint32_t num)
{
    qsort(prints, num, sizeof *prints, fingerprint_order);
    uint8_t version = 1;
    uint32_t key_id = 0;
    buf_append(out, &version, 1);
    buf_append(out, &key_id, 4);
    buf_append(out, &last_seq, 8);
    buf_append(out, &newest_ms, 8);
    buf_append(out, &num, 4);
    buf_append(out, prints, num * sizeof *prints);
}
_Static_assert(sizeof(struct fingerprint) == RUN_ITEM, "a run's items are stored as they stand in memory");

enum status run_decode(struct slice value, uint64_t *last_seq, uint64_t *newest_ms, uint32_t *num)
{
    if (value.len < RUN_HEAD || value.data[0] != 1) return STATUS_CORRUPT;
    memcpy(last_seq, value.data + 5, 8);
    memcpy(newest_ms, value.data + 13, 8);
    memcpy(num, value.data + 21, 4);
    return value.len == RUN_HEAD + (size_t)*num * RUN_ITEM ? STATUS_OK : STATUS_CORRUPT;
}

struct fingerprint run_at(struct slice value, uint32_t index)
{
    struct fingerprint f;
    memcpy(&f, value.data + RUN_HEAD + (size_t)index * RUN_ITEM, RUN_ITEM);
    return f;
}

static void run_bounds(struct key *from, struct key *to, uint32_t tenant, uint64_t room)
{
    key_room(from, tenant, room); /* a room's prefix is its key in `rooms`: t · r */
    key_prefix_end(to, key_slice(from));
}

static enum status load_runs(struct room_keys *k, struct kv *kv, uint32_t tenant, uint64_t room, uint64_t now_ms)
{
    struct key from, to;
    run_bounds(&from, &to, tenant, room);
    struct kv_iter *i = kv_iter_open(kv, KV_IDEMPOTENCY, key_slice(&from), key_slice(&to));
    enum status s = STATUS_OK;
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        uint64_t last_seq = 0, newest_ms = 0;
        uint32_t num = 0;
        struct slice value = kv_iter_value(kv, i);
        s = run_decode(value, &last_seq, &newest_ms, &num);
        if (s != STATUS_OK) break;
        k->run_from = last_seq + 1;
        if (newest_ms + IDEMPOTENCY_KEEP_MS < now_ms) continue;
        for (uint32_t n = 0; n < num; n++) filter_add(k, run_at(value, n).print, newest_ms);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

enum status room_keys_load(struct room_keys *k, struct kv *kv, const struct hash_key *key, uint32_t tenant, uint64_t room,
                           uint64_t now_ms)
{
    k->run_from = 1;
    enum status s = load_runs(k, kv, tenant, room, now_ms);
    if (s != STATUS_OK) return s;
    struct key from, to;
    key_log(&from, tenant, room, k->run_from);
    run_bounds(&(struct key){0}, &to, tenant, room);
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, key_slice(&from), key_slice(&to));
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct log_record r;
        s = log_record_decode(&r, kv_iter_value(kv, i));
        if (s == STATUS_OK && r.client_id.len)
            room_keys_add(k, fingerprint_of(key, r.sender, r.client_id), r.seq, r.created_ms);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

/* --- search ---------------------------------------------------------------------------------------------------------- */

static enum status row_matches(struct log_record *row, struct buf *bytes, struct kv *kv, uint32_t tenant, uint64_t room,
                               uint64_t seq, uint64_t sender, struct slice client_id)
{
    struct key key;
    key_log(&key, tenant, room, seq);
    enum status s = kv_get(kv, KV_LOG, key_slice(&key), bytes);
    if (s != STATUS_OK) return s;
    s = log_record_decode(row, buf_slice(bytes));
    if (s != STATUS_OK) return s;
    return row->sender == sender && slice_eq(row->client_id, client_id) ? STATUS_OK : STATUS_NOT_FOUND;
}

/* run_search: binary search for the first of possibly several equal fingerprints, then each row in turn. */
static enum status run_search(struct log_record *row, struct buf *bytes, struct kv *kv, struct slice run, uint32_t num,
                              uint64_t print, uint32_t tenant, uint64_t room, uint64_t sender, struct slice client_id)
{
    uint32_t low = 0, high = num;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (run_at(run, middle).print < print) low = middle + 1;
        else high = middle;
    }
    for (; low < num && run_at(run, low).print == print; low++) {
        enum status s = row_matches(row, bytes, kv, tenant, room, run_at(run, low).seq, sender, client_id);
        if (s != STATUS_NOT_FOUND) return s;
    }
    return STATUS_NOT_FOUND;
}

static enum status search_log(struct log_record *row, struct buf *bytes, struct kv *kv, uint64_t from_seq, uint32_t tenant,
                              uint64_t room, uint64_t sender, struct slice client_id)
{
    struct key from, to;
    key_log(&from, tenant, room, from_seq);
    run_bounds(&(struct key){0}, &to, tenant, room);
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, key_slice(&from), key_slice(&to));
    enum status s = STATUS_NOT_FOUND;
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_NOT_FOUND; on = kv_iter_next(kv, i)) {
        struct slice value = kv_iter_value(kv, i);
        enum status decoded = log_record_decode(row, value);
        if (decoded != STATUS_OK) s = decoded;
        else if (row->sender == sender && slice_eq(row->client_id, client_id)) {
            bytes->len = 0;
            buf_slice_append(bytes, value);
            s = log_record_decode(row, buf_slice(bytes));
        }
    }
    enum status closed = kv_iter_close(kv, i);
    return closed == STATUS_OK ? s : closed;
}

enum status idempotency_search(struct log_record *row, struct buf *bytes, struct kv *kv, const struct hash_key *key,
                               uint32_t tenant, uint64_t room, uint64_t sender, struct slice client_id)
{
    uint64_t print = fingerprint_of(key, sender, client_id), log_from = 1;
    struct key from, to;
    run_bounds(&from, &to, tenant, room);
    struct kv_iter *i = kv_iter_open(kv, KV_IDEMPOTENCY, key_slice(&from), key_slice(&to));
    enum status s = STATUS_NOT_FOUND;
    bool newest = true;
    for (bool on = kv_iter_last(kv, i); on && s == STATUS_NOT_FOUND; on = kv_iter_prev(kv, i)) {
        uint64_t last_seq = 0, newest_ms = 0;
        uint32_t num = 0;
        struct slice run = kv_iter_value(kv, i);
        enum status decoded = run_decode(run, &last_seq, &newest_ms, &num);
        if (decoded != STATUS_OK) s = decoded;
        else s = run_search(row, bytes, kv, run, num, print, tenant, room, sender, client_id);
        if (newest) log_from = last_seq + 1;
        newest = false;
    }
    enum status closed = kv_iter_close(kv, i);
    if (closed != STATUS_OK) return closed;
    return s == STATUS_NOT_FOUND ? search_log(row, bytes, kv, log_from, tenant, room, sender, client_id) : s;
}

uint64_t payload_hash(const struct hash_key *key, struct slice content, struct slice meta, struct slice message_type,
                      uint64_t reply_to)
{
    uint64_t parts[4] = {hash_bytes(key, content), hash_bytes(key, meta), hash_bytes(key, message_type), reply_to};
    return hash_bytes(key, slice_of(parts, sizeof parts));
}
