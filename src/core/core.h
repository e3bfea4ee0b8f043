/* core: one thread's share of the gateway: a ring with its connections, the rooms and users that are at home here, and
 * mailboxes to the other cores. Owner: its thread; no other touches any of it but the mailboxes and metrics.
 *
 * core_turn is one pass of the loop, a step function: the thread calls it for ever, the simulator in any order. */
#ifndef CARILLON_CORE_CORE_H
#define CARILLON_CORE_CORE_H

#include "../auth/directory.h"
#include "../base/json.h"
#include "../base/list.h"
#include "../base/map.h"
#include "../base/metrics.h"
#include "../base/park.h"
#include "../base/spsc.h"
#include "../chat/idempotency.h"
#include "gateway.h"
#include "op.h"

/* outbox: the way to one other core; what does not fit into the ring waits here, in order. Its bound is what was
 * admitted: ops by request credits, frames by FRAMES_BYTES_MAX, notices by the events that cause them. */
struct outbox {
    struct spsc *ring;
    struct queue parked; /* struct mail, or struct frame_core */
};

/* memory_part: what a core's memory is for, where it is counted; gauges. */
enum memory_part { MEMORY_CONNECTIONS, MEMORY_ANSWERS, MEMORY_FRAMES, MEMORY_ASSEMBLY, MEMORY_PENDING, MEMORY_PARTS };

struct core {
    unsigned id, num_cores;
    struct gateway *gateway;
    struct net *net;
    struct commit_core *commit;
    struct reader_core *reader;
    struct park park;
    struct outbox out[CORES_MAX];
    struct spsc *in[CORES_MAX];
    struct json_parser *json;
    uint64_t now_ns, now_ms; /* of this turn */
    uint64_t next_request_id;

    /* what this core knows */
    struct directory directory; /* all tenants and keys */
    struct map known_users;     /* struct known_user: users that act here */
    struct list known_idle;     /* those without a session, oldest first */
    uint32_t num_known_idle;
    struct map local_rooms;     /* struct local_room: rooms with subscribers here */
    struct list hello_waiting;  /* struct session, by deadline */
    uint64_t num_sessions, num_subscriptions;

    /* what is at home here */
    struct map users_by_id;                  /* struct user */
    struct list users_dirty;                 /* cursors to be written */
    struct list users_idle;                  /* least recently used first */
    struct queue cursor_ops;                 /* acks that wait for the write */
    struct queue full_again;                 /* joins of users who are in too many rooms, to be looked at once more */
    bool cursor_flush_open;
    uint64_t cursor_flush_due_ns;
    struct map rooms;                        /* struct room */
    struct list rooms_dirty;                 /* with newly durable events */
    struct list rooms_idle;                  /* least recently used first */
    struct map dms_opening;                  /* struct dm_opening */
    struct idempotency idempotency;
    struct idempotency_sweep *sweep;         /* core 0 */
    uint64_t number_used;                    /* highest number made durable by this core */

    uint8_t guards;          /* enum guard (api/admission.h): what requests are to be held against now */
    bool rates;              /* some limit on a rate is set */
    size_t replies_bytes_max; /* REPLIES_BYTES_MAX; tests have less */
    struct list replays_waiting; /* struct session.waiting: until answers fit again */
    uint64_t replays_due_ns;
    size_t queue_bytes_max; /* of one reader, as net has it now */
    size_t pending_bytes; /* of events not durable yet */
    bool commit_late;     /* the oldest entry that is not durable has waited for COMMIT_AGE_MAX_MS */
    _Atomic int64_t frames_bytes;
    _Atomic uint32_t connections;   /* those a stop waits for: open WebSockets, and entries not durable yet */
    uint64_t metrics_due_ns;
    bool drain_told;

    struct metrics metrics;
    struct histogram *route_seconds; /* [routes] */
    _Atomic uint64_t *route_status;  /* [routes * 6]: answers by hundreds */
    _Atomic uint64_t error_count[ERRORS];
    _Atomic uint64_t turn_ns_max;
    _Atomic uint64_t memory[MEMORY_PARTS];
};

MUST_USE enum status core_open(struct core **out, struct gateway *g, unsigned id, char *why, size_t why_len);
void core_close(struct core *core);
/* core_start is called by the owning thread before the first turn. */
MUST_USE enum status core_start(struct core *core, const struct net_listener *listeners, unsigned num_listeners);
/* core_turn does one pass; sleeps in it only when `may_wait` and there is nothing to do. Returns whether it did
 * anything. */
bool core_turn(struct core *core, bool may_wait);

/* core_message_bytes_max: the longest WebSocket message that these settings need. */
size_t core_message_bytes_max(const struct config *c);

/* durable_wait: what was read from the store, held back until all that the read could have seen is on disk: another
 * core's entry may be readable before it is durable. Embedded in the reader's own object. */
struct durable_wait {
    struct commit_entry entry;
    void (*go)(struct core *core, struct durable_wait *w, bool durable);
};
/* core_when_durable calls `go` at once when nothing is on its way to the disk, else after the next sync; `durable` is
 * false when the store has failed and it will never be known. */
void core_when_durable(struct core *core, struct durable_wait *w,
                       void (*go)(struct core *core, struct durable_wait *w, bool durable));

/* core_post sends a mail to another core; never fails: a full ring parks it. */
void core_post(struct core *core, unsigned target, struct mail *mail);
void core_post_run(struct core *core, unsigned target, struct frame *f);

/* op_send hands an op to the core `target` (a direct call when it is this one); op_return brings it back. After either
 * the op may be gone. */
void op_send(struct core *core, struct op *op, unsigned target);
void op_return(struct core *core, struct op *op);
/* op_home names the core an op of its kind goes to. */
unsigned op_home(const struct core *core, const struct op *op);
/* op_dispatch = op_send(op, op_home). */
void op_dispatch(struct core *core, struct op *op);

static inline void core_count(struct core *core, enum metric_id id, uint64_t n) { metric_add(&core->metrics, id, n); }

#endif
