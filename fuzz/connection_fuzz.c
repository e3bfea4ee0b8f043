/* connection_fuzz: the connections of one core, from accept to the last completion, over the simulator's ring
 * (tests/sim/fake_ring.h). The input decides everything: what clients send, read and break off, which operation of
 * which connection completes next and how, when time passes, what the handlers answer, push and close.
 *
 * Held: what ring.h says of operations (the fake ring checks it), what bounds.h says of connections after each step,
 * one on_closed for each user, and, once the input has ended and the clients are gone, that every connection is closed
 * within its timeouts and everything is freed.
 *
 * Input: 15 bytes choose faults, bounds and handlers; then steps, one byte that says which and those that it asks for.
 * Zeroes are an ordinary day. */
#include <stdio.h>
#include <stdlib.h>

#include "../net/connection.h"
#include "../src/base/assert.h"
#include "../src/base/buf.h"
#include "../src/base/log.h"
#include "../src/base/park.h"
#include "../tests/sim/bounds.h"
#include "../tests/sim/counts.h"
#include "../tests/sim/fake_ring.h"
#include "../tests/sim/store_watch.h"
#include "../tests/sim/world.h"

#define CLIENTS_MAX 3u
#define CONNECTIONS_MAX 4u /* one fewer is let in: the last place is for refusals */
#define FINISH_ROUNDS_MAX 400u
#define ROUND_NS 1000000000u /* of simulated time; the longest timeout has 34 of them */

/* machine: one run. */
static struct machine {
    struct slice input;
    uint64_t finish_draw; /* decides when the input has ended */
    uint64_t now_ns;
    struct net *net;
    struct park park;
    struct link *clients[CLIENTS_MAX];
    struct conn_ref asked[8], sockets[8]; /* requests to be answered, WebSockets; the last ones */
    unsigned num_asked, num_sockets;
    unsigned num_users, num_closed;
    struct net_account account;
    unsigned char padding;
} m;

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);
static void machine_open(void);
static void step(void);
static void finish(void);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    atomic_store(&log_level_now, (int)LOG_ERROR + 1);
    m = (struct machine){.input = slice_of(input, len), .finish_draw = 1, .now_ns = 1000000000u};
    machine_open();
    while (m.input.len) {
        step();
        bounds_check_net(m.net);
        links_sweep();
    }
    finish();
    return 0;
}

/* --- the world behind the fake ring: decisions are the input's ------------------------------------------------- */

static uint8_t next_byte(void)
{
    if (m.input.len == 0) {
        m.finish_draw = m.finish_draw * 6364136223846793005u + 1442695040888963407u;
        return (uint8_t)(m.finish_draw >> 56);
    }
    uint8_t byte = (uint8_t)m.input.data[0];
    m.input = slice_from(m.input, 1);
    return byte;
}

uint64_t world_below(uint64_t bound)
{
    ASSERT(bound > 0);
    uint64_t v = bound > 1 ? next_byte() : 0;
    if (bound > 256) v = v << 8 | next_byte();
    if (bound > 65536) v = v << 16 | (uint64_t)next_byte() << 8 | next_byte();
    return v % bound;
}

uint64_t world_now_ns(void) { return m.now_ns; }
void world_trace(const char *format, ...) {}
void world_note(uint64_t a, uint64_t b) {}
uint64_t store_version(void) { return 1; }
/* A wait returns at once: the input says what comes next. */
void actor_sleep_on_ring(struct ring *ring, uint64_t timeout_ns) {}

noreturn void world_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

static uint64_t clock_mono(void *context) { return m.now_ns; }
static uint64_t clock_wall(void *context) { return 1767225600000ull + m.now_ns / 1000000; }
static const struct clock fuzz_clock = {NULL, clock_mono, clock_wall};

static void park_signalled(struct park *park) { ring_signal_watch(park, 0); }
static void park_blocked(struct park *park, uint64_t timeout_ns) {}
static const struct park_ops park_ops = {park_signalled, park_blocked};

/* --- the handlers: what a core does, as the input likes it -------------------------------------------------------- */

static void push(struct conn *c, enum conn_class class)
{
    uint32_t len = 2 + (uint32_t)world_below(120);
    if (world_chance(8)) len *= 160; /* two of them are more than is copied into one send */
    struct frame *f = frame_new(1, len);
    memset(frame_data(f), 'x', len);
    frame_ref(f, 0); /* one's own, so that a refused push does not leak it */
    enum status s = net_send(m.net, c, f, class);
    ASSERT(s == STATUS_OK || s == STATUS_FULL || s == STATUS_NOT_FOUND);
    frame_unref(f, 0);
}

static void answer(struct conn *c)
{
    static const unsigned statuses[] = {200, 201, 204, 304, 404, 503};
    char body[600];
    memset(body, 'b', sizeof body);
    struct http_reply reply = {.status = statuses[world_below(6)]};
    reply.content_type = world_chance(4) ? NULL : "text/plain";
    reply.close = world_chance(6);
    if (reply.content_type) reply.body = slice_of(body, world_below(sizeof body));
    net_http_reply(m.net, c, &reply);
}

static void accept_websocket(struct conn *c)
{
    char key[WS_ACCEPT_LEN];
    memset(key, 'k', sizeof key);
    net_ws_accept(m.net, c, slice_of(key, sizeof key), (struct slice){0}, (struct slice){0}, world_chance(2) ? 0 : 300);
    m.sockets[m.num_sockets++ % 8] = net_ref(c);
}

static void answer_or_upgrade(struct conn *c)
{
    if (world_chance(2) && !conn_refusal(c)) accept_websocket(c);
    else answer(c);
}

static void check_padding(struct slice data)
{
    unsigned char sum = 0;
    for (unsigned i = 0; i < NET_PADDING && data.len; i++) sum ^= (unsigned char)data.data[data.len + i];
    m.padding ^= sum; /* so that the reads are made, for the address sanitizer to see */
}

/* look asks what a core asks of a connection with an open request. */
static void look(const struct conn *c)
{
    char peer[46];
    uint8_t bytes[16];
    conn_peer(c, peer);
    ASSERT(conn_peer_bytes(c, bytes) == (strcmp(peer, "unix") != 0));
    ASSERT(conn_in_request(c) && conn_answering(c) && !conn_is_websocket(c));
    ASSERT(net_answering(m.net) >= 1 && net_answering(m.net) <= net_connections(m.net));
    ASSERT(net_queued(c) >= send_queue_class_bytes(&c->queue, CONN_REPLY));
    ASSERT(conn_idle_ms(m.net, c) <= conn_open_ms(m.net, c));
    ASSERT(net_conn(m.net, net_ref(c)) == c);
}

static void on_request(void *context, struct conn *c, const struct http_request *request)
{
    look(c);
    check_padding(request->body);
    if (!conn_user(c)) {
        conn_set_user(c, &m);
        m.num_users++;
    }
    switch (world_below(8)) {
    case 0: net_abort(m.net, c); return;
    case 1: conn_charge(c, world_chance(2) ? &m.account : NULL); answer(c); return;
    case 2:
    case 3: m.asked[m.num_asked++ % 8] = net_ref(c); return;
    default: answer_or_upgrade(c); return;
    }
}

static void on_message(void *context, struct conn *c, bool text, struct slice data)
{
    check_padding(data);
    switch (world_below(8)) {
    case 0: net_abort(m.net, c); return;
    case 1: net_ws_close(m.net, c, 4001, "asked for", world_chance(2)); return;
    case 2: net_ws_dismiss(m.net, c, 1001, "going"); return;
    case 3: push(c, CONN_DURABLE); return;
    case 4: net_request_begin(m.net, c); return;
    case 5: net_want_drain(m.net, c); return;
    case 6: net_reply_binary(m.net, c, data); return;
    default: net_reply_text(m.net, c, data); return;
    }
}

static void on_drain(void *context, struct conn *c)
{
    if (world_chance(2)) push(c, CONN_DURABLE);
    if (world_chance(8)) net_want_drain(m.net, c);
    if (world_chance(16)) net_ws_close(m.net, c, 1000, "", false);
}

static void on_closed(void *context, struct conn *c)
{
    ASSERT(conn_user(c) == &m);
    struct conn_end end;
    conn_ended(c, &end);
    ASSERT(*conn_cause_name(end.cause));
    m.num_closed++;
}

static uint8_t on_open(void *context, struct conn *c)
{
    return world_chance(8) ? 1 + (uint8_t)world_below(CONN_REFUSAL_MAX - 1) : 0;
}

static bool on_head(void *context, struct conn *c, const struct http_request *request) { return !world_chance(4); }

static void on_ping(void *context, struct conn *c)
{
    if (world_chance(16)) net_abort(m.net, c);
}

/* --- opening and closing ------------------------------------------------------------------------------------------ */

static unsigned chosen(const unsigned *of, size_t num) { return of[world_below(num)]; }

#define CHOSEN(...) chosen((const unsigned[]){__VA_ARGS__}, sizeof((const unsigned[]){__VA_ARGS__}) / sizeof(unsigned))

/* One statement a choice: initializers are evaluated in any order (C17 section 6.7.9), and an input must mean the same
 * whoever compiles this. */
static void faults_choose(void)
{
    struct ring_faults faults;
    faults.buffers = CHOSEN(64, 1, 2, 3);
    faults.odd_of = CHOSEN(0, 4, 30);
    faults.error_of = CHOSEN(0, 20, 100);
    faults.tiny_of = CHOSEN(0, 3, 1);
    faults.starved_of = CHOSEN(0, 50);
    faults.delay_of = CHOSEN(0, 3, 20);
    faults.sq_entries = CHOSEN(0, 1, 3);
    faults.cq_entries = CHOSEN(0, 1, 3);
    rings_set_faults(&faults);
}

static struct net_limits limits_choose(void)
{
    struct net_limits limits = {.connections_max = CONNECTIONS_MAX,
                                .http = {.head_bytes_max = 2000, .target_bytes_max = 300, .body_bytes_max = 5000},
                                .header_timeout_ns = 10 * 1000000000ull,
                                .body_timeout_ns = 20 * 1000000000ull,
                                .idle_timeout_ns = 30 * 1000000000ull,
                                .ping_interval_ns = 8 * 1000000000ull,
                                .close_timeout_ns = 2 * 1000000000ull,
                                .stall_timeout_ns = 15 * 1000000000ull};
    limits.refused_max = CHOSEN(0, 1, 2);
    limits.lingering_max = limits.refused_max ? 1 : 0;
    limits.connections_max += limits.lingering_max;
    limits.ws_message_bytes_max = CHOSEN(300, 20, 70000);
    limits.send_queue_bytes_max = CHOSEN(400, 4000, 100000);
    limits.requests_in_flight_max = CHOSEN(2, 1, 5);
    limits.assembly_bytes_max = CHOSEN(0, 500, 9000);
    return limits;
}

static void machine_open(void)
{
    char why[256];
    faults_choose();
    struct net_limits limits = limits_choose();
    bool refuses = world_below(2), looks_at_heads = world_below(2);
    const struct net_handlers handlers = {.on_request = on_request,
                                          .on_message = on_message,
                                          .on_drain = on_drain,
                                          .on_closed = on_closed,
                                          .on_open = refuses ? on_open : NULL,
                                          .on_head = looks_at_heads ? on_head : NULL,
                                          .on_ping = on_ping,
                                          .context = &m};
    enum status s = park_init(&m.park, &park_ops, NULL);
    ASSERT(s == STATUS_OK);
    s = net_open(&m.net, &handlers, &limits, &fuzz_clock, &m.park, 0, why, sizeof why);
    ASSERT(s == STATUS_OK);
    static const struct net_listener listeners[2] = {{.fd = LISTENER_FD_BASE},
                                                     {.fd = LISTENER_FD_BASE + ADMIN_FD, .trusted = 1}};
    s = net_start(m.net, listeners, 2);
    ASSERT(s == STATUS_OK);
}

static void turn(void)
{
    net_poll(m.net);
    net_timers(m.net);
    net_flush(m.net);
    net_wait(m.net, 0);
}

/* answer_all: a core answers whatever it was asked, and ends what it began, sooner or later. */
static void answer_all(void)
{
    uint32_t at = 0;
    for (struct conn *c; (c = net_each(m.net, &at));) {
        while (c->requests) net_request_end(m.net, c);
        if (c->state == CONN_REQUEST) answer(c);
    }
}

static void finish_round(void)
{
    answer_all();
    for (unsigned i = 0; i < links_len(); i++)
        for (unsigned n = 0; n < 4 && link_can_step(i); n++) link_step(i);
    turn();
    bounds_check_net(m.net);
    links_sweep();
}

/* finish lets everything end: the clients are gone, nothing fails any more, and time passes. */
static void finish(void)
{
    static const struct ring_faults none = {.buffers = 64};
    rings_set_faults(&none);
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        if (m.clients[i]) link_drop(m.clients[i], world_chance(2));
    net_stop_accepting(m.net);
    for (unsigned n = 0; net_connections(m.net); n++) {
        if (n >= FINISH_ROUNDS_MAX) world_fail("%u connections are never closed", net_connections(m.net));
        finish_round();
        m.now_ns += ROUND_NS;
    }
    finish_round(); /* what was cancelled of the accepts */
    ASSERT(m.num_closed == m.num_users && net_reply_bytes(m.net) == 0);
    ASSERT(m.account.bytes == 0 && m.account.assembly == 0);
    net_close(m.net);
    rings_crash(); /* also those that were never accepted */
    links_sweep();
    ASSERT(links_len() == 0);
    park_close(&m.park);
}

/* --- steps -------------------------------------------------------------------------------------------------------- */

static struct link **client_choose(void) { return &m.clients[world_below(CLIENTS_MAX)]; }

static void say(struct link *l, struct slice bytes) { link_write(l, bytes); }

static void say_bytes(struct link *l)
{
    size_t len = 1 + world_below(40);
    if (len > m.input.len) len = m.input.len;
    say(l, slice_of(m.input.data, len));
    m.input = slice_from(m.input, len);
}

#define UPGRADE \
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static void say_http(struct link *l)
{
    struct buf text = {0};
    static const char *const lines[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                        "HEAD /x HTTP/1.0\r\n\r\n",
                                        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                                        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                                        "5\r\nhello\r\n",
                                        "0\r\n\r\n",
                                        UPGRADE};
    size_t num = sizeof lines / sizeof *lines, which = world_below(num + 2);
    size_t body = world_below(3000);
    if (which < num) {
        buf_slice_append(&text, slice_str(lines[which]));
    } else {
        buf_printf(&text, "POST /x HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n",
                   which == num ? "Expect: 100-continue\r\n" : "", body);
        for (size_t i = 0; i < body && which > num; i++) BUF_LIT(&text, "b");
    }
    say(l, buf_slice(&text));
    buf_free(&text);
}

/* say_frame says one WebSocket frame, with a mask of zeroes (RFC 6455 section 5.2). */
static void say_frame(struct link *l)
{
    static const uint8_t opcodes[] = {0x1, 0x1, 0x2, 0x0, 0x8, 0x9, 0xa, 0x3};
    uint8_t first = opcodes[world_below(8)];
    if (!world_chance(4)) first |= 0x80;
    size_t len = world_chance(8) ? world_below(2000) : world_below(100);
    struct buf text = {0};
    uint8_t head[8] = {first, len < 126 ? 0x80 | (uint8_t)len : 0xfe, (uint8_t)(len >> 8), (uint8_t)len};
    buf_append(&text, head, len < 126 ? 2 : 4);
    buf_append(&text, "\0\0\0", 4);
    for (size_t i = 0; i < len; i++) BUF_LIT(&text, "m");
    say(l, buf_slice(&text));
    buf_free(&text);
}

static void client_step(void)
{
    struct link **client = client_choose(), *l = *client;
    char out[256];
    if (!l) {
        bool admin = world_chance(8);
        size_t up = 64 + world_below(6000), down = 1 + world_below(60000);
        *client = link_open(0, admin, up, down);
        return;
    }
    switch (world_below(8)) {
    case 0: say_bytes(l); return;
    case 1:
    case 2: say_http(l); return;
    case 3:
    case 4: say_frame(l); return;
    case 5: link_read(l, out, 1 + world_below(sizeof out)); return;
    case 6: link_finish(l); return;
    case 7:
        link_drop(l, world_chance(2));
        *client = NULL;
        return;
    }
}

static void network_step(void)
{
    unsigned num = links_len(), from = num ? (unsigned)world_below(num) : 0;
    for (unsigned n = 0; n < num; n++) {
        if (!link_can_step((from + n) % num)) continue;
        link_step((from + n) % num);
        return;
    }
}

/* late_answer answers what a handler has left open, or ends a command that a message began. */
static void late_answer(void)
{
    unsigned at = (unsigned)world_below(8);
    struct conn *c = net_conn(m.net, m.asked[at]);
    m.asked[at] = (struct conn_ref){0};
    if (c && c->state == CONN_REQUEST) answer_or_upgrade(c);
}

static void core_step(void)
{
    struct conn *c = net_conn(m.net, m.sockets[world_below(8)]);
    if (!c || !conn_is_websocket(c)) {
        late_answer();
        return;
    }
    switch (world_below(10)) {
    case 0:
    case 1: push(c, CONN_DURABLE); return;
    case 2:
    case 3: push(c, CONN_EPHEMERAL); return;
    case 4:
        if (c->requests) net_request_end(m.net, c);
        return;
    case 5: net_reply_text(m.net, c, SLICE("{\"type\":\"ok\"}")); return;
    case 6: net_want_drain(m.net, c); return;
    case 7: net_ws_close(m.net, c, 4001, "enough", world_chance(2)); return;
    case 8: net_ws_dismiss(m.net, c, 1001, "going"); return;
    case 9: net_abort(m.net, c); return;
    }
}

static void time_step(void)
{
    static const uint64_t steps_ns[] = {1000000, 100000000, 3000000000, 40000000000};
    m.now_ns += steps_ns[world_below(4)];
}

static void step(void)
{
    switch (world_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3: client_step(); return;
    case 4:
    case 5:
    case 6:
    case 7: network_step(); return;
    case 8:
    case 9: core_step(); return;
    case 10: late_answer(); return;
    case 11: time_step(); return;
    case 12:
        if (world_chance(2)) park_signal(&m.park);
        else if (world_chance(16)) net_stop_accepting(m.net);
        else net_limit_queues(m.net, 400 + world_below(5000));
        return;
    default: turn(); return;
    }
}
