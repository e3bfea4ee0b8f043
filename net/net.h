/* net: connections of one core: HTTP requests and WebSocket messages up, shared frames and replies down.
 *
 * Owner: one core; every call comes from its thread. net knows nothing of the domain: it calls up only through
 * `struct net_handlers`, and hands out connections as (slot, generation) references that stay checkable after the
 * connection is gone.
 *
 * Call order a turn: net_poll (reap and handle completions; calls handlers), whatever the core does, net_flush (one
 * send for every dirty connection), net_wait. Lifetime: a `struct conn *` is valid inside the handler it was passed
 * to, and until on_closed for it has returned. */
#ifndef CARILLON_NET_NET_H
#define CARILLON_NET_NET_H

#include "../src/base/buf.h"
#include "../src/base/clock.h"
#include "../src/base/list.h"
#include "../src/base/slice.h"
#include "../src/base/status.h"
#include "frame.h"
#include "http.h"

struct net;
struct conn;
struct park;

/* conn_ref names a connection across time and cores; generation 0 names none. */
struct conn_ref {
    uint32_t slot, generation;
};

enum conn_class {
    CONN_REPLY = 0,     /* replies and control frames: never dropped, bounded by request credits */
    CONN_DURABLE = 1,   /* pushes that a resume can repeat: over the cap the connection is too slow */
    CONN_EPHEMERAL = 2, /* typing, presence: dropped first */
    CONN_REPLAY = 3, /* pages of history that were asked for: they count as replies, and go where durable pushes go */
};

struct net_handlers {
    /* A whole request with its body. Answer now or later with net_http_reply or, for an upgrade, net_ws_accept;
     * the connection parses its next request only after that. Slices die on return. */
    void (*on_request)(void *context, struct conn *c, const struct http_request *request);
    /* A whole WebSocket message; `data` is valid UTF-8 when text, dies on return, and is followed by at least
     * NET_PADDING readable bytes. */
    void (*on_message)(void *context, struct conn *c, bool text, struct slice data);
    /* The connection's queue fell to or below half its cap after having been above it, or emptied while
     * net_want_drain was set. */
    void (*on_drain)(void *context, struct conn *c);
    /* The connection is gone; conn_user is to be released. Called exactly once for every connection with a user, from
     * within net_poll, never from within a call of this header on another connection. */
    void (*on_closed)(void *context, struct conn *c);
    void *context;
    /* What came could not be read as a request and is about to be answered: malformed (`error` says how), or, with
     * HTTP_OK, the core is short of memory (503). May be NULL. */
    void (*on_refused)(void *context, struct conn *c, enum http_error error, unsigned status);
    /* A connection was accepted from anybody but the operator: 0 lets it in, 1 to CONN_REFUSAL_MAX refuses it. NULL:
     * all are let in. A refused one is handed its first request, without a body, so that it can be told why
     * (conn_refusal); the answer closes it. When too many are being told, it is closed without a word. */
    uint8_t (*on_open)(void *context, struct conn *c);
    /* The head of a request is there, its body is not. False: the head alone will have it refused. Then a body that is
     * more than a little is not kept: on_request gets the request without it, and the answer closes the connection.
     * NULL: all bodies are taken. */
    bool (*on_head)(void *context, struct conn *c, const struct http_request *request);
    /* A ping frame, which is about to be answered by a pong unless the connection is closed meanwhile. May be NULL. */
    void (*on_ping)(void *context, struct conn *c);
};

#define CONN_REFUSAL_MAX 7u
#define CONN_REFUSED_FULL CONN_REFUSAL_MAX /* net's own: as many connections as there may be */

#define NET_PADDING 64u /* bytes readable behind a message: simdjson reads past the end */

/* Whether large shared frames are sent from where they lie, where the kernel can: see zero_copy.h. */
enum net_zero_copy {
    NET_ZERO_COPY_OFF,
    NET_ZERO_COPY_AUTO, /* until the kernel says that it had to copy a connection's */
    NET_ZERO_COPY_ON,   /* always: what it costs where it does not pay can be measured */
};

struct net_limits {
    unsigned connections_max;      /* this core's, with those below */
    unsigned refused_max; /* of them, places for connections that are being refused; 0: who is too many waits in
                           * the backlog */
    unsigned lingering_max;        /* of them, places for connections that have ended and wait for the peer to; one that
                                    * finds none is closed at once. 0: they keep the places that they had */
    _Atomic uint32_t *open_shared; /* connections let in by all who share this count; NULL: nobody does */
    uint32_t open_shared_max;
    struct http_limits http;
    size_t ws_message_bytes_max;   /* an inbound message */
    size_t send_queue_bytes_max;   /* queued durable bytes before a reader counts as too slow */
    enum net_zero_copy zero_copy;
    size_t zero_copy_bytes_min;    /* from what length on; 0: ZERO_COPY_BYTES_MIN */
    int64_t zero_copy_account_max; /* … and to which level of the frame's account; 0: a part of FRAMES_BYTES_MAX */
    unsigned requests_in_flight_max; /* commands a connection may have open before it is not read from */
    size_t assembly_bytes_max;     /* bodies and messages under assembly on this core; 0: ASSEMBLY_BYTES_MAX */
    uint64_t header_timeout_ns, body_timeout_ns, idle_timeout_ns, ping_interval_ns, close_timeout_ns, stall_timeout_ns;
};

struct net_listener {
    int fd;           /* a listening socket, plain descriptor */
    uint8_t trusted;  /* 1: the admin Unix socket; conn_is_admin is true for its connections */
};

/* net_open makes the ring and pools. `why` says what failed, for people. */
MUST_USE enum status net_open(struct net **out, const struct net_handlers *handlers, const struct net_limits *limits,
                              const struct clock *clock, struct park *park, unsigned core, char *why, size_t why_len);
/* net_start is called once by the owning thread: enables the ring, arms accepts. */
MUST_USE enum status net_start(struct net *n, const struct net_listener *listeners, unsigned num_listeners);
/* net_close frees everything; connections must be gone (net_connections is 0) or the process is ending. */
void net_close(struct net *n);

/* net_poll handles the completions that are there; returns how many. */
unsigned net_poll(struct net *n);
/* net_flush makes one send for every dirty connection. They enter the kernel with the next net_wait or net_poll, so
 * that a turn costs one system call; call one of them right after. */
void net_flush(struct net *n);
/* net_wait blocks until a completion, a wake-up of the park, a timer or `until_ns` (mono). The caller has done
 * park_prepare and looked for work once more. Returns at once when there is something left to send or to resume. */
void net_wait(struct net *n, uint64_t until_ns);
/* net_timers runs due timers (deadlines, pings). */
void net_timers(struct net *n);
uint64_t net_now_ns(const struct net *n);   /* cached at net_poll and net_timers */
unsigned net_connections(const struct net *n);
/* net_stop_accepting cancels the accepts (drain). */
void net_stop_accepting(struct net *n);

struct conn_ref net_ref(const struct conn *c);
/* net_conn returns the connection, or NULL when it is gone or closing. */
struct conn *net_conn(struct net *n, struct conn_ref ref);
/* net_answering counts HTTP answers that are on their way: not given yet, or not yet taken by the client, which may
 * also have its end of the connection to read. */
unsigned net_answering(const struct net *n);
/* net_each walks all open connections: start with *at = 0, or the slot to go on from; NULL at the end. */
struct conn *net_each(struct net *n, uint32_t *at);

/* net_prefetch asks for the memory that a net_send to the connection will touch. */
static inline void net_prefetch(const struct conn *c)
{
    __builtin_prefetch(c, 1);
    __builtin_prefetch((const char *)c + 64, 1);
}

void conn_set_user(struct conn *c, void *user);
void *conn_user(const struct conn *c);
bool conn_is_admin(const struct conn *c);
bool conn_is_websocket(const struct conn *c);
/* conn_peer writes the peer's address as text ("192.0.2.1" or "2001:db8::1", "unix" for the admin socket). */
void conn_peer(const struct conn *c, char out[46]);
/* conn_peer_bytes is the same address as an IPv6 one, IPv4 in ::ffff:0:0/96; false for the admin socket. */
bool conn_peer_bytes(const struct conn *c, uint8_t out[16]);
/* conn_refusal is what on_open said of the connection, 0 when it was let in. */
uint8_t conn_refusal(const struct conn *c);
/* conn_exempt: a mark of the caller's own, false at first. */
void conn_set_exempt(struct conn *c);
bool conn_exempt(const struct conn *c);
/* net_account: bytes of answers (CONN_REPLY) that wait in the queues of the connections charged to it, and of bodies
 * and messages that are being put together for them. Its owner keeps it until the last of them is gone.
 *
 * Of assembly_bytes_max an account may hold as much as is free, and never more than its own bound. So whoever holds
 * much is refused first, and whoever holds little is served. */
struct net_account {
    size_t bytes;
    size_t assembly, assembly_max; /* assembly_max 0: no bound of its own */
};
/* conn_charge moves what waits, and what will, to another account; NULL: to none. */
void conn_charge(struct conn *c, struct net_account *account);
/* conn_charged is the account that it is charged to. */
const struct net_account *conn_charged(const struct conn *c);
/* conn_note: what the caller wants to remember of the connection's open HTTP request until it answers; zeroed when the
 * request is handed up. Not for a WebSocket. */
struct conn_note {
    uint32_t limit, remaining, reset_s;
    uint16_t origin; /* its place in cors.origins, counted from 1; 0: none */
};
struct conn_note *conn_note(struct conn *c);

/* Why a connection came to its end: the first reason counts. */
enum conn_cause {
    CONN_CAUSE_PEER,       /* the other side ended it, or reset it */
    CONN_CAUSE_DONE,       /* an answer after which it was to be closed */
    CONN_CAUSE_REFUSED,    /* it did not keep to HTTP or RFC 6455 */
    CONN_CAUSE_TIMEOUT,    /* silent, or slow with a request */
    CONN_CAUSE_SLOW,       /* it took nothing for too long, or let its replies pile up */
    CONN_CAUSE_OVERLOADED, /* the core was short of memory */
    CONN_CAUSE_SERVER,     /* the gateway closed it: it stops, the key was revoked … */
    CONN_CAUSES
};
const char *conn_cause_name(enum conn_cause cause);

/* conn_end: what is known of a connection when it is gone (on_closed). */
struct conn_end {
    enum conn_cause cause;
    uint16_t close_code; /* of a WebSocket: as sent or received first; 1006 for none (RFC 6455 section 7.1.5) */
    uint32_t messages_in, frames_out;
};
void conn_ended(const struct conn *c, struct conn_end *out);
/* Close codes are counted by number: 1000 to 1015 and the gateway's own; others share the last place. */
#define NET_CLOSE_CODES 24u
/* net_close_code_name is the number as text, "other" for the last place. */
const char *net_close_code_name(unsigned place);
/* conn_open_ms: how long the connection is there, in steps of TIMER_TICK_MS. */
uint64_t conn_open_ms(const struct net *n, const struct conn *c);
/* conn_idle_ms: how long the peer has sent nothing, in steps of TIMER_TICK_MS. */
uint64_t conn_idle_ms(const struct net *n, const struct conn *c);
/* conn_in_request: an HTTP request waits for its answer, or WebSocket requests do. */
bool conn_in_request(const struct conn *c);

/* --- HTTP answers ---------------------------------------------------------------------------------------- */

struct http_reply {
    unsigned status;
    const char *content_type; /* NULL: no body */
    struct slice headers;     /* extra complete lines, each ending in CRLF */
    struct slice body;
    bool close;               /* close the connection after it */
};
/* net_http_reply answers the connection's open request. HEAD gets the head alone. Date, Content-Length and Connection
 * are written here; 1xx, 204 and 304 get no body. Nothing happens on a connection that is closing. */
void net_http_reply(struct net *n, struct conn *c, const struct http_reply *reply);

/* net_ws_accept answers an upgrade request with 101 and makes the connection a WebSocket. `accept_key` is the computed
 * Sec-WebSocket-Accept, `subprotocol` may be empty, and so may `headers`, complete lines. `message_bytes_max` 0 keeps
 * the default. */
void net_ws_accept(struct net *n, struct conn *c, struct slice accept_key, struct slice subprotocol,
                   struct slice headers, size_t message_bytes_max);

/* --- WebSocket down -------------------------------------------------------------------------------------- */

/* net_send appends a reference to a shared frame to the connection's queue. STATUS_FULL: the class's bound is
 * reached and nothing was queued; the caller decides (drop an ephemeral, close 4200 or catch up for a durable push;
 * on_drain follows). STATUS_NOT_FOUND: the connection is closing, and nothing that is sent now can arrive. Bounds:
 * durable and ephemeral bytes together send_queue_bytes_max, ephemerals EPHEMERAL_QUEUE_BYTES_MAX and dropped first,
 * replies REPLY_QUEUE_BYTES_MAX; an empty class takes one frame of any length, and so do replies below
 * REPLY_PAUSE_BYTES. */
MUST_USE enum status net_send(struct net *n, struct conn *c, struct frame *f, enum conn_class class);
/* net_reply_text queues one private text message (CONN_REPLY), at most UINT32_MAX bytes. A connection that lets
 * REPLY_QUEUE_BYTES_MAX of them pile up is closed. Nothing happens on a connection that is closing. */
void net_reply_text(struct net *n, struct conn *c, struct slice text);
void net_reply_binary(struct net *n, struct conn *c, struct slice data);
/* net_limit_queues changes send_queue_bytes_max from now on; what is queued beyond a lower bound stays queued. */
void net_limit_queues(struct net *n, size_t bytes);
/* net_queued returns the bytes that wait in the connection's queue. */
size_t net_queued(const struct conn *c);
/* net_reply_bytes counts the answers that wait in all queues of this core. */
size_t net_reply_bytes(const struct net *n);
/* net_want_drain asks for one on_drain when the queue is empty; at once it comes with the next net_poll. */
void net_want_drain(struct net *n, struct conn *c);

/* net_is_about_to_hear: what the peer has said is received in the next turn; timers wait for that. */
bool net_is_about_to_hear(const struct net *n, const struct conn *c);

/* net_request_begin and _end count commands in flight; at the bound the connection is not read from. An end after the
 * connection began to close is allowed and does nothing more than count. */
void net_request_begin(struct net *n, struct conn *c);
void net_request_end(struct net *n, struct conn *c);

/* net_ws_close sends a close frame behind what is queued and closes; from then on net_conn does not return the
 * connection. Queued pushes, and pages of a replay with them, are dropped when `drop_queued`. `reason` has at most 123
 * bytes (RFC 6455 section 5.5). Nothing happens on a connection that is closing. */
void net_ws_close(struct net *n, struct conn *c, uint16_t code, const char *reason, bool drop_queued);
/* net_ws_dismiss closes like net_ws_close with the pushes dropped, but waits no longer than the close timeout for a
 * peer that takes nothing. */
void net_ws_dismiss(struct net *n, struct conn *c, uint16_t code, const char *reason);
/* net_abort closes without a word. */
void net_abort(struct net *n, struct conn *c);

/* What became of a send without a copy, counted when its last completion has come. */
enum net_zero_copy_result {
    NET_ZERO_COPY_SENT,   /* whole, and not copied */
    NET_ZERO_COPY_COPIED, /* some of it or all, and the kernel had to copy it */
    NET_ZERO_COPY_SHORT,  /* not copied, and the socket took only a part or nothing */
    NET_ZERO_COPY_FAILED, /* an error; when it was for want of memory an ordinary send followed */
    NET_ZERO_COPY_RESULTS
};
const char *net_zero_copy_result_name(enum net_zero_copy_result result);

struct net_stats {
    uint64_t accepted, closed, http_requests, ws_messages_in, bytes_in, bytes_out, sends, short_sends, frames_out,
        slow_closed, accept_errors, recv_enobufs, protocol_errors, timeouts, refused,
        ephemerals_dropped;
    uint64_t zero_copy[NET_ZERO_COPY_RESULTS];
    uint64_t closed_by[CONN_CAUSES], websockets_opened, ws_closed_by[NET_CLOSE_CODES];
    uint64_t connections, websockets, queued_bytes, queue_nodes, assembly_bytes, slot_bytes;
};
const struct net_stats *net_stats(const struct net *n);
const struct ring_stats *net_ring_stats(const struct net *n);

#endif
