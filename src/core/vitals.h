/* vitals: what is known of the process and the store as a whole. The main thread looks once a second
 * (src/cli/vitals.c), since looking opens files and takes RocksDB's lock; /metrics and /admin/status on any core read
 * what it saw. */
#ifndef CARILLON_CORE_VITALS_H
#define CARILLON_CORE_VITALS_H

#include "../base/metrics.h"

/* Parts of the memory. The heap's are everything that was allocated, the store's a part of it. */
enum memory_part {
    MEMORY_HEAP_ALLOCATED, /* asked for and not freed */
    MEMORY_HEAP_ACTIVE,    /* pages that hold it */
    MEMORY_HEAP_RESIDENT,  /* pages that the allocator holds, its own and those not yet given back included */
    MEMORY_BLOCK_CACHE,    /* RocksDB: blocks read from disk */
    MEMORY_MEMTABLES,      /* RocksDB: writes not yet in a sorted file */
    MEMORY_TABLE_READERS,  /* RocksDB: indexes and filters of open files */
    MEMORY_PARTS
};

struct vitals {
    struct metrics metrics; /* the rows of the process and of the store that have no labels */
    _Atomic uint64_t memory[MEMORY_PARTS];
    _Atomic uint64_t cpu_ns; /* user and system time */
};

#endif
