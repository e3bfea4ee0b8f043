#include "notify_harness.h"

#include <stdio.h>
#include <string.h>

/* What waits of a tenant: its count and bound, and whose turn it is to make some. */

static uint64_t waiting_for(struct harness *h, const char *user_id)
{
    struct person user = harness_person(h, user_id);
    return outbox_waiting(tenant_of(h), user.number);
}

static void a_tenant_has_a_bound_that_ended_ones_do_not_fill(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    struct outbox_tenant *t = tenant_of(h);
    assert_int_equal(t->waiting, 1);
    t->waiting = PENDING_TENANT_MAX; /* as if so many had been made */
    struct client *c = client_open(h, 0);
    assert_int_equal(notify_bob(c, ""), 409);
    expect_text(c->text.data, "notification.outbox_full");
    acknowledge(h, "bob", made, 200);
    harness_settle(h);
    assert_int_equal(notify_bob(c, ""), 202); /* one has left */
    assert_int_equal(notify_bob(c, ""), 409);
}

/* What waits is counted once; then all that makes and ends notifications keeps the count, as another count would. */
static void the_count_follows_whatever_happens(void **state)
{
    struct harness *h = *state;
    harness_open(h, 2);
    struct made first = notified(h, "bob", "1");
    notified(h, "bob", "2");
    notified(h, "ann", "3");
    assert_int_equal(tenant_of(h)->waiting, 3);
    assert_int_equal(waiting_for(h, "bob"), 2);
    acknowledge(h, "bob", first, 200);
    acknowledge(h, "bob", first, 200); /* a repeat ends nothing */
    harness_settle(h);
    assert_int_equal(waiting_for(h, "bob"), 1);
    harness_restart(h, END_KILLED);
    assert_int_equal(tenant_of(h)->state, OUTBOX_UNKNOWN);
    notified(h, "ann", "4"); /* counts */
    assert_int_equal(waiting_for(h, "bob"), 1);
    assert_int_equal(waiting_for(h, "ann"), 2);
    assert_int_equal(tenant_of(h)->waiting, 3);
    pass(h, 4 * DAY, HOUR); /* all expire */
    assert_int_equal(tenant_of(h)->waiting, 0);
    assert_int_equal(tenant_of(h)->users.len, 0);
    struct client *c = client_open(h, 0);
    char path[128];
    assert_int_equal(client_call(c, "GET", "/v1/admin/dead-letters", NULL, OPERATOR, NULL),
                     200);
    const char *id = strstr(c->text.data, "\"d_");
    assert_non_null(id);
    snprintf(path, sizeof path, "/v1/admin/dead-letters/%.*s/retry", (int)strcspn(id + 1, "\""), id + 1);
    assert_int_equal(client_call(c, "POST", path, NULL, OPERATOR, ""), 200);
    harness_settle(h);
    assert_int_equal(tenant_of(h)->waiting, 1);
}

/* A user's home may hear of its write long after a count has seen what was written: what it tells then is known. */
static void a_change_that_the_count_has_seen_is_not_counted_again(void **state)
{
    struct harness *h = *state;
    uint64_t first, second;
    harness_open(h, 2);
    struct made made = notified(h, "bob", "1");
    assert_true(notification_id_parse(slice_str(made.id), &first));
    assert_true(notification_id_parse(slice_str(notified(h, "bob", "2").id), &second));
    acknowledge(h, "bob", made, 200);
    harness_restart(h, END_KILLED);
    notified(h, "ann", "3"); /* counts */
    assert_int_equal(tenant_of(h)->waiting, 2);
    struct person bob = harness_person(h, "bob");
    outbox_tell(harness_core(h, bob.home), h->tenant, bob.number, 0, &first, 1);
    harness_settle(h);
    assert_int_equal(waiting_for(h, "bob"), 1);
    assert_int_equal(tenant_of(h)->waiting, 2);
    outbox_tell(harness_core(h, bob.home), h->tenant, bob.number, second, NULL, 0);
    harness_settle(h);
    assert_int_equal(waiting_for(h, "bob"), 1);
    assert_int_equal(tenant_of(h)->waiting, 2);
}

static void who_is_refused_makes_nobody_read(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    notified(h, "bob", "1");
    tenant_of(h)->waiting = PENDING_TENANT_MAX;
    struct client *c = client_open(h, 0);
    watch_store(h);
    assert_int_equal(notify_bob(c, ""), 409);
    assert_int_equal(watched.walks, 0);
    tenant_of(h)->waiting = 1;
    assert_int_equal(notify_bob(c, ""), 202);
    assert_int_equal(watched.walks, 0); /* nor does who is not, for the count */
    unwatch_store(h);
}

static void turn_taken(struct core *core, struct turn *turn, enum status status)
{
    assert_int_equal(status, STATUS_OK);
}

static void tenants_beyond_the_users_that_are_counted_are_forgotten(void **state)
{
    struct harness *h = *state;
    struct turn turn = {.begin = turn_taken};
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    notified(h, "bob", "1");
    assert_int_equal(tenant_of(h)->state, OUTBOX_COUNTED);
    core->notify->num_outbox_users += OUTBOX_USERS_MAX; /* as if others had so many */
    struct outbox_tenant *other = outbox_tenant(core, 4711);
    assert_int_equal(outbox_turn(core, other, &turn), STATUS_OK);
    harness_settle(h);
    assert_int_equal(other->state, OUTBOX_COUNTED);
    assert_int_equal(tenant_of(h)->state, OUTBOX_UNKNOWN);
    core->notify->num_outbox_users -= OUTBOX_USERS_MAX;
    outbox_worked(core, other);
    outbox_end(other);
    notified(h, "bob", "2"); /* counted anew */
    assert_int_equal(tenant_of(h)->waiting, 2);
}

static void tenants_beyond_the_notifications_that_are_counted_are_forgotten(void **state)
{
    struct harness *h = *state;
    struct turn turn = {.begin = turn_taken};
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    notified(h, "bob", "1");
    assert_int_equal(core->notify->num_outbox_numbers, 1);
    core->notify->num_outbox_numbers += OUTBOX_NUMBERS_MAX; /* as if others had so many */
    struct outbox_tenant *other = outbox_tenant(core, 4711);
    assert_int_equal(outbox_turn(core, other, &turn), STATUS_OK);
    harness_settle(h);
    assert_int_equal(tenant_of(h)->state, OUTBOX_UNKNOWN);
    core->notify->num_outbox_numbers -= OUTBOX_NUMBERS_MAX;
    outbox_worked(core, other);
    outbox_end(other);
}

static unsigned turns_begun[3];

static struct turn turns[3][CREATIONS_AT_WORK_MAX]; /* of three tenants */

static void turn_begun(struct core *core, struct turn *turn, enum status status)
{
    assert_int_equal(status, STATUS_OK);
    turns_begun[(turn - &turns[0][0]) / CREATIONS_AT_WORK_MAX]++;
}

static void busy_tenants_share_the_turns_of_a_core(void **state)
{
    struct harness *h = *state;
    harness_open(h, 1);
    struct core *core = harness_core(h, 0);
    struct outbox_tenant *tenants[3];
    memset(turns_begun, 0, sizeof turns_begun);
    for (unsigned t = 0; t < 3; t++) {
        tenants[t] = outbox_tenant(core, 1000 + t);
        tenants[t]->state = OUTBOX_COUNTED;
        for (unsigned i = 0; i < CREATIONS_AT_WORK_MAX; i++) {
            turns[t][i] = (struct turn){.begin = turn_begun};
            assert_int_equal(outbox_turn(core, tenants[t], &turns[t][i]), STATUS_OK);
        }
    }
    assert_int_equal(core->notify->creations_read, CREATIONS_READ_MAX);
    assert_int_equal(turns_begun[2], CREATIONS_READ_MAX - 2 * CREATIONS_AT_WORK_MAX);
    outbox_worked(core, tenants[0]); /* its place goes to who has waited */
    assert_int_equal(turns_begun[2], 1);
    for (unsigned i = 1; i < CREATIONS_AT_WORK_MAX; i++) outbox_worked(core, tenants[0]);
    assert_int_equal(turns_begun[2], CREATIONS_AT_WORK_MAX);
    for (unsigned t = 0; t < 3; t++) {
        for (unsigned i = 0; i < CREATIONS_AT_WORK_MAX; i++) {
            if (t) outbox_worked(core, tenants[t]);
            outbox_end(tenants[t]);
        }
    }
    assert_int_equal(core->notify->creations_read, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_tenant_has_a_bound_that_ended_ones_do_not_fill),
        TEST(the_count_follows_whatever_happens),
        TEST(a_change_that_the_count_has_seen_is_not_counted_again),
        TEST(who_is_refused_makes_nobody_read),
        TEST(tenants_beyond_the_users_that_are_counted_are_forgotten),
        TEST(tenants_beyond_the_notifications_that_are_counted_are_forgotten),
        TEST(busy_tenants_share_the_turns_of_a_core),
    };
    return cmocka_run_group_tests_name("outbox", tests, NULL, NULL);
}
