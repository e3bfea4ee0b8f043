#include "store_watch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/base/clock.h"
#include "../../src/chat/ids.h"
#include "../../storage/keys.h"
#include "../../storage/records.h"
#include "../../storage/store.h"
#include "counts.h"
#include "faults.h"
#include "notices.h"
#include "world.h"

/* event: one row of a log. */
struct event {
    uint64_t durable_version; /* 0: not durable */
    struct buf value;         /* the row */
    struct log_record record; /* borrows value */
};

struct room {
    uint64_t number;
    uint64_t head, durable_head, shown;
    struct event *events; /* [seq - 1] */
    size_t cap;
};

/* batch_rows: log rows of one written batch, in order: how far each room's head was before it. */
struct written_batch {
    uint64_t head[WATCHED_ROOMS_MAX];
};

struct pending_row {
    uint64_t room, seq;
    struct buf value;
};

static struct watch {
    struct kv kv;
    struct kv *fake;
    uint64_t version;
    struct room rooms[WATCHED_ROOMS_MAX];
    unsigned num_rooms;
    struct pending_row *pending; /* of the batch under construction */
    size_t num_pending, cap_pending;
    struct written_batch *written; /* not synced; [0] is the oldest */
    size_t num_written, cap_written;
    bool fail_writes, fail_syncs;
    unsigned fail_behind; /* operations of that kind that still succeed */
    unsigned fail_reads_of;
} watch;

static const struct kv_ops watch_ops;

struct kv *watched_store_open(void)
{
    watch = (struct watch){.kv = {.ops = &watch_ops}, .fake = kv_fake_new(), .version = 1};
    return &watch.kv;
}

void watched_store_end(void)
{
    kv_close(watch.fake);
    for (unsigned r = 0; r < watch.num_rooms; r++) {
        for (uint64_t seq = 1; seq <= watch.rooms[r].head; seq++) buf_free(&watch.rooms[r].events[seq - 1].value);
        free(watch.rooms[r].events);
    }
    free(watch.pending);
    free(watch.written);
}

uint64_t store_version(void) { return watch.version; }

size_t store_unsynced(void) { return kv_fake_unsynced(watch.fake); }

void watched_store_fail(bool writes, bool syncs) { watched_store_fail_at(writes, syncs, 0); }

void watched_store_fail_at(bool writes, bool syncs, unsigned others)
{
    watch.fail_writes = writes;
    watch.fail_syncs = syncs;
    watch.fail_behind = others;
}

void watched_store_fail_reads(unsigned of) { watch.fail_reads_of = of; }

/* fails: the time has come for an operation of a kind that is to fail. */
static bool fails(bool kind)
{
    if (!kind) return false;
    if (watch.fail_behind == 0) return true;
    watch.fail_behind--;
    return false;
}

/* --- rooms --------------------------------------------------------------------------------------------------- */

static struct room *room_find(uint64_t number)
{
    for (unsigned i = 0; i < watch.num_rooms; i++)
        if (watch.rooms[i].number == number) return &watch.rooms[i];
    return NULL;
}

static struct room *room_get(uint64_t number)
{
    struct room *r = room_find(number);
    if (r) return r;
    CHECK(watch.num_rooms < WATCHED_ROOMS_MAX, "more rooms than the scenario made");
    watch.rooms[watch.num_rooms] = (struct room){.number = number};
    return &watch.rooms[watch.num_rooms++];
}

static struct room *room_of_id(struct slice room_id)
{
    uint64_t number = 0;
    CHECK(room_id_parse(room_id, &number), "no room id: %.*s", SLICE_FMT(room_id));
    return room_find(number);
}

/* --- what is written ----------------------------------------------------------------------------------------- */

static void watch_put(struct kv_batch *b, enum kv_cf cf, struct slice key, struct slice value)
{
    watch.fake->ops->batch_put(b, cf, key, value);
    notices_put(cf, key, value);
    if (cf != KV_LOG) return;
    if (watch.num_pending == watch.cap_pending) {
        watch.cap_pending = watch.cap_pending ? watch.cap_pending * 2 : 16;
        watch.pending = realloc(watch.pending, watch.cap_pending * sizeof *watch.pending);
        ASSERT(watch.pending);
    }
    struct pending_row *row = &watch.pending[watch.num_pending++];
    uint32_t tenant;
    *row = (struct pending_row){0};
    CHECK(key_parse_u32(&key, &tenant) && key_parse_u64(&key, &row->room) && key_parse_u64(&key, &row->seq) && !key.len,
          "a log key of the wrong shape");
    buf_slice_append(&row->value, value);
}

static void watch_clear(struct kv_batch *b)
{
    watch.fake->ops->batch_clear(b);
    notices_clear();
    while (watch.num_pending) buf_free(&watch.pending[--watch.num_pending].value);
}

/* row_written enters a row behind its room's head. */
static void row_written(struct pending_row *row)
{
    struct room *r = room_get(row->room);
    CHECK(row->seq == r->head + 1, "room %" PRIx64 ": seq %" PRIu64 " is written behind %" PRIu64, row->room, row->seq,
          r->head);
    CHECK(row->seq <= EVENTS_MAX, "a run with more than %u events a room", EVENTS_MAX);
    if (r->head == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->events = realloc(r->events, r->cap * sizeof *r->events);
        ASSERT(r->events);
    }
    struct event *e = &r->events[r->head];
    *e = (struct event){.value = row->value};
    row->value = (struct buf){0};
    CHECK(log_record_decode(&e->record, buf_slice(&e->value)) == STATUS_OK, "a log row that cannot be decoded");
    CHECK(e->record.room == r->number && e->record.seq == row->seq, "a log row under a foreign key");
    CHECK(r->head == 0 || e->record.created_ms >= r->events[r->head - 1].record.created_ms, "time goes back in a room");
    for (uint64_t seq = 1; seq <= r->head && e->record.client_id.len; seq++) {
        const struct log_record *other = &r->events[seq - 1].record;
        CHECK(other->sender != e->record.sender || !slice_eq(other->client_id, e->record.client_id),
              "client id %.*s was appended twice: seq %" PRIu64 " and %" PRIu64, SLICE_FMT(e->record.client_id), seq,
              row->seq);
    }
    r->head = row->seq;
}

static void heads_into(struct written_batch *batch)
{
    for (unsigned i = 0; i < WATCHED_ROOMS_MAX; i++) batch->head[i] = i < watch.num_rooms ? watch.rooms[i].head : 0;
}

/* A write that fails may have reached the log all the same, and come back with the next start. */
static enum status watch_write(struct kv *kv, struct kv_batch *b)
{
    actor_preempt();
    struct written_batch before;
    heads_into(&before);
    bool failed = fails(watch.fail_writes), kept = failed && world_chance(2);
    if (failed) count_happened(COUNT_WRITE_FAILS);
    if (kept) count_happened(COUNT_WRITE_FAILS_KEPT);
    if (!failed || kept) {
        CHECK(kv_write(watch.fake, b) == STATUS_OK, "the fake's own write fails");
        if (watch.num_written == watch.cap_written) {
            watch.cap_written = watch.cap_written ? watch.cap_written * 2 : 16;
            watch.written = realloc(watch.written, watch.cap_written * sizeof *watch.written);
            ASSERT(watch.written);
        }
        watch.written[watch.num_written++] = before;
        for (size_t i = 0; i < watch.num_pending; i++) row_written(&watch.pending[i]);
        notices_written();
        world_note(watch.num_written, watch.num_pending);
    }
    actor_preempt();
    return failed ? STATUS_IO : STATUS_OK;
}

/* all_durable: everything that is written is on disk from now on. */
static void all_durable(void)
{
    watch.version++;
    for (unsigned i = 0; i < watch.num_rooms; i++) {
        struct room *r = &watch.rooms[i];
        while (r->durable_head < r->head) r->events[r->durable_head++].durable_version = watch.version;
    }
    notices_durable(watch.version);
    watch.num_written = 0;
}

/* A write that comes while the sync is under way may be covered by it or not: it is when it came before the fake's own
 * sync, and it is not when it came between that and the return. */
static enum status watch_sync(struct kv *kv)
{
    actor_preempt();
    enum status s = fails(watch.fail_syncs) ? STATUS_IO : kv_sync(watch.fake);
    if (s == STATUS_OK) all_durable();
    else count_happened(COUNT_SYNC_FAILS);
    world_note(watch.version, (uint64_t)s);
    actor_preempt();
    return s;
}

static void take_back(const struct written_batch *batch)
{
    for (unsigned i = 0; i < watch.num_rooms; i++) {
        struct room *r = &watch.rooms[i];
        while (r->head > batch->head[i]) buf_free(&r->events[--r->head].value);
        CHECK(r->durable_head <= r->head, "a crash took back what was durable");
    }
}

void watched_store_crash(void)
{
    size_t unsynced = kv_fake_unsynced(watch.fake);
    CHECK(unsynced == watch.num_written, "the watch lost count of the batches");
    size_t keep = world_below(unsynced + 1);
    bool tear = keep > 0 && world_chance(4);
    count_happened(COUNT_CRASH);
    if (tear) count_happened(COUNT_CRASH_TORN);
    world_trace("crash: %zu of %zu unsynced batches stay%s", keep, unsynced, tear ? ", the last one torn" : "");
    kv_fake_crash(watch.fake, keep, tear);
    if (tear) keep--;
    if (keep < watch.num_written) take_back(&watch.written[keep]);
    while (watch.num_pending) buf_free(&watch.pending[--watch.num_pending].value);
    notices_clear();
    notices_crash(watch.fake);
    all_durable();
}

/* --- what is read -------------------------------------------------------------------------------------------- */

static uint64_t watch_sequence(struct kv *kv) { return kv_sequence(watch.fake); }

/* kv_iter: the fake's own, and whether a read of it has failed: then it stands nowhere, and closing says so. */
struct kv_iter {
    void *fake;
    bool failed;
};

static bool read_fails(void)
{
    if (!watch.fail_reads_of || !world_chance(watch.fail_reads_of)) return false;
    faults_read_failed();
    return true;
}

static enum status watch_get(struct kv *kv, enum kv_cf cf, struct slice key, struct buf *out)
{
    actor_preempt();
    if (read_fails()) return STATUS_IO;
    enum status s = kv_get(watch.fake, cf, key, out);
    actor_preempt();
    return s;
}

static struct kv_iter *watch_iter_open(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper)
{
    actor_preempt();
    struct kv_iter *i = malloc(sizeof *i);
    ASSERT(i);
    *i = (struct kv_iter){.fake = kv_iter_open(watch.fake, cf, lower, upper)};
    return i;
}

static enum status watch_iter_close(struct kv_iter *i)
{
    actor_preempt();
    enum status s = watch.fake->ops->iter_close(i->fake);
    if (i->failed) s = STATUS_IO;
    free(i);
    return s;
}

static bool moved(struct kv_iter *i, bool (*move)(struct kv_iter *fake))
{
    i->failed |= read_fails();
    return !i->failed && move(i->fake);
}

static struct kv_batch *watch_batch_new(struct kv *kv) { return kv_batch_new(watch.fake); }
static void watch_batch_free(struct kv_batch *b) { watch.fake->ops->batch_free(b); }
static void watch_delete(struct kv_batch *b, enum kv_cf cf, struct slice key)
{
    CHECK(cf != KV_LOG, "a row of a log is deleted");
    watch.fake->ops->batch_delete(b, cf, key);
    notices_delete(cf, key);
}
static void watch_delete_range(struct kv_batch *b, enum kv_cf cf, struct slice from, struct slice to)
{
    CHECK(cf != KV_LOG, "rows of a log are deleted");
    watch.fake->ops->batch_delete_range(b, cf, from, to);
}
static bool watch_first(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_first); }
static bool watch_last(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_last); }
static bool watch_next(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_next); }
static bool watch_prev(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_prev); }
static struct slice watch_key(struct kv_iter *i) { return watch.fake->ops->iter_key(i->fake); }
static struct slice watch_value(struct kv_iter *i) { return watch.fake->ops->iter_value(i->fake); }
static void watch_close(struct kv *kv) {} /* the disk outlives the process */

static const struct kv_ops watch_ops = {
    .batch_new = watch_batch_new,
    .batch_free = watch_batch_free,
    .batch_clear = watch_clear,
    .batch_put = watch_put,
    .batch_delete = watch_delete,
    .batch_delete_range = watch_delete_range,
    .write = watch_write,
    .sync = watch_sync,
    .sequence = watch_sequence,
    .get = watch_get,
    .iter_open = watch_iter_open,
    .iter_first = watch_first,
    .iter_last = watch_last,
    .iter_next = watch_next,
    .iter_prev = watch_prev,
    .iter_key = watch_key,
    .iter_value = watch_value,
    .iter_close = watch_iter_close,
    .close = watch_close,
};

/* --- the truth ----------------------------------------------------------------------------------------------- */

static const char *type_of(const struct log_record *record)
{
    switch ((enum log_kind)record->kind) {
    case LOG_MESSAGE: return "message";
    case LOG_JOINED: return "user_joined";
    case LOG_LEFT: return "user_left";
    case LOG_ROOM_UPDATED: return "room.updated";
    case LOG_EDITED: return "message.edited";
    case LOG_DELETED: return "message.deleted";
    case LOG_REACTION: return "reaction";
    }
    return "";
}

void store_check_seen(const char *who, struct slice room_id, uint64_t version, const struct seen_event *seen)
{
    struct room *r = room_of_id(room_id);
    CHECK(r && seen->seq >= 1 && seen->seq <= r->head, "%s sees seq %" PRIu64 " of room %.*s, which does not exist",
          who, seen->seq, SLICE_FMT(room_id));
    const struct event *e = &r->events[seen->seq - 1];
    CHECK(e->durable_version && e->durable_version <= version,
          "%s sees seq %" PRIu64 " of room %.*s, which left the gateway before it was durable", who, seen->seq,
          SLICE_FMT(room_id));
    if (seen->seq > r->shown) r->shown = seen->seq;
    const struct log_record *record = &e->record;
    char created_at[TIME_TEXT_LEN];
    time_text(created_at, record->created_ms);
    CHECK(slice_is(seen->type, type_of(record)) && slice_eq(seen->created_at, slice_of(created_at, TIME_TEXT_LEN)),
          "%s sees another event under seq %" PRIu64 " than was written: %.*s at %.*s", who, seen->seq,
          SLICE_FMT(seen->type), SLICE_FMT(seen->created_at));
    if (record->kind != LOG_MESSAGE) return;
    CHECK(slice_eq(seen->sender_id, record->sender_id) && slice_eq(seen->client_id, record->client_id) &&
              slice_eq(seen->content, record->content),
          "%s sees another message under seq %" PRIu64 " than was written: %.*s of %.*s", who, seen->seq,
          SLICE_FMT(seen->client_id), SLICE_FMT(seen->sender_id));
}

uint64_t store_shown(struct slice room_id)
{
    const struct room *r = room_of_id(room_id);
    return r ? r->shown : 0;
}

uint64_t store_head(struct slice room_id)
{
    const struct room *r = room_of_id(room_id);
    return r ? r->durable_head : 0;
}

/* names: a join's or leave's row holds `"user_ids":["a","b"]`; user ids of the scenario need no escapes. */
static bool names(const struct log_record *record, struct slice user_id)
{
    struct slice in = record->content;
    for (; in.len > user_id.len + 1; in = slice_from(in, 1))
        if (in.data[0] == '"' && slice_starts(slice_from(in, 1), user_id) && in.data[user_id.len + 1] == '"')
            return true;
    return false;
}

bool store_member(struct slice room_id, struct slice user_id, uint64_t version, uint64_t *changed_seq)
{
    const struct room *r = room_of_id(room_id);
    *changed_seq = 0;
    for (uint64_t seq = r ? r->durable_head : 0; seq > 0; seq--) {
        const struct event *e = &r->events[seq - 1];
        bool joined = e->record.kind == LOG_JOINED, left = e->record.kind == LOG_LEFT;
        if (e->durable_version > version || !(joined || left) || !names(&e->record, user_id)) continue;
        *changed_seq = seq;
        return joined;
    }
    return true;
}

uint64_t store_find(struct slice room_id, struct slice sender_id, struct slice client_id)
{
    const struct room *r = room_of_id(room_id);
    for (uint64_t seq = 1; r && seq <= r->durable_head; seq++) {
        const struct log_record *record = &r->events[seq - 1].record;
        if (record->kind == LOG_MESSAGE && slice_eq(record->sender_id, sender_id) &&
            slice_eq(record->client_id, client_id))
            return seq;
    }
    return 0;
}

uint64_t store_cursor(struct slice room_id, struct slice user_id, struct slice device)
{
    struct key key;
    struct buf value = {0};
    struct cursor_record cursor = {0};
    uint64_t user = 0;
    const struct room *r = room_of_id(room_id);
    CHECK(r && r->head, "room %.*s has no events", SLICE_FMT(room_id));
    uint32_t tenant = r->events[0].record.tenant;
    key_name(&key, tenant, NAME_USER, user_id);
    enum status s = kv_get(watch.fake, KV_NAMES, key_slice(&key), &value);
    if (s == STATUS_OK) s = number_record_decode(&user, buf_slice(&value));
    CHECK(s == STATUS_OK, "user %.*s cannot be read", SLICE_FMT(user_id));
    key_cursor(&key, tenant, user, device, r->number);
    s = kv_get(watch.fake, KV_CURSORS, key_slice(&key), &value);
    if (s == STATUS_OK) s = cursor_record_decode(&cursor, buf_slice(&value));
    CHECK(s == STATUS_OK || s == STATUS_NOT_FOUND, "a cursor cannot be read");
    buf_free(&value);
    return cursor.delivered;
}

unsigned store_rooms(void)
{
    unsigned num = 0;
    struct kv_iter *i = kv_iter_open(watch.fake, KV_ROOMS, (struct slice){0}, (struct slice){0});
    for (bool on = kv_iter_first(watch.fake, i); on; on = kv_iter_next(watch.fake, i)) num++;
    CHECK(kv_iter_close(watch.fake, i) == STATUS_OK, "the rooms cannot be read");
    return num;
}

static void on_problem(void *context, const char *text) { world_fail("the store at the end: %s", text); }

void store_check_end(void)
{
    uint64_t rows = 0;
    uint64_t problems = store_verify(watch.fake, on_problem, NULL, &rows);
    CHECK(problems == 0, "the store has %" PRIu64 " problems", problems);
}
