/* Backups as the worker makes them, over an engine that exists in memory alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../storage/backup.h"

#define PATIENCE_MS 20000

static struct {
    struct backup_row rows[BACKUPS_MAX + 2];
    unsigned num;
    const char *why;
    _Atomic unsigned creates, purges;
    _Atomic bool prepare_fails, fails, purge_fails, list_fails, holds; /* holds: a backup does not end */
} engine;

static enum status engine_prepare(const struct backup_target *target, char *why, size_t why_len)
{
    if (!atomic_load(&engine.prepare_fails)) return STATUS_OK;
    snprintf(why, why_len, "the drive is locked");
    return STATUS_DENIED;
}

static enum status engine_create(struct kv *kv, const struct backup_target *target, char *why, size_t why_len)
{
    atomic_fetch_add(&engine.creates, 1);
    while (atomic_load(&engine.holds)) usleep(1000);
    if (atomic_load(&engine.fails)) {
        snprintf(why, why_len, "%s", engine.why ? engine.why : "the tape has torn");
        return STATUS_IO;
    }
    uint32_t id = engine.num ? engine.rows[engine.num - 1].id + 1 : 1;
    engine.rows[engine.num++] =
        (struct backup_row){.id = id, .files = 3, .bytes = 100 * id, .created_ms = 1000000 + 1000 * id};
    return STATUS_OK;
}

static enum status engine_purge(const struct backup_target *target, unsigned keep, char *why, size_t why_len)
{
    atomic_fetch_add(&engine.purges, 1);
    if (atomic_load(&engine.purge_fails)) return STATUS_IO;
    memmove(engine.rows, engine.rows + engine.num - keep, keep * sizeof *engine.rows);
    engine.num = keep;
    return STATUS_OK;
}

static enum status engine_list(const char *dir, struct backup_row *rows, unsigned max, unsigned *num, char *why,
                               size_t why_len)
{
    if (atomic_load(&engine.list_fails)) return STATUS_IO;
    *num = engine.num < max ? engine.num : max; /* the newest, as the real one */
    memcpy(rows, engine.rows + engine.num - *num, *num * sizeof *rows);
    return STATUS_OK;
}

static const struct backup_engine fake = {engine_prepare, engine_create, engine_purge, engine_list};
static struct backup_item items[BACKUPS_MAX + 1];

static struct backup_options options_with(unsigned keep)
{
    return (struct backup_options){.target = {.dir = "/nowhere"}, .engine = &fake, .clock = clock_real(),
                                   .at_minutes = BACKUP_AT_NEVER, .keep = keep};
}

static struct backup *started(const struct backup_options *options)
{
    struct backup *b = backup_open(options);
    assert_int_equal(backup_start_thread(b), STATUS_OK);
    return b;
}

static int reset(void **state)
{
    memset(&engine, 0, sizeof engine);
    return 0;
}

/* settled waits until no backup is being made. */
static struct backup_look settled(struct backup *b)
{
    struct backup_look look;
    for (unsigned ms = 0; ms < PATIENCE_MS; ms++) {
        backup_look(b, &look);
        if (!look.running) return look;
        usleep(1000);
    }
    fail_msg("a backup does not end");
    return look;
}

static void make(struct backup *b)
{
    struct backup_item item;
    assert_int_equal(backup_request(b, &item), STATUS_OK);
    assert_int_equal(item.state, BACKUP_RUNNING);
    settled(b);
}

static void a_backup_is_listed_once_it_is_complete(void **state)
{
    struct backup_options options = options_with(9);
    struct backup *b = started(&options);
    assert_int_equal(backup_list_items(b, items), 0);
    make(b);
    make(b);
    assert_int_equal(backup_list_items(b, items), 2);
    assert_int_equal(items[0].row.id, 2);
    assert_int_equal(items[1].row.id, 1);
    assert_int_equal(items[0].state, BACKUP_COMPLETE);
    struct backup_look look = settled(b);
    assert_int_equal(look.successes, 2);
    assert_int_equal(look.last_success_s, 1002);
    assert_int_equal(look.last_bytes, 200);
    assert_false(look.failed);
    assert_true(backup_stop(b));
}

static void one_is_made_at_a_time(void **state)
{
    struct backup_options options = options_with(9);
    struct backup *b = started(&options);
    struct backup_item first, second;
    atomic_store(&engine.holds, true);
    assert_int_equal(backup_request(b, &first), STATUS_OK);
    assert_int_equal(backup_request(b, &second), STATUS_EXISTS);
    assert_int_equal(second.row.id, first.row.id);
    assert_int_equal(backup_list_items(b, items), 1);
    assert_int_equal(items[0].state, BACKUP_RUNNING);
    atomic_store(&engine.holds, false);
    settled(b);
    assert_int_equal(atomic_load(&engine.creates), 1);
    assert_true(backup_stop(b));
}

static void one_that_failed_is_told_until_the_next_and_leaves_its_id(void **state)
{
    struct backup_options options = options_with(9);
    struct backup *b = started(&options);
    make(b);
    atomic_store(&engine.fails, true);
    make(b);
    assert_int_equal(backup_list_items(b, items), 2);
    assert_int_equal(items[0].state, BACKUP_FAILED);
    assert_int_equal(items[0].row.id, 2);
    assert_string_equal(items[0].error, "the tape has torn");
    struct backup_look look = settled(b);
    assert_true(look.failed);
    assert_int_equal(look.failures, 1);
    assert_int_equal(look.last_success_s, 1001);
    atomic_store(&engine.fails, false);
    make(b);
    assert_int_equal(backup_list_items(b, items), 2);
    assert_int_equal(items[0].state, BACKUP_COMPLETE);
    assert_int_equal(items[0].row.id, 2);
    assert_false(settled(b).failed);
    assert_true(backup_stop(b));
}

static void the_oldest_go_behind_a_success_alone(void **state)
{
    struct backup_options options = options_with(2);
    struct backup *b = started(&options);
    for (unsigned i = 0; i < 4; i++) make(b);
    assert_int_equal(backup_list_items(b, items), 2);
    assert_int_equal(items[1].row.id, 3);
    assert_int_equal(atomic_load(&engine.purges), 2);
    atomic_store(&engine.fails, true);
    make(b);
    assert_int_equal(atomic_load(&engine.purges), 2);
    assert_true(backup_stop(b));
}

static void a_backup_stands_though_the_old_ones_cannot_be_removed(void **state)
{
    struct backup_options options = options_with(1);
    struct backup *b = started(&options);
    atomic_store(&engine.purge_fails, true);
    make(b);
    make(b);
    assert_int_equal(backup_list_items(b, items), 2);
    assert_int_equal(items[0].state, BACKUP_COMPLETE);
    struct backup_look look = settled(b);
    assert_true(look.failed);
    assert_int_equal(look.failures, 1);
    assert_int_equal(look.successes, 2);
    assert_true(backup_stop(b));
}

static void a_directory_that_cannot_be_read_is_a_failure_and_no_more(void **state)
{
    struct backup_options options = options_with(9);
    struct backup_look look;
    atomic_store(&engine.list_fails, true);
    struct backup *b = backup_open(&options);
    backup_look(b, &look);
    assert_true(look.failed);
    assert_int_equal(backup_list_items(b, items), 0);
    assert_true(backup_stop(b));
}

static void a_damaged_one_is_shown_and_counts_for_nothing(void **state)
{
    struct backup_options options = options_with(9);
    engine.rows[0] = (struct backup_row){.id = 4, .files = 1, .bytes = 7, .created_ms = 5000};
    engine.rows[1] = (struct backup_row){.id = 5, .damaged = true};
    engine.num = 2;
    struct backup *b = backup_open(&options);
    struct backup_look look;
    backup_look(b, &look);
    assert_int_equal(look.last_success_s, 5);
    assert_int_equal(backup_list_items(b, items), 2);
    assert_int_equal(items[0].state, BACKUP_DAMAGED);
    assert_true(backup_stop(b));
}

static void a_directory_that_cannot_be_used_is_a_failure_until_a_backup_succeeds(void **state)
{
    struct backup_options options = options_with(9);
    struct backup_look look;
    atomic_store(&engine.prepare_fails, true);
    struct backup *b = started(&options);
    backup_look(b, &look);
    assert_true(look.failed);
    assert_string_equal(look.why, "the drive is locked");
    assert_int_equal(look.failures, 0);
    make(b);
    look = settled(b);
    assert_false(look.failed);
    assert_string_equal(look.why, "");
    assert_true(backup_stop(b));
}

static void the_schedule_makes_them_by_itself(void **state)
{
    struct backup_options options = options_with(9);
    options.interval_ms = 1; /* the fake's are of 1970: always due */
    struct backup *b = started(&options);
    struct backup_look look = {0};
    for (unsigned ms = 0; look.successes < 2 && ms < PATIENCE_MS; ms++) {
        usleep(1000);
        backup_look(b, &look);
    }
    assert_true(look.successes >= 2);
    assert_true(backup_stop(b));
}

static void one_that_does_not_end_is_left_behind(void **state)
{
    struct backup_options options = options_with(9);
    struct backup *b = started(&options);
    struct backup_item item;
    atomic_store(&engine.holds, true);
    assert_int_equal(backup_request(b, &item), STATUS_OK);
    while (atomic_load(&engine.creates) == 0) usleep(1000);
    uint64_t started_ns = clock_mono_ns(clock_real());
    assert_false(backup_stop(b));
    assert_in_range((clock_mono_ns(clock_real()) - started_ns) / 1000000, BACKUP_STOP_MS - 500, BACKUP_STOP_MS + 10000);
    atomic_store(&engine.holds, false);
    settled(b);
    assert_true(backup_stop(b));
}

static void the_newest_of_too_many_are_listed(void **state)
{
    struct backup_options options = options_with(BACKUPS_MAX);
    for (engine.num = 0; engine.num < BACKUPS_MAX + 2; engine.num++)
        engine.rows[engine.num] = (struct backup_row){.id = engine.num + 1, .files = 1, .bytes = 1, .created_ms = 1000};
    struct backup *b = started(&options);
    atomic_store(&engine.fails, true);
    make(b);
    assert_int_equal(backup_list_items(b, items), BACKUPS_MAX + 1); /* and the attempt that failed */
    assert_int_equal(items[0].row.id, BACKUPS_MAX + 3);
    assert_int_equal(items[1].row.id, BACKUPS_MAX + 2);
    assert_int_equal(items[BACKUPS_MAX].row.id, 3);
    assert_true(backup_stop(b));
}

static void a_long_reason_is_cut(void **state)
{
    static char why[2 * BACKUP_ERROR_BYTES_MAX];
    struct backup_options options = options_with(9);
    memset(why, 'x', sizeof why - 1);
    engine.why = why;
    atomic_store(&engine.fails, true);
    struct backup *b = started(&options);
    make(b);
    assert_int_equal(backup_list_items(b, items), 1);
    assert_int_equal(strlen(items[0].error), BACKUP_ERROR_BYTES_MAX - 1);
    assert_true(backup_stop(b));
}

static void the_schedule_rests_after_a_failure(void **state)
{
    uint64_t day_ms = 86400000;
    assert_true(backup_rests(0, 1000, 1000));
    assert_true(backup_rests(day_ms, 1000, 1000 + BACKUP_RETRY_MS - 1));
    assert_false(backup_rests(day_ms, 1000, 1000 + BACKUP_RETRY_MS));
    assert_false(backup_rests(60000, 1000, 61000)); /* a shorter interval goes on as it is */
    assert_false(backup_rests(day_ms, 1000, 999));
}

static uint64_t local_ms(int day, int hour, int minute)
{
    struct tm t = {.tm_year = 126, .tm_mon = 2, .tm_mday = day, .tm_hour = hour, .tm_min = minute, .tm_isdst = -1};
    return (uint64_t)mktime(&t) * 1000;
}

static void an_interval_counts_from_the_last_good_one(void **state)
{
    assert_true(backup_due(60000, BACKUP_AT_NEVER, 0, 1));
    assert_false(backup_due(60000, BACKUP_AT_NEVER, 1000000, 1059999));
    assert_true(backup_due(60000, BACKUP_AT_NEVER, 1000000, 1060000));
    assert_true(backup_due(60000, BACKUP_AT_NEVER, 1000000, 900000)); /* the clock went back */
    assert_false(backup_due(0, BACKUP_AT_NEVER, 0, 1000000));
}

static void a_time_of_day_is_local_and_comes_once_a_day(void **state)
{
    static const char *const zones[] = {"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"};
    for (unsigned i = 0; i < sizeof zones / sizeof *zones; i++) {
        setenv("TZ", zones[i], 1);
        tzset();
        uint32_t at = 3 * 60 + 30;
        for (int day = 1; day <= 31; day++) { /* March 2026: summer time begins on the 8th and on the 29th */
            uint64_t before = local_ms(day, 3, 29), on = local_ms(day, 3, 30), yesterday = local_ms(day - 1, 3, 30);
            assert_true(backup_due(0, at, yesterday, on));
            assert_false(backup_due(0, at, yesterday, before));
            assert_true(backup_due(0, at, yesterday - 1000, before)); /* the one of yesterday was missed */
            assert_false(backup_due(0, at, on, on + 1000));
            assert_false(backup_due(0, at, on + 5000, local_ms(day + 1, 3, 29)));
            assert_true(backup_due(0, at, local_ms(day, 1, 0), on)); /* one made by hand at night takes nothing away */
        }
    }
    unsetenv("TZ");
    tzset();
}

int main(void)
{
#define FRESH(test) cmocka_unit_test_setup(test, reset)
    const struct CMUnitTest tests[] = {
        FRESH(a_backup_is_listed_once_it_is_complete),
        FRESH(one_is_made_at_a_time),
        FRESH(one_that_failed_is_told_until_the_next_and_leaves_its_id),
        FRESH(the_oldest_go_behind_a_success_alone),
        FRESH(a_backup_stands_though_the_old_ones_cannot_be_removed),
        FRESH(a_directory_that_cannot_be_read_is_a_failure_and_no_more),
        FRESH(a_damaged_one_is_shown_and_counts_for_nothing),
        FRESH(a_directory_that_cannot_be_used_is_a_failure_until_a_backup_succeeds),
        FRESH(the_schedule_makes_them_by_itself),
        FRESH(one_that_does_not_end_is_left_behind),
        FRESH(the_newest_of_too_many_are_listed),
        FRESH(a_long_reason_is_cut),
        FRESH(the_schedule_rests_after_a_failure),
        FRESH(an_interval_counts_from_the_last_good_one),
        FRESH(a_time_of_day_is_local_and_comes_once_a_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
