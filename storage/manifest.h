/* manifest: whether RocksDB's list of tables is still what it once was.
 *
 * RocksDB (7.8) takes a MANIFEST that ends early for one whose last edit a crash has torn. It then opens with the
 * tables of an earlier day, removes the files that the list does not name any more, and serves: whole rooms are gone
 * without a word, and for good. Neither does the mark's sequence number show it, for the log that is left still ends
 * where it did.
 *
 * So the mark keeps a print of the MANIFEST, of so much of it as was on disk (mark.h), and a store is not opened when
 * its MANIFEST is shorter than that or begins otherwise. It grows by appending alone; each opening of the database,
 * and each gigabyte, begins a new one with a higher number, and CURRENT names it. */
#ifndef CARILLON_STORAGE_MANIFEST_H
#define CARILLON_STORAGE_MANIFEST_H

#include <openssl/sha.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/base/status.h"
#include "kv.h"

/* manifest_print: the first `bytes` of MANIFEST-<number> were on disk, and `hash` is the first 8 bytes of their
 * SHA-256. As it lies in the mark's slot. */
struct manifest_print {
    uint64_t number; /* 0: nothing is known */
    uint64_t bytes;
    uint8_t hash[8];
};

/* manifest_watch follows the MANIFEST of DIR/db, which may come into being later. One thread. */
struct manifest_watch {
    char *_db;
    struct kv *_kv;
    struct manifest_print print; /* as of the last look */
    SHA256_CTX _hash;            /* of the bytes that `print` has */
};

/* kv is that database, or NULL in a test without one. */
void manifest_watch_open(struct manifest_watch *w, const char *dir, struct kv *kv);
void manifest_watch_close(struct manifest_watch *w);
/* manifest_look brings the print up to date, as far as the database itself has synced it (kv_manifest). What lies
 * behind that may go away again by right: RocksDB cuts an append off that failed half-way, and what its failed sync
 * lost stays lost, though a later sync succeeds. It reads what has grown, 16 MiB a time at most; a MANIFEST that is not
 * there, or goes away meanwhile, leaves the print as it is.
 *
 * It never syncs: the error of a sync here would be one that RocksDB's own sync may not get to see any more, and
 * RocksDB would remove tables that the MANIFEST on disk still names. */
void manifest_look(struct manifest_watch *w);

/* manifest_check holds DIR/db against a print before RocksDB opens it. STATUS_CORRUPT, and a sentence in `why`. What is
 * missing altogether is left to RocksDB, which refuses it. */
MUST_USE enum status manifest_check(const struct manifest_print *print, const char *dir, char *why, size_t why_len);

#endif
