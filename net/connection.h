/* connection: one client's socket, from its accept until its last operation has completed. Private to net.
 *
 * Owner: one core. An idle connection is `struct conn` alone: input under way, a body being read and queued frames
 * are lent from the core's pools only while they are needed.
 *
 * Teardown is terminate, join, close: conn_terminate cancels what is armed, conn_join waits until nothing is in flight
 * and gives the descriptor back, and the completion of that frees the slot for the next generation. */
#ifndef CARILLON_NET_CONNECTION_H
#define CARILLON_NET_CONNECTION_H

#include "net.h"
#include "ring.h"
#include "send_queue.h"
#include "tag.h"
#include "timer.h"
#include "websocket.h"
#include "zero_copy.h"

#include "../src/base/assert.h"
#include "../src/base/limits.h"

enum conn_state {
    CONN_FREE,      /* in the free list: only slot, generation and next_free mean something */
    CONN_HTTP,      /* reads a request; `input` holds a partial head, `exchange` a request whose body is incomplete */
    CONN_REQUEST,   /* a request was handed up and waits for its answer; head_only, keep_alive, minor_version are its */
    CONN_WEBSOCKET, /* open both ways; `ws` is in use */
    CONN_WS_CLOSING, /* our close frame is queued; messages are dropped until the peer's comes */
    CONN_ENDING,     /* flushes its queue and shuts its direction down; reads and discards until the peer is done */
    CONN_CLOSING,    /* waits for its operations in flight */
    CONN_RELEASING,  /* gives its descriptor back */
};

/* enum conn_wait: what a connection waits for input with. One that is silent waits with a poll, which holds the least
 * of the kernel's memory, and receives when there is something; one that says much keeps a receive armed. */
enum conn_wait {
    WAIT_NONE,   /* it does not read */
    WAIT_POLL,   /* for something to read */
    WAIT_ONCE,   /* with a receive, because there is something to read */
    WAIT_STREAM, /* with a receive that stays armed */
};

/* conn_input: received bytes that could not be consumed yet, lent while there are any. */
struct conn_input {
    struct conn_input *next; /* in the pool */
    struct buf bytes;        /* with NET_PADDING bytes of room behind them */
    size_t at;               /* bytes at the front that are consumed */
};

/* conn_exchange: a request whose body did not come with its head, lent until it has been handed up. */
struct conn_exchange {
    struct conn_exchange *next; /* in the pool */
    struct http_request request; /* borrows head */
    struct buf head, body;
    struct http_body reader;
    bool unwanted; /* the head alone has it refused: only a little of the body is taken */
};

#define ZERO_COPIES_BITS 5
_Static_assert(ZERO_COPY_CONN_SENDS_MAX < 1u << ZERO_COPIES_BITS, "conn.zero_copies counts them");

struct conn {
    /* what a fan-out touches */
    uint32_t slot, generation;
    uint32_t ring_fd;
    uint8_t state; /* enum conn_state, by conn_set_state only */
    uint8_t ops;   /* ring operations in flight, a silent send included */
    bool dirty : 1;      /* in net's dirty list: has bytes to send and nothing in its way */
    bool sending : 1;    /* a send is in flight */
    bool blocked : 1;    /* a poll for writability is armed */
    bool above_half : 1; /* pushes queued were above half their cap: on_drain is owed */
    bool want_drain : 1;
    bool readable : 1;   /* there is something to read, as far as is known: no poll before the next receive */
    bool resting : 1;    /* what it waits with is being cancelled */
    bool resuming : 1;   /* in net's resuming list */
    bool consuming : 1;  /* conn_consume runs; a handler may be on the stack */
    bool websocket : 1;
    bool admin : 1;
    bool head_only : 1;
    bool keep_alive : 1;
    bool partial : 1;    /* a request has begun and is not whole: its deadline is absolute */
    bool peer_done : 1;  /* end of stream was read */
    bool shut : 1;       /* our direction was shut down */
    bool exempt : 1;     /* the caller's mark */
    bool counted : 1;    /* in limits.open_shared */
    bool unread : 1;     /* the open request's body is not kept: its answer closes the connection */
    bool said_last : 1;  /* the peer said that nothing comes behind the request that was answered last, or its close
                            frame */
    uint8_t refusal : 3; /* why it is not let in; 0: it is */
    uint8_t minor_version : 1;
    uint8_t wait : 2;     /* enum conn_wait */
    uint8_t readings : 4; /* in a row, each soon after the one before: RECV_STREAM_AFTER */
    uint8_t cause : 4;    /* enum conn_cause + 1; 0: it has not come to its end */
    uint8_t peer_family : 4; /* AF_INET, AF_INET6 or AF_UNIX */
    uint8_t zero_copies : ZERO_COPIES_BITS; /* zero-copy sends whose notification has not come; see zero_copy.h */
    uint8_t zero_copy_way : 2; /* enum zero_copy_way */
    bool told : 1;             /* the send in flight is one of them: it is not silent */
    uint16_t requests;   /* commands in flight */
    uint16_t close_code; /* of a WebSocket: the first that was sent or received; 0: none yet */
    uint32_t sending_bytes;
    uint32_t frames_out;
    struct send_queue queue;
    uint32_t stalled_tick;   /* since when a blocked queue has made no progress */
    uint32_t assembly_bytes; /* of exchange and ws, as net's account knows them */

    struct net_account *account;
    void *user; /* in the free list: unused */
    struct timer timer; /* its owner's word: the tick in which the connection was opened */
    union {
        uint32_t deadline_tick; /* of the state, TIMER_NEVER for none */
        uint32_t pinged_tick;   /* CONN_WEBSOCKET, which has no deadline of its own */
        uint32_t next_free;     /* CONN_FREE */
    };
    uint32_t heard_tick; /* the peer's last bytes */

    struct conn_input *input;
    union {
        struct { /* no WebSocket */
            struct conn_exchange *exchange;
            struct conn_note note; /* of the open request */
        };
        struct ws_in ws;
    };
    union {
        uint32_t ws_message_bytes_max; /* while messages are read … */
        uint32_t discarded_bytes;      /* … and from CONN_ENDING on */
    };
    uint32_t messages_in;
    union { /* of peer_family; network order */
        uint8_t ipv4[4];
        uint8_t *ipv6; /* 16 bytes, its own */
    } peer;
};
_Static_assert(sizeof(struct conn) == 192, "an idle connection's whole share of net's user space: three lines");
_Static_assert(offsetof(struct conn, account) <= 2 * 64 - 16, "a fan-out and its send stay within two lines' length");

/* conn_list: connections to look at later in the turn. Membership is a flag in the connection, so an entry whose
 * connection has gone meanwhile is passed over. */
struct conn_list {
    struct conn **items;
    uint32_t len, cap;
};

struct accept_slot {
    struct sockaddr_storage peer;
    socklen_t peer_len;
    bool armed;
};

/* backlog: connections that wait at a listener. */
struct backlog {
    uint32_t armed; /* accepts */
    uint32_t there; /* how many waited besides when it was last asked, and no accept has been armed for them */
    bool asked;     /* an accept has completed: where one was, there may be others */
};

struct net_ticks {
    uint32_t header, body, idle, ping, close, stall;
};

#define CONN_CHUNK 256u /* connections allocated together; their addresses never change */

struct net {
    struct ring *ring;
    struct net_handlers handlers;
    struct net_limits limits;
    struct net_ticks ticks; /* the limits' timeouts */
    const struct clock *clock;
    struct park *park;
    unsigned core;
    uint64_t started_ns, now_ns;
    uint32_t now_tick;
    struct timer_wheel timers;

    struct conn **chunks; /* connections_max / CONN_CHUNK, allocated from the front */
    uint32_t num_slots;   /* ever used */
    uint32_t free_slot;   /* head of the free list, UINT32_MAX at its end */
    uint32_t open;        /* slots in use */
    uint32_t refusing;    /* of them by connections that are not let in */
    uint32_t lingering;   /* and by those that have ended and gave their place back: conn_lingers */

    struct conn_list dirty, sending, resuming;
    bool follow_up; /* a send of this turn has something behind it: its success is silent, so nothing would wake us for
                       it */
    char *scratch; /* copied bytes and iovecs of this turn's sends */
    size_t scratch_len;

    struct send_pool send_pool;
    struct zero_copy zero_copy;
    struct ws_pool *ws_pool;
    struct conn_input *inputs;
    struct conn_exchange *exchanges;
    unsigned num_inputs, num_exchanges; /* in the pools */
    size_t assembly_bytes;
    size_t reply_bytes; /* of all queues */
    struct http_request request; /* of the head that is being parsed */

    struct net_listener listeners[LISTENERS_MAX];
    unsigned num_listeners;
    struct accept_slot *accepts; /* ACCEPTS_ARMED_MAX a listener */
    struct backlog waiting[LISTENERS_MAX];
    unsigned accepts_armed;
    bool accepting;
    uint64_t accept_after_ns; /* no accept is armed before; 0 when it has passed */
    uint64_t accept_look_ns;  /* when slots are short: next look for clients at a listener that has no accept; else 0 */
    unsigned accept_next;     /* … and the listener whose turn it is */

    char date[30]; /* IMF-fixdate of date_s */
    uint64_t date_s;
    struct net_stats stats;
};

/* --- net.c: what connections need of their core --------------------------------------------------------------- */

struct conn *net_slot(const struct net *n, uint32_t slot);
/* net_slot_free ends the connection's generation. */
void net_slot_free(struct net *n, struct conn *c);
/* net_dirty puts the connection on the list of those to send to, unless something is in its way. */
void net_dirty(struct net *n, struct conn *c);
/* net_resume has conn_resume called at the end of this or the next net_poll. */
void net_resume(struct net *n, struct conn *c);
/* net_date returns the current Date field value (RFC 9110 section 5.6.7), made once a second. */
const char *net_date(struct net *n);

/* WebSocket close codes (RFC 6455 section 7.4.1; the 4000s are this gateway's own). */
enum {
    CLOSE_GOING_AWAY = 1001,
    CLOSE_NO_STATUS = 1005,
    CLOSE_OVERLOADED = 4100,
    CLOSE_TOO_SLOW = 4200,
};

/* conn_tag names an operation of the connection, so that its completion finds the way back. */
static inline uint64_t conn_tag(const struct conn *c, enum ring_op op)
{
    return tag_make(op, c->generation, c->slot);
}

/* Between conn_op_begin and conn_op_end an operation is in flight, and the slot is not given away. */
static inline void conn_op_begin(struct conn *c)
{
    ASSERT(c->ops < UINT8_MAX);
    c->ops++;
}

static inline void conn_op_end(struct conn *c)
{
    ASSERT(c->ops > 0);
    c->ops--;
}

/* conn_reply_bytes: what waits of answers, pages of a replay among them. */
static inline size_t conn_reply_bytes(const struct conn *c)
{
    return send_queue_class_bytes(&c->queue, CONN_REPLY) + send_queue_class_bytes(&c->queue, CONN_REPLAY);
}

/* --- connection.c: from the accept to the end ------------------------------------------------------------------- */

/* conn_open begins a connection in a fresh slot and begins to receive. */
void conn_open(struct net *n, struct conn *c, uint32_t ring_fd, const struct sockaddr_storage *peer, bool admin);
/* conn_complete handles a completion of one of the connection's operations. */
void conn_complete(struct net *n, struct conn *c, const struct ring_completion *done);
/* conn_set_state makes a legal move. */
void conn_set_state(struct conn *c, enum conn_state next);
/* conn_blame notes why the connection ends; what follows from that is no reason of its own. */
void conn_blame(struct conn *c, enum conn_cause cause);
/* conn_set_deadline bounds the state that has begun; conn_arm_timer follows what the deadline depends on. */
void conn_set_deadline(struct net *n, struct conn *c, uint32_t ticks);
void conn_arm_timer(struct net *n, struct conn *c);
void conn_expire(struct net *n, struct conn *c);
/* conn_opened_tick: in which it was accepted. */
static inline uint32_t conn_opened_tick(const struct conn *c) { return c->timer.owners; }
/* conn_stalled ends a connection whose peer has not taken one byte for too long. */
void conn_stalled(struct net *n, struct conn *c);
/* conn_answering: an HTTP answer is on its way; see net_answering. */
bool conn_answering(const struct conn *c);
/* conn_end flushes what is queued and then terminates. */
void conn_end(struct net *n, struct conn *c);
/* conn_flushed: the queue has run empty, or a state in which that matters has begun with an empty one. */
void conn_flushed(struct net *n, struct conn *c);
/* conn_should_linger: would a close now reset the connection under its last answer? */
bool conn_should_linger(const struct net *n, const struct conn *c);
/* conn_lingers: the connection has ended and waits for its peer, in one of the places for that. */
bool conn_lingers(const struct net *n, const struct conn *c);
/* conn_terminate begins the end, whatever the state; harmless when it has begun. */
void conn_terminate(struct net *n, struct conn *c);
/* conn_join gives the descriptor back once nothing is in flight. */
void conn_join(struct net *n, struct conn *c);
/* conn_discard frees what a connection holds when the whole net closes. */
void conn_discard(struct net *n, struct conn *c);

/* --- connection_receive.c: bytes in, requests and messages up ----------------------------------------------------- */

/* conn_read_on waits for input unless it does already, or enough is held back. */
void conn_read_on(struct net *n, struct conn *c);
/* conn_end_wait has the wait for input complete, once; it begins anew then if the connection reads. */
void conn_end_wait(struct net *n, struct conn *c);
/* conn_wait_tag is the tag of what it waits with. */
uint64_t conn_wait_tag(const struct conn *c);
/* conn_cool has one that kept a receive armed and is silent by now wait with a poll; looked at when its timer fires. */
void conn_cool(struct net *n, struct conn *c);
void conn_on_recv(struct net *n, struct conn *c, const struct ring_completion *done);
void conn_on_poll_in(struct net *n, struct conn *c, int32_t result);
/* conn_takes_input answers whether received bytes may be looked at now. */
bool conn_takes_input(const struct net *n, const struct conn *c);
/* conn_resume looks at what was held back. */
void conn_resume(struct net *n, struct conn *c);
/* conn_input_discard gives lent input and exchange back. */
void conn_input_discard(struct net *n, struct conn *c);

/* --- connection_answer.c: what net itself says -------------------------------------------------------------------- */

/* conn_refuse answers with an error of net's own and ends the connection. */
void conn_refuse(struct net *n, struct conn *c, unsigned status, const char *code, const char *detail);
void conn_refuse_error(struct net *n, struct conn *c, enum http_error error, const struct http_request *request);
void conn_ws_push(struct net *n, struct conn *c, enum ws_opcode opcode, struct slice payload);
void conn_ws_push_close(struct net *n, struct conn *c, uint16_t code, struct slice reason);
/* conn_ws_close: `ticks` bounds the flushing of the queue; once it is empty the close timeout begins. */
void conn_ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued, uint32_t ticks);

/* --- connection_send.c: what waits for the socket, and its way into it ------------------------------------------- */

/* conn_admits answers whether the class has room for `len` more bytes. */
bool conn_admits(struct net *n, struct conn *c, size_t len, enum conn_class class);
/* conn_push queues the frame, with a reference of its own. */
void conn_push(struct net *n, struct conn *c, struct frame *f, enum conn_class class);
void conn_queue_drop(struct net *n, struct conn *c, enum conn_class class);
void conn_queue_clear(struct net *n, struct conn *c);
/* conn_flush makes one send of what is queued; false when the scratch has no room left in this turn. */
bool conn_flush(struct net *n, struct conn *c);
/* conn_has_follow_up: once the send in flight is through, is there anything to do for this connection? */
bool conn_has_follow_up(const struct net *n, const struct conn *c);
/* conn_sent_whole accounts for a send that has not completed, which is to say: was taken whole. */
void conn_sent_whole(struct net *n, struct conn *c);
void conn_on_send(struct net *n, struct conn *c, int32_t result);
/* conn_send_again is for a send that has done nothing and is to be tried in another way. */
void conn_send_again(struct net *n, struct conn *c);
void conn_on_poll_out(struct net *n, struct conn *c);

#endif
