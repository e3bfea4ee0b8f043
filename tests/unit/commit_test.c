#include "../../storage/commit.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "../../src/base/assert.h"
#include "../../src/base/limits.h"
#include "../../src/base/spsc.h"

#define CORES 3u

/* --- a scripted store: knows what was written and synced, can hold, fail, or call back in the middle ------------- */

struct script_row {
    uint8_t op, cf;
    uint8_t core;
    uint64_t ticket; /* the key says which entry the row belongs to */
};

struct kv_batch {
    struct script_row *rows;
    size_t num_rows, cap;
};

/* gate: a thread that passes a closed gate waits in it; `entered` counts who came. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned entered, allowed;
};

struct script_kv {
    struct kv kv;
    struct script_row *rows; /* everything written, in order */
    size_t num_rows, cap;
    size_t num_writes, rows_of_write[64];
    size_t num_syncs;
    _Atomic uint64_t written[CORES], synced[CORES]; /* tickets */
    _Atomic uint64_t sequence, synced_sequence;
    enum status write_result, sync_result;
    void (*during_write)(void *context), (*during_sync)(void *context);
    void *context;
    struct gate *sync_gate;
};

struct key_of_row {
    uint64_t core, ticket;
};

static struct kv_batch *script_batch_new(struct kv *kv)
{
    return calloc(1, sizeof(struct kv_batch));
}

static void script_batch_free(struct kv_batch *b)
{
    free(b->rows);
    free(b);
}

static void script_batch_clear(struct kv_batch *b)
{
    b->num_rows = 0;
}

static void script_row_add(struct kv_batch *b, enum commit_row_op op, enum kv_cf cf, struct slice key)
{
    struct key_of_row k;
    ASSERT(key.len == sizeof k);
    memcpy(&k, key.data, sizeof k);
    if (b->num_rows == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 64;
        b->rows = realloc(b->rows, b->cap * sizeof *b->rows);
    }
    b->rows[b->num_rows++] = (struct script_row){(uint8_t)op, (uint8_t)cf, (uint8_t)k.core, k.ticket};
}

static void script_put(struct kv_batch *b, enum kv_cf cf, struct slice key, struct slice value)
{
    script_row_add(b, COMMIT_PUT, cf, key);
}

static void script_delete(struct kv_batch *b, enum kv_cf cf, struct slice key)
{
    script_row_add(b, COMMIT_DELETE, cf, key);
}

static void script_delete_range(struct kv_batch *b, enum kv_cf cf, struct slice from, struct slice to)
{
    script_row_add(b, COMMIT_DELETE_RANGE, cf, from);
}

static enum status script_write(struct kv *kv, struct kv_batch *b)
{
    struct script_kv *s = CONTAINER_OF(kv, struct script_kv, kv);
    if (s->during_write) s->during_write(s->context);
    if (s->write_result != STATUS_OK) return s->write_result;
    if (s->num_rows + b->num_rows > s->cap) {
        s->cap = 2 * (s->num_rows + b->num_rows);
        s->rows = realloc(s->rows, s->cap * sizeof *s->rows);
    }
    memcpy(s->rows + s->num_rows, b->rows, b->num_rows * sizeof *b->rows);
    s->num_rows += b->num_rows;
    s->rows_of_write[s->num_writes++ % 64] = b->num_rows;
    for (size_t i = 0; i < b->num_rows; i++) atomic_store(&s->written[b->rows[i].core], b->rows[i].ticket);
    atomic_fetch_add(&s->sequence, b->num_rows);
    return STATUS_OK;
}

static enum status script_sync(struct kv *kv)
{
    struct script_kv *s = CONTAINER_OF(kv, struct script_kv, kv);
    uint64_t covered[CORES], sequence = atomic_load(&s->sequence);
    for (unsigned core = 0; core < CORES; core++) covered[core] = atomic_load(&s->written[core]);
    if (s->during_sync) s->during_sync(s->context);
    if (s->sync_gate) {
        struct gate *g = s->sync_gate;
        pthread_mutex_lock(&g->lock);
        unsigned turn = ++g->entered;
        pthread_cond_broadcast(&g->changed);
        while (g->allowed < turn) pthread_cond_wait(&g->changed, &g->lock);
        pthread_mutex_unlock(&g->lock);
    }
    if (s->sync_result != STATUS_OK) return s->sync_result;
    for (unsigned core = 0; core < CORES; core++) atomic_store(&s->synced[core], covered[core]);
    atomic_store(&s->synced_sequence, sequence);
    s->num_syncs++;
    return STATUS_OK;
}

static uint64_t script_sequence(struct kv *kv)
{
    return atomic_load(&CONTAINER_OF(kv, struct script_kv, kv)->sequence);
}

static const struct kv_ops script_ops = {
    .batch_new = script_batch_new,
    .batch_free = script_batch_free,
    .batch_clear = script_batch_clear,
    .batch_put = script_put,
    .batch_delete = script_delete,
    .batch_delete_range = script_delete_range,
    .write = script_write,
    .sync = script_sync,
    .sequence = script_sequence,
};

/* --- a mark that refuses to run ahead of the store, a clock moved by hand ---------------------------------------- */

struct script_mark {
    struct mark mark;
    struct script_kv *store;
    uint64_t written, synced; /* sequence numbers */
    size_t num_writes;
    _Atomic size_t num_syncs;
    enum status write_result, sync_result;
};

static enum status script_mark_write(struct mark *m, uint64_t sequence)
{
    struct script_mark *s = CONTAINER_OF(m, struct script_mark, mark);
    ASSERT(sequence <= atomic_load(&s->store->synced_sequence));
    ASSERT(sequence >= s->written);
    if (s->write_result != STATUS_OK) return s->write_result;
    s->written = sequence;
    s->num_writes++;
    return STATUS_OK;
}

static enum status script_mark_sync(struct mark *m)
{
    struct script_mark *s = CONTAINER_OF(m, struct script_mark, mark);
    if (s->sync_result != STATUS_OK) return s->sync_result;
    s->synced = s->written;
    atomic_fetch_add(&s->num_syncs, 1);
    return STATUS_OK;
}

static const struct mark_ops script_mark_ops = {.write = script_mark_write, .sync = script_mark_sync};

static uint64_t hand_ns(void *context)
{
    return *(uint64_t *)context;
}

/* Parks of the step tests never block; they count who would have been woken. */
static void count_signal(struct park *p)
{
    (*(unsigned *)p->ops_context)++;
}
static void never_block(struct park *p, uint64_t timeout_ns)
{
    UNREACHABLE();
}
static const struct park_ops counting_park = {count_signal, never_block};

/* --- the pipeline under test ------------------------------------------------------------------------------------- */

struct completion {
    unsigned core;
    uint64_t ticket;
    enum commit_class class;
    enum status result;
};

struct pipeline {
    struct park wake[CORES];
    struct script_kv store;
    struct script_mark mark;
    struct clock clock;
    uint64_t now_ns;
    struct commit *commit;
    struct commit_core *core[CORES];
    unsigned woken[CORES];
    struct end {
        struct pipeline *pipeline;
        unsigned core;
    } end[CORES];
    struct completion *done;
    size_t num_done;
    struct gate gate;
};

/* An entry that lives on the heap and is freed in its `done`: the sanitizers see whoever touches it later. */
struct test_entry {
    struct commit_entry entry;
    struct key_of_row key;
    struct commit_row rows[3];
};

static void note_done(void *context, struct commit_entry *e, enum status result)
{
    struct end *end = context;
    struct pipeline *p = end->pipeline;
    p->done[p->num_done++] = (struct completion){end->core, e->ticket, e->class, result};
    free(CONTAINER_OF(e, struct test_entry, entry));
}

static struct test_entry *entry_new(unsigned core, enum commit_class class, uint64_t ticket)
{
    struct test_entry *t = calloc(1, sizeof *t);
    t->key = (struct key_of_row){core, ticket};
    struct slice key = slice_of(&t->key, sizeof t->key);
    t->rows[0] = (struct commit_row){COMMIT_PUT, KV_LOG, key, SLICE("value")};
    t->entry.class = class;
    t->entry.rows = t->rows;
    t->entry.num_rows = 1;
    t->entry.done = note_done;
    return t;
}

static enum status push_one(struct pipeline *p, unsigned core, enum commit_class class, uint64_t ticket)
{
    struct test_entry *t = entry_new(core, class, ticket);
    enum status s = commit_push(p->core[core], &t->entry);
    if (s != STATUS_OK)
        free(t);
    else
        assert_int_equal(t->entry.ticket, ticket);
    return s;
}

static void push(struct pipeline *p, unsigned core, enum commit_class class, uint64_t ticket)
{
    assert_int_equal(push_one(p, core, class, ticket), STATUS_OK);
}

static int set_up_with(void **state, const struct park_ops *park_ops)
{
    struct pipeline *p = aligned_alloc(CACHE_LINE, sizeof *p);
    memset(p, 0, sizeof *p);
    p->store.kv.ops = &script_ops;
    p->store.context = p;
    p->mark = (struct script_mark){.mark = {&script_mark_ops}, .store = &p->store};
    p->now_ns = 1000000000;
    p->clock = park_ops ? (struct clock){&p->now_ns, hand_ns, hand_ns} : *clock_real();
    p->done = calloc(COMMIT_PENDING_MAX + 4096, sizeof *p->done);
    pthread_mutex_init(&p->gate.lock, NULL);
    pthread_cond_init(&p->gate.changed, NULL);
    struct commit_config config = {&p->store.kv, &p->mark.mark, &p->clock, park_ops, &p->woken[0], CORES, 0, 0};
    if (commit_open(&p->commit, &config) != STATUS_OK) return -1;
    for (unsigned core = 0; core < CORES; core++) {
        p->end[core] = (struct end){p, core};
        if (park_init(&p->wake[core], park_ops, &p->woken[core]) != STATUS_OK) return -1;
        p->core[core] = commit_core_open(p->commit, core, &p->wake[core], &p->end[core]);
    }
    p->woken[0] = 0;
    *state = p;
    return 0;
}

static int set_up_steps(void **state)
{
    return set_up_with(state, &counting_park);
}
static int set_up_threads(void **state)
{
    return set_up_with(state, NULL);
}

/* tear_down first brings what a test left open to its end: nothing may hang in the pipeline. */
static int tear_down(void **state)
{
    struct pipeline *p = *state;
    for (unsigned core = 0; core < CORES; core++) {
        while (commit_pending(p->core[core])) {
            commit_publish(p->core[core]);
            bool moved = commit_writer_step(p->commit);
            moved |= commit_syncer_step(p->commit);
            if (!commit_poll(p->core[core]) && !moved) return -1;
        }
    }
    commit_close(p->commit);
    for (unsigned core = 0; core < CORES; core++) park_close(&p->wake[core]);
    pthread_cond_destroy(&p->gate.changed);
    pthread_mutex_destroy(&p->gate.lock);
    free(p->store.rows);
    free(p->done);
    free(p);
    return 0;
}

static void assert_completed(const struct pipeline *p, size_t at, uint64_t ticket, enum status result)
{
    assert_true(at < p->num_done);
    assert_int_equal(p->done[at].ticket, ticket);
    assert_int_equal(p->done[at].result, result);
}

static unsigned poll_all(struct pipeline *p)
{
    unsigned n = 0;
    for (unsigned core = 0; core < CORES; core++) n += commit_poll(p->core[core]);
    return n;
}

/* --- step by step ------------------------------------------------------------------------------------------------ */

static void entry_completes_only_after_write_and_sync(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    assert_false(commit_writer_step(p->commit)); /* pushed, not published */
    commit_publish(p->core[0]);
    assert_int_equal(commit_poll(p->core[0]), 0);
    assert_true(commit_writer_step(p->commit));
    assert_int_equal(p->store.num_rows, 1);
    assert_false(commit_pollable(p->core[0]));
    assert_int_equal(commit_poll(p->core[0]), 0);
    assert_true(commit_syncer_step(p->commit));
    assert_true(commit_pollable(p->core[0]));
    assert_int_equal(commit_pending(p->core[0]), 1);
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 0, 1, STATUS_OK);
    assert_int_equal(commit_pending(p->core[0]), 0);
    assert_false(commit_pollable(p->core[0]));
    assert_false(commit_writer_step(p->commit));
    assert_false(commit_syncer_step(p->commit));
}

static void tickets_count_each_core_from_one_and_complete_in_order(void **state)
{
    struct pipeline *p = *state;
    for (uint64_t ticket = 1; ticket <= 50; ticket++)
        for (unsigned core = 0; core < CORES; core++) push(p, core, COMMIT_FSYNC, ticket);
    for (unsigned core = 0; core < CORES; core++) commit_publish(p->core[core]);
    while (commit_writer_step(p->commit)) {}
    while (commit_syncer_step(p->commit)) {}
    assert_int_equal(poll_all(p), 50 * CORES);
    for (size_t i = 0; i < p->num_done; i++) {
        assert_int_equal(p->done[i].core, i / 50);
        assert_completed(p, i, i % 50 + 1, STATUS_OK);
    }
}

static void all_cores_share_one_batch(void **state)
{
    struct pipeline *p = *state;
    for (unsigned core = 0; core < CORES; core++) {
        push(p, core, COMMIT_FSYNC, 1);
        commit_publish(p->core[core]);
    }
    assert_true(commit_writer_step(p->commit));
    assert_int_equal(p->store.num_writes, 1);
    assert_int_equal(p->store.num_rows, CORES);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->batches), 1);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->entries), CORES);
}

static void rows_of_each_kind_reach_the_store_in_their_order(void **state)
{
    struct pipeline *p = *state;
    struct test_entry *t = entry_new(1, COMMIT_FSYNC, 1);
    struct slice key = t->rows[0].key;
    t->rows[0] = (struct commit_row){COMMIT_DELETE_RANGE, KV_LOG, key, key};
    t->rows[1] = (struct commit_row){COMMIT_PUT, KV_ROOMS, key, SLICE("v")};
    t->rows[2] = (struct commit_row){COMMIT_DELETE, KV_MEMBERS, key, SLICE("")};
    t->entry.num_rows = 3;
    assert_int_equal(commit_push(p->core[1], &t->entry), STATUS_OK);
    commit_publish(p->core[1]);
    commit_writer_step(p->commit);
    assert_int_equal(p->store.num_rows, 3);
    assert_int_equal(p->store.rows[0].op, COMMIT_DELETE_RANGE);
    assert_int_equal(p->store.rows[1].op, COMMIT_PUT);
    assert_int_equal(p->store.rows[1].cf, KV_ROOMS);
    assert_int_equal(p->store.rows[2].op, COMMIT_DELETE);
    commit_syncer_step(p->commit);
    poll_all(p);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->rows), 3);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->bytes), 4 * sizeof(struct key_of_row) + 1);
}

/* During the first sync another entry is pushed and written: the next batch is filled while the syncer syncs. */
static void write_during_sync(void *context)
{
    struct pipeline *p = context;
    p->store.during_sync = NULL;
    push(p, 0, COMMIT_FSYNC, 2);
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
}

static void sync_covers_only_what_was_written_before_it_began(void **state)
{
    struct pipeline *p = *state;
    p->store.during_sync = write_during_sync;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(p->store.num_rows, 2);
    assert_int_equal(commit_poll(p->core[0]), 1); /* not the second: its write came during the sync */
    assert_completed(p, 0, 1, STATUS_OK);
    assert_int_equal(p->mark.written, 1);
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 1, 2, STATUS_OK);
    assert_int_equal(p->mark.written, 2);
}

static void fast_entry_completes_at_the_write(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    push(p, 0, COMMIT_FAST, 2);
    push(p, 0, COMMIT_FSYNC, 3);
    push(p, 0, COMMIT_FAST, 4);
    commit_publish(p->core[0]);
    assert_int_equal(commit_poll(p->core[0]), 0);
    commit_writer_step(p->commit);
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 2, STATUS_OK);
    assert_completed(p, 1, 4, STATUS_OK);
    assert_int_equal(commit_pending(p->core[0]), 2);
    commit_syncer_step(p->commit);
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 2, 1, STATUS_OK);
    assert_completed(p, 3, 3, STATUS_OK);
}

static void write_fast(struct pipeline *p, unsigned core, uint64_t ticket)
{
    push(p, core, COMMIT_FAST, ticket);
    commit_publish(p->core[core]);
    commit_writer_step(p->commit);
}

static void fast_entries_share_a_sync_that_comes_in_its_time(void **state)
{
    struct pipeline *p = *state;
    write_fast(p, 0, 1);
    assert_false(commit_syncer_step(p->commit));
    p->now_ns += FAST_SYNC_DELAY_MS * 1000000ull - 1;
    write_fast(p, 1, 1); /* a later one does not put it off */
    assert_false(commit_syncer_step(p->commit));
    assert_int_equal(p->store.num_syncs, 0);
    p->now_ns++;
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(p->store.num_syncs, 1);
    assert_int_equal(atomic_load(&p->store.synced[0]), 1);
    assert_int_equal(atomic_load(&p->store.synced[1]), 1);
    write_fast(p, 0, 2);
    assert_false(commit_syncer_step(p->commit)); /* each has its own time */
    p->now_ns += FAST_SYNC_DELAY_MS * 1000000ull;
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(atomic_load(&p->store.synced[0]), 2);
}

static void sync_that_somebody_waits_for_does_not_wait(void **state)
{
    struct pipeline *p = *state;
    write_fast(p, 0, 1);
    assert_false(commit_syncer_step(p->commit));
    push(p, 1, COMMIT_FSYNC, 1);
    commit_publish(p->core[1]);
    commit_writer_step(p->commit);
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(commit_poll(p->core[1]), 1);
    assert_int_equal(atomic_load(&p->store.synced[0]), 1);
}

/* woken_by tells whether a step signals the sleeping core. */
static unsigned woken_by(struct pipeline *p, bool (*step)(struct commit *), unsigned core)
{
    park_prepare(&p->wake[core]);
    p->woken[core] = 0;
    step(p->commit);
    park_done(&p->wake[core]);
    return p->woken[core];
}

static void core_is_woken_once_by_what_it_waits_for(void **state)
{
    struct pipeline *p = *state;
    push(p, 1, COMMIT_FSYNC, 1);
    commit_publish(p->core[1]);
    assert_int_equal(woken_by(p, commit_writer_step, 1), 0);
    assert_int_equal(woken_by(p, commit_syncer_step, 1), 1);
    push(p, 1, COMMIT_FAST, 2);
    commit_publish(p->core[1]);
    assert_int_equal(woken_by(p, commit_writer_step, 1), 1);
    assert_int_equal(woken_by(p, commit_syncer_step, 1), 0); /* it had its answer */
    push(p, 1, COMMIT_FSYNC, 3);
    commit_publish(p->core[1]);
    assert_int_equal(woken_by(p, commit_writer_step, 2), 0);
    assert_int_equal(woken_by(p, commit_syncer_step, 2), 0); /* another core's ticket */
}

static void full_ring_parks_entries_which_follow_in_order(void **state)
{
    struct pipeline *p = *state;
    uint64_t num_entries = COMMIT_RING_CELLS + 1000;
    for (uint64_t ticket = 1; ticket <= num_entries; ticket++)
        push(p, 0, ticket % 3 ? COMMIT_FSYNC : COMMIT_FAST, ticket);
    commit_publish(p->core[0]);
    while (commit_writer_step(p->commit)) {}
    assert_int_equal(p->store.num_rows, COMMIT_RING_CELLS);
    commit_publish(p->core[0]);
    while (commit_writer_step(p->commit)) {}
    assert_int_equal(p->store.num_rows, num_entries);
    for (size_t i = 0; i < p->store.num_rows; i++) assert_int_equal(p->store.rows[i].ticket, i + 1);
    while (commit_syncer_step(p->commit)) {}
    assert_int_equal(commit_poll(p->core[0]), num_entries);
    uint64_t last[2] = {0, 0};
    for (size_t i = 0; i < p->num_done; i++) {
        assert_true(p->done[i].ticket > last[p->done[i].class]);
        last[p->done[i].class] = p->done[i].ticket;
    }
}

static void push_is_refused_at_the_bound_and_taken_again_below_it(void **state)
{
    struct pipeline *p = *state;
    uint64_t ticket = 1;
    for (; ticket <= COMMIT_PENDING_MAX; ticket++) push(p, 0, ticket % 2 ? COMMIT_FSYNC : COMMIT_FAST, ticket);
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, ticket), STATUS_FULL);
    assert_int_equal(commit_pending(p->core[0]), COMMIT_PENDING_MAX);
    push(p, 1, COMMIT_FSYNC, 1); /* the bound is each core's own */
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    commit_syncer_step(p->commit);
    assert_true(commit_poll(p->core[0]) > 0);
    push(p, 0, COMMIT_FSYNC, ticket); /* the refused push has used no ticket */
}

static void batch_is_bounded_and_shared_fairly(void **state)
{
    struct pipeline *p = *state;
    for (uint64_t ticket = 1; ticket <= COMMIT_RING_CELLS; ticket++) push(p, 0, COMMIT_FSYNC, ticket);
    for (uint64_t ticket = 1; ticket <= 100; ticket++) push(p, 2, COMMIT_FSYNC, ticket);
    commit_publish(p->core[0]);
    commit_publish(p->core[2]);
    commit_writer_step(p->commit);
    assert_int_equal(p->store.num_rows, COMMIT_BATCH_MAX);
    assert_int_equal(atomic_load(&p->store.written[2]), 100); /* core 0's long queue leaves them room */
}

static void batch_ends_at_its_bytes_and_an_entry_above_them_goes_alone(void **state)
{
    struct pipeline *p = *state;
    char *bytes = calloc(1, COMMIT_BATCH_BYTES_MAX + 1);
    size_t len[] = {COMMIT_BATCH_BYTES_MAX / 2, COMMIT_BATCH_BYTES_MAX / 2, COMMIT_BATCH_BYTES_MAX + 1, 1, 1};
    for (uint64_t i = 0; i < 5; i++) {
        struct test_entry *t = entry_new(0, COMMIT_FSYNC, i + 1);
        t->rows[0].value = slice_of(bytes, len[i]);
        assert_int_equal(commit_push(p->core[0], &t->entry), STATUS_OK);
    }
    commit_publish(p->core[0]);
    while (commit_writer_step(p->commit)) {}
    assert_int_equal(p->store.num_writes, 4); /* the keys make two halves more than one batch */
    assert_int_equal(p->store.rows_of_write[2], 1);
    assert_int_equal(p->store.rows_of_write[3], 2);
    while (commit_syncer_step(p->commit)) {}
    assert_int_equal(poll_all(p), 5);
    free(bytes);
}

static void oldest_is_the_first_pushed_of_both_classes(void **state)
{
    struct pipeline *p = *state;
    assert_int_equal(commit_oldest_ns(p->core[0]), 0);
    p->now_ns = 5000;
    push(p, 0, COMMIT_FAST, 1);
    p->now_ns = 6000;
    push(p, 0, COMMIT_FSYNC, 2);
    assert_int_equal(commit_oldest_ns(p->core[0]), 5000);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    commit_poll(p->core[0]);
    p->now_ns = 7000;
    push(p, 0, COMMIT_FAST, 3);
    assert_int_equal(commit_oldest_ns(p->core[0]), 6000);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    commit_syncer_step(p->commit);
    commit_poll(p->core[0]);
    assert_int_equal(commit_oldest_ns(p->core[0]), 0);
}

static void advance_900_us(void *context)
{
    ((struct pipeline *)context)->now_ns += 900000;
}

static void histograms_count_by_bit_length(void **state)
{
    struct pipeline *p = *state;
    const struct commit_stats *stats = commit_stats(p->commit);
    p->store.during_sync = advance_900_us;
    for (uint64_t ticket = 1; ticket <= 5; ticket++) push(p, 0, COMMIT_FSYNC, ticket);
    p->now_ns += 200000;
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    commit_syncer_step(p->commit);
    commit_poll(p->core[0]);
    assert_int_equal(atomic_load(&stats->batch_bucket[3]), 1);    /* 4 ≤ 5 < 8 */
    assert_int_equal(atomic_load(&stats->sync_ns_bucket[10]), 1); /* 512 ≤ 900 < 1024 µs */
    assert_int_equal(atomic_load(&stats->sync_ns_sum), 900000);
    assert_int_equal(atomic_load(&stats->latency_bucket[11]), 5); /* 1024 ≤ 1100 < 2048 µs */
    assert_int_equal(atomic_load(&stats->latency_ns_sum), 5 * 1100000);
    assert_int_equal(atomic_load(&stats->latency_count), 5);
    assert_int_equal(atomic_load(&stats->syncs), 1);
}

/* --- the mark ---------------------------------------------------------------------------------------------------- */

static void commit_one(struct pipeline *p, uint64_t ticket)
{
    push(p, 0, COMMIT_FSYNC, ticket);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    commit_syncer_step(p->commit);
    commit_poll(p->core[0]);
}

static void mark_is_written_after_each_sync_but_synced_at_most_ten_times_a_second(void **state)
{
    struct pipeline *p = *state;
    for (uint64_t ticket = 1; ticket <= 100; ticket++) {
        p->now_ns += 10 * 1000000ull;
        commit_one(p, ticket);
        assert_int_equal(p->mark.written, ticket); /* one row each: the sequence number */
    }
    assert_int_equal(atomic_load(&p->mark.num_syncs), 10);
}

static void idle_syncer_syncs_the_mark_when_it_is_due(void **state)
{
    struct pipeline *p = *state;
    commit_one(p, 1);
    assert_false(commit_syncer_step(p->commit));
    p->now_ns += (MARK_SYNC_INTERVAL_MS - 1) * 1000000ull;
    assert_false(commit_syncer_step(p->commit));
    p->now_ns += 1000000ull;
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(p->mark.synced, 1);
    p->now_ns += 1000000000ull;
    assert_false(commit_syncer_step(p->commit)); /* nothing new to sync */
}

static void mark_never_claims_what_a_failed_sync_left_open(void **state)
{
    struct pipeline *p = *state;
    commit_one(p, 1);
    p->store.sync_result = STATUS_IO;
    commit_one(p, 2);
    p->now_ns += 1000000000ull;
    while (commit_syncer_step(p->commit)) {}
    assert_int_equal(p->mark.written, 1);
}

static void failed_mark_poisons_too(void **state)
{
    struct pipeline *p = *state;
    p->mark.write_result = STATUS_IO;
    commit_one(p, 1);
    assert_completed(p, 0, 1, STATUS_OK); /* it is durable: the store's sync went well */
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, 2), STATUS_READ_ONLY);
}

static void failed_mark_sync_poisons_too(void **state)
{
    struct pipeline *p = *state;
    p->mark.sync_result = STATUS_IO;
    commit_one(p, 1);
    assert_false(commit_poisoned(p->commit));
    p->now_ns += MARK_SYNC_INTERVAL_MS * 1000000ull;
    commit_syncer_step(p->commit);
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(atomic_load(&commit_stats(p->commit)->sync_errors), 1);
}

/* --- failure ----------------------------------------------------------------------------------------------------- */

static void failed_write_leaves_its_batch_unknown_and_the_rest_never_handed_over(void **state)
{
    struct pipeline *p = *state;
    uint64_t num_entries = COMMIT_RING_CELLS + 10, ticket = 1;
    for (; ticket <= num_entries; ticket++) push(p, 0, ticket % 2 ? COMMIT_FSYNC : COMMIT_FAST, ticket);
    commit_publish(p->core[0]);
    p->store.write_result = STATUS_NO_SPACE;
    assert_true(commit_writer_step(p->commit));
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, ticket), STATUS_READ_ONLY);
    assert_true(commit_pollable(p->core[0]));
    assert_int_equal(commit_poll(p->core[0]), num_entries);
    for (size_t i = 0; i < p->num_done; i++)
        assert_int_equal(p->done[i].result, p->done[i].ticket <= COMMIT_BATCH_MAX ? STATUS_UNKNOWN : STATUS_IO);
    assert_int_equal(commit_pending(p->core[0]), 0);
    assert_int_equal(p->store.num_rows, 0);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->write_errors), 1);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->latency_count), 0);
}

static void written_entries_are_unknown_when_a_later_write_fails(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    push(p, 0, COMMIT_FAST, 2);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    p->store.write_result = STATUS_IO;
    push(p, 1, COMMIT_FSYNC, 1);
    commit_publish(p->core[1]);
    commit_writer_step(p->commit);
    assert_false(commit_syncer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 2, STATUS_OK); /* fast: it is in the WAL */
    assert_completed(p, 1, 1, STATUS_UNKNOWN);
    assert_int_equal(commit_poll(p->core[1]), 1);
    assert_completed(p, 2, 1, STATUS_UNKNOWN);
}

static void failed_sync_acknowledges_nothing(void **state)
{
    struct pipeline *p = *state;
    commit_one(p, 1);
    p->store.sync_result = STATUS_IO;
    push(p, 0, COMMIT_FSYNC, 2);
    push(p, 0, COMMIT_FAST, 3);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    push(p, 0, COMMIT_FSYNC, 4); /* in the ring */
    commit_publish(p->core[0]);
    push(p, 0, COMMIT_FSYNC, 5); /* parked */
    assert_true(commit_syncer_step(p->commit));
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, 6), STATUS_READ_ONLY);
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 1, 3, STATUS_OK); /* fast: its write was shown before */
    assert_false(commit_pollable(p->core[0]));
    assert_int_equal(commit_poll(p->core[0]), 0); /* the writer may still hold the entries */
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 3);
    assert_completed(p, 2, 2, STATUS_UNKNOWN);
    assert_completed(p, 3, 4, STATUS_IO);
    assert_completed(p, 4, 5, STATUS_IO);
    assert_int_equal(p->store.num_rows, 3);
}

static void poisoned_pipeline_stays_frozen(void **state)
{
    struct pipeline *p = *state;
    p->store.sync_result = STATUS_IO;
    commit_one(p, 1);
    p->store.sync_result = STATUS_OK; /* the kernel may well say so the second time */
    while (commit_writer_step(p->commit)) {}
    assert_false(commit_syncer_step(p->commit));
    assert_int_equal(p->store.num_syncs, 0);
    assert_int_equal(poll_all(p), 1);
    assert_completed(p, 0, 1, STATUS_UNKNOWN);
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, 2), STATUS_READ_ONLY);
    assert_false(commit_writer_step(p->commit));
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(p->mark.num_writes, 0);
}

static void fail_sync_in_between(void *context)
{
    struct pipeline *p = context;
    p->store.during_write = NULL;
    p->store.sync_result = STATUS_IO;
    assert_true(commit_syncer_step(p->commit));
}

/* The sync of the first write fails while the second write is under way: that write is not shown, not even as fast. */
static void write_that_ends_after_a_failed_sync_is_not_published(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    p->store.during_write = fail_sync_in_between;
    push(p, 0, COMMIT_FAST, 2);
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 1, STATUS_UNKNOWN);
    assert_completed(p, 1, 2, STATUS_UNKNOWN);
}

static void fail_write_in_between(void *context)
{
    struct pipeline *p = context;
    p->store.during_sync = NULL;
    p->store.write_result = STATUS_IO;
    push(p, 0, COMMIT_FSYNC, 2);
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
}

static void sync_that_ends_after_a_failed_write_is_not_published(void **state)
{
    struct pipeline *p = *state;
    p->store.during_sync = fail_write_in_between;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 1, STATUS_UNKNOWN);
    assert_completed(p, 1, 2, STATUS_UNKNOWN);
    assert_int_equal(p->mark.num_writes, 0);
}

static void sleeping_cores_are_woken_by_a_failure(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    p->store.sync_result = STATUS_IO;
    commit_syncer_step(p->commit);
    assert_int_equal(woken_by(p, commit_writer_step, 2), 1); /* all of them: their admission changes too */
}

/* --- with threads ------------------------------------------------------------------------------------------------ */

static void gate_wait_entered(struct gate *g, unsigned n)
{
    pthread_mutex_lock(&g->lock);
    while (g->entered < n) pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void gate_allow(struct gate *g, unsigned n)
{
    pthread_mutex_lock(&g->lock);
    g->allowed = n;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

/* wait_pollable sleeps as a core does; fails the test when nothing comes for 20 s. */
static void wait_pollable(struct pipeline *p, unsigned core)
{
    for (unsigned i = 0; i < 200 && !commit_pollable(p->core[core]); i++) {
        park_prepare(&p->wake[core]);
        if (!commit_pollable(p->core[core])) park_block(&p->wake[core], 100000000);
        park_done(&p->wake[core]);
    }
    assert_true(commit_pollable(p->core[core]));
}

static void next_batch_is_written_while_a_sync_blocks(void **state)
{
    struct pipeline *p = *state;
    p->store.sync_gate = &p->gate;
    assert_int_equal(commit_start_threads(p->commit), STATUS_OK);
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    gate_wait_entered(&p->gate, 1);
    push(p, 0, COMMIT_FAST, 2);
    push(p, 0, COMMIT_FSYNC, 3);
    commit_publish(p->core[0]);
    wait_pollable(p, 0); /* the fast entry: written although the sync blocks */
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 0, 2, STATUS_OK);
    gate_allow(&p->gate, 1);
    wait_pollable(p, 0);
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 1, 1, STATUS_OK);
    gate_wait_entered(&p->gate, 2);
    assert_false(commit_pollable(p->core[0])); /* the third waits for a sync that began after its write */
    gate_allow(&p->gate, 100);
    wait_pollable(p, 0);
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 2, 3, STATUS_OK);
    commit_stop_threads(p->commit);
}

static void stop_finishes_what_was_published_and_syncs_the_mark(void **state)
{
    struct pipeline *p = *state;
    assert_int_equal(commit_start_threads(p->commit), STATUS_OK);
    for (uint64_t ticket = 1; ticket <= 5000; ticket++) push(p, 0, COMMIT_FSYNC, ticket);
    commit_publish(p->core[0]);
    commit_stop_threads(p->commit);
    assert_int_equal(commit_poll(p->core[0]), 5000);
    assert_int_equal(p->mark.synced, 5000);
    commit_stop_threads(p->commit); /* a second stop finds nothing to end */
}

static void threads_sync_fast_entries_without_new_work(void **state)
{
    struct pipeline *p = *state;
    assert_int_equal(commit_start_threads(p->commit), STATUS_OK);
    for (uint64_t ticket = 1; ticket <= 3; ticket++) {
        push(p, 0, COMMIT_FAST, ticket);
        commit_publish(p->core[0]);
        wait_pollable(p, 0);
        commit_poll(p->core[0]);
        for (unsigned i = 0; i < 2000 && atomic_load(&p->store.synced[0]) != ticket; i++)
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        assert_int_equal(atomic_load(&p->store.synced[0]), ticket);
    }
    push(p, 0, COMMIT_FAST, 4);
    commit_publish(p->core[0]);
    commit_stop_threads(p->commit); /* which does not wait for its time */
    assert_int_equal(atomic_load(&p->store.synced[0]), 4);
}

static void idle_threads_sync_the_mark_without_new_work(void **state)
{
    struct pipeline *p = *state;
    assert_int_equal(commit_start_threads(p->commit), STATUS_OK);
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    wait_pollable(p, 0);
    commit_poll(p->core[0]);
    for (unsigned i = 0; i < 2000 && atomic_load(&p->mark.num_syncs) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_int_equal(atomic_load(&p->mark.num_syncs), 1);
    commit_stop_threads(p->commit);
    assert_int_equal(p->mark.synced, 1);
    assert_int_equal(atomic_load(&p->mark.num_syncs), 1); /* stopping found nothing left to sync */
}

static void threads_call_back_everything_after_a_failed_sync(void **state)
{
    struct pipeline *p = *state;
    p->store.sync_gate = &p->gate;
    p->store.sync_result = STATUS_IO;
    assert_int_equal(commit_start_threads(p->commit), STATUS_OK);
    for (uint64_t ticket = 1; ticket <= 100; ticket++) push(p, 0, COMMIT_FSYNC, ticket);
    commit_publish(p->core[0]);
    gate_allow(&p->gate, 1);
    while (commit_pending(p->core[0])) {
        wait_pollable(p, 0);
        commit_poll(p->core[0]);
    }
    assert_int_equal(p->num_done, 100);
    for (size_t i = 0; i < 100; i++) assert_int_not_equal(p->done[i].result, STATUS_OK);
    commit_stop_threads(p->commit);
    assert_int_equal(p->mark.num_writes, 0);
}

#define ENTRIES_PER_CORE 20000u

/* One core of the load test: keeps a changing number of entries open, sleeps when there is nothing to do, and looks at
 * the store inside each `done`. */
struct load_core {
    struct park wake;
    struct pipeline *pipeline;
    struct commit_core *end;
    unsigned core;
    uint64_t num_done, last_done[2], num_broken;
};

static void load_done(void *context, struct commit_entry *e, enum status result)
{
    struct load_core *l = context;
    struct script_kv *store = &l->pipeline->store;
    uint64_t reached = atomic_load(e->class == COMMIT_FAST ? &store->written[l->core] : &store->synced[l->core]);
    if (result != STATUS_OK || reached < e->ticket || e->ticket <= l->last_done[e->class]) l->num_broken++;
    l->last_done[e->class] = e->ticket;
    l->num_done++;
    free(CONTAINER_OF(e, struct test_entry, entry));
}

static void *load_main(void *argument)
{
    struct load_core *l = argument;
    uint64_t pushed = 0, random = l->core + 1;
    while (l->num_done < ENTRIES_PER_CORE) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t burst = random >> 54; /* 0 … 1023 entries a turn */
        for (; burst && pushed < ENTRIES_PER_CORE && commit_pending(l->end) < (size_t)2 * COMMIT_RING_CELLS; burst--) {
            struct test_entry *t = entry_new(l->core, (random >> (burst % 32)) & 1, ++pushed);
            t->entry.done = load_done;
            if (commit_push(l->end, &t->entry) != STATUS_OK) abort();
        }
        commit_publish(l->end);
        if (commit_poll(l->end) || pushed < ENTRIES_PER_CORE) continue;
        park_prepare(&l->wake);
        if (!commit_pollable(l->end)) park_block(&l->wake, UINT64_MAX);
        park_done(&l->wake);
    }
    return NULL;
}

static void cores_under_load_see_every_entry_once_in_order_and_durable(void **state)
{
    struct pipeline *p = *state;
    struct commit *commit;
    struct commit_config config = {&p->store.kv, &p->mark.mark, clock_real(), NULL, NULL, CORES, 0, 0};
    struct load_core load[CORES];
    pthread_t threads[CORES];
    assert_int_equal(commit_open(&commit, &config), STATUS_OK);
    assert_int_equal(commit_start_threads(commit), STATUS_OK);
    for (unsigned core = 0; core < CORES; core++) {
        load[core] = (struct load_core){.pipeline = p, .core = core};
        assert_int_equal(park_init(&load[core].wake, NULL, NULL), STATUS_OK);
        load[core].end = commit_core_open(commit, core, &load[core].wake, &load[core]);
        assert_int_equal(pthread_create(&threads[core], NULL, load_main, &load[core]), 0);
    }
    for (unsigned core = 0; core < CORES; core++) pthread_join(threads[core], NULL);
    commit_stop_threads(commit);
    for (unsigned core = 0; core < CORES; core++) {
        assert_int_equal(load[core].num_done, ENTRIES_PER_CORE);
        assert_int_equal(load[core].num_broken, 0);
        park_close(&load[core].wake);
    }
    uint64_t next[CORES] = {1, 1, 1};
    for (size_t i = 0; i < p->store.num_rows; i++)
        assert_int_equal(p->store.rows[i].ticket, next[p->store.rows[i].core]++);
    assert_int_equal(p->store.num_rows, CORES * ENTRIES_PER_CORE);
    assert_int_equal(p->mark.synced, CORES * ENTRIES_PER_CORE);
    assert_int_equal(atomic_load(&commit_stats(commit)->latency_count), CORES * ENTRIES_PER_CORE);
    commit_close(commit);
}

#define STEP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_steps, tear_down)
#define THREAD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_threads, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEP_TEST(entry_completes_only_after_write_and_sync),
        STEP_TEST(tickets_count_each_core_from_one_and_complete_in_order),
        STEP_TEST(all_cores_share_one_batch),
        STEP_TEST(rows_of_each_kind_reach_the_store_in_their_order),
        STEP_TEST(sync_covers_only_what_was_written_before_it_began),
        STEP_TEST(fast_entry_completes_at_the_write),
        STEP_TEST(fast_entries_share_a_sync_that_comes_in_its_time),
        STEP_TEST(sync_that_somebody_waits_for_does_not_wait),
        STEP_TEST(core_is_woken_once_by_what_it_waits_for),
        STEP_TEST(full_ring_parks_entries_which_follow_in_order),
        STEP_TEST(push_is_refused_at_the_bound_and_taken_again_below_it),
        STEP_TEST(batch_is_bounded_and_shared_fairly),
        STEP_TEST(batch_ends_at_its_bytes_and_an_entry_above_them_goes_alone),
        STEP_TEST(oldest_is_the_first_pushed_of_both_classes),
        STEP_TEST(histograms_count_by_bit_length),
        STEP_TEST(mark_is_written_after_each_sync_but_synced_at_most_ten_times_a_second),
        STEP_TEST(idle_syncer_syncs_the_mark_when_it_is_due),
        STEP_TEST(mark_never_claims_what_a_failed_sync_left_open),
        STEP_TEST(failed_mark_poisons_too),
        STEP_TEST(failed_mark_sync_poisons_too),
        STEP_TEST(failed_write_leaves_its_batch_unknown_and_the_rest_never_handed_over),
        STEP_TEST(written_entries_are_unknown_when_a_later_write_fails),
        STEP_TEST(failed_sync_acknowledges_nothing),
        STEP_TEST(poisoned_pipeline_stays_frozen),
        STEP_TEST(write_that_ends_after_a_failed_sync_is_not_published),
        STEP_TEST(sync_that_ends_after_a_failed_write_is_not_published),
        STEP_TEST(sleeping_cores_are_woken_by_a_failure),
        THREAD_TEST(next_batch_is_written_while_a_sync_blocks),
        THREAD_TEST(stop_finishes_what_was_published_and_syncs_the_mark),
        THREAD_TEST(threads_sync_fast_entries_without_new_work),
        THREAD_TEST(idle_threads_sync_the_mark_without_new_work),
        THREAD_TEST(threads_call_back_everything_after_a_failed_sync),
        THREAD_TEST(cores_under_load_see_every_entry_once_in_order_and_durable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
