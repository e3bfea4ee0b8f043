#include "notifier.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/base/assert.h"
#include "../../src/chat/ids.h"
#include "../../src/core/core.h"
#include "client.h"
#include "counts.h"
#include "faults.h"
#include "notifier_state.h"
#include "recorder.h"
#include "store_watch.h"
#include "world.h"

#define STALL_NS (15ull * 1000000000) /* simulated time without an answer while nothing is in the way */

struct notifier notifiers[NOTIFIERS_MAX];

static struct {
    const struct config *config;
    struct notify_bounds bounds;
} limits;

/* --- the run's bounds ------------------------------------------------------------------------------------------- */

static uint32_t small(uint32_t usual, uint32_t least, uint32_t others)
{
    uint32_t chosen = least + (uint32_t)world_below(others);
    return world_chance(2) ? chosen : usual;
}

static void bounds_plan(struct notify_bounds *b)
{
    b->pending_user = small(PENDING_USER_MAX, 1, 6);
    b->pending_tenant = small(PENDING_TENANT_MAX, 4, 24);
    b->creations = small(CREATIONS_TENANT_MAX, 1, 2);
    b->outbox_users = small(OUTBOX_USERS_MAX, 0, 3);
    b->count_rows = small(OUTBOX_COUNT_ROWS, 1, 4);
    b->sweep_rows = small(NOTIFY_SWEEP_ROWS, 1, 6);
    b->push_batch = small(PUSH_BATCH, 1, 3);
    b->dead_keep_ms = world_chance(2) ? 500 + world_below(5000) : DEAD_KEEP_MS;
}

void notifiers_open(struct config *config)
{
    static const uint64_t lives_ms[] = {400, 4000, 40000, 72ull * 3600 * 1000};
    limits.config = config;
    config->notify_attempts = 1 + world_below(4);
    config->notify_retry_base = 50 + world_below(world_chance(2) ? 200 : 3000);
    config->notify_expires = lives_ms[world_below(4)];
    config->notify_keep = 1000 + world_below(world_chance(2) ? 1000 : 100000);
    bounds_plan(&limits.bounds);
    memset(notifiers, 0, sizeof notifiers);
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++) {
        notifiers[i].looks = calloc(NOTICES_MAX, sizeof *notifiers[i].looks);
        ASSERT(notifiers[i].looks);
    }
    notices_open();
    creations_open();
    answers_open();
}

void notifiers_close(void)
{
    notifiers_leave();
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++) {
        free(notifiers[i].looks);
        buf_free(&notifiers[i].line.out);
        buf_free(&notifiers[i].line.in);
    }
    notices_close();
    creations_close();
}

void notifier_bound(struct core *core)
{
    if (scenario.notified) core->notify->bounds = limits.bounds;
}

const struct config *notifier_config(void)
{
    return limits.config;
}

uint64_t notifier_dead_keep_ms(void)
{
    return limits.bounds.dead_keep_ms;
}

const struct notify_bounds *notifier_limits(void)
{
    return &limits.bounds;
}

bool notifier_writes_refused(void)
{
    return scenario.late_gateways >> scenario.gateway & 1 || faults_excuse(scenario.gateway, SLICE("store.overloaded"));
}

struct notice_look notice_looked(unsigned user, uint64_t number)
{
    const struct watched_notice *n = notice_of(slice_str(user_name(user)), number);
    return (struct notice_look){.user = user,
                                .number = number,
                                .state = n ? n->state : NOTICE_NONE,
                                .changes = n ? n->changes : 0,
                                .gateway = scenario.gateway};
}

/* --- requests --------------------------------------------------------------------------------------------------- */

static void request(struct notifier *n, enum notifier_call call, const char *method, const char *path, const char *key,
                    const struct buf *body)
{
    struct line *l = &n->line;
    bool by_operator = notifier_by_operator(call);
    n->call = call;
    if (!l->link) line_open(l, 0, by_operator && world_chance(2));
    n->look.gateway = l->gateway;
    buf_printf(&l->out, "%s %s HTTP/1.1\r\nHost: gateway\r\n", method, path);
    if (by_operator)
        buf_printf(&l->out, "X-Master-Key: %s\r\n", SCENARIO_MASTER_KEY);
    else
        buf_printf(&l->out, "X-API-Key: %s\r\nX-User-Id: %s\r\n", line_key(l), user_name(n->user));
    if (key && key[0]) buf_printf(&l->out, "Idempotency-Key: %s\r\n", key);
    if (body || strcmp(method, "POST") == 0) buf_printf(&l->out, "Content-Length: %zu\r\n", body ? body->len : 0);
    BUF_LIT(&l->out, "\r\n");
    if (body) buf_slice_append(&l->out, buf_slice(body));
    n->since_ns = world_now_ns();
    n->moment = scenario.moment;
    world_trace("notifier %u as %s: %s %s %.*s",
                (unsigned)(n - notifiers), by_operator ? "the operator" : user_name(n->user), method, path,
                body ? (int)(body->len < 120 ? body->len : 120) : 0, body ? body->data : "");
}

static void ask_creation(struct notifier *n, unsigned index)
{
    struct creation_asked *c = creation_at(index);
    n->creation = index;
    n->user = c->user;
    n->mismatch = false;
    c->tries++;
    c->under_way = true;
    recorder_notify(index);
    request(n, NOTIFIER_CREATE, "POST", "/v1/notify", c->key, &c->body);
}

static void create(struct notifier *n)
{
    unsigned index = creation_new();
    if (index == CREATIONS_MAX) return;
    creation_at(index)->user = user_random();
    ask_creation(n, index);
}

/* wants_repeat: one that was not answered; or, in chaos, any. */
static bool wants_repeat(unsigned *index)
{
    for (*index = 0; *index < creations_len(); (*index)++) {
        const struct creation_asked *c = creation_at(*index);
        if (c->state == CREATION_OPEN && c->key[0] && !c->under_way) return true;
    }
    return false;
}

static void repeat(struct notifier *n)
{
    unsigned index;
    if (world_chance(3) && creations_len())
        index = (unsigned)world_below(creations_len());
    else if (!wants_repeat(&index))
        return;
    const struct creation_asked *c = creation_at(index);
    if (c->key[0] && !c->under_way && c->state != CREATION_REFUSED) ask_creation(n, index);
}

/* ask_mismatch uses the key of an answered creation for another one. */
static void ask_mismatch(struct notifier *n)
{
    if (!creations_len()) return;
    unsigned index = (unsigned)world_below(creations_len());
    const struct creation_asked *c = creation_at(index);
    if (c->state != CREATION_ANSWERED || !c->key[0]) return;
    struct buf body = {0};
    BUF_LIT(&body, "{\"topic\":\"other\",\"payload\":7,\"targets\":{\"user_ids\":[\"user0\"]}}");
    n->creation = index;
    n->user = c->user;
    n->mismatch = true;
    request(n, NOTIFIER_CREATE, "POST", "/v1/notify", c->key, &body);
    buf_free(&body);
}

/* some_number: of a notification of the user, of somebody else's, or of none. */
static bool some_number(unsigned *user, uint64_t *number)
{
    if (!notices_len()) return false;
    const struct watched_notice *n = notice_at((unsigned)world_below(notices_len()));
    if (!n->durable_version) return false; /* nobody has heard of it yet */
    *user = user_place(slice_str(n->user_id));
    *number = n->number + (world_chance(20) ? 1000000 : 0);
    if (world_chance(10)) *user = user_random();
    return true;
}

void notifier_ack_asked(struct notice_look *look, unsigned user, uint64_t number)
{
    struct watched_notice *n = notice_of(slice_str(user_name(user)), number);
    *look = notice_looked(user, number);
    if (n)
        n->ack_asked = true;
    else
        count_happened(COUNT_ACK_STRANGE);
    if (n && n->state == NOTICE_DELIVERED) count_happened(COUNT_ACK_TWICE);
}

static void ask_ack(struct notifier *n)
{
    uint64_t number;
    char id[ID_TEXT_LEN], path[80];
    if (!some_number(&n->user, &number)) return;
    notifier_ack_asked(&n->look, n->user, number);
    recorder_notified(notice_of(slice_str(user_name(n->user)), number), NULL); /* whoever made it has told them */
    notification_id_text(id, number);
    snprintf(path, sizeof path, "/v1/notifications/%.*s/ack", (int)ID_TEXT_LEN, id);
    request(n, NOTIFIER_ACK, "POST", path, NULL, NULL);
}

static void look_at_all(struct notifier *n)
{
    n->num_looks = notices_len();
    for (unsigned i = 0; i < n->num_looks; i++) {
        const struct watched_notice *notice = notice_at(i);
        n->looks[i] = (struct notice_look){user_place(slice_str(notice->user_id)), notice->number, notice->state,
                                           notice->changes, scenario.gateway};
    }
}

static void ask_page(struct notifier *n, enum notifier_call call)
{
    char path[160];
    bool letters = call == NOTIFIER_LETTERS, goes_on = n->next.number && n->next_of == call && world_chance(2);
    unsigned limit = 1 + (unsigned)world_below(6);
    n->user = letters ? 0 : goes_on ? n->next_user : user_random();
    n->below = goes_on ? n->next : (struct page){0};
    look_at_all(n);
    int len = snprintf(path, sizeof path, "/v1/%s?limit=%u", letters ? "admin/dead-letters" : "notifications", limit);
    char id[DEAD_LETTER_ID_TEXT_LEN];
    if (goes_on && letters)
        dead_letter_id_text(id, notice_at(0)->tenant, n->below.number, n->below.user);
    else if (goes_on)
        notification_id_text(id, n->below.number);
    if (goes_on)
        snprintf(path + len, sizeof path - (size_t)len, "&cursor=%.*s",
                 (int)(letters ? DEAD_LETTER_ID_TEXT_LEN : ID_TEXT_LEN), id);
    request(n, call, "GET", path, NULL, NULL);
}

static void ask_subscription(struct notifier *n, bool on)
{
    struct buf body = {0};
    char path[80];
    n->user = user_random();
    n->topic = (unsigned)world_below(TOPICS);
    n->topics[n->topic] = subscription(n->user, n->topic);
    subscription_asked(n->user, n->topic);
    n->topic_changes[n->topic] = subscription_changes(n->user, n->topic);
    buf_printf(&body, "{\"topic\":\"%s\"}", topic_name(n->topic));
    snprintf(path, sizeof path, "/v1/users/me/subscriptions/%s", topic_name(n->topic));
    if (on)
        request(n, NOTIFIER_SUBSCRIBE, "POST", "/v1/users/me/subscriptions", NULL, &body);
    else
        request(n, NOTIFIER_UNSUBSCRIBE, "DELETE", path, NULL, NULL);
    buf_free(&body);
}

static void ask_topics(struct notifier *n)
{
    n->user = user_random();
    for (unsigned t = 0; t < TOPICS; t++) {
        n->topics[t] = subscription(n->user, t);
        n->topic_changes[t] = subscription_changes(n->user, t);
    }
    request(n, NOTIFIER_TOPICS, "GET", "/v1/users/me/subscriptions", NULL, NULL);
}

/* ask_letter: what is dead, was dead, or never was. */
static void ask_letter(struct notifier *n, enum notifier_call call)
{
    char id[DEAD_LETTER_ID_TEXT_LEN], path[120];
    if (!notices_len()) return;
    struct watched_notice *notice = notice_at((unsigned)world_below(notices_len()));
    if (!notice->durable_version || (notice->state != NOTICE_DEAD && !world_chance(10))) return;
    n->look = notice_looked(user_place(slice_str(notice->user_id)), notice->number);
    *(call == NOTIFIER_RETRY ? &notice->retry_asked : &notice->delete_asked) = true;
    dead_letter_id_text(id, notice->tenant, notice->number, notice->user);
    snprintf(path, sizeof path, "/v1/admin/dead-letters/%.*s%s", (int)DEAD_LETTER_ID_TEXT_LEN, id,
             call == NOTIFIER_RETRY ? "/retry" : "");
    request(n, call, call == NOTIFIER_RETRY ? "POST" : "DELETE", path, NULL, NULL);
}

static void act(struct notifier *n)
{
    switch (world_below(18)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: create(n); return;
    case 5:
    case 6: repeat(n); return;
    case 7: ask_mismatch(n); return;
    case 8:
    case 9: ask_ack(n); return;
    case 10: ask_page(n, NOTIFIER_LIST); return;
    case 11: ask_page(n, NOTIFIER_LETTERS); return;
    case 12:
    case 13: ask_subscription(n, true); return;
    case 14: ask_subscription(n, false); return;
    case 15: ask_topics(n); return;
    case 16: ask_letter(n, NOTIFIER_RETRY); return;
    case 17:
        if (world_chance(3)) ask_letter(n, NOTIFIER_DELETE);
        return;
    }
}

/* --- connections ------------------------------------------------------------------------------------------------ */

/* call_lost: nobody knows whether it is done. */
static void call_lost(struct notifier *n)
{
    bool subscribes = n->call == NOTIFIER_SUBSCRIBE || n->call == NOTIFIER_UNSUBSCRIBE;
    if (subscribes) subscription_lost(n->user, n->topic, n->line.gateway);
    if (n->call == NOTIFIER_CREATE && !n->mismatch) creation_at(n->creation)->under_way = false;
    n->call = NOTIFIER_IDLE;
}

static void drop(struct notifier *n, bool reset)
{
    call_lost(n);
    line_close(&n->line, reset);
    n->retry_ns = world_now_ns() + (scenario.healing ? 0 : world_below(50000000));
}

static void answer_read(struct notifier *n)
{
    struct http_answer answer;
    size_t len = wire_answer(&answer, buf_slice(&n->line.in));
    if (len == 0) return;
    unsigned index = (unsigned)(n - notifiers);
    CHECK(n->call != NOTIFIER_IDLE, "notifier %u: an answer that nobody asked for: %u", index, answer.status);
    world_trace("notifier %u: answer %u %.*s", index, answer.status,
                (int)(answer.body.len < 120 ? answer.body.len : 120), answer.body.data);
    notifier_answered(n, &answer, link_version(n->line.link, n->line.offset));
    bool closes = answer.close || notifier_by_operator(n->call);
    n->call = NOTIFIER_IDLE;
    line_take(&n->line, len);
    if (closes) drop(n, false);
}

/* kept_out: while the run heals, nobody asks before the operator has let them in again. */
static bool kept_out(void)
{
    const struct scenario_tenant *t = &scenario.tenants[0];
    return !t->ready || (scenario.healing && (t->disabled.maybe || t->limited.maybe));
}

static bool may_begin(const struct notifier *n)
{
    return n->call == NOTIFIER_IDLE && n->retry_ns <= world_now_ns() && scenario_room_known(0) && !kept_out();
}

bool notifier_can_step(unsigned notifier)
{
    const struct notifier *n = &notifiers[notifier];
    unsigned index;
    if (!scenario.notified || scenario.num_cores == 0) return false;
    return !scenario.healing || line_can_pump(&n->line) || (may_begin(n) && wants_repeat(&index));
}

void notifier_step(unsigned notifier)
{
    struct notifier *n = &notifiers[notifier];
    unsigned index;
    scenario.moment++;
    if (n->line.link) {
        bool open = line_pump(&n->line, true);
        answer_read(n);
        if (!open && n->line.link) drop(n, false);
    }
    if (scenario.healing) {
        if (may_begin(n) && wants_repeat(&index)) ask_creation(n, index);
        return;
    }
    if (may_begin(n) && world_chance(4)) act(n);
    if (n->line.link && world_chance(150)) drop(n, world_chance(2));
}

uint64_t notifier_wake_ns(unsigned notifier)
{
    const struct notifier *n = &notifiers[notifier];
    return scenario.notified && n->retry_ns > world_now_ns() ? n->retry_ns : WORLD_NEVER;
}

void notifiers_heal(void)
{
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++) notifiers[i].since_ns = world_now_ns();
}

void notifiers_leave(void)
{
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++)
        if (notifiers[i].line.link) drop(&notifiers[i], world_chance(2));
}

void notifiers_check_stall(void)
{
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++)
        CHECK(notifiers[i].call == NOTIFIER_IDLE || world_now_ns() < notifiers[i].since_ns + STALL_NS,
              "notifier %u has had no answer to its call (kind %d)", i, (int)notifiers[i].call);
}

const char *notifiers_unsettled(void)
{
    unsigned index;
    if (!scenario.notified) return NULL;
    for (unsigned i = 0; i < NOTIFIERS_MAX; i++)
        if (notifiers[i].call != NOTIFIER_IDLE) return "a notifier's call is not answered";
    if (wants_repeat(&index)) return "the making of a notification is not answered";
    for (unsigned i = 0; i < notices_len(); i++) {
        const struct watched_notice *n = notice_at(i);
        if (n->state == NOTICE_PENDING && user_is_client(user_place(slice_str(n->user_id))))
            return "a notification waits for its user";
    }
    return NULL;
}
