#define _GNU_SOURCE /* memmem */
#include "client_socket.h"

#include <inttypes.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/chat/ids.h"
#include "client_state.h"
#include "faults.h"
#include "notifier.h"
#include "oracle.h"
#include "recorder.h"
#include "wire.h"
#include "world.h"

static void on_frame(struct client *c, enum wire_opcode opcode, struct slice payload, uint64_t version);
static void on_text(struct client *c, struct slice text, uint64_t version);
static void on_ok(struct client *c, struct slice text, uint64_t version);
static void on_error(struct client *c, struct slice text);
static void upgrade_read(struct client *c);
static bool take_ask(struct client *c, struct slice text, struct ask *out);
static void say_hello(struct client *c);

/* --- the end of it ------------------------------------------------------------------------------------------------ */

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

void socket_drop(struct client *c, bool reset, const char *why)
{
    line_close(&c->socket, reset);
    socket_lost(c, why);
}

bool socket_paused(const struct client *c) { return c->paused_until_ns > world_now_ns(); }

/* --- what comes --------------------------------------------------------------------------------------------------- */

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
    CHECK(excused || (answer.status == 503 && (line_disk_failed(&c->socket) || scenario.crowded)),
          "%s: its upgrade is answered %u: %.*s", c->name, answer.status, SLICE_FMT(answer.body));
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

static void on_text(struct client *c, struct slice text, uint64_t version)
{
    struct slice type;
    struct ask a;
    CHECK(json_member(text, "type", &type), "%s: a message without type: %.*s", c->name, SLICE_FMT(text));
    if (world_tracing()) world_trace("%s <- %.*s", c->name, (int)(text.len < 200 ? text.len : 200), text.data);
    if (slice_is(type, "ok")) on_ok(c, text, version);
    else if (slice_is(type, "error")) on_error(c, text);
    else if (slice_is(type, "resumed")) oracle_resumed(c, text, version);
    else if (slice_is(type, "welcome")) {
        CHECK(take_ask(c, text, &a) && a.kind == ASK_HELLO, "%s: a welcome that answers nothing", c->name);
        oracle_welcome(c, text);
    } else if (slice_is(type, "pong")) {
        CHECK(take_ask(c, text, &a) && a.kind == ASK_PING, "%s: a pong that answers nothing", c->name);
    } else if (slice_is(type, "presence.update") || slice_is(type, "typing")) {
        oracle_ephemeral(c, text);
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

static void on_error(struct client *c, struct slice text)
{
    struct slice code;
    struct ask a;
    CHECK(json_member(text, "code", &code), "%s: an error without code", c->name);
    for (unsigned i = 0; i < c->num_asked; i++) /* a room of hello that was refused: the welcome is still to come */
        if (c->asked[i].kind == ASK_HELLO && c->asked[i].id == json_number(text, "re")) {
            oracle_refused(c, &c->socket, SCENARIO_ROOMS - 1, code);
            return;
        }
    CHECK(take_ask(c, text, &a), "%s: an error that answers nothing: %.*s", c->name, SLICE_FMT(text));
    if (a.kind == ASK_NOTIFICATION && notifier_ack_refused(&a.look, code)) return;
    bool final = oracle_refused(c, &c->socket, a.room, code);
    if (a.kind == ASK_SEND && final) recorder_fail(c, &c->messages[a.message], code);
    if (a.kind == ASK_SEND && final && c->messages[a.message].state == MESSAGE_OPEN)
        c->messages[a.message].state = MESSAGE_REFUSED;
}

static void on_ok(struct client *c, struct slice text, uint64_t version)
{
    struct ask a;
    struct slice items;
    CHECK(take_ask(c, text, &a), "%s: an ok that answers nothing: %.*s", c->name, SLICE_FMT(text));
    switch (a.kind) {
    case ASK_SEND: oracle_answered(c, a.message, text, version); return;
    case ASK_HISTORY:
        CHECK(json_member(text, "items", &items), "%s: a page without items", c->name);
        oracle_page(c, a.room, items, 0, version, 0);
        return;
    case ASK_SYNC: oracle_sync(c, text, version); return;
    case ASK_ACK:
        recorder_acked(c, slice_str(scenario.room_ids[a.room]), a.seq);
        oracle_acked(c, &c->views[a.room], a.seq);
        return;
    case ASK_PRESENCE: oracle_online(c, text); return;
    case ASK_TYPING: return;
    case ASK_NOTIFICATION: notifier_acked(&a.look); return;
    case ASK_HELLO:
    case ASK_PING: break;
    }
    world_fail("%s: an ok for what is not answered by ok: %.*s", c->name, SLICE_FMT(text));
}

/* --- what it asks ------------------------------------------------------------------------------------------------- */

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

void socket_connect(struct client *c)
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
    recorder_connect(c);
    notifier_connected(c);
    world_trace("%s: connects", c->name);
}

void socket_ask_send(struct client *c, unsigned number)
{
    struct message *m = &c->messages[number];
    struct buf text = {0};
    recorder_invoke(c, m);
    ask(c, &text, "send_message", (struct ask){.kind = ASK_SEND, .message = number, .room = m->room});
    buf_printf(&text, ",\"room_id\":\"%s\",\"client_id\":\"%s\",\"content\":\"%s\"}", scenario.room_ids[m->room],
               m->client_id, m->content);
    if (m->state != MESSAGE_ANSWERED) m->state = MESSAGE_OPEN;
    say(c, &text);
}

void socket_ask_ack(struct client *c, unsigned room)
{
    struct buf text = {0};
    uint64_t seq = c->views[room].held;
    if (seq == 0) return;
    if (world_chance(4)) seq = 1 + world_below(seq); /* an older one moves nothing back */
    recorder_ack(c, slice_str(scenario.room_ids[room]), seq);
    ask(c, &text, world_chance(4) ? "read" : "ack", (struct ask){.kind = ASK_ACK, .room = room, .seq = seq});
    buf_printf(&text, ",\"room_id\":\"%s\",\"seq\":%" PRIu64 "}", scenario.room_ids[room], seq);
    say(c, &text);
}

void socket_ask_history(struct client *c, unsigned room)
{
    struct buf text = {0};
    ask(c, &text, "history", (struct ask){.kind = ASK_HISTORY, .room = room});
    buf_printf(&text, ",\"room_id\":\"%s\",\"%s\":%" PRIu64 ",\"limit\":%" PRIu64 "}", scenario.room_ids[room],
               world_chance(2) ? "after_seq" : "before_seq", world_below(c->views[room].held + 3), 1 + world_below(20));
    say(c, &text);
}

void socket_ask_sync(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "sync", (struct ask){.kind = ASK_SYNC, .room = SCENARIO_ROOMS - 1});
    BUF_LIT(&text, ",");
    client_positions(c, &text);
    BUF_LIT(&text, "}");
    say(c, &text);
}

void socket_ask_ephemeral(struct client *c, unsigned room)
{
    struct buf text = {0};
    bool typing = world_chance(2);
    const char *type = world_chance(3) ? "typing.stop" : "typing.start";
    if (typing) ask(c, &text, type, (struct ask){.kind = ASK_TYPING, .room = room});
    else ask(c, &text, "presence.subscribe", (struct ask){.kind = ASK_PRESENCE, .room = room});
    buf_printf(&text, ",\"room_id\":\"%s\"}", scenario.room_ids[room]);
    say(c, &text);
}

void socket_ask_ping(struct client *c)
{
    struct buf text = {0};
    ask(c, &text, "ping", (struct ask){.kind = ASK_PING});
    BUF_LIT(&text, "}");
    say(c, &text);
}

void socket_ask_notification(struct client *c)
{
    struct buf text = {0};
    struct ask a = {.kind = ASK_NOTIFICATION};
    char id[ID_TEXT_LEN];
    if (!notifier_choose_ack(c, &a.look)) return;
    notification_id_text(id, a.look.number);
    ask(c, &text, "ack_notification", a);
    buf_printf(&text, ",\"notification_id\":\"%.*s\"}", (int)ID_TEXT_LEN, id);
    say(c, &text);
}
