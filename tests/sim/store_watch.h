/* store_watch: the key-value store of a run: storage's kv_fake, watched. Every row of a room's log is followed from its
 * write over its sync to the crash that may take it back, so the run always knows what is durable; that is the truth
 * which everything a client sees is held against.
 *
 * Checked here, at every write: a room's rows come with seq 1, 2, 3 … without a gap, a durable row never changes, and
 * no (sender, client id) appends twice. */
#ifndef CARILLON_TESTS_SIM_STORE_WATCH_H
#define CARILLON_TESTS_SIM_STORE_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "../../src/base/buf.h"
#include "../../src/base/slice.h"
#include "../../storage/kv.h"
#include "../../storage/records.h"

#define WATCHED_ROOMS_MAX 8u
#define EVENTS_MAX 4096u /* of one room in one run */
#define WATCHED_WINDOW_MS (7ull * 24 * 3600 * 1000) /* protocol: for so long at least no client id appends twice */

/* watched_row: one row of a room's log. Versions are store_version's. */
struct watched_row {
    uint64_t serial; /* of all rows of a run: two rows are the same one or they are not */
    uint64_t written_version;
    uint64_t durable_version; /* 0: it never was */
    uint64_t lost_version;    /* when a crash took it back; 0: none has */
    struct buf value;
    struct log_record record; /* borrows value */
};

/* seen_event: an event as a client saw it; slices are borrowed. */
struct seen_event {
    uint64_t seq;
    struct slice type;       /* "message", "user_joined" … */
    struct slice sender_id;  /* of a message */
    struct slice client_id;  /* of a message; empty: none */
    struct slice content;    /* of a message, without escapes */
    struct slice created_at; /* RFC 3339 */
};

/* watched_store_open makes the store. Its memory outlives the gateways that are opened over it. */
struct kv *watched_store_open(void);
void watched_store_end(void);
/* watched_store_crash: a killed process leaves all that it has written; with the power goes a seeded part of what
 * was not synced. */
void watched_store_crash(bool power);
/* watched_store_fail makes the disk fail: writes, syncs, or neither. */
void watched_store_fail(bool writes, bool syncs);
/* watched_store_fail_at lets the write, or the sync, fail that comes behind `others` of its kind; then all of them. */
void watched_store_fail_at(bool writes, bool syncs, unsigned others);
/* watched_store_fail_reads: one in `of` reads fails, 1: every one, 0: none. */
void watched_store_fail_reads(unsigned of);
/* store_version counts the moments at which something was written or became durable. */
uint64_t store_version(void);
/* store_unsynced: batches that are written and not durable. */
size_t store_unsynced(void);

/* store_check_seen fails the run unless exactly this event was durable at `version`, or, in a fast room, written. `who`
 * names the client. Returns the row. */
const struct watched_row *store_check_seen(const char *who, struct slice room_id, uint64_t version, bool fast,
                                           const struct seen_event *seen);
/* store_head returns the room's last durable seq now; 0 when there is none. */
uint64_t store_head(struct slice room_id);
/* store_row returns what stands under a seq now, durable or not; NULL: nothing. */
const struct watched_row *store_row(struct slice room_id, uint64_t seq);
/* store_lost: a crash has taken back the row with this serial. store_num_lost counts such rows of a room. */
bool store_lost(struct slice room_id, uint64_t serial);
size_t store_num_lost(struct slice room_id);
/* store_names: a join's or leave's row names the user: it holds `"user_ids":["a","b"]`, and user ids of the
 * scenario need no escapes. */
bool store_names(const struct watched_row *row, struct slice user_id);
/* store_cursor returns how far the cursor of a user's device has got on the store, in a room that has events; 0: there
 * is none. */
uint64_t store_cursor(struct slice room_id, struct slice user_id, struct slice device);
/* store_rooms counts the rows of `rooms`. */
unsigned store_rooms(void);
/* store_check_end walks every row with the production's own verifier. */
void store_check_end(void);

#endif
