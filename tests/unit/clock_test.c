#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../src/base/clock.h"
#include "../../src/base/hash.h"

static void assert_time(uint64_t wall_ms, const char *expected)
{
    char text[TIME_TEXT_LEN + 1];
    memset(text, '#', sizeof text);
    assert_ptr_equal(time_text(text, wall_ms), text + TIME_TEXT_LEN);
    assert_int_equal(text[TIME_TEXT_LEN], '#');
    assert_memory_equal(text, expected, TIME_TEXT_LEN);
}

static void assert_as_gmtime(uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    assert_non_null(gmtime_r(&seconds, &tm));
    char expected[80];
    snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(wall_ms % 1000));
    assert_time(wall_ms, expected);
}

#define DAY_MS 86400000ull
#define END_OF_9999_MS 253402300799999ull /* the last millisecond that four digits of year can name */

static void known_instants_have_their_known_text(void **state)
{
    assert_time(0, "1970-01-01T00:00:00.000Z");
    assert_time(951782399999, "2000-02-28T23:59:59.999Z");
    assert_time(951782400000, "2000-02-29T00:00:00.000Z");
    assert_time(1700000000123, "2023-11-14T22:13:20.123Z");
    assert_time(4107542400000, "2100-03-01T00:00:00.000Z"); /* 2100 is no leap year */
    assert_time(END_OF_9999_MS, "9999-12-31T23:59:59.999Z");
}

static void both_ends_of_every_day_until_2500_agree_with_gmtime(void **state)
{
    for (uint64_t day = 0; day < 530ull * 366; day++) {
        assert_as_gmtime(day * DAY_MS);
        assert_as_gmtime(day * DAY_MS + DAY_MS - 1);
    }
}

static void random_instants_agree_with_gmtime(void **state)
{
    for (uint64_t i = 0; i < 300000; i++) assert_as_gmtime(hash_u64(i) % (END_OF_9999_MS + 1));
}

static void the_real_clock_goes_forward_and_is_the_systems(void **state)
{
    const struct clock *clock = clock_real();
    uint64_t last = 0;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t now = clock_mono_ns(clock);
        assert_true(now >= last);
        last = now;
    }
    struct timespec before, after, pause = {0, 20000000};
    clock_gettime(CLOCK_REALTIME, &before);
    uint64_t wall = clock_wall_ms(clock);
    clock_gettime(CLOCK_REALTIME, &after);
    assert_true(wall >= (uint64_t)before.tv_sec * 1000 + (uint64_t)before.tv_nsec / 1000000);
    assert_true(wall <= (uint64_t)after.tv_sec * 1000 + (uint64_t)after.tv_nsec / 1000000);
    last = clock_mono_ns(clock);
    nanosleep(&pause, NULL);
    uint64_t slept = clock_mono_ns(clock) - last;
    assert_true(slept >= 20000000 && slept < 20000000000u); /* nanoseconds */
}

static uint64_t add_one(void *context)
{
    return ++*(uint64_t *)context;
}

static void a_clock_of_ones_own_gets_its_context(void **state)
{
    uint64_t ticks = 41;
    struct clock mine = {&ticks, add_one, add_one};
    assert_int_equal(clock_mono_ns(&mine), 42);
    assert_int_equal(clock_wall_ms(&mine), 43);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_instants_have_their_known_text),
        cmocka_unit_test(both_ends_of_every_day_until_2500_agree_with_gmtime),
        cmocka_unit_test(random_instants_agree_with_gmtime),
        cmocka_unit_test(the_real_clock_goes_forward_and_is_the_systems),
        cmocka_unit_test(a_clock_of_ones_own_gets_its_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
