#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/user.h"
#include "kv_row.h"

/* A user at its home: coming into being once, the rooms it is in, and its cursors. */

static struct answer *resolve(struct harness *h, unsigned core, const char *id)
{
    struct person p = {.tenant = h->tenant};
    snprintf(p.id, sizeof p.id, "%s", id);
    return harness_go(h, harness_op(h, core, OP_USER_RESOLVE, &p, 0, 0));
}

static struct answer *get(struct harness *h, unsigned core, const char *id)
{
    struct person p = {.tenant = h->tenant};
    snprintf(p.id, sizeof p.id, "%s", id);
    return harness_go(h, harness_op(h, core, OP_USER_GET, &p, 0, 0));
}

/* cursor_row reads what the store holds of a cursor; false when there is none. */
static bool cursor_row(struct harness *h, const struct person *who, uint64_t room, const char *device,
                       struct cursor_record *out)
{
    struct key key;
    struct buf value = {0};
    key_cursor(&key, h->tenant, who->number, slice_str(device), room);
    enum status s = kv_get(h->kv, KV_CURSORS, key_slice(&key), &value);
    if (s == STATUS_OK) assert_int_equal(cursor_record_decode(out, buf_slice(&value)), STATUS_OK);
    buf_free(&value);
    return s == STATUS_OK;
}

/* ack_silently is an ack that nobody waits for: a WebSocket's without an id. */
static struct answer *ack_silently(struct harness *h, const struct person *who, uint64_t room, uint64_t seq)
{
    struct op *op = harness_op(h, 0, OP_ROOM_ACK, who, room, 0);
    op->in.cursor.seq = seq;
    op->answered = false;
    return harness_go(h, op);
}

/* expect_cursors holds what a device is told against what it should be. */
static void expect_cursors(struct harness *h, const struct person *who, const char *device, uint64_t delivered,
                           uint64_t read)
{
    struct answer *a = settled(h, harness_rooms(h, 0, who, device));
    expect_ok(a);
    assert_int_equal(a->num_positions, 1);
    assert_int_equal(a->positions[0].delivered, delivered);
    assert_int_equal(a->positions[0].read, read);
}

/* position_in finds a room in an answered list; NULL when it is not there. */
static const struct room_position *position_in(const struct answer *a, uint64_t room)
{
    const struct room_position *found = NULL;
    for (uint32_t i = 0; i < a->num_positions; i++) {
        if (a->positions[i].room != room) continue;
        assert_null(found);
        found = &a->positions[i];
    }
    return found;
}

/* --- coming into being --------------------------------------------------------------------------- */

static void whoever_asks_at_once_makes_one_user(void **state)
{
    struct harness *h = *state;
    struct answer *asked[9];
    harness_open(h, 3);
    h->hold_syncer = true;
    for (unsigned i = 0; i < 9; i++) asked[i] = resolve(h, i % 3, "ann");
    harness_settle(h);
    for (unsigned i = 0; i < 9; i++) expect_waiting(asked[i]); /* a number counts once it is durable */
    h->hold_syncer = false;
    harness_settle(h);
    for (unsigned i = 0; i < 9; i++) {
        expect_ok(asked[i]);
        assert_int_equal(asked[i]->user, asked[0]->user);
    }
    assert_int_not_equal(settled(h, resolve(h, 0, "bob"))->user, asked[0]->user);
}

static void a_user_keeps_its_number_through_every_end(void **state)
{
    struct harness *h = *state;
    static const enum harness_end ends[] = {END_CLEAN, END_KILLED, END_POWER_LOST};
    harness_open(h, 2);
    uint64_t number = settled(h, resolve(h, 1, "ann"))->user;
    for (unsigned i = 0; i < 3; i++) {
        harness_restart(h, ends[i]);
        assert_int_equal(settled(h, resolve(h, 0, "ann"))->user, number);
    }
}

static void asking_for_a_user_makes_none(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    uint64_t rows = kv_sequence(h->kv);
    struct answer *first = get(h, 0, "ann"), *second = get(h, 1, "ann");
    harness_settle(h);
    expect_error(first, ERR_USER_NOT_FOUND);
    expect_error(second, ERR_USER_NOT_FOUND);
    assert_int_equal(kv_sequence(h->kv), rows);
    assert_int_equal(harness_core(h, 0)->users_by_id.len + harness_core(h, 1)->users_by_id.len, 0);
    settled(h, resolve(h, 0, "ann"));
    expect_text(settled(h, get(h, 1, "ann"))->out.data,
                "{\"user_id\":\"ann\",\"display_name\":null,\"created_at\":\"2026-01-01T");
}

static void who_asks_behind_the_maker_is_answered_when_the_user_is_there(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct answer *before = get(h, 0, "ann"), *maker = resolve(h, 0, "ann"), *behind = get(h, 0, "ann");
    harness_settle(h);
    expect_error(before, ERR_USER_NOT_FOUND);
    expect_ok(maker);
    expect_ok(behind);
}

static void the_same_id_in_another_tenant_is_another_user(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), stranger = ann;
    stranger.tenant++;
    struct answer *a = settled(h, harness_go(h, harness_op(h, 0, OP_USER_RESOLVE, &stranger, 0, 0)));
    assert_int_not_equal(a->user, ann.number);
    harness_restart(h, END_CLEAN);
    assert_int_equal(settled(h, resolve(h, 0, "ann"))->user, ann.number);
}

static void too_many_who_wait_for_one_user_are_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    h->hold_readers = true;
    struct answer *first = resolve(h, 0, "ann"), *last = first;
    for (unsigned i = 1; i < USER_WAITING_MAX; i++) last = resolve(h, 0, "ann");
    struct answer *refused = resolve(h, 0, "ann");
    expect_error(refused, ERR_SERVER_OVERLOADED);
    h->hold_readers = false;
    harness_settle(h);
    expect_ok(first);
    expect_ok(last);
}

static void a_failed_store_makes_no_user_but_finds_those_in_memory(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    kv_fake_fail(h->kv, false, true);
    struct answer *first = resolve(h, 0, "bob"), *second = resolve(h, 0, "bob");
    harness_settle(h);
    expect_error(first, ERR_STORE_UNKNOWN);
    expect_error(second, ERR_STORE_UNKNOWN);
    struct answer *third = resolve(h, 0, "cat"), *fourth = resolve(h, 0, "cat");
    harness_settle(h);
    expect_error(third, ERR_STORE_READ_ONLY);
    expect_error(fourth, ERR_STORE_READ_ONLY);
    assert_int_equal(settled(h, resolve(h, 0, "ann"))->user, ann.number);
    assert_int_equal(harness_core(h, 0)->users_by_id.len, 1);
}

/* --- rooms
 * ------------------------------------------------------------------------------------------------------------ */

static void rooms_and_cursors_are_loaded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t rooms[3], seen = 0;
    for (unsigned i = 0; i < 3; i++) {
        rooms[i] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
        harness_fill(h, &ann, rooms[i], 3);
        settled(h, harness_ack(h, 0, &bob, rooms[i], NULL, i + 1, false));
    }
    harness_restart(h, END_KILLED);
    struct answer *first = harness_rooms(h, 0, &bob, NULL), *second = harness_rooms(h, 1, &bob, NULL);
    harness_settle(h);
    assert_int_equal(first->num_positions, 3);
    assert_int_equal(second->num_positions, 3);
    for (unsigned i = 0; i < 3; i++)
        for (unsigned n = 0; n < 3; n++)
            if (first->positions[n].room == rooms[i]) seen += first->positions[n].delivered == i + 1;
    assert_int_equal(seen, 3);
}

static void a_room_left_while_the_list_loads_is_not_in_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person bob = harness_person_at(h, "bob", 0), ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 1, ROOM_GROUP, PEOPLE(&ann, &bob));
    harness_restart(h, END_CLEAN);
    settled(h, harness_ask(h, 1, OP_ROOM_GET, &ann, room)); /* the room is there, bob is not yet */
    struct answer *listed = harness_rooms(h, 0, &bob, NULL);
    harness_turn(h, 0);
    reader_step(h->gateway.readers, 0); /* finds the user … */
    harness_turn(h, 0);
    reader_step(h->gateway.readers, 0); /* … and reads its rooms: what it read is on its way back */
    struct answer *left = harness_ask(h, 1, OP_ROOM_LEAVE, &bob, room);
    harness_turn(h, 1);
    commit_writer_step(h->gateway.commit);
    commit_syncer_step(h->gateway.commit);
    harness_turn(h, 1); /* it is durable, and bob's home is told */
    expect_ok(left);
    expect_waiting(listed);
    harness_settle(h);
    expect_ok(listed);
    assert_null(position_in(listed, room));
    assert_null(position_in(settled(h, harness_rooms(h, 0, &bob, NULL)), room));
}

static void a_room_joined_while_the_list_loads_is_in_it_once(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person bob = harness_person_at(h, "bob", 0), ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 1, ROOM_GROUP, PEOPLE(&ann));
    harness_restart(h, END_CLEAN);
    settled(h, harness_ask(h, 1, OP_ROOM_GET, &ann, room));
    struct answer *listed = harness_rooms(h, 0, &bob, NULL);
    harness_turn(h, 0);
    reader_step(h->gateway.readers, 0);
    harness_turn(h, 0);
    struct answer *joined = harness_ask(h, 1, OP_ROOM_JOIN, &bob, room);
    harness_turn(h, 1);
    commit_writer_step(h->gateway.commit);
    reader_step(h->gateway.readers, 0); /* the row is there already, the notice not yet */
    harness_settle(h);
    expect_ok(joined);
    expect_ok(listed);
    const struct room_position *position = position_in(settled(h, harness_rooms(h, 0, &bob, NULL)), room);
    assert_non_null(position);
    assert_int_equal(position->joined_seq, 1);
}

/* --- cursors
 * -------------------------------------------------------------------------------------------------------------- */

static void cursors_move_upwards_only(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 9);
    expect_cursors(h, &ann, NULL, 0, 0);
    expect_ok(settled(h, harness_ack(h, 0, &ann, room, NULL, 5, false)));
    expect_cursors(h, &ann, NULL, 5, 0);
    expect_ok(settled(h, harness_ack(h, 0, &ann, room, NULL, 3, false)));
    expect_cursors(h, &ann, NULL, 5, 0);
    expect_ok(settled(h, harness_ack(h, 0, &ann, room, NULL, 7, true))); /* what was read was delivered */
    expect_cursors(h, &ann, NULL, 7, 7);
    expect_ok(settled(h, harness_ack(h, 0, &ann, room, NULL, 6, true)));
    expect_cursors(h, &ann, NULL, 7, 7);
}

static void a_device_has_its_own_cursor_and_raises_the_users(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 9);
    settled(h, harness_ack(h, 0, &ann, room, "phone", 4, false));
    settled(h, harness_ack(h, 0, &ann, room, "laptop", 2, true));
    for (unsigned restarted = 0; restarted < 2; restarted++) {
        expect_cursors(h, &ann, "phone", 4, 0);
        expect_cursors(h, &ann, "laptop", 2, 2);
        expect_cursors(h, &ann, NULL, 4, 2);
        expect_cursors(h, &ann, "never seen", 4, 2); /* begins at the user's own */
        if (!restarted) harness_restart(h, END_KILLED);
    }
}

static void an_answered_ack_is_in_the_log_of_writes(void **state)
{
    struct harness *h = *state;
    struct cursor_record stored;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    h->hold_writer = h->hold_syncer = true;
    struct answer *acked = harness_ack(h, 0, &ann, room, NULL, 5, true);
    harness_settle(h);
    expect_waiting(acked);
    h->hold_writer = false;
    harness_settle(h);
    expect_ok(acked); /* without a sync: a killed process does not take it back */
    assert_true(cursor_row(h, &ann, room, NULL, &stored));
    assert_int_equal(stored.delivered, 5);
    assert_int_equal(stored.read, 5);
    h->hold_syncer = false;
    harness_restart(h, END_KILLED);
    expect_cursors(h, &ann, NULL, 5, 5);
}

static void a_silent_ack_is_written_within_its_time(void **state)
{
    struct harness *h = *state;
    struct cursor_record stored;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    expect_ok(ack_silently(h, &ann, room, 3));
    harness_advance(h, CURSOR_FLUSH_MS / 2);
    ack_silently(h, &ann, room, 4); /* goes with the first one */
    harness_settle(h);
    assert_false(cursor_row(h, &ann, room, NULL, &stored));
    harness_advance(h, CURSOR_FLUSH_MS / 2);
    harness_settle(h);
    assert_true(cursor_row(h, &ann, room, NULL, &stored));
    assert_int_equal(stored.delivered, 4);
}

static void an_answer_covers_the_silent_ack_before_it(void **state)
{
    struct harness *h = *state;
    struct cursor_record stored;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    h->hold_writer = true;
    ack_silently(h, &ann, room, 5);
    struct answer *acked =
        harness_ack(h, 0, &ann, room, NULL, 5, false); /* moves nothing any more, and nothing is written */
    harness_settle(h);
    expect_waiting(acked);
    h->hold_writer = false;
    harness_settle(h);
    expect_ok(acked);
    assert_true(cursor_row(h, &ann, room, NULL, &stored));
    expect_ok(settled(h, harness_ack(h, 0, &ann, room, NULL, 5, false)));
}

static void losing_a_silent_ack_means_a_redelivery(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    settled(h, harness_ack(h, 0, &ann, room, NULL, 2, false));
    ack_silently(h, &ann, room, 5);
    harness_restart(h, END_KILLED);
    expect_cursors(h, &ann, NULL, 2, 0);
}

static void acks_that_come_during_a_write_are_answered_with_the_next(void **state)
{
    struct harness *h = *state;
    struct cursor_record stored;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    harness_fill(h, &ann, room, 5);
    settled(h, harness_rooms(h, 0, &ann, NULL));
    settled(h, harness_rooms(h, 0, &bob, NULL));
    h->hold_writer = true;
    struct answer *first = harness_ack(h, 0, &ann, room, NULL, 1, false);
    harness_settle(h); /* the write with it is open */
    struct answer *second = harness_ack(h, 0, &ann, room, NULL, 2, false),
                  *third = harness_ack(h, 0, &bob, room, NULL, 3, false);
    harness_settle(h);
    commit_writer_step(h->gateway.commit);
    harness_turn(h, 0);
    expect_ok(first);
    expect_waiting(second);
    expect_waiting(third);
    h->hold_writer = false;
    harness_settle(h);
    expect_ok(second);
    expect_ok(third);
    assert_true(cursor_row(h, &bob, room, NULL, &stored));
    assert_int_equal(stored.delivered, 3);
}

static void more_cursors_than_one_write_takes_are_all_written(void **state)
{
    struct harness *h = *state;
    struct cursor_record stored;
    char id[16], devices[1500][8];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    settled(h, harness_rooms(h, 0, &ann, NULL));
    struct answer *acked = NULL;
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(devices[i], sizeof devices[i], "d%u", i);
        acked = harness_ack(h, 0, &ann, room, devices[i], 1, false);
    }
    harness_settle(h);
    expect_ok(acked);
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(id, sizeof id, "d%u", i);
        assert_true(cursor_row(h, &ann, room, id, &stored));
    }
}

static void an_ack_that_meets_a_leave_is_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person_at(h, "bob", 0);
    uint64_t room = harness_room_at(h, 1, ROOM_GROUP, PEOPLE(&ann, &bob));
    harness_fill(h, &ann, room, 2);
    settled(h, harness_rooms(h, 0, &bob, NULL));
    struct op *late = harness_op(h, 0, OP_USER_CURSOR, &bob, room, 0); /* the room has let it pass … */
    late->in.cursor.seq = 2;
    settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room)); /* … and he has left */
    expect_error(settled(h, harness_go(h, late)), ERR_ROOM_NOT_MEMBER);
}

static void a_failed_store_takes_no_acks(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    kv_fake_fail(h->kv, true, true);
    expect_error(settled(h, harness_ack(h, 0, &ann, room, NULL, 1, false)), ERR_STORE_UNKNOWN);
    expect_error(settled(h, harness_ack(h, 0, &ann, room, NULL, 2, false)), ERR_STORE_READ_ONLY);
    /* nor a second time */
    expect_error(settled(h, harness_ack(h, 0, &ann, room, NULL, 2, false)), ERR_STORE_READ_ONLY);
}

static void a_user_with_too_many_device_cursors_shares_its_own(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    char device[16];
    for (unsigned i = 0; i < DEVICE_CURSORS_MAX; i++) {
        snprintf(device, sizeof device, "d%05u", i);
        harness_ack(h, 0, &ann, room, device, 1, false);
        if (i % 1000 == 0) harness_settle(h);
    }
    harness_settle(h);
    struct cursor_record row;
    assert_true(cursor_row(h, &ann, room, device, &row));
    expect_ok(settled(h, harness_ack(h, 0, &ann, room, "one more", 2, false)));
    assert_false(cursor_row(h, &ann, room, "one more", &row));
    assert_true(cursor_row(h, &ann, room, "", &row)); /* the user's own */
    assert_int_equal(row.delivered, 2);
}

static void users_beyond_the_bound_are_evicted_when_idle(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    char id[16];
    for (unsigned i = 0; i < USERS_LOADED_MAX + 1000; i++) {
        snprintf(id, sizeof id, "u%06u", i); /* in the order of keys: the fake store inserts into an array */
        resolve(h, 0, id);
        if (i % 4096 == 0) harness_settle(h);
        if (i % 65536 == 0) harness_advance(h, 2000); /* used lately is not idle */
    }
    harness_settle(h);
    assert_in_range(core->users_by_id.len, USERS_LOADED_MAX - 10, USERS_LOADED_MAX + 10);
    struct answer *a = settled(h, resolve(h, 0, "ann")); /* read again from the store, with its number */
    expect_ok(a);
    assert_int_equal(a->user, ann.number);
}

static void a_user_whose_cursor_is_being_written_is_not_evicted(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 9);
    settled(h, harness_ack(h, 0, &ann, room, NULL, 4, false));
    h->hold_writer = true;
    struct answer *acked = harness_ack(h, 0, &ann, room, NULL, 7, false);
    harness_settle(h);
    expect_waiting(acked);
    harness_advance(h, 2000);
    core->users_loaded_max = 1;
    for (unsigned i = 0; i < 4; i++) {
        char id[16];
        snprintf(id, sizeof id, "nobody%u", i); /* makes room for its look-up */
        settled(h, get(h, 0, id));
    }
    expect_cursors(h, &ann, NULL, 7, 0);
    h->hold_writer = false;
    expect_ok(settled(h, acked));
}

static struct client *asks_to_join(struct harness *h, uint64_t room, const char *user)
{
    struct client *c = client_open(h, 0);
    struct buf request = {0};
    buf_printf(&request, "POST /v1/rooms/%s/join HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: %s\r\n\r\n",
               room_name(room).text, h->api_key, user);
    client_send(c, buf_slice(&request));
    buf_free(&request);
    harness_settle(h);
    return c;
}

static void a_join_beyond_the_bound_is_looked_at_once_more(void **state)
{
    struct harness *h = *state;
    h->config.limits_rooms_per_user = 1;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), eve = harness_person(h, "eve");
    uint64_t first = harness_room(h, ROOM_GROUP, 0, PEOPLE(&bob, &ann, &eve)),
             other = harness_room(h, ROOM_GROUP, 0, PEOPLE(&bob));
    struct client *left = asks_to_join(h, other, "ann"), *stayed = asks_to_join(h, other, "eve");
    expect_ok(settled(h, harness_ask(h, 1, OP_ROOM_LEAVE, &ann, first))); /* the home hears of it behind the join */
    harness_advance(h, ROOMS_FULL_AGAIN_MS);
    assert_int_equal(client_answer(left), 200);
    assert_int_equal(client_answer(stayed), 409);
    expect_text(stayed->text.data, "\"code\":\"user.rooms_full\"");
}

/* --- sockets -------------------------------------------------------------------------------------- */

/* evict makes a home forget its users, none of whom has a socket, while the cores of their sockets know their
 * numbers. */
static void evict(struct harness *h, unsigned home)
{
    static unsigned passers;
    struct core *core = harness_core(h, home);
    harness_advance(h, 2 * PRESENCE_GRACE_MS);
    harness_settle(h);
    core->users_loaded_max = 1;
    for (unsigned looks = 0; looks < 100 && core->users_by_id.len; looks++) {
        char id[32];
        snprintf(id, sizeof id, "passer%u", passers++); /* is nobody, and makes room for its look-up */
        if (gateway_user_home(&h->gateway, h->tenant, slice_str(id)) == home) settled(h, get(h, home, id));
    }
    core->users_loaded_max = USERS_LOADED_MAX;
    assert_int_equal(core->users_by_id.len, 0);
}

/* opened_while_looked_up opens a socket that is served at once, of a user whose home must look it up first. */
static struct client *opened_while_looked_up(struct harness *h, unsigned core, const struct person *who)
{
    struct client *c = client_open(h, core);
    assert_int_equal(client_upgrade(c, who->id, ""), 101);
    return c;
}

static void ends_are_heard(struct harness *h)
{
    for (unsigned i = 0; i < 50; i++) harness_settle(h);
}

static uint32_t counted(struct harness *h, const struct person *who, unsigned core)
{
    return user_num_sockets(harness_core(h, who->home), h->tenant, slice_str(who->id), core);
}

static void a_socket_that_is_refused_takes_no_others_count(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    for (unsigned core = 0; core < 2; core++) {
        struct person ann = harness_person_at(h, "ann", 0);
        client_close(opened_while_looked_up(h, core, &ann));
        ends_are_heard(h);
        evict(h, 0);
        harness_core(h, 0)->user_waiting_max = 1;
        h->hold_readers = true;
        struct client *served = opened_while_looked_up(h, core, &ann), *refused[3];
        for (unsigned i = 0; i < 3; i++) {
            refused[i] = opened_while_looked_up(h, core, &ann);
            assert_int_equal(client_hear_close(refused[i]), 4100);
            client_close(refused[i]);
        }
        ends_are_heard(h);
        assert_int_equal(counted(h, &ann, core), 1);
        h->hold_readers = false;
        harness_core(h, 0)->user_waiting_max = USER_WAITING_MAX;
        client_hears_nothing(served);
        harness_advance(h, 2 * PRESENCE_GRACE_MS);
        harness_settle(h);
        assert_int_equal(harness_core(h, 0)->num_online, 1);
        assert_int_equal(counted(h, &ann, core), 1);
        client_close(served);
        ends_are_heard(h);
        harness_advance(h, 2 * PRESENCE_GRACE_MS);
        harness_settle(h);
        assert_int_equal(harness_core(h, 0)->num_online, 0);
        assert_int_equal(harness_core(h, 0)->num_user_sockets, 0);
    }
}

static void a_socket_that_closes_during_the_look_up_is_not_online_for_ever(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    for (unsigned core = 0; core < 2; core++) {
        struct person ann = harness_person_at(h, "ann", 0);
        client_close(opened_while_looked_up(h, core, &ann));
        ends_are_heard(h);
        evict(h, 0);
        h->hold_readers = true;
        struct client *gone = opened_while_looked_up(h, core, &ann);
        ends_are_heard(h);
        assert_int_equal(counted(h, &ann, core), 1);
        client_close(gone);
        ends_are_heard(h);
        assert_int_equal(counted(h, &ann, core), 0);
        h->hold_readers = false;
        harness_settle(h);
        harness_advance(h, 2 * PRESENCE_GRACE_MS);
        harness_settle(h);
        assert_int_equal(harness_core(h, 0)->num_user_sockets, 0);
        assert_int_equal(harness_core(h, 0)->num_online, 0);
    }
}

/* name_put writes the row by which a user is found, behind the gateway's back; 0 damages it. */
static void name_put(struct harness *h, const struct person *who, uint64_t number)
{
    struct key key;
    struct buf value = {0};
    key_name(&key, h->tenant, NAME_USER, slice_str(who->id));
    if (number) number_record_encode(&value, number);
    else BUF_LIT(&value, "damaged");
    kv_row_put(h->kv, KV_NAMES, &key, buf_slice(&value));
    buf_free(&value);
}

static void a_user_that_cannot_be_read_keeps_its_sockets_counted_until_they_end(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    for (unsigned core = 0; core < 2; core++) {
        struct person ann = harness_person_at(h, "ann", 0);
        client_close(opened_while_looked_up(h, core, &ann));
        ends_are_heard(h);
        evict(h, 0);
        name_put(h, &ann, 0);
        struct client *refused = opened_while_looked_up(h, core, &ann);
        assert_int_equal(client_hear_close(refused), 4100);
        assert_int_equal(counted(h, &ann, core), 1); /* its client has not answered the close yet */
        name_put(h, &ann, ann.number);
        struct client *served = opened_while_looked_up(h, core, &ann);
        client_hears_nothing(served);
        assert_int_equal(counted(h, &ann, core), 2);
        client_close(refused);
        ends_are_heard(h);
        assert_int_equal(counted(h, &ann, core), 1);
        assert_int_equal(harness_core(h, 0)->num_online, 1);
        client_close(served);
        ends_are_heard(h);
        evict(h, 0);
        name_put(h, &ann, 0);
        refused = opened_while_looked_up(h, core, &ann);
        assert_int_equal(client_hear_close(refused), 4100);
        client_close(refused);
        ends_are_heard(h);
        assert_int_equal(harness_core(h, 0)->users_by_id.len, 0);
        assert_int_equal(harness_core(h, 0)->num_user_sockets, 0);
        name_put(h, &ann, ann.number);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whoever_asks_at_once_makes_one_user),
        TEST(a_user_keeps_its_number_through_every_end),
        TEST(asking_for_a_user_makes_none),
        TEST(who_asks_behind_the_maker_is_answered_when_the_user_is_there),
        TEST(the_same_id_in_another_tenant_is_another_user),
        TEST(too_many_who_wait_for_one_user_are_refused),
        TEST(a_failed_store_makes_no_user_but_finds_those_in_memory),
        TEST(rooms_and_cursors_are_loaded),
        TEST(a_room_left_while_the_list_loads_is_not_in_it),
        TEST(a_room_joined_while_the_list_loads_is_in_it_once),
        TEST(cursors_move_upwards_only),
        TEST(a_device_has_its_own_cursor_and_raises_the_users),
        TEST(an_answered_ack_is_in_the_log_of_writes),
        TEST(a_silent_ack_is_written_within_its_time),
        TEST(an_answer_covers_the_silent_ack_before_it),
        TEST(losing_a_silent_ack_means_a_redelivery),
        TEST(acks_that_come_during_a_write_are_answered_with_the_next),
        TEST(more_cursors_than_one_write_takes_are_all_written),
        TEST(an_ack_that_meets_a_leave_is_refused),
        TEST(a_failed_store_takes_no_acks),
        TEST(a_user_with_too_many_device_cursors_shares_its_own),
        TEST(users_beyond_the_bound_are_evicted_when_idle),
        TEST(a_user_whose_cursor_is_being_written_is_not_evicted),
        TEST(a_join_beyond_the_bound_is_looked_at_once_more),
        TEST(a_socket_that_is_refused_takes_no_others_count),
        TEST(a_socket_that_closes_during_the_look_up_is_not_online_for_ever),
        TEST(a_user_that_cannot_be_read_keeps_its_sockets_counted_until_they_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
