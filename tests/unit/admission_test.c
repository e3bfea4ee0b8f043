#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../../src/api/admission.h"

/* What requests and operations are held against when memory is short. Rates: rate_limit_test, and from outside. */

#define TEXT_LEN 10000

static void memory(struct harness *h, enum memory_state state)
{
    atomic_store(&h->gateway.memory, state);
    harness_settle(h);
    harness_turns(h);
}

static void a_process_short_of_memory_takes_no_requests_of_tenants(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/v1/users/me", "ann", "", NULL), 200);
    memory(h, MEMORY_FULL);
    assert_int_equal(client_call(c, "GET", "/v1/users/me", "ann", "", NULL), 503);
    expect_text(c->text.data, "\"code\":\"server.overloaded\"");
    expect_text(c->head.data, "Retry-After: 1\r\n");
    assert_int_equal(client_upgrade(client_open(h, 0), "ann", WITH_SUBPROTOCOL), 503);
    /* whoever watches and whoever mends are served */
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
    assert_int_equal(client_call(c, "GET", "/ready", NULL, "", NULL), 503);
    assert_int_equal(client_call(c, "GET", "/v1/admin/tenants", NULL, OPERATOR, NULL), 200);
    memory(h, MEMORY_OK);
    assert_int_equal(client_call(c, "GET", "/v1/users/me", "ann", "", NULL), 200);
    assert_int_equal(client_call(c, "GET", "/ready", NULL, "", NULL), 200);
}

static void open_sockets_are_told_that_memory_is_short_and_may_still_let_go(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    struct client *open = socket_open(h, 0, "ann", HELLO_NONE), *early = socket_open(h, 0, "ann", NULL);
    memory(h, MEMORY_FULL);
    client_say(open, "{\"type\":\"send_message\",\"id\":1,\"room_id\":\"%s\",\"content\":\"x\"}", room_name(room).text);
    expect_text(client_hear(open), "\"code\":\"server.overloaded\"");
    expect_text(open->text.data, "\"temporary\":true");
    client_say(open, "{\"type\":\"ack\",\"id\":2,\"room_id\":\"%s\",\"seq\":1}", room_name(room).text);
    expect_text(client_hear(open), "{\"type\":\"ok\",\"re\":2}");
    client_say(early, HELLO_NONE);
    assert_int_equal(client_hear_close(early), 4100);
    memory(h, MEMORY_OK);
    client_say(open, "{\"type\":\"send_message\",\"id\":3,\"room_id\":\"%s\",\"content\":\"x\"}", room_name(room).text);
    expect_text(client_hear(open), "\"re\":3");
    expect_text(open->text.data, "\"type\":\"ok\"");
}

/* --- answers that nobody reads ----------------------------------------------------------------------- */

/* a_full_room has a page that no socket buffer holds. */
static uint64_t a_full_room(struct harness *h, const struct person *who)
{
    static char text[TEXT_LEN + 1];
    memset(text, 'x', TEXT_LEN);
    uint64_t room = harness_room(h, ROOM_GROUP, 0, PEOPLE(who));
    for (unsigned i = 0; i < 100; i++) expect_ok(settled(h, harness_send(h, 0, who, room, text)));
    return room;
}

static struct client *client_that_does_not_read(struct harness *h, uint64_t room)
{
    int bytes = 8192;
    assert_int_equal(setsockopt(h->listen_fd[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    struct client *c = client_open(h, 0);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    struct buf request = {0};
    buf_printf(&request,
               "GET /v1/rooms/%s/messages?limit=1000 HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: ann\r\n\r\n",
               room_name(room).text, h->api_key);
    client_send(c, buf_slice(&request));
    buf_free(&request);
    harness_settle(h);
    return c;
}

/* other_tenant makes one and writes the header that names its key. */
static void other_tenant(struct harness *h, char header[128])
{
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"b\"}"),
                     201);
    const char *key = strstr(c->text.data, "\"ck_");
    assert_non_null(key);
    snprintf(header, 128, "X-API-Key: %.*s\r\nX-User-Id: bob\r\n", (int)strcspn(key + 1, "\""), key + 1);
    client_close(c);
}

static void one_tenants_unread_answers_leave_room_for_the_others(void **state)
{
    struct harness *h = *state;
    char other[128];
    harness_open(h, 1);
    other_tenant(h, other);
    struct person ann = harness_person(h, "ann");
    uint64_t room = a_full_room(h, &ann);
    struct core *core = harness_core(h, 0);
    struct client *stalled = client_that_does_not_read(h, room), *c = client_open(h, 0);
    size_t held = net_reply_bytes(core->net);
    assert_in_range(held, 500000, 1100000);
    assert_int_equal(directory_tenant(&core->directory, h->tenant)->answers.bytes, held);

    core->replies_bytes_max = held + held / 2; /* half as much as it holds is free */
    harness_turns(h);
    char path[96];
    snprintf(path, sizeof path, "/v1/rooms/%s/messages", room_name(room).text);
    assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 503);
    expect_text(c->text.data, "\"code\":\"server.overloaded\"");
    assert_int_equal(client_call(c, "POST", path, "ann", "", "{\"content\":\"x\"}"), 201); /* a short answer */
    assert_int_equal(client_call(c, "GET", "/v1/rooms", NULL, other, NULL), 200);

    client_close(stalled);
    harness_settle(h);
    assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 200);
    harness_settle(h);
    assert_int_equal(net_reply_bytes(core->net), 0);
    assert_int_equal(directory_tenant(&core->directory, h->tenant)->answers.bytes, 0);
}

/* They were all admitted while nothing waited yet. */
static void pages_asked_for_at_once_do_not_pass_the_bound(void **state)
{
    struct harness *h = *state;
    int bytes = 8192;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = a_full_room(h, &ann);
    struct core *core = harness_core(h, 0);
    core->replies_bytes_max = 2u << 20;
    assert_int_equal(setsockopt(h->listen_fd[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    struct client *c[8]; /* all are welcomed before the first answer waits */
    for (unsigned i = 0; i < 8; i++) c[i] = socket_open(h, 0, "ann", HELLO_NONE);
    for (unsigned i = 0; i < 8; i++)
        for (unsigned page = 1; page <= 10; page++)
            client_say(c[i], "{\"type\":\"history\",\"id\":%u,\"room_id\":\"%s\",\"limit\":1000}", page,
                       room_name(room).text);
    harness_settle(h);
    assert_in_range(net_reply_bytes(core->net), 512u << 10, (1u << 20) + WEBSOCKET_PAGE_BYTES_MAX + (64u << 10));
}

static void a_tenant_may_hold_as_many_answers_as_are_free(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct tenant *t = directory_tenant(&core->directory, h->tenant);
    assert_int_equal(net_reply_bytes(core->net), 0);
    size_t members = REPLIES_BYTES_MAX - REPLIES_BYTES_MAX / REPLIES_ANYONE_PART; /* the rest is for strangers */
    t->answers.bytes = members - 1;
    assert_true(answers_fit(core, t));
    t->answers.bytes = members;
    assert_false(answers_fit(core, t));
    t->answers.bytes = 0;
}

static void replays_that_waited_go_on_some_at_a_time(void **state)
{
    struct harness *h = *state;
    h->config.limits_connections = REPLAYS_RETRIED_MAX + 10;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t full = a_full_room(h, &ann), room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, room, 1);
    struct core *core = harness_core(h, 0);
    struct client *sockets[REPLAYS_RETRIED_MAX + 1];
    for (unsigned i = 0; i <= REPLAYS_RETRIED_MAX; i++) sockets[i] = socket_open(h, 0, "ann", HELLO_NONE);
    struct client *stalled = client_that_does_not_read(h, full);
    core->replies_bytes_max = net_reply_bytes(core->net);
    harness_turns(h);
    for (unsigned i = 0; i <= REPLAYS_RETRIED_MAX; i++)
        client_say(sockets[i], "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
    for (unsigned i = 0; i <= REPLAYS_RETRIED_MAX; i++) expect_text(client_hear(sockets[i]), "\"type\":\"resumed\"");
    client_close(stalled);
    harness_settle(h);
    harness_advance(h, REPLAYS_RETRY_MS);
    harness_turn(h, 0);
    assert_false(list_empty(&core->replays_waiting));
    assert_true(core->replays_waiting.next->next == &core->replays_waiting); /* one is left */
    harness_advance(h, REPLAYS_RETRY_MS);
    for (unsigned i = 0; i <= REPLAYS_RETRIED_MAX; i++) assert_int_equal(number_in(client_hear(sockets[i]), "seq"), 1);
}

static void so_many_connections_are_told_that_they_are_too_many(void **state)
{
    struct harness *h = *state;
    h->config.limits_connections = 1;
    harness_open(h, 1);
    struct client *held = client_open(h, 0), *late[2 * CONNECTIONS_REFUSED_MAX];
    assert_int_equal(client_call(held, "GET", "/v1/users/me", "ann", "", NULL), 200);
    for (unsigned i = 0; i < 2 * CONNECTIONS_REFUSED_MAX; i++) late[i] = client_open(h, 0);
    for (unsigned i = 0; i < 100; i++) harness_settle(h);
    unsigned num = 0;
    for (unsigned i = 0; i < 2 * CONNECTIONS_REFUSED_MAX; i++) {
        client_read(late[i]);
        num += !late[i]->ended;
    }
    /* half of the places wait for a request */
    assert_in_range(num, CONNECTIONS_REFUSED_MAX / 2 - 8, CONNECTIONS_REFUSED_MAX);
}

/* --- clients that have shown no credential ------------------------------------------------------------ */

/* stranger_that_does_not_read asks for the interface's description that many times at once. */
static struct client *stranger_that_does_not_read(struct harness *h, unsigned times)
{
    int bytes = 8192;
    assert_int_equal(setsockopt(h->listen_fd[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    struct client *c = client_open(h, 0);
    assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    while (times--) client_send(c, SLICE("GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"));
    harness_settle(h);
    return c;
}

static void a_stranger_that_pipelines_has_one_answer_waiting(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    stranger_that_does_not_read(h, 60);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/openapi.yaml", NULL, "", NULL), 200);
    assert_in_range(harness_core(h, 0)->anyone.bytes, 1, c->text.len + HTTP_REPLY_PAUSE_BYTES);
}

static void strangers_that_do_not_read_take_nothing_from_members(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct client *stalled = stranger_that_does_not_read(h, 60), *member = client_open(h, 0), *c = client_open(h, 0);
    core->replies_bytes_max = core->anyone.bytes; /* all of it: eight times their part */
    harness_turns(h);
    assert_int_equal(client_call(member, "GET", "/v1/rooms", "ann", "", NULL), 200);
    expect_no_text(member->head.data, "Connection: close");
    assert_int_equal(client_call(member, "GET", "/openapi.yaml", NULL, "", NULL), 200); /* it has shown who it is */
    assert_int_equal(client_upgrade(client_open(h, 0), "ann", WITH_SUBPROTOCOL), 101);

    assert_int_equal(client_call(c, "GET", "/openapi.yaml", NULL, "", NULL), 503);
    expect_text(c->text.data, "\"code\":\"server.overloaded\"");
    expect_text(c->head.data, "Connection: close");
    c = client_open(h, 0);
    assert_int_equal(client_call(c, "GET", "/health", NULL, "", NULL), 200);
    expect_text(c->head.data, "Connection: close");

    client_close(stalled);
    harness_settle(h);
    assert_int_equal(client_call(client_open(h, 0), "GET", "/openapi.yaml", NULL, "", NULL), 200);
}

/* body_begun sends a head and most of its body. */
static struct client *body_begun(struct harness *h, const char *path, const char *fields)
{
    static const char part[100000];
    struct client *c = client_open(h, 0);
    struct buf head = {0};
    buf_printf(&head, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n%s\r\n", path, fields);
    client_send(c, buf_slice(&head));
    harness_settle(h);
    client_send(c, slice_of(part, sizeof part));
    harness_settle(h);
    buf_free(&head);
    return c;
}

/* small_body asks without a credential, with a body of that many bytes; true: the connection is kept for the next
 * one. */
static bool small_body_is_taken(struct harness *h, unsigned len)
{
    struct client *c = client_open(h, 0);
    struct buf all = {0};
    buf_printf(&all, "POST /v1/rooms HTTP/1.1\r\nHost: x\r\nContent-Length: %u\r\n\r\n", len);
    for (unsigned i = 0; i < len; i++) buf_char(&all, ' ');
    client_send(c, buf_slice(&all));
    buf_free(&all);
    assert_int_equal(client_answer(c), 401);
    harness_settle(h);
    return strstr(c->head.data, "Connection: close") == NULL;
}

static void a_small_body_of_a_stranger_does_not_cost_the_connection(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    assert_true(small_body_is_taken(h, ASSEMBLY_SMALL_BYTES));
    assert_false(small_body_is_taken(h, ASSEMBLY_SMALL_BYTES + 1));
}

static void a_body_is_taken_only_from_who_may_send_it(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    static const char wrong[] = "X-API-Key: ck_0123456789abcdef_0123456789abcdef0123456789abcdef\r\nX-User-Id: ann\r\n";
    assert_int_equal(client_answer(body_begun(h, "/v1/rooms", "")), 401);
    assert_int_equal(client_answer(body_begun(h, "/v1/rooms", wrong)), 401);
    assert_int_equal(client_answer(body_begun(h, "/v1/nothing", "")), 404);
    assert_int_equal(client_answer(body_begun(h, "/health", "")), 405);
    assert_int_equal(client_answer(body_begun(h, "/v1/admin/tenants", "X-Master-Key: guessed\r\n")), 401);
    assert_int_equal(net_stats(core->net)->assembly_bytes, 0);

    char fields[128];
    snprintf(fields, sizeof fields, "X-API-Key: %s\r\nX-User-Id: ann\r\n", h->api_key);
    struct client *c = body_begun(h, "/v1/rooms", fields);
    assert_true(directory_tenant(&core->directory, h->tenant)->answers.assembly >= 100000);
    assert_int_equal(core->anyone.assembly, 0);
    client_close(c);
    harness_settle(h);
    assert_int_equal(directory_tenant(&core->directory, h->tenant)->answers.assembly, 0);
}

static void replays_wait_until_answers_fit_again(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = a_full_room(h, &ann), small = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, small, 3);
    struct core *core = harness_core(h, 0);
    struct client *socket = socket_open(h, 0, "ann", HELLO_NONE), *stalled = client_that_does_not_read(h, room);
    core->replies_bytes_max = net_reply_bytes(core->net);
    harness_turns(h);
    client_say(socket, "{\"type\":\"subscribe\",\"id\":1,\"room_id\":\"%s\",\"after_seq\":0}", room_name(small).text);
    expect_text(client_hear(socket), "\"type\":\"ok\"");
    expect_text(client_hear(socket), "\"type\":\"resumed\"");
    client_hears_nothing(socket);
    client_say(socket, "{\"type\":\"sync\",\"id\":2}");
    expect_text(client_hear(socket), "\"code\":\"server.overloaded\"");

    client_close(stalled);
    harness_settle(h);
    harness_advance(h, REPLAYS_RETRY_MS);
    for (uint64_t seq = 1; seq <= 3; seq++) assert_int_equal(number_in(client_hear(socket), "seq"), seq);
}

static void replays_of_pages_in_memory_wait_like_those_that_are_read(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = a_full_room(h, &ann), small = harness_room(h, ROOM_GROUP, 0, PEOPLE(&ann));
    harness_fill(h, &ann, small, 3);
    struct core *core = harness_core(h, 0);
    struct client *sockets[2];
    for (unsigned i = 0; i < 2; i++) sockets[i] = socket_open(h, 0, "ann", HELLO_NONE);
    struct client *stalled = NULL;
    for (unsigned i = 0; i < 2; i++) {
        client_say(sockets[i], "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":0}", room_name(small).text);
        expect_text(client_hear(sockets[i]), "\"type\":\"resumed\"");
        if (i == 1) break;
        for (uint64_t seq = 1; seq <= 3; seq++) assert_int_equal(number_in(client_hear(sockets[i]), "seq"), seq);
        stalled = client_that_does_not_read(h, room);
        core->replies_bytes_max = net_reply_bytes(core->net);
        harness_turns(h);
    }
    client_hears_nothing(sockets[1]);
    client_close(stalled);
    harness_settle(h);
    harness_advance(h, REPLAYS_RETRY_MS);
    for (uint64_t seq = 1; seq <= 3; seq++) assert_int_equal(number_in(client_hear(sockets[1]), "seq"), seq);
}

static void a_socket_may_close_while_its_replay_waits(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    uint64_t room = a_full_room(h, &ann);
    struct core *core = harness_core(h, 0);
    struct client *socket = socket_open(h, 0, "ann", HELLO_NONE), *stalled = client_that_does_not_read(h, room);
    core->replies_bytes_max = net_reply_bytes(core->net);
    harness_turns(h);
    client_say(socket, "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":0}", room_name(room).text);
    expect_text(client_hear(socket), "\"type\":\"resumed\"");
    client_close(socket);
    harness_settle(h);
    assert_true(list_empty(&core->replays_waiting));
    client_close(stalled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_process_short_of_memory_takes_no_requests_of_tenants),
        TEST(open_sockets_are_told_that_memory_is_short_and_may_still_let_go),
        TEST(pages_asked_for_at_once_do_not_pass_the_bound),
        TEST(one_tenants_unread_answers_leave_room_for_the_others),
        TEST(a_tenant_may_hold_as_many_answers_as_are_free),
        TEST(replays_that_waited_go_on_some_at_a_time),
        TEST(so_many_connections_are_told_that_they_are_too_many),
        TEST(a_stranger_that_pipelines_has_one_answer_waiting),
        TEST(strangers_that_do_not_read_take_nothing_from_members),
        TEST(a_body_is_taken_only_from_who_may_send_it),
        TEST(a_small_body_of_a_stranger_does_not_cost_the_connection),
        TEST(replays_wait_until_answers_fit_again),
        TEST(replays_of_pages_in_memory_wait_like_those_that_are_read),
        TEST(a_socket_may_close_while_its_replay_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
