#include "notify_harness.h"

#include <string.h>

/* A user's inbox: how it begins, what it holds, and what waits for it. */

/* A user's past is not walked through: an inbox begins with what waits, and none is loaded where nothing does. */
static void an_inbox_begins_behind_the_past(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = {0};
    struct client *bob = socket_open(h, 1, "bob", HELLO_ALL);
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
    bob = socket_open(h, 1, "bob", HELLO_ALL);
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
    struct client *bob = socket_open(h, 0, "bob", HELLO_ALL);
    expect_text(client_hear(bob), made.id);
    acknowledge(h, "bob", made, 200);
    struct notified what = {.created_ms = h->wall_ms, .expires_ms = h->wall_ms + DAY, .priority = PRIORITY_NORMAL};
    struct core *core = harness_core(h, 0);
    notice_post(core, 0,
                notice_new(core, NOTICE_NOTIFIED, h->tenant, person.number, slice_str("bob"), 0, number_of(made),
                           slice_of((const char *)&what, sizeof what)));
    harness_settle(h);
    client_hears_nothing(bob);
    assert_int_equal(inboxes(h), 0);
}

static void an_inbox_that_could_not_be_loaded_is_tried_again(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    watch_store(h);
    watched.failing = true;
    struct client *bob = socket_open(h, 1, "bob", HELLO_ALL);
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

static void an_inbox_that_cannot_be_loaded_is_tried_more_and_more_seldom(void **state)
{
    struct harness *h = *state;
    h->config.net_idle_timeout = h->config.net_ping_interval = 3600u * 1000; /* the socket says nothing meanwhile */
    harness_open(h, 1);
    struct person bob = harness_person(h, "bob");
    notified(h, "bob", "1");
    watch_store(h);
    watched.failing = true;
    socket_open(h, 0, "bob", HELLO_ALL);
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

static void a_user_s_outbox_is_full_at_its_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    for (uint32_t i = 0; i < PENDING_USER_MAX; i++)
        expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1)));
    assert_null(strstr(listed(h, "ann"), "\"status\":\"dead\""));
    expect_ok(settled(h, notify_go(h, &ann, SLICE("2"), ann.number, 1)));
    expect_text(listed(h, "ann"), "\"payload\":2,\"priority\":\"normal\",\"status\":\"dead\"");
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    harness_settle(h);
    assert_int_equal(inbox_of(h, &ann)->num, PENDING_USER_MAX);
    client_close(socket);
}

static void what_waits_for_one_user_s_inbox_is_bounded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", HELLO_ALL);
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
        notice_post(core, 0,
                    notice_new(core, NOTICE_SOCKET_OPENED, h->tenant, ann.number, slice_str(ann.id), 5ull << 32 | 5, 0,
                               (struct slice){0}));
    assert_int_equal(in->num_openings, USER_WAITING_MAX);
    h->hold_readers = false;
    harness_settle(h);
}

static void nothing_is_in_memory_for_who_has_gone(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *bob = socket_open(h, 1, "bob", HELLO_ALL);
    notified(h, "bob", "1");
    harness_settle(h);
    assert_int_equal(inboxes(h), 1);
    client_close(bob);
    harness_settle(h);
    assert_int_equal(inboxes(h), 0);
}

static void hears(struct harness *h, const struct person *who, uint64_t number)
{
    struct core *core = harness_core(h, 0);
    struct notified what = {.created_ms = h->wall_ms, .expires_ms = h->wall_ms + DAY, .priority = PRIORITY_NORMAL};
    notice_post(core, 0,
                notice_new(core, NOTICE_NOTIFIED, h->tenant, who->number, slice_str(who->id), 0, number,
                           slice_of((const char *)&what, sizeof what)));
}

/* While notifications are made one after the other, each is heard of during a load that began after it had its number:
 * only the first load may have shown one that has ended since. */
static void an_inbox_is_loaded_twice_at_most_while_more_is_made(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    notified(h, "bob", "1");
    harness_restart(h, END_CLEAN); /* bob's past is not known */
    struct person bob = harness_person(h, "bob");
    watch_store(h);
    struct client *socket = socket_open(h, 0, "bob", NULL);
    uint64_t number = gateway_number(&h->gateway);
    h->hold_readers = true;
    client_say(socket, HELLO_ALL);
    for (unsigned i = 0; i < 100 && !inbox_of(h, &bob); i++) {
        harness_settle(h);
        if (!inbox_of(h, &bob)) reader_step(h->gateway.readers, 0);
    }
    watched.walks = 0;
    for (unsigned i = 0; i < 10; i++) {
        hears(h, &bob, number);
        number = gateway_number(&h->gateway);
        reader_step(h->gateway.readers, 0);
        harness_settle(h);
    }
    assert_in_range(watched.walks, 1, 2);
    h->hold_readers = false;
    unwatch_store(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_inbox_begins_behind_the_past),
        TEST(what_was_acknowledged_before_it_was_heard_of_stays_so),
        TEST(an_inbox_that_could_not_be_loaded_is_tried_again),
        TEST(an_inbox_that_cannot_be_loaded_is_tried_more_and_more_seldom),
        TEST(a_user_s_outbox_is_full_at_its_bound),
        TEST(what_waits_for_one_user_s_inbox_is_bounded),
        TEST(nothing_is_in_memory_for_who_has_gone),
        TEST(an_inbox_is_loaded_twice_at_most_while_more_is_made),
    };
    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}
