/* commit: the pipeline that makes entries durable: cores → writer → syncer → cores.
 *
 *   core:   commit_push(entry)  ──spsc──▶ writer: one batch of all that all cores queued, kv_write, unsynced
 *   core:   commit_poll ◀─ durable ticket ── syncer: mark what is written, kv_sync, publish, wake
 *
 * While the syncer syncs, the writer fills and writes the next batch; the sync's own length sets the batch size. A sync
 * begins at once when an entry of class fsync waits for it; what is all of class fast was answered at the write, and
 * waits up to FAST_SYNC_DELAY_MS for more.
 *
 * Tickets count each core's entries from 1. Entries of one core complete in push order within their class; an entry
 * is immutable and belongs to the pipeline from commit_push until its `done` ran, which happens on the pushing
 * core inside commit_poll, exactly once:
 *   STATUS_OK        durable (class fsync), or written to the WAL (class fast)
 *   STATUS_IO        never handed to the store: nothing of it exists
 *   STATUS_UNKNOWN   handed over, but the store failed before it was known to be durable
 *
 * A failed write or sync, of the store or of the mark, poisons the pipeline for good: nothing is published any more
 * (durable heads freeze), every open and later entry completes with IO or UNKNOWN, commit_poisoned is true. The calls
 * come after the writer has let go of the entries: one writer step later. Recovery is a restart.
 *
 * Bound: COMMIT_RING_CELLS entries a core in the ring, COMMIT_PENDING_MAX in all (parked in front of a full ring on
 * the entry's own node); commit_push answers STATUS_FULL at the bound.
 *
 * Threads: everything that takes a commit_core belongs to that core; the steps to writer and syncer, one thread each;
 * commit_poisoned and commit_stats to anyone; the rest to whoever opened the pipeline. */
#ifndef CARILLON_STORAGE_COMMIT_H
#define CARILLON_STORAGE_COMMIT_H

#include "../src/base/clock.h"
#include "../src/base/list.h"
#include "../src/base/park.h"
#include "../src/base/status.h"
#include "kv.h"
#include "mark.h"

struct commit; /* the pipeline */
struct commit_entry;

enum commit_class {
    COMMIT_FSYNC = 0, /* done after the fsync */
    COMMIT_FAST = 1,  /* done after the write to the WAL: a power loss may take it, a killed process not */
};

enum commit_row_op { COMMIT_PUT, COMMIT_DELETE, COMMIT_DELETE_RANGE };

/* commit_row: one row; for DELETE_RANGE key is the first and value the end key (exclusive). Borrowed bytes, which must
 * live as long as the entry. */
struct commit_row {
    uint8_t op; /* enum commit_row_op */
    uint8_t cf; /* enum kv_cf */
    struct slice key, value;
};

/* commit_entry: rows that are written together or not at all. Embedded in the caller's object. */
struct commit_entry {
    struct queue_node _node; /* in the core's pending queue */
    uint64_t ticket;         /* given by commit_push */
    uint64_t pushed_ns;      /* for the latency histogram */
    enum commit_class class;
    bool _handed;      /* pushed into the ring */
    uint16_t num_rows; /* 0: nothing is written, but `done` still waits for what was written before it */
    const struct commit_row *rows;
    void (*done)(void *context, struct commit_entry *e, enum status result); /* context: commit_core's */
};

struct commit_core; /* one core's end of the pipeline */

struct commit_config {
    struct kv *kv;
    struct mark *mark;
    const struct clock *clock;
    const struct park_ops *park_ops; /* NULL: real */
    void *park_context;
    unsigned num_cores;
    uint32_t ring_cells;  /* a power of two; 0: COMMIT_RING_CELLS; tests have less */
    uint32_t pending_max; /* 0: COMMIT_PENDING_MAX; likewise */
};

MUST_USE enum status commit_open(struct commit **out, const struct commit_config *config);
void commit_close(struct commit *c);

/* commit_core_open gives core `core` its end, once. `wake` is woken when entries of this core can be completed. */
struct commit_core *commit_core_open(struct commit *c, unsigned core, struct park *wake, void *done_context);

/* commit_push takes an entry. STATUS_FULL at the bound, STATUS_READ_ONLY when poisoned: the entry is not taken. */
MUST_USE enum status commit_push(struct commit_core *cc, struct commit_entry *e);
/* commit_publish shows the pushed entries to the writer and wakes it: once a loop turn, also when nothing was pushed
 * (what is parked in front of a full ring moves up). */
void commit_publish(struct commit_core *cc);
/* commit_poll runs `done` of every entry that became durable (or failed); returns how many. `done` may push. */
unsigned commit_poll(struct commit_core *cc);
/* commit_pollable tells whether commit_poll would do anything: for the look before sleeping. */
bool commit_pollable(struct commit_core *cc);
/* commit_pending counts entries not done; commit_oldest_ns is the push time of the oldest, 0 when there is none. */
size_t commit_pending(const struct commit_core *cc);
uint64_t commit_oldest_ns(const struct commit_core *cc);
/* commit_full tells whether the bound is reached, so that commit_push would answer STATUS_FULL. */
bool commit_full(const struct commit_core *cc);
bool commit_poisoned(const struct commit *c);
/* commit_all_durable tells whether everything that a read could have seen before this call is on disk. When it is not,
 * an entry of class fsync that is pushed now (it may have no rows) completes when it is. */
bool commit_all_durable(const struct commit *c);

/* Step functions; a thread (or the simulator) calls them in a loop. They return whether they did anything. */
bool commit_writer_step(struct commit *c);
bool commit_syncer_step(struct commit *c);
/* Real threads around the steps: SCHED_BATCH, parked when idle. */
MUST_USE enum status commit_start_threads(struct commit *c);
/* commit_stop_threads ends them after everything published so far is durable or failed, and the mark is synced;
 * commit_poll then completes it. The cores have stopped pushing, and published until nothing was parked. */
void commit_stop_threads(struct commit *c);

/* commit_stats: written by writer, syncer and cores (latency_*, of STATUS_OK only), read by anyone; histogram buckets
 * are powers of two, the last one is open. write_errors and sync_errors count the mark's too. */
#define COMMIT_BUCKETS 32u
struct commit_stats {
    _Atomic uint64_t batches, entries, rows, bytes, syncs, write_errors, sync_errors;
    _Atomic uint64_t sync_ns_bucket[COMMIT_BUCKETS]; /* [b]: syncs that took < 2^b µs (and ≥ 2^(b-1)) */
    _Atomic uint64_t sync_ns_sum;
    _Atomic uint64_t batch_bucket[COMMIT_BUCKETS];   /* [b]: batches of < 2^b entries (and ≥ 2^(b-1)) */
    _Atomic uint64_t latency_bucket[COMMIT_BUCKETS]; /* [b]: entries whose push to done took < 2^b µs */
    _Atomic uint64_t latency_ns_sum, latency_count;
};
const struct commit_stats *commit_stats(const struct commit *c);

#endif
