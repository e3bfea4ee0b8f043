#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/fanout.h"

/* From newly durable events to the subscribers' sockets: one run a room and turn, one frame for all, one reference
 * each. */

#define HELLO "{\"type\":\"hello\"}"

static uint64_t metric(struct harness *h, unsigned core, enum metric_id id)
{
    return atomic_load(&harness_core(h, core)->metrics.value[id]);
}

/* expect_run hears events `first` to `last`, nothing else. */
static void expect_run(struct client *c, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) assert_int_equal(number_in(client_hear(c), "seq"), seq);
    client_hears_nothing(c);
}

/* make_durable takes what the cores have queued to the disk; no core has looked at it yet. */
static void make_durable(struct harness *h)
{
    harness_turns(h);
    while (commit_writer_step(h->gateway.commit)) continue;
    while (commit_syncer_step(h->gateway.commit)) continue;
}

static void subscribers_hear_nothing_before_the_sync(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *near = socket_open(h, 0, "ann", HELLO), *far = socket_open(h, 1, "ann", HELLO);
    h->hold_syncer = true;
    harness_send(h, 0, &ann, room, "ding");
    client_hears_nothing(near);
    client_hears_nothing(far);
    h->hold_syncer = false;
    expect_run(near, 1, 1);
    expect_run(far, 1, 1);
}

static void events_of_one_turn_are_one_frame_for_each_core(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *near = socket_open(h, 0, "ann", HELLO), *far = socket_open(h, 1, "ann", HELLO);
    uint64_t sends[2];
    for (unsigned i = 0; i < 2; i++) sends[i] = net_stats(harness_core(h, i)->net)->sends;
    for (unsigned i = 0; i < 50; i++) harness_send(h, 0, &ann, room, "ding");
    make_durable(h);
    struct spsc *mailbox = &h->gateway.mailboxes[1]; /* 0 → 1 */
    uint32_t before = mailbox->published;
    harness_turn(h, 0);
    assert_int_equal(mailbox->published - before, 1);
    harness_turn(h, 1);
    harness_turns(h);
    for (unsigned i = 0; i < 2; i++) assert_int_equal(net_stats(harness_core(h, i)->net)->sends - sends[i], 1);
    expect_run(near, 1, 50);
    expect_run(far, 1, 50);
    assert_int_equal(metric(h, 0, METRIC_DELIVERIES), 50);
    assert_int_equal(metric(h, 1, METRIC_DELIVERIES), 50);
    assert_int_equal(metric(h, 0, METRIC_CROSS_CORE_DELIVERIES), 0);
    assert_int_equal(metric(h, 1, METRIC_CROSS_CORE_DELIVERIES), 50);
}

static void a_run_is_charged_until_its_last_core_has_let_go(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *sockets[3];
    for (unsigned i = 0; i < 3; i++) sockets[i] = socket_open(h, i, "ann", HELLO);
    harness_send(h, 0, &ann, room, "ding");
    make_durable(h);
    harness_turn(h, 0);
    int64_t charged = atomic_load(&harness_core(h, 0)->frames_bytes);
    assert_true(charged > 0);
    for (unsigned i = 0; i < 5; i++) harness_turn(h, 0);
    for (unsigned i = 0; i < 5; i++) harness_turn(h, 1);
    assert_int_equal(atomic_load(&harness_core(h, 0)->frames_bytes), charged); /* core 2 has not looked yet */
    harness_settle(h);
    for (unsigned i = 0; i < 3; i++) expect_run(sockets[i], 1, 1);
    assert_int_equal(atomic_load(&harness_core(h, 0)->frames_bytes), 0);
}

static void a_run_that_would_be_too_long_is_cut(void **state)
{
    struct harness *h = *state;
    static char content[40000];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, "ann", HELLO);
    memset(content, 'x', sizeof content - 1);
    unsigned num = 20, in_one = RUN_BYTES_MAX / sizeof content;
    for (unsigned i = 0; i < num; i++) harness_send(h, 0, &ann, room, content);
    make_durable(h);
    struct spsc *mailbox = &h->gateway.mailboxes[1];
    uint32_t before = mailbox->published;
    harness_turn(h, 0);
    assert_int_equal(mailbox->published - before, (num + in_one - 1) / in_one);
    expect_run(c, 1, num);
}

static void a_run_holds_no_more_events_than_its_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, "ann", HELLO);
    for (unsigned i = 0; i < 600; i++) harness_send(h, 0, &ann, room, "x");
    make_durable(h);
    struct spsc *mailbox = &h->gateway.mailboxes[1];
    uint32_t before = mailbox->published;
    harness_turn(h, 0);
    assert_int_equal(mailbox->published - before, 3); /* 256 + 256 + 88 */
    expect_run(c, 1, 600);
}

static void an_event_longer_than_a_run_goes_alone(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, "ann", HELLO);
    char *content = malloc(RUN_BYTES_MAX + 1);
    assert_non_null(content);
    memset(content, 'x', RUN_BYTES_MAX);
    content[RUN_BYTES_MAX] = '\0';
    harness_send(h, 0, &ann, room, "before");
    harness_send(h, 0, &ann, room, content);
    harness_send(h, 0, &ann, room, "behind");
    free(content);
    expect_run(c, 1, 3);
}

static void a_room_without_subscribers_sends_to_nobody(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    harness_send(h, 0, &ann, room, "ding");
    make_durable(h);
    struct spsc *mailbox = &h->gateway.mailboxes[1];
    uint32_t before = mailbox->published;
    harness_turn(h, 0);
    assert_int_equal(mailbox->published, before);
    assert_int_equal(atomic_load(&harness_core(h, 0)->frames_bytes), 0);
    struct room *r = room_find(harness_core(h, 0), h->tenant, room);
    assert_int_equal(r->published.len, 0);
    assert_int_equal(r->events_pending, 0);
}

static void who_subscribes_in_the_middle_begins_exactly_there(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *first = socket_open(h, 1, "ann", HELLO);
    struct client *second = socket_open(h, 1, "ann", "{\"type\":\"hello\",\"rooms\":\"none\"}");
    harness_send(h, 0, &ann, room, "1");
    make_durable(h); /* 1 is durable, and no core knows */
    client_say(second, "{\"type\":\"subscribe\",\"id\":5,\"room_id\":\"%s\"}", room_name(room).text);
    for (unsigned i = 0; i < 20; i++) harness_turn(h, 1); /* its request is on its way to the home */
    harness_send(h, 0, &ann, room, "2");
    harness_settle(h);
    const char *answer = client_hear(second);
    expect_text(answer, "{\"type\":\"ok\",\"re\":5");
    uint64_t head = number_in(answer, "head");
    assert_in_range(head, 0, 2);
    expect_run(second, head + 1, 2);
    expect_run(first, 1, 2);
}

static void a_run_on_its_way_when_the_last_subscriber_leaves_is_dropped(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct client *c = socket_open(h, 1, "ann", HELLO);
    harness_send(h, 0, &ann, room, "ding");
    make_durable(h);
    harness_turn(h, 0); /* the run is in the mailbox … */
    assert_true(atomic_load(&harness_core(h, 0)->frames_bytes) > 0);
    client_say(c, "{\"type\":\"unsubscribe\",\"id\":1,\"room_id\":\"%s\"}", room_name(room).text);
    expect_text(client_hear(c), "\"re\":1"); /* … and what a turn receives comes before its mailboxes */
    assert_int_equal(atomic_load(&harness_core(h, 0)->frames_bytes), 0);
    harness_send(h, 0, &ann, room, "dong");
    client_hears_nothing(c);
}

static void rooms_of_the_same_number_in_two_tenants_are_two(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct local_room *one = local_room_get(core, 1, 77), *two = local_room_get(core, 2, 77);
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(local_room_find(core, 1, 77), one);
    assert_ptr_equal(local_room_find(core, 2, 77), two);
    assert_null(local_room_find(core, 3, 77));
    local_room_release(core, one);
    local_room_release(core, two);
    assert_null(local_room_find(core, 1, 77));
    harness_settle(h);
}

static void many_sockets_of_one_core_share_one_frame(void **state)
{
    struct harness *h = *state;
    struct client *sockets[20];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    for (unsigned i = 0; i < 20; i++) sockets[i] = socket_open(h, 1, "ann", HELLO);
    settled(h, harness_send(h, 0, &ann, room, "ding"));
    for (unsigned i = 0; i < 20; i++) expect_run(sockets[i], 1, 1);
    assert_int_equal(metric(h, 1, METRIC_DELIVERIES), 20);
}

/* --- walks in slices ------------------------------------------------------------------------------------------------ */

#define SOCKETS 7u

struct walk {
    struct harness *h;
    struct core *core;
    struct person ann, bob;
    uint64_t room;
    struct client *sockets[SOCKETS];
};

/* walk_open makes a room with SOCKETS subscriptions of ann on one core, of which a turn walks `slice`. */
static void walk_open(struct walk *w, void **state, uint32_t slice, uint32_t runs_max)
{
    *w = (struct walk){.h = *state};
    harness_open(w->h, 1);
    w->core = harness_core(w->h, 0);
    w->core->fanout_slice = slice;
    w->core->fanout_runs_max = runs_max;
    w->ann = harness_person(w->h, "ann");
    w->bob = harness_person(w->h, "bob");
    w->room = harness_room_at(w->h, 0, ROOM_GROUP, PEOPLE(&w->ann, &w->bob));
    for (unsigned i = 0; i < SOCKETS; i++) w->sockets[i] = socket_open(w->h, 0, "ann", HELLO);
}

/* walk_say makes one message durable. The turn that follows publishes it. */
static void walk_say(struct walk *w)
{
    harness_send(w->h, 0, &w->ann, w->room, "ding");
    make_durable(w->h);
}

static uint64_t num_sends(const struct walk *w) { return net_stats(w->core->net)->sends; }

static void a_turn_sends_to_no_more_of_a_large_room_than_a_slice(void **state)
{
    struct walk w;
    walk_open(&w, state, 3, FANOUT_RUNS_MAX);
    walk_say(&w);
    const unsigned expected[] = {3, 3, 1, 0};
    for (unsigned turn = 0; turn < 4; turn++) {
        uint64_t before = num_sends(&w);
        harness_turn(w.h, 0);
        assert_int_equal(num_sends(&w) - before, expected[turn]);
    }
    assert_false(fanout_walking(w.core));
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 1);
    assert_int_equal(metric(w.h, 0, METRIC_DELIVERIES), SOCKETS);
}

static void what_is_said_during_a_walk_goes_out_with_the_rest_of_it(void **state)
{
    struct walk w;
    walk_open(&w, state, 2, FANOUT_RUNS_MAX);
    uint64_t before = num_sends(&w);
    walk_say(&w);
    harness_turn(w.h, 0); /* two have the first */
    walk_say(&w);         /* … and two more: a message takes a turn to the disk */
    harness_settle(w.h);
    assert_int_equal(num_sends(&w) - before, SOCKETS + 4); /* three had both in one send */
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 2);
    assert_int_equal(metric(w.h, 0, METRIC_DELIVERIES), 2 * SOCKETS);
}

static void who_takes_the_place_of_one_who_left_during_a_walk_misses_nothing(void **state)
{
    for (unsigned leaver = 0; leaver < SOCKETS; leaver++) {
        struct walk w;
        walk_open(&w, state, 1, FANOUT_RUNS_MAX);
        walk_say(&w);
        for (unsigned i = 0; i < 3; i++) harness_turn(w.h, 0); /* three have it */
        struct session *s = session_on(w.core, net_ref(local_room_find(w.core, w.h->tenant, w.room)->subs[leaver].conn));
        session_unsubscribe(w.core, session_sub(s, w.room));
        walk_say(&w);
        harness_settle(w.h);
        for (unsigned i = 0; i < SOCKETS; i++) {
            if (i != leaver) expect_run(w.sockets[i], 1, 2);
            else if (i < 3) expect_run(w.sockets[i], 1, 1);
            else client_hears_nothing(w.sockets[i]);
        }
        harness_teardown(state);
        harness_setup(state);
    }
}

static void a_walk_ends_when_its_room_has_become_small_between_two_runs(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    walk_say(&w);
    harness_turn(w.h, 0);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    while (l->num_subs > 1) session_unsubscribe(w.core, l->subs[0].sub);
    walk_say(&w); /* one round for this one is less than what is left for the first */
    for (unsigned turns = 0; fanout_walking(w.core) && turns < 4 * SOCKETS; turns++) harness_turn(w.h, 0);
    assert_false(fanout_walking(w.core));
}

static void who_subscribes_during_a_walk_gets_each_event_once(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    struct client *late = socket_open(w.h, 0, "ann", "{\"type\":\"hello\",\"rooms\":\"none\"}");
    walk_say(&w);
    harness_turn(w.h, 0);
    client_say(late, "{\"type\":\"subscribe\",\"id\":5,\"room_id\":\"%s\",\"after_seq\":0}", room_name(w.room).text);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    for (unsigned turns = 0; l->num_subs == SOCKETS && turns < 3; turns++) harness_turn(w.h, 0);
    assert_int_equal(l->num_subs, SOCKETS + 1);
    assert_true(fanout_walking(w.core)); /* it reads the first from the log while the walk is on its way to it */
    walk_say(&w);
    expect_text(client_hear(late), "\"re\":5");
    expect_text(client_hear(late), "\"type\":\"resumed\"");
    expect_run(late, 1, 2);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 2);
}

/* Whoever has seen the answer to a message of their own may ask for what follows it before the walk has brought the rest. */
static void who_subscribes_again_during_a_walk_misses_nothing_of_it(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    walk_say(&w);
    harness_turn(w.h, 0);
    struct client *last = w.sockets[SOCKETS - 1];
    client_say(last, "{\"type\":\"subscribe\",\"id\":5,\"room_id\":\"%s\",\"after_seq\":1}", room_name(w.room).text);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    for (unsigned turns = 0; l->subs[SOCKETS - 1].next_seq == 1 && turns < 3; turns++) harness_turn(w.h, 0);
    assert_true(fanout_walking(w.core)); /* it has not come to the last one */
    walk_say(&w);
    expect_text(client_hear(last), "\"re\":5");
    assert_int_equal(number_in(client_hear(last), "from"), 1);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 2);
}

static void news_of_a_room_that_is_walked_enough_become_one_run(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, 1);
    walk_say(&w);
    harness_turn(w.h, 0);
    uint64_t before = num_sends(&w);
    for (unsigned i = 0; i < 3; i++) harness_send(w.h, 0, &w.ann, w.room, "dong");
    make_durable(w.h);
    harness_turn(w.h, 0);
    assert_int_equal(room_find(w.core, w.h->tenant, w.room)->published.len, 3);
    assert_true(w.core->news_bytes > 0);
    harness_settle(w.h);
    assert_int_equal(w.core->news_bytes, 0);
    assert_int_equal(num_sends(&w) - before, SOCKETS - 1 + SOCKETS);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 4);
}

/* The way round is longer by the one who has come, for a run that began in the middle of the list as well. */
static void who_subscribes_during_a_walk_takes_nobody_elses_turn(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    struct client *late = socket_open(w.h, 0, "ann", "{\"type\":\"hello\",\"rooms\":\"none\"}");
    walk_say(&w);
    harness_turn(w.h, 0);
    walk_say(&w);
    harness_turn(w.h, 0);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    assert_int_equal(l->runs.len, 2);
    client_say(late, "{\"type\":\"subscribe\",\"id\":5,\"room_id\":\"%s\"}", room_name(w.room).text);
    for (unsigned turns = 0; l->num_subs == SOCKETS && turns < 3; turns++) harness_turn(w.h, 0);
    assert_int_equal(l->num_subs, SOCKETS + 1);
    assert_int_equal(l->runs.len, 2);
    expect_text(client_hear(late), "\"re\":5");
    client_hears_nothing(late);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 2);
}

static void news_wait_behind_runs_of_many_bytes_as_well(void **state)
{
    struct walk w;
    char content[FANOUT_RUNS_BYTES];
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    memset(content, 'x', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    harness_send(w.h, 0, &w.ann, w.room, content);
    make_durable(w.h);
    harness_turn(w.h, 0);
    for (unsigned i = 0; i < 3; i++) harness_send(w.h, 0, &w.ann, w.room, "dong");
    make_durable(w.h);
    harness_turn(w.h, 0);
    assert_int_equal(room_find(w.core, w.h->tenant, w.room)->published.len, 3);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 4);
}

static void behind_too_much_news_what_is_durable_stays_in_the_pipeline(void **state)
{
    struct walk w;
    static char content[32768];
    const unsigned num = FANOUT_WAITING_BYTES / sizeof content + 1;
    walk_open(&w, state, 1, 1);
    walk_say(&w);
    harness_turn(w.h, 0);
    memset(content, 'x', sizeof content - 1);
    for (unsigned i = 0; i < num; i++) harness_send(w.h, 0, &w.ann, w.room, content);
    make_durable(w.h);
    harness_turn(w.h, 0);
    assert_true(w.core->news_bytes >= FANOUT_WAITING_BYTES);
    struct answer *late = harness_send(w.h, 0, &w.ann, w.room, "dong");
    make_durable(w.h);
    harness_turn(w.h, 0);
    assert_true(fanout_walking(w.core));
    expect_waiting(late);
    expect_ok(settled(w.h, late));
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, num + 2);
    assert_int_equal(w.core->news_bytes, 0);
}

static void a_turn_walks_slices_of_so_many_rooms_and_the_others_come_next(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_core(h, 0)->fanout_slice = 1;
    struct person ann = harness_person(h, "ann");
    uint64_t rooms[FANOUT_TURN_SLICES + 4];
    const unsigned num = sizeof rooms / sizeof *rooms;
    for (unsigned i = 0; i < num; i++) rooms[i] = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    for (unsigned i = 0; i < 2; i++) socket_open(h, 0, "ann", HELLO);
    for (unsigned i = 0; i < num; i++) harness_send(h, 0, &ann, rooms[i], "ding");
    make_durable(h);
    const unsigned expected[] = {FANOUT_TURN_SLICES, FANOUT_TURN_SLICES, 8, 0}; /* of 2 for each of the rooms */
    for (unsigned turn = 0; turn < 4; turn++) {
        uint64_t before = metric(h, 0, METRIC_DELIVERIES);
        harness_turn(h, 0);
        assert_int_equal(metric(h, 0, METRIC_DELIVERIES) - before, expected[turn]);
    }
}

static void who_is_removed_during_a_walk_learns_of_it_and_of_what_came_before(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    struct client *bob = socket_open(w.h, 0, "bob", HELLO); /* the walk comes to it last */
    for (unsigned i = 0; i < SOCKETS; i++) expect_text(client_hear(w.sockets[i]), "presence.update");
    walk_say(&w);
    harness_turn(w.h, 0);
    harness_change(w.h, 0, OP_ROOM_REMOVE, &w.ann, w.room, &w.bob, 0);
    harness_settle(w.h);
    expect_run(bob, 1, 2);
    harness_send(w.h, 0, &w.ann, w.room, "without bob");
    client_hears_nothing(bob);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 3);
}

static void a_core_that_ends_in_the_middle_of_a_walk_lets_go_of_its_runs(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    walk_say(&w);
    harness_turn(w.h, 0);
    assert_true(fanout_walking(w.core));
    assert_true(atomic_load(&w.core->frames_bytes) > 0);
    fanout_end(w.core);
    assert_false(fanout_walking(w.core));
    harness_settle(w.h); /* what was queued is sent */
    assert_int_equal(atomic_load(&w.core->frames_bytes), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(subscribers_hear_nothing_before_the_sync),
        TEST(events_of_one_turn_are_one_frame_for_each_core),
        TEST(a_run_is_charged_until_its_last_core_has_let_go),
        TEST(a_run_that_would_be_too_long_is_cut),
        TEST(a_run_holds_no_more_events_than_its_bound),
        TEST(an_event_longer_than_a_run_goes_alone),
        TEST(a_room_without_subscribers_sends_to_nobody),
        TEST(who_subscribes_in_the_middle_begins_exactly_there),
        TEST(a_run_on_its_way_when_the_last_subscriber_leaves_is_dropped),
        TEST(rooms_of_the_same_number_in_two_tenants_are_two),
        TEST(many_sockets_of_one_core_share_one_frame),
        TEST(a_turn_sends_to_no_more_of_a_large_room_than_a_slice),
        TEST(what_is_said_during_a_walk_goes_out_with_the_rest_of_it),
        TEST(who_takes_the_place_of_one_who_left_during_a_walk_misses_nothing),
        TEST(a_walk_ends_when_its_room_has_become_small_between_two_runs),
        TEST(who_subscribes_during_a_walk_gets_each_event_once),
        TEST(who_subscribes_again_during_a_walk_misses_nothing_of_it),
        TEST(news_of_a_room_that_is_walked_enough_become_one_run),
        TEST(who_subscribes_during_a_walk_takes_nobody_elses_turn),
        TEST(news_wait_behind_runs_of_many_bytes_as_well),
        TEST(behind_too_much_news_what_is_durable_stays_in_the_pipeline),
        TEST(a_turn_walks_slices_of_so_many_rooms_and_the_others_come_next),
        TEST(who_is_removed_during_a_walk_learns_of_it_and_of_what_came_before),
        TEST(a_core_that_ends_in_the_middle_of_a_walk_lets_go_of_its_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
