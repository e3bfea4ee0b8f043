/* disk: the key-value store that a run's store_watch stands on, and what a crash leaves of it: kv_fake in `simulator`
 * (disk_fake.c), RocksDB on a memory file system in `simulator_rocksdb` (disk_rocksdb.c).
 *
 * Nothing of a run depends on which of the two it is: a seed has the same hash over both. The kv that a crash or a
 * reopening returns stands in for the one before, of which nothing is used again. */
#ifndef CARILLON_TESTS_SIM_DISK_H
#define CARILLON_TESTS_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>

#include "../../storage/kv.h"

/* disk_program: the executable that has this disk. */
extern const char disk_program[];

/* disk_open makes an empty store; one a process. */
struct kv *disk_open(void);
/* disk_wrote and disk_synced are told of each write and each sync that succeeded. */
void disk_wrote(void);
void disk_synced(void);
/* disk_unsynced: batches written since the last sync. */
size_t disk_unsynced(void);
/* disk_crash leaves `keep` of them; with `tear` the last of those is torn, and lost. */
struct kv *disk_crash(size_t keep, bool tear);
/* disk_reopen: the process ended in good order, and another one opens the store. No iterator or batch is left. */
struct kv *disk_reopen(void);
void disk_end(void);

#endif
