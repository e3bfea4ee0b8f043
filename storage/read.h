/* read: jobs that touch the store for reading, off the cores.
 *
 * A job is a function over the kv that runs on a reader thread and leaves its result in the job itself; it comes
 * back to the core named in it. Ownership passes with the pointer: core → reader → core, over one SPSC ring each way,
 * so neither side locks or copies. Jobs of one core go to reader `core % readers`, in order.
 *
 * Bound: READ_RING_CELLS a core in the ring; more wait on the job's own node in front of it (read_submit never
 * fails; what waits was admitted by its requester's bound). The same holds for the ring back: a reader keeps what its
 * core has no room for, and goes on. Who waits in front of a full ring is woken when it has room again.
 *
 * Threads: everything that takes a reader_core belongs to that core; reader_step to one thread a reader; the rest to
 * whoever opened the readers. Every return_core must have been opened before the job is published. */
#ifndef CARILLON_STORAGE_READ_H
#define CARILLON_STORAGE_READ_H

#include "../src/base/list.h"
#include "../src/base/park.h"
#include "../src/base/status.h"
#include "kv.h"

struct readers;
struct reader_core; /* one core's end */

struct read_job {
    struct queue_node _node;
    uint16_t return_core; /* where `done` runs; set by the submitter, may be another core than its own */
    void (*run)(struct read_job *job, struct kv *kv);       /* on a reader thread */
    void (*done)(void *core_context, struct read_job *job); /* on return_core, inside read_poll */
};

struct readers_config {
    struct kv *kv;
    const struct park_ops *park_ops; /* NULL: real */
    void *park_context;
    unsigned num_cores, num_readers;
    uint32_t ring_cells; /* a power of two; 0: READ_RING_CELLS; tests have less */
};

MUST_USE enum status readers_open(struct readers **out, const struct readers_config *config);
void readers_close(struct readers *r);
/* reader_core_open gives core `core` its end, once; `wake` is woken when read_poll has something to do. */
struct reader_core *reader_core_open(struct readers *r, unsigned core, struct park *wake, void *core_context);

/* read_submit takes a job; it is the reader's until its `done` ran. */
void read_submit(struct reader_core *rc, struct read_job *job);
/* read_publish shows submitted jobs to the readers: once a loop turn. */
void read_publish(struct reader_core *rc);
/* read_poll runs `done` of finished jobs, at most READ_RING_CELLS a reader; returns how many. `done` may submit, and
 * may free the job. It also moves up what waits in front of the ring. */
unsigned read_poll(struct reader_core *rc);
/* read_waiting counts this core's jobs that no reader has taken yet. */
size_t read_waiting(const struct reader_core *rc);
/* readers_idle: every job that was submitted, by any core, has had its `done` run. From any thread; a job that is being
 * submitted meanwhile may be missed. */
bool readers_idle(const struct readers *r);
/* read_pollable tells whether read_poll would do anything: for the look before sleeping. */
bool read_pollable(struct reader_core *rc);

/* reader_step runs what is queued for one reader (at most a batch); returns whether it did anything. */
bool reader_step(struct readers *r, unsigned reader);
MUST_USE enum status readers_start_threads(struct readers *r);
/* readers_stop_threads ends them after every published job has run; read_poll then returns also those that had no
 * room. The cores have stopped submitting, and published until nothing waited. */
void readers_stop_threads(struct readers *r);

#endif
