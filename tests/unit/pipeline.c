#include "pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/base/limits.h"
#include "../../src/base/spsc.h"

/* --- the store --------------------------------------------------------------------------------------------------- */

struct kv_batch {
    struct script_row *rows;
    size_t num_rows, cap;
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

/* --- the mark, clock and parks ----------------------------------------------------------------------------------- */

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

/* --- the pipeline ------------------------------------------------------------------------------------------------ */

static void note_done(void *context, struct commit_entry *e, enum status result)
{
    struct end *end = context;
    struct pipeline *p = end->pipeline;
    p->done[p->num_done++] = (struct completion){end->core, e->ticket, e->class, result};
    free(CONTAINER_OF(e, struct test_entry, entry));
}

struct test_entry *entry_new(unsigned core, enum commit_class class, uint64_t ticket)
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

enum status push_one(struct pipeline *p, unsigned core, enum commit_class class, uint64_t ticket)
{
    struct test_entry *t = entry_new(core, class, ticket);
    enum status s = commit_push(p->core[core], &t->entry);
    if (s != STATUS_OK)
        free(t);
    else
        assert_int_equal(t->entry.ticket, ticket);
    return s;
}

void push(struct pipeline *p, unsigned core, enum commit_class class, uint64_t ticket)
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

int set_up_steps(void **state)
{
    return set_up_with(state, &counting_park);
}
int set_up_threads(void **state)
{
    return set_up_with(state, NULL);
}

int tear_down(void **state)
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

void assert_completed(const struct pipeline *p, size_t at, uint64_t ticket, enum status result)
{
    assert_true(at < p->num_done);
    assert_int_equal(p->done[at].ticket, ticket);
    assert_int_equal(p->done[at].result, result);
}

unsigned poll_all(struct pipeline *p)
{
    unsigned n = 0;
    for (unsigned core = 0; core < CORES; core++) n += commit_poll(p->core[core]);
    return n;
}

unsigned woken_by(struct pipeline *p, bool (*step)(struct commit *), unsigned core)
{
    park_prepare(&p->wake[core]);
    p->woken[core] = 0;
    step(p->commit);
    park_done(&p->wake[core]);
    return p->woken[core];
}
