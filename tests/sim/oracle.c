#include "oracle.h"

#include <inttypes.h>

#include "faults.h"
#include "recorder.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

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

void oracle_push(struct client *c, struct slice event, uint64_t version)
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
    recorder_push(c, event, v->live_epoch);
    v->next++;
    hold(c, r, seq, v->live_epoch);
    v->left = seq > v->replay_head && is_own_leave(c, event);
}

void oracle_resumed(struct client *c, struct slice text, uint64_t version)
{
    struct slice room_id, recovered;
    CHECK(json_member(text, "room_id", &room_id) && json_member(text, "recovered", &recovered), "%s: %.*s", c->name,
          SLICE_FMT(text));
    unsigned r = room_index(c, room_id);
    struct view *v = &c->views[r];
    uint64_t from = json_number(text, "from"), joined = 0;
    recorder_resumed(c, text, v->resume_asked ? v->epoch : 0, v->asked_seq);
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

/* Answers overtake each other between a client's two connections, so whoever may leave a room at all may be
 * told at any time that it is not in it. */
bool oracle_may_be_out(const struct client *c, unsigned room) { return room == SCENARIO_ROOMS - 1 && !c->shares_user; }

void oracle_welcome(struct client *c, struct slice text)
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
        CHECK(v->acked_gateway != c->socket.gateway || json_number(room, "delivered") >= v->acked ||
                  oracle_may_be_out(c, r),
              "%s has acknowledged room %u up to %" PRIu64 " and its cursor is at %" PRIu64, c->name, r, v->acked,
              json_number(room, "delivered"));
        if (!oracle_may_be_out(c, r)) recorder_cursor(c, room_id, json_number(room, "delivered"));
        if (v->resume_asked) continue;
        v->on = true;
        v->left = false;
        v->replay_head = json_number(room, "head");
        v->next = v->replay_head + 1;
    }
    for (unsigned r = 0; r < SCENARIO_ROOMS; r++) {
        if (!c->views[r].resume_asked || listed[r]) continue;
        CHECK(oracle_may_be_out(c, r), "%s is a member of room %u and was not let in", c->name, r);
        c->views[r].resume_asked = false;
    }
}

void oracle_page(struct client *c, unsigned room, struct slice items, uint64_t from, uint64_t version,
                        uint64_t epoch)
{
    struct slice item;
    uint64_t last = 0;
    recorder_page(c, items, from != 0, epoch);
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
}

void oracle_page_end(const struct client *c, struct slice answer, struct slice items)
{
    struct slice next, item;
    uint64_t last = c->call_after;
    if (json_member(answer, "next", &next)) return;
    while (json_element(&items, &item)) last = json_number(item, "seq");
    CHECK(last >= c->call_head, "%s: the last page of room %u ends with %" PRIu64 ", and %" PRIu64 " had been shown", c->name,
          c->call_room, last, c->call_head);
}

void oracle_sync(struct client *c, struct slice text, uint64_t version)
{
    struct slice rooms, room, room_id, recovered, events;
    CHECK(json_member(text, "rooms", &rooms), "%s: a sync without rooms", c->name);
    while (json_element(&rooms, &room)) {
        CHECK(json_member(room, "room_id", &room_id) && json_member(room, "recovered", &recovered) &&
                  json_member(room, "events", &events),
              "%s: %.*s", c->name, SLICE_FMT(room));
        unsigned r = room_index(c, room_id);
        CHECK(slice_is(recovered, "true"), "%s is not recovered by sync in room %u", c->name, r);
        oracle_page(c, r, events, json_number(room, "from"), version, json_number(room, "epoch"));
    }
}

void oracle_answered(struct client *c, unsigned number, struct slice text, uint64_t version)
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
    recorder_ok(c, m, text);
    m->state = MESSAGE_ANSWERED;
    m->seq = seen.seq;
}

bool oracle_refused(struct client *c, const struct line *l, unsigned room, struct slice code)
{
    world_trace("%s: refused: %.*s", c->name, SLICE_FMT(code));
    if (faults_excuse(l->gateway, code)) return false;
    if (slice_starts(code, SLICE("store."))) {
        bool late = slice_is(code, "store.overloaded") && scenario.late_gateways >> l->gateway & 1;
        CHECK(line_disk_failed(l) || late, "%s is told %.*s, but the disk is well", c->name, SLICE_FMT(code));
        return false;
    }
    if (scenario.crowded && slice_is(code, "server.overloaded")) return false;
    bool room_code = slice_is(code, "room.not_member") || slice_is(code, "room.not_found");
    CHECK(room_code && oracle_may_be_out(c, room), "%s is refused without a reason: %.*s", c->name, SLICE_FMT(code));
    return true;
}

void oracle_acked(const struct client *c, struct view *v, uint64_t seq)
{
    if (v->acked_gateway != c->socket.gateway) v->acked = 0;
    v->acked_gateway = c->socket.gateway;
    if (seq > v->acked) v->acked = seq;
}

/* A socket that is served at once may ask while its user's rooms are still being loaded. */
void oracle_online(const struct client *c, struct slice text)
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

void oracle_ephemeral(const struct client *c, struct slice text)
{
    struct slice user, what;
    CHECK(json_member(text, "user_id", &user) && !slice_is(user, c->user_id), "%s is told of itself: %.*s", c->name,
          SLICE_FMT(text));
    bool presence = json_member(text, "status", &what) && (slice_is(what, "online") || slice_is(what, "offline"));
    bool typing = json_member(text, "action", &what) && (slice_is(what, "start") || slice_is(what, "stop"));
    CHECK(presence != typing, "%s: %.*s", c->name, SLICE_FMT(text));
}

bool oracle_is_member(const struct client *c, unsigned room)
{
    uint64_t changed;
    return store_member(slice_str(scenario.room_ids[room]), slice_str(c->user_id), store_version(), &changed);
}
