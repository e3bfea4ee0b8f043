#include "pipeline.h"

#include <stdlib.h>

#include "../../src/base/limits.h"

/* What the stages do with entries, one step after the other. */

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
    };
    return cmocka_run_group_tests_name("commit", tests, NULL, NULL);
}
