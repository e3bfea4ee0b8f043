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
#include "disk.h"
#include "faults.h"
#include "notices.h"
#include "world.h"

struct room {
    uint64_t number;
    uint64_t head, durable_head;
    struct watched_row *events; /* [seq - 1] */
    size_t cap;
    struct watched_row *lost; /* what crashes took back */
    size_t num_lost, cap_lost;
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
    struct kv *fake; /* the disk's: kv_fake, or RocksDB in its place */
    uint64_t version, serial;
    struct room rooms[WATCHED_ROOMS_MAX];
    unsigned num_rooms;
    struct pending_row *pending; /* of the batch under construction */
    size_t num_pending, cap_pending;
    struct written_batch *written; /* not synced; [0] is the oldest */
    size_t num_written, cap_written;
    bool fail_writes, fail_syncs;
    unsigned fail_behind; /* operations of that kind that still succeed */
    unsigned fail_reads_of;
    bool failed; /* a write or sync has: the store is read-only until it is opened again */
} watch;

static const struct kv_ops watch_ops;

struct kv *watched_store_open(void)
{
    watch = (struct watch){.kv = {.ops = &watch_ops}, .fake = disk_open(), .version = 1};
    return &watch.kv;
}

void watched_store_end(void)
{
    disk_end();
    for (unsigned r = 0; r < watch.num_rooms; r++) {
        for (uint64_t seq = 1; seq <= watch.rooms[r].head; seq++) buf_free(&watch.rooms[r].events[seq - 1].value);
        for (size_t i = 0; i < watch.rooms[r].num_lost; i++) buf_free(&watch.rooms[r].lost[i].value);
        free(watch.rooms[r].events);
        free(watch.rooms[r].lost);
    }
    free(watch.pending);
    free(watch.written);
}

uint64_t store_version(void) { return watch.version; }

size_t store_unsynced(void) { return disk_unsynced(); }

void watched_store_fail(bool writes, bool syncs) { watched_store_fail_at(writes, syncs, 0); }

void watched_store_fail_at(bool writes, bool syncs, unsigned others)
{
    watch.fail_writes = writes;
    watch.fail_syncs = syncs;
    watch.fail_behind = others;
    /* a disk that works again is met by a store that is opened again */
    if (!writes && !syncs) watch.failed = false;
}

void watched_store_fail_reads(unsigned of) { watch.fail_reads_of = of; }

/* fails: the time has come for an operation of a kind that is to fail. The first is final: kv.h. */
static bool fails(bool kind)
{
    if (!kind) return false;
    if (watch.fail_behind == 0) return watch.failed = true;
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

/* kv_batch: the disk's own, which a write that fails may keep. */
struct kv_batch {
    void *rows;
};

static void watch_put(struct kv_batch *b, enum kv_cf cf, struct slice key, struct slice value)
{
    watch.fake->ops->batch_put(b->rows, cf, key, value);
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
    watch.fake->ops->batch_clear(b->rows);
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
    struct watched_row *e = &r->events[r->head];
    *e = (struct watched_row){.value = row->value, .serial = ++watch.serial, .written_version = watch.version};
    row->value = (struct buf){0};
    CHECK(log_record_decode(&e->record, buf_slice(&e->value)) == STATUS_OK, "a log row that cannot be decoded");
    CHECK(e->record.room == r->number && e->record.seq == row->seq, "a log row under a foreign key");
    CHECK(r->head == 0 || e->record.created_ms >= r->events[r->head - 1].record.created_ms, "time goes back in a room");
    for (uint64_t seq = 1; seq <= r->head && e->record.client_id.len; seq++) {
        const struct log_record *other = &r->events[seq - 1].record;
        /* by the clock, not by its created_at: a core may have taken that, and weeks have passed in the middle of its
         * turn */
        if (world_wall_most_ms() >= other->created_ms + WATCHED_WINDOW_MS) continue;
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

/* apply writes to the disk and follows what was written. */
static void apply(void *rows, struct pending_row *pending, size_t num)
{
    struct written_batch before;
    heads_into(&before);
    CHECK(kv_write(watch.fake, rows) == STATUS_OK, "the disk's own write fails");
    disk_wrote();
    if (watch.num_written == watch.cap_written) {
        watch.cap_written = watch.cap_written ? watch.cap_written * 2 : 16;
        watch.written = realloc(watch.written, watch.cap_written * sizeof *watch.written);
        ASSERT(watch.written);
    }
    watch.written[watch.num_written++] = before;
    watch.version++;
    for (size_t i = 0; i < num; i++) row_written(&pending[i]);
    world_note(watch.num_written, num);
}

/* A write that fails may be there all the same: in RocksDB's memory at once, and in the log with the next start. */
static enum status watch_write(struct kv *kv, struct kv_batch *b)
{
    actor_preempt();
    if (watch.failed) return STATUS_READ_ONLY;
    bool failed = fails(watch.fail_writes), there = !failed || world_chance(2);
    if (failed) count_happened(COUNT_WRITE_FAILS);
    if (failed && there) count_happened(COUNT_WRITE_FAILS_KEPT);
    if (there) {
        apply(b->rows, watch.pending, watch.num_pending);
        notices_written();
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
    if (watch.failed) return STATUS_READ_ONLY;
    enum status s = fails(watch.fail_syncs) ? STATUS_IO : kv_sync(watch.fake);
    if (s == STATUS_OK) {
        disk_synced();
        all_durable();
    }
    if (s != STATUS_OK) count_happened(COUNT_SYNC_FAILS);
    world_note(watch.version, (uint64_t)s);
    actor_preempt();
    return s;
}

static void row_lost(struct room *r, struct watched_row *row)
{
    if (r->num_lost == r->cap_lost) {
        r->cap_lost = r->cap_lost ? r->cap_lost * 2 : 16;
        r->lost = realloc(r->lost, r->cap_lost * sizeof *r->lost);
        ASSERT(r->lost);
    }
    row->lost_version = watch.version + 1; /* what comes behind the crash */
    r->lost[r->num_lost++] = *row;
}

static void take_back(const struct written_batch *batch)
{
    for (unsigned i = 0; i < watch.num_rooms; i++) {
        struct room *r = &watch.rooms[i];
        while (r->head > batch->head[i]) row_lost(r, &r->events[--r->head]);
        CHECK(r->durable_head <= r->head, "a crash took back what was durable");
    }
}

void watched_store_crash(bool power)
{
    watch.failed = false;
    size_t unsynced = disk_unsynced();
    CHECK(unsynced == watch.num_written, "the watch lost count of the batches");
    size_t keep = power ? world_below(unsynced + 1) : unsynced;
    bool tear = power && keep > 0 && world_chance(4);
    if (tear) count_happened(COUNT_CRASH_TORN);
    world_trace("%s: %zu of %zu unsynced batches stay%s", power ? "power loss" : "kill", keep, unsynced,
                tear ? ", the last one torn" : "");
    watch.fake = disk_crash(keep, tear);
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

static struct kv_batch *watch_batch_new(struct kv *kv)
{
    struct kv_batch *b = malloc(sizeof *b);
    ASSERT(b);
    b->rows = kv_batch_new(watch.fake);
    return b;
}
static void watch_batch_free(struct kv_batch *b)
{
    if (b) watch.fake->ops->batch_free(b->rows);
    free(b);
}
static void watch_delete(struct kv_batch *b, enum kv_cf cf, struct slice key)
{
    CHECK(cf != KV_LOG, "a row of a log is deleted");
    watch.fake->ops->batch_delete(b->rows, cf, key);
    notices_delete(cf, key);
}
static void watch_delete_range(struct kv_batch *b, enum kv_cf cf, struct slice from, struct slice to)
{
    CHECK(cf != KV_LOG, "rows of a log are deleted");
    watch.fake->ops->batch_delete_range(b->rows, cf, from, to);
}
static bool watch_first(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_first); }
static bool watch_last(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_last); }
static bool watch_next(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_next); }
static bool watch_prev(struct kv_iter *i) { return moved(i, watch.fake->ops->iter_prev); }
static struct slice watch_key(struct kv_iter *i) { return watch.fake->ops->iter_key(i->fake); }
static struct slice watch_value(struct kv_iter *i) { return watch.fake->ops->iter_value(i->fake); }
/* The disk outlives the process; another one opens it. */
static void watch_close(struct kv *kv)
{
    watch.fake = disk_reopen();
    watch.failed = false;
}

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

/* row_at finds the row that stood under a seq at `version`: one of a fast room may be seen from its write on, and may
 * have been taken back since. */
static const struct watched_row *row_at(const struct room *r, uint64_t seq, uint64_t version, bool fast)
{
    if (seq >= 1 && seq <= r->head) {
        const struct watched_row *row = &r->events[seq - 1];
        if (row->durable_version && row->durable_version <= version) return row;
        if (fast && row->written_version <= version) return row;
    }
    for (size_t i = 0; fast && i < r->num_lost; i++)
        if (r->lost[i].record.seq == seq && r->lost[i].written_version <= version && version < r->lost[i].lost_version)
            return &r->lost[i];
    return NULL;
}

const struct watched_row *store_check_seen(const char *who, struct slice room_id, uint64_t version, bool fast,
                                           const struct seen_event *seen)
{
    const struct room *r = room_of_id(room_id);
    const struct watched_row *row = r ? row_at(r, seen->seq, version, fast) : NULL;
    CHECK(row, "%s sees seq %" PRIu64 " of room %.*s, which left the gateway before it was %s", who, seen->seq,
          SLICE_FMT(room_id), fast ? "written" : "durable");
    const struct log_record *record = &row->record;
    char created_at[TIME_TEXT_LEN];
    time_text(created_at, record->created_ms);
    CHECK(slice_is(seen->type, type_of(record)) && slice_eq(seen->created_at, slice_of(created_at, TIME_TEXT_LEN)),
          "%s sees another event under seq %" PRIu64 " than was written: %.*s at %.*s", who, seen->seq,
          SLICE_FMT(seen->type), SLICE_FMT(seen->created_at));
    if (record->kind != LOG_MESSAGE) return row;
    CHECK(slice_eq(seen->sender_id, record->sender_id) && slice_eq(seen->client_id, record->client_id) &&
              slice_eq(seen->content, record->content),
          "%s sees another message under seq %" PRIu64 " than was written: %.*s of %.*s", who, seen->seq,
          SLICE_FMT(seen->client_id), SLICE_FMT(seen->sender_id));
    return row;
}

uint64_t store_head(struct slice room_id)
{
    const struct room *r = room_of_id(room_id);
    return r ? r->durable_head : 0;
}

const struct watched_row *store_row(struct slice room_id, uint64_t seq)
{
    const struct room *r = room_of_id(room_id);
    return r && seq >= 1 && seq <= r->head ? &r->events[seq - 1] : NULL;
}

bool store_lost(struct slice room_id, uint64_t serial)
{
    const struct room *r = room_of_id(room_id);
    for (size_t i = 0; r && i < r->num_lost; i++)
        if (r->lost[i].serial == serial) return true;
    return false;
}

size_t store_num_lost(struct slice room_id)
{
    const struct room *r = room_of_id(room_id);
    return r ? r->num_lost : 0;
}

bool store_names(const struct watched_row *row, struct slice user_id)
{
    struct slice in = row->record.content;
    for (; in.len > user_id.len + 1; in = slice_from(in, 1))
        if (in.data[0] == '"' && slice_starts(slice_from(in, 1), user_id) && in.data[user_id.len + 1] == '"')
            return true;
    return false;
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
