/* memory: how much the process may have. Called by the main thread; nothing here keeps state. */
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

#endif
