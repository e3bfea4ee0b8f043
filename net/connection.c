#include "connection.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "../src/base/planted.h"
#include "../src/base/probe.h"

static void conn_set_peer(struct conn *c, const struct sockaddr_storage *peer);
static uint8_t conn_admit(struct net *n, struct conn *c);
static void conn_open_refused(struct net *n, struct conn *c);
static void conn_linger(struct net *n, struct conn *c);
static void conn_bound_unsent(struct net *n, struct conn *c);

/* --- states ------------------------------------------------------------------------------------------------- */

static bool move_is_legal(enum conn_state from, enum conn_state to)
{
    switch (from) {
    case CONN_FREE: return to == CONN_HTTP;
    case CONN_HTTP: return to == CONN_REQUEST || to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_REQUEST: return to == CONN_HTTP || to == CONN_WEBSOCKET || to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_WEBSOCKET: return to == CONN_WS_CLOSING || to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_WS_CLOSING: return to == CONN_ENDING || to == CONN_CLOSING;
    case CONN_ENDING: return to == CONN_CLOSING;
    case CONN_CLOSING: return to == CONN_RELEASING;
    case CONN_RELEASING: return to == CONN_FREE;
    }
    return false;
}

void conn_set_state(struct conn *c, enum conn_state next)
{
    ASSERT(move_is_legal((enum conn_state)c->state, next));
    c->state = (uint8_t)next;
}

void conn_open(struct net *n, struct conn *c, uint32_t ring_fd, const struct sockaddr_storage *peer, bool admin)
{
    conn_set_state(c, CONN_HTTP);
    c->ring_fd = ring_fd;
    c->admin = admin;
    c->timer.owners = c->heard_tick = n->now_tick;
    c->deadline_tick = TIMER_NEVER;
    c->readable = true; /* a TCP connection is accepted with its first bytes (listener.c) */
    conn_set_peer(c, peer);
    zero_copy_accept(n, c);
    n->stats.accepted++;
    probe_accept(n->core, c->slot);
    c->refusal = admin ? 0 : conn_admit(n, c);
    if (UNLIKELY(c->refusal)) {
        conn_open_refused(n, c);
        return;
    }
    conn_set_deadline(n, c, n->ticks.header);
    conn_read_on(n, c);
}

/* A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2); they are kept and named as what
 * they are, so that one address has one name. */
static const uint8_t mapped_ipv4[12] = {[10] = 0xff, [11] = 0xff};

static void conn_set_peer(struct conn *c, const struct sockaddr_storage *peer)
{
    const uint8_t *ipv6 = ((const struct sockaddr_in6 *)peer)->sin6_addr.s6_addr;
    bool mapped = peer->ss_family == AF_INET6 && memcmp(ipv6, mapped_ipv4, sizeof mapped_ipv4) == 0;
    c->peer_family = mapped ? AF_INET : peer->ss_family & 0xf;
    if (mapped) {
        memcpy(c->peer.ipv4, ipv6 + sizeof mapped_ipv4, 4);
    } else if (peer->ss_family == AF_INET) {
        memcpy(c->peer.ipv4, &((const struct sockaddr_in *)peer)->sin_addr, 4);
    } else if (peer->ss_family == AF_INET6) {
        c->peer.ipv6 = malloc(16);
        ASSERT(c->peer.ipv6 != NULL);
        memcpy(c->peer.ipv6, ipv6, 16);
    }
}

/* conn_blame notes why the connection ends; what follows from that is no reason of its own. */
void conn_blame(struct conn *c, enum conn_cause cause)
{
    if (!c->cause) c->cause = (uint8_t)(cause + 1);
}

/* conn_admit counts the connection among those that are let in, or says why it is not. */
static uint8_t conn_admit(struct net *n, struct conn *c)
{
    const struct net_limits *l = &n->limits;
    uint32_t places = l->connections_max - l->refused_max - l->lingering_max;
    if (l->refused_max && n->open - n->refusing - n->lingering > places) return CONN_REFUSED_FULL;
    if (l->open_shared) {
        uint32_t before = atomic_fetch_add_explicit(l->open_shared, 1, memory_order_relaxed);
        c->counted = true;
        if (before >= l->open_shared_max) return CONN_REFUSED_FULL;
    }
    return n->handlers.on_open ? n->handlers.on_open(n->handlers.context, c) : 0;
}

static void conn_uncount(struct net *n, struct conn *c)
{
    if (c->counted) atomic_fetch_sub_explicit(n->limits.open_shared, 1, memory_order_relaxed);
    c->counted = false;
}

/* conn_open_refused reads one request, so that its answer can say why, but for a short time only, and not for
 * everybody: half of the places are for those who are already on their way out. */
static void conn_open_refused(struct net *n, struct conn *c)
{
    conn_uncount(n, c);
    n->refusing++;
    n->stats.refused++;
    conn_set_deadline(n, c, n->ticks.close);
    if (n->refusing > n->limits.refused_max / 2) conn_terminate(n, c);
    else conn_read_on(n, c);
}

/* --- deadlines ---------------------------------------------------------------------------------------------- */

static uint32_t earlier(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}
static uint32_t later(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* One tick more than asked for: the current one has partly passed, and a deadline is never early. */
static uint32_t tick_after(uint32_t tick, uint32_t ticks)
{
    return tick + ticks + 1;
}

static uint32_t ping_due(const struct net *n, const struct conn *c)
{
    return tick_after(later(c->heard_tick, c->pinged_tick), n->ticks.ping);
}

static uint32_t conn_deadline(const struct conn *c)
{
    return c->state == CONN_WEBSOCKET ? TIMER_NEVER : c->deadline_tick;
}

static uint32_t conn_due(const struct net *n, const struct conn *c)
{
    uint32_t due = conn_deadline(c);
    if (c->stalled_tick) due = earlier(due, tick_after(c->stalled_tick, n->ticks.stall));
    if (c->state != CONN_WEBSOCKET) return due;
    return earlier(due, earlier(ping_due(n, c), tick_after(c->heard_tick, n->ticks.idle)));
}

/* conn_arm_timer moves the timer only when it would fire too late: one that fires early finds nothing due and is set
 * anew, so hearing from a peer costs no timer operation. */
void conn_arm_timer(struct net *n, struct conn *c)
{
    uint32_t due = conn_due(n, c);
    if (due == TIMER_NEVER || (timer_armed(&c->timer) && timer_due(&c->timer) <= due)) return;
    timer_arm(&n->timers, &c->timer, due);
}

void conn_set_deadline(struct net *n, struct conn *c, uint32_t ticks)
{
    ASSERT(c->state != CONN_WEBSOCKET);
    c->deadline_tick = tick_after(n->now_tick, ticks);
    conn_arm_timer(n, c);
}

void conn_stalled(struct net *n, struct conn *c)
{
    n->stats.slow_closed++;
    conn_blame(c, CONN_CAUSE_SLOW);
    if (c->state == CONN_WEBSOCKET) {
        c->stalled_tick = 0; /* the close frame gets its own, short time */
        conn_ws_close(n, c, CLOSE_TOO_SLOW, "too slow", true, n->ticks.close);
    } else {
        conn_terminate(n, c);
    }
}

static void websocket_expire(struct net *n, struct conn *c)
{
    /* A peer that is not read from cannot show that it lives. */
    if (!conn_takes_input(n, c)) c->heard_tick = n->now_tick;
    /* Nor can one that is asked late, after a pause of the whole process: no more counts than if it had been asked in
     * time. */
    bool asked = c->pinged_tick > c->heard_tick || n->ticks.ping >= n->ticks.idle;
    if (!asked) c->heard_tick = later(c->heard_tick, n->now_tick - earlier(n->now_tick, n->ticks.ping + 1));
    if (n->now_tick >= tick_after(c->heard_tick, n->ticks.idle)) {
        n->stats.timeouts++;
        conn_blame(c, CONN_CAUSE_TIMEOUT);
        conn_ws_close(n, c, CLOSE_GOING_AWAY, "idle", true, n->ticks.close);
    } else if (n->now_tick >= ping_due(n, c)) {
        c->pinged_tick = n->now_tick;
        conn_ws_push(n, c, WS_OP_PING, (struct slice){0});
    }
}

/* conn_cancel cancels what is armed; each still completes on its own. */
static void conn_cancel(struct net *n, struct conn *c)
{
    if (c->wait != WAIT_NONE) {
        conn_op_begin(c);
        ring_cancel_tag(n->ring, conn_wait_tag(c), conn_tag(c, RING_OP_CANCEL));
    }
    if (c->blocked) {
        conn_op_begin(c);
        ring_cancel_tag(n->ring, conn_tag(c, RING_OP_POLL_OUT), conn_tag(c, RING_OP_CANCEL));
    }
}

void net_limit_queues(struct net *n, size_t bytes) { n->limits.send_queue_bytes_max = bytes; }

/* conn_is_read: an HTTP answer is still being taken by the peer, however slowly; stalled_tick watches that it is. */
static bool conn_is_read(const struct conn *c)
{
    return !send_queue_empty(&c->queue) && (c->state == CONN_ENDING || (c->state == CONN_HTTP && !c->partial));
}

/* net_is_about_to_hear: something is there to read, and will have been looked at when the next tick comes. After a
 * pause of the whole process all timers are due, and so are all peers heard. Who says little at a time again and again
 * does not put its deadline off by that: it has a receive armed soon. */
bool net_is_about_to_hear(const struct net *n, const struct conn *c)
{
    return c->wait == WAIT_ONCE && n->now_tick - c->heard_tick <= 1;
}

void conn_expire(struct net *n, struct conn *c)
{
    if (c->state == CONN_CLOSING) {
        conn_cancel(n, c); /* in case the first attempt came while the operation was between two of its turns */
        conn_set_deadline(n, c, n->ticks.close);
        return;
    }
    ASSERT(c->state != CONN_FREE && c->state != CONN_RELEASING);
    if (net_is_about_to_hear(n, c)) {
        conn_arm_timer(n, c);
        return;
    }
    /* One that is not blocked any more was told of room, and its send will have been tried when the next tick comes. */
    if (c->blocked && c->stalled_tick && n->now_tick >= tick_after(c->stalled_tick, n->ticks.stall)) {
        conn_stalled(n, c);
    } else if (n->now_tick >= conn_deadline(c) && conn_is_read(c)) {
        conn_set_deadline(n, c, n->ticks.idle); /* an answer on its way: whether it makes progress is what counts */
    } else if (n->now_tick >= conn_deadline(c)) {
        if (c->state != CONN_HTTP || c->partial) n->stats.timeouts++;
        conn_blame(c, CONN_CAUSE_TIMEOUT);
        conn_terminate(n, c);
    } else if (c->state == CONN_WEBSOCKET) {
        websocket_expire(n, c);
    }
    if (c->state < CONN_RELEASING) conn_arm_timer(n, c);
    /* Silent or not, each comes by here once a ping interval, or idle timeout for HTTP (conn_arm_timer). */
    if (UNLIKELY(ring_keeps_closed(n->ring)) && c->state < CONN_ENDING) conn_end_wait(n, c);
    conn_cool(n, c);
}

/* --- the end ------------------------------------------------------------------------------------------------ */

/* conn_end takes nothing up any more, flushes, ends this direction, and closes once the peer is done as well: closing
 * with bytes unread makes the kernel reset the connection, which may take the last answer or close frame from a peer
 * that was still sending (RFC 9112 section 9.6, RFC 6455 section 7.1.1). */
void conn_end(struct net *n, struct conn *c)
{
    if (c->state >= CONN_ENDING) return;
    conn_set_state(c, CONN_ENDING);
    c->discarded_bytes = 0;
    conn_set_deadline(n, c, n->ticks.stall + n->ticks.close);
    if (send_queue_empty(&c->queue) && !c->sending)
        conn_flushed(n, c);
    else if (!c->consuming)
        net_resume(n, c); /* gives back what is held */
}

void conn_terminate(struct net *n, struct conn *c)
{
    if (c->state >= CONN_CLOSING) return;
    conn_set_state(c, CONN_CLOSING);
    c->stalled_tick = 0;
    conn_set_deadline(n, c, n->ticks.close);
    if (!c->sending) conn_queue_clear(n, c);
    conn_cancel(n, c);
    conn_bound_unsent(n, c);
    conn_join(n, c);
}

/* conn_flushed: the queue has run empty, or a state in which that matters has begun with an empty one. */
void conn_flushed(struct net *n, struct conn *c)
{
    if (c->state == CONN_WS_CLOSING) conn_set_deadline(n, c, n->ticks.close);
    if (c->state != CONN_ENDING) return;
    if (c->peer_done || (!c->shut && !conn_should_linger(n, c))) conn_terminate(n, c);
    else if (!c->shut) conn_linger(n, c);
}

/* conn_should_linger: closing resets the connection under its last answer when anything is there, or comes, that was
 * not read. Nothing does from a peer that said so, by HTTP or by its close frame, and has kept to it. Beyond the bound
 * of those who linger it is risked. */
bool conn_should_linger(const struct net *n, const struct conn *c)
{
    bool something_came = c->discarded_bytes > 0 || (c->input && c->input->bytes.len > c->input->at);
    if (c->said_last && !something_came) return false;
    return c->refusal || !n->limits.lingering_max || n->lingering < n->limits.lingering_max;
}

/* conn_linger ends this direction and waits for the peer's end. Nobody is served any more: the place is another's. */
static void conn_linger(struct net *n, struct conn *c)
{
    c->shut = true;
    if (conn_lingers(n, c)) {
        conn_uncount(n, c);
        n->lingering++;
    }
    conn_op_begin(c);
    ring_shutdown_out(n->ring, c->ring_fd, conn_tag(c, RING_OP_SHUTDOWN));
    conn_set_deadline(n, c, n->ticks.close);
}

bool conn_lingers(const struct net *n, const struct conn *c)
{
    return c->shut && !c->refusal && n->limits.lingering_max;
}

/* conn_bound_unsent: what was sent stays in the kernel behind the close until the peer has taken it. One who asks for
 * much, takes nothing and answers probes would pin it there for ever (tcp(7)). Not while the connection is open: who
 * takes nothing is told so then (conn_stalled), and who is silent has the idle timeout. */
static void conn_bound_unsent(struct net *n, struct conn *c)
{
    if (c->peer_family == AF_UNIX) return;
    conn_op_begin(c);
    ring_bound_unsent(n->ring, c->ring_fd, conn_tag(c, RING_OP_BOUND));
}

void conn_join(struct net *n, struct conn *c)
{
    if (c->state != CONN_CLOSING || (c->ops > 0 && !PLANTED(closed_early))) return;
    conn_set_state(c, CONN_RELEASING);
    timer_cancel(&n->timers, &c->timer);
    conn_op_begin(c);
    ring_close(n->ring, c->ring_fd, conn_tag(c, RING_OP_CLOSE));
}

/* The codes that are counted one by one: those of RFC 6455 section 7.4.1 and of IANA's registry, then the gateway's own
 * (docs/PROTOCOL.md). A client may send any number, and each would be another series. */
static const uint16_t own_codes[NET_CLOSE_CODES - 17] = {4001, 4003, 4004, 4008, CLOSE_OVERLOADED, 4129,
                                                                CLOSE_TOO_SLOW};

static unsigned close_code_place(uint16_t code)
{
    if (code >= 1000 && code <= 1015) return code - 1000u;
    for (unsigned i = 0; i < NET_CLOSE_CODES - 17; i++)
        if (code == own_codes[i]) return 16 + i;
    return NET_CLOSE_CODES - 1;
}

const char *net_close_code_name(unsigned place)
{
    static const char *const names[NET_CLOSE_CODES] = {
        "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010",
        "1011", "1012", "1013", "1014", "1015", "4001", "4003", "4004", "4008", "4100", "4129", "4200", "other"};
    ASSERT(place < NET_CLOSE_CODES);
    return names[place];
}

static void conn_on_close(struct net *n, struct conn *c)
{
    ASSERT(c->state == CONN_RELEASING && c->ops == 0);
    if (c->user) n->handlers.on_closed(n->handlers.context, c);
    conn_uncount(n, c);
    if (c->refusal) n->refusing--;
    if (conn_lingers(n, c)) n->lingering--;
    conn_discard(n, c);
    n->stats.closed++;
    struct conn_end end;
    conn_ended(c, &end);
    n->stats.closed_by[end.cause]++;
    if (c->websocket) n->stats.ws_closed_by[close_code_place(end.close_code)]++;
    conn_set_state(c, CONN_FREE);
    net_slot_free(n, c);
}

void conn_discard(struct net *n, struct conn *c)
{
    conn_queue_clear(n, c);
    conn_input_discard(n, c);
    if (c->websocket) n->stats.websockets--;
    n->assembly_bytes -= c->assembly_bytes;
    if (c->account) c->account->assembly -= c->assembly_bytes;
    if (c->peer_family == AF_INET6) free(c->peer.ipv6);
    timer_cancel(&n->timers, &c->timer);
}

void conn_complete(struct net *n, struct conn *c, const struct ring_completion *done)
{
    ASSERT(tag_generation(done->tag) == c->generation && c->state != CONN_FREE);
    switch (tag_op(done->tag)) {
    case RING_OP_RECV: conn_on_recv(n, c, done); return;
    case RING_OP_POLL_IN: conn_on_poll_in(n, c, done->result); return;
    case RING_OP_SEND: conn_on_send(n, c, done->result); return;
    case RING_OP_POLL_OUT:
        conn_op_end(c);
        conn_on_poll_out(n, c);
        return;
    case RING_OP_CANCEL:
        if (done->result < 0)
            c->resting = false; /* it met what waits between two turns: the next occasion tries again */
        conn_op_end(c);
        conn_join(n, c);
        return;
    case RING_OP_BOUND:
    case RING_OP_SHUTDOWN: /* a socket that the peer has reset cannot be shut down; its receive tells so too */
        conn_op_end(c);
        conn_join(n, c);
        return;
    case RING_OP_CLOSE:
        conn_op_end(c);
        conn_on_close(n, c);
        return;
    case RING_OP_NONE:
    case RING_OP_ACCEPT:
    case RING_OP_SEND_ZC: /* zero_copy_complete has them */
    case RING_OP_WAKE: break;
    }
    UNREACHABLE();
}

/* --- what callers may know ---------------------------------------------------------------------------------- */

struct conn_ref net_ref(const struct conn *c)
{
    return (struct conn_ref){c->slot, c->generation};
}
void conn_set_user(struct conn *c, void *user)
{
    c->user = user;
}
void *conn_user(const struct conn *c)
{
    return c->user;
}
bool conn_is_admin(const struct conn *c)
{
    return c->admin;
}
bool conn_is_websocket(const struct conn *c)
{
    return c->websocket;
}
void conn_ended(const struct conn *c, struct conn_end *out)
{
    out->cause = c->cause ? (enum conn_cause)(c->cause - 1) : CONN_CAUSE_PEER;
    out->close_code = c->close_code ? c->close_code : 1006;
    out->messages_in = c->messages_in;
    out->frames_out = c->frames_out;
}
const char *conn_cause_name(enum conn_cause cause)
{
    static const char *const names[CONN_CAUSES] = {"peer", "done",       "refused", "timeout",
                                                   "slow", "overloaded", "server"};
    ASSERT(cause < CONN_CAUSES);
    return names[cause];
}
void conn_charge(struct conn *c, struct net_account *account)
{
    if (c->account == account) return;
    size_t replies = conn_reply_bytes(c);
    if (c->account) {
        c->account->bytes -= replies;
        c->account->assembly -= c->assembly_bytes;
    }
    if (account) {
        account->bytes += replies;
        account->assembly += c->assembly_bytes;
    }
    c->account = account;
}
const struct net_account *conn_charged(const struct conn *c)
{
    return c->account;
}
size_t net_reply_bytes(const struct net *n)
{
    return n->reply_bytes;
}
uint8_t conn_refusal(const struct conn *c)
{
    return c->refusal;
}
void conn_set_exempt(struct conn *c)
{
    c->exempt = true;
}
bool conn_exempt(const struct conn *c)
{
    return c->exempt;
}
struct conn_note *conn_note(struct conn *c)
{
    ASSERT(!c->websocket);
    return &c->note;
}

uint64_t conn_open_ms(const struct net *n, const struct conn *c)
{
    return (uint64_t)(n->now_tick - conn_opened_tick(c)) * TIMER_TICK_MS;
}

uint64_t conn_idle_ms(const struct net *n, const struct conn *c)
{
    return (uint64_t)(n->now_tick - c->heard_tick) * TIMER_TICK_MS;
}

bool conn_answering(const struct conn *c)
{
    if (c->websocket) return false;
    return c->state == CONN_REQUEST || c->state == CONN_ENDING ||
           (c->state == CONN_HTTP && !send_queue_empty(&c->queue));
}

bool conn_in_request(const struct conn *c) { return c->state == CONN_REQUEST || c->requests > 0; }

size_t net_queued(const struct conn *c)
{
    return send_queue_bytes(&c->queue);
}

void conn_peer(const struct conn *c, char out[46])
{
    uint8_t address[16];
    const char *text = NULL;
    if (!conn_peer_bytes(c, address)) text = memcpy(out, "unix", 5);
    else if (memcmp(address, mapped_ipv4, sizeof mapped_ipv4) == 0) text = inet_ntop(AF_INET, address + 12, out, 46);
    else text = inet_ntop(AF_INET6, address, out, 46);
    ASSERT(text);
}

bool conn_peer_bytes(const struct conn *c, uint8_t out[16])
{
    bool v4 = c->peer_family == AF_INET, v6 = c->peer_family == AF_INET6;
    memcpy(out, mapped_ipv4, sizeof mapped_ipv4);
    if (v4) memcpy(out + sizeof mapped_ipv4, c->peer.ipv4, 4);
    if (v6) memcpy(out, c->peer.ipv6, 16);
    return v4 || v6;
}
