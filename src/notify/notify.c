#include "notify.h"

#include <stdlib.h>

#include "../base/assert.h"
#include "inbox.h"
#include "outbox.h"
#include "provider.h"

struct notify *notify_new(struct core *core)
{
    struct notify *n = calloc(1, sizeof *n);
    ASSERT(n != NULL);
    n->bounds = (struct notify_bounds){.pending_user = PENDING_USER_MAX,
                                       .pending_tenant = PENDING_TENANT_MAX,
                                       .creations = CREATIONS_TENANT_MAX,
                                       .outbox_users = OUTBOX_USERS_MAX,
                                       .count_rows = OUTBOX_COUNT_ROWS,
                                       .sweep_rows = NOTIFY_SWEEP_ROWS,
                                       .push_batch = PUSH_BATCH,
                                       .dead_keep_ms = DEAD_KEEP_MS};
    timer_wheel_init(&n->due, 0);
    if (core->id == 0) n->sweep = sweep_new();
    return n;
}

void notify_free(struct core *core)
{
    if (!core->notify) return;
    inboxes_free(core);
    creations_free(core);
    outboxes_free(core);
    past_free(&core->notify->past);
    sweep_free(core->notify->sweep);
    free(core->notify);
}

enum status notify_opened(struct gateway *g)
{
    struct kv *kv = g->store->kv;
    struct kv_iter *i = kv_iter_open(kv, KV_NOTIFICATIONS, (struct slice){0}, (struct slice){0});
    atomic_store(&g->notifications, kv_iter_first(kv, i));
    return kv_iter_close(kv, i);
}

void notify_timers(struct core *core)
{
    if (!atomic_load_explicit(&core->gateway->notifications, memory_order_relaxed)) return;
    inboxes_run(core);
    if (core->notify->sweep) sweep_run(core);
}

uint64_t notify_wake_ns(const struct core *core)
{
    if (!atomic_load_explicit(&core->gateway->notifications, memory_order_relaxed)) return UINT64_MAX;
    uint64_t due = inboxes_wake_ns(core), sweep = core->notify->sweep ? sweep_wake_ns(core) : UINT64_MAX;
    return due < sweep ? due : sweep;
}

/* --- counting ---------------------------------------------------------------------------------------------------- */

void notify_count(struct core *core, enum sent_status status, uint64_t n)
{
    _Atomic uint64_t *count = &core->notify->sent[status];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n, memory_order_relaxed);
}

void notify_metrics(struct buf *out, const struct gateway *g)
{
    static const char *const names[SENT_STATUSES] = {"sent", "delivered", "dead"};
    metrics_head(out, METRIC_NOTIFICATIONS_SENT);
    for (unsigned status = 0; status < SENT_STATUSES; status++) {
        struct buf labels = {0};
        uint64_t sum = 0;
        for (unsigned i = 0; i < g->num_cores; i++)
            sum += atomic_load_explicit(&g->cores[i]->notify->sent[status], memory_order_relaxed);
        metrics_label(&labels, "type", slice_str(provider_websocket.type));
        metrics_label(&labels, "provider", slice_str(provider_websocket.name));
        metrics_label(&labels, "status", slice_str(names[status]));
        buf_char(&labels, '\0');
        metrics_value(out, METRIC_NOTIFICATIONS_SENT, labels.data, sum);
        buf_free(&labels);
    }
    metrics_head(out, METRIC_NOTIFICATIONS_WAITING);
    metrics_value(out, METRIC_NOTIFICATIONS_WAITING, "",
                  atomic_load_explicit(&g->cores[0]->notify->waiting, memory_order_relaxed));
}

/* --- names ------------------------------------------------------------------------------------------------------- */

static const char *const priorities[] = {
    [PRIORITY_LOW] = "low", [PRIORITY_NORMAL] = "normal", [PRIORITY_HIGH] = "high", [PRIORITY_URGENT] = "urgent"};

const char *priority_name(uint8_t priority)
{
    ASSERT(priority >= PRIORITY_LOW && priority <= PRIORITY_URGENT);
    return priorities[priority];
}

bool priority_parse(struct slice name, uint8_t *priority)
{
    for (int p = PRIORITY_LOW; p <= PRIORITY_URGENT; p++)
        if (slice_is(name, priorities[p])) {
            *priority = (uint8_t)p;
            return true;
        }
    return false;
}

const char *dead_reason_name(uint8_t reason)
{
    static const char *const names[] = {
        [DEAD_NOT] = "none", [DEAD_ATTEMPTS] = "attempts", [DEAD_EXPIRED] = "expired", [DEAD_FULL] = "inbox_full"};
    ASSERT(reason <= DEAD_FULL);
    return names[reason];
}
