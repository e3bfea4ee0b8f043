#include "recorder.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../../src/base/assert.h"
#include "../../src/base/buf.h"
#include "../../src/chat/ids.h"
#include "../../storage/kv.h"
#include "../../storage/records.h"
#include "../history/history.h"
#include "client_state.h"
#include "creations.h"
#include "oracle.h"
#include "store_watch.h"
#include "wire.h"
#include "world.h"

#define NAMED_MAX 64u /* users that one join or leave names */
#define CONNECTION_TEXT_MAX 64u

static struct {
    struct history *history;
    unsigned sockets[CLIENTS_MAX]; /* how many each client has opened, or subscribed anew on one */
    uint64_t connected_ns[CLIENTS_MAX];
    unsigned pages;
    struct joins {
        unsigned gateway, pending; /* asked of that gateway and not answered */
        uint64_t moment, answered_moment; /* when the last one was asked, and one was answered */
    } joins[SCENARIO_ROOMS_MAX][USERS_MAX];
} recorder;

static void judge_rows(struct kv *kv);

void recorder_open(void)
{
    memset(&recorder, 0, sizeof recorder);
    recorder.history = history_new();
}

void recorder_close(void)
{
    history_free(recorder.history);
    recorder.history = NULL;
}

static struct history_text text(struct slice s)
{
    return (struct history_text){s.data, s.len};
}
static struct history_text cstring(const char *s)
{
    return (struct history_text){s, strlen(s)};
}
static unsigned index_of(const struct client *c)
{
    return (unsigned)(c - clients);
}

static struct history_receiver receiver(const struct client *c, struct slice room_id)
{
    return (struct history_receiver){text(room_id), cstring(c->user_id), cstring(c->device)};
}

/* --- members ------------------------------------------------------------------------------------------------------ */

static struct history_text user_text(char out[16], unsigned user)
{
    snprintf(out, 16, "user%u", user);
    return cstring(out);
}

void recorder_joins(unsigned room, unsigned user)
{
    char id[16];
    if (scenario.tenants[scenario.rooms[room].tenant].deleted.surely) return;
    struct joins *j = &recorder.joins[room][user];
    if (j->gateway != scenario.gateway) *j = (struct joins){.gateway = scenario.gateway};
    j->pending++;
    j->moment = scenario.moment;
    history_member(recorder.history, world_now_ns(), cstring(scenario.rooms[room].id), user_text(id, user), 0);
}

void recorder_joined(unsigned room, unsigned user, unsigned gateway)
{
    struct joins *j = &recorder.joins[room][user];
    if (j->gateway == gateway && j->pending) j->pending--;
    j->answered_moment = scenario.moment;
}

/* A fast room may forget with the power that somebody has left, acknowledged or not: there nobody ever surely has. */
void recorder_left(unsigned room, unsigned user, uint64_t moment)
{
    char id[16];
    const struct joins *j = &recorder.joins[room][user];
    bool again = (j->gateway == scenario.gateway && j->pending) || j->moment >= moment || j->answered_moment >= moment;
    if (again || scenario.tenants[scenario.rooms[room].tenant].fast) return;
    history_left(recorder.history, world_now_ns(), cstring(scenario.rooms[room].id), user_text(id, user), 0);
}

/* out: the user is no member of the room any more. What was shown before that may still come. */
static void out(unsigned room, unsigned user)
{
    char id[16];
    const struct scenario_room *r = &scenario.rooms[room];
    uint64_t visible = truth_visible_head(room, store_version());
    history_left(recorder.history, world_now_ns(), cstring(r->id), user_text(id, user),
                 visible > r->seen ? visible : r->seen);
}

void recorder_deleted(unsigned tenant)
{
    for (unsigned r = 0; r < scenario.num_rooms; r++)
        for (unsigned u = 0; u < scenario.tenants[tenant].num_users; u++)
            if (scenario.rooms[r].tenant == tenant && scenario_room_known(r)) out(r, u);
}

/* outs_told: who is in no room in the end though nobody was told so: those of a tenant that was deleted while they
 * asked to be let in, and those whose joining a fast room has lost with the power. */
static void outs_told(void)
{
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const struct scenario_tenant *t = &scenario.tenants[scenario.rooms[r].tenant];
        if (!scenario_room_known(r)) continue;
        bool lost = t->fast && store_num_lost(slice_str(scenario.rooms[r].id));
        for (unsigned u = 0; u < t->num_users; u++) {
            uint64_t changed;
            if (t->deleted.maybe || (lost && !truth_member(r, u, store_version(), &changed))) out(r, u);
        }
    }
}

/* rooms_told: what has been so from each room's making on. */
static void rooms_told(void)
{
    for (unsigned r = 0; r < scenario.num_rooms; r++) {
        const struct scenario_room *room = &scenario.rooms[r];
        if (!scenario_room_known(r)) continue;
        if (scenario.tenants[room->tenant].fast) history_room_fast(recorder.history, 0, cstring(room->id));
        for (unsigned u = 0; u < USERS_MAX; u++) {
            char id[16];
            if (room->first_members >> u & 1)
                history_member(recorder.history, 0, cstring(room->id), user_text(id, u), 0);
        }
    }
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static struct history_name name(const struct client *c, const struct message *m)
{
    return (struct history_name){cstring(scenario.rooms[m->room].id), cstring(c->user_id), cstring(m->client_id)};
}

void recorder_invoke(const struct client *c, const struct message *m)
{
    struct history_name n = name(c, m);
    history_invoke(recorder.history, world_now_ns(), &n, cstring(m->content));
}

void recorder_ok(const struct client *c, const struct message *m, struct slice answer, uint64_t epoch)
{
    struct history_name n = name(c, m);
    struct slice message_id, created_at;
    CHECK(json_member(answer, "message_id", &message_id) && json_member(answer, "created_at", &created_at),
          "%s: an ok without message_id or created_at", c->name);
    history_ok(recorder.history, world_now_ns(), &n, json_number(answer, "seq"), text(message_id),
               text(created_at), epoch);
}

void recorder_fail(const struct client *c, const struct message *m, struct slice code)
{
    struct history_name n = name(c, m);
    history_fail(recorder.history, world_now_ns(), &n, text(code));
}

/* --- seeing ------------------------------------------------------------------------------------------------------- */

void recorder_connect(const struct client *c)
{
    recorder.sockets[index_of(c)]++;
    recorder.connected_ns[index_of(c)] = world_now_ns();
}

void recorder_subscribed(const struct client *c)
{
    recorder.sockets[index_of(c)]++;
}

static struct history_text socket_name(char out[CONNECTION_TEXT_MAX], const struct client *c)
{
    snprintf(out, CONNECTION_TEXT_MAX, "%s, socket %u", c->name, recorder.sockets[index_of(c)]);
    return cstring(out);
}

static struct history_text member(struct slice object, const char *name_)
{
    struct slice value;
    return json_member(object, name_, &value) ? text(value) : (struct history_text){0};
}

/* users_of reads a join's or leave's members; user ids of the scenario need no escapes. */
static void users_of(struct history_event *out, struct history_text users[NAMED_MAX], struct slice object)
{
    struct slice list, user;
    out->users = users;
    if (!json_member(object, "user_ids", &list)) return;
    while (json_element(&list, &user)) {
        CHECK(out->num_users < NAMED_MAX && user.len > 2, "an event that names too many, or nobody");
        users[out->num_users++] = (struct history_text){user.data + 1, user.len - 2};
    }
}

static void event_of(struct history_event *out, struct history_text users[NAMED_MAX], struct slice object)
{
    *out = (struct history_event){.room = member(object, "room_id"),
                                  .seq = json_number(object, "seq"),
                                  .type = member(object, "type"),
                                  .message_id = member(object, "message_id"),
                                  .sender = member(object, "sender_id"),
                                  .client_id = member(object, "client_id"),
                                  .content = member(object, "content"),
                                  .created_at = member(object, "created_at")};
    if (out->type.len == 0) out->type = HISTORY_TEXT("message"); /* a page of messages does not say it */
    users_of(out, users, object);
}

void recorder_push(const struct client *c, struct slice event, uint64_t epoch)
{
    char socket[CONNECTION_TEXT_MAX];
    struct history_text users[NAMED_MAX];
    struct history_event e;
    event_of(&e, users, event);
    struct history_receipt receipt = {
        .by = {e.room, cstring(c->user_id), cstring(c->device)}, .connection = socket_name(socket, c), .epoch = epoch};
    history_receive(recorder.history, world_now_ns(), &receipt, &e);
}

void recorder_page(const struct client *c, struct slice page, const char *member_, bool whole, uint64_t epoch)
{
    char connection[CONNECTION_TEXT_MAX];
    struct slice items, item;
    CHECK(json_member(page, member_, &items), "%s: a page without %s", c->name, member_);
    snprintf(connection, sizeof connection, "%s, page %u", c->name, ++recorder.pages);
    while (json_element(&items, &item)) {
        struct history_text users[NAMED_MAX];
        struct history_event e;
        event_of(&e, users, item);
        struct history_receipt receipt = {.by = {e.room, cstring(c->user_id), cstring(c->device)},
                                          .connection = cstring(connection),
                                          .path = whole ? HISTORY_EVENTS : HISTORY_MESSAGES,
                                          .epoch = epoch};
        history_receive(recorder.history, world_now_ns(), &receipt, &e);
    }
}

void recorder_resumed(const struct client *c, struct slice resumed, uint64_t asked_epoch, uint64_t asked_seq)
{
    char socket[CONNECTION_TEXT_MAX];
    struct slice room_id = {0}, recovered = {0};
    json_member(resumed, "room_id", &room_id);
    json_member(resumed, "recovered", &recovered);
    struct history_position p = {.by = receiver(c, room_id),
                                 .connection = socket_name(socket, c),
                                 .asked_epoch = asked_epoch,
                                 .asked_seq = asked_seq,
                                 .epoch = json_number(resumed, "epoch"),
                                 .from = json_number(resumed, "from"),
                                 .head = json_number(resumed, "head"),
                                 .recovered = slice_is(recovered, "true")};
    history_resumed(recorder.history, world_now_ns(), &p);
}

/* --- cursors ------------------------------------------------------------------------------------------------------ */

void recorder_ack(const struct client *c, struct slice room_id, uint64_t seq)
{
    struct history_receiver by = receiver(c, room_id);
    history_ack(recorder.history, world_now_ns(), &by, seq);
}

/* The last words of a gateway may be read when another one runs, and then say nothing of that one. */
void recorder_acked(const struct client *c, struct slice room_id, uint64_t seq, unsigned gateway)
{
    struct history_receiver by = receiver(c, room_id);
    if (gateway == scenario.gateway) history_acked(recorder.history, world_now_ns(), &by, 0, seq);
}

void recorder_cursor(const struct client *c, struct slice room_id, uint64_t seq)
{
    struct history_receiver by = receiver(c, room_id);
    history_cursor(recorder.history, world_now_ns(), &by, recorder.connected_ns[index_of(c)], seq);
}

/* --- notifications ------------------------------------------------------------------------------------------------ */

/* certain: everybody for whom it is can be named when it is asked for. */
static bool certain(const struct creation_asked *c)
{
    if (c->subscribers) return false;
    for (unsigned user = 0; user < NOTIFIED_USERS; user++)
        if (c->users[user] == PERHAPS) return false;
    return true;
}

static struct history_text creation_key(char out[CONNECTION_TEXT_MAX], unsigned creation)
{
    snprintf(out, CONNECTION_TEXT_MAX, "creation %u", creation);
    return cstring(out);
}

/* Users who have no client are never told, so nothing can be said about what they are told. */
void recorder_notify(unsigned creation)
{
    const struct creation_asked *c = creation_at(creation);
    char key[CONNECTION_TEXT_MAX];
    if (!certain(c) || c->tries > 1) return;
    for (unsigned user = 0; user < NOTIFIED_USERS; user++)
        if (c->users[user] == SURELY && user_is_client(user))
            history_notify(recorder.history, world_now_ns(), creation_key(key, creation), cstring(user_name(user)),
                           text(buf_slice(&c->payload)));
}

static struct history_text notification_id(char out[CONNECTION_TEXT_MAX], uint64_t number)
{
    return (struct history_text){out, (size_t)(notification_id_text(out, number) - out)};
}

void recorder_notify_ok(unsigned creation)
{
    const struct creation_asked *c = creation_at(creation);
    char key[CONNECTION_TEXT_MAX], id[CONNECTION_TEXT_MAX];
    if (!certain(c)) return;
    history_notify_ok(recorder.history, world_now_ns(), creation_key(key, creation), notification_id(id, c->number));
}

void recorder_notified(const struct watched_notice *n, const struct client *c)
{
    char id[CONNECTION_TEXT_MAX], socket[CONNECTION_TEXT_MAX];
    if (!n || !certain(creation_at(n->creation)) || !user_is_client(user_place(slice_str(n->user_id)))) return;
    struct history_text by = HISTORY_TEXT("told");
    if (c) by = socket_name(socket, c);
    history_notified(recorder.history, world_now_ns(), cstring(n->user_id), by, notification_id(id, n->number),
                     text(buf_slice(&n->payload)));
}

/* judge_letters: what was a dead letter at some time has been in the operator's list. */
static void judge_letters(void)
{
    for (unsigned i = 0; i < notices_len(); i++) {
        const struct watched_notice *n = notice_at(i);
        char id[CONNECTION_TEXT_MAX];
        struct history_receiver by = {.user = cstring(n->user_id)};
        if (n->was_dead && certain(creation_at(n->creation)))
            history_dead_letter(recorder.history, world_now_ns(), &by, notification_id(id, n->number), 0);
    }
}

/* --- faults ------------------------------------------------------------------------------------------------------- */

void recorder_crash(bool power)
{
    history_crash(recorder.history, world_now_ns(), power);
}

void recorder_forgotten(void)
{
    history_forgotten(recorder.history, world_now_ns());
}

/* recorder_healed: who is owed everything from now on; nobody of a tenant that is deleted. */
void recorder_healed(uint64_t since_ns)
{
    for (unsigned i = 0; i < scenario.num_clients; i++) {
        if (scenario.tenants[clients[i].tenant].deleted.maybe) continue;
        for (unsigned r = 0; r < scenario.num_rooms; r++) {
            if (!client_in(&clients[i], r) || !oracle_is_member(&clients[i], r)) continue;
            struct history_receiver by = receiver(&clients[i], slice_str(scenario.rooms[r].id));
            history_device(recorder.history, 0, &by, 0);
        }
    }
    outs_told();
    history_healed(recorder.history, since_ns, world_now_ns() - since_ns);
}

/* --- the verdict -------------------------------------------------------------------------------------------------- */

void recorder_judge(struct kv *kv)
{
    struct history_report report;
    rooms_told();
    judge_rows(kv);
    judge_letters();
    if (history_check(recorder.history, NULL, &report)) {
        const struct history_violation *v = &report.violations[0];
        if (world_tracing()) history_report_print(&report, stdout);
        world_fail("the history: %s: %s (%s)", history_rule_name(v->rule), v->sentence,
                   v->num_places ? v->places[v->num_places - 1] : "");
    }
    history_report_free(&report);
}

static struct history_text type_of(enum log_kind kind)
{
    switch (kind) {
    case LOG_MESSAGE: return HISTORY_TEXT("message");
    case LOG_JOINED: return HISTORY_TEXT("user_joined");
    case LOG_LEFT: return HISTORY_TEXT("user_left");
    case LOG_ROOM_UPDATED: return HISTORY_TEXT("room.updated");
    case LOG_EDITED: return HISTORY_TEXT("message.edited");
    case LOG_DELETED: return HISTORY_TEXT("message.deleted");
    case LOG_REACTION: return HISTORY_TEXT("reaction");
    }
    return (struct history_text){0};
}

/* created_text writes RFC 3339 by the C library, apart from the gateway's own writer. */
static struct history_text created_text(char out[32], uint64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    ASSERT(gmtime_r(&seconds, &utc));
    size_t len = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(out + len, 32 - len, ".%03uZ", (unsigned)(ms % 1000));
    return (struct history_text){out, len};
}

static void judge_row(const struct log_record *r)
{
    char room[MESSAGE_ID_TEXT_MAX], message[MESSAGE_ID_TEXT_MAX], created[32];
    struct history_text users[NAMED_MAX];
    struct buf body = {0};
    struct history_event e = {.room = {room, (size_t)(room_id_text(room, r->room) - room)},
                              .seq = r->seq,
                              .type = type_of((enum log_kind)r->kind),
                              .created_at = created_text(created, r->created_ms)};
    if (r->kind == LOG_MESSAGE) {
        e.message_id = (struct history_text){message, (size_t)(message_id_text(message, r->room, r->seq) - message)};
        e.sender = text(r->sender_id);
        e.client_id = text(r->client_id);
        e.content = text(r->content);
    } else if (r->kind == LOG_JOINED || r->kind == LOG_LEFT) { /* the row has the members of an object */
        buf_printf(&body, "{%.*s}", SLICE_FMT(r->content));
        users_of(&e, users, buf_slice(&body));
    }
    history_export(recorder.history, &e);
    buf_free(&body);
}

static void judge_rows(struct kv *kv)
{
    struct kv_iter *i = kv_iter_open(kv, KV_LOG, (struct slice){0}, (struct slice){0});
    for (bool on = kv_iter_first(kv, i); on; on = kv_iter_next(kv, i)) {
        struct log_record r;
        CHECK(log_record_decode(&r, kv_iter_value(kv, i)) == STATUS_OK, "a log row that cannot be decoded");
        judge_row(&r);
    }
    CHECK(kv_iter_close(kv, i) == STATUS_OK, "the log cannot be read");
}
