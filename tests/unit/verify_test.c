#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../storage/keys.h"
#include "../../storage/records.h"
#include "../../storage/store.h"
#include "kv_row.h"

/* A small store that is in order: tenant 1 with users 11 and 12, group 21 with both (events 3 to 6 kept, 5 edits 4, 4
 * has a client id; its runs are 1 to 4 and 5 to 6), DM 22 without events. Each test breaks one thing. */

#define TENANT 1u
#define ANN 11u
#define BEN 12u
#define GROUP 21u
#define DM 22u

static struct kv *kv;
static char found[4000];

static void put_row(enum kv_cf cf, const struct key *k, struct buf *value)
{
    kv_row_put(kv, cf, k, buf_slice(value));
    buf_free(value);
}

static void delete_row(enum kv_cf cf, const struct key *k)
{
    kv_row_delete(kv, cf, k);
}

static void put_number(enum kv_cf cf, const struct key *k, uint64_t v)
{
    struct buf value = {0};
    number_record_encode(&value, v);
    put_row(cf, k, &value);
}

static void put_meta(const char *name, uint64_t v)
{
    struct key k;
    key_meta(&k, slice_str(name));
    put_number(KV_META, &k, v);
}

static void put_name(enum name_kind kind, const char *text, uint64_t number)
{
    struct key k;
    key_name(&k, TENANT, kind, slice_str(text));
    put_number(KV_NAMES, &k, number);
}

static void put_user(uint64_t user, const char *user_id)
{
    struct key k;
    struct buf value = {0};
    key_user(&k, TENANT, user);
    user_record_encode(&value, &(struct user_record){.tenant = TENANT, .user = user, .user_id = slice_str(user_id)});
    put_row(KV_USERS, &k, &value);
    put_name(NAME_USER, user_id, user);
}

static struct room_record group_record(void)
{
    return (struct room_record){.tenant = TENANT, .room = GROUP, .type = ROOM_GROUP, .retained_from = 3,
                                .num_epochs = 2, .epochs = {{1, 1}, {2, 5}}};
}

static void put_room(struct room_record r)
{
    struct key k;
    struct buf value = {0};
    key_room(&k, TENANT, r.room);
    room_record_encode(&value, &r);
    put_row(KV_ROOMS, &k, &value);
}

static void put_member(uint64_t room, uint64_t user, const char *user_id)
{
    struct key k;
    struct buf value = {0};
    key_member(&k, TENANT, room, user);
    member_record_encode(&value, &(struct member_record){.role = MEMBER_MEMBER, .user_id = slice_str(user_id)});
    put_row(KV_MEMBERS, &k, &value);
    key_user_room(&k, TENANT, user, room);
    put_row(KV_USER_ROOMS, &k, &value);
}

static struct log_record event_record(uint64_t seq)
{
    return (struct log_record){.tenant = TENANT, .room = GROUP, .seq = seq, .kind = seq == 5 ? LOG_EDITED : LOG_MESSAGE,
                               .created_ms = 1000 + seq, .sender = ANN, .sender_id = SLICE("ann"),
                               .client_id = seq == 4 ? SLICE("c4") : SLICE(""), .content = SLICE("hi")};
}

static void put_event_at(uint64_t seq, struct log_record r)
{
    struct key k;
    struct buf value = {0};
    key_log(&k, TENANT, GROUP, seq);
    buf_reserve(&value, log_record_len(&r));
    value.len = (size_t)(log_record_encode_to(value.data, &r) - value.data);
    put_row(KV_LOG, &k, &value);
}

static void put_cursor(uint64_t room, uint64_t delivered)
{
    struct key k;
    struct buf value = {0};
    key_cursor(&k, TENANT, ANN, SLICE("phone"), room);
    cursor_record_encode(&value, &(struct cursor_record){delivered, 0});
    put_row(KV_CURSORS, &k, &value);
}

static void put_answer(const char *text, uint64_t room)
{
    struct key k;
    struct buf value = {0};
    key_answer(&k, TENANT, ANN, slice_str(text));
    answer_record_encode(&value, &(struct answer_record){.room = room, .http_status = 201});
    put_row(KV_IDEMPOTENCY, &k, &value);
}

static void put_run_of(uint64_t room, uint64_t first, uint64_t last, const struct fingerprint *prints, size_t num)
{
    struct key k;
    struct buf value = {0};
    key_idempotency_run(&k, TENANT, room, first);
    struct idempotency_run_record r = {.last_seq = last, .prints = slice_of(prints, num * sizeof *prints)};
    idempotency_run_record_encode(&value, &r);
    put_row(KV_IDEMPOTENCY, &k, &value);
}
#define PUT_RUN(first, last, ...) \
    do { \
        static const struct fingerprint prints_[] = {__VA_ARGS__}; \
        put_run_of(GROUP, (first), (last), prints_, sizeof prints_ / sizeof *prints_); \
    } while (0)

static void delete_run(uint64_t first)
{
    struct key k;
    key_idempotency_run(&k, TENANT, GROUP, first);
    delete_row(KV_IDEMPOTENCY, &k);
}

/* A notification of ann's: its body, and what says where it stands. */
static void put_notification(uint64_t number)
{
    struct key k;
    struct buf value = {0};
    key_notification(&k, TENANT, ANN, number, NOTIFICATION_BODY);
    notification_record_encode(&value, &(struct notification_record){.tenant = TENANT, .user = ANN, .number = number,
                                                                     .priority = PRIORITY_LOW, .user_id = SLICE("ann"),
                                                                     .topic = SLICE("t"), .payload = SLICE("1")});
    put_row(KV_NOTIFICATIONS, &k, &value);
}

static void put_outbox(uint64_t number, const char *user_id)
{
    struct key k;
    struct buf value = {0};
    key_outbox(&k, TENANT, ANN, number);
    outbox_record_encode(&value, &(struct outbox_record){.priority = PRIORITY_LOW, .user_id = slice_str(user_id)});
    put_row(KV_OUTBOX, &k, &value);
}

static void put_end(uint64_t number, enum notification_state end, enum dead_reason reason)
{
    struct key k;
    struct buf value = {0};
    key_notification(&k, TENANT, ANN, number, NOTIFICATION_END);
    notification_end_record_encode(&value,
                                   &(struct notification_end_record){.state = (uint8_t)end, .reason = (uint8_t)reason});
    put_row(KV_NOTIFICATIONS, &k, &value);
}

static void put_dead_letter(uint64_t number)
{
    struct key k;
    struct buf value = {0};
    key_dead_letter(&k, TENANT, number, ANN);
    dead_letter_record_encode(&value, &(struct dead_letter_record){.priority = PRIORITY_LOW, .reason = DEAD_EXPIRED,
                                                                   .user_id = SLICE("ann")});
    put_row(KV_DEAD_LETTERS, &k, &value);
}

static void put_subscription(bool by_user, bool by_topic)
{
    struct key k;
    struct buf value = {0};
    struct subscription_record r = {.user_id = SLICE("ann")};
    key_subscription(&k, TENANT, ANN, SLICE("news"));
    subscription_record_encode(&value, &r);
    if (by_user) put_row(KV_SUBSCRIPTIONS, &k, &value);
    buf_free(&value);
    key_subscriber(&k, TENANT, SLICE("news"), ANN);
    subscription_record_encode(&value, &r);
    if (by_topic) put_row(KV_SUBSCRIPTIONS, &k, &value);
    buf_free(&value);
}

static int fill(void **state)
{
    struct key k;
    struct buf value = {0};
    kv = kv_fake_new();
    *found = '\0';
    put_meta("format", STORE_FORMAT);
    put_meta("epoch", 2);
    put_meta("clean", 0);
    put_meta("number.0", DM);
    key_tenant(&k, TENANT);
    tenant_record_encode(&value, &(struct tenant_record){.tenant = TENANT, .state = TENANT_ACTIVE});
    put_row(KV_TENANTS, &k, &value);
    key_api_key(&k, TENANT, SLICE("abc"));
    struct api_key_record api_key = {.tenant = TENANT, .role = KEY_ROLE_SERVER, .state = KEY_ACTIVE};
    api_key_record_encode(&value, &api_key);
    put_row(KV_KEYS, &k, &value);
    put_user(ANN, "ann");
    put_user(BEN, "ben");
    put_name(NAME_EMAIL, "ann@example.org", ANN);
    put_room(group_record());
    put_room((struct room_record){.tenant = TENANT, .room = DM, .type = ROOM_DM, .retained_from = 1,
                                  .unique_key = SLICE("ann:ben"), .num_epochs = 1, .epochs = {{2, 1}}});
    put_name(NAME_DM, "ann:ben", DM);
    put_member(GROUP, ANN, "ann");
    put_member(GROUP, BEN, "ben");
    put_member(DM, ANN, "ann");
    put_member(DM, BEN, "ben");
    for (uint64_t seq = 3; seq <= 6; seq++) put_event_at(seq, event_record(seq));
    key_change(&k, TENANT, GROUP, 4, 5);
    put_row(KV_CHANGES, &k, &value);
    put_cursor(GROUP, 6);
    put_cursor(DM, 0);
    put_cursor(99, 50); /* the room is gone */
    PUT_RUN(1, 4, {100, 1}, {200, 4}); /* retention removed event 1, not its key */
    put_run_of(GROUP, 5, 6, NULL, 0);
    put_answer("/rooms k1", GROUP);
    put_answer("/rooms/r/join k2", 0);
    put_notification(31);
    put_outbox(31, "ann");
    put_notification(32);
    put_end(32, NOTIFICATION_DELIVERED, DEAD_NOT);
    put_notification(33);
    put_end(33, NOTIFICATION_DEAD, DEAD_EXPIRED);
    put_dead_letter(33);
    put_subscription(true, true);
    return 0;
}

static int empty(void **state)
{
    kv_close(kv);
    return 0;
}

static void collect(void *context, const char *text)
{
    assert_ptr_equal(context, &kv);
    snprintf(found + strlen(found), sizeof found - strlen(found), "%s\n", text);
}

/* assert_findings verifies and expects `count` findings, one of them with `words` in it. */
static void assert_findings(uint64_t count, const char *words)
{
    uint64_t rows = 0;
    uint64_t problems = store_verify(kv, collect, &kv, &rows);
    if (problems != count || !strstr(found, words)) fail_msg("%llu: %s", (unsigned long long)problems, found);
}

static void a_store_in_order_has_no_findings(void **state)
{
    uint64_t rows = 0;
    uint64_t problems = store_verify(kv, collect, &kv, &rows);
    if (problems) fail_msg("%s", found);
    assert_int_equal(rows, kv_sequence(kv)); /* each was put once */
}

static void a_gap_in_the_log_is_found(void **state)
{
    struct key k;
    key_log(&k, TENANT, GROUP, 6);
    delete_row(KV_LOG, &k);
    put_event_at(7, event_record(7));
    assert_findings(1, "room 21 of tenant 1 has seq 7 where 6 was next");
}

static void a_log_that_begins_late_is_found(void **state)
{
    struct key k;
    key_log(&k, TENANT, GROUP, 3);
    delete_row(KV_LOG, &k);
    assert_findings(1, "has seq 4 where 3 was next");
}

static void a_log_that_begins_early_is_found(void **state)
{
    put_event_at(2, event_record(2));
    assert_findings(1, "has seq 2 where 3 was next");
}

static void events_of_a_missing_room_are_found(void **state)
{
    struct key k;
    struct buf value = {0};
    struct log_record r = event_record(1);
    r.room = 77;
    key_log(&k, TENANT, 77, 1);
    buf_reserve(&value, log_record_len(&r));
    value.len = (size_t)(log_record_encode_to(value.data, &r) - value.data);
    put_row(KV_LOG, &k, &value);
    assert_findings(1, "events of room 77 of tenant 1, which does not exist");
}

static void an_event_under_a_foreign_key_is_found(void **state)
{
    struct log_record r = event_record(6);
    r.tenant = 2;
    put_event_at(6, r);
    assert_findings(1, "the record is of tenant 2, room 21, seq 6");
}

static void time_that_goes_back_is_found(void **state)
{
    struct log_record r = event_record(6);
    r.created_ms = 1;
    put_event_at(6, r);
    assert_findings(1, "older than the event before it");
}

static void damaged_records_are_found(void **state)
{
    struct key k;
    struct buf value = {0};
    key_log(&k, TENANT, GROUP, 6);
    BUF_LIT(&value, "garbage");
    put_row(KV_LOG, &k, &value);
    assert_findings(1, "log 0000000100000000000000150000000000000006: the record is damaged");
}

static void a_row_of_user_rooms_that_is_missing_is_found(void **state)
{
    struct key k;
    key_user_room(&k, TENANT, BEN, GROUP);
    delete_row(KV_USER_ROOMS, &k);
    assert_findings(1, "user 12 is a member of room 21, but user_rooms lacks it");
}

static void a_member_row_that_is_missing_is_found(void **state)
{
    struct key k;
    key_member(&k, TENANT, GROUP, BEN);
    delete_row(KV_MEMBERS, &k);
    assert_findings(1, "room 21 is listed for user 12, who is no member of it");
}

static void a_missing_user_is_found_from_names_and_members(void **state)
{
    struct key k;
    key_user(&k, TENANT, BEN);
    delete_row(KV_USERS, &k);
    assert_findings(3, "names user 12, who does not exist");
}

static void a_user_under_another_id_is_found(void **state)
{
    put_name(NAME_USER, "bob", BEN);
    put_member(GROUP, BEN, "bob");
    assert_findings(2, "user 12 has another id");
}

static void a_dm_name_must_match_its_room(void **state)
{
    put_name(NAME_DM, "ann:bob", DM);
    put_name(NAME_DM, "ann:zoe", 99);
    assert_findings(2, "names room 99, which does not exist");
}

static void epochs_that_do_not_rise_are_found(void **state)
{
    struct room_record r = group_record();
    r.epochs[1].epoch = 1;
    put_room(r);
    assert_findings(1, "epoch 1 from seq 5 does not follow");
}

static void first_seqs_that_fall_are_found(void **state)
{
    struct room_record r = group_record();
    r.epochs[0].first_seq = 6;
    put_room(r);
    assert_findings(1, "epoch 2 from seq 5 does not follow");
}

static void an_epoch_behind_the_head_is_found(void **state)
{
    struct room_record r = group_record();
    r.epochs[1].first_seq = 8; /* 7 is the next seq, so it may begin there, not later */
    put_room(r);
    assert_findings(1, "epoch 2 begins at seq 8, but the head is 6");
}

static void an_epoch_the_store_never_had_is_found(void **state)
{
    struct room_record r = group_record();
    r.epochs[1].epoch = 3;
    put_room(r);
    assert_findings(1, "epoch 3, but the store is in epoch 2");
}

static void a_change_without_its_event_is_found(void **state)
{
    struct key k;
    struct buf value = {0};
    key_change(&k, TENANT, GROUP, 4, 9);
    put_row(KV_CHANGES, &k, &value);
    key_change(&k, TENANT, GROUP, 4, 6); /* seq 6 is a message */
    put_row(KV_CHANGES, &k, &value);
    key_change(&k, TENANT, GROUP, 5, 5);
    put_row(KV_CHANGES, &k, &value);
    assert_findings(3, "the change's event, seq 9, does not exist");
}

static void a_cursor_ahead_of_the_head_is_found(void **state)
{
    put_cursor(GROUP, 7);
    put_cursor(DM, 1);
    assert_findings(2, "stands at seq 7, but the head of room 21 is 6");
}

static void a_gap_between_runs_is_found(void **state)
{
    delete_run(5);
    put_run_of(GROUP, 6, 6, NULL, 0);
    assert_findings(1, "the run begins at seq 6 where 5 was next");
}

static void runs_that_overlap_are_found(void **state)
{
    delete_run(5);
    PUT_RUN(4, 6, {200, 4});
    assert_findings(1, "the run begins at seq 4 where 5 was next");
}

static void a_first_run_that_begins_behind_the_first_event_is_found(void **state)
{
    delete_run(1);
    PUT_RUN(3, 4, {200, 4}); /* runs that retention emptied may be gone */
    assert_findings(0, "");
    delete_run(3); /* and so may those of old events */
    assert_findings(0, "");
    struct log_record young = event_record(4);
    young.created_ms = clock_wall_ms(clock_real());
    put_event_at(4, young);
    for (uint64_t seq = 5; seq <= 6; seq++) {
        struct log_record behind = event_record(seq);
        behind.created_ms = young.created_ms;
        put_event_at(seq, behind);
    }
    assert_findings(1, "the first run begins at seq 5, but events are kept from seq 3");
}

static void a_run_that_ends_behind_the_head_is_found(void **state)
{
    put_run_of(GROUP, 5, 7, NULL, 0);
    assert_findings(1, "the run ends at seq 7, but the head is 6");
}

static void a_run_that_ends_before_it_begins_is_found_alone(void **state)
{
    PUT_RUN(1, 2, {100, 1}, {200, 2}); /* event 2 is gone, so it may be named */
    put_run_of(GROUP, 3, 2, NULL, 0);
    assert_findings(1, "the run ends at seq 2, before its first"); /* where the next one begins is not known then */
}

static void a_run_that_names_an_event_without_a_client_id_is_found(void **state)
{
    PUT_RUN(5, 6, {200, 6});
    assert_findings(1, "the run names seq 6, which is no event with a client id");
}

static void a_run_that_names_a_missing_event_is_found(void **state)
{
    struct key k;
    key_log(&k, TENANT, GROUP, 4);
    delete_row(KV_LOG, &k);
    delete_run(5);
    PUT_RUN(1, 6, {100, 1}, {200, 4});
    assert_findings(2, "the run names seq 4, which is no event with a client id"); /* and the log has a gap */
}

static void a_run_that_names_the_last_events_wrongly_is_found(void **state)
{
    put_event_at(7, event_record(7));
    PUT_RUN(5, 8, {200, 8});
    assert_findings(2, "the run names seq 8, which is no event with a client id"); /* and it ends behind the head */
}

static void a_run_that_lacks_a_client_id_is_found(void **state)
{
    PUT_RUN(1, 4, {100, 1});
    assert_findings(1, "the run lacks seq 4, which has a client id");
}

static void a_run_with_keys_from_before_it_is_found(void **state)
{
    PUT_RUN(5, 6, {200, 4});
    assert_findings(1, "the run names seq 4, which lies before it");
}

static void a_run_that_names_an_event_twice_is_found(void **state)
{
    PUT_RUN(1, 4, {100, 4}, {200, 4});
    assert_findings(1, "the run names seq 4 more than once");
}

static void a_damaged_run_is_found_alone(void **state)
{
    struct key k;
    struct buf value = {0};
    key_idempotency_run(&k, TENANT, GROUP, 1);
    BUF_LIT(&value, "garbage");
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_findings(1, "idempotency 0000000100000000000000150000000000000001: the record is damaged");
}

static void a_run_of_a_missing_room_is_found(void **state)
{
    put_run_of(77, 1, 4096, NULL, 0);
    assert_findings(1, "a run of room 77, which does not exist");
}

static void runs_of_a_deleted_room_need_no_log(void **state)
{
    struct room_record r = group_record();
    r.flags = ROOM_DELETED;
    put_room(r);
    for (uint64_t seq = 3; seq <= 6; seq++) {
        struct key k;
        key_log(&k, TENANT, GROUP, seq);
        delete_row(KV_LOG, &k);
    }
    struct key change;
    key_change(&change, TENANT, GROUP, 4, 5);
    delete_row(KV_CHANGES, &change);
    assert_findings(0, "");
}

static void the_first_run_of_every_room_is_one(void **state)
{
    put_run_of(DM, 1, 1, NULL, 0); /* the DM is empty, but its run goes on from no other room's */
    assert_findings(1, "the run ends at seq 1, but the head is 0");
}

static void answers_name_rooms_that_exist(void **state)
{
    put_answer("/rooms k3", 77);
    assert_findings(1, "the answer is room 77, which does not exist");
}

static void idempotency_keys_of_neither_kind_are_found(void **state)
{
    struct key k;
    struct buf value = {0};
    key_room(&k, TENANT, 0);
    k.len += 8; /* a user, and no text */
    memset(k.bytes + 12, 1, 8);
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_findings(1, "the key of a kept answer has no text");
    delete_row(KV_IDEMPOTENCY, &k);
    key_idempotency_run(&k, TENANT, GROUP, 9);
    k.bytes[k.len++] = 0;
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_findings(1, "0000000000000900: the key of a run is no tenant, room and first seq");
    delete_row(KV_IDEMPOTENCY, &k);
    k.len--;
    memset(k.bytes + 12, 0, 8); /* a run from seq 0 */
    put_row(KV_IDEMPOTENCY, &k, &value);
    assert_findings(1, "0000000000000000: the key of a run is no tenant, room and first seq");
}

static void notifications_in_no_place_or_in_two_are_found(void **state)
{
    put_notification(34);
    assert_findings(1, "neither waits in the outbox nor has ended");
    put_outbox(34, "ann");
    put_end(34, NOTIFICATION_DELIVERED, DEAD_NOT);
    assert_findings(1, "waits here and has ended");
}

static void notifications_without_their_body_are_found(void **state)
{
    put_outbox(34, "ann");
    put_end(35, NOTIFICATION_DELIVERED, DEAD_NOT);
    assert_findings(2, "what waits here has no notification");
    assert_findings(2, "an end without its notification");
}

static void dead_letters_and_dead_notifications_go_together(void **state)
{
    put_notification(34);
    put_end(34, NOTIFICATION_DEAD, DEAD_FULL);
    put_dead_letter(32);
    assert_findings(2, "dead, but there is no dead letter");
    assert_findings(2, "a dead letter whose notification did not end so");
}

static void notifications_of_another_user_are_found(void **state)
{
    put_outbox(31, "ben");
    assert_findings(1, "user 11 has another id");
}

static void subscriptions_stand_both_ways_round(void **state)
{
    struct key k;
    key_subscription(&k, TENANT, ANN, SLICE("news"));
    delete_row(KV_SUBSCRIPTIONS, &k);
    assert_findings(1, "the same subscription the other way round is missing");
    put_subscription(true, false);
    key_subscriber(&k, TENANT, SLICE("news"), ANN);
    delete_row(KV_SUBSCRIPTIONS, &k);
    assert_findings(1, "the same subscription the other way round is missing");
}

static void rows_of_a_missing_tenant_are_found(void **state)
{
    struct key k;
    key_tenant(&k, TENANT);
    delete_row(KV_TENANTS, &k);
    assert_findings(5, "tenant 1 does not exist"); /* an API key, two users, two rooms */
}

static void keys_of_the_wrong_shape_are_found(void **state)
{
    static const enum kv_cf families[] = {KV_TENANTS, KV_KEYS,    KV_NAMES,   KV_USERS,       KV_ROOMS, KV_MEMBERS,
                                          KV_LOG,     KV_CHANGES, KV_CURSORS, KV_IDEMPOTENCY, KV_USER_ROOMS,
                                          KV_OUTBOX,  KV_DEAD_LETTERS, KV_NOTIFICATIONS, KV_SUBSCRIPTIONS};
    struct key k = {.len = 3};
    struct buf value = {0};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) put_row(families[i], &k, &value);
    assert_findings(sizeof families / sizeof *families, "cursors 000000: the key is no tenant");
}

static void odd_state_in_meta_is_found(void **state)
{
    put_meta("clean", 2);
    put_meta("format", STORE_FORMAT + 1);
    put_meta("epoch", 0);
    assert_findings(3, "the epoch is 0");
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, fill, empty)
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_store_in_order_has_no_findings),
        WITH_STORE(a_gap_in_the_log_is_found),
        WITH_STORE(a_log_that_begins_late_is_found),
        WITH_STORE(a_log_that_begins_early_is_found),
        WITH_STORE(events_of_a_missing_room_are_found),
        WITH_STORE(an_event_under_a_foreign_key_is_found),
        WITH_STORE(time_that_goes_back_is_found),
        WITH_STORE(damaged_records_are_found),
        WITH_STORE(a_row_of_user_rooms_that_is_missing_is_found),
        WITH_STORE(a_member_row_that_is_missing_is_found),
        WITH_STORE(a_missing_user_is_found_from_names_and_members),
        WITH_STORE(a_user_under_another_id_is_found),
        WITH_STORE(a_dm_name_must_match_its_room),
        WITH_STORE(epochs_that_do_not_rise_are_found),
        WITH_STORE(first_seqs_that_fall_are_found),
        WITH_STORE(an_epoch_behind_the_head_is_found),
        WITH_STORE(an_epoch_the_store_never_had_is_found),
        WITH_STORE(a_change_without_its_event_is_found),
        WITH_STORE(a_cursor_ahead_of_the_head_is_found),
        WITH_STORE(a_gap_between_runs_is_found),
        WITH_STORE(runs_that_overlap_are_found),
        WITH_STORE(a_first_run_that_begins_behind_the_first_event_is_found),
        WITH_STORE(a_run_that_ends_behind_the_head_is_found),
        WITH_STORE(a_run_that_ends_before_it_begins_is_found_alone),
        WITH_STORE(a_run_that_names_an_event_without_a_client_id_is_found),
        WITH_STORE(a_run_that_names_a_missing_event_is_found),
        WITH_STORE(a_run_that_names_the_last_events_wrongly_is_found),
        WITH_STORE(a_run_that_lacks_a_client_id_is_found),
        WITH_STORE(a_run_with_keys_from_before_it_is_found),
        WITH_STORE(a_run_that_names_an_event_twice_is_found),
        WITH_STORE(a_damaged_run_is_found_alone),
        WITH_STORE(a_run_of_a_missing_room_is_found),
        WITH_STORE(runs_of_a_deleted_room_need_no_log),
        WITH_STORE(the_first_run_of_every_room_is_one),
        WITH_STORE(answers_name_rooms_that_exist),
        WITH_STORE(idempotency_keys_of_neither_kind_are_found),
        WITH_STORE(notifications_in_no_place_or_in_two_are_found),
        WITH_STORE(notifications_without_their_body_are_found),
        WITH_STORE(dead_letters_and_dead_notifications_go_together),
        WITH_STORE(notifications_of_another_user_are_found),
        WITH_STORE(subscriptions_stand_both_ways_round),
        WITH_STORE(rows_of_a_missing_tenant_are_found),
        WITH_STORE(keys_of_the_wrong_shape_are_found),
        WITH_STORE(odd_state_in_meta_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
