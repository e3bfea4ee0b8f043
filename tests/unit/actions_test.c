#include "log_lines.h"

#include <string.h>

#include "../../src/base/log.h"
#include "../../src/chat/ids.h"

/* Lines that log.actions asks for, caught before they leave. */

static struct harness *opened(void **state, enum config_log_actions actions)
{
    struct harness *h = *state;
    h->config.log_actions = actions;
    harness_open(h, 1);
    lines_catch();
    log_set_level(LOG_INFO);
    return h;
}

static void each_value_of_the_setting_tells_more(void **state)
{
    static const unsigned expected[] = {
        [CONFIG_ACTIONS_OPERATOR] = 1, [CONFIG_ACTIONS_CHANGES] = 2, [CONFIG_ACTIONS_ALL] = 4};
    struct harness *h = opened(state, CONFIG_ACTIONS_OPERATOR);
    for (unsigned actions = 0; actions < 3; actions++) {
        h->config.log_actions = actions;
        lines_forget();
        struct client *c = client_open(h, 0), *socket = socket_open(h, 0, "ann", HELLO_ALL);
        assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{\"name\":\"x\"}"), 201);
        assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", "{\"type\":\"group\",\"members\":[\"bob\"]}"),
                         201);
        char room[16] = "", path[64];
        memcpy(room, strstr(c->text.data, "\"room_id\":\"") + 11, 15);
        snprintf(path, sizeof path, "/v1/rooms/%s/messages", room);
        assert_int_equal(client_call(c, "POST", path, "ann", "", "{\"content\":\"a secret\"}"), 201);
        client_say(socket, "{\"type\":\"send_message\",\"id\":1,\"room_id\":\"%s\",\"content\":\"a secret\"}", room);
        harness_settle(h);
        assert_int_equal(client_call(c, "GET", "/v1/admin/tenants", NULL, OPERATOR, NULL), 200);
        assert_int_equal(count_in(lines(), "\n"), expected[actions]);
        assert_null(strstr(lines(), "secret"));
    }
    expect_text(lines(), "\"event\":\"tenant_create\",\"by\":\"operator\",\"tenant\":\"t_");
    expect_text(lines(), "\"event\":\"room_create\",\"by\":\"user\",\"user\":\"ann\",");
    expect_text(lines(), "\"users\":\"bob\",");
    expect_text(lines(), "\"event\":\"message_send\",\"by\":\"socket\",\"user\":\"ann\",");
}

static void a_refused_act_carries_its_error(void **state)
{
    struct harness *h = opened(state, CONFIG_ACTIONS_OPERATOR);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/admin/tenants", NULL, OPERATOR, "{}"), 400);
    expect_text(lines(), "\"event\":\"tenant_create\",\"by\":\"operator\",\"route\":\"/admin/tenants\",\"status\":400,"
                         "\"outcome\":\"field.missing\"");
}

static void a_wrong_master_key_is_told_and_limited(void **state)
{
    struct harness *h = opened(state, CONFIG_ACTIONS_OPERATOR);
    struct client *c = client_open(h, 0);
    for (unsigned i = 0; i < 3 * LOG_SITE_PER_SECOND; i++)
        assert_int_equal(client_call(c, "GET", "/v1/admin/tenants", NULL, "X-Master-Key: guess\r\n", NULL), 401);
    unsigned told = count_in(lines(), "\"event\":\"operator_refused\"");
    assert_in_range(told, 1, 2 * LOG_SITE_PER_SECOND); /* a second may begin meanwhile */
    assert_null(strstr(lines(), "guess"));
}

static void a_long_list_of_users_is_cut_and_counted(void **state)
{
    struct harness *h = opened(state, CONFIG_ACTIONS_CHANGES);
    struct client *c = client_open(h, 0);
    struct buf body = {0};
    BUF_LIT(&body, "{\"type\":\"group\",\"members\":[\"ann\"");
    for (unsigned i = 0; i < 100; i++) buf_printf(&body, ",\"u%u\"", i);
    BUF_LIT(&body, "]}");
    buf_char(&body, '\0');
    assert_int_equal(client_call(c, "POST", "/v1/rooms", "ann", "", body.data), 201);
    buf_free(&body);
    expect_text(lines(), "\"users\":\"u0,u1,");
    expect_text(lines(), ",u19\",");
    expect_text(lines(), "\"num_users\":100}");
}

static void a_kick_tells_whom_and_why(void **state)
{
    struct harness *h = opened(state, CONFIG_ACTIONS_OPERATOR);
    struct client *c = client_open(h, 0), *socket = socket_open(h, 0, "ann", HELLO_ALL);
    char tenant[ID_TEXT_LEN + 1] = "", body[128];
    tenant_id_text(tenant, h->tenant);
    snprintf(body, sizeof body, "{\"tenant_id\":\"%s\",\"user_id\":\"ann\",\"reason\":\"go home\"}", tenant);
    assert_int_equal(client_call(c, "POST", "/v1/admin/kick", NULL, OPERATOR, body), 200);
    assert_int_equal(client_hear_close(socket), 4003);
    expect_text(lines(), "\"event\":\"kick\",\"by\":\"operator\",\"tenant\":\"t_");
    expect_text(lines(), "\"users\":\"ann\",\"reason\":\"go home\",\"closed\":1,\"route\":\"/admin/kick\"");
    assert_int_equal(count_in(lines(), "\n"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CAUGHT(each_value_of_the_setting_tells_more),
        CAUGHT(a_refused_act_carries_its_error),
        CAUGHT(a_wrong_master_key_is_told_and_limited),
        CAUGHT(a_long_list_of_users_is_cut_and_counted),
        CAUGHT(a_kick_tells_whom_and_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
