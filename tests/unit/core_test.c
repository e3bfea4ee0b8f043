#include "harness.h"

#include <time.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../../net/connection.h"
#include "../../src/chat/fanout.h"
#include "../../src/core/notice.h"

/* Between cores: everything arrives once and in the order in which it was posted, also when the ring is full. */

#define PATIENCE_NS 5000000000ull
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
    struct client *c = socket_open(h, 1, "ann", HELLO_ALL);
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

static struct commit_entry fills[COMMIT_PENDING_MAX];

static void fill_done(void *context, struct commit_entry *entry, enum status result) {}

static void who_sleeps_in_front_of_a_full_mailbox_is_woken_when_there_is_room(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct core *sender = harness_core(h, 0);
    harness_settle(h);
    for (unsigned i = 0; i < MAILBOX_CELLS + 3; i++)
        notice_post(sender, 1,
                    notice_new(sender, NOTICE_TYPING_GONE, h->tenant, 1, (struct slice){0}, 0, 0, (struct slice){0}));
    harness_turn(h, 0);
    assert_int_equal(sender->out[1].parked.len, 3);
    core_turn(sender, true); /* finds nothing to do, and sleeps until its next look at the gauges */
    park_prepare(&sender->park);
    uint64_t wakes = atomic_load(&sender->park.wakes);
    harness_turn(h, 1);
    assert_int_equal(atomic_load(&sender->park.wakes), wakes + 1);
    core_turn(sender, true);
    assert_int_equal(sender->out[1].parked.len, 0);
    wakes = atomic_load(&sender->park.wakes);
    park_prepare(&sender->park);
    harness_turn(h, 1); /* nothing is parked: there is nothing to wake it for */
    assert_int_equal(atomic_load(&sender->park.wakes), wakes);
    park_done(&sender->park);
}

/* The write of cursors is due, and has to wait for room in the pipeline: that is no reason to stay awake. */
static void who_waits_for_room_in_the_pipeline_sleeps(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    struct core *core = harness_core(h, 0);
    h->hold_syncer = true;
    for (unsigned i = 0; !commit_full(core->commit); i++) {
        assert_true(i < COMMIT_PENDING_MAX);
        fills[i] = (struct commit_entry){.class = COMMIT_FSYNC, .done = fill_done};
        assert_int_equal(commit_push(core->commit, &fills[i]), STATUS_OK);
    }
    struct answer *acked = harness_ack(h, 0, &ann, room, "phone", 1, false);
    harness_advance(h, 2 * CURSOR_FLUSH_MS);
    harness_settle(h);
    assert_false(acked->done);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (unsigned turns = 0; turns < 3; turns++) core_turn(core, true); /* each until the gauges are due, in 100 ms */
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    assert_true(seconds > 0.2);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(acked);
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
        if (kind == OP_DIRECTORY_APPLY || kind == OP_NOTIFICATION_PUSH) continue; /* sent to each core, or some */
        if (kind == OP_CONNECTION_LIST || kind == OP_CONNECTION_KICK) continue;   /* go from core to core */
        if (kind == OP_DRAIN || kind == OP_RELOAD) continue;                      /* the main thread's */
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
    socket_open(h, 0, "ann", HELLO_ALL);
    harness_advance(h, 100);
    harness_settle(h);
    assert_int_equal(core->metrics.value[METRIC_SESSIONS], 1);
    assert_int_equal(core->metrics.value[METRIC_WEBSOCKET_CONNECTIONS_ACTIVE], 1);
    assert_int_equal(core->metrics.value[METRIC_USERS_LOADED], 1);
    assert_true(core->metrics.value[METRIC_BYTES_SENT] > 0);
}

static void a_full_pipeline_lets_a_core_sleep_over_cursors_that_are_due(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_send(h, 0, &ann, room, "x");
    harness_settle(h);
    h->hold_syncer = true;
    while (!commit_full(core->commit)) harness_send(h, 0, &ann, room, "x");
    harness_ack(h, 0, &ann, room, NULL, 1, false);
    harness_settle(h);
    assert_false(list_empty(&core->users_dirty));
    harness_advance(h, CURSOR_FLUSH_MS);
    while (harness_turn(h, 0)) continue;
    uint64_t enters = net_ring_stats(core->net)->enters;
    core_turn(core, true);
    assert_int_equal(net_ring_stats(core->net)->enters - enters, 2); /* to reap, and to sleep */
    h->hold_syncer = false;
    harness_settle(h);
    assert_true(list_empty(&core->users_dirty));
}

struct told {
    struct durable_wait wait;
    unsigned times;
    bool durable;
};

static void tell(struct core *core, struct durable_wait *w, bool durable)
{
    struct told *told = CONTAINER_OF(w, struct told, wait);
    told->times++;
    told->durable = durable;
}

/* Whoever waits for what was read is not told that the store has failed, only because the pipeline is full. */
static void what_was_read_waits_for_a_full_pipeline(void **state)
{
    struct harness *h = *state;
    struct told told = {0};
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    while (!commit_full(core->commit)) harness_send(h, 0, &ann, room, "x");
    harness_settle(h);
    core_when_durable(core, &told.wait, tell);
    harness_settle(h);
    assert_int_equal(told.times, 0);
    h->hold_syncer = false;
    harness_settle(h);
    assert_int_equal(told.times, 1);
    assert_true(told.durable);
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

static void what_net_and_the_ring_count_is_shown(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    /* None can be brought about at will: the kernel hands out few completions at a time, and an accept fails when the
     * whole machine is out of files. net_memory_test and ring_test have the counting of buffers and overflows, this the
     * way from there to where it is shown. */
    ((struct net_stats *)net_stats(core->net))->recv_enobufs = 7;
    ((struct net_stats *)net_stats(core->net))->accept_errors = 3;
    ((struct ring_stats *)net_ring_stats(core->net))->cq_overflows = 5;
    harness_advance(h, 100);
    harness_settle(h);
    assert_int_equal(core->metrics.value[METRIC_RECEIVE_BUFFERS_EMPTY], 7);
    assert_int_equal(core->metrics.value[METRIC_RING_OVERFLOWS], 5);
    assert_int_equal(core->metrics.value[METRIC_ACCEPT_ERRORS], 3);
}

/* --- what a core gives to its connections: deadlines and bounds -------------------------------------------------- */

/* expect_end_at moves time to just before a deadline, where the connection must be open, and just behind it. */
static void expect_end_at(struct harness *h, struct client *c, uint64_t deadline_ms)
{
    harness_advance(h, deadline_ms - 3 * TIMER_TICK_MS);
    harness_settle(h);
    client_read(c);
    assert_false(c->ended);
    harness_advance(h, 5 * TIMER_TICK_MS);
    for (unsigned i = 0; i < 1000 && !c->ended; i++) {
        harness_settle(h);
        client_read(c);
    }
    assert_true(c->ended);
}

static void a_request_that_does_not_end_is_given_up_in_time(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *head = client_open(h, 0);
    client_send(head, SLICE("GET /health HTTP/1.1\r\nHo"));
    harness_settle(h);
    expect_end_at(h, head, HEADER_TIMEOUT_MS);
    struct client *body = client_open(h, 0);
    client_send(body, SLICE("POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"));
    harness_settle(h);
    expect_end_at(h, body, BODY_TIMEOUT_MS);
}

static void a_close_that_nobody_answers_ends_the_connection(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = socket_open(h, 0, "ann", HELLO_ALL);
    client_say_binary(c, "x");
    assert_int_equal(client_hear_close(c), 1003);
    expect_end_at(h, c, CLOSE_TIMEOUT_MS);
}

static void a_refused_body_is_discarded_up_to_its_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    client_send(c, SLICE("POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"));
    assert_int_equal(client_answer(c), 413);
    static const char piece[65536];
    uint64_t sent = 0, before = net_stats(harness_core(h, 0)->net)->bytes_in;
    /* The kernel may take all of it before the gateway has read any: what counts is that it stops reading. */
    uint64_t until_ns = clock_mono_ns(clock_real()) + PATIENCE_NS;
    while (net_stats(harness_core(h, 0)->net)->connections && clock_mono_ns(clock_real()) < until_ns) {
        ssize_t n =
            sent < LINGER_BYTES_MAX + (4u << 20) ? send(c->fd, piece, sizeof piece, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (n > 0) sent += (uint64_t)n;
        harness_turns(h);
    }
    assert_int_equal(net_stats(harness_core(h, 0)->net)->connections, 0);
    uint64_t discarded = net_stats(harness_core(h, 0)->net)->bytes_in - before;
    assert_in_range(discarded, LINGER_BYTES_MAX, LINGER_BYTES_MAX + 64 * RECV_BUFFER_BYTES);
}

static void readers_may_hold_less_when_frames_run_short(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", HELLO_ALL);
    assert_int_equal(core->queue_bytes_max, h->config.limits_send_queue);
    atomic_store(&core->frames_bytes, (int64_t)FRAMES_BYTES_MAX - (1 << 20));
    harness_turns(h);
    assert_int_equal(core->queue_bytes_max, 512 << 10); /* a share of what is left */
    atomic_store(&core->frames_bytes, (int64_t)FRAMES_BYTES_MAX);
    harness_turns(h);
    assert_int_equal(core->queue_bytes_max, SEND_QUEUE_BYTES_MIN);
    atomic_store(&core->frames_bytes, 0);
    harness_turns(h);
    assert_int_equal(core->queue_bytes_max, h->config.limits_send_queue);
}

static void a_small_machine_s_queues_leave_half_of_its_memory(void **state)
{
    struct harness *h = *state;
    h->config.limits_memory = 512u << 20;
    harness_open(h, 2);
    struct core *core = harness_core(h, 0);
    size_t share = (512u << 20) / MEMORY_SHARES / 2;
    assert_int_equal(core->frames_bytes_max, share);
    assert_int_equal(core->net->zero_copy.account_max, share / ZERO_COPY_ACCOUNT_PART);
    assert_int_equal(core->replies_bytes_max, share);
    assert_int_equal(core->pending_bytes_max, share);
    assert_int_equal(core_queue_bound(core->gateway, QUEUE_ASSEMBLY_BYTES), share);
    assert_int_equal(core->anyone.assembly_max, share / 2);
    assert_int_equal(core->pages_bytes_max, share / 2); /* one half for pages that are asked for, one for replays */

    h->config.limits_memory = 32u << 20;
    assert_int_equal(core_bytes_max(core->gateway, FRAMES_BYTES_MAX), MEMORY_SHARE_MIN);
    h->config.limits_memory = 1ull << 40;
    assert_int_equal(core_bytes_max(core->gateway, FRAMES_BYTES_MAX), FRAMES_BYTES_MAX);
}

static void the_longest_body_fits_a_small_machine(void **state)
{
    struct harness *h = *state;
    h->config.limits_memory = 32u << 20;
    h->config.limits_content_chars = 100000;
    harness_open(h, 2);
    const struct core *core = harness_core(h, 0);
    size_t body = core_message_bytes_max(&h->config); /* a body is that long at least */
    assert_true(body > MEMORY_SHARE_MIN / 4); /* else nothing is tried */
    assert_true(core_queue_bound(core->gateway, QUEUE_ASSEMBLY_BYTES) / 2 >= 2 * body); /* its buffer, half of all */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_longest_body_fits_a_small_machine),
        TEST(a_small_machine_s_queues_leave_half_of_its_memory),
        TEST(a_full_mailbox_parks_runs_ops_and_notices_in_order),
        TEST(who_sleeps_in_front_of_a_full_mailbox_is_woken_when_there_is_room),
        TEST(who_waits_for_room_in_the_pipeline_sleeps),
        TEST(one_turn_takes_no_more_than_a_ring_from_another_core),
        TEST(ops_come_back_to_where_they_were_made),
        TEST(every_op_has_one_home_whoever_asks),
        TEST(what_is_counted_is_shown_after_a_moment),
        TEST(what_net_and_the_ring_count_is_shown),
        TEST(a_request_that_does_not_end_is_given_up_in_time),
        TEST(a_close_that_nobody_answers_ends_the_connection),
        TEST(a_refused_body_is_discarded_up_to_its_bound),
        TEST(readers_may_hold_less_when_frames_run_short),
        TEST(a_full_pipeline_lets_a_core_sleep_over_cursors_that_are_due),
        TEST(what_was_read_waits_for_a_full_pipeline),
        TEST(an_idle_core_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
