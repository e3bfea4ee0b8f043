#include "notify_harness.h"

#include <stdlib.h>
#include <string.h>

/* A push to a user's sockets: how much of it at a time, and when it counts as an attempt. */

/* pushed makes notifications for which there is no room at first, and returns how many come by the first push. */
static unsigned pushed(struct harness *h, struct slice payload, unsigned num)
{
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", HELLO_ALL);
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
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    struct core *core = harness_core(h, 0);
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX / 2 + 1);
    struct made made = notified(h, "ann", "1");
    client_hears_nothing(socket);
    assert_int_equal(inbox_of(h, &ann)->full_ns, core->now_ns + PUSH_AGAIN_MS * 1000000ull);
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

/* Room comes while the first one waits for its time: the second, made then, waits behind it. */
static void a_new_notification_does_not_overtake_one_that_found_no_room(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX);
    struct made first = notified(h, "ann", "1");
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX);
    struct made second = notified(h, "ann", "2");
    client_hears_nothing(socket);
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    expect_text(client_hear(socket), first.id);
    expect_text(client_hear(socket), second.id);
}

/* The opening waits for memory: a push to everywhere has nobody else to go to, and nothing is read for it. */
static void what_an_opening_has_yet_to_bring_comes_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    struct made made = notified(h, "ann", "1");
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX);
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    harness_settle(h);
    const struct inbox *in = inbox_of(h, &ann);
    assert_true(in->crowd_ns && in->num_openings == 1 && !in->full_ns);
    pass(h, PUSH_AGAIN_MS - 50, 10);
    assert_true(in->num_openings == 1 && !in->full_ns);
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX);
    pass(h, 500, 100); /* the wheel's ticks */
    expect_text(client_hear(socket), made.id);
    client_hears_nothing(socket);
    expect_text(listed(h, "ann"), "\"attempts\":1");
}

/* An attempt goes to all sockets: that one of them has just opened, and gets everything, does not use it up. */
static void a_socket_that_opens_keeps_no_attempt_from_the_others(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct client *before = socket_open(h, 0, "ann", HELLO_ALL);
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX);
    struct made made = notified(h, "ann", "1");
    struct client *after = socket_open(h, 0, "ann", HELLO_ALL);
    harness_settle(h);
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX);
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    expect_text(client_hear(before), made.id);
    expect_text(client_hear(after), made.id);
    client_hears_nothing(before);
    client_hears_nothing(after);
    expect_text(listed(h, "ann"), "\"attempts\":1");
}

static void a_push_under_way_passes_over_a_socket_that_opens(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    struct client *before = socket_open(h, 0, "ann", HELLO_ALL);
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX);
    struct made made = notified(h, "ann", "1");
    harness_settle(h);
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX);
    h->hold_readers = true;
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    assert_true(inbox_of(h, &ann)->pushing);
    struct client *after = socket_open(h, 0, "ann", HELLO_ALL);
    harness_settle(h);
    h->hold_readers = false;
    expect_text(client_hear(before), made.id);
    expect_text(client_hear(after), made.id);
    client_hears_nothing(before);
    client_hears_nothing(after);
}

#define WAITING 20u

/* opens_slowly opens a socket that takes one notification at a time, and stops when it has had a few of WAITING. */
static struct client *opens_slowly(struct harness *h, const struct person *who)
{
    for (unsigned i = 0; i < WAITING; i++) expect_ok(settled(h, notify_go(h, who, SLICE("1"), who->number, 1)));
    struct client *socket = socket_open(h, 0, who->id, NULL);
    net_limit_queues(harness_core(h, 0)->net, 1);
    h->hold_readers = true;
    client_say(socket, HELLO_ALL);
    for (unsigned i = 0; i < 1000 && client_read(socket) < 4; i++) {
        harness_turn(h, 0);
        reader_step(h->gateway.readers, 0);
    }
    h->hold_readers = false;
    expect_text(client_hear(socket), "welcome");
    return socket;
}

/* place_of counts what a socket hears up to this payload; 0: it does not come. */
static unsigned place_of(struct client *socket, const char *payload)
{
    unsigned place = 0;
    for (unsigned i = 1; client_read(socket) > 0; i++)
        if (strstr(client_hear(socket), payload)) {
            assert_int_equal(place, 0); /* it comes once */
            place = i;
        }
    return place;
}

static void what_is_more_urgent_is_next_for_a_socket_that_is_being_given_the_rest(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct client *socket = opens_slowly(h, &ann);
    struct op *op = notify_many(h, &ann, 1);
    op->members[0].user = ann.number;
    op->in.notify.priority = PRIORITY_URGENT;
    expect_ok(settled(h, harness_go(h, op)));
    assert_in_range(place_of(socket, "\"urgent\""), 4, WAITING - 1);
}

/* A dead letter that is tried again has an old number: what the opening would have to bring is behind it. */
static void what_an_opening_does_not_bring_comes_without_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    core->notify->bounds.pending_user = 0;
    struct made dead = notified(h, "ann", "2");
    core->notify->bounds.pending_user = PENDING_USER_MAX;
    struct client *before = socket_open(h, 0, "ann", HELLO_ALL), *after = opens_slowly(h, &ann);
    struct op *op = harness_op(h, 0, OP_DEAD_LETTER_RETRY, &ann, 0, 0);
    op->in.notification.number = number_of(dead);
    expect_ok(settled(h, harness_go(h, op)));
    assert_int_not_equal(place_of(before, "\"payload\":2"), 0);
    assert_int_not_equal(place_of(after, "\"payload\":2"), 0);
}

static struct kv_ops damaged_ops;
static const struct kv_ops *whole_ops;
static struct key damaged;
static unsigned damaged_reads;

static enum status damaged_get(struct kv *kv, enum kv_cf cf, struct slice key, struct buf *out)
{
    if (cf != KV_NOTIFICATIONS || !slice_eq(key, key_slice(&damaged))) return whole_ops->get(kv, cf, key, out);
    damaged_reads++;
    return STATUS_CORRUPT;
}

/* What cannot be read keeps nothing else from its user, and is asked for as seldom as an attempt is made. */
static void a_notification_that_cannot_be_read_waits_as_one_that_is_not_acknowledged(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    core->notify->bounds.push_batch = 1;
    key_notification(&damaged, h->tenant, ann.number, number_of(notified(h, "ann", "1")), NOTIFICATION_BODY);
    damaged_ops = *(whole_ops = h->kv->ops);
    damaged_ops.get = damaged_get;
    damaged_reads = 0;
    h->kv->ops = &damaged_ops;
    struct client *socket = socket_open(h, 0, "ann", HELLO_ALL);
    struct made made = notified(h, "ann", "2");
    pass(h, 2000, 100);
    expect_text(client_hear(socket), made.id);
    acknowledge(h, "ann", made, 200);
    pass(h, 20000, 500);
    h->kv->ops = whole_ops;
    assert_in_range(damaged_reads, 2, 5);
    expect_text(listed(h, "ann"), "\"attempts\":0");
    pass(h, 15000, 500);
    expect_text(client_hear(socket), "\"payload\":1"); /* it comes when it can be read again */
}

/* Two cores have sockets; one of them acknowledges before the other has said what it took. */
static void an_acknowledged_push_was_an_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person person = harness_person_at(h, "bob", 0);
    struct client *here = socket_open(h, 0, person.id, HELLO_ALL);
    socket_open(h, 1, person.id, HELLO_ALL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_push_has_so_many_notifications_and_no_more),
        TEST(a_push_has_so_many_bytes_and_no_more),
        TEST(a_push_without_room_is_tried_again_soon),
        TEST(a_new_notification_does_not_overtake_one_that_found_no_room),
        TEST(what_an_opening_has_yet_to_bring_comes_once),
        TEST(a_socket_that_opens_keeps_no_attempt_from_the_others),
        TEST(a_push_under_way_passes_over_a_socket_that_opens),
        TEST(what_is_more_urgent_is_next_for_a_socket_that_is_being_given_the_rest),
        TEST(what_an_opening_does_not_bring_comes_without_it),
        TEST(a_notification_that_cannot_be_read_waits_as_one_that_is_not_acknowledged),
        TEST(an_acknowledged_push_was_an_attempt),
    };
    return cmocka_run_group_tests_name("push", tests, NULL, NULL);
}
