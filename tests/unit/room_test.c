#include "harness.h"
#include "kv_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A room at its home: loading, the order of what waits, positions and epochs, what is shown of it. */

/* room_row reads the stored record; its slices live as long as `bytes`. */
static struct room_record room_row(struct harness *h, uint64_t room, struct buf *bytes)
{
    struct key key;
    struct room_record record;
    key_room(&key, h->tenant, room);
    assert_int_equal(kv_get(h->kv, KV_ROOMS, key_slice(&key), bytes), STATUS_OK);
    assert_int_equal(room_record_decode(&record, buf_slice(bytes)), STATUS_OK);
    return record;
}

static void room_row_put(struct harness *h, const struct room_record *record)
{
    struct key key;
    struct buf value = {0};
    key_room(&key, h->tenant, record->room);
    room_record_encode(&value, record);
    kv_row_put(h->kv, KV_ROOMS, &key, buf_slice(&value));
    buf_free(&value);
}

/* --- loading ------------------------------------------------------------------------------------- */

static void commands_wait_in_order_while_the_room_loads_once(void **state)
{
    struct harness *h = *state;
    char text[8];
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    harness_restart(h, END_CLEAN);
    h->hold_readers = true;
    struct answer *sent[10];
    for (unsigned i = 0; i < 10; i++) {
        snprintf(text, sizeof text, "%u", i);
        sent[i] = harness_send(h, 0, &ann, room, text);
    }
    struct answer *shown = harness_ask(h, 0, OP_ROOM_GET, &ann, room);
    harness_settle(h);
    struct room *r = room_find(harness_core(h, 0), h->tenant, room);
    assert_int_equal(r->state, ROOM_LOADING);
    assert_int_equal(r->waiting.len, 11);
    assert_int_equal(harness_core(h, 0)->rooms.len, 1);
    for (unsigned i = 0; i < 10; i++) expect_waiting(sent[i]);
    h->hold_readers = false;
    harness_settle(h);
    for (unsigned i = 0; i < 10; i++) assert_int_equal(sent[i]->seq, 4 + i);
    expect_ok(shown);
    assert_ptr_equal(room_find(harness_core(h, 0), h->tenant, room), r);
}

static void too_many_commands_for_a_loading_room_are_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_restart(h, END_CLEAN);
    h->hold_readers = true;
    struct answer *sent[ROOM_WAITING_MAX + 1];
    for (unsigned i = 0; i <= ROOM_WAITING_MAX; i++) sent[i] = harness_send(h, 0, &ann, room, "x");
    expect_error(sent[ROOM_WAITING_MAX], ERR_SERVER_OVERLOADED);
    h->hold_readers = false;
    harness_settle(h);
    for (unsigned i = 0; i < ROOM_WAITING_MAX; i++) assert_int_equal(sent[i]->seq, i + 1);
}

static void whoever_waits_for_a_room_that_is_not_there_is_told(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    struct answer *asked[6];
    for (unsigned i = 0; i < 6; i++) asked[i] = harness_ask(h, i % 2, i % 3 ? OP_ROOM_GET : OP_ROOM_JOIN, &ann, 4711);
    harness_settle(h);
    for (unsigned i = 0; i < 6; i++) expect_error(asked[i], ERR_ROOM_NOT_FOUND);
    assert_int_equal(harness_core(h, 0)->rooms.len + harness_core(h, 1)->rooms.len, 0);
}

static void a_deleted_room_is_not_there(void **state)
{
    struct harness *h = *state;
    struct buf bytes = {0};
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct room_record record = room_row(h, room, &bytes);
    record.flags |= ROOM_DELETED;
    room_row_put(h, &record);
    buf_free(&bytes);
    harness_restart(h, END_CLEAN);
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, room)), ERR_ROOM_NOT_FOUND);
}

static void a_room_row_under_a_foreign_key_is_not_served(void **state)
{
    struct harness *h = *state;
    struct buf bytes = {0};
    struct key key;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), other = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    room_row(h, other, &bytes);
    key_room(&key, h->tenant, room);
    kv_row_put(h->kv, KV_ROOMS, &key, buf_slice(&bytes));
    buf_free(&bytes);
    harness_restart(h, END_CLEAN);
    expect_error(settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, room)), ERR_STORE_READ_FAILED);
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_GET, &ann, other)));
}

/* --- what is shown ------------------------------------------------------------------------------- */

static void the_object_shows_the_callers_role_and_the_durable_head(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&ann, &bob));
    harness_fill(h, &ann, room, 2);
    const char *shown = settled(h, harness_ask(h, 0, OP_ROOM_GET, &bob, room))->out.data;
    expect_text(shown, room_name(room).text);
    expect_text(shown, "\"type\":\"group\",\"unique_key\":null,\"name\":null");
    expect_text(shown, "\"is_private\":true,\"max_participants\":null,\"settings\":{}");
    expect_text(shown, "\"member_count\":2,\"last_seq\":2,\"epoch\":1");
    expect_text(shown, "\"role\":\"member\"}");
}

static void who_is_no_member_is_shown_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), eve = harness_person(h, "eve");
    static const enum op_kind kinds[] = {OP_ROOM_GET, OP_ROOM_MEMBERS, OP_ROOM_HISTORY, OP_ROOM_POSITION, OP_ROOM_ACK};
    uint64_t public = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)),
             private = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&ann));
    for (unsigned i = 0; i < 5; i++) {
        struct answer *a = settled(h, harness_ask(h, 0, kinds[i], &eve, public));
        struct answer *b = settled(h, harness_ask(h, 0, kinds[i], &eve, private));
        expect_error(a, ERR_ROOM_NOT_MEMBER);
        expect_error(b, ERR_ROOM_NOT_FOUND);
        assert_string_equal(a->out.data, "");
        assert_string_equal(b->out.data, "");
    }
}

/* --- positions ----------------------------------------------------------------------------------- */

static void expect_position(struct harness *h, const struct person *who, uint64_t room, enum position_mode mode,
                            uint64_t epoch, uint64_t seq, bool recovered, uint64_t from)
{
    struct answer *a = settled(h, harness_position(h, 0, who, room, mode, epoch, seq));
    expect_ok(a);
    if (a->position.recovered != recovered || a->position.from != from)
        fail_msg("[%llu, %llu]: recovered %d from %llu, expected %d from %llu", (unsigned long long)epoch,
                 (unsigned long long)seq, a->position.recovered, (unsigned long long)a->position.from, recovered,
                 (unsigned long long)from);
}

static void a_live_position_is_behind_the_durable_head(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    struct answer *live = settled(h, harness_position(h, 0, &ann, room, POSITION_LIVE, 0, 0));
    assert_int_equal(live->position.head, 5);
    assert_int_equal(live->position.from, 6);
    assert_true(live->position.recovered);
    assert_int_equal(live->position.epoch, h->gateway.epoch);
    expect_position(h, &ann, room, POSITION_AFTER, 0, 3, true, 4);
    expect_position(h, &ann, room, POSITION_AFTER, 0, 5, true, 6);
    expect_position(h, &ann, room, POSITION_AFTER, 0, 99, true, 6); /* after what is not there yet: from now on */
}

static void a_resume_within_its_epoch_recovers(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    uint64_t epoch = h->gateway.epoch;
    expect_position(h, &ann, room, POSITION_RESUME, epoch, 0, true, 1);
    expect_position(h, &ann, room, POSITION_RESUME, epoch, 5, true, 6);
    expect_position(h, &ann, room, POSITION_RESUME, epoch, 6, false, 6);     /* beyond the head */
    expect_position(h, &ann, room, POSITION_RESUME, epoch + 1, 3, false, 1); /* no epoch of this store */
    expect_position(h, &ann, room, POSITION_RESUME, 0, 3, false, 1);
}

static void a_resume_from_an_older_epoch_holds_up_to_the_next_ones_first_event(void **state)
{
    struct harness *h = *state;
    struct buf bytes = {0};
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    harness_restart(h, END_KILLED);
    assert_int_equal(h->gateway.epoch, 2);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 5, true, 6); /* nothing of the new epoch yet */
    harness_fill(h, &ann, room, 7);
    harness_restart(h, END_CLEAN);
    assert_int_equal(h->gateway.epoch, 2); /* only an unclean end raises it */
    harness_restart(h, END_POWER_LOST);
    harness_fill(h, &ann, room, 8);

    struct room_record record = room_row(h, room, &bytes);
    assert_int_equal(record.num_epochs, 3);
    assert_int_equal(record.epochs[1].epoch, 2);
    assert_int_equal(record.epochs[1].first_seq, 6);
    assert_int_equal(record.epochs[2].epoch, 3);
    assert_int_equal(record.epochs[2].first_seq, 8);
    buf_free(&bytes);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 5, true, 6);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 6, false, 6); /* epoch 1 never reached it durably */
    expect_position(h, &ann, room, POSITION_RESUME, 2, 7, true, 8);
    expect_position(h, &ann, room, POSITION_RESUME, 2, 8, false, 8);
    expect_position(h, &ann, room, POSITION_RESUME, 3, 8, true, 9);
    harness_restart(h, END_CLEAN);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 6, false, 6);
}

static void a_position_of_an_epoch_that_is_no_longer_kept_is_not_trusted(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    for (uint64_t epoch = 2; epoch <= ROOM_EPOCHS_MAX + 2; epoch++) {
        harness_restart(h, END_KILLED);
        harness_fill(h, &ann, room, epoch); /* each epoch appends one event: epoch e begins at seq e */
    }
    /* epochs 1 and 2 are forgotten: that epoch 1 never reached seq 2 cannot be told any more */
    expect_position(h, &ann, room, POSITION_RESUME, 1, 2, false, 1);
    expect_position(h, &ann, room, POSITION_RESUME, 3, 3, true, 4);
    expect_position(h, &ann, room, POSITION_RESUME, 3, 4, false, 4);
}

static void a_seq_that_power_took_back_is_never_mistaken_for_its_successor(void **state)
{
    struct harness *h = *state;
    h->config.durability = CONFIG_DURABILITY_FAST;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    harness_advance(h, FAST_SYNC_DELAY_MS);
    harness_settle(h); /* these two are on disk */
    h->hold_syncer = true;
    struct answer *lost = harness_send(h, 0, &ann, room, "answered, and lost"); /* a fast room may */
    harness_settle(h);
    expect_ok(lost);
    assert_int_equal(lost->seq, 3);
    harness_restart(h, END_POWER_LOST);
    struct answer *other = settled(h, harness_send(h, 0, &ann, room, "another"));
    assert_int_equal(other->seq, 3);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 3, false, 3);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 2, true, 3);
    expect_position(h, &ann, room, POSITION_RESUME, 2, 3, true, 4);
}

static void old_epochs_are_dropped_when_a_room_has_seen_too_many(void **state)
{
    struct harness *h = *state;
    struct buf bytes = {0};
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    for (unsigned i = 1; i <= ROOM_EPOCHS_MAX + 2; i++) {
        harness_fill(h, &ann, room, i);
        harness_restart(h, END_KILLED);
    }
    struct room_record record = room_row(h, room, &bytes);
    assert_int_equal(record.num_epochs, ROOM_EPOCHS_MAX);
    assert_int_equal(record.epochs[0].epoch, 3);
    assert_int_equal(record.epochs[ROOM_EPOCHS_MAX - 1].epoch, ROOM_EPOCHS_MAX + 2);
    buf_free(&bytes);
    expect_position(h, &ann, room, POSITION_RESUME, ROOM_EPOCHS_MAX, ROOM_EPOCHS_MAX, true, ROOM_EPOCHS_MAX + 1);
    expect_position(h, &ann, room, POSITION_RESUME, ROOM_EPOCHS_MAX, ROOM_EPOCHS_MAX + 1, false, ROOM_EPOCHS_MAX + 1);
}

static void a_gap_that_retention_removed_is_said(void **state)
{
    struct harness *h = *state;
    struct buf bytes = {0};
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 8);
    struct room_record record = room_row(h, room, &bytes);
    record.retained_from = 5;
    room_row_put(h, &record);
    buf_free(&bytes);
    harness_restart(h, END_CLEAN);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 4, true, 5);
    expect_position(h, &ann, room, POSITION_RESUME, 1, 3, false, 5);
    expect_position(h, &ann, room, POSITION_AFTER, 0, 3, false, 5);
    expect_position(h, &ann, room, POSITION_AFTER, 0, 4, true, 5);
    assert_int_equal(count_in(settled(h, harness_events(h, 0, &ann, room, 0))->out.data, "\"type\":"), 4);
}

static void since_join_rooms_show_nothing_from_before_the_join(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, ROOM_HISTORY_SINCE_JOIN, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room)); /* 4 */
    harness_fill(h, &ann, room, 6);
    expect_position(h, &bob, room, POSITION_AFTER, 0, 0, false, 4);
    expect_position(h, &bob, room, POSITION_RESUME, 1, 1, false, 4);
    expect_position(h, &bob, room, POSITION_RESUME, 1, 3, true, 4);
    expect_position(h, &ann, room, POSITION_AFTER, 0, 0, true, 1);
    struct answer *events = settled(h, harness_events(h, 0, &bob, room, 0));
    assert_int_equal(number_in(events->out.data, "seq"), 4);
    assert_int_equal(count_in(events->out.data, "\"type\":"), 3);
}

/* --- acks
 * ---------------------------------------------------------------------------------------------------------------- */

static void an_ack_beyond_the_durable_head_is_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    h->hold_syncer = true;
    struct answer *sent = harness_send(h, 0, &ann, room, "4");
    struct answer *early = settled(h, harness_ack(h, 1, &ann, room, NULL, 4, false));
    expect_error(early, ERR_ACK_BEYOND_HEAD);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(sent);
    expect_ok(settled(h, harness_ack(h, 1, &ann, room, NULL, 4, false)));
}

static void rooms_beyond_the_bound_are_evicted_when_idle(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct person ann = harness_person(h, "ann");
    const struct person *const people[] = {&ann};
    uint64_t first = harness_room(h, ROOM_GROUP, 0, people, 1);
    harness_fill(h, &ann, first, 1);
    for (unsigned i = 0; i < ROOMS_LOADED_MAX + 1000; i++) {
        harness_create(h, 0, ROOM_GROUP, 0, people, 1, NULL, 0);
        if (i % 1024 == 0) harness_settle(h);
        if (i % 32768 == 0) harness_advance(h, 2000); /* used lately is not idle */
    }
    harness_settle(h);
    assert_in_range(core->rooms.len, ROOMS_LOADED_MAX - 10, ROOMS_LOADED_MAX + 10);
    struct answer *a = settled(h, harness_send(h, 0, &ann, first, "2")); /* loaded again, with its log */
    expect_ok(a);
    assert_int_equal(a->seq, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commands_wait_in_order_while_the_room_loads_once),
        TEST(too_many_commands_for_a_loading_room_are_refused),
        TEST(whoever_waits_for_a_room_that_is_not_there_is_told),
        TEST(a_deleted_room_is_not_there),
        TEST(a_room_row_under_a_foreign_key_is_not_served),
        TEST(the_object_shows_the_callers_role_and_the_durable_head),
        TEST(who_is_no_member_is_shown_nothing),
        TEST(a_live_position_is_behind_the_durable_head),
        TEST(a_resume_within_its_epoch_recovers),
        TEST(a_resume_from_an_older_epoch_holds_up_to_the_next_ones_first_event),
        TEST(a_position_of_an_epoch_that_is_no_longer_kept_is_not_trusted),
        TEST(a_seq_that_power_took_back_is_never_mistaken_for_its_successor),
        TEST(old_epochs_are_dropped_when_a_room_has_seen_too_many),
        TEST(a_gap_that_retention_removed_is_said),
        TEST(since_join_rooms_show_nothing_from_before_the_join),
        TEST(an_ack_beyond_the_durable_head_is_refused),
        TEST(rooms_beyond_the_bound_are_evicted_when_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
