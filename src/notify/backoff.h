/* backoff: how long to wait between two attempts: doubling, up to RETRY_MAX_MS, a quarter more or less by chance, so
 * that what failed together is not tried again together. */
#ifndef CARILLON_NOTIFY_BACKOFF_H
#define CARILLON_NOTIFY_BACKOFF_H

#include <stdint.h>

/* backoff_ms gives the wait after attempt number `attempts` (≥ 1), from `base_ms` × 2^(attempts - 1). */
uint64_t backoff_ms(uint64_t base_ms, uint32_t attempts, uint64_t random);
/* backoff_longest_ms: no chance makes that wait longer. */
uint64_t backoff_longest_ms(uint64_t base_ms, uint32_t attempts);

#endif
