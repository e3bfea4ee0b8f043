#define _GNU_SOURCE /* memmem */
#include "client_socket.h"

#include <inttypes.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/chat/ids.h"
#include "client_state.h"
#include "counts.h"
#include "faults.h"
#include "notifier.h"
#include "oracle.h"
#include "recorder.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

static void on_frame(struct client *c, enum wire_opcode opcode, struct slice payload, uint64_t version);
static void on_close(struct client *c, struct slice payload);
static void on_text(struct client *c, struct slice text, uint64_t version);
static void on_ok(struct client *c, struct slice text, uint64_t version);
static void on_error(struct client *c, struct slice text, uint64_t version);
static void upgrade_read(struct client *c);
static bool take_ask(struct client *c, struct slice text, struct ask *out);
static void say_hello(struct client *c);

/* --- the end of it ------------------------------------------------------------------------------------------- */

/* socket_lost: what was asked and not answered is unknown from now on. */
static void socket_lost(struct client *c, const char *why)
{
    world_trace("%s: socket ends: %s", c->name, why);
    c->state = SOCKET_DOWN;
    c->num_asked = 0;
    for (unsigned r = 0; r < SCENARIO_ROOMS_MAX; r++) {
        struct view *v = &c->views[r];
        v->on = v->resume_asked = v->after_asked = v->left = false;
        v->num_crossing = 0;
    }
    /* the long one: gone for others */
    uint64_t away_ns = scenario.crowded && world_chance(4) ? 9000000000u : 50000000u;
    c->retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(away_ns));
    c->paused_until_ns = 0;
}

void socket_drop(struct client *c, bool reset, const char *why)
{
    line_close(&c->socket, reset);
    socket_lost(c, why);
}

bool socket_paused(const struct client *c) { return c->paused_until_ns > world_now_ns(); }

/* --- what comes ---------------------------------------------------------------------------------------------- */

void socket_read(struct client *c)
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

static void upgrade_read(struct client *c)
{
    struct http_answer answer;
    struct slice code;
    size_t len = wire_answer(&answer, buf_slice(&c->socket.in));
    if (len == 0) return;
    struct ask upgrade = client_ask(ASK_HELLO, ROOM_ANY);
    upgrade.moment = c->opened_moment;
    if (answer.status == 101) {
        CHECK(memmem(c->socket.in.data, len, SAMPLE_ACCEPT, sizeof SAMPLE_ACCEPT - 1), "%s: a wrong accept key",
              c->name);
        oracle_served(c, &c->socket, &upgrade, 0);
        c->served_moment = scenario.moment;
        line_take(&c->socket, len);
        c->state = SOCKET_GREETING;
        count_happened(c->greeted_by_hello ? COUNT_SOCKETS : COUNT_SOCKETS_AT_ONCE);
        if (c->greeted_by_hello) say_hello(c);
        else c->state = SOCKET_OPEN;
        return;
    }
    CHECK(json_member(answer.body, "code", &code), "%s: its upgrade is answered %u without a code", c->name,
          answer.status);
    oracle_refused(c, &c->socket, &upgrade, code, link_version(c->socket.link, c->socket.offset));
    socket_drop(c, false, "the upgrade was refused");
}

static void on_frame(struct client *c, enum wire_opcode opcode, struct slice payload, uint64_t version)
{
    switch (opcode) {
    case WIRE_TEXT:
        CHECK(c->state != SOCKET_DOWN, "a frame on a closed socket");
        on_text(c, payload, version);
        return;
    case WIRE_PING: wire_send(&c->socket.out, WIRE_PONG, true, payload, (uint32_t)world_random()); return;
    case WIRE_CLOSE: on_close(c, payload); return;
    case WIRE_PONG: return;
    case WIRE_CONTINUATION:
    case WIRE_BINARY: break;
    }
    world_fail("%s: an unexpected frame", c->name);
}

/* unserved: a fault may have kept the gateway from reading the user's rooms, or from taking up its hello. */
static bool unserved(const struct line *l)
{
    return faults_excuse(l->gateway, SLICE("store.read_failed")) ||
           faults_excuse(l->gateway, SLICE("store.overloaded")) ||
           faults_excuse(l->gateway, SLICE("server.overloaded"));
}

/* close_explained: every code has a reason that the scenario gave. Time jumps, so a socket is idle or stalls at any
 * time. */
static bool close_explained(const struct client *c, unsigned code)
{
    const struct scenario_tenant *t = &scenario.tenants[c->tenant];
    switch (code) {
    case 1000: return c->state == SOCKET_CLOSING;
    case 1001: count_happened(COUNT_CLOSED_1001); return true;
    case 4001: count_happened(COUNT_CLOSED_4001); return c->greeted_by_hello && c->state == SOCKET_GREETING;
    case 4003: count_happened(COUNT_CLOSED_4003); return toggle_may_hold(&t->kicked[c->user], c->opened_moment);
    case 4004:
        count_happened(COUNT_CLOSED_4004);
        return toggle_may_hold(&t->keys[c->socket.key].revoked, c->opened_moment) ||
               toggle_may_hold(&t->disabled, c->opened_moment) || t->deleted.maybe;
    case 4100: return scenario.crowded || line_disk_failed(&c->socket) || line_late(&c->socket) || unserved(&c->socket);
    case 4129: count_happened(COUNT_CLOSED_4129); return toggle_may_hold(&t->limited, c->opened_moment);
    case 4200: count_happened(COUNT_CLOSED_4200); return true;
    }
    return false;
}

static void on_close(struct client *c, struct slice payload)
{
    unsigned code =
        payload.len < 2 ? 1005 : (unsigned)(unsigned char)payload.data[0] << 8 | (unsigned char)payload.data[1];
    world_trace("%s: close %u", c->name, code);
    CHECK(close_explained(c, code), "%s is closed with %u without a reason", c->name, code);
    if (c->state != SOCKET_CLOSING) wire_send(&c->socket.out, WIRE_CLOSE, true, payload, (uint32_t)world_random());
    c->state = SOCKET_CLOSING;
}

static void on_text(struct client *c, struct slice text, uint64_t version)
{
    struct slice type;
    struct ask a;
    CHECK(json_member(text, "type", &type), "%s: a message without type: %.*s", c->name, SLICE_FMT(text));
    if (world_tracing()) world_trace("%s <- %.*s", c->name, (int)(text.len < 200 ? text.len : 200), text.data);
    if (slice_is(type, "ok")) on_ok(c, text, version);
    else if (slice_is(type, "error")) on_error(c, text, version);
    else if (slice_is(type, "resumed")) oracle_resumed(c, text, version);
    else if (slice_is(type, "welcome")) {
        CHECK(take_ask(c, text, &a) && a.kind == ASK_HELLO, "%s: a welcome that answers nothing", c->name);
        oracle_served(c, &c->socket, &a, version);
        oracle_welcome(c, &a, text, version);
    } else if (slice_is(type, "pong")) {
        CHECK(take_ask(c, text, &a) && a.kind == ASK_PING, "%s: a pong that answers nothing", c->name);
    } else if (slice_is(type, "presence.update") || slice_is(type, "typing")) {
        oracle_ephemeral(c, text);
    } else if (slice_is(type, "server.shutdown")) {
        CHECK(line_draining(&c->socket), "%s is told of a shutdown that nobody asked for", c->name);
        count_happened(COUNT_DRAINS_TOLD);
    } else if (slice_is(type, "notification")) {
        notifier_pushed(c, text, version);
    } else {
        oracle_push(c, text, version);
    }
}

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

static void on_error(struct client *c, struct slice text, uint64_t version)
{
    struct slice code;
    struct ask a;
    CHECK(json_member(text, "code", &code), "%s: an error without code", c->name);
    for (unsigned i = 0; i < c->num_asked; i++) /* a room of hello that was refused: the welcome is still to come */
        if (c->asked[i].kind == ASK_HELLO && c->asked[i].id == json_number(text, "re")) {
            oracle_refused(c, &c->socket, &c->asked[i], code, version);
            return;
        }
    CHECK(take_ask(c, text, &a), "%s: an error that answers nothing: %.*s", c->name, SLICE_FMT(text));
    if (a.kind == ASK_SYNC) c->syncs[SYNC_SOCKET].cursor[0] = '\0';
    if (a.kind == ASK_SUBSCRIBE || a.kind == ASK_UNSUBSCRIBE) c->views[a.room].num_crossing--;
    if (a.kind == ASK_NOTIFICATION && notifier_ack_refused(&a.look, code)) return;
    bool final = oracle_refused(c, &c->socket, &a, code, version);
    if (a.kind != ASK_SEND || a.twisted || !final) return;
    struct message *m = &clients[a.author].messages[a.message];
    recorder_fail(c, m, code);
    if (m->state == MESSAGE_OPEN && !client_message_on_its_way(a.author, a.message)) m->state = MESSAGE_REFUSED;
}

/* check_not_kicked: a socket that was there when the operator asked for its end serves nothing that is asked behind the
 * operator's answer. */
static void check_not_kicked(const struct client *c, const struct ask *a)
{
    const struct toggle *kicked = &scenario.tenants[c->tenant].kicked[c->user];
    CHECK(c->served_moment >= kicked->since_moment || kicked->over_moment <= kicked->since_moment ||
              a->moment <= kicked->over_moment,
          "%s is served on a socket that was kicked", c->name);
}

static void on_ok(struct client *c, struct slice text, uint64_t version)
{
    struct ask a;
    CHECK(take_ask(c, text, &a), "%s: an ok that answers nothing: %.*s", c->name, SLICE_FMT(text));
    oracle_served(c, &c->socket, &a, version);
    check_not_kicked(c, &a);
    switch (a.kind) {
    case ASK_SEND:
        recorder_ok(c, &clients[a.author].messages[a.message], text, line_epoch(&c->socket));
        oracle_answered(c, &a, text, version);
        return;
    case ASK_HISTORY:
        recorder_page(c, text, "items", false, line_epoch(&c->socket));
        oracle_page(c, &a, text, version);
        return;
    case ASK_SYNC: oracle_sync(c, &c->syncs[SYNC_SOCKET], text, version, line_epoch(&c->socket)); return;
    case ASK_ACK:
        recorder_acked(c, slice_str(scenario.rooms[a.room].id), a.seq, c->socket.gateway);
        oracle_acked(c, &a, c->socket.gateway);
        return;
    case ASK_PRESENCE: oracle_online(c, text); return;
    case ASK_SUBSCRIBE:
    case ASK_UNSUBSCRIBE: oracle_subscribed(c, &a, text); return;
    case ASK_TYPING: return;
    case ASK_NOTIFICATION: notifier_acked(&a.look); return;
    default: break;
    }
    world_fail("%s: an ok for what is not answered by ok: %.*s", c->name, SLICE_FMT(text));
}

/* --- what it asks -------------------------------------------------------------------------------------------- */

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
    c->asked[c->num_asked++] = a;
    buf_printf(text, "{\"type\":\"%s\",\"id\":%" PRIu64, type, a.id);
}

/* position_choose: mostly what is held; now and then a position that never was, or an earlier one. */
static void position_choose(struct client *c, unsigned room)
{
    struct view *v = &c->views[room];
    if (v->epoch == 0) v->epoch = scenario.rooms[room].epoch;
    v->asked_epoch = v->epoch;
    v->asked_seq = v->held;
    v->asked_version = store_version();
    v->asked_seen = scenario.rooms[room].seen;
    if (scenario.healing || !world_chance(12)) return;
    switch (world_below(5)) {
    case 0: v->asked_epoch = world_chance(2) ? 0 : line_epoch(&c->socket) + 1 + world_below(1000); return;
    case 1: v->asked_seq = v->held + 1 + world_below(1000); return;
    case 2: v->asked_seq = world_below(v->held + 1); return;
    case 3: v->asked_epoch = 1 + world_below(line_epoch(&c->socket)); return;
    case 4: v->asked_epoch = line_epoch(&c->socket); return;
    }
}

static void say_hello(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "hello", client_ask(ASK_HELLO, ROOM_ANY));
    buf_printf(&text, ",\"device\":\"%s\"", c->device);
    c->wants_all = scenario.healing || !world_chance(6);
    if (!c->wants_all || world_chance(2)) buf_printf(&text, ",\"rooms\":\"%s\"", c->wants_all ? "all" : "none");
    const char *separator = ",\"resume\":{";
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        struct view *v = &c->views[r];
        v->acked_before = v->acked_gateway == c->socket.gateway ? v->acked : 0; /* welcome shows rooms unnamed too */
        bool foreign = scenario.rooms[r].tenant != c->tenant && !scenario.healing && world_chance(20);
        if (!scenario_room_known(r) || (!client_in(c, r) && !foreign)) continue;
        if (!foreign && !scenario.healing && world_chance(6)) continue;
        if (!foreign) v->resume_asked = true;
        position_choose(c, r);
        buf_printf(&text, "%s\"%s\":[%" PRIu64 ",%" PRIu64 "]", separator, scenario.rooms[r].id, v->asked_epoch,
                   v->asked_seq);
        separator = ",";
    }
    if (separator[1] == '\0') BUF_LIT(&text, "}");
    BUF_LIT(&text, "}");
    say(c, &text);
}

void socket_connect(struct client *c)
{
    line_open(&c->socket, c->tenant, false);
    c->opened_moment = scenario.moment;
    /* Two clients of one user ack for each other; only one that says what it holds is owed the rest. What a fast room
     * has lost is learned of by a position alone. */
    bool at_once = !scenario.healing && !c->shares_user && !scenario.tenants[c->tenant].fast && world_chance(6);
    c->greeted_by_hello = !at_once;
    c->wants_all = at_once;
    buf_printf(&c->socket.out,
               "GET /v1/ws HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " SAMPLE_KEY "\r\nX-API-Key: %s\r\nX-User-Id: %s\r\n"
               "X-Device-Id: %s\r\n%s\r\n",
               line_key(&c->socket), c->user_id, c->device,
               c->greeted_by_hello ? "Sec-WebSocket-Protocol: carillon.v1.json\r\n" : "");
    c->state = SOCKET_UPGRADING;
    recorder_connect(c);
    notifier_connected(c);
    world_trace("%s: connects", c->name);
}

void socket_ask_send(struct client *c, unsigned author, unsigned message, bool twisted)
{
    struct message *m = &clients[author].messages[message];
    struct buf text = {0};
    struct ask a = client_ask(ASK_SEND, m->room);
    a.author = author;
    a.message = message;
    a.twisted = twisted;
    count_happened(COUNT_SENDS);
    if (author != c->number) count_happened(COUNT_SENDS_OTHER_DEVICE);
    if (client_message_on_its_way(author, message)) count_happened(COUNT_SENDS_TOGETHER);
    if (!twisted) recorder_invoke(c, m);
    ask(c, &text, "send_message", a);
    buf_printf(&text, ",\"room_id\":\"%s\",\"client_id\":\"%s\",\"content\":\"%s%s\"}", scenario.rooms[m->room].id,
               m->client_id, m->content, twisted ? "?" : "");
    if (m->state != MESSAGE_ANSWERED) m->state = MESSAGE_OPEN;
    say(c, &text);
}

void socket_ask_ack(struct client *c, unsigned room)
{
    struct buf text = {0};
    struct ask a = client_ask(ASK_ACK, room);
    a.seq = c->views[room].held;
    if (a.seq == 0) return;
    if (world_chance(4)) a.seq = 1 + world_below(a.seq); /* an older one moves nothing back */
    a.twisted = world_chance(16);
    if (a.twisted) a.seq = 1000000 + world_below(1000);
    count_happened(COUNT_ACKS);
    if (!a.twisted) recorder_ack(c, slice_str(scenario.rooms[room].id), a.seq);
    ask(c, &text, world_chance(4) ? "read" : "ack", a);
    buf_printf(&text, ",\"room_id\":\"%s\",\"seq\":%" PRIu64 "}", scenario.rooms[room].id, a.seq);
    say(c, &text);
}

void socket_ask_history(struct client *c, unsigned room)
{
    struct buf text = {0};
    struct ask a = client_ask(ASK_HISTORY, room);
    a.before = world_chance(2);
    a.seq = world_below(c->views[room].held + 3) + a.before;
    a.limit = 1 + (unsigned)world_below(20);
    ask(c, &text, "history", a);
    buf_printf(&text, ",\"room_id\":\"%s\",\"%s\":%" PRIu64 ",\"limit\":%u}", scenario.rooms[room].id,
               a.before ? "before_seq" : "after_seq", a.seq, a.limit);
    say(c, &text);
}

static bool syncs(const struct client *c)
{
    for (unsigned i = 0; i < c->num_asked; i++)
        if (c->asked[i].kind == ASK_SYNC) return true;
    return false;
}

void socket_ask_sync(struct client *c)
{
    struct buf text = {0};
    if (syncs(c)) return; /* one after the other: pages of one go on where the last one ended */
    ask(c, &text, "sync", client_ask(ASK_SYNC, ROOM_ANY));
    BUF_LIT(&text, ",");
    client_sync(c, &c->syncs[SYNC_SOCKET], &text);
    BUF_LIT(&text, "}");
    say(c, &text);
}

void socket_ask_ephemeral(struct client *c, unsigned room)
{
    struct buf text = {0};
    bool typing = world_chance(2);
    const char *type = world_chance(3) ? "typing.stop" : "typing.start";
    if (typing) ask(c, &text, type, client_ask(ASK_TYPING, room));
    else ask(c, &text, "presence.subscribe", client_ask(ASK_PRESENCE, room));
    buf_printf(&text, ",\"room_id\":\"%s\"}", scenario.rooms[room].id);
    say(c, &text);
}

void socket_ask_ping(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "ping", client_ask(ASK_PING, ROOM_ANY));
    BUF_LIT(&text, "}");
    say(c, &text);
}

/* socket_ask_subscribe: what hello has asked for is answered first. A subscription that names a seq is the only one
 * under way, because its `resumed` names no request. */
void socket_ask_subscribe(struct client *c, unsigned room)
{
    struct view *v = &c->views[room];
    struct buf text = {0};
    struct ask a = client_ask(ASK_SUBSCRIBE, room);
    if (c->state != SOCKET_OPEN || !c->greeted_by_hello || v->resume_asked || v->after_asked) return;
    for (unsigned i = 0; i < c->num_asked; i++)
        if (c->asked[i].kind == ASK_SUBSCRIBE && c->asked[i].room == room && c->asked[i].after) return;
    a.after = v->num_crossing == 0 && oracle_holds(c, room) && world_chance(2);
    a.seq = world_chance(3) ? world_below(v->held + 1) : v->held;
    if (v->num_crossing++) count_happened(COUNT_SUBSCRIBES_CROSSED);
    count_happened(a.after ? COUNT_SUBSCRIBES_AFTER : COUNT_SUBSCRIBES);
    ask(c, &text, "subscribe", a);
    buf_printf(&text, ",\"room_id\":\"%s\"", scenario.rooms[room].id);
    if (a.after) buf_printf(&text, ",\"after_seq\":%" PRIu64, a.seq);
    BUF_LIT(&text, "}");
    say(c, &text);
}

void socket_ask_unsubscribe(struct client *c, unsigned room)
{
    struct view *v = &c->views[room];
    struct buf text = {0};
    if (c->state != SOCKET_OPEN || !c->greeted_by_hello || v->resume_asked) return;
    if (v->num_crossing++) count_happened(COUNT_SUBSCRIBES_CROSSED);
    count_happened(COUNT_UNSUBSCRIBES);
    ask(c, &text, "unsubscribe", client_ask(ASK_UNSUBSCRIBE, room));
    buf_printf(&text, ",\"room_id\":\"%s\"}", scenario.rooms[room].id);
    say(c, &text);
}

void socket_ask_notification(struct client *c)
{
    struct buf text = {0};
    struct ask a = client_ask(ASK_NOTIFICATION, ROOM_ANY);
    char id[ID_TEXT_LEN];
    if (!notifier_choose_ack(c, &a.look)) return;
    notification_id_text(id, a.look.number);
    ask(c, &text, "ack_notification", a);
    buf_printf(&text, ",\"notification_id\":\"%.*s\"}", (int)ID_TEXT_LEN, id);
    say(c, &text);
}
