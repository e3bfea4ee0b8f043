/* vitals: fills gateway->vitals (src/core/vitals.h). */
#ifndef CARILLON_CLI_VITALS_H
#define CARILLON_CLI_VITALS_H

#include "../core/gateway.h"

/* vitals_look is called by the main thread, which may wait. */
void vitals_look(struct gateway *g);
/* vitals_memory_used returns, as last seen, the bytes that the allocator holds in memory: RocksDB's caches and memtables
 * are allocated by it, and so is everything of the gateway but thread stacks and what the kernel holds. Without jemalloc
 * (under the sanitizers) it is the resident size of the process. */
uint64_t vitals_memory_used(const struct gateway *g);

#endif
