#include "pipeline.h"

#include <stdlib.h>
#include <time.h>

#include "../../src/base/limits.h"

/* The pipeline with its own threads: what overlaps, what ends, and what cores under load see. */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        THREAD_TEST(next_batch_is_written_while_a_sync_blocks),
        THREAD_TEST(stop_finishes_what_was_published_and_syncs_the_mark),
        THREAD_TEST(threads_sync_fast_entries_without_new_work),
        THREAD_TEST(idle_threads_sync_the_mark_without_new_work),
        THREAD_TEST(threads_call_back_everything_after_a_failed_sync),
        THREAD_TEST(cores_under_load_see_every_entry_once_in_order_and_durable),
    };
    return cmocka_run_group_tests_name("commit_threads", tests, NULL, NULL);
}
