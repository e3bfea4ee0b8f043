/* core: one thread's share of the gateway: a ring with its connections, the rooms and users that are at home here, and
 * mailboxes to the other cores. Owner: its thread; no other touches any of it but the mailboxes and metrics.
 *
 * core_turn is one pass of the loop, a step function: the thread calls it for ever, the simulator in any order. */
#ifndef CARILLON_CORE_CORE_H
#define CARILLON_CORE_CORE_H

#include <time.h>

#include "../auth/directory.h"
#include "../auth/used_tickets.h"
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
    struct mailbox_wait *wait;
    struct queue parked; /* struct mail, or struct frame_core */
};

struct access;

/* Pages that readers make, by who wants them (api/pages.h). */
enum pages_kind {
    PAGES_ASKED,    /* by a request */
    PAGES_REPLAYED, /* for a subscription that is behind */
    PAGES_KINDS
};

/* Queues whose depth is watched (carillon_queue_depth), with the bound of each; docs/BACKPRESSURE.md tells of all. */
enum core_queue {
    QUEUE_CONNECTIONS,    /* of all cores, whose bound is one */
    QUEUE_COMMIT_ENTRIES, /* not durable yet */
    QUEUE_COMMIT_BYTES,
    QUEUE_MAILBOX,        /* to the core for which the most waits, parked mail included */
    QUEUE_READS,          /* jobs for the readers, not begun */
    QUEUE_FRAMES_BYTES,
    QUEUE_ASSEMBLY_BYTES,
    QUEUE_PAGES_BYTES,    /* reserved for pages that are being made */
    QUEUE_TAIL_BYTES,     /* kept for those who are behind; full is ordinary there */
    QUEUE_ROOMS,
    QUEUE_USERS,
    CORE_QUEUES
};
extern const char *const core_queue_names[CORE_QUEUES];
uint64_t core_queue_bound(const struct gateway *g, enum core_queue queue);
/* core_bytes_max returns how many bytes one core may hold of a kind whose bound on a large machine is `most`: assembly,
 * answers, pages, frames, events that are not durable. A burst may be faster than the looks at memory; so the bounds
 * themselves leave limits.memory room for the rest. */
size_t core_bytes_max(const struct gateway *g, size_t most);
/* core_memory: what a core's memory is for, where it is counted; gauges. */
enum core_memory {
    CORE_MEMORY_CONNECTIONS,
    CORE_MEMORY_ANSWERS,
    CORE_MEMORY_FRAMES,
    CORE_MEMORY_TAILS,
    CORE_MEMORY_ASSEMBLY,
    CORE_MEMORY_PENDING,
    CORE_MEMORY_PARTS
};

struct core {
    unsigned id, num_cores;
    struct gateway *gateway;
    struct net *net;
    struct commit_core *commit;
    struct reader_core *reader;
    struct park park;
    struct outbox out[CORES_MAX];
    struct spsc *in[CORES_MAX];
    struct mailbox_wait *in_wait[CORES_MAX];
    struct json_parser *json;
    uint64_t now_ns, now_ms; /* of this turn */
    uint64_t next_request_id;

    /* what this core knows */
    struct directory directory; /* all tenants and keys */
    struct map known_users;     /* struct known_user: users that act here */
    struct list known_idle;     /* those without a session, oldest first */
    uint32_t num_known_idle;
    struct map local_rooms;     /* struct local_room: rooms with subscribers here */
    struct list rooms_walking;  /* those of them with runs that not all subscribers have got yet */
    uint32_t num_rooms_walking;
    uint32_t fanout_slice, fanout_runs_max; /* FANOUT_SLICE, FANOUT_RUNS_MAX; tests have less */
    struct list hello_waiting;  /* struct session_aside.waiting, by deadline */
    uint64_t num_sessions, num_subscriptions;
    struct map online;          /* numbers of the users who are online, on the whole server */
    struct map last_seen;       /* struct last_seen: users who went offline */
    struct list last_seen_oldest;
    struct map watches;         /* struct watch: who asked for presence and typing of a room */
    struct list presence_changes; /* struct presence_change: to be told, oldest first */
    struct map presence_pending;  /* the same, by user */
    size_t presence_bytes;        /* of all of them; at most PRESENCE_BYTES_MAX */
    uint64_t presence_dropped;    /* changes that were not told because of that */
    uint64_t presence_due_ns;
    uint64_t presence_serial;     /* ephemeral_serial when presence_flush began */
    uint32_t presence_sends;      /* sockets it has given something since */
    uint32_t presence_sends_max;  /* PRESENCE_SENDS; tests have less */
    uint64_t ephemeral_serial;  /* of the last push; a session keeps the one that it was told last */

    /* what is at home here */
    struct map users_by_id;                  /* struct user */
    struct list users_dirty;                 /* cursors to be written */
    struct list users_idle;                  /* least recently used first */
    struct queue cursor_ops;                 /* acks that wait for the write */
    struct queue durable_waits;              /* struct durable_wait, in front of a full pipeline; bounded by reads */
    struct queue full_again;                 /* joins of users who are in too many rooms, to be looked at once more */
    bool cursor_flush_open;
    uint64_t cursor_flush_due_ns;
    uint64_t cursor_flush_number; /* counts the writes, the open one included */
    struct list users_leaving;               /* without a socket, offline at struct user.leave_ns; by that time */
    uint64_t num_user_sockets;               /* sockets of users at home here, on all cores (chat/user.h) */
    uint32_t users_loaded_max, user_waiting_max; /* USERS_LOADED_MAX, USER_WAITING_MAX; tests have less */
    uint64_t num_online;                     /* users at home here who are shown as online */
    struct map typings;                      /* struct typing */
    struct list typings_expiring, typings_closed; /* by time; see chat/typing.c */
    struct map rooms;                        /* struct room */
    struct list rooms_dirty;                 /* with newly durable events */
    struct list rooms_held;                  /* the same, which wait until a run is through (chat/fanout.h) */
    size_t news_bytes;                       /* of those events, which are not published yet */
    struct list rooms_idle;                  /* least recently used first */
    uint64_t presence_room_members;          /* the setting by which rooms were found large */
    struct map dms_opening;                  /* struct dm_opening */
    struct idempotency idempotency;
    struct notify *notify;                   /* src/notify */
    struct idempotency_sweep *sweep;         /* core 0 */
    struct used_tickets used_tickets;        /* of users who are at home here */
    uint64_t number_used;                    /* highest number made durable by this core */

    uint8_t guards;          /* enum guard (api/admission.h): what requests are to be held against now */
    bool rates;              /* some limit on a rate is set */
    size_t replies_bytes_max; /* of REPLIES_BYTES_MAX; tests have less */
    size_t frames_bytes_max;  /* of FRAMES_BYTES_MAX */
    size_t pending_bytes_max; /* of COMMIT_PENDING_BYTES_MAX */
    struct net_account anyone; /* connections that have shown no credential yet */
    struct list replays_waiting; /* struct session_aside.waiting: until answers fit again */
    struct list replays_ready;   /* struct session_aside.waiting: their turn comes (chat/replay.h) */
    struct list page_reads;      /* struct page_read: under way, for those who are behind */
    int64_t replay_credit;       /* bytes that replays may still send in this turn */
    struct tails *tails;         /* chat/tail.h */
    size_t tail_bytes_max;
    uint64_t replays_due_ns;
    bool replays_want_pages;     /* some of them wait for pages_bytes */
    struct queue pages_waiting;  /* struct op: until memory for their pages is there (api/pages.h) */
    uint32_t pages_waiting_max;
    size_t pages_bytes[PAGES_KINDS], pages_bytes_max; /* reserved for pages; of each kind at most */
    size_t queue_bytes_max; /* of one reader, as net has it now */
    size_t pending_bytes; /* of events not durable yet */
    bool commit_late;     /* the oldest entry that is not durable has waited for COMMIT_AGE_MAX_MS */
    _Atomic int64_t frames_bytes;
    _Atomic uint32_t connections;   /* those a stop waits for: open WebSockets, and entries not durable yet */
    uint64_t metrics_due_ns;
    bool metrics_stale;        /* something has happened since they were copied */
    bool drain_told;           /* every socket here knows that the server stops; nothing new is begun */
    uint64_t drain_due_ns;     /* next look for sockets that can be closed */
    uint32_t drain_answers;    /* HTTP answers that are on their way, as last seen */

    struct metrics metrics;
    _Atomic uint64_t turned_ns;      /* when the last turn began: the heartbeat */
    bool turn_busy;                  /* the last turn had something to do */
    struct histogram turn_seconds;   /* of busy turns */
    _Atomic uint64_t queue_depth[CORE_QUEUES], queue_high[CORE_QUEUES];
    struct histogram *route_seconds; /* [routes] */
    _Atomic uint64_t *route_status;  /* [routes * 6]: answers by hundreds */
    _Atomic uint64_t error_count[ERRORS];
    _Atomic uint64_t refused_count[HTTP_ERRORS]; /* what never became a request */
    _Atomic uint64_t zero_copy[NET_ZERO_COPY_RESULTS];
    _Atomic uint64_t closed_by[CONN_CAUSES], ws_closed_by[NET_CLOSE_CODES];
    struct access *access;           /* requests that log.access will tell of; NULL: none yet */
    _Atomic uint64_t memory[CORE_MEMORY_PARTS];
    _Atomic uint64_t commit_oldest_ns; /* when the oldest entry that is not durable was pushed; 0: there is none */
    clockid_t cpu_clock;               /* of the core's thread, for whoever asks how busy it is */
    _Atomic bool cpu_clock_known;
};

MUST_USE enum status core_open(struct core **out, struct gateway *g, unsigned id, char *why, size_t why_len);
/* core_should_yield: the core walks rooms while entries wait for the disk. It never sleeps then, and a writer or
 * syncer that shares its CPU would get no time before the scheduler takes it away, milliseconds later. */
bool core_should_yield(const struct core *core);
/* core_disconnect drops the connections, core_close frees the rest. The threads have ended, and every core is
 * disconnected before the first one is closed: queues hold frames of other cores, which account for them. */
void core_disconnect(struct core *core);
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
    struct queue_node node; /* while it stands in front of a full pipeline */
    void (*go)(struct core *core, struct durable_wait *w, bool durable);
};
/* core_when_durable calls `go` at once when nothing is on its way to the disk, else after the next sync, however full
 * the pipeline is; `durable` is false when the store has failed and it will never be known. */
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
