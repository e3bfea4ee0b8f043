#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../storage/records.h"
#include "next_random.h"

static uint8_t one_of(unsigned first, unsigned last) { return (uint8_t)(first + next_random() % (last - first + 1)); }

/* some_text borrows random bytes; a third of the texts are empty. */
static struct slice some_text(size_t len_max)
{
    static char pool[4096];
    if (!pool[0])
        for (size_t i = 0; i < sizeof pool; i++) pool[i] = (char)(next_random() | 1);
    size_t len = next_random() % 3 ? next_random() % (len_max + 1) : 0;
    return slice_of(pool + next_random() % (sizeof pool - len), len);
}

/* Each kind of record: how a random one is made, and how any bytes are decoded and encoded again. */
struct kind {
    void (*make)(struct buf *out);
    enum status (*again)(struct buf *out, struct slice value);
};

static void log_encode(struct buf *out, const struct log_record *r)
{
    size_t len = log_record_len(r);
    buf_reserve(out, len);
    char *end = log_record_encode_to(out->data + out->len, r);
    assert_ptr_equal(end, out->data + out->len + len);
    out->len += len;
}

static void make_tenant(struct buf *out)
{
    struct tenant_record r = {(uint32_t)next_random(), one_of(1, 3),   one_of(0, 2),
                              next_random(),           some_text(200), some_text(500)};
    tenant_record_encode(out, &r);
}

static void make_api_key(struct buf *out)
{
    struct api_key_record r = {(uint32_t)next_random(), one_of(1, 3), one_of(1, 2), next_random(), {0}};
    for (size_t i = 0; i < sizeof r.hmac; i++) r.hmac[i] = (uint8_t)next_random();
    api_key_record_encode(out, &r);
}

static void make_user(struct buf *out)
{
    user_record_encode(out, &(struct user_record){(uint32_t)next_random(), next_random(), next_random(), some_text(128),
                                                  some_text(300), some_text(900)});
}

static void make_room(struct buf *out)
{
    struct room_record r = {
        .tenant = (uint32_t)next_random(),
        .room = next_random(),
        .type = one_of(1, 3),
        .flags = (uint8_t)next_random(),
        .durability = one_of(0, 2),
        .members_max = (uint32_t)next_random(),
        .created_ms = next_random(),
        .updated_ms = next_random(),
        .created_by = next_random(),
        .retained_from = next_random(),
        .name = some_text(300),
        .description = some_text(300),
        .avatar_url = some_text(300),
        .unique_key = some_text(260),
        .settings = some_text(600),
        .num_epochs = (uint16_t)(next_random() % (ROOM_EPOCHS_MAX + 1)),
    };
    for (unsigned i = 0; i < r.num_epochs; i++) r.epochs[i] = (struct room_epoch){next_random(), next_random()};
    room_record_encode(out, &r);
}

static void make_member(struct buf *out)
{
    member_record_encode(out, &(struct member_record){one_of(1, 2), next_random(), next_random(), some_text(128)});
}

static struct log_record some_event(void)
{
    return (struct log_record){(uint32_t)next_random(), next_random() | 1, next_random() | 1,  one_of(1, 7),
                               (uint8_t)next_random(),  next_random(),     next_random(),      next_random(),
                               some_text(128),          some_text(64),     some_text(32),      some_text(2000),
                               some_text(300)};
}

static void make_log(struct buf *out)
{
    struct log_record r = some_event();
    log_encode(out, &r);
}

static void make_cursor(struct buf *out)
{
    cursor_record_encode(out, &(struct cursor_record){next_random(), next_random()});
}

static void make_answer(struct buf *out)
{
    answer_record_encode(out, &(struct answer_record){next_random(), next_random(), next_random(),
                                                      (uint16_t)next_random(), some_text(900)});
}

/* A third of the prints are met more than once, under another seq. */
static void make_idempotency_run(struct buf *out)
{
    struct fingerprint prints[40] = {0};
    uint32_t num = (uint32_t)(next_random() % 41);
    for (uint32_t i = 0; i < num; i++)
        prints[i] = (struct fingerprint){i && i % 3 == 0 ? prints[i - 1].print : next_random(), 5000 - i};
    qsort(prints, num, sizeof *prints, fingerprint_order);
    struct slice sorted = slice_of(prints, num * sizeof *prints);
    struct idempotency_run_record r = {5000 + next_random() % 10, next_random(), sorted};
    idempotency_run_record_encode(out, &r);
}

static void make_notification(struct buf *out)
{
    struct slice topic = some_text(100);
    notification_record_encode(out, &(struct notification_record){(uint32_t)next_random(), next_random(), next_random(),
                                                                  one_of(1, 4), next_random(), some_text(128),
                                                                  topic.len ? topic : SLICE("t"), some_text(2000)});
}

static void make_outbox(struct buf *out)
{
    outbox_record_encode(out, &(struct outbox_record){one_of(1, 4), (uint32_t)next_random(), next_random(),
                                                      next_random(), next_random(), some_text(128)});
}

static void make_notification_end(struct buf *out)
{
    bool dead = next_random() % 2;
    notification_end_record_encode(out, &(struct notification_end_record){
                                            dead ? NOTIFICATION_DEAD : NOTIFICATION_DELIVERED, dead ? one_of(1, 3) : 0,
                                            (uint32_t)next_random(), next_random(), next_random()});
}

static void make_dead_letter(struct buf *out)
{
    dead_letter_record_encode(out, &(struct dead_letter_record){one_of(1, 4), one_of(1, 3), (uint32_t)next_random(),
                                                                next_random(), next_random(), next_random(),
                                                                some_text(128)});
}

static void make_subscription(struct buf *out)
{
    subscription_record_encode(out, &(struct subscription_record){next_random(), some_text(128)});
}

static void make_number(struct buf *out) { number_record_encode(out, next_random()); }

#define AGAIN(kind_name) \
    static enum status again_##kind_name(struct buf *out, struct slice value) \
    { \
        struct kind_name##_record r; \
        enum status s = kind_name##_record_decode(&r, value); \
        if (s == STATUS_OK) kind_name##_record_encode(out, &r); \
        return s; \
    }
AGAIN(tenant)
AGAIN(api_key)
AGAIN(user)
AGAIN(room)
AGAIN(member)
AGAIN(cursor)
AGAIN(answer)
AGAIN(idempotency_run)
AGAIN(notification)
AGAIN(outbox)
AGAIN(notification_end)
AGAIN(dead_letter)
AGAIN(subscription)

static enum status again_log(struct buf *out, struct slice value)
{
    struct log_record r;
    enum status s = log_record_decode(&r, value);
    if (s == STATUS_OK) log_encode(out, &r);
    return s;
}

static enum status again_number(struct buf *out, struct slice value)
{
    uint64_t v;
    enum status s = number_record_decode(&v, value);
    if (s == STATUS_OK) number_record_encode(out, v);
    return s;
}

static const struct kind kinds[] = {
    {make_tenant, again_tenant},
    {make_api_key, again_api_key},
    {make_user, again_user},
    {make_room, again_room},
    {make_member, again_member},
    {make_log, again_log},
    {make_cursor, again_cursor},
    {make_answer, again_answer},
    {make_idempotency_run, again_idempotency_run},
    {make_notification, again_notification},
    {make_outbox, again_outbox},
    {make_notification_end, again_notification_end},
    {make_dead_letter, again_dead_letter},
    {make_subscription, again_subscription},
    {make_number, again_number},
};
#define KINDS (sizeof kinds / sizeof *kinds)

/* exact gives the bytes a heap block of their own length, so that the sanitizer sees a read past the end. */
static struct slice exact(struct slice s)
{
    char *copy = malloc(s.len ? s.len : 1);
    assert_non_null(copy);
    if (s.len) memcpy(copy, s.data, s.len);
    return slice_of(copy, s.len);
}

static void records_decode_to_what_was_encoded(void **state)
{
    for (size_t k = 0; k < KINDS; k++) {
        for (int n = 0; n < 2000; n++) {
            struct buf first = {0}, second = {0};
            kinds[k].make(&first);
            struct slice value = exact(buf_slice(&first));
            assert_int_equal(kinds[k].again(&second, value), STATUS_OK);
            assert_true(slice_eq(buf_slice(&second), value));
            free((void *)value.data);
            buf_free(&first);
            buf_free(&second);
        }
    }
}

static void a_room_keeps_every_field(void **state)
{
    struct room_record r = {.tenant = 1, .room = 2, .type = ROOM_GROUP, .flags = ROOM_PRIVATE, .durability = 2,
                            .members_max = 3, .created_ms = 4, .updated_ms = 5, .created_by = 6, .retained_from = 7,
                            .name = SLICE("n"), .description = SLICE("d"), .avatar_url = SLICE("a"),
                            .unique_key = SLICE("k"), .settings = SLICE("{}"), .num_epochs = 2,
                            .epochs = {{1, 1}, {8, 9}}};
    struct buf b = {0};
    struct room_record d;
    room_record_encode(&b, &r);
    assert_int_equal(room_record_decode(&d, buf_slice(&b)), STATUS_OK);
    assert_true(d.tenant == 1 && d.room == 2 && d.type == ROOM_GROUP && d.flags == ROOM_PRIVATE && d.durability == 2);
    assert_true(d.members_max == 3 && d.created_ms == 4 && d.updated_ms == 5 && d.created_by == 6);
    assert_true(d.retained_from == 7 && slice_is(d.name, "n") && slice_is(d.description, "d"));
    assert_true(slice_is(d.avatar_url, "a") && slice_is(d.unique_key, "k") && slice_is(d.settings, "{}"));
    assert_true(d.num_epochs == 2 && d.epochs[0].epoch == 1 && d.epochs[1].epoch == 8 && d.epochs[1].first_seq == 9);
    buf_free(&b);
}

static void a_log_event_lies_in_bytes_as_documented(void **state)
{
    struct log_record r = {.tenant = 0x01020304, .room = 5, .seq = 6, .kind = LOG_MESSAGE, .flags = 9,
                           .created_ms = 0x0a0b, .sender = 7, .reply_to = 8, .sender_id = SLICE("ann"),
                           .client_id = SLICE("c"), .message_type = SLICE(""), .content = SLICE("hi"),
                           .meta = SLICE("{}")};
    static const char expected[] = "\1\0\0\0\0" "\4\3\2\1" "\5\0\0\0\0\0\0\0" "\6\0\0\0\0\0\0\0" "\1\x09"
                                   "\x0b\x0a\0\0\0\0\0\0" "\7\0\0\0\0\0\0\0" "\x08\0\0\0\0\0\0\0"
                                   "\3ann" "\1c" "\0" "\2\0\0\0hi" "\2\0\0\0{}";
    struct buf b = {0};
    log_encode(&b, &r);
    assert_int_equal(b.len, sizeof expected - 1);
    assert_memory_equal(b.data, expected, b.len);
    struct log_record d;
    assert_int_equal(log_record_decode(&d, buf_slice(&b)), STATUS_OK);
    assert_true(d.tenant == r.tenant && d.room == 5 && d.seq == 6 && d.kind == LOG_MESSAGE && d.flags == 9);
    assert_true(d.created_ms == 0x0a0b && d.sender == 7 && d.reply_to == 8 && slice_is(d.sender_id, "ann"));
    assert_true(slice_is(d.client_id, "c") && d.message_type.len == 0 && slice_is(d.content, "hi"));
    assert_true(slice_is(d.meta, "{}"));
    buf_free(&b);
}

static void a_run_lies_in_bytes_as_documented(void **state)
{
    struct fingerprint prints[] = {{0x0102030405060708, 9}, {0xff00000000000000, 4}};
    struct idempotency_run_record r = {
        .last_seq = 0x1001, .newest_ms = 0x0a0b, .prints = slice_of(prints, sizeof prints)};
    static const char expected[] = "\1\0\0\0\0" "\1\x10\0\0\0\0\0\0" "\x0b\x0a\0\0\0\0\0\0" "\2\0\0\0"
                                   "\x08\7\6\5\4\3\2\1" "\x09\0\0\0\0\0\0\0"
                                   "\0\0\0\0\0\0\0\xff" "\4\0\0\0\0\0\0\0";
    struct buf b = {0};
    idempotency_run_record_encode(&b, &r);
    assert_int_equal(b.len, sizeof expected - 1);
    assert_memory_equal(b.data, expected, b.len);
    struct idempotency_run_record d;
    assert_int_equal(idempotency_run_record_decode(&d, buf_slice(&b)), STATUS_OK);
    assert_true(d.last_seq == 0x1001 && d.newest_ms == 0x0a0b && fingerprints_len(d.prints) == 2);
    for (uint32_t i = 0; i < 2; i++) {
        struct fingerprint f = fingerprints_at(d.prints, i);
        assert_true(f.print == prints[i].print && f.seq == prints[i].seq);
    }
    buf_free(&b);
}

/* run_status puts fingerprints into a run's bytes without the encoder, which would refuse them, and decodes. */
static enum status run_status(uint64_t last_seq, const struct fingerprint *prints, uint32_t num)
{
    struct buf b = {0};
    struct idempotency_run_record r = {.last_seq = 1}, d;
    idempotency_run_record_encode(&b, &r);
    memcpy(b.data + 5, &last_seq, 8);
    memcpy(b.data + 21, &num, 4);
    buf_append(&b, prints, num * sizeof *prints);
    enum status s = idempotency_run_record_decode(&d, buf_slice(&b));
    buf_free(&b);
    return s;
}

static void a_run_out_of_order_or_out_of_its_range_is_refused(void **state)
{
    static const struct fingerprint good[] = {{1, 5}, {2, 3}, {2, 4}}, prints_fall[] = {{2, 3}, {1, 5}},
                                    seqs_fall[] = {{2, 4}, {2, 3}}, twice[] = {{2, 3}, {2, 3}}, seq_0[] = {{2, 0}};
    assert_int_equal(run_status(5, good, 3), STATUS_OK);
    assert_int_equal(run_status(4, good, 3), STATUS_CORRUPT); /* seq 5 lies behind the run */
    assert_int_equal(run_status(5, prints_fall, 2), STATUS_CORRUPT);
    assert_int_equal(run_status(5, seqs_fall, 2), STATUS_CORRUPT);
    assert_int_equal(run_status(5, twice, 2), STATUS_CORRUPT);
    assert_int_equal(run_status(5, seq_0, 1), STATUS_CORRUPT);
    assert_int_equal(run_status(5, NULL, 0), STATUS_OK);
    assert_int_equal(run_status(0, NULL, 0), STATUS_CORRUPT); /* a run ends at an event */
}

static void a_notification_lies_in_bytes_as_documented(void **state)
{
    static const char body[] = "\1\0\0\0\0" "\7\0\0\0" "\x09\0\0\0\0\0\0\0" "\6\0\0\0\0\0\0\0" "\3"
                               "\x0b\x0a\0\0\0\0\0\0" "\3ann" "\4news" "\2\0\0\0{}";
    static const char outbox[] = "\1\0\0\0\0" "\3" "\2\0\0\0" "\x0b\x0a\0\0\0\0\0\0" "\5\0\0\0\0\0\0\0"
                                 "\4\0\0\0\0\0\0\0" "\3ann";
    static const char end[] = "\1\0\0\0\0" "\3\1" "\2\0\0\0" "\4\0\0\0\0\0\0\0" "\5\0\0\0\0\0\0\0";
    static const char letter[] = "\1\0\0\0\0" "\3\1" "\2\0\0\0" "\3\0\0\0\0\0\0\0" "\4\0\0\0\0\0\0\0"
                                 "\5\0\0\0\0\0\0\0" "\3ann";
    struct buf b = {0};
    notification_record_encode(
        &b, &(struct notification_record){7, 9, 6, PRIORITY_HIGH, 0x0a0b, SLICE("ann"), SLICE("news"), SLICE("{}")});
    assert_true(slice_eq(buf_slice(&b), slice_of(body, sizeof body - 1)));
    buf_free(&b);
    outbox_record_encode(&b, &(struct outbox_record){PRIORITY_HIGH, 2, 0x0a0b, 5, 4, SLICE("ann")});
    assert_true(slice_eq(buf_slice(&b), slice_of(outbox, sizeof outbox - 1)));
    buf_free(&b);
    notification_end_record_encode(&b, &(struct notification_end_record){NOTIFICATION_DEAD, DEAD_ATTEMPTS, 2, 4, 5});
    assert_true(slice_eq(buf_slice(&b), slice_of(end, sizeof end - 1)));
    struct notification_end_record r;
    b.data[5] = NOTIFICATION_DELIVERED; /* with a reason to be dead */
    assert_int_equal(notification_end_record_decode(&r, buf_slice(&b)), STATUS_CORRUPT);
    buf_free(&b);
    dead_letter_record_encode(&b, &(struct dead_letter_record){PRIORITY_HIGH, DEAD_ATTEMPTS, 2, 3, 4, 5, SLICE("ann")});
    assert_true(slice_eq(buf_slice(&b), slice_of(letter, sizeof letter - 1)));
    buf_free(&b);
}

static void every_truncated_record_is_refused(void **state)
{
    for (size_t k = 0; k < KINDS; k++) {
        for (int n = 0; n < 20; n++) {
            struct buf whole = {0}, none = {0};
            kinds[k].make(&whole);
            for (size_t len = 0; len < whole.len; len++) {
                struct slice value = exact(slice_of(whole.data, len));
                assert_int_equal(kinds[k].again(&none, value), STATUS_CORRUPT);
                free((void *)value.data);
            }
            assert_int_equal(none.len, 0);
            buf_free(&whole);
        }
    }
}

static void a_byte_too_many_is_refused(void **state)
{
    for (size_t k = 0; k < KINDS; k++) {
        struct buf b = {0}, none = {0};
        kinds[k].make(&b);
        buf_char(&b, '\0');
        assert_int_equal(kinds[k].again(&none, buf_slice(&b)), STATUS_CORRUPT);
        buf_free(&b);
    }
}

static void unknown_versions_and_encryption_keys_are_refused(void **state)
{
    for (size_t k = 0; k < KINDS; k++) {
        for (size_t at = 0; at < 5; at++) {
            struct buf b = {0}, none = {0};
            kinds[k].make(&b);
            b.data[at] ^= 2;
            assert_int_equal(kinds[k].again(&none, buf_slice(&b)), STATUS_CORRUPT);
            buf_free(&b);
        }
    }
}

/* A flip may give another record of the right shape, but then it is exactly that record and nothing beside it. */
static void flipped_bits_decode_to_themselves_or_not_at_all(void **state)
{
    for (size_t k = 0; k < KINDS; k++) {
        for (int n = 0; n < 5; n++) {
            struct buf b = {0};
            kinds[k].make(&b);
            for (size_t bit = 0; bit < 8 * b.len; bit++) {
                b.data[bit / 8] ^= (char)(1 << bit % 8);
                struct slice value = exact(buf_slice(&b));
                struct buf second = {0};
                if (kinds[k].again(&second, value) == STATUS_OK) assert_true(slice_eq(buf_slice(&second), value));
                buf_free(&second);
                free((void *)value.data);
                b.data[bit / 8] ^= (char)(1 << bit % 8);
            }
            buf_free(&b);
        }
    }
}

static void values_outside_an_enumeration_are_refused(void **state)
{
    struct buf b = {0};
    struct log_record r = some_event(), d;
    log_encode(&b, &r);
    static const unsigned char bad_kinds[] = {0, 8, 255};
    for (size_t i = 0; i < sizeof bad_kinds; i++) {
        b.data[25] = (char)bad_kinds[i];
        assert_int_equal(log_record_decode(&d, buf_slice(&b)), STATUS_CORRUPT);
    }
    buf_free(&b);
    struct member_record m;
    member_record_encode(&b, &(struct member_record){MEMBER_ADMIN, 1, 2, SLICE("ann")});
    b.data[5] = 3;
    assert_int_equal(member_record_decode(&m, buf_slice(&b)), STATUS_CORRUPT);
    buf_free(&b);
}

static void more_epochs_than_are_kept_are_refused(void **state)
{
    struct room_record r = {.type = ROOM_GROUP, .num_epochs = ROOM_EPOCHS_MAX}, d;
    struct buf b = {0};
    room_record_encode(&b, &r);
    size_t count_at = b.len - ROOM_EPOCHS_MAX * 16 - 2;
    assert_int_equal((unsigned char)b.data[count_at], ROOM_EPOCHS_MAX);
    b.data[count_at]++;
    static const char one_more[16];
    buf_append(&b, one_more, sizeof one_more);
    assert_int_equal(room_record_decode(&d, buf_slice(&b)), STATUS_CORRUPT);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_decode_to_what_was_encoded),
        cmocka_unit_test(a_room_keeps_every_field),
        cmocka_unit_test(a_log_event_lies_in_bytes_as_documented),
        cmocka_unit_test(a_run_lies_in_bytes_as_documented),
        cmocka_unit_test(a_run_out_of_order_or_out_of_its_range_is_refused),
        cmocka_unit_test(a_notification_lies_in_bytes_as_documented),
        cmocka_unit_test(every_truncated_record_is_refused),
        cmocka_unit_test(a_byte_too_many_is_refused),
        cmocka_unit_test(unknown_versions_and_encryption_keys_are_refused),
        cmocka_unit_test(flipped_bits_decode_to_themselves_or_not_at_all),
        cmocka_unit_test(values_outside_an_enumeration_are_refused),
        cmocka_unit_test(more_epochs_than_are_kept_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
