#include "harness.h"

#include <stdio.h>
#include <string.h>

/* What becomes an event of a room's log: its number, when it may be seen, what a repeated client id is answered, and
 * what is refused. The joins, leaves and roles of the same module: room_members_test.c. */

/* window_forget makes a core forget the keys it keeps in memory, as if many more had come since. Nothing is pending. */
static void window_forget(struct harness *h, unsigned core)
{
    struct core *c = harness_core(h, core);
    assert_int_equal(commit_pending(c->commit), 0);
    idempotency_free(&c->idempotency);
    idempotency_init(&c->idempotency, &h->gateway.hash_key);
}

/* events_in counts what a member is shown of a room. */
static unsigned events_in(struct harness *h, const struct person *who, uint64_t room)
{
    struct answer *a = harness_events(h, 0, who, room, 0);
    harness_settle(h);
    expect_ok(a);
    return count_in(a->out.data, "\"type\":");
}

/* --- order and durability ------------------------------------------------------------------------ */

static void seqs_are_gapless_and_in_arrival_order(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    struct answer *sent[20];
    for (unsigned i = 0; i < 20; i++) sent[i] = harness_send(h, 0, &ann, room, "ding");
    harness_settle(h);
    for (unsigned i = 0; i < 20; i++) {
        expect_ok(sent[i]);
        assert_int_equal(sent[i]->http_status, 201);
        assert_int_equal(sent[i]->seq, i + 1);
        if (i) assert_true(sent[i]->order > sent[i - 1]->order);
    }
}

static void senders_on_all_cores_share_one_order(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 1, ROOM_GROUP, PEOPLE(&ann));
    struct answer *sent[30];
    bool seen[31] = {false};
    for (unsigned i = 0; i < 30; i++) sent[i] = harness_send(h, i % 3, &ann, room, "ding");
    harness_settle(h);
    for (unsigned i = 0; i < 30; i++) {
        expect_ok(sent[i]);
        assert_int_equal(sent[i]->core, i % 3);
        assert_in_range(sent[i]->seq, 1, 30);
        assert_false(seen[sent[i]->seq]);
        seen[sent[i]->seq] = true;
    }
}

static void nothing_is_answered_or_readable_before_the_sync(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    h->hold_syncer = true;
    struct answer *sent = harness_send(h, 0, &ann, room, "ding");
    harness_settle(h);
    assert_true(kv_fake_unsynced(h->kv) > 0); /* it is written */
    expect_waiting(sent);
    assert_int_equal(events_in(h, &ann, room), 1);
    struct answer *shown = harness_ask(h, 0, OP_ROOM_GET, &ann, room);
    struct answer *position = harness_position(h, 0, &ann, room, POSITION_LIVE, 0, 0);
    harness_settle(h);
    assert_int_equal(number_in(shown->out.data, "last_seq"), 1);
    assert_int_equal(position->position.head, 1);

    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(sent);
    assert_int_equal(sent->seq, 2);
    assert_int_equal(events_in(h, &ann, room), 2);
}

static void fast_rooms_are_answered_after_the_write(void **state)
{
    struct harness *h = *state;
    h->config.durability = CONFIG_DURABILITY_FAST;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = h->hold_writer = true;
    struct answer *sent = harness_send(h, 0, &ann, room, "ding");
    harness_settle(h);
    expect_waiting(sent);
    h->hold_writer = false;
    harness_settle(h);
    expect_ok(sent);
    assert_int_equal(events_in(h, &ann, room), 1);
}

static void a_fast_event_waits_behind_one_that_waits_for_its_sync(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *first = harness_send(h, 0, &ann, room, "synced");
    h->config.durability = CONFIG_DURABILITY_FAST;
    struct answer *second = harness_send(h, 0, &ann, room, "fast");
    harness_settle(h);
    expect_waiting(first);
    expect_waiting(second);
    h->hold_syncer = false;
    harness_settle(h);
    assert_int_equal(first->seq, 1);
    assert_int_equal(second->seq, 2);
    assert_true(first->order < second->order);
}

static void the_tenants_durability_overrules_the_servers(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    directory_tenant(&harness_core(h, 0)->directory, h->tenant)->durability = 2;
    h->hold_syncer = true;
    struct answer *sent = harness_send(h, 0, &ann, room, "ding");
    harness_settle(h);
    expect_ok(sent);
}

static void time_never_goes_backwards_with_seq(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = harness_send(h, 0, &ann, room, "ding");
    harness_settle(h);
    h->wall_ms -= 3600 * 1000;
    struct answer *second = harness_send(h, 0, &ann, room, "dong");
    harness_settle(h);
    assert_int_equal(second->created_ms, first->created_ms);
    harness_restart(h, END_CLEAN);
    struct answer *third = harness_send(h, 0, &ann, room, "deng");
    harness_settle(h);
    assert_int_equal(third->created_ms, first->created_ms);
}

/* --- the same client id -------------------------------------------------------------------------- */

static void a_repeat_waits_for_the_first_and_both_get_its_seq(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "a");
    struct answer *again = harness_send_once(h, 0, &ann, room, "ding", "a");
    struct answer *elsewhere = harness_send_once(h, 1, &ann, room, "ding", "a");
    harness_settle(h);
    expect_waiting(first);
    expect_waiting(again);
    expect_waiting(elsewhere);
    h->hold_syncer = false;
    harness_settle(h);
    assert_int_equal(first->seq, 1);
    expect_ok(again);
    expect_ok(elsewhere);
    assert_int_equal(again->seq, 1);
    assert_int_equal(elsewhere->seq, 1);
    assert_int_equal(again->created_ms, first->created_ms);
    assert_int_equal(events_in(h, &ann, room), 1);
}

static void a_repeat_of_a_durable_send_gets_the_first_answer(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    harness_advance(h, 5000);
    struct answer *again = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    expect_ok(again);
    assert_int_equal(again->http_status, 201);
    assert_int_equal(again->seq, first->seq);
    assert_int_equal(again->created_ms, first->created_ms);
    assert_int_equal(events_in(h, &ann, room), 1);
    assert_int_equal(harness_core(h, 0)->idempotency.hits, 1);
}

static void the_same_client_id_with_another_body_is_a_mismatch(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "a");
    struct answer *pending = harness_send_once(h, 0, &ann, room, "dong", "a");
    harness_settle(h);
    expect_error(pending, ERR_IDEMPOTENCY_MISMATCH);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(first);
    struct answer *durable = harness_send_once(h, 0, &ann, room, "dong", "a");
    harness_settle(h);
    expect_error(durable, ERR_IDEMPOTENCY_MISMATCH);
    window_forget(h, 0);
    struct answer *looked_up = harness_send_once(h, 0, &ann, room, "dong", "a");
    harness_settle(h);
    expect_error(looked_up, ERR_IDEMPOTENCY_MISMATCH);
    assert_int_equal(events_in(h, &ann, room), 1);
}

static void client_ids_count_for_one_sender_in_one_room(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    uint64_t other = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob));
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "a");
    struct answer *of_bob = harness_send_once(h, 0, &bob, room, "ding", "a");
    struct answer *in_other = harness_send_once(h, 0, &ann, other, "dong", "a");
    harness_settle(h);
    assert_int_equal(first->seq, 1);
    assert_int_equal(of_bob->seq, 2);
    expect_ok(in_other);
    assert_int_equal(in_other->seq, 1);
}

static void a_repeat_behind_the_window_is_looked_up_and_others_keep_their_place(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    window_forget(h, 0);
    h->hold_readers = true;
    struct answer *again = harness_send_once(h, 0, &ann, room, "ding", "a");
    assert_int_equal(room_find(harness_core(h, 0), h->tenant, room)->state, ROOM_BLOCKED);
    struct answer *behind = harness_send(h, 0, &ann, room, "behind");
    struct answer *last = harness_send(h, 0, &ann, room, "last");
    harness_settle(h);
    expect_waiting(again);
    expect_waiting(behind);
    h->hold_readers = false;
    harness_settle(h);
    expect_ok(again);
    assert_int_equal(again->seq, first->seq);
    assert_int_equal(behind->seq, 2);
    assert_int_equal(last->seq, 3);
}

static void a_client_id_never_seen_needs_no_look_up(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    uint64_t lookups = harness_core(h, 0)->idempotency.lookups;
    h->hold_readers = true;
    struct answer *sent = harness_send_once(h, 0, &ann, room, "ding", "never seen");
    harness_settle(h);
    expect_ok(sent);
    assert_int_equal(harness_core(h, 0)->idempotency.lookups, lookups);
}

static void a_repeat_after_a_restart_gets_the_first_answer(void **state)
{
    static const enum harness_end ends[] = {END_CLEAN, END_KILLED, END_POWER_LOST};
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    for (unsigned i = 0; i < 3; i++) {
        harness_restart(h, ends[i]);
        struct answer *again = harness_send_once(h, 0, &ann, room, "ding", "a");
        struct answer *other = harness_send_once(h, 0, &ann, room, "dong", "a");
        harness_settle(h);
        expect_ok(again);
        assert_int_equal(again->seq, 1);
        assert_int_equal(again->created_ms, first->created_ms);
        expect_error(other, ERR_IDEMPOTENCY_MISMATCH);
    }
}

static void a_send_that_the_power_took_is_appended_by_its_repeat(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    h->hold_syncer = true;
    struct answer *lost = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    harness_restart(h, END_POWER_LOST);
    expect_error(lost, ERR_STORE_UNKNOWN);
    struct answer *again = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    expect_ok(again);
    assert_int_equal(again->seq, 2);
    assert_int_equal(events_in(h, &ann, room), 2);
}

static void old_keys_move_into_a_run_and_are_found_there(void **state)
{
    struct harness *h = *state;
    char id[16];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    for (unsigned i = 1; i <= IDEMPOTENCY_RUN + 10; i++) {
        snprintf(id, sizeof id, "id %u", i);
        harness_send_once(h, 0, &ann, room, "ding", id);
    }
    harness_settle(h);
    struct key key;
    struct buf row = {0};
    key_idempotency_run(&key, h->tenant, room, 1);
    assert_int_equal(kv_get(h->kv, KV_IDEMPOTENCY, key_slice(&key), &row), STATUS_OK);
    buf_free(&row);
    harness_restart(h, END_KILLED);
    struct answer *in_run = harness_send_once(h, 0, &ann, room, "ding", "id 7");
    struct answer *behind_it = harness_send_once(h, 0, &ann, room, "ding", id);
    struct answer *fresh = harness_send_once(h, 0, &ann, room, "ding", "another");
    harness_settle(h);
    assert_int_equal(in_run->seq, 7);
    assert_int_equal(behind_it->seq, IDEMPOTENCY_RUN + 10);
    assert_int_equal(fresh->seq, IDEMPOTENCY_RUN + 11);
}

static void a_repeat_is_answered_after_its_sender_has_left(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&ann, &bob));
    struct answer *first = settled(h, harness_send_once(h, 0, &bob, room, "ding", "a"));
    expect_ok(settled(h, harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room)));
    for (unsigned i = 0; i < 2; i++) { /* in the window, then behind it */
        struct answer *again = settled(h, harness_send_once(h, 0, &bob, room, "ding", "a"));
        expect_ok(again);
        assert_int_equal(again->seq, first->seq);
        expect_error(settled(h, harness_send_once(h, 0, &bob, room, "dong", "a")), ERR_IDEMPOTENCY_MISMATCH);
        expect_error(settled(h, harness_send_once(h, 0, &bob, room, "ding", "b")), ERR_ROOM_NOT_FOUND);
        window_forget(h, 0);
    }
}

static void a_repeat_is_answered_at_the_disks_reserve(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = settled(h, harness_send_once(h, 0, &ann, room, "ding", "a"));
    atomic_store(&h->gateway.disk, DISK_RESERVE);
    for (unsigned i = 0; i < 2; i++) {
        struct answer *again = settled(h, harness_send_once(h, 0, &ann, room, "ding", "a"));
        expect_ok(again);
        assert_int_equal(again->seq, first->seq);
        expect_error(settled(h, harness_send_once(h, 0, &ann, room, "ding", "b")), ERR_STORE_DISK_FULL);
        window_forget(h, 0);
    }
}

static void a_failed_store_repeats_what_it_had_acknowledged(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct answer *first = settled(h, harness_send_once(h, 0, &ann, room, "ding", "a"));
    kv_fake_fail(h->kv, false, true);
    expect_error(settled(h, harness_send_once(h, 0, &ann, room, "dong", "b")), ERR_STORE_UNKNOWN);
    struct answer *again = settled(h, harness_send_once(h, 0, &ann, room, "ding", "a"));
    expect_ok(again);
    assert_int_equal(again->seq, first->seq);
    expect_error(settled(h, harness_send_once(h, 0, &ann, room, "dong", "b")), ERR_STORE_READ_ONLY);
}

static void a_repeat_names_the_class_of_the_first_answer(void **state)
{
    struct harness *h = *state;
    h->config.durability = CONFIG_DURABILITY_FAST;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_writer = true;
    struct answer *first = harness_send_once(h, 0, &ann, room, "ding", "fast");
    struct answer *meanwhile = harness_send_once(h, 0, &ann, room, "ding", "fast");
    h->hold_writer = false;
    harness_settle(h);
    assert_true(first->fast);
    assert_true(meanwhile->fast);
    h->config.durability = CONFIG_DURABILITY_FSYNC;
    assert_false(settled(h, harness_send_once(h, 0, &ann, room, "ding", "synced"))->fast);
    for (unsigned i = 0; i < 3; i++) { /* in the window, behind it, after a restart */
        assert_true(settled(h, harness_send_once(h, 0, &ann, room, "ding", "fast"))->fast);
        assert_false(settled(h, harness_send_once(h, 0, &ann, room, "ding", "synced"))->fast);
        if (i == 0) window_forget(h, 0);
        else harness_restart(h, END_CLEAN);
    }
}

/* --- who may send
 * ----------------------------------------------------------------------------------------------------- */

static void only_members_send(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), eve = harness_person(h, "eve");
    struct answer *public = harness_send(h, 0, &eve, harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), "hi");
    struct answer *private = harness_send(h, 0, &eve, harness_room(h, ROOM_GROUP, ROOM_PRIVATE, PEOPLE(&ann)), "hi");
    struct answer *direct = harness_send(h, 0, &eve, harness_room(h, ROOM_DM, 0, PEOPLE(&ann, &bob)), "hi");
    struct answer *nowhere = harness_send(h, 0, &eve, 4711, "hi");
    harness_settle(h);
    expect_error(public, ERR_ROOM_NOT_MEMBER);
    expect_error(private, ERR_ROOM_NOT_FOUND);
    expect_error(direct, ERR_ROOM_NOT_FOUND);
    expect_error(nowhere, ERR_ROOM_NOT_FOUND);
}

static void another_tenants_room_does_not_exist(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct person stranger = ann; /* even with the same numbers */
    stranger.tenant = h->tenant + 1;
    struct answer *sent = harness_send(h, 0, &stranger, room, "hi");
    struct answer *read = harness_events(h, 0, &stranger, room, 0);
    struct answer *joined = harness_ask(h, 0, OP_ROOM_JOIN, &stranger, room);
    harness_settle(h);
    expect_error(sent, ERR_ROOM_NOT_FOUND);
    expect_error(read, ERR_ROOM_NOT_FOUND);
    expect_error(joined, ERR_ROOM_NOT_FOUND);
}

static void only_admins_write_in_a_channel(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_CHANNEL, 0, PEOPLE(&ann, &bob));
    struct answer *of_admin = harness_send(h, 0, &ann, room, "hear");
    struct answer *of_member = harness_send(h, 0, &bob, room, "but");
    harness_settle(h);
    expect_ok(of_admin);
    expect_error(of_member, ERR_ROOM_READ_ONLY);
}

static void a_reply_names_an_event_that_exists(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    struct answer *replies[2];
    for (unsigned i = 0; i < 2; i++) {
        struct op *op = harness_op(h, 0, OP_ROOM_SEND, &ann, room, 8);
        op->in.send.content = op_keep(op, SLICE("re"));
        op->in.send.reply_to = 2 + 2 * i;
        replies[i] = harness_go(h, op);
    }
    harness_settle(h);
    expect_ok(replies[0]);
    expect_error(replies[1], ERR_REPLY_NOT_FOUND);
}

/* --- bounds
 * ------------------------------------------------------------------------------------------------------------- */

static void more_entries_than_the_bound_are_refused_until_some_are_durable(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    h->hold_syncer = true;
    struct answer *first = harness_send(h, 0, &ann, room, "first"), *last = first;
    while (commit_pending(harness_core(h, 0)->commit) < COMMIT_PENDING_MAX) last = harness_send(h, 0, &ann, room, "x");
    struct answer *refused = harness_send(h, 0, &ann, room, "one too many");
    struct answer *joined = harness_ask(h, 0, OP_ROOM_JOIN, &ann, room); /* no change: needs no entry */
    expect_error(refused, ERR_STORE_OVERLOADED);
    expect_ok(joined);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(first);
    expect_ok(last);
    assert_in_range(last->seq, COMMIT_PENDING_MAX - 100, COMMIT_PENDING_MAX + 1); /* runs of keys are entries too */
    struct answer *after = harness_send(h, 0, &ann, room, "after");
    harness_settle(h);
    assert_int_equal(after->seq, last->seq + 1); /* what was refused took no number */
}

static void more_bytes_than_the_bound_are_refused_until_some_are_durable(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    static char text[60001];
    memset(text, 'x', sizeof text - 1);
    h->hold_syncer = true;
    unsigned sent = 0;
    struct answer *a = NULL;
    while (!a || !a->done) {
        a = harness_send(h, 0, &ann, room, text);
        sent++;
        assert_true(sent < 2 * COMMIT_PENDING_BYTES_MAX / sizeof text);
    }
    expect_error(a, ERR_STORE_OVERLOADED);
    assert_in_range(harness_core(h, 0)->pending_bytes, COMMIT_PENDING_BYTES_MAX,
                    COMMIT_PENDING_BYTES_MAX + 4 * sizeof text);
    assert_true(commit_pending(harness_core(h, 0)->commit) < COMMIT_PENDING_MAX); /* it was not their number */
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(settled(h, harness_send(h, 0, &ann, room, text)));
}

static void below_the_disk_reserve_sends_are_refused_and_reads_go_on(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    atomic_store(&h->gateway.disk, DISK_RESERVE);
    struct answer *sent = harness_send(h, 0, &ann, room, "x");
    struct answer *joined = harness_ask(h, 0, OP_ROOM_JOIN, &bob, room);
    struct answer *created = harness_create(h, 0, ROOM_GROUP, 0, PEOPLE(&ann), NULL, 0);
    harness_settle(h);
    expect_error(sent, ERR_STORE_DISK_FULL);
    expect_error(joined, ERR_STORE_DISK_FULL);
    expect_error(created, ERR_STORE_DISK_FULL);
    assert_int_equal(error_rows[ERR_STORE_DISK_FULL].http_status, 507);
    assert_int_equal(events_in(h, &ann, room), 2);
    atomic_store(&h->gateway.disk, DISK_OK);
    struct answer *again = harness_send(h, 0, &ann, room, "x");
    harness_settle(h);
    expect_ok(again); /* by itself */
    assert_int_equal(again->seq, 3);
}

static void sends_are_refused_while_too_many_bytes_wait_for_slow_readers(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    atomic_store(&harness_core(h, 0)->frames_bytes, (int64_t)FRAMES_BYTES_MAX + 1);
    struct answer *sent = harness_send(h, 0, &ann, room, "x");
    harness_settle(h);
    expect_error(sent, ERR_SERVER_OVERLOADED);
    atomic_store(&harness_core(h, 0)->frames_bytes, 0);
}

/* crowded brings about both states in which nothing new is taken. */
static void crowded(struct harness *h, bool on)
{
    atomic_store(&h->gateway.disk, on ? DISK_RESERVE : DISK_OK);
    for (unsigned i = 0; i < h->gateway.num_cores; i++)
        atomic_store(&harness_core(h, i)->frames_bytes, on ? (int64_t)FRAMES_BYTES_MAX + 1 : 0);
}

static void members_leave_and_are_removed_when_nothing_new_is_taken(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob"), cat = harness_person(h, "cat");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann, &bob, &cat));
    harness_fill(h, &ann, room, 1);
    crowded(h, true);
    struct answer *role = harness_change(h, 0, OP_ROOM_ROLE, &ann, room, &cat, MEMBER_ADMIN);
    struct answer *left = harness_ask(h, 0, OP_ROOM_LEAVE, &bob, room);
    struct answer *removed = harness_change(h, 0, OP_ROOM_REMOVE, &ann, room, &cat, 0);
    struct answer *acked = harness_ack(h, 0, &ann, room, NULL, 1, true);
    struct answer *added = harness_change(h, 0, OP_ROOM_ADD, &ann, room, &bob, 0);
    harness_settle(h);
    crowded(h, false);
    expect_ok(role);
    expect_ok(left);
    expect_ok(removed);
    expect_ok(acked);
    expect_error(added, ERR_STORE_DISK_FULL);
}

static void leaving_waits_for_the_disk_like_everything_else(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    h->hold_syncer = true;
    while (commit_pending(harness_core(h, 0)->commit) < COMMIT_PENDING_MAX) harness_send(h, 0, &ann, room, "x");
    struct answer *left = harness_ask(h, 0, OP_ROOM_LEAVE, &ann, room);
    expect_error(left, ERR_STORE_OVERLOADED);
    h->hold_syncer = false;
    harness_settle(h);
}

/* --- a store that fails
 * --------------------------------------------------------------------------------------------------- */

static void a_failed_sync_leaves_sends_unknown_and_the_durable_head_frozen(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room_at(h, 0, ROOM_GROUP, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    kv_fake_fail(h->kv, false, true);
    struct answer *sent = harness_send_once(h, 0, &ann, room, "ding", "a");
    struct answer *repeat = harness_send_once(h, 0, &ann, room, "ding", "a");
    harness_settle(h);
    expect_error(sent, ERR_STORE_UNKNOWN);
    expect_error(repeat, ERR_STORE_UNKNOWN);
    kv_fake_fail(h->kv, false, false); /* too late: it is final */
    struct answer *later = harness_send(h, 0, &ann, room, "dong");
    struct answer *again = harness_send_once(h, 0, &ann, room, "ding", "a");
    struct answer *shown = harness_ask(h, 0, OP_ROOM_GET, &ann, room);
    harness_settle(h);
    expect_error(later, ERR_STORE_READ_ONLY);
    expect_error(again, ERR_STORE_READ_ONLY);
    expect_ok(shown);
    assert_int_equal(number_in(shown->out.data, "last_seq"), 2);
    assert_int_equal(events_in(h, &ann, room), 2); /* reads go on, and show nothing that may not be durable */
}

static void a_failed_write_leaves_its_batch_unknown_and_the_rest_undone(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 2);
    kv_fake_fail(h->kv, true, false);
    struct answer *handed = harness_send(h, 0, &ann, room, "handed over"), *kept = NULL;
    for (unsigned i = 0; i < COMMIT_BATCH_MAX; i++) kept = harness_send(h, 0, &ann, room, "in the next batch");
    harness_settle(h);
    expect_error(handed, ERR_STORE_UNKNOWN);
    expect_error(kept, ERR_STORE_READ_ONLY);
    assert_int_equal(events_in(h, &ann, room), 2);
    harness_restart(h, END_POWER_LOST);
    struct answer *again = harness_send(h, 0, &ann, room, "again");
    harness_settle(h);
    expect_ok(again);
    assert_int_equal(again->seq, 3);
}

static void a_disk_that_stands_refuses_messages_and_takes_them_again(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    h->hold_syncer = true;
    struct answer *first = harness_send(h, 0, &ann, room, "1");
    harness_settle(h);
    harness_advance(h, COMMIT_AGE_MAX_MS);
    harness_turns(h);
    struct answer *second = harness_send(h, 0, &ann, room, "2"); /* not too late yet */
    harness_settle(h);
    harness_advance(h, 1);
    harness_turns(h);
    expect_error(settled(h, harness_send(h, 0, &ann, room, "3")), ERR_STORE_OVERLOADED);
    expect_waiting(first);
    expect_waiting(second);
    h->hold_syncer = false;
    harness_settle(h);
    expect_ok(first);
    expect_ok(second);
    assert_int_equal(settled(h, harness_send(h, 0, &ann, room, "4"))->seq, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(seqs_are_gapless_and_in_arrival_order),
        TEST(senders_on_all_cores_share_one_order),
        TEST(nothing_is_answered_or_readable_before_the_sync),
        TEST(fast_rooms_are_answered_after_the_write),
        TEST(a_fast_event_waits_behind_one_that_waits_for_its_sync),
        TEST(the_tenants_durability_overrules_the_servers),
        TEST(time_never_goes_backwards_with_seq),
        TEST(a_repeat_waits_for_the_first_and_both_get_its_seq),
        TEST(a_repeat_of_a_durable_send_gets_the_first_answer),
        TEST(the_same_client_id_with_another_body_is_a_mismatch),
        TEST(client_ids_count_for_one_sender_in_one_room),
        TEST(a_repeat_behind_the_window_is_looked_up_and_others_keep_their_place),
        TEST(a_client_id_never_seen_needs_no_look_up),
        TEST(a_repeat_after_a_restart_gets_the_first_answer),
        TEST(a_send_that_the_power_took_is_appended_by_its_repeat),
        TEST(old_keys_move_into_a_run_and_are_found_there),
        TEST(a_repeat_is_answered_after_its_sender_has_left),
        TEST(a_repeat_is_answered_at_the_disks_reserve),
        TEST(a_failed_store_repeats_what_it_had_acknowledged),
        TEST(a_repeat_names_the_class_of_the_first_answer),
        TEST(only_members_send),
        TEST(another_tenants_room_does_not_exist),
        TEST(only_admins_write_in_a_channel),
        TEST(a_reply_names_an_event_that_exists),
        TEST(more_entries_than_the_bound_are_refused_until_some_are_durable),
        TEST(more_bytes_than_the_bound_are_refused_until_some_are_durable),
        TEST(below_the_disk_reserve_sends_are_refused_and_reads_go_on),
        TEST(sends_are_refused_while_too_many_bytes_wait_for_slow_readers),
        TEST(members_leave_and_are_removed_when_nothing_new_is_taken),
        TEST(leaving_waits_for_the_disk_like_everything_else),
        TEST(a_disk_that_stands_refuses_messages_and_takes_them_again),
        TEST(a_failed_sync_leaves_sends_unknown_and_the_durable_head_frozen),
        TEST(a_failed_write_leaves_its_batch_unknown_and_the_rest_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
