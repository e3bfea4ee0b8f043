/* process: what the gateway asks of the operating system for itself: descriptors, CPUs, another user, a word to the
 * service manager, free space. Called by the main thread; nothing here keeps state. */
#ifndef CARILLON_CLI_PROCESS_H
#define CARILLON_CLI_PROCESS_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../base/status.h"

/* process_descriptors raises the soft limit on open files to the hard one and returns it. */
uint64_t process_descriptors(void);
/* process_connections derives limits.connections for `cores` rings. An accepted socket is a ring descriptor and takes
 * none of the process', but a ring's table has at most RLIMIT_NOFILE entries (io_uring_register(2)). */
uint64_t process_connections(uint64_t descriptors, unsigned cores);

#define PROCESS_CPUS_MAX 1024u /* CPU_SETSIZE of glibc: on a larger machine threads stay unpinned */
/* process_cpus lists the CPUs of the affinity mask that the process inherited, at most `max`; 0 when it is unknown. */
unsigned process_cpus(int *cpus, unsigned max);
/* process_cpu_list is the pure part of it. */
unsigned process_cpu_list(int *cpus, unsigned max, const cpu_set_t *mask);
/* process_cpu_of_core gives core i its CPU, round-robin: more cores than CPUs share them evenly. -1 for num_cpus 0. */
int process_cpu_of_core(unsigned core, const int *cpus, unsigned num_cpus);

/* process_become gives up the starter's user and groups for another's, for good. `why` says what is wrong. */
MUST_USE enum status process_become(const char *user, char *why, size_t why_len);

/* process_harden gives up what a gateway never needs: new privileges by exec (PR_SET_NO_NEW_PRIVS, prctl(2)), and being
 * read by other processes of its user or dumped to disk with the keys in its memory (PR_SET_DUMPABLE). Behind
 * process_become, which undoes the second. */
void process_harden(void);

/* process_notify tells the service manager a state ("READY=1", sd_notify(3)); does nothing when there is none. */
void process_notify(const char *state);

/* process_disk_bytes returns the size of the file system that holds `dir`, or will hold it once it is made;
 * UINT64_MAX if unknown. */
uint64_t process_disk_bytes(const char *dir);

/* process_free_bytes returns what the file system of `dir` has left for unprivileged users, UINT64_MAX if unknown. */
uint64_t process_free_bytes(const char *dir);

#endif
