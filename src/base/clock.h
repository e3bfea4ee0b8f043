/* clock: the seam for time. Production passes clock_real(); the simulator its own.
 *
 * mono_ns never goes backwards and drives every timer and deadline. wall_ms is what clients see (`created_at`);
 * it may be stepped by the operator, so nothing but displayed times depends on it. */
#ifndef CARILLON_BASE_CLOCK_H
#define CARILLON_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    void *context;
    uint64_t (*mono_ns)(void *context); /* nanoseconds since an arbitrary start */
    uint64_t (*wall_ms)(void *context); /* milliseconds since 1970-01-01 UTC */
};

const struct clock *clock_real(void);

static inline uint64_t clock_mono_ns(const struct clock *c) { return c->mono_ns(c->context); }
static inline uint64_t clock_wall_ms(const struct clock *c) { return c->wall_ms(c->context); }

#define TIME_TEXT_LEN 24 /* "2026-01-31T23:59:59.999Z" */
/* time_text writes wall_ms as RFC 3339 in UTC with milliseconds: exactly TIME_TEXT_LEN bytes; returns the end. */
char *time_text(char *out, uint64_t wall_ms);

#endif
