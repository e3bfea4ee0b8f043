#include "backoff.h"

#include "../base/assert.h"
#include "../base/limits.h"

static uint64_t middle_ms(uint64_t base_ms, uint32_t attempts)
{
    ASSERT(attempts >= 1 && base_ms >= 1);
    uint64_t wait = base_ms;
    for (uint32_t i = 1; i < attempts && wait < RETRY_MAX_MS; i++) wait *= 2;
    return wait < RETRY_MAX_MS ? wait : RETRY_MAX_MS;
}

uint64_t backoff_ms(uint64_t base_ms, uint32_t attempts, uint64_t random)
{
    uint64_t wait = middle_ms(base_ms, attempts);
    return wait - wait / 4 + random % (wait / 2 + 1);
}

uint64_t backoff_longest_ms(uint64_t base_ms, uint32_t attempts)
{
    uint64_t wait = middle_ms(base_ms, attempts);
    return wait - wait / 4 + wait / 2;
}
