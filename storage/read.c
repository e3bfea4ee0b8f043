#define _GNU_SOURCE /* pthread_setname_np */
#include "read.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/base/assert.h"
#include "../src/base/limits.h"
#include "../src/base/planted.h"
#include "../src/base/spsc.h"

/* channel: one direction between one core and one reader. What does not fit the ring waits in front of it, in order,
 * on the jobs' own nodes; the producer then asks through `blocked` to be woken when there is room again. */
struct channel {
    struct spsc ring;                              /* word 0 is the job's address */
    _Alignas(CACHE_LINE) _Atomic uint32_t blocked; /* the producer found the ring full */
    _Alignas(CACHE_LINE) struct queue waiting;     /* private to the producer */
};

struct reader_core {
    struct readers *readers;
    unsigned index;
    void *context;
    _Atomic(struct park *) wake; /* NULL before reader_core_open */
    struct channel requests;     /* to reader index % num_readers */
    _Atomic uint64_t num_submitted, num_done; /* by this core, and on it; it alone writes them */
};

struct reader {
    struct park park;
    struct readers *readers;
    unsigned index;
    unsigned first_core;     /* private: where the next pass begins */
    struct channel *results; /* one a core */
    pthread_t thread;
};

struct readers {
    struct kv *kv;
    unsigned num_cores, num_readers;
    uint32_t ring_cells;
    struct reader_core *cores;
    struct reader *readers;
    bool running;          /* private to who starts and stops the threads */
    _Atomic bool stopping; /* readers end when they find nothing more */
    _Atomic bool ended;    /* the threads are gone: read_poll takes what they could not return */
};

static bool rings_open(struct readers *r);
static void *zeroed_lines(size_t count, size_t bytes);
static void count_more(_Atomic uint64_t *counter, uint64_t n);
static void submit_to(struct reader_core *rc);
static unsigned take_results(struct reader_core *rc, struct reader *reader);
static bool run_one(struct reader *self, struct reader_core *from);
static bool return_waiting(struct reader *self);
static void return_results(struct reader *self, unsigned core);
static void wake_core(struct reader_core *rc);
static void *reader_main(void *argument);
static bool reader_has_work(struct reader *self);
static void join_threads(struct readers *r, unsigned num_started);
static bool channel_flush(struct channel *ch);
static bool channel_flushable(struct channel *ch);
static struct read_job *channel_take(struct channel *ch);
static bool channel_release(struct channel *ch);

/* --- opening and closing ---------------------------------------------------------------------------------------- */

enum status readers_open(struct readers **out, const struct readers_config *config)
{
    ASSERT(config->num_cores >= 1 && config->num_cores <= CORES_MAX);
    ASSERT(config->num_readers >= 1 && config->num_readers <= READERS_MAX);
    struct readers *r = calloc(1, sizeof *r);
    if (!r) return STATUS_NO_MEMORY;
    r->kv = config->kv;
    r->num_cores = config->num_cores;
    r->num_readers = config->num_readers;
    r->ring_cells = config->ring_cells ? config->ring_cells : READ_RING_CELLS;
    if (!rings_open(r)) {
        readers_close(r);
        return STATUS_NO_MEMORY;
    }
    for (unsigned i = 0; i < r->num_readers; i++) {
        enum status s = park_init(&r->readers[i].park, config->park_ops, config->park_context);
        if (s != STATUS_OK) {
            readers_close(r);
            return s;
        }
    }
    *out = r;
    return STATUS_OK;
}

void readers_close(struct readers *r)
{
    if (!r) return;
    ASSERT(!r->running);
    for (unsigned i = 0; r->readers && i < r->num_readers; i++) {
        struct reader *reader = &r->readers[i];
        for (unsigned core = 0; reader->results && core < r->num_cores; core++) spsc_free(&reader->results[core].ring);
        free(reader->results);
        park_close(&reader->park);
    }
    for (unsigned core = 0; r->cores && core < r->num_cores; core++) spsc_free(&r->cores[core].requests.ring);
    free(r->readers);
    free(r->cores);
    free(r);
}

struct reader_core *reader_core_open(struct readers *r, unsigned core, struct park *wake, void *core_context)
{
    ASSERT(core < r->num_cores && wake);
    struct reader_core *rc = &r->cores[core];
    ASSERT(!atomic_load_explicit(&rc->wake, memory_order_relaxed));
    rc->context = core_context;
    atomic_store_explicit(&rc->wake, wake, memory_order_release);
    return rc;
}

/* rings_open makes num_cores request rings and num_readers × num_cores result rings; false: out of memory. */
static bool rings_open(struct readers *r)
{
    r->cores = zeroed_lines(r->num_cores, sizeof *r->cores);
    r->readers = zeroed_lines(r->num_readers, sizeof *r->readers);
    if (!r->cores || !r->readers) return false;
    for (unsigned i = 0; i < r->num_readers; i++) r->readers[i].park.fd = -1;
    for (unsigned core = 0; core < r->num_cores; core++) {
        r->cores[core].readers = r;
        r->cores[core].index = core;
        if (spsc_init(&r->cores[core].requests.ring, r->ring_cells) != STATUS_OK) return false;
    }
    for (unsigned i = 0; i < r->num_readers; i++) {
        struct reader *reader = &r->readers[i];
        reader->readers = r;
        reader->index = i;
        reader->results = zeroed_lines(r->num_cores, sizeof *reader->results);
        if (!reader->results) return false;
        for (unsigned core = 0; core < r->num_cores; core++)
            if (spsc_init(&reader->results[core].ring, r->ring_cells) != STATUS_OK) return false;
    }
    return true;
}

static void *zeroed_lines(size_t count, size_t bytes)
{
    void *memory = aligned_alloc(CACHE_LINE, count * bytes);
    return memory ? memset(memory, 0, count * bytes) : NULL;
}

/* --- the core's side -------------------------------------------------------------------------------------------- */

void read_submit(struct reader_core *rc, struct read_job *job)
{
    ASSERT(job->run && job->done && job->return_core < rc->readers->num_cores);
    queue_push(&rc->requests.waiting, &job->_node);
    count_more(&rc->num_submitted, 1);
}

void read_publish(struct reader_core *rc)
{
    if (rc->requests.waiting.head) submit_to(rc);
}

unsigned read_poll(struct reader_core *rc)
{
    struct readers *r = rc->readers;
    unsigned num_done = 0;
    for (unsigned i = 0; i < r->num_readers; i++) num_done += take_results(rc, &r->readers[i]);
    /* Jobs that waited in front of the ring go on from here too: a core that only polls does not strand them. */
    if (channel_flushable(&rc->requests)) submit_to(rc);
    return num_done;
}

bool readers_idle(const struct readers *r)
{
    /* What is done first: no job can be among those and not among what was submitted. */
    uint64_t num_done = 0, num_submitted = 0;
    for (unsigned i = 0; i < r->num_cores; i++)
        num_done += atomic_load_explicit(&r->cores[i].num_done, memory_order_acquire);
    for (unsigned i = 0; i < r->num_cores; i++)
        num_submitted += atomic_load_explicit(&r->cores[i].num_submitted, memory_order_acquire);
    return num_done == num_submitted;
}

bool read_pollable(struct reader_core *rc)
{
    struct readers *r = rc->readers;
    for (unsigned i = 0; i < r->num_readers; i++) {
        struct channel *results = &r->readers[i].results[rc->index];
        if (!spsc_empty(&results->ring)) return true;
        if (atomic_load_explicit(&r->ended, memory_order_acquire) && results->waiting.head) return true;
    }
    return channel_flushable(&rc->requests);
}

size_t read_waiting(const struct reader_core *rc)
{
    const struct spsc *ring = &rc->requests.ring;
    return rc->requests.waiting.len + (ring->tail - atomic_load_explicit(&ring->released, memory_order_relaxed));
}

/* count_more: release, so that who sees a job counted as done also sees what that submitted. */
static void count_more(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_release);
}

static void submit_to(struct reader_core *rc)
{
    struct readers *r = rc->readers;
    if (channel_flush(&rc->requests) && !PLANTED(reader_not_woken))
        park_wake(&r->readers[rc->index % r->num_readers].park);
}

/* take_results runs `done` of what one reader returned to this core: at most a ring full, so that a fast reader cannot
 * keep a core here. */
static unsigned take_results(struct reader_core *rc, struct reader *reader)
{
    struct channel *results = &reader->results[rc->index];
    /* An ended reader cannot refill its ring; its thread was joined, so its side of the channel is ours. */
    bool ended = atomic_load_explicit(&rc->readers->ended, memory_order_acquire);
    unsigned num_done = 0;
    do {
        struct read_job *job;
        unsigned num_taken = 0;
        while (num_taken < rc->readers->ring_cells && (job = channel_take(results)) != NULL) {
            ASSERT(job->return_core == rc->index);
            num_taken++;
            job->done(rc->context, job);
        }
        num_done += num_taken;
        if (num_taken) count_more(&rc->num_done, num_taken);
        if (num_taken && channel_release(results)) park_wake(&reader->park);
    } while (ended && channel_flush(results));
    return num_done;
}

/* --- the reader's side ------------------------------------------------------------------------------------------ */

/* reader_step serves its cores one job each in turn, so that a core with many jobs does not keep the others waiting. */
bool reader_step(struct readers *r, unsigned reader)
{
    ASSERT(reader < r->num_readers);
    struct reader *self = &r->readers[reader];
    bool worked = return_waiting(self);
    unsigned num_own = (r->num_cores + r->num_readers - 1 - reader) / r->num_readers; /* cores ≡ reader (mod readers) */
    unsigned num_idle = 0; /* cores in a row that had nothing */
    for (unsigned num_run = 0; num_run < READ_BATCH_MAX && num_idle < num_own;) {
        unsigned core = reader + self->first_core * r->num_readers;
        self->first_core = (self->first_core + 1) % num_own;
        if (run_one(self, &r->cores[core])) {
            num_run++;
            num_idle = 0;
            worked = true;
        } else {
            num_idle++;
        }
    }
    /* Once a step, not once a job: a core that waits in front of its ring is woken for a batch of free cells. */
    for (unsigned core = reader; core < r->num_cores; core += r->num_readers)
        if (channel_release(&r->cores[core].requests)) wake_core(&r->cores[core]);
    return worked;
}

/* run_one runs a core's next job and returns it at once: a result does not wait for the disk reads behind it. */
static bool run_one(struct reader *self, struct reader_core *from)
{
    struct read_job *job = channel_take(&from->requests);
    if (!job) return false;
    job->run(job, self->readers->kv);
    unsigned core = job->return_core; /* the job is its core's again as soon as it is in the ring */
    ASSERT(core < self->readers->num_cores);
    queue_push(&self->results[core].waiting, &job->_node);
    return_results(self, core);
    return true;
}

/* return_waiting tries again what found its core's ring full; returns whether anything moved. */
static bool return_waiting(struct reader *self)
{
    bool moved = false;
    for (unsigned core = 0; core < self->readers->num_cores; core++) {
        if (!channel_flushable(&self->results[core])) continue;
        return_results(self, core);
        moved = true;
    }
    return moved;
}

static void return_results(struct reader *self, unsigned core)
{
    if (channel_flush(&self->results[core])) wake_core(&self->readers->cores[core]);
}

static void wake_core(struct reader_core *rc)
{
    struct park *wake = atomic_load_explicit(&rc->wake, memory_order_acquire);
    ASSERT(wake); /* results return only to cores that were opened */
    park_wake(wake);
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

enum status readers_start_threads(struct readers *r)
{
    ASSERT(!r->running);
    atomic_store(&r->stopping, false);
    atomic_store(&r->ended, false);
    for (unsigned i = 0; i < r->num_readers; i++) {
        if (pthread_create(&r->readers[i].thread, NULL, reader_main, &r->readers[i]) == 0) continue;
        join_threads(r, i);
        return STATUS_NO_MEMORY;
    }
    r->running = true;
    return STATUS_OK;
}

void readers_stop_threads(struct readers *r)
{
    if (!r->running) return;
    join_threads(r, r->num_readers);
    r->running = false;
}

static void join_threads(struct readers *r, unsigned num_started)
{
    atomic_store(&r->stopping, true);
    for (unsigned i = 0; i < num_started; i++) {
        park_wake(&r->readers[i].park);
        pthread_join(r->readers[i].thread, NULL);
    }
    atomic_store_explicit(&r->ended, true, memory_order_release);
    for (unsigned core = 0; core < r->num_cores; core++) {
        struct park *wake = atomic_load_explicit(&r->cores[core].wake, memory_order_acquire);
        if (wake) park_wake(wake);
    }
}

/* reader_main ends when it was told to before a step that found nothing: what was published by then has run. */
static void *reader_main(void *argument)
{
    struct reader *self = argument;
    char name[16]; /* the kernel's limit for a thread's name */
    snprintf(name, sizeof name, "reader/%u", self->index);
    pthread_setname_np(pthread_self(), name);
    while (true) {
        bool stopping = atomic_load_explicit(&self->readers->stopping, memory_order_acquire);
        if (reader_step(self->readers, self->index)) continue;
        if (stopping) return NULL;
        park_prepare(&self->park);
        if (!reader_has_work(self)) park_block(&self->park, UINT64_MAX);
        park_done(&self->park);
    }
}

static bool reader_has_work(struct reader *self)
{
    struct readers *r = self->readers;
    if (atomic_load_explicit(&r->stopping, memory_order_acquire)) return true;
    for (unsigned core = self->index; core < r->num_cores; core += r->num_readers)
        if (!spsc_empty(&r->cores[core].requests.ring)) return true;
    for (unsigned core = 0; core < r->num_cores; core++)
        if (channel_flushable(&self->results[core])) return true;
    return false;
}

/* --- channels --------------------------------------------------------------------------------------------------- */

/* channel_flush (producer) moves waiting jobs into the ring and shows them; returns whether the consumer got any. */
static bool channel_flush(struct channel *ch)
{
    while (ch->waiting.head) {
        struct read_job *job = CONTAINER_OF(ch->waiting.head, struct read_job, _node);
        struct spsc_cell cell = {0};
        memcpy(cell.word, &job, sizeof(void *));
        if (spsc_push(&ch->ring, &cell) == STATUS_FULL) break;
        queue_pop(&ch->waiting); /* before spsc_publish: then the node is the consumer's */
    }
    return spsc_publish(&ch->ring);
}

/* channel_flushable (producer) tells whether channel_flush would move anything; when it would not, `blocked` asks for
 * a wake-up. All that was pushed is published, so the ring's depth is exact but for what the consumer gives back
 * meanwhile.
 *
 * No wake-up is lost: the producer asks behind park_prepare, each time before it sleeps, and looks once more behind a
 * full fence; the consumer looks at `blocked` behind the one in channel_release. So either the producer sees the room,
 * or the consumer sees the flag and then, through park_wake, the sleeper. Asking where the ring was found full would
 * not do: the consumer may take that flag back late, when the ring is full once more. */
static bool channel_flushable(struct channel *ch)
{
    if (!ch->waiting.head) return false;
    if (spsc_depth(&ch->ring) <= ch->ring.mask) return true;
    atomic_store_explicit(&ch->blocked, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return spsc_depth(&ch->ring) <= ch->ring.mask;
}

/* channel_take (consumer) takes the next job's ownership, or returns NULL. */
static struct read_job *channel_take(struct channel *ch)
{
    struct spsc_cell *cell = spsc_peek(&ch->ring);
    if (!cell) return NULL;
    struct read_job *job;
    memcpy(&job, cell->word, sizeof(void *));
    spsc_pop(&ch->ring);
    return job;
}

/* channel_release (consumer) gives the taken cells back; returns whether the producer waits for them. */
static bool channel_release(struct channel *ch)
{
    spsc_release(&ch->ring);
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_load_explicit(&ch->blocked, memory_order_relaxed)) return false;
    return atomic_exchange_explicit(&ch->blocked, 0, memory_order_relaxed) != 0;
}
