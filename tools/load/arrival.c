#include "arrival.h"

#include <inttypes.h>
#include <stdio.h>

#include "../../src/base/assert.h"
#include "plain.h"
#include "publish.h"
#include "push.h"

static void peer_text(struct crowd *c, struct participant *p, struct slice text, uint64_t now_ns);
static void peer_joined(struct participant *p, uint64_t wait_ns, uint64_t now_ns);
static void message(struct crowd *c, struct participant *p, struct slice frame, uint64_t now_ns);
static void first_receipt(struct crowd *c, struct room *room, struct timing *timing, struct slice frame,
                          uint64_t now_ns);
static uint64_t peer_place(struct crowd *c, struct participant *p, uint64_t peer_seq);
static void in_order(struct crowd *c, struct participant *p, uint64_t seq);
static void answer(struct crowd *c, struct participant *p, struct slice frame, uint64_t now_ns);
static void answered(struct crowd *c, struct participant *p, uint64_t number, uint64_t seq, struct slice message_id,
                     uint64_t now_ns);
static void other(struct crowd *c, struct participant *p, struct slice frame, uint64_t now_ns);
static void welcome(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns);
static void event(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns);
static void refusal(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns);
static void count_code(struct crowd *c, struct slice code);
static void settle(struct crowd *c, struct participant *p);
static void violation(struct crowd *c, const struct participant *p, const char *what, uint64_t expected, uint64_t seen);
static void record_push(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns);
static struct message_key key_of(const struct crowd *c, const struct participant *p, uint64_t number, char user[64],
                                 char client_id[64]);

void arrival_upgraded(void *context, struct session *s, uint64_t now_ns)
{
    struct crowd *c = context;
    if (c->options->dialect) {
        if (plain_joins_at_upgrade(c->options->dialect))
            peer_joined((struct participant *)s, ARRIVAL_JOIN_WAIT_NS, now_ns);
        return;
    }
    session_send(&c->hub, s,
                 c->subscribe ? SLICE("{\"type\":\"hello\",\"id\":0,\"rooms\":\"all\"}")
                              : SLICE("{\"type\":\"hello\",\"id\":0,\"rooms\":\"none\"}"));
}

void arrival_text(void *context, struct session *s, struct slice text, uint64_t now_ns)
{
    struct crowd *c = context;
    struct participant *p = (struct participant *)s;
    if (c->options->dialect) {
        peer_text(c, p, text, now_ns);
        return;
    }
    switch (push_kind_of(text)) {
    case PUSH_MESSAGE: message(c, p, text, now_ns); break;
    case PUSH_OK: answer(c, p, text, now_ns); break;
    case PUSH_OTHER: other(c, p, text, now_ns); break;
    }
}

void arrival_lost(void *context, struct session *s, uint64_t now_ns)
{
    struct crowd *c = context;
    struct participant *p = (struct participant *)s;
    if (p->state == PARTICIPANT_READY)
        c->num_ready--;
    else if (p->state != PARTICIPANT_AWAY)
        c->num_greeting--;
    if (p->state == PARTICIPANT_READY && c->subscribe) p->room->num_receivers--;
    p->state = PARTICIPANT_AWAY;
    if (!s->gone) return;
    if (c->num_lost++ < 3)
        fprintf(stderr, "carillon-load: lost connection %" PRIu32 " (load-%" PRIu64 "-%" PRIu64 "): %s\n", p->number,
                p->room_number, p->member, s->why);
    if (!p->publisher) return;
    struct window *w = &p->publisher->window;
    for (uint64_t n = w->first; n < w->next; n++) {
        char user[64], client_id[64];
        if (!window_waits(w, n)) continue;
        const struct message_key key = key_of(c, p, n, user, client_id);
        record_unknown(&c->record, now_ns, &key);
    }
    w->first = w->next;
    c->num_settled += p->publisher->in_flight;
    p->publisher->in_flight = 0;
}

void arrival_ready(struct crowd *c, struct participant *p)
{
    ASSERT(p->state == PARTICIPANT_WELCOME);
    p->state = PARTICIPANT_READY;
    c->num_greeting--;
    c->num_ready++;
    if (c->subscribe) p->room->num_receivers++;
}

static void peer_text(struct crowd *c, struct participant *p, struct slice text, uint64_t now_ns)
{
    struct slice push;
    switch (plain_take(&push, &c->hub, &p->session, text)) {
    case PLAIN_NOTHING: break;
    case PLAIN_JOINED: peer_joined(p, ARRIVAL_JOIN_WAIT_NS, now_ns); break;
    case PLAIN_MESSAGE: message(c, p, push, now_ns); break;
    }
}

/* peer_joined: nobody talks before all are ready, so the room's first message is the first that everybody gets. */
static void peer_joined(struct participant *p, uint64_t wait_ns, uint64_t now_ns)
{
    if (p->state != PARTICIPANT_GREETING) return;
    p->state = PARTICIPANT_WELCOME;
    p->ready_due_ns = now_ns + wait_ns;
    p->next_seq = 1;
}

/* message handles a push of the kind that comes by the million. */
static void message(struct crowd *c, struct participant *p, struct slice frame, uint64_t now_ns)
{
    uint64_t seq;
    struct room *room = p->room;
    if (c->record.on || !push_has(frame, buf_slice(&room->needle), &c->hint_room) ||
        !push_number(&seq, frame, SLICE("\"seq\":"), &c->hint_seq)) {
        struct json_node root, node;
        if (json_parse_copy(c->parser, &root, frame) != JSON_OK || !json_get(root, "seq", &node) ||
            !json_u64(node, &seq) || !json_get(root, "room_id", &node) || !slice_is(json_string(node), room->id)) {
            violation(c, p, "a message that is malformed or of another room", 0, 0);
            return;
        }
        record_push(c, p, root, now_ns);
    }
    uint64_t peer_seq = seq;
    if (c->options->dialect)
        seq = peer_place(c, p, peer_seq);
    else
        in_order(c, p, seq);
    struct timing *timing = &room->timings[seq & room->timings_mask];
    if (seq > room->newest_seq) {
        room->newest_seq = seq;
        *timing = (struct timing){.seq = seq, .peer_seq = peer_seq};
        first_receipt(c, room, timing, frame, now_ns);
    }
    if (timing->seq != seq || timing->intended_ns == 0) return;
    if (timing->peer_seq != peer_seq)
        violation(c, p, "another order than the first receiver's", timing->peer_seq, peer_seq);
    if (crowd_measures(c, now_ns)) c->deliveries++;
    timing->receipts++;
    if (!crowd_measures(c, timing->intended_ns)) return;
    histogram_add(&c->any, now_ns - timing->intended_ns);
    if (timing->receipts == room->num_receivers) histogram_add(&c->last, now_ns - timing->intended_ns);
}

/* first_receipt reads the stamp of a message that nobody had received yet: where "in flight" ends. */
static void first_receipt(struct crowd *c, struct room *room, struct timing *timing, struct slice frame,
                          uint64_t now_ns)
{
    struct stamp stamp;
    if (!stamp_read(&stamp, frame) || stamp.run != c->run || stamp.publisher >= c->num_publishers) return;
    timing->intended_ns = stamp.intended_ns;
    if (crowd_measures(c, now_ns)) {
        c->messages++;
        c->push_bytes += frame.len;
    }
    struct participant *speaker = c->speakers[stamp.publisher];
    if (c->ends_at_ok || speaker->state != PARTICIPANT_READY) return;
    settle(c, speaker);
    publish_fill(c, speaker, now_ns);
}

/* peer_place: a server that is no gateway numbers nothing. A message's place is how many the participant has had, and
 * each publisher's own numbers must rise by one. */
static uint64_t peer_place(struct crowd *c, struct participant *p, uint64_t peer_seq)
{
    uint64_t *next = &p->next_of[peer_seq % p->room->num_publishers], number = peer_seq / p->room->num_publishers;
    if (UNLIKELY(number != *next)) violation(c, p, number > *next ? "a hole" : "a step back", *next, number);
    *next = number + 1;
    return p->next_seq++;
}

static void in_order(struct crowd *c, struct participant *p, uint64_t seq)
{
    if (UNLIKELY(p->next_seq != 0 && seq != p->next_seq))
        violation(c, p, seq > p->next_seq ? "a hole" : "a step back", p->next_seq, seq);
    p->next_seq = seq + 1;
}

/* answer handles `ok` to a send; hello is answered by `welcome`. */
static void answer(struct crowd *c, struct participant *p, struct slice frame, uint64_t now_ns)
{
    uint64_t number, seq;
    if (push_number(&number, frame, SLICE("\"re\":"), &c->hint_re) &&
        push_number(&seq, frame, SLICE("\"seq\":"), &c->hint_ok_seq)) {
        answered(c, p, number, seq, push_text(frame, SLICE("\"message_id\":\"")), now_ns);
        return;
    }
    struct json_node root, re, node;
    if (json_parse_copy(c->parser, &root, frame) != JSON_OK || !json_get(root, "re", &re) || !json_u64(re, &number) ||
        !json_get(root, "seq", &node) || !json_u64(node, &seq) || !json_get(root, "message_id", &node)) {
        violation(c, p, "an ok without re, seq or message_id", 0, 0);
        return;
    }
    answered(c, p, number, seq, json_string(node), now_ns);
}

static void answered(struct crowd *c, struct participant *p, uint64_t number, uint64_t seq, struct slice message_id,
                     uint64_t now_ns)
{
    uint64_t intended_ns = p->publisher ? window_take(&p->publisher->window, number) : 0;
    if (intended_ns == 0) {
        violation(c, p, "an answer to nothing", 0, number);
        return;
    }
    if (c->record.on) {
        char user[64], client_id[64];
        const struct message_key key = key_of(c, p, number, user, client_id);
        record_ok(&c->record, now_ns, &key, seq, message_id);
    }
    if (crowd_measures(c, now_ns)) c->acked++;
    if (crowd_measures(c, intended_ns)) histogram_add(&c->answer, now_ns - intended_ns);
    if (!c->ends_at_ok) return;
    settle(c, p);
    publish_fill(c, p, now_ns);
}

/* other handles everything rare with the parser. */
static void other(struct crowd *c, struct participant *p, struct slice frame, uint64_t now_ns)
{
    struct json_node root, type, node;
    if (json_parse_copy(c->parser, &root, frame) != JSON_OK || !json_get(root, "type", &type)) {
        violation(c, p, "a frame that is no object with a type", 0, 0);
        return;
    }
    struct slice name = json_string(type);
    if (slice_is(name, "message")) {
        message(c, p, frame, now_ns);
    } else if (slice_is(name, "ok")) {
        answer(c, p, frame, now_ns);
    } else if (slice_is(name, "error")) {
        refusal(c, p, root, now_ns);
    } else if (slice_is(name, "welcome")) {
        welcome(c, p, root, now_ns);
    } else if (slice_is(name, "resumed")) {
        if (json_get(root, "from", &node)) json_u64(node, &p->next_seq);
        if (p->state == PARTICIPANT_WELCOME) arrival_ready(c, p);
    } else if (slice_is(name, "server.shutdown")) {
        session_fail(&c->hub, &p->session, "the gateway is shutting down");
    } else {
        event(c, p, root, now_ns);
    }
}

/* welcome carries the head of every room that was subscribed to: the next event is the one after it. */
static void welcome(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns)
{
    struct json_node rooms, room, node;
    uint64_t head;
    if (p->state != PARTICIPANT_GREETING) return;
    p->state = PARTICIPANT_WELCOME;
    p->ready_due_ns = now_ns + ARRIVAL_POSITION_WAIT_NS;
    bool positioned = !c->subscribe;
    if (!positioned && json_get(root, "rooms", &rooms) && json_type_of(rooms) == JSON_ARRAY) {
        struct json_iter each = json_array(rooms);
        while (json_array_next(&each, &room)) {
            if (!json_get(room, "room_id", &node) || !slice_is(json_string(node), p->room->id)) continue;
            positioned = json_get(room, "head", &node) && json_u64(node, &head);
            if (positioned) p->next_seq = head + 1;
        }
    }
    if (positioned) arrival_ready(c, p);
}

/* event handles the durable pushes that are no messages: they take their place in the order. Ephemeral ones are not
 * looked at. */
static void event(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns)
{
    static const char *const durable[] = {"message.edited", "message.deleted", "reaction",
                                          "user_joined",    "user_left",       "room.updated"};
    struct json_node type, node;
    uint64_t seq;
    if (!json_get(root, "type", &type)) return;
    bool found = false;
    for (unsigned i = 0; i < sizeof durable / sizeof *durable; i++)
        if (slice_is(json_string(type), durable[i])) found = true;
    if (!found) return;
    if (!json_get(root, "seq", &node) || !json_u64(node, &seq)) {
        violation(c, p, "a durable push without seq", 0, 0);
        return;
    }
    record_push(c, p, root, now_ns);
    in_order(c, p, seq);
    if (seq > p->room->newest_seq) p->room->newest_seq = seq;
}

/* refusal: `error {re, code, detail, temporary}`. Without ids the oldest message in flight is the one meant. */
static void refusal(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns)
{
    struct json_node node;
    bool temporary = false;
    uint64_t number = UINT64_MAX;
    struct slice code = SLICE("?"), detail = SLICE("");
    if (json_get(root, "code", &node) && json_type_of(node) == JSON_STRING) code = json_string(node);
    if (json_get(root, "detail", &node) && json_type_of(node) == JSON_STRING) detail = json_string(node);
    if (json_get(root, "temporary", &node)) json_bool(node, &temporary);
    if (json_get(root, "re", &node)) json_u64(node, &number);
    if (p->state == PARTICIPANT_GREETING) {
        char why[96];
        snprintf(why, sizeof why, "hello was refused: %.*s", (int)(code.len < 60 ? code.len : 60), code.data);
        session_fail(&c->hub, &p->session, why);
        return;
    }
    if (!temporary && c->refused_for_good == 0)
        fprintf(stderr, "carillon-load: refused: %.*s: %.*s\n", SLICE_FMT(code), SLICE_FMT(detail));
    c->refused++;
    if (!temporary) c->refused_for_good++;
    count_code(c, code);
    if (!p->publisher || p->publisher->in_flight == 0) return;
    if (c->with_ids && window_take(&p->publisher->window, number) != 0) {
        /* the store's own errors leave open whether the message was kept; overload is refused before it */
        bool open = slice_starts(code, SLICE("store.")) && !slice_is(code, "store.overloaded");
        char user[64], client_id[64];
        const struct message_key key = key_of(c, p, number, user, client_id);
        if (open)
            record_unknown(&c->record, now_ns, &key);
        else
            record_fail(&c->record, now_ns, &key, code);
    }
    settle(c, p); /* the next attempt comes with publish_fill_all, so that a refusing gateway is not hammered */
}

static void count_code(struct crowd *c, struct slice code)
{
    for (unsigned i = 0; i < CROWD_CODES_MAX; i++) {
        if (c->codes[i].count == 0)
            snprintf(c->codes[i].text, sizeof c->codes[i].text, "refused.%.*s", (int)(code.len < 48 ? code.len : 48),
                     code.data);
        if (!slice_eq(slice_str(c->codes[i].text + 8), code)) continue;
        c->codes[i].count++;
        return;
    }
}

static void settle(struct crowd *c, struct participant *p)
{
    if (p->publisher->in_flight == 0) return; /* it was refused and came all the same: counted once */
    p->publisher->in_flight--;
    c->num_settled++;
}

static void violation(struct crowd *c, const struct participant *p, const char *what, uint64_t expected, uint64_t seen)
{
    if (c->violations++ < 10)
        fprintf(stderr,
                "carillon-load: VIOLATION: connection %" PRIu32 ", room %s: %s (expected %" PRIu64 ", saw %" PRIu64
                ")\n",
                p->number, p->room->id, what, expected, seen);
}

static void record_push(struct crowd *c, struct participant *p, struct json_node root, uint64_t now_ns)
{
    if (!c->record.on) return;
    char user[SETUP_USER_BYTES_MAX], connection[40];
    size_t user_len = setup_user(user, p->room_number, p->member);
    int len = snprintf(connection, sizeof connection, "%08" PRIx32 "-%" PRIu32, c->run, p->number);
    record_receive(&c->record, now_ns, slice_of(user, user_len), slice_of(connection, (size_t)len), root);
}

static struct message_key key_of(const struct crowd *c, const struct participant *p, uint64_t number, char user[64],
                                 char client_id[64])
{
    size_t user_len = setup_user(user, p->room_number, p->member);
    size_t client_id_len = publish_client_id(client_id, c, p->publisher, number);
    return (struct message_key){slice_str(p->room->id), slice_of(user, user_len), slice_of(client_id, client_id_len)};
}
