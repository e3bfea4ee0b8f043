#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../storage/keys.h"
#include "../../storage/store.h"

static void put(struct kv *kv, struct kv_batch *b, const char *key, const char *value)
{
    kv->ops->batch_put(b, KV_LOG, slice_str(key), slice_str(value));
}

static void write_one(struct kv *kv, const char *key, const char *value)
{
    struct kv_batch *b = kv_batch_new(kv);
    put(kv, b, key, value);
    assert_int_equal(kv_write(kv, b), STATUS_OK);
    kv->ops->batch_free(b);
}

/* contents gives the family as "key=value " in order, walked forwards and checked backwards. */
static const char *contents(struct kv *kv)
{
    static char text[2000];
    char backwards[sizeof text] = "";
    *text = '\0';
    struct slice none = {NULL, 0};
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, none, none);
    for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i))
        sprintf(text + strlen(text), "%.*s=%.*s ", SLICE_FMT(kv_iter_key(kv, i)), SLICE_FMT(kv_iter_value(kv, i)));
    for (bool on = kv_iter_last(kv, i); on; on = kv_iter_prev(kv, i)) {
        char row[256];
        int len = sprintf(row, "%.*s=%.*s ", SLICE_FMT(kv_iter_key(kv, i)), SLICE_FMT(kv_iter_value(kv, i)));
        memmove(backwards + len, backwards, strlen(backwards) + 1);
        memcpy(backwards, row, (size_t)len);
    }
    assert_string_equal(text, backwards);
    assert_int_equal(kv_iter_close(kv, i), STATUS_OK);
    return text;
}

static void a_written_batch_is_readable_at_once(void **state)
{
    struct kv *kv = kv_fake_new();
    struct buf value = {0};
    assert_int_equal(kv_get(kv, KV_LOG, SLICE("a"), &value), STATUS_NOT_FOUND);
    write_one(kv, "a", "1");
    assert_int_equal(kv_get(kv, KV_LOG, SLICE("a"), &value), STATUS_OK);
    assert_true(slice_is(buf_slice(&value), "1"));
    write_one(kv, "a", "22");
    assert_int_equal(kv_get(kv, KV_LOG, SLICE("a"), &value), STATUS_OK);
    assert_true(slice_is(buf_slice(&value), "22"));
    assert_int_equal(kv_get(kv, KV_MEMBERS, SLICE("a"), &value), STATUS_NOT_FOUND);
    assert_int_equal(value.len, 0);
    buf_free(&value);
    kv_close(kv);
}

static void a_batch_applies_its_rows_in_order(void **state)
{
    struct kv *kv = kv_fake_new();
    write_one(kv, "b", "old");
    struct kv_batch *b = kv_batch_new(kv);
    put(kv, b, "a", "1");
    put(kv, b, "c", "1");
    put(kv, b, "d", "1");
    kv->ops->batch_delete_range(b, KV_LOG, SLICE("b"), SLICE("d"));
    put(kv, b, "c", "2");
    kv->ops->batch_delete(b, KV_LOG, SLICE("a"));
    kv->ops->batch_delete(b, KV_LOG, SLICE("absent"));
    assert_int_equal(kv_write(kv, b), STATUS_OK);
    assert_string_equal(contents(kv), "c=2 d=1 ");
    assert_int_equal(kv_sequence(kv), 1 + 7);
    kv->ops->batch_clear(b);
    put(kv, b, "e", "3");
    assert_int_equal(kv_write(kv, b), STATUS_OK);
    assert_string_equal(contents(kv), "c=2 d=1 e=3 ");
    kv->ops->batch_free(b);
    kv_close(kv);
}

static void a_log_range_begins_at_a_room_or_a_tenant(void **state)
{
    struct key room, event, next;
    key_room(&room, 1, 2);
    key_log(&event, 1, 2, 3);
    key_log(&next, 1, 2, 4);
    assert_true(kv_range_valid(KV_LOG, key_slice(&room), key_slice(&next)));
    assert_false(kv_range_valid(KV_LOG, key_slice(&event), key_slice(&next)));
    assert_true(kv_range_valid(KV_CHANGES, key_slice(&event), key_slice(&next)));
    assert_false(kv_range_valid(KV_CHANGES, key_slice(&next), key_slice(&next)));
    assert_false(kv_range_valid(KV_CHANGES, key_slice(&next), key_slice(&event)));
}

static void iterators_keep_their_snapshot_and_their_bounds(void **state)
{
    struct kv *kv = kv_fake_new();
    write_one(kv, "a", "1");
    write_one(kv, "b", "2");
    write_one(kv, "c", "3");
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, SLICE("a\1"), SLICE("c"));
    write_one(kv, "b", "changed");
    write_one(kv, "bb", "new");
    assert_true(kv_iter_first(kv, i));
    assert_true(slice_is(kv_iter_key(kv, i), "b") && slice_is(kv_iter_value(kv, i), "2"));
    assert_false(kv_iter_next(kv, i));
    assert_true(kv_iter_last(kv, i));
    assert_false(kv_iter_prev(kv, i));
    assert_int_equal(kv_iter_close(kv, i), STATUS_OK);
    i = kv_iter_open(kv, KV_LOG, SLICE("x"), SLICE("z"));
    assert_false(kv_iter_first(kv, i) || kv_iter_last(kv, i));
    assert_int_equal(kv_iter_close(kv, i), STATUS_OK);
    kv_close(kv);
}

/* The states a script passes through; a crash must land on exactly one of them. */
#define STEPS 6
static void run_script(struct kv *kv, unsigned steps)
{
    struct kv_batch *b = kv_batch_new(kv);
    for (unsigned n = 0; n < steps; n++) {
        kv->ops->batch_clear(b);
        switch (n) {
        case 0: put(kv, b, "a", "1"), put(kv, b, "b", "1"); break;
        case 1: put(kv, b, "a", "2"), kv->ops->batch_delete(b, KV_LOG, SLICE("b")); break;
        case 2: put(kv, b, "c", "3"), put(kv, b, "c", "4"), put(kv, b, "d", "1"); break;
        case 3: kv->ops->batch_delete_range(b, KV_LOG, SLICE("a"), SLICE("d")), put(kv, b, "b", "5"); break;
        case 4: kv->ops->batch_delete(b, KV_LOG, SLICE("d")), put(kv, b, "d", "6"), put(kv, b, "a", "7"); break;
        case 5: kv->ops->batch_delete_range(b, KV_LOG, SLICE("a"), SLICE("z")); break;
        }
        assert_int_equal(kv_write(kv, b), STATUS_OK);
    }
    kv->ops->batch_free(b);
}

static void a_crash_keeps_exactly_a_prefix_of_the_batches(void **state)
{
    for (unsigned keep = 0; keep <= STEPS; keep++) {
        for (unsigned tear = 0; tear < 2; tear++) {
            struct kv *crashed = kv_fake_new(), *expected = kv_fake_new();
            write_one(crashed, "a", "0");
            write_one(expected, "a", "0");
            assert_int_equal(kv_sync(crashed), STATUS_OK);
            run_script(crashed, STEPS);
            assert_int_equal(kv_fake_unsynced(crashed), STEPS);
            kv_fake_crash(crashed, keep, tear);
            run_script(expected, tear && keep ? keep - 1 : keep);
            char wanted[2000];
            strcpy(wanted, contents(expected));
            assert_string_equal(contents(crashed), wanted);
            assert_int_equal(kv_sequence(crashed), kv_sequence(expected));
            assert_int_equal(kv_fake_unsynced(crashed), 0);
            kv_fake_crash(crashed, 0, true); /* what a recovery kept is durable */
            assert_string_equal(contents(crashed), wanted);
            kv_close(crashed);
            kv_close(expected);
        }
    }
}

static void what_is_synced_survives_every_crash(void **state)
{
    struct kv *kv = kv_fake_new();
    run_script(kv, 3);
    char synced[2000];
    strcpy(synced, contents(kv));
    uint64_t sequence = kv_sequence(kv);
    assert_int_equal(kv_sync(kv), STATUS_OK);
    write_one(kv, "late", "1");
    kv_fake_crash(kv, 0, false);
    assert_string_equal(contents(kv), synced);
    assert_int_equal(kv_sequence(kv), sequence);
    kv_close(kv);
}

static void a_failed_write_is_gone_when_the_store_is_opened_again(void **state)
{
    struct kv *kv = kv_fake_new();
    kv_fake_fail(kv, true, false);
    struct kv_batch *b = kv_batch_new(kv);
    put(kv, b, "a", "1");
    assert_int_equal(kv_write(kv, b), STATUS_IO);
    assert_string_equal(contents(kv), "a=1 ");
    assert_int_equal(kv_sequence(kv), 1);
    assert_int_equal(kv_fake_unsynced(kv), 0);
    kv_fake_fail(kv, false, false);
    assert_int_equal(kv_write(kv, b), STATUS_READ_ONLY); /* the first error is final */
    assert_int_equal(kv_sync(kv), STATUS_READ_ONLY);
    kv_fake_hold(kv);
    kv_close(kv); /* and over when the store is opened again */
    assert_string_equal(contents(kv), "");
    assert_int_equal(kv_sequence(kv), 0);
    assert_int_equal(kv_write(kv, b), STATUS_OK);
    assert_string_equal(contents(kv), "a=1 ");
    kv->ops->batch_free(b);
    kv_close(kv);
}

static void a_failed_sync_makes_nothing_durable(void **state)
{
    struct kv *kv = kv_fake_new();
    write_one(kv, "a", "1");
    kv_fake_fail(kv, false, true);
    assert_int_equal(kv_sync(kv), STATUS_IO);
    assert_int_equal(kv_fake_unsynced(kv), 1);
    kv_fake_fail(kv, false, false);
    assert_int_equal(kv_sync(kv), STATUS_READ_ONLY);
    kv_fake_crash(kv, 0, false);
    assert_string_equal(contents(kv), "");
    assert_int_equal(kv_sync(kv), STATUS_OK);
    kv_close(kv);
}

static void a_held_store_outlives_its_close(void **state)
{
    struct kv *kv = kv_fake_new();
    kv_fake_hold(kv);
    write_one(kv, "a", "1");
    kv_close(kv);
    assert_string_equal(contents(kv), "a=1 ");
    kv_close(kv);
}

static void *sync_until_told(void *context)
{
    struct kv *kv = context;
    for (int n = 0; n < 500; n++) {
        assert_int_equal(kv_sync(kv), STATUS_OK);
        (void)kv_sequence(kv);
    }
    return NULL;
}

static void *read_until_told(void *context)
{
    struct kv *kv = context;
    struct buf value = {0};
    struct slice none = {NULL, 0};
    for (int n = 0; n < 500; n++) {
        (void)!kv_get(kv, KV_LOG, SLICE("k7"), &value);
        struct kv_iter *i = kv_iter_open(kv, KV_LOG, none, none);
        for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) assert_true(kv_iter_key(kv, i).len > 1);
        assert_int_equal(kv_iter_close(kv, i), STATUS_OK);
    }
    buf_free(&value);
    return NULL;
}

static void writer_syncer_and_reader_may_run_at_once(void **state)
{
    struct kv *kv = kv_fake_new();
    pthread_t syncer, reader;
    assert_int_equal(pthread_create(&syncer, NULL, sync_until_told, kv), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_until_told, kv), 0);
    for (int n = 0; n < 500; n++) {
        char key[16];
        sprintf(key, "k%d", n % 50);
        write_one(kv, key, "value");
    }
    pthread_join(syncer, NULL);
    pthread_join(reader, NULL);
    assert_int_equal(kv_sequence(kv), 500);
    kv_close(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_written_batch_is_readable_at_once),
        cmocka_unit_test(a_batch_applies_its_rows_in_order),
        cmocka_unit_test(a_log_range_begins_at_a_room_or_a_tenant),
        cmocka_unit_test(iterators_keep_their_snapshot_and_their_bounds),
        cmocka_unit_test(a_crash_keeps_exactly_a_prefix_of_the_batches),
        cmocka_unit_test(what_is_synced_survives_every_crash),
        cmocka_unit_test(a_failed_write_is_gone_when_the_store_is_opened_again),
        cmocka_unit_test(a_failed_sync_makes_nothing_durable),
        cmocka_unit_test(a_held_store_outlives_its_close),
        cmocka_unit_test(writer_syncer_and_reader_may_run_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
