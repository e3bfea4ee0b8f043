#include "client_rest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client_state.h"
#include "counts.h"
#include "oracle.h"
#include "recorder.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

#define STRANGERS_AT_ONCE 40u

static void call_succeeded(struct client *c, const struct ask *a, struct slice body, uint64_t version);
static void call_failed(struct client *c, const struct ask *a, const struct http_answer *answer, uint64_t version);
static void room_made(struct client *c, unsigned room, struct slice body);

void client_rest_drop(struct client *c, bool reset)
{
    line_close(&c->rest, reset);
    if (c->call.kind == ASK_SYNC) c->syncs[SYNC_REST].cursor[0] = '\0';
    c->call.kind = ASK_NONE;
    c->rest_retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(50000000));
}

/* --- what it asks -------------------------------------------------------------------------------------------- */

static void request(struct client *c, struct ask a, const char *method, const char *path, const char *idempotency_key,
                    struct buf *body)
{
    struct line *l = &c->rest;
    c->call = a;
    if (!l->link) line_open(l, c->tenant, false);
    buf_printf(&l->out, "%s %s HTTP/1.1\r\nHost: gateway\r\n", method, path);
    buf_printf(&l->out, "X-API-Key: %s\r\nX-User-Id: %s\r\nX-Device-Id: %s\r\n", line_key(l), c->user_id, c->device);
    if (idempotency_key) buf_printf(&l->out, "Idempotency-Key: %s\r\n", idempotency_key);
    if (body->len || strcmp(method, "POST") == 0) buf_printf(&l->out, "Content-Length: %zu\r\n", body->len);
    BUF_LIT(&l->out, "\r\n");
    buf_slice_append(&l->out, buf_slice(body));
    world_trace("%s: %s %s", c->name, method, path);
    buf_free(body);
}

static void call_room(struct client *c, struct ask a, const char *method, const char *tail, struct buf *body)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/rooms/%s%s", scenario.rooms[a.room].id, tail);
    request(c, a, method, path, NULL, body);
}

static void room_members(struct buf *out, const struct scenario_room *r)
{
    const char *separator = "";
    for (unsigned u = 0; u < USERS_MAX; u++) {
        if (!(r->first_members >> u & 1)) continue;
        buf_printf(out, "%s\"user%u\"", separator, u);
        separator = ",";
    }
}

void client_rest_room(struct client *c, unsigned room)
{
    struct scenario_room *r = &scenario.rooms[room];
    struct buf body = {0};
    char key[16];
    if (r->rule == RULE_DIRECT) BUF_LIT(&body, "{\"type\":\"dm\",\"members\":[");
    else /* the same names in every tenant */
        buf_printf(&body, "{\"type\":\"group\",\"name\":\"room\",\"is_private\":%s,\"members\":[",
                   r->rule == RULE_RULED ? "true" : "false");
    room_members(&body, r);
    BUF_LIT(&body, "]}");
    snprintf(key, sizeof key, "room-%u", room);
    r->asked = true;
    if (scenario_room_known(room)) count_happened(COUNT_ROOMS_MADE_AGAIN);
    request(c, client_ask(ASK_ROOM, room), "POST", "/v1/rooms", key, &body);
    r->creations[c->rest.gateway]++;
}

void client_rest_send(struct client *c, unsigned author, unsigned message)
{
    struct buf body = {0};
    struct message *m = &clients[author].messages[message];
    struct ask a = client_ask(ASK_SEND, m->room);
    a.author = author;
    a.message = message;
    count_happened(COUNT_SENDS);
    if (author != c->number) count_happened(COUNT_SENDS_OTHER_DEVICE);
    if (client_message_on_its_way(author, message)) count_happened(COUNT_SENDS_TOGETHER);
    buf_printf(&body, "{\"client_id\":\"%s\",\"content\":\"%s\"}", m->client_id, m->content);
    if (m->state != MESSAGE_ANSWERED) m->state = MESSAGE_OPEN;
    recorder_invoke(c, m);
    call_room(c, a, "POST", "/messages", &body);
}

void client_rest_events(struct client *c, unsigned room)
{
    struct buf body = {0};
    struct ask a = client_ask(world_chance(3) ? ASK_HISTORY : ASK_EVENTS, room);
    char tail[96];
    a.before = world_chance(3);
    a.seq = world_below(c->views[room].held + 2) + a.before;
    a.limit = 1 + (unsigned)world_below(world_chance(4) ? 300 : 30);
    snprintf(tail, sizeof tail, "/%s?%s=%" PRIu64 "&limit=%u", a.kind == ASK_EVENTS ? "events" : "messages",
             a.before ? "before_seq" : "after_seq", a.seq, a.limit);
    call_room(c, a, "GET", tail, &body);
}

void client_rest_sync(struct client *c)
{
    struct buf body = {0};
    BUF_LIT(&body, "{");
    client_sync(c, &c->syncs[SYNC_REST], &body);
    BUF_LIT(&body, "}");
    request(c, client_ask(ASK_SYNC, ROOM_ANY), "POST", "/v1/sync", NULL, &body);
}

/* removal_asked: until it is answered, or that gateway has ended, nobody knows whether the user is a member. */
static void removal_asked(const struct client *c, unsigned room, unsigned user)
{
    scenario.rooms[room].removals[user][c->rest.gateway].pending++;
}

static void removal_answered(const struct client *c, const struct ask *a)
{
    struct removal *m = &scenario.rooms[a->room].removals[a->user][c->rest.gateway];
    m->pending--;
    m->answered_version = store_version();
}

void client_rest_membership(struct client *c, unsigned room, bool join)
{
    struct buf body = {0};
    struct ask a = client_ask(join ? ASK_JOIN : ASK_LEAVE, room);
    a.user = c->user;
    if (join) recorder_joins(room, c->user);
    call_room(c, a, "POST", join ? "/join" : "/leave", &body);
    if (!join) removal_asked(c, room, c->user);
}

void client_rest_add(struct client *c, unsigned room, unsigned user)
{
    struct buf body = {0};
    struct scenario_room *r = &scenario.rooms[room];
    struct ask a = client_ask(ASK_ADD, room);
    a.user = user;
    BUF_LIT(&body, "{\"members\":[");
    for (unsigned i = 0; r->rule == RULE_LARGE && i < STRANGERS_AT_ONCE; i++)
        buf_printf(&body, "%s\"stranger%u\"", i ? "," : "", r->num_strangers++);
    if (r->rule != RULE_LARGE) {
        buf_printf(&body, "\"user%u\"", user);
        recorder_joins(room, user);
    }
    BUF_LIT(&body, "]}");
    call_room(c, a, "POST", "/members", &body);
}

void client_rest_remove(struct client *c, unsigned room, unsigned user)
{
    struct buf body = {0};
    char tail[48];
    struct ask a = client_ask(ASK_REMOVE, room);
    a.user = user;
    snprintf(tail, sizeof tail, "/members/user%u", user);
    call_room(c, a, "DELETE", tail, &body);
    removal_asked(c, room, user);
}

void client_rest_role(struct client *c, unsigned room, unsigned user)
{
    struct buf body = {0};
    char tail[48];
    struct ask a = client_ask(ASK_ROLE, room);
    a.user = user;
    snprintf(tail, sizeof tail, "/members/user%u", user);
    buf_printf(&body, "{\"role\":\"%s\"}", world_chance(2) ? "admin" : "member");
    call_room(c, a, "PATCH", tail, &body);
}

void client_rest_ack(struct client *c, unsigned room)
{
    struct buf body = {0};
    struct ask a = client_ask(ASK_ACK, room);
    a.seq = c->views[room].held;
    if (a.seq == 0) return;
    if (world_chance(4)) a.seq = 1 + world_below(a.seq);
    count_happened(COUNT_ACKS);
    recorder_ack(c, slice_str(scenario.rooms[room].id), a.seq);
    buf_printf(&body, "{\"room_id\":\"%s\",\"seq\":%" PRIu64 "}", scenario.rooms[room].id, a.seq);
    request(c, a, "POST", world_chance(4) ? "/v1/reads" : "/v1/acks", NULL, &body);
}

void client_rest_list(struct client *c)
{
    struct buf body = {0};
    request(c, client_ask(ASK_LIST, ROOM_ANY), "GET", "/v1/rooms", NULL, &body);
}

/* --- what it is answered ------------------------------------------------------------------------------------- */

void client_rest_read(struct client *c)
{
    struct http_answer answer;
    size_t len = wire_answer(&answer, buf_slice(&c->rest.in));
    if (len == 0) return;
    uint64_t version = link_version(c->rest.link, c->rest.offset);
    struct ask a = c->call;
    CHECK(a.kind != ASK_NONE, "%s: an answer that nobody asked for: %u", c->name, answer.status);
    world_trace("%s: answer %u", c->name, answer.status);
    c->call.kind = ASK_NONE;
    if (a.kind == ASK_LEAVE || a.kind == ASK_REMOVE) removal_answered(c, &a);
    if (a.kind == ASK_ROOM) scenario.rooms[a.room].creations[c->rest.gateway]--;
    bool lets_in = a.kind == ASK_JOIN || (a.kind == ASK_ADD && scenario.rooms[a.room].rule != RULE_LARGE);
    if (lets_in) recorder_joined(a.room, a.user, c->rest.gateway);
    if (answer.status < 300) call_succeeded(c, &a, answer.body, version);
    else call_failed(c, &a, &answer, version);
    line_take(&c->rest, len);
    if (answer.close) client_rest_drop(c, false);
}

static void check_list(const struct client *c, struct slice body)
{
    struct slice items, item, id;
    CHECK(json_member(body, "items", &items), "%s: a list without items", c->name);
    while (json_element(&items, &item)) {
        CHECK(json_member(item, "room_id", &id), "%s: a room without id", c->name);
        scenario_room_find(c->tenant, id);
    }
}

static void call_succeeded(struct client *c, const struct ask *a, struct slice body, uint64_t version)
{
    bool changed = json_number(body, "changed") > 0;
    oracle_served(c, &c->rest, a, version);
    switch (a->kind) {
    case ASK_ROOM: room_made(c, a->room, body); return;
    case ASK_SEND:
        recorder_ok(c, &clients[a->author].messages[a->message], body, line_epoch(&c->rest));
        oracle_answered(c, a, body, version);
        return;
    case ASK_EVENTS:
    case ASK_HISTORY:
        recorder_page(c, body, "items", a->kind == ASK_EVENTS, line_epoch(&c->rest));
        oracle_page(c, a, body, version);
        return;
    case ASK_SYNC: oracle_sync(c, &c->syncs[SYNC_REST], body, version, line_epoch(&c->rest)); return;
    case ASK_ACK:
        recorder_acked(c, slice_str(scenario.rooms[a->room].id), a->seq, c->rest.gateway);
        oracle_acked(c, a, c->rest.gateway);
        return;
    case ASK_LIST: check_list(c, body); return;
    case ASK_JOIN: count_more(COUNT_JOINS, changed); return;
    case ASK_LEAVE:
        recorder_left(a->room, a->user, a->moment);
        count_more(COUNT_LEAVES, changed);
        return;
    case ASK_ADD: count_more(COUNT_ADDS, changed); return;
    case ASK_REMOVE:
        recorder_left(a->room, a->user, a->moment);
        count_more(COUNT_REMOVES, changed);
        return;
    case ASK_ROLE: count_more(COUNT_ROLES, changed); return;
    default: break;
    }
    world_fail("%s: an answer to nothing", c->name);
}

static void room_made(struct client *c, unsigned room, struct slice body)
{
    struct slice id;
    struct scenario_room *r = &scenario.rooms[room];
    CHECK(json_member(body, "room_id", &id) && id.len < sizeof r->id, "%s: a room without id", c->name);
    if (scenario_room_known(room)) {
        CHECK(slice_is(id, r->id), "%s made room %u twice: %s and %.*s", c->name, room, r->id, SLICE_FMT(id));
        return;
    }
    memcpy(r->id, id.data, id.len);
    r->known_moment = scenario.moment;
    r->epoch = json_number(body, "epoch");
    CHECK(json_number(body, "last_seq") == 0, "%s: a new room with events", c->name);
    count_happened(COUNT_ROOMS_MADE);
    if (r->rule == RULE_DIRECT) count_happened(COUNT_ROOMS_DIRECT);
    if (r->rule == RULE_LARGE) count_happened(COUNT_ROOMS_LARGE);
}

static void call_failed(struct client *c, const struct ask *a, const struct http_answer *answer, uint64_t version)
{
    struct slice code;
    CHECK(json_member(answer->body, "code", &code), "%s: a problem without code: %.*s", c->name,
          SLICE_FMT(answer->body));
    if (a->kind == ASK_SYNC) c->syncs[SYNC_REST].cursor[0] = '\0';
    bool final = oracle_refused(c, &c->rest, a, code, version);
    if (!final || a->kind != ASK_SEND) return;
    struct message *m = &clients[a->author].messages[a->message];
    recorder_fail(c, m, code);
    if (m->state == MESSAGE_OPEN && !client_message_on_its_way(a->author, a->message)) m->state = MESSAGE_REFUSED;
}
