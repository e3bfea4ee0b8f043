#include "idempotency.h"

#include <stdlib.h>

#include "../../storage/keys.h"
#include "../base/assert.h"
#include "../base/limits.h"
#include "../base/planted.h"

/* --- the window ------------------------------------------------------------------------------------------------ */

struct window_key {
    uint32_t tenant;
    uint64_t room, sender;
    struct slice client_id;
};

void idempotency_init(struct idempotency *i, const struct hash_key *hash_key)
{
    *i = (struct idempotency){
        ._hash_key = hash_key, .window_max = IDEMPOTENCY_WINDOW, .run_events = IDEMPOTENCY_RUN};
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
    bool same_sender = e->sender == k->sender || PLANTED(client_id_of_any_sender);
    return e->room == k->room && same_sender && e->tenant == k->tenant &&
           slice_eq(slice_of(e->client_id, e->client_id_len), k->client_id);
}

static uint64_t window_hash(const struct idempotency *i, const struct window_key *k)
{
    uint64_t sender = PLANTED(client_id_of_any_sender) ? 0 : k->sender;
    return hash_bytes(i->_hash_key, k->client_id) ^ hash_u64(k->room * 31 + sender);
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
    while (i->_window.len > i->window_max) {
        struct idempotency_entry *oldest = CONTAINER_OF(i->_by_age.next, struct idempotency_entry, _age);
        if (oldest->event) return; /* not durable yet: duplicates may still come to wait on it */
        list_remove(&oldest->_age);
        ASSERT(map_remove(&i->_window, oldest->hash, oldest));
        free(oldest);
    }
}

/* --- the filter -------------------------------------------------------------------------------------------------- */

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

/* Probes by enhanced double hashing (Dillinger and Manolios 2004), with two halves of 64 bits and the upper bits of
 * their sums. In a small block the plain kind, whose step stays the same, has five times the false "maybes" that the
 * bits promise: two keys whose steps are alike share most of their probes, wherever they start. */
struct probes {
    uint64_t at, step;
};

#define PROBE_MIX 0x9e3779b97f4a7c15ULL /* 2^64 / golden ratio: multiples of it spread over all upper bits */

static struct probes probes_of(uint64_t print)
{
    return (struct probes){print, hash_u64(print + PROBE_MIX)};
}

/* probe_next gives probe i, as the index of one of 2^(64 - shift) bits. */
static uint64_t probe_next(struct probes *p, unsigned i, unsigned shift)
{
    uint64_t bit = p->at >> shift;
    p->at += p->step;
    p->step += (i + 1) * PROBE_MIX;
    return bit;
}

/* block_shift leaves as many upper bits of a sum as the index of a bit has. */
static unsigned block_shift(const struct filter_block *b)
{
    return (unsigned)__builtin_clzll(8ull * b->bytes) + 1;
}

static bool block_maybe(const struct filter_block *b, struct probes p)
{
    if (b->bytes == 0) return true;
    unsigned shift = block_shift(b);
    for (unsigned i = 0; i < FILTER_PROBES; i++) {
        uint64_t bit = probe_next(&p, i, shift);
        if (!(b->bits[bit / 64] >> (bit % 64) & 1)) return false;
    }
    return true;
}

static void block_add(struct filter_block *b, uint64_t print, uint64_t seq, uint64_t created_ms)
{
    struct probes p = probes_of(print);
    unsigned shift = b->bytes ? block_shift(b) : 0;
    for (unsigned i = 0; b->bytes && i < FILTER_PROBES; i++) {
        uint64_t bit = probe_next(&p, i, shift);
        b->bits[bit / 64] |= 1ull << (bit % 64);
    }
    b->keys++;
    if (seq < b->seqs.first) b->seqs.first = seq;
    if (seq > b->seqs.last) b->seqs.last = seq;
    if (created_ms > b->newest_ms) b->newest_ms = created_ms;
}

static uint32_t next_block_bytes(const struct filter_block *last)
{
    if (!last) return FILTER_BLOCK_BYTES_MIN;
    if (last->bytes == 0 || last->bytes > FILTER_BLOCK_BYTES_MAX / FILTER_BLOCK_GROWTH) return FILTER_BLOCK_BYTES_MAX;
    return last->bytes * FILTER_BLOCK_GROWTH;
}

static struct filter_block *filter_room_for_one(struct room_keys *k)
{
    struct filter_block *last = k->newest;
    if (last && last->keys < last->bytes * 8 / FILTER_KEY_BITS) return last;
    uint32_t bytes = next_block_bytes(last);
    if (k->filter_bytes + bytes > ROOM_FILTER_BYTES_MAX) {
        if (last && last->bytes == 0) return last;
        bytes = 0;
    }
    struct filter_block *b = calloc(1, sizeof *b + bytes);
    ASSERT(b != NULL);
    b->older = last;
    b->bytes = bytes;
    b->seqs.first = UINT64_MAX;
    k->newest = b;
    k->filter_bytes += bytes;
    return b;
}

static void filter_add(struct room_keys *k, uint64_t print, uint64_t seq, uint64_t created_ms)
{
    block_add(filter_room_for_one(k), print, seq, created_ms);
}

void room_keys_add(struct room_keys *k, uint64_t print, uint64_t seq, uint64_t created_ms)
{
    if (k->num_open == k->cap_open) {
        k->cap_open = k->cap_open ? k->cap_open * 2 : 16;
        k->open = realloc(k->open, k->cap_open * sizeof *k->open);
        ASSERT(k->open != NULL);
    }
    k->open[k->num_open++] = (struct fingerprint){print, seq};
    filter_add(k, print, seq, created_ms);
}

bool room_keys_maybe(const struct room_keys *k, uint64_t print, struct seq_range *where)
{
    struct probes p = probes_of(print);
    *where = (struct seq_range){UINT64_MAX, 0};
    for (const struct filter_block *b = k->newest; b; b = b->older) {
        if (!block_maybe(b, p)) continue;
        if (b->seqs.first < where->first) where->first = b->seqs.first;
        if (b->seqs.last > where->last) where->last = b->seqs.last;
    }
    return where->last > 0;
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
        k->filter_bytes -= dropped->bytes;
        free(dropped);
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

/* room_iter walks the rows of a room from one seq to another, both included; UINT64_MAX: to its last. A room's rows in
 * `log` and in `idempotency` both begin with its key in `rooms`, t · r, and the seq follows. */
static struct kv_iter *room_iter(struct kv *kv, enum kv_cf cf, uint32_t tenant, uint64_t room, struct seq_range seqs)
{
    struct key prefix, from, to;
    key_room(&prefix, tenant, room);
    key_log(&from, tenant, room, seqs.first);
    if (seqs.last < UINT64_MAX) key_log(&to, tenant, room, seqs.last + 1);
    else key_prefix_end(&to, key_slice(&prefix));
    return kv_iter_open(kv, cf, key_slice(&from), key_slice(&to));
}

/* run_take decodes the run an iterator stands on. One that ends before it begins would send the log walk behind it to
 * the wrong place, and keys would be missed. */
static enum status run_take(struct idempotency_run_record *run, uint64_t *first_seq, struct kv *kv, struct kv_iter *i)
{
    struct slice key = kv_iter_key(kv, i);
    uint32_t tenant;
    uint64_t room;
    if (!key_parse_u32(&key, &tenant) || !key_parse_u64(&key, &room) || !key_parse_u64(&key, first_seq) || key.len)
        return STATUS_CORRUPT;
    enum status s = idempotency_run_record_decode(run, kv_iter_value(kv, i));
    return s == STATUS_OK && run->last_seq < *first_seq ? STATUS_CORRUPT : s;
}

static bool run_too_old(const struct idempotency_run_record *run, uint64_t now_ms)
{
    return run->newest_ms + IDEMPOTENCY_KEEP_MS < now_ms;
}

/* runs_skip_old walks back over the runs and leaves the iterator on the oldest one of the last days; run_from is behind
 * the newest. `on`: whether there is such a run. */
static enum status runs_skip_old(bool *on, uint64_t *run_from, struct kv *kv, struct kv_iter *i, uint64_t now_ms)
{
    struct idempotency_run_record run;
    uint64_t first_seq;
    *on = kv_iter_last(kv, i);
    for (bool newest = true; *on; newest = false) {
        enum status s = run_take(&run, &first_seq, kv, i);
        if (s != STATUS_OK) return s;
        if (newest) *run_from = run.last_seq + 1;
        if (run_too_old(&run, now_ms)) {
            *on = kv_iter_next(kv, i);
            return STATUS_OK;
        }
        if (!kv_iter_prev(kv, i)) break;
    }
    if (*on) *on = kv_iter_first(kv, i);
    return STATUS_OK;
}

/* The runs are read twice: back to where the days begin, so that a room's loads do not grow with its age, and forward
 * from there, so that the blocks of the filter are filled as though the room had just grown. */
static enum status load_runs(struct room_keys *k, struct kv *kv, uint32_t tenant, uint64_t room, uint64_t now_ms)
{
    struct kv_iter *i = room_iter(kv, KV_IDEMPOTENCY, tenant, room, (struct seq_range){1, UINT64_MAX});
    bool on;
    enum status s = runs_skip_old(&on, &k->run_from, kv, i, now_ms);
    for (; on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct idempotency_run_record run;
        uint64_t first_seq;
        s = run_take(&run, &first_seq, kv, i);
        if (s != STATUS_OK) break;
        uint32_t num = fingerprints_len(run.prints);
        for (uint32_t n = 0; n < num; n++) {
            struct fingerprint f = fingerprints_at(run.prints, n);
            filter_add(k, f.print, f.seq, run.newest_ms);
        }
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
    struct kv_iter *i = room_iter(kv, KV_LOG, tenant, room, (struct seq_range){k->run_from, UINT64_MAX});
    for (bool on = kv_iter_first(kv, i); on && s == STATUS_OK; on = kv_iter_next(kv, i)) {
        struct log_record r;
        s = log_record_decode(&r, kv_iter_value(kv, i));
        if (s == STATUS_OK && r.client_id.len && !PLANTED(window_lost_at_restart))
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
    struct seq_range where;
    struct log_record *row;
    struct buf *bytes;
};

static enum status search_run(const struct search *s, const struct idempotency_run_record *run);
static enum status search_log(const struct search *s, uint64_t from_seq);
static enum status search_newest_first(const struct search *s, struct kv_iter *runs);

enum status idempotency_search(struct log_record *row, struct buf *bytes, struct kv *kv, const struct hash_key *key,
                               uint32_t tenant, uint64_t room, uint64_t sender, struct slice client_id,
                               struct seq_range where)
{
    ASSERT(where.first > 0);
    const struct search search = {.kv = kv,
                                  .tenant = tenant,
                                  .room = room,
                                  .sender = sender,
                                  .client_id = client_id,
                                  .print = fingerprint_of(key, sender, client_id),
                                  .where = where,
                                  .row = row,
                                  .bytes = bytes};
    struct kv_iter *runs = room_iter(kv, KV_IDEMPOTENCY, tenant, room, (struct seq_range){1, where.last});
    enum status s = search_newest_first(&search, runs);
    enum status closed = kv_iter_close(kv, runs);
    return closed == STATUS_OK ? s : closed;
}

/* Runs follow each other without a gap, so only the newest of them can end before `where` does. */
static enum status search_newest_first(const struct search *search, struct kv_iter *runs)
{
    struct kv *kv = search->kv;
    struct idempotency_run_record run = {0};
    uint64_t first_seq = 0;
    bool on = kv_iter_last(kv, runs);
    enum status s = on ? run_take(&run, &first_seq, kv, runs) : STATUS_OK;
    if (s == STATUS_OK) s = search_log(search, run.last_seq + 1);
    if (s == STATUS_NOT_FOUND && on) s = search_run(search, &run);
    while (s == STATUS_NOT_FOUND && first_seq > search->where.first && kv_iter_prev(kv, runs)) {
        s = run_take(&run, &first_seq, kv, runs);
        if (s == STATUS_OK) s = search_run(search, &run);
    }
    return s;
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

/* search_log: of `where`, what is at from_seq or behind it. */
static enum status search_log(const struct search *s, uint64_t from_seq)
{
    struct seq_range seqs = {from_seq > s->where.first ? from_seq : s->where.first, s->where.last};
    if (seqs.first > seqs.last) return STATUS_NOT_FOUND;
    struct kv_iter *i = room_iter(s->kv, KV_LOG, s->tenant, s->room, seqs);
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
