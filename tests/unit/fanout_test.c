#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/fanout.h"
#include "next_random.h"

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
    for (unsigned i = 0; i < RECV_STREAM_AFTER; i++) { /* so that what it says next is received in one turn */
        client_say(c, "{\"type\":\"ping\"}");
        expect_text(client_hear(c), "pong");
    }
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

/* --- walks in slices --------------------------------------------------------------------------------------------- */

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
        struct session *s =
            session_on(w.core, net_ref(local_room_find(w.core, w.h->tenant, w.room)->subs[leaver].conn));
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

static void subscribed_again(struct core *core, struct op *op)
{
    struct sub *sub = session_subscribed(core, op);
    assert_non_null(sub);
    session_start(core, sub);
    op_free(op);
}

/* walk_rejoin ends a socket's subscription and makes it anew, behind what was said. */
static void walk_rejoin(struct walk *w, struct session *s)
{
    session_unsubscribe(w->core, session_sub(s, w->room));
    struct op *op = op_new(w->core, OP_ROOM_POSITION, 0);
    op->room = w->room;
    op->in.position.mode = POSITION_LIVE;
    op->then = subscribed_again;
    session_subscribe(w->core, s, op);
}

static void who_come_and_go_as_fast_as_the_walk_do_not_keep_it_from_its_end(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    struct session *restless = l->subs[0].sub->session;
    walk_say(&w);
    harness_turn(w.h, 0);
    assert_true(fanout_walking(w.core));
    for (unsigned turns = 0; fanout_walking(w.core) && turns < 2 * SOCKETS; turns++) {
        walk_rejoin(&w, restless);
        harness_turn(w.h, 0);
    }
    assert_false(fanout_walking(w.core));
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 1);
}

static void who_stays_gets_each_event_once_however_others_come_and_go(void **state)
{
    struct walk w;
    struct session *sessions[SOCKETS];
    uint64_t said = 0;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    for (unsigned i = 0; i < SOCKETS; i++) sessions[i] = l->subs[i].sub->session;
    for (unsigned i = 0; i < 400; i++) {
        uint64_t what = next_random() % 8;
        if (what == 0) {
            walk_say(&w);
            said++;
        } else if (what < 4) {
            walk_rejoin(&w, sessions[next_random() % (SOCKETS / 2) * 2 + 1]);
        } else {
            harness_turn(w.h, 0);
        }
    }
    for (unsigned i = 0; i < SOCKETS; i += 2) expect_run(w.sockets[i], 1, said);
}

static void who_subscribes_during_a_walk_gets_each_event_once(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    struct client *late = socket_open(w.h, 0, "ann", "{\"type\":\"hello\",\"rooms\":\"none\"}");
    walk_say(&w);
    harness_turn(w.h, 0);
    walk_say(&w); /* the way of this one leads over the end of the list, where the next one stands who comes */
    harness_turn(w.h, 0);
    client_say(late, "{\"type\":\"subscribe\",\"id\":5,\"room_id\":\"%s\",\"after_seq\":0}", room_name(w.room).text);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    for (unsigned turns = 0; l->num_subs == SOCKETS && turns < 3; turns++) harness_turn(w.h, 0);
    assert_int_equal(l->num_subs, SOCKETS + 1);
    assert_true(fanout_walking(w.core)); /* it reads what was said from the log while the walk is on its way to it */
    walk_say(&w);
    expect_text(client_hear(late), "\"re\":5");
    expect_text(client_hear(late), "\"type\":\"resumed\"");
    expect_run(late, 1, 3);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 3);
}

/* Whoever has seen the answer to a message of their own may ask for what follows it before the walk has brought the
 * rest. */
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

static uint64_t num_published(const struct walk *w) { return room_find(w->core, w->h->tenant, w->room)->published.len; }

/* Of thousands of rooms whose news wait none costs a turn anything. */
static void news_that_wait_are_looked_at_when_a_run_is_through(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, 1);
    walk_say(&w);
    harness_turn(w.h, 0);
    walk_say(&w);
    while (harness_turn(w.h, 0) && fanout_walking(w.core)) assert_true(list_empty(&w.core->rooms_dirty));
    assert_int_equal(num_published(&w), 1);
    assert_false(list_empty(&w.core->rooms_dirty));
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 2);
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

/* walk_say_long sends one message of so many bytes, and has it published. */
static void walk_say_long(struct walk *w, size_t len)
{
    static char content[FANOUT_RUNS_BYTES + 1];
    ASSERT(len < sizeof content);
    memset(content, 'x', len);
    content[len] = '\0';
    harness_send(w->h, 0, &w->ann, w->room, content);
    make_durable(w->h);
    harness_turn(w->h, 0);
}

static void news_wait_behind_a_few_runs_of_many_bytes(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, 6);
    for (unsigned runs = 1; runs <= 3; runs++) { /* the walk goes on while the next one is made durable */
        walk_say_long(&w, FANOUT_RUNS_BYTES);
        assert_int_equal(local_room_find(w.core, w.h->tenant, w.room)->runs.len, runs);
    }
    walk_say_long(&w, 1);
    assert_int_equal(num_published(&w), 1);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 4);
}

static void runs_that_would_fill_a_socket_s_queue_are_walked_one_by_one(void **state)
{
    struct walk w;
    w.h = *state;
    w.h->config.limits_send_queue = FANOUT_QUEUE_PART * FANOUT_RUNS_BYTES;
    walk_open(&w, state, 1, 6);
    uint64_t replays = metric(w.h, 0, METRIC_REPLAYS);
    walk_say_long(&w, FANOUT_RUNS_BYTES);
    walk_say_long(&w, 1);
    assert_int_equal(num_published(&w), 1);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 2);
    assert_int_equal(metric(w.h, 0, METRIC_REPLAYS), replays); /* nobody had to catch up */
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

/* rooms_say makes one message durable in each of `num` rooms of ann, who has `sockets` sockets. The turn that follows
 * publishes them. */
static void rooms_say(struct harness *h, uint64_t *rooms, unsigned num, unsigned sockets)
{
    struct person ann = harness_person(h, "ann");
    for (unsigned i = 0; i < num; i++) rooms[i] = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    for (unsigned i = 0; i < sockets; i++) socket_open(h, 0, "ann", HELLO);
    for (unsigned i = 0; i < num; i++) harness_send(h, 0, &ann, rooms[i], "ding");
    make_durable(h);
}

/* walked tells how many of the room's subscribers the walk has come to. */
static uint64_t walked(struct harness *h, uint64_t room)
{
    return local_room_find(harness_core(h, 0), h->tenant, room)->walked;
}

static void rooms_with_news_share_what_a_turn_sends(void **state)
{
    struct harness *h = *state;
    uint64_t rooms[3];
    harness_open(h, 1);
    harness_core(h, 0)->fanout_slice = 6;
    rooms_say(h, rooms, 3, 5);
    const unsigned expected[] = {2, 4, 5};
    for (unsigned turn = 0; turn < 3; turn++) {
        harness_turn(h, 0);
        for (unsigned i = 0; i < 3; i++) assert_int_equal(walked(h, rooms[i]), expected[turn]);
    }
    assert_false(fanout_walking(harness_core(h, 0)));
}

static void what_a_room_does_not_need_of_its_share_goes_to_the_others(void **state)
{
    struct harness *h = *state;
    uint64_t small, large;
    harness_open(h, 1);
    harness_core(h, 0)->fanout_slice = 6;
    rooms_say(h, &small, 1, 1); /* … and the other room has all sockets */
    harness_settle(h);
    struct person bob = harness_person(h, "bob");
    large = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&bob));
    for (unsigned i = 0; i < 7; i++) socket_open(h, 0, "bob", HELLO);
    struct person ann = harness_person(h, "ann");
    harness_send(h, 0, &ann, small, "dong");
    harness_send(h, 0, &bob, large, "dong");
    make_durable(h);
    harness_turn(h, 0);
    assert_int_equal(walked(h, small), 2); /* the one of before among them */
    assert_int_equal(walked(h, large), 5);
}

static void rooms_for_which_a_turn_has_no_place_come_before_the_others_in_the_next(void **state)
{
    struct harness *h = *state;
    uint64_t rooms[5];
    harness_open(h, 1);
    harness_core(h, 0)->fanout_slice = 2;
    rooms_say(h, rooms, 5, 2);
    unsigned reached = 0;
    for (unsigned turn = 0; turn < 2; turn++) harness_turn(h, 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(walked(h, rooms[i]) <= 1);
        reached += walked(h, rooms[i]) == 1;
    }
    assert_int_equal(reached, 4);
    harness_turn(h, 0);
    for (unsigned i = 0; i < 5; i++) assert_true(walked(h, rooms[i]) >= 1);
}

/* The rest of a turn is not for a room that has had its slice: it is to be over soon, and what is said meanwhile taken
 * up. */
static void one_room_has_a_small_part_of_what_a_turn_sends(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    for (unsigned i = 0; i < FANOUT_ROOM_SLICE + 3; i++) socket_open(h, 0, "ann", HELLO);
    harness_send(h, 0, &ann, room, "ding");
    make_durable(h);
    const unsigned expected[] = {FANOUT_ROOM_SLICE, 3, 0};
    for (unsigned turn = 0; turn < 3; turn++) {
        uint64_t before = metric(h, 0, METRIC_DELIVERIES);
        harness_turn(h, 0);
        assert_int_equal(metric(h, 0, METRIC_DELIVERIES) - before, expected[turn]);
    }
}

static void a_long_turn_has_more_places_for_one_room(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    for (unsigned i = 0; i < 5 * FANOUT_ROOM_SLICE; i++) socket_open(h, 0, "ann", HELLO);
    harness_send(h, 0, &ann, room, "ding");
    make_durable(h);
    harness_turn(h, 0);
    uint64_t before = metric(h, 0, METRIC_DELIVERIES);
    const uint32_t places = 2 * FANOUT_ROOM_PART * FANOUT_ROOM_SLICE; /* of a turn that has handled many completions */
    assert_true(fanout_walk(harness_core(h, 0), places));
    assert_int_equal(metric(h, 0, METRIC_DELIVERIES) - before, places / FANOUT_ROOM_PART);
}

static void a_turn_that_receives_much_sends_more(void **state)
{
    struct walk w;
    walk_open(&w, state, 1, FANOUT_RUNS_MAX);
    harness_settle(w.h);
    struct client *others[2 * FANOUT_SLICE_PART];
    const unsigned num = sizeof others / sizeof *others;
    for (unsigned i = 0; i < num; i++)
        others[i] = socket_open(w.h, 0, "bob", "{\"type\":\"hello\",\"rooms\":\"none\"}");
    harness_settle(w.h);
    walk_say(&w);
    for (unsigned i = 0; i < num; i++) client_say(others[i], "{\"type\":\"ping\",\"id\":1}");
    harness_turn(w.h, 0);
    assert_true(local_room_find(w.core, w.h->tenant, w.room)->walked >= 2);
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

/* --- walks on another core than the room's home ------------------------------------------------------------------ */

/* far_open makes a room at home on core 0 whose SOCKETS subscriptions are on core 1, one of which it comes to in a
 * turn. */
static void far_open(struct walk *w, void **state)
{
    *w = (struct walk){.h = *state};
    harness_open(w->h, 2);
    w->core = harness_core(w->h, 1);
    w->core->fanout_slice = 1;
    w->ann = harness_person(w->h, "ann");
    w->room = harness_room_at(w->h, 0, ROOM_GROUP, PEOPLE(&w->ann));
    for (unsigned i = 0; i < SOCKETS; i++) w->sockets[i] = socket_open(w->h, 1, "ann", HELLO);
}

static struct room *far_room(const struct walk *w)
{
    return room_find(harness_core(w->h, 0), w->h->tenant, w->room);
}

/* far_say has a message made durable and published by the home; the far core has no turn. */
static void far_say(struct walk *w, const char *content)
{
    harness_send(w->h, 0, &w->ann, w->room, content);
    harness_turn(w->h, 0);
    while (commit_writer_step(w->h->gateway.commit)) continue;
    while (commit_syncer_step(w->h->gateway.commit)) continue;
    harness_turn(w->h, 0);
}

/* far_say_many: the far core has its turn behind the first `turns` of them. */
static void far_say_many(struct walk *w, unsigned num, unsigned turns)
{
    for (unsigned i = 0; i < num; i++) {
        far_say(w, "ding");
        if (i < turns) harness_turn(w->h, 1);
    }
    harness_turn(w->h, 0);
}

static void a_home_keeps_the_news_of_a_room_that_another_core_has_not_walked(void **state)
{
    struct walk w;
    far_open(&w, state);
    far_say_many(&w, 3 * FANOUT_RUNS_MAX,
                 1); /* a turn in which the far core says that it walks, then it stands still */
    struct outbox *o = &harness_core(w.h, 0)->out[1];
    assert_in_range(spsc_depth(o->ring), FANOUT_RUNS_MAX / 2, FANOUT_RUNS_MAX + 1); /* and nothing else is on its way */
    assert_in_range(far_room(&w)->published.len, 2 * FANOUT_RUNS_MAX - 2, 3 * FANOUT_RUNS_MAX);
    uint64_t before = num_sends(&w);
    harness_settle(w.h);
    assert_int_equal(harness_core(w.h, 0)->news_bytes, 0);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 3 * FANOUT_RUNS_MAX);
    assert_in_range(num_sends(&w) - before, SOCKETS, 4 * SOCKETS); /* what was kept became one run */
}

static void runs_of_a_room_that_is_walked_elsewhere_are_bounded_however_long_it_lasts(void **state)
{
    struct walk w;
    far_open(&w, state);
    uint32_t most = 0;
    for (unsigned i = 0; i < 40; i++) {
        far_say_many(&w, 3, 1); /* three messages in the time in which one of seven subscribers gets a send */
        uint32_t queued = local_room_find(w.core, w.h->tenant, w.room)->runs.len;
        if (queued > most) most = queued;
    }
    assert_in_range(most, FANOUT_RUNS_MAX / 2, FANOUT_RUNS_MAX + 2);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 3 * 40);
}

static void long_runs_fill_the_window_of_a_far_core_by_half_as_many(void **state)
{
    struct walk w;
    char content[FANOUT_RUNS_BYTES];
    const unsigned num = FANOUT_RUNS_MAX / 2;
    far_open(&w, state);
    far_say_many(&w, 1, 1);
    memset(content, 'x', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    for (unsigned i = 0; i < num; i++) {
        assert_int_equal(far_room(&w)->published.len, 0);
        far_say(&w, content);
    }
    far_say_many(&w, 3, 0);
    assert_int_equal(far_room(&w)->published.len, 3);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 1 + num + 3);
}

/* What is durable and stays in the pipeline is no work for a core that may not take it yet. */
static void a_home_with_too_much_news_sleeps_until_the_other_core_has_come_on(void **state)
{
    struct walk w;
    static char content[32768];
    const unsigned num = FANOUT_WAITING_BYTES / sizeof content + 1;
    far_open(&w, state);
    far_say_many(&w, FANOUT_RUNS_MAX + 1, 1);
    memset(content, 'x', sizeof content - 1);
    for (unsigned i = 0; i < num; i++) harness_send(w.h, 0, &w.ann, w.room, content);
    far_say_many(&w, 2, 0);
    struct core *home = harness_core(w.h, 0);
    assert_true(home->news_bytes >= FANOUT_WAITING_BYTES);
    assert_true(commit_pollable(home->commit));
    for (unsigned turns = 0; harness_turn(w.h, 0) && turns < 100; turns++) continue;
    assert_false(core_turn(home, true));
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, FANOUT_RUNS_MAX + num + 3);
    assert_int_equal(home->news_bytes, 0);
}

static void a_sum_of_the_time_before_a_room_was_loaded_again_says_nothing(void **state)
{
    struct walk w;
    far_open(&w, state);
    /* as a run of then leaves it that comes in between two subscribers */
    local_room_find(w.core, w.h->tenant, w.room)->through_weight = 100 * FANOUT_RUNS_BYTES;
    far_say_many(&w, 3 * FANOUT_RUNS_MAX, 1);
    assert_non_null(far_room(&w)->far);
    assert_in_range(far_room(&w)->published.len, FANOUT_RUNS_MAX, 3 * FANOUT_RUNS_MAX);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 3 * FANOUT_RUNS_MAX);
    assert_int_equal(harness_core(w.h, 0)->news_bytes, 0);
}

static void a_core_whose_subscribers_have_left_holds_nobody_up(void **state)
{
    struct walk w;
    far_open(&w, state);
    struct client *near = socket_open(w.h, 0, "ann", HELLO);
    far_say_many(&w, 2 * FANOUT_RUNS_MAX, 1);
    assert_true(far_room(&w)->published.len > 0);
    const struct local_room *l = local_room_find(w.core, w.h->tenant, w.room);
    while (l->num_subs > 1) session_unsubscribe(w.core, l->subs[0].sub);
    session_unsubscribe(w.core, l->subs[0].sub);
    expect_run(near, 1, 2 * FANOUT_RUNS_MAX);
    assert_null(far_room(&w)->far);
    assert_int_equal(harness_core(w.h, 0)->news_bytes, 0);
}

static void a_core_with_few_subscribers_tells_the_home_nothing(void **state)
{
    struct walk w;
    far_open(&w, state);
    w.core->fanout_slice = SOCKETS;
    far_say_many(&w, 3 * FANOUT_RUNS_MAX, 3 * FANOUT_RUNS_MAX);
    assert_null(far_room(&w)->far);
    for (unsigned i = 0; i < SOCKETS; i++) expect_run(w.sockets[i], 1, 3 * FANOUT_RUNS_MAX);
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
        TEST(who_come_and_go_as_fast_as_the_walk_do_not_keep_it_from_its_end),
        TEST(who_stays_gets_each_event_once_however_others_come_and_go),
        TEST(who_subscribes_during_a_walk_gets_each_event_once),
        TEST(who_subscribes_again_during_a_walk_misses_nothing_of_it),
        TEST(news_of_a_room_that_is_walked_enough_become_one_run),
        TEST(news_that_wait_are_looked_at_when_a_run_is_through),
        TEST(who_subscribes_during_a_walk_takes_nobody_elses_turn),
        TEST(news_wait_behind_a_few_runs_of_many_bytes),
        TEST(runs_that_would_fill_a_socket_s_queue_are_walked_one_by_one),
        TEST(one_room_has_a_small_part_of_what_a_turn_sends),
        TEST(a_long_turn_has_more_places_for_one_room),
        TEST(behind_too_much_news_what_is_durable_stays_in_the_pipeline),
        TEST(rooms_with_news_share_what_a_turn_sends),
        TEST(what_a_room_does_not_need_of_its_share_goes_to_the_others),
        TEST(rooms_for_which_a_turn_has_no_place_come_before_the_others_in_the_next),
        TEST(a_turn_that_receives_much_sends_more),
        TEST(who_is_removed_during_a_walk_learns_of_it_and_of_what_came_before),
        TEST(a_home_keeps_the_news_of_a_room_that_another_core_has_not_walked),
        TEST(runs_of_a_room_that_is_walked_elsewhere_are_bounded_however_long_it_lasts),
        TEST(long_runs_fill_the_window_of_a_far_core_by_half_as_many),
        TEST(a_home_with_too_much_news_sleeps_until_the_other_core_has_come_on),
        TEST(a_sum_of_the_time_before_a_room_was_loaded_again_says_nothing),
        TEST(a_core_whose_subscribers_have_left_holds_nobody_up),
        TEST(a_core_with_few_subscribers_tells_the_home_nothing),
        TEST(a_core_that_ends_in_the_middle_of_a_walk_lets_go_of_its_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
