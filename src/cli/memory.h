/* memory: how much the process may have, and how much it has. Called by the main thread; nothing here keeps state. */
#ifndef CARILLON_CLI_MEMORY_H
#define CARILLON_CLI_MEMORY_H

#include <stdint.h>

#include "../base/slice.h"

/* memory_of_machine returns the host's memory, or what the process' cgroup and those above it leave of it. */
uint64_t memory_of_machine(void);
/* memory_of_cgroup is the cgroups' part of it: the least limit of those that `cgroups` names, the text of
 * /proc/self/cgroup (cgroups(7)), and of their parents, with the file systems mounted below `mounts` (/sys/fs/cgroup);
 * UINT64_MAX when there is none. */
uint64_t memory_of_cgroup(struct slice cgroups, const char *mounts);

/* memory_used returns the bytes that the allocator holds in memory: RocksDB's caches and memtables are allocated by it,
 * and so is everything of the gateway but thread stacks and what the kernel holds. Without jemalloc (under the
 * sanitizers) it is the resident size of the process. */
uint64_t memory_used(void);

#endif
