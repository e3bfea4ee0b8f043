/* What notifiers and clients are told of notifications, held against the store. */
#include <inttypes.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/chat/ids.h"
#include "client_state.h"
#include "counts.h"
#include "faults.h"
#include "notifier_state.h"
#include "oracle.h"
#include "recorder.h"
#include "store_watch.h"
#include "world.h"

#define TOLD_MAX 256u /* notifications that one socket is told of */

/* told: a notification on a client's socket. */
struct told {
    uint64_t number;
    unsigned late_copies; /* that came although it was acknowledged before the socket opened */
};

/* ear: what a client's socket has been told. */
struct ear {
    uint64_t connected_ns, connected_version; /* the store's */
    bool first; /* its user has had no other socket at this gateway before, so nothing is pushed out of order */
    bool any;
    uint8_t priority; /* the last one in that order */
    uint64_t number;
    struct told told[TOLD_MAX];
    unsigned num_told;
};

static struct {
    struct ear ears[CLIENTS_MAX];
    unsigned served_by[NOTIFIED_USERS + 1]; /* the last gateway to which the user has opened a socket */
} answers;

void answers_open(void)
{
    memset(&answers, 0, sizeof answers);
}

static struct watched_notice *notice_looked_at(const struct notice_look *look)
{
    return notice_of(slice_str(user_name(look->user)), look->number);
}

/* unchanged: it stands as it stood when it was asked about, so the gateway cannot have seen it otherwise. */
static bool unchanged(const struct notice_look *look)
{
    const struct watched_notice *n = notice_looked_at(look);
    return look->gateway == scenario.gateway &&
           (n ? n->state == look->state && n->changes == look->changes : look->state == NOTICE_NONE);
}

/* --- refusals --------------------------------------------------------------------------------------------------- */

/* excused: it may be otherwise later. The operator's answers rest on no key and no rate. */
static bool excused(const struct notifier *n, struct slice code)
{
    bool of_tenant = slice_starts(code, SLICE("auth.")) || slice_starts(code, SLICE("tenant.")) ||
                     slice_starts(code, SLICE("rate."));
    return !(notifier_by_operator(n->call) && of_tenant) && oracle_refused_for_now(0, &n->line, n->moment, code);
}

static bool outbox_full(void)
{
    uint64_t most = notices_pending_most(),
             unsure = (uint64_t)(creations_len() ? 2 * NOTIFIERS_MAX : 0) * NOTIFIED_USERS;
    return most + unsure > notifier_limits()->pending_tenant;
}

static bool creation_refused(struct notifier *n, struct slice code)
{
    struct creation_asked *c = creation_at(n->creation);
    if (n->mismatch && slice_is(code, "idempotency.mismatch")) {
        count_happened(COUNT_NOTIFY_MISMATCH);
        return true;
    }
    if (slice_is(code, "server.overloaded") && notifier_limits()->creations < CREATIONS_TENANT_MAX) {
        count_happened(COUNT_NOTIFY_CROWDED);
        return true;
    }
    if (!slice_is(code, "notification.outbox_full") || n->mismatch) return false;
    if (c->state == CREATION_OPEN) c->state = CREATION_REFUSED;
    count_happened(COUNT_NOTIFY_FULL);
    return outbox_full();
}

bool notifier_ack_refused(const struct notice_look *look, struct slice code)
{
    if (!slice_is(code, "notification.not_found")) return false;
    bool there = look->state != NOTICE_NONE && look->state != NOTICE_GONE;
    CHECK(!there || !unchanged(look), "notification %" PRIu64 " of %s is %s, and an acknowledgement does not find it",
          look->number, user_name(look->user), notice_state_name(look->state));
    return true;
}

/* user_full: as many wait for the user as may, when it was asked or now. */
static bool user_full(const struct notice_look *look)
{
    const struct watched_notice *n = notice_looked_at(look);
    return !n || notices_pending(n->user) + NOTIFIERS_MAX >= notifier_limits()->pending_user;
}

static bool refused(struct notifier *n, struct slice code)
{
    switch (n->call) {
    case NOTIFIER_CREATE: return creation_refused(n, code);
    case NOTIFIER_ACK: return notifier_ack_refused(&n->look, code);
    case NOTIFIER_UNSUBSCRIBE:
        if (!slice_is(code, "subscription.not_found")) return false;
        CHECK(n->topics[n->topic] != SURELY || subscription_changes(n->user, n->topic) != n->topic_changes[n->topic],
              "%s is subscribed to %s, and leaving it says no", user_name(n->user), topic_name(n->topic));
        return true;
    case NOTIFIER_RETRY:
        if (slice_is(code, "notification.outbox_full")) return user_full(&n->look);
        return slice_is(code, "dead_letter.not_found") && !(n->look.state == NOTICE_DEAD && unchanged(&n->look));
    case NOTIFIER_DELETE:
        return slice_is(code, "dead_letter.not_found") && !(n->look.state == NOTICE_DEAD && unchanged(&n->look));
    case NOTIFIER_SUBSCRIBE:
    case NOTIFIER_LIST:
    case NOTIFIER_TOPICS:
    case NOTIFIER_LETTERS:
    case NOTIFIER_IDLE: return false;
    }
    return false;
}

/* --- lists ------------------------------------------------------------------------------------------------------ */

/* shown: how an item of a page calls the state, by the list. */
static enum notice_state shown_state(enum notifier_call call, struct slice item)
{
    struct slice status = {0};
    if (call == NOTIFIER_LETTERS) return NOTICE_DEAD;
    CHECK(json_member(item, "status", &status), "a notification without status: %.*s", SLICE_FMT(item));
    if (slice_is(status, "delivered")) return NOTICE_DELIVERED;
    if (slice_is(status, "dead")) return NOTICE_DEAD;
    CHECK(slice_is(status, "pending"), "a notification that is %.*s", SLICE_FMT(status));
    return NOTICE_PENDING;
}

static const struct notice_look *looked(const struct notifier *n, const struct watched_notice *notice)
{
    unsigned user = user_place(slice_str(notice->user_id));
    for (unsigned i = 0; i < n->num_looks; i++)
        if (n->looks[i].number == notice->number && n->looks[i].user == user) return &n->looks[i];
    return NULL;
}

/* item_notice finds what an item is about, and holds what it says against what was made. */
static struct watched_notice *item_notice(const struct notifier *n, struct slice item, uint64_t version)
{
    struct slice id, user = slice_str(user_name(n->user)), text;
    uint64_t number;
    CHECK(json_member(item, "notification_id", &id) && notification_id_parse(id, &number),
          "an item without an id: %.*s", SLICE_FMT(item));
    if (n->call == NOTIFIER_LETTERS) CHECK(json_member(item, "user_id", &user), "a dead letter of nobody");
    struct watched_notice *notice = notice_of(user, number);
    CHECK(notice, "%.*s is shown notification %" PRIu64 ", which is not theirs", SLICE_FMT(user), number);
    CHECK(notice->durable_version && notice->durable_version <= version,
          "notification %" PRIu64 " is shown before it is durable", number);
    CHECK(json_member(item, "topic", &text) && slice_eq(text, buf_slice(&notice->topic)), "a list has another topic");
    CHECK(json_member(item, "priority", &text) && slice_is(text, priority_name(notice->priority)),
          "a list has another priority");
    bool whole = n->call == NOTIFIER_LETTERS ||
                 (json_member(item, "payload", &text) && slice_eq(text, buf_slice(&notice->payload)));
    CHECK(whole, "a list has another payload");
    return notice;
}

static bool below(struct page a, struct page b)
{
    return b.number == 0 || a.number < b.number || (a.number == b.number && a.user < b.user);
}

/* check_missing: what stood the same from the question to the answer, and belongs between two places, is there. */
static void check_missing(const struct notifier *n, struct page last, uint64_t *listed, unsigned num)
{
    for (unsigned i = 0; i < n->num_looks; i++) {
        const struct notice_look *look = &n->looks[i];
        const struct watched_notice *notice = notice_looked_at(look);
        bool letters = n->call == NOTIFIER_LETTERS, found = false;
        bool of_list = letters ? look->state == NOTICE_DEAD
                               : look->user == n->user && look->state != NOTICE_GONE && look->state != NOTICE_NONE;
        if (!of_list || !notice || !unchanged(look)) continue;
        struct page at = {look->number, letters ? notice->user : 0};
        if (!below(at, n->below) || (last.number && below(at, last))) continue;
        for (unsigned l = 0; l < num && !found; l++) found = listed[2 * l] == at.number && listed[2 * l + 1] == at.user;
        CHECK(found, "a list leaves out notification %" PRIu64 " of %s, which is %s", look->number,
              user_name(look->user), notice_state_name(look->state));
    }
}

static void page_answered(struct notifier *n, struct slice body, uint64_t version)
{
    struct slice items, item, next;
    uint64_t listed[2 * 16];
    unsigned num = 0;
    struct page last = n->below;
    bool letters = n->call == NOTIFIER_LETTERS, goes_on = json_member(body, "next", &next);
    CHECK(json_member(body, "items", &items), "a list without items: %.*s", SLICE_FMT(body));
    while (json_element(&items, &item)) {
        struct watched_notice *notice = item_notice(n, item, version);
        const struct notice_look *look = looked(n, notice);
        enum notice_state state = shown_state(n->call, item);
        CHECK(num < 16, "a page longer than was asked for");
        struct page at = {notice->number, letters ? notice->user : 0};
        CHECK(below(at, last), "a list is out of order at notification %" PRIu64, notice->number);
        CHECK(!look || !unchanged(look) || look->state == state,
              "notification %" PRIu64 " of %s is %s and is listed as %s", notice->number, notice->user_id,
              notice_state_name(notice->state), notice_state_name(state));
        listed[2 * num] = at.number;
        listed[2 * num++ + 1] = at.user;
        last = at;
        if (!letters) recorder_notified(notice, NULL);
    }
    count_happened(letters ? COUNT_LETTERS_LISTED : COUNT_NOTICES_LISTED);
    if (goes_on) CHECK(num > 0, "an empty page that goes on");
    if (n->look.gateway == scenario.gateway) check_missing(n, goes_on ? last : (struct page){0}, listed, num);
    n->next = goes_on ? last : (struct page){0};
    n->next_of = n->call;
    n->next_user = n->user;
}

static void topics_answered(const struct notifier *n, struct slice body)
{
    struct slice items, item, topic;
    bool on[TOPICS] = {false};
    CHECK(json_member(body, "items", &items), "topics without items: %.*s", SLICE_FMT(body));
    while (json_element(&items, &item)) {
        unsigned t = 0;
        CHECK(json_member(item, "topic", &topic), "a subscription without a topic");
        while (t < TOPICS && !slice_is(topic, topic_name(t))) t++;
        CHECK(t < TOPICS && !on[t], "%s is subscribed to %.*s", user_name(n->user), SLICE_FMT(topic));
        /* cppcheck-suppress arrayIndexOutOfBoundsCond ; a CHECK that fails does not return */
        on[t] = true;
    }
    for (unsigned t = 0; t < TOPICS; t++)
        CHECK(n->topics[t] == PERHAPS || subscription_changes(n->user, t) != n->topic_changes[t] ||
                  on[t] == (n->topics[t] == SURELY),
              "%s %s subscribed to %s, and the list says otherwise", user_name(n->user),
              n->topics[t] == SURELY ? "is" : "is not", topic_name(t));
}

/* --- what is done ----------------------------------------------------------------------------------------------- */

void notifier_acked(const struct notice_look *look)
{
    struct watched_notice *n = notice_looked_at(look);
    CHECK(n, "%s acknowledges notification %" PRIu64 ", which is not theirs, and that succeeds", user_name(look->user),
          look->number);
    if (look->gateway != scenario.gateway) return; /* a power loss may have taken it back */
    CHECK(n->state == NOTICE_DELIVERED || n->state == NOTICE_GONE,
          "notification %" PRIu64 " of %s was acknowledged and is %s", n->number, n->user_id,
          notice_state_name(n->state));
    CHECK(look->state != NOTICE_GONE || !unchanged(look), "notification %" PRIu64 " was gone, and is acknowledged",
          n->number);
    if (n->acked_gateway == scenario.gateway) return;
    n->acked_gateway = scenario.gateway;
    n->acked_ns = world_now_ns();
}

static void subscription_done(struct notifier *n, unsigned status)
{
    bool on = n->call == NOTIFIER_SUBSCRIBE;
    bool alone = subscription_changes(n->user, n->topic) == n->topic_changes[n->topic];
    enum surely was = n->topics[n->topic];
    if (alone && on)
        CHECK(was == PERHAPS || (status == 200) == (was == SURELY), "a subscription is answered %u", status);
    if (alone && !on) CHECK(was != SURELY_NOT, "%s leaves a topic that they are not subscribed to", user_name(n->user));
    subscription_answered(n->user, n->topic, on, n->line.gateway);
    count_happened(COUNT_TOPIC_CHANGED);
}

static void letter_done(const struct notifier *n)
{
    struct watched_notice *notice = notice_looked_at(&n->look);
    bool retry = n->call == NOTIFIER_RETRY;
    CHECK(notice && (n->look.state == NOTICE_DEAD || !unchanged(&n->look)), "what is no dead letter is %s",
          retry ? "tried again" : "deleted");
    if (retry) {
        CHECK(notice->changes != n->look.changes || notice->state == NOTICE_GONE, "a retried letter is as it was");
        return;
    }
    CHECK(notice->state == NOTICE_GONE, "dead letter %" PRIu64 " of %s was deleted and is %s", notice->number,
          notice->user_id, notice_state_name(notice->state));
    notice->deleted = true;
}

static void succeeded(struct notifier *n, const struct http_answer *answer, uint64_t version)
{
    switch (n->call) {
    case NOTIFIER_CREATE:
        CHECK(!n->mismatch, "a key that was used for another creation is taken");
        creation_answered(n->creation, answer->body, version);
        recorder_notify_ok(n->creation);
        return;
    case NOTIFIER_ACK: notifier_acked(&n->look); return;
    case NOTIFIER_LIST:
    case NOTIFIER_LETTERS: page_answered(n, answer->body, version); return;
    case NOTIFIER_SUBSCRIBE:
    case NOTIFIER_UNSUBSCRIBE: subscription_done(n, answer->status); return;
    case NOTIFIER_TOPICS: topics_answered(n, answer->body); return;
    case NOTIFIER_RETRY:
    case NOTIFIER_DELETE: letter_done(n); return;
    case NOTIFIER_IDLE: break;
    }
    world_fail("a notifier is answered what it did not ask");
}

void notifier_answered(struct notifier *n, const struct http_answer *answer, uint64_t version)
{
    struct slice code;
    bool subscribes = n->call == NOTIFIER_SUBSCRIBE || n->call == NOTIFIER_UNSUBSCRIBE, good = answer->status < 300;
    if (good) {
        if (!notifier_by_operator(n->call)) oracle_let_in("a notifier", 0, &n->line, n->moment);
        succeeded(n, answer, version);
    } else {
        CHECK(json_member(answer->body, "code", &code), "a problem without code: %.*s", SLICE_FMT(answer->body));
        bool reason = excused(n, code), final = !reason && refused(n, code);
        CHECK(reason || final, "a notifier (call %d) is refused without a reason: %.*s", (int)n->call,
              SLICE_FMT(answer->body));
        if (subscribes && final)
            subscription_answered(n->user, n->topic, false, n->line.gateway);
        else if (subscribes)
            subscription_lost(n->user, n->topic, n->line.gateway);
    }
    if (n->call == NOTIFIER_CREATE && !n->mismatch) creation_at(n->creation)->under_way = false;
}

/* --- pushes ----------------------------------------------------------------------------------------------------- */

static struct ear *ear_of(const struct client *c)
{
    return &answers.ears[c - clients];
}

static unsigned user_of(const struct client *c)
{
    return c->tenant ? NOTIFIED_USERS : user_place(slice_str(c->user_id));
}

void notifier_connected(const struct client *c)
{
    struct ear *e = ear_of(c);
    unsigned user = user_of(c);
    e->connected_ns = world_now_ns();
    e->connected_version = store_version();
    e->num_told = 0;
    e->any = false;
    e->first = answers.served_by[user] != scenario.gateway && !scenario.crowded;
    answers.served_by[user] = scenario.gateway;
}

/* check_order: what waited when the user's first socket at this gateway opened, and was not tried before, comes most
 * urgent first, then in the order of its making. */
static void check_order(const struct client *c, struct ear *e, const struct watched_notice *n)
{
    bool unread = faults_excuse(c->socket.gateway, SLICE("store.read_failed"));
    bool waited = n->durable_version <= e->connected_version && !n->start_attempts && !n->was_dead;
    if (!e->first || unread || !waited) return;
    bool in_order = !e->any || e->priority > n->priority || (e->priority == n->priority && e->number < n->number);
    CHECK(in_order, "%s gets notification %" PRIu64 " of priority %u behind %" PRIu64 " of priority %u", c->name,
          n->number, n->priority, e->number, e->priority);
    if (e->any) count_happened(COUNT_NOTICE_IN_ORDER);
    e->any = true;
    e->priority = n->priority;
    e->number = n->number;
}

static struct told *told_of(struct ear *e, uint64_t number)
{
    for (unsigned i = 0; i < e->num_told; i++)
        if (e->told[i].number == number) return &e->told[i];
    return NULL;
}

/* check_not_ended: what has ended is not pushed again, but for the one push that was under way. */
static void check_not_ended(const struct client *c, const struct ear *e, const struct watched_notice *n, struct told *t)
{
    if (c->socket.gateway != scenario.gateway) return;
    CHECK(n->at_start != NOTICE_DELIVERED && n->at_start != NOTICE_GONE,
          "%s gets notification %" PRIu64 ", which was %s when the gateway started", c->name, n->number,
          notice_state_name(n->at_start));
    CHECK(n->at_start != NOTICE_DEAD || n->retry_asked, "%s gets notification %" PRIu64 ", a dead letter", c->name,
          n->number);
    if (n->acked_gateway != scenario.gateway || n->acked_ns >= e->connected_ns) return;
    CHECK(t->late_copies++ == 0, "%s gets notification %" PRIu64 " again and again, and it was acknowledged", c->name,
          n->number);
}

void notifier_pushed(const struct client *c, struct slice text, uint64_t version)
{
    struct slice id, value;
    uint64_t number;
    struct ear *e = ear_of(c);
    CHECK(json_member(text, "notification_id", &id) && notification_id_parse(id, &number), "%s: a push without an id",
          c->name);
    struct watched_notice *n = notice_of(slice_str(user_name(user_of(c))), number);
    CHECK(n, "%s is pushed notification %" PRIu64 ", which is not theirs", c->name, number);
    CHECK(n->durable_version && n->durable_version <= version,
          "%s is pushed notification %" PRIu64 " before it is durable", c->name, number);
    CHECK(json_member(text, "payload", &value) && slice_eq(value, buf_slice(&n->payload)), "%s: another payload",
          c->name);
    CHECK(json_member(text, "topic", &value) && slice_eq(value, buf_slice(&n->topic)), "%s: another topic", c->name);
    CHECK(json_member(text, "priority", &value) && slice_is(value, priority_name(n->priority)), "%s: another priority",
          c->name);
    struct told *t = told_of(e, number);
    if (!t) {
        CHECK(e->num_told < TOLD_MAX, "more notifications than a socket is told of");
        check_order(c, e, n);
        t = &e->told[e->num_told++];
        *t = (struct told){.number = number};
        count_happened(COUNT_NOTICE_PUSHED);
    } else {
        count_happened(COUNT_NOTICE_PUSHED_AGAIN);
    }
    check_not_ended(c, e, n, t);
    recorder_notified(n, c);
}

/* --- acknowledgements by socket --------------------------------------------------------------------------------- */

static bool waits(const struct client *c, const struct told *t)
{
    const struct watched_notice *n = notice_of(slice_str(c->user_id), t->number);
    for (unsigned i = 0; i < c->num_asked; i++)
        if (c->asked[i].kind == ASK_NOTIFICATION && c->asked[i].look.number == t->number) return false;
    return n && n->state == NOTICE_PENDING;
}

bool notifier_wants_ack(const struct client *c)
{
    const struct ear *e = ear_of(c);
    for (unsigned i = 0; i < e->num_told; i++)
        if (waits(c, &e->told[i])) return true;
    return false;
}

static uint64_t number_to_ack(const struct client *c, struct ear *e)
{
    for (unsigned i = 0; i < e->num_told && scenario.healing; i++)
        if (waits(c, &e->told[i])) return e->told[i].number;
    if (world_chance(12) && notices_len()) {
        const struct watched_notice *any = notice_at((unsigned)world_below(notices_len()));
        if (any->durable_version) return any->number; /* else nobody has heard of it yet, and a crash may take it */
    }
    if (world_chance(30)) return 1000000007;
    return e->num_told ? e->told[world_below(e->num_told)].number : 0;
}

bool notifier_choose_ack(const struct client *c, struct notice_look *look)
{
    struct ear *e = ear_of(c);
    uint64_t number = number_to_ack(c, e);
    if (number == 0) return false;
    notifier_ack_asked(look, user_of(c), number);
    recorder_notified(notice_looked_at(look), NULL); /* one that it was not told of, it has from whoever made it */
    look->gateway = c->socket.gateway;
    return true;
}
