#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../../src/chat/replay.h"
#include "../../src/chat/tail.h"

/* Who is behind: what is read for them, how often, who gets how much in a turn, and that nobody waits for ever. */

static void subscribe(struct client *c, uint64_t room, uint64_t after)
{
    client_say(c, "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":%llu}", room_name(room).text,
               (unsigned long long)after);
    expect_text(client_hear(c), "\"type\":\"resumed\"");
}

/* hear passes over who comes and goes. */
static const char *hear(struct client *c)
{
    const char *heard = client_hear(c);
    while (strstr(heard, "\"presence.update\"")) heard = client_hear(c);
    return heard;
}

static void expect_run(struct client *c, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) assert_int_equal(number_in(hear(c), "seq"), seq);
}

static void who_missed_what_went_out_lately_is_served_without_a_read(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *stays = socket_open(h, 0, "ann", HELLO_ALL);
    harness_fill(h, &ann, room, 40);
    expect_run(stays, 1, 40);
    h->hold_readers = true;
    struct client *back = socket_open(h, 0, "ann", HELLO_NONE);
    subscribe(back, room, 7);
    expect_run(back, 8, 40);
    client_hears_nothing(back);
    settled(h, harness_send(h, 0, &ann, room, "live"));
    expect_run(back, 41, 41);
    expect_run(stays, 41, 41);
    assert_int_equal(harness_metric(h, 0, METRIC_REPLAY_READS), 0);
}

static void what_lies_before_the_tail_is_read_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 20);
    struct client *stays = socket_open(h, 0, "ann", HELLO_ALL);
    harness_fill(h, &ann, room, 40);
    expect_run(stays, 21, 40);
    struct client *back = socket_open(h, 0, "ann", HELLO_NONE);
    subscribe(back, room, 5);
    expect_run(back, 6, 40);
    client_hears_nothing(back);
    assert_int_equal(harness_metric(h, 0, METRIC_REPLAY_READS), 1);
    struct tail_part part;
    assert_true(tail_find(&part, harness_core(h, 0), h->tenant, room, 6, UINT64_MAX));
    assert_int_equal(part.last, 20); /* the page ends where the runs begin */
}

static void many_who_are_behind_alike_cost_one_read(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_core(h, 0)->tail_bytes_max = 0; /* nothing is kept: they share what is being read */
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 30);
    struct client *sockets[5];
    h->hold_readers = true;
    for (unsigned i = 0; i < 5; i++) {
        sockets[i] = socket_open(h, 0, "ann", HELLO_NONE);
        subscribe(sockets[i], room, i); /* within the page that the first one has asked for */
    }
    assert_int_equal(harness_metric(h, 0, METRIC_REPLAY_READS), 1);
    client_close(sockets[3]);
    harness_settle(h);
    h->hold_readers = false;
    for (unsigned i = 0; i < 5; i++) {
        if (i == 3) continue;
        expect_run(sockets[i], i + 1, 30);
        client_hears_nothing(sockets[i]);
    }
    assert_int_equal(harness_metric(h, 0, METRIC_REPLAY_READS), 1);
    assert_int_equal(atomic_load(&harness_core(h, 0)->frames_bytes), 0);
}

static void one_who_asks_for_more_than_the_page_that_is_read_goes_on(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    char content[4000];
    memset(content, 'x', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    for (unsigned i = 0; i < 200; i++) harness_send(h, 0, &ann, room, content); /* three pages, by their bytes */
    harness_settle(h);
    h->hold_readers = true;
    struct client *early = socket_open(h, 0, "ann", HELLO_NONE), *late = socket_open(h, 0, "ann", HELLO_NONE);
    subscribe(early, room, 0);
    subscribe(late, room, 150); /* the first page is expected to reach it, and does not */
    h->hold_readers = false;
    expect_run(late, 151, 200);
    expect_run(early, 1, 200);
}

static void pages_that_wait_for_their_reader_are_answers_of_the_tenant(void **state)
{
    struct harness *h = *state;
    static char content[4000];
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    memset(content, 'x', sizeof content - 1);
    for (unsigned i = 0; i < 400; i++) harness_send(h, 0, &ann, room, content);
    harness_settle(h);
    int bytes = 8192;
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    client_say(c, "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
    harness_settle(h);
    assert_in_range(net_reply_bytes(core->net), 1, REPLAY_BATCH_BYTES + sizeof content * 2);
    assert_int_equal(directory_tenant(&core->directory, h->tenant)->answers.bytes, net_reply_bytes(core->net));
}

static void a_turn_gives_only_so_much_to_those_who_are_behind(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *stays = socket_open(h, 0, "ann", HELLO_ALL);
    harness_fill(h, &ann, room, 20);
    expect_run(stays, 1, 20);
    struct client *sockets[50];
    for (unsigned i = 0; i < 50; i++) {
        sockets[i] = socket_open(h, 0, "ann", HELLO_NONE);
        subscribe(sockets[i], room, 20);
    }
    harness_settle(h);
    for (uint32_t at = 0;;) { /* all fall behind in one moment */
        struct conn *c = net_each(core->net, &at);
        if (!c) break;
        struct session *s = conn_user(c);
        struct sub *sub = s ? session_sub(s, room) : NULL;
        if (!sub || sub->state != SUB_LIVE) continue;
        (void)session_rewind(sub, 1);
        session_start(core, sub);
    }
    uint64_t most = REPLAY_TURN_BYTES / REPLAY_SEND_BYTES + 1, turns = 0;
    assert_true(core_turn(core, true)); /* it may sleep, and does not: the others wait */
    assert_false(list_empty(&core->replays_ready));
    for (uint64_t before; !list_empty(&core->replays_ready); turns++) {
        before = harness_metric(h, 0, METRIC_REPLAY_PARTS);
        harness_turn(h, 0);
        assert_true(harness_metric(h, 0, METRIC_REPLAY_PARTS) - before <= most);
    }
    assert_true(turns > 1);
    for (unsigned i = 0; i < 50; i++) expect_run(sockets[i], 1, 20);
    expect_run(stays, 1, 20);
    assert_int_equal(harness_metric(h, 0, METRIC_REPLAY_READS), 0);
}

/* Both rooms of the socket are behind, the busy one first. */
static void the_rooms_of_a_slow_socket_take_turns(void **state)
{
    struct harness *h = *state;
    static char content[8192];
    h->config.limits_send_queue = 64 << 10;
    harness_open(h, 1);
    harness_core(h, 0)->tail_bytes_max = 0;
    struct person ann = harness_person(h, "ann");
    uint64_t busy = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), quiet = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    settled(h, harness_send(h, 0, &ann, quiet, "from the quiet room"));
    struct client *slow = socket_open(h, 0, "ann", HELLO_ALL);
    memset(content, 'x', sizeof content - 1);
    for (unsigned i = 0; i < 1200; i++) settled(h, harness_send(h, 0, &ann, busy, content));
    client_say(slow, "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":0}", room_name(quiet).text);
    /* the busy room is ahead for ever: for each event that the reader takes it has another one */
    uint64_t heard = 0, most = 1200;
    while (heard < most && !strstr(client_hear(slow), "from the quiet room")) {
        settled(h, harness_send(h, 0, &ann, busy, content));
        heard++;
    }
    assert_true(heard < most);
}

/* only_session is that of the one socket there is. */
static struct session *only_session(struct harness *h)
{
    uint32_t at = 0;
    struct conn *c = net_each(harness_core(h, 0)->net, &at);
    while (c && !conn_user(c)) c = net_each(harness_core(h, 0)->net, &at);
    assert_non_null(c);
    return conn_user(c);
}

static void what_is_lent_to_a_session_is_given_back(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    struct client *c = socket_open(h, 0, "ann", HELLO_NONE);
    const struct session *s = only_session(h);
    assert_null(s->aside); /* it has said hello */
    h->hold_readers = true;
    subscribe(c, room, 0);
    assert_non_null(s->aside);
    h->hold_readers = false;
    expect_run(c, 1, 3);
    assert_null(s->aside);
    client_say(c, "{\"type\":\"presence.subscribe\",\"id\":2,\"room_id\":\"%s\"}", room_name(room).text);
    expect_text(client_hear(c), "\"re\":2");
    assert_non_null(s->aside);
    client_say(c, "{\"type\":\"presence.unsubscribe\",\"id\":3,\"room_id\":\"%s\"}", room_name(room).text);
    expect_text(client_hear(c), "\"re\":3");
    assert_null(s->aside);
}

static void a_leave_ends_what_comes_from_memory_as_well(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    harness_fill(h, &ann, room, 10);
    struct client *stays = socket_open(h, 0, "ann", HELLO_ALL);
    harness_fill(h, &ann, room, 15);
    expect_run(stays, 11, 15);
    h->hold_readers = true;
    struct client *behind = socket_open(h, 0, "bob", HELLO_NONE);
    subscribe(behind, room, 0); /* its first page is read, the rest is in memory */
    settled(h, harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &bob, 0));
    uint64_t left = settled(h, harness_send(h, 0, &ann, room, "not for bob"))->seq - 1;
    expect_run(stays, 16, left + 1);
    h->hold_readers = false;
    expect_run(behind, 1, left);
    client_hears_nothing(behind);
}

static void who_never_acknowledges_is_served_like_anybody(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", HELLO_ALL);
    for (unsigned round = 0; round < 3; round++) {
        harness_fill(h, &ann, room, (round + 1) * 300);
        expect_run(c, round * 300 + 1, (round + 1) * 300);
        harness_advance(h, STALL_TIMEOUT_MS + 1000);
        client_hears_nothing(c);
        assert_int_equal(net_stats(harness_core(h, 0)->net)->queued_bytes, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_missed_what_went_out_lately_is_served_without_a_read),
        TEST(what_lies_before_the_tail_is_read_and_no_more),
        TEST(many_who_are_behind_alike_cost_one_read),
        TEST(one_who_asks_for_more_than_the_page_that_is_read_goes_on),
        TEST(pages_that_wait_for_their_reader_are_answers_of_the_tenant),
        TEST(a_turn_gives_only_so_much_to_those_who_are_behind),
        TEST(the_rooms_of_a_slow_socket_take_turns),
        TEST(what_is_lent_to_a_session_is_given_back),
        TEST(a_leave_ends_what_comes_from_memory_as_well),
        TEST(who_never_acknowledges_is_served_like_anybody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
