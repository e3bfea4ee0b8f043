#include "creations.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../../src/chat/ids.h"
#include "../../src/notify/notify.h"
#include "counts.h"
#include "wire.h"
#include "world.h"

/* change: of a subscription. */
struct subscribed {
    enum surely known; /* by the last answer */
    unsigned open, changes;
    unsigned lost_gateway; /* one that may still do what it has not answered */
};

static struct {
    struct creation_asked all[CREATIONS_MAX];
    unsigned num;
    struct subscribed topics[NOTIFIED_USERS][TOPICS];
} creations;

void creations_open(void)
{
    memset(&creations, 0, sizeof creations);
}

void creations_close(void)
{
    for (unsigned i = 0; i < creations.num; i++) {
        buf_free(&creations.all[i].payload);
        buf_free(&creations.all[i].body);
    }
    creations.num = 0;
}

unsigned creations_len(void)
{
    return creations.num;
}

struct creation_asked *creation_at(unsigned index)
{
    return &creations.all[index];
}

/* --- users and topics ------------------------------------------------------------------------------------------ */

const char *user_name(unsigned user)
{
    static const char *const names[NOTIFIED_USERS + 1] = {"user0", "user1", "user2", "user3", "user4",     "user5",
                                                          "user6", "user7", "away0", "away1", "stranger0", "stranger1",
                                                          ""};
    return names[user];
}

_Static_assert(USERS_MAX == 8 && NOTIFIED_USERS == 12, "user_name() has so many");

const char *topic_name(unsigned topic)
{
    return topic ? "weather" : "lunch";
}

unsigned user_place(struct slice user_id)
{
    unsigned user = 0;
    while (user < NOTIFIED_USERS && !slice_is(user_id, user_name(user))) user++;
    return user;
}

bool user_is_client(unsigned user)
{
    return user < scenario.tenants[0].num_users;
}

unsigned user_random(void)
{
    unsigned clients = scenario.tenants[0].num_users;
    unsigned user = (unsigned)world_below(clients + NOTIFIED_AWAY + NOTIFIED_STRANGERS);
    return user < clients ? user : user - clients + USERS_MAX;
}

bool user_has_sockets(struct slice user_id)
{
    unsigned user = user_place(user_id);
    return user_is_client(user) || (scenario.crowded && user >= USERS_MAX + NOTIFIED_AWAY);
}

/* --- subscriptions --------------------------------------------------------------------------------------------- */

enum surely subscription(unsigned user, unsigned topic)
{
    const struct subscribed *s = &creations.topics[user][topic];
    return s->open || s->lost_gateway == scenario.gateway ? PERHAPS : s->known;
}

unsigned subscription_changes(unsigned user, unsigned topic)
{
    return creations.topics[user][topic].changes;
}

void subscription_asked(unsigned user, unsigned topic)
{
    struct subscribed *s = &creations.topics[user][topic];
    s->open++;
    s->changes++;
    for (unsigned i = 0; i < creations.num; i++) {
        struct creation_asked *c = &creations.all[i];
        bool may_change = c->state == CREATION_OPEN && c->subscribers && c->topic == topic;
        if (may_change && !c->named[user]) c->users[user] = PERHAPS; /* if not this try, then one behind a crash */
    }
}

void subscription_answered(unsigned user, unsigned topic, bool on, unsigned gateway)
{
    struct subscribed *s = &creations.topics[user][topic];
    s->open--;
    if (s->open) s->lost_gateway = gateway; /* the other one may be done before this one or behind it */
    s->known = s->lost_gateway == gateway ? PERHAPS : on ? SURELY : SURELY_NOT;
}

void subscription_lost(unsigned user, unsigned topic, unsigned gateway)
{
    struct subscribed *s = &creations.topics[user][topic];
    s->open--;
    s->known = PERHAPS;
    s->lost_gateway = gateway;
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

static void target_users(struct creation_asked *c)
{
    unsigned num = 1 + (unsigned)world_below(3);
    const char *separator = "\"user_ids\":[";
    for (unsigned i = 0; i < num; i++) { /* the same one twice, at times */
        unsigned user = user_random();
        c->users[user] = SURELY;
        c->named[user] = true;
        buf_printf(&c->body, "%s\"%s\"", separator, user_name(user));
        separator = ",";
    }
    BUF_LIT(&c->body, "]");
}

/* target_room: nobody leaves the tenant's first room; who is in the others cannot be said. A large one has strangers by
 * the dozen, of whom nobody keeps count. */
static void target_room(struct creation_asked *c, bool others)
{
    unsigned room = (unsigned)world_below(scenario.num_rooms);
    const struct scenario_room *r = &scenario.rooms[room];
    if (r->tenant != 0 || r->rule == RULE_LARGE || !scenario_room_known(room)) room = 0;
    bool fixed = scenario.rooms[room].rule == RULE_FIXED;
    for (unsigned user = 0; user < scenario.tenants[0].num_users; user++) {
        if (c->users[user] != SURELY) c->users[user] = fixed ? SURELY : PERHAPS;
        c->named[user] |= fixed;
    }
    buf_printf(&c->body, "%s\"room_id\":\"%s\"", others ? "," : "", scenario.rooms[room].id);
}

static void target_topic(struct creation_asked *c, bool others)
{
    c->subscribers = true;
    for (unsigned user = 0; user < NOTIFIED_USERS; user++) {
        enum surely is = subscription(user, c->topic);
        if (is > c->users[user]) c->users[user] = is;
    }
    buf_printf(&c->body, "%s\"topic_subscribers\":true", others ? "," : "");
}

unsigned creation_new(void)
{
    if (creations.num == CREATIONS_MAX) return CREATIONS_MAX;
    unsigned index = creations.num++;
    struct creation_asked *c = &creations.all[index];
    *c = (struct creation_asked){.topic = (unsigned)world_below(TOPICS),
                                 .priority = (uint8_t)(PRIORITY_LOW + world_below(4))};
    if (!world_chance(3)) snprintf(c->key, sizeof c->key, "notify-%u", index);
    buf_printf(&c->payload, "{\"creation\":%u,\"text\":\"", index);
    for (uint64_t left = world_chance(6) ? world_below(6000) : world_below(30); left; left--)
        buf_char(&c->payload, 'x');
    BUF_LIT(&c->payload, "\"}");
    buf_printf(&c->body, "{\"topic\":\"%s\",\"priority\":\"%s\",\"payload\":%.*s,\"targets\":{", topic_name(c->topic),
               priority_name(c->priority), (int)c->payload.len, c->payload.data);
    unsigned kind = (unsigned)world_below(8);
    bool users = kind < 5, room = kind == 5 || kind == 0, topic = kind >= 6 || kind == 1;
    if (users) target_users(c);
    if (room) target_room(c, users);
    if (topic) target_topic(c, users || room);
    BUF_LIT(&c->body, "}}");
    return index;
}

/* --- made ------------------------------------------------------------------------------------------------------- */

unsigned creation_made(const struct watched_notice *n)
{
    uint64_t index = json_number(buf_slice(&n->payload), "creation");
    CHECK(index < creations.num, "a notification that nobody asked for: %.*s", SLICE_FMT(buf_slice(&n->payload)));
    struct creation_asked *c = &creations.all[index];
    unsigned user = user_place(slice_str(n->user_id));
    CHECK(slice_eq(buf_slice(&n->payload), buf_slice(&c->payload)) && n->priority == c->priority &&
              slice_is(buf_slice(&n->topic), topic_name(c->topic)),
          "notification %" PRIu64 " says something else than was asked for", n->number);
    CHECK(user < NOTIFIED_USERS && c->users[user] != SURELY_NOT,
          "notification %" PRIu64 " is made for %s, whom it is not for", n->number, n->user_id);
    CHECK(c->state != CREATION_REFUSED || c->tries > 1,
          "a creation that was refused is made"); /* another try may be late */
    CHECK(c->stored == 0 || (c->stored == n->number && c->fresh),
          "one creation makes notifications %" PRIu64 " and %" PRIu64, c->stored, n->number);
    c->stored = n->number;
    c->num_stored++;
    c->fresh = true;
    return (unsigned)index;
}

/* check_whole: who must have it has it. */
static void check_whole(unsigned index)
{
    struct creation_asked *c = &creations.all[index];
    c->fresh = false;
    for (unsigned user = 0; user < NOTIFIED_USERS; user++)
        CHECK(c->users[user] != SURELY || notice_of(slice_str(user_name(user)), c->stored),
              "notification %" PRIu64 " is made, and not for %s", c->stored, user_name(user));
}

void creations_written(void)
{
    for (unsigned i = 0; i < creations.num; i++)
        if (creations.all[i].fresh) check_whole(i);
}

void creations_crash(void)
{
    for (unsigned i = 0; i < creations.num; i++) {
        struct creation_asked *c = &creations.all[i];
        unsigned num = 0;
        for (unsigned n = 0; n < notices_len(); n++) num += notice_at(n)->creation == i;
        CHECK(num == 0 || num == c->num_stored, "a crash has left a part of notification %" PRIu64, c->stored);
        c->num_stored = num;
        if (num == 0) c->stored = 0;
    }
}

void creation_answered(unsigned index, struct slice answer, uint64_t version)
{
    struct creation_asked *c = &creations.all[index];
    struct slice id;
    uint64_t number, users = json_number(answer, "users");
    CHECK(json_member(answer, "notification_id", &id) && notification_id_parse(id, &number),
          "an answer without an id: %.*s", SLICE_FMT(answer));
    if (c->state == CREATION_ANSWERED)
        CHECK(number == c->number && users == c->num_users, "a repeated creation is told of another notification: %.*s",
              SLICE_FMT(answer));
    for (unsigned i = 0; i < notices_len(); i++) {
        const struct watched_notice *n = notice_at(i);
        if (n->creation != index) continue;
        CHECK(n->number == number, "notification %" PRIu64 " is answered as %" PRIu64, n->number, number);
        CHECK(n->durable_version && n->durable_version <= version,
              "the answer for notification %" PRIu64 " left before it was durable for %s", number, n->user_id);
    }
    CHECK(users == c->num_stored, "notification %" PRIu64 " has %u users, and the answer says %" PRIu64, number,
          c->num_stored, users);
    for (unsigned user = 0; user < NOTIFIED_USERS && c->num_stored == 0; user++)
        CHECK(c->users[user] != SURELY, "notification %" PRIu64 " is answered, and %s has none", number,
              user_name(user));
    if (c->state == CREATION_ANSWERED) count_happened(COUNT_NOTICE_REPEATED);
    c->state = CREATION_ANSWERED;
    c->number = number;
    c->num_users = users;
}
