/* room: a room at its home core: who is in it, its one order, and what is on its way to the disk.
 *
 * Applying a command is a pure step over loaded state: sequence number, record and commit entry are made at once, the
 * answer and the fan-out wait for the ticket. A command for a room that is not loaded waits in the room's own FIFO
 * while a reader loads it; so does what comes behind a repeated client id that must be looked up: the order never
 * changes.
 *
 * `head` counts what was applied, `durable_head` what is on disk: every read path stops at the latter. Commands that
 * read membership wait while a membership change is on its way (`changes_pending`), so nobody is told of a join that a
 * crash could still take back. */
#ifndef CARILLON_CHAT_ROOM_H
#define CARILLON_CHAT_ROOM_H

#include "../../storage/commit.h"
#include "../../storage/keys.h"
#include "../core/core.h"
#include "../core/op.h"
#include "idempotency.h"

struct far_walks;
struct notice;

enum room_state {
    ROOM_LOADING, /* a reader works; commands wait in `waiting` */
    ROOM_READY,
    ROOM_BLOCKED, /* ready, but a look-up for the command in front is under way; commands wait */
};

struct member {
    uint64_t user;
    uint64_t joined_seq, joined_ms;
    uint16_t home; /* of the user */
    uint8_t role;  /* enum member_role */
    uint8_t id_len;
    char id[];
};

struct room {
    uint32_t tenant;
    uint64_t number;
    uint8_t state; /* enum room_state */
    struct room_record record; /* slices into `strings` */
    struct buf strings;
    uint64_t head, durable_head, last_ms;
    struct map members;        /* by user number */
    uint32_t num_admins;
    uint64_t core_mask;        /* cores with subscribers */
    struct queue waiting;      /* ops in order: loading or blocked */
    struct queue readers;      /* ops that wait for changes_pending to fall to 0 */
    uint32_t changes_pending;  /* membership changes not durable yet */
    uint32_t events_pending;   /* events not durable yet */
    uint64_t fsync_pending_seq; /* last seq pushed in class fsync, so that a fast event never overtakes it */
    struct queue published;    /* newly durable events, not given to the readers yet */
    struct list dirty;         /* in core->rooms_dirty or rooms_held while `published` holds something */
    struct list idle;          /* in core->rooms_idle when it could be evicted */
    struct room_keys keys;
    uint64_t sent_weight;      /* of all runs that went out; and how far other cores have come: far_walk.h */
    struct far_walks *far;
    uint64_t last_used_ns;
    uint32_t num_typing, num_typing_shown; /* typing.c */
    bool large;                /* cores with subscribers were told: more members than limits.presence_room_members */
};

/* event: one durable event on its way. Allocated in one piece with its record. */
struct event {
    struct commit_entry entry;
    struct commit_row rows[2]; /* the log row; the room row when its epochs change */
    struct queue_node node;    /* in room->published */
    struct room *room;
    struct op *op;             /* who is answered, or NULL */
    struct queue repeats;      /* ops with the same client id, answered with it */
    struct idempotency_entry *window; /* its key's entry, or NULL */
    struct commit_row *extra_rows;    /* membership changes: all rows, malloc'ed */
    struct buf extra_bytes;
    struct op_member *joined, *left;  /* whom to tell, owned */
    uint32_t num_joined, num_left;
    uint64_t seq;
    struct key log_key, room_key;
    struct buf room_row;
    uint32_t record_len;
    char record[];
};

static inline struct slice event_record(const struct event *e) { return slice_of(e->record, e->record_len); }

void room_on_op(struct core *core, struct op *op);
void room_on_notice(struct core *core, struct notice *n);
/* room_on_create runs at the tenant's home: makes a room, or finds the DM that exists. */
void room_on_create(struct core *core, struct op *op);
void rooms_free(struct core *core);

struct room *room_find(const struct core *core, uint32_t tenant, uint64_t number);
struct member *room_member(const struct room *r, uint64_t user);
/* room_epoch_of: the epoch that clients are told for this room now. */
uint64_t room_epoch_of(const struct core *core, const struct room *r);
/* room_large: presence and typing go only to those who asked, joins carry a count. */
bool room_large(const struct core *core, const struct room *r);
/* rooms_fit looks anew at which rooms are large when limits.presence_room_members was reloaded, and tells the cores
 * with subscribers: once a turn. A reload costs one walk over the loaded rooms, some milliseconds for
 * ROOMS_LOADED_MAX. */
void rooms_fit(struct core *core);
/* room_object appends the room's JSON object; `m` adds the caller's own role, may be NULL. */
void room_object(struct buf *out, const struct core *core, const struct room *r, const struct member *m);

/* room_append.c: applying what makes an event */
void room_send(struct core *core, struct room *r, struct op *op);
void room_join(struct core *core, struct room *r, struct op *op);
void room_leave(struct core *core, struct room *r, struct op *op);
void room_add(struct core *core, struct room *r, struct op *op);
void room_remove(struct core *core, struct room *r, struct op *op);
void room_role(struct core *core, struct room *r, struct op *op);
/* room_may_write checks the server's state before anything is applied that adds data; false with the op failed: a
 * failed store, the disk's reserve, too much that waits for the disk or for slow readers. */
bool room_may_write(struct core *core, struct op *op);
/* room_may_shrink is for what takes away or keeps the server manageable (leaving, removing, roles, revoked keys,
 * tenants switched off): neither the disk's reserve nor slow readers hold it up; false with the op failed. */
bool room_may_shrink(struct core *core, struct op *op);
/* room_fast: the room's own durability, else its tenant's, else the server's, is `fast`. */
bool room_fast(const struct core *core, const struct room *r);
/* room_settled makes an op that answers from the membership wait while a change of it is on its way; false when it
 * waits, or was refused because the store has failed. It is applied again afterwards. */
bool room_settled(struct core *core, struct room *r, struct op *op);
/* room_unblock goes on with the commands that waited. */
void room_unblock(struct core *core, struct room *r);
void room_members_put(struct core *core, struct room *r, uint64_t user, struct slice id, uint8_t role, uint64_t seq,
                      uint64_t ms);
void room_members_take(struct room *r, struct member *m);
/* event_release frees an event that was published. */
void event_release(struct event *e);

/* room_apply runs a command on a room that is ready. */
void room_apply(struct core *core, struct room *r, struct op *op);

/* room_repeat.c */
void room_repeat_lookup(struct core *core, struct room *r, struct op *op);
void room_repeat_row(const struct op *op, struct key *key, struct buf *value);
/* room_answer_kept answers a request that changed nothing; with an idempotency key the answer is kept first. */
void room_answer_kept(struct core *core, struct op *op);

/* number_row appends the meta row that makes this core's given-out numbers durable; see STORE_NUMBER_META. */
void number_row(struct core *core, struct key *key, struct buf *value, uint64_t number);

#endif
