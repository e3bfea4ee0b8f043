#define _GNU_SOURCE /* memmem */
#include "client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/base/buf.h"
#include "fake_ring.h"
#include "faults.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

#define MESSAGES_MAX 48u /* of one client in a run */
#define ASKED_MAX 8u     /* requests of one socket that wait for their answer */
#define STALL_NS (15ull * 1000000000) /* simulated time without an answer while nothing is in the way */
#define SAMPLE_KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 section 1.3 */
#define SAMPLE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* line: one connection as the client sees it. */
struct line {
    struct link *link; /* NULL: none */
    struct buf out, in;
    uint64_t offset; /* of in's first byte in the stream */
    unsigned gateway; /* the one it was opened to: its last words may come after its end */
};

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

enum ask_kind { ASK_HELLO, ASK_SEND, ASK_ACK, ASK_HISTORY, ASK_SYNC, ASK_PRESENCE, ASK_TYPING, ASK_PING };

struct ask {
    enum ask_kind kind;
    uint64_t id;
    unsigned message, room;
    uint64_t seq; /* of an ack */
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
    uint64_t call_after; /* what the page that is asked for begins behind … */
    uint64_t call_head;  /* … and what had been shown by then */
    unsigned join_unknown; /* the last gateway that left a join unanswered: it may come into effect behind a leave */
    bool call_when_out; /* it knew that it is no member when it asked */
    uint64_t call_since_ns, rest_retry_ns;
};

struct scenario scenario;
static struct client clients[CLIENTS_MAX];

static bool behind(const struct client *c);
static void socket_read(struct client *c);
static void rest_read(struct client *c);
static void act(struct client *c);

/* --- opening and closing ------------------------------------------------------------------------------------- */

void clients_open(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        struct client *c = &clients[i];
        *c = (struct client){.next_id = 1, .messages_max = 6 + (unsigned)world_below(MESSAGES_MAX - 5)};
        snprintf(c->name, sizeof c->name, "client %u", i);
        snprintf(c->user_id, sizeof c->user_id, "user%u", i % scenario.num_users);
        snprintf(c->device, sizeof c->device, "device%u", i);
        c->shares_user = scenario.num_users < scenario.num_clients;
    }
}

static void line_open(struct line *l, bool admin)
{
    size_t up = world_chance(3) ? 64 + world_below(512) : 16384, down = world_chance(3) ? 64 + world_below(512) : 65536;
    l->link = link_open((unsigned)world_below(scenario.num_cores), admin, up, down);
    l->gateway = scenario.gateway;
}

static bool disk_failed(const struct line *l) { return scenario.failed_gateways >> l->gateway & 1; }

static void line_close(struct line *l, bool reset)
{
    if (l->link) link_drop(l->link, reset);
    l->link = NULL;
    l->out.len = l->in.len = 0;
    l->offset = 0;
}

void clients_close(void)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        struct client *c = &clients[i];
        client_leave(i);
        buf_free(&c->socket.out);
        buf_free(&c->socket.in);
        buf_free(&c->rest.out);
        buf_free(&c->rest.in);
        for (unsigned m = 0; m < c->num_messages; m++) free(c->messages[m].content);
    }
}

/* socket_lost: what was asked and not answered is unknown from now on. */
static void socket_lost(struct client *c, const char *why)
{
    world_trace("%s: socket ends: %s", c->name, why);
    c->state = SOCKET_DOWN;
    c->num_asked = 0;
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) c->views[r].on = c->views[r].resume_asked = false;
    uint64_t away_ns = scenario.crowded && world_chance(4) ? 9000000000u : 50000000u; /* the long one: gone for others */
    c->retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(away_ns));
    c->paused_until_ns = 0;
}

static void socket_drop(struct client *c, bool reset, const char *why)
{
    line_close(&c->socket, reset);
    socket_lost(c, why);
}

static void rest_drop(struct client *c, bool reset)
{
    if (c->call == CALL_JOIN) c->join_unknown = c->rest.gateway;
    line_close(&c->rest, reset);
    c->call = CALL_NONE;
    c->rest_retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(50000000));
}

void client_leave(unsigned client)
{
    struct client *c = &clients[client];
    if (c->socket.link) socket_drop(c, world_chance(2), "the run ends");
    if (c->rest.link) rest_drop(c, world_chance(2));
}

void client_heal(unsigned client)
{
    struct client *c = &clients[client];
    for (unsigned i = 0; i < c->num_asked; i++) c->asked[i].since_ns = world_now_ns();
    c->call_since_ns = world_now_ns();
    c->paused_until_ns = 0;
}

/* --- one step ------------------------------------------------------------------------------------------------ */

static bool line_can_pump(const struct line *l)
{
    return l->link && (link_readable(l->link) || link_ended(l->link) || (l->out.len && link_writable(l->link)));
}

/* line_pump moves some bytes each way; false when the gateway has ended the connection. */
static bool line_pump(struct line *l, bool reads)
{
    if (l->out.len && !link_ended(l->link)) {
        size_t len = world_chance(3) ? 1 + world_below(l->out.len) : l->out.len;
        buf_consume(&l->out, link_write(l->link, slice_of(l->out.data, len)));
    }
    size_t ready = reads ? link_readable(l->link) : 0;
    if (ready) {
        size_t len = world_chance(3) ? 1 + world_below(ready) : ready;
        buf_reserve(&l->in, len);
        l->in.len += link_read(l->link, l->in.data + l->in.len, len);
    }
    return !link_ended(l->link);
}

static bool paused(const struct client *c) { return c->paused_until_ns > world_now_ns(); }

/* wanted: something is left to be done that this client does of its own accord. */
static bool wants_rest(const struct client *c)
{
    if (c->call != CALL_NONE || c->rest_retry_ns > world_now_ns()) return false;
    if (c == &clients[0] && !scenario.api_key[0]) return true;
    if (!scenario.api_key[0]) return false;
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++)
        if (c == &clients[0] && !scenario.room_ids[r][0]) return true;
    return false;
}

static bool asked_message(const struct client *c, unsigned message)
{
    for (unsigned i = 0; i < c->num_asked; i++)
        if (c->asked[i].kind == ASK_SEND && c->asked[i].message == message) return true;
    return c->call == CALL_SEND && c->call_message == message;
}

static bool wants_repeat(const struct client *c, unsigned *message)
{
    for (unsigned m = 0; m < c->num_messages; m++) {
        *message = m;
        if (c->messages[m].state == MESSAGE_OPEN && !asked_message(c, m)) return true;
    }
    return false;
}

static bool wants_socket(const struct client *c)
{
    unsigned message;
    if (!scenario.room_ids[SCENARIO_ROOMS - 1][0]) return false;
    if (c->state == SOCKET_DOWN) return c->retry_ns <= world_now_ns();
    if (c->state != SOCKET_OPEN || paused(c)) return false;
    return (wants_repeat(c, &message) && c->num_asked < ASKED_MAX) || (c->num_asked == 0 && behind(c));
}

bool client_can_step(unsigned client)
{
    const struct client *c = &clients[client];
    if (scenario.num_cores == 0) return false;
    if (!scenario.healing) return true;
    if (line_can_pump(&c->rest) || (line_can_pump(&c->socket) && !paused(c))) return true;
    return wants_rest(c) || wants_socket(c);
}

uint64_t client_wake_ns(unsigned client)
{
    const struct client *c = &clients[client];
    uint64_t wake = WORLD_NEVER, now = world_now_ns();
    if (c->state == SOCKET_DOWN && c->retry_ns > now) wake = c->retry_ns;
    if (c->rest_retry_ns > now && c->rest_retry_ns < wake) wake = c->rest_retry_ns;
    if (paused(c) && c->paused_until_ns < wake) wake = c->paused_until_ns;
    return wake;
}

void client_step(unsigned client)
{
    struct client *c = &clients[client];
    if (c->socket.link) {
        bool open = line_pump(&c->socket, !paused(c));
        socket_read(c);
        if (!open && c->socket.link) socket_drop(c, false, "the gateway closed it");
    }
    if (c->rest.link) {
        bool open = line_pump(&c->rest, true);
        rest_read(c);
        if (!open && c->rest.link) rest_drop(c, false);
    }
    act(c);
}

/* --- what it is told ----------------------------------------------------------------------------------------- */

static unsigned room_index(const struct client *c, struct slice room_id)
{
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++)
        if (slice_is(room_id, scenario.room_ids[r])) return r;
    world_fail("%s is told of room %.*s, which is not of this scenario", c->name, SLICE_FMT(room_id));
}

/* event_seen checks one event against the store and returns its seq. */
static uint64_t event_seen(const struct client *c, unsigned room, struct slice event, uint64_t version)
{
    struct seen_event seen = {.seq = json_number(event, "seq"), .type = SLICE("message")};
    struct slice room_id;
    json_member(event, "type", &seen.type);
    json_member(event, "sender_id", &seen.sender_id);
    if (!json_member(event, "client_id", &seen.client_id)) seen.client_id = (struct slice){0};
    json_member(event, "content", &seen.content);
    json_member(event, "created_at", &seen.created_at);
    CHECK(json_member(event, "room_id", &room_id) && slice_is(room_id, scenario.room_ids[room]),
          "%s sees an event of another room", c->name);
    store_check_seen(c->name, room_id, version, &seen);
    return seen.seq;
}

static void hold(struct client *c, unsigned room, uint64_t seq, uint64_t epoch)
{
    struct view *v = &c->views[room];
    if (seq != v->held + 1) return;
    v->held = seq;
    v->epoch = epoch;
}

static bool is_own_leave(const struct client *c, struct slice event)
{
    struct slice type, users, user;
    if (!json_member(event, "type", &type) || !slice_is(type, "user_left")) return false;
    CHECK(json_member(event, "user_ids", &users), "%s: a leave of nobody", c->name);
    while (json_element(&users, &user))
        if (user.len > 2 && slice_is(slice_of(user.data + 1, user.len - 2), c->user_id)) return true;
    return false;
}

static void on_push(struct client *c, struct slice event, uint64_t version)
{
    struct slice room_id;
    CHECK(json_member(event, "room_id", &room_id), "%s: a push without room_id: %.*s", c->name, SLICE_FMT(event));
    unsigned r = room_index(c, room_id);
    struct view *v = &c->views[r];
    uint64_t seq = json_number(event, "seq"), changed = 0;
    CHECK(v->on && !v->resume_asked, "%s is pushed seq %" PRIu64 " of room %u, which it is not subscribed to", c->name,
          seq, r);
    CHECK(seq == v->next, "%s is pushed seq %" PRIu64 " of room %u and should get %" PRIu64, c->name, seq, r, v->next);
    event_seen(c, r, event, version);
    bool member = store_member(room_id, slice_str(c->user_id), version, &changed);
    CHECK(member || seq <= changed, "%s is pushed seq %" PRIu64 " of room %u, which it left with %" PRIu64, c->name,
          seq, r, changed);
    v->next++;
    hold(c, r, seq, v->live_epoch);
    v->left = seq > v->replay_head && is_own_leave(c, event);
}

static void on_resumed(struct client *c, struct slice text, uint64_t version)
{
    struct slice room_id, recovered;
    CHECK(json_member(text, "room_id", &room_id) && json_member(text, "recovered", &recovered), "%s: %.*s", c->name,
          SLICE_FMT(text));
    unsigned r = room_index(c, room_id);
    struct view *v = &c->views[r];
    uint64_t from = json_number(text, "from"), joined = 0;
    CHECK(slice_is(recovered, "true"), "%s is not recovered in room %u at [%" PRIu64 ", %" PRIu64 "]: %.*s", c->name, r,
          v->epoch, v->held, SLICE_FMT(text));
    if (v->resume_asked) {
        CHECK(from == v->asked_seq + 1, "%s asked for room %u behind %" PRIu64 " and is served from %" PRIu64, c->name,
              r, v->asked_seq, from);
    } else {
        store_member(room_id, slice_str(c->user_id), version, &joined);
        CHECK(from <= v->held + 1 || from <= joined + 1,
              "%s holds room %u up to %" PRIu64 " and is served from %" PRIu64, c->name, r, v->held, from);
    }
    v->on = true;
    v->resume_asked = false;
    v->next = from;
    v->left = false;
    v->live_epoch = json_number(text, "epoch");
    v->replay_head = json_number(text, "head");
}

/* may_be_out: answers overtake each other between a client's two connections, so whoever may leave a room at all may be
 * told at any time that it is not in it. */
static bool may_be_out(const struct client *c, unsigned room) { return room == SCENARIO_ROOMS - 1 && !c->shares_user; }

static void on_welcome(struct client *c, struct slice text)
{
    struct slice rooms, room, room_id;
    CHECK(c->state == SOCKET_GREETING, "%s: a welcome that nobody asked for", c->name);
    c->state = SOCKET_OPEN;
    CHECK(json_member(text, "rooms", &rooms), "%s: a welcome without rooms", c->name);
    bool listed[SCENARIO_ROOMS] = {false};
    while (json_element(&rooms, &room)) {
        CHECK(json_member(room, "room_id", &room_id), "%s: a room without id", c->name);
        unsigned r = room_index(c, room_id);
        struct view *v = &c->views[r];
        listed[r] = true;
        v->live_epoch = json_number(room, "epoch");
        /* who comes back to a room may be let in before its home as a user has heard of it, and is then shown no cursor
         */
        CHECK(v->acked_gateway != c->socket.gateway || json_number(room, "delivered") >= v->acked || may_be_out(c, r),
              "%s has acknowledged room %u up to %" PRIu64 " and its cursor is at %" PRIu64, c->name, r, v->acked,
              json_number(room, "delivered"));
        if (v->resume_asked) continue;
        v->on = true;
        v->left = false;
        v->replay_head = json_number(room, "head");
        v->next = v->replay_head + 1;
    }
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        if (!c->views[r].resume_asked || listed[r]) continue;
        CHECK(may_be_out(c, r), "%s is a member of room %u and was not let in", c->name, r);
        c->views[r].resume_asked = false;
    }
}

/* check_items checks a page; `from` is the seq that must come first, 0 when events are left out of it. Returns the
 * last. */
static uint64_t check_items(struct client *c, unsigned room, struct slice items, uint64_t from, uint64_t version,
                        uint64_t epoch)
{
    struct slice item;
    uint64_t last = 0;
    while (json_element(&items, &item)) {
        uint64_t seq = event_seen(c, room, item, version);
        CHECK(seq > last, "%s gets a page of room %u out of order", c->name, room);
        if (from)
            CHECK(seq == from, "%s gets seq %" PRIu64 " of room %u in a page that goes on at %" PRIu64, c->name, seq,
                  room, from);
        if (from) from++;
        if (epoch) hold(c, room, seq, epoch);
        last = seq;
    }
    return last;
}

/* check_last_page: a page that nothing follows ends with what anybody had been shown when it was asked for, or behind
 * it. */
static void check_last_page(const struct client *c, struct slice text, uint64_t last)
{
    struct slice next;
    if (json_member(text, "next", &next)) return;
    if (last < c->call_after) last = c->call_after;
    CHECK(last >= c->call_head,
          "%s: the last page of room %u ends with %" PRIu64 ", and %" PRIu64 " had been shown", c->name, c->call_room,
          last, c->call_head);
}

static void check_sync(struct client *c, struct slice text, uint64_t version)
{
    struct slice rooms, room, room_id, recovered, events;
    CHECK(json_member(text, "rooms", &rooms), "%s: a sync without rooms", c->name);
    while (json_element(&rooms, &room)) {
        CHECK(json_member(room, "room_id", &room_id) && json_member(room, "recovered", &recovered) &&
                  json_member(room, "events", &events),
              "%s: %.*s", c->name, SLICE_FMT(room));
        unsigned r = room_index(c, room_id);
        CHECK(slice_is(recovered, "true"), "%s is not recovered by sync in room %u", c->name, r);
        check_items(c, r, events, json_number(room, "from"), version, json_number(room, "epoch"));
    }
}

static void message_answered(struct client *c, unsigned number, struct slice text, uint64_t version)
{
    struct message *m = &c->messages[number];
    struct slice room_id = slice_str(scenario.room_ids[m->room]);
    struct seen_event seen = {.seq = json_number(text, "seq"),
                              .type = SLICE("message"),
                              .sender_id = slice_str(c->user_id),
                              .client_id = slice_str(m->client_id),
                              .content = slice_str(m->content)};
    CHECK(json_member(text, "created_at", &seen.created_at), "%s: an ok without created_at", c->name);
    store_check_seen(c->name, room_id, version, &seen);
    CHECK(m->state != MESSAGE_ANSWERED || m->seq == seen.seq, "%s is told seq %" PRIu64 " and %" PRIu64 " for %s",
          c->name, m->seq, seen.seq, m->client_id);
    m->state = MESSAGE_ANSWERED;
    m->seq = seen.seq;
}

/* refused: an error must have a reason that the scenario gave. True: asking again is of no use. */
static bool refused(struct client *c, const struct line *l, unsigned room, struct slice code)
{
    world_trace("%s: refused: %.*s", c->name, SLICE_FMT(code));
    if (faults_excuse(l->gateway, code)) return false;
    if (slice_starts(code, SLICE("store."))) {
        bool late = slice_is(code, "store.overloaded") && scenario.late_gateways >> l->gateway & 1;
        CHECK(disk_failed(l) || late, "%s is told %.*s, but the disk is well", c->name, SLICE_FMT(code));
        return false;
    }
    if (scenario.crowded && slice_is(code, "server.overloaded")) return false;
    bool room_code = slice_is(code, "room.not_member") || slice_is(code, "room.not_found");
    CHECK(room_code && may_be_out(c, room), "%s is refused without a reason: %.*s", c->name, SLICE_FMT(code));
    return true;
}

/* --- the WebSocket: what comes ------------------------------------------------------------------------------- */

static bool take_ask(struct client *c, struct slice text, struct ask *out)
{
    uint64_t id = json_number(text, "re");
    for (unsigned i = 0; i < c->num_asked; i++) {
        if (c->asked[i].id != id) continue;
        *out = c->asked[i];
        c->asked[i] = c->asked[--c->num_asked];
        return true;
    }
    return false;
}

static void on_error(struct client *c, struct slice text)
{
    struct slice code;
    struct ask a;
    CHECK(json_member(text, "code", &code), "%s: an error without code", c->name);
    for (unsigned i = 0; i < c->num_asked; i++) /* a room of hello that was refused: the welcome is still to come */
        if (c->asked[i].kind == ASK_HELLO && c->asked[i].id == json_number(text, "re")) {
            refused(c, &c->socket, SCENARIO_ROOMS - 1, code);
            return;
        }
    CHECK(take_ask(c, text, &a), "%s: an error that answers nothing: %.*s", c->name, SLICE_FMT(text));
    bool final = refused(c, &c->socket, a.room, code);
    if (a.kind == ASK_SEND && final && c->messages[a.message].state == MESSAGE_OPEN)
        c->messages[a.message].state = MESSAGE_REFUSED;
}

static void acked(const struct client *c, struct view *v, uint64_t seq)
{
    if (v->acked_gateway != c->socket.gateway) v->acked = 0;
    v->acked_gateway = c->socket.gateway;
    if (seq > v->acked) v->acked = seq;
}

/* check_online: whoever was greeted is online, and nobody stands in the list who is not. A socket that is served at once
 * may ask while its user's rooms are still being loaded. */
static void check_online(const struct client *c, struct slice text)
{
    struct slice items, item, user, status;
    bool self = false;
    CHECK(json_member(text, "items", &items), "%s: presence without items", c->name);
    while (json_element(&items, &item)) {
        CHECK(json_member(item, "user_id", &user) && json_member(item, "status", &status) && slice_is(status, "online"),
              "%s: not online: %.*s", c->name, SLICE_FMT(item));
        self |= slice_is(user, c->user_id);
    }
    CHECK(self || !c->greeted_by_hello, "%s is not online for itself: %.*s", c->name, SLICE_FMT(text));
}

/* on_ephemeral: nobody is told of what they do themselves. */
static void on_ephemeral(const struct client *c, struct slice text)
{
    struct slice user, what;
    CHECK(json_member(text, "user_id", &user) && !slice_is(user, c->user_id), "%s is told of itself: %.*s", c->name,
          SLICE_FMT(text));
    bool presence = json_member(text, "status", &what) && (slice_is(what, "online") || slice_is(what, "offline"));
    bool typing = json_member(text, "action", &what) && (slice_is(what, "start") || slice_is(what, "stop"));
    CHECK(presence != typing, "%s: %.*s", c->name, SLICE_FMT(text));
}

static void on_ok(struct client *c, struct slice text, uint64_t version)
{
    struct ask a;
    struct slice items;
    CHECK(take_ask(c, text, &a), "%s: an ok that answers nothing: %.*s", c->name, SLICE_FMT(text));
    switch (a.kind) {
    case ASK_SEND: message_answered(c, a.message, text, version); return;
    case ASK_HISTORY:
        CHECK(json_member(text, "items", &items), "%s: a page without items", c->name);
        check_items(c, a.room, items, 0, version, 0);
        return;
    case ASK_SYNC: check_sync(c, text, version); return;
    case ASK_ACK: acked(c, &c->views[a.room], a.seq); return;
    case ASK_PRESENCE: check_online(c, text); return;
    case ASK_TYPING: return;
    case ASK_HELLO:
    case ASK_PING: break;
    }
    world_fail("%s: an ok for what is not answered by ok: %.*s", c->name, SLICE_FMT(text));
}

static void on_text(struct client *c, struct slice text, uint64_t version)
{
    struct slice type;
    struct ask a;
    CHECK(json_member(text, "type", &type), "%s: a message without type: %.*s", c->name, SLICE_FMT(text));
    if (world_tracing()) world_trace("%s <- %.*s", c->name, (int)(text.len < 200 ? text.len : 200), text.data);
    if (slice_is(type, "ok")) on_ok(c, text, version);
    else if (slice_is(type, "error")) on_error(c, text);
    else if (slice_is(type, "resumed")) on_resumed(c, text, version);
    else if (slice_is(type, "welcome")) {
        CHECK(take_ask(c, text, &a) && a.kind == ASK_HELLO, "%s: a welcome that answers nothing", c->name);
        on_welcome(c, text);
    } else if (slice_is(type, "pong")) {
        CHECK(take_ask(c, text, &a) && a.kind == ASK_PING, "%s: a pong that answers nothing", c->name);
    } else if (slice_is(type, "presence.update") || slice_is(type, "typing")) {
        on_ephemeral(c, text);
    } else {
        on_push(c, text, version);
    }
}

static void on_frame(struct client *c, enum wire_opcode opcode, struct slice payload, uint64_t version)
{
    switch (opcode) {
    case WIRE_TEXT:
        CHECK(c->state != SOCKET_DOWN, "a frame on a closed socket");
        on_text(c, payload, version);
        return;
    case WIRE_PING: wire_send(&c->socket.out, WIRE_PONG, true, payload, (uint32_t)world_random()); return;
    case WIRE_CLOSE:
        if (c->state != SOCKET_CLOSING) wire_send(&c->socket.out, WIRE_CLOSE, true, payload, (uint32_t)world_random());
        c->state = SOCKET_CLOSING;
        return;
    case WIRE_PONG: return;
    case WIRE_CONTINUATION:
    case WIRE_BINARY: break;
    }
    world_fail("%s: an unexpected frame", c->name);
}

static void line_take(struct line *l, size_t len)
{
    buf_consume(&l->in, len);
    l->offset += len;
}

static void say_hello(struct client *c);

static void upgrade_read(struct client *c)
{
    struct http_answer answer;
    size_t len = wire_answer(&answer, buf_slice(&c->socket.in));
    if (len == 0) return;
    if (answer.status == 101) {
        CHECK(memmem(c->socket.in.data, len, SAMPLE_ACCEPT, sizeof SAMPLE_ACCEPT - 1), "%s: a wrong accept key",
              c->name);
        line_take(&c->socket, len);
        c->state = SOCKET_GREETING;
        if (c->greeted_by_hello) say_hello(c);
        else c->state = SOCKET_OPEN;
        return;
    }
    struct slice code;
    bool excused = json_member(answer.body, "code", &code) && faults_excuse(c->socket.gateway, code);
    CHECK(excused || (answer.status == 503 && (disk_failed(&c->socket) || scenario.crowded)),
          "%s: its upgrade is answered %u: %.*s", c->name, answer.status, SLICE_FMT(answer.body));
    socket_drop(c, false, "the upgrade was refused");
}

static void socket_read(struct client *c)
{
    if (c->state == SOCKET_UPGRADING) upgrade_read(c);
    while (c->socket.link && c->state > SOCKET_UPGRADING) {
        enum wire_opcode opcode;
        struct slice payload;
        size_t len = wire_frame(&opcode, &payload, buf_slice(&c->socket.in));
        if (len == 0) return;
        on_frame(c, opcode, payload, link_version(c->socket.link, c->socket.offset));
        if (c->socket.link) line_take(&c->socket, len);
    }
}

/* --- the WebSocket: what it asks ------------------------------------------------------------------------------ */

/* say sends a text message, sometimes in two fragments. */
static void say(struct client *c, struct buf *text)
{
    struct slice s = buf_slice(text);
    if (world_tracing()) world_trace("%s -> %.*s", c->name, (int)(s.len < 200 ? s.len : 200), s.data);
    size_t cut = world_chance(12) ? world_below(s.len) : s.len;
    wire_send(&c->socket.out, WIRE_TEXT, cut == s.len, slice_of(s.data, cut), (uint32_t)world_random());
    if (cut < s.len) wire_send(&c->socket.out, WIRE_CONTINUATION, true, slice_from(s, cut), (uint32_t)world_random());
    buf_free(text);
}

/* ask begins a request: its type and id. */
static void ask(struct client *c, struct buf *text, const char *type, struct ask a)
{
    ASSERT(c->num_asked < ASKED_MAX);
    a.id = c->next_id++;
    a.since_ns = world_now_ns();
    c->asked[c->num_asked++] = a;
    buf_printf(text, "{\"type\":\"%s\",\"id\":%" PRIu64, type, a.id);
}

static void say_hello(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "hello", (struct ask){.kind = ASK_HELLO});
    buf_printf(&text, ",\"device\":\"%s\"", c->device);
    c->wants_all = scenario.healing || !world_chance(6);
    if (!c->wants_all || world_chance(2)) buf_printf(&text, ",\"rooms\":\"%s\"", c->wants_all ? "all" : "none");
    const char *separator = ",\"resume\":{";
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        struct view *v = &c->views[r];
        v->resume_asked = scenario.healing || !world_chance(6);
        if (v->epoch == 0) v->epoch = scenario.room_epochs[r];
        v->asked_seq = v->held;
        if (!v->resume_asked) continue;
        buf_printf(&text, "%s\"%s\":[%" PRIu64 ",%" PRIu64 "]", separator, scenario.room_ids[r], v->epoch, v->held);
        separator = ",";
    }
    if (separator[1] == '\0') BUF_LIT(&text, "}");
    BUF_LIT(&text, "}");
    say(c, &text);
}

static void socket_connect(struct client *c)
{
    line_open(&c->socket, false);
    /* Two clients of one user ack for each other; only one that says what it holds is owed the rest. */
    c->greeted_by_hello = scenario.healing || c->shares_user || !world_chance(6);
    c->wants_all = !c->greeted_by_hello;
    buf_printf(&c->socket.out,
               "GET /v1/ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " SAMPLE_KEY "\r\nX-API-Key: %s\r\nX-User-Id: %s\r\n"
               "X-Device-Id: %s\r\n%s\r\n",
               scenario.api_key, c->user_id, c->device,
               c->greeted_by_hello ? "Sec-WebSocket-Protocol: carillon.v1.json\r\n" : "");
    c->state = SOCKET_UPGRADING;
    world_trace("%s: connects", c->name);
}

static void ask_send(struct client *c, unsigned number)
{
    struct message *m = &c->messages[number];
    struct buf text = {0};
    ask(c, &text, "send_message", (struct ask){.kind = ASK_SEND, .message = number, .room = m->room});
    buf_printf(&text, ",\"room_id\":\"%s\",\"client_id\":\"%s\",\"content\":\"%s\"}", scenario.room_ids[m->room],
               m->client_id, m->content);
    if (m->state != MESSAGE_ANSWERED) m->state = MESSAGE_OPEN;
    say(c, &text);
}

static void ask_ack(struct client *c, unsigned room)
{
    struct buf text = {0};
    uint64_t seq = c->views[room].held;
    if (seq == 0) return;
    if (world_chance(4)) seq = 1 + world_below(seq); /* an older one moves nothing back */
    ask(c, &text, world_chance(4) ? "read" : "ack", (struct ask){.kind = ASK_ACK, .room = room, .seq = seq});
    buf_printf(&text, ",\"room_id\":\"%s\",\"seq\":%" PRIu64 "}", scenario.room_ids[room], seq);
    say(c, &text);
}

static void ask_history(struct client *c, unsigned room)
{
    struct buf text = {0};
    ask(c, &text, "history", (struct ask){.kind = ASK_HISTORY, .room = room});
    buf_printf(&text, ",\"room_id\":\"%s\",\"%s\":%" PRIu64 ",\"limit\":%" PRIu64 "}", scenario.room_ids[room],
               world_chance(2) ? "after_seq" : "before_seq", world_below(c->views[room].held + 3), 1 + world_below(20));
    say(c, &text);
}

static void positions(const struct client *c, struct buf *out)
{
    BUF_LIT(out, "\"rooms\":{");
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++)
        buf_printf(out, "%s\"%s\":[%" PRIu64 ",%" PRIu64 "]", r ? "," : "", scenario.room_ids[r],
                   c->views[r].epoch ? c->views[r].epoch : scenario.room_epochs[r], c->views[r].held);
    BUF_LIT(out, "}");
}

static void ask_sync(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "sync", (struct ask){.kind = ASK_SYNC, .room = SCENARIO_ROOMS - 1});
    BUF_LIT(&text, ",");
    positions(c, &text);
    BUF_LIT(&text, "}");
    say(c, &text);
}

static void ask_ephemeral(struct client *c, unsigned room)
{
    struct buf text = {0};
    bool typing = world_chance(2);
    const char *type = world_chance(3) ? "typing.stop" : "typing.start";
    if (typing) ask(c, &text, type, (struct ask){.kind = ASK_TYPING, .room = room});
    else ask(c, &text, "presence.subscribe", (struct ask){.kind = ASK_PRESENCE, .room = room});
    buf_printf(&text, ",\"room_id\":\"%s\"}", scenario.room_ids[room]);
    say(c, &text);
}

static void ask_ping(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "ping", (struct ask){.kind = ASK_PING});
    BUF_LIT(&text, "}");
    say(c, &text);
}

/* message_new writes a message; most are short, some fill more than one receive buffer. */
static unsigned message_new(struct client *c)
{
    unsigned number = c->num_messages++;
    struct message *m = &c->messages[number];
    size_t padding = world_chance(8) ? world_below(6000) : world_below(40);
    *m = (struct message){.room = (unsigned)world_below(SCENARIO_ROOMS)};
    snprintf(m->client_id, sizeof m->client_id, "%s-%u", c->device, number);
    m->content = malloc(64 + padding);
    ASSERT(m->content);
    int len = snprintf(m->content, 64, "no. %u of %s ", number, c->name);
    memset(m->content + len, 'x', padding);
    m->content[(size_t)len + padding] = '\0';
    return number;
}

/* --- REST ------------------------------------------------------------------------------------------------------ */

static void request(struct client *c, const char *method, const char *path, const char *idempotency_key,
                    struct buf *body)
{
    struct line *l = &c->rest;
    bool operator = c->call == CALL_TENANT;
    bool admin_socket = operator && world_chance(2);
    if (l->link && operator) line_close(l, false);
    if (!l->link) line_open(l, admin_socket);
    buf_printf(&l->out, "%s %s HTTP/1.1\r\nHost: gateway\r\n", method, path);
    if (operator) buf_printf(&l->out, "X-Master-Key: %s\r\n", SCENARIO_MASTER_KEY);
    else buf_printf(&l->out, "X-API-Key: %s\r\nX-User-Id: %s\r\n", scenario.api_key, c->user_id);
    if (idempotency_key) buf_printf(&l->out, "Idempotency-Key: %s\r\n", idempotency_key);
    if (body->len || strcmp(method, "POST") == 0) buf_printf(&l->out, "Content-Length: %zu\r\n", body->len);
    BUF_LIT(&l->out, "\r\n");
    buf_slice_append(&l->out, buf_slice(body));
    c->call_since_ns = world_now_ns();
    world_trace("%s: %s %s", c->name, method, path);
    buf_free(body);
}

static void call_room(struct client *c, enum call_kind call, unsigned room, const char *method, const char *tail,
                      struct buf *body)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/rooms/%s%s", scenario.room_ids[room], tail);
    c->call = call;
    c->call_room = room;
    c->call_when_out = c->views[room].standing == MEMBER_NOT;
    request(c, method, path, NULL, body);
}

static void call_make_room(struct client *c, unsigned room)
{
    struct buf body = {0};
    char key[16];
    buf_printf(&body, "{\"type\":\"group\",\"name\":\"room %u\",\"members\":[", room);
    for (unsigned u = 0; u < scenario.num_users; u++) buf_printf(&body, "%s\"user%u\"", u ? "," : "", u);
    BUF_LIT(&body, "]}");
    snprintf(key, sizeof key, "room-%u", room);
    c->call = CALL_ROOM;
    c->call_room = room;
    request(c, "POST", "/v1/rooms", key, &body);
}

/* call_scenario does what must be done before anything else can be: the first client's part. */
static bool call_scenario(struct client *c)
{
    struct buf body = {0};
    if (c != &clients[0]) return false;
    if (!scenario.api_key[0]) {
        BUF_LIT(&body, "{\"name\":\"simulated\"}");
        c->call = CALL_TENANT;
        request(c, "POST", "/v1/admin/tenants", NULL, &body);
        return true;
    }
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        if (scenario.room_ids[r][0]) continue;
        call_make_room(c, r);
        return true;
    }
    return false;
}

static void call_send(struct client *c, unsigned number)
{
    struct buf body = {0};
    struct message *m = &c->messages[number];
    buf_printf(&body, "{\"client_id\":\"%s\",\"content\":\"%s\"}", m->client_id, m->content);
    if (m->state != MESSAGE_ANSWERED) m->state = MESSAGE_OPEN;
    c->call_message = number;
    call_room(c, CALL_SEND, m->room, "POST", "/messages", &body);
}

static void call_events(struct client *c, unsigned room)
{
    struct buf body = {0};
    char tail[64];
    c->call_after = world_below(c->views[room].held + 2);
    c->call_head = store_shown(slice_str(scenario.room_ids[room]));
    snprintf(tail, sizeof tail, "/events?after_seq=%" PRIu64 "&limit=%" PRIu64, c->call_after, 1 + world_below(30));
    call_room(c, CALL_EVENTS, room, "GET", tail, &body);
}

static void call_sync(struct client *c)
{
    struct buf body = {0};
    BUF_LIT(&body, "{");
    positions(c, &body);
    BUF_LIT(&body, "}");
    c->call = CALL_SYNC;
    c->call_room = SCENARIO_ROOMS - 1;
    request(c, "POST", "/v1/sync", NULL, &body);
}

static void call_membership(struct client *c, bool join)
{
    struct buf body = {0};
    unsigned room = SCENARIO_ROOMS - 1;
    call_room(c, join ? CALL_JOIN : CALL_LEAVE, room, "POST", join ? "/join" : "/leave", &body);
    c->views[room].standing = MEMBER_MAYBE;
}

static void call_list(struct client *c)
{
    struct buf body = {0};
    c->call = CALL_LIST;
    c->call_room = SCENARIO_ROOMS - 1;
    request(c, "GET", "/v1/rooms", NULL, &body);
}

static void copy_text(char *out, size_t size, struct slice text)
{
    CHECK(text.len < size, "a text longer than expected: %.*s", SLICE_FMT(text));
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
}

static void room_made(struct client *c, struct slice body)
{
    struct slice id;
    char *known = scenario.room_ids[c->call_room];
    CHECK(json_member(body, "room_id", &id), "%s: a room without id", c->name);
    copy_text(known, sizeof scenario.room_ids[0], id);
    scenario.room_epochs[c->call_room] = json_number(body, "epoch");
    CHECK(json_number(body, "last_seq") == 0, "%s: a new room with events", c->name);
}

/* standing_out: it has left, unless a join of its that was not answered is still under way. */
static enum standing standing_out(const struct client *c)
{
    return c->join_unknown == scenario.gateway ? MEMBER_MAYBE : MEMBER_NOT;
}

static void call_succeeded(struct client *c, struct slice body, uint64_t version)
{
    struct view *v = &c->views[c->call_room];
    struct slice value;
    switch (c->call) {
    case CALL_TENANT:
        CHECK(json_member(body, "api_key", &value), "%s: a tenant without a key", c->name);
        copy_text(scenario.api_key, sizeof scenario.api_key, value);
        return;
    case CALL_ROOM: room_made(c, body); return;
    case CALL_SEND: message_answered(c, c->call_message, body, version); return;
    case CALL_EVENTS:
        CHECK(!c->call_when_out || v->standing != MEMBER_NOT, "%s reads a room that it has left", c->name);
        CHECK(json_member(body, "items", &value), "%s: a page without items", c->name);
        check_last_page(c, body, check_items(c, c->call_room, value, c->call_after + 1, version, 0));
        return;
    case CALL_SYNC: check_sync(c, body, version); return;
    case CALL_JOIN: v->standing = MEMBER_SURELY; return;
    case CALL_LEAVE: v->standing = standing_out(c); return;
    case CALL_LIST:
        CHECK(json_member(body, "items", &value), "%s: a list without items", c->name);
        return;
    case CALL_NONE: break;
    }
    world_fail("%s: an answer to nothing", c->name);
}

static void call_failed(struct client *c, const struct http_answer *answer)
{
    struct slice code;
    struct view *v = &c->views[c->call_room];
    CHECK(json_member(answer->body, "code", &code), "%s: a problem without code: %.*s", c->name,
          SLICE_FMT(answer->body));
    bool final = refused(c, &c->rest, c->call_room, code);
    if (final && c->call == CALL_LEAVE) v->standing = standing_out(c);
    if (final && c->call == CALL_SEND && c->messages[c->call_message].state == MESSAGE_OPEN)
        c->messages[c->call_message].state = MESSAGE_REFUSED;
}

static void rest_read(struct client *c)
{
    struct http_answer answer;
    size_t len = wire_answer(&answer, buf_slice(&c->rest.in));
    if (len == 0) return;
    uint64_t version = link_version(c->rest.link, c->rest.offset);
    CHECK(c->call != CALL_NONE, "%s: an answer that nobody asked for: %u", c->name, answer.status);
    world_trace("%s: answer %u", c->name, answer.status);
    if (answer.status < 300) call_succeeded(c, answer.body, version);
    else call_failed(c, &answer);
    bool operator = c->call == CALL_TENANT;
    c->call = CALL_NONE;
    line_take(&c->rest, len);
    if (answer.close || operator) rest_drop(c, false);
}

/* --- what it does of its own accord ---------------------------------------------------------------------------- */

static bool is_member(const struct client *c, unsigned room)
{
    uint64_t changed;
    return store_member(slice_str(scenario.room_ids[room]), slice_str(c->user_id), store_version(), &changed);
}

/* behind: the socket does not bring what is missing: it was opened without a position, or the room was left and joined
 * again. Only coming back with the position does. */
static bool behind(const struct client *c)
{
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        const struct view *v = &c->views[r];
        if (is_member(c, r) && !v->resume_asked && (!v->on || v->left || v->next > v->held + 1)) return true;
    }
    return false;
}

static void act_socket(struct client *c)
{
    unsigned message = 0, room = (unsigned)world_below(SCENARIO_ROOMS);
    if (c->num_asked + 1 >= ASKED_MAX) return;
    switch (world_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
        if (c->num_messages < c->messages_max) ask_send(c, message_new(c));
        return;
    case 5:
    case 6:
        if (wants_repeat(c, &message)) ask_send(c, message);
        return;
    case 7: /* also what has been answered, or is being asked already */
        if (c->num_messages) ask_send(c, (unsigned)world_below(c->num_messages));
        return;
    case 8:
    case 9:
    case 10: ask_ack(c, room); return;
    case 11: ask_history(c, room); return;
    case 12: ask_sync(c); return;
    case 13:
        if (world_chance(4)) ask_ping(c);
        else ask_ephemeral(c, room);
        return;
    case 14:
        if (world_chance(4)) c->paused_until_ns = world_now_ns() + world_below(200000000);
        return;
    case 15:
        if (world_chance(3)) socket_drop(c, world_chance(2), "dropped");
        else if (world_chance(6)) wire_send(&c->socket.out, WIRE_CLOSE, true, SLICE("\x03\xe8"), 1);
        return;
    }
}

static void act_rest(struct client *c)
{
    unsigned message = 0, room = (unsigned)world_below(SCENARIO_ROOMS);
    if (call_scenario(c) || !scenario.room_ids[SCENARIO_ROOMS - 1][0]) return;
    if (scenario.restless && !c->shares_user && world_chance(2)) {
        call_membership(c, c->views[SCENARIO_ROOMS - 1].standing != MEMBER_SURELY);
        return;
    }
    switch (world_below(12)) {
    case 0:
    case 1:
        if (wants_repeat(c, &message)) call_send(c, message);
        else if (c->num_messages < c->messages_max) call_send(c, message_new(c));
        return;
    case 2:
    case 3: call_events(c, room); return;
    case 4: call_sync(c); return;
    case 5: call_list(c); return;
    case 6:
    case 7:
        if (!c->shares_user)
            call_membership(c, c->views[SCENARIO_ROOMS - 1].standing != MEMBER_SURELY || world_chance(8));
        return;
    default: return;
    }
}

static void act_healing(struct client *c)
{
    unsigned message;
    if (wants_rest(c)) call_scenario(c);
    if (!wants_socket(c)) return;
    if (c->state == SOCKET_DOWN) socket_connect(c);
    else if (wants_repeat(c, &message) && c->num_asked < ASKED_MAX) ask_send(c, message);
    else if (c->num_asked == 0 && behind(c)) socket_drop(c, false, "it is behind");
}

static void act(struct client *c)
{
    if (scenario.healing) {
        act_healing(c);
        return;
    }
    if (world_chance(6) && c->call == CALL_NONE && c->rest_retry_ns <= world_now_ns() &&
        (scenario.api_key[0] || c == &clients[0]))
        act_rest(c);
    if (c->rest.link && world_chance(200)) rest_drop(c, world_chance(2));
    if (c->state == SOCKET_DOWN && wants_socket(c)) socket_connect(c);
    else if (c->state == SOCKET_OPEN && world_chance(3)) act_socket(c);
    else if (c->socket.link && world_chance(200)) socket_drop(c, world_chance(2), "dropped early");
}

/* --- the end --------------------------------------------------------------------------------------------------- */

const char *client_unsettled(unsigned client)
{
    const struct client *c = &clients[client];
    unsigned message;
    if (!scenario.room_ids[SCENARIO_ROOMS - 1][0]) return "its rooms are not made";
    if (c->call != CALL_NONE) return "its call is not answered";
    if (c->num_asked) return "it waits for an answer";
    if (c->state != SOCKET_OPEN) return "its socket is not open";
    if (c->socket.out.len) return "it has bytes to send";
    if (wants_repeat(c, &message)) return "a message of its is not answered";
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        const struct view *v = &c->views[r];
        if (v->resume_asked) return "a room is not resumed";
        if (v->on && is_member(c, r) && v->held < store_head(slice_str(scenario.room_ids[r])))
            return "it does not hold the whole log";
    }
    return behind(c) ? "it has missed something" : NULL;
}

void client_check_stall(unsigned client)
{
    const struct client *c = &clients[client];
    uint64_t now = world_now_ns();
    for (unsigned i = 0; i < c->num_asked; i++)
        CHECK(now < c->asked[i].since_ns + STALL_NS,
              "%s has had no answer to request %" PRIu64 " (kind %d) for %" PRIu64 " s", c->name, c->asked[i].id,
              (int)c->asked[i].kind, (now - c->asked[i].since_ns) / 1000000000);
    CHECK(c->call == CALL_NONE || now < c->call_since_ns + STALL_NS, "%s has had no answer to its call (kind %d)",
          c->name, (int)c->call);
}

void client_check_end(unsigned client)
{
    const struct client *c = &clients[client];
    for (unsigned i = 0; i < c->num_messages; i++) {
        const struct message *m = &c->messages[i];
        if (m->state != MESSAGE_ANSWERED) continue;
        uint64_t seq =
            store_find(slice_str(scenario.room_ids[m->room]), slice_str(c->user_id), slice_str(m->client_id));
        CHECK(seq == m->seq, "%s was told seq %" PRIu64 " for %s, and the store has it under %" PRIu64, c->name, m->seq,
              m->client_id, seq);
    }
}

unsigned clients_messages(void)
{
    unsigned num = 0;
    for (unsigned i = 0; i < scenario.num_clients; i++)
        for (unsigned m = 0; m < clients[i].num_messages; m++) num += clients[i].messages[m].state == MESSAGE_ANSWERED;
    return num;
}
