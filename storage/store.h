/* store: the data directory: opens and checks it, counts epochs, refuses what it cannot serve.
 *
 *   DIR/db/     RocksDB          DIR/MARK   low-water mark (mark.h)
 *   DIR/LOCK    held while open  DIR/pepper server secret for API key hashes (0600)
 *   DIR/rocksdb-log/  RocksDB's own LOG (away from db/: in a build with assertions a full disk there aborts)
 *
 * store_open: takes the lock; opens kv and mark; compares the mark (a store that comes back shorter: STATUS_CORRUPT);
 * reads the format (newer: STATUS_NEWER); raises the epoch when the last run did not end cleanly; writes and syncs
 * "open" state. Every refusal leaves one sentence for people in `why`, with what to do next. */
#ifndef CARILLON_STORAGE_STORE_H
#define CARILLON_STORAGE_STORE_H

#include <stdatomic.h>

#include "../src/base/clock.h"
#include "../src/base/random.h"
#include "../src/base/status.h"
#include "kv.h"
#include "mark.h"

struct store_options {
    const char *dir;
    size_t cache_bytes;        /* block cache */
    size_t write_buffer_bytes; /* per column family of the log; others get a quarter */
    bool read_only;            /* verify-store and export: no lock, no epoch, nothing written */
};

struct store {
    struct kv *kv;
    struct mark *mark;       /* NULL when read_only */
    uint64_t epoch;          /* of this run; ≥ 1 */
    bool was_clean;          /* the last run closed cleanly */
    uint64_t next_number;    /* first internal number (tenant, room, user) not yet given out */
    uint8_t pepper[32];
    int _lock_fd;
    char *_dir;
};

MUST_USE enum status store_open(struct store *out, const struct store_options *options, const struct random *random,
                                char *why, size_t why_len);
/* store_open_with is the part above the directory: given kv and mark (fakes in the simulator). */
MUST_USE enum status store_open_with(struct store *out, struct kv *kv, struct mark *mark, const struct random *random,
                                     char *why, size_t why_len);
/* store_close writes the clean-close state when `clean`, then closes. All threads must have ended. */
void store_close(struct store *s, bool clean);

/* Numbers are given out by an atomic counter and made durable with their use: the entry that creates something also
 * puts meta "number.<core>" = the highest number that core has used; next_number is the maximum of those plus one. */
#define STORE_NUMBER_META "number."

/* store_verify walks every row: decodes it, checks key against value, room logs gapless 1..head (or retained_from..head),
 * members and user_rooms mirror each other. Calls `problem` for each finding; returns how many. */
uint64_t store_verify(struct kv *kv, void (*problem)(void *context, const char *text), void *context, uint64_t *rows);

MUST_USE enum status kv_rocksdb_open(struct kv **out, const struct store_options *options, char *why, size_t why_len);
/* kv_rocksdb_property reads "rocksdb.…" integer properties for metrics; 0 when unknown. */
uint64_t kv_rocksdb_property(struct kv *kv, const char *name);
/* kv_fake: in memory. `kv_fake_crash` drops unsynced batches behind a prefix of `keep` of them and, when `tear`, loses
 * the kept prefix's last batch too; errors can be injected. */
struct kv *kv_fake_new(void);
size_t kv_fake_unsynced(struct kv *kv);
void kv_fake_crash(struct kv *kv, size_t keep, bool tear);
void kv_fake_fail(struct kv *kv, bool writes, bool syncs);
struct mark *mark_fake_new(void);
void mark_fake_crash(struct mark *m, bool lose_unsynced);

#endif
