/* rate_limit: how many requests a tenant or an address may make a second, counted for the server as a whole.
 *
 * A bucket holds one second's worth of requests and is filled evenly: the generic cell rate algorithm (ITU-T I.371,
 * annex A), whose whole state is one word, the moment at which the bucket will be full again. So all cores share one
 * bucket without a lock: a request costs a compare-and-swap of a word on a cache line of its own, and only where a
 * limit is set: 6 ns, and 20 ns while two cores take from the same bucket in a loop (AMD EPYC). Shares a core would be
 * cheaper, but wrong for a client with one socket, which one core alone serves. A refused request only reads. What
 * holds is exact but for the moment at which an address is taken up: two cores that do so at once may forget one
 * request.
 *
 * Addresses are found in a table of RATE_SLOTS words pairs, by a keyed hash. A bucket that is full tells nothing, so
 * an address that has been quiet for a second is forgotten without loss. Only when all RATE_WAYS places where an
 * address may stand are busy does the one nearest to full go.
 *
 * Threads: all of it from any thread, but rate_table_new and rate_table_free. */
#ifndef CARILLON_AUTH_RATE_LIMIT_H
#define CARILLON_AUTH_RATE_LIMIT_H

#include <stdatomic.h>

#include "../base/hash.h"
#include "../base/spsc.h"
#include "../base/status.h"

/* rate_bucket: zeroed it is full. */
struct rate_bucket {
    _Alignas(CACHE_LINE) _Atomic uint64_t full_at_ns;
};

/* rate_state: how a bucket stands behind a request. */
struct rate_state {
    uint32_t limit, remaining;
    uint64_t full_in_ns; /* without another request */
    uint64_t wait_ns;    /* refused: until the next one will be taken */
};

/* rate_take takes one request out of a bucket of `per_second` (1 to 1e8; beyond 1e6 the nanosecond rounds it up); false
 * when it is empty. Monotonic time. */
MUST_USE bool rate_take(struct rate_state *out, _Atomic uint64_t *full_at_ns, uint32_t per_second, uint64_t now_ns);

struct rate_table;
struct rate_table *rate_table_new(const struct hash_key *key);
void rate_table_free(struct rate_table *t);
/* rate_table_take does the same for an address in the form of struct config_network. Of IPv6 the first 64 bits count:
 * one network is one client, which may choose the other half for every packet (RFC 8981). */
MUST_USE bool rate_table_take(struct rate_state *out, struct rate_table *t, const uint8_t address[16],
                              uint32_t per_second, uint64_t now_ns);

#endif
