#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "../../src/chat/fanout.h"

/* Between cores: everything arrives once and in the order in which it was posted, also when the ring is full. */

#define ROUNDS 3000u /* of three mails each: twice what a ring holds */

struct crossing {
    struct harness *h;
    uint64_t room, arrived;
};

/* arrived: a position is posted right behind the run it counts, so what it says must have been seen here before. */
static void arrived(struct core *core, struct op *op)
{
    struct crossing *c = op->flow;
    assert_int_equal(core->id, 1);
    assert_int_equal(op->position.head, ++c->arrived);
    assert_int_equal(local_room_find(core, op->tenant, c->room)->seen_head, op->position.head);
    op_free(op);
}

static void a_full_mailbox_parks_runs_ops_and_notices_in_order(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    struct crossing crossing = {.h = h, .room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann))};
    struct client *c = socket_open(h, 1, "ann", "{\"type\":\"hello\"}");
    struct core *home = harness_core(h, 0);
    for (unsigned i = 0; i < ROUNDS; i++) { /* core 1 does not look … */
        harness_send(h, 0, &ann, crossing.room, "x");
        harness_turn(h, 0);
        commit_writer_step(h->gateway.commit);
        commit_syncer_step(h->gateway.commit);
        harness_turn(h, 0);
        if (i == ROUNDS - 500) { /* … but once: there is room in the ring, for what is parked first */
            assert_int_equal(crossing.arrived, 0);
            assert_true(home->out[1].parked.len > MAILBOX_CELLS / 2);
            assert_true(home->metrics.value[METRIC_MAILBOX_PARKED] >= home->out[1].parked.len);
            harness_turn(h, 1);
        }
        struct op *op = harness_op(h, 1, OP_ROOM_POSITION, &ann, crossing.room, 0);
        op->in.position.subscribe = true;
        op->flow = &crossing;
        op->then = arrived;
        op_send(home, op, 0); /* as if it had just come from core 1 */
        notice_post(
            home, 1,
            notice_new(home, NOTICE_JOINED_SOCKETS, h->tenant, 1, SLICE("nobody here"), 1, 1, (struct slice){0}));
    }
    harness_settle(h);
    assert_int_equal(crossing.arrived, ROUNDS);
    assert_int_equal(home->out[1].parked.len, 0);
    for (unsigned seq = 1; seq <= ROUNDS; seq++) assert_int_equal(number_in(client_hear(c), "seq"), seq);
    client_hears_nothing(c);
}

static void one_turn_takes_no_more_than_a_ring_from_another_core(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person_at(h, "ann", 1);
    struct answer *first = NULL, *last = NULL;
    for (unsigned i = 0; i < MAILBOX_CELLS + 10; i++) {
        last = harness_go(h, harness_op(h, 0, OP_USER_RESOLVE, &ann, 0, 0));
        if (!first) first = last;
    }
    harness_turn(h, 0);
    harness_turn(h, 1);
    harness_turn(h, 0);
    expect_ok(first);
    expect_waiting(last);
    harness_settle(h);
    expect_ok(last);
}

static void ops_come_back_to_where_they_were_made(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    static const enum op_kind kinds[] = {OP_USER_RESOLVE, OP_USER_GET,      OP_USER_ROOMS,  OP_ROOM_GET,
                                         OP_ROOM_MEMBERS, OP_ROOM_POSITION, OP_ROOM_HISTORY};
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (unsigned core = 0; core < 3; core++) {
            struct op *op = harness_op(h, core, kinds[i], &ann, room, 0);
            if (kinds[i] == OP_ROOM_HISTORY) op->in.history.limit = 1;
            struct answer *a = harness_go(h, op);
            harness_settle(h);
            expect_ok(a);
            assert_int_equal(a->core, core);
        }
    }
}

static void every_op_has_one_home_whoever_asks(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann");
    for (unsigned kind = 0; kind < OP_KINDS; kind++) {
        if (kind == OP_DIRECTORY_APPLY) continue; /* sent to each core */
        if (kind == OP_CONNECTION_LIST || kind == OP_CONNECTION_KICK) continue; /* go from core to core */
        if (kind == OP_DRAIN || kind == OP_RELOAD) continue; /* go to the main thread */
        unsigned homes[3];
        for (unsigned core = 0; core < 3; core++) {
            struct op *op = harness_op(h, core, (enum op_kind)kind, &ann, 4711, 0);
            homes[core] = op_home(harness_core(h, core), op);
            op_free(op);
        }
        assert_true(homes[0] < 3 && homes[0] == homes[1] && homes[1] == homes[2]);
    }
}

static void what_is_counted_is_shown_after_a_moment(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    harness_advance(h, 100);
    harness_settle(h);
    assert_int_equal(core->metrics.value[METRIC_SESSIONS], 1);
    assert_int_equal(core->metrics.value[METRIC_WEBSOCKET_CONNECTIONS_ACTIVE], 1);
    assert_int_equal(core->metrics.value[METRIC_USERS_LOADED], 1);
    assert_true(core->metrics.value[METRIC_BYTES_SENT] > 0);
}

static void an_idle_core_says_so(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    harness_settle(h);
    assert_false(harness_turns(h));
    struct person ann = harness_person_at(h, "ann", 1);
    harness_go(h, harness_op(h, 0, OP_USER_RESOLVE, &ann, 0, 0));
    assert_false(harness_turn(h, 0)); /* it has only sent it off */
    assert_true(harness_turn(h, 1));
    assert_true(harness_turn(h, 0));
    assert_false(harness_turns(h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_mailbox_parks_runs_ops_and_notices_in_order),
        TEST(one_turn_takes_no_more_than_a_ring_from_another_core),
        TEST(ops_come_back_to_where_they_were_made),
        TEST(every_op_has_one_home_whoever_asks),
        TEST(what_is_counted_is_shown_after_a_moment),
        TEST(an_idle_core_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
