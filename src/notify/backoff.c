#include "backoff.h"

#include "../base/assert.h"
#include "../base/limits.h"

uint64_t backoff_ms(uint64_t base_ms, uint32_t attempts, uint64_t random)
{
    ASSERT(attempts >= 1 && base_ms >= 1);
    uint64_t wait = base_ms;
    for (uint32_t i = 1; i < attempts && wait < RETRY_MAX_MS; i++) wait *= 2;
    if (wait > RETRY_MAX_MS) wait = RETRY_MAX_MS;
    return wait - wait / 4 + random % (wait / 2 + 1);
}
