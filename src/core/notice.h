/* notice: a one-way message between homes: what happened, for whom it matters. Allocated by the sender, freed by the
 * receiver. Bound: one for each durable event that changes a membership, for each user who comes or goes, and for each
 * change of typing that is shown, and core it concerns; for half a window of runs of a large room. */
#ifndef CARILLON_CORE_NOTICE_H
#define CARILLON_CORE_NOTICE_H

#include "op.h"

enum notice_kind {
    NOTICE_JOINED,        /* room home → user home: the user is now a member; user home → cores with its sockets */
    NOTICE_JOINED_SOCKETS,
    NOTICE_LEFT,          /* room home → user home */
    NOTICE_REMOVED,       /* room home → cores with subscribers: end this user's subscriptions */
    NOTICE_SOCKET_CLOSED, /* connection's core → user home; seq 1: the user typed on it */
    NOTICE_NOTIFIED,      /* tenant home → user home: something new is in the user's outbox: seq its number, body a
                             struct notified */
    NOTICE_OUTBOX,        /* user home → tenant home: `seq`, if any, is back in the user's
                           * outbox; body: the numbers that have left, u64 each */
    NOTICE_SOCKET_OPENED, /* connection's core → user home: what waits for the user can be pushed; room is the
                             conn_ref */
    NOTICE_SOCKET_DRAINED, /* connection's core → user home: it has room for what waits again, or is gone; room as
                              above */
    NOTICE_ROOM_UNUSED,   /* connection's core → room home: its last subscriber is gone */
    NOTICE_ROOM_WALKED,   /* the same: up to where its runs have been given to all there: seq a sum of weights
                             (chat/far_walk.h) */
    NOTICE_ROOM_SIZE,     /* room home → cores with subscribers: seq 1: it is large now, 0: it no longer is */
    NOTICE_PRESENCE,      /* user home → all cores: seq 0: online, else offline since `seq` (ms); body: numbers of the
                             user's rooms, or, with `room`, that one room which the user has joined */
    NOTICE_TYPING,        /* room home → cores with subscribers: seq 1: the user types, 0: no longer */
    NOTICE_TYPING_GONE,   /* user home → all cores: the last socket of a user who typed is gone */
};

struct notice {
    struct mail mail;
    uint8_t kind; /* enum notice_kind */
    uint16_t from_core;
    uint32_t tenant;
    uint64_t user, room, seq;
    uint32_t id_len, body_len;
    char text[]; /* user id, then body */
};

/* notice_new copies the user id and body (either may be empty). */
struct notice *notice_new(struct core *core, enum notice_kind kind, uint32_t tenant, uint64_t user,
                          struct slice user_id, uint64_t room, uint64_t seq, struct slice body);
static inline struct slice notice_user_id(const struct notice *n) { return (struct slice){n->text, n->id_len}; }
static inline struct slice notice_body(const struct notice *n)
{
    return (struct slice){n->text + n->id_len, n->body_len};
}
/* notice_post sends it to `target`; handled at once when that is this core. */
void notice_post(struct core *core, unsigned target, struct notice *n);

#endif
