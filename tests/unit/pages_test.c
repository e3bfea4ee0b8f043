#include "harness.h"

#include <stdio.h>

#include "../../src/api/pages.h"

/* What is read at a time, and what becomes of requests that have to wait for it. */

struct scene {
    struct core *core;
    struct person ann;
    uint64_t room;
    struct client *socket;
};

/* scene_open has memory for one page of each kind, and readers that stand still. */
static struct scene scene_open(struct harness *h)
{
    harness_open(h, 1);
    struct scene s = {.core = harness_core(h, 0), .ann = harness_person(h, "ann")};
    s.room = harness_room(h, ROOM_GROUP, 0, PEOPLE(&s.ann));
    harness_fill(h, &s.ann, s.room, 3);
    s.socket = socket_open(h, 0, "ann", HELLO_NONE);
    s.core->pages_bytes_max = 1;
    h->hold_readers = true;
    return s;
}

/* pages_asked returns when the gateway has taken the requests. */
static void pages_asked(struct scene *s, struct client *socket, unsigned first, unsigned last)
{
    uint64_t taken = net_stats(s->core->net)->ws_messages_in + last - first + 1;
    for (unsigned page = first; page <= last; page++)
        client_say(socket, "{\"type\":\"history\",\"id\":%u,\"room_id\":\"%s\"}", page, room_name(s->room).text);
    while (net_stats(s->core->net)->ws_messages_in < taken) harness_turns(socket->harness);
    harness_settle(socket->harness);
}

static void readers_go_on(struct harness *h)
{
    h->hold_readers = false;
    harness_settle(h);
}

static void nothing_is_reserved(const struct core *core)
{
    assert_int_equal(core->pages_waiting.len, 0);
    assert_int_equal(core->pages_bytes[PAGES_ASKED], 0);
    assert_int_equal(core->pages_bytes[PAGES_REPLAYED], 0);
}

static void what_pages_may_take_follows_from_the_memory(void **state)
{
    struct harness *h = *state;
    h->config.limits_memory = 64ull << 30;
    harness_open(h, 1);
    const struct core *core = harness_core(h, 0);
    assert_int_equal(core->pages_bytes_max, PAGES_BYTES_MAX / PAGES_KINDS);
    assert_int_equal((uint64_t)core->pages_waiting_max * PAGES_WAITING_BYTES * PAGES_WAITING_PART,
                     core->pages_bytes_max);
}

static void pages_wait_for_memory_and_go_on_in_their_order(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    pages_asked(&s, s.socket, 1, 3);
    assert_int_equal(s.core->pages_bytes[PAGES_ASKED],
                     pages_bound(s.core, PAGE_LIMIT_DEFAULT, WEBSOCKET_PAGE_BYTES_MAX));
    assert_int_equal(s.core->pages_waiting.len, 2);
    assert_int_equal(read_waiting(s.core->reader), 1);
    client_say(s.socket, "{\"type\":\"ping\",\"id\":9}"); /* what costs nothing does not wait behind them */
    expect_text(client_hear(s.socket), "pong");
    readers_go_on(h);
    for (uint64_t page = 1; page <= 3; page++) assert_int_equal(number_in(client_hear(s.socket), "re"), page);
    expect_text(s.socket->text.data, "\"items\":[{");
    nothing_is_reserved(s.core);
    assert_int_equal(directory_tenant(&s.core->directory, h->tenant)->pages_waiting, 0);
}

static void a_short_page_reserves_what_its_items_may_be(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    size_t item = pages_item_bytes(s.core);
    assert_int_equal(pages_bound(s.core, 1, HISTORY_BYTES_MAX), item);
    assert_int_equal(pages_bound(s.core, PAGE_LIMIT_MAX, HISTORY_BYTES_MAX), HISTORY_BYTES_MAX + item);
}

static void a_tenant_with_many_waiting_is_refused_and_leaves_places_for_others(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    struct tenant *t = directory_tenant(&s.core->directory, h->tenant);
    s.core->pages_waiting_max = 4;
    pages_asked(&s, s.socket, 1, 4);
    assert_int_equal(t->pages_waiting, 2); /* half of them */
    const char *text = client_hear(s.socket);
    expect_text(text, "\"code\":\"server.overloaded\"");
    assert_int_equal(number_in(text, "re"), 4);

    t->pages_waiting = 0; /* as if the two that wait were another tenant's */
    pages_asked(&s, s.socket, 5, 5);
    client_hears_nothing(s.socket);
    t->pages_waiting = 3;
    readers_go_on(h);
    for (unsigned page = 0; page < 4; page++) expect_text(client_hear(s.socket), "\"items\":[{");
    nothing_is_reserved(s.core);
    assert_int_equal(t->pages_waiting, 0);
}

static void what_waited_is_refused_when_memory_has_become_short(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    pages_asked(&s, s.socket, 1, 2);
    atomic_store(&h->gateway.memory, MEMORY_FULL);
    harness_turns(h); /* the guard is found at the end of a turn */
    harness_turns(h);
    const char *text = client_hear(s.socket);
    expect_text(text, "\"code\":\"server.overloaded\"");
    assert_int_equal(number_in(text, "re"), 2);
    readers_go_on(h);
    assert_int_equal(number_in(client_hear(s.socket), "re"), 1); /* it was begun before */
    nothing_is_reserved(s.core);
}

static void a_client_that_goes_while_its_page_waits_has_nothing_read_for_it(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    struct client *other = socket_open(h, 0, "ann", HELLO_NONE);
    pages_asked(&s, s.socket, 1, 1);
    pages_asked(&s, other, 2, 2);
    client_close(other);
    harness_settle(h);
    assert_int_equal(s.core->pages_waiting.len, 0);
    assert_int_equal(read_waiting(s.core->reader), 1);
    readers_go_on(h);
    assert_int_equal(number_in(client_hear(s.socket), "re"), 1);
    nothing_is_reserved(s.core);
}

static void every_long_answer_gives_back_what_it_had(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    struct client *c = client_open(h, 0);
    readers_go_on(h);
    char path[96];
    snprintf(path, sizeof path, "/v1/rooms/%s/messages", room_name(s.room).text);
    assert_int_equal(client_call(c, "GET", path, "ann", "", NULL), 200);
    assert_int_equal(client_call(c, "GET", path, "bob", "", NULL), 403); /* not his room */
    assert_int_equal(client_call(c, "GET", "/v1/rooms", "ann", "", NULL), 200);
    assert_int_equal(client_call(c, "POST", "/v1/sync", "ann", "", "{}"), 200);
    assert_int_equal(client_call(c, "GET", "/v1/notifications", "ann", "", NULL), 200);
    client_say(s.socket, "{\"type\":\"sync\",\"id\":1}");
    expect_text(client_hear(s.socket), "\"rooms\":[{");
    nothing_is_reserved(s.core);
}

static void replays_wait_for_memory_of_their_own(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    struct client *sockets[3];
    uint64_t rooms[3]; /* one each, for a page is read once for all who want it */
    h->hold_readers = false;
    for (unsigned i = 0; i < 3; i++) {
        rooms[i] = harness_room(h, ROOM_GROUP, 0, PEOPLE(&s.ann));
        harness_fill(h, &s.ann, rooms[i], 3);
    }
    h->hold_readers = true;
    pages_asked(&s, s.socket, 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        sockets[i] = socket_open(h, 0, "ann", HELLO_NONE);
        client_say(sockets[i], "{\"type\":\"subscribe\",\"room_id\":\"%s\",\"after_seq\":0}", room_name(rooms[i]).text);
        expect_text(client_hear(sockets[i]), "\"type\":\"resumed\"");
    }
    assert_int_equal(read_waiting(s.core->reader), 2); /* the page that was asked for, and one replay */
    assert_false(list_empty(&s.core->replays_waiting));
    client_close(sockets[1]);
    readers_go_on(h); /* without any time's passing: each page given back lets the next go on */
    for (uint64_t seq = 1; seq <= 3; seq++) assert_int_equal(number_in(client_hear(sockets[0]), "seq"), seq);
    for (uint64_t seq = 1; seq <= 3; seq++) assert_int_equal(number_in(client_hear(sockets[2]), "seq"), seq);
    assert_int_equal(number_in(client_hear(s.socket), "re"), 1);
    nothing_is_reserved(s.core);
}

static void a_gateway_may_end_while_pages_wait(void **state)
{
    struct harness *h = *state;
    struct scene s = scene_open(h);
    pages_asked(&s, s.socket, 1, 3);
    client_say(s.socket, "{\"type\":\"sync\",\"id\":4}");
    while (s.core->pages_waiting.len < 3) harness_turns(h);
    pages_end(s.core);
    assert_int_equal(s.core->pages_waiting.len, 0);
    for (unsigned page = 2; page <= 4; page++) expect_text(client_hear(s.socket), "\"code\":\"server.overloaded\"");
    readers_go_on(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_pages_may_take_follows_from_the_memory),
        TEST(pages_wait_for_memory_and_go_on_in_their_order),
        TEST(a_short_page_reserves_what_its_items_may_be),
        TEST(a_tenant_with_many_waiting_is_refused_and_leaves_places_for_others),
        TEST(what_waited_is_refused_when_memory_has_become_short),
        TEST(a_client_that_goes_while_its_page_waits_has_nothing_read_for_it),
        TEST(every_long_answer_gives_back_what_it_had),
        TEST(replays_wait_for_memory_of_their_own),
        TEST(a_gateway_may_end_while_pages_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
