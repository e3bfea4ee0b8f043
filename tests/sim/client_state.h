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

#define MESSAGES_MAX 48u /* of one client in a run */
#define ASKED_MAX 8u     /* requests of one socket that wait for their answer */
#define SAMPLE_KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 section 1.3 */
#define SAMPLE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum message_state { MESSAGE_UNASKED, MESSAGE_OPEN, MESSAGE_ANSWERED, MESSAGE_REFUSED };

struct message {
    unsigned room;
    enum message_state state;
    char client_id[48];
    char *content;
    uint64_t seq; /* of an answered one */
};

enum standing { MEMBER_SURELY, MEMBER_MAYBE, MEMBER_NOT };

/* view: what a client holds of a room, and how its socket stands there. */
struct view {
    uint64_t epoch, held; /* the position: everything up to `held` has been seen */
    uint64_t acked;         /* highest seq whose ack was answered … */
    unsigned acked_gateway; /* … by this gateway: a crash may take the cursor back */
    enum standing standing;
    bool on;              /* the socket is subscribed */
    bool resume_asked;    /* hello named a position; `resumed` must answer it */
    uint64_t asked_seq;
    uint64_t next;        /* the only seq that may come */
    uint64_t live_epoch;
    uint64_t replay_head; /* what comes behind it is news */
    bool left;            /* it has been told so since, and nothing after it */
};

enum ask_kind { ASK_HELLO, ASK_SEND, ASK_ACK, ASK_HISTORY, ASK_SYNC, ASK_PRESENCE, ASK_TYPING, ASK_PING,
                ASK_NOTIFICATION };

struct ask {
    enum ask_kind kind;
    uint64_t id;
    unsigned message, room;
    uint64_t seq; /* of an ack */
    struct notice_look look; /* of the notification that is acknowledged */
    uint64_t since_ns;
};

enum socket_state { SOCKET_DOWN, SOCKET_UPGRADING, SOCKET_GREETING, SOCKET_OPEN, SOCKET_CLOSING };

enum call_kind {
    CALL_NONE,
    CALL_TENANT,
    CALL_ROOM,
    CALL_SEND,
    CALL_EVENTS,
    CALL_SYNC,
    CALL_JOIN,
    CALL_LEAVE,
    CALL_LIST
};

struct client {
    char name[24], user_id[24], device[24];
    bool shares_user;
    struct view views[SCENARIO_ROOMS];
    struct message messages[MESSAGES_MAX];
    unsigned num_messages, messages_max;

    struct line socket;
    enum socket_state state;
    bool greeted_by_hello; /* the subprotocol; else the gateway serves it at once */
    bool wants_all;
    struct ask asked[ASKED_MAX];
    unsigned num_asked;
    uint64_t next_id;
    uint64_t retry_ns; /* when it connects again */
    uint64_t paused_until_ns; /* it does not read */

    struct line rest;
    enum call_kind call;
    unsigned call_room, call_message;
    uint64_t call_after, call_head; /* of the page that is asked for: what it begins behind, what had been shown by then */
    bool call_when_out; /* it knew that it is no member when it asked */
    uint64_t call_since_ns, rest_retry_ns;
    unsigned join_lost_gateway; /* it may let the client in at any time: a join was not answered */
};

extern struct client clients[CLIENTS_MAX];

/* client_message_new writes a message; most are short, some fill more than one receive buffer. Returns its number. */
unsigned client_message_new(struct client *c);
/* client_positions appends the member `rooms` of a sync: what the client holds of each room. */
void client_positions(const struct client *c, struct buf *out);

#endif
