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

/* --- runs -------------------------------------------------------------------------------------------------------- */

void room_keys_encode(struct buf *value, struct room_keys *k, uint64_t last_seq, uint64_t newest_ms)
{
    ASSERT(k->run_from > 0 && last_seq >= k->run_from);
    if (k->num_open) qsort(k->open, k->num_open, sizeof *k->open, fingerprint_order);
    struct idempotency_run_record run = {
        .last_seq = last_seq, .newest_ms = newest_ms, .prints = slice_of(k->open, k->num_open * sizeof *k->open)};
    idempotency_run_record_encode(value, &run);
}

void room_keys_close(struct room_keys *k, uint64_t last_seq)
{
    ASSERT(last_seq >= k->run_from);
    k->run_from = last_seq + 1;
    k->num_open = 0;
}

/* A room's rows in `log` and in `idempotency` both begin with its key in `rooms`: t · r. */
static struct kv_iter *room_iter(struct kv *kv, enum kv_cf cf, uint32_t tenant, uint64_t room, uint64_t from_seq)
{
    struct key prefix, from, to;
    key_room(&prefix, tenant, room);
    key_prefix_end(&to, key_slice(&prefix));
    key_log(&from, tenant, room, from_seq);
    return kv_iter_open(kv, cf, key_slice(&from), key_slice(&to));
}

/* run_take decodes the run an iterator stands on. One that ends before it begins would send the log walk behind it to
 * the wrong place, and keys would be missed. */
static enum status run_take(struct idempotency_run_record *run, struct kv *kv, struct kv_iter *i)
{
    struct slice key = kv_iter_key(kv, i);
    uint32_t tenant;
    uint64_t room, first_seq;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, &first_seq) || key.len)
        return STATUS_CORRUPT;
    enum status s = idempotency_run_record_decode(run, kv_iter_value(kv, i));
    return s == STATUS_OK && run->last_seq < first_seq ? STATUS_CORRUPT : s;
}

static enum status load_runs(struct room_keys *k, struct kv *kv, uint32_t tenant, uint64_t room, uint64_t now_ms)
{
    struct kv_iter *i = room_iter(kv, KV_IDEMPOTENCY, tenant, room, 1);
    enum status s = STATUS_OK;
    for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) {
        struct idempotency_run_record run;
        s = run_take(&run, kv, i);
        if (s != STATUS_OK) break;
        k->run_from = run.last_seq + 1;
        if (run.newest_ms + IDEMPOTENCY_KEEP_MS < now_ms) continue;
        uint32_t num = fingerprints_len(run.prints);
        for (uint32_t n = 0; n < num; n++) filter_add(k, fingerprints_at(run.prints, n).print, run.newest_ms);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

enum status room_keys_load(struct room_keys *k, struct kv *kv, const struct hash_key *key, uint32_t tenant,
                           uint64_t room, uint64_t now_ms)
{
    k->run_from = 1;
    enum status s = load_runs(k, kv, tenant, room, now_ms);
    if (s != STATUS_OK) return s;
    struct kv_iter *i = room_iter(kv, KV_LOG, tenant, room, k->run_from);
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct log_record r;
        s = log_record_decode(&r, kv_iter_value(kv, i));
        if (s == STATUS_OK && r.client_id.len)
            room_keys_add(k, fingerprint_of(key, r.sender, r.client_id), r.seq, r.created_ms);
    }
    enum status closed = kv_iter_close(kv, i);
    return s == STATUS_OK ? closed : s;
}

/* --- search ------------------------------------------------------------------------------------------------------ */

/* The newest message comes first everywhere: the log behind the runs, the last run, the highest seq of equal prints. A
 * client id that is used again after IDEMPOTENCY_KEEP_MS is a new message, and its repeats are that one's.
 *
 * search: whose message is looked for, and where it goes when found */
struct search {
    struct kv *kv;
    uint32_t tenant;
    uint64_t room, sender;
    struct slice client_id;
    uint64_t print;
    struct log_record *row;
    struct buf *bytes;
};

static enum status search_run(const struct search *s, const struct idempotency_run_record *run);
static enum status search_log(const struct search *s, uint64_t from_seq);

enum status idempotency_search(struct log_record *row, struct buf *bytes, struct kv *kv, const struct hash_key *key,
                               uint32_t tenant, uint64_t room, uint64_t sender, struct slice client_id)
{
    const struct search search = {.kv = kv,
                                  .tenant = tenant,
                                  .room = room,
                                  .sender = sender,
                                  .client_id = client_id,
                                  .print = fingerprint_of(key, sender, client_id),
                                  .row = row,
                                  .bytes = bytes};
    struct kv_iter *i = room_iter(kv, KV_IDEMPOTENCY, tenant, room, 1);
    struct idempotency_run_record run = {0};
    bool on = kv_iter_last(kv, i);
    enum status s = on ? run_take(&run, kv, i) : STATUS_OK;
    if (s == STATUS_OK) s = search_log(&search, run.last_seq + 1);
    for (; on && s == STATUS_NOT_FOUND; on = kv_iter_prev(kv, i)) {
        s = run_take(&run, kv, i);
        if (s == STATUS_OK) s = search_run(&search, &run);
    }
    enum status closed = kv_iter_close(kv, i);
    return closed == STATUS_OK ? s : closed;
}

static bool row_is_sought(const struct search *s)
{
    return s->row->sender == s->sender && slice_eq(s->row->client_id, s->client_id);
}

static enum status search_row(const struct search *s, uint64_t seq)
{
    struct key key;
    key_log(&key, s->tenant, s->room, seq);
    enum status status = kv_get(s->kv, KV_LOG, key_slice(&key), s->bytes);
    if (status == STATUS_OK) status = log_record_decode(s->row, buf_slice(s->bytes));
    return status == STATUS_OK && !row_is_sought(s) ? STATUS_NOT_FOUND : status;
}

/* search_run: binary search for the end of possibly several equal prints, then each one's row in turn. */
static enum status search_run(const struct search *s, const struct idempotency_run_record *run)
{
    uint32_t low = 0, high = fingerprints_len(run->prints);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (fingerprints_at(run->prints, middle).print <= s->print) low = middle + 1;
        else high = middle;
    }
    for (; low > 0 && fingerprints_at(run->prints, low - 1).print == s->print; low--) {
        enum status status = search_row(s, fingerprints_at(run->prints, low - 1).seq);
        if (status != STATUS_NOT_FOUND) return status;
    }
    return STATUS_NOT_FOUND;
}

static enum status search_log(const struct search *s, uint64_t from_seq)
{
    struct kv_iter *i = room_iter(s->kv, KV_LOG, s->tenant, s->room, from_seq);
    enum status status = STATUS_NOT_FOUND;
    for (bool on = kv_iter_last(s->kv, i); on && status == STATUS_NOT_FOUND; on = kv_iter_prev(s->kv, i)) {
        struct slice value = kv_iter_value(s->kv, i);
        enum status decoded = log_record_decode(s->row, value);
        if (decoded != STATUS_OK) status = decoded;
        else if (row_is_sought(s)) {
            s->bytes->len = 0; /* the iterator's bytes end with it: the row is decoded again from a copy */
            buf_slice_append(s->bytes, value);
            status = log_record_decode(s->row, buf_slice(s->bytes));
        }
    }
    enum status closed = kv_iter_close(s->kv, i);
    return closed == STATUS_OK ? status : closed;
}

uint64_t payload_hash(const struct hash_key *key, struct slice content, struct slice meta, struct slice message_type,
                      uint64_t reply_to)
{
    uint64_t parts[4] = {hash_bytes(key, content), hash_bytes(key, meta), hash_bytes(key, message_type), reply_to};
    return hash_bytes(key, slice_of(parts, sizeof parts));
}
