#include "clock.h"

#include <string.h>
#include <time.h>

static uint64_t real_mono_ns(void *context)
{
    (void)context;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t real_wall_ms(void *context)
{
    (void)context;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

const struct clock *clock_real(void)
{
    static const struct clock real = {NULL, real_mono_ns, real_wall_ms};
    return &real;
}

static char *two_digits(char *out, unsigned v)
{
    out[0] = (char)('0' + v / 10);
    out[1] = (char)('0' + v % 10);
    return out + 2;
}

/* civil_from_days turns days since 1970-01-01 into year, month, day: H. Hinnant's algorithm for the proleptic
 * Gregorian calendar. By hand because gmtime_r takes 10 times as long and every message has a time in it. */
static void civil_from_days(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    days += 719468;
    int64_t era = days / 146097;
    unsigned day_of_era = (unsigned)(days - era * 146097);
    unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = (unsigned)(year_of_era + era * 400) + (*month <= 2);
}

char *time_text(char *out, uint64_t wall_ms)
{
    uint64_t seconds = wall_ms / 1000;
    unsigned of_day = (unsigned)(seconds % 86400), year, month, day;
    civil_from_days((int64_t)(seconds / 86400), &year, &month, &day);
    out = two_digits(out, year / 100 % 100);
    out = two_digits(out, year % 100);
    *out++ = '-';
    out = two_digits(out, month);
    *out++ = '-';
    out = two_digits(out, day);
    *out++ = 'T';
    out = two_digits(out, of_day / 3600);
    *out++ = ':';
    out = two_digits(out, of_day / 60 % 60);
    *out++ = ':';
    out = two_digits(out, of_day % 60);
    *out++ = '.';
    unsigned ms = (unsigned)(wall_ms % 1000);
    *out++ = (char)('0' + ms / 100);
    out = two_digits(out, ms % 100);
    *out++ = 'Z';
    return out;
}
