/* client_state: what a client of the simulation knows and does, as its modules share it: line.h has the connections,
 * client_rest.h what it asks by REST, client_socket.h its WebSocket, oracle.h what it holds its answers against,
 * script.h what it asks next. */
#ifndef CARILLON_TESTS_SIM_CLIENT_STATE_H
#define CARILLON_TESTS_SIM_CLIENT_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "client.h"
#include "line.h"
#include "notifier.h"
#include "truth.h"

#define MESSAGES_MAX 96u /* of one client in a run */
#define ASKED_MAX 8u     /* requests of one socket that wait for their answer */
#define SAMPLE_KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 section 1.3 */
#define SAMPLE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define ROOM_ANY SCENARIO_ROOMS_MAX /* of an ask that is about no one room */

enum message_state { MESSAGE_UNASKED, MESSAGE_OPEN, MESSAGE_ANSWERED, MESSAGE_REFUSED };

struct message {
    unsigned room;
    enum message_state state;
    char client_id[48];
    char *content;
    uint64_t seq, serial; /* of an answered one, and of its row */
    uint64_t created_ms;  /* wall clock, when it was first answered */
};

/* view: what a client holds of a room, and how its socket stands there. */
struct view {
    uint64_t epoch, held; /* the position: everything up to `held` has been seen */
    uint64_t *serials;    /* [seq - 1]: which rows these were */
    size_t cap_serials;
    uint64_t most;        /* ever held: cursors stay where they are when a position turns out to be void */
    uint64_t acked;         /* highest seq whose ack was answered … */
    unsigned acked_gateway; /* … by this gateway: a crash may take the cursor back … */
    uint64_t acked_before;  /* … by the gateway that hello was said to, when it was said; 0: none */
    uint64_t acked_moment;  /* when the first ack was answered; 0: none was, and the device shares the user's cursor */
    unsigned acked_losses;  /* power losses before it: each may take the device's own cursor */
    bool on;                /* the socket is subscribed */
    bool resume_asked;      /* hello named a position; `resumed` must answer it */
    bool after_asked;       /* a subscription named a seq, and was answered; `resumed` comes next */
    uint64_t asked_epoch, asked_seq, asked_version, asked_seen;
    uint64_t next;      /* the only seq that may come … */
    uint64_t next_else; /* … or this one, 0: none: the socket was told of its leaving and subscribes anew, or was
                         * subscribed again already */
    uint64_t live_epoch;
    bool apart; /* what comes is of a fast room and a later epoch than what is held, and no position was asked for: it
                 * does not go on with what is held */
    uint64_t replay_head; /* what comes behind it is news */
    bool left;            /* it has been told so since, and nothing after it */
    unsigned num_crossing; /* subscriptions and ends of them that are under way */
};

enum ask_kind {
    ASK_NONE,
    ASK_HELLO,
    ASK_SEND,
    ASK_ACK,
    ASK_HISTORY, /* messages */
    ASK_EVENTS,
    ASK_SYNC,
    ASK_PRESENCE,
    ASK_TYPING,
    ASK_PING,
    ASK_SUBSCRIBE,
    ASK_UNSUBSCRIBE,
    ASK_ROOM,
    ASK_JOIN,
    ASK_LEAVE,
    ASK_ADD,
    ASK_REMOVE,
    ASK_ROLE,
    ASK_LIST,
    ASK_NOTIFICATION
};

/* ask: a request that waits for its answer, on the socket or by REST. */
struct ask {
    enum ask_kind kind;
    uint64_t id;
    unsigned room, user;             /* where; whom: of a change of members */
    unsigned author, message;        /* of a send: whose message, which */
    uint64_t seq;                    /* of an ack; of a page: what it begins behind or ends before */
    unsigned limit;                  /* of a page */
    bool before;                     /* a page that goes backwards */
    bool twisted;                    /* it must be refused: another body, an ack beyond the head */
    bool after;                      /* a subscription that names a seq */
    struct notice_look look;         /* of the notification that is acknowledged */
    uint64_t since_ns, version, moment;
    uint64_t seen; /* of the room's log, by anybody, when it was asked: an answer knows as much */
};

/* sync: one sync, over as many pages as it takes. */
struct sync {
    char cursor[192]; /* of the next page; empty: there is none */
    unsigned limit;
    uint64_t epoch;   /* of the gateway that its first page was asked of */
    uint64_t version; /* of the store when that was … */
    uint64_t seen[SCENARIO_ROOMS_MAX]; /* … and of each log, by anybody */
    bool listed[SCENARIO_ROOMS_MAX];   /* a position was named */
    uint64_t epochs[SCENARIO_ROOMS_MAX], seqs[SCENARIO_ROOMS_MAX];
    bool begun[SCENARIO_ROOMS_MAX];    /* the room was on a page … */
    uint64_t next[SCENARIO_ROOMS_MAX]; /* … and goes on with this seq */
};

enum socket_state { SOCKET_DOWN, SOCKET_UPGRADING, SOCKET_GREETING, SOCKET_OPEN, SOCKET_CLOSING };

struct client {
    unsigned number, tenant, user;
    char name[24], user_id[24], device[24];
    bool shares_user;
    bool acks; /* at all */
    struct view views[SCENARIO_ROOMS_MAX];
    struct message messages[MESSAGES_MAX];
    unsigned num_messages, messages_max;

    struct line socket;
    enum socket_state state;
    bool greeted_by_hello; /* the subprotocol; else the gateway serves it at once */
    bool wants_all;
    uint64_t opened_moment, served_moment; /* when it was asked for, and was there */
    struct ask asked[ASKED_MAX];
    unsigned num_asked;
    uint64_t next_id;
    uint64_t retry_ns; /* when it connects again */
    uint64_t paused_until_ns; /* it does not read */
    uint64_t heals_since_ns;  /* 0: not yet */

    struct line rest;
    struct ask call; /* ASK_NONE: none is under way */
    uint64_t rest_retry_ns;
    struct sync syncs[2]; /* by REST, on the socket */
};

enum { SYNC_REST, SYNC_SOCKET };

extern struct client clients[CLIENTS_MAX];

/* client_in: the room is of the client's tenant, and known. */
bool client_in(const struct client *c, unsigned room);
/* client_ask fills in what every ask has. */
struct ask client_ask(enum ask_kind kind, unsigned room);
/* client_span: between that ask and an answer that left the gateway at `version`. */
struct span client_span(const struct ask *a, uint64_t version);
/* client_message_new writes a message; most are short, some fill more than one receive buffer. Returns its number. */
unsigned client_message_new(struct client *c, unsigned room);
/* client_message_on_its_way: somebody has asked for that message and was not answered. */
bool client_message_on_its_way(unsigned author, unsigned message);
/* client_sync appends the members of a sync's request: the first page of a new one, or the next one of that under
 * way. */
void client_sync(struct client *c, struct sync *s, struct buf *out);

#endif
