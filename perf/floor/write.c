/* floor-write: what an answer waits that is given when another thread has written: the floor under class fast.
 *
 * One thread, as a core, sleeps in a ring until a message is due, hands it over and sleeps until it comes back; the
 * other, as the writer, sleeps in src/base/park.h, writes it into RocksDB unsynced, and hands it back. Nothing is
 * received or sent, and nobody syncs. */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../../src/base/assert.h"
#include "../../src/base/park.h"
#include "database.h"
#include "floor.h"

#define BYTES_MAX 65536u
#define SAMPLES_MAX (1u << 20)
#define ROOMS 100u

enum place { PLACE_SAME, PLACE_OTHER };
static const char *const place_names[] = {"same", "other", NULL};
static unsigned place = PLACE_SAME;
static uint64_t bytes = 330;
static double seconds = 1, rate = 5000;
static const char *directory = "/tmp";

static const struct floor_option options[] = {
    {"place", FLOOR_CHOICE, &place, 0, 0, place_names, "the writer's CPU"},
    {"bytes", FLOOR_COUNT, &bytes, 1, BYTES_MAX, NULL, "of a row's value"},
    {"rate", FLOOR_REAL, &rate, 1, 1e6, NULL, "messages a second, one after the other"},
    {"directory", FLOOR_TEXT, &directory, 0, 0, NULL, "where the database is made; it goes when the program ends"},
    {"seconds", FLOOR_REAL, &seconds, 0.01, FLOOR_SECONDS_MAX, NULL, "measured time"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-write",
    .about = "a row handed to a thread that writes it, and handed back",
    .figures = "p50_us and p99_us run from when the first thread hands a message over until it has learnt that it is\n"
               "written. cpu_us_per_message is of both threads, the first one's sleep until the next message included.",
    .examples = "  floor-write                  both on one CPU, as in a gateway that has one\n"
                "  floor-write --place other\n",
    .options = options,
    .seconds = &seconds,
};

static struct {
    _Alignas(64) _Atomic uint64_t handed;  /* number of the last message handed over */
    _Alignas(64) _Atomic uint64_t written; /* and of the last one written */
    _Alignas(64) _Atomic bool over;
    struct park core, writer;
    rocksdb_t *db;
} both;

static uint64_t messages_go(struct io_uring *ring, struct floor_samples *samples);
static void *writer(void *unused);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    int cpu = floor_cpu(0); /* the set of CPUs is read now, before RocksDB's threads begin */
    both.db = database_open(directory, true);
    floor_pin(cpu); /* after them: they use the other CPU as well */
    ASSERT(park_init(&both.core, NULL, NULL) == STATUS_OK && park_init(&both.writer, NULL, NULL) == STATUS_OK);
    struct io_uring ring;
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    floor_must_ring(io_uring_queue_init_params(64, &ring, &params), "io_uring_setup");
    struct floor_samples samples;
    floor_samples_init(&samples, SAMPLES_MAX);
    pthread_t thread;
    ASSERT(pthread_create(&thread, NULL, writer, NULL) == 0);

    uint64_t cpu_ns = floor_cpu_ns(), messages = messages_go(&ring, &samples);
    cpu_ns = floor_cpu_ns() - cpu_ns;
    atomic_store(&both.over, true);
    park_wake(&both.writer);
    ASSERT(pthread_join(thread, NULL) == 0);
    if (rocksdb_get_latest_sequence_number(both.db) != messages) floor_fail("not every message was written");

    floor_text("place", place_names[place]);
    floor_number("rate", rate);
    floor_number("messages", (double)messages);
    floor_number("p50_us", floor_percentile_us(&samples, 50));
    floor_number("p99_us", floor_percentile_us(&samples, 99));
    floor_number("cpu_us_per_message", (double)cpu_ns / (double)messages / 1000);
    floor_end();
    floor_samples_free(&samples);
    io_uring_queue_exit(&ring);
    park_close(&both.core);
    park_close(&both.writer);
    rocksdb_close(both.db);
    return 0;
}

/* --- the core ---------------------------------------------------------------------------------------------------- */

static void core_watch(struct io_uring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    ASSERT(sqe);
    io_uring_prep_poll_multishot(sqe, both.core.fd, POLLIN);
}

/* core_sleep ends with a wake-up or after the time. */
static void core_sleep(struct io_uring *ring, uint64_t ns)
{
    struct __kernel_timespec limit = {.tv_sec = (long long)(ns / FLOOR_SECOND_NS),
                                      .tv_nsec = (long long)(ns % FLOOR_SECOND_NS)};
    struct io_uring_cqe *cqe;
    int n = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, NULL);
    if (n < 0 && n != -ETIME && n != -EINTR) floor_must_ring(n, "io_uring_enter");
    unsigned head, count = 0;
    bool armed = true;
    io_uring_for_each_cqe(ring, head, cqe)
    {
        count++;
        armed = cqe->flags & IORING_CQE_F_MORE;
    }
    io_uring_cq_advance(ring, count);
    if (count) park_drain(&both.core);
    if (!armed) core_watch(ring);
}

static void until_written(struct io_uring *ring, uint64_t number)
{
    while (atomic_load(&both.written) < number) {
        park_prepare(&both.core);
        if (atomic_load(&both.written) < number) core_sleep(ring, FLOOR_SECOND_NS);
        park_done(&both.core);
    }
}

/* messages_go hands over one after the other, each when it is due, and returns how many. */
static uint64_t messages_go(struct io_uring *ring, struct floor_samples *samples)
{
    core_watch(ring);
    uint64_t gap_ns = (uint64_t)((double)FLOOR_SECOND_NS / rate), number = 0;
    uint64_t due = floor_now_ns() + gap_ns, until = due + (uint64_t)(seconds * FLOOR_SECOND_NS);
    do {
        uint64_t now = floor_now_ns();
        if (now < due) {
            core_sleep(ring, due - now);
            continue;
        }
        atomic_store(&both.handed, ++number);
        park_wake(&both.writer);
        until_written(ring, number);
        floor_sample(samples, floor_now_ns() - now);
        due += gap_ns;
    } while (due < until);
    return number;
}

/* --- the writer -------------------------------------------------------------------------------------------------- */

static void row_write(rocksdb_writebatch_t *b, const rocksdb_writeoptions_t *o, uint64_t number, const char *value)
{
    char *error = NULL;
    rocksdb_writebatch_clear(b);
    database_put(b, number % ROOMS, number / ROOMS, value, bytes);
    rocksdb_write(both.db, o, b, &error);
    database_good(error, "a write");
}

static void *writer(void *unused)
{
    floor_pin(floor_cpu(place == PLACE_SAME ? 0 : 1));
    rocksdb_writeoptions_t *o = rocksdb_writeoptions_create();
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    char *value = calloc(1, bytes);
    ASSERT(value);
    for (uint64_t number = 0; !atomic_load(&both.over);) {
        park_prepare(&both.writer);
        if (atomic_load(&both.handed) == number && !atomic_load(&both.over)) park_block(&both.writer, UINT64_MAX);
        park_done(&both.writer);
        if (atomic_load(&both.handed) == number) continue;
        row_write(b, o, ++number, value);
        atomic_store(&both.written, number);
        park_wake(&both.core);
    }
    free(value);
    rocksdb_writebatch_destroy(b);
    rocksdb_writeoptions_destroy(o);
    return NULL;
}
