#define _GNU_SOURCE /* pthread_setname_np, SCHED_BATCH */
#include "commit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../src/base/log.h"
#include "../src/base/planted.h"
#include "../src/base/probe.h"
#include "../src/base/spsc.h"

#define MARK_SYNC_INTERVAL_NS (MARK_SYNC_INTERVAL_MS * 1000000ull)
#define FAST_SYNC_DELAY_NS (FAST_SYNC_DELAY_MS * 1000000ull)
#define COMMIT_CLASSES 2u

/* commit_core: what only the pushing core touches.
 *
 *   pending[class]:  done ◀── [in the store] ── [in the ring] ── [parked in front of the full ring]
 *                      head                                        ▲ parked[class]
 *
 * The ring takes both classes in ticket order, so that one number says how far the writer is. */
struct commit_core {
    struct commit *commit;
    struct lane *lane;
    void *done_context;
    uint64_t last_ticket;
    struct queue pending[COMMIT_CLASSES];
    struct commit_entry *parked[COMMIT_CLASSES]; /* first entry of the class that is not in the ring; NULL: none */
};

/* lane: one core's way through the pipeline. What different threads write stands on different cache lines. */
struct lane {
    struct spsc ring; /* core → writer: word 0 is the entry's address */
    _Alignas(CACHE_LINE) struct commit_core core;
    _Alignas(CACHE_LINE) _Atomic(struct park *) wake; /* NULL before commit_core_open */

    /* Private to the writer. */
    _Alignas(CACHE_LINE) uint64_t taken; /* last ticket copied into a batch */
    uint64_t taken_fsync;                /* last ticket of class fsync among them */
    uint64_t handed; /* last ticket given to kv_write; the core reads it once the pipeline is settled */
    bool has_fast;   /* the batch holds an entry of class fast */

    /* Published by the writer: every ticket up to `written` is in the WAL. */
    _Alignas(CACHE_LINE) _Atomic uint64_t written;
    _Atomic uint64_t written_fsync;

    /* Published by the syncer: every ticket up to `durable` is on disk. */
    _Alignas(CACHE_LINE) _Atomic uint64_t durable;

    /* Private to the syncer: what was written when the sync under way began. */
    _Alignas(CACHE_LINE) uint64_t covered;
};

struct commit {
    struct kv *kv;
    struct mark *mark;
    const struct clock *clock;
    unsigned num_cores;
    uint32_t pending_max;

    /* `poisoned` stops writer and syncer. `settled` follows from the writer: it will never again touch an entry or
     * the store, so the cores may call back what is open. */
    _Alignas(CACHE_LINE) _Atomic bool poisoned;
    _Atomic bool settled;

    _Alignas(CACHE_LINE) struct park writer_park;
    _Alignas(CACHE_LINE) struct park syncer_park;

    /* Private to the writer: the batch under construction. */
    _Alignas(CACHE_LINE) struct kv_batch *batch;
    size_t batch_entries, batch_rows, batch_bytes;
    unsigned first_core; /* where the next batch begins to gather */

    /* Published by the writer: batches whose write has begun; then, `writes` last, those that are written. */
    _Alignas(CACHE_LINE) _Atomic uint64_t begun;
    _Atomic uint64_t writes;
    _Atomic uint64_t sequence; /* kv_sequence after the last write */

    /* Published by the syncer: batches that are on disk. */
    _Alignas(CACHE_LINE) _Atomic uint64_t synced;

    /* Private to the syncer. */
    _Alignas(CACHE_LINE) uint64_t synced_writes;
    uint64_t unsynced_ns;    /* when it first saw a write that nobody waits for; 0: none since the last sync */
    uint64_t mark_synced_ns; /* when the mark was last synced, or the pipeline opened */
    bool mark_dirty;         /* written since */

    bool running; /* the threads exist; private to who starts and stops them */
    pthread_t writer_thread, syncer_thread;
    _Atomic bool stopping, writer_ended;

    _Alignas(CACHE_LINE) struct commit_stats stats;
    struct lane lanes[];
};

/* poll_tally collects what one commit_poll adds to the shared statistics, so that each counter is touched once. */
struct poll_tally {
    uint64_t now_ns, latency_ns_sum;
    uint32_t num_entries;
    uint32_t latency_bucket[COMMIT_BUCKETS];
};

static struct commit_entry *entry_of(struct queue_node *node);
static struct commit_entry *first_parked(const struct commit_core *cc);
static bool head_reached(const struct commit_core *cc, enum commit_class class, uint64_t ticket);
static void complete_reached(struct commit_core *cc, uint64_t durable, uint64_t written, struct poll_tally *tally);
static unsigned fail_open_entries(struct commit_core *cc);
static void tally_add(struct commit_stats *stats, const struct poll_tally *tally);
static bool gather_batch(struct commit *c);
static bool take_entries(struct commit *c, struct lane *lane, unsigned num_max);
static void take_entry(struct commit *c, struct lane *lane, const struct commit_entry *e, size_t entry_bytes);
static size_t entry_bytes_of(const struct commit_entry *e);
static void note_handed(struct commit *c);
static void publish_written(struct commit *c);
static void wake_syncer(struct commit *c);
static void publish_durable(struct lane *lane, uint64_t ticket, bool wake);
static bool sync_due(struct commit *c, uint64_t writes);
static bool sync_awaited(const struct commit *c);
static bool sync_store(struct commit *c, uint64_t writes);
static void raise_mark(struct commit *c, uint64_t sequence);
static bool mark_due(const struct commit *c);
static void sync_mark(struct commit *c);
static void poison(struct commit *c, const char *cause, enum status result);
static void settle(struct commit *c);
static void wake_lane(struct lane *lane);
static void *writer_main(void *argument);
static void *syncer_main(void *argument);
static bool writer_has_work(struct commit *c);
static bool syncer_has_work(struct commit *c);
static uint64_t syncer_timeout_ns(const struct commit *c);
static void set_up_thread(const char *name);
static unsigned bucket_of(uint64_t v);
static void add(_Atomic uint64_t *counter, uint64_t v);
static bool is_set(const _Atomic bool *flag);

/* --- opening and closing ---------------------------------------------------------------------------------------- */

enum status commit_open(struct commit **out, const struct commit_config *config)
{
    ASSERT(config->num_cores >= 1 && config->num_cores <= CORES_MAX);
    size_t bytes = sizeof(struct commit) + config->num_cores * sizeof(struct lane);
    struct commit *c = aligned_alloc(CACHE_LINE, bytes);
    if (!c) return STATUS_NO_MEMORY;
    memset(c, 0, bytes);
    c->kv = config->kv;
    c->mark = config->mark;
    c->clock = config->clock;
    c->num_cores = config->num_cores;
    c->pending_max = config->pending_max ? config->pending_max : COMMIT_PENDING_MAX;
    c->mark_synced_ns = clock_mono_ns(c->clock);
    c->writer_park.fd = c->syncer_park.fd = -1;
    enum status s = park_init(&c->writer_park, config->park_ops, config->park_context);
    if (s == STATUS_OK) s = park_init(&c->syncer_park, config->park_ops, config->park_context);
    for (unsigned core = 0; s == STATUS_OK && core < c->num_cores; core++)
        s = spsc_init(&c->lanes[core].ring, config->ring_cells ? config->ring_cells : COMMIT_RING_CELLS);
    if (s == STATUS_OK && !(c->batch = kv_batch_new(c->kv))) s = STATUS_NO_MEMORY;
    if (s != STATUS_OK) {
        commit_close(c);
        return s;
    }
    *out = c;
    return STATUS_OK;
}

void commit_close(struct commit *c)
{
    if (!c) return;
    ASSERT(!c->running);
    if (c->batch) c->kv->ops->batch_free(c->batch);
    for (unsigned core = 0; core < c->num_cores; core++) spsc_free(&c->lanes[core].ring);
    park_close(&c->syncer_park);
    park_close(&c->writer_park);
    free(c);
}

struct commit_core *commit_core_open(struct commit *c, unsigned core, struct park *wake, void *done_context)
{
    ASSERT(core < c->num_cores && wake);
    struct lane *lane = &c->lanes[core];
    ASSERT(!atomic_load_explicit(&lane->wake, memory_order_relaxed));
    lane->core = (struct commit_core){.commit = c, .lane = lane, .done_context = done_context};
    atomic_store_explicit(&lane->wake, wake, memory_order_release);
    return &lane->core;
}

/* --- the core's side -------------------------------------------------------------------------------------------- */

enum status commit_push(struct commit_core *cc, struct commit_entry *e)
{
    ASSERT(e->class == COMMIT_FSYNC || e->class == COMMIT_FAST);
    ASSERT((e->num_rows == 0 || e->rows) && e->done);
    if (commit_poisoned(cc->commit)) return STATUS_READ_ONLY;
    if (commit_full(cc)) return STATUS_FULL;
    e->ticket = ++cc->last_ticket;
    e->pushed_ns = clock_mono_ns(cc->commit->clock);
    e->_handed = false;
    queue_push(&cc->pending[e->class], &e->_node);
    if (!cc->parked[e->class]) cc->parked[e->class] = e;
    return STATUS_OK;
}

void commit_publish(struct commit_core *cc)
{
    if (commit_poisoned(cc->commit)) return; /* nobody reads the ring any more; commit_poll calls the entries back */
    struct commit_entry *e;
    while ((e = first_parked(cc)) != NULL) {
        struct spsc_cell cell = {0};
        memcpy(cell.word, &e, sizeof(void *));
        /* A full ring needs no wake-up of its own: what fills it completes later, and that wakes this core. */
        if (spsc_push(&cc->lane->ring, &cell) == STATUS_FULL && !PLANTED(entry_lost_at_full_ring)) break;
        e->_handed = true;
        cc->parked[e->class] = entry_of(e->_node.next);
    }
    if (spsc_publish(&cc->lane->ring) && !PLANTED(writer_not_woken)) park_wake(&cc->commit->writer_park);
}

unsigned commit_poll(struct commit_core *cc)
{
    if (!commit_pollable(cc)) return 0;
    /* `settled` is read first: once it is seen, `written` is final and an OK is never given away as UNKNOWN. */
    bool settled = is_set(&cc->commit->settled);
    uint64_t durable = atomic_load_explicit(&cc->lane->durable, memory_order_acquire);
    uint64_t written = atomic_load_explicit(&cc->lane->written, memory_order_acquire);
    struct poll_tally tally = {.now_ns = clock_mono_ns(cc->commit->clock)};
    complete_reached(cc, durable, written, &tally);
    if (tally.num_entries) tally_add(&cc->commit->stats, &tally);
    return tally.num_entries + (settled ? fail_open_entries(cc) : 0);
}

bool commit_pollable(struct commit_core *cc)
{
    if (commit_pending(cc) == 0) return false;
    return head_reached(cc, COMMIT_FSYNC, atomic_load_explicit(&cc->lane->durable, memory_order_acquire)) ||
           head_reached(cc, COMMIT_FAST, atomic_load_explicit(&cc->lane->written, memory_order_acquire)) ||
           is_set(&cc->commit->settled);
}

size_t commit_pending(const struct commit_core *cc)
{
    return cc->pending[COMMIT_FSYNC].len + cc->pending[COMMIT_FAST].len;
}

bool commit_full(const struct commit_core *cc)
{
    return commit_pending(cc) >= cc->commit->pending_max;
}

uint64_t commit_oldest_ns(const struct commit_core *cc)
{
    uint64_t oldest_ns = UINT64_MAX;
    for (unsigned i = 0; i < COMMIT_CLASSES; i++) {
        const struct commit_entry *head = entry_of(cc->pending[i].head);
        if (head && head->pushed_ns < oldest_ns) oldest_ns = head->pushed_ns;
    }
    return oldest_ns == UINT64_MAX ? 0 : oldest_ns;
}

bool commit_poisoned(const struct commit *c)
{
    return is_set(&c->poisoned);
}

bool commit_all_durable(const struct commit *c)
{
    uint64_t begun = atomic_load_explicit(&c->begun, memory_order_seq_cst);
    return atomic_load_explicit(&c->synced, memory_order_acquire) >= begun;
}

const struct commit_stats *commit_stats(const struct commit *c)
{
    return &c->stats;
}

static struct commit_entry *entry_of(struct queue_node *node)
{
    return node ? CONTAINER_OF(node, struct commit_entry, _node) : NULL;
}

/* first_parked returns the parked entry with the lowest ticket of both classes, or NULL. */
static struct commit_entry *first_parked(const struct commit_core *cc)
{
    struct commit_entry *fsync = cc->parked[COMMIT_FSYNC], *fast = cc->parked[COMMIT_FAST];
    if (!fsync || !fast) return fsync ? fsync : fast;
    return fsync->ticket < fast->ticket ? fsync : fast;
}

static bool head_reached(const struct commit_core *cc, enum commit_class class, uint64_t ticket)
{
    const struct commit_entry *head = entry_of(cc->pending[class].head);
    return head && head->ticket <= ticket;
}

/* complete_reached calls back with STATUS_OK what is durable or, of class fast, written; where both classes have got
 * that far, in the order of their tickets: a room whose class has just changed still sees its events in order. The
 * entry leaves the queue first: its `done` may free it, or push again. */
static void complete_reached(struct commit_core *cc, uint64_t durable, uint64_t written, struct poll_tally *tally)
{
    for (;;) {
        bool fsync = head_reached(cc, COMMIT_FSYNC, durable), fast = head_reached(cc, COMMIT_FAST, written);
        if (!fsync && !fast) return;
        if (fsync && fast)
            fast = entry_of(cc->pending[COMMIT_FAST].head)->ticket < entry_of(cc->pending[COMMIT_FSYNC].head)->ticket;
        struct commit_entry *e = entry_of(queue_pop(&cc->pending[fast ? COMMIT_FAST : COMMIT_FSYNC]));
        ASSERT(e->_handed);
        uint64_t latency_ns = tally->now_ns - e->pushed_ns;
        tally->latency_ns_sum += latency_ns;
        tally->latency_bucket[bucket_of(latency_ns / 1000)]++;
        tally->num_entries++;
        e->done(cc->done_context, e, STATUS_OK);
    }
}

/* fail_open_entries calls back everything that is still open in a settled pipeline. New pushes are refused by then, so
 * the loop ends. */
static unsigned fail_open_entries(struct commit_core *cc)
{
    unsigned num_failed = 0;
    for (unsigned i = 0; i < COMMIT_CLASSES; i++) {
        cc->parked[i] = NULL;
        while (cc->pending[i].head) {
            struct commit_entry *e = entry_of(queue_pop(&cc->pending[i]));
            num_failed++;
            e->done(cc->done_context, e, e->ticket <= cc->lane->handed ? STATUS_UNKNOWN : STATUS_IO);
        }
    }
    return num_failed;
}

static void tally_add(struct commit_stats *stats, const struct poll_tally *tally)
{
    add(&stats->latency_ns_sum, tally->latency_ns_sum);
    add(&stats->latency_count, tally->num_entries);
    for (unsigned b = 0; b < COMMIT_BUCKETS; b++)
        if (tally->latency_bucket[b]) add(&stats->latency_bucket[b], tally->latency_bucket[b]);
}

/* --- the writer ------------------------------------------------------------------------------------------------- */

bool commit_writer_step(struct commit *c)
{
    if (is_set(&c->settled)) return false;
    if (is_set(&c->poisoned)) {
        settle(c);
        return true;
    }
    if (!gather_batch(c)) return false;
    note_handed(c);
    if (PLANTED(fast_before_write)) publish_written(c);
    atomic_fetch_add_explicit(&c->begun, 1, memory_order_seq_cst); /* before any row of it can be read */
    enum status s = c->batch_rows ? kv_write(c->kv, c->batch) : STATUS_OK;
    if (!PLANTED(batch_written_again)) c->kv->ops->batch_clear(c->batch);
    if (s != STATUS_OK && !PLANTED(failed_write_is_good)) {
        add(&c->stats.write_errors, 1);
        poison(c, "write", s);
    }
    /* Also when the syncer failed meanwhile: what this batch wrote will never be synced, so it is not shown either. */
    if (is_set(&c->poisoned))
        settle(c);
    else
        publish_written(c);
    return true;
}

/* gather_batch copies entries of all cores into the batch: in turns of an equal share each, so that a core with a long
 * queue takes only the room that the others leave; the rotating start is fair when the bytes run out first. */
static bool gather_batch(struct commit *c)
{
    c->batch_entries = c->batch_rows = c->batch_bytes = 0;
    unsigned share = COMMIT_BATCH_MAX / c->num_cores;
    bool more = true;
    while (more) {
        more = false;
        for (unsigned i = 0; i < c->num_cores; i++)
            more |= take_entries(c, &c->lanes[(c->first_core + i) % c->num_cores], share);
    }
    for (unsigned core = 0; core < c->num_cores; core++) spsc_release(&c->lanes[core].ring);
    if (++c->first_core == c->num_cores) c->first_core = 0;
    return c->batch_entries > 0;
}

/* take_entries takes at most num_max entries of one core; returns whether there may be more that fit. */
static bool take_entries(struct commit *c, struct lane *lane, unsigned num_max)
{
    for (unsigned n = 0; n < num_max; n++) {
        struct spsc_cell *cell = spsc_peek(&lane->ring);
        if (!cell || c->batch_entries == COMMIT_BATCH_MAX) return false;
        const struct commit_entry *e;
        memcpy(&e, cell->word, sizeof(void *));
        size_t entry_bytes = entry_bytes_of(e);
        /* An entry above the bound goes alone: it was admitted, and rows of one entry are never split. */
        if (c->batch_entries > 0 && c->batch_bytes + entry_bytes > COMMIT_BATCH_BYTES_MAX) return false;
        take_entry(c, lane, e, entry_bytes);
        spsc_pop(&lane->ring);
    }
    return true;
}

static void take_entry(struct commit *c, struct lane *lane, const struct commit_entry *e, size_t entry_bytes)
{
    ASSERT(e->ticket == lane->taken + 1); /* no entry is lost or overtaken between core and writer */
    for (uint32_t i = 0; i < e->num_rows; i++) {
        const struct commit_row *row = &e->rows[i];
        if (PLANTED(entry_split) && i == 0 && e->num_rows > 2) continue;
        ASSERT(row->cf < KV_CFS);
        switch ((enum commit_row_op)row->op) {
        case COMMIT_PUT: c->kv->ops->batch_put(c->batch, row->cf, row->key, row->value); continue;
        case COMMIT_DELETE: c->kv->ops->batch_delete(c->batch, row->cf, row->key); continue;
        case COMMIT_DELETE_RANGE: c->kv->ops->batch_delete_range(c->batch, row->cf, row->key, row->value); continue;
        }
        UNREACHABLE();
    }
    lane->taken = e->ticket;
    if (e->class == COMMIT_FSYNC)
        lane->taken_fsync = e->ticket;
    else
        lane->has_fast = true;
    c->batch_entries++;
    c->batch_rows += e->num_rows;
    c->batch_bytes += entry_bytes;
}

static size_t entry_bytes_of(const struct commit_entry *e)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < e->num_rows; i++) bytes += e->rows[i].key.len + e->rows[i].value.len;
    return bytes;
}

/* note_handed draws the line between IO and UNKNOWN: from here on the batch may exist in the store, whatever kv_write
 * answers. */
static void note_handed(struct commit *c)
{
    for (unsigned core = 0; core < c->num_cores; core++) c->lanes[core].handed = c->lanes[core].taken;
}

/* publish_written shows the batch to the syncer and to cores that wait for fast entries. The entries may be gone as
 * soon as `written` is stored: nothing here reads them. */
static void publish_written(struct commit *c)
{
    probe_written(c->batch_entries, c->batch_bytes);
    add(&c->stats.batches, 1);
    add(&c->stats.entries, c->batch_entries);
    add(&c->stats.rows, c->batch_rows);
    add(&c->stats.bytes, c->batch_bytes);
    add(&c->stats.batch_bucket[bucket_of(c->batch_entries)], 1);
    atomic_store_explicit(&c->sequence, kv_sequence(c->kv), memory_order_release);
    for (unsigned core = 0; core < c->num_cores; core++) {
        struct lane *lane = &c->lanes[core];
        atomic_store_explicit(&lane->written_fsync, lane->taken_fsync, memory_order_relaxed);
        atomic_store_explicit(&lane->written, lane->taken, memory_order_release);
        if (PLANTED(ack_before_sync)) publish_durable(lane, lane->taken, true);
    }
    atomic_fetch_add_explicit(&c->writes, 1, memory_order_release);
    /* Whoever can be answered now first: on a CPU that they share, the syncer would go before the cores. */
    for (unsigned core = 0; core < c->num_cores; core++) {
        if (c->lanes[core].has_fast) wake_lane(&c->lanes[core]);
        c->lanes[core].has_fast = false;
    }
    wake_syncer(c);
}

/* wake_syncer lets it sleep while nobody waits and it already knows of an unsynced write, whose time it waits for. The
 * fence is one half of a pair, park_prepare's the other: either the syncer sees this write before it sleeps without a
 * limit, or the writer sees that it had synced all before. */
static void wake_syncer(struct commit *c)
{
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t others = atomic_load_explicit(&c->writes, memory_order_relaxed) - 1;
    bool known = atomic_load_explicit(&c->synced, memory_order_acquire) < others;
    if (!known || sync_awaited(c)) park_wake(&c->syncer_park);
}

static void publish_durable(struct lane *lane, uint64_t ticket, bool wake)
{
    atomic_store_explicit(&lane->durable, ticket, memory_order_release);
    if (wake) wake_lane(lane);
}

/* --- the syncer ------------------------------------------------------------------------------------------------- */

bool commit_syncer_step(struct commit *c)
{
    if (is_set(&c->poisoned)) return false;
    uint64_t writes = atomic_load_explicit(&c->writes, memory_order_acquire);
    if (writes != c->synced_writes && !c->unsynced_ns) c->unsynced_ns = clock_mono_ns(c->clock);
    if (sync_due(c, writes)) return sync_store(c, writes);
    if (!mark_due(c)) return false;
    sync_mark(c);
    return true;
}

/* sync_due: what somebody waits for is synced at once. What is all of class fast was answered when it was written: its
 * sync may come FAST_SYNC_DELAY_MS later and cover more, instead of one sync a batch, which costs the CPU more than the
 * batch itself. At the end nothing more comes that could be gathered. */
static bool sync_due(struct commit *c, uint64_t writes)
{
    if (writes == c->synced_writes) return false;
    if (sync_awaited(c) || is_set(&c->writer_ended)) return true;
    return c->unsynced_ns && clock_mono_ns(c->clock) - c->unsynced_ns >= FAST_SYNC_DELAY_NS;
}

static bool sync_awaited(const struct commit *c)
{
    for (unsigned core = 0; core < c->num_cores; core++) {
        const struct lane *lane = &c->lanes[core];
        uint64_t durable = atomic_load_explicit(&lane->durable, memory_order_relaxed);
        if (atomic_load_explicit(&lane->written_fsync, memory_order_acquire) > durable) return true;
    }
    return false;
}

/* sync_store makes durable what was written before it began, and only that: tickets and sequence are read before
 * kv_sync, for a write that comes during the sync may or may not be covered by it. Returns true. */
static bool sync_store(struct commit *c, uint64_t writes)
{
    for (unsigned core = 0; core < c->num_cores; core++)
        c->lanes[core].covered = atomic_load_explicit(&c->lanes[core].written, memory_order_acquire);
    uint64_t sequence = atomic_load_explicit(&c->sequence, memory_order_acquire);

    if (PLANTED(mark_before_sync)) raise_mark(c, sequence);
    uint64_t begin_ns = clock_mono_ns(c->clock);
    enum status s = kv_sync(c->kv);
    uint64_t took_ns = clock_mono_ns(c->clock) - begin_ns;
    if (s != STATUS_OK && !PLANTED(failed_sync_is_good)) {
        /* Never tried again: after a failed fsync the kernel may have dropped the pages, and a second one succeeds. */
        add(&c->stats.sync_errors, 1);
        poison(c, "sync", s);
        return true;
    }
    if (is_set(&c->poisoned)) return true; /* the writer failed meanwhile: durable heads are frozen */
    probe_synced(took_ns);
    add(&c->stats.syncs, 1);
    add(&c->stats.sync_ns_sum, took_ns);
    add(&c->stats.sync_ns_bucket[bucket_of(took_ns / 1000)], 1);
    c->synced_writes = writes;
    c->unsynced_ns = 0;
    atomic_store_explicit(&c->synced, writes, memory_order_release);
    for (unsigned core = 0; core < c->num_cores && !PLANTED(ack_before_sync); core++) {
        struct lane *lane = &c->lanes[core];
        uint64_t before = atomic_load_explicit(&lane->durable, memory_order_relaxed);
        /* A core whose new tickets are all of class fast was woken by the writer and waits for nothing here. */
        bool awaited = atomic_load_explicit(&lane->written_fsync, memory_order_relaxed) > before;
        if (PLANTED(sync_covers_later)) lane->covered = atomic_load_explicit(&lane->written, memory_order_acquire);
        if (lane->covered != before) publish_durable(lane, lane->covered, awaited && !PLANTED(committed_not_told));
    }
    raise_mark(c, sequence);
    return true;
}

/* raise_mark notes how far the store is durable, behind the acknowledgements: they do not depend on it.
 *
 * The mark is a lower bound, so an old one is still right: a store that comes back shorter than an old mark has lost
 * acknowledged entries all the more. What age costs is only that a loss within the last interval goes unseen after a
 * power loss. (A killed process loses nothing: the written mark is in the page cache.) So the mark is written after
 * each sync, and its own fsync comes at most every MARK_SYNC_INTERVAL_MS. */
static void raise_mark(struct commit *c, uint64_t sequence)
{
    enum status s = PLANTED(mark_not_written) ? STATUS_OK : mark_write(c->mark, sequence);
    if (s != STATUS_OK) {
        add(&c->stats.write_errors, 1);
        poison(c, "mark_write", s);
        return;
    }
    c->mark_dirty = true;
    if (mark_due(c)) sync_mark(c);
}

static bool mark_due(const struct commit *c)
{
    return c->mark_dirty && clock_mono_ns(c->clock) - c->mark_synced_ns >= MARK_SYNC_INTERVAL_NS;
}

/* sync_mark syncs the written mark. Its failure poisons like the store's: they share a disk, and a disk that fails one
 * fsync is not to be trusted with the next. */
static void sync_mark(struct commit *c)
{
    enum status s = mark_sync(c->mark);
    c->mark_dirty = false;
    c->mark_synced_ns = clock_mono_ns(c->clock);
    if (s == STATUS_OK) return;
    add(&c->stats.sync_errors, 1);
    poison(c, "mark_sync", s);
}

/* --- failure ---------------------------------------------------------------------------------------------------- */

/* poison stops the pipeline for good; the first cause is logged. By whomever: the writer settles it. */
static void poison(struct commit *c, const char *cause, enum status result)
{
    if (atomic_exchange_explicit(&c->poisoned, true, memory_order_seq_cst)) return;
    LOG(LOG_ERROR, "store", "commit_poisoned", LOG_STR("cause", cause), LOG_STR("status", status_name(result)));
    park_wake(&c->writer_park);
}

/* settle ends the writer's part: `handed` is final and no entry is touched any more. Only now may the cores call their
 * entries back: a core that acted on `poisoned` alone could free what the writer copies, or call IO what it writes. */
static void settle(struct commit *c)
{
    atomic_store_explicit(&c->settled, true, memory_order_release);
    for (unsigned core = 0; core < c->num_cores; core++) wake_lane(&c->lanes[core]);
}

static void wake_lane(struct lane *lane)
{
    struct park *wake = atomic_load_explicit(&lane->wake, memory_order_acquire);
    if (wake) park_wake(wake);
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

enum status commit_start_threads(struct commit *c)
{
    ASSERT(!c->running);
    atomic_store(&c->stopping, false);
    atomic_store(&c->writer_ended, false);
    if (pthread_create(&c->writer_thread, NULL, writer_main, c) != 0) return STATUS_NO_MEMORY;
    if (pthread_create(&c->syncer_thread, NULL, syncer_main, c) != 0) {
        atomic_store(&c->stopping, true);
        park_wake(&c->writer_park);
        pthread_join(c->writer_thread, NULL);
        return STATUS_NO_MEMORY;
    }
    c->running = true;
    return STATUS_OK;
}

void commit_stop_threads(struct commit *c)
{
    if (!c->running) return;
    atomic_store(&c->stopping, true);
    park_wake(&c->writer_park);
    pthread_join(c->writer_thread, NULL);
    pthread_join(c->syncer_thread, NULL);
    c->running = false;
}

/* writer_main ends when it was told to before a step that found nothing: what was published by then is written. */
static void *writer_main(void *argument)
{
    struct commit *c = argument;
    set_up_thread("writer");
    while (true) {
        bool stopping = is_set(&c->stopping);
        if (commit_writer_step(c)) continue;
        if (stopping) break;
        park_prepare(&c->writer_park);
        if (!writer_has_work(c)) park_block(&c->writer_park, UINT64_MAX);
        park_done(&c->writer_park);
    }
    atomic_store_explicit(&c->writer_ended, true, memory_order_release);
    park_wake(&c->syncer_park);
    return NULL;
}

/* syncer_main outlives the writer: its last sync covers the last write, and the mark follows. */
static void *syncer_main(void *argument)
{
    struct commit *c = argument;
    set_up_thread("syncer");
    while (true) {
        bool writer_ended = is_set(&c->writer_ended);
        if (commit_syncer_step(c)) continue;
        if (writer_ended) break;
        park_prepare(&c->syncer_park);
        if (!syncer_has_work(c)) park_block(&c->syncer_park, syncer_timeout_ns(c));
        park_done(&c->syncer_park);
    }
    if (c->mark_dirty && !is_set(&c->poisoned)) sync_mark(c);
    return NULL;
}

static bool writer_has_work(struct commit *c)
{
    if (is_set(&c->stopping)) return true;
    if (is_set(&c->settled)) return false;
    if (is_set(&c->poisoned)) return true;
    for (unsigned core = 0; core < c->num_cores; core++)
        if (!spsc_empty(&c->lanes[core].ring)) return true;
    return false;
}

static bool syncer_has_work(struct commit *c)
{
    if (is_set(&c->writer_ended)) return true;
    if (is_set(&c->poisoned)) return false;
    uint64_t writes = atomic_load_explicit(&c->writes, memory_order_acquire);
    bool unseen = writes != c->synced_writes && !c->unsynced_ns;
    return unseen || sync_due(c, writes) || mark_due(c);
}

/* syncer_timeout_ns lets an idle syncer sleep no longer than until a written mark or a sync that nobody waits for is
 * due. */
static uint64_t syncer_timeout_ns(const struct commit *c)
{
    if (is_set(&c->poisoned)) return UINT64_MAX;
    uint64_t now_ns = clock_mono_ns(c->clock), at_ns = UINT64_MAX;
    if (c->mark_dirty) at_ns = c->mark_synced_ns + MARK_SYNC_INTERVAL_NS;
    if (c->unsynced_ns && c->unsynced_ns + FAST_SYNC_DELAY_NS < at_ns && !PLANTED(fast_sync_forgotten))
        at_ns = c->unsynced_ns + FAST_SYNC_DELAY_NS;
    if (at_ns == UINT64_MAX) return UINT64_MAX;
    return at_ns > now_ns ? at_ns - now_ns : 0;
}

/* set_up_thread names the thread and makes it SCHED_BATCH (sched(7)): woken, it does not preempt the core that woke
 * it, which then queues more for the same batch. Without it everything works, only slower. */
static void set_up_thread(const char *name)
{
    pthread_setname_np(pthread_self(), name);
    struct sched_param priority = {.sched_priority = 0};
    if (sched_setscheduler(0, SCHED_BATCH, &priority) != 0)
        LOG(LOG_WARN, "store", "sched_batch_failed", LOG_STR("thread", name), LOG_ERRNO(errno));
}

/* --- small helpers ---------------------------------------------------------------------------------------------- */

/* bucket_of returns the bit length of v: b with 2^(b-1) ≤ v < 2^b; what is longer counts in the last bucket. */
static unsigned bucket_of(uint64_t v)
{
    unsigned bits = v ? 64u - (unsigned)__builtin_clzll(v) : 0;
    return bits < COMMIT_BUCKETS ? bits : COMMIT_BUCKETS - 1;
}

static void add(_Atomic uint64_t *counter, uint64_t v)
{
    atomic_fetch_add_explicit(counter, v, memory_order_relaxed);
}

static bool is_set(const _Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_acquire);
}
