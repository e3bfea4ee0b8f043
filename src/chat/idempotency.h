/* idempotency: at most one append for each (room, sender, client id), for at least seven days, across restarts.
 *
 * The truth is the room log: a message's row holds its sender and client id. Three things make finding it cheap:
 *
 *  1. The window: the newest keys of this core, exact, in memory: duplicates of what is still on its way to the disk
 *     are found here and wait for the same ticket.
 *  2. A filter for each room: Bloom filters over all its keys of the last days, one behind the other, each for a range
 *     of seqs. "No" is certain: a new message. "Maybe" comes with the seqs where the message can be.
 *  3. Runs: one row per IDEMPOTENCY_RUN events of a room, holding (fingerprint, seq) sorted. "Maybe" makes a reader
 *     look through those of the seqs in question and compare the log row itself.
 *
 * A row a message instead of runs would double the cost of a durable append (random keys: 7–13 µs); a run costs
 * 16 bytes a message and one row in thousands. Keys of the log not yet in a run are read from the log when the room
 * is loaded, so a crash loses nothing.
 *
 * Owner: the room's home core. */
#ifndef CARILLON_CHAT_IDEMPOTENCY_H
#define CARILLON_CHAT_IDEMPOTENCY_H

#include "../../storage/kv.h"
#include "../../storage/records.h"
#include "../base/buf.h"
#include "../base/hash.h"
#include "../base/list.h"
#include "../base/map.h"

struct event;

/* idempotency_entry: one key of the window. */
struct idempotency_entry {
    struct list _age;
    uint64_t hash;
    uint32_t tenant;
    uint64_t room, sender, seq, payload_hash, created_ms;
    struct event *event; /* while not durable yet: duplicates wait on it */
    bool fast;           /* acknowledged before its fsync */
    uint8_t client_id_len;
    char client_id[];
};

struct idempotency {
    struct map _window;
    struct list _by_age;
    const struct hash_key *_hash_key;
    uint32_t window_max; /* IDEMPOTENCY_WINDOW; less where a test wants keys to be looked up on disk */
    uint32_t run_events; /* IDEMPOTENCY_RUN, likewise */
    uint64_t hits, lookups;
};

void idempotency_init(struct idempotency *i, const struct hash_key *hash_key);
void idempotency_free(struct idempotency *i);
struct idempotency_entry *idempotency_find(const struct idempotency *i, uint32_t tenant, uint64_t room, uint64_t sender,
                                           struct slice client_id);
struct idempotency_entry *idempotency_add(struct idempotency *i, uint32_t tenant, uint64_t room, uint64_t sender,
                                          struct slice client_id, uint64_t seq, uint64_t payload_hash,
                                          uint64_t created_ms);
/* idempotency_evict drops the oldest durable keys above window_max. */
void idempotency_evict(struct idempotency *i);

/* --- a room's keys: filter and runs ----------------------------------------------------------------------------- */

#define FILTER_BLOCK_BYTES_MIN 512u         /* 170 keys: most rooms need no more */
#define FILTER_BLOCK_GROWTH 4u              /* a block to the one before it: six blocks hold the first 232,000 keys */
#define FILTER_BLOCK_BYTES_MAX (512u << 10) /* 174,762 keys: the 43 runs or more that a "maybe" of one block reads */
#define FILTER_KEY_BITS 24u
#define FILTER_PROBES 16u                   /* at 24 bits a key: one false "maybe" in 100,000 for each full block */

/* seq_range: the events first to last of a room, both included; first ≥ 1. */
struct seq_range {
    uint64_t first, last;
};

/* filter_block: a Bloom filter over some of a room's keys. One without bits stands where the memory ran out: it calls
 * every key a "maybe". */
struct filter_block {
    struct filter_block *older;
    uint64_t newest_ms;
    struct seq_range seqs; /* of its keys */
    uint32_t keys;
    uint32_t bytes;        /* of bits: a power of two, or 0 */
    uint64_t bits[];
};

struct room_keys {
    struct filter_block *newest; /* the one that is filled */
    uint64_t filter_bytes;       /* of all blocks' bits, ≤ ROOM_FILTER_BYTES_MAX */
    struct fingerprint *open;    /* keys since the last run */
    uint32_t num_open, cap_open;
    uint64_t run_from; /* first seq not covered by a run */
};

void room_keys_free(struct room_keys *k);
/* fingerprint_of gives the print that the filter and the runs know a message by; client_id ≤ 256 bytes. */
uint64_t fingerprint_of(const struct hash_key *key, uint64_t sender, struct slice client_id);
/* room_keys_add records a message's key; keys without client id are not added. */
void room_keys_add(struct room_keys *k, uint64_t print, uint64_t seq, uint64_t created_ms);
/* room_keys_maybe: false when no message of the last days had this key. True: if one had, its seq is within `where`,
 * which spans the filter blocks that may hold the key. */
bool room_keys_maybe(const struct room_keys *k, uint64_t print, struct seq_range *where);
/* room_keys_drop_old forgets filter blocks whose newest key is older than IDEMPOTENCY_KEEP_MS, but for the one that is
 * filled. */
void room_keys_drop_old(struct room_keys *k, uint64_t now_ms);

/* room_keys_encode appends the open keys as the value of the run [run_from, last_seq], and sorts them for it. They stay
 * open until room_keys_close, so that a run that could not be pushed is tried again. */
void room_keys_encode(struct buf *value, struct room_keys *k, uint64_t last_seq, uint64_t newest_ms);
/* room_keys_close forgets the open keys: their run, up to last_seq, is on its way to the store. */
void room_keys_close(struct room_keys *k, uint64_t last_seq);

/* room_keys_load fills the filter from the runs of the last IDEMPOTENCY_KEEP_MS and from the log behind them; on a
 * reader thread. Of older runs it reads one at most. STATUS_CORRUPT: a damaged run or event among those it read. */
MUST_USE enum status room_keys_load(struct room_keys *k, struct kv *kv, const struct hash_key *key, uint32_t tenant,
                                    uint64_t room, uint64_t now_ms);
/* idempotency_search looks for the message in the runs that overlap `where`, newest first, and before them in the log
 * behind the runs, if `where` reaches there; on a reader thread. Found: STATUS_OK and the decoded row in `row` (its
 * bytes in `bytes`); not there: STATUS_NOT_FOUND. */
MUST_USE enum status idempotency_search(struct log_record *row, struct buf *bytes, struct kv *kv,
                                        const struct hash_key *key, uint32_t tenant, uint64_t room, uint64_t sender,
                                        struct slice client_id, struct seq_range where);

/* payload_hash covers what makes two sends the same: content, meta, type and reply. */
uint64_t payload_hash(const struct hash_key *key, struct slice content, struct slice meta, struct slice message_type,
                      uint64_t reply_to);

#endif
