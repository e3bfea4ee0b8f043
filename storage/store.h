/* store: the data directory: opens and checks it, counts epochs, refuses what it cannot serve.
 *
 *   DIR/db/     RocksDB          DIR/MARK   low-water mark (mark.h)
 *   DIR/LOCK    held while open DIR/pepper server secret for API key hashes (0600)
 *   DIR/rocksdb-log/  RocksDB's own LOG (away from db/: in a build with assertions a full disk there aborts)
 *
 * store_open: takes the lock; opens kv and mark; compares the mark (a store that comes back shorter: STATUS_CORRUPT);
 * reads the format (newer: STATUS_NEWER); raises the epoch when the last run did not end cleanly; writes and syncs
 * "open" state. Every refusal leaves one sentence for people in `why`, with what to do next.
 *
 * A store without a mark is a new one, or one whose operator removed DIR/MARK to accept what was lost (DIR/pepper tells
 * them apart, also when all rows are gone): that one goes on in a new history, like a restored backup, so that clients
 * are told and no id is given twice. */
#ifndef CARILLON_STORAGE_STORE_H
#define CARILLON_STORAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/base/clock.h"
#include "../src/base/limits.h"
#include "../src/base/random.h"
#include "../src/base/status.h"
#include "kv.h"
#include "mark.h"

struct store_options {
    const char *dir;
    size_t cache_bytes;        /* block cache */
    size_t write_buffer_bytes; /* of the log's column family; the others get a quarter each */
    unsigned open_files_max;   /* table files kept open; 0: STORE_OPEN_FILES_MAX */
    bool read_only; /* verify-store and export: no lock, no epoch, nothing written; refused like any other open */
};

/* store_history: a restore goes back to a backup of epoch `from` and goes on in epoch `to`. The epochs between them, if
 * there were any, belong to a history that it gave up. */
struct store_history {
    uint64_t from, to;
};

struct store {
    struct kv *kv;
    struct mark *mark;       /* NULL when read_only */
    uint64_t epoch;          /* of this run; ≥ 1 */
    bool was_clean;          /* the last run closed cleanly, or there was none */
    uint64_t next_number;    /* first internal number (tenant, room, user) not yet given out */
    unsigned num_histories;
    struct store_history histories[STORE_HISTORIES_MAX]; /* rising */
    uint8_t pepper[32];      /* zeros when read_only: nothing is authenticated there */
    int _lock_fd;
    char *_dir;
};

typedef enum status (*store_kv_open)(struct kv **out, const struct store_options *options, char *why, size_t why_len);

/* kv_rocksdb_open opens or creates DIR/db; DIR exists. STATUS_LOCKED, NEWER (unknown column families), CORRUPT,
 * NO_SPACE, IO. Read-only it never creates. */
MUST_USE enum status kv_rocksdb_open(struct kv **out, const struct store_options *options, char *why, size_t why_len);
/* kv_rocksdb_property reads "rocksdb.…" integer properties for metrics; 0 when unknown. What RocksDB counts per column
 * family (sizes, memtables, files) is summed over all of them. */
uint64_t kv_rocksdb_property(struct kv *kv, const char *name);

/* store_open_using opens the directory over the given key-value store. Beside the statuses of that:
 * STATUS_INVALID (a path that is no directory), LOCKED, CORRUPT (lost writes, damaged files), NEWER, NO_SPACE, IO.
 * On failure nothing stays open and *out is zeroed. */
MUST_USE enum status store_open_using(struct store *out, const struct store_options *options, store_kv_open kv_open,
                                      const struct random *random, char *why, size_t why_len);
/* store_open is the product's: over RocksDB. Inline, so that programs without RocksDB link the rest. */
MUST_USE static inline enum status store_open(struct store *out, const struct store_options *options,
                                              const struct random *random, char *why, size_t why_len)
{
    return store_open_using(out, options, kv_rocksdb_open, random, why, why_len);
}
/* store_open_with is the part above the directory: given kv and mark (fakes in the simulator). On success both belong
 * to the store, on failure they stay the caller's; the pepper comes from `random`. */
MUST_USE enum status store_open_with(struct store *out, struct kv *kv, struct mark *mark, const struct random *random,
                                     char *why, size_t why_len);
/* store_close writes the clean-close state when `clean`, then closes. All threads must have ended. Closing a zeroed
 * store does nothing. */
void store_close(struct store *s, bool clean);
/* store_leave does the first half of it, for a process that ends at once while a backup still reads the store. */
void store_leave(struct store *s, bool clean);

#define STORE_RESTORE_DIR "restore.tmp" /* in DIR while a restore works in it; a store with it is refused */
/* store_begin_history makes a store that was brought back from a backup safe to serve, before anybody does.
 *
 * What the gateway did after the backup is gone, and clients remember it: they hold seqs, ids and epochs that this
 * store would give a second time for other things. So the epoch jumps by 2^32 and a random number up to 2^40, which no
 * run of the other history can have reached by rising one a start, and no other restore of the same backup by chance;
 * the epochs between the backup's and that one are refused from now on (store_epoch_given_up); and internal numbers
 * jump in the same way. STATUS_FULL: the epoch would not be exact in JSON any more, after some ten thousand
 * restores. */
MUST_USE enum status store_begin_history(struct store *s, const struct random *random);
/* store_epoch_given_up: positions of this epoch are of a history that a restore gave up. */
bool store_epoch_given_up(const struct store *s, uint64_t epoch);
#define STORE_HISTORY_META "history." /* and the epoch, 20 digits: its number is the backup's epoch */

/* Numbers are given out by an atomic counter and made durable with their use: the entry that creates something also
 * puts meta "number.<core>" = the highest number that core has used; next_number is the maximum of those plus one. */
#define STORE_NUMBER_META "number."

/* store_verify walks every row: decodes it, checks key against value, room logs gapless 1..head (or
 * retained_from..head), members and user_rooms mirror each other, and the rest that docs/STORAGE_FORMAT.md lists. Calls
 * `problem` with a sentence for each finding; returns how many. *rows is raised row by row while it walks, so that
 * `problem` can show progress. */
uint64_t store_verify(struct kv *kv, void (*problem)(void *context, const char *text), void *context, uint64_t *rows);

/* kv_fake: in memory; safe for threads. `kv_fake_crash` drops unsynced batches behind a prefix of `keep` of them and,
 * when `tear`, loses the kept prefix's last batch too; what stays is durable, as after a recovery. With `writes`
 * failing a write returns STATUS_IO and is there, as in RocksDB's memory, until the store is opened again; with `syncs`
 * a sync makes nothing durable and returns STATUS_IO. As kv.h has it, the first failure is final: what comes behind it
 * is STATUS_READ_ONLY, also with failures switched off, until a crash or, of a held one, a kv_close. Open iterators
 * keep their snapshot through all of it. */
struct kv *kv_fake_new(void);
/* kv_fake_hold adds an owner: the memory lives until kv_close was called once more, as a disk outlives a process. */
void kv_fake_hold(struct kv *kv);
size_t kv_fake_unsynced(struct kv *kv); /* batches */
void kv_fake_crash(struct kv *kv, size_t keep, bool tear);
void kv_fake_fail(struct kv *kv, bool writes, bool syncs);

/* mark_fake: a mark in memory. After mark_fake_crash it reads as last synced (`lose_unsynced`), or as last written. */
struct mark *mark_fake_new(void);
void mark_fake_hold(struct mark *m);
void mark_fake_crash(struct mark *m, bool lose_unsynced);
void mark_fake_fail(struct mark *m, bool writes, bool syncs);

#endif
