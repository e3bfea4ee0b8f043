#include "oracle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "counts.h"
#include "faults.h"
#include "recorder.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

static struct slice id_of(unsigned room) { return slice_str(scenario.rooms[room].id); }

static bool fast(unsigned room) { return scenario.tenants[scenario.rooms[room].tenant].fast; }

/* --- events -------------------------------------------------------------------------------------------------- */

/* event_seen checks one event against the store and returns its row. */
static const struct watched_row *event_seen(const struct client *c, unsigned room, struct slice event, uint64_t version)
{
    struct seen_event seen = {.seq = json_number(event, "seq"), .type = SLICE("message")};
    struct slice room_id;
    json_member(event, "type", &seen.type);
    json_member(event, "sender_id", &seen.sender_id);
    if (!json_member(event, "client_id", &seen.client_id)) seen.client_id = (struct slice){0};
    json_member(event, "content", &seen.content);
    json_member(event, "created_at", &seen.created_at);
    CHECK(json_member(event, "room_id", &room_id) && slice_is(room_id, scenario.rooms[room].id),
          "%s sees an event of another room", c->name);
    if (seen.seq > scenario.rooms[room].seen) scenario.rooms[room].seen = seen.seq;
    return store_check_seen(c->name, room_id, version, fast(room), &seen);
}

/* hold: the client has seen this row. What it holds under the seq already is the same one, or it was told to forget
 * it. */
static void hold(struct client *c, unsigned room, const struct watched_row *row, uint64_t epoch)
{
    struct view *v = &c->views[room];
    if (v->apart) return;
    if (fast(room) && epoch < v->epoch) return; /* words of an earlier gateway, which the next one's have overtaken */
    uint64_t seq = row->record.seq;
    if (seq <= v->held)
        CHECK(v->serials[seq - 1] == row->serial, "%s holds another event under seq %" PRIu64 " of room %u", c->name,
              seq, room);
    if (seq != v->held + 1) return;
    if (v->held == v->cap_serials) {
        v->cap_serials = v->cap_serials ? v->cap_serials * 2 : 64;
        v->serials = realloc(v->serials, v->cap_serials * sizeof *v->serials);
        ASSERT(v->serials);
    }
    v->serials[v->held++] = row->serial;
    v->epoch = epoch;
    if (v->held > v->most) v->most = v->held;
}

static bool is_apart(const struct view *v, unsigned room)
{
    return fast(room) && v->held > 0 && v->epoch != v->live_epoch;
}

bool oracle_holds(const struct client *c, unsigned room)
{
    const struct view *v = &c->views[room];
    const struct watched_row *row = store_row(id_of(room), v->held);
    return v->held == 0 || (row && row->serial == v->serials[v->held - 1]);
}

void oracle_push(struct client *c, struct slice event, uint64_t version)
{
    struct slice room_id;
    CHECK(json_member(event, "room_id", &room_id), "%s: a push without room_id: %.*s", c->name, SLICE_FMT(event));
    unsigned r = scenario_room_find(c->tenant, room_id);
    struct view *v = &c->views[r];
    uint64_t seq = json_number(event, "seq"), changed = 0;
    CHECK(v->on && !v->resume_asked && !v->after_asked,
          "%s is pushed seq %" PRIu64 " of room %u, which it is not subscribed to", c->name, seq, r);
    if (v->next_else && seq == v->next_else) v->next = seq;
    v->next_else = 0;
    CHECK(seq == v->next, "%s is pushed seq %" PRIu64 " of room %u and should get %" PRIu64, c->name, seq, r, v->next);
    const struct watched_row *row = event_seen(c, r, event, version);
    bool member = truth_member(r, c->user, version, &changed);
    CHECK(member || seq <= changed || (fast(r) && store_num_lost(room_id)),
          "%s is pushed seq %" PRIu64 " of room %u, which it left with %" PRIu64, c->name, seq, r, changed);
    const struct access_key *key = &scenario.tenants[c->tenant].keys[c->socket.key];
    CHECK(!key->revoked.surely || row->written_version <= key->revoked_version,
          "%s is pushed seq %" PRIu64 " of room %u, which is younger than the end of its key", c->name, seq, r);
    recorder_push(c, event, v->live_epoch);
    v->next++;
    hold(c, r, row, v->live_epoch);
    v->left = seq > v->replay_head && truth_takes_out(r, c->user, seq);
    count_happened(COUNT_PUSHES);
    if (v->left) count_happened(COUNT_LEFT_LIVE);
}

/* --- positions ----------------------------------------------------------------------------------------------- */

/* check_recovered holds what is said of a position against the truth. */
static void check_recovered(const struct client *c, unsigned room, uint64_t epoch, uint64_t seq, bool recovered,
                            uint64_t from, uint64_t now, uint64_t seen, struct span span)
{
    enum verdict good = truth_position(room, epoch, seq, now, seen, span);
    CHECK(good == VERDICT_EITHER || (good == VERDICT_YES) == recovered,
          "%s %s recovered in room %u at [%" PRIu64 ", %" PRIu64 "]", c->name, recovered ? "is" : "is not", room, epoch,
          seq);
    if (recovered) {
        CHECK(from == seq + 1, "%s asked for room %u behind %" PRIu64 " and is served from %" PRIu64, c->name, room,
              seq, from);
        count_happened(COUNT_RESUMES);
        if (epoch < now && seq) count_happened(COUNT_RESUMES_OLD);
        return;
    }
    CHECK(from >= 1 && from <= truth_void_from(room, epoch, now) && (from <= seq + 1 || epoch == 0 || epoch > now),
          "%s holds room %u up to [%" PRIu64 ", %" PRIu64 "], which is void, and is served from %" PRIu64, c->name,
          room, epoch, seq, from);
}

/* forget: what the client holds from `from` on is void. */
static void forget(struct client *c, unsigned room, uint64_t from)
{
    struct view *v = &c->views[room];
    if (from > v->held) return;
    bool lost = !oracle_holds(c, room);
    v->held = from - 1;
    count_happened(lost ? COUNT_RESUMES_LOST : COUNT_RESUMES_TWISTED);
}

/* forget_void: who named another position than what it holds, as clients here do, was told nothing of what it holds. */
static void forget_void(struct client *c, unsigned room, uint64_t epoch, uint64_t seq)
{
    struct view *v = &c->views[room];
    if (!fast(room) || (epoch == v->epoch && seq == v->held)) return;
    while (!oracle_holds(c, room)) v->held--;
}

static void check_served_from(const struct client *c, unsigned room, uint64_t from, uint64_t version)
{
    const struct view *v = &c->views[room];
    uint64_t joined = 0;
    truth_member(room, c->user, version, &joined);
    if (fast(room) && store_num_lost(id_of(room))) return; /* the join may be among what was lost since */
    CHECK(from <= v->most + 1 || from <= joined + 1, "%s held room %u up to %" PRIu64 " and is served from %" PRIu64,
          c->name, room, v->most, from);
}

void oracle_resumed(struct client *c, struct slice text, uint64_t version)
{
    struct slice room_id, recovered;
    CHECK(json_member(text, "room_id", &room_id) && json_member(text, "recovered", &recovered), "%s: %.*s", c->name,
          SLICE_FMT(text));
    unsigned r = scenario_room_find(c->tenant, room_id);
    struct view *v = &c->views[r];
    uint64_t from = json_number(text, "from"), head = json_number(text, "head");
    bool good = slice_is(recovered, "true"), positioned = v->resume_asked;
    bool untwisted = v->resume_asked && v->asked_epoch == v->epoch && v->asked_seq == v->held && v->held;
    recorder_resumed(c, text, untwisted ? v->asked_epoch : 0, v->asked_seq);
    if (v->resume_asked) {
        struct span span = {v->asked_version, version};
        check_recovered(c, r, v->asked_epoch, v->asked_seq, good, from, line_epoch(&c->socket),
                        v->asked_seen, span);
        if (good && v->asked_epoch == v->epoch && v->asked_seq == v->held && v->held) {
            const struct watched_row *row = store_row(room_id, v->held);
            CHECK((row && row->serial == v->serials[v->held - 1]) || store_lost(room_id, v->serials[v->held - 1]),
                  "%s is recovered in room %u over another event than it holds", c->name, r);
        }
        if (!good) forget(c, r, from);
        forget_void(c, r, v->asked_epoch, v->asked_seq);
    } else if (v->after_asked) {
        uint64_t behind = (v->asked_seq < head ? v->asked_seq : head) + 1;
        /* a subscription that is there goes on where it stands, when that is before what the client has seen by other
         * ways */
        CHECK(good && (from == behind || (v->on && from == v->next && from < behind)),
              "%s subscribed to room %u behind %" PRIu64 " and is served from %" PRIu64, c->name, r, v->asked_seq,
              from);
    } else {
        CHECK(good, "%s is not recovered in room %u by no position", c->name, r);
        check_served_from(c, r, from, version);
    }
    v->on = true;
    v->resume_asked = v->after_asked = v->left = false;
    v->next = from;
    v->next_else = 0;
    v->live_epoch = json_number(text, "epoch");
    v->apart = !positioned && is_apart(v, r);
    v->replay_head = head;
    CHECK(v->live_epoch == line_epoch(&c->socket), "%s is told epoch %" PRIu64, c->name, v->live_epoch);
}

/* check_cursor: who comes back to a room may be let in before its home as a user has heard of it, and is then shown no
 * cursor. */
static void check_cursor(const struct client *c, unsigned room, uint64_t delivered, struct span span)
{
    const struct view *v = &c->views[room];
    CHECK(delivered >= v->acked_before || truth_was_out(room, c->user, (struct span){0, span.to}),
          "%s has acknowledged room %u up to %" PRIu64 " and its cursor is at %" PRIu64, c->name, room,
          v->acked_before, delivered);
}

/* has_cursor: the device has one of its own, of an ack that was answered before this was asked. Until then it is shown
 * the user's own, which other devices move, and its first ack may set it anywhere. */
static bool has_cursor(const struct view *v, const struct ask *a)
{
    return v->acked_moment && v->acked_moment < a->moment && v->acked_losses == scenario.power_losses;
}

void oracle_welcome(struct client *c, const struct ask *a, struct slice text, uint64_t version)
{
    struct slice rooms, room, room_id;
    struct span span = client_span(a, version);
    CHECK(c->state == SOCKET_GREETING, "%s: a welcome that nobody asked for", c->name);
    c->state = SOCKET_OPEN;
    CHECK(json_member(text, "rooms", &rooms), "%s: a welcome without rooms", c->name);
    bool listed[SCENARIO_ROOMS_MAX] = {false};
    while (json_element(&rooms, &room)) {
        CHECK(json_member(room, "room_id", &room_id), "%s: a room without id", c->name);
        unsigned r = scenario_room_find(c->tenant, room_id);
        struct view *v = &c->views[r];
        CHECK(truth_was_in(r, c->user, span), "%s is let into room %u, of which it is no member", c->name, r);
        listed[r] = true;
        v->live_epoch = json_number(room, "epoch");
        check_cursor(c, r, json_number(room, "delivered"), span);
        if (scenario.rooms[r].rule == RULE_FIXED && has_cursor(v, a))
            recorder_cursor(c, room_id, json_number(room, "delivered"));
        if (v->resume_asked) continue;
        v->on = true;
        v->left = false;
        v->replay_head = json_number(room, "head");
        v->next = v->replay_head + 1;
        v->next_else = 0;
        v->apart = is_apart(v, r);
    }
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        if (!client_in(c, r) || listed[r]) continue;
        CHECK(!c->views[r].resume_asked || truth_was_out(r, c->user, span),
              "%s is a member of room %u and was not let in", c->name, r);
        /* who has just joined a room, or been put into a new one, is let in when the user's home has heard of it */
        const struct scenario_room *made = &scenario.rooms[r];
        bool settled = made->rule != RULE_OPEN && made->rule != RULE_RULED && made->known_moment < a->moment;
        CHECK(!c->wants_all || !settled || c->views[r].held == 0 || truth_was_out(r, c->user, span),
              "%s is a member of room %u, wanted all, and was not let in", c->name, r);
        c->views[r].resume_asked = false;
    }
}

void oracle_subscribed(struct client *c, const struct ask *a, struct slice text)
{
    struct view *v = &c->views[a->room];
    v->num_crossing -= v->num_crossing > 0;
    recorder_subscribed(c);
    if (a->kind == ASK_UNSUBSCRIBE) {
        v->on = v->left = false;
        return;
    }
    uint64_t head = json_number(text, "head");
    if (a->after) {
        v->after_asked = true;
        v->asked_seq = a->seq;
        return;
    }
    if (v->on && !v->left) return;
    v->next_else = v->on ? v->next : 0; /* it may have been let in again before it asked */
    v->on = true;
    v->left = false;
    v->next = head + 1;
    v->replay_head = head;
    v->live_epoch = json_number(text, "epoch");
    v->apart = is_apart(v, a->room);
}

/* --- pages --------------------------------------------------------------------------------------------------- */

/* check_skipped: what a page leaves out between two of its items is no message. */
static void check_skipped(const struct client *c, unsigned room, uint64_t from, uint64_t to)
{
    for (uint64_t seq = from; seq < to; seq++)
        CHECK(!truth_is_message(room, seq) || (fast(room) && store_num_lost(id_of(room))),
              "%s gets a page of room %u without seq %" PRIu64, c->name, room, seq);
}

/* page_items checks the items themselves; *first and *last are 0 without any. */
static unsigned page_items(struct client *c, const struct ask *a, struct slice items, uint64_t version, uint64_t *first,
                           uint64_t *last)
{
    struct slice item;
    unsigned num = 0;
    *first = *last = 0;
    for (; json_element(&items, &item); num++) {
        uint64_t seq = event_seen(c, a->room, item, version)->record.seq;
        CHECK(seq > *last && (a->before ? seq < a->seq : seq > a->seq), "%s gets a page of room %u out of order",
              c->name, a->room);
        CHECK(num == 0 || a->kind == ASK_HISTORY || seq == *last + 1,
              "%s gets seq %" PRIu64 " of room %u in a page behind %" PRIu64, c->name, seq, a->room, *last);
        if (num) check_skipped(c, a->room, *last + 1, seq);
        else *first = seq;
        *last = seq;
    }
    return num;
}

void oracle_page(struct client *c, const struct ask *a, struct slice page, uint64_t version)
{
    struct slice items, next;
    uint64_t first, last, head = a->seen;
    bool more = json_member(page, "next", &next), events = a->kind == ASK_EVENTS;
    CHECK(json_member(page, "items", &items), "%s: a page without items", c->name);
    unsigned num = page_items(c, a, items, version, &first, &last);
    CHECK(num <= a->limit, "%s gets %u of %u items", c->name, num, a->limit);
    count_happened(a->before ? COUNT_PAGES_BEFORE : COUNT_PAGES);
    if (fast(a->room) && store_num_lost(id_of(a->room))) return; /* the store cannot tell any more what there was */
    uint64_t begin = a->before ? 1 : a->seq + 1; /* what a page in full would have: [begin, end) */
    uint64_t end = a->before && a->seq <= head ? a->seq : head + 1;
    bool from_begin = !a->before || num < a->limit, to_end = a->before || !more;
    if (num == 0) {
        CHECK(!events || begin >= end, "%s gets an empty page of room %u", c->name, a->room);
        check_skipped(c, a->room, begin, end);
        return;
    }
    CHECK(!events || !from_begin || first == begin, "%s gets a page of room %u that begins at %" PRIu64, c->name,
          a->room, first);
    CHECK(!events || !to_end || last + 1 >= end, "%s gets a page of room %u that ends at %" PRIu64, c->name, a->room,
          last);
    if (from_begin) check_skipped(c, a->room, begin, first);
    if (to_end) check_skipped(c, a->room, last + 1, end);
}

static void sync_room(struct client *c, struct sync *s, struct slice room, uint64_t version, uint64_t now,
                      uint64_t *num)
{
    struct slice room_id, recovered, events, event;
    CHECK(json_member(room, "room_id", &room_id) && json_member(room, "recovered", &recovered) &&
              json_member(room, "events", &events),
          "%s: %.*s", c->name, SLICE_FMT(room));
    unsigned r = scenario_room_find(c->tenant, room_id);
    uint64_t from = json_number(room, "from"), epoch = json_number(room, "epoch");
    bool good = slice_is(recovered, "true");
    struct span span = {s->version, version};
    CHECK(truth_was_in(r, c->user, span), "%s syncs room %u, of which it is no member", c->name, r);
    if (s->begun[r]) {
        bool lost = fast(r) && store_num_lost(id_of(r)) && from < s->next[r]; /* since the page before */
        CHECK(lost || (good && from == s->next[r]), "%s syncs room %u from %" PRIu64 " on and should from %" PRIu64,
              c->name, r, from, s->next[r]);
    } else if (s->listed[r]) {
        check_recovered(c, r, s->epochs[r], s->seqs[r], good, from, now, s->seen[r], span);
        if (!good) forget(c, r, from);
        forget_void(c, r, s->epochs[r], s->seqs[r]);
    } else {
        CHECK(good, "%s is not recovered by its cursor in room %u", c->name, r);
        if (!c->shares_user) check_served_from(c, r, from, version);
    }
    s->begun[r] = true;
    recorder_page(c, room, "events", true, now);
    for (; json_element(&events, &event); from++, ++*num) {
        const struct watched_row *row = event_seen(c, r, event, version);
        CHECK(row->record.seq == from, "%s syncs seq %" PRIu64 " of room %u and should get %" PRIu64, c->name,
              row->record.seq, r, from);
        /* the words of an earlier gateway may come after those of the next one, which has taken some of them back; and
         * a page of the next one may go on where one of the earlier has ended, and tell nothing of what is void before
         * it */
        if (!fast(r) || (s->listed[r] && now == s->epoch && now == scenario.epochs[scenario.gateway]))
            hold(c, r, row, epoch);
    }
    s->next[r] = from;
}

void oracle_sync(struct client *c, struct sync *s, struct slice text, uint64_t version, uint64_t epoch)
{
    struct slice rooms, room, next;
    uint64_t num = 0;
    CHECK(json_member(text, "rooms", &rooms), "%s: a sync without rooms", c->name);
    while (json_element(&rooms, &room)) sync_room(c, s, room, version, epoch, &num);
    CHECK(num <= s->limit, "%s syncs %" PRIu64 " of %u events", c->name, num, s->limit);
    s->cursor[0] = '\0';
    if (json_member(text, "next", &next)) {
        CHECK(next.len < sizeof s->cursor, "%s: a cursor of %zu bytes", c->name, next.len);
        memcpy(s->cursor, next.data, next.len);
        s->cursor[next.len] = '\0';
        return;
    }
    for (unsigned r = 0; r < scenario.num_rooms; r++)
        CHECK(!s->begun[r] || truth_was_out(r, c->user, (struct span){s->version, version}) ||
                  s->next[r] > s->seen[r] || (fast(r) && store_num_lost(id_of(r))),
              "%s synced room %u and has %" PRIu64 " of it next, below the head", c->name, r, s->next[r]);
}

/* --- answers ------------------------------------------------------------------------------------------------- */

void oracle_answered(struct client *c, const struct ask *a, struct slice text, uint64_t version)
{
    struct client *author = &clients[a->author];
    struct message *m = &author->messages[a->message];
    struct slice room_id = id_of(m->room);
    struct seen_event seen = {.seq = json_number(text, "seq"),
                              .type = SLICE("message"),
                              .sender_id = slice_str(author->user_id),
                              .client_id = slice_str(m->client_id),
                              .content = slice_str(m->content)};
    CHECK(!a->twisted, "%s sent another body under the id %s and was not refused", c->name, m->client_id);
    CHECK(json_member(text, "created_at", &seen.created_at), "%s: an ok without created_at", c->name);
    const struct watched_row *row = store_check_seen(c->name, room_id, version, fast(m->room), &seen);
    count_happened(COUNT_SENDS_ANSWERED);
    if (m->state == MESSAGE_ANSWERED) {
        bool lost = fast(m->room) && (store_lost(room_id, m->serial) || store_lost(room_id, row->serial));
        bool late = world_wall_most_ms() >= m->created_ms + WATCHED_WINDOW_MS;
        CHECK(m->serial == row->serial || lost || late, "%s is told seq %" PRIu64 " and %" PRIu64 " for %s", c->name,
              m->seq, seen.seq, m->client_id);
        bool window_over = clock_wall_ms(world_clock()) >= m->created_ms + WATCHED_WINDOW_MS;
        count_happened(window_over ? COUNT_SENDS_AFTER_WINDOW : COUNT_SENDS_REPEATED);
    }
    m->state = MESSAGE_ANSWERED;
    m->seq = seen.seq;
    m->serial = row->serial;
    m->created_ms = row->record.created_ms;
}

void oracle_acked(struct client *c, const struct ask *a, unsigned gateway)
{
    struct view *v = &c->views[a->room];
    CHECK(!a->twisted, "%s acknowledged what is beyond the head and was not refused", c->name);
    if (v->acked_gateway != gateway) v->acked = 0;
    v->acked_gateway = gateway;
    if (!v->acked_moment || v->acked_losses != scenario.power_losses) v->acked_moment = scenario.moment;
    v->acked_losses = scenario.power_losses;
    if (a->seq > v->acked) v->acked = a->seq;
}

/* needs_membership: it is answered to members alone. */
static bool needs_membership(enum ask_kind kind)
{
    return kind == ASK_ACK || kind == ASK_HISTORY || kind == ASK_EVENTS || kind == ASK_PRESENCE || kind == ASK_TYPING ||
           kind == ASK_SUBSCRIBE;
}

void oracle_let_in(const char *who, unsigned tenant, const struct line *l, uint64_t moment)
{
    const struct scenario_tenant *t = &scenario.tenants[tenant];
    CHECK(!toggle_must_hold(&t->keys[l->key].revoked, moment), "%s is served with a key that was revoked", who);
    CHECK(!toggle_must_hold(&t->disabled, moment), "%s is served, and its tenant is switched off", who);
    CHECK(!toggle_must_hold(&t->deleted, moment), "%s is served, and its tenant is deleted", who);
}

void oracle_served(const struct client *c, const struct line *l, const struct ask *a, uint64_t version)
{
    oracle_let_in(c->name, c->tenant, l, a->moment);
    if (!needs_membership(a->kind)) return;
    CHECK(scenario.rooms[a->room].tenant == c->tenant, "%s is served in a room of another tenant", c->name);
    CHECK(truth_was_in(a->room, c->user, client_span(a, version)), "%s is served in room %u, of which it is no member",
          c->name, a->room);
}

static bool removal_under_way(const struct client *c, const struct line *l, const struct ask *a)
{
    const struct removal *m = &scenario.rooms[a->room].removals[c->user][l->gateway];
    return m->pending || m->answered_version >= a->version;
}

/* out_of_room: the refusal may rest on a leaving that is not durable yet. */
static bool out_of_room(const struct client *c, const struct line *l, const struct ask *a, uint64_t version)
{
    if (a->room >= scenario.num_rooms) {
        struct ask each = *a;
        for (each.room = 0; each.room < scenario.num_rooms; each.room++)
            if (!client_in(c, each.room) || out_of_room(c, l, &each, version)) return true;
        return false;
    }
    return truth_was_out(a->room, c->user, client_span(a, version)) || removal_under_way(c, l, a);
}

/* refused_here: by the state of the room, or of what was asked. */
static bool refused_here(struct client *c, const struct line *l, const struct ask *a, struct slice code,
                         uint64_t version)
{
    const struct scenario_room *r = a->room < scenario.num_rooms ? &scenario.rooms[a->room] : NULL;
    if (slice_is(code, "room.not_found") && (!r || r->tenant != c->tenant)) {
        count_happened(COUNT_ROOMS_FOREIGN);
        return true;
    }
    if (slice_is(code, "room.not_member") || slice_is(code, "room.not_found")) {
        if (a->kind == ASK_SEND) count_happened(COUNT_SENDS_REFUSED);
        if (a->kind == ASK_EVENTS || a->kind == ASK_HISTORY) count_happened(COUNT_PAGES_REFUSED);
        return out_of_room(c, l, a, version);
    }
    if (slice_is(code, "idempotency.mismatch")) {
        count_happened(COUNT_SENDS_MISMATCHED);
        return a->twisted;
    }
    if (slice_is(code, "ack.beyond_head")) {
        count_happened(COUNT_ACKS_BEYOND);
        return a->twisted || (fast(a->room) && store_num_lost(id_of(a->room)));
    }
    if (slice_is(code, "subscription.none")) {
        const struct view *v = &c->views[a->room];
        return a->kind == ASK_UNSUBSCRIBE && (!v->on || v->left || out_of_room(c, l, a, version));
    }
    bool changes = a->kind == ASK_ADD || a->kind == ASK_REMOVE || a->kind == ASK_ROLE;
    if (slice_is(code, "room.not_admin"))
        return changes && !(r->rule == RULE_RULED && clients[r->maker].user == c->user);
    if (slice_is(code, "room.dm_fixed")) return r->rule == RULE_DIRECT;
    if (slice_is(code, "member.not_found")) return changes;
    if (slice_is(code, "room.last_admin")) return a->kind == ASK_ROLE;
    return false;
}

bool oracle_refused_for_now(unsigned tenant, const struct line *l, uint64_t moment, struct slice code)
{
    const struct scenario_tenant *t = &scenario.tenants[tenant];
    if (faults_excuse(l->gateway, code)) return true;
    if (slice_starts(code, SLICE("store.")))
        return line_disk_failed(l) || (slice_is(code, "store.overloaded") && line_late(l));
    if (slice_is(code, "server.overloaded")) return scenario.crowded;
    if (slice_is(code, "server.draining")) {
        count_happened(COUNT_DRAINS_REFUSED);
        return line_draining(l);
    }
    if (slice_is(code, "auth.invalid_key")) {
        count_happened(COUNT_KEYS_REFUSED);
        return toggle_may_hold(&t->keys[l->key].revoked, moment) || t->deleted.maybe;
    }
    if (slice_is(code, "tenant.disabled")) {
        count_happened(COUNT_TENANTS_REFUSED);
        return toggle_may_hold(&t->disabled, moment);
    }
    if (slice_is(code, "rate.limited")) {
        count_happened(COUNT_RATES_REFUSED);
        return toggle_may_hold(&t->limited, moment);
    }
    return false;
}

bool oracle_refused(struct client *c, const struct line *l, const struct ask *a, struct slice code, uint64_t version)
{
    world_trace("%s: refused: %.*s", c->name, SLICE_FMT(code));
    if (oracle_refused_for_now(c->tenant, l, a->moment, code)) return false;
    CHECK(refused_here(c, l, a, code, version), "%s is refused without a reason: %.*s (kind %d, room %u)", c->name,
          SLICE_FMT(code), (int)a->kind, a->room);
    return true;
}

/* --- presence and typing --------------------------------------------------------------------------------------- */

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
    count_happened(presence ? COUNT_PRESENCE : COUNT_TYPING);
}

bool oracle_is_member(const struct client *c, unsigned room)
{
    uint64_t changed;
    return truth_member(room, c->user, store_version(), &changed);
}
