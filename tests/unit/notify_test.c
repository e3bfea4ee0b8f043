#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/ids.h"
#include "../../src/notify/notify.h"

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

static void a_tenant_has_a_bound_that_ended_ones_do_not_fill(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct made made = notified(h, "bob", "1");
    uint32_t at = 0;
    struct outbox_tenant *t = map_next(&harness_core(h, 0)->notify->tenants, &at);
    assert_true(t && t->counted && t->waiting == 1);
    t->waiting = PENDING_TENANT_MAX; /* as if so many had been made */
    struct client *c = client_open(h, 0);
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 409);
    expect_text(c->text.data, "notification.outbox_full");
    harness_advance(h, 2 * PENDING_COUNT_MS);
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 202); /* counted again: one waits */
    assert_int_equal(t->waiting, 2);
    acknowledge(h, "bob", made, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_waits_for_the_disk),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
