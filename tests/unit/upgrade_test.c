#include "harness.h"

#include <stdio.h>
#include <string.h>

/* The WebSocket handshake (RFC 6455 section 4.2). */

/* handshake sends a request for /ws with these headers, and the tenant's key. */
static unsigned handshake(struct client *c, const char *path, const char *headers)
{
    return client_call(c, "GET", path, "ann", headers, NULL);
}

#define GOOD "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static void a_handshake_is_accepted_on_every_path(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    static const char *const paths[] = {"/ws", "/v1/ws", "/api/v1/ws"};
    for (unsigned i = 0; i < 3; i++) {
        struct client *c = client_open(h, i % 2);
        assert_int_equal(handshake(c, paths[i], GOOD KEY), 101);
        expect_text(c->head.data, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
        expect_no_text(c->head.data, "Sec-WebSocket-Protocol");
        client_hears_nothing(c);
    }
    assert_int_equal(harness_core(h, 0)->num_sessions, 2);
    assert_int_equal(harness_core(h, 1)->num_sessions, 1);
}

static void the_subprotocol_is_found_wherever_it_is_offered(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    static const struct {
        const char *headers;
        bool found;
    } rows[] = {
        {GOOD KEY "Sec-WebSocket-Protocol: carillon.v1.json\r\n", true},
        {GOOD KEY "Sec-WebSocket-Protocol: other,\t carillon.v1.json ,more\r\n", true},
        {GOOD KEY "Sec-WebSocket-Protocol: other\r\nsec-websocket-protocol: carillon.v1.json\r\n", true},
        {GOOD KEY "Sec-WebSocket-Protocol: carillon.v1.jsonx, xcarillon.v1.json\r\n", false},
        {GOOD KEY "Sec-WebSocket-Protocol: ,,other,\r\n", false},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct client *c = client_open(h, 0);
        assert_int_equal(handshake(c, "/ws", rows[i].headers), 101);
        if (rows[i].found)
            expect_text(c->head.data, "Sec-WebSocket-Protocol: carillon.v1.json\r\n");
        else
            expect_no_text(c->head.data, "Sec-WebSocket-Protocol");
    }
}

static void a_socket_of_a_ticket_is_charged_to_its_tenant(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    char path[512];
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/auth/tickets", "ann", "", "{}"), 201);
    const char *ticket = strstr(c->text.data, "\"ticket\":\"");
    assert_non_null(ticket);
    ticket += strlen("\"ticket\":\"");
    snprintf(path, sizeof path, "/ws?ticket=%.*s", (int)strcspn(ticket, "\""), ticket);
    client_close(c);
    assert_int_equal(client_call(client_open(h, 0), "GET", path, NULL, GOOD KEY, NULL), 101);
    struct core *core = harness_core(h, 0);
    uint32_t at = 0;
    for (struct conn *conn; (conn = net_each(core->net, &at));)
        if (conn_is_websocket(conn))
            assert_ptr_equal(conn_charged(conn), &directory_tenant(&core->directory, h->tenant)->answers);
    assert_int_equal(core->num_sessions, 1);
}

static void a_faulty_handshake_is_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    static const struct {
        const char *headers;
        unsigned status;
    } rows[] = {
        {"", 400},
        {"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" KEY, 400},
        {"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" KEY, 400},
        {"Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" KEY, 400},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY, 426},
        {"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n" KEY, 426},
        {GOOD, 400},
        {GOOD KEY KEY, 400},
        {GOOD "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n", 400},
        {GOOD "Sec-WebSocket-Key: not base64 of sixteen!!==\r\n", 400},
    };
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned status = handshake(c, "/ws", rows[i].headers);
        if (status != rows[i].status) fail_msg("row %u: %u", i, status);
        if (status == 426) expect_text(c->head.data, "Sec-WebSocket-Version: 13\r\n");
    }
    assert_int_equal(harness_core(h, 0)->num_sessions, 0);
}

static void a_device_is_named_by_header_or_query(void **state)
{
    struct harness *h = *state;
    char headers[256];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    harness_ack(h, 0, &ann, room, "my phone", 3, false);
    harness_settle(h);
    struct client *by_header = client_open(h, 0), *by_query = client_open(h, 0), *too_long = client_open(h, 0);
    assert_int_equal(handshake(by_header, "/ws", GOOD KEY "X-Device-Id: my phone\r\n"), 101);
    assert_int_equal(number_in(client_hear(by_header), "from"), 4);
    assert_int_equal(handshake(by_query, "/ws?device=my%20phone", GOOD KEY), 101);
    assert_int_equal(number_in(client_hear(by_query), "from"), 4);
    snprintf(headers, sizeof headers, GOOD KEY "X-Device-Id: %065d\r\n", 1);
    assert_int_equal(handshake(too_long, "/ws", headers), 400);
    snprintf(headers, sizeof headers, "/ws?device=%065d", 1);
    assert_int_equal(handshake(too_long, headers, GOOD KEY), 400);
}

/* ticket_path writes the path of a handshake with a new ticket of "ann". */
static void ticket_path(struct harness *h, char *out, size_t size, const char *more)
{
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/auth/tickets", "ann", "", NULL), 201);
    const char *ticket = strstr(c->text.data, "\"ticket\":\"") + strlen("\"ticket\":\"");
    snprintf(out, size, "/ws?ticket=%.*s%s", (int)strcspn(ticket, "\""), ticket, more);
}

static unsigned ticket_handshake(struct client *c, const char *path, const char *headers)
{
    return client_call(c, "GET", path, NULL, headers, NULL);
}

static void a_handshake_that_is_refused_leaves_its_ticket_good(void **state)
{
    struct harness *h = *state;
    char path[512];
    harness_open(h, 2);
    ticket_path(h, path, sizeof path, "");
    struct client *c = client_open(h, 1);
    assert_int_equal(ticket_handshake(c, path, "Upgrade: websocket\r\nConnection: Upgrade\r\n" KEY), 426);
    c = client_open(h, 1);
    atomic_store(&h->gateway.disk, DISK_RESERVE); /* "ann" is not there yet, and cannot be made */
    assert_int_equal(ticket_handshake(c, path, GOOD KEY), 507);
    atomic_store(&h->gateway.disk, DISK_OK);
    c = client_open(h, 0);
    assert_int_equal(ticket_handshake(c, path, GOOD KEY), 101);
    c = client_open(h, 1);
    assert_int_equal(ticket_handshake(c, path, GOOD KEY), 401);
    assert_int_equal(harness_core(h, 0)->num_sessions + harness_core(h, 1)->num_sessions, 1);
}

static void an_old_ticket_makes_no_user(void **state)
{
    struct harness *h = *state;
    char path[512];
    harness_open(h, 1);
    ticket_path(h, path, sizeof path, "");
    harness_advance(h, TICKET_LIFE_MS);
    harness_settle(h);
    uint64_t rows = kv_sequence(h->kv);
    assert_int_equal(ticket_handshake(client_open(h, 0), path, GOOD KEY), 401);
    assert_int_equal(kv_sequence(h->kv), rows);
}

static void beside_a_ticket_the_query_names_the_device(void **state)
{
    struct harness *h = *state;
    char path[512];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 3);
    harness_ack(h, 0, &ann, room, "my phone", 3, false);
    harness_ack(h, 0, &ann, room, "old phone", 1, false);
    harness_settle(h);
    struct client *c = client_open(h, 0);
    ticket_path(h, path, sizeof path, "&device=my%20phone");
    assert_int_equal(ticket_handshake(c, path, GOOD KEY "X-Device-Id: old phone\r\n"), 101);
    assert_int_equal(number_in(client_hear(c), "from"), 4);
}

static void a_stopping_server_opens_no_sockets(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200); /* accepted before it stops accepting */
    atomic_store(&h->gateway.draining, true);
    assert_int_equal(handshake(c, "/ws", GOOD KEY), 503);
    expect_text(c->text.data, "\"code\":\"server.draining\"");
}

/* handshake_held sends a handshake that waits until readers go on. */
static struct client *handshake_held(struct harness *h)
{
    struct client *c = client_open(h, 0);
    h->hold_readers = true; /* the user is being looked for */
    struct buf request = {0};
    buf_printf(&request, "GET /ws HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: ann\r\n" GOOD KEY "\r\n",
               h->api_key);
    client_send(c, buf_slice(&request));
    buf_free(&request);
    for (unsigned i = 0; i < 20; i++) harness_settle(h);
    return c;
}

static void a_key_revoked_during_the_handshake_opens_no_socket(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = handshake_held(h);
    directory_authenticate(harness_core(h, 0), slice_str(h->api_key))->state = KEY_REVOKED;
    h->hold_readers = false;
    assert_int_equal(client_answer(c), 401);
    assert_int_equal(harness_core(h, 0)->num_sessions, 0);
}

static void a_tenant_switched_off_during_the_handshake_opens_no_socket(void **state)
{
    static const struct {
        enum tenant_state becomes;
        unsigned status;
        const char *code;
    } rows[] = {{TENANT_DISABLED, 403, "\"code\":\"tenant.disabled\""},
                {TENANT_DELETED, 401, "\"code\":\"auth.invalid_key\""}};
    struct harness *h = *state;
    harness_open(h, 1);
    for (unsigned i = 0; i < 2; i++) {
        struct tenant *t = directory_tenant(&harness_core(h, 0)->directory, h->tenant);
        t->state = TENANT_ACTIVE;
        struct client *c = handshake_held(h);
        t->state = (uint8_t)rows[i].becomes;
        h->hold_readers = false;
        assert_int_equal(client_answer(c), rows[i].status);
        expect_text(c->text.data, rows[i].code);
        assert_int_equal(harness_core(h, 0)->num_sessions, 0);
        harness_restart(h, END_CLEAN); /* forgets the user, who was made */
    }
}

static void a_failed_store_serves_those_it_knows(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    harness_person(h, "ann");
    harness_restart(h, END_CLEAN);
    kv_fake_fail(h->kv, true, true);
    struct client *known = client_open(h, 0), *unknown = client_open(h, 0);
    assert_int_equal(client_upgrade(known, "ann", WITH_SUBPROTOCOL), 101);
    assert_int_equal(client_upgrade(unknown, "never seen", WITH_SUBPROTOCOL), 503);
}

static void the_echo_socket_echoes(void **state)
{
    struct harness *h = *state;
    h->config.debug_echo = true;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/debug/ws-echo", NULL, GOOD KEY, NULL), 101);
    client_say(c, "not even json");
    assert_string_equal(client_hear(c), "not even json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_handshake_is_accepted_on_every_path), TEST(the_subprotocol_is_found_wherever_it_is_offered),
        TEST(a_faulty_handshake_is_refused),         TEST(a_device_is_named_by_header_or_query),
        TEST(a_handshake_that_is_refused_leaves_its_ticket_good),
        TEST(an_old_ticket_makes_no_user),
        TEST(a_socket_of_a_ticket_is_charged_to_its_tenant),
        TEST(beside_a_ticket_the_query_names_the_device),
        TEST(a_device_is_named_by_header_or_query),
        TEST(a_stopping_server_opens_no_sockets),
        TEST(a_key_revoked_during_the_handshake_opens_no_socket),
        TEST(a_tenant_switched_off_during_the_handshake_opens_no_socket),
        TEST(a_failed_store_serves_those_it_knows),  TEST(the_echo_socket_echoes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
