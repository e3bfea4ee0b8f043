/* vitals: fills gateway->vitals (src/core/vitals.h). */
#ifndef CARILLON_CLI_VITALS_H
#define CARILLON_CLI_VITALS_H

#include "../core/gateway.h"

/* vitals_look is called by the main thread, which may wait. */
void vitals_look(struct gateway *g);
/* vitals_memory_used looks how many bytes of memory are the process' own: what is resident and of no file (proc(5),
 * statm). RocksDB's caches and memtables are among them; what the kernel holds is not. It is what a cgroup charges,
 * where jemalloc's stats.resident also counts what was never touched: 16 MiB of an idle gateway with two cores. 0:
 * unknown. */
uint64_t vitals_memory_used(void);
/* vitals_give_back returns to the kernel what was freed and is kept for a moment, in case it is wanted again. */
void vitals_give_back(void);

#endif
