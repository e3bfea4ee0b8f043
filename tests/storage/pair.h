/* pair: RocksDB and its fake side by side: each is asked the same, and the run fails where the answers differ.
 *
 * A crash is RocksDB's: its directory is copied as a power loss leaves it (power.h), and opened. What it holds then
 * must be what kv.h allows: whole batches, a prefix of them, everything synced among them. The fake is crashed to the
 * same prefix, must hold exactly the same rows, and the script goes on. */
#ifndef CARILLON_TESTS_STORAGE_PAIR_H
#define CARILLON_TESTS_STORAGE_PAIR_H

#include <stdnoreturn.h>

#include "../../storage/kv.h"
#include "chances.h"
#include "power.h"

/* seen: what the scripts have met; each of them must be met by some script. */
struct seen {
    unsigned long writes, syncs, gets, walks, snapshots, flushes, reopenings;
    unsigned long crashes, kept_none, kept_some, kept_all, torn, between_logs;
    unsigned long failed_writes, failed_writes_kept, failed_writes_gone, failed_syncs;
    unsigned long marks, mark_crashes, marks_lost, marks_kept, mark_failures;
};
extern struct seen *seen;

/* disagree ends the script as failed; says at which step. */
noreturn void disagree(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define AGREE(cond, ...) \
    do { \
        if (!(cond)) disagree(__VA_ARGS__); \
    } while (0)

struct pair;

/* pair_open opens both, empty, with RocksDB under `dir`, which exists. */
struct pair *pair_open(const char *dir, struct chances *chances);
void pair_close(struct pair *p);

void pair_write(struct pair *p);
void pair_sync(struct pair *p);
void pair_get(struct pair *p);
/* pair_walk goes through a range, turns round, and writes in between. */
void pair_walk(struct pair *p);
/* pair_hold opens a walk that stays open, moves an open one on, or closes one. */
void pair_hold(struct pair *p);
/* pair_flush makes RocksDB write its memtables to table files. */
void pair_flush(struct pair *p);
/* pair_reopen closes both in good order and opens them again. */
void pair_reopen(struct pair *p);
void pair_crash(struct pair *p);
/* pair_crash_between_logs writes until RocksDB has begun another log, and crashes before the older one is synced. */
void pair_crash_between_logs(struct pair *p);
/* pair_fail lets the next writes, or syncs, of both fail, sees them refuse everything else, and crashes them. */
void pair_fail(struct pair *p);
/* pair_compare compares every row, forwards and backwards, and the sequence. */
void pair_compare(struct pair *p);

#endif
