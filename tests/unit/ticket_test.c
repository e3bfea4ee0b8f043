#include "../../src/auth/ticket.h"

#include <stdlib.h>
#include <string.h>

#include "harness.h"

/* Tickets: what their text gives away and withstands, and that one opens one socket. */

static const uint8_t secret[TICKET_SECRET_BYTES] = "a secret of thirty-two bytes ...";

static struct ticket ticket_of(const char *user, uint64_t expires_ns, uint8_t nonce)
{
    struct ticket t = {.key_id = SLICE("0123456789ab"), .user_id = slice_str(user), .expires_ns = expires_ns};
    memset(t.nonce, nonce, sizeof t.nonce);
    return t;
}

static bool readable(const char *text, size_t len)
{
    struct ticket t;
    uint8_t bytes[TICKET_BYTES_MAX];
    char *exact = malloc(len ? len : 1); /* so that a read beyond it is found */
    memcpy(exact, text, len);
    bool read = ticket_read(&t, bytes, secret, slice_of(exact, len));
    free(exact);
    return read;
}

/* --- the text ---------------------------------------------------------------------------------- */

static void what_was_written_is_read(void **state)
{
    char user[USER_ID_BYTES_MAX + 1] = "", text[TICKET_TEXT_MAX];
    for (unsigned len = 1; len <= USER_ID_BYTES_MAX; len++) { /* every remainder of three */
        user[len - 1] = (char)('a' + len % 26);
        struct ticket t = ticket_of(user, 0x0123456789abcdefu + len, (uint8_t)(0xf8 + len)), back;
        uint8_t bytes[TICKET_BYTES_MAX];
        size_t text_len = ticket_write(text, secret, &t);
        for (size_t i = 0; i < text_len; i++) /* what may stand in a query as it is */
            assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", text[i]));
        assert_true(ticket_read(&back, bytes, secret, slice_of(text, text_len)));
        assert_true(slice_eq(back.key_id, t.key_id));
        assert_true(slice_eq(back.user_id, t.user_id));
        assert_true(back.expires_ns == t.expires_ns);
        assert_memory_equal(back.nonce, t.nonce, sizeof t.nonce);
    }
}

static void every_character_counts(const char *user)
{
    char text[TICKET_TEXT_MAX], wrong[TICKET_TEXT_MAX + 1];
    struct ticket t = ticket_of(user, 1, 2);
    size_t len = ticket_write(text, secret, &t);
    assert_true(readable(text, len));
    for (size_t i = 0; i < len; i++) {
        memcpy(wrong, text, len);
        wrong[i] = wrong[i] == 'A' ? 'B' : 'A';
        assert_false(readable(wrong, len));
        assert_false(readable(text, i));
    }
    memcpy(wrong, text, len);
    wrong[len] = 'A';
    assert_false(readable(wrong, len + 1));
    if (len % 4 == 0) return;
    wrong[len - 1]++; /* differs in a bit that stands for nothing */
    assert_false(readable(wrong, len));
}

static void every_character_of_a_ticket_counts(void **state)
{
    every_character_counts("ann"); /* 72 bytes: no character has bits to spare; then four, then two */
    every_character_counts("anna");
    every_character_counts("annie");
}

static void what_is_no_ticket_is_not_read(void **state)
{
    char long_text[TICKET_TEXT_MAX + 4];
    memset(long_text, 'A', sizeof long_text);
    for (size_t len = 0; len <= sizeof long_text; len++) assert_false(readable(long_text, len));
    assert_false(readable("====", 4));
    assert_false(readable("\0\0\0\0", 4));
    assert_false(readable("++//", 4));
}

static void a_ticket_of_another_secret_is_not_read(void **state)
{
    uint8_t other[TICKET_SECRET_BYTES] = "another";
    char text[TICKET_TEXT_MAX];
    struct ticket t = ticket_of("ann", 1, 2);
    assert_false(readable(text, ticket_write(text, other, &t)));
}

/* --- through the gateway ------------------------------------------------------------------------------- */

#define UPGRADE \
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" WITH_SUBPROTOCOL

struct path {
    char text[TICKET_TEXT_MAX + 32];
};

/* path_of asks for a ticket and returns the path that uses it. */
static struct path path_of(struct harness *h, unsigned core, const char *user)
{
    struct path p = {"/ws?ticket="};
    struct client *c = client_open(h, core);
    assert_int_equal(client_call(c, "POST", "/v1/auth/tickets", user, "", NULL), 201);
    const char *from = strstr(c->text.data, "{\"ticket\":\"") + 11;
    strncat(p.text, from, strcspn(from, "\""));
    client_close(c);
    return p;
}

static unsigned use(struct harness *h, unsigned core, const struct path *p, const char *headers)
{
    struct client *c = client_open(h, core);
    unsigned status = client_call(c, "GET", p->text, NULL, headers, NULL);
    if (status == 401) expect_text(c->text.data, "\"code\":\"auth.invalid_ticket\"");
    if (status == 403) expect_text(c->text.data, "\"code\":\"auth.origin_forbidden\"");
    return status;
}

static void one_ticket_opens_one_socket_over_all_cores(void **state)
{
    struct harness *h = *state;
    harness_open(h, 3);
    for (unsigned made = 0; made < 3; made++) {
        for (unsigned first = 0; first < 3; first++) {
            struct path p = path_of(h, made, "ann");
            assert_int_equal(use(h, first, &p, UPGRADE), 101);
            for (unsigned again = 0; again < 3; again++) assert_int_equal(use(h, again, &p, UPGRADE), 401);
        }
    }
}

static void a_ticket_names_its_user(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct path p = path_of(h, 0, "ann");
    struct client *c = client_open(h, 1);
    assert_int_equal(client_call(c, "GET", p.text, NULL, UPGRADE, NULL), 101);
    client_say(c, "{\"type\":\"hello\",\"id\":1}");
    expect_text(client_hear(c), "\"user_id\":\"ann\"");
}

static void a_ticket_ends_when_its_answer_says(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/auth/tickets", "ann", "", NULL), 201);
    expect_text(c->head.data, "Cache-Control: no-store\r\n");
    expect_text(c->text.data, "\"expires_at\":\"2026-01-01T00:00:30.000Z\"");
    struct path in_time = path_of(h, 0, "ann"), late = path_of(h, 0, "ann");
    harness_advance(h, TICKET_LIFE_MS - 1);
    assert_int_equal(use(h, 1, &in_time, UPGRADE), 101);
    harness_advance(h, 1);
    assert_int_equal(use(h, 1, &late, UPGRADE), 401);
}

static void a_ticket_does_not_outlive_the_process_that_remembers_its_use(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct path p = path_of(h, 0, "ann");
    harness_restart(h, END_CLEAN);
    assert_int_equal(use(h, 0, &p, UPGRADE), 401);
}

static void a_handshake_that_fails_does_not_use_a_ticket_up(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct path p = path_of(h, 0, "ann"), faulty = p;
    strcat(faulty.text, "&device=%FF"); /* not UTF-8 */
    assert_int_equal(use(h, 0, &p, ""), 400);
    assert_int_equal(use(h, 0, &faulty, UPGRADE), 400);
    assert_int_equal(use(h, 0, &p, UPGRADE "Origin: https://elsewhere.example\r\n"), 403);
    atomic_store(&h->gateway.disk, DISK_RESERVE); /* "ann" is not there yet, and cannot be made */
    assert_int_equal(use(h, 1, &p, UPGRADE), 507);
    atomic_store(&h->gateway.disk, DISK_OK);
    assert_int_equal(use(h, 1, &p, UPGRADE), 101);
    assert_int_equal(use(h, 0, &p, UPGRADE), 401);
}

static void an_old_ticket_makes_no_user(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct path p = path_of(h, 0, "ann");
    harness_advance(h, TICKET_LIFE_MS);
    harness_settle(h);
    uint64_t rows = kv_sequence(h->kv);
    assert_int_equal(use(h, 0, &p, UPGRADE), 401);
    assert_int_equal(kv_sequence(h->kv), rows);
}

static void beside_a_ticket_the_query_names_the_device(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    harness_ack(h, 0, &ann, room, "new", 3, false);
    harness_ack(h, 0, &ann, room, "old", 1, false);
    harness_settle(h);
    struct path p = path_of(h, 0, "ann");
    strcat(p.text, "&device=new");
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", p.text, NULL, UPGRADE "X-Device-Id: old\r\n", NULL), 101);
    client_say(c, HELLO_ALL);
    expect_text(client_hear(c), "\"delivered\":3");
}

static void what_is_no_ticket_opens_nothing_even_beside_a_key(void **state)
{
    struct harness *h = *state;
    static const char *const queries[] = {"/ws?ticket=", "/ws?ticket=x", "/ws?ticket=%00", "/ws?a=b&ticket=AAAA"};
    harness_open(h, 1);
    for (unsigned i = 0; i < 4; i++) {
        struct client *c = client_open(h, 0);
        assert_int_equal(client_call(c, "GET", queries[i], "ann", UPGRADE, NULL), 401);
        expect_text(c->text.data, "\"code\":\"auth.invalid_ticket\"");
    }
}

static struct answer *key_take(struct harness *h, const char *key)
{
    struct op *op = harness_op(h, 0, OP_KEY_REVOKE, NULL, 0, 16);
    op->tenant = h->tenant;
    op->in.directory.prefix = op_keep(op, slice_of(key + 3, API_KEY_ID_LEN));
    return harness_go(h, op);
}

static void a_ticket_ends_with_its_key(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct path p = path_of(h, 0, "ann"), other = path_of(h, 0, "ann");
    struct client *open = client_open(h, 0), *c = client_open(h, 1);
    assert_int_equal(client_call(open, "GET", other.text, NULL, UPGRADE, NULL), 101);
    expect_ok(settled(h, key_take(h, h->api_key)));
    assert_int_equal(client_call(c, "GET", p.text, NULL, UPGRADE, NULL), 401);
    expect_text(c->text.data, "\"code\":\"auth.invalid_key\"");
    assert_int_equal(client_hear_close(open), 4004);
}

static void a_page_of_another_origin_opens_nothing_unless_it_is_listed(void **state)
{
    struct harness *h = *state;
    static const struct {
        const char *listed, *origin;
        bool allowed;
    } rows[] = {
        {"", "http://bells", true}, /* the Host of the harness' requests */
        {"", "https://BELLS", true},
        {"", "http://bells:81", false},
        {"", "http://bell", false},
        {"", "http://", false},
        {"", "http://other.example", false},
        {"", "http://bells.example", false},
        {"", "ftp://bells", false},
        {"", "null", false},
        {"https://a.example, http://b.example:81", "http://b.example:81", true},
        {"https://a.example, http://b.example:81", "http://b.example", false},
        {"https://a.example, http://b.example:81", "http://a.example", false},
        {"*", "null", true},
    };
    harness_open(h, 1);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char headers[512];
        free(h->config.cors_origins);
        h->config.cors_origins = strdup(rows[i].listed);
        snprintf(headers, sizeof headers, "%sOrigin: %s\r\n", UPGRADE, rows[i].origin);
        struct path p = path_of(h, 0, "ann");
        assert_int_equal(use(h, 0, &p, headers), rows[i].allowed ? 101 : 403);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(every_character_of_a_ticket_counts),
        cmocka_unit_test(what_is_no_ticket_is_not_read),
        cmocka_unit_test(a_ticket_of_another_secret_is_not_read),
        TEST(one_ticket_opens_one_socket_over_all_cores),
        TEST(a_ticket_names_its_user),
        TEST(a_ticket_ends_when_its_answer_says),
        TEST(a_ticket_does_not_outlive_the_process_that_remembers_its_use),
        TEST(a_handshake_that_fails_does_not_use_a_ticket_up),
        TEST(an_old_ticket_makes_no_user),
        TEST(beside_a_ticket_the_query_names_the_device),
        TEST(what_is_no_ticket_opens_nothing_even_beside_a_key),
        TEST(a_ticket_ends_with_its_key),
        TEST(a_page_of_another_origin_opens_nothing_unless_it_is_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
