#include "../../storage/read.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../src/base/assert.h"
#include "../../src/base/limits.h"
#include "../../src/base/spsc.h"

#define CORES 3u
#define READERS 2u

/* The readers never look into the store themselves: jobs do. The one here has no operations. */
static struct kv empty_store;

struct bench {
    struct park wake[CORES];
    struct readers *readers;
    struct reader_core *core[CORES];
    unsigned woken[CORES], readers_woken;
    struct end {
        struct bench *bench;
        unsigned core;
    } end[CORES];
    uint64_t *done; /* numbers of the jobs that came back, in order */
    size_t num_done;
    _Atomic uint64_t num_run;
};

/* A job that lives on the heap and is freed in its `done`. */
struct test_job {
    struct read_job job;
    struct bench *bench;
    unsigned from;
    uint64_t number;
    bool ran;
};

static void count_run(struct read_job *job, struct kv *kv)
{
    struct test_job *t = CONTAINER_OF(job, struct test_job, job);
    ASSERT(kv == &empty_store && !t->ran);
    t->ran = true;
    atomic_fetch_add(&t->bench->num_run, 1);
}

static void note_done(void *context, struct read_job *job)
{
    struct end *end = context;
    struct test_job *t = CONTAINER_OF(job, struct test_job, job);
    assert_true(t->ran);
    assert_int_equal(end->core, job->return_core);
    end->bench->done[end->bench->num_done++] = t->number;
    free(t);
}

static void submit(struct bench *b, unsigned from, unsigned to, uint64_t number)
{
    struct test_job *t = calloc(1, sizeof *t);
    *t = (struct test_job){{.return_core = (uint16_t)to, .run = count_run, .done = note_done}, b, from, number, false};
    read_submit(b->core[from], &t->job);
}

static void count_signal(struct park *p)
{
    (*(unsigned *)p->ops_context)++;
}
static void never_block(struct park *p, uint64_t timeout_ns)
{
    UNREACHABLE();
}
static const struct park_ops counting_park = {count_signal, never_block};

static int set_up_with(void **state, const struct park_ops *park_ops)
{
    struct bench *b = aligned_alloc(CACHE_LINE, sizeof *b);
    memset(b, 0, sizeof *b);
    b->done = calloc((size_t)16 * READ_RING_CELLS, sizeof *b->done);
    struct readers_config config = {&empty_store, park_ops, &b->readers_woken, CORES, READERS, 0};
    if (readers_open(&b->readers, &config) != STATUS_OK) return -1;
    for (unsigned core = 0; core < CORES; core++) {
        b->end[core] = (struct end){b, core};
        if (park_init(&b->wake[core], park_ops, &b->woken[core]) != STATUS_OK) return -1;
        b->core[core] = reader_core_open(b->readers, core, &b->wake[core], &b->end[core]);
    }
    *state = b;
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

static int tear_down(void **state)
{
    struct bench *b = *state;
    readers_close(b->readers);
    for (unsigned core = 0; core < CORES; core++) park_close(&b->wake[core]);
    free(b->done);
    free(b);
    return 0;
}

static void assert_done_in_order(const struct bench *b, uint64_t num_jobs)
{
    assert_int_equal(b->num_done, num_jobs);
    for (uint64_t i = 0; i < num_jobs; i++) assert_int_equal(b->done[i], i + 1);
}

/* --- step by step ------------------------------------------------------------------------------------------------ */

static void job_runs_once_published_and_comes_back(void **state)
{
    struct bench *b = *state;
    submit(b, 0, 0, 1);
    assert_false(reader_step(b->readers, 0)); /* submitted, not published */
    read_publish(b->core[0]);
    assert_false(read_pollable(b->core[0]));
    assert_int_equal(read_poll(b->core[0]), 0);
    assert_true(reader_step(b->readers, 0));
    assert_true(read_pollable(b->core[0]));
    assert_int_equal(read_poll(b->core[0]), 1);
    assert_done_in_order(b, 1);
    assert_false(read_pollable(b->core[0]));
    assert_false(reader_step(b->readers, 0));
}

static void readers_are_idle_only_when_every_job_has_come_back(void **state)
{
    struct bench *b = *state;
    assert_true(readers_idle(b->readers));
    submit(b, 0, 1, 7);
    assert_false(readers_idle(b->readers));
    read_publish(b->core[0]);
    for (unsigned i = 0; i < READERS; i++) reader_step(b->readers, i);
    assert_int_equal(b->num_run, 1);
    assert_false(readers_idle(b->readers)); /* it has run, and nobody knows yet */
    read_poll(b->core[0]);
    assert_false(readers_idle(b->readers));
    read_poll(b->core[1]);
    assert_true(readers_idle(b->readers));
}

static void jobs_of_a_core_go_to_its_reader(void **state)
{
    struct bench *b = *state;
    for (unsigned core = 0; core < CORES; core++) {
        submit(b, core, core, 1);
        read_publish(b->core[core]);
    }
    assert_true(reader_step(b->readers, 1)); /* core 1 */
    assert_int_equal(atomic_load(&b->num_run), 1);
    assert_int_equal(read_poll(b->core[1]), 1);
    assert_true(reader_step(b->readers, 0)); /* cores 0 and 2 */
    assert_int_equal(atomic_load(&b->num_run), 3);
    assert_int_equal(read_poll(b->core[0]) + read_poll(b->core[2]), 2);
}

static void job_returns_on_the_core_it_names(void **state)
{
    struct bench *b = *state;
    submit(b, 0, 2, 1);
    read_publish(b->core[0]);
    reader_step(b->readers, 0);
    assert_false(read_pollable(b->core[0]));
    assert_int_equal(read_poll(b->core[0]), 0);
    assert_int_equal(read_poll(b->core[2]), 1);
}

static void jobs_of_one_core_keep_their_order_over_full_rings(void **state)
{
    struct bench *b = *state;
    uint64_t num_jobs = UINT64_C(5) * READ_RING_CELLS + 7;
    for (uint64_t number = 1; number <= num_jobs; number++) submit(b, 0, 1, number);
    for (unsigned turn = 0; turn < 100000 && b->num_done < num_jobs; turn++) {
        read_publish(b->core[0]);
        reader_step(b->readers, 0);
        if (turn % 100 == 99) read_poll(b->core[1]); /* 3200 jobs a poll: the ring back is full, too */
    }
    assert_done_in_order(b, num_jobs);
}

static void step_is_bounded_and_serves_cores_in_turn(void **state)
{
    struct bench *b = *state;
    for (uint64_t number = 1; number <= 100; number++) submit(b, 0, 0, number);
    submit(b, 2, 2, 1);
    read_publish(b->core[0]);
    read_publish(b->core[2]);
    assert_true(reader_step(b->readers, 0));
    assert_int_equal(atomic_load(&b->num_run), READ_BATCH_MAX);
    assert_int_equal(read_poll(b->core[2]), 1); /* not behind the hundred */
    while (reader_step(b->readers, 0)) {}
    assert_int_equal(read_poll(b->core[0]), 100);
}

static void full_result_ring_keeps_jobs_with_the_reader_which_goes_on(void **state)
{
    struct bench *b = *state;
    for (uint64_t number = 1; number <= READ_RING_CELLS + 1; number++) {
        submit(b, 0, 1, number);
        read_publish(b->core[0]);
        reader_step(b->readers, 0);
    }
    submit(b, 0, 0, 1);
    read_publish(b->core[0]);
    assert_true(reader_step(b->readers, 0)); /* core 1 does not hold up core 0 */
    assert_int_equal(read_poll(b->core[0]), 1);
    b->num_done = 0;
    assert_false(reader_step(b->readers, 0)); /* what does not fit is not work */
    assert_int_equal(read_poll(b->core[1]), READ_RING_CELLS);
    assert_true(reader_step(b->readers, 0));
    assert_int_equal(read_poll(b->core[1]), 1);
    assert_done_in_order(b, READ_RING_CELLS + 1);
}

/* A core whose jobs all return elsewhere hears of room in its ring only through the reader. */
static void core_in_front_of_a_full_ring_is_woken_when_there_is_room(void **state)
{
    struct bench *b = *state;
    for (uint64_t number = 1; number <= READ_RING_CELLS + 1; number++) submit(b, 0, 1, number);
    read_publish(b->core[0]);
    park_prepare(&b->wake[0]);
    assert_false(read_pollable(b->core[0]));
    reader_step(b->readers, 0);
    assert_int_equal(b->woken[0], 1);
    assert_true(read_pollable(b->core[0]));
    assert_int_equal(read_poll(b->core[0]), 0); /* moves the last job up */
    assert_false(read_pollable(b->core[0]));
    while (reader_step(b->readers, 0)) {}
    assert_int_equal(b->woken[0], 1); /* nothing waits any more */
    while (read_poll(b->core[1]) || reader_step(b->readers, 0)) {}
    assert_done_in_order(b, READ_RING_CELLS + 1);
}

static void results_wake_the_core_they_return_to(void **state)
{
    struct bench *b = *state;
    for (unsigned core = 0; core < CORES; core++) park_prepare(&b->wake[core]);
    submit(b, 0, 2, 1);
    read_publish(b->core[0]);
    reader_step(b->readers, 0);
    assert_int_equal(b->woken[0], 0);
    assert_int_equal(b->woken[2], 1);
    read_poll(b->core[2]);
}

static void more_readers_than_cores_leave_the_rest_idle(void **state)
{
    struct readers *readers;
    struct readers_config config = {&empty_store, NULL, NULL, 1, READERS_MAX, 0};
    assert_int_equal(readers_open(&readers, &config), STATUS_OK);
    for (unsigned i = 0; i < READERS_MAX; i++) assert_false(reader_step(readers, i));
    assert_int_equal(readers_start_threads(readers), STATUS_OK);
    readers_stop_threads(readers);
    readers_close(readers);
}

/* --- with threads ------------------------------------------------------------------------------------------------ */

static void stop_lets_published_jobs_finish(void **state)
{
    struct bench *b = *state;
    assert_int_equal(readers_start_threads(b->readers), STATUS_OK);
    for (uint64_t number = 1; number <= READ_RING_CELLS; number++) submit(b, 0, 0, number);
    read_publish(b->core[0]);
    readers_stop_threads(b->readers);
    assert_int_equal(atomic_load(&b->num_run), READ_RING_CELLS);
    assert_int_equal(read_poll(b->core[0]), READ_RING_CELLS);
    assert_done_in_order(b, READ_RING_CELLS);
    readers_stop_threads(b->readers); /* a second stop finds nothing to end */
}

static void results_that_had_no_room_return_after_the_stop(void **state)
{
    struct bench *b = *state;
    uint64_t num_jobs = UINT64_C(3) * READ_RING_CELLS;
    assert_int_equal(readers_start_threads(b->readers), STATUS_OK);
    for (uint64_t number = 1; number <= num_jobs; number++) submit(b, 0, 1, number);
    read_publish(b->core[0]);
    while (atomic_load(&b->num_run) < num_jobs) { /* core 1 does not poll: two thirds of the results have no room */
        park_prepare(&b->wake[0]);
        if (!read_pollable(b->core[0])) park_block(&b->wake[0], 10000000);
        park_done(&b->wake[0]);
        assert_int_equal(read_poll(b->core[0]), 0);
    }
    readers_stop_threads(b->readers);
    uint64_t num_done = 0;
    while (read_pollable(b->core[1])) num_done += read_poll(b->core[1]);
    assert_int_equal(num_done, num_jobs);
    assert_done_in_order(b, num_jobs);
}

#define JOBS_PER_CORE UINT64_C(20000)

/* One core of the load test: sends jobs that return to it or to its neighbour, and counts what comes to it. */
struct load_core {
    struct reader_core *end;
    struct park wake;
    unsigned core;
    uint64_t num_done, last_number[CORES], num_broken;
    uint64_t num_submitted;
    struct load_core *all;
};

struct load_job {
    struct read_job job;
    unsigned from;
    uint64_t number, answer;
};

static _Atomic uint64_t num_returned;

static void load_run(struct read_job *job, struct kv *kv)
{
    struct load_job *l = CONTAINER_OF(job, struct load_job, job);
    l->answer = 3 * l->number;
}

/* Jobs of one core to one other core use one ring each way, so their order holds. */
static void load_done(void *context, struct read_job *job)
{
    struct load_core *core = context;
    struct load_job *l = CONTAINER_OF(job, struct load_job, job);
    if (job->return_core != core->core || l->answer != 3 * l->number) core->num_broken++;
    if (l->number <= core->last_number[l->from]) core->num_broken++;
    core->last_number[l->from] = l->number;
    core->num_done++;
    free(l);
    if (atomic_fetch_add(&num_returned, 1) + 1 < CORES * JOBS_PER_CORE) return;
    for (unsigned other = 0; other < CORES; other++) park_wake(&core->all[other].wake); /* the end: nobody sleeps on */
}

static void *load_main(void *argument)
{
    struct load_core *core = argument;
    uint64_t random = core->core + 1;
    while (atomic_load(&num_returned) < CORES * JOBS_PER_CORE) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t burst = random >> 52; /* 0 … 4095 jobs a turn: more than a ring holds */
        for (; burst && core->num_submitted < JOBS_PER_CORE; burst--) {
            struct load_job *l = calloc(1, sizeof *l);
            l->job = (struct read_job){.run = load_run, .done = load_done};
            l->job.return_core = (uint16_t)((core->core + ((random >> (burst % 32)) & 1)) % CORES);
            l->from = core->core;
            l->number = ++core->num_submitted;
            read_submit(core->end, &l->job);
        }
        read_publish(core->end);
        if (read_poll(core->end) || core->num_submitted < JOBS_PER_CORE) continue;
        park_prepare(&core->wake);
        bool ended = atomic_load(&num_returned) == CORES * JOBS_PER_CORE;
        if (!ended && !read_pollable(core->end)) park_block(&core->wake, UINT64_MAX); /* a lost wake-up hangs here */
        park_done(&core->wake);
    }
    return NULL;
}

static void cores_under_load_get_every_job_back_once_and_in_order(void **state)
{
    struct readers *readers;
    struct readers_config config = {&empty_store, NULL, NULL, CORES, READERS, 0};
    struct load_core load[CORES];
    pthread_t threads[CORES];
    atomic_store(&num_returned, 0);
    assert_int_equal(readers_open(&readers, &config), STATUS_OK);
    for (unsigned core = 0; core < CORES; core++) {
        load[core] = (struct load_core){.core = core, .all = load};
        assert_int_equal(park_init(&load[core].wake, NULL, NULL), STATUS_OK);
        load[core].end = reader_core_open(readers, core, &load[core].wake, &load[core]);
    }
    assert_int_equal(readers_start_threads(readers), STATUS_OK);
    for (unsigned core = 0; core < CORES; core++)
        assert_int_equal(pthread_create(&threads[core], NULL, load_main, &load[core]), 0);
    uint64_t num_done = 0;
    for (unsigned core = 0; core < CORES; core++) {
        pthread_join(threads[core], NULL);
        num_done += load[core].num_done;
        assert_int_equal(load[core].num_broken, 0);
    }
    assert_int_equal(num_done, CORES * JOBS_PER_CORE);
    readers_stop_threads(readers);
    readers_close(readers);
    for (unsigned core = 0; core < CORES; core++) park_close(&load[core].wake);
}

#define STEP_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_steps, tear_down)
#define THREAD_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_threads, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEP_TEST(job_runs_once_published_and_comes_back),
        STEP_TEST(readers_are_idle_only_when_every_job_has_come_back),
        STEP_TEST(jobs_of_a_core_go_to_its_reader),
        STEP_TEST(job_returns_on_the_core_it_names),
        STEP_TEST(jobs_of_one_core_keep_their_order_over_full_rings),
        STEP_TEST(step_is_bounded_and_serves_cores_in_turn),
        STEP_TEST(full_result_ring_keeps_jobs_with_the_reader_which_goes_on),
        STEP_TEST(core_in_front_of_a_full_ring_is_woken_when_there_is_room),
        STEP_TEST(results_wake_the_core_they_return_to),
        STEP_TEST(more_readers_than_cores_leave_the_rest_idle),
        THREAD_TEST(stop_lets_published_jobs_finish),
        THREAD_TEST(results_that_had_no_room_return_after_the_stop),
        THREAD_TEST(cores_under_load_get_every_job_back_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
