/* backup_engine: the seam to what makes, keeps and reads backups in a directory: RocksDB's backup engine, which copies
 * each table file once however many backups need it, with a checksum.
 *
 *   DIR/meta, DIR/private, DIR/shared_checksum   the engine's: a list for each backup, its own files, shared files
 *   DIR/pepper                                   the store's secret (store.h), 0600: no backup is of use without it
 *   DIR/accepted                                 names of the tables whose blocks were found good
 *   DIR/LOCK                                     held while a backup is made or removed
 *
 * A backup exists once its list stands in DIR/meta, which is written last and renamed: half a backup is none.
 *
 * Threads: any one at a time for each directory; none of these is for a core, all of them wait for disks. */
#ifndef CARILLON_STORAGE_BACKUP_ENGINE_H
#define CARILLON_STORAGE_BACKUP_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kv;

/* backup_row: one backup. */
struct backup_row {
    uint32_t id;         /* rises from 1 */
    uint32_t files;      /* some of which other backups share */
    uint64_t bytes;      /* of all its files */
    uint64_t created_ms; /* whole seconds */
    bool damaged;        /* files are missing, or its list cannot be read: the rest is 0 */
};

struct backup_target {
    const char *dir;           /* of the backups */
    const char *store_dir;     /* of the store that `kv` has open */
    const uint8_t *pepper;     /* 32 bytes */
    uint64_t bytes_per_second; /* of copying; 0: as fast as it goes */
    uint64_t reserve_bytes;    /* left free on the disk of `dir` */
};

struct backup_engine {
    /* prepare makes the directory, if only it is missing, and claims it for the store: what would fail first when a
     * backup is made. STATUS_IO, NO_SPACE, LOCKED, DENIED as below. */
    enum status (*prepare)(const struct backup_target *target, char *why, size_t why_len);
    /* create makes a backup of everything written to `kv` before the call, and maybe of some of what is written
     * meanwhile. Writers go on. STATUS_NO_SPACE (also when it would not fit), IO, LOCKED (another process uses the
     * directory), DENIED (the backups of another store), READ_ONLY (the store failed), CORRUPT (the store is damaged:
     * the backup was thrown away). */
    enum status (*create)(struct kv *kv, const struct backup_target *target, char *why, size_t why_len);
    /* purge removes all but the newest `keep` backups, and the files that no other needs. */
    enum status (*purge)(const struct backup_target *target, unsigned keep, char *why, size_t why_len);
    /* list gives the newest `max` backups, by rising id. A directory that is not there holds none. */
    enum status (*list)(const char *dir, struct backup_row *rows, unsigned max, unsigned *num, char *why,
                        size_t why_len);
};

/* backup_engine_rocksdb is the product's. */
extern const struct backup_engine backup_engine_rocksdb;

/* backup_accept reads the blocks of the newest backup's tables, but for those that were read for an earlier one, at
 * that rate, and throws the backup away when one is damaged (CORRUPT): a backup that cannot be restored must not push
 * out one that can. Whoever calls it holds DIR/LOCK. */
MUST_USE enum status backup_accept(const char *dir, uint64_t bytes_per_second, char *why, size_t why_len);

/* The reading half, for programs that work on a directory of backups while no gateway runs. Nothing in it is changed.
 * `why` says what failed and what to do. */
MUST_USE enum status backup_list(const char *dir, struct backup_row *rows, unsigned max, unsigned *num, char *why,
                                 size_t why_len);
/* backup_verify reads all files of a backup and compares their checksums, and those of each block in its tables.
 * STATUS_CORRUPT: do not rely on it;
 * NOT_FOUND: there is none with this id. */
MUST_USE enum status backup_verify(const char *dir, uint32_t id, char *why, size_t why_len);
/* backup_check_blocks is the second half of it. */
MUST_USE enum status backup_check_blocks(const char *dir, uint32_t id, char *why, size_t why_len);
/* backup_restore_files copies a backup's database to `db_dir`, checking every checksum on the way. */
MUST_USE enum status backup_restore_files(const char *dir, uint32_t id, const char *db_dir, char *why, size_t why_len);

#ifdef __cplusplus
}
#endif
#endif
