/* op: one request on its way: from the core that took it in, to the core that is home to what it is about, and back.
 *
 * An op lives on its origin core: made there by op_new, freed there by op_free. In between, ownership travels with the
 * pointer through the mailboxes; exactly one core (or reader thread) may touch it at a time. `kind` says what the home
 * does (op_table in core.c); `then` is what the origin does when it comes back. A flow of several steps re-targets the
 * same op: its `then` sets another kind and sends it again. A gather makes child ops and counts them back.
 *
 * Text that an op carries stands behind it in the same allocation (op_keep). */
#ifndef CARILLON_CORE_OP_H
#define CARILLON_CORE_OP_H

#include "../../net/net.h"
#include "../../storage/commit.h"
#include "../../storage/read.h"
#include "../../storage/records.h"
#include "../api/errors.h"
#include "../base/buf.h"
#include "../base/list.h"

struct core;
struct op;
struct known_user;
struct rate_bucket;
struct sub;

/* What travels in mailboxes begins with its kind, so that one list can park all of it in order. */
enum mail_kind {
    MAIL_OP,      /* struct op, to its home */
    MAIL_OP_BACK, /* struct op, back at its origin */
    MAIL_RUN,     /* struct frame: newly durable events of a room */
    MAIL_NOTICE,  /* struct notice */
};

struct mail {
    struct queue_node node;
    uint32_t kind; /* enum mail_kind; same place as in struct frame_core */
};

enum op_kind {
    OP_USER_RESOLVE,  /* user home: user id → number, made when new unless `asks` */
    OP_USER_GET,      /* user home: the user's public object */
    OP_USER_ROOMS,    /* user home: rooms and cursors; `session` registers a socket's core as well */
    OP_USER_CURSOR,   /* user home: move a cursor (the room's home has checked it) */
    OP_USER_PRESENCE, /* user home: is the user online? Asked by somebody with `positions`, who must share a room */
    OP_ROOM_CREATE,   /* tenant home */
    OP_ROOM_GET,      /* room home, like all below */
    OP_ROOM_JOIN,
    OP_ROOM_LEAVE,
    OP_ROOM_ADD,      /* members; with `asks`: may the user add some? */
    OP_ROOM_REMOVE,   /* one member */
    OP_ROOM_ROLE,
    OP_ROOM_MEMBERS,
    OP_ROOM_SEND,
    OP_ROOM_POSITION, /* check a resume position; `subscribe` pins the live position for a socket as well */
    OP_ROOM_HISTORY,  /* membership and durable head, then a reader makes the page */
    OP_ROOM_ACK,      /* checks the seq, goes on as OP_USER_CURSOR */
    OP_ROOM_PRESENCE, /* a page of members, whose status the origin knows; `watch` makes its core one with listeners */
    OP_ROOM_TYPING,
    OP_ROOM_TARGETS,  /* adds the room's members to op->members, for OP_NOTIFY */
    OP_NOTIFY,        /* tenant home: make a notification durable */
    OP_NOTIFICATION_ACK,    /* user home, like the three below: its user has seen it */
    OP_NOTIFICATION_EXPIRE, /* look whether something of the user has expired */
    OP_DEAD_LETTER_RETRY,
    OP_DEAD_LETTER_DELETE,
    OP_NOTIFICATION_PUSH, /* any core: to the user's sockets there */
    OP_TENANT_CREATE, /* core 0: the directory's home */
    OP_TENANT_UPDATE, /* also deletes */
    OP_KEY_CREATE,
    OP_KEY_REVOKE,
    OP_TICKET_USE,    /* user home: once */
    OP_DIRECTORY_APPLY, /* every core: take over a changed tenant or key */
    OP_CONNECTION_LIST, /* one core after the other: its connections (connections.h) */
    OP_CONNECTION_KICK,
    OP_DRAIN,           /* the main thread (control.h), like the next one */
    OP_RELOAD,
    OP_KINDS
};

struct op_member {
    uint64_t user;
    struct slice user_id;
    uint16_t home; /* core of the user's home */
    bool rooms_full; /* in as many rooms as is allowed, unless in this one already */
};

/* room_position: where one user stands in one room. */
struct room_position {
    uint64_t room, epoch, head, from; /* from: first seq to be sent */
    uint64_t delivered, read, joined_seq;
    bool recovered, member;
    bool large; /* more members than limits.presence_room_members */
};

struct op {
    struct mail mail;
    uint8_t kind; /* enum op_kind */
    bool is_websocket;
    bool answered;            /* WebSocket requests without an id get errors only */
    uint16_t origin;          /* core */
    void (*then)(struct core *core, struct op *op); /* on the origin */
    uint32_t child_index;     /* of an op that a flow counts back: which one it is */

    struct conn_ref conn;     /* who waits for the answer; generation 0: nobody */
    uint64_t request_id;
    uint64_t started_ns;
    uint16_t route;           /* REST: row of the route table, for metrics */
    struct slice re;          /* WebSocket: the id as JSON text, kept */

    /* who */
    uint32_t tenant;
    uint64_t user;
    struct slice user_id;

    /* what */
    uint64_t room;
    uint64_t now_ms;          /* time comes in with the command: applying it is deterministic */
    struct slice client_id;   /* or the idempotency key */
    uint64_t payload_hash;
    bool pends;               /* counted in local_room.pending of its origin, which must take it off again */
    bool asks;                /* changes nothing: OP_USER_RESOLVE, OP_ROOM_ADD */
    bool joins;               /* OP_USER_RESOLVE: the user is to be in one room more */
    bool rooms_full;          /* of the acting user, as in struct op_member; OP_USER_RESOLVE answers it */
    union {
        struct {
            struct slice content, meta, message_type;
            uint64_t reply_to;
            bool reply_by_id;  /* shown as it was given: a message id, not a seq */
        } send;
        struct {
            struct slice name, description, avatar_url, settings;
            uint32_t members_max;
            uint8_t type, flags, role;
        } change; /* create, role */
        struct {
            struct slice device;
            uint64_t seq;
            bool read;
        } cursor;
        struct {
            uint64_t expires_ns; /* mono */
            uint8_t nonce[16];   /* TICKET_NONCE_BYTES */
        } ticket;
        struct {
            uint64_t again_ns; /* looked at again then; 0: not yet */
        } resolve;
        struct {
            struct slice device;
            bool session;      /* this core has one more socket of the user: counted in any case (chat/user.h) */
            struct slice other; /* whom OP_USER_PRESENCE is about, the next step */
        } rooms;
        struct {
            uint64_t after, next; /* members by number: those behind; where the next page begins, 0 at the end */
            uint32_t limit;
            bool watch;
        } presence;
        struct {
            bool stop;
        } typing;
        struct {
            uint64_t epoch, seq;
            uint8_t mode;      /* enum position_mode */
            bool subscribe;
            struct sub *sub;   /* on the origin: the subscription that waits */
        } position;
        struct {
            uint64_t after_seq, before_seq;
            bool has_after, has_before;
            uint32_t limit;
            bool messages_only;
            uint64_t single;   /* one message's seq, 0: a page */
        } history;
        struct {
            struct tenant_record tenant;
            struct api_key_record key;
            struct slice prefix; /* of the key */
            struct slice change; /* what an update asks for, for the log of acts */
            struct rate_bucket *requests; /* the tenant's, for all cores */
            bool has_tenant, has_key, generate_key;
        } directory;
        struct {
            struct slice topic, payload;
            uint64_t room;    /* 0: none is a target */
            uint8_t priority;
            bool subscribers; /* of the topic are targets */
        } notify;
        struct {
            uint64_t number;
            uint64_t dead_by_ms; /* OP_DEAD_LETTER_DELETE: only if it was dead by then; 0: in any case */
        } notification; /* what happens to one of op->user's */
        struct {
            struct conn_ref conn; /* the one socket, or generation 0: all of op->user's */
            uint64_t taken;       /* bits, by the notification's place in the push: some socket took it */
            uint32_t sockets;     /* that are open, and were tried */
            bool crowded;         /* this core's frames are too many for another one now */
        } push;
        struct {
            struct slice reason; /* kick; NUL-terminated */
            struct slice id;     /* kick: of the one connection that was named */
            uint32_t slot;       /* where the look at this core begins, and where the next one goes on */
            uint32_t generation; /* kick: of the one connection in that slot; 0: all that match */
            uint16_t core;       /* which one has its turn */
            uint32_t left, closed;
            bool more;           /* list: the page is full, and there is more from `slot` on */
        } connections;
    } in;
    struct op_member *members; /* ROOM_CREATE, ROOM_ADD, ROOM_REMOVE; malloc'ed with the op's life */
    uint32_t num_members;

    /* result */
    struct error error;
    uint16_t http_status;     /* of the success */
    bool fast;                /* answered before the fsync: the room's durability says so */
    bool repeat_checked;      /* the idempotency row was looked up and is not there */
    uint16_t created_status;  /* OP_ROOM_GET at the end of a creation: 201, or 200 for a DM that existed */
    uint64_t seq, created_ms;
    uint64_t head, epoch;
    struct room_position *positions; /* OP_USER_ROOMS, OP_ROOM_POSITION in a gather */
    uint32_t num_positions;
    struct room_position position;
    struct buf out;           /* JSON of the answer */

    struct core *pages;       /* where memory for its answer is reserved; NULL: nowhere (api/pages.h) */
    size_t pages_bytes;
    void (*pages_go)(struct core *core, struct op *op); /* while it waits for that */

    struct read_job job;      /* when a reader works for it */
    uint64_t job_from, job_to, job_count;
    enum status job_status;
    void *flow;               /* state of a flow of several steps, owned by the origin */
    uint32_t text_used, text_cap;
    char text[];              /* op_keep's bytes */
};

enum position_mode {
    POSITION_LIVE,   /* from the head on */
    POSITION_AFTER,  /* everything after `seq`, which this server gave out itself (a cursor, or the caller's wish) */
    POSITION_RESUME, /* [epoch, seq] held by a client */
};

/* op_new makes an op on this core with room for `text_bytes` of kept text. Never NULL. */
struct op *op_new(struct core *core, enum op_kind kind, size_t text_bytes);
void op_free(struct op *op);
/* op_keep copies text into the op; the capacity was named at op_new. */
struct slice op_keep(struct op *op, struct slice text);

/* op_members_full: may one of them be in no room more? */
static inline bool op_members_full(const struct op_member *members, uint32_t num)
{
    for (uint32_t i = 0; i < num; i++)
        if (members[i].rooms_full) return true;
    return false;
}

/* op_fail sets the error; the first one stays. Returns false, so that checks read as `return op_fail(…)`. */
bool op_fail(struct op *op, enum error_code code, const char *detail, const char *field);
static inline bool op_failed(const struct op *op) { return op->error.code != ERR_NONE; }

#endif
