#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/history.h"
#include "../../src/chat/ids.h"
#include "kv_row.h"

/* Pages of a room's log, and reading it in pieces. */

#define NONE UINT64_MAX

/* page reads a page; NONE leaves a bound out. */
static const char *page(struct harness *h, const struct person *who, uint64_t room, uint64_t after, uint64_t before,
                        uint32_t limit, bool messages_only)
{
    struct op *op = harness_op(h, h->gateway.num_cores - 1, OP_ROOM_HISTORY, who, room, 0);
    op->in.history.has_after = after != NONE;
    op->in.history.after_seq = after;
    op->in.history.has_before = before != NONE;
    op->in.history.before_seq = before;
    op->in.history.limit = limit;
    op->in.history.messages_only = messages_only;
    struct answer *a = settled(h, harness_go(h, op));
    expect_ok(a);
    return a->out.data;
}

/* expect_page holds the seqs of a page, and its `next`, against what they should be. */
static void expect_page(const char *json, uint64_t first, uint64_t last, const char *next)
{
    const char *at = json;
    expect_text(json, next);
    assert_int_equal(count_in(json, "\"seq\":"), last + 1 - first);
    for (uint64_t seq = first; seq <= last; seq++) {
        at = strstr(at, "\"seq\":") + 6;
        assert_int_equal(strtoull(at, NULL, 10), seq);
    }
}

static void pages_go_forward_from_a_seq(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 10);
    expect_page(page(h, &ann, room, NONE, NONE, 4, true), 1, 4, "\"next\":\"4\"");
    expect_page(page(h, &ann, room, 4, NONE, 4, true), 5, 8, "\"next\":\"8\"");
    expect_page(page(h, &ann, room, 8, NONE, 4, true), 9, 10, "\"next\":null");
    expect_page(page(h, &ann, room, 6, NONE, 4, true), 7, 10, "\"next\":null"); /* full, and nothing behind it */
    expect_page(page(h, &ann, room, 10, NONE, 4, true), 1, 0, "\"items\":[],\"next\":null");
    expect_page(page(h, &ann, room, NONE - 1, NONE, 4, true), 1, 0, "\"items\":[],\"next\":null");
}

static void pages_go_back_from_a_seq_in_ascending_order(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 10);
    expect_page(page(h, &ann, room, NONE, NONE - 1, 3, true), 8, 10, "\"next\":null");
    expect_page(page(h, &ann, room, NONE, 8, 3, true), 5, 7, "\"next\":null");
    expect_page(page(h, &ann, room, NONE, 3, 5, true), 1, 2, "\"next\":null");
    expect_page(page(h, &ann, room, NONE, 1, 5, true), 1, 0, "\"items\":[]");
    expect_page(page(h, &ann, room, NONE, 0, 5, true), 1, 0, "\"items\":[]");
    expect_page(page(h, &ann, room, 2, 6, 50, true), 3, 5, "\"next\":null"); /* both bounds */
    expect_page(page(h, &ann, room, 2, 6, 2, true), 3, 4, "\"next\":\"4\"");
}

static void messages_are_told_apart_from_events(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    settled(h, harness_send(h, 0, &ann, room, "one"));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room));
    settled(h, harness_send(h, 0, &bob, room, "three"));
    const char *messages = page(h, &ann, room, NONE, NONE, 50, true);
    assert_int_equal(count_in(messages, "\"seq\":"), 2);
    expect_no_text(messages, "user_joined");
    expect_no_text(messages, "\"type\":");
    expect_text(messages, "\"edited_at\":null,\"deleted_at\":null}");
    const char *last_one = page(h, &ann, room, NONE, NONE - 1, 1, true);
    assert_int_equal(number_in(last_one, "seq"), 3);
    const char *last_two = page(h, &ann, room, NONE, NONE - 1, 2, true); /* the join in between does not count */
    assert_int_equal(number_in(last_two, "seq"), 1);
    expect_page(page(h, &ann, room, NONE, NONE, 50, false), 1, 3, "\"type\":\"user_joined\"");
}

static void an_event_is_the_same_text_in_every_way_to_read_it(void **state)
{
    struct harness *h = *state;
    char pushed[512];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    struct client *c = socket_open(h, 0, "ann", HELLO_ALL);
    harness_send_once(h, 0, &ann, room, "ding \"dong\" \xc3\xa9", "a");
    snprintf(pushed, sizeof pushed, "%s", client_hear(c));
    expect_text(page(h, &ann, room, NONE, NONE, 50, false), pushed);
    struct client *replayed = socket_open(h, 0, "ann", NULL);
    client_say(replayed, "{\"type\":\"hello\",\"resume\":{\"%s\":[1,0]}}", room_name(room).text);
    client_hear(replayed);
    client_hear(replayed);
    assert_string_equal(client_hear(replayed), pushed);
}

static void one_message_is_found_by_its_seq(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct person ann = harness_person(h, "ann"), bob = harness_person(h, "bob");
    uint64_t room = harness_room(h, ROOM_GROUP, ROOM_HISTORY_SINCE_JOIN, PEOPLE(&ann));
    settled(h, harness_send(h, 0, &ann, room, "one"));
    settled(h, harness_ask(h, 0, OP_ROOM_JOIN, &bob, room));
    settled(h, harness_send(h, 0, &ann, room, "three"));
    static const struct {
        bool by_bob;
        uint64_t seq;
        bool found;
    } rows[] = {{false, 1, true},  {false, 2, false}, {false, 3, true},
                {false, 4, false}, {true, 1, false},  {true, 3, true}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct op *op = harness_op(h, 1, OP_ROOM_HISTORY, rows[i].by_bob ? &bob : &ann, room, 0);
        op->in.history.single = rows[i].seq;
        struct answer *a = settled(h, harness_go(h, op));
        if (rows[i].found) {
            expect_ok(a);
            assert_int_equal(number_in(a->out.data, "seq"), rows[i].seq);
        } else {
            expect_error(a, ERR_MESSAGE_NOT_FOUND);
            assert_string_equal(a->out.data, "");
        }
    }
}

static void a_page_ends_early_when_it_is_long_and_goes_on(void **state)
{
    struct harness *h = *state;
    static char content[40000];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    memset(content, 'x', sizeof content - 1);
    for (unsigned i = 0; i < 130; i++) harness_send(h, 0, &ann, room, content);
    harness_settle(h);
    const char *first = page(h, &ann, room, NONE, NONE, 1000, true);
    unsigned num = count_in(first, "\"seq\":");
    assert_in_range(num, 100, 110); /* HISTORY_BYTES_MAX is 4 MiB */
    const char *next = strstr(first, "\"next\":\"");
    assert_non_null(next);
    assert_int_equal(strtoull(next + 8, NULL, 10), num);
    assert_int_equal(count_in(page(h, &ann, room, num, NONE, 1000, true), "\"seq\":"), 130 - num);
}

static void a_hole_in_the_log_is_never_passed_over(void **state)
{
    struct harness *h = *state;
    struct key key;
    struct buf out = {0};
    uint32_t num;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 5);
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_JSON, h->tenant, room, 2, 4, 10, 1 << 20), STATUS_OK);
    assert_int_equal(num, 3);
    out.len = 0;
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_JSON, h->tenant, room, 2, 4, 2, 1 << 20), STATUS_OK);
    assert_int_equal(num, 2);
    out.len = 0;
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_FRAMES, h->tenant, room, 1, 5, 10, 1), STATUS_OK);
    assert_int_equal(num, 1); /* one at least, however few bytes */
    key_log(&key, h->tenant, room, 3);
    kv_row_delete(h->kv, KV_LOG, &key);
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_JSON, h->tenant, room, 2, 4, 10, 1 << 20), STATUS_CORRUPT);
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_JSON, h->tenant, room, 3, 3, 10, 1 << 20), STATUS_CORRUPT);
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_JSON, h->tenant, room, 6, 5, 10, 1 << 20), STATUS_OK);
    assert_int_equal(num, 0);
    buf_free(&out);
}

static void a_row_of_another_room_is_refused(void **state)
{
    struct harness *h = *state;
    struct key key;
    struct buf value = {0}, out = {0};
    uint32_t num;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann)), other = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    harness_fill(h, &ann, other, 1);
    key_log(&key, h->tenant, other, 1);
    assert_int_equal(kv_get(h->kv, KV_LOG, key_slice(&key), &value), STATUS_OK);
    key_log(&key, h->tenant, room, 1);
    kv_row_put(h->kv, KV_LOG, &key, buf_slice(&value));
    assert_int_equal(history_read(&out, &num, h->kv, HISTORY_JSON, h->tenant, room, 1, 1, 10, 1 << 20), STATUS_CORRUPT);
    assert_int_equal(out.len, 0);
    expect_error(settled(h, harness_events(h, 0, &ann, room, 0)), ERR_STORE_READ_FAILED);
    buf_free(&value);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pages_go_forward_from_a_seq),
        TEST(pages_go_back_from_a_seq_in_ascending_order),
        TEST(messages_are_told_apart_from_events),
        TEST(an_event_is_the_same_text_in_every_way_to_read_it),
        TEST(one_message_is_found_by_its_seq),
        TEST(a_page_ends_early_when_it_is_long_and_goes_on),
        TEST(a_hole_in_the_log_is_never_passed_over),
        TEST(a_row_of_another_room_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
