#include "pair.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../storage/kv_rocksdb.h"
#include "../../storage/store.h"
#include "script.h"

#define HELD_MAX 3u
#define WALK_STEPS_MAX 400u

enum { ROCKS, FAKE, STORES };

/* held: a walk that stays open while the stores change. */
struct held {
    struct kv_iter *at[STORES];
    bool on;
};

/* state: what the fake held behind a batch. */
struct state {
    uint64_t digest, sequence;
};

struct pair {
    char dir[256];
    unsigned life; /* of the database: names its directory */
    struct store_options options;
    struct chances *chances;
    struct kv *kv[STORES];
    struct held held[HELD_MAX];
    struct state *states; /* [0] is what is synced, then one a batch written since */
    size_t num_states, cap_states;
    struct script_batch failed; /* a write that failed: it may come back, as a last batch */
    struct state failed_state;
    bool has_failed;
};

static void open_rocks(struct pair *p);
static void held_close_all(struct pair *p);
static void state_push(struct pair *p);
static void states_synced(struct pair *p);
static void crash(struct pair *p, enum power_loss loss);
static struct state state_of(struct kv *kv);

static const char *life_path(const struct pair *p, unsigned life)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%u", p->dir, life);
    return path;
}

struct pair *pair_open(const char *dir, struct chances *chances)
{
    struct pair *p = calloc(1, sizeof *p);
    ASSERT(p);
    snprintf(p->dir, sizeof p->dir, "%s", dir);
    p->chances = chances;
    ASSERT(mkdir(life_path(p, 0), 0700) == 0);
    /* The least that RocksDB takes for a write buffer: logs and tables come and go within a script. */
    p->options = (struct store_options){.cache_bytes = 1 << 20,
                                        .write_buffer_bytes = chances_one_in(chances, 3) ? 4 << 20 : 64 << 10};
    power_watch(p->dir);
    open_rocks(p);
    p->kv[FAKE] = kv_fake_new();
    state_push(p);
    return p;
}

void pair_close(struct pair *p)
{
    held_close_all(p);
    /* in either order: nothing of one belongs to the other */
    bool fake_first = chances_one_in(p->chances, 2);
    kv_close(p->kv[fake_first ? FAKE : ROCKS]);
    kv_close(p->kv[fake_first ? ROCKS : FAKE]);
    script_batch_clear(&p->failed);
    free(p->states);
    free(p);
}

static void open_rocks(struct pair *p)
{
    char why[512] = "";
    char path[300];
    snprintf(path, sizeof path, "%s", life_path(p, p->life));
    p->options.dir = path;
    enum status s = kv_rocksdb_open(&p->kv[ROCKS], &p->options, why, sizeof why);
    AGREE(s == STATUS_OK, "RocksDB does not open: %s", why);
    p->options.dir = NULL;
}

/* --- what is written ------------------------------------------------------------------------------------------- */

/* write_both gives the same batch to both, by a batch that is cleared and filled again, or by one of its own. */
static void write_both(struct pair *p, const struct script_batch *batch, enum status s[STORES])
{
    bool refill = chances_one_in(p->chances, 4);
    for (unsigned i = 0; i < STORES; i++) {
        struct kv_batch *b = kv_batch_new(p->kv[i]);
        if (refill) {
            script_batch_into(p->kv[i], b, batch);
            p->kv[i]->ops->batch_clear(b);
        }
        script_batch_into(p->kv[i], b, batch);
        s[i] = kv_write(p->kv[i], b);
        p->kv[i]->ops->batch_free(b);
    }
}

void pair_write(struct pair *p)
{
    struct script_batch batch = {0};
    enum status s[STORES];
    script_batch_make(p->chances, &batch);
    write_both(p, &batch, s);
    AGREE(s[ROCKS] == STATUS_OK && s[FAKE] == STATUS_OK, "a write: RocksDB says %s, the fake %s", status_name(s[ROCKS]),
          status_name(s[FAKE]));
    script_batch_clear(&batch);
    state_push(p);
    seen->writes++;
}

void pair_sync(struct pair *p)
{
    enum status rocks = kv_sync(p->kv[ROCKS]), fake = kv_sync(p->kv[FAKE]);
    AGREE(rocks == STATUS_OK && fake == STATUS_OK, "a sync: RocksDB says %s, the fake %s", status_name(rocks),
          status_name(fake));
    AGREE(kv_fake_unsynced(p->kv[FAKE]) == 0, "the fake has unsynced batches behind a sync");
    states_synced(p);
    seen->syncs++;
}

void pair_flush(struct pair *p)
{
    char to[400], *error = NULL;
    snprintf(to, sizeof to, "%s/checkpoint", p->dir);
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(kv_rocksdb_handle(p->kv[ROCKS]), &error);
    ASSERT(!error);
    rocksdb_checkpoint_create(checkpoint, to, 0, &error); /* 0: all memtables are flushed first */
    AGREE(!error, "RocksDB does not flush: %s", error);
    rocksdb_checkpoint_object_destroy(checkpoint);
    char command[500];
    snprintf(command, sizeof command, "rm -rf '%s'", to);
    ASSERT(system(command) == 0);
    seen->flushes++;
}

void pair_reopen(struct pair *p)
{
    held_close_all(p);
    kv_close(p->kv[ROCKS]);
    open_rocks(p);
    kv_fake_hold(p->kv[FAKE]);
    kv_close(p->kv[FAKE]);
    pair_compare(p);
    seen->reopenings++;
}

/* --- states ---------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, struct slice bytes)
{
    h = (h ^ bytes.len) * 0x9fb21c651e98df25u;
    for (size_t at = 0; at < bytes.len; at += 8) {
        uint64_t v = 0;
        memcpy(&v, bytes.data + at, bytes.len - at < 8 ? bytes.len - at : 8);
        h = (h ^ v) * 0xd6e8feb86659fd93u;
        h ^= h >> 32;
    }
    return h;
}

static struct state state_of(struct kv *kv)
{
    struct state state = {.sequence = kv_sequence(kv)};
    for (unsigned cf = 0; cf < KV_CFS; cf++) {
        struct kv_iter *i = kv_iter_open(kv, (enum kv_cf)cf, SLICE_NONE, SLICE_NONE);
        for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) {
            state.digest = mix(state.digest + cf, kv_iter_key(kv, i));
            state.digest = mix(state.digest, kv_iter_value(kv, i));
        }
        AGREE(kv_iter_close(kv, i) == STATUS_OK, "family %s cannot be read", kv_cf_name((enum kv_cf)cf));
    }
    return state;
}

static void state_push(struct pair *p)
{
    if (p->num_states == p->cap_states) {
        p->cap_states = p->cap_states ? p->cap_states * 2 : 64;
        p->states = realloc(p->states, p->cap_states * sizeof *p->states);
        ASSERT(p->states);
    }
    p->states[p->num_states++] = state_of(p->kv[FAKE]);
}

static void states_synced(struct pair *p)
{
    p->states[0] = p->states[p->num_states - 1];
    p->num_states = 1;
}

/* --- what is read ---------------------------------------------------------------------------------------------- */

void pair_get(struct pair *p)
{
    struct buf key = {0}, value[STORES] = {0};
    enum status s[STORES];
    enum kv_cf cf = script_family(p->chances);
    script_key(p->chances, cf, &key);
    for (unsigned i = 0; i < STORES; i++) {
        buf_char(&value[i], 'x'); /* kv_get replaces what stood there */
        s[i] = kv_get(p->kv[i], cf, buf_slice(&key), &value[i]);
    }
    AGREE(s[ROCKS] == s[FAKE], "a get: RocksDB says %s, the fake %s", status_name(s[ROCKS]), status_name(s[FAKE]));
    AGREE(slice_eq(buf_slice(&value[ROCKS]), buf_slice(&value[FAKE])), "a get: RocksDB has %zu B, the fake %zu B",
          value[ROCKS].len, value[FAKE].len);
    for (unsigned i = 0; i < STORES; i++) buf_free(&value[i]);
    buf_free(&key);
    seen->gets++;
}

enum move { MOVE_FIRST, MOVE_LAST, MOVE_NEXT, MOVE_PREV };

static bool move_one(struct kv *kv, struct kv_iter *i, enum move move)
{
    switch (move) {
    case MOVE_FIRST: return kv_iter_first(kv, i);
    case MOVE_LAST: return kv_iter_last(kv, i);
    case MOVE_NEXT: return kv_iter_next(kv, i);
    case MOVE_PREV: return kv_iter_prev(kv, i);
    }
    UNREACHABLE();
}

static bool move_both(struct pair *p, struct kv_iter *const at[STORES], enum move move)
{
    static const char *const names[] = {"first", "last", "next", "prev"};
    bool on[STORES];
    for (unsigned i = 0; i < STORES; i++) on[i] = move_one(p->kv[i], at[i], move);
    AGREE(on[ROCKS] == on[FAKE], "a walk: %s is %s row for RocksDB, %s for the fake", names[move],
          on[ROCKS] ? "a" : "no", on[FAKE] ? "one" : "none");
    if (!on[FAKE]) return false;
    struct slice key = kv_iter_key(p->kv[ROCKS], at[ROCKS]), fake_key = kv_iter_key(p->kv[FAKE], at[FAKE]);
    AGREE(slice_eq(key, fake_key), "a walk: %s is a key of %zu B for RocksDB, another of %zu B for the fake",
          names[move], key.len, fake_key.len);
    AGREE(slice_eq(kv_iter_value(p->kv[ROCKS], at[ROCKS]), kv_iter_value(p->kv[FAKE], at[FAKE])),
          "a walk: %s has another value for the fake, under a key of %zu B", names[move], key.len);
    return true;
}

static void walk_open(struct pair *p, struct kv_iter *at[STORES])
{
    struct buf lower = {0}, upper = {0};
    enum kv_cf cf = script_family(p->chances);
    script_bounds(p->chances, cf, &lower, &upper);
    for (unsigned i = 0; i < STORES; i++) at[i] = kv_iter_open(p->kv[i], cf, buf_slice(&lower), buf_slice(&upper));
    buf_free(&lower); /* both bounds were copied */
    buf_free(&upper);
}

static void walk_close(struct pair *p, struct kv_iter *at[STORES])
{
    for (unsigned i = 0; i < STORES; i++) AGREE(kv_iter_close(p->kv[i], at[i]) == STATUS_OK, "a walk meets an error");
}

void pair_walk(struct pair *p)
{
    struct kv_iter *at[STORES];
    walk_open(p, at);
    bool forwards = chances_one_in(p->chances, 2);
    bool on = move_both(p, at, forwards ? MOVE_FIRST : MOVE_LAST);
    for (unsigned n = 0; on && n < WALK_STEPS_MAX; n++) {
        if (chances_one_in(p->chances, 60)) pair_write(p);
        if (chances_one_in(p->chances, 12)) forwards = !forwards;
        on = move_both(p, at, forwards ? MOVE_NEXT : MOVE_PREV);
    }
    walk_close(p, at);
    seen->walks++;
}

static void held_close(struct pair *p, struct held *h)
{
    walk_close(p, h->at);
    *h = (struct held){0};
}

static void held_close_all(struct pair *p)
{
    for (unsigned i = 0; i < HELD_MAX; i++)
        if (p->held[i].at[FAKE]) held_close(p, &p->held[i]);
}

void pair_hold(struct pair *p)
{
    struct held *h = &p->held[chances_below(p->chances, HELD_MAX)];
    if (!h->at[FAKE]) {
        walk_open(p, h->at);
        seen->snapshots++;
        return;
    }
    unsigned steps = 1 + (unsigned)chances_below(p->chances, 30);
    for (unsigned n = 0; n < steps; n++) {
        enum move move = (enum move)chances_below(p->chances, 2); /* an end, when it stands nowhere */
        if (h->on && !chances_one_in(p->chances, 10)) move = chances_one_in(p->chances, 3) ? MOVE_PREV : MOVE_NEXT;
        h->on = move_both(p, h->at, move);
    }
    if (chances_one_in(p->chances, 6)) held_close(p, h);
}

void pair_compare(struct pair *p)
{
    AGREE(kv_sequence(p->kv[ROCKS]) == kv_sequence(p->kv[FAKE]),
          "RocksDB counts %" PRIu64 " operations, the fake %" PRIu64, kv_sequence(p->kv[ROCKS]),
          kv_sequence(p->kv[FAKE]));
    for (unsigned cf = 0; cf < KV_CFS; cf++) {
        struct kv_iter *at[STORES];
        for (unsigned i = 0; i < STORES; i++) at[i] = kv_iter_open(p->kv[i], (enum kv_cf)cf, SLICE_NONE, SLICE_NONE);
        for (bool on = move_both(p, at, MOVE_FIRST); on; on = move_both(p, at, MOVE_NEXT)) continue;
        for (bool on = move_both(p, at, MOVE_LAST); on; on = move_both(p, at, MOVE_PREV)) continue;
        walk_close(p, at);
    }
}

/* --- crashes --------------------------------------------------------------------------------------------------- */

/* newest_log: the number of the log that is written to. */
static unsigned newest_log(const struct pair *p)
{
    char db[320];
    unsigned newest = 0, number;
    snprintf(db, sizeof db, "%s/db", life_path(p, p->life));
    DIR *d = opendir(db);
    ASSERT(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".log") && sscanf(e->d_name, "%u", &number) == 1 && number > newest) newest = number;
    closedir(d);
    return newest;
}

static void remove_life(const struct pair *p, unsigned life)
{
    char command[400];
    snprintf(command, sizeof command, "rm -rf '%s'", life_path(p, life));
    ASSERT(system(command) == 0);
}

/* crash_rocks opens a copy of the database as a power loss leaves it. */
static void crash_rocks(struct pair *p, enum power_loss loss)
{
    char from[320], to[320];
    snprintf(from, sizeof from, "%s/db", life_path(p, p->life));
    ASSERT(mkdir(life_path(p, p->life + 1), 0700) == 0);
    snprintf(to, sizeof to, "%s/db", life_path(p, p->life + 1));
    ASSERT(mkdir(to, 0700) == 0);
    seen->torn += power_cut(from, to, loss, p->chances);
    power_fail(POWER_FAILS_NOTHING, "", p->chances);
    power_slow(false);
    kv_close(p->kv[ROCKS]);
    remove_life(p, p->life++);
    open_rocks(p);
}

/* kept_by_rocks: how many of the batches since the last sync are there; num_states: those, and the failed one. */
static size_t kept_by_rocks(const struct pair *p)
{
    struct state now = state_of(p->kv[ROCKS]);
    for (size_t keep = p->num_states; keep-- > 0;)
        if (p->states[keep].digest == now.digest && p->states[keep].sequence == now.sequence) return keep;
    if (p->has_failed && p->failed_state.digest == now.digest && p->failed_state.sequence == now.sequence)
        return p->num_states;
    disagree("after a crash RocksDB holds (at sequence %" PRIu64 ") none of the %zu states from the last sync (%" PRIu64
             ") to the last write (%" PRIu64 ")", now.sequence, p->num_states, p->states[0].sequence,
             p->states[p->num_states - 1].sequence);
}

static void crash_fake(struct pair *p, size_t keep)
{
    size_t written = p->num_states - 1;
    AGREE(kv_fake_unsynced(p->kv[FAKE]) == written, "the fake counts %zu unsynced batches instead of %zu",
          kv_fake_unsynced(p->kv[FAKE]), written);
    bool torn = keep < written && chances_one_in(p->chances, 2);
    kv_fake_fail(p->kv[FAKE], false, false);
    kv_fake_crash(p->kv[FAKE], keep > written ? written : torn ? keep + 1 : keep, torn);
    if (keep <= written) return;
    struct kv_batch *b = kv_batch_new(p->kv[FAKE]);
    script_batch_into(p->kv[FAKE], b, &p->failed);
    AGREE(kv_write(p->kv[FAKE], b) == STATUS_OK && kv_sync(p->kv[FAKE]) == STATUS_OK, "the fake is still read-only");
    p->kv[FAKE]->ops->batch_free(b);
}

void pair_crash(struct pair *p) { crash(p, (enum power_loss)chances_below(p->chances, POWER_LOSSES)); }

static void crash(struct pair *p, enum power_loss loss)
{
    size_t written = p->num_states - 1;
    held_close_all(p);
    crash_rocks(p, loss);
    size_t keep = kept_by_rocks(p);
    crash_fake(p, keep);
    pair_compare(p);
    seen->crashes++;
    seen->kept_none += written && keep == 0;
    seen->kept_some += keep > 0 && keep < written;
    seen->kept_all += written && keep == written;
    if (p->has_failed && keep > written) seen->failed_writes_kept++;
    else if (p->has_failed && keep == written) seen->failed_writes_gone++;
    script_batch_clear(&p->failed);
    p->has_failed = false;
    p->num_states = 0;
    state_push(p);
}

#define BURST_MAX 400u /* batches: enough for the small write buffer, and soon over with the large one */

void pair_crash_between_logs(struct pair *p)
{
    unsigned log = newest_log(p), n = 0;
    power_slow(true);
    for (; n < BURST_MAX && newest_log(p) == log; n++) pair_write(p);
    if (n < BURST_MAX) seen->between_logs++;
    crash(p, POWER_LOSES_SOME);
}

/* --- errors ---------------------------------------------------------------------------------------------------- */

/* failed_state: what both would hold with the failed batch. */
static struct state state_with(struct pair *p, const struct script_batch *batch)
{
    struct kv *copy = kv_fake_new();
    struct kv_batch *b = kv_batch_new(copy);
    for (unsigned cf = 0; cf < KV_CFS; cf++) {
        struct kv_iter *i = kv_iter_open(p->kv[FAKE], (enum kv_cf)cf, SLICE_NONE, SLICE_NONE);
        for (bool on = kv_iter_first(p->kv[FAKE], i); on; on = kv_iter_next(p->kv[FAKE], i))
            copy->ops->batch_put(b, (enum kv_cf)cf, kv_iter_key(p->kv[FAKE], i), kv_iter_value(p->kv[FAKE], i));
        AGREE(kv_iter_close(p->kv[FAKE], i) == STATUS_OK, "the fake cannot be read");
    }
    script_batch_into(copy, b, batch);
    AGREE(kv_write(copy, b) == STATUS_OK, "a fake of its own fails");
    copy->ops->batch_free(b);
    struct state state = state_of(copy);
    state.sequence = kv_sequence(p->kv[FAKE]) + batch->len;
    kv_close(copy);
    return state;
}

static void fail_write(struct pair *p)
{
    enum status s[STORES];
    while (p->failed.len == 0) script_batch_make(p->chances, &p->failed);
    power_fail(POWER_FAILS_WRITES, ".log", p->chances);
    kv_fake_fail(p->kv[FAKE], true, false);
    p->failed_state = state_with(p, &p->failed);
    write_both(p, &p->failed, s);
    AGREE(s[ROCKS] == STATUS_IO && s[FAKE] == STATUS_IO, "a write that fails: RocksDB says %s, the fake %s",
          status_name(s[ROCKS]), status_name(s[FAKE]));
    p->has_failed = true;
    seen->failed_writes++;
}

static void fail_sync(struct pair *p)
{
    power_fail(POWER_FAILS_SYNCS, ".log", p->chances);
    kv_fake_fail(p->kv[FAKE], false, true);
    enum status rocks = kv_sync(p->kv[ROCKS]), fake = kv_sync(p->kv[FAKE]);
    AGREE(rocks == STATUS_IO && fake == STATUS_IO, "a sync that fails: RocksDB says %s, the fake %s",
          status_name(rocks), status_name(fake));
    seen->failed_syncs++;
}

void pair_fail(struct pair *p)
{
    if (chances_one_in(p->chances, 2)) fail_write(p);
    else fail_sync(p);
    if (chances_one_in(p->chances, 2)) { /* the disk works again, and that is too late */
        power_fail(POWER_FAILS_NOTHING, "", p->chances);
        kv_fake_fail(p->kv[FAKE], false, false);
    }
    struct script_batch batch = {0};
    for (unsigned n = 0; n < 3; n++) {
        enum status s[STORES];
        script_batch_make(p->chances, &batch);
        write_both(p, &batch, s);
        script_batch_clear(&batch);
        AGREE(s[ROCKS] == STATUS_READ_ONLY && s[FAKE] == STATUS_READ_ONLY,
              "a write behind an error: RocksDB says %s, the fake %s", status_name(s[ROCKS]), status_name(s[FAKE]));
        enum status rocks = kv_sync(p->kv[ROCKS]), fake = kv_sync(p->kv[FAKE]);
        AGREE(rocks == STATUS_READ_ONLY && fake == STATUS_READ_ONLY,
              "a sync behind an error: RocksDB says %s, the fake %s", status_name(rocks), status_name(fake));
    }
    pair_compare(p); /* what failed cannot be read, what was written before can */
    pair_crash(p);
}
