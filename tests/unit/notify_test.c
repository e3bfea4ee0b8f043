#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/ids.h"
#include "../../src/notify/inbox.h"
#include "../../src/notify/outbox.h"

/* Notifications over days: attempts and their waits, expiry, history, and what a crash leaves. */

#define MINUTE 60000ull
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* notified makes a notification for one user over REST and returns its id. */
struct made {
    char id[ID_TEXT_LEN + 1];
};

static struct made notified(struct harness *h, const char *user_id, const char *payload)
{
    struct made made;
    char body[200];
    struct client *c = client_open(h, 0);
    snprintf(body, sizeof body, "{\"topic\":\"t\",\"payload\":%s,\"targets\":{\"user_ids\":[\"%s\"]}}", payload, user_id);
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 202);
    const char *at = strstr(c->text.data, "\"n_");
    assert_non_null(at);
    snprintf(made.id, sizeof made.id, "%.*s", (int)ID_TEXT_LEN, at + 1);
    client_close(c);
    return made;
}

/* listed returns a user's list; it lives until the next call. */
static const char *listed(struct harness *h, const char *user_id)
{
    static char text[8192];
    struct client *c = client_open(h, h->gateway.num_cores - 1);
    assert_int_equal(client_call(c, "GET", "/v1/notifications", user_id, "", NULL), 200);
    snprintf(text, sizeof text, "%s", c->text.data);
    client_close(c);
    return text;
}

static void acknowledge(struct harness *h, const char *user_id, struct made made, unsigned status)
{
    char path[64];
    struct client *c = client_open(h, 0);
    snprintf(path, sizeof path, "/v1/notifications/%s/ack", made.id);
    assert_int_equal(client_call(c, "POST", path, user_id, "", ""), status);
    client_close(c);
}

static uint32_t inboxes(struct harness *h)
{
    uint32_t num = 0;
    for (unsigned i = 0; i < h->gateway.num_cores; i++) num += harness_core(h, i)->notify->inboxes.len;
    return num;
}

/* pass lets time go by in steps in which timers run. */
static void pass(struct harness *h, uint64_t ms, uint64_t step_ms)
{
    for (uint64_t gone = 0; gone < ms; gone += step_ms) {
        harness_advance(h, step_ms);
        harness_settle(h);
    }
}

static void nothing_to_do(void *context, struct commit_entry *entry, enum status result) {}

static void an_answer_waits_for_the_disk(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    listed(h, "backend");
    listed(h, "bob"); /* both exist */
    struct client *c = client_open(h, 0), *bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    char request[512];
    snprintf(request, sizeof request, "POST /v1/notify HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: backend\r\n"
             "Content-Length: %zu\r\n\r\n%s", h->api_key, strlen(body), body);
    h->hold_syncer = true;
    client_send(c, slice_str(request));
    harness_settle(h);
    client_hears_nothing(bob); /* and it is not shown before */
    assert_int_equal(client_read(c), 0);
    h->hold_syncer = false;
    assert_int_equal(client_answer(c), 202);
    expect_text(client_hear(bob), "\"type\":\"notification\"");
}

/* A full pipeline is no failed one: what was read is shown when there is room again, and who comes meanwhile gets what
 * waits. */
static void what_is_read_while_the_pipeline_is_full_is_shown_when_it_has_room(void **state)
{
    struct harness *h = *state;
    static struct commit_entry fills[COMMIT_PENDING_MAX];
    harness_open(h, 1);
    struct made made = notified(h, "bob", "1");
    struct client *c = client_open(h, 0), *bob = socket_open(h, 0, "bob", NULL);
    char request[256];
    struct core *core = harness_core(h, 0);
    h->hold_syncer = true;
    for (unsigned i = 0; !commit_full(core->commit); i++) {
        fills[i] = (struct commit_entry){.class = COMMIT_FSYNC, .done = nothing_to_do};
        assert_int_equal(commit_push(core->commit, &fills[i]), STATUS_OK);
    }
    client_say(bob, "{\"type\":\"hello\"}");
    snprintf(request, sizeof request,
             "GET /v1/notifications HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: bob\r\n\r\n", h->api_key);
    client_send(c, slice_str(request));
    harness_settle(h);
    assert_int_equal(client_read(c), 0);
    h->hold_syncer = false;
    assert_int_equal(client_answer(c), 200);
    expect_text(c->text.data, made.id);
    expect_text(client_hear(bob), "welcome");
    expect_text(client_hear(bob), made.id);
}

static void attempts_follow_each_other_with_growing_waits(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    struct made made = notified(h, "bob", "1");
    uint64_t gone = 0, last = 0, waits[7];
    unsigned num = 0;
    expect_text(client_hear(bob), made.id);
    while (num < 7 && gone < HOUR) {
        pass(h, 500, 500);
        gone += 500;
        client_say(bob, "{\"type\":\"ping\"}"); /* a client that says nothing is closed */
        if (!strstr(client_hear(bob), "notification")) continue;
        waits[num++] = gone - last;
        last = gone;
        client_hear(bob); /* the pong behind it */
    }
    assert_int_equal(num, 7); /* eight attempts in all */
    for (unsigned i = 0; i < 7; i++) assert_in_range(waits[i], (7500ull << i) - 1000, (12500ull << i) + 1500);
    expect_text(listed(h, "bob"), "\"status\":\"pending\",\"attempts\":8");
    for (uint64_t left = 0; left < HOUR; left += 20000) {
        pass(h, 20000, 20000);
        client_say(bob, "{\"type\":\"ping\"}");
        expect_text(client_hear(bob), "pong");
    }
    expect_text(listed(h, "bob"), "\"status\":\"dead\",\"attempts\":8");
    expect_text(listed(h, "bob"), "\"reason\":\"attempts\"");
    assert_int_equal(inboxes(h), 0);
}

static void being_away_is_no_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    pass(h, 2 * DAY, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"pending\",\"attempts\":0");
    assert_int_equal(inboxes(h), 0); /* nothing in memory for who is away */
    struct client *bob = socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
    expect_text(client_hear(bob), made.id);
    acknowledge(h, "bob", made, 200);
    expect_text(listed(h, "bob"), "\"status\":\"delivered\",\"attempts\":1");
    assert_int_equal(inboxes(h), 0);
}

static void what_expires_is_a_dead_letter_and_old_ones_go(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    notified(h, "bob", "1");
    pass(h, 3 * DAY - HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"pending\"");
    pass(h, 2 * HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    expect_text(listed(h, "bob"), "\"reason\":\"expired\"");
    pass(h, 29 * DAY, DAY);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    pass(h, 2 * DAY, HOUR);
    expect_text(listed(h, "bob"), "\"items\":[]");
}

static void delivered_ones_stay_listed_for_a_week(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    acknowledge(h, "bob", notified(h, "bob", "1"), 200);
    pass(h, 7 * DAY - HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"delivered\"");
    pass(h, 2 * HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"items\":[]");
}

static void a_restart_goes_on_where_the_attempts_were(void **state)
{
    static const enum harness_end ends[] = {END_CLEAN, END_KILLED, END_POWER_LOST};
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    for (unsigned i = 0; i < 3; i++) {
        struct client *bob = socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
        expect_text(client_hear(bob), made.id); /* again to each new socket … */
        char wanted[64];
        snprintf(wanted, sizeof wanted, "\"status\":\"pending\",\"attempts\":%u", i + 1);
        expect_text(listed(h, "bob"), wanted);
        client_close(bob);
        harness_settle(h);
        harness_restart(h, ends[i]);
        pass(h, HOUR, HOUR); /* … and an attempt, once its wait is over */
    }
}

static void a_new_socket_is_told_without_it_being_an_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    for (unsigned i = 0; i < 20; i++) {
        struct client *bob = socket_open(h, i % 2, "bob", "{\"type\":\"hello\"}");
        expect_text(client_hear(bob), made.id);
        client_close(bob);
        harness_settle(h);
    }
    expect_text(listed(h, "bob"), "\"status\":\"pending\",\"attempts\":1");
}

static void a_notification_that_the_power_took_was_not_answered(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    h->hold_syncer = true;
    struct op *op = harness_op(h, 0, OP_NOTIFY, &ann, 0, 16);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, SLICE("1"));
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(1, sizeof *op->members);
    op->num_members = 1;
    op->members[0] = (struct op_member){.user = ann.number, .user_id = op->user_id};
    struct answer *made = harness_go(h, op);
    harness_settle(h);
    expect_waiting(made);
    harness_restart(h, END_POWER_LOST);
    expect_error(made, ERR_STORE_UNKNOWN);
    expect_text(listed(h, "ann"), "\"items\":[]");
}

static void a_gateway_without_notifications_asks_for_none(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
    harness_settle(h);
    assert_false(atomic_load(&h->gateway.notifications));
    assert_int_equal(inboxes(h), 0);
    notified(h, "ann", "1");
    assert_true(atomic_load(&h->gateway.notifications));
    harness_restart(h, END_KILLED);
    assert_true(atomic_load(&h->gateway.notifications));
}

static void a_failed_store_answers_and_loses_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct made made = notified(h, "bob", "1");
    kv_fake_fail(h->kv, true, true);
    struct client *c = client_open(h, 0);
    char path[64];
    snprintf(path, sizeof path, "/v1/notifications/%s/ack", made.id);
    assert_int_equal(client_call(c, "POST", path, "bob", "", ""), 503);
    assert_int_equal(client_call(c, "POST", path, "bob", "", ""), 503);
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 503);
    pass(h, 4 * DAY, HOUR); /* it expires, and cannot be buried */
    kv_fake_fail(h->kv, false, false);
    harness_restart(h, END_KILLED);
    harness_settle(h);
    expect_text(listed(h, "bob"), "\"reason\":\"expired\"");
}

static struct outbox_tenant *tenant_of(struct harness *h)
{
    return outbox_tenant(harness_core(h, gateway_tenant_home(&h->gateway, h->tenant)), h->tenant);
}

static uint64_t waiting_for(struct harness *h, const char *user_id)
{
    struct person user = harness_person(h, user_id);
    return outbox_waiting(tenant_of(h), user.number);
}

static unsigned notify_bob(struct client *c, const char *headers)
{
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    return client_call(c, "POST", "/v1/notify", "backend", headers, body);
}

static void a_tenant_has_a_bound_that_ended_ones_do_not_fill(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    struct outbox_tenant *t = tenant_of(h);
    assert_int_equal(t->waiting, 1);
    t->waiting = PENDING_TENANT_MAX; /* as if so many had been made */
    struct client *c = client_open(h, 0);
    assert_int_equal(notify_bob(c, ""), 409);
    expect_text(c->text.data, "notification.outbox_full");
    acknowledge(h, "bob", made, 200);
    harness_settle(h);
    assert_int_equal(notify_bob(c, ""), 202); /* one has left */
    assert_int_equal(notify_bob(c, ""), 409);
}

/* What waits is counted once; then all that makes and ends notifications keeps the count, as another count would. */
static void the_count_follows_whatever_happens(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made first = notified(h, "bob", "1");
    notified(h, "bob", "2");
    notified(h, "ann", "3");
    assert_int_equal(tenant_of(h)->waiting, 3);
    assert_int_equal(waiting_for(h, "bob"), 2);
    acknowledge(h, "bob", first, 200);
    acknowledge(h, "bob", first, 200); /* a repeat ends nothing */
    harness_settle(h);
    assert_int_equal(waiting_for(h, "bob"), 1);
    harness_restart(h, END_KILLED);
    assert_int_equal(tenant_of(h)->state, OUTBOX_UNKNOWN);
    notified(h, "ann", "4"); /* counts */
    assert_int_equal(waiting_for(h, "bob"), 1);
    assert_int_equal(waiting_for(h, "ann"), 2);
    assert_int_equal(tenant_of(h)->waiting, 3);
    pass(h, 4 * DAY, HOUR); /* all expire */
    assert_int_equal(tenant_of(h)->waiting, 0);
    assert_int_equal(tenant_of(h)->users.len, 0);
    struct client *c = client_open(h, 0);
    char path[128];
    assert_int_equal(client_call(c, "GET", "/v1/admin/dead-letters", NULL, "X-Master-Key: " MASTER_KEY "\r\n", NULL), 200);
    const char *id = strstr(c->text.data, "\"d_");
    assert_non_null(id);
    snprintf(path, sizeof path, "/v1/admin/dead-letters/%.*s/retry", (int)strcspn(id + 1, "\""), id + 1);
    assert_int_equal(client_call(c, "POST", path, NULL, "X-Master-Key: " MASTER_KEY "\r\n", ""), 200);
    harness_settle(h);
    assert_int_equal(tenant_of(h)->waiting, 1);
}

/* A user's home may hear of its write long after a count has seen what was written: what it tells then is known. */
static void a_change_that_the_count_has_seen_is_not_counted_again(void **state)
{
    struct harness *h = *state;
    uint64_t first, second;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    assert_true(notification_id_parse(slice_str(made.id), &first));
    assert_true(notification_id_parse(slice_str(notified(h, "bob", "2").id), &second));
    acknowledge(h, "bob", made, 200);
    harness_restart(h, END_KILLED);
    notified(h, "ann", "3"); /* counts */
    assert_int_equal(tenant_of(h)->waiting, 2);
    struct person bob = harness_person(h, "bob");
    outbox_tell(harness_core(h, bob.home), h->tenant, bob.number, 0, &first, 1);
    harness_settle(h);
    assert_int_equal(waiting_for(h, "bob"), 1);
    assert_int_equal(tenant_of(h)->waiting, 2);
    outbox_tell(harness_core(h, bob.home), h->tenant, bob.number, second, NULL, 0);
    harness_settle(h);
    assert_int_equal(waiting_for(h, "bob"), 1);
    assert_int_equal(tenant_of(h)->waiting, 2);
}

/* counting_kv looks over the shoulder of the store: what was walked through. */
static struct {
    struct kv_ops ops, real;
    unsigned walks, rows, most_rows; /* rows: of this walk */
    struct key lower;                /* of the last walk through the outbox */
    bool in_outbox, failing;         /* the walk under way; walks through the outbox meet an error */
} watched;

static struct kv_iter *watched_open(struct kv *kv, enum kv_cf cf, struct slice lower, struct slice upper)
{
    watched.walks++;
    watched.rows = 0;
    watched.in_outbox = cf == KV_OUTBOX;
    if (watched.in_outbox) {
        watched.lower.len = (uint16_t)lower.len;
        memcpy(watched.lower.bytes, lower.data, lower.len);
    }
    return watched.real.iter_open(kv, cf, lower, upper);
}

static bool watched_next(struct kv_iter *i)
{
    if (++watched.rows > watched.most_rows) watched.most_rows = watched.rows;
    return watched.real.iter_next(i);
}

static enum status watched_close(struct kv_iter *i)
{
    enum status s = watched.real.iter_close(i);
    return watched.failing && watched.in_outbox ? STATUS_IO : s;
}

static void watch_store(struct harness *h)
{
    memset(&watched, 0, sizeof watched);
    watched.real = watched.ops = *h->kv->ops;
    watched.ops.iter_open = watched_open;
    watched.ops.iter_next = watched_next;
    watched.ops.iter_close = watched_close;
    h->kv->ops = &watched.ops;
}

static void unwatch_store(struct harness *h)
{
    static struct kv_ops real;
    real = watched.real;
    h->kv->ops = &real;
}

static void who_is_refused_makes_nobody_read(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    notified(h, "bob", "1");
    tenant_of(h)->waiting = PENDING_TENANT_MAX;
    struct client *c = client_open(h, 0);
    watch_store(h);
    assert_int_equal(notify_bob(c, ""), 409);
    assert_int_equal(watched.walks, 0);
    tenant_of(h)->waiting = 1;
    assert_int_equal(notify_bob(c, ""), 202);
    assert_int_equal(watched.walks, 0); /* nor does who is not, for the count */
    unwatch_store(h);
}

static struct op *notify_many(struct harness *h, const struct person *who, uint32_t num)
{
    struct op *op = harness_op(h, 0, OP_NOTIFY, who, 0, 16);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, SLICE("1"));
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(num, sizeof *op->members);
    op->num_members = num;
    for (uint32_t i = 0; i < num; i++)
        op->members[i] = (struct op_member){.user = 1000000 + i, .user_id = op->user_id};
    return op;
}

/* The walk that counts, and the making of rows, are cut into slices between which others have their turn. */
static void a_large_one_lets_others_pass(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    expect_ok(settled(h, harness_go(h, notify_many(h, &ann, 5000))));
    harness_restart(h, END_CLEAN);
    watch_store(h);
    struct answer *many = harness_go(h, notify_many(h, &ann, 5000));
    unsigned turns = 0;
    for (; !many->done && turns < 1000; turns++) {
        harness_turns(h);
        reader_step(h->gateway.readers, 0);
        commit_writer_step(h->gateway.commit);
        commit_syncer_step(h->gateway.commit);
    }
    expect_ok(many);
    assert_in_range(watched.most_rows, 1, OUTBOX_COUNT_ROWS + 1);
    assert_in_range(turns, 5000 / OUTBOX_COUNT_ROWS + 5000 / CREATION_SLICE, 999);
    assert_int_equal(tenant_of(h)->waiting, 10000);
    unwatch_store(h);
}

static void a_tenant_makes_so_many_at_a_time(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    expect_ok(settled(h, harness_go(h, notify_many(h, &ann, 1))));
    h->hold_syncer = true;
    struct answer *answers[CREATIONS_TENANT_MAX];
    for (unsigned i = 0; i < CREATIONS_TENANT_MAX; i++) answers[i] = harness_go(h, notify_many(h, &ann, 2));
    struct answer *refused = settled(h, harness_go(h, notify_many(h, &ann, 2)));
    expect_error(refused, ERR_SERVER_OVERLOADED);
    h->hold_syncer = false;
    harness_settle(h);
    for (unsigned i = 0; i < CREATIONS_TENANT_MAX; i++) expect_ok(answers[i]);
    expect_ok(settled(h, harness_go(h, notify_many(h, &ann, 2))));
    assert_int_equal(tenant_of(h)->waiting, 1 + 2 * (CREATIONS_TENANT_MAX + 1));
}

static void what_is_refused_late_returns_its_places(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    static char payload[PAYLOAD_BYTES_MAX];
    memset(payload, '1', sizeof payload);
    struct op *op = notify_many(h, &ann, 600);
    op->in.notify.payload = slice_of(payload, sizeof payload);
    expect_error(settled(h, harness_go(h, op)), ERR_NOTIFICATION_TOO_LARGE);
    assert_int_equal(tenant_of(h)->waiting, 0);
    assert_int_equal(tenant_of(h)->users.len, 0);
}

static uint64_t number_of(struct made made)
{
    uint64_t number;
    assert_true(notification_id_parse(slice_of(made.id, ID_TEXT_LEN), &number));
    return number;
}

/* A user's past is not walked through: an inbox begins with what waits, and none is loaded where nothing does. */
static void an_inbox_begins_behind_the_past(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = {0};
    struct client *bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    for (unsigned i = 0; i < 3; i++) {
        made = notified(h, "bob", "1");
        if (i) assert_int_equal(watched.walks, 0); /* not even for one who is there */
        expect_text(client_hear(bob), made.id);
        acknowledge(h, "bob", made, 200);
        if (i == 0) watch_store(h);
    }
    assert_int_equal(watched.walks, 0);
    client_close(bob);
    harness_settle(h);
    made = notified(h, "bob", "2");
    struct made later = notified(h, "bob", "3");
    bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    expect_text(client_hear(bob), made.id);
    expect_text(client_hear(bob), later.id);
    assert_int_equal(watched.walks, 1); /* there is something to load, and nothing before it */
    struct slice rest = slice_from(key_slice(&watched.lower), 12);
    uint64_t from = 0;
    assert_true(key_parse_u64(&rest, &from) && from == number_of(made));
    unwatch_store(h);
}

/* The acknowledgement of what a load has shown may be there before the notice that it was made. */
static void what_was_acknowledged_before_it_was_heard_of_stays_so(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct made made = notified(h, "bob", "1");
    struct person person = harness_person(h, "bob");
    struct client *bob = socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
    expect_text(client_hear(bob), made.id);
    acknowledge(h, "bob", made, 200);
    struct notified what = {.created_ms = h->wall_ms, .expires_ms = h->wall_ms + DAY, .priority = PRIORITY_NORMAL};
    struct core *core = harness_core(h, 0);
    notice_post(core, 0, notice_new(core, NOTICE_NOTIFIED, h->tenant, person.number, slice_str("bob"), 0, number_of(made),
                                    slice_of((const char *)&what, sizeof what)));
    harness_settle(h);
    client_hears_nothing(bob);
    assert_int_equal(inboxes(h), 0);
}

/* Two cores have sockets; one of them acknowledges before the other has said what it took. */
static void an_acknowledged_push_was_an_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person person = harness_person_at(h, "bob", 0);
    struct client *here = socket_open(h, 0, person.id, "{\"type\":\"hello\"}");
    socket_open(h, 1, person.id, "{\"type\":\"hello\"}");
    harness_settle(h);
    struct op *op = notify_many(h, &person, 1);
    op->members[0].user = person.number;
    struct answer *made = harness_go(h, op);
    struct notify *n = harness_core(h, 0)->notify;
    for (unsigned i = 0; i < 1000 && client_read(here) == 0; i++) {
        harness_turn(h, 0);
        if (n->inboxes.len == 0) harness_turn(h, 1); /* the tenant's home, perhaps; it does not get to the push */
        reader_step(h->gateway.readers, 0);
        commit_writer_step(h->gateway.commit);
        commit_syncer_step(h->gateway.commit);
    }
    uint32_t at = 0;
    const struct inbox *in = map_next(&n->inboxes, &at);
    assert_true(in && in->pushing && in->num == 1);
    op = harness_op(h, 0, OP_NOTIFICATION_ACK, &person, 0, 0);
    op->in.notification.number = in->list[0].number;
    expect_ok(settled(h, harness_go(h, op)));
    expect_ok(made);
    expect_text(listed(h, person.id), "\"status\":\"delivered\",\"attempts\":1");
}

static struct inbox *inbox_of(struct harness *h, const struct person *who);

static void an_inbox_that_cannot_be_loaded_is_tried_more_and_more_seldom(void **state)
{
    struct harness *h = *state;
    h->config.net_idle_timeout = h->config.net_ping_interval = 3600u * 1000; /* the socket says nothing meanwhile */
    harness_open(h, 1);
    struct person bob = harness_person(h, "bob");
    notified(h, "bob", "1");
    watch_store(h);
    watched.failing = true;
    socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
    harness_settle(h);
    const struct core *core = harness_core(h, 0);
    uint64_t failed_ns = core->now_ns;
    assert_int_equal(inbox_of(h, &bob)->failures, 1);
    while (inbox_of(h, &bob)->failures == 1) pass(h, 10, 10);
    assert_in_range((core->now_ns - failed_ns) / 1000000, INBOX_AGAIN_MS - 100, INBOX_AGAIN_MS + 300);
    pass(h, 3 * INBOX_AGAIN_MAX_MS, 1000); /* it has grown to its longest by then */
    unsigned before = inbox_of(h, &bob)->failures;
    pass(h, 4 * INBOX_AGAIN_MAX_MS, 1000);
    assert_in_range(inbox_of(h, &bob)->failures - before, 3, 5);
    watched.failing = false;
    unwatch_store(h);
}

static void turn_taken(struct core *core, struct turn *turn, enum status status) { assert_int_equal(status, STATUS_OK); }

static void tenants_beyond_the_users_that_are_counted_are_forgotten(void **state)
{
    struct harness *h = *state;
    struct turn turn = {.begin = turn_taken};
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    notified(h, "bob", "1");
    assert_int_equal(tenant_of(h)->state, OUTBOX_COUNTED);
    core->notify->num_outbox_users += OUTBOX_USERS_MAX; /* as if others had so many */
    struct outbox_tenant *other = outbox_tenant(core, 4711);
    assert_int_equal(outbox_turn(core, other, &turn), STATUS_OK);
    harness_settle(h);
    assert_int_equal(other->state, OUTBOX_COUNTED);
    assert_int_equal(tenant_of(h)->state, OUTBOX_UNKNOWN);
    core->notify->num_outbox_users -= OUTBOX_USERS_MAX;
    outbox_worked(core, other);
    outbox_end(other);
    notified(h, "bob", "2"); /* counted anew */
    assert_int_equal(tenant_of(h)->waiting, 2);
}

static void tenants_beyond_the_notifications_that_are_counted_are_forgotten(void **state)
{
    struct harness *h = *state;
    struct turn turn = {.begin = turn_taken};
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    notified(h, "bob", "1");
    assert_int_equal(core->notify->num_outbox_numbers, 1);
    core->notify->num_outbox_numbers += OUTBOX_NUMBERS_MAX; /* as if others had so many */
    struct outbox_tenant *other = outbox_tenant(core, 4711);
    assert_int_equal(outbox_turn(core, other, &turn), STATUS_OK);
    harness_settle(h);
    assert_int_equal(tenant_of(h)->state, OUTBOX_UNKNOWN);
    core->notify->num_outbox_numbers -= OUTBOX_NUMBERS_MAX;
    outbox_worked(core, other);
    outbox_end(other);
}

static void an_inbox_that_could_not_be_loaded_is_tried_again(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    watch_store(h);
    watched.failing = true;
    struct client *bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    harness_settle(h);
    acknowledge(h, "bob", made, 503); /* is answered, and does not wait */
    pass(h, 10000, 500);
    assert_in_range(watched.walks, 3, 8); /* with growing waits */
    client_hears_nothing(bob);
    watched.failing = false;
    pass(h, 10000, 500);
    expect_text(client_hear(bob), made.id); /* nothing new was needed for it */
    acknowledge(h, "bob", made, 200);
    unwatch_store(h);
}

/* --- bounds -------------------------------------------------------------------------------------- */

/* notify_go sends a notification to `num` users with numbers from `first` on, or to who sends it; nothing is turned. */
static struct answer *notify_go(struct harness *h, const struct person *who, struct slice payload, uint64_t first,
                                uint32_t num)
{
    struct op *op = harness_op(h, who->home, OP_NOTIFY, who, 0, payload.len + 16 + num * 12);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, payload);
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(num, sizeof *op->members);
    op->num_members = num;
    for (uint32_t i = 0; i < num; i++) {
        char id[12];
        snprintf(id, sizeof id, "u%u", i);
        op->members[i].user = first + i;
        op->members[i].user_id = first == who->number ? op->user_id : op_keep(op, slice_str(id));
    }
    return harness_go(h, op);
}

static void large_payloads_are_made_into_rows_a_little_at_a_time(void **state)
{
    struct harness *h = *state;
    static char payload[10002];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    memset(payload, '"', sizeof payload);
    memset(payload + 1, 'x', sizeof payload - 2);
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1))); /* the tenant is counted */
    struct answer *many = notify_go(h, &ann, slice_of(payload, sizeof payload), ann.number, 200);
    unsigned turns = 0;
    for (; !many->done && turns < 1000; turns++) {
        harness_turns(h);
        reader_step(h->gateway.readers, 0);
        commit_writer_step(h->gateway.commit);
        commit_syncer_step(h->gateway.commit);
    }
    expect_ok(many);
    assert_in_range(turns, 200 * sizeof payload / CREATION_SLICE_BYTES, 999);
}

static struct inbox *inbox_of(struct harness *h, const struct person *who)
{
    uint32_t at = 0;
    for (struct inbox *in; (in = map_next(&harness_core(h, who->home)->notify->inboxes, &at));)
        if (in->user == who->number) return in;
    return NULL;
}

static struct slice payload_of(uint32_t len)
{
    static char text[PAYLOAD_BYTES_MAX];
    memset(text, 'x', sizeof text);
    text[0] = text[len - 1] = '"';
    return slice_of(text, len);
}

static void a_notification_has_so_many_users_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct answer *most = settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_TARGETS_MAX));
    expect_ok(most);
    assert_int_equal(number_in(most->out.data, "users"), NOTIFY_TARGETS_MAX);
    expect_error(settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_TARGETS_MAX + 1)), ERR_TOO_MANY_ITEMS);
}

static void the_rows_of_a_notification_fit_one_batch(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct slice payload = payload_of(PAYLOAD_BYTES_MAX);
    uint32_t fits = NOTIFY_BYTES_MAX / (PAYLOAD_BYTES_MAX + 200);
    expect_ok(settled(h, notify_go(h, &ann, payload, 1000, fits)));
    expect_error(settled(h, notify_go(h, &ann, payload, 1000, NOTIFY_BYTES_MAX / PAYLOAD_BYTES_MAX)),
                 ERR_NOTIFICATION_TOO_LARGE);
}

static void a_user_s_outbox_is_full_at_its_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    for (uint32_t i = 0; i < PENDING_USER_MAX; i++) expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1)));
    assert_null(strstr(listed(h, "ann"), "\"status\":\"dead\""));
    expect_ok(settled(h, notify_go(h, &ann, SLICE("2"), ann.number, 1)));
    expect_text(listed(h, "ann"), "\"payload\":2,\"priority\":\"normal\",\"status\":\"dead\"");
    struct client *socket = socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    harness_settle(h);
    assert_int_equal(inbox_of(h, &ann)->num, PENDING_USER_MAX);
    client_close(socket);
}

static void a_user_has_so_many_topics_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    char body[64];
    for (uint32_t i = 0; i < SUBSCRIPTIONS_USER_MAX; i++) {
        snprintf(body, sizeof body, "{\"topic\":\"t%u\"}", i);
        assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", body), 201);
    }
    assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", "{\"topic\":\"one more\"}"), 409);
    expect_text(c->text.data, "\"code\":\"subscription.topics_full\"");
    assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", body), 200); /* has it already */
    assert_int_equal(client_call(c, "DELETE", "/v1/users/me/subscriptions/t0", "ann", "", NULL), 204);
    assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", "{\"topic\":\"one more\"}"), 201);
}

/* pushed makes notifications for which there is no room at first, and returns how many come by the first push. */
static unsigned pushed(struct harness *h, struct slice payload, unsigned num)
{
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX);
    for (unsigned i = 0; i < num; i++) expect_ok(settled(h, notify_go(h, &ann, payload, ann.number, 1)));
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX);
    h->hold_readers = true;
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    assert_int_equal(atomic_load(&core->notify->sent[SENT_SENT]), 0);
    reader_step(h->gateway.readers, 0);
    harness_settle(h);
    return (unsigned)atomic_load(&core->notify->sent[SENT_SENT]);
}

static void a_push_has_so_many_notifications_and_no_more(void **state)
{
    assert_int_equal(pushed(*state, SLICE("1"), PUSH_BATCH + 10), PUSH_BATCH);
}

static void a_push_has_so_many_bytes_and_no_more(void **state)
{
    unsigned most = PUSH_BYTES_MAX / PAYLOAD_BYTES_MAX; /* each is a little more than its payload */
    assert_int_equal(pushed(*state, payload_of(PAYLOAD_BYTES_MAX), 2 * most), most);
}

/* Frames in flight are shared with the rooms; what does not fit is not lost, and no attempt. */
static void a_push_without_room_is_tried_again_soon(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct client *socket = socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    struct core *core = harness_core(h, 0);
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX / 2 + 1);
    struct made made = notified(h, "ann", "1");
    client_hears_nothing(socket);
    assert_int_equal(inbox_of(h, &ann)->list[0].due_ns, core->now_ns + PUSH_AGAIN_MS * 1000000ull);
    expect_text(listed(h, "ann"), "\"attempts\":0");
    atomic_fetch_sub(&core->frames_bytes, 1);
    client_hears_nothing(socket);
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    expect_text(client_hear(socket), made.id);
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX / 2);
    harness_settle(h);
    assert_int_equal(atomic_load(&core->frames_bytes), 0); /* it has counted while it waited, and no longer */
}

static unsigned turns_begun[3];

static struct turn turns[3][CREATIONS_AT_WORK_MAX]; /* of three tenants */

static void turn_begun(struct core *core, struct turn *turn, enum status status)
{
    assert_int_equal(status, STATUS_OK);
    turns_begun[(turn - &turns[0][0]) / CREATIONS_AT_WORK_MAX]++;
}

static void busy_tenants_share_the_turns_of_a_core(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct outbox_tenant *tenants[3];
    memset(turns_begun, 0, sizeof turns_begun);
    for (unsigned t = 0; t < 3; t++) {
        tenants[t] = outbox_tenant(core, 1000 + t);
        tenants[t]->state = OUTBOX_COUNTED;
        for (unsigned i = 0; i < CREATIONS_AT_WORK_MAX; i++) {
            turns[t][i] = (struct turn){.begin = turn_begun};
            assert_int_equal(outbox_turn(core, tenants[t], &turns[t][i]), STATUS_OK);
        }
    }
    assert_int_equal(core->notify->creations_read, CREATIONS_READ_MAX);
    assert_int_equal(turns_begun[2], CREATIONS_READ_MAX - 2 * CREATIONS_AT_WORK_MAX);
    outbox_worked(core, tenants[0]); /* its place goes to who has waited */
    assert_int_equal(turns_begun[2], 1);
    for (unsigned i = 1; i < CREATIONS_AT_WORK_MAX; i++) outbox_worked(core, tenants[0]);
    assert_int_equal(turns_begun[2], CREATIONS_AT_WORK_MAX);
    for (unsigned t = 0; t < 3; t++) {
        for (unsigned i = 0; i < CREATIONS_AT_WORK_MAX; i++) {
            if (t) outbox_worked(core, tenants[t]);
            outbox_end(tenants[t]);
        }
    }
    assert_int_equal(core->notify->creations_read, 0);
}

static void a_pipeline_that_has_filled_meanwhile_takes_no_rows(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    h->hold_readers = true;
    struct answer *made = notify_go(h, &ann, SLICE("1"), ann.number, 1);
    harness_settle(h);
    core->pending_bytes += COMMIT_PENDING_BYTES_MAX + 1;
    h->hold_readers = false;
    expect_error(settled(h, made), ERR_STORE_OVERLOADED);
    core->pending_bytes -= COMMIT_PENDING_BYTES_MAX + 1;
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1)));
}

static void what_waits_for_one_user_s_inbox_is_bounded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    notified(h, "ann", "1");
    harness_settle(h);
    h->hold_readers = true;
    struct answer *last = NULL;
    for (unsigned i = 0; i <= USER_WAITING_MAX + 1; i++) { /* late acknowledgements: each needs a look, one at a time */
        if (last) expect_waiting(last);
        struct op *op = harness_op(h, 0, OP_NOTIFICATION_ACK, &ann, 0, 0);
        op->in.notification.number = 77;
        last = harness_go(h, op);
    }
    harness_turns(h);
    expect_error(last, ERR_SERVER_OVERLOADED); /* one is being looked at, USER_WAITING_MAX wait */
    struct inbox *in = inbox_of(h, &ann);
    assert_int_equal(in->looks.len, USER_WAITING_MAX);
    for (unsigned i = 0; i <= USER_WAITING_MAX; i++)
        notice_post(core, 0, notice_new(core, NOTICE_SOCKET_OPENED, h->tenant, ann.number, slice_str(ann.id), 5ull << 32 | 5,
                                        0, (struct slice){0}));
    assert_int_equal(in->num_openings, USER_WAITING_MAX);
    h->hold_readers = false;
    harness_settle(h);
}

/* --- sweeps -------------------------------------------------------------------------------------- */

static void a_sweep_comes_each_minute(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    notified(h, "bob", "1");
    pass(h, DAY, DAY); /* a sweep */
    assert_int_equal(notify_wake_ns(core), core->now_ns + NOTIFY_SWEEP_MS * 1000000ull);
    assert_int_equal(atomic_load(&core->notify->waiting), 1);
    notified(h, "cat", "1");
    pass(h, NOTIFY_SWEEP_MS - 1, NOTIFY_SWEEP_MS - 1);
    assert_int_equal(atomic_load(&core->notify->waiting), 1);
    pass(h, 1, 1);
    assert_int_equal(atomic_load(&core->notify->waiting), 2);
}

static void the_history_is_swept_seldom(void **state)
{
    struct harness *h = *state;
    h->config.notify_keep = HOUR;
    harness_open(h, 1);
    unsigned minutes = 30, last = 0, shown = minutes, sweeps = 0;
    for (unsigned i = 0; i < minutes; i++) {
        acknowledge(h, "bob", notified(h, "bob", "1"), 200);
        pass(h, NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    }
    for (unsigned minute = minutes; shown && minute < 200; minute++) { /* they grow old one a minute */
        unsigned left = count_in(listed(h, "bob"), "\"notification_id\"");
        if (left < shown) {
            if (sweeps++) assert_in_range(minute - last, NOTIFY_SWEEP_HISTORY_MS / MINUTE, NOTIFY_SWEEP_HISTORY_MS / MINUTE + 1);
            last = minute;
            shown = left;
        }
        pass(h, NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    }
    assert_int_equal(shown, 0);
    assert_in_range(sweeps, 3, 5);
}

/* The sweep may find a letter old that the operator tries again, and that dies again, before its home hears of it. */
static void a_letter_that_died_anew_is_not_swept(void **state)
{
    struct harness *h = *state;
    h->config.notify_expires = HOUR;
    harness_open(h, 2);
    struct person bob = harness_person(h, "bob");
    uint64_t number;
    assert_true(notification_id_parse(slice_str(notified(h, "bob", "1").id), &number));
    pass(h, 2 * HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    for (unsigned late = 0; late < 2; late++) {
        struct op *op = harness_op(h, 0, OP_DEAD_LETTER_DELETE, &bob, 0, 0);
        op->in.notification.number = number;
        op->in.notification.dead_by_ms = late ? h->wall_ms : h->wall_ms - 2 * HOUR;
        struct answer *answer = settled(h, harness_go(h, op));
        if (late) expect_ok(answer);
        else expect_error(answer, ERR_DEAD_LETTER_NOT_FOUND);
        expect_text(listed(h, "bob"), late ? "\"items\":[]" : "\"status\":\"dead\"");
    }
}

static void dead_letters_are_kept_for_their_time(void **state)
{
    struct harness *h = *state;
    h->config.notify_expires = HOUR;
    harness_open(h, 1);
    notified(h, "bob", "1");
    pass(h, HOUR, NOTIFY_SWEEP_MS);
    pass(h, NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    pass(h, DEAD_KEEP_MS - 2 * NOTIFY_SWEEP_MS, DEAD_KEEP_MS - 2 * NOTIFY_SWEEP_MS);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    pass(h, NOTIFY_SWEEP_HISTORY_MS + 3 * NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    expect_text(listed(h, "bob"), "\"items\":[]");
}

/* A page of the sweep: the next one is read when all that it brought up is done. */
static void a_sweep_looks_at_so_many_rows_at_a_time(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_SWEEP_ROWS + 1)));
    pass(h, DAY, DAY);
    h->hold_readers = true;
    harness_advance(h, 3 * DAY);
    harness_settle(h);
    assert_int_equal(inboxes(h), 0);
    reader_step(h->gateway.readers, 0);
    harness_settle(h);
    uint32_t at = 0, brought_up = 0;
    for (struct inbox *in; (in = map_next(&harness_core(h, 0)->notify->inboxes, &at));) brought_up += in->ops.len;
    assert_int_equal(brought_up, NOTIFY_SWEEP_ROWS);
    h->hold_readers = false;
    harness_settle(h);
    assert_int_equal(atomic_load(&harness_core(h, 0)->notify->sent[SENT_DEAD]), NOTIFY_SWEEP_ROWS + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_waits_for_the_disk),
        TEST(what_is_read_while_the_pipeline_is_full_is_shown_when_it_has_room),
        TEST(attempts_follow_each_other_with_growing_waits),
        TEST(being_away_is_no_attempt),
        TEST(what_expires_is_a_dead_letter_and_old_ones_go),
        TEST(delivered_ones_stay_listed_for_a_week),
        TEST(a_restart_goes_on_where_the_attempts_were),
        TEST(a_new_socket_is_told_without_it_being_an_attempt),
        TEST(a_notification_that_the_power_took_was_not_answered),
        TEST(a_gateway_without_notifications_asks_for_none),
        TEST(a_failed_store_answers_and_loses_nothing),
        TEST(a_tenant_has_a_bound_that_ended_ones_do_not_fill),
        TEST(a_notification_has_so_many_users_and_no_more),
        TEST(the_rows_of_a_notification_fit_one_batch),
        TEST(a_user_s_outbox_is_full_at_its_bound),
        TEST(a_user_has_so_many_topics_and_no_more),
        TEST(a_push_has_so_many_notifications_and_no_more),
        TEST(a_push_has_so_many_bytes_and_no_more),
        TEST(a_push_without_room_is_tried_again_soon),
        TEST(busy_tenants_share_the_turns_of_a_core),
        TEST(a_pipeline_that_has_filled_meanwhile_takes_no_rows),
        TEST(what_waits_for_one_user_s_inbox_is_bounded),
        TEST(a_sweep_comes_each_minute),
        TEST(the_history_is_swept_seldom),
        TEST(dead_letters_are_kept_for_their_time),
        TEST(a_letter_that_died_anew_is_not_swept),
        TEST(a_sweep_looks_at_so_many_rows_at_a_time),
        TEST(the_count_follows_whatever_happens),
        TEST(a_change_that_the_count_has_seen_is_not_counted_again),
        TEST(who_is_refused_makes_nobody_read),
        TEST(a_large_one_lets_others_pass),
        TEST(a_tenant_makes_so_many_at_a_time),
        TEST(what_is_refused_late_returns_its_places),
        TEST(an_inbox_begins_behind_the_past),
        TEST(what_was_acknowledged_before_it_was_heard_of_stays_so),
        TEST(an_acknowledged_push_was_an_attempt),
        TEST(an_inbox_that_could_not_be_loaded_is_tried_again),
        TEST(an_inbox_that_cannot_be_loaded_is_tried_more_and_more_seldom),
        TEST(large_payloads_are_made_into_rows_a_little_at_a_time),
        TEST(tenants_beyond_the_users_that_are_counted_are_forgotten),
        TEST(tenants_beyond_the_notifications_that_are_counted_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
