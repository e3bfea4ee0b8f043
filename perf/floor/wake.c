/* floor-wake: how long it takes until another thread has noticed that there is work for it, and what telling it costs
 * the one who tells.
 *
 * Two threads, one message at a time. The message is the clock's time, stored in a word that both see; the other thread
 * is told by the way under test, looks at the word, and the difference is the latency. Between two messages the waker
 * rests long enough that the other one sleeps again. */
#define _GNU_SOURCE /* syscall */
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../src/base/assert.h"
#include "../../src/base/park.h"
#include "floor.h"

#define SAMPLES_MAX (1u << 18)
#define WAKE_TAG 7u

enum way { WAY_SPIN, WAY_FUTEX, WAY_PARK, WAY_EVENTFD, WAY_MSG_RING };
static const char *const way_names[] = {"spin", "futex", "park", "eventfd", "msg_ring", NULL};
enum place { PLACE_OTHER, PLACE_SAME };
static const char *const place_names[] = {"other", "same", NULL};
static unsigned way = WAY_EVENTFD, place = PLACE_OTHER;
static double seconds = 0.5, rest_us = 50;

static const struct floor_option options[] = {
    {"way", FLOOR_CHOICE, &way, 0, 0, way_names, "how the other thread waits and is told"},
    {"place", FLOOR_CHOICE, &place, 0, 0, place_names, "the other thread's CPU"},
    {"rest", FLOOR_REAL, &rest_us, 1, 1e6, NULL, "µs between an answer and the next message"},
    {"seconds", FLOOR_REAL, &seconds, 0.001, FLOOR_SECONDS_MAX, NULL, "measured time"},
    {0},
};

static const struct floor_program program = {
    .name = "floor-wake",
    .about = "from one thread to another that sleeps or spins",
    .figures = "p50_us and p99_us: from before the call that tells until the other one has read the message.\n"
               "tell_us is what the call takes of the teller's time.\n"
               "  spin      the other one looks at the word all the time\n"
               "  futex     it sleeps in futex(2)\n"
               "  park      it sleeps in src/base/park.h, as the writer and the syncer do\n"
               "  eventfd   it sleeps in io_uring, with a multishot poll of an eventfd, as a core does\n"
               "  msg_ring  it sleeps in io_uring and is told by IORING_OP_MSG_RING from the other's ring",
    .examples = "  floor-wake --way eventfd\n  floor-wake --way msg_ring --place same\n",
    .options = options,
    .seconds = &seconds,
};

/* The two words lie on lines of their own, or each side's spinning would slow down the other's store. */
static struct {
    _Alignas(64) _Atomic uint64_t message; /* time of the message; 0: none */
    _Alignas(64) _Atomic uint64_t answer;  /* the latency + 1; 0: not seen yet */
    _Alignas(64) _Atomic bool ready, over;
    _Alignas(64) _Atomic uint32_t futex;
    struct park park;
    struct io_uring sleeper, teller; /* rings, of the ways that have them */
} both;
static int sleeper_cpu;

static void *sleeper(void *unused);
static void tell(void);
static void rest(void);
static void ring_open(struct io_uring *ring);

int main(int argc, char **argv)
{
    floor_begin(&program, argc, argv);
    if (way == WAY_SPIN && (place == PLACE_SAME || floor_cpu(0) == floor_cpu(1)))
        floor_absent("two that spin need a CPU each");
    sleeper_cpu = floor_cpu(place == PLACE_SAME ? 0 : 1);
    floor_pin(floor_cpu(0));
    struct floor_samples latencies, calls;
    floor_samples_init(&latencies, SAMPLES_MAX);
    floor_samples_init(&calls, SAMPLES_MAX);
    ASSERT(park_init(&both.park, NULL, NULL) == STATUS_OK);
    if (way == WAY_MSG_RING) ring_open(&both.teller);
    pthread_t thread;
    ASSERT(pthread_create(&thread, NULL, sleeper, NULL) == 0);
    while (!atomic_load(&both.ready)) rest();

    uint64_t until = floor_now_ns() + (uint64_t)(seconds * FLOOR_SECOND_NS), messages = 0;
    do {
        rest();
        uint64_t now = floor_now_ns();
        atomic_store(&both.message, now);
        tell();
        floor_sample(&calls, floor_now_ns() - now);
        messages++;
        uint64_t answer;
        while ((answer = atomic_load(&both.answer)) == 0)
            if (place == PLACE_SAME) sched_yield(); /* it needs this CPU */
        atomic_store(&both.answer, 0);
        floor_sample(&latencies, answer - 1);
    } while (floor_now_ns() < until);
    atomic_store(&both.over, true);
    atomic_store(&both.message, 1);
    tell();
    void *seen;
    ASSERT(pthread_join(thread, &seen) == 0);
    if ((uint64_t)(uintptr_t)seen != messages)
        floor_fail("%llu messages were told, %llu seen", (unsigned long long)messages,
                   (unsigned long long)(uintptr_t)seen);

    floor_text("way", way_names[way]);
    floor_text("place", place_names[place]);
    floor_number("messages", (double)messages);
    floor_number("p50_us", floor_percentile_us(&latencies, 50));
    floor_number("p99_us", floor_percentile_us(&latencies, 99));
    floor_number("tell_us", floor_percentile_us(&calls, 50));
    floor_end();
    floor_samples_free(&latencies);
    floor_samples_free(&calls);
    park_close(&both.park);
    return 0;
}

/* Sleeps, so that on the same CPU the other thread gets to its own sleep; on another one a spinning teller is ready. */
static void rest(void)
{
    if (place == PLACE_SAME) {
        struct timespec time = {.tv_nsec = (long)(rest_us * 1000)};
        nanosleep(&time, NULL);
        return;
    }
    uint64_t until = floor_now_ns() + (uint64_t)(rest_us * 1000);
    while (floor_now_ns() < until) {}
}

static void tell(void)
{
    struct io_uring_sqe *sqe;
    struct io_uring_cqe *cqe;
    switch ((enum way)way) {
    case WAY_SPIN: break;
    case WAY_FUTEX:
        atomic_fetch_add(&both.futex, 1);
        floor_must(syscall(SYS_futex, &both.futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), "futex");
        break;
    case WAY_PARK:
    case WAY_EVENTFD: park_wake(&both.park); break;
    case WAY_MSG_RING:
        sqe = io_uring_get_sqe(&both.teller);
        ASSERT(sqe);
        io_uring_prep_msg_ring(sqe, both.sleeper.ring_fd, 0, WAKE_TAG, 0);
        floor_must_ring(io_uring_submit_and_wait(&both.teller, 1), "IORING_OP_MSG_RING");
        floor_must_ring(io_uring_peek_cqe(&both.teller, &cqe), "its completion");
        floor_must_ring(cqe->res, "IORING_OP_MSG_RING");
        io_uring_cqe_seen(&both.teller, cqe);
        break;
    }
}

static void ring_open(struct io_uring *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    floor_must_ring(io_uring_queue_init_params(64, ring, &params), "io_uring_setup");
}

/* --- the one who sleeps ---------------------------------------------------------------------------------------- */

static void ring_watch(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&both.sleeper);
    ASSERT(sqe);
    io_uring_prep_poll_multishot(sqe, both.park.fd, POLLIN);
}

static void ring_wait(void)
{
    int n = io_uring_submit_and_wait(&both.sleeper, 1);
    if (n < 0 && n != -EINTR) floor_must_ring(n, "io_uring_enter");
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    bool armed = true;
    io_uring_for_each_cqe(&both.sleeper, head, cqe)
    {
        count++;
        floor_must_ring(cqe->res, "waiting in a ring");
        armed = way == WAY_MSG_RING || cqe->flags & IORING_CQE_F_MORE;
    }
    io_uring_cq_advance(&both.sleeper, count);
    if (count && way == WAY_EVENTFD) park_drain(&both.park);
    if (!armed) ring_watch();
}

/* Returns once there may be a message. */
static void wait_once(void)
{
    uint32_t before;
    switch ((enum way)way) {
    case WAY_SPIN: break;
    case WAY_FUTEX:
        before = atomic_load(&both.futex);
        if (atomic_load(&both.message) == 0) syscall(SYS_futex, &both.futex, FUTEX_WAIT_PRIVATE, before, NULL, NULL, 0);
        break;
    case WAY_PARK:
        park_prepare(&both.park);
        if (atomic_load(&both.message) == 0) park_block(&both.park, UINT64_MAX);
        park_done(&both.park);
        break;
    case WAY_EVENTFD:
        park_prepare(&both.park);
        if (atomic_load(&both.message) == 0) ring_wait();
        park_done(&both.park);
        break;
    case WAY_MSG_RING: ring_wait(); break; /* each message is a completion: none can be missed */
    }
}

static void *sleeper(void *unused)
{
    floor_pin(sleeper_cpu);
    if (way == WAY_EVENTFD || way == WAY_MSG_RING) ring_open(&both.sleeper);
    if (way == WAY_EVENTFD) ring_watch();
    atomic_store(&both.ready, true);
    uint64_t seen = 0;
    for (;;) {
        wait_once();
        uint64_t message = atomic_load(&both.message);
        if (message == 0) continue;
        if (atomic_load(&both.over)) break;
        uint64_t latency = floor_now_ns() - message;
        atomic_store(&both.message, 0);
        seen++;
        atomic_store(&both.answer, latency + 1);
    }
    return (void *)(uintptr_t)seen;
}
