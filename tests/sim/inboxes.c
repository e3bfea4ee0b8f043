#include "inboxes.h"

#include <inttypes.h>

#include "../../src/core/core.h"
#include "../../src/notify/inbox.h"
#include "../../src/notify/outbox.h"
#include "counts.h"
#include "notices.h"
#include "world.h"

/* nothing_under_way: neither an entry nor an op that works on notifications; what is only read has its own flags. */
static bool nothing_under_way(const struct gateway *g)
{
    for (unsigned i = 0; i < g->num_cores; i++)
        if (commit_pending(g->cores[i]->commit)) return false;
    return true;
}

static const struct waiting *listed(const struct inbox *in, uint64_t number)
{
    for (uint32_t i = 0; i < in->num; i++)
        if (in->list[i].number == number) return &in->list[i];
    return NULL;
}

static void check_inbox(const struct inbox *in)
{
    if (!in->loaded || in->stale || in->loading || in->pushing || in->looking || in->ending) return;
    for (unsigned i = 0; i < notices_len(); i++) {
        const struct watched_notice *n = notice_at(i);
        if (n->tenant != in->tenant || n->user != in->user) continue;
        const struct waiting *w = listed(in, n->number);
        CHECK((n->state == NOTICE_PENDING) == (w != NULL), "notification %" PRIu64 " of %s is %s, and its inbox %s",
              n->number, n->user_id, notice_state_name(n->state), w ? "has it" : "does not have it");
        CHECK(!w || w->attempts >= n->waits.attempts, "an inbox has forgotten attempts of notification %" PRIu64,
              n->number);
    }
    for (uint32_t i = 1; i < in->num; i++)
        CHECK(waiting_before(&in->list[i - 1], in->list[i].priority, in->list[i].number), "an inbox is out of order");
    count_happened(COUNT_INBOXES_HELD);
}

/* check_past: nobody who waits is left behind where an inbox would be loaded from. */
static void check_past(const struct gateway *g, const struct watched_notice *n)
{
    if (n->state != NOTICE_PENDING) return;
    const struct core *home = g->cores[gateway_user_home(g, n->tenant, slice_str(n->user_id))];
    const struct past *past = past_find(&home->notify->past, n->tenant, n->user);
    CHECK(!past || past->from <= n->number,
          "notification %" PRIu64 " of %s waits, and its home looks from %" PRIu64 " on", n->number, n->user_id,
          past->from);
}

static void check_counts(const struct outbox_tenant *t)
{
    if (t->state != OUTBOX_COUNTED || t->under_way) return;
    uint64_t waiting = 0;
    for (unsigned i = 0; i < notices_len(); i++) {
        const struct watched_notice *n = notice_at(i);
        if (n->tenant != t->tenant || n->state != NOTICE_PENDING) continue;
        uint64_t counted = outbox_waiting(t, n->user);
        CHECK(counted == notices_pending(n->user), "%u notifications wait for %s, and %" PRIu64 " are counted",
              notices_pending(n->user), n->user_id, counted);
        waiting++;
    }
    CHECK(t->waiting == waiting, "%" PRIu64 " notifications of the tenant wait, and %" PRIu64 " are counted", waiting,
          t->waiting);
}

void inboxes_check(const struct gateway *g)
{
    if (!nothing_under_way(g)) return;
    for (unsigned i = 0; i < g->num_cores; i++) {
        const struct notify *n = g->cores[i]->notify;
        uint32_t at = 0;
        for (const struct inbox *in; (in = map_next(&n->inboxes, &at));) check_inbox(in);
        at = 0;
        for (const struct outbox_tenant *t; (t = map_next(&n->tenants, &at));) check_counts(t);
    }
    for (unsigned i = 0; i < notices_len(); i++) check_past(g, notice_at(i));
}
