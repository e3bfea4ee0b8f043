#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/chat/ids.h"
#include "../../src/notify/inbox.h"

/* Notifications over days: attempts and their waits, expiry, history, and what a crash leaves. */

#define MINUTE 60000ull
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

/* notified makes a notification for one user over REST and returns its id. */
struct made {
    char id[ID_TEXT_LEN + 1];
};

static struct made notified(struct harness *h, const char *user_id, const char *payload)
{
    struct made made;
    char body[200];
    struct client *c = client_open(h, 0);
    snprintf(body, sizeof body, "{\"topic\":\"t\",\"payload\":%s,\"targets\":{\"user_ids\":[\"%s\"]}}", payload, user_id);
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 202);
    const char *at = strstr(c->text.data, "\"n_");
    assert_non_null(at);
    snprintf(made.id, sizeof made.id, "%.*s", (int)ID_TEXT_LEN, at + 1);
    client_close(c);
    return made;
}

/* listed returns a user's list; it lives until the next call. */
static const char *listed(struct harness *h, const char *user_id)
{
    static char text[8192];
    struct client *c = client_open(h, h->gateway.num_cores - 1);
    assert_int_equal(client_call(c, "GET", "/v1/notifications", user_id, "", NULL), 200);
    snprintf(text, sizeof text, "%s", c->text.data);
    client_close(c);
    return text;
}

static void acknowledge(struct harness *h, const char *user_id, struct made made, unsigned status)
{
    char path[64];
    struct client *c = client_open(h, 0);
    snprintf(path, sizeof path, "/v1/notifications/%s/ack", made.id);
    assert_int_equal(client_call(c, "POST", path, user_id, "", ""), status);
    client_close(c);
}

static uint32_t inboxes(struct harness *h)
{
    uint32_t num = 0;
    for (unsigned i = 0; i < h->gateway.num_cores; i++) num += harness_core(h, i)->notify->inboxes.len;
    return num;
}

/* pass lets time go by in steps in which timers run. */
static void pass(struct harness *h, uint64_t ms, uint64_t step_ms)
{
    for (uint64_t gone = 0; gone < ms; gone += step_ms) {
        harness_advance(h, step_ms);
        harness_settle(h);
    }
}

static void an_answer_waits_for_the_disk(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    listed(h, "backend");
    listed(h, "bob"); /* both exist */
    struct client *c = client_open(h, 0), *bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    char request[512];
    snprintf(request, sizeof request, "POST /v1/notify HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nX-User-Id: backend\r\n"
             "Content-Length: %zu\r\n\r\n%s", h->api_key, strlen(body), body);
    h->hold_syncer = true;
    client_send(c, slice_str(request));
    harness_settle(h);
    client_hears_nothing(bob); /* and it is not shown before */
    assert_int_equal(client_read(c), 0);
    h->hold_syncer = false;
    assert_int_equal(client_answer(c), 202);
    expect_text(client_hear(bob), "\"type\":\"notification\"");
}

static void attempts_follow_each_other_with_growing_waits(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct client *bob = socket_open(h, 1, "bob", "{\"type\":\"hello\"}");
    struct made made = notified(h, "bob", "1");
    uint64_t gone = 0, last = 0, waits[7];
    unsigned num = 0;
    expect_text(client_hear(bob), made.id);
    while (num < 7 && gone < HOUR) {
        pass(h, 500, 500);
        gone += 500;
        client_say(bob, "{\"type\":\"ping\"}"); /* a client that says nothing is closed */
        if (!strstr(client_hear(bob), "notification")) continue;
        waits[num++] = gone - last;
        last = gone;
        client_hear(bob); /* the pong behind it */
    }
    assert_int_equal(num, 7); /* eight attempts in all */
    for (unsigned i = 0; i < 7; i++) assert_in_range(waits[i], (7500ull << i) - 1000, (12500ull << i) + 1500);
    expect_text(listed(h, "bob"), "\"status\":\"pending\",\"attempts\":8");
    for (uint64_t left = 0; left < HOUR; left += 20000) {
        pass(h, 20000, 20000);
        client_say(bob, "{\"type\":\"ping\"}");
        expect_text(client_hear(bob), "pong");
    }
    expect_text(listed(h, "bob"), "\"status\":\"dead\",\"attempts\":8");
    expect_text(listed(h, "bob"), "\"reason\":\"attempts\"");
    assert_int_equal(inboxes(h), 0);
}

static void being_away_is_no_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    pass(h, 2 * DAY, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"pending\",\"attempts\":0");
    assert_int_equal(inboxes(h), 0); /* nothing in memory for who is away */
    struct client *bob = socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
    expect_text(client_hear(bob), made.id);
    acknowledge(h, "bob", made, 200);
    expect_text(listed(h, "bob"), "\"status\":\"delivered\",\"attempts\":1");
    assert_int_equal(inboxes(h), 0);
}

static void what_expires_is_a_dead_letter_and_old_ones_go(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    notified(h, "bob", "1");
    pass(h, 3 * DAY - HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"pending\"");
    pass(h, 2 * HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    expect_text(listed(h, "bob"), "\"reason\":\"expired\"");
    pass(h, 29 * DAY, DAY);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    pass(h, 2 * DAY, HOUR);
    expect_text(listed(h, "bob"), "\"items\":[]");
}

static void delivered_ones_stay_listed_for_a_week(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    acknowledge(h, "bob", notified(h, "bob", "1"), 200);
    pass(h, 7 * DAY - HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"status\":\"delivered\"");
    pass(h, 2 * HOUR, HOUR);
    expect_text(listed(h, "bob"), "\"items\":[]");
}

static void a_restart_goes_on_where_the_attempts_were(void **state)
{
    static const enum harness_end ends[] = {END_CLEAN, END_KILLED, END_POWER_LOST};
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    for (unsigned i = 0; i < 3; i++) {
        struct client *bob = socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
        expect_text(client_hear(bob), made.id); /* again to each new socket … */
        char wanted[64];
        snprintf(wanted, sizeof wanted, "\"status\":\"pending\",\"attempts\":%u", i + 1);
        expect_text(listed(h, "bob"), wanted);
        client_close(bob);
        harness_settle(h);
        harness_restart(h, ends[i]);
        pass(h, HOUR, HOUR); /* … and an attempt, once its wait is over */
    }
}

static void a_new_socket_is_told_without_it_being_an_attempt(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    for (unsigned i = 0; i < 20; i++) {
        struct client *bob = socket_open(h, i % 2, "bob", "{\"type\":\"hello\"}");
        expect_text(client_hear(bob), made.id);
        client_close(bob);
        harness_settle(h);
    }
    expect_text(listed(h, "bob"), "\"status\":\"pending\",\"attempts\":1");
}

static void a_notification_that_the_power_took_was_not_answered(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    h->hold_syncer = true;
    struct op *op = harness_op(h, 0, OP_NOTIFY, &ann, 0, 16);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, SLICE("1"));
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(1, sizeof *op->members);
    op->num_members = 1;
    op->members[0] = (struct op_member){.user = ann.number, .user_id = op->user_id};
    struct answer *made = harness_go(h, op);
    harness_settle(h);
    expect_waiting(made);
    harness_restart(h, END_POWER_LOST);
    expect_error(made, ERR_STORE_UNKNOWN);
    expect_text(listed(h, "ann"), "\"items\":[]");
}

static void a_gateway_without_notifications_asks_for_none(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    socket_open(h, 0, "bob", "{\"type\":\"hello\"}");
    harness_settle(h);
    assert_false(atomic_load(&h->gateway.notifications));
    assert_int_equal(inboxes(h), 0);
    notified(h, "ann", "1");
    assert_true(atomic_load(&h->gateway.notifications));
    harness_restart(h, END_KILLED);
    assert_true(atomic_load(&h->gateway.notifications));
}

static void a_failed_store_answers_and_loses_nothing(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct made made = notified(h, "bob", "1");
    kv_fake_fail(h->kv, true, true);
    struct client *c = client_open(h, 0);
    char path[64];
    snprintf(path, sizeof path, "/v1/notifications/%s/ack", made.id);
    assert_int_equal(client_call(c, "POST", path, "bob", "", ""), 503);
    assert_int_equal(client_call(c, "POST", path, "bob", "", ""), 503);
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 503);
    pass(h, 4 * DAY, HOUR); /* it expires, and cannot be buried */
    kv_fake_fail(h->kv, false, false);
    harness_restart(h, END_KILLED);
    harness_settle(h);
    expect_text(listed(h, "bob"), "\"reason\":\"expired\"");
}

static void a_tenant_has_a_bound_that_ended_ones_do_not_fill(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct made made = notified(h, "bob", "1");
    uint32_t at = 0;
    struct outbox_tenant *t = map_next(&harness_core(h, 0)->notify->tenants, &at);
    assert_true(t && t->counted && t->waiting == 1);
    t->waiting = PENDING_TENANT_MAX; /* as if so many had been made */
    struct client *c = client_open(h, 0);
    static const char body[] = "{\"topic\":\"t\",\"payload\":1,\"targets\":{\"user_ids\":[\"bob\"]}}";
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 409);
    expect_text(c->text.data, "notification.outbox_full");
    harness_advance(h, 2 * PENDING_COUNT_MS);
    assert_int_equal(client_call(c, "POST", "/v1/notify", "backend", "", body), 202); /* counted again: one waits */
    assert_int_equal(t->waiting, 2);
    acknowledge(h, "bob", made, 200);
}

/* --- bounds -------------------------------------------------------------------------------------- */

/* notify_go sends a notification to `num` users with numbers from `first` on, or to who sends it; nothing is turned. */
static struct answer *notify_go(struct harness *h, const struct person *who, struct slice payload, uint64_t first,
                                uint32_t num)
{
    struct op *op = harness_op(h, who->home, OP_NOTIFY, who, 0, payload.len + 16 + num * 12);
    op->in.notify.topic = op_keep(op, SLICE("t"));
    op->in.notify.payload = op_keep(op, payload);
    op->in.notify.priority = PRIORITY_NORMAL;
    op->members = calloc(num, sizeof *op->members);
    op->num_members = num;
    for (uint32_t i = 0; i < num; i++) {
        char id[12];
        snprintf(id, sizeof id, "u%u", i);
        op->members[i].user = first + i;
        op->members[i].user_id = first == who->number ? op->user_id : op_keep(op, slice_str(id));
    }
    return harness_go(h, op);
}

static struct inbox *inbox_of(struct harness *h, const struct person *who)
{
    uint32_t at = 0;
    for (struct inbox *in; (in = map_next(&harness_core(h, who->home)->notify->inboxes, &at));)
        if (in->user == who->number) return in;
    return NULL;
}

static struct slice payload_of(uint32_t len)
{
    static char text[PAYLOAD_BYTES_MAX];
    memset(text, 'x', sizeof text);
    text[0] = text[len - 1] = '"';
    return slice_of(text, len);
}

static void a_notification_has_so_many_users_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct answer *most = settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_TARGETS_MAX));
    expect_ok(most);
    assert_int_equal(number_in(most->out.data, "users"), NOTIFY_TARGETS_MAX);
    expect_error(settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_TARGETS_MAX + 1)), ERR_TOO_MANY_ITEMS);
}

static void the_rows_of_a_notification_fit_one_batch(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct slice payload = payload_of(PAYLOAD_BYTES_MAX);
    uint32_t fits = NOTIFY_BYTES_MAX / (PAYLOAD_BYTES_MAX + 200);
    expect_ok(settled(h, notify_go(h, &ann, payload, 1000, fits)));
    expect_error(settled(h, notify_go(h, &ann, payload, 1000, NOTIFY_BYTES_MAX / PAYLOAD_BYTES_MAX)),
                 ERR_NOTIFICATION_TOO_LARGE);
}

static void a_user_s_outbox_is_full_at_its_bound(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    for (uint32_t i = 0; i < PENDING_USER_MAX; i++) expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1)));
    assert_null(strstr(listed(h, "ann"), "\"status\":\"dead\""));
    expect_ok(settled(h, notify_go(h, &ann, SLICE("2"), ann.number, 1)));
    expect_text(listed(h, "ann"), "\"payload\":2,\"priority\":\"normal\",\"status\":\"dead\"");
    struct client *socket = socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    harness_settle(h);
    assert_int_equal(inbox_of(h, &ann)->num, PENDING_USER_MAX);
    client_close(socket);
}

static void a_user_has_so_many_topics_and_no_more(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct client *c = client_open(h, 0);
    char body[64];
    for (uint32_t i = 0; i < SUBSCRIPTIONS_USER_MAX; i++) {
        snprintf(body, sizeof body, "{\"topic\":\"t%u\"}", i);
        assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", body), 201);
    }
    assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", "{\"topic\":\"one more\"}"), 409);
    expect_text(c->text.data, "\"code\":\"subscription.topics_full\"");
    assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", body), 200); /* has it already */
    assert_int_equal(client_call(c, "DELETE", "/v1/users/me/subscriptions/t0", "ann", "", NULL), 204);
    assert_int_equal(client_call(c, "POST", "/v1/users/me/subscriptions", "ann", "", "{\"topic\":\"one more\"}"), 201);
}

/* pushed makes notifications for which there is no room at first, and returns how many come by the first push. */
static unsigned pushed(struct harness *h, struct slice payload, unsigned num)
{
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX);
    for (unsigned i = 0; i < num; i++) expect_ok(settled(h, notify_go(h, &ann, payload, ann.number, 1)));
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX);
    h->hold_readers = true;
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    assert_int_equal(atomic_load(&core->notify->sent[SENT_SENT]), 0);
    reader_step(h->gateway.readers, 0);
    harness_settle(h);
    return (unsigned)atomic_load(&core->notify->sent[SENT_SENT]);
}

static void a_push_has_so_many_notifications_and_no_more(void **state)
{
    assert_int_equal(pushed(*state, SLICE("1"), PUSH_BATCH + 10), PUSH_BATCH);
}

static void a_push_has_so_many_bytes_and_no_more(void **state)
{
    unsigned most = PUSH_BYTES_MAX / PAYLOAD_BYTES_MAX; /* each is a little more than its payload */
    assert_int_equal(pushed(*state, payload_of(PAYLOAD_BYTES_MAX), 2 * most), most);
}

/* Frames in flight are shared with the rooms; what does not fit is not lost, and no attempt. */
static void a_push_without_room_is_tried_again_soon(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct client *socket = socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    struct core *core = harness_core(h, 0);
    atomic_fetch_add(&core->frames_bytes, FRAMES_BYTES_MAX / 2 + 1);
    struct made made = notified(h, "ann", "1");
    client_hears_nothing(socket);
    assert_int_equal(inbox_of(h, &ann)->list[0].due_ns, core->now_ns + PUSH_AGAIN_MS * 1000000ull);
    expect_text(listed(h, "ann"), "\"attempts\":0");
    atomic_fetch_sub(&core->frames_bytes, 1);
    client_hears_nothing(socket);
    harness_advance(h, PUSH_AGAIN_MS + 200); /* the wheel's ticks */
    harness_settle(h);
    expect_text(client_hear(socket), made.id);
    atomic_fetch_sub(&core->frames_bytes, FRAMES_BYTES_MAX / 2);
    harness_settle(h);
    assert_int_equal(atomic_load(&core->frames_bytes), 0); /* it has counted while it waited, and no longer */
}

static void notifications_that_readers_work_on_are_few_at_a_time(void **state)
{
    struct harness *h = *state;
    struct answer *made[CREATIONS_READ_MAX + 5];
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct notify *n = harness_core(h, 0)->notify;
    h->hold_readers = true;
    for (unsigned i = 0; i < CREATIONS_READ_MAX + 5; i++) made[i] = notify_go(h, &ann, SLICE("1"), ann.number, 1);
    harness_settle(h);
    assert_int_equal(n->creations_read, CREATIONS_READ_MAX);
    assert_int_equal(n->parked.len, 5);
    h->hold_readers = false;
    harness_settle(h);
    for (unsigned i = 0; i < CREATIONS_READ_MAX + 5; i++) expect_ok(made[i]);
    for (unsigned i = 1; i < CREATIONS_READ_MAX + 5; i++) assert_true(made[i]->order > made[i - 1]->order);
    assert_int_equal(n->creations_read + n->parked.len, 0);
}

static void a_pipeline_that_has_filled_meanwhile_takes_no_rows(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    h->hold_readers = true;
    struct answer *made = notify_go(h, &ann, SLICE("1"), ann.number, 1);
    harness_settle(h);
    core->pending_bytes += COMMIT_PENDING_BYTES_MAX + 1;
    h->hold_readers = false;
    expect_error(settled(h, made), ERR_STORE_OVERLOADED);
    core->pending_bytes -= COMMIT_PENDING_BYTES_MAX + 1;
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), ann.number, 1)));
}

static void what_waits_for_one_user_s_inbox_is_bounded(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    struct core *core = harness_core(h, 0);
    socket_open(h, 0, "ann", "{\"type\":\"hello\"}");
    notified(h, "ann", "1");
    harness_settle(h);
    h->hold_readers = true;
    struct answer *last = NULL;
    for (unsigned i = 0; i <= USER_WAITING_MAX + 1; i++) { /* late acknowledgements: each needs a look, one at a time */
        if (last) expect_waiting(last);
        struct op *op = harness_op(h, 0, OP_NOTIFICATION_ACK, &ann, 0, 0);
        op->in.notification.number = 77;
        last = harness_go(h, op);
    }
    harness_turns(h);
    expect_error(last, ERR_SERVER_OVERLOADED); /* one is being looked at, USER_WAITING_MAX wait */
    struct inbox *in = inbox_of(h, &ann);
    assert_int_equal(in->looks.len, USER_WAITING_MAX);
    for (unsigned i = 0; i <= USER_WAITING_MAX; i++)
        notice_post(core, 0, notice_new(core, NOTICE_SOCKET_OPENED, h->tenant, ann.number, slice_str(ann.id), 5ull << 32 | 5,
                                        0, (struct slice){0}));
    assert_int_equal(in->openings.len, USER_WAITING_MAX);
    h->hold_readers = false;
    harness_settle(h);
}

/* --- sweeps -------------------------------------------------------------------------------------- */

static void a_sweep_comes_each_minute(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    notified(h, "bob", "1");
    pass(h, DAY, DAY); /* a sweep */
    assert_int_equal(notify_wake_ns(core), core->now_ns + NOTIFY_SWEEP_MS * 1000000ull);
    assert_int_equal(atomic_load(&core->notify->waiting), 1);
    notified(h, "cat", "1");
    pass(h, NOTIFY_SWEEP_MS - 1, NOTIFY_SWEEP_MS - 1);
    assert_int_equal(atomic_load(&core->notify->waiting), 1);
    pass(h, 1, 1);
    assert_int_equal(atomic_load(&core->notify->waiting), 2);
}

static void the_history_is_swept_seldom(void **state)
{
    struct harness *h = *state;
    h->config.notify_keep = HOUR;
    harness_open(h, 1);
    unsigned minutes = 30, last = 0, shown = minutes, sweeps = 0;
    for (unsigned i = 0; i < minutes; i++) {
        acknowledge(h, "bob", notified(h, "bob", "1"), 200);
        pass(h, NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    }
    for (unsigned minute = minutes; shown && minute < 200; minute++) { /* they grow old one a minute */
        unsigned left = count_in(listed(h, "bob"), "\"notification_id\"");
        if (left < shown) {
            if (sweeps++) assert_in_range(minute - last, NOTIFY_SWEEP_HISTORY_MS / MINUTE, NOTIFY_SWEEP_HISTORY_MS / MINUTE + 1);
            last = minute;
            shown = left;
        }
        pass(h, NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    }
    assert_int_equal(shown, 0);
    assert_in_range(sweeps, 3, 5);
}

static void dead_letters_are_kept_for_their_time(void **state)
{
    struct harness *h = *state;
    h->config.notify_expires = HOUR;
    harness_open(h, 1);
    notified(h, "bob", "1");
    pass(h, HOUR, NOTIFY_SWEEP_MS);
    pass(h, NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    pass(h, DEAD_KEEP_MS - 2 * NOTIFY_SWEEP_MS, DEAD_KEEP_MS - 2 * NOTIFY_SWEEP_MS);
    expect_text(listed(h, "bob"), "\"status\":\"dead\"");
    pass(h, NOTIFY_SWEEP_HISTORY_MS + 3 * NOTIFY_SWEEP_MS, NOTIFY_SWEEP_MS);
    expect_text(listed(h, "bob"), "\"items\":[]");
}

/* A page of the sweep: the next one is read when all that it brought up is done. */
static void a_sweep_looks_at_so_many_rows_at_a_time(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct person ann = harness_person(h, "ann");
    expect_ok(settled(h, notify_go(h, &ann, SLICE("1"), 1000, NOTIFY_SWEEP_ROWS + 1)));
    pass(h, DAY, DAY);
    h->hold_readers = true;
    harness_advance(h, 3 * DAY);
    harness_settle(h);
    assert_int_equal(inboxes(h), 0);
    reader_step(h->gateway.readers, 0);
    harness_settle(h);
    uint32_t at = 0, brought_up = 0;
    for (struct inbox *in; (in = map_next(&harness_core(h, 0)->notify->inboxes, &at));) brought_up += in->ops.len;
    assert_int_equal(brought_up, NOTIFY_SWEEP_ROWS);
    h->hold_readers = false;
    harness_settle(h);
    assert_int_equal(atomic_load(&harness_core(h, 0)->notify->sent[SENT_DEAD]), NOTIFY_SWEEP_ROWS + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_waits_for_the_disk),
        TEST(attempts_follow_each_other_with_growing_waits),
        TEST(being_away_is_no_attempt),
        TEST(what_expires_is_a_dead_letter_and_old_ones_go),
        TEST(delivered_ones_stay_listed_for_a_week),
        TEST(a_restart_goes_on_where_the_attempts_were),
        TEST(a_new_socket_is_told_without_it_being_an_attempt),
        TEST(a_notification_that_the_power_took_was_not_answered),
        TEST(a_gateway_without_notifications_asks_for_none),
        TEST(a_failed_store_answers_and_loses_nothing),
        TEST(a_tenant_has_a_bound_that_ended_ones_do_not_fill),
        TEST(a_notification_has_so_many_users_and_no_more),
        TEST(the_rows_of_a_notification_fit_one_batch),
        TEST(a_user_s_outbox_is_full_at_its_bound),
        TEST(a_user_has_so_many_topics_and_no_more),
        TEST(a_push_has_so_many_notifications_and_no_more),
        TEST(a_push_has_so_many_bytes_and_no_more),
        TEST(a_push_without_room_is_tried_again_soon),
        TEST(notifications_that_readers_work_on_are_few_at_a_time),
        TEST(a_pipeline_that_has_filled_meanwhile_takes_no_rows),
        TEST(what_waits_for_one_user_s_inbox_is_bounded),
        TEST(a_sweep_comes_each_minute),
        TEST(the_history_is_swept_seldom),
        TEST(dead_letters_are_kept_for_their_time),
        TEST(a_sweep_looks_at_so_many_rows_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
