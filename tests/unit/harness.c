#define _GNU_SOURCE /* vasprintf */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../net/listener.h"
#include "../../src/base/assert.h"
#include "../../src/base/log.h"
#include "../../src/chat/ids.h"

#define PATIENCE_NS 5000000000ull /* a wait that fails has waited this long, in real time */
#define SEED 20260101u
#define PEPPER_BYTES 32u

/* --- seams --------------------------------------------------------------------------------------- */

static uint64_t clock_mono(void *context)
{
    return ((struct harness *)context)->mono_ns;
}

static uint64_t clock_wall(void *context)
{
    return ((struct harness *)context)->wall_ms;
}

/* splitmix64 (Steele, Lea and Flood 2014) */
static void random_next(void *context, void *out, size_t len)
{
    struct harness *h = context;
    for (size_t at = 0; at < len; at += 8) {
        uint64_t z = h->random_state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        memcpy((char *)out + at, &z, len - at < 8 ? len - at : 8);
    }
}

/* The pepper stands in the data directory, which memory has none of: the seed makes every start find the same one. */
static void pepper_first(void *context, void *out, size_t len)
{
    struct harness *h = context;
    uint64_t state = h->random_state;
    if (len == PEPPER_BYTES) h->random_state = SEED;
    random_next(h, out, len);
    if (len == PEPPER_BYTES) h->random_state = state;
}

/* --- the fixture --------------------------------------------------------------------------------- */

static void gateway_begin(struct harness *h, unsigned num_cores);
static void gateway_end(struct harness *h, enum harness_end end);

/* Lines that settings of their own ask for pass every level. Tests that look at them catch them instead. */
static void drop_line(struct slice line) { (void)line; }

static const struct log_sink nowhere = {drop_line, NULL};

int harness_setup(void **state)
{
    struct harness *h = calloc(1, sizeof *h);
    if (!h) return -1;
    atomic_store(&log_level_now, LOG_ERROR + 1); /* stores that fail are part of the tests */
    log_set_sink(&nowhere);
    config_defaults(&h->config);
    h->config.limits_connections = 64 * HARNESS_CORES_MAX;
    h->kv = kv_fake_new();
    h->mark = mark_fake_new();
    h->clock = (struct clock){h, clock_mono, clock_wall};
    h->random = (struct random){h, random_next};
    h->mono_ns = 1000000000u;
    h->wall_ms = HARNESS_START_MS;
    h->random_state = SEED;
    list_init(&h->answers);
    list_init(&h->clients);
    for (unsigned i = 0; i < HARNESS_CORES_MAX; i++) h->listen_fd[i] = -1;
    *state = h;
    return 0;
}

/* connections_end waits until every core has let go of its connections: closing a socket takes the kernel a moment. */
static bool connections_end(struct harness *h)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    for (;;) {
        unsigned left = 0;
        harness_settle(h);
        for (unsigned i = 0; i < h->gateway.num_cores; i++) left += net_connections(harness_core(h, i)->net);
        if (left == 0 || clock_mono_ns(clock_real()) > until_ns) return left == 0;
        usleep(100);
    }
}

/* nothing_left holds after every test: what was asked was answered, and what was taken was given back. */
static bool nothing_left(struct harness *h)
{
    bool good = connections_end(h);
    for (struct list *n = h->answers.next; n != &h->answers; n = n->next)
        good &= CONTAINER_OF(n, struct answer, of_harness)->done;
    for (unsigned i = 0; i < h->gateway.num_cores; i++) {
        struct core *c = harness_core(h, i);
        good &= commit_pending(c->commit) == 0 && c->num_sessions == 0 && c->num_subscriptions == 0;
        good &= c->local_rooms.len == 0 && atomic_load(&c->frames_bytes) == 0 && list_empty(&c->hello_waiting);
        for (unsigned to = 0; to < c->num_cores; to++) good &= c->out[to].parked.len == 0;
    }
    return good;
}

int harness_teardown(void **state)
{
    struct harness *h = *state;
    bool good = true;
    for (struct list *n; (n = list_pop(&h->clients));) {
        struct client *c = CONTAINER_OF(n, struct client, of_harness);
        client_close(c);
        buf_free(&c->in);
        buf_free(&c->text);
        buf_free(&c->head);
        free(c);
    }
    h->hold_writer = h->hold_syncer = h->hold_readers = false;
    if (h->open) {
        good = nothing_left(h);
        if (!good) print_error("something was left behind\n");
        gateway_end(h, END_CLEAN);
    }
    for (struct list *n; (n = list_pop(&h->answers));) {
        struct answer *a = CONTAINER_OF(n, struct answer, of_harness);
        buf_free(&a->out);
        free(a);
    }
    kv_close(h->kv);
    mark_close(h->mark);
    config_free(&h->config);
    free(h);
    return good ? 0 : -1;
}

static void listen_at(struct harness *h, unsigned core)
{
    char why[256], name[LISTENER_NAME_LEN];
    const struct listener_tcp listener = {.address = "127.0.0.1:0", .send_buffer_bytes = 65536};
    assert_int_equal(listener_open_tcp(&h->listen_fd[core], name, &listener, why, sizeof why), STATUS_OK);
    h->port[core] = (uint16_t)atoi(strrchr(name, ':') + 1);
}

static void gateway_begin(struct harness *h, unsigned num_cores)
{
    char why[256] = "";
    struct random peppered = {h, pepper_first};
    kv_fake_hold(h->kv);
    mark_fake_hold(h->mark);
    enum status s = store_open_with(&h->store, h->kv, h->mark, &peppered, why, sizeof why);
    if (s != STATUS_OK) fail_msg("store: %s", why);
    memset(&h->gateway, 0, sizeof h->gateway);
    h->gateway.config = &h->config;
    h->gateway.clock = &h->clock;
    h->gateway.random = &h->random;
    h->gateway.store = &h->store;
    h->gateway.num_cores = num_cores;
    s = gateway_open(&h->gateway, why, sizeof why);
    if (s != STATUS_OK) fail_msg("gateway: %s", why);
    for (unsigned i = 0; i < num_cores; i++) {
        listen_at(h, i);
        const struct net_listener listener = {.fd = h->listen_fd[i]};
        assert_int_equal(core_start(h->gateway.cores[i], &listener, 1), STATUS_OK);
    }
    h->open = true;
}

static void gateway_end(struct harness *h, enum harness_end end)
{
    if (end == END_CLEAN) {
        harness_settle(h);
    } else {
        /* entries under way must be called back before their memory goes: with a store that fails, as unknown */
        kv_fake_fail(h->kv, true, true);
        h->hold_writer = h->hold_syncer = h->hold_readers = false;
        harness_settle(h);
    }
    gateway_close(&h->gateway);
    for (unsigned i = 0; i < h->gateway.num_cores; i++) {
        close(h->listen_fd[i]); /* the next run listens elsewhere: a ring that is being torn down may still accept */
        h->listen_fd[i] = -1;
    }
    store_close(&h->store, end == END_CLEAN);
    kv_fake_fail(h->kv, false, false);
    mark_fake_fail(h->mark, false, false);
    if (end == END_POWER_LOST) {
        kv_fake_crash(h->kv, 0, false);
        mark_fake_crash(h->mark, true);
    }
    h->open = false;
}

static void tenant_make(struct harness *h)
{
    struct op *op = harness_op(h, 0, OP_TENANT_CREATE, NULL, 0, 64 + API_KEY_TEXT_MAX);
    op->in.directory.tenant.name = op_keep(op, SLICE("Bells"));
    struct answer *a = harness_go(h, op);
    harness_settle(h);
    expect_ok(a);
    h->tenant = a->tenant;
    snprintf(h->api_key, sizeof h->api_key, "%s", a->out.data);
}

void harness_open(struct harness *h, unsigned num_cores)
{
    ASSERT(num_cores >= 1 && num_cores <= HARNESS_CORES_MAX);
    free(h->config.admin_master_key);
    h->config.admin_master_key = strdup(MASTER_KEY);
    gateway_begin(h, num_cores);
    tenant_make(h);
}

void harness_restart(struct harness *h, enum harness_end end)
{
    unsigned num_cores = h->gateway.num_cores;
    gateway_end(h, end);
    gateway_begin(h, num_cores);
}

/* --- stepping ------------------------------------------------------------------------------------ */

struct core *harness_core(struct harness *h, unsigned core)
{
    return h->gateway.cores[core];
}

uint64_t harness_metric(struct harness *h, unsigned core, enum metric_id id)
{
    return atomic_load(&harness_core(h, core)->metrics.value[id]);
}

bool harness_turn(struct harness *h, unsigned core)
{
    return core_turn(harness_core(h, core), false);
}

bool harness_turns(struct harness *h)
{
    bool busy = false;
    for (unsigned i = 0; i < h->gateway.num_cores; i++) busy |= harness_turn(h, i);
    return busy;
}

void harness_settle(struct harness *h)
{
    /* a turn may leave something for another without having been busy itself: two quiet rounds are quiet */
    for (unsigned quiet = 0; quiet < 2; quiet++) {
        bool busy = harness_turns(h);
        if (!h->hold_writer) busy |= commit_writer_step(h->gateway.commit);
        if (!h->hold_syncer) busy |= commit_syncer_step(h->gateway.commit);
        for (unsigned r = 0; r < h->config.process_readers && !h->hold_readers; r++)
            busy |= reader_step(h->gateway.readers, r);
        if (busy) quiet = UINT32_MAX; /* from the beginning */
    }
}

void harness_advance(struct harness *h, uint64_t ms)
{
    h->mono_ns += ms * 1000000;
    h->wall_ms += ms;
}

/* --- ops
 * -------------------------------------------------------------------------------------------------------------- */

struct op *harness_op(struct harness *h, unsigned core, enum op_kind kind, const struct person *who, uint64_t room,
                      size_t text_bytes)
{
    struct slice id = slice_str(who ? who->id : NULL);
    struct op *op = op_new(harness_core(h, core), kind, text_bytes + id.len);
    op->now_ms = h->wall_ms;
    op->room = room;
    if (who) {
        op->tenant = who->tenant;
        op->user = who->number;
        op->user_id = op_keep(op, id);
    }
    return op;
}

static void caught(struct core *core, struct op *op)
{
    struct answer *a = op->flow;
    assert_false(a->done); /* an op comes back once */
    a->done = true;
    a->order = ++a->harness->num_answered;
    a->core = core->id;
    a->error = op->error;
    a->http_status = op->http_status;
    a->fast = op->fast;
    a->tenant = op->tenant;
    a->user = op->user;
    a->room = op->room;
    a->seq = op->seq;
    a->created_ms = op->created_ms;
    a->head = op->head;
    a->position = op->position;
    a->num_positions = op->num_positions;
    for (uint32_t i = 0; i < op->num_positions && i < sizeof a->positions / sizeof a->positions[0]; i++)
        a->positions[i] = op->positions[i];
    buf_slice_append(&a->out, buf_slice(&op->out));
    buf_char(&a->out, '\0');
    op_free(op);
}

struct answer *harness_go(struct harness *h, struct op *op)
{
    struct answer *a = calloc(1, sizeof *a);
    ASSERT(a != NULL);
    a->harness = h;
    list_push(&h->answers, &a->of_harness);
    op->flow = a;
    op->then = caught;
    op_dispatch(harness_core(h, op->origin), op);
    return a;
}

struct answer *harness_send(struct harness *h, unsigned core, const struct person *who, uint64_t room, const char *text)
{
    return harness_send_once(h, core, who, room, text, NULL);
}

struct answer *harness_send_once(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                                 const char *text, const char *client_id)
{
    struct slice content = slice_str(text), once = slice_str(client_id);
    struct op *op = harness_op(h, core, OP_ROOM_SEND, who, room, content.len + once.len);
    op->in.send.content = op_keep(op, content);
    op->client_id = op_keep(op, once);
    return harness_go(h, op);
}

struct answer *harness_ask(struct harness *h, unsigned core, enum op_kind kind, const struct person *who, uint64_t room)
{
    return harness_go(h, harness_op(h, core, kind, who, room, 0));
}

struct answer *harness_change(struct harness *h, unsigned core, enum op_kind kind, const struct person *who,
                              uint64_t room, const struct person *whom, uint8_t role)
{
    struct op *op = harness_op(h, core, kind, who, room, USER_ID_BYTES_MAX);
    op->members = calloc(1, sizeof *op->members);
    ASSERT(op->members != NULL);
    op->num_members = 1;
    op->members[0].user = whom->number;
    op->members[0].user_id = op_keep(op, slice_str(whom->id));
    op->in.change.role = role;
    return harness_go(h, op);
}

struct answer *harness_position(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                                enum position_mode mode, uint64_t epoch, uint64_t seq)
{
    struct op *op = harness_op(h, core, OP_ROOM_POSITION, who, room, 0);
    op->in.position.mode = (uint8_t)mode;
    op->in.position.epoch = epoch;
    op->in.position.seq = seq;
    return harness_go(h, op);
}

struct answer *harness_events(struct harness *h, unsigned core, const struct person *who, uint64_t room, uint64_t after)
{
    struct op *op = harness_op(h, core, OP_ROOM_HISTORY, who, room, 0);
    op->in.history.has_after = true;
    op->in.history.after_seq = after;
    op->in.history.limit = PAGE_LIMIT_MAX;
    return harness_go(h, op);
}

struct answer *harness_ack(struct harness *h, unsigned core, const struct person *who, uint64_t room,
                           const char *device, uint64_t seq, bool read)
{
    struct slice name = slice_str(device);
    struct op *op = harness_op(h, core, OP_ROOM_ACK, who, room, name.len);
    op->in.cursor.device = op_keep(op, name);
    op->in.cursor.seq = seq;
    op->in.cursor.read = read;
    return harness_go(h, op);
}

struct answer *harness_rooms(struct harness *h, unsigned core, const struct person *who, const char *device)
{
    struct slice name = slice_str(device);
    struct op *op = harness_op(h, core, OP_USER_ROOMS, who, 0, name.len);
    op->in.rooms.device = op_keep(op, name);
    return harness_go(h, op);
}

struct answer *harness_create(struct harness *h, unsigned core, enum room_type type, uint8_t flags,
                              const struct person *const *members, unsigned num_members, const char *key,
                              uint64_t payload_hash)
{
    struct slice once = slice_str(key);
    struct op *op = harness_op(h, core, OP_ROOM_CREATE, members[0], 0, once.len + num_members * USER_ID_BYTES_MAX);
    op->in.change.type = (uint8_t)type;
    op->in.change.flags = flags;
    op->client_id = op_keep(op, once);
    op->payload_hash = payload_hash;
    op->members = calloc(num_members, sizeof *op->members);
    ASSERT(op->members != NULL);
    op->num_members = num_members;
    for (unsigned i = 0; i < num_members; i++) {
        op->members[i].user = members[i]->number;
        op->members[i].user_id = op_keep(op, slice_str(members[i]->id));
    }
    return harness_go(h, op);
}

/* --- what tests only need
 * ----------------------------------------------------------------------------------------------- */

struct answer *settled(struct harness *h, struct answer *a)
{
    harness_settle(h);
    assert_true(a->done);
    return a;
}

static struct person person_of(struct harness *h, const char *id)
{
    struct person p = {.tenant = h->tenant};
    snprintf(p.id, sizeof p.id, "%s", id);
    p.home = gateway_user_home(&h->gateway, p.tenant, slice_str(p.id));
    return p;
}

struct person harness_person(struct harness *h, const char *id)
{
    struct person p = person_of(h, id);
    struct answer *a = harness_go(h, harness_op(h, 0, OP_USER_RESOLVE, &p, 0, 0));
    harness_settle(h);
    expect_ok(a);
    p.number = a->user;
    return p;
}

struct person harness_person_at(struct harness *h, const char *stem, unsigned home)
{
    for (unsigned i = 0; i < 1000; i++) {
        char id[64];
        snprintf(id, sizeof id, "%s%u", stem, i);
        if (person_of(h, id).home == home) return harness_person(h, id);
    }
    fail_msg("no user at home on core %u", home);
    return (struct person){0};
}

uint64_t harness_room(struct harness *h, enum room_type type, uint8_t flags, const struct person *const *members,
                      unsigned num_members)
{
    struct answer *a = harness_create(h, 0, type, flags, members, num_members, NULL, 0);
    harness_settle(h);
    expect_ok(a);
    return a->room;
}

uint64_t harness_room_at(struct harness *h, unsigned home, enum room_type type, const struct person *const *members,
                         unsigned num_members)
{
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t room = harness_room(h, type, 0, members, num_members);
        if (harness_room_home(h, room) == home) return room;
    }
    fail_msg("no room at home on core %u", home);
    return 0;
}

void harness_fill(struct harness *h, const struct person *who, uint64_t room, uint64_t head)
{
    for (uint64_t seq = 0; seq < head;) {
        char text[24];
        snprintf(text, sizeof text, "%llu", (unsigned long long)seq + 1);
        struct answer *a = harness_send(h, 0, who, room, text);
        harness_settle(h);
        expect_ok(a);
        seq = a->seq;
    }
}

unsigned harness_room_home(struct harness *h, uint64_t room)
{
    return gateway_room_home(&h->gateway, h->tenant, room);
}

uint64_t number_in(const char *json, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", name);
    const char *at = strstr(json, quoted);
    if (!at || at[strlen(quoted)] < '0' || at[strlen(quoted)] > '9') fail_msg("no number %s in: %s", name, json);
    return strtoull(at + strlen(quoted), NULL, 10);
}

unsigned count_in(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) count++;
    return count;
}

struct room_name room_name(uint64_t room)
{
    struct room_name name = {0};
    *room_id_text(name.text, room) = '\0';
    return name;
}

/* --- clients: the connection
 * --------------------------------------------------------------------------------------------- */

struct client *client_open(struct harness *h, unsigned core)
{
    struct client *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(h->port[core]), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    c->harness = h;
    list_push(&h->clients, &c->of_harness);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(c->fd >= 0);
    int n = connect(c->fd, (struct sockaddr *)&to, sizeof to);
    assert_true(n == 0 || errno == EINPROGRESS);
    struct pollfd p = {.fd = c->fd, .events = POLLOUT};
    assert_int_equal(poll(&p, 1, 5000), 1);
    return c;
}

void client_close(struct client *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

void client_send(struct client *c, struct slice bytes)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    while (bytes.len) {
        ssize_t n = send(c->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n > 0) {
            bytes = slice_from(bytes, (size_t)n);
            continue;
        }
        assert_true(n < 0 && errno == EAGAIN && clock_mono_ns(clock_real()) < until_ns);
        harness_turns(c->harness);
    }
}

/* take_in reads what is there; returns whether anything was. */
static bool take_in(struct client *c)
{
    size_t before = c->in.len;
    while (!c->ended && c->fd >= 0) {
        buf_reserve(&c->in, 65536);
        ssize_t n = recv(c->fd, c->in.data + c->in.len, 65535, 0);
        if (n > 0) {
            c->in.len += (size_t)n;
            continue;
        }
        if (n == 0 || errno != EAGAIN) c->ended = true;
        break;
    }
    if (c->in.data) c->in.data[c->in.len] = '\0';
    return c->in.len > before;
}

/* wait_on turns the gateway until more has come; fails the test when nothing comes. */
static void wait_on(struct client *c, uint64_t until_ns, const char *what)
{
    harness_settle(c->harness);
    if (take_in(c)) return;
    if (c->ended) fail_msg("the connection was closed before %s", what);
    if (clock_mono_ns(clock_real()) > until_ns) fail_msg("%s did not come", what);
    usleep(100);
}

static void text_set(struct buf *b, struct slice text)
{
    b->len = 0;
    buf_slice_append(b, text);
    buf_char(b, '\0');
    b->len--;
}

/* --- clients: HTTP
 * ----------------------------------------------------------------------------------------------------------- */

static void request_head(struct buf *out, const struct harness *h, const char *method, const char *path,
                         const char *user, const char *headers)
{
    buf_printf(out, "%s %s HTTP/1.1\r\nHost: bells\r\n%s", method, path, headers);
    if (user) buf_printf(out, "X-API-Key: %s\r\nX-User-Id: %s\r\n", h->api_key, user);
}

/* answer_take takes one whole answer off the front of what came; returns its status, 0 while it is incomplete. */
static unsigned answer_take(struct client *c)
{
    char *end = c->in.len ? strstr(c->in.data, "\r\n\r\n") : NULL;
    if (!end) return 0;
    size_t head_len = (size_t)(end + 4 - c->in.data), body_len = 0;
    text_set(&c->head, slice_of(c->in.data, head_len));
    assert_true(slice_starts(buf_slice(&c->head), SLICE("HTTP/1.1 ")));
    const char *length = strstr(c->head.data, "\r\nContent-Length: ");
    if (length) body_len = (size_t)strtoull(length + 18, NULL, 10);
    if (c->in.len < head_len + body_len) return 0;
    text_set(&c->text, slice_of(c->in.data + head_len, body_len));
    buf_consume(&c->in, head_len + body_len);
    c->in.data[c->in.len] = '\0';
    return (unsigned)atoi(c->head.data + 9);
}

unsigned client_answer(struct client *c)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    for (unsigned status;;) {
        if ((status = answer_take(c))) return status;
        wait_on(c, until_ns, "an answer");
    }
}

unsigned client_call(struct client *c, const char *method, const char *path, const char *user, const char *headers,
                     const char *body)
{
    struct buf out = {0};
    request_head(&out, c->harness, method, path, user, headers);
    if (body) buf_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    buf_printf(&out, "\r\n%s", body ? body : "");
    client_send(c, buf_slice(&out));
    buf_free(&out);
    return client_answer(c);
}

/* --- clients: WebSocket
 * ---------------------------------------------------------------------------------------------------------- */

unsigned client_upgrade(struct client *c, const char *user, const char *headers)
{
    struct buf out = {0};
    request_head(&out, c->harness, "GET", "/ws", user, headers);
    BUF_LIT(&out, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    client_send(c, buf_slice(&out));
    buf_free(&out);
    return client_answer(c);
}

struct client *socket_open(struct harness *h, unsigned core, const char *user, const char *hello)
{
    struct client *c = client_open(h, core);
    assert_int_equal(client_upgrade(c, user, WITH_SUBPROTOCOL), 101);
    if (hello) {
        client_say(c, "%s", hello);
        expect_text(client_hear(c), "\"type\":\"welcome\"");
    }
    return c;
}

/* say sends one masked frame (RFC 6455 section 5.2); opcode 1 text, 2 binary. */
static void say(struct client *c, unsigned opcode, struct slice text)
{
    static const unsigned char mask[4] = {0x31, 0x07, 0xc4, 0x9a};
    struct buf frame = {0};
    buf_char(&frame, (char)(0x80 | opcode));
    assert_true(text.len < 65536);
    if (text.len < 126) {
        buf_char(&frame, (char)(0x80 | text.len));
    } else {
        buf_char(&frame, (char)(0x80 | 126));
        buf_char(&frame, (char)(text.len >> 8));
        buf_char(&frame, (char)text.len);
    }
    buf_append(&frame, mask, sizeof mask);
    for (size_t i = 0; i < text.len; i++) buf_char(&frame, (char)((unsigned char)text.data[i] ^ mask[i % 4]));
    client_send(c, buf_slice(&frame));
    buf_free(&frame);
}

void client_say(struct client *c, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    assert_true(len >= 0);
    say(c, 1, slice_of(text, (size_t)len));
    free(text);
}

void client_say_binary(struct client *c, const char *bytes)
{
    say(c, 2, slice_str(bytes));
}

/* frame_at describes the whole frame at `at`; returns its length, 0 while it is incomplete. */
static size_t frame_at(const struct client *c, size_t at, unsigned *opcode, struct slice *payload)
{
    const unsigned char *p = (const unsigned char *)c->in.data + at;
    size_t left = c->in.len - at, head = 2;
    if (left < 2) return 0;
    assert_int_equal(p[0] & 0xf0, 0x80); /* whole messages, no reserved bits */
    assert_int_equal(p[1] & 0x80, 0);    /* a server does not mask */
    uint64_t len = p[1];
    if (len >= 126) {
        unsigned bytes = len == 126 ? 2 : 8;
        head += bytes;
        if (left < head) return 0;
        len = 0;
        for (unsigned i = 0; i < bytes; i++) len = len << 8 | p[2 + i];
    }
    if (left < head + len) return 0;
    *opcode = p[0] & 15;
    *payload = slice_of(p + head, len);
    return head + len;
}

/* frame_take takes one frame off the front; false when there is no whole one. Closes and pings are noted, not told. */
static bool frame_take(struct client *c, bool *is_text)
{
    unsigned opcode;
    struct slice payload;
    size_t len = frame_at(c, 0, &opcode, &payload);
    if (!len) return false;
    *is_text = opcode == 1;
    if (opcode == 8 && payload.len >= 2)
        c->close_code = (uint16_t)((unsigned char)payload.data[0] << 8 | (unsigned char)payload.data[1]);
    else if (opcode == 1 || opcode == 2)
        text_set(&c->text, payload);
    buf_consume(&c->in, len);
    return true;
}

const char *client_hear(struct client *c)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    bool is_text = false;
    for (;;) {
        while (frame_take(c, &is_text))
            if (is_text) return c->text.data;
        if (c->close_code) fail_msg("closed with %u instead of a message", c->close_code);
        wait_on(c, until_ns, "a message");
    }
}

const char *client_hear_or_end(struct client *c)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    bool is_text = false;
    for (;;) {
        while (frame_take(c, &is_text))
            if (is_text) return c->text.data;
        if (c->close_code || c->ended) return NULL;
        harness_settle(c->harness);
        if (take_in(c) || c->ended) continue;
        if (clock_mono_ns(clock_real()) > until_ns) fail_msg("neither a message nor the end came");
        usleep(100);
    }
}

void client_hears_nothing(struct client *c)
{
    harness_settle(c->harness);
    client_say(c, "{\"type\":\"ping\",\"id\":987654321}"); /* its answer comes behind everything that was on its way */
    const char *heard = client_hear(c);
    if (strcmp(heard, "{\"type\":\"pong\",\"re\":987654321}") != 0) fail_msg("heard: %s", heard);
}

uint16_t client_hear_close(struct client *c)
{
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    bool is_text;
    while (!c->close_code)
        if (!frame_take(c, &is_text)) wait_on(c, until_ns, "a close frame");
    return c->close_code;
}

unsigned client_read(struct client *c)
{
    unsigned count = 0, opcode;
    struct slice payload;
    take_in(c);
    for (size_t at = 0, len; (len = frame_at(c, at, &opcode, &payload)); at += len) count += opcode == 1;
    return count;
}
