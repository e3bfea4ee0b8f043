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

#include "../../src/base/slice.h"
#include "../../storage/kv.h"

#define WATCHED_ROOMS_MAX 8u
#define EVENTS_MAX 4096u /* of one room in one run */

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
/* watched_store_crash keeps a seeded part of what was not synced. */
void watched_store_crash(void);
/* watched_store_fail makes the disk fail: writes, syncs, or neither. */
void watched_store_fail(bool writes, bool syncs);
/* watched_store_fail_at lets the write, or the sync, fail that comes behind `others` of its kind; then all of them. */
void watched_store_fail_at(bool writes, bool syncs, unsigned others);
/* watched_store_fail_reads: one in `of` reads fails, 1: every one, 0: none. */
void watched_store_fail_reads(unsigned of);
/* store_version counts the moments at which something became durable. */
uint64_t store_version(void);
/* store_unsynced: batches that are written and not durable. */
size_t store_unsynced(void);

/* store_check_seen fails the run unless exactly this event was durable at `version`. `who` names the client. */
void store_check_seen(const char *who, struct slice room_id, uint64_t version, const struct seen_event *seen);
/* store_shown is the highest seq of the room that anybody has been shown, 0 when none was. */
uint64_t store_shown(struct slice room_id);
/* store_head returns the room's last durable seq now; 0 when there is none. */
uint64_t store_head(struct slice room_id);
/* store_member: whether a user who was a member from the start is one at `version`, and the seq of the last join or
 * leave that says so (0: none). */
bool store_member(struct slice room_id, struct slice user_id, uint64_t version, uint64_t *changed_seq);
/* store_find returns the seq of the durable message with this sender and client id, 0 when there is none. */
uint64_t store_find(struct slice room_id, struct slice sender_id, struct slice client_id);
/* store_cursor returns how far the cursor of a user's device in a room that has events has got on the store; 0: none. */
uint64_t store_cursor(struct slice room_id, struct slice user_id, struct slice device);
/* store_rooms counts the rows of `rooms`. */
unsigned store_rooms(void);
/* store_check_end walks every row with the production's own verifier. */
void store_check_end(void);

#endif
