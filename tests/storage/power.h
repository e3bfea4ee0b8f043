/* power: what this process does to the files of one directory, so that its power can be cut.
 *
 * The program's own write, pwrite, fsync, fdatasync, rename, unlink and ftruncate stand in front of libc's, for RocksDB
 * and for the mark alike: each write is noted until a sync that began after it has succeeded. power_cut copies the
 * directory as a power loss at this moment would leave it, and the process goes on.
 *
 * The model, file by file: of the writes that no sync has covered a prefix is there, the last of it torn at any byte.
 * Names are durable at once: what RocksDB relies on it makes durable with an fsync of the directory before. Any thread
 * may write at any time; what threads do is held up while a copy is made. */
#ifndef CARILLON_TESTS_STORAGE_POWER_H
#define CARILLON_TESTS_STORAGE_POWER_H

#include <stdbool.h>

#include "chances.h"

enum power_loss {
    POWER_LOSES_NOTHING, /* as a killed process */
    POWER_LOSES_ALL,     /* every file is as it was synced */
    POWER_LOSES_SOME,    /* a prefix of each file's writes, chosen by chance */
    POWER_LOSSES
};

enum power_failure { POWER_FAILS_NOTHING, POWER_FAILS_WRITES, POWER_FAILS_SYNCS };

/* power_watch begins to note what happens to files under `dir` (absolute, without links); what was noted is
 * forgotten. */
void power_watch(const char *dir);
/* power_cut copies the flat directory `from`, which is watched, to `to`, which exists and is empty. Returns whether a
 * write was torn: cut in its middle. */
bool power_cut(const char *from, const char *to, enum power_loss loss, struct chances *chances);
/* power_fail: from now on writes or syncs of watched files whose name ends in `suffix` fail with EIO. A write that
 * fails has written the first part of its bytes: none, some, or all of them. */
void power_fail(enum power_failure what, const char *suffix, struct chances *chances);

/* power_slow: syncs of other threads than the one that watches wait until this is over, as behind a busy disk; 60 ms
 * at most. */
void power_slow(bool slow);

#endif
