#include "pipeline.h"

#include "../../src/base/limits.h"

/* The low-water mark, and what becomes of entries when a write, a sync or the mark fails. */

/* --- the mark ---------------------------------------------------------------------------------------------------- */

static void commit_one(struct pipeline *p, uint64_t ticket)
{
    push(p, 0, COMMIT_FSYNC, ticket);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    commit_syncer_step(p->commit);
    commit_poll(p->core[0]);
}

static void mark_is_written_after_each_sync_but_synced_at_most_ten_times_a_second(void **state)
{
    struct pipeline *p = *state;
    for (uint64_t ticket = 1; ticket <= 100; ticket++) {
        p->now_ns += 10 * 1000000ull;
        commit_one(p, ticket);
        assert_int_equal(p->mark.written, ticket); /* one row each: the sequence number */
    }
    assert_int_equal(atomic_load(&p->mark.num_syncs), 10);
}

static void idle_syncer_syncs_the_mark_when_it_is_due(void **state)
{
    struct pipeline *p = *state;
    commit_one(p, 1);
    assert_false(commit_syncer_step(p->commit));
    p->now_ns += (MARK_SYNC_INTERVAL_MS - 1) * 1000000ull;
    assert_false(commit_syncer_step(p->commit));
    p->now_ns += 1000000ull;
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(p->mark.synced, 1);
    p->now_ns += 1000000000ull;
    assert_false(commit_syncer_step(p->commit)); /* nothing new to sync */
}

static void mark_never_claims_what_a_failed_sync_left_open(void **state)
{
    struct pipeline *p = *state;
    commit_one(p, 1);
    p->store.sync_result = STATUS_IO;
    commit_one(p, 2);
    p->now_ns += 1000000000ull;
    while (commit_syncer_step(p->commit)) {}
    assert_int_equal(p->mark.written, 1);
}

static void failed_mark_poisons_too(void **state)
{
    struct pipeline *p = *state;
    p->mark.write_result = STATUS_IO;
    commit_one(p, 1);
    assert_completed(p, 0, 1, STATUS_OK); /* it is durable: the store's sync went well */
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, 2), STATUS_READ_ONLY);
}

static void failed_mark_sync_poisons_too(void **state)
{
    struct pipeline *p = *state;
    p->mark.sync_result = STATUS_IO;
    commit_one(p, 1);
    assert_false(commit_poisoned(p->commit));
    p->now_ns += MARK_SYNC_INTERVAL_MS * 1000000ull;
    commit_syncer_step(p->commit);
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(atomic_load(&commit_stats(p->commit)->sync_errors), 1);
}

/* --- failure ----------------------------------------------------------------------------------------------------- */

static void failed_write_leaves_its_batch_unknown_and_the_rest_never_handed_over(void **state)
{
    struct pipeline *p = *state;
    uint64_t num_entries = COMMIT_RING_CELLS + 10, ticket = 1;
    for (; ticket <= num_entries; ticket++) push(p, 0, ticket % 2 ? COMMIT_FSYNC : COMMIT_FAST, ticket);
    commit_publish(p->core[0]);
    p->store.write_result = STATUS_NO_SPACE;
    assert_true(commit_writer_step(p->commit));
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, ticket), STATUS_READ_ONLY);
    assert_true(commit_pollable(p->core[0]));
    assert_int_equal(commit_poll(p->core[0]), num_entries);
    for (size_t i = 0; i < p->num_done; i++)
        assert_int_equal(p->done[i].result, p->done[i].ticket <= COMMIT_BATCH_MAX ? STATUS_UNKNOWN : STATUS_IO);
    assert_int_equal(commit_pending(p->core[0]), 0);
    assert_int_equal(p->store.num_rows, 0);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->write_errors), 1);
    assert_int_equal(atomic_load(&commit_stats(p->commit)->latency_count), 0);
}

static void written_entries_are_unknown_when_a_later_write_fails(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    push(p, 0, COMMIT_FAST, 2);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    p->store.write_result = STATUS_IO;
    push(p, 1, COMMIT_FSYNC, 1);
    commit_publish(p->core[1]);
    commit_writer_step(p->commit);
    assert_false(commit_syncer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 2, STATUS_OK); /* fast: it is in the WAL */
    assert_completed(p, 1, 1, STATUS_UNKNOWN);
    assert_int_equal(commit_poll(p->core[1]), 1);
    assert_completed(p, 2, 1, STATUS_UNKNOWN);
}

static void failed_sync_acknowledges_nothing(void **state)
{
    struct pipeline *p = *state;
    commit_one(p, 1);
    p->store.sync_result = STATUS_IO;
    push(p, 0, COMMIT_FSYNC, 2);
    push(p, 0, COMMIT_FAST, 3);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    push(p, 0, COMMIT_FSYNC, 4); /* in the ring */
    commit_publish(p->core[0]);
    push(p, 0, COMMIT_FSYNC, 5); /* parked */
    assert_true(commit_syncer_step(p->commit));
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, 6), STATUS_READ_ONLY);
    assert_int_equal(commit_poll(p->core[0]), 1);
    assert_completed(p, 1, 3, STATUS_OK); /* fast: its write was shown before */
    assert_false(commit_pollable(p->core[0]));
    assert_int_equal(commit_poll(p->core[0]), 0); /* the writer may still hold the entries */
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 3);
    assert_completed(p, 2, 2, STATUS_UNKNOWN);
    assert_completed(p, 3, 4, STATUS_IO);
    assert_completed(p, 4, 5, STATUS_IO);
    assert_int_equal(p->store.num_rows, 3);
}

static void poisoned_pipeline_stays_frozen(void **state)
{
    struct pipeline *p = *state;
    p->store.sync_result = STATUS_IO;
    commit_one(p, 1);
    p->store.sync_result = STATUS_OK; /* the kernel may well say so the second time */
    while (commit_writer_step(p->commit)) {}
    assert_false(commit_syncer_step(p->commit));
    assert_int_equal(p->store.num_syncs, 0);
    assert_int_equal(poll_all(p), 1);
    assert_completed(p, 0, 1, STATUS_UNKNOWN);
    assert_int_equal(push_one(p, 0, COMMIT_FSYNC, 2), STATUS_READ_ONLY);
    assert_false(commit_writer_step(p->commit));
    assert_true(commit_poisoned(p->commit));
    assert_int_equal(p->mark.num_writes, 0);
}

static void fail_sync_in_between(void *context)
{
    struct pipeline *p = context;
    p->store.during_write = NULL;
    p->store.sync_result = STATUS_IO;
    assert_true(commit_syncer_step(p->commit));
}

/* The sync of the first write fails while the second write is under way: that write is not shown, not even as fast. */
static void write_that_ends_after_a_failed_sync_is_not_published(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    p->store.during_write = fail_sync_in_between;
    push(p, 0, COMMIT_FAST, 2);
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 1, STATUS_UNKNOWN);
    assert_completed(p, 1, 2, STATUS_UNKNOWN);
}

static void fail_write_in_between(void *context)
{
    struct pipeline *p = context;
    p->store.during_sync = NULL;
    p->store.write_result = STATUS_IO;
    push(p, 0, COMMIT_FSYNC, 2);
    commit_publish(p->core[0]);
    assert_true(commit_writer_step(p->commit));
}

static void sync_that_ends_after_a_failed_write_is_not_published(void **state)
{
    struct pipeline *p = *state;
    p->store.during_sync = fail_write_in_between;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    assert_true(commit_syncer_step(p->commit));
    assert_int_equal(commit_poll(p->core[0]), 2);
    assert_completed(p, 0, 1, STATUS_UNKNOWN);
    assert_completed(p, 1, 2, STATUS_UNKNOWN);
    assert_int_equal(p->mark.num_writes, 0);
}

static void sleeping_cores_are_woken_by_a_failure(void **state)
{
    struct pipeline *p = *state;
    push(p, 0, COMMIT_FSYNC, 1);
    commit_publish(p->core[0]);
    commit_writer_step(p->commit);
    p->store.sync_result = STATUS_IO;
    commit_syncer_step(p->commit);
    assert_int_equal(woken_by(p, commit_writer_step, 2), 1); /* all of them: their admission changes too */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEP_TEST(mark_is_written_after_each_sync_but_synced_at_most_ten_times_a_second),
        STEP_TEST(idle_syncer_syncs_the_mark_when_it_is_due),
        STEP_TEST(mark_never_claims_what_a_failed_sync_left_open),
        STEP_TEST(failed_mark_poisons_too),
        STEP_TEST(failed_mark_sync_poisons_too),
        STEP_TEST(failed_write_leaves_its_batch_unknown_and_the_rest_never_handed_over),
        STEP_TEST(written_entries_are_unknown_when_a_later_write_fails),
        STEP_TEST(failed_sync_acknowledges_nothing),
        STEP_TEST(poisoned_pipeline_stays_frozen),
        STEP_TEST(write_that_ends_after_a_failed_sync_is_not_published),
        STEP_TEST(sync_that_ends_after_a_failed_write_is_not_published),
        STEP_TEST(sleeping_cores_are_woken_by_a_failure),
    };
    return cmocka_run_group_tests_name("commit_failure", tests, NULL, NULL);
}
