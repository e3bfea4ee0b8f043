/* kv_guard: stands between RocksDB and the files that say what the store holds: its logs and its MANIFEST.
 *
 * RocksDB (7.8) goes on after it failed to write or sync a MANIFEST: a compaction under way, or its own recovery from a
 * full disk, begins a new one and points CURRENT at it. That one says of families without rows in memory that
 * they need no old log any more, while old logs are not synced yet: a power loss then leaves a store that does not open
 * ("SST file is ahead of WALs"). And a log that failed to sync may be replaced by tables as if it were whole. So here
 * the first failure is the last word: MANIFEST and CURRENT stay as they are until the store is opened again, which
 * leaves no more than a crash at that moment would.
 *
 * RocksDB itself is told of a MANIFEST's failure, or the directory's. Of a failed write or sync of a log it is not: its
 * logs go nowhere from then on, and whoever writes or syncs asks here.
 *
 * And no log is begun before the one before it is on disk: a power loss takes the end of what was written, never a
 * piece out of its middle.
 *
 * On the way it notes how much of which MANIFEST RocksDB has synced (kv_manifest). Threads: any. */
#ifndef CARILLON_STORAGE_KV_GUARD_H
#define CARILLON_STORAGE_KV_GUARD_H

#include <rocksdb/c.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_guard;

/* `dir` is the database's, without a slash at its end. `failed` is told of the first failure, from a thread of RocksDB:
 * the file's path and RocksDB's text. */
struct kv_guard *kv_guard_new(const char *dir, void (*failed)(const char *path, const char *detail));
/* after the database is closed */
void kv_guard_free(struct kv_guard *g);
/* kv_guard_env is for rocksdb_options_set_env; the guard's own. */
rocksdb_env_t *kv_guard_env(struct kv_guard *g);
/* kv_guard_failure returns RocksDB's text of the first failure, which stays, or NULL. What RocksDB says of a write or a
 * sync is good only if this is NULL after it. Without a guard (g NULL) nothing has failed. */
const char *kv_guard_failure(const struct kv_guard *g);
/* kv_guard_failure_at_rest answers the same when all syncs of logs and of their directory that are under way now have
 * ended, or at once when one has failed: a sync that succeeded beside one that fails has put nothing on disk. */
const char *kv_guard_failure_at_rest(const struct kv_guard *g);
/* kv_guard_opened: the database is open, so CURRENT durably names its MANIFEST. */
void kv_guard_opened(struct kv_guard *g);
/* *number and *bytes: of the MANIFEST that CURRENT durably names, and its length as of RocksDB's last sync of it. 0:
 * none yet, or something has failed since, and what was synced before that is not said any more. */
void kv_guard_manifest(const struct kv_guard *g, uint64_t *number, uint64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
