#include "notify_harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Notifications over days: attempts and their waits, expiry, history, sweeps, and what a crash leaves. */

static void nothing_to_do(void *context, struct commit_entry *entry, enum status result) {}

static void an_answer_waits_for_the_disk(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    listed(h, "backend");
    listed(h, "bob"); /* both exist */
    struct client *c = client_open(h, 0), *bob = socket_open(h, 1, "bob", HELLO_ALL);
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
    client_say(bob, HELLO_ALL);
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
    struct client *bob = socket_open(h, 1, "bob", HELLO_ALL);
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
    struct client *bob = socket_open(h, 0, "bob", HELLO_ALL);
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
        struct client *bob = socket_open(h, 0, "bob", HELLO_ALL);
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

/* Nobody has the inbox in memory when the wait of the last attempt is over. */
static void the_last_attempt_s_wait_ends_for_who_has_gone(void **state)
{
    struct harness *h = *state;
    h->config.notify_attempts = 2;
    harness_open(h, 2);
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        struct client *bob = socket_open(h, 1, "bob", HELLO_ALL);
        if (attempt == 0) notified(h, "bob", "1");
        expect_text(client_hear(bob), "notification");
        client_close(bob);
        harness_settle(h);
        harness_restart(h, END_KILLED);
        pass(h, attempt ? 15000 : 13000, 1000); /* 12.5 s and 15 s are the longest and the shortest wait */
        expect_text(listed(h, "bob"), "\"status\":\"pending\"");
    }
    pass(h, 11000 + NOTIFY_SWEEP_MS, 1000);
    expect_text(listed(h, "bob"), "\"status\":\"dead\",\"attempts\":2");
    expect_text(listed(h, "bob"), "\"reason\":\"attempts\"");
    assert_int_equal(inboxes(h), 0);
}

static void a_new_socket_is_told_without_it_being_an_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    for (unsigned i = 0; i < 20; i++) {
        struct client *bob = socket_open(h, i % 2, "bob", HELLO_ALL);
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
    socket_open(h, 0, "bob", HELLO_ALL);
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
            if (sweeps++)
                assert_in_range(minute - last, NOTIFY_SWEEP_HISTORY_MS / MINUTE, NOTIFY_SWEEP_HISTORY_MS / MINUTE + 1);
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
        TEST(the_last_attempt_s_wait_ends_for_who_has_gone),
        TEST(a_new_socket_is_told_without_it_being_an_attempt),
        TEST(a_notification_that_the_power_took_was_not_answered),
        TEST(a_gateway_without_notifications_asks_for_none),
        TEST(a_failed_store_answers_and_loses_nothing),
        TEST(a_user_has_so_many_topics_and_no_more),
        TEST(a_sweep_comes_each_minute),
        TEST(the_history_is_swept_seldom),
        TEST(a_letter_that_died_anew_is_not_swept),
        TEST(dead_letters_are_kept_for_their_time),
        TEST(a_sweep_looks_at_so_many_rows_at_a_time),
    };
    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
