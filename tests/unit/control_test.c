#include "harness.h"

/* What the operator asks of the main thread: it is asked on a core, done elsewhere, and answered on that core. */

static unsigned woken;

static void wake(void *context)
{
    (void)context;
    woken++;
}

static void an_op_goes_to_the_main_thread_and_comes_back_to_its_core(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    woken = 0;
    h->gateway.control.wake = wake;
    struct client *c = client_open(h, 1);
    client_send(c, SLICE("POST /v1/admin/drain HTTP/1.1\r\nHost: x\r\nX-Master-Key: " MASTER_KEY
                         "\r\nContent-Length: 0\r\n\r\n"));
    for (unsigned i = 0; i < 20 && !woken; i++) harness_settle(h);
    assert_int_equal(woken, 1);
    struct op *op = control_take(&h->gateway);
    assert_non_null(op);
    assert_int_equal(op->kind, OP_DRAIN);
    assert_int_equal(op->origin, 1);
    assert_null(control_take(&h->gateway));
    assert_false(control_pollable(harness_core(h, 1)));
    op->http_status = 202;
    BUF_LIT(&op->out, "{\"draining\":true}");
    control_answer(&h->gateway, op);
    assert_true(control_pollable(harness_core(h, 1)));
    assert_false(control_pollable(harness_core(h, 0)));
    assert_int_equal(client_answer(c), 202);
    assert_string_equal(c->text.data, "{\"draining\":true}");
}

static void without_a_process_around_it_everything_is_refused(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    assert_int_equal(client_call(c, "POST", "/v1/admin/reload", NULL, OPERATOR, NULL), 503);
}

static void freed(struct core *core, struct op *op)
{
    (void)core;
    op_free(op);
}

/* What nobody has taken or fetched is freed with the gateway: the address sanitizer watches. */
static void what_is_left_at_the_end_is_freed(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    h->gateway.control.wake = wake;
    struct core *core = harness_core(h, 0);
    for (int i = 0; i < 3; i++) {
        struct op *op = op_new(core, OP_DRAIN, 0);
        op->then = freed;
        control_ask(core, op);
    }
    control_answer(&h->gateway, control_take(&h->gateway));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_op_goes_to_the_main_thread_and_comes_back_to_its_core),
        TEST(without_a_process_around_it_everything_is_refused),
        TEST(what_is_left_at_the_end_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
