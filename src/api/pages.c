#include "pages.h"

#include "../base/assert.h"
#include "admission.h"

size_t pages_item_bytes(const struct core *core) { return core_message_bytes_max(core->gateway->config); }

size_t pages_bound(const struct core *core, uint64_t limit, size_t bytes_max)
{
    size_t item = pages_item_bytes(core);
    return limit <= bytes_max / item ? (size_t)limit * item : bytes_max + item;
}

bool pages_reserve(struct core *core, enum pages_kind kind, size_t bytes)
{
    size_t *used = &core->pages_bytes[kind];
    if (*used && *used + bytes > core->pages_bytes_max) return false;
    *used += bytes;
    return true;
}

void pages_release(struct core *core, enum pages_kind kind, size_t bytes)
{
    ASSERT(core->pages_bytes[kind] >= bytes);
    core->pages_bytes[kind] -= bytes;
}

/* may_wait: who has many requests waiting leaves places for others, as with answers. */
static bool may_wait(const struct core *core, const struct tenant *t)
{
    return t && t->pages_waiting < core->pages_waiting_max - core->pages_waiting.len;
}

static void refuse(struct core *core, struct op *op, const char *why)
{
    op_fail(op, ERR_SERVER_OVERLOADED, why, NULL);
    op->then(core, op);
}

void pages_go(struct core *core, struct op *op, size_t bytes, void (*go)(struct core *core, struct op *op))
{
    ASSERT(bytes > 0 && op->origin == core->id && !op->pages);
    struct tenant *t = directory_tenant(&core->directory, op->tenant);
    if (LIKELY(core->pages_waiting.len == 0 && pages_reserve(core, PAGES_ASKED, bytes))) {
        op->pages = core;
        op->pages_bytes = bytes;
        go(core, op);
    } else if (may_wait(core, t)) {
        op->pages_bytes = bytes;
        op->pages_go = go;
        t->pages_waiting++;
        queue_push(&core->pages_waiting, &op->mail.node);
    } else {
        refuse(core, op, "Too many pages are being asked for");
    }
}

/* why_not: what has become of the core, the tenant and the client meanwhile; NULL: the page is wanted. */
static const char *why_not(const struct core *core, const struct op *op, const struct tenant *t)
{
    if (core->guards & GUARD_MEMORY) return "The server is short of memory";
    if (!t || !answers_fit(core, t)) return "Too many answers wait for clients that do not read them";
    return net_conn(core->net, op->conn) ? NULL : "The client has gone";
}

void pages_poll(struct core *core)
{
    while (core->pages_waiting.len) {
        struct op *op = CONTAINER_OF(core->pages_waiting.head, struct op, mail.node);
        struct tenant *t = directory_tenant(&core->directory, op->tenant);
        const char *why = why_not(core, op, t);
        if (!why && !pages_reserve(core, PAGES_ASKED, op->pages_bytes)) return;
        queue_pop(&core->pages_waiting);
        if (t) t->pages_waiting--;
        if (why) {
            refuse(core, op, why);
            continue;
        }
        op->pages = core;
        op->pages_go(core, op);
    }
}

void pages_end(struct core *core)
{
    while (core->pages_waiting.len)
        refuse(core, CONTAINER_OF(queue_pop(&core->pages_waiting), struct op, mail.node), "The server is stopping");
}
