#include "client_rest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client_state.h"
#include "oracle.h"
#include "recorder.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

static void call_succeeded(struct client *c, struct slice body, uint64_t version);
static void call_failed(struct client *c, const struct http_answer *answer);
static void copy_text(char *out, size_t size, struct slice text);
static void room_made(struct client *c, struct slice body);

void client_rest_drop(struct client *c, bool reset)
{
    if (c->call == CALL_JOIN) c->join_lost_gateway = c->rest.gateway;
    line_close(&c->rest, reset);
    c->call = CALL_NONE;
    c->rest_retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(50000000));
}

/* --- what it asks ---------------------------------------------------------------------------------------------- */

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

bool client_rest_scenario(struct client *c)
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

void client_rest_send(struct client *c, unsigned number)
{
    struct buf body = {0};
    struct message *m = &c->messages[number];
    recorder_invoke(c, m);
    buf_printf(&body, "{\"client_id\":\"%s\",\"content\":\"%s\"}", m->client_id, m->content);
    if (m->state != MESSAGE_ANSWERED) m->state = MESSAGE_OPEN;
    c->call_message = number;
    call_room(c, CALL_SEND, m->room, "POST", "/messages", &body);
}

void client_rest_events(struct client *c, unsigned room)
{
    struct buf body = {0};
    char tail[64];
    c->call_after = world_below(c->views[room].held + 2);
    c->call_head = store_shown(slice_str(scenario.room_ids[room]));
    snprintf(tail, sizeof tail, "/events?after_seq=%" PRIu64 "&limit=%" PRIu64, c->call_after, 1 + world_below(30));
    call_room(c, CALL_EVENTS, room, "GET", tail, &body);
}

void client_rest_sync(struct client *c)
{
    struct buf body = {0};
    BUF_LIT(&body, "{");
    client_positions(c, &body);
    BUF_LIT(&body, "}");
    c->call = CALL_SYNC;
    c->call_room = SCENARIO_ROOMS - 1;
    request(c, "POST", "/v1/sync", NULL, &body);
}

void client_rest_membership(struct client *c, bool join)
{
    struct buf body = {0};
    unsigned room = SCENARIO_ROOMS - 1;
    if (join) recorder_member(world_now_ns(), slice_str(scenario.room_ids[room]), slice_str(c->user_id));
    call_room(c, join ? CALL_JOIN : CALL_LEAVE, room, "POST", join ? "/join" : "/leave", &body);
    c->views[room].standing = MEMBER_MAYBE;
}

void client_rest_list(struct client *c)
{
    struct buf body = {0};
    c->call = CALL_LIST;
    c->call_room = SCENARIO_ROOMS - 1;
    request(c, "GET", "/v1/rooms", NULL, &body);
}

/* --- what it is answered ------------------------------------------------------------------------------------------ */

void client_rest_read(struct client *c)
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
    if (answer.close || operator) client_rest_drop(c, false);
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
    case CALL_SEND: oracle_answered(c, c->call_message, body, version); return;
    case CALL_EVENTS:
        CHECK(!c->call_when_out || v->standing != MEMBER_NOT, "%s reads a room that it has left", c->name);
        CHECK(json_member(body, "items", &value), "%s: a page without items", c->name);
        oracle_page(c, c->call_room, value, c->call_after + 1, version, 0);
        oracle_page_end(c, body, value);
        return;
    case CALL_SYNC: oracle_sync(c, body, version); return;
    case CALL_JOIN: v->standing = MEMBER_SURELY; return;
    case CALL_LEAVE:
        if (c->join_lost_gateway != c->rest.gateway)
            recorder_left(slice_str(scenario.room_ids[c->call_room]), slice_str(c->user_id));
        v->standing = MEMBER_NOT;
        return;
    case CALL_LIST:
        CHECK(json_member(body, "items", &value), "%s: a list without items", c->name);
        return;
    case CALL_NONE: break;
    }
    world_fail("%s: an answer to nothing", c->name);
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
    for (unsigned i = 0; i < scenario.num_clients; i++) recorder_member(0, id, slice_str(clients[i].user_id));
    scenario.room_epochs[c->call_room] = json_number(body, "epoch");
    CHECK(json_number(body, "last_seq") == 0, "%s: a new room with events", c->name);
}

static void call_failed(struct client *c, const struct http_answer *answer)
{
    struct slice code;
    struct view *v = &c->views[c->call_room];
    CHECK(json_member(answer->body, "code", &code), "%s: a problem without code: %.*s", c->name,
          SLICE_FMT(answer->body));
    bool final = oracle_refused(c, &c->rest, c->call_room, code);
    if (final && c->call == CALL_SEND) recorder_fail(c, &c->messages[c->call_message], code);
    if (final && c->call == CALL_LEAVE) v->standing = MEMBER_NOT;
    if (final && c->call == CALL_SEND && c->messages[c->call_message].state == MESSAGE_OPEN)
        c->messages[c->call_message].state = MESSAGE_REFUSED;
}
